"""Configurations of Keras 1 and 2, said as Keras 3 says them. Imports no framework.

Sources: `get_config` of each layer, `Sequential.get_config` and `Container.get_config` in Keras 1.2.2 and 2.0 to 2.3,
`Functional.get_config` and `Node.serialize` in tf.keras 2.4 to 2.15.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from parity.errors import FormatError
from parity.network.keras.chain import class_name_of
from parity.network.keras.layers_of_old import MODELS, layer_of_today, layers_of, title_of
from parity.network.keras.old_groups import weights_by_path, weights_of_today
from parity.network.keras.options import CELLS, CLASSES, Config, shown


def modernised(model_config: Config, version: str | None) -> Config:
    """What Keras 1 or 2 wrote of a model, in the serialized form of Keras 3 that `network_from_keras` reads.

    Args:
        model_config: the value of `model.to_json()` or of the attribute `model_config` in an HDF5 file, of Keras 1.2 to 3.
        version: what the file says in `keras_version`, None if nothing.

    Returns:
        A new configuration; layers that no Keras 3 has stay as they are. A configuration of Keras 3 gets the module names that
        Keras 3 leaves out in HDF5 files, nothing else.

    Raises:
        FormatError: no configuration of a Keras model.

    Example:
        >>> old = [{"class_name": "LSTM", "config": {"name": "lstm_1", "output_dim": 5, "batch_input_shape": [None, 7, 3]}}]
        >>> new = modernised({"class_name": "Sequential", "config": old}, "1.2.2")
        >>> [layer["config"]["name"] for layer in new["config"]["layers"]]
        ['lstm_1_input', 'lstm_1']
    """
    return _model(model_config, version, "model")


def _model(serialized: Config, version: str | None, name: str) -> Config:
    class_name, given, title = class_name_of(serialized), serialized.get("config"), title_of(serialized, name)
    layers = layers_of(serialized)
    if layers is None:
        outer = {"module": serialized.get("module") or "", "registered_name": serialized.get("registered_name")}
        return {**serialized, **outer}
    config: Config = given if isinstance(given, Mapping) else {}
    kept = {key: config[key] for key in ("trainable", "build_input_shape") if key in config}
    today: dict[str, Any] = {**kept, "name": title}
    if MODELS[class_name] == "Sequential":
        today["layers"] = _sequential(layers, version, title)
    else:
        names = {str(layer.get("name")) for layer in layers}
        today["layers"] = [_called(layer, version, names) for layer in layers]
        today |= {key: config.get(key) for key in ("input_layers", "output_layers")}
    return {"module": "keras.models", "class_name": MODELS[class_name], "config": today, "registered_name": None}


def _sequential(layers: Sequence[Config], version: str | None, title: str) -> list[Config]:
    """The layers of a Sequential, the first one an InputLayer where a shape is known."""
    today = [_layer(layer, version, f"{title}_{place}") for place, layer in enumerate(layers, 1)]
    if today and class_name_of(today[0]) != "InputLayer":
        config = today[0]["config"]
        shape = config.get("batch_input_shape")
        if isinstance(shape, (list, tuple)):
            dtype = "int32" if class_name_of(today[0]) == "Embedding" else "float32"
            own = {"batch_shape": list(shape), "dtype": dtype, "sparse": False, "name": f"{config.get('name')}_input"}
            today.insert(
                0, {"module": "keras.layers", "class_name": "InputLayer", "config": own, "registered_name": None}
            )
    return today


def _layer(serialized: Config, version: str | None, name: str) -> Config:
    """A layer, with what it was built for where that is stated, or a model inside another."""
    if layers_of(serialized) is not None:
        return _model(serialized, version, name)
    built = {key: serialized[key] for key in ("build_config",) if key in serialized}
    return {**layer_of_today(serialized, version, name), **built}


def _called(serialized: Config, version: str | None, names: set[str]) -> Config:
    """A layer of a Functional model with its calls; the names are those of its layers."""
    nodes = serialized.get("inbound_nodes")
    if not isinstance(nodes, (list, tuple)):
        raise FormatError(
            "the calls of a layer are missing", str(serialized.get("name")), "inbound_nodes", shown(nodes)
        )
    today = _layer(serialized, version, str(serialized.get("name")))
    recurrent = class_name_of(today) in {**CLASSES, **CELLS} and class_name_of(today) not in ("Dense", "Embedding")
    calls = [node if isinstance(node, Mapping) else _call(node, names, recurrent) for node in nodes]
    return {**today, "name": serialized.get("name"), "inbound_nodes": calls}


def _call(node: object, names: set[str], recurrent: bool) -> Config:
    """An old call, [[layer, call, index, kwargs], ...], as args and kwargs; after a recurrent layer's input come its states."""
    items = list(_items(node))
    tensors: list[object] = []
    kwargs: dict[str, object] = {}
    for item in items:
        reference = _reference(item, names)
        if reference is None:
            tensors.append(item[2] if isinstance(item, (list, tuple)) and len(item) > 2 else item)
        else:
            tensors.append(_tensor(reference))
        if isinstance(item, (list, tuple)) and len(item) > 3 and isinstance(item[3], Mapping):
            kwargs |= {str(key): _value(value, names) for key, value in item[3].items()}
    if len(tensors) > 1 and recurrent:
        kwargs["initial_state"], tensors = tensors[1:], tensors[:1]
    return {"args": tensors if len(tensors) == 1 else [tensors], "kwargs": kwargs}


def _items(node: object) -> Iterator[object]:
    """The tensors of a call; a layer called with one tensor may have it without the list around it."""
    if isinstance(node, Mapping):
        yield from node.values()
    elif isinstance(node, (list, tuple)) and node and isinstance(node[0], str):
        yield node
    elif isinstance(node, (list, tuple)):
        yield from node
    else:
        yield node


def _reference(value: object, names: set[str]) -> list[Any] | None:
    """[layer, call, index] of a tensor of the model; None for anything else."""
    if isinstance(value, (list, tuple)) and len(value) in (3, 4) and isinstance(value[0], str) and value[0] in names:
        reference = list(value[:3])
        return reference if all(isinstance(number, int) and number >= 0 for number in reference[1:]) else None
    return None


def _value(value: object, names: set[str]) -> object:
    reference = _reference(value, names)
    if reference is not None:
        return _tensor(reference)
    if isinstance(value, (list, tuple)):
        return [_value(item, names) for item in value]
    return value


def _tensor(reference: list[Any]) -> Config:
    return {"class_name": "__keras_tensor__", "config": {"keras_history": reference}}


__all__ = ["modernised", "weights_by_path", "weights_of_today"]
