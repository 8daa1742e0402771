"""Whether two sources that disagree hold other numbers, the same elsewhere, or the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import parity
from parity.network import Network
from parity.recurrent import Weights, merge_biases
from parity.weights_apart import weights_apart


def network(seed: int = 0, kind: Any = torch.nn.GRU) -> Network:
    torch.manual_seed(seed)
    return parity.read(kind(3, 5, bidirectional=True))


def changed(one: Network, **members: Any) -> Network:
    layer = one.recurrent[0]
    weights = tuple(own.with_held(**{name: change(own) for name, change in members.items()}) for own in layer.weights)
    return replace(one, layers=(replace(layer, weights=weights),))


def test_another_training() -> None:
    told = weights_apart(network(0), network(1), "b")
    assert told is not None
    assert "other numbers (8 of 8 arrays" in told
    assert "another training" in told


@pytest.mark.parametrize("member", ["kernel", "recurrent", "bias_input"])
def test_gates_in_another_order(member: str) -> None:
    one = network()
    told = weights_apart(one, changed(one, **{member: lambda own: own.member(member)[[1, 0, 2]]}), "b")
    assert told is not None
    assert f"in another order (forward.{member}" in told


def test_biases_that_only_their_sum_matters_for() -> None:
    one = network(kind=torch.nn.LSTM)

    def half(own: Weights) -> Any:
        return merge_biases(own)

    summed = changed(one, bias_input=half, bias_recurrent=lambda own: np.zeros_like(own.bias_recurrent))
    told = weights_apart(one, summed, "b")
    assert told is not None
    assert "bit for bit" in told


def test_other_sizes_say_nothing() -> None:
    assert weights_apart(network(), parity.read(torch.nn.GRU(3, 6, bidirectional=True)), "b") is None


def test_a_comparison_says_it_where_it_disagrees() -> None:
    torch.manual_seed(0)
    layer, other = torch.nn.GRU(3, 5), torch.nn.GRU(3, 5)
    assert "another training" in parity.compare(layer, other, engines=["torch"]).notes[0]
    wrong = parity.read(layer)
    cells = tuple(replace(cell, reset_after=False) for cell in wrong.recurrent[0].cells)
    before = replace(wrong, layers=(replace(wrong.recurrent[0], cells=cells),))
    assert "differ in how they are used" in parity.compare(layer, before, engines=["torch"]).notes[0]
    assert not any("weights of" in note for note in parity.compare(layer, layer, engines=["torch"]).notes)
