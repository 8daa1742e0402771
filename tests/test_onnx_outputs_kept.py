"""ONNX models that are no more than recurrent layers keep their inputs and outputs when they become code; and what refusals say."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import parity
from parity.frameworks.onnx.own import is_described
from parity.frameworks.onnx.whole.reading import graph_of
from parity.graph.folder import write_code
from parity.sources import open_source

FEATURES, UNITS, BATCH, TIME = 4, 6, 3, 5
TOLERANCE = 1e-5
"""Values within 1 of two or three layers of six units in float32."""


class Recurrent(torch.nn.Module):
    """A recurrent layer with its states, flat."""

    def __init__(self, layer: Any, head: bool = False) -> None:
        super().__init__()
        self.layer = layer
        self.head = torch.nn.Linear(UNITS, 7) if head else None

    def forward(self, x: Any, *states: Any) -> Any:
        y, ends = self.layer(x, states or None) if len(states) != 1 else self.layer(x, states[0])
        return self.head(y) if self.head else (y, *(ends if isinstance(ends, tuple) else (ends,)))


CASES: dict[str, tuple[Any, list[str], list[str]]] = {
    "both directions": (torch.nn.LSTM(FEATURES, UNITS, bidirectional=True, batch_first=True), ["x"], ["y", "h", "c"]),
    "two layers": (torch.nn.LSTM(FEATURES, UNITS, 2, bidirectional=True, batch_first=True), ["x"], ["y", "h", "c"]),
    "time first": (torch.nn.GRU(FEATURES, UNITS), ["series"], ["steps", "end"]),
    "given states": (torch.nn.LSTM(FEATURES, UNITS, batch_first=True), ["x", "h0", "c0"], ["y", "h", "c"]),
}


def export(layer: Any, names: list[str], outputs: list[str], path: Path, head: bool = False) -> tuple[Any, ...]:
    """Export a layer with its axes left open; other inputs than those of the export."""
    axes = {0: "b", 1: "t"} if layer.batch_first else {0: "t", 1: "b"}
    count = layer.num_layers * (1 + layer.bidirectional)

    def drawn(batch: int, time: int) -> tuple[Any, ...]:
        shape = (batch, time) if layer.batch_first else (time, batch)
        return (torch.randn(*shape, FEATURES), *(torch.randn(count, batch, UNITS) for _ in names[1:]))

    dynamic = {names[0]: axes, **{name: {1: "b"} for name in names[1:]}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Recurrent(layer, head).eval(),
            drawn(2, 8),
            path,
            dynamo=False,
            input_names=names,
            output_names=outputs,
            dynamic_axes=dynamic,
        )
    return drawn(BATCH, TIME)


def written_module(folder: Path) -> Any:
    """The module of a folder, loaded anew."""
    spec = importlib.util.spec_from_file_location(f"written_{folder.parent.name}_{folder.name}", folder / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.load()


def run_by_onnxruntime(path: Path, inputs: list[Any]) -> dict[str, Any]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    given = dict(zip((one.name for one in session.get_inputs()), inputs, strict=True))
    return dict(zip((one.name for one in session.get_outputs()), session.run(None, given), strict=True))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("target", ["torch", "keras", "onnx"])
def test_a_bare_layer_keeps_its_contract(case: str, target: Any, tmp_path: Path) -> None:
    torch.manual_seed(5)
    layer, names, outputs = CASES[case]
    tensors = export(layer, names, outputs, tmp_path / "bare.onnx")
    arrays = [one.numpy() for one in tensors]
    expected = run_by_onnxruntime(tmp_path / "bare.onnx", arrays)
    written = write_code(open_source(tmp_path / "bare.onnx", partial=True), target, tmp_path / "out")
    assert written.comparison is not None
    assert written.comparison.ok
    assert any("bare.onnx (onnxruntime)" in label for label in written.comparison.participants)
    assert not any("not run by onnxruntime" in note for note in written.comparison.notes)
    if target == "onnx":
        found = run_by_onnxruntime(tmp_path / "out" / "model.onnx", arrays)
        session = onnxruntime.InferenceSession(tmp_path / "out" / "model.onnx", providers=["CPUExecutionProvider"])
        assert [one.name for one in session.get_inputs()] == names
    elif target == "torch":
        with torch.no_grad():
            given = written_module(tmp_path / "out")(*tensors)
        found = {name: value.numpy() for name, value in given._asdict().items()}
    else:
        model = written_module(tmp_path / "out")
        assert [one.name for one in model.inputs] == names
        found = dict(zip(outputs, map(np.asarray, model(arrays if len(arrays) > 1 else arrays[0])), strict=True))
    assert list(found) == outputs == list(expected)
    for name, value in expected.items():
        assert found[name].shape == value.shape
        np.testing.assert_allclose(found[name], value, atol=TOLERANCE)
        assert abs(value).max() > 100 * TOLERANCE


def test_a_chain_keeps_its_initial_states(tmp_path: Path) -> None:
    torch.manual_seed(6)
    layer = torch.nn.GRU(FEATURES, UNITS, batch_first=True)
    x, h = export(layer, ["signal", "before"], ["scores"], tmp_path / "chain.onnx", head=True)
    (expected,) = run_by_onnxruntime(tmp_path / "chain.onnx", [x.numpy(), h.numpy()]).values()
    parity.convert(tmp_path / "chain.onnx", tmp_path / "out", to="torch")
    model = written_module(tmp_path / "out")
    with torch.no_grad():
        found, other = (model(x, state) for state in (h, torch.zeros_like(h)))
    np.testing.assert_allclose(found.numpy(), expected, atol=TOLERANCE)
    assert abs(other.numpy() - expected).max() > 100 * TOLERANCE


def test_the_layer_itself_is_still_a_layer(tmp_path: Path) -> None:
    layer, names, outputs = CASES["two layers"]
    export(layer, names, outputs, tmp_path / "bare.onnx")
    ported = parity.to_torch(tmp_path / "bare.onnx")
    assert isinstance(ported, torch.nn.LSTM)
    assert ported.num_layers == 2
    assert len(parity.read(tmp_path / "bare.onnx").recurrent) == 2
    assert parity.compare(layer, tmp_path / "bare.onnx").ok


def test_what_parity_composed_is_still_converted(tmp_path: Path) -> None:
    layer = keras.layers.GRU(UNITS, activation="gelu")
    layer.build((None, None, FEATURES))
    model = parity.to_onnx(layer)
    assert is_described(model)
    onnx.save(model, tmp_path / "own.onnx")
    for source in (model, tmp_path / "own.onnx"):
        written = write_code(open_source(source, partial=True), "torch", tmp_path / "out", overwrite=True)
        assert written.comparison is not None
        assert written.comparison.ok


# ---- what refusals say, and Trilu


def model_of(nodes: list[Any], axes: list[Any], kind: int = TensorProto.FLOAT, **constants: Any) -> onnx.ModelProto:
    x, y = helper.make_tensor_value_info("x", kind, axes), helper.make_tensor_value_info("y", kind, None)
    weights = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "g", [x], [y], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def refusal(model: onnx.ModelProto) -> str:
    with pytest.raises(parity.UnsupportedError) as caught:
        graph_of(model)
    return "\n".join(map(str, caught.value.problems))


def test_refusals_name_the_axes_in_words() -> None:
    twice = [helper.make_node("Concat", ["x", "x"], ["z"], axis=0), helper.make_node("Add", ["z", "x"], ["y"])]
    said = refusal(model_of(twice, ["batch", "time", 2]))
    assert "(2*batch, time, 2), (batch, time, 2)" in said
    tiled = [helper.make_node("Shape", ["x"], ["s"]), helper.make_node("Tile", ["x", "s"], ["y"])]
    said += refusal(model_of(tiled, ["batch", "time", 8]))
    assert "got:      batch\n" in said
    assert not any(wrong in said for wrong in ("1009", "2018", "1013", "Sym"))


def test_what_only_a_batch_of_three_would_break_is_converted() -> None:
    graph = graph_of(model_of([helper.make_node("Gather", ["x", "at"], ["y"], axis=0)], ["batch", "time", 2], at=5))
    x = np.arange(7 * 3 * 2.0).reshape(7, 3, 2)
    np.testing.assert_array_equal(graph.run({"x": x})["y"], x[5])


def test_an_unknown_shape_is_put_down_to_the_operator() -> None:
    nodes = [
        helper.make_node("Foo", ["x"], ["q"], domain="own"),
        helper.make_node("Softmax", ["q"], ["p"]),
        helper.make_node("MatMul", ["p", "p"], ["y"]),
    ]
    said = "\n".join(map(str, graph_of(model_of(nodes, ["batch", 8]), partial=True).problems))
    assert "operator own.Foo is not converted" in said
    assert "it comes from an operator that is not converted" in said
    assert "stub" not in said
    assert "Wire" not in said


@pytest.mark.parametrize("upper", [0, 1])
@pytest.mark.parametrize("diagonal", [None, 0, 1, -2])
@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL])
def test_triangles(upper: int, diagonal: int | None, kind: int) -> None:
    given = {} if diagonal is None else {"k": np.int64(diagonal)}
    model = model_of([helper.make_node("Trilu", ["x", *given], ["y"], upper=upper)], ["batch", "r", "c"], kind, **given)
    x = np.random.default_rng(7).integers(1, 9, (2, 4, 6)).astype(helper.tensor_dtype_to_np_dtype(kind))
    (expected,) = ReferenceEvaluator(model).run(None, {"x": x})
    assert 0 < np.count_nonzero(expected) < x.size
    np.testing.assert_array_equal(graph_of(model).run({"x": x})["y"], expected)


class Causal(torch.nn.Module):
    """Attention that looks back only, behind a recurrent layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.GRU(FEATURES, UNITS, batch_first=True)

    def forward(self, x: Any) -> Any:
        y, _ = self.layer(x)
        ahead = torch.triu(torch.full((x.shape[1], x.shape[1]), float("-inf")), diagonal=1)
        scores = y @ y.transpose(1, 2) + ahead
        past = torch.tril(torch.ones(x.shape[1], x.shape[1]))
        return (torch.softmax(scores, -1) @ y) * past.sum(1)[None, :, None]


@pytest.mark.parametrize("target", ["torch", "keras", "onnx"])
def test_a_causal_mask_is_converted(target: Any, tmp_path: Path) -> None:
    torch.manual_seed(8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Causal().eval(),
            (torch.randn(2, 8, FEATURES),),
            tmp_path / "causal.onnx",
            dynamo=False,
            input_names=["x"],
            output_names=["y"],
            dynamic_axes={"x": {0: "batch", 1: "time"}},
        )
    assert any(node.op_type == "Trilu" for node in onnx.load(tmp_path / "causal.onnx").graph.node)
    written = write_code(open_source(tmp_path / "causal.onnx", partial=True), target, tmp_path / "out")
    assert written.comparison is not None
    assert written.comparison.ok
