"""Whole ONNX models as graphs, judged by ONNX Runtime: batch and time are others than those of the export."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onnx import TensorProto, helper

from parity.frameworks.onnx.whole.reading import graph_of
from parity.graph import Wire
from parity.graph.operations import Select
from parity.network import Recurrent
from tests.onnx_reading_judge import FACTOR, distance, judged, model_of, outputs_of
from tests.onnx_reading_operators import CASES, Case, integers, node, normal
from tests.onnx_reading_recurrent import FEATURES, GATES, HIDDEN, recurrent, weights_of, zeros_of_batch

LENGTHS = {"batch": 3, "time": 7, "other": 5, "height": 8, "width": 9, "count": 4}


def inputs_of(case: Case, lengths: dict[str, int]) -> dict[str, Any]:
    found = {}
    for name, shape in case.shapes.items():
        concrete = tuple(
            lengths["batch" if n is None and at == 0 else n or "time"] if not isinstance(n, int) else n
            for at, n in enumerate(shape)
        )
        found[name] = case.make.get(name, lambda shape: normal(*shape))(concrete)
    return found


@pytest.mark.parametrize("name", CASES)
def test_operator(name: str) -> None:
    case = CASES[name]
    model = model_of(case.nodes, case.shapes, ("y",), case.weights, case.opset, case.types, case.gives)
    for lengths in (LENGTHS, {word: n + 4 for word, n in LENGTHS.items()}):
        graph = judged(model, inputs_of(case, lengths))
    kinds = [type(node.operation).__name__ for node in graph.nodes]
    assert all(kind in kinds for kind in case.finds), kinds


# ---- recurrent nodes

X = {"x": ("time", "batch", FEATURES)}
DIRECTIONS = ["forward", "reverse", "bidirectional"]


def steps(batch: int = 3, time: int = 7) -> Any:
    return normal(time, batch, FEATURES)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("op", GATES)
def test_recurrent_node(op: str, direction: str) -> None:
    count = 1 + (direction == "bidirectional")
    outputs = ["Y", "Y_h", "Y_c"][: 3 if op == "LSTM" else 2]
    states = ["h", "c"][: len(outputs) - 1]
    shapes = {**X, "n": ("batch",), **{name: (count, "batch", HIDDEN) for name in states}}
    one = recurrent(op, more=["n", *states], direction=direction)
    model = model_of([one], shapes, outputs, weights_of(op, count), types={"n": TensorProto.INT32})
    given = {name: normal(count, 3, HIDDEN) for name in states}
    inputs = {"x": steps(), "n": np.array([7, 2, 5], np.int32), **given}
    graph = judged(model, inputs)
    assert [one.shape for one in graph.inputs[:2]] == [("time", "batch", FEATURES), ("batch",)]
    (layer,) = [node for node in graph.nodes if isinstance(node.operation, Recurrent)]
    assert layer.source == "rnn"


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("op", GATES)
def test_recurrent_node_alone(op: str, direction: str) -> None:
    count = 1 + (direction == "bidirectional")
    model = model_of([recurrent(op, direction=direction)], X, ["Y", "Y_h"], weights_of(op, count))
    assert len(judged(model, {"x": steps()}).nodes) <= 5


@pytest.mark.parametrize(
    ("op", "options"),
    [
        ("GRU", {"linear_before_reset": 1}),
        ("LSTM", {"clip": 0.3}),
        ("LSTM", {"input_forget": 1}),
        (
            "LSTM",
            {"activations": ["HardSigmoid", "Softsign", "Relu"], "activation_alpha": [0.3], "activation_beta": [0.4]},
        ),
        ("GRU", {"activations": ["Sigmoid", "Relu"]}),
        ("RNN", {"activations": ["Relu"]}),
    ],
)
def test_options_of_recurrent_nodes(op: str, options: dict[str, Any]) -> None:
    judged(model_of([recurrent(op, **options)], X, ["Y", "Y_h"], weights_of(op)), {"x": steps()})


def test_peepholes() -> None:
    weights = {**weights_of("LSTM"), "P": normal(1, 3 * HIDDEN)}
    judged(model_of([recurrent("LSTM", more=["", "", "", "P"])], X, ["Y"], weights), {"x": steps()})


@pytest.mark.parametrize("op", GATES)
def test_batch_first_layout(op: str) -> None:
    """ONNX Runtime has no layout=1: the judge is the same node between transpositions."""
    weights, outputs = weights_of(op, 2), ["Y", "Y_h"]
    x = normal(3, 7, FEATURES)
    one = recurrent(op, direction="bidirectional", layout=1, more=["", "h"])
    shapes = {"x": ("batch", "time", FEATURES), "h": ("batch", 2, HIDDEN)}
    state = normal(3, 2, HIDDEN)
    graph = graph_of(model_of([one], shapes, outputs, weights))
    other = recurrent(op, direction="bidirectional", more=["", "h"])
    plain = model_of([other], {**X, "h": (2, "batch", HIDDEN)}, outputs, weights)
    turned = outputs_of(plain, {"x": x.transpose(1, 0, 2), "h": state.transpose(1, 0, 2)})
    judge = {"Y": turned["Y"].transpose(2, 0, 1, 3), "Y_h": turned["Y_h"].transpose(1, 0, 2)}
    assert distance(graph, {"x": x, "h": state}, judge) <= FACTOR


@pytest.mark.parametrize("way", ["ConstantOfShape", "Expand", "Concat", "Slice", "constant"])
def test_states_of_zeros_are_no_states(way: str) -> None:
    nodes, arrays = zeros_of_batch("x", 1, "z.", rows=2 if way == "Slice" else 1)
    arrays |= {"number": np.zeros((1, 1, 1), np.float32), "one": integers(1), "two": integers(2), "zero": integers(0)}
    if way == "Expand":
        nodes.append(node("Expand", "number", "z.sizes", y="state"))
    elif way == "constant":
        nodes, arrays = [], {"state": np.zeros((1, 3, HIDDEN), np.float32)}
    else:
        nodes.append(node("ConstantOfShape", "z.sizes", y="made"))
        if way == "Slice":
            nodes.append(node("Slice", "made", "one", "two", "zero", y="state"))
        elif way == "Concat":
            arrays |= {"half": integers(2)}
            nodes += [
                helper.make_node("Split", ["made", "parts"], ["left", "right"], axis=2),
                node("Concat", "left", "right", y="state", axis=2),
            ]
            arrays |= {"parts": integers(1, HIDDEN - 1)}
        else:
            nodes.append(node("Identity", "made", y="state"))
    lstm = recurrent("LSTM", more=["", "state", "state"])
    graph = judged(model_of([*nodes, lstm], X, ["Y", "Y_c"], {**arrays, **weights_of("LSTM")}), {"x": steps()})
    (layer,) = [one for one in graph.nodes if isinstance(one.operation, Recurrent)]
    assert len(layer.inputs) == 1
    assert "Expand" not in [type(one.operation).__name__ for one in graph.nodes]


def test_states_of_which_one_is_zero() -> None:
    nodes, arrays = zeros_of_batch("x", 1, "z.")
    nodes.append(node("ConstantOfShape", "z.sizes", y="zeros"))
    lstm = recurrent("LSTM", more=["", "h", "zeros"])
    model = model_of([*nodes, lstm], {**X, "h": (1, "batch", HIDDEN)}, ["Y"], {**arrays, **weights_of("LSTM")})
    judged(model, {"x": steps(), "h": normal(1, 3, HIDDEN)})


def test_stacked_states_in_one_array() -> None:
    """States of two layers and two directions, sliced out of one array and put together after."""
    nodes = [
        helper.make_node("Split", ["h"], ["h0", "h1"], axis=0),
        recurrent("GRU", more=["", "h0"], outputs=["Y0", "n0"], prefix="a.", direction="bidirectional"),
        node("Transpose", "Y0", y="t0", perm=[0, 2, 1, 3]),
        node("Reshape", "t0", "sizes", y="x1"),
        recurrent("GRU", "x1", ["", "h1"], ["Y1", "n1"], "b.", direction="bidirectional"),
        node("Concat", "n0", "n1", y="n", axis=0),
    ]
    weights = {
        **weights_of("GRU", 2, prefix="a."),
        **weights_of("GRU", 2, 2 * HIDDEN, "b."),
        "sizes": integers(0, 0, -1),
    }
    model = model_of(nodes, {**X, "h": (4, "batch", HIDDEN)}, ["Y1", "n"], weights)
    graph = judged(model, {"x": steps(), "h": normal(4, 3, HIDDEN)})
    picked = [one for one in graph.nodes if isinstance(one.operation, Select)]
    assert sorted(one.operation.index for one in picked if isinstance(one.operation, Select)) == [0, 1, 2, 3]
    assert all(one.inputs == (Wire("h"),) for one in picked)
    first, second = [one for one in graph.nodes if isinstance(one.operation, Recurrent)]
    assert second.inputs[0] == Wire(first.name)


def test_what_tf2onnx_writes() -> None:
    """Batch first around the node, lengths that are all of the axis, directions split, squeezed and put together."""
    nodes = [
        node("Shape", "x", y="s"),
        node("Gather", "s", "first", y="batch", axis=0),
        node("Gather", "s", "second", y="time", axis=0),
        node("Cast", "time", y="time32", to=6),
        node("Unsqueeze", "time32", "zero", y="times"),
        node("Unsqueeze", "batch", "zero", y="batches"),
        node("Tile", "times", "batches", y="lens"),
        node("Transpose", "x", y="t", perm=[1, 0, 2]),
        recurrent("LSTM", "t", ["lens"], direction="bidirectional"),
        helper.make_node("Split", ["Y"], ["f", "b"], axis=1),
        node("Squeeze", "f", "one", y="f1"),
        node("Squeeze", "b", "one", y="b1"),
        node("Concat", "f1", "b1", y="both", axis=2),
        node("Transpose", "both", y="y", perm=[1, 0, 2]),
    ]
    weights = {
        **weights_of("LSTM", 2),
        "first": np.int64(0),
        "second": np.int64(1),
        "zero": integers(0),
        "one": integers(1),
    }
    model = model_of(nodes, {"x": (None, None, FEATURES)}, ["y"], weights)
    graph = judged(model, {"x": normal(3, 7, FEATURES)})
    assert graph.inputs[0].shape == ("batch", "time", FEATURES)
    (layer,) = [one for one in graph.nodes if isinstance(one.operation, Recurrent)]
    assert layer.inputs == (Wire("x"),)


def test_one_layer_called_twice() -> None:
    again = recurrent("GRU", "z", outputs=["Y1"])
    again.name = "again"
    nodes = [
        recurrent("GRU", outputs=["Y0"]),
        again,
        node("ReduceMean", "Y0", y="m0", axes=[0]),
        node("ReduceMean", "Y1", y="m1", axes=[0]),
        node("Sub", "m0", "m1"),
    ]
    model = model_of(nodes, {**X, "z": ("other", "batch", FEATURES)}, ["y"], weights_of("GRU"))
    graph = judged(model, {"x": steps(), "z": steps(time=5)})
    layers = [one.operation for one in graph.nodes if isinstance(one.operation, Recurrent)]
    assert len(layers) == 2
    assert layers[0] is layers[1]


def test_a_gate_in_another_place_is_seen() -> None:
    weights = weights_of("LSTM")
    model, x = model_of([recurrent("LSTM")], X, ["Y"], weights), steps()
    judge = outputs_of(model, {"x": x})
    rows = weights["W"].reshape(1, 4, HIDDEN, FEATURES)
    wrong = {**weights, "W": rows[:, [0, 2, 1, 3]].reshape(weights["W"].shape)}
    graph = graph_of(model_of([recurrent("LSTM")], X, ["Y"], wrong))
    assert distance(graph, {"x": x}, judge) > 100 * FACTOR
