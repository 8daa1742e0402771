"""The source of torch modules: every operation and every option of a recurrent layer, written, linted, imported, run and compared."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from parity.functions import FUNCTIONS, Function
from parity.graph import Builder, Graph, Wire
from parity.graph.operations import (
    ELEMENTWISE,
    BatchNormalization,
    Convolution,
    Flip,
    GroupNormalization,
    LayerNormalization,
    Length,
    Pad,
    Pooling,
    Select,
    Slice,
    Stub,
    Take,
    UnitNormalization,
)
from parity.graph.torch_code import torch_code
from parity.graph.torch_code.names import MODULE_NAMES
from parity.network import Dense, Dropout, Embedding, Masking, Recurrent
from tests.torch_code_running import (
    BOTH,
    Build,
    check,
    given,
    graph_of,
    lint_sources,
    outputs,
    recurrent,
    same,
    written,
)

SIGNED = {"sqrt", "rsqrt", "log", "log1p", "power"}


linted = pytest.fixture(scope="module", autouse=True)(lint_sources)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


# ---- element by element


@pytest.mark.parametrize("function", ELEMENTWISE)
def test_elementwise(function: str, tmp_path: Path, rng: np.random.Generator) -> None:
    row = ELEMENTWISE[function]

    def make(build: Builder, x: Wire, rng: np.random.Generator) -> Wire:
        x = build.activation("softplus", x) if function in SIGNED else x
        other = build.weight("other", rng.uniform(0.2, 2.0, (1, 6)))
        if function.startswith("logical"):
            truths = [build.elementwise("greater", x, 0.1), build.elementwise("less", x, other)]
            return build.elementwise(function, *truths[: row.arity])
        if function == "where":
            return build.elementwise("where", build.elementwise("greater", x, other), x, other)
        count = row.arity or 3
        return build.elementwise(function, *[x, other, x][:count])

    same(make, tmp_path, rng)


@pytest.mark.parametrize(
    "function", [name for name, row in ELEMENTWISE.items() if row.arity in (None, 2) and "logical" not in name]
)
@pytest.mark.parametrize("value", [0.3, -0.3, 2])
def test_numbers_stand_in_the_code(function: str, value: float, tmp_path: Path, rng: np.random.Generator) -> None:
    for side in range(2):

        def make(build: Builder, x: Wire, _: np.random.Generator, side: int = side) -> Wire:
            x = build.activation("softplus", x) if function in SIGNED else x
            number = abs(value) if function == "power" else value
            return build.elementwise(function, *((x, number) if side == 0 else (number, x)))

        source = same(make, tmp_path / str(side), rng)
        assert "register_buffer" not in source


def test_where_takes_numbers_and_conditions_of_floats(tmp_path: Path, rng: np.random.Generator) -> None:
    def make(build: Builder, x: Wire, _: np.random.Generator) -> Wire:
        condition = build.elementwise("floor", x)
        one = build.elementwise("where", condition, x, -0.25)
        two = build.elementwise("where", build.elementwise("less", x, 0.0), 0.1, 0.7)
        return build.add(one, two)

    same(make, tmp_path, rng)


def test_operators_have_the_brackets_they_need(tmp_path: Path, rng: np.random.Generator) -> None:
    def make(build: Builder, x: Wire, rng: np.random.Generator) -> Wire:
        a, b = build.weight("a", rng.normal(size=6)), build.weight("b", rng.normal(size=6))
        one = build.subtract(a, build.subtract(b, x))
        two = build.divide(x, build.multiply(build.add(b, 3.5), 2.0))
        three = build.elementwise("power", build.elementwise("negative", build.add(x, one)), 2.0)
        four = build.elementwise("equal", build.elementwise("greater", x, a), build.elementwise("less", b, x))
        return build.add(build.multiply(one, two), three, build.cast(four, "float32"), two, two, one, one, one)

    same(make, tmp_path, rng)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_activations(name: str, tmp_path: Path, rng: np.random.Generator) -> None:
    row = FUNCTIONS[name]
    parameters = {(row.alpha, row.beta), row.keras_parameters}
    parameters |= {(None if row.alpha is None else 0.3, None if row.beta is None else 0.4)}
    for index, (alpha, beta) in enumerate(sorted(parameters, key=str)):
        if (alpha is None) != (row.alpha is None):
            continue

        def make(build: Builder, x: Wire, _: np.random.Generator, alpha: Any = alpha, beta: Any = beta) -> Wire:
            wide = build.multiply(x, build.weight("wide", np.array([0.1, 1.0, 5.0, 9.0, 20.0, 40.0])))
            return build.activation(Function(name, alpha, beta), wide)

        same(make, tmp_path / str(index), rng)


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("axis", [1, -1])
def test_softmax(axis: int, log: bool, tmp_path: Path, rng: np.random.Generator) -> None:
    same(lambda build, x, _: build.softmax(x, axis, log), tmp_path, rng)


@pytest.mark.parametrize("dtype", ["int64", "bool", "float32"])
def test_cast(dtype: Any, tmp_path: Path, rng: np.random.Generator) -> None:
    same(lambda build, x, _: build.cast(x, dtype), tmp_path, rng)


@pytest.mark.parametrize("function", ["sum", "mean", "max", "min", "prod", "any", "all", "argmax", "logsumexp", "norm"])
@pytest.mark.parametrize(("axes", "keepdims"), [((1,), False), ((-1,), True), ((1, 2), False), ((0, 2), True)])
def test_reductions(function: Any, axes: Any, keepdims: bool, tmp_path: Path, rng: np.random.Generator) -> None:
    if function == "argmax" and len(axes) > 1:
        axes = axes[:1]
    same(lambda build, x, _: build.reduce(function, x, axes, keepdims), tmp_path, rng)


def test_means_of_integers(tmp_path: Path, rng: np.random.Generator) -> None:
    same(lambda build, x, _: build.mean(build.elementwise("greater", x, 0.0), 1), tmp_path, rng)


# ---- products


@pytest.mark.parametrize("shape", [(6, 4), (6,), (1, 6, 4)])
def test_matmul(shape: tuple[int, ...], tmp_path: Path, rng: np.random.Generator) -> None:
    same(lambda build, x, rng: build.matmul(x, build.weight("w", rng.normal(size=shape))), tmp_path, rng)


def test_attention_of_products(tmp_path: Path, rng: np.random.Generator) -> None:
    def make(build: Builder, x: Wire, _: np.random.Generator) -> Wire:
        scores = build.divide(build.matmul(x, build.transpose(x, (0, 2, 1))), 2.5)
        return build.matmul(build.softmax(scores), x)

    source = same(make, tmp_path, rng)
    assert re.search(r"F\.scaled_dot_product_attention\(\s*(\w+), \1, \1, scale=0\.4\s*\)", source)


def test_einsum(tmp_path: Path, rng: np.random.Generator) -> None:
    same(
        lambda build, x, rng: build.einsum("btd,dhe->bhte", x, build.weight("w", rng.normal(size=(6, 2, 3)))),
        tmp_path,
        rng,
    )
    same(lambda build, x, _: build.einsum("btd,bsd->bts", x, x), tmp_path / "two", rng)


# ---- shaping

B, T = Length(0, 0), Length(0, 1)
SHAPES: dict[str, Build] = {
    "transpose": lambda b, x, _: b.transpose(x, (1, 0, 2)),
    "permute": lambda b, x, _: b.transpose(x, (2, 0, 1)),
    "flatten": lambda b, x, _: b.reshape(b.slice(x, 1, None, 4), (B, 24)),
    "flatten front": lambda b, x, _: b.reshape(x, (-1, 6)),
    "unflatten": lambda b, x, _: b.reshape(x, (B, T, 2, 3)),
    "unflatten middle": lambda b, x, _: b.reshape(b.transpose(x, (0, 2, 1)), (B, 2, 3, Length(0, 2))),
    "regroup": lambda b, x, _: b.reshape(x, (B, 3, -1, 2)),
    "by length": lambda b, x, _: b.reshape(x, (Length(0, 1), Length(0, 0, 2), 3)),
    "of another": lambda b, x, _: b.reshape(b.reshape(x, (-1, 6)), (Length(1, 0), Length(1, 1), 3, 2), x),
    "expand dims": lambda b, x, _: b.expand_dims(x, (1, -1)),
    "expand dim": lambda b, x, _: b.expand_dims(x, -2),
    "squeeze": lambda b, x, _: b.squeeze(b.expand_dims(b.elementwise("exp", x), (1, 3)), (1, 3)),
    "concatenate": lambda b, x, _: b.concatenate([x, b.slice(x, 2, 1, 3), x]),
    "concatenate time": lambda b, x, _: b.concatenate([x, b.slice(x, 1, 2)], 1),
    "stack": lambda b, x, _: b.stack([x, b.elementwise("exp", x)], 2),
    "slice": lambda b, x, _: b.slice(x, 1, 1, -2, 3),
    "slice last": lambda b, x, _: b.slice(x, -1, -4),
    "slices": lambda b, x, _: b.call(Slice("s", ((0, 1, None, 1), (2, None, 4, 2))), x),
    "slices from the end": lambda b, x, _: b.call(Slice("s", ((-2, 1, None, 1), (-1, None, 4, 2))), x),
    "select": lambda b, x, _: b.select(x, 1, -1),
    "select feature": lambda b, x, _: b.select(x, -1, 2),
    "select batch": lambda b, x, _: b.select(x, 0, 1),
    "flip": lambda b, x, _: b.call(Flip("f", (1,)), x),
    "flips": lambda b, x, _: b.call(Flip("f", (0, -1)), x),
    "repeat": lambda b, x, _: b.repeat(x, 1, 3),
    "expand": lambda b, x, _: b.expand(b.select(x, 1, 0), (Length(1, 1), -1, -1), x),
    "expand time": lambda b, x, _: b.expand(b.expand_dims(b.select(x, 1, 0), 1), (-1, 5, -1)),
    "pad": lambda b, x, _: b.call(Pad("p", ((0, 0), (2, 1), (0, 0))), x),
    "pad value": lambda b, x, _: b.call(Pad("p", ((0, 0), (0, 3), (1, 0)), -1.5), x),
    "pad reflect": lambda b, x, _: b.call(Pad("p", ((0, 0), (2, 1), (0, 0)), mode="reflect"), x),
    "pad edges": lambda b, x, _: b.call(Pad("p", ((0, 0), (2, 1), (1, 3)), mode="edge"), x),
    "pad edge": lambda b, x, _: b.call(Pad("p", ((2, 1), (0, 0), (0, 0)), mode="edge"), x),
    "pad four": lambda b, x, _: b.call(
        Pad("p", ((0, 0), (2, 1), (0, 0), (0, 0)), mode="reflect"), b.reshape(x, (B, T, 2, 3))
    ),
    "take": lambda b, x, _: b.call(Take("t", -1), x, b.constant(np.array([[3, 0], [5, 5]]))),
    "take time": lambda b, x, _: b.call(Take("t", 1), x, b.constant(np.array([-1, 2]))),
}


@pytest.mark.parametrize("name", SHAPES)
def test_shaping(name: str, tmp_path: Path, rng: np.random.Generator) -> None:
    same(SHAPES[name], tmp_path, rng)


ENDS = (None, 0, 1, 3, 20, -1, -2, -9, -20)


def test_slices_of_every_kind(tmp_path: Path) -> None:
    build = Builder("model")
    x = build.input("x", ("batch", 9))
    parts: dict[str, Wire] = {}
    for start, stop, step in product(ENDS, ENDS, (1, 2, -1, -2)):
        if range(*slice(start, stop, step).indices(9)):
            parts[f"y{len(parts)}"] = build.slice(x, 1, start, stop, step)
    graph = build.graph(parts)
    assert len(parts) > 100
    check(graph, {"x": np.arange(18.0).reshape(2, 9)}, tmp_path)


# ---- constants


def test_constants(tmp_path: Path, rng: np.random.Generator) -> None:
    build = Builder("model")
    x = build.input("x", ("batch", 4))
    table = build.constant(rng.normal(size=(1, 4)))
    number = build.constant(0.3)
    order = build.constant(np.array([2, 0, 1]))
    truths = build.constant(np.array([True, False, True, True]))
    chosen = build.call(Take("take", 1), build.elementwise("where", truths, x, table), order)
    graph = build.graph({"y": chosen, "number": number, "w": build.add(x, build.weight("w", rng.normal(size=4)))})
    code = check(graph, {"x": rng.normal(size=(3, 4))}, tmp_path)
    assert {str(blocks.dtype) for blocks in code.weights.values()} == {"float64", "int64", "bool"}


# ---- layers

_same = "same"
CONVOLUTIONS = [
    # sizes, strides, dilations, padding, groups
    ((3,), (1,), (1,), _same, 1),
    ((4,), (1,), (1,), _same, 1),
    ((3,), (2,), (1,), _same, 1),
    ((3,), (1,), (2,), ((4, 0),), 1),
    ((3,), (2,), (1,), ((1, 1),), 2),
    ((2,), (3,), (1,), ((0, 0),), 1),
    ((3, 2), (1, 1), (1, 1), _same, 1),
    ((3, 2), (2, 3), (1, 1), _same, 2),
    ((3, 2), (1, 2), (2, 1), ((1, 1), (0, 2)), 1),
    ((3, 3), (1, 1), (1, 1), ((1, 1), (1, 1)), 1),
]


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize(("sizes", "strides", "dilations", "padding", "groups"), CONVOLUTIONS)
def test_convolutions(
    sizes: Any,
    strides: Any,
    dilations: Any,
    padding: Any,
    groups: int,
    last: bool,
    tmp_path: Path,
    rng: np.random.Generator,
) -> None:
    spatial: Any = ("time", "height")[: len(sizes)]
    shape: Any = ("batch", *spatial, 4) if last else ("batch", 4, *spatial)
    for bias in (rng.normal(size=6), None):
        build = Builder("model")
        kernel = rng.normal(size=(*sizes, 4 // groups, 6))
        layer = Convolution("conv", kernel, bias, strides, dilations, padding, groups, last)
        graph = build.graph({"y": build.activation("relu", build.call(layer, build.input("x", shape)))})
        for number, lengths in enumerate(((9, 8), (10, 11), (12, 7))):
            own = dict(zip(spatial, lengths, strict=False))
            sized = [3 if n == "batch" else own.get(n, n) if isinstance(n, str) else n for n in shape]
            check(graph, {"x": rng.normal(size=sized)}, tmp_path / f"{number}{bias is None}")


POOLINGS = [
    ((2,), (2,), (1,), ((0, 0),)),
    ((3,), (2,), (1,), _same),
    ((3,), (1,), (1,), _same),
    ((2,), (1,), (1,), _same),
    ((3,), (2,), (2,), ((0, 0),)),
    ((3,), (2,), (2,), ((2, 1),)),
    ((3,), (2,), (1,), ((2, 2),)),
    ((3,), (2,), (1,), ((1, 1),)),
    ((3, 2), (2, 1), (1, 1), ((1, 1), (0, 1))),
    ((3, 2), (2, 3), (1, 1), _same),
]


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("function", ["max", "average", "average, padding counted"])
@pytest.mark.parametrize(("sizes", "strides", "dilations", "padding"), POOLINGS)
def test_pooling(
    sizes: Any,
    strides: Any,
    dilations: Any,
    padding: Any,
    function: str,
    last: bool,
    tmp_path: Path,
    rng: np.random.Generator,
) -> None:
    spatial: Any = ("time", "height")[: len(sizes)]
    shape: Any = ("batch", *spatial, 4) if last else ("batch", 4, *spatial)
    kind: Any = function.split(",", maxsplit=1)[0]

    def make(build: Builder, x: Wire, _: np.random.Generator) -> Wire:
        return build.call(Pooling("pool", kind, sizes, strides, dilations, padding, last, "counted" in function), x)

    for number, time in enumerate((9, 10)):
        build = Builder("model")
        x = build.input("x", shape)
        scale = build.weight("scale", rng.normal(size=(1,)))
        graph = build.graph({"y": make(build, build.multiply(x, scale), rng)})
        check(graph, given(graph, rng, 3, time), tmp_path / str(number))


@pytest.mark.parametrize("which", ["both", "gamma", "beta", "none"])
@pytest.mark.parametrize(
    ("shape", "axis"),
    [(("batch", 6), -1), (("batch", "time", 6), -1), (("batch", 6, "time"), 1), (("batch", "time", 5, 6), -1),
     (("batch", 6, 5, "time"), 1), (("batch", "time", 2, 3, 6), -1), (("batch", 6, 2, "time"), 1), ((6, "time"), 0),
     (("batch", 2, 3, 2, "time", 6), -1), (("batch", 2, 6, 2, "time", 3), 2)],
)  # fmt: skip
def test_batch_normalization(which: str, shape: Any, axis: int, tmp_path: Path, rng: np.random.Generator) -> None:
    gamma = rng.normal(size=6) if which in ("both", "gamma") else None
    beta = rng.normal(size=6) if which in ("both", "beta") else None
    layer = BatchNormalization("norm", rng.normal(size=6), rng.uniform(0.5, 2, 6), gamma, beta, 1e-3, axis)
    build = Builder("model")
    graph = build.graph({"y": build.call(layer, build.input("x", shape))})
    check(graph, given(graph, rng), tmp_path)


@pytest.mark.parametrize("which", ["both", "gamma", "beta", "none"])
@pytest.mark.parametrize(("axes", "rms"), [(1, False), (2, False), (1, True)])
def test_layer_normalization(which: str, axes: int, rms: bool, tmp_path: Path, rng: np.random.Generator) -> None:
    shape = (5, 6)[-axes:]
    gamma = rng.normal(size=shape) if which in ("both", "gamma") else None
    beta = rng.normal(size=shape) if which in ("both", "beta") else None
    layer = LayerNormalization("norm", gamma, beta, 1e-3, axes, rms)
    same(lambda build, x, _: build.call(layer, x), tmp_path, rng, ("batch", "time", 5, 6))


def test_layer_normalization_over_time(tmp_path: Path, rng: np.random.Generator) -> None:
    layer = LayerNormalization("norm", None, None, 1e-3, 2)
    same(lambda build, x, _: build.call(layer, x), tmp_path, rng)


@pytest.mark.parametrize("which", ["both", "gamma", "beta", "none"])
@pytest.mark.parametrize(("shape", "axis"), [(("batch", "time", 6), -1), (("batch", 6, "time"), 1), (("batch", 6), -1)])
def test_group_normalization(which: str, shape: Any, axis: int, tmp_path: Path, rng: np.random.Generator) -> None:
    gamma = rng.normal(size=6) if which in ("both", "gamma") else None
    beta = rng.normal(size=6) if which in ("both", "beta") else None
    build = Builder("model")
    x = build.multiply(build.input("x", shape), build.weight("scale", rng.normal(size=(1,))))
    layer = GroupNormalization("norm", gamma, beta, 1e-3, 3 if len(shape) > 2 else 2, axis)
    graph = build.graph({"y": build.call(layer, x)})
    check(graph, given(graph, rng), tmp_path)


@pytest.mark.parametrize(("axes", "epsilon"), [((-1,), 1e-12), ((1,), 1e-3), ((1, 2), 1e-12)])
def test_unit_normalization(axes: Any, epsilon: float, tmp_path: Path, rng: np.random.Generator) -> None:
    same(lambda build, x, _: build.call(UnitNormalization("unit", axes, epsilon), x), tmp_path, rng)


@pytest.mark.parametrize("activation", ["linear", "relu", "sigmoid", "tanh", "softmax"])
def test_dense(activation: str, tmp_path: Path, rng: np.random.Generator) -> None:
    for bias in (rng.normal(size=4), None):
        layer = Dense("dense", rng.normal(size=(6, 4)), bias, activation)

        def make(build: Builder, x: Wire, _: np.random.Generator, layer: Dense = layer) -> Wire:
            return build.call(layer, x)

        same(make, tmp_path / str(bias is None), rng)


def test_shared_layers_are_one_module(tmp_path: Path, rng: np.random.Generator) -> None:
    layer = Dense("dense", rng.normal(size=(6, 6)), rng.normal(size=6))
    source = same(lambda build, x, _: build.call(layer, build.activation("tanh", build.call(layer, x))), tmp_path, rng)
    assert source.count("nn.Linear") == 1


def test_embedding_masking_dropout(tmp_path: Path, rng: np.random.Generator) -> None:
    build = Builder("model")
    tokens = build.input("tokens", ("batch", "time"), "int64", 9)
    rows = build.call(Embedding("embedding", rng.normal(size=(9, 3)), True), tokens)
    x = build.input("x", ("batch", "time", 3))
    masked = build.call(Dropout("dropout", 3, 0.3), build.call(Masking("masking", 3, 0.7), x))
    mask = build.reduce("any", build.elementwise("not_equal", x, 0.7), -1, name="masking_mask")
    graph = build.graph({"rows": rows, "masked": masked, "mask": mask})
    inputs = given(graph, rng)
    inputs["x"][:, 2:4] = np.float32(0.7)
    code = check(graph, inputs, tmp_path)
    assert code.source.split("def load")[0].count("!=") == 1


def test_masking_alone(tmp_path: Path, rng: np.random.Generator) -> None:
    graph = graph_of(lambda build, x, _: build.call(Masking("masking", 6, 0.0), x), rng)
    inputs = given(graph, rng)
    inputs["x"][:, 2:4] = 0.0
    check(graph, inputs, tmp_path)


# ---- stubs, names, refusals


def test_stubs_raise_until_they_are_written(tmp_path: Path, rng: np.random.Generator) -> None:
    build = Builder("evil", "keras")
    x = build.input("x", ("batch", "time", 6))
    options = {"text": 'a"""\nimport os\\', "units": 3, 'k"""': None}
    stub = Stub("my/stub", 'Odd"""Layer\n', options, {'k"er\nnel': rng.normal(size=(6, 3))}, outputs=2)
    node = build.call(stub, x, x)
    last = build.call(Dense("dense", rng.normal(size=(3, 2))), node)
    build.activation("relu", Wire(node.node, 1))
    graph = build.graph({"y": last, "z": build.softmax(Wire(node.node, 1))})
    code, module = written(graph, tmp_path)
    assert code.stubs == ("my/stub",)
    with pytest.raises(NotImplementedError, match="fill in"):
        module.load()(torch.ones(2, 3, 6))


