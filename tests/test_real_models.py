"""Trained models of public projects, opened as they are, converted in every direction, against outputs that others computed."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tf_keras

import parity
from parity.conversion import convert
from parity.errors import UnsupportedError
from parity.files import write_file
from parity.floor import measure
from parity.network import Embedding, Network, Recurrent
from parity.recurrent import Array
from parity.result import State
from tests.real_models import FLOORS, MODELS, ROUNDING, stored, there

ENGINES = ("keras", "torch", "onnxruntime", "reference")
WHOLE = (".keras", ".h5", ".onnx", ".safetensors", ".pt", ".npz")

pytestmark = there


# ---- ethnicolr: Keras 2.5, which Keras 3 refuses


CENSUS = MODELS / "census2010_ln_lstm.h5"


def test_the_file_that_keras_refuses_is_rescued(tmp_path: Path) -> None:
    with pytest.raises((TypeError, ValueError), match=r"input_length|time_major"):
        keras.saving.load_model(CENSUS)
    expected = stored("census2010_ln_lstm")
    for suffix in (".keras", ".h5"):
        convert(CENSUS, tmp_path / f"new{suffix}")
        model = keras.saving.load_model(tmp_path / f"new{suffix}", compile=False)
        np.testing.assert_allclose(model.predict(expected["x"], verbose=0), expected["y"], **ROUNDING)
    again = tf_keras.models.load_model(tmp_path / "new.h5", compile=False)
    np.testing.assert_allclose(again.predict(expected["x"], verbose=0), expected["y"], **ROUNDING)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("suffix", WHOLE)
def test_the_census_model_in_every_format_and_engine(suffix: str, engine: str, tmp_path: Path) -> None:
    expected = stored("census2010_ln_lstm")
    path = convert(CENSUS, tmp_path / f"there{suffix}")
    (output,) = parity.run(path, expected["x"], engine=engine).outputs.values()
    np.testing.assert_allclose(output, expected["y"], **ROUNDING)
    back = convert(path, tmp_path / "back.h5")
    (output,) = parity.run(back, expected["x"], engine=engine).outputs.values()
    np.testing.assert_allclose(output, expected["y"], **ROUNDING)


def test_a_wrong_weight_is_seen(tmp_path: Path) -> None:
    """The twin of the tests above: what they compare can tell one changed gate."""
    expected, network = stored("census2010_ln_lstm"), parity.read(CENSUS)
    (layer,) = network.recurrent
    (weights,) = layer.weights
    changed = replace(
        layer, weights=(weights.with_held(bias_input=np.roll(np.asarray(weights.bias_input), 1, axis=0)),)
    )
    layers = tuple(changed if one is layer else one for one in network.layers)
    write_file(replace(network, layers=layers), tmp_path / "wrong.keras")
    (output,) = parity.run(tmp_path / "wrong.keras", expected["x"], engine="reference").outputs.values()
    assert abs(output - expected["y"]).max() > 1e-3


# ---- textgenrnn: weights alone, of CuDNNLSTM in Keras 2.1


TEXTGENRNN = MODELS / "textgenrnn_weights.hdf5"


def embedded(network: Network, x: Array) -> Array:
    (table,) = (layer.table for layer in network.layers if isinstance(layer, Embedding))
    return np.asarray(table[x], np.float32)


def layers_in(folder: Path, layer: Recurrent) -> Iterator[tuple[str, Any]]:
    """The layer itself, and what every format gives back of it."""
    yield "itself", layer
    for suffix in WHOLE:
        path = folder / f"{layer.name}{suffix}"
        write_file(Network(layer.name, (layer,)), path)
        yield suffix, path


def test_the_whole_is_not_known_but_its_layers_are() -> None:
    network = parity.read(TEXTGENRNN)
    assert [layer.name for layer in network.recurrent] == ["rnn_1", "rnn_2"]
    assert [(layer.name, layer.shapes) for layer in network.opaque] == [
        ("attention", {"attention/attention_W:0": (356, 1)})
    ]
    with pytest.raises(UnsupportedError, match="how the layers are connected"):
        parity.to_torch(TEXTGENRNN)


def over_the_floor(layer: Recurrent, x: Array) -> Callable[[Array], float]:
    """How far a sequence (batch, time, hidden) lies from the float64 reference, in units of the float32 noise of this very run."""
    shape = layer.spec.state_shape("h", len(x))
    floor = measure(Network(layer.name, (layer,)), x, {layer.name: State(np.zeros(shape), np.zeros(shape))})
    band = floor.bands["sequence"]
    assert band.comparable.all()
    reference = band.reference.reshape(*x.shape[:2], -1)
    noise = band.floor.reshape(*x.shape[:2], 1)
    return lambda sequence: float((np.abs(sequence - reference) / noise).max())


@pytest.mark.parametrize("engine", ENGINES)
def test_layers_of_cudnn_in_every_format(engine: str, tmp_path: Path) -> None:
    network, expected = parity.read(TEXTGENRNN), stored("textgenrnn")
    x = embedded(network, expected["x"])
    for layer in network.recurrent:
        distance = over_the_floor(layer, x)
        assert distance(expected[layer.name]) < FLOORS
        for form, source in layers_in(tmp_path, layer):
            assert distance(parity.run(source, x, engine=engine).sequence) < FLOORS, form
        x = expected[layer.name]


def test_live_layers_of_textgenrnn_and_back() -> None:
    network, expected = parity.read(TEXTGENRNN), stored("textgenrnn")
    x = embedded(network, expected["x"])
    layer = network.recurrent[0]
    distance = over_the_floor(layer, x)
    torch_layer, keras_layer = parity.to_torch(layer), parity.to_keras(layer)
    for source in (torch_layer, keras_layer, parity.to_keras(torch_layer), parity.to_torch(keras_layer)):
        assert distance(parity.run(source, x).sequence) < FLOORS


@pytest.mark.parametrize("gate", range(3))
def test_gates_of_cudnn_in_another_order_are_seen(gate: int) -> None:
    network, expected = parity.read(TEXTGENRNN), stored("textgenrnn")
    layer = network.recurrent[0]
    weights, order = layer.weights[0], list(range(4))
    order[gate], order[gate + 1] = order[gate + 1], order[gate]
    wrong = replace(layer, weights=(weights.with_held(kernel=weights.kernel[order]),))
    assert over_the_floor(wrong, embedded(network, expected["x"]))(expected[layer.name]) > 100 * FLOORS


# ---- silero VAD: a cell of torch, and the same network of another release as ONNX


SILERO, SILERO_ONNX = MODELS / "silero_vad_16k.safetensors", MODELS / "silero_vad_16k_op15.onnx"


@pytest.mark.parametrize("engine", ENGINES)
def test_the_cell_of_silero_step_by_step(engine: str) -> None:
    expected = stored("silero_vad")
    (cell,) = parity.read(SILERO).recurrent
    assert cell.single_step
    steps, states = expected["safetensors_lstm_input"], expected["safetensors_state"]
    chosen = range(len(steps)) if engine == "reference" else (0, 1, 44, 89)
    for step in chosen:
        before = np.zeros_like(states[0]) if step == 0 else states[step - 1]
        result = parity.run(
            cell, steps[step][None, None], engine=engine, initial_state=(before[0][None, None], before[1][None, None])
        )
        assert result.h_n is not None
        assert result.c_n is not None
        np.testing.assert_allclose(result.h_n.reshape(-1), states[step, 0].reshape(-1), **ROUNDING)
        np.testing.assert_allclose(result.c_n.reshape(-1), states[step, 1].reshape(-1), rtol=1e-5, atol=5e-6)


def test_two_releases_differ_in_their_weights_and_that_is_said() -> None:
    ours, theirs = parity.read(SILERO).recurrent[0], parity.read(SILERO_ONNX).recurrent[0]
    compared = parity.compare(replace(ours, single_step=False), theirs, engines=["torch"])
    assert compared.verdict == "disagree"
    assert "another training or release" in compared.notes[0]
    same = parity.compare(theirs, theirs, engines=["torch"])
    assert same.verdict == "agree"
    assert not any("another training" in note for note in same.notes)
