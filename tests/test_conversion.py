"""What `parity convert` proves, and what it tells of a file that does not say everything."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import warnings
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import pytest
import tf_keras
import torch
from keras import layers as kl
from onnx import TensorProto, helper, numpy_helper
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import parity
from parity.cli import main
from parity.conversion import convert, write_converted
from parity.errors import FormatError, ParityError, UnsupportedError
from parity.files import read_file
from parity.frameworks.onnx import giving
from parity.identity import identical
from tests.whole_checks import assert_whole


def said(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    with pytest.raises(SystemExit) as stop:
        main(["convert", *map(str, arguments)])
    out = capsys.readouterr()
    assert not stop.value.code, out.err
    return out.out


def saved(path: Path, *layers: Any) -> Path:
    random = np.random.default_rng(7)
    model = keras.Sequential([keras.Input((None, 3)), *layers])
    model.set_weights([random.uniform(-0.8, 0.8, weight.shape) for weight in model.get_weights()])
    model.save(path)
    return path


def test_a_composed_graph_is_run_before_it_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of its own composition parity reads a description: a fault of the writer shows only in a run."""
    path = saved(tmp_path / "sum.keras", kl.Bidirectional(kl.LSTM(4, return_sequences=True), merge_mode="sum"))
    network = read_file(path)
    proof = write_converted(network, path, tmp_path / "good.onnx").proof
    assert proof.startswith("ONNX Runtime computes")
    monkeypatch.setitem(giving._MERGES, "sum", "Mul")
    with pytest.raises(ParityError, match="ONNX Runtime says so"):
        write_converted(network, path, tmp_path / "wrong.onnx")
    assert not (tmp_path / "wrong.onnx").exists()


@pytest.mark.parametrize("suffix", [".npz", ".pt", ".onnx", ".keras"])
def test_what_a_file_does_not_say_is_told_by_convert(
    suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(torch.nn.RNN(3, 4).state_dict(), tmp_path / "rnn.pt")
    assert "nonlinearity tanh" in said(capsys, tmp_path / "rnn.pt", tmp_path / f"new_rnn{suffix}")
    layer = kl.LSTM(4)
    layer.build((None, None, 3))
    np.savez(tmp_path / "weights.npz", *layer.get_weights())
    out = said(capsys, tmp_path / "weights.npz", tmp_path / f"new_weights{suffix}")
    assert "assumed, for the file does not say it: layer_0" in out
    assert "recurrent_activation='sigmoid'" in out


def test_two_directions_or_two_layers_is_not_guessed(tmp_path: Path) -> None:
    layer = kl.Bidirectional(kl.LSTM(3, return_sequences=True))
    layer.build((None, None, 3))
    np.savez(tmp_path / "both.npz", *layer.get_weights())
    network = parity.read(tmp_path / "both.npz")
    assert [one.spec.directions for one in network.recurrent] == [("forward",)] * 2
    with pytest.raises(UnsupportedError, match="do not say how the layers are connected"):
        network.whole()


def test_a_simple_rnn_without_names_is_not_two_dense_layers(tmp_path: Path) -> None:
    layer = kl.SimpleRNN(3)
    layer.build((None, None, 3))
    np.savez(tmp_path / "rnn.npz", *layer.get_weights())
    network = parity.read(tmp_path / "rnn.npz")
    assert network.specs["layer_0"].kind == "rnn"
    assert "activation='tanh'" in network.details["assumed"]


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_composition_is_not_taken_for_a_module_of_torch(suffix: str, tmp_path: Path) -> None:
    """Without the description nothing in the file may look like the weights of an nn.GRU, which computes something else."""
    path = saved(tmp_path / "gru.keras", kl.GRU(4, reset_after=False, go_backwards=True))
    convert(path, tmp_path / f"gru{suffix}")
    assert identical(read_file(path), read_file(tmp_path / f"gru{suffix}"))
    bare = tmp_path / f"bare{suffix}"
    if suffix == ".pt":
        torch.save(dict(torch.load(tmp_path / "gru.pt", weights_only=True)), bare)
    else:
        save_file(load_file(tmp_path / "gru.safetensors"), bare)
    assert parity.read(bare).recurrent == ()
    with pytest.raises(UnsupportedError, match="no recurrent weights"):
        parity.to_torch(bare)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_described_tensors_may_be_cast(dtype: torch.dtype, tmp_path: Path) -> None:
    path = saved(tmp_path / "model.keras", kl.LSTM(4), kl.Dense(2))
    convert(path, tmp_path / "model.safetensors")
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        metadata = file.metadata()
    tensors = {name: tensor.to(dtype) for name, tensor in load_file(tmp_path / "model.safetensors").items()}
    save_file(tensors, tmp_path / "cast.safetensors", metadata=metadata)
    network = parity.read(tmp_path / "cast.safetensors")
    kernel = network.recurrent[0].weights[0].kernel
    assert kernel.dtype == np.float32
    before = read_file(path).recurrent[0].weights[0].kernel
    np.testing.assert_array_equal(kernel, torch.from_numpy(before.copy()).to(dtype).float().numpy())


def node_with_state(path: Path) -> Path:
    random = np.random.default_rng(3)
    shapes = {"W": (1, 16, 3), "R": (1, 16, 4), "B": (1, 32), "h0": (1, 2, 4), "c0": (1, 2, 4)}
    constants = [
        numpy_helper.from_array(random.normal(size=shape).astype(np.float32), name) for name, shape in shapes.items()
    ]
    node = helper.make_node("LSTM", ["X", "W", "R", "B", "", "h0", "c0"], ["Y"], "rec", hidden_size=4)
    x = helper.make_tensor_value_info("X", TensorProto.FLOAT, ["time", 2, 3])
    y = helper.make_tensor_value_info("Y", TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "g", [x], [y], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8), path)
    return path


