"""An ONNX file that is no chain around recurrent nodes: every recurrent layer in it is read, the rest is listed."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx

from parity.deferred import Stored
from parity.errors import Problem, UnsupportedError
from parity.frameworks.onnx.facts import described, facts_of
from parity.frameworks.onnx.finding import Finder, Found
from parity.frameworks.onnx.graph import UNKNOWN_OPERATOR
from parity.frameworks.onnx.names import Names
from parity.frameworks.onnx.options import options_of
from parity.frameworks.onnx.tensors import Tensors
from parity.frameworks.onnx.trace import RECURRENT_OPS
from parity.frameworks.onnx.weights import POSITIONS, Weight, is_float, layer_of
from parity.network import Network, Recurrent
from parity.network.opaque import Opaque

_STATES = {4: "sequence_lens", 5: "initial_h", 6: "initial_c"}
"""What a recurrent node takes beside its input and its weights, by position."""

_SHOWN = 8
_UNKNOWN = "operators that are not converted"
_REMEDY = "take it out of the graph, or keep this model in ONNX"


@dataclass
class _Layer:
    """A recurrent layer and the nodes that are it: one, or several that are copies."""

    layer: Recurrent
    nodes: list[Found]


class _Layers:
    """The layers in order; nodes that compute the same by the same numbers are one."""

    def __init__(self) -> None:
        self.found: list[_Layer] = []
        self._alike: dict[tuple[Any, ...], list[_Layer]] = {}
        self._known: dict[tuple[Any, ...], _Layer] = {}

    def add(self, layer: Recurrent, node: Found, names: Names) -> None:
        """Add a node that is this layer, under a name of its own. Weights are read where another layer is of the same options and sizes."""
        shapes = tuple(
            (key, one.held(key).shape, one.held(key).dtype) for one in layer.weights for key in _members(one)
        )
        key = (layer.spec, layer.cells, shapes)
        alike = self._alike.setdefault(key, [])
        if len(alike) == 1:
            self._known[(*key, _digest(alike[0].layer))] = alike[0]
        same = self._known.get((*key, _digest(layer))) if alike else None
        if same is not None:
            same.nodes.append(node)
            return
        one = _Layer(replace(layer, name=names.unique(layer.name)), [node])
        if alike:
            self._known[(*key, _digest(layer))] = one
        alike.append(one)
        self.found.append(one)


@dataclass
class _Rest:
    """What is listed beside the layers."""

    opaque: list[Opaque] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    claimed: set[str] = field(default_factory=set)


def partial_network(model: onnx.ModelProto, tensors: Tensors, size: int, problems: Sequence[Problem]) -> Network:
    """A partial network of a model that cannot be read as a whole.

    Args:
        model: the model; large tensors may stand in files.
        tensors: gives its tensors.
        size: bytes of all of them.
        problems: why it cannot be read as a whole.

    Returns:
        A network with every LSTM, GRU and RNN node of the model whose weights are constant, each a bare layer under its own name; nodes
        that are copies of one another (as in the two branches of an If) are one layer. `details` say where each stands and what it is
        given; `opaque` lists the nodes that have weights, one by one, and counts the others.

    Raises:
        FormatError: tensors whose contents do not fit their sizes, weights that do not fit each other, functions that call themselves.
    """
    finder = Finder(model, tensors, size)
    layers = _Layers()
    rest, names, own = _Rest(), Names([]), list(problems)
    found = finder.find()
    for node in found:
        if node.is_recurrent:
            for constant in node.constants.values():
                rest.claimed.update(constant.origins)
    for node in found:
        if not node.is_recurrent:
            _list(node, finder.tensors, rest, len(layers.found), names)
            continue
        try:
            layer = _layer(node, finder.sparse)
        except UnsupportedError as error:
            again = {(p.what, p.where) for p in error.problems}
            own = [p for p in own if (p.what, p.where) not in again] + list(error.problems)
            rest.opaque.append(
                _opaque(node, names.unique(node.name), finder.tensors, node.constants, len(layers.found))
            )
            continue
        layers.add(layer, node, names)
    if not any(node.is_recurrent for node in found):
        own.append(
            Problem(
                "no recurrent layer in the model", f"graph '{model.graph.name}'", "at least one LSTM, GRU or RNN node"
            )
        )
    _list_unused(finder.tensors, found, rest, len(layers.found))
    details = {**facts_of(model), "inputs": _inputs(model), "outputs": described(model.graph.output)}
    details |= {f"layer {one.layer.name}": _told(one.nodes) for one in layers.found}
    name = model.graph.name or "model"
    return Network(
        name,
        tuple(one.layer for one in layers.found),
        (),
        "onnxruntime",
        details,
        opaque=tuple(rest.opaque),
        problems=tuple(_grouped(own)),
    )


def _inputs(model: onnx.ModelProto) -> str:
    constants = {tensor.name for tensor in model.graph.initializer}
    return described(item for item in model.graph.input if item.name not in constants)


def _layer(found: Found, sparse: set[str]) -> Recurrent:
    """The layer of a node.

    Raises:
        UnsupportedError: weights that are not constant, or options that are not converted; all of them.
    """
    kind, problems = RECURRENT_OPS[found.node.op_type], []
    arrays: dict[str, Weight] = {}
    for key, position in POSITIONS.items():
        given = found.node.input[position] if position < len(found.node.input) else ""
        constant = found.constants.get(position)
        if constant is not None and is_float(constant):
            arrays[key] = Weight(constant)
        elif given:
            got = str(constant.dtype) if constant is not None else _unknown(given, sparse)
            expected = "an initializer or a Constant node, moved at most"
            what = f"{key} is not a constant of floating-point numbers"
            problems.append(Problem(what, found.where, expected, got, _REMEDY))
    try:
        options = options_of(kind, found.attributes, found.where)
    except UnsupportedError as error:
        problems += error.problems
    if problems:
        raise UnsupportedError(problems)
    return layer_of(found.name, kind, options, arrays, found.attributes, found.where)


def _unknown(name: str, sparse: set[str]) -> str:
    return f"'{name}', a sparse tensor" if name in sparse else f"'{name}', computed in the graph or an input of it"


def _members(weights: Any) -> list[str]:
    names = ("kernel", "recurrent", "bias_input", "bias_recurrent", "peepholes")
    return [name for name in names if weights.held(name) is not None]


def _digest(layer: Recurrent) -> bytes:
    digest = hashlib.blake2b()
    for weights in layer.weights:
        for name in _members(weights):
            array = np.ascontiguousarray(weights.member(name))
            digest.update(f"{name} {array.dtype} {array.shape} ".encode())
            digest.update(array.data if array.size else b"")
    return digest.digest()


def _told(nodes: Sequence[Found]) -> str:
    """Where a layer stands and what it is given there."""
    first = nodes[0]
    words = [f"{first.node.op_type} node"]
    if first.path:
        words.append("in " + ", ".join(first.path))
    if len(nodes) > 1:
        others = ", ".join(
            f"'{node.name}'" + (f" in {', '.join(node.path)}" if node.path else "") for node in nodes[1:_SHOWN]
        )
        words.append(f"{len(nodes)} copies of the same weights: also {others}")
    taken = []
    for position, name in _STATES.items():
        given = first.node.input[position] if position < len(first.node.input) else ""
        if given:
            constant = first.constants.get(position)
            taken.append(f"{name} " + ("zeros" if position in first.zeros else _source(given, constant)))
    if taken:
        words.append("in the graph it is given " + ", ".join(taken))
    if first.attributes.get("layout"):
        words.append("layout=1 (batch first)")
    return "; ".join(words)


def _source(name: str, constant: Any) -> str:
    if constant is None:
        return f"'{name}'"
    return (
        "zeros" if not np.any(constant.read()) else f"the constant '{name}', which the layer taken alone does not have"
    )


# ---- what is no recurrent layer


def _list(found: Found, tensors: Mapping[str, Stored], rest: _Rest, place: int, names: Names) -> None:
    """A node with tensors of its own by itself; any other is counted."""
    own = {
        at: constant
        for at, constant in found.constants.items()
        if not rest.claimed.issuperset(constant.origins) and _is_weight(constant, tensors)
    }
    if not own:
        rest.counts[_operator(found)] += 1
        return
    rest.opaque.append(_opaque(found, names.unique(found.name), tensors, own, place))
    rest.claimed.update(name for constant in own.values() for name in constant.origins)


def _is_weight(constant: Any, tensors: Mapping[str, Stored]) -> bool:
    """Numbers that were learnt, as far as one can tell: not the axes and sizes that say how tensors are moved."""
    floats = is_float(constant) or constant.dtype.kind == "V"
    return bool(constant.origins) and (len(constant.shape) >= 1 if floats else len(constant.shape) >= 2)


def _opaque(found: Found, name: str, tensors: Mapping[str, Stored], constants: Mapping[int, Any], place: int) -> Opaque:
    own = {origin: tensors[origin] for one in constants.values() for origin in one.origins if origin in tensors}
    facts: dict[str, object] = {
        key: shown for key, value in found.attributes.items() if (shown := _shown(value)) is not None
    }
    if found.path:
        facts["in"] = ", ".join(found.path)
    return Opaque(name, _operator(found), own, facts, place)


def _operator(found: Found) -> str:
    domain = found.node.domain
    return found.node.op_type if domain in ("", "ai.onnx") else f"{domain}.{found.node.op_type}"


def _shown(value: object) -> object:
    """An attribute for people; None for what is too much to read."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")[:80]
    if isinstance(value, (int, float)):
        return value
    if isinstance(value, Sequence) and len(value) <= _SHOWN and all(isinstance(one, (int, float)) for one in value):
        return list(value)
    return None


