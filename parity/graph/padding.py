"""The masks of a whole model's recurrent layers, and where its values show nothing but what those leave at padded steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from parity.deferred import Array
from parity.floor import Band
from parity.graph.calls import computed
from parity.graph.graph import Graph, Node, Wire
from parity.graph.operations import Range
from parity.graph.steps import sequences_of
from parity.network import Bidirectional, Recurrent
from parity.reference import Exact, Mask

_SEED = 0


def masks_of(graph: Graph) -> tuple[Wire, ...]:
    """The values that recurrent layers take as masks, in the order of the data, each once.

    Args:
        graph: of the model.

    Example:
        >>> from parity.graph import Builder
        >>> build = Builder("model")
        >>> masks_of(build.graph({"y": build.input("x", ("batch", "time", 4))}))
        ()
    """
    return tuple(dict.fromkeys(wire for node in graph.nodes if (wire := _mask(node)) is not None))


def masks_on(graph: Graph, inputs: Mapping[str, Array]) -> list[Mask]:
    """These masks on given inputs, (batch, time) each, True where a step is valid.

    Args:
        graph: of the model.
        inputs: by name.
    """
    wires = masks_of(graph)
    if not wires:
        return []
    part = replace(graph, outputs={str(number): wire for number, wire in enumerate(wires)}).without_unused()
    return [np.asarray(mask, bool) for mask in part.run(inputs).values()]


def made_by(graph: Graph) -> list[str]:
    """Who makes the masks: "lengths" or a "mask" that are inputs, or "the model itself" out of other inputs.

    Args:
        graph: of the model.
    """
    nodes, given = {node.name: node for node in graph.nodes}, {one.name: one for one in graph.inputs}
    found: set[str] = set()
    waiting, seen = [wire.node for wire in masks_of(graph)], set()
    while waiting:
        name = waiting.pop()
        if name in given:
            one = given[name]
            counts = one.dtype == "int64" and len(one.shape) == 1
            found.add("lengths" if counts else "mask" if one.dtype == "bool" else "the model itself")
        elif name not in seen:
            seen.add(name)
            # A range takes no values, but how many there are.
            taken = () if isinstance(nodes[name].operation, Range) else nodes[name].inputs
            waiting += [wire.node for wire in taken if wire is not None]
    return [name for name in ("lengths", "mask", "the model itself") if name in found]


def with_padding(
    graph: Graph, inputs: Mapping[str, Array], wires: Mapping[str, Wire], bands: Mapping[str, Band]
) -> dict[str, Band]:
    """Bands that know which steps show a convention alone: what a recurrent layer's sequence holds where its mask leaves steps out.

    The reference runs once more with other numbers there. What then changes at masked steps and nowhere else rests on that convention.
    Where a model carries it into valid steps, as a convolution does, it is part of what the model computes, and nothing is set apart.

    Args:
        graph: what was run.
        inputs: by name.
        wires: the values by the names of the bands.
        bands: of the same run.
    """
    if not masks_of(graph):
        return dict(bands)
    found, left_out = _disturbed(graph, inputs)
    return {name: _apart(band, found[wires[name]], left_out) for name, band in bands.items()}


def _mask(node: Node) -> Wire | None:
    takes = isinstance(node.operation, (Bidirectional, Recurrent)) and len(node.inputs) > 1
    return node.inputs[1] if takes else None


def _disturbed(graph: Graph, inputs: Mapping[str, Array]) -> tuple[dict[Wire, Array], list[Mask]]:
    """Every value with other numbers at the masked steps of each recurrent layer's sequence; and which steps those are."""
    random = np.random.default_rng(_SEED)
    found: dict[Wire, Array] = {}
    left_out: list[Mask] = []
    for one in graph.inputs:
        array = np.asarray(inputs[one.name])
        found[Wire(one.name)] = array.astype(np.float64) if array.dtype.kind == "f" else array
    for node in graph.nodes:
        given = computed(node.operation, [None if wire is None else found[wire] for wire in node.inputs], Exact())
        found |= {Wire(node.name, index): value for index, value in enumerate(given)}
        if (mask := _mask(node)) is None:
            continue
        for wire, reversed_ in zip(sequences_of(node), _reversals(node), strict=False):
            padded = ~np.logical_and.reduce([_turned(np.asarray(found[mask], bool), turn) for turn in reversed_])
            noise = random.uniform(1.0, 2.0, found[wire].shape)
            found[wire] = np.where(padded[..., None], found[wire] + noise, found[wire])
            left_out.append(padded)
    return found, left_out


def _reversals(node: Node) -> Iterator[Sequence[bool]]:
    """Of each sequence that a layer gives, whether its parts stand in the opposite order of the mask's steps."""
    layer = node.operation
    if isinstance(layer, Recurrent):
        yield from ([value.reverse] for value in layer.given)
    elif isinstance(layer, Bidirectional):
        turns = [stack[-1].given[0].reverse for stack in layer.stacks]
        yield from [[turn] for turn in turns] if layer.merge_mode is None else [turns]


def _turned(mask: Mask, turn: bool) -> Mask:
    return mask[:, ::-1] if turn else mask


def _apart(band: Band, disturbed: Array, left_out: Sequence[Mask]) -> Band:
    """A band with the steps set apart that a disturbance at masked steps has changed, if it has changed no others."""
    axes, steps = band.quantity.axes, ("batch", "time")
    if not set(steps) <= set(axes) or disturbed.dtype.kind != "f":
        return band
    batch, time = (axes.index(name) for name in steps)
    with np.errstate(invalid="ignore"):
        off = np.abs(disturbed - band.reference) > band.floor
    changed = off.any(axis=tuple(axis for axis in range(off.ndim) if axis not in (batch, time)))
    changed = changed if batch < time else changed.T
    fitting = [padded for padded in left_out if padded.shape == changed.shape]
    if not changed.any() or not fitting or (changed & ~np.logical_or.reduce(fitting)).any():
        return band
    ordered = changed if batch < time else changed.T
    shape = [length if axis in (batch, time) else 1 for axis, length in enumerate(off.shape)]
    return replace(band, padded=np.broadcast_to(ordered.reshape(shape), _like(band, shape)))


def _like(band: Band, shape: Sequence[int]) -> list[int]:
    """The shape of a band's other flags, but for the axes of samples and steps, which have their full lengths."""
    return [max(own, length) for own, length in zip(band.floor.shape, shape, strict=True)]


__all__ = ["made_by", "masks_of", "masks_on", "with_padding"]
