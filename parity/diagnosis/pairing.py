"""Two mistakes that could together be what the suspect computed: a value that one alone touches has to be explained by it alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, islice

import numpy as np

from parity.deferred import Array
from parity.diagnosis.case import Case
from parity.diagnosis.fault import Fault
from parity.diagnosis.repair import SwapRepair, WeightRepair
from parity.diagnosis.replay import NEAR, Stage, outputs_of, replayed, wired_alike

Pair = tuple[Fault, Fault]

_VALUES = 64
"""So many values of every output are looked at, spread over it."""

_MOST, _MOST_POSSIBLE = 3000, 40_000
"""Of pairs that what each of two does alone contradicts, and of those that it allows, so many are tried, the likeliest first."""

_NEAR, _LARGER = 1e-2, 100.0
"""Of a suspect within this share of the right model's largest value, mistakes that change it so many times more are not one of two."""

_STEPS = 100_000
"""A run is looked at if all mistakes made in it, one by one, take no more steps than this."""


@dataclass(frozen=True, eq=False)
class Touched:
    """What each of several mistakes does to values of a run when it is made alone.

    Args:
        touches: (fault, value), whether the mistake changes the value at all.
        unexplained: (fault, value), whether it changes the value, and not into what the suspect gave.
        wrong: (value,), whether the suspect's is not the right one.
        moves: (fault,), whether the mistake takes values to other places, or cannot be made alone: what it does to a value says
            little of what it does behind another mistake.
        larger: (fault,), whether it changes a model far more than the suspect is off, which is near the right one.
    """

    touches: Array
    unexplained: Array
    wrong: Array
    moves: Array
    larger: Array

    def contradicted(self) -> Array:
        """(fault, fault), whether two mistakes together cannot be what the suspect computed.

        A value that neither touches must be the right one, and one that a single one touches must be what this one makes of it.
        """
        touches, unexplained = self.touches.astype(np.float32), self.unexplained.astype(np.float32)
        untouched = 1.0 - touches
        alone = unexplained @ untouched.T
        neither = (untouched * self.wrong) @ untouched.T
        found: Array = (alone + alone.T + neither) > 0
        return found

    def supported(self) -> Array:
        """(fault, fault), whether there is a wrong value that a single one of two mistakes touches."""
        touches = self.touches.astype(np.float32)
        alone = (touches * self.wrong) @ (1.0 - touches).T
        found: Array = (alone + alone.T) > 0
        return found


def likely_pairs(stages: Sequence[Stage], faults: Sequence[Fault]) -> Iterator[list[Pair]]:
    """Two mistakes together, in groups: those that what each does alone speaks for, those that may be, and those made in the other order.

    Not among them: two of one kind in one place, which are one of that kind again, and mistakes that are `alone`.

    Args:
        stages: runs of the suspect, the shortest first.
        faults: that could be.

    Yields:
        Groups, the likeliest pairs of each first; to be tried until one of them explains the suspect.
    """
    some = [fault for fault in faults if not fault.alone]
    looked = [touched_by(stage, some) for stage in (*stages[:1], *_short(stages[1:], len(some)))]
    contradicted = np.any([one.contradicted() for one in looked], axis=0)
    supported = np.any([one.supported() for one in looked], axis=0)
    moves = np.any([one.moves for one in looked], axis=0)
    larger = np.all([one.larger for one in looked], axis=0)
    every = [
        (one, two)
        for one, two in combinations(range(len(some)), 2)
        if (some[one].name, some[one].place) != (some[two].name, some[two].place) and not (larger[one] or larger[two])
    ]
    every.sort(key=lambda pair: some[pair[0]].rank + some[pair[1]].rank)

    def entangled(pair: tuple[int, int]) -> bool:
        """Whether what each does alone says little of both, and their order counts."""
        one, two = pair
        return bool(moves[one] or moves[two]) or _meet(some[one], some[two])

    possible = [pair for pair in every if not contradicted[pair]]
    groups = (
        islice((pair for pair in possible if supported[pair]), _MOST_POSSIBLE),
        islice((pair for pair in possible if not supported[pair]), _MOST_POSSIBLE),
        islice((pair for pair in every if contradicted[pair] and entangled(pair)), _MOST),
        islice((pair[::-1] for pair in every if entangled(pair)), _MOST),
    )
    return ([(some[one], some[two]) for one, two in group] for group in groups)


