"""The verdict on models known to be right or wrong, beside what a fixed tolerance would have said (FACTS.md 5.3)."""

from __future__ import annotations

import copy
import importlib.util
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import keras
import numpy as np
import pytest
import torch
import typer
from numpy.typing import NDArray

import parity
from parity import replicas
from parity.cell import plain_cell
from parity.floor import measure
from parity.functions import Function
from parity.judge import REFERENCE, Judgement, Row, Rule, judge
from parity.layouts import GATES
from parity.network import Network, Recurrent
from parity.recurrent import Array, RecurrentSpec, Weights
from parity.result import LayerRun, Result, State, check_states

Float32: TypeAlias = NDArray[np.float32]
Elementwise: TypeAlias = Callable[[Float32], Float32]
Product: TypeAlias = Callable[[Float32, Float32], Float32]

FEATURES, UNITS, BATCH = 5, 32, 3


def product(left: Float32, right: Float32) -> Float32:
    """The honest one."""
    return left @ right


def tf32_product(left: Float32, right: Float32) -> Float32:
    """Ten bits of mantissa go into the product, as on a GPU that was not told otherwise."""
    return truncated(left) @ truncated(right)


def truncated(array: Float32) -> Float32:
    bits: NDArray[np.int32] = np.ascontiguousarray(array).view(np.int32) & ~0x1FFF
    floats: Float32 = bits.view(np.float32)
    return floats


def tanh(x: Float32) -> Float32:
    y: Float32 = np.tanh(x)
    return y


def fast_tanh(x: Float32) -> Float32:
    """A Pade approximation that saturates: right to about 1e-5."""
    x = np.clip(x, np.float32(-4.97), np.float32(4.97))
    s = x * x
    y: Float32 = x * (135135 + s * (17325 + s * (378 + s))) / (135135 + s * (62370 + s * (3150 + 28 * s)))
    return y


@dataclass
class Suspect:
    """A runner: one layer of one direction in plain float32 NumPy, with a fault that no framework can be talked into."""

    network: Network
    product: Product = product
    tanh: Elementwise = tanh
    reset_after: bool = True
    engine: str = "suspect"

    def __call__(self, inputs: Array, states: Mapping[str, State], mask: Array | None = None) -> Result:
        """Run, and show every step."""
        (layer,) = self.network.recurrent
        now: list[Float32] = [array[0].astype(np.float32) for array in states[layer.name].arrays()]
        step = self._lstm if layer.spec.kind == "lstm" else self._gru
        sequence = np.empty((*inputs.shape[:2], 1, layer.spec.hidden_size), np.float32)
        for time in range(inputs.shape[1]):
            now = step(inputs[:, time].astype(np.float32), now)
            sequence[:, time, 0] = now[0]
        return Result(self.engine, {}, {layer.name: LayerRun(State(*(state[None] for state in now)), sequence)})

    def _gates(self, x: Float32, matrix: str, bias: str) -> dict[str, Float32]:
        (layer,) = self.network.recurrent
        weights, biases = layer.weights[0].member(matrix), layer.weights[0].member(bias)
        assert weights is not None
        values = self.product(x, weights.reshape(-1, weights.shape[-1]).T)
        if biases is not None:
            values = values + biases.reshape(-1)
        gates = GATES[layer.spec.kind]
        return dict(zip(gates, np.split(values, len(gates), axis=-1), strict=True))

    def _lstm(self, x: Float32, states: list[Float32]) -> list[Float32]:
        given, recurred = self._gates(x, "kernel", "bias_input"), self._gates(states[0], "recurrent", "bias_recurrent")
        z = {gate: given[gate] + recurred[gate] for gate in given}
        c = sigmoid(z["f"]) * states[1] + sigmoid(z["i"]) * self.tanh(z["g"])
        return [sigmoid(z["o"]) * self.tanh(c), c]

    def _gru(self, x: Float32, states: list[Float32]) -> list[Float32]:
        given, recurred = self._gates(x, "kernel", "bias_input"), self._gates(states[0], "recurrent", "bias_recurrent")
        reset, update = (sigmoid(given[gate] + recurred[gate]) for gate in ("r", "z"))
        if self.reset_after:
            candidate = self.tanh(given["n"] + reset * recurred["n"])
        else:
            candidate = self.tanh(given["n"] + self._gates(reset * states[0], "recurrent", "bias_recurrent")["n"])
        return [update * states[0] + (1 - update) * candidate]


