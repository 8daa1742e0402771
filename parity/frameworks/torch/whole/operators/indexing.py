"""Places of an axis by number: index, gather."""

from __future__ import annotations

from typing import Any

import torch

from parity.frameworks.torch.whole.operator_call import Call, Refused, operator
from parity.frameworks.torch.whole.operators.packed import reordered
from parity.frameworks.torch.whole.tracing import expressions
from parity.frameworks.torch.whole.values import Order, Size, Value
from parity.graph import Wire


@operator("index")
def index(call: Call) -> Value:
    """x[places], x[:, places], and x[arange(batch), places] of one place in every sample."""
    indices = list(call["indices"])
    raw = list(call.raw["indices"])
    named = [place for place, one in enumerate(indices) if one is not None]
    if len(named) == 1 and isinstance(indices[named[0]], Order):
        return reordered(call["self"], indices[named[0]], named[0])
    metas = [raw[place].meta["val"] for place in named]
    if any(meta.dtype in (torch.bool, torch.uint8) for meta in metas):
        raise Refused("a choice by truth values, of a length that nobody knows", "torch.where with the mask")
    if len(named) == 1:
        places = call.as_wire(indices[named[0]], raw[named[0]], "i")
        return call.take(call.wire("self"), named[0], places)
    lengths = [expressions(meta.shape) for meta in metas]
    shape = call.shape_of("self")
    if named == [0, 1] and lengths[0] == lengths[1] == (shape[0],) and _counts(raw[0]):
        places = call.as_wire(indices[1], raw[1], "i")
        return _one_of_each(call, places, 1)
    raise Refused("an indexing of several axes", "one axis, or x[torch.arange(batch), places]")


def _counts(node: Any) -> bool:
    """Whether a node of the trace is 0, 1, 2, ..."""
    while str(node.target).startswith(("aten.to.", "aten._to_copy")):
        node = node.args[0]
    name = str(node.target)
    start = 0 if not name.endswith(("start", "start_step")) else node.args[0]
    step = node.args[2] if name.endswith("start_step") and len(node.args) > 2 else 1
    return name.startswith("aten.arange") and start == 0 and step == 1


@operator("gather")
def gather(call: Call) -> Value:
    """One place of an axis for every sample: an index that is broadcast over the axes behind."""
    axis, shape = call.axis("dim", "self"), call.shape_of("self")
    wanted = call.shape_of("index")
    if wanted[axis] != 1:
        raise Refused("gather of several places", "one place of the axis")
    build = call.build
    places = call.wire("index", "i")
    mask = build.elementwise("equal", _along(call, axis, len(shape)), places)
    chosen = build.elementwise("where", mask, call.wire("self"), call.making.number(0, call.kind))
    if any(wanted[other] != shape[other] for other in range(len(shape)) if other != axis):
        raise Refused("gather from a part of the other axes", "an index as long as they are")
    return build.sum(chosen, axis, keepdims=True, name=call.name)


def _along(call: Call, axis: int, rank: int) -> Wire:
    """0, 1, 2, ... along one of several axes."""
    steps = call.steps(call.shape_of("self")[axis])
    return call.build.expand_dims(steps, tuple(range(1, rank - axis))) if rank - axis > 1 else steps


def _one_of_each(call: Call, places: Wire, axis: int) -> Value:
    """For every sample the numbers at its own place; a negative one counts from the end."""
    build, shape = call.build, call.shape_of("self")
    steps, rank = call.steps(shape[axis]), len(shape)
    making, length = call.making, shape[axis]
    count = making.number(length, "i") if isinstance(length, int) else call.length(Size(length), "i")
    negative = build.elementwise("less", places, making.number(0, "i"))
    counted = build.elementwise("where", negative, build.add(places, count), places)
    mask = build.elementwise("equal", steps, build.expand_dims(counted, 1))
    wide = build.expand_dims(mask, tuple(range(2, rank))) if rank > 2 else mask
    chosen = build.elementwise("where", wide, call.wire("self"), call.making.number(0, call.kind))
    return build.sum(chosen, axis, name=call.name)


__all__ = ["index"]
