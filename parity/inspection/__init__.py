"""What `parity inspect` shows of a file, as data: its `--json`, from which the tables are drawn, too.

Nothing large is read: shapes and types stand in the file's head. The JSON object has these keys; more may come, none of them changes:

    schema       the version of this description, 1
    file         its name, or the label of a live object
    path, bytes  of the file or folder, null for a live object
    format       in words
    producer     what wrote it, null where it does not say; `age` what that means, `saved` when, as the file has it
    origin       the framework: keras, torch, onnxruntime, or empty
    bare         whether it is a recurrent layer or stack by itself
    details      what else the file says of itself, text by text; "assumed" is what it does not say
    time         the number of steps that it insists on, or null
    partial      whether it cannot be run or converted as a whole; `problems` says why: what, where, expected, got, remedy
    as_code      whether it is more than a chain of layers, and moves as a whole only as code; with stubs if it is partial
    layers       in order, those that can be computed: name, family, input, output, options, dtype, place, weights (canonical name ->
                 shape); for recurrent ones `recurrent`, a list with `recurrent_facts` of it, or of each layer inside a Bidirectional
    opaque       those that are described only: name, class, options, tensors (name -> shape, dtype), place: how many of `layers` stand
                 before it
    alone        the recurrent layers by name, each of which can be taken alone: --layer NAME
    outputs      of the model: name, layer
    returns      what Keras returns for each recurrent layer, or for a stack of them; `returned` the same in every framework
    cautions     what to look out for when this moves: what, where, why, remedy, pitfall; the most important first
    measured_on  what the sizes of errors in the cautions were measured on
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from parity.cautions import MEASURED_ON, cautions
from parity.cautions.caution import FRAMEWORKS
from parity.cautions.cells import biases_of, function_words
from parity.errors import ParityError
from parity.explaining import explain_layer, explain_network, explain_unlike
from parity.files.stored import type_name
from parity.frameworks import ENGINES
from parity.layouts import LAYOUTS, SLOTS, Layout, axis_groups, keras_layout
from parity.network import Bidirectional, Layer, Network, Recurrent, layer_facts
from parity.network.opaque import Opaque
from parity.recurrent import DIRECTIONS, packed
from parity.returns import Returns
from parity.sources import Opened

SCHEMA = 1

_FORMATS = {
    ".keras": "Keras 3 file (.keras)",
    ".h5": "HDF5 file of Keras",
    ".hdf5": "HDF5 file of Keras",
    ".onnx": "ONNX model",
    ".safetensors": "tensors in safetensors",
    ".npz": "NumPy arrays (.npz)",
    ".pt": "torch state dict",
    ".pth": "torch state dict",
}
_AGES = (
    ((2, 0), "of the age of Keras 1: written before Keras 2.0 (March 2017)"),
    ((2, 3), "written before Keras 2.3 (September 2019)"),
    ((3, 0), "written before Keras 3 (November 2023)"),
)
_MOST_FILES = 10_000


def description(opened: Opened) -> dict[str, Any]:
    """Everything `parity inspect --json` prints: strictly JSON, keys as listed at the head of this module.

    Example:
        >>> import torch
        >>> from parity.sources import open_source
        >>> shown = description(open_source(torch.nn.GRU(3, 5)))
        >>> shown["layers"][0]["weights"]["forward.kernel"], shown["partial"], shown["returns"]
        ([3, 5, 3], False, ['[(batch, time, 5), (batch, 5)]'])
    """
    network, details = opened.network, opened.network.details
    suffix = opened.path.suffix.lower() if opened.path else ""
    returned = list(returned_by(network))
    names = frozenset(layer.name for layer in network.recurrent)
    version = details.get("keras_version")
    producer = details.get("producer") or (f"Keras {version}" if version else None)
    found = {
        "schema": SCHEMA,
        "file": opened.label,
        "path": None if opened.path is None else str(opened.path),
        "bytes": None if opened.path is None else size_of(opened.path),
        "format": format_of(network, suffix),
        "producer": producer,
        "age": age_of(producer or ""),
        "saved": details.get("date_saved"),
        "origin": network.origin,
        "bare": network.bare,
        "details": details,
        "time": network.time,
        "partial": bool(network.stopping),
        "problems": [asdict(problem) for problem in network.stopping],
        "as_code": network.graph is not None,
        "layers": [_layer(layer, place, network, names) for place, layer in enumerate(network.layers)],
        "opaque": [_opaque(layer) for layer in network.opaque],
        "alone": [layer.name for layer in network.recurrent],
        "outputs": [{"name": output.name, "layer": output.layer} for output in network.outputs],
        "returns": [one.keras for one in returned],
        "returned": [asdict(one) for one in returned],
        "cautions": [asdict(caution) for caution in cautions(network, suffix)],
        "measured_on": MEASURED_ON,
    }
    plain: dict[str, Any] = json_value(found)
    return plain


def json_value(value: object) -> Any:
    """A value as JSON has it: a number that JSON has not, and anything else that it has not, as text.

    Example:
        >>> json_value({"padding": (1, float("nan")), 3: None})
        {'padding': [1, 'nan'], '3': None}
    """
    if isinstance(value, Mapping):
        return {str(key): json_value(one) for key, one in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [json_value(one) for one in value]
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return value if isinstance(value, float) and math.isfinite(value) else str(value)


def size_of(path: Path) -> int | None:
    """Bytes of a file, or of all files in a folder; None where it is not there."""
    if path.is_dir():
        inside = (one for one, _ in zip(path.rglob("*"), range(_MOST_FILES), strict=False))
        return sum(one.stat().st_size for one in inside if one.is_file())
    return path.stat().st_size if path.exists() else None


def format_of(network: Network, suffix: str) -> str:
    """The format of a file in words.

    Example:
        >>> from parity.errors import Problem
        >>> format_of(Network("w", (), origin="keras", details={"assumed": "all"}, problems=(Problem("no"),)), ".h5")
        'HDF5 file of Keras, weights alone'
    """
    said = network.details.get("file") or network.details.get("format")
    if said:
        return said
    words = _FORMATS.get(suffix, suffix.removeprefix(".") or "a live object")
    if suffix in (".h5", ".hdf5"):
        alone = "assumed" in network.details and network.bare
        return f"{words}, {'weights alone' if alone or 'architecture' in network.details else 'whole model'}"
    described = suffix in (".safetensors", ".npz", ".pt", ".pth")
    return f"{words}, with parity's description of the network" if described else words


def age_of(producer: str) -> str:
    """What the version of Keras that wrote a file says of its age; nothing for today's and for others.

    Example:
        >>> age_of("Keras 2.1.5, tensorflow backend")
        'written before Keras 2.3 (September 2019)'
    """
    found = re.match(r"Keras (\d{1,3})\.(\d{1,3})", producer)
    if found is None:
        return ""
    version = int(found[1]), int(found[2])
    return next((words for limit, words in _AGES if version < limit), "")


# ---- layers


def _layer(layer: Layer, place: int, network: Network, names: frozenset[str]) -> dict[str, Any]:
    inner = layer.recurrent if isinstance(layer, Bidirectional) else (layer,) if isinstance(layer, Recurrent) else ()
    return {
        **layer_facts(layer),
        "place": place,
        "dtype": ", ".join(sorted({str(held.dtype) for held in layer.arrays.held.values()})),
        "weights": layer.arrays.shapes,
        **({"recurrent": [recurrent_facts(one, network, names) for one in inner]} if inner else {}),
    }


def _opaque(layer: Opaque) -> dict[str, Any]:
    tensors = {
        name: {"shape": tuple(tensor.shape), "dtype": type_name(tensor)} for name, tensor in layer.tensors.items()
    }
    return {
        "name": layer.name,
        "class": layer.class_name,
        "options": dict(layer.facts),
        "tensors": tensors,
        "place": layer.place,
    }


def recurrent_facts(layer: Recurrent, network: Network, names: frozenset[str]) -> dict[str, Any]:
    """A recurrent layer in full, among others of some names: kind, sizes, functions, options, weights as its framework keeps them.

    `functions` has one mapping for each direction: where it acts -> the function. `stored` has the layout, its gates in order, and
    the tensors: name there, name in the file where that is known, shape, axes.
    """
    spec, layout = layer.spec, layout_of(network.origin, layer)
    return {
        "name": layer.name,
        "kind": spec.kind,
        "input": spec.input_size,
        "units": spec.hidden_size,
        "projection": spec.projection_size,
        "directions": list(spec.directions),
        "functions": [
            {
                slot: {"name": function.name, **function.parameters, "words": function_words(function)}
                for slot, function in zip(SLOTS[spec.kind], cell.functions, strict=True)
            }
            for cell in layer.cells
        ],
        "biases": biases_of(layer),
        "reset_after": [cell.reset_after for cell in layer.cells] if spec.kind == "gru" else None,
        "clip": [cell.clip for cell in layer.cells],
        "input_forget": [cell.input_forget for cell in layer.cells],
        "peepholes": any(weights.held("peepholes") is not None for weights in layer.weights),
        "merge_mode": layer.merge_mode if layer.bidirectional else None,
        "reverse": layer.reverse,
        "return_sequences": layer.return_sequences,
        "return_state": layer.return_state,
        "fill": layer.fill,
        "stateful": layer.stateful,
        "unroll": layer.unroll,
        "dropout": layer.dropout,
        "recurrent_dropout": layer.recurrent_dropout,
        "single_step": layer.single_step,
        "in_the_file": network.details.get(f"layer {layer.name}", ""),
        "dtype": str(layer.weights[0].dtype),
        "stored_as": network.details.get("stored as", ""),
        "stored": {
            "layout": layout.framework,
            "gates": list(layout.own_gates),
            "tensors": list(_tensors(layer, layout, network, names)),
        },
    }


def layout_of(origin: str, layer: Recurrent) -> Layout:
    """The layout of a file's own framework; torch's for a description of no framework."""
    layout = LAYOUTS[ENGINES.get(origin, "torch"), layer.spec.kind]
    if layout.framework != "keras":
        return layout
    two_biases = all(one.held("bias_recurrent") is not None for one in layer.weights)
    return keras_layout(layer.spec.kind, any(cell.reset_after for cell in layer.cells), two_biases)


def _tensors(layer: Recurrent, layout: Layout, network: Network, names: frozenset[str]) -> Iterator[dict[str, Any]]:
    """The weights as the framework keeps them; where each direction has tensors of its own, one after the other."""
    together = any("direction" in tensor.axes for tensor in layout.tensors)
    axes = {tensor.name: tensor.axes for tensor in layout.tensors}
    named = network.origin == "torch" and "file" in network.details
    parts = [layer.weights] if together else [(one,) for one in layer.weights]
    for number, part in enumerate(parts):
        for name, blocks in packed(layout, layer.spec, part).items():
            yield {
                "name": name,
                "direction": None if together else layer.spec.directions[number],
                "in_file": _name_in_state_dict(layer, name, number, names) if named else None,
                "shape": blocks.shape,
                "axes": ["*".join(group) for group in axis_groups(axes[name])],
            }


_LAYER_NUMBER = re.compile(r"(.*)_l(\d+)", re.DOTALL)


def _name_in_state_dict(layer: Recurrent, tensor: str, direction: int, names: frozenset[str]) -> str:
    """The name of a tensor in a torch state dict, as `parity.files.state_dict` takes names apart.

    Args:
        layer: of a network that was read from one.
        tensor: its name in torch's layout.
        direction: index of the direction it belongs to.
        names: of all recurrent layers.
    """
    found = _LAYER_NUMBER.fullmatch(layer.name)
    stacked = found if found and f"{found[1]}_l0" in names and f"{found[1]}_l1" in names else None
    base, depth = (stacked[1], stacked[2]) if stacked else (layer.name, "0")
    prefix = "" if base == layer.spec.kind else f"{base}."
    way = "_reverse" if DIRECTIONS[direction] == "backward" else ""
    return f"{prefix}{tensor}" if layer.single_step else f"{prefix}{tensor}_l{depth}{way}"


# ---- what it returns


@dataclass(frozen=True)
class Returned:
    """What some layers return in every framework, a line each.

    Args:
        layers: names of the recurrent layers: one, or those of a stack.
        keras, torch, onnx: values and shapes; empty where the framework has no such layer.
    """

    layers: tuple[str, ...]
    keras: str
    torch: str
    onnx: str


def returned_by(network: Network) -> Iterator[Returned]:
    """What every recurrent layer returns, or a bare stack of them as a whole; the layers of a partial network one by one.

    Example:
        >>> import torch
        >>> from parity.sources import read
        >>> [one.onnx for one in returned_by(read(torch.nn.GRU(3, 5)))]
        ['Y (time, 1, batch, 5), Y_h (1, batch, 5)']
    """
    if network.bare and not network.problems:
        try:
            explained = list(explain_network(network))
        except ParityError:
            explained = []
        if len(explained) == 1:
            yield _returned(tuple(layer.name for layer in network.recurrent), explained[0])
            return
    known: dict[object, Returned] = {}
    for layer in network.layers:
        if isinstance(layer, Bidirectional):
            yield _returned((layer.name,), explain_unlike(layer))
        elif isinstance(layer, Recurrent):
            key = (layer.spec, layer.return_sequences, layer.return_state, layer.merge_mode, layer.single_step)
            if key not in known:
                known[key] = _alone(layer, network.origin)
            yield replace(known[key], layers=(layer.name,))


def _alone(layer: Recurrent, origin: str) -> Returned:
    state = layer.return_state or layer.single_step or origin != "keras"
    steps = layer.return_sequences and not layer.single_step
    call = "single step" if layer.single_step else "batched"
    try:
        explained = explain_layer(layer.spec, steps, state, layer.merge_mode, call=call)  # type: ignore[arg-type]
    except ParityError as error:
        return Returned((layer.name,), error.problems[0].what, "", "")
    return _returned((layer.name,), explained)


def _returned(names: tuple[str, ...], returns: Returns) -> Returned:
    return Returned(names, returns.shapes, _listed(returns.torch), _listed(returns.onnx))


def _listed(values: Sequence[tuple[str, Sequence[int | str]]]) -> str:
    return ", ".join(f"{name} ({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})" for name, shape in values)


__all__ = ["FRAMEWORKS", "Returned", "description", "format_of", "json_value", "layout_of", "recurrent_facts"]
