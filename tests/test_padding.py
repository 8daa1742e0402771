"""Every row of `parity.conventions.PADDING`, measured on the frameworks themselves, called directly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from parity.comparison import compare
from parity.conventions import PADDING, Padding
from parity.layouts import KINDS, STATES, Kind
from parity.recurrent import Array

BATCH, TIME, FEATURES, UNITS = 4, 7, 2, 5
ATOL = 2e-6
MASKS = {
    "right": np.arange(TIME) < np.array([4, 7, 2, 6])[:, None],
    "left": np.arange(TIME) >= np.array([3, 0, 5, 1])[:, None],
    "middle": np.array([[1, 0, 1, 1, 0, 0, 1], [1] * 7, [0, 1, 0, 0, 1, 1, 0], [0, 0, 1, 0, 1, 0, 0]], bool),
}
EMPTY = np.array([[1] * 5 + [0, 0], [0] * 7, [1] * 7, [1, 1] + [0] * 5], bool)
"""The second sample has no valid step."""

KERAS: dict[Kind, Any] = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU, "rnn": keras.layers.SimpleRNN}
TORCH: dict[Kind, Any] = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn": torch.nn.RNN}
GATES: dict[Kind, int] = {"lstm": 4, "gru": 3, "rnn": 1}


class Given(NamedTuple):
    """One direction's results: every step, and the final states."""

    sequence: Array
    states: tuple[Array, ...]


Run = Callable[[Array, Array | None, tuple[Array, ...], bool], Given]
"""x, mask, initial states, whether to run backwards (results aligned with the input)."""


def random_weights(random: np.random.Generator, layer: Any) -> None:
    layer.set_weights([random.uniform(-0.8, 0.8, w.shape) for w in layer.get_weights()])


def keras_run(kind: Kind, random: np.random.Generator, zero: bool = False, bidirectional: bool = False) -> Run:
    layer = KERAS[kind](UNITS, return_sequences=True, return_state=True, zero_output_for_mask=zero)
    if bidirectional:
        layer = keras.layers.Bidirectional(layer, merge_mode=None)
    layer.build((None, None, FEATURES))
    random_weights(random, layer)
    backwards = KERAS[kind](
        UNITS, return_sequences=True, return_state=True, go_backwards=True, zero_output_for_mask=zero
    )
    if not bidirectional:
        backwards.build((None, None, FEATURES))
        backwards.set_weights(layer.get_weights())

    def run(x: Array, mask: Array | None, initial: tuple[Array, ...], backward: bool) -> Given:
        if bidirectional:
            found = layer(x, mask=mask, initial_state=[*initial, *initial])
            values = [np.asarray(value) for value in keras.tree.flatten(found)]
            half = len(initial)
            return Given(values[backward], tuple(values[2 + backward * half : 2 + (1 + backward) * half]))
        found = (backwards if backward else layer)(x, mask=mask, initial_state=list(initial))
        sequence, *states = (np.asarray(value) for value in found)
        return Given(sequence[:, ::-1] if backward else sequence, tuple(states))

    return run


def torch_run(kind: Kind, random: np.random.Generator, packed: bool) -> Run:
    layer = TORCH[kind](FEATURES, UNITS, batch_first=True, bidirectional=True).requires_grad_(False)
    for parameter in layer.parameters():
        parameter.copy_(torch.from_numpy(random.uniform(-0.8, 0.8, tuple(parameter.shape))))

    def run(x: Array, mask: Array | None, initial: tuple[Array, ...], backward: bool) -> Given:
        hx = [torch.from_numpy(np.stack([state, state])) for state in initial]
        given: Any = torch.from_numpy(x)
        if packed and mask is not None:
            lengths = torch.from_numpy(mask.sum(axis=1))
            given = pack_padded_sequence(given, lengths, batch_first=True, enforce_sorted=False)
        output, states = layer(given, tuple(hx) if kind == "lstm" else hx[0])
        if packed and mask is not None:
            output, _ = pad_packed_sequence(output, batch_first=True, total_length=x.shape[1])
        halves = output.numpy().reshape(*x.shape[:2], 2, UNITS)
        finals = states if kind == "lstm" else (states,)
        return Given(halves[:, :, int(backward)], tuple(state[int(backward)].numpy() for state in finals))

    return run


