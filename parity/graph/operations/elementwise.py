"""Element by element: arithmetic, comparisons, logic, and the functions of one argument."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any, Literal

import numpy as np

from parity.errors import ShapeError
from parity.functions import FUNCTIONS, Function
from parity.graph.operations.operation import Plain, Shape, all_of, axes_of, broadcast
from parity.graph.operations.reduction import summed
from parity.reference import Rounding

Noise = Literal["none", "product", "smooth"]

_ERF = np.frompyfunc(math.erf, 1, 1)


@dataclass(frozen=True)
class ElementwiseRow:
    """One function of arrays, element by element, with NumPy's broadcasting.

    Args:
        compute: it, in NumPy.
        arity: how many arguments it takes; None for two or more.
        noise: the kind of rounding its kernels have: none (a choice, a comparison), of a product, or of a smooth function.
    """

    compute: Callable[..., Any]
    arity: int | None = 1
    noise: Noise = "product"


def _many(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *values: reduce(function, values)


ELEMENTWISE: dict[str, ElementwiseRow] = {
    "add": ElementwiseRow(_many(np.add), None),
    "multiply": ElementwiseRow(_many(np.multiply), None),
    "average": ElementwiseRow(lambda *values: reduce(np.add, values) / len(values), None),
    "maximum": ElementwiseRow(_many(np.maximum), None, "none"),
    "minimum": ElementwiseRow(_many(np.minimum), None, "none"),
    "subtract": ElementwiseRow(np.subtract, 2),
    "divide": ElementwiseRow(np.divide, 2),
    "power": ElementwiseRow(np.power, 2, "smooth"),
    "equal": ElementwiseRow(np.equal, 2, "none"),
    "not_equal": ElementwiseRow(np.not_equal, 2, "none"),
    "greater": ElementwiseRow(np.greater, 2, "none"),
    "greater_equal": ElementwiseRow(np.greater_equal, 2, "none"),
    "less": ElementwiseRow(np.less, 2, "none"),
    "less_equal": ElementwiseRow(np.less_equal, 2, "none"),
    "logical_and": ElementwiseRow(_many(np.logical_and), None, "none"),
    "logical_or": ElementwiseRow(_many(np.logical_or), None, "none"),
    "logical_not": ElementwiseRow(np.logical_not, 1, "none"),
    "where": ElementwiseRow(np.where, 3, "none"),
    "negative": ElementwiseRow(np.negative, 1, "none"),
    "abs": ElementwiseRow(np.abs, 1, "none"),
    "sign": ElementwiseRow(np.sign, 1, "none"),
    "floor": ElementwiseRow(np.floor, 1, "none"),
    "square": ElementwiseRow(np.square, 1),
    "sqrt": ElementwiseRow(np.sqrt, 1),
    "rsqrt": ElementwiseRow(lambda x: 1.0 / np.sqrt(x), 1),
    "reciprocal": ElementwiseRow(lambda x: 1.0 / x, 1),
    "exp": ElementwiseRow(np.exp, 1, "smooth"),
    "log": ElementwiseRow(np.log, 1, "smooth"),
    "log1p": ElementwiseRow(np.log1p, 1, "smooth"),
    "sin": ElementwiseRow(np.sin, 1, "smooth"),
    "cos": ElementwiseRow(np.cos, 1, "smooth"),
    "erf": ElementwiseRow(lambda x: np.asarray(_ERF(x), np.float64), 1, "smooth"),
}
"""The functions by name. `where` takes (condition, where true, where false)."""

TRUTHS = frozenset(
    ("equal", "not_equal", "greater", "greater_equal", "less", "less_equal", "logical_and", "logical_or", "logical_not")
)
"""Those of them that give truth values."""


@dataclass(frozen=True, eq=False)
class Elementwise(Plain):
    """A function of `ELEMENTWISE` on all its inputs.

    Args:
        name: unique among the operations of a graph.
        function: a key of `ELEMENTWISE`.
    """

    function: str

    def shapes(self, *shapes: Shape | None) -> tuple[Shape, ...]:
        """Of what it gives: all of them broadcast together."""
        return (broadcast(all_of(shapes, ELEMENTWISE[self.function].arity, self.name), self.name),)

    def compute(self, *values: Any, rounding: Rounding) -> tuple[Any, ...]:
        """The function in float64.

        Example:
            >>> from parity.reference import Exact
            >>> Elementwise("sum", "add").compute(np.ones(2), np.ones(2), np.ones(2), rounding=Exact())[0].tolist()
            [3.0, 3.0]
        """
        row = ELEMENTWISE[self.function]
        found = row.compute(*values)
        if row.noise == "none" or found.dtype.kind != "f":
            return (found,)
        return (getattr(rounding, row.noise)(found, self.name),)


@dataclass(frozen=True, eq=False)
class Activation(Plain):
    """A function of `parity.functions.FUNCTIONS` with its parameters, element by element.

    Args:
        name: unique among the operations of a graph.
        function: with its parameters.
    """

    function: Function

    @property
    def facts(self) -> dict[str, object]:
        """The function in words."""
        return {"function": str(self.function)}

    def shapes(self, *shapes: Shape | None) -> tuple[Shape, ...]:
        """Of what it gives: that of what it takes."""
        return tuple(all_of(shapes, 1, self.name))

    def compute(self, *values: Any, rounding: Rounding) -> tuple[Any, ...]:
        """The function in float64."""
        (x,) = values
        row = FUNCTIONS[self.function.name]
        if row.noise == "smooth":
            return (rounding.smooth(self.function(x), self.name, row.coarse),)
        return (getattr(rounding, row.noise)(self.function(x), self.name),)


@dataclass(frozen=True, eq=False)
class Softmax(Plain):
    """exp(x) / sum(exp(x)) along an axis, or its logarithm.

    Args:
        name: unique among the operations of a graph.
        axis: along which the result sums to one.
        log: whether the logarithm of it is given.
    """

    axis: int = -1
    log: bool = False

    def shapes(self, *shapes: Shape | None) -> tuple[Shape, ...]:
        """Of what it gives: that of what it takes."""
        (shape,) = all_of(shapes, 1, self.name)
        (axis,) = axes_of((self.axis,), shape, self.name)
        if not shape[axis]:
            raise ShapeError("an axis without any place", self.name, "one at least", str(shape))
        return (shape,)

    def compute(self, *values: Any, rounding: Rounding) -> tuple[Any, ...]:
        """It in float64, from differences to the largest value as every framework does."""
        (x,) = values
        shifted = rounding.product(x - x.max(axis=self.axis, keepdims=True), f"{self.name}.shifted")
        powers = rounding.tanh(np.exp(shifted), f"{self.name}.exp")
        total = summed(powers, (self.axis,), rounding, f"{self.name}.total")
        if self.log:
            return (rounding.product(shifted - rounding.smooth(np.log(total), f"{self.name}.log"), self.name),)
        return (rounding.product(powers / total, self.name),)


@dataclass(frozen=True, eq=False)
class Cast(Plain):
    """The same numbers as another type.

    Args:
        name: unique among the operations of a graph.
        dtype: "float32" (which the reference computes in float64), "int64" (cut towards zero) or "bool" (whether it is not zero).
    """

    dtype: Literal["float32", "int64", "bool"]

    def shapes(self, *shapes: Shape | None) -> tuple[Shape, ...]:
        """Of what it gives: that of what it takes."""
        return tuple(all_of(shapes, 1, self.name))

    def compute(self, *values: Any, rounding: Rounding) -> tuple[Any, ...]:
        """The numbers as that type."""
        (x,) = values
        return (x.astype({"float32": np.float64, "int64": np.int64, "bool": np.bool_}[self.dtype]),)


__all__ = ["ELEMENTWISE", "TRUTHS", "Activation", "Cast", "Elementwise", "ElementwiseRow", "Softmax"]
