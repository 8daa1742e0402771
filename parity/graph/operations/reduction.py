"""Axes summed up, averaged, or searched for their extremes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from parity.graph.operations.operation import Plain, Shape, normalized
from parity.reference import Rounding

Reducing = Literal["sum", "mean", "max", "min", "prod", "any", "all", "argmax", "logsumexp", "norm"]

_FUNCTIONS: dict[str, Any] = {
    "sum": np.sum,
    "mean": np.mean,
    "max": np.max,
    "min": np.min,
    "prod": np.prod,
    "any": np.any,
    "all": np.all,
}


@dataclass(frozen=True, eq=False)
class Reduction(Plain):
    """One number out of all places of some axes.

    Args:
        name: unique among the operations of a graph.
        function: "norm" is the square root of the sum of squares; "argmax" takes one axis and gives the first place of the largest.
        axes: of the input.
        keepdims: whether they stay, of length one.
    """

    function: Reducing
    axes: tuple[int, ...]
    keepdims: bool = False

    def shapes(self, *shapes: Shape | None) -> tuple[Shape, ...]:
        """Of what it gives."""
        (shape,) = shapes
        assert shape is not None
        gone = {normalized(axis, len(shape)) for axis in self.axes}
        if self.keepdims:
            return (tuple(1 if axis in gone else length for axis, length in enumerate(shape)),)
        return (tuple(length for axis, length in enumerate(shape) if axis not in gone),)

    def compute(self, *values: Any, rounding: Rounding) -> tuple[Any, ...]:
        """It in float64."""
        (x,) = values
        options: dict[str, Any] = {"axis": self.axes, "keepdims": self.keepdims}
        if self.function == "argmax":
            return (np.argmax(x, axis=self.axes[0], keepdims=self.keepdims),)
        if self.function == "logsumexp":
            top = x.max(axis=self.axes, keepdims=True)
            total = rounding.tanh(np.exp(x - top).sum(axis=self.axes, keepdims=True), f"{self.name}.total")
            found = rounding.smooth(np.log(total) + top, self.name)
            return (found if self.keepdims else found.squeeze(self.axes),)
        if self.function == "norm":
            return (rounding.product(np.sqrt(np.sum(x**2, **options)), self.name),)
        found = _FUNCTIONS[self.function](x, **options)
        if self.function in ("sum", "mean") and found.dtype.kind == "f":
            terms = int(np.prod([x.shape[axis] for axis in self.axes], dtype=int))
            share = terms**2 if self.function == "mean" else 1
            return (rounding.total(found, lambda: np.sum(x**2, **options) / share, terms, self.name),)
        return (rounding.product(found, self.name) if self.function == "prod" else found,)


__all__ = ["Reducing", "Reduction"]
