"""Code for Keras that is written from a graph computes what the graph computes: every operation, every option."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parity.cell import Cell, plain_cell
from parity.conventions import MERGE_MODES
from parity.errors import UnsupportedError
from parity.functions import FUNCTIONS, Function
from parity.graph import Builder, Wire
from parity.graph.graph import Graph
from parity.graph.keras_code import keras_code, write_weights
from parity.graph.keras_code.module import snippet
from parity.graph.operations import (
    BatchNormalization,
    Constant,
    Convolution,
    Flip,
    GroupNormalization,
    LayerNormalization,
    Length,
    Pad,
    Pooling,
    Range,
    Slice,
    Stub,
    Take,
    UnitNormalization,
)
from parity.layouts import GATES, KINDS, PEEPHOLES
from parity.network import Bidirectional, Dense, Dropout, Embedding, Masking, Recurrent
from parity.recurrent import DIRECTIONS, RecurrentSpec, Weights
from tests.keras_code_harness import check, imported, inputs_for, outputs_of, same_order, worst, written

RANDOM = np.random.default_rng(11)
Made = Callable[[Builder, Wire], Wire]


def floats(*shape: int) -> np.ndarray[Any, Any]:
    return (0.5 * RANDOM.standard_normal(shape)).astype(np.float32)


def positive(*shape: int) -> np.ndarray[Any, Any]:
    return RANDOM.uniform(0.5, 1.5, shape).astype(np.float32)


def weights(spec: RecurrentSpec, bias: bool = True, peepholes: bool = False) -> Weights:
    return Weights(
        floats(*spec.shape("kernel")),
        floats(*spec.shape("recurrent")),
        floats(*spec.shape("bias_input")) if bias else None,
        floats(*spec.shape("bias_recurrent")) if bias else None,
        floats(*spec.shape("peepholes")) if peepholes else None,
        floats(*spec.shape("projection")) if spec.projection_size else None,
    )


def recurrent(
    kind: Any,
    *,
    name: str = "encoder",
    size: int = 3,
    units: int = 5,
    directions: Any = DIRECTIONS[:1],
    projection: int | None = None,
    bias: bool = True,
    peepholes: bool = False,
    cell: Cell | None = None,
    **options: Any,
) -> Recurrent:
    spec = RecurrentSpec(kind, size, units, directions, projection)
    own = tuple(weights(spec, bias, peepholes) for _ in directions)
    cells = (cell,) * len(directions) if cell else ()
    return Recurrent(name, spec, own, cells=cells, **options)


def graph_of(make: Made, shape: tuple[int | str, ...] = ("batch", "time", 3), dtype: str = "float32") -> Graph:
    build = Builder("model", "torch")
    x = build.input("x", shape, dtype, 9 if dtype == "int64" else None)
    return build.graph({"y": make(build, x)})


def graph_of_recurrent(layer: Recurrent | Bidirectional, masked: bool = False, started: bool = False) -> Graph:
    """A graph that gives everything the layer gives."""
    build = Builder("model", "keras")
    x = build.input("x", ("batch", "time", layer.input_size))
    tokens = build.input("tokens", ("batch", "time"), "int64", 5) if masked else None
    mask = build.elementwise("not_equal", tokens, 0) if tokens else None
    states = []
    if started:
        assert isinstance(layer, Recurrent)
        sizes = [(d, s, layer.spec.state_shape(s, 1)[-1]) for d in layer.spec.directions for s in layer.spec.states]
        states = [build.input(f"{d}_{s}", ("batch", size)) for d, s, size in sizes]
    build.call(layer, x, mask, *states, source=layer.name)
    if isinstance(layer, Recurrent):
        names = [value.name for value in layer.values]
    else:
        names = ["output"] if layer.merge_mode else ["forward", "backward"]
    return build.graph({name: Wire(layer.name, index) for index, name in enumerate(names)})


# ---- recurrent layers


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sequences", [True, False])
@pytest.mark.parametrize(
    "directions", [DIRECTIONS[:1], DIRECTIONS[1:], DIRECTIONS], ids=["forward", "backward", "both"]
)
def test_recurrent_layers_with_states_given_and_taken(
    kind: Any, sequences: bool, directions: Any, tmp_path: Path
) -> None:
    layer = recurrent(kind, directions=directions, return_sequences=sequences, reverse=directions == DIRECTIONS[1:])
    code = check(graph_of_recurrent(layer, started=True), tmp_path)
    assert "RNN(" not in code.source.replace("SimpleRNN(", "")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fill", ["zero", "repeat"])
@pytest.mark.parametrize("sequences", [True, False])
@pytest.mark.parametrize(
    "directions", [DIRECTIONS[:1], DIRECTIONS[1:], DIRECTIONS], ids=["forward", "backward", "both"]
)
def test_masks(kind: Any, fill: Any, sequences: bool, directions: Any, tmp_path: Path) -> None:
    layer = recurrent(kind, directions=directions, fill=fill, return_sequences=sequences)
    check(graph_of_recurrent(layer, masked=True), tmp_path)


@pytest.mark.parametrize("mode", MERGE_MODES)
@pytest.mark.parametrize("fill", ["zero", "repeat"])
def test_directions_merged(mode: Any, fill: Any, tmp_path: Path) -> None:
    layer = recurrent("gru", directions=DIRECTIONS, merge_mode=mode, fill=fill, reverse=fill == "repeat")
    check(graph_of_recurrent(layer, masked=True), tmp_path)
    check(graph_of_recurrent(layer), tmp_path)


@pytest.mark.parametrize("reverse", [True, False])
@pytest.mark.parametrize(
    "directions", [DIRECTIONS[:1], DIRECTIONS[1:], DIRECTIONS], ids=["forward", "backward", "both"]
)
def test_order_of_steps(reverse: bool, directions: Any, tmp_path: Path) -> None:
    check(graph_of_recurrent(recurrent("rnn", directions=directions, reverse=reverse), masked=True), tmp_path)


PLAIN = {kind: plain_cell(kind) for kind in KINDS}
HARD = Function("hard_sigmoid", 0.2, 0.5)
CELLS: dict[str, dict[str, Any]] = {
    "no bias": {"kind": "lstm", "bias": False},
    "no bias gru": {"kind": "gru", "bias": False},
    "reset before": {"kind": "gru", "cell": replace(PLAIN["gru"], reset_after=False)},
    "reset before, clip": {"kind": "gru", "cell": replace(PLAIN["gru"], reset_after=False, clip=0.4)},
    "reset after, clip": {"kind": "gru", "cell": replace(PLAIN["gru"], clip=0.4)},
    "reset after, clip, no bias": {"kind": "gru", "bias": False, "cell": replace(PLAIN["gru"], clip=0.4)},
    "clip": {"kind": "rnn", "cell": replace(PLAIN["rnn"], clip=0.4)},
    "relu": {"kind": "rnn", "cell": Cell((Function("relu"),))},
    "hard sigmoid": {"kind": "lstm", "cell": Cell((HARD, Function("tanh"), Function("tanh")))},
    "elu": {"kind": "gru", "cell": Cell((Function("sigmoid"), Function("elu", 0.7)))},
    "unlike functions": {"kind": "lstm", "cell": Cell((HARD, Function("softsign"), Function("relu")))},
    "coupled": {"kind": "lstm", "cell": replace(PLAIN["lstm"], input_forget=True)},
    "peepholes": {"kind": "lstm", "peepholes": True},
    "projection": {"kind": "lstm", "projection": 2},
    "projection above": {"kind": "lstm", "projection": 7, "bias": False},
    "everything": {
        "kind": "lstm",
        "projection": 2,
        "peepholes": True,
        "cell": Cell((HARD, Function("softsign"), Function("scaled_tanh", 1.5, 0.7)), clip=0.9, input_forget=True),
    },
}


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("directions", [DIRECTIONS[:1], DIRECTIONS], ids=["one", "both"])
def test_cells(name: str, directions: Any, tmp_path: Path) -> None:
    layer = recurrent(directions=directions, **CELLS[name])
    check(graph_of_recurrent(layer, started=True), tmp_path)
    check(graph_of_recurrent(layer, masked=True), tmp_path, seed=4, formatted=False)


def test_the_cells_of_a_module_name_the_gates_in_the_order_of_the_layout() -> None:
    assert "z_i, z_f, z_c, z_o" in snippet("lstm_cell")
    assert GATES["lstm"] == ("i", "f", "g", "o")
    assert PEEPHOLES["lstm"] == ("i", "f", "o")


def test_unlike_directions(tmp_path: Path) -> None:
    first = recurrent("lstm", name="first", units=5)
    second = recurrent("gru", name="second", units=4, directions=DIRECTIONS[1:], reverse=True)
    over = recurrent("rnn", name="over", size=5, units=2)
    for merge in ("concat", None):
        stacks = (replace(first), replace(over)), (replace(second, reverse=False),)
        check(graph_of_recurrent(Bidirectional("both", *stacks, merge_mode=merge), masked=True), tmp_path)
    same = recurrent("gru", name="same", units=5, directions=DIRECTIONS[1:])
    for merge in ("sum", "mul", "ave"):
        check(graph_of_recurrent(Bidirectional("both", (first,), (same,), merge_mode=merge)), tmp_path, formatted=False)


def test_each_direction_with_a_cell_of_its_own(tmp_path: Path) -> None:
    layer = recurrent("lstm", directions=DIRECTIONS)
    other = Cell((HARD, Function("tanh"), Function("tanh")))
    code = check(graph_of_recurrent(replace(layer, cells=(PLAIN["lstm"], other))), tmp_path)
    assert "backward_layer=layers.LSTM(" in code.source


def test_a_mask_reaches_only_the_layers_that_take_it(tmp_path: Path) -> None:
    build = Builder("model")
    tokens = build.input("tokens", ("batch", "time"), "int64", 9)
    mask = build.elementwise("not_equal", tokens, 0)
    x = build.call(Embedding("embedding", floats(9, 3)), tokens)
    x = build.call(recurrent("lstm", name="masked"), x, mask)
    free = build.call(recurrent("lstm", name="free", size=5), x)
    soft = build.softmax(x, axis=1, source="soft")
    pooled = build.mean(x, 1, source="pool")
    kept = build.call(recurrent("gru", name="again", size=5, return_sequences=False), build.activation("relu", x), mask)
    bare = build.call(recurrent("rnn", name="bare", size=5), build.call(Dense("d", floats(5, 5)), x))
    check(build.graph({"free": free, "soft": soft, "pool": pooled, "kept": kept, "bare": bare}), tmp_path)


# ---- layers around them


def convolution(sizes: tuple[int, ...], taken: int, given: int, **options: Any) -> Convolution:
    usual: dict[str, Any] = {
        "strides": (1,) * len(sizes),
        "dilations": (1,) * len(sizes),
        "padding": ((0, 0),) * len(sizes),
    }
    groups = options.get("groups", 1)
    return Convolution("conv", floats(*sizes, taken // groups, given), floats(given), **{**usual, **options})


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
    check(graph_of(lambda build, x: build.call(bare, x, source="conv"), shape), tmp_path, formatted=False)


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
    check(graph_of(lambda build, x: build.call(first, x), ("batch", 3, "time")), tmp_path, formatted=False)


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
        check(graph_of(lambda build, x: build.reduce(function, x, (1, -1), source="pool")), tmp_path, formatted=False)


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
    number = build.multiply(build.cast(given, "float32"), build.cast(tokens, "float32") if False else 2.0)
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
    "broadcast": lambda b, x: b.expand(b.weight("rows", floats(1, 3)), (4, 3)),
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


# ---- whole models


def branches() -> Graph:
    """Layers of one class in branches of unlike length, one of them shared, on two inputs."""
    build = Builder("branches", "keras")
    left, right = build.input("left", ("batch", "time", 3)), build.input("right", ("batch", "time", 3))
    shared = Dense("shared", floats(3, 3), floats(3))
    short = build.call(Dense("short", floats(3, 3), floats(3)), left, source="short")
    deep = build.call(shared, left, source="shared")
    for index in range(4):
        deep = build.call(Dense(f"deep_{index}", floats(3, 3), floats(3)), deep, source=f"deep_{index}")
        deep = build.activation("tanh", deep)
    again = build.call(shared, build.multiply(right, 0.5))
    late = build.call(Dense("late", floats(3, 3), floats(3)), build.call(shared, again), source="late")
    odd = build.call(Dense("odd", floats(3, 3)), build.add(short, late), source="odd")
    return build.graph({"odd": odd, "deep": build.add(deep, short), "early": short})


def test_weights_reach_their_layers_in_branches_and_shared_layers(tmp_path: Path) -> None:
    check(branches(), tmp_path, predict=True)


def test_weights_in_another_order_are_noticed(tmp_path: Path) -> None:
    graph = branches()
    code, module = written(graph, tmp_path)
    names = [name for name in code.weights if name.endswith("/0")]
    swapped = {**code.weights, names[0]: code.weights[names[1]], names[1]: code.weights[names[0]]}
    write_weights(replace(code, weights=swapped), tmp_path / "swapped.weights.h5")
    model, inputs = module.load(tmp_path / "swapped.weights.h5"), inputs_for(graph)
    assert worst(graph, outputs_of(model, graph, inputs), inputs) > 1000
    with pytest.raises(AssertionError):
        same_order(code, model, tmp_path)


@pytest.mark.parametrize("seed", range(12))
def test_order_of_layers_in_random_graphs(seed: int, tmp_path: Path) -> None:
    random = np.random.default_rng(seed)
    build = Builder("random")
    values = [build.input(f"in_{index}", ("batch", 3)) for index in range(int(random.integers(1, 4)))]
    layers = [Dense(f"dense_{index}", floats(3, 3), floats(3)) for index in range(6)]
    for _ in range(25):
        one, other = (values[int(random.integers(max(0, len(values) - 9), len(values)))] for _ in range(2))
        choice = int(random.integers(5))
        if choice < 3:
            values.append(build.call(layers[int(random.integers(6))], one))
        elif choice == 3:
            values.append(build.add(one, other))
        else:
            joined = build.concatenate([one, build.weight("w", floats(2, 3)) if False else other, one])
            values.append(build.slice(joined, 1, 2, 5))
    outputs = {f"out_{index}": values[-1 - index * 3] for index in range(int(random.integers(1, 4)))}
    graph = build.graph(outputs)
    graph = replace(graph, inputs=graph.inputs)
    code, module = written(graph, tmp_path)
    same_order(code, module.load(), tmp_path)


def test_parameters_that_stand_alone(tmp_path: Path) -> None:
    build = Builder("model")
    x = build.input("x", ("batch", "time", 12))
    table = build.call(Constant("table", np.arange(24).reshape(12, 2)))
    many = build.constant(floats(12), "window")
    summed = build.matmul(build.multiply(x, many), build.cast(table, "float32"))
    start = build.expand(build.weight("start", floats(1, 5)), (Length(1, 0), -1), x)
    states = build.call(recurrent("gru", size=12), x, None, start)
    code = check(build.graph({"summed": summed, "states": states, "start": start}), tmp_path, predict=True)
    assert "trainable=False" in code.source


def test_float64_stays_float64(tmp_path: Path) -> None:
    build = Builder("model")
    x = build.input("x", ("batch", "time", 3))
    layer = recurrent("lstm", directions=DIRECTIONS, projection=2)
    wide = tuple(
        Weights(**{name: None if a is None else a.astype(np.float64) for name, a in vars(w).items()})
        for w in layer.weights
    )
    y = build.multiply(build.call(replace(layer, weights=wide), x), build.constant(np.array([0.1, 0.2, 0.3, 0.7])))
    graph = build.graph({"y": build.call(Dense("d", floats(4, 2).astype(np.float64)), y)})
    _, module = written(graph, tmp_path)
    inputs = {"x": np.random.default_rng(0).standard_normal((3, 9, 3))}
    (given,) = outputs_of(module.load(), graph, inputs)
    assert given.dtype == np.float64
    np.testing.assert_allclose(given, graph.run(inputs)["y"], rtol=1e-12, atol=1e-13)


def test_names_from_anywhere(tmp_path: Path) -> None:
    build = Builder('m"""\\ odel\n', "keras")
    x = build.input("class", ("batch", 3))
    names = ["a/b.c", "größe", 'quote"\'""" \n', "__import__('os')", "x", "layers", "ops", "", "1st", "add"]
    for name in names:
        x = build.call(Dense(name, floats(3, 3), floats(3)), x, source=name)
    y = build.add(x, build.multiply(x, 2.0))
    check(build.graph({'out"""': y, "": x}), tmp_path)


