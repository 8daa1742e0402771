"""Weights that no mistake makes of the right ones: other numbers, perhaps those of a layer into which none were loaded."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np

from parity.deferred import Array
from parity.diagnosis.case import Case
from parity.diagnosis.fault import TENSORS, Fault, Place
from parity.diagnosis.faults.scopes import member_or_zeros
from parity.diagnosis.repair import OptionRepair, Put, Repair, WeightRepair
from parity.diagnosis.weighing import CANDIDATE, Weighed
from parity.graph.calls import Layered
from parity.layouts import GATES
from parity.network import Recurrent
from parity.recurrent import DIRECTIONS, Direction, Weights

_NEAR = 0.1
"""How near the mean of drawn numbers comes to what their distribution says, as a share."""


def other_numbers(case: Case, weighed: Weighed) -> Iterator[Fault]:
    """For every weight that differs, that it holds other numbers: what the suspect has there is put into the right model.

    Args:
        case: the right model.
        weighed: the suspect's weights beside the right ones.
    """
    for layer, name in sorted(weighed.differing):
        theirs = weighed.theirs[layer, name]
        if not isinstance(theirs, np.ndarray):
            continue
        operation = next(one for one in case.graph.operations if one.name == layer)
        direction, _, member = name.rpartition(".")
        fresh = _looks_fresh(theirs, operation, member)
        yield Fault(
            "never loaded" if fresh else "other numbers",
            f"has other numbers in its {_words(member)}, which no mistake that parity knows makes of the right ones{fresh}",
            Place(layer, direction, member),
            _putting(layer, direction, member, theirs),
            _repair(operation, direction, member),
            rank=90,
            shows="needs inputs that are not zero",
        )


def _words(member: str) -> str:
    return TENSORS.get(member, member)


def _putting(layer: str, direction: str, member: str, theirs: Array) -> Any:
    """A change that gives a weight the suspect's numbers."""

    def changed(operation: Layered) -> Layered:
        if isinstance(operation, Recurrent):
            index = operation.spec.directions.index(_direction(direction))
            weights = list(operation.weights)
            weights[index] = _with(operation, weights[index], member, theirs)
            return replace(operation, weights=tuple(weights))
        if is_dataclass(operation) and member in {field.name for field in fields(operation)}:
            made: Any = operation
            other: Layered = replace(made, **{member: theirs})
            return other
        raise ValueError(f"'{member}' is no weight of its own in '{layer}'")

    return lambda case: case.with_layer(layer, changed)


def _direction(name: str) -> Direction:
    return next(one for one in DIRECTIONS if one == name)


def _with(layer: Recurrent, weights: Weights, member: str, theirs: Array) -> Weights:
    """Weights with other numbers; a bias is told as what its parts come to."""
    if not member.startswith("bias"):
        return weights.with_held(**{member: theirs})
    gates = GATES[layer.spec.kind]
    shape = layer.spec.shape("bias_input")
    outer, inner = (
        np.zeros(shape, np.float32) if one is None else np.array(one)
        for one in (weights.bias_input, weights.bias_recurrent)
    )
    if member != "bias":  # the candidate's, inside the product with the reset gate
        inner[gates.index(CANDIDATE)] = theirs
        return weights.with_held(bias_input=outer, bias_recurrent=inner)
    kept = np.zeros_like(inner)
    if layer.spec.kind == "gru" and layer.cells[0].reset_after:
        kept[gates.index(CANDIDATE)] = inner[gates.index(CANDIDATE)]
    return weights.with_held(bias_input=np.array(theirs, np.float32), bias_recurrent=kept)


def _repair(operation: Layered, direction: str, member: str) -> Repair:
    """The right numbers in the place of the others."""
    if not isinstance(operation, Recurrent):
        return (OptionRepair(operation.name, member, "the right numbers", "other ones"),)
    index = operation.spec.directions.index(_direction(direction))
    members = ("bias_input", "bias_recurrent") if member.startswith("bias") else (member,)
    return tuple(
        WeightRepair(operation.name, _direction(direction), one, Put(member_or_zeros(operation, index, one)))
        for one in members
    )


def _looks_fresh(theirs: Array, operation: Layered, member: str) -> str:
    """What the numbers look like if they are those of a layer that was just made, as the end of a sentence; "" for anything else.

    torch draws all weights of a recurrent layer from U(-1/sqrt(units), 1/sqrt(units)) (`nn.RNNBase.reset_parameters`); Keras has
    `glorot_uniform` for kernels, `orthogonal` for recurrent kernels, zeros for biases, and ones for the forget gate (`unit_forget_bias`).
    """
    if not theirs.any():
        return ": they are zero"
    if not isinstance(operation, Recurrent):
        return ""
    spec = operation.spec
    if member == "recurrent" and _is_orthogonal(theirs):
        return ": they are orthogonal, as Keras makes a layer into which nothing was loaded"
    if member.startswith("bias") and set(np.unique(theirs)) == {0.0, 1.0}:
        return ": zeros, and ones for one gate, as Keras makes a layer into which nothing was loaded"
    glorot = math.sqrt(6 / (spec.input_size + spec.hidden_size * len(GATES[spec.kind])))
    drawn = [("torch", 1 / math.sqrt(spec.hidden_size))] + ([("Keras", glorot)] if member == "kernel" else [])
    for owner, bound in drawn:
        if not member.startswith("bias") and _is_uniform(theirs, bound):
            return f": they look drawn from -{bound:.3g} to {bound:.3g}, as {owner} makes a layer into which nothing was loaded"
    return ""


def _is_orthogonal(recurrent: Array) -> bool:
    """Whether (gate, hidden, state) has orthonormal rows, as (state, gate x hidden)."""
    rows = recurrent.reshape(-1, recurrent.shape[-1]).T.astype(np.float64)
    return bool(np.abs(rows @ rows.T - np.eye(len(rows))).max() < 1e-4)


def _is_uniform(array: Array, bound: float) -> bool:
    """Whether many numbers fill an interval evenly: none beyond it, and the mean size half of it."""
    sizes = np.abs(array)
    return bool(
        sizes.size >= 64
        and sizes.max() <= bound * (1 + 1e-6)
        and sizes.max() >= bound * (1 - _NEAR)
        and abs(sizes.mean() / bound - 0.5) <= 0.5 * _NEAR
    )


__all__ = ["other_numbers"]
