"""Every operation of a graph against torch and Keras in float64, and against formulas."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from parity.frameworks.keras import read
from parity.functions import FUNCTIONS, Function
from parity.graph import computed, shapes_of
from parity.graph.noise import Float32Noise
from parity.graph.operations import (
    ELEMENTWISE,
    Activation,
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
    Length,
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
    UnitNormalization,
)
from parity.network import Bidirectional, Dense, Dropout, Embedding, Masking, Recurrent
from parity.recurrent import Array
from parity.reference import Exact
from tests.combinations import covering


def run(operation: Any, *values: Any) -> Array:
    """Its first value; the shape is what `shapes` said."""
    return run_all(operation, *values)[0]


def run_all(operation: Any, *values: Any) -> tuple[Array, ...]:
    found = computed(operation, values, Exact())
    said = shapes_of(operation, [None if value is None else value.shape for value in values])
    assert said == tuple(value.shape for value in found)
    return found


def close(found: Any, expected: Any) -> None:
    expected = np.asarray(expected)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-11)


def tensor(x: Array) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(x))


# ---- convolutions and pooling


@pytest.mark.parametrize("axes", [1, 2])
@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (3, 1), (1, 2), (2, 3)])
@pytest.mark.parametrize("pad", [0, 2])
def test_convolution_as_torch(
    axes: int, groups: int, stride: int, dilation: int, pad: int, random: np.random.Generator
) -> None:
    sizes, strides, dilations = (3, 2)[:axes], (stride, 1)[:axes], (dilation, 2)[:axes]
    kernel, bias = random.standard_normal((*sizes, 6 // groups, 12)), random.standard_normal(12)
    x = random.standard_normal((2, 6, 13, 11)[: axes + 2])
    pads = ((pad, pad), (1, 1))[:axes]
    function = F.conv1d if axes == 1 else F.conv2d
    own = tensor(np.moveaxis(kernel, (-1, -2), (0, 1)))
    expected = function(tensor(x), own, tensor(bias), strides, [one for one, _ in pads], dilations, groups).numpy()
    operation = Convolution("conv", kernel, bias, strides, dilations, pads, groups, channels_last=False)
    close(run(operation, x), expected)
    last = Convolution("conv", kernel, bias, strides, dilations, pads, groups, channels_last=True)
    close(run(last, np.moveaxis(x, 1, -1)), np.moveaxis(expected, 1, -1))
    without = Convolution("conv", kernel, None, strides, dilations, pads, groups, channels_last=False)
    close(run(without, x) + bias.reshape(-1, *[1] * axes), expected)


@pytest.mark.parametrize("length", [10, 11, 12, 13])
@pytest.mark.parametrize(
    ("size", "stride", "dilation"), [(3, 1, 1), (4, 2, 1), (3, 2, 1), (2, 3, 1), (1, 2, 1), (3, 1, 2), (4, 1, 3)]
)
@pytest.mark.parametrize("padding", ["same", "valid", "causal"])
def test_convolution_as_keras(
    length: int, size: int, stride: int, dilation: int, padding: str, random: np.random.Generator
) -> None:
    layer = keras.layers.Conv1D(5, size, stride, padding, dilation_rate=dilation, dtype="float64")
    x = random.standard_normal((2, length, 3))
    layer.build(x.shape)
    weights = [random.standard_normal(one.shape) for one in layer.get_weights()]
    layer.set_weights(weights)
    own: Any = {"same": "same", "valid": ((0, 0),), "causal": (((size - 1) * dilation, 0),)}[padding]
    operation = Convolution("conv", weights[0], weights[1], (stride,), (dilation,), own)
    close(run(operation, x), np.asarray(layer(x)))


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_depthwise_convolution_as_keras(padding: str, stride: int, random: np.random.Generator) -> None:
    """Keras keeps (height, width, channels, multiplier): the groups' outputs stand one after the other."""
    layer = keras.layers.DepthwiseConv2D((3, 2), stride, padding, depth_multiplier=2, dtype="float64")
    x = random.standard_normal((2, 9, 10, 4))
    layer.build(x.shape)
    weights = [random.standard_normal(one.shape) for one in layer.get_weights()]
    layer.set_weights(weights)
    own: Any = "same" if padding == "same" else ((0, 0), (0, 0))
    operation = Convolution("conv", weights[0].reshape(3, 2, 1, 8), weights[1], (stride, stride), (1, 1), own, groups=4)
    close(run(operation, x), np.asarray(layer(x)))


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(("size", "stride"), [(2, 2), (3, 2), (3, 1), (2, 3), (5, 4)])
@pytest.mark.parametrize("function", ["max", "average"])
def test_pooling_as_keras(padding: str, size: int, stride: int, function: Any, random: np.random.Generator) -> None:
    x = random.standard_normal((2, 11, 8, 3)) - 2
    own: Any = "same" if padding == "same" else ((0, 0), (0, 0))
    kind = {"max": keras.layers.MaxPooling2D, "average": keras.layers.AveragePooling2D}[function]
    expected = np.asarray(kind((size, 2), (stride, 3), padding, dtype="float64")(x))
    operation = Pooling("pool", function, (size, 2), (stride, 3), (1, 1), own)
    close(run(operation, x), expected)
    first = Pooling("pool", function, (size, 2), (stride, 3), (1, 1), own, channels_last=False)
    close(run(first, np.moveaxis(x, -1, 1)), np.moveaxis(expected, -1, 1))