def test_a_model_whose_input_has_no_batch_first(tmp_path: Path) -> None:
    build = Builder("model")
    x = build.input("frames", ("time", "batch", 3))
    y = build.call(recurrent("lstm"), build.transpose(x, (1, 0, 2)))
    code = check(build.graph({"y": build.transpose(y, (1, 0, 2))}), tmp_path)
    assert any("Axis 0" in note for note in code.notes)


def test_a_stub_raises_until_it_is_filled_in(tmp_path: Path) -> None:
    build = Builder("model", "keras")
    x = build.input("x", ("batch", "time", 3))
    options = {"units": 4, "mode": "a\nb"}
    stub = Stub("magic", "lib>MagicLayer", options, {"magic/kernel:0": floats(3, 4)})
    value = build.call(stub, build.call(Dense("before", floats(3, 3)), x), source="magic")
    graph = build.graph({"y": build.call(Dense("after", floats(4, 2)), value, source="after")})
    code, module = written(graph, tmp_path)
    assert code.stubs == ("magic",)
    with pytest.raises(NotImplementedError, match="fill in"):
        module.build()
    folder = tmp_path / "filled"
    folder.mkdir()
    head, _, tail = code.source.partition("        raise NotImplementedError(")
    body = "        (x,) = inputs\n        return ops.matmul(x, self.source_weights[0])\n"
    (folder / "model.py").write_text(head + body + tail.partition("\n")[2], "utf-8")
    write_weights(code, folder / "model.weights.h5")
    model, inputs = imported(folder / "model.py").load(), inputs_for(graph)
    expected = inputs["x"] @ graph.operations[0].arrays.present["kernel"] @ stub.weights["magic/kernel:0"]
    expected = expected @ graph.operations[2].arrays.present["kernel"]
    np.testing.assert_allclose(outputs_of(model, graph, inputs)[0], expected, rtol=1e-4, atol=1e-5)


def test_what_keras_cannot_say_is_refused_all_at_once() -> None:
    build = Builder("model")
    x = build.input("x", ("batch", "time", 3))
    x = build.call(Pooling("first", "max", (2,), (2,), (2,), ((0, 0),)), x)
    x = build.call(Pooling("second", "max", (2,), (2,), (3,), ((0, 0),)), x)
    x = build.call(convolution((3,), 3, 4, padding="same", strides=(2,), dilations=(2,)), x)
    with pytest.raises(UnsupportedError) as refused:
        keras_code(build.graph({"y": x}))
    assert [problem.where for problem in refused.value.problems] == ["layer 'first'", "layer 'second'", "layer 'conv'"]


def test_nothing_is_imported() -> None:
    import subprocess
    import sys

    script = (
        "import parity.graph.keras_code, sys; assert not {'keras', 'torch', 'tensorflow', 'onnx'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
