"""Whole models to code and back: architectures that people port, run in every engine on other sizes than they were converted with."""

from __future__ import annotations

import ast
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from torch import nn

import parity
from parity.deferred import blocks_of
from parity.errors import ParityError, UnsupportedError
from parity.frameworks.written import loaded
from parity.graph import code_files
from parity.graph.code import Code
from parity.graph.folder import write_code
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
