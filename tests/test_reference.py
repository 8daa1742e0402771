"""The float64 reference against independent judges, and weights through every layout and back.

torch and Keras compute in float64 themselves; ONNX Runtime, the only one with clip, input_forget, peepholes and functions with
parameters of one's own, in float32.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import keras
import numpy as np
import onnxruntime
import pytest
import torch
from einops import rearrange
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import parity
from parity.cell import Cell, plain_cell
from parity.conventions import Fill
from parity.functions import FUNCTIONS, Function
from parity.layouts import GATES, KERAS_GRU_RESET_BEFORE, KINDS, LAYOUTS, PEEPHOLES, SLOTS, Kind, Layout
from parity.recurrent import DIRECTIONS, Array, Direction, RecurrentSpec, Weights, pack, unpack
from parity.reference import run_layer, sigmoid
from parity.result import State

FEATURES, UNITS, BATCH, TIME = 3, 5, 4, 9
MODULES: dict[str, Any] = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn": torch.nn.RNN}
KERAS: dict[str, Any] = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU, "rnn": keras.layers.SimpleRNN}
ALL_DIRECTIONS: tuple[tuple[Direction, ...], ...] = (("forward",), ("backward",), DIRECTIONS)


def float32(random: np.random.Generator, *shape: int, size: float = 1.0) -> Array:
    return (size * random.standard_normal(shape)).astype(np.float32)


def make_weights(random: np.random.Generator, spec: RecurrentSpec) -> Weights:
    return Weights(
        *(float32(random, *spec.shape(name)) for name in ("kernel", "recurrent", "bias_input", "bias_recurrent"))
    )


def make_state(random: np.random.Generator, spec: RecurrentSpec, batch: int = BATCH) -> State:
    return State(*(random.standard_normal(spec.state_shape(state, batch)) for state in spec.states))


@pytest.mark.parametrize("kind", ["lstm", "gru"])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_reference_is_torch_in_float64(
    kind: str, layers: int, bidirectional: bool, bias: bool, random: np.random.Generator
) -> None:
    options = {"num_layers": layers, "bidirectional": bidirectional, "bias": bias, "batch_first": True}
    module = MODULES[kind](FEATURES, UNITS, **options)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.from_numpy(random.standard_normal(parameter.shape)))
    x = float32(random, BATCH, TIME, FEATURES, size=2.0)
    directions = 1 + bidirectional
    states = [float32(random, layers, directions, BATCH, UNITS) for _ in range(2 if kind == "lstm" else 1)]
    result = parity.run(module, x, engine="reference", initial_state=tuple(states))
    hx = [torch.from_numpy(state.reshape(layers * directions, BATCH, UNITS)).double() for state in states]
    with torch.no_grad():
        output, final = module.double()(torch.from_numpy(x).double(), tuple(hx) if kind == "lstm" else hx[0])
    np.testing.assert_allclose(result.sequence, output.numpy(), rtol=0, atol=1e-12)
    expected = final if kind == "lstm" else (final,)
    for ours, theirs in zip((result.h_n, result.c_n), expected, strict=False):
        assert ours is not None
        np.testing.assert_allclose(ours.reshape(theirs.shape), theirs.numpy(), rtol=0, atol=1e-12)


# ---- torch in float64, without anything of parity's between


def float64_weights(
    random: np.random.Generator, spec: RecurrentSpec, one_bias: bool = False, size: float = 0.8
) -> list[Weights]:
    names = ["kernel", "recurrent", "bias_input", *([] if one_bias else ["bias_recurrent"])]
    names += ["projection"] if spec.projection_size else []
    return [
        Weights(**{name: size * random.standard_normal(spec.shape(name)) for name in names}) for _ in spec.directions
    ]


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported")
@pytest.mark.parametrize(
    ("kind", "projection", "nonlinearity"),
    [("lstm", None, ""), ("lstm", 2, ""), ("gru", None, ""), ("rnn", None, "tanh"), ("rnn", None, "relu")],
)
@pytest.mark.parametrize("directions", [("forward",), DIRECTIONS])
def test_every_step_is_torch_in_float64(
    kind: Kind,
    projection: int | None,
    nonlinearity: str,
    directions: tuple[Direction, ...],
    random: np.random.Generator,
) -> None:
    spec = RecurrentSpec(kind, FEATURES, UNITS, directions, projection)
    weights, initial = float64_weights(random, spec), make_state(random, spec)
    options = {"proj_size": projection} if projection else {"nonlinearity": nonlinearity} if nonlinearity else {}
    module = MODULES[kind](
        FEATURES, UNITS, batch_first=True, bidirectional=len(directions) == 2, dtype=torch.float64, **options
    )
    packed = [
        (f"{name}_l0{suffix}", array)
        for one, suffix in zip(weights, ("", "_reverse"), strict=False)
        for name, array in pack(LAYOUTS["torch", kind], spec, [one]).items()
    ]
    module.load_state_dict({name: torch.from_numpy(array) for name, array in packed})
    x = random.standard_normal((BATCH, TIME, FEATURES))
    hx = [torch.from_numpy(state) for state in initial.arrays()]
    with torch.no_grad():
        output, final = module(torch.from_numpy(x), tuple(hx) if kind == "lstm" else hx[0])
    cells = [Cell((Function(nonlinearity),))] * len(directions) if nonlinearity else ()
    run = run_layer(spec, weights, x, initial, cells=cells).run
    assert run.sequence is not None
    np.testing.assert_allclose(run.sequence.reshape(output.shape), output.numpy(), rtol=0, atol=1e-12)
    for ours, theirs in zip(run.final.arrays(), final if kind == "lstm" else (final,), strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=0, atol=1e-12)


# ---- Keras in float64


def keras_layer(spec: RecurrentSpec, weights: Weights, cell: Cell, **options: Any) -> Any:
    """Keras's own layer of one direction, computing in float64."""
    layout = LAYOUTS["keras", spec.kind] if cell.reset_after else KERAS_GRU_RESET_BEFORE
    options["activation"] = cell.function(spec.kind, "candidate").keras_name
    if spec.kind != "rnn":
        options["recurrent_activation"] = cell.function(spec.kind, "gate").keras_name
    if spec.kind == "gru":
        options["reset_after"] = cell.reset_after
    assert None not in options.values()
    layer = KERAS[spec.kind](
        UNITS, dtype="float64", return_state=True, go_backwards=spec.directions == ("backward",), **options
    )
    layer.build((None, None, FEATURES))
    layer.set_weights(list(pack(layout, spec, [weights]).values()))
    return layer


