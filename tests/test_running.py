"""One Result whatever the framework's convention; inputs and devices checked first."""

from __future__ import annotations

import copy
from typing import Any

import keras
import numpy as np
import pytest
import torch

import parity

ENGINES = ["keras", "torch", "onnxruntime", "reference"]


@pytest.mark.parametrize("kind", [torch.nn.LSTM, torch.nn.GRU])
@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_gives_canonical_axes(kind: Any, engine: str, random: np.random.Generator) -> None:
    module = kind(3, 5, num_layers=2, bidirectional=True)
    x = random.standard_normal((4, 7, 3)).astype(np.float32)
    states = [random.uniform(-1, 1, (2, 2, 4, 5)).astype(np.float32) for _ in range(2 if kind is torch.nn.LSTM else 1)]
    result = parity.run(module, x, engine, initial_state=tuple(states))
    hx = [torch.from_numpy(s.reshape(4, 4, 5)) for s in states]
    with torch.no_grad():
        output, final = module(torch.from_numpy(x).swapaxes(0, 1), tuple(hx) if len(hx) > 1 else hx[0])
    h_n, c_n = final if kind is torch.nn.LSTM else (final, None)
    np.testing.assert_allclose(result.sequence, output.swapaxes(0, 1).numpy(), atol=1e-6)
    np.testing.assert_allclose(result.h_n.reshape(4, 4, 5), h_n.numpy(), atol=1e-6)
    if c_n is None:
        assert result.c_n is None
    else:
        assert result.c_n is not None
        np.testing.assert_allclose(result.c_n.reshape(4, 4, 5), c_n.numpy(), atol=1e-6)


def test_what_the_framework_itself_returned_is_kept() -> None:
    layer = keras.layers.Bidirectional(keras.layers.LSTM(5, return_state=True))
    layer.build((None, None, 3))
    result = parity.run(layer, np.ones((2, 40, 3)))
    assert [value.name for value in result.returned][:2] == ["output", "forward_state_h"]
    assert [value.shape for value in result.returned] == [(2, 10), *[(2, 5)] * 4]
    assert result.sequence.shape == (2, 40, 10)
    assert result.settings["path"] == "tf.function"
    time_major = parity.run(torch.nn.GRU(3, 5), np.ones((2, 4, 3)))
    assert [value.shape for value in time_major.returned] == [(4, 2, 5), (1, 2, 5)]


@pytest.mark.parametrize("engine", ["keras", "torch"])
def test_float64(engine: str, random: np.random.Generator) -> None:
    module, x = torch.nn.LSTM(3, 5, bidirectional=True), random.standard_normal((2, 9, 3)).astype(np.float32)
    reference = parity.run(module, x, "reference")
    result = parity.run(module, x, engine, dtype="float64")
    assert result.sequence.dtype == np.float64
    # A float32 bias sum on the way to Keras is rounded once.
    assert abs(result.sequence - reference.sequence).max() < (1e-12 if engine == "torch" else 1e-7)
    with pytest.raises(parity.UnsupportedError, match="no float64 LSTM, GRU or RNN"):
        parity.run(module, x, "onnxruntime", dtype="float64")


@pytest.mark.parametrize("engine", ["keras", "torch", "onnxruntime"])
def test_a_device_that_is_not_there(engine: str) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(parity.MissingFrameworkError) as caught:
        parity.run(torch.nn.LSTM(3, 5), np.ones((2, 4, 3)), engine, device="cuda")
    assert f"'{engine}'" in str(caught.value)
    assert "NVIDIA GPU" in str(caught.value)
    assert "device='cpu'" in str(caught.value)


BAD_INPUTS: list[tuple[Any, str]] = [
    (np.ones((2, 4, 9)), r"expected: \(batch, time, 3\)"),
    (np.ones((4, 2)), "wrong shape"),
    (np.ones((0, 4, 3)), "empty"),
    (np.ones((2, 0, 3)), "empty"),
    (np.where(np.arange(24).reshape(2, 4, 3) == 17, np.nan, 1.0), r"nan at \(1, 1, 2\)"),
    (np.full((2, 4, 3), np.inf), "24 such values"),
    (np.full((2, 4, 3), "x"), "no array of numbers"),
    ({"a": np.ones((2, 4, 3)), "b": np.ones((2, 4, 3))}, "one input"),
]


@pytest.mark.parametrize(("inputs", "message"), BAD_INPUTS)
def test_bad_inputs(inputs: Any, message: str) -> None:
    with pytest.raises(parity.ShapeError, match=message):
        parity.run(torch.nn.LSTM(3, 5), inputs, "torch")


def test_bad_tokens() -> None:
    model = torch.nn.Sequential(torch.nn.Embedding(11, 4), torch.nn.GRU(4, 5, batch_first=True))
    assert parity.run(model, [[1, 2, 10]]).sequence.shape == (1, 3, 5)
    with pytest.raises(parity.ShapeError, match="outside the vocabulary"):
        parity.run(model, [[1, 2, 11]])


