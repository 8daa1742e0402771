"""The layers of a whole model in words and shapes, for people and for records."""

from __future__ import annotations

from collections.abc import Iterator

from parity.graph.graph import Graph, Wire
from parity.graph.lengths import axes_of, shown
from parity.graph.operations.stub import Stub
from parity.network import Recurrent


def graph_facts(graph: Graph) -> Iterator[dict[str, object]]:
    """Every node that stands for a layer of the source, or has weights: its name, its family, features (or shapes) in and out, options.

    Example:
        >>> from parity.graph import Builder
        >>> build = Builder("model")
        >>> graph = build.graph({"y": build.softmax(build.input("x", ("batch", 3)), name="share", source="share")})
        >>> next(graph_facts(graph))
        {'name': 'share', 'family': 'Softmax', 'input': '(batch, 3)', 'output': '(batch, 3)', 'axis': -1, 'log': False}
    """
    axes = axes_of(graph)
    for node in graph.nodes:
        operation = node.operation
        if not node.source and not operation.arrays.held:
            continue
        family = operation.class_name if isinstance(operation, Stub) else type(operation).__name__
        facts: dict[str, object] = {"name": node.source or node.name, "family": family}
        first = next((wire for wire in node.inputs if wire is not None), None)
        for key, wire in (("input", first), ("output", Wire(node.name))):
            size = getattr(operation, f"{key}_size", None)
            if size is not None:
                facts[key] = size
            elif wire is not None and wire in axes:
                facts[key] = shown(axes[wire])
        state = {"state": operation.spec.state_size} if isinstance(operation, Recurrent) else {}
        yield {**facts, **{key: value for key, value in operation.facts.items() if key not in facts}, **state}


__all__ = ["graph_facts"]
