"""Where the files of Keras keep the weights of each layer: by its name (HDF5 of Keras 1 to 3), or in a tree of objects (`.weights.h5`).

Sources: `save_weights_to_hdf5_group` in `keras/engine/topology.py` of Keras 1.2.2 and 2.1.5, `hdf5_format.py` of tf.keras,
`keras/src/legacy/saving/legacy_h5_format.py` of Keras 3; `_save_state` in `saving_lib.py` of Keras 2.12 to 3.15.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from parity.deferred import Stored
from parity.errors import FormatError
from parity.files.hdf5 import Dataset, Group
from parity.network.keras.chain import class_name_of, name_of
from parity.network.keras.config import weight_paths
from parity.network.keras.history import weights_of_today
from parity.network.keras.layers_of_old import MODELS

_MOST_JSON_DEPTH = 100
_TREES = ("layers", "_layer_checkpoint_dependencies")
"""Where the tree of a model begins; Keras 2.14 walked a model's attributes in the order of the alphabet, and the second came first."""

_NOT_LAYERS = ("optimizer", "metrics")
"""What else a compiled model keeps in the tree; Keras 2 writes its metrics, too."""

_INSIDE = ("vars", "cell", "forward_layer", "backward_layer", "layer")
"""What a layer keeps its variables in."""

Fault = Callable[[str, str, str], FormatError]


def parsed(content: str | bytes, name: str, fault: Fault) -> dict[str, Any]:
    """A JSON object of at most so many levels; one that is wrapped in a JSON string, too.

    Args:
        content: the text.
        name: what the messages call it.
        fault: makes the error: what, expected, got.

    Raises:
        FormatError: anything else.

    Example:
        >>> parsed('{"a": 1}', "config", lambda what, expected, got: FormatError(what))
        {'a': 1}
    """
    try:
        value = json.loads(content)
        if isinstance(value, str):
            value = json.loads(value)
    except (ValueError, RecursionError) as error:
        raise fault(f"'{name}' is not JSON", "JSON", str(error) or "too many levels") from error
    if not isinstance(value, dict):
        raise fault(f"'{name}' does not hold a JSON object", "an object", type(value).__name__)
    level: list[Any] = [value]
    for _ in range(_MOST_JSON_DEPTH):
        children = [child for item in level for child in (item.values() if isinstance(item, dict) else item)]
        level = [child for child in children if isinstance(child, (dict, list))]
        if not level:
            return value
    raise fault(f"'{name}' is nested too deeply", f"at most {_MOST_JSON_DEPTH} levels", "more")


def is_architecture(value: object) -> bool:
    """Whether it is what `model.to_json()` writes.

    Example:
        >>> is_architecture({"class_name": "Sequential", "config": []}), is_architecture({"class_name": "LSTM"})
        (True, False)
    """
    return (
        isinstance(value, Mapping)
        and value.get("class_name") in MODELS
        and isinstance(value.get("config"), (list, Mapping))
    )


