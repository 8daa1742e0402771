"""A model on inputs, as a graph: what a fault changes, and what shows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np

from parity.deferred import Array
from parity.graph.calls import Layered
from parity.graph.chains import MASK, graph_of_call, state_name
from parity.graph.graph import Graph, Node, Wire
from parity.network import Bidirectional, Network, Recurrent
from parity.result import Result, State

Change: TypeAlias = "Callable[[Case], Case]"


@dataclass(frozen=True, eq=False)
class Case:
    """A model on inputs.

    Args:
        graph: the model; initial states and a mask, where a chain of layers is given such, are inputs of it.
        inputs: by name.
        ignored: where an output shows a convention and no number (steps that a mask leaves out), by name, broadcast to the output.
    """

    graph: Graph
    inputs: dict[str, Array]
    ignored: dict[str, Array] = field(default_factory=dict)

    def outputs(self) -> dict[str, Array]:
        """What the model gives in float64, by name."""
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            return self.graph.run(self.inputs)

    def layer(self, name: str) -> Layered:
        """The operation that a node calls.

        Raises:
            KeyError: no node has this name.
        """
        return self.graph.node(name).operation

    def recurrent(self) -> Iterator[Recurrent]:
        """The recurrent layers in order, each once; those inside a `Bidirectional` of unlike directions are not among them."""
        return (one for one in self.graph.operations if isinstance(one, Recurrent))

    def with_layer(self, name: str, change: Callable[[Layered], Layered]) -> Case:
        """The same with one operation changed, wherever it is called.

        Args:
            name: of the operation.
            change: gives another one of the same name.
        """
        made = {id(one): change(one) for one in self.graph.operations if one.name == name}
        return replace(self, graph=self.graph.with_operations(made))

    def with_behind(self, wire: Wire, operation: Layered, *others: Wire) -> Case:
        """The same with an operation on a value: whoever took the value takes what the operation makes of it.

        Args:
            wire: the value; an input of the model or what a node gives.
            operation: takes it, and `others`, which are made no later than it.
        """
        name = operation.name
        while any(node.name == name for node in self.graph.nodes) or any(one.name == name for one in self.graph.inputs):
            name += "'"
        made, new = Wire(name), Node(name, operation, (wire, *others))

        def taking(node: Node) -> Node:
            return replace(node, inputs=tuple(made if one == wire else one for one in node.inputs))

        nodes: list[Node] = [] if any(node.name == wire.node for node in self.graph.nodes) else [new]
        for node in self.graph.nodes:
            nodes.append(taking(node))
            if node.name == wire.node:
                nodes.append(new)
        outputs = {key: made if one == wire else one for key, one in self.graph.outputs.items()}
        return replace(self, graph=replace(self.graph, nodes=tuple(nodes), outputs=outputs))

    def with_output(self, name: str, operation: Layered) -> Case:
        """The same with an operation on one output alone; whoever else took the value still takes it.

        Args:
            name: of the output.
            operation: takes it.
        """
        key = operation.name
        while any(node.name == key for node in self.graph.nodes) or any(one.name == key for one in self.graph.inputs):
            key += "'"
        nodes = (*self.graph.nodes, Node(key, operation, (self.graph.outputs[name],)))
        return replace(self, graph=replace(self.graph, nodes=nodes, outputs={**self.graph.outputs, name: Wire(key)}))

    def beginning(self, steps: int, batch: int | None = None) -> Case:
        """The same on the first steps, and samples, of the inputs.

        Args:
            steps: so many, or as many as there are.
            batch: samples; all by default.
        """
        shapes = {one.name: one.shape for one in self.graph.inputs}
        lengths = {"time": steps} if batch is None else {"time": steps, "batch": batch}

        def cut(array: Array, shape: Sequence[int | str]) -> Array:
            for word, length in lengths.items():
                if word in shape and array.shape[shape.index(word)] > length:
                    array = array.take(range(length), axis=shape.index(word))
            return array

        inputs = {name: cut(array, shapes[name]) for name, array in self.inputs.items()}
        return Case(self.graph, inputs, {name: array[:batch, :steps] for name, array in self.ignored.items()})

    def with_inputs(self, node: str, inputs: tuple[Wire | None, ...]) -> Case:
        """The same with other values given to one node; they are made before it."""
        nodes = tuple(replace(one, inputs=inputs) if one.name == node else one for one in self.graph.nodes)
        return replace(self, graph=replace(self.graph, nodes=nodes))


def chain_case(
    network: Network, x: Array, states: Mapping[str, State], mask: Array | None = None, sequence: bool = True
) -> Case:
    """A chain of layers on inputs, from given states.

    Args:
        network: a whole one. A layer or stack by itself shows the sequence of its last layer and all final states.
        x: (batch, time, features), or (batch, time) integers.
        states: of every recurrent layer.
        mask: (batch, time), True where a step is valid; None for all.
        sequence: whether a layer by itself gives every step, whatever it returns itself.

    Example:
        >>> from parity.recurrent import RecurrentSpec, Weights
        >>> from parity.result import zero_state
        >>> spec = RecurrentSpec("gru", 2, 5)
        >>> network = Network("gru", (Recurrent("gru", spec, (Weights(np.ones((3, 5, 2)), np.ones((3, 5, 5))),)),))
        >>> case = chain_case(network, np.ones((4, 7, 2)), {"gru": zero_state(spec, 4)})
        >>> {name: value.shape for name, value in case.outputs().items()}
        {'output': (4, 7, 5), 'gru.state_h': (4, 5)}
    """
    shown = with_sequence(network) if sequence else network
    graph = graph_of_call(shown, masked=mask is not None)
    inputs = {graph.inputs[0].name: x}
    if mask is not None:
        inputs[MASK] = mask
    for layer in shown.recurrent:
        for state, array in zip(layer.spec.states, states[layer.name].arrays(), strict=True):
            for direction, rows in zip(layer.spec.directions, array, strict=True):
                if any(one.name == state_name(layer.name, state, direction) for one in graph.inputs):
                    inputs[state_name(layer.name, state, direction)] = rows
    return Case(graph, inputs, _ignored(shown, graph, mask))


def with_sequence(network: Network) -> Network:
    """A layer or stack by itself, its last layer giving every step: what is compared of it, whatever it returns itself."""
    last = network.layers[-1]
    if not network.bare or not isinstance(last, Recurrent) or last.merge_mode is None:
        return network
    return replace(network, layers=(*network.layers[:-1], replace(last, return_sequences=True)))


def chain_outputs(network: Network, result: Result) -> dict[str, Array]:
    """What an engine computed for a chain of layers, by the names of the outputs of its `chain_case`.

    A value that the engine does not show is left out.
    """
    if not network.bare:
        return dict(result.outputs)
    shown, found = with_sequence(network), {}
    last = shown.layers[-1]
    if isinstance(last, Recurrent) and result.layers[last.name].sequence is not None:
        for value in last.given:
            found["output" if last.merge_mode is not None else value.name] = value.of([result.layers[last.name]])
    for layer in shown.layers:
        if isinstance(layer, Recurrent):
            for value in layer.values[len(layer.given) :]:
                found[f"{layer.name}.{value.name}"] = value.of([result.layers[layer.name]])
        elif isinstance(layer, Bidirectional) and layer is last:
            found |= dict(zip(_names(layer), layer.given(result.layers), strict=True))
    return found


def _names(layer: Bidirectional) -> tuple[str, ...]:
    return ("output",) if layer.merge_mode is not None else ("forward_output", "backward_output")


def _ignored(network: Network, graph: Graph, mask: Array | None) -> dict[str, Array]:
    """Steps of the sequence of a bare layer that a mask leaves out."""
    last = network.layers[-1]
    if mask is None or not network.bare or not isinstance(last, Recurrent) or not last.return_sequences:
        return {}
    padded = ~(mask[:, ::-1] if last.reverse else mask)
    return {
        name: padded[..., None] for name in ("output", "forward_output", "backward_output") if name in graph.outputs
    }


__all__ = ["Case", "Change", "chain_case", "chain_outputs", "with_sequence"]
