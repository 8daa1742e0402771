"""Random operations of graphs on random inputs, each with the kernels of the frameworks that compute the same, for calibration."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper
from torch.nn import functional as F

from parity.functions import FUNCTIONS, Function
from parity.graph.operations import (
    Activation,
    BatchNormalization,
    Convolution,
    Einsum,
    Elementwise,
    GroupNormalization,
    LayerNormalization,
    MatMul,
    Pooling,
    Reduction,
    Softmax,
    UnitNormalization,
)
from parity.network import Dense

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Kernel: TypeAlias = Callable[..., Any]
Random: TypeAlias = np.random.Generator

SIZES = (1, 2, 3, 7, 16, 33, 64, 129)
LONG = (*SIZES, 300, 512, 1000, 3000)


@dataclass(frozen=True)
class Draw:
    """One operation on inputs.

    Args:
        operation: of a graph.
        inputs: float32.
        kernels: what computes it, by engine.
        case: its options in words.
    """

    operation: Any
    inputs: tuple[Array, ...]
    kernels: dict[str, Kernel]
    case: str


@cache
def _ops() -> Any:
    import keras

    return keras.ops


def torched(function: Kernel) -> Kernel:
    """A function of torch tensors, of arrays."""
    return lambda *arrays: function(*(torch.from_numpy(np.ascontiguousarray(x)) for x in arrays)).numpy()


def kerased(function: Kernel) -> Kernel:
    """A function of `keras.ops` and tensors, of arrays."""
    return lambda *arrays: np.asarray(function(_ops(), *(_ops().convert_to_tensor(x) for x in arrays)))


def onnxed(operator: str, constants: dict[str, Array] | None = None, opset: int = 20, **attributes: Any) -> Kernel:
    """One ONNX operator of arrays, with further inputs that are constant."""

    def kernel(*arrays: Array) -> Array:
        given = {f"x{index}": array for index, array in enumerate(arrays)} | (constants or {})
        node = helper.make_node(operator, list(given), ["y"], **attributes)
        kinds = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64}
        inputs = [helper.make_tensor_value_info(n, kinds[str(a.dtype)], a.shape) for n, a in given.items()]
        graph = helper.make_graph([node], "g", inputs, [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        found: Array = onnxruntime.InferenceSession(onnx.ModelProto.SerializeToString(model), options).run(None, given)[
            0
        ]
        return found

    return kernel


# ---- inputs


def numbers(random: Random, *shape: int, positive: bool = False) -> Array:
    """Random float32 of a random kind: normal, uniform, sparse, or around a large mean, of scales from 1e-2 to 1e2."""
    x = random.standard_normal(shape)
    kind = random.integers(4)
    if kind == 1:
        x = random.uniform(-1, 1, shape)
    elif kind == 2:
        x *= random.random(shape) < 0.3
    elif kind == 3:
        x += random.choice([-1, 1]) * 10.0 ** random.uniform(0, 2)
    x = x * 10.0 ** random.uniform(-2, 2)
    found: Array = (np.abs(x) + 1e-3 if positive else x).astype(np.float32)
    return found


def weights(random: Random, *shape: int) -> Array:
    """Random float32 as trained weights are."""
    terms = int(np.prod(shape[:-1])) or 1
    found: Array = (random.standard_normal(shape) * random.choice([0.1, 1, 2]) / np.sqrt(terms)).astype(np.float32)
    return found


def pick(random: Random, values: tuple[int, ...]) -> int:
    """One of some lengths."""
    return int(random.choice(values))


# ---- sums of products


def convolution(random: Random) -> Draw:
    """Of one or two axes, with strides, dilations, groups and up to 512 channels."""
    axes = int(random.integers(1, 3))
    groups = int(random.choice([1, 1, 2, 4]))
    taken = groups * pick(random, (1, 3, 16, 64, 128, 512) if groups == 1 else (1, 3, 16))
    given = groups * pick(random, (1, 5, 16))
    sizes = tuple(int(n) for n in random.integers(1, 6 if axes == 1 else 4, axes))
    strides = tuple(int(n) for n in random.integers(1, 3, axes))
    dilations = tuple(int(n) for n in random.integers(1, 3, axes)) if strides == (1,) * axes else (1,) * axes
    pads = tuple((int(n), int(n)) for n in random.integers(0, 3, axes))
    kernel, bias = weights(random, *sizes, taken // groups, given), numbers(random, given)
    x = numbers(random, 2, taken, *(int(n) for n in random.integers(9, 16, axes)))
    own = np.moveaxis(kernel, (-1, -2), (0, 1))
    function: Any = F.conv1d if axes == 1 else F.conv2d
    padding = tuple(pad for pad, _ in pads)
    t_kernel, t_bias = torch.from_numpy(np.ascontiguousarray(own)), torch.from_numpy(bias)
    constants = {"w": np.ascontiguousarray(own), "b": bias}
    options = {"strides": strides, "dilations": dilations, "pads": (*padding, *padding), "group": groups}
    kernels = {
        "torch": torched(lambda x: function(x, t_kernel, t_bias, strides, padding, dilations, groups)),
        "onnxruntime": onnxed("Conv", constants, **options),
    }
    if groups == 1:

        def keras_kernel(ops: Any, x: Any) -> Any:
            last = ops.transpose(ops.pad(x, ((0, 0), (0, 0), *pads)), (0, *range(2, axes + 2), 1))
            y = ops.conv(last, kernel, strides, "valid", dilation_rate=dilations) + bias
            return ops.transpose(y, (0, axes + 1, *range(1, axes + 1)))

        kernels["keras"] = kerased(keras_kernel)
    operation = Convolution("conv", kernel, bias, strides, dilations, pads, groups, channels_last=False)
    return Draw(operation, (x,), kernels, f"{kernel.shape}, {groups} groups, {strides}, {dilations}, {pads}")


def dense(random: Random) -> Draw:
    """Up to 3000 terms."""
    terms, units = pick(random, LONG), pick(random, SIZES)
    kernel, bias = weights(random, terms, units), numbers(random, units)
    x = numbers(random, 4, terms)
    t_kernel, t_bias = torch.from_numpy(kernel.T.copy()), torch.from_numpy(bias)
    kernels = {
        "torch": torched(lambda x: F.linear(x, t_kernel, t_bias)),
        "keras": kerased(lambda ops, x: ops.matmul(x, kernel) + bias),
        "onnxruntime": onnxed("Gemm", {"w": kernel, "b": bias}),
    }
    return Draw(Dense("dense", kernel, bias), (x,), kernels, f"{terms} to {units}")


def matmul(random: Random) -> Draw:
    """Of stacks of matrices."""
    terms, rows, columns = pick(random, LONG), pick(random, SIZES), pick(random, SIZES)
    x, y = numbers(random, 3, rows, terms), numbers(random, 3, terms, columns)
    kernels = {
        "torch": torched(torch.matmul),
        "keras": kerased(lambda ops, x, y: ops.matmul(x, y)),
        "onnxruntime": onnxed("MatMul"),
    }
    return Draw(MatMul("matmul"), (x, y), kernels, f"{x.shape} @ {y.shape}")


def einsum(random: Random) -> Draw:
    """As attention has them, and others."""
    equation = str(
        random.choice(
            ["btd,bsd->bts", "bts,bsd->btd", "bthd,bshd->bhts", "btd,dhk->bthk", "bd,bd->b", "abc,abd->acd", "ab,b->a"]
        )
    )
    letters = {letter: pick(random, SIZES if letter in "abd" else (1, 3, 9)) for letter in "abcdhkst"} | {
        "b": int(random.integers(1, 5))
    }
    if random.integers(2):
        letters["d"] = pick(random, LONG)
    left, right = equation.split("->")[0].split(",")
    x, y = (numbers(random, *(letters[letter] for letter in one)) for one in (left, right))
    kernels = {
        "torch": torched(lambda x, y: torch.einsum(equation, x, y)),
        "keras": kerased(lambda ops, x, y: ops.einsum(equation, x, y)),
        "onnxruntime": onnxed("Einsum", equation=equation),
    }
    return Draw(Einsum("einsum", equation), (x, y), kernels, f"{equation} {x.shape} {y.shape}")


def pooling(random: Random) -> Draw:
    """Means."""
    size, stride, counts = int(random.integers(1, 9)), int(random.integers(1, 4)), bool(random.integers(2))
    pad = int(random.integers(0, size // 2 + 1))
    x = numbers(random, 2, pick(random, SIZES), int(random.integers(12, 40)))
    operation = Pooling(
        "pool", "average", (size,), (stride,), (1,), ((pad, pad),), channels_last=False, counts_padding=counts
    )
    kernels = {
        "torch": torched(lambda x: F.avg_pool1d(x, size, stride, pad, count_include_pad=counts)),
        "onnxruntime": onnxed(
            "AveragePool", kernel_shape=[size], strides=[stride], pads=[pad, pad], count_include_pad=int(counts)
        ),
    }
    return Draw(operation, (x,), kernels, f"size {size}, stride {stride}, pad {pad}, counts {counts}, {x.shape}")


# ---- reductions


def _reduced(
    function: str, torch_function: Kernel, onnx_name: str | None, long: tuple[int, ...] = (*LONG, 5000)
) -> Callable[[Random], Draw]:
    def draw(random: Random) -> Draw:
        axis, keep = int(random.integers(1, 3)), bool(random.integers(2))
        shape = [int(random.integers(1, 4)), pick(random, SIZES[:-1]), pick(random, SIZES[:-1])]
        shape[axis] = pick(random, long)
        x = numbers(random, *shape)
        x = np.exp(x / (np.abs(x).max() + 1e-9)).astype(np.float32) if function == "prod" else x
        name = {"logsumexp": "logsumexp"}.get(function, function)
        kernels = {"torch": torched(lambda x: torch_function(x, axis, keep))}
        if function != "norm":
            kernels["keras"] = kerased(lambda ops, x: getattr(ops, name)(x, axis=axis, keepdims=keep))
        else:
            kernels["keras"] = kerased(lambda ops, x: ops.norm(x, axis=axis, keepdims=keep))
        if onnx_name:
            kernels["onnxruntime"] = onnxed(onnx_name, {"axes": np.array([axis], np.int64)}, keepdims=int(keep))
        return Draw(Reduction(function, function, (axis,), keep), (x,), kernels, f"{x.shape}, axis {axis}")  # type: ignore[arg-type]

    return draw


# ---- normalizations


def batch_normalization(random: Random) -> Draw:
    """Also with means much larger than deviations."""
    size, far = pick(random, SIZES), float(random.choice([0, 1, 30, 1000]))
    mean = (random.standard_normal(size) + far).astype(np.float32)
    variance = (random.random(size) * 10.0 ** random.uniform(-3, 2) + 1e-3).astype(np.float32)
    gamma, beta = (random.standard_normal(size).astype(np.float32) for _ in range(2))
    epsilon = float(random.choice([1e-5, 1e-3]))
    x = (mean[:, None] + np.sqrt(variance)[:, None] * random.standard_normal((3, size, 7))).astype(np.float32)
    t = [torch.from_numpy(one) for one in (mean, variance, gamma, beta)]
    if random.integers(4) == 0:
        gamma_or_none, beta_or_none = None, None
        constants = {"gamma": np.ones_like(gamma), "beta": np.zeros_like(beta)}
        t[2:] = [torch.ones(size), torch.zeros(size)]
    else:
        gamma_or_none, beta_or_none = gamma, beta
        constants = {"gamma": gamma, "beta": beta}
    own = constants["gamma"], constants["beta"]

    def keras_kernel(ops: Any, x: Any) -> Any:
        last = ops.transpose(x, (0, 2, 1))
        return ops.transpose(ops.batch_normalization(last, mean, variance, 2, own[1], own[0], epsilon), (0, 2, 1))

    kernels = {
        "torch": torched(lambda x: F.batch_norm(x, t[0], t[1], t[2], t[3], eps=epsilon)),
        "keras": kerased(keras_kernel),
        "onnxruntime": onnxed("BatchNormalization", {**constants, "mean": mean, "variance": variance}, epsilon=epsilon),
    }
    operation = BatchNormalization("bn", mean, variance, gamma_or_none, beta_or_none, epsilon, 1)
    return Draw(operation, (x,), kernels, f"{size} channels, mean {far}, deviation {np.sqrt(variance).mean():.2g}")


def layer_normalization(random: Random) -> Draw:
    """Over the last axis; samples may lie far from zero."""
    size, epsilon = pick(random, LONG), float(random.choice([1e-6, 1e-5, 1e-3]))
    gamma, beta = (random.standard_normal(size).astype(np.float32) for _ in range(2))
    x = numbers(random, 5, size)
    t_gamma, t_beta = torch.from_numpy(gamma), torch.from_numpy(beta)

    def keras_kernel(ops: Any, x: Any) -> Any:
        import keras

        layer = keras.layers.LayerNormalization(epsilon=epsilon)
        layer.build(x.shape)
        layer.set_weights([gamma, beta])
        return layer(x)

    kernels = {
        "torch": torched(lambda x: F.layer_norm(x, (size,), t_gamma, t_beta, epsilon)),
        "keras": kerased(keras_kernel),
        "onnxruntime": onnxed("LayerNormalization", {"gamma": gamma, "beta": beta}, epsilon=epsilon),
    }
    mean, deviation = np.abs(x.mean(-1)).mean(), x.std(-1).mean()
    case = f"{size} features, mean {mean:.2g}, deviation {deviation:.2g}, epsilon {epsilon}"
    return Draw(LayerNormalization("ln", gamma, beta, epsilon), (x,), kernels, case)


def rms_normalization(random: Random) -> Draw:
    """Over the last axis."""
    size, epsilon = pick(random, LONG), float(random.choice([1e-6, 1e-3]))
    gamma, x = random.standard_normal(size).astype(np.float32), numbers(random, 5, size)
    t_gamma = torch.from_numpy(gamma)
    kernels = {
        "torch": torched(lambda x: F.rms_norm(x, (size,), t_gamma, epsilon)),
        "keras": kerased(lambda ops, x: x * ops.rsqrt(ops.mean(ops.square(x), -1, keepdims=True) + epsilon) * gamma),
    }
    return Draw(LayerNormalization("rms", gamma, None, epsilon, rms=True), (x,), kernels, f"{size} features")


def group_normalization(random: Random) -> Draw:
    """Of one group to one for each channel."""
    groups, each = int(random.choice([1, 2, 8])), pick(random, (1, 2, 8, 32))
    size, epsilon = groups * each, float(random.choice([1e-5, 1e-3]))
    gamma, beta = (random.standard_normal(size).astype(np.float32) for _ in range(2))
    x = numbers(random, 2, size, pick(random, LONG[2:-1]))
    t_gamma, t_beta = torch.from_numpy(gamma), torch.from_numpy(beta)

    def keras_kernel(ops: Any, x: Any) -> Any:
        import keras

        layer = keras.layers.GroupNormalization(groups, axis=1, epsilon=epsilon)
        layer.build(x.shape)
        layer.set_weights([gamma, beta])
        return layer(x)

    kernels = {
        "torch": torched(lambda x: F.group_norm(x, groups, t_gamma, t_beta, epsilon)),
        "keras": kerased(keras_kernel),
    }
    operation = GroupNormalization("gn", gamma, beta, epsilon, groups, 1)
    return Draw(
        operation,
        (x,),
        kernels,
        f"{groups} groups of {each}, {x.shape}, mean {np.abs(x.mean()):.2g}, deviation {x.std():.2g}",
    )


def unit_normalization(random: Random) -> Draw:
    """To length one."""
    x = numbers(random, 5, pick(random, LONG))
    kernels = {"torch": torched(lambda x: F.normalize(x)), "keras": kerased(lambda ops, x: ops.normalize(x, -1, 2))}
    return Draw(UnitNormalization("unit"), (x,), kernels, f"{x.shape}")


# ---- element by element


def _softmax(log: bool) -> Callable[[Random], Draw]:
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

_ELEMENTWISE: dict[str, tuple[Kernel, str, str | None]] = {
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


def _elementwise(function: str) -> Callable[[Random], Draw]:
    torch_function, keras_name, onnx_name = _ELEMENTWISE[function]
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


def _activation(name: str) -> Callable[[Random], Draw]:
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

            def keras_kernel(ops: Any, x: Any) -> Any:
                import keras

                return keras.activations.get(row.keras)(x)

            kernels["keras"] = kerased(keras_kernel)
        if row.onnx and name not in ("affine", "scaled_tanh"):
            options = (
                {} if own[0] is None else {"alpha": own[0]} if own[1] is None else {"alpha": own[0], "beta": own[1]}
            )
            kernels["onnxruntime"] = onnxed(row.onnx, **options)
        return Draw(Activation(name, function), (x,), kernels, f"{x.shape}, up to {np.abs(x).max():.2g}")

    return draw


DRAWS: dict[str, Callable[[Random], Draw]] = {
    "convolution": convolution,
    "dense": dense,
    "matmul": matmul,
    "einsum": einsum,
    "pooling": pooling,
    "sum": _reduced("sum", torch.sum, "ReduceSum"),
    "mean": _reduced("mean", torch.mean, "ReduceMean"),
    "prod": _reduced("prod", torch.prod, "ReduceProd", SIZES),
    "logsumexp": _reduced("logsumexp", torch.logsumexp, "ReduceLogSumExp"),
    "norm": _reduced("norm", lambda x, axis, keep: torch.linalg.vector_norm(x, dim=axis, keepdim=keep), "ReduceL2"),
    "batch_normalization": batch_normalization,
    "layer_normalization": layer_normalization,
    "rms_normalization": rms_normalization,
    "group_normalization": group_normalization,
    "unit_normalization": unit_normalization,
    "softmax": _softmax(False),
    "log_softmax": _softmax(True),
    **{f"elementwise {name}": _elementwise(name) for name in _ELEMENTWISE},
    **{f"activation {name}": _activation(name) for name in FUNCTIONS},
}
"""A random draw of every operation that rounds, by name."""
