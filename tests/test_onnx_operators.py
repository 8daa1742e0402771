"""ONNX's own test cases for LSTM, GRU and RNN, which ship inside the onnx package, through `read` and every engine."""

from __future__ import annotations

import importlib
import inspect
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx.backend.test.case import node as node_cases

import parity
from parity.conventions import onnx_returns
from parity.frameworks.onnx.trace import RECURRENT_OPS
from parity.network import Network

ENGINES = ["reference", "onnxruntime", "torch", "keras"]
WEIGHTS = ("W", "R", "B", "P")

MODULES = [importlib.import_module(f"onnx.backend.test.case.node.{kind}") for kind in RECURRENT_OPS.values()]
CASES = {
    case.name: case
    for case in node_cases._NodeTestCases
    if any(node.op_type in RECURRENT_OPS for node in case.model.graph.node)
}


def exports(module: ModuleType) -> list[str]:
    """The functions of a module of ONNX's that make a case each."""
    return [
        f"{name}.{member}"
        for name, item in vars(module).items()
        if inspect.isclass(item) and item.__module__ == module.__name__
        for member in vars(item)
        if member.startswith("export")
    ]


def test_every_case_is_here() -> None:
    for module, op in zip(MODULES, RECURRENT_OPS, strict=True):
        own = [case for case in CASES.values() if case.model.graph.node[0].op_type == op]
        assert len(own) == len(exports(module)) >= 4


def opened(name: str) -> tuple[onnx.ModelProto, dict[str, Any], dict[str, Any]]:
    """A case with its weights built in, and its inputs and expected outputs by name."""
    case = CASES[name]
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    graph = model.graph
    ((inputs, outputs),) = case.data_sets
    arrays = dict(zip([item.name for item in graph.input], inputs, strict=True))
    for item in [item for item in graph.input if item.name in WEIGHTS]:
        graph.initializer.append(numpy_helper.from_array(arrays[item.name], item.name))
        graph.input.remove(item)
    return model, arrays, dict(zip([item.name for item in graph.output], outputs, strict=True))


def computed(source: Any, name: str, engine: str) -> None:
    """Run a case in an engine and compare it with what ships."""
    model, arrays, expected = opened(name)
    (node,) = model.graph.node
    network = parity.read(model)
    assert isinstance(network, Network)
    layout = next((attribute.i for attribute in node.attribute if attribute.name == "layout"), 0)
    states = [arrays[state] for state in ("initial_h", "initial_c") if state in arrays]
    result = parity.run(
        model if source == "model" else network,
        arrays["X"] if layout else arrays["X"].swapaxes(0, 1),
        engine=engine,
        initial_state=states or None,
        lengths=arrays.get("sequence_lens"),
    )
    ((run),) = result.layers.values()
    values = {value.name: value for value in onnx_returns(RECURRENT_OPS[node.op_type], layout)}
    for output, array in expected.items():
        found = values[output].of([run])
        assert found.shape == array.shape
        np.testing.assert_allclose(found, array, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", CASES)
def test_the_expected_outputs_come_out(name: str, engine: str) -> None:
    computed("network", name, engine)


@pytest.mark.parametrize("name", CASES)
def test_the_model_as_it_stands(name: str) -> None:
    computed("model", name, "onnxruntime")


@pytest.mark.parametrize("name", CASES)
def test_built_again(name: str) -> None:
    """What parity builds from a case is, read again, the same cell with the same weights."""
    network = parity.read(opened(name)[0])
    for opset in (7, 14, 22):
        (layer,) = parity.read(parity.to_onnx(network, opset=opset)).recurrent
        (own,) = network.recurrent
        assert (layer.spec, layer.cells) == (own.spec, own.cells)
        for key, array in own.arrays.items():
            np.testing.assert_array_equal(layer.arrays[key], array)
