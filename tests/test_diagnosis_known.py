"""The mistakes that people are known to make in ports of a recurrent model, made by hand: each is named, and its repair repairs."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras import layers as kl
from safetensors.torch import save_file
from torch import Tensor, nn

import parity
from parity.cli import main

FEATURES, UNITS, CLASSES = 6, 5, 3


def numbers(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).uniform(0.1, 0.9, shape).astype(np.float32) * np.random.default_rng(
        seed + 1
    ).choice([-1.0, 1.0], shape).astype(np.float32)


def model(*layers: Any) -> Any:
    """A Keras model with weights and biases of which none is zero."""
    made = keras.Sequential([keras.Input((None, FEATURES)), *layers])
    made.set_weights([numbers(*weight.shape, seed=place) for place, weight in enumerate(made.get_weights())])
    return made


X = np.random.default_rng(5).standard_normal((4, 9, FEATURES)).astype(np.float32)


class Port(nn.Module):
    """A recurrent layer and a linear one, put together by a function."""

    def __init__(self, rnn: nn.Module, head: nn.Linear | None, call: Callable[..., Tensor]) -> None:
        super().__init__()
        self.rnn, self.head, self.call = rnn, head, call

    def forward(self, x: Tensor) -> Tensor:
        y = self.call(self.rnn, x)
        return y if self.head is None else self.head(y)


def gates(array: Any, order: tuple[int, ...]) -> Tensor:
    """The gate blocks of a Keras array, in another order, as torch has them: the gates first."""
    blocks = np.split(array, len(order), axis=-1)
    return torch.from_numpy(np.concatenate([blocks[place] for place in order], axis=-1).T.copy())


def gru(layer: Any, order: tuple[int, ...] = (1, 0, 2)) -> nn.GRU:
    """The weights of a Keras GRU by hand; Keras has z r h, torch r z n."""
    kernel, recurrent, bias = layer.get_weights()
    rows = bias if bias.ndim == 2 else np.stack([bias, np.zeros_like(bias)])
    made = nn.GRU(FEATURES, UNITS, batch_first=True)
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    made.load_state_dict(dict(zip(names, (gates(one, order) for one in (kernel, recurrent, *rows)), strict=True)))
    return made


def lstm(weights: list[Any], directions: int = 1, doubled: bool = False) -> nn.LSTM:
    """The weights of a Keras LSTM by hand: both frameworks have i f g o."""
    made = nn.LSTM(FEATURES, UNITS, batch_first=True, bidirectional=directions == 2)
    state: dict[str, Tensor] = {}
    for suffix, (kernel, recurrent, bias) in zip(
        ("", "_reverse"), zip(*[iter(weights)] * 3, strict=True), strict=False
    ):
        same = (0, 1, 2, 3)
        state |= {f"weight_ih_l0{suffix}": gates(kernel, same), f"weight_hh_l0{suffix}": gates(recurrent, same)}
        state |= {f"bias_ih_l0{suffix}": gates(bias, same)}
        state |= {f"bias_hh_l0{suffix}": gates(bias, same) if doubled else torch.zeros(4 * UNITS)}
    made.load_state_dict(state)
    return made


def linear(layer: Any) -> nn.Linear:
    kernel, bias = layer.get_weights()
    made = nn.Linear(*kernel.shape)
    made.load_state_dict({"weight": torch.from_numpy(kernel.T.copy()), "bias": torch.from_numpy(bias)})
    return made


def sequence(rnn: nn.Module, x: Tensor) -> Tensor:
    return rnn(x)[0]


def gru_gates_not_swapped() -> tuple[Any, Any, str]:
    right = model(kl.GRU(UNITS, return_sequences=True), kl.Dense(CLASSES))
    return right, Port(gru(right.layers[0], (0, 1, 2)), linear(right.layers[1]), sequence), "gate order"


def last_step_of_both_directions() -> tuple[Any, Any, str]:
    right = model(kl.Bidirectional(kl.LSTM(UNITS)), kl.Dense(CLASSES))
    rnn = lstm(right.layers[0].get_weights(), 2)
    return (
        right,
        Port(rnn, linear(right.layers[1]), lambda rnn, x: rnn(x)[0][:, -1]),
        "step in place of the final state",
    )


def backwards_not_flipped() -> tuple[Any, Any, str]:
    right = model(kl.LSTM(UNITS, return_sequences=True, go_backwards=True), kl.Dense(CLASSES))
    rnn = lstm(right.layers[0].get_weights())
    return right, Port(rnn, linear(right.layers[1]), lambda rnn, x: rnn(x.flip(1))[0].flip(1)), "steps not turned back"


def doubled_biases() -> tuple[Any, Any, str]:
    right = model(kl.LSTM(UNITS, return_sequences=True), kl.Dense(CLASSES))
    return (
        right,
        Port(lstm(right.layers[0].get_weights(), doubled=True), linear(right.layers[1]), sequence),
        "bias doubled",
    )


def reset_before_into_gru() -> tuple[Any, Any, str]:
    right = model(kl.GRU(UNITS, reset_after=False, return_sequences=True), kl.Dense(CLASSES))
    return right, Port(gru(right.layers[0]), linear(right.layers[1]), sequence), "reset gate"


CASES = [
    gru_gates_not_swapped,
    last_step_of_both_directions,
    backwards_not_flipped,
    doubled_biases,
    reset_before_into_gru,
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_known_mistakes_are_named_and_mended(case: Callable[[], tuple[Any, Any, str]]) -> None:
    right, wrong, name = case()
    wrong = wrong.eval()
    assert parity.compare(right, wrong, inputs=X).verdict == "disagree"
    found = parity.diagnose(right, wrong, inputs=X, pairs=False)
    assert found.found, str(found)
    assert found.faults[0].name == name, str(found)
    namespace = {"suspect": wrong, "reference": right, "torch": torch}
    exec(found.repair, namespace)
    assert parity.compare(right, namespace["suspect"], inputs=X).verdict == "agree"
    assert parity.compare(right, case()[1].eval(), inputs=X).verdict == "disagree"


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A state dict, and the same with the gates of its recurrent kernel as ONNX orders them."""
    torch.manual_seed(3)
    right = nn.LSTM(FEATURES, UNITS, batch_first=True).state_dict()
    i, f, g, o = right["weight_hh_l0"].chunk(4)
    wrong = {**right, "weight_hh_l0": torch.cat([i, o, f, g])}
    for name, state in (("right", right), ("wrong", wrong)):
        save_file({key: one.contiguous() for key, one in state.items()}, tmp_path / f"{name}.safetensors")
    return tmp_path / "right.safetensors", tmp_path / "wrong.safetensors"


