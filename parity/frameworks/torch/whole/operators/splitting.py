"""Values put together and taken apart."""

from __future__ import annotations

from typing import Any

from parity.frameworks.torch.whole.operator_call import Call, Refused, operator
from parity.frameworks.torch.whole.tracing import expressions
from parity.frameworks.torch.whole.values import Filled, Size, Stacked, Value

_FAR = 2**62


@operator("cat", "concat", "concatenate")
def concatenate(call: Call) -> Value:
    """One after the other; empty tensors of one axis are left out, as torch does."""
    pairs = [
        pair
        for pair in zip(call["tensors"], call.raw["tensors"], strict=True)
        if tuple(pair[1].meta["val"].shape) != (0,)
    ]
    axis = int(call.get("dim", 0)) % len(call.shape)
    if axis == 0 and all(isinstance(value, Stacked) for value, _ in pairs):
        return Stacked(tuple(wire for value, _ in pairs for wire in value.wires))
    wires = [call.as_wire(value, raw, call.kind) for value, raw in pairs]
    return call.build.concatenate(wires, axis, name=call.name) if len(wires) > 1 else wires[0]


@operator("stack")
def stack(call: Call) -> Value:
    """Along a new axis."""
    wires = [
        call.as_wire(value, raw, call.kind) for value, raw in zip(call["tensors"], call.raw["tensors"], strict=True)
    ]
    axis = int(call["dim"]) % len(call.shape)
    return Stacked(tuple(wires)) if axis == 0 else call.build.stack(wires, axis, name=call.name)


@operator(
    "split", "chunk", "tensor_split", "split_with_sizes", "unsafe_split", "unsafe_chunk", "unsafe_split_with_sizes"
)
def split(call: Call) -> Value:
    """Parts of an axis, one after the other."""
    axis = call.axis("dim", "self")
    parts = [expressions(one.shape)[axis] for one in call.node.meta["val"]]
    value = call["self"]
    if isinstance(value, Filled):
        return tuple(value for _ in parts)
    if not all(isinstance(part, int) for part in parts):
        raise Refused("parts whose lengths depend on a length", "parts of known lengths")
    if isinstance(value, Stacked) and axis == 0:
        found: list[Stacked] = []
        for part in parts:
            start = sum(len(one.wires) for one in found)
            found.append(Stacked(value.wires[start : start + part]))
        return tuple(found)
    x, start, whole = call.wire("self"), 0, call.shape_of("self")[axis]
    wires = []
    for part in parts:
        stop = start + part
        wires.append(call.build.slice(x, axis, start or None, None if stop == whole else stop, name=call.name))
        start = stop
    return tuple(wires)


@operator("unbind")
def unbind(call: Call) -> Value:
    """Every place of an axis by itself."""
    axis, value = call.axis("dim", "self"), call["self"]
    count = call.shape_of("self")[axis]
    if isinstance(value, Stacked) and axis == 0:
        return value.wires
    if not isinstance(count, int):
        raise Refused("every place of an axis whose length may differ, by itself", "an axis of a known length")
    if isinstance(value, Filled):
        return (value,) * count
    x = call.wire("self")
    return tuple(call.build.select(x, axis, place, name=call.name) for place in range(count))


@operator("select")
def select(call: Call) -> Value:
    """One place of an axis."""
    axis, value = call.axis("dim", "self"), call["self"]
    length = call.shape_of("self")[axis]
    index = _from_end(call["index"], length)
    if index is None:
        raise Refused("a place that depends on a length", "a number, or so many before the end", str(call["index"]))
    if isinstance(value, Filled):
        return value
    if isinstance(value, Stacked) and axis == 0:
        return value.wires[index]
    return call.build.select(call.wire("self"), axis, index, name=call.name)


@operator("slice", "narrow")
def sliced(call: Call) -> Value:
    """Part of an axis."""
    axis, value = call.axis("dim", "self"), call["self"]
    length = call.shape_of("self")[axis]
    start, stop, step = call.get("start", 0), call.get("end"), call.get("step", 1)
    if call.operator == "narrow":
        stop = _sum(start, call["length"])
    if isinstance(value, Filled):
        return value
    first, last = _from_end(start, length), None if _reaches(stop, length) else _from_end(stop, length)
    if first is not None and (last is not None or _reaches(stop, length)):
        if first == 0 and last is None and step == 1:
            return value
        if isinstance(value, Stacked) and axis == 0:
            return Stacked(value.wires[first:last:step])
        return call.build.slice(call.wire("self"), axis, first or None, last, step, name=call.name)
    if start == 0 and step == 1:
        return call.take(call.wire("self"), axis, call.steps(call.shape[axis]))
    if first is not None and step == 1:
        places = call.build.add(call.steps(call.shape[axis]), call.making.number(first, "i"))
        return call.take(call.wire("self"), axis, places)
    raise Refused("a slice that depends on a length", "numbers, or so many before the end", f"{start}:{stop}:{step}")


def _reaches(stop: Any, length: Any) -> bool:
    """Whether a slice goes to the end of the axis."""
    if stop is None:
        return True
    if isinstance(stop, Size):
        return bool(stop.expression == length)
    return bool(stop >= _FAR or (isinstance(length, int) and stop >= length))


def _from_end(place: Any, length: Any) -> int | None:
    """A place as a number, counted from the end where it follows the length; None where it is neither."""
    if isinstance(place, int):
        return place
    if isinstance(place, Size) and not isinstance(length, int):
        rest = place.expression - length
        return int(rest) if rest.is_Integer and rest < 0 else None
    return None


def _sum(left: Any, right: Any) -> Any:
    if isinstance(left, int) and isinstance(right, int):
        return left + right
    own = [one.expression if isinstance(one, Size) else one for one in (left, right)]
    return Size(own[0] + own[1])


@operator("roll")
def roll(call: Call) -> Value:
    """The axis turned round by some places."""
    shifts, axes = list(call["shifts"]), list(call["dims"])
    if not axes or not all(isinstance(shift, int) for shift in shifts):
        raise Refused("a roll over all axes or by a length", "numbers, and axes")
    build, x, shape = call.build, call.wire("self"), call.shape_of("self")
    for shift, given in zip(shifts, axes, strict=True):
        axis = given % len(shape)
        own = shift % shape[axis] if isinstance(shape[axis], int) else shift
        if own:
            x = build.concatenate([build.slice(x, axis, -own), build.slice(x, axis, None, -own)], axis, name=call.name)
    return x


__all__ = ["select", "sliced"]
