"""The source of torch modules: recurrent layers with every option, stacks, states, and whole graphs at random."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parity.cell import Cell, plain_cell
from parity.conventions import MERGE_MODES
from parity.functions import FUNCTIONS, Function
from parity.graph import Builder, Graph, Wire
from parity.graph.operations import Convolution, Length
from parity.network import Bidirectional, Dense, Dropout, Recurrent
from tests.torch_code_running import (
    BOTH,
    check,
    given,
    lint_sources,
    masks,
    recurrent,
)

WAYS = (("forward",), ("backward",), BOTH)
B, T = Length(0, 0), Length(0, 1)
linted = pytest.fixture(scope="module", autouse=True)(lint_sources)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


# ---- recurrent layers


def check_recurrent(
    layer: Any, rng: np.random.Generator, folder: Path, masked: bool = False, states: bool = False
) -> str:
    build = Builder("model")
    x = build.input("x", ("batch", "time", layer.input_size))
    takes: list[Wire | None] = [x]
    inputs: dict[str, Any] = {"x": rng.normal(size=(6, 9, layer.input_size))}
    takes.append(build.input("mask", ("batch", "time"), "bool") if masked else None)
    inputs |= {"mask": masks(rng)} if masked else {}
    if states:
        for index, (_, state) in enumerate(product(layer.spec.directions, layer.spec.states)):
            size = layer.spec.state_shape(state, 1)[-1]
            takes.append(build.input(f"start_{index}", ("batch", size)))
            inputs[f"start_{index}"] = rng.normal(size=(6, size))
    node = build.call(layer, *takes)
    count = len(layer.values) if isinstance(layer, Recurrent) else 2 if layer.merge_mode is None else 1
    graph = build.graph({f"value_{index}": Wire(node.node, index) for index in range(count)})
    source = check(graph, inputs, folder).source
    alone = build.graph({"y": node})
    check(alone, inputs, folder / "alone")
    return source


@pytest.mark.parametrize("sequences", [True, False])
@pytest.mark.parametrize("ways", WAYS)
@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn"])
def test_recurrent_layers_are_torchs_own(
    kind: Any, ways: Any, sequences: bool, tmp_path: Path, rng: np.random.Generator
) -> None:
    for number, (reverse, states) in enumerate(product((False, True), repeat=2)):
        layer = recurrent(rng, kind, ways, return_sequences=sequences, reverse=reverse, bias=number != 1)
        source = check_recurrent(layer, rng, tmp_path / str(number), states=states)
        assert f"nn.{kind.upper()}(6, 5, " in source


@pytest.mark.parametrize("mode", MERGE_MODES)
@pytest.mark.parametrize("sequences", [True, False])
def test_merge_modes(mode: Any, sequences: bool, tmp_path: Path, rng: np.random.Generator) -> None:
    for number, (reverse, masked) in enumerate(product((False, True), repeat=2)):
        layer = recurrent(rng, "gru", BOTH, return_sequences=sequences, reverse=reverse, merge_mode=mode)
        check_recurrent(layer, rng, tmp_path / str(number), masked=masked)


@pytest.mark.parametrize("fill", ["zero", "repeat"])
@pytest.mark.parametrize("ways", WAYS)
@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn"])
def test_masks(kind: Any, ways: Any, fill: Any, tmp_path: Path, rng: np.random.Generator) -> None:
    for number, (reverse, sequences, states) in enumerate(product((False, True), repeat=3)):
        layer = recurrent(rng, kind, ways, return_sequences=sequences, reverse=reverse, fill=fill)
        source = check_recurrent(layer, rng, tmp_path / str(number), masked=True, states=states)
        assert f"nn.{kind.upper()}(6, 5, " in source


def test_no_step_valid(tmp_path: Path, rng: np.random.Generator) -> None:
    layer = recurrent(rng, "lstm", BOTH)
    build = Builder("model")
    x, mask = build.input("x", ("batch", "time", 6)), build.input("mask", ("batch", "time"), "bool")
    graph = build.graph({"y": build.call(layer, x, mask)})
    check(graph, {"x": rng.normal(size=(3, 4, 6)), "mask": np.zeros((3, 4), bool)}, tmp_path)


def test_projection_and_relu(tmp_path: Path, rng: np.random.Generator) -> None:
    for number, masked in enumerate((False, True)):
        layer = recurrent(rng, "lstm", BOTH, projection=3)
        assert "proj_size=3" in check_recurrent(layer, rng, tmp_path / f"a{number}", masked=masked, states=True)
        layer = recurrent(rng, "rnn", BOTH, cells=(Cell((Function("relu"),)),) * 2)
        assert 'nonlinearity="relu"' in check_recurrent(layer, rng, tmp_path / f"b{number}", masked=masked)


HARD = Function("hard_sigmoid", 0.2, 0.5)
CELLS: dict[str, tuple[str, dict[str, Any]]] = {
    "reset before": ("gru", {"cell": Cell((Function("sigmoid"), Function("tanh")), reset_after=False)}),
    "reset before, hard, no bias": ("gru", {"cell": Cell((HARD, Function("relu")), reset_after=False), "bias": False}),
    "gru with clip": ("gru", {"cell": Cell((Function("sigmoid"), Function("softsign")), clip=0.4)}),
    "hard sigmoid of Keras 3": ("lstm", {"cell": Cell((Function("hard_sigmoid", 1 / 6, 0.5), Function("tanh"), Function("tanh")))}),
    "linear": ("lstm", {"cell": Cell((HARD, Function("affine", 1.0, 0.0), Function("affine", 0.3, 0.1)))}),
    "peepholes": ("lstm", {"peepholes": True}),
    "peepholes, projection": ("lstm", {"peepholes": True, "projection": 3, "bias": False}),
    "wide projection": ("lstm", {"projection": 8}),
    "clip": ("lstm", {"cell": Cell((Function("sigmoid"), Function("tanh"), Function("tanh")), clip=0.4)}),
    "coupled": ("lstm", {"cell": Cell((Function("sigmoid"), HARD, Function("softplus")), clip=0.9, input_forget=True), "peepholes": True}),
    "rnn": ("rnn", {"cell": Cell((Function("leaky_relu", 0.2),))}),
    "rnn with clip": ("rnn", {"cell": Cell((HARD,), clip=1.5), "bias": False}),
}  # fmt: skip


@pytest.mark.parametrize("ways", WAYS)
@pytest.mark.parametrize("name", CELLS)
def test_cells_that_torch_has_not(name: str, ways: Any, tmp_path: Path, rng: np.random.Generator) -> None:
    kind, options = CELLS[name]
    options = dict(options)
    cell = options.pop("cell", None)
    cells = () if cell is None else (cell,) * len(ways)
    for number, (masked, states, fill) in enumerate(
        ((False, False, "zero"), (True, False, "zero"), (True, True, "repeat"))
    ):
        layer = recurrent(
            rng, kind, ways, cells=cells, fill=fill, return_sequences=number != 1, reverse=number == 2, **options
        )
        check_recurrent(layer, rng, tmp_path / str(number), masked, states)


# A recurrence of exponentials has no bounds.
@pytest.mark.parametrize("function", [name for name in FUNCTIONS if name != "exponential"])
def test_functions_in_cells(function: str, tmp_path: Path, rng: np.random.Generator) -> None:
    row = FUNCTIONS[function]
    own = Function(function, None if row.alpha is None else 0.3, None if row.beta is None else 0.4)
    layer = recurrent(rng, "gru", cells=(Cell((Function("sigmoid"), own)),))
    check_recurrent(layer, rng, tmp_path)


def test_unlike_cells_in_two_directions(tmp_path: Path, rng: np.random.Generator) -> None:
    cells = (plain_cell("gru"), Cell((HARD, Function("tanh")), reset_after=False))
    for number, mode in enumerate(MERGE_MODES):
        layer = recurrent(rng, "gru", BOTH, cells=cells, merge_mode=mode)
        source = check_recurrent(layer, rng, tmp_path / str(number), masked=number % 2 == 0, states=True)
        assert "nn.GRU(" in source


@pytest.mark.parametrize("mode", MERGE_MODES)
def test_unlike_directions(mode: Any, tmp_path: Path, rng: np.random.Generator) -> None:
    for number, (masked, sequences) in enumerate(product((False, True), repeat=2)):
        forward = (
            recurrent(rng, "lstm", name="below"),
            recurrent(rng, "gru", sizes=(5, 4), name="above", return_sequences=sequences, fill="repeat"),
        )
        backward = (
            recurrent(
                rng, "rnn", ("backward",), sizes=(6, 4), name="back", return_sequences=sequences, cells=(Cell((HARD,)),)
            ),
        )
        check_recurrent(Bidirectional("both", forward, backward, mode), rng, tmp_path / str(number), masked)


def test_float_masks(tmp_path: Path, rng: np.random.Generator) -> None:
    build = Builder("model")
    x, mask = build.input("x", ("batch", "time", 6)), build.input("mask", ("batch", "time"), "int64", 2)
    graph = build.graph({"y": build.call(recurrent(rng), x, build.cast(mask, "bool"))})
    check(graph, {"x": rng.normal(size=(6, 9, 6)), "mask": masks(rng).astype(np.int64)}, tmp_path)


# ---- stacks and states


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("ways", [("forward",), BOTH])
@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_stacks_are_one_module(kind: Any, ways: Any, masked: bool, tmp_path: Path, rng: np.random.Generator) -> None:
    build = Builder("model", "torch")
    value = build.input("x", ("batch", "time", 6))
    mask = build.input("mask", ("batch", "time"), "bool") if masked else None
    width, kinds = 5 * len(ways), 2 if kind == "lstm" else 1
    starts = [build.input(f"start_{state}", (3 * len(ways), "batch", 5)) for state in range(kinds)]
    states: list[list[Wire]] = [[] for _ in range(kinds)]
    for depth in range(3):
        layer = recurrent(rng, kind, ways, sizes=(6 if depth == 0 else width, 5), name=f"rnn_l{depth}", fill="repeat")
        own = [
            build.select(starts[state], 0, depth * len(ways) + way)
            for way in range(len(ways))
            for state in range(kinds)
        ]
        value = build.call(layer, value, mask, *own)
        node = value.node
        for way, state in product(range(len(ways)), range(kinds)):
            states[state].append(Wire(node, 1 + way * kinds + state))
        if depth < 2:
            value = build.call(Dropout(f"dropout_{depth}", width, 0.25), value)
    outputs_ = {"y": value} | {f"state_{state}": build.stack(wires) for state, wires in enumerate(states)}
    graph = build.graph(outputs_ | {"inner": states[0][0]})
    inputs = {"x": rng.normal(size=(6, 9, 6)), "mask": masks(rng)}
    inputs |= {f"start_{state}": rng.normal(size=(3 * len(ways), 6, 5)) for state in range(kinds)}
    source = check(graph, inputs if masked else {k: v for k, v in inputs.items() if k != "mask"}, tmp_path).source
    assert source.count("num_layers=3, batch_first=True, dropout=0.25") == 1
    assert "torch.stack(" not in source.split("def load")[0]
    assert "start_0[" not in source


def test_layers_that_are_no_stack_stay_apart(tmp_path: Path, rng: np.random.Generator) -> None:
    build = Builder("model", "torch")
    x = build.input("x", ("batch", "time", 5))
    below = build.call(recurrent(rng, sizes=(5, 5), name="rnn_l0"), x)
    above = build.call(recurrent(rng, sizes=(5, 5), name="rnn_l1"), below)
    graph = build.graph({"y": build.add(below, above)})
    source = check(graph, given(graph, rng), tmp_path).source
    assert source.count("nn.LSTM(") == 2


def test_states_are_handed_over_whole(tmp_path: Path, rng: np.random.Generator) -> None:
    build = Builder("model")
    x, y = build.input("x", ("batch", "time", 6)), build.input("y", ("batch", "steps", 6))
    first = build.call(recurrent(rng, name="encoder", ways=BOTH), x).node
    second = build.call(
        recurrent(rng, name="decoder", ways=BOTH), y, None, *(Wire(first, index) for index in range(1, 5))
    )
    graph = build.graph({"z": second})
    source = check(graph, given(graph, rng), tmp_path).source
    assert "_, (h, c) = self.encoder(x)" in source
    assert "self.decoder(y, (h, c))" in source


def random_graph(seed: int) -> Graph:
    """Values taken once, often and late, shared layers, masks, states and several outputs."""
    rng = np.random.default_rng(seed)
    build = Builder(f"model {seed}", "keras")
    values = [build.input(name, ("batch", "time", 4)) for name in ("x", "h")[: rng.integers(1, 3)]]
    values[0] = build.multiply(values[0], build.weight("scale", rng.normal(size=4)))
    values.append(build.call(Dense("first", rng.normal(size=(4, 4))), values[0]))
    mask = build.elementwise("greater", build.select(values[0], 2, 0), -0.3, name="some_mask")
    shared = Dense("shared", rng.normal(size=(4, 4)), rng.normal(size=4))
    shared_lstm = recurrent(rng, "lstm", sizes=(4, 4), name="l_0")
    states: list[Wire] = []

    def late() -> Wire:
        return values[int(rng.integers(max(0, len(values) - 4), len(values)))]

    def lstm(x: Wire) -> Wire:
        layer = (
            shared_lstm
            if rng.random() < 0.4
            else recurrent(rng, "lstm", sizes=(4, 4), fill="repeat", name=build.unique("lstm"))
        )
        own = states[-2:] if rng.random() < 0.5 else []
        node = build.call(layer, x, mask if rng.random() < 0.5 else None, *own).node
        states.extend([Wire(node, 1), Wire(node, 2)])
        return Wire(node)

    makers: list[Callable[[Wire], Wire]] = [
        lambda x: build.call(shared, x),
        lambda x: build.activation(
            "tanh", build.call(Dense(build.unique("dense"), rng.normal(size=(4, 4))), x), source="own"
        ),
        lambda x: build.add(x, late()),
        lambda x: build.multiply(build.activation("sigmoid", x), late()),
        lambda x: build.subtract(0.5, x),
        lambda x: build.softmax(x, axis=1),
        lambda x: build.matmul(build.softmax(build.matmul(x, build.transpose(late(), (0, 2, 1)))), x),
        lambda x: build.slice(build.concatenate([x, late()]), 2, 1, 5),
        lambda x: build.reshape(build.reshape(x, (B, T, 2, 2)), (B, T, 4)),
        lambda x: build.expand(build.mean(x, 1, keepdims=True), (-1, Length(1, 1), -1), late()),
        lambda x: build.elementwise("where", build.expand_dims(mask, -1), x, late()),
        lambda x: build.multiply(x, build.expand_dims(states[-1], 1)) if states else x,
        lambda x: build.call(
            Convolution(build.unique("conv"), rng.normal(size=(3, 4, 4)), None, (1,), (1,), "same"), x
        ),
        lambda x: build.call(Dropout(build.unique("dropout"), 4, 0.5), x),
        lstm,
    ]
    for _ in range(int(rng.integers(4, 18))):
        make = makers[int(rng.integers(len(makers)))]
        values.append(make(late()))
    values[-1] = build.multiply(values[-1], build.weight("last_scale", rng.normal(size=4)))
    outputs_ = {f"y{index}": values[-1 - index] for index in range(int(rng.integers(1, 4)))}
    if states and rng.random() < 0.5:
        outputs_["h"] = states[0]
    return build.graph(outputs_)


@pytest.mark.parametrize("seed", range(40))
def test_random_graphs(seed: int, tmp_path: Path, rng: np.random.Generator) -> None:
    graph = random_graph(seed)
    check(graph, given(graph, rng), tmp_path)
