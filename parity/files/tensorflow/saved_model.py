"""TensorFlow's SavedModel and its checkpoints, read without TensorFlow: the variables by name, and where Keras wrote it down the model.

A SavedModel is a program; what it computes only TensorFlow can say. But Keras 2 put the configuration of every layer beside it, and
variables have names: with either, recurrent layers are found. Sources: `tensorflow/core/protobuf/{saved_model,meta_graph}.proto`,
`tensorflow/core/protobuf/saved_object_graph.proto` (metadata of TensorFlow 2.0 to 2.4), `keras/protobuf/saved_metadata.proto`
(keras_metadata.pb, TensorFlow 2.5 to 2.15), `keras/saving/legacy/saved_model/json_utils.py`.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from parity.errors import FormatError, ParityError, Problem, UnsupportedError
from parity.files.stored import Contents, Stored
from parity.files.tensorflow.bundle import Bundle, bundle, inside
from parity.files.tensorflow.cells import cells
from parity.files.tensorflow.object_graph import KEY, Variable, variables
from parity.files.tensorflow.places import METADATA, MODEL, Place, place_of, refusal
from parity.files.tensorflow.protobuf_wire import fields, part, text
from parity.network.graph import Layer, Network
from parity.network.keras.config import layers_from_keras, network_from_keras
from parity.network.keras.history import modernised
from parity.network.keras.layers_of_old import layer_of_today
from parity.network.keras.recognition import recognised

PROGRAM = "a SavedModel is a program: TensorFlow is needed to run the graph"

_TRAINING, _COUNTING, _COPIES = "of optimizers and metrics", "counters and random states", "second copies"
_SUFFIX = re.compile(r"/\.ATTRIBUTES/VARIABLE_VALUE$")
_SLOT = re.compile(r"(Adam|Adagrad|Momentum|RMSProp|Adadelta|Ftrl|LAMB|AdaMax|Nadam)(_\d+)?")
_COUNTER = re.compile(r"global_step|beta[12]_power(_\d+)?|save_counter|seed_generator_state")
_CELL = re.compile(r"cell|.*_cell(?:_\d+)?|stacked_rnn_cells(?:_\d+)?|cells|\d+|forward_.*|backward_.*")
_MODELS = ("Sequential", "Functional", "Model")
_RECURRENT = ("LSTM", "GRU", "SimpleRNN", "Bidirectional", "RNN")
_MOST_MODEL_BYTES = (1 << 31) - 1
_REMEDY = "load it in the TensorFlow that wrote it and save the Keras model as .keras or .h5"


def read(path: Path) -> Contents:
    """The variables of a SavedModel or checkpoint by name, not read yet.

    Optimizer slots, metrics, step counters and random states are left out; `details["left out"]` counts them.

    Args:
        path: a SavedModel folder, its `saved_model.pb`, a checkpoint's prefix ("model.ckpt" where there is model.ckpt.index), one of
            its `.index` and `.data-...` files, or a folder with a `checkpoint` file.

    Raises:
        FormatError: damaged or hostile files.
        UnsupportedError: a file of TensorFlow of another kind; says which.
    """
    return _read(path)[0]


def _read(path: Path) -> tuple[Contents, Place]:
    place = place_of(path)
    if place is None:
        raise _not_these(path)
    found = bundle(place.prefix, place.folder) if place.prefix else Bundle({}, {}, {}, {})
    tensors, left_out = _named(found, str(place.prefix))
    details = _producer(place) if place.model else {}
    if place.note:
        details["checkpoint"] = place.note
    if left_out:
        details["left out"] = ", ".join(f"{what}: {count}" for what, count in sorted(left_out.items()))
    form = "TensorFlow SavedModel" if place.model else f"TensorFlow {2 if KEY in found.others else 1} checkpoint"
    return Contents(tensors, form, details, program=PROGRAM if place.model else ""), place


def _not_these(path: Path) -> ParityError:
    if path.is_file():
        return refusal(path) or UnsupportedError("not a file of TensorFlow that is known", str(path))
    expected = "saved_model.pb, or a checkpoint's .index and .data files"
    if not path.is_dir():
        return ParityError("no such file", str(path), expected, "nothing there", "check the name and the folder")
    names = ", ".join(sorted(child.name for child in path.iterdir())[:6]) or "an empty folder"
    return UnsupportedError(
        "a folder that is no model of TensorFlow", str(path), expected, names, "give the file in it"
    )


# ---- names


def _named(found: Bundle, where: str) -> tuple[dict[str, Stored], Counter[str]]:
    """The model's tensors by the names of their variables, and what is left out."""
    left_out: Counter[str] = Counter(f"of type {kind}" for key, kind in found.others.items() if key != KEY)
    if found.others.get(KEY) == "string":
        listed = [v for v in variables(found.text(KEY), where) if v.key in found.tensors]
        left_out += _unlisted(found, {variable.key for variable in listed})
    else:
        listed = [Variable(key, _SUFFIX.sub("", key), _SUFFIX.sub("", key)) for key in found.tensors]
    tensors: dict[str, Stored] = {}
    for name, key in _names(listed).items():
        stored = found.tensors[key]
        scope, _, last = name.rpartition("/")
        if _SLOT.fullmatch(last) and scope in found.tensors:
            left_out[_TRAINING] += 1
        elif _COUNTER.fullmatch(last) or (not stored.shape and stored.dtype.kind in "iu"):
            left_out[_COUNTING] += 1
        else:
            tensors[name] = stored
    return tensors, left_out