def onnx_run(kind: Kind, random: np.random.Generator, lengths: bool) -> Run:
    names, rows = STATES[kind], GATES[kind] * UNITS
    arrays = {
        name: random.uniform(-0.8, 0.8, shape).astype(np.float32)
        for name, shape in (("W", (2, rows, FEATURES)), ("R", (2, rows, UNITS)), ("B", (2, 2 * rows)))
    }
    states = [f"initial_{name}" for name in names]
    outputs = ["Y", *(f"Y_{name}" for name in names)]
    taken = ["X", "W", "R", "B", "sequence_lens" if lengths else "", *states]
    node = helper.make_node(kind.upper(), taken, outputs, hidden_size=UNITS, direction="bidirectional")
    ranks = {"X": 3, **({"sequence_lens": 1} if lengths else {}), **dict.fromkeys(states, 3)}
    types = {"sequence_lens": TensorProto.INT32}
    graph = helper.make_graph(
        [node],
        "padding",
        [
            helper.make_tensor_value_info(name, types.get(name, TensorProto.FLOAT), [None] * rank)
            for name, rank in ranks.items()
        ],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * (4 if name == "Y" else 3))
            for name in outputs
        ],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString())

    def run(x: Array, mask: Array | None, initial: tuple[Array, ...], backward: bool) -> Given:
        feed: dict[str, Array] = {"X": x.swapaxes(0, 1)}
        if lengths:
            valid = np.full(len(x), x.shape[1]) if mask is None else mask.sum(axis=1)
            feed["sequence_lens"] = valid.astype(np.int32)
        feed |= {name: np.stack([state, state]) for name, state in zip(states, initial, strict=True)}
        y, *finals = session.run(None, feed)
        return Given(y[:, int(backward)].swapaxes(0, 1), tuple(state[int(backward)] for state in finals))

    return run


RUNS: tuple[Callable[[Kind, np.random.Generator], Run], ...] = (
    keras_run,
    lambda kind, random: keras_run(kind, random, zero=True),
    lambda kind, random: keras_run(kind, random, bidirectional=True),
    lambda kind, random: torch_run(kind, random, packed=True),
    lambda kind, random: torch_run(kind, random, packed=False),
    lambda kind, random: onnx_run(kind, random, lengths=True),
    lambda kind, random: onnx_run(kind, random, lengths=False),
)
"""How each row of the table calls its framework, in order."""

ROWS = {f"{row.engine}: {row.call}": (row, call) for row, call in zip(PADDING, RUNS, strict=True)}


def data(random: np.random.Generator, kind: Kind) -> tuple[Array, tuple[Array, ...]]:
    x = random.standard_normal((BATCH, TIME, FEATURES)).astype(np.float32)
    return x, tuple(random.standard_normal((BATCH, UNITS)).astype(np.float32) for _ in STATES[kind])


def expected(row: Padding, run: Run, x: Array, mask: Array, initial: tuple[Array, ...], backward: bool) -> Given:
    """What the row says, out of runs of the valid steps alone: one sample at a time, without any padding or mask."""
    sequence, states = np.zeros((BATCH, TIME, UNITS), np.float32), [state.copy() for state in initial]
    for sample in range(BATCH):
        steps = np.flatnonzero(mask[sample])
        alone = tuple(state[sample : sample + 1] for state in initial)
        if len(steps):
            found = run(x[sample : sample + 1, steps], None, alone, backward)
            sequence[sample, steps] = found.sequence[0]
            for state, final in zip(states, found.states, strict=True):
                state[sample] = final[0]
        if row.steps == "repeat":
            order = range(TIME - 1, -1, -1) if backward else range(TIME)
            held = np.zeros(UNITS, np.float32)
            for step in order:
                held = sequence[sample, step] = sequence[sample, step] if mask[sample, step] else held
    return Given(sequence, tuple(states))


def check(found: Given, wanted: Given) -> None:
    np.testing.assert_allclose(found.sequence, wanted.sequence, rtol=0, atol=ATOL)
    for state, final in zip(found.states, wanted.states, strict=True):
        np.testing.assert_allclose(state, final, rtol=0, atol=ATOL)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("row", ROWS)
