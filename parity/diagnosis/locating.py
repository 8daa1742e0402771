"""The first layer that differs: each layer of a whole model judged on the very inputs that it got."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from parity.deferred import Array
from parity.diagnosis.case import Case
from parity.graph.graph import Node, Wire
from parity.graph.judging import layer_rows_of


def differing_layers(case: Case, seen: Mapping[Wire, Array]) -> Iterator[tuple[str, ...]]:
    """The operations that do not give what the right model's give on the same inputs, in the order of the data.

    Args:
        case: the right model on the inputs.
        seen: values inside the suspect, by the right model's wires.

    Yields:
        The names of one operation, or of several, the last of which alone shows what it gives: they are judged together.
    """
    places = {node.name: place for place, node in enumerate(case.graph.nodes)}
    for place, row in layer_rows_of(case.graph, "suspect", seen, case.inputs):
        if row.verdict == "disagree":
            node = case.graph.nodes[place]
            together = sorted((node, *_before(case, node, seen)), key=lambda one: places[one.name])
            yield tuple(dict.fromkeys(one.operation.name for one in together))


def _before(case: Case, node: Node, seen: Mapping[Wire, Array]) -> Iterator[Node]:
    """The operations between a node and the values that are known."""
    made = {one.name: one for one in case.graph.nodes}
    waiting, done = [node], {node.name}
    while waiting:
        for wire in waiting.pop().inputs:
            if wire is not None and wire not in seen and wire.node in made and wire.node not in done:
                done.add(wire.node)
                waiting.append(made[wire.node])
                yield made[wire.node]


__all__ = ["differing_layers"]
