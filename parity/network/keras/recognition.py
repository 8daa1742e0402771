"""Layers of Keras told from the names and shapes of their weights alone. Imports no framework and opens no file.

A file of weights says neither activations nor how the layers are connected. What is taken for granted is said in words, in
`details["assumed"]`; weights that cannot be told become `parity.network.opaque.Opaque`.

Sources of the names: `build` of the recurrent layers in `keras/layers/recurrent.py` of Keras 1.2.2 (lstm_1_W_i, lstm_1_U_i, lstm_1_b_i)
and 2.1.5 (lstm_1/kernel:0), of tf.keras 2.15 (lstm/lstm_cell/kernel:0); `save_own_variables` of Keras 3 (cell/vars/0, 1, 2);
`_trackable_children` in TensorFlow's checkpoints (cell/kernel/.ATTRIBUTES/VARIABLE_VALUE).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise, takewhile
from typing import Any

from parity.deferred import Stored
from parity.errors import FormatError, ParityError, Problem
from parity.layouts import GATES, KERAS_1, KINDS, LAYOUTS, Kind
from parity.network.graph import Layer, Network
from parity.network.keras.chain import MOST_LAYERS
from parity.network.keras.config import layers_from_keras
from parity.network.keras.history import weights_of_today
from parity.network.keras.layers_of_old import USUAL_OF_CUDNN, before, usual_of
from parity.network.keras.options import KIND_OF
from parity.network.keras.ordering import Rank, chain_of, number_of
from parity.network.opaque import Opaque
from parity.network.recurrent import Recurrent

_CLASS_OF: dict[Kind, str] = {kind: name for name, kind in KIND_OF.items()}
_ROLES = tuple(tensor.name for tensor in LAYOUTS["keras", KINDS[0]].tensors)
_WORDS_OF_KERAS_1 = dict(zip("WUb", _ROLES, strict=True))
_OLD = re.compile(r"(?:.*_)?([WUb])(?:_([a-z]))?(?:_\d+)?")
_NUMBER = re.compile(r"(?:param_)?(\d{1,4})")
_TAILS = re.compile(r"(/\.ATTRIBUTES/VARIABLE_VALUE|:\d+)$")
_OF_ONE = ("vars", "cell", "layer")
"""Folders of a single layer."""


@dataclass(frozen=True)
class _Part:
    """The weights in one place of a layer: those of a cell, or of the layer itself.

    Args:
        place: the folders of their names.
        roles: name -> tensor: kernel, recurrent_kernel, bias, embeddings, another name, or a number where the file has only that.
        gates: the arrays of each gate where Keras 1 keeps them one by one, as the file has them.
    """

    place: tuple[str, ...]
    roles: Mapping[str, Stored]
    gates: Sequence[Stored] = ()


@dataclass(eq=False)
class _Found:
    """What one group of weights is.

    Args:
        name: of the layer.
        layers: the nodes it says; none if it is opaque.
        assumed: what the weights do not say.
        rank: of the layer.
    """

    name: str
    layers: tuple[Layer, ...] = ()
    tensors: Mapping[str, Stored] = field(default_factory=dict)
    assumed: list[str] = field(default_factory=list)
    details: dict[str, str] = field(default_factory=dict)
    rank: Rank = ("", 0)


def recognised(
    groups: Mapping[str, Mapping[str, Stored]],
    version: str | None,
    name: str = "weights",
    ordered: bool = True,
    ranks: Mapping[str, Rank] | None = None,
    unconnected: Problem | None = None,
) -> Network:
    """The network that weights belong to, as far as their names and shapes tell.

    Args:
        groups: layer -> path of a variable in it -> tensor, not read yet. The order of layers is the model's if `ordered`; the order
            of variables is the file's. Layers without weights may be there.
        version: of the Keras that wrote them, None if unknown: it decides which options are taken for granted.
        name: of the network.
        ordered: whether the layers stand in the model's order; else those of one class are ordered by their numbers, and layers of several
            classes by their sizes, if only one order fits.
        ranks: of the layers, where something else than the numbers in their names says the order of those of one class: it is certain.
        unconnected: why the layers are not connected by anything that is read; then the network is partial.

    Returns:
        A bare network if there is one recurrent layer and nothing else with weights; else a partial network with every recurrent layer,
        `Embedding` and `Dense` that was recognised, the others described. `details["assumed"]` has what the weights do not say.

    Raises:
        FormatError: absurdly many layers.

    Example:
        >>> import numpy as np
        >>> weights = {"lstm/kernel:0": np.ones((3, 20)), "lstm/recurrent_kernel:0": np.ones((5, 20)), "lstm/bias:0": np.ones(20)}
        >>> recognised({"lstm": weights}, "2.5.0")
        Network('weights', lstm: Recurrent 3->5)
    """
    apart = [(layer, *part) for layer, tensors in groups.items() if tensors for part in _apart(layer, tensors)]
    if len(apart) > MOST_LAYERS:
        raise FormatError("absurdly many layers", f"weights '{name}'", f"at most {MOST_LAYERS}", str(len(apart)))
    found = [_recognised(part, tensors, version) for _, part, tensors in apart]
    for (group, part, _), one in zip(apart, found, strict=True):
        one.rank = number_of(part) if ranks is None else ranks[group]
    if not ordered:
        found = sorted(found, key=lambda one: one.rank)
    certain = ranks is not None
    stack = None if unconnected else _stack(found, ordered, certain)
    if stack is not None:
        found = stack
    elif not ordered and all(one.layers for one in found):
        found = [found[place] for place in _chain(found, certain) or range(len(found))]
    assumed = [f"{one.name}: {words}" for one in found for words in dict.fromkeys(one.assumed)]
    if stack is not None and len(found) > 1:
        assumed.append(f"the sizes allow this order: {', then '.join(one.name for one in found)}")
    unweighted = [layer for layer, tensors in groups.items() if not tensors]
    if unweighted and stack is not None:
        assumed.append(f"nothing is known of the layers without weights: {', '.join(unweighted[:8])}")
    # Layers whose sizes fit may as well stand beside each other, or have others without weights between them.
    problems = () if stack is not None and len(stack) == 1 else (unconnected or _unconnected(found, name),)
    layers = [layer for one in found for layer in one.layers]
    places = accumulate((len(one.layers) for one in found), initial=0)
    opaque = tuple(
        Opaque(one.name, "", dict(one.tensors), place=place)
        for one, place in zip(found, places, strict=False)
        if not one.layers
    )
    details = {key: value for one in found for key, value in one.details.items()}
    if assumed:
        details["assumed"] = "; ".join(assumed)
    return Network(name, tuple(layers), (), "keras", details, opaque=opaque, problems=problems)


def _unconnected(found: Sequence[_Found], where: str) -> Problem:
    kinds = ", ".join(f"'{one.name}'" for one in found[:12])
    more = f" and {len(found) - 12} more" if len(found) > 12 else ""
    remedy = "put the model's JSON (model.to_json()) beside it, under the same name and .json"
    what = "weights alone do not say how the layers are connected"
    return Problem(what, f"weights '{where}'", "one recurrent layer", kinds + more or "no weights", remedy)


# ---- one layer


def _recognised(name: str, tensors: Mapping[str, Stored], version: str | None) -> _Found:
    """What the weights of one layer are."""
    found = _Found(name, tensors=tensors)
    parts = _parts(tensors, version)
    try:
        config, arrays = _described(name, parts, version, found.assumed)
        if config is not None:
            found.layers, details = layers_from_keras(config, arrays, hard_sigmoid_of_keras_2=_is_old(version))
            found.details |= details
    except ParityError:
        found.layers = ()
    if not found.layers:
        found.assumed.clear()
    return found


def _is_old(version: str | None) -> bool:
    return bool(version) and int(re.match(r"\d*", str(version)).group() or 3) < 3  # type: ignore[union-attr]


def _described(
    name: str, parts: Sequence[_Part], version: str | None, assumed: list[str]
) -> tuple[dict[str, Any] | None, list[Stored]]:
    """The configuration, in Keras 3's words, of the layer that the parts are; None if it is none that is known."""
    if len(parts) == 1 and (other := _unlooped(name, parts[0])) is not None:
        config, arrays = other
        assumed += ["activation='linear'"] if config["class_name"] == "Dense" else []
        return config, arrays
    ways = {way: [part for part in parts if _way(part) == way] for way in ("forward", "backward")}
    if not all(ways.values()):
        assumed.append("return_sequences=True, go_backwards=False")
        return _loop(name, parts, version, assumed) or (None, [])
    made = [_loop(f"{way}_{name}", own, version, assumed) for way, own in ways.items()]
    if None in made or sum(map(len, ways.values())) < len(parts):
        return None, []
    (forward, first), (backward, second) = (one for one in made if one)
    assumed.append("return_sequences=True, merge_mode='concat', the backward layer the other way round")
    backward = {**backward, "config": {**backward["config"], "go_backwards": True}}
    both = {"layer": forward, "backward_layer": backward, "merge_mode": "concat"}
    return _serialized("Bidirectional", name, **both), [*first, *second]


