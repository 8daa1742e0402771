"""Packed sequences without a total length, and masks of padding: exact in every target, or an error, never quietly something else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import tensorflow as tf
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import parity
from parity.errors import ShapeError, UnsupportedError
from parity.graph.inputs import random_graph_inputs

Run = Callable[[np.ndarray, np.ndarray], list[np.ndarray]]


class Packing(nn.Module):
    """Values that the number of steps changes: a mean, the last step, a softmax over time, the place of the largest."""

    def __init__(self, total: bool = False, batch_first: bool = True) -> None:
        super().__init__()
        self.gru = nn.GRU(4, 5, batch_first=batch_first)
        self.total, self.first = total, batch_first

    def forward(self, x: Tensor, lengths: Tensor) -> Any:
        time = 1 if self.first else 0
        packed = pack_padded_sequence(x, lengths, batch_first=self.first, enforce_sorted=False)
        total = x.size(time) if self.total else None
        y, _ = pad_packed_sequence(self.gru(packed)[0], batch_first=self.first, total_length=total)
        return y.mean(time), y.select(time, -1), y.softmax(time), y.argmax(time)


class Sequence(nn.Module):
    """The padded sequence alone, with a value of its own where it is padded."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 3, bidirectional=True)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return pad_packed_sequence(self.lstm(pack_padded_sequence(x, lengths))[0], padding_value=-1.5)[0]


class Counting(nn.Module):
    """Lengths out of tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.gru = nn.Embedding(3, 4), nn.GRU(4, 5, batch_first=True)

    def forward(self, tokens: Tensor) -> Tensor:
        lengths = (tokens != 0).sum(1)
        packed = pack_padded_sequence(self.embedding(tokens), lengths, batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(self.gru(packed)[0], batch_first=True)[0].mean(1)


class FixedTotal(nn.Module):
    """A total length beyond the input's."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(4, 5, batch_first=True)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(self.gru(packed)[0], batch_first=True, total_length=9)[0].mean(1)


def normal(*shape: int) -> np.ndarray:
    """The same numbers at every call."""
    return np.random.default_rng(3).standard_normal(shape).astype(np.float32)


def source(module: nn.Module, x: np.ndarray, lengths: np.ndarray) -> list[np.ndarray]:
    """What torch gives."""
    with torch.no_grad():
        return [one.numpy() for one in module(torch.from_numpy(x), torch.from_numpy(lengths))]


def _torch(module: nn.Module, inputs: Any) -> Run:
    written = parity.to_torch(module, inputs=inputs)
    return lambda x, lengths: source(written, x, lengths)


def _onnx(module: nn.Module, inputs: Any) -> Run:
    session = onnxruntime.InferenceSession(parity.to_onnx(module, inputs=inputs).SerializeToString())
    names = [one.name for one in session.get_inputs()]
    return lambda x, lengths: session.run(None, dict(zip(names, (x, lengths), strict=True)))


def _keras(module: nn.Module, inputs: Any) -> Run:
    model = parity.to_keras(module, inputs=inputs)
    return lambda x, lengths: [np.asarray(one) for one in model([x, lengths])]


TARGETS: dict[str, tuple[Callable[[nn.Module, Any], Run], type[Exception]]] = {
    "torch": (_torch, IndexError),
    "onnx": (_onnx, onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument),
    "keras": (_keras, tf.errors.InvalidArgumentError),
}


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("target", TARGETS)
def test_exact_where_a_sample_fills_the_time_and_an_error_elsewhere(target: str, batch_first: bool) -> None:
    module = Packing(batch_first=batch_first).eval()
    make, error = TARGETS[target]

    def sequence(batch: int, time: int) -> np.ndarray:
        return normal(batch, time, 4) if batch_first else normal(time, batch, 4)

    run = make(module, (sequence(3, 6), np.array([6, 3, 1])))
    for batch, lengths in ((2, [3, 4]), (3, [4, 1, 2])):
        x = sequence(batch, 4)
        for own, wanted in zip(run(x, np.array(lengths)), source(module, x, np.array(lengths)), strict=True):
            np.testing.assert_allclose(own, wanted, atol=1e-5)
    with pytest.raises(error):
        run(sequence(2, 4), np.array([2, 3]))


