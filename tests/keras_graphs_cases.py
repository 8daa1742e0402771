"""Small Keras models, one for each layer and option that is read as a graph: each gives its inputs and its outputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import layers as kl

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
