"""Recurrent layers in code for Keras: kinds, directions, masks, states, cells."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from parity.cell import Cell, plain_cell
from parity.conventions import MERGE_MODES, MergeMode
from parity.functions import Function
from parity.graph import Builder
from parity.graph.keras_code.module import snippet
from parity.layouts import GATES, KINDS, PEEPHOLES
from parity.network import Bidirectional, Dense, Embedding
from parity.recurrent import DIRECTIONS
from tests.combinations import covering
from tests.keras_code_cases import (
    floats,
    graph_of_recurrent,
    recurrent,
)
from tests.keras_code_harness import check, lint_sources

linted = pytest.fixture(scope="module", autouse=True)(lint_sources)


WAYS: dict[str, Any] = {"forward": DIRECTIONS[:1], "backward": DIRECTIONS[1:], "both": DIRECTIONS}


@pytest.mark.parametrize(("kind", "sequences", "way"), covering(itertools.product(KINDS, [True, False], WAYS)))
def test_recurrent_layers_with_states_given_and_taken(kind: Any, sequences: bool, way: str, tmp_path: Path) -> None:
    directions = WAYS[way]
    layer = recurrent(kind, directions=directions, return_sequences=sequences, reverse=directions == DIRECTIONS[1:])
    code = check(graph_of_recurrent(layer, started=True), tmp_path)
    assert "RNN(" not in code.source.replace("SimpleRNN(", "")


@pytest.mark.parametrize(
    ("kind", "fill", "sequences", "way"),
    covering(itertools.product(KINDS, ["zero", "repeat"], [True, False], WAYS)),
)
def test_masks(kind: Any, fill: Any, sequences: bool, way: str, tmp_path: Path) -> None:
    layer = recurrent(kind, directions=WAYS[way], fill=fill, return_sequences=sequences)
    check(graph_of_recurrent(layer, masked=True), tmp_path)


@pytest.mark.parametrize("mode", MERGE_MODES)
@pytest.mark.parametrize("fill", ["zero", "repeat"])
def test_directions_merged(mode: Any, fill: Any, tmp_path: Path) -> None:
    layer = recurrent("gru", directions=DIRECTIONS, merge_mode=mode, fill=fill, reverse=fill == "repeat")
    check(graph_of_recurrent(layer, masked=True), tmp_path)
    check(graph_of_recurrent(layer), tmp_path)


@pytest.mark.parametrize("reverse", [True, False])
@pytest.mark.parametrize(
    "directions", [DIRECTIONS[:1], DIRECTIONS[1:], DIRECTIONS], ids=["forward", "backward", "both"]
)
def test_order_of_steps(reverse: bool, directions: Any, tmp_path: Path) -> None:
    check(graph_of_recurrent(recurrent("rnn", directions=directions, reverse=reverse), masked=True), tmp_path)


PLAIN = {kind: plain_cell(kind) for kind in KINDS}
HARD = Function("hard_sigmoid", 0.2, 0.5)
CELLS: dict[str, dict[str, Any]] = {
    "no bias": {"kind": "lstm", "bias": False},
    "no bias gru": {"kind": "gru", "bias": False},
    "reset before": {"kind": "gru", "cell": replace(PLAIN["gru"], reset_after=False)},
    "reset before, clip": {"kind": "gru", "cell": replace(PLAIN["gru"], reset_after=False, clip=0.4)},
    "reset after, clip": {"kind": "gru", "cell": replace(PLAIN["gru"], clip=0.4)},
    "reset after, clip, no bias": {"kind": "gru", "bias": False, "cell": replace(PLAIN["gru"], clip=0.4)},
    "clip": {"kind": "rnn", "cell": replace(PLAIN["rnn"], clip=0.4)},
    "dropout": {"kind": "lstm", "dropout": 0.2, "recurrent_dropout": 0.1},
    "relu": {"kind": "rnn", "cell": Cell((Function("relu"),))},
    "hard sigmoid": {"kind": "lstm", "cell": Cell((HARD, Function("tanh"), Function("tanh")))},
    "elu": {"kind": "gru", "cell": Cell((Function("sigmoid"), Function("elu", 0.7)))},
    "unlike functions": {"kind": "lstm", "cell": Cell((HARD, Function("softsign"), Function("relu")))},
    "coupled": {"kind": "lstm", "cell": replace(PLAIN["lstm"], input_forget=True)},
    "peepholes": {"kind": "lstm", "peepholes": True},
    "projection": {"kind": "lstm", "projection": 2},
    "projection above": {"kind": "lstm", "projection": 7, "bias": False},
    "everything": {
        "kind": "lstm",
        "projection": 2,
        "peepholes": True,
        "cell": Cell((HARD, Function("softsign"), Function("scaled_tanh", 1.5, 0.7)), clip=0.9, input_forget=True),
    },
}


@pytest.mark.parametrize(
    ("name", "way", "masked"), covering(itertools.product(CELLS, ["forward", "both"], [False, True]))
)
def test_cells(name: str, way: str, masked: bool, tmp_path: Path) -> None:
    layer = recurrent(directions=WAYS[way], **CELLS[name])
    check(graph_of_recurrent(layer, masked=masked, started=not masked), tmp_path)


def test_the_cells_of_a_module_name_the_gates_in_the_order_of_the_layout() -> None:
    assert "z_i, z_f, z_c, z_o" in snippet("lstm_cell")
    assert GATES["lstm"] == ("i", "f", "g", "o")
    assert PEEPHOLES["lstm"] == ("i", "f", "o")


def test_unlike_directions(tmp_path: Path) -> None:
    first = recurrent("lstm", name="first", units=5)
    second = recurrent("gru", name="second", units=4, directions=DIRECTIONS[1:], reverse=True)
    over = recurrent("rnn", name="over", size=5, units=2)
    modes: tuple[MergeMode | None, ...] = ("concat", None)
    for merge in modes:
        stacks = (replace(first), replace(over)), (replace(second, reverse=False),)
        check(graph_of_recurrent(Bidirectional("both", *stacks, merge_mode=merge), masked=True), tmp_path)
    same = recurrent("gru", name="same", units=5, directions=DIRECTIONS[1:])
    sums: tuple[MergeMode, ...] = ("sum", "mul", "ave")
    for summed in sums:
        check(graph_of_recurrent(Bidirectional("both", (first,), (same,), merge_mode=summed)), tmp_path)


def test_each_direction_with_a_cell_of_its_own(tmp_path: Path) -> None:
    layer = recurrent("lstm", directions=DIRECTIONS)
    other = Cell((HARD, Function("tanh"), Function("tanh")))
    code = check(graph_of_recurrent(replace(layer, cells=(PLAIN["lstm"], other))), tmp_path)
    assert "backward_layer=layers.LSTM(" in code.source


def test_a_mask_reaches_only_the_layers_that_take_it(tmp_path: Path) -> None:
    build = Builder("model")
    tokens = build.input("tokens", ("batch", "time"), "int64", 9)
    mask = build.elementwise("not_equal", tokens, 0)
    x = build.call(Embedding("embedding", floats(9, 3)), tokens)
    x = build.call(recurrent("lstm", name="masked"), x, mask)
    free = build.call(recurrent("lstm", name="free", size=5), x)
    soft = build.softmax(x, axis=1, source="soft")
    pooled = build.mean(x, 1, source="pool")
    kept = build.call(recurrent("gru", name="again", size=5, return_sequences=False), build.activation("relu", x), mask)
    bare = build.call(recurrent("rnn", name="bare", size=5), build.call(Dense("d", floats(5, 5)), x))
    check(build.graph({"free": free, "soft": soft, "pool": pooled, "kept": kept, "bare": bare}), tmp_path)
