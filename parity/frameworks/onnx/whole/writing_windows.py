"""Convolutions and pooling, channels first as ONNX has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from parity.errors import UnsupportedError
from parity.frameworks.onnx.whole.writing_values import Call, Order
from parity.graph.operations import Convolution, Padding, Pooling, paddings
from parity.graph.operations.convolution import spatial_axes


def channels_first(rank: int, channels_last: bool) -> Order:
    """The order of axes that ONNX wants, out of (batch, *spatial, channels) or its own.

    Example:
        >>> channels_first(4, True), channels_first(3, False)
        ((0, 3, 1, 2), (0, 1, 2))
    """
    return (0, rank - 1, *range(1, rank - 1)) if channels_last else tuple(range(rank))


def write_convolution(call: Call) -> None:
    """Conv, its kernel (channels given, channels taken / groups, *window)."""
    layer = call.operation
    assert isinstance(layer, Convolution)
    rank = len(layer.sizes) + 2
    arrays = {"kernel": np.moveaxis(np.asarray(layer.kernel), (-1, -2), (0, 1))}
    if layer.bias is not None:
        arrays["bias"] = layer.bias
    names = call.weights(arrays)
    order = channels_first(rank, layer.channels_last)
    x = call.taken(call.x, "float", order)
    options = _window(call, layer.sizes, layer.strides, layer.dilations, layer.padding, layer.channels_last)
    options |= {"kernel_shape": list(layer.sizes), "dilations": list(layer.dilations), "group": layer.groups}
    x = _without_tail(call, x, layer.sizes, layer.strides, options)
    call.give(call.op("Conv", x, *names.values(), what="output", **options), order=order)


def write_pooling(call: Call) -> None:
    """MaxPool or AveragePool."""
    pooling = call.operation
    assert isinstance(pooling, Pooling)
    order = channels_first(len(pooling.sizes) + 2, pooling.channels_last)
    x = call.taken(call.x, "float", order)
    _refuse_padding_alone(call, pooling)
    options = _window(call, pooling.sizes, pooling.strides, pooling.dilations, pooling.padding, pooling.channels_last)
    x = _without_tail(call, x, pooling.sizes, pooling.strides, options)
    options["kernel_shape"] = list(pooling.sizes)
    if any(one != 1 for one in pooling.dilations):
        if pooling.function == "average":
            call.assembly.needs(19, "a dilated mean", call.where)
        options["dilations"] = list(pooling.dilations)
    if pooling.function == "average":
        options["count_include_pad"] = int(pooling.counts_padding)
    op = "MaxPool" if pooling.function == "max" else "AveragePool"
    call.give(call.op(op, x, what="output", **options), order=order)


def _refuse_padding_alone(call: Call, pooling: Pooling) -> None:
    """A window of padding alone has no largest value; ONNX Runtime takes no such padding."""
    if pooling.padding == "same":
        return
    reach = [(size - 1) * step + 1 for size, step in zip(pooling.sizes, pooling.dilations, strict=True)]
    if any(max(pads) >= one for pads, one in zip(pooling.padding, reach, strict=True)):
        raise UnsupportedError(
            "ONNX Runtime pools no window of padding alone",
            call.where,
            "less padding than a window is long",
            f"{pooling.padding} for windows of {reach}",
            "pad before the pooling",
        )


def _window(
    call: Call,
    sizes: tuple[int, ...],
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
    padding: Padding,
    channels_last: bool,
) -> dict[str, Any]:
    """Strides and pads; TensorFlow's padding by its name where it depends on a length that is not known."""
    options: dict[str, Any] = {"strides": list(strides)}
    dims = call.dims[0]
    lengths = [dims[axis] for axis in spatial_axes(len(dims), channels_last)]
    # A window of one place needs no padding.
    open_ = any(
        length is None and stride > 1 and size > 1 for length, stride, size in zip(lengths, strides, sizes, strict=True)
    )
    if padding == "same" and open_:
        if any(dilation > 1 for dilation in dilations):
            raise UnsupportedError(
                "ONNX Runtime has no padding 'same' with both strides and dilations for any length",
                call.where,
                "strides or dilations of 1, or lengths that are known",
                f"strides {strides}, dilations {dilations}",
                "give the model's inputs fixed lengths",
            )
        options["auto_pad"] = "SAME_UPPER"
        return options
    # Where the stride is one, the length makes no difference.
    known = tuple(sum(sizes) if length is None else length for length in lengths)
    pads = paddings(padding, known, sizes, strides, dilations)
    options["pads"] = [before for before, _ in pads] + [after for _, after in pads]
    return options


def _without_tail(
    call: Call, x: str, sizes: tuple[int, ...], strides: tuple[int, ...], options: Mapping[str, Any]
) -> str:
    """x, channels first, without the last places that no window reaches, where the strides are longer than the windows.

    With them the padding that ONNX Runtime computes for SAME_UPPER would be below zero: pooling refuses it, and a convolution shifts its
    windows. Of the last stride, (length - 1) % stride + 1 places are there, and a window takes as many as it is long.
    """
    axes = [axis for axis, (size, stride) in enumerate(zip(sizes, strides, strict=True)) if stride > size]
    if "auto_pad" not in options or not axes:
        return x
    places = call.integers("axes", *(axis + 2 for axis in axes))
    lengths = call.op("Gather", call.op("Shape", x, what="shape"), places, what="lengths", axis=0)
    before = call.op("Sub", lengths, call.integers("one", 1), what="before")
    last = call.op("Mod", before, call.integers("strides", *(strides[axis] for axis in axes)), what="last")
    over = call.op("Sub", last, call.integers("reach", *(sizes[axis] - 1 for axis in axes)), what="over")
    tail = call.op("Max", over, call.integers("none", 0), what="tail")
    ends = call.op("Sub", lengths, tail, what="ends")
    return call.op("Slice", x, call.integers("starts", *(0 for _ in axes)), ends, places, what="reached")


__all__ = ["channels_first", "write_convolution", "write_pooling"]
