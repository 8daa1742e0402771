"""Whole models to code and back: architectures that people port, run in every engine on other sizes than they were converted with."""

from __future__ import annotations

import ast
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import parity
from parity.deferred import blocks_of
from parity.errors import ParityError, UnsupportedError
from parity.frameworks.written import loaded
from parity.graph import code_files
from parity.graph.code import Code
from parity.graph.folder import write_code
from parity.graph.torch_code import torch_code
from parity.sources import open_source
from tests.architectures import keras_models, torch_models

BATCH, TIME = 2, 24
"""Sizes that nothing was converted with; the time is a multiple of what the poolings need."""


def check_source(folder: Path) -> str:
    """The code passes the linter and the formatter as they are by default, and needs nothing but its framework."""
    source = folder / "model.py"
    ruff = [sys.executable, "-m", "ruff"]
    subprocess.run([*ruff, "check", "--isolated", "--quiet", str(source)], check=True)
    subprocess.run([*ruff, "format", "--isolated", "--check", "--quiet", str(source)], check=True)
    text = source.read_text(encoding="utf-8")
    imported = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(text))
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
    }
    assert not imported & {"parity", "numpy", "safetensors", "tensorflow", "einops"}, imported
    return text


@pytest.mark.parametrize("name", keras_models.ARCHITECTURES)
def test_a_keras_model_in_every_engine(name: str) -> None:
    model = keras_models.randomized(keras_models.ARCHITECTURES[name]())
    comparison = parity.compare(model, batch=BATCH, time=TIME)
    assert comparison.ok, str(comparison)
    assert set(comparison.results) == {"keras", "torch", "onnxruntime", "reference"}


@pytest.mark.parametrize("name", torch_models.ARCHITECTURES)
def test_a_torch_model_in_every_engine(name: str) -> None:
    kind, draw = torch_models.ARCHITECTURES[name]
    module = torch_models.randomized(kind)
    network = parity.read(module, tuple(value.numpy() for value in draw(3, 10)))
    opened = open_source(module, partial=True, inputs=draw(3, 10))
    inputs = [value.numpy() for value in draw(BATCH, TIME)]
    comparison = parity.compare(opened, inputs=inputs, engines=["keras", "torch", "onnxruntime"])
    assert comparison.ok, str(comparison)
    assert set(comparison.results) == {"keras", "torch", "onnxruntime", "reference"}
    assert [layer.name for layer in network.recurrent]


@pytest.mark.parametrize("name", keras_models.ARCHITECTURES)
def test_a_keras_file_as_torch_code(name: str, tmp_path: Path) -> None:
    model = keras_models.randomized(keras_models.ARCHITECTURES[name]())
    model.save(tmp_path / "model.keras")
    written = write_code(open_source(tmp_path / "model.keras", partial=True), "torch", tmp_path / "out")
    assert written.files == ("model.py", "model.safetensors", "report.html")
    assert written.comparison is not None
    assert written.comparison.ok, str(written.comparison)
    text = check_source(tmp_path / "out")
    for layer in model.layers:
        if layer.weights:
            assert layer.name in text, layer.name


@pytest.mark.parametrize("name", torch_models.ARCHITECTURES)
def test_a_torch_module_as_keras_code(name: str, tmp_path: Path) -> None:
    kind, draw = torch_models.ARCHITECTURES[name]
    module = torch_models.randomized(kind)
    opened = open_source(module, partial=True, inputs=draw(3, 10))
    written = write_code(opened, "keras", tmp_path / "out")
    assert written.files == ("model.py", "model.weights.h5", "report.html")
    assert written.comparison is not None
    assert written.comparison.ok, str(written.comparison)
    check_source(tmp_path / "out")
    inputs = draw(BATCH, TIME)
    with torch.no_grad():
        expected = module(*inputs)
    found = loaded(tmp_path / "out")([value.numpy() for value in inputs] if len(inputs) > 1 else inputs[0].numpy())
    flat = keras.tree.flatten(found)
    wanted = (
        list(expected.values())
        if isinstance(expected, dict)
        else expected
        if isinstance(expected, tuple)
        else [expected]
    )
    for one, other in zip(flat, wanted, strict=True):
        np.testing.assert_allclose(np.asarray(one), other.numpy(), rtol=0, atol=1e-5)


