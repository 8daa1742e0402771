"""Repairs said of the right model's layers, as changes of the suspect's own weights, tried on its numbers first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np

from parity.deferred import Array
from parity.diagnosis.fault import Fault
from parity.diagnosis.repair import CallRepair, Formula, OptionRepair, Put, Repair, SwapRepair, WeightRepair, mended
from parity.layouts import CANONICAL_AXES, GATE_MEANINGS
from parity.network import Recurrent
from parity.recurrent import Weights, merge_biases

ROUNDED = "weights rounded"
"""The fault of weights that went through a shorter format: what they were cannot be computed from what they are."""

BIASES = ("bias_input", "bias_recurrent")

_ALIKE = 1e-6
"""Weights within this share of their largest number are the same: they were rounded to float32, perhaps after a sum."""

Place: TypeAlias = tuple[int, int]
"""The number of a recurrent layer of the suspect, and of one of its directions."""

Group: TypeAlias = tuple[Place, str]
"""Weights that are right or wrong together: the biases are one."""


@dataclass(frozen=True)
class Change:
    """One of the canonical weights of the suspect is changed.

    Args:
        at: the layer and the direction.
        member: of `parity.recurrent.Weights`.
        formula: what is done to it.
    """

    at: Place
    member: str
    formula: Formula


@dataclass(frozen=True)
class Right:
    """One of the canonical weights of the suspect gets the right numbers.

    Args:
        at: the layer and the direction.
        member: of `parity.recurrent.Weights`.
        source: the reference's layer and direction.
        members: the reference's weights whose sum they are; none for zeros.
    """

    at: Place
    member: str
    source: Place
    members: tuple[str, ...]


@dataclass(frozen=True)
class Swap:
    """Two of the suspect's canonical weights change places."""

    first: tuple[Place, str]
    second: tuple[Place, str]


Step: TypeAlias = Change | Right | Swap


@dataclass(frozen=True, eq=False)
class Resolved:
    """What is to be done to a suspect.

    Args:
        steps: changes of its weights, in order.
        weights: of every direction that is changed, after that.
        around: options and code that are to be changed.
        unsaid: what cannot be said as a change of this suspect, in words.
        rights: the steps that put the right numbers, for every group of weights that is changed.
        pairs: the number of the suspect's layer that each layer of the reference is.
        own_code: lines of a cell that the suspect's own code writes out, as they have to be, for all that is unsaid.
    """

    steps: tuple[Step, ...]
    weights: dict[Place, Weights]
    around: tuple[OptionRepair | CallRepair, ...]
    unsaid: tuple[str, ...] = ()
    rights: dict[Group, tuple[Right, ...]] = field(default_factory=dict)
    pairs: dict[int, int] = field(default_factory=dict)
    own_code: tuple[str, ...] = ()

    def without(self, strange: Callable[[Step], bool]) -> Resolved:
        """The same with the right numbers wherever a step is strange to a framework."""
        wrong: set[Group] = set()
        for step in (*self.steps, *self.steps[::-1]):
            if not isinstance(step, Right) and (strange(step) or wrong & set(groups_of(step))):
                wrong |= set(groups_of(step))
        kept = [step for step in self.steps if isinstance(step, Right) or not wrong & set(groups_of(step))]
        return replace(self, steps=(*kept, *(one for group in sorted(wrong) for one in self.rights.get(group, ()))))


def resolve(faults: Sequence[Fault], right: Sequence[Recurrent], own: Sequence[Recurrent]) -> Resolved:
    """The repairs of faults as changes of the suspect's weights, the later mistake undone first.

    They are tried on the suspect's numbers. Where a formula does not give the right ones (a framework that keeps one bias where another
    keeps two, numbers that are lost), the right numbers are put there.

    Args:
        faults: what the suspect does.
        right: the recurrent layers of the reference.
        own: those of the suspect.
    """
    repairs = [one for fault in reversed(faults) for one in repair_of(fault, right)]
    around = tuple(dict.fromkeys(one for one in repairs if isinstance(one, OptionRepair | CallRepair)))
    weights = [one for one in repairs if isinstance(one, WeightRepair | SwapRepair)]
    work = _Work(right, own, matched(right, own))
    silent = tuple(f"that the suspect {fault.cause}" for fault in faults if not fault.repair)
    strange = [name for one in weights for name in _layers_of(one) if not work.knows(name)]
    if strange:
        words = tuple(f"the weights of layer '{name}'" for name in dict.fromkeys(strange))
        own_code = tuple(map(_own_code, faults))
        return Resolved((), {}, around, (*words, *silent), pairs=work.pairs, own_code=own_code if all(own_code) else ())
    best = min((work.tried(ways) for ways in (weights, list(_spread(weights)))), key=lambda one: len(one.wrong))
    steps, state, unsaid = work.with_right_numbers(best)
    touched = {group for step in steps if not isinstance(step, Right) for group in groups_of(step)}
    rights = {(at, name): tuple(one for one, _ in work.rights(at, name)) for at, name in touched}
    return Resolved(steps, state, around, (*unsaid, *silent), rights, work.pairs)


