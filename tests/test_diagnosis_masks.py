"""Masks: what a port without one gives is named on any inputs; mistakes that take each other's ground away are passed over."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from parity.diagnosis import Diagnosis, diagnose
from parity.diagnosis.case import Case, chain_case
from parity.diagnosis.fault import Fault
from parity.diagnosis.faults import faults_of
from parity.diagnosis.replay import confirmed, replayed, screened, stage_of, wired_alike
from parity.errors import ParityError
from parity.graph.chains import graph_of_chain
from parity.network import Dense, Embedding, Masking, Network, Recurrent
from parity.recurrent import DIRECTIONS, RecurrentSpec, Weights
from parity.result import State

FEATURES, UNITS, TOKENS = 3, 5, 9
GATES = {"lstm": 4, "gru": 3}


def padded(random: np.random.Generator) -> Any:
    """Samples of unequal lengths, the last steps of which are zeros."""
    x = random.standard_normal((4, 9, FEATURES)).astype(np.float32)
    for sample, length in enumerate((9, 6, 3, 8)):
        x[sample, length:] = 0
    return x


def keras_model(random: np.random.Generator, *layers: Any, tokens: bool = False) -> Any:
    """A chain of Keras layers with weights and biases that all show."""
    keras = pytest.importorskip("keras")
    taken = keras.Input((None,), dtype="int32") if tokens else keras.Input((None, FEATURES))
    value = taken
    for layer in layers:
        value = layer(value)
    model = keras.Model(taken, value)
    model.set_weights([random.uniform(-0.8, 0.8, one.shape).astype(np.float32) for one in model.get_weights()])
    return model


def named(found: Diagnosis, name: str) -> None:
    """The one cause."""
    assert found.found, found
    assert [fault.name for fault in found.faults] == [name], found


@pytest.mark.parametrize(("sequence", "both"), [(True, True), (True, False), (False, True)])
def test_a_port_without_the_mask_is_named_on_any_inputs(
    random: np.random.Generator, sequence: bool, both: bool
) -> None:
    layers = pytest.importorskip("keras").layers

    def recurrent() -> Any:
        layer = layers.GRU(UNITS, return_sequences=sequence)
        return layers.Bidirectional(layer) if both else layer

    right = keras_model(random, layers.Masking(), recurrent())
    wrong = keras_model(random, recurrent())
    wrong.set_weights(right.get_weights())
    x = padded(random)
    given = diagnose(right, wrong, inputs=x, pairs=False)
    named(given, "mask ignored")
    # The others are told in floors that people can read, though the right model gives exact zeros at padded steps.
    assert all(row.floors < 1e9 for row in given.evidence), given
    named(diagnose(right, {"inputs": x, "outputs": np.asarray(wrong(x))}, pairs=False), "mask ignored")
    named(diagnose(right, wrong, pairs=False), "mask ignored")


def test_tokens_that_a_mask_leaves_out_are_among_random_ones(random: np.random.Generator) -> None:
    layers = pytest.importorskip("keras").layers
    right, wrong = (
        keras_model(random, layers.Embedding(50_000, FEATURES, mask_zero=masked), layers.GRU(UNITS), tokens=True)
        for masked in (True, False)
    )
    wrong.set_weights(right.get_weights())
    named(diagnose(right, wrong, pairs=False), "mask ignored")


class Tokens(nn.Module):
    """The output at a step counted from the end of each sample, by code that knows no mask."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        table, kernel, recurrent, bias, head, shift = (torch.from_numpy(one) for one in model.get_weights())
        self.table = nn.Embedding(TOKENS, FEATURES)
        self.rnn = nn.LSTM(FEATURES, UNITS, batch_first=True)
        self.head = nn.Linear(UNITS, 2)
        self.table.weight.data.copy_(table)
        values = (kernel.T, recurrent.T, bias, torch.zeros_like(bias), head.T, shift)
        for own, value in zip((*self.rnn.parameters(), *self.head.parameters()), values, strict=True):
            own.data.copy_(value)
        self.back = 1

    def forward(self, x: Any) -> Any:
        x = x.long()
        last = ((x != 0).sum(1) - self.back).clamp(min=0)
        return self.head(self.rnn(self.table(x))[0][torch.arange(len(x)), last])