def _unlisted(found: Bundle, listed: set[str]) -> Counter[str]:
    rest = [key for key in found.tensors if key not in listed]
    return Counter(_COPIES if key.startswith("_all_variables/") else _TRAINING for key in rest)


def _names(listed: Sequence[Variable]) -> dict[str, str]:
    """The key of each variable by its name: the full name that TensorFlow gave it, or its path where that says more or is nobody else's."""
    full = [re.sub(r":\d+$", "", variable.full_name) for variable in listed]
    often = Counter(full)
    names: dict[str, str] = {}
    for variable, name in zip(listed, full, strict=True):
        says_more = "/" not in name and "/" in variable.path and not variable.path.rpartition("/")[2].isdigit()
        chosen = variable.path if often[name] > 1 or not name or says_more else name
        names[variable.key if chosen in names else chosen] = variable.key
    return names


def groups(contents: Contents) -> dict[str, dict[str, Stored]]:
    """The tensors by layer: the scope around the cells and directions of their names.

    Returns:
        Layer -> name of a variable in it ("lstm_cell/kernel") -> tensor; layers in the order of the model where the file says it.

    Example:
        >>> import numpy as np
        >>> names = ("model/both/forward_gru/gru_cell/kernel", "model/both/backward_gru/gru_cell/kernel", "model/out/kernel")
        >>> {layer: list(own) for layer, own in groups(Contents(dict.fromkeys(names, np.ones(2)), "")).items()}
        {'both': ['forward_gru/gru_cell/kernel', 'backward_gru/gru_cell/kernel'], 'out': ['kernel']}
    """
    split = {name: _split(name) for name in contents.tensors}
    layers = {layer for layer, _ in split.values()}
    first = {layer[:1] for layer in layers}
    common = 1 if len(first) == 1 and all(len(layer) > 1 for layer in layers) else 0
    found: dict[str, dict[str, Stored]] = {}
    for name, (layer, variable) in split.items():
        found.setdefault("/".join(layer[common:]), {})["/".join(variable)] = contents.tensors[name]
    return found


