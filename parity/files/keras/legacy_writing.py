"""Networks as the `.h5` files of Keras 2, which today's Keras opens, too. Imports no framework.

Only what both compute alike is written. Source: `save_model_to_hdf5` and `save_weights_to_hdf5_group` in
`keras/src/saving/legacy/hdf5_format.py`, `Functional.get_config` in `keras/src/engine/functional.py` of Keras 2.15.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import IO, Any

import numpy as np

from parity.cell import Cell
from parity.deferred import Blocks
from parity.errors import Problem, UnsupportedError
from parity.files.hdf5.writing import Tree, write_hdf5
from parity.files.keras.writing import of_type
from parity.functions import Function
from parity.network.bidirectional import Bidirectional
from parity.network.graph import Layer, Network
from parity.network.keras.layer_writing import cell_blocks, dtype_of
from parity.network.keras.options import CELL_KIND_OF, KIND_OF, STACKED
from parity.network.keras.writing import keras_from_network
from parity.network.recurrent import Recurrent

_VERSION, _BACKEND = "2.15.0", "tensorflow"
"""The Keras whose format is written: the last 2, and the same since 2.0 but for single options."""

_CLASSES = (
    "InputLayer",
    "Activation",
    *KIND_OF,
    *CELL_KIND_OF,
    STACKED,
    "RNN",
    "Bidirectional",
    "Dense",
    "Embedding",
    "Masking",
    "Dropout",
)
_FUNCTIONS = (
    "linear",
    "tanh",
    "sigmoid",
    "relu",
    "softsign",
    "softplus",
    "elu",
    "selu",
    "exponential",
    "softmax",
    "hard_sigmoid",
)
"""Activations that Keras 2 and 3 call the same; but for the last they compute the same."""

_HARD_OF_KERAS_2, _HARD_OF_KERAS_3 = Function("hard_sigmoid", 0.2, 0.5), Function("hard_sigmoid", 1 / 6, 0.5)
_NEAREST = "write .keras, which says it"
_ROLES = ("kernel", "recurrent_kernel", "bias")


def write_legacy_h5(network: Network, file: IO[bytes]) -> None:
    """Write a whole model that `load_model` of Keras 2 opens, and that of Keras 3.

    A hard_sigmoid of Keras 2, 0.2 x + 0.5, is written as such. Keras 3 would take it for its own, x / 6 + 0.5; such a layer gets the option
    `time_major`, which every tf.keras wrote and which Keras 3 refuses: `notes_of_legacy` says so.

    Raises:
        UnsupportedError: what Keras 2 cannot say; all problems at once, nothing is written then.
    """
    old = replace(
        network, layers=tuple(_with_hard(layer, _HARD_OF_KERAS_2, _HARD_OF_KERAS_3) for layer in network.layers)
    )
    problems = list(_hard_problems(network))
    try:
        config = keras_from_network(old)
    except UnsupportedError as error:
        raise UnsupportedError([*problems, *error.problems]) from error
    problems += [
        problem for layer in config["config"]["layers"] for problem in _unknown(layer, f"layer '{layer['name']}'")
    ]
    problems += [problem for layer in old.layers for problem in _uneven(layer)]
    if problems:
        raise UnsupportedError(problems)
    write_hdf5(_tree(old, config), file)


def notes_of_legacy(network: Network) -> Iterator[str]:
    """What is to be known of the file that `write_legacy_h5` makes of a network; nothing where Keras 2 and 3 compute it alike.

    Example:
        >>> from parity.network.keras.config import network_from_keras
        >>> config = {"units": 1, "use_bias": False, "recurrent_activation": "hard_sigmoid", "name": "lstm"}
        >>> layer = {"module": "keras.layers", "class_name": "LSTM", "config": config, "registered_name": None}
        >>> model = {"module": "keras", "class_name": "Sequential", "config": {"name": "m", "layers": [layer]}}
        >>> weights = [np.ones((2, 4), np.float32), np.ones((1, 4), np.float32)]
        >>> old = network_from_keras(model, lambda name: weights, hard_sigmoid_of_keras_2=True)
        >>> next(notes_of_legacy(old))[:45]
        "hard_sigmoid in 'lstm': Keras 2 computes 0.2 "
    """
    names = [f"'{layer.name}'" for layer in network.layers if _HARD_OF_KERAS_2 in _functions(layer)]
    if names:
        yield (
            f"hard_sigmoid in {', '.join(names)}: Keras 2 computes 0.2 x + 0.5, as this network does; "
            f"Keras 3 has another one, x / 6 + 0.5, and refuses to open the file; for Keras 3 {_NEAREST}"
        )


def _functions(layer: Layer) -> list[Function]:
    """What the cells of a layer apply."""
    return [f for part in _parts(layer) if isinstance(part, Recurrent) for cell in part.cells for f in cell.functions]


def _tree(network: Network, config: Mapping[str, Any]) -> Tree:
    layers = [_layer(layer) for layer in config["config"]["layers"]]
    own = config["config"]
    outputs = own["output_layers"] if isinstance(own["output_layers"][0], list) else [own["output_layers"]]
    model = {
        "class_name": "Functional",
        "config": {
            "name": own["name"],
            "trainable": True,
            "layers": layers,
            "input_layers": [own["input_layers"]],
            "output_layers": outputs,
        },
    }
    said = {"backend": _BACKEND, "keras_version": _VERSION}
    root = Tree(attributes={**said, "model_config": json.dumps(model)})
    weights = root.group("model_weights")
    weights.attributes |= said
    weights.say("layer_names", [layer["name"] for layer in layers])
    dtype = np.dtype(dtype_of(network.layers))
    for layer in layers:
        weights.group(layer["name"]).say("weight_names", [])
    kept = [layer for layer in layers[1:] if layer["class_name"] != "Activation"]
    for node, layer in zip(network.layers, kept, strict=True):
        group = weights.group(layer["name"])
        named = list(_named(layer, cell_blocks(node)))
        group.say("weight_names", [name for name, _ in named])
        for name, blocks in named:
            group.put(name, of_type(blocks, dtype))
    weights.group("top_level_model_weights").say("weight_names", [])
    return root


def _named(layer: Mapping[str, Any], cells: Sequence[Sequence[Blocks]]) -> Iterator[tuple[str, Blocks]]:
    """A layer's weights by the names that Keras 2 gives them."""
    class_name, config = layer["class_name"], layer["config"]
    places = list(_places(class_name, config, layer["name"]))
    for place, cell in zip(places, cells, strict=True):
        roles = {"Embedding": ("embeddings",), "Dense": ("kernel", "bias")}.get(class_name, _ROLES)
        for role, blocks in zip(roles, cell, strict=False):
            yield f"{place}/{role}:0", blocks


