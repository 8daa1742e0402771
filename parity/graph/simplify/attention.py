"""Finds attention that is spelled out, as product, scale, mask, softmax and product, and says it as one operation."""

from __future__ import annotations

import math
from collections.abc import Container, Iterator
from dataclasses import dataclass, replace

import numpy as np

from parity.graph.graph import Graph, Node, Wire
from parity.graph.operations import (
    Activation,
    Attention,
    Constant,
    Einsum,
    Elementwise,
    ExpandDims,
    MatMul,
    Range,
    Softmax,
    Transpose,
    normalized,
)
from parity.graph.simplify.draft import Draft
from parity.graph.simplify.finite import is_finite
from parity.graph.simplify.moving import is_identity
from parity.graph.simplify.sight import Sight

_FAR, _FARTHEST = -1e9, -1e30
"""Beside another score, one that is so low has no share; to one that is `_FARTHEST`, a score can be added without changing it."""

_NO_SCALE = {"multiply": lambda number: number, "divide": lambda number: 1.0 / number}


def with_attention(graph: Graph, wanted: Container[str] | None = None) -> Graph:
    """The same model, to rounding, with an `Attention` wherever one is spelled out.

    Scores and shares that are taken elsewhere, are an output or are a layer of their own stay, and so does a mask whose `Attention`
    would give something else where a query sees nothing: NaN or a mean of what it must not see in one, zeros in the other.

    Args:
        graph: any; in one that was simplified more are found.
        wanted: names of the nodes that may become one, those that give the result; all by default.

    Example:
        >>> from parity.graph import Builder
        >>> build = Builder("model")
        >>> x = build.input("x", ("batch", "time", 4))
        >>> shares = build.softmax(build.multiply(build.matmul(x, build.transpose(x, (0, 2, 1))), 0.5))
        >>> made = with_attention(build.graph({"y": build.matmul(shares, x, name="summary")}))
        >>> [(node.name, [str(wire) for wire in node.inputs]) for node in made.nodes]
        [('summary', ['x', 'x', 'x'])]
    """
    if not any(isinstance(node.operation, Softmax) for node in graph.nodes):
        return graph
    sight, draft = Sight(graph), Draft(graph)
    for node in graph.nodes:
        found = _found(node, sight) if wanted is None or node.name in wanted else None
        if found is None:
            draft.keep(node)
            continue
        query, key = (_turned(draft, wire, axes) for wire, axes in (found.query, found.key))
        operation = Attention(draft.name_for(node), found.scale, found.mask.lowered, found.mask.causal)
        mask = () if found.mask.wire is None or found.mask.causal else (found.mask.wire,)
        draft.keep(replace(node, operation=operation, inputs=(query, key, found.value, *mask)))
    return draft.finished()


def _turned(draft: Draft, wire: Wire, axes: tuple[int, ...]) -> Wire:
    """A value with its axes in an order, or as it is if that is empty."""
    if not axes:
        return wire
    name = draft.unique(f"{wire.node.removesuffix('_split')}_heads")
    return draft.keep(Node(name, Transpose(name, axes), (wire,)))


@dataclass(frozen=True)
class _Mask:
    """What is done to the scores, as `Attention` says it; it takes them so many times."""

    wire: Wire | None = None
    lowered: float = -math.inf
    causal: bool = False
    times: int = 1


@dataclass(frozen=True)
class _Found:
    """An attention; query and key each with their axes in an order, if that is not empty."""

    query: tuple[Wire, tuple[int, ...]]
    key: tuple[Wire, tuple[int, ...]]
    value: Wire
    scale: float
    mask: _Mask


def _found(node: Node, sight: Sight) -> _Found | None:
    """The attention whose result a node gives."""
    if not _is_product(node, "ts,sd->td"):
        return None
    shares, value = node.inputs
    softmax, seen = sight.inner(shares), None
    if softmax is not None and _is(softmax, "where") and sight.scalar(softmax.inputs[2]) == 0.0:
        seen, softmax = softmax.inputs[0], sight.inner(softmax.inputs[1])
    if softmax is None or not isinstance(softmax.operation, Softmax) or value is None:
        return None
    rank = len(sight.lengths.get(Wire(softmax.name), ()))
    if softmax.operation.log or rank < 3 or normalized(softmax.operation.axis, rank) != rank - 1:
        return None
    for scores, mask in _masks(softmax.inputs[0], seen, sight):
        found = _scored(scores, value, mask, sight)
        if found is not None and _fits(found, sight):
            return found
    return None


