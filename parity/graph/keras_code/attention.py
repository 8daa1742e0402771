"""Attention as Keras has it: `layers.MultiHeadAttention` with its projections, `layers.Attention`; all other is spelled out."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from parity.deferred import Arrays, Blocks, blocks_of
from parity.graph.graph import Graph, Node, Wire
from parity.graph.keras_code.giving import tensors_of
from parity.graph.keras_code.text import texts
from parity.graph.keras_code.writing import Made, Value, Writing
from parity.graph.operations import Attention, ExpandDims, Reshape, Shape, Transpose, normalized
from parity.graph.operations.operation import Plain
from parity.graph.simplify import simplified, spelled_out, with_attention
from parity.graph.simplify.draft import Draft
from parity.graph.simplify.sight import Sight
from parity.network import Dense
from parity.reference import Rounding

_HEADS = (0, 2, 1, 3)
"""(batch, time, head, size) to (batch, head, time, size), and back."""

_LOWEST = -1e30
"""Keras puts a number below this in the place of masked scores, of which nothing is left then."""

_LOWERED = -1e9
"""What `layers.Attention` adds to masked scores."""


@dataclass(frozen=True, eq=False)
class MultiHeadAttention(Plain):
    """`layers.MultiHeadAttention`; takes query, value, key, (batch, time, features), and a mask (batch, t, s) if it is not causal.

    Args:
        name: unique among the operations of a graph.
        attention: of every head.
        heads: how many.
        query, key, value, output: the projections; features of a head stand together.
    """

    attention: Attention
    heads: int
    query: Dense
    key: Dense
    value: Dense
    output: Dense

    @property
    def parts(self) -> dict[str, Dense]:
        """The projections by name."""
        return {name: getattr(self, name) for name in ("query", "key", "value", "output")}

    @property
    def arrays(self) -> Arrays:
        """The weights of all projections."""
        return Arrays(
            {f"{name}.{own}": held for name, part in self.parts.items() for own, held in part.arrays.held.items()}
        )

    @property
    def facts(self) -> dict[str, object]:
        """Heads, and features of each."""
        return {"heads": self.heads, "size": self.query.output_size // self.heads}

    def shapes(self, *shapes: Shape | None) -> tuple[Shape, ...]:
        """Of what it gives."""
        assert shapes[0] is not None
        return ((*shapes[0][:-1], self.output.output_size),)

    def compute(self, *values: Any, rounding: Rounding) -> tuple[Any, ...]:
        """It in float64."""
        query, value, key, *mask = values
        parts = ((self.query, query), (self.key, key), (self.value, value))
        taken = [part.compute(x, rounding).reshape(*x.shape[:2], self.heads, -1).transpose(_HEADS) for part, x in parts]
        (found,) = self.attention.compute(*taken, *(one[:, None] for one in mask), rounding=rounding)
        return (self.output.compute(found.transpose(_HEADS).reshape(*query.shape[:2], -1), rounding),)


@dataclass(frozen=True, eq=False)
class SingleAttention(Plain):
    """`layers.Attention`; takes query, value, key, (batch, time, features), and a mask (batch, s) if it is not causal.

    Args:
        name: unique among the operations of a graph.
        attention: what it computes.
    """

    attention: Attention

    @property
    def facts(self) -> dict[str, object]:
        """Those of the attention."""
        return self.attention.facts

    def shapes(self, *shapes: Shape | None) -> tuple[Shape, ...]:
        """Of what it gives."""
        query, value, key = shapes[:3]
        return self.attention.shapes(query, key, value)

    def compute(self, *values: Any, rounding: Rounding) -> tuple[Any, ...]:
        """It in float64."""
        query, value, key, *mask = values
        return self.attention.compute(query, key, value, *(one[:, None] for one in mask), rounding=rounding)


def attending(graph: Graph) -> Graph:
    """The same model with `MultiHeadAttention` and `SingleAttention` where Keras has a layer for an attention, the others spelled out.

    Example:
        >>> from parity.graph import Builder
        >>> build = Builder("model")
        >>> x = build.input("x", ("batch", "time", 4))
        >>> two = [build.call(Attention(name, scale), x, x, x) for name, scale in (("a", 1.0), ("b", 0.5))]
        >>> [type(node.operation).__name__ for node in attending(build.graph({"y": build.add(*two)})).nodes]
        ['Transpose', 'SingleAttention', 'MatMul', 'Constant', 'Elementwise', 'Softmax', 'MatMul', 'Elementwise']
    """
    plain = spelled_out(graph)
    found = with_attention(simplified(plain))
    sight = Sight(found)
    attentions = [node for node in found.nodes if isinstance(node.operation, Attention)]
    matches = {node.name: match for node in attentions if (match := _multi_head(node, sight) or _single(node, sight))}
    if not matches:
        return plain
    found = with_attention(simplified(plain), matches)
    draft, ends = Draft(found), {match.end: match for match in matches.values()}
    for node in found.nodes:
        if node.name in ends:
            match = ends[node.name]
            operation = replace(match.operation, name=draft.name_for(node))
            draft.keep(replace(node, operation=operation, inputs=match.inputs))
        else:
            draft.keep(node)
    return draft.finished()


# ---- which layer it is


@dataclass(frozen=True)
class _Match:
    """A whole layer: its last node, what it is, what it takes."""

    end: str
    operation: MultiHeadAttention | SingleAttention
    inputs: tuple[Wire, ...]


def _multi_head(node: Node, sight: Sight) -> _Match | None:
    """The layer whose inner attention a node is."""
    attention = node.operation
    assert isinstance(attention, Attention)
    query, key, value = (_projected(wire, sight) for wire in node.inputs[:3])
    hides = math.isfinite(attention.lowered) and attention.lowered <= _LOWEST
    mask = _mask(node, sight, 4, hides)
    end = _end(node, sight)
    if query is None or key is None or value is None or mask is None or end is None:
        return None
    output = end.operation
    assert isinstance(output, Dense)
    parts = (query.dense, key.dense, value.dense, output)
    usual = 1.0 / math.sqrt(query.size)
    if len({query.heads, key.heads, value.heads}) > 1 or len({part.held("bias") is None for part in parts}) > 1:
        return None
    if query.size != key.size or not math.isclose(attention.scale, usual, rel_tol=2.0**-23):
        return None
    operation = MultiHeadAttention(output.name, attention, query.heads, *parts)
    return _Match(end.name, operation, (query.x, value.x, key.x, *mask))


def _single(node: Node, sight: Sight) -> _Match | None:
    """The `layers.Attention` that a node is."""
    attention = node.operation
    assert isinstance(attention, Attention)
    query, key, value = node.inputs[:3]
    if attention.scale != 1.0 or len(sight.lengths[Wire(node.name)]) != 3:
        return None
    mask = _mask(node, sight, 3, attention.lowered == _LOWERED)
    if mask is None or query is None or key is None or value is None:
        return None
    return _Match(node.name, SingleAttention(attention.name, attention), (query, value, key, *mask))


@dataclass(frozen=True)
class _Projected:
    """A projection to heads: the layer, what it takes, heads and features of each."""

    dense: Dense
    x: Wire
    heads: int
    size: int


def _projected(wire: Wire | None, sight: Sight) -> _Projected | None:
    """The projection that gives (batch, head, time, size)."""
    turning = sight.inner(wire)
    split = sight.inner(turning.inputs[0]) if turning is not None and _is_heads(turning) else None
    node = sight.inner(split.inputs[0]) if split is not None and isinstance(split.operation, Reshape) else None
    if split is None or node is None or node.source or not _is_plain_dense(node, sight) or node.inputs[0] is None:
        return None
    lengths, before = sight.lengths[Wire(split.name)], sight.lengths[Wire(node.name)]
    if len(lengths) != 4 or len(before) != 3 or lengths[:2] != before[:2]:
        return None
    assert isinstance(node.operation, Dense)
    return _Projected(node.operation, node.inputs[0], lengths[2][0], lengths[3][0])


def _end(node: Node, sight: Sight) -> Node | None:
    """The projection of all heads that alone takes what an attention gives."""
    for step in (Transpose, Reshape, Dense):
        wire = Wire(node.name)
        if sight.inner(wire) is None:
            return None
        before, (node,) = node, sight.takers[wire]
        if not isinstance(node.operation, step) or (step is Transpose and not _is_heads(node)):
            return None
        lengths, known = sight.lengths[Wire(node.name)], sight.lengths[Wire(before.name)]
        if step is Reshape and (len(lengths) != 3 or lengths[:2] != known[:2]):
            return None
    return node if _is_plain_dense(node, sight) else None


def _is_heads(node: Node) -> bool:
    operation = node.operation
    return isinstance(operation, Transpose) and tuple(normalized(axis, 4) for axis in operation.axes) == _HEADS


def _is_plain_dense(node: Node, sight: Sight) -> bool:
    """Whether a node is the only call of a Dense without activation."""
    operation = node.operation
    calls = sum(one.operation is operation for one in sight.graph.nodes)
    return isinstance(operation, Dense) and operation.activation == "linear" and calls == 1


def _mask(node: Node, sight: Sight, rank: int, hides: bool) -> tuple[Wire, ...] | None:
    """What a layer is told of the mask of an attention, of whose axes it adds the second; None if it cannot be told it.

    Args:
        node: the attention.
        sight: of the graph.
        rank: axes of the scores.
        hides: whether the layer does with masked scores what the attention does.
    """
    if len(node.inputs) < 4:
        return ()
    wire = node.inputs[3]
    adding = sight.producer(wire)
    if wire is None or not hides or sight.kinds.get(wire) != "bool" or len(sight.lengths[wire]) != rank:
        return None
    if adding is None or not isinstance(adding.operation, ExpandDims) or adding.inputs[0] is None:
        return None
    axes = [normalized(axis, rank) for axis in adding.operation.axes]
    return (adding.inputs[0],) if axes == [1] else None


# ---- writing it


def write_multi_head_attention(writing: Writing, node: Node) -> None:
    """`layers.MultiHeadAttention`."""
    layer = node.operation
    assert isinstance(layer, MultiHeadAttention)
    size, width = (part.output_size // layer.heads for part in (layer.query, layer.value))
    arguments = [str(layer.heads), str(size), *([f"value_dim={width}"] if width != size else [])]
    arguments += [] if layer.query.held("bias") is not None else ["use_bias=False"]
    given = layer.output.output_size
    arguments += [f"output_shape={given}"] if given != layer.query.input_size else []
    weights = {
        f"{name}_dense/vars": _weights(part, layer.heads, name == "output") for name, part in layer.parts.items()
    }
    made = Made("MultiHeadAttention", (*arguments, *writing.more(writing.title(node))), weights)
    query, value, key, *masks = (writing.without_mask(one) for one in tensors_of(writing, node))
    options = {"attention_mask": masks[0]} if masks else {}
    options |= {"key": key} if node.inputs[2] != node.inputs[1] else {}
    told = [f"{name}={one}" for name, one in reversed(options.items())]
    told += ["use_causal_mask=True"] if layer.attention.causal else []
    calls = [one for taken in (query, value, *options.values()) for one in taken.calls]
    target, comment = writing.target(node), writing.shape_comment(Wire(node.name))
    number = writing.apply(made, (id(layer), ""), target, [str(query), str(value), *told], calls, comment)
    writing.give(node, Value(target, (number,)))


def _weights(part: Dense, heads: int, output: bool) -> list[Blocks]:
    """Kernel and bias with an axis of heads; source: `MultiHeadAttention.build` of Keras."""
    kernel = blocks_of(part.held("kernel"))
    shape = (
        (heads, part.input_size // heads, part.output_size)
        if output
        else (part.input_size, heads, part.output_size // heads)
    )
    found = [replace(kernel, shape=shape)]
    if part.held("bias") is not None:
        bias = blocks_of(part.held("bias"))
        found.append(bias if output else replace(bias, shape=shape[1:]))
    return found


def write_single_attention(writing: Writing, node: Node) -> None:
    """`layers.Attention`."""
    layer = node.operation
    assert isinstance(layer, SingleAttention)
    made = Made("Attention", tuple(writing.more(writing.title(node))))
    query, value, key, *masks = (writing.without_mask(one) for one in tensors_of(writing, node))
    taken = [query, value, *([key] if node.inputs[2] != node.inputs[1] else [])]
    told = [f"mask=[None, {mask}]" for mask in masks]
    told += ["use_causal_mask=True"] if layer.attention.causal else []
    calls = [one for value in (*taken, *masks) for one in value.calls]
    target, comment = writing.target(node), writing.shape_comment(Wire(node.name))
    inputs = texts([str(one) for one in taken])
    number = writing.apply(made, (id(layer), ""), target, [inputs, *told], calls, comment)
    writing.give(node, Value(target, (number,)))


__all__ = [
    "MultiHeadAttention",
    "SingleAttention",
    "attending",
    "write_multi_head_attention",
    "write_single_attention",
]
