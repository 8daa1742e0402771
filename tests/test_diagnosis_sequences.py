"""Mistakes with steps, directions, states, masks and precision, made in code of torch, are named by what they give."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from parity.diagnosis import Diagnosis, diagnose

KINDS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
FEATURES, UNITS, CLASSES = 3, 5, 4


def lively(module: nn.Module, seed: int = 0) -> nn.Module:
    """With weights and biases that all show."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in module.parameters():
            value.uniform_(-0.8, 0.8, generator=generator)
    return module.eval()


class Model(nn.Module):
    """A recurrent layer in code of one's own; what the code does is handed over."""

    def __init__(self, code: Callable[..., Any], kind: str = "lstm", dense: int = 0, second: int = 0, **options: Any) -> None:
        super().__init__()
        self.code = code
        self.rnn = KINDS[kind](FEATURES, UNITS, **{"batch_first": True, **options})
        if second:
            self.second = KINDS[kind](second, UNITS, batch_first=True)
        if dense:
            self.head = nn.Linear(dense, CLASSES)

    def forward(self, x: Tensor) -> Any:
        return self.code(self, x)


def wrong_of(right: Model, code: Callable[..., Any]) -> Model:
    """The same weights under other code."""
    wrong = copy.deepcopy(right)
    wrong.code = code
    return wrong


def h_of(states: Any) -> Tensor:
    """h_n, whether there is a c_n or not."""
    found: Tensor = states[0] if isinstance(states, tuple) else states
    return found


def named(found: Diagnosis, name: str, layer: str | None = None, direction: str = "") -> None:
    """The one cause, at its place."""
    assert found.found, found
    (fault,) = found.faults
    assert fault.name == name, found
    assert layer is None or fault.place.layer == layer, found
    assert fault.place.direction == direction, found


def among(found: Diagnosis, name: str) -> None:
    """One of those that explain it equally."""
    assert name in {fault.name for faults in (found.faults, *found.alternatives) for fault in faults}, found


def steps(module: Any, x: Tensor) -> Tensor:
    return module.head(module.rnn(x)[0])


def turned_in(module: Any, x: Tensor) -> Tensor:
    return module.head(module.rnn(x.flip(1))[0])


def turned_out(module: Any, x: Tensor) -> Tensor:
    return module.head(module.rnn(x)[0].flip(1))


def turned_both(module: Any, x: Tensor) -> Tensor:
    return module.head(module.rnn(x.flip(1))[0].flip(1))


def features_turned(module: Any, x: Tensor) -> Tensor:
    return steps(module, x.flip(-1))


def step_later(module: Any, x: Tensor) -> Tensor:
    return steps(module, torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], dim=1))


def time_first(module: Any, x: Tensor) -> Tensor:
    return module.head(module.rnn(x.transpose(0, 1))[0].transpose(0, 1))


def back_half_turned(module: Any, x: Tensor) -> Tensor:
    ahead, back = module.rnn(x)[0].chunk(2, dim=-1)
    return module.head(torch.cat([ahead, back.flip(1)], dim=-1))


def halves_swapped(module: Any, x: Tensor) -> Tensor:
    ahead, back = module.rnn(x)[0].chunk(2, dim=-1)
    return module.head(torch.cat([back, ahead], dim=-1))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("code", "name"),
    [
        (turned_in, "reversed in time"),
        (turned_out, "steps not turned back"),
        (turned_both, "other direction"),
        (features_turned, "features reversed"),
        (step_later, "shifted by a step"),
        (time_first, "batch and time exchanged"),
    ],
)
def test_a_sequence_sent_another_way_is_named(kind: str, code: Callable[..., Any], name: str) -> None:
    right = lively(Model(steps, kind, dense=UNITS))
    found = diagnose(right, wrong_of(right, code), pairs=False)
    if name == "features reversed":
        among(found, name)
    else:
        named(found, name)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("code", "name", "direction"),
    [
        (turned_in, "reversed in time", ""),
        (turned_out, "steps not turned back", ""),
        (back_half_turned, "steps not turned back", "backward"),
        (halves_swapped, "halves swapped", ""),
        (time_first, "batch and time exchanged", ""),
    ],
)
def test_a_bidirectional_sequence_sent_another_way_is_named(
    kind: str, code: Callable[..., Any], name: str, direction: str
) -> None:
    right = lively(Model(steps, kind, dense=2 * UNITS, bidirectional=True))
    named(diagnose(right, wrong_of(right, code), pairs=False), name, direction=direction)