def test_the_last_but_one_valid_step_is_named(random: np.random.Generator) -> None:
    layers = pytest.importorskip("keras").layers
    right = keras_model(
        random, layers.Embedding(TOKENS, FEATURES, mask_zero=True), layers.LSTM(UNITS), layers.Dense(2), tokens=True
    )
    tokens = random.integers(1, TOKENS, (4, 9)).astype(np.int32)
    for sample, length in enumerate((9, 6, 3, 8)):
        tokens[sample, length:] = 0
    wrong = Tokens(right).eval()
    assert diagnose(right, wrong, inputs=tokens, pairs=False).agrees
    wrong.back = 2
    found = diagnose(right, wrong, inputs=tokens)
    named(found, "lengths off by one")
    assert "one step fewer" in found.cause


def unit(random: np.random.Generator, *shape: int) -> Any:
    return random.uniform(-0.8, 0.8, shape).astype(np.float32)


def recurrent_layer(
    random: np.random.Generator, name: str, kind: str, taken: int, units: int, both: bool, sequence: bool = True
) -> Recurrent:
    spec = RecurrentSpec(kind, taken, units, directions=DIRECTIONS if both else DIRECTIONS[:1])  # type: ignore[arg-type]
    gates = GATES[kind]
    weights = [
        Weights(
            unit(random, gates, units, taken),
            unit(random, gates, units, units),
            unit(random, gates, units),
            unit(random, gates, units),
        )
        for _ in spec.directions
    ]
    return Recurrent(name, spec, tuple(weights), return_sequences=sequence)


def masked_tokens(random: np.random.Generator) -> Case:
    """A whole model that makes its mask of tokens and takes the last step, for one step."""
    layers = (
        Embedding("embedding", unit(random, TOKENS, FEATURES), mask_zero=True),
        recurrent_layer(random, "lstm", "lstm", FEATURES, 2, both=False, sequence=False),
        Dense("head", unit(random, 2, 4), unit(random, 4)),
    )
    return Case(graph_of_chain(Network("model", layers)), {"input": np.array([[3], [0]])})


def masked_features(random: np.random.Generator) -> Case:
    """A whole model that masks by value and gives every step of both directions, for one step."""
    layers = (
        Masking("masking", FEATURES),
        recurrent_layer(random, "gru", "gru", FEATURES, 2, both=True),
        Dense("head", unit(random, 4, 2), unit(random, 2)),
    )
    x = unit(random, 2, 1, FEATURES)
    x[1] = 0
    return Case(graph_of_chain(Network("model", layers)), {"input": x})


def masked_chain(random: np.random.Generator) -> Case:
    """A layer by itself, whose mask is given, for one step."""
    layer = recurrent_layer(random, "lstm", "lstm", FEATURES, 2, both=True)
    states = {"lstm": State(unit(random, 2, 2, 2), unit(random, 2, 2, 2))}
    return chain_case(Network("layer", (layer,)), unit(random, 2, 1, FEATURES), states, np.array([[True], [False]]))


def ways(case: Case) -> list[Fault]:
    """All mistakes that change what goes where; of those that change numbers alone one of every kind in every layer."""
    found: dict[tuple[str, ...], Fault] = {}
    for fault in faults_of(case):
        made = replayed(case, (fault,))
        numbers = made is not None and wired_alike(made, case)
        key = (fault.name, fault.place.layer) if numbers else (fault.name, fault.place.layer, fault.cause)
        found.setdefault(key, fault)
    return list(found.values())


@pytest.mark.parametrize("make", [masked_tokens, masked_features, masked_chain])
def test_any_two_mistakes_are_made_together_or_refused(
    random: np.random.Generator, make: Callable[[np.random.Generator], Case]
) -> None:
    case = make(random)
    some = ways(case)
    assert len({fault.name for fault in some}) > 25
    made = 0
    for one, two in permutations(some, 2):
        # Anything else than a refusal is raised here: a formula that counts on what the first mistake took away.
        with contextlib.suppress(ParityError, KeyError, ValueError, IndexError):
            both = two.replay(one.replay(case))
            with contextlib.suppress(ParityError, ValueError, IndexError):
                made += bool(both.outputs())
    assert made > len(some) ** 2 // 2


def test_numbers_where_the_right_model_gives_exact_zeros_are_judged_by_what_was_given(
    random: np.random.Generator,
) -> None:
    whole = masked_features(random)
    layers = tuple(one for one in whole.graph.operations if isinstance(one, Masking | Recurrent))
    bare = Case(graph_of_chain(Network("model", layers)), whole.inputs)
    (ignored,) = (fault for fault in faults_of(bare) if fault.name == "mask ignored")
    exact = ignored.replay(bare).outputs()["output"]
    off = (exact * (1 + 2e-7 * random.choice([-1, 1], exact.shape))).astype(np.float32)
    far = (exact * (1 + 1e-3 * random.choice([-1, 1], exact.shape))).astype(np.float32)
    assert not bare.outputs()["output"][1].any()
    for given, near in ((off, True), (far, False)):
        stage = stage_of(bare, {"output": given})
        (screening,) = screened([stage], [(ignored,)])
        assert (screening.floors <= 1000.0) == near
        assert confirmed(stage, (ignored,)).fits == near
        # The exact floors stay what they are.
        assert stage.floors(ignored.replay(bare).outputs()) > 1e6


