"""Keras 3: read live layers and models, build them, run them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from parity.errors import FormatError, ParityError, Problem, UnsupportedError
from parity.forms import Form, form_in, stacked_cells
from parity.frameworks import Settings, quiet_import
from parity.frameworks.keras.devices import check_device
from parity.frameworks.keras.running import ENGINE, KerasRunner
from parity.frameworks.keras.twins import layer_at, live_layers
from parity.frameworks.keras.whole import KerasGraphRunner, opened
from parity.frameworks.keras.written import make_known
from parity.frameworks.written import built, bytes_of, loaded, remembered
from parity.graph.graph import Graph
from parity.graph.keras import graph_from_keras
from parity.layouts import Kind
from parity.network import Bidirectional, Network, Recurrent
from parity.network.attaching import network_with_graph
from parity.network.keras.config import layers_from_keras, network_from_keras
from parity.network.keras.layer_writing import dtype_of, keras_arrays, keras_from_layer, keras_from_stack
from parity.network.keras.writing import keras_from_network
from parity.recurrent import DIRECTIONS, Direction, RecurrentSpec

with quiet_import():
    import keras


def owns(source: object) -> bool:
    """Whether this is a live Keras layer or model."""
    return isinstance(source, keras.Layer)


def read(source: keras.Layer, inputs: object = None) -> Network:
    """Describe a live recurrent layer or cell, or a `Sequential` or functional model; one that is no chain of layers has a graph.

    Raises:
        UnsupportedError: anything that is not converted exactly; all problems at once.
        ParityError: the layer has no weights yet.
    """
    if not source.built:
        raise ParityError(
            "the layer has no weights yet",
            where=f"{type(source).__name__} '{source.name}'",
            expected="a layer that was built",
            remedy="call it once on data, or layer.build((None, None, features))",
        )
    _check_own_activations(source)
    serialized = keras.saving.serialize_keras_object(source)
    if isinstance(source, keras.Model):
        given = (serialized, lambda path: layer_at(source, path).get_weights(), source.name)
        return _with_version(
            network_with_graph(
                lambda: network_from_keras(*given),
                lambda: remembered(source, _state) or graph_from_keras(*given),
            )
        )
    layers, details = layers_from_keras(serialized, source.get_weights())
    return _with_version(Network(source.name, layers, (), ENGINE, details))


def _check_own_activations(source: keras.Layer) -> None:
    """Keras serializes any function by its name alone, so a user's own `tanh` looks like Keras's in the configuration."""
    problems = []
    for layer in source._flatten_layers():
        for option in ("activation", "recurrent_activation"):
            function = getattr(layer, option, None)
            name = getattr(function, "__name__", "")
            if function is not None and getattr(keras.activations, name, function) is not function:
                where = f"layer '{layer.name}' ({type(layer).__name__})"
                remedy = f"use keras.activations.{name}, if that is what it computes"
                problems.append(
                    Problem(f"a custom {option}", where, "a function of Keras", f"another '{name}'", remedy)
                )
    if problems:
        raise UnsupportedError(problems)


def returned_by(source: keras.Layer) -> dict[str, Any] | None:
    """What decides a live layer's return, as arguments of `explain_layer`; None if the network has to say it."""
    kinds: dict[Any, Kind] = {
        keras.layers.LSTMCell: "lstm",
        keras.layers.GRUCell: "gru",
        keras.layers.SimpleRNNCell: "rnn",
    }

    def spec(cell: keras.Layer, directions: tuple[Direction, ...] = DIRECTIONS[:1]) -> RecurrentSpec:
        return RecurrentSpec(kinds[type(cell)], cell.kernel.shape[0] if cell.built else 1, cell.units, directions)

    if type(source) in kinds:
        return {"spec": spec(source), "return_state": True, "call": "single step"}
    both = isinstance(source, keras.layers.Bidirectional)
    layer = source.forward_layer if both else source
    if not isinstance(layer, keras.layers.RNN):
        return None
    stacked = isinstance(layer.cell, keras.layers.StackedRNNCells)
    cells = layer.cell.cells if stacked else [layer.cell]
    if any(type(cell) not in kinds for cell in cells):
        return None
    if both:
        other = source.backward_layer
        if stacked or layer.go_backwards or (type(other.cell), other.units) != (type(layer.cell), layer.units):
            return None
    directions = DIRECTIONS if both else DIRECTIONS[1:] if layer.go_backwards else DIRECTIONS[:1]
    return {
        "spec": [spec(cell, directions) for cell in cells] if stacked else spec(cells[0], directions),
        "return_sequences": layer.return_sequences,
        "return_state": layer.return_state,
        "merge_mode": source.merge_mode if both else "concat",
    }


