"""The layers of a whole model for the record: their order, kinds, shapes and weights, and the rows that judge them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from parity.errors import ParityError
from parity.findings import Findings
from parity.graph.graph import Graph, Node, Wire
from parity.graph.operations import Constant
from parity.graph.operations.stub import Stub
from parity.network import Recurrent

Record = dict[str, Any]

_MOST_WEIGHTS = 24
_ENDINGS = re.compile(r"(, before its activation)?(, value \d+)?$")


def architecture_record(findings: Findings) -> list[Record]:
    """The layers of the first source in the order of the data; empty unless it was compared as a whole model.

    Args:
        findings: to be recorded.

    Returns:
        For each layer its name and kind, the shape of what it gives on these inputs (None where that is not known), the layers that it
        takes from, the names and shapes of its weights, and the quantities of the rows by rule "layer" that judge it, alone or together
        with others.
    """
    if not isinstance(findings.inputs, dict):
        return []
    graph = findings.sources[0].graph
    judged = dict.fromkeys(row.quantity for row in findings.table if row.rule == "layer")
    owners = {quantity: owners_of(quantity, _names(graph)) for quantity in judged}
    named = {owner for found in owners.values() for owner in found}
    shown = [node for node in graph.nodes if _is_layer(node) or (node.source or node.name) in named]
    shapes = _shapes(graph, findings.inputs)
    found: dict[str, Record] = {}
    for node in shown:
        name = node.source or node.name
        layer = found.setdefault(
            name, {"name": name, "kind": "", "shape": None, "takes": [], "weights": [], "quantities": []}
        )
        layer["kind"] = _kind(node)
        layer["shape"] = shapes.get(Wire(node.name))
        layer["takes"] = list(dict.fromkeys((*layer["takes"], *(one for one in _before(graph, node) if one != name))))
        held = node.operation.arrays.shapes.items()
        layer["weights"] = [*layer["weights"], *([weight, list(shape)] for weight, shape in held)][:_MOST_WEIGHTS]
    for quantity, names in owners.items():
        for name in names:
            if name in found:
                found[name]["quantities"].append(quantity)
    return list(found.values())


def owners_of(quantity: str, names: Collection[str]) -> tuple[str, ...]:
    """The layers that a row by rule "layer" judges: one, or several together.

    Example:
        >>> owners_of("layer a and b, value 1", ["a", "b"]), owners_of("layer salt and pepper", ["pepper", "salt and pepper"])
        (('a', 'b'), ('salt and pepper',))
    """
    text = quantity.removeprefix("layer ")
    for candidate in (text, _ENDINGS.sub("", text)):
        if found := _joined(candidate, names):
            return found
    return ()


def _joined(text: str, names: Collection[str]) -> tuple[str, ...]:
    """Names with " and " between them; none where a part of the text is no name."""
    if text in names:
        return (text,)
    for name in sorted(names, key=len, reverse=True):
        if text.endswith(f" and {name}") and (before := _joined(text.removesuffix(f" and {name}"), names)):
            return (*before, name)
    return ()


def _names(graph: Graph) -> list[str]:
    return list(dict.fromkeys(name for node in graph.nodes for name in (node.source, node.name) if name))


def _is_layer(node: Node) -> bool:
    return not isinstance(node.operation, Constant) and bool(node.source or node.operation.arrays.held)


def _is_constant(node: Node | None) -> bool:
    return node is not None and isinstance(node.operation, Constant)


def _kind(node: Node) -> str:
    operation = node.operation
    if isinstance(operation, Stub):
        return operation.class_name
    if isinstance(operation, Recurrent):
        ways = operation.spec.directions
        return operation.spec.kind.upper() + (", both directions" if len(ways) > 1 else "")
    return type(operation).__name__


def _before(graph: Graph, node: Node) -> Iterator[str]:
    """The layers and inputs that a layer takes from, through values in between of one origin; where several meet, that value itself."""
    nodes = {one.name: one for one in graph.nodes}
    waiting = [wire.node for wire in node.inputs if wire is not None and not _is_constant(nodes.get(wire.node))]
    seen: set[str] = set()
    while waiting:
        name = waiting.pop(0)
        if name in seen:
            continue
        seen.add(name)
        one = nodes.get(name)
        if one is None:
            yield name
        elif _is_layer(one):
            yield one.source or one.name
        else:
            origins = [wire.node for wire in one.inputs if wire is not None and not _is_constant(nodes.get(wire.node))]
            if len(set(origins)) > 1:
                yield name
            else:
                waiting += origins


def _shapes(graph: Graph, inputs: Mapping[str, Any]) -> dict[Wire, list[int]]:
    """Shape of every value on these inputs; none where an operation cannot say it."""
    lengths: dict[str, int] = {}
    for one in graph.inputs:
        lengths |= {word: n for word, n in zip(one.shape, inputs[one.name].shape, strict=True) if isinstance(word, str)}
    try:
        return {wire: list(map(int, shape)) for wire, shape in graph.shapes(lengths).items()}
    except (ParityError, KeyError, TypeError):  # a length that depends on values
        return {}


__all__ = ["architecture_record", "owners_of"]
