"""What is known of every value of a graph without running it: how many axes it has, and what kind of numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

import numpy as np

from parity.graph.graph import Graph, Node, Wire
from parity.graph.lengths import Lengths
from parity.graph.operations import (
    Activation,
    Attention,
    BatchNormalization,
    Cast,
    Concatenate,
    Constant,
    Convolution,
    Einsum,
    Elementwise,
    Expand,
    ExpandDims,
    Flip,
    GroupNormalization,
    LayerNormalization,
    MatMul,
    Pad,
    Pooling,
    Range,
    Reduction,
    Repeat,
    Reshape,
    Select,
    Slice,
    Softmax,
    Squeeze,
    Stack,
    Take,
    Transpose,
)
from parity.graph.operations.elementwise import TRUTHS
from parity.graph.operations.stub import Stub
from parity.network import Bidirectional, Dense, Dropout, Embedding, Masking, Recurrent

Kind: TypeAlias = Literal["float32", "int64", "bool"]

_SHAPING = (
    Concatenate, Expand, ExpandDims, Flip, Pad, Repeat, Reshape, Select, Slice, Squeeze, Stack, Take, Transpose, Dropout
)  # fmt: skip
_FLOATS = (Softmax, Activation, Pooling)
_WEIGHTED = (
    BatchNormalization, Bidirectional, Convolution, Dense, Embedding, GroupNormalization, LayerNormalization, Masking, Recurrent
)  # fmt: skip


_SAME_RANK = (
    Activation, BatchNormalization, Cast, Concatenate, Dropout, Elementwise, Flip, GroupNormalization, LayerNormalization, Pad,
    Repeat, Slice, Softmax,
)  # fmt: skip


def ranks_of(graph: Graph, lengths: Mapping[Wire, Lengths]) -> dict[Wire, int]:
    """How many axes every value has, where that is certain, also of many behind a stub.

    Example:
        >>> from parity.graph import Builder
        >>> build = Builder("model")
        >>> graph = build.graph({"y": build.transpose(build.input("x", ("batch", 4)), (1, 0))})
        >>> ranks_of(graph, {})[Wire("transpose")]
        2
    """
    found = {Wire(given.name): len(given.shape) for given in graph.inputs}
    found.update({wire: len(known) for wire, known in lengths.items()})
    for node in graph.nodes:
        operation = node.operation
        if isinstance(operation, (Convolution, Pooling)):
            found[Wire(node.name)] = len(operation.sizes) + 2
        elif isinstance(operation, Transpose):
            found[Wire(node.name)] = len(operation.axes)
        elif isinstance(operation, _SAME_RANK) and all(wire in found for wire in node.inputs if wire is not None):
            found[Wire(node.name)] = max((found[wire] for wire in node.inputs if wire is not None), default=0)
    return found


def kinds_of(graph: Graph) -> dict[Wire, Kind]:
    """What numbers every value has, where that is certain.

    Example:
        >>> from parity.graph import Builder
        >>> build = Builder("model")
        >>> x = build.input("x", ("batch", 4), "int64")
        >>> kinds_of(build.graph({"y": build.cast(x, "bool")}))[Wire("cast")]
        'bool'
    """
    found: dict[Wire, Kind] = {}
    for given in graph.inputs:
        kind = _known(given.dtype)
        if kind is not None:
            found[Wire(given.name)] = kind
    for node in graph.nodes:
        kind = _kind(node, found)
        if kind is not None:
            found[Wire(node.name)] = kind
    return found


def _known(dtype: str) -> Kind | None:
    return (
        "float32" if dtype.startswith("float") else "int64" if dtype == "int64" else "bool" if dtype == "bool" else None
    )


def _kind(node: Node, found: Mapping[Wire, Kind]) -> Kind | None:
    operation, kinds = node.operation, {found.get(wire) for wire in node.inputs if wire is not None}
    (alike,) = kinds if len(kinds) == 1 else (None,)
    if isinstance(operation, Cast):
        return operation.dtype
    if isinstance(operation, Constant):
        return _known(str(np.dtype(operation.held("value").dtype)))
    if isinstance(operation, (MatMul, Einsum)):
        return "float32" if alike == "float32" else None
    if isinstance(operation, Elementwise) and operation.function == "where":
        (first, *others) = (found.get(wire) for wire in node.inputs[1:] if wire is not None)
        return first if all(other == first for other in others) else None
    if isinstance(operation, Elementwise):
        return "bool" if operation.function in TRUTHS else "float32" if alike == "float32" else None
    if isinstance(operation, Reduction):
        return (
            "bool"
            if operation.function in ("any", "all")
            else "int64"
            if operation.function == "argmax"
            else "float32"
            if alike == "float32"
            else None
        )
    if isinstance(operation, Stub):
        return None
    if isinstance(operation, Range):
        return "int64"
    if isinstance(operation, Attention):
        return found.get(node.inputs[0]) if node.inputs[0] is not None else None
    if isinstance(operation, _WEIGHTED):
        return "float32"
    if isinstance(operation, _SHAPING):
        return found.get(node.inputs[0]) if isinstance(operation, (Expand, Reshape, Take)) and node.inputs[0] else alike
    return "float32" if isinstance(operation, _FLOATS) and alike == "float32" else None


__all__ = ["Kind", "kinds_of", "ranks_of"]
