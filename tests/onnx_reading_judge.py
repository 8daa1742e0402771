"""ONNX Runtime as the judge of graphs read from ONNX models, and makers of small models."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper

from parity.frameworks.onnx.whole.reading import graph_of
from parity.graph import Graph
from parity.graph.noise import Float32Noise

FACTOR = 4.0
"""How many times the spread of replicas with float32 roundings an engine may be off. The signs of the roundings are random, so that
replicas reach about a third of the worst sum of them, and kernels split their sums in other ways than the replicas do."""

REPLICAS = 6


def outputs_of(model: onnx.ModelProto, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """What ONNX Runtime gives."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [item.name for item in session.get_outputs()]
    taken = {item.name: inputs[item.name] for item in session.get_inputs()}
    return dict(zip(names, session.run(None, taken), strict=True))


def distance(graph: Graph, inputs: Mapping[str, Any], judge: Mapping[str, Any]) -> float:
    """The worst error of any output, in spreads of float32 roundings."""
    assert list(graph.outputs) == list(judge)
    exact = graph.run(inputs)
    replicas = [graph.run(inputs, Float32Noise(seed)) for seed in range(REPLICAS)]
    worst: float = 0.0
    for name, wanted in judge.items():
        found = exact[name]
        assert found.shape == wanted.shape, (name, found.shape, wanted.shape)
        if wanted.dtype.kind in "biu":
            worst = max(worst, 0.0 if np.array_equal(found, wanted) else np.inf)
            continue
        spread = max(float(np.abs(replica[name] - found).max(initial=0.0)) for replica in replicas)
        least = float(np.finfo(np.float32).eps) * float(np.abs(found).max(initial=0.0))
        error = float(np.abs(found - wanted).max(initial=0.0))
        worst = max(worst, error / max(spread, least, 1e-30))
    return worst


def judged(model: onnx.ModelProto, inputs: Mapping[str, Any], given: Mapping[str, Any] | None = None) -> Graph:
    """The graph of a model, which computes what ONNX Runtime does."""
    graph = graph_of(model, given=given)
    everything = {**inputs, **{name: np.asarray(value) for name, value in (given or {}).items()}}
    found = distance(graph, {one.name: inputs[one.name] for one in graph.inputs}, outputs_of(model, everything))
    assert found <= FACTOR, found
    return graph


def model_of(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Sequence[int | str | None]],
    outputs: Sequence[str] = ("y",),
    weights: Mapping[str, Any] | None = None,
    opset: int = 17,
    types: Mapping[str, int] | None = None,
    gives: Mapping[str, int] | None = None,
) -> onnx.ModelProto:
    """A model of nodes; inputs and outputs are floats unless told otherwise."""
    types, gives = types or {}, gives or {}
    takes = [
        helper.make_tensor_value_info(name, types.get(name, TensorProto.FLOAT), list(shape))
        for name, shape in inputs.items()
    ]
    given = [helper.make_tensor_value_info(name, gives.get(name, TensorProto.FLOAT), None) for name in outputs]
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in (weights or {}).items()]
    graph = helper.make_graph(list(nodes), "g", takes, given, tensors)
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(
        graph, opset_imports=opsets, ir_version=min(helper.find_min_ir_version_for(opsets) + 3, 10)
    )


def exported(
    module: torch.nn.Module,
    inputs: Sequence[torch.Tensor],
    axes: Mapping[str, Mapping[int, str]] | None = None,
    opset: int = 17,
    outputs: Sequence[str] = ("y",),
    names: Sequence[str] = ("x",),
) -> onnx.ModelProto:
    """What torch's exporter by tracing writes."""
    file = io.BytesIO()
    torch.onnx.export(
        module.eval(),
        tuple(inputs),
        file,  # type: ignore[arg-type]
        input_names=list(names),
        output_names=list(outputs),
        dynamic_axes={name: dict(one) for name, one in (axes or {}).items()},
        opset_version=opset,
        dynamo=False,
    )
    return onnx.load_from_string(file.getvalue())