def test_right_padding(kind: Kind, backward: bool, row: str, random: np.random.Generator) -> None:
    padding, call = ROWS[row]
    run, mask = call(kind, random), MASKS["right"]
    x, initial = data(random, kind)
    found = run(x, mask, initial, backward)
    if padding.steps is None:
        # It takes no mask, so it goes on: the state is that after all the steps, and padding changes it.
        assert padding.state == "last step of all"
        check(found, run(x, None, initial, backward))
        ends = found.sequence[:, 0 if backward else -1]
        np.testing.assert_allclose(found.states[0], ends, rtol=0, atol=1e-7)
        other = run(np.where(mask[..., None], x, x + 1), mask, initial, backward)
        assert np.abs(other.states[0] - found.states[0]).max() > 0.01
        return
    assert padding.state == "last valid step"
    check(found, expected(padding, run, x, mask, initial, backward))
    assert np.abs(found.states[0] - run(x, np.ones_like(mask), initial, backward).states[0]).max() > 0.01


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("mask", ["left", "middle"])
@pytest.mark.parametrize("row", [name for name, (padding, _) in ROWS.items() if padding.engine == "keras"])
def test_keras_takes_any_mask(kind: Kind, backward: bool, mask: str, row: str, random: np.random.Generator) -> None:
    padding, call = ROWS[row]
    run = call(kind, random)
    x, initial = data(random, kind)
    check(run(x, MASKS[mask], initial, backward), expected(padding, run, x, MASKS[mask], initial, backward))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("row", ROWS)
def test_a_sample_without_a_valid_step(kind: Kind, backward: bool, row: str, random: np.random.Generator) -> None:
    padding, call = ROWS[row]
    run = call(kind, random)
    x, initial = data(random, kind)
    if padding.empty == "refused":
        with pytest.raises(RuntimeError, match="greater than 0"):
            run(x, EMPTY, initial, backward)
        return
    found = run(x, EMPTY, initial, backward)
    if padding.empty == "computed like any other":
        check(found, run(x, None, initial, backward))
        return
    wanted = expected(padding, run, x, EMPTY, initial, backward)
    if padding.empty == "output 0, state 0":
        for state in wanted.states:
            state[1] = 0
    else:
        assert padding.empty == "output 0, the initial state"
    assert not found.sequence[1].any()
    check(found, wanted)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("mask", [*MASKS, "empty"])
def test_what_keras_gives_without_return_sequences(
    kind: Kind, zero: bool, mask: str, random: np.random.Generator
) -> None:
    """The sequence at the step processed last: h, unless that step is masked and the layer writes zeros, or no step is valid."""
    valid = {**MASKS, "empty": EMPTY}[mask]
    x, initial = data(random, kind)
    layer = KERAS[kind](UNITS, return_state=True, zero_output_for_mask=zero)
    layer.build((None, None, FEATURES))
    random_weights(random, layer)
    output, h, *_ = (np.asarray(value) for value in layer(x, mask=valid, initial_state=list(initial)))
    shown = valid[:, -1:] if zero else valid.any(axis=1, keepdims=True)
    np.testing.assert_array_equal(output, np.where(shown, h, 0))
    assert np.abs(h).min(axis=1).max() > 0


def test_padding_that_is_no_number_stays_out(random: np.random.Generator) -> None:
    mask = MASKS["right"]
    for padding, call in ROWS.values():
        run = call("lstm", random)
        x, initial = data(random, "lstm")
        spoiled = np.where(mask[..., None], x, np.float32(np.nan))
        if padding.steps is not None:
            check(run(spoiled, mask, initial, False), run(x, mask, initial, False))


def test_a_wrong_fill_would_be_noticed(random: np.random.Generator) -> None:
    repeats, call = ROWS["keras: mask"]
    zeros, _ = ROWS["keras: mask, zero_output_for_mask=True"]
    run = call("gru", random)
    x, initial = data(random, "gru")
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        check(run(x, MASKS["right"], initial, False), expected(zeros, run, x, MASKS["right"], initial, False))
    check(run(x, MASKS["right"], initial, False), expected(repeats, run, x, MASKS["right"], initial, False))


def masking_tokens(vocabulary: int) -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            keras.layers.Embedding(vocabulary, 3, mask_zero=True),
            keras.layers.GRU(UNITS, return_sequences=True),
        ]
    )


def test_random_tokens_end_in_padding_where_an_embedding_makes_a_mask() -> None:
    compared = compare(masking_tokens(5000), engines=["torch"], batch=BATCH, time=TIME)
    tokens = compared.inputs
    assert isinstance(tokens, np.ndarray)
    lengths = (tokens != 0).sum(axis=1)
    assert lengths[0] == TIME
    assert (lengths[1:] < TIME).all()
    assert (lengths > 0).all()
    assert ((tokens != 0) == (np.arange(TIME) < lengths[:, None])).all()
    assert compared.record["mask"]["lengths"] == lengths.tolist()
    assert any("end in padding (token 0)" in note for note in compared.notes)
    assert not any("no step was masked" in note for note in compared.notes)
    given = compare(masking_tokens(5000), inputs=np.ones((2, 3), np.int64), engines=["torch"])
    assert not any("end in padding" in note for note in given.notes)
    assert any("no step was masked" in note for note in given.notes)