BAD_STATES: list[tuple[Any, str]] = [
    (np.ones((1, 2, 5)), "wrong number of initial states"),
    ((np.ones((1, 2, 4)), np.ones((1, 2, 5))), "initial h has the wrong shape"),
    ((np.ones((1, 2, 5)), np.full((1, 2, 5), np.nan)), "initial c is not finite"),
    ({"other": (np.ones((1, 2, 5)), np.ones((1, 2, 5)))}, "unknown layer 'other'"),
    ((np.ones((3, 1, 2, 5)), np.ones((3, 1, 2, 5))), "does not fit"),
]


@pytest.mark.parametrize(("state", "message"), BAD_STATES)
def test_bad_states(state: Any, message: str) -> None:
    with pytest.raises(parity.ShapeError, match=message):
        parity.run(torch.nn.LSTM(3, 5), np.ones((2, 4, 3)), "torch", initial_state=state)


def test_unknown_words() -> None:
    module, x = torch.nn.LSTM(3, 5), np.ones((2, 4, 3))
    for options, message in (
        ({"engine": "caffe"}, "unknown engine"),
        ({"device": "tpu"}, "unknown device"),
        ({"dtype": "int8"}, "unknown dtype"),
    ):
        with pytest.raises(parity.ParityError, match=message):
            parity.run(module, x, **options)  # type: ignore[arg-type]  # that is the point


def test_float64_inputs_stay_float64_where_asked(random: np.random.Generator) -> None:
    module, x = torch.nn.GRU(3, 5, batch_first=True), random.standard_normal((2, 9, 3))
    with torch.no_grad():
        expected = copy.deepcopy(module).double()(torch.from_numpy(x))[0].numpy()
    for engine in ("torch", "reference"):
        assert abs(parity.run(module, x, engine, dtype="float64").sequence - expected).max() < 1e-12


def test_tensors_and_lists_of_one_are_inputs() -> None:
    module, x = torch.nn.GRU(3, 5), torch.ones(2, 4, 3, requires_grad=True)
    for inputs in (x, [x], {"x": x}, [np.ones((2, 4, 3))]):
        assert parity.run(module, inputs).sequence.shape == (2, 4, 5)
    with pytest.raises(parity.ShapeError, match="no array of numbers"):
        parity.run(module, [[[1.0, 2.0], [1.0]]])


def test_unequal_layers_do_not_stack() -> None:
    model = keras.Sequential([keras.Input((None, 3)), keras.layers.GRU(4, return_sequences=True), keras.layers.GRU(6)])
    result = parity.run(model, np.ones((2, 5, 3)), "reference")
    with pytest.raises(parity.ShapeError, match="layer by layer"):
        _ = result.h_n
    assert [run.final.h.shape for run in result.layers.values()] == [(1, 2, 4), (1, 2, 6)]


def test_torch_settings_of_the_caller_are_left_alone() -> None:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        assert parity.compare(torch.nn.GRU(3, 64), engines=["torch"]).ok
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("kind", [torch.nn.LSTM, torch.nn.GRU, torch.nn.RNN])
def test_one_sample_as_torch_takes_it(kind: Any) -> None:
    torch.manual_seed(3)
    module = kind(3, 5, num_layers=2, bidirectional=True)
    x = np.random.default_rng(4).standard_normal((7, 3)).astype(np.float32)
    result = parity.run(module, x)
    with torch.no_grad():
        output, states = module(torch.from_numpy(x))
    h = states[0] if isinstance(states, tuple) else states
    np.testing.assert_array_equal(result.sequence[0], output.numpy())
    np.testing.assert_array_equal(result.h_n.reshape(4, 5), h.numpy())
    assert result.returned[0].shape == (7, 10)
    assert parity.compare(module, inputs=x, engines=["torch", "onnxruntime"]).ok
    with pytest.raises(parity.ShapeError):
        parity.run(parity.to_keras(module), x)


@pytest.mark.parametrize("enforce_sorted", [True, False])
def test_a_packed_sequence_is_taken_as_torch_takes_it(enforce_sorted: bool) -> None:
    torch.manual_seed(5)
    module = torch.nn.GRU(3, 5, bidirectional=True, batch_first=True)
    lengths = [6, 4, 1] if enforce_sorted else [4, 6, 1]
    rows = [torch.randn(length, 3) for length in lengths]
    packed = torch.nn.utils.rnn.pack_sequence(rows, enforce_sorted=enforce_sorted)
    result = parity.run(module, packed)
    with torch.no_grad():
        expected, _ = torch.nn.utils.rnn.pad_packed_sequence(module(packed)[0], batch_first=True)
    np.testing.assert_array_equal(result.sequence, expected.numpy())
    assert parity.compare(module, inputs=packed, engines=["torch", "onnxruntime", "keras"]).ok
    with pytest.raises(parity.ShapeError, match="lengths of its own"):
        parity.run(module, packed, lengths=lengths)
