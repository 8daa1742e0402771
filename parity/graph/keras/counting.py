"""How many weights the layers of a model have, to tell them apart where a wrapper holds those of the whole model in one list."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from parity.deferred import Stored
from parity.graph.keras.operations import is_operation
from parity.network.keras.calls import is_model
from parity.network.keras.chain import layers_in, name_of
from parity.network.keras.known import weight_counts, weight_names
from parity.network.keras.options import Config

_ROWS = ("gamma", "beta", "moving_mean", "moving_variance")
_NONE = ("GlobalAveragePooling1D", "UnitNormalization", "Identity", "Rescaling", "SpatialDropout3D", "Cropping2D")


def weights_inside(model: Config, weights: Sequence[Stored]) -> dict[str, list[Stored]] | None:
    """The weights of a model in one list, for each of its layers by path; None where they cannot be told apart.

    `model.get_weights()` goes layer by layer; the HDF5 files of Keras 1 and 2 have all that are trained first. The numbers of axes tell.

    Args:
        model: its configuration.
        weights: of all its layers.

    Example:
        >>> layers = [{"class_name": "Dense", "config": {"name": name}} for name in "ab"]
        >>> model = {"class_name": "Sequential", "config": {"name": "m", "layers": layers}}
        >>> import numpy as np
        >>> kernel, bias = np.ones((2, 2)), np.ones(2)
        >>> {name: len(own) for name, own in weights_inside(model, [kernel, bias, kernel, bias]).items()}
        {'a': 2, 'b': 2}
    """
    layers = dict(layers_inside(model))
    if any(count_of(layer) is None for layer in layers.values()):
        return {path: [] for path in layers} if not weights else None
    by_layer = [(path, place) for path, layer in layers.items() for place in range(count_of(layer) or 0)]
    fixed = {path: (weight_counts(layer) or (99, 0))[0] for path, layer in layers.items()}
    trained = [one for one in by_layer if one[1] < fixed[one[0]]]
    by_training = [*trained, *(one for one in by_layer if one not in trained)]
    orders = [by_layer] if by_layer == by_training else [by_layer, by_training]
    fitting = [order for order in orders if len(order) == len(weights) and _fits(order, layers, weights)]
    if len(fitting) != 1:
        return None
    found: dict[str, list[Stored]] = {path: [] for path in layers}
    placed = dict(zip(fitting[0], weights, strict=True))
    for path, place in by_layer:
        found[path].append(placed[path, place])
    return found


def _fits(order: Sequence[tuple[str, int]], layers: Mapping[str, Config], weights: Sequence[Stored]) -> bool:
    """Whether weights in an order have as many axes as their names say, where those are known."""
    for (path, place), weight in zip(order, weights, strict=True):
        names = weight_names(layers[path]) or ()
        name = names[place] if place < len(names) else ""
        rank = len(weight.shape)
        if (name in _ROWS and rank != 1) or (name.endswith(("kernel", "embeddings")) and rank < 2):
            return False
    return True


def layers_inside(model: Config, above: str = "") -> Iterator[tuple[str, Config]]:
    """Path and configuration of every layer of a model, in the order of `model.get_weights()`.

    Example:
        >>> layer = {"class_name": "Dense", "config": {"name": "d"}}
        >>> [path for path, _ in layers_inside({"class_name": "Sequential", "config": {"name": "m", "layers": [layer]}})]
        ['d']
    """
    for layer in layers_in(model["config"], name_of(model)):
        path = f"{above}{name_of(layer)}"
        if is_model(layer):
            yield from layers_inside(layer, f"{path}/")
        elif not is_operation(layer):
            yield path, layer


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
            counts = [count_of(one) for _, one in layers_inside(inner)]
            return None if None in counts else sum(count or 0 for count in counts)
        return count_of(inner)
    if class_name == "MultiHeadAttention":
        return (4 + bool(config.get("use_gate"))) * (1 + bool(config.get("use_bias", True)))
    if class_name == "EinsumDense":
        return 1 + int(config.get("bias_axes") is not None)
    if class_name in ("Attention", "AdditiveAttention"):
        usual = class_name == "AdditiveAttention"
        return int(bool(config.get("use_scale", usual))) + int(config.get("score_mode") == "concat")
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


__all__ = ["count_of", "layers_inside", "weights_inside"]
