"""Softmax, and functions element by element."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812  as everybody calls it

from drawing.inputs import LONG, SIZES, Array, Draw, Kernel, Random, kerased, layered, numbers, onnxed, pick, torched
from parity.functions import FUNCTIONS, Function
from parity.graph.operations import (
    Activation,
    Elementwise,
    Softmax,
)


def softmax(log: bool) -> Callable[[Random], Draw]:
    """A softmax, or its logarithm, along an axis."""

    def draw(random: Random) -> Draw:
        axis = int(random.integers(1, 3))
        shape = [2, pick(random, SIZES), pick(random, SIZES)]
        shape[axis] = pick(random, LONG)
        x = numbers(random, *shape)
        name = "log_softmax" if log else "softmax"
        kernels = {
            "torch": torched(lambda x: getattr(F, name)(x, axis)),
            "keras": kerased(lambda ops, x: getattr(ops, name)(x, axis)),
            "onnxruntime": onnxed("LogSoftmax" if log else "Softmax", axis=axis),
        }
        return Draw(Softmax("softmax", axis, log), (x,), kernels, f"{shape}, axis {axis}, up to {np.abs(x).max():.2g}")

    return draw


_POSITIVE = ("sqrt", "rsqrt", "log", "log1p")

ELEMENTWISE: dict[str, tuple[Kernel, str, str | None]] = {
    "add": (torch.add, "add", "Add"),
    "multiply": (torch.mul, "multiply", "Mul"),
    "subtract": (torch.sub, "subtract", "Sub"),
    "divide": (torch.div, "divide", "Div"),
    "power": (torch.pow, "power", "Pow"),
    "maximum": (torch.maximum, "maximum", "Max"),
    "square": (torch.square, "square", None),
    "sqrt": (torch.sqrt, "sqrt", "Sqrt"),
    "rsqrt": (torch.rsqrt, "rsqrt", None),
    "reciprocal": (torch.reciprocal, "reciprocal", "Reciprocal"),
    "exp": (torch.exp, "exp", "Exp"),
    "log": (torch.log, "log", "Log"),
    "log1p": (torch.log1p, "log1p", None),
    "sin": (torch.sin, "sin", "Sin"),
    "cos": (torch.cos, "cos", "Cos"),
    "erf": (torch.erf, "erf", "Erf"),
    "abs": (torch.abs, "abs", "Abs"),
    "floor": (torch.floor, "floor", "Floor"),
}


def elementwise(function: str) -> Callable[[Random], Draw]:
    """A function of `parity.graph.operations.ELEMENTWISE`."""

    torch_function, keras_name, onnx_name = ELEMENTWISE[function]
    two = function in ("add", "multiply", "subtract", "divide", "power", "maximum")

    def draw(random: Random) -> Draw:
        shape = (3, pick(random, LONG))
        x = numbers(random, *shape, positive=function in (*_POSITIVE, "power", "reciprocal"))
        if function == "exp":
            x = np.clip(x, -80, 80)
        inputs: tuple[Array, ...] = (x,)
        if two:
            y = numbers(random, *shape, positive=function == "divide")
            inputs = (x, np.clip(y, -4, 4) if function == "power" else y)
        kernels = {
            "torch": torched(torch_function),
            "keras": kerased(lambda ops, *values: getattr(ops, keras_name)(*values)),
        }
        if onnx_name:
            kernels["onnxruntime"] = onnxed(onnx_name)
        return Draw(Elementwise(function, function), inputs, kernels, f"{shape}, up to {np.abs(x).max():.2g}")

    return draw


_TORCH: dict[str, Kernel] = {
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "relu": F.relu,
    "affine": lambda x, alpha, beta: alpha * x + beta,
    "hard_sigmoid": lambda x, alpha, beta: torch.clamp(alpha * x + beta, 0, 1),
    "leaky_relu": F.leaky_relu,
    "thresholded_relu": lambda x, alpha: torch.where(x > alpha, x, torch.zeros_like(x)),
    "scaled_tanh": lambda x, alpha, beta: alpha * torch.tanh(beta * x),
    "elu": F.elu,
    "softsign": F.softsign,
    "softplus": F.softplus,
    "selu": F.selu,
    "silu": F.silu,
    "gelu": F.gelu,
    "mish": F.mish,
    "exponential": torch.exp,
    "relu6": F.relu6,
    "hard_tanh": F.hardtanh,
    "hard_silu": F.hardswish,
    "log_sigmoid": F.logsigmoid,
    "tanh_shrink": F.tanhshrink,
}


def activation(name: str) -> Callable[[Random], Draw]:
    """A function of `parity.functions.FUNCTIONS`, with the parameters of Keras."""

    row = FUNCTIONS[name]
    own = row.keras_parameters if row.keras else (row.alpha, row.beta)
    function = Function(name, *own)

    def draw(random: Random) -> Draw:
        x = numbers(random, 3, pick(random, LONG))
        x = np.clip(x, -80, 80) if name == "exponential" else x
        parameters = function.parameters.values()
        kernels = {}
        if name in _TORCH:
            kernels["torch"] = torched(lambda x: _TORCH[name](x, *parameters))
        if row.keras and name != "affine":
            kernels["keras"] = layered(lambda keras: keras.layers.Activation(row.keras))
        if row.onnx and name not in ("affine", "scaled_tanh"):
            options: dict[str, Any] = function.parameters
            kernels["onnxruntime"] = onnxed(row.onnx, **options)
        return Draw(Activation(name, function), (x,), kernels, f"{x.shape}, up to {np.abs(x).max():.2g}")

    return draw