def sigmoid(x: Float32) -> Float32:
    y: Float32 = (1 / (1 + np.exp(-x))).astype(np.float32)
    return y


def normal(random: np.random.Generator, time: int, size: float = 1.0, batch: int = BATCH) -> Float32:
    return (size * random.standard_normal((batch, time, FEATURES))).astype(np.float32)


def torch_layer(
    kind: str, random: np.random.Generator, units: int = UNITS, gain: float = 1.0, bias: float = 0.3
) -> Any:
    """A torch layer of random weights; gain is the spectral size of the recurrence, above about 3 it is chaotic."""
    layer = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[kind](FEATURES, units, batch_first=True)
    sizes = {"weight_ih_l0": FEATURES**-0.5, "weight_hh_l0": gain * units**-0.5}
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            values = sizes.get(name, bias) * random.standard_normal(parameter.shape)
            parameter.copy_(torch.from_numpy(values))
    return layer


def fresh_keras_lstm(seed: int = 0) -> Any:
    """As Keras makes it: Glorot kernel, orthogonal recurrence, forget bias one and the others zero."""
    layer = keras.layers.LSTM(
        UNITS,
        return_sequences=True,
        kernel_initializer=keras.initializers.GlorotUniform(seed),
        recurrent_initializer=keras.initializers.Orthogonal(seed=seed),
    )
    layer.build((None, None, FEATURES))
    return layer


def judged(suspect: Suspect, network: Network, inputs: Array) -> Judgement:
    return judge(network, {"suspect": suspect}, inputs, check_states(network.specs, None, inputs.shape[0]))


def worst(rows: tuple[Row, ...], rule: Rule, label: str = "") -> Row:
    """Of everything compared with the reference by this rule, what is nearest to the limit or furthest beyond."""
    chosen = [row for row in rows if row.rule == rule and row.right == REFERENCE and label in row.left]
    return max(chosen, key=lambda row: row.times_floor)


def sequence_error(rows: tuple[Row, ...], label: str = "") -> float:
    """What a fixed tolerance looks at: the largest absolute error in the outputs."""
    return max(
        row.max_error
        for row in rows
        if (row.rule, row.quantity, row.right) == ("run", "sequence", REFERENCE) and label in row.left
    )


def changed(layer: Any, change: Callable[[dict[str, torch.Tensor]], object]) -> Any:
    """A copy of a torch layer with some weights changed."""
    other = copy.deepcopy(layer)
    with torch.no_grad():
        change(dict(other.named_parameters()))
    return other


# ---- correct: a fixed tolerance raises a false alarm


@pytest.mark.parametrize(
    ("kind", "gain", "time", "scale", "seed", "tolerances", "verdict"),
    [
        ("lstm", 3.0, 1000, 0.5, 2, (1e-5,), "agree"),
        ("gru", 3.2, 1000, 1.0, 0, (1e-5, 1e-4), "agree"),
        ("lstm", 6.0, 300, 1.0, 0, (1e-5, 1e-4, 1e-1), "undecided"),
        ("gru", 4.0, 300, 1.0, 2, (1e-5, 1e-4, 1e-1), "undecided"),
    ],
)
def test_correct_but_lively(
    kind: str, gain: float, time: int, scale: float, seed: int, tolerances: tuple[float, ...], verdict: str
) -> None:
    random = np.random.default_rng(seed)
    layer = torch_layer(kind, random, gain=gain)
    comparison = parity.compare(layer, inputs=normal(random, time, scale), engines=["torch", "onnxruntime"])
    assert sequence_error(comparison.table) > max(tolerances), "a fixed tolerance would not have raised an alarm"
    assert comparison.verdict == verdict
    assert {row.verdict for row in comparison.table if row.rule == "one step"} == {"agree"}, "chaos is no excuse here"
    horizon = comparison.judgement.floor.horizon
    assert (horizon is None) == (verdict == "agree")
    if horizon is not None:
        assert 10 < horizon < time
        assert f"up to step {horizon} of {time}" in comparison.sentence


