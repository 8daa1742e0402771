"""The groups of weights in the HDF5 files of Keras 1 to 3 -> the weights of every layer, also of those in nested models.

Such a file has one group for each layer of the model; that of a nested model holds the weights of all its layers in one list: those that
are trained, then the others. Sources: `save_weights_to_hdf5_group` and `preprocess_weights_for_loading` in Keras 2.1.6
`keras/engine/topology.py`; `Network.trainable_weights` and `non_trainable_weights` in Keras 2.2.4 `keras/engine/network.py`;
`_legacy_weights` in tf.keras 2.6 to 2.15 `hdf5_format.py` and in Keras 3 `legacy_h5_format.py`; before 2.2 a Sequential was written
with the layers of the Sequentials in it (`flattened_layers`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

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
    title = title_of(model_config, "model")
    found: dict[str, list[Stored]] = {}
    leaves = {leaf.path: leaf for leaf in _leaves(layers_of(model_config) or (), title, ())}
    tops = list(dict.fromkeys(path[0] for path in leaves))
    at_top = {top: top for top in tops if top in groups}
    own = {path: path[-1] for path in leaves if path[0] not in at_top and path[-1] in groups}
    at_top |= _by_order(
        [top for top in tops if not any(path[0] == top for path in own)],
        leaves,
        groups,
        {*at_top.values(), *own.values()},
    )
    for top in tops:
        inside = [leaf for path, leaf in leaves.items() if path[0] == top]
        if top in at_top:
            split = _split(inside, layers_of(model_config) or (), title, top, groups[at_top[top]])
        else:
            split = {leaf.path: list(groups[own[leaf.path]][0]) for leaf in inside if leaf.path in own}
        for leaf in inside:
            found["/".join(leaf.path)] = rearranged(leaf.layer, split.get(leaf.path, []))
    return found


@dataclass(frozen=True)
class _Leaf:
    """A layer that is no model, and the names that lead to it."""

    path: tuple[str, ...]
    layer: Config


def _leaves(layers: Sequence[Config], title: str, above: tuple[str, ...]) -> Iterator[_Leaf]:
    for place, layer in enumerate(layers, 1):
        name = title_of(layer, f"{title}_{place}")
        inner = layers_of(layer)
        if inner is None:
            yield _Leaf((*above, name), layer)
        else:
            yield from _leaves(inner, name, (*above, name))


def _by_order(
    tops: Sequence[str], leaves: Mapping[tuple[str, ...], _Leaf], groups: Mapping[str, Group], used: set[str]
) -> dict[str, str]:
    """Groups whose names are none of the model's, as Keras itself matches them: in order, where their number is that of the layers left.

    A Sequential in a Sequential has no name in a configuration of Keras 1.
    """
    left = [name for name, (arrays, _) in groups.items() if arrays and name not in used]
    need = [
        top
        for top in tops
        if top not in groups
        and any(weight_counts(leaf.layer) != (0, 0) for path, leaf in leaves.items() if path[0] == top)
    ]
    return dict(zip(need, left, strict=True)) if len(left) == len(need) else {}


def _split(
    inside: Sequence[_Leaf], layers: Sequence[Config], title: str, top: str, group: Group
) -> dict[tuple[str, ...], list[Stored]]:
    """The weights of a group, layer by layer: by the numbers that each layer has, else by their names."""
    arrays, names = group
    if len(inside) == 1:
        return {inside[0].path: list(arrays)}
    layer = next(layer for place, layer in enumerate(layers, 1) if title_of(layer, f"{title}_{place}") == top)
    trained, fixed = _slots(layer, (top,))
    slots = None if trained is None or fixed is None else [*trained, *fixed]
    if slots is None or len(slots) != len(arrays):
        homes = [_home(name, inside) for name in names]
        slots = None if len(homes) != len(arrays) or None in homes else [home for home in homes if home]
    if slots is None:
        return {}
    split: dict[tuple[str, ...], list[Stored]] = {leaf.path: [] for leaf in inside}
    for path, array in zip(slots, arrays, strict=True):
        split[path].append(array)
    return split


Slots = list[tuple[str, ...]]


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


def _home(name: str, inside: Sequence[_Leaf]) -> tuple[str, ...] | None:
    """The layer that the name of a weight speaks of: "lstm_1/kernel:0", "lstm/lstm_cell/kernel:0"; Keras 1 wrote "lstm_1_W_i:0"."""
    words = name.split("/")[:-1]
    homes = [leaf.path for leaf in inside if leaf.path[-1] in words] or [
        leaf.path for leaf in inside if name.startswith(f"{leaf.path[-1]}_")
    ]
    longest = max((len(home[-1]) for home in homes), default=0)
    best = [home for home in homes if len(home[-1]) == longest]
    return best[0] if len(best) == 1 else None
