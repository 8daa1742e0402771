"""Weights that are other numbers, weights that were never loaded, and an engine that does not compute what its weights say."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from functools import cache
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


def stacked(kind: Any) -> Any:
    """Two layers of two directions, whose recurrent kernels are of one shape."""
    torch.manual_seed(3)
    made = kind(FEATURES, UNITS, 2, bidirectional=True, batch_first=True)
    with torch.no_grad():
        for weight in made.parameters():
            weight.uniform_(-0.7, 0.7)
    return made


def loaded(right: Any, **sources: str) -> Any:
    """A copy with tensors of other names."""
    wrong = deepcopy(right)
    state = right.state_dict()
    wrong.load_state_dict({name: state[sources.get(name, name)] for name in state})
    return wrong


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize(
    ("sources", "name", "words"),
    [
        ({"weight_hh_l0": "weight_hh_l1", "weight_hh_l1": "weight_hh_l0"}, "tensors swapped", "recurrent kernel of layer"),
        ({"bias_ih_l0": "bias_ih_l0_reverse", "bias_ih_l0_reverse": "bias_ih_l0"}, "tensors swapped", "bias of the input of its backward"),
        ({"weight_hh_l1": "weight_hh_l0_reverse"}, "tensor of another place", "the backward direction of layer"),
    ],
)  # fmt: skip
def test_a_tensor_of_another_place(kind: Any, sources: dict[str, str], name: str, words: str) -> None:
    right = stacked(kind)
    found = parity.diagnose(right, loaded(right, **sources), pairs=False)
    assert [fault.name for fault in found.faults] == [name], str(found)
    assert words in found.cause
    assert parity.compare(right, found.repaired()).ok


class Heads(nn.Module):
    """An LSTM and dense layers of one size behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(20, 8)
        self.lstm = nn.LSTM(8, 8, batch_first=True)
        self.norm = nn.LayerNorm(8)
        self.one, self.two = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Features of every step."""
        y, _ = self.lstm(self.table(x))
        return torch.as_tensor(self.two(torch.tanh(self.one(self.norm(y)))))


TOKENS = np.random.default_rng(2).integers(0, 20, (3, 9))


def with_state(right: Heads, change: Callable[[dict[str, Any]], None]) -> Heads:
    wrong = deepcopy(right)
    state = {name: tensor.clone() for name, tensor in right.state_dict().items()}
    change(state)
    wrong.load_state_dict(state)
    return wrong


def heads() -> Heads:
    torch.manual_seed(1)
    made = Heads().eval()
    with torch.no_grad():
        for weight in made.parameters():
            weight.uniform_(-1.2, 1.2)
    return made


@cache
def heads_and_reference() -> tuple[Heads, parity.Network]:
    """The module, and what is read of it: tracing takes a while."""
    right = heads()
    return right, parity.read(right, inputs=TOKENS)


def _exchange(state: dict[str, Any]) -> None:
    for name in ("weight", "bias"):
        state[f"one.{name}"], state[f"two.{name}"] = state[f"two.{name}"], state[f"one.{name}"]


def _of_a_fresh_one(*names: str) -> Callable[[dict[str, Any]], None]:
    torch.manual_seed(7)
    fresh = Heads().state_dict()
    return lambda state: state.update({name: fresh[name] for name in names})


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (_exchange, ["layers swapped"]),
        (lambda state: state.update({"two.weight": state["one.weight"]}), ["tensor of another place"]),
        (lambda state: state.update({"one.weight": -state["one.weight"]}), ["kernel negated"]),
        (lambda state: state.update({"table.weight": 2 * state["table.weight"]}), ["table doubled"]),
        (lambda state: state.update({"norm.weight": -state["norm.weight"]}), ["gamma negated"]),
        (lambda state: state.update({"one.weight": state["one.weight"].half().float()}), ["weights rounded"]),
        (_of_a_fresh_one("one.weight", "one.bias"), ["never loaded", "never loaded"]),
        (_of_a_fresh_one("table.weight"), ["never loaded"]),
    ],
)
def test_weights_around_recurrent_layers(change: Callable[[dict[str, Any]], None], names: list[str]) -> None:
    right, reference = heads_and_reference()
    wrong = with_state(right, change)
    found = parity.diagnose(reference, wrong, inputs=TOKENS, pairs=False)
    assert [fault.name for fault in found.faults] == names, str(found)
    with torch.no_grad():
        mended, wanted = (one(torch.from_numpy(TOKENS)) for one in (found.repaired(), right))
    assert torch.allclose(mended, wanted, atol=1e-5)


def test_many_tensors_each_with_its_own_mistake() -> None:
    right, reference = heads_and_reference()

    def change(state: dict[str, Any]) -> None:
        state["lstm.weight_ih_l0"] = state["lstm.weight_ih_l0"].T.reshape(32, 8)
        state["lstm.weight_hh_l0"] = state["lstm.weight_hh_l0"].roll(8, 0)
        state["norm.bias"] = torch.full((8,), 0.3) + state["norm.weight"].roll(1)
        state["one.weight"] = -state["one.weight"]
        state["two.weight"] = 2 * state["two.weight"]

    found = parity.diagnose(reference, with_state(right, change), inputs=TOKENS, pairs=False)
    names = [fault.name for fault in found.faults]
    expected = ["reshaped instead of transposed", "gate order", "other numbers", "kernel negated", "kernel doubled"]
    assert names == expected, str(found)
    assert [place.layer for place in found.where] == ["lstm", "lstm", "norm", "one", "two"]
    assert parity.compare(right, found.repaired(), inputs=TOKENS).ok
