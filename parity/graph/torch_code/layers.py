"""Layers with weights, pooling, and what marks or drops steps, as modules of `torch.nn`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from parity.deferred import Blocks, blocks_of
from parity.functions import Function
from parity.graph.graph import Node, Wire
from parity.graph.operations import (
    BatchNormalization,
    Constant,
    Convolution,
    Elementwise,
    GroupNormalization,
    LayerNormalization,
    Padding,
    Pooling,
    Reduction,
    Stub,
    normalized,
)
from parity.graph.torch_code.elementwise import activated
from parity.graph.torch_code.expressions import Expr, binary, call, index, method, number
from parity.graph.torch_code.shaping import padded, permuted
from parity.graph.torch_code.weights import filled, given_or, rearranged
from parity.graph.torch_code.writer import Writer
from parity.network import Dense, Dropout, Embedding, Masking

_LAYER = 2
"""The weight of a call of a module."""

_LINE = 3
"""What a module takes is a variable, so that there is room for an activation around it."""


def _wire(node: Node) -> Wire:
    wire = node.inputs[0]
    assert wire is not None
    return wire


def _made(name: str, *arguments: str) -> str:
    return f"nn.{name}({', '.join(one for one in arguments if one)})"


def _option(name: str, value: Any, usual: Any) -> str:
    return "" if value == usual else f"{name}={value!r}"


def dense(w: Writer, node: Node) -> Expr:
    """A `Dense` node."""
    layer = node.operation
    assert isinstance(layer, Dense)
    weights = {"weight": rearranged(layer.held("kernel"), (1, 0))}
    if layer.held("bias") is not None:
        weights["bias"] = blocks_of(layer.held("bias"))
    bias = _option("bias", "bias" in weights, True)
    value = _made("Linear", str(layer.input_size), str(layer.output_size), bias)
    module = w.module(layer, value, weights)
    (x,) = w.take(_wire(node), own=_LINE)
    found = call(module, x, weight=_LAYER)
    if layer.activation == "linear":
        return found
    return (
        call("torch.softmax", found, "dim=-1")
        if layer.activation == "softmax"
        else activated(Function(layer.activation), found)
    )


def embedding(w: Writer, node: Node) -> Expr:
    """An `Embedding` node."""
    layer = node.operation
    assert isinstance(layer, Embedding)
    value = _made("Embedding", str(layer.input_size), str(layer.output_size))
    module = w.module(layer, value, {"weight": blocks_of(layer.held("table"))})
    (x,) = w.take(_wire(node), own=_LINE)
    return call(module, method(x, "long") if w.kinds.get(_wire(node)) == "float32" else x, weight=_LAYER)


def dropout(w: Writer, node: Node) -> Expr:
    """A `Dropout` node: it does nothing after eval(), but belongs to the model."""
    layer = node.operation
    assert isinstance(layer, Dropout)
    module = w.module(layer, _made("Dropout", f"{float(layer.rate):.6g}"), {})
    (x,) = w.take(_wire(node), own=_LINE)
    return call(module, x, weight=_LAYER)


def mask_node(w: Writer, node: Node) -> Node | None:
    """The node that says which steps a `Masking` node leaves, if the graph has one."""
    layer = node.operation
    assert isinstance(layer, Masking)
    for other in w.graph.nodes:
        operation = other.operation
        if not isinstance(operation, Reduction) or operation.function != "any" or operation.keepdims:
            continue
        if operation.axes not in ((-1,), ((w.rank(_wire(node)) or 0) - 1,)):
            continue
        differs = w.nodes.get(_wire(other).node)
        if (
            differs is None
            or not isinstance(differs.operation, Elementwise)
            or differs.operation.function != "not_equal"
        ):
            continue
        x, value = differs.inputs
        if x == node.inputs[0] and value is not None and w.scalar(value) == np.float32(layer.mask_value):
            return other
    return None


def masking(w: Writer, node: Node) -> Expr:
    """A `Masking` node."""
    layer = node.operation
    assert isinstance(layer, Masking)
    found = mask_node(w, node)
    if found is not None:
        mask = method(w.name(Wire(found.name)), "unsqueeze", "-1")
        (x,) = w.take(_wire(node), own=2)
    else:
        x = w.name(_wire(node))
        value = number(float(np.float32(layer.mask_value)), w.float_type == np.float32)
        mask = method(binary("!=", x, value), "any", "dim=-1", "keepdim=True")
    return call("torch.where", mask, x, "0.0")


# ---- convolutions and pooling


def _numbers(values: tuple[int, ...]) -> str:
    return str(values[0]) if len(set(values)) == 1 else str(values)


def _spatial(name: str, values: tuple[int, ...], usual: int) -> str:
    return "" if set(values) == {usual} else f"{name}={_numbers(values)}"


def _in_channels_first(w: Writer, wire: Wire, last: bool, rank: int) -> tuple[Expr, Callable[[Expr], Expr]]:
    """A value with its channels on axis 1, and what turns a result back."""
    if not last:
        return w.name(wire), lambda found: found
    x = w.name(wire)
    there = (0, rank - 1, *range(1, rank - 1))
    return permuted(x, there), lambda found: permuted(found, (0, *range(2, rank), 1))


def _pads(padding: Padding, reaches: tuple[int, ...], strides: tuple[int, ...]) -> tuple[tuple[int, int], ...] | None:
    """What is added before and after each axis; None where that depends on its length."""
    if padding != "same":
        return padding
    if set(strides) != {1}:
        return None
    return tuple(((reach - 1) // 2, reach - 1 - (reach - 1) // 2) for reach in reaches)


def _reaches(sizes: tuple[int, ...], dilations: tuple[int, ...]) -> tuple[int, ...]:
    return tuple((size - 1) * dilation + 1 for size, dilation in zip(sizes, dilations, strict=True))


def _same_for_any_length(w: Writer, x: Expr, operation: Convolution | Pooling, value: str = "") -> Expr:
    options = (operation.sizes, operation.strides, operation.dilations)
    return call(w.helper("pad_same"), x, *map(str, options), *([f"value={value}"] if value else []))


def convolution(w: Writer, node: Node) -> Expr:
    """A `Convolution` node."""
    layer = node.operation
    assert isinstance(layer, Convolution)
    dimensions = len(layer.sizes)
    pads = _pads(layer.padding, _reaches(layer.sizes, layer.dilations), layer.strides)
    even = pads is not None and all(before == after for before, after in pads)
    padding = ""
    if pads is not None and even and any(pads):
        same = layer.padding == "same" and pads != ((0, 0),) * dimensions
        padding = 'padding="same"' if same else _spatial("padding", tuple(before for before, _ in pads), 0)
    weights = {"weight": rearranged(layer.held("kernel"), (dimensions + 1, dimensions, *range(dimensions)))}
    if layer.held("bias") is not None:
        weights["bias"] = blocks_of(layer.held("bias"))
    value = _made(
        f"Conv{dimensions}d",
        str(layer.input_size),
        str(layer.output_size),
        f"kernel_size={_numbers(layer.sizes)}",
        _spatial("stride", layer.strides, 1),
        padding if padding != "padding=0" else "",
        _spatial("dilation", layer.dilations, 1),
        _option("groups", layer.groups, 1),
        _option("bias", "bias" in weights, True),
    )
    module = w.module(layer, value, weights)
    x, back = _in_channels_first(w, _wire(node), layer.channels_last, len(layer.sizes) + 2)
    if pads is None:
        x = _same_for_any_length(w, x, layer)
    elif not even:
        x = padded(x, pads)
    return back(call(module, x, weight=_LAYER))


def pooling(w: Writer, node: Node) -> Expr:
    """A `Pooling` node."""
    layer = node.operation
    assert isinstance(layer, Pooling)
    x, back = _in_channels_first(w, _wire(node), layer.channels_last, len(layer.sizes) + 2)
    reaches = _reaches(layer.sizes, layer.dilations)
    pads = _pads(layer.padding, reaches, layer.strides)
    none = pads is not None and not any(map(any, pads))
    within = pads is not None and all(a == b and 2 * a <= size for (a, b), size in zip(pads, layer.sizes, strict=True))
    padding = "" if none or pads is None else f"padding={_numbers(tuple(before for before, _ in pads))}"
    options = [_numbers(layer.sizes), "" if layer.strides == layer.sizes else f"stride={_numbers(layer.strides)}"]
    if layer.function == "max":
        dilation = _spatial("dilation", layer.dilations, 1)
        if not within:
            x = _same_for_any_length(w, x, layer, "-math.inf") if pads is None else padded(x, pads, "-math.inf")
            padding = ""
        module = w.module(layer, _made(f"MaxPool{len(layer.sizes)}d", *options, padding, dilation), {})
        return back(call(module, x, weight=_LAYER))
    if set(layer.dilations) != {1}:
        return back(_dilated_mean(w, node, x, layer, pads))
    if within:
        counted = "" if none or layer.counts_padding else "count_include_pad=False"
        module = w.module(layer, _made(f"AvgPool{len(layer.sizes)}d", *options, padding, counted), {})
        return back(call(module, x, weight=_LAYER))
    module = w.module(layer, _made(f"AvgPool{len(layer.sizes)}d", *options), {})
    if layer.counts_padding:
        return back(call(module, _around(w, x, layer, pads), weight=_LAYER))
    x = x if x.is_name else w.body.assign(x, w.wanted(node))
    counts = call(module, _around(w, call("torch.ones_like", x), layer, pads), weight=_LAYER)
    counts = w.body.assign(counts, ["counts"])
    return back(binary("/", call(module, _around(w, x, layer, pads), weight=_LAYER), counts))


def _around(w: Writer, x: Expr, layer: Pooling, pads: tuple[tuple[int, int], ...] | None) -> Expr:
    return _same_for_any_length(w, x, layer) if pads is None else padded(x, pads)


def _dilated_mean(w: Writer, node: Node, x: Expr, layer: Pooling, pads: tuple[tuple[int, int], ...] | None) -> Expr:
    """torch has no dilation in its mean pooling."""
    x = x if x.is_name else w.body.assign(x, w.wanted(node))
    none = pads is not None and not any(map(any, pads))

    def summed(value: Expr) -> Expr:
        for axis, (reach, stride) in enumerate(zip(_reaches(layer.sizes, layer.dilations), layer.strides, strict=True)):
            value = method(value, "unfold", str(axis + 2), str(reach), str(stride))
        value = index(value, "...", *(f"::{dilation}" for dilation in layer.dilations))
        places = tuple(range(-len(layer.sizes), 0))
        return method(value, "mean", f"dim={places if len(places) > 1 else -1}")

    if none or layer.counts_padding:
        return summed(_around(w, x, layer, pads))
    found = [w.body.assign(summed(_around(w, one, layer, pads)), names) for one, names in (
        (x, w.wanted(node)), (call("torch.ones_like", x), ["counts"])
    )]  # fmt: skip
    return binary("/", *found)


# ---- normalizations


def _affine(layer: Any, shape: tuple[int, ...]) -> dict[str, Blocks]:
    """gamma and beta by torch's names; both where either is there."""
    gamma, beta = layer.held("gamma"), layer.held("beta")
    if gamma is None and beta is None:
        return {}
    dtype = (beta if gamma is None else gamma).dtype
    return {
        "weight": given_or(gamma, lambda: filled(shape, 1.0, dtype)),
        "bias": given_or(beta, lambda: filled(shape, 0.0, dtype)),
    }


