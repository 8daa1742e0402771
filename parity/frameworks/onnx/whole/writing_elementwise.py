"""Functions element by element, in whatever order of axes their inputs stand."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from parity.errors import UnsupportedError
from parity.frameworks.onnx.functions import ROWS, composed_function
from parity.frameworks.onnx.nodes import DOUBLE, FLOAT
from parity.frameworks.onnx.whole.writing_values import Call, Held, Kind, Order, together
from parity.graph.operations import Activation, Cast, Elementwise, Softmax

_ONE: dict[str, str] = {
    "sqrt": "Sqrt",
    "reciprocal": "Reciprocal",
    "exp": "Exp",
    "log": "Log",
    "sin": "Sin",
    "cos": "Cos",
    "erf": "Erf",
}
"""Functions of one float that are an operator."""

_KEEPING = {"negative": "Neg", "abs": "Abs", "sign": "Sign", "floor": "Floor"}
"""Functions that give integers for integers."""

_MANY = {"add": "Add", "multiply": "Mul", "maximum": "Max", "minimum": "Min", "subtract": "Sub", "power": "Pow"}
_OF_TRUTH = {"add": "Or", "maximum": "Or", "multiply": "And", "minimum": "And"}
"""What NumPy's functions are for truth values."""

_COMPARISONS = {
    "equal": ("Equal", False),
    "not_equal": ("Equal", True),
    "greater": ("Greater", False),
    "greater_equal": ("GreaterOrEqual", False),
    "less": ("Less", False),
    "less_equal": ("LessOrEqual", False),
}
"""The operator, and whether its answer is turned round."""


def write_elementwise(call: Call) -> None:
    """A function of `ELEMENTWISE`."""
    operation = call.operation
    assert isinstance(operation, Elementwise)
    name, order = operation.function, _shared_order(call.present, call.rank)
    if name in _ONE:
        found, kind = _one(call, name, order), "float"
    elif name in _COMPARISONS:
        found, kind = _compared(call, name, order), "bool"
    elif name in _MANY:
        found, kind = _many(call, name, order)
    elif name in _OTHERS:
        found, kind = _OTHERS[name](call, order)
    else:
        raise UnsupportedError("this function is not written to ONNX", call.where, got=name)
    call.give(found, kind, order)  # type: ignore[arg-type]


def _shared_order(inputs: Sequence[Held], rank: int) -> Order:
    """The order of axes to compute in: one in which all inputs stand, where that is not their own; numbers stand in every one."""
    own = tuple(range(rank))
    for held in inputs:
        order = held.usual()
        if len(order) == rank and order != own and all(_stands(one, order) for one in inputs):
            return order
    return own


def _stands(held: Held, order: Order) -> bool:
    return not held.order or (len(held.order) == len(order) and held.there(order))


def _tensors(call: Call, kind: Kind, order: Order) -> list[str]:
    """The inputs as one kind; the order is that of the result, so of all inputs that have as many axes where it is not their own."""
    own = order == tuple(range(len(order)))
    return [call.taken(held, kind, None if own or not held.order else order) for held in call.present]


def _one(call: Call, name: str, order: Order) -> str:
    return call.op(_ONE[name], *_tensors(call, "float", order), what=name)


def _kept(call: Call, name: str, order: Order) -> tuple[str, Kind]:
    kind = call.x.kind
    wanted: Kind = "int" if kind == "bool" else kind
    (x,) = _tensors(call, wanted, order)
    found = x if name == "floor" and wanted == "int" else call.op(_KEEPING[name], x, what=name)
    return call.cast(found, wanted, kind), kind


def _compared(call: Call, name: str, order: Order) -> str:
    kind = together([held.kind for held in call.present])
    op, turned = _COMPARISONS[name]
    wanted: Kind = "int" if kind == "bool" and op != "Equal" else kind
    found = call.op(op, *_tensors(call, wanted, order), what=name)
    return call.op("Not", found) if turned else found


def _many(call: Call, name: str, order: Order) -> tuple[str, Kind]:
    kind = together([held.kind for held in call.present])
    op = _MANY[name]
    if kind == "bool" and name in _OF_TRUTH:
        op = _OF_TRUTH[name]
    elif kind == "bool":
        raise UnsupportedError(f"'{name}' of truth values is not written", call.where, "numbers", "truth values")
    return _chained(call, op, _tensors(call, kind, order), name), kind


def _chained(call: Call, op: str, tensors: list[str], what: str) -> str:
    """All of them, from the left."""
    found = tensors[0]
    for tensor in tensors[1:]:
        found = call.op(op, found, tensor, what=what)
    return found if len(tensors) > 1 else call.op("Identity", found)


