"""Element by element: arithmetic, comparisons, logic."""

from __future__ import annotations

from typing import Any

from parity.frameworks.torch.whole.operator_call import CASTS, Call, Refused, kind_of, operator
from parity.frameworks.torch.whole.values import Filled, Known, Value
from parity.graph import Wire

_UNARY = {
    "neg": "negative", "abs": "abs", "sqrt": "sqrt", "rsqrt": "rsqrt", "reciprocal": "reciprocal", "exp": "exp", "log": "log",
    "log1p": "log1p", "sin": "sin", "cos": "cos", "erf": "erf", "floor": "floor", "sign": "sign", "square": "square",
}  # fmt: skip
_BINARY = {"mul": "multiply", "multiply": "multiply", "maximum": "maximum", "minimum": "minimum"}
_COMPARISONS = {
    "eq": "equal", "ne": "not_equal", "gt": "greater", "ge": "greater_equal", "lt": "less", "le": "less_equal",
    "equal": "equal", "not_equal": "not_equal", "greater": "greater", "greater_equal": "greater_equal", "less": "less",
    "less_equal": "less_equal",
}  # fmt: skip
_LOGIC = {
    "logical_and": "logical_and", "logical_or": "logical_or", "bitwise_and": "logical_and", "bitwise_or": "logical_or",
    "__and__": "logical_and", "__or__": "logical_or", "__xor__": "not_equal", "bitwise_xor": "not_equal", "logical_xor": "not_equal",
}  # fmt: skip
_POWERS = {2.0: "square", 0.5: "sqrt", -0.5: "rsqrt", -1.0: "reciprocal"}


def operands(call: Call, *names: str, kind: str | None = None) -> list[Wire]:
    """Arguments as values of one kind of numbers: that of the result, or another."""
    wanted = kind or call.kind
    filled = [name for name in names if isinstance(call[name], Filled)]
    shapes = [call.shape_of(name) for name in names if name not in filled and hasattr(call.raw[name], "meta")]
    # A number does for a tensor that is filled with it, unless its shape is that of the result.
    enough = _broadcast([shape for shape in shapes if isinstance(shape, tuple)]) == call.shape
    return [
        call.making.number(call[name].number, wanted) if name in filled and enough else call.wire(name, wanted)
        for name in names
    ]


def _broadcast(shapes: list[tuple[Any, ...]]) -> tuple[Any, ...]:
    rank = max(map(len, shapes), default=0)
    wide = [(1,) * (rank - len(shape)) + shape for shape in shapes]
    return tuple(next((length for length in lengths if length != 1), 1) for lengths in zip(*wide, strict=True))


def common_kind(call: Call, *names: str) -> str:
    """The kind that numbers compared with each other take."""
    found = {_kind(call[name], call.raw.get(name)) for name in names}
    return "f" if "f" in found else "i" if "i" in found else "b"


def _kind(value: Any, raw: Any) -> str:
    if isinstance(value, bool):
        return "b"
    if isinstance(value, (int, float)):
        return "i" if isinstance(value, int) else "f"
    return kind_of(value.tensor if isinstance(value, Known) else raw.meta["val"])


@operator(*_UNARY)
def unary(call: Call) -> Value:
    """One argument."""
    name = "self" if "self" in call.given else "input"
    return call.build.elementwise(_UNARY[call.operator], *operands(call, name), name=call.name)


@operator("add", "sub", "subtract", "rsub")
def added(call: Call) -> Value:
    """self + alpha * other, self - alpha * other, other - alpha * self."""
    left, right = operands(call, "self", "other")
    if call.operator == "rsub":
        left, right = right, left
    alpha = call.get("alpha", 1)
    if alpha != 1:
        right = call.build.multiply(right, call.making.number(alpha, call.kind))
    function = "add" if call.operator == "add" else "subtract"
    if call.kind == "b":
        function = "logical_or"
    return call.build.elementwise(function, left, right, name=call.name)


@operator(*_BINARY)
def binary(call: Call) -> Value:
    """Two arguments."""
    function = "logical_and" if call.kind == "b" else _BINARY[call.operator]
    return call.build.elementwise(function, *operands(call, "self", "other"), name=call.name)


@operator("div", "divide", "true_divide")
def divided(call: Call) -> Value:
    """self / other."""
    mode = call.get("rounding_mode")
    if mode not in (None, "floor"):
        raise Refused("a division that cuts towards zero", "rounding_mode None or 'floor'", str(mode))
    if mode is None:
        return call.build.elementwise("divide", *operands(call, "self", "other"), name=call.name)
    return floor_divided(call)


