"""Pooling over windows and over whole axes.

Source: Keras 3 `keras/src/layers/pooling/`; `GlobalAveragePooling1D.call` under a mask.
"""

from __future__ import annotations

from typing import Literal

from parity.graph.keras.call import Call, Outputs, Reader, Tensor
from parity.graph.operations import Padding, Pooling
from parity.graph.operations.convolution import spatial_axes
from parity.network.keras.options import Option, shown

_INERT, _FLAG = Option(), Option((True, False))
_WINDOWS = dict.fromkeys(("pool_size", "strides", "padding", "data_format"), _INERT)
_GLOBAL = {"data_format": _INERT, "keepdims": _FLAG}


def _pooling(call: Call, function: Literal["max", "average"], axes: int) -> Outputs:
    sizes = call.wholes("pool_size", axes, 2)
    strides = call.wholes("strides", axes, list(sizes))
    word = call.config.get("padding", "valid")
    if word not in ("valid", "same"):
        raise call.refused("padding is not kept exactly", "valid or same", shown(word))
    padding: Padding = "same" if word == "same" else ((0, 0),) * axes

    def make() -> Pooling:
        name = call.build.unique(call.name)
        return Pooling(name, function, sizes, strides, (1,) * axes, padding, call.channels_last)

    return call.build.call(call.once("pooling", make), call.wire())


def _global(call: Call, function: Literal["max", "mean"], axes: int) -> Outputs:
    places = spatial_axes(axes + 2, call.channels_last)
    keepdims = bool(call.config.get("keepdims", False))
    if call.mask is not None and function == "mean" and axes == 1:
        return _masked_mean(call, places[0], keepdims)
    return call.build.reduce(function, call.wire(), places, keepdims, name=call.name)


def _masked_mean(call: Call, axis: int, keepdims: bool) -> Outputs:
    build, x = call.build, call.wire()
    valid = build.expand_dims(call.mask, 2 if axis == 1 else 1)
    total = build.sum(build.elementwise("where", valid, x, 0.0), axis, keepdims)
    count = build.sum(build.cast(valid, "float32"), axis, keepdims, name=call.part("count"))
    return build.divide(total, count, name=call.name)


def _nothing(call: Call, outputs: list[Tensor]) -> None:  # noqa: ARG001  the signature all of them share
    return None


def _windowed(function: Literal["max", "average"], axes: int) -> Reader:
    return Reader(lambda call: _pooling(call, function, axes), _WINDOWS)


def _over_all(function: Literal["max", "mean"], axes: int) -> Reader:
    takes_mask = function == "mean" and axes == 1
    arguments = ("inputs", "mask") if takes_mask else ("inputs",)
    return Reader(lambda call: _global(call, function, axes), _GLOBAL, arguments, takes_mask, _nothing)


READERS: dict[str, Reader] = {
    **{f"MaxPooling{axes}D": _windowed("max", axes) for axes in (1, 2)},
    **{f"AveragePooling{axes}D": _windowed("average", axes) for axes in (1, 2)},
    **{f"GlobalMaxPooling{axes}D": _over_all("max", axes) for axes in (1, 2)},
    **{f"GlobalAveragePooling{axes}D": _over_all("mean", axes) for axes in (1, 2)},
}
"""The pooling layers, by class."""
