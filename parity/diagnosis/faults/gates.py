"""Gates in another order than the framework's (P02, P03): in all weights, or in some of them alone."""

from __future__ import annotations

from collections.abc import Iterator
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
    for mistake in _mistakes(case):
        yield from everywhere(case, mistake)


def _mistakes(case: Case) -> Iterator[Mistake]:
    """What can be done wrong to the weights that the layers of a model have."""
    there = dict.fromkeys(
        (layer.spec.kind, members) for layer, _, _, weights in places(case) for members in _present(weights)
    )
    for kind, members in there:
        for order in permutations(range(len(GATES[kind]))):
            if order == tuple(range(len(order))):
                continue
            letters = " ".join(GATES[kind][place] for place in order)
            what = "weights" if len(members) > 2 else " and ".join(TENSORS[member] for member in members)
            back = GateOrder(tuple(np.argsort(order).tolist()))
            yield Mistake(
                "gate order",
                f"has the gates of its {what} in the order {letters}, where {' '.join(GATES[kind])} belongs{_known(kind, letters)}",
                weights_changed(partial(_ordered, members=members, order=order)),
                by_formula(*((member, back) for member in members)),
                partial(_has, kind=kind, members=members),
                "" if len(members) > 1 else members[0],
                rank=3 if len(members) > 2 else 13,
                shows="needs inputs, states and biases that are not zero, and more than one step",
                alone=not (_known(kind, letters) or _is_swap(order)),
            )


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


def _known(kind: Kind, letters: str) -> str:
    """Whose order it is."""
    owners = [name for (name, of), layout in LAYOUTS.items() if of == kind and " ".join(layout.gates) == letters]
    owners += [name for (name, of), order in OLD_ORDERS.items() if of == kind and order == letters]
    return f" (the order of {' and '.join(owners)})" if owners else ""


__all__ = ["gate_faults"]