def _own_code(fault: Fault) -> str:
    """The line of a cell in the suspect's own code that has to be another one, as it has to be; "" where that is not known."""
    if fault.name != "update gate the other way round":
        return ""
    letters = {meaning: letter for letter, meaning in GATE_MEANINGS["gru"].items()}
    update, candidate = letters["update gate"], letters["candidate"]
    return f"h = {update} * h + (1 - {update}) * {candidate}"


def repair_of(fault: Fault, right: Sequence[Recurrent]) -> Repair:
    """The repair of a fault; digits that are lost are put there anew.

    Args:
        fault: any.
        right: the recurrent layers of the reference.
    """
    if fault.name != ROUNDED:
        return fault.repair or ()
    layers = [layer for layer in right if fault.place.layer in ("", layer.name)]
    found: list[WeightRepair | OptionRepair] = [
        WeightRepair(layer.name, way, member, Put(np.asarray(weights.member(member))))
        for layer in layers
        for way, weights in zip(layer.spec.directions, layer.weights, strict=True)
        for member in CANONICAL_AXES
        if weights.held(member) is not None
    ]
    if not fault.place.layer or not layers:
        found.append(OptionRepair(fault.place.layer, "weights", "the right numbers"))
    return tuple(found)


def matched(right: Sequence[Recurrent], own: Sequence[Recurrent]) -> dict[int, int]:
    """Which layer of the suspect is which of the reference: by position where all are alike, else by name."""
    if [_key(one) for one in right] == [_key(one) for one in own]:
        return {number: number for number in range(len(right))}
    by_name = {(one.name, *_key(one)): number for number, one in enumerate(own)}
    found = {number: by_name.get((one.name, *_key(one))) for number, one in enumerate(right)}
    return {number: other for number, other in found.items() if other is not None}


def _key(layer: Recurrent) -> tuple[object, ...]:
    spec = layer.spec
    return spec.kind, spec.input_size, spec.hidden_size, len(spec.directions), spec.state_size


def _layers_of(repair: WeightRepair | SwapRepair) -> tuple[str, ...]:
    return (repair.layer,) if isinstance(repair, WeightRepair) else (repair.first[0], repair.second[0])


def _spread(repairs: Sequence[WeightRepair | SwapRepair]) -> Iterator[WeightRepair | SwapRepair]:
    """What is done to one bias, or to both, done once to all biases that there are."""
    before: object = None
    for repair in repairs:
        if not isinstance(repair, WeightRepair) or repair.member not in BIASES:
            before = None
            yield repair
            continue
        what = (repair.layer, repair.direction, repair.formula)
        if what != before:
            yield from (replace(repair, member=member) for member in BIASES)
        before = what


@dataclass(frozen=True, eq=False)
class _Trial:
    steps: tuple[Change | Swap, ...]
    weights: dict[Place, Weights]
    wrong: frozenset[Group]


