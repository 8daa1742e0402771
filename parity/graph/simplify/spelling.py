"""Attention as products, a mask and a softmax: for what has no operation for it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from parity.graph.calls import Layered
from parity.graph.graph import Graph, Node, Wire
from parity.graph.lengths import lengths_of
from parity.graph.operations import (
    Attention,
    Constant,
    Elementwise,
    ExpandDims,
    Length,
    MatMul,
    Range,
    Reduction,
    Softmax,
    Transpose,
)
from parity.graph.simplify.draft import Draft
from parity.graph.simplify.facts import kinds_of, ranks_of
from parity.graph.simplify.finite import is_finite

_LOWEST = -0.7 * float(np.finfo(np.float32).max)
"""Of scores that are masked: what is left of it after a softmax is put to zero."""

_FARTHEST = -1e30
"""Nothing is left of a score to which it is added."""


def spelled_out(graph: Graph) -> Graph:
    """The same model, to rounding, without any `Attention`; what `with_attention` finds again.

    Example:
        >>> from parity.graph import Builder
        >>> build = Builder("model")
        >>> x = build.input("x", ("batch", "time", 4))
        >>> made = spelled_out(build.graph({"y": build.call(Attention("attention", 0.5), x, x, x)}))
        >>> [type(node.operation).__name__ for node in made.nodes]
        ['Transpose', 'MatMul', 'Constant', 'Elementwise', 'Softmax', 'MatMul']
    """
    if not any(isinstance(node.operation, Attention) for node in graph.nodes):
        return graph
    draft, ranks, kinds = Draft(graph), ranks_of(graph, lengths_of(graph)), kinds_of(graph)
    for node in graph.nodes:
        if isinstance(node.operation, Attention):
            mask = node.inputs[3] if len(node.inputs) == 4 else None
            truth = mask is not None and kinds.get(mask) == "bool"
            certain = mask is not None and not truth and is_finite(mask, graph)
            _Spelling(draft, node, node.operation).spell(ranks[Wire(node.name)], mask, truth, certain)
        else:
            draft.keep(node)
    return draft.finished()


class _Spelling:
    """Adds the nodes of one attention."""

    def __init__(self, draft: Draft, node: Node, attention: Attention) -> None:
        self._draft, self._node, self._attention = draft, node, attention

    def spell(self, rank: int, mask: Wire | None, truth: bool, certain: bool) -> None:
        """All of it.

        Args:
            rank: axes of the result.
            mask: what the attention takes beside query, key and value.
            truth: whether that holds truth values.
            certain: whether it holds finite numbers, whatever the inputs are.
        """
        query, key, value = self._node.inputs[:3]
        turned = self._add(Transpose, "key", (key,), axes=(*range(rank - 2), rank - 1, rank - 2))
        product = self._add(MatMul, "product", (query, turned))
        scores = self._elementwise("multiply", "scores", product, self._number(self._attention.scale, "scale"))
        if self._attention.causal:
            mask, truth = self._causal(query, key, rank), True
        shares = self._shares(scores, mask, truth, certain)
        name = self._draft.name_for(self._node)
        self._draft.keep(Node(self._node.name, MatMul(name), (shares, value), self._node.source))

    def _shares(self, scores: Wire, mask: Wire | None, truth: bool, certain: bool) -> Wire:
        lowered = self._attention.lowered
        if mask is None:
            return self._add(Softmax, "shares", (scores,))
        if truth and math.isfinite(lowered):
            if lowered <= _FARTHEST:
                other = self._number(lowered, "lowest")
            else:
                other = self._elementwise("subtract", "lowered", scores, self._number(-lowered, "far"))
            return self._add(Softmax, "shares", (self._elementwise("where", "masked", mask, scores, other),))
        if not truth:
            return self._added(self._elementwise("add", "masked", scores, mask), certain)
        hidden = self._elementwise("where", "hidden", mask, scores, self._number(_LOWEST, "lowest"))
        shares = self._add(Softmax, "softmax", (hidden,))
        return self._elementwise("where", "shares", mask, shares, self._number(0.0, "none"))

    def _added(self, scores: Wire, certain: bool) -> Wire:
        """The shares of scores to which a mask was added; zeros where all of them are -inf, if they are not finite for certain."""
        if certain:
            return self._add(Softmax, "shares", (scores,))
        highest = self._add(Reduction, "highest", (scores,), function="max", axes=(-1,), keepdims=True)
        none = self._number(0.0, "none")
        sees = self._elementwise("not_equal", "sees", highest, self._number(-math.inf, "infinity"))
        shares = self._add(Softmax, "softmax", (self._elementwise("where", "some", sees, scores, none),))
        return self._elementwise("where", "shares", sees, shares, none)

    def _causal(self, query: Wire | None, key: Wire | None, rank: int) -> Wire:
        """(t, s): whether a query is not before a value."""
        rows, columns = (
            self._add(Range, part, (wire,), size=Length(0, rank - 2))
            for part, wire in (("row", query), ("column", key))
        )
        return self._elementwise("greater_equal", "causal", self._add(ExpandDims, "rows", (rows,), axes=(1,)), columns)

    def _number(self, value: float, part: str) -> Wire:
        return self._add(Constant, part, (), array=np.asarray(value, np.float32))

    def _elementwise(self, function: str, part: str, *inputs: Wire | None) -> Wire:
        return self._add(Elementwise, part, inputs, function=function)

    def _add(self, kind: Any, part: str, inputs: tuple[Wire | None, ...], array: Any = None, **options: Any) -> Wire:
        name = self._draft.unique(f"{self._node.name}_{part}")
        operation: Layered = kind(name, array) if array is not None else kind(name, **options)
        return self._draft.keep(Node(name, operation, inputs))


__all__ = ["spelled_out"]