def recorded_in(short: torch.dtype, seed: int, both: bool) -> tuple[nn.GRU, dict[str, Any]]:
    """A GRU, and what it gave under autocast."""
    torch.manual_seed(seed)
    layer = nn.GRU(FEATURES, UNITS, batch_first=True, bidirectional=both).eval()
    x = torch.randn(6, 13, FEATURES)
    with torch.no_grad(), torch.autocast("cpu", short):
        y = layer(x)[0]
    assert y.dtype == torch.float32  # what it keeps, and not what it multiplies
    return layer, {"inputs": x.numpy(), "outputs": y.numpy()}


@pytest.mark.parametrize(("short", "words"), [(torch.bfloat16, "bfloat16"), (torch.float16, "float16")])
@pytest.mark.parametrize("both", [False, True])
def test_a_gru_under_autocast_is_named(short: torch.dtype, words: str, both: bool) -> None:
    right, recording = recorded_in(short, 3, both)
    found = diagnose(right, recording, pairs=False)
    named(found, "precision")
    assert f"computes in {words} and keeps its states in float32" in found.cause, found


class Decoder(nn.Module):
    """An encoder whose final states a decoder begins with, or some of them."""

    def __init__(self, taken: Callable[[Any, Any], Any]) -> None:
        super().__init__()
        self.taken = taken
        self.encoder = nn.LSTM(FEATURES, UNITS, batch_first=True)
        self.decoder = nn.LSTM(FEATURES, UNITS, batch_first=True)

    def forward(self, x: Any, y: Any) -> Any:
        _, (h, c) = self.encoder(x)
        return self.decoder(y, self.taken(h, c))[0]


@pytest.mark.parametrize(
    ("taken", "cause", "line"),
    [
        (lambda h, c: (h, torch.zeros_like(c)), "begins with c of zeros", "c_0 as well, not zeros"),
        (lambda h, c: (c, h), "takes the initial c for h", "h_0 first"),
        (lambda *_: None, "begins with states of zeros", "not layer(x)"),
    ],
)
def test_lines_about_initial_states_fit_the_mistake(taken: Callable[[Any, Any], Any], cause: str, line: str) -> None:
    torch.manual_seed(2)
    right = Decoder(lambda h, c: (h, c)).eval()
    wrong = Decoder(taken).eval()
    wrong.load_state_dict(right.state_dict())
    found = diagnose(right, wrong, inputs=[torch.randn(3, 6, FEATURES), torch.randn(3, 6, FEATURES)], pairs=False)
    assert found.found, found
    assert cause in found.cause
    assert f"y, (h_n, c_n) = layer(x, (h_0, c_0))  # {line}" in found.repair, found.repair


class Classifier(nn.Module):
    """What is taken of a bidirectional layer goes into a dense one."""

    def __init__(self, taken: Callable[[Any, Any], Any]) -> None:
        super().__init__()
        self.taken = taken
        self.rnn = nn.GRU(FEATURES, UNITS, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * UNITS, 4)

    def forward(self, x: Any) -> Any:
        return self.head(self.taken(*self.rnn(x)))


@pytest.mark.parametrize(
    ("taken", "line"),
    [
        (lambda y, _: y[:, 0], "y = torch.cat([h_n[-2], h_n[-1]], dim=-1)  # not output[:, 0]"),
        (lambda y, _: y[:, -1], "y = torch.cat([h_n[-2], h_n[-1]], dim=-1)  # not output[:, -1]"),
        (lambda y, _: y.mean(1), "y = torch.cat([h_n[-2], h_n[-1]], dim=-1)"),
    ],
)
def test_lines_about_final_states_name_what_was_taken(taken: Callable[[Any, Any], Any], line: str) -> None:
    torch.manual_seed(2)
    right = Classifier(lambda _, h: torch.cat([h[-2], h[-1]], dim=-1)).eval()
    wrong = Classifier(taken).eval()
    wrong.load_state_dict(right.state_dict())
    found = diagnose(right, wrong, pairs=False)
    assert found.found, found
    lines = [one.removeprefix("#").strip() for one in found.repair.splitlines()]
    assert line in lines, found.repair