@dataclass(frozen=True, eq=False)
class _Work:
    """Both sides' layers; `pairs` says which number of the suspect's belongs to which of the reference's."""

    right: Sequence[Recurrent]
    own: Sequence[Recurrent]
    pairs: dict[int, int]

    def knows(self, layer: str) -> bool:
        """Whether a layer of the reference is one of the suspect's, too."""
        return any(one.name == layer and number in self.pairs for number, one in enumerate(self.right))

    def place(self, layer: str, direction: str) -> Place:
        """Where in the suspect."""
        number = next(number for number, one in enumerate(self.right) if one.name == layer)
        ways: tuple[str, ...] = self.right[number].spec.directions
        return self.pairs[number], ways.index(direction)

    def tried(self, repairs: Sequence[WeightRepair | SwapRepair]) -> _Trial:
        """The repairs made on the suspect's numbers, those of weights that it has not left out."""
        state: dict[Place, Weights] = {}
        steps: list[Change | Swap] = []
        touched: set[Group] = set()
        for repair in repairs:
            if isinstance(repair, WeightRepair):
                at = self.place(repair.layer, repair.direction)
                touched.add((at, _group(repair.member)))
                array = self._weights(state, at).member(repair.member)
                if array is None:
                    continue
                try:
                    made = mended(repair.formula, np.asarray(array))
                except (ValueError, IndexError):  # other shapes than the formula is about
                    continue
                steps.append(Change(at, repair.member, repair.formula))
                state[at] = self._weights(state, at).with_held(**{repair.member: made})
                continue
            ends = [(self.place(layer, way), member) for layer, way, member in (repair.first, repair.second)]
            touched |= {(at, _group(member)) for at, member in ends}
            arrays = [self._weights(state, at).member(member) for at, member in ends]
            if any(array is None for array in arrays):
                continue
            steps.append(Swap(*ends))
            for (at, member), array in zip(ends, arrays[::-1], strict=True):
                state[at] = self._weights(state, at).with_held(**{member: array})
        wrong = {group for group in touched if not self._is_right(group, state)}
        return _Trial(tuple(steps), state, frozenset(wrong))

    def with_right_numbers(self, trial: _Trial) -> tuple[tuple[Step, ...], dict[Place, Weights], tuple[str, ...]]:
        """The steps of a trial, with the right numbers where it does not give them or where it puts numbers."""
        wrong = set(trial.wrong)
        for step in trial.steps:
            if isinstance(step, Change) and isinstance(step.formula, Put):
                wrong.add((step.at, _group(step.member)))
            elif isinstance(step, Swap) and wrong & set(groups_of(step)):
                wrong |= set(groups_of(step))
        steps: list[Step] = [step for step in trial.steps if not wrong & set(groups_of(step))]
        state, unsaid = dict(trial.weights), []
        for at, group in sorted(wrong):
            found = list(self.rights(at, group))
            steps += [step for step, _ in found]
            state[at] = self._weights(state, at).with_held(**{step.member: array for step, array in found})
            if not self._is_right((at, group), state):
                unsaid.append(f"the {group} of layer '{self.own[at[0]].name}'")
        return tuple(steps), state, tuple(unsaid)

    def rights(self, at: Place, group: str) -> Iterator[tuple[Right, Array]]:
        """The steps that put the right numbers into a group of weights, and these numbers."""
        source = self._source(at)
        right, own = self.right[source[0]].weights[source[1]], self.own[at[0]].weights[at[1]]
        wanted = BIASES if group == _BIAS else (group,)
        there = [member for member in wanted if own.held(member) is not None]
        for member in there:
            members = tuple(one for one in (wanted if len(there) == 1 else (member,)) if right.held(one) is not None)
            array = merge_biases(right) if len(members) > 1 else right.member(members[0]) if members else None
            made = np.zeros(self.own[at[0]].spec.shape(member), right.dtype) if array is None else np.asarray(array)
            before = own.member(member)
            if before is not None and not alike(before, made):
                yield Right(at, member, source, members), made

    def _source(self, at: Place) -> Place:
        return {own: number for number, own in self.pairs.items()}[at[0]], at[1]

    def _weights(self, state: dict[Place, Weights], at: Place) -> Weights:
        return state.get(at) or self.own[at[0]].weights[at[1]]

    def _is_right(self, group: Group, state: dict[Place, Weights]) -> bool:
        at, name = group
        number, way = self._source(at)
        apart = self.right[number].cells[way].reset_after and self.right[number].spec.kind == "gru"
        arrays = [_numbers(one, name, apart) for one in (self._weights(state, at), self.right[number].weights[way])]
        return len(arrays[0]) == len(arrays[1]) and all(map(alike, *arrays))


_BIAS = "bias"


def _group(member: str) -> str:
    return _BIAS if member in BIASES else member


def groups_of(step: Change | Swap) -> tuple[Group, ...]:
    """The weights that a step is about."""
    return tuple((at, _group(member)) for at, member in ends_of(step))


def ends_of(step: Step) -> tuple[tuple[Place, str], ...]:
    """The weights that a step changes, one by one."""
    return (step.first, step.second) if isinstance(step, Swap) else ((step.at, step.member),)


def _numbers(weights: Weights, group: str, apart: bool) -> list[Array]:
    """What decides what is computed: of biases their sum, and what of them a GRU tells apart."""
    if group != _BIAS:
        found = weights.member(group)
        return [] if found is None else [found]
    shape = weights.held("kernel").shape[:2]
    total, own = merge_biases(weights), weights.bias_recurrent
    summed = np.zeros(shape) if total is None else total
    candidate = list(GATE_MEANINGS["gru"].values()).index("candidate")
    return [summed, np.zeros(shape[1]) if own is None else own[candidate]] if apart else [summed]


def alike(one: Array, other: Array) -> bool:
    """Whether two arrays hold the same numbers, to roundings.

    Example:
        >>> alike(np.array([1.0, 2.0]), np.array([1.0, 2.0000001])), alike(np.array([1.0, 2.0]), np.array([1.0, 2.1]))
        (True, False)
    """
    if one.shape != other.shape:
        return False
    scale = float(np.abs(other).max(initial=0.0))
    return bool(np.abs(one.astype(np.float64) - other).max(initial=0.0) <= _ALIKE * scale)


__all__ = [
    "BIASES",
    "Change",
    "Group",
    "Place",
    "Resolved",
    "Right",
    "Step",
    "Swap",
    "alike",
    "groups_of",
    "matched",
    "repair_of",
    "resolve",
]
