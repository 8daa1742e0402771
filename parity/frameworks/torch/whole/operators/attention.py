"""Scaled dot-product attention, as its formula."""

from __future__ import annotations

import math

from parity.frameworks.torch.whole.operator_call import Call, Refused, kind_of, operator
from parity.frameworks.torch.whole.values import Value


@operator("scaled_dot_product_attention")
def attention(call: Call) -> Value:
    """softmax(query @ key.T * scale + mask) @ value."""
    if call["dropout_p"]:
        raise Refused("a dropout that is at work in evaluation, too", "dropout_p=0")
    if call.get("enable_gqa"):
        raise Refused("heads that share keys", "enable_gqa=False")
    build, making = call.build, call.making
    query, key, value = (call.wire(name) for name in ("query", "key", "value"))
    rank = call.rank("key")
    scale = call.get("scale")
    features = call.shape_of("query")[-1]
    if scale is None and not isinstance(features, int):
        raise Refused("an attention over features whose number may differ", "a known number of features, or a scale")
    scale = 1 / math.sqrt(features) if scale is None else float(scale)
    turned = build.transpose(key, (*range(rank - 2), rank - 1, rank - 2))
    scores = build.multiply(build.matmul(query, turned), making.number(scale))
    if call.get("is_causal"):
        rows, columns = (call.steps(call.shape_of(name)[-2]) for name in ("query", "key"))
        seen = build.elementwise("greater_equal", build.expand_dims(rows, 1), columns, name="causal")
        scores = build.elementwise("where", seen, scores, making.number(-math.inf))
    if call.get("attn_mask") is not None:
        mask = call.wire("attn_mask")
        if kind_of(call.meta("attn_mask")) == "b":
            scores = build.elementwise("where", mask, scores, making.number(-math.inf))
        else:
            scores = build.add(scores, mask)
    return build.matmul(build.softmax(scores, -1), value, name=call.name)


__all__ = ["attention"]
