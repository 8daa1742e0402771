"""Layers with weights that are not recurrent: dense ones, embeddings, normalizations; and Dropout and Masking."""

from __future__ import annotations

from parity.deferred import Array, Blocks, blocks_of
from parity.graph.graph import Node, Wire
from parity.graph.keras_code.text import Group, call, number, text
from parity.graph.keras_code.writing import Made, Value, Writing
from parity.graph.operations import (
    BatchNormalization,
    Constant,
    GroupNormalization,
    LayerNormalization,
    UnitNormalization,
)
from parity.network import Dense, Dropout, Embedding, Masking

_UNIT_EPSILON = 1e-12
"""Of `layers.UnitNormalization`, which has no option for it."""


def write_dense(writing: Writing, node: Node, activation: str = "") -> None:
    """`layers.Dense`, with an activation that follows it."""
    layer = node.operation
    assert isinstance(layer, Dense)
    own = text(layer.activation) if layer.activation != "linear" else activation
    arguments = [str(layer.output_size), *([f"activation={own}"] if own else [])]
    arguments += [] if layer.held("bias") is not None else ["use_bias=False"]
    made = Made(
        "Dense",
        (*arguments, *writing.more(writing.title(node))),
        {"vars": arrays_of(layer, "kernel", "bias")},
        masks=True,
    )
    _given(writing, node, made)


def write_embedding(writing: Writing, node: Node) -> None:
    """`layers.Embedding`; masks are values of their own."""
    layer = node.operation
    assert isinstance(layer, Embedding)
    arguments = (str(layer.input_size), str(layer.output_size), *writing.more(writing.title(node)))
    _given(writing, node, Made("Embedding", arguments, {"vars": arrays_of(layer, "table")}))


def write_dropout(writing: Writing, node: Node) -> None:
    """`layers.Dropout`."""
    layer = node.operation
    assert isinstance(layer, Dropout)
    _given(writing, node, Made("Dropout", (number(float(layer.rate)), *writing.more(writing.title(node))), masks=True))


def write_masking(writing: Writing, node: Node) -> None:
    """Zeros at the steps that `layers.Masking` leaves out; not that layer, which would hand on a mask unasked."""
    layer = node.operation
    assert isinstance(layer, Masking)
    x, name = _only(writing, node), f"{writing.identifier(node)}_valid"
    name = writing.variable(name)
    value = number(float(layer.mask_value))
    differs = Value(f"ops.not_equal({x}, {value})", (writing.noted("not_equal", [x]),))
    valid = writing.function(name, call("ops.any", str(differs), "axis=-1", "keepdims=True"), [differs])
    group = call("ops.where", name, str(x), "0.0")
    writing.give(
        node, writing.function(writing.target(node), group, [valid, x], writing.shape_comment(Wire(node.name)))
    )


def write_batch_normalization(writing: Writing, node: Node) -> None:
    """`layers.BatchNormalization`, which is told the moving averages last."""
    layer = node.operation
    assert isinstance(layer, BatchNormalization)
    arguments = (*_axis(layer.axis), *_affine(layer.epsilon, layer.held("gamma"), layer.held("beta")))
    weights = {"vars": arrays_of(layer, "gamma", "beta", "mean", "variance")}
    _given(
        writing, node, Made("BatchNormalization", (*arguments, *writing.more(writing.title(node))), weights, masks=True)
    )


def write_layer_normalization(writing: Writing, node: Node) -> None:
    """`layers.LayerNormalization`, or `layers.RMSNormalization`."""
    layer = node.operation
    assert isinstance(layer, LayerNormalization)
    gamma, beta = layer.held("gamma"), layer.held("beta")
    axis = f"axis={list(range(-layer.axes, 0))}" if layer.axes > 1 else ""
    if not layer.rms:
        arguments = [*([axis] if axis else []), *_affine(layer.epsilon, gamma, beta)]
        weights = {"vars": arrays_of(layer, "gamma", "beta")}
        made = Made("LayerNormalization", (*arguments, *writing.more(writing.title(node))), weights, masks=True)
        _given(writing, node, made)
        return
    if gamma is not None and beta is None and layer.axes == 1:
        epsilon = _epsilon(layer.epsilon, 1e-6)
        weights = {"vars": arrays_of(layer, "gamma")}
        _given(writing, node, Made("RMSNormalization", (*epsilon, *writing.more(writing.title(node))), weights))
        writing.notes.append(f"layer '{layer.name}': layers.RMSNormalization is in Keras from 3.9 on")
        return
    _write_mean_square(writing, node, layer)


