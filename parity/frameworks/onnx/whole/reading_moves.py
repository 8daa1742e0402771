"""Operators that move numbers without changing them.

Source: the ONNX operator specification of each, in the forms of all opsets: what newer ones take as an input stood in an attribute before.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from onnx import TensorProto

from parity.frameworks.onnx.constants import Constant
from parity.frameworks.onnx.whole.reading_layers import embedding_of
from parity.frameworks.onnx.whole.reading_picking import picked, split_axis
from parity.frameworks.onnx.whole.reading_step import Step, same_length
from parity.frameworks.onnx.whole.reading_values import Sym, Value
from parity.graph.operations import (
    Concatenate,
    Flip,
    Pad,
    Slice,
    Take,
    Transpose,
)

_FAR = 2**31 - 1
"""From here on an end of a slice means the end of the axis."""

_FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16)
_INTEGERS = (TensorProto.INT64, TensorProto.INT32)


def _transpose(step: Step) -> Sequence[Value]:
    x = step.value(0)
    rank = len(step.attributes["perm"]) if "perm" in step.attributes else step.rank(x)
    return [step.transposed(x, step.attributes.get("perm", range(rank)[::-1]))]


def _reshape(step: Step) -> Sequence[Value]:
    x, sizes = step.value(0), step.sizes("shape", 1)
    if sizes is None:
        raise step.refused("the shape is missing")
    if not step.integer("allowzero", 0) and 0 in sizes:
        own = step.shape(x)
        sizes = [own[at] if one == 0 else one for at, one in enumerate(sizes)]
    merged = _merged(step, x, sizes)
    return [step.reshaped(x, sizes) if merged is None else merged]


def _merged(step: Step, x: Value, sizes: Sequence[int | Sym]) -> Value | None:
    """What was one axis before it was split into two and both were moved side by side, put together again."""
    moved = step.reading.producer(x)
    if moved is None or not isinstance(moved.operation, Transpose) or moved.inputs[0] is None:
        return None
    found = split_axis(step, moved.inputs[0])
    if found is None:
        return None
    whole, at = found
    order, now, length = moved.operation.axes, step.shape(x), step.shape(whole)[at]
    first = order.index(at)
    if order[first + 1 : first + 2] != (at + 1,):
        return None
    joined = (*now[:first], length, *now[first + 2 :])
    alike = len(joined) == len(sizes) and sum(one == -1 for one in sizes) <= 1
    if not alike or not all(one == -1 or same_length(own, one) for own, one in zip(joined, sizes, strict=True)):
        return None
    return step.transposed(whole, [axis - (axis > at) for axis in order if axis != at + 1])


def _flatten(step: Step) -> Sequence[Value]:
    x = step.value(0)
    shape = step.shape(x)
    axis = step.integer("axis", 1)
    axis = axis + len(shape) if axis < 0 else axis
    before, after = shape[:axis], shape[axis:]
    if all(isinstance(one, int) for one in after):
        rest = math.prod(one for one in after if isinstance(one, int))
        return [step.reshaped(x, [before[0] if len(before) == 1 else -1, rest])]
    if len(before) == 1:
        return [step.reshaped(x, [before[0], -1])]
    if all(isinstance(one, int) for one in before):
        return [step.reshaped(x, [math.prod(one for one in before if isinstance(one, int)), -1])]
    raise step.refused("this Flatten joins lengths that differ from call to call on both sides", got=f"axis {axis}")


def _squeeze(step: Step) -> Sequence[Value]:
    x = step.value(0)
    axes = step.integers("axes", 1)
    if axes is None:
        shape = step.shape(x)
        if any(isinstance(length, Sym) for length in shape):
            raise step.refused("this Squeeze drops other axes where a batch or a sequence is one long", "axes", "none")
        axes = [axis for axis, length in enumerate(shape) if length == 1]
        return [step.squeezed(x, axes)]
    places = step.axes("axes", 1, step.rank(x)) or []
    made = step.reading.producer(x)
    if made is not None and isinstance(made.operation, Slice) and made.inputs[0] is not None and len(places) == 1:
        ((axis, start, _, stride), *more) = made.operation.parts
        if not more and [axis] == places and stride == 1 and step.shape(x)[axis] == 1 and (start or 0) >= 0:
            return [picked(step, made.inputs[0], axis, start or 0)]
    return [step.squeezed(x, places)]


def _unsqueeze(step: Step) -> Sequence[Value]:
    x, axes = step.value(0), step.integers("axes", 1) or []
    return [step.expanded(x, step.axes("axes", 1, step.rank(x) + len(axes)) or [])]


def _concat(step: Step) -> Sequence[Value]:
    values = [value for value in step.inputs if value is not None]
    if len(values) == 1:
        return [values[0]]
    axis = step.axis(0, step.rank(values[0]))
    return [step.call(Concatenate(step.name("concatenate"), axis), *values)]


def _split(step: Step) -> Sequence[Value]:
    x = step.value(0)
    axis = step.axis(0, step.rank(x))
    length, sizes, count = step.shape(x)[axis], step.integers("split", 1), len(step.node.output)
    if sizes is None:
        if not isinstance(length, int):
            raise step.refused("the split axis differs from call to call", "a length that stays, or sizes")
        each = -(-length // count)
        sizes = [min(each, length - at * each) for at in range(count)]
    if len(sizes) != count or (isinstance(length, int) and sum(sizes) != length):
        raise step.refused("these parts do not make up the axis", str(length), str(sizes))
    starts = [sum(sizes[:at]) for at in range(count)]
    if count == 1:
        return [x]
    return [
        step.sliced(x, axis, start, start + size if at + 1 < count else None)
        for at, (start, size) in enumerate(zip(starts, sizes, strict=True))
    ]


def _slice(step: Step) -> Sequence[Value]:
    x = step.value(0)
    rank, shape = step.rank(x), step.shape(x)
    starts, ends = step.sizes("starts", 1), step.sizes("ends", 2)
    if starts is None or ends is None:
        raise step.refused("starts or ends are missing")
    axes = step.axes("axes", 3, rank) or list(range(len(starts)))
    steps = step.integers("steps", 4) or [1] * len(starts)
    if not len(starts) == len(ends) == len(axes) == len(steps):
        raise step.refused("starts, ends, axes and steps are not equally many")
    for axis, start, end, stride in zip(axes, starts, ends, steps, strict=True):
        x = _cut(step, x, axis, shape[axis], start, end, stride)
    return [x]


def _cut(step: Step, x: Value, axis: int, length: int | Sym, start: int | Sym, end: int | Sym, stride: int) -> Value:
    first, last = _counted(step, start, length), _counted(step, end, length)
    if stride < 0:
        whole = (first == -1 or first is None) and (last is None or last <= -_FAR)
        if stride == -1 and whole:
            return step.call(Flip(step.name("flip"), (axis,)), x)
        return step.sliced(
            x, axis, None if first is None else first, None if last is None or last <= -_FAR else last, stride
        )
    whole = last is None or (isinstance(length, int) and last >= length)
    first = 0 if isinstance(length, int) and first is not None and first <= -length else first
    if isinstance(length, int) and not whole and first is not None and (first, last) == (0, length):
        whole = True
    return step.sliced(x, axis, first or None, None if whole else last, stride)


def _counted(step: Step, at: int | Sym, length: int | Sym) -> int | None:
    """A place on an axis; one that is a length is counted from the axis's end. None for the end itself, or beyond it.

    Raises:
        UnsupportedError: another length.
    """
    if not isinstance(at, Sym):
        return None if at >= _FAR else at
    if isinstance(length, Sym):
        gaps = {a - b for a, b in zip(at.tried, length.tried, strict=True) if a is not None and b is not None}
        if len(gaps) == 1 and (gap := gaps.pop()) <= 0:
            return gap or None
    raise step.refused("a slice ends where a computed length says", "a constant, or the length of the axis itself")


def _gather(step: Step) -> Sequence[Value]:
    x, index = step.value(0), step.value(1)
    axis = step.axis(0, step.rank(x))
    if isinstance(index, Constant) and step.kind(index) == "float":
        raise step.refused("the indices are no integers", "int32 or int64, as ONNX specifies", "floating-point numbers")
    found = embedding_of(step)
    if found is not None:
        return found
    if isinstance(index, Constant) and not isinstance(x, Constant):
        return [_picked(step, x, axis, step.reading.array(index))]
    return [step.call(Take(step.name("take"), axis), x, index)]


def _picked(step: Step, x: Value, axis: int, places: Any) -> Value:
    """Places of an axis that are known."""
    if places.ndim == 0:
        return picked(step, x, axis, int(places))
    if places.ndim == 1 and places.size:
        first, stride = int(places[0]), int(places[1] - places[0]) if places.size > 1 else 1
        last = first + stride * places.size
        if stride > 0 and first >= 0 and (np.diff(places) == stride).all():
            return step.sliced(x, axis, first, last - stride + 1, stride)
    return step.call(Take(step.name("take"), axis), x, Constant.of_array(places, ""))


def _pad(step: Step) -> Sequence[Value]:
    x = step.value(0)
    rank = step.rank(x)
    pads = step.integers("pads", 1) or step.integers("paddings", 1)
    axes = step.axes("axes", 3, rank) or list(range(rank))
    mode = step.text("mode", "constant")
    if pads is None or len(pads) != 2 * len(axes):
        raise step.refused("pads are not two for each axis", str(2 * len(axes)), str(pads))
    if mode not in ("constant", "reflect", "edge"):
        raise step.refused("this mode of padding is not converted", "constant, reflect or edge", mode)
    given = step.constant(2, "the value of padding") if step.has(2) else None
    value = float(given.ravel()[0]) if given is not None and given.size else float(step.attributes.get("value", 0.0))
    around = [(0, 0)] * rank
    for at, axis in enumerate(axes):
        before, after = pads[at], pads[at + len(axes)]
        if min(before, after) < 0:
            x = step.sliced(x, axis, -before if before < 0 else None, after if after < 0 else None)
        around[axis] = max(before, 0), max(after, 0)
    if not any(map(any, around)):
        return [x]
    return [step.call(Pad(step.name("pad"), tuple(around), value, mode), x)]  # type: ignore[arg-type]


def _identity(step: Step) -> Sequence[Value]:
    return [step.value(0)]


def _dropout(step: Step) -> Sequence[Value]:
    training = step.constant(2, "training_mode") if step.has(2) else None
    if (training is not None and training.any()) or (step.opset < 7 and not step.integer("is_test", 0)):
        raise step.refused("dropout in training mode", "training_mode false", "true")
    step.single()
    return [step.value(0)]


def _cast(step: Step) -> Sequence[Value]:
    x = step.value(0)
    if step.op == "CastLike":
        return [step.cast(x, step.kind(step.value(1)))]
    to = step.integer("to", 0)
    if to not in (*_FLOATS, *_INTEGERS, TensorProto.BOOL):
        name = TensorProto.DataType.Name(to) if to in TensorProto.DataType.values() else str(to)
        raise step.refused("this type is not converted", "floats, int32, int64, bool", name)
    if to in (TensorProto.FLOAT16, TensorProto.BFLOAT16):
        step.reading.stored.add(TensorProto.DataType.Name(to).lower())
    kind = "float" if to in _FLOATS else "int" if to in _INTEGERS else "bool"
    if isinstance(x, Constant) and step.kind(x) == "float" == kind:
        wide = np.float64 if to == TensorProto.DOUBLE else np.float32
        array = step.reading.array(x)
        same = x.dtype.itemsize == 2 and to in (TensorProto.FLOAT16, TensorProto.BFLOAT16)
        return [x if same else Constant.of_array(array.astype(wide), (x.origins or ("",))[0])]
    return [step.cast(x, kind)]  # type: ignore[arg-type]


HANDLERS: dict[str, Callable[[Step], Sequence[Value]]] = {
    "Cast": _cast,
    "CastLike": _cast,
    "Concat": _concat,
    "Dropout": _dropout,
    "Flatten": _flatten,
    "Gather": _gather,
    "Identity": _identity,
    "Pad": _pad,
    "Reshape": _reshape,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
