"""Tensors made of a number or of a range, as long as axes of others."""

from __future__ import annotations

from typing import Any

from parity.frameworks.torch.whole.operator_call import CASTS, Call, Refused, operator
from parity.frameworks.torch.whole.values import Filled, Known, Order, Size, Value
from parity.graph import Wire

_ZERO = ("zeros", "zeros_like", "new_zeros", "zero")
_ONE = ("ones", "ones_like", "new_ones")
_CASTS: dict[str, Any] = {"f": float, "i": int, "b": bool}


@operator(*_ZERO, *_ONE)
def filled(call: Call) -> Value:
    """Zeros or ones."""
    return Filled(_CASTS[call.kind](0 if call.operator in _ZERO else 1))


@operator("full", "full_like", "new_full", "fill", "scalar_tensor")
def full(call: Call) -> Value:
    """A number everywhere."""
    name = "fill_value" if "fill_value" in call.given else "value" if "value" in call.given else "s"
    value = call[name]
    value = value.tensor.item() if isinstance(value, Known) and value.tensor.ndim == 0 else value
    if not isinstance(value, (int, float)):
        raise Refused("a tensor filled with a number that is computed", "a number")
    return Filled(_CASTS[call.kind](value))


@operator("empty", "empty_like", "new_empty")
def empty(call: Call) -> Value:
    """Numbers that are written later; zeros until then."""
    first = call.given.get("self")
    return first if isinstance(first, Order) else Filled(_CASTS[call.kind](0))


@operator("arange")
def arange(call: Call) -> Value:
    """start, start + step, ..., as many as the trace says."""
    start, step = call.get("start", 0), call.get("step", 1)
    if isinstance(start, Size) or isinstance(step, Size):
        raise Refused("a range that starts at a length", "a start that is known")
    (length,) = call.shape
    found = call.steps(length)
    if step != 1:
        found = call.build.multiply(found, call.making.number(step, "i"))
    if start != 0:
        found = call.build.add(found, call.making.number(start, "i"))
    return found if call.kind == "i" else call.build.cast(found, CASTS[call.kind])


@operator("tril", "triu")
def triangle(call: Call) -> Value:
    """The numbers on one side of a diagonal, zeros on the other."""
    build, shape, value = call.build, call.shape, call["self"]
    rows, columns = call.steps(shape[-2]), call.steps(shape[-1])
    diagonal = int(call["diagonal"])
    moved = build.add(rows, call.making.number(diagonal, "i")) if diagonal else rows
    function = "less_equal" if call.operator == "tril" else "greater_equal"
    kept = build.elementwise(function, columns, build.expand_dims(moved, 1), name=call.name)
    if call.kind == "b" and isinstance(value, Filled):
        return kept if value.number else Filled(False)
    x: Wire = call.making.number(value.number, call.kind) if isinstance(value, Filled) else call.wire("self")
    return build.elementwise("where", kept, x, call.making.number(_CASTS[call.kind](0), call.kind))


__all__ = ["arange"]
