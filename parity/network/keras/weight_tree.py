"""Where the files of Keras 3 keep each layer's weights: `model.weights.h5` in a `.keras`, and `.weights.h5`. Imports no framework.

Source: `_save_state`, `_save_container_state` and `to_snake_case` in `keras/src/saving/saving_lib.py` and `keras/src/utils/naming.py` of
Keras 3.0 to 3.15, and in tf.keras 2.12 to 2.15.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from parity.errors import FormatError
from parity.network.keras.calls import is_model
from parity.network.keras.chain import class_name_of, field, name_of
from parity.network.keras.options import (
    CELL_KIND_OF,
    CLASSES,
    KIND_OF,
    OWN_ALIGNED,
    OWN_CELL,
    STACKED,
    Config,
    is_own,
    shown,
)

_WITHOUT_WEIGHTS = ("InputLayer", "Masking", "Dropout", "Activation")


def weight_paths(serialized: Config, version: str | None = None) -> dict[str, tuple[str, ...]]:
    """Where a `.weights.h5` file keeps each layer: the groups of its cells, in the order of `layer.get_weights()`.

    Groups are named after the class, numbered in the order of the configuration, whatever the layers are called.

    Args:
        serialized: a model as Keras 3 writes it.
        version: what the file says in `keras_version`: 2.12 to 2.14 have names of their own for the groups.

    Returns:
        By path, the names of the models a layer stands in and its own, joined by slashes: groups that end in `/vars` and hold the arrays
        "0", "1", ...; none for layers without weights. A layer that parity does not read has one group without `/vars`: whatever lies
        below it is its own. A model inside the model is not there itself.

    Example:
        >>> layers = [{"class_name": "GRU", "config": {"name": name}} for name in ("zeta", "alpha")]
        >>> weight_paths({"config": {"layers": layers}})
        {'zeta': ('layers/gru/cell/vars',), 'alpha': ('layers/gru_1/cell/vars',)}
    """
    return dict(_of_model(serialized, (), "", _tree_of(version)))


@dataclass(frozen=True)
class _Tree:
    """How a version of Keras calls the groups of a model's layers.

    Args:
        layers: the container of the layers.
        step: by how much the number of a class grows from layer to layer.
    """

    layers: str = "layers"
    step: int = 1


def _tree_of(version: str | None) -> _Tree:
    """Keras 2.12 to 2.14 walked a model's attributes in alphabetical order and so found the layers under another name first; there a layer
    with weights stands twice, and up to 2.13 both count (`_save_container_state`; `Functional._layer_checkpoint_dependencies`).
    """
    minor = next((minor for minor in ("2.12", "2.13", "2.14") if str(version).startswith(f"{minor}.")), "")
    return _Tree("_layer_checkpoint_dependencies", 1 if minor == "2.14" else 2) if minor else _Tree()


def _of_model(
    serialized: Config, names: tuple[str, ...], above: str, tree: _Tree
) -> Iterator[tuple[str, tuple[str, ...]]]:
    # Operations, such as those of a mask, are no layers: Keras neither stores nor counts them.
    config: Config = field(serialized, "config", Mapping, "/".join(names) or "the model")
    layers = [each for each in objects(config, "layers") if not str(each.get("module")).startswith("keras.src.ops")]
    for layer, group in zip(layers, _numbered(layers, tree.step), strict=True):
        path, own = f"{above}{tree.layers}/{group}", (*names, name_of(layer))
        if is_model(layer):
            yield from _of_model(layer, own, f"{path}/", tree)
        elif layer["class_name"] != "InputLayer":
            yield "/".join(own), tuple(_groups(layer, path))


def objects(config: Config, key: str) -> list[Config]:
    """The serialized objects in a list of a configuration."""
    found = field(config, key, (list, tuple), "the model")
    if not all(isinstance(each, Mapping) for each in found):
        raise FormatError("a layer of the model is not a JSON object", "the model", "an object", shown(found))
    return list(found)


def _numbered(serialized: Sequence[Config], step: int = 1) -> Iterator[str]:
    """The name of each object's group among those beside it: its class in snake case, numbered from the second of that class on."""
    seen: Counter[str] = Counter()
    for each in serialized:
        stem = group_name(class_name_of(each))
        yield f"{stem}_{seen[stem]}" if seen[stem] else stem
        seen[stem] += step


def group_name(class_name: str) -> str:
    """What the group of the first layer of a class is called: the class in snake case.

    Example:
        >>> group_name("SimpleRNN")
        'simple_rnn'
    """
    words = re.sub(r"\W+", "", class_name)
    words = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", words)
    return re.sub("([a-z])([A-Z])", r"\1_\2", words).lower()


def _inside(layer: Config, path: str) -> Iterator[str]:
    """The groups of what a layer is wrapped around, a model perhaps."""
    if not is_model(layer):
        yield from _groups(layer, path)
        return
    for _, groups in _of_model(layer, (), f"{path}/", _Tree()):
        yield from groups


def _groups(serialized: Config, path: str) -> Iterator[str]:
    """The groups of the cells of an object that stands at a path."""
    class_name, config = class_name_of(serialized), field(serialized, "config", Mapping, path)
    if class_name == "Bidirectional":
        forward = field(config, "layer", Mapping, path)
        yield from _groups(forward, f"{path}/forward_layer")
        backward = field(config, "backward_layer", Mapping, path) if config.get("backward_layer") else forward
        yield from _groups(backward, f"{path}/backward_layer")
    elif class_name in (OWN_ALIGNED, "TimeDistributed"):
        yield from _inside(field(config, "layer", Mapping, path), f"{path}/layer")
    elif class_name == "MultiHeadAttention":
        parts = ("query", "key", *(("gate",) if config.get("use_gate") else ()), "value", "output")
        yield from (f"{path}/{part}_dense/vars" for part in parts)
    elif class_name == "RNN":
        yield from _groups(field(config, "cell", Mapping, path), f"{path}/cell")
    elif class_name == STACKED:
        cells = objects(config, "cells")
        for cell, group in zip(cells, _numbered(cells), strict=True):
            yield from _groups(cell, f"{path}/cells/{group}")
    elif class_name in KIND_OF:
        yield f"{path}/cell/vars"
    elif class_name in {**CLASSES, **CELL_KIND_OF, OWN_CELL: None} or is_own(serialized):
        if class_name not in _WITHOUT_WEIGHTS:
            yield f"{path}/vars"
    elif class_name not in _WITHOUT_WEIGHTS:
        yield path
