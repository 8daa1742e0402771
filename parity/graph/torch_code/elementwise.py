"""Arithmetic, functions, products and reductions in torch."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import numpy as np

from parity.functions import FUNCTIONS, Function
from parity.graph.graph import Node, Wire
from parity.graph.operations import Activation, Cast, Einsum, Elementwise, MatMul, Reduction, Softmax, UnitNormalization
from parity.graph.torch_code.expressions import Expr, binary, call, chain, method, number, power, prefixed
from parity.graph.torch_code.writer import Writer

_OPERATORS = {
    "subtract": "-",
    "divide": "/",
    "equal": "==",
    "not_equal": "!=",
    "greater": ">",
    "greater_equal": ">=",
    "less": "<",
    "less_equal": "<=",
}
_CHAINS = {"add": "+", "multiply": "*", "average": "+"}
_LOGIC = {"logical_and": "&", "logical_or": "|"}
_METHODS = {"abs": "abs", "square": "square", "floor": "floor", "sign": "sign"}
_CALLS = {name: f"torch.{name}" for name in ("sqrt", "rsqrt", "exp", "log", "log1p", "sin", "cos", "erf")}
_EXTREMES = {"maximum": "min", "minimum": "max"}
"""`maximum` with a number is `clamp(min=...)`."""

_MOST_OPERANDS = 6


def elementwise(w: Writer, node: Node) -> Expr:
    """A function of `parity.graph.operations.ELEMENTWISE`."""
    assert isinstance(node.operation, Elementwise)
    function, wires = node.operation.function, [wire for wire in node.inputs if wire is not None]
    operands = _operands(w, wires, function)
    if function in _CHAINS:
        joined = _joined(w, node, _CHAINS[function], operands)
        return binary("/", joined, Expr(str(len(operands)))) if function == "average" else joined
    if function in _LOGIC:
        if all(w.kinds.get(wire) == "bool" for wire in wires):
            return _joined(w, node, _LOGIC[function], operands)
        return reduce(lambda left, right: call(f"torch.{function}", left, right), operands)
    if function in _OPERATORS:
        return binary(_OPERATORS[function], *operands)
    if function in _EXTREMES:
        return _extreme(function, operands)
    if function == "where":
        condition = operands[0] if w.kinds.get(wires[0]) == "bool" else binary("!=", operands[0], Expr("0"))
        return call("torch.where", condition, *operands[1:])
    (x, *rest) = operands
    if function == "power":
        return power(x, rest[0])
    if function == "reciprocal":
        return binary("/", Expr("1"), x)
    if function == "negative":
        return prefixed("-", x)
    if function == "logical_not":
        return prefixed("~", x) if w.kinds.get(wires[0]) == "bool" else call("torch.logical_not", x)
    return method(x, _METHODS[function]) if function in _METHODS else call(_CALLS[function], x)


def _operands(w: Writer, wires: list[Wire], function: str) -> list[Expr]:
    """Constants that are numbers are written as such, as long as something that is a tensor stands beside them."""
    numbers = {wire: text for wire in wires if (text := w.number(wire)) is not None}
    beside = wires[1:] if function == "where" else wires
    if all(wire in numbers for wire in beside) or (function == "where" and wires[0] in numbers):
        numbers = {}
    # The number that torch.where takes must not be the only operand that is a float.
    if function == "where" and any(w.kinds.get(wire) != "float32" for wire in beside):
        numbers = {}
    tensors = [wire for wire in wires if wire not in numbers]
    if len(tensors) > _MOST_OPERANDS:
        for wire in tensors:
            w.name(wire)
    values = {**dict(zip(tensors, w.take(*tensors), strict=True)), **numbers}
    return [values[wire] for wire in wires]


def _joined(w: Writer, node: Node, operator: str, operands: list[Expr]) -> Expr:
    """A chain, cut into several lines where it is long."""
    if all(operand.text == operands[0].text for operand in operands) and len(operands) > 2:
        return reduce(lambda left, right: binary(operator, left, right), operands)
    found = chain(operator, operands[:_MOST_OPERANDS])
    for start in range(_MOST_OPERANDS, len(operands), _MOST_OPERANDS - 1):
        found = w.body.assign(found, w.wanted(node))
        found = chain(operator, [found, *operands[start : start + _MOST_OPERANDS - 1]])
    return found


def _extreme(function: str, operands: list[Expr]) -> Expr:
    def two(left: Expr, right: Expr) -> Expr:
        for one, other in ((left, right), (right, left)):
            if _is_number(one):
                return method(other, "clamp", f"{_EXTREMES[function]}={one.text}")
        return call(f"torch.{function}", left, right)

    return reduce(two, operands)


def _is_number(value: Expr) -> bool:
    return value.is_name and (value.text.lstrip("-")[:1].isdigit() or value.text.lstrip("-").startswith("math."))


# ---- functions of one argument

_FUNCTIONS: dict[str, str] = {
    "tanh": "torch.tanh",
    "sigmoid": "torch.sigmoid",
    "relu": "torch.relu",
    "softsign": "F.softsign",
    "selu": "F.selu",
    "silu": "F.silu",
    "gelu": "F.gelu",
    "mish": "F.mish",
    "exponential": "torch.exp",
    "relu6": "F.relu6",
    "hard_tanh": "F.hardtanh",
    "hard_silu": "F.hardswish",
    "log_sigmoid": "F.logsigmoid",
    "tanh_shrink": "F.tanhshrink",
}
_USUAL = {"leaky_relu": ("F.leaky_relu", 0.01), "elu": ("F.elu", 1.0)}


def activated(function: Function, x: Expr, double: bool = False) -> Expr:
    """A function of `parity.functions` in torch.

    Args:
        function: with its parameters.
        x: what it is applied to, once.
        double: whether it is computed in float64.

    Example:
        >>> activated(Function("hard_sigmoid", 0.2, 0.5), Expr("x")).text, activated(Function("leaky_relu", 0.2), Expr("x")).text
        ('(0.2 * x + 0.5).clamp(0.0, 1.0)', 'F.leaky_relu(x, 0.2)')
    """
    name, parameters = function.name, [number(value) for value in function.parameters.values()]
    if name in _FUNCTIONS:
        return call(_FUNCTIONS[name], x)
    if name in _USUAL:
        called, usual = _USUAL[name]
        return call(called, x, *(one for one in parameters if one.text != repr(usual)))
    if name == "softplus":
        # torch takes x itself for softplus(x) from 20 on, which is right in float32 alone.
        return call("F.softplus", x, "threshold=40") if double else call("F.softplus", x)
    if name == "affine":
        return _affine(x, *parameters)
    if name == "hard_sigmoid":
        if (function.alpha, function.beta) == (1 / 6, 0.5):
            return call("F.hardsigmoid", x)
        return method(_affine(x, *parameters), "clamp", "0.0", "1.0")
    if name == "thresholded_relu":
        return call("F.threshold", x, parameters[0], "0.0")
    assert name == "scaled_tanh"
    return _times(parameters[0], call("torch.tanh", _times(parameters[1], x)))


def _affine(x: Expr, alpha: Expr, beta: Expr) -> Expr:
    scaled = _times(alpha, x)
    return scaled if beta.text in ("0.0", "-0.0") else binary("+", scaled, beta)


def _times(factor: Expr, x: Expr) -> Expr:
    return x if factor.text == "1.0" else binary("*", factor, x)


def activation(w: Writer, node: Node) -> Expr:
    """An `Activation` node."""
    assert isinstance(node.operation, Activation)
    assert node.operation.function.name in FUNCTIONS
    (x,) = w.take(_first(node))
    return activated(node.operation.function, x, w.float_type == np.float64)


def softmax(w: Writer, node: Node) -> Expr:
    """A `Softmax` node."""
    assert isinstance(node.operation, Softmax)
    (x,) = w.take(_first(node))
    return call("torch.log_softmax" if node.operation.log else "torch.softmax", x, f"dim={node.operation.axis}")


def cast(w: Writer, node: Node) -> Expr:
    """A `Cast` node."""
    assert isinstance(node.operation, Cast)
    wire = _first(node)
    if w.scalar(wire) is None and w.kinds.get(wire) == node.operation.dtype:
        return w.take(wire)[0]
    (x,) = w.take(wire)
    names = {"int64": "long", "bool": "bool", "float32": "double" if w.float_type == np.float64 else "float"}
    return method(x, names[node.operation.dtype])


# ---- products and reductions


def matmul(w: Writer, node: Node) -> Expr:
    """A `MatMul` node."""
    left, right = w.take(*_all(node))
    return binary("@", left, right)


def einsum(w: Writer, node: Node) -> Expr:
    """An `Einsum` node."""
    assert isinstance(node.operation, Einsum)
    return call("torch.einsum", f'"{node.operation.equation}"', *w.take(*_all(node)))


_REDUCTIONS: dict[str, str] = {
    "sum": "sum",
    "mean": "mean",
    "max": "amax",
    "min": "amin",
    "prod": "prod",
    "any": "any",
    "all": "all",
    "argmax": "argmax",
    "logsumexp": "logsumexp",
}


def reduction(w: Writer, node: Node) -> Expr:
    """A `Reduction` node."""
    assert isinstance(node.operation, Reduction)
    function, axes, wire = node.operation.function, node.operation.axes, _first(node)
    (x,) = w.take(wire)
    keep = ["keepdim=True"] if node.operation.keepdims else []
    if not axes:
        return x
    if function == "norm":
        return call("torch.linalg.vector_norm", x, _dim(axes), *keep)
    if function == "mean" and w.kinds.get(wire) in ("int64", "bool"):
        x = method(x, "double" if w.float_type == np.float64 else "float")
    if function == "prod":
        rank = w.rank(wire)
        places = sorted(((axis + rank if axis < 0 and rank else axis) for axis in axes), reverse=True)
        return reduce(lambda value, axis: method(value, "prod", f"dim={axis}", *keep), places, x)
    return method(x, _REDUCTIONS[function], _dim(axes), *keep)


def unit_normalization(w: Writer, node: Node) -> Expr:
    """A `UnitNormalization` node."""
    assert isinstance(node.operation, UnitNormalization)
    axes, epsilon = node.operation.axes, node.operation.epsilon
    wire = _first(node)
    if len(axes) == 1:
        (x,) = w.take(wire)
        dim = [] if axes[0] == 1 else [_dim(axes)]
        return call("F.normalize", x, *dim, *([] if epsilon == 1e-12 else [f"eps={epsilon!r}"]))
    x = w.name(wire)
    norm = call("torch.linalg.vector_norm", x, _dim(axes), "keepdim=True")
    return binary("/", x, method(norm, "clamp", f"min={epsilon!r}"))


def _dim(axes: tuple[int, ...]) -> str:
    return f"dim={axes[0]}" if len(axes) == 1 else f"dim={axes}"


def _first(node: Node) -> Wire:
    return _all(node)[0]


def _all(node: Node) -> list[Wire]:
    return [wire for wire in node.inputs if wire is not None]


ELEMENTWISE_RENDERERS: dict[type, Callable[[Writer, Node], Expr]] = {
    Elementwise: elementwise,
    Activation: activation,
    Softmax: softmax,
    Cast: cast,
    Reduction: reduction,
    UnitNormalization: unit_normalization,
    MatMul: matmul,
    Einsum: einsum,
}

__all__ = ["ELEMENTWISE_RENDERERS", "activated"]
