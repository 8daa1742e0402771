"""Operators that work element by element: arithmetic, comparisons, logic, activations.

Source: the ONNX operator specification of each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from parity.frameworks.onnx.constants import Constant
from parity.frameworks.onnx.whole.reading_step import Step
from parity.frameworks.onnx.whole.reading_values import Value
from parity.functions import Function
from parity.graph.operations import Activation
from parity.network import Dense

Handler = Callable[[Step], Sequence[Value]]

_SELU = (1.67326319217681884765625, 1.05070102214813232421875)
"""alpha and gamma of Selu, as the specification says them."""


def _plain(function: str) -> Handler:
    def read(step: Step) -> Sequence[Value]:
        values = [value for value in step.inputs if value is not None]
        if "broadcast" in step.attributes and step.opset < 7:
            raise step.refused("broadcasting of opsets below 7 is not converted", "opset 7 or newer", str(step.opset))
        if len(values) == 1 and function in ("add", "multiply", "maximum", "minimum", "average"):
            return values
        return [step.elementwise(function, *values, source=True)]

    return read


def _add(step: Step) -> Sequence[Value]:
    for at in (0, 1):
        value, other = step.value(at), step.value(1 - at)
        if _is_number(step, other, value) and step.reading.is_uniform(other, 0.0):
            return [value]
        if (found := _biased(step, at, value, other)) is not None:
            return [found]
    return _plain("add")(step)


def _is_number(step: Step, value: Value, beside: Value) -> bool:
    """Whether a value is one constant number, which leaves the shape of another one as it is."""
    if not isinstance(value, Constant) or value.size != 1:
        return False
    return not value.shape or len(value.shape) <= step.rank(beside)


def _biased(step: Step, at: int, value: Value, other: Value) -> Value | None:
    """The bias of the dense layer that comes before, where nothing else takes what that gives."""
    node = step.reading.producer(value)
    if node is None or not isinstance(other, Constant) or step.reading.uses[step.node.input[at]] != 1:
        return None
    dense = node.operation
    fits = isinstance(dense, Dense) and dense.bias is None and other.shape == (dense.output_size,)
    if not fits or step.kind(other) != "float" or node.source != step.reading.fresh.get(step.node.input[at]):
        return None
    assert isinstance(dense, Dense)
    layer = replace(dense, bias=step.reading.array(other))
    origins = (*step.reading.origins.get(dense.name, ()), *other.origins)
    step.reading.replaced(step.reading.wire(value), step.reading.shared(layer, origins), step.source)
    return value


def _divide(step: Step) -> Sequence[Value]:
    quotient = step.elementwise("divide", step.value(0), step.value(1), source=True)
    if step.kind(step.value(0)) != "int":
        return [quotient]
    # Integers are divided towards zero, which is how a cast cuts.
    step.reading.retyped(quotient, "float")
    return [step.cast(quotient, "int")]


def _power(step: Step) -> Sequence[Value]:
    x, power = step.value(0), step.value(1)
    usual = {2.0: "square", 0.5: "sqrt", -1.0: "reciprocal"}
    if _is_number(step, power, x) and isinstance(power, Constant) and step.kind(x) == "float":
        number = float(step.reading.array(power).ravel()[0])
        if number == 1.0:
            return [x]
        if number in usual:
            return [step.elementwise(usual[number], x, source=True)]
    return [step.elementwise("power", x, power, source=True)]


def _remainder(step: Step) -> Sequence[Value]:
    """Of constants alone, in the arithmetic of shapes."""
    x, y = (step.weight(at, "a remainder") for at in (0, 1))
    function = np.fmod if step.integer("fmod", 0) else np.mod
    return [Constant.of_array(np.asarray(function(x, y)), step.source)]


def _square_root(step: Step) -> Sequence[Value]:
    return [step.elementwise("sqrt", step.value(0), source=True)]


def _ceil(step: Step) -> Sequence[Value]:
    down = step.elementwise("floor", step.elementwise("negative", step.value(0)))
    return [step.elementwise("negative", down, source=True)]


def _where(step: Step) -> Sequence[Value]:
    return [step.elementwise("where", step.cast(step.value(0), "bool"), step.value(1), step.value(2), source=True)]


def _clip(step: Step) -> Sequence[Value]:
    x, ends = step.value(0), [_end(step, name, at) for at, name in enumerate(("min", "max"), 1)]
    if all(end is None or isinstance(end, float) for end in ends) and step.kind(x) == "float":
        known: dict[tuple[object, ...], str] = {(0.0, 6.0): "relu6", (-1.0, 1.0): "hard_tanh", (0.0, None): "relu"}
        if tuple(ends) in known:
            return [step.activation(known[tuple(ends)], x)]
    for function, end in zip(("maximum", "minimum"), ends, strict=True):
        if end is not None:
            x = step.elementwise(function, x, end)
    return [x]


def _end(step: Step, name: str, at: int) -> Value | float | None:
    """An end of the range; None where there is none, or one that no float32 number reaches."""
    found: Value | float | None = None
    if name in step.attributes:
        found = step.number(name, 0.0)
    elif step.has(at):
        found = step.value(at)
        if isinstance(found, Constant) and found.size == 1:
            found = float(step.reading.array(found).ravel()[0])
    far = isinstance(found, float) and abs(found) >= float(np.finfo(np.float32).max)
    return None if far else found


def _one(name: str, **usual: float) -> Handler:
    """An activation with the parameters that the specification takes where the node gives none."""

    def read(step: Step) -> Sequence[Value]:
        given = {key: step.number(key, value) for key, value in usual.items()}
        return [step.activation(name, step.value(0), **given)]

    return read


def _selu(step: Step) -> Sequence[Value]:
    alpha, gamma = (
        float(step.attributes.get(key, value)) for key, value in zip(("alpha", "gamma"), _SELU, strict=True)
    )
    if [np.float32(alpha), np.float32(gamma)] == [np.float32(value) for value in _SELU]:
        return [step.activation("selu", step.value(0))]
    return [step.elementwise("multiply", step.activation("elu", step.value(0), alpha), gamma, source=True)]


def _celu(step: Step) -> Sequence[Value]:
    alpha, x = step.number("alpha", 1.0), step.value(0)
    if alpha == 1.0:
        return [step.activation("elu", x, 1.0)]
    inner = step.activation("elu", step.elementwise("divide", x, alpha), 1.0)
    return [step.elementwise("multiply", inner, alpha, source=True)]


def _gelu(step: Step) -> Sequence[Value]:
    x, approximate = step.value(0), step.text("approximate", "none")
    if approximate == "none":
        return [step.activation("gelu", x)]
    if approximate != "tanh":
        raise step.refused("this approximation is not converted", "none or tanh", approximate)
    cube = step.elementwise("multiply", step.elementwise("multiply", x, x, x), 0.044715)
    inner = step.elementwise("multiply", step.elementwise("add", x, cube), math.sqrt(2.0 / math.pi))
    gate = step.elementwise("add", step.call(Activation(step.name("tanh"), Function("tanh")), inner), 1.0)
    return [step.elementwise("multiply", x, gate, 0.5, source=True)]


def _prelu(step: Step) -> Sequence[Value]:
    x, slope = step.value(0), step.value(1)
    if isinstance(slope, Constant) and slope.size == 1:
        return [step.activation("leaky_relu", x, float(step.reading.array(slope).ravel()[0]))]
    below = step.elementwise("multiply", step.elementwise("minimum", x, 0.0), slope)
    return [step.elementwise("add", step.activation("relu", x), below, source=True)]


def _is_nan(step: Step) -> Sequence[Value]:
    """What is not even equal to itself."""
    return [step.elementwise("not_equal", step.value(0), step.value(0), source=True)]


def _swish(step: Step) -> Sequence[Value]:
    x, alpha = step.value(0), step.number("alpha", 1.0)
    if alpha == 1.0:
        return [step.activation("silu", x)]
    gate = step.activation("sigmoid", step.elementwise("multiply", x, alpha))
    return [step.elementwise("multiply", x, gate, source=True)]


HANDLERS: dict[str, Handler] = {
    "Abs": _plain("abs"),
    "Add": _add,
    "And": _plain("logical_and"),
    "Ceil": _ceil,
    "Celu": _celu,
    "Clip": _clip,
    "Cos": _plain("cos"),
    "Div": _divide,
    "Elu": _one("elu", alpha=1.0),
    "Equal": _plain("equal"),
    "Erf": _plain("erf"),
    "Exp": _plain("exp"),
    "Floor": _plain("floor"),
    "Gelu": _gelu,
    "Greater": _plain("greater"),
    "GreaterOrEqual": _plain("greater_equal"),
    "HardSigmoid": _one("hard_sigmoid", alpha=0.2, beta=0.5),
    "HardSwish": _one("hard_silu"),
    "IsNaN": _is_nan,
    "LeakyRelu": _one("leaky_relu", alpha=0.01),
    "Less": _plain("less"),
    "LessOrEqual": _plain("less_equal"),
    "Log": _plain("log"),
    "Max": _plain("maximum"),
    "Mean": _plain("average"),
    "Min": _plain("minimum"),
    "Mish": _one("mish"),
    "Mod": _remainder,
    "Mul": _plain("multiply"),
    "Neg": _plain("negative"),
    "Not": _plain("logical_not"),
    "Or": _plain("logical_or"),
    "PRelu": _prelu,
    "Pow": _power,
    "Reciprocal": _plain("reciprocal"),
    "Relu": _one("relu"),
    "Selu": _selu,
    "Sigmoid": _one("sigmoid"),
    "Sign": _plain("sign"),
    "Sin": _plain("sin"),
    "Softplus": _one("softplus"),
    "Softsign": _one("softsign"),
    "Sqrt": _square_root,
    "Sub": _plain("subtract"),
    "Sum": _plain("add"),
    "Swish": _swish,
    "Tanh": _one("tanh"),
    "ThresholdedRelu": _one("thresholded_relu", alpha=1.0),
    "Where": _where,
    "Xor": _plain("not_equal"),
}
