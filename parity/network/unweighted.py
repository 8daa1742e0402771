"""Layers without weights that give as many features as they take."""

from __future__ import annotations

from dataclasses import dataclass

from parity.deferred import Arrays


@dataclass(frozen=True, eq=False)
class Unweighted:
    """What such layers have in common.

    Args:
        name: the user's name for it.
        features: of each step.
    """

    name: str
    features: int

    @property
    def input_size(self) -> int:
        """Features it takes."""
        return self.features

    @property
    def output_size(self) -> int:
        """Features it gives."""
        return self.features

    @property
    def arrays(self) -> Arrays:
        """It has no weights."""
        return Arrays({})