def _is(node: Node | None, function: str) -> bool:
    return node is not None and isinstance(node.operation, Elementwise) and node.operation.function == function


def _is_product(node: Node, letters: str) -> bool:
    """Whether a node multiplies stacks of matrices as some letters say, batch axes left out."""
    if not isinstance(node.operation, Einsum):
        return isinstance(node.operation, MatMul)
    terms = node.operation.equation.replace(" ", "").replace("->", ",").split(",")
    if len(terms) != 3 or any(len(term) != len(terms[0]) or term[:-2] != terms[0][:-2] for term in terms):
        return False
    own = "".join(term[-2:] for term in terms)
    places = letters.replace("->", ",").replace(",", "")
    batch = set(terms[0][:-2])
    pairs = set(zip(own, places, strict=True))
    return len(pairs) == len(set(own)) == len(set(places)) and not batch & set(own)


# ---- masks


def _masks(wire: Wire | None, seen: Wire | None, sight: Sight) -> Iterator[tuple[Wire | None, _Mask]]:
    """The scores without their mask, and the mask; several, if either of two summands may be one.

    Args:
        wire: what the softmax takes.
        seen: where shares are taken, all others being zeros; None if all are.
        sight: of the graph.
    """
    node = sight.inner(wire)
    if node is not None and _is(node, "where"):
        mask = _hidden(node, seen, sight)
        if mask is not None:
            yield node.inputs[1], mask
        return
    if seen is not None:
        return
    if node is not None and _is(node, "add") and len(node.inputs) == 2:
        for scores, added in (node.inputs, node.inputs[::-1]):
            if added is not None and sight.kinds.get(added) == "float32" and is_finite(added, sight.graph):
                yield scores, _Mask(added)
    yield wire, _Mask()


def _hidden(node: Node, seen: Wire | None, sight: Sight) -> _Mask | None:
    """A mask of truth values, if an `Attention` does the same with it."""
    valid, scores, other = node.inputs
    if valid is None or sight.kinds.get(valid) != "bool" or (seen is not None and seen != valid):
        return None
    level, lowered, times = sight.scalar(other), -math.inf, 1
    if level is None:
        below = sight.inner(other)
        taken = sight.scalar(below.inputs[1]) if below is not None and _is(below, "subtract") else None
        if below is None or taken is None or below.inputs[0] != scores:
            return None
        level, lowered, times = -taken, -taken, 2
    elif level <= _FARTHEST:
        lowered = level
    if level <= _FAR and _is_causal(valid, sight):
        return _Mask(valid, causal=True, times=times)
    if seen is not None:
        return _Mask(valid, times=times) if level <= _FAR else None
    return _Mask(valid, lowered, times=times) if math.isfinite(lowered) else None


def _is_causal(valid: Wire, sight: Sight) -> bool:
    """Whether a mask is True up to the diagonal of the last two axes, whatever their lengths are."""
    lengths = sight.lengths.get(valid, ())
    if len(lengths) < 2 or any(set(axis) != {1} for axis in lengths[:-2]):
        return False
    node = sight.producer(valid)
    while node is not None and isinstance(node.operation, ExpandDims):
        if sight.lengths[Wire(node.name)][-2:] != lengths[-2:]:
            return False
        node = sight.producer(node.inputs[0])
    if node is None or sight.lengths[Wire(node.name)][-2:] != lengths[-2:]:
        return False
    if isinstance(node.operation, Constant):
        return bool(np.all(node.operation.value == np.tri(*node.operation.held("value").shape[-2:], dtype=np.bool_)))
    later, earlier = node.inputs[:2] if _is(node, "greater_equal") else node.inputs[1::-1]
    if not (_is(node, "greater_equal") or _is(node, "less_equal")):
        return False
    return _counts(later, -2, lengths[-2], sight) and _counts(earlier, -1, lengths[-1], sight)


