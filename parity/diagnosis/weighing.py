"""Weights and options first: where both sides have them, mistakes in them are told by looking, without a run."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, TypeAlias

import numpy as np

from parity.deferred import Array
from parity.diagnosis.case import Case
from parity.diagnosis.fault import Fault
from parity.diagnosis.replay import replayed
from parity.errors import ParityError
from parity.graph.calls import Layered
from parity.graph.graph import Graph, Node, Wire
from parity.graph.matching import weighted_nodes
from parity.graph.operations import Activation, Shape, Softmax
from parity.layouts import CANONICAL_AXES, GATE_MEANINGS, GATES
from parity.network import Dense, Recurrent
from parity.network.activations import ACTIVATIONS
from parity.recurrent import Weights, merge_biases

Key: TypeAlias = tuple[str, str]
"""A layer of the right model, and one of its weights."""

ALIKE = 1e-6
"""Weights within this share of their largest number are the same: they were rounded to float32, perhaps after a sum."""

_MOST_TOGETHER = 3


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

    def allows(self, fault: Fault) -> bool:
        """Whether a fault can be: what it does to the weights is not contradicted by the suspect's."""
        changed = self._changed((fault,))
        return changed is None or changed.keys() <= self.differing

    def explained(self, faults: Sequence[Fault], said: Callable[[], None] = lambda: None) -> tuple[Fault, ...] | None:
        """The fewest faults that make the right weights the suspect's; None where no few of them do.

        Args:
            faults: in the order of preference.
            said: called after each.
        """
        if not self.differing:
            return None
        right: list[tuple[frozenset[Key], Fault]] = []
        partly: list[Fault] = []
        for fault in faults:
            said()
            changed = self._changed((fault,))
            if not changed or not changed.keys() <= self.differing:
                continue
            if all(_alike(array, self.theirs[key]) for key, array in changed.items()):
                right.append((frozenset(changed), fault))
            else:
                partly.append(fault)
        covering = _covering(self.differing, right)
        return covering or self._in_two_steps(right, partly)

    def _in_two_steps(
        self, right: Sequence[tuple[frozenset[Key], Fault]], partly: Sequence[Fault]
    ) -> tuple[Fault, ...] | None:
        """Two faults on the same weights, one after the other, beside those that explain the rest."""
        for pair in combinations(partly, 2):
            for faults in (pair, pair[::-1]):
                changed = self._changed(faults)
                if not changed or not all(_alike(array, self.theirs[key]) for key, array in changed.items()):
                    continue
                rest = self.differing - changed.keys()
                beside = _covering(rest, right) if rest else ()
                if beside is not None:
                    return (*faults, *beside)
        return None

    def _changed(self, faults: tuple[Fault, ...]) -> dict[Key, Any] | None:
        """The weights that faults change; None where they cannot be made, or change none."""
        made = replayed(self.case, faults)
        if made is None:
            return None
        before = {one.name: one for one in self.case.graph.operations}
        found: dict[Key, Any] = {}
        for operation in made.graph.operations:
            own = before.get(operation.name)
            if own is None or own is operation:
                continue
            theirs, mine = told_of(operation), told_of(own)
            found |= {
                (operation.name, name): theirs[name]
                for name in theirs
                if name not in mine or not _same(theirs[name], mine[name])
            }
        return found or None


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
            if not _alike(array, ours[name]):
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


def told_of(operation: Layered) -> dict[str, Any]:
    """What tells two layers of one kind apart: weights, and options that change numbers, by name.

    The weights of a recurrent layer are canonical, zeros where there are none; biases whose sum alone counts are their sum.
    """
    names = OPTIONS.get(type(operation).__name__, ())
    found: dict[str, Any] = {name: getattr(operation, name) for name in names}
    if not isinstance(operation, Recurrent):
        return found | dict(operation.arrays.present)
    for way, weights, cell in zip(operation.spec.directions, operation.weights, operation.cells, strict=True):
        found[f"{way}.cell"] = cell
        found |= {
            f"{way}.{name}": array
            for name in CANONICAL_AXES
            if "bias" not in name and (array := weights.member(name)) is not None
        }
        found |= {f"{way}.{name}": array for name, array in _biases(operation, weights, cell.reset_after).items()}
    return found


