"""A Network -> Keras configurations and weights, as `config.json` and `model.weights.h5` hold them. Imports no framework."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from parity.conventions import Value
from parity.errors import Problem, UnsupportedError
from parity.layouts import LAYOUTS, Kind, axis_groups
from parity.network.dense import Dense
from parity.network.embedding import Embedding
from parity.network.graph import Layer, Network
from parity.network.keras_options import CELL_KINDS
from parity.network.recurrent import Recurrent
from parity.recurrent import DIRECTIONS, Array, Weights, pack

_CELL_CLASSES: dict[Kind, str] = {kind: name for name, kind in CELL_KINDS.items()}


def keras_arrays(layer: Layer) -> list[Array]:
    """A layer's weights in the order of `layer.get_weights()`; the forward layer's first in a Bidirectional.

    Example:
        >>> import numpy as np
        >>> [array.shape for array in keras_arrays(Dense("dense", np.ones((3, 2)), np.ones(2)))]
        [(3, 2), (2,)]
    """
    return [array for cell in cell_arrays(layer) for array in cell]


def cell_arrays(layer: Layer) -> list[list[Array]]:
    """The same arrays, one list for each cell, as `weight_paths` gives their places."""
    if isinstance(layer, Embedding):
        return [[layer.table]]
    if isinstance(layer, Dense):
        return [[layer.kernel, *([] if layer.bias is None else [layer.bias])]]
    layout = LAYOUTS["keras", layer.spec.kind]
    one = replace(layer.spec, directions=DIRECTIONS[:1])
    return [list(pack(layout, one, [weights]).values()) for weights in layer.weights]


def keras_from_layer(layer: Layer) -> dict[str, Any]:
    """The configuration of one layer, as `keras.layers.deserialize` takes it; its weights are `keras_arrays`.

    Raises:
        UnsupportedError: a backward direction alone, or weights that are not float32.

    Example:
        >>> import numpy as np
        >>> keras_from_layer(Dense("out", np.ones((3, 2), np.float32)))["config"]["units"]
        2
    """
    problems = list(_unwritable(layer))
    if problems:
        raise UnsupportedError(problems)
    return _layer(layer, layer.name.replace("/", "_") or "layer", needs_state=False)


def keras_from_network(network: Network) -> dict[str, Any]:
    """The configuration of a Functional model that computes the same.

    A bare network gives the sequence of its last layer, then every recurrent layer's states in Keras's order.

    Returns:
        What `config.json` holds: `keras.saving.deserialize_keras_object` builds the model of it; its layers take
        `keras_arrays`.

    Raises:
        UnsupportedError: what Keras's own layers cannot say; all problems at once.
    """
    problems = [problem for layer in network.layers for problem in _unwritable(layer)]
    references = _output_references(network, problems)
    if problems:
        raise UnsupportedError(problems)
    names = _own_names(network)
    state_of = {name for name, index in references if index}
    tokens = network.tokens
    shape: list[int | None] = [None, None] if tokens else [None, None, network.layers[0].input_size]
    dtype = "int32" if tokens else "float32"
    taken = {"batch_shape": shape, "dtype": dtype, "sparse": False, "ragged": False}
    previous = _free_name("input_layer", set(names.values()))
    layers = [{**_serialized("InputLayer", {**taken, "name": previous}), "name": previous, "inbound_nodes": []}]
    inputs = [previous, 0, 0]
    for layer in network.layers:
        name = names[layer.name]
        history = {"shape": list(shape), "dtype": dtype, "keras_history": [previous, 0, 0]}
        node = {"args": [{"class_name": "__keras_tensor__", "config": history}], "kwargs": {}}
        layers.append({**_layer(layer, name, layer.name in state_of), "name": name, "inbound_nodes": [node]})
        keeps_time = not isinstance(layer, Recurrent) or layer.return_sequences
        time: list[int | None] = [None] if keeps_time and (len(shape) == 3 or isinstance(layer, Embedding)) else []
        shape, dtype, previous = [None, *time, layer.output_size], "float32", name
    outputs = [[names[name], 0, index] for name, index in references]
    title = network.name.replace("/", "_") or "model"
    config = {
        "name": title,
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


def _unwritable(layer: Layer) -> Iterator[Problem]:
    where = f"layer '{layer.name}'"
    if isinstance(layer, Recurrent) and layer.spec.directions not in (DIRECTIONS[:1], DIRECTIONS):
        expected, got = "forward, or forward and backward", ", ".join(layer.spec.directions)
        remedy = "convert in memory: to_keras builds a model of a go_backwards layer and a reversal of its output"
        yield Problem(f"a backward {layer.spec.kind.upper()} alone is no Keras layer", where, expected, got, remedy)
    dtypes = {str(array.dtype) for array in _numbers(layer)} - {"float32"}
    if dtypes:
        remedy = "convert them to float32 first"
        yield Problem("weights that are not float32", where, "float32", ", ".join(sorted(dtypes)), remedy)


def _numbers(layer: Layer) -> list[Array]:
    if isinstance(layer, Recurrent):
        members = [getattr(weights, name) for weights in layer.weights for name in Weights.__dataclass_fields__]
        return [member for member in members if member is not None]
    return (
        [layer.table] if isinstance(layer, Embedding) else [layer.kernel, *([] if layer.bias is None else [layer.bias])]
    )


def _output_references(network: Network, problems: list[Problem]) -> list[tuple[str, int]]:
    """(layer, index of its value) of every output."""
    if network.bare:
        states = [(layer.name, index) for layer in network.recurrent for index in range(1, len(layer.values))]
        return [(network.layers[-1].name, 0), *states]
    by_name = {layer.name: layer for layer in network.layers}
    references: list[tuple[str, int]] = []
    for output in network.outputs:
        layer = by_name[output.layer]
        index = (
            0 if output.value is None else _value_index(layer, output.value) if isinstance(layer, Recurrent) else None
        )
        if index is None:
            expected = (
                ", ".join(f"{value.name} ({value.axes})" for value in layer.values)
                if isinstance(layer, Recurrent)
                else "its output"
            )
            got = f"{output.value.quantity} ({output.value.axes})" if output.value else ""
            remedy = "give the model outputs that a Keras layer returns; states of one direction, batch first"
            where = f"output '{output.name}' of layer '{layer.name}'"
            problems.append(Problem("the output is no value of a Keras layer", where, expected, got, remedy))
        else:
            references.append((output.layer, index))
    return references


def _value_index(layer: Recurrent, value: Value) -> int | None:
    directions = len(layer.spec.directions)
    exact = [(own.quantity, own.axes, own.select) for own in layer.values]
    alike = [_appearance(own, directions) for own in layer.values]
    if (value.quantity, value.axes, value.select) in exact:
        return exact.index((value.quantity, value.axes, value.select))
    wanted = _appearance(value, directions)
    return alike.index(wanted) if wanted in alike else None


def _appearance(value: Value, directions: int) -> tuple[str, list[list[str]], str]:
    """What tells two values apart: for one direction, neither its choice nor its place in a group does."""
    groups = axis_groups(value.axes)
    if directions > 1:
        return value.quantity, groups, value.select
    return value.quantity, [[axis for axis in group if axis != "direction"] or ["1"] for group in groups], "all"


def _layer(layer: Layer, name: str, needs_state: bool) -> dict[str, Any]:
    if isinstance(layer, Embedding):
        table = {"input_dim": layer.input_size, "output_dim": layer.output_size, "mask_zero": False}
        return _serialized("Embedding", _named(name, table))
    if isinstance(layer, Dense):
        config = {"units": layer.output_size, "activation": layer.activation, "use_bias": layer.bias is not None}
        return _serialized("Dense", _named(name, config))
    if not layer.bidirectional:
        return _cell(layer, 0, name, needs_state)
    inner: dict[str, object] = {
        "layer": _cell(layer, 0, f"forward_{name}", needs_state),
        "backward_layer": _cell(layer, 1, f"backward_{name}", needs_state),
    }
    return _serialized("Bidirectional", _named(name, {"merge_mode": "concat", **inner}))


def _cell(layer: Recurrent, direction: int, name: str, needs_state: bool) -> dict[str, Any]:
    weights = layer.weights[direction]
    config: dict[str, object] = {
        "return_sequences": layer.return_sequences,
        "return_state": layer.return_state or needs_state,
        "go_backwards": direction == 1,
        "units": layer.spec.hidden_size,
        "activation": "tanh",
        "recurrent_activation": "sigmoid",
        "use_bias": weights.bias_input is not None or weights.bias_recurrent is not None,
        **({"reset_after": True} if layer.spec.kind == "gru" else {}),
    }
    return _serialized(_CELL_CLASSES[layer.spec.kind], _named(name, config))


def _named(name: str, config: Mapping[str, object]) -> dict[str, object]:
    return {"name": name, "trainable": True, "dtype": "float32", **config}


def _serialized(class_name: str, config: Mapping[str, object]) -> dict[str, Any]:
    return {"module": "keras.layers", "class_name": class_name, "config": dict(config), "registered_name": None}


def _own_names(network: Network) -> dict[str, str]:
    """Keras's name of every layer: the same, unless it has a slash, which Keras refuses."""
    names: dict[str, str] = {}
    for layer in network.layers:
        names[layer.name] = _free_name(layer.name.replace("/", "_") or "layer", set(names.values()))
    return names


def _free_name(wanted: str, taken: set[str]) -> str:
    return next(
        name for name in (wanted, *(f"{wanted}_{number}" for number in range(1, len(taken) + 2))) if name not in taken
    )
