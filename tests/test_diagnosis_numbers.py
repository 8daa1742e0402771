"""Weights that are not the right ones but come from them: near, rounded, printed, in another order; and what is said of fresh ones."""

from __future__ import annotations

import re
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import parity
from parity.diagnosis.differing import differences, is_near, is_related
from parity.diagnosis.fresh import looks_fresh
from parity.diagnosis.turns import turn_between

FEATURES, UNITS = 8, 16
RANDOM = np.random.default_rng(8)

Change = Callable[[Any], None]


def just_made(kind: Any, scale: float = 1.0, **options: Any) -> Any:
    """A layer as torch draws it, or one whose weights no longer are."""
    torch.manual_seed(0)
    made = kind(FEATURES, UNITS, batch_first=True, **options)
    with torch.no_grad():
        for weight in made.parameters():
            weight.mul_(scale)
    return made


def changed(right: Any, change: Change) -> Any:
    wrong = deepcopy(right)
    with torch.no_grad():
        change(wrong)
    return wrong


def noise(like: torch.Tensor, size: float) -> torch.Tensor:
    return torch.from_numpy(RANDOM.normal(size=tuple(like.shape)).astype(np.float32)) * size


def _one_entry(layer: Any) -> None:
    layer.weight_hh_l0[5, 3] += 1e-3


def _noise_in_all(layer: Any) -> None:
    for weight in layer.parameters():
        weight.add_(noise(weight, 1e-5))


def _noise_in_one(layer: Any) -> None:
    layer.weight_ih_l0.add_(noise(layer.weight_ih_l0, 1e-5))


def _printed(form: str) -> Change:
    def change(layer: Any) -> None:
        for weight in layer.parameters():
            said = [float(form % number) for number in weight.ravel().tolist()]
            weight.copy_(torch.tensor(said).reshape(weight.shape))

    return change


def _trained_further(layer: Any) -> None:
    with torch.enable_grad():
        stepper = torch.optim.SGD(layer.parameters(), 0.01)
        outputs, _ = layer(torch.from_numpy(np.random.default_rng(3).normal(size=(3, 5, FEATURES)).astype(np.float32)))
        (outputs**2).sum().backward()
        stepper.step()


def _flipped(layer: Any) -> None:
    layer.weight_hh_l0.copy_(layer.weight_hh_l0.flip(0))


def _shuffled(layer: Any) -> None:
    torch.manual_seed(4)
    weight = layer.weight_hh_l0
    weight.copy_(weight.flatten()[torch.randperm(weight.numel())].view_as(weight))


def _quantised_bias(layer: Any) -> None:
    bias = layer.bias_hh_l0
    step = bias.abs().max() / 127
    bias.copy_((bias / step).round() * step)


def _drawn_anew(layer: Any) -> None:
    torch.manual_seed(9)
    layer.weight_hh_l0.copy_(type(layer)(FEATURES, UNITS).weight_hh_l0)


def _drawn_anew_but_one_gate(layer: Any) -> None:
    torch.manual_seed(9)
    layer.weight_hh_l0[UNITS:] = type(layer)(FEATURES, UNITS).weight_hh_l0[UNITS:]


CHANGES: list[tuple[Change, str, str]] = [
    (_one_entry, "other numbers", r"1 of \d+ numbers differs: -?0\.\d+ in place of -?0\.\d+ at (input|reset) gate ., unit 5, state 3"),
    (_noise_in_all, "other numbers", r"near the right ones in its weights: at most \de-05 off .*one more step of training"),
    (_noise_in_one, "other numbers", r"near the right ones in its input kernel: \d+ of \d+ numbers differ, by at most [\d.]+e-05 \(at"),
    (_printed("%.4g"), "weights rounded", r"has its weights rounded to 4 digits, as %\.4g"),
    (_trained_further, "other numbers", r"near the right ones .* training"),
    (_flipped, "kernel reversed", r"recurrent kernel with its lines .* in the opposite order"),
    (_shuffled, "other numbers", r"they are the right ones in another order \(\d+ of \d+ numbers differ, by at most"),
    (_quantised_bias, "weights rounded", r"bias rounded to 8-bit integers"),
    (_drawn_anew, "other numbers", r"both sides look like layers that were just made"),
    (_drawn_anew_but_one_gate, "other numbers", r"other numbers in the (forget gate f|update gate z).* of its recurrent kernel"),
]  # fmt: skip


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
@pytest.mark.parametrize(("change", "name", "words"), CHANGES)
def test_beside_weights_as_torch_draws_them(kind: Any, change: Change, name: str, words: str) -> None:
    right = just_made(kind)
    found = parity.diagnose(right, changed(right, change), pairs=False)
    assert found.found
    assert {fault.name for fault in found.faults} == {name}, str(found)
    cause = found.faults[0].cause
    assert re.search(words.replace(r"\de-05", r"[\d.]+e-05"), cause), cause
    assert all("into which nothing was loaded" not in fault.cause for fault in found.faults)
    assert parity.compare(right, found.repaired()).ok


def test_weights_drawn_anew_beside_trained_ones_were_never_loaded() -> None:
    right = just_made(nn.LSTM, 2.3)
    found = parity.diagnose(right, changed(right, _drawn_anew), pairs=False)
    assert [fault.name for fault in found.faults] == ["never loaded"]


def test_ones_and_zeros_that_nobody_trained_were_never_loaded() -> None:
    """A trained bias of which the forget gate stays near one goes together with the fresh one, and was drawn by nobody."""
    layer = parity.read(just_made(nn.LSTM)).recurrent[0]
    fresh = np.zeros((4, UNITS))
    fresh[1] = 1
    trained = fresh + RANDOM.normal(size=fresh.shape) / 20
    assert is_related(trained, fresh)
    assert "ones for the forget gate" in looks_fresh(layer, {"forward.bias": fresh}, "forward.bias", trained)


