"""A value that is the same at every call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from parity.deferred import Array, Arrays, Deferring
from parity.errors import ShapeError
from parity.graph.operations.operation import Shape, float64
from parity.reference import Rounding


@dataclass(frozen=True, eq=False)
class Constant(Deferring):
    """An array of the model's own: a number in a formula, or a parameter that stands alone.

    Args:
        name: unique among the operations of a graph.
        value: of any shape; a number has the shape ().
        trained: whether it is one of the model's parameters, kept with the weights; others are written into the code or as a buffer.
    """

    name: str
    value: Array
    trained: bool = False

    @property
    def arrays(self) -> Arrays:
        """The value."""
        return Arrays({"value": self.held("value")})

    @property
    def facts(self) -> dict[str, object]:
        """Its shape, or its value where it is a number."""
        held = self.held("value")
        return {"value": held.item()} if held.shape == () and isinstance(held, np.ndarray) else {"shape": held.shape}

    def shapes(self, *shapes: Shape | None) -> tuple[Shape, ...]:
        """Of the value; it takes nothing."""
        if shapes:
            raise ShapeError("another number of inputs", self.name, "none", str(shapes))
        return (tuple(self.held("value").shape),)

    def compute(self, *values: Any, rounding: Rounding) -> tuple[Any, ...]:
        """The value."""
        return (float64(self.value),)


__all__ = ["Constant"]
