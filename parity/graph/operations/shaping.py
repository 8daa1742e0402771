"""The same numbers in another shape: axes, padding, repetition."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from parity.errors import ShapeError
from parity.graph.operations.operation import Plain, Shape, all_of, axes_of
from parity.reference import Rounding


@dataclass(frozen=True)
class Length:
    """The length of an axis of one of the operation's inputs, times a whole number.

    Args:
        input: which input, from 0 on.
        axis: which of its axes, from 0 on.
        times: the number.
    """

    input: int
    axis: int
    times: int = 1


Size: TypeAlias = int | Length
"""A length that is known, or that of an axis of an input; -1 for what is left over."""


def _first(shapes: tuple[Shape | None, ...], name: str) -> Shape:
    """The shape of the first of several inputs."""
    if not shapes or shapes[0] is None:
        raise ShapeError("another number of inputs", name, "one or more", str(shapes))
    return shapes[0]


def _sizes(sizes: tuple[Size, ...], shapes: tuple[Shape | None, ...], name: str) -> tuple[int, ...]:
    found = []
    for size in sizes:
        if isinstance(size, Length):
            shape = shapes[size.input] if 0 <= size.input < len(shapes) else None
            if shape is None or not 0 <= size.axis < len(shape):
                raise ShapeError("no such axis", name, f"axis {size.axis} of input {size.input}", str(shape))
            found.append(shape[size.axis] * size.times)
        elif size < -1:
            raise ShapeError("no length", name, "a length, or -1", str(size))
        else:
            found.append(size)
    return tuple(found)


@dataclass(frozen=True, eq=False)
class Transpose(Plain):
    """Axes in another order, as `numpy.transpose`.

    Args:
        name: unique among the operations of a graph.
        axes: for each axis of the result, the axis of the input.
    """

    axes: tuple[int, ...]

    def shapes(self, *shapes: Shape | None) -> tuple[Shape, ...]:
        """Of what it gives."""
        (shape,) = all_of(shapes, 1, self.name)
        if len(shape) != len(self.axes):
            raise ShapeError("another number of axes", self.name, str(len(self.axes)), str(shape))
        return (tuple(shape[axis] for axis in axes_of(self.axes, shape, self.name)),)

    def compute(self, *values: Any, rounding: Rounding) -> tuple[Any, ...]:
        """The axes in that order."""
        return (values[0].transpose(self.axes),)


@dataclass(frozen=True, eq=False)
class Reshape(Plain):
    """The same numbers in C order under another shape. Takes (x, any further inputs whose axes `sizes` names).

    Args:
        name: unique among the operations of a graph.
        sizes: of every axis; at most one is -1.
    """

    sizes: tuple[Size, ...]

    def shapes(self, *shapes: Shape | None) -> tuple[Shape, ...]:
        """Of what it gives."""
        total = math.prod(_first(shapes, self.name))
        sizes = _sizes(self.sizes, shapes, self.name)
        if sizes.count(-1) > 1:
            raise ShapeError("more than one length is left over", self.name, "one -1 at most", str(sizes))
        known = math.prod(size for size in sizes if size != -1)
        if (known == 0 or total % known) if -1 in sizes else total != known:
            raise ShapeError("the numbers do not fill the shape", self.name, str(sizes), str(shapes[0]))
        return (tuple(total // known if size == -1 else size for size in sizes),)

    def compute(self, *values: Any, rounding: Rounding) -> tuple[Any, ...]:
        """The array in that shape."""
        return (values[0].reshape(self.shapes(*(None if value is None else value.shape for value in values))[0]),)


@dataclass(frozen=True, eq=False)
class ExpandDims(Plain):
    """New axes of length one.

    Args:
        name: unique among the operations of a graph.
        axes: their places in the result.
    """

    axes: tuple[int, ...]

    def shapes(self, *shapes: Shape | None) -> tuple[Shape, ...]:
        """Of what it gives."""
        (shape,) = all_of(shapes, 1, self.name)
        rank = len(shape) + len(self.axes)
        places, rest = axes_of(self.axes, (1,) * rank, self.name), iter(shape)
        return (tuple(1 if axis in places else next(rest) for axis in range(rank)),)

    def compute(self, *values: Any, rounding: Rounding) -> tuple[Any, ...]:
        """The array with them."""
        return (np.expand_dims(values[0], self.axes),)


@dataclass(frozen=True, eq=False)
class Squeeze(Plain):
    """Without some axes of length one.

    Args:
        name: unique among the operations of a graph.
        axes: of the input.
    """

    axes: tuple[int, ...]

    def shapes(self, *shapes: Shape | None) -> tuple[Shape, ...]:
        """Of what it gives."""
        (shape,) = all_of(shapes, 1, self.name)
        gone = axes_of(self.axes, shape, self.name)
        if any(shape[axis] != 1 for axis in gone):
            raise ShapeError(
                "an axis that is not of length one", self.name, f"axes {self.axes} of length 1", str(shape)
            )
        return (tuple(length for axis, length in enumerate(shape) if axis not in gone),)

    def compute(self, *values: Any, rounding: Rounding) -> tuple[Any, ...]:
        """The array without them."""
        return (values[0].squeeze(self.axes),)


@dataclass(frozen=True, eq=False)
class Concatenate(Plain):
    """Several arrays one after the other along an axis.

    Args:
        name: unique among the operations of a graph.
        axis: along which.
    """

    axis: int = -1

    def shapes(self, *shapes: Shape | None) -> tuple[Shape, ...]:
        """Of what it gives."""
        given = all_of(shapes, None, self.name)
        (axis,) = axes_of((self.axis,), given[0], self.name)
        rest = {(*shape[:axis], -1, *shape[axis + 1 :]) for shape in given}
        if len(rest) != 1 or len({len(shape) for shape in given}) != 1:
            raise ShapeError("the shapes do not go together", self.name, f"alike but in axis {axis}", str(given))
        return ((*given[0][:axis], sum(shape[axis] for shape in given), *given[0][axis + 1 :]),)

    def compute(self, *values: Any, rounding: Rounding) -> tuple[Any, ...]:
        """The arrays together."""
        return (np.concatenate(values, axis=self.axis),)


@dataclass(frozen=True, eq=False)
class Stack(Plain):
    """Several arrays along a new axis.

    Args:
        name: unique among the operations of a graph.
        axis: its place in the result.
    """

    axis: int = 0

    def shapes(self, *shapes: Shape | None) -> tuple[Shape, ...]:
        """Of what it gives."""
        given = all_of(shapes, None, self.name)
        if len(set(given)) != 1:
            raise ShapeError("the shapes are not all the same", self.name, str(given[0]), str(given))
        (axis,) = axes_of((self.axis,), (len(given), *given[0]), self.name)
        return ((*given[0][:axis], len(given), *given[0][axis:]),)

    def compute(self, *values: Any, rounding: Rounding) -> tuple[Any, ...]:
        """The arrays together."""
        return (np.stack(values, axis=self.axis),)


@dataclass(frozen=True, eq=False)
class Pad(Plain):
    """More places around the array.

    Args:
        name: unique among the operations of a graph.
        pads: (before, after) for each axis.
        value: what stands there in mode "constant".
        mode: "constant", "reflect" (the array mirrored, its edge not repeated) or "edge" (its edge repeated).
    """

    pads: tuple[tuple[int, int], ...]
    value: float = 0.0
    mode: Literal["constant", "reflect", "edge"] = "constant"

    def shapes(self, *shapes: Shape | None) -> tuple[Shape, ...]:
        """Of what it gives."""
        (shape,) = all_of(shapes, 1, self.name)
        if len(shape) != len(self.pads):
            raise ShapeError("another number of axes", self.name, str(len(self.pads)), str(shape))
        for length, pad in zip(shape, self.pads, strict=True):
            most = {"reflect": max(length - 1, 0), "edge": max(pad) if length else 0}.get(self.mode, max(pad))
            if min(pad) < 0 or max(pad) > most:
                raise ShapeError("padding that the array cannot give", self.name, f"0 to {most}", f"{pad} of {shape}")
        return (tuple(length + sum(pad) for length, pad in zip(shape, self.pads, strict=True)),)

    def compute(self, *values: Any, rounding: Rounding) -> tuple[Any, ...]:
        """The array with it."""
        options: dict[str, Any] = {"constant_values": self.value} if self.mode == "constant" else {}
        return (np.pad(values[0], self.pads, self.mode, **options) if self.pads else values[0],)


@dataclass(frozen=True, eq=False)
class Repeat(Plain):
    """Every place of an axis several times, one after the other, as `numpy.repeat`.

    Args:
        name: unique among the operations of a graph.
        axis: of the input.
        times: how often.
    """

    axis: int
    times: int

    def shapes(self, *shapes: Shape | None) -> tuple[Shape, ...]:
        """Of what it gives."""
        (shape,) = all_of(shapes, 1, self.name)
        (axis,) = axes_of((self.axis,), shape, self.name)
        if self.times < 0:
            raise ShapeError("less than no times", self.name, "0 or more", str(self.times))
        return ((*shape[:axis], shape[axis] * self.times, *shape[axis + 1 :]),)

    def compute(self, *values: Any, rounding: Rounding) -> tuple[Any, ...]:
        """The array so."""
        return (np.repeat(values[0], self.times, axis=self.axis),)


@dataclass(frozen=True, eq=False)
class Expand(Plain):
    """Broadcast to a shape, as `numpy.broadcast_to`. Takes (x, any further inputs whose axes `sizes` names).

    Args:
        name: unique among the operations of a graph.
        sizes: of every axis; -1 keeps that of the input (axes counted from the end).
    """

    sizes: tuple[Size, ...]

    def shapes(self, *shapes: Shape | None) -> tuple[Shape, ...]:
        """Of what it gives."""
        own, sizes = _first(shapes, self.name), _sizes(self.sizes, shapes, self.name)
        if len(sizes) < len(own):
            raise ShapeError("another number of axes", self.name, f"at least {len(own)}", str(sizes))
        aligned = (1,) * (len(sizes) - len(own)) + own
        found = tuple(old if size == -1 else size for old, size in zip(aligned, sizes, strict=True))
        if any(old not in (1, size) for old, size in zip(aligned, found, strict=True)):
            raise ShapeError("the shape cannot be broadcast", self.name, str(found), str(own))
        return (found,)

    def compute(self, *values: Any, rounding: Rounding) -> tuple[Any, ...]:
        """The array so."""
        shape = self.shapes(*(None if value is None else value.shape for value in values))[0]
        return (np.broadcast_to(values[0], shape),)


@dataclass(frozen=True, eq=False)
class Range(Plain):
    """The integers 0, 1, 2, ...; takes the inputs whose axes `size` names.

    Args:
        name: unique among the operations of a graph.
        size: how many; an axis of an input.
    """

    size: Length

    def shapes(self, *shapes: Shape | None) -> tuple[Shape, ...]:
        """Of what it gives."""
        return (_sizes((self.size,), shapes, self.name),)

    def compute(self, *values: Any, rounding: Rounding) -> tuple[Any, ...]:
        """The integers."""
        (shape,) = self.shapes(*(None if value is None else value.shape for value in values))
        return (np.arange(shape[0]),)


__all__ = [
    "Concatenate",
    "Expand",
    "ExpandDims",
    "Length",
    "Pad",
    "Range",
    "Repeat",
    "Reshape",
    "Size",
    "Squeeze",
    "Stack",
    "Transpose",
]
