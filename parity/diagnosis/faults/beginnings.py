"""Initial states that are not zero, where a right model begins with zeros: ones, or those that the suspect itself says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial

import numpy as np

from parity.deferred import Array
from parity.diagnosis.case import Case
from parity.diagnosis.fault import Fault, Place
from parity.diagnosis.faults.layers import in_turn, together
from parity.diagnosis.faults.wiring import Moved, fresh, placed, recurrent_call, recurrent_calls
from parity.diagnosis.repair import CallRepair
from parity.errors import ParityError
from parity.graph.graph import Graph, Node, Wire
from parity.graph.operations import Constant
from parity.graph.operations.operation import Shape
from parity.network import Recurrent

_FIRST = 2
"""The place of the first initial state among what a recurrent layer takes: behind the sequence and the mask."""

Start = Mapping[tuple[str, str], Array]
"""Initial states of one sample, (features,), by state and direction."""


def beginning_faults(case: Case) -> Iterator[Fault]:
    """Initial states of ones, of all layers together or of one, in a model that begins with zeros.

    Args:
        case: the right model.
    """
    yield from together(case, _ones(case))


def _ones(case: Case) -> Iterator[Fault]:
    for node, layer in recurrent_calls(case):
        if not _begins_with_zeros(case, node):
            continue
        for ones in _of_ones(layer):
            which = dict.fromkeys(state for (state, _), row in ones.items() if row.any())
            words = "" if len(which) == len(layer.spec.states) else f" in {', '.join(which)}"
            yield _fault(node, layer, f"begins with ones{words}, where initial states of zeros belong", ones, 36)


def _of_ones(layer: Recurrent) -> Iterator[Start]:
    """Ones in every state, and in h alone."""
    spec = layer.spec
    for states in dict.fromkeys((spec.states, spec.states[:1])):
        yield {
            (state, way): np.full(_size(layer, state), float(state in states))
            for way in spec.directions
            for state in spec.states
        }


def told_states(case: Case, suspect: Case) -> Iterator[Fault]:
    """Initial states that the suspect's own graph has, the same for every sample, where the right model begins with zeros or with others.

    Args:
        case: the right model.
        suspect: the suspect as it was read, on the same inputs.
    """
    mine, theirs = list(recurrent_calls(case)), list(recurrent_calls(suspect))
    if [_kind(layer) for _, layer in mine] != [_kind(layer) for _, layer in theirs]:
        return
    right, values = _values(case), _values(suspect)
    if right is None or values is None:
        return
    found = list(_told(case, suspect.graph, list(zip(mine, theirs, strict=True)), (right, values)))
    yield from together(case, found)
    if len({fault.cause for fault in found}) > 1:
        cause = ", and ".join(f"in layer '{fault.place.layer}' {fault.cause}" for fault in found)
        repair = tuple(step for fault in found for step in fault.repair or ())
        yield Fault(found[0].name, cause, Place(), in_turn(*(one.replay for one in found)), repair or None, rank=34)


def _told(
    case: Case,
    graph: Graph,
    calls: list[tuple[tuple[Node, Recurrent], tuple[Node, Recurrent]]],
    values: tuple[Mapping[Wire, Array], Mapping[Wire, Array]],
) -> Iterator[Fault]:
    for (node, layer), (other, _) in calls:
        start, own = _start(other, layer, values[1]), _start(node, layer, values[0])
        zeros = _begins_with_zeros(case, node)
        if start is None or (own is None and not zeros):
            continue
        if own is not None and all(np.allclose(start[key], own[key], rtol=1e-5, atol=1e-7) for key in start):
            continue
        if not any(one.any() for one in start.values()):
            continue
        if zeros and any(all(map(np.array_equal, start.values(), ones.values())) for ones in _of_ones(layer)):
            continue
        names = dict.fromkeys(name for wire in other.inputs[_FIRST:] if (name := _origin(graph, wire)))
        called = f" ({', '.join(map(repr, names))})" if names else ""
        belong = "initial states of zeros belong" if zeros else "others belong"
        words = f"begins with states of its own{called}, where {belong}"
        yield _fault(
            node, layer, words, start, 34, "initial state that is not zero" if zeros else "other initial state"
        )


def _fault(
    node: Node, layer: Recurrent, cause: str, start: Start, rank: int, name: str = "initial state that is not zero"
) -> Fault:
    lines = ("y, (h_n, c_n) = layer(x)" if layer.spec.kind == "lstm" else "y, h_n = layer(x)", "y = layer(x)")
    replay = partial(_begun, name=node.name, start=start)
    repair = (CallRepair(layer.name, "initial state", *(f"{line}  # without initial states" for line in lines)),)
    return Fault(name, cause, Place(layer.name), replay, repair if "zero" in name else None, rank=rank)


def _begun(case: Case, name: str, start: Start) -> Case:
    """The same states for every sample."""
    node, layer = recurrent_call(case, name)
    x = node.inputs[0]
    if x is None:
        raise ValueError(f"'{name}' takes no sequence")
    made = []
    for way in layer.spec.directions:
        for state in layer.spec.states:
            words, row = fresh(case, f"{name} initial {state} {way}"), start[state, way]
            made.append(Node(words, Moved(words, partial(_rows, row=row), partial(_shape, row=row)), (x,)))
    inputs = (*(*node.inputs, None)[:_FIRST], *(Wire(one.name) for one in made))
    return placed(case, name, made, replace(node, inputs=inputs))


def _rows(x: Array, row: Array) -> Array:
    return np.tile(row.astype(np.float64), (len(x), 1))


def _shape(shape: Shape, row: Array) -> Shape:
    return (shape[0], len(row))


def _begins_with_zeros(case: Case, node: Node) -> bool:
    """Whether a call has no initial states, or zeros of the case."""
    given = [wire for wire in node.inputs[_FIRST:] if wire is not None]
    return all(wire.node in case.inputs and not np.any(case.inputs[wire.node]) for wire in given)


def _values(case: Case) -> dict[Wire, Array] | None:
    try:
        return case.graph.values(case.inputs)
    except (ParityError, ValueError):
        return None


def _start(node: Node, layer: Recurrent, values: Mapping[Wire, Array]) -> Start | None:
    """The initial states of one sample; None where there are none, or where samples have others."""
    wires = [wire for wire in node.inputs[_FIRST:] if wire is not None]
    keys = [(state, way) for way in layer.spec.directions for state in layer.spec.states]
    arrays = [values[wire] for wire in wires]
    if len(arrays) != len(keys) or any(one.ndim != 2 or not len(one) or (one != one[:1]).any() for one in arrays):
        return None
    return {key: one[0] for key, one in zip(keys, arrays, strict=True)}


def _origin(graph: Graph, wire: Wire | None) -> str:
    """The trained weight that a value is made of; "" where it is none."""
    made = {node.name: node for node in graph.nodes}
    while wire is not None and wire.node in made:
        node = made[wire.node]
        if isinstance(node.operation, Constant):
            return node.name if node.operation.trained else ""
        wire = node.inputs[0] if node.inputs else None
    return ""


def _size(layer: Recurrent, state: str) -> int:
    return int(layer.spec.state_shape(state, 1)[-1])


def _kind(layer: Recurrent) -> object:
    return layer.spec.kind, layer.spec.hidden_size, layer.spec.state_size, layer.spec.directions


__all__ = ["beginning_faults", "told_states"]