def _counts(wire: Wire | None, axis: int, lengths: tuple[int, ...], sight: Sight) -> bool:
    """Whether a value is 0, 1, 2, ... along an axis of these lengths, all others being one."""
    own = {place - len(sight.lengths[wire]): one for place, one in enumerate(sight.lengths[wire])} if wire else {}
    node = sight.producer(wire)
    while node is not None and isinstance(node.operation, ExpandDims):
        node = sight.producer(node.inputs[0])
    ones = all(set(one) == {1} for place, one in own.items() if place != axis)
    return node is not None and isinstance(node.operation, Range) and own.get(axis) == lengths and ones


# ---- scores


def _scored(scores: Wire | None, value: Wire, mask: _Mask, sight: Sight) -> _Found | None:
    """The attention whose scores, without their mask, are these."""
    product, scale = _unscaled(scores, sight, mask.times)
    node = sight.inner(product, mask.times if product == scores else 1)
    if node is None or not (isinstance(node.operation, MatMul) or _is_product(node, "td,sd->ts")):
        return None
    (query, of_query), (key, of_key) = (_unscaled(wire, sight) for wire in node.inputs)
    if query is None or key is None:
        return None
    asked, of_asked = _beneath(query, sight)
    scale *= of_query * of_key * of_asked
    asked = asked if of_asked != 1.0 else (query, ())
    if isinstance(node.operation, Einsum):
        return _Found(asked, (key, ()), value, scale, mask)
    (key, axes), of_beneath = _beneath(key, sight)
    if not axes:
        return None
    axes = (*axes[:-2], axes[-1], axes[-2])
    return _Found(asked, (key, () if is_identity(axes) else axes), value, scale * of_beneath, mask)


def _beneath(wire: Wire, sight: Sight) -> tuple[tuple[Wire, tuple[int, ...]], float]:
    """What a Transpose gives, as what it takes without the numbers by which that is multiplied, the order of axes, and those numbers."""
    turning = sight.producer(wire)
    if turning is None or not isinstance(turning.operation, Transpose):
        return (wire, ()), 1.0
    rank = len(turning.operation.axes)
    found, factor = _unscaled(turning.inputs[0], sight)
    assert found is not None
    return (found, tuple(normalized(axis, rank) for axis in turning.operation.axes)), factor


def _unscaled(wire: Wire | None, sight: Sight, times: int = 1) -> tuple[Wire | None, float]:
    """A value without the numbers by which it is multiplied, and their product."""
    factor = 1.0
    while (node := sight.inner(wire, times)) is not None:
        operation, inputs = node.operation, node.inputs
        if isinstance(operation, Activation) and operation.function.name == "affine" and not operation.function.beta:
            number: float | None = operation.function.alpha
            rest = inputs[0]
        elif isinstance(operation, Elementwise) and operation.function in _NO_SCALE and len(inputs) == 2:
            pairs = [inputs, inputs[::-1]][: 2 if operation.function == "multiply" else 1]
            rest, number = next(
                ((one, found) for one, other in pairs if (found := sight.scalar(other)) is not None), (None, None)
            )
            number = _NO_SCALE[operation.function](number) if number else None
        else:
            break
        if number is None:
            break
        wire, factor, times = rest, factor * number, 1
    return wire, factor


def _fits(found: _Found, sight: Sight) -> bool:
    """Whether query, key, value and mask are such that every framework's own attention takes them."""
    pairs = (found.query, found.key, (found.value, ()))
    if any(wire not in sight.lengths or sight.kinds.get(wire) != "float32" for wire, _ in pairs):
        return False
    query, key, value = (
        tuple(sight.lengths[wire][axis] for axis in axes or range(len(sight.lengths[wire]))) for wire, axes in pairs
    )
    if (
        not math.isfinite(found.scale)
        or not 3 <= len(query) == len(key) == len(value)
        or not query[:-2] == key[:-2] == value[:-2]
    ):
        return False
    if found.mask.wire is None:
        return True
    mask, scores = sight.lengths.get(found.mask.wire, ()), (*query[:-1], key[-2])
    if found.mask.causal and mask[-2:] != scores[-2:]:
        return False
    ends = zip(mask[::-1], scores[::-1], strict=False)
    return 2 <= len(mask) <= len(scores) and all(set(one) == {1} or one == other for one, other in ends)


__all__ = ["with_attention"]
