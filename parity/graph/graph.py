"""A whole model: inputs, nodes that call operations, outputs. Free of any framework."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from parity.deferred import Array, not_finite
from parity.errors import ParityError, Problem, ShapeError
from parity.graph.calls import Layered, computed, shapes_of
from parity.graph.limits import beyond
from parity.graph.operations.constant import Constant
from parity.graph.operations.operation import Shape
from parity.graph.operations.stub import Stub
from parity.reference import Exact, Rounding


@dataclass(frozen=True, order=True)
class Wire:
    """A value of a graph: what a node gives, or an input of the model.

    Args:
        node: the name of the node or of the input.
        index: which of the node's values.
    """

    node: str
    index: int = 0

    def __str__(self) -> str:
        return self.node if self.index == 0 else f"{self.node}[{self.index}]"


@dataclass(frozen=True)
class GraphInput:
    """One input of a model.

    Args:
        name: as the source names it.
        shape: lengths of its axes; a word for one that differs from call to call ("batch", "time", ...). Axes of one word have one length.
        dtype: "float32", "int64" or "bool".
        below: for integers: they must be below this (the size of a vocabulary); None for no limit that is known.
    """

    name: str
    shape: tuple[int | str, ...]
    dtype: str = "float32"
    below: int | None = None


@dataclass(frozen=True)
class Node:
    """One call of an operation.

    Args:
        name: of the call, unique in the graph: that of its operation at the first call.
        operation: what is called; several nodes with one operation share its weights.
        inputs: what it takes, in the order in which the operation says it; None for one that is left out.
        source: the layer or module of the source whose value it gives (the last of several nodes that say it), for per-layer comparisons;
            "" for a value in between.
    """

    name: str
    operation: Layered
    inputs: tuple[Wire | None, ...]
    source: str = ""


@dataclass(frozen=True, eq=False, repr=False)
class Graph:
    """A model as values between operations.

    Args:
        name: of the model.
        inputs: in the model's order.
        nodes: each after those it takes from.
        outputs: the model's outputs by name, in the model's order.
        origin: the framework it was read from.
        details: what else the source says of itself, as `Network.details`.
        problems: layers that are stubs, in words; a graph that has such can be written, not run.

    Example:
        >>> from parity.graph.operations import Elementwise
        >>> x = GraphInput("x", ("batch", 3))
        >>> node = Node("twice", Elementwise("twice", "add"), (Wire("x"), Wire("x")))
        >>> graph = Graph("model", (x,), (node,), {"y": Wire("twice")})
        >>> graph.run({"x": np.ones((2, 3))})["y"].tolist()
        [[2.0, 2.0, 2.0], [2.0, 2.0, 2.0]]
    """

    name: str
    inputs: tuple[GraphInput, ...]
    nodes: tuple[Node, ...]
    outputs: dict[str, Wire]
    origin: str = ""
    details: dict[str, str] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()

    def __post_init__(self) -> None:
        known = {given.name for given in self.inputs}
        for node in self.nodes:
            missing = [wire for wire in node.inputs if wire is not None and wire.node not in known]
            if missing or node.name in known:
                got = f"'{missing[0]}'" if missing else f"a second '{node.name}'"
                raise ValueError(f"node '{node.name}' of '{self.name}' is out of order: {got}")
            known.add(node.name)
        for name, wire in self.outputs.items():
            if wire.node not in known:
                raise ValueError(f"output '{name}' of '{self.name}' takes '{wire}', which is not there")
        problems = [
            problem
            for operation in self.operations
            if not (isinstance(operation, Constant) and not operation.trained)  # an attention masks with -inf
            for name, array in operation.arrays.present.items()
            if (problem := not_finite(array, f"layer '{operation.name}', {name}, index"))
        ]
        if problems:
            raise ParityError(problems)

    def __repr__(self) -> str:
        operations = ", ".join(f"{node.name}: {type(node.operation).__name__}" for node in self.nodes)
        return f"Graph('{self.name}', {operations})"

    @property
    def operations(self) -> tuple[Layered, ...]:
        """Every operation once, in the order of its first call."""
        return tuple({id(node.operation): node.operation for node in self.nodes}.values())

    @property
    def stubs(self) -> tuple[Stub, ...]:
        """The layers that parity does not know."""
        return tuple(operation for operation in self.operations if isinstance(operation, Stub))

    @property
    def words(self) -> tuple[str, ...]:
        """The lengths that differ from call to call: "batch", "time", ..."""
        found = [length for given in self.inputs for length in given.shape if isinstance(length, str)]
        return tuple(dict.fromkeys(found))

    def node(self, name: str) -> Node:
        """A node by name.

        Raises:
            KeyError: none has it.
        """
        return {node.name: node for node in self.nodes}[name]

    def takers(self) -> dict[Wire, list[Node]]:
        """The nodes that take each value."""
        found: dict[Wire, list[Node]] = {}
        for node in self.nodes:
            for wire in node.inputs:
                if wire is not None:
                    found.setdefault(wire, []).append(node)
        return found

    def shapes(self, lengths: Mapping[str, int]) -> dict[Wire, Shape]:
        """Shape of every value, for lengths of "batch", "time", ...

        A value behind a stub, whose shape nobody knows, is left out.

        Raises:
            ShapeError: an operation cannot take what it is given; says which.
        """
        found: dict[Wire, Shape] = {
            Wire(given.name): tuple(lengths[n] if isinstance(n, str) else n for n in given.shape)
            for given in self.inputs
        }
        for node in self.nodes:
            given = [None if wire is None else found.get(wire) for wire in node.inputs]
            unknown = any(wire is not None and wire not in found for wire in node.inputs)
            if unknown or isinstance(node.operation, Stub):
                continue
            found.update(
                {Wire(node.name, index): shape for index, shape in enumerate(shapes_of(node.operation, given))}
            )
        return found

    def values(
        self, inputs: Mapping[str, Array], rounding: Rounding | None = None, given: Mapping[Wire, Array] | None = None
    ) -> dict[Wire, Array]:
        """Every value in float64.

        Args:
            inputs: by name.
            rounding: what happens to intermediate values, nothing by default.
            given: values that are taken from here instead of being computed.

        Raises:
            UnsupportedError: there is a stub on the way.
            ShapeError: inputs that do not fit, or of lengths for which the model was not read.
        """
        rounding = rounding or Exact()
        missing = [one.name for one in self.inputs if one.name not in inputs]
        if missing:
            raise ShapeError(
                "inputs are missing", self.name, ", ".join(one.name for one in self.inputs), f"no {', '.join(missing)}"
            )
        found: dict[Wire, Any] = {Wire(one.name): _as_given(inputs[one.name]) for one in self.inputs}
        if beyond := self._beyond_limits(found):
            raise ShapeError(beyond)
        for node in self.nodes:
            taken = [None if wire is None else found[wire] for wire in node.inputs]
            for index, value in enumerate(computed(node.operation, taken, rounding)):
                wire = Wire(node.name, index)
                found[wire] = value if given is None else given.get(wire, value)
        return found

    def _beyond_limits(self, values: Mapping[Wire, Any]) -> list[Problem]:
        problems: dict[Problem, None] = {}
        for one in self.inputs:
            pairs = zip(one.shape, values[Wire(one.name)].shape, strict=False)
            lengths = {word: length for word, length in pairs if isinstance(word, str)}
            problems |= dict.fromkeys(beyond(self.name, self.details, lengths))
        return list(problems)

    def run(self, inputs: Mapping[str, Array], rounding: Rounding | None = None) -> dict[str, Array]:
        """The outputs in float64, by name.

        Args:
            inputs: by name.
            rounding: what happens to intermediate values, nothing by default.
        """
        found = self.values(inputs, rounding)
        return {name: found[wire] for name, wire in self.outputs.items()}

    def with_operations(self, others: Mapping[int, Layered]) -> Graph:
        """The same wires between other operations: quickly made, as nothing is checked again.

        Args:
            others: operations of the same inputs and outputs, by the `id` of the one whose place they take; their numbers are finite.
        """
        made = object.__new__(Graph)
        nodes = tuple(
            replace(node, operation=others[id(node.operation)]) if id(node.operation) in others else node
            for node in self.nodes
        )
        made.__dict__.update({**self.__dict__, "nodes": nodes})
        return made

    def without_unused(self) -> Graph:
        """The same model without nodes whose values nobody takes."""
        needed = {wire.node for wire in self.outputs.values()}
        for node in reversed(self.nodes):
            if node.name in needed:
                needed |= {wire.node for wire in node.inputs if wire is not None}
        return replace(self, nodes=tuple(node for node in self.nodes if node.name in needed))

    def weights(self) -> Iterator[tuple[str, str, Any]]:
        """Layer, name and array (perhaps deferred) of every weight, each once."""
        for operation in self.operations:
            for name, held in operation.arrays.held.items():
                yield operation.name, name, held


def _as_given(array: Array) -> Array:
    found = np.asarray(array)
    return found.astype(np.float64) if found.dtype.kind == "f" else found


__all__ = ["Graph", "GraphInput", "Node", "Wire"]