@pytest.mark.parametrize("target", TARGETS)
def test_a_total_length_leaves_all_lengths_free(target: str) -> None:
    module = Packing(total=True).eval()
    run = TARGETS[target][0](module, (normal(3, 6, 4), np.array([6, 3, 1])))
    x, lengths = normal(2, 4, 4), np.array([2, 3])
    for own, wanted in zip(run(x, lengths), source(module, x, lengths), strict=True):
        np.testing.assert_allclose(own, wanted, atol=1e-5)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    ("module", "inputs"),
    [
        (Sequence(), (normal(6, 3, 4), np.array([6, 3, 1]))),
        (Sequence(), (normal(6, 3, 4), np.array([4, 3, 1]))),
        (Counting(), (np.array([[1, 2, 1, 2, 1], [2, 2, 1, 0, 0]]),)),
    ],
    ids=["full", "short", "counted"],
)
def test_converts_and_proves_itself(target: Any, module: nn.Module, inputs: Any, tmp_path: Path) -> None:
    parity.convert(module.eval(), tmp_path / "model", to=target, inputs=inputs)
    assert any((tmp_path / "model").iterdir())


def test_the_reference_refuses_and_the_note_says_why() -> None:
    graph = parity.read(Packing().eval(), inputs=(normal(3, 6, 4), np.array([6, 3, 1]))).graph
    assert graph is not None
    assert "total_length" in graph.details["packed"]
    with pytest.raises(ShapeError, match="longest_fills_time"):
        graph.run({"x": normal(2, 4, 4), "lengths": np.array([2, 3])})


def test_random_lengths_fill_the_time() -> None:
    graph = parity.read(Packing().eval(), inputs=(normal(3, 6, 4), np.array([6, 3, 1]))).graph
    tokens = parity.read(Counting().eval(), inputs=np.array([[1, 2, 1, 2, 1], [2, 2, 1, 0, 0]])).graph
    assert graph is not None
    assert tokens is not None
    for seed in range(8):
        lengths = random_graph_inputs(graph, {"batch": 4, "time": 7}, seed)["lengths"]
        assert lengths[0] == 7
        assert lengths.min() >= 1
        assert (np.diff(lengths) <= 0).all()
        counts = (random_graph_inputs(tokens, {"batch": 4, "time": 7}, seed)["tokens"] != 0).sum(1)
        assert counts[0] == 7
        assert counts.min() >= 1


def test_another_total_length_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="total_length"):
        parity.to_torch(FixedTotal().eval(), inputs=(normal(3, 6, 4), np.array([6, 3, 1])))


class Encoder(nn.Module):
    """A transformer's encoder with a mask of padding."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)

    def forward(self, x: Tensor, padded: Tensor) -> Tensor:
        encoded: Tensor = self.encoder(x, src_key_padding_mask=padded)
        return encoded


def test_an_encoder_with_padding_takes_any_time_and_says_what_the_fast_path_does() -> None:
    module = Encoder().eval()
    example = normal(3, 6, 8), np.arange(6) >= np.array([[6], [4], [2]])
    network = parity.read(module, inputs=example)
    assert network.graph is not None
    assert [one.shape for one in network.graph.inputs] == [("batch", "time", 8), ("batch", "time")]
    assert "zeros at padded places" in network.graph.details["fast path"]
    written = parity.to_torch(module, inputs=example)
    x, padded = normal(2, 5, 8), np.arange(5) >= np.array([[3], [4]])
    found = written(torch.from_numpy(x), torch.from_numpy(padded)).detach().numpy()
    plain = module(torch.from_numpy(x), torch.from_numpy(padded)).detach().numpy()  # with gradients: no fast path
    np.testing.assert_allclose(found, plain, atol=1e-5)
    with torch.no_grad():
        fast = module(torch.from_numpy(x), torch.from_numpy(padded)).numpy()
    np.testing.assert_allclose(fast, np.where(padded[..., None], 0, plain), atol=1e-5)


def test_no_word_of_the_fast_path_without_padding() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    graph = parity.read(nn.TransformerEncoder(layer, 1).eval(), inputs=normal(3, 6, 8)).graph
    assert graph is not None
    assert "fast path" not in graph.details
