"""Nodes that do nothing, undo one another or say together what one of them can say."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from parity.deferred import digest
from parity.graph.graph import Graph, Node, Wire
from parity.graph.lengths import Lengths, lengths_of
from parity.graph.operations import (
    ELEMENTWISE,
    Activation,
    Cast,
    Concatenate,
    Constant,
    Elementwise,
    Expand,
    ExpandDims,
    Flip,
    Length,
    Pad,
    Repeat,
    Reshape,
    Size,
    Slice,
    Squeeze,
    Transpose,
    normalized,
)
from parity.graph.simplify.draft import Draft, replaced
from parity.graph.simplify.facts import Kind, kinds_of

_ENDLESS = 2**31 - 1
"""A slice that ends here or later ends with the axis: no axis is longer, and exporters write this for "to the end"."""


def simplified(graph: Graph) -> Graph:
    """The same model with fewer nodes: what it computes stays, bit for bit.

    Transposes and Reshapes of one another become one; those, Slices, Casts, Expands, Pads, Repeats and identity functions that change
    nothing go, as do pairs of ExpandDims and Squeeze that undo one another and a Concatenate of one value; equal Constants that are no
    parameters become one. A node that now gives the value of one that went takes its `source` if it has none.

    Args:
        graph: may have stubs.

    Returns:
        The new graph; operations that are as they were are the same objects, shared as before.

    Example:
        >>> from parity.graph import Builder
        >>> build = Builder("model")
        >>> x = build.input("x", ("batch", "time", 4))
        >>> there = build.transpose(x, (0, 2, 1))
        >>> graph = build.graph({"y": build.activation("relu", build.transpose(there, (0, 2, 1)))})
        >>> [node.name for node in simplified(graph).nodes]
        ['relu']
    """
    while True:
        made = _once(graph)
        if _same(made, graph):
            return graph
        graph = made


def _same(one: Graph, other: Graph) -> bool:
    """Whether a pass has changed nothing; every change makes a node fewer, an operation simpler or a way shorter, so it ends."""
    unlike = any(a is not b and a != b for a, b in zip(one.nodes, other.nodes, strict=False))
    return len(one.nodes) == len(other.nodes) and one.outputs == other.outputs and not unlike


@dataclass(frozen=True)
class _Sight:
    """What a rule sees: the draft, lengths and kinds of values, and what has been computed already."""

    draft: Draft
    lengths: Mapping[Wire, Lengths]
    kinds: Mapping[Wire, Kind]
    computed: dict[Hashable, Wire]


def _once(graph: Graph) -> Graph:
    sight = _Sight(Draft(graph), lengths_of(graph), kinds_of(graph), {})
    for old in graph.nodes:
        inputs = tuple(None if wire is None else sight.draft.of(wire) for wire in old.inputs)
        node = old if inputs == old.inputs else replace(old, inputs=inputs)
        rule = _RULES.get(type(node.operation))
        found = None if rule is None else rule(node, node.operation, sight)
        if found is None:
            found = _again(node, sight)
        if isinstance(found, Wire):
            sight.draft.drop(node, found)
        else:
            sight.draft.keep(found or node)
    return sight.draft.finished()


_Found = Wire | Node | None
"""The value that stands for a node's, another node of its name, or None where it stays."""


def _again(node: Node, sight: _Sight) -> Wire | None:
    """The value of an earlier node that computes the same: a constant, or the same axes of the same value."""
    operation = node.operation
    if isinstance(operation, Constant):
        value = operation.held("value")
        known = isinstance(value, np.ndarray) and not operation.trained
        key: Hashable = (str(value.dtype), value.shape, digest(value)) if known else id(operation)
    elif isinstance(operation, (Transpose, ExpandDims, Squeeze, Cast, Reshape)):
        key = (type(operation), tuple(operation.facts.values()), node.inputs)
    else:
        return None
    earlier = sight.computed.setdefault(key, Wire(node.name))
    producer = sight.draft.producer(earlier)
    if earlier.node == node.name or (node.source and producer is not None and producer.source not in ("", node.source)):
        return None
    return earlier


def _changed(node: Node, sight: _Sight, inputs: tuple[Wire | None, ...], **options: Any) -> Node:
    """A node of the same name whose operation has other options."""
    operation = replaced(node.operation, name=sight.draft.name_for(node), **options)
    return replace(node, operation=operation, inputs=inputs)


def _transpose(node: Node, operation: Transpose, sight: _Sight) -> _Found:
    (x,) = node.inputs
    rank, axes = len(operation.axes), operation.axes
    inner = sight.draft.producer(x)
    if inner is not None and isinstance(inner.operation, Transpose):
        own = tuple(normalized(axis, rank) for axis in inner.operation.axes)
        axes, x = tuple(own[axis] for axis in axes), inner.inputs[0]
    if tuple(normalized(axis, rank) for axis in axes) == tuple(range(rank)):
        return x
    return None if x == node.inputs[0] else _changed(node, sight, (x,), axes=axes)


def _reshape(node: Node, operation: Reshape, sight: _Sight) -> _Found:
    x = node.inputs[0]
    if _alike(x, Wire(node.name), sight):
        return x
    inner = sight.draft.producer(x)
    if inner is None:
        return None
    if isinstance(inner.operation, Reshape):
        return _reshape_of_reshape(node, operation, inner, inner.operation, sight)
    if isinstance(inner.operation, (ExpandDims, Squeeze)):
        return _reshape_of_ones(node, operation, inner, inner.operation, sight)
    return None


def _alike(one: Wire | None, other: Wire, sight: _Sight) -> bool:
    """Whether two values have one shape, whatever "batch", "time", ... are."""
    return one is not None and one in sight.lengths and sight.lengths[one] == sight.lengths.get(other)