def _epsilon(value: float, usual: float = 1e-5) -> str:
    return "" if value == usual else f"eps={float(value)!r}"


def batch_normalization(w: Writer, node: Node) -> Expr:
    """A `BatchNormalization` node."""
    layer, wire = node.operation, _wire(node)
    assert isinstance(layer, BatchNormalization)
    rank = w.rank(wire) or 3
    axis = normalized(layer.axis, rank)
    weights = _affine(layer, (layer.size,))
    affine = "" if weights else "affine=False"
    weights |= {"running_mean": blocks_of(layer.held("mean")), "running_var": blocks_of(layer.held("variance"))}
    weights["num_batches_tracked"] = filled((), 0, np.int64)
    dimensions = {2: 1, 3: 1, 4: 2, 5: 3}.get(rank, 1)
    value = _made(f"BatchNorm{dimensions}d", str(layer.size), _epsilon(layer.epsilon), affine)
    module = w.module(layer, value, weights)
    if rank not in (2, 3, 4, 5) or axis == 0 or (layer.axis == -1 and w.rank(wire) is None):
        return _along_last(w, module, wire, axis, rank)
    (x,) = w.take(wire, own=_LINE) if axis == 1 else [w.name(wire)]
    there = (0, axis, *(one for one in range(1, rank) if one != axis))
    return permuted(call(module, permuted(x, there), weight=_LAYER), [there.index(one) for one in range(rank)])


