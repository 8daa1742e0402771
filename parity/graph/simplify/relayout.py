"""Convolutions and what belongs to them with channels first or last, as a framework has them, and as few Transposes as that takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from parity.graph.calls import Layered
from parity.graph.graph import Graph, Node, Wire
from parity.graph.lengths import lengths_of
from parity.graph.operations import (
    BatchNormalization,
    Concatenate,
    Constant,
    Convolution,
    Elementwise,
    Expand,
    ExpandDims,
    GroupNormalization,
    Length,
    Pooling,
    Range,
    Reshape,
    Size,
    Transpose,
    normalized,
)
from parity.graph.operations.operation import Plain
from parity.graph.simplify.draft import Draft, replaced
from parity.graph.simplify.facts import ranks_of
from parity.graph.simplify.merging import simplified
from parity.graph.simplify.moving import Axes, composed, inverse, is_identity, moved


@dataclass(frozen=True, eq=False)
class Relaid:
    """A graph in another layout.

    Args:
        graph: computes what the old one does.
        axes: for each node whose first value has its axes in another order than the node of that name had: value of the old graph =
            value of the new one with its axes in this order, as `numpy.transpose` takes it.
    """

    graph: Graph
    axes: dict[str, tuple[int, ...]]


def channels_first(graph: Graph) -> Graph:
    """The same model with channels on axis 1 in every convolution, pooling, batch and group normalization, as torch and ONNX have them.

    Inputs and outputs stay as they are. Transposes stand where a layout begins and ends.

    Example:
        >>> import numpy as np
        >>> from parity.graph import Builder
        >>> from parity.graph.operations import Convolution
        >>> build = Builder("model")
        >>> kernel = np.ones((3, 4, 5), np.float32)
        >>> value = build.call(Convolution("a", kernel, None, (1,), (1,), "same"), build.input("x", ("batch", "time", 4)))
        >>> value = build.call(Convolution("b", np.ones((3, 5, 2)), None, (1,), (1,), "same"), build.activation("relu", value))
        >>> [node.name for node in channels_first(build.graph({"y": value})).nodes]
        ['x_transposed', 'a', 'relu', 'b', 'b_transposed']
    """
    return relaid(graph, channels_last=False).graph


def channels_last(graph: Graph) -> Graph:
    """The same model with channels on the last axis in every convolution, pooling, batch and group normalization, as Keras has them."""
    return relaid(graph, channels_last=True).graph


def relaid(graph: Graph, channels_last: bool) -> Relaid:
    """The same model in a layout, and which values have their axes in another order.

    Args:
        graph: may have stubs; a node behind one stays as it is.
        channels_last: the layout.

    Example:
        >>> from parity.graph import Builder
        >>> from parity.graph.operations import Pooling
        >>> build = Builder("model")
        >>> pool = Pooling("pool", "max", (2,), (2,), (1,), "same")
        >>> graph = build.graph({"y": build.call(pool, build.input("x", ("batch", 6, 4)))})
        >>> relaid(graph, channels_last=False).axes
        {'pool': (0, 2, 1)}
    """
    graph = simplified(graph)
    tried = [_Relayout(graph, channels_last, moving, given).made() for moving, given in _EFFORTS]
    return min(tried, key=lambda one: sum(isinstance(node.operation, Transpose) for node in one.graph.nodes))


_EFFORTS = ((False, False), (True, False), (True, True))
"""Whether Transposes move through other operations, and whether those of the source do, too: the least that leaves fewest of them."""


@dataclass(frozen=True)
class _Held:
    """A value of the old graph: one of the new graph with its axes in another order."""

    wire: Wire
    axes: Axes
    moves: bool


class _Relayout:
    """One attempt: every value of the old graph is held as one of the new graph and a Transpose that need not be there."""

    def __init__(self, graph: Graph, channels_last: bool, moving: bool, given: bool) -> None:
        self._graph, self._channels_last, self._moving, self._given = graph, channels_last, moving, given
        self._draft = Draft(graph)
        self._lengths = lengths_of(graph)
        self._ranks = ranks_of(graph, self._lengths)
        self._held: dict[Wire, _Held] = {}
        # Keys of what is no mere Transpose begin with a negative number.
        self._transposed: dict[tuple[Wire, Axes], Wire] = {}
        self._names: dict[tuple[Wire, Axes], Node] = {}
        self._variants: dict[tuple[int, str], Layered] = {}
        self._wanted = self._axes_of_channels()

    def made(self) -> Relaid:
        """The new graph."""
        for node in self._graph.nodes:
            rule = _RULES.get(type(node.operation), _Relayout._other)
            free = isinstance(node.operation, (Convolution, Pooling, Transpose))
            known = free or all(wire is None or wire in self._ranks for wire in node.inputs)
            if not known or not rule(self, node, node.operation):
                self._keep_as_was(node)
        graph = self._draft.finished({name: self._as_was(wire) for name, wire in self._graph.outputs.items()})
        axes = {
            node.name: held.axes
            for node in graph.nodes
            if (held := self._held.get(Wire(node.name))) is not None and held.wire == Wire(node.name)
        }
        return Relaid(graph, {name: order for name, order in axes.items() if not is_identity(order)})

    # ---- values

    def _in_order(self, wire: Wire, order: Axes) -> Wire:
        """The value of the new graph that is a value of the old one with its axes in an order."""
        held = self._held.get(wire)
        return self._transpose(wire, order) if held is None else self._transpose(held.wire, composed(held.axes, order))

    def _as_was(self, wire: Wire) -> Wire:
        held = self._held.get(wire)
        return wire if held is None else self._transpose(held.wire, held.axes)

    def _transpose(self, wire: Wire, axes: Axes) -> Wire:
        if is_identity(axes):
            return wire
        if (wire, axes) not in self._transposed:
            node = self._names.get((wire, axes))
            if node is None:
                name = self._draft.unique(f"{wire.node}_transposed")
                node = Node(name, Transpose(name, axes), (wire,))
            self._transposed[wire, axes] = self._draft.keep(node)
        return self._transposed[wire, axes]

    def _variant(self, node: Node, options: dict[str, object]) -> Layered:
        """The node's operation with other options: one object for all calls that need the same."""
        if not options:
            return node.operation
        key = (id(node.operation), repr(options))
        if key not in self._variants:
            plain = isinstance(node.operation, Plain)
            name = self._draft.name_for(node) if plain else node.operation.name
            self._variants[key] = replaced(node.operation, name=name, **options)
        return self._variants[key]

    def _keep(self, node: Node, operation: Layered, inputs: Sequence[Wire | None], axes: Axes = ()) -> bool:
        """Adds a node whose value has its axes in another order than it was: old = new.transpose(axes)."""
        wire = self._draft.keep(replace(node, operation=operation, inputs=tuple(inputs)))
        if not is_identity(axes):
            self._held[wire] = _Held(wire, axes, moves=True)
        return True

    def _keep_as_was(self, node: Node) -> None:
        """Adds a node; of further inputs that only tell lengths, the axes are named anew."""
        operation, inputs = node.operation, list(node.inputs)
        if isinstance(operation, (Reshape, Expand)):
            sizes = list(operation.sizes)
            for place, wire in enumerate(node.inputs[1:], 1):
                held = None if wire is None else self._held.get(wire)
                if held is not None:
                    inputs[place] = held.wire
                    sizes = [_renamed(size, place, held.axes) for size in sizes]
            if tuple(sizes) != operation.sizes:
                operation = replaced(operation, name=self._draft.name_for(node), sizes=tuple(sizes))
            taken = [None if inputs[0] is None else self._as_was(inputs[0]), *inputs[1:]]
        elif isinstance(operation, Range):
            taken = [
                None if wire is None else self._held.get(wire, _Held(wire, (), moves=False)).wire for wire in inputs
            ]
            wire = inputs[operation.size.input]
            if wire is not None and wire in self._held:
                size = _renamed(operation.size, operation.size.input, self._held[wire].axes)
                operation = replaced(operation, name=self._draft.name_for(node), size=size)
        else:
            taken = [None if wire is None else self._as_was(wire) for wire in inputs]
        self._draft.keep(replace(node, operation=operation, inputs=tuple(taken)))

    # ---- rules: each adds the node in the new layout, or says that it cannot

    def _axes_of_channels(self) -> dict[int, int]:
        """For every operation with an axis of channels, where that has to be: one place for all its calls."""
        found: dict[int, int] = {}
        for node in self._graph.nodes:
            operation, wire = node.operation, node.inputs[0] if node.inputs else None
            if isinstance(operation, (BatchNormalization, GroupNormalization)) and wire in self._ranks:
                rank = self._ranks[wire]
                axis, goal = normalized(operation.axis, rank), rank - 1 if self._channels_last else 1
                if axis in (1, rank - 1) and axis != goal:
                    found[id(operation)] = -1 if self._channels_last else 1
        return found

    def _spatial(self, node: Node, operation: Convolution | Pooling) -> bool:
        """A convolution or pooling."""
        (x,) = node.inputs
        if x is None or operation.channels_last == self._channels_last:
            return False
        rank = len(operation.sizes) + 2
        order = (0, *range(2, rank), 1) if self._channels_last else (0, rank - 1, *range(1, rank - 1))
        made = self._variant(node, {"channels_last": self._channels_last})
        return self._keep(node, made, [self._in_order(x, order)], inverse(order))

    def _normalization(self, node: Node, operation: BatchNormalization | GroupNormalization) -> bool:
        """A normalization of channels."""
        (x,) = node.inputs
        if x is None:
            return False
        rank, held = self._ranks[x], self._held.get(x)
        made = self._variant(node, {"axis": self._wanted[id(operation)]} if id(operation) in self._wanted else {})
        axis = normalized(operation.axis, rank)
        goal = normalized(self._wanted.get(id(operation), operation.axis), rank)
        axes = tuple(range(rank)) if held is None else held.axes
        stays = axis == goal and not (held is not None and held.moves and self._moving)
        if not stays and axes[axis] == goal and (axes[0] == 0 or isinstance(operation, BatchNormalization)):
            return self._keep(node, made, [x if held is None else held.wire], axes)
        if axis == goal:
            return self._keep(node, made, [self._as_was(x)])
        order = [other for other in range(rank) if other != axis]
        order.insert(goal, axis)
        return self._keep(node, made, [self._in_order(x, tuple(order))], inverse(tuple(order)))

    def _transposition(self, node: Node, operation: Transpose) -> bool:
        """A Transpose of the source: a value that is there already, or one that is made when somebody needs it so."""
        (x,) = node.inputs
        if x is None:
            return False
        own = tuple(normalized(axis, len(operation.axes)) for axis in operation.axes)
        held = self._held.get(x)
        base, axes = (x, own) if held is None else (held.wire, composed(held.axes, own))
        moves = self._given or (held is not None and held.moves)
        self._held[Wire(node.name)] = _Held(base, axes, moves)
        if is_identity(axes):
            if base not in self._held:
                self._draft.drop(node, base)
            return True
        if (base, axes) not in self._transposed:
            plain = Node(
                node.name, replaced(operation, axes=axes, name=self._draft.name_for(node)), (base,), node.source
            )
            self._names.setdefault((base, axes), node if axes == own and base == x else plain)
            if not moves:
                self._transpose(base, axes)
        return True

    def _leading(self, node: Node) -> Axes | None:
        """The order of axes in which an operation takes its values, if one of them is held in another than it was."""
        if not self._moving:
            return None
        found = [self._held[wire] for wire in node.inputs if wire is not None and wire in self._held]
        orders = [held.axes for held in found if held.moves and not is_identity(held.axes)]
        return max(orders, key=len, default=None)

    def _together(self, node: Node, operation: Elementwise | Concatenate) -> bool:
        """An operation on several values that have their axes in one order."""
        axes = self._leading(node)
        ranks = [self._ranks[wire] for wire in node.inputs if wire is not None]
        if axes is None or len(ranks) != len(node.inputs) or max(ranks) != len(axes):
            return False
        if isinstance(operation, Concatenate):
            made = self._variant(node, {"axis": axes[normalized(operation.axis, len(axes))]})
        else:
            made = operation
        return self._keep(node, made, [self._aligned(wire, axes) for wire in node.inputs if wire is not None], axes)

    def _aligned(self, wire: Wire, axes: Axes) -> Wire:
        """A value that is broadcast to as many axes, in the order in which the others are held."""
        rank, count = self._ranks[wire], len(axes)
        if all(set(lengths) == {1} for lengths in self._lengths.get(wire, ((0,),))):
            return self._as_was(wire)
        order = inverse(axes)
        own = tuple(axis - (count - rank) for axis in order if axis >= count - rank)
        new = tuple(place for place, axis in enumerate(order) if axis < count - rank)
        producer = self._draft.producer(wire)
        if producer is not None and isinstance(producer.operation, Constant) and not producer.operation.trained:
            return self._constant(producer, producer.operation, own, new)
        value = self._in_order(wire, own)
        return value if not new else self._expanded(value, new)

    def _expanded(self, wire: Wire, axes: Axes) -> Wire:
        key = (wire, (-1, *axes))
        if key not in self._transposed:
            name = self._draft.unique(f"{wire.node}_expanded")
            self._transposed[key] = self._draft.keep(Node(name, ExpandDims(name, axes), (wire,)))
        return self._transposed[key]

    def _constant(self, node: Node, operation: Constant, own: Axes, new: Axes) -> Wire:
        """A constant with its axes in another order, and new ones; that costs nothing."""
        key = (Wire(node.name), (-2, *own, -1, *new))
        if key not in self._transposed:
            value = np.expand_dims(np.asarray(operation.value).transpose(own), new)
            name = self._draft.unique(f"{node.name}_transposed")
            self._transposed[key] = self._draft.keep(Node(name, Constant(name, value), ()))
        return self._transposed[key]

    def _other(self, node: Node, operation: Layered) -> bool:
        """Any other operation, if a Transpose can be moved through it."""
        x = node.inputs[0] if node.inputs else None
        axes = self._leading(node)
        held = None if x is None else self._held.get(x)
        if axes is None or held is None or not held.moves or is_identity(held.axes):
            return False
        found = moved(operation, held.axes)
        if found is None or any(wire is not None and wire in self._held for wire in node.inputs[1:]):
            return False
        return self._keep(node, self._variant(node, found.options), [held.wire, *node.inputs[1:]], found.axes)


def _renamed(size: Size, place: int, axes: Axes) -> Size:
    """A length of an axis of an input, of the value that is held for it."""
    return replace(size, axis=axes[size.axis]) if isinstance(size, Length) and size.input == place else size


_RULES: dict[type, Callable[[_Relayout, Node, Any], bool]] = {
    Convolution: _Relayout._spatial,
    Pooling: _Relayout._spatial,
    BatchNormalization: _Relayout._normalization,
    GroupNormalization: _Relayout._normalization,
    Transpose: _Relayout._transposition,
    Elementwise: _Relayout._together,
    Concatenate: _Relayout._together,
}


__all__ = ["Relaid", "channels_first", "channels_last", "relaid"]
