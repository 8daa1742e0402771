"""The embedding family: `keras.layers.Embedding`, `torch.nn.Embedding`, ONNX Gather."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from parity.deferred import Array, Arrays, Deferring
from parity.reference import Float64, Mask, Rounding


@dataclass(frozen=True, eq=False)
class Embedding(Deferring):
    """A row of a table for every integer.

    Args:
        name: the user's name for it.
        table: (vocabulary, features).
        mask_zero: whether the integer 0 marks a step to leave out, as in Keras.
    """

    name: str
    table: Array
    mask_zero: bool = False

    @property
    def input_size(self) -> int:
        """Rows of the table: inputs are integers below it."""
        return int(self.held("table").shape[0])

    @property
    def output_size(self) -> int:
        """Features it gives."""
        return int(self.held("table").shape[1])

    @property
    def arrays(self) -> Arrays:
        """Its weights by name."""
        return Arrays({"table": self.held("table")})

    @property
    def facts(self) -> dict[str, object]:
        """What people want to know of it beside its sizes."""
        return {"vocabulary": self.input_size, **({"mask_zero": True} if self.mask_zero else {})}

    def mask(self, x: Array) -> Mask | None:
        """Which steps of x, (batch, time), are valid; None for all."""
        return x != 0 if self.mask_zero else None

    def compute(self, x: Array, rounding: Rounding) -> Float64:
        """The rows for x, (batch, time) integers, as (batch, time, features)."""
        return np.asarray(self.table[x], np.float64)
