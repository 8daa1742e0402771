"""Which layer of a suspect a layer of the right model is, under the name that the suspect's own framework has for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from parity.graph.calls import Layered
from parity.graph.graph import Graph, Node, Wire
from parity.graph.matching import weighted_nodes
from parity.graph.operations import Activation, Softmax
from parity.network import Dense


@dataclass(frozen=True, eq=False)
class Site:
    """A layer of the right model, and the suspect's.

    Args:
        right: the operation of the right model.
        source: what the suspect's framework calls its own; "" for one that its code computes between layers.
        behind: what it calls that which stands behind the layer and has no weights: activations.
        own: the suspect's operation, where it has weights.
    """

    right: Layered
    source: str
    behind: tuple[str, ...] = ()
    own: Layered | None = None


def sites(first: Graph, other: Graph) -> dict[str, Site]:
    """Every layer of the right model that is found in the suspect, by its name.

    Layers with weights are each other's in the order of the data, if both sides have the same kinds; an activation is where the layer
    with weights is that it follows; others are each other's if they are alone of their kind.

    Args:
        first: the right model.
        other: the suspect.
    """
    ours, theirs = weighted_nodes(first), weighted_nodes(other)
    kinds = [[type(node.operation) for node in nodes] for nodes in (ours, theirs)]
    pairs = (
        dict(zip((node.name for node in ours), theirs, strict=True)) if kinds[0] == kinds[1] else _alone(ours, theirs)
    )
    found = {
        node.operation.name: Site(
            node.operation,
            _source(other, pairs[node.name]),
            tuple(_behind(other, pairs[node.name])),
            pairs[node.name].operation,
        )
        for node in ours
        if node.name in pairs
    }
    for node in first.nodes:
        if node.operation.name in found:
            continue
        if isinstance(node.operation, Activation | Softmax):
            before = _weighted_before(first, node)
            if before is not None and before.operation.name in found:
                there = found[before.operation.name]
                found[node.operation.name] = Site(node.operation, there.source, there.behind)
            continue
        single = _alone([node], [one for one in other.nodes if type(one.operation) is type(node.operation)])
        if node.name in single and sum(type(one.operation) is type(node.operation) for one in first.nodes) == 1:
            found[node.operation.name] = Site(node.operation, _source(other, single[node.name]))
    return found


def _alone(ours: list[Node], theirs: list[Node]) -> dict[str, Node]:
    """Nodes of a kind of which there is one on each side."""
    found = {}
    for node in ours:
        kind = type(node.operation)
        mine, yours = ([one for one in nodes if type(one.operation) is kind] for nodes in (ours, theirs))
        if len(mine) == len(yours) == 1:
            found[node.name] = yours[0]
    return found


def _source(graph: Graph, node: Node) -> str:
    """The layer that a node is; of a dense one, the layer that gives it with its activation."""
    if node.source or not isinstance(node.operation, Dense):
        return node.source
    return next(iter(_behind(graph, node)), "")


def _behind(graph: Graph, node: Node) -> Iterator[str]:
    """The names of what stands behind a node, one after the other, up to the next layer with weights."""
    takers = graph.takers()
    while True:
        after = takers.get(Wire(node.name), [])
        if not after or any(one.operation.arrays.held and one.inputs[0] != Wire(node.name) for one in after):
            return
        node = after[-1]
        if node.operation.arrays.held and not _is_constant(node):
            return
        if node.source:
            yield node.source


def _is_constant(node: Node) -> bool:
    return not node.inputs


def _weighted_before(graph: Graph, node: Node) -> Node | None:
    """The layer with weights whose values a node takes."""
    made = {one.name: one for one in graph.nodes}
    while node.inputs and node.inputs[0] is not None and node.inputs[0].node in made:
        node = made[node.inputs[0].node]
        if node.operation.arrays.held:
            return node
    return None


__all__ = ["Site", "sites"]
