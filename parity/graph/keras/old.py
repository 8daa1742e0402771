"""Layers of Keras 1 and 2 that `parity.network.keras.history` leaves as they are, said as Keras 3 says them.

Sources: `get_config` in Keras 1.2.2 (`keras/layers/convolutional.py`, `pooling.py`, `core.py`, `topology.py` for `Merge`),
`keras/legacy/interfaces.py` of Keras 2 for its new words, `preprocess_weights_for_loading` for the kernels of Keras 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from parity.deferred import Stored
from parity.network.keras.options import CELLS, CLASSES, Config

_CONVOLUTION = {
    "nb_filter": "filters",
    "border_mode": "padding",
    "bias": "use_bias",
    "init": "kernel_initializer",
    "subsample": "strides",
    "subsample_length": "strides",
    "filter_length": "kernel_size",
    "atrous_rate": "dilation_rate",
    "dim_ordering": "data_format",
}
_POOLING = {"pool_length": "pool_size", "stride": "strides", "border_mode": "padding", "dim_ordering": "data_format"}
_WORDS: dict[str, Mapping[str, str]] = {
    **dict.fromkeys(("Conv1D", "Conv2D", "SeparableConv2D"), _CONVOLUTION),
    **dict.fromkeys(("MaxPooling1D", "MaxPooling2D", "AveragePooling1D", "AveragePooling2D"), _POOLING),
    **{name: {"p": "rate"} for name in ("SpatialDropout1D", "SpatialDropout2D", "GaussianDropout")},
    **{
        name: {"dim_ordering": "data_format"}
        for name in ("GlobalMaxPooling2D", "GlobalAveragePooling2D", "ZeroPadding2D", "UpSampling2D")
    },
    "GaussianNoise": {"sigma": "stddev"},
    "UpSampling1D": {"length": "size"},
    "Dense": {"output_dim": "units", "bias": "use_bias"},
}
_CLASSES = {
    "Convolution1D": "Conv1D",
    "AtrousConvolution1D": "Conv1D",
    "Convolution2D": "Conv2D",
    "AtrousConvolution2D": "Conv2D",
    "SeparableConvolution2D": "SeparableConv2D",
    "TimeDistributedDense": "Dense",
    "BatchNormalizationV1": "BatchNormalization",
    "BatchNormalizationV2": "BatchNormalization",
    "SyncBatchNormalization": "BatchNormalization",
}
_MERGES = {
    "concat": "Concatenate",
    "sum": "Add",
    "mul": "Multiply",
    "ave": "Average",
    "max": "Maximum",
    "dot": "Dot",
    "cos": "Dot",
}
_WITHOUT_MEANING = (
    *("input_dtype", "batch_size", "input_shape", "autocast", "input_dim", "input_length"),
    *("W_regularizer", "b_regularizer", "W_constraint", "b_constraint", "init", "beta_init", "gamma_init"),
)
_ORDERINGS = {"tf": "channels_last", "th": "channels_first", "default": "channels_last"}


def today(layer: Config) -> Config:
    """A layer of Keras 1 or 2 in the words of Keras 3; one that needs none stays as it is.

    Example:
        >>> old = {"class_name": "Convolution1D", "module": "keras.layers",
        ...        "config": {"name": "c", "nb_filter": 4, "filter_length": 3, "subsample_length": 2, "border_mode": "same"}}
        >>> today(old)["config"]
        {'name': 'c', 'filters': 4, 'kernel_size': 3, 'strides': 2, 'padding': 'same'}
        >>> today({"class_name": "Merge", "module": "keras.layers", "config": {"name": "m", "mode": "sum"}})["class_name"]
        'Add'
    """
    if layer.get("module") != "keras.layers" or not isinstance(layer.get("config"), Mapping):
        return layer
    class_name, config = str(layer["class_name"]), layer["config"]
    if class_name in CLASSES or class_name in CELLS:
        return layer
    if class_name == "Merge":
        return _merge(layer)
    own = _CLASSES.get(class_name, class_name)
    words = _WORDS.get(own, {})
    new: dict[str, Any] = {words.get(key, key): value for key, value in config.items() if key not in _WITHOUT_MEANING}
    if "nb_row" in new and "nb_col" in new:
        new["kernel_size"] = [new.pop("nb_row"), new.pop("nb_col")]
    if new.get("data_format") in _ORDERINGS:
        new["data_format"] = _ORDERINGS[new["data_format"]]
    if own == "BatchNormalization" and new.get("mode") == 0:
        del new["mode"]
    policy = new.get("dtype")
    if isinstance(policy, Mapping) and policy.get("class_name") in ("Policy", "PolicyV1"):
        new["dtype"] = policy["config"].get("name") if isinstance(policy.get("config"), Mapping) else policy
    return {**layer, "class_name": own, "config": new}


def _merge(layer: Config) -> Config:
    """`Merge` of Keras 1, where its mode is a word and nothing of it is a function."""
    config = layer["config"]
    mode = config.get("mode")
    functions = ("output_shape", "output_mask")
    if mode not in _MERGES or any(config.get(key) not in (None, "raw") for key in functions):
        return layer
    kept = {key: config[key] for key in ("name", "trainable") if key in config}
    if mode == "concat":
        kept["axis"] = config.get("concat_axis", -1)
    if mode in ("dot", "cos"):
        axes = config.get("dot_axes", -1)
        kept |= {"axes": axes, "normalize": mode == "cos"}
    return {**layer, "class_name": _MERGES[mode], "config": kept}


def kernels_today(
    layer: Config, stored: Callable[[], Sequence[Stored] | Mapping[str, Stored]]
) -> Callable[[], Sequence[Stored] | Mapping[str, Stored]]:
    """The weights of a layer, the kernel of a Conv1D of Keras 1, (steps, 1, channels, filters), without its axis of one."""
    if layer.get("class_name") != "Conv1D":
        return stored

    def read() -> Sequence[Stored] | Mapping[str, Stored]:
        found = stored()
        if isinstance(found, Mapping) or not found or len(found[0].shape) != 4 or found[0].shape[1] != 1:
            return found
        first: Any = found[0]
        return [np.asarray(first[()])[:, 0], *found[1:]]

    return read


__all__ = ["kernels_today", "today"]
