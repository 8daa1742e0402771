"""Whole ONNX models as graphs, judged by ONNX Runtime: batch and time are others than those of the export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from parity.errors import FormatError, UnsupportedError
from parity.frameworks.onnx.whole.reading import graph_of
from parity.graph import Wire
from parity.graph.operations import Select
from parity.network import Dense, Recurrent
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
        make = case.make.get(name)
        found[name] = normal(*concrete) if make is None else make(concrete)
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
    shapes = {**X, "n": ("batch",), **dict.fromkeys(states, (count, "batch", HIDDEN))}
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
    shapes: dict[str, Any] = {"x": ("batch", "time", FEATURES), "h": ("batch", 2, HIDDEN)}
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
    assert "Reshape" not in [type(one.operation).__name__ for one in graph.nodes]


def test_directions_picked_by_themselves() -> None:
    """The last step of one direction and the first of the other: parts of what the layer gives, no axis for the direction."""
    nodes = [
        recurrent("GRU", direction="bidirectional"),
        node("Gather", "Y", "first", y="f", axis=1),
        node("Gather", "Y", "second", y="b", axis=1),
        node("Gather", "f", "last", y="f1", axis=0),
        node("Gather", "b", "first", y="b1", axis=0),
        node("Concat", "f1", "b1", axis=1),
    ]
    places = {"first": np.int64(0), "second": np.int64(1), "last": np.int64(-1)}
    graph = judged(model_of(nodes, X, ["y"], {**weights_of("GRU", 2), **places}), {"x": steps()})
    kinds = [type(one.operation).__name__ for one in graph.nodes]
    assert kinds == ["Transpose", "Recurrent", "Slice", "Slice", "Select", "Select", "Concatenate"]


@pytest.mark.parametrize("index", [-3, -1, 0, 2, 4])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_places_picked_through_what_was_put_together(axis: int, index: int) -> None:
    """Gather behind Slice, Concat, Unsqueeze, Transpose and Reshape, over each axis."""
    nodes = [
        node("Slice", "x", "one", "far", "two", y="part"),
        node("Concat", "part", "w", y="joined", axis=2),
        node("Transpose", "joined", y="moved", perm=[2, 0, 1]),
        node("Gather", "moved", "at", axis=axis),
    ]
    weights = {
        "one": integers(1),
        "two": integers(2),
        "far": integers(2**40),
        "w": normal(3, 5, 2),
        "at": np.int64(index),
    }
    if axis == 1 and index not in (-3, -1, 0, 2):
        weights["at"] = np.int64(1)
    judged(model_of(nodes, {"x": (3, 5, 4)}, ["y"], weights), {"x": normal(3, 5, 4)})


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


# ---- the graph around the nodes


def test_words_that_are_one() -> None:
    """Exporters that give every axis a word of its own: an operator that wants two of one length says so."""
    nodes = [node("MatMul", "x", "w", y="h"), node("Add", "h", "z")]
    model = model_of(nodes, {"x": ("unk__1", "unk__2", 6), "z": ("unk__3", "unk__4", 5)}, weights={"w": normal(6, 5)})
    graph = judged(model, {"x": normal(3, 7, 6), "z": normal(3, 7, 5)})
    assert [one.shape[:2] for one in graph.inputs] == [("unk__1", "unk__2")] * 2
    assert graph.details["lengths"] == "unk__3 = unk__1, unk__4 = unk__2"


def test_words_of_states() -> None:
    lstm = recurrent("LSTM", more=["", "h", "c"])
    states: dict[str, Any] = dict.fromkeys(("h", "c"), (1, None, HIDDEN))
    model = model_of([lstm], {"x": (None, None, FEATURES), **states}, ["Y"], weights_of("LSTM"))
    graph = judged(model, {"x": steps(), "h": normal(1, 3, HIDDEN), "c": normal(1, 3, HIDDEN)})
    assert [one.shape for one in graph.inputs] == [("time", "batch", FEATURES), *[(1, "batch", HIDDEN)] * 2]


def choice(condition: str, then: list[Any], other: list[Any], name: str = "choice") -> onnx.NodeProto:
    gives = [helper.make_tensor_value_info("y1", TensorProto.FLOAT, None)]
    other_gives = [helper.make_tensor_value_info("y2", TensorProto.FLOAT, None)]
    return helper.make_node(
        "If",
        [condition],
        ["y"],
        name=name,
        then_branch=helper.make_graph(then, "then", [], gives),
        else_branch=helper.make_graph(other, "else", [], other_gives),
    )


def chooser() -> onnx.ModelProto:
    nodes = [
        node("Greater", "sr", "limit", y="high"),
        choice("high", [node("Tanh", "x", y="y1")], [node("Sigmoid", "x", y="y2")]),
    ]
    shapes: dict[str, Any] = {"x": ("batch", 6), "sr": ()}
    return model_of(nodes, shapes, weights={"limit": np.int64(10)}, types={"sr": TensorProto.INT64})


@pytest.mark.parametrize("rate", [8, 16])
def test_choice_by_an_input(rate: int) -> None:
    x = normal(3, 6)
    graph = judged(chooser(), {"x": x}, given={"sr": rate})
    assert [one.name for one in graph.inputs] == ["x"]
    assert len(graph.nodes) == 1
    both = judged(chooser(), {"x": x, "sr": np.asarray(rate)})
    assert [one.name for one in both.inputs] == ["x", "sr"]


def test_choice_by_a_length() -> None:
    """What torch writes for `squeeze`: another number of axes where a length is one."""
    nodes = [
        node("Shape", "x", y="s"),
        node("Gather", "s", "place", y="n", axis=0),
        node("Equal", "n", "one", y="is_one"),
        choice("is_one", [node("Squeeze", "x", "axis", y="y1")], [node("Identity", "x", y="y2")]),
    ]
    weights = {"place": np.int64(1), "one": np.int64(1), "axis": integers(1)}
    model = model_of(nodes, {"x": ("batch", "chunks", 6)}, weights=weights)
    with pytest.raises(UnsupportedError, match=r"depends on the length of an axis(.|\n)*'chunks'"):
        graph_of(model)
    for chunks in (1, 4):
        graph = graph_of(model, given={"chunks": chunks})
        x = normal(3, chunks, 6)
        assert graph.inputs[0].shape == ("batch", chunks, 6)
        assert distance(graph, {"x": x}, outputs_of(model, {"x": x})) <= FACTOR


def test_functions_of_the_model() -> None:
    own = helper.make_function(
        "own", "gate", ["a", "b"], ["c"], [node("Tanh", "a", y="t"), node("Mul", "t", "b", y="c")],
        [helper.make_opsetid("", 17)],
    )  # fmt: skip
    model = model_of([helper.make_node("gate", ["x", "x"], ["y"], domain="own")], {"x": ("batch", 6)})
    model.functions.append(own)
    model.opset_import.append(helper.make_opsetid("own", 1))
    assert len(judged(model, {"x": normal(3, 6)}).nodes) == 2


@pytest.mark.parametrize("dtype", [np.float16, np.float64, "bfloat16"])
def test_other_floats(dtype: Any) -> None:
    wanted = onnx.helper.tensor_dtype_to_np_dtype(TensorProto.BFLOAT16) if dtype == "bfloat16" else np.dtype(dtype)
    kernel = normal(6, 5).astype(wanted)
    kind = helper.np_dtype_to_tensor_dtype(wanted)
    nodes = [node("MatMul", "x", "w", y="h"), node("Tanh", "h")]
    model = model_of(nodes, {"x": ("batch", 6)}, weights={"w": kernel}, types={"x": kind}, gives={"y": kind})
    graph = graph_of(model)
    (dense,) = [one.operation for one in graph.nodes if isinstance(one.operation, Dense)]
    assert dense.kernel.dtype == (np.float64 if dtype is np.float64 else np.float32)
    assert np.array_equal(dense.kernel, kernel.astype(np.float64))
    assert graph.details.get("stored as") == (None if dtype is np.float64 else str(wanted))
    if dtype is np.float64:
        x = np.random.default_rng(3).normal(size=(3, 6))
        np.testing.assert_allclose(graph.run({"x": x})["y"], outputs_of(model, {"x": x})["y"], rtol=1e-13)


# ---- what is refused, and stubs

REFUSED: dict[str, tuple[list[onnx.NodeProto], str]] = {
    "unknown": ([node("CumSum", "x", "axis")], "operator CumSum is not converted"),
    "depth": ([node("DepthToSpace", "x", blocksize=1)], "operator DepthToSpace is not converted"),
    "mode": ([node("Resize", "x", "", "scales", mode="linear")], "this kind of resizing"),
    "wrap": ([node("Round", "x")], "operator Round is not converted"),
    "pool": ([node("MaxPool", "x", kernel_shape=[2], ceil_mode=1)], "ceil_mode"),
    "squeeze": ([node("Squeeze", "x")], "this Squeeze drops other axes"),
    "einsum": ([node("Einsum", "x", equation="bii->bi")], "this einsum"),
    "type": ([node("Cast", "x", y="i", to=TensorProto.INT8), node("Cast", "i", to=1)], "this type is not converted"),
    "weights": ([node("Conv", "x", "x")], "the kernel is computed in the graph"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    nodes, words = REFUSED[name]
    weights = {"axis": np.int64(1), "scales": np.array([1, 1, 2], np.float32)}
    model = model_of(nodes, {"x": ("batch", 4, 4)}, weights=weights)
    with pytest.raises(UnsupportedError) as caught:
        graph_of(model)
    (problem,) = caught.value.problems
    assert words in problem.what
    assert f"({nodes[0].op_type})" in problem.where


def test_all_problems_at_once_and_stubs() -> None:
    nodes = [
        helper.make_node("CumSum", ["x", "axis"], ["a"], name="first"),
        helper.make_node("Tanh", ["a"], ["b"], name="between"),
        helper.make_node("Twist", ["b"], ["c"], name="second", domain="com.example"),
        helper.make_node("MatMul", ["c", "w"], ["y"], name="head"),
    ]
    model = model_of(nodes, {"x": ("batch", "time", 6)}, weights={"axis": np.int64(1), "w": normal(6, 5)})
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    with pytest.raises(UnsupportedError) as caught:
        graph_of(model)
    assert ["'first'" in one.where or "'second'" in one.where for one in caught.value.problems] == [True, True]
    assert "com.example.Twist" in caught.value.problems[1].what
    graph = graph_of(model, partial=True)
    assert [stub.class_name for stub in graph.stubs] == ["CumSum", "com.example.Twist"]
    assert len(graph.problems) == 2
    assert [type(one.operation).__name__ for one in graph.nodes] == ["Stub", "Activation", "Stub", "Dense"]


def test_a_loop_is_refused_with_its_place() -> None:
    flag = helper.make_tensor_value_info("again", TensorProto.BOOL, [])
    body = helper.make_graph(
        [node("Identity", "go", y="again"), node("Tanh", "state", y="next")],
        "body",
        [
            helper.make_tensor_value_info("at", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, None),
        ],
        [flag, helper.make_tensor_value_info("next", TensorProto.FLOAT, None)],
    )
    loop = helper.make_node("Loop", ["count", "", "x"], ["y"], name="steps", body=body)
    model = model_of([loop], {"x": ("batch", 6)}, weights={"count": np.int64(3)})
    with pytest.raises(UnsupportedError, match=r"operator Loop is not converted(.|\n)*node 'steps' \(Loop\)"):
        graph_of(model)


def test_a_length_fixed_at_the_export() -> None:
    model = model_of([node("Reshape", "x", "s")], {"x": ("batch", "time", 6)}, weights={"s": integers(-1, 4, 2, 3)})
    with pytest.raises(UnsupportedError, match=r"do not fill(.|\n)*the export fixed the length of an axis"):
        graph_of(model_of([node("Reshape", "x", "s")], {"x": ("batch", "time", 6)}, weights={"s": integers(2, 4, 6)}))
    assert graph_of(model, given={"time": 4}).run({"x": normal(3, 4, 6)})["y"].shape == (3, 4, 2, 3)


def test_constants_do_not_grow_without_end() -> None:
    """A few bytes that would be an array of a terabyte, and one that grows by repetition."""
    huge = model_of(
        [node("Expand", "n", "s", y="e"), node("Add", "x", "e")],
        {"x": (6,)},
        weights={"n": np.array([1.5], np.float32), "s": integers(2**38)},
    )
    with pytest.raises(UnsupportedError):
        graph_of(huge)
    nodes = [node("Concat", *[f"c{at}"] * 2, y=f"c{at + 1}", axis=0) for at in range(60)]
    grown = model_of([*nodes, node("Add", "x", "c60")], {"x": (6,)}, weights={"c0": normal(64)})
    with pytest.raises((UnsupportedError, FormatError)):
        graph_of(grown)


# ---- a real model


MODELS = Path(__file__).parent.parent.parent / "shared" / "models"


@pytest.mark.skipif(not MODELS.exists(), reason="the real models are not here")
def test_silero() -> None:
    """The whole network, chunk by chunk with its state, against what ONNX Runtime gave."""
    model = onnx.load(MODELS / "silero_vad_16k_op15.onnx")
    expected = np.load(MODELS / "silero_vad_expected.npz")
    with pytest.raises(UnsupportedError, match="'sequence'"):
        graph_of(model, given={"sr": 16000})
    graph = graph_of(model, given={"sr": 16000, "sequence": 576})
    assert [one.name for one in graph.inputs] == ["input", "state"]
    state, before = np.zeros((2, 1, 128)), np.zeros(64)
    chunks = expected["audio"].reshape(90, 512)
    for chunk, prob, known in zip(chunks, expected["onnx_prob"], expected["onnx_state"], strict=True):
        found = graph.run({"input": np.concatenate([before, chunk])[None], "state": state})
        state, before = found["stateN"], chunk[-64:]
        assert abs(float(found["output"][0, 0]) - prob) < 2e-5
        assert np.abs(state - known).max() < 2e-5
