"""A graph that is being rewritten node by node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from parity.graph.calls import Layered
from parity.graph.graph import Graph, Node, Wire
from parity.graph.names import unused_name


class Draft:
    """The nodes of a new graph, and what has become of the values of the old one.

    Args:
        graph: the old one.

    Example:
        >>> import numpy as np
        >>> from parity.graph import Builder
        >>> build = Builder("model")
        >>> graph = build.graph({"y": build.transpose(build.input("x", ("batch", 4)), (0, 1))})
        >>> draft = Draft(graph)
        >>> draft.drop(graph.nodes[0], Wire("x"))
        >>> draft.finished().outputs
        {'y': Wire(node='x', index=0)}
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes: dict[str, Node] = {}
        self._becomes: dict[Wire, Wire] = {}
        self._calls: dict[int, int] = {}
        for node in graph.nodes:
            self._calls[id(node.operation)] = self._calls.get(id(node.operation), 0) + 1
        self._taken = {one.name for one in graph.inputs} | {node.name for node in graph.nodes}
        self._taken |= {operation.name for operation in graph.operations}

    def of(self, wire: Wire) -> Wire:
        """Where a value of the old graph is now."""
        return self._becomes.get(wire, wire)

    def producer(self, wire: Wire | None) -> Node | None:
        """The new node whose only or first value it is; None for an input of the model."""
        return None if wire is None or wire.index else self.nodes.get(wire.node)

    def keep(self, node: Node) -> Wire:
        """Adds a node to the new graph."""
        self.nodes[node.name] = node
        return Wire(node.name)

    def drop(self, node: Node, wire: Wire) -> None:
        """Leaves a node of the old graph out, whose value another one gives; that one takes over what the node was in the source."""
        self._becomes[Wire(node.name)] = wire
        producer = self.producer(wire)
        if node.source and producer is not None and not producer.source:
            self.nodes[producer.name] = replace(producer, source=node.source)

    def unique(self, wanted: str) -> str:
        """A name that nothing has yet."""
        name = unused_name(wanted, self._taken)
        self._taken.add(name)
        return name

    def name_for(self, node: Node) -> str:
        """The name of an operation that takes the place of a node's: its own, unless other nodes call that."""
        name = node.operation.name
        return name if self._calls.get(id(node.operation), 0) == 1 else self.unique(name)

    def finished(self, outputs: Mapping[str, Wire] | None = None) -> Graph:
        """The new graph, without nodes that no output needs; its outputs are where those of the old one are now, unless they are given."""
        outputs = (
            {name: self.of(wire) for name, wire in self.graph.outputs.items()} if outputs is None else dict(outputs)
        )
        return replace(self.graph, nodes=tuple(self.nodes.values()), outputs=outputs).without_unused()


def replaced(operation: Any, **changes: Any) -> Layered:
    """An operation with other options; arrays that stay in their file until they are asked for stay there.

    Example:
        >>> from parity.graph.operations import Softmax
        >>> replaced(Softmax("softmax"), axis=1).axis
        1
    """
    options = {one.name: object.__getattribute__(operation, one.name) for one in fields(operation)}
    made: Layered = type(operation)(**{**options, **changes})
    return made


__all__ = ["Draft", "replaced"]
