"""Small Keras models of several layers: merging, attention, `keras.ops`, shared and nested models. With them all cases are complete."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers as kl
from keras import ops

from tests.keras_graphs_cases import (
    CASES,
    VOCABULARY,
    Made,
    case,
    image,
    on,
    rows,
    steps,
    tokens,
)

# ---- merging


def merged(layer: Any, *inputs: Any) -> Made:
    """Several inputs into one layer."""
    return list(inputs), layer(list(inputs))


for merging in (kl.Add, kl.Subtract, kl.Multiply, kl.Average, kl.Maximum, kl.Minimum, kl.Concatenate):
    case(merging.__name__, lambda merging=merging: merged(merging(), steps("a"), steps("b")))
case("Add of three", lambda: merged(kl.Add(), steps("a"), steps("b"), steps("c", 1)))
case("Add of other ranks", lambda: merged(kl.Add(), steps("a"), rows("b")))
case("Concatenate over time", lambda: merged(kl.Concatenate(axis=1), steps("a"), steps("b")))
for normalize in (False, True):
    case(f"Dot of rows {normalize}", lambda normalize=normalize: merged(kl.Dot(1, normalize), rows("a"), rows("b")))
    case(
        f"Dot of sequences {normalize}",
        lambda normalize=normalize: merged(kl.Dot((2, 2), normalize), steps("a"), steps("b")),
    )
case("Dot of a sequence and a row", lambda: merged(kl.Dot((2, 1)), steps("a"), rows("b")))
case("Dot of a row and a sequence", lambda: merged(kl.Dot((1, 2)), rows("a"), steps("b")))
case("Dot over time", lambda: merged(kl.Dot(1), steps("a"), steps("b", 4)))
case("Dot of images", lambda: merged(kl.Dot((3, 2)), image("a", 5, 7, 6), steps("b")))

# ---- attention


def attended(layer: Any, parts: int, with_mask: bool, **options: Any) -> Made:
    """An attention of one sequence to another, perhaps with masks of both."""
    if not with_mask:
        x = [steps(name) for name in "abc"[:parts]]
        return x, layer(x, **options)
    t = [tokens(name) for name in "abc"[:parts]]
    return t, layer([kl.Embedding(VOCABULARY, 5, mask_zero=True)(one) for one in t], **options)


for use_scale in (False, True):
    for mode in ("dot", "concat"):
        case(
            f"Attention {mode} {use_scale}",
            lambda mode=mode, use_scale=use_scale: attended(kl.Attention(use_scale, mode), 2, with_mask=False),
        )
    case(
        f"AdditiveAttention {use_scale}",
        lambda use_scale=use_scale: attended(kl.AdditiveAttention(use_scale), 3, with_mask=True),
    )
case("Attention masked", lambda: attended(kl.Attention(), 3, with_mask=True, return_attention_scores=True))
case("Attention causal", lambda: attended(kl.Attention(True), 2, with_mask=False, use_causal_mask=True))
case("Attention causal, masked", lambda: attended(kl.Attention(), 2, with_mask=True, use_causal_mask=True))


def multi_head(with_mask: bool = False, behind: bool = False, parts: int = 2, call: Any = None, **options: Any) -> Made:
    """A MultiHeadAttention of up to three sequences."""
    layer = kl.MultiHeadAttention(2, 3, **options)
    if with_mask:
        given = [tokens(name) for name in "abc"[:parts]]
        x = [kl.Embedding(VOCABULARY, 5, mask_zero=True)(one) for one in given]
    else:
        given = x = [steps(name, size) for name, size in zip("abc"[:parts], (5, 6, 4), strict=False)]
    y = layer(*x, **(call or {}))
    return given, kl.GRU(4)(y) if behind else y


case("MultiHeadAttention", multi_head)
case("MultiHeadAttention key", lambda: multi_head(parts=3, value_dim=4, use_bias=False))
case("MultiHeadAttention output_shape", lambda: multi_head(output_shape=7))
case("MultiHeadAttention gate", lambda: multi_head(use_gate=True))
case("MultiHeadAttention masked", lambda: multi_head(with_mask=True, parts=3))
case("MultiHeadAttention masked, dropout", lambda: multi_head(with_mask=True, dropout=0.5))
case("MultiHeadAttention masked, behind", lambda: multi_head(with_mask=True, behind=True))
case("MultiHeadAttention causal", lambda: multi_head(call={"use_causal_mask": True}))
case("MultiHeadAttention scores", lambda: multi_head(call={"return_attention_scores": True}))
case("MultiHeadAttention masked, scores", lambda: multi_head(with_mask=True, call={"return_attention_scores": True}))


def given_attention_mask() -> Made:
    """A mask of scores that is given in the call."""
    x, m = steps(time=7), keras.Input((7, 7), name="valid", dtype="bool")
    return [x, m], kl.MultiHeadAttention(2, 3)(x, x, attention_mask=m, use_causal_mask=True)


def transformer() -> Made:
    """A block whose masks Keras drops at the tensors and wires by itself."""
    t = tokens()
    x = kl.Embedding(VOCABULARY, 6, mask_zero=True)(t)
    x = kl.LayerNormalization()(kl.Add()([x, kl.MultiHeadAttention(2, 3)(x, x)]))
    x = kl.LayerNormalization()(kl.Add()([x, kl.Dense(6)(kl.Dense(8, activation="gelu")(x))]))
    return [t], [kl.GlobalAveragePooling1D()(x), kl.GRU(3)(x), kl.Attention()([x, x])]


case("MultiHeadAttention attention_mask", given_attention_mask)
case("a transformer block", transformer)

# ---- keras.ops and operators


def op(name: str, function: Callable[..., Any], *inputs: Callable[[], Any]) -> None:
    """An operation on inputs."""

    def make() -> Made:
        x = [one() for one in inputs or (steps,)]
        return x, function(*x)

    case(f"ops {name}", make)


def two(name: str, function: Callable[..., Any]) -> None:
    """An operation on two inputs."""
    op(name, function, lambda: steps("a"), lambda: steps("b"))


two("arithmetic", lambda a, b: (a + b * 2.0 - 1.0) / (b * b + 2.0))
two("reversed arithmetic", lambda a, b: 1.0 - a + 2.0 / (3.0 + b * b) - (-a))
two("power", lambda a, b: ops.abs(a) ** 2 + ops.power(ops.abs(b), 0.5))
two("extremes", lambda a, b: ops.maximum(a, b) + ops.minimum(a, 0.25))
two("comparisons", lambda a, b: ops.where(ops.logical_and(a > b, ops.logical_or(a >= 0.5, b <= 0.25)), a, b * 2))
two("choices", lambda a, b: ops.where(ops.logical_not(ops.equal(a, b)), 1.0, a))
two("concatenate", lambda a, b: ops.concatenate([a, b, a], axis=1))
two("stack", lambda a, b: ops.stack([a, b], axis=2))
two("matmul", lambda a, b: ops.matmul(a, ops.transpose(b, (0, 2, 1))))
two("einsum", lambda a, b: ops.einsum("btd,bsd->bts", a, b))
op("cast", lambda x: ops.cast(x > 0, "float32") * x)
op("smooth", lambda x: ops.exp(x) + ops.sin(x) - ops.cos(x) + ops.tanh(x) + ops.sigmoid(x) + ops.erf(x))
op(
    "positive",
    lambda x: ops.log(ops.abs(x) + 1) + ops.log1p(ops.abs(x)) + ops.sqrt(ops.abs(x)) + ops.rsqrt(ops.square(x) + 1),
)
op("parts", lambda x: ops.floor(x) + ops.sign(x) + ops.reciprocal(ops.abs(x) + 1) + ops.negative(x))
op("activations", lambda x: ops.relu(x) + ops.silu(x) + ops.gelu(x) + ops.elu(x) + ops.leaky_relu(x) + ops.softplus(x))
op("gelu exact", lambda x: ops.gelu(x, approximate=False))
op("softmax", lambda x: ops.softmax(x, axis=1) + ops.log_softmax(x))
op("keras.activations", lambda x: keras.activations.relu(x, negative_slope=0.25) + keras.activations.tanh(x))
op("mean", lambda x: ops.mean(x, axis=1, keepdims=True))
op("reductions", lambda x: ops.sum(x, axis=1) + ops.max(x, axis=1) - ops.min(x, axis=1) + ops.prod(x, axis=1))
op("several axes", lambda x: ops.mean(x, axis=(1, 2)) + ops.amax(x, axis=(1, -1)))
op("moments", lambda x: ops.std(x, axis=-1) + ops.var(x, axis=-1))
op("logsumexp", lambda x: ops.logsumexp(x, axis=-1))
op("argmax", lambda x: ops.argmax(x, axis=-1))
op("norm", lambda x: x / ops.norm(x, axis=-1, keepdims=True))
op("normalize", lambda x: ops.normalize(x, axis=-1))
op("truths", lambda x: ops.any(x > 1, axis=1))
op("all", lambda x: ops.all(x > -2, axis=(1, 2)))
op("clip", lambda x: ops.clip(x, -0.5, 0.25))
op("reshape", lambda x: ops.reshape(x, (-1, 2, 3)))
op("transpose", lambda x: ops.transpose(x, (1, 0, 2)))
op("swapaxes", lambda x: ops.swapaxes(x, 1, -1))
op("moveaxis", lambda x: ops.moveaxis(x, 0, -1))
op("expand and squeeze", lambda x: ops.squeeze(ops.expand_dims(x, -1) * 2, -1) + ops.squeeze(ops.expand_dims(x, 1), 1))
op("repeat", lambda x: ops.repeat(x, 3, axis=1))
op("tile", lambda x: ops.tile(x, (1, 2, 3)))
op("flip", lambda x: ops.flip(x, axis=1))
op("pad", lambda x: ops.pad(x, ((0, 0), (2, 1), (0, 0))))
op("split", lambda x: ops.split(x, 3, axis=-1))
op("split at", lambda x: ops.split(x, [1, 4], axis=-1)[1:])
op("unstack", lambda x: ops.unstack(x, axis=2))
op("take", lambda x: ops.take(x, 2, axis=1))
op("likes", lambda x: ops.ones_like(x) + ops.zeros_like(x) * x)
op("a constant", lambda x: x * np.arange(6.0))
op("last", lambda x: x[:, -1])
op("slices", lambda x: x[:, 1:-1, ::2])
op("backwards", lambda x: x[:, ::-1])
op("ellipsis", lambda x: x[..., 2])
op("new axis", lambda x: x[:, None, 1:, 3])
op("two places", lambda x: x[:, 0, 1:3])

# ---- wiring


def several() -> Made:
    """Two inputs, two outputs, a skip."""
    a, b = steps("past", 6), rows("now", 4)
    y = kl.LSTM(5, return_sequences=True)(a)
    last = y[:, -1]
    joined = kl.Concatenate()([last, kl.Dense(3)(b), ops.mean(a, axis=1)])
    return [a, b], [kl.Dense(2, name="first")(joined), kl.Dense(1, name="second")(last)]


def shared() -> Made:
    """One encoder for two inputs."""
    a, b = tokens("left"), tokens("right")
    table, encoder = kl.Embedding(VOCABULARY, 5, mask_zero=True), kl.LSTM(4, name="encoder")
    return [a, b], kl.Dot(1, normalize=True)([encoder(table(a)), encoder(table(b))])


def nested() -> Made:
    """A model in a model in a model, called twice."""
    x = steps("inner_x", 5)
    inner = keras.Model(x, kl.Dense(5, name="dense")(kl.GRU(4, return_sequences=True, name="gru")(x)), name="inner")
    z = steps("middle_x", 5)
    middle = keras.Model(z, kl.Add(name="add")([inner(z), kl.Dense(5, name="dense")(z)]), name="middle")
    a, b = steps("a", 5), steps("b", 5)
    return [a, b], kl.Concatenate()([middle(a), kl.Dense(3, name="dense")(middle(b)), inner(a)])


def nested_with_masks() -> Made:
    """A mask that goes into a nested model, one that it makes itself, and one that comes out."""
    x = steps("inner_x", 5)
    inner = keras.Model(x, kl.GRU(5, return_sequences=True)(kl.Dense(5)(x)), name="inner")
    t = tokens("inner_t")
    own = keras.Model(t, kl.Embedding(VOCABULARY, 5, mask_zero=True)(t), name="own")
    a = tokens("a")
    return [a], kl.LSTM(4)(inner(own(a)))


def nested_outputs() -> Made:
    """A nested encoder that gives its states to a decoder."""
    x = steps("e", 5)
    encoder = keras.Model(x, kl.LSTM(4, return_state=True, return_sequences=True)(x), name="encoder")
    a, b = steps("a", 5), steps("b", 3)
    y, h, c = encoder(a)
    return [a, b], [kl.LSTM(4, return_sequences=True, name="decoder")(b, initial_state=[h, c]), y]


def in_a_dict() -> Made:
    """Outputs by name."""
    x = steps()
    return [x], {"scores": kl.Dense(3)(x), "last": kl.GRU(4)(x)}


def a_sequential_inside() -> Made:
    """A Sequential inside a functional model."""
    inner = keras.Sequential(
        [kl.Dense(4, activation="relu"), kl.LSTM(3, return_sequences=True), kl.Dropout(0.2)], name="stack"
    )
    return on(steps(), inner, kl.Dense(2))


case("several inputs and outputs", several)
case("a shared encoder", shared)
case("nested models", nested)
case("nested models with masks", nested_with_masks)
case("a nested encoder's states", nested_outputs)
case("outputs in a dict", in_a_dict)
case("a Sequential inside", a_sequential_inside)

__all__ = ["CASES", "nested", "shared"]
