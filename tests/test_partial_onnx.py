"""ONNX models with layers that are not known: an operator of a domain of their own, to be filled in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

import parity
from parity.cli import app
from parity.errors import UnsupportedError
from parity.frameworks.onnx import unfilled
from parity.frameworks.onnx.whole.reading import graph_of
from parity.frameworks.onnx.whole.writing import model_of
from parity.frameworks.onnx.whole.writing_stubs import DOMAIN
from parity.graph import Builder, Graph, Wire
from parity.graph.folder import write_code
from parity.graph.noise import Float32Noise
from parity.graph.operations import Stated, Stub
from parity.network import Dense
from parity.sources import open_source

kl = keras.layers


class Gain(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """x * scale + shift, where the shift is an option."""

    def __init__(self, shift: float, **options: Any) -> None:
        super().__init__(**options)
        self.shift = shift

    def build(self, shape: tuple[int, ...]) -> None:
        self.scale = self.add_weight(shape=(shape[-1],), name="scale")

    def call(self, x: Any) -> Any:
        return x * self.scale + self.shift

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "shift": self.shift}


def gain(shift: float, operator: str = "Gain") -> onnx.FunctionProto:
    """What `Gain` computes, as a function of the stub's operator."""
    nodes = [
        helper.make_node("Mul", ["x", "scale"], ["scaled"]),
        helper.make_node("Constant", [], ["shift"], value=helper.make_tensor("", TensorProto.FLOAT, [], [shift])),
        helper.make_node("Add", ["scaled", "shift"], ["y"]),
    ]
    return helper.make_function(DOMAIN, operator, ["x", "scale"], ["y"], nodes, [helper.make_opsetid("", 17)])


def saved(model: keras.Model, path: Path, random: np.random.Generator) -> Path:
    model.set_weights([random.uniform(-0.8, 0.8, w.shape) for w in model.get_weights()])
    model.save(path)
    return path


@pytest.fixture
def tagger() -> keras.Model:
    """Layers before and behind the unknown one, which has a weight and an option."""
    x = inputs = keras.Input((None, 4), name="x")
    x = kl.LSTM(5, return_sequences=True, name="lstm")(x)
    x = kl.Dense(6, activation="tanh", name="before")(x)
    x = Gain(0.25, name="gain")(x)
    x = kl.Dense(3, name="after")(x)
    return keras.Model(inputs, kl.GRU(2, name="gru")(x), name="tagger")


@pytest.fixture
def written(tagger: keras.Model, tmp_path: Path, random: np.random.Generator) -> Path:
    path = saved(tagger, tmp_path / "model.keras", random)
    parity.convert(path, tmp_path / "out", to="onnx", partial=True)
    return tmp_path / "out" / "model.onnx"


def session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def filled(path: Path, *functions: onnx.FunctionProto) -> onnx.ModelProto:
    model = onnx.load(path)
    model.functions.extend(functions)
    onnx.checker.check_model(model, full_check=True)
    return model


# ---- the model


def test_the_stub_is_a_node_that_says_what_to_fill_in(written: Path) -> None:
    model = onnx.load(written)
    onnx.checker.check_model(model, full_check=True)
    (node,) = (one for one in model.graph.node if one.domain == DOMAIN)
    given = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    assert (node.op_type, node.name, given["layer_class"], given["layer_name"]) == ("Gain", "gain", b"Gain", b"gain")
    assert b'"shift": 0.25' in given["config"]
    weights = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    assert weights[node.input[1]] == [6]
    (info,) = (one for one in model.graph.value_info if one.name == node.output[0])
    assert [dim.dim_value or dim.dim_param for dim in info.type.tensor_type.shape.dim] == ["batch", "", 6]
    assert all(words in node.doc_string for words in ("layer 'gain'", f"{DOMAIN}.Gain", "(batch, ?, 6)", "(6,)"))
    assert unfilled(model) == (node.doc_string,)
    with pytest.raises(onnxruntime.capi.onnxruntime_pybind11_state.Fail, match=f"{DOMAIN}:Gain"):
        session(model)


