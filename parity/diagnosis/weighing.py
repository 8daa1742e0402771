"""Weights and options first: where both sides have them, mistakes in them are told by looking, without a run."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np

from parity.deferred import Array
from parity.diagnosis.borrowed import borrowed
from parity.diagnosis.case import Case
from parity.diagnosis.differing import is_near
from parity.diagnosis.fault import Fault
from parity.diagnosis.renumbered import renumbered
from parity.diagnosis.replay import replayed
from parity.diagnosis.told import Key, alike, same, told_of
from parity.errors import ParityError
from parity.graph.graph import Graph, Node, Wire
from parity.graph.matching import weighted_nodes
from parity.graph.operations import Activation, Shape, Softmax
from parity.network import Dense
from parity.network.activations import ACTIVATIONS


@dataclass(frozen=True, eq=False)
class Weighed:
    """The weights of a suspect beside those of the right model.

    Args:
        case: the right model.
        theirs: the suspect's weights by the right model's names.
        differing: those that are not the right ones.
    """

    case: Case
    theirs: dict[Key, Any]
    differing: frozenset[Key]
    _effects: dict[tuple[Fault, ...], Effect | None] = field(default_factory=dict, repr=False)
    _pairs: dict[object, list[tuple[frozenset[Key], tuple[Fault, ...]]]] = field(default_factory=dict, repr=False)

    @cached_property
    def right(self) -> dict[Key, Any]:
        """What the right model has, by the same names."""
        return {(one.name, name): told for one in self.case.graph.operations for name, told in told_of(one).items()}

    @cached_property
    def borrowed(self) -> tuple[Fault, ...]:
        """The mistakes by which weights come from another place of the right model, or stand in another order throughout."""
        given = self.case, self.right, self.theirs, self.differing
        return (*borrowed(*given), *renumbered(*given))

    def allows(self, fault: Fault) -> bool:
        """Whether a fault can be: what it does to the weights is not contradicted by the suspect's."""
        effect = self._effect((fault,))
        return effect is None or effect.changed <= self.differing

    def shows(self, fault: Fault) -> bool:
        """Whether a fault changes weights or options that are weighed."""
        return self._effect((fault,)) is not None

    def explained(self, faults: Sequence[Fault], said: Callable[[], None] = lambda: None) -> tuple[Fault, ...] | None:
        """The likeliest faults that make the right weights the suspect's, each weight by one of them or by two in turn; None where none do.

        Args:
            faults: what could be.
            said: called after each.
        """
        if not self.differing:
            return None
        whole: dict[frozenset[Key], tuple[Fault, ...]] = {}
        partly: list[tuple[Fault, Effect]] = []
        for fault in (*faults, *self.borrowed):
            said()
            effect = self._effect((fault,))
            if effect is None or not effect.changed <= self.differing:
                continue
            if effect.wrong:
                partly.append((fault, effect))
            elif effect.changed not in whole or _cost((fault,)) < _cost(whole[effect.changed]):
                whole[effect.changed] = (fault,)
        # Two in turn are looked for where one by itself does not do.
        alone = {key for changed, (fault,) in whole.items() if fault.name not in UNEXPLAINED for key in changed}
        possible = frozenset(key for key in self.differing if self._made_of_right_ones(key))
        likely = [one for one in partly if one[1].changed <= possible]
        searched = possible - alone, tuple(fault for fault, _ in likely)
        if searched not in self._pairs:
            self._pairs[searched] = list(self._in_turn(likely, searched[0]))
        for changed, pair in self._pairs[searched]:
            if changed not in whole or _cost(pair) < _cost(whole[changed]):
                whole[changed] = pair
        found = covering(self.differing, whole)
        return None if found is None else self._in_order(found)

    def _in_turn(
        self, partly: Sequence[tuple[Fault, Effect]], wanted: frozenset[Key]
    ) -> Iterator[tuple[frozenset[Key], tuple[Fault, ...]]]:
        """Two faults, one after the other, that make some weights right: what either leaves wrong the other one changes, too."""
        for (one, first), (two, second) in combinations(partly, 2):
            both = first.changed & second.changed
            if not both & wanted or not (first.wrong | second.wrong) <= both:
                continue
            for pair in ((one, two), (two, one)):
                effect = self._effect(pair)
                if effect is not None and not effect.wrong and effect.changed <= self.differing:
                    yield effect.changed, pair
                    break

    def _made_of_right_ones(self, key: Key) -> bool:
        """Whether a weight can be made of the right ones, as far as that is said quickly.

        In another order, with other signs or scaled, numbers spread as before; biases are also added to one another, gate by gate.
        """
        theirs = self.theirs[key]
        if not isinstance(theirs, np.ndarray):
            return True
        if is_near(self.right[key], theirs):  # trained on, or rounded: one mistake
            return False
        if "bias" in key[1] and theirs.ndim == 2:
            return self._added_of_right_ones(theirs)
        if "bias" in key[1]:
            return True
        spread = _spread(theirs)
        return any(abs(spread - other) <= _SAME_SPREAD for other in self._spreads.get(theirs.size, ()))

    def _added_of_right_ones(self, theirs: Array) -> bool:
        """Whether every gate's biases, (gate, hidden), are sums of right ones and a number; of few units everything is."""
        rows = [
            row
            for layer in self.case.recurrent()
            for weights in layer.weights
            for array in (weights.bias_input, weights.bias_recurrent)
            if array is not None and array.shape == theirs.shape
            for row in array
        ]
        columns = np.array([*rows, np.ones(theirs.shape[1])], np.float64).T
        wanted = np.asarray(theirs, np.float64).T
        left = wanted - columns @ np.linalg.lstsq(columns, wanted, rcond=None)[0]
        return bool(np.abs(left).max(initial=0.0) <= 1e-2 * np.abs(wanted).max(initial=0.0))

    @cached_property
    def _spreads(self) -> dict[int, list[float]]:
        found: dict[int, list[float]] = {}
        for array in self.right.values():
            if isinstance(array, np.ndarray):
                found.setdefault(array.size, []).append(_spread(array))
        return found

    def _in_order(self, found: Sequence[tuple[frozenset[Key], tuple[Fault, ...]]]) -> tuple[Fault, ...]:
        """Faults in the order of the data: of the first weight that they change."""
        places = {key: number for number, key in enumerate(self.theirs)}
        ordered = sorted(found, key=lambda one: min(places[key] for key in one[0]))
        return tuple(fault for _, faults in ordered for fault in faults)

    def _effect(self, faults: tuple[Fault, ...]) -> Effect | None:
        """What faults do to the weights; None where they cannot be made, or change none. That of single ones is kept."""
        if faults not in self._effects:
            made = self._made(faults)
            if len(faults) > 1:
                return made
            self._effects[faults] = made
        return self._effects[faults]

    def _made(self, faults: tuple[Fault, ...]) -> Effect | None:
        made = replayed(self.case, faults)
        if made is None:
            return None
        before = {one.name: one for one in self.case.graph.operations}
        changed: set[Key] = set()
        wrong: set[Key] = set()
        for operation in made.graph.operations:
            own = before.get(operation.name)
            if own is None or own is operation:
                continue
            theirs = told_of(operation)
            for name, told in theirs.items():
                key = operation.name, name
                if key in self.right and same(told, self.right[key]):
                    continue
                changed.add(key)
                if key not in self.theirs or not alike(told, self.theirs[key]):
                    wrong.add(key)
        return Effect(frozenset(changed), frozenset(wrong)) if changed else None


