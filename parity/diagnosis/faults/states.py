"""Initial and final states: exchanged, dropped, in another order, carried over, another one returned."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from parity.diagnosis.case import Case
from parity.diagnosis.fault import Fault, Place
from parity.diagnosis.faults.layers import together
from parity.diagnosis.faults.wiring import (
    fed,
    final_states,
    fresh,
    given,
    recurrent_call,
    recurrent_calls,
    rewired,
    used,
)
from parity.diagnosis.repair import CallRepair
from parity.graph.graph import Node, Wire
from parity.network import Recurrent
from parity.recurrent import DIRECTIONS

_NOT_ZERO = "needs initial states that are not zero"
_FIRST = 2
"""The place of the first initial state among what a recurrent layer takes: behind the sequence and the mask."""


def state_faults(case: Case) -> Iterator[Fault]:
    """Every mistake with initial and final states that could be made in a model.

    Args:
        case: the right model.
    """
    started = (
        (node, layer)
        for node, layer in recurrent_calls(case)
        if any(wire is not None and not _is_zero(case, wire) for wire in node.inputs[_FIRST:])
    )
    yield from together(case, (fault for node, layer in started for fault in _initial(node, layer)))
    yield from together(
        case, (fault for node, layer in recurrent_calls(case) for fault in _returned(case, node, layer))
    )
    yield from _other_layers(case)
    yield from _carried(case)


def _is_zero(case: Case, wire: Wire) -> bool:
    return wire.node in case.inputs and not np.any(case.inputs[wire.node])


def _initial(node: Node, layer: Recurrent) -> Iterator[Fault]:
    """Initial states exchanged or dropped."""
    spec, name = layer.spec, node.name
    keys = [(state, direction) for direction in spec.directions for state in spec.states]
    place = Place(layer.name)
    yield Fault(
        "initial state dropped",
        "begins with states of zeros, where initial states are given",
        place,
        partial(_without_states, name=name),
        _begun(layer, "not layer(x)"),
        rank=12,
        shows=_NOT_ZERO,
    )
    for state in spec.states if len(spec.states) > 1 else ():
        yield Fault(
            "initial state dropped",
            f"begins with {state} of zeros, where an initial {state} is given",
            Place(layer.name, "", f"initial {state}"),
            partial(_zeroed, name=name, places=tuple(at for at, key in enumerate(keys) if key[0] == state)),
            _begun(layer, f"{state}_0 as well, not zeros"),
            rank=23,
            shows=_NOT_ZERO,
        )
    orders = []
    if len(spec.states) > 1:
        orders.append(
            (
                "initial h and c exchanged",
                "takes the initial c for h and h for c",
                [(_other(s), d) for s, d in keys],
                12,
                "h_0 first",
            )
        )
    if layer.bidirectional:
        orders.append(
            (
                "initial states of the directions exchanged",
                "gives each direction the initial state of the other one",
                [(s, DIRECTIONS[1 - DIRECTIONS.index(d)]) for s, d in keys],
                20,
                "those of the forward direction first",
            )
        )
    if layer.bidirectional and len(spec.states) > 1:
        by_state = [(state, direction) for state in spec.states for direction in spec.directions]
        orders.append(
            (
                "initial states in another order",
                "takes its four initial states in the order forward h, backward h, forward c, backward c, "
                "where forward h, forward c, backward h, backward c belong",
                [keys[by_state.index(key)] for key in keys],
                19,
                "in this order",
            )
        )
        orders.append(
            (
                "initial states in another order",
                "takes its four initial states in the order forward h, forward c, backward h, backward c, "
                "where forward h, backward h, forward c, backward c belong",
                [by_state[keys.index(key)] for key in keys],
                19,
                "in this order",
            )
        )
    seen: set[tuple[int, ...]] = set()
    for kind, cause, order, rank, told in orders:
        places = tuple(keys.index(key) for key in order)
        if places not in seen:
            seen.add(places)
            yield Fault(
                kind,
                cause,
                place,
                partial(_reordered, name=name, places=places),
                _begun(layer, told),
                rank=rank,
                shows=_NOT_ZERO,
            )


def _begun(layer: Recurrent, told: str) -> tuple[CallRepair, ...]:
    """A layer called with its initial states.

    Args:
        layer: of the right model.
        told: what to look at in the line.
    """
    states = [f"{state}_0" for state in layer.spec.states]
    ends = [f"{state}_n" for state in layer.spec.states]
    taken, left = (f"({', '.join(some)})" if len(some) > 1 else some[0] for some in (states, ends))
    told = f"  # {told}"
    named = [f"{way}_{state}" for way in layer.spec.directions for state in layer.spec.states]
    given = named if layer.bidirectional else states
    listed = f"[{', '.join(given)}]" if len(given) > 1 else given[0]
    torch = f"y, {left} = layer(x, {taken}){told}"
    return (CallRepair(layer.name, "initial state", torch, f"y = layer(x, initial_state={listed}){told}"),)


_OTHER_WAY = dict(zip(DIRECTIONS, reversed(DIRECTIONS), strict=True))


def _other(state: str) -> str:
    return {"h": "c", "c": "h"}[state]


def _without_states(case: Case, name: str) -> Case:
    return case.with_inputs(name, case.graph.node(name).inputs[:_FIRST])


def _zeroed(case: Case, name: str, places: tuple[int, ...]) -> Case:
    for place in places:
        case = fed(case, name, _FIRST + place, np.zeros_like)
    return case


def _reordered(case: Case, name: str, places: tuple[int, ...]) -> Case:
    inputs = case.graph.node(name).inputs
    return case.with_inputs(name, (*inputs[:_FIRST], *(inputs[_FIRST + place] for place in places)))


def _returned(case: Case, node: Node, layer: Recurrent) -> Iterator[Fault]:
    """Another final state than is wanted."""
    states, taken = final_states(node, layer), used(case)
    wanted = {key for key, wire in states.items() if wire in taken}
    repair = (
        CallRepair(
            layer.name,
            "output",
            "y, (h_n, c_n) = layer(x)  # h_n first",
            "y, state_h, state_c = layer(x)  # return_state=True",
        ),
    )
    place = Place(layer.name)
    if layer.spec.kind == "lstm" and layer.spec.state_size == layer.spec.hidden_size:
        exchanged = {wire: states[_other(state), way] for (state, way), wire in states.items()}
        if {state for state, _ in wanted} == {"h", "c"}:
            yield Fault(
                "final h and c exchanged",
                "returns c in the place of h and h in the place of c",
                place,
                lambda case: rewired(case, exchanged),
                repair,
                rank=12,
            )
        for state in sorted({state for state, _ in wanted}):
            mine = {wire: exchanged[wire] for key, wire in states.items() if key[0] == state}
            yield Fault(
                f"{_other(state)} in place of {state}",
                f"returns the final {_other(state)} where {state} belongs",
                place,
                partial(rewired, wires=mine),
                repair,
                rank=16 if state == "h" else 28,
            )
        if not layer.return_sequences and Wire(node.name) in taken and layer.merge_mode == "concat":
            cells = [states["c", way] for way in layer.spec.directions]
            yield Fault(
                "c in place of h",
                "returns the final c where h belongs",
                place,
                lambda case: given(case, Wire(node.name), lambda _, *c: np.concatenate(c, axis=-1), *cells),
                repair,
                rank=16,
            )
    if layer.bidirectional:
        found = sorted({state for state, _ in wanted})
        for some in [*([found] if len(found) > 1 else []), *([state] for state in found)]:
            crossed = {states[state, way]: states[state, _OTHER_WAY[way]] for state in some for way in DIRECTIONS}
            yield Fault(
                "final states of the directions exchanged",
                f"takes the final {' and '.join(some)} of one direction where that of the other one belongs",
                place,
                partial(rewired, wires=crossed),
                repair,
                rank=20,
            )


def _other_layers(case: Case) -> Iterator[Fault]:
    """States of one layer given to, or taken from, another one of the same size."""
    calls = list(recurrent_calls(case))
    for at, (node, layer) in enumerate(calls):
        for other, beside in calls[at + 1 :]:
            if layer.spec.states != beside.spec.states or layer.spec.directions != beside.spec.directions:
                continue
            if layer.spec.state_size != beside.spec.state_size or layer.spec.hidden_size != beside.spec.hidden_size:
                continue
            here, there = node.inputs[_FIRST:], other.inputs[_FIRST:]
            own = {wire.node for wire in (*here, *there) if wire is not None} <= set(case.inputs)
            if own and any(wire is not None and not _is_zero(case, wire) for wire in (*here, *there)):
                yield Fault(
                    "initial states of layers exchanged",
                    f"gives the layers '{layer.name}' and '{beside.name}' the initial states of each other",
                    Place(layer.name),
                    partial(_crossed, names=(node.name, other.name)),
                    (CallRepair(layer.name, "initial state", "h_0 = h_0[[1, 0]]  # the first layer's first", ""),),
                    rank=20,
                    shows=_NOT_ZERO,
                )
            pairs = zip(final_states(node, layer).values(), final_states(other, beside).values(), strict=True)
            taken = used(case)
            last = {theirs: mine for mine, theirs in pairs if theirs in taken and mine not in taken}
            if last:
                yield Fault(
                    "final state of another layer",
                    f"takes the final states of layer '{layer.name}' where those of '{beside.name}' belong",
                    Place(beside.name),
                    partial(rewired, wires=last),
                    (CallRepair(beside.name, "output", "y = h_n[-1]  # the last layer's", ""),),
                    rank=17,
                )


def _crossed(case: Case, names: tuple[str, str]) -> Case:
    first, second = (case.graph.node(name).inputs for name in names)
    case = case.with_inputs(names[0], (*first[:_FIRST], *second[_FIRST:]))
    return case.with_inputs(names[1], (*second[:_FIRST], *first[_FIRST:]))


def _carried(case: Case) -> Iterator[Fault]:
    """The states that the run before left, on the same inputs."""
    calls = list(recurrent_calls(case))
    groups = [((node.name,), layer.name) for node, layer in calls]
    everything = [(tuple(node.name for node, _ in calls), "")] if len(calls) > 1 else []
    for names, layer in [*everything, *groups]:
        yield Fault(
            "state carried over",
            "begins with the states that the call before left, on the same inputs, where every call begins anew (stateful)",
            Place(layer),
            partial(_again, names=names),
            (
                CallRepair(
                    layer,
                    "initial state",
                    "state = None  # before every new sequence\ny, state = layer(x, state)",
                    "layer.reset_state()  # before every new sequence, or stateful=False\ny = layer(x)",
                ),
            ),
            rank=15 if not layer or len(calls) == 1 else 31,
            shows="needs a second call",
        )


def _again(case: Case, names: tuple[str, ...]) -> Case:
    """Every node twice: the second time these layers begin where they ended the first time."""
    copies: dict[str, str] = {}
    nodes = list(case.graph.nodes)
    for node in case.graph.nodes:
        copies[node.name] = fresh(case, f"{node.name} before")

    def copied(wire: Wire | None) -> Wire | None:
        return wire if wire is None or wire.node not in copies else replace(wire, node=copies[wire.node])

    first = [replace(node, name=copies[node.name], inputs=tuple(map(copied, node.inputs)), source="") for node in nodes]

    def continued(node: Node) -> Node:
        if node.name not in names:
            return node
        _, layer = recurrent_call(case, node.name)
        kept = (*node.inputs, None)[:_FIRST]
        return replace(node, inputs=(*kept, *map(copied, final_states(node, layer).values())))

    second = [continued(node) for node in nodes]
    twice = replace(case.graph, nodes=(*first, *second)).without_unused()
    return replace(case, graph=twice)


__all__ = ["state_faults"]
