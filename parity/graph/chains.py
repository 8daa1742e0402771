"""A chain of layers, as a graph."""

from __future__ import annotations

from dataclasses import replace

from parity.conventions import Value
from parity.errors import UnsupportedError
from parity.graph.builder import Builder
from parity.graph.graph import Graph, Wire
from parity.network import Bidirectional, Embedding, Layer, Masking, Network, Recurrent


def graph_of_chain(network: Network) -> Graph:
    """A network whose every layer takes what the one before gives, as a graph; masks become values of their own.

    Args:
        network: a whole one.

    Returns:
        The graph; a bare layer or stack gives the sequence and then every final state, layer by layer.

    Raises:
        UnsupportedError: the network is partial.

    Example:
        >>> import numpy as np
        >>> from parity.recurrent import RecurrentSpec, Weights
        >>> weights = Weights(np.ones((3, 5, 2)), np.ones((3, 5, 5)))
        >>> graph = graph_of_chain(Network("gru", (Recurrent("gru", RecurrentSpec("gru", 2, 5), (weights,)),)))
        >>> {name: value.shape for name, value in graph.run({"input": np.ones((4, 7, 2))}).items()}
        {'output': (4, 7, 5), 'gru.state_h': (4, 5)}
    """
    return _graph(network, given=False, masked=False)


MASK = "mask"
"""The input of a mask that is given with the call."""


def state_name(layer: str, state: str, direction: str) -> str:
    """The input of an initial state that is given with the call.

    Example:
        >>> state_name("gru", "h", "forward")
        'gru.initial_h.forward'
    """
    return f"{layer}.initial_{state}.{direction}"


def graph_of_call(network: Network, masked: bool = False) -> Graph:
    """A chain of layers as a graph that also takes what a call may give: the initial states, and a mask.

    Args:
        network: a whole one.
        masked: whether the call has a mask.

    Returns:
        The graph of `graph_of_chain` with more inputs: `state_name` of every recurrent layer's states, and `MASK`. Layers of two unlike
        directions begin with zeros.

    Raises:
        UnsupportedError: the network is partial.

    Example:
        >>> import numpy as np
        >>> from parity.recurrent import RecurrentSpec, Weights
        >>> weights = Weights(np.ones((3, 5, 2)), np.ones((3, 5, 5)))
        >>> network = Network("gru", (Recurrent("gru", RecurrentSpec("gru", 2, 5), (weights,)),))
        >>> [one.name for one in graph_of_call(network, masked=True).inputs]
        ['input', 'mask', 'gru.initial_h.forward']
    """
    return _graph(network, given=True, masked=masked)


def _graph(network: Network, given: bool, masked: bool) -> Graph:
    network.whole()
    build = Builder(network.name, network.origin)
    build.details.update(network.details)
    steps = "time" if network.time is None else network.time
    tokens = network.tokens
    first = network.layers[0]
    name = network.input_name or "input"
    value = (
        build.input(name, ("batch", steps), "int64", tokens)
        if tokens
        else build.input(name, ("batch", steps, first.input_size))
    )
    made: dict[str, Wire] = {}
    mask: Wire | None = build.input(MASK, ("batch", steps), "bool") if masked else None
    for layer in network.layers:
        mask = _narrowed(build, mask, layer, value)
        takes = [value, mask] if isinstance(layer, (Recurrent, Bidirectional)) else [value]
        takes += _states(build, layer) if given else []
        value = made[layer.name] = build.call(layer, *takes, source=layer.name)
        if isinstance(layer, (Recurrent, Bidirectional)) and not layer.return_sequences:
            mask = None
    return build.graph(_outputs(network, made))


def _states(build: Builder, layer: Layer) -> list[Wire]:
    """The inputs for the initial states of a recurrent layer."""
    if not isinstance(layer, Recurrent):
        return []
    return [
        build.input(state_name(layer.name, state, direction), ("batch", layer.spec.state_shape(state, 1)[-1]))
        for direction in layer.spec.directions
        for state in layer.spec.states
    ]


def _narrowed(build: Builder, mask: Wire | None, layer: Layer, value: Wire) -> Wire | None:
    """The mask from this layer on: with the steps that it leaves out itself."""
    own = None
    if isinstance(layer, Embedding) and layer.mask_zero:
        own = build.elementwise("not_equal", value, build.constant(0), name=f"{layer.name}_mask")
    elif isinstance(layer, Masking):
        differs = build.elementwise("not_equal", value, layer.mask_value)
        own = build.reduce("any", differs, -1, name=f"{layer.name}_mask")
    return mask if own is None else own if mask is None else build.elementwise("logical_and", mask, own)


def _outputs(network: Network, given: dict[str, Wire]) -> dict[str, Wire]:
    layers = {layer.name: layer for layer in network.layers}
    if network.outputs:
        return {
            output.name: given[output.layer]
            if output.value is None
            else _state(layers, given, output.layer, output.value)
            for output in network.outputs
        }
    last = network.layers[-1]
    outputs = {"output": given[last.name]}
    if isinstance(last, (Recurrent, Bidirectional)) and last.merge_mode is None:
        outputs = {"forward_output": given[last.name], "backward_output": Wire(given[last.name].node, 1)}
    for layer in network.layers:
        if isinstance(layer, Recurrent):
            for index, value in enumerate(layer.values):
                if index >= len(layer.given):
                    outputs[f"{layer.name}.{value.name}"] = Wire(given[layer.name].node, index)
    return outputs


def _state(layers: dict[str, Layer], given: dict[str, Wire], name: str, value: Value) -> Wire:
    """A value of a recurrent layer that is an output of the model.

    Raises:
        UnsupportedError: what the layer does not hand over in a graph, such as a state of one of two unlike directions.
    """
    layer = layers.get(name)
    if isinstance(layer, Recurrent):
        # Not by their names: those are the framework's own.
        alike = [_meant(own, layer) == _meant(value, layer) for own in layer.values]
        if True not in alike:
            expected = ", ".join(own.name for own in layer.values)
            raise UnsupportedError("an output that the layer does not give in a graph", name, expected, value.name)
        return Wire(given[name].node, alike.index(True))
    for both in layers.values():
        if not isinstance(both, Bidirectional) or both.merge_mode is not None:
            continue
        lasts = [stack[-1].name for stack in both.stacks]
        if name in lasts and value.quantity in ("sequence", "last"):
            return Wire(given[both.name].node, lasts.index(name))
    raise UnsupportedError("a state of one of two unlike directions as an output", name, "a sequence", value.name)


def _meant(value: Value, layer: Recurrent) -> Value:
    """A value without its name, and of a layer of one direction without the ways to say that it is of this one."""
    if layer.bidirectional:
        return replace(value, name="")
    return replace(value, name="", select="all", axes=value.axes.replace("(direction hidden)", "hidden"))


__all__ = ["MASK", "graph_of_call", "graph_of_chain", "state_name"]