def _unlooped(name: str, part: _Part) -> tuple[dict[str, Any], list[Stored]] | None:
    """An Embedding or a Dense layer."""
    shapes = [tuple(tensor.shape) for tensor in part.roles.values()]
    words = f"{name}/{'/'.join(part.place)}".lower()
    roles, arrays = set(part.roles), list(part.roles.values())
    table = roles == {"embeddings"} or (len(arrays) == 1 and "embedding" in words and roles <= {"kernel", "0"})
    if table and len(shapes[0]) == 2:
        return _serialized("Embedding", name, input_dim=shapes[0][0], output_dim=shapes[0][1]), arrays
    plain = roles in ({"kernel"}, {"kernel", "bias"}) or (roles in ({"0"}, {"0", "1"}) and "cell" not in part.place)
    if plain and len(shapes[0]) == 2 and shapes[1:] in ([], [shapes[0][1:]]):
        return _serialized("Dense", name, units=shapes[0][1], use_bias=len(shapes) == 2, activation="linear"), arrays
    return None


def _loop(
    name: str, parts: Sequence[_Part], version: str | None, assumed: list[str]
) -> tuple[dict[str, Any], list[Stored]] | None:
    """A recurrent layer of one direction around one cell or several."""
    known = [cell for part in parts if (cell := _cell(name, part, version, assumed))]
    if len(known) < len(parts) or (len(parts) > 1 and not all(_by_number(part) for part in parts)):
        return None
    if len(known) == 1:
        config, arrays = known[0]
        return _serialized(config.pop("class_name"), config.pop("name"), **config, return_sequences=True), arrays
    chain = chain_of([(arrays[0].shape[0], arrays[1].shape[0]) for _, arrays in known])
    if chain is None:
        return None
    assumed.append(f"its cells in the order {', '.join('/'.join(parts[place].place) for place in chain)}")
    inner = []
    for number, place in enumerate(chain):
        config = {**known[place][0], "name": f"{name}_{number}"}
        inner.append(_serialized(f"{config.pop('class_name')}Cell", config.pop("name"), **config))
    stacked = _serialized("StackedRNNCells", f"{name}_cells", cells=inner)
    rnn = _serialized("RNN", name, cell=stacked, return_sequences=True)
    return rnn, [array for place in chain for array in known[place][1]]


