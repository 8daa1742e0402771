"""Faults made by hand in live models (scripts/mutate.py): a sample of them is named, none wrongly, and healthy pairs get no cause."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

import mutate
import numpy as np
import pytest
from mutating.coded import Coded
from mutating.judging import GOOD, LIVE, RECORDED, Verdict, names, status_of
from mutating.masked import MASKED
from mutating.models import Recipe, built, random_cells, random_run
from mutating.planning import KINDS, Task, arounds, blind, healthy, known, pairs, singles, wholes
from mutating.stacks import STACKS

import parity
from parity.diagnosis import Diagnosis, Fault, Place, diagnose

ENGINES = ("torch", "onnxruntime", "keras")
BAD = ("wrong", "crashed")


def judged(tasks: Sequence[Task]) -> list[Verdict]:
    """The verdicts of some tasks."""
    return [mutate.judge(task) for task in tasks]


def sampled(tasks: Iterator[Task], share: int, start: int = 0) -> list[Task]:
    """Every so-manieth task."""
    return list(tasks)[start::share]


def check(verdicts: Sequence[Verdict], least: float, sort: str = "single") -> None:
    """None is wrong, and enough are named."""
    shown = "\n".join(str(verdict) for verdict in verdicts if verdict.status not in GOOD)
    assert not [verdict for verdict in verdicts if verdict.status in BAD], shown
    assert mutate.share(verdicts, sort) >= least, shown


@pytest.mark.parametrize("kind", KINDS)
def test_single_faults_are_named(kind: str) -> None:
    """Of LSTMs, which have the most hypotheses, fewer; scripts/mutate.py makes every fault, in many models."""
    tasks = sampled(singles(3, 1, (kind,), ENGINES, small=True), {"lstm": 17, "gru": 13, "rnn": 9}[kind])
    assert len(tasks) >= 4
    check(judged(tasks), 0.99)


def test_faults_in_code_and_around_recurrent_layers_are_named() -> None:
    tasks = [*sampled(wholes(4, 1, ("gru", "lstm"), ENGINES), 9), *sampled(arounds(4, 1, ("rnn",), ENGINES), 5, 1)]
    check(judged(tasks), 0.99)


@pytest.mark.parametrize(("cases", "share"), [(MASKED, 9), (STACKS, 25)])
def test_faults_with_masks_directions_and_stacks_are_named(cases: tuple[Coded, ...], share: int) -> None:
    titles = {case.title for case in cases[::share]}
    tasks = [task for task in wholes(11, 1, KINDS, ENGINES) if task.title in titles]
    assert len(tasks) == len(titles) >= 4
    check(judged(tasks), 0.99)


def test_every_mistake_in_code_changes_what_a_model_computes() -> None:
    cases = MASKED + STACKS
    assert len({case.title for case in cases}) == len(cases)
    for case in cases[::17]:
        recipe = Recipe(case.kinds[0], seed=12, reference=case.right[0], engine=case.wrong[0])
        wrong = case.subject(recipe)
        right = replace(wrong, suspect=wrong.reference, recipe=replace(recipe, engine=recipe.reference))
        (one,), (other,) = (side.recorded(wrong.x, None) for side in (right, wrong))
        assert one.shape == other.shape, case.title
        assert np.abs(one - other).max() > 1e-3, case.title


def test_pairs_of_faults_are_named() -> None:
    check(judged(list(pairs(5, 2, ("gru", "rnn"), ("torch", "onnxruntime")))), 0.5)


def test_healthy_pairs_get_no_cause() -> None:
    check(judged(list(healthy(6, 4, KINDS, ENGINES))), 1.0)


def test_what_cannot_be_seen_is_told() -> None:
    tasks = [task for task in blind(7, ("rnn", "gru"), ("torch",)) if "mask" not in task.title][::4]
    check(judged(tasks), 0.99, "blind")


def test_every_fault_is_drawn_for_some_model() -> None:
    drawn = {number for task in singles(8, 1, KINDS, ENGINES[:2]) for number in task.faults}
    missing = [known()[number].title for number in range(len(known())) if number not in drawn]
    assert not missing


def test_a_recipe_is_the_same_model_in_every_framework() -> None:
    for kind in KINDS:
        recipe = Recipe(kind, ways=2, reference="keras", engine="keras", seed=9)
        x, states = random_run(recipe)
        assert states is not None
        found = [
            parity.run(
                built(engine, recipe, random_cells(recipe)), x, initial_state=states if len(states) > 1 else states[0]
            )
            for engine in ENGINES
        ]
        for other in found[1:]:
            np.testing.assert_allclose(other.sequence, found[0].sequence, atol=2e-6)


def test_the_judge_tells_right_names_from_wrong_ones() -> None:
    number = next(number for number, one in enumerate(known()) if one.title == "bias doubled")
    task = Task("single", (number,), Recipe("rnn", ways=2, seed=10), LIVE)
    subject = task.subject()
    layer = parity.read(subject.reference).recurrent[0].name
    (expected,) = subject.wrong.expected

    def fault(name: str, place: Place) -> Fault:
        return Fault(name, "is another one", place, lambda case: case)

    where = "" if len(expected.targets) == 2 else ("forward", "backward")[next(iter(expected.targets))[1]]
    elsewhere = "backward" if where == "forward" else "forward"
    assert names((fault("bias doubled", Place(layer, where)),), (expected,), [layer], 2)
    for wrong in (fault("bias halved", Place(layer, where)), fault("bias doubled", Place(layer, elsewhere))):
        assert not names((wrong,), (expected,), [layer], 2)
        assert status_of(subject, Diagnosis("right", "wrong", False, faults=(wrong,))) == "wrong"
    assert status_of(subject, Diagnosis("right", "wrong", True)) == "missed"
    right = diagnose(subject.reference, subject.suspect, subject.x)
    assert status_of(subject, right) == "named"
    assert status_of(subject, replace(right, alternatives=(right.faults,))) == "ambiguous"


def test_too_few_names_and_false_causes_are_failures() -> None:
    task = Task("single", (0,), Recipe("gru"), RECORDED)
    verdicts = [Verdict(status, "gate order", "gru", LIVE, "", 0.1) for status in ("named", "missed")]
    found = [(task, verdict) for verdict in verdicts]
    assert mutate.failures(found) == ["single: 50.0% named, 99% needed"]
    assert mutate.failures(found[:1]) == []
    well = replace(task, sort="healthy", faults=())
    assert "false causes" in mutate.failures([(well, replace(verdicts[0], status="wrong"))])[0]
    assert Counter(task.title for task in (task, well)) == Counter([known()[0].title, "healthy"])