def cell_of(kind: Kind, gate: Function | None = None, candidate: Function | None = None, **options: Any) -> Cell:
    """A plain cell with other functions, the candidate's being that of c too, as in Keras."""
    given = {"gate": gate, "candidate": candidate, "output": candidate}
    plain = plain_cell(kind)
    functions = tuple(given[slot] or plain.function(kind, slot) for slot in SLOTS[kind])
    return replace(plain, functions=functions, **options)


KERAS_FUNCTIONS = {row.keras: Function(name, *row.keras_parameters) for name, row in FUNCTIONS.items() if row.keras}
ONNX_FUNCTIONS = {row.onnx: name for name, row in FUNCTIONS.items() if row.onnx}


FLOAT32_INSIDE = {"leaky_relu": 1e-7, "gelu": 2e-5}
"""TensorFlow rounds two constants to float32 even in float64: leaky_relu's slope and gelu's square root of 2, which tells in its tail."""


@pytest.mark.parametrize("name", KERAS_FUNCTIONS)
def test_every_function_is_that_of_keras(name: str, random: np.random.Generator) -> None:
    x = np.concatenate([10 * random.standard_normal(200), np.linspace(-8, 8, 65), [-1e-9, 1e-9, 0.0]])
    expected = np.asarray(getattr(keras.activations, name)(keras.ops.convert_to_tensor(x)))
    assert expected.dtype == np.float64
    tolerance = FLOAT32_INSIDE.get(name, 1e-12)
    np.testing.assert_allclose(KERAS_FUNCTIONS[name](x), expected, rtol=tolerance, atol=max(tolerance / 100, 1e-15))


