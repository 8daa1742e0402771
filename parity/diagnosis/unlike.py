"""Weights that differ and that no listed mistake explains: turned, scaled or rounded right ones, those of a fresh layer, other numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from parity.deferred import Array
from parity.diagnosis.case import Case
from parity.diagnosis.differing import are_few, as_after, differences, is_near, is_reordered
from parity.diagnosis.fault import Fault, Place
from parity.diagnosis.fresh import initial_constants, looks_fresh
from parity.diagnosis.putting import all_put, in_words, place_of, putting, right_put, told_in
from parity.diagnosis.roundings import rounded_parts
from parity.diagnosis.told import Key, alike
from parity.diagnosis.turns import Turn, turn_between
from parity.diagnosis.weighed_axes import axes_of, gates_of, index_in_words
from parity.diagnosis.weighing import Weighed
from parity.graph.calls import Layered
from parity.layouts import GATE_MEANINGS, GATES
from parity.network import Recurrent

_NEEDS = "needs inputs that are not zero"
_NEAR = "near the right ones"


def other_numbers(case: Case, weighed: Weighed) -> Iterator[Fault]:
    """For every weight that differs, what it is: the right one turned or scaled, that of a layer into which nothing was loaded, others.

    What the suspect has there is put into the right model, so that one of them fits always. Several that were rounded alike, or are all
    near the right ones, are one mistake, too.

    Args:
        case: the right model.
        weighed: the suspect's weights beside the right ones.
    """
    operations = {one.name: one for one in case.graph.operations}
    alike_in: dict[str, list[tuple[Key, Fault]]] = {}
    for key in weighed.theirs:
        if key not in weighed.differing or not isinstance(weighed.theirs[key], np.ndarray):
            continue
        theirs, right = (
            {name: array for (layer, name), array in side.items() if layer == key[0]}
            for side in (weighed.theirs, weighed.right)
        )
        fault, how = _explained(operations[key[0]], key, right, theirs)
        yield fault
        if how:
            alike_in.setdefault(how, []).append((key, fault))
    for how, found in alike_in.items():
        if len(found) > 1:
            yield _together(case, weighed, how, dict(found))


def _explained(operation: Layered, key: Key, mine: Mapping[str, Any], told: Mapping[str, Any]) -> tuple[Fault, str]:
    """What a weight is; and, in words, what others may be in the same way."""
    right, theirs, member = mine[key[1]], told[key[1]], key[1].rpartition(".")[2]
    what, gates = in_words(key), gates_of(operation, member, right)
    turn = turn_between(right, theirs, gates, axes_of(operation, member, right)) if right.any() else None
    if turn is None and isinstance(operation, Recurrent) and right.any():
        turn = rounded_parts(operation, key[1], theirs)
    if turn is not None:
        name = (
            "weights rounded"
            if turn.name == "rounded"
            else turn.name
            if turn.name == "gate order"
            else f"{_kind(member)} {turn.name}"
        )
        replay = putting({key: partial(_turned, key=key, turn=turn)})
        fault = _fault(operation, key, name, f"has its {what} {turn.words}", replay, turn.words)
        return fault, turn.words if turn.name == "rounded" else ""
    replay = putting({key: lambda _: theirs})
    if not theirs.any():
        zeros = f"has zeros in place of its {what}, as if nothing had been loaded"
        return _fault(operation, key, "never loaded", zeros, replay, "zeros"), ""
    fresh = looks_fresh(operation, told, key[1], right)
    drawn_alike = fresh and right.any() and looks_fresh(operation, mine, key[1]) == fresh
    if fresh and not drawn_alike:
        loaded = "initial constants" if initial_constants(operation, theirs, member) else "never loaded"
        return _fault(operation, key, loaded, f"has other numbers in its {what}: {fresh}", replay, "other ones"), ""
    apart = differences(right, theirs, partial(index_in_words, operation, member))
    if drawn_alike:
        cause = (
            f"has other numbers in its {what} ({apart}); both sides look like layers that were just made: one of them may never have been "
            "loaded, or each was made anew"
        )
        return _fault(operation, key, "other numbers", cause, replay, "other ones"), ""
    if is_near(right, theirs):
        cause = f"has numbers {_NEAR} in its {what}: {apart}, {as_after(right, theirs)}"
        return _fault(operation, key, "other numbers", cause, replay, "near ones"), _NEAR
    where, letter, how = _of_some_gates(operation, right, theirs) if gates else ("", "", "")
    if are_few(right, theirs) and not how:
        cause = f"has other numbers in {where}its {what}; {apart}"
        return _fault(operation, key, "other numbers", cause, replay, "other ones", letter), ""
    tail = how or ", which no mistake that parity knows makes of the right ones"
    order = "; they are the right ones in another order" if is_reordered(right, theirs) else ""
    cause = f"has other numbers in {where}its {what}{tail}{order} ({apart})"
    return _fault(operation, key, "other numbers", cause, replay, "other ones", letter), ""


def _together(case: Case, weighed: Weighed, how: str, found: Mapping[Key, Fault]) -> Fault:
    """Several weights with one and the same mistake."""
    which = _listed(weighed, list(found))
    if how == _NEAR:
        apart = {key: float(np.abs(weighed.theirs[key] - weighed.right[key]).max()) for key in found}
        most = max(apart, key=lambda key: apart[key])
        after = as_after(
            *(np.concatenate([side[key].ravel() for key in found]) for side in (weighed.right, weighed.theirs))
        )
        where = f"in the {in_words(most)} of layer '{most[0]}'"
        cause = f"has numbers {_NEAR} in {which}: at most {apart[most]:.3g} off ({where}), {after}"
    else:
        cause = f"has {which} {how}"
    layers = {layer for layer, _ in found}
    directions = {one.place.direction for one in found.values()}
    place = Place(
        next(iter(layers)) if len(layers) == 1 else "",
        next(iter(directions)) if len(layers) == len(directions) == 1 else "",
    )
    name = next(iter(found.values())).name

    def replay(made: Case) -> Case:
        for one in found.values():
            made = one.replay(made)
        return made

    return Fault(name, cause, place, replay, all_put(case, found, how), rank=90, shows=_NEEDS)


def _listed(weighed: Weighed, keys: Sequence[Key]) -> str:
    """Weights in words: all of them, or which."""
    held = [key for key, array in weighed.right.items() if isinstance(array, np.ndarray) and array.any()]
    if set(held) <= set(keys):
        return "its weights"
    *first, last = dict.fromkeys(f"its {in_words(key)}" for key in keys)
    return f"{', '.join(first)} and {last}" if first else last


def _fault(operation: Layered, key: Key, name: str, cause: str, replay: Any, was: str, gate: str = "") -> Fault:
    direction, _, member = key[1].rpartition(".")
    repair = right_put(operation, direction, member, was)
    return Fault(name, cause, place_of(operation, key, gate), replay, repair, rank=90, shows=_NEEDS)


def _turned(case: Case, key: Key, turn: Turn) -> Array:
    return turn.formula(np.asarray(told_in(case, key)))


def _kind(member: str) -> str:
    """A weight as the names of mistakes have it."""
    return "kernel" if member in ("kernel", "recurrent") else member


def _of_some_gates(operation: Layered, right: Array, theirs: Array) -> tuple[str, str, str]:
    """Of a weight of which some gates alone differ: which ones; of a single one its letter, and what its numbers are if that is known."""
    if not isinstance(operation, Recurrent):
        return "", "", ""
    kind = operation.spec.kind
    off = [place for place in range(len(right)) if not alike(theirs[place], right[place])]
    if len(off) == len(right) or len(right) < 2:
        return "", "", ""
    if len(off) != 1:
        *first, last = [f"the {GATE_MEANINGS[kind][GATES[kind][place]]} {GATES[kind][place]}" for place in off]
        return f"{', '.join(first)} and {last} of ", "", ""
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
