"""`keras.ops` inside a functional model: operations beside its layers, written as layers of the module `keras.src.ops`.

Source: the classes of Keras 3 `keras/src/ops/numpy.py`, `nn.py`, `core.py`, `math.py`, `linalg.py` and what their `call` takes;
`GetItem` for slices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from parity.functions import Function
from parity.graph.graph import Wire
from parity.graph.keras.activation import gelu_of_tanh
from parity.graph.keras.call import Call, Outputs, Reader, Tensor
from parity.graph.keras.indexing import get_item, take
from parity.graph.operations import Expand, Flip, Length, MatMul, Pad, Reducing, UnitNormalization, normalized
from parity.network.keras.options import Config, Option, shown

_INERT = Option()


def is_operation(layer: Config) -> bool:
    """Whether a layer of a configuration is an operation of `keras.ops`."""
    return str(layer.get("module")).startswith(("keras.src.ops", "keras.ops", "keras.src.activations"))


def _values(call: Call) -> list[Any]:
    """What the operation takes, in order: wires, and constants as they are."""
    return [value.wire if isinstance(value, Tensor) else value for value in call.arguments.values()]


def _operands(call: Call) -> list[Wire | float]:
    found: list[Wire | float] = []
    for value in _values(call):
        if isinstance(value, (Wire, bool, int, float)):
            found.append(value)
        elif isinstance(value, (np.ndarray, list)) and np.asarray(value).dtype.kind in "fiub":
            array = np.asarray(value)
            found.append(call.build.constant(array.astype(np.float32) if array.dtype.kind == "f" else array))
        elif value is not None:
            raise call.refused("a value that is not read", "tensors and numbers", shown(value))
    return found


def _elementwise(function: str) -> Reader:
    return Reader(lambda call: call.build.elementwise(function, *_operands(call), name=call.name), _OPTIONS, _MANY)


def _not_equal(call: Call) -> Outputs:
    """Keras writes the mask of an Embedding so, once for every layer that takes it."""
    operands = _operands(call)
    if len(operands) == 2 and isinstance(operands[0], Wire) and isinstance(operands[1], (int, float)):
        return Tensor(call.model.masks.differs(operands[0], operands[1], call.name))
    return call.build.elementwise("not_equal", *operands, name=call.name)


def _logical_or(call: Call) -> Outputs:
    operands, masks = _operands(call), call.model.masks
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
    return Reader(lambda call: call.build.activation(function, _wire(call), name=call.name), {}, _MANY)


def _with_option(name: str, option: str, usual: float) -> Reader:
    def read(call: Call) -> Outputs:
        return call.build.activation(Function(name, call.number(option, usual)), _wire(call), name=call.name)

    return Reader(read, {option: _INERT}, _MANY)


def _wire(call: Call) -> Wire:
    found = _values(call)
    if len(found) != 1 or not isinstance(found[0], Wire):
        raise call.refused("the operation does not take exactly one tensor", "one", str(len(found)))
    return found[0]


def _reduction(function: Reducing) -> Reader:
    def read(call: Call) -> Outputs:
        x = _wire(call)
        axis, rank = call.config.get("axis"), call.rank(x)
        axes = list(range(rank)) if axis is None else axis if isinstance(axis, (list, tuple)) else [axis]
        if call.config.get("initial") is not None or call.config.get("where") is not None:
            raise call.refused("options that are not kept exactly", "no initial, no where", "one of them")
        if function == "argmax" and axis is None:
            raise call.refused("axis is not kept exactly", "one axis", "None")
        keepdims = bool(call.config.get("keepdims", False))
        last = [normalized(one, rank) for one in axes] == [rank - 1]
        if function == "any" and last and not keepdims:
            found = call.model.masks.any_feature(x, call.name)
            if found is not None:
                return found
        return call.build.reduce(function, x, [normalized(one, rank) for one in axes], keepdims, name=call.name)

    return Reader(read, dict.fromkeys(("axis", "keepdims", "dtype", "initial", "where"), _INERT), _MANY)


def _norm(call: Call) -> Outputs:
    x, axis = _wire(call), call.config.get("axis")
    order = call.config.get("ord")
    if order not in (None, 2, "euclidean") or (axis is None and call.rank(x) > 1) or isinstance(axis, (list, tuple)):
        raise call.refused("a norm that is not kept exactly", "ord None or 2 and one axis", f"ord={order}, axis={axis}")
    return call.build.reduce("norm", x, -1 if axis is None else axis, bool(call.config.get("keepdims")), name=call.name)


def _reshape(call: Call) -> Outputs:
    x, shape = _wire(call), call.config.get("newshape")
    sizes = [shape] if isinstance(shape, int) else shape
    if not isinstance(sizes, (list, tuple)) or not all(isinstance(one, int) or one is None for one in sizes):
        raise call.refused("a shape that is not kept exactly", "whole numbers", shown(shape))
    own = [Length(0, place) if one is None else one for place, one in enumerate(sizes)]
    return call.build.reshape(x, own, name=call.name)


def _transpose(call: Call) -> Outputs:
    x = _wire(call)
    rank, axes = call.rank(x), call.config.get("axes")
    order = list(range(rank))[::-1] if axes is None else [normalized(axis, rank) for axis in axes]
    return call.build.transpose(x, order, name=call.name)


def _swapped(call: Call) -> Outputs:
    x = _wire(call)
    rank = call.rank(x)
    first, second = (normalized(call.whole(key), rank) for key in ("axis1", "axis2"))
    order = list(range(rank))
    order[first], order[second] = second, first
    return call.build.transpose(x, order, name=call.name)


def _moved(call: Call) -> Outputs:
    x = _wire(call)
    rank = call.rank(x)
    places = [call.config.get(key) for key in ("source", "destination")]
    one, other = ([value] if isinstance(value, int) else list(value or ()) for value in places)
    pairs = sorted((normalized(to, rank), normalized(axis, rank)) for axis, to in zip(one, other, strict=True))
    order = [axis for axis in range(rank) if axis not in {axis for _, axis in pairs}]
    for to, axis in pairs:
        order.insert(to, axis)
    return call.build.transpose(x, order, name=call.name)


def _expand_dims(call: Call) -> Outputs:
    x, axis = _wire(call), call.config.get("axis")
    found = call.build.expand_dims(x, axis, name=call.name)
    if axis == -1 or axis == call.rank(x):
        call.model.masks.widened[found] = x
    return found


def _squeeze(call: Call) -> Outputs:
    x, axis = _wire(call), call.config.get("axis")
    if axis is None:
        raise call.refused("axis is not kept exactly", "an axis", "None", "say which axis is squeezed")
    return call.build.squeeze(x, axis, name=call.name)


def _tensors(call: Call) -> list[Wire]:
    (value, *_) = call.arguments.values()
    if not isinstance(value, (list, tuple)) or not all(isinstance(one, Tensor) for one in value):
        raise call.refused("values that are not read", "a list of tensors", shown(value))
    return [tensor.wire for tensor in value]


def _concatenate(call: Call) -> Outputs:
    wires, axis, masks = _tensors(call), call.whole("axis", -1), call.model.masks
    found = call.build.concatenate(wires, axis, name=call.name)
    if all(wire in masks.spread for wire in wires) and axis in (-1, call.rank(found) - 1):
        masks.spread[found] = [mask for wire in wires for mask in (masks.spread[wire] or [None])]
    return found


def _repeat(call: Call) -> Outputs:
    x, times, axis = _wire(call), call.config.get("repeats"), call.config.get("axis")
    if not isinstance(times, int) or not isinstance(axis, int):
        raise call.refused("repeats that are not kept exactly", "a number and an axis", f"{times!r} on axis {axis!r}")
    return call.build.repeat(x, axis, times, name=call.name)


def _tile(call: Call) -> Outputs:
    x, times = _wire(call), call.config.get("repeats")
    rank = call.rank(x)
    counts = [times] if isinstance(times, int) else list(times or ())
    if len(counts) > rank or not all(isinstance(count, int) and count > 0 for count in counts):
        raise call.refused("repeats that are not kept exactly", "a number for each axis", shown(times))
    for axis, count in enumerate([1] * (rank - len(counts)) + counts):
        if count > 1:
            x = call.build.concatenate([x] * count, axis)
    return x


def _clip(call: Call) -> Outputs:
    build, x = call.build, _wire(call)
    low, high = call.config.get("x_min"), call.config.get("x_max")
    if low is not None:
        x = build.elementwise("maximum", x, call.number("x_min"), name=None if high is not None else call.name)
    return x if high is None else build.elementwise("minimum", x, call.number("x_max"), name=call.name)


def _cast(call: Call) -> Outputs:
    dtype = str(call.config.get("dtype"))
    kinds: dict[str, Any] = {
        "float32": "float32",
        "float64": "float32",
        "int32": "int64",
        "int64": "int64",
        "bool": "bool",
    }
    if dtype not in kinds:
        raise call.refused("dtype is not kept exactly", ", ".join(kinds), dtype)
    return call.build.cast(_wire(call), kinds[dtype], name=call.name)


def _einsum(call: Call) -> Outputs:
    build, wires = call.build, [value for value in _values(call) if isinstance(value, Wire)]
    equation = str(call.config.get("subscripts")).replace(" ", "")
    if "->" not in equation or "." in equation or not 1 <= len(wires) <= 2:
        raise call.refused("an equation that is not kept exactly", "one or two inputs, ->, no ellipsis", equation)
    return build.einsum(equation, *wires, name=call.name)


def _softmax(call: Call, log: bool) -> Outputs:
    axis = call.config.get("axis", -1)
    if not isinstance(axis, int):
        raise call.refused("axis is not kept exactly", "one axis", shown(axis))
    return call.build.softmax(_wire(call), axis, log, name=call.name)


def _product(call: Call) -> Outputs:
    left, right = (value for value in _values(call) if isinstance(value, Wire))
    if call.held.class_name == "Dot" and call.rank(right) > 2:
        raise call.refused("a product that is not kept exactly", "a right side of at most two axes", "more")
    return call.build.call(call.once("matmul", lambda: MatMul(call.build.unique(call.name))), left, right)


def _split(call: Call) -> Outputs:
    build, x = call.build, _wire(call)
    parts, axis = call.config.get("indices_or_sections"), call.whole("axis", 0)
    if isinstance(parts, int):
        length = call.shape(x)[axis]
        if build.is_word(length) or length % parts:
            raise call.refused("an axis that differs from call to call is split", "a known length", shown(parts))
        parts = [length // parts * place for place in range(1, parts)]
    if not isinstance(parts, (list, tuple)) or not all(isinstance(one, int) for one in parts):
        raise call.refused("a split that is not kept exactly", "whole numbers", shown(parts))
    ends = [0, *parts, None]
    return [
        build.slice(x, axis, start or None, stop, name=call.part(str(place)))
        for place, (start, stop) in enumerate(pairwise(ends))
    ]


def _unstack(call: Call) -> Outputs:
    x, axis = _wire(call), call.whole("axis", 0)
    return [call.build.select(x, axis, place, name=call.part(str(place))) for place in range(call.outputs)]


def _filled(value: float) -> Reader:
    """`ones_like` and `zeros_like`."""

    def read(call: Call) -> Outputs:
        build, x = call.build, _wire(call)
        is_bool = str(call.config.get("dtype")) == "bool"
        one = build.constant(np.full((1,) * call.rank(x), value, np.bool_ if is_bool else np.float32))
        sizes = tuple(Length(1, axis) for axis in range(call.rank(x)))
        found = build.call(Expand(build.unique(call.name), sizes), one, x)
        call.model.masks.spread[found] = [None] if value else []
        return found

    return Reader(read, {"dtype": _INERT}, _MANY)


def _flip(call: Call) -> Outputs:
    x, axis = _wire(call), call.config.get("axis")
    axes = tuple(range(call.rank(x))) if axis is None else tuple(axis) if isinstance(axis, (list, tuple)) else (axis,)
    return call.build.call(Flip(call.build.unique(call.name), axes), x)


def _pad(call: Call) -> Outputs:
    x, width, mode = _wire(call), call.config.get("pad_width"), call.config.get("mode", "constant")
    rank = call.rank(x)
    pairs = [(width, width)] * rank if isinstance(width, int) else [tuple(pair) for pair in width or ()]
    pairs = pairs * rank if len(pairs) == 1 else pairs
    if len(pairs) != rank or mode not in ("constant", "reflect", "edge"):
        raise call.refused("a padding that is not kept exactly", "constant, reflect or edge", shown(mode))
    return call.build.call(Pad(call.build.unique(call.name), tuple(pairs), 0.0, mode), x)


def _normalize(call: Call) -> Outputs:
    x, axis = _wire(call), call.config.get("axis", -1)
    if call.config.get("order", 2) != 2:
        raise call.refused("order is not kept exactly", "2", shown(call.config.get("order")))
    axes = tuple(axis) if isinstance(axis, (list, tuple)) else (axis,)
    shortest = call.config.get("epsilon") or 1e-7
    return call.build.call(UnitNormalization(call.build.unique(call.name), axes, float(shortest)), x)


def _gelu(call: Call) -> Outputs:
    if call.config.get("approximate", True):
        return gelu_of_tanh(call.build, _wire(call), call.name)
    return call.build.activation("gelu", _wire(call), name=call.name)


def _broadcast_to(call: Call) -> Outputs:
    x, shape = _wire(call), call.config.get("shape")
    if not isinstance(shape, (list, tuple)) or not all(isinstance(one, int) for one in shape):
        raise call.refused("a shape that is not kept exactly", "whole numbers", shown(shape))
    return call.build.expand(x, list(shape), name=call.name)


def _flatten(call: Call) -> Outputs:
    return call.build.reshape(_wire(call), [-1], name=call.name)


def _moments(function: str) -> Callable[[Call], Outputs]:
    def read(call: Call) -> Outputs:
        build, x = call.build, _wire(call)
        axis, rank = call.config.get("axis"), call.rank(x)
        axes = list(range(rank)) if axis is None else axis if isinstance(axis, (list, tuple)) else [axis]
        centred = build.subtract(x, build.mean(x, axes, keepdims=True))
        keepdims, is_std = bool(call.config.get("keepdims")), function == "std"
        variance = build.mean(build.elementwise("square", centred), axes, keepdims, name=None if is_std else call.name)
        return build.elementwise("sqrt", variance, name=call.name) if is_std else variance

    return read


_MANY = tuple(f"x{place}" for place in range(1, 9))
"""Operations take their tensors by position; named ones are told by `names_of`."""

_OPTIONS: Mapping[str, Option] = {}


def _read(read: Callable[[Call], Outputs], *options: str) -> Reader:
    return Reader(read, dict.fromkeys(options, _INERT), _MANY)


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
    **{name: _elementwise(function) for name, function in _ELEMENTWISE.items()},
    **{name: _activation(function) for name, function in _FUNCTIONS.items()},
    **{name: _reduction(function) for name, function in _REDUCTIONS.items()},
    "NotEqual": _read(_not_equal),
    "LogicalOr": _read(_logical_or),
    "LeakyRelu": _with_option("leaky_relu", "negative_slope", 0.2),
    "Elu": _with_option("elu", "alpha", 1.0),
    "Gelu": _read(_gelu, "approximate"),
    "Softmax": _read(lambda call: _softmax(call, log=False), "axis"),
    "LogSoftmax": _read(lambda call: _softmax(call, log=True), "axis"),
    "Norm": _read(_norm, "ord", "axis", "keepdims"),
    "Normalize": _read(_normalize, "axis", "order", "epsilon"),
    "Var": _read(_moments("var"), "axis", "keepdims"),
    "Std": _read(_moments("std"), "axis", "keepdims"),
    "Reshape": _read(_reshape, "newshape"),
    "Flatten": _read(_flatten),
    "Ravel": _read(_flatten),
    "Transpose": _read(_transpose, "axes"),
    "Swapaxes": _read(_swapped, "axis1", "axis2"),
    "Moveaxis": _read(_moved, "source", "destination"),
    "ExpandDims": _read(_expand_dims, "axis"),
    "Squeeze": _read(_squeeze, "axis"),
    "BroadcastTo": _read(_broadcast_to, "shape"),
    "Concatenate": _read(_concatenate, "axis"),
    "Stack": _read(lambda call: call.build.stack(_tensors(call), call.whole("axis", 0), name=call.name), "axis"),
    "Repeat": _read(_repeat, "repeats", "axis"),
    "Tile": _read(_tile, "repeats"),
    "Flip": _read(_flip, "axis"),
    "Pad": _read(_pad, "pad_width", "mode"),
    "Clip": _read(_clip, "x_min", "x_max"),
    "Cast": _read(_cast, "dtype"),
    "Matmul": _read(_product),
    "Dot": _read(_product),
    "Einsum": _read(_einsum, "subscripts"),
    "Split": _read(_split, "indices_or_sections", "axis"),
    "Unstack": _read(_unstack, "num", "axis"),
    "OnesLike": _filled(1.0),
    "ZerosLike": _filled(0.0),
    "Identity": _read(_wire),
    "StopGradient": _read(_wire),
    "GetItem": _read(get_item),
    "Take": _read(take, "axis"),
}
"""The operations that are read, by class."""