def test_gelu_is_that_of_torch(random: np.random.Generator) -> None:
    x = 5 * random.standard_normal(200)
    expected = torch.nn.functional.gelu(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(KERAS_FUNCTIONS["gelu"](x), expected, rtol=1e-12, atol=1e-14)


def test_every_function_has_a_judge() -> None:
    judged = {function.name for function in KERAS_FUNCTIONS.values()} | set(ONNX_FUNCTIONS.values())
    assert judged == set(FUNCTIONS)


KERAS_SLOTS: list[tuple[Kind, bool, str]] = [
    (kind, reset_after, slot)
    for kind in KINDS
    for reset_after in ((True, False) if kind == "gru" else (True,))
    for slot in ("gate", "candidate")
    if slot in SLOTS[kind]
]


@pytest.mark.parametrize("name", KERAS_FUNCTIONS)
@pytest.mark.parametrize(("kind", "reset_after", "slot"), KERAS_SLOTS)
def test_every_function_in_every_slot_is_keras_in_float64(
    kind: Kind, reset_after: bool, slot: str, name: str, random: np.random.Generator
) -> None:
    spec, steps = RecurrentSpec(kind, FEATURES, UNITS), 4
    # Functions that are not bounded make a recurrence grow: small weights keep it comparable.
    size = 0.1 if name == "exponential" else 0.4
    (weights,) = float64_weights(random, spec, one_bias=kind != "gru" or not reset_after, size=size)
    cell = cell_of(kind, **{slot: KERAS_FUNCTIONS[name]}, reset_after=reset_after)
    initial = make_state(random, spec)
    x = random.standard_normal((BATCH, steps, FEATURES))
    layer = keras_layer(spec, weights, cell, return_sequences=True)
    sequence, *states = layer(x, initial_state=[state[0] for state in initial.arrays()])
    run = run_layer(spec, [weights], x, initial, cells=[cell]).run
    assert run.sequence is not None
    tolerance = FLOAT32_INSIDE.get(name, 1e-11)
    np.testing.assert_allclose(run.sequence[:, :, 0], np.asarray(sequence), rtol=tolerance, atol=tolerance)
    for ours, theirs in zip(run.final.arrays(), states, strict=True):
        np.testing.assert_allclose(ours[0], np.asarray(theirs), rtol=tolerance, atol=tolerance)


MASKS = {
    "right": np.arange(TIME) < np.array([4, 9, 1, 6])[:, None],
    "left": np.arange(TIME) >= np.array([3, 0, 8, 1])[:, None],
    "middle": np.array(
        [[1, 0, 1, 1, 0, 0, 1, 0, 1], [1] * 9, [0, 1, 0, 0, 1, 1, 0, 1, 0], [0, 0, 1, 1] + [0] * 5], bool
    ),
    "a sample without a step": np.array([[1] * 7 + [0, 0], [0] * 9, [1] * 9, [0] * 8 + [1]], bool),
}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("fill", ["zero", "repeat"])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(("kind", "reset_after"), [("lstm", True), ("gru", True), ("gru", False), ("rnn", True)])
def test_masks_are_those_of_keras_in_float64(
    kind: Kind, reset_after: bool, direction: Direction, fill: Fill, mask: str, random: np.random.Generator
) -> None:
    spec = RecurrentSpec(kind, FEATURES, UNITS, (direction,))
    (weights,) = float64_weights(random, spec, one_bias=kind != "gru" or not reset_after)
    cell = cell_of(kind, reset_after=reset_after)
    initial, x = make_state(random, spec), random.standard_normal((BATCH, TIME, FEATURES))
    run = run_layer(spec, [weights], x, initial, cells=[cell], mask=MASKS[mask], fill=fill).run
    assert run.sequence is not None
    assert run.last is not None
    for sequences in (True, False):
        options = {"return_sequences": sequences, "zero_output_for_mask": fill == "zero"}
        layer = keras_layer(spec, weights, cell, **options)
        given = layer(x, mask=MASKS[mask], initial_state=[state[0] for state in initial.arrays()])
        output, *states = (np.asarray(value) for value in given)
        turn = -1 if direction == "backward" else 1
        ours = run.sequence[:, ::turn, 0] if sequences else run.last[0]
        np.testing.assert_allclose(ours, output, rtol=0, atol=1e-12)
        for state, theirs in zip(run.final.arrays(), states, strict=True):
            np.testing.assert_allclose(state[0], theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_every_masked_step_by_itself_repeats_the_run(kind: Kind, random: np.random.Generator) -> None:
    spec = RecurrentSpec(kind, FEATURES, UNITS, DIRECTIONS)
    weights, x = float64_weights(random, spec), random.standard_normal((BATCH, TIME, FEATURES))
    run = run_layer(spec, weights, x, make_state(random, spec), mask=MASKS["middle"])
    flat = MASKS["middle"].reshape(-1, 1)
    single = run_layer(spec, weights, x.reshape(BATCH * TIME, 1, FEATURES), run.before(), mask=flat)
    np.testing.assert_allclose(single.h.reshape(run.h.shape), run.h, rtol=0, atol=1e-14)


# ---- ONNX Runtime in float32


ORT_TOLERANCE = 3e-6
"""ONNX Runtime computes in float32 (6e-8 relative), its sigmoid and tanh are good to 3e-7, and TIME steps add up."""


def onnx_results(
    spec: RecurrentSpec, weights: list[Weights], cell: Cell, x: Array, initial: State
) -> tuple[Array, list[Array]]:
    """Every step (batch, time, direction, hidden) and the final states, from one node of ONNX Runtime."""
    kind, directions = spec.kind, len(spec.directions)
    arrays = {name: array.astype(np.float32) for name, array in pack(LAYOUTS["onnx", kind], spec, weights).items()}
    rows = [FUNCTIONS[function.name] for function in cell.functions]
    attributes: dict[str, Any] = {
        "hidden_size": UNITS,
        "direction": "bidirectional",
        "activations": [str(row.onnx) for row in rows] * directions,
    }
    for name in ("alpha", "beta"):
        numbers = [function.parameters[name] for function in cell.functions if name in function.parameters]
        if numbers:
            attributes[f"activation_{name}"] = numbers * directions
    attributes |= {} if cell.clip is None else {"clip": cell.clip}
    attributes |= {"input_forget": int(cell.input_forget)} if kind == "lstm" else {}
    attributes |= {"linear_before_reset": int(cell.reset_after)} if kind == "gru" else {}
    states = [f"initial_{state}" for state in spec.states]
    outputs = ["Y", *(f"Y_{state}" for state in spec.states)]
    peepholes = ["P"] if "P" in arrays else []
    node = helper.make_node(kind.upper(), ["X", "W", "R", "B", "", *states, *peepholes], outputs, **attributes)
    graph = helper.make_graph(
        [node],
        "judge",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 3) for name in ("X", *states)],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * (4 if name == "Y" else 3))
            for name in outputs
        ],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    feed = dict(zip(states, initial.arrays(), strict=True)) | {"X": x.swapaxes(0, 1)}
    y, *final = session.run(None, {name: np.asarray(array, np.float32) for name, array in feed.items()})
    return y.transpose(2, 0, 1, 3), final