def test_differences_are_told_as_they_are() -> None:
    right = RANDOM.normal(size=(3, 4))
    theirs = right.copy()
    theirs[1, 2], theirs[2, 0] = 7.5, -2.25
    said = differences(right, theirs, lambda index: f"<{index[0]} {index[1]}>")
    assert said.startswith("2 of 12 numbers differ: 7.5 in place of")
    assert "at <1 2>, -2.25 in place of" in said
    assert said.endswith("at <2 0>")
    theirs = right + 0.5
    theirs[0, 3] -= 2
    assert (
        differences(right, theirs, lambda index: f"<{index[0]} {index[1]}>")
        == "12 of 12 numbers differ, by at most 1.5 (at <0 3>)"
    )


def test_independent_numbers_of_one_distribution_are_not_related() -> None:
    for size in (8, 16, 64, 1024):
        pairs = [RANDOM.uniform(-1, 1, size=(2, size)) for _ in range(100)]
        assert sum(is_related(one, two) for one, two in pairs) <= 2
        assert not any(is_near(one, two) for one, two in pairs)


@pytest.mark.parametrize("digits", [3, 5, 6])
def test_printed_numbers_and_numbers_that_are_only_as_near(digits: int) -> None:
    right = RANDOM.normal(size=(12, 7)).astype(np.float32)
    printed = np.array([[float(f"{one:.{digits}g}") for one in row] for row in right], np.float32)
    turn = turn_between(right, printed)
    assert turn is not None
    assert turn.words == f"rounded to {digits} digits, as %.{digits}g prints them"
    assert turn_between(right, (right + RANDOM.permutation((printed - right).ravel()).reshape(right.shape))) is None


def renumbered(layer: Any, follow: bool) -> tuple[Any, torch.Tensor]:
    """The same layers with their units in another order, and that of the last ones; the columns of the layers behind follow or do not."""
    made, columns = deepcopy(layer), None
    ways = ["", "_reverse"] if layer.bidirectional else [""]
    random = np.random.default_rng(5)
    with torch.no_grad():
        for number in range(layer.num_layers):
            orders = []
            for index, way in enumerate(ways):
                place = f"l{number}{way}"
                order = torch.from_numpy(random.permutation(UNITS))
                gates = getattr(made, f"weight_hh_{place}").shape[0] // UNITS
                lines = torch.cat([order + UNITS * gate for gate in range(gates)])
                for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                    weight = getattr(made, f"{name}_{place}")
                    weight.copy_(weight[lines])
                square = getattr(made, f"weight_hh_{place}")
                square.copy_(square[:, order])
                kernel = getattr(made, f"weight_ih_{place}")
                if columns is not None and follow:
                    kernel.copy_(kernel[:, columns])
                orders.append(order + UNITS * index)
            columns = torch.cat(orders)
    assert columns is not None
    return made, columns


@pytest.mark.parametrize("follow", [True, False])
@pytest.mark.parametrize(
    ("kind", "options"),
    [(nn.LSTM, {}), (nn.GRU, {"num_layers": 3}), (nn.RNN, {"bidirectional": True}), (nn.LSTM, {"num_layers": 2, "bidirectional": True})],
)  # fmt: skip
def test_units_in_another_order_are_one_mistake(kind: Any, options: dict[str, Any], follow: bool) -> None:
    right = just_made(kind, **options)
    wrong, order = renumbered(right, follow)
    x = noise(torch.zeros(2, 5, FEATURES), 1.0)
    with torch.no_grad():
        same = torch.allclose(wrong(x)[0], right(x)[0][..., order], atol=1e-5)
    found = parity.diagnose(right, wrong, pairs=False)
    assert [fault.name for fault in found.faults] == ["units in another order"], str(found)
    assert "the same, with states and output in that order" in found.cause
    assert same == ("which does not go with it" not in found.cause)
    assert parity.compare(right, found.repaired()).ok


def test_units_in_another_order_but_for_one_weight_are_not_that() -> None:
    right = just_made(nn.LSTM)
    wrong, _ = renumbered(right, True)
    with torch.no_grad():
        wrong.bias_hh_l0.copy_(right.bias_hh_l0)
    found = parity.diagnose(right, wrong, pairs=False)
    assert found.found
    assert all(fault.name != "units in another order" for fault in found.faults)


class Scores(nn.Module):
    """A GRU and a dense layer behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(FEATURES, UNITS, batch_first=True)
        self.head = nn.Linear(UNITS, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores of every step."""
        return torch.as_tensor(self.head(self.gru(x)[0]))


def test_a_head_behind_units_in_another_order() -> None:
    torch.manual_seed(2)
    right = Scores().eval()
    x = noise(torch.zeros(3, 6, FEATURES), 1.0)
    layer, order = renumbered(right.gru, True)
    wrong, turned = deepcopy(right), deepcopy(right)
    wrong.gru = turned.gru = layer
    with torch.no_grad():
        turned.head.weight.copy_(right.head.weight[:, order])
        assert torch.allclose(turned(x), right(x), atol=1e-5)
    reference = parity.read(right, inputs=x.numpy())
    assert parity.diagnose(reference, turned, inputs=x.numpy(), pairs=False).agrees
    found = parity.diagnose(reference, wrong, inputs=x.numpy(), pairs=False)
    assert [fault.name for fault in found.faults] == ["units in another order"], str(found)
    assert "layer 'head' behind takes them in the right order, which does not go with it" in found.cause
    with torch.no_grad():
        assert torch.allclose(found.repaired()(x), right(x), atol=1e-5)
