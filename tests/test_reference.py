"""The float64 reference against torch in float64, and weights through every layout and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from einops import rearrange
from hypothesis import given, settings
from hypothesis import strategies as st

import parity
from parity.layouts import GATES, KINDS, LAYOUTS, Kind
from parity.recurrent import DIRECTIONS, Array, Direction, RecurrentSpec, Weights, pack, unpack
from parity.reference import run_layer, sigmoid
from parity.result import State

FEATURES, UNITS, BATCH, TIME = 3, 5, 4, 9
MODULES: dict[str, Any] = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}
ALL_DIRECTIONS: tuple[tuple[Direction, ...], ...] = (("forward",), ("backward",), DIRECTIONS)


def float32(random: np.random.Generator, *shape: int, size: float = 1.0) -> Array:
    return (size * random.standard_normal(shape)).astype(np.float32)


def make_weights(random: np.random.Generator, spec: RecurrentSpec) -> Weights:
    return Weights(
        *(float32(random, *spec.shape(name)) for name in ("kernel", "recurrent", "bias_input", "bias_recurrent"))
    )


def make_state(random: np.random.Generator, spec: RecurrentSpec, batch: int = BATCH) -> State:
    shape = (len(spec.directions), batch, spec.hidden_size)
    return State(*(random.standard_normal(shape) for _ in spec.states))


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
def any_weights(draw: st.DrawFn, kind: Kind) -> tuple[RecurrentSpec, list[Weights]]:
    """Sizes all different where there is room, every bit pattern a float32 may have (no NaN)."""
    features, units = draw(st.integers(1, 6)), draw(st.integers(1, 7))
    directions = draw(st.sampled_from(ALL_DIRECTIONS))
    spec = RecurrentSpec(kind, features, units, directions)
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    sizes = draw(st.sampled_from([1e-30, 1.0, 1e30]))
    biased = draw(st.booleans())

    def array(name: str) -> Array | None:
        return float32(random, *spec.shape(name), size=sizes) if biased or not name.startswith("bias") else None

    names = ("bias_input", "bias_recurrent")
    return spec, [
        Weights(float32(random, *spec.shape("kernel")), float32(random, *spec.shape("recurrent")), *map(array, names))
        for _ in directions
    ]


def there_and_back(framework: str, spec: RecurrentSpec, weights: list[Weights]) -> list[Weights]:
    layout = LAYOUTS[framework, spec.kind]
    if framework == "onnx":
        return list(unpack(layout, spec, pack(layout, spec, weights)))
    return [one for each in weights for one in unpack(layout, spec, pack(layout, spec, [each]))]


def check_same(left: Weights, right: Weights, names: tuple[str, ...]) -> None:
    for name in names:
        ours, theirs = left.member(name), right.member(name)
        if ours is None or theirs is None:
            assert ours is theirs
        else:
            np.testing.assert_array_equal(ours.view(np.int32), theirs.view(np.int32), err_msg=name)


@pytest.mark.parametrize(("framework", "kind"), [pair for pair in LAYOUTS if pair != ("keras", "lstm")])
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_layout_round_trip_is_bit_exact(framework: str, kind: Kind, data: st.DataObject) -> None:
    spec, weights = data.draw(any_weights(kind))
    for before, after in zip(weights, there_and_back(framework, spec, weights), strict=True):
        check_same(before, after, ("kernel", "recurrent", "bias_input", "bias_recurrent"))


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_keras_lstm_keeps_the_sum_of_two_biases(data: st.DataObject) -> None:
    spec, weights = data.draw(any_weights("lstm"))
    for before, after in zip(weights, there_and_back("keras", spec, weights), strict=True):
        check_same(before, after, ("kernel", "recurrent"))
        if before.bias_input is None or before.bias_recurrent is None:
            assert after.bias_input is None
            continue
        total = (before.bias_input.astype(np.float64) + before.bias_recurrent).astype(np.float32)
        assert after.bias_input is not None
        np.testing.assert_array_equal(after.bias_input, total)
        assert after.bias_recurrent is None
        (again,) = there_and_back("keras", spec, [after])
        check_same(after, again, ("kernel", "recurrent", "bias_input"))


def test_merged_biases_change_the_function_by_their_last_rounding_only(random: np.random.Generator) -> None:
    spec = RecurrentSpec("lstm", FEATURES, UNITS)
    weights = make_weights(random, spec)
    (merged,) = there_and_back("keras", spec, [weights])
    x, initial = random.standard_normal((BATCH, TIME, FEATURES)), make_state(random, spec)
    two, one = (run_layer(spec, [each], x, initial).h for each in (weights, merged))
    assert 0 < np.abs(two - one).max() < 1e-6


@pytest.mark.parametrize(("framework", "kind"), list(LAYOUTS))
def test_packed_rows_stand_where_the_table_says(framework: str, kind: Kind, random: np.random.Generator) -> None:
    """The table spelled out once more, by hand."""
    orders = {
        "keras lstm": "ifgo",
        "keras gru": "zrn",
        "torch lstm": "ifgo",
        "torch gru": "rzn",
        "onnx lstm": "iofg",
        "onnx gru": "zrn",
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
