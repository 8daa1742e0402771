"""The first layer that differs: each layer of a whole model judged on the very inputs that it got."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from parity.deferred import Array
from parity.diagnosis.case import Case
from parity.graph.graph import Wire
from parity.graph.judging import layer_rows_of


def differing_layers(case: Case, seen: Mapping[Wire, Array]) -> Iterator[str]:
    """The operations that do not give what the right model's give on the same inputs, in the order of the data.

    Args:
        case: the right model on the inputs.
        seen: values inside the suspect, by the right model's wires.
    """
    found: dict[str, None] = {}
    for place, row in layer_rows_of(case.graph, "suspect", seen, case.inputs):
        if row.verdict == "disagree":
            found[case.graph.nodes[place].operation.name] = None
    yield from found


__all__ = ["differing_layers"]
