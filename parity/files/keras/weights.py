"""Where the files of Keras keep the weights of each layer: by its name (HDF5 of Keras 1 to 3), or in a tree of objects (`.weights.h5`).

Sources: `save_weights_to_hdf5_group` in `keras/engine/topology.py` of Keras 1.2.2 and 2.1.5, `hdf5_format.py` of tf.keras,
`keras/src/legacy/saving/legacy_h5_format.py` of Keras 3; `_save_state` in `saving_lib.py` of Keras 2.12 to 3.15.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from parity.deferred import Stored
from parity.errors import FormatError
from parity.files.hdf5 import Dataset, Group
from parity.network.keras.layers_of_old import MODELS
from parity.network.keras.old_groups import groups_by_order, weights_by_path
from parity.network.keras.weight_tree import weight_paths

_MOST_JSON_DEPTH = 100
TREES = ("layers", "_layer_checkpoint_dependencies")
"""Where the tree of a model begins; Keras 2.12 to 2.14 walked a model's attributes in the order of the alphabet: the second came first."""

_VERSIONS_OF_OTHER_TREES = ("2.14.0", "2.13.0")
"""One for each way of naming the groups that is not today's; a file of weights alone does not say its version."""

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
        config: of the model, as the file has it.

    Raises:
        FormatError: lists that do not fit the groups, or weights that no Keras wrote.
    """

    def __init__(self, group: Group, config: Mapping[str, Any]) -> None:
        groups = {layer: (list(tensors.values()), list(tensors)) for layer, tensors in by_layer(group).items()}
        self._found = weights_by_path(config, groups)
        self.by_order = groups_by_order(config, groups)
        """Layers whose weights stand under another layer's name."""

    def __call__(self, path: str) -> list[Stored]:
        """The weights of a layer, as Keras 3 has them, by the names that lead to it."""
        return self._found.get(path, [])


# ---- in a tree


class TreeWeights:
    """The weights of a model's layers in a tree of objects, as `.weights.h5` has them.

    Args:
        root: of the file.
        config: of the model, in Keras 3's form.
        version: of the Keras that wrote the file, None if unknown: then the file's own groups say how it calls them.
    """

    def __init__(self, root: Group, config: Mapping[str, Any], version: str | None) -> None:
        self._root, self._paths = root, weight_paths(config, version)
        if not self._fits(self._paths) and any(tree in root for tree in TREES[1:]):
            others = (weight_paths(config, other) for other in _VERSIONS_OF_OTHER_TREES)
            self._paths = next((paths for paths in others if self._fits(paths)), self._paths)

    def __call__(self, path: str) -> list[Stored]:
        """The weights of a layer by the names that lead to it.

        Raises:
            FormatError: they are not where they should be.
        """
        places = self._paths.get(path, ())
        if not self._has(places):
            places = self._shared.get(path.rpartition("/")[2], places)
        return [tensor for group in places for tensor in self._in(group)]

    @cached_property
    def _shared(self) -> dict[str, tuple[str, ...]]:
        """Where a layer is kept that belongs to a nested model, too: Keras keeps it where it comes upon it first.

        By its name, for layers whose name has one place with weights in the file.
        """
        found: dict[str, set[tuple[str, ...]]] = {}
        for path, places in self._paths.items():
            if places and self._has(places):
                found.setdefault(path.rpartition("/")[2], set()).add(tuple(places))
        return {name: next(iter(places)) for name, places in found.items() if len(places) == 1}

    def _has(self, places: Iterable[str]) -> bool:
        return all(place in self._root for place in places if place.endswith("/vars"))

    def _fits(self, paths: Mapping[str, Sequence[str]]) -> bool:
        return all(self._has(places) for places in paths.values())

    def _in(self, place: str) -> Iterator[Stored]:
        """The arrays of a group: 0, 1, ...; for a layer that is not read, everything below it."""
        if place.endswith("/vars"):
            group = self._root.group(place)
            for number in range(len(group.names)):
                yield group.dataset(str(number)).stored()
        elif place in self._root:
            below = self._root.group(place).walk()
            yield from (node.stored() for _, node in below if isinstance(node, Dataset))
