"""Values inside ONNX models of others, layer by layer: in the graph's axes, whatever axes they have in ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import parity
from parity.frameworks import Settings
from parity.frameworks.onnx import whole_runner
from parity.frameworks.onnx.whole.reading import graph_of
from parity.frameworks.onnx.whole.writing import model_of as written
from parity.graph import Graph, Wire
from parity.graph.judging import judge_graph
from parity.judge import Row
from parity.network import Recurrent
from tests.onnx_graphs_cases import graph_of as graph_called
from tests.onnx_reading_judge import exported, model_of
from tests.onnx_reading_operators import normal
from tests.test_onnx_reading_exports import EXPORTS

pytestmark = pytest.mark.filterwarnings("ignore")


def _exported(name: str) -> onnx.ModelProto:
    one = EXPORTS[name]
    torch.manual_seed(5)
    examples = [torch.from_numpy(value) for value in one.examples.values()]
    return exported(one.make(), examples, one.axes, 17, one.outputs, list(one.examples))


def _layers(model: onnx.ModelProto, graph: Graph, inputs: dict[str, Any]) -> list[Row]:
    judgement = judge_graph(graph, {"onnx": whole_runner(model, graph, Settings())}, inputs, layers=True)
    assert not judgement.failures
    return [row for row in judgement.rows if row.rule == "layer"]


@pytest.mark.parametrize("name", EXPORTS)
def test_every_layer_of_an_export_is_seen(name: str) -> None:
    model = _exported(name)
    graph = graph_of(model)
    rows = _layers(model, graph, dict(EXPORTS[name].inputs))
    # What is masked with -inf before a softmax has no distance.
    assert {row.verdict for row in rows if name != "tagger" or "Where" not in row.quantity} == {"agree"}
    seen = {row.quantity for row in rows}
    for node in graph.nodes:
        if isinstance(node.operation, Recurrent):
            further = {f"layer {node.source}, value {index}" for index in range(1, len(node.operation.values))}
            assert {f"layer {node.source}", *further} <= seen


@pytest.mark.parametrize("name", ["LSTM {}", "GRU {'bidirectional': True, 'num_layers': 2, 'batch_first': True}"])
def test_a_fault_stays_in_its_layer(name: str) -> None:
    model = _exported(name)
    graph, inputs = graph_of(model), dict(EXPORTS[name].inputs)
    node = [node for node in model.graph.node if node.op_type in ("LSTM", "GRU")][-1]
    weights = next(one for one in model.graph.initializer if one.name == node.input[2])
    weights.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weights)[:, ::-1].copy(), weights.name))
    wrong = {row.quantity.split(",")[0] for row in _layers(model, graph, inputs) if row.verdict == "disagree"}
    assert wrong == {f"layer {node.name}"}


def _with_body(name: str) -> onnx.ModelProto:
    """x -> scaled -> If -> y, the nodes of the bodies having this name."""

    def body(op: str) -> onnx.GraphProto:
        given = helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)
        return helper.make_graph([helper.make_node(op, ["h"], ["inner"], name)], op, [], [given])

    branches = {"then_branch": body("Tanh"), "else_branch": body("Sigmoid")}
    nodes = [
        helper.make_node("Mul", ["x", "scale"], ["h"], "scaled"),
        helper.make_node("If", ["yes"], ["z"], "choice", **branches),
        helper.make_node("Relu", ["z"], ["y"]),
    ]
    return model_of(nodes, {"x": ["batch", 3]}, weights={"scale": np.float32(1.5), "yes": np.array(True)})


@pytest.mark.parametrize(("name", "seen"), [("inside", {"scaled", "y"}), ("scaled", {"y"})])
def test_nodes_in_bodies_are_not_taken_for_others(name: str, seen: set[str]) -> None:
    model = _with_body(name)
    rows = _layers(model, graph_of(model), {"x": normal(2, 3)})
    assert {row.quantity for row in rows} == {f"layer {one}" for one in seen}
    assert {row.verdict for row in rows} == {"agree"}


def test_nodes_of_functions_are_seen() -> None:
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    inner = [helper.make_node("Tanh", ["a"], ["b"], "inner")]
    model = model_of([helper.make_node("Curve", ["x"], ["h"], "curve", domain="own")], {"x": ["batch", 3]}, ["h"])
    del model.opset_import[:]
    model.opset_import.extend(opsets)
    model.functions.append(helper.make_function("own", "Curve", ["a"], ["b"], inner, opsets[:1]))
    graph = graph_of(model)
    assert [row.verdict for row in _layers(model, graph, {"x": normal(2, 3)})] == ["agree"]


def test_a_file_that_parity_wrote_is_compared_layer_by_layer(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(written(graph_called("stack")), path)
    comparison = parity.compare(path, engines=["onnxruntime"], layers=True)
    assert comparison.ok
    layers = {row.quantity for row in comparison.judgement.rows if row.rule == "layer"}
    assert {"layer first", "layer second", "layer third"} <= layers


def test_a_graph_is_seen_by_what_parity_writes_of_it() -> None:
    """A graph of an ONNX model, written anew: its own nodes, not those that its sources name."""
    graph = graph_of(_exported("LSTM {}"))
    model = written(graph)
    found = whole_runner(model, graph, Settings()).seen({"x": EXPORTS["LSTM {}"].inputs["x"]})
    assert {Wire(node.name) for node in graph.nodes if isinstance(node.operation, Recurrent)} <= set(found)
