"""Weights that differ and that no listed mistake explains: turned, scaled or rounded right ones, those of a fresh layer, other numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from parity.deferred import Array
from parity.diagnosis.case import Case
from parity.diagnosis.fault import Fault
from parity.diagnosis.fresh import looks_fresh
from parity.diagnosis.putting import in_words, place_of, putting, right_put, told_in
from parity.diagnosis.told import Key, alike
from parity.diagnosis.turns import Turn, turn_between
from parity.diagnosis.weighing import Weighed
from parity.graph.calls import Layered
from parity.graph.operations import Convolution
from parity.layouts import GATE_MEANINGS, GATES
from parity.network import Dense, Embedding, Recurrent

_NEEDS = "needs inputs that are not zero"


def other_numbers(case: Case, weighed: Weighed) -> Iterator[Fault]:
    """For every weight that differs, what it is: the right one turned or scaled, that of a layer into which nothing was loaded, others.

    What the suspect has there is put into the right model, so that one of them fits always.

    Args:
        case: the right model.
        weighed: the suspect's weights beside the right ones.
    """
    operations = {one.name: one for one in case.graph.operations}
    for key in weighed.theirs:
        theirs = weighed.theirs[key]
        if key in weighed.differing and isinstance(theirs, np.ndarray):
            told = {name: array for (layer, name), array in weighed.theirs.items() if layer == key[0]}
            yield _explained(operations[key[0]], key, weighed.right[key], told)


def _explained(operation: Layered, key: Key, right: Array, told: Mapping[str, Any]) -> Fault:
    theirs, member = told[key[1]], key[1].rpartition(".")[2]
    what, gates = in_words(key), _gates(operation, right)
    turn = turn_between(right, theirs, gates, _axes(operation, member)) if right.any() else None
    if turn is not None:
        name = (
            "weights rounded"
            if turn.name == "rounded"
            else turn.name
            if turn.name == "gate order"
            else f"{_kind(member)} {turn.name}"
        )
        replay = putting({key: partial(_turned, key=key, turn=turn)})
        return _fault(operation, key, name, f"has its {what} {turn.words}", replay, turn.words)
    replay = putting({key: lambda _: theirs})
    if (fresh := looks_fresh(operation, told, key[1])) and theirs.any():
        return _fault(operation, key, "never loaded", f"has other numbers in its {what}: {fresh}", replay, "other ones")
    if not theirs.any():
        zeros = f"has zeros in place of its {what}, as if nothing had been loaded"
        return _fault(operation, key, "never loaded", zeros, replay, "zeros")
    where, letter, how = _of_one_gate(operation, right, theirs) if gates else ("", "", "")
    others = (
        f"has other numbers in {where}its {what}{how or ', which no mistake that parity knows makes of the right ones'}"
    )
    return _fault(operation, key, "other numbers", others, replay, "other ones", letter)


def _fault(operation: Layered, key: Key, name: str, cause: str, replay: Any, was: str, gate: str = "") -> Fault:
    direction, _, member = key[1].rpartition(".")
    repair = right_put(operation, direction, member, was)
    return Fault(name, cause, place_of(operation, key, gate), replay, repair, rank=90, shows=_NEEDS)


def _turned(case: Case, key: Key, turn: Turn) -> Array:
    return turn.formula(np.asarray(told_in(case, key)))


def _kind(member: str) -> str:
    """A weight as the names of mistakes have it."""
    return "kernel" if member in ("kernel", "recurrent") else member


def _gates(operation: Layered, array: Array) -> tuple[str, ...]:
    """The gates along the first axis of a recurrent layer's weight; none of a bias of one gate, and of peepholes and projections."""
    gates = GATES[operation.spec.kind] if isinstance(operation, Recurrent) else ()
    return gates if array.ndim > 1 and len(array) == len(gates) else ()


def _axes(operation: Layered, member: str) -> tuple[str, ...]:
    """What stands along the axes of a weight."""
    if isinstance(operation, Recurrent):
        return ("gates", "units", "states" if member == "recurrent" else "input features")
    if isinstance(operation, Dense):
        return ("input features", "outputs") if member == "kernel" else ("outputs",)
    if isinstance(operation, Embedding):
        return ("rows", "features")
    if isinstance(operation, Convolution) and member == "kernel":
        window = tuple(f"places along axis {axis} of the window" for axis in range(len(operation.strides)))
        return (*window, "input channels", "output channels")
    return ("numbers",)


def _of_one_gate(operation: Layered, right: Array, theirs: Array) -> tuple[str, str, str]:
    """Of a weight of which one gate alone differs: which one, its letter, and what its numbers are if that is known."""
    if not isinstance(operation, Recurrent):
        return "", "", ""
    kind = operation.spec.kind
    off = [place for place in range(len(right)) if not alike(theirs[place], right[place])]
    if len(off) != 1 or len(right) < 2:
        return "", "", ""
    (place,) = off
    letter = GATES[kind][place]
    where = f"the {GATE_MEANINGS[kind][letter]} {letter} of "
    if not theirs[place].any():
        return where, letter, ": zeros"
    for other, own in enumerate(GATES[kind]):
        turn = turn_between(right[other], theirs[place])
        if turn is not None:
            whose = "its own ones" if other == place else f"those of the {GATE_MEANINGS[kind][own]} {own}"
            return where, letter, f": {whose}{' ' if turn.words else ''}{turn.words}"
    return where, letter, ""


__all__ = ["other_numbers"]
