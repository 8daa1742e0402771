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

    Set apart is only what nothing else can reach: every way from the inputs to the value leads through the sequences of recurrent layers
    that take one and the same mask, and the reference, run once more with other numbers at their masked steps, changes there and nowhere
    else. A value that an input reaches on another way, or a layer without that mask, is judged in full, as is one that has no valid step.

    Args:
        graph: what was run.
        inputs: by name.
        wires: the values by the names of the bands.
        bands: of the same run.
    """
    resting = {name: rests for name, wire in wires.items() if (rests := _resting_on(graph, wire))}
    if not resting:
        return dict(bands)
    found, left_out = _disturbed(graph, inputs)
    shared = {name: _one([left_out[wire] for wire in rests]) for name, rests in resting.items()}
    return {
        name: band if (padded := shared.get(name)) is None else _apart(band, found[wires[name]], padded)
        for name, band in bands.items()
    }


def shared_mask(graph: Graph, inputs: Mapping[str, Array]) -> Mask | None:
    """The one mask that every recurrent layer takes, (batch, time), True where a step is valid; None where they do not share one.

    Args:
        graph: of the model.
        inputs: by name.
    """
    recurrent = [node for node in graph.nodes if isinstance(node.operation, (Bidirectional, Recurrent))]
    if not recurrent or any(_mask(node) is None for node in recurrent):
        return None
    wires = masks_of(graph)
    part = replace(graph, outputs={str(number): wire for number, wire in enumerate(wires)}).without_unused()
    return _one([np.asarray(mask, bool) for mask in part.run(inputs).values()])


def _one(masks: Sequence[Mask]) -> Mask | None:
    """The mask that all of these are."""
    return masks[0] if all(np.array_equal(masks[0], other) for other in masks[1:]) else None


def _mask(node: Node) -> Wire | None:
    takes = isinstance(node.operation, (Bidirectional, Recurrent)) and len(node.inputs) > 1
    return node.inputs[1] if takes else None


def _resting_on(graph: Graph, value: Wire) -> set[Wire]:
    """The sequences of masked recurrent layers that a value is made of; none where anything else reaches it."""
    nodes = {node.name: node for node in graph.nodes}
    found: set[Wire] = set()
    waiting, seen = [value], {value}
    while waiting:
        wire = waiting.pop()
        node = nodes.get(wire.node)
        if node is None:
            return set()
        taken = [] if isinstance(node.operation, Range) else [one for one in node.inputs if one is not None]
        if isinstance(node.operation, (Bidirectional, Recurrent)):
            if _mask(node) is None or wire not in sequences_of(node):
                return set()
            found.add(wire)
            continue
        waiting += [one for one in taken if one not in seen]
        seen.update(taken)
    return found


def _disturbed(graph: Graph, inputs: Mapping[str, Array]) -> tuple[dict[Wire, Array], dict[Wire, Mask]]:
    """Every value with other numbers at the masked steps of each recurrent layer's sequence; and of each sequence which steps those are."""
    random = np.random.default_rng(_SEED)
    found: dict[Wire, Array] = {}
    left_out: dict[Wire, Mask] = {}
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
            left_out[wire] = padded
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


def _apart(band: Band, disturbed: Array, padded: Mask) -> Band:
    """A band with the padded steps set apart that a disturbance at them has changed, if it has changed no others and left any."""
    axes, steps = band.quantity.axes, ("batch", "time")
    if not set(steps) <= set(axes) or disturbed.dtype.kind != "f":
        return band
    batch, time = (axes.index(name) for name in steps)
    with np.errstate(invalid="ignore"):
        off = np.abs(disturbed - band.reference) > band.floor
    changed = off.any(axis=tuple(axis for axis in range(off.ndim) if axis not in (batch, time)))
    changed = changed if batch < time else changed.T
    if changed.shape != padded.shape or not changed.any() or changed.all() or (changed & ~padded).any():
        return band
    ordered = changed if batch < time else changed.T
    shape = [length if axis in (batch, time) else 1 for axis, length in enumerate(off.shape)]
    return replace(band, padded=np.broadcast_to(ordered.reshape(shape), _like(band, shape)))


def _like(band: Band, shape: Sequence[int]) -> list[int]:
    """The shape of a band's other flags, but for the axes of samples and steps, which have their full lengths."""
    return [max(own, length) for own, length in zip(band.floor.shape, shape, strict=True)]


__all__ = ["made_by", "masks_of", "shared_mask", "with_padding"]