def command(*words: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in words])
    return int(str(stop.value.code))


def test_the_command_names_the_cause(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    kept = files[0].with_name("d.json")
    assert command("diagnose", *files, "--json", kept) == 1
    said = capsys.readouterr().out
    assert "recurrent kernel in the order i o f g" in said
    assert "To mend it" in said
    record = json.loads(kept.read_text())
    assert record["found"]
    assert record["where"][0]["tensor"] == "recurrent"
    assert record["evidence"][0]["floors"] < 2 < record["evidence"][1]["floors"]
    assert command("diagnose", *files, "--json", kept) == 2  # kept, as nobody said --overwrite


def test_the_command_on_the_same_file(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert command("diagnose", files[0], files[0]) == 0
    assert "nothing to explain" in capsys.readouterr().out


def test_the_command_on_recorded_arrays(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    x = numbers(4, 9, FEATURES, seed=2)
    found = parity.run(files[1], x)
    recorded = files[0].with_name("recorded.npz")
    assert found.sequence is not None
    np.savez(recorded, inputs=x, outputs=found.sequence)
    assert command("diagnose", files[0], recorded) == 1
    assert "recurrent kernel in the order i o f g" in capsys.readouterr().out


def test_a_comparison_that_disagrees_has_the_cause(files: tuple[Path, Path]) -> None:
    compared = parity.compare(*files)
    assert compared.diagnosis is not None
    assert compared.diagnosis.found
    page = files[0].with_name("r.html")
    compared.save_html(page)
    assert "Likely cause" in page.read_text()
    assert parity.compare(files[0], files[0]).diagnosis is None


@pytest.mark.parametrize("content", [{"outputs": numbers(4, 9, UNITS)}, {"inputs": numbers(4, 9, FEATURES)}])
def test_recordings_that_are_not_whole(
    files: tuple[Path, Path], content: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    recorded = files[0].with_name("recorded.npz")
    np.savez(recorded, **content)
    assert command("diagnose", files[0], recorded) == 2
    assert "parity: " in capsys.readouterr().err
