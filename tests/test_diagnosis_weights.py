"""Weights that are other numbers, weights that were never loaded, and an engine that does not compute what its weights say."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest
import torch
from torch import nn

import parity
from parity.frameworks.torch.running import TorchRunner
from parity.result import Result

FEATURES, UNITS = 7, 9


def trained(kind: Any, **options: Any) -> Any:
    """A layer whose weights are no longer as torch draws them."""
    torch.manual_seed(2)
    made = kind(FEATURES, UNITS, batch_first=True, **options)
    with torch.no_grad():
        for weight in made.parameters():
            weight.mul_(2.3)
    return made


def with_weights(kind: Any, right: Any, **weights: torch.Tensor) -> Any:
    made = kind(FEATURES, UNITS, batch_first=True, bidirectional=right.bidirectional)
    made.load_state_dict({**right.state_dict(), **weights})
    return made


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_a_tensor_that_was_never_loaded(kind: Any) -> None:
    right = trained(kind, bidirectional=True)
    torch.manual_seed(5)
    fresh = kind(FEATURES, UNITS, batch_first=True, bidirectional=True).weight_hh_l0_reverse
    assert isinstance(fresh, torch.Tensor)
    found = parity.diagnose(right, with_weights(kind, right, weight_hh_l0_reverse=fresh.detach()), pairs=False)
    assert found.found
    assert [fault.name for fault in found.faults] == ["never loaded"]
    assert (found.where[0].direction, found.where[0].tensor) == ("backward", "recurrent")
    assert parity.compare(right, found.repaired()).ok


def test_a_keras_layer_into_which_a_tensor_was_never_loaded() -> None:
    keras.utils.set_random_seed(4)
    right, wrong = (keras.Sequential([keras.Input((None, FEATURES)), keras.layers.LSTM(UNITS)]) for _ in range(2))
    random = np.random.default_rng(0)
    right.set_weights([random.normal(size=weight.shape).astype(np.float32) for weight in right.get_weights()])
    kernel, _, bias = right.get_weights()
    wrong.set_weights([kernel, wrong.get_weights()[1], bias])
    found = parity.diagnose(right, wrong, pairs=False)
    assert [fault.name for fault in found.faults] == ["never loaded"]
    assert "orthogonal" in found.cause


def test_two_tensors_of_other_numbers() -> None:
    right = trained(nn.GRU)
    random = np.random.default_rng(1)
    other = {
        name: torch.from_numpy(random.normal(size=tuple(right.state_dict()[name].shape)).astype(np.float32))
        for name in ("weight_ih_l0", "bias_hh_l0")
    }
    found = parity.diagnose(right, with_weights(nn.GRU, right, **other), pairs=False)
    assert {fault.name for fault in found.faults} == {"other numbers"}
    assert {place.tensor for place in found.where} >= {"kernel"}
    assert parity.compare(right, found.repaired()).ok


def test_a_gate_order_is_not_called_other_numbers() -> None:
    right = trained(nn.LSTM)
    i, f, g, o = right.weight_ih_l0.detach().chunk(4)
    found = parity.diagnose(right, with_weights(nn.LSTM, right, weight_ih_l0=torch.cat([i, o, f, g])), pairs=False)
    assert [fault.name for fault in found.faults] == ["gate order"]


@pytest.mark.parametrize("function", ["tanh", "relu", "sigmoid"])
def test_a_head_with_an_activation_that_does_not_belong(function: str) -> None:
    def model(activation: str | None) -> Any:
        layers = [keras.layers.LSTM(UNITS), keras.layers.Dense(4, activation=activation)]
        return keras.Sequential([keras.Input((None, FEATURES)), *layers])

    right, wrong = model(None), model(function)
    random = np.random.default_rng(6)
    for made in (right, wrong):
        made.set_weights(
            [random.normal(size=weight.shape).astype(np.float32) for weight in made.get_weights()]
            if made is right
            else right.get_weights()
        )
    found = parity.diagnose(right, wrong, pairs=False)
    assert [fault.name for fault in found.faults] == ["activation added"]
    assert function in found.cause


def test_a_kernel_that_is_off_is_told_from_a_mapping(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the third step on, the engine adds to what it gives: its weights and options are right."""
    honest = TorchRunner.__call__

    def off(self: TorchRunner, inputs: Any, *rest: Any) -> Result:
        result = honest(self, inputs, *rest)
        layers = {}
        for name, run in result.layers.items():
            assert run.sequence is not None
            sequence = run.sequence.copy()
            sequence[:, 2:] += 1e-3
            layers[name] = replace(run, sequence=sequence)
        return replace(result, layers=layers)

    right = trained(nn.LSTM)
    monkeypatch.setattr(TorchRunner, "__call__", off)
    found = parity.diagnose(right, with_weights(nn.LSTM, right), pairs=False)
    assert found.kernel is not None
    assert found.found
    assert found.kernel.engine == "torch"
    assert "onnxruntime" in found.kernel.agreeing
    assert (found.kernel.batch, found.kernel.steps) == (1, 3)
    assert "kernel, or code around the layers" in found.cause
    monkeypatch.undo()
    assert parity.diagnose(right, with_weights(nn.LSTM, right), pairs=False).agrees
