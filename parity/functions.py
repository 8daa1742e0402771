"""Elementwise functions of recurrent cells: one row each, with its parameters, its names and what it computes.

Sources: the ONNX operator specification (activations of LSTM, GRU and RNN, and the operators of the same names); Keras 3
`keras/src/activations/activations.py`; Hendrycks & Gimpel 2016 (gelu), Klambauer et al. 2017 (selu), Misra 2019 (mish).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from parity.errors import UnsupportedError

Float64 = NDArray[np.float64]
Noise = Literal["product", "sigmoid", "tanh", "smooth"]


@dataclass(frozen=True)
class FunctionRow:
    """One function.

    Args:
        compute: of x and those of alpha and beta that it has.
        noise: the kind of float32 rounding its result suffers, a method of `parity.reference.Rounding`.
        alpha, beta: what the ONNX operator specification and Keras take unless told otherwise; None where it has no such parameter.
        onnx: its name among the activations of the ONNX operators LSTM, GRU and RNN, None where it is not one.
        keras: its name in `keras.activations`, None where there is none.
        keras_parameters: the parameters that the function of Keras has.
        coarse: how many times the usual error of such a function the worst kernel was measured to have.
    """

    compute: Callable[..., Float64]
    noise: Noise = "smooth"
    alpha: float | None = None
    beta: float | None = None
    onnx: str | None = None
    keras: str | None = None
    keras_parameters: tuple[float | None, float | None] = (None, None)
    coarse: float = 1.0


@dataclass(frozen=True)
class Function:
    """A function with its parameters.

    Args:
        name: a key of `FUNCTIONS`.
        alpha, beta: its parameters; None for a function that has none.

    Example:
        >>> Function("hard_sigmoid", 0.2, 0.5)(np.array([-5.0, 0.0, 1.0])).tolist()
        [0.0, 0.5, 0.7]
    """

    name: str
    alpha: float | None = None
    beta: float | None = None

    @property
    def parameters(self) -> dict[str, float]:
        """Those of alpha and beta that it has."""
        return {name: value for name, value in (("alpha", self.alpha), ("beta", self.beta)) if value is not None}

    def __call__(self, x: Float64) -> Float64:  # noqa: D102  the class says it
        return FUNCTIONS[self.name].compute(x, **self.parameters)

    def __str__(self) -> str:
        given = [f"{name}={value:.6g}" for name, value in self.parameters.items()]
        return f"{self.name}({', '.join(given)})" if given else self.name

    @property
    def keras_name(self) -> str | None:
        """What Keras calls exactly this function, None where it has none or has it with other parameters.

        Example:
            >>> Function("hard_sigmoid", 0.2, 0.5).keras_name is None, Function("affine", 1.0, 0.0).keras_name
            (True, 'linear')
        """
        row = FUNCTIONS[self.name]
        return row.keras if (self.alpha, self.beta) == row.keras_parameters else None


def _softplus(x: Float64) -> Float64:
    smooth: Float64 = np.logaddexp(x, 0.0)
    return smooth


def _hard(x: Float64, alpha: float, beta: float) -> Float64:
    return np.clip(alpha * x + beta, 0.0, 1.0)


_ERF = np.frompyfunc(math.erf, 1, 1)
_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805


def _elu(x: Float64, alpha: float) -> Float64:
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0.0)))


def sigmoid(x: Float64) -> Float64:
    """1 / (1 + exp(-x)), accurate in both tails.

    Example:
        >>> sigmoid(np.array([-1000.0, 0.0, 1000.0])).tolist()
        [0.0, 0.5, 1.0]
    """
    tail = np.exp(-np.abs(x))
    result: Float64 = np.where(x >= 0, 1.0, tail) / (1.0 + tail)
    return result


FUNCTIONS: dict[str, FunctionRow] = {
    "tanh": FunctionRow(np.tanh, "tanh", onnx="Tanh", keras="tanh"),
    "sigmoid": FunctionRow(sigmoid, "sigmoid", onnx="Sigmoid", keras="sigmoid"),
    "relu": FunctionRow(lambda x: np.maximum(x, 0.0), "product", onnx="Relu", keras="relu"),
    "affine": FunctionRow(
        lambda x, alpha, beta: alpha * x + beta,
        alpha=1.0,
        beta=0.0,
        onnx="Affine",
        keras="linear",
        keras_parameters=(1.0, 0.0),
    ),
    "hard_sigmoid": FunctionRow(
        _hard, alpha=0.2, beta=0.5, onnx="HardSigmoid", keras="hard_sigmoid", keras_parameters=(1 / 6, 0.5)
    ),
    "leaky_relu": FunctionRow(
        lambda x, alpha: np.where(x >= 0, x, alpha * x),
        "product",
        alpha=0.01,
        onnx="LeakyRelu",
        keras="leaky_relu",
        keras_parameters=(0.2, None),
    ),
    "thresholded_relu": FunctionRow(
        lambda x, alpha: np.where(x > alpha, x, 0.0), "product", alpha=1.0, onnx="ThresholdedRelu"
    ),
    "scaled_tanh": FunctionRow(
        lambda x, alpha, beta: alpha * np.tanh(beta * x), alpha=1.0, beta=1.0, onnx="ScaledTanh"
    ),
    "elu": FunctionRow(_elu, alpha=1.0, onnx="Elu", keras="elu", keras_parameters=(1.0, None)),
    "softsign": FunctionRow(lambda x: x / (1.0 + np.abs(x)), onnx="Softsign", keras="softsign"),
    "softplus": FunctionRow(_softplus, onnx="Softplus", keras="softplus"),
    "selu": FunctionRow(lambda x: _SELU_SCALE * _elu(x, _SELU_ALPHA), keras="selu"),
    "silu": FunctionRow(lambda x: x * sigmoid(x), keras="silu"),
    # Measured: the gelu of torch is off by up to 6 times the usual error, at -3.5.
    "gelu": FunctionRow(
        lambda x: 0.5 * x * (1.0 + _ERF(x / math.sqrt(2.0)).astype(np.float64)), keras="gelu", coarse=6.0
    ),
    "mish": FunctionRow(lambda x: x * np.tanh(_softplus(x)), keras="mish"),
    "exponential": FunctionRow(np.exp, keras="exponential"),
    "relu6": FunctionRow(lambda x: np.clip(x, 0.0, 6.0), "product", keras="relu6"),
    "hard_tanh": FunctionRow(lambda x: np.clip(x, -1.0, 1.0), "product", keras="hard_tanh"),
    "hard_silu": FunctionRow(lambda x: x * _hard(x, 1 / 6, 0.5), keras="hard_silu"),
    "log_sigmoid": FunctionRow(lambda x: -_softplus(-x), keras="log_sigmoid"),
    "tanh_shrink": FunctionRow(lambda x: x - np.tanh(x), keras="tanh_shrink"),
}
"""The functions a cell may apply, by name."""

KERAS_ALIASES = {"swish": "silu", "hard_swish": "hard_silu", None: "linear"}
"""Other words of Keras for the same functions."""

_BY_KERAS = {row.keras: name for name, row in FUNCTIONS.items() if row.keras}
_BY_ONNX = {row.onnx.lower(): name for name, row in FUNCTIONS.items() if row.onnx}


def function_from_keras(name: str | None, hard_sigmoid_of_keras_2: bool = False) -> Function:
    """A function of `keras.activations`, by name.

    Args:
        name: as Keras serializes it; None is linear.
        hard_sigmoid_of_keras_2: whether "hard_sigmoid" means 0.2 x + 0.5, as in Keras 1 and 2, not x / 6 + 0.5 as in Keras 3.

    Raises:
        UnsupportedError: a name that is not in the table.

    Example:
        >>> str(function_from_keras("hard_sigmoid")), str(function_from_keras(None))
        ('hard_sigmoid(alpha=0.166667, beta=0.5)', 'affine(alpha=1, beta=0)')
    """
    own = KERAS_ALIASES.get(name, name)
    if own == "hard_sigmoid" and hard_sigmoid_of_keras_2:
        return Function("hard_sigmoid", 0.2, 0.5)
    if own not in _BY_KERAS:
        known = ", ".join(sorted(word for word in _BY_KERAS if word))
        raise UnsupportedError(
            "this activation is not converted", expected=known, got=str(name), remedy="train with one of these"
        )
    found = _BY_KERAS[own]
    return Function(found, *FUNCTIONS[found].keras_parameters)


def function_from_onnx(name: str, alpha: float | None = None, beta: float | None = None) -> Function:
    """A function of ONNX's `activations`, by name in any case; a parameter that is not given is the specification's.

    Raises:
        UnsupportedError: a name that is not in the specification.

    Example:
        >>> str(function_from_onnx("HardSigmoid"))
        'hard_sigmoid(alpha=0.2, beta=0.5)'
    """
    if name.lower() not in _BY_ONNX:
        known = ", ".join(row.onnx for row in FUNCTIONS.values() if row.onnx)
        raise UnsupportedError("this activation is not in ONNX's recurrent operators", expected=known, got=name)
    found = _BY_ONNX[name.lower()]
    row = FUNCTIONS[found]
    return Function(
        found,
        None if row.alpha is None else row.alpha if alpha is None else alpha,
        None if row.beta is None else row.beta if beta is None else beta,
    )
