"""Layers with weights beside the recurrent ones: Dense, Embedding, constants; masking; products of two values."""

from __future__ import annotations

import numpy as np

from parity.frameworks.onnx.whole.writing_values import Call, together
from parity.graph.operations import Constant, Einsum, Range
from parity.network import Dense, Embedding, Masking
from parity.network.activations import ACTIVATIONS


def write_dense(call: Call) -> None:
    """A product and a sum on the last axis."""
    layer = call.operation
    assert isinstance(layer, Dense)
    names = call.weights(layer.arrays)
    x = call.taken(call.x, "float")
    value = call.assembly.node("MatMul", [x, names["kernel"]], f"{call.name}.product", call.name)
    if "bias" in names:
        value = call.op("Add", value, names["bias"], what="sum")
    if layer.activation != "linear":
        op = ACTIVATIONS[layer.activation].onnx
        value = call.op(op, value, what=layer.activation, **({"axis": -1} if op == "Softmax" else {}))
    call.give(value)


def write_embedding(call: Call) -> None:
    """A row of the table for every integer."""
    layer = call.operation
    assert isinstance(layer, Embedding)
    table = call.weights(layer.arrays)["table"]
    call.give(call.op("Gather", table, call.taken(call.x, "int"), what="rows", axis=0))


def write_masking(call: Call) -> None:
    """Zeros where all features have the value that marks a step."""
    layer = call.operation
    assert isinstance(layer, Masking)
    x = call.taken(call.x, "float")
    # The value is compared as float32, as `Masking.mask` does.
    marked = call.op("Equal", x, call.number("mask_value", float(np.float32(layer.mask_value))), what="marked")
    valid = call.any_of(call.op("Not", marked, what="differs"), [-1], True)
    call.give(call.op("Where", valid, x, call.number("zero", 0.0), what="output"))


def write_dropout(call: Call) -> None:
    """Nothing: it is what it takes."""
    call.hand_on(call.x)


def write_constant(call: Call) -> None:
    """An initializer under the name of the parameter."""
    constant = call.operation
    assert isinstance(constant, Constant)
    (name,) = call.weights({"value": constant.value}).values()
    kind = constant.held("value").dtype.kind
    call.give(name, "float" if kind == "f" else "bool" if kind == "b" else "int")


def write_range(call: Call) -> None:
    """0, 1, 2, ... as many as an axis of an input says."""
    operation = call.operation
    assert isinstance(operation, Range)
    shape = call.shape([operation.size], keep=False)
    count = call.op("Squeeze", shape, call.integers("axis", 0), what="number")
    start, step = (call.number(key, value, "int") for key, value in (("start", 0), ("step", 1)))
    call.give(call.op("Range", start, count, step, what="output"), "int")


def write_matmul(call: Call) -> None:
    """The matrix product, which broadcasts as NumPy's does."""
    kind = together([held.kind for held in call.present])
    wanted = "float" if kind == "bool" else kind
    found = call.op("MatMul", *(call.taken(held, wanted) for held in call.present))
    call.give(call.cast(found, wanted, kind), kind)


def write_einsum(call: Call) -> None:
    """Sums of products, by the same equation."""
    operation = call.operation
    assert isinstance(operation, Einsum)
    kind = together([held.kind for held in call.present])
    wanted = "float" if kind == "bool" else kind
    tensors = [call.taken(held, wanted) for held in call.present]
    found = call.op("Einsum", *tensors, equation=operation.equation)
    call.give(call.cast(found, wanted, kind), kind)


__all__ = [
    "write_constant",
    "write_dense",
    "write_dropout",
    "write_einsum",
    "write_embedding",
    "write_masking",
    "write_matmul",
    "write_range",
]
