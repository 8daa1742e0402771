"""Axes that become one: flattened in another order, reshaped where they are to be transposed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import permutations

import numpy as np

from parity.deferred import Array
from parity.diagnosis.case import Case
from parity.diagnosis.fault import Fault, Place
from parity.diagnosis.faults.layers import nodes_of, shapes_in
from parity.diagnosis.faults.wiring import Moved, calling, fed, recurrent_calls
from parity.diagnosis.repair import CallRepair
from parity.graph.graph import Node, Wire
from parity.graph.operations import Convolution, Reshape, Transpose
from parity.graph.operations.operation import Shape
from parity.network import Dense, Recurrent

_SMALLEST = 2


def flattening_faults(case: Case) -> Iterator[Fault]:
    """Every mistake with the order of axes that become one.

    Args:
        case: the right model.
    """
    shapes = shapes_in(case)
    for node, _ in nodes_of(case, Reshape):
        wire = node.inputs[0]
        if wire in shapes and Wire(node.name) in shapes:
            yield from _flattened(node, shapes[wire], shapes[Wire(node.name)])
    for node, transpose in nodes_of(case, Transpose):
        wire = node.inputs[0]
        if wire in shapes:
            yield from _reshaped(node, transpose.axes, shapes[wire])
    yield from _columns(case)
    yield from _steps_behind_convolutions(case)


def _flattened(node: Node, before: Shape, after: Shape) -> Iterator[Fault]:
    """The axes that a reshape puts together, in another order."""
    merged = merged_axes(before, after)
    if merged is None:
        return
    first, count = merged
    lengths = before[first : first + count]
    for order in permutations(range(count)):
        # Axes of length one may stand anywhere.
        if [place for place in order if lengths[place] > 1] == sorted(
            place for place in range(count) if lengths[place] > 1
        ):
            continue
        axes = (*range(first), *(first + place for place in order), *range(first + count, len(before)))
        there = " ".join(str(first + place) for place in order)
        long = ", ".join(str(lengths[place]) for place in order)
        belongs = " ".join(str(first + place) for place in range(count))
        yield Fault(
            "flatten order",
            f"flattens the axes {there} (of lengths {long}) in this order, where {belongs} belongs (channels first against channels last)",
            Place(node.operation.name),
            partial(_in_order, name=node.name, axes=axes),
            (
                CallRepair(
                    node.operation.name,
                    "input",
                    f"x = x.permute{_brought(axes)}  # before it is flattened",
                    f"x = keras.ops.transpose(x, {_brought(axes)})",
                ),
            ),
            rank=14,
        )


def _brought(axes: Sequence[int]) -> tuple[int, ...]:
    """The order that brings axes back."""
    return tuple(int(place) for place in np.argsort(axes))


def merged_axes(before: Shape, after: Shape) -> tuple[int, int] | None:
    """Which axes a reshape puts together: the first of them, and how many; None where it does not put together just one run of axes.

    Example:
        >>> merged_axes((4, 5, 6, 7), (4, 5, 42)), merged_axes((4, 6), (4, 3, 2))
        ((2, 2), None)
    """
    count = len(before) - len(after) + 1
    if count < _SMALLEST:
        return None
    for first in range(1, len(after)):
        rest = (*before[:first], math.prod(before[first : first + count]), *before[first + count :])
        if rest == after:
            return first, count
    return None


def _in_order(case: Case, name: str, axes: tuple[int, ...]) -> Case:
    """A reshape into the same shape of what has its axes in another order."""
    right = case.graph.node(name).operation

    def formula(x: Array, *_: Array) -> Array:
        if not isinstance(right, Reshape):
            raise KeyError(name)
        (shape,) = right.shapes(x.shape)
        return x.transpose(axes).reshape(shape)

    return calling(case, name, Moved(right.name, formula))


def _reshaped(node: Node, axes: tuple[int, ...], before: Shape) -> Iterator[Fault]:
    """A transpose that is written as a reshape into the shape that it gives."""
    shown, last = ", ".join(str(before[axis]) for axis in axes[1:]), len(axes) - 1
    own = tuple(range(last + 1))
    orders = {
        own: "",
        (0, last, *range(1, last)): " of its numbers with the channels first",
        (0, *range(2, last + 1), 1): " of its numbers with the channels last",
    }
    for order, words in orders.items():
        # Axes of length one may stand anywhere.
        if [axis for axis in order if before[axis] > 1] == [axis for axis in axes if before[axis] > 1]:
            continue
        yield Fault(
            "reshaped in place of transposed",
            f"reshapes{words} into (batch, {shown}), where the axes are to be transposed",
            Place(node.operation.name),
            partial(_into_shape, name=node.name, axes=axes, order=order),
            (
                CallRepair(
                    node.operation.name,
                    "output",
                    f"y = x.permute{tuple(axes)}  # not .view or .reshape",
                    f"y = keras.ops.transpose(x, {tuple(axes)})",
                ),
            ),
            rank=16 if order == own else 25,
        )


def _into_shape(case: Case, name: str, axes: tuple[int, ...], order: tuple[int, ...]) -> Case:
    right = case.graph.node(name).operation
    return calling(
        case, name, Moved(right.name, lambda x: x.transpose(order).reshape([x.shape[axis] for axis in axes]))
    )


def _steps_behind_convolutions(case: Case) -> Iterator[Fault]:
    """What a convolution gives, channels first in torch, reshaped for a recurrent layer where it is to be transposed."""
    for node, layer in recurrent_calls(case):
        if not _behind_convolution(case, node.inputs[0]):
            continue
        yield Fault(
            "reshaped in place of transposed",
            "reshapes the (batch, channels, steps) of a convolution into (batch, steps, channels), where the axes are to be transposed",
            Place(layer.name),
            partial(fed, name=node.name, place=0, formula=lambda x: x.swapaxes(1, 2).reshape(x.shape)),
            (
                CallRepair(
                    layer.name,
                    "input",
                    "x = x.transpose(1, 2)  # not .view or .reshape",
                    "x = keras.ops.transpose(x, (0, 2, 1))",
                ),
            ),
            rank=16,
        )


def _behind_convolution(case: Case, wire: Wire | None) -> bool:
    """Whether a value comes from a convolution over one axis, with nothing that mixes steps or features between them."""
    nodes = {node.name: node for node in case.graph.nodes}
    seen = 0
    while wire is not None and wire.node in nodes and seen < len(nodes):
        node, seen = nodes[wire.node], seen + 1
        if isinstance(node.operation, Convolution):
            return len(node.operation.held("kernel").shape) == 3
        if isinstance(node.operation, (Dense, Recurrent, Reshape, Transpose)) or not node.inputs:
            return False
        wire = node.inputs[0]
    return False


def _columns(case: Case) -> Iterator[Fault]:
    """Features of the model's own input that were flattened in another order, before the first layer with a kernel."""
    inputs = {one.name for one in case.graph.inputs if one.dtype == "float32"}
    for node in case.graph.nodes:
        wire = node.inputs[0] if node.inputs else None
        if not isinstance(node.operation, (Dense, Recurrent)) or wire is None or wire.node not in inputs:
            continue
        size = node.operation.input_size
        for rows in range(_SMALLEST, size // _SMALLEST + 1):
            if size % rows:
                continue
            columns = size // rows
            yield Fault(
                "flatten order",
                f"takes its features as ({columns}, {rows}) flattened, where ({rows}, {columns}) belongs",
                Place(node.operation.name),
                partial(_features, name=node.name, rows=rows, columns=columns),
                (
                    CallRepair(
                        node.operation.name,
                        "input",
                        f"x = x.unflatten(-1, ({columns}, {rows})).transpose(-1, -2).flatten(-2)",
                        _keras_columns(rows, columns),
                    ),
                ),
                rank=30,
            )


def _keras_columns(rows: int, columns: int) -> str:
    return (
        f"rows = keras.ops.reshape(x, (*x.shape[:-1], {columns}, {rows}))\n"
        "x = keras.ops.reshape(keras.ops.swapaxes(rows, -1, -2), x.shape)"
    )


def _features(case: Case, name: str, rows: int, columns: int) -> Case:
    return fed(
        case,
        name,
        0,
        lambda x: x.reshape(*x.shape[:-1], rows, columns).swapaxes(-1, -2).reshape(x.shape),
    )


__all__ = ["flattening_faults", "merged_axes"]