def test_a_stub_takes_a_mask(tmp_path: Path, rng: np.random.Generator) -> None:
    build = Builder("model", "keras")
    x = build.input("x", ("batch", "time", 6))
    valid = build.reduce("any", build.elementwise("not_equal", x, 0.0), 2)
    graph = build.graph({"y": build.call(Stub("pool", "Pool", masked=True), x, valid)})
    _, module = written(graph, tmp_path)
    with pytest.raises(NotImplementedError, match="fill in"):
        module.load()(torch.ones(2, 3, 6))
    module.Pool.forward = lambda self, x, mask=None: x.sum(1) + mask.sum(1, keepdim=True)  # noqa: ARG005
    inputs = {"x": rng.integers(1, 9, (3, 11, 6)).astype(np.float32)}
    inputs["x"][1, 2:5] = 0.0
    expected = inputs["x"].sum(1) + np.array([[11], [8], [11]])
    np.testing.assert_array_equal(outputs(module, graph, inputs)["y"], expected)


def test_layers_behind_a_stub(tmp_path: Path, rng: np.random.Generator) -> None:
    """Nobody knows the shapes there; once the stub is written, all is exact."""

    def model(middle: Callable[[Builder, Wire], Wire]) -> Graph:
        build = Builder("model")
        x = middle(build, build.input("x", ("batch", "time", 4)))
        x = build.call(Convolution("conv", kernel, None, (2,), (1,), "same"), x)
        x = build.call(BatchNormalization("bn", *moments, None, None, 1e-3), x)
        x = build.call(Pooling("pool", "max", (2,), (2,), (1,), ((0, 0),)), x)
        x = build.call(layer, x)
        x = build.select(build.slice(build.softmax(x), 1, 1), 1, -1)
        return build.graph({"y": build.concatenate([x, build.select(x, -1, 2)][:1], -1)})

    kernel, moments = rng.normal(size=(3, 4, 6)), (rng.normal(size=6), rng.uniform(0.5, 2, 6))
    layer = recurrent(rng, "gru", BOTH, merge_mode="ave")
    stub = Stub("stub", "Twice", {}, {})
    graph = model(lambda build, x: build.call(stub, x))
    twice = model(lambda build, x: build.add(x, x))
    code, module = written(graph, tmp_path)
    assert code.stubs == ("stub",)
    module.Twice.forward = lambda self, x: 2 * x  # noqa: ARG005
    inputs = given(twice, rng, time=13)
    np.testing.assert_allclose(outputs(module, graph, inputs)["y"], twice.run(inputs)["y"], rtol=0, atol=1e-9)


