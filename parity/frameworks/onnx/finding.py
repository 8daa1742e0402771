"""Looks through an ONNX model for its recurrent nodes, wherever they stand: in the main graph, in the bodies of If, Loop and Scan, in
functions of the model's own.

Source: onnx, docs/IR.md: a graph inside a node sees the names of the graphs around it, a function only its own; a function's nodes refer to
its attributes by ref_attr_name; no function may reach itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, helper

from parity.deferred import Stored
from parity.errors import FormatError
from parity.frameworks.onnx.constants import Constant, Mover, constant_of, constants_of
from parity.frameworks.onnx.names import Names
from parity.frameworks.onnx.tensors import Tensors
from parity.frameworks.onnx.trace import RECURRENT_OPS

_OWN = ("", "ai.onnx")
_GRAPHS = (AttributeProto.GRAPH, AttributeProto.GRAPHS)
_HANDS_ZEROS_ON = ("Cast", "Expand", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze")
_FREE_NODES, _REPEATS = 50_000, 4
"""How many nodes are walked through, functions called anew each time: so many, and so many times those in the file."""


@dataclass(frozen=True)
class Found:
    """A node that was found.

    Args:
        node: itself.
        attributes: its own, those of functions filled in.
        constants: what it takes that is constant, by position.
        zeros: what it takes that is zero whatever its shape turns out to be, by position.
        path: the nodes and bodies around it, for people.
        graph: name of the graph or function that it stands in.
        call: names of the calls that lead to it.
        index: how many nodes of its kind stand before it in its graph.
    """

    node: onnx.NodeProto
    attributes: Mapping[str, Any]
    constants: Mapping[int, Constant]
    zeros: frozenset[int]
    path: tuple[str, ...]
    graph: str
    call: tuple[str, ...]
    index: int

    @property
    def is_recurrent(self) -> bool:
        """Whether it is an LSTM, GRU or RNN of ONNX's own."""
        return is_recurrent(self.node)

    @property
    def where(self) -> str:
        """The node, in messages."""
        name = self.node.name or next(filter(None, self.node.output), "")
        inner = "".join(f", {step}" for step in self.path)
        return f"graph '{self.graph}'{inner}, node '{name}' ({self.node.op_type})"

    @property
    def name(self) -> str:
        """What people would call it: its own name, behind those of the functions that call it; else its place."""
        own = self.node.name
        if not own:
            kind = RECURRENT_OPS.get(self.node.op_type, self.node.op_type) if self.is_recurrent else self.node.op_type
            return "/".join([*self.path, f"{kind}_{self.index}" if self.index else kind])
        return "/".join([*self.call, own])


@dataclass
class Scope:
    """The names that a graph sees: constants, and None for everything else."""

    outer: Scope | None = None
    own: dict[str, Constant | None] = field(default_factory=dict)
    zeros: set[str] = field(default_factory=set)

    def is_zero(self, name: str) -> bool:
        """Whether a tensor is zeros of a shape that the graph computes."""
        scope: Scope | None = self
        while scope is not None and name not in scope.own:
            scope = scope.outer
        return scope is not None and name in scope.zeros

    def get(self, name: str) -> Constant | None:
        """The constant of that name, None where there is none."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.own:
                return scope.own[name]
            scope = scope.outer
        return None


@dataclass(frozen=True)
class _Place:
    """Where in the model the walk is."""

    graph: str
    path: tuple[str, ...] = ()
    call: tuple[str, ...] = ()
    functions: tuple[tuple[str, str, str], ...] = ()
    given: Mapping[str, AttributeProto] = field(default_factory=dict)


def is_recurrent(node: onnx.NodeProto) -> bool:
    """Whether a node is an LSTM, GRU or RNN of ONNX's own."""
    return node.op_type in RECURRENT_OPS and node.domain in _OWN