OPTIONS = {
    "Recurrent": ("merge_mode", "reverse"),
    "Dense": ("activation",),
    "BatchNormalization": ("epsilon",),
    "LayerNormalization": ("epsilon", "axes", "rms"),
    "GroupNormalization": ("epsilon", "groups"),
    "Convolution": ("strides", "dilations", "groups"),
}
"""Options that change numbers, and mean the same in every framework, by the kind of layer.

Padding is none of them: one model says "same" where another says numbers, or pads beforehand."""


def _biases(layer: Recurrent, weights: Weights, reset_after: bool) -> dict[str, Array]:
    """The sum of both biases; of a GRU whose reset gate acts after the product, the candidate's part of the recurrence apart."""
    total = merge_biases(weights)
    both = np.zeros(layer.spec.shape("bias_input")) if total is None else total
    if layer.spec.kind != "gru" or not reset_after:
        return {"bias": both}
    candidate = GATES[layer.spec.kind].index(CANDIDATE)
    inner = weights.bias_recurrent
    recurrent = np.zeros_like(both[candidate]) if inner is None else inner[candidate]
    outer = np.zeros_like(recurrent) if weights.bias_input is None else weights.bias_input[candidate]
    inputs = both.copy()
    inputs[candidate] = outer
    return {"bias": inputs, "bias of the candidate in the recurrence": recurrent}


CANDIDATE = next(letter for letter, meaning in GATE_MEANINGS["gru"].items() if meaning == "candidate")
"""The gate of a GRU whose two biases are not added: one of them stands inside the product with the reset gate."""


def _shapes(told: Mapping[str, Any]) -> dict[str, Any]:
    return {name: np.shape(value) if isinstance(value, np.ndarray) else None for name, value in told.items()}


def _same(left: Any, right: Any) -> bool:
    arrays = isinstance(left, np.ndarray) and isinstance(right, np.ndarray)
    return bool(np.array_equal(left, right)) if arrays else bool(left == right)


def _covering(wanted: frozenset[Key], right: Sequence[tuple[frozenset[Key], Fault]]) -> tuple[Fault, ...] | None:
    """The fewest faults that together change just the wanted weights, none of them twice."""
    for count in range(1, _MOST_TOGETHER + 1):
        for some in combinations(right, count):
            keys = [key for changed, _ in some for key in changed]
            if len(keys) == len(wanted) and frozenset(keys) == wanted:
                return tuple(fault for _, fault in some)
    # Of more than a few mistakes, one for each weight.
    chosen: list[Fault] = []
    left = set(wanted)
    for changed, fault in sorted(right, key=lambda one: -len(one[0])):
        if changed <= left:
            chosen.append(fault)
            left -= changed
    return tuple(chosen) if chosen and not left else None


def _alike(left: Any, right: Any) -> bool:
    if isinstance(left, float) and isinstance(right, float):  # files of ONNX keep options in float32
        return math.isclose(left, right, rel_tol=ALIKE)
    if not isinstance(left, np.ndarray) or not isinstance(right, np.ndarray):
        return bool(left == right)
    if left.shape != right.shape:
        return False
    scale = float(np.abs(right).max(initial=0.0))
    return bool(np.abs(np.asarray(left, np.float64) - right).max(initial=0.0) <= ALIKE * scale)


def differing_in_words(weighed: Weighed) -> Iterator[str]:
    """Which weights are other numbers than the right ones."""
    for layer, name in sorted(weighed.differing):
        yield f"{name} of layer '{layer}'"


__all__ = ["Weighed", "differing_in_words", "told_of", "weigh"]