def layers_by_path(config: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every layer of a model in Keras 3's form by the names that lead to it, those of models inside it, too.

    Example:
        >>> layers = [{"class_name": "LSTM", "config": {"name": "lstm"}}]
        >>> [path for path, _ in layers_by_path({"config": {"layers": layers}})]
        ['lstm']
    """
    for layer in config["config"]["layers"]:
        path = f"{above}{name_of(layer)}"
        inner = layer.get("config")
        if class_name_of(layer) in MODELS and isinstance(inner, Mapping) and isinstance(inner.get("layers"), list):
            yield from layers_by_path(layer, f"{path}/")
        else:
            yield path, layer


# ---- by the layer's name


def weight_names(group: Group) -> list[str]:
    """The weights of a layer in their order; Keras before 0.3 numbers them.

    Raises:
        FormatError: the group does not list them.
    """
    found = group.texts("weight_names")
    if found is None and "nb_params" in group.attributes:
        (count,) = group.attributes["nb_params"].numbers()[:1] or (0,)
        found = [f"param_{number}" for number in range(min(count, len(group.names)))]
    if found is None:
        raise group.fault(
            "a layer without a list of its weights",
            "attribute weight_names",
            ", ".join(group.attributes)[:200] or "none",
        )
    return found


def layer_names(group: Group) -> list[str] | None:
    """The layers in the model's order; None where a group does not list any."""
    found = group.texts("layer_names")
    if found is None and "nb_layers" in group.attributes:
        (count,) = group.attributes["nb_layers"].numbers()[:1] or (0,)
        found = [f"layer_{number}" for number in range(min(count, len(group.names)))]
    return found


def by_layer(group: Group) -> dict[str, dict[str, Stored]]:
    """Layer -> name of a weight -> tensor, in the order of the model and of each layer's weights.

    Raises:
        FormatError: a list that does not fit what is there.
    """
    names = layer_names(group) or []
    found: dict[str, dict[str, Stored]] = {}
    for name in names:
        if name in found:
            raise group.fault("two layers have one name", "unique names", name[:80])
        layer = group.group(name)
        found[name] = {weight: layer.dataset(weight).stored() for weight in weight_names(layer)}
    return found


class NamedWeights:
    """The weights of a model's layers where a file keeps them by the layers' names.

    Args:
        group: with an attribute `layer_names`.
        config: of the model, in Keras 3's form.
        version: of the Keras that wrote the weights.

    Raises:
        FormatError: lists that do not fit the groups.
    """

    def __init__(self, group: Group, config: Mapping[str, Any], version: str | None) -> None:
        self._found = by_layer(group)
        self._layers = dict(layers_by_path(config))
        self._version = version
        self.by_order = self._in_order(config)

    def __call__(self, path: str) -> list[Stored]:
        """The weights of a layer, as Keras 3 has them, by the names that lead to it."""
        names, tensors = self._of(path)
        layer = self._layers.get(path)
        return tensors if layer is None else list(weights_of_today(layer, tensors, self._version, names))

    def named(self, path: str) -> dict[str, Stored]:
        """The weights of a layer as the file calls them."""
        names, tensors = self._of(path)
        return dict(zip(names, tensors, strict=True))

    def _of(self, path: str) -> tuple[list[str], list[Stored]]:
        top, *inner = path.split("/")
        top = self.by_order.get(top, top)
        # Keras 1 lists the layers of a Sequential inside a Sequential as if they were the model's own.
        own = (
            self._found.get(top)
            if not inner
            else self._part(self._found.get(top, {}), inner) or self._found.get(inner[-1])
        )
        return list(own or {}), list((own or {}).values())

    def _part(self, tensors: Mapping[str, Stored], inner: Sequence[str]) -> dict[str, Stored]:
        """The weights of a layer inside a nested model: a folder of their names is the layer's."""
        fitting = {name: folders for name in tensors if (folders := _folders(name)) and _ends(folders, inner[-1:])}
        closer = {name for name, folders in fitting.items() if _ends(folders, inner)}
        return {name: tensors[name] for name in fitting if not closer or name in closer}

    def _in_order(self, config: Mapping[str, Any]) -> dict[str, str]:
        """Layers of the configuration whose weights stand under another name: Keras loads them by order, if as many have weights."""
        weighty = [name for name, tensors in self._found.items() if tensors]
        names = [name_of(layer) for layer in config["config"]["layers"] if _has_weights(layer)]
        if all(name in names for name in weighty) or len(weighty) != len(names):
            return {}
        return dict(zip(names, weighty, strict=True))


_WEIGHTLESS = re.compile(
    "InputLayer|Masking|.*Dropout.*|Activation|.*Activation|Flatten|Reshape|Permute|RepeatVector|Lambda|.*Pooling.*|Merge|Add|Subtract"
    "|Multiply|Average|Maximum|Minimum|Concatenate|Dot|ReLU|LeakyReLU|ELU|Softmax|ThresholdedReLU|GaussianNoise|Cropping.*|.*Padding.*|UpSampling.*"
)


def _has_weights(layer: Mapping[str, Any]) -> bool:
    return not _WEIGHTLESS.fullmatch(class_name_of(layer))


def _folders(name: str) -> list[str]:
    *folders, leaf = name.split("/")
    return folders or [re.sub(r"_[WUb](_[a-z])?(:0)?", "", leaf)]


def _ends(folders: Sequence[str], names: Sequence[str]) -> bool:
    """Whether the names stand among the folders, one after the other."""
    return any(list(folders[at : at + len(names)]) == list(names) for at in range(len(folders)))


# ---- in a tree


class TreeWeights:
    """The weights of a model's layers in a tree of objects, as `.weights.h5` has them.

    Args:
        root: of the file.
        config: of the model, in Keras 3's form.
    """

    def __init__(self, root: Group, config: Mapping[str, Any]) -> None:
        self._root, self._paths = root, weight_paths(config)

    def __call__(self, path: str) -> list[Stored]:
        """The weights of a layer by the names that lead to it.

        Raises:
            FormatError: they are not where they should be.
        """
        return list(self.named(path).values())

    def named(self, path: str) -> dict[str, Stored]:
        """The same by their place in the file."""
        return {place: tensor for group in self._paths.get(path, ()) for place, tensor in self._in(group)}

    def _in(self, path: str) -> Iterator[tuple[str, Stored]]:
        """The arrays of a group: 0, 1, ...; for a layer that is not read, everything below it."""
        places = [path.replace(_TREES[0], tree, 1) for tree in _TREES]
        place = next((place for place in places if place in self._root), path)
        if path.endswith("/vars"):
            group = self._root.group(place)
            for number in range(len(group.names)):
                yield f"{place}/{number}", group.dataset(str(number)).stored()
        elif place in self._root:
            below = self._root.group(place).walk()
            yield from ((f"{place}/{name}", node.stored()) for name, node in below if isinstance(node, Dataset))


def tree_groups(root: Group) -> dict[str, dict[str, Stored]]:
    """Layer -> path of a variable -> tensor, for a tree without a configuration.

    Layers are called as the file says in the attribute `name` of their variables (since Keras 3.4), else by their place.

    Raises:
        FormatError: the tree is damaged.
    """
    found: dict[str, dict[str, Stored]] = {}
    for place, node in root.walk():
        if not isinstance(node, Dataset) or place.split("/")[0] in _NOT_LAYERS:
            continue
        layer = _layer_of(place)
        found.setdefault(layer, {})[place.removeprefix(f"{layer}/")] = node.stored()
    names = {layer: _said_name(root, layer) or layer.split("/")[-1] for layer in found}
    if len(set(names.values())) < len(names):
        names = {
            layer: "/".join(folder for folder in layer.split("/") if folder not in _TREES) or layer for layer in found
        }
    if len(set(names.values())) < len(names):
        return found
    return {names[layer]: tensors for layer, tensors in found.items()}


def _layer_of(place: str) -> str:
    """The part of a place that is a layer: up to its variables, its cell or the layers in it."""
    folders = place.split("/")[:-1]
    first = max((at + 1 for at, folder in enumerate(folders) if folder in _TREES), default=0)
    ends = [at for at, folder in enumerate(folders) if at > first and folder in _INSIDE]
    return "/".join(folders[: min(ends, default=len(folders))]) or place


def _said_name(root: Group, layer: str) -> str | None:
    for place in (f"{layer}/vars", layer):
        if place in root and (name := root[place].text("name")):
            return name
    return None
