"""Kernel or mapping: whether an engine computes what the suspect's own weights and options say."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np

from parity.deferred import Array
from parity.diagnosis.case import Case
from parity.diagnosis.replay import Stage, confirmed, stage_of
from parity.diagnosis.suspects import Suspect
from parity.errors import ParityError
from parity.frameworks import ENGINES

_SMALL_BATCHES, _SMALL_STEPS = (1, 2), (1, 2, 3, 4, 8)

_MOST_SINGLES = 12
"""So many inputs with one number that is not zero are tried."""


@dataclass(frozen=True)
class KernelAtFault:
    """An engine that does not compute what it was given.

    Args:
        engine: which.
        error: the largest absolute difference from float64 on the same weights and options.
        floors: the same in float32 floors.
        batch, steps: the smallest inputs of those tried that show it; samples and steps.
        agreeing: other engines that do compute it.
        numbers: what these inputs hold, in words; "" where nothing simpler than random numbers shows it.
        inputs: these inputs, by the right model's names.
    """

    engine: str
    error: float
    floors: float
    batch: int
    steps: int
    agreeing: tuple[str, ...] = ()
    numbers: str = ""
    inputs: Mapping[str, Array] = field(default_factory=dict, repr=False, compare=False)

    def __str__(self) -> str:
        others = f"; {' and '.join(self.agreeing)} and the float64 reference agree on them" if self.agreeing else ""
        samples, steps = (f"{n} {w}{'s' if n > 1 else ''}" for n, w in ((self.batch, "sample"), (self.steps, "step")))
        return (
            f"does not compute what its own weights and options say: the engine {self.engine} is off by {self.error:.3g}, "
            f"{self.floors:.2g} times the float32 floor{others}. It is the engine's kernel, or code around the layers that cannot be read, "
            f"not the weights. The smallest inputs that show it: {samples} of {steps}{f', {self.numbers}' if self.numbers else ''}"
        )


def kernel_at_fault(suspect: Suspect, described: Case, asked: Stage) -> KernelAtFault | None:
    """Whether the suspect's engine gives something else than float64 does for the suspect's own description.

    Args:
        suspect: what is to be explained.
        described: the suspect as it was read, on the inputs asked about.
        asked: the run.
    """
    own = stage_of(described, asked.observed)
    found = confirmed(own, ())
    if found.fits:
        return None
    smallest, numbers = _smallest(suspect, asked.case)
    agreeing = tuple(_agreeing(suspect, own, asked.case))
    batch, steps = _sizes(smallest)
    return KernelAtFault(
        suspect.engine, found.error, found.floors, batch, steps, agreeing, numbers, dict(smallest.inputs)
    )


def _smallest(suspect: Suspect, case: Case) -> tuple[Case, str]:
    """The smallest inputs of those tried that show it, and what is simple in them; the case itself where no smaller one does."""
    smaller = next((one for one in _smaller(case) if _shows(suspect, one)), None)
    if smaller is None:
        return case, ""
    simpler = ((one, words) for words, one in _simpler(smaller) if _shows(suspect, one))
    return next(simpler, (smaller, ""))


def _shows(suspect: Suspect, case: Case) -> bool:
    """Whether the engine is off on the inputs of a case."""
    try:
        mine, given = suspect.described(case), suspect.observe(case)
        return mine is not None and not confirmed(stage_of(mine, given), ()).fits
    except ParityError:
        return False


def _agreeing(suspect: Suspect, own: Stage, asked: Case) -> Iterator[str]:
    """Other engines that compute the suspect's description."""
    for engine in ENGINES:
        if engine == suspect.engine.partition(":")[0]:
            continue
        with contextlib.suppress(ParityError):
            if confirmed(replace(own, observed=suspect.observe(asked, engine)), ()).fits:
                yield engine


def _smaller(case: Case) -> Iterator[Case]:
    """The case on its first samples and steps, the smallest first."""
    for steps in _SMALL_STEPS:
        for batch in _SMALL_BATCHES:
            smaller = case.beginning(steps, batch)
            try:
                smaller.outputs()
            except ParityError:
                continue
            yield smaller


def _simpler(case: Case) -> Iterator[tuple[str, Case]]:
    """The case with zeros for its numbers, and with a one among them; masks and integers stay as they are."""
    zeros = {name: np.zeros_like(array) for name, array in case.inputs.items() if array.dtype.kind == "f"}
    if not zeros:
        return
    yield "zeros for everything", replace(case, inputs={**case.inputs, **zeros})
    places = ((name, place) for name, array in zeros.items() for place in np.ndindex(array.shape))
    for name, place in islice(places, _MOST_SINGLES):
        one = zeros[name].copy()
        one[place] = 1.0
        words = f"zeros but for a one in '{name}' at {tuple(map(int, place))}"
        yield words, replace(case, inputs={**case.inputs, **zeros, name: one})


def _sizes(case: Case) -> tuple[int, int]:
    first = case.inputs[case.graph.inputs[0].name]
    return len(first), first.shape[1] if first.ndim > 1 else 1


__all__ = ["KernelAtFault", "kernel_at_fault"]
