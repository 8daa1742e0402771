"""What every operation of a graph has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np

from parity.deferred import Array, Arrays
from parity.errors import ShapeError
from parity.reference import Rounding

Shape: TypeAlias = tuple[int, ...]


class Operation(Protocol):
    """One function of arrays, with its weights and options; a shared layer is one operation that several nodes call."""

    @property
    def name(self) -> str:
        """The user's name for the layer, or one made up from what it does; unique among the operations of a graph."""

    @property
    def arrays(self) -> Arrays:
        """Its weights by name."""

    @property
    def facts(self) -> dict[str, object]:
        """What people want to know of it beside its shapes."""

    def shapes(self, *shapes: Shape | None) -> tuple[Shape, ...]:
        """Shapes of what it gives, from the shapes of what it takes.

        Raises:
            ShapeError: it cannot take them.
        """

    def compute(self, *values: Any, rounding: Rounding) -> tuple[Any, ...]:
        """What it gives in float64 (integers and truth values as they are), from what it takes; None stands for an input left out."""


@dataclass(frozen=True, eq=False)
class Plain:
    """Base of operations without weights.

    Args:
        name: unique among the operations of a graph.
    """

    name: str

    @property
    def arrays(self) -> Arrays:
        """It has no weights."""
        return Arrays({})

    @property
    def facts(self) -> dict[str, object]:
        """Its options."""
        return {key: value for key, value in vars(self).items() if key != "name"}


def normalized(axis: int, rank: int) -> int:
    """An axis counted from the front.

    Raises:
        ShapeError: there are not so many axes.

    Example:
        >>> normalized(-1, 3)
        2
    """
    if not -rank <= axis < rank:
        raise ShapeError("no such axis", expected=f"one of {rank} axes", got=f"axis {axis}")
    return axis + rank if axis < 0 else axis


def axes_of(axes: Sequence[int], shape: Shape, name: str) -> tuple[int, ...]:
    """Axes of a shape, counted from the front.

    Args:
        axes: each once, negative from the end.
        shape: of what an operation takes.
        name: of the operation.

    Raises:
        ShapeError: one of them is not there, or is there twice.

    Example:
        >>> axes_of((-1, 0), (2, 3, 4), "mean")
        (2, 0)
    """
    rank = len(shape)
    found = tuple(axis + rank if axis < 0 else axis for axis in axes)
    if len(set(found)) != len(found) or any(not 0 <= axis < rank for axis in found):
        raise ShapeError("no such axes", name, f"axes {tuple(axes)}, each once", str(shape))
    return found


def all_of(shapes: Sequence[Shape | None], count: int | None, name: str) -> list[Shape]:
    """The shapes of everything that an operation takes, none of them left out.

    Args:
        shapes: as it is given them.
        count: how many it takes; None for one or more.
        name: of the operation.

    Raises:
        ShapeError: another number.

    Example:
        >>> all_of([(2, 3), (3,)], 2, "sum")
        [(2, 3), (3,)]
    """
    found = [shape for shape in shapes if shape is not None]
    if len(found) != len(shapes) or (len(found) != count if count is not None else not found):
        raise ShapeError(
            "another number of inputs", name, "one or more" if count is None else str(count), str(tuple(shapes))
        )
    return found


def broadcast(shapes: Sequence[Shape], name: str = "") -> Shape:
    """The shape that arrays of several shapes take together, as NumPy broadcasts.

    Raises:
        ShapeError: they do not go together.

    Example:
        >>> broadcast([(2, 1, 4), (3, 1)])
        (2, 3, 4)
    """
    try:
        return tuple(np.broadcast_shapes(*shapes))
    except ValueError as error:
        raise ShapeError("the shapes do not go together", name, got=", ".join(map(str, shapes))) from error


def float64(value: Array) -> Array:
    """A value to compute with: floats in float64, integers and truth values as they are.

    Example:
        >>> float64(np.ones(2, np.float32)).dtype, float64(np.array([1, 2])).dtype.kind
        (dtype('float64'), 'i')
    """
    return np.asarray(value, np.float64) if value.dtype.kind == "f" else value
