"""Probes of suspects made by hand: what moves tells what they do; where nothing is wrong, nothing differs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from parity.diagnosis import diagnose
from parity.diagnosis.case import Case
from parity.diagnosis.cases import asked_case, is_chain
from parity.diagnosis.probes import Probe, probed
from parity.diagnosis.recording import recorded
from parity.diagnosis.suspects import ChainSuspect, GraphSuspect, RecordedSuspect, Suspect
from parity.diagnosis.written import as_json
from parity.frameworks import Settings
from parity.graph.chains import MASK
from parity.ports import open_port
from parity.sources import open_source

BATCH, TIME, FEATURES, UNITS = 4, 9, 3, 5


class Model(nn.Module):
    """An LSTM and a Dense layer; what makes a suspect of it is what is done on the way."""

    def __init__(self, way: Callable[[Any, Tensor], Tensor], both: bool = False) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.lstm = nn.LSTM(FEATURES, UNITS, batch_first=True, bidirectional=both)
        self.out = nn.Linear(2 * UNITS if both else UNITS, 2)
        self.scale = nn.Parameter(torch.ones(UNITS))
        self.register_buffer("kept", torch.zeros(2, 1, BATCH, UNITS), persistent=False)
        self.state: Any = None
        self.calls = 0
        self.way = way
        with torch.no_grad():
            for weight in [*self.lstm.parameters(), *self.out.parameters()]:
                weight.uniform_(-0.9, 0.9)

    def forward(self, x: Tensor) -> Tensor:
        return self.way(self, x)


def right(self: Any, x: Tensor) -> Tensor:
    return self.out(self.lstm(x)[0])


def noisy(self: Any, x: Tensor) -> Tensor:
    return self.out(F.dropout(self.lstm(x)[0], 0.5, training=True))


def stateful(self: Any, x: Tensor) -> Tensor:
    y, self.state = self.lstm(x, self.state)
    return self.out(y)


def buffered(self: Any, x: Tensor) -> Tensor:
    y, (h, c) = self.lstm(x, (self.kept[0], self.kept[1]))
    self.kept.copy_(torch.stack([h, c]))
    return self.out(y)


def counting(self: Any, x: Tensor) -> Tensor:
    self.calls += 1
    return self.out(self.lstm(x)[0]) * self.calls


def normalized(self: Any, x: Tensor) -> Tensor:
    y = self.lstm(x)[0].transpose(1, 2)
    return self.out(F.batch_norm(y, None, None, self.scale, None, True).transpose(1, 2))


def time_major(self: Any, x: Tensor) -> Tensor:
    return self.out(self.lstm(x.transpose(0, 1))[0].transpose(0, 1))


def reversed_in_time(self: Any, x: Tensor) -> Tensor:
    return self.out(self.lstm(x.flip(1))[0].flip(1))


def not_turned_back(self: Any, x: Tensor) -> Tensor:
    return self.out(self.lstm(x.flip(1))[0])


def turned(self: Any, x: Tensor) -> Tensor:
    return self.out(self.lstm(x)[0].flip(1))


def without_bias(self: Any, x: Tensor) -> Tensor:
    return self.out(self.lstm(x)[0]) - self.out(self.lstm(torch.zeros_like(x))[0])


def stretched(self: Any, x: Tensor) -> Tensor:
    return self.out(self.lstm(x)[0]) * 1.5


def last(self: Any, x: Tensor) -> Tensor:
    _, (h, _) = self.lstm(x)
    return torch.cat([h[0], h[1]], -1)


def last_step(self: Any, x: Tensor) -> Tensor:
    return self.lstm(x)[0][:, -1]


def inputs(seed: int = 5) -> Any:
    return np.random.default_rng(seed).normal(size=(BATCH, TIME, FEATURES)).astype(np.float32)


def probes_of(reference: Any, suspect: Any, x: Any = None) -> tuple[Probe, ...]:
    x = inputs() if x is None else x
    first = open_source(reference, partial=True, inputs=x)
    other = open_port(suspect, first, x)
    chain, settings = is_chain(first, other), Settings()
    case = asked_case(first, x, None, None, None, (BATCH, TIME, 0), chain)
    live: Suspect = ChainSuspect(other, first.network, settings) if chain else GraphSuspect(other, settings)
    return probed(live, case)


def patterns(probes: tuple[Probe, ...], words: str) -> tuple[str, str]:
    (probe,) = [probe for probe in probes if words in probe.name]
    return probe.expected, probe.found


def meanings(probes: tuple[Probe, ...]) -> str:
    assert all(bool(probe.meaning) == probe.differs for probe in probes)
    return "; ".join(probe.meaning for probe in probes if probe.differs)


@pytest.mark.parametrize(("way", "both"), [(right, True), (stretched, False)])
def test_a_suspect_of_the_right_pattern_differs_in_no_probe(way: Any, both: bool) -> None:
    probes = probes_of(Model(right, both).eval(), Model(way, both).eval())
    assert len(probes) >= 8
    assert meanings(probes) == ""


@pytest.mark.parametrize(("kind", "both"), [(nn.LSTM, True), (nn.GRU, False), (nn.RNN, True)])
def test_layers_by_themselves_differ_in_no_probe(kind: Any, both: bool) -> None:
    layer = kind(FEATURES, UNITS, num_layers=2, batch_first=True, bidirectional=both, dropout=0.4)
    other = kind(FEATURES, UNITS, num_layers=2, bidirectional=both)
    other.load_state_dict(layer.state_dict())
    assert meanings(probes_of(layer, other)) == ""


@pytest.mark.parametrize(
    ("way", "steps", "samples", "words"),
    [
        (time_major, "..x......", ".xxx", "batch_first"),
        (reversed_in_time, "xxx......", ".x..", "runs backwards in time"),
        (not_turned_back, "......xxx", ".x..", "its output is not turned round again"),
        (turned, "xxxxxxx..", ".x..", "has its output turned round in time"),
        (normalized, "xxxxxxxxx", "xxxx", "a batch normalization in training mode"),
    ],
)
def test_the_pattern_of_what_moves_tells_what_a_suspect_does(way: Any, steps: str, samples: str, words: str) -> None:
    probes = probes_of(Model(right).eval(), Model(way).eval())
    assert patterns(probes, "which steps of the outputs") == ("..xxxxxxx", steps)
    assert patterns(probes, "which samples") == (".x..", samples)
    assert words in meanings(probes)


def test_a_batch_in_place_of_steps_is_told_from_the_statistics_of_a_batch() -> None:
    found = [patterns(probes_of(Model(right), Model(way)), "other samples")[1] for way in (time_major, normalized)]
    assert found == ["..x......", "xxxxxxxxx"]


def test_the_direction_that_an_output_does_not_hear() -> None:
    one_way = Model(right)
    probes = probes_of(Model(right, both=True), one_way)
    expected, found = patterns(probes, "which steps of the outputs")
    assert expected == "xxxxxxxxx"
    assert found.startswith("..xxx")  # the last ones may have forgotten it
    assert "no backward direction reaches its output" in meanings(probes)
    probes = probes_of(one_way, Model(right, both=True))
    assert "as with two directions" in meanings(probes)


def test_the_last_step_of_both_directions_hears_one_step_alone() -> None:
    probes = probes_of(Model(last, both=True), Model(last_step, both=True))
    (probe,) = [one for one in probes if "each step" in one.name]
    assert probe.expected == probe.found == "xxxxxxxxx"  # both halves together
    backward = Model(last, both=True)
    backward.way = lambda self, x: self.lstm(x)[0][:, -1, UNITS:]
    reference = Model(last, both=True)
    reference.way = lambda self, x: self.lstm(x)[1][0][1]
    probes = probes_of(reference, backward)
    assert patterns(probes, "each step")[1] == "........x"
    assert "hears the last step alone" in meanings(probes)


def test_outputs_without_biases() -> None:
    probes = probes_of(Model(right), Model(without_bias))
    assert patterns(probes, "zeros for everything") == ("other numbers", "zeros")


@pytest.mark.parametrize(
    ("way", "name", "words"),
    [
        (noisy, "dropout left on", "another draw of random numbers, is left on"),
        (stateful, "state carried over", "carries its state from one call to the next"),
        (buffered, "state carried over", "carries its state from one call to the next"),
        (counting, "dropout left on", "or it counts its calls"),
    ],
)
def test_what_changes_from_call_to_call_is_the_cause(way: Any, name: str, words: str) -> None:
    found = diagnose(Model(right), Model(way), inputs=inputs())
    assert found.found
    assert not found.agrees
    assert found.faults[0].name == name
    assert words in found.cause
    assert [probe.differs for probe in found.probes] == [True]
    assert words in str(found)
    assert as_json(found)["probes"][0]["differs"]
    assert ("training=self.training" in found.repair) == (name == "dropout left on")
    assert ("every call begins with zeros" in found.repair) == (name == "state carried over")
    assert diagnose(
        Model(right), found.repaired(), inputs=inputs()
    ).agrees  # the reference anew: no code mends it from outside


def test_what_cannot_be_copied_is_not_told_apart() -> None:
    suspect = Model(stateful)
    suspect.__dict__["generator"] = (one for one in inputs())  # Python copies no generators
    found = diagnose(Model(right), suspect, inputs=inputs())
    assert not found.found
    assert "dropout is left on, or it carries its state" in found.cause


def test_a_recording_cannot_be_probed() -> None:
    reference = Model(right)
    x = inputs()
    first = open_source(reference, partial=True, inputs=x)
    case = asked_case(first, x, None, None, None, (BATCH, TIME, None))
    recording = recorded({"inputs": x, "outputs": inputs()[..., :2]})
    assert probed(RecordedSuspect(recording.by_name(case), recording.label), case) == ()


def test_probes_are_told_where_no_replay_explains() -> None:
    found = diagnose(Model(right), Model(normalized), inputs=inputs(), pairs=False)
    assert not found.found
    assert "; but it mixes the samples of a batch" in found.cause
    assert "which samples move: xxxx, expected .x.." in str(found)


@pytest.mark.parametrize("training", [True, False])
def test_a_module_in_training_mode_is_said_to_be_so(training: bool) -> None:
    def model() -> nn.Sequential:
        torch.manual_seed(1)
        return nn.Sequential(nn.Linear(FEATURES, 4), nn.Dropout(0.5), nn.LSTM(4, UNITS, batch_first=True))

    found = diagnose(model(), model().train(training))
    assert found.agrees
    assert any("training mode" in note and "dropout is on" in note for note in found.notes) == training
    plain = diagnose(nn.GRU(FEATURES, UNITS), nn.GRU(FEATURES, UNITS).train(), pairs=False)
    assert not any("training mode" in note for note in plain.notes)


def keras_model(stateful: bool = False, noisy: bool = False) -> Any:
    keras.utils.set_random_seed(4)
    x = keras.Input(batch_shape=(BATCH, None, FEATURES))
    y = keras.layers.LSTM(UNITS, return_sequences=True, stateful=stateful)(x)
    y = keras.layers.Dropout(0.5)(y, training=True) if noisy else keras.layers.Dropout(0.5)(y)
    return keras.Model(x, keras.layers.Dense(2)(y))


def test_keras_states_that_are_carried_and_dropout_that_stands_in_the_model() -> None:
    reference = keras_model()
    found = diagnose(reference, keras_model(stateful=True), inputs=inputs())
    assert found.agrees
    assert any("is stateful" in note and "reset_states()" in note for note in found.notes)
    found = diagnose(reference, keras_model(noisy=True), inputs=inputs())
    assert found.faults[0].name == "dropout left on"
    assert "training=False" in found.repair
    assert not any("stateful" in note for note in diagnose(reference, keras_model(), inputs=inputs()).notes)


class Tokens(nn.Module):
    """A port of a model of tokens that looks at the padding."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.table, self.lstm = nn.Embedding(11, FEATURES), nn.LSTM(FEATURES, UNITS, batch_first=True)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.lstm(self.table(tokens))[1][0][0]


