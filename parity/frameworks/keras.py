"""Keras 3: read live layers and models, build them, run them."""

from __future__ import annotations

import importlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from parity.conventions import Value, keras_returns, to_canonical
from parity.errors import FormatError, MissingFrameworkError, ParityError, Problem, UnsupportedError
from parity.frameworks import Settings, quiet_import
from parity.layouts import Kind
from parity.network import Network, Recurrent
from parity.network.graph import output_values
from parity.network.keras_config import layer_from_keras, network_from_keras
from parity.network.keras_writing import keras_arrays, keras_from_layer, keras_from_network
from parity.recurrent import DIRECTIONS, Array, RecurrentSpec
from parity.result import LayerRun, Result, Returned, State

with quiet_import():
    import keras

ENGINE = "keras"

_EAGER_STEPS = 32
"""Up to so many steps TensorFlow is quicker step by step than tracing a graph first."""


def owns(source: object) -> bool:
    """Whether this is a live Keras layer or model."""
    return isinstance(source, keras.Layer)


def read(source: keras.Layer) -> Network:
    """Describe a live `LSTM`, `GRU` or `Bidirectional` layer, or a `Sequential` or functional model around them.

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
        return _with_version(
            network_from_keras(serialized, lambda name: source.get_layer(name).get_weights(), source.name)
        )
    layer = layer_from_keras(serialized, source.get_weights())
    return _with_version(Network(layer.name, (layer,), (), ENGINE))


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
    """What decides a live layer's return, as arguments of `explain_layer`; None if it is no single recurrent layer."""
    both = isinstance(source, keras.layers.Bidirectional)
    layer = source.forward_layer if both else source
    kinds: dict[Any, Kind] = {keras.layers.LSTM: "lstm", keras.layers.GRU: "gru"}
    if type(layer) not in kinds:
        return None
    features = layer.cell.kernel.shape[0] if layer.cell.built else 1
    directions = DIRECTIONS if both else DIRECTIONS[:1]
    return {
        "spec": RecurrentSpec(kinds[type(layer)], features, layer.units, directions),
        "return_sequences": layer.return_sequences,
        "return_state": layer.return_state,
        "merge_mode": source.merge_mode if both else "concat",
    }


def load(path: Path, network: Network) -> keras.Model:
    """Open a `.keras` file with Keras itself, without running any code from it.

    Raises:
        FormatError: Keras cannot open it.
    """
    try:
        model: keras.Model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise FormatError(
            "Keras cannot open this file",
            where=str(path),
            expected=f"a model that keras {keras.__version__} loads",
            got=str(error).strip().split("\n")[0],
        ) from error
    return model


def build(network: Network) -> keras.Layer:
    """The network as Keras's own layer for a single bare one, else as a functional model.

    A layer that came from another framework returns its sequence and its states; one from Keras what it returned there.
    """
    first = network.layers[0]
    if network.bare and len(network.layers) == 1 and isinstance(first, Recurrent):
        if first.spec.directions == ("backward",):
            return _build_reversed(first)
        if network.origin != ENGINE:
            first = replace(first, return_state=True)
        layer: keras.Layer = keras.layers.deserialize(keras_from_layer(first))
        layer.build((None, None, first.input_size))
        layer.set_weights(keras_arrays(first))
        return layer
    model: keras.Model = keras.saving.deserialize_keras_object(keras_from_network(network))
    for live, part in zip(_live_layers(model), network.layers, strict=True):
        live.set_weights(keras_arrays(part))
    return model


def _build_reversed(layer: Recurrent) -> keras.Model:
    """Keras leaves the output of `go_backwards` reversed; the model around it puts it in order again."""
    forward = replace(layer, spec=replace(layer.spec, directions=("forward",)), return_state=True)
    config = keras_from_layer(forward)
    config["config"]["go_backwards"] = True
    inputs = keras.Input((None, layer.input_size))
    live = keras.layers.deserialize(config)
    sequence, *states = live(inputs)
    live.set_weights(keras_arrays(forward))
    return keras.Model(inputs, [keras.ops.flip(sequence, axis=1), *states], name=f"{layer.name}_reversed")


def runner(source: keras.Layer, network: Network, settings: Settings) -> KerasRunner:
    """Something that runs the live layer or model.

    Raises:
        MissingFrameworkError: device "cuda" where the backend sees none.
    """
    if settings.device == "cuda" and not _has_gpu():
        raise MissingFrameworkError(
            "the engine 'keras' has no CUDA device",
            expected="an NVIDIA GPU, its driver, and a CUDA build of the backend",
            got=f"keras {keras.__version__} on {keras.backend.backend()} without a GPU",
            remedy="use device='cpu', or install tensorflow[and-cuda] on a machine with a GPU",
        )
    if settings.tf32 and keras.backend.backend() != "tensorflow":
        raise UnsupportedError("TF32 is switched for the TensorFlow backend only", got=keras.backend.backend())
    return KerasRunner(source, network, settings)


