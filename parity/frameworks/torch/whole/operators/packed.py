"""`pack_padded_sequence` and `pad_packed_sequence`: a mask, and no reordering of the samples."""

from __future__ import annotations

import math

from parity.frameworks.torch.whole.operator_call import Call, Refused, operator
from parity.frameworks.torch.whole.values import Known, Order, Ordered, Packed, Value
from parity.graph import Wire
from parity.graph.operations import Take

CUT = (
    "without total_length, pad_packed_sequence cuts the sequence to its longest sample: one sample has to fill the time axis; "
    "where none does, a step is taken from beyond its end, which is an error, or NaN where the device does not raise it"
)
_BEYOND = 2**30


@operator("sort", "argsort")
def sort(call: Call) -> Value:
    """The order of samples by length, and its inverse; sorting for any other purpose is not converted."""
    value = call["self"]
    if isinstance(value, Order) and not value.inverse and not call["descending"]:
        back = Order(value.lengths, inverse=True)
        return back if call.operator == "argsort" else (None, back)
    if not isinstance(value, Wire) or call.rank("self") != 1 or not call["descending"]:
        raise Refused("sorting", "the sorting of lengths inside pack_padded_sequence")
    return Order(value) if call.operator == "argsort" else (Ordered(value, 0), Order(value))


@operator("index_select")
def index_select(call: Call) -> Value:
    """Samples put into the order of their lengths, or back; else places of an axis."""
    value, index, axis = call["self"], call["index"], call.axis("dim", "self")
    if isinstance(index, Order):
        return reordered(value, index, axis)
    return call.take(call.wire("self"), axis, call.wire("index", "i"))


@operator("scatter")
def scatter(call: Call) -> Value:
    """The inverse of an order, as `torch.nn.utils.rnn.invert_permutation` makes it."""
    index = call["index"]
    if isinstance(index, Order) and not index.inverse:
        return Order(index.lengths, inverse=True)
    raise Refused("scatter", "torch.where with a mask")


def reordered(value: Value, order: Order, axis: int) -> Value:
    """A value in the order of lengths, or one in that order as it was."""
    return _back(value, axis) if order.inverse else Ordered(value, axis)


def _back(value: Value, axis: int) -> Value:
    if isinstance(value, Ordered) and value.axis == axis:
        return value.value
    raise Refused("an order of samples applied to a value that is not in the order of lengths")


@operator("pack")
def pack(call: Call) -> Value:
    """Which steps are valid."""
    build, value, lengths = call.build, call["input"], call["lengths"]
    ordered = isinstance(value, Ordered)
    x = call.as_wire(value.value if isinstance(value, Ordered) else value, call.raw["input"])
    shape = call.shape_of("input")
    counts = call.as_wire(lengths.value if isinstance(lengths, Ordered) else lengths, call.raw["lengths"])
    if isinstance(lengths, Known):
        raise Refused("lengths that are the same at every call", "lengths as an input of the model")
    if not call["batch_first"]:
        x = build.transpose(x, (1, 0, *range(2, len(shape))))
    time = shape[1] if call["batch_first"] else shape[0]
    mask = build.elementwise("less", call.steps(time), build.expand_dims(counts, 1), name="mask")
    packed = Packed(x, mask, counts, time, ordered)
    return packed, packed


@operator("unpack")
def unpack(call: Call) -> Value:
    """The padded sequence again, in the layout that is asked for."""
    packed, build = call["input"], call.build
    if not isinstance(packed, Packed):
        raise Refused("a packed sequence made of something else", "the output of a recurrent layer")
    if call.shape[1 if call["batch_first"] else 0] != packed.steps:
        raise Refused("a total_length that is not the length of the padded input", "total_length=x.size(1), or none")
    x = packed.x
    if call["value"]:
        wide = build.expand_dims(packed.mask, 2)
        x = build.elementwise("where", wide, x, call.making.number(float(call["value"])))
    if call["cut"]:
        build.details["packed"] = CUT
        x = _uncut(call, x, packed)
    if not call["batch_first"]:
        x = build.transpose(x, (1, 0, 2))
    if packed.ordered:
        return Ordered(x, 0 if call["batch_first"] else 1), Ordered(packed.lengths, 0)
    return x, packed.lengths


def _uncut(call: Call, x: Wire, packed: Packed) -> Wire:
    """The padded sequence where its longest sample fills the time axis.

    No operation has a length that its values decide, so the steps that torch cuts off are taken from a place that is not there. Some
    devices give zeros for that: these steps are made NaN as well.
    """
    build, making = call.build, call.making
    reached = build.reduce("any", packed.mask, 0, name="reached")
    away = build.cast(build.elementwise("logical_not", reached), "int64")
    away = build.elementwise("multiply", away, making.number(_BEYOND, "i"))
    places = build.elementwise("add", call.steps(packed.steps), away)
    taken = build.call(Take(build.unique("longest_fills_time"), 1), x, places)
    return build.elementwise("where", build.expand_dims(reached, 1), taken, making.number(math.nan))


__all__ = ["reordered"]
