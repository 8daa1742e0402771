"""Whole graphs at the edges of what ONNX can say: windows that never meet, values given twice, short inputs, names that are none."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper

import parity
from parity.frameworks.onnx import build
from parity.frameworks.onnx.whole.reading import graph_of
from parity.frameworks.onnx.whole.running import runner
from parity.frameworks.onnx.whole.writing import model_of
from parity.graph import Builder, Graph
from parity.graph import operations as ops
from parity.network import Dense, Network
from parity.network.attaching import network_with_graph
from tests.onnx_graphs_cases import numbers, recurrent
from tests.onnx_reading_judge import model_of as model_of_nodes
from tests.onnx_reading_judge import outputs_of
from tests.onnx_reading_operators import normal

SPACED = [((2,), (3,)), ((1,), (2,)), ((2,), (5,)), ((3, 2), (2, 3)), ((1, 2), (4, 2)), ((2, 3), (4, 5))]
"""Windows and strides of which one at least is longer than its window."""


def spaced(function: Any, sizes: tuple[int, ...], strides: tuple[int, ...], last: bool) -> Graph:
    build, random = Builder("spaced"), np.random.default_rng(5)
    words = ("time", "width")[: len(sizes)]
    x = build.input("x", ("batch", *words, 4) if last else ("batch", 4, *words))
    ones = (1,) * len(sizes)
    if function == "convolution":
        kernel, bias = numbers(random, *sizes, 4, 3), numbers(random, 3)
        return build.graph({"y": build.call(ops.Convolution("c", kernel, bias, strides, ones, "same", 1, last), x)})
    return build.graph({"y": build.call(ops.Pooling("p", function, sizes, strides, ones, "same", last), x)})


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize(("sizes", "strides"), SPACED)
@pytest.mark.parametrize("function", ["average", "max", "convolution"])
def test_windows_shorter_than_their_strides(
    function: Any, sizes: tuple[int, ...], strides: tuple[int, ...], last: bool
) -> None:
    graph = spaced(function, sizes, strides, last)
    run = runner(model_of(graph), graph)
    for time in range(1, 16):
        spatial = (time, time + 3)[: len(sizes)]
        x = normal(2, *spatial, 4) if last else normal(2, 4, *spatial)
        wanted, found = graph.run({"x": x})["y"], run({"x": x})["y"]
        assert found.shape == wanted.shape
        assert np.abs(found - wanted).max() < 2.0**-20 * np.abs(wanted).max()


def test_a_value_given_twice_is_given_twice() -> None:
    nodes = [helper.make_node("Tanh", ["x"], ["y"]), helper.make_node("Neg", ["y"], ["z"])]
    model = model_of_nodes(nodes, {"x": ("batch", 3)}, ("y", "z", "y", "y_2", "y"))
    model.graph.node.append(helper.make_node("Abs", ["z"], ["y_2"]))
    graph = graph_of(model)
    assert list(graph.outputs) == ["y", "z", "y_3", "y_2", "y_4"]
    x = {"x": normal(2, 3)}
    found, exact = runner(model, graph)(x), graph.run(x)
    assert list(found) == list(exact)
    for name, value in exact.items():
        assert np.abs(found[name] - value).max() < 1e-6
    assert np.array_equal(exact["y_4"], exact["y"])
    assert not np.array_equal(exact["y_2"], exact["y"])


def test_a_chain_that_gives_a_value_twice() -> None:
    w, r = numbers(np.random.default_rng(1), 1, 20, 3), numbers(np.random.default_rng(2), 1, 20, 5)
    node = helper.make_node("LSTM", ["x", "W", "R"], ["Y", "Y_h"], hidden_size=5)
    model = model_of_nodes([node], {"x": ("time", "batch", 3)}, ("Y", "Y_h", "Y"), {"W": w, "R": r})
    network = parity.read(model)
    assert network.graph is not None
    assert list(network.graph.outputs) == ["Y", "Y_h", "Y_2"]


@pytest.mark.parametrize(("start", "stop"), [(-3, None), (None, 3), (4, 7)])
def test_a_length_that_short_inputs_do_not_have_is_not_declared(start: int | None, stop: int | None) -> None:
    """And a pooling behind it pads what is there, not what would be."""
    build = Builder("cut")
    x = build.input("x", ("batch", "time", 4))
    cut = build.slice(x, 1, start, stop)
    pooled = build.call(ops.Pooling("pool", "max", (2,), (2,), (1,), "same", True), cut)
    graph = build.graph({"cut": cut, "pooled": pooled, "all": build.slice(x, 2, 1, 3)})
    model = model_of(graph)
    shapes = [[d.dim_param or d.dim_value for d in one.type.tensor_type.shape.dim] for one in model.graph.output]
    assert shapes == [["batch", 0, 4], ["batch", 0, 4], ["batch", "time", 2]]
    for time in range(1 if start is None or start < 0 else 5, 9):
        inputs = {"x": normal(2, time, 4)}
        for name, value in graph.run(inputs).items():
            found = outputs_of(model, inputs)[name]
            assert found.shape == value.shape
            assert np.array_equal(found, value.astype(np.float32))


BAD = ["", "\ud800", "a\0b"]


@pytest.mark.parametrize("name", BAD)
def test_names_that_onnx_cannot_hold(name: str) -> None:
    """Beside the names that they would become."""
    build, random = Builder(name), np.random.default_rng(4)
    x = build.input(f"{name}x" if name else "x", ("batch", f"{name}time" if name else "time", 4))
    h = build.call(recurrent(random, "lstm", name, directions=("forward", "backward")), x, None)
    others = [recurrent(random, "gru", taken, features=10) for taken in ("unnamed", "_", "a_b")]
    given = [build.call(layer, h, None) for layer in others]
    graph = build.graph({name: h, "unnamed": given[0], "_": given[1], "a_b": given[2]})
    model = model_of(graph)
    assert onnx.ModelProto.FromString(model.SerializeToString()) == model
    assert len({one.name for one in model.graph.output}) == 4
    inputs = {graph.inputs[0].name: normal(2, 5, 4)}
    found, exact = runner(model, graph)(inputs), graph.run(inputs)
    assert list(found) == list(exact)
    for key, value in exact.items():
        assert np.abs(found[key] - value).max() < 1e-6
    assert list(graph_of(model).run({model.graph.input[0].name: inputs[graph.inputs[0].name]})) == [
        one.name for one in model.graph.output
    ]


@pytest.mark.parametrize("name", BAD)
def test_names_of_a_chain_that_onnx_cannot_hold(name: str) -> None:
    random = np.random.default_rng(6)
    layers = (
        recurrent(random, "lstm", name),
        recurrent(random, "gru", "unnamed", features=5),
        Dense("_", numbers(random, 5, 2)),
    )
    network = Network("chain", layers, (parity.network.Output(name, "_"), parity.network.Output("_", name)))
    model = build(network)
    read = parity.read(onnx.ModelProto.FromString(model.SerializeToString()))
    assert [layer.spec.kind for layer in read.recurrent] == ["lstm", "gru"]
    names = [one.name for one in model.graph.output]
    assert len(set(names)) == 2
    x = normal(3, 6, 4)
    found = outputs_of(model, {"input": x})
    wanted = Network("chain", layers, (parity.network.Output("a", "_"), parity.network.Output("b", name)))
    exact = outputs_of(build(wanted), {"input": x})
    for own, other in zip(names, ("a", "b"), strict=True):
        assert np.array_equal(found[own], exact[other])


@pytest.mark.parametrize("directions", [("forward",), ("backward",)])
def test_a_stateful_layer_from_its_own_onnx(directions: Any) -> None:
    """Its final state is the model's output, said as ONNX says it, of a layer of one direction."""
    layer = recurrent(np.random.default_rng(8), directions=directions, stateful=True, return_sequences=False)
    network = Network("stateful", (layer,), (parity.network.Output("y", "layer"),))
    model = build(network)
    folder = parity.to_torch(model)
    x = normal(2, 7, 4)
    zeros = {one.name: np.zeros((1, 2, 5), np.float32) for one in model.graph.input[1:]}
    wanted = outputs_of(model, {"input": x, **zeros})["y"]
    found = folder(torch.from_numpy(x))
    found = found[0] if isinstance(found, tuple) else found
    assert np.abs(found.detach().numpy() - wanted).max() < 1e-6


def test_of_a_model_that_is_neither_the_first_reason_is_the_graphs() -> None:
    def chain() -> Network:
        why = parity.errors.Problem("not one data input", "the chain")
        return Network("both", (recurrent(np.random.default_rng(9)),), problems=(why,))

    def graph() -> Graph:
        raise parity.UnsupportedError("operator Fancy is not converted", "the graph")

    found = [one.what for one in network_with_graph(chain, graph).stopping]
    assert found == ["operator Fancy is not converted", "not one data input"]