class KerasRunner:
    """Runs a live layer or model, and twins of its recurrent layers that show every step and state; see `Runner`.

    The model is called as it is for its outputs. A twin has the same configuration and weights, but returns its sequence and
    states, whatever the user's layer returns.
    """

    engine = ENGINE

    def __init__(self, source: keras.Layer, network: Network, settings: Settings) -> None:
        self._source, self._network, self._settings = source, network, settings
        live = _live_layers(source) if isinstance(source, keras.Model) else [source]
        self._layers = {
            layer.name: _twin(own, layer.input_size, settings.dtype)
            for layer, own in zip(network.layers, live, strict=False)
        }

    def __call__(self, inputs: Array, states: Mapping[str, State]) -> Result:
        """Run on inputs (batch, time, features) or (batch, time) integers."""
        dtype = "int32" if self._network.tokens else self._settings.dtype
        with self._device():
            x = keras.ops.convert_to_tensor(inputs.astype(dtype))
            given_states = {name: self._initial(name, states[name]) for name in self._network.specs}
            given, flat = self._compiled(self._reveal, inputs.shape[1])(x, given_states)
            # A model takes no initial states; away from zero its own layers, one by one, stand for it. The same where it
            # insists on another number of steps.
            model = isinstance(self._source, keras.Model)
            moved = any(array.any() for state in states.values() for array in state.arrays())
            own = not (model and (moved or self._network.time not in (None, inputs.shape[1])))
            returned: Sequence[Any] = next(iter(flat.values()))
            names = [value.name for value in self._revealed(self._network.recurrent[0])]
            if self._settings.dtype == "float32" and own:
                returned, names = self._native(x, given_states, inputs.shape[1])
                if not model:
                    self._put_own(flat, returned)
            runs = {name: self._run(name, arrays) for name, arrays in flat.items()}
            outputs = output_values(self._network, {name: _array(v) for name, v in given.items()}, runs)
            if self._settings.dtype == "float32" and own and not self._network.bare:
                outputs = dict(zip(names, map(_array, returned), strict=True))
        shown = (
            Returned(name, tuple(v.shape), keras.backend.standardize_dtype(v.dtype))
            for name, v in zip(names, returned, strict=True)
        )
        return Result(ENGINE, outputs, runs, tuple(shown), self._describe(inputs.shape[1]))

    def _native(self, x: Any, states: Mapping[str, Sequence[Any]], time: int) -> tuple[list[Any], list[str]]:
        """The user's own layer or model, called as it is."""
        if isinstance(self._source, keras.Model):
            returned = keras.tree.flatten(self._compiled(self._source, time)(x))
            names = [output.name for output in self._network.outputs]
            return returned, names or [f"output {index}" for index in range(len(returned))]
        names = [value.name for value in self._own_values()]
        start = states[self._network.recurrent[0].name]
        call = self._compiled(lambda x, start: self._source(x, initial_state=start), time)
        return keras.tree.flatten(call(x, start)), names

    def _put_own(self, flat: dict[str, list[Any]], returned: Sequence[Any]) -> None:
        """What the user's own layer returned takes the place of the twin's values."""
        layer = self._network.recurrent[0]
        revealed = self._revealed(layer)
        own: defaultdict[int, list[Any]] = defaultdict(list)
        for value, array in zip(self._own_values(), returned, strict=True):
            places = [
                index
                for index, row in enumerate(revealed)
                if row.quantity == value.quantity and value.select in ("all", row.select)
            ]
            for place, part in zip(places, keras.ops.split(array, len(places), axis=-1), strict=True):
                own[place].append(part)
        for place, candidates in own.items():
            # Where it returned one quantity twice (output and state_h), the one that is further off is judged.
            flat[layer.name][place] = max(candidates, key=partial(_distance, flat[layer.name][place]))

    def _own_values(self) -> tuple[Value, ...]:
        """What the user's own layer returns, which is less than its twin does."""
        layer = self._network.recurrent[0]
        live = getattr(self._source, "forward_layer", self._source)
        return keras_returns(
            layer.spec.kind, layer.bidirectional, layer.return_sequences, return_state=bool(live.return_state)
        )

    def _reveal(self, x: Any, states: Mapping[str, Sequence[Any]]) -> tuple[dict[str, Any], dict[str, list[Any]]]:
        """What every layer gives on, and everything the recurrent ones compute, flat."""
        given, flat = {}, {}
        for layer in self._network.layers:
            twin = self._layers[layer.name]
            if isinstance(layer, Recurrent):
                flat[layer.name] = list(keras.tree.flatten(twin(x, initial_state=states[layer.name])))
                if getattr(twin, "go_backwards", False):
                    flat[layer.name][0] = keras.ops.flip(flat[layer.name][0], axis=1)
                sequence, *final = flat[layer.name]
                values = self._revealed(layer)[1:]
                h = [state for state, value in zip(final, values, strict=True) if value.quantity == "h"]
                x = sequence if layer.return_sequences else keras.ops.concatenate(h, axis=-1)
            else:
                x = twin(x)
            given[layer.name] = x
        return given, flat

    @staticmethod
    def _revealed(layer: Recurrent) -> Any:
        return keras_returns(layer.spec.kind, layer.bidirectional, return_sequences=True, return_state=True)

    def _initial(self, name: str, state: State) -> list[Any]:
        layer = next(layer for layer in self._network.recurrent if layer.name == name)
        values = self._revealed(layer)[1:]
        return [keras.ops.convert_to_tensor(v.of([LayerRun(state)]).astype(self._settings.dtype)) for v in values]

    def _run(self, name: str, flat: Sequence[Any]) -> LayerRun:
        layer = next(layer for layer in self._network.recurrent if layer.name == name)
        found = to_canonical(self._revealed(layer), [_array(value) for value in flat], len(layer.spec.directions))
        return LayerRun(State(*(found[key][0] for key in ("h", "c") if key in found)), found["sequence"])

    def _compiled(self, function: Callable[..., Any], time: int) -> Callable[..., Any]:
        if time <= _EAGER_STEPS or keras.backend.backend() != "tensorflow":
            return function
        compiled: Callable[..., Any] = importlib.import_module("tensorflow").function(function, reduce_retracing=True)
        return compiled

    def _device(self) -> AbstractContextManager[Any]:
        if self._settings.device == "cpu":
            return nullcontext()
        if keras.backend.backend() == "tensorflow":
            tensorflow = importlib.import_module("tensorflow")
            tensorflow.config.experimental.enable_tensor_float_32_execution(self._settings.tf32)
        context: AbstractContextManager[Any] = keras.device("gpu:0")
        return context

    def _describe(self, time: int) -> dict[str, str]:
        backend = keras.backend.backend()
        facts = {
            "keras": keras.__version__,
            "backend": f"{backend} {importlib.import_module(backend).__version__}",
            "device": self._settings.device,
            "dtype": self._settings.dtype,
        }
        if backend == "tensorflow":
            facts["path"] = "eager" if time <= _EAGER_STEPS else "tf.function"
        if self._settings.device == "cuda":
            facts["TF32"] = "on, asked for" if self._settings.tf32 else "off"
        return facts


