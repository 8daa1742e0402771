"""Inputs that show more: what tells two explanations apart which are one on the inputs at hand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from parity.deferred import Array
from parity.diagnosis.case import Case
from parity.diagnosis.fault import Fault
from parity.diagnosis.replay import equivalent, outputs_of, replayed
from parity.errors import ParityError
from parity.graph.chains import MASK
from parity.graph.inputs import random_graph_inputs
from parity.graph.lengths import lengths_for

BATCH, TIMES = 4, (11, 24, 48, 96, 240, 480)

_FAR = 1e-3
"""So far apart, as a share of the largest number, no two outputs are that explain one run to its floor."""

_INITIAL = ".initial_"
_STATES = ("state_h", "state_c")
"""Ends of the names of outputs that layers by themselves show, and models hardly ever."""


def enriched(case: Case, seed: int = 11) -> Case:
    """The same model on random inputs of unequal samples, several steps, initial states that are not zero, and unequal lengths.

    Args:
        case: on the inputs at hand.
        seed: of the numbers.
    """
    random = np.random.default_rng(seed)
    try:
        inputs = random_graph_inputs(case.graph, lengths_for(case.graph, BATCH, TIMES), seed, padded_at_end=True)
    except ParityError:
        return case
    for name, array in inputs.items():
        if array.dtype.kind == "f" and _INITIAL not in name:
            inputs[name] = (array * _spread(array)).astype(array.dtype)
        elif _INITIAL in name:
            inputs[name] = random.uniform(-0.9, 0.9, array.shape).astype(np.float32)
        elif name == MASK:
            inputs[name] = _unequal(array)[::-1]
    ignored = {name: ~inputs[MASK][..., None] for name in case.ignored if MASK in inputs}
    return Case(case.graph, inputs, ignored)


def _spread(array: Array) -> Array:
    """Factors that make some samples small and others large: functions that are one near zero differ far from it."""
    factors = np.geomspace(0.5, 8.0, len(array)).astype(np.float32) if len(array) else np.ones(0, np.float32)
    spread: Array = factors.reshape(-1, *(1,) * (array.ndim - 1))
    return spread


def hidden(case: Case) -> Iterator[str]:
    """What the inputs at hand cannot show of any model, in sentences.

    Args:
        case: on the inputs at hand.
    """
    bare = any(name.endswith(_STATES) for name in case.graph.outputs)
    states = [name for name in case.inputs if _INITIAL in name] if bare else []
    if states and not any(case.inputs[name].any() for name in states):
        yield "the initial states are zero: mistakes in them (dropped, h and c exchanged) cannot show; give initial_state"
    if states and MASK not in case.inputs:
        yield "all samples are of one length: mistakes with padding and masks cannot show; give lengths"


def telling(case: Case, one: Sequence[Fault], two: Sequence[Fault]) -> str:
    """In a sentence, which inputs would tell two explanations apart.

    Args:
        case: on whose inputs they are one.
        one, two: the explanations.
    """
    names = " and ".join(dict.fromkeys(f"'{faults[0].name}'" for faults in (one, two)))
    names = names if one[0].name != two[0].name else f"the two ways of {names}"
    if unseen := " or ".join(f"'{name}'" for name in _apart_in(case, one, two)):
        return f"the output {unseen}, which was not given, would tell {names} apart"
    length = _telling_length(case, one, two)
    if length:
        return f"inputs of {length} steps in place of {_length(case)} would tell {names} apart"
    for what, richer in _richer(case):
        if not equivalent(richer, one, two):
            return f"{what} would tell {names} apart"
    if not equivalent(enriched(case), one, two):
        return f"longer random inputs with unequal lengths and states that are not zero would tell {names} apart"
    return f"on this model {names} compute the same on any inputs that were tried"


def _telling_length(case: Case, one: Sequence[Fault], two: Sequence[Fault]) -> int:
    """A number of steps, one more or fewer than there are, at which two explanations part though they do not at this one; 0 for none."""
    steps = _length(case)
    here = _of_length(case, steps)
    if here is None or not equivalent(here, one, two):
        return 0
    for length in (steps + 1, steps - 1):
        other = _of_length(case, length)
        if other is not None and not equivalent(other, one, two):
            return length
    return 0


def _of_length(case: Case, steps: int) -> Case | None:
    """A whole model on random inputs of so many steps; None where it does not take them."""
    if MASK in case.inputs or any(_INITIAL in name for name in case.inputs) or steps < 1:
        return None
    try:
        inputs = random_graph_inputs(case.graph, lengths_for(case.graph, BATCH, (steps,)), 11)
    except ParityError:
        return None
    found = Case(case.graph, inputs)
    return found if _length(found) == steps else None


def _length(case: Case) -> int:
    """The number of steps, wherever an input has them; 0 where none has."""
    return max(
        (
            length
            for one in case.graph.inputs
            for word, length in zip(one.shape, case.inputs[one.name].shape, strict=True)
            if isinstance(word, str) and word != "batch"
        ),
        default=0,
    )


def _apart_in(case: Case, one: Sequence[Fault], two: Sequence[Fault]) -> Iterator[str]:
    """The outputs in which two explanations of what was seen are far from each other: they were not seen."""
    left, right = outputs_of(replayed(case, one)), outputs_of(replayed(case, two))
    for name in () if left is None or right is None else [name for name in left if name in right]:
        assert left is not None
        assert right is not None
        if left[name].shape == right[name].shape:
            apart = np.where(case.ignored.get(name, False), 0.0, np.abs(left[name] - right[name]))
            if apart.max(initial=0.0) > _FAR * np.abs(left[name]).max(initial=0.0):
                yield name


def _richer(case: Case) -> Iterator[tuple[str, Case]]:
    """The case at hand with one thing changed."""
    rich = enriched(case)
    states = [name for name in case.inputs if _INITIAL in name]
    if states and not any(case.inputs[name].any() for name in states):
        random = np.random.default_rng(5)
        filled = {name: random.uniform(-0.9, 0.9, case.inputs[name].shape).astype(np.float32) for name in states}
        yield "an initial state that is not zero", replace(case, inputs={**case.inputs, **filled})
    if case.inputs.keys() == rich.inputs.keys() and _steps(case) < _steps(rich):
        zeros = {name: np.zeros_like(rich.inputs[name]) for name in states}
        yield "more steps", replace(rich, inputs={**rich.inputs, **zeros})
    if MASK in case.inputs:
        masks: dict[str, Array] = {MASK: _unequal(case.inputs[MASK])}
        yield "samples of unequal lengths", replace(case, inputs={**case.inputs, **masks})


def _steps(case: Case) -> int:
    return max((array.shape[1] for array in case.inputs.values() if array.ndim > 1), default=0)


def _unequal(mask: Array) -> Array:
    lengths = np.linspace(1, mask.shape[1], len(mask)).round()
    found: Array = np.arange(mask.shape[1]) < lengths[:, None]
    return found


__all__ = ["enriched", "hidden", "telling"]
