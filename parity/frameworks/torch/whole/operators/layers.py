"""Layers with weights, and dropout."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from parity.frameworks.torch.whole.operator_call import Call, Refused, array_of, operator
from parity.frameworks.torch.whole.values import Known, Value
from parity.graph import Wire
from parity.graph.operations import BatchNormalization, Convolution, GroupNormalization, LayerNormalization
from parity.network import Dense, Dropout, Embedding
from parity.recurrent import Array


def identity(value: Known | None) -> object:
    """What two mentions of one tensor have in common."""
    if value is None:
        return None
    return value.tensor.data_ptr(), tuple(value.tensor.shape), value.tensor.stride(), value.tensor._version


def _array(value: Known | None) -> Array | None:
    return None if value is None else array_of(value)


@operator("linear")
def linear(call: Call) -> Value:
    """x @ weight.T + bias."""
    weight, bias = call["weight"], call.get("bias")
    if isinstance(weight, Known) and (bias is None or isinstance(bias, Known)) and weight.tensor.ndim == 2:
        return dense(call, call.wire("input"), weight, bias)
    y = call.build.matmul(call.wire("input"), call.build.transpose(call.wire("weight"), (1, 0)), name=call.name)
    return y if bias is None else call.build.add(y, call.wire("bias"))


def dense(call: Call, x: Wire, weight: Known, bias: Known | None, turned: bool = True) -> Wire:
    """A dense layer of a weight (units, input), or (input, units) where it is not turned."""
    name = call.layer_name(weight)
    kernel = array_of(weight)
    layer = call.shared(
        ("dense", turned, identity(weight), identity(bias)),
        lambda: Dense(call.build.unique(name), kernel.T.copy() if turned else kernel, _array(bias)),
    )
    return call.build.call(layer, x)


@operator("embedding")
def embedding(call: Call) -> Value:
    """Rows of a table."""
    table = call.fixed("weight", "a table")
    assert table is not None
    name = call.layer_name(table)
    layer = call.shared(("embedding", identity(table)), lambda: Embedding(call.build.unique(name), array_of(table)))
    return call.build.call(layer, call.wire("indices"))


@operator("conv1d", "conv2d")
def convolution(call: Call) -> Value:
    """A convolution over one or two axes, channels first."""
    weight, bias = call.fixed("weight", "a kernel"), call.fixed("bias", "a bias")
    assert weight is not None
    axes = weight.tensor.ndim - 2
    sizes = tuple(int(size) for size in weight.tensor.shape[2:])
    strides, dilations = (_several(call[name], axes) for name in ("stride", "dilation"))
    padding = call["padding"]
    if padding == "same":
        totals = [dilation * (size - 1) for dilation, size in zip(dilations, sizes, strict=True)]
        pads = tuple((total // 2, total - total // 2) for total in totals)
    elif padding == "valid":
        pads = ((0, 0),) * axes
    else:
        pads = tuple((pad, pad) for pad in _several(padding, axes))
    name = call.layer_name(weight)
    layer = call.shared(
        ("convolution", identity(weight), identity(bias), strides, dilations, pads, call["groups"]),
        lambda: Convolution(
            call.build.unique(name),
            np.ascontiguousarray(np.moveaxis(array_of(weight), (0, 1), (-1, -2))),
            _array(bias),
            strides,
            dilations,
            pads,
            int(call["groups"]),
            channels_last=False,
        ),
    )
    return call.build.call(layer, call.wire("input"))


def _several(value: Any, axes: int) -> tuple[int, ...]:
    numbers = list(value) if isinstance(value, (list, tuple)) else [value]
    return tuple(int(number) for number in (numbers * axes if len(numbers) == 1 else numbers))


@operator("batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm", "native_batch_norm")
def batch_norm(call: Call) -> Value:
    """With the moving averages of training."""
    mean, variance = call.fixed("running_mean", "a mean"), call.fixed("running_var", "a variance")
    if call.get("training") or mean is None or variance is None:
        what = "a batch normalization with the numbers of the batch itself"
        raise Refused(what, "track_running_stats=True, in evaluation", remedy="no other framework has it at inference")
    return _batch_norm(call, mean, variance)


def _batch_norm(call: Call, mean: Known, variance: Known) -> Value:
    gamma, beta = call.fixed("weight", "a weight"), call.fixed("bias", "a bias")
    # Without weights the buffers say whose it is.
    name = call.layer_name(gamma) if gamma is not None else mean.name.removesuffix(".running_mean") or call.name
    layer = call.shared(
        ("batch_norm", *map(identity, (mean, variance, gamma, beta)), call["eps"]),
        lambda: BatchNormalization(
            call.build.unique(name),
            array_of(mean),
            array_of(variance),
            _array(gamma),
            _array(beta),
            float(call["eps"]),
            1,
        ),
    )
    return call.build.call(layer, call.wire("input"))


@operator("instance_norm")
def instance_norm(call: Call) -> Value:
    """Of every channel of every sample by itself; with moving averages it is a batch normalization."""
    mean, variance = call.fixed("running_mean", "a mean"), call.fixed("running_var", "a variance")
    if not call["use_input_stats"] and mean is not None and variance is not None:
        return _batch_norm(call, mean, variance)
    return _group_norm(call, int(call.shape_of("input")[1]))


@operator("group_norm")
def group_norm(call: Call) -> Value:
    """Of groups of channels."""
    return _group_norm(call, int(call["num_groups"]))


def _group_norm(call: Call, groups: int) -> Value:
    gamma, beta = call.fixed("weight", "a weight"), call.fixed("bias", "a bias")
    name = call.name if gamma is None else call.layer_name(gamma)
    layer = call.shared(
        ("group_norm", identity(gamma), identity(beta), groups, call["eps"], name if gamma is None else ""),
        lambda: GroupNormalization(call.build.unique(name), _array(gamma), _array(beta), float(call["eps"]), groups, 1),
    )
    return call.build.call(layer, call.wire("input"))


@operator("layer_norm")
def layer_norm(call: Call) -> Value:
    """Over the last axes."""
    return _layer_norm(call, call.fixed("bias", "a bias"), float(call["eps"]), False)


@operator("rms_norm")
def rms_norm(call: Call) -> Value:
    """Over the last axes, without a mean; an epsilon that is not given is the smallest of the type."""
    epsilon = call.get("eps")
    return _layer_norm(call, None, torch.finfo(call.meta("input").dtype).eps if epsilon is None else epsilon, True)


def _layer_norm(call: Call, beta: Known | None, epsilon: float, rms: bool) -> Value:
    gamma = call.fixed("weight", "a weight")
    name = call.name if gamma is None else call.layer_name(gamma)
    axes = len(call["normalized_shape"])
    layer = call.shared(
        ("layer_norm", identity(gamma), identity(beta), axes, epsilon, rms, name if gamma is None else ""),
        lambda: LayerNormalization(call.build.unique(name), _array(gamma), _array(beta), epsilon, axes, rms),
    )
    return call.build.call(layer, call.wire("input"))


@operator("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout", "native_dropout")
def dropout(call: Call) -> Value:
    """Inert in evaluation."""
    if call.get("train"):
        remedy = "hand on the module's mode: F.dropout(x, p, training=self.training), or use nn.Dropout"
        raise Refused("a dropout that is at work in evaluation, too", "training=False", "training=True", remedy)
    value = call["input"]
    if call.operator != "dropout" or not isinstance(value, Wire):
        return value
    features = call.shape[-1] if call.shape and isinstance(call.shape[-1], int) else 0
    return call.build.call(Dropout(call.build.unique(call.name), features, float(call["p"])), value)


__all__ = ["dense", "identity"]
