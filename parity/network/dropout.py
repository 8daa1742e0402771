"""`keras.layers.Dropout`, and torch's dropout between stacked recurrent layers: inert at inference, kept in the description."""

from __future__ import annotations

from dataclasses import dataclass

from parity.network.unweighted import Unweighted


@dataclass(frozen=True, eq=False)
class Dropout(Unweighted):
    """Hands its input on unchanged; in training it would zero a share of it.

    Args:
        name: the user's name for it.
        features: of each step.
        rate: the share.
    """

    rate: float

    @property
    def facts(self) -> dict[str, object]:
        """What people want to know of it beside its sizes."""
        return {"rate": self.rate}
