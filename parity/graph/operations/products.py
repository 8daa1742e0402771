"""Sums of products of two values: matrix products, and any other that an einsum says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from parity.errors import ShapeError
from parity.graph.operations.operation import Plain, Shape, broadcast
from parity.reference import Rounding


@dataclass(frozen=True, eq=False)
class MatMul(Plain):
    """The matrix product of two values, as `numpy.matmul`."""

    def shapes(self, *shapes: Shape | None) -> tuple[Shape, ...]:
        """Of what it gives."""
        left, right = shapes
        assert left is not None
        assert right is not None
        rows, columns = left if len(left) > 1 else (1, *left), right if len(right) > 1 else (*right, 1)
        if rows[-1] != columns[-2]:
            raise ShapeError("the matrices do not fit", self.name, f"{rows[-1]} rows", str(right))
        ends = (*rows[-2:-1][: len(left) - 1], *columns[-1:][: len(right) - 1])
        return ((*broadcast([rows[:-2], columns[:-2]]), *ends),)

    def compute(self, *values: Any, rounding: Rounding) -> tuple[Any, ...]:
        """The product in float64."""
        left, right = values
        terms = left.shape[-1]
        return (rounding.total(left @ right, lambda: left**2 @ right**2, terms, self.name),)


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
        inputs, output = self.equation.split("->")
        lengths: dict[str, int] = {}
        for letters, shape in zip(inputs.split(","), shapes, strict=True):
            for letter, length in zip(letters, shape or (), strict=True):
                if lengths.setdefault(letter, length) != length:
                    raise ShapeError("axes of one letter differ", self.name, self.equation, str(shapes))
        return (tuple(lengths[letter] for letter in output),)

    def compute(self, *values: Any, rounding: Rounding) -> tuple[Any, ...]:
        """The sums in float64."""
        found = np.einsum(self.equation, *values, optimize=True)
        inputs, output = self.equation.split("->")
        lengths = {
            letter: length
            for letters, value in zip(inputs.split(","), values, strict=True)
            for letter, length in zip(letters, value.shape, strict=True)
        }
        terms = int(np.prod([length for letter, length in lengths.items() if letter not in output], dtype=int))
        squares = lambda: np.einsum(self.equation, *(value**2 for value in values), optimize=True)  # noqa: E731  asked for once, if at all
        return (rounding.total(found, squares, terms, self.name),)


__all__ = ["Einsum", "MatMul"]
