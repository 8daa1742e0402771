"""The same numbers in another place: axes, slices, padding, repetition."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from parity.frameworks.onnx.whole.writing_values import Call, Held, together
from parity.graph.operations import (
    Concatenate,
    Expand,
    ExpandDims,
    Flip,
    Pad,
    Repeat,
    Reshape,
    Select,
    Slice,
    Squeeze,
    Stack,
    Take,
    Transpose,
    normalized,
)

_FIRST, _LAST = int(np.iinfo(np.int64).min), int(np.iinfo(np.int64).max)


def write_transpose(call: Call) -> None:
    """The axes in another order: a tensor is only made for who needs it so."""
    operation = call.operation
    assert isinstance(operation, Transpose)
    axes = [normalized(axis, len(operation.axes)) for axis in operation.axes]
    call.hand_on(call.x.turned(axes, call.name))


def write_reshape(call: Call) -> None:
    """Reshape to known lengths and those of inputs."""
    operation = call.operation
    assert isinstance(operation, Reshape)
    x = call.x.in_order()
    call.give(call.op("Reshape", x, call.shape(operation.sizes, keep=True), what="output"), call.x.kind)


def write_expand(call: Call) -> None:
    """Expand, where 1 keeps an axis."""
    operation = call.operation
    assert isinstance(operation, Expand)
    sizes = [1 if size == -1 else size for size in operation.sizes]
    x = call.x.in_order()
    call.give(call.op("Expand", x, call.shape(sizes, keep=False), what="output"), call.x.kind)


def write_expand_dims(call: Call) -> None:
    """Unsqueeze."""
    operation = call.operation
    assert isinstance(operation, ExpandDims)
    axes = sorted(normalized(axis, call.rank) for axis in operation.axes)
    call.give(call.op("Unsqueeze", call.x.in_order(), call.integers("axes", *axes), what="output"), call.x.kind)


def write_squeeze(call: Call) -> None:
    """Squeeze."""
    operation = call.operation
    assert isinstance(operation, Squeeze)
    axes = sorted({normalized(axis, len(call.x.order)) for axis in operation.axes})
    call.give(call.op("Squeeze", call.x.in_order(), call.integers("axes", *axes), what="output"), call.x.kind)


def write_concatenate(call: Call) -> None:
    """Concat, in an order of axes in which all inputs stand."""
    operation = call.operation
    assert isinstance(operation, Concatenate)
    inputs = call.present
    usual = inputs[0].usual()
    order = usual if all(held.there(usual) for held in inputs) else tuple(range(call.rank))
    kind = together([held.kind for held in inputs])
    tensors = [call.taken(held, kind, order) for held in inputs]
    axis = order.index(normalized(operation.axis, call.rank))
    call.give(call.op("Concat", *tensors, what="output", axis=axis), kind, order)


def write_stack(call: Call) -> None:
    """A new axis for each, then Concat."""
    operation = call.operation
    assert isinstance(operation, Stack)
    axis = normalized(operation.axis, call.rank)
    kind = together([held.kind for held in call.present])
    place = call.integers("axis", axis)
    rows = [call.op("Unsqueeze", call.taken(held, kind), place, what="row") for held in call.present]
    call.give(call.op("Concat", *rows, what="output", axis=axis), kind)


def write_slice(call: Call) -> None:
    """Slice, which counts from the end and clips as Python does."""
    operation = call.operation
    assert isinstance(operation, Slice)
    rank = len(call.x.order)
    _sliced(call, [(normalized(axis, rank), *part) for axis, *part in operation.parts])


def write_flip(call: Call) -> None:
    """A Slice by steps of minus one."""
    operation = call.operation
    assert isinstance(operation, Flip)
    rank = len(call.x.order)
    _sliced(call, [(normalized(axis, rank), None, None, -1) for axis in operation.axes])


def _sliced(call: Call, parts: Sequence[Sequence[int | None]]) -> None:
    # The last word on an axis counts.
    cuts = {axis: (start, stop, step or 1) for axis, start, stop, step in parts}
    starts, stops = [], []
    for start, stop, step in cuts.values():
        first, last = (0, _LAST) if step > 0 else (_LAST, _FIRST)
        starts.append(first if start is None else start)
        stops.append(last if stop is None else stop)
    order = call.x.usual()
    axes = [order.index(axis) for axis in cuts if axis is not None]
    columns = (("starts", starts), ("ends", stops), ("axes", axes), ("steps", [step for *_, step in cuts.values()]))
    ends = [call.integers(key, *values) for key, values in columns]
    call.give(call.op("Slice", call.x.in_order(order), *ends, what="output"), call.x.kind, order)


def write_select(call: Call) -> None:
    """Gather of one number."""
    operation = call.operation
    assert isinstance(operation, Select)
    axis = normalized(operation.axis, len(call.x.order))
    at = call.number("index", operation.index, "int")
    call.give(call.op("Gather", call.x.in_order(), at, what="output", axis=axis), call.x.kind)


def write_take(call: Call) -> None:
    """Gather of given numbers."""
    operation = call.operation
    assert isinstance(operation, Take)
    x, places = call.present
    axis = normalized(operation.axis, len(x.order))
    call.give(call.op("Gather", x.in_order(), call.taken(places, "int"), what="output", axis=axis), x.kind)


def write_pad(call: Call) -> None:
    """Pad, in whatever order the value stands."""
    operation = call.operation
    assert isinstance(operation, Pad)
    order, kind = call.x.usual(), call.x.kind
    around = [operation.pads[axis] for axis in order]
    pads = call.integers("pads", *(before for before, _ in around), *(after for _, after in around))
    wanted = "int" if kind == "bool" else kind
    inputs = [call.taken(call.x, wanted, order), pads]
    if operation.mode == "constant":
        inputs.append(call.number("value", operation.value, wanted))
    found = call.op("Pad", *inputs, what="output", mode=operation.mode)
    call.give(call.cast(found, wanted, kind), kind, order)


def write_repeat(call: Call) -> None:
    """Gather of 0, 0, 1, 1, ...: every place as often as it is wanted."""
    operation = call.operation
    assert isinstance(operation, Repeat)
    axis = normalized(operation.axis, len(call.x.order))
    length, times = call.dims[0][axis], operation.times
    if length is not None:
        places = call.integers("places", *(place for place in range(length) for _ in range(times)))
    else:
        places = _repeated_places(call, call.x, axis, times)
    call.give(call.op("Gather", call.x.in_order(), places, what="output", axis=axis), call.x.kind)


def _repeated_places(call: Call, held: Held, axis: int, times: int) -> str:
    start, one, count = (call.number(key, value, "int") for key, value in (("start", 0), ("step", 1), ("times", times)))
    length = call.op("Squeeze", call.length(held, axis), call.integers("axis", 0), what="number")
    steps = call.op("Range", start, call.op("Mul", length, count, what="total"), one)
    return call.op("Div", steps, count, what="places")


__all__ = [
    "write_concatenate",
    "write_expand",
    "write_expand_dims",
    "write_flip",
    "write_pad",
    "write_repeat",
    "write_reshape",
    "write_select",
    "write_slice",
    "write_squeeze",
    "write_stack",
    "write_take",
    "write_transpose",
]