def _places(class_name: str, config: Mapping[str, Any], path: str) -> Iterator[str]:
    """The folders of the cells of a layer."""
    if class_name == "Bidirectional":
        for way, key in (("forward", "layer"), ("backward", "backward_layer")):
            inner = config[key]
            yield from _places(inner["class_name"], inner["config"], f"{path}/{way}_{inner['config']['name']}")
    elif class_name == "RNN":
        cell = config["cell"]
        inner = cell["config"]["cells"] if cell["class_name"] == STACKED else [cell]
        above = f"{path}/stacked_rnn_cells" if cell["class_name"] == STACKED else path
        yield from (f"{above}/{one['config']['name']}" for one in inner)
    elif class_name in KIND_OF:
        yield f"{path}/{ {'LSTM': 'lstm_cell', 'GRU': 'gru_cell'}.get(class_name, 'simple_rnn_cell') }"
    elif class_name in ("Dense", "Embedding"):
        yield path


def _layer(serialized: Mapping[str, Any]) -> dict[str, Any]:
    """A layer of a model as Keras 2 writes it, with its calls."""
    calls = [_call(node) for node in serialized["inbound_nodes"]]
    return {**_plain(serialized), "name": serialized["name"], "inbound_nodes": calls}


def _call(node: Mapping[str, Any]) -> list[Any]:
    return [[*tensor["config"]["keras_history"], {}] for tensor in node["args"]]


