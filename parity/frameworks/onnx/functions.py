"""The functions of `parity.functions` as plain ONNX operators, for cells that the recurrent operators do not know.

Every row says what the row of the same name in `parity.functions.FUNCTIONS` computes, from the same sources.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from parity.frameworks.onnx.nodes import Assembly
from parity.functions import Function

Row = Callable[["_Composed"], str]


class _Composed:
    """One function on one tensor."""

    def __init__(self, assembly: Assembly, function: Function, x: str, name: str) -> None:
        self.assembly, self.x, self.name = assembly, x, name
        self.alpha = 0.0 if function.alpha is None else function.alpha
        self.beta = 0.0 if function.beta is None else function.beta

    def op(self, op: str, *inputs: str | float, **attributes: Any) -> str:
        """A node; numbers become constants."""
        tensors = [
            self.assembly.number(f"{self.name}.{value:g}", value) if isinstance(value, float) else value
            for value in inputs
        ]
        return self.assembly.node(op, tensors, f"{self.name}.{op.lower()}", **attributes)

    def within(self, low: float, high: float) -> str:
        """The tensor cut to a range; Clip has the range as attributes below opset 11, Max and Min have it everywhere."""
        return self.op("Min", self.op("Max", self.x, low), high)


def _affine(f: _Composed) -> str:
    return f.op("Add", f.op("Mul", f.x, f.alpha), f.beta)


def _thresholded(f: _Composed) -> str:
    return f.op("Where", f.op("Greater", f.x, f.alpha), f.x, 0.0)


def _gelu(f: _Composed) -> str:
    erf = f.op("Erf", f.op("Div", f.x, math.sqrt(2.0)))
    return f.op("Mul", f.op("Mul", f.x, 0.5), f.op("Add", erf, 1.0))


def _log_sigmoid(f: _Composed) -> str:
    return f.op("Neg", f.op("Softplus", f.op("Neg", f.x)))


ROWS: dict[str, Row] = {
    "tanh": lambda f: f.op("Tanh", f.x),
    "sigmoid": lambda f: f.op("Sigmoid", f.x),
    "relu": lambda f: f.op("Relu", f.x),
    "affine": _affine,
    "hard_sigmoid": lambda f: f.op("HardSigmoid", f.x, alpha=f.alpha, beta=f.beta),
    "leaky_relu": lambda f: f.op("LeakyRelu", f.x, alpha=f.alpha),
    "thresholded_relu": _thresholded,
    "scaled_tanh": lambda f: f.op("Mul", f.op("Tanh", f.op("Mul", f.x, f.beta)), f.alpha),
    "elu": lambda f: f.op("Elu", f.x, alpha=f.alpha),
    "softsign": lambda f: f.op("Softsign", f.x),
    "softplus": lambda f: f.op("Softplus", f.x),
    "selu": lambda f: f.op("Selu", f.x),
    "silu": lambda f: f.op("Mul", f.x, f.op("Sigmoid", f.x)),
    "gelu": _gelu,
    "mish": lambda f: f.op("Mul", f.x, f.op("Tanh", f.op("Softplus", f.x))),
    "exponential": lambda f: f.op("Exp", f.x),
    "relu6": lambda f: f.within(0.0, 6.0),
    "hard_tanh": lambda f: f.within(-1.0, 1.0),
    "hard_silu": lambda f: f.op("Mul", f.x, f.op("HardSigmoid", f.x, alpha=1 / 6, beta=0.5)),
    "log_sigmoid": _log_sigmoid,
    "tanh_shrink": lambda f: f.op("Sub", f.x, f.op("Tanh", f.x)),
}
"""By the names of `parity.functions.FUNCTIONS`."""


def composed_function(assembly: Assembly, function: Function, x: str, name: str) -> str:
    """Adds the nodes of a function and gives the name of its result.

    Example:
        >>> assembly = Assembly(17, ["x"], [])
        >>> composed_function(assembly, Function("silu"), "x", "f"), [node.op_type for node in assembly.nodes]
        ('f.mul', ['Sigmoid', 'Mul'])
    """
    return ROWS[function.name](_Composed(assembly, function, x, name))


def clipped(assembly: Assembly, x: str, limit: float, name: str) -> str:
    """Adds the nodes that cut a tensor to [-limit, limit].

    Example:
        >>> assembly = Assembly(7, ["x"], [])
        >>> clipped(assembly, "x", 0.5, "f"), [node.op_type for node in assembly.nodes]
        ('f.min', ['Max', 'Min'])
    """
    return _Composed(assembly, Function("hard_tanh"), x, name).within(-limit, limit)
