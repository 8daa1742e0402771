"""Whether a value can hold infinities."""

from __future__ import annotations

import numpy as np

from parity.graph.graph import Graph, Wire
from parity.graph.operations import (
    Cast,
    Concatenate,
    Constant,
    Elementwise,
    Expand,
    ExpandDims,
    Repeat,
    Reshape,
    Select,
    Slice,
    Squeeze,
    Stub,
    Take,
    Transpose,
)
from parity.graph.simplify.facts import kinds_of

_SHAPING = (Cast, Concatenate, Expand, ExpandDims, Repeat, Reshape, Select, Slice, Squeeze, Take, Transpose)
_FINITE = ("add", "subtract", "multiply", "negative", "where", "maximum", "minimum", "abs")


def is_finite(wire: Wire, graph: Graph) -> bool:
    """Whether a value is finite for certain, as long as layers with weights and sums and products of finite numbers give such.

    Inputs of floats may hold anything.

    Example:
        >>> from parity.graph import Builder
        >>> build = Builder("model")
        >>> x, valid = build.input("x", ("batch", 4)), build.input("valid", ("batch", 4), "bool")
        >>> graph = build.graph({"a": build.elementwise("where", valid, 0.0, -1e9), "b": build.add(x, 1.0)})
        >>> [is_finite(one, graph) for one in graph.outputs.values()]
        [True, False]
    """
    nodes, kinds = {node.name: node for node in graph.nodes}, kinds_of(graph)
    waiting, known = [wire], {wire}
    while waiting:
        one = waiting.pop()
        node = nodes.get(one.node)
        if kinds.get(one) in ("int64", "bool"):
            continue
        if node is None or isinstance(node.operation, Stub):
            return False
        operation, inputs = node.operation, node.inputs
        if isinstance(operation, Constant):
            if not np.all(np.isfinite(operation.value)):
                return False
            continue
        if operation.arrays.held:
            continue
        if not isinstance(operation, _SHAPING) and not (
            isinstance(operation, Elementwise) and operation.function in _FINITE
        ):
            return False
        found = [other for other in inputs if other is not None and other not in known]
        waiting += found
        known |= set(found)
    return True


__all__ = ["is_finite"]
