"""Operators with weights, and pooling: dense layers, convolutions, normalizations.

Source: the ONNX operator specification of each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from parity.deferred import Array
from parity.frameworks.onnx.constants import Constant
from parity.frameworks.onnx.whole.reading_step import Step
from parity.frameworks.onnx.whole.reading_values import Sym, Value
from parity.graph.operations import (
    BatchNormalization,
    Convolution,
    Einsum,
    GroupNormalization,
    LayerNormalization,
    MatMul,
    Padding,
    Pooling,
    Softmax,
    UnitNormalization,
    normalized,
)
from parity.network import Dense, Embedding

TINY = 1.2e-38
"""Just above the smallest float32 number of full precision: a norm below it is zero."""


# ---- products


def _matmul(step: Step) -> Sequence[Value]:
    x, y = step.value(0), step.value(1)
    if isinstance(y, Constant) and not isinstance(x, Constant) and len(y.shape) == 2 and step.kind(y) == "float":
        return [_dense(step, x, step.reading.array(y), None, (1,))]
    return [step.call(MatMul(step.name("matmul")), x, y, source=True)]


def _dense(step: Step, x: Value, kernel: Array, bias: Array | None, positions: Sequence[int]) -> Value:
    origins = step.origins(*positions)
    layer = Dense(step.layer("dense", *positions), kernel, bias)
    operation = step.reading.shared(layer, origins)
    step.reading.origins[operation.name] = origins
    step.reading.fresh[step.node.output[0]] = step.source
    return step.call(operation, x, source=True)


def _gemm(step: Step) -> Sequence[Value]:
    a, b = step.value(0), step.value(1)
    alpha, beta = step.number("alpha", 1.0), step.number("beta", 1.0)
    a = step.transposed(a, (1, 0)) if step.integer("transA", 0) else a
    c = step.inputs[2] if step.has(2) and beta != 0.0 else None
    if isinstance(b, Constant) and not isinstance(a, Constant) and len(b.shape) == 2:
        kernel = step.reading.array(b)
        kernel = kernel.T if step.integer("transB", 0) else kernel
        bias = _row(step, c, kernel.shape[1]) if (alpha, beta) == (1.0, 1.0) else None
        found = _dense(step, a, kernel, bias, (1, 2) if bias is not None else (1,))
        c = None if bias is not None else c
    else:
        b = step.transposed(b, (1, 0)) if step.integer("transB", 0) else b
        found = step.call(MatMul(step.name("matmul")), a, b)
    if alpha != 1.0:
        found = step.elementwise("multiply", found, alpha)
    if c is not None:
        found = step.elementwise("add", found, c if beta == 1.0 else step.elementwise("multiply", c, beta), source=True)
    return [found]


def _row(step: Step, c: Value | None, size: int) -> Array | None:
    """What is added to every row, if that is constant."""
    if not isinstance(c, Constant) or c.size not in (1, size) or c.shape[:-1] not in ((), (1,)):
        return None
    return np.broadcast_to(step.reading.array(c).ravel(), (size,)).copy()


def _einsum(step: Step) -> Sequence[Value]:
    equation = step.text("equation", "").replace(" ", "")
    inputs, arrow, output = equation.partition("->")
    letters = inputs.split(",")
    if "." in equation or len(letters) > 2 or any(len(set(one)) != len(one) for one in letters):
        raise step.refused("this einsum is not converted", "one or two values, each axis a letter of its own", equation)
    if not arrow:
        flat = inputs.replace(",", "")
        output = "".join(sorted(letter for letter in set(flat) if flat.count(letter) == 1))
    names = {
        letter: "abcdefghijklmnopqrstuvwxyz"[at] for at, letter in enumerate(dict.fromkeys(inputs.replace(",", "")))
    }
    if set(equation) <= set("abcdefghijklmnopqrstuvwxyz,->"):
        names = {letter: letter for letter in names}
    said = "".join(names.get(letter, letter) for letter in f"{inputs}->{output}")
    values = [value for value in step.inputs if value is not None]
    return [step.call(Einsum(step.name("einsum"), said), *values, source=True)]


def embedding_of(step: Step) -> Sequence[Value] | None:
    """An embedding, if that is what a Gather is: rows of a table of weights."""
    table, index = step.value(0), step.value(1)
    if not isinstance(table, Constant) or isinstance(index, Constant) or len(table.shape) != 2:
        return None
    if step.kind(table) != "float" or normalized(step.integer("axis", 0), 2) != 0 or step.kind(index) != "int":
        return None
    layer = Embedding(step.layer("embedding", 0), step.reading.array(table))
    return [step.call(step.reading.shared(layer, step.origins(0)), index, source=True)]


# ---- windows


def _conv(step: Step) -> Sequence[Value]:
    x, kernel = step.value(0), step.weight(1, "the kernel")
    count = kernel.ndim - 2
    if count not in (1, 2):
        raise step.refused("only convolutions over one or two axes are converted", "1 or 2", str(count))
    bias = step.constant(2, "the bias")
    strides, dilations = _listed(step, "strides", count), _listed(step, "dilations", count)
    padding = _padding(step, x, kernel.shape[2:], strides, dilations)
    layer = Convolution(
        step.layer("conv", 1, 2),
        np.ascontiguousarray(np.moveaxis(kernel, (0, 1), (-1, -2))),
        bias,
        strides,
        dilations,
        padding,
        step.integer("group", 1),
        channels_last=False,
    )
    return [step.call(step.reading.shared(layer, step.origins(1, 2)), x, source=True)]


def _listed(step: Step, name: str, count: int) -> tuple[int, ...]:
    found = tuple(int(one) for one in step.attributes.get(name, (1,) * count))
    if len(found) != count or min(found, default=1) < 1:
        raise step.refused(f"{name} are not one for each axis", str(count), str(found))
    return found


def _padding(step: Step, x: Value, sizes: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> Padding:
    count, auto = len(sizes), step.text("auto_pad", "NOTSET")
    if auto in ("NOTSET", "VALID"):
        pads = (
            [int(one) for one in step.attributes.get("pads", (0,) * 2 * count)] if auto == "NOTSET" else [0] * 2 * count
        )
        if len(pads) != 2 * count or min(pads, default=0) < 0:
            raise step.refused("pads are not two of 0 or more for each axis", str(2 * count), str(pads))
        return tuple(zip(pads[:count], pads[count:], strict=True))
    if auto == "SAME_UPPER":
        return "same"
    if auto != "SAME_LOWER":
        raise step.refused("unknown padding", "NOTSET, VALID, SAME_UPPER, SAME_LOWER", auto)
    found = []
    for length, size, stride, dilation in zip(step.shape(x)[2:], sizes, strides, dilations, strict=True):
        if isinstance(length, Sym) and stride != 1:
            remedy = "write its pads into the node"
            raise step.refused("SAME_LOWER with a stride depends on the length of the axis", "pads", auto, remedy)
        steps = 1 if isinstance(length, Sym) else -(-length // stride)
        own = 1 if isinstance(length, Sym) else length
        total = max((steps - 1) * stride + (size - 1) * dilation + 1 - own, 0)
        found.append((total - total // 2, total // 2))
    return tuple(found)


def _pool(function: Literal["max", "average"]) -> Callable[[Step], Sequence[Value]]:
    def read(step: Step) -> Sequence[Value]:
        x = step.value(0)
        sizes = _listed(step, "kernel_shape", step.rank(x) - 2)
        strides, dilations = _listed(step, "strides", len(sizes)), _listed(step, "dilations", len(sizes))
        if step.integer("ceil_mode", 0):
            raise step.refused("ceil_mode is not converted", "ceil_mode 0", "1")
        step.single()
        padding = _padding(step, x, sizes, strides, dilations)
        counted = bool(step.integer("count_include_pad", 0))
        name = step.name("max_pool" if function == "max" else "average_pool")
        pooling = Pooling(name, function, sizes, strides, dilations, padding, False, counted)
        return [step.call(pooling, x, source=True)]

    return read


def _global_pool(function: Literal["max", "mean"]) -> Callable[[Step], Sequence[Value]]:
    def read(step: Step) -> Sequence[Value]:
        x = step.value(0)
        return [step.reduced(function, x, range(2, step.rank(x)), keepdims=True)]

    return read


# ---- normalizations


def _batch_normalization(step: Step) -> Sequence[Value]:
    if step.integer("training_mode", 0) or (step.opset < 7 and not step.integer("is_test", 0)):
        raise step.refused("batch normalization in training mode", "training_mode 0", "1")
    if not step.integer("spatial", 1):
        raise step.refused("batch normalization of every place by itself is not converted", "spatial 1", "0")
    step.single()
    gamma, beta, mean, variance = (
        step.weight(at, what) for at, what in enumerate(("scale", "B", "the mean", "the variance"), 1)
    )
    layer = BatchNormalization(
        step.layer("batch_norm", 1, 2, 3, 4), mean, variance, gamma, beta, step.number("epsilon", 1e-5), axis=1
    )
    return [step.call(step.reading.shared(layer, step.origins(1, 2, 3, 4)), step.value(0), source=True)]


def _layer_normalization(step: Step) -> Sequence[Value]:
    x, rms = step.value(0), step.op != "LayerNormalization"
    step.single()
    rank = step.rank(x)
    axis = step.axis(-1, rank)
    sizes = step.shape(x)[axis:]
    if any(isinstance(size, Sym) for size in sizes):
        raise step.refused("normalization over an axis that differs from call to call", "lengths that stay")
    arrays = [_shaped(step, step.constant(at, "the scale or bias"), sizes) for at in (1, 2)]
    name = step.layer("rms_norm" if rms else "layer_norm", 1, 2)
    layer = LayerNormalization(name, arrays[0], arrays[1], step.number("epsilon", 1e-5), rank - axis, rms)
    return [step.call(step.reading.shared(layer, step.origins(1, 2)), x, source=True)]


def _shaped(step: Step, array: Array | None, sizes: Any) -> Array | None:
    return None if array is None else np.broadcast_to(array, sizes).copy()


def _group_normalization(step: Step) -> Sequence[Value]:
    x, gamma, beta = step.value(0), step.weight(1, "the scale"), step.weight(2, "the bias")
    channels = step.shape(x)[1]
    if not isinstance(channels, int):
        raise step.refused("the number of channels differs from call to call")
    groups = channels if step.op == "InstanceNormalization" else step.integer("num_groups", 1)
    usual = "instance_norm" if step.op == "InstanceNormalization" else "group_norm"
    layer = GroupNormalization(step.layer(usual, 1, 2), gamma, beta, step.number("epsilon", 1e-5), groups, axis=1)
    return [step.call(step.reading.shared(layer, step.origins(1, 2)), x, source=True)]


def _lp_normalization(step: Step) -> Sequence[Value]:
    x = step.value(0)
    axis, power = step.axis(-1, step.rank(x)), step.integer("p", 2)
    if power == 2:
        return [step.call(UnitNormalization(step.name("unit_norm"), (axis,), TINY), x, source=True)]
    total = step.reduced("sum", step.elementwise("abs", x), [axis], keepdims=True)
    return [step.elementwise("divide", x, step.elementwise("maximum", total, TINY), source=True)]


def _softmax(step: Step) -> Sequence[Value]:
    x, log = step.value(0), step.op == "LogSoftmax"
    rank, name = step.rank(x), step.name("log_softmax" if log else "softmax")
    axis = step.axis(-1 if step.opset >= 13 else 1, rank)
    if step.opset >= 13 or axis == rank - 1:
        return [step.call(Softmax(name, -1 if axis == rank - 1 else axis, log), x, source=True)]
    # Until opset 13 all axes from this one on count as one.
    shape = step.shape(x)
    flat = step.call(Softmax(name, -1, log), step.reshaped(x, [*shape[:axis], -1]))
    return [step.reshaped(flat, shape)]


HANDLERS: dict[str, Callable[[Step], Sequence[Value]]] = {
    "AveragePool": _pool("average"),
    "BatchNormalization": _batch_normalization,
    "Conv": _conv,
    "Einsum": _einsum,
    "Gemm": _gemm,
    "GlobalAveragePool": _global_pool("mean"),
    "GlobalMaxPool": _global_pool("max"),
    "GroupNormalization": _group_normalization,
    "InstanceNormalization": _group_normalization,
    "LayerNormalization": _layer_normalization,
    "LogSoftmax": _softmax,
    "LpNormalization": _lp_normalization,
    "MatMul": _matmul,
    "MaxPool": _pool("max"),
    "RMSNormalization": _layer_normalization,
    "SimplifiedLayerNormalization": _layer_normalization,
    "Softmax": _softmax,
}
