"""The options of single layers of Keras 1 and 2, said as Keras 3 says them: tables, and what reads them. Imports no framework.

Sources: `get_config` and the defaults of `__init__` of each layer: Keras 1.2.2 and 2.0.0 to 2.3.1 (`keras/layers/recurrent.py`, `core.py`,
`embeddings.py`, `wrappers.py`, `cudnn_recurrent.py`), tf.keras 2.6 to 2.15 (`keras/layers/rnn/`, before 2.9 `recurrent_v2.py`). That
Keras 1's words mean these of Keras 2 is in `keras/legacy/interfaces.py` of Keras 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from parity.errors import FormatError
from parity.network.keras.chain import class_name_of, field
from parity.network.keras.old_weights import CUDNN_KINDS
from parity.network.keras.options import (
    CELL_KIND_OF,
    CELLS,
    CLASSES,
    KIND_OF,
    MASK_OPERATIONS,
    STACKED,
    Config,
    registered_apart,
    shown,
)

_RECURRENT_WORDS = {
    "output_dim": "units",
    "inner_activation": "recurrent_activation",
    "init": "kernel_initializer",
    "inner_init": "recurrent_initializer",
    "W_regularizer": "kernel_regularizer",
    "U_regularizer": "recurrent_regularizer",
    "b_regularizer": "bias_regularizer",
    "dropout_W": "dropout",
    "dropout_U": "recurrent_dropout",
}
_DENSE_WORDS = {
    "output_dim": "units",
    "init": "kernel_initializer",
    "bias": "use_bias",
    "W_regularizer": "kernel_regularizer",
    "b_regularizer": "bias_regularizer",
    "W_constraint": "kernel_constraint",
    "b_constraint": "bias_constraint",
}
_EMBEDDING_WORDS = {
    "init": "embeddings_initializer",
    "W_regularizer": "embeddings_regularizer",
    "W_constraint": "embeddings_constraint",
}
WORDS_OF_KERAS_1: dict[str, Mapping[str, str]] = {
    **dict.fromkeys(KIND_OF, _RECURRENT_WORDS),
    "Dense": _DENSE_WORDS,
    "Embedding": _EMBEDDING_WORDS,
    "Dropout": {"p": "rate"},
    "InputLayer": {"batch_input_shape": "batch_shape", "input_dtype": "dtype"},
}
"""Keras 1's words for the options of a layer, and Keras 2's; `batch_input_shape` became `batch_shape` in Keras 3 only."""

_WITHOUT_MEANING = {
    **dict.fromkeys(
        KIND_OF, ("consume_less", "forget_bias_init", "input_dim", "input_length", "implementation", "num_constants")
    ),
    "Dense": ("input_dim",),
    "Embedding": ("dropout", "input_length", "input_dtype"),
    "RNN": ("num_constants",),
}
"""Options that do not change the numbers at inference, or that the layer's call says again."""

_ALWAYS_WITHOUT_MEANING = ("input_dtype", "batch_size", "input_shape", "autocast")

USUAL_OF_CUDNN = {
    "activation": "tanh",
    "recurrent_activation": "sigmoid",
    "use_bias": True,
    "reset_after": True,
}
"""What CuDNNLSTM and CuDNNGRU compute and do not write."""


MODELS = {"Sequential": "Sequential", "Model": "Functional", "Functional": "Functional", "Container": "Functional"}
"""Classes of models of every age, and what Keras 3 calls them."""


def layers_of(serialized: Config) -> list[Config] | None:
    """The layers of a model of any age, None for what is no model.

    Example:
        >>> layers_of({"class_name": "Sequential", "config": [{"class_name": "LSTM"}]})
        [{'class_name': 'LSTM'}]
    """
    config = serialized.get("config")
    layers = config.get("layers") if isinstance(config, Mapping) else config
    if str(serialized.get("class_name")) not in MODELS or not isinstance(layers, (list, tuple)):
        return None
    if not all(isinstance(layer, Mapping) for layer in layers):
        raise FormatError(
            "a layer of the model is not a JSON object", title_of(serialized, "model"), "an object", shown(layers)
        )
    return list(layers)


def title_of(serialized: Config, name: str) -> str:
    """The name of a layer or a model of any age; the given one where it has none, as a Sequential of Keras 1."""
    config = serialized.get("config")
    own = config.get("name") if isinstance(config, Mapping) else None
    return str(own or serialized.get("name") or name)


def before(version: str | None, major: int, minor: int) -> bool:
    """Whether a version is older than another; one that is not known counts as old.

    Example:
        >>> before("2.2.4-tf", 2, 3), before("2.15.0", 2, 3), before(None, 2, 3)
        (True, False, True)
    """
    parts = [int(word) for word in str(version or "0").split("-")[0].split(".")[:2] if word.isdigit()]
    return tuple([*parts, 0, 0][:2]) < (major, minor)