def _list_unused(tensors: Mapping[str, Stored], found: Sequence[Found], rest: _Rest, place: int) -> None:
    """The nodes without tensors in one line, and the tensors that nothing takes in another."""
    used = {name for node in found for constant in node.constants.values() for name in constant.origins}
    unused = {name: one for name, one in tensors.items() if name not in used and len(one.shape) >= 1 and _counts(one)}
    if rest.counts:
        rest.opaque.append(Opaque("other nodes", "", {}, dict(rest.counts.most_common()), place))
    if unused:
        rest.opaque.append(Opaque("tensors that no node takes", "", unused, {}, place))


def _counts(stored: Stored) -> bool:
    return np.dtype(stored.dtype).kind in "fV"


def _grouped(problems: Sequence[Problem]) -> list[Problem]:
    """Problems of many nodes that differ in the place alone, as one each."""
    groups: dict[Problem, list[str]] = {}
    unknown: dict[str, None] = {}
    before, after = UNKNOWN_OPERATOR.split("{}")
    for problem in problems:
        one = replace(problem, where="")
        if problem.what.startswith(before) and problem.what.endswith(after):
            unknown[problem.what.removeprefix(before).removesuffix(after)] = None
            one = replace(one, what=_UNKNOWN)
        groups.setdefault(one, []).append(problem.where)
    operators = {_UNKNOWN: ", ".join(unknown)}
    return [
        replace(problem, where=_places(places), got=operators.get(problem.what, problem.got))
        for problem, places in groups.items()
    ]


def _places(places: Sequence[str]) -> str:
    unique = list(dict.fromkeys(places))
    if len(unique) == 1:
        return unique[0]
    start, _, first = unique[0].partition(", ")
    shared = all(place.startswith(f"{start}, ") for place in unique)
    shown = [first, *(place.removeprefix(f"{start}, ") for place in unique[1:3])] if shared else unique[:3]
    more = f" and {len(unique) - len(shown)} more" if len(unique) > len(shown) else ""
    return (f"{start}, " if shared else "") + "; ".join(shown) + more
