"""Sums of products, pooling and reductions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812  as everybody calls it

from drawing.inputs import LONG, SIZES, Draw, Kernel, Random, kerased, numbers, onnxed, pick, torched, weights
from parity.graph.operations import (
    Convolution,
    Einsum,
    MatMul,
    Pooling,
    Reduction,
)
from parity.network import Dense


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
    options: dict[str, Any] = {
        "strides": strides,
        "dilations": dilations,
        "pads": (*padding, *padding),
        "group": groups,
    }
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
    left, right = equation.split("->", maxsplit=1)[0].split(",")
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


def reduced(
    function: str, torch_function: Kernel, onnx_name: str | None, long: tuple[int, ...] = (*LONG, 5000)
) -> Callable[[Random], Draw]:
    """A reduction of one axis of up to 5000 places."""

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
