"""Mistakes in the weights of an attention, made by hand in modules of torch and layers of Keras: each is named."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import keras
import numpy as np
import pytest
import torch
from torch import nn

import parity

FEATURES, HEADS, SIZE = 6, 2, 4
WIDTH = HEADS * SIZE
WEIGHT, BIAS, OUT = "attention.in_proj_weight", "attention.in_proj_bias", "attention.out_proj.weight"
INPUTS = np.random.default_rng(0).normal(size=(3, 7, FEATURES)).astype(np.float32)
State = dict[str, torch.Tensor]


class Model(nn.Module):
    """An LSTM, and an attention over its steps."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(FEATURES, WIDTH, batch_first=True)
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores of every step."""
        y, _ = self.lstm(x)
        z, _ = self.attention(y, y, y, need_weights=False)
        return torch.as_tensor(self.head(y + z))


def right_model() -> Model:
    torch.manual_seed(1)
    made = Model().eval()
    with torch.no_grad():
        for weight in made.parameters():
            weight.uniform_(-1.2, 1.2)
    return made


def exchanged(order: tuple[int, ...]) -> Callable[[State], None]:
    def change(state: State) -> None:
        for name in (WEIGHT, BIAS):
            parts = state[name].chunk(3)
            state[name] = torch.cat([parts[place] for place in order])

    return change


def out_transposed(state: State) -> None:
    state[OUT] = state[OUT].T


def kernels_transposed(state: State) -> None:
    state[WEIGHT] = torch.cat([block.T for block in state[WEIGHT].chunk(3)])


def interleaved(state: State) -> None:
    """What `.reshape(features, size, heads)` makes of heads that stand one behind the other."""
    for name in (WEIGHT, BIAS):
        heads = state[name].reshape(3, HEADS, SIZE, -1)
        state[name] = heads.transpose(1, 2).reshape(state[name].shape)


def heads_exchanged(state: State) -> None:
    state[OUT] = state[OUT].roll(SIZE, 1)


@pytest.mark.parametrize("recorded", [False, True])
@pytest.mark.parametrize(
    ("change", "name", "words"),
    [
        (exchanged((1, 0, 2)), "projections exchanged", "key, query, value"),
        (exchanged((1, 2, 0)), "projections exchanged", "key, value, query"),
        (out_transposed, "kernel transposed", "transpose"),
        (kernels_transposed, "kernel transposed", "query, key and value"),
        (interleaved, "heads in another order", "query, key and value"),
        (heads_exchanged, "heads in another order", "output projection"),
    ],
)
def test_packed_projections_of_torch(change: Callable[[State], None], name: str, words: str, recorded: bool) -> None:
    right = right_model()
    wrong = deepcopy(right)
    state = {key: tensor.clone() for key, tensor in right.state_dict().items()}
    change(state)
    wrong.load_state_dict(state)
    if recorded:
        with torch.no_grad():
            outputs = wrong(torch.from_numpy(INPUTS)).numpy()
        found = parity.diagnose(right, {"inputs": INPUTS, "outputs": outputs}, pairs=False)
    else:
        found = parity.diagnose(right, wrong, inputs=INPUTS, pairs=False)
    assert found.found, str(found)
    assert [fault.name for fault in found.faults] == [name]
    assert words in found.cause
    if not recorded:
        assert parity.compare(right, found.repaired(), inputs=INPUTS).ok


def test_a_head_of_the_queries_alone() -> None:
    """No listed mistake: the weights themselves say it."""
    right = right_model()
    wrong = deepcopy(right)
    with torch.no_grad():
        wrong.attention.in_proj_weight[:WIDTH] = right.attention.in_proj_weight[:WIDTH].roll(SIZE, 0)
    found = parity.diagnose(right, wrong, inputs=INPUTS, pairs=False)
    assert [fault.name for fault in found.faults] == ["kernel reordered"]
    assert "blocks of 4 in the order 1, 0, 2, 3, 4, 5" in found.cause
    assert parity.compare(right, found.repaired(), inputs=INPUTS).ok


def of_keras() -> Any:
    given = keras.Input((7, FEATURES))
    attended = keras.layers.MultiHeadAttention(HEADS, SIZE, name="attention")(given, given)
    made = keras.Model(given, attended)
    random = np.random.default_rng(5)
    made.set_weights([random.uniform(-1.2, 1.2, weight.shape) for weight in made.get_weights()])
    return made


@pytest.mark.parametrize("order", [(1, 0, 2), (2, 1, 0)])
def test_projections_of_keras(order: tuple[int, ...]) -> None:
    right, wrong = of_keras(), of_keras()
    pairs = [right.get_weights()[place : place + 2] for place in (0, 2, 4)]
    wrong.set_weights([array for place in order for array in pairs[place]] + right.get_weights()[6:])
    found = parity.diagnose(right, wrong, inputs=INPUTS, pairs=False)
    assert [fault.name for fault in found.faults] == ["projections exchanged"]
    recording = {"inputs": INPUTS, "outputs": wrong.predict(INPUTS, verbose=0)}
    unseen = parity.diagnose(right, recording, pairs=False)
    assert [fault.name for fault in unseen.faults] == ["projections exchanged"]
    assert unseen.cause.partition(" has ")[2] == found.cause.partition(" has ")[2]


def test_healthy() -> None:
    right = right_model()
    assert parity.diagnose(right, deepcopy(right), inputs=INPUTS).agrees
    model = of_keras()
    assert parity.diagnose(model, parity.to_torch(model), inputs=INPUTS).agrees