HOSTILE = [
    '"""\nimport os\n',
    "class",
    "forward",
    "a-b",
    "a b",
    "\\",
    "größe",
    "x",
    "self",
    "torch",
    "1",
    "T_destination",
    "load",
    "Outputs",
]


def test_names_from_files_do_no_harm(tmp_path: Path, rng: np.random.Generator) -> None:
    build = Builder('model"""\nimport os #', '"""\n')
    value = build.input('in"""put', ("batch", "time", 6))
    other = build.input("torch", ("batch", "time", 6))
    build.input("self", ("batch",))
    value = build.add(value, other, name="F")
    parts: dict[str, Wire] = {}
    for name in HOSTILE:
        value = build.call(Dense(name, rng.normal(size=(6, 6))), value, source=name)
        parts[f"{name} out"] = value
    graph = build.graph(parts)
    code = check(graph, given(graph, rng), tmp_path)
    tree = ast.parse(code.source)
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert "os" not in imported


def test_module_names_are_torchs() -> None:
    assert {name for name in dir(torch.nn.Module()) if not name.startswith("_")} <= MODULE_NAMES


def test_compiles_under_python_3_10(rng: np.random.Generator) -> None:
    graph = graph_of(lambda build, x, _: build.softmax(x), rng)
    ast.parse(torch_code(graph).source, feature_version=(3, 10))


