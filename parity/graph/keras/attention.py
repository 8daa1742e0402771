"""Attention: `Attention`, `AdditiveAttention`, `MultiHeadAttention`, as products, a softmax and masks.

Source: Keras 3 `keras/src/layers/attention/`; `_apply_masks` in `keras/src/backend/tensorflow/nn.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from parity.graph.graph import Wire
from parity.graph.keras.call import Call, Kept, Outputs, Reader, Tensor, passed
from parity.graph.keras.dense import linear, whole_array
from parity.graph.operations import Length, Range
from parity.network.keras.options import Option, shown

_INERT, _FLAG = Option(), Option((True, False))
_FAR = 1e9
"""What `Attention` subtracts from scores that are masked."""

_MOST_STEPS = 512
"""A causal mask of so many steps may stand in the code."""

_LOWEST = -0.7 * float(np.finfo(np.float32).max)
"""What stands in the place of masked scores in `dot_product_attention`."""


def _scores(call: Call, query: Wire, key: Wire, additive: bool) -> Wire:
    build, use_scale = call.build, bool(call.config.get("use_scale", additive))
    concat = not additive and call.config.get("score_mode", "dot") == "concat"
    shape = (None,) if additive else ()
    names = [*(["scale"] if use_scale else []), *(["concat_score_weight"] if concat else [])]
    weights = dict(zip(names, call.weights(*((name, shape) for name in names)), strict=True)) if names else {}
    scale = call.parameter("scale", weights["scale"]) if use_scale else None
    if not additive and not concat:
        products = build.einsum("btd,bsd->bts", query, key, name=call.part("scores"))
        return products if scale is None else build.multiply(products, scale)
    both = build.add(build.expand_dims(query, 2), build.expand_dims(key, 1))
    if additive:
        bent = build.activation("tanh", both)
        return build.sum(bent if scale is None else build.multiply(bent, scale), -1, name=call.part("scores"))
    bent = build.activation("tanh", both if scale is None else build.multiply(both, scale))
    weight = call.parameter("weight", weights["concat_score_weight"])
    return build.multiply(weight, build.sum(bent, -1), name=call.part("scores"))


def _attention(call: Call, additive: bool) -> Outputs:
    build, wires = call.build, call.wires()
    if not 2 <= len(wires) <= 3:
        raise call.refused("another number of tensors", "query, value and perhaps key", str(len(wires)))
    if any(call.rank(wire) != 3 for wire in wires):
        raise call.refused("tensors with other axes", "(batch, time, features)", "another number of axes")
    query, value, key = wires[0], wires[1], wires[-1] if len(wires) == 3 else wires[1]
    masks = call.mask if isinstance(call.mask, (list, tuple)) else [call.mask, None]
    scores = _scores(call, query, key, additive)
    valid = None if len(masks) < 2 or masks[1] is None else build.expand_dims(masks[1], 1)
    if call.arguments.get("use_causal_mask"):
        causal = _causal(call, query, value)
        valid = causal if valid is None else build.elementwise("logical_and", valid, causal)
    if valid is not None:
        scores = build.elementwise("where", valid, scores, build.subtract(scores, _FAR))
    shares = build.softmax(scores, -1, name=call.part("shares"))
    own = call.part("summary") if masks[0] is not None else call.name
    output = build.matmul(shares, value, name=own)
    if masks[0] is not None:
        output = build.elementwise("where", build.expand_dims(masks[0], -1), output, 0.0, name=call.name)
    return [output, shares] if call.arguments.get("return_attention_scores") else output


def _query_mask(call: Call, outputs: list[Tensor]) -> Any:
    masks = call.previous
    own = masks[0] if isinstance(masks, (list, tuple)) and masks else None
    return [own, *[None] * (len(outputs) - 1)]


def _causal(call: Call, query: Wire, value: Wire) -> Wire:
    """(1, query steps, value steps): whether a step of the value is not behind that of the query."""
    build, lengths = call.build, (call.shape(query)[1], call.shape(value)[1])
    if not any(build.is_word(length) or length > _MOST_STEPS for length in lengths):
        return build.constant(np.tri(*lengths, dtype=np.bool_)[None], call.part("causal"))
    rows, columns = build.expand_dims(_steps(call, query), (0, 2)), build.expand_dims(_steps(call, value), (0, 1))
    return build.elementwise("greater_equal", rows, columns)


def _steps(call: Call, x: Wire) -> Wire:
    """(time,): 0, 1, 2, ... along the time of x, whatever its length."""
    build = call.build
    found: Wire = call.model.masks.once(
        ("steps", x), lambda: build.call(Range(build.unique(call.part("steps")), Length(0, 1)), x)
    )
    return found


def _heads(call: Call, x: Wire, key: str, weights: Sequence[Any]) -> Wire:
    """A projection, (batch, time, features) to (batch, head, time, size)."""
    build = call.build
    _, heads, size = weights[0].shape
    kernel = call.once(f"{key} kernel", lambda: whole_array(weights[0]).reshape(-1, heads * size))
    bias = whole_array(weights[1]).reshape(-1) if len(weights) > 1 else None
    flat = linear(call, x, kernel, bias, key, call.part(key))
    split = build.reshape(flat, [Length(0, 0), Length(0, 1), heads, size], name=call.part(f"{key}_split"))
    return build.transpose(split, (0, 2, 1, 3), name=call.part(f"{key}_heads"))


def _multi_head(call: Call) -> Outputs:
    build = call.build
    tensors = {name: call.tensors(name) for name in ("query", "value", "key")}
    _check_multi_head(call, tensors)
    query, value = tensors["query"][0], tensors["value"][0]
    key = tensors["key"][0] if tensors["key"] else value
    gate = bool(call.config.get("use_gate"))
    names = ["query", "key", *(["gate"] if gate else []), "value", "output"]
    heads, size = call.whole("num_heads"), call.whole("key_dim")
    sizes = {"query": size, "key": size}
    width = call.config.get("value_dim") or size
    own = [
        (f"{name} {kind}", shape)
        for name in names
        for kind, shape in _projection(name, heads, sizes.get(name, width), bool(call.config.get("use_bias", True)))
    ]
    weights = dict(zip((name for name, _ in own), call.weights(*own), strict=True))
    taken = {name: [weights[each] for each in weights if each.startswith(f"{name} ")] for name in names}
    valid = _valid(call, query, value, key if tensors["key"] else None)
    q, k, v = (
        _heads(call, tensor.wire, name, taken[name])
        for name, tensor in (("query", query), ("key", key), ("value", value))
    )
    scaled = build.multiply(q, 1.0 / math.sqrt(size), name=call.part("query_scaled"))
    scores = build.matmul(scaled, build.transpose(k, (0, 1, 3, 2)), name=call.part("scores"))
    shares = _shares(call, scores, valid)
    summary = build.transpose(build.matmul(shares, v, name=call.part("summary")), (0, 2, 1, 3))
    if gate:
        opened = build.activation("sigmoid", _heads(call, query.wire, "gate", taken["gate"]))
        summary = build.multiply(summary, build.transpose(opened, (0, 2, 1, 3)))
    flat = build.reshape(summary, [Length(0, 0), Length(0, 1), heads * width])
    kernel, *bias = taken["output"]
    matrix = call.once("output kernel", lambda: whole_array(kernel).reshape(heads * width, -1))
    output = linear(call, flat, matrix, bias[0] if bias else None, "output", call.name)
    mask = query.mask
    for tensor in (query, value, key):
        tensor.kept.mask = None  # Keras takes the masks off the very tensors, so that layers behind them see none
    given: list[Wire | Tensor] = [Tensor(output, Kept(mask))]
    return [*given, shares] if call.arguments.get("return_attention_scores") else given


def _projection(name: str, heads: int, size: int, bias: bool) -> list[tuple[str, tuple[int | None, ...]]]:
    if name == "output":
        return [("kernel", (heads, size, None)), *([("bias", (None,))] if bias else [])]
    return [("kernel", (None, heads, size)), *([("bias", (heads, size))] if bias else [])]


def _check_multi_head(call: Call, tensors: dict[str, list[Tensor]]) -> None:
    if not tensors["query"] or not tensors["value"]:
        raise call.refused("the layer does not take what it needs", "query and value", "fewer")
    if any(call.rank(tensor.wire) != 3 for given in tensors.values() for tensor in given):
        raise call.refused("tensors with other axes", "(batch, time, features)", "another number of axes")
    axes = call.config.get("attention_axes")
    if axes not in (None, 1, [1], (1,)):
        raise call.refused("attention_axes is not kept exactly", "1, the time", shown(axes))
    shape = call.config.get("output_shape")
    if isinstance(shape, (list, tuple)) and len(shape) > 1:
        raise call.refused("output_shape is not kept exactly", "one size", shown(shape))


def _valid(call: Call, query: Tensor, value: Tensor, key: Tensor | None) -> Wire | None:
    """Which scores count, (batch or 1, query steps or 1, value steps): what all the masks say together."""
    build = call.build
    found = []
    if query.mask is not None:
        found.append(build.expand_dims(query.mask, -1))
    for name, tensor in (("value_mask", value), ("key_mask", key)):
        given = call.tensors(name)
        mask = given[0].wire if given else tensor.mask if tensor is not None else None
        if mask is not None:
            found.append(build.expand_dims(mask, 1))
    if call.arguments.get("use_causal_mask"):
        found.append(_causal(call, query.wire, value.wire))
    for tensor in call.tensors("attention_mask"):
        numbers = call.stated_dtypes("attention_mask") - {"bool"}
        found.append(call.build.cast(tensor.wire, "bool") if numbers else tensor.wire)
    if not found:
        return None
    ranks = {call.rank(wire) for wire in found}
    if ranks != {3}:
        raise call.refused("an attention_mask with other axes", "(batch, query steps, value steps)", str(ranks))
    every = found[0] if len(found) == 1 else build.elementwise("logical_and", *found, name=call.part("mask"))
    return build.expand_dims(every, 1)


def _shares(call: Call, scores: Wire, valid: Wire | None) -> Wire:
    """The softmax; a row without anything valid gives equal shares, or none at all where Keras takes the way with explicit scores."""
    build, name = call.build, call.part("shares")
    if valid is None:
        return build.softmax(scores, -1, name=name)
    explicit = call.config.get("dropout", 0.0) > 0 or call.arguments.get("return_attention_scores")
    lowest = -_FAR if explicit else _LOWEST
    shares = build.softmax(
        build.elementwise("where", valid, scores, lowest, name=call.part("masked_scores")),
        -1,
        name=None if explicit else name,
    )
    return build.elementwise("where", valid, shares, 0.0, name=name) if explicit else shares


_ATTENTION = {"use_scale": _FLAG, "dropout": _INERT, "seed": _INERT}
_CALL = ("inputs", "mask", "training", "return_attention_scores", "use_causal_mask")

READERS: dict[str, Reader] = {
    "Attention": Reader(
        lambda call: _attention(call, additive=False),
        {
            **_ATTENTION,
            "score_mode": Option(("dot", "concat")),
            "causal": Option((False, None), "give use_causal_mask"),
        },
        _CALL,
        takes_mask=True,
        masks=_query_mask,
    ),
    "AdditiveAttention": Reader(
        lambda call: _attention(call, additive=True),
        {**_ATTENTION, "causal": Option((False, None), "give use_causal_mask")},
        _CALL,
        takes_mask=True,
        masks=_query_mask,
    ),
    "MultiHeadAttention": Reader(
        _multi_head,
        {
            **dict.fromkeys(
                ("num_heads", "key_dim", "value_dim", "dropout", "output_shape", "attention_axes", "seed"), _INERT
            ),
            **dict.fromkeys(("query_shape", "key_shape", "value_shape"), _INERT),
            "use_bias": _FLAG,
            "use_gate": _FLAG,
            "sliding_window": Option((None,), "give the window as attention_mask"),
            "flash_attention": Option((None, False), "set flash_attention=False"),
        },
        (
            *("query", "value", "key", "query_mask", "value_mask", "key_mask", "attention_mask"),
            *("return_attention_scores", "training", "use_causal_mask"),
        ),
        masks=passed,
    ),
}
"""The attention layers, by class."""