def _reshape_of_reshape(node: Node, outer: Reshape, inner_node: Node, inner: Reshape, sight: _Sight) -> _Found:
    count = len(node.inputs)

    def through(length: Length) -> Size:
        """A length of the inner result, in terms of what the inner one takes."""
        size = inner.sizes[length.axis]
        if size == -1:
            known = sight.lengths.get(Wire(inner_node.name))
            lengths = set() if known is None else set(known[length.axis])
            return lengths.pop() * length.times if len(lengths) == 1 else -1 if length.times == 1 else -2
        if isinstance(size, int):
            return size * length.times
        place = 0 if size.input == 0 else count - 1 + size.input
        return Length(place, size.axis, size.times * length.times)

    inputs = (inner_node.inputs[0], *node.inputs[1:], *inner_node.inputs[1:])
    return _reshaped(node, _through(outer.sizes, through), inputs, sight)


def _reshape_of_ones(
    node: Node, outer: Reshape, inner_node: Node, inner: ExpandDims | Squeeze, sight: _Sight
) -> _Found:
    lengths = sight.lengths.get(Wire(inner_node.name))
    taken = sight.lengths.get(inner_node.inputs[0]) if inner_node.inputs[0] is not None else None
    if lengths is None or taken is None:
        return None
    longer = max(len(lengths), len(taken))
    ones = {normalized(axis, longer) for axis in inner.axes}
    rest = [axis for axis in range(longer) if axis not in ones]

    def through(length: Length) -> Size:
        if isinstance(inner, Squeeze):
            return Length(0, rest[length.axis], length.times)
        return length.times if length.axis in ones else Length(0, rest.index(length.axis), length.times)

    return _reshaped(node, _through(outer.sizes, through), (inner_node.inputs[0], *node.inputs[1:]), sight)


def _through(sizes: tuple[Size, ...], through: Callable[[Length], Size]) -> tuple[Size, ...]:
    return tuple(through(size) if isinstance(size, Length) and size.input == 0 else size for size in sizes)


def _reshaped(node: Node, sizes: tuple[Size, ...], inputs: tuple[Wire | None, ...], sight: _Sight) -> Node | None:
    """The node with these sizes, if they say one shape."""
    if sizes.count(-1) > 1 or -2 in sizes:
        return None
    used = sorted({size.input for size in sizes if isinstance(size, Length)} | {0})
    places = {place: index for index, place in enumerate(used)}
    moved = tuple(replace(size, input=places[size.input]) if isinstance(size, Length) else size for size in sizes)
    return _changed(node, sight, tuple(inputs[place] for place in used), sizes=moved)


def _ones(node: Node, operation: ExpandDims | Squeeze, sight: _Sight) -> _Found:
    (x,) = node.inputs
    if not operation.axes:
        return x
    inner = sight.draft.producer(x)
    other = Squeeze if isinstance(operation, ExpandDims) else ExpandDims
    if inner is None or not isinstance(inner.operation, other):
        return None
    longer = Wire(node.name) if isinstance(operation, ExpandDims) else x
    if longer is None or longer not in sight.lengths:
        return None
    rank = len(sight.lengths[longer])
    own, before = ({normalized(axis, rank) for axis in axes} for axes in (operation.axes, inner.operation.axes))
    return inner.inputs[0] if own == before else None


def _slice(node: Node, operation: Slice, sight: _Sight) -> _Found:
    (x,) = node.inputs
    lengths = None if x is None else sight.lengths.get(x)

    def everything(axis: int, start: int | None, stop: int | None, step: int) -> bool:
        if step != 1 or start not in (None, 0):
            return False
        if stop is None or stop >= _ENDLESS:
            return True
        if lengths is None:
            return False
        return len(set(lengths[axis])) == 1 and lengths[axis][0] <= stop

    return x if all(everything(*part) for part in operation.parts) else None


def _cast(node: Node, operation: Cast, sight: _Sight) -> _Found:
    (x,) = node.inputs
    return x if x is not None and sight.kinds.get(x) == operation.dtype else None


def _activation(node: Node, operation: Activation, sight: _Sight) -> _Found:
    (x,) = node.inputs
    function = operation.function
    identity = function.name == "affine" and (function.alpha, function.beta) == (1.0, 0.0)
    return x if identity and x is not None and sight.kinds.get(x, "float32") == "float32" else None


def _elementwise(node: Node, operation: Elementwise, sight: _Sight) -> _Found:
    """One value alone is its own sum, product or maximum."""
    single = len(node.inputs) == 1 and ELEMENTWISE[operation.function].arity is None
    if not single or operation.function == "average":
        return None
    x = node.inputs[0]
    return x if x is not None and sight.kinds.get(x) in ("float32", "int64") else None


def _idle(node: Node, operation: Concatenate | Expand | Pad | Repeat | Flip, sight: _Sight) -> _Found:
    if isinstance(operation, Concatenate):
        idle = len(node.inputs) == 1
    elif isinstance(operation, Expand):
        idle = _alike(node.inputs[0], Wire(node.name), sight)
    elif isinstance(operation, Pad):
        idle = not any(map(any, operation.pads))
    elif isinstance(operation, Repeat):
        idle = operation.times == 1
    else:
        idle = not operation.axes
    return node.inputs[0] if idle else None


_RULES: dict[type, Callable[[Node, Any, _Sight], _Found]] = {
    Transpose: _transpose,
    Reshape: _reshape,
    ExpandDims: _ones,
    Squeeze: _ones,
    Slice: _slice,
    Cast: _cast,
    Activation: _activation,
    Elementwise: _elementwise,
    Concatenate: _idle,
    Expand: _idle,
    Pad: _idle,
    Repeat: _idle,
    Flip: _idle,
}


__all__ = ["simplified"]
