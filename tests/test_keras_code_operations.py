"""Layers, functions and shapes in code for Keras: every one computes what the graph computes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from parity.functions import FUNCTIONS, Function
from parity.graph import Builder, Wire
from parity.graph.operations import (
    BatchNormalization,
    Convolution,
    Flip,
    GroupNormalization,
    LayerNormalization,
    Length,
    Pad,
    Pooling,
    Range,
    Slice,
    Take,
    UnitNormalization,
)
from parity.network import Dense, Dropout, Embedding, Masking
from tests.keras_code_cases import (
    Made,
    convolution,
    floats,
    graph_of,
    positive,
)
from tests.keras_code_harness import check, lint_sources

linted = pytest.fixture(scope="module", autouse=True)(lint_sources)

CONVOLUTIONS: dict[str, tuple[Convolution, tuple[int | str, ...]]] = {
    "valid": (convolution((3,), 3, 4), ("batch", "time", 3)),
    "same": (convolution((4,), 3, 4, padding="same"), ("batch", "time", 3)),
    "same by numbers": (convolution((4,), 3, 4, padding=((1, 2),)), ("batch", "time", 3)),
    "other by numbers": (convolution((4,), 3, 4, padding=((2, 1),)), ("batch", "time", 3)),
    "same strided": (convolution((4,), 3, 4, padding="same", strides=(2,)), ("batch", "time", 3)),
    "padded strided": (convolution((3,), 3, 4, padding=((1, 1),), strides=(2,)), ("batch", "time", 3)),
    "causal": (convolution((3,), 3, 4, padding=((4, 0),), dilations=(2,)), ("batch", "time", 3)),
    "dilated and strided": (
        convolution((3,), 3, 4, padding=((2, 2),), dilations=(2,), strides=(3,)),
        ("batch", "time", 3),
    ),
    "grouped": (convolution((3,), 4, 6, groups=2), ("batch", "time", 4)),
    "depthwise": (convolution((3,), 4, 8, groups=4, padding="same"), ("batch", "time", 4)),
    "depthwise causal": (convolution((3,), 4, 4, groups=4, padding=((2, 0),)), ("batch", "time", 4)),
    "channels first": (convolution((3,), 3, 4, padding=((1, 1),), channels_last=False), ("batch", 3, "time")),
    "2d": (convolution((3, 2), 3, 4, padding=((1, 1), (0, 1))), ("batch", 8, "time", 3)),
    "2d strided": (convolution((3, 2), 3, 4, padding=((1, 1), (1, 1)), strides=(2, 1)), ("batch", 8, "time", 3)),
    "2d depthwise unlike strides": (convolution((3, 2), 3, 6, groups=3, strides=(2, 1)), ("batch", 8, "time", 3)),
    "2d first": (convolution((3, 3), 3, 4, padding=((1, 1), (1, 1)), channels_last=False), ("batch", 3, 8, "time")),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions(name: str, tmp_path: Path) -> None:
    layer, shape = CONVOLUTIONS[name]
    check(graph_of(lambda build, x: build.activation("relu", build.call(layer, x, source="conv")), shape), tmp_path)
    bare = replace(layer, bias=None)
    check(graph_of(lambda build, x: build.call(bare, x, source="conv"), shape), tmp_path)


def pooling(function: Any, size: int, stride: int, padding: Any, count: bool = False, first: bool = False) -> Pooling:
    return Pooling("pool", function, (size,), (stride,), (1,), padding, not first, count)


POOLINGS: dict[str, Pooling] = {
    "max": pooling("max", 2, 2, ((0, 0),)),
    "max same": pooling("max", 3, 2, "same"),
    "max padded": pooling("max", 3, 2, ((1, 1),)),
    "average": pooling("average", 3, 1, ((0, 0),)),
    "average same": pooling("average", 3, 2, "same"),
    "average padded": pooling("average", 3, 2, ((1, 1),)),
    "average counted": pooling("average", 3, 2, ((1, 1),), True),
    "average counted same": pooling("average", 4, 1, "same", True),
    "average same by numbers": pooling("average", 3, 1, ((1, 1),)),
}


@pytest.mark.parametrize("name", POOLINGS)
def test_pooling(name: str, tmp_path: Path) -> None:
    layer = POOLINGS[name]
    check(graph_of(lambda build, x: build.call(layer, x, source="pool")), tmp_path)
    first = replace(layer, channels_last=False)
    check(graph_of(lambda build, x: build.call(first, x), ("batch", 3, "time")), tmp_path)


def test_pooling_over_two_axes(tmp_path: Path) -> None:
    layer = Pooling("pool", "max", (3, 2), (2, 2), (1, 1), ((1, 1), (0, 0)))
    check(graph_of(lambda build, x: build.call(layer, x, source="pool"), ("batch", 8, "time", 3)), tmp_path)


NORMALIZATIONS: dict[str, Any] = {
    "batch": BatchNormalization("norm", floats(3), positive(3), positive(3), floats(3), 1e-5),
    "batch plain": BatchNormalization("norm", floats(3), positive(3), None, None, 1e-3),
    "layer": LayerNormalization("norm", positive(3), floats(3), 1e-5),
    "layer plain": LayerNormalization("norm", None, None, 1e-3),
    "layer without beta": LayerNormalization("norm", positive(3), None, 1e-3),
    "rms": LayerNormalization("norm", positive(3), None, 1e-5, rms=True),
    "rms with beta": LayerNormalization("norm", positive(3), floats(3), 1e-5, rms=True),
    "rms plain": LayerNormalization("norm", None, None, 1e-6, rms=True),
    "unit": UnitNormalization("norm"),
    "unit epsilon": UnitNormalization("norm", (1,), 0.9),
}


@pytest.mark.parametrize("name", NORMALIZATIONS)
def test_normalizations(name: str, tmp_path: Path) -> None:
    check(graph_of(lambda build, x: build.call(NORMALIZATIONS[name], x, source="norm")), tmp_path)


def test_normalizations_on_other_axes(tmp_path: Path) -> None:
    def make(build: Builder, x: Wire) -> Wire:
        x = build.call(BatchNormalization("batch", floats(4), positive(4), positive(4), floats(4), 1e-5, axis=1), x)
        x = build.call(LayerNormalization("layer", positive(6, 5), floats(6, 5), 1e-5, axes=2), x)
        x = build.call(GroupNormalization("groups", positive(4), floats(4), 1e-5, groups=2, axis=1), x)
        x = build.call(GroupNormalization("instance", None, None, 1e-5, groups=5, axis=-1), x)
        return build.call(GroupNormalization("group", None, floats(5), 1e-3, groups=1), x)

    check(graph_of(make, ("batch", 4, 6, 5)), tmp_path)


def test_masking_dropout_and_embedding(tmp_path: Path) -> None:
    build = Builder("model")
    tokens = build.input("tokens", ("batch", 3, "time"), "int64", 9)
    x = build.input("x", ("batch", "time", 3))
    embedded = build.call(Dropout("drop", 4, 0.3), build.call(Embedding("table", floats(9, 4)), tokens, source="table"))
    filled = build.elementwise("where", build.elementwise("greater", x, -0.5), x, -1.0)
    masked = build.call(Masking("masking", 3, mask_value=-1.0), filled)
    check(build.graph({"embedded": embedded, "masked": masked}), tmp_path)


@pytest.mark.parametrize("activation", ["relu", "softmax", "tanh"])
def test_dense_with_an_activation_of_its_own(activation: str, tmp_path: Path) -> None:
    layer = Dense("dense", floats(3, 4), floats(4), activation)
    code = check(graph_of(lambda build, x: build.call(layer, x, source="dense")), tmp_path)
    assert f'layers.Dense(4, activation="{activation}", name="dense")' in code.source


@pytest.mark.parametrize("name", FUNCTIONS)
def test_activations(name: str, tmp_path: Path) -> None:
    row = FUNCTIONS[name]
    function = Function(name, None if row.alpha is None else 0.3, None if row.beta is None else 0.6)
    usual = Function(name, *row.keras_parameters) if row.keras else function

    def make(build: Builder, x: Wire) -> Wire:
        first = build.activation(usual, build.call(Dense("a", floats(3, 3), floats(3)), x, source="a"))
        return build.add(build.activation(function, first, source="act"), build.activation(function, x))

    check(graph_of(make), tmp_path)


def test_softmax_along_axes(tmp_path: Path) -> None:
    def make(build: Builder, x: Wire) -> Wire:
        parts = [build.softmax(x, axis, log) for axis in (1, 2, -1) for log in (True, False)]
        return build.concatenate([*parts, build.softmax(x, 1, source="soft")], axis=-1)

    check(graph_of(make), tmp_path)


# ---- functions


UNARY = ("negative", "abs", "sign", "floor", "square", "exp", "sin", "cos", "erf", "reciprocal")


def test_elementwise_functions(tmp_path: Path) -> None:
    def make(build: Builder, x: Wire) -> Wire:
        parts = [build.elementwise(function, x) for function in UNARY]
        size = build.add(build.elementwise("abs", x), 0.3)
        parts += [build.elementwise(function, size) for function in ("sqrt", "rsqrt", "log", "log1p")]
        parts += [build.elementwise("power", size, 1.7), build.elementwise("power", 1.3, x)]
        return build.concatenate(parts, axis=-1)

    check(graph_of(make), tmp_path)


def test_arithmetic(tmp_path: Path) -> None:
    build = Builder("model")
    x, y = build.input("x", ("batch", "time", 3)), build.input("y", ("batch", 1, 3))
    row = build.constant(floats(3), "row")
    parts = [
        build.add(x, y, row),
        build.subtract(1.0, x),
        build.multiply(x, -0.5, y),
        build.divide(y, build.add(build.elementwise("abs", x), 1.0)),
        build.elementwise("average", x, y, x),
        build.elementwise("maximum", x, y, 0.25),
        build.elementwise("minimum", x, y),
        build.elementwise("maximum", y, x, build.multiply(x, 0.7)),
        build.elementwise("average", y, x, build.multiply(x, 0.7), build.add(x, 0.1)),
    ]
    parts = [build.expand(one, (-1, Length(1, 1), -1), x) if build.shape(one)[1] == 1 else one for one in parts]
    true = build.elementwise(
        "logical_and", build.elementwise("less", x, y), build.elementwise("greater_equal", x, -0.8)
    )
    other = build.elementwise("logical_or", build.elementwise("equal", x, y), build.elementwise("less_equal", x, 0.0))
    either = build.elementwise("logical_not", build.elementwise("logical_and", true, other, true))
    chosen = build.elementwise("where", either, x, 0.0)
    check(build.graph({"y": build.concatenate([*parts, chosen]), "truths": either}), tmp_path)


def test_layers_that_merge(tmp_path: Path) -> None:
    build = Builder("model", "keras")
    x, y = build.input("x", ("batch", "time", 3)), build.input("y", ("batch", "time", 3))
    names = ("add", "multiply", "average", "maximum", "minimum", "subtract")
    parts = [build.elementwise(name, x, y, name=name, source=name) for name in names]
    both = build.concatenate(parts, name="join", source="join")
    total = build.add(build.add(x, y), 1.0)
    code = check(build.graph({"join": both, "total": total}), tmp_path)
    assert "layers.Average(" in code.source
    assert 'layers.Add(name="add_layer")' in code.source


@pytest.mark.parametrize("function", ["sum", "mean", "max", "min", "prod", "logsumexp", "norm", "argmax", "any", "all"])
def test_reductions(function: Any, tmp_path: Path) -> None:
    def make(build: Builder, x: Wire) -> Wire:
        value = build.elementwise("greater", x, -1.0) if function in ("any", "all") else x
        return build.reduce(function, value, 1, keepdims=True)

    check(graph_of(make), tmp_path)
    if function != "argmax":
        check(graph_of(lambda build, x: build.reduce(function, x, (1, -1), source="pool")), tmp_path)


@pytest.mark.parametrize("function", ["mean", "max"])
@pytest.mark.parametrize("shape", [("batch", "time", 3), ("batch", 5, "time", 3)])
def test_global_pooling(function: Any, shape: Any, tmp_path: Path) -> None:
    axes = tuple(range(1, len(shape) - 1))
    code = check(graph_of(lambda build, x: build.reduce(function, x, axes, source="pool"), shape), tmp_path)
    assert "layers.Global" in code.source


def test_products(tmp_path: Path) -> None:
    build = Builder("model")
    x, y = build.input("x", ("batch", "time", 3)), build.input("y", ("batch", "other", 3))
    scores = build.einsum("bik,bjk->bij", x, y)
    seen = build.matmul(build.softmax(scores), y)
    own = build.matmul(seen, build.weight("score", floats(3, 2)))
    check(
        build.graph({"own": own, "diagonal": build.einsum("bii->bi", build.matmul(x, build.transpose(x, (0, 2, 1))))}),
        tmp_path,
    )


def test_casts_and_take(tmp_path: Path) -> None:
    build = Builder("model")
    x, tokens = build.input("x", ("batch", "time", 3)), build.input("tokens", ("batch",), "int64", 4)
    given = build.input("flags", ("batch", "time"), "bool")
    number = build.multiply(build.cast(given, "float32"), 2.0)
    taken = build.call(Take("take", 1), x, tokens)
    whole = build.cast(build.cast(build.multiply(x, 3.0), "int64"), "float32")
    check(
        build.graph({"number": number, "taken": taken, "whole": whole, "truth": build.cast(tokens, "bool")}), tmp_path
    )


# ---- shapes


SHAPES: dict[str, Made] = {
    "time first and back": lambda b, x: b.transpose(b.add(b.transpose(x, (1, 0, 2)), 1.0), (1, 2, 0)),
    "time first": lambda b, x: b.transpose(x, (1, 0, 2)),
    "permute": lambda b, x: b.transpose(x, (0, 2, 1), source="permute"),
    "flat": lambda b, x: b.reshape(x, (Length(0, 0), -1)),
    "one row for each step": lambda b, x: b.reshape(x, (-1, 3)),
    "steps again": lambda b, x: b.reshape(b.reshape(x, (-1, 3)), (Length(1, 0), Length(1, 1), 3), x),
    "split": lambda b, x: b.reshape(x, (Length(0, 0), Length(0, 1), 3, 1), source="split"),
    "batch of batches": lambda b, x: b.reshape(x, (Length(0, 1), Length(0, 0, 3))),
    "expanded": lambda b, x: b.expand(b.expand_dims(x, 2), (-1, -1, 4, -1)),
    "expanded like": lambda b, x: b.expand(b.weight("start", floats(1, 1, 3)), (Length(1, 0), Length(1, 1), -1), x),
    "broadcast": lambda b, _: b.expand(b.weight("rows", floats(1, 3)), (4, 3)),
    "new axes": lambda b, x: b.squeeze(b.add(b.expand_dims(x, (0, 2)), 1.0), (0, 2)),
    "stack": lambda b, x: b.stack([x, b.multiply(x, 2.0)], axis=2),
    "concatenate": lambda b, x: b.concatenate([x, x], axis=1, source="join"),
    "slices": lambda b, x: b.concatenate(
        [b.slice(x, 1, 1, -2), b.slice(x, 1, -3), b.slice(x, 1, None, None, 2)], axis=1
    ),
    "slice of two": lambda b, x: b.call(Slice("s", ((1, None, -1, 1), (2, 1, None, 1))), x),
    "backwards": lambda b, x: b.concatenate([b.slice(x, 1, None, None, -1), b.slice(x, 1, -2, 2, -3)], axis=1),
    "last": lambda b, x: b.concatenate([b.select(x, 1, -1), b.select(x, 1, 0)]),
    "last feature": lambda b, x: b.select(x, 2, -1),
    "flip": lambda b, x: b.call(Flip("flip", (1, 2)), x),
    "pad": lambda b, x: b.call(Pad("pad", ((0, 0), (2, 1), (0, 0))), x, source="pad"),
    "pad all": lambda b, x: b.call(Pad("pad", ((1, 0), (2, 1), (0, 1)), 0.5), x),
    "reflect": lambda b, x: b.call(Pad("pad", ((0, 0), (2, 1), (0, 0)), mode="reflect"), x),
    "edge": lambda b, x: b.call(Pad("pad", ((0, 0), (2, 1), (0, 2)), mode="edge"), x),
    "repeat": lambda b, x: b.repeat(x, 1, 2, source="up"),
    "repeat features": lambda b, x: b.repeat(x, 2, 2),
    "places": lambda b, x: b.add(b.cast(b.expand_dims(b.call(Range("places", Length(0, 1)), x), -1), "float32"), x),
}


@pytest.mark.parametrize("name", SHAPES)
def test_shapes(name: str, tmp_path: Path) -> None:
    check(graph_of(SHAPES[name]), tmp_path, predict=name in ("steps again", "expanded like", "places"))