CLIP = 0.5
CELLS: dict[str, tuple[Kind, Cell, bool]] = {
    "rnn, clip": ("rnn", replace(plain_cell("rnn"), clip=CLIP), False),
    "rnn of relu, clip": ("rnn", Cell((Function("relu"),), clip=CLIP), False),
    "gru, clip": ("gru", replace(plain_cell("gru"), clip=CLIP), False),
    "gru, reset before": ("gru", replace(plain_cell("gru"), reset_after=False), False),
    "gru, reset before, clip": ("gru", replace(plain_cell("gru"), reset_after=False, clip=CLIP), False),
    "lstm, clip": ("lstm", replace(plain_cell("lstm"), clip=CLIP), False),
    # Nothing else bounds c here, so a clip of c itself would show.
    "lstm of linear functions, clip": (
        "lstm",
        cell_of("lstm", candidate=Function("affine", 1.0, 0.0), clip=CLIP),
        False,
    ),
    "lstm, input_forget": ("lstm", replace(plain_cell("lstm"), input_forget=True), False),
    "lstm, peepholes": ("lstm", plain_cell("lstm"), True),
    "lstm, peepholes, clip": ("lstm", replace(plain_cell("lstm"), clip=CLIP), True),
    "lstm, all of them": ("lstm", replace(plain_cell("lstm"), clip=CLIP, input_forget=True), True),
    "lstm, three functions": (
        "lstm",
        Cell((Function("hard_sigmoid", 0.3, 0.4), Function("softsign"), Function("relu"))),
        True,
    ),
}


