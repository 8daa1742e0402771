"""One mistake wherever people make it: in every recurrent layer of a model, in one layer, in one direction."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from parity.cell import Cell
from parity.deferred import Array
from parity.diagnosis.case import Case, Change
from parity.diagnosis.fault import Fault, Place
from parity.diagnosis.repair import Formula, Put, Repair, WeightRepair
from parity.layouts import CANONICAL_AXES, GATE_MEANINGS, Kind
from parity.network import Recurrent
from parity.recurrent import Weights

Target: TypeAlias = tuple[str, int]
"""A layer's name and the number of one of its directions."""


def _always(_: Recurrent, __: int) -> bool:
    return True


@dataclass(frozen=True, eq=False)
class Mistake:
    """What is done wrong to one direction of a recurrent layer, wherever that is.

    Args:
        name, cause, rank, shows, alone: as those of a `Fault`.
        change: makes it in one direction of a layer.
        repair: how that direction of the suspect is mended, from the right layer.
        possible: whether it can be made there and changes what is computed, as far as options and shapes tell.
        tensor, gate: as those of a `Place`.
        effect: of two mistakes that come to the same in one direction of a layer the same value, there; None for one that never does.
    """

    name: str
    cause: str
    change: Callable[[Recurrent, int], Recurrent]
    repair: Callable[[Recurrent, int], Repair]
    possible: Callable[[Recurrent, int], bool] = _always
    tensor: str = ""
    gate: str = ""
    rank: int = 50
    shows: str = ""
    alone: bool = False
    effect: Callable[[Recurrent, int], Hashable] | None = None


def everywhere(case: Case, *mistakes: Mistake) -> Iterator[Fault]:
    """Mistakes as faults: in all layers together, in each of several, in each of two directions.

    Args:
        case: the right model.
        mistakes: what is done wrong; of those that come to the same in one place the first one is told.
    """
    layers = {layer.name: layer for layer in case.recurrent()}
    seen: set[tuple[Hashable, ...]] = set()
    for mistake in mistakes:
        for targets, place in _scopes(layers, mistake):
            if mistake.effect is not None:
                effect = (targets, *(mistake.effect(layers[name], index) for name, index in targets))
                if effect in seen:
                    continue
                seen.add(effect)
            yield Fault(
                mistake.name,
                mistake.cause,
                place,
                _replay(mistake, targets),
                tuple(step for name, index in targets for step in mistake.repair(layers[name], index)),
                mistake.rank,
                mistake.shows,
                mistake.alone,
            )


def _scopes(layers: Mapping[str, Recurrent], mistake: Mistake) -> list[tuple[tuple[Target, ...], Place]]:
    """Where a mistake can be made at once, the widest place first."""
    by_layer: dict[str, list[Target]] = {}
    for name, layer in layers.items():
        for index in range(len(layer.spec.directions)):
            if mistake.possible(layer, index):
                by_layer.setdefault(name, []).append((name, index))
    scopes: dict[tuple[Target, ...], Place] = {}
    for name, targets in by_layer.items():
        for target in targets:
            way = layers[name].spec.directions[target[1]] if layers[name].bidirectional else ""
            scopes[(target,)] = Place(name, way, mistake.tensor, mistake.gate)
        if len(targets) > 1:
            scopes[tuple(targets)] = Place(name, "", mistake.tensor, mistake.gate)
    if len(by_layer) > 1:
        scopes[tuple(one for targets in by_layer.values() for one in targets)] = Place(
            "", "", mistake.tensor, mistake.gate
        )
    return sorted(scopes.items(), key=lambda scope: -len(scope[0]))


def _replay(mistake: Mistake, targets: tuple[Target, ...]) -> Change:
    def replay(case: Case) -> Case:
        for name in dict.fromkeys(name for name, _ in targets):

            def changed(operation: object, name: str = name) -> Recurrent:
                assert isinstance(operation, Recurrent)
                for other, index in targets:
                    if other == name:
                        operation = mistake.change(operation, index)
                return operation

            case = case.with_layer(name, changed)
        return case

    return replay


def weights_changed(change: Callable[[Weights], Weights]) -> Callable[[Recurrent, int], Recurrent]:
    """A change of the weights of one direction, for `Mistake.change`."""

    def changed(layer: Recurrent, index: int) -> Recurrent:
        weights = list(layer.weights)
        weights[index] = change(weights[index])
        return replace(layer, weights=tuple(weights))

    return changed


def cell_changed(change: Callable[[Cell], Cell]) -> Callable[[Recurrent, int], Recurrent]:
    """A change of the options of one direction's cell, for `Mistake.change`."""

    def changed(layer: Recurrent, index: int) -> Recurrent:
        cells = list(layer.cells)
        cells[index] = change(cells[index])
        return replace(layer, cells=tuple(cells))

    return changed


def both_changed(
    weights: Callable[[Weights], Weights], cell: Callable[[Cell], Cell]
) -> Callable[[Recurrent, int], Recurrent]:
    """A change of the weights and of the options of one direction, for `Mistake.change`."""
    first, second = weights_changed(weights), cell_changed(cell)
    return lambda layer, index: second(first(layer, index), index)


def by_formula(*steps: tuple[str, Formula]) -> Callable[[Recurrent, int], Repair]:
    """The repair of weights of one direction: members of `parity.recurrent.Weights`, and what is done to them."""
    return lambda layer, index: tuple(
        WeightRepair(layer.name, layer.spec.directions[index], member, formula) for member, formula in steps
    )


def by_putting(*members: str) -> Callable[[Recurrent, int], Repair]:
    """The repair that replaces weights of one direction by the right ones; biases that the right layer has not by zeros."""

    def repair(layer: Recurrent, index: int) -> Repair:
        return tuple(
            WeightRepair(layer.name, layer.spec.directions[index], member, Put(member_or_zeros(layer, index, member)))
            for member in members
        )

    return repair


def member_or_zeros(layer: Recurrent, index: int, member: str) -> Array:
    """One of the canonical weights of a direction, zeros where the layer has no such."""
    array = layer.weights[index].member(member)
    return np.zeros(layer.spec.shape(member), np.float32) if array is None else array


def members_of(weights: Weights) -> tuple[str, ...]:
    """The names of the weights that are there; nothing is read."""
    return tuple(name for name in CANONICAL_AXES if weights.held(name) is not None)


def gate_of(kind: Kind, meaning: str) -> tuple[int, str] | None:
    """The place and the letter of a gate in the canonical order, None where the kind has no such gate.

    Example:
        >>> gate_of("gru", "update gate"), gate_of("rnn", "forget gate")
        ((1, 'z'), None)
    """
    found = [(place, letter) for place, (letter, of) in enumerate(GATE_MEANINGS[kind].items()) if of == meaning]
    return found[0] if found else None


__all__ = [
    "Mistake",
    "both_changed",
    "by_formula",
    "by_putting",
    "cell_changed",
    "everywhere",
    "gate_of",
    "member_or_zeros",
    "members_of",
    "weights_changed",
]
