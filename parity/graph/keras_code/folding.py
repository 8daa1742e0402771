"""What is done to a graph before it is written: constants computed, activations found that a layer can say itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from parity.graph.calls import computed
from parity.graph.graph import Graph, Node, Wire
from parity.graph.keras_code.spatial import fuses
from parity.graph.operations import Activation, Constant, Convolution, Range, Softmax, Stub
from parity.graph.operations.operation import normalized
from parity.network import Dense
from parity.reference import Exact


def constants_folded(graph: Graph) -> Graph:
    """The same model where nothing is computed from constants alone that are no parameters.

    Example:
        >>> from parity.graph.builder import Builder
        >>> build = Builder("model")
        >>> x = build.input("x", ("batch", 3))
        >>> two = build.add(build.constant(1.0), 1.0)
        >>> [type(node.operation).__name__ for node in constants_folded(build.graph({"y": build.add(x, two)})).nodes]
        ['Constant', 'Elementwise']
    """
    values: dict[Wire, np.ndarray[tuple[int, ...], np.dtype[np.generic]]] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        operation = node.operation
        if isinstance(operation, Constant):
            if not operation.trained:
                values[Wire(node.name)] = np.asarray(operation.value)
        elif node.inputs and all(wire in values for wire in node.inputs) and not isinstance(operation, (Stub, Range)):
            found = computed(operation, [None if wire is None else values[wire] for wire in node.inputs], Exact())
            if len(found) == 1:
                array = np.asarray(found[0])
                array = array.astype(np.float32) if array.dtype.kind == "f" else array
                values[Wire(node.name)] = array
                nodes.append(replace(node, operation=Constant(operation.name, array), inputs=()))
                continue
        nodes.append(node)
    return replace(graph, nodes=tuple(nodes)).without_unused()


def fused(graph: Graph) -> dict[str, str]:
    """Layer -> activation: which nodes become the `activation` of the layer before them.

    It must be the only one that takes the layer's value, Keras must have it under a name, and only one of both may be a layer of the
    user's own: else one of the names would be lost.
    """
    takers, outputs = graph.takers(), set(graph.outputs.values())
    calls = [id(node.operation) for node in graph.nodes]
    shapes = graph.shapes({word: 1009 + index for index, word in enumerate(graph.words)})
    found: dict[str, str] = {}
    for node in graph.nodes:
        wire = Wire(node.name)
        following = takers.get(wire, [])
        if not _takes_activation(node) or len(following) != 1 or wire in outputs or calls.count(id(node.operation)) > 1:
            continue
        (after,) = following
        both = bool(node.source and after.source and node.source != after.source)
        if not both and _is_named(after, len(shapes.get(wire, ()))):
            found[node.name] = after.name
    return found


def _takes_activation(node: Node) -> bool:
    operation = node.operation
    return (isinstance(operation, Dense) and operation.activation == "linear") or (
        isinstance(operation, Convolution) and fuses(operation)
    )


def _is_named(node: Node, rank: int) -> bool:
    """Whether an option of a layer says the activation."""
    operation = node.operation
    if isinstance(operation, Softmax):
        return rank > 1 and normalized(operation.axis, rank) == rank - 1
    return isinstance(operation, Activation) and operation.function.keras_name not in (None, "linear")


__all__ = ["constants_folded", "fused"]
