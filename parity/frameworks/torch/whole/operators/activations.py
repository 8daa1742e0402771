"""Activation functions with their parameters."""

from __future__ import annotations

import math

from parity.frameworks.torch.whole.operator_call import Call, Refused, operator
from parity.frameworks.torch.whole.values import Packed, Value
from parity.functions import FUNCTIONS, Function
from parity.graph import Wire
from parity.graph.operations import Activation

_PLAIN = {
    "relu": "relu", "tanh": "tanh", "sigmoid": "sigmoid", "silu": "silu", "mish": "mish", "selu": "selu", "relu6": "relu6",
    "log_sigmoid": "log_sigmoid", "hardswish": "hard_silu",
}  # fmt: skip

_STEEP = 17.5
"""From here on softplus(x) and x are one number in float32: torch's threshold changes nothing."""


def _activation(call: Call, function: Function, x: Wire | None = None) -> Wire:
    own = Activation(call.build.unique(call.name), function)
    return call.build.call(own, call.wire("self") if x is None else x)


@operator(*_PLAIN)
def plain(call: Call) -> Value:
    """Functions without parameters."""
    name = _PLAIN[call.operator]
    if isinstance(call["self"], Packed):
        raise Refused("an activation of a packed sequence", "one of the padded sequence")
    return _activation(call, Function(name, FUNCTIONS[name].alpha, FUNCTIONS[name].beta))


@operator("hardsigmoid")
def hardsigmoid(call: Call) -> Value:
    """clip(x / 6 + 1 / 2, 0, 1)."""
    return _activation(call, Function("hard_sigmoid", 1 / 6, 0.5))


@operator("leaky_relu")
def leaky_relu(call: Call) -> Value:
    """x, or slope * x below zero."""
    return _activation(call, Function("leaky_relu", float(call["negative_slope"])))


@operator("rrelu")
def rrelu(call: Call) -> Value:
    """A leaky_relu, at inference, with the mean slope."""
    if call["training"]:
        raise Refused("random numbers in evaluation", "training=False")
    return _activation(call, Function("leaky_relu", (float(call["lower"]) + float(call["upper"])) / 2))


@operator("elu")
def elu(call: Call) -> Value:
    """x, or alpha * (exp(x) - 1) below zero."""
    if call["scale"] != 1 or call["input_scale"] != 1:
        raise Refused("an elu with scales", "scale=1, input_scale=1")
    return _activation(call, Function("elu", float(call["alpha"])))


@operator("celu")
def celu(call: Call) -> Value:
    """x, or alpha * (exp(x / alpha) - 1) below zero: alpha * elu(x / alpha)."""
    alpha = float(call["alpha"])
    if alpha == 1:
        return _activation(call, Function("elu", 1.0))
    number = call.making.number(alpha)
    inner = _activation(call, Function("elu", 1.0), call.build.divide(call.wire("self"), number))
    return call.build.multiply(inner, number)


@operator("hardtanh")
def hardtanh(call: Call) -> Value:
    """x between two bounds."""
    low, high = float(call["min_val"]), float(call["max_val"])
    usual = {(-1.0, 1.0): "hard_tanh", (0.0, 6.0): "relu6"}
    if (low, high) in usual:
        return _activation(call, Function(usual[low, high]))
    above = call.build.elementwise("maximum", call.wire("self"), call.making.number(low))
    return call.build.elementwise("minimum", above, call.making.number(high), name=call.name)


@operator("gelu")
def gelu(call: Call) -> Value:
    """Exact, or with tanh: 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))."""
    if call["approximate"] == "none":
        return _activation(call, Function("gelu"))
    build, x, number = call.build, call.wire("self"), call.making.number
    cubed = build.multiply(build.multiply(build.multiply(x, x), x), number(0.044715))
    inner = build.multiply(build.add(x, cubed), number(math.sqrt(2 / math.pi)))
    share = build.add(build.activation("tanh", inner), number(1.0))
    return build.multiply(build.multiply(x, number(0.5)), share, name=call.name)


@operator("softplus")
def softplus(call: Call) -> Value:
    """log(1 + exp(beta x)) / beta; x itself where beta x is above the threshold."""
    build, x, number = call.build, call.wire("self"), call.making.number
    beta, threshold = float(call["beta"]), float(call["threshold"])
    exact = threshold >= _STEEP and not call.making.double
    if beta == 1 and exact:
        return _activation(call, Function("softplus"))
    scaled = x if beta == 1 else build.multiply(x, number(beta))
    smooth = build.activation("softplus", scaled)
    smooth = smooth if beta == 1 else build.divide(smooth, number(beta))
    if exact:
        return smooth
    return build.elementwise(
        "where", build.elementwise("greater", scaled, number(threshold)), x, smooth, name=call.name
    )


@operator("prelu")
def prelu(call: Call) -> Value:
    """x, or weight * x below zero, with a weight for every channel (axis 1)."""
    build, x, weight = call.build, call.wire("self"), call.wire("weight")
    count, rank = call.shape_of("weight"), call.rank("self")
    if count != (1,) and rank > 2:
        weight = build.reshape(weight, (-1, *(1,) * (rank - 2)))
    below = build.multiply(x, weight)
    return build.elementwise(
        "where", build.elementwise("greater", x, call.making.number(0.0)), x, below, name=call.name
    )


@operator("threshold")
def threshold(call: Call) -> Value:
    """x above a threshold, else a number."""
    x, number = call.wire("self"), call.making.number
    above = call.build.elementwise("greater", x, number(float(call["threshold"])))
    return call.build.elementwise("where", above, x, number(float(call["value"])), name=call.name)


@operator("hardshrink")
def hardshrink(call: Call) -> Value:
    """x outside of (-lambda, lambda), else zero."""
    build, x, number = call.build, call.wire("self"), call.making.number
    outside = build.elementwise("greater", build.elementwise("abs", x), number(float(call["lambd"])))
    return build.elementwise("where", outside, x, number(0.0), name=call.name)


@operator("softshrink")
def softshrink(call: Call) -> Value:
    """x moved towards zero by lambda, zero in between."""
    build, x, number = call.build, call.wire("self"), call.making.number
    bound = float(call["lambd"])
    above = build.activation("relu", build.subtract(x, number(bound)))
    below = build.activation("relu", build.subtract(number(-bound), x))
    return build.subtract(above, below, name=call.name)


@operator("glu")
def glu(call: Call) -> Value:
    """The first half of an axis times the sigmoid of the second."""
    build, x, axis = call.build, call.wire("self"), call.axis("dim", "self")
    length = call.shape_of("self")[axis]
    if not isinstance(length, int):
        raise Refused("the halves of an axis whose length may differ", "an axis of a known length")
    first, second = build.slice(x, axis, None, length // 2), build.slice(x, axis, length // 2)
    return build.multiply(first, build.activation("sigmoid", second), name=call.name)


@operator("softmax", "log_softmax", "_softmax", "_log_softmax")
def softmax(call: Call) -> Value:
    """Along an axis."""
    return call.build.softmax(
        call.wire("self", "f"), call.axis("dim", "self"), "log_softmax" in call.operator, name=call.name
    )


__all__ = ["softmax"]
