"""What the parts of the writer of torch code share: values as expressions, modules declared so far, helpers used."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from parity.deferred import Blocks, blocks_of
from parity.errors import Problem
from parity.graph.code import identifiers
from parity.graph.graph import Graph, Node, Wire
from parity.graph.lengths import Axis, axes_of, lengths_of, shown
from parity.graph.operations import Constant
from parity.graph.simplify.facts import kinds_of
from parity.graph.torch_code.body import Body, variables
from parity.graph.torch_code.checks import checks_of
from parity.graph.torch_code.expressions import Expr, number
from parity.graph.torch_code.names import MODULE_NAMES, PYTHON_NAMES, short
from parity.graph.torch_code.weights import as_type, float_type

_MOST_WEIGHT, _MOST_WIDTH = 3, 64
"""How much is written in one line: a layer and a function, or three functions."""


@dataclass(frozen=True)
class Declared:
    """A line of `__init__`.

    Args:
        name: of the attribute.
        value: what it is, an expression.
        buffer: whether it is a tensor that is no parameter.
    """

    name: str
    value: str
    buffer: bool = False


@dataclass(eq=False)
class Rows:
    """A value that is one row of an array, along the first axis: a state of a layer, or what was selected from states.

    Args:
        array: the whole.
        index: which row.
        count: how many rows the array has.
    """

    array: Expr
    index: int
    count: int


@dataclass(eq=False)
class Writer:
    """The state of writing one module.

    Args:
        graph: what is written.
        inputs: names of the arguments of `forward`, by those of the graph's inputs.
    """

    graph: Graph
    inputs: dict[str, str]
    values: dict[Wire, Expr] = field(default_factory=dict)
    rows: dict[Wire, Rows] = field(default_factory=dict)
    declared: list[Declared] = field(default_factory=list)
    weights: dict[str, Blocks] = field(default_factory=dict)
    snippets: dict[str, None] = field(default_factory=dict)
    classes: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.float_type = float_type(self.graph)
        self.checks = checks_of(self.graph, self.inputs)
        self.axes, self.lengths = axes_of(self.graph), lengths_of(self.graph)
        self.kinds = kinds_of(self.graph)
        self.nodes = {node.name: node for node in self.graph.nodes}
        self.uses = Counter(wire for node in self.graph.nodes for wire in node.inputs if wire is not None)
        self.uses.update(self.graph.outputs.values())
        self.attributes = _attributes(self.graph)
        self._taken = {*self.attributes.values(), *MODULE_NAMES}
        self._modules: dict[tuple[int, str], str] = {}
        self._shapes: dict[str, tuple[Axis, ...]] = {}
        self.class_keys: dict[Any, str] = {}
        self.body = Body(self.inputs.values(), PYTHON_NAMES)
        for name, own in self.inputs.items():
            self.values[Wire(name)] = self.body.inputs[own]
            self.name(Wire(name))

    # ---- values

    def take(self, *wires: Wire, own: int = 1) -> list[Expr]:
        """Expressions for the operands of something that weighs `own`; what would be too much for one line gets a name before."""
        while True:
            found = [self._value(wire) for wire in wires]
            weight = own + sum(one.weight for one in found)
            width = sum(self.body.width(one.text) for one in found)
            heavy = [(one.weight, place) for place, one in enumerate(found) if not one.is_name]
            if not heavy or (weight <= _MOST_WEIGHT and width <= _MOST_WIDTH):
                return found
            self.name(wires[max(heavy)[1]])

    def name(self, wire: Wire) -> Expr:
        """A value as a variable (or a number), so that it can be written twice."""
        found = self._value(wire)
        if not found.is_name:
            found = self.values[wire] = self.body.assign(found, self._wanted(wire), self.change(wire, found))
        if (shape := self.shape(wire)) is not None:
            self._shapes[found.text] = shape
        return found

    def define(self, wire: Wire, value: Expr) -> None:
        """What a wire is; a value that several take gets a variable."""
        self.values[wire] = value
        if self.uses[wire] > 1 or value.is_name:
            self.name(wire)

    def _value(self, wire: Wire) -> Expr:
        if wire not in self.values:
            node = self.nodes[wire.node]
            assert isinstance(node.operation, Constant)
            self.values[wire] = self._constant(node.operation)
        return self.values[wire]

    def number(self, wire: Wire) -> Expr | None:
        """A constant as a number in the code; None if the value is none."""
        found = self.scalar(wire)
        return None if found is None else number(found, self.float_type == np.float32)

    def scalar(self, wire: Wire) -> float | bool | None:
        """The number of a constant that is one and no parameter."""
        node = self.nodes.get(wire.node)
        operation = None if node is None else node.operation
        if not isinstance(operation, Constant) or operation.trained or operation.held("value").shape != ():
            return None
        found: float | bool = operation.value.item()
        return found

    def _constant(self, operation: Constant) -> Expr:
        blocks = as_type(blocks_of(operation.held("value")), self.float_type)
        name = self.attributes[operation.name]
        shape = ", ".join(map(str, blocks.shape)) if blocks.shape else "()"
        dtype = {"b": ", dtype=torch.bool", "i": ", dtype=torch.int64"}.get(blocks.dtype.kind, "")
        empty = f"torch.empty({shape}{dtype})"
        if operation.trained and not dtype:
            self.declared.append(Declared(name, f"nn.Parameter({empty})"))
        else:
            self.declared.append(Declared(name, empty, buffer=True))
        self.weights[name] = blocks
        return Expr(f"self.{name}")

    def _wanted(self, wire: Wire) -> list[str]:
        return self.wanted(self.nodes[wire.node], wire.index)

    def wanted(self, node: Node, index: int = 0) -> list[str]:
        """Names that would suit a value of a node."""
        found = short(node.source or node.name, index)
        return ["mask", *found] if self.kinds.get(Wire(node.name)) == "bool" else found

    # ---- shapes

    def shape(self, wire: Wire) -> tuple[Axis, ...] | None:
        """Lengths of the axes of a value, in words where they differ from call to call; None if nobody knows."""
        return self.axes.get(wire)

    def rank(self, wire: Wire) -> int | None:
        """How many axes a value has."""
        shape = self.shape(wire)
        return None if shape is None else len(shape)

    def change(self, wire: Wire, value: Expr) -> str:
        """The shape of a value where it is another than that of everything it is made of."""
        shape = self.shape(wire)
        before = {self._shapes[text] for text in variables(value.text) if text in self._shapes}
        return "" if shape is None or shape in before else shown(shape)

    def comment(self, wire: Wire) -> str:
        """The shape of a value, for people."""
        shape = self.shape(wire)
        return "" if shape is None else shown(shape)

    # ---- modules

    def module(self, operation: Any, value: str, weights: dict[str, Blocks], part: str = "", name: str = "") -> str:
        """An attribute that is a module; the same for the same operation.

        Args:
            operation: whose it is.
            value: the expression that makes it.
            weights: by the module's own names.
            part: what sets it apart from other modules of the operation.
            name: of the attribute, if not the operation's.

        Returns:
            The attribute, such as "self.dense".
        """
        key = (id(operation), part)
        if key not in self._modules:
            name = self.attribute(name or operation.name, part)
            self.declared.append(Declared(name, value))
            self.weights.update({f"{name}.{own}": as_type(blocks, self.float_type) for own, blocks in weights.items()})
            self._modules[key] = f"self.{name}"
        return self._modules[key]

    def attribute(self, name: str, part: str = "") -> str:
        """A name for an attribute: the operation's, or one of its own for a part of it."""
        if not part and name in self.attributes:
            return self.attributes[name]
        found = next(iter(identifiers([f"{name}_{part}" if part else name], self._taken).values()))
        self._taken.add(found)
        return found

    def helper(self, name: str) -> str:
        """A function of a snippet, which the module will contain."""
        self.snippets[name] = None
        return name

    def refuse(self, what: str, node: Node, expected: str = "", got: str = "", remedy: str = "") -> None:
        """Something that is not said in torch; writing goes on."""
        self.problems.append(Problem(what, f"layer '{node.name}' of '{self.graph.name}'", expected, got, remedy))


_LINEAR = "_linear"
"""Ends the name of a layer whose activation, a node of its own, has the name of the layer."""


def _attributes(graph: Graph) -> dict[str, str]:
    """Attributes by the names of the operations; a layer with an activation has the name that the source gives both."""
    plain = [one.name for one in graph.operations if not one.arrays.held]
    layers = {one.name: one.name for one in graph.operations if one.arrays.held}
    for name in layers:
        base = name.removesuffix(_LINEAR)
        if base != name and base in plain:
            layers[name] = base
    found = identifiers(dict.fromkeys(layers.values()), MODULE_NAMES)
    others = identifiers([name for name in plain if name not in found], {*MODULE_NAMES, *found.values()})
    return others | {name: found[own] for name, own in layers.items()}


__all__ = ["Declared", "Rows", "Writer"]
