"""Mistakes with a number that no list holds: it is estimated from what the suspect computed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from parity.diagnosis.case import Case
from parity.diagnosis.fault import Fault
from parity.diagnosis.faults.answers import scaled_output
from parity.diagnosis.faults.dense import slope_fault
from parity.diagnosis.faults.layers import together
from parity.diagnosis.faults.norms import EPSILONS, epsilon_fault
from parity.functions import Function
from parity.graph.operations import Activation, BatchNormalization, GroupNormalization, LayerNormalization


@dataclass(frozen=True, eq=False)
class Estimate:
    """A mistake with a positive number in it.

    Args:
        fault: of a number.
        low, high: between which it is.
        layers: whose mistake it is.
    """

    fault: Callable[[float], Fault]
    low: float
    high: float
    layers: tuple[str, ...]


def estimates_of(case: Case) -> Iterator[Estimate]:
    """Every mistake with a number that could be made in a model: of one layer, or of all that have the same number.

    Args:
        case: the right model.
    """
    groups: dict[object, list[Estimate]] = {}
    for operation in case.graph.operations:
        name = operation.name
        if isinstance(operation, BatchNormalization | LayerNormalization | GroupNormalization):
            epsilon = operation.epsilon
            key: object = (type(operation).__name__, epsilon)
            found = Estimate(_epsilon(name, epsilon), 1e-12, 1.0, (name,))
        elif isinstance(operation, Activation) and operation.function.name in ("leaky_relu", "elu"):
            key = operation.function
            found = Estimate(_slope(name, operation.function), 1e-3, 4.0, (name,))
        else:
            continue
        groups.setdefault(key, []).append(found)
    for group in groups.values():
        yield from group
        if len(group) > 1:
            layers = tuple(name for one in group for name in one.layers)
            yield Estimate(_of_all(case, group), group[0].low, group[0].high, layers)
    scaled = scaled_output(case)
    if scaled is not None:
        yield Estimate(scaled, 1e-4, 1e4, ())


def _epsilon(name: str, right: float) -> Callable[[float], Fault]:
    return lambda value: epsilon_fault(name, right, value)


def _slope(name: str, right: Function) -> Callable[[float], Fault]:
    return lambda value: slope_fault(name, right, Function(right.name, value))


def _of_all(case: Case, group: Sequence[Estimate]) -> Callable[[float], Fault]:
    return lambda value: list(together(case, (one.fault(value) for one in group)))[-1]


def told_numbers(case: Case, theirs: Mapping[tuple[str, str], Any]) -> Iterator[Fault]:
    """Numbers that the suspect itself says and that are in no list.

    Args:
        case: the right model.
        theirs: options of the suspect, by the right model's layers and their names.
    """
    yield from together(case, _told(case, theirs))


def _told(case: Case, theirs: Mapping[tuple[str, str], Any]) -> Iterator[Fault]:
    for operation in case.graph.operations:
        if isinstance(operation, BatchNormalization | LayerNormalization | GroupNormalization):
            value = theirs.get((operation.name, "epsilon"), operation.epsilon)
            if not any(math.isclose(value, known, rel_tol=1e-6) for known in (operation.epsilon, *EPSILONS)):
                yield epsilon_fault(operation.name, operation.epsilon, value)


__all__ = ["Estimate", "estimates_of", "told_numbers"]