def test_beyond_the_horizon_a_fault_is_still_seen_in_single_steps() -> None:
    random = np.random.default_rng(0)
    layer = torch_layer("lstm", random, gain=6.0)
    wrong = changed(layer, lambda weights: weights["weight_hh_l0"][3, 7].zero_())
    comparison = parity.compare(layer, wrong, inputs=normal(random, 300))
    assert comparison.verdict == "disagree"
    assert "disagree" in {row.verdict for row in comparison.table if row.rule == "one step"}


@pytest.mark.parametrize("size", [1.0, 1e-2, 1e-4])
@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_the_suspect_without_a_fault_agrees(kind: str, size: float, random: np.random.Generator) -> None:
    network = parity.read(torch_layer(kind, random))
    assert judged(Suspect(network), network, normal(random, 50, size)).verdict == "agree"


def test_keras_agrees_with_its_conversions_on_a_long_run() -> None:
    inputs = normal(np.random.default_rng(4), 200)
    assert parity.compare(fresh_keras_lstm(), inputs=inputs).verdict == "agree"


# ---- wrong: a fixed tolerance sees nothing


def check_caught(rows: tuple[Row, ...], label: str, hidden_at: float, rules: tuple[Rule, ...], floors: float) -> None:
    """The suspect is judged wrong by these rules, by so many floors at least; yet its error is below a fixed tolerance."""
    assert sequence_error(rows, label) < hidden_at, "a fixed tolerance would have seen it too"
    for rule in rules:
        row = worst(rows, rule, label)
        assert row.verdict == "disagree"
        assert row.times_floor > floors


BOTH: tuple[Rule, Rule] = ("run", "one step")


@pytest.mark.parametrize(("size", "hidden_at"), [(1e-2, 1e-5), (1e-4, 1e-6)])
def test_tf32_products(size: float, hidden_at: float) -> None:
    network = parity.read(fresh_keras_lstm())
    judgement = judged(Suspect(network, tf32_product), network, normal(np.random.default_rng(1), 50, size))
    assert judgement.verdict == "disagree"
    check_caught(judgement.rows, "suspect", hidden_at, BOTH, 200)


def test_fast_tanh(random: np.random.Generator) -> None:
    network = parity.read(torch_layer("lstm", random))
    judgement = judged(Suspect(network, tanh=fast_tanh), network, normal(random, 50))
    check_caught(judgement.rows, "suspect", 1e-4, BOTH, 5)


def test_reset_gate_before_the_product(random: np.random.Generator) -> None:
    layer = changed(
        torch_layer("gru", random, bias=0.0), lambda weights: [weight.mul_(0.05) for weight in weights.values()]
    )
    network = parity.read(layer)
    inputs = normal(random, 50, 1e-2)
    assert judged(Suspect(network), network, inputs).verdict == "agree"
    judgement = judged(Suspect(network, reset_after=False), network, inputs)
    check_caught(judgement.rows, "suspect", 1e-7, BOTH, 5)


def store_as_float16(weights: dict[str, torch.Tensor]) -> None:
    for weight in weights.values():
        weight.copy_(weight.half().float())


def zero_one_recurrent_weight(weights: dict[str, torch.Tensor]) -> None:
    weights["weight_hh_l0"][3, 7] = 0


def halve_the_forget_bias(weights: dict[str, torch.Tensor]) -> None:
    for name in ("bias_ih_l0", "bias_hh_l0"):
        weights[name][UNITS : 2 * UNITS] *= 0.5


def swap_reset_and_update(weights: dict[str, torch.Tensor]) -> None:
    for weight in weights.values():
        reset, update, candidate = weight.clone().chunk(3)
        weight.copy_(torch.cat([update, reset, candidate]))


