"""`keras.ops` inside a functional model: operations beside its layers, written as layers of the module `keras.src.ops`.

Source: the classes of Keras 3 `keras/src/ops/numpy.py`, `nn.py`, `core.py`, `math.py`, `linalg.py` and what their `call` takes;
`GetItem` for slices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from parity.functions import Function
from parity.graph.graph import Wire
from parity.graph.keras.activation import READERS as LAYERS
from parity.graph.keras.activation import gelu_of_tanh
from parity.graph.keras.call import Call, Outputs, Reader, Tensor
from parity.graph.keras.indexing import get_item, take
from parity.graph.keras.masks import MaskMaker
from parity.graph.keras.operands import INERT, MANY, operands_of, reading, values_of, wire_of
from parity.graph.keras.rearranging import REARRANGING
from parity.graph.operations import MatMul, Reducing, UnitNormalization, normalized
from parity.network.keras.options import Config, shown


def is_operation(layer: Config) -> bool:
    """Whether a layer of a configuration is an operation of `keras.ops`.

    HDF5 files do not say the module. Layers have an option `trainable`, and those that merge take a list of tensors; operations neither.

    Example:
        >>> is_operation({"class_name": "LogicalOr", "module": "keras.layers", "config": {"name": "logical_or"}})
        True
        >>> is_operation({"class_name": "Add", "module": "keras.layers", "config": {"name": "add", "trainable": True}})
        False
    """
    if str(layer.get("module")).startswith(("keras.src.ops", "keras.ops", "keras.src.activations")):
        return True
    class_name, config = layer.get("class_name"), layer.get("config")
    if layer.get("module") != "keras.layers" or class_name not in OPERATIONS or not isinstance(config, Mapping):
        return False
    nodes = layer.get("inbound_nodes")
    first = nodes[0] if isinstance(nodes, (list, tuple)) and nodes else None
    args: Any = first.get("args") if isinstance(first, Mapping) else None
    listed = bool(args) and isinstance(args[0], (list, tuple))
    return "trainable" not in config and not listed and not {"target_shape", "axes", "activation"} & set(config)


def _elementwise(function: str) -> Reader:
    return Reader(lambda call: call.build.elementwise(function, *operands_of(call), name=call.name), {}, MANY)


def _not_equal(call: Call) -> Outputs:
    """Keras writes the mask of an Embedding so, once for every layer that takes it."""
    operands = operands_of(call)
    if len(operands) == 2 and isinstance(operands[0], Wire) and isinstance(operands[1], (int, float)):
        return Tensor(call.model.masks.differs(operands[0], operands[1], call.name))
    return call.build.elementwise("not_equal", *operands, name=call.name)


def _logical_or(call: Call) -> Outputs:
    operands = operands_of(call)
    masks: MaskMaker = call.model.masks
    wires = [one for one in operands if isinstance(one, Wire)]
    if len(wires) != len(operands):
        return call.build.elementwise("logical_or", *operands, name=call.name)
    if len(wires) == 2 and wires[0] in masks.widened and masks.spread.get(wires[1]) == []:
        found = call.build.elementwise("logical_or", *wires, name=call.name)
        masks.spread[found] = [masks.widened[wires[0]]]
        return found
    merged = masks.any_of(wires, call.name)
    assert merged is not None
    return merged


def _activation(function: Function) -> Reader:
    return Reader(lambda call: call.build.activation(function, wire_of(call), name=call.name), {}, MANY)


def _with_option(name: str, option: str, usual: float) -> Reader:
    def read(call: Call) -> Outputs:
        return call.build.activation(Function(name, call.number(option, usual)), wire_of(call), name=call.name)

    return Reader(read, {option: INERT}, MANY)


def _reduction(function: Reducing) -> Reader:
    def read(call: Call) -> Outputs:
        x = wire_of(call)
        axis, rank = call.config.get("axis"), call.rank(x)
        axes = list(range(rank)) if axis is None else axis if isinstance(axis, (list, tuple)) else [axis]
        if call.config.get("initial") is not None or call.config.get("where") is not None:
            raise call.refused("options that are not kept exactly", "no initial, no where", "one of them")
        if function == "argmax" and axis is None:
            raise call.refused("axis is not kept exactly", "one axis", "None")
        keepdims = bool(call.config.get("keepdims", False))
        last = [normalized(one, rank) for one in axes] == [rank - 1]
        if function == "any" and last and not keepdims:
            found: Wire | None = call.model.masks.any_feature(x, call.name)
            if found is not None:
                return found
        return call.build.reduce(function, x, [normalized(one, rank) for one in axes], keepdims, name=call.name)

    return Reader(read, dict.fromkeys(("axis", "keepdims", "dtype", "initial", "where"), INERT), MANY)


def _norm(call: Call) -> Outputs:
    x, axis = wire_of(call), call.config.get("axis")
    order = call.config.get("ord")
    if order not in (None, 2, "euclidean") or (axis is None and call.rank(x) > 1) or isinstance(axis, (list, tuple)):
        raise call.refused("a norm that is not kept exactly", "ord None or 2 and one axis", f"ord={order}, axis={axis}")
    return call.build.reduce("norm", x, -1 if axis is None else axis, bool(call.config.get("keepdims")), name=call.name)


def _clip(call: Call) -> Outputs:
    build, x = call.build, wire_of(call)
    low, high = call.config.get("x_min"), call.config.get("x_max")
    if low is not None:
        x = build.elementwise("maximum", x, call.number("x_min"), name=None if high is not None else call.name)
    return x if high is None else build.elementwise("minimum", x, call.number("x_max"), name=call.name)


def _same(call: Call) -> Outputs:
    """An operation that gives the very tensor that it takes, with the mask at it."""
    wire_of(call)
    return call.tensors()


def _as_tensor(call: Call) -> Outputs:
    """Keras writes it for the mask that `Attention` hands on."""
    if call.config.get("sparse") or call.config.get("ragged"):
        raise call.refused("a tensor that is not dense", "sparse=False, ragged=False", "one of them")
    return _same(call) if call.config.get("dtype") is None else _cast(call)


def _cast(call: Call) -> Outputs:
    dtype, stated = str(call.config.get("dtype")), call.stated("dtype")
    if stated == dtype:
        return _same(call)
    if stated is None and call.tensors()[0].mask is not None:
        raise call.refused("a tensor with a mask is cast from a type that is not stated", "its dtype", "none")
    kinds: dict[str, Any] = {
        "float32": "float32",
        "float64": "float32",
        "int32": "int64",
        "int64": "int64",
        "bool": "bool",
    }
    if dtype not in kinds:
        raise call.refused("dtype is not kept exactly", ", ".join(kinds), dtype)
    return call.build.cast(wire_of(call), kinds[dtype], name=call.name)


def _einsum(call: Call) -> Outputs:
    build, wires = call.build, [value for value in values_of(call) if isinstance(value, Wire)]
    equation = str(call.config.get("subscripts")).replace(" ", "")
    if "->" not in equation or "." in equation or not 1 <= len(wires) <= 2:
        raise call.refused("an equation that is not kept exactly", "one or two inputs, ->, no ellipsis", equation)
    return build.einsum(equation, *wires, name=call.name)


def _softmax(call: Call, log: bool) -> Outputs:
    axis = call.config.get("axis", -1)
    if not isinstance(axis, int):
        raise call.refused("axis is not kept exactly", "one axis", shown(axis))
    return call.build.softmax(wire_of(call), axis, log, name=call.name)


def _product(call: Call) -> Outputs:
    left, right = (value for value in values_of(call) if isinstance(value, Wire))
    if call.held.class_name == "Dot" and call.rank(right) > 2:
        raise call.refused("a product that is not kept exactly", "a right side of at most two axes", "more")
    return call.build.call(call.once("matmul", lambda: MatMul(call.build.unique(call.name))), left, right)


def _normalize(call: Call) -> Outputs:
    x, axis = wire_of(call), call.config.get("axis", -1)
    if call.config.get("order", 2) != 2:
        raise call.refused("order is not kept exactly", "2", shown(call.config.get("order")))
    axes = tuple(axis) if isinstance(axis, (list, tuple)) else (axis,)
    shortest = call.config.get("epsilon") or 1e-7
    return call.build.call(UnitNormalization(call.build.unique(call.name), axes, float(shortest)), x)


def _gelu(call: Call) -> Outputs:
    if call.config.get("approximate", True):
        return gelu_of_tanh(call.build, wire_of(call), call.name)
    return call.build.activation("gelu", wire_of(call), name=call.name)


def _threshold(call: Call) -> Outputs:
    """x where it is above the threshold, else a number."""
    build, x = call.build, wire_of(call)
    above, below = call.number("threshold"), call.number("default_value")
    if below == 0.0:
        return build.activation(Function("thresholded_relu", above), x, name=call.name)
    return build.elementwise("where", build.elementwise("greater", x, above), x, below, name=call.name)


def _moments(function: str) -> Callable[[Call], Outputs]:
    def read(call: Call) -> Outputs:
        build, x = call.build, wire_of(call)
        axis, rank = call.config.get("axis"), call.rank(x)
        axes = list(range(rank)) if axis is None else axis if isinstance(axis, (list, tuple)) else [axis]
        centred = build.subtract(x, build.mean(x, axes, keepdims=True))
        keepdims, is_std = bool(call.config.get("keepdims")), function == "std"
        variance = build.mean(build.elementwise("square", centred), axes, keepdims, name=None if is_std else call.name)
        return build.elementwise("sqrt", variance, name=call.name) if is_std else variance

    return read


_ELEMENTWISE = {
    "Add": "add",
    "Subtract": "subtract",
    "Multiply": "multiply",
    "Divide": "divide",
    "TrueDivide": "divide",
    "Power": "power",
    "Maximum": "maximum",
    "Minimum": "minimum",
    "Equal": "equal",
    "Greater": "greater",
    "GreaterEqual": "greater_equal",
    "Less": "less",
    "LessEqual": "less_equal",
    "LogicalAnd": "logical_and",
    "LogicalNot": "logical_not",
    "Where": "where",
    "Negative": "negative",
    "Absolute": "abs",
    "Sign": "sign",
    "Floor": "floor",
    "Square": "square",
    "Sqrt": "sqrt",
    "Rsqrt": "rsqrt",
    "Reciprocal": "reciprocal",
    "Exp": "exp",
    "Log": "log",
    "Log1p": "log1p",
    "Sin": "sin",
    "Cos": "cos",
    "Erf": "erf",
}
_FUNCTIONS = {
    "Tanh": Function("tanh"),
    "Sigmoid": Function("sigmoid"),
    "Relu": Function("relu"),
    "Relu6": Function("relu6"),
    "Softplus": Function("softplus"),
    "Softsign": Function("softsign"),
    "Silu": Function("silu"),
    "Selu": Function("selu"),
    "Mish": Function("mish"),
    "HardTanh": Function("hard_tanh"),
    "LogSigmoid": Function("log_sigmoid"),
    "TanhShrink": Function("tanh_shrink"),
    "HardSigmoid": Function("hard_sigmoid", 1 / 6, 0.5),
    "HardSilu": Function("hard_silu"),
}
_REDUCTIONS: dict[str, Reducing] = {
    "Sum": "sum",
    "Mean": "mean",
    "Max": "max",
    "Min": "min",
    "Prod": "prod",
    "Any": "any",
    "All": "all",
    "Amax": "max",
    "Amin": "min",
    "Argmax": "argmax",
    "Logsumexp": "logsumexp",
    "LogSumExp": "logsumexp",
}

OPERATIONS: dict[str, Reader] = {
    **REARRANGING,
    **{name: _elementwise(function) for name, function in _ELEMENTWISE.items()},
    **{name: _activation(function) for name, function in _FUNCTIONS.items()},
    **{name: _reduction(function) for name, function in _REDUCTIONS.items()},
    "NotEqual": reading(_not_equal),
    "LogicalOr": reading(_logical_or),
    "ReLU": Reader(LAYERS["ReLU"].read, LAYERS["ReLU"].options, MANY),
    "LeakyRelu": _with_option("leaky_relu", "negative_slope", 0.2),
    "Elu": _with_option("elu", "alpha", 1.0),
    "Gelu": reading(_gelu, "approximate"),
    "Threshold": reading(_threshold, "threshold", "default_value"),
    "Softmax": reading(lambda call: _softmax(call, log=False), "axis"),
    "LogSoftmax": reading(lambda call: _softmax(call, log=True), "axis"),
    "Norm": reading(_norm, "ord", "axis", "keepdims"),
    "Normalize": reading(_normalize, "axis", "order", "epsilon"),
    "Var": reading(_moments("var"), "axis", "keepdims"),
    "Std": reading(_moments("std"), "axis", "keepdims"),
    "Clip": reading(_clip, "x_min", "x_max"),
    "Cast": reading(_cast, "dtype"),
    "Matmul": reading(_product),
    "Dot": reading(_product),
    "Einsum": reading(_einsum, "subscripts"),
    "Identity": reading(wire_of),
    "StopGradient": reading(wire_of),
    "Copy": reading(wire_of),
    "ConvertToTensor": reading(_as_tensor, "dtype", "sparse", "ragged"),
    "GetItem": reading(get_item),
    "Take": reading(take, "axis"),
}
"""The operations that are read, by class."""