def _write_mean_square(writing: Writing, node: Node, layer: LayerNormalization) -> None:
    """What `layers.RMSNormalization` cannot say: without gamma, with beta, or over several axes."""
    x, target = _only(writing, node), writing.target(node)
    axis = "axis=-1" if layer.axes == 1 else f"axis={list(range(-layer.axes, 0))}"
    squares = Value(f"ops.square({x})", (writing.noted("square", [x]),))
    mean = writing.function(
        writing.variable(f"{writing.identifier(node)}_square"),
        call("ops.mean", str(squares), axis, "keepdims=True"),
        [squares],
    )
    shifted = Value(f"{mean} + {number(float(layer.epsilon))}", (writing.noted("add", [mean]),))
    root = Value(f"ops.rsqrt({shifted})", (writing.noted("rsqrt", [shifted]),))
    value = writing.function(target, call("ops.multiply", str(x), str(root)), [x, root], stem="multiply")
    for function, member in (("multiply", "gamma"), ("add", "beta")):
        held = layer.held(member)
        if held is not None:
            weight = parameter(writing, node, member, held)
            value = writing.function(target, call(f"ops.{function}", target, str(weight)), [value, weight])
    writing.give(node, value)


def parameter(writing: Writing, node: Node, member: str, held: Array) -> Value:
    """A weight of an operation that becomes several of Keras."""
    return writing.parameter(
        f"{node.source or node.operation.name}_{member}",
        Constant(member, held, trained=True),
        (id(node.operation), member),
    )


def write_group_normalization(writing: Writing, node: Node) -> None:
    """`layers.GroupNormalization`."""
    layer = node.operation
    assert isinstance(layer, GroupNormalization)
    arguments = [
        str(layer.groups),
        *_axis(layer.axis),
        *_affine(layer.epsilon, layer.held("gamma"), layer.held("beta")),
    ]
    weights = {"vars": arrays_of(layer, "gamma", "beta")}
    _given(writing, node, Made("GroupNormalization", (*arguments, *writing.more(writing.title(node))), weights))


def write_unit_normalization(writing: Writing, node: Node) -> None:
    """`layers.UnitNormalization`, or a function where it has another epsilon."""
    layer = node.operation
    assert isinstance(layer, UnitNormalization)
    axes = layer.axes[0] if len(layer.axes) == 1 else list(layer.axes)
    if layer.epsilon == _UNIT_EPSILON:
        own = [] if axes == -1 else [f"axis={axes}"]
        _given(writing, node, Made("UnitNormalization", (*own, *writing.more(writing.title(node)))))
        return
    x = _only(writing, node)
    group = call("ops.normalize", str(x), f"axis={axes}", f"epsilon={number(float(layer.epsilon))}")
    comment = writing.shape_comment(Wire(node.name))
    writing.give(node, writing.function(writing.target(node), group, [x], comment))


def arrays_of(layer: object, *members: str) -> list[Blocks]:
    """Those of a layer's arrays that it has, in order."""
    held = [layer.held(member) for member in members]  # type: ignore[attr-defined]
    return [blocks_of(one) for one in held if one is not None]


def _only(writing: Writing, node: Node) -> Value:
    assert node.inputs[0] is not None
    return writing.value(node.inputs[0], tensor=True)


def _given(writing: Writing, node: Node, made: Made) -> None:
    comment = writing.shape_comment(Wire(node.name))
    writing.give(node, writing.layer(node, made, _only(writing, node), comment=comment))


def _axis(axis: int) -> list[str]:
    return [] if axis == -1 else [f"axis={axis}"]


def _epsilon(value: float, usual: float) -> list[str]:
    return [] if value == usual else [f"epsilon={number(float(value))}"]


def _affine(epsilon: float, gamma: object, beta: object) -> list[str | Group]:
    found: list[str | Group] = [*_epsilon(epsilon, 1e-3)]
    found += ["center=False"] if beta is None else []
    found += ["scale=False"] if gamma is None else []
    return found


__all__ = [
    "arrays_of",
    "parameter",
    "write_batch_normalization",
    "write_dense",
    "write_dropout",
    "write_embedding",
    "write_group_normalization",
    "write_layer_normalization",
    "write_masking",
    "write_unit_normalization",
]