def with_halves_swapped(code: Code, target: str) -> Code:
    """The gates of one recurrent kernel in a wrong order."""
    mark, axis = ("weight_hh_l0", 0) if target == "torch" else ("cell/vars/1", 1)
    name = next(name for name in code.weights if name.endswith(mark))
    array = code.weights[name].whole()
    swapped = np.roll(array, array.shape[axis] // 2, axis)
    return replace(code, weights={**code.weights, name: blocks_of(swapped)})


@pytest.mark.parametrize("name", ["deepspeech", "seq2seq", "tagger"])
@pytest.mark.parametrize("target", ["torch", "keras"])
def test_a_wrong_weight_in_the_code_is_found(
    name: str, target: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The mutant twin: two halves of a recurrent kernel change places on the way, and nothing is kept."""
    model = keras_models.randomized(keras_models.ARCHITECTURES[name]())
    write = getattr(code_files, f"{target}_code")
    monkeypatch.setattr(code_files, f"{target}_code", lambda graph: with_halves_swapped(write(graph), target))
    with pytest.raises(ParityError, match="does not compute the same"):
        write_code(open_source(model, partial=True), target, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_layer_by_layer_names_the_first_that_differs() -> None:
    model = keras_models.randomized(keras_models.open_unmix())
    port = keras.models.clone_model(model)
    port.set_weights(model.get_weights())
    assert parity.compare(model, engines=["keras", "torch", "onnxruntime"], layers=True, batch=BATCH, time=TIME).ok
    opened = open_source(model, partial=True)
    kernel = model.get_layer("lstm1").weights[0]
    kernel.assign(kernel + 1e-3)
    comparison = parity.compare(opened, engines=["keras"], layers=True, batch=BATCH, time=TIME)
    assert comparison.verdict == "disagree"
    assert "The first layer that differs in keras: lstm1." in comparison.sentence
    differing = [row.quantity for row in comparison.table if row.rule == "layer" and row.verdict == "disagree"]
    assert differing == ["layer lstm1"]


def test_a_layer_that_is_not_known_is_named_and_can_be_stubbed(tmp_path: Path) -> None:
    class Strange(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
        def call(self, x: Any) -> Any:
            return x * 2.0

    x = inputs = keras.Input((None, 4), name="x")
    x = keras.layers.LSTM(5, return_sequences=True, name="lstm")(x)
    x = keras.layers.Dense(3, name="after")(Strange(name="strange")(x))
    model = keras.Model(inputs, x, name="with_strange")
    model.save(tmp_path / "model.keras")
    opened = open_source(tmp_path / "model.keras", partial=True)
    with pytest.raises(UnsupportedError, match="strange"):
        write_code(opened, "torch", tmp_path / "out")
    written = write_code(opened, "torch", tmp_path / "out", partial=True)
    assert written.stubs == ("strange",)
    assert written.comparison is None
    module = loaded(tmp_path / "out")
    with pytest.raises(NotImplementedError):
        module(torch.zeros(2, 3, 4))


def test_the_code_needs_only_its_framework(tmp_path: Path) -> None:
    """A process that has neither parity nor NumPy on its way runs what was written."""
    model = keras_models.randomized(keras_models.tagger())
    write_code(open_source(model, partial=True), "torch", tmp_path / "out")
    script = (
        "import sys, torch; sys.modules['parity'] = sys.modules['safetensors'] = None; import model; tagger = model.load();"
        "print(tuple(tagger(torch.ones(2, 7, dtype=torch.long)).shape))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path / "out", capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "(2, 7, 5)"


def test_several_outputs_keep_their_names_and_order(tmp_path: Path) -> None:
    model = keras_models.randomized(keras_models.eq_transformer())
    write_code(open_source(model, partial=True), "torch", tmp_path / "out")
    module: nn.Module = loaded(tmp_path / "out")
    found = module(torch.randn(2, 16, 3))
    assert found._fields == ("detection", "p", "s")


def test_other_backends_of_keras_run_a_whole_model(tmp_path: Path) -> None:
    model = keras_models.randomized(keras_models.seq2seq())
    model.save(tmp_path / "model.keras")
    comparison = parity.compare(tmp_path / "model.keras", engines=["keras:torch", "keras:jax"], batch=BATCH, time=TIME)
    assert comparison.ok, str(comparison)
    assert comparison.results["keras:jax"].settings["backend"].startswith("jax")
    opened = open_source(
        torch_models.randomized(torch_models.DeepSpeech), partial=True, inputs=np.ones((3, 13, 10), np.float32)
    )
    assert parity.compare(opened, engines=["keras:torch"], batch=BATCH, time=TIME).ok


class TacotronPort(nn.Module):
    """The encoder of Tacotron 2 as somebody ports it by hand from Keras: with torch's own epsilon."""

    def __init__(self, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.table = nn.Embedding(19, 8)
        self.convs = nn.ModuleList(nn.Conv1d(8, 8, 5, padding=2) for _ in range(3))
        self.norms = nn.ModuleList(nn.BatchNorm1d(8, epsilon) for _ in range(3))
        self.rnn = nn.LSTM(8, 4, batch_first=True, bidirectional=True)

    def forward(self, characters: Tensor) -> Tensor:
        x = self.table(characters).transpose(1, 2)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = torch.relu(norm(conv(x)))
        output: Tensor = self.rnn(x.transpose(1, 2))[0]
        return output


def test_the_first_wrong_layer_of_a_port_by_hand_is_named() -> None:
    model = keras_models.randomized(keras_models.tacotron_encoder())
    tokens = np.random.default_rng(1).integers(
        0, 19, (3, 8)
    )  # as many steps as channels: the axes can only be told by the values
    for epsilon, verdict in ((1e-3, "agree"), (1e-5, "disagree")):
        port = TacotronPort(epsilon).eval()
        with warnings.catch_warnings(action="ignore"):  # transfer says what epsilon does
            parity.transfer(model, port)
        comparison = parity.compare(model, port, inputs=tokens, layers=True)
        assert comparison.verdict == verdict, str(comparison)
    assert "The first layer that differs in TacotronPort 'TacotronPort' (torch): bn0." in comparison.sentence
    rows = [row for row in comparison.table if row.rule == "layer" and row.verdict == "disagree"]
    assert [row.quantity for row in rows] == ["layer bn0", "layer bn1", "layer bn2"]


def test_equal_lengths_of_axes_accuse_no_layer() -> None:
    inputs = keras.Input((None, 17))
    x = keras.layers.Conv1D(17, 3, padding="same", name="conv")(inputs)
    model = keras_models.randomized(keras.Model(inputs, keras.layers.LSTM(17, return_sequences=True)(x)))
    comparison = parity.compare(model, layers=True, batch=17, time=17)
    assert comparison.ok, str(comparison)


def test_a_port_that_cannot_be_read_is_run_as_it_is() -> None:
    model = keras_models.randomized(keras_models.speaker_encoder())

    class Loop(nn.Module):
        def __init__(self, factor: float) -> None:
            super().__init__()
            self.inner, self.factor = parity.to_torch(model), factor

        def forward(self, x: Tensor) -> Tensor:
            rows = [self.inner(row[None]) for row in x if float(row.sum()) < np.inf]  # what torch.export does not trace
            return torch.cat(rows) * self.factor

    x = np.random.default_rng(2).standard_normal((3, 9, 10)).astype(np.float32)
    right, wrong = (parity.compare(model, Loop(factor), inputs=x) for factor in (1.0, 1.01))
    assert (right.verdict, wrong.verdict) == ("agree", "disagree")
    assert any("its layers were not looked into" in note for note in right.notes)


def test_a_written_module_that_was_changed_is_read_anew() -> None:
    model = keras_models.randomized(keras_models.dtln())
    module = parity.to_torch(model)
    assert parity.compare(model, module).ok
    module.norm.eps = 0.5
    inputs = [
        np.random.default_rng(3).standard_normal(shape).astype(np.float32) for shape in [(2, 9, 12), *[(2, 6)] * 4]
    ]
    assert parity.compare(model, module, inputs=inputs).verdict == "disagree"
    back = parity.to_keras(module, inputs=inputs)
    with torch.no_grad():
        expected = module(*(torch.from_numpy(value) for value in inputs))
    for one, other in zip(back(inputs), expected, strict=True):
        np.testing.assert_allclose(np.asarray(one), other.numpy(), rtol=0, atol=2e-6)


def test_a_fault_at_another_size_is_found_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model = keras_models.randomized(keras_models.speaker_encoder())

    def wrong_at_one_step(graph: Any) -> Code:
        code = torch_code(graph)
        lines = code.source.splitlines()
        place = next(index for index, line in enumerate(lines) if "def forward" in line)
        lines.insert(place + 1, "        mels = mels * 2 if mels.shape[1] == 1 else mels")
        return replace(code, source="\n".join(lines))

    monkeypatch.setattr(code_files, "torch_code", wrong_at_one_step)
    with pytest.raises(ParityError, match="does not compute the same"):
        write_code(open_source(model, partial=True), "torch", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_module_goes_to_a_folder_from_python(tmp_path: Path) -> None:
    kind, draw = torch_models.ARCHITECTURES["crnn"]
    module = torch_models.randomized(kind)
    folder = parity.convert(module, tmp_path / "out", to="onnx", inputs=draw(3, 10))
    assert sorted(file.name for file in folder.iterdir()) == ["model.onnx", "report.html"]
    assert parity.compare(module, folder / "model.onnx", inputs=[value.numpy() for value in draw(2, 14)]).ok


def test_names_that_are_no_names_of_python() -> None:
    first, second = keras.Input((None, 3), name="class"), keras.Input((None, 3), name='a"b')
    model = keras.Model([first, second], keras.layers.LSTM(2, name="self")(keras.layers.Add(name="x")([first, second])))
    assert parity.compare(keras_models.randomized(model), engines=["torch", "onnxruntime"]).ok


def test_states_of_a_stateful_layer_begin_with_zeros_and_stay_their_owners() -> None:
    inputs = keras.Input((None, 3), batch_size=2)
    layer = keras.layers.LSTM(4, stateful=True)
    model = keras_models.randomized(keras.Model(inputs, keras.layers.Dense(2)(layer(keras.layers.Dense(3)(inputs)))))
    x = np.random.default_rng(4).standard_normal((2, 5, 3)).astype(np.float32)
    model(x)
    before = [np.asarray(state) for state in layer.states]
    assert parity.compare(model, inputs=x, layers=True).ok
    assert all(np.array_equal(np.asarray(now), then) for now, then in zip(layer.states, before, strict=True))
