"""Attention in torch: one function, which has kernels of its own on every device."""

from __future__ import annotations

import math

import numpy as np

from parity.graph.graph import Node, Wire
from parity.graph.operations import Attention
from parity.graph.torch_code.expressions import Expr, call, method, number
from parity.graph.torch_code.writer import Writer

_SINCE = "a step that a mask hides everything from gives zeros from torch 2.5 on, NaN before"


def attention(w: Writer, node: Node) -> Expr:
    """`F.scaled_dot_product_attention`; source: its documentation, whose formula `Attention` has."""
    operation = node.operation
    assert isinstance(operation, Attention)
    wires = [wire for wire in node.inputs if wire is not None]
    query, key, value, *masks = w.take(*wires)
    options = [_mask(w, node, masks[0], wires[3])] if masks else []
    options += ["is_causal=True"] if operation.causal else []
    if not _is_usual(w, operation.scale, wires[0]):
        options.append(f"scale={number(operation.scale, w.float_type == np.float32).text}")
    return call("F.scaled_dot_product_attention", query, key, value, *options)


def _mask(w: Writer, node: Node, mask: Expr, wire: Wire) -> str:
    operation = node.operation
    assert isinstance(operation, Attention)
    if w.kinds.get(wire) == "bool" and math.isfinite(operation.lowered):
        double = w.float_type == np.float64
        mask = call("torch.where", mask, "0.0", number(operation.lowered, not double).text)
        mask = method(mask, "double") if double else mask
    elif w.kinds.get(wire) == "bool":
        w.notes.append(f"'{node.source or node.name}': {_SINCE}")
    return f"attn_mask={mask.text}"


def _is_usual(w: Writer, scale: float, query: Wire) -> bool:
    """Whether a scale is the one that torch takes unasked, 1 / sqrt(features)."""
    shape = w.shape(query)
    size = None if shape is None else shape[-1]
    if not isinstance(size, int) or not size:
        return False
    usual = 1.0 / math.sqrt(size)
    return scale == usual or (w.float_type == np.float32 and math.isclose(scale, usual, rel_tol=2.0**-23))


__all__ = ["attention"]
