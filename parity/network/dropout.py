"""`keras.layers.Dropout`, and torch's dropout between stacked recurrent layers: inert at inference, kept in the description."""

from __future__ import annotations

from dataclasses import dataclass

from parity.recurrent import Array


@dataclass(frozen=True, eq=False)
class Dropout:
    """Hands its input on unchanged; in training it would zero a share of it.

    Args:
        name: the user's name for it.
        features: of each step.
        rate: the share.
    """

    name: str
    features: int
    rate: float

    @property
    def input_size(self) -> int:
        """Features it takes."""
        return self.features

    @property
    def output_size(self) -> int:
        """Features it gives."""
        return self.features

    @property
    def arrays(self) -> dict[str, Array]:
        """It has no weights."""
        return {}

    @property
    def facts(self) -> dict[str, object]:
        """What people want to know of it beside its sizes."""
        return {"rate": self.rate}