POOL: Any = Pooling


@pytest.mark.parametrize("counts", [True, False])
@pytest.mark.parametrize(
    ("size", "stride", "pad", "dilation"), [(3, 2, 1, 1), (4, 1, 2, 1), (3, 3, 0, 2), (2, 1, 1, 3)]
)
def test_pooling_as_torch(
    counts: bool, size: int, stride: int, pad: int, dilation: int, random: np.random.Generator
) -> None:
    x = random.standard_normal((2, 3, 12)) - 2
    options: Any = ((size,), (stride,), (dilation,), ((pad, pad),))
    expected = F.max_pool1d(tensor(x), size, stride, pad, dilation).numpy()
    close(run(POOL("pool", "max", *options, channels_last=False), x), expected)
    if dilation == 1:
        expected = F.avg_pool1d(tensor(x), size, stride, pad, count_include_pad=counts).numpy()
        close(run(POOL("pool", "average", *options, channels_last=False, counts_padding=counts), x), expected)


# ---- normalizations


BATCH_NORM: Any = F.batch_norm


def four(random: np.random.Generator, size: int) -> tuple[Array, Array, Array, Array]:
    mean, gamma, beta = random.standard_normal((3, size))
    return mean, random.random(size) + 0.1, gamma, beta


@pytest.mark.parametrize("epsilon", [1e-3, 0.5])
def test_batch_normalization_as_torch_and_keras(epsilon: float, random: np.random.Generator) -> None:
    x = random.standard_normal((2, 3, 5, 4)) * 3 + 1
    mean, variance, gamma, beta = four(random, 3)
    expected = BATCH_NORM(*(tensor(one) for one in (x, mean, variance, gamma, beta)), eps=epsilon).numpy()
    close(run(BatchNormalization("bn", mean, variance, gamma, beta, epsilon, axis=1), x), expected)
    close(
        run(BatchNormalization("bn", mean, variance, gamma, beta, epsilon), np.moveaxis(x, 1, -1)),
        np.moveaxis(expected, 1, -1),
    )
    layer = keras.layers.BatchNormalization(axis=1, epsilon=epsilon, scale=False, dtype="float64")
    layer.build(x.shape)
    layer.set_weights([beta, mean, variance])
    close(run(BatchNormalization("bn", mean, variance, None, beta, epsilon, axis=1), x), np.asarray(layer(x)))
    without = BATCH_NORM(*(tensor(one) for one in (x, mean, variance)), eps=epsilon).numpy()
    close(run(BatchNormalization("bn", mean, variance, None, None, epsilon, axis=-3), x), without)


