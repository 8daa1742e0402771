"""Kernel or mapping: whether an engine computes what the suspect's own weights and options say."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

from parity.diagnosis.case import Case
from parity.diagnosis.replay import Stage, confirmed, stage_of
from parity.diagnosis.suspects import Suspect
from parity.errors import ParityError
from parity.frameworks import ENGINES

_SMALL_BATCHES, _SMALL_STEPS = (1, 2), (1, 2, 3, 4, 8)


@dataclass(frozen=True)
class KernelAtFault:
    """An engine that does not compute what it was given.

    Args:
        engine: which.
        error: the largest absolute difference from float64 on the same weights and options.
        floors: the same in float32 floors.
        batch, steps: the smallest inputs of those tried that show it; samples and steps.
        agreeing: other engines that do compute it.
    """

    engine: str
    error: float
    floors: float
    batch: int
    steps: int
    agreeing: tuple[str, ...] = ()

    def __str__(self) -> str:
        others = f"; {' and '.join(self.agreeing)} and the float64 reference agree on them" if self.agreeing else ""
        return (
            f"does not compute what its own weights and options say: the engine {self.engine} is off by {self.error:.3g}, "
            f"{self.floors:.2g} times the float32 floor{others}. It is the engine's kernel, or code around the layers that cannot be read, "
            f"not the weights. The smallest inputs that show it: {self.batch} x {self.steps} steps"
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
    batch, steps = _sizes(described)
    for smaller in _smaller(asked.case):
        mine = suspect.described(smaller)
        if mine is not None and not confirmed(stage_of(mine, suspect.observe(smaller)), ()).fits:
            batch, steps = _sizes(mine)
            break
    agreeing = tuple(_agreeing(suspect, own, asked.case))
    return KernelAtFault(suspect.engine, found.error, found.floors, batch, steps, agreeing)


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


def _sizes(case: Case) -> tuple[int, int]:
    first = case.inputs[case.graph.inputs[0].name]
    return len(first), first.shape[1] if first.ndim > 1 else 1


__all__ = ["KernelAtFault", "kernel_at_fault"]