def _short(stages: Sequence[Stage], count: int) -> list[Stage]:
    """The runs that are short enough to make every mistake in them."""
    steps = [
        max((array.shape[1] for array in stage.case.inputs.values() if array.ndim > 1), default=1) for stage in stages
    ]
    return [stage for stage, length in zip(stages, steps, strict=True) if length * count <= _STEPS]


def _meet(one: Fault, two: Fault) -> bool:
    """Whether two mistakes change the same weight, so that their order counts."""
    return bool(_weights(one) & _weights(two))


def _weights(fault: Fault) -> set[tuple[str, str, str]]:
    return {(step.layer, step.direction, step.member) for step in fault.repair or () if isinstance(step, WeightRepair)}


def touched_by(stage: Stage, faults: Sequence[Fault]) -> Touched:
    """What each of several mistakes does to values of a run, made alone.

    A mistake touches a value if it changes any value of the same unit: one that is saturated in a step, a sample, need not be in another
    model. Values that are exactly zero, as a gate that is shut makes all of them, are not looked at.

    Args:
        stage: the run.
        faults: the mistakes.
    """
    right = stage.case.outputs()
    names = [name for name, seen in stage.observed.items() if right[name].shape == seen.shape]
    places = {name: _spread(right[name]) for name in names}
    floors = stage.apart_in_floors(right)
    wrong = _at(places, {name: floors[name] > NEAR for name in names})
    touches, unexplained = np.ones((len(faults), len(wrong)), bool), np.zeros((len(faults), len(wrong)), bool)
    moves, changes = np.zeros(len(faults), bool), np.zeros(len(faults))
    for row, fault in enumerate(faults):
        case = replayed(stage.case, (fault,))
        outputs = outputs_of(case)
        if case is None or outputs is None or any(outputs[name].shape != right[name].shape for name in names):
            moves[row] = True
            continue
        moves[row] = _moves(fault, case, stage.case)
        if moves[row] and stage.prefix:  # what such a mistake does to the beginning of a run is not known
            continue
        changes[row] = max((_largest(outputs[name] - right[name]) for name in names), default=0.0)
        touches[row] = _at(places, {name: _units(outputs[name] != right[name]) for name in names})
        far = stage.apart_in_floors(outputs)
        unexplained[row] = touches[row] & _at(places, {name: far[name] > NEAR for name in names})
    return Touched(touches, unexplained, wrong, moves, _larger(stage, right, names, changes))


def _larger(stage: Stage, right: dict[str, Array], names: Sequence[str], changes: Array) -> Array:
    off = max((_largest(stage.observed[name] - right[name]) for name in names), default=0.0)
    scale = max((_largest(right[name]) for name in names), default=0.0)
    near = 0.0 < off < _NEAR * scale
    found: Array = (changes > _LARGER * off) & near
    return found


def _largest(array: Array) -> float:
    with np.errstate(invalid="ignore"):
        return float(np.nan_to_num(np.abs(array), nan=np.inf).max(initial=0.0))


def _units(changed: Array) -> Array:
    """True for all values of a unit, on the last axis, of which any is changed."""
    return (
        np.broadcast_to(changed.reshape(-1, changed.shape[-1]).any(axis=0), changed.shape) if changed.ndim else changed
    )


def _moves(fault: Fault, case: Case, right: Case) -> bool:
    same = all(array is right.inputs[name] for name, array in case.inputs.items() if name in right.inputs)
    elsewhere = any(isinstance(step, SwapRepair) for step in fault.repair or ()) or fault.moves
    return elsewhere or not same or not wired_alike(case, right)


def _spread(right: Array) -> Array:
    """Places in a flat array, evenly spread over those that are not zero."""
    found = np.flatnonzero(right)
    every: Array = np.linspace(0, len(found) - 1, min(len(found), _VALUES)).round().astype(int)
    return np.asarray(found[every])


def _at(places: dict[str, Array], values: dict[str, Array]) -> Array:
    """What stands at places of several arrays."""
    none: list[Array] = [np.zeros(0, bool)]
    found: Array = np.concatenate([values[name].reshape(-1)[place] for name, place in places.items()] or none)
    return found


__all__ = ["Touched", "likely_pairs", "touched_by"]
