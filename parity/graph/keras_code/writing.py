"""The body of `build()` in the making: statements, names, what Keras notes of them, and the weights of every layer."""

from __future__ import annotations

import builtins
import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from parity.deferred import Blocks, blocks_of
from parity.errors import Problem
from parity.graph.code import identifiers
from parity.graph.graph import Graph, Node, Wire
from parity.graph.keras_code.order import Calls
from parity.graph.keras_code.text import Group, call, number, statement, text, texts
from parity.graph.keras_code.values import Made, Value
from parity.graph.lengths import axes_of, shown
from parity.graph.names import unused_name
from parity.graph.operations import (
    Activation,
    Cast,
    Constant,
    ExpandDims,
    Reshape,
    Select,
    Slice,
    Softmax,
    Squeeze,
    Stub,
    Transpose,
)
from parity.network.keras.weight_tree import group_name

RESERVED = frozenset(
    (*dir(builtins), "x", "keras", "layers", "ops", "Path", "build", "load", "path", "model", "WEIGHTS")
)
"""Names that values and functions of a module must not take."""

_MOST_INLINE = 8
"""Constants of up to so many numbers stand in the code."""

_LONGEST = 28
"""Letters of a variable."""

_FORMS = (Activation, Cast, ExpandDims, Reshape, Select, Slice, Softmax, Squeeze, Transpose)
"""What gives a value another form, so that it keeps its name."""