@pytest.mark.parametrize(
    ("change", "size", "hidden_at", "floors"),
    [
        (store_as_float16, 1e-2, 1e-5, 50),
        (zero_one_recurrent_weight, 1e-2, 1e-5, 4),
        (halve_the_forget_bias, 1e-4, 1e-4, 10_000),
    ],
)
def test_weights_changed_in_a_fresh_lstm(
    change: Callable[[dict[str, torch.Tensor]], object], size: float, hidden_at: float, floors: float
) -> None:
    layer = fresh_keras_lstm()
    wrong = changed(parity.to_torch(layer), change)
    comparison = parity.compare(layer, wrong, inputs=normal(np.random.default_rng(1), 50, size))
    assert comparison.verdict == "disagree"
    check_caught(comparison.table, "torch", hidden_at, BOTH, floors)
    assert worst(comparison.table, "run", "keras").verdict == "agree"


def test_halved_forget_bias_is_above_the_narrower_tolerance() -> None:
    layer = parity.to_torch(fresh_keras_lstm())
    wrong = changed(layer, halve_the_forget_bias)
    rows = parity.compare(layer, wrong, inputs=normal(np.random.default_rng(1), 200, 1e-4)).table
    assert 1e-5 < sequence_error(rows) < 1e-4


def test_reset_and_update_swapped(random: np.random.Generator) -> None:
    layer = changed(
        torch_layer("gru", random, bias=0.0), lambda weights: [weight.mul_(0.05) for weight in weights.values()]
    )
    comparison = parity.compare(layer, changed(layer, swap_reset_and_update), inputs=normal(random, 50, 1e-2))
    check_caught(comparison.table, "#2", 1e-5, BOTH, 100)


@pytest.mark.parametrize("unit", [3, UNITS + 8, 2 * UNITS + 6, 3 * UNITS + 4])
def test_one_bias_off(unit: int, random: np.random.Generator) -> None:
    """By 1e-5 it is seen; by 1e-6 it is below what float32 resolves, and nobody can tell."""
    layer = torch_layer("lstm", random)
    inputs = normal(random, 50)

    def off(by: float) -> tuple[Row, ...]:
        return parity.compare(
            layer, changed(layer, lambda weights: weights["bias_ih_l0"][unit].add_(by)), inputs=inputs
        ).table

    check_caught(off(1e-5), "#2", 1e-4, ("one step",), 2)
    for rule in BOTH:
        assert worst(off(1e-6), rule, "#2").verdict == "agree"


def test_one_step_from_zero_hides_the_forget_gate_and_says_so() -> None:
    layer = fresh_keras_lstm()
    wrong = changed(parity.to_torch(layer), halve_the_forget_bias)
    inputs = normal(np.random.default_rng(1), 1)
    blind = parity.compare(layer, wrong, inputs=inputs)
    assert blind.verdict == "agree", "its only state is zero, for both rules"
    assert any("zero state" in note for note in blind.notes)
    states = [np.random.default_rng(2).uniform(-1, 1, (1, BATCH, UNITS)).astype(np.float32) for _ in range(2)]
    seen = parity.compare(layer, wrong, inputs=inputs, initial_state=states)
    assert seen.verdict == "disagree"
    assert not any("zero state" in note for note in seen.notes)
    assert parity.compare(layer, wrong, inputs=normal(np.random.default_rng(1), 2)).verdict == "disagree"


# ---- the edges of the rule


@pytest.mark.parametrize("kind", ["lstm", "gru"])
@pytest.mark.parametrize(("units", "time", "size"), [(1, 60, 1.0), (1, 60, 1e-4), (2, 40, 0.0), (32, 1, 0.0)])
def test_tiny_layers_and_zero_inputs_agree(
    kind: str, units: int, time: int, size: float, random: np.random.Generator
) -> None:
    for bias in (0.0, 0.3):
        layer = torch_layer(kind, random, units=units, bias=bias)
        comparison = parity.compare(layer, inputs=normal(random, time, size), engines=["torch", "onnxruntime"])
        # Where nothing but zeros is computed nothing was tested.
        assert comparison.verdict == ("agree" if bias or size else "undecided")


@dataclass
class _Another:
    """Answers with what another layer computed, whatever it is asked."""

    suspect: Suspect
    start: dict[str, State]
    engine: str = "another"

    def __call__(self, inputs: Array, states: Mapping[str, State], mask: Array | None = None) -> Result:
        return self.suspect(inputs[:BATCH], self.start)


