"""Everything a recurrent layer of Keras can be, live and in files, against Keras itself."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers as kl

import parity
from parity.cell import Cell
from parity.files import read_file, write_file
from parity.frameworks import Settings
from parity.frameworks.keras.layers import OPERATIONS, Aligned, RecurrentCell
from parity.frameworks.keras.running import KerasRunner
from parity.functions import FUNCTIONS, Function
from parity.layouts import KINDS, Kind
from parity.network import Bidirectional, Dense, Dropout, Embedding, Layer, Masking, Network, Output, Recurrent
from parity.network.keras.config import layers_from_keras
from parity.recurrent import DIRECTIONS, Array, Direction, RecurrentSpec, Weights
from parity.result import State, zero_state

BATCH, TIME, FEATURES, UNITS, OTHER = 5, 7, 3, 4, 6
MASK = np.array([[1, 0, 1, 1, 0, 1, 1], [0, 0, 1, 1, 1, 0, 0], [0] * 7, [1] * 7, [1, 1, 1, 0, 0, 0, 0]], bool)
"""Gaps in the middle, on the left and on the right, a sample without any valid step, and a whole one."""

MEMBERS = ("kernel", "recurrent", "bias_input", "bias_recurrent")
FUNCTION_NAMES = [name for name in FUNCTIONS if name != "exponential"]  # which explodes from step to step


def uniform(random: np.random.Generator, shape: tuple[int, ...]) -> Array:
    values: Array = random.uniform(0.1, 0.8, shape) * random.choice([-1.0, 1.0], shape)
    return values.astype(np.float32)


def filled(live: Any, seed: int = 1) -> Any:
    random = np.random.default_rng(seed)
    live.set_weights([uniform(random, w.shape).astype(w.dtype) for w in live.get_weights()])
    return live


def built(live: Any) -> Any:
    live.build((None, None, FEATURES))
    return filled(live)


def floats(seed: int = 2) -> Array:
    return np.random.default_rng(seed).standard_normal((BATCH, TIME, FEATURES)).astype(np.float32)


def starts(network: Network, seed: int = 3) -> dict[str, State]:
    random = np.random.default_rng(seed)
    return {
        name: State(*(uniform(random, spec.state_shape(state, BATCH)) for state in spec.states))
        for name, spec in network.specs.items()
    }


LAYERS: dict[str, Callable[..., Any]] = {
    "lstm": lambda **o: kl.LSTM(UNITS, **o),
    "gru": lambda **o: kl.GRU(UNITS, **o),
    "rnn": lambda **o: kl.SimpleRNN(UNITS, **o),
    "gru before": lambda **o: kl.GRU(UNITS, reset_after=False, recurrent_activation="hard_sigmoid", **o),
    "lstm functions": lambda **o: kl.LSTM(UNITS, activation="softsign", recurrent_activation="hard_sigmoid", **o),
    "gru functions": lambda **o: kl.GRU(UNITS, activation="elu", recurrent_activation="softplus", use_bias=False, **o),
    "rnn linear": lambda **o: kl.SimpleRNN(UNITS, activation=None, **o),
    "backwards": lambda **o: kl.LSTM(UNITS, go_backwards=True, **o),
    "zero": lambda **o: kl.GRU(UNITS, zero_output_for_mask=True, **o),
    "zero backwards": lambda **o: kl.SimpleRNN(UNITS, zero_output_for_mask=True, go_backwards=True, **o),
    "unrolled": lambda **o: kl.LSTM(UNITS, unroll=True, **o),
    "one cell": lambda **o: kl.RNN(kl.GRUCell(UNITS), **o),
    "list of one": lambda **o: kl.RNN([kl.LSTMCell(UNITS)], **o),
    "cells": lambda **o: kl.RNN([kl.LSTMCell(UNITS), kl.GRUCell(OTHER, reset_after=False), kl.SimpleRNNCell(2)], **o),
    "cells backwards": lambda **o: kl.RNN([kl.SimpleRNNCell(UNITS), kl.LSTMCell(OTHER)], go_backwards=True, **o),
    **{
        f"both {mode}": lambda mode=mode, **o: kl.Bidirectional(kl.LSTM(UNITS, **o), merge_mode=mode)
        for mode in ("concat", "sum", "mul", "ave", None)
    },
    "both per direction": lambda **o: kl.Bidirectional(
        kl.GRU(UNITS, **o),
        backward_layer=kl.GRU(UNITS, go_backwards=True, reset_after=False, activation="relu", use_bias=False, **o),
    ),
    "unlike": lambda **o: kl.Bidirectional(
        kl.LSTM(UNITS, **o), backward_layer=kl.GRU(OTHER, go_backwards=True, **o), merge_mode="concat"
    ),
    "unlike None": lambda **o: kl.Bidirectional(
        kl.GRU(UNITS, **o), backward_layer=kl.GRU(OTHER, go_backwards=True, **o), merge_mode=None
    ),
    "forward backwards": lambda **o: kl.Bidirectional(
        kl.LSTM(UNITS, go_backwards=True, **o), backward_layer=kl.LSTM(UNITS, **o), merge_mode="sum"
    ),
    "both cells": lambda **o: kl.Bidirectional(kl.RNN([kl.LSTMCell(UNITS), kl.GRUCell(OTHER)], **o), merge_mode="mul"),
}


@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_a_live_layer_computes_what_its_description_says(name: str, sequences: bool) -> None:
    layer = built(LAYERS[name](return_sequences=sequences, return_state=True))
    network = parity.read(layer)
    start = starts(network)
    masked = parity.compare(layer, inputs=floats(), mask=MASK, initial_state=start, engines=["keras"])
    plain = parity.compare(layer, inputs=floats(), engines=["keras"])
    assert (masked.verdict, plain.verdict) == ("agree", "agree"), f"{masked}\n{plain}"
    assert len(plain.results["keras"].returned) == len(keras.tree.flatten(layer(floats())))
    again = parity.to_keras(network)
    assert parity.form_of(again).native
    np.testing.assert_array_equal(
        np.concatenate([np.ravel(value) for value in keras.tree.flatten(again(floats()))]),
        np.concatenate([np.ravel(value) for value in keras.tree.flatten(layer(floats()))]),
    )


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"go_backwards": True},
        {"return_sequences": True, "go_backwards": True},
        {"return_state": True},
        {"return_sequences": True, "return_state": True, "unroll": True},
    ],
    ids=str,
)
def test_a_list_of_cells_stays_one_layer(options: dict[str, bool]) -> None:
    layer = built(kl.RNN([kl.LSTMCell(UNITS), kl.GRUCell(OTHER)], **options))
    again = parity.to_keras(layer)
    assert type(again) is kl.RNN
    assert parity.form_of(again).native
    assert [type(cell) for cell in again.cell.cells] == [kl.LSTMCell, kl.GRUCell]
    expected, got = (keras.tree.flatten(each(floats(), mask=MASK)) for each in (layer, again))
    assert len(got) == (4 if layer.return_state else 1)
    for ours, own in zip(got, expected, strict=True):
        np.testing.assert_array_equal(ours, own)


def test_a_list_of_cells_that_was_aligned_stays_so() -> None:
    layer = kl.RNN([kl.LSTMCell(UNITS), kl.GRUCell(OTHER)], go_backwards=True, return_sequences=True)
    turned = built(Aligned(layer))
    again = parity.to_keras(turned)
    assert not parity.form_of(again).native
    np.testing.assert_array_equal(again(floats()), turned(floats()))


def test_in_a_model_a_list_of_cells_becomes_layers_in_a_row() -> None:
    model = sequential(kl.RNN([kl.LSTMCell(UNITS), kl.GRUCell(OTHER)], go_backwards=True))
    again = parity.to_keras(filled(model))
    assert parity.form_of(again).native
    assert [type(layer) for layer in again.layers[1:]] == [kl.LSTM, kl.GRU]
    np.testing.assert_allclose(again(floats()), model(floats()), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("how", ["called", "mask", "states"])
def test_a_model_returns_what_it_returned_to_its_user(how: str) -> None:
    both = kl.Bidirectional(kl.LSTM(OTHER, return_sequences=True), merge_mode="ave")
    model = filled(sequential(kl.Masking(), both, kl.GRU(UNITS)))
    options: dict[str, Any] = {
        "called": {},
        "mask": {"mask": MASK},
        "states": {"initial_state": starts(parity.read(model))},
    }
    result = parity.run(model, floats(), **options[how])
    (returned,) = result.returned
    assert (returned.name, returned.shape) == (model.layers[-1].name, tuple(model(floats()).shape))
    assert returned.dtype == "float32"


@pytest.mark.parametrize("name", ["lstm", "both sum", "both None", "unlike", "cells backwards"])
def test_what_a_layer_returns_alone_is_judged(name: str) -> None:
    layer = built(LAYERS[name](return_sequences=True))
    result = parity.run(layer, floats(), mask=MASK)
    own = keras.tree.flatten(layer(floats(), mask=MASK))
    network = parity.read(layer)
    last = network.recurrent[-1]
    shown = list(result.outputs.values()) or [last.given[0].of([result.layers[last.name]])]
    assert [value.shape for value in result.returned] == [tuple(value.shape) for value in own]
    for ours, keras_own in zip(shown, own, strict=True):
        np.testing.assert_array_equal(ours, keras_own)


@pytest.mark.parametrize("make", [kl.LSTMCell, kl.GRUCell, kl.SimpleRNNCell])
def test_a_cell_takes_one_step(make: Any) -> None:
    cell = make(UNITS)
    cell.build((None, FEATURES))
    filled(cell)
    network = parity.read(cell)
    assert network.recurrent[0].single_step
    assert parity.compare(cell, inputs=floats(), initial_state=starts(network), engines=["keras"]).verdict == "agree"
    again = parity.to_keras(network)
    assert type(again) is make
    for ours, keras_own in zip(again.get_weights(), cell.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, keras_own)


# ---- what Keras's own layers cannot say


def node(
    kind: Kind,
    cell: Cell | None = None,
    directions: tuple[Direction, ...] = DIRECTIONS[:1],
    size: int | None = None,
    peepholes: bool = False,
    **options: Any,
) -> Recurrent:
    random = np.random.default_rng(11)
    spec = RecurrentSpec(kind, FEATURES, UNITS, directions, size)
    members = [*MEMBERS, *(["peepholes"] if peepholes else []), *(["projection"] if size else [])]
    weights = tuple(Weights(**{m: uniform(random, spec.shape(m)) for m in members}) for _ in directions)
    return Recurrent("layer", spec, weights, cells=(cell,) * len(directions) if cell else (), **options)


def function(name: str, alpha: float = 0.3, beta: float = 0.4) -> Function:
    row = FUNCTIONS[name]
    return Function(name, None if row.alpha is None else alpha, None if row.beta is None else beta)


ODD = Cell((function("hard_sigmoid"), function("softsign"), function("scaled_tanh")), clip=0.7, input_forget=True)
PLAIN_GRU = Cell((Function("sigmoid"), Function("tanh")))
OWN = {
    **{f"rnn {name}": node("rnn", Cell((function(name),)), fill="repeat") for name in FUNCTION_NAMES},
    "functions, clip, input_forget": node("lstm", ODD),
    "peepholes": node("lstm", peepholes=True),
    "projection": node("lstm", size=2),
    "clip": node("gru", replace(PLAIN_GRU, clip=0.5)),
    "clip, reset before": node("gru", replace(PLAIN_GRU, clip=0.5, reset_after=False), DIRECTIONS, merge_mode="ave"),
    "everything both ways": node("lstm", ODD, DIRECTIONS, size=2, peepholes=True),
    "aligned": node("lstm", directions=DIRECTIONS[1:]),
    "aligned projection": node("lstm", directions=DIRECTIONS[1:], size=3),
    "turned": node("gru", reverse=True),
}


@pytest.mark.parametrize("name", OWN)
def test_a_composition_says_what_keras_cannot(name: str) -> None:
    network = Network("own", (OWN[name],), (), "onnx")
    live = parity.to_keras(network)
    verdict = parity.compare(network, inputs=floats(), mask=MASK, initial_state=starts(network), engines=["keras"])
    assert verdict.verdict == "agree", str(verdict)
    config = keras.saving.serialize_keras_object(live)
    (again,), _ = layers_from_keras(config, live.get_weights())
    copy = keras.saving.deserialize_keras_object(config)
    copy.build((None, None, FEATURES))
    copy.set_weights(live.get_weights())
    assert isinstance(again, Recurrent)
    assert (again.cells, again.spec, again.reverse, again.fill) == (
        OWN[name].cells,
        OWN[name].spec,
        OWN[name].reverse,
        OWN[name].fill,
    )
    for ours, others in zip(keras.tree.flatten(live(floats())), keras.tree.flatten(copy(floats())), strict=True):
        np.testing.assert_array_equal(ours, others)


def test_the_form_says_what_is_composed() -> None:
    plain = parity.to_keras(Network("n", (node("lstm"),), (), "torch"))
    assert (str(parity.form_of(plain)), type(plain)) == ("native", kl.LSTM)
    clipped = parity.to_keras(Network("n", (OWN["clip"],), (), "onnx"))
    assert str(parity.form_of(clipped)) == "composed: layer 'layer': Keras has no clip"
    stateful = parity.to_keras(Network("n", (node("lstm", stateful=True),), (), "keras"))
    assert "stateful=True" in parity.form_of(stateful).notes[0]
    assert not stateful.stateful


def test_a_single_step_may_be_composed() -> None:
    network = Network("n", (node("lstm", size=2, single_step=True, return_sequences=False),), (), "torch")
    assert parity.compare(network, inputs=floats(), initial_state=starts(network), engines=["keras"]).verdict == "agree"


# ---- files


def sequential(*layers: Any) -> Any:
    return keras.Sequential([keras.Input((None, FEATURES)), *layers])


def tokens(layer: Any) -> Any:
    x = keras.Input((None,), dtype="int32")
    return keras.Model(x, kl.Dense(2)(layer(kl.Embedding(9, FEATURES, mask_zero=True)(x))))


def halves() -> Any:
    x = keras.Input((None, FEATURES))
    inner = kl.RNN([kl.LSTMCell(UNITS), kl.GRUCell(OTHER)], return_sequences=True, return_state=True)
    return keras.Model(x, keras.tree.flatten(kl.Bidirectional(inner, merge_mode=None)(x)))


MODELS: dict[str, Callable[[], Any]] = {
    "dropout": lambda: sequential(
        kl.LSTM(UNITS, dropout=0.2, recurrent_dropout=0.1, return_sequences=True), kl.Dropout(0.3), kl.GRU(OTHER)
    ),
    "masking": lambda: sequential(
        kl.Masking(0.5), kl.GRU(UNITS, return_sequences=True, go_backwards=True), kl.Bidirectional(kl.LSTM(OTHER))
    ),
    "tokens": lambda: tokens(kl.Bidirectional(kl.LSTM(UNITS, zero_output_for_mask=True), merge_mode="mul")),
    "unlike": lambda: tokens(
        kl.Bidirectional(
            kl.LSTM(UNITS),
            backward_layer=kl.RNN([kl.GRUCell(OTHER), kl.SimpleRNNCell(UNITS)], go_backwards=True),
            merge_mode="ave",
        )
    ),
    "cells": lambda: sequential(
        kl.RNN([kl.LSTMCell(UNITS), kl.LSTMCell(OTHER)], return_sequences=True), kl.RNN(kl.SimpleRNNCell(UNITS))
    ),
    "halves": halves,
    "float64": lambda: sequential(kl.LSTM(UNITS, dtype="float64"), kl.Dense(2, dtype="float64")),
    "stateful": lambda: keras.Sequential(
        [keras.Input((TIME, FEATURES), batch_size=BATCH), kl.GRU(UNITS, stateful=True, unroll=True)]
    ),
}


def inputs_of(network: Network) -> Array:
    if network.tokens:
        return np.random.default_rng(4).integers(0, 4, (BATCH, TIME))
    x = floats()
    x[0, 2], x[1, 4:], x[2] = 0.5, 0.5, 0.5
    return x


@pytest.mark.parametrize("name", MODELS)
def test_a_model_goes_through_a_file_and_back(name: str, tmp_path: Path) -> None:
    model = filled(MODELS[name]())
    model.save(tmp_path / "keras.keras")
    network = read_file(tmp_path / "keras.keras")
    x = inputs_of(network)
    judged = parity.compare(model, tmp_path / "keras.keras", inputs=x, engines=["keras"])
    assert judged.verdict == "agree", str(judged)
    write_file(network, tmp_path / "ours.keras")
    loaded = keras.saving.load_model(tmp_path / "ours.keras")
    for ours, keras_own in zip(keras.tree.flatten(loaded(x)), keras.tree.flatten(model(x)), strict=True):
        np.testing.assert_array_equal(ours, keras_own)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_in_a_file_is_read_exactly(dtype: str, tmp_path: Path) -> None:
    model = filled(sequential(kl.LSTM(UNITS, recurrent_initializer="zeros", dtype=dtype)))
    model.save(tmp_path / "half.keras")
    network = read_file(tmp_path / "half.keras")
    assert network.details["stored as"] == dtype
    for name, array in parity.read(model).layers[0].arrays.items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(network.layers[0].arrays[name], array)


@pytest.mark.parametrize("name", ["everything both ways", "aligned projection"])
def test_a_composed_model_saves_and_loads(name: str, tmp_path: Path) -> None:
    layers: tuple[Layer, ...] = (OWN[name], Dropout("dropout", OWN[name].output_size, 0.2))
    outputs = (Output("y", "dropout"), Output("state", "layer", OWN[name].values[-1]))
    network = Network("composed", layers, outputs, "onnx")
    write_file(network, tmp_path / "ours.keras")
    loaded = keras.saving.load_model(tmp_path / "ours.keras")
    assert parity.compare(network, loaded, read_file(tmp_path / "ours.keras"), inputs=floats()).verdict == "agree"
    loaded.save(tmp_path / "again.keras")
    code = (
        "import sys, parity.files, pathlib\n"
        f"network = parity.files.read_file(pathlib.Path({str(tmp_path / 'again.keras')!r}))\n"
        "print(network.recurrent[0].spec.projection_size, [m for m in ('keras', 'tensorflow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{OWN[name].spec.projection_size} []"


# ---- running


def test_masks_of_a_model_and_of_the_caller_are_both_kept() -> None:
    model = filled(tokens(kl.LSTM(UNITS)))
    x = inputs_of(parity.read(model))
    assert parity.compare(model, inputs=x, mask=MASK, engines=["keras"]).verdict == "agree"
    both = parity.run(model, x, mask=MASK).outputs
    alone = parity.run(model, x).outputs
    assert all(np.abs(both[name] - alone[name]).max() > 1e-3 for name in both)


def test_a_mask_for_a_model_goes_to_its_first_layer_that_takes_one() -> None:
    model = filled(sequential(kl.Dense(OTHER), kl.Bidirectional(kl.GRU(UNITS, return_sequences=True)), kl.LSTM(3)))
    assert parity.compare(model, inputs=floats(), mask=MASK, engines=["keras"]).verdict == "agree"


def states_of(owners: list[Any]) -> list[Array]:
    found = [state for owner in owners for state in keras.tree.flatten(owner.states)]
    return [np.copy(keras.ops.convert_to_numpy(state)) for state in found]


def test_the_users_own_states_stay() -> None:
    x = floats()
    model = filled(MODELS["stateful"]())
    layer = kl.Bidirectional(kl.LSTM(UNITS, stateful=True, return_sequences=True))
    layer.build((BATCH, TIME, FEATURES))
    for source, owners in ((model, [model.layers[0]]), (filled(layer), [layer.forward_layer, layer.backward_layer])):
        source(x)
        before = states_of(owners)
        assert parity.compare(source, inputs=x, engines=["keras"]).verdict == "agree"
        after = states_of(owners)
        assert all(state.any() for state in before)
        for old, new in zip(before, after, strict=True):
            np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("make", [LAYERS["unrolled"], lambda **o: kl.Bidirectional(kl.GRU(UNITS, unroll=True, **o))])
def test_a_mask_of_an_unrolled_backward_layer_is_refused(make: Callable[..., Any]) -> None:
    layer = built(make(return_sequences=True))
    if isinstance(layer, kl.Bidirectional):
        with pytest.raises(parity.UnsupportedError, match="set unroll=False"):
            parity.run(layer, floats(), mask=MASK)
    else:
        assert parity.compare(layer, inputs=floats(), mask=MASK, engines=["keras"]).verdict == "agree"
    assert parity.compare(layer, inputs=floats(), engines=["keras"]).verdict == "agree"


def test_a_shape_seen_before_is_not_traced_again() -> None:
    layer = built(kl.GRU(UNITS, return_sequences=True))
    network = parity.read(layer)
    run = KerasRunner(layer, network, Settings())
    state = {name: zero_state(spec, 2) for name, spec in network.specs.items()}
    random = np.random.default_rng(5)
    x = random.standard_normal((2, 40, FEATURES)).astype(np.float32)
    first = run(x, state).layers[layer.name].sequence
    seen = run.traces
    assert seen > 0
    second = run(x, state).layers[layer.name].sequence
    assert run.traces == seen
    np.testing.assert_array_equal(first, second)
    run(random.standard_normal((2, 50, FEATURES)).astype(np.float32), state)
    run(random.standard_normal((2, 60, FEATURES)).astype(np.float32), state)
    relaxed = run.traces
    run(random.standard_normal((2, 70, FEATURES)).astype(np.float32), state)
    assert run.traces == relaxed


BACKENDS = """
import numpy as np
import tests.test_keras as cases
import parity
x, bad = cases.floats(), []
for name in ("zero backwards", "cells", "unlike"):
    layer = cases.built(cases.LAYERS[name](return_sequences=True, return_state=True))
    start = cases.starts(parity.read(layer))
    judged = parity.compare(layer, inputs=x, mask=cases.MASK, initial_state=start, engines=["keras"])
    bad += [name] if judged.verdict != "agree" else []
