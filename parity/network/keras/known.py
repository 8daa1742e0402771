"""The weights of layers that parity does not convert, by Keras's names: so that they can be shown, and told apart in a nested model.

Source: `build` of each layer in Keras 2.15 and 3.15; Keras 1 has the same numbers of weights.
"""

from __future__ import annotations

from collections.abc import Mapping

from parity.layouts import GATES
from parity.network.keras.chain import field
from parity.network.keras.old_weights import CUDNN_KINDS
from parity.network.keras.options import (
    CELL_KIND_OF,
    KIND_OF,
    STACKED,
    WRITTEN_CELLS,
    WRITTEN_LAYERS,
    Config,
    is_own,
    registered_apart,
)

_KERNEL_AND_BIAS = (
    "Dense", "Conv1D", "Conv2D", "Conv3D", "Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose", "LocallyConnected1D",
    "LocallyConnected2D", "EinsumDense", "TimeDistributedDense", "Convolution1D", "Convolution2D", "AtrousConvolution1D",
)  # fmt: skip
_RECURRENT = (*KIND_OF, *CUDNN_KINDS, *CELL_KIND_OF, "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D")
_FIXED = {
    "Embedding": ("embeddings",),
    "PReLU": ("alpha",),
    "SeparableConv1D": ("depthwise_kernel", "pointwise_kernel", "bias"),
    "SeparableConv2D": ("depthwise_kernel", "pointwise_kernel", "bias"),
    "DepthwiseConv1D": ("depthwise_kernel", "bias"),
    "DepthwiseConv2D": ("depthwise_kernel", "bias"),
    **dict.fromkeys(
        (
            "InputLayer", "Activation", "ActivityRegularization", "Add", "AlphaDropout", "Average", "AveragePooling1D", "AveragePooling2D",
            "Concatenate", "Cropping1D", "Dot", "Dropout", "ELU", "Flatten", "GaussianDropout", "GaussianNoise", "GetItem",
            "GlobalAveragePooling1D", "GlobalAveragePooling2D", "GlobalMaxPooling1D", "GlobalMaxPooling2D", "Lambda", "LeakyReLU",
            "Masking", "MaxPooling1D", "MaxPooling2D", "Maximum", "Merge", "Minimum", "Multiply", "Permute", "ReLU", "RepeatVector",
            "Reshape", "Softmax", "SpatialDropout1D", "SpatialDropout2D", "Subtract", "TFOpLambda", "SlicingOpLambda", "ThresholdedReLU",
            "TensorFlowOpLayer", "UpSampling1D", "UpSampling2D", "ZeroPadding1D", "ZeroPadding2D",
        ),
        (),
    ),
}  # fmt: skip
_CELL = {"kernel": "", "recurrent_kernel": "", "bias": "use_bias"}
_WRITTEN: dict[str, dict[str, str]] = {
    **{name: {} for name in WRITTEN_LAYERS},
    "Parameter": {"value": ""},
    **dict.fromkeys(WRITTEN_CELLS, _CELL),
    "ExtendedLSTMCell": {**_CELL, "peephole": "peepholes", "projector": "projection"},
}
"""Of the classes in modules that parity writes: each weight and the option that it hangs on."""


def weight_names(layer: Config) -> tuple[str, ...] | None:
    """Keras's names for a layer's weights, in the order of `layer.get_weights()`; None for a class that is not in the table.

    Example:
        >>> weight_names({"class_name": "Conv1D", "config": {"use_bias": False}})
        ('kernel',)
    """
    trainable, other = _names(layer) or (None, ())
    return None if trainable is None else (*trainable, *other)


def weight_counts(layer: Config) -> tuple[int, int] | None:
    """How many weights of a layer are trained and how many are not; None for a class that is not in the table."""
    config = layer.get("config")
    found = _names(layer)
    if found is None:
        return None
    trained, fixed = len(found[0]), len(found[1])
    frozen = isinstance(config, Mapping) and config.get("trainable") is False
    return (0, trained + fixed) if frozen else (trained, fixed)


def _names(layer: Config) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """Those that are trained, those that are not."""
    layer = registered_apart(layer)
    class_name, config = str(layer.get("class_name")), layer.get("config")
    if not isinstance(config, Mapping):
        return None
    if is_own(layer) and class_name in _WRITTEN:
        names = _WRITTEN[class_name]
        return tuple(name for name, option in names.items() if not option or config.get(option)), ()
    if class_name in ("Bidirectional", "TimeDistributed", "RNN"):
        return _wrapped(class_name, config)
    if class_name == STACKED:
        cells = [_names(cell) for cell in field(config, "cells", (list, tuple), class_name)]
        return None if None in cells else (tuple(name for cell in cells if cell for name in cell[0]), ())
    if class_name in ("BatchNormalization", "LayerNormalization", "GroupNormalization"):
        trained = (
            *(("gamma",) if config.get("scale", True) else ()),
            *(("beta",) if config.get("center", True) else ()),
        )
        return trained, ("moving_mean", "moving_variance") if class_name == "BatchNormalization" else ()
    if class_name in _KERNEL_AND_BIAS:
        own: tuple[str, ...] = ("kernel", "bias")
    elif class_name in _RECURRENT:
        own = ("kernel", "recurrent_kernel", "bias")
        kind = KIND_OF.get(class_name)
        if "output_dim" in config and kind in ("lstm", "gru") and config.get("consume_less") != "gpu":
            own = own * len(GATES[kind])
    elif class_name in _FIXED:
        own = _FIXED[class_name]
    else:
        return None
    has_bias = config.get("use_bias", config.get("bias", True))
    return tuple(name for name in own if name != "bias" or has_bias), ()


def _wrapped(class_name: str, config: Config) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    key = "cell" if class_name == "RNN" else "layer"
    inner: Config = field(config, key, Mapping, class_name)
    first = _names(inner)
    if first is None or class_name != "Bidirectional":
        return first
    second = _names(config["backward_layer"]) if isinstance(config.get("backward_layer"), Mapping) else first
    return (
        None
        if second is None
        else ((*_prefixed("forward", first[0]), *_prefixed("backward", second[0])), (*first[1], *second[1]))
    )


def _prefixed(prefix: str, names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{prefix}_{name}" for name in names)