def both_ends(module: Any, x: Tensor) -> Tensor:
    h = h_of(module.rnn(x)[1])
    return module.head(torch.cat([h[-2], h[-1]], dim=-1))


def last_output(module: Any, x: Tensor) -> Tensor:
    return module.head(module.rnn(x)[0][:, -1])


def first_output(module: Any, x: Tensor) -> Tensor:
    return module.head(module.rnn(x)[0][:, 0])


def ends_swapped(module: Any, x: Tensor) -> Tensor:
    h = h_of(module.rnn(x)[1])
    return module.head(torch.cat([h[-1], h[-2]], dim=-1))


def ends_viewed(module: Any, x: Tensor) -> Tensor:
    h = h_of(module.rnn(x)[1])[-2:]
    return module.head(h.reshape(x.shape[0], -1))


def first_layer(module: Any, x: Tensor) -> Tensor:
    h = h_of(module.rnn(x)[1])
    return module.head(torch.cat([h[0], h[1]], dim=-1))


ENDS = [
    (last_output, "step in place of the final state", "backward"),
    (first_output, "step in place of the final state", "forward"),
    (ends_viewed, "states reshaped", ""),
]


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("code", "name", "direction"), ENDS)
def test_another_end_of_both_directions_is_named(
    kind: str, layers: int, code: Callable[..., Any], name: str, direction: str
) -> None:
    right = lively(Model(both_ends, kind, dense=2 * UNITS, bidirectional=True, num_layers=layers))
    named(diagnose(right, wrong_of(right, code), pairs=False), name, direction=direction)


def test_final_states_in_the_other_order_and_of_another_layer_are_named() -> None:
    right = lively(Model(both_ends, dense=2 * UNITS, bidirectional=True, num_layers=2))
    among(diagnose(right, wrong_of(right, ends_swapped), pairs=False), "halves swapped")
    named(diagnose(right, wrong_of(right, first_layer), pairs=False), "final state of another layer", "rnn_l1")


def test_a_right_model_that_takes_a_step_is_told_from_one_that_takes_states() -> None:
    right = lively(Model(last_output, "gru", dense=2 * UNITS, bidirectional=True))
    named(
        diagnose(right, wrong_of(right, both_ends), pairs=False),
        "final states in place of a step",
        direction="backward",
    )
    named(diagnose(right, wrong_of(right, first_output), pairs=False), "wrong step")
    single = lively(Model(last_output, "gru", dense=UNITS))
    named(diagnose(single, wrong_of(single, first_output), pairs=False), "wrong step")


def summed(module: Any, x: Tensor) -> Tensor:
    ahead, back = module.rnn(x)[0].chunk(2, dim=-1)
    return module.head(ahead + back)


def multiplied(module: Any, x: Tensor) -> Tensor:
    ahead, back = module.rnn(x)[0].chunk(2, dim=-1)
    return module.head(ahead * back)


def averaged(module: Any, x: Tensor) -> Tensor:
    ahead, back = module.rnn(x)[0].chunk(2, dim=-1)
    return module.head((ahead + back) / 2)


@pytest.mark.parametrize("code", [multiplied, averaged])
def test_directions_merged_otherwise_are_named(code: Callable[..., Any]) -> None:
    right = lively(Model(summed, "gru", dense=UNITS, bidirectional=True))
    among(diagnose(right, wrong_of(right, code), pairs=False), "merge mode")


def two_backward(module: Any, x: Tensor) -> Tensor:
    return module.second(module.rnn(x.flip(1))[0].flip(1))[0]


def two_backward_as_it_is(module: Any, x: Tensor) -> Tensor:
    return module.second(module.rnn(x.flip(1))[0])[0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_backward_layer_that_is_not_turned_back_is_named(kind: str) -> None:
    right = lively(Model(two_backward, kind, second=UNITS))
    named(diagnose(right, wrong_of(right, two_backward_as_it_is), pairs=False), "steps not turned back", "rnn")


@pytest.mark.parametrize("kind", KINDS)
def test_stacked_layers_that_are_right_have_no_cause(kind: str) -> None:
    right = lively(Model(both_ends, kind, dense=2 * UNITS, bidirectional=True, num_layers=2))
    found = diagnose(right, copy.deepcopy(right))
    assert found.agrees and not found.faults
