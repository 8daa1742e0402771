"""Convolutions over one or two axes.

Source: Keras 3 `keras/src/layers/convolutional/`: kernels are (*window, channels / groups, filters), those of a depthwise convolution
(*window, channels, multiplier) with the multiples of a channel beside each other.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from parity.graph.graph import Wire
from parity.graph.keras.activation import activated, is_linear
from parity.graph.keras.call import Call, Outputs, Reader
from parity.graph.keras.dense import whole_array
from parity.graph.operations import Convolution, Padding
from parity.network.keras.options import Option, shown

_INERT, _FLAG = Option(), Option((True, False))
_OPTIONS = {
    **dict.fromkeys(
        ("kernel_size", "strides", "padding", "data_format", "dilation_rate", "activation", "groups"), _INERT
    ),
    "use_bias": _FLAG,
}
_PLAIN = {
    **_OPTIONS,
    "filters": _INERT,
    "lora_rank": Option((None,), "merge the LoRA matrices into the kernel, then save"),
    "lora_alpha": _INERT,
    "quantization_config": Option((None,), "convert the float32 model, quantize the result"),
}
_DEPTHWISE = {**_OPTIONS, "depth_multiplier": _INERT, "rank": _INERT, "filters": _INERT}


def _padding(call: Call, sizes: tuple[int, ...], dilations: tuple[int, ...]) -> Padding:
    word = call.config.get("padding", "valid")
    if word == "same":
        return "same"
    if word == "valid":
        return ((0, 0),) * len(sizes)
    if word == "causal" and len(sizes) == 1:
        return (((sizes[0] - 1) * dilations[0], 0),)
    raise call.refused("padding is not kept exactly", "valid, same or causal", shown(word))


def _finished(call: Call, x: Wire) -> Outputs:
    return activated(call, x, call.config.get("activation"), call.name)


def _name(call: Call) -> str:
    """Of the convolution itself: the layer's, if nothing follows."""
    return call.name if is_linear(call.config.get("activation")) else call.part("linear")


def _convolution(call: Call, axes: int) -> Outputs:
    sizes = call.wholes("kernel_size", axes)
    strides, dilations = call.wholes("strides", axes, 1), call.wholes("dilation_rate", axes, 1)
    groups, filters, has_bias = call.whole("groups", 1), call.whole("filters"), call.config.get("use_bias", True)
    padding = _padding(call, sizes, dilations)
    kernel, *rest = call.weights(("kernel", (*sizes, None, filters)), *([("bias", (filters,))] if has_bias else []))

    def make() -> Convolution:
        name = call.build.unique(_name(call))
        bias = rest[0] if rest else None
        return Convolution(name, kernel, bias, strides, dilations, padding, groups, call.channels_last)

    return _finished(call, call.build.call(call.once("convolution", make), call.wire()))


def _by_channel(kernel: Any) -> tuple[Any, int]:
    """A depthwise kernel as that of a convolution in as many groups as channels."""
    array = whole_array(kernel)
    return np.ascontiguousarray(array.reshape(*array.shape[:-2], 1, -1)), int(array.shape[-2])


def _depthwise(call: Call, axes: int) -> Outputs:
    sizes = call.wholes("kernel_size", axes)
    strides, dilations = call.wholes("strides", axes, 1), call.wholes("dilation_rate", axes, 1)
    multiplier, has_bias = call.whole("depth_multiplier", 1), call.config.get("use_bias", True)
    padding = _padding(call, sizes, dilations)
    kernel, *rest = call.weights(("kernel", (*sizes, None, multiplier)), *([("bias", (None,))] if has_bias else []))

    def make() -> Convolution:
        grouped, channels = _by_channel(kernel)
        name, bias = call.build.unique(_name(call)), rest[0] if rest else None
        return Convolution(name, grouped, bias, strides, dilations, padding, channels, call.channels_last)

    return _finished(call, call.build.call(call.once("convolution", make), call.wire()))


def _separable(call: Call, axes: int) -> Outputs:
    sizes = call.wholes("kernel_size", axes)
    strides, dilations = call.wholes("strides", axes, 1), call.wholes("dilation_rate", axes, 1)
    multiplier, filters = call.whole("depth_multiplier", 1), call.whole("filters")
    padding, has_bias = _padding(call, sizes, dilations), call.config.get("use_bias", True)
    depthwise, pointwise, *rest = call.weights(
        ("depthwise_kernel", (*sizes, None, multiplier)),
        ("pointwise_kernel", (*(1,) * axes, None, filters)),
        *([("bias", (filters,))] if has_bias else []),
    )
    build, ones, none = call.build, (1,) * axes, ((0, 0),) * axes

    def first() -> Convolution:
        grouped, channels = _by_channel(depthwise)
        name = build.unique(call.part("depthwise"))
        return Convolution(name, grouped, None, strides, dilations, padding, channels, call.channels_last)

    def second() -> Convolution:
        name, bias = build.unique(_name(call)), rest[0] if rest else None
        return Convolution(name, pointwise, bias, ones, ones, none, 1, call.channels_last)

    between = build.call(call.once("depthwise", first), call.wire())
    return _finished(call, build.call(call.once("pointwise", second), between))


READERS: dict[str, Reader] = {
    f"{kind}{axes}D": Reader(partial(read, axes=axes), options)
    for axes in (1, 2)
    for kind, read, options in (
        ("Conv", _convolution, _PLAIN),
        ("DepthwiseConv", _depthwise, _DEPTHWISE),
        ("SeparableConv", _separable, _DEPTHWISE),
    )
}
"""The convolutions, by class."""