@pytest.mark.parametrize("name", CELLS)
def test_options_of_onnx(name: str, random: np.random.Generator) -> None:
    kind, cell, peepholes = CELLS[name]
    spec = RecurrentSpec(kind, FEATURES, UNITS, DIRECTIONS)
    weights = [make_weights(random, spec) for _ in DIRECTIONS]
    if peepholes:
        weights = [replace(one, peepholes=float32(random, *spec.shape("peepholes"))) for one in weights]
    x = float32(random, BATCH, TIME, FEATURES)
    initial = State(*(state.astype(np.float32) for state in make_state(random, spec).arrays()))
    sequence, final = onnx_results(spec, weights, cell, x, initial)
    run = run_layer(spec, weights, x.astype(np.float64), initial, cells=[cell] * 2).run
    assert run.sequence is not None
    np.testing.assert_allclose(run.sequence, sequence, rtol=ORT_TOLERANCE, atol=ORT_TOLERANCE)
    for ours, theirs in zip(run.final.arrays(), final, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=ORT_TOLERANCE, atol=ORT_TOLERANCE)
    # Without its options it would be another layer.
    bare = [replace(one, peepholes=None) for one in weights]
    other = run_layer(spec, bare, x.astype(np.float64), initial, cells=[plain_cell(kind)] * 2).run
    assert other.sequence is not None
    assert np.abs(other.sequence - sequence).max() > 0.01


ONNX_PARAMETERS = {"alpha": 0.6, "beta": 0.3}


@pytest.mark.parametrize("name", ONNX_FUNCTIONS)
@pytest.mark.parametrize(("kind", "slot"), [(kind, slot) for kind in KINDS for slot in SLOTS[kind]])
def test_every_function_of_onnx_with_parameters_of_its_own(
    kind: Kind, slot: str, name: str, random: np.random.Generator
) -> None:
    row = FUNCTIONS[ONNX_FUNCTIONS[name]]
    alpha, beta = (value if getattr(row, which) is not None else None for which, value in ONNX_PARAMETERS.items())
    function = Function(ONNX_FUNCTIONS[name], alpha, beta)
    functions = [
        function if own == slot else usual for own, usual in zip(SLOTS[kind], plain_cell(kind).functions, strict=True)
    ]
    cell = Cell(tuple(functions))
    spec, steps = RecurrentSpec(kind, FEATURES, UNITS, DIRECTIONS), 4
    weights = [
        Weights(
            *(
                float32(random, *spec.shape(n), size=0.4)
                for n in ("kernel", "recurrent", "bias_input", "bias_recurrent")
            )
        )
        for _ in DIRECTIONS
    ]
    x = float32(random, BATCH, steps, FEATURES)
    initial = State(*(state.astype(np.float32) for state in make_state(random, spec).arrays()))
    sequence, final = onnx_results(spec, weights, cell, x, initial)
    run = run_layer(spec, weights, x.astype(np.float64), initial, cells=[cell] * 2).run
    assert run.sequence is not None
    atol = ORT_TOLERANCE * max(1.0, float(np.abs(sequence).max()))
    np.testing.assert_allclose(run.sequence, sequence, rtol=0, atol=atol)
    np.testing.assert_allclose(run.final.h, final[0], rtol=0, atol=atol)


# ---- what must hold of any recurrence


