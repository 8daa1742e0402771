"""Convolutions and pooling: padding on another side, kernels in another layout, options and biases lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from parity.deferred import Array
from parity.diagnosis.case import Case, Change
from parity.diagnosis.fault import Fault, Place
from parity.diagnosis.faults.layers import changed, layers_of, place_of, shapes_in, together
from parity.diagnosis.repair import EXCHANGED, FLIPPED, SIDES_EXCHANGED, CallRepair, OptionRepair
from parity.graph.graph import Node, Wire
from parity.graph.operations import Convolution, Pad, Pooling, Transpose
from parity.graph.operations.convolution import spatial_axes
from parity.graph.operations.operation import Shape

Pads: TypeAlias = tuple[tuple[int, int], ...]
Windowed: TypeAlias = Convolution | Pooling


def convolution_faults(case: Case) -> Iterator[Fault]:
    """Every mistake of a convolution or of a pooling that could be made in a model.

    Args:
        case: the right model.
    """
    yield from together(case, _of_each(case))


def _of_each(case: Case) -> Iterator[Fault]:
    shapes = shapes_in(case)
    for node in case.graph.nodes:
        operation = node.operation
        if isinstance(operation, Convolution | Pooling) and node.inputs[0] in shapes:
            place = place_of(case, operation.name)
            yield from _padded(operation, node.name, _pads(case, node, shapes), place)
        if isinstance(operation, Convolution):
            place = place_of(case, operation.name)
            yield from _kernels(operation, place)
            yield from _grouped(operation, place)
            yield from _options(operation, node.name, place)
            if operation.input_size > 1 and operation.groups == 1 and _takes_input(case, node):
                yield _kernel(
                    place,
                    "channels reversed",
                    "takes the channels of the input in the opposite order (RGB for BGR)",
                    lambda kernel: kernel[..., ::-1, :],
                    "with its input channels the other way round",
                    24,
                )
    for name, pooling in layers_of(case, Pooling):
        yield from _poolings(place_of(case, name), pooling)


_SIDES: dict[str, Callable[[Pads, Shape], Pads]] = {
    "half of the window on both sides, as padding=k//2 of torch does": lambda _, reach: tuple(
        (one // 2, one // 2) for one in reach
    ),
    "the odd place before, where it belongs behind": lambda pads, _: tuple((max(pad), min(pad)) for pad in pads),
    "the odd place behind, where it belongs before": lambda pads, _: tuple((min(pad), max(pad)) for pad in pads),
    "all of it before, as a causal layer does": lambda _, reach: tuple((one, 0) for one in reach),
    "all of it behind": lambda _, reach: tuple((0, one) for one in reach),
    "nothing": lambda _, reach: ((0, 0),) * len(reach),
}
"""What is padded, from what belongs there and how far a window reaches beyond its first place."""


def _pad_before(case: Case, node: Node) -> Node | None:
    """A node that does nothing but pad with zeros what this one takes, as causal layers of torch are written."""
    wire, operation = node.inputs[0], node.operation
    if wire is None or not isinstance(operation, Convolution | Pooling) or operation.padding == "same":
        return None
    before = next((one for one in case.graph.nodes if one.name == wire.node), None)
    if before is None or not isinstance(before.operation, Pad) or any(map(any, operation.padding)):
        return None
    pad = before.operation
    others = set(range(len(pad.pads))) - set(spatial_axes(len(pad.pads), operation.channels_last))
    alone = len(case.graph.takers()[wire]) == 1 and wire not in case.graph.outputs.values()
    plain = pad.mode == "constant" and pad.value == 0.0 and not any(any(pad.pads[axis]) for axis in others)
    return before if alone and plain else None


def _pads(case: Case, node: Node, shapes: Mapping[Wire, Shape]) -> Pads:
    """What is added before and behind each spatial axis, by the node itself or right before it."""
    operation, before = node.operation, _pad_before(case, node)
    wire = node.inputs[0]
    if not isinstance(operation, Convolution | Pooling) or wire is None:
        raise KeyError(node.name)
    if before is not None and isinstance(before.operation, Pad):
        pads = before.operation.pads
        return tuple(pads[axis] for axis in spatial_axes(len(pads), operation.channels_last))
    return operation.pads(shapes[wire])


def _with_pads(case: Case, name: str, pads: Pads) -> Case:
    """A node, or the padding right before it, that adds other numbers of places."""
    node = case.graph.node(name)
    operation, before = node.operation, _pad_before(case, node)
    if not isinstance(operation, Convolution | Pooling):
        raise KeyError(name)
    if before is None:
        return case.with_layer(operation.name, lambda _: replace(operation, padding=pads))
    pad = before.operation
    if not isinstance(pad, Pad):
        raise KeyError(name)
    everywhere = list(pad.pads)
    for axis, one in zip(spatial_axes(len(everywhere), operation.channels_last), pads, strict=True):
        everywhere[axis] = one
    return case.with_layer(pad.name, lambda _: replace(pad, pads=tuple(everywhere)))


def _takes_input(case: Case, node: Node) -> bool:
    """Whether a node takes an input of the model, its axes in another order or padded at most."""
    made = {one.name: one for one in case.graph.nodes}
    wire = node.inputs[0]
    while wire is not None and wire.node in made and isinstance(made[wire.node].operation, Pad | Transpose):
        wire = made[wire.node].inputs[0]
    return wire is not None and wire.node not in made


def _padded(operation: Windowed, node: str, right: Pads, place: Place) -> Iterator[Fault]:
    """The same number of places added, or about that, on other sides."""
    varies = operation.padding == "same" and max(operation.strides) > 1
    seen = {right}
    for words, sides in _SIDES.items():
        pads = sides(right, _reach(operation))
        if pads in seen and not varies:
            continue
        seen.add(pads)
        causal = all(before and not behind for before, behind in right)
        belongs = f"{'the padding of a causal layer' if causal else 'other padding'} ({_shown(right)})"
        yield Fault(
            "padding",
            f"pads {words} ({_shown(pads)}), where {belongs} belongs",
            place,
            partial(_with_padding, name=node, sides=sides),
            (
                CallRepair(
                    operation.name,
                    "input",
                    f"x = F.pad(x, {_of_torch(right)})  # for inputs of this length; padding=0 in the layer itself",
                    f'y = layer(x)  # with padding="{"causal" if causal else "same"}"',
                ),
            ),
            rank=14,
            shows="needs lengths that are no multiple of the stride plus one" if varies else "",
        )


def _reach(operation: Windowed) -> Shape:
    return tuple((size - 1) * dilation for size, dilation in zip(operation.sizes, operation.dilations, strict=True))


def _shown(pads: Pads) -> str:
    return ", ".join(f"{before} before and {behind} behind" for before, behind in pads)


def _of_torch(pads: Pads) -> tuple[int, ...]:
    """As `torch.nn.functional.pad` takes it: the last axis first."""
    return tuple(one for pad in reversed(pads) for one in pad)


def _with_padding(case: Case, name: str, sides: Callable[[Pads, Shape], Pads]) -> Case:
    """Padding on other sides: how much depends on the length of the inputs at hand."""
    node = case.graph.node(name)
    if not isinstance(node.operation, Convolution | Pooling):
        raise KeyError(name)
    return _with_pads(case, name, sides(_pads(case, node, shapes_in(case)), _reach(node.operation)))


def _kernels(operation: Convolution, place: Place) -> Iterator[Fault]:
    """The kernel in another layout."""
    name, (*sizes, taken, given) = operation.name, operation.held("kernel").shape
    spatial = tuple(range(len(sizes)))
    torch_axes = (len(sizes) + 1, len(sizes), *spatial)
    keras_axes = tuple(int(place) for place in np.argsort(torch_axes))

    def torch_reshaped(kernel: Array) -> Array:
        return kernel.reshape([kernel.shape[axis] for axis in torch_axes]).transpose(keras_axes)

    def keras_reshaped(kernel: Array) -> Array:
        return kernel.transpose(torch_axes).reshape(kernel.shape)

    mended = "read again: its axes transposed, not reshaped"
    for words, formula in (("torch's weight", torch_reshaped), ("Keras's kernel", keras_reshaped)):
        cause = f"has its kernel reshaped where its axes are to be transposed, on the way to {words}"
        yield _kernel(place, "kernel reshaped", cause, formula, mended, 21)
    if max(sizes) > 1:
        flip: Callable[[Array], Array] = lambda kernel: np.flip(kernel, spatial)  # noqa: E731  named for the line below
        cause = "has its kernel the other way round in space or time: a true convolution, where frameworks correlate"
        yield _kernel(place, "kernel flipped", cause, flip, FLIPPED, 23)
    if taken == given and operation.groups == 1:
        cause = "has the input and output channels of its kernel exchanged"
        yield _kernel(place, "kernel transposed", cause, lambda k: np.swapaxes(k, -1, -2), EXCHANGED, 21)
    if len(sizes) == 2 and sizes[0] == sizes[1] > 1:
        cause = "has height and width of its kernel exchanged, as .T of a Keras kernel leaves them"
        yield _kernel(place, "kernel transposed", cause, lambda k: np.swapaxes(k, 0, 1), SIDES_EXCHANGED, 21)
    if operation.held("bias") is not None:
        yield Fault(
            "bias dropped",
            "has no bias, or one of zeros",
            place,
            changed(name, Convolution, lambda one: replace(one, bias=np.zeros(one.output_size, np.float32))),
            (OptionRepair(name, "bias", "loaded"),),
            rank=18,
            shows="needs biases that are not zero",
        )


def _kernel(place: Place, kind: str, cause: str, formula: Callable[[Array], Array], value: str, rank: int) -> Fault:
    change = changed(place.layer, Convolution, lambda one: replace(one, kernel=formula(np.asarray(one.kernel))))
    return Fault(kind, cause, place, change, (OptionRepair(place.layer, "kernel", value),), rank)


def _grouped(operation: Convolution, place: Place) -> Iterator[Fault]:
    """The channels that are given in another order: group by group where they alternate, or the other way round."""
    given = int(operation.held("kernel").shape[-1])
    groups = operation.groups
    if groups in (1, given):
        return
    orders = {
        "alternately of every group": np.arange(given).reshape(groups, -1).T.ravel(),
        "group by group as if they alternated": np.arange(given).reshape(-1, groups).T.ravel(),
    }
    for words, order in {tuple(one.tolist()): (words, one) for words, one in orders.items()}.values():
        for members in (("kernel",), ("kernel", "bias")):
            if "bias" in members and operation.held("bias") is None:
                continue
            yield Fault(
                "groups in another order",
                f"has the {given} channels of its {' and '.join(members)} {words}, where they belong side by side, group by group",
                place,
                changed(place.layer, Convolution, partial(_taken_in, order=order, members=members)),
                tuple(OptionRepair(place.layer, one, "with its channels group by group") for one in members),
                rank=27,
            )


def _taken_in(operation: Convolution, order: Array, members: tuple[str, ...]) -> Convolution:
    made: dict[str, Any] = {one: np.asarray(getattr(operation, one))[..., order] for one in members}
    return replace(operation, **made)


def _options(operation: Convolution, node: str, place: Place) -> Iterator[Fault]:
    """Strides and dilations lost, where what follows takes the other lengths."""
    ones = (1,) * len(operation.strides)
    for option, right, change in (
        ("strides", operation.strides, _with_strides),
        ("dilations", operation.dilations, _with_dilations),
    ):
        others = [] if right == ones else [ones] if len(ones) == 1 else [ones, right[::-1]]
        for wrong in dict.fromkeys(one for one in others if one != right):
            yield _option(place, option, right, wrong, partial(change, name=node, value=wrong))


def _option(place: Place, option: str, right: object, wrong: object, replay: Change) -> Fault:
    return Fault(
        option,
        f"has {option} {wrong}, where {right} belongs",
        place,
        replay,
        (OptionRepair(place.layer, option, str(right), str(wrong)),),
        rank=26,
    )


def _convolution(case: Case, name: str) -> Convolution:
    operation = case.graph.node(name).operation
    if not isinstance(operation, Convolution):
        raise KeyError(name)
    return operation


def _with_strides(case: Case, name: str, value: tuple[int, ...]) -> Case:
    operation = _convolution(case, name)
    return case.with_layer(operation.name, lambda _: replace(operation, strides=value))


def _with_dilations(case: Case, name: str, value: tuple[int, ...]) -> Case:
    """Padding that goes with the dilation goes with the other one."""
    operation, node = _convolution(case, name), case.graph.node(name)
    if operation.padding != "same":
        pads = zip(_pads(case, node, shapes_in(case)), operation.dilations, value, strict=True)
        case = _with_pads(case, name, tuple((a // was * now, b // was * now) for (a, b), was, now in pads))
        operation = _convolution(case, name)
    return case.with_layer(operation.name, lambda _: replace(operation, dilations=value))


def _poolings(place: Place, pooling: Pooling) -> Iterator[Fault]:
    name = place.layer
    other = "average" if pooling.function == "max" else "max"
    yield _option(place, "pooling function", pooling.function, other, _pooling_with(name, function=other))
    if pooling.function == "average" and (pooling.padding == "same" or any(map(any, pooling.padding))):
        right = pooling.counts_padding
        words = ("counted", "not counted") if right else ("not counted", "counted")
        yield _option(place, "padding in the mean", *words, _pooling_with(name, counts_padding=not right))


def _pooling_with(name: str, **options: Any) -> Change:
    return changed(name, Pooling, lambda pooling: replace(pooling, **options))


__all__ = ["convolution_faults"]
