"""Which options of Keras's layers keep the numbers: a table, read by `parity.network.keras.config`.

A row for every option that Keras 3 writes into a layer's configuration. Anything that is not in the table is refused.
Source: the `get_config` of each layer in Keras 3.0 to 3.15.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from parity.conventions import MERGE_MODES
from parity.errors import Problem
from parity.layouts import Kind
from parity.network.activations import ACTIVATIONS

Config: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True)
class Option:
    """What a layer's option may be.

    Args:
        accepted: the values that are kept exactly; None if the option does not change the numbers at inference.
        remedy: the nearest exact way for any other value.
    """

    accepted: tuple[object, ...] | None = None
    remedy: str = ""


_INERT = Option()
_FLAG = Option((True, False))
_QUANTIZED = Option((None,), "convert the float32 model, quantize the result")

DTYPES = ("float32", "float64", "float16", "bfloat16")
"""The types of weights that are read: float16 and bfloat16 as float32, which holds each of their numbers exactly."""

COMMON = {
    "name": _INERT,
    "trainable": _INERT,
    "dtype": Option(
        DTYPES, "build the model with dtype='float32' and give it the weights: new.set_weights(old.get_weights())"
    ),
    "batch_input_shape": _INERT,
    "activity_regularizer": _INERT,
}
_KERNEL = {
    f"{weight}_{part}": _INERT for weight in ("kernel", "bias") for part in ("initializer", "regularizer", "constraint")
}
_CELL = {
    **COMMON,
    **_KERNEL,
    **{f"recurrent_{part}": _INERT for part in ("initializer", "regularizer", "constraint")},
    "units": _INERT,
    "use_bias": _FLAG,
    "activation": _INERT,  # the table of functions says which are known
    "dropout": _INERT,
    "recurrent_dropout": _INERT,
    "implementation": _INERT,
    "seed": _INERT,
}
_LOOP = {
    **COMMON,
    "return_sequences": _FLAG,
    "return_state": _FLAG,
    "go_backwards": _FLAG,
    "stateful": _FLAG,
    "unroll": _FLAG,
    "zero_output_for_mask": _FLAG,
    "time_major": Option((False,), "set time_major=False and swap the first two axes of the inputs"),
    "use_cudnn": _INERT,
}
_KINDS: dict[str, Mapping[str, Option]] = {
    "LSTM": {**_CELL, "recurrent_activation": _INERT, "unit_forget_bias": _INERT},
    "GRU": {**_CELL, "recurrent_activation": _INERT, "reset_after": _FLAG},
    "SimpleRNN": _CELL,
}
_OWN_CELL = {
    **COMMON,
    **dict.fromkeys(
        (
            "units",
            "kind",
            "functions",
            "reset_after",
            "clip",
            "input_forget",
            "use_bias",
            "peepholes",
            "projection_size",
        ),
        _INERT,
    ),
}

_EXTENDED_CELL = {
    **COMMON,
    **dict.fromkeys(("units", "activation", "clip"), _INERT),
    "use_bias": _FLAG,
}
_EXTENDED_GATES = {"recurrent_activation": _INERT}
_WRITTEN_CELLS = {
    "ExtendedLSTMCell": {
        **_EXTENDED_CELL,
        **_EXTENDED_GATES,
        "output_activation": _INERT,
        "coupled": _FLAG,
        "peepholes": _FLAG,
        "projection": _INERT,
    },
    "ExtendedGRUCell": {**_EXTENDED_CELL, **_EXTENDED_GATES, "reset_after": _FLAG},
    "ExtendedRNNCell": _EXTENDED_CELL,
}

_DENSE = {
    **COMMON,
    **_KERNEL,
    "units": _INERT,
    "use_bias": _FLAG,
    "activation": Option(tuple(ACTIVATIONS), "set activation='linear' and apply the function to the outputs"),
    "lora_rank": Option((None,), "merge the LoRA matrices into the kernel, then save"),
    "lora_alpha": _INERT,
    "quantization_config": _QUANTIZED,
}
_EMBEDDING = {
    **COMMON,
    **{f"embeddings_{part}": _INERT for part in ("initializer", "regularizer", "constraint")},
    "input_dim": _INERT,
    "output_dim": _INERT,
    "input_length": _INERT,
    "mask_zero": _FLAG,
    "lora_rank": Option((None,), "merge the LoRA matrices into the table, then save"),
    "lora_alpha": _INERT,
    "quantization_config": _QUANTIZED,
}
INPUT = {
    "name": _INERT,
    "dtype": Option(DTYPES, "give float32 inputs"),
    "batch_shape": _INERT,
    "batch_input_shape": _INERT,
    "sparse": Option((False, None), "give dense inputs"),
    "ragged": Option((False, None), "give inputs of one length"),
    "optional": Option((False,), "set optional=False"),
}
TOKENS = Option(("int32", "int64", "int16", "int8", "uint8", "uint16", "uint32", "float32"), "give int32 inputs")

KIND_OF: dict[str, Kind] = {"LSTM": "lstm", "GRU": "gru", "SimpleRNN": "rnn"}
"""Keras's recurrent layers; the class of a cell is called after them, `LSTMCell`."""

CELL_KIND_OF: dict[str, Kind] = {f"{name}Cell": kind for name, kind in KIND_OF.items()}
STACKED = "StackedRNNCells"

OWN_PACKAGE, OWN_MODULE = "parity", "parity.frameworks.keras.layers"
OWN_CELL, OWN_ALIGNED = "RecurrentCell", "Aligned"
"""The classes of `parity.frameworks.keras.layers`, registered in Keras under the package."""

