"""Axes summed up, averaged, or searched for their extremes."""

from __future__ import annotations

from parity.frameworks.onnx.whole.writing_values import Call, Kind, Order
from parity.graph.operations import Reduction, normalized

_OPS = {
    "sum": "ReduceSum",
    "mean": "ReduceMean",
    "max": "ReduceMax",
    "min": "ReduceMin",
    "prod": "ReduceProd",
    "logsumexp": "ReduceLogSumExp",
    "norm": "ReduceL2",
}
_OF_FLOATS = ("mean", "logsumexp", "norm")
_OF_TRUTH = {"max": False, "min": True, "any": False, "all": True}
"""What asks whether any is True, and what whether every one is."""


def write_reduction(call: Call) -> None:
    """One number out of all places of some axes."""
    operation = call.operation
    assert isinstance(operation, Reduction)
    rank, name = len(call.x.order), operation.function
    order = call.x.usual()
    gone = [normalized(axis, rank) for axis in operation.axes]
    places = sorted(order.index(axis) for axis in gone)
    if not gone and name != "argmax":
        call.hand_on(call.x)
        return
    result = order if operation.keepdims else _left(order, gone)
    kind = call.x.kind
    if name in ("any", "all") or (kind == "bool" and name in _OF_TRUTH):
        x = call.taken(call.x, "bool", order)
        found, kind = call.any_of(x, places, operation.keepdims, _OF_TRUTH[name]), "bool"
    elif name == "argmax":
        x = call.taken(call.x, "int" if kind == "bool" else kind, order)
        options = {"axis": places[0], "keepdims": int(operation.keepdims)}
        found, kind = call.op("ArgMax", x, what="argmax", **options), "int"
    else:
        wanted: Kind = "float" if name in _OF_FLOATS else "int" if kind == "bool" else kind
        x = call.taken(call.x, wanted, order)
        found, kind = call.reduced(_OPS[name], x, places, operation.keepdims, name), wanted
    call.give(found, kind, result)


def _left(order: Order, gone: list[int]) -> Order:
    """The order of the axes that are left.

    Example:
        >>> _left((0, 3, 1, 2), [1])
        (0, 2, 1)
    """
    left = [axis for axis in order if axis not in gone]
    ranked = sorted(left)
    return tuple(ranked.index(axis) for axis in left)


__all__ = ["write_reduction"]
