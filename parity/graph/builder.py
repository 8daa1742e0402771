"""Puts a graph together, node by node: what readers of frameworks and files use, and users who register a layer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from parity.deferred import Array
from parity.errors import Problem, ShapeError
from parity.functions import FUNCTIONS, Function
from parity.graph.calls import Layered, shapes_of
from parity.graph.graph import Graph, GraphInput, Node, Wire
from parity.graph.names import unused_name
from parity.graph.operations import (
    ELEMENTWISE,
    Activation,
    Cast,
    Concatenate,
    Constant,
    Einsum,
    Elementwise,
    Expand,
    ExpandDims,
    MatMul,
    Reducing,
    Reduction,
    Repeat,
    Reshape,
    Select,
    Shape,
    Size,
    Slice,
    Softmax,
    Squeeze,
    Stack,
    Stub,
    Transpose,
    normalized,
)

PROBES = {"batch": 3, "time": 1009}
"""Lengths with which shapes are tried while a graph is built; other words get further primes."""

_MORE_PROBES = (1013, 1019, 1021, 1031, 1033, 1039, 1049, 1051, 1061, 1063)


class Builder:
    """A graph in the making. Values are `Wire`s; every method that adds a node gives the wire of its first value.

    Args:
        name: of the model.
        origin: the framework it is read from.
        lengths: with which shapes are tried, by word; `PROBES` and further primes for words that are not in it.

    Example:
        >>> build = Builder("model")
        >>> x = build.input("x", ("batch", "time", 4))
        >>> share = build.softmax(build.matmul(x, build.weight("score", np.ones((4, 1), np.float32))), axis=1)
        >>> graph = build.graph({"summary": build.sum(build.multiply(x, share), axis=1)})
        >>> graph.run({"x": np.ones((2, 5, 4))})["summary"].shape
        (2, 4)
    """

    def __init__(self, name: str, origin: str = "", lengths: Mapping[str, int] | None = None) -> None:
        self.name, self.origin = name, origin
        self.inputs: list[GraphInput] = []
        self.nodes: list[Node] = []
        self.problems: list[Problem] = []
        self.details: dict[str, str] = {}
        self._shapes: dict[Wire, Shape] = {}
        self._taken: set[str] = set()
        self._lengths = PROBES | dict(lengths or {})

    # ---- the graph

    def unique(self, wanted: str) -> str:
        """A name that nothing has yet: the wanted one, or that with a number."""
        return unused_name(wanted, self._taken)

    def input(self, name: str, shape: Sequence[int | str], dtype: str = "float32", below: int | None = None) -> Wire:
        """An input of the model; see `GraphInput`."""
        for length in shape:
            if isinstance(length, str) and length not in self._lengths:
                self._lengths[length] = _MORE_PROBES[(len(self._lengths) - len(PROBES)) % len(_MORE_PROBES)]
        own = self.unique(name)
        self._taken.add(own)
        self.inputs.append(GraphInput(own, tuple(shape), dtype, below))
        wire = Wire(own)
        self._shapes[wire] = tuple(self._lengths[n] if isinstance(n, str) else n for n in shape)
        return wire

    def call(self, operation: Layered, *inputs: Wire | None, source: str = "") -> Wire:
        """A call of an operation; the first has the operation's name, further ones of a shared layer that with a number.

        Raises:
            ShapeError: the operation cannot take these inputs; says where.
        """
        name = self.unique(operation.name)
        self._taken.add(name)
        self.nodes.append(Node(name, operation, tuple(inputs), source))
        known = all(wire is None or wire in self._shapes for wire in inputs)
        if known and not isinstance(operation, Stub):
            found = shapes_of(operation, [None if wire is None else self._shapes[wire] for wire in inputs])
            self._shapes.update({Wire(name, index): shape for index, shape in enumerate(found)})
        return Wire(name)

    def graph(self, outputs: Mapping[str, Wire]) -> Graph:
        """The graph, without nodes that no output needs."""
        made = Graph(
            self.name,
            tuple(self.inputs),
            tuple(self.nodes),
            dict(outputs),
            self.origin,
            dict(self.details),
            tuple(self.problems),
        )
        return made.without_unused()

    def shape(self, wire: Wire) -> Shape:
        """The shape of a value at the probed lengths (batch 3, time 1009): good for ranks and for lengths that are known.

        Raises:
            ShapeError: it is behind a stub, so that nobody knows.
        """
        if wire not in self._shapes:
            raise ShapeError(
                "the shape of this value is not known", str(wire), remedy="it comes from a layer that is a stub"
            )
        return self._shapes[wire]

    def rank(self, wire: Wire) -> int:
        """How many axes a value has."""
        return len(self.shape(wire))

    def is_word(self, length: int) -> bool:
        """Whether a probed length is that of an axis whose length differs from call to call."""
        return length in self._lengths.values()

    # ---- operations without weights, by their usual names

    def _named(self, name: str | None, usual: str) -> str:
        return self.unique(_identifier(name) if name else usual)

    def weight(self, name: str, value: Array) -> Wire:
        """A parameter of the model that stands alone."""
        return self.call(Constant(self.unique(name), value, trained=True))

    def constant(self, value: Any, name: str | None = None) -> Wire:
        """A number or an array that is no parameter; floats become float32."""
        array = np.asarray(value)
        array = array.astype(np.float32) if array.dtype == np.float64 and array.shape == () else array
        return self.call(Constant(self._named(name, "constant"), array))

    def elementwise(self, function: str, *inputs: Wire | float, name: str | None = None, source: str = "") -> Wire:
        """A function of `ELEMENTWISE`; numbers become constants.

        Raises:
            ShapeError: there is no such function.
        """
        if not isinstance(function, str) or function not in ELEMENTWISE:
            expected, got = f"one of {', '.join(ELEMENTWISE)}", f"elementwise({_shown(function)}, ...)"
            raise ShapeError("no function of values", self.name, expected, got)
        wires = [one if isinstance(one, Wire) else self.constant(one) for one in inputs]
        return self.call(Elementwise(self._named(name, function), function), *wires, source=source)

    def add(self, *inputs: Wire | float, name: str | None = None, source: str = "") -> Wire:
        """The sum of all inputs."""
        return self.elementwise("add", *inputs, name=name, source=source)

    def subtract(self, left: Wire | float, right: Wire | float, name: str | None = None, source: str = "") -> Wire:
        """The difference."""
        return self.elementwise("subtract", left, right, name=name, source=source)

    def multiply(self, *inputs: Wire | float, name: str | None = None, source: str = "") -> Wire:
        """The product of all inputs, element by element."""
        return self.elementwise("multiply", *inputs, name=name, source=source)

    def divide(self, left: Wire | float, right: Wire | float, name: str | None = None, source: str = "") -> Wire:
        """The quotient."""
        return self.elementwise("divide", left, right, name=name, source=source)

    def activation(self, function: Function | str, x: Wire, name: str | None = None, source: str = "") -> Wire:
        """A function of `parity.functions.FUNCTIONS`, first, of a value; by name with its usual parameters.

        Raises:
            ShapeError: they stand in the other order, or there is no such function.
        """
        if not isinstance(x, Wire) or (isinstance(function, str) and function not in FUNCTIONS):
            got = f"activation({_shown(function)}, {_shown(x)})"
            raise ShapeError(
                "no function of a value", self.name, 'activation("tanh", x)', got, f"one of {', '.join(FUNCTIONS)}"
            )
        if isinstance(function, str):
            function = Function(function, FUNCTIONS[function].alpha, FUNCTIONS[function].beta)
        return self.call(Activation(self._named(name, function.name), function), x, source=source)

    def softmax(self, x: Wire, axis: int = -1, log: bool = False, name: str | None = None, source: str = "") -> Wire:
        """The softmax along an axis, or its logarithm."""
        usual = "log_softmax" if log else "softmax"
        return self.call(Softmax(self._named(name, usual), axis, log), x, source=source)

    def cast(self, x: Wire, dtype: Literal["float32", "int64", "bool"], name: str | None = None) -> Wire:
        """The same numbers as another type."""
        return self.call(Cast(self._named(name, "cast"), dtype), x)

    def matmul(self, left: Wire, right: Wire, name: str | None = None, source: str = "") -> Wire:
        """The matrix product."""
        return self.call(MatMul(self._named(name, "matmul")), left, right, source=source)

    def einsum(self, equation: str, *inputs: Wire, name: str | None = None, source: str = "") -> Wire:
        """Products of one or two values, summed."""
        return self.call(Einsum(self._named(name, "einsum"), equation), *inputs, source=source)

    def reduce(
        self,
        function: Reducing,
        x: Wire,
        axis: int | Sequence[int],
        keepdims: bool = False,
        name: str | None = None,
        source: str = "",
    ) -> Wire:
        """A reduction over one or several axes."""
        axes = (axis,) if isinstance(axis, int) else tuple(axis)
        places = tuple(normalized(one, self.rank(x)) for one in axes) if x in self._shapes else axes
        return self.call(Reduction(self._named(name, function), function, places, keepdims), x, source=source)

    def sum(
        self, x: Wire, axis: int | Sequence[int], keepdims: bool = False, name: str | None = None, source: str = ""
    ) -> Wire:
        """The sum over axes."""
        return self.reduce("sum", x, axis, keepdims, name, source)

    def mean(
        self, x: Wire, axis: int | Sequence[int], keepdims: bool = False, name: str | None = None, source: str = ""
    ) -> Wire:
        """The mean over axes."""
        return self.reduce("mean", x, axis, keepdims, name, source)

    def max(
        self, x: Wire, axis: int | Sequence[int], keepdims: bool = False, name: str | None = None, source: str = ""
    ) -> Wire:
        """The largest over axes."""
        return self.reduce("max", x, axis, keepdims, name, source)

    def transpose(self, x: Wire, axes: Sequence[int], name: str | None = None, source: str = "") -> Wire:
        """The axes in another order."""
        return self.call(Transpose(self._named(name, "transpose"), tuple(axes)), x, source=source)

    def reshape(self, x: Wire, sizes: Sequence[Size], *others: Wire, name: str | None = None, source: str = "") -> Wire:
        """The numbers in another shape; `Length(input, axis)` names an axis of x (input 0) or of the others (1, 2, ...)."""
        return self.call(Reshape(self._named(name, "reshape"), tuple(sizes)), x, *others, source=source)

    def expand(self, x: Wire, sizes: Sequence[Size], *others: Wire, name: str | None = None, source: str = "") -> Wire:
        """Broadcast to another shape; sizes as for `reshape`, -1 keeps an axis."""
        return self.call(Expand(self._named(name, "expand"), tuple(sizes)), x, *others, source=source)

    def expand_dims(self, x: Wire, axis: int | Sequence[int], name: str | None = None, source: str = "") -> Wire:
        """New axes of length one."""
        axes = (axis,) if isinstance(axis, int) else tuple(axis)
        return self.call(ExpandDims(self._named(name, "expand_dims"), axes), x, source=source)

    def squeeze(self, x: Wire, axis: int | Sequence[int], name: str | None = None, source: str = "") -> Wire:
        """Without axes of length one."""
        axes = (axis,) if isinstance(axis, int) else tuple(axis)
        return self.call(Squeeze(self._named(name, "squeeze"), axes), x, source=source)

    def concatenate(self, inputs: Sequence[Wire], axis: int = -1, name: str | None = None, source: str = "") -> Wire:
        """Several values one after the other."""
        return self.call(Concatenate(self._named(name, "concatenate"), axis), *inputs, source=source)

    def stack(self, inputs: Sequence[Wire], axis: int = 0, name: str | None = None, source: str = "") -> Wire:
        """Several values along a new axis."""
        return self.call(Stack(self._named(name, "stack"), axis), *inputs, source=source)

    def slice(
        self,
        x: Wire,
        axis: int,
        start: int | None = None,
        stop: int | None = None,
        step: int = 1,
        name: str | None = None,
        source: str = "",
    ) -> Wire:
        """Part of an axis."""
        return self.call(Slice(self._named(name, "slice"), ((axis, start, stop, step),)), x, source=source)

    def select(self, x: Wire, axis: int, index: int, name: str | None = None, source: str = "") -> Wire:
        """One place of an axis; the axis is gone."""
        return self.call(Select(self._named(name, "select"), axis, index), x, source=source)

    def repeat(self, x: Wire, axis: int, times: int, name: str | None = None, source: str = "") -> Wire:
        """Every place of an axis several times."""
        return self.call(Repeat(self._named(name, "repeat"), axis, times), x, source=source)


def _shown(value: object) -> str:
    return f"the value '{value}'" if isinstance(value, Wire) else repr(value)


def _identifier(name: str) -> str:
    """A name without the marks of paths at its ends."""
    return re.sub(r"^[/.]+|[/.]+$", "", name) or "node"


__all__ = ["Builder"]
