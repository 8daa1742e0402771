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
    state = {}
    for suffix, (kernel, recurrent, bias) in zip(("", "_reverse"), zip(*[iter(weights)] * 3, strict=True), strict=False):
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
    return right, Port(rnn, linear(right.layers[1]), lambda rnn, x: rnn(x)[0][:, -1]), "last step in place of the final states"


def backwards_not_flipped() -> tuple[Any, Any, str]:
    right = model(kl.LSTM(UNITS, return_sequences=True, go_backwards=True), kl.Dense(CLASSES))
    rnn = lstm(right.layers[0].get_weights())
    return right, Port(rnn, linear(right.layers[1]), lambda rnn, x: rnn(x.flip(1))[0].flip(1)), "steps turned back"


def doubled_biases() -> tuple[Any, Any, str]:
    right = model(kl.LSTM(UNITS, return_sequences=True), kl.Dense(CLASSES))
    return right, Port(lstm(right.layers[0].get_weights(), doubled=True), linear(right.layers[1]), sequence), "bias doubled"


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
    assert parity.compare(right, wrong).verdict == "disagree"
    found = parity.diagnose(right, wrong, pairs=False)
    assert found.found, str(found)
    assert found.faults[0].name == name
    namespace = {"suspect": wrong, "reference": right, "torch": torch}
    exec(found.repair, namespace)
    assert parity.compare(right, namespace["suspect"]).verdict == "agree"
    assert parity.compare(right, case()[1].eval()).verdict == "disagree"
