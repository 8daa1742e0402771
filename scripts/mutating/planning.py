"""What is injected into what: random models, the faults that can be put into them, and inputs under which they cannot show."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from mutating.beside import AROUND
from mutating.coded import Coded
from mutating.every import injections
from mutating.injections import Inexpressible, Injection, subject
from mutating.judging import LIVE, RECORDED, AnySubject
from mutating.masked import MASKED
from mutating.models import ENGINES, Options, Recipe
from mutating.real import MODELS, SIZES
from mutating.stacks import STACKS
from mutating.whole import WHOLE, Whole, around_subject, whole_subject

KINDS = ("lstm", "gru", "rnn")
SHAPES = ((1, 1), (1, 2), (2, 1), (2, 2))
"""Layers and directions."""

CODE: tuple[Whole | Coded, ...] = (*WHOLE, *MASKED, *STACKS)
"""Whole models with a mistake in their code."""

_TRIES = 60


@dataclass(frozen=True)
class Task:
    """One diagnosis to be judged.

    Args:
        sort: "single", "whole", "around", "pair", "healthy" or "blind".
        faults: numbers of the injections.
        recipe: the model.
        way: how the suspect is handed over.
    """

    sort: str
    faults: tuple[int, ...]
    recipe: Recipe
    way: str

    @property
    def title(self) -> str:
        """What is injected."""
        if self.sort == "whole":
            return CODE[self.faults[0]].title
        if self.sort == "around":
            return AROUND[self.faults[0]].title
        return " + ".join(known()[number].title for number in self.faults) or "healthy"

    def subject(self) -> AnySubject:
        """The right model and the wrong one.

        Raises:
            Inexpressible: a framework has no such model.
        """
        if self.sort == "whole":
            case = CODE[self.faults[0]]
            return case.subject(self.recipe) if isinstance(case, Coded) else whole_subject(self.recipe, case)
        if self.sort == "around":
            return around_subject(self.recipe, AROUND[self.faults[0]])
        chosen = tuple(known()[number] for number in self.faults)
        return subject(self.recipe, chosen, np.random.default_rng([self.recipe.seed, 9]))


@cache
def known() -> tuple[Injection, ...]:
    """All injections."""
    return tuple(injections())


def random_recipe(
    random: np.random.Generator, kinds: Sequence[str], engines: Sequence[str], small: bool = False
) -> Recipe:
    """A random model: its kind, layers, directions, padding and frameworks."""
    layers, ways = SHAPES[int(random.integers(2 if small else len(SHAPES)))]
    reference, engine = (engines[int(random.integers(len(engines)))] for _ in range(2))
    if layers > 1 and "keras" in (reference, engine):
        # A stack of Keras is a model, which is not compared with a layer.
        reference = engine = "keras"
    padded = layers == 1 and bool(random.integers(4) == 0)
    kind, before = kinds[int(random.integers(len(kinds)))], bool(random.integers(2))
    before = before and kind == "gru" and "torch" not in (reference, engine)
    return Recipe(
        kind,
        layers,
        ways,
        lengths=(9, 6, 2, 4) if padded else None,
        options=Options(reset_after=not before),
        reference=reference,
        engine=engine,
        seed=int(random.integers(1 << 30)),
    )


def singles(seed: int, cases: int, kinds: Sequence[str], engines: Sequence[str], small: bool = False) -> Iterator[Task]:
    """Every fault in random models.

    Args:
        seed: of the choice.
        cases: so many models for each fault.
        kinds, engines: of the models.
        small: single layers only.
    """
    for number in range(len(known())):
        random = np.random.default_rng([seed, number])
        for _ in range(cases):
            task = _drawn("single", (number,), random, kinds, engines, small)
            if task is not None:
                yield task


def wholes(seed: int, cases: int, kinds: Sequence[str], engines: Sequence[str]) -> Iterator[Task]:
    """Every mistake in code, in random whole models."""
    for number, case in enumerate(CODE):
        random = np.random.default_rng([seed, number, 3])
        chosen = [kind for kind in kinds if kind in case.kinds]
        between = (case.right[0], case.wrong[0])
        if not chosen or not set(between) <= set(engines):
            continue
        handed = case.handed if isinstance(case, Coded) else (RECORDED, LIVE)
        for _ in range(cases):
            kind = chosen[int(random.integers(len(chosen)))]
            seed_of, before = int(random.integers(1 << 30)), bool(random.integers(2))
            recipe = Recipe(kind, ways=case.ways, seed=seed_of, reference=between[0], engine=between[1])
            if isinstance(case, Coded) and kind == "gru" and "torch" not in between:
                recipe = replace(recipe, options=Options(reset_after=before))
            yield Task("whole", (number,), recipe, handed[int(random.integers(len(handed)))])


def arounds(seed: int, cases: int, kinds: Sequence[str], engines: Sequence[str]) -> Iterator[Task]:
    """Every mistake in the layers around recurrent ones, in models that are ported from framework to framework."""
    for number, case in enumerate(AROUND):
        random = np.random.default_rng([seed, number, 4])
        between = [pair for pair in case.engines if set(pair) <= set(engines)]
        chosen = [kind for kind in kinds if kind in case.kinds]
        for _ in range(cases if between and chosen else 0):
            reference, engine = between[int(random.integers(len(between)))]
            kind = chosen[int(random.integers(len(chosen)))]
            recipe = Recipe(kind, seed=int(random.integers(1 << 30)), reference=reference, engine=engine)
            yield Task("around", (number,), recipe, case.ways[int(random.integers(len(case.ways)))])


def reals(seed: int, cases: int, engines: Sequence[str]) -> Iterator[Task]:
    """Every fault in the recurrent layers of trained models."""
    for name, (features, units) in SIZES.items() if MODELS.is_dir() else ():
        for number in range(len(known())):
            random = np.random.default_rng([seed, number, 5])
            for _ in range(cases):
                task = _drawn("real", (number,), random, ("lstm",), engines, True)
                if task is None or task.recipe.peepholes or (task.recipe.layers, task.recipe.ways) != (1, 1):
                    continue
                recipe = replace(task.recipe, real=name, features=features, units=units)
                if known()[number].possible(recipe):
                    yield replace(task, recipe=recipe)


def pairs(seed: int, count: int, kinds: Sequence[str], engines: Sequence[str]) -> Iterator[Task]:
    """Two faults in one random model."""
    random = np.random.default_rng([seed, 1 << 20])
    made, several = 0, [number for number, one in enumerate(known()) if not one.alone]
    while made < count:
        two = tuple(int(number) for number in random.choice(several, 2, replace=False))
        task = _drawn("pair", two, random, kinds, engines, False)
        if task is not None:
            made += 1
            yield task


def healthy(seed: int, count: int, kinds: Sequence[str], engines: Sequence[str]) -> Iterator[Task]:
    """Models without a fault."""
    random = np.random.default_rng([seed, 1 << 21])
    for number in range(count):
        recipe = random_recipe(random, kinds, engines)
        yield Task("healthy", (), recipe, (RECORDED, LIVE)[number % 2])


def blind(seed: int, kinds: Sequence[str], engines: Sequence[str]) -> Iterator[Task]:
    """Faults under weights and inputs that cannot show them: zero biases, one step from zero states, samples of one length."""
    random = np.random.default_rng([seed, 1 << 22])
    for number, injection in enumerate(known()):
        for words, change in _BLIND:
            if not any(injection.title.startswith(word) for word in words):
                continue
            task = _drawn("blind", (number,), random, kinds, engines, True)
            if task is not None:
                yield replace(task, recipe=change(task.recipe))


def _whole(recipe: Recipe) -> Recipe:
    return replace(recipe, lengths=(recipe.time,) * recipe.batch)


_BLIND = (
    (("bias", "biases", "first step"), lambda recipe: replace(recipe, biases=False)),
    (
        ("gate blocks transposed", "kernel zero: recurrent"),
        lambda recipe: replace(recipe, time=1, states=False, lengths=None),
    ),
    (
        ("forget bias", "reversed in time", "other direction"),
        lambda recipe: replace(recipe, time=1, states=False, lengths=None),
    ),
    (("mask ignored", "lengths off by one: more"), _whole),
    (("initial",), lambda recipe: replace(recipe, states=False)),
)


def _drawn(
    sort: str,
    faults: tuple[int, ...],
    random: np.random.Generator,
    kinds: Sequence[str],
    engines: Sequence[str],
    small: bool,
) -> Task | None:
    """A model in which faults can be made; None where none was found."""
    chosen = [known()[number] for number in faults]
    for _ in range(_TRIES):
        recipe = random_recipe(random, kinds, engines, small)
        way = (RECORDED, LIVE)[int(random.integers(2))]
        for injection in chosen:
            recipe = injection.adjust(recipe)
        if recipe.layers > 1 and "keras" in (recipe.reference, recipe.engine):
            recipe = replace(recipe, reference="keras", engine="keras", lengths=None)
        if not set(recipe.engine.split() + recipe.reference.split()) <= set(engines):
            continue
        if not all(injection.possible(recipe) for injection in chosen):
            continue
        task = Task(sort, faults, recipe, way)
        try:
            made = task.subject()
        except Inexpressible:
            continue
        if not made.live:
            task = replace(task, way=RECORDED)
        return task
    return None


__all__ = ["ENGINES", "KINDS", "Task", "arounds", "blind", "healthy", "known", "pairs", "reals", "singles", "wholes"]
