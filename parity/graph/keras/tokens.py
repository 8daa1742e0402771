"""Integers for tables: which input of the model they come from, and how large they may be."""

from __future__ import annotations

from dataclasses import replace

from parity.graph.builder import Builder
from parity.graph.graph import Wire
from parity.graph.operations import Cast, ExpandDims, Flip, Reshape, Select, Slice, Squeeze, Transpose

_MOVING = (ExpandDims, Flip, Reshape, Select, Slice, Squeeze, Transpose)


def as_tokens(build: Builder, wire: Wire, below: int) -> Wire:
    """A value as the integers that a table of so many rows takes, cut towards zero as Keras does it.

    An input of the model that it leads back to is one of integers below that.
    """
    nodes = {node.name: node for node in build.nodes}
    place = wire.node
    while place in nodes and isinstance(nodes[place].operation, _MOVING) and nodes[place].inputs[0] is not None:
        place = nodes[place].inputs[0].node  # type: ignore[union-attr]
    for number, given in enumerate(build.inputs):
        if given.name == place:
            limit = below if given.below is None else min(given.below, below)
            build.inputs[number] = replace(given, dtype="int64", below=limit)
            return wire
    node = nodes.get(place)
    whole = node is not None and isinstance(node.operation, Cast) and node.operation.dtype == "int64"
    return wire if whole else build.cast(wire, "int64")


__all__ = ["as_tokens"]