class Finder:
    """The nodes of a model that say anything of their own: not those that only move constants.

    Args:
        model: to be looked through.
        tensors: gives its tensors.
        size: bytes of all its tensors.
    """

    def __init__(self, model: onnx.ModelProto, tensors: Tensors, size: int) -> None:
        self._model, self._tensors, self._mover = model, tensors, Mover(size)
        self._functions = {(f.domain, f.name, _overload(f)): f for f in model.functions}
        self._left = _FREE_NODES + _REPEATS * sum(1 for _ in nodes_in(model))
        self._names = Names([])
        self.tensors: dict[str, Stored] = {}
        """Every tensor of the model that a graph sees, by name; one of the same name as another has a number."""
        self.found: list[Found] = []
        """The nodes, in order."""
        self.sparse: set[str] = set()
        """Names of sparse tensors, which are not read."""

    def find(self) -> list[Found]:
        """All of them.

        Raises:
            FormatError: contents of tensors that do not fit their sizes; functions that call themselves, or call each other more often
                than a real model would.
        """
        graph = self._model.graph
        self._graph(graph, Scope(), _Place(graph.name))
        return self.found

    def _graph(self, graph: onnx.GraphProto, outer: Scope, place: _Place) -> None:
        scope = Scope(outer, {item.name: None for item in graph.input})
        self.sparse |= {item.values.name for item in graph.sparse_initializer}
        for name, constant in constants_of(graph, self._tensors).items():
            scope.own[name] = self._noted(constant, name)
        self._nodes(graph.node, scope, place)

    def _nodes(self, nodes: Any, scope: Scope, place: _Place) -> None:
        counts: Counter[str] = Counter()
        for node in nodes:
            self._left -= 1
            if self._left < 0:
                raise FormatError(
                    "the functions of this model call each other more often than a real model would",
                    f"graph '{self._model.graph.name}' of {self._tensors.where}",
                    "functions that are called a few times each",
                    f"more than {_FREE_NODES} nodes when every call is followed",
                    "export it without local functions",
                )
            index = counts[node.op_type]
            counts[node.op_type] += 1
            attributes = _attributes(node, place.given)
            self._node(node, attributes, scope, place, index)

    def _node(self, node: Any, attributes: dict[str, Any], scope: Scope, place: _Place, index: int) -> None:
        inputs = [scope.get(name) if name else None for name in node.input]
        function = self._functions.get((node.domain, node.op_type, _overload(node)))
        results: list[Constant] | None = None
        if node.op_type == "Constant" and node.domain in _OWN:
            made = constant_of(node, attributes, self._tensors, next(iter(node.output), ""))
            self.sparse |= set(node.output) if "sparse_value" in attributes else set()
            results = None if made is None else [self._noted(made, node.output[0])] if node.output else []
        elif function is None:
            results = self._mover.outputs(node, attributes, inputs)
        for position, name in enumerate(node.output):
            scope.own[name] = results[position] if results and position < len(results) else None
        if _gives_zeros(node, attributes, scope, self._tensors):
            scope.zeros.update(node.output)
        if function is not None:
            self._call(function, node, attributes, inputs, place, index)
        elif results is None:
            constants = {at: one for at, one in enumerate(inputs) if one is not None}
            zeros = frozenset(at for at, name in enumerate(node.input) if scope.is_zero(name))
            self.found.append(Found(node, attributes, constants, zeros, place.path, place.graph, place.call, index))
        label = f"{node.op_type} '{node.name}'" if node.name else f"{node.op_type}_{index}"
        for attribute in sorted(node.attribute, key=lambda one: one.name == "else_branch"):
            for at, graph in enumerate(_graphs(attribute)):
                body = attribute.name.removesuffix("_branch") + (f"_{at}" if at else "")
                inner = _Place(place.graph, (*place.path, label, body), place.call, place.functions, place.given)
                self._graph(graph, scope, inner)

    def _call(
        self,
        function: onnx.FunctionProto,
        node: Any,
        attributes: Mapping[str, Any],
        inputs: list[Constant | None],
        place: _Place,
        index: int,
    ) -> None:
        key = (function.domain, function.name, _overload(function))
        if key in place.functions:
            raise FormatError(
                "a function that calls itself",
                f"function '{function.name}' of {self._tensors.where}",
                "functions that do not reach themselves",
                " -> ".join(name for _, name, _ in (*place.functions, key)),
                "get the file anew",
            )
        given = {a.name: a for a in function.attribute_proto} | {
            a.name: _resolved(a, place.given) for a in node.attribute if _resolved(a, place.given) is not None
        }
        label = node.name or (f"{function.name}_{index}" if index else function.name)
        scope = Scope(None, dict(zip(function.input, inputs, strict=False)))
        inner = _Place(
            function.name, (*place.path, f"call '{label}'"), (*place.call, label), (*place.functions, key), given
        )
        self._nodes(function.node, scope, inner)

    def _noted(self, constant: Constant, name: str) -> Constant:
        """The constant, its tensor listed under a name of its own."""
        unique = self._names.unique(name)
        if constant.stored is not None:
            self.tensors[unique] = constant.stored
        return Constant(
            constant.shape, constant.dtype, constant.read, (unique,), constant.stored, constant.work, constant.depth
        )


def _gives_zeros(node: Any, attributes: Mapping[str, Any], scope: Scope, tensors: Tensors) -> bool:
    """Whether a node makes zeros of a shape that is computed, or hands such on."""
    if node.op_type == "ConstantOfShape" and node.domain in _OWN:
        value = attributes.get("value")
        return value is None or not np.any(tensors.array(value).astype(np.float64))
    if node.op_type not in _HANDS_ZEROS_ON or node.domain not in _OWN or not node.input:
        return False
    constant = scope.get(node.input[0])
    known_zero = constant is not None and constant.size <= 1 and not np.any(constant.read())
    return known_zero or scope.is_zero(node.input[0])


def nodes_in(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Every node of a model once: of its graph, of graphs in graphs and of its functions."""
    yield from _nodes_of(model.graph.node)
    for function in model.functions:
        yield from _nodes_of(function.node)


def _nodes_of(nodes: Any) -> Iterator[onnx.NodeProto]:
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in _graphs(attribute):
                yield from _nodes_of(graph.node)


def _graphs(attribute: AttributeProto) -> list[onnx.GraphProto]:
    if attribute.type not in _GRAPHS:
        return []
    return [attribute.g] if attribute.type == AttributeProto.GRAPH else list(attribute.graphs)


def _overload(item: Any) -> str:
    """Functions of one name are told apart by it from version 10 of the format on."""
    return str(getattr(item, "overload", ""))


def _resolved(attribute: AttributeProto, given: Mapping[str, AttributeProto]) -> AttributeProto | None:
    """The attribute itself, or what the function was called with for it; None where it was not given."""
    return given.get(attribute.ref_attr_name) if attribute.ref_attr_name else attribute


def _attributes(node: onnx.NodeProto, given: Mapping[str, AttributeProto]) -> dict[str, Any]:
    """A node's attributes by name, without its graphs.

    Raises:
        FormatError: an attribute without a value.
    """
    found = {}
    for attribute in node.attribute:
        value = _resolved(attribute, given)
        if value is None or value.type in _GRAPHS:
            continue
        try:
            found[attribute.name] = helper.get_attribute_value(value)
        except ValueError as error:
            raise FormatError(
                "an attribute without a value", f"node '{node.name}' ({node.op_type}), {attribute.name}", got=str(error)
            ) from error
    return found
