"""A Network -> the configuration of a Keras model, as `config.json` holds it. Imports no framework."""

from __future__ import annotations

from typing import Any

from parity.conventions import Value
from parity.errors import Problem, UnsupportedError
from parity.layouts import axis_groups
from parity.network.bidirectional import Bidirectional
from parity.network.dense import Dense
from parity.network.embedding import Embedding
from parity.network.graph import Layer, Network, Output
from parity.network.keras.layer_writing import (
    Writing,
    dtype_of,
    keras_from_layer,
    keras_name,
    serialized,
    unwritable,
)
from parity.network.recurrent import Recurrent


def keras_from_network(network: Network) -> dict[str, Any]:
    """The configuration of a Functional model that computes the same.

    A Dense whose output has another name than itself, as that of an `Activation` layer that was taken into it, gets one again.
    A bare network gives the sequence of its last layer, then every recurrent layer's states in Keras's order.

    Returns:
        What `config.json` holds: `keras.saving.deserialize_keras_object` builds the model of it; its layers take
        `parity.network.keras.layer_writing.keras_arrays`.

    Raises:
        UnsupportedError: what not even a composition of layers says exactly; all problems at once.
    """
    writing = Writing(dtype_of(network.layers), network.time is not None, network.masks_itself)
    problems = [problem for layer in network.layers for problem in unwritable(layer, writing)]
    references = _output_references(network, problems)
    if problems:
        raise UnsupportedError(problems)
    names = _own_names(network)
    apart = _activations_apart(network, set(names.values()))
    state_of = {name for name, index in references if index >= len(_given(_by_name(network)[name]))}
    tokens = network.tokens
    shape: list[int | None] = [None, network.time] if tokens else [None, network.time, network.layers[0].input_size]
    dtype = "int32" if tokens else writing.dtype
    taken = {"batch_shape": shape, "dtype": dtype, "sparse": False, "ragged": False}
    previous = _free_name("input_layer", {*names.values(), *apart.values()})
    layers = [{**serialized("InputLayer", {**taken, "name": previous}), "name": previous, "inbound_nodes": []}]
    inputs = [previous, 0, 0]
    for layer in network.layers:
        name = names[layer.name]
        history = {"shape": list(shape), "dtype": dtype, "keras_history": [previous, 0, 0]}
        node = {"args": [{"class_name": "__keras_tensor__", "config": history}], "kwargs": {}}
        made = keras_from_layer(layer, name, layer.name in state_of, writing)
        layers.append({**made, "name": name, "inbound_nodes": [node]})
        keeps_time = not isinstance(layer, (Recurrent, Bidirectional)) or layer.return_sequences
        time = [network.time] if keeps_time and (len(shape) == 3 or isinstance(layer, Embedding)) else []
        shape, dtype, previous = [None, *time, layer.output_size], writing.dtype, name
        if layer.name in apart:
            previous = apart[layer.name]
            layers += _with_activation(layers.pop(), previous, shape, dtype)
    outputs = [[apart.get(name, names[name]), 0, index] for name, index in references]
    config = {
        "name": keras_name(network.name),
        "trainable": True,
        "layers": layers,
        "input_layers": inputs,
        "output_layers": outputs[0] if len(outputs) == 1 else outputs,
    }
    return {
        "module": "keras.src.models.functional",
        "class_name": "Functional",
        "config": config,
        "registered_name": "Functional",
    }


def _activations_apart(network: Network, taken: set[str]) -> dict[str, str]:
    """Dense layer -> name of its output, where that is the name of a layer of Keras that has become a part of it."""
    if network.bare or network.origin != "keras":
        return {}
    layers, found = _by_name(network), dict[str, str]()
    for output in network.outputs:
        name, dense = output.name, isinstance(layers.get(output.layer), Dense)
        if dense and name != output.layer and keras_name(name) == name and name not in {*taken, *found.values()}:
            found[output.layer] = name
    return found


def _with_activation(dense: dict[str, Any], name: str, shape: list[int | None], dtype: str) -> list[dict[str, Any]]:
    """A layer of a model with its activation in a layer of its own behind it."""
    config = dense["config"]
    history = {"shape": list(shape), "dtype": dtype, "keras_history": [dense["name"], 0, 0]}
    node = {"args": [{"class_name": "__keras_tensor__", "config": history}], "kwargs": {}}
    own = {**{key: config[key] for key in ("trainable", "dtype") if key in config}, "name": name}
    after = serialized("Activation", {**own, "activation": config["activation"]})
    linear = {**dense, "config": {**config, "activation": "linear"}}
    return [linear, {**after, "name": name, "inbound_nodes": [node]}]


