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
from parity.frameworks.onnx.whole.reading_step import Step, same_length
from parity.frameworks.onnx.whole.reading_values import Sizes, Sym, Value
from parity.graph.operations import (
    Concatenate,
    Expand,
    Flip,
    Length,
    Pad,
    Range,
    Repeat,
    Reshape,
    Size,
    Stack,
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
    split = step.reading.producer(moved.inputs[0])
    if split is None or not isinstance(split.operation, Reshape) or split.inputs[0] is None:
        return None
    whole, parts, now = (step.shape(one) for one in (split.inputs[0], moved.inputs[0], x))
    order, rank = moved.operation.axes, len(whole)
    if len(parts) != rank + 1 or len(sizes) != rank:
        return None
    for at in range(rank):
        first = order.index(at)
        alike = all(
            same_length(a, b)
            for a, b in zip((*whole[:at], *whole[at + 1 :]), (*parts[:at], *parts[at + 2 :]), strict=True)
        )
        if not alike or order[first + 1 : first + 2] != (at + 1,):
            continue
        joined = (*now[:first], whole[at], *now[first + 2 :])
        if sum(one == -1 for one in sizes) > 1:
            return None
        if all(one == -1 or same_length(own, one) for own, one in zip(joined, sizes, strict=True)):
            kept = [axis - (axis > at) for axis in order if axis != at + 1]
            return step.transposed(split.inputs[0], kept)
    return None


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
    return [step.squeezed(x, step.axes("axes", 1, step.rank(x)) or [])]


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


def picked(step: Step, x: Value, axis: int, index: int) -> Value:
    """One place of an axis; straight from the values that were put together along it, where it is one of them.

    Args:
        step: the node.
        x: where it is taken from.
        axis: of x.
        index: the place.
    """
    made = step.reading.producer(x)
    if made is not None and made.inputs and made.inputs[0] is not None:
        operation, given = made.operation, [wire for wire in made.inputs if wire is not None]
        if isinstance(operation, Stack) and operation.axis == axis and 0 <= index < len(given):
            return given[index]
        if type(operation).__name__ == "ExpandDims" and operation.axes == (axis,) and index in (0, -1):  # type: ignore[union-attr]
            return given[0]
        if isinstance(operation, Concatenate) and operation.axis == axis and index >= 0:
            for wire in given:
                length = step.shape(wire)[axis]
                if not isinstance(length, int):
                    break
                if index < length:
                    return picked(step, wire, axis, index)
                index -= length
            return step.selected(x, axis, index)
        part = getattr(operation, "parts", ((None, None, None, 0),))
        if len(part) == 1 and part[0][0] == axis and part[0][3] == 1 and index >= 0 and (part[0][1] or 0) >= 0:
            return picked(step, given[0], axis, index + (part[0][1] or 0))
    return step.selected(x, axis, index)


def _expand(step: Step) -> Sequence[Value]:
    sizes = step.sizes("shape", 1)
    if sizes is None:
        raise step.refused("the shape is missing")
    return [expanded(step, step.value(0), sizes)]


def expanded(step: Step, x: Value, sizes: Sequence[int | Sym]) -> Value:
    """A value broadcast together with a shape."""
    own = step.shape(x)
    wanted = [1] * (len(own) - len(sizes)) + list(sizes)
    aligned = (1,) * (len(wanted) - len(own)) + own
    keeps = [size == 1 or same_length(old, size) for old, size in zip(aligned, wanted, strict=True)]
    if all(keeps) and len(own) == len(wanted):
        return x
    wire, others = None if isinstance(x, Constant) else step.reading.wire(x), list[Any]()
    found: list[Size] = []
    for size, keep in zip(wanted, keeps, strict=True):
        one: Size | None = -1 if keep else step.reading.size(size, wire, others)
        if one is None:
            raise step.refused("this shape cannot be said with the lengths of axes")
        found.append(one)
    return step.call(Expand(step.name("expand"), tuple(found)), x, *others)


def _tile(step: Step) -> Sequence[Value]:
    x, times = step.value(0), step.sizes("repeats", 1)
    own = step.shape(x)
    if times is None or len(times) != len(own):
        raise step.refused("repeats are not one for each axis", str(len(own)), str(times))
    widened = [size if old == 1 else 1 for old, size in zip(own, times, strict=True)]
    x = expanded(step, x, widened)
    for axis, (old, size) in enumerate(zip(own, times, strict=True)):
        if old == 1 or size == 1:
            continue
        if not isinstance(size, int) or not 1 <= size <= 64:
            raise step.refused("an axis is repeated as often as a length says", "a number of up to 64", str(size))
        x = step.call(Concatenate(step.name("concatenate"), axis), *[x] * size)
    return [x]


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


def _constant_of_shape(step: Step) -> Sequence[Value]:
    sizes, value = step.sizes("shape", 0), step.attributes.get("value")
    number = np.zeros(1, np.float32) if value is None else step.reading.tensors.array(value)
    return [expanded(step, Constant.of_array(number.reshape(()), ""), sizes or [])]


def _repeated(step: Step, x: Value, scales: Sequence[float]) -> Value:
    for axis, scale in enumerate(scales):
        if scale != int(scale) or scale < 1:
            raise step.refused("only whole factors are converted", "1, 2, 3, ...", str(scale))
        if scale != 1:
            x = step.call(Repeat(step.name("repeat"), axis, int(scale)), x)
    return x


def _resize(step: Step) -> Sequence[Value]:
    x, old = step.value(0), step.opset < 11 or step.op == "Upsample"
    mode = step.text("mode", "nearest")
    shift = step.text("coordinate_transformation_mode", "half_pixel" if not old else "asymmetric")
    rounding = step.text("nearest_mode", "round_prefer_floor" if not old else "floor")
    centred = shift in ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric") and rounding.startswith("round")
    if mode != "nearest" or not (centred or (shift, rounding) == ("asymmetric", "floor")):
        raise step.refused(
            "this kind of resizing is not converted", "nearest, each place repeated", f"{mode}, {shift}, {rounding}"
        )
    if "axes" in step.attributes:
        raise step.refused("resizing of some axes is not converted", "scales of all axes", "axes")
    sizes = step.sizes("sizes", 3) if not old and step.has(3) else None
    if sizes is not None:
        own = step.shape(x)
        scales = [_factor(step, a, b) for a, b in zip(own, sizes, strict=True)]
    elif "scales" in step.attributes:
        scales = [float(one) for one in step.attributes["scales"]]
    else:
        scales = [float(one) for one in step.weight(1 if old else 2, "scales").ravel()]
    return [_repeated(step, x, scales)]


def _factor(step: Step, own: int | Sym, wanted: int | Sym) -> float:
    mine = own.tried if isinstance(own, Sym) else (own,) * 3
    other = wanted.tried if isinstance(wanted, Sym) else (wanted,) * 3
    found = {b / a for a, b in zip(mine, other, strict=True) if a is not None and b is not None}
    if len(found) != 1:
        raise step.refused("only whole factors are converted")
    return found.pop()


def _range(step: Step) -> Sequence[Value]:
    parts = [
        step.sizes(name, at) if isinstance(step.inputs[at], Sizes) else None
        for at, name in enumerate(("start", "limit", "delta"))
    ]
    if all(part is None for part in parts):
        start, limit, delta = (step.weight(at, "an end of Range").ravel()[0] for at in range(3))
        if delta == 0 or (limit - start) / delta > 1 << 20:
            raise step.refused("this Range is longer than a real model's", "at most 1048576")
        return [Constant.of_array(np.arange(start, limit, delta), step.source)]
    start, delta = step.weight(0, "the start"), step.weight(2, "the step")
    if parts[1] is None or start.ravel()[0] != 0 or delta.ravel()[0] != 1:
        raise step.refused("this Range is not 0, 1, 2, ... along an axis")
    return [positions(step, parts[1][0])]


def positions(step: Step, length: int | Sym) -> Value:
    """0, 1, 2, ... along an axis."""
    if isinstance(length, int):
        return Constant.of_array(np.arange(length), "")
    others: list[Any] = []
    size = step.reading.size(length, None, others)
    if not isinstance(size, Length):
        raise step.refused("no axis is as long as this Range")
    return step.call(Range(step.name("steps"), Length(0, size.axis, size.times)), *others, kind="int")


HANDLERS: dict[str, Callable[[Step], Sequence[Value]]] = {
    "Cast": _cast,
    "CastLike": _cast,
    "Concat": _concat,
    "ConstantOfShape": _constant_of_shape,
    "Dropout": _dropout,
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "Identity": _identity,
    "Pad": _pad,
    "Range": _range,
    "Reshape": _reshape,
    "Resize": _resize,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "Upsample": _resize,
}
