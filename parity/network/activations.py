"""Activations of the layers around the recurrent ones, one row each: its names in the frameworks and what it computes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from parity.reference import Float64, Rounding, sigmoid


@dataclass(frozen=True)
class Activation:
    """One activation: `torch` names the module in `torch.nn`, `onnx` the operator; the key in `ACTIVATIONS` is Keras's name."""

    torch: str
    onnx: str
    compute: Callable[[Float64, Rounding, str], Float64]


def _linear(x: Float64, rounding: Rounding, site: str) -> Float64:  # noqa: ARG001  the signature all of them share
    return x


def _relu(x: Float64, rounding: Rounding, site: str) -> Float64:  # noqa: ARG001  the signature all of them share
    return np.maximum(x, 0.0)


def _softmax(x: Float64, rounding: Rounding, site: str) -> Float64:
    powers = rounding.tanh(np.exp(x - x.max(axis=-1, keepdims=True)), f"{site}.exp")
    total = rounding.tanh(powers.sum(axis=-1, keepdims=True), f"{site}.total")
    return rounding.product(powers / total, site)


ACTIVATIONS: dict[str, Activation] = {
    "linear": Activation("Identity", "Identity", _linear),
    "relu": Activation("ReLU", "Relu", _relu),
    "sigmoid": Activation("Sigmoid", "Sigmoid", lambda x, rounding, site: rounding.sigmoid(sigmoid(x), site)),
    "tanh": Activation("Tanh", "Tanh", lambda x, rounding, site: rounding.tanh(np.tanh(x), site)),
    "softmax": Activation("Softmax", "Softmax", _softmax),
}