def _along_last(w: Writer, module: str, wire: Wire, axis: int, rank: int) -> Expr:
    """The module on rows, for values with as many axes as no module of torch takes."""
    x, last = w.name(wire), axis == rank - 1
    moved = x if last else w.body.assign(method(x, "movedim", str(axis), "-1"), ["moved"])
    rows = method(moved, "flatten", "0", "-2")
    shaped = method(call(module, rows, weight=_LAYER), "reshape", f"{moved.text}.shape")
    return shaped if last else method(w.body.assign(shaped, ["moved"]), "movedim", "-1", str(axis))


def layer_normalization(w: Writer, node: Node) -> Expr:
    """A `LayerNormalization` node."""
    layer, wire = node.operation, _wire(node)
    assert isinstance(layer, LayerNormalization)
    gamma, beta = layer.held("gamma"), layer.held("beta")
    known = next((tuple(one.shape) for one in (gamma, beta) if one is not None), None)
    lengths = (w.shape(wire) or ())[-layer.axes :]
    if known is None and lengths and all(isinstance(length, int) for length in lengths):
        known = tuple(int(length) for length in lengths)
    if known is None:
        x = w.name(wire)
        name = "rms_norm" if layer.rms else "layer_norm"
        return call(f"F.{name}", x, f"{x.text}.shape[-{layer.axes}:]", f"eps={float(layer.epsilon)!r}")
    shape = str(known[0]) if len(known) == 1 else str(known)
    weights: dict[str, Blocks] = {}
    if layer.rms:
        if gamma is not None:
            weights["weight"] = blocks_of(gamma)
        option = "" if weights else "elementwise_affine=False"
        value = _made("RMSNorm", shape, f"eps={float(layer.epsilon)!r}", option)
    else:
        weights = _affine(layer, known)
        if beta is None:
            weights.pop("bias", None)
        option = "elementwise_affine=False" if not weights else "bias=False" if beta is None else ""
        value = _made("LayerNorm", shape, _epsilon(layer.epsilon), option)
    (x,) = w.take(wire, own=_LINE)
    found = call(w.module(layer, value, weights), x, weight=_LAYER)
    if layer.rms and beta is not None:
        shift = w.module(layer, f"nn.Parameter(torch.empty({', '.join(map(str, known))}))", {}, "bias")
        w.weights[shift.removeprefix("self.")] = blocks_of(beta)
        return binary("+", found, Expr(shift))
    return found


