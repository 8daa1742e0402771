"""Layers that move, cut, repeat or pad, and those that do nothing at inference.

Source: Keras 3 `keras/src/layers/reshaping/`, `keras/src/layers/regularization/`, `keras/src/layers/core/masking.py`.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from parity.graph.keras.call import Call, Outputs, Reader, Tensor, passed
from parity.graph.operations import Length, Pad, Repeat, Slice
from parity.graph.operations.convolution import spatial_axes
from parity.network import Dropout, Masking
from parity.network.keras.options import Option, shown

_INERT = Option()


def _inert(call: Call) -> Outputs:
    """A layer that only training knows: it stays where it leaves values out, with its rate."""
    rate = call.config.get("rate", 0.0)
    rate = float(rate) if isinstance(rate, (int, float)) else 0.0
    size = call.shape()[-1]
    return call.build.call(call.once("dropout", lambda: Dropout(call.build.unique(call.name), size, rate)), call.wire())


def _same(call: Call) -> Outputs:
    return call.wire()


def _masking(call: Call) -> Outputs:
    value, size = call.number("mask_value", 0.0), call.shape()[-1]
    return call.build.call(
        call.once("masking", lambda: Masking(call.build.unique(call.name), size, value)), call.wire()
    )


def _masking_mask(call: Call, outputs: list[Tensor]) -> Any:  # noqa: ARG001  the signature all of them share
    differs = call.model.masks.differs(call.wire(), call.number("mask_value", 0.0))
    return call.model.masks.any_feature(differs, call.part("mask"))


def _reshape(call: Call) -> Outputs:
    shape = call.config.get("target_shape")
    if not isinstance(shape, (list, tuple)) or not all(isinstance(one, int) and one >= -1 for one in shape):
        raise call.refused("target_shape is not kept exactly", "whole numbers, at most one -1", shown(shape))
    return call.build.reshape(call.wire(), [Length(0, 0), *shape], name=call.name)


def _flatten(call: Call) -> Outputs:
    build, x, rank = call.build, call.wire(), call.rank()
    if rank == 1:
        return build.expand_dims(x, 1, name=call.name)
    if not call.channels_last and rank > 2:
        x = build.transpose(x, (0, *range(2, rank), 1))
    return build.reshape(x, [Length(0, 0), -1], name=call.name)


def _permute(call: Call) -> Outputs:
    dims = call.config.get("dims")
    rank = call.rank()
    if not isinstance(dims, (list, tuple)) or sorted(dims) != list(range(1, rank)):
        raise call.refused("dims are not kept exactly", f"1 to {rank - 1} in some order", shown(dims))
    return call.build.transpose(call.wire(), (0, *dims), name=call.name)


def _repeat_vector(call: Call) -> Outputs:
    build, times = call.build, call.whole("n")
    return build.expand(build.expand_dims(call.wire(), 1), [-1, times, -1], name=call.name)


def _pairs(call: Call, key: str, axes: int) -> list[tuple[int, int]]:
    """(before, after) of each axis; numbers of Keras 1 and 2, too."""
    value = call.config.get(key, 1)
    if isinstance(value, int):
        return [(value, value)] * axes
    found = [value] if axes == 1 and isinstance(value, (list, tuple)) and len(value) == 2 else value
    if axes == 1 and isinstance(value, (list, tuple)) and len(value) == 1:
        found = [value * 2]
    pairs = [(one, one) if isinstance(one, int) else tuple(one) for one in found or ()]
    if len(pairs) != axes or not all(
        len(pair) == 2 and all(isinstance(n, int) and n >= 0 for n in pair) for pair in pairs
    ):
        raise call.refused(f"{key} is not kept exactly", "whole numbers before and after", shown(value))
    return [(int(before), int(after)) for before, after in pairs]


def _padding(call: Call, axes: int) -> Outputs:
    rank = axes + 2
    pads = [(0, 0)] * rank
    for axis, pair in zip(spatial_axes(rank, call.channels_last), _pairs(call, "padding", axes), strict=True):
        pads[axis] = pair
    operation = call.once("pad", lambda: Pad(call.build.unique(call.name), tuple(pads)))
    return call.build.call(operation, call.wire())


def _cropping(call: Call, axes: int) -> Outputs:
    places = spatial_axes(axes + 2, call.channels_last)
    parts = tuple(
        (axis, before, -after if after else None, 1)
        for axis, (before, after) in zip(places, _pairs(call, "cropping", axes), strict=True)
    )
    return call.build.call(call.once("crop", lambda: Slice(call.build.unique(call.name), parts)), call.wire())


def _up_sampling(call: Call, axes: int) -> Outputs:
    way = call.config.get("interpolation", "nearest")
    if way != "nearest":
        raise call.refused("interpolation is not kept exactly", "nearest", shown(way))
    places, sizes = spatial_axes(axes + 2, call.channels_last), call.wholes("size", axes, 2)
    x = call.wire()
    for place, (axis, size) in enumerate(zip(places, sizes, strict=True)):
        x = call.build.call(_repeat(call, place, axis, size, last=place == axes - 1), x)
    return x


def _repeat(call: Call, place: int, axis: int, size: int, last: bool) -> Repeat:
    name = call.name if last else call.part("rows")
    return call.once(f"repeat {place}", lambda: Repeat(call.build.unique(name), axis, size))


def _rescaling(call: Call) -> Outputs:
    build, x = call.build, call.wire()
    scale, offset = call.number("scale"), call.number("offset", 0.0)
    if not offset:
        return build.multiply(x, scale, name=call.name)
    return build.add(build.multiply(x, scale), offset, name=call.name)


_TRAINING = dict.fromkeys(("rate", "seed", "noise_shape", "stddev", "data_format", "l1", "l2"), _INERT)
_PLACED = {"data_format": _INERT}

READERS: dict[str, Reader] = {
    **{
        name: Reader(_inert, _TRAINING, masks=passed, same=True)
        for name in (
            *("Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D"),
            *("GaussianNoise", "GaussianDropout", "AlphaDropout"),
        )
    },
    "ActivityRegularization": Reader(_same, _TRAINING, masks=passed, same=True),
    "Identity": Reader(_same, masks=passed, same=True),
    "Masking": Reader(_masking, {"mask_value": _INERT}, masks=_masking_mask),
    "Reshape": Reader(_reshape, {"target_shape": _INERT}),
    "Flatten": Reader(_flatten, _PLACED),
    "Permute": Reader(_permute, {"dims": _INERT}),
    "RepeatVector": Reader(_repeat_vector, {"n": _INERT}),
    "Rescaling": Reader(_rescaling, {"scale": _INERT, "offset": _INERT}, masks=passed),
    **{
        f"{kind}{axes}D": Reader(partial(read, axes=axes), options)
        for axes in (1, 2)
        for kind, read, options in (
            ("ZeroPadding", _padding, {"padding": _INERT, **_PLACED}),
            ("Cropping", _cropping, {"cropping": _INERT, **_PLACED}),
            ("UpSampling", _up_sampling, {"size": _INERT, "interpolation": _INERT, **_PLACED}),
        )
    },
}
"""The layers of this family, by class."""