@pytest.mark.parametrize("axes", [1, 2])
@pytest.mark.parametrize("epsilon", [1e-5, 0.3])
def test_layer_normalization_as_torch(axes: int, epsilon: float, random: np.random.Generator) -> None:
    x = random.standard_normal((2, 3, 4, 5)) + 1
    shape = x.shape[-axes:]
    gamma, beta = random.standard_normal((2, *shape))
    expected = F.layer_norm(tensor(x), shape, tensor(gamma), tensor(beta), epsilon).numpy()
    close(run(LayerNormalization("ln", gamma, beta, epsilon, axes), x), expected)
    close(
        run(LayerNormalization("ln", None, None, epsilon, axes), x), F.layer_norm(tensor(x), shape, eps=epsilon).numpy()
    )
    expected = F.rms_norm(tensor(x), shape, tensor(gamma), epsilon).numpy()
    close(run(LayerNormalization("ln", gamma, None, epsilon, axes, rms=True), x), expected)


def test_layer_normalization_as_keras(random: np.random.Generator) -> None:
    x = random.standard_normal((2, 3, 5)) + 1
    layer = keras.layers.LayerNormalization(dtype="float64")
    layer.build(x.shape)
    gamma, beta = random.standard_normal((2, 5))
    layer.set_weights([gamma, beta])
    close(run(LayerNormalization("ln", gamma, beta, layer.epsilon), x), np.asarray(layer(x)))


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_group_normalization_as_torch_and_keras(groups: int, random: np.random.Generator) -> None:
    x = random.standard_normal((2, 6, 4, 5)) + 1
    gamma, beta = random.standard_normal((2, 6))
    expected = F.group_norm(tensor(x), groups, tensor(gamma), tensor(beta), 1e-2).numpy()
    close(run(GroupNormalization("gn", gamma, beta, 1e-2, groups, axis=1), x), expected)
    layer = keras.layers.GroupNormalization(groups, axis=-1, epsilon=1e-2, dtype="float64")
    last = np.moveaxis(x, 1, -1)
    layer.build(last.shape)
    layer.set_weights([gamma, beta])
    close(run(GroupNormalization("gn", gamma, beta, 1e-2, groups), last), np.asarray(layer(last)))


def test_unit_normalization_as_torch(random: np.random.Generator) -> None:
    x = random.standard_normal((2, 3, 4))
    x[0, 0] = 0.0
    for axes in ((-1,), (1,), (0,)):
        close(run(UnitNormalization("unit", axes), x), F.normalize(tensor(x), dim=axes[0]).numpy())
    close(run(UnitNormalization("unit", (1, 2)), x), x / np.maximum(np.sqrt((x**2).sum((1, 2), keepdims=True)), 1e-12))


# ---- products, reductions, element by element


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((3,), (3,)),
        ((2, 3), (3,)),
        ((3,), (3, 4)),
        ((5, 1, 2, 3), (4, 3, 6)),
        ((4, 2, 3), (3,)),
        ((3,), (4, 3, 2)),
        ((2, 3), (3, 1)),
    ],
)
def test_matrix_products_as_torch(left: tuple[int, ...], right: tuple[int, ...], random: np.random.Generator) -> None:
    x, y = random.standard_normal(left), random.standard_normal(right)
    close(run(MatMul("matmul"), x, y), torch.matmul(tensor(x), tensor(y)).numpy())


@pytest.mark.parametrize(
    "equation",
    ["btd,bsd->bts", "bthd,bshd->bhts", "btd,dhk->bthk", "ab->ba", "ab->b", "ab,b->", "aab->ab", "a, b -> ab"],
)
def test_einsums_as_torch(equation: str, random: np.random.Generator) -> None:
    lengths = dict(zip("abtsdhk", range(2, 9), strict=True))
    terms = equation.replace(" ", "").split("->", maxsplit=1)[0].split(",")
    values = [random.standard_normal([lengths[letter] for letter in term]) for term in terms]
    close(run(Einsum("einsum", equation), *values), torch.einsum(equation, *map(tensor, values)).numpy())