def test_a_nan_or_a_shape_of_its_own_disagrees(random: np.random.Generator) -> None:
    network = parity.read(torch_layer("gru", random))
    inputs = normal(random, 8)
    judgement = judged(Suspect(network, tanh=lambda x: np.where(x > 0.5, np.float32(np.nan), x)), network, inputs)
    assert judgement.verdict == "disagree"
    other = parity.read(torch_layer("gru", random, units=UNITS + 1))
    wide = _Another(Suspect(other), check_states(other.specs, None, BATCH))
    (row, *_) = judge(network, {"other": wide}, inputs, check_states(network.specs, None, BATCH)).rows
    assert (row.verdict, row.note) == (
        "disagree",
        f"shape ({BATCH}, 8, 1, {UNITS + 1}) against ({BATCH}, 8, 1, {UNITS})",
    )


# ---- large runs: cut into slices of the batch and windows of time


def cut_small(patch: pytest.MonkeyPatch, network: Network, samples: int, steps: int, groups: int) -> None:
    """As if so many samples and steps of this network were a large run."""
    step_bytes = 8 * groups * sum(layer.output_size * len(layer.spec.states) for layer in network.recurrent)
    patch.setattr(replicas, "_SLICE_BYTES", step_bytes * samples * steps)
    patch.setattr(replicas, "_WINDOW_BYTES", step_bytes * samples * steps)
    patch.setattr(replicas, "_ROWS", groups * samples)


LARGE: dict[str, tuple[str, dict[str, Any], bool]] = {
    "lstm": ("LSTM", {}, False),
    "a stack under a mask": ("GRU", {"num_layers": 2}, True),
    "two directions": ("RNN", {"bidirectional": True}, False),
}