def _spread(array: Array) -> float:
    """The mean size over the root of the mean square: neither order nor sign nor scale change it. 0 of zeros."""
    numbers = np.abs(np.asarray(array, np.float64))
    root = math.sqrt(float((numbers**2).mean())) if numbers.size else 0.0
    return float(numbers.mean()) / root if root else 0.0


_SAME_SPREAD = 1e-3
"""Numbers that were rounded to eight binary digits besides spread as before to within this."""


@dataclass(frozen=True)
class Effect:
    """What faults do to the weights of the right model.

    Args:
        changed: the weights that they change.
        wrong: those that are not the suspect's then.
    """

    changed: frozenset[Key]
    wrong: frozenset[Key]


UNEXPLAINED = ("other numbers", "never loaded")
"""What is said of weights that no mistake makes of the right ones."""


def _cost(faults: Sequence[Fault]) -> float:
    """The less, the likelier."""
    return sum((1e5 if one.name in UNEXPLAINED else 1e3) + one.rank for one in faults)


def covering(
    wanted: frozenset[Key], whole: Mapping[frozenset[Key], tuple[Fault, ...]]
) -> list[tuple[frozenset[Key], tuple[Fault, ...]]] | None:
    """The likeliest faults that together change just the wanted weights, none of them twice; None where none do.

    Args:
        wanted: weights.
        whole: faults by the weights that they make right.
    """
    costs = {keys: _cost(faults) for keys, faults in whole.items()}
    by_key = {
        key: sorted((keys for keys in whole if key in keys), key=lambda keys: costs[keys] / len(keys)) for key in wanted
    }
    least = {key: costs[some[0]] / len(some[0]) if some else math.inf for key, some in by_key.items()}
    best: list[frozenset[Key]] | None = None
    bound, steps = math.inf, 0

    def search(left: frozenset[Key], chosen: list[frozenset[Key]], cost: float) -> None:
        nonlocal best, bound, steps
        steps += 1
        if steps > _MOST_STEPS or cost + sum(least[key] for key in left) >= bound * (1 - 1e-12):
            return
        if not left:
            best, bound = list(chosen), cost
            return
        for keys in by_key[min(left, key=lambda key: (len(by_key[key]), key))]:
            if keys <= left:
                search(left - keys, [*chosen, keys], cost + costs[keys])

    search(wanted, [], 0.0)
    return None if best is None else [(keys, whole[keys]) for keys in best]


