"""A suspect and the right model asked side by side, on small inputs that are changed in one place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from parity.deferred import Array
from parity.diagnosis.case import Case
from parity.diagnosis.enriching import enriched
from parity.diagnosis.probes.patterns import found_pattern, right_pattern
from parity.diagnosis.replay import floor_of, outputs_of
from parity.diagnosis.suspects import Suspect
from parity.failed import noted
from parity.floor import Band, in_floors
from parity.graph.chains import MASK
from parity.graph.graph import GraphInput
from parity.graph.inputs import masked_inputs

SAMPLES, STEPS = 4, 9
"""So many are enough to see what moves."""

_REPLICAS = 4
_SEED = 23

Outputs: TypeAlias = dict[str, Array]
Floats: TypeAlias = NDArray[np.float64]
View: TypeAlias = Callable[[Array], Array]
"""The part of an output that is looked at, with the cells of the pattern on its first axis."""


@dataclass(frozen=True, eq=False)
class Asked:
    """What the right model and the suspect give on a few samples and steps.

    Args:
        suspect: what is to be explained.
        case: the right model on these inputs; no step is masked.
        right: what it gives, in float64.
        own: what the suspect gives.
        bands: the floor of every output.
    """

    suspect: Suspect
    case: Case
    right: Outputs
    own: Outputs
    bands: Mapping[str, Band]

    @property
    def words(self) -> dict[str, tuple[int | str, ...]]:
        """The axes of every input."""
        return {one.name: one.shape for one in self.case.graph.inputs}

    @property
    def samples(self) -> int:
        """How many samples there are; 1 where the model has no batch."""
        return self._length("batch")

    @property
    def steps(self) -> int:
        """How many steps there are; 1 where the model has no time."""
        return self._length("time")

    def _length(self, word: str) -> int:
        found = [a.shape[self.words[n].index(word)] for n, a in self.case.inputs.items() if word in self.words[n]]
        return max(found, default=1)

    @property
    def alike(self) -> tuple[str, ...]:
        """The outputs that have the right shape."""
        return tuple(name for name, array in self.own.items() if array.shape == self.right[name].shape)

    def axis(self, output: str, word: str) -> int | None:
        """Which axis of an output goes over "batch" or "time"; None if none does."""
        axes = self.bands[output].quantity.axes
        return axes.index(word) if word in axes else None

    def again(self, inputs: Mapping[str, Array]) -> tuple[Outputs, Outputs] | str:
        """What both give with other inputs; words where the suspect does not take what the right model takes."""
        changed = replace(self.case, inputs={**self.case.inputs, **inputs})
        right = outputs_of(changed)
        return "" if right is None else _of_both(self.suspect, changed, right)

    def patterns(self, both: tuple[Outputs, Outputs], output: str, view: View) -> tuple[str, str]:
        """What moves of an output, in the right model and in the suspect.

        Args:
            both: what they give with other inputs.
            output: whose shape is right.
            view: what is looked at.
        """
        band, (right, own) = self.bands[output], both
        floor = np.broadcast_to(np.where(band.comparable, band.floor, np.nan), band.reference.shape)
        scale = max(float(np.abs(self.right[output]).max(initial=0.0)), np.finfo(np.float64).tiny)
        apart, moved = (
            np.abs(view(one.astype(np.float64)) - view(two.astype(np.float64)))
            for one, two in ((self.right[output], right[output]), (self.own[output], own[output]))
        )
        expected = right_pattern(_cells(apart), _cells(_in(apart, view(floor))), scale)
        return expected, found_pattern(_cells(_in(moved, view(floor))))


def _in(apart: Floats, floor: Floats) -> Floats:
    """Differences in floors; NaN where the floor is none, as nobody can tell there."""
    return np.where(np.isnan(floor), np.nan, in_floors(apart, np.nan_to_num(floor)))


def _cells(values: Floats) -> Floats:
    """The largest value of each cell; NaN for a cell in which nobody can tell anything."""
    flat = values.reshape(len(values), -1)
    known = np.where(np.isnan(flat), -np.inf, flat).max(axis=1, initial=-np.inf)
    return np.where(np.isinf(known) & (known < 0), np.nan, known)


def asked(suspect: Suspect, case: Case) -> Asked | None:
    """Ask both on a few samples and steps; None where no inputs can be found that both take.

    Args:
        suspect: what can be run.
        case: the right model on the inputs asked about.
    """
    for base in (_few(case), _few(enriched(case)), _unmasked(case)):
        if min(_sizes(base)) < 2 and base is not case:
            continue
        right = outputs_of(base)
        both = "" if right is None else _of_both(suspect, base, right)
        if not isinstance(both, str):
            return Asked(suspect, base, *both, floor_of(base, _REPLICAS).bands)
    return None


def _of_both(suspect: Suspect, case: Case, right: Outputs) -> tuple[Outputs, Outputs] | str:
    failures: dict[str, str] = {}
    own: Outputs = {}
    with noted(failures, suspect.label, suspect.engine):
        own = dict(suspect.observe(case))
    return failures[suspect.label] if failures else (right, own)


def _few(case: Case) -> Case:
    """The first samples and steps, where the model takes so few."""
    cut = _unmasked(replace(case, inputs=first_of(case, {"batch": SAMPLES, "time": STEPS}, case.inputs)))
    return cut if outputs_of(cut) is not None else _unmasked(case)


def first_of(case: Case, lengths: Mapping[str, int], inputs: Mapping[str, Array]) -> dict[str, Array]:
    """The beginning of inputs along "batch" and "time".

    Args:
        case: whose inputs they are.
        lengths: how much of each.
        inputs: some of the case's, by name.
    """
    found = dict(inputs)
    for one in case.graph.inputs:
        for word, length in lengths.items():
            if one.name in found and word in one.shape:
                axis = one.shape.index(word)
                array = found[one.name]
                found[one.name] = array.take(range(min(length, array.shape[axis])), axis=axis)
    return found


def _sizes(case: Case) -> tuple[int, int]:
    words = {one.name: one.shape for one in case.graph.inputs}
    found = [1, 1]
    for name, array in case.inputs.items():
        for place, word in enumerate(("batch", "time")):
            if word in words[name]:
                found[place] = max(found[place], array.shape[words[name].index(word)])
    return found[0], found[1]


def _unmasked(case: Case) -> Case:
    """The same with every step valid."""
    marks = masked_inputs(case.graph)
    below = {one.name: one.below for one in case.graph.inputs}
    inputs = dict(case.inputs)
    for name, array in inputs.items():
        if name == MASK:
            inputs[name] = np.ones_like(array)
        elif name in marks and bool((array == marks[name]).any()):
            inputs[name] = np.where(array == marks[name], other_than(array, below[name], marks.get(name)), array)
    return replace(case, inputs=inputs, ignored={})


def other_than(array: Array, below: int | None, mark: float | None = None) -> Array:
    """Other numbers of the same shape and kind, none of which marks a step as left out.

    Args:
        array: numbers, or integers.
        below: what integers have to be below; None for no limit.
        mark: what marks a step as left out.

    Example:
        >>> bool((other_than(np.array([0, 1, 2, 1]), 3, 0.0) == np.array([0, 1, 2, 1])).any())
        False
        >>> other_than(np.array([1, 2]), 3, 0.0).tolist()
        [2, 1]
    """
    random = np.random.default_rng(_SEED)
    if array.dtype.kind in "iu":
        choices = [token for token in range(below or int(array.max(initial=0)) + 1) if token != mark]
        if len(choices) < 2:
            return array
        places = np.searchsorted(choices, array) % len(choices)
        shift = 1 + random.integers(0, len(choices) - 1, array.shape)
        other = np.asarray(choices, array.dtype)[(places + shift) % len(choices)]
        return np.where(np.isin(array, choices), other, np.asarray(choices, array.dtype)[places])
    if array.dtype.kind != "f":
        return array
    size = float(array.std()) or 1.0
    found: Array = (array + size * random.choice((-2.0, 2.0), array.shape)).astype(array.dtype)
    return found if mark is None else np.where(found == mark, found + size, found).astype(array.dtype)


def changed(asked: Asked, where: Callable[[GraphInput], tuple[Any, ...] | None]) -> dict[str, Array]:
    """Inputs that are other numbers in some places.

    Args:
        asked: whose inputs are changed.
        where: the index of the places in an input; None for an input that stays.
    """
    marks = masked_inputs(asked.case.graph)
    found: dict[str, Array] = {}
    for one in asked.case.graph.inputs:
        index = where(one)
        if index is not None and one.dtype != "bool":
            array = asked.case.inputs[one.name].copy()
            array[index] = other_than(array[index], one.below, marks.get(one.name))
            found[one.name] = array
    return found


__all__ = ["Asked", "Outputs", "View", "asked", "changed", "first_of", "other_than"]