def _cell(
    name: str, part: _Part, version: str | None, assumed: list[str]
) -> tuple[dict[str, Any], list[Stored]] | None:
    """Class and options of the cell that a part is, and its weights as Keras 3 has them; None if it is none."""
    arrays = list(part.gates) or _in_order(part.roles)
    kind = _kind(arrays)
    if kind is None:
        return None
    class_name = _CLASS_OF[kind]
    units = int(arrays[1].shape[0])
    plain_bias = len(arrays) == 3 and len(arrays[2].shape) == 1
    cudnn = kind != "rnn" and plain_bias and arrays[2].shape[0] == 2 * arrays[1].shape[1]
    biased = len(arrays) != 2
    options: dict[str, Any] = {"activation": "tanh", "use_bias": biased}
    if kind != "rnn":
        usual = str(usual_of(class_name, version or "3").get("recurrent_activation", "sigmoid"))
        options["recurrent_activation"] = USUAL_OF_CUDNN["recurrent_activation"] if cudnn else usual
    if kind == "gru":
        options["reset_after"] = _reset_after(arrays, cudnn, version, assumed)
    if not cudnn:
        by = f"the default of Keras {version}" if version else "today's default"
        said = [f"{key}='{options[key]}'" for key in ("activation", "recurrent_activation") if key in options]
        assumed.append(f"{', '.join(said)} ({by})")
    today = weights_of_today({"class_name": class_name, "config": {"units": units, **options}}, arrays, version)
    return {"class_name": class_name, "name": name, "units": units, **options}, list(today)


