"""Gates in another order than the framework's: in all weights, or in some of them alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import permutations

import numpy as np

from parity.diagnosis.case import Case
from parity.diagnosis.fault import TENSORS, Fault, places
from parity.diagnosis.faults.scopes import Mistake, by_formula, everywhere, weights_changed
from parity.diagnosis.repair import GateOrder
from parity.layouts import GATES, LAYOUTS, OLD_ORDERS, Kind
from parity.network import Recurrent
from parity.recurrent import Weights

_GROUPS = (
    ("kernel", "recurrent", "bias_input", "bias_recurrent"),
    ("kernel", "recurrent"),
    ("bias_input", "bias_recurrent"),
    ("kernel",),
    ("recurrent",),
    ("bias_input",),
    ("bias_recurrent",),
    ("kernel", "bias_input"),
    ("recurrent", "bias_recurrent"),
)
"""Weights that get the wrong order together."""


def gate_faults(case: Case) -> Iterator[Fault]:
    """Every order of the gates but the right one, in every group of weights.

    Args:
        case: the right model.
    """
    for mistake, told in _mistakes(case):
        for fault in everywhere(case, mistake):
            yield replace(fault, told=told)


def _mistakes(case: Case) -> Iterator[tuple[Mistake, Callable[[str], str]]]:
    """What can be done wrong to the weights that the layers of a model have, each with its cause in the letters of a framework."""
    there = dict.fromkeys(
        (layer.spec.kind, members) for layer, _, _, weights in places(case) for members in _present(weights)
    )
    for kind, members in there:
        for order in permutations(range(len(GATES[kind]))):
            if order == tuple(range(len(order))):
                continue
            what = "weights" if len(members) > 2 else " and ".join(TENSORS[member] for member in members)
            back = GateOrder(tuple(np.argsort(order).tolist()))
            told = partial(_told, what, kind, order)
            mistake = Mistake(
                "gate order",
                told(""),
                weights_changed(partial(_ordered, members=members, order=order)),
                by_formula(*((member, back) for member in members)),
                partial(_has, kind=kind, members=members),
                "" if len(members) > 1 else members[0],
                rank=3 if len(members) > 2 else 13,
                shows="needs inputs, states and biases that are not zero, and more than one step",
                alone=not (_owners(kind, tuple(GATES[kind][place] for place in order)) or _is_swap(order)),
            )
            yield mistake, told


def _is_swap(order: tuple[int, ...]) -> bool:
    """Whether two gates have changed places: the mistake of a hand-written port, where other orders are those of a framework."""
    return sum(place != gate for gate, place in enumerate(order)) == 2


def _has(layer: Recurrent, index: int, kind: Kind, members: tuple[str, ...]) -> bool:
    return layer.spec.kind == kind and members in _present(layer.weights[index])


def _present(weights: Weights) -> Iterator[tuple[str, ...]]:
    """The groups, each once, of the weights that are there."""
    groups = [tuple(member for member in group if weights.held(member) is not None) for group in _GROUPS]
    return iter(dict.fromkeys(group for group in groups if group))


def _ordered(weights: Weights, members: tuple[str, ...], order: tuple[int, ...]) -> Weights:
    return weights.with_held(**{member: np.asarray(weights.member(member))[list(order)] for member in members})


def _told(what: str, kind: Kind, order: tuple[int, ...], framework: str) -> str:
    """The cause in the letters of a framework, which says what stands in its own arrays; in torch's for one that is not known.

    Example:
        >>> _told("weights", "gru", (1, 0, 2), "torch")
        "has the gates of its weights in the order z r n (Keras's and ONNX's), where r z n belongs"
        >>> _told("weights", "gru", (1, 0, 2), "keras")
        "has the gates of its weights in the order r z h (torch's), where z r h belongs"
    """
    known = (framework, kind) in LAYOUTS
    layout = LAYOUTS[framework if known else "torch", kind]
    own = dict(zip(layout.gates, layout.own_gates, strict=True))
    there = tuple(GATES[kind][order[GATES[kind].index(letter)]] for letter in layout.gates)
    letters, belongs = (" ".join(own[letter] for letter in letters) for letters in (there, layout.gates))
    whose = "" if known else " (in torch's letters)"
    return f"has the gates of its {what} in the order {letters}{_owners(kind, there)}, where {belongs} belongs{whose}"


_TITLES = {"keras": "Keras's", "torch": "torch's", "onnx": "ONNX's"}


def _owners(kind: Kind, gates: tuple[str, ...]) -> str:
    """Whose order it is, in parentheses.

    Args:
        kind: of the cell.
        gates: the canonical letters in the order in which they stand.
    """
    owners = [_TITLES[name] for (name, of), layout in LAYOUTS.items() if of == kind and layout.gates == gates]
    old = [name for (name, of), order in OLD_ORDERS.items() if of == kind and tuple(order.split()) == gates]
    return f" ({' and '.join(owners)})" if owners else f" (that of {' and '.join(old)})" if old else ""


__all__ = ["gate_faults"]
