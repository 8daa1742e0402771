"""Statements that most writers of operations have in common: one call of a layer or a function gives a node's value."""

from __future__ import annotations

from parity.graph.graph import Node, Wire
from parity.graph.keras_code.text import Group, call
from parity.graph.keras_code.values import Made, Value
from parity.graph.keras_code.writing import Writing


def tensors_of(writing: Writing, node: Node) -> list[Value]:
    """What a node takes, as tensors of Keras."""
    return [writing.value(wire, tensor=True) for wire in node.inputs if wire is not None]


def give_layer(writing: Writing, node: Node, made: Made, *values: Value) -> None:
    """The node's value is what a layer gives of these values."""
    writing.give(node, writing.layer(node, made, *values, comment=writing.shape_comment(Wire(node.name))))


def give_function(writing: Writing, node: Node, group: Group, *values: Value) -> None:
    """The node's value is what a function gives; the call is written out, and takes these values."""
    writing.give(
        node, writing.function(writing.target(node), group, list(values), writing.shape_comment(Wire(node.name)))
    )


def give_call(writing: Writing, node: Node, function: str, *options: str, only_first: bool = False) -> None:
    """The node's value is what a function gives of all that the node takes, or of the first one, and of options."""
    values = tensors_of(writing, node)[: 1 if only_first else None]
    give_function(writing, node, call(function, *map(str, values), *options), *values)


__all__ = ["give_call", "give_function", "give_layer", "tensors_of"]