@pytest.mark.parametrize(("shift", "same"), [(0.25, True), (0.26, False)])
def test_a_function_fills_it_in(tagger: keras.Model, written: Path, shift: float, same: bool) -> None:
    """ONNX Runtime gives the numbers of Keras, up to the noise of float32 in this very model; of another function it does not."""
    model = filled(written, gain(shift))
    assert unfilled(model) == ()
    graph = graph_of(model)
    assert not graph.stubs
    x = np.random.default_rng(3).normal(size=(3, 11, 4)).astype(np.float32)
    exact = graph.run({"x": x})["gru"]
    band = max(np.abs(graph.run({"x": x}, Float32Noise(seed))["gru"] - exact).max() for seed in range(8))
    (found,) = session(model).run(None, {"x": x})
    expected = np.asarray(tagger(x))
    assert np.abs(found - exact).max() <= 4 * band
    assert bool(np.abs(found - expected).max() <= 8 * band) is same


def test_the_filled_model_is_read_and_run_as_any(written: Path, tmp_path: Path) -> None:
    onnx.save(filled(written, gain(0.25)), tmp_path / "filled.onnx")
    network = parity.read(tmp_path / "filled.onnx")
    assert not network.stopping
    assert [layer.name for layer in network.recurrent] == ["lstm", "gru"]
    comparison = parity.compare(tmp_path / "filled.onnx")
    assert comparison.ok, str(comparison)


def test_reading_names_the_stub_and_its_place(written: Path) -> None:
    network = parity.read(written)
    first = network.stopping[0]
    assert (first.what, first.where) == (
        "operator parity.stub.Gain is not converted",
        "graph 'tagger', node 'gain' (Gain)",
    )
    assert [layer.name for layer in network.recurrent] == ["lstm", "gru"]


# ---- what people are told


