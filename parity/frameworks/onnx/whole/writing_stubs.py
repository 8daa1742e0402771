"""Layers that parity does not know, each as one node of a domain of their own: ONNX Runtime refuses the model until they are filled in."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice, product
from typing import TypeAlias

import onnx
from onnx import helper

from parity.errors import Problem, ShapeError
from parity.frameworks.onnx.cleaning import clean, clean_names
from parity.frameworks.onnx.nodes import BOOL, INT64
from parity.frameworks.onnx.whole.writing_values import Call, Held, Kind, Tensors
from parity.graph import Graph, GraphInput, Node, Wire
from parity.graph import operations as ops
from parity.graph.code import identifiers
from parity.graph.lengths import Axis, shown
from parity.graph.names import unused_name
from parity.graph.operations import Stub
from parity.network import Bidirectional, Recurrent

DOMAIN = "parity.stub"
"""Of the operators that are to be filled in; its version is 1."""

_MOST_TRIALS = 64

Shapes: TypeAlias = dict[Wire, tuple[Axis, ...]]
Given: TypeAlias = dict[Wire, tuple[int | None, ...]]


# ---- shapes behind stubs


def axes_around(graph: Graph, axes: Callable[[Graph], Shapes]) -> Shapes:
    """The shapes of all values, those behind stubs, too, as far as anything says what a stub gives.

    A stub's values are taken as inputs of the graph. A length that stays open is one of its own, if the layers behind it take it so; else
    it is that which the graph's inputs have at this place.

    Args:
        graph: perhaps with stubs.
        axes: gives the shapes of a graph without any.

    Raises:
        ShapeError: what `axes` raises.
    """
    if not graph.stubs:
        return axes(graph)
    given = _given(graph)
    problem: ShapeError | None = None
    for choice in islice(product((False, True), repeat=len({wire.node for wire in given})), _MOST_TRIALS):
        opened, names = _opened(graph, given, choice)
        try:
            found = axes(opened)
        except ShapeError as error:
            problem = problem or error
            continue
        return {names.get(wire, wire): shape for wire, shape in found.items()}
    raise problem or ShapeError("the shapes inside the model are not known", graph.name)


def _given(graph: Graph) -> Given:
    """What is known of the values that stubs give: what the source states, else what the layers that take them take."""
    takers, found = graph.takers(), Given()
    for node in graph.nodes:
        if not isinstance(node.operation, Stub):
            continue
        for index in range(node.operation.outputs):
            wire, stated = Wire(node.name, index), node.operation.stated_of(index)
            taken = [_taken(one, wire) for one in takers.get(wire, ())]
            shape = stated.shape if stated is not None else next(filter(None, taken), None)
            if shape is not None:
                found[wire] = shape
    return found


def _taken(node: Node, wire: Wire) -> tuple[int | None, ...] | None:
    """The shape that a layer takes, where it takes but one kind of shape."""
    if not node.inputs or node.inputs[0] != wire:
        return None
    layer = node.operation
    if isinstance(layer, (Recurrent, Bidirectional)):
        return (None, None, layer.input_size)
    if isinstance(layer, (ops.Convolution, ops.Pooling)):
        return (None,) * (len(layer.sizes) + 2)
    return None


def _opened(graph: Graph, given: Given, choice: Sequence[bool]) -> tuple[Graph, dict[Wire, Wire]]:
    """The graph with inputs in the place of its stubs' values, without what is behind values of which nothing is known.

    Args:
        graph: with stubs.
        given: the shapes of their values.
        choice: for every stub whether its open lengths are those of the inputs.

    Returns:
        The graph, and the values for which its new inputs stand.
    """
    taken = {*(one.name for one in graph.inputs), *(node.name for node in graph.nodes)}
    chosen = dict(zip(dict.fromkeys(wire.node for wire in given), choice, strict=True))
    places: dict[Wire, Wire] = {}
    inputs = list(graph.inputs)
    for wire, shape in given.items():
        name = unused_name(f"{wire.node}.{wire.index}", taken)
        taken.add(name)
        stub = graph.node(wire.node).operation
        assert isinstance(stub, Stub)
        words = [_word(graph, name, place, chosen[wire.node]) if n is None else n for place, n in enumerate(shape)]
        inputs.append(GraphInput(name, tuple(words), _dtype(stub, wire.index)))
        places[wire] = Wire(name)
    lost: set[str] = {node.name for node in graph.nodes if isinstance(node.operation, Stub)}
    nodes = []
    for node in graph.nodes:
        wires = [wire if wire is None else places.get(wire, wire) for wire in node.inputs]
        if node.name in lost or any(wire is not None and wire.node in lost for wire in wires):
            lost.add(node.name)
        else:
            nodes.append(replace(node, inputs=tuple(wires)))
    return replace(graph, inputs=tuple(inputs), nodes=tuple(nodes), outputs={}), {
        stand_in: wire for wire, stand_in in places.items()
    }


def _word(graph: Graph, name: str, place: int, same: bool) -> str:
    """A length that stays open: the first axis is that of the samples, others are called as chosen."""
    words = [one.shape[place] for one in graph.inputs if len(one.shape) > place]
    found = next((word for word in words if isinstance(word, str)), None)
    return found if found is not None and (same or place == 0) else f"{name}.{place}"


def _dtype(stub: Stub, index: int) -> str:
    stated = stub.stated_of(index)
    return "float32" if stated is None else stated.dtype


# ---- the nodes


def operator_names(graph: Graph) -> dict[str, str]:
    """The type of every stub's operator, by the stub's name: its class, with a number for further layers of one class.

    Each layer has one of its own, so that functions of the model can fill them in one by one; calls of a shared layer have the same.

    Example:
        >>> from parity.graph import Builder
        >>> build = Builder("model")
        >>> x = build.call(Stub("first", "lib>Mine"), build.input("x", ("batch", 3)))
        >>> y = build.call(Stub("third", "Other"), build.call(Stub("second", "lib>Mine"), x))
        >>> operator_names(build.graph({"y": y}))
        {'first': 'Mine', 'second': 'Mine_2', 'third': 'Other'}
    """
    found: dict[str, str] = {}
    for node in graph.nodes:
        stub = node.operation
        if isinstance(stub, Stub) and stub.name not in found:
            base = stub.class_name.rpartition(">")[2].rpartition(".")[2]
            found[stub.name] = identifiers([base], found.values())[base]
    return found


def _text(stub: Stub) -> str:
    return json.dumps(dict(stub.options), default=repr, skipkeys=True)


def write_stub(call: Call, operator: str, axes: Sequence[tuple[Axis, ...] | None]) -> None:
    """Adds the node of a stub, which says in its doc_string what is to be filled in.

    Args:
        call: of the stub.
        operator: the type of its operator.
        axes: the shapes of what it gives, "?" for a length without a word; None for a shape that is not known.
    """
    stub = call.operation
    assert isinstance(stub, Stub)
    names = clean_names(stub.arrays.held)
    weights = call.weights({names[key]: array for key, array in stub.arrays.present.items()})
    taken = [held.in_order() for held in call.present]
    given = call.assembly.nodes_of(
        operator,
        [*taken, *weights.values()],
        [call.name if index == 0 else f"{call.name}.{index}" for index in range(stub.outputs)],
        call.name,
        domain=DOMAIN,
        doc_string=clean(_todo(call, stub, operator, [*taken, *weights.values()], axes)),
        layer_class=clean(stub.class_name),
        layer_name=clean(stub.name),
        config=_text(stub),
    )
    for index, (name, shape) in enumerate(zip(given, axes, strict=True)):
        order = tuple(range(_guessed_rank(call) if shape is None else len(shape)))
        kind = _KINDS[_dtype(stub, index)]
        call.hand_on(Held(Tensors(kind, {order: name}), order, name, call.assembly), index)


def _todo(
    call: Call, stub: Stub, operator: str, tensors: Sequence[str], axes: Sequence[tuple[Axis, ...] | None]
) -> str:
    """What is to be filled in, in words."""
    kinds = [f"{held.kind}, {len(held.order)} axes" for held in call.present]
    if stub.masked and len(kinds) > 1:
        kinds[-1] += ", the mask: True where a step is valid"
    kinds += [f"weight {shown(tuple(array.shape))}" for array in stub.arrays.held.values()]
    takes = ", ".join(f"'{tensor}' ({kind})" for tensor, kind in zip(tensors, kinds, strict=True))
    gives = ", ".join(_shape_in_words(call, stub, index, shape) for index, shape in enumerate(axes))
    return (
        f"{call.where} ({stub.class_name}) is to be filled in: operator {DOMAIN}.{operator} takes {takes or 'nothing'}; gives {gives}. "
        f"Add a function of domain '{DOMAIN}' and name '{operator}' to the model (onnx.helper.make_function, model.functions.append), "
        "or register a custom operator with ONNX Runtime, or replace the node; until then ONNX Runtime refuses the model"
    )


def _guessed_rank(call: Call) -> int:
    """How many axes an output of the model is declared with, as ONNX wants it, when nobody says it: those of what the layer takes."""
    return len(call.present[0].order) if call.present else 0


def _shape_in_words(call: Call, stub: Stub, index: int, shape: tuple[Axis, ...] | None) -> str:
    if shape is not None:
        return f"{_dtype(stub, index)} {shown(shape)}"
    return (
        f"{_dtype(stub, index)} of a shape that the source does not state (as an output of the model it is declared with "
        f"{_guessed_rank(call)} axes, as many as the layer takes: mend that if yours gives others)"
    )


_KINDS: dict[str, Kind] = {"float32": "float", "int64": "int", "bool": "bool"}


def value_infos(graph: Graph, held: Mapping[Wire, Held], axes: Shapes, real: int) -> Iterator[onnx.ValueInfoProto]:
    """The types of what stubs give, those whose shapes are known; a length that differs from call to call has the graph's word or none."""
    for node in graph.nodes:
        for index in range(node.operation.outputs if isinstance(node.operation, Stub) else 0):
            wire = Wire(node.name, index)
            if wire in axes:
                code = {"float": real, "int": INT64, "bool": BOOL}[held[wire].kind]
                lengths = [n if isinstance(n, int) or n in graph.words else None for n in axes[wire]]
                yield helper.make_tensor_value_info(held[wire].in_order(), code, lengths)


def behind_unknown(node: Node, wire: Wire) -> Problem:
    """A layer that cannot be written because nobody knows the shape of what it takes."""
    return Problem(
        "the shape of what this layer takes is not known: it is behind a layer that is a stub",
        f"layer '{node.operation.name}'",
        f"a source that states the shape of '{wire}', as a functional model saved by Keras 3 does",
        "none stated",
        "save the model so; or --to torch writes code that needs no shapes there",
    )


def unfilled(model: onnx.ModelProto) -> tuple[str, ...]:
    """What is left to do in a model with stubs: what the nodes say whose operators no function of the model defines.

    Example:
        >>> node = helper.make_node("Mine", ["x"], ["y"], domain=DOMAIN, doc_string="fill it in")
        >>> model = helper.make_model(helper.make_graph([node], "g", [], []))
        >>> unfilled(model)
        ('fill it in',)
    """
    known = {function.name for function in model.functions if function.domain == DOMAIN}
    return tuple(one.doc_string for one in model.graph.node if one.domain == DOMAIN and one.op_type not in known)


__all__ = [
    "DOMAIN",
    "axes_around",
    "behind_unknown",
    "operator_names",
    "unfilled",
    "value_infos",
    "write_stub",
]