REDUCTIONS: dict[str, Callable[..., Any]] = {
    "sum": torch.sum,
    "mean": torch.mean,
    "max": torch.amax,
    "min": torch.amin,
    "logsumexp": torch.logsumexp,
    "norm": lambda x, axes, keep: torch.linalg.vector_norm(x, dim=axes, keepdim=keep),
}


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("axes", [(0,), (-1,), (1, -1), (0, 1, 2)])
@pytest.mark.parametrize("function", REDUCTIONS)
def test_reductions_as_torch(function: Any, axes: tuple[int, ...], keep: bool, random: np.random.Generator) -> None:
    x = random.standard_normal((2, 3, 4)) * 100
    close(run(Reduction("reduction", function, axes, keep), x), REDUCTIONS[function](tensor(x), axes, keep).numpy())


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_other_reductions(axis: int, keep: bool, random: np.random.Generator) -> None:
    x = random.integers(-1, 2, (3, 4, 2)).astype(np.float64)
    for function in ("prod", "argmax"):
        expected = getattr(torch, function)(tensor(x), axis, keep).numpy()
        if function == "prod":
            close(run(Reduction("reduction", "prod", (axis,), keep), x), expected)
    ties = run(Reduction("reduction", "argmax", (axis,), keep), x)
    close(ties, keras.ops.convert_to_numpy(keras.ops.argmax(x, axis, keepdims=keep)))
    for function in ("any", "all"):
        expected = getattr(torch, function)(tensor(x != 0), axis, keep).numpy()
        assert np.array_equal(run(Reduction("reduction", function, (axis,), keep), x != 0), expected)  # type: ignore[arg-type]


BROADCAST: Any = torch.broadcast_tensors
TORCH_ELEMENTWISE: dict[str, Callable[..., Any]] = {
    "add": lambda *x: sum(x[1:], x[0]),
    "multiply": lambda *x: math.prod(x[1:], start=x[0]),
    "average": lambda *x: sum(x[1:], x[0]) / len(x),
    "maximum": lambda *x: torch.stack(BROADCAST(*x)).amax(0),
    "minimum": lambda *x: torch.stack(BROADCAST(*x)).amin(0),
    "subtract": torch.sub,
    "divide": torch.div,
    "power": torch.pow,
    "equal": torch.eq,
    "not_equal": torch.ne,
    "greater": torch.gt,
    "greater_equal": torch.ge,
    "less": torch.lt,
    "less_equal": torch.le,
    "logical_and": lambda *x: torch.stack(BROADCAST(*x)).all(0),
    "logical_or": lambda *x: torch.stack(BROADCAST(*x)).any(0),
    "logical_not": torch.logical_not,
    "where": torch.where,
    "negative": torch.neg,
    "abs": torch.abs,
    "sign": torch.sign,
    "floor": torch.floor,
    "square": torch.square,
    "sqrt": torch.sqrt,
    "rsqrt": torch.rsqrt,
    "reciprocal": torch.reciprocal,
    "exp": torch.exp,
    "log": torch.log,
    "log1p": torch.log1p,
    "sin": torch.sin,
    "cos": torch.cos,
    "erf": torch.erf,
}


@pytest.mark.parametrize("function", ELEMENTWISE)
def test_elementwise_functions_as_torch(function: str, random: np.random.Generator) -> None:
    shapes = [(2, 3, 4), (3, 1), (4,), (1, 1, 4)][: ELEMENTWISE[function].arity or 4]
    positive = function in ("sqrt", "rsqrt", "log", "log1p", "power")
    values: list[Array] = [np.round(random.standard_normal(shape) * 2, 1) for shape in shapes]
    values = [np.abs(x) + 0.1 for x in values] if positive else values
    if function.startswith("logical"):
        values = [x > 0 for x in values]
    if function == "where":
        values[0] = values[0] > 0
    if function in ("divide", "reciprocal"):
        values[-1] = values[-1] + 0.05
    found, expected = (
        run(Elementwise(function, function), *values),
        TORCH_ELEMENTWISE[function](*map(tensor, values)).numpy(),
    )
    assert found.dtype == expected.dtype
    close(found, expected)