@pytest.mark.parametrize("case", LARGE)
def test_a_run_in_parts_is_the_run_as_a_whole(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, options, masked = LARGE[case]
    torch.manual_seed(3)
    network = parity.read(getattr(torch.nn, name)(FEATURES, UNITS, batch_first=True, **options))
    batch, time, groups = 5, 41, 17
    inputs = normal(np.random.default_rng(4), time, batch=batch)
    states = {
        layer: State(*(np.random.default_rng(5).uniform(-1, 1, a.shape).astype(np.float32) for a in state.arrays()))
        for layer, state in check_states(network.specs, None, batch).items()
    }
    mask = np.arange(time) < np.array([41, 7, 30, 1, 20])[:, None] if masked else None
    whole = measure(network, inputs, states, groups - 1, mask=mask)
    cut_small(monkeypatch, network, samples=2, steps=time if "directions" in case else 6, groups=groups)
    assert replicas._cut(network, batch, time, groups, masked) == (2, time if "directions" in case else 6)
    parts = measure(network, inputs, states, groups - 1, mask=mask)
    assert parts.bands.keys() == whole.bands.keys()
    for key, band in whole.bands.items():
        part = parts.bands[key]
        np.testing.assert_allclose(part.reference, band.reference, rtol=0, atol=1e-14)
        np.testing.assert_array_equal(part.comparable, band.comparable)
        np.testing.assert_array_equal(part.padded, band.padded)
        valid = ... if band.padded is None else ~band.padded
        # Other signs are drawn, so the noise is another of the same size.
        ratio = part.floor[valid] / band.floor[valid]
        assert 0.8 < np.median(ratio) < 1.25
        assert ratio.min() > 0.25
        assert ratio.max() < 4
    for layer, path in whole.trajectories.items():
        for ours, theirs in zip(parts.trajectories[layer].before().arrays(), path.before().arrays(), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-14)


def test_replicas_that_keep_their_signs_keep_them_in_every_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cell that sums up for 200 steps: signs that stay add up to more than signs drawn anew, by the root of their number."""
    spec = RecurrentSpec("lstm", FEATURES, UNITS)
    shapes = {name: spec.shape(name) for name in ("kernel", "recurrent", "bias_input")}
    arrays = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    arrays["bias_input"][list(GATES["lstm"]).index("f")] = 20.0
    arrays["kernel"][list(GATES["lstm"]).index("g")] = 0.01
    network = Network("sum", (Recurrent("sum", spec, (Weights(**arrays),)),))
    inputs = np.ones((1, 200, FEATURES), np.float32)
    states = check_states(network.specs, None, 1)
    whole = measure(network, inputs, states, 16).bands["c_n"].floor
    cut_small(monkeypatch, network, samples=1, steps=4, groups=17)
    np.testing.assert_allclose(measure(network, inputs, states, 16).bands["c_n"].floor, whole, rtol=0.25)


def test_a_large_run_is_judged_as_any(monkeypatch: pytest.MonkeyPatch, random: np.random.Generator) -> None:
    network = parity.read(torch_layer("lstm", random))
    inputs = normal(random, 60)
    cut_small(monkeypatch, network, samples=1, steps=7, groups=17)
    assert judged(Suspect(network), network, inputs).verdict == "agree"
    row = next(row for row in judged(Suspect(network, tanh=late()), network, inputs).rows if row.rule == "run")
    assert (row.verdict, row.first_step) == ("disagree", 33)


def late() -> Elementwise:
    """A tanh that is wrong from the 34th step on: it is called twice in every step."""
    calls = iter(range(10**6))

    def tanh(x: Float32) -> Float32:
        right: Float32 = np.tanh(x).astype(np.float32)
        return right + np.float32(1e-4) if next(calls) >= 2 * 33 else right

    return tanh


# ---- scripts/calibrate.py, which keeps the limit honest


def load_calibrate() -> Any:
    path = Path(__file__).resolve().parent.parent / "scripts" / "calibrate.py"
    spec = importlib.util.spec_from_file_location("calibrate", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_calibration_finds_no_false_alarm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    load_calibrate().main(seed=100, quick=True, json_path=tmp_path / "calibration.json")
    outcomes = json.loads((tmp_path / "calibration.json").read_text())["outcomes"]
    assert {outcome["engine"] for outcome in outcomes} == {"keras", "torch", "onnxruntime"}
    assert len(outcomes) > 70
    assert all(outcome["verdict"] != "disagree" for outcome in outcomes)
    assert max(max(outcome["run"], outcome["one_step"]) for outcome in outcomes) > 0.1, "nothing was measured"
    assert "alarms" in capsys.readouterr().out


def test_calibration_fails_on_a_false_alarm(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("parity.judge.LIMIT", 1e-3)
    with pytest.raises(typer.Exit) as stopped:
        load_calibrate().main(cases=2, quick=True, engines="torch")
    assert stopped.value.exit_code == 1
    assert "false alarm torch" in capsys.readouterr().out


@pytest.mark.parametrize("engine", ["torch", "onnxruntime", "keras"])
def test_an_overflow_of_float32_is_undecided(engine: str) -> None:
    random = np.random.default_rng(11)
    spec = RecurrentSpec("rnn", FEATURES, UNITS)
    growing = replace(plain_cell("rnn"), functions=(Function("affine", 3.0, 0.5),))
    weights = Weights(
        *(random.uniform(0.5, 1.5, spec.shape(name)).astype(np.float32) for name in ("kernel", "recurrent"))
    )
    layer = Recurrent("growing", spec, (weights,), cells=(growing,))
    inputs = random.uniform(0.5, 1.0, (BATCH, 60, FEATURES)).astype(np.float32)
    long = parity.compare(layer, inputs=inputs, engines=[engine])
    assert long.verdict == "undecided", str(long)
    assert long.judgement.floor.horizon
    assert parity.compare(layer, inputs=inputs[:, :10], engines=[engine]).ok


def test_a_single_step_near_zero_is_not_undecided() -> None:
    """One unit whose h crosses zero at 5e-6: small beside its own noise, not beside the run it is a step of."""
    torch.manual_seed(4294967294)
    module = torch.nn.RNN(1, 1, 2, bidirectional=True)
    comparison = parity.compare(module, batch=2, time=5, seed=294, engines=["torch", "onnxruntime"])
    assert min(abs(band.reference).min() for band in comparison.judgement.floor.bands.values()) < 1e-5
    assert comparison.ok, str(comparison)
