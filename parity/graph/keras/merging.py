"""Layers that make one value of several, and what their masks do.

Source: Keras 3 `keras/src/layers/merging/`. `Multiply`, `Maximum` and `Minimum` look at the masks themselves since Keras 3; before, none
did, and the mask of the result was what is valid in all inputs (`_Merge.compute_mask` of Keras 2).
"""

from __future__ import annotations

from typing import Any

from parity.errors import FormatError
from parity.graph.graph import Wire
from parity.graph.keras.call import Call, Kept, Outputs, Reader, Tensor, masks_in
from parity.graph.operations import UnitNormalization, normalized
from parity.network.keras.options import Option, shown

_INERT, _FLAG = Option(), Option((True, False))


def _aligned(call: Call) -> list[Tensor]:
    """The inputs with one number of axes: new ones behind the batch; a tensor that gets one has no mask."""
    tensors = call.tensors()
    if not tensors:
        raise call.refused("the layer takes no tensors", "several", "none")
    ranks = [call.rank(tensor.wire) for tensor in tensors]
    most = max(ranks)
    found = []
    for tensor, rank in zip(tensors, ranks, strict=True):
        if rank < most:
            axes = tuple(range(1, 1 + most - rank))
            found.append(Tensor(call.build.expand_dims(tensor.wire, axes)))
        else:
            found.append(tensor)
    return found


def _plain(call: Call, function: str) -> Outputs:
    wires = [tensor.wire for tensor in _aligned(call)]
    if len(wires) == 1:
        return wires
    return call.build.elementwise(function, *wires, name=call.name)


def _subtract(call: Call) -> Outputs:
    wires = [tensor.wire for tensor in _aligned(call)]
    if len(wires) != 2:
        raise call.refused("another number of tensors", "2", str(len(wires)))
    return call.build.subtract(wires[0], wires[1], name=call.name)


def _over_features(call: Call, mask: Wire) -> Wire:
    return call.build.expand_dims(mask, -1)


def _multiply(call: Call) -> Outputs:
    tensors = _aligned(call)
    masks = [tensor.mask for tensor in tensors]
    if call.old or not any(masks):
        return _plain(call, "multiply")
    build = call.build
    factors = [
        tensor.wire
        if tensor.mask is None
        else build.elementwise("where", _over_features(call, tensor.mask), tensor.wire, 1.0)
        for tensor in tensors
    ]
    if None in masks:
        return build.multiply(*factors, name=call.name)
    mask = call.model.masks.any_of(masks, call.part("mask"))
    product = build.multiply(*factors)
    found = build.elementwise("where", _over_features(call, mask), product, 0.0, name=call.name)
    return [Tensor(found, Kept(mask))]


def _extreme(call: Call, function: str) -> Outputs:
    """`Maximum` and `Minimum`: an input counts where it is valid; one after the other, as Keras does it."""
    tensors = _aligned(call)
    if call.old or not any(tensor.mask for tensor in tensors):
        return _plain(call, function)
    build, first, *rest = call.build, *tensors
    output, valid = first.wire, first.mask
    for place, tensor in enumerate(rest):
        x, mask = tensor.wire, tensor.mask
        if mask is not None:
            x = build.elementwise("where", _over_features(call, mask), x, output)
        if valid is not None:
            output = build.elementwise("where", _over_features(call, valid), output, x)
        valid = call.model.masks.any_of([valid, mask]) if mask is not None and valid is not None else None
        name = call.name if place == len(rest) - 1 else None
        output = build.elementwise(function, output, x, name=name)
    return [Tensor(output, Kept(valid))]


def _concatenate(call: Call) -> Outputs:
    wires = call.wires()
    return call.build.concatenate(wires, call.whole("axis", -1), name=call.name)


