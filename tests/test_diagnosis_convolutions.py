"""Ports of a convolution in front of a recurrent layer, written by hand in torch."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from typing import Any

import keras
import numpy as np
import pytest
import torch
from torch import nn

import parity

FEATURES, CHANNELS, UNITS = 3, 6, 5


class Port(nn.Module):
    """A convolution, an activation, a GRU."""

    def __init__(self, wrong: bool) -> None:
        super().__init__()
        self.conv = nn.Conv1d(FEATURES, CHANNELS, 3, padding=1)
        self.gru = nn.GRU(CHANNELS, UNITS, batch_first=True)
        self.wrong = wrong

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.conv(x.transpose(1, 2)))  # (batch, channels, time)
        y = y.reshape(x.shape[0], -1, CHANNELS) if self.wrong else y.transpose(1, 2)
        found: torch.Tensor = self.gru(y)[0]
        return found


def filled() -> Any:
    random = np.random.default_rng(3)
    layers = [
        keras.layers.Conv1D(CHANNELS, 3, padding="same", activation="relu", name="conv"),
        keras.layers.GRU(UNITS, return_sequences=True, name="gru"),
    ]
    model = keras.Sequential([keras.Input((None, FEATURES)), *layers])
    model.set_weights([random.uniform(-0.7, 0.7, one.shape) for one in model.get_weights()])
    return model


@pytest.mark.parametrize("recorded", [False, True])
def test_channels_that_are_reshaped_in_place_of_transposed(recorded: bool) -> None:
    right = filled()
    good, wrong = Port(wrong=False).eval(), Port(wrong=True).eval()
    for port in (good, wrong):
        parity.transfer(right, port, names={"conv": "conv", "gru": "gru"})
    x = np.random.default_rng(5).normal(size=(4, 11, FEATURES)).astype(np.float32)
    assert parity.diagnose(right, good, x, pairs=False).agrees
    outputs = wrong(torch.from_numpy(x)).detach().numpy()
    suspect: Any = {"inputs": x, "outputs": outputs} if recorded else wrong
    found = parity.diagnose(right, suspect, None if recorded else x, pairs=False)
    assert found.found, str(found)
    assert [fault.name for fault in found.faults] == ["reshaped in place of transposed"]
    assert [place.layer for place in found.where] == ["gru"]
    if not recorded:
        assert "x = x.transpose(1, 2)  # not .view or .reshape" in found.repair
        assert parity.compare(right, found.repaired(), inputs=x).ok