class Writing:
    """The code of a graph in the making.

    Args:
        graph: the model.
        activations: layer -> activation that is written with it.
        avoided: names that Keras gives by itself in this model: "add", "get_item", ...
    """

    def __init__(
        self, graph: Graph, activations: Mapping[str, str] | None = None, avoided: frozenset[str] = frozenset()
    ) -> None:
        self.graph, self.activations, self.avoided = graph, dict(activations or {}), avoided
        self.axes = axes_of(graph)
        self.wide = any(held.dtype == np.float64 for _, _, held in graph.weights())
        self.dtype = "float64" if self.wide else "float32"
        self.lines: list[str] = []
        self.calls = Calls()
        self.values: dict[Wire, Value] = {}
        self.weights: dict[Hashable, Mapping[str, Sequence[Blocks]]] = {}
        self.snippets: dict[str, None] = {}
        self.definitions: dict[str, list[str]] = {}
        self.notes: list[str] = []
        self.problems: list[Problem] = []
        self.automatic: set[str] = set()
        self.nodes = {node.name: node for node in graph.nodes}
        self.takers = graph.takers()
        self.leader = {activation: layer for layer, activation in self.activations.items()}
        self.steps = [
            node for node in graph.nodes if not isinstance(node.operation, Constant) and node.name not in self.leader
        ]
        self.stub_classes: dict[int, str] = {}
        self._titles: dict[str, str] = {}
        self._named: dict[Hashable, str] = {}
        self._shared: dict[Hashable, str] = {}
        self._parameters: dict[Hashable, Value] = {}
        self._numbers: dict[Hashable, int] = {}
        for node in graph.nodes:
            self._numbers[id(node.operation)] = self._numbers.get(id(node.operation), 0) + 1
        self.taken = set(RESERVED)
        self._identifiers = self._named_values()

    # ---- names

    def _named_values(self) -> dict[str, str]:
        """A variable for every input and node: the user's name for the layer where that is not another's."""
        outputs = {wire: name for name, wire in reversed(self.graph.outputs.items())}
        titles = {one.name: one.name for one in self.graph.inputs}
        titles |= {
            node.name: self._described(node) or outputs.get(Wire(node.name), node.name)
            for node in self.graph.nodes
            if node.name not in self.activations and not isinstance(node.operation, Constant)
        }
        return {
            name: self.variable("inputs" if title in ("input", "x") else title[-_LONGEST:])
            for name, title in titles.items()
        }

    def _described(self, node: Node) -> str:
        """The user's name for what a node gives: that of its layer, or of the one whose value is only given another form."""
        place = ""
        while True:
            leader = self.nodes[self.leader[node.name]] if node.name in self.leader else node
            title = node.source or leader.source
            before = leader.inputs[0] if leader.inputs else None
            if title or not isinstance(leader.operation, _FORMS) or before is None:
                return f"{title}{place}" if title else ""
            if isinstance(node.operation, Select):
                place = f"_{'last' if node.operation.index == -1 else abs(node.operation.index)}"
            if before.node not in self.nodes:
                return f"{before.node}{place}"
            node = self.nodes[before.node]

    def variable(self, wanted: str) -> str:
        """A new variable."""
        own = identifiers([wanted], self.taken)[wanted]
        self.taken.add(own)
        return own

    def title(self, node: Node, other: str = "") -> str:
        """The name of the layer of Keras that a node becomes; "" where neither the user nor weights ask for one."""
        key = (id(node.operation), other)
        if key in self._named:
            return self._named[key]
        weighty = bool(node.operation.arrays.held) or type(node.operation).__name__ in ("Recurrent", "Stub")
        wanted = node.source or (node.operation.name if weighty else "")
        if not wanted:
            return ""
        found = self.unique(f"{wanted}_{other}" if other else wanted)
        if weighty:
            self._named[key] = found
        return found

    def unique(self, wanted: str) -> str:
        """A name that Keras allows and no layer has yet."""
        base = re.sub(r"[^A-Za-z0-9_\-]+", "_", wanted) or "layer"
        base = base if re.match(r"[A-Za-z0-9]", base) else f"layer{base}"
        if re.sub(r"_\d+$", "", base) in self.avoided:
            self.notes.append(f"layer '{wanted}' is called '{base}_layer': Keras gives its own name to other layers")
            base = f"{base}_layer"
        own = unused_name(base, self._titles)
        self._titles[own] = wanted
        return own

    @property
    def clashes(self) -> frozenset[str]:
        """Names that Keras gives by itself and that the user's layers have, too."""
        found = {re.sub(r"_\d+$", "", name) for name in self._titles}
        return frozenset(self.automatic & found)

    # ---- where things stand

    def target(self, node: Node, index: int = 0, main: int = 0) -> str:
        """The variable of a node's value: x where only the next statement takes it, else one of its own.

        Args:
            node: whose.
            index: which of its values.
            main: that which is called as the node is.
        """
        wire = Wire(node.name, index)
        at = self.position.get(node.name, -1)
        takers = {self.position.get(self.leader.get(one.name, one.name), -1) for one in self.takers.get(wire, [])}
        outputs = self.graph.outputs.values()
        passing = takers == {at + 1} and wire not in outputs
        last = at == len(self.steps) - 1 and not takers and len(outputs) == 1
        if index == main and at >= 0 and (passing or last):
            return "x"
        return (
            self._identifiers[node.name] if index == main else self.variable(f"{self._identifiers[node.name]}_{index}")
        )

    @property
    def position(self) -> dict[str, int]:
        """Node -> number of the step that writes it."""
        if not hasattr(self, "_position"):
            self._position = {node.name: number for number, node in enumerate(self.steps)}
            for fused, leader in self.leader.items():
                self._position[fused] = self._position[leader]
        return self._position

    def identifier(self, node: Node) -> str:
        """The variable of a node that has one of its own."""
        return self._identifiers[node.name]

    def known(self, wire: Wire) -> tuple[int | None, ...] | None:
        """Lengths of a value, None for one that differs from call to call; None as a whole behind a stub."""
        axes = self.axes.get(wire)
        return None if axes is None else tuple(one if isinstance(one, int) else None for one in axes)

    def rank(self, wire: Wire) -> int | None:
        """How many axes a value has; None behind a stub."""
        axes = self.axes.get(wire)
        return None if axes is None else len(axes)

    def shape_comment(self, wire: Wire) -> str:
        """The shape in words; "" for one that is not known, or that a value has which the node takes."""
        node = self.nodes.get(wire.node)
        axes = self.axes.get(wire)
        if axes is None or (node and not wire.index and self._same(node, axes)):
            return ""
        return self.shape_in_words(wire)

    def _same(self, node: Node, axes: tuple[int | str, ...]) -> bool:
        given = [self.axes.get(one) for one in node.inputs if one is not None and self.constant(one) is None]
        return axes in given

    def shape_in_words(self, wire: Wire) -> str:
        """The shape; "" for one that is not known."""
        axes = self.axes.get(wire)
        return "" if axes is None else shown(axes)

    # ---- values

    def constant(self, wire: Wire | None) -> Constant | None:
        """The constant that gives a value, if one does."""
        node = self.nodes.get(wire.node) if wire else None
        return node.operation if node is not None and isinstance(node.operation, Constant) else None

    def scalar(self, wire: Wire | None) -> float | int | bool | None:
        """The number that a value is, if it is a constant one."""
        constant = self.constant(wire)
        if constant is None or constant.trained or constant.held("value").shape != ():
            return None
        found: float | int | bool = np.asarray(constant.value).item()
        return found

    def calls_of(self, node: Node) -> list[Node]:
        """Every node that calls the operation of one."""
        return [one for one in self.graph.nodes if one.operation is node.operation]

    def value(self, wire: Wire, tensor: bool = False) -> Value:
        """A value as an operand.

        Args:
            wire: which.
            tensor: whether it has to be one of Keras, not a number.
        """
        constant = self.constant(wire)
        if constant is None:
            return self.values[wire]
        array = constant.held("value")
        if not constant.trained and not tensor and array.size <= _MOST_INLINE if hasattr(array, "size") else False:
            return Value(self._literal(np.asarray(constant.value)))
        if wire not in self.values:
            node = self.nodes[wire.node]
            self.values[wire] = self.parameter(node.source or constant.name, constant, (id(constant), ""))
        return self.values[wire]

    def _literal(self, array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> str:
        if array.shape == ():
            return number(array[()])
        dtype = [f"dtype={text('float64')}"] if self.wide and array.dtype.kind == "f" else []
        return str(call("ops.array", _nested(array), *dtype))

    def parameter(self, title: str, constant: Constant, key: Hashable) -> Value:
        """A layer that holds an array, tied to the first input of the model.

        Args:
            title: its name.
            constant: the array.
            key: tells it from other layers; what is asked for twice is written once.
        """
        if key in self._parameters:
            return self._parameters[key]
        array = constant.held("value")
        self.snippets["parameter"] = None
        trainable = () if constant.trained else ("trainable=False",)
        kept = blocks_of(array) if array.dtype.kind == "f" else blocks_of(np.asarray(array).astype(np.float32))
        shape = str(tuple(int(length) for length in array.shape))
        made = Made("Parameter", (shape, *trainable, *self.more(self.unique(title))), {"vars": [kept]}, own=True)
        first = self.values[Wire(self.graph.inputs[0].name)]
        name = self.variable(title[-_LONGEST:])
        value = Value(name, (self.apply(made, key, name, [str(first)], first.calls),))
        if array.dtype.kind != "f":
            kind = "bool" if array.dtype.kind == "b" else "int32"
            value = self.function(name, call("ops.cast", name, text(kind)), [value])
        self._parameters[key] = value
        return value

    def more(self, name: str) -> list[str]:
        """The arguments that every layer has: its type and its name."""
        return [*(["dtype=" + text("float64")] if self.wide else []), *([f"name={text(name)}"] if name else [])]

    # ---- statements

    def function(self, target: str, group: Group, taken: Sequence[Value], comment: str = "", stem: str = "") -> Value:
        """A statement that calls a function of Keras on values."""
        self.lines += statement(target, group, None, comment)
        return Value(target, (self.noted(stem or _stem(group.start), taken),))

    def noted(self, stem: str, taken: Sequence[Value]) -> int:
        """Keras notes a call of a function."""
        self.automatic.add(stem)
        return self.calls.note(
            ("function", len(self.lines), stem, object()), [one for value in taken for one in value.calls]
        )

    def apply(
        self,
        made: Made,
        key: Hashable,
        target: str,
        arguments: Sequence[str | Group],
        taken: Sequence[int],
        comment: str = "",
    ) -> int:
        """A statement that calls a layer; one that is called again stands in a statement of its own.

        Returns:
            The number of the call.
        """
        group, taking = made.group, Group("(", tuple(arguments))
        if not any(str(one).startswith("name=") for one in made.arguments):
            self.automatic.add(group_name(made.class_name))
        operation = key[0] if isinstance(key, tuple) else key
        if made.weights and self._numbers.get(operation, 1) > 1:
            if key not in self._shared:
                name = next((str(one)[6:-1] for one in made.arguments if str(one).startswith("name=")), "layer")
                self._shared[key] = self.variable(f"{name[: _LONGEST - 6]}_layer")
                self.lines += statement(self._shared[key], group)
            self.lines += statement(target, replace(taking, start=f"{self._shared[key]}("), None, comment)
        else:
            self.lines += statement(target, group, taking, comment)
            key = key if made.weights else ("layer", len(self.lines), object())
        self.weights.setdefault(key, made.weights)
        return self.calls.note(key, taken, made.class_name)

    def layer(
        self, node: Node, made: Made, *inputs: Value, target: str = "", key: str = "", comment: str = ""
    ) -> Value:
        """A statement that calls a layer on values, given one by one or, if there are several, as a list."""
        given = [value if made.masks else self.without_mask(value) for value in inputs]
        name = target or self.target(node)
        taking = [texts([str(value) for value in given])] if len(given) > 1 else [str(value) for value in given]
        calls = [one for value in given for one in value.calls]
        number_ = self.apply(made, (id(node.operation), key), name, taking, calls, comment)
        return Value(name, (number_,), made.masks and any(value.masked for value in given))

    def without_mask(self, value: Value) -> Value:
        """The value without the mask that Keras hands on with it."""
        if not value.masked:
            return value
        return Value(f"ops.copy({value})", (self.noted("copy", [value]),))

    def input_variable(self, name: str) -> str:
        """The variable of an input of the model."""
        return self._identifiers[name]

    def stub_class(self, stub: Stub) -> str:
        """The class of the module that a stub becomes."""
        if id(stub) not in self.stub_classes:
            words = re.sub(r"\W+", "", stub.class_name.rpartition(".")[2].rpartition(">")[2], flags=re.ASCII)
            self.stub_classes[id(stub)] = self.variable(words if words[:1].isalpha() else f"Layer{words}")
        return self.stub_classes[id(stub)]

    def fill(self, node: Node) -> None:
        """Values that stand for those of a node that is refused, so that what lies behind it is looked at, too."""
        for index in range(2 * len(node.operation.arrays.held) + 2):
            self.values.setdefault(Wire(node.name, index), Value("x"))

    def give(self, node: Node, *values: Value) -> None:
        """The values of a node."""
        for index, value in enumerate(values):
            self.values[Wire(node.name, index)] = value

    def finished(self, outputs: Sequence[Value]) -> dict[str, Blocks]:
        """Every array by its place in `model.weights.h5`."""
        found: dict[str, Blocks] = {}
        for key, group in self.calls.groups([one for value in outputs for one in value.calls]):
            for path, arrays in self.weights.get(key, {}).items():
                found |= {f"layers/{group}/{path}/{index}": blocks for index, blocks in enumerate(arrays)}
        return found


def _nested(array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> str:
    return number(array[()]) if array.shape == () else f"[{', '.join(map(_nested, array))}]"


def _stem(start: str) -> str:
    """What Keras calls a function by itself."""
    return start.rpartition(".")[2].rstrip("(")


__all__ = ["RESERVED", "Made", "Value", "Writing"]