def _by_name(network: Network) -> dict[str, Layer]:
    return {layer.name: layer for layer in network.layers}


Handed = list[tuple[str, Value | None]]
"""What a Keras layer hands over, in order: the node it comes from, and which of that node's values; None for what it gives on."""


def _given(layer: Layer) -> Handed:
    if isinstance(layer, Recurrent):
        return [(layer.name, value) for value in layer.given]
    if isinstance(layer, Bidirectional) and layer.merge_mode is None:
        return [(stack[-1].name, stack[-1].given[0]) for stack in layer.stacks]
    return [(layer.name, None)]


def _handed(layer: Layer) -> Handed:
    parts = (layer,) if isinstance(layer, Recurrent) else layer.recurrent if isinstance(layer, Bidirectional) else ()
    states = [(part.name, value) for part in parts for value in part.values[len(part.given) :]]
    return [*_given(layer), *states]


def _output_references(network: Network, problems: list[Problem]) -> list[tuple[str, int]]:
    """(layer, index of its value) of every output."""
    if network.bare:
        last = network.layers[-1]
        given = [(last.name, index) for index in range(len(_given(last)))]
        states = [(n.name, i) for n in network.layers for i in range(len(_given(n)), len(_handed(n)))]
        return [*given, *states]
    homes = {name: layer for layer in network.layers for name in (layer.name, *(node for node, _ in _handed(layer)))}
    references: list[tuple[str, int]] = []
    for output in network.outputs:
        layer = homes[output.layer]
        index = _index(output, layer, network.masks_itself)
        if index is None:
            known = [value for node, value in _handed(layer) if node == output.layer and value]
            expected = ", ".join(f"{value.name} ({value.axes})" for value in known) or "its output"
            got = f"{output.value.quantity} ({output.value.axes})" if output.value else "what it gives inside"
            remedy = "give the model outputs that a Keras layer returns; states of one direction, batch first"
            where = f"output '{output.name}' of layer '{output.layer}'"
            problems.append(Problem("the output is no value of a Keras layer", where, expected, got, remedy))
        else:
            references.append((layer.name, index))
    return references


def _index(output: Output, layer: Layer, masked: bool) -> int | None:
    """The place of an output among the values of its layer."""
    handed = _handed(layer)
    if output.value is None:
        return 0 if output.layer == layer.name else None
    wanted = output.value
    own = [(index, value) for index, (node, value) in enumerate(handed) if node == output.layer and value is not None]
    exact = [i for i, v in own if _exact(v) == _exact(wanted)]
    alike = [i for i, v in own if _appearance(v, layer) == _appearance(wanted, layer)]
    # Without a mask the sequence at the last step is h.
    last = [i for i, v in own if not masked and _appearance(v, layer) == ("last", *_appearance(wanted, layer)[1:])]
    found = [*exact, *alike, *(last if wanted.quantity == "h" else ())]
    return found[0] if found else None


def _exact(value: Value) -> tuple[object, ...]:
    return value.quantity, value.axes, value.select, value.reverse


def _appearance(value: Value, layer: Layer) -> tuple[object, ...]:
    """What tells two values apart: for one direction, neither its choice nor its place in a group does."""
    groups = axis_groups(value.axes)
    if isinstance(layer, Recurrent) and layer.bidirectional:
        return value.quantity, groups, value.select, value.reverse
    alone = [[axis for axis in group if axis != "direction"] or ["1"] for group in groups]
    return value.quantity, alone, "all", value.reverse


def _own_names(network: Network) -> dict[str, str]:
    """Keras's name of every layer: the same, unless it has a slash or a dot."""
    names: dict[str, str] = {}
    for layer in network.layers:
        names[layer.name] = _free_name(keras_name(layer.name), set(names.values()))
    return names


def _free_name(wanted: str, taken: set[str]) -> str:
    return next(
        name for name in (wanted, *(f"{wanted}_{number}" for number in range(1, len(taken) + 2))) if name not in taken
    )
