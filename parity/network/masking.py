"""`keras.layers.Masking`: steps all of whose features have one value are left out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from parity.network.unweighted import Unweighted
from parity.reference import Float64, Mask


@dataclass(frozen=True, eq=False)
class Masking(Unweighted):
    """A step is valid unless all its features equal `mask_value`; the features of the others become zero.

    Args:
        name: the user's name for it.
        features: of each step.
        mask_value: what marks a step to leave out.
    """

    mask_value: float = 0.0

    @property
    def facts(self) -> dict[str, object]:
        """What people want to know of it beside its sizes."""
        return {"mask_value": self.mask_value}

    def mask(self, x: Float64) -> Mask:
        """Which steps of x, (batch, time, features), are valid: (batch, time)."""
        valid: Mask = (x != np.float32(self.mask_value)).any(axis=-1)
        return valid

    def compute(self, x: Float64) -> Float64:
        """x, (batch, time, features), with zeros at the steps that are left out."""
        return np.where(self.mask(x)[..., None], x, 0.0)