def test_a_state_that_stays_behind_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = node_with_state(tmp_path / "state.onnx")
    assert_whole(path, "initial state")  # the whole model keeps it; the layer alone cannot
    with pytest.raises(UnsupportedError, match="initial state"):
        convert(path, tmp_path / "whole.keras")
    out = said(capsys, path, tmp_path / "rec.safetensors", "--layer", "rec")
    assert "in its file this layer is" in out
    assert "initial_h" in out


def test_a_node_by_itself_becomes_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It keeps its own inputs and outputs, the time first, and is run by its own engine."""
    onnx.save(parity.to_onnx(torch.nn.LSTM(3, 4, 2, bidirectional=True)), tmp_path / "lstm.onnx")
    out = said(capsys, tmp_path / "lstm.onnx", tmp_path / "code", "--to", "torch")
    assert "lstm.onnx (onnxruntime) and " in out
    assert "agree with the float64 reference" in out


def test_a_last_transpose_is_not_lost(tmp_path: Path) -> None:
    module = torch.nn.LSTM(3, 4)
    model = parity.to_onnx(module)
    model.graph.node.append(helper.make_node("Squeeze", ["Y", "axes"], ["flat"]))
    model.graph.initializer.append(numpy_helper.from_array(np.array([1]), "axes"))
    model.graph.node.append(helper.make_node("Transpose", ["flat"], ["turned"], perm=[0, 2, 1]))
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("turned", TensorProto.FLOAT, None))
    onnx.save(model, tmp_path / "turned.onnx")
    network = assert_whole(tmp_path / "turned.onnx", "not batch first")
    assert network.graph.shapes({"batch": 2, "time": 7})[network.graph.outputs["turned"]] == (7, 4, 2)
    with pytest.raises(UnsupportedError, match="not batch first"):
        convert(tmp_path / "turned.onnx", tmp_path / "turned.keras")


def test_a_hard_sigmoid_of_keras_2_is_not_opened_as_that_of_keras_3(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inner = tf_keras.layers.LSTM(4, recurrent_activation="hard_sigmoid")
    model = tf_keras.Sequential([tf_keras.Input((None, 3)), inner])
    with warnings.catch_warnings(action="ignore"):  # "this file format is considered legacy"
        model.save(tmp_path / "old.h5")
    out = said(capsys, tmp_path / "old.h5", tmp_path / "new.h5")
    assert "refuses to open the file" in out
    with pytest.raises((TypeError, ValueError), match="time_major"):
        keras.saving.load_model(tmp_path / "new.h5")
    x = np.random.default_rng(1).normal(size=(2, 5, 3)).astype(np.float32)
    again = tf_keras.models.load_model(tmp_path / "new.h5", compile=False)
    np.testing.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))
    convert(tmp_path / "old.h5", tmp_path / "new.keras")
    today: Any = keras.saving.load_model(tmp_path / "new.keras")
    np.testing.assert_allclose(today.predict(x, verbose=0), model.predict(x, verbose=0), rtol=0, atol=1e-6)


def test_weights_alone_of_a_composed_layer_are_refused(tmp_path: Path) -> None:
    torch.save(torch.nn.LSTM(3, 5, proj_size=2).state_dict(), tmp_path / "projected.pt")
    with pytest.raises(UnsupportedError, match=r"weights alone cannot say these layers(.|\n)*write \.keras"):
        convert(tmp_path / "projected.pt", tmp_path / "projected.weights.h5")


def test_arrays_that_are_mostly_nothing_take_little_memory(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(4):
            array = np.zeros((1 << 20, 8), np.float32)
            with archive.open(f"arr_{number}.npy", "w") as member:
                np.lib.format.write_array(member, array)
    with pytest.raises(FormatError, match=r"claims more|too large together"):
        parity.read(tmp_path / "bomb.npz")


def test_many_layers_and_arrays_are_read(tmp_path: Path) -> None:
    many = {f"{name}_l{number}": torch.ones(4, 1) for number in range(3000) for name in ("weight_ih", "weight_hh")}
    save_file(many, tmp_path / "many.safetensors")
    assert len(parity.read(tmp_path / "many.safetensors").recurrent) == 3000
    np.savez(tmp_path / "many.npz", *[np.ones(2, np.float32)] * 4000)
    assert len(parity.read(tmp_path / "many.npz").opaque) == 4000


def test_convert_of_a_layer_that_is_replaced_says_it_has_other_weights(tmp_path: Path) -> None:
    path = saved(tmp_path / "model.keras", kl.LSTM(4))
    network = read_file(path)
    layer = network.recurrent[0]
    changed = replace(layer, weights=tuple(one.with_held(kernel=-one.kernel) for one in layer.weights))
    assert not identical(network, replace(network, layers=(changed,)))


@pytest.mark.parametrize("between", [kl.RepeatVector(6), kl.Activation("relu")])
def test_layers_whose_sizes_fit_are_not_taken_for_a_stack(between: Any, tmp_path: Path) -> None:
    first = kl.LSTM(3, return_sequences=not isinstance(between, kl.RepeatVector), name="enc")
    model = keras.Sequential([keras.Input((6, 3)), first, between, kl.LSTM(3, return_sequences=True, name="dec")])
    model.save_weights(tmp_path / "model.weights.h5")
    network = parity.read(tmp_path / "model.weights.h5")
    assert [layer.name for layer in network.recurrent] == ["enc", "dec"]
    with pytest.raises(UnsupportedError, match="do not say how the layers are connected"):
        convert(tmp_path / "model.weights.h5", tmp_path / "model.onnx")


def test_a_stack_of_a_checkpoint_by_the_name_of_its_module(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(4)
    modules = torch.nn.ModuleDict({"encoder": torch.nn.LSTM(3, 4, 2), "head": torch.nn.Linear(4, 2)})
    torch.save({"state_dict": modules.state_dict(), "optimizer": {}}, tmp_path / "checkpoint.pt")
    out = said(capsys, tmp_path / "checkpoint.pt", tmp_path / "encoder.onnx", "--layer", "encoder")
    assert "left out: optimizer" in out
    with pytest.raises(SystemExit) as stop:
        main(["compare", str(tmp_path / "checkpoint.pt"), str(tmp_path / "encoder.onnx"), "--layer", "encoder"])
    out = capsys.readouterr().out + str(stop.value.code)
    assert "no recurrent layer" not in out
    with pytest.raises(SystemExit) as stop:
        main(["compare", str(tmp_path / "checkpoint.pt"), str(tmp_path / "checkpoint.pt"), "--layer", "encoder"])
    out = capsys.readouterr().out
    assert not stop.value.code
    assert "(torch)" in out


def test_a_comparison_of_descriptions_says_that_no_framework_ran() -> None:
    layer = parity.read(torch.nn.GRU(3, 4)).recurrent[0]
    assert any("only the float64 reference ran it" in note for note in parity.compare(layer, layer).notes)
    assert not any("only the float64" in note for note in parity.compare(layer, layer, engines=["torch"]).notes)


@pytest.mark.parametrize("config", ["{}", "missing.json", {"class_name": "Sequential"}])
def test_a_configuration_that_is_no_file(config: Any, tmp_path: Path) -> None:
    path = saved(tmp_path / "model.keras", kl.LSTM(4))
    convert(path, tmp_path / "model.weights.h5")
    with pytest.raises(ParityError, match=r"the configuration is no file(.|\n)*to_json"):
        parity.read(tmp_path / "model.weights.h5", config=config)


def test_training_state_that_stays_behind_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tf_keras.Sequential([tf_keras.Input((None, 3)), tf_keras.layers.LSTM(4), tf_keras.layers.Dense(1)])
    model.compile("adam", "mse")
    model.fit(np.ones((2, 5, 3)), np.ones((2, 1)), verbose=0)
    with warnings.catch_warnings(action="ignore"):  # "this file format is considered legacy"
        model.save(tmp_path / "old.h5")
    out = said(capsys, tmp_path / "old.h5", tmp_path / "new.keras")
    assert "left out: the optimizer's weights, how the model was compiled" in out
    with pytest.raises(ParityError, match="the target is the source itself"):
        convert(tmp_path / "old.h5", tmp_path / "old.h5", overwrite=True)


def test_weights_alone_with_their_configuration_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What weights alone do not say (go_backwards, return_sequences, the activation) is in the JSON, and reaches every command."""
    layers = kl.LSTM(4, return_sequences=True, go_backwards=True), kl.GRU(3), kl.Dense(2, activation="tanh")
    model = saved(tmp_path / "model.keras", *layers)
    weights = tmp_path / "port.weights.h5"
    keras.models.load_model(model).save_weights(weights)
    config = tmp_path / "architecture.json"
    config.write_text(keras.models.load_model(model).to_json())

    words = said(capsys, weights, tmp_path / "whole.keras", "--config", config)
    assert "architecture is from architecture.json" in words
    assert identical(read_file(tmp_path / "whole.keras"), read_file(model))
    assert not identical(read_file(weights), read_file(model))
    for command, expected in (
        (["inspect", weights, "--config", config], "go_backwards"),
        (["compare", weights, model, "--config", config, "--engines", "keras"], "agree"),
    ):
        with pytest.raises(SystemExit) as stop:
            main([str(word) for word in command])
        out = capsys.readouterr()
        assert not stop.value.code, out.err
        assert expected in out.out


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".npz", ".keras", ".h5", ".weights.h5", ".onnx"])
@pytest.mark.parametrize("units", [6, 600])
def test_numbers_in_another_byte_order_are_the_same_numbers(units: int, suffix: str, tmp_path: Path) -> None:
    own = {name: tensor.detach().numpy() for name, tensor in torch.nn.GRU(3, units).named_parameters()}
    proofs = []
    for order in "<>":
        turned = {name: array.astype(f"{order}f4") for name, array in own.items()}
        path = tmp_path / f"{'big' if order == '>' else 'little'}.npz"
        np.savez(path, **turned)  # type: ignore[arg-type]  # numpy's hints take every keyword for an option
        target = path.with_suffix(suffix) if suffix != ".npz" else tmp_path / f"of_{path.name}"
        proofs.append(write_converted(read_file(path), path, target).proof)
        found = read_file(target).recurrent[0].weights[0]
        np.testing.assert_array_equal(found.recurrent, own["weight_hh_l0"].reshape(3, units, units))
    assert proofs[0] == proofs[1]
