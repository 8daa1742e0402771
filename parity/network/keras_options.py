"""Which options of Keras's layers keep the numbers: a table, read by `parity.network.keras_config`.

A row for every option that Keras 3 writes into a layer's configuration. Anything that is not in the table is refused.
Source: the `get_config` of each layer in Keras 3.0 to 3.15.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

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


@dataclass(frozen=True)
class LayerClass:
    """A Keras layer class that is read.

    Args:
        options: every option it may have.
        cells: for each cell with weights, its path below the layer in a weights file.
        sizes: the options that have to be whole numbers above zero.
    """

    options: Mapping[str, Option]
    cells: tuple[str, ...]
    sizes: tuple[str, ...] = ()


_INERT = Option()
_FLAG = Option((True, False))
_ON_ITS_OWN = "set {}: without a mask it changes nothing"
_DROPOUT = Option(
    (0, None), "build the layer again with 0 and give it the weights (set_weights): dropout is inert at inference"
)
_QUANTIZED = Option((None,), "convert the float32 model, quantize the result")

COMMON = {
    "name": _INERT,
    "trainable": _INERT,
    "dtype": Option(
        ("float32",), "build the model with dtype='float32' and give it the weights: new.set_weights(old.get_weights())"
    ),
    "batch_input_shape": _INERT,
    "activity_regularizer": _INERT,
}
_KERNEL = {
    f"{weight}_{part}": _INERT for weight in ("kernel", "bias") for part in ("initializer", "regularizer", "constraint")
}
_RECURRENT = {
    **COMMON,
    **_KERNEL,
    **{f"recurrent_{part}": _INERT for part in ("initializer", "regularizer", "constraint")},
    "units": _INERT,
    "use_bias": _FLAG,
    "return_sequences": _FLAG,
    "return_state": _FLAG,
    "activation": Option(("tanh",), "train with activation='tanh', the only one torch.nn.LSTM and torch.nn.GRU have"),
    "recurrent_activation": Option(
        ("sigmoid",), "train with recurrent_activation='sigmoid', the only one torch.nn.LSTM and torch.nn.GRU have"
    ),
    "go_backwards": Option((False,), "set go_backwards=False and reverse the time axis of the inputs"),
    "stateful": Option((False,), "set stateful=False and give the states of the last call as initial_state"),
    "dropout": _DROPOUT,
    "recurrent_dropout": _DROPOUT,
    "zero_output_for_mask": Option((False,), _ON_ITS_OWN.format("zero_output_for_mask=False")),
    "time_major": Option((False,), "set time_major=False and swap the first two axes of the inputs"),
    "unroll": _INERT,
    "implementation": _INERT,
    "use_cudnn": _INERT,
    "seed": _INERT,
}
_LSTM = {**_RECURRENT, "unit_forget_bias": _INERT}
_GRU = {
    **_RECURRENT,
    "reset_after": Option((True,), "train with reset_after=True: torch.nn.GRU and cuDNN know no other GRU"),
}
FORWARD = {"zero_output_for_mask": _FLAG}
BACKWARD = {**FORWARD, "go_backwards": Option((True,), "a backward layer has go_backwards=True")}

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
    "mask_zero": Option((False,), "set mask_zero=False and give sequences of one length: masks are not converted"),
    "lora_rank": Option((None,), "merge the LoRA matrices into the table, then save"),
    "lora_alpha": _INERT,
    "quantization_config": _QUANTIZED,
}
_BIDIRECTIONAL = {
    **COMMON,
    "merge_mode": Option(("concat",), "set merge_mode='concat' and merge the two halves of the output yourself"),
    "layer": _INERT,
    "backward_layer": _INERT,
}
INPUT = {
    "name": _INERT,
    "dtype": Option(("float32",), "give float32 inputs"),
    "batch_shape": _INERT,
    "batch_input_shape": _INERT,
    "sparse": Option((False, None), "give dense inputs"),
    "ragged": Option((False, None), "give inputs of one length"),
    "optional": Option((False,), "set optional=False"),
}
TOKENS = Option(("int32", "int64", "int16", "int8", "uint8", "uint16", "uint32", "float32"), "give int32 inputs")

CELL_KINDS: dict[str, Kind] = {"LSTM": "lstm", "GRU": "gru"}
"""The classes of a single direction."""

CLASSES: dict[str, LayerClass] = {
    "LSTM": LayerClass(_LSTM, ("cell",), ("units",)),
    "GRU": LayerClass(_GRU, ("cell",), ("units",)),
    "Bidirectional": LayerClass(_BIDIRECTIONAL, ("forward_layer/cell", "backward_layer/cell")),
    "Dense": LayerClass(_DENSE, ("",), ("units",)),
    "Embedding": LayerClass(_EMBEDDING, ("",), ("input_dim", "output_dim")),
}
"""The layers that are read, and what their options may be."""

MASKED = "give sequences of one length, without Masking and mask_zero: masks are not converted"
OTHER_CLASSES = {
    **dict.fromkeys(
        ("Dropout", "SpatialDropout1D", "GaussianNoise", "GaussianDropout", "AlphaDropout", "ActivityRegularization"),
        "leave the layer out: it is inert at inference",
    ),
    **dict.fromkeys(("Masking", "NotEqual", "Any", "All"), MASKED),
    "Activation": "give the activation to the Dense layer before it",
    "TimeDistributed": "a Dense layer works on every step by itself: leave the wrapper out",
    "GetItem": "set return_sequences=False on the recurrent layer: that is its last step",
    "RNN": "use keras.layers.LSTM or GRU, stacked, instead of RNN(cells)",
    **dict.fromkeys(("Sequential", "Functional"), "build one model of the layers of both"),
}


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
