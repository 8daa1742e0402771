"""Values of a model sent another way: what faults of sequences, states and masks are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from parity.deferred import Array
from parity.diagnosis.case import Case
from parity.errors import ShapeError
from parity.graph.calls import Layered
from parity.graph.graph import Node, Wire
from parity.graph.operations.operation import Plain, Shape
from parity.network import Recurrent
from parity.reference import Rounding

Formula: TypeAlias = "Callable[..., Array]"
Reshaping: TypeAlias = "Callable[[Shape], Shape]"


@dataclass(frozen=True, eq=False)
class Moved(Plain):
    """Numbers taken from other places, or none of them: what a mistake in code around a layer does.

    Args:
        name: unique among the operations of a graph.
        formula: of arrays.
        shape: of what it gives, from that of its first input; None for the same.

    Example:
        >>> Moved("first", lambda x: x[:, 0], without_steps).shapes((2, 3, 4))
        ((2, 4),)
    """

    formula: Formula
    shape: Reshaping | None = None

    def shapes(self, *shapes: Shape | None) -> tuple[Shape, ...]:
        """Of what it gives."""
        if not shapes or shapes[0] is None:
            raise ShapeError("nothing to change", self.name)
        return (shapes[0] if self.shape is None else self.shape(shapes[0]),)

    def compute(self, *values: Any, rounding: Rounding) -> tuple[Any, ...]:
        """The formula."""
        return (self.formula(*values),)


def recurrent_calls(case: Case) -> Iterator[tuple[Node, Recurrent]]:
    """Every call of a recurrent layer of a whole sequence, in order."""
    return ((node, node.operation) for node in case.graph.nodes if isinstance(node.operation, Recurrent))


def recurrent_call(case: Case, name: str) -> tuple[Node, Recurrent]:
    """One of them.

    Raises:
        KeyError: no node of this name calls a recurrent layer.
    """
    node = case.graph.node(name)
    if not isinstance(node.operation, Recurrent):
        raise KeyError(name)
    return node, node.operation


def fed(case: Case, name: str, place: int, formula: Formula, *others: Wire, shape: Reshaping | None = None) -> Case:
    """The same with one value changed that a node takes; others that take it keep it.

    Args:
        name: of the node.
        place: which of its inputs.
        formula: of the value and of `others`, which are made before the node.
        shape: see `Moved`.
    """
    node = case.graph.node(name)
    wire = node.inputs[place]
    if wire is None:
        raise ValueError(f"'{name}' takes nothing there")
    new = Node(fresh(case, f"{name} input {place}"), Moved(f"{name} input {place}", formula, shape), (wire, *others))
    inputs = (*node.inputs[:place], Wire(new.name), *node.inputs[place + 1 :])
    return placed(case, name, [new], replace(node, inputs=inputs))


def given(case: Case, wire: Wire, formula: Formula, *others: Wire, shape: Reshaping | None = None) -> Case:
    """The same with a value changed for all who take it: by a formula of it and of `others`, which are made no later than it."""
    return case.with_behind(wire, Moved(f"{wire.node} changed", formula, shape), *others)


def placed(case: Case, name: str, before: list[Node], node: Node) -> Case:
    """The same with a node in the place of another, and more nodes before it."""
    nodes = [one for own in case.graph.nodes for one in ((*before, node) if own.name == name else (own,))]
    return replace(case, graph=replace(case.graph, nodes=tuple(nodes)))


def calling(case: Case, name: str, operation: Layered) -> Case:
    """The same with one node calling another operation."""
    return placed(case, name, [], replace(case.graph.node(name), operation=operation))


def rewired(case: Case, wires: Mapping[Wire, Wire]) -> Case:
    """The same with values exchanged for others, all at once; each is made no later than what it stands for."""
    nodes = tuple(
        replace(node, inputs=tuple(None if one is None else wires.get(one, one) for one in node.inputs))
        for node in case.graph.nodes
    )
    outputs = {key: wires.get(one, one) for key, one in case.graph.outputs.items()}
    return replace(case, graph=replace(case.graph, nodes=nodes, outputs=outputs))


def fresh(case: Case, name: str) -> str:
    """A name that nothing in the graph has."""
    taken = {node.name for node in case.graph.nodes} | {one.name for one in case.graph.inputs}
    while name in taken:
        name += "'"
    return name


def final_states(node: Node, layer: Recurrent) -> dict[tuple[str, str], Wire]:
    """The final states of a call, by state and direction."""
    keys = [(state, direction) for direction in layer.spec.directions for state in layer.spec.states]
    return {key: Wire(node.name, len(layer.given) + place) for place, key in enumerate(keys)}


def used(case: Case) -> set[Wire]:
    """Values that a node takes or that the model gives."""
    return set(case.graph.takers()) | set(case.graph.outputs.values())


def mask_of(node: Node) -> Wire | None:
    """The mask of a call of a recurrent layer."""
    return node.inputs[1] if len(node.inputs) > 1 else None


def halves(y: Array) -> tuple[Array, Array]:
    """What the forward and the backward direction give of a concatenated output."""
    half = y.shape[-1] // 2
    return y[..., :half], y[..., half:]


def without_steps(shape: Shape) -> Shape:
    """The shape of a step of (batch, time, features)."""
    return (shape[0], *shape[2:])


def time_first(shape: Shape) -> Shape:
    """The shape with batch and time exchanged."""
    return (shape[1], shape[0], *shape[2:])


def later(x: Array) -> Array:
    """Every step one later; the first is zero."""
    return np.concatenate([np.zeros_like(x[:, :1]), x[:, :-1]], axis=1)


def earlier(x: Array) -> Array:
    """Every step one earlier; the last is zero."""
    return np.concatenate([x[:, 1:], np.zeros_like(x[:, :1])], axis=1)


__all__ = [
    "Formula",
    "Moved",
    "Reshaping",
    "calling",
    "earlier",
    "fed",
    "final_states",
    "fresh",
    "given",
    "halves",
    "later",
    "mask_of",
    "placed",
    "recurrent_call",
    "recurrent_calls",
    "rewired",
    "time_first",
    "used",
    "without_steps",
]