WRITTEN_CELLS: dict[str, Kind] = {f"Extended{kind.upper()}Cell": kind for kind in KIND_OF.values()}
WRITTEN_LAYERS = ("BroadcastLike", "LimitedLength", "Parameter", "Positions", "ReshapeLike")
"""Classes of the modules that parity writes for Keras, `parity.graph.keras_code.snippets`, registered under the same package."""

CELLS: dict[str, Mapping[str, Option]] = {
    **{f"{name}Cell": options for name, options in _KINDS.items()},
    OWN_CELL: _OWN_CELL,
    **_WRITTEN_CELLS,
    STACKED: {
        **COMMON,
        "cells": _INERT,
        "reverse_state_order": Option((False,), "read the states of the last cell first, or leave return_state out"),
    },
}
"""The cells that are read, by class, and what their options may be."""

CLASSES: dict[str, Mapping[str, Option]] = {
    **{name: {**_LOOP, **options} for name, options in _KINDS.items()},
    "RNN": {**_LOOP, "cell": _INERT},
    "Bidirectional": {
        **COMMON,
        "merge_mode": Option(MERGE_MODES, "use a merge_mode of Keras"),
        "layer": _INERT,
        "backward_layer": _INERT,
        "zero_output_for_mask": _FLAG,  # of `history.modernised`, which says so of Keras before 2.4
    },
    "TimeDistributed": {**COMMON, "layer": _INERT},
    "Dense": _DENSE,
    "Embedding": _EMBEDDING,
    "Masking": {**COMMON, "mask_value": _INERT},
    "Dropout": {**COMMON, "rate": _INERT, "seed": _INERT, "noise_shape": _INERT},
    OWN_ALIGNED: {**COMMON, "layer": _INERT},
}
"""The layers that are read, by class, and what their options may be."""

MASK_OPERATIONS = ("NotEqual", "Any")
"""What Keras writes into a Functional model for the mask of a `Masking` or an `Embedding(mask_zero=True)`."""

OTHER_CLASSES = {
    **dict.fromkeys(
        ("SpatialDropout1D", "GaussianNoise", "GaussianDropout", "AlphaDropout", "ActivityRegularization"),
        "leave the layer out: it is inert at inference",
    ),
    **dict.fromkeys(MASK_OPERATIONS, "let Masking or Embedding(mask_zero=True) make the mask"),
    "Activation": "only behind a linear Dense layer: give the activation to a Dense layer",
    "GetItem": "set return_sequences=False on the recurrent layer: that is its last step",
    **dict.fromkeys(("Sequential", "Functional"), "build one model of the layers of both"),
}


def is_own(serialized: Config) -> bool:
    """Whether a serialized object is of one of parity's own classes for Keras, or of those in the modules that parity writes.

    Example:
        >>> is_own({"class_name": "Parameter", "registered_name": "parity>Parameter"}), is_own({"class_name": "Parameter"})
        (True, False)
    """
    name = serialized.get("class_name")
    return name in _OWN and serialized.get("registered_name") == f"{OWN_PACKAGE}>{name}"


_OWN = frozenset((OWN_CELL, OWN_ALIGNED, *WRITTEN_CELLS, *WRITTEN_LAYERS))


def registered_apart(serialized: Config) -> Config:
    """An object of one of parity's own classes as `.keras` files have it: HDF5 files write package and class as one word.

    Example:
        >>> registered_apart({"class_name": "parity>Positions"})
        {'class_name': 'Positions', 'module': '', 'registered_name': 'parity>Positions'}
    """
    whole = str(serialized.get("class_name"))
    name = whole.removeprefix(f"{OWN_PACKAGE}>")
    if name == whole or name not in _OWN or serialized.get("registered_name") not in (None, whole):
        return serialized
    return {**serialized, "class_name": name, "module": "", "registered_name": whole}


def check_options(config: Config, options: Mapping[str, Option], where: str, problems: list[Problem]) -> None:
    """Add a problem for every option that is unknown or has a value that is not kept exactly."""
    for key, value in config.items():
        option = options.get(key)
        if option is None:
            remedy = "build the layer without it" if value else "build the layer with Keras 3.15 or earlier"
            problems.append(
                Problem(f"unknown option '{key}'", where, "an option of Keras 3", f"{key}={shown(value)}", remedy)
            )
        elif option.accepted is not None and plain(value) not in option.accepted:
            expected = " or ".join(f"{key}={shown(accepted)}" for accepted in option.accepted)
            problems.append(
                Problem(f"{key} is not kept exactly", where, expected, f"{key}={shown(plain(value))}", option.remedy)
            )


def plain(value: object) -> object:
    """A serialized built-in function or dtype policy as its name; everything else as it is."""
    if not isinstance(value, Mapping):
        return value
    class_name, module, config = value.get("class_name"), str(value.get("module")), value.get("config")
    if class_name == "function" and isinstance(config, str) and module in ("builtins", "keras.activations"):
        return config if value.get("registered_name") in (None, "function", config) else value.get("registered_name")
    if class_name == "DTypePolicy" and module.split(".", maxsplit=1)[0] == "keras" and isinstance(config, Mapping):
        return config.get("name")
    return f"{module}.{class_name}" if isinstance(class_name, str) else value


def shown(value: object) -> str:
    """A value of a configuration, in at most 80 characters."""
    text = json.dumps(value, default=repr) if isinstance(value, (Mapping, list, tuple)) else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
