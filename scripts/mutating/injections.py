"""Faults injected into a random model: each gives the wrong model or what it computed, and says what has to be named, and where."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from mutating.cells import Array, Cells
from mutating.models import Inexpressible, Options, Recipe, built, copied, random_cells, random_run
from mutating.weight_edits import WeightEdit

Target: TypeAlias = tuple[int, int]
"""A layer and a direction, by their numbers."""

States: TypeAlias = "tuple[Array, ...] | None"
Call: TypeAlias = "Callable[[Caller, Array, States, tuple[int, ...] | None], Outputs]"
Caller: TypeAlias = "Callable[[Array, States, tuple[int, ...] | None], Outputs]"


@dataclass
class Outputs:
    """What a layer or stack gives.

    Args:
        sequence: (batch, time, features).
        states: h (and c) of every layer and direction in order, (batch, units) each.
    """

    sequence: Array
    states: list[Array]


@dataclass(frozen=True)
class Expected:
    """What has to be named.

    Args:
        name: of the fault.
        targets: the directions of layers in which it is; none for the model's whole input or output.
        tensor: that is wrong, "" for any.
        layer: that is not recurrent, by its owner's name, "" for any.
        direction: of whatever layer, "" for any.
    """

    name: str
    targets: frozenset[Target] = frozenset()
    tensor: str = ""
    layer: str = ""
    direction: str = ""


@dataclass
class Wrong:
    """A wrong model, made by one or two injections.

    Args:
        cells, options: of the suspect.
        calls: what the code around it does wrong, the innermost first.
        expected: what has to be named.
    """

    cells: Cells
    options: Options
    calls: tuple[Call, ...] = ()
    expected: tuple[Expected, ...] = ()


@dataclass(frozen=True)
class Injection:
    """A fault that can be put into a model.

    Args:
        title: of the fault, as the table shows it.
        make: puts it into a wrong model.
        possible: whether it can be put into the models of a recipe.
        adjust: changes a recipe so that the fault can be made and shows.
        alone: whether it is not put into a model that has another one: it computes from weights as they are when it is made.
    """

    title: str
    make: Callable[[Wrong, Recipe, np.random.Generator], Wrong]
    possible: Callable[[Recipe], bool]
    adjust: Callable[[Recipe], Recipe] = lambda recipe: recipe
    alone: bool = False


def targets_of(recipe: Recipe, random: np.random.Generator) -> frozenset[Target]:
    """Where people make a mistake: everywhere, in one layer, in one direction of it."""
    everything = [(layer, way) for layer in range(recipe.layers) for way in range(recipe.ways)]
    layer, way = everything[int(random.integers(len(everything)))]
    choices = [everything, [one for one in everything if one[0] == layer], [(layer, way)]]
    return frozenset(choices[int(random.integers(3))])


def of_weights(edit: WeightEdit) -> Injection:
    """An edit of weights, in one direction, one layer or all of them."""

    def make(wrong: Wrong, recipe: Recipe, random: np.random.Generator) -> Wrong:
        targets = targets_of(recipe, random)
        cells = copied(wrong.cells)
        seed = int(random.integers(1 << 30))
        for layer, way in sorted(targets):
            edit.edit(cells[layer][way], recipe, np.random.default_rng(seed))
        return replace(wrong, cells=cells, expected=(*wrong.expected, Expected(edit.name, targets, edit.tensor)))

    def adjust(recipe: Recipe) -> Recipe:
        if edit.name == "kernels swapped":
            return replace(recipe, features=recipe.units, layers=1)
        if "peephole" in edit.name:
            return replace(recipe, peepholes=True, reference="onnxruntime", engine="onnxruntime", options=Options())
        return recipe

    title = f"{edit.name}: {edit.tensor}" if edit.tensor and "bias" not in edit.name else edit.name
    return Injection(title, make, lambda recipe: recipe.kind in edit.kinds and edit.possible(recipe), adjust)


def _swapped_ways(cells: Cells) -> set[Target]:
    for layer in cells:
        layer[0], layer[1] = layer[1], layer[0]
    return {(number, way) for number in range(len(cells)) for way in range(2)}


def _one_way_in_both(cells: Cells) -> set[Target]:
    for layer in cells:
        layer[1] = layer[0]
    return {(number, 1) for number in range(len(cells))}


def _swapped_layers(cells: Cells) -> set[Target]:
    cells[-1], cells[-2] = cells[-2], cells[-1]
    return {(len(cells) - 2, way) for way in range(len(cells[0]))}


def _one_layer_in_both(cells: Cells) -> set[Target]:
    cells[-1] = cells[-2]
    return {(len(cells) - 1, way) for way in range(len(cells[0]))}


def _same_sizes(recipe: Recipe) -> Recipe:
    """Layers of one shape: all but the first have it in any case."""
    return replace(recipe, layers=3)


PLACES: tuple[tuple[str, Callable[[Cells], set[Target]], Callable[[Recipe], bool], Callable[[Recipe], Recipe]], ...] = (
    ("directions swapped", _swapped_ways, lambda recipe: recipe.ways == 2, lambda recipe: replace(recipe, layers=1)),
    (
        "one direction in both",
        _one_way_in_both,
        lambda recipe: recipe.ways == 2,
        lambda recipe: replace(recipe, layers=1),
    ),
    ("layers swapped", _swapped_layers, lambda recipe: recipe.layers > 2, _same_sizes),
    ("one layer in several", _one_layer_in_both, lambda recipe: recipe.layers > 2, _same_sizes),
)


def of_places(
    name: str,
    edit: Callable[[Cells], set[Target]],
    possible: Callable[[Recipe], bool],
    adjust: Callable[[Recipe], Recipe],
) -> Injection:
    """Weights that stand in another layer's or direction's place."""

    def make(wrong: Wrong, _: Recipe, __: np.random.Generator) -> Wrong:
        cells = copied(wrong.cells)
        targets = frozenset(edit(cells))
        return replace(wrong, cells=cells, expected=(*wrong.expected, Expected(name, targets)))

    return Injection(name, make, possible, adjust)


@dataclass
class Subject:
    """A right model, a wrong one, and what each is run on.

    Args:
        recipe: of both.
        reference: live.
        suspect: live; what it computes is changed by `calls`.
        x, states: inputs and initial states.
        wrong: the mistakes.
    """

    recipe: Recipe
    reference: Any
    suspect: Any
    x: Array
    states: States
    wrong: Wrong

    @property
    def live(self) -> bool:
        """Whether the wrong model itself can be handed over: no code around it is wrong."""
        return not self.wrong.calls

    def unseen(self) -> tuple[Array, States]:
        """Other inputs and initial states."""
        return random_run(self.recipe, salt=77, time=None if self.recipe.lengths else self.recipe.time + 4)

    def recorded(self, x: Array, states: States) -> list[Array]:
        """What the wrong model gives, in the order of the right model's outputs."""
        call: Caller = lambda x, states, lengths: computed(self.suspect, x, states, lengths)  # noqa: E731
        for wrong in self.wrong.calls:
            call = _around(wrong, call)
        outputs = call(x, states, self.recipe.lengths)
        return [outputs.sequence, *outputs.states]