def test_the_command_says_what_is_left_to_do(
    tagger: keras.Model, tmp_path: Path, random: np.random.Generator, capsys: pytest.CaptureFixture[str]
) -> None:
    path = saved(tagger, tmp_path / "model.keras", random)
    app(["convert", str(path), str(tmp_path / "out"), "--to", "onnx", "--partial"], standalone_mode=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("out: model.onnx")
    assert lines[1:3] == ["not verified: gain to be filled in", "to be filled in: gain"]
    todo = "\n".join(lines[3:])
    assert todo.startswith("note: layer 'gain' (Gain) is to be filled in: operator parity.stub.Gain takes ")
    assert all(words in todo for words in ("model.functions.append", "custom operator", "replace the node"))
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["model.onnx"]


def test_without_partial_it_is_refused(tagger: keras.Model, tmp_path: Path, random: np.random.Generator) -> None:
    path = saved(tagger, tmp_path / "model.keras", random)
    with pytest.raises(UnsupportedError, match="gain") as refused:
        parity.convert(path, tmp_path / "out", to="onnx")
    assert "--partial" in str(refused.value)
    assert not (tmp_path / "out").exists()


class Ranked(torch.nn.Module):
    """Operators that no graph has, one behind the other, one of them in a block of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = torch.nn.GRU(3, 4, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.gru(x)[0].cumsum(1)
        with torch.no_grad():
            z = torch.cummax(y, 1).values
        return torch.topk(torch.tanh(y), 2, dim=1).values + z[:, :2]


@pytest.mark.parametrize("partial", [True, False])
def test_unknown_operators_of_a_torch_module_are_all_named(partial: bool, tmp_path: Path) -> None:
    """Stubs are for files: the refusal says so, and names every operator, those behind another, too."""
    with pytest.raises(UnsupportedError) as refused:
        parity.convert(Ranked(), tmp_path / "out", to="torch", inputs=torch.ones(2, 5, 3), partial=partial)
    problems = refused.value.problems
    assert [one.where.split("'")[1] for one in problems] == [
        f"aten.{name}.default" for name in ("cumsum", "cummax", "topk")
    ]
    for one, line in zip(problems, ("cumsum(1)", "torch.cummax(y, 1)", "torch.topk("), strict=True):
        assert line in one.where
        assert "--partial" in one.remedy
        assert "Keras files" in one.remedy
    assert not (tmp_path / "out").exists()


# ---- shapes behind stubs


def test_a_sequential_that_ends_with_a_stub(tmp_path: Path, random: np.random.Generator) -> None:
    """What its last layer gives is stated nowhere: an output needs a shape, which is a guess that is named."""
    layers = [kl.Dense(6, name="before"), Gain(0.5, name="one"), kl.Dense(3, name="middle"), Gain(0.5, name="two")]
    model = keras.Sequential([keras.Input((None, 4), name="x"), *layers])
    path = saved(model, tmp_path / "model.keras", random)
    done = write_code(open_source(path, partial=True), "onnx", tmp_path / "out", partial=True)
    assert done.stubs == ("one", "two")
    assert [("declared with 3 axes" in note) for note in done.notes] == [False, True]
    found = filled(tmp_path / "out" / "model.onnx", gain(0.5), gain(0.5, "Gain_2"))
    assert [one.op_type for one in found.graph.node if one.domain == DOMAIN] == ["Gain", "Gain_2"]
    x = np.random.default_rng(4).normal(size=(2, 5, 4)).astype(np.float32)
    np.testing.assert_allclose(session(found).run(None, {"x": x})[0], np.asarray(model(x)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shifts", [(0.5, 0.75), (0.5, 0.5)])
def test_layers_of_one_class_are_filled_in_one_by_one(
    shifts: tuple[float, float], tmp_path: Path, random: np.random.Generator
) -> None:
    """Those with the same options, too: what tells them apart may be what is not known."""
    x = inputs = keras.Input((4,), name="x")
    for shift in shifts:
        x = Gain(shift)(x)
    model = keras.Model(inputs, kl.Dense(3)(kl.add([x, inputs])))
    path = saved(model, tmp_path / "model.keras", random)
    parity.convert(path, tmp_path / "out", to="onnx", partial=True)
    x = np.random.default_rng(4).normal(size=(2, 4)).astype(np.float32)
    for own, same in ((shifts, True), ((0.5, 0.8), False)):
        found = filled(tmp_path / "out" / "model.onnx", gain(own[0]), gain(own[1], "Gain_2"))
        assert np.allclose(session(found).run(None, {"x": x})[0], np.asarray(model(x)), rtol=1e-5, atol=1e-6) is same


def test_calls_of_a_shared_layer_have_one_operator(tmp_path: Path, random: np.random.Generator) -> None:
    x = inputs = keras.Input((4,), name="x")
    shared = Gain(0.5, name="shared")
    model = keras.Model(inputs, kl.Dense(3)(kl.add([shared(shared(x)), inputs])))
    path = saved(model, tmp_path / "model.keras", random)
    parity.convert(path, tmp_path / "out", to="onnx", partial=True)
    found = filled(tmp_path / "out" / "model.onnx", gain(0.5))
    nodes = [one for one in found.graph.node if one.domain == DOMAIN]
    assert [one.op_type for one in nodes] == ["Gain", "Gain"]
    assert nodes[0].input[1] == nodes[1].input[1]
    x = np.random.default_rng(4).normal(size=(2, 4)).astype(np.float32)
    np.testing.assert_allclose(session(found).run(None, {"x": x})[0], np.asarray(model(x)), rtol=1e-5, atol=1e-6)


def stubbed(stub: Stub, behind: int | None = 5, merged: bool = False) -> Graph:
    build = Builder("model")
    x = build.input("x", ("batch", "time", 4))
    y = build.call(stub, x)
    y = build.add(y, x) if merged else y
    if behind is not None:
        y = build.call(Dense("after", np.ones((behind, 2), np.float32)), y)
    return build.graph({"y": y})


def test_an_open_length_is_that_of_the_inputs_only_where_a_layer_wants_it() -> None:
    stub = Stub("half", "Half", stated=(Stated((None, None, 4)),))
    shapes = []
    for merged in (False, True):
        (output,) = model_of(stubbed(stub, 4, merged), partial=True).graph.output
        shapes.append([dim.dim_value or dim.dim_param for dim in output.type.tensor_type.shape.dim])
    assert shapes == [["batch", "", 2], ["batch", "time", 2]]


def test_what_is_behind_an_unknown_shape_is_refused() -> None:
    with pytest.raises(UnsupportedError) as refused:
        model_of(stubbed(Stub("odd", "Odd")), partial=True)
    assert [(one.where, "'odd'" in one.expected) for one in refused.value.problems] == [("layer 'after'", True)]


def test_a_stub_of_several_values() -> None:
    build = Builder("model")
    x = build.input("x", ("batch", "time", 4))
    stated = (Stated((None, 4)), Stated((None, None), "bool"))
    node = build.call(Stub("two", "Two", stated=stated, outputs=2), x)
    y = build.call(Dense("after", np.ones((4, 2), np.float32)), node)
    model = model_of(build.graph({"y": y, "flags": Wire(node.node, 1)}), partial=True)
    (stub,) = (one for one in model.graph.node if one.domain == DOMAIN)
    types = {one.name: one.type.tensor_type.elem_type for one in model.graph.value_info}
    assert [types[name] for name in stub.output] == [TensorProto.FLOAT, TensorProto.BOOL]
    assert [len(one.type.tensor_type.shape.dim) for one in model.graph.output] == [2, 2]


class Pool(keras.layers.Layer):  # type: ignore[misc]
    """The mean over the valid steps."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.supports_masking = True

    def compute_mask(self, x: Any, mask: Any = None) -> None:
        return None

    def call(self, x: Any, mask: Any = None) -> Any:
        valid = keras.ops.cast(mask, "float32")[:, :, None]
        return keras.ops.sum(x * valid, 1) / keras.ops.sum(valid, 1)


def test_a_stub_takes_the_mask_that_its_layer_took(tmp_path: Path, random: np.random.Generator) -> None:
    x = tokens = keras.Input((None,), name="tokens", dtype="int32")
    x = kl.LSTM(3, return_sequences=True, name="lstm")(kl.Embedding(7, 4, mask_zero=True, name="words")(x))
    model = keras.Model(tokens, kl.Dense(2, name="after")(Pool(name="pool")(x)))
    path = saved(model, tmp_path / "model.keras", random)
    parity.convert(path, tmp_path / "out", to="onnx", partial=True)
    nodes = [
        helper.make_node("Cast", ["mask"], ["valid"], to=TensorProto.FLOAT),
        helper.make_node("Constant", [], ["one"], value_ints=[1]),
        helper.make_node("Constant", [], ["two"], value_ints=[2]),
        helper.make_node("Unsqueeze", ["valid", "two"], ["column"]),
        helper.make_node("Mul", ["x", "column"], ["masked"]),
        helper.make_node("ReduceSum", ["masked", "one"], ["sum"], keepdims=0),
        helper.make_node("ReduceSum", ["column", "one"], ["count"], keepdims=0),
        helper.make_node("Div", ["sum", "count"], ["y"]),
    ]
    pool = helper.make_function(DOMAIN, "Pool", ["x", "mask"], ["y"], nodes, [helper.make_opsetid("", 17)])
    found = filled(tmp_path / "out" / "model.onnx", pool)
    x = np.array([[1, 2, 3, 4, 5], [6, 5, 1, 0, 0], [2, 0, 0, 0, 0]])
    np.testing.assert_allclose(session(found).run(None, {"tokens": x})[0], np.asarray(model(x)), rtol=1e-5, atol=1e-6)


HOSTILE = ['a"b\\', "", "../x", "größe\ud800", "a\0b", "1"]


def test_names_and_options_from_files_do_no_harm() -> None:
    for text in HOSTILE:
        options = {text: text, "nested": {"set": {1, 2}, 3: (None,)}}
        stub = Stub(text, text, options, {text: np.ones(3, np.float32)}, stated=(Stated((None, None, 5)),))
        model = model_of(stubbed(stub), partial=True)
        onnx.checker.check_model(model)
        (node,) = (one for one in model.graph.node if one.domain == DOMAIN)
        assert node.op_type.isidentifier()
        assert onnx.load_from_string(model.SerializeToString()) == model