def group_normalization(w: Writer, node: Node) -> Expr:
    """A `GroupNormalization` node."""
    layer, wire = node.operation, _wire(node)
    assert isinstance(layer, GroupNormalization)
    shape = w.shape(wire)
    held = next((one for one in (layer.held("gamma"), layer.held("beta")) if one is not None), None)
    channels = int(held.shape[0]) if held is not None else None if shape is None else shape[layer.axis]
    if not isinstance(channels, int):
        w.refuse("the number of channels is not known", node, "a known number", str(shape))
        channels = layer.groups
    weights = _affine(layer, (channels,))
    affine = "" if weights else "affine=False"
    value = _made("GroupNorm", str(layer.groups), str(channels), _epsilon(layer.epsilon), affine)
    module = w.module(layer, value, weights)
    rank = w.rank(wire) or 3
    x, back = _in_channels_first(w, wire, layer.axis != 1 and rank > 2, rank)
    others = None if shape is None else [n for axis, n in enumerate(shape) if axis not in (0, layer.axis % rank)]
    if layer.groups == channels and not any(isinstance(n, int) and n > 1 for n in others or ()):
        return back(call(w.helper("group_norm"), Expr(module), x, weight=_LAYER))
    return back(call(module, x, weight=_LAYER))


LAYER_RENDERERS: dict[type, Callable[[Writer, Node], Expr]] = {
    Dense: dense,
    Embedding: embedding,
    Dropout: dropout,
    Masking: masking,
    Convolution: convolution,
    Pooling: pooling,
    BatchNormalization: batch_normalization,
    LayerNormalization: layer_normalization,
    GroupNormalization: group_normalization,
}

__all__ = ["LAYER_RENDERERS", "Constant", "Stub", "mask_node"]
