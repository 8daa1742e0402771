"""Right weights in the wrong place: in the other direction, in another layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations, pairwise

from parity.diagnosis.case import Case, Change
from parity.diagnosis.fault import Fault, Place
from parity.diagnosis.faults.scopes import by_putting, members_of
from parity.diagnosis.repair import Repair, SwapRepair
from parity.network import Recurrent
from parity.recurrent import Weights

_EVERY_PAIR = 4
"""In deeper stacks the weights of neighbours alone are swapped."""


def placing_faults(case: Case) -> Iterator[Fault]:
    """Weights of directions and of layers that change places, or that are loaded into more than one.

    Args:
        case: the right model.
    """
    both = [layer for layer in case.recurrent() if layer.bidirectional]
    groups = [[layer] for layer in both] + ([both] if len(both) > 1 else [])
    for layers in reversed(groups):
        yield from _of_directions(layers)
    for stack in _alike(case):
        yield from _of_stacks(stack)


def _of_directions(layers: Sequence[Recurrent]) -> Iterator[Fault]:
    place = Place(layers[0].name if len(layers) == 1 else "")
    forward, backward = layers[0].spec.directions
    for name, cause, order, rank in (
        ("directions swapped", f"has the weights of its {forward} direction in the {backward} one, and the other way round", (1, 0), 9),
        ("one direction in both", f"has the weights of its {forward} direction in the {backward} one too", (0, 0), 12),
        ("one direction in both", f"has the weights of its {backward} direction in the {forward} one too", (1, 1), 30),
    ):  # fmt: skip
        repair = (step for layer in layers for step in _directions_mended(layer, order))
        wrong = "" if order == (1, 0) else layers[0].spec.directions[1 - order[0]]
        yield Fault(
            name,
            cause,
            replace(place, direction=wrong),
            _directions_taken([layer.name for layer in layers], order),
            tuple(repair),
            rank,
            moves=True,
        )


def _directions_taken(names: Sequence[str], order: tuple[int, int]) -> Change:
    def changed(operation: object) -> Recurrent:
        assert isinstance(operation, Recurrent)
        return replace(operation, weights=tuple(operation.weights[index] for index in order))

    def replay(case: Case) -> Case:
        for name in names:
            case = case.with_layer(name, changed)
        return case

    return replay


def _directions_mended(layer: Recurrent, order: tuple[int, int]) -> Repair:
    if order != (1, 0):
        wrong = 1 - order[0]
        return by_putting(*members_of(layer.weights[wrong]))(layer, wrong)
    first, second = layer.spec.directions
    return tuple(
        SwapRepair((layer.name, first, member), (layer.name, second, member)) for member in members_of(layer.weights[0])
    )


def _alike(case: Case) -> Iterator[list[Recurrent]]:
    """Layers whose weights have the same shapes, where there are several."""
    found: dict[object, list[Recurrent]] = {}
    for layer in case.recurrent():
        key = (layer.spec, tuple(members_of(weights) for weights in layer.weights))
        found.setdefault(key, []).append(layer)
    return (layers for layers in found.values() if len(layers) > 1)


def _of_stacks(stack: Sequence[Recurrent]) -> Iterator[Fault]:
    pairs = list(combinations(stack, 2)) if len(stack) <= _EVERY_PAIR else list(pairwise(stack))
    if len(stack) > 2:
        yield _loaded(stack[0], stack[1:], 14)
    for one, two in pairs:
        yield Fault(
            "layers swapped",
            f"has the weights of layers '{one.name}' and '{two.name}' exchanged",
            Place(one.name),
            _weights_taken({one.name: two.name, two.name: one.name}),
            _layers_swapped(one, two),
            20,
            moves=True,
        )
        yield _loaded(one, [two], 15 if len(stack) == 2 else 25)
        yield _loaded(two, [one], 35)


def _loaded(source: Recurrent, into: Sequence[Recurrent], rank: int) -> Fault:
    several = len(into) > 1
    words = ", ".join(f"'{layer.name}'" for layer in into)
    return Fault(
        "one layer in several",
        f"has the weights of layer '{source.name}' in the {'layers' if several else 'layer'} {words} too",
        Place() if several else Place(into[0].name),
        _weights_taken({layer.name: source.name for layer in into}),
        tuple(
            step
            for layer in into
            for index, weights in enumerate(layer.weights)
            for step in by_putting(*members_of(weights))(layer, index)
        ),
        rank,
        moves=True,
    )


def _layers_swapped(one: Recurrent, two: Recurrent) -> Repair:
    return tuple(
        SwapRepair((one.name, direction, member), (two.name, direction, member))
        for direction, weights in zip(one.spec.directions, one.weights, strict=True)
        for member in members_of(weights)
    )


def _weights_taken(sources: dict[str, str]) -> Change:
    """A change that gives layers the weights of other layers, by name."""

    def replay(case: Case) -> Case:
        weights = {layer.name: layer.weights for layer in case.recurrent()}
        for name, source in sources.items():
            case = case.with_layer(name, lambda operation, taken=weights[source]: _having(operation, taken))  # type: ignore[misc]
        return case

    return replay


def _having(operation: object, weights: tuple[Weights, ...]) -> Recurrent:
    assert isinstance(operation, Recurrent)
    return replace(operation, weights=weights)


__all__ = ["placing_faults"]
