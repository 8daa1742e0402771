"""Trained models of public projects as code, end to end, against outputs that others computed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import parity
from parity.frameworks.written import loaded
from parity.graph import Wire
from parity.graph.custom import CUSTOM
from parity.graph.floors import measure
from parity.graph.folder import write_code
from parity.recurrent import Array
from parity.sources import open_source
from tests.real_models import FLOORS, MODELS, ROUNDING, stored, there

pytestmark = there


def opened_folder(folder: Path, target: str) -> Callable[..., list[Array]]:
    """What the code in a folder computes."""
    if target == "onnx":
        session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
        names = [item.name for item in session.get_inputs()]
        return lambda *inputs: [np.asarray(one) for one in session.run(None, dict(zip(names, inputs, strict=True)))]
    model = loaded(folder)

    def by_keras(*inputs: Array) -> list[Array]:
        found = model(list(inputs) if len(inputs) > 1 else inputs[0])
        return [np.asarray(value) for value in (found if isinstance(found, (list, tuple)) else [found])]

    def by_torch(*inputs: Array) -> list[Array]:
        with torch.no_grad():
            found = model(*(torch.from_numpy(value) for value in inputs))
        return [value.numpy() for value in (found if isinstance(found, tuple) else (found,))]

    return by_keras if target == "keras" else by_torch


@pytest.mark.parametrize("target", ["torch", "keras", "onnx"])
def test_ethnicolr(target: Any, tmp_path: Path) -> None:
    expected = stored("census2010_ln_lstm")
    written = write_code(open_source(MODELS / "census2010_ln_lstm.h5", partial=True), target, tmp_path / "out")
    assert written.comparison is not None
    assert written.comparison.ok, str(written.comparison)
    (found,) = opened_folder(tmp_path / "out", target)(expected["x"])
    np.testing.assert_allclose(found, expected["y"], **ROUNDING)


# ---- textgenrnn: a skip over both recurrent layers, and an attention layer of its own


@pytest.fixture
def attention() -> Iterator[None]:
    @parity.register("AttentionWeightedAverage")
    def weighted_average(build: Any, config: Any, weights: Any, x: Any) -> Any:
        scores = build.matmul(x, build.weight(f"{config['name']}.W", weights[0]))
        return build.sum(build.multiply(x, build.softmax(scores, axis=1)), axis=1)

    yield
    del CUSTOM["AttentionWeightedAverage"]


def textgenrnn(folder: Path) -> Path:
    """The architecture as `textgenrnn_model` of textgenrnn/model.py builds it, as the JSON that Keras 2.1.5 writes, beside the weights."""

    def layer(class_name: str, name: str, taken: list[str], **options: Any) -> dict[str, Any]:
        nodes = [[[one, 0, 0, {}] for one in taken]] if taken else []
        return {"class_name": class_name, "name": name, "config": {"name": name, **options}, "inbound_nodes": nodes}

    recurrent = {"units": 128, "return_sequences": True}
    layers = [
        layer("InputLayer", "input", [], batch_input_shape=[None, 40], dtype="float32", sparse=False),
        layer("Embedding", "embedding", ["input"], input_dim=465, output_dim=100, mask_zero=False),
        layer("CuDNNLSTM", "rnn_1", ["embedding"], **recurrent),
        layer("CuDNNLSTM", "rnn_2", ["rnn_1"], **recurrent),
        layer("Concatenate", "rnn_concat", ["embedding", "rnn_1", "rnn_2"], axis=-1),
        layer("AttentionWeightedAverage", "attention", ["rnn_concat"]),
        layer("Dense", "output", ["attention"], units=465, activation="softmax", use_bias=True),
    ]
    config = {
        "name": "textgenrnn",
        "layers": layers,
        "input_layers": [["input", 0, 0]],
        "output_layers": [["output", 0, 0]],
    }
    path = folder / "textgenrnn.json"
    path.write_text(
        json.dumps({"class_name": "Model", "config": config, "keras_version": "2.1.5", "backend": "tensorflow"})
    )
    return path


@pytest.mark.parametrize("target", ["torch", "keras", "onnx"])
@pytest.mark.usefixtures("attention")
def test_textgenrnn(target: Any, tmp_path: Path) -> None:
    opened = open_source(MODELS / "textgenrnn_weights.hdf5", partial=True, config=textgenrnn(tmp_path))
    written = write_code(opened, target, tmp_path / "out")
    assert written.comparison is not None
    assert written.comparison.ok, str(written.comparison)
    expected = stored("textgenrnn")
    given = {opened.graph.inputs[0].name: expected["x"]}
    wires = {node.source: Wire(node.name) for node in opened.graph.nodes if node.source in ("rnn_1", "rnn_2", "output")}
    bands = measure(opened.graph, given, wires).bands
    for name in ("rnn_1", "rnn_2"):
        assert (np.abs(bands[name].reference - expected[name]) <= FLOORS * bands[name].floor).all(), name
    # What follows the stored values, in NumPy, from the weights as they stand in the file.
    with h5py.File(MODELS / "textgenrnn_weights.hdf5") as file:
        table, scores = file["embedding/embedding/embeddings:0"][()], file["attention/attention/attention_W:0"][()]
        kernel, bias = file["output/output/kernel:0"][()], file["output/output/bias:0"][()]
    joined = np.concatenate([table[expected["x"]], expected["rnn_1"], expected["rnn_2"]], axis=-1).astype(np.float64)
    share = np.exp(joined @ scores)
    logits = (joined * (share / share.sum(axis=1, keepdims=True))).sum(axis=1) @ kernel + bias
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    wanted = powers / powers.sum(axis=-1, keepdims=True)
    (found,) = opened_folder(tmp_path / "out", target)(expected["x"])
    assert (np.abs(found - wanted) <= 2 * FLOORS * bands["output"].floor).all()


def test_textgenrnn_without_the_layer_says_what_to_do(tmp_path: Path) -> None:
    opened = open_source(MODELS / "textgenrnn_weights.hdf5", partial=True, config=textgenrnn(tmp_path))
    with pytest.raises(parity.UnsupportedError, match="attention") as refused:
        write_code(opened, "torch", tmp_path / "out")
    assert "register" in str(refused.value)


# ---- silero VAD: weights of torch into a module of one's own, from there to Keras and ONNX, chunk by chunk


class Silero(nn.Module):
    """The network as the README beside the model says it: a chunk with its context, and the state, which is handed on."""

    def __init__(self) -> None:
        super().__init__()
        self.stft_conv = nn.Conv1d(1, 258, 256, 128, bias=False)
        self.conv1, self.conv2 = nn.Conv1d(129, 128, 3, 1, 1), nn.Conv1d(128, 64, 3, 2, 1)
        self.conv3, self.conv4 = nn.Conv1d(64, 64, 3, 2, 1), nn.Conv1d(64, 128, 3, 1, 1)
        self.lstm_cell = nn.LSTMCell(128, 128)
        self.final_conv = nn.Conv1d(128, 1, 1)

    def forward(self, chunk: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """chunk (batch, 576), h and c (batch, 128) -> probability (batch, 1), the new states."""
        spectrum = self.stft_conv(nn.functional.pad(chunk, (0, 64), mode="reflect").unsqueeze(1))
        x = torch.sqrt(spectrum[:, :129] ** 2 + spectrum[:, 129:] ** 2)
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            x = torch.relu(conv(x))
        h, c = self.lstm_cell(x.squeeze(-1), (h, c))
        return torch.sigmoid(self.final_conv(torch.relu(h).unsqueeze(-1))).mean(dim=2), h, c


@pytest.mark.parametrize("target", ["keras", "onnx"])
@pytest.mark.parametrize("weights", ["silero_vad_16k.safetensors", "silero_vad_16k_op15.onnx"])
def test_silero(weights: str, target: Any, tmp_path: Path) -> None:
    module = Silero().eval()
    parity.transfer(MODELS / weights, module)
    example = (np.zeros((2, 576), np.float32), np.zeros((2, 128), np.float32), np.zeros((2, 128), np.float32))
    written = write_code(open_source(module, partial=True, inputs=example), target, tmp_path / "out")
    assert written.comparison is not None
    assert written.comparison.ok, str(written.comparison)
    expected = stored("silero_vad")
    audio = np.concatenate([np.zeros(64, np.float32), expected["audio"]])
    state = [np.zeros((1, 128), np.float32)] * 2
    theirs = [torch.zeros(1, 128)] * 2
    probabilities, by_torch = [], []
    run = opened_folder(tmp_path / "out", target)
    for start in range(0, 90 * 512, 512):
        chunk = audio[None, start : start + 576]
        probability, *state = run(chunk, *state)
        with torch.no_grad():
            own, *theirs = module(torch.from_numpy(chunk), *theirs)
        probabilities.append(probability.item())
        by_torch.append(own.item())
    np.testing.assert_allclose(probabilities, by_torch, rtol=0, atol=1e-5)
    if weights.endswith(".onnx"):
        # The README beside the model measured 7e-7 for a torch module written so.
        np.testing.assert_allclose(probabilities, expected["onnx_prob"].reshape(-1), rtol=0, atol=1e-5)
