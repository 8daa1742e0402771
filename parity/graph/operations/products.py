"""Sums of products of two values: matrix products, and any other that an einsum says."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from parity.errors import ShapeError
from parity.graph.operations.operation import Plain, Shape, all_of, broadcast
from parity.reference import Rounding


@dataclass(frozen=True, eq=False)
class MatMul(Plain):
    """The matrix product of two values, as `numpy.matmul`."""

    def shapes(self, *shapes: Shape | None) -> tuple[Shape, ...]:
        """Of what it gives."""
        left, right = all_of(shapes, 2, self.name)
        if not left or not right:
            raise ShapeError("a number is no matrix", self.name, "at least one axis", f"{left} and {right}")
        rows, columns = left if len(left) > 1 else (1, *left), right if len(right) > 1 else (*right, 1)
        if rows[-1] != columns[-2]:
            raise ShapeError("the matrices do not fit", self.name, f"{rows[-1]} rows", str(right))
        ends = (*rows[-2:-1][: len(left) - 1], *columns[-1:][: len(right) - 1])
        return ((*broadcast([rows[:-2], columns[:-2]], self.name), *ends),)

    def compute(self, *values: Any, rounding: Rounding) -> tuple[Any, ...]:
        """The product in float64."""
        left, right = values
        found, terms = left @ right, left.shape[-1]
        if found.dtype.kind != "f":
            return (found,)
        return (rounding.total(found, lambda: left**2 @ right**2, terms, self.name),)


@dataclass(frozen=True, eq=False)
class Einsum(Plain):
    """Products of one or two values, summed, as `numpy.einsum` says.

    Args:
        name: unique among the operations of a graph.
        equation: explicit ("btd,bsd->bts"), without an ellipsis.
    """

    equation: str

    def shapes(self, *shapes: Shape | None) -> tuple[Shape, ...]:
        """Of what it gives."""
        inputs, _, output = self.equation.replace(" ", "").partition("->")
        terms = inputs.split(",")
        given = all_of(shapes, len(terms), self.name)
        lengths: dict[str, int] = {}
        for letters, shape in zip(terms, given, strict=True):
            if len(letters) != len(shape):
                raise ShapeError("another number of axes", self.name, self.equation, str(given))
            for letter, length in zip(letters, shape, strict=True):
                if lengths.setdefault(letter, length) != length:
                    raise ShapeError("axes of one letter differ", self.name, self.equation, str(given))
        if len(set(output)) != len(output) or not set(output) <= set(lengths):
            raise ShapeError("letters of the result that no input has, or twice", self.name, self.equation, str(given))
        return (tuple(lengths[letter] for letter in output),)

    def compute(self, *values: Any, rounding: Rounding) -> tuple[Any, ...]:
        """The sums in float64."""
        found = np.einsum(self.equation, *values, optimize=True)
        if found.dtype.kind != "f":
            return (found,)
        inputs, output = self.equation.replace(" ", "").split("->")
        lengths = {
            letter: length
            for letters, value in zip(inputs.split(","), values, strict=True)
            for letter, length in zip(letters, value.shape, strict=True)
        }
        terms = math.prod(length for letter, length in lengths.items() if letter not in output)
        squares = lambda: np.einsum(self.equation, *(value**2 for value in values), optimize=True)  # noqa: E731  asked for once, if at all
        return (rounding.total(found, squares, terms, self.name),)


__all__ = ["Einsum", "MatMul"]