def _reset_after(arrays: Sequence[Stored], cudnn: bool, version: str | None, assumed: list[str]) -> bool:
    if len(arrays) != 2:
        return cudnn or (len(arrays) == 3 and len(arrays[2].shape) == 2)
    usual = bool(usual_of("GRU", version or "3").get("reset_after", True))
    assumed.append(f"reset_after={usual}: without a bias the weights do not say it")
    return usual


def _kind(arrays: Sequence[Stored]) -> Kind | None:
    """The kind of a cell with these weights: kernel, recurrent kernel and bias, or those of each gate one after the other."""
    shapes = [tuple(array.shape) for array in arrays]
    for kind in KINDS:
        gates = len(GATES[kind])
        one_by_one = gates > 1 and len(shapes) == 3 * gates
        if one_by_one and len({*shapes[0::3]}) == len({*shapes[1::3]}) == len({*shapes[2::3]}) == 1:
            shapes, gates = shapes[:3], 1
        if len(shapes) not in (2, 3) or len(shapes[0]) != 2 or len(shapes[1]) != 2:
            continue
        (_, columns), (units, width) = shapes[:2]
        biases = [(columns,), *([(2, columns), (2 * columns,)] if kind != "rnn" and not one_by_one else [])]
        if units and width == columns == gates * units and (len(shapes) == 2 or shapes[2] in biases):
            return kind
    return None


def _in_order(roles: Mapping[str, Stored]) -> list[Stored]:
    """Kernel, recurrent kernel, bias; nothing if they are others."""
    if roles.keys() - {_ROLES[2]} == set(_ROLES[:2]):
        return [roles[role] for role in _ROLES if role in roles]
    numbers = [str(number) for number in range(len(roles))]
    return [roles[number] for number in numbers] if roles.keys() == set(numbers) else []


# ---- names


def _parts(tensors: Mapping[str, Stored], version: str | None) -> list[_Part]:
    """The tensors of a layer by the place they stand in, their names as Keras 3 says them."""
    places: dict[tuple[str, ...], dict[str, Stored]] = {}
    for path, tensor in tensors.items():
        *folders, leaf = [part for part in _TAILS.sub("", path).split("/") if part]
        places.setdefault(tuple(folder for folder in folders if folder != "vars"), {})[leaf] = tensor
    parts = [part for place, leaves in places.items() for part in _split(place, leaves, version)]
    return sorted(parts, key=lambda part: number_of("/".join(part.place)) if _by_number(part) else ("", 0))


def _by_number(part: _Part) -> bool:
    """Whether a file lists it in the order of the alphabet: cells beside each other are numbered."""
    return any("cells" in folder for folder in part.place)