def _around(wrong: Call, call: Caller) -> Caller:
    return lambda x, states, lengths: wrong(call, x, states, lengths)


def computed(source: Any, x: Array, states: States, lengths: tuple[int, ...] | None) -> Outputs:
    """What a layer, a stack or a model of one output gives in its own framework."""
    import parity

    initial = states if states is None or len(states) > 1 else states[0]
    result = parity.run(source, x, initial_state=initial, lengths=lengths)
    if result.outputs:
        return Outputs(next(iter(result.outputs.values())), [])
    rows = list(result.layers.values())
    ends = [state[way] for row in rows for way in range(len(row.final.h)) for state in row.final.arrays()]
    assert rows[-1].sequence is not None
    return Outputs(rows[-1].sequence.reshape(*x.shape[:2], -1), ends)


def subject(recipe: Recipe, chosen: tuple[Injection, ...], random: np.random.Generator) -> Subject:
    """A right model and one with some faults; a healthy one with none.

    Raises:
        Inexpressible: a framework has no such model.
    """
    cells = random_cells(recipe)
    wrong = Wrong(cells, recipe.options)
    for injection in chosen:
        wrong = injection.make(wrong, recipe, random)
    x, states = random_run(recipe)
    reference = built(recipe.reference, recipe, cells)
    suspect = built(recipe.engine, recipe, wrong.cells, wrong.options)
    return Subject(recipe, reference, suspect, x, states, wrong)


__all__ = [
    "PLACES",
    "Expected",
    "Inexpressible",
    "Injection",
    "Outputs",
    "Subject",
    "Wrong",
    "computed",
    "of_places",
    "of_weights",
    "subject",
]
