"""Operations that take some places of an axis, or all in another order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from parity.errors import ShapeError
from parity.graph.operations.operation import Plain, Shape, all_of, axes_of
from parity.reference import Rounding


@dataclass(frozen=True, eq=False)
class Slice(Plain):
    """Part of some axes, as Python slices them.

    Args:
        name: unique among the operations of a graph.
        parts: (axis, start, stop, step) for each axis that is cut; start and stop may be None or negative, the step negative, too.
    """

    parts: tuple[tuple[int, int | None, int | None, int], ...]

    def _index(self, rank: int) -> tuple[slice, ...]:
        found = [slice(None)] * rank
        for axis, start, stop, step in self.parts:
            found[axis] = slice(start, stop, step)
        return tuple(found)

    def shapes(self, *shapes: Shape | None) -> tuple[Shape, ...]:
        """Of what it gives."""
        (shape,) = all_of(shapes, 1, self.name)
        axes_of(tuple(dict.fromkeys(axis for axis, *_ in self.parts)), shape, self.name)
        if not all(step for *_, step in self.parts):
            raise ShapeError("a step of zero", self.name, "any other", str(self.parts))
        return (tuple(len(range(*part.indices(n))) for part, n in zip(self._index(len(shape)), shape, strict=True)),)

    def compute(self, *values: Any, rounding: Rounding) -> tuple[Any, ...]:
        """The part."""
        return (values[0][self._index(values[0].ndim)],)


@dataclass(frozen=True, eq=False)
class Select(Plain):
    """One place of an axis; the axis is gone.

    Args:
        name: unique among the operations of a graph.
        axis: of the input.
        index: which place; negative from the end.
    """

    axis: int
    index: int

    def shapes(self, *shapes: Shape | None) -> tuple[Shape, ...]:
        """Of what it gives."""
        (shape,) = all_of(shapes, 1, self.name)
        (axis,) = axes_of((self.axis,), shape, self.name)
        if not -shape[axis] <= self.index < shape[axis]:
            raise ShapeError("no such place in the axis", self.name, f"index {self.index} of axis {axis}", str(shape))
        return ((*shape[:axis], *shape[axis + 1 :]),)

    def compute(self, *values: Any, rounding: Rounding) -> tuple[Any, ...]:
        """The part."""
        return (np.take(values[0], self.index, axis=self.axis),)


@dataclass(frozen=True, eq=False)
class Take(Plain):
    """Places of an axis by number, as `numpy.take`: takes (x, integers).

    Args:
        name: unique among the operations of a graph.
        axis: of the input; the axes of the integers stand in its place.
    """

    axis: int

    def shapes(self, *shapes: Shape | None) -> tuple[Shape, ...]:
        """Of what it gives."""
        shape, numbers = all_of(shapes, 2, self.name)
        (axis,) = axes_of((self.axis,), shape, self.name)
        return ((*shape[:axis], *numbers, *shape[axis + 1 :]),)

    def compute(self, *values: Any, rounding: Rounding) -> tuple[Any, ...]:
        """The places."""
        x, places = values
        length = x.shape[self.axis]
        if places.dtype.kind not in "iu" or (places.size and not -length <= places.min() <= places.max() < length):
            got = f"{places.dtype} from {places.min()} to {places.max()}" if places.size else str(places.dtype)
            raise ShapeError("no such places in the axis", self.name, f"integers below {length}", got)
        return (np.take(x, places, axis=self.axis),)


@dataclass(frozen=True, eq=False)
class Flip(Plain):
    """Some axes the other way round.

    Args:
        name: unique among the operations of a graph.
        axes: of the input.
    """

    axes: tuple[int, ...]

    def shapes(self, *shapes: Shape | None) -> tuple[Shape, ...]:
        """Of what it gives: that of what it takes."""
        (shape,) = all_of(shapes, 1, self.name)
        axes_of(self.axes, shape, self.name)
        return (shape,)

    def compute(self, *values: Any, rounding: Rounding) -> tuple[Any, ...]:
        """The array so."""
        return (np.flip(values[0], self.axes),)


__all__ = ["Flip", "Select", "Slice", "Take"]
