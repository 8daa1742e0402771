"""The units of recurrent layers in another order, the same in all their weights: a layer that computes the same, its units elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from parity.deferred import Array
from parity.diagnosis.case import Case
from parity.diagnosis.fault import Fault, Place
from parity.diagnosis.putting import all_put, putting, told_in, way_of
from parity.diagnosis.repair import Repair
from parity.diagnosis.told import Key, alike
from parity.diagnosis.turns import described
from parity.graph.graph import Wire
from parity.network import Dense, Recurrent

Order: TypeAlias = tuple[int, ...]
"""Which of the right slices stands at every place."""

Orders: TypeAlias = dict[int, Order]
"""The order along every axis that has another one."""


@dataclass(frozen=True)
class _Found:
    """What is known of the orders so far.

    Args:
        units: the order of the units, by layer and direction.
        weights: the orders of the weights that follow from it.
        handed: what the layers behind get: the orders of outputs.
    """

    units: dict[tuple[str, str], Order] = field(default_factory=dict)
    weights: dict[Key, Orders] = field(default_factory=dict)
    handed: list[Order] = field(default_factory=list)


def renumbered(
    case: Case, right: Mapping[Key, Any], theirs: Mapping[Key, Any], differing: frozenset[Key]
) -> Iterator[Fault]:
    """The mistake by which layers have their units in another order, in all weights together; at most one.

    A layer whose units are numbered otherwise throughout (rows of every gate, columns of the recurrent kernel, biases) computes the same,
    its output and states in that order; the layers behind may or may not have their columns in it.

    Args:
        case: the right model.
        right: its weights and options.
        theirs: the suspect's.
        differing: those that are not the right ones.
    """
    found = _Found()
    for layer in case.recurrent():
        _look_at(layer, right, theirs, differing, found)
    if not found.units:
        return
    for key in sorted(differing - found.weights.keys()):
        if isinstance(theirs[key], np.ndarray) and (taken := _taken(right[key], theirs[key], found.handed)) is not None:
            found.weights[key] = taken
    yield _fault(case, found)


def _look_at(
    layer: Recurrent, right: Mapping[Key, Any], theirs: Mapping[Key, Any], differing: frozenset[Key], found: _Found
) -> None:
    """Find the order of the units of every direction of a layer."""
    plain = tuple(range(layer.spec.hidden_size))
    orders: list[Order] = []
    for way in layer.spec.directions:
        keys = [key for key in right if key[0] == layer.name and key[1].startswith(f"{way}.")]
        made = None
        if (layer.name, f"{way}.recurrent") in differing:
            made = _of_direction(keys, right, theirs, found.handed)
        if made is not None:
            order, weights = made
            found.units[layer.name, way] = order
            found.weights.update({key: turned for key, turned in weights.items() if key in differing})
        orders.append(plain if made is None else made[0])
    if any(order != plain for order in orders):
        size = layer.spec.hidden_size
        together = tuple(place + number * size for number, order in enumerate(orders) for place in order)
        found.handed.extend(dict.fromkeys((together, *orders)))


def _of_direction(
    keys: Sequence[Key], right: Mapping[Key, Any], theirs: Mapping[Key, Any], handed: Sequence[Order]
) -> tuple[Order, dict[Key, Orders]] | None:
    """The order of the units of one direction, and of what that makes of each of its weights; None where no order makes the suspect's."""
    arrays = [key for key in keys if isinstance(right[key], np.ndarray)]
    marks = [np.concatenate([_marks(side[key], _unit_axis(key)) for key in arrays], 1) for side in (right, theirs)]
    order = _matched(*marks)
    if order is None or order == tuple(range(len(order))):
        return None
    weights: dict[Key, Orders] = {}
    for key in arrays:
        own: Orders = {_unit_axis(key) % right[key].ndim: order}
        member = key[1].rpartition(".")[2]
        if member == "recurrent" and right[key].shape[2] == len(order):
            own[2] = order
        choices = [own]
        if member == "kernel":
            choices += [own | {2: other} for other in handed if len(other) == right[key].shape[2]]
        fits = next((one for one in choices if alike(theirs[key], _ordered(right[key], one))), None)
        if fits is None:
            return None
        weights[key] = fits
    return order, weights


def _unit_axis(key: Key) -> int:
    """The axis of a canonical weight along which the units are."""
    return 1 if key[1].rpartition(".")[2] in ("kernel", "recurrent") else -1