for name in ("everything both ways", "aligned projection"):
    network = parity.Network("own", (cases.OWN[name],), (), "onnx")
    judged = parity.compare(network, inputs=x, mask=cases.MASK, initial_state=cases.starts(network), engines=["keras"])
    bad += [name] if judged.verdict != "agree" else []
model = cases.filled(cases.MODELS["unlike"]())
judged = parity.compare(model, inputs=cases.inputs_of(parity.read(model)), engines=["keras"])
bad += ["model"] if judged.verdict != "agree" else []
print("wrong:", bad, judged.results["keras"].settings["backend"].split()[0])
"""


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_other_backends_of_keras(backend: str) -> None:
    """Every kind of cell, direction and mask: jax compiles each layer for seconds; tests/test_backends.py has plain ones."""
    environment = {**os.environ, "KERAS_BACKEND": backend}
    done = subprocess.run(
        [sys.executable, "-c", BACKENDS], capture_output=True, text=True, check=False, env=environment
    )
    assert done.stdout.strip().endswith(f"wrong: [] {backend}"), done.stdout + done.stderr[-3000:]


# ---- faults that could hide


def test_hard_sigmoid_of_keras_2_is_another_function() -> None:
    live = built(kl.GRU(UNITS, recurrent_activation="hard_sigmoid"))
    config = keras.saving.serialize_keras_object(live)
    (new,), _ = layers_from_keras(config, live.get_weights())
    (old,), _ = layers_from_keras(config, live.get_weights(), hard_sigmoid_of_keras_2=True)
    assert isinstance(new, Recurrent)
    assert isinstance(old, Recurrent)
    assert old.cells[0].functions[0] == Function("hard_sigmoid", 0.2, 0.5)
    assert parity.compare(live, Network("new", (new,)), inputs=floats()).verdict == "agree"
    assert parity.compare(live, Network("old", (old,)), inputs=floats()).verdict == "disagree"


def misread(**changes: Any) -> Callable[[Recurrent], Recurrent]:
    return lambda layer: replace(layer, **changes)


def misread_cell(**changes: Any) -> Callable[[Recurrent], Recurrent]:
    return lambda layer: replace(layer, cells=tuple(replace(cell, **changes) for cell in layer.cells))


def swapped_functions(layer: Recurrent) -> Recurrent:
    return replace(layer, cells=tuple(replace(cell, functions=cell.functions[::-1]) for cell in layer.cells))


def swapped_cells(layer: Recurrent) -> Recurrent:
    return replace(layer, cells=layer.cells[::-1])


FAULTS: dict[str, tuple[str, Callable[[Recurrent], Recurrent]]] = {
    "reset order": ("gru before", misread_cell(reset_after=True)),
    "functions swapped": ("lstm functions", swapped_functions),
    "linear taken for tanh": ("rnn linear", misread_cell(functions=(Function("tanh"),))),
    "cells of the directions swapped": ("both per direction", swapped_cells),
    "sum taken for ave": ("both sum", misread(merge_mode="ave")),
    "mul taken for sum": ("both mul", misread(merge_mode="sum")),
    "ave taken for sum": ("both ave", misread(merge_mode="sum")),
    "backwards taken for forwards": (
        "backwards",
        lambda layer: replace(layer, spec=replace(layer.spec, directions=DIRECTIONS[:1])),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_misread_option_is_caught(fault: str) -> None:
    name, change = FAULTS[fault]
    layer = built(LAYERS[name](return_sequences=True))
    right = parity.read(layer)
    assert isinstance(right.layers[0], Recurrent)
    wrong = Network(right.name, (change(right.layers[0]),), (), "keras")
    result = KerasRunner(layer, right, Settings())(floats(), {right.name: zero_state(right.specs[right.name], BATCH)})
    for network, same in ((right, True), (wrong, False)):
        outputs, paths = network.compute(floats(), {right.name: zero_state(right.specs[right.name], BATCH)})
        expected, found = paths[right.name].run.sequence, result.layers[right.name].sequence
        assert expected is not None
        assert found is not None
        pairs = [(expected, found), *((outputs[key], result.outputs[key]) for key in outputs)]
        error = max(np.abs(one - other).max() for one, other in pairs)
        assert (error < 5e-6) == same, error


@pytest.mark.parametrize("fill", ["zero", "repeat"])
def test_a_misread_fill_is_caught(fill: str) -> None:
    layer = built(kl.GRU(UNITS, return_sequences=True, zero_output_for_mask=fill == "zero"))
    right = parity.read(layer)
    state = {layer.name: zero_state(right.specs[layer.name], BATCH)}
    result = KerasRunner(layer, right, Settings())(floats(), state, MASK).layers[layer.name]
    for told in ("zero", "repeat"):
        network = Network("n", (replace(right.recurrent[0], fill=told),), (), "keras")
        run = network.compute(floats(), state, mask=MASK)[1][layer.name].run
        assert run.sequence is not None
        assert run.last is not None
        assert (np.abs(run.sequence - result.sequence).max() < 5e-6) == (told == fill)
        assert (np.abs(run.last - result.last).max() < 5e-6) == (told == fill)


def unseeing(cell: Any, gate: str, value: Any, c: Any) -> Any:  # noqa: ARG001  as the right one
    return value


def unclipped(cell: Any, slot: str, value: Any) -> Any:
    function = cell.options.function(cell.kind, slot)
    return OPERATIONS[function.name](value, **function.parameters)


@pytest.mark.parametrize(("place", "fault"), [("_seeing", unseeing), ("_apply", unclipped)])
def test_a_broken_cell_is_caught(place: str, fault: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RecurrentCell, place, fault)
    network = Network("own", (OWN["everything both ways"],), (), "onnx")
    assert parity.compare(network, inputs=floats(), engines=["keras"]).verdict == "disagree"


def test_every_kind_of_node_is_described() -> None:
    model = filled(MODELS["unlike"]())
    kinds = [type(layer) for layer in parity.read(model).layers]
    assert kinds == [Embedding, Bidirectional, Dense]
    assert [type(layer) for layer in parity.read(filled(MODELS["masking"]())).layers] == [Masking, Recurrent, Recurrent]
    assert {layer.spec.kind for layer in parity.read(model).recurrent} == set(KINDS)
