"""What `explain` says is what the live frameworks return."""

from __future__ import annotations

import itertools
from typing import Any

import keras
import numpy as np
import onnxruntime
import pytest
import torch

import parity
from parity.conventions import MERGE_MODES, MergeMode
from parity.layouts import KINDS, Kind
from parity.recurrent import DIRECTIONS, RecurrentSpec
from parity.returns import explain_layer

BATCH, TIME, FEATURES, UNITS = 3, 7, 2, 5

COMBINATIONS = [
    (kind, sequences, state, bidirectional, merge)
    for kind, sequences, state in itertools.product(KINDS, (False, True), (False, True))
    for bidirectional, merge in [(False, "concat"), *((True, mode) for mode in MERGE_MODES)]
]


def _filled(layer: Any, random: np.random.Generator) -> Any:
    layer.build((None, None, FEATURES))
    layer.set_weights([random.uniform(-0.8, 0.8, w.shape) for w in layer.get_weights()])
    return layer


@pytest.mark.parametrize(("kind", "sequences", "state", "bidirectional", "merge"), COMBINATIONS)
def test_every_combination_against_the_frameworks(
    kind: Kind, sequences: bool, state: bool, bidirectional: bool, merge: MergeMode | None, random: np.random.Generator
) -> None:
    cell = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU}[kind]
    inner = cell(UNITS, return_sequences=sequences, return_state=state)
    layer = _filled(keras.layers.Bidirectional(inner, merge_mode=merge) if bidirectional else inner, random)
    x = random.standard_normal((BATCH, TIME, FEATURES)).astype(np.float32)
    returned = [np.asarray(value) for value in keras.tree.flatten(layer(x))]

    spec = RecurrentSpec(kind, FEATURES, UNITS, DIRECTIONS if bidirectional else DIRECTIONS[:1])
    explained = explain_layer(spec, sequences, state, merge, BATCH, TIME)
    assert [value.shape for value in explained.keras] == [value.shape for value in returned]

    # The same weights in a layer that parity converts (it refuses the other merge modes for now).
    plain = cell(UNITS)
    twin = keras.layers.Bidirectional(plain) if bidirectional else plain
    twin.build((None, None, FEATURES))
    twin.set_weights(layer.get_weights())
    with torch.no_grad():
        output, states = parity.to_torch(twin)(torch.from_numpy(x))
    h_n, c_n = states if kind == "lstm" else (states, None)
    session = onnxruntime.InferenceSession(parity.to_onnx(twin).SerializeToString())
    found = dict(zip(("Y", "Y_h", "Y_c"), session.run(None, {"X": x.swapaxes(0, 1)}), strict=False))
    assert [shape for _, shape in explained.torch] == [tuple(v.shape) for v in (output, h_n, c_n) if v is not None]
    assert [shape for _, shape in explained.onnx] == [value.shape for value in found.values()]
    for value, array in zip(explained.keras, returned, strict=True):
        names = {"torch": torch, "np": np, "output": output, "h_n": h_n, "c_n": c_n, **found}
        for expression in (value.torch, value.onnx):
            np.testing.assert_allclose(np.asarray(eval(expression, names)), array, atol=2e-6, err_msg=expression)


def test_a_wrong_place_would_be_noticed(random: np.random.Generator) -> None:
    layer = _filled(keras.layers.Bidirectional(keras.layers.LSTM(UNITS)), random)
    x = random.standard_normal((BATCH, TIME, FEATURES)).astype(np.float32)
    with torch.no_grad():
        output, _ = parity.to_torch(layer)(torch.from_numpy(x))
    assert abs(np.asarray(layer(x)) - output[:, -1].numpy()).max() > 0.05


@pytest.mark.parametrize(
    ("sequences", "state", "shapes"),
    [
        (False, False, "(32, 64)"),
        (True, False, "(32, 10, 64)"),
        (True, True, "[(32, 10, 64), (32, 64), (32, 64)]"),
    ],
)
def test_the_three_shapes_people_ask_about(sequences: bool, state: bool, shapes: str) -> None:
    assert explain_layer(RecurrentSpec("lstm", 20, 64), sequences, state, batch=32, time=10).shapes == shapes


def test_the_last_state_equals_the_last_step(random: np.random.Generator) -> None:
    layer = _filled(keras.layers.LSTM(UNITS, return_sequences=True, return_state=True), random)
    sequence, h, _ = layer(random.standard_normal((BATCH, TIME, FEATURES)).astype(np.float32))
    np.testing.assert_array_equal(np.asarray(sequence)[:, -1], np.asarray(h))
    explained = explain_layer(RecurrentSpec("lstm", FEATURES, UNITS), True, True)
    assert "state_h equals the last step of the first value" in explained.notes[0]


def test_explain_takes_layers_that_are_not_converted() -> None:
    inner = keras.layers.LSTM(UNITS, dropout=0.2, return_state=True)
    explained = parity.explain(keras.layers.Bidirectional(inner, merge_mode="sum"))
    assert (
        explained.shapes
        == f"[(batch, {UNITS}), (batch, {UNITS}), (batch, {UNITS}), (batch, {UNITS}), (batch, {UNITS})]"
    )
    assert explained.keras[0].torch == "h_n[0] + h_n[1]"
    assert parity.explain(keras.layers.LSTM(64)).shapes == "(batch, 64)"


def test_explain_takes_live_layers_and_says_which_one() -> None:
    layer = keras.layers.GRU(UNITS, return_sequences=True)
    layer.build((None, None, FEATURES))
    assert parity.explain(layer).shapes == f"(batch, time, {UNITS})"
    assert "<table>" in parity.explain(layer)._repr_html_()
    with pytest.raises(parity.UnsupportedError, match="several recurrent layers"):
        parity.explain(torch.nn.LSTM(FEATURES, UNITS, num_layers=2))