def _plain(serialized: Mapping[str, Any]) -> dict[str, Any]:
    """A layer or a cell with the options that Keras 2 knows."""
    config = dict(serialized["config"])
    if serialized["class_name"] == "InputLayer":
        config["batch_input_shape"] = config.pop("batch_shape")
    if not config.get("zero_output_for_mask"):
        config.pop("zero_output_for_mask", None)
    for key in ("layer", "backward_layer", "cell"):
        if isinstance(config.get(key), Mapping):
            config[key] = _inner(config[key])
    for key in ("layer", "backward_layer"):
        if key in config:
            config[key]["config"].pop("zero_output_for_mask", None)
    if "cells" in config:
        config["cells"] = [_inner(cell) for cell in config["cells"]]
    if serialized["class_name"] in (*KIND_OF, "RNN") and _says_hard(config):
        config["time_major"] = False
    return {"class_name": serialized["class_name"], "config": config}


def _says_hard(config: Mapping[str, Any]) -> bool:
    """Whether a recurrent layer, or a cell in it, applies a hard_sigmoid."""
    inside = [config.get("cell"), *config.get("cells", ())]
    cells = [cell["config"] for cell in inside if isinstance(cell, Mapping)]
    return "hard_sigmoid" in (config.get("activation"), config.get("recurrent_activation")) or any(
        map(_says_hard, cells)
    )


def _inner(serialized: Mapping[str, Any]) -> dict[str, Any]:
    """A layer or a cell inside another; since 2.13 Keras says where its class is, and Keras 3 insists on it."""
    return {"module": "keras.layers", **_plain(serialized), "registered_name": None}


def _unknown(serialized: Mapping[str, Any], where: str) -> Iterator[Problem]:
    """What Keras 2 does not know of a layer, and of those inside it."""
    class_name, config = serialized["class_name"], serialized["config"]
    if class_name not in _CLASSES:
        yield Problem("Keras 2 has no such layer", where, ", ".join(_CLASSES[1:]), class_name, _NEAREST)
        return
    for key in ("activation", "recurrent_activation"):
        if key in config and config[key] not in _FUNCTIONS:
            got = f"{key}={config[key]!r}"
            yield Problem("Keras 2 has no such activation", where, ", ".join(_FUNCTIONS), got, _NEAREST)
    inner = [config[key] for key in ("layer", "backward_layer", "cell") if isinstance(config.get(key), Mapping)]
    for one in (*inner, *config.get("cells", ())):
        yield from _unknown(one, where)


def _parts(layer: Layer) -> tuple[Layer, ...]:
    return layer.recurrent if isinstance(layer, Bidirectional) else (layer,)


def _hard_problems(network: Network) -> Iterator[Problem]:
    """Uses of the hard_sigmoid of Keras 3, which Keras 2 would compute otherwise."""
    for layer in network.layers:
        dense = getattr(layer, "activation", None) == "hard_sigmoid"
        if dense or _HARD_OF_KERAS_3 in _functions(layer):
            expected, got = "0.2 x + 0.5", "x / 6 + 0.5"
            yield Problem(
                "hard_sigmoid of Keras 3 is another one in Keras 2", f"layer '{layer.name}'", expected, got, _NEAREST
            )


def _uneven(layer: Layer) -> Iterator[Problem]:
    """Keras 2 halves the list of a Bidirectional's weights when it loads them (`preprocess_weights_for_loading`)."""
    if isinstance(layer, Bidirectional):
        counts = [sum(len(cell) for part in stack for cell in cell_blocks(part)) for stack in layer.stacks]
    elif isinstance(layer, Recurrent):
        counts = [len(cell) for cell in cell_blocks(layer)]
    else:
        return
    if len(set(counts)) > 1:
        expected, got = f"{counts[0]} weights, as forward", f"{counts[1]} weights"
        yield Problem("Keras 2 loads no unlike directions", f"layer '{layer.name}', backward", expected, got, _NEAREST)


def _with_hard(layer: Layer, old: Function, new: Function) -> Layer:
    """A layer whose cells apply another function wherever they apply the first."""
    if isinstance(layer, Bidirectional):
        stacks = [tuple(_swapped(part, old, new) for part in stack) for stack in layer.stacks]
        return replace(layer, forward=stacks[0], backward=stacks[1])
    return _swapped(layer, old, new) if isinstance(layer, Recurrent) else layer


def _swapped(layer: Recurrent, old: Function, new: Function) -> Recurrent:
    return replace(layer, cells=tuple(_cell(cell, old, new) for cell in layer.cells))


def _cell(cell: Cell, old: Function, new: Function) -> Cell:
    return replace(cell, functions=tuple(new if function == old else function for function in cell.functions))
