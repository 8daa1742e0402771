"""Keras's published expected values: its own tests of its recurrent layers, which ship with it, run on what parity makes of them.

Every call of a layer inside those tests is answered by one of parity's engines instead; the numbers they assert are Keras's.
"""

from __future__ import annotations

import importlib
import unittest
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import pytest

import parity
from parity.network import Recurrent
from parity.recurrent import Array
from parity.result import State

HOMES = {
    "lstm_test": "LSTMTest",
    "gru_test": "GRUTest",
    "simple_rnn_test": "SimpleRNNTest",
    "bidirectional_test": "SimpleRNNTest",
}
SUBJECTS = ("correctness", "masking", "initial_state", "return_state", "statefulness", "legacy_implementation")
LAYERS = (keras.layers.LSTM, keras.layers.GRU, keras.layers.SimpleRNN, keras.layers.Bidirectional)
ENGINES = ("reference", "torch", "onnxruntime")


def _published() -> Iterator[tuple[str, str]]:
    for home, name in HOMES.items():
        cases = getattr(importlib.import_module(f"keras.src.layers.rnn.{home}"), name)
        yield from (
            (home, test)
            for test in unittest.defaultTestLoader.getTestCaseNames(cases)
            if any(subject in test for subject in SUBJECTS)
        )


def _filled(sequence: Array, mask: Array, layer: Recurrent) -> Array:
    """A sequence with what Keras puts at masked steps: which other engines do by their own convention."""
    shown = np.where(mask[:, :, None, None], sequence, 0.0)
    if layer.fill == "zero":
        return shown
    for index, direction in enumerate(layer.spec.directions):
        steps = range(mask.shape[1]) if direction == "forward" else range(mask.shape[1] - 1, -1, -1)
        previous = np.zeros_like(shown[:, 0, index])
        for step in steps:
            previous = np.where(mask[:, step, None], shown[:, step, index], previous)
            shown[:, step, index] = previous
    return shown


class Answers:
    """Answers the calls of Keras's layers by an engine of parity."""

    def __init__(self, engine: str, fault: Callable[[Array], Array] = lambda sequence: sequence) -> None:
        self.engine, self.calls, self._fault = engine, 0, fault
        self._states: dict[int, State] = {}

    def __call__(self, layer: Any, x: Array, initial_state: Any = None, mask: Array | None = None) -> Any:
        self.calls += 1
        network = parity.read(layer)
        (own,) = network.layers
        assert isinstance(own, Recurrent)
        state = self._states.get(id(layer)) if own.stateful else None
        if initial_state is not None:
            given = initial_state if isinstance(initial_state, (list, tuple)) else [initial_state]
            per_state = len(own.spec.states)
            directions = [given[start : start + per_state] for start in range(0, len(given), per_state)]
            state = State(*(np.stack([np.asarray(one[index]) for one in directions]) for index in range(per_state)))
        result = parity.run(
            network, self._fault(x), engine=self.engine, initial_state=state and {own.name: state}, mask=mask
        )
        run = result.layers[own.name]
        self._states[id(layer)] = run.final
        if mask is not None and run.sequence is not None:
            shown = _filled(run.sequence, mask, own)
            ends = {"forward": -1, "backward": 0}
            last = np.stack([shown[:, ends[name], i] for i, name in enumerate(own.spec.directions)])
            run = type(run)(run.final, shown, last)
        values = own.values if own.return_state else own.given
        arrays = [value.of([run]) for value in values]
        return arrays[0] if len(arrays) == 1 else arrays

    def forget(self, layer: Any) -> None:
        """The answer to reset_state()."""
        self._states.pop(id(layer), None)


def _forgetting(answers: Answers) -> Callable[[Any], None]:
    def reset_state(self: Any) -> None:
        answers.forget(self)

    return reset_state


def _answered(monkeypatch: pytest.MonkeyPatch, answers: Answers) -> None:
    inside: list[Any] = []
    for kind in LAYERS:
        original = kind.__call__

        def call(self: Any, x: Any, *args: Any, original: Any = original, **kwargs: Any) -> Any:
            if inside:
                return original(self, x, *args, **kwargs)
            inside.append(self)
            try:
                if not self.built:
                    original(self, x)
                return answers(self, x, **kwargs)
            finally:
                inside.pop()

        monkeypatch.setattr(kind, "__call__", call)
        monkeypatch.setattr(kind, "reset_state", _forgetting(answers))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("home", "test"), list(_published()))
def test_keras_published_values_come_out(home: str, test: str, engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = Answers(engine)
    _answered(monkeypatch, answers)
    case = getattr(importlib.import_module(f"keras.src.layers.rnn.{home}"), HOMES[home])(test)
    getattr(case, test)()
    assert answers.calls


def test_a_fault_does_not_come_out(monkeypatch: pytest.MonkeyPatch) -> None:
    _answered(monkeypatch, Answers("reference", lambda x: x[:, ::-1]))
    case = getattr(importlib.import_module("keras.src.layers.rnn.gru_test"), HOMES["gru_test"])("test_masking")
    with pytest.raises(AssertionError):
        case.test_masking()
