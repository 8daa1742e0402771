"""Axes summed up, averaged, or searched for their extremes."""

from __future__ import annotations

import math

from parity.frameworks.torch.whole.operator_call import Call, Refused, operator
from parity.frameworks.torch.whole.values import Value
from parity.graph import Wire
from parity.graph.operations import Reducing

_PLAIN: dict[str, Reducing] = {
    "sum": "sum", "mean": "mean", "amax": "max", "amin": "min", "any": "any", "all": "all", "logsumexp": "logsumexp",
}  # fmt: skip


@operator(*_PLAIN)
def reduced(call: Call) -> Value:
    """Over one, several or all axes."""
    function = _PLAIN[call.operator]
    kind = {"any": "b", "all": "b"}.get(function) or call.kind
    return _reduced(call, function, call.wire("self", kind))


def _reduced(call: Call, function: Reducing, x: Wire) -> Wire:
    axes = call.axes("dim", "self")
    if not axes:
        return x
    return call.build.reduce(function, x, axes, bool(call.get("keepdim", False)), name=call.name)


@operator("max", "min", "prod")
def extreme(call: Call) -> Value:
    """The largest or smallest of all, of an axis (with its place), or of two values."""
    build, function = call.build, call.operator
    if "other" in call.given:
        return build.elementwise(
            "maximum" if function == "max" else "minimum", call.wire("self"), call.wire("other"), name=call.name
        )
    x = call.wire("self", call.kind)
    if call.get("dim") is None:
        return _reduced(call, function, x)  # type: ignore[arg-type]
    values = _reduced(call, function, x)  # type: ignore[arg-type]
    if function == "prod":
        return values
    turned = x if function == "max" else build.elementwise("negative", x)
    places = build.reduce("argmax", turned, call.axes("dim", "self"), bool(call.get("keepdim", False)))
    return values, places


@operator("argmax", "argmin")
def place(call: Call) -> Value:
    """The first place of the largest or smallest."""
    build, x = call.build, call.wire("self")
    if call.operator == "argmin":
        x = build.elementwise("negative", x)
    if call.get("dim") is None:
        if call.get("keepdim"):
            raise Refused("the place in all axes with keepdim", "an axis")
        return build.reduce("argmax", build.reshape(x, (-1,)), 0, name=call.name)
    return build.reduce("argmax", x, call.axes("dim", "self"), bool(call["keepdim"]), name=call.name)


@operator("norm", "linalg_vector_norm")
def norm(call: Call) -> Value:
    """Of order 2, 1 or infinity."""
    order = float(call.get("p" if "p" in call.given else "ord", 2))
    x = call.wire("self")
    if order == 2:
        return _reduced(call, "norm", x)
    if order in (1.0, math.inf):
        return _reduced(call, "sum" if order == 1 else "max", call.build.elementwise("abs", x))
    raise Refused("a norm of another order", "2, 1 or infinity", str(order))


@operator("var", "std")
def variance(call: Call) -> Value:
    """The mean square of the differences to the mean, over one less than the count where it is corrected."""
    build, x, axes = call.build, call.wire("self"), call.axes("dim", "self")
    correction = call["correction"] if "correction" in call.given else int(bool(call.get("unbiased", True)))
    correction = 1 if correction is None else correction
    keep = bool(call.get("keepdim", False))
    centred = build.subtract(x, build.mean(x, axes, keepdims=True))
    found = build.mean(build.elementwise("square", centred), axes, keep)
    if correction:
        lengths = [call.shape_of("self")[axis] for axis in axes]
        if not all(isinstance(length, int) for length in lengths):
            raise Refused("a corrected variance over an axis whose length may differ", "correction=0")
        count = math.prod(lengths)
        found = build.multiply(found, call.making.number(count / (count - correction)))
    return build.elementwise("sqrt", found, name=call.name) if call.operator == "std" else found


__all__ = ["reduced"]
