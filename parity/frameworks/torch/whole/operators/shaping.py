"""Axes: other shapes, other orders, broadcasting, padding."""

from __future__ import annotations

from parity.frameworks.torch.whole.operator_call import Call, Refused, operator
from parity.frameworks.torch.whole.values import Filled, Known, Stacked, Value
from parity.graph.operations import Flip, Pad


@operator("view", "reshape", "_unsafe_view", "flatten", "unflatten", "view_as", "reshape_as", "_reshape_alias", "ravel")
def reshape(call: Call) -> Value:
    """The same numbers in another shape."""
    if isinstance(call["self"], Filled):
        return call["self"]
    said = call.get("size", call.get("shape", ()))
    wanted = list(call.shape)
    # A number that is said is one, also where the trace computes the length anew from others.
    if len(said) == len(wanted):
        wanted = [own if isinstance(own, int) and own >= 0 else new for own, new in zip(said, wanted, strict=True)]
    return call.reshaped(call.wire("self"), call.shape_of("self"), wanted, call.name)


@operator("unsqueeze")
def unsqueeze(call: Call) -> Value:
    """A new axis of length one."""
    if isinstance(call["self"], Filled):
        return call["self"]
    return call.build.expand_dims(call.wire("self"), call.axis("dim", "self", 1), name=call.name)


@operator("squeeze")
def squeeze(call: Call) -> Value:
    """Without axes of length one."""
    value, shape = call["self"], call.shape_of("self")
    if isinstance(value, Filled):
        return value
    axes = call.axes("dim", "self") if call.get("dim") is not None else tuple(range(len(shape)))
    gone = [axis for axis in axes if shape[axis] == 1]
    if isinstance(value, Stacked) and gone == [0]:
        return value.wires[0]
    return call.build.squeeze(call.wire("self"), gone, name=call.name) if gone else value


@operator("permute", "transpose", "t", "swapaxes", "swapdims", "movedim", "numpy_T", "mT", "adjoint", "matrix_H")
def transpose(call: Call) -> Value:
    """The axes in another order."""
    if isinstance(call["self"], Filled):
        return call["self"]
    rank = call.rank("self")
    order = list(range(rank))
    if call.operator == "permute":
        order = [int(axis) % rank for axis in call["dims"]]
    elif call.operator == "movedim":
        order = _moved(call, rank)
    elif call.operator == "numpy_T":
        order.reverse()
    elif call.operator in ("mT", "adjoint", "matrix_H"):
        order[-2:] = order[:-3:-1]
    elif rank > 1:
        first, second = (0, 1) if call.operator == "t" else (int(call[name]) % rank for name in _names(call))
        order[first], order[second] = second, first
    if order == sorted(order):
        return call["self"]
    return call.build.transpose(call.wire("self"), order, name=call.name)


def _names(call: Call) -> tuple[str, str]:
    return ("axis0", "axis1") if "axis0" in call.given else ("dim0", "dim1")


def _moved(call: Call, rank: int) -> list[int]:
    start, end = (
        [int(axis) % rank for axis in (one if isinstance(one, (list, tuple)) else [one])]
        for one in (call["source"], call["destination"])
    )
    rest = iter(axis for axis in range(rank) if axis not in start)
    places = dict(zip(end, start, strict=True))
    return [places[axis] if axis in places else next(rest) for axis in range(rank)]


@operator("expand", "expand_as", "broadcast_to")
def expand(call: Call) -> Value:
    """Broadcast to a shape."""
    if isinstance(call["self"], Filled):
        return call["self"]
    if isinstance(call["self"], Known) and call["self"].tensor.ndim == 0:
        return Filled(call["self"].tensor.item()) if not call["self"].trained else _expanded(call)
    return _expanded(call)


def _expanded(call: Call) -> Value:
    return call.expanded(call.wire("self"), call.shape_of("self"), call.shape, call.name)


@operator("repeat", "tile")
def repeat(call: Call) -> Value:
    """The whole value several times along its axes."""
    build, value = call.build, call["self"]
    if isinstance(value, Filled):
        return value
    times = list(call["repeats" if "repeats" in call.given else "dims"])
    shape = call.shape_of("self")
    times = [1] * (len(shape) - len(times)) + times
    own = (1,) * (len(times) - len(shape)) + tuple(shape)
    x = call.wire("self")
    if len(own) > len(shape):
        x = build.expand_dims(x, tuple(range(len(own) - len(shape))))
    wide = tuple(new if length == 1 else length for new, length in zip(call.shape, own, strict=True))
    x = call.expanded(x, own, wide)
    for axis, (length, count) in enumerate(zip(own, times, strict=True)):
        if length == 1 or count == 1:
            continue
        if not isinstance(count, int):
            raise Refused("a repetition as often as a length says", "a number, or an axis of length one")
        x = build.concatenate([x] * count, axis)
    return x


@operator("repeat_interleave")
def repeat_interleave(call: Call) -> Value:
    """Every place of an axis several times."""
    if not isinstance(call.get("repeats"), int) or call.get("dim") is None:
        raise Refused("a repetition as often as values say", "one number, and an axis")
    return call.build.repeat(call.wire("self"), call.axis("dim", "self"), call["repeats"], name=call.name)


@operator("flip")
def flip(call: Call) -> Value:
    """Axes the other way round."""
    if isinstance(call["self"], Filled):
        return call["self"]
    return call.build.call(Flip(call.build.unique(call.name), call.axes("dims", "self")), call.wire("self"))


@operator("pad", "constant_pad_nd", "reflection_pad1d", "reflection_pad2d", "replication_pad1d", "replication_pad2d")
def pad(call: Call) -> Value:
    """More places around, the last axis first; a negative number cuts."""
    build, x, rank = call.build, call.wire("self"), call.rank("self")
    mode = call.get("mode", call.operator)
    modes = {
        "constant": "constant",
        "reflect": "reflect",
        "replicate": "edge",
        "reflection": "reflect",
        "replication": "edge",
    }
    own = modes.get(mode.split("_")[0])
    if own is None:
        raise Refused("a padding of another mode", "constant, reflect or replicate", mode)
    numbers = list(call["pad" if "pad" in call.given else "padding"])
    if not all(isinstance(number, int) for number in numbers):
        raise Refused("a padding that depends on a length", "numbers")
    pads = [(0, 0)] * rank
    for place in range(len(numbers) // 2):
        pads[rank - 1 - place] = numbers[2 * place], numbers[2 * place + 1]
    for axis, (before, after) in enumerate(pads):
        if before < 0 or after < 0:
            x = build.slice(x, axis, -before if before < 0 else None, after if after < 0 else None)
    pads = [(max(before, 0), max(after, 0)) for before, after in pads]
    if not any(map(any, pads)):
        return x
    value = float(call.get("value", 0.0)) if own == "constant" else 0.0
    return build.call(Pad(build.unique(call.name), tuple(pads), value, own), x)  # type: ignore[arg-type]


__all__ = ["reshape"]
