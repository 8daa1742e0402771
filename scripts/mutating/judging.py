"""What a diagnosis made of an injected fault: named, ambiguous, missed, or wrong; and what it made of a healthy pair."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import Any, TypeAlias

from mutating.cells import Array
from mutating.injections import Expected, States, Subject
from mutating.whole import WholeSubject
from parity.diagnosis import Diagnosis, Fault, diagnose
from parity.diagnosis.case import Case, chain_case
from parity.diagnosis.replay import confirmed, stage_of
from parity.graph.inputs import check_graph_inputs
from parity.result import check_states
from parity.running import check_mask
from parity.sources import open_source

STATUSES = ("named", "equivalent", "ambiguous", "told", "missed", "wrong", "crashed")
"""In `told` no output shows the fault on these inputs, and the diagnosis says so of this kind of fault."""

GOOD = ("named", "equivalent")
REPAIRS = ("patched", "replaced", "in words")

BLIND_GOOD = (*GOOD, "told")
"""Of faults that cannot show."""
AnySubject: TypeAlias = Subject | WholeSubject

RECORDED, LIVE = "recorded", "live"


@dataclass(frozen=True)
class Verdict:
    """One diagnosis, judged.

    Args:
        status: one of `STATUSES`; of a healthy pair "named" where it says that there is nothing to explain, "wrong" where it gives a cause.
        title: what was injected.
        recipe: the model, in a line.
        way: whether the suspect was handed over live, or only what it computed.
        said: the diagnosis in a sentence, and its notes.
        seconds: that it took.
        repair: of a live suspect, where it was asked: one of `REPAIRS`; "" where nothing was found.
    """

    status: str
    title: str
    recipe: str
    way: str
    said: str
    seconds: float
    repair: str = ""


def judged(subject: AnySubject, title: str, way: str, pairs: bool, repairs: bool = False) -> Verdict:
    """Diagnose a subject and judge what is said.

    Args:
        subject: with one fault, with two, or with none.
        title: what was injected.
        way: RECORDED or LIVE.
        pairs: whether pairs are searched.
        repairs: whether it is said what kind of repair there is.
    """
    start, found = time.perf_counter(), None
    try:
        found = diagnosed(subject, way, pairs)
        status = status_of(subject, found) if subject.wrong.expected else _healthy(found)
        said = " ".join([found.cause, *found.notes])
    except Exception as error:  # whatever it is, the user would see it
        status, said = "crashed", f"{type(error).__name__}: {' '.join(str(error).split())}"
    seconds = time.perf_counter() - start
    repair = _kind_of_repair(found) if repairs and found is not None else ""
    return Verdict(status, title, str(subject.recipe), way, said, seconds, repair)


def _kind_of_repair(found: Diagnosis) -> str:
    """Whether the lines patch the suspect, put another model in its place, or are words alone."""
    lines = [line for line in found.repair.splitlines() if line and not line.lstrip().startswith("#")]
    return "" if not found.repair else "replaced" if found.replaces else "patched" if lines else "in words"


def diagnosed(subject: AnySubject, way: str, pairs: bool) -> Diagnosis:
    """What parity says."""
    states = subject.states
    initial = states if states is None or len(states) > 1 else states[0]
    suspect: Any = subject.suspect
    if way == RECORDED:
        suspect = {"inputs": subject.x, "outputs": subject.recorded(subject.x, states)}
    return diagnose(
        subject.reference, suspect, subject.x, initial_state=initial, lengths=subject.recipe.lengths, pairs=pairs
    )


def _healthy(found: Diagnosis) -> str:
    if found.found or found.faults:
        return "wrong"
    return "named" if found.agrees else "missed"


def status_of(subject: AnySubject, found: Diagnosis) -> str:
    """Whether a diagnosis names what was injected."""
    expected = subject.wrong.expected
    if found.agrees:
        return "told" if all(_told(one.name, " ".join(found.notes)) for one in expected) else "missed"
    layers = list(open_source(subject.reference, partial=True, inputs=subject.x).network.specs)
    if found.found:
        if names(found.faults, expected, layers, subject.recipe.ways):
            return "named"
        return "equivalent" if found.faults and explains(subject, found.faults) else "wrong"
    ways = (found.faults, *found.alternatives)
    right = any(names(one, expected, layers, subject.recipe.ways) or explains(subject, one) for one in ways if one)
    return "ambiguous" if right else "missed"


def _told(name: str, notes: str) -> bool:
    """Whether notes speak of a fault; of many that need the same, the first few alone are listed."""
    said = ("initial" in name and "the initial states are zero" in notes) or (
        ("mask" in name or "lengths" in name) and "of one length" in notes
    )
    return said or name in notes or re.search(r"would not show: .* and \d+ more", notes) is not None


def names(faults: tuple[Fault, ...], expected: tuple[Expected, ...], layers: list[str], ways: int) -> bool:
    """Whether faults are just the expected ones, in their places."""
    if {fault.name for fault in faults} != {one.name for one in expected}:
        return False
    for name in {one.name for one in expected}:
        mine = [fault for fault in faults if fault.name == name]
        theirs = [one for one in expected if one.name == name]
        wanted = set().union(*(one.targets for one in theirs))
        given = set().union(*(_targets(fault, layers, ways) for fault in mine))
        if wanted and given != wanted:
            return False
        tensors = {one.tensor for one in theirs} - {""}
        layer = {one.layer for one in theirs} - {""}
        if layer and layer != {fault.place.called or fault.place.layer for fault in mine}:
            return False
        direction = {one.direction for one in theirs} - {""}
        if direction and direction != {fault.place.direction for fault in mine}:
            return False
        if tensors and tensors != {fault.place.tensor for fault in mine} - {""}:
            return False
    return True


def _targets(fault: Fault, layers: list[str], ways: int) -> set[tuple[int, int]]:
    numbers = [layers.index(fault.place.layer)] if fault.place.layer in layers else range(len(layers))
    direction = {"forward": [0], "backward": [1]}.get(fault.place.direction, range(ways))
    return {(number, way) for number in numbers for way in direction}


def explains(subject: AnySubject, faults: tuple[Fault, ...]) -> bool:
    """Whether faults compute what the wrong model computes on inputs that the diagnosis has not seen."""
    x, states = subject.unseen()
    case = case_of(subject, x, states)
    recorded = subject.recorded(x, states)
    observed = dict(zip(case.graph.outputs, recorded, strict=False))
    return bool(confirmed(stage_of(case, observed), faults).fits)


def case_of(subject: AnySubject, x: Array, states: States) -> Case:
    """The right model on inputs."""
    opened = open_source(subject.reference, partial=True, inputs=x)
    if isinstance(subject, WholeSubject):
        return Case(opened.graph, check_graph_inputs(opened.graph, x))
    network = opened.network.whole()
    initial = states if states is None or len(states) > 1 else states[0]
    mask = check_mask(subject.recipe.lengths, None, x.shape[0], x.shape[1])
    return chain_case(network, x, check_states(network.specs, initial, len(x)), mask)