def _apart(name: str, tensors: Mapping[str, Stored]) -> Iterator[tuple[str, Mapping[str, Stored]]]:
    """The layers in a group: a model inside the model is one group, its layers are folders of the names."""
    folders = {path: _TAILS.sub("", path).split("/")[:-1] for path in tensors}
    lowest, highest = min(folders.values()), max(folders.values())
    first = [folder for folder, _ in takewhile(lambda pair: pair[0] == pair[1], zip(lowest, highest, strict=False))]
    inner = {path: own[len(first)] if len(own) > len(first) else "" for path, own in folders.items()}
    one = len(set(inner.values())) == 1 or any(
        folder in _OF_ONE or "cells" in folder for folder in (*first, *inner.values())
    )
    if one or any(_direction(folder) for folder in inner.values()):
        yield name, tensors
        return
    parts: dict[str, dict[str, Stored]] = {}
    for path, folder in inner.items():
        parts.setdefault(folder, {})[path] = tensors[path]
    for folder, own_tensors in parts.items():
        yield f"{name}/{folder}", own_tensors


def _split(place: tuple[str, ...], leaves: Mapping[str, Stored], version: str | None) -> Iterator[_Part]:
    """A place whose names may be of Keras 1: the layer's own name, W, U or b, and the gate."""
    matches = {leaf: _OLD.fullmatch(leaf) for leaf in leaves}
    if all(matches.values()) and before(version, 2, 0):
        ways: dict[str, dict[str, Stored]] = {}
        for leaf, tensor in leaves.items():
            way = next((way for way in ("forward", "backward") if leaf.startswith(way)), "")
            ways.setdefault(way, {})[leaf] = tensor
        for way, own in ways.items():
            yield _old_part((*place, way) if way else place, own)
        return
    numbers = {leaf: _NUMBER.fullmatch(leaf) for leaf in leaves}
    if leaves and all(numbers.values()):
        ordered = sorted((int(found[1]), leaves[leaf]) for leaf, found in numbers.items() if found)
        arrays = [tensor for _, tensor in ordered]
        gates = arrays if len(arrays) > 3 else []
        yield _Part(place, {str(number): tensor for number, tensor in enumerate(arrays)}, gates)
        return
    yield _Part(place, leaves)


def _old_part(place: tuple[str, ...], leaves: Mapping[str, Stored]) -> _Part:
    """Weights named by Keras 1, those of each gate in the order of its table."""
    found = {_OLD.fullmatch(leaf).group(1, 2): tensor for leaf, tensor in leaves.items()}  # type: ignore[union-attr]
    letters = {gate for _, gate in found if gate}
    if not letters:
        return _Part(place, {_WORDS_OF_KERAS_1[word]: tensor for (word, _), tensor in found.items()})
    for layout in KERAS_1.values():
        wanted = [(word, gate) for gate in layout.own_gates for word in _WORDS_OF_KERAS_1]
        if found.keys() == set(wanted):
            return _Part(place, {}, [found[key] for key in wanted])
    return _Part(place, leaves)


def _way(part: _Part) -> str:
    """The direction that the folders of a part say."""
    return next((way for folder in part.place if (way := _direction(folder))), "")


def _direction(folder: str) -> str:
    ways = ("forward", "backward")
    return next((way for way in ways if folder == way or folder.startswith(f"{way}_")), "")


# ---- several layers


def _stack(found: Sequence[_Found], ordered: bool, certain: bool) -> list[_Found] | None:
    """The layers in the order of the data, if they are recurrent and their sizes say that they form one stack; else None."""
    if not found or not all(one.layers and all(isinstance(layer, Recurrent) for layer in one.layers) for one in found):
        return None
    if ordered or len({one.rank[0] for one in found}) == 1:
        fits = all(before.layers[-1].output_size == after.layers[0].input_size for before, after in pairwise(found))
        return list(found) if fits else None
    chain = _chain(found, certain)
    return None if chain is None else [found[place] for place in chain]


def _chain(found: Sequence[_Found], certain: bool) -> list[int] | None:
    """The only order that the sizes allow."""
    sizes = [(one.layers[0].input_size, one.layers[-1].output_size) for one in found]
    return chain_of(sizes, [one.rank for one in found] if certain else ())


def _serialized(class_name: str, name: str, **options: Any) -> dict[str, Any]:
    config = {"name": name, **options}
    return {"module": "keras.layers", "class_name": class_name, "config": config, "registered_name": None}