def _dot(call: Call) -> Outputs:
    build = call.build
    left, right = _two(call)
    ranks = [call.rank(left), call.rank(right)]
    value = call.config.get("axes")
    axes = [value, value] if isinstance(value, int) else value
    if not isinstance(axes, (list, tuple)) or len(axes) != 2 or not all(isinstance(one, int) for one in axes):
        raise FormatError("axes are no axes", call.where, "a number or two", shown(value))
    places = [normalized(axis, rank) for axis, rank in zip(axes, ranks, strict=True)]
    if not all(0 < place < rank for place, rank in zip(places, ranks, strict=True)):
        raise FormatError("axes are not there", call.where, f"axes of {ranks}", shown(value))
    if call.config.get("normalize"):
        shortest = 1e-6 if call.old else 1e-7  # the square root of l2_normalize's 1e-12; keras.config.epsilon()
        left, right = (
            build.call(UnitNormalization(build.unique(call.part("normalized")), (place - rank,), shortest), wire)
            for wire, place, rank in zip((left, right), places, ranks, strict=True)
        )
    first = ["b", *"cdefg"[: ranks[0] - 1]]
    second = ["b", *"stuvw"[: ranks[1] - 1]]
    first[places[0]] = second[places[1]] = "z"
    given = [letter for letter in [*first, *second[1:]] if letter != "z"]
    equation = f"{''.join(first)},{''.join(second)}->{''.join(given)}"
    if len(given) > 1:
        return build.einsum(equation, left, right, name=call.name)
    return build.expand_dims(build.einsum(equation, left, right), 1, name=call.name)


def _two(call: Call) -> tuple[Wire, Wire]:
    wires = call.wires()
    if len(wires) != 2:
        raise call.refused("another number of tensors", "2", str(len(wires)))
    return wires[0], wires[1]


def _masks(call: Call) -> list[Wire | None]:
    return masks_in(call.previous) if isinstance(call.previous, (list, tuple)) else []


def _merged_mask(call: Call, outputs: list[Tensor]) -> Any:  # noqa: ARG001  the signature all of them share
    masks = _masks(call)
    if not masks:
        return None
    if call.old:
        return call.model.masks.all_of(masks, call.part("mask"))
    return call.model.masks.any_of(masks, call.part("mask"))


def _concatenated_mask(call: Call, outputs: list[Tensor]) -> Any:  # noqa: ARG001
    """Along the features what is valid in any input (before Keras 3, in all); along the time the masks one after the other."""
    masks, wires, build = _masks(call), call.wires(), call.build
    if not any(masks):
        return None
    ranks = {call.rank(wire) for wire in wires}
    axis = normalized(call.whole("axis", -1), max(ranks))
    if axis == max(ranks) - 1:
        return (call.model.masks.all_of if call.old else call.model.masks.any_of)(masks, call.part("mask"))
    present = [mask if mask is not None else _everywhere(call, wire) for mask, wire in zip(masks, wires, strict=True)]
    return build.concatenate(present, axis, name=call.part("mask"))


def _everywhere(call: Call, x: Wire) -> Wire:
    """True at every place of x but its last axis."""
    one = call.build.select(x, -1, 0)
    return call.build.elementwise("equal", one, one)


def _nothing(call: Call, outputs: list[Tensor]) -> None:  # noqa: ARG001
    return None


READERS: dict[str, Reader] = {
    "Add": Reader(lambda call: _plain(call, "add"), masks=_merged_mask),
    "Average": Reader(lambda call: _plain(call, "average"), masks=_merged_mask),
    "Subtract": Reader(_subtract, masks=_merged_mask),
    "Multiply": Reader(_multiply, masks=_merged_mask),
    "Maximum": Reader(lambda call: _extreme(call, "maximum"), masks=_merged_mask),
    "Minimum": Reader(lambda call: _extreme(call, "minimum"), masks=_merged_mask),
    "Concatenate": Reader(_concatenate, {"axis": _INERT}, masks=_concatenated_mask),
    "Dot": Reader(_dot, {"axes": _INERT, "normalize": _FLAG}, masks=_nothing),
}
"""The layers that merge, by class."""
