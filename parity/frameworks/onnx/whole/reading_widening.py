"""Operators that repeat numbers, or make them of lengths.

Source: the ONNX operator specification of each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from parity.frameworks.onnx.constants import Constant
from parity.frameworks.onnx.whole.reading_step import Step, same_length
from parity.frameworks.onnx.whole.reading_values import Sizes, Sym, Value
from parity.graph.operations import Concatenate, Expand, Length, Range, Repeat, Size


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


def _triangle(step: Step) -> Sequence[Value]:
    """The numbers on one side of a diagonal, and zeros on the other: torch's `triu` and `tril`."""
    x, kind = step.value(0), step.kind(step.value(0))
    if step.rank(x) < 2:
        raise step.refused("a triangle of a value without rows and columns", "2 axes or more", str(step.rank(x)))
    diagonal = step.constant(1, "the diagonal")
    rows, columns = (positions(step, length) for length in step.shape(x)[-2:])
    shifted = step.expanded(rows, [1])
    if diagonal is not None and diagonal.any():
        shifted = step.elementwise("add", shifted, Constant.of_array(diagonal.astype(np.int64).reshape(()), ""))
    kept = step.elementwise("greater_equal" if step.integer("upper", 1) else "less_equal", columns, shifted)
    if kind == "bool":
        return [step.elementwise("logical_and", x, kept, source=True)]
    zero = Constant.of_array(np.zeros((), np.float32 if kind == "float" else np.int64), "")
    return [step.elementwise("where", kept, x, zero, source=True)]


HANDLERS: dict[str, Callable[[Step], Sequence[Value]]] = {
    "ConstantOfShape": _constant_of_shape,
    "Expand": _expand,
    "Range": _range,
    "Resize": _resize,
    "Tile": _tile,
    "Trilu": _triangle,
    "Upsample": _resize,
}