def usual_of(class_name: str, version: str | None) -> dict[str, object]:
    """The options that Keras of a version takes where a configuration leaves them out and Keras 3 would take others.

    recurrent_activation is hard_sigmoid until multi-backend Keras 2.2.5 and in tf.keras of TensorFlow 1, sigmoid since 2.3.0 (its release
    notes; `LSTM.__init__` of 2.2.4 and 2.3.1); reset_after came with 2.1.3 and was False until the LSTM and GRU of TensorFlow 2, which
    always write it.

    Example:
        >>> usual_of("GRU", "2.1.6")
        {'recurrent_activation': 'hard_sigmoid', 'reset_after': False}
    """
    if not before(version, 3, 0):
        return {}
    kind = {**KIND_OF, **CELL_KIND_OF}.get(class_name)
    if kind not in ("lstm", "gru"):
        return {}
    usual: dict[str, object] = {"recurrent_activation": "hard_sigmoid" if before(version, 2, 3) else "sigmoid"}
    return usual if kind == "lstm" else {**usual, "reset_after": False}


def layer_of_today(serialized: Config, version: str | None, name: str) -> Config:
    """A layer or a cell in Keras 3's serialized form; one that is not in parity's tables keeps its options.

    Args:
        serialized: class_name and config as the old file has them.
        version: of the Keras that wrote it.
        name: for a layer whose configuration has none.
    """
    serialized = registered_apart(serialized)
    class_name = class_name_of(serialized)
    config: dict[str, Any] = {**field(serialized, "config", Mapping, name), "name": title_of(serialized, name)}
    module, registered = _module(serialized), serialized.get("registered_name")
    outer = {"module": module, "registered_name": None if registered == class_name else registered}
    if class_name in CUDNN_KINDS:
        class_name = class_name.removeprefix("CuDNN")
        usual = {key: value for key, value in USUAL_OF_CUDNN.items() if key != "reset_after" or class_name == "GRU"}
        config = {**usual, **config}
    if module != "keras.layers" or class_name not in {**CLASSES, **CELLS, "InputLayer": None, "TimeDistributed": None}:
        return {**outer, "class_name": class_name, "config": config}
    words, dropped = (
        WORDS_OF_KERAS_1.get(class_name, {}),
        (*_WITHOUT_MEANING.get(class_name, ()), *_ALWAYS_WITHOUT_MEANING),
    )
    config = {words.get(key, key): value for key, value in config.items() if key in words or key not in dropped}
    config = {**usual_of(class_name, version), **config}
    if "dtype" in config:
        config["dtype"] = _dtype(config["dtype"], class_name)
    config |= _ways_of(class_name, config, version)
    for key in ("layer", "backward_layer", "cell"):
        if isinstance(config.get(key), Mapping):
            config[key] = layer_of_today(config[key], version, f"{name}_{key}")
    if class_name == STACKED and isinstance(config.get("cells"), (list, tuple)):
        config["cells"] = [_cell(cell, version, f"{name}_{place}") for place, cell in enumerate(config["cells"])]
    return {**outer, "class_name": class_name, "config": config}


def _ways_of(class_name: str, config: Config, version: str | None) -> dict[str, object]:
    """What layers of a version compute otherwise than those of Keras 3 with the same options.

    A Bidirectional fills masked steps with zeros since tf.keras of TensorFlow 1.14 (`force_zero_output_for_mask`, not in multi-backend
    Keras up to 2.3.1), before with the output before; the states of `StackedRNNCells` came in reverse order up to Keras 2.1.6.
    """
    if class_name == "Bidirectional" and (
        before(version, 2, 2) or (before(version, 2, 4) and "tf" not in str(version))
    ):
        return {"zero_output_for_mask": False}
    inner = config.get("cell")
    if class_name != "RNN" or not isinstance(inner, Mapping) or inner.get("class_name") != STACKED:
        return {}
    if config.get("return_state") and before(version, 2, 2) and isinstance(inner.get("config"), Mapping):
        return {"cell": {**inner, "config": {**inner["config"], "reverse_state_order": True}}}
    return {}


def _cell(cell: object, version: str | None, name: str) -> Config:
    if not isinstance(cell, Mapping):
        raise FormatError("a cell is not a JSON object", name, "an object", shown(cell))
    return layer_of_today(cell, version, name)


def _module(serialized: Config) -> str:
    """Where Keras 3 keeps the class; Keras before 2.12 and the HDF5 files of all did not write modules, tf_keras writes its own name."""
    module = serialized.get("module")
    if module is None and serialized["class_name"] in MASK_OPERATIONS:
        return "keras.src.ops"
    if module is None:
        return "keras.layers" if serialized.get("registered_name") is None else ""
    name = str(module)
    return f"keras.{name.removeprefix('tf_keras.')}" if name.startswith("tf_keras.") else name


def _dtype(value: object, class_name: str) -> object:
    """A policy of tf.keras by its name; the type of an old Embedding is that of its inputs."""
    if isinstance(value, Mapping) and value.get("class_name") in ("Policy", "DTypePolicy", "PolicyV1"):
        config = value.get("config")
        value = config.get("name") if isinstance(config, Mapping) else value
    return "float32" if class_name == "Embedding" and str(value).startswith(("int", "uint")) else value
