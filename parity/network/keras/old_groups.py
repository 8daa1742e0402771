"""The groups of weights in the HDF5 files of Keras 1 to 3 -> the weights of every layer, also of those in nested models.

Such a file has one group for each layer of the model; that of a nested model holds the weights of all its layers in one list: those that
are trained, then the others. Sources: `save_weights_to_hdf5_group` and `preprocess_weights_for_loading` in Keras 2.1.6
`keras/engine/topology.py`; `Network.trainable_weights` and `non_trainable_weights` in Keras 2.2.4 `keras/engine/network.py`;
`_legacy_weights` in tf.keras 2.6 to 2.15 `hdf5_format.py` and in Keras 3 `legacy_h5_format.py`; before 2.2 a Sequential was written
with the layers of the Sequentials in it (`flattened_layers`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from parity.deferred import Stored
from parity.network.keras.known import weight_counts
from parity.network.keras.layers_of_old import layers_of, title_of
from parity.network.keras.old_weights import rearranged
from parity.network.keras.options import Config

Group = tuple[Sequence[Stored], Sequence[str]]
"""The arrays of a group in the order of its attribute `weight_names`, and those names."""


def weights_of_today(
    layer_config: Config,
    arrays: Sequence[Stored],
    version: str | None,  # noqa: ARG001  shapes and numbers say all there is to know, as they do for Keras itself
    names: Sequence[str] = (),
) -> list[Stored]:
    """The weights of a layer in the order and the shapes that Keras 3 gives them.

    Args:
        layer_config: the layer as the old file describes it: class_name and config, before `modernised`.
        arrays: its weights in the order of the file's `weight_names`.
        version: what the file says in `keras_version`, None if nothing.
        names: the file's `weight_names`, where they are known: they tell the layers of a nested model apart.

    Returns:
        As many as Keras 3 has, for a nested model layer by layer (`weights_by_path` says which are whose). Those of an LSTM that cuDNN
        trained have a bias of (2, 4 units), the input's and the recurrence's: Keras adds them when it loads such a file, which
        rounds; both are kept here. What needs no rearranging is handed on unread.

    Raises:
        FormatError: numbers or shapes of weights that no Keras wrote.

    Example:
        >>> import numpy as np
        >>> old = {"class_name": "GRU", "config": {"name": "gru_1", "output_dim": 2}}
        >>> kept = [np.zeros(shape, np.float32) for _ in range(3) for shape in ((3, 2), (2, 2), (2,))]
        >>> [weight.shape for weight in weights_of_today(old, kept, "1.2.2")]
        [(3, 6), (2, 6), (6,)]
    """
    if layers_of(layer_config) is None:
        return rearranged(layer_config, arrays)
    alone = {"class_name": "Sequential", "config": [layer_config]}
    found = weights_by_path(alone, {title_of(layer_config, "model_1"): (arrays, names)})
    return [weight for weights in found.values() for weight in weights]


def weights_by_path(model_config: Config, groups: Mapping[str, Group]) -> dict[str, list[Stored]]:
    """The weights of every layer of a model, as `network_from_keras` asks for them.

    Args:
        model_config: what the file says of the model, before `modernised`.
        groups: by layer, in the order of the file's attribute `layer_names`.

    Returns:
        By path, the names of the models a layer stands in and its own, joined by slashes; the weights as `weights_of_today` gives them.
        None for a layer whose weights are not there, or cannot be told from those of others.

    Raises:
        FormatError: numbers or shapes of weights that no Keras wrote.

    Example:
        >>> import numpy as np
        >>> dense = {"class_name": "Dense", "config": {"name": "d", "units": 1}}
        >>> inner = {"class_name": "Sequential", "config": {"name": "s", "layers": [dense]}}
        >>> outer = {"class_name": "Sequential", "config": {"name": "m", "layers": [inner]}}
        >>> kept = [np.zeros((2, 1)), np.zeros(1)]
        >>> [(path, len(weights)) for path, weights in weights_by_path(outer, {"s": (kept, ["d/kernel:0", "d/bias:0"])}).items()]
        [('s/d', 2)]
    """
    return {
        "/".join(leaf.path): rearranged(leaf.layer, arrays)
        for top in _tops(model_config, groups)
        for leaf, arrays in _weights_inside(top, groups)
    }


def groups_by_order(model_config: Config, groups: Mapping[str, Group]) -> dict[str, str]:
    """The layers of a model whose weights `weights_by_path` takes from a group of another name; empty where all names fit.

    Example:
        >>> import numpy as np
        >>> dense = {"class_name": "Dense", "config": {"name": "dense_7", "units": 1}}
        >>> model = {"class_name": "Sequential", "config": {"name": "m", "layers": [dense]}}
        >>> groups_by_order(model, {"dense_1": ([np.zeros((2, 1)), np.zeros(1)], ["dense_1/kernel:0", "dense_1/bias:0"])})
        {'dense_7': 'dense_1'}
    """
    tops = _tops(model_config, groups)
    return {top.name: top.group for top in tops if top.group is not None and top.group != top.name}


@dataclass(frozen=True)
class _Leaf:
    """A layer that is no model, and the names that lead to it."""

    path: tuple[str, ...]
    layer: Config


@dataclass(frozen=True)
class _Top:
    """A layer or a model that stands in the model itself.

    Args:
        name: of it.
        layer: its configuration.
        leaves: the layers in it, or itself.
        group: the name of the group that has its weights; None where its layers have groups of their own, or nothing has them.
    """

    name: str
    layer: Config
    leaves: Sequence[_Leaf]
    group: str | None = None

    @property
    def weighty(self) -> bool:
        """Whether it has weights, as far as that is known."""
        return any(weight_counts(leaf.layer) != (0, 0) for leaf in self.leaves)


def _tops(model_config: Config, groups: Mapping[str, Group]) -> list[_Top]:
    """The layers of a model, each with its group: by their names, else in order as Keras itself does it, else as far as either goes."""
    title = title_of(model_config, "model")
    tops = []
    for place, layer in enumerate(layers_of(model_config) or (), 1):
        name = title_of(layer, f"{title}_{place}")
        tops.append(_Top(name, layer, tuple(_leaves(layer, name, ()))))
    weighty = [name for name, (arrays, _) in groups.items() if arrays]
    need = [top.name for top in tops if top.weighty]
    names = {top.name for top in tops}
    inner = {leaf.path[-1] for top in tops if top.name not in groups for leaf in top.leaves if len(leaf.path) > 1}
    known = names | inner
    if len(weighty) == len(need) and not all(name in known for name in weighty):
        matched = dict(zip(need, weighty, strict=True))
    else:
        matched = {name: name for name in names if name in groups}
        left = [name for name in weighty if name not in known]
        lacking = [
            top.name
            for top in tops
            if top.weighty and top.name not in matched and not any(leaf.path[-1] in groups for leaf in top.leaves)
        ]
        matched |= dict(zip(lacking, left, strict=True)) if len(left) == len(lacking) else {}
    return [replace(top, group=matched.get(top.name)) for top in tops]


def _leaves(layer: Config, name: str, above: tuple[str, ...]) -> Iterator[_Leaf]:
    inner = layers_of(layer)
    if inner is None:
        yield _Leaf((*above, name), layer)
        return
    for place, each in enumerate(inner, 1):
        yield from _leaves(each, title_of(each, f"{name}_{place}"), (*above, name))


def _weights_inside(top: _Top, groups: Mapping[str, Group]) -> Iterator[tuple[_Leaf, Sequence[Stored]]]:
    """The layers in a layer of the model, each with the arrays that are its own; those of Keras 1 may have a group for each."""
    if top.group is not None:
        split = _split(top, groups[top.group])
        yield from ((leaf, split.get(leaf.path, ())) for leaf in top.leaves)
    else:
        nested = layers_of(top.layer) is not None
        for leaf in top.leaves:
            yield leaf, groups[leaf.path[-1]][0] if nested and leaf.path[-1] in groups else ()


def _split(top: _Top, group: Group) -> dict[tuple[str, ...], Sequence[Stored]]:
    """The weights of a group, layer by layer: by the numbers that each layer has, else by their names."""
    arrays, names = group
    if len(top.leaves) == 1:
        return {top.leaves[0].path: arrays}
    trained, fixed = _slots(top.layer, (top.name,))
    slots = None if trained is None or fixed is None else [*trained, *fixed]
    if slots is None or len(slots) != len(arrays):
        slots = _homes(names, top.leaves)
    if slots is None or len(slots) != len(arrays):
        return {}
    split: dict[tuple[str, ...], list[Stored]] = {leaf.path: [] for leaf in top.leaves}
    for path, array in zip(slots, arrays, strict=True):
        split[path].append(array)
    return dict(split)


Slots = list[tuple[str, ...]]
"""The path of the layer that each weight belongs to."""

_MOST_WORDS = 64
"""Parts of a weight's name in which a layer's is looked for."""


def _slots(layer: Config, path: tuple[str, ...]) -> tuple[Slots | None, Slots | None]:
    """To which layer each trained weight of a layer or model belongs, and each of the others."""
    config, inner = layer.get("config"), layers_of(layer)
    if inner is None:
        counts = weight_counts(layer)
        return (None, None) if counts is None else ([path] * counts[0], [path] * counts[1])
    parts = [_slots(each, (*path, title_of(each, f"{path[-1]}_{place}"))) for place, each in enumerate(inner, 1)]
    trained: Slots = [slot for part, _ in parts for slot in part or ()]
    fixed: Slots = [slot for _, part in parts for slot in part or ()]
    if any(part is None for part, _ in parts):
        return None, None
    frozen = isinstance(config, Mapping) and config.get("trainable") is False
    return ([], [*trained, *fixed]) if frozen else (trained, fixed)


def _homes(names: Sequence[str], inside: Sequence[_Leaf]) -> Slots | None:
    """The layer that the name of each weight speaks of: "lstm_1/kernel:0", "lstm/lstm_cell/kernel:0"; Keras 1 wrote "lstm_1_W_i:0".

    None where a name is that of no layer, or of several.
    """
    by_name: dict[str, list[tuple[str, ...]]] = {}
    for leaf in inside:
        by_name.setdefault(leaf.path[-1], []).append(leaf.path)
    found: Slots = []
    for name in names:
        *folders, last = name.split("/")
        words = last.split("_")[:_MOST_WORDS]
        starts = ["_".join(words[:count]) for count in range(1, len(words))]
        called = [word for word in folders if word in by_name] or [start for start in starts if start in by_name]
        homes = by_name[max(called, key=len)] if called else []
        if len(homes) != 1:
            return None
        found += homes
    return found
