"""Small graphs, one for every operation and option, with random weights and all sizes different."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from parity.cell import Cell
from parity.conventions import MERGE_MODES
from parity.functions import FUNCTIONS, Function
from parity.graph import Builder, Graph, Wire
from parity.graph import operations as ops
from parity.network import Bidirectional, Dense, Dropout, Embedding, Masking, Recurrent
from parity.network.activations import ACTIVATIONS
from parity.recurrent import Array, RecurrentSpec, Weights

Random = np.random.Generator
Case = Callable[[Builder, Random], dict[str, Wire]]
BOTH: tuple[Literal["forward", "backward"], ...] = ("forward", "backward")
GATES = {"lstm": 4, "gru": 3, "rnn": 1}

VOCABULARY = 11


def numbers(random: Random, *shape: int) -> Array:
    return (random.normal(size=shape) * 0.6).astype(np.float32)


def recurrent(
    random: Random, kind: Any = "lstm", name: str = "layer", features: int = 4, units: int = 5, **options: Any
) -> Recurrent:
    """A layer with random weights; `directions`, `projection` and `peepholes` beside its own options."""
    directions = options.pop("directions", ("forward",))
    projection, peepholes = options.pop("projection", None), options.pop("peepholes", False)
    gates, state = GATES[kind], projection or units
    weights = tuple(
        Weights(
            numbers(random, gates, units, features),
            numbers(random, gates, units, state),
            numbers(random, gates, units),
            numbers(random, gates, units),
            numbers(random, 3, units) if peepholes else None,
            numbers(random, projection, units) if projection else None,
        )
        for _ in directions
    )
    return Recurrent(name, RecurrentSpec(kind, features, units, directions, projection), weights, **options)


def graph_of(name: str) -> Graph:
    """The graph of a case."""
    build = Builder(name)
    return build.graph(CASES[name](build, np.random.default_rng(7)))


def inputs_for(graph: Graph, lengths: dict[str, int], seed: int = 3) -> dict[str, Array]:
    """Random inputs. The first row of a mask is all False, the others have gaps."""
    random = np.random.default_rng(seed)
    found: dict[str, Array] = {}
    for one in graph.inputs:
        shape = tuple(lengths[n] if isinstance(n, str) else n for n in one.shape)
        if one.dtype == "int64":
            found[one.name] = random.integers(0, one.below or 9, shape)
        elif one.dtype == "bool":
            found[one.name] = random.random(shape) < 0.6
            found[one.name][0] = False
        else:
            found[one.name] = random.normal(size=shape).astype(np.float32)
    return found


# ---- recurrent layers


def _every_value(build: Builder, layer: Any, *inputs: Wire | None) -> dict[str, Wire]:
    first = build.call(layer, *inputs, source=layer.name)
    count = len(layer.values) if isinstance(layer, Recurrent) else 2 if layer.merge_mode is None else 1
    return {f"value_{index}": Wire(first.node, index) for index in range(count)}


def _recurrent_case(kind: str = "lstm", masked: bool = False, given: bool = False, **options: Any) -> Case:
    def case(build: Builder, random: Random) -> dict[str, Wire]:
        layer = recurrent(random, kind, **dict(options))
        x = build.input("x", ("batch", "time", 4))
        mask = build.input("mask", ("batch", "time"), "bool") if masked else None
        states = []
        if given:
            sizes = [layer.spec.state_shape(state, 1)[-1] for _ in layer.spec.directions for state in layer.spec.states]
            states = [build.input(f"state_{index}", ("batch", size)) for index, size in enumerate(sizes)]
        return _every_value(build, layer, x, mask, *states)

    return case


def _unlike(mode: Any, masked: bool, every: bool) -> Case:
    def case(build: Builder, random: Random) -> dict[str, Wire]:
        forward = recurrent(random, "lstm", "there", return_sequences=every)
        size = 5 if mode in ("sum", "mul", "ave") else 3
        first = recurrent(random, "rnn", "back_0", units=6, directions=("backward",), reverse=False)
        last = recurrent(
            random, "gru", "back_1", features=6, units=size, directions=("backward",), return_sequences=every
        )
        layer = Bidirectional("both", (forward,), (first, last), mode)
        x = build.input("x", ("batch", "time", 4))
        mask = build.input("mask", ("batch", "time"), "bool") if masked else None
        return _every_value(build, layer, x, mask)

    return case


def _recurrent_cases() -> Iterator[tuple[str, Case]]:
    for kind in GATES:
        yield f"{kind}", _recurrent_case(kind)
        yield f"{kind} both", _recurrent_case(kind, directions=BOTH)
        yield f"{kind} last", _recurrent_case(kind, return_sequences=False, directions=BOTH)
        yield f"{kind} given states", _recurrent_case(kind, given=True, directions=BOTH)
        yield f"{kind} masked given states", _recurrent_case(kind, masked=True, given=True, directions=BOTH)
        yield f"{kind} reverse", _recurrent_case(kind, directions=("backward",), reverse=True)
    for fill in ("zero", "repeat"):
        for every in (True, False):
            options: dict[str, Any] = {"masked": True, "fill": fill, "return_sequences": every}
            yield f"masked {fill} {every}", _recurrent_case("gru", directions=BOTH, **options)
            yield (
                f"masked {fill} {every} backward",
                _recurrent_case("rnn", directions=("backward",), reverse=True, **options),
            )
    for mode in MERGE_MODES:
        for every in (True, False):
            merging: dict[str, Any] = {"merge_mode": mode, "return_sequences": every}
            yield f"merge {mode} {every}", _recurrent_case(directions=BOTH, **merging)
            yield f"unlike {mode} {every}", _unlike(mode, masked=every, every=every)
    yield "projection", _recurrent_case(projection=3, directions=BOTH)
    yield "projection given states", _recurrent_case(projection=3, directions=BOTH, given=True, masked=True)
    cell = Cell((Function("sigmoid"), Function("gelu"), Function("mish")))
    yield "functions of no operator", _recurrent_case(cells=(cell, cell), directions=BOTH, given=True, masked=True)
    hard = Cell((Function("hard_sigmoid", 1 / 6, 0.5), Function("relu"), Function("softsign")), clip=0.8)
    yield "functions, clip and peepholes", _recurrent_case(cells=(hard,), peepholes=True)
    yield (
        "reset before",
        _recurrent_case("gru", cells=(replace(Cell((Function("sigmoid"), Function("tanh"))), reset_after=False),)),
    )


def _shared_recurrent(build: Builder, random: Random) -> dict[str, Wire]:
    layer, scan = recurrent(random), recurrent(random, "rnn", "scanned", cells=(Cell((Function("silu"),)),))
    dense = Dense("scores", numbers(random, 5, 2), numbers(random, 2))
    x, y = build.input("x", ("batch", "time", 4)), build.input("y", ("batch", "steps", 4))
    first, second = build.call(layer, x, None), build.call(layer, y, None, Wire("layer", 1), Wire("layer", 2))
    third = build.add(build.call(scan, x, None), build.call(scan, build.slice(x, 1, step=-1), None))
    return {"a": build.call(dense, first), "b": build.call(dense, second), "c": build.call(dense, third)}


def _namesakes(build: Builder, random: Random) -> dict[str, Wire]:
    """Two layers whose inner layers have the same names, one of them called twice."""
    x = build.input("x", ("batch", "time", 4))

    def both(name: str) -> Bidirectional:
        there = recurrent(random, "lstm", "there", units=2)
        back = recurrent(random, "gru", "back", units=2, directions=("backward",), reverse=False)
        return Bidirectional(name, (there,), (back,), "concat")

    first, second = both("first"), both("second")
    y = build.call(second, build.call(first, x, None), None)
    return {"y": build.call(first, y, None)}


def _stack(build: Builder, random: Random) -> dict[str, Wire]:
    """Recurrent layers one behind the other, a skip around one, time-major at the end."""
    x = build.input("x", ("batch", "time", 4))
    y = build.call(recurrent(random, "gru", "first", units=3, directions=BOTH), x, None)
    y = build.call(Dropout("dropout", 6, 0.5), y)
    z = build.call(recurrent(random, "lstm", "second", features=6, units=6), y, None)
    skip = build.activation("tanh", build.add(y, z))
    last = build.call(recurrent(random, "rnn", "third", features=6, units=2), skip, None)
    return {"time_major": build.transpose(last, (1, 0, 2)), "batch_major": last, "skip": skip}


# ---- layers with weights


def _dense(rank: int, activation: str, bias: bool = True) -> Case:
    def case(build: Builder, random: Random) -> dict[str, Wire]:
        shape = ("batch", "time", 3, 2)[: rank - 1]
        x = build.input("x", (*shape, 4))
        layer = Dense("dense", numbers(random, 4, 5), numbers(random, 5) if bias else None, activation)
        return {"y": build.call(layer, x)}

    return case


def _tagger(build: Builder, random: Random) -> dict[str, Wire]:
    """Embedding, mask, recurrent layer, Dense."""
    words = build.input("words", ("batch", "time"), "int64", VOCABULARY)
    vectors = build.call(Embedding("words_vectors", numbers(random, VOCABULARY, 4), mask_zero=True), words)
    mask = build.elementwise("not_equal", words, build.constant(0))
    hidden = build.call(recurrent(random, directions=BOTH, fill="repeat"), vectors, mask)
    return {
        "tags": build.softmax(build.call(Dense("tags", numbers(random, 10, 3), numbers(random, 3)), hidden)),
        "mask": mask,
    }


def _masking(build: Builder, _random: Random) -> dict[str, Wire]:
    words = build.input("words", ("batch", "time"), "int64", 3)
    kept = build.cast(build.elementwise("greater", words, build.constant(0)), "float32")
    x = build.multiply(build.input("x", ("batch", "time", 4)), build.expand_dims(kept, -1))
    x = build.add(x, build.multiply(build.subtract(1.0, build.expand_dims(kept, -1)), 0.1))
    return {"y": build.call(Masking("masking", 4, 0.1), x)}


def _convolution(
    axes: int, padding: Any, last: bool, strides: int = 1, dilation: int = 1, groups: int = 1, bias: bool = True
) -> Case:
    def case(build: Builder, random: Random) -> dict[str, Wire]:
        spatial = ("time", 9)[:axes]
        x = build.input("x", ("batch", *spatial, 4) if last else ("batch", 4, *spatial))
        kernel = numbers(random, *(3, 2)[:axes], 4 // groups, 6)
        layer = ops.Convolution(
            "conv",
            kernel,
            numbers(random, 6) if bias else None,
            (strides,) * axes,
            (dilation,) * axes,
            padding,
            groups,
            last,
        )
        return {"y": build.call(layer, x)}

    return case


def _pooling(
    function: Any, axes: int, padding: Any, last: bool, strides: int = 2, dilation: int = 1, counts: bool = False
) -> Case:
    def case(build: Builder, _random: Random) -> dict[str, Wire]:
        spatial = ("time", 9)[:axes]
        x = build.input("x", ("batch", *spatial, 4) if last else ("batch", 4, *spatial))
        pooling = ops.Pooling(
            "pool", function, (3, 2)[:axes], (strides,) * axes, (dilation,) * axes, padding, last, counts
        )
        return {"y": build.call(pooling, x)}

    return case


def _window_cases() -> Iterator[tuple[str, Case]]:
    for last in (True, False):
        where = "last" if last else "first"
        yield f"conv1d valid {where}", _convolution(1, ((0, 0),), last)
        yield f"conv1d same {where}", _convolution(1, "same", last)
        yield f"conv1d same strides {where}", _convolution(1, "same", last, strides=2)
        yield f"conv1d causal dilated {where}", _convolution(1, ((4, 0),), last, dilation=2)
        yield f"conv1d groups {where}", _convolution(1, ((1, 2),), last, groups=2, bias=False)
        yield f"conv2d same {where}", _convolution(2, "same", last)
        yield f"conv2d same strides {where}", _convolution(2, "same", last, strides=3)
        yield f"conv2d same dilated {where}", _convolution(2, "same", last, dilation=2)
        yield f"conv2d padded groups {where}", _convolution(2, ((1, 0), (2, 1)), last, groups=2)
        for function in ("max", "average"):
            yield f"{function} 1d valid {where}", _pooling(function, 1, ((0, 0),), last)
            yield f"{function} 1d same {where}", _pooling(function, 1, "same", last)
            yield f"{function} 1d same stride 1 {where}", _pooling(function, 1, "same", last, strides=1)
            yield f"{function} 2d same {where}", _pooling(function, 2, "same", last)
            yield f"{function} 2d padded {where}", _pooling(function, 2, ((1, 1), (0, 1)), last)
        yield f"average counting {where}", _pooling("average", 2, ((1, 1), (0, 1)), last, counts=True)
        yield f"max dilated {where}", _pooling("max", 1, ((2, 1),), last, dilation=2)
        yield f"max dilated same {where}", _pooling("max", 1, "same", last, strides=1, dilation=2)


def _batch_normalization(rank: int, axis: int, weights: bool) -> Case:
    def case(build: Builder, random: Random) -> dict[str, Wire]:
        size: tuple[int | str, ...] = ("batch", "time", 9, 4)[: rank - 1]
        shape = (*size, 4) if axis == -1 else (size[0], 4, *size[1:])
        x = build.input("x", shape)
        gamma, beta = (numbers(random, 4) if weights else None for _ in range(2))
        layer = ops.BatchNormalization(
            "norm", numbers(random, 4), numbers(random, 4) ** 2 + 0.1, gamma, beta, 1e-3, axis
        )
        return {"y": build.call(layer, x)}

    return case


def _layer_normalization(axes: int, gamma: bool, beta: bool, rms: bool = False) -> Case:
    def case(build: Builder, random: Random) -> dict[str, Wire]:
        x = build.input("x", ("batch", "time", 3, 4))
        shape = (3, 4)[-axes:]
        given = [numbers(random, *shape) if there else None for there in (gamma, beta)]
        return {"y": build.call(ops.LayerNormalization("norm", given[0], given[1], 1e-3, axes, rms), x)}

    return case


def _group_normalization(groups: int, axis: int, weights: bool, rank: int = 3) -> Case:
    def case(build: Builder, random: Random) -> dict[str, Wire]:
        middle = ("time", 3)[: rank - 2]
        x = build.input("x", ("batch", *middle, 6) if axis == -1 else ("batch", 6, *middle))
        gamma, beta = (numbers(random, 6) if weights else None for _ in range(2))
        return {"y": build.call(ops.GroupNormalization("norm", gamma, beta, 1e-3, groups, axis), x)}

    return case


def _conv_block(build: Builder, random: Random) -> dict[str, Wire]:
    """What stands between two convolutions stays channels first."""
    x = build.input("x", ("batch", "time", 4))

    def conv(name: str, taken: int) -> ops.Convolution:
        return ops.Convolution(name, numbers(random, 3, taken, 6), numbers(random, 6), (1,), (1,), "same")

    y = build.activation("relu", build.call(conv("conv_1", 4), x))
    y = build.call(
        ops.BatchNormalization("norm", numbers(random, 6), numbers(random, 6) ** 2 + 0.1, None, None, 1e-3), y
    )
    z = build.call(conv("conv_2", 6), build.call(ops.Pad("pad", ((0, 0), (1, 2), (0, 0))), y))
    z = build.add(build.slice(z, 1, 1, -2), y, 0.5)
    z = build.concatenate([z, y], axis=-1)
    z = build.multiply(z, build.weight("scale", numbers(random, 12)))
    z = build.call(ops.GroupNormalization("groups", None, None, 1e-3, 3), z)
    return {"pooled": build.mean(z, 1), "kept": build.max(z, 1, keepdims=True), "scores": build.softmax(z, axis=-1)}


def _weighted_cases() -> Iterator[tuple[str, Case]]:
    for activation in ACTIVATIONS:
        yield f"dense {activation}", _dense(3, activation)
    yield "dense of two axes", _dense(2, "linear", bias=False)
    yield "dense of four axes", _dense(4, "softmax")
    yield (
        "dense of one axis",
        lambda build, random: {
            "y": build.call(Dense("dense", numbers(random, 4, 3), numbers(random, 3)), build.input("x", (4,)))
        },
    )
    for rank, axis in ((2, -1), (3, -1), (3, 1), (4, -1), (4, 1)):
        yield f"batch norm {rank} {axis}", _batch_normalization(rank, axis, weights=rank != 4)
    for axes in (1, 2):
        yield f"layer norm {axes}", _layer_normalization(axes, gamma=True, beta=True)
    yield "layer norm without weights", _layer_normalization(1, gamma=False, beta=False)
    yield "layer norm without gamma", _layer_normalization(2, gamma=False, beta=True)
    yield "rms norm", _layer_normalization(1, gamma=True, beta=False, rms=True)
    for groups, axis in ((2, -1), (3, 1), (6, -1)):
        yield f"group norm {groups} {axis}", _group_normalization(groups, axis, weights=True)
    yield "group norm without weights", _group_normalization(2, 1, weights=False, rank=4)
    yield "group norm of four axes", _group_normalization(2, -1, weights=True, rank=4)
    yield "group norm of two axes", _group_normalization(2, -1, weights=True, rank=2)
    yield (
        "unit norm",
        lambda build, _random: {
            "y": build.call(ops.UnitNormalization("unit", (-1,), 1e-12), build.input("x", ("batch", "time", 4)))
        },
    )
    yield (
        "unit norm of two axes",
        lambda build, _random: {
            "y": build.call(ops.UnitNormalization("unit", (1, 2), 9.0), build.input("x", ("batch", "time", 4)))
        },
    )


# ---- without weights


def _x(build: Builder) -> Wire:
    return build.input("x", ("batch", "time", 4))


def _pair(build: Builder) -> tuple[Wire, Wire]:
    return _x(build), build.input("y", ("time", 4))


def _words(build: Builder, name: str = "words") -> Wire:
    return build.input(name, ("batch", "time"), "int64", 5)


def _elementwise(function: str) -> Case:
    def case(build: Builder, _random: Random) -> dict[str, Wire]:
        arity = ops.ELEMENTWISE[function].arity
        x, y = _pair(build)
        if function.startswith("logical"):
            x, y = build.elementwise("greater", x, 0.1), build.elementwise("less", y, 0.3)
        if function == "where":
            return {"out": build.elementwise("where", build.elementwise("less", y, 0.0), x, y)}
        if function in ("sqrt", "rsqrt", "log", "log1p", "power", "reciprocal"):
            x = build.add(build.elementwise("abs", x), 0.05)
        if function in ("equal", "not_equal"):
            x, y = build.cast(x, "int64"), build.cast(y, "int64")
        if arity is None:
            return {"out": build.elementwise(function, x, y, x), "two": build.elementwise(function, x, y)}
        return {"out": build.elementwise(function, *(x, y)[:arity])}

    return case


def _mixed(build: Builder, _random: Random) -> dict[str, Wire]:
    """Integers and truth values where numbers are wanted, as NumPy mixes them."""
    x, words = build.input("x", ("batch", "time")), _words(build)
    mask = build.elementwise("greater", words, build.constant(1))
    return {
        "masked": build.multiply(x, mask),
        "counted": build.sum(mask, 1),
        "share": build.mean(mask, 1),
        "halves": build.divide(words, build.constant(2)),
        "sums": build.add(words, mask),
        "either": build.add(mask, build.elementwise("less", x, 0.0)),
        "root": build.elementwise("sqrt", words),
        "largest": build.elementwise("maximum", words, build.constant(2), x),
        "squares": build.elementwise("square", words),
        "average": build.elementwise("average", words, words, mask),
        "negative": build.elementwise("negative", words),
        "compared": build.elementwise("less_equal", mask, build.elementwise("less", x, 0.0)),
        "chosen": build.elementwise("where", words, mask, x),
        "product": build.matmul(words, build.transpose(words, (1, 0))),
        "stacked": build.stack([words, x, mask], axis=1),
        "scores": build.softmax(words),
        "towards_zero": build.cast(build.multiply(x, 3.0), "int64"),
        "cut": build.elementwise("floor", words),
    }


def _reduction(function: Any, axes: tuple[int, ...], keepdims: bool) -> Case:
    return lambda build, _random: {"y": build.reduce(function, _x(build), axes, keepdims)}


def _truth_reductions(build: Builder, _random: Random) -> dict[str, Wire]:
    words = _words(build)
    mask = build.elementwise("greater", words, build.constant(1))
    found = {
        f"{f}_mask": build.reduce(f, mask, 1) for f in ("any", "all", "max", "min", "sum", "prod", "mean", "argmax")
    }
    more = {
        f"{f}_words": build.reduce(f, words, 0, True) for f in ("any", "all", "max", "min", "sum", "prod", "argmax")
    }
    return {**found, **more}


def _activation(name: str) -> Case:
    def case(build: Builder, _random: Random) -> dict[str, Wire]:
        row = FUNCTIONS[name]
        alpha, beta = (None if usual is None else usual + 0.15 for usual in (row.alpha, row.beta))
        return {"y": build.activation(Function(name, alpha, beta), build.multiply(_x(build), 3.0))}

    return case


def _reshapes(build: Builder, random: Random) -> dict[str, Wire]:
    x, words = _x(build), build.input("words", ("batch", "steps"), "int64", 5)
    length = ops.Length
    return {
        "flat": build.reshape(x, (length(0, 0), -1)),
        "rows": build.reshape(x, (-1, 4)),
        "split": build.reshape(x, (length(0, 0), length(0, 1), 2, 2)),
        "swapped": build.reshape(x, (length(0, 1), length(0, 0), 4)),
        "halves": build.reshape(x, (length(0, 0, 2), length(0, 1), 2)),
        "all_named": build.reshape(build.transpose(x, (1, 0, 2)), (length(1, 0), length(1, 1), 4), x),
        "counted": build.reshape(words, (-1,)),
        "expanded": build.expand(
            build.expand_dims(build.weight("start", numbers(random, 4)), (0, 1)), (length(1, 0), length(1, 1), -1), x
        ),
        "expanded_rows": build.expand(words, (3, -1, -1)),
        "expanded_steps": build.expand(build.expand_dims(words, -1), (length(0, 0), length(0, 1), 7)),
    }


def _shapes(build: Builder, _random: Random) -> dict[str, Wire]:
    x = _x(build)
    y = build.transpose(build.expand_dims(x, (0, -1)), (1, 0, 3, 2, 4))
    places = build.constant(np.array([[2, 0], [-1, 3]]))
    return {
        "turned": y,
        "back": build.squeeze(build.transpose(y, (1, 0, 3, 2, 4)), (0, 4)),
        "joined": build.concatenate([x, build.activation("relu", x), x], axis=1),
        "stacked": build.stack([x, build.activation("tanh", x)], axis=-2),
        "cut": build.call(ops.Slice("cut", ((1, 1, -1, 2), (2, -3, None, 1))), x),
        "backwards": build.call(ops.Slice("backwards", ((1, None, None, -2), (-1, -2, None, -1))), x),
        "to_the_start": build.call(ops.Slice("to_the_start", ((1, 4, 1, -1),)), x),
        "beyond": build.call(ops.Slice("beyond", ((1, -100, 100, 1),)), x),
        "selected": build.select(x, 1, -2),
        "taken": build.call(ops.Take("taken", -1), x, places),
        "taken_steps": build.call(ops.Take("taken_steps", 1), x, places),
        "flipped": build.call(ops.Flip("flipped", (1, -1)), x),
        "padded": build.call(ops.Pad("padded", ((0, 0), (2, 1), (0, 3)), 1.5), x),
        "mirrored": build.call(ops.Pad("mirrored", ((0, 0), (2, 1), (3, 0)), mode="reflect"), x),
        "counted": build.call(ops.Range("counted", ops.Length(0, 1, 2)), x),
        "features": build.call(ops.Range("features", ops.Length(0, 2)), x),
        "edged": build.call(ops.Pad("edged", ((0, 0), (2, 1), (0, 3)), mode="edge"), x),
        "repeated": build.repeat(x, -1, 3),
        "repeated_steps": build.repeat(x, 1, 2),
        "truth": build.call(ops.Pad("truth", ((0, 0), (2, 1), (0, 3)), 1.0), build.elementwise("greater", x, 0.0)),
    }


def _products(build: Builder, random: Random) -> dict[str, Wire]:
    x, y = _x(build), build.input("y", ("batch", "steps", 4))
    vector = build.weight("vector", numbers(random, 4))
    return {
        "scores": build.matmul(x, build.transpose(y, (0, 2, 1))),
        "weighted": build.matmul(x, vector),
        "dot": build.matmul(vector, vector),
        "rows": build.matmul(vector, build.transpose(x, (0, 2, 1))),
        "attention": build.einsum("btd,bsd->bts", x, y),
        "heads": build.einsum("btd,dhk->bthk", x, build.weight("kernel", numbers(random, 4, 2, 3))),
        "sums": build.einsum("btd->td", x),
        "outer": build.einsum("btd,bse->btsde", x, y),
    }


def _attention(build: Builder, _random: Random) -> dict[str, Wire]:
    """A mask through an attention: what readers make of the layer of that name."""
    x, mask = _x(build), build.input("mask", ("batch", "time"), "bool")
    scores = build.matmul(x, build.transpose(x, (0, 2, 1)))
    hidden = build.multiply(build.cast(build.elementwise("logical_not", mask), "float32"), -1e9)
    share = build.softmax(build.add(scores, build.expand_dims(hidden, 1)), axis=-1)
    return {"y": build.matmul(share, x), "share": share}


def _softmax(axis: int, log: bool) -> Case:
    return lambda build, _random: {"y": build.softmax(_x(build), axis, log)}


def _free_cases() -> Iterator[tuple[str, Case]]:
    for function in ops.ELEMENTWISE:
        yield f"elementwise {function}", _elementwise(function)
    for function in ("sum", "mean", "max", "min", "prod", "logsumexp", "norm"):
        yield f"reduce {function}", _reduction(function, (1,), keepdims=False)
        yield f"reduce {function} kept", _reduction(function, (0, -1), keepdims=True)
    for name in FUNCTIONS:
        yield f"activation {name}", _activation(name)
    for axis in (0, 1, -1):
        for log in (False, True):
            yield f"softmax {axis} {log}", _softmax(axis, log)
    yield "argmax", _reduction("argmax", (-1,), keepdims=False)
    yield "through", lambda build, _random: {"x": _x(build)}


CASES: dict[str, Case] = {
    **dict(_recurrent_cases()),
    "shared": _shared_recurrent,
    "namesakes": _namesakes,
    "stack": _stack,
    "tagger": _tagger,
    "masking": _masking,
    **dict(_window_cases()),
    **dict(_weighted_cases()),
    "conv block": _conv_block,
    **dict(_free_cases()),
    "mixed": _mixed,
    "truth reductions": _truth_reductions,
    "reshapes": _reshapes,
    "shapes": _shapes,
    "products": _products,
    "attention": _attention,
}
"""Every operation and option, by what is particular about it."""
