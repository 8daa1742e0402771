"""Small Keras models, one for each layer and option that is read as a graph: each gives its inputs and its outputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers as kl
from keras import ops

Made = tuple[list[Any], Any]

CASES: dict[str, Callable[[], Made]] = {}
VOCABULARY, FEATURES = 9, 6


def case(name: str, make: Callable[[], Made]) -> None:
    """Add a model."""
    assert name not in CASES, name
    CASES[name] = make


def steps(name: str = "x", features: int = FEATURES, time: int | None = None) -> Any:
    """An input (batch, time, features)."""
    return keras.Input((time, features), name=name)


def rows(name: str = "x", features: int = FEATURES) -> Any:
    """An input (batch, features)."""
    return keras.Input((features,), name=name)


def image(name: str = "x", height: int | None = None, width: int | None = None, channels: int = 4) -> Any:
    """An input (batch, height, width, channels)."""
    return keras.Input((height, width, channels), name=name)


def tokens(name: str = "t") -> Any:
    """An input of integers, (batch, time)."""
    return keras.Input((None,), name=name, dtype="int32")


def on(x: Any, *layers: Any) -> Made:
    """A chain of layers on an input."""
    y = x
    for layer in layers:
        y = layer(y)
    return [x], y


def masked(*layers: Any, size: int = 5) -> Made:
    """A chain of layers behind an Embedding whose zeros are masked."""
    return on(tokens(), kl.Embedding(VOCABULARY, size, mask_zero=True), *layers)


def one(name: str, layer: Callable[[], Any], x: Callable[[], Any] = steps) -> None:
    """A model of a single layer."""
    case(name, lambda: on(x(), layer()))


# ---- dense, einsum, embedding

for activation in (
    *(
        "linear",
        "relu",
        "sigmoid",
        "tanh",
        "softmax",
        "log_softmax",
        "elu",
        "selu",
        "gelu",
        "silu",
        "mish",
        "celu",
        "glu",
    ),
    *("softplus", "softsign", "exponential", "hard_sigmoid", "hard_silu", "hard_tanh", "hard_shrink", "soft_shrink"),
    *("leaky_relu", "relu6", "log_sigmoid", "tanh_shrink", "squareplus", "sparse_plus", "sparse_sigmoid"),
):
    one(f"Dense {activation}", lambda activation=activation: kl.Dense(4, activation=activation))
    one(f"Activation {activation}", lambda activation=activation: kl.Activation(activation))
one("Dense without bias", lambda: kl.Dense(4, use_bias=False), rows)
one("Dense on images", lambda: kl.Dense(3), image)
one("EinsumDense ab,bc->ac", lambda: kl.EinsumDense("ab,bc->ac", 4, bias_axes="c"), rows)
one("EinsumDense ellipsis", lambda: kl.EinsumDense("...x,xy->...y", 4, bias_axes="y", activation="relu"))
one("EinsumDense abc,cd->abd", lambda: kl.EinsumDense("abc,cd->abd", (None, 4)))
one("EinsumDense heads", lambda: kl.EinsumDense("abc,cde->abde", (None, 4, 3), bias_axes="de"))
one("EinsumDense heads, bias of one axis", lambda: kl.EinsumDense("abc,cde->abde", (None, 4, 3), bias_axes="d"))
one("EinsumDense joined", lambda: kl.EinsumDense("abcd,cde->abe", (None, 3), bias_axes="e"), lambda: image(width=5))
one("EinsumDense over time", lambda: kl.EinsumDense("abc,bd->adc", (4, FEATURES), bias_axes="d"), lambda: steps(time=7))
one("EinsumDense turned", lambda: kl.EinsumDense("abc,dc->adb", (3, None), bias_axes="d"))
case("Embedding", lambda: on(tokens(), kl.Embedding(VOCABULARY, 5)))
case("Embedding of a float input", lambda: on(keras.Input((None,), name="t_float"), kl.Embedding(VOCABULARY, 5)))

# ---- activations as layers

one("ReLU", kl.ReLU)
one("ReLU slope", lambda: kl.ReLU(negative_slope=0.25))
one("ReLU top", lambda: kl.ReLU(max_value=0.75))
one("ReLU 6", lambda: kl.ReLU(max_value=6))
one("ReLU all", lambda: kl.ReLU(max_value=0.75, negative_slope=0.25, threshold=0.125))
one("ReLU threshold", lambda: kl.ReLU(threshold=0.25))
one("ReLU threshold and top", lambda: kl.ReLU(threshold=0.25, max_value=0.5))
one("LeakyReLU", lambda: kl.LeakyReLU(negative_slope=0.125))
one("ELU", lambda: kl.ELU(alpha=0.5))
one("PReLU", lambda: kl.PReLU(shared_axes=[1]))
one("PReLU of every step", kl.PReLU, lambda: steps(time=7))
one("Softmax", kl.Softmax)
one("Softmax over time", lambda: kl.Softmax(axis=1))
one("Softmax over two axes", lambda: kl.Softmax(axis=[1, 2]))

# ---- convolutions and pooling

for padding in ("valid", "same", "causal"):
    one(f"Conv1D {padding}", lambda padding=padding: kl.Conv1D(4, 3, padding=padding, activation="relu"))
    one(f"Conv1D {padding} dilated", lambda padding=padding: kl.Conv1D(4, 2, padding=padding, dilation_rate=3))
    one(
        f"Conv1D {padding} strides", lambda padding=padding: kl.Conv1D(4, 4, padding=padding, strides=2, use_bias=False)
    )
one("Conv1D groups", lambda: kl.Conv1D(4, 3, groups=2))
for padding in ("valid", "same"):
    one(f"Conv2D {padding}", lambda padding=padding: kl.Conv2D(3, (2, 3), padding=padding, activation="tanh"), image)
    one(f"Conv2D {padding} strides", lambda padding=padding: kl.Conv2D(3, (3, 2), (2, 1), padding=padding), image)
    one(
        f"DepthwiseConv1D {padding}", lambda padding=padding: kl.DepthwiseConv1D(3, padding=padding, depth_multiplier=2)
    )
    one(f"DepthwiseConv2D {padding}", lambda padding=padding: kl.DepthwiseConv2D((2, 3), padding=padding), image)
    one(
        f"SeparableConv1D {padding}",
        lambda padding=padding: kl.SeparableConv1D(5, 3, padding=padding, activation="relu"),
    )
    one(
        f"SeparableConv2D {padding}",
        lambda padding=padding: kl.SeparableConv2D(5, (2, 3), padding=padding, depth_multiplier=2),
        image,
    )
    one(f"MaxPooling1D {padding}", lambda padding=padding: kl.MaxPooling1D(3, 2, padding=padding))
    one(f"AveragePooling1D {padding}", lambda padding=padding: kl.AveragePooling1D(3, 2, padding=padding))
    one(f"MaxPooling2D {padding}", lambda padding=padding: kl.MaxPooling2D((2, 3), padding=padding), image)
    one(
        f"AveragePooling2D {padding}",
        lambda padding=padding: kl.AveragePooling2D((3, 2), (1, 2), padding=padding),
        image,
    )
one("Conv2D dilated, groups", lambda: kl.Conv2D(4, 2, dilation_rate=2, groups=2), image)
for keepdims in (False, True):
    one(f"GlobalMaxPooling1D {keepdims}", lambda keepdims=keepdims: kl.GlobalMaxPooling1D(keepdims=keepdims))
    one(f"GlobalAveragePooling1D {keepdims}", lambda keepdims=keepdims: kl.GlobalAveragePooling1D(keepdims=keepdims))
    one(f"GlobalMaxPooling2D {keepdims}", lambda keepdims=keepdims: kl.GlobalMaxPooling2D(keepdims=keepdims), image)
    one(
        f"GlobalAveragePooling2D {keepdims}",
        lambda keepdims=keepdims: kl.GlobalAveragePooling2D(keepdims=keepdims),
        image,
    )
one("GlobalAveragePooling1D channels first", lambda: kl.GlobalAveragePooling1D(data_format="channels_first"))
one("GlobalMaxPooling2D channels first", lambda: kl.GlobalMaxPooling2D(data_format="channels_first"), image)

# ---- normalizations

one("BatchNormalization", kl.BatchNormalization)
one("BatchNormalization plain", lambda: kl.BatchNormalization(center=False, scale=False, epsilon=0.125))
one("BatchNormalization axis 1", lambda: kl.BatchNormalization(axis=1), lambda: steps(time=7))
one("LayerNormalization", kl.LayerNormalization)
one("LayerNormalization plain", lambda: kl.LayerNormalization(center=False, scale=False, epsilon=0.125))
one("LayerNormalization two axes", lambda: kl.LayerNormalization(axis=[1, 2]), lambda: steps(time=7))
one("LayerNormalization axis 1", lambda: kl.LayerNormalization(axis=1), lambda: steps(time=7))
one("LayerNormalization rms_scaling", lambda: kl.LayerNormalization(rms_scaling=True, epsilon=0.125))
one("RMSNormalization", lambda: kl.RMSNormalization(epsilon=0.25))
one("GroupNormalization", lambda: kl.GroupNormalization(groups=3, epsilon=0.125))
one("GroupNormalization instance", lambda: kl.GroupNormalization(groups=-1), image)
one("GroupNormalization axis 1", lambda: kl.GroupNormalization(groups=7, axis=1), lambda: steps(time=7))
one("UnitNormalization", kl.UnitNormalization)
one("UnitNormalization two axes", lambda: kl.UnitNormalization(axis=[1, 2]))
one("Normalization", kl.Normalization)
one("Normalization given", lambda: kl.Normalization(mean=0.5, variance=4.0))
one("Normalization of features", lambda: kl.Normalization(mean=list(range(6)), variance=[4.0] * 6, invert=True))

# ---- shapes, and what does nothing

one("Reshape", lambda: kl.Reshape((-1, 3)))
one("Flatten", kl.Flatten, lambda: steps(time=7))
one("Flatten channels first", lambda: kl.Flatten(data_format="channels_first"), lambda: image(height=5, width=7))
one("Flatten of rows", kl.Flatten, rows)
one("Permute", lambda: kl.Permute((2, 1)))
one("RepeatVector", lambda: kl.RepeatVector(4), rows)
one("ZeroPadding1D", lambda: kl.ZeroPadding1D((2, 1)))
one("ZeroPadding2D", lambda: kl.ZeroPadding2D(((1, 2), (3, 4))), image)
one("Cropping1D", lambda: kl.Cropping1D((2, 1)))
one("Cropping1D only before", lambda: kl.Cropping1D((2, 0)))
one("Cropping2D", lambda: kl.Cropping2D(((1, 0), (2, 1))), image)
one("UpSampling1D", lambda: kl.UpSampling1D(3))
one("UpSampling2D", lambda: kl.UpSampling2D((2, 3)), image)
one("Rescaling", lambda: kl.Rescaling(0.25, 0.5))
case(
    "layers for training",
    lambda: on(
        steps(),
        kl.GaussianNoise(0.5),
        kl.Dense(4),
        kl.Dropout(0.5),
        kl.SpatialDropout1D(0.5),
        kl.GaussianDropout(0.5),
        kl.AlphaDropout(0.5),
        kl.ActivityRegularization(0.1),
        kl.Identity(),
    ),
)

# ---- recurrent layers


def states(*sizes: int) -> list[Any]:
    """Inputs that are states."""
    return [keras.Input((size,), name=f"state_{place}") for place, size in enumerate(sizes)]


def with_states(layer: Any, *sizes: int) -> Made:
    """A layer that begins from states given to the model."""
    x, given = steps(), states(*sizes)
    return [x, *given], layer(x, initial_state=given)


for kind in (kl.LSTM, kl.GRU, kl.SimpleRNN):
    own, count = kind.__name__, 2 if kind is kl.LSTM else 1
    one(f"{own}", lambda kind=kind: kind(5))
    one(f"{own} sequences", lambda kind=kind: kind(5, return_sequences=True, use_bias=False))
    one(f"{own} states", lambda kind=kind: kind(5, return_sequences=True, return_state=True))
    one(f"{own} backwards", lambda kind=kind: kind(5, return_sequences=True, return_state=True, go_backwards=True))
    one(f"{own} functions", lambda kind=kind: kind(5, activation="softsign", dropout=0.5))
    case(f"{own} masked", lambda kind=kind: masked(kind(5, return_sequences=True, return_state=True)))
    case(f"{own} masked, zeros", lambda kind=kind: masked(kind(5, return_sequences=True, zero_output_for_mask=True)))
    case(f"{own} masked, last", lambda kind=kind: masked(kind(5)))
    case(f"{own} masked, backwards", lambda kind=kind: masked(kind(5, return_sequences=True, go_backwards=True)))
    case(
        f"{own} initial state",
        lambda kind=kind, count=count: with_states(kind(5, return_sequences=True, return_state=True), *[5] * count),
    )
    case(
        f"Bidirectional {own} initial state",
        lambda kind=kind, count=count: with_states(kl.Bidirectional(kind(5, return_state=True)), *[5] * count * 2),
    )
    for mode in ("concat", "sum", "mul", "ave", None):
        one(
            f"Bidirectional {own} {mode}",
            lambda kind=kind, mode=mode: kl.Bidirectional(kind(5, return_sequences=True), merge_mode=mode),
        )
    case(f"Bidirectional {own} masked", lambda kind=kind: masked(kl.Bidirectional(kind(5, return_sequences=True))))
    case(f"Bidirectional {own} masked, last", lambda kind=kind: masked(kl.Bidirectional(kind(5))))
one("GRU reset before", lambda: kl.GRU(5, reset_after=False, return_sequences=True))
one("LSTM hard_sigmoid", lambda: kl.LSTM(5, recurrent_activation="hard_sigmoid"))
one("Bidirectional states", lambda: kl.Bidirectional(kl.LSTM(5, return_sequences=True, return_state=True)))
one("Bidirectional states, None", lambda: kl.Bidirectional(kl.GRU(5, return_state=True), merge_mode=None))
one(
    "Bidirectional of unlike layers",
    lambda: kl.Bidirectional(
        kl.LSTM(5, return_sequences=True), backward_layer=kl.GRU(5, return_sequences=True, go_backwards=True)
    ),
)
for mode in ("concat", "ave", None):
    one(
        f"Bidirectional of unlike layers, states, {mode}",
        lambda mode=mode: kl.Bidirectional(
            kl.LSTM(5, return_sequences=True, return_state=True),
            merge_mode=mode,
            backward_layer=kl.LSTM(
                5, activation="relu", use_bias=False, return_sequences=True, return_state=True, go_backwards=True
            ),
        ),
    )
one("RNN of a cell", lambda: kl.RNN(kl.GRUCell(5), return_sequences=True))
one("RNN of cells", lambda: kl.RNN([kl.LSTMCell(5), kl.GRUCell(4)], return_sequences=True, return_state=True))
case("RNN of cells, masked", lambda: masked(kl.RNN([kl.LSTMCell(5), kl.GRUCell(4)], return_sequences=True)))
one("Bidirectional RNN", lambda: kl.Bidirectional(kl.RNN([kl.SimpleRNNCell(4), kl.GRUCell(5)], return_sequences=True)))


def a_cell() -> Made:
    """One step of a cell."""
    x, given = rows(), states(5, 5)
    h, (h_after, c_after) = kl.LSTMCell(5)(x, given)
    return [x, *given], [h, h_after, c_after]


case("LSTMCell", a_cell)
case("LSTM unrolled, masked", lambda: on(steps(time=7, name="gaps"), kl.Masking(), kl.LSTM(5, unroll=True)))

# ---- masks


def two_masked(merging: Any, behind: Any, second: bool = True) -> Made:
    """Two embeddings with masks of their own, merged."""
    a, b = tokens("a"), tokens("b")
    first = kl.Embedding(VOCABULARY, 5, mask_zero=True)(a)
    other = kl.Embedding(VOCABULARY, 5, mask_zero=second)(b)
    return [a, b], behind(merging([first, other]))


for merging in (kl.Add, kl.Subtract, kl.Multiply, kl.Average, kl.Maximum, kl.Minimum, kl.Concatenate):
    for second in (True, False):
        for behind in (kl.GRU, kl.Dense):
            case(
                f"masks of {merging.__name__} before {behind.__name__}, both {second}",
                lambda merging=merging, second=second, behind=behind: two_masked(merging(), behind(4), second),
            )
case("masks one after the other", lambda: two_masked(kl.Concatenate(axis=1), kl.GRU(4)))
case("masks one after the other, one missing", lambda: two_masked(kl.Concatenate(axis=1), kl.GRU(4), second=False))
for name, passing in {
    "Dropout": lambda: kl.Dropout(0.5),
    "Dense": lambda: kl.Dense(5, activation="softsign"),
    "Activation": lambda: kl.Activation("tanh"),
    "BatchNormalization": kl.BatchNormalization,
    "LayerNormalization": kl.LayerNormalization,
    "UnitNormalization": kl.UnitNormalization,
    "LeakyReLU": kl.LeakyReLU,
    "Identity": kl.Identity,
    "Rescaling": lambda: kl.Rescaling(0.5),
    "GaussianNoise": lambda: kl.GaussianNoise(0.5),
    "RMSNormalization (drops it)": kl.RMSNormalization,
    "Conv1D (drops it)": lambda: kl.Conv1D(5, 3, padding="same"),
    "UpSampling1D (drops it)": lambda: kl.UpSampling1D(2),
    "ZeroPadding1D (drops it)": lambda: kl.ZeroPadding1D(1),
    "Reshape (drops it)": lambda: kl.Reshape((-1, 5)),
    "EinsumDense (drops it)": lambda: kl.EinsumDense("abc,cd->abd", (None, 4)),
    "LSTM": lambda: kl.LSTM(4, return_sequences=True),
    "Bidirectional": lambda: kl.Bidirectional(kl.LSTM(4, return_sequences=True)),
    "TimeDistributed": lambda: kl.TimeDistributed(kl.Dense(4)),
    "Masking": kl.Masking,
}.items():
    case(f"a mask through {name}", lambda passing=passing: masked(passing(), kl.GRU(4)))
case("a mask into GlobalAveragePooling1D", lambda: masked(kl.GlobalAveragePooling1D()))
case("a mask into GlobalAveragePooling1D, keepdims", lambda: masked(kl.GlobalAveragePooling1D(keepdims=True)))
case("a mask into GlobalMaxPooling1D", lambda: masked(kl.GlobalMaxPooling1D()))
case(
    "a mask and Flatten",
    lambda: on(keras.Input((7,), dtype="int32", name="t"), kl.Embedding(9, 5, mask_zero=True), kl.Flatten()),
)
case("Masking", lambda: on(steps(name="gaps"), kl.Masking(), kl.LSTM(5, return_sequences=True)))
case("Masking of a number", lambda: on(steps(name="gaps"), kl.Masking(mask_value=0.5), kl.Dense(4), kl.LSTM(5)))
case("Masking alone", lambda: on(steps(name="gaps"), kl.Masking()))
case(
    "Masking and states",
    lambda: on(steps(name="gaps"), kl.Masking(), kl.GRU(5, return_sequences=True, return_state=True)),
)


def explicit_mask() -> Made:
    """A mask that is given in the call."""
    x, valid = steps(), keras.Input((None,), name="valid", dtype="bool")
    y = kl.LSTM(5, return_sequences=True)(x, mask=valid)
    return [x, valid], [kl.GRU(4)(y), kl.GlobalAveragePooling1D()(x, mask=valid)]


def explicit_softmax() -> Made:
    """A softmax under a mask."""
    x, valid = rows(), keras.Input((FEATURES,), name="valid", dtype="bool")
    return [x, valid], kl.Softmax()(x, mask=valid)


def states_beside_a_mask() -> Made:
    """A layer that is given states gets no mask of its own, but hands it on."""
    t = tokens()
    x = kl.Embedding(VOCABULARY, 5, mask_zero=True)(t)
    _, h, c = kl.LSTM(4, return_state=True, name="encoder")(x)
    y = kl.LSTM(4, return_sequences=True, name="decoder")(x, initial_state=[h, c])
    return [t], [y, kl.GRU(3)(y)]


case("an explicit mask", explicit_mask)
case("Softmax under a mask", explicit_softmax)
case("states beside a mask", states_beside_a_mask)

# ---- TimeDistributed

one("TimeDistributed Dense", lambda: kl.TimeDistributed(kl.Dense(4, activation="relu")))
one("TimeDistributed Activation", lambda: kl.TimeDistributed(kl.Activation("softmax")))
one(
    "TimeDistributed Conv2D",
    lambda: kl.TimeDistributed(kl.Conv2D(2, 3)),
    lambda: keras.Input((None, 5, 6, 2), name="x"),
)
one("TimeDistributed Flatten", lambda: kl.TimeDistributed(kl.Flatten()), lambda: keras.Input((None, 5, 2), name="x"))
one("TimeDistributed LSTM", lambda: kl.TimeDistributed(kl.LSTM(4)), lambda: keras.Input((None, 5, 2), name="x"))
one(
    "TimeDistributed Bidirectional",
    lambda: kl.TimeDistributed(kl.Bidirectional(kl.GRU(4, return_sequences=True))),
    lambda: keras.Input((None, None, 2), name="x"),
)
one("TimeDistributed BatchNormalization", lambda: kl.TimeDistributed(kl.BatchNormalization()))
one("TimeDistributed TimeDistributed", lambda: kl.TimeDistributed(kl.TimeDistributed(kl.Dense(3))), image)


def characters() -> Made:
    """A model of the characters of a word for every word, masks in it."""
    letters = keras.Input((None,), dtype="int32", name="letters")
    y = kl.Embedding(VOCABULARY, 4, mask_zero=True)(letters)
    inner = keras.Model(letters, kl.Dense(3)(kl.LSTM(5)(y)), name="word")
    t = keras.Input((None, 5), dtype="int32", name="t")
    return [t], kl.GRU(4)(kl.TimeDistributed(inner)(t))


def nested_sequential_in_time() -> Made:
    """A Sequential for every step."""
    inner = keras.Sequential([kl.Dense(4), kl.BatchNormalization(), kl.Dense(3, activation="tanh")], name="inner")
    return on(steps(), kl.TimeDistributed(inner), kl.LSTM(4))


def masked_inside() -> Made:
    """An Embedding of characters whose mask goes into a layer inside a TimeDistributed."""
    t = keras.Input((None, 5), dtype="int32", name="t")
    y = kl.Embedding(VOCABULARY, 4, mask_zero=True)(t)
    return [t], kl.TimeDistributed(kl.LSTM(5))(y)


case(
    "TimeDistributed Sequential under a mask",
    lambda: masked(kl.TimeDistributed(keras.Sequential([kl.Dense(4), kl.BatchNormalization()])), kl.GRU(3)),
)
case(
    "TimeDistributed BatchNormalization under a mask",
    lambda: masked(kl.TimeDistributed(kl.BatchNormalization()), kl.GRU(3)),
)
case("TimeDistributed model", characters)
case("TimeDistributed Sequential", nested_sequential_in_time)
case("TimeDistributed LSTM under a mask", masked_inside)

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