@operator("floor_divide")
def floor_divided(call: Call) -> Value:
    """floor(self / other)."""
    quotient = call.build.elementwise("divide", *operands(call, "self", "other", kind="f"), name=call.name)
    floor = call.build.elementwise("floor", quotient)
    return floor if call.kind == "f" else call.build.cast(floor, CASTS[call.kind])


@operator("pow")
def power(call: Call) -> Value:
    """self to the power of exponent."""
    exponent = call["exponent"]
    if isinstance(exponent, (int, float)) and float(exponent) in _POWERS and (call.kind == "f" or exponent == 2):
        return call.build.elementwise(_POWERS[float(exponent)], *operands(call, "self"), name=call.name)
    return call.build.elementwise("power", *operands(call, "self", "exponent"), name=call.name)


@operator(*_COMPARISONS)
def compared(call: Call) -> Value:
    """Truth values."""
    kind = common_kind(call, "self", "other")
    return call.build.elementwise(
        _COMPARISONS[call.operator], *operands(call, "self", "other", kind=kind), name=call.name
    )


@operator(*_LOGIC)
def logic(call: Call) -> Value:
    """Of truth values; the bits of integers are not touched."""
    bits = not call.operator.startswith("logical") and common_kind(call, "self", "other") != "b"
    if bits:
        raise Refused("an operation on the bits of integers", "truth values")
    return call.build.elementwise(_LOGIC[call.operator], *operands(call, "self", "other", kind="b"), name=call.name)


@operator("logical_not", "bitwise_not")
def negated(call: Call) -> Value:
    """Not."""
    if call.operator == "bitwise_not" and call.kind != "b":
        raise Refused("an operation on the bits of integers", "truth values")
    return call.build.elementwise("logical_not", *operands(call, "self", kind="b"), name=call.name)


@operator("where")
def where(call: Call) -> Value:
    """One or the other."""
    return call.build.elementwise(
        "where", call.wire("condition", "b"), *operands(call, "self", "other"), name=call.name
    )


@operator("masked_fill")
def masked_fill(call: Call) -> Value:
    """A number where a mask says so."""
    value, x = operands(call, "value", "self")
    return call.build.elementwise("where", call.wire("mask", "b"), value, x, name=call.name)


@operator("clamp", "clip", "clamp_min", "clamp_max")
def clamp(call: Call) -> Value:
    """Between two bounds, either of which may be left out."""
    (x,) = operands(call, "self")
    bounds = [
        (function, name)
        for function, name in (("maximum", "min"), ("minimum", "max"))
        if call.given.get(name) is not None
    ]
    for position, (function, name) in enumerate(bounds):
        last = position == len(bounds) - 1
        x = call.build.elementwise(function, x, *operands(call, name), name=call.name if last else None)
    return x


@operator("lerp")
def lerp(call: Call) -> Value:
    """self + weight * (end - self)."""
    left, right, weight = operands(call, "self", "end", "weight")
    return call.build.add(left, call.build.multiply(weight, call.build.subtract(right, left)), name=call.name)


@operator("addcmul", "addcdiv")
def added_product(call: Call) -> Value:
    """self + value * tensor1 * tensor2, or / tensor2."""
    base, first, second = operands(call, "self", "tensor1", "tensor2")
    build = call.build
    product = build.multiply(first, second) if call.operator == "addcmul" else build.divide(first, second)
    if call.get("value", 1) != 1:
        product = build.multiply(product, call.making.number(float(call["value"])))
    return build.add(base, product, name=call.name)


@operator(
    "to",
    "_to_copy",
    "type_as",
    "float",
    "contiguous",
    "clone",
    "detach",
    "alias",
    "lift_fresh_copy",
    "lift_fresh",
    "copy",
)
def same(call: Call) -> Value:
    """The same numbers, perhaps as another type."""
    if call.operator == "copy":
        if isinstance(call["src"], Filled):
            return Filled(call["src"].number)
        raw = call.raw["src"]
        x = call.wire("src", call.kind)
        return call.expanded(x, call.shape_of("src") if hasattr(raw, "meta") else (), call.shape)
    value = call["self"]
    if isinstance(value, Wire):
        meta, new = call.meta("self"), call.node.meta["val"]
        if meta.is_floating_point() and new.is_floating_point() and new.dtype.itemsize < meta.dtype.itemsize:
            raise Refused("numbers that are rounded on purpose", "one type throughout", f"{meta.dtype} to {new.dtype}")
    if not isinstance(value, Wire) or kind_of(call.meta("self")) == call.kind:
        if isinstance(value, Filled):
            return Filled({"f": float, "i": int, "b": bool}[call.kind](value.number))
        return value
    return call.build.cast(value, CASTS[call.kind])


__all__ = ["common_kind", "operands"]
