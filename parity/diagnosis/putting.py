"""Weights put into a model by what they are told as, and the repair that puts the right ones back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass, replace
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from parity.deferred import Array
from parity.diagnosis.case import Case, Change
from parity.diagnosis.fault import TENSORS, Place
from parity.diagnosis.faults.scopes import member_or_zeros
from parity.diagnosis.repair import CallRepair, OptionRepair, Put, Repair, SwapRepair, WeightRepair
from parity.diagnosis.told import CANDIDATE, Key, told_of
from parity.graph.calls import Layered
from parity.layouts import GATES
from parity.network import Recurrent
from parity.recurrent import DIRECTIONS, Direction, Weights

BIASES = ("bias_input", "bias_recurrent")

Made: TypeAlias = "Callable[[Case], Array]"
"""The numbers of a weight, from the model into which they are put."""


def putting(numbers: Mapping[Key, Made]) -> Change:
    """A change that gives weights other numbers, all of them taken from the model as it was before.

    Args:
        numbers: by the weight.
    """

    def replay(case: Case) -> Case:
        made = {key: numbers_of(case) for key, numbers_of in numbers.items()}
        for (layer, name), array in made.items():
            direction, _, member = name.rpartition(".")
            case = case.with_layer(layer, partial(_put, direction=direction, member=member, numbers=array))
        return case

    return replay


def told_in(case: Case, key: Key) -> Array:
    """A weight of a model by its name.

    Raises:
        KeyError: the model has no such weight.
    """
    operation = next((one for one in case.graph.operations if one.name == key[0]), None)
    if operation is None:
        raise KeyError(key)
    told = told_of(operation)
    if key[1] not in told and isinstance(operation, Recurrent):  # one of two biases, which are told together
        direction, _, member = key[1].rpartition(".")
        told[key[1]] = operation.weights[operation.spec.directions.index(direction_of(direction))].member(member)
    found: Array = told[key[1]]
    return found


def in_words(key: Key) -> str:
    """A weight as people call it; of layers without directions the kernel is the only one.

    Example:
        >>> in_words(("lstm", "forward.kernel")), in_words(("scores", "kernel"))
        ('input kernel', 'kernel')
    """
    direction, _, member = key[1].rpartition(".")
    return TENSORS.get(member, member) if direction else member


def place_of(operation: Layered, key: Key, gate: str = "") -> Place:
    """Where a weight is: of two directions which; the kernel of a layer without directions is what a cause says it is."""
    direction, _, member = key[1].rpartition(".")
    tensor = "" if member == "kernel" and not direction else member
    return Place(key[0], way_of(operation, direction), tensor, gate)


def way_of(operation: Layered, direction: str) -> str:
    """A direction of a layer that has two; "" of any other."""
    return direction if isinstance(operation, Recurrent) and operation.bidirectional else ""


def _put(operation: Layered, direction: str, member: str, numbers: Array) -> Layered:
    if isinstance(operation, Recurrent):
        index = operation.spec.directions.index(direction_of(direction))
        weights = list(operation.weights)
        weights[index] = _with(operation, index, member, numbers)
        return replace(operation, weights=tuple(weights))
    if is_dataclass(operation) and member in {field.name for field in fields(operation)}:
        made: Any = operation
        other: Layered = replace(made, **{member: numbers})
        return other
    raise ValueError(f"'{member}' is no weight of its own in '{operation.name}'")


def direction_of(name: str) -> Direction:
    """A direction by its name.

    Raises:
        StopIteration: there is none of this name.
    """
    return next(one for one in DIRECTIONS if one == name)


def _with(layer: Recurrent, index: int, member: str, numbers: Array) -> Weights:
    """Weights with other numbers; a bias is told as what its parts come to."""
    weights = layer.weights[index]
    if not member.startswith("bias") or member in BIASES:
        return weights.with_held(**{member: numbers})
    gates = GATES[layer.spec.kind]
    shape = layer.spec.shape("bias_input")
    outer, inner = (
        np.zeros(shape, np.float32) if one is None else np.array(one)
        for one in (weights.bias_input, weights.bias_recurrent)
    )
    if member != "bias":  # the candidate's, inside the product with the reset gate
        inner[gates.index(CANDIDATE)] = numbers
        return weights.with_held(bias_input=outer, bias_recurrent=inner)
    kept = np.zeros_like(inner)
    if layer.spec.kind == "gru" and layer.cells[index].reset_after:
        kept[gates.index(CANDIDATE)] = inner[gates.index(CANDIDATE)]
    return weights.with_held(bias_input=np.array(numbers, np.float32), bias_recurrent=kept)


def right_put(operation: Layered, direction: str, member: str, was: str) -> Repair:
    """The repair that puts the right numbers in the place of others.

    Args:
        operation: of the right model.
        direction, member: which of its weights.
        was: what the suspect has there, in words.
    """
    if not isinstance(operation, Recurrent):
        return (OptionRepair(operation.name, member, "the right numbers", was),)
    way = direction_of(direction)
    index = operation.spec.directions.index(way)
    return tuple(
        WeightRepair(operation.name, way, one, Put(member_or_zeros(operation, index, one))) for one in parts_of(member)
    )


def all_put(case: Case, keys: Iterable[Key], was: str) -> Repair:
    """The repair that puts the right numbers in several places, into each once.

    Args:
        case: the right model.
        keys: of the weights.
        was: what the suspect has there, in words.
    """
    steps: dict[object, WeightRepair | SwapRepair | OptionRepair | CallRepair] = {}
    for layer, name in keys:
        direction, _, member = name.rpartition(".")
        for step in right_put(case.layer(layer), direction, member, was):
            at = step.member if isinstance(step, WeightRepair) else member
            steps[layer, direction, at] = step
    return tuple(steps.values())


def parts_of(member: str) -> tuple[str, ...]:
    """The canonical weights that are told as one."""
    return BIASES if member.startswith("bias") and member not in BIASES else (member,)


__all__ = ["all_put", "direction_of", "in_words", "parts_of", "place_of", "putting", "right_put", "told_in", "way_of"]
