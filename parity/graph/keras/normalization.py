"""Normalizations, as they are at inference.

Source: Keras 3 `keras/src/layers/normalization/`, `keras/src/layers/preprocessing/normalization.py`, `_layer_normalization` and
`_rms_normalization` in `keras/src/ops/nn.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from parity.graph.graph import Wire
from parity.graph.keras.call import Call, Outputs, Reader, passed
from parity.graph.operations import (
    BatchNormalization,
    GroupNormalization,
    LayerNormalization,
    UnitNormalization,
    normalized,
)
from parity.network.keras.options import Option, shown

_INERT, _FLAG = Option(), Option((True, False))
_SCALED = {"axis": _INERT, "epsilon": _INERT, "center": _FLAG, "scale": _FLAG}


def _axes(call: Call, usual: int = -1) -> tuple[int, ...]:
    """The axes of the option, from the front and in order."""
    value = call.config.get("axis", usual)
    found = value if isinstance(value, (list, tuple)) else [value]
    rank = call.rank()
    if not found or not all(isinstance(one, int) and -rank <= one < rank for one in found):
        raise call.refused("axis is not kept exactly", f"axes of {rank}", shown(value))
    return tuple(sorted({normalized(one, rank) for one in found}))


def _pair(call: Call, shape: tuple[int | None, ...], *more: str) -> tuple[Any, Any, list[Any]]:
    """gamma, beta, and the weights behind them; None for what the options leave out."""
    has = [name for name, option in (("gamma", "scale"), ("beta", "center")) if call.config.get(option, True)]
    found = dict(zip([*has, *more], call.weights(*((name, shape) for name in [*has, *more])), strict=True))
    return found.get("gamma"), found.get("beta"), [found[name] for name in more]


def _batch(call: Call) -> Outputs:
    axes = _axes(call)
    if len(axes) != 1:
        raise call.refused("several axes are normalized by themselves", "one axis", shown(call.config.get("axis")))
    gamma, beta, (mean, variance) = _pair(call, (None,), "moving_mean", "moving_variance")
    epsilon, axis = call.number("epsilon", 1e-3), -1 if axes[0] == call.rank() - 1 else axes[0]

    def make() -> BatchNormalization:
        return BatchNormalization(call.build.unique(call.name), mean, variance, gamma, beta, epsilon, axis)

    return call.build.call(call.once("normalization", make), call.wire())


def _at_the_end(call: Call, axes: Sequence[int], make: Any) -> Wire:
    """A normalization of the last axes, on any: they go to the end and back again."""
    build, x, rank = call.build, call.wire(), call.rank()
    order = [*(axis for axis in range(rank) if axis not in axes), *axes]
    if order == list(range(rank)):
        return build.call(call.once("normalization", lambda: make(build.unique(call.name))), x)
    inside = call.once("normalization", lambda: make(build.unique(call.part("inside"))))
    turned = build.call(inside, build.transpose(x, order))
    return build.transpose(turned, [order.index(axis) for axis in range(rank)], name=call.name)


def _layer(call: Call) -> Outputs:
    axes, epsilon = _axes(call), call.number("epsilon", 1e-3)
    shape = (None,) * len(axes)
    if call.config.get("rms_scaling"):
        return _variance_scaled(call, axes, epsilon, *call.weights(("gamma", shape)))
    gamma, beta, _ = _pair(call, shape)
    return _at_the_end(call, axes, lambda name: LayerNormalization(name, gamma, beta, epsilon, len(axes)))


def _variance_scaled(call: Call, axes: tuple[int, ...], epsilon: float, gamma: Any) -> Wire:
    """`rms_scaling=True`: x / sqrt(variance + epsilon) * gamma, where x keeps its mean and the variance does not."""
    build, x = call.build, call.wire()
    centred = build.subtract(x, build.mean(x, axes, keepdims=True))
    variance = build.mean(build.elementwise("square", centred), axes, keepdims=True)
    scale = build.elementwise("rsqrt", build.add(variance, epsilon))
    places = [length if axis in axes else 1 for axis, length in enumerate(call.shape())]
    row = np.asarray(gamma[()]).reshape(places)
    return build.multiply(x, scale, call.parameter("gamma", row), name=call.name)


def _rms(call: Call) -> Outputs:
    axes, epsilon = _axes(call), call.number("epsilon", 1e-6)
    (scale,) = call.weights(("scale", (None,) * len(axes)))
    return _at_the_end(call, axes, lambda name: LayerNormalization(name, scale, None, epsilon, len(axes), rms=True))


def _group(call: Call) -> Outputs:
    axes = _axes(call)
    rank = call.rank()
    if axes not in ((rank - 1,), (1,)):
        raise call.refused("axis is not kept exactly", "the first or the last behind the batch", str(axes))
    gamma, beta, _ = _pair(call, (None,))
    groups = call.whole("groups", 32)
    groups = call.shape()[axes[0]] if groups == -1 else groups
    axis, epsilon = -1 if axes[0] == rank - 1 else 1, call.number("epsilon", 1e-3)

    def make() -> GroupNormalization:
        return GroupNormalization(call.build.unique(call.name), gamma, beta, epsilon, groups, axis)

    return call.build.call(call.once("normalization", make), call.wire())


def _unit(call: Call) -> Outputs:
    axes, rank = _axes(call), call.rank()
    from_end = tuple(axis - rank for axis in axes)
    operation = call.once("normalization", lambda: UnitNormalization(call.build.unique(call.name), from_end, 1e-12))
    return call.build.call(operation, call.wire())


def _standardized(call: Call) -> Outputs:
    """`Normalization`: (x - mean) / max(sqrt(variance), 1e-7), or back again."""
    build, x, rank = call.build, call.wire(), call.rank()
    axis = call.config.get("axis", -1)
    axes = () if axis is None else _axes(call)
    given: list[Any] = [call.config.get(name) for name in ("mean", "variance")]
    if given[0] is None or given[1] is None:
        shape = (None,) * len(axes)
        given = call.weights(("mean", shape), ("variance", shape), ("count", ()))[:2]
    sizes = [length if place in axes else 1 for place, length in enumerate(call.shape())]
    rows = []
    for value in given:
        array = np.asarray(value, np.float32) if isinstance(value, (int, float, list, tuple)) else np.asarray(value[()])
        rows.append(np.broadcast_to(array, [n for n in sizes if n != 1] if array.ndim == 0 else array.shape))
    shaped = [row.reshape(sizes) if row.size > 1 else row.reshape((1,) * rank) for row in rows]
    mean = call.parameter("mean", shaped[0].copy())
    spread = np.maximum(np.sqrt(shaped[1].astype(np.float64)), 1e-7)
    deviation = call.parameter("deviation", spread.astype(shaped[1].dtype))
    if call.config.get("invert"):
        return build.add(mean, build.multiply(x, deviation), name=call.name)
    return build.divide(build.subtract(x, mean), deviation, name=call.name)


READERS: dict[str, Reader] = {
    "BatchNormalization": Reader(
        _batch,
        {
            **_SCALED,
            **dict.fromkeys(("momentum", "synchronized", "fused", "renorm_clipping", "renorm_momentum"), _INERT),
            "renorm": Option((False, None), "set renorm=False"),
        },
        ("inputs", "training", "mask"),
        takes_mask=True,
        masks=passed,
    ),
    "LayerNormalization": Reader(_layer, {**_SCALED, "rms_scaling": _FLAG}, masks=passed),
    "RMSNormalization": Reader(_rms, {"axis": _INERT, "epsilon": _INERT}),
    "GroupNormalization": Reader(_group, {**_SCALED, "groups": _INERT}, masks=passed),
    "UnitNormalization": Reader(_unit, {"axis": _INERT}, masks=passed),
    "Normalization": Reader(
        _standardized,
        {**dict.fromkeys(("axis", "mean", "variance"), _INERT), "invert": _FLAG},
        masks=passed,
    ),
}
"""The normalizations, by class."""
