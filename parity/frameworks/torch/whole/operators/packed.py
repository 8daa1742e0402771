"""`pack_padded_sequence` and `pad_packed_sequence`: a mask, and no reordering of the samples."""

from __future__ import annotations

from parity.frameworks.torch.whole.operator_call import Call, Refused, operator
from parity.frameworks.torch.whole.values import Known, Order, Ordered, Packed, Value
from parity.graph import Wire

CUT = "without total_length, pad_packed_sequence cuts the sequence to its longest sample: one sample has to fill the time axis"


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
    packed = Packed(x, mask, counts, ordered)
    return packed, packed


@operator("unpack")
def unpack(call: Call) -> Value:
    """The padded sequence again, in the layout that is asked for."""
    packed, build = call["input"], call.build
    if not isinstance(packed, Packed):
        raise Refused("a packed sequence made of something else", "the output of a recurrent layer")
    build.details["packed"] = CUT
    x = packed.x
    if call["value"]:
        wide = build.expand_dims(packed.mask, 2)
        x = build.elementwise("where", wide, x, call.making.number(float(call["value"])))
    if not call["batch_first"]:
        x = build.transpose(x, (1, 0, 2))
    if packed.ordered:
        return Ordered(x, 0 if call["batch_first"] else 1), Ordered(packed.lengths, 0)
    return x, packed.lengths


__all__ = ["reordered"]
