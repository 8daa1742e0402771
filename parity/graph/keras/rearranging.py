"""Operations of `keras.ops` that move, cut, join, repeat or fill.

Source: the classes of Keras 3 `keras/src/ops/numpy.py` and `core.py`.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from parity.graph.keras.call import Call, Outputs, Reader
from parity.graph.keras.operands import INERT, MANY, reading, tensors_of, wire_of
from parity.graph.operations import Expand, Flip, Length, Pad, normalized
from parity.network.keras.options import shown


def _reshape(call: Call) -> Outputs:
    x, shape = wire_of(call), call.config.get("newshape")
    sizes = [shape] if isinstance(shape, int) else shape
    if not isinstance(sizes, (list, tuple)) or not all(isinstance(one, int) or one is None for one in sizes):
        raise call.refused("a shape that is not kept exactly", "whole numbers", shown(shape))
    own = [Length(0, place) if one is None else one for place, one in enumerate(sizes)]
    return call.build.reshape(x, own, name=call.name)


def _transpose(call: Call) -> Outputs:
    x = wire_of(call)
    rank, axes = call.rank(x), call.config.get("axes")
    order = list(range(rank))[::-1] if axes is None else [normalized(axis, rank) for axis in axes]
    return call.build.transpose(x, order, name=call.name)


def _swapped(call: Call) -> Outputs:
    x = wire_of(call)
    rank = call.rank(x)
    first, second = (normalized(call.whole(key), rank) for key in ("axis1", "axis2"))
    order = list(range(rank))
    order[first], order[second] = second, first
    return call.build.transpose(x, order, name=call.name)


def _moved(call: Call) -> Outputs:
    x = wire_of(call)
    rank = call.rank(x)
    places = [call.config.get(key) for key in ("source", "destination")]
    one, other = ([value] if isinstance(value, int) else list(value or ()) for value in places)
    pairs = sorted((normalized(to, rank), normalized(axis, rank)) for axis, to in zip(one, other, strict=True))
    order = [axis for axis in range(rank) if axis not in {axis for _, axis in pairs}]
    for to, axis in pairs:
        order.insert(to, axis)
    return call.build.transpose(x, order, name=call.name)


def _expand_dims(call: Call) -> Outputs:
    x, axis = wire_of(call), call.config.get("axis", -1)
    found = call.build.expand_dims(x, axis, name=call.name)
    if axis == -1 or axis == call.rank(x):
        call.model.masks.widened[found] = x
    return found


def _squeeze(call: Call) -> Outputs:
    x, axis = wire_of(call), call.config.get("axis")
    if axis is None:
        raise call.refused("axis is not kept exactly", "an axis", "None", "say which axis is squeezed")
    return call.build.squeeze(x, axis, name=call.name)


def _concatenate(call: Call) -> Outputs:
    wires, axis, masks = tensors_of(call), call.whole("axis", -1), call.model.masks
    found = call.build.concatenate(wires, axis, name=call.name)
    if all(wire in masks.spread for wire in wires) and axis in (-1, call.rank(found) - 1):
        masks.spread[found] = [mask for wire in wires for mask in (masks.spread[wire] or [None])]
    return found


def _repeat(call: Call) -> Outputs:
    x, times, axis = wire_of(call), call.config.get("repeats"), call.config.get("axis")
    if not isinstance(times, int) or not isinstance(axis, int):
        raise call.refused("repeats that are not kept exactly", "a number and an axis", f"{times!r} on axis {axis!r}")
    return call.build.repeat(x, axis, times, name=call.name)


def _tile(call: Call) -> Outputs:
    x, times = wire_of(call), call.config.get("repeats")
    rank = call.rank(x)
    counts = [times] if isinstance(times, int) else list(times or ())
    if len(counts) > rank or not all(isinstance(count, int) and count > 0 for count in counts):
        raise call.refused("repeats that are not kept exactly", "a number for each axis", shown(times))
    for axis, count in enumerate([1] * (rank - len(counts)) + counts):
        if count > 1:
            x = call.build.concatenate([x] * count, axis)
    return x


def _split(call: Call) -> Outputs:
    build, x = call.build, wire_of(call)
    parts, axis = call.config.get("indices_or_sections"), call.whole("axis", 0)
    if isinstance(parts, int):
        length, stated = call.shape(x)[axis], call.stated("shape")
        known = isinstance(stated, (list, tuple)) and isinstance(stated[axis], int)
        if (build.is_word(length) and not known) or length % parts:
            raise call.refused("an axis that differs from call to call is split", "a known length", shown(parts))
        parts = [length // parts * place for place in range(1, parts)]
    if not isinstance(parts, (list, tuple)) or not all(isinstance(one, int) for one in parts):
        raise call.refused("a split that is not kept exactly", "whole numbers", shown(parts))
    ends = [0, *parts, None]
    return [
        build.slice(x, axis, start or None, stop, name=call.part(str(place)))
        for place, (start, stop) in enumerate(pairwise(ends))
    ]


def _unstack(call: Call) -> Outputs:
    x, axis = wire_of(call), call.whole("axis", 0)
    return [call.build.select(x, axis, place, name=call.part(str(place))) for place in range(call.outputs)]


def _filled(value: float) -> Reader:
    """`ones_like` and `zeros_like`."""

    def read(call: Call) -> Outputs:
        build, x = call.build, wire_of(call)
        is_bool = str(call.config.get("dtype")) == "bool"
        one = build.constant(np.full((1,) * call.rank(x), value, np.bool_ if is_bool else np.float32))
        sizes = tuple(Length(1, axis) for axis in range(call.rank(x)))
        found = build.call(Expand(build.unique(call.name), sizes), one, x)
        call.model.masks.spread[found] = [None] if value else []
        return found

    return Reader(read, {"dtype": INERT}, MANY)


def _flip(call: Call) -> Outputs:
    x, axis = wire_of(call), call.config.get("axis")
    axes = tuple(range(call.rank(x))) if axis is None else tuple(axis) if isinstance(axis, (list, tuple)) else (axis,)
    return call.build.call(Flip(call.build.unique(call.name), axes), x)


def _pad(call: Call) -> Outputs:
    x, width, mode = wire_of(call), call.config.get("pad_width"), call.config.get("mode", "constant")
    rank = call.rank(x)
    pairs = [(width, width)] * rank if isinstance(width, int) else [tuple(pair) for pair in width or ()]
    pairs = pairs * rank if len(pairs) == 1 else pairs
    if len(pairs) != rank or mode not in ("constant", "reflect", "edge"):
        raise call.refused("a padding that is not kept exactly", "constant, reflect or edge", shown(mode))
    return call.build.call(Pad(call.build.unique(call.name), tuple(pairs), 0.0, mode), x)


def _broadcast_to(call: Call) -> Outputs:
    x, shape = wire_of(call), call.config.get("shape")
    if not isinstance(shape, (list, tuple)) or not all(isinstance(one, int) for one in shape):
        raise call.refused("a shape that is not kept exactly", "whole numbers", shown(shape))
    return call.build.expand(x, list(shape), name=call.name)


def _ravel(call: Call) -> Outputs:
    return call.build.reshape(wire_of(call), [-1], name=call.name)


REARRANGING: dict[str, Reader] = {
    "Reshape": reading(_reshape, "newshape"),
    "Ravel": reading(_ravel),
    "Transpose": reading(_transpose, "axes"),
    "Swapaxes": reading(_swapped, "axis1", "axis2"),
    "Moveaxis": reading(_moved, "source", "destination"),
    "ExpandDims": reading(_expand_dims, "axis"),
    "Squeeze": reading(_squeeze, "axis"),
    "BroadcastTo": reading(_broadcast_to, "shape"),
    "Concatenate": reading(_concatenate, "axis"),
    "Stack": reading(lambda call: call.build.stack(tensors_of(call), call.whole("axis", 0), name=call.name), "axis"),
    "Repeat": reading(_repeat, "repeats", "axis"),
    "Tile": reading(_tile, "repeats"),
    "Flip": reading(_flip, "axis"),
    "Pad": reading(_pad, "pad_width", "mode"),
    "Split": reading(_split, "indices_or_sections", "axis"),
    "Unstack": reading(_unstack, "num", "axis"),
    "OnesLike": _filled(1.0),
    "ZerosLike": _filled(0.0),
}
"""The operations of this family, by class."""