_MOST_STEPS = 20_000


def weigh(case: Case, suspect: Graph) -> Weighed | None:
    """The weights of both sides, layer by layer in the order of the data.

    Args:
        case: the right model.
        suspect: as it was read.

    Returns:
        What differs; None where the layers with weights are not alike in number, kind and size.
    """
    given = [case.inputs[one.name].shape for one in case.graph.inputs]
    mine, theirs = (
        [(node.operation, _activated(graph, node, ranks)) for node in weighted_nodes(graph)]
        for graph, ranks in ((one, _ranks(one, given)) for one in (case.graph, suspect))
    )
    if len(mine) != len(theirs):
        return None
    found: dict[Key, Any] = {}
    differing: set[Key] = set()
    for (own, our_activation), (other, their_activation) in zip(mine, theirs, strict=True):
        ours, others = told_of(own) | our_activation, told_of(other) | their_activation
        if type(own) is not type(other) or _shapes(ours) != _shapes(others):
            return None
        for name, array in others.items():
            found[own.name, name] = array
            if not alike(array, ours[name]):
                differing.add((own.name, name))
    return Weighed(case, found, frozenset(differing))


def _ranks(graph: Graph, given: Sequence[Shape]) -> dict[Wire, int]:
    """How many axes every value has, on inputs of given shapes; nothing where the graph does not take them."""
    words = {
        word: length
        for one, shape in zip(graph.inputs, given, strict=False)
        for word, length in zip(one.shape, shape, strict=False)
        if isinstance(word, str)
    }
    try:
        return {wire: len(shape) for wire, shape in graph.shapes(words).items()}
    except (ParityError, KeyError):
        return {}


def _activated(graph: Graph, node: Node, ranks: Mapping[Wire, int]) -> dict[str, str]:
    """The activation of a dense layer: its own, or that of the node behind it, which another model has in the layer."""
    operation = node.operation
    if not isinstance(operation, Dense):
        return {}
    takers = graph.takers().get(Wire(node.name), [])
    behind = takers[0].operation if len(takers) == 1 and operation.activation == "linear" else None
    found = operation.activation
    if isinstance(behind, Softmax) and behind.axis in (-1, ranks.get(Wire(node.name), 0) - 1) and not behind.log:
        found = "softmax"
    elif isinstance(behind, Activation) and behind.function.keras_name in ACTIVATIONS:
        found = str(behind.function.keras_name)
    return {"activation": found}


def _shapes(told: Mapping[str, Any]) -> dict[str, Any]:
    return {name: np.shape(value) if isinstance(value, np.ndarray) else None for name, value in told.items()}


def differing_in_words(weighed: Weighed) -> Iterator[str]:
    """Which weights are other numbers than the right ones."""
    for layer, name in sorted(weighed.differing):
        yield f"{name} of layer '{layer}'"


__all__ = ["UNEXPLAINED", "Effect", "Weighed", "covering", "differing_in_words", "weigh"]