def test_float32_within_noise(tmp_path: Path, rng: np.random.Generator) -> None:
    from parity.graph.noise import Float32Noise

    def single(layer: Recurrent) -> Recurrent:
        members = ("kernel", "recurrent", "bias_input", "bias_recurrent")
        narrow = [
            one.with_held(**{name: one.held(name).astype(np.float32) for name in members}) for one in layer.weights
        ]
        return Recurrent(layer.name, layer.spec, tuple(narrow))

    build = Builder("model")
    x = build.input("x", ("batch", "time", 6))
    y = build.call(single(recurrent(rng, "lstm", BOTH)), x)
    y = build.call(
        Dense("dense", rng.normal(size=(10, 4)).astype(np.float32), rng.normal(size=4).astype(np.float32)), y
    )
    graph = build.graph({"y": build.softmax(y)})
    inputs = {"x": rng.normal(size=(4, 9, 6)).astype(np.float32)}
    _, module = written(graph, tmp_path)
    found, exact = outputs(module, graph, inputs)["y"], graph.run(inputs)["y"]
    assert found.dtype == np.float32
    spread = np.max([np.abs(graph.run(inputs, Float32Noise(seed))["y"] - exact) for seed in range(8)], axis=0).max()
    assert 0 < np.abs(found - exact).max() <= 4 * spread


