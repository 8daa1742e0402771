"""With a fault injected into a converter or an engine the comparison says disagree, and without it agree."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import parity
from parity.layouts import KINDS, LAYOUTS, Kind
from parity.recurrent import DIRECTIONS, Array
from parity.result import State
from tests.mutants import FEATURES, MUTANTS, UNITS, Mutant, network, wrong_orders

BATCH, TIME = 4, 9


def given(batch: int = BATCH, time: int = TIME) -> Array:
    return np.random.default_rng(1).standard_normal((batch, time, FEATURES)).astype(np.float32)


def states(kind: Kind, directions: int, batch: int = BATCH) -> State:
    random = np.random.default_rng(2)
    return State(
        *(
            random.uniform(-1, 1, (directions, batch, UNITS)).astype(np.float32)
            for _ in range(2 if kind == "lstm" else 1)
        )
    )


def compared(mutant: Mutant) -> parity.Comparison:
    start = {"recurrent": states(mutant.kind, len(mutant.directions), mutant.batch)}
    source = network(mutant.kind, mutant.directions, mutant.model)
    inputs = given(mutant.batch, mutant.time)
    return parity.compare(source, inputs=inputs, engines=[mutant.engine], initial_state=start)


SETTINGS = list({mutant.setting: mutant for mutant in MUTANTS}.values())


@pytest.mark.parametrize("mutant", SETTINGS, ids=lambda mutant: f"{mutant.setting}")
def test_without_a_fault_everything_agrees(mutant: Mutant) -> None:
    comparison = compared(mutant)
    assert comparison.verdict == "agree", str(comparison)


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_every_mutant_is_caught(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant.patch(monkeypatch)
    comparison = compared(mutant)
    assert comparison.verdict == "disagree", str(comparison)
    assert mutant.engine in comparison.sentence


@pytest.mark.parametrize("kind", KINDS)
def test_no_wrong_order_is_left_out(kind: Kind) -> None:
    for engine in ("torch", "onnxruntime"):
        together = [
            one
            for one in MUTANTS
            if (one.engine, one.kind) == (engine, kind) and one.name.startswith("gates") and "alone" not in one.name
        ]
        assert len(together) == {"lstm": 23, "gru": 5, "rnn": 0}[kind]


# ---- a broken reader: the reference itself is wrong, so what the source's own engine computes disagrees


@pytest.mark.parametrize("framework", ["torch", "onnx"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_wrong_order_in_a_reader_is_caught(framework: str, kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    source = {"torch": parity.to_torch, "onnx": parity.to_onnx}[framework](network(kind, DIRECTIONS, model=False))
    engine, reader = {
        "torch": ("torch", "parity.frameworks.torch.reading"),
        "onnx": ("onnxruntime", "parity.frameworks.onnx.weights"),
    }[framework]
    start = [array[None] for array in states(kind, 2).arrays()]
    assert parity.compare(source, inputs=given(), initial_state=start, engines=[engine]).verdict == "agree"
    for layout in wrong_orders(kind, LAYOUTS[framework, kind])[::7]:
        monkeypatch.setattr(f"{reader}.LAYOUTS", {**LAYOUTS, (framework, kind): layout})
        assert parity.compare(source, inputs=given(), initial_state=start, engines=[engine]).verdict == "disagree"


# ---- a module handed over that is not the same


def swap_rows(module: Any, kind: Kind, order: tuple[int, ...]) -> None:
    for name, parameter in module.named_parameters():
        if "bias" in name or "weight" in name:
            parts = parameter.chunk(4 if kind == "lstm" else 3)
            parameter.copy_(torch.cat([parts[index] for index in order]))


def transpose_recurrence(module: Any) -> None:
    weight = module.weight_hh_l0
    weight.copy_(torch.cat([part.T for part in weight.chunk(weight.shape[0] // UNITS)]))


def swap_biases(module: Any) -> None:
    first, second = module.bias_ih_l0.clone(), module.bias_hh_l0.clone()
    module.bias_ih_l0.copy_(second)
    module.bias_hh_l0.copy_(first)


def swap_directions(module: Any) -> None:
    for name, parameter in module.named_parameters():
        if name.endswith("_reverse"):
            forward = getattr(module, name.removesuffix("_reverse"))
            kept = forward.clone()
            forward.copy_(parameter)
            parameter.copy_(kept)


def drop_bias(module: Any) -> None:
    module.bias_hh_l0.zero_()


def double_bias(module: Any) -> None:
    module.bias_ih_l0.mul_(2)


CHANGES: list[tuple[Kind, Callable[[Any], None]]] = [
    ("lstm", lambda module: swap_rows(module, "lstm", (0, 1, 3, 2))),
    ("lstm", lambda module: swap_rows(module, "lstm", (1, 0, 2, 3))),
    ("gru", lambda module: swap_rows(module, "gru", (1, 0, 2))),
    ("gru", swap_biases),
    *((kind, change) for kind in KINDS for change in (transpose_recurrence, swap_directions, drop_bias, double_bias)),
]


@pytest.mark.parametrize(("kind", "change"), CHANGES)
def test_a_changed_module_is_caught(kind: Kind, change: Callable[[Any], None]) -> None:
    module = parity.to_torch(network(kind, DIRECTIONS, model=False))
    other = copy.deepcopy(module)
    start = [array[None] for array in states(kind, 2).arrays()]
    assert parity.compare(module, other, inputs=given(), initial_state=start).verdict == "agree"
    with torch.no_grad():
        change(other)
    comparison = parity.compare(module, other, inputs=given(), initial_state=start)
    assert comparison.verdict == "disagree"
    rows = [row for row in comparison.table if row.right == "reference" and row.rule == "run"]
    assert {row.left: row.verdict for row in rows if "#2" not in row.left} == {rows[0].left: "agree"}


def test_a_module_that_takes_time_first_is_the_same_layer() -> None:
    """batch_first is a convention, not a difference: inputs are always batch first here."""
    module = parity.to_torch(network("gru", DIRECTIONS, model=False))
    other = copy.deepcopy(module)
    other.batch_first = False
    assert parity.compare(module, other, inputs=given()).verdict == "agree"


def test_an_lstm_whose_two_biases_are_swapped_is_the_same_layer() -> None:
    """Only a GRU's candidate tells them apart."""
    module = parity.to_torch(network("lstm", ("forward",), model=False))
    other = copy.deepcopy(module)
    with torch.no_grad():
        swap_biases(other)
    assert parity.compare(module, other, inputs=given()).verdict == "agree"