def _split(name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Layer and variable of a name, as parts."""
    parts = name.split("/")
    end = max(len(parts) - 1, 1)
    while end > 1 and _CELL.fullmatch(parts[end - 1]):
        end -= 1
    return tuple(parts[:end]), tuple(parts[end:] or parts)


# ---- the program and its metadata


def _producer(place: Place) -> dict[str, str]:
    """What saved_model.pb says of itself: the version of TensorFlow, and what the model is tagged for.

    Raises:
        FormatError: it is no SavedModel.
    """
    details: dict[str, str] = {}
    try:
        for graph in _meta_graphs(place):
            info = [member for number, value in fields(graph) if number == 1 for member in fields(part(value))]
            versions = [text(value)[:40] for number, value in info if number == 5]
            details |= {"producer": f"TensorFlow {versions[0]}"} if versions else {}
            tags = [text(value)[:40] for number, value in info if number == 4]
            details |= {"tags": ", ".join(tags)[:200]} if tags else {}
    except ValueError as error:
        raise _damaged(place, MODEL, "a SavedModel protobuf", str(error)) from error
    return details


def _meta_graphs(place: Place) -> list[memoryview]:
    """The MetaGraphDefs of saved_model.pb.

    Raises:
        ValueError: it is no SavedModel.
    """
    graphs = [part(value) for number, value in fields(_content(place, MODEL)) if number == 2]
    if not graphs:
        raise ValueError("no graph in it")
    return graphs


def _content(place: Place, name: str) -> bytes:
    path = inside(place.folder / name, place.folder)
    size = path.stat().st_size
    if size > _MOST_MODEL_BYTES:
        raise _damaged(place, name, f"at most {_MOST_MODEL_BYTES} bytes", f"{size} bytes")
    return path.read_bytes()


def _damaged(place: Place, name: str, expected: str, got: str) -> FormatError:
    remedy = "get the files anew, or save the model again"
    return FormatError("the file is damaged", str(place.folder / name), expected, got, remedy)


@dataclass(frozen=True)
class _Described:
    """What Keras says of an object of the model: the way to it from the root, and its metadata."""

    way: str
    metadata: Mapping[str, Any]

    @property
    def config(self) -> dict[str, Any] | None:
        """Class and options, None where Keras does not say them."""
        given = self.metadata.get("model_config") or self.metadata
        found = (
            isinstance(given, dict)
            and isinstance(given.get("class_name"), str)
            and isinstance(given.get("config"), dict)
        )
        return {"class_name": given["class_name"], "config": given["config"]} if found else None


def _metadata(place: Place) -> list[_Described]:
    """What Keras 2 says of the model and its layers, the model first; nothing where Keras 3 or TensorFlow itself wrote it."""
    name = METADATA if (place.folder / METADATA).is_file() else MODEL
    try:
        found = list(_metadata_beside(place) if name == METADATA else _metadata_in_graph(place))
    except (ValueError, RecursionError) as error:
        expected = "what Keras says of its layers"
        raise _damaged(place, name, expected, str(error) or "too many levels") from error
    return sorted(found, key=lambda each: each.way != "root")


def _metadata_beside(place: Place) -> Iterator[_Described]:
    """As TensorFlow 2.5 to 2.15 wrote it, in a file of its own."""
    for number, value in fields(_content(place, METADATA)):
        own = dict(fields(part(value))) if number == 1 else {}
        if 5 in own:
            yield _Described(text(own.get(3, memoryview(b""))), _json(text(own[5])))


def _metadata_in_graph(place: Place) -> Iterator[_Described]:
    """As TensorFlow 2.0 to 2.4 wrote it: with the objects of the graph, the root first; the ways to the others do not stand there."""
    for graph in _meta_graphs(place):
        nodes = [
            node for number, value in fields(graph) if number == 7 for inner, node in fields(part(value)) if inner == 1
        ]
        for index, node in enumerate(nodes):
            for number, value in fields(part(node)):
                own = dict(fields(part(value))) if number == 4 else {}
                if 3 in own and text(own.get(1, memoryview(b""))).startswith("_tf_keras"):
                    yield _Described("root" if index == 0 else f"root.{index}", _json(text(own[3])))


def _json(content: str) -> dict[str, Any]:
    """A JSON object of Keras 2, tuples and shapes as lists."""
    found = json.loads(content or "{}", object_hook=_plain)
    if not isinstance(found, dict):
        raise ValueError("metadata that is no JSON object")  # noqa: TRY004 - of the file, not of the call
    return found


def _plain(value: dict[str, Any]) -> Any:
    return value["items"] if value.get("class_name") in ("__tuple__", "TensorShape") and "items" in value else value


# ---- networks


def read_network(path: Path) -> Network:
    """The network in a SavedModel or checkpoint, as far as its files say it.

    The model as Keras 2 described it in a SavedModel; else the recurrent layers, by Keras's description of each or recognised from the
    names and shapes of their variables, in a partial network.

    Raises:
        FormatError: damaged or hostile files.
        UnsupportedError: a file of TensorFlow of another kind; says which.
    """
    contents, place = _read(path)
    described = _metadata(place) if place.model else []
    version = _keras_version(contents, described)
    name = place.folder.name if place.model or not place.prefix else place.prefix.name
    try:
        network = _from_keras(contents, described, version)
        problems: tuple[Problem, ...] = ()
    except ParityError as error:
        network, problems = None, error.problems
    if network is None:
        network = _from_names(contents, described, version, name)
        network = replace(network, problems=(*network.problems, *problems))
    return replace(network, details={"format": contents.form, **contents.details, **network.details})


def _keras_version(contents: Contents, described: Sequence[_Described]) -> str | None:
    """Of Keras where it is said, else that of the Keras that came with this TensorFlow, None for a checkpoint."""
    said = next((str(each.metadata["keras_version"]) for each in described if "keras_version" in each.metadata), None)
    if said is not None:
        return said if re.match(r"[12]\.", said) else "2.15.0"
    found = re.match(r"TensorFlow (\d+)\.(\d+)", contents.details.get("producer", ""))
    if found is None:
        return None
    return "3.0.0" if (int(found[1]), int(found[2])) >= (2, 16) else f"{found[1]}.{found[2]}.0"


def _from_keras(contents: Contents, described: Sequence[_Described], version: str | None) -> Network | None:
    """The model whose configuration Keras wrote beside the program; None where there is none.

    Raises:
        ParityError: it cannot be read, or does not fit the variables.
    """
    config = described[0].config if described and described[0].way == "root" else None
    if config is None or config["class_name"] not in _MODELS:
        return None
    own: dict[str, list[Stored]] = {}
    for layer, tensors in groups(contents).items():
        own.setdefault(layer.rpartition("/")[2], []).extend(tensors.values())

    def arrays(way: str) -> Sequence[Stored]:
        return own.get(way.rpartition("/")[2], [])

    return network_from_keras(modernised(config, version), arrays, hard_sigmoid_of_keras_2=True, partial=True)


def _from_names(contents: Contents, described: Sequence[_Described], version: str | None, name: str) -> Network:
    """A partial network: layers that Keras describes one by one, others recognised, cells of TensorFlow 1 described."""
    opaque, problems, used = cells(contents.tensors)
    own = groups(replace(contents, tensors={key: value for key, value in contents.tensors.items() if key not in used}))
    known = _known(own, described, version)
    if contents.program:
        program = Problem(contents.program, name, "a model that Keras describes", contents.form, _REMEDY)
        problems = (program, *problems)
    if not own and not opaque:
        held = "constants in its graph, if any" if contents.program else "none"
        problems = (*problems, Problem("no variables", name, "the weights of a model", held, _REMEDY))
    layers = tuple(layer for found, _ in known.values() for layer in found)
    details = {key: value for _, found in known.values() for key, value in found.items()}
    rest = {layer: tensors for layer, tensors in own.items() if layer not in known}
    if rest:
        guessed = recognised(rest, version, name)
        opaque += tuple(replace(each, place=each.place + len(layers)) for each in guessed.opaque)
        layers, details = layers + guessed.layers, details | guessed.details
        problems = problems or tuple(replace(problem, remedy=_REMEDY) for problem in guessed.problems)
    return Network(name, layers, (), "keras", details, opaque=opaque, problems=problems)


def _known(
    own: Mapping[str, Mapping[str, Stored]], described: Sequence[_Described], version: str | None
) -> dict[str, tuple[tuple[Layer, ...], dict[str, str]]]:
    """The recurrent layers that Keras describes one by one, in a model of a class of its own."""
    configs: dict[str, dict[str, Any]] = {}
    for each in described:
        config = each.config
        if config is not None and config["class_name"] in _RECURRENT:
            configs.setdefault(str(config["config"].get("name")), config)
    known = {}
    for layer, tensors in own.items():
        config = configs.get(layer.rpartition("/")[2])
        if config is not None:
            with suppress(ParityError):
                today = layer_of_today(config, version, layer)
                known[layer] = layers_from_keras(today, list(tensors.values()), hard_sigmoid_of_keras_2=True)
    return known


__all__ = ["groups", "read", "read_network", "refusal"]