def test_weights_are_those_of_the_module(tmp_path: Path, rng: np.random.Generator) -> None:
    graph = graph_of(lambda build, x, rng: build.call(recurrent(rng, "gru", BOTH), x), rng)
    code, module = written(graph, tmp_path)
    state = module.load().state_dict()
    assert {name: tuple(value.shape) for name, value in state.items()} == {n: b.shape for n, b in code.weights.items()}
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ValueError, match="cut short"):
        module.load()
    (tmp_path / "no.safetensors").write_bytes(b"this is no such file at all")
    with pytest.raises(ValueError, match=re.escape("no.safetensors")):
        module.load(tmp_path / "no.safetensors")


def test_values_that_are_computed_once(tmp_path: Path, rng: np.random.Generator) -> None:
    def make(build: Builder, x: Wire, rng: np.random.Generator) -> Wire:
        shared = build.call(Dense("shared", rng.normal(size=(6, 6))), x)
        return build.add(build.activation("tanh", shared), build.multiply(shared, build.activation("sigmoid", shared)))

    assert same(make, tmp_path, rng).count("self.shared(") == 1


def test_select_of_a_row(tmp_path: Path, rng: np.random.Generator) -> None:
    build = Builder("model")
    states = build.input("states", (2, "batch", 3))
    both = build.call(Select("a", 0, 1), states)
    graph = build.graph({"y": build.add(both, build.weight("w", rng.normal(size=3))), "z": build.select(states, -3, 0)})
    check(graph, {"states": rng.normal(size=(2, 4, 3))}, tmp_path)