def _logic(op: str) -> Callable[[Call, Order], tuple[str, Kind]]:
    return lambda call, order: (_chained(call, op, _tensors(call, "bool", order), op.lower()), "bool")


def _average(call: Call, order: Order) -> tuple[str, Kind]:
    total = _chained(call, "Add", _tensors(call, "float", order), "sum")
    return call.op("Div", total, call.number("count", float(len(call.present))), what="average"), "float"


def _square(call: Call, order: Order) -> tuple[str, Kind]:
    kind = call.x.kind
    (x,) = _tensors(call, kind, order)
    return call.op("And" if kind == "bool" else "Mul", x, x, what="square"), kind


def _log1p(call: Call, order: Order) -> tuple[str, Kind]:
    """log(1 + x) in float64, where the sum keeps the digits of a small x."""
    (x,) = _tensors(call, "float", order)
    a, name = call.assembly, call.name
    precise = x if a.real == DOUBLE else a.cast(x, DOUBLE, f"{name}.float64")
    one = a.constant(f"{name}.one", np.asarray(1.0))
    found = call.op("Log", call.op("Add", precise, one, what="sum"), what="log1p")
    return (found if a.real == DOUBLE else a.cast(found, FLOAT, f"{name}.float32")), "float"


def _where(call: Call, order: Order) -> tuple[str, Kind]:
    condition, *branches = call.present
    kind = together([held.kind for held in branches])
    own = order == tuple(range(len(order)))
    at = [None if own or not held.order else order for held in call.present]
    tensors = [call.taken(held, kind, one) for held, one in zip(branches, at[1:], strict=True)]
    return call.op("Where", call.taken(condition, "bool", at[0]), *tensors), kind


_OTHERS: dict[str, Callable[[Call, Order], tuple[str, Kind]]] = {
    "logical_and": _logic("And"),
    "logical_or": _logic("Or"),
    "logical_not": lambda call, order: (call.op("Not", *_tensors(call, "bool", order)), "bool"),
    "average": _average,
    "divide": lambda call, order: (call.op("Div", *_tensors(call, "float", order), what="divide"), "float"),
    "square": _square,
    "rsqrt": lambda call, order: (call.op("Reciprocal", _root(call, order), what="rsqrt"), "float"),
    "log1p": _log1p,
    "where": _where,
    "negative": lambda call, order: _kept(call, "negative", order),
    "abs": lambda call, order: _kept(call, "abs", order),
    "sign": lambda call, order: _kept(call, "sign", order),
    "floor": lambda call, order: _kept(call, "floor", order),
}


def _root(call: Call, order: Order) -> str:
    return call.op("Sqrt", *_tensors(call, "float", order))


def write_activation(call: Call) -> None:
    """A function of `parity.functions.FUNCTIONS` with its parameters."""
    operation = call.operation
    assert isinstance(operation, Activation)
    if operation.function.name not in ROWS:
        raise UnsupportedError("this function is not written to ONNX", call.where, got=str(operation.function))
    order = call.x.usual()
    x = call.taken(call.x, "float", order)
    if operation.function.name == "leaky_relu" and call.assembly.real == DOUBLE:
        call.give(_leaky(call, x, operation.function.alpha or 0.0), order=order)
        return
    call.give(composed_function(call.assembly, operation.function, x, call.name), order=order)


def _leaky(call: Call, x: str, alpha: float) -> str:
    """LeakyRelu in float64: the operator has its alpha in float32."""
    below = call.op("Mul", x, call.number("alpha", alpha), what="below")
    is_below = call.op("Less", x, call.number("zero", 0.0), what="is_below")
    return call.op("Where", is_below, below, x, what="output")


def write_softmax(call: Call) -> None:
    """Softmax or LogSoftmax along an axis."""
    operation = call.operation
    assert isinstance(operation, Softmax)
    order = call.x.usual()
    axis = order.index(operation.axis % len(order))
    x = call.taken(call.x, "float", order)
    call.give(call.op("LogSoftmax" if operation.log else "Softmax", x, what="output", axis=axis), order=order)


def write_cast(call: Call) -> None:
    """The numbers as another type: towards zero to integers, whether they are not zero to truth values."""
    operation = call.operation
    assert isinstance(operation, Cast)
    kinds: dict[str, Kind] = {"float32": "float", "int64": "int", "bool": "bool"}
    order, kind = call.x.usual(), kinds[operation.dtype]
    if kind == call.x.kind:
        call.hand_on(call.x)
    else:
        call.give(call.taken(call.x, kind, order), kind, order)


__all__ = ["write_activation", "write_cast", "write_elementwise", "write_softmax"]
