"""Scaled dot-product attention: every query takes the mean of the values, weighted by how well their keys fit."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from parity.errors import ShapeError
from parity.graph.operations.elementwise import Softmax
from parity.graph.operations.operation import Plain, Shape, all_of, broadcast
from parity.graph.operations.products import MatMul
from parity.reference import Rounding


@dataclass(frozen=True, eq=False)
class Attention(Plain):
    """softmax(query @ key.T * scale + mask) @ value; source: Vaswani et al. 2017, "Attention is all you need", formula 1.

    Takes query (..., t, d), key (..., s, d), value (..., s, e) and perhaps a mask that goes with (..., t, s): truth values, True where a
    query sees a value, or numbers that are added to the scores. Gives (..., t, e). A query that sees nothing, because all its scores are
    -inf, gives zeros, as `torch.nn.functional.scaled_dot_product_attention` from torch 2.5 on.

    Args:
        name: unique among the operations of a graph.
        scale: of the scores.
        lowered: what is added to a score where a mask of truth values is False; of -1e30 or less nothing of the score is left.
        causal: whether query i sees values 0 to i alone; there is no other mask then.

    Example:
        >>> from parity.reference import Exact
        >>> query, key, value = np.zeros((1, 2, 3)), np.ones((1, 2, 3)), np.array([[[1.0], [3.0]]])
        >>> Attention("attention", 1.0, causal=True).compute(query, key, value, rounding=Exact())[0].tolist()
        [[[1.0], [2.0]]]
    """

    scale: float
    lowered: float = -math.inf
    causal: bool = False

    def shapes(self, *shapes: Shape | None) -> tuple[Shape, ...]:
        """Of what it gives."""
        query, key, value = all_of(shapes[:3], 3, self.name)
        mask = shapes[3] if len(shapes) == 4 else None
        if len(shapes) > 4 or (self.causal and mask is not None):
            raise ShapeError("another number of inputs", self.name, "query, key, value, perhaps a mask", str(shapes))
        ranks = {len(query), len(key), len(value)}
        if len(ranks) > 1 or min(ranks) < 2 or query[-1] != key[-1] or key[-2] != value[-2] or not key[-2]:
            expected = "(..., t, d), (..., s, d) and (..., s, e)"
            raise ShapeError("query, key and value do not go together", self.name, expected, f"{query}, {key}, {value}")
        scores = (*broadcast([query[:-2], key[:-2], value[:-2]], self.name), query[-2], key[-2])
        if mask is not None and broadcast([scores, mask], self.name) != scores:
            raise ShapeError("a mask of another shape", self.name, str(scores), str(mask))
        return ((*scores[:-1], value[-1]),)

    def compute(self, *values: Any, rounding: Rounding) -> tuple[Any, ...]:
        """It in float64, with the roundings of its parts."""
        query, key, value = values[:3]
        mask = values[3] if len(values) == 4 else None
        (scores,) = MatMul(f"{self.name}.scores").compute(query, np.swapaxes(key, -1, -2), rounding=rounding)
        scores = rounding.product(scores * self.scale, f"{self.name}.scaled")
        if self.causal:
            mask = np.tri(*scores.shape[-2:], dtype=np.bool_)
        if mask is not None:
            added = np.where(mask, 0.0, self.lowered) if mask.dtype.kind == "b" else mask
            scores = rounding.product(scores + added, f"{self.name}.masked")
        sees = ~np.all(np.isneginf(scores), axis=-1, keepdims=True)
        (shares,) = Softmax(f"{self.name}.shares").compute(np.where(sees, scores, 0.0), rounding=rounding)
        return MatMul(self.name).compute(np.where(sees, shares, 0.0), value, rounding=rounding)


__all__ = ["Attention"]
