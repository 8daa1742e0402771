"""Axes summed up, averaged, or searched for their extremes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from parity.errors import ShapeError
from parity.graph.operations.operation import Plain, Shape, all_of, axes_of
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


_UNIT = 2.0**-24
_FROM_SOME = ("max", "min", "argmax", "logsumexp", "mean")


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
        (shape,) = all_of(shapes, 1, self.name)
        gone = axes_of(self.axes, shape, self.name)
        if self.function == "argmax" and len(gone) != 1:
            raise ShapeError("argmax over several axes", self.name, "one axis", str(self.axes))
        if self.function in _FROM_SOME and not all(shape[axis] for axis in gone):
            raise ShapeError("an axis without any place", self.name, "one at least", str(shape))
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
            powers = rounding.tanh(np.exp(x - top), f"{self.name}.exp")
            total = summed(powers, self.axes, rounding, f"{self.name}.total")
            found = rounding.smooth(np.log(total) + top, self.name)
            return (found if self.keepdims else found.squeeze(self.axes),)
        if self.function == "norm":
            found = euclidean(x, self.axes, rounding, self.name)
            return (found if self.keepdims else found.squeeze(self.axes),)
        found = _FUNCTIONS[self.function](x, **options)
        if self.function in ("sum", "mean") and found.dtype.kind == "f":
            terms = math.prod(x.shape[axis] for axis in self.axes) if self.function == "mean" else 1
            total = summed(x, self.axes, rounding, self.name) / terms
            return (total if self.keepdims else total.squeeze(self.axes),)
        if self.function == "prod" and found.dtype.kind == "f":
            return (rounding.total(found, lambda: found**2, math.prod(x.shape[axis] for axis in self.axes), self.name),)
        return (found,)


def summed(x: Any, axes: tuple[int, ...], rounding: Rounding, site: str) -> Any:
    """The sum along some axes, which stay.

    Example:
        >>> from parity.reference import Exact
        >>> summed(np.array([[3.0, 4.0]]), (1,), Exact(), "sum").tolist()
        [[7.0]]
    """
    found, terms = x.sum(axis=axes, keepdims=True), math.prod(x.shape[axis] for axis in axes)

    def squares() -> Any:
        with np.errstate(over="ignore", invalid="ignore"):
            off = (_in_a_row(x, axes) - found) / _UNIT
            return (x**2).sum(axis=axes, keepdims=True) + off**2 / max(terms, 1)

    return rounding.total(found, squares, terms, site)


def _in_a_row(x: Any, axes: tuple[int, ...]) -> Any:
    """The sum along some axes, one term after the other in float32: many terms alike are rounded alike, which no random sign shows."""
    places = axes_of(axes, x.shape, "")
    terms = math.prod(x.shape[axis] for axis in places)
    rows = np.moveaxis(x, places, range(len(places))).reshape(terms, math.prod(x.shape) // max(terms, 1))
    shape = [1 if axis in places else length for axis, length in enumerate(x.shape)]
    found = np.add.accumulate(rows.astype(np.float32), axis=0)[-1] if terms else np.zeros(shape)
    return found.astype(np.float64).reshape(shape)


def euclidean(x: Any, axes: tuple[int, ...], rounding: Rounding, site: str) -> Any:
    """The square root of the sum of squares along some axes, which stay.

    Example:
        >>> from parity.reference import Exact
        >>> euclidean(np.array([[3.0, 4.0]]), (1,), Exact(), "norm").tolist()
        [[5.0]]
    """
    return rounding.product(np.sqrt(np.abs(summed(x**2, axes, rounding, f"{site}.total"))), site)


__all__ = ["Reducing", "Reduction", "euclidean", "summed"]