SIGMOID: Callable[[Array], Array] = lambda x: torch.sigmoid(tensor(x)).numpy()  # noqa: E731  one formula of a table
SOFTPLUS: Callable[[Array], Array] = lambda x: np.log1p(np.exp(x))  # noqa: E731  one formula of a table
FORMULAS: dict[str, tuple[tuple[float, ...], Callable[..., Any]]] = {
    "tanh": ((), np.tanh),
    "sigmoid": ((), SIGMOID),
    "relu": ((), lambda x: x * (x > 0)),
    "affine": ((0.3, -0.7), lambda x, a, b: a * x + b),
    "hard_sigmoid": ((0.3, 0.4), lambda x, a, b: np.minimum(1, np.maximum(0, a * x + b))),
    "leaky_relu": ((0.3,), lambda x, a: x * np.where(x > 0, 1, a)),
    "thresholded_relu": ((0.6,), lambda x, a: x * (x > a)),
    "scaled_tanh": ((1.7, 0.6), lambda x, a, b: a * np.tanh(b * x)),
    "elu": ((0.7,), lambda x, a: np.where(x > 0, x, a * (np.exp(x) - 1))),
    "softsign": ((), lambda x: x / (1 + np.abs(x))),
    "softplus": ((), SOFTPLUS),
    "selu": ((), lambda x: torch.selu(tensor(x)).numpy()),
    "silu": ((), lambda x: x * SIGMOID(x)),
    "gelu": ((), lambda x: x * torch.special.ndtr(tensor(x)).numpy()),
    "mish": ((), lambda x: x * np.tanh(SOFTPLUS(x))),
    "exponential": ((), np.exp),
    "relu6": ((), lambda x: np.minimum(6, np.maximum(0, x))),
    "hard_tanh": ((), lambda x: np.minimum(1, np.maximum(-1, x))),
    "hard_silu": ((), lambda x: F.hardswish(tensor(x)).numpy()),
    "log_sigmoid": ((), lambda x: np.log(SIGMOID(x))),
    "tanh_shrink": ((), lambda x: x - np.tanh(x)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_activations_by_their_formulas(name: str, random: np.random.Generator) -> None:
    parameters, formula = FORMULAS[name]
    x = np.concatenate(
        [random.standard_normal((3, 40)) * 3, [[0.0, -0.0, 1.0, -1.0, 6.5, -6.5, 0.6, 3.0] * 5] * 3], axis=1
    )
    close(run(Activation("activation", Function(name, *parameters)), x), formula(x, *parameters))


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_softmax_as_torch(axis: int, random: np.random.Generator) -> None:
    x = random.standard_normal((2, 3, 4)) * 300
    close(run(Softmax("softmax", axis), x), F.softmax(tensor(x), axis).numpy())
    close(run(Softmax("softmax", axis, log=True), x), F.log_softmax(tensor(x), axis).numpy())


def test_a_masked_softmax_has_no_share_where_it_is_masked(random: np.random.Generator) -> None:
    x = random.standard_normal((2, 5))
    x[:, 3:] = -np.inf
    close(run(Softmax("softmax"), x), F.softmax(tensor(x), -1).numpy())
    noisy = Softmax("softmax").compute(x, rounding=Float32Noise(0))[0]
    assert (noisy[:, 3:] == 0).all()
    assert np.isfinite(noisy).all()


@pytest.mark.parametrize("dtype", ["float32", "int64", "bool"])
def test_casts_as_torch(dtype: Any) -> None:
    x = np.array([-2.7, -0.3, 0.0, 0.9, 3.5])
    expected = tensor(x).to({"float32": torch.float64, "int64": torch.int64, "bool": torch.bool}[dtype]).numpy()
    found = run(Cast("cast", dtype), x)
    assert found.dtype == expected.dtype
    assert np.array_equal(found, expected)


# ---- the same numbers in another place


def test_shaping_as_numpy_and_torch(random: np.random.Generator) -> None:
    x = random.standard_normal((2, 3, 4))
    other = random.standard_normal((5, 6))
    close(run(Transpose("t", (-1, 0, 1)), x), x.transpose(2, 0, 1))
    close(run(Reshape("r", (Length(0, 2), -1)), x), x.reshape(4, 6))
    close(run(Reshape("r", (Length(1, 1), Length(0, 0, 2))), x, other), x.reshape(6, 4))
    close(run(ExpandDims("e", (0, -1)), x), x[None, ..., None])
    close(run(ExpandDims("e", (-1, -3)), x), np.expand_dims(x, (-1, -3)))
    close(run(Squeeze("s", (-1, 0)), x[None, ..., None]), x)
    close(run(Concatenate("c", -2), x, x[:, :1]), np.concatenate([x, x[:, :1]], 1))
    close(run(Stack("s", -1), x, 2 * x), np.stack([x, 2 * x], -1))
    close(run(Stack("s", -2), x, 2 * x), torch.stack([tensor(x), 2 * tensor(x)], -2).numpy())
    close(run(Slice("s", ((-1, 3, None, -2), (1, -2, None, 1))), x), x[:, -2:, 3::-2])
    close(run(Slice("s", ((0, 5, 9, 1),)), x), x[5:9])
    close(run(Select("s", -2, -1), x), x[:, -1])
    places = random.integers(-3, 3, (5, 2))
    close(run(Take("t", -2), x, places), x[:, places])
    close(run(Flip("f", (0, -1)), x), tensor(x).flip((0, -1)).numpy())
    close(run(Repeat("r", -1, 3), x), tensor(x).repeat_interleave(3, -1).numpy())
    close(run(Expand("e", (5, -1, 3, -1)), x[:, :1]), np.broadcast_to(x[:, :1], (5, 2, 3, 4)))
    close(run(Expand("e", (Length(1, 0), -1, -1)), x[:1], other), np.broadcast_to(x[:1], (5, 3, 4)))
    close(run(Range("r", Length(0, 1, 2)), x), np.arange(6))
    close(run(Constant("c", x.astype(np.float32))), x.astype(np.float32).astype(np.float64))


@pytest.mark.parametrize(
    ("mode", "torch_mode"), [("constant", "constant"), ("reflect", "reflect"), ("edge", "replicate")]
)
def test_padding_as_torch(mode: Any, torch_mode: str, random: np.random.Generator) -> None:
    x = random.standard_normal((2, 3, 4, 5))
    options = {"value": 1.5} if mode == "constant" else {}
    expected = F.pad(tensor(x), (1, 2, 3, 0), torch_mode, **options).numpy()
    close(run(Pad("pad", ((0, 0), (0, 0), (3, 0), (1, 2)), 1.5, mode), x), expected)


# ---- layers


KERAS_RECURRENT: dict[str, Any] = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU, "rnn": keras.layers.SimpleRNN}


def recurrent(layer: Any, random: np.random.Generator, time: int = 6, features: int = 3) -> Any:
    """The description of a Keras layer with random weights."""
    layer.build((None, time, features))
    layer.set_weights([random.standard_normal(one.shape) * 0.5 for one in layer.get_weights()])
    (found,) = (one for one in read(layer).layers if isinstance(one, (Recurrent, Bidirectional)))
    return found


MASKS: dict[str, Array | None] = {
    "none": None,
    "right": np.arange(6) < np.array([[6], [4], [1], [3]]),
    "holes": np.array([[1, 0, 1, 1, 0, 1], [0, 0, 1, 0, 1, 0], [1, 1, 1, 1, 1, 1], [0, 1, 0, 0, 0, 0]], bool),
}


@pytest.mark.parametrize(
    ("kind", "mask", "sequences", "backwards"),
    covering(itertools.product(KERAS_RECURRENT, MASKS, [True, False], [True, False])),
)
def test_recurrent_layers_as_keras(
    kind: str, mask: str, sequences: bool, backwards: bool, random: np.random.Generator
) -> None:
    options = {"return_sequences": sequences, "return_state": True, "go_backwards": backwards, "dtype": "float64"}
    layer = KERAS_RECURRENT[kind](4, **options)
    operation, x = recurrent(layer, random), random.standard_normal((4, 6, 3))
    states = [random.standard_normal((4, 4)) for _ in range(2 if kind == "lstm" else 1)]
    for given_states in ([], states):
        expected = layer(x, mask=MASKS[mask], initial_state=given_states or None)
        found = run_all(operation, x, MASKS[mask], *given_states)
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            close(one, np.asarray(other))


@pytest.mark.parametrize(
    ("kind", "mask", "sequences", "merge_mode"),
    covering(itertools.product(KERAS_RECURRENT, MASKS, [True, False], ["concat", "sum", "mul", "ave", None])),
)
def test_two_directions_as_keras(
    kind: str, mask: str, sequences: bool, merge_mode: Any, random: np.random.Generator
) -> None:
    inner = KERAS_RECURRENT[kind](4, return_sequences=sequences, return_state=True, dtype="float64")
    layer = keras.layers.Bidirectional(inner, merge_mode=merge_mode, dtype="float64")
    operation, x = recurrent(layer, random), random.standard_normal((4, 6, 3))
    states = [random.standard_normal((4, 4)) for _ in range(4 if kind == "lstm" else 2)]
    for given_states in ([], states):
        expected = keras.tree.flatten(layer(x, mask=MASKS[mask], initial_state=given_states or None))
        found = run_all(operation, x, MASKS[mask], *given_states)
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            close(one, np.asarray(other))


@pytest.mark.parametrize("merge_mode", ["concat", None])
@pytest.mark.parametrize("sequences", [True, False])
def test_unlike_directions_as_keras(merge_mode: Any, sequences: bool, random: np.random.Generator) -> None:
    forward = keras.layers.LSTM(4, return_sequences=sequences, dtype="float64")
    backward = keras.layers.GRU(5, return_sequences=sequences, go_backwards=True, dtype="float64")
    layer = keras.layers.Bidirectional(forward, merge_mode=merge_mode, backward_layer=backward, dtype="float64")
    operation, x = recurrent(layer, random), random.standard_normal((4, 6, 3))
    for mask in MASKS.values():
        expected = keras.tree.flatten(layer(x, mask=mask))
        found = run_all(operation, x, mask)
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            close(one, np.asarray(other))


def test_other_layers_as_keras(random: np.random.Generator) -> None:
    for shape in ((2, 3), (2, 4, 3), (2, 4, 5, 3), (2, 1, 4, 5, 3)):
        for activation in ("linear", "relu", "sigmoid", "tanh", "softmax"):
            layer = keras.layers.Dense(6, activation, dtype="float64")
            layer.build(shape)
            kernel, bias = random.standard_normal((3, 6)), random.standard_normal(6)
            layer.set_weights([kernel, bias])
            x = random.standard_normal(shape)
            close(run(Dense("dense", kernel, bias, activation), x), np.asarray(layer(x)))
    close(run(Dense("dense", kernel, bias), x[0, 0, 0, 0]), np.asarray(x[0, 0, 0, 0] @ kernel + bias))
    table, places = random.standard_normal((7, 3)), random.integers(0, 7, (2, 3, 4))
    close(run(Embedding("embedding", table), places), table[places])
    masked = random.standard_normal((2, 5, 3))
    masked[0, 2], masked[1, 4, 1] = 0.25, 0.25
    close(run(Masking("masking", 3, 0.25), masked), np.asarray(keras.layers.Masking(0.25, dtype="float64")(masked)))
    close(run(Dropout("dropout", 3, 0.5), masked), masked)
