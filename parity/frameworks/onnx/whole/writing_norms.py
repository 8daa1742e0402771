"""Normalizations: ONNX's operators where it has them, else what they compute."""

from __future__ import annotations

from functools import partial

import numpy as np

from parity.errors import UnsupportedError
from parity.frameworks.onnx.nodes import DOUBLE, FLOAT
from parity.frameworks.onnx.whole.writing_values import Call, Order
from parity.graph.operations import (
    BatchNormalization,
    GroupNormalization,
    LayerNormalization,
    UnitNormalization,
    normalized,
)

LAYER_NORMALIZATION = 17
"""LayerNormalization is an operator since this opset."""


def write_batch_normalization(call: Call) -> None:
    """BatchNormalization, which has the channels on axis 1."""
    layer = call.operation
    assert isinstance(layer, BatchNormalization)
    rank, size = len(call.x.order), layer.size
    if rank < 2:
        raise UnsupportedError("ONNX normalizes no value without a batch", call.where, "two axes or more", f"{rank}")
    names = call.weights(layer.arrays)
    if call.assembly.real == DOUBLE:
        _normalize_precisely(call, layer, names)
        return
    order = _with_channels_second(call, layer.axis)
    scale = names.get("gamma") or _filled(call, "gamma", size, 1.0)
    shift = names.get("beta") or _filled(call, "beta", size, 0.0)
    inputs = [call.taken(call.x, "float", order), scale, shift, names["mean"], names["variance"]]
    call.give(call.op("BatchNormalization", *inputs, what="output", epsilon=layer.epsilon), order=order)


def _normalize_precisely(call: Call, layer: BatchNormalization, names: dict[str, str]) -> None:
    """The equation itself: the operator has its epsilon in float32."""
    rank = len(call.x.order)
    behind = range(1, rank - normalized(layer.axis, rank))

    def along(key: str) -> str:
        if not behind:
            return names[key]
        return call.op("Unsqueeze", names[key], call.integers(f"{key}.axes", *behind), what=f"{key}.channels")

    root = call.op("Sqrt", call.op("Add", along("variance"), call.number("epsilon", layer.epsilon), what="sum"))
    value = call.op("Div", call.op("Sub", call.taken(call.x, "float"), along("mean"), what="centred"), root)
    value = call.op("Mul", value, along("gamma"), what="scaled") if "gamma" in names else value
    call.give(call.op("Add", value, along("beta"), what="shifted") if "beta" in names else value)


def _with_channels_second(call: Call, axis: int) -> Order:
    """An order with the channels on axis 1: one that is there, if any."""
    rank = len(call.x.order)
    place, usual = normalized(axis, rank), call.x.usual()
    if usual.index(place) == 1 and usual.index(0) == 0:
        return usual
    rest = [one for one in range(rank) if one != place]
    return (rest[0], place, *rest[1:])


def _filled(call: Call, what: str, size: int, value: float) -> str:
    """A weight that the layer does not have, as an array that changes nothing."""
    return call.assembly.constant(f"{call.operation.name}.no_{what}", call.real(np.full(size, value)))


def write_layer_normalization(call: Call) -> None:
    """LayerNormalization, or its equations below opset 17, in float64 and for a root mean square."""
    layer = call.operation
    assert isinstance(layer, LayerNormalization)
    names, x = call.weights(layer.arrays), call.taken(call.x, "float")
    axes = list(range(-layer.axes, 0))
    sizes = call.dims[0][-layer.axes :]
    known = "gamma" in names or all(size is not None for size in sizes)
    # The operator has its epsilon in float32.
    single = call.assembly.opset >= LAYER_NORMALIZATION and call.assembly.real == FLOAT
    if single and known and not layer.rms:
        scale = names.get("gamma")
        if scale is None:
            ones = np.ones(tuple(size or 1 for size in sizes))
            scale = call.assembly.constant(f"{layer.name}.no_gamma", call.real(ones))
        inputs = [x, scale, *([names["beta"]] if "beta" in names else [])]
        call.give(call.op("LayerNormalization", *inputs, what="output", axis=-layer.axes, epsilon=layer.epsilon))
        return
    if not layer.rms:
        x = call.op("Sub", x, call.reduced("ReduceMean", x, axes, True, "mean"), what="centred")
    squares = call.op("Mul", x, x, what="squares")
    variance = call.reduced("ReduceMean", squares, axes, True, "variance")
    root = call.op("Sqrt", call.op("Add", variance, call.number("epsilon", layer.epsilon), what="sum"), what="root")
    value = call.op("Div", x, root, what="normalized")
    value = call.op("Mul", value, names["gamma"], what="scaled") if "gamma" in names else value
    call.give(call.op("Add", value, names["beta"], what="shifted") if "beta" in names else value)


def write_group_normalization(call: Call) -> None:
    """InstanceNormalization of the groups, each taken as one channel; then the weights of the channels themselves."""
    layer = call.operation
    assert isinstance(layer, GroupNormalization)
    order = _with_channels_second(call, layer.axis)
    x, names, rank = call.taken(call.x, "float", order), call.weights(layer.arrays), len(call.x.order)
    fill = partial(_filled, call, size=layer.groups)
    grouped = call.op("Reshape", x, call.integers("groups", 0, layer.groups, -1), what="grouped")
    inputs = [grouped, fill("group_gamma", value=1.0), fill("group_beta", value=0.0)]
    found = call.op("InstanceNormalization", *inputs, what="normalized", epsilon=layer.epsilon)
    value = call.op("Reshape", found, call.op("Shape", x), what="ungrouped")
    for op, key in (("Mul", "gamma"), ("Add", "beta")):
        if key in names:
            along = names[key]
            if rank > 2:
                axes = call.integers(f"{key}.axes", *range(1, rank - 1))
                along = call.op("Unsqueeze", along, axes, what=f"{key}.channels")
            value = call.op(op, value, along, what=f"with_{key}")
    call.give(value, order=order)


def write_unit_normalization(call: Call) -> None:
    """x / max(length, epsilon)."""
    operation = call.operation
    assert isinstance(operation, UnitNormalization)
    x = call.taken(call.x, "float")
    length = call.reduced("ReduceL2", x, operation.axes, True, "norm")
    floor = call.op("Max", length, call.number("epsilon", operation.epsilon), what="at_least")
    call.give(call.op("Div", x, floor, what="output"))


__all__ = [
    "write_batch_normalization",
    "write_group_normalization",
    "write_layer_normalization",
    "write_unit_normalization",
]
