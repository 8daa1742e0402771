"""The search for the cause: weights and options first, then every mistake replayed, then pairs of them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from parity.diagnosis.blindness import blindness
from parity.diagnosis.case import Case
from parity.diagnosis.cases import SHORT
from parity.diagnosis.diagnosis import Diagnosis, Evidence, evidence_of
from parity.diagnosis.enriching import enriched, hidden, telling
from parity.diagnosis.estimating import estimated
from parity.diagnosis.fault import Fault
from parity.diagnosis.faults import faults_of
from parity.diagnosis.faults.beginnings import told_states
from parity.diagnosis.faults.estimates import estimates_of, told_numbers
from parity.diagnosis.kernel import kernel_at_fault
from parity.diagnosis.locating import differing_layers
from parity.diagnosis.pairing import likely_pairs
from parity.diagnosis.precision import Precision, precision_of
from parity.diagnosis.probes import Probe, cause_of, probed, repeated
from parity.diagnosis.replay import (
    FEW_REPLICAS,
    NEAR,
    Hypothesis,
    Stage,
    beginning,
    confirmed,
    equivalent,
    outputs_of,
    replayed,
    screened,
    stage_of,
)
from parity.diagnosis.suspects import Suspect
from parity.diagnosis.unlike import other_numbers
from parity.diagnosis.weighing import UNEXPLAINED, Weighed, weigh
from parity.errors import ParityError

Progress: TypeAlias = Callable[[str, int], None]

_CANDIDATES, _NEAREST, _BESIDE = 12, 3, 60
"""So many near hypotheses are measured in their own floors; so many others are shown as evidence; so many are tried for that alone."""

_NEARER = 0.9
"""A mistake after which more than this share of the difference is left explains nothing."""


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
    asked = stage_of(last, suspect.observe(last))
    unsteady = repeated(suspect, asked)
    if unsteady is not None and unsteady.differs:
        return _unsteady(reference, suspect, asked, unsteady)
    stages = [*_short(suspect, before_it), asked]
    if not before_it:
        stages[:0] = [made for steps in SHORT if (made := beginning(asked, steps)) is not None]
    right = confirmed(asked, ())
    if right.fits:
        notes = (*hidden(last), *blindness(stages, tuple(faults_of(last))))
        return Diagnosis(reference, suspect.label, True, evidence=(evidence_of(right, right.error),), notes=notes)
    described = suspect.described(last)
    if described is not None and (kernel := kernel_at_fault(suspect, described, asked)):
        if coarse := precision_of(replace(asked, case=described)):
            return _coarse(reference, suspect, asked, coarse)
        return Diagnosis(reference, suspect.label, False, kernel=kernel, first_step=asked.first_step())
    weighed = None if described is None else weigh(last, described.graph)
    known = (
        *(told_numbers(last, weighed.theirs) if weighed else ()),
        *(told_states(last, described) if described else ()),
    )
    faults = tuple(fault for fault in (*faults_of(last), *known) if weighed is None or weighed.allows(fault))
    search = Search(reference, suspect, tuple(stages), faults, weighed, say)
    together = tuple(differing_layers(last, suspect.seen(last)))
    if together:
        layers = {name for names in together for name in names}
        local = replace(search, faults=tuple(fault for fault in faults if fault.place.layer in ("", *layers)))
        found = _searched(local, pairs)
        if found.found:
            return replace(found, first_layer=_first_layer(together, found))
    found = _searched(search, pairs)
    found = replace(found, first_layer=_first_layer(together, found))
    if found.found:
        return found
    notes = (*found.notes, _RIGHT) if weighed is not None and not weighed.differing else found.notes
    return replace(found, probes=probed(suspect, last), notes=notes)


_RIGHT = "its weights, and the options of its layers, are the right ones: what differs is in the code around them, or in what runs it"


def _first_layer(together: Sequence[tuple[str, ...]], found: Diagnosis) -> str | None:
    """The first layer that differs; of several that are judged together the one with the cause, or all of them."""
    if not together:
        return None
    first = together[0]
    named = [fault.place.layer for fault in found.faults if fault.place.layer in first]
    *others, last = named[:1] or first
    return f"{', '.join(others)} or {last}" if others else last


def _short(suspect: Suspect, cases: Sequence[Case]) -> Iterator[Stage]:
    """The short runs that the suspect takes: some insist on a length."""
    for case in cases:
        with contextlib.suppress(ParityError):
            yield stage_of(case, suspect.observe(case), FEW_REPLICAS)


def _unsteady(reference: str, suspect: Suspect, asked: Stage, probe: Probe) -> Diagnosis:
    """Of a suspect that gives something else at every call: nothing that it gives can be replayed."""
    cause = cause_of(probe)
    rest = "whatever else is wrong can be told when this is mended: diagnose it again then"
    faults = () if cause is None else (cause,)
    first = asked.first_step()
    return Diagnosis(reference, suspect.label, False, faults=faults, first_step=first, probes=(probe,), notes=(rest,))


def _coarse(reference: str, suspect: Suspect, asked: Stage, found: Precision) -> Diagnosis:
    """Of a suspect that computes in a shorter format."""
    floors = found.after / max(found.before, 1e-300) * asked.floors(asked.case.outputs())
    row = Evidence(found.fault.cause, str(found.fault.place), found.before, found.after, floors, True)
    step = asked.first_step()
    return Diagnosis(reference, suspect.label, False, faults=(found.fault,), evidence=(row,), first_step=step)


def _searched(search: Search, pairs: bool) -> Diagnosis:
    seen = _seen(search)
    found = _by_looking(search, seen)
    # What is read off the weights is no guess: the likeliest others show how far away they are.
    tried_alone = search.faults[:_BESIDE] if found else search.faults
    singles = _ranked(search, [(fault,) for fault in tried_alone], "single mistakes")
    found = found or _fitting(search, singles) or _fitting(search, _beside_weights(search, seen))
    found = found or _fitting(search, _estimated(search))
    tried = singles
    if not found and (coarse := precision_of(search.asked)):
        return _coarse(search.reference, search.suspect, search.asked, coarse)
    for group in likely_pairs(search.stages, search.faults) if pairs and not found else ():
        double = _ranked(search, group, "pairs of mistakes")
        found, tried = _fitting(search, double), sorted([*tried, *double], key=_nearness)
        if found:
            break
    before = search.asked.error(search.asked.case.outputs())
    blank = Diagnosis(
        search.reference, search.suspect.label, False, first_step=search.asked.first_step(), tried=len(tried)
    )
    if not found:
        kinds = tuple(dict.fromkeys(fault.name for fault in search.faults))
        # A mistake that hardly comes nearer than the right model is no explanation, however near that is.
        nearest = [one for one in _in_the_run(search, tried) if one.error < _NEARER * before][:_NEAREST]
        return replace(
            blank, evidence=tuple(evidence_of(one, before) for one in nearest), ruled_out=kinds, paired=pairs
        )
    best, *rest = _told_apart(search, found)
    fitting = {frozenset(one.faults) for one in found}
    others = [one for one in tried if frozenset(one.faults) not in fitting and not one.floors <= NEAR]
    further = [one for one in _in_the_run(search, others) if one.error < _NEARER * before]
    return replace(
        blank,
        faults=best.faults,
        alternatives=tuple(one.faults for one in rest),
        evidence=tuple(evidence_of(one, before) for one in (best, *rest, *further[:_NEAREST])),
        notes=tuple(telling(search.asked.case, best.faults, one.faults) for one in rest),
    )


def _in_the_run(search: Search, ranked: Sequence[Hypothesis]) -> list[Hypothesis]:
    """The nearest hypotheses as they do in the run that is asked about: a short run had shown that they are far away."""
    found = []
    for one in {frozenset(one.faults): one for one in reversed(ranked[:_CANDIDATES])}.values():
        outputs = outputs_of(replayed(search.asked.case, one.faults))
        if outputs is not None:
            found.append(Hypothesis(one.faults, search.asked.error(outputs), search.asked.nearness(outputs)))
    return sorted(found, key=_nearness)


def _by_looking(search: Search, seen: tuple[Fault, ...]) -> list[Hypothesis]:
    """The mistakes that are seen in the weights and options, if they explain what was computed."""
    hypothesis = confirmed(search.asked, seen) if seen else None
    return [hypothesis] if hypothesis is not None and hypothesis.fits else []


def _seen(search: Search) -> tuple[Fault, ...]:
    """The mistakes that make the right weights and options the suspect's."""
    weighed = search.weighed
    if weighed is None:
        return ()
    others = list(other_numbers(search.asked.case, weighed))
    known = (*search.faults, *(one for one in others if one.name not in UNEXPLAINED))
    return weighed.explained(known) or weighed.explained((*search.faults, *others)) or ()


