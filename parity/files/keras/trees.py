"""Trees of objects without a configuration: `.weights.h5` alone, and models of somebody's own class. Imports no framework.

A group is called after the attribute that holds the layer; in the list of a model's layers after the layer's class, numbered in the order
of the configuration. What the layer itself is called stands beside its variables since Keras 3.4.

Source: `_save_state`, `_save_container_state` and `H5IOStore` in `keras/src/saving/saving_lib.py` of Keras 3.0 to 3.15, `saving_lib.py` of
tf.keras 2.12 to 2.15.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from parity.deferred import Stored
from parity.errors import Problem
from parity.files.hdf5 import Dataset, Group
from parity.files.keras.weights import TREES
from parity.network.graph import Network
from parity.network.keras.options import CLASSES
from parity.network.keras.ordering import Rank, number_of
from parity.network.keras.recognition import recognised
from parity.network.keras.weight_tree import group_name

_NOT_LAYERS = ("optimizer", "metrics")
"""What else a compiled model keeps in the tree; Keras 2 writes its metrics, too."""

_INSIDE = ("vars", "cell", "forward_layer", "backward_layer", "layer")
"""What a layer keeps its variables in."""

_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
_MOST_SAID = 12
_CLASS_OF_GROUP = {group_name(class_name): class_name for class_name in CLASSES}


@dataclass(frozen=True)
class _Tree:
    """The layers in a tree.

    Args:
        tensors: group of a layer -> path of a variable in it -> tensor, not read yet.
        names: group -> name of the layer.
        said: groups whose layer's name stands in the file.
    """

    tensors: Mapping[str, Mapping[str, Stored]]
    names: Mapping[str, str]
    said: frozenset[str]


def tree_network(root: Group, version: str | None, name: str, own_class: Problem | None = None) -> Network:
    """The network of a tree without a configuration, as far as its names and shapes tell.

    Args:
        root: of the file.
        version: of the Keras that wrote it.
        name: of the network.
        own_class: what is to be said of a model whose layers nothing but its code connects.

    Returns:
        As `recognised`. Where the file has no names, `details["names"]` is "positions": its layers are called by their class and their
        number among those of that class. `details["attributes"]` says which attributes hold layers of other names.

    Raises:
        FormatError: the tree is damaged.
    """
    tree = _tree(root)
    groups = {tree.names[group]: tensors for group, tensors in tree.tensors.items()}
    ranks = {tree.names[group]: _rank(group) for group in tree.tensors}
    network = recognised(groups, version, name, ordered=False, ranks=ranks, unconnected=own_class)
    details = dict(network.details)
    if positions := _positions(tree):
        more = f" and {len(positions) - _MOST_SAID} more" if len(positions) > _MOST_SAID else ""
        words = f"the file has no names: {', '.join(positions[:_MOST_SAID])}{more}"
        details["names"] = "positions"
        details["assumed"] = "; ".join(filter(None, (words, details.get("assumed"))))
    other = [group for group in tree.said if not _counted(group) and tree.names[group] != group]
    if held := [f"{tree.names[group]} is {group}" for group in sorted(other)]:
        details["attributes"] = ", ".join(held[:_MOST_SAID])
    return replace(network, details=details)


def _tree(root: Group) -> _Tree:
    found: dict[str, dict[str, Stored]] = {}
    for place, node in root.walk():
        if not isinstance(node, Dataset) or place.split("/")[0] in _NOT_LAYERS:
            continue
        layer = _layer_of(place)
        found.setdefault(layer, {})[place.removeprefix(f"{layer}/")] = node.stored()
    said = {layer: name for layer in found if (name := _said_name(root, layer))}
    names = {layer: said.get(layer) or layer.split("/")[-1] for layer in found}
    if len(set(names.values())) < len(names):
        names = {layer: _path_of_names(root, layer) for layer in found}
    if len(set(names.values())) < len(names):
        names, said = {layer: layer for layer in found}, {}
    return _Tree(found, names, frozenset(said))


def _layer_of(place: str) -> str:
    """The part of a place that is a layer: up to its variables, its cell or the layers in it."""
    folders = place.split("/")[:-1]
    first = max((at + 1 for at, folder in enumerate(folders) if folder in TREES), default=0)
    ends = [at for at, folder in enumerate(folders) if at > first and folder in _INSIDE]
    return "/".join(folders[: min(ends, default=len(folders))]) or place


def _said_name(root: Group, layer: str) -> str | None:
    for place in (f"{layer}/vars", layer):
        if place in root and isinstance(node := root[place], Group) and (name := node.text("name")):
            return name
    return None


def _path_of_names(root: Group, layer: str) -> str:
    """The names of the models that a layer stands in, and its own."""
    folders = layer.split("/")
    steps = ("/".join(folders[: at + 1]) for at, folder in enumerate(folders) if folder not in TREES)
    return "/".join(_said_name(root, step) or step.split("/")[-1] for step in steps) or layer


def _counted(group: str) -> bool:
    """Whether it is one of a list of layers: its name is its class and its number."""
    return any(folder in TREES for folder in group.split("/")[-2:-1])


def _rank(group: str) -> Rank:
    """What sorts the layers of one class in one list; of attributes nothing is known."""
    return number_of(group) if _counted(group) else (group, 0)


def _positions(tree: _Tree) -> list[str]:
    """What each layer without a name is.

    Keras goes through a model's attributes in the order of the alphabet: those before "layers" are not in that list, but counted there.
    """
    seen: Counter[str] = Counter()
    words = []
    for group in sorted(filter(_counted, tree.tensors), key=_rank):
        if group in tree.said:
            continue
        stem, number = _rank(group)
        *above, tree_name, own = stem.split("/")
        if tree_name != TREES[0]:  # the number may go in steps of two, and none is missing
            number = seen[stem]
        seen[stem] += 1
        which = _ORDINALS[number] if number < len(_ORDINALS) else f"{number + 1}th"
        models = [folder for folder in above if folder not in TREES]
        owner = f"'{'/'.join(models)}'" if models else "the model"
        words.append(f"{tree.names[group]} is the {which} {_CLASS_OF_GROUP.get(own, own)} of {owner}")
    return words