def load(path: Path, network: Network) -> keras.Model:
    """Open a `.keras` file with Keras itself, without running any code from it.

    A file that is not what it is called (`details["file"]` says so), or one of Keras 2, that Keras does not open is built from the network.

    Raises:
        FormatError: Keras cannot open it.
    """
    make_known(network.layers)
    try:
        return opened(path)
    except FormatError:
        if "file" in network.details or network.details.get("producer", "").startswith("Keras 2"):
            return build(network)
        raise


def build(network: Network) -> keras.Layer:
    """The network as Keras's own layer for a single bare one or an `RNN` of several cells, a cell for a single step, else as a
    functional model.

    A layer that came from another framework returns its sequence and its states; one from Keras what it returned there. What Keras's
    own layers cannot say is composed of `parity.frameworks.keras.layers`; `form` tells.

    Raises:
        UnsupportedError: what not even a composition says exactly; all problems at once.
    """
    first = network.layers[0]
    if network.bare and len(network.layers) == 1 and isinstance(first, (Recurrent, Bidirectional)):
        config = keras_from_layer(first, needs_state=network.origin != ENGINE)
        made: keras.Layer = keras.layers.deserialize(config)
        step = isinstance(first, Recurrent) and first.single_step
        made.build((None, first.input_size) if step else (None, None, first.input_size))
        made.set_weights(keras_arrays(first))
    elif stacked_cells(network):
        made = keras.layers.deserialize(keras_from_stack(network.recurrent))
        made.build((None, None, first.input_size))
        made.set_weights([array for layer in network.layers for array in keras_arrays(layer)])
    else:
        made = keras.saving.deserialize_keras_object(keras_from_network(network))
        for live, part in zip(live_layers(made), network.layers, strict=True):
            live.set_weights(keras_arrays(part))
    made.parity_form = form_in(network, "keras")
    return made


def form(source: keras.Layer) -> Form | None:
    """How parity said what it made; None for what it did not make."""
    found: Form | None = getattr(source, "parity_form", None)
    return found


def runner(source: keras.Layer, network: Network, settings: Settings) -> KerasRunner:
    """Something that runs the live layer or model.

    Raises:
        MissingFrameworkError: device "cuda" where the backend sees none.
    """
    check_device(settings)
    if "float64" in (settings.dtype, dtype_of(network.layers)) and keras.backend.backend() != "tensorflow":
        # `keras.backend.result_type` makes float64 float32 on every other backend, so some operations round to it on the way.
        raise UnsupportedError(
            "Keras computes float64 on the TensorFlow backend only",
            expected="dtype float32, or the backend tensorflow",
            got=f"float64 on {keras.backend.backend()}",
            remedy="engine='keras:tensorflow'",
        )
    if settings.tf32 and keras.backend.backend() != "tensorflow":
        raise UnsupportedError("TF32 is switched for the TensorFlow backend only", got=keras.backend.backend())
    return KerasRunner(source, network, settings)


def build_whole(graph: Graph) -> keras.Model:
    """A whole model as the functional model that parity writes for it, with its weights.

    Raises:
        UnsupportedError: what Keras cannot say, or layers that are stubs.
    """
    return built(graph, "keras", _state)


def _state(model: keras.Model) -> Iterator[bytes]:
    """All that decides what a functional model computes: its weights, and the configuration of its layers."""
    yield from (bytes_of(array) for array in model.get_weights())
    yield json.dumps(keras.saving.serialize_keras_object(model), default=str).encode()


def load_written(folder: Path) -> keras.Model:
    """What parity wrote into a folder, with its weights."""
    return loaded(folder)


def whole_runner(source: keras.Model, graph: Graph, settings: Settings) -> KerasGraphRunner:
    """Something that runs a live model whose graph is known.

    Raises:
        MissingFrameworkError: device "cuda" where the backend sees none.
    """
    return KerasGraphRunner(source, graph, settings)


def load_whole(path: Path, graph: Graph) -> keras.Model:
    """Open a file with Keras itself, without running any code from it.

    Raises:
        FormatError: Keras cannot open it.
    """
    make_known(graph.operations)
    return opened(path)


def _with_version(network: Network) -> Network:
    return replace(network, details={"keras": keras.__version__, "backend": keras.backend.backend(), **network.details})
