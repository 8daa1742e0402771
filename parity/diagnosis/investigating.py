"""The search for the cause: weights and options first, then every mistake replayed, then pairs of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from parity.diagnosis.case import Case
from parity.diagnosis.diagnosis import Diagnosis, evidence_of
from parity.diagnosis.enriching import enriched, telling
from parity.diagnosis.fault import Fault
from parity.diagnosis.faults import faults_of
from parity.diagnosis.kernel import kernel_at_fault
from parity.diagnosis.locating import differing_layers
from parity.diagnosis.replay import NEAR, Hypothesis, Stage, confirmed, equivalent, pairs_of, screened, stage_of
from parity.diagnosis.suspects import Suspect
from parity.diagnosis.weighing import Weighed, weigh

Progress: TypeAlias = Callable[[str, int], None]

FEW_REPLICAS = 4
"""The floor of a short run only has to tell near from far."""

_CANDIDATES, _NEAREST = 12, 3
"""So many near hypotheses are measured in their own floors; so many others are shown as evidence."""


@dataclass(frozen=True, eq=False)
class Search:
    """What is searched, and what is known before.

    Args:
        reference: what the right model is called.
        suspect: what is to be explained.
        stages: its runs, the last of which is the one asked about.
        faults: that could be, the most frequent ones first.
        weighed: the suspect's weights beside the right ones, where both are known.
        say: told of every piece of work.
    """

    reference: str
    suspect: Suspect
    stages: tuple[Stage, ...]
    faults: tuple[Fault, ...]
    weighed: Weighed | None
    say: Progress

    @property
    def asked(self) -> Stage:
        """The run that is asked about."""
        return self.stages[-1]


def investigate(
    reference: str, suspect: Suspect, cases: Sequence[Case], pairs: bool = True, progress: Progress | None = None
) -> Diagnosis:
    """Find which mistakes make the right model compute what the suspect computes.

    Args:
        reference: what the right model is called.
        suspect: what is to be explained.
        cases: the right model on inputs, short runs first; the last one is asked about.
        pairs: whether pairs of mistakes are tried.
        progress: called with what is being done and how many steps it has, then with "" for each of them.
    """
    say = progress or (lambda _, __: None)
    *before_it, last = cases
    stages = [stage_of(case, suspect.observe(case), FEW_REPLICAS) for case in before_it]
    stages.append(stage_of(last, suspect.observe(last)))
    right = confirmed(stages[-1], ())
    if right.fits:
        return Diagnosis(reference, suspect.label, True, evidence=(evidence_of(right, right.error),))
    described = suspect.described(last)
    if described is not None and (kernel := kernel_at_fault(suspect, described, stages[-1])):
        return Diagnosis(reference, suspect.label, False, kernel=kernel, first_step=stages[-1].first_step())
    weighed = None if described is None else weigh(last, described.graph)
    faults = tuple(fault for fault in faults_of(last) if weighed is None or weighed.allows(fault))
    search = Search(reference, suspect, tuple(stages), faults, weighed, say)
    layers = tuple(differing_layers(last, suspect.seen(last)))
    if layers:
        local = replace(search, faults=tuple(fault for fault in faults if fault.place.layer in ("", *layers)))
        found = _searched(local, pairs)
        if found.found:
            return replace(found, first_layer=layers[0])
    return replace(_searched(search, pairs), first_layer=layers[0] if layers else None)


def _searched(search: Search, pairs: bool) -> Diagnosis:
    singles = _ranked(search, [(fault,) for fault in search.faults], "single mistakes")
    looked = _by_looking(search)
    found = looked or _fitting(search, singles)
    tried = singles
    if not found and pairs:
        double = _ranked(search, list(pairs_of(search.faults)), "pairs of mistakes")
        found, tried = _fitting(search, double), sorted([*singles, *double], key=_nearness)
    before = search.asked.error(search.asked.case.outputs())
    blank = Diagnosis(
        search.reference, search.suspect.label, False, first_step=search.asked.first_step(), tried=len(tried)
    )
    if not found:
        kinds = tuple(dict.fromkeys(fault.name for fault in search.faults))
        return replace(blank, evidence=tuple(evidence_of(one, before) for one in tried[:_NEAREST]), ruled_out=kinds)
    best, *rest = _told_apart(search, found)
    fitting = {frozenset(one.faults) for one in found}
    others = [one for one in tried if frozenset(one.faults) not in fitting and not one.floors <= NEAR]
    return replace(
        blank,
        faults=best.faults,
        alternatives=tuple(one.faults for one in rest),
        evidence=tuple(evidence_of(one, before) for one in (best, *rest, *others[:_NEAREST])),
        notes=tuple(telling(search.asked.case, best.faults, one.faults) for one in rest),
    )


def _by_looking(search: Search) -> list[Hypothesis]:
    """The mistakes that are seen in the weights and options, if they explain what was computed."""
    faults = search.weighed.explained(search.faults) if search.weighed else None
    hypothesis = confirmed(search.asked, faults) if faults else None
    return [hypothesis] if hypothesis is not None and hypothesis.fits else []


def _ranked(search: Search, hypotheses: Sequence[tuple[Fault, ...]], title: str) -> list[Hypothesis]:
    """All hypotheses, the nearest first."""
    search.say(title, len(hypotheses))
    return sorted(screened(search.stages, hypotheses, lambda: search.say("", 1)), key=_nearness)


def _nearness(one: Hypothesis) -> tuple[float, float]:
    return one.floors, one.rank


def _fitting(search: Search, ranked: Sequence[Hypothesis]) -> list[Hypothesis]:
    """Those that explain the suspect to their own floor, the likeliest first."""
    near = [one for one in ranked if one.floors <= NEAR][:_CANDIDATES]
    fits = [one for one in (confirmed(search.asked, candidate.faults) for candidate in near) if one.fits]
    return sorted(fits, key=lambda one: one.rank)


def _told_apart(search: Search, found: Sequence[Hypothesis]) -> list[Hypothesis]:
    """Of hypotheses that compute the same on any inputs the likeliest; others are told apart by a run of the suspect, where that can be."""
    if len(found) == 1:
        return list(found)
    richer = enriched(search.asked.case)
    kept = list(_distinct(richer, found))
    if len(kept) == 1 or not search.suspect.live:
        return kept
    stage = stage_of(richer, search.suspect.observe(richer))
    return [one for one in kept if confirmed(stage, one.faults).fits] or kept


def _distinct(case: Case, found: Sequence[Hypothesis]) -> Iterator[Hypothesis]:
    kept: list[Hypothesis] = []
    for one in found:
        if not any(equivalent(case, one.faults, other.faults) for other in kept):
            kept.append(one)
            yield one


__all__ = ["Progress", "investigate"]
