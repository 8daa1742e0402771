"""Activations: those of `keras.activations` by name, and the layers that are one.

Source: Keras 3 `keras/src/activations/activations.py`, `keras/src/backend/tensorflow/nn.py`, `keras/src/layers/activations/`; the words
of Keras 2 for the options of `LeakyReLU`, `ThresholdedReLU` and `ELU`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from parity.errors import UnsupportedError
from parity.functions import Function
from parity.graph.builder import Builder
from parity.graph.graph import Wire
from parity.graph.keras.call import Call, Outputs, Reader, passed
from parity.graph.operations import Activation, Softmax
from parity.network.keras.options import Option, plain, shown
from parity.network.keras.written import function_of

_INERT = Option()


def _glu(build: Builder, x: Wire, name: str, call: Call) -> Wire:
    half = call.shape(x)[-1] // 2
    value, gate = build.slice(x, -1, None, half), build.slice(x, -1, half)
    return build.multiply(value, build.activation("sigmoid", gate), name=name)


def _hard_shrink(build: Builder, x: Wire, name: str, call: Call) -> Wire:  # noqa: ARG001  the signature all of them share
    return build.elementwise("where", build.elementwise("greater", build.elementwise("abs", x), 0.5), x, 0.0, name=name)


def _soft_shrink(build: Builder, x: Wire, name: str, call: Call) -> Wire:  # noqa: ARG001
    inside = build.elementwise("minimum", build.elementwise("maximum", x, -0.5), 0.5)
    return build.subtract(x, inside, name=name)


def _squareplus(build: Builder, x: Wire, name: str, call: Call) -> Wire:  # noqa: ARG001
    root = build.elementwise("sqrt", build.add(build.elementwise("square", x), 4.0))
    return build.multiply(build.add(x, root), 0.5, name=name)


def _sparse_plus(build: Builder, x: Wire, name: str, call: Call) -> Wire:  # noqa: ARG001
    curve = build.multiply(build.elementwise("square", build.add(x, 1.0)), 0.25)
    low = build.elementwise("where", build.elementwise("greater", x, -1.0), curve, 0.0)
    return build.elementwise("where", build.elementwise("less", x, 1.0), low, x, name=name)


def gelu_of_tanh(build: Builder, x: Wire, name: str) -> Wire:
    """The approximate gelu: 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))."""
    cubed = build.multiply(x, build.elementwise("square", x), 0.044715)
    inner = build.multiply(build.add(x, cubed), 0.7978845608028654)
    return build.multiply(x, build.add(build.activation("tanh", inner), 1.0), 0.5, name=name)


_COMPOSED: dict[str, Callable[[Builder, Wire, str, Call], Wire]] = {
    "softmax": lambda build, x, name, call: build.softmax(x, -1, name=name),  # noqa: ARG005
    "log_softmax": lambda build, x, name, call: build.softmax(x, -1, log=True, name=name),  # noqa: ARG005
    "celu": lambda build, x, name, call: build.activation(Function("elu", 1.0), x, name),  # noqa: ARG005
    "sparse_sigmoid": lambda build, x, name, call: build.activation(Function("hard_sigmoid", 0.5, 0.5), x, name),  # noqa: ARG005
    "glu": _glu,
    "hard_shrink": _hard_shrink,
    "soft_shrink": _soft_shrink,
    "squareplus": _squareplus,
    "sparse_plus": _sparse_plus,
}
"""Activations with their usual parameters that are no `Function`."""


def function_name(call: Call, value: Any) -> str:
    """What Keras calls an activation of a configuration.

    Raises:
        UnsupportedError: a function that is not one of `keras.activations`, or one that is not read.
    """
    named = plain(value)
    name = "linear" if named is None else named
    if isinstance(name, str) and (name in _COMPOSED or name == "linear"):
        return name
    try:
        function_of(name if isinstance(name, str) else shown(name))
    except UnsupportedError as error:
        known = f"{error.problems[0].expected}, {', '.join(_COMPOSED)}"
        raise call.refused(
            "this activation is not converted", known, shown(value), "use one of these, or a layer that computes it"
        ) from None
    return str(name)


def activated(call: Call, x: Wire, value: Any, name: str) -> Wire:
    """An activation of a configuration behind a value; the value itself for a linear one.

    Raises:
        UnsupportedError: a function that is not read.
    """
    own = function_name(call, value)
    if own == "linear":
        return x
    if own in _COMPOSED:
        return _COMPOSED[own](call.build, x, name, call)
    return call.build.activation(function_of(own, call.old), x, name)


def is_linear(value: Any) -> bool:
    """Whether an activation of a configuration does nothing."""
    return plain(value) in (None, "linear")


def _activation(call: Call) -> Outputs:
    if function_name(call, call.config.get("activation")) == "linear":
        return call.tensors()  # the very tensor, with the mask at it
    return activated(call, call.wire(), call.config.get("activation"), call.name)


def _function(call: Call, function: Function) -> Outputs:
    operation = call.once("function", lambda: Activation(call.build.unique(call.name), function))
    return call.build.call(operation, call.wire())


def _relu(call: Call) -> Outputs:
    build, x = call.build, call.wire()
    slope, threshold = call.number("negative_slope", 0.0), call.number("threshold", 0.0)
    top = call.config.get("max_value")
    top = None if top is None else call.number("max_value")
    if threshold == 0.0 and top is None:
        return _function(call, Function("leaky_relu", slope) if slope else Function("relu"))
    if threshold == 0.0 and not slope and top == 6.0:
        return _function(call, Function("relu6"))
    if threshold == 0.0 and not slope:
        assert top is not None
        return build.elementwise("minimum", build.activation("relu", x), top, name=call.name)
    kept = build.activation("relu", x)
    if threshold:
        kept = build.elementwise("where", build.elementwise("greater", x, threshold), x, 0.0)
    if top is not None:
        kept = build.elementwise("maximum", build.elementwise("minimum", kept, top), 0.0)
    if not slope:
        return kept
    below = build.activation("relu", build.subtract(threshold, x))
    return build.subtract(kept, build.multiply(below, slope), name=call.name)


def _leaky_relu(call: Call) -> Outputs:
    key = "alpha" if "alpha" in call.config else "negative_slope"
    return _function(call, Function("leaky_relu", call.number(key, 0.3)))


def _elu(call: Call) -> Outputs:
    return _function(call, Function("elu", call.number("alpha", 1.0)))


def _thresholded_relu(call: Call) -> Outputs:
    return _function(call, Function("thresholded_relu", call.number("theta", 1.0)))


def _prelu(call: Call) -> Outputs:
    build, x = call.build, call.wire()
    alpha = call.parameter("alpha", *call.weights(("alpha", (None,) * (call.rank() - 1))))
    negative = build.multiply(alpha, build.elementwise("minimum", x, 0.0))
    return build.add(build.activation("relu", x), negative, name=call.name)


def _check_softmax_mask(call: Call, mask: Any) -> None:
    """Refuse a mask of steps, as Keras does: it has to go with what the layer takes as it is."""
    if mask is None:
        return
    own, shape = call.shape(mask), call.shape()
    if len(own) > len(shape) or any(a not in (1, b) for a, b in zip(own[::-1], shape[::-1], strict=False)):
        what = "Keras takes a mask of Softmax only where its axes, counted from the last, are those of the inputs or 1"
        got = f"a mask of {len(own)} axes, inputs of {len(shape)}"
        remedy = "give mask=mask[..., None] to mask steps, or apply the Softmax before the Masking or Embedding"
        raise call.refused(what, "a mask that is broadcast to the inputs", got, remedy)


def _softmax(call: Call) -> Outputs:
    build, x = call.build, call.wire()
    axis = call.config.get("axis", -1)
    axes = tuple(axis) if isinstance(axis, (list, tuple)) else (axis,)
    if not axes or not all(isinstance(one, int) for one in axes):
        raise call.refused("axis is not kept exactly", "whole numbers", shown(axis))
    mask = call.mask
    _check_softmax_mask(call, mask)
    kept = x if mask is None else build.elementwise("where", mask, x, -1e9)
    name = call.name if mask is None else call.part("share")
    if len(axes) == 1:
        shares = build.call(call.once("softmax", lambda: Softmax(build.unique(name), axes[0])), kept)
    else:
        total = build.reduce("logsumexp", kept, axes, keepdims=True)
        shares = build.elementwise("exp", build.subtract(kept, total), name=name)
    return shares if mask is None else build.elementwise("where", mask, shares, 0.0, name=call.name)


READERS: dict[str, Reader] = {
    "Activation": Reader(_activation, {"activation": _INERT}, masks=passed),
    "ReLU": Reader(_relu, dict.fromkeys(("max_value", "negative_slope", "threshold"), _INERT), masks=passed),
    "LeakyReLU": Reader(_leaky_relu, dict.fromkeys(("negative_slope", "alpha"), _INERT), masks=passed),
    "ELU": Reader(_elu, {"alpha": _INERT}, masks=passed),
    "ThresholdedReLU": Reader(_thresholded_relu, {"theta": _INERT}, masks=passed),
    "PReLU": Reader(_prelu, {"shared_axes": _INERT}, masks=passed),
    "Softmax": Reader(_softmax, {"axis": _INERT}, ("inputs", "mask"), takes_mask=True, masks=passed),
}
"""The layers that are an activation, by class."""
