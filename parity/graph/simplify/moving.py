"""How a Transpose moves through an operation: what that becomes, and which Transpose stands behind it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from parity.graph.operations import (
    Activation,
    Cast,
    Expand,
    Flip,
    LayerNormalization,
    Length,
    Pad,
    Reduction,
    Repeat,
    Select,
    Slice,
    Softmax,
    Squeeze,
    UnitNormalization,
    normalized,
)
from parity.network import Dropout

Axes: TypeAlias = tuple[int, ...]
"""Of a Transpose: for each axis of the result, the axis of what it takes."""


def composed(first: Axes, then: Axes) -> Axes:
    """The Transpose that does what two do, one after the other.

    Example:
        >>> composed((0, 2, 1), (1, 0, 2))
        (2, 0, 1)
    """
    return tuple(first[axis] for axis in then)


def inverse(axes: Axes) -> Axes:
    """The Transpose that undoes one.

    Example:
        >>> inverse((2, 0, 1))
        (1, 2, 0)
    """
    return tuple(axes.index(axis) for axis in range(len(axes)))


def is_identity(axes: Axes) -> bool:
    """Whether a Transpose does nothing.

    Example:
        >>> is_identity((0, 1)), is_identity((1, 0))
        (True, False)
    """
    return axes == tuple(range(len(axes)))


@dataclass(frozen=True)
class Moved:
    """An operation on a value whose axes are in another order.

    Args:
        axes: of the Transpose behind it.
        options: of the operation that change.
    """

    axes: Axes
    options: dict[str, Any] = field(default_factory=dict)


def moved(operation: Any, axes: Axes) -> Moved | None:
    """What stands for `operation(x)`, where x = Transpose(axes) of another value: a Transpose of the operation on that value.

    Args:
        operation: takes one value whose axes count.
        axes: of the Transpose in front.

    Returns:
        None for an operation through which a Transpose cannot be moved.

    Example:
        >>> moved(Softmax("softmax", axis=1), (0, 2, 1))
        Moved(axes=(0, 2, 1), options={'axis': 2})
    """
    rule = _RULES.get(type(operation))
    return None if rule is None else rule(operation, axes)


def _place(axis: int, axes: Axes) -> int:
    return axes[normalized(axis, len(axes))]


def _without(axes: Axes, gone: set[int]) -> Axes:
    """The Transpose that is left where some axes of the result are gone."""
    left = [axes[axis] for axis in range(len(axes)) if axis not in gone]
    return tuple(sorted(left).index(axis) for axis in left)


def _same(operation: Any, axes: Axes) -> Moved:  # noqa: ARG001  the signature all of them share
    return Moved(axes)


def _one_axis(operation: Any, axes: Axes) -> Moved:
    return Moved(axes, {"axis": _place(operation.axis, axes)})


def _several(operation: Any, axes: Axes) -> Moved:
    return Moved(axes, {"axes": tuple(_place(axis, axes) for axis in operation.axes)})


def _reduction(operation: Reduction, axes: Axes) -> Moved:
    options = {"axes": tuple(_place(axis, axes) for axis in operation.axes)}
    gone = {normalized(axis, len(axes)) for axis in operation.axes}
    return Moved(axes if operation.keepdims else _without(axes, gone), options)


def _squeeze(operation: Squeeze, axes: Axes) -> Moved:
    options = {"axes": tuple(_place(axis, axes) for axis in operation.axes)}
    return Moved(_without(axes, {normalized(axis, len(axes)) for axis in operation.axes}), options)


def _select(operation: Select, axes: Axes) -> Moved:
    return Moved(_without(axes, {normalized(operation.axis, len(axes))}), {"axis": _place(operation.axis, axes)})


def _pad(operation: Pad, axes: Axes) -> Moved:
    return Moved(axes, {"pads": tuple(operation.pads[axis] for axis in inverse(axes))})


def _slice(operation: Slice, axes: Axes) -> Moved:
    return Moved(axes, {"parts": tuple((_place(axis, axes), *rest) for axis, *rest in operation.parts)})


def _expand(operation: Expand, axes: Axes) -> Moved | None:
    if len(operation.sizes) != len(axes):
        return None
    sizes = [
        Length(0, axes[size.axis], size.times) if isinstance(size, Length) and size.input == 0 else size
        for size in operation.sizes
    ]
    return Moved(axes, {"sizes": tuple(sizes[axis] for axis in inverse(axes))})


def _last_axes(operation: LayerNormalization, axes: Axes) -> Moved | None:
    count = len(axes)
    return Moved(axes) if axes[count - operation.axes :] == tuple(range(count - operation.axes, count)) else None


_RULES: dict[type, Callable[[Any, Axes], Moved | None]] = {
    Activation: _same,
    Cast: _same,
    Dropout: _same,
    Softmax: _one_axis,
    Repeat: _one_axis,
    Flip: _several,
    UnitNormalization: _several,
    Reduction: _reduction,
    Squeeze: _squeeze,
    Select: _select,
    Pad: _pad,
    Slice: _slice,
    Expand: _expand,
    LayerNormalization: _last_axes,
}


__all__ = ["Axes", "Moved", "composed", "inverse", "is_identity", "moved"]
