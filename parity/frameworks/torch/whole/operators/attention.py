"""Scaled dot-product attention, and the softmax that torch spells it with."""

from __future__ import annotations

import math
from typing import Any

from parity.frameworks.torch.whole.operator_call import Call, Refused, kind_of, operator
from parity.frameworks.torch.whole.values import Value
from parity.graph import Wire
from parity.graph.operations import Attention

_ATTENTION = "scaled_dot_product_attention"


@operator(_ATTENTION, "_scaled_dot_product_attention_math", "_scaled_dot_product_flash_attention_for_cpu")
def attention(call: Call) -> Value:
    """softmax(query @ key.T * scale + mask) @ value; zeros for a query that sees nothing."""
    _check(call)
    query, key, value = (call.wire(name) for name in ("query", "key", "value"))
    if call.get("enable_gqa"):
        key, value = (_shared(call, name, wire) for name, wire in (("key", key), ("value", value)))
    rank = max(call.rank(name) for name in ("query", "key", "value"))
    taken = [_with_rank(call, wire, rank) for wire in (query, key, value)]
    mask = [] if call.get("attn_mask") is None else [call.wire("attn_mask")]
    operation = Attention(call.build.unique(call.name), _scale(call), causal=bool(call.get("is_causal")))
    found = call.build.call(operation, *taken, *mask)
    return found if call.operator == _ATTENTION else (found, None)


def _check(call: Call) -> None:
    """Refuses what `Attention` is not."""
    if call["dropout_p"] or call.get("dropout_mask") is not None:
        raise Refused("a dropout that is at work in evaluation, too", "dropout_p=0")
    if call.get("is_causal") and call.get("attn_mask") is not None:
        raise Refused("an attention that is causal and has a mask, too", "is_causal=True or attn_mask, as torch has it")
    if call.operator == _ATTENTION:
        return
    if call.get("attn_mask") is not None and kind_of(call.meta("attn_mask")) == "b":
        expected = f"{_ATTENTION}, or numbers that are added to the scores"
        raise Refused("a mask of truth values, which this operator takes for numbers", expected)
    if any(user.args[1] and user.users for user in call.node.users):
        raise Refused("the shares of an attention, or the logarithm of their sum", "its first result alone")


def _scale(call: Call) -> float:
    scale, features = call.get("scale"), call.shape_of("query")[-1]
    if scale is None and not isinstance(features, int):
        raise Refused("an attention over features whose number may differ", "a known number of features, or a scale")
    return 1 / math.sqrt(features) if scale is None else float(scale)


def _shared(call: Call, name: str, wire: Wire) -> Wire:
    """Keys or values of which several heads of the query take each one."""
    heads: Any = call.shape_of("query")[-3]
    own: Any = call.shape_of(name)[-3]
    if heads == own:
        return wire
    if not isinstance(heads, int) or not isinstance(own, int):
        raise Refused("heads that share keys, whose number may differ", "known numbers of heads, or enable_gqa=False")
    return call.build.repeat(wire, call.rank(name) - 3, heads // own)


def _with_rank(call: Call, wire: Wire, rank: int) -> Wire:
    missing = rank - call.build.rank(wire)
    return call.build.expand_dims(wire, tuple(range(missing))) if missing else wire


@operator("_safe_softmax")
def safe_softmax(call: Call) -> Value:
    """Along an axis; zeros where there is nothing but -inf."""
    build, x, axis = call.build, call.wire("self", "f"), call.axis("dim", "self")
    none = call.making.number(0.0)
    seen = build.elementwise("not_equal", build.max(x, axis, keepdims=True), call.making.number(-math.inf))
    shares = build.softmax(build.elementwise("where", seen, x, none), axis)
    return build.elementwise("where", seen, shares, none, name=call.name)


__all__ = ["attention", "safe_softmax"]