def _beside_weights(search: Search, seen: tuple[Fault, ...]) -> list[Hypothesis]:
    """One more mistake, which no weight shows, beside those that are seen in the weights."""
    if search.weighed is None or not seen:
        return []
    rest = [fault for fault in search.faults if not search.weighed.shows(fault)]
    return _ranked(search, [(*seen, fault) for fault in rest], "mistakes beside the weights")


def _estimated(search: Search) -> list[Hypothesis]:
    """Mistakes with a number that is estimated, in the layers that are searched."""
    layers = {fault.place.layer for fault in search.faults}
    estimates = [one for one in estimates_of(search.asked.case) if layers.issuperset(one.layers)]
    search.say("numbers estimated", len(estimates))
    found = estimated(search.asked, estimates, lambda: search.say("", 1))
    allowed = [(fault,) for fault in found if search.weighed is None or search.weighed.allows(fault)]
    return sorted(screened([search.asked], allowed), key=_nearness)


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
    kept = list(_distinct(richer, search.asked.case, found))
    if len(kept) == 1 or not search.suspect.live:
        return kept
    try:
        stage = stage_of(richer, search.suspect.observe(richer))
    except ParityError:  # a suspect that takes inputs of one size alone
        return kept
    return [one for one in kept if confirmed(stage, one.faults).fits] or kept


def _distinct(richer: Case, asked: Case, found: Sequence[Hypothesis]) -> Iterator[Hypothesis]:
    kept: list[Hypothesis] = []
    for one in found:
        # Where the richer inputs cannot be taken with such a mistake, those at hand have to do.
        case = richer if outputs_of(replayed(richer, one.faults)) is not None else asked
        if not any(equivalent(case, one.faults, other.faults) for other in kept):
            kept.append(one)
            yield one


__all__ = ["Progress", "investigate"]
