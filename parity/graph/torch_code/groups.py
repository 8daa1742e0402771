"""Which recurrent nodes are layers of one nn.LSTM, nn.GRU or nn.RNN, and the order in which everything is written."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from parity.forms import obstacles
from parity.graph.graph import Graph, Node, Wire
from parity.network import Dropout, Recurrent
from parity.recurrent import DIRECTIONS

_NUMBERED = re.compile(r"(.*)_l([0-9]+)\Z")


@dataclass(frozen=True)
class Group:
    """Nodes that are written as one: a single one, or the layers of a stack.

    Args:
        nodes: in order; the recurrent ones, where they are several.
        inert: the nodes of dropout between them.
    """

    nodes: tuple[Node, ...]
    inert: tuple[Node, ...] = ()

    @property
    def name(self) -> str:
        """Of the module: that which all layers of a stack share."""
        first = self.nodes[0].operation.name
        found = _NUMBERED.match(first) if len(self.nodes) > 1 else None
        return found[1] if found else first

    @property
    def members(self) -> tuple[Node, ...]:
        """All nodes."""
        return (*self.nodes, *self.inert)


def is_native(layer: Recurrent) -> bool:
    """Whether nn.LSTM, nn.GRU or nn.RNN has the cells of a layer.

    Example:
        >>> import numpy as np
        >>> from parity.recurrent import RecurrentSpec, Weights
        >>> weights = Weights(np.ones((3, 5, 2)), np.ones((3, 5, 5)))
        >>> is_native(Recurrent("gru", RecurrentSpec("gru", 2, 5, ("backward",)), (weights,), reverse=True))
        True
    """
    return not missing_in_torch(layer)


def missing_in_torch(layer: Recurrent) -> tuple[str, ...]:
    """Why torch's own layers cannot compute the directions of a layer, in words; what is done around them is none of that."""
    ways = DIRECTIONS[: len(layer.spec.directions)]
    plain = replace(layer, spec=replace(layer.spec, directions=ways), merge_mode="concat", reverse=False)
    return obstacles(plain, "torch")


def groups_of(graph: Graph, more: Callable[[Node], Node | None] = lambda _: None) -> list[Group]:
    """The nodes of a graph as they are written, each after what it takes.

    Args:
        graph: what is written.
        more: another node that has to be written before one.
    """
    found: list[Group] = []
    placed: set[str] = set()
    for node in graph.nodes:
        if node.name in placed:
            continue
        group = _stack(graph, node)
        found.append(group)
        placed |= {one.name for one in group.members}
    return _ordered(graph, found, more) or _ordered(graph, [Group((node,)) for node in graph.nodes], more) or []


def _stack(graph: Graph, first: Node) -> Group:
    """The stack that a node is the lowest layer of; it alone if there is none."""
    number = _NUMBERED.match(first.name)
    if number is None or number[2] != "0" or not _may_stack(graph, first):
        return Group((first,))
    layers, inert, rates = [first], [], set()
    while True:
        below = layers[-1]
        dropout, above = _above(graph, below)
        if above is None or above.name != f"{number[1]}_l{len(layers)}" or not _fits(graph, below, above):
            break
        rates.add(0.0 if dropout is None else dropout.operation.rate)  # type: ignore[union-attr]
        if len(rates) > 1:
            break
        layers.append(above)
        inert += [dropout] if dropout is not None else []
    return Group(tuple(layers), tuple(inert)) if len(layers) > 1 and len(rates) == 1 else Group((first,))


def _above(graph: Graph, node: Node) -> tuple[Node | None, Node | None]:
    """The only layer that takes the sequence of another, and the dropout between."""
    takers, dropout = graph.takers(), None
    wire = Wire(node.name)
    while True:
        found = takers.get(wire, [])
        if len(found) != 1 or wire in graph.outputs.values():
            return None, None
        (taker,) = found
        if isinstance(taker.operation, Dropout) and dropout is None:
            dropout, wire = taker, Wire(taker.name)
            continue
        is_layer = isinstance(taker.operation, Recurrent) and taker.inputs.count(wire) == 1 and taker.inputs[0] == wire
        return (dropout, taker) if is_layer else (None, None)


def _may_stack(graph: Graph, node: Node) -> bool:
    layer = node.operation
    if not isinstance(layer, Recurrent) or not is_native(layer):
        return False
    alone = sum(one.operation is layer for one in graph.nodes) == 1
    return alone and layer.spec.directions in (DIRECTIONS[:1], DIRECTIONS)


def _fits(graph: Graph, below: Node, above: Node) -> bool:
    lower, upper = below.operation, above.operation
    if not _may_stack(graph, above) or not isinstance(lower, Recurrent) or not isinstance(upper, Recurrent):
        return False
    hands_on = lower.return_sequences and not lower.merges and not lower.reverse
    alike = _kind(lower) == _kind(upper)
    masks = [node.inputs[1] if len(node.inputs) > 1 else None for node in (below, above)]
    states = [any(wire is not None for wire in node.inputs[2:]) for node in (below, above)]
    return hands_on and alike and masks[0] == masks[1] and states[0] == states[1]


def _kind(layer: Recurrent) -> tuple[object, ...]:
    """What the layers of a stack have in common."""
    spec = layer.spec
    return spec.kind, spec.hidden_size, spec.projection_size, spec.directions, layer.has_bias, layer.cells


def _ordered(graph: Graph, groups: list[Group], more: Callable[[Node], Node | None]) -> list[Group] | None:
    """Groups after those they take from, else in their order; None if they go in a circle."""
    known = {given.name for given in graph.inputs}
    waiting, found = list(groups), []
    needs = {id(group): _needs(group, more) for group in groups}
    while waiting:
        ready = next((group for group in waiting if needs[id(group)] <= known), None)
        if ready is None:
            return None
        waiting.remove(ready)
        found.append(ready)
        known |= {node.name for node in ready.members}
    return found


def _needs(group: Group, more: Callable[[Node], Node | None]) -> set[str]:
    """Names of the nodes and inputs that a group takes from, or has to be written after."""
    found = {wire.node for node in group.members for wire in node.inputs if wire is not None}
    found |= {other.name for node in group.members if (other := more(node)) is not None}
    return found - {node.name for node in group.members}


__all__ = ["Group", "groups_of", "is_native", "missing_in_torch"]