def _marks(array: Array, axis: int) -> Array:
    """What tells one unit from another, (unit, mark), and does not depend on the order of the columns."""
    moved = np.moveaxis(np.asarray(array, np.float64), axis, 0)
    if axis == -1:
        return moved.reshape(len(moved), -1) if array.ndim == 1 or len(array) < _MOST_GATES else moved.sum(1)[:, None]
    return np.concatenate([moved.sum(-1), np.abs(moved).sum(-1)], 1)


_MOST_GATES = 5
"""The first axis of biases and peepholes has fewer places; that of a projection, whose states may be in another order, mostly more."""


def _matched(mine: Array, theirs: Array) -> Order | None:
    """The place of the right unit for every unit, by their marks; None where they are other units."""
    if mine.shape != theirs.shape or not np.isfinite(theirs).all():
        return None
    weights = np.random.default_rng(3).normal(size=mine.shape[1])
    order = np.empty(len(mine), np.int64)
    order[np.argsort(theirs @ weights, kind="stable")] = np.argsort(mine @ weights, kind="stable")
    close = np.abs(theirs - mine[order]).max() <= 1e-4 * np.abs(mine).max(initial=0.0)
    return tuple(int(one) for one in order) if close else None


def _ordered(array: Array, orders: Orders) -> Array:
    for axis, order in orders.items():
        array = np.take(array, order, axis)
    return array


def _taken(right: Array, theirs: Array, handed: Sequence[Order]) -> Orders | None:
    """How a weight of another layer follows the order of what is handed to it."""
    for order in handed:
        for axis, size in enumerate(right.shape):
            if size == len(order) and alike(theirs, np.take(right, order, axis)):
                return {axis: order}
    return None


def _fault(case: Case, found: _Found) -> Fault:
    layers = list(dict.fromkeys(layer for layer, _ in found.units))
    alone = len(layers) == 1
    first = _recurrent(case, layers[0])
    ways = [way for layer, way in found.units if layer == layers[0]]
    direction = way_of(first, ways[0]) if alone and len(ways) == 1 else ""
    whose = f"the units of {_named(layers)}"
    if alone:
        whose = f"the units of its {direction} direction" if direction else "its units"
    orders = set(found.units.values())
    said = f" ({described(*orders)})" if len(orders) == 1 else ""
    what = "its cell state" if alone and first.spec.state_size != first.spec.hidden_size else "states and output"
    does = "by itself the layer computes" if alone else "by themselves the layers compute"
    return Fault(
        "units in another order",
        f"has {whose} in another order{said}, the same in all {'its' if alone else 'their'} weights: {does} the same, "
        f"with {what} in that order{_behind(case, found, layers)}",
        Place(layers[0] if alone else "", direction),
        putting({key: partial(_turned, key=key, orders=orders) for key, orders in found.weights.items()}),
        _put_back(case, found),
        rank=60,
        shows="needs inputs that are not zero",
    )


def _behind(case: Case, found: _Found, layers: Sequence[str]) -> str:
    """What the layers behind do with the other order: their columns follow it, or do not."""
    follow = [
        layer
        for layer, name in found.weights
        if layer not in layers or (name.endswith(".kernel") and 2 in found.weights[layer, name])
    ]
    takers = case.graph.takers()
    at_once = [
        node.name
        for layer in layers
        if _recurrent(case, layer).spec.state_size == _recurrent(case, layer).spec.hidden_size
        for node in takers.get(Wire(layer), ())
        if isinstance(node.operation, Recurrent | Dense)
    ]
    others = [one for one in dict.fromkeys(at_once) if one not in follow]
    said = [
        f"{_named(names)} behind {verb if len(names) > 1 else verb + 's'} {how}"
        for names, verb, how in (
            (list(dict.fromkeys(follow)), "take", "them so"),
            (others, "take", "them in the right order, which does not go with it"),
        )
        if names
    ]
    return f"; {' and '.join(said)}" if said else ""


def _put_back(case: Case, found: _Found) -> Repair:
    return all_put(case, found.weights, "those of other units")


def _recurrent(case: Case, name: str) -> Recurrent:
    return next(one for one in case.recurrent() if one.name == name)


def _turned(case: Case, key: Key, orders: Orders) -> Array:
    return _ordered(np.asarray(told_in(case, key)), orders)


def _named(layers: Sequence[str]) -> str:
    *first, last = [f"'{one}'" for one in layers]
    return f"layers {', '.join(first)} and {last}" if first else f"layer {last}"


__all__ = ["renumbered"]
