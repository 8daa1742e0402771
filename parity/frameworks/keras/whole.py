"""Keras: run whole models, and show what is inside them."""

from __future__ import annotations

import importlib
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from parity.errors import FormatError, ShapeError
from parity.frameworks import Settings, quiet_import
from parity.frameworks.keras.devices import check_device, device_of
from parity.graph.graph import Graph, Wire
from parity.recurrent import Array
from parity.result import Result, Returned

with quiet_import():
    import keras

ENGINE = "keras"

_GIVE_CLASSES = (
    "define the class for Keras, too, beside what parity.register says (on the command line: in the file of --custom), under "
    "@keras.saving.register_keras_serializable() as where it was saved; or compare without Keras: --engines torch,onnxruntime"
)


class KerasGraphRunner:
    """Runs a Keras model on inputs by the graph's names; see `parity.graph.judging.GraphRunner`.

    Args:
        model: a live one, whose inputs and outputs stand in the graph's order.
        graph: what it computes, with `Node.source` naming its layers.
        settings: where it runs.

    Raises:
        MissingFrameworkError: device "cuda" where the backend sees none.
    """

    engine = ENGINE

    def __init__(self, model: keras.Model, graph: Graph, settings: Settings) -> None:
        self._model, self._graph, self._settings = model, graph, settings
        check_device(settings)

    def __call__(self, inputs: Mapping[str, Array]) -> Result:
        """Run; the outputs have the graph's names."""
        values = keras.tree.flatten(self._called(self._model, inputs))
        names_of: Sequence[str] = list(self._graph.outputs)
        if "outputs" in self._graph.details:  # of a model that was not read
            names_of = [f"output_{number}" for number in range(len(values))]
        if len(values) != len(names_of):
            names = ", ".join(self._graph.outputs)
            raise ShapeError(
                "another number of outputs than the model was read with", self._graph.name, names, str(len(values))
            )
        outputs = dict(zip(names_of, map(_array, values), strict=True))
        returned = tuple(Returned(name, array.shape, str(array.dtype)) for name, array in outputs.items())
        return Result(ENGINE, outputs, {}, returned, facts_of(self._model, self._settings.device))

    def seen(self, inputs: Mapping[str, Array]) -> dict[Wire, Array]:
        """What every layer at the top of the model gives, by the graph's wires."""
        places = self._places()
        if not places:
            return {}
        inner = keras.Model(self._model.inputs, list(places.values()))
        found = keras.tree.flatten(self._called(inner, inputs))
        return dict(zip(places, map(_array, found), strict=True))

    def _places(self) -> dict[Wire, Any]:
        """The tensor of the model that each wire of the graph stands for, call by call of each layer."""
        nodes = defaultdict(list)
        for node in self._graph.nodes:
            if node.source:
                nodes[node.source].append(node)
        functional = getattr(self._model, "_functional", None) or self._model
        own = {id(call) for calls in functional._nodes_by_depth.values() for call in calls}
        given = {id(tensor) for tensor in self._model.inputs}
        found: dict[Wire, Any] = {}
        for layer in self._model.layers:
            # A layer may belong to another model, too.
            calls = [call for call in layer._inbound_nodes if id(call) in own]
            if len(calls) != len(nodes[layer.name]):
                continue
            for node, call in zip(nodes[layer.name], calls, strict=True):
                for index, tensor in enumerate(call.output_tensors):
                    if id(tensor) not in given:
                        found[Wire(node.name, index)] = tensor
        return found

    def _called(self, model: keras.Model, inputs: Mapping[str, Array]) -> Any:
        with device_of(self._settings):
            if "outputs" in self._graph.details:
                return _as_its_owner_calls_it(model, [inputs[one.name] for one in self._graph.inputs])
            return _returned(self._model, model, [inputs[one.name] for one in self._graph.inputs])


def _as_its_owner_calls_it(model: keras.Model, inputs: Sequence[Array]) -> Any:
    """What a model that was not read returns, whatever stands in it of training; its moving averages stay as they were."""
    averages = [one for one in model.non_trainable_variables if one.name.startswith("moving_")]
    kept = [_array(one) for one in averages]
    try:
        return model(inputs[0] if len(inputs) == 1 else list(inputs))
    finally:
        for variable, value in zip(averages, kept, strict=True):
            variable.assign(value)


def _returned(whole: keras.Model, model: keras.Model, inputs: Sequence[Array]) -> Any:
    """What a model, or a part of it with the same inputs, returns for inputs in its order."""
    known = getattr(whole, "inputs", None)  # a model of one's own class has none
    types = [tensor.dtype for tensor in known] if known else [array.dtype.name for array in inputs]
    tensors = [keras.ops.convert_to_tensor(array, dtype=dtype) for array, dtype in zip(inputs, types, strict=True)]
    structure = getattr(whole, "_inputs_struct", None)
    given: Any = tensors[0] if len(tensors) == 1 else tensors
    if isinstance(structure, dict) and model is whole:
        given = dict(zip(structure, tensors, strict=True))
    with warnings.catch_warnings(), _from_zero_states(whole):
        # Of one step Keras says that a softmax over it has no purpose.
        warnings.filterwarnings("ignore", "You are using a softmax over axis", UserWarning)
        return model(given, training=False)


@contextmanager
def _from_zero_states(model: keras.Model) -> Iterator[None]:
    """Layers that carry states from call to call begin with zeros, and get back the states that their owner left in them."""
    layers = [
        layer for layer in model._flatten_layers() if getattr(layer, "stateful", False) and hasattr(layer, "states")
    ]
    variables = [variable for layer in layers for variable in keras.tree.flatten(layer.states) if variable is not None]
    kept = [_array(variable) for variable in variables]
    for variable in variables:
        variable.assign(keras.ops.zeros_like(variable))
    try:
        yield
    finally:
        for variable, value in zip(variables, kept, strict=True):
            variable.assign(value)


def _array(tensor: Any) -> Array:
    return np.asarray(keras.ops.convert_to_numpy(tensor))


def opened(path: Path) -> keras.Model:
    """A file of Keras, opened by Keras itself without running any code from it.

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
            got=_cause(error),
            remedy=_GIVE_CLASSES if "Could not locate" in str(error) else "",
        ) from error
    return model


def _cause(error: Exception) -> str:
    """What Keras says last of an error that it tells again in every model around the layer, without the configuration."""
    last = str(error).rpartition("Exception encountered: ")[2].strip().split("\n")[0]
    return last.partition(". Make sure custom classes")[0].partition(" Full object config")[0]


def called(model: keras.Model, inputs: Sequence[Array]) -> tuple[list[Array], dict[str, str]]:
    """What a model gives for inputs in its order, and what ran."""
    return [_array(value) for value in keras.tree.flatten(_returned(model, model, inputs))], facts_of(model)


def facts_of(model: keras.Model, device: str = "cpu") -> dict[str, str]:
    """Versions and settings, for people."""
    backend = keras.backend.backend()
    return {
        "keras": keras.__version__,
        "backend": f"{backend} {importlib.import_module(backend).__version__}",
        "device": device,
        "dtype": str(model.compute_dtype),
    }