def test_padding_that_is_looked_at() -> None:
    x = keras.Input((None,), dtype="int32")
    reference = keras.Model(x, keras.layers.LSTM(UNITS)(keras.layers.Embedding(11, FEATURES, mask_zero=True)(x)))
    tokens = np.random.default_rng(3).integers(1, 11, (BATCH, TIME))
    probes = probes_of(reference, Tokens(), tokens)
    assert patterns(probes, "padded steps") == ("nothing", "it does")
    assert meanings(probes) == "looks at padded steps: its mask is ignored, or lost on the way"
    assert meanings(probes_of(reference, reference, tokens)) == ""


class Unmasked(ChainSuspect):
    """A chain of layers that is called without its mask."""

    def observe(self, case: Case, engine: str | None = None) -> dict[str, Any]:
        inputs = {**case.inputs, MASK: np.ones_like(case.inputs[MASK])}
        return super().observe(replace(case, inputs=inputs), engine)


@pytest.mark.parametrize("kind", [ChainSuspect, Unmasked])
def test_numbers_at_masked_steps_are_looked_at_only_where_the_mask_is_ignored(kind: type[ChainSuspect]) -> None:
    layer = nn.LSTM(FEATURES, UNITS, batch_first=True, bidirectional=True)
    first = open_source(layer)
    case = asked_case(first, inputs(), None, [9, 4, 7, 2], None, (BATCH, TIME, 0))
    probes = probed(kind(first, first.network, Settings()), case)
    assert patterns(probes, "padded steps") == ("nothing", "nothing" if kind is ChainSuspect else "it does")
    assert ("looks at padded steps" in meanings(probes)) == (kind is Unmasked)
    assert meanings(probes).count(";") == 0
