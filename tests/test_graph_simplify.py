"""Rewritten graphs say the same: compared with the graphs they came from, on random graphs and on those that people write."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parity.functions import Function
from parity.graph import Builder, Graph, Wire
from parity.graph.operations import (
    BatchNormalization,
    Convolution,
    Flip,
    GroupNormalization,
    Length,
    Pad,
    Pooling,
    Softmax,
    Stub,
    Transpose,
    UnitNormalization,
    normalized,
)
from parity.graph.simplify import channels_first, channels_last, relaid, simplified
from parity.network import Dense, Recurrent
from parity.recurrent import RecurrentSpec, Weights

LENGTHS = {"batch": 3, "time": 12}


def inputs_of(graph: Graph, seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    found = {}
    for one in graph.inputs:
        shape = tuple(LENGTHS[n] if isinstance(n, str) else n for n in one.shape)
        found[one.name] = random.integers(0, 3, shape) if one.dtype == "int64" else random.standard_normal(shape)
    return found


def assert_same(made: Graph, graph: Graph, exactly: bool = False) -> None:
    inputs = inputs_of(graph)
    expected, found = graph.run(inputs), made.run(inputs)
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert found[name].shape == value.shape
        assert found[name].dtype == value.dtype
        if exactly:
            assert np.array_equal(found[name], value, equal_nan=value.dtype.kind == "f")
        else:
            np.testing.assert_allclose(found[name], value, rtol=1e-10, atol=1e-12)
    names = [node.name for node in made.nodes]
    assert len(set(names)) == len(names)
    operations = [operation.name for operation in made.operations]
    assert len(set(operations)) == len(operations)


def kinds(graph: Graph) -> list[str]:
    return [type(node.operation).__name__ for node in graph.nodes]


# ---- nodes that do nothing


def test_transposes_of_transposes_become_one_and_pairs_that_cancel_go() -> None:
    build = Builder("model")
    x = build.input("x", ("batch", "time", 4, 5))
    once = build.transpose(build.transpose(x, (0, 2, 3, 1)), (0, -2, 3, 1), source="permute")
    back = build.transpose(build.transpose(x, (3, 0, 1, 2)), (1, 2, 3, 0))
    graph = build.graph({"once": once, "back": build.activation("relu", back)})
    made = simplified(graph)
    assert_same(made, graph, exactly=True)
    assert kinds(made) == ["Transpose", "Activation"]
    assert made.node("transpose_2").source == "permute"


def test_the_source_of_a_dropped_node_goes_to_the_node_that_now_gives_its_value() -> None:
    build = Builder("model")
    x = build.input("x", ("batch", "time", 4))
    value = build.activation("relu", x)
    value = build.activation(Function("affine", 1.0, 0.0), value, source="identity")
    named = build.activation("tanh", value, source="tanh")
    graph = build.graph({"y": build.cast(named, "float32")})
    made = simplified(graph)
    assert [node.source for node in made.nodes] == ["identity", "tanh"]
    assert made.outputs == {"y": Wire("tanh")}


def test_everything_that_does_nothing_goes() -> None:
    build = Builder("model")
    x = build.input("x", ("batch", "time", 4))
    value = build.activation("relu", x)
    value = build.slice(value, 1, 0, 2**63 - 1)
    value = build.slice(value, -1, None, 4)
    value = build.concatenate([value], axis=1)
    value = build.cast(value, "float32")
    value = build.call(Pad("pad", ((0, 0),) * 3), value)
    value = build.repeat(value, 1, 1)
    value = build.call(Flip("flip", ()), value)
    value = build.expand(value, (-1, -1, 4))
    value = build.reshape(value, (Length(0, 0), -1, 4))
    value = build.squeeze(build.expand_dims(value, (-1, 0)), (0, 4))
    value = build.elementwise("add", value)
    graph = build.graph({"y": value})
    made = simplified(graph)
    assert_same(made, graph, exactly=True)
    assert kinds(made) == ["Activation"]


def test_what_does_something_stays() -> None:
    build = Builder("model")
    x = build.input("x", ("batch", "time", 4))
    count = build.input("n", ("batch", 4), "int64")
    outputs = {
        "cut": build.slice(x, -1, 0, 3),
        "steps": build.slice(x, 1, 0, 12),
        "turned": build.slice(x, 1, None, None, -1),
        "cast": build.cast(count, "float32"),
        "mean": build.elementwise("average", count),
        "scaled": build.activation(Function("affine", 1.0, 0.5), x),
        "flat": build.reshape(x, (Length(0, 0), -1)),
        "turned_round": build.reshape(x, (Length(0, 1), Length(0, 0), 4)),
        "wide": build.expand(build.slice(x, 1, 0, 1), (-1, 12, -1)),
    }
    graph = build.graph(outputs)
    made = simplified(graph)
    assert made is graph


@pytest.mark.parametrize(
    ("inner", "outer", "merges"),
    [
        ((Length(0, 0), -1), (Length(0, 0), 4, -1), True),
        ((-1, 4), (3, Length(0, 0, 4), -1), False),
        ((-1, 4), (Length(0, 0), 2, 2), True),
        ((-1, 4), (Length(0, 0, 2), 2), False),
        ((Length(0, 1, 4), Length(0, 0)), (Length(0, 1, 2), Length(0, 0), 2), False),
        ((Length(0, 1, 4), Length(0, 0)), (Length(0, 1), Length(0, 0)), True),
    ],
)
def test_reshapes_of_reshapes(inner: Any, outer: Any, merges: bool) -> None:
    build = Builder("model")
    x = build.input("x", ("batch", "time", 4))
    value = build.reshape(x, inner)
    try:
        graph = build.graph({"y": build.reshape(value, outer)})
        graph.run(inputs_of(graph))
    except Exception:  # the probed lengths do not fit: there is nothing to merge
        pytest.skip("does not fit") if merges else None
        return
    made = simplified(graph)
    assert_same(made, graph, exactly=True)
    assert len(made.nodes) == (1 if merges else 2)


def test_lengths_of_other_inputs_follow_a_merged_reshape() -> None:
    build = Builder("model")
    x, other = build.input("x", ("batch", "time", 6)), build.input("other", ("time", 2, "batch"))
    heads = build.reshape(x, (Length(0, 0), Length(1, 0), 2, 3), other)
    flat = build.reshape(build.squeeze(build.expand_dims(heads, 1), 1), (Length(1, 2), Length(0, 2), -1), other)
    graph = build.graph({"y": flat})
    made = simplified(graph)
    assert_same(made, graph, exactly=True)
    assert kinds(made) == ["Reshape"]


def test_equal_constants_become_one_but_parameters_stay_apart() -> None:
    build = Builder("model")
    x = build.input("x", ("batch", 3))
    ones = np.ones(3, np.float32)
    value = build.add(x, build.constant(ones), build.constant(ones.copy()), build.constant(np.ones(3, np.int64)))
    value = build.multiply(
        value, build.weight("a", ones), build.weight("b", ones.copy()), build.constant(0.0), build.constant(-0.0)
    )
    graph = build.graph({"y": value})
    made = simplified(graph)
    assert_same(made, graph, exactly=True)
    assert Counter(kinds(made))["Constant"] == 6
    assert [name for name, _, _ in made.weights()][-4:] == ["a", "b", "constant_4", "constant_5"]


def test_shared_operations_and_several_values_are_respected(random: np.random.Generator) -> None:
    build = Builder("model")
    x = build.input("x", ("batch", "time", 4))
    dense = Dense("dense", random.standard_normal((4, 4)))
    turn = Transpose("turn", (0, 2, 1))
    first = build.call(turn, build.call(dense, x))
    second = build.call(turn, build.call(dense, build.call(turn, first)))
    spec = RecurrentSpec("lstm", 4, 5)
    weights = Weights(random.standard_normal((4, 5, 4)), random.standard_normal((4, 5, 5)))
    run = build.call(Recurrent("lstm", spec, (weights,)), build.call(turn, second), None)
    graph = build.graph(
        {"y": run, "h": Wire(run.node, 1), "c": build.cast(Wire(run.node, 2), "float32"), "first": first}
    )
    made = simplified(graph)
    assert_same(made, graph)
    assert sum(node.operation is dense for node in made.nodes) == 2
    assert Counter(kinds(made)) == {"Dense": 2, "Transpose": 1, "Recurrent": 1, "Cast": 1}


def test_a_graph_with_a_stub_is_simplified_around_it() -> None:
    build = Builder("model")
    x = build.input("x", ("batch", "time", 4))
    value = build.call(Stub("custom", "Custom"), build.transpose(build.transpose(x, (1, 0, 2)), (1, 0, 2)))
    value = build.call(Transpose("there", (0, 2, 1)), value)
    value = build.call(Transpose("back", (0, 2, 1)), value)
    made = simplified(build.graph({"y": build.activation("relu", value)}))
    assert [(node.name, node.inputs) for node in made.nodes] == [("custom", (Wire("x"),)), ("relu", (Wire("custom"),))]


# ---- layouts


def convolution(
    random: np.random.Generator, name: str, taken: int, given: int, rank: int = 3, last: bool = True, **options: Any
) -> Convolution:
    axes = rank - 2
    kernel = random.standard_normal((*(3, 2)[:axes], taken, given))
    return Convolution(
        name, kernel, random.standard_normal(given), (1,) * axes, (1,) * axes, "same", channels_last=last, **options
    )


def batch_norm(random: np.random.Generator, name: str, size: int, axis: int = -1) -> BatchNormalization:
    mean, gamma, beta = random.standard_normal((3, size))
    return BatchNormalization(name, mean, random.random(size) + 0.5, gamma, beta, 1e-3, axis)


@pytest.mark.parametrize("rank", [3, 4])
@pytest.mark.parametrize("last", [True, False])
def test_a_chain_of_convolutions_has_one_transpose_at_each_end(
    rank: int, last: bool, random: np.random.Generator
) -> None:
    build = Builder("model")
    lengths = ("time", 7)[: rank - 2]
    x = build.input("x", ("batch", *lengths, 4) if last else ("batch", 4, *lengths))
    axis = -1 if last else 1
    value = build.call(convolution(random, "a", 4, 6, rank, last), x)
    value = build.activation("relu", value, source="a")
    value = build.call(batch_norm(random, "bn", 6, axis), value)
    value = build.call(
        Pooling("pool", "max", (2,) * (rank - 2), (2,) * (rank - 2), (1,) * (rank - 2), "same", last), value
    )
    skip = value
    value = build.call(convolution(random, "b", 6, 6, rank, last), value)
    value = build.call(GroupNormalization("gn", random.standard_normal(6), None, 1e-3, 2, axis), value)
    value = build.concatenate([build.add(value, skip), skip], axis=axis)
    gate = build.activation(
        "sigmoid", build.mean(value, tuple(range(1, rank - 1) if last else range(2, rank)), keepdims=True)
    )
    value = build.multiply(
        value, gate, 0.5, build.constant(random.standard_normal(12 if last else (12,) + (1,) * (rank - 2)))
    )
    graph = build.graph({"y": build.call(convolution(random, "c", 12, 2, rank, last), value)})
    made = channels_first(graph) if last else channels_last(graph)
    assert_same(made, graph)
    assert Counter(kinds(made))["Transpose"] == 2
    assert all(
        node.operation.channels_last != last
        for node in made.nodes
        if isinstance(node.operation, (Convolution, Pooling))
    )
    again = channels_last(made) if last else channels_first(made)
    assert_same(again, graph)
    assert Counter(kinds(again))["Transpose"] == 0
    untouched = channels_last(graph) if last else channels_first(graph)
    assert kinds(untouched) == kinds(graph)


def test_global_pooling_needs_no_transpose(random: np.random.Generator) -> None:
    build = Builder("model")
    value = build.call(convolution(random, "a", 4, 6, 4), build.input("x", ("batch", 8, 9, 4)))
    value = build.call(Dense("dense", random.standard_normal((6, 2))), build.mean(value, (1, 2)))
    made = channels_first(build.graph({"y": value}))
    assert_same(made, build.graph({"y": value}))
    assert kinds(made) == ["Transpose", "Convolution", "Reduction", "Dense"]


def test_transposes_of_the_source_cancel(random: np.random.Generator) -> None:
    """A torch model of sequences: (batch, time, features) with a convolution between two transposes."""
    build = Builder("model")
    x = build.transpose(build.input("x", ("batch", "time", 4)), (0, 2, 1))
    value = build.activation("relu", build.call(convolution(random, "a", 4, 6, 3, False), build.activation("tanh", x)))
    value = build.call(Dense("dense", random.standard_normal((6, 2))), build.transpose(value, (0, 2, 1)))
    graph = build.graph({"y": value})
    made = channels_last(graph)
    assert_same(made, graph)
    assert kinds(made) == ["Activation", "Convolution", "Activation", "Dense"]
    assert kinds(channels_first(graph)) == kinds(graph)


def test_a_shared_convolution_stays_one_object(random: np.random.Generator) -> None:
    build = Builder("model")
    x, other = build.input("x", ("batch", "time", 4)), build.input("other", ("batch", "time", 4))
    shared, norm = convolution(random, "shared", 4, 4), batch_norm(random, "norm", 4)
    softmax = Softmax("softmax", -1)
    outputs = {
        name: build.call(softmax, build.call(norm, build.activation("relu", build.call(shared, value))))
        for name, value in (("y", x), ("z", other))
    }
    flat = build.call(norm, build.mean(x, 1))
    graph = build.graph({**outputs, "flat": flat, "plain": build.call(softmax, x)})
    made = channels_first(graph)
    assert_same(made, graph)
    assert Counter(kinds(made))["Convolution"] == 2
    weighted = [operation for operation in made.operations if isinstance(operation, (Convolution, BatchNormalization))]
    assert len(weighted) == 2


def test_relaid_says_which_values_have_their_axes_in_another_order(random: np.random.Generator) -> None:
    build = Builder("model")
    x = build.input("x", ("batch", 5, 6, 4))
    value = build.activation("relu", build.call(convolution(random, "a", 4, 6, 4), x))
    value = build.call(convolution(random, "b", 6, 3, 4), build.call(UnitNormalization("unit", (-1,)), value))
    graph = build.graph({"y": build.reshape(value, (Length(0, 0), -1))})
    made = relaid(graph, channels_last=False)
    assert set(made.axes) == {"a", "relu", "unit", "b"}
    inputs = inputs_of(graph)
    before, after = graph.values(inputs), made.graph.values(inputs)
    for node in graph.nodes:
        value_then = after[Wire(node.name)]
        axes = made.axes.get(node.name, tuple(range(value_then.ndim)))
        np.testing.assert_allclose(value_then.transpose(axes), before[Wire(node.name)], rtol=1e-10, atol=1e-12)


def test_convolutions_behind_a_stub_are_rewritten_too(random: np.random.Generator) -> None:
    build = Builder("model")
    value = build.call(Stub("custom", "Custom"), build.input("x", ("batch", "time", 4)))
    value = build.activation("relu", build.call(convolution(random, "a", 4, 6), value))
    graph = build.graph({"y": build.call(batch_norm(random, "bn", 6), value)})
    made = channels_first(graph)
    assert kinds(made) == ["Stub", "Transpose", "Convolution", "Activation", "BatchNormalization", "Transpose"]
    assert made.node("bn").operation.axis == 1  # type: ignore[union-attr]


# ---- random graphs


def _random_node(build: Builder, wires: list[Wire], random: np.random.Generator, number: int) -> Wire | None:  # noqa: PLR0912
    x = wires[int(random.integers(len(wires)))]
    shape = build.shape(x)
    rank = len(shape)
    known = [axis for axis in range(rank) if shape[axis] < 100 and not build.is_word(shape[axis])]
    axis = int(random.integers(rank))
    signed = axis - rank if random.integers(2) else axis
    choice = int(random.integers(19))
    if choice == 0:
        return build.transpose(x, tuple(int(a) for a in random.permutation(rank)))
    if choice in (1, 2) and rank in (3, 4) and shape[0] == 3:
        last = bool(random.integers(2))
        channels = shape[-1 if last else 1]
        return build.call(convolution(random, f"conv{number}", channels, 4, rank, last), x) if channels < 20 else None
    if choice == 3 and rank in (3, 4):
        sizes = (2,) * (rank - 2)
        mode: Any = "max" if random.integers(2) else "average"
        return build.call(
            Pooling(
                f"pool{number}",
                mode,
                sizes,
                sizes[:1] * (rank - 2),
                (1,) * (rank - 2),
                "same",
                bool(random.integers(2)),
            ),
            x,
        )
    if choice == 4 and axis in known:
        return build.call(batch_norm(random, f"bn{number}", shape[axis], signed), x)
    if choice == 5 and shape[0] == 3 and rank > 2:
        place = 1 if random.integers(2) else -1
        if shape[place] == 4:
            return build.call(GroupNormalization(f"gn{number}", random.standard_normal(4), None, 1e-3, 2, place), x)
    if choice == 6:
        return build.activation(str(random.choice(["relu", "tanh", "sigmoid"])), x)
    if choice == 7:
        return build.softmax(x, signed, bool(random.integers(2)))
    if choice in (8, 9):
        alike = [one for one in wires if build.shape(one) == shape]
        other: Wire | float = alike[int(random.integers(len(alike)))]
        if choice == 9 and axis in known:
            return build.concatenate([x, x], signed) if shape[axis] < 20 else None
        if random.integers(2):
            size = tuple(n if a in known and random.integers(2) else 1 for a, n in enumerate(shape))[
                int(random.integers(rank)) :
            ]
            array = random.standard_normal(size)
            other = build.weight("weight", array) if random.integers(2) else build.constant(array)
        return build.elementwise(str(random.choice(["add", "multiply", "maximum"])), x, other)
    if choice == 10 and rank > 2:
        return build.reduce(str(random.choice(["mean", "sum", "max"])), x, signed, bool(random.integers(2)))  # type: ignore[arg-type]
    if choice == 11:
        return (
            build.call(Pad(f"pad{number}", tuple((int(a == axis), 0) for a in range(rank)), 0.5), x)
            if shape[axis] > 3
            else None
        )
    if choice == 12 and shape[axis] > 3:
        return build.slice(x, signed, 1 if random.integers(2) else None, None)
    if choice == 13 and rank > 2 and axis:
        return build.select(x, signed, 0)
    if choice == 14 and rank < 4:
        return build.expand_dims(x, signed)
    if choice == 15 and 1 in shape[1:]:
        return build.squeeze(x, shape.index(1, 1))
    if choice == 16 and axis in known and shape[axis] < 9:
        return build.repeat(x, signed, 2)
    if choice == 17:
        return build.call(Flip(f"flip{number}", (signed,)), x)
    if choice == 18:
        other = wires[int(random.integers(len(wires)))]
        axes = build.rank(other)
        places = [Length(0, a) for a in range(rank)]
        if build.shape(other)[-1] == shape[-1]:
            places[-1] = Length(1, axes - 1)
        return build.reshape(x, places, other)
    return None


def random_graph(seed: int) -> Graph:
    random = np.random.default_rng(seed)
    build = Builder("model")
    wires = [
        build.input("x", ("batch", "time", 4)),
        build.input("z", ("batch", 4, "time")),
        build.input("image", ("batch", 5, 6, 4)),
    ]
    while len(wires) < 16:
        wire = _random_node(build, wires[-8:], random, len(wires))
        if wire is not None:
            wires.append(wire)
    taken = {one for node in build.nodes for one in node.inputs}
    outputs = [wire for wire in wires[3:] if wire not in taken or not random.integers(5)]
    return build.graph({f"y{index}": wire for index, wire in enumerate(outputs)})


@settings(max_examples=120, deadline=None)
@given(st.integers(0, 10**9))
def test_random_graphs_compute_the_same(seed: int) -> None:
    graph = random_graph(seed)
    assert_same(simplified(graph), graph, exactly=True)
    for last in (False, True):
        made = relaid(graph, last)
        assert_same(made.graph, graph)
        for node in made.graph.nodes:
            if isinstance(node.operation, (Convolution, Pooling)):
                assert node.operation.channels_last == last
            if isinstance(node.operation, BatchNormalization):
                wire = node.inputs[0]
                assert wire is not None
                rank = len(made.graph.shapes(LENGTHS)[wire])
                assert (
                    normalized(node.operation.axis, rank) == (rank - 1 if last else 1)
                    or rank > 3
                    or normalized(node.operation.axis, rank) == 0
                )
