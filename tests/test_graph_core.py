"""Graphs: what they refuse, what they say of themselves, how they are put together, and chains of layers as graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras import layers as kl

import parity
from parity.deferred import Deferred
from parity.errors import ParityError, ShapeError, UnsupportedError
from parity.graph import Builder, Graph, GraphInput, Node, Wire
from parity.graph.chains import graph_of_chain
from parity.graph.noise import Float32Noise
from parity.graph.operations import Concatenate, Constant, Elementwise, Length, Softmax, Stub, Transpose
from parity.network import Dense, Network, Recurrent
from parity.recurrent import Array, RecurrentSpec, Weights
from parity.result import zero_state
from tests.test_keras import LAYERS, built

X = GraphInput("x", ("batch", "time", 3))


def twice(name: str, *inputs: Wire | None) -> Node:
    return Node(name, Elementwise(name, "add"), inputs)


# ---- validation


def test_a_node_takes_only_what_is_there_already() -> None:
    with pytest.raises(ValueError, match="node 'a' of 'model' is out of order: 'b'"):
        Graph("model", (X,), (twice("a", Wire("b")), twice("b", Wire("x"))), {"y": Wire("a")})


def test_names_are_unique() -> None:
    with pytest.raises(ValueError, match="a second 'a'"):
        Graph("model", (X,), (twice("a", Wire("x")), twice("a", Wire("x"))), {"y": Wire("a")})
    with pytest.raises(ValueError, match="a second 'x'"):
        Graph("model", (X,), (twice("x", Wire("x")),), {"y": Wire("x")})


def test_outputs_are_values_of_the_graph() -> None:
    with pytest.raises(ValueError, match="output 'y' of 'model' takes 'b\\[1\\]', which is not there"):
        Graph("model", (X,), (twice("a", Wire("x")),), {"y": Wire("b", 1)})


def test_weights_that_are_no_numbers_are_all_named() -> None:
    kernel, bias = np.ones((3, 2)), np.ones(2)
    kernel[1, 1], bias[0] = np.nan, np.inf
    with pytest.raises(ParityError) as error:
        Graph("model", (X,), (Node("a", Dense("a", kernel, bias), (Wire("x"),)),), {"y": Wire("a")})
    assert [problem.where for problem in error.value.problems] == [
        "layer 'a', kernel, index (1, 1)",
        "layer 'a', bias, index (0,)",
    ]
    mask = Constant("mask", np.array([-np.inf, 0.0, 1.0]))
    Graph("model", (X,), (Node("mask", mask, ()), twice("a", Wire("x"), Wire("mask"))), {"y": Wire("a")})


# ---- what a graph says of itself


def test_shapes_follow_the_lengths(random: np.random.Generator) -> None:
    build = Builder("model")
    x, other = build.input("x", ("batch", "time", 3)), build.input("other", ("batch", "steps", 3))
    both = build.concatenate([x, other], axis=1)
    graph = build.graph({"y": build.reshape(both, (Length(0, 0), -1)), "other": other})
    assert graph.words == ("batch", "time", "steps")
    for batch, time, steps in ((2, 5, 7), (1, 1, 4)):
        found = graph.shapes({"batch": batch, "time": time, "steps": steps})
        assert found[Wire("reshape")] == (batch, (time + steps) * 3)
        inputs = {"x": random.standard_normal((batch, time, 3)), "other": random.standard_normal((batch, steps, 3))}
        values = graph.values(inputs)
        assert {wire: value.shape for wire, value in values.items()} == found


def test_a_shape_that_does_not_fit_names_the_operation() -> None:
    build = Builder("model")
    x = build.input("x", ("batch", "time", 3))
    graph = build.graph({"y": build.call(Dense("scores", np.ones((3, 2))), x)})
    for shape in ((2, 5, 4), (2, 0), ()):
        with pytest.raises(ShapeError) as error:
            graph.run({"x": np.ones(shape)})
        assert error.value.problems[0].where == "scores"
    with pytest.raises(ShapeError, match="no x"):
        graph.run({})
    with pytest.raises(ShapeError) as error:
        build.call(Transpose("turn", (0, 1)), x)
    assert error.value.problems[0].where == "turn"


def test_values_may_be_given() -> None:
    build = Builder("model")
    x = build.input("x", ("batch", 3))
    first = build.multiply(x, 2.0)
    second = build.add(first, 1.0)
    graph = build.graph({"y": second})
    values = graph.values({"x": np.ones((2, 3))}, given={first: np.full((2, 3), 10.0)})
    assert (values[first] == 10).all()
    assert (values[second] == 11).all()
    assert (graph.run({"x": np.ones((2, 3), np.float32)})["y"] == 3).all()


def test_unused_nodes_go_and_inputs_stay() -> None:
    nodes = (twice("a", Wire("x")), twice("b", Wire("a")), twice("c", Wire("a")), twice("d", Wire("b"), Wire("c")))
    graph = Graph("model", (X, GraphInput("z", ("batch",))), nodes, {"y": Wire("c")}).without_unused()
    assert [node.name for node in graph.nodes] == ["a", "c"]
    assert [one.name for one in graph.inputs] == ["x", "z"]
    assert {str(wire): [node.name for node in takers] for wire, takers in graph.takers().items()} == {
        "x": ["a"],
        "a": ["c"],
    }


def test_a_shared_operation_is_there_once() -> None:
    build = Builder("model")
    dense = Dense("dense", np.full((3, 3), 0.5), np.ones(3))
    x = build.input("x", ("batch", 3))
    graph = build.graph({"y": build.call(dense, build.call(dense, x))})
    assert [node.name for node in graph.nodes] == ["dense", "dense_2"]
    assert graph.operations == (dense,)
    assert [(layer, name) for layer, name, _ in graph.weights()] == [("dense", "kernel"), ("dense", "bias")]
    assert graph.run({"x": np.ones((1, 3))})["y"].tolist() == [[4.75] * 3]
    assert graph.node("dense_2").operation is dense
    with pytest.raises(KeyError):
        graph.node("other")


def test_deferred_weights_are_read_only_when_they_are_needed() -> None:
    reads = []

    def read() -> Array:
        reads.append(1)
        return np.ones((3, 2), np.float32)

    dense = Dense("dense", Deferred((3, 2), np.dtype(np.float32), read))  # type: ignore[arg-type]
    build = Builder("model")
    graph = build.graph({"y": build.call(dense, build.input("x", ("batch", 3)))})
    assert graph.shapes({"batch": 4})[Wire("dense")] == (4, 2)
    assert not reads
    assert graph.run({"x": np.ones((1, 3))})["y"].tolist() == [[3, 3]]
    assert reads


def test_a_stub_is_passed_over_by_shapes_and_refused_by_values() -> None:
    build = Builder("model")
    x = build.input("x", ("batch", 3))
    stub = build.call(Stub("mine", "MyLayer", outputs=2), x)
    graph = build.graph({"y": build.add(Wire(stub.node, 1), 1.0), "z": build.add(x, 1.0)})
    assert [one.name for one in graph.stubs] == ["mine"]
    assert set(graph.shapes({"batch": 2})) == {Wire("x"), Wire("constant"), Wire("add_2"), Wire("constant_2")}
    with pytest.raises(UnsupportedError, match="MyLayer"):
        graph.run({"x": np.ones((2, 3))})
    with pytest.raises(ShapeError):
        build.rank(stub)


def test_one_operation_of_several_values(random: np.random.Generator) -> None:
    spec = RecurrentSpec("lstm", 3, 4)
    weights = Weights(random.standard_normal((4, 4, 3)), random.standard_normal((4, 4, 4)))
    build = Builder("model")
    x = build.input("x", ("batch", "time", 3))
    first = build.call(Recurrent("first", spec, (weights,), return_sequences=False), x, None)
    second = build.call(Recurrent("second", spec, (weights,)), x, None, Wire(first.node, 1), Wire(first.node, 2))
    graph = build.graph({"h": Wire(first.node, 1), "c": Wire(first.node, 2), "y": second})
    data = random.standard_normal((2, 5, 3))
    found = graph.run({"x": data})
    layer = torch.nn.LSTM(3, 4, batch_first=True, bias=False, dtype=torch.float64)
    order = [0, 1, 2, 3]
    whole = {name: np.concatenate([getattr(weights, name)[gate] for gate in order]) for name in ("kernel", "recurrent")}
    layer.load_state_dict(
        {"weight_ih_l0": torch.from_numpy(whole["kernel"]), "weight_hh_l0": torch.from_numpy(whole["recurrent"])}
    )
    with torch.no_grad():
        _, state = layer(torch.from_numpy(data))
        again, _ = layer(torch.from_numpy(data), state)
    np.testing.assert_allclose(found["h"], state[0][0].numpy(), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(found["c"], state[1][0].numpy(), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(found["y"], again.numpy(), rtol=1e-12, atol=1e-14)
    with pytest.raises(ShapeError, match="other states"):
        build.call(Recurrent("third", spec, (weights,)), x, None, Wire(first.node, 1), None)
    with pytest.raises(ShapeError, match="mask of another shape"):
        build.call(Recurrent("fourth", spec, (weights,)), x, x)


# ---- the builder


def test_names_of_nodes_are_unique_and_those_that_were_asked_for() -> None:
    build = Builder("model")
    x = build.input("x", ("batch", 3))
    names = [build.add(x, 1.0, name=name).node for name in (None, "sum", "sum", "/scope/sum/", "x")]
    assert names == ["add", "sum", "sum_2", "scope/sum", "x_2"]
    assert build.input("x", ("batch",)).node == "x_3"
    graph = build.graph({name: Wire(name) for name in names})
    assert len({operation.name for operation in graph.operations}) == len(graph.operations)


def test_ranks_and_lengths_are_known_while_a_graph_is_built() -> None:
    build = Builder("model")
    x = build.input("x", ("batch", "time", 4))
    flat = build.reshape(x, (Length(0, 0), -1))
    assert build.rank(flat) == 2
    assert build.shape(x)[2] == 4
    assert [build.is_word(length) for length in build.shape(x)] == [True, True, False]
    assert build.shape(build.mean(x, (-1, 1))) == (build.shape(x)[0],)
    with pytest.raises(ShapeError):
        build.select(x, 3, 0)


def test_numbers_become_constants_of_float32() -> None:
    build = Builder("model")
    graph = build.graph({"y": build.add(build.input("x", ("batch",)), 0.1)})
    (constant,) = (one for one in graph.operations if isinstance(one, Constant))
    assert constant.value.dtype == np.float32
    assert graph.run({"x": np.zeros(1)})["y"][0] == np.float64(np.float32(0.1))


# ---- noise


def test_noise_is_of_float32_size_and_a_function_of_its_seed(random: np.random.Generator) -> None:
    build = Builder("model")
    x = build.input("x", ("batch", 30))
    value = build.softmax(build.call(Dense("dense", random.standard_normal((30, 30))), build.activation("tanh", x)))
    graph = build.graph(
        {"y": build.reduce("logsumexp", value, 1, keepdims=True), "argmax": build.reduce("argmax", value, 1)}
    )
    data = {"x": random.standard_normal((4, 30))}
    exact = graph.run(data)
    for frozen in (False, True):
        one, same, other = (graph.run(data, Float32Noise(seed, frozen)) for seed in (0, 0, 1))
        assert np.array_equal(one["y"], same["y"])
        assert not np.array_equal(one["y"], other["y"])
        off = np.abs(one["y"] - exact["y"]).max()
        assert 1e-9 < off < 1e-5
        assert np.array_equal(one["argmax"], exact["argmax"])


def test_frozen_signs_are_those_of_the_place() -> None:
    noise = Float32Noise(0, frozen=True)
    values = np.ones(64)
    assert np.array_equal(noise.product(values, "a"), noise.product(values, "a"))
    assert not np.array_equal(noise.product(values, "a"), noise.product(values, "b"))


def test_infinities_have_no_noise() -> None:
    found = Float32Noise(0).total(np.array([np.inf, -np.inf, np.nan, 1.0]), lambda: np.full(4, np.inf), 3, "a")
    assert found[:2].tolist() == [np.inf, -np.inf]
    assert np.isnan(found[2])


# ---- chains


def named(graph: Graph, x: Array) -> dict[str, Array]:
    """What a graph of one input takes."""
    (one,) = graph.inputs
    return {one.name: x}


def assert_chain(network: Network, inputs: Array) -> Graph:
    """The graph of a chain gives what the chain gives, and every final state."""
    graph = graph_of_chain(network)
    starts = {name: zero_state(spec, len(inputs), "float64") for name, spec in network.specs.items()}
    expected, paths = network.compute(inputs, starts)
    values, found = graph.values(named(graph, inputs)), graph.run(named(graph, inputs))
    for place, (name, value) in enumerate(expected.items()):
        own = name if name in found else list(found)[place]
        np.testing.assert_allclose(found[own], value, rtol=1e-12, atol=1e-13)
    lengths = {word: inputs.shape[("batch", "time").index(word)] for word in graph.words}
    assert {wire: value.shape for wire, value in values.items()} == graph.shapes(lengths)
    for layer in network.layers:
        if isinstance(layer, Recurrent):
            for index, shown in enumerate(layer.values):
                one = values[Wire(layer.name, index)]
                np.testing.assert_allclose(one, shown.of([paths[layer.name].run]), rtol=1e-12, atol=1e-13)
    return graph


@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_every_kind_of_keras_layer_alone_and_behind_a_mask(
    name: str, sequences: bool, random: np.random.Generator
) -> None:
    layer = built(LAYERS[name](return_sequences=sequences, return_state=True))
    network = parity.read(layer)
    features = network.layers[0].input_size
    x = random.standard_normal((4, 6, features))
    assert_chain(network, x)
    x[:, 4:] = x[1, 2] = 0.0
    model = keras.Sequential([kl.Input((6, features)), kl.Masking(), LAYERS[name](return_sequences=sequences)])
    model.set_weights([random.standard_normal(one.shape) * 0.5 for one in model.get_weights()])
    assert_chain(parity.read(model), x)
    if name in (
        "unlike None",
        "both None",
        "list of one",
    ):  # of two values; Keras itself cannot run the last one under a mask
        return
    graph = graph_of_chain(parity.read(model))
    np.testing.assert_allclose(
        next(iter(graph.run(named(graph, x)).values())), np.asarray(model(x)), rtol=2e-4, atol=2e-5
    )


CHAINS: dict[str, Callable[[], list[Any]]] = {
    "tokens": lambda: [
        kl.Input((7,), dtype="int32"),
        kl.Embedding(11, 4, mask_zero=True),
        kl.LSTM(5, return_sequences=True),
        kl.Dropout(0.3),
        kl.GRU(6),
        kl.Dense(3, "softmax"),
    ],
    "sequence": lambda: [
        kl.Input((7, 4)),
        kl.Dense(5, "tanh"),
        kl.SimpleRNN(5, return_sequences=True),
        kl.Dense(2, "relu"),
    ],
    "masked": lambda: [
        kl.Input((7, 4)),
        kl.Masking(0.5),
        kl.Bidirectional(kl.LSTM(3, return_sequences=True)),
        kl.GRU(5, return_sequences=True, go_backwards=True),
    ],
    "any length": lambda: [
        kl.Input((None, 4)),
        kl.GRU(5, return_sequences=True),
        kl.Bidirectional(kl.GRU(3), merge_mode="sum"),
        kl.Dense(4, "sigmoid"),
    ],
    "unlike": lambda: [
        kl.Input((7, 4)),
        kl.Masking(),
        kl.Bidirectional(
            kl.LSTM(3, return_sequences=True), backward_layer=kl.GRU(3, return_sequences=True, go_backwards=True)
        ),
        kl.LSTM(3),
    ],
}


@pytest.mark.parametrize("name", CHAINS)
def test_chains_of_keras_layers(name: str, random: np.random.Generator) -> None:
    model = keras.Sequential(CHAINS[name]())
    model.set_weights([random.standard_normal(one.shape) * 0.5 for one in model.get_weights()])
    network = parity.read(model)
    if network.tokens:
        x: Array = random.integers(1, 11, (4, 7))
        x[0, 4:] = x[2, 1] = 0
    else:
        x = random.standard_normal((4, 7, 4))
        x[0, 5:] = x[2, 1] = 0.5 if name == "masked" else 0.0
    graph = assert_chain(network, x)
    np.testing.assert_allclose(
        next(iter(graph.run(named(graph, x)).values())), np.asarray(model(x)), rtol=2e-4, atol=2e-5
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.nn.LSTM(3, 5, 2, batch_first=True, bidirectional=True, proj_size=2),
        lambda: torch.nn.GRU(3, 5, 3, bias=False),
        lambda: torch.nn.RNN(3, 4, 2, nonlinearity="relu", dropout=0.5),
    ],
)
def test_chains_of_torch_layers(make: Callable[[], Any], random: np.random.Generator) -> None:
    network = parity.read(make())
    graph = assert_chain(network, random.standard_normal((4, 6, 3)))
    states = sum(len(layer.values) - len(layer.given) for layer in network.layers if isinstance(layer, Recurrent))
    assert len(graph.outputs) == 1 + states


def test_a_mask_in_a_chain_matters(random: np.random.Generator) -> None:
    """The twin of the chains: without its masks the graph gives something else."""
    model = keras.Sequential([kl.Input((7,), dtype="int32"), kl.Embedding(11, 4, mask_zero=True), kl.LSTM(5)])
    graph = graph_of_chain(parity.read(model))
    blind = Graph(
        graph.name,
        graph.inputs,
        tuple(
            Node(node.name, node.operation, (node.inputs[0], None), node.source)
            if isinstance(node.operation, Recurrent)
            else node
            for node in graph.nodes
        ),
        graph.outputs,
    )
    x = random.integers(1, 11, (4, 7))
    x[:, 5:] = 0
    (seen,), (unseen,) = (one.run(named(one, x)).values() for one in (graph, blind))
    assert np.abs(seen - unseen).max() > 1e-3


def test_operations_that_two_nodes_share_may_differ_in_their_inputs() -> None:
    joined, share = Concatenate("joined", -1), Softmax("share")
    build = Builder("model")
    x = build.input("x", ("batch", 3))
    first = build.call(share, build.call(joined, x, x))
    graph = build.graph({"y": build.call(share, build.call(joined, x, first, x))})
    assert graph.shapes({"batch": 2})[graph.outputs["y"]] == (2, 12)
    assert len(graph.operations) == 2
