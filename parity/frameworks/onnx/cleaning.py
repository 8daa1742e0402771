"""Networks and graphs under names that an ONNX model can hold: none is empty, and all are text that UTF-8 can say."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from parity.graph import Graph, Layered, Wire
from parity.graph.names import unused_name
from parity.network import Bidirectional, Layer, Network, Recurrent


def clean(name: str) -> str:
    """A name that protobuf and ONNX's checker take: itself wherever they do.

    Example:
        >>> clean("encoder/lstm"), clean("a\\ud800b"), clean("")
        ('encoder/lstm', 'a_b', 'unnamed')
    """
    return "".join("_" if "\ud800" <= letter <= "\udfff" or letter == "\0" else letter for letter in name) or "unnamed"


def clean_names(names: Iterable[str]) -> dict[str, str]:
    """What each name becomes: two different ones never become one.

    Example:
        >>> clean_names(["", "unnamed", "a\\ud800", "b"])
        {'': 'unnamed_2', 'unnamed': 'unnamed', 'a\\ud800': 'a_', 'b': 'b'}
    """
    wanted = list(dict.fromkeys(names))
    taken = {name for name in wanted if clean(name) == name}
    found = {}
    for name in wanted:
        found[name] = name if name in taken else unused_name(clean(name), taken)
        taken.add(found[name])
    return found


def clean_network(network: Network) -> Network:
    """The network, its layers and outputs under clean names; itself where they are."""
    inner = [one.name for layer in network.layers for one in _inside(layer)]
    layers = clean_names([*(layer.name for layer in network.layers), *inner])
    outputs = clean_names(output.name for output in network.outputs)
    name = clean(network.name)
    if all(old == new for old, new in (*layers.items(), *outputs.items(), (network.name, name))):
        return network
    return replace(
        network,
        name=name,
        layers=tuple(_renamed(layer, layers) for layer in network.layers),
        outputs=tuple(
            replace(output, name=outputs[output.name], layer=layers.get(output.layer, output.layer))
            for output in network.outputs
        ),
    )


def clean_graph(graph: Graph) -> Graph:
    """The graph, its nodes, operations, inputs, outputs and words under clean names; itself where they are."""
    values = clean_names([*(given.name for given in graph.inputs), *(node.name for node in graph.nodes)])
    calls = clean_names(node.operation.name for node in graph.nodes)
    inner = clean_names(one.name for operation in graph.operations for one in _inside(operation))
    outputs, words = clean_names(graph.outputs), clean_names(graph.words)
    name = clean(graph.name)
    names = [*values.items(), *calls.items(), *inner.items(), *outputs.items(), *words.items(), (graph.name, name)]
    if all(old == new for old, new in names):
        return graph

    def wire(one: Wire) -> Wire:
        return Wire(values[one.node], one.index)

    operations = {id(one): _renamed(one, {**inner, one.name: calls[one.name]}) for one in graph.operations}
    return replace(
        graph,
        name=name,
        inputs=tuple(
            replace(
                given,
                name=values[given.name],
                shape=tuple(words[n] if isinstance(n, str) else n for n in given.shape),
            )
            for given in graph.inputs
        ),
        nodes=tuple(
            replace(
                node,
                name=values[node.name],
                operation=operations[id(node.operation)],
                inputs=tuple(None if one is None else wire(one) for one in node.inputs),
            )
            for node in graph.nodes
        ),
        outputs={outputs[key]: wire(one) for key, one in graph.outputs.items()},
    )


def _inside(layer: Layer | Layered) -> tuple[Recurrent, ...]:
    return (*layer.forward, *layer.backward) if isinstance(layer, Bidirectional) else ()


def _renamed(layer: Any, names: dict[str, str]) -> Any:
    if isinstance(layer, Bidirectional):
        forward, backward = (tuple(_renamed(one, names) for one in stack) for stack in (layer.forward, layer.backward))
        layer = replace(layer, forward=forward, backward=backward)
    return layer if names[layer.name] == layer.name else replace(layer, name=names[layer.name])


__all__ = ["clean", "clean_graph", "clean_names", "clean_network"]
