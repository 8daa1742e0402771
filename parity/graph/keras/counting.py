"""How many weights the layers of a model have, to tell them apart where a wrapper holds those of the whole model in one list."""

from __future__ import annotations

from collections.abc import Iterator

from parity.network.keras.calls import is_model
from parity.network.keras.chain import layers_in, name_of
from parity.network.keras.known import weight_names
from parity.network.keras.options import Config

_NONE = ("GlobalAveragePooling1D", "UnitNormalization", "Identity", "Rescaling", "SpatialDropout3D", "Cropping2D")


def weight_counts_of(model: Config, above: str = "") -> Iterator[tuple[str, int | None]]:
    """Path and number of weights of every layer of a model, in the order of `model.get_weights()`; None where nobody knows.

    Example:
        >>> layer = {"class_name": "Dense", "config": {"name": "d"}}
        >>> list(weight_counts_of({"class_name": "Sequential", "config": {"name": "m", "layers": [layer]}}))
        [('d', 2)]
    """
    for layer in layers_in(model["config"], name_of(model)):
        path = f"{above}{name_of(layer)}"
        if is_model(layer):
            yield from weight_counts_of(layer, f"{path}/")
        elif not str(layer.get("module")).startswith("keras.src.ops"):
            yield path, count_of(layer)


def count_of(layer: Config) -> int | None:
    """The number of weights of a layer; None for a class that is not known.

    Example:
        >>> count_of({"class_name": "MultiHeadAttention", "config": {"use_bias": True}})
        8
    """
    class_name, config = layer["class_name"], layer["config"]
    if class_name == "TimeDistributed":
        inner: Config = config["layer"]
        if is_model(inner):
            counts = [count for _, count in weight_counts_of(inner)]
            return None if None in counts else sum(count or 0 for count in counts)
        return count_of(inner)
    if class_name == "MultiHeadAttention":
        return (4 + bool(config.get("use_gate"))) * (1 + bool(config.get("use_bias", True)))
    if class_name == "EinsumDense":
        return 1 + (config.get("bias_axes") is not None)
    if class_name in ("Attention", "AdditiveAttention"):
        usual = class_name == "AdditiveAttention"
        return bool(config.get("use_scale", usual)) + (config.get("score_mode") == "concat")
    if class_name == "RMSNormalization":
        return 1
    if class_name == "LayerNormalization" and config.get("rms_scaling"):
        return 1
    if class_name == "Normalization":
        return 0 if config.get("mean") is not None else 3
    if class_name in _NONE:
        return 0
    names = weight_names(layer)
    return None if names is None else len(names)


__all__ = ["count_of", "weight_counts_of"]