@pytest.mark.parametrize("kind", KINDS)
def test_backward_is_forward_on_reversed_input(kind: Kind, random: np.random.Generator) -> None:
    forward, backward = (RecurrentSpec(kind, FEATURES, UNITS, (direction,)) for direction in DIRECTIONS)
    weights, initial, x = (
        make_weights(random, forward),
        make_state(random, forward),
        float32(random, BATCH, TIME, FEATURES),
    )
    there = run_layer(forward, [weights], x[:, ::-1].astype(np.float64), initial)
    back = run_layer(backward, [weights], x.astype(np.float64), initial)
    np.testing.assert_array_equal(back.h, there.h[:, ::-1])
    np.testing.assert_array_equal(back.run.final.h, there.run.final.h)
    np.testing.assert_array_equal(back.run.final.h[0], back.h[:, 0, 0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("directions", ALL_DIRECTIONS)
def test_every_step_by_itself_repeats_the_run(
    kind: Kind, directions: tuple[Direction, ...], random: np.random.Generator
) -> None:
    """`Trajectory.before` as initial states of one batch of single steps."""
    spec = RecurrentSpec(kind, FEATURES, UNITS, directions)
    weights = [make_weights(random, spec) for _ in directions]
    x = random.standard_normal((BATCH, TIME, FEATURES))
    run = run_layer(spec, weights, x, make_state(random, spec))
    before = run.before()
    assert [array.shape for array in before.arrays()] == [(len(directions), BATCH * TIME, UNITS)] * len(spec.states)
    single = run_layer(spec, weights, x.reshape(BATCH * TIME, 1, FEATURES), before)
    np.testing.assert_allclose(single.h.reshape(run.h.shape), run.h, rtol=0, atol=1e-14)
    if run.c is not None:
        assert single.c is not None
        np.testing.assert_allclose(single.c.reshape(run.c.shape), run.c, rtol=0, atol=1e-14)


def test_before_starts_each_direction_at_its_own_end(random: np.random.Generator) -> None:
    spec = RecurrentSpec("lstm", FEATURES, UNITS, DIRECTIONS)
    initial = make_state(random, spec)
    weights = [make_weights(random, spec) for _ in DIRECTIONS]
    run = run_layer(spec, weights, random.standard_normal((BATCH, TIME, FEATURES)), initial)
    steps = run.before().h.reshape(2, BATCH, TIME, UNITS)
    np.testing.assert_array_equal(steps[0, :, 0], initial.h[0])
    np.testing.assert_array_equal(steps[1, :, -1], initial.h[1])
    np.testing.assert_array_equal(steps[0, :, 1:], run.h[:, :-1, 0])
    np.testing.assert_array_equal(steps[1, :, :-1], run.h[:, 1:, 1])


def test_long_input_in_chunks(monkeypatch: pytest.MonkeyPatch, random: np.random.Generator) -> None:
    spec = RecurrentSpec("gru", FEATURES, UNITS)
    weights, initial = make_weights(random, spec), make_state(random, spec)
    x = random.standard_normal((BATCH, 50, FEATURES))
    whole = run_layer(spec, [weights], x, initial)
    monkeypatch.setattr("parity.reference._CHUNK_BYTES", 8 * BATCH * 3 * UNITS * 7)
    np.testing.assert_allclose(run_layer(spec, [weights], x, initial).h, whole.h, rtol=0, atol=1e-15)


def test_sigmoid_in_both_tails() -> None:
    x = np.array([-1000.0, -745.0, -40.0, -1e-9, 0.0, 1e-9, 40.0, 1000.0])
    with np.errstate(all="raise", under="ignore"):
        y = sigmoid(x)
    np.testing.assert_allclose(y[1:3], np.exp(x[1:3]), rtol=1e-12)
    assert y[0] == 0.0
    assert y[4] == 0.5
    assert y[-1] == 1.0
    np.testing.assert_allclose(y + sigmoid(-x), 1.0, rtol=1e-15)
    assert (np.diff(y) >= 0).all()


# ---- weights through every layout and back


@st.composite
def any_weights(
    draw: st.DrawFn, kind: Kind, members: frozenset[str] = frozenset()
) -> tuple[RecurrentSpec, list[Weights]]:
    """Sizes all different where there is room, every bit pattern a float32 may have (no NaN)."""
    features, units = draw(st.integers(1, 6)), draw(st.integers(1, 7))
    directions = draw(st.sampled_from(ALL_DIRECTIONS))
    projection = draw(st.integers(1, units - 1)) if "projection" in members and units > 1 else None
    spec = RecurrentSpec(kind, features, units, directions, projection)
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    sizes = draw(st.sampled_from([1e-30, 1.0, 1e30]))
    biased = draw(st.booleans())

    def array(name: str) -> Array | None:
        return float32(random, *spec.shape(name), size=sizes) if biased or not name.startswith("bias") else None

    names = ["bias_input", "bias_recurrent", *(["peepholes"] if "peepholes" in members else [])]
    names += ["projection"] if spec.projection_size else []
    return spec, [
        Weights(
            float32(random, *spec.shape("kernel")),
            float32(random, *spec.shape("recurrent")),
            **{name: array(name) for name in names},
        )
        for _ in directions
    ]


def there_and_back(layout: Layout, spec: RecurrentSpec, weights: list[Weights]) -> list[Weights]:
    if layout.framework == "onnx":
        return list(unpack(layout, spec, pack(layout, spec, weights)))
    return [one for each in weights for one in unpack(layout, spec, pack(layout, spec, [each]))]


def check_same(left: Weights, right: Weights, names: tuple[str, ...]) -> None:
    for name in names:
        ours, theirs = left.member(name), right.member(name)
        if ours is None or theirs is None:
            assert ours is theirs
        else:
            np.testing.assert_array_equal(ours.view(np.int32), theirs.view(np.int32), err_msg=name)


ONE_BIAS = {"lstm": LAYOUTS["keras", "lstm"], "rnn": LAYOUTS["keras", "rnn"], "gru": KERAS_GRU_RESET_BEFORE}


@pytest.mark.parametrize(
    ("framework", "kind"), [key for key, layout in LAYOUTS.items() if layout not in ONE_BIAS.values()]
)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_layout_round_trip_is_bit_exact(framework: str, kind: Kind, data: st.DataObject) -> None:
    layout = LAYOUTS[framework, kind]
    members = frozenset(member for tensor in layout.tensors for member in tensor.members)
    spec, weights = data.draw(any_weights(kind, members))
    for before, after in zip(weights, there_and_back(layout, spec, weights), strict=True):
        check_same(before, after, tuple(members))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_one_bias_is_the_sum_of_two(kind: Kind, data: st.DataObject) -> None:
    spec, weights = data.draw(any_weights(kind))
    layout = ONE_BIAS[kind]
    for before, after in zip(weights, there_and_back(layout, spec, weights), strict=True):
        check_same(before, after, ("kernel", "recurrent"))
        if before.bias_input is None or before.bias_recurrent is None:
            assert after.bias_input is None
            continue
        total = (before.bias_input.astype(np.float64) + before.bias_recurrent).astype(np.float32)
        assert after.bias_input is not None
        np.testing.assert_array_equal(after.bias_input, total)
        assert after.bias_recurrent is None
        (again,) = there_and_back(layout, spec, [after])
        check_same(after, again, ("kernel", "recurrent", "bias_input"))


@pytest.mark.parametrize("kind", KINDS)
def test_merged_biases_change_the_function_by_their_last_rounding_only(kind: Kind, random: np.random.Generator) -> None:
    spec = RecurrentSpec(kind, FEATURES, UNITS)
    weights = make_weights(random, spec)
    (merged,) = there_and_back(ONE_BIAS[kind], spec, [weights])
    x, initial = random.standard_normal((BATCH, TIME, FEATURES)), make_state(random, spec)
    cells = [replace(plain_cell(kind), reset_after=False)]
    two, one = (run_layer(spec, [each], x, initial, cells=cells).h for each in (weights, merged))
    assert 0 < np.abs(two - one).max() < 1e-6


@pytest.mark.parametrize(("framework", "kind"), list(LAYOUTS))
def test_packed_rows_stand_where_the_table_says(framework: str, kind: Kind, random: np.random.Generator) -> None:
    """The table spelled out once more, by hand."""
    orders = {
        "keras lstm": "ifgo",
        "keras gru": "zrn",
        "keras rnn": "n",
        "torch lstm": "ifgo",
        "torch gru": "rzn",
        "torch rnn": "n",
        "onnx lstm": "iofg",
        "onnx gru": "zrn",
        "onnx rnn": "n",
    }
    spec = RecurrentSpec(kind, FEATURES, UNITS)
    weights = make_weights(random, spec)
    packed = pack(LAYOUTS[framework, kind], spec, [weights])
    rows = {gate: weights.kernel[index] for index, gate in enumerate(GATES[kind])}
    expected = np.concatenate([rows[gate] for gate in orders[f"{framework} {kind}"]])
    kernel = next(array for name, array in packed.items() if name in ("kernel", "weight_ih", "W"))
    shown = {
        "keras": "input rows -> rows input",
        "torch": "rows input -> rows input",
        "onnx": "1 rows input -> rows input",
    }
    np.testing.assert_array_equal(rearrange(kernel, shown[framework]), expected)


def test_packed_peepholes_stand_where_the_table_says(random: np.random.Generator) -> None:
    spec = RecurrentSpec("lstm", FEATURES, UNITS)
    weights = replace(make_weights(random, spec), peepholes=float32(random, *spec.shape("peepholes")))
    assert weights.peepholes is not None
    rows = dict(zip(PEEPHOLES["lstm"], weights.peepholes, strict=True))
    expected = np.concatenate([rows[gate] for gate in "iof"])
    np.testing.assert_array_equal(pack(LAYOUTS["onnx", "lstm"], spec, [weights])["P"][0], expected)
