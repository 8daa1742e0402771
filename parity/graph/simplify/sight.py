"""Values that somebody takes, and values that nobody else does."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from parity.graph.graph import Graph, Node, Wire
from parity.graph.lengths import Lengths, lengths_of
from parity.graph.operations import Constant
from parity.graph.simplify.facts import kinds_of


@dataclass
class Sight:
    """What is known of every value of a graph, for those who look for several nodes that say together what one could.

    Args:
        graph: in which they look.

    Example:
        >>> from parity.graph import Builder
        >>> build = Builder("model")
        >>> value = build.activation("relu", build.input("x", ("batch", 4)))
        >>> sight = Sight(build.graph({"y": build.activation("tanh", value)}))
        >>> sight.inner(value).name, sight.inner(Wire("tanh"))
        ('relu', None)
    """

    graph: Graph
    lengths: dict[Wire, Lengths] = field(init=False)

    def __post_init__(self) -> None:
        self.lengths, self.kinds, self.takers = lengths_of(self.graph), kinds_of(self.graph), self.graph.takers()
        self.nodes = {node.name: node for node in self.graph.nodes}
        self.outputs = set(self.graph.outputs.values())

    def producer(self, wire: Wire | None) -> Node | None:
        """The node whose first value it is."""
        return None if wire is None or wire.index else self.nodes.get(wire.node)

    def inner(self, wire: Wire | None, times: int = 1) -> Node | None:
        """The node that gives a value which nobody else takes or asks for."""
        node = self.producer(wire)
        if node is None or wire is None or wire in self.outputs or len(self.takers.get(wire, ())) != times:
            return None
        # Every node of ONNX has a name; elsewhere a name is that of a layer, which would be gone.
        return node if not node.source or self.graph.origin.startswith("onnx") else None

    def scalar(self, wire: Wire | None) -> float | None:
        """The number of a constant that is one and no parameter."""
        node = self.producer(wire)
        constant = None if node is None else node.operation
        if not isinstance(constant, Constant) or constant.trained or constant.held("value").size != 1:
            return None
        return float(np.asarray(constant.value).reshape(()))


__all__ = ["Sight"]