def _live_layers(model: keras.Model) -> list[keras.Layer]:
    """A chain's layers in order, without its input."""
    return [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]


def _twin(layer: keras.Layer, input_size: int, dtype: str) -> keras.Layer:
    """The layer itself, or a copy of the same weights that shows every step and state or computes in another dtype."""
    recurrent = isinstance(layer, (keras.layers.RNN, keras.layers.Bidirectional))
    if not recurrent and dtype == "float32":
        return layer
    config = {**layer.get_config(), "dtype": dtype}
    if isinstance(layer, keras.layers.Bidirectional):
        for key in ("layer", "backward_layer"):
            if config.get(key):
                own = {**config[key]["config"], "return_sequences": True, "return_state": True, "dtype": dtype}
                config[key] = {**config[key], "config": own}
    elif recurrent:
        config |= {"return_sequences": True, "return_state": True}
    twin: keras.Layer = type(layer).from_config(config)
    twin.build((None, None, input_size) if recurrent or not isinstance(layer, keras.layers.Embedding) else (None, None))
    twin.set_weights(layer.get_weights())
    return twin


def _with_version(network: Network) -> Network:
    return replace(network, details={"keras": keras.__version__, "backend": keras.backend.backend(), **network.details})


def _has_gpu() -> bool:
    backend = keras.backend.backend()
    if backend == "tensorflow":
        return bool(importlib.import_module("tensorflow").config.list_physical_devices("GPU"))
    if backend == "torch":
        return bool(importlib.import_module("torch").cuda.is_available())
    return any(device.platform == "gpu" for device in importlib.import_module("jax").devices())


def _distance(left: Any, right: Any) -> float:
    """The largest difference; a value that is no number is the furthest of all."""
    difference = np.abs(_array(left) - _array(right)).max()
    return float(difference) if np.isfinite(difference) else float("inf")


def _array(tensor: Any) -> Array:
    return np.asarray(keras.ops.convert_to_numpy(tensor))
