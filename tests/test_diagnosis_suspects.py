"""Whatever is handed over as suspect is diagnosed: other directions, ports, what cannot be read, recordings, kernels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence
from typer.testing import CliRunner

import parity
from parity.cli import app
from parity.diagnosis import Diagnosis, diagnose
from parity.errors import ParityError, ShapeError
from parity.graph.inputs import random_graph_inputs
from parity.sources import open_source

BATCH, TIME, FEATURES, UNITS, WORDS = 4, 9, 3, 5, 11

KINDS = {"lstm": (keras.layers.LSTM, nn.LSTM), "gru": (keras.layers.GRU, nn.GRU)}


def inputs(seed: int = 5) -> Any:
    return np.random.default_rng(seed).normal(size=(BATCH, TIME, FEATURES)).astype(np.float32)


def filled(model: Any, seed: int = 3) -> Any:
    """A Keras object with other weights than it was made with."""
    random = np.random.default_rng(seed)
    model.set_weights([random.uniform(-0.9, 0.9, one.shape) for one in model.get_weights()])
    return model


def layer(kind: str, **options: Any) -> Any:
    made = KINDS[kind][0](UNITS, **options)
    made.build((None, None, FEATURES))
    return filled(made)


def model(kind: str, **options: Any) -> Any:
    x = keras.Input((None, FEATURES))
    y = KINDS[kind][0](UNITS, return_sequences=True, **options)(x)
    return filled(keras.Model(x, keras.layers.Dense(2)(y)))


def bare(kind: str, layers: int = 1, both: bool = False, **options: Any) -> Any:
    torch.manual_seed(2)
    made = KINDS[kind][1](FEATURES, UNITS, layers, batch_first=True, bidirectional=both, **options)
    with torch.no_grad():
        for one in made.parameters():
            one.uniform_(-0.9, 0.9)
    return made


class Port(nn.Module):
    """A module around a recurrent layer, with a way of its own."""

    def __init__(self, rnn: Any, way: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        self.rnn, self.way = rnn, way

    def forward(self, x: Tensor) -> Any:
        return self.way(self, x)


def names(found: Diagnosis) -> list[str]:
    return [fault.name for fault in found.faults]


# ---- directions


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("make", [layer, model])
def test_a_layer_that_runs_the_other_way(kind: str, make: Any) -> None:
    options = {"return_sequences": True} if make is layer else {}
    right, wrong = make(kind, **options), make(kind, go_backwards=True, **options)
    for reference, suspect in ((right, wrong), (wrong, right)):
        found = diagnose(reference, suspect)
        assert found.found
        assert names(found) == ["reversed in time"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_backward_layer_of_another_framework_is_no_mistake(kind: str) -> None:
    right = layer(kind, return_sequences=True, go_backwards=True)
    assert diagnose(right, parity.to_onnx(right)).agrees
    other = layer(kind, return_sequences=True, go_backwards=True)
    weights = other.get_weights()
    other.set_weights([*weights[:2], 2 * weights[2]])
    assert names(diagnose(right, parity.to_onnx(other), pairs=False)) == ["bias doubled"]


WAYS = {
    "": lambda self, x: self.rnn(x)[0],
    "other direction": lambda self, x: self.rnn(x.flip(1))[0].flip(1),
    "reversed in time": lambda self, x: self.rnn(x.flip(1))[0],
    "steps not turned back": lambda self, x: self.rnn(x)[0].flip(1),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", WAYS)
def test_the_code_around_a_layer_is_looked_at(kind: str, name: str) -> None:
    right = layer(kind, return_sequences=True)
    found = diagnose(right, Port(parity.to_torch(right), WAYS[name]), pairs=False)
    assert names(found) == ([name] if name else [])
    assert found.agrees == (not name)
    assert found.agrees or found.found


class Two(nn.Module):
    """Two unidirectional layers in the place of a bidirectional one."""

    def __init__(self, both: Any, turned_back: bool) -> None:
        super().__init__()
        kind = type(both)
        self.ahead, self.back = (kind(FEATURES, UNITS, batch_first=True) for _ in range(2))
        state = both.state_dict()
        self.ahead.load_state_dict({name: one for name, one in state.items() if "reverse" not in name})
        self.back.load_state_dict({n.replace("_reverse", ""): one for n, one in state.items() if "reverse" in n})
        self.turned_back = turned_back

    def forward(self, x: Tensor) -> Tensor:
        back = self.back(x.flip(1))[0]
        return torch.cat([self.ahead(x)[0], back.flip(1) if self.turned_back else back], -1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("turned_back", [True, False])
def test_two_layers_in_the_place_of_a_bidirectional_one(kind: str, turned_back: bool) -> None:
    right = bare(kind, both=True)
    found = diagnose(right, Two(right, turned_back), pairs=False)
    assert found.agrees == turned_back
    assert names(found) == ([] if turned_back else ["steps not turned back"])


def test_what_is_really_another_layer_is_refused_with_what_differs_and_where() -> None:
    right = bare("lstm")
    for wrong, what, got in (
        (nn.LSTM(FEATURES, 7), "number of units", "lstm 3->7"),
        (nn.GRU(FEATURES, UNITS), "kind", "gru 3->5"),
        (nn.LSTM(FEATURES, UNITS, 2), "another number of recurrent layers", "2: 'lstm_l0'"),
        (nn.LSTM(FEATURES, UNITS, bidirectional=True), "number of directions", "forward and backward"),
    ):
        with pytest.raises(ShapeError) as caught:
            diagnose(right, wrong)
        (problem, *_) = caught.value.problems
        assert what in problem.what
        assert got in problem.got
        assert problem.where
        assert problem.remedy


def test_a_layer_beside_a_model_with_more_is_said_to_be_compared_alone() -> None:
    whole = model("gru")
    right = layer("gru", return_sequences=True)
    right.set_weights(whole.layers[1].get_weights())
    found = diagnose(right, whole)
    assert found.agrees
    assert any("compared by itself" in note for note in found.notes)


# ---- modules that cannot be read, and masks made on the way


class Loop(nn.Module):
    """What no trace can follow: one call for each sample."""

    def __init__(self, rnn: Any, turned: bool) -> None:
        super().__init__()
        self.rnn, self.turned = rnn, turned

    def forward(self, x: Tensor) -> Tensor:
        rows = [row.flip(0) if self.turned else row for row in x if float(row.sum()) < 1e9]
        return torch.stack([self.rnn(row[None])[0][0] for row in rows])


class InChunks(nn.Module):
    """A layer that is right, called so that its state is lost every few steps."""

    def __init__(self, inner: nn.Module, steps: int) -> None:
        super().__init__()
        self.inner, self.steps = inner, steps

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.inner(part)[0] for part in x.split(self.steps, 1)], 1)


@pytest.mark.parametrize("steps", [1, 4])
def test_a_module_around_a_right_layer_is_no_right_port(steps: int) -> None:
    right = layer("lstm", return_sequences=True)
    found = diagnose(right, InChunks(parity.to_torch(right), steps).eval(), pairs=False)
    assert not found.agrees
    assert diagnose(right, InChunks(parity.to_torch(right), 1000).eval(), pairs=False).agrees


def test_a_recording_of_zeros_may_never_have_been_filled() -> None:
    right = layer("gru", return_sequences=True)
    found = diagnose(right, {"inputs": inputs(), "outputs": np.zeros((BATCH, TIME, UNITS), np.float32)}, pairs=False)
    assert "the recording: every recorded output is zero, as an array is that was never filled" in " ".join(found.notes)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("both", [True, False])
@pytest.mark.parametrize("turned", [True, False])
def test_a_module_that_cannot_be_traced_is_run_as_it_is(kind: str, both: bool, turned: bool) -> None:
    right = bare(kind, both=both)
    found = diagnose(right, Loop(right, turned), pairs=False)
    assert "run as it is" in found.suspect
    assert found.agrees != turned
    assert names(found) == (["reversed in time"] if turned else [])


class Own(keras.Model):
    """A model of a class of one's own, which Keras cannot describe."""

    def __init__(self, turned: bool) -> None:
        super().__init__()
        self.rnn, self.out = keras.layers.LSTM(UNITS, return_sequences=True), keras.layers.Dense(2)
        self.turned = turned

    def call(self, x: Any) -> Any:
        y = self.rnn(x)
        return self.out(keras.ops.flip(y, 1) if self.turned else y)


@pytest.mark.parametrize("turned", [True, False])
def test_a_keras_model_that_cannot_be_read_is_run_as_it_is(turned: bool) -> None:
    suspect = Own(turned)
    suspect(inputs())
    found = diagnose(model("lstm"), filled(suspect), pairs=False)
    assert names(found) == (["steps not turned back"] if turned else [])
    assert found.agrees != turned


def test_a_batch_normalization_that_stands_in_training() -> None:
    def made(training: bool) -> Any:
        x = keras.Input((None, FEATURES))
        y = keras.layers.LSTM(UNITS, return_sequences=True)(x)
        whole = filled(keras.Model(x, keras.layers.BatchNormalization()(y, training=training)))
        whole.set_weights([abs(one) if one.shape == (UNITS,) else one for one in whole.get_weights()])
        return whole

    suspect = made(True)
    before = suspect.get_weights()
    found = diagnose(made(False), suspect, pairs=False)
    assert found.found
    assert "mean and variance of the batch" in found.cause
    assert all(np.array_equal(one, two) for one, two in zip(before, suspect.get_weights(), strict=True))


class Tokens(nn.Module):
    """A port of a model of tokens, which makes its mask or its lengths itself."""

    def __init__(self, reference: Any, way: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        table, kernel, recurrent, bias = (torch.tensor(one) for one in reference.get_weights())
        self.table = nn.Embedding.from_pretrained(table)
        self.rnn, self.way = nn.LSTM(FEATURES, UNITS, batch_first=True), way
        with torch.no_grad():
            self.rnn.weight_ih_l0.copy_(kernel.T)
            self.rnn.weight_hh_l0.copy_(recurrent.T)
            self.rnn.bias_ih_l0.copy_(bias)
            self.rnn.bias_hh_l0.zero_()

    def forward(self, tokens: Tensor) -> Tensor:
        return self.way(self, tokens)


def packed(self: Any, tokens: Tensor) -> Tensor:
    lengths = (tokens != 0).sum(1).cpu()
    return self.rnn(pack_padded_sequence(self.table(tokens), lengths, batch_first=True, enforce_sorted=False))[1][0][-1]


def gathered(self: Any, tokens: Tensor) -> Tensor:
    lengths = (tokens != 0).sum(1)
    return self.rnn(self.table(tokens))[0][torch.arange(len(tokens)), lengths - 1]


def sample_by_sample(self: Any, tokens: Tensor) -> Tensor:
    rows = [row[: int((row != 0).sum())] for row in tokens]
    return torch.cat([self.rnn(self.table(row)[None])[1][0][0] for row in rows])


def unmasked(self: Any, tokens: Tensor) -> Tensor:
    return self.rnn(self.table(tokens))[1][0][-1]


def masked_model() -> Any:
    x = keras.Input((None,), dtype="int32")
    y = keras.layers.Embedding(WORDS, FEATURES, mask_zero=True)(x)
    return filled(keras.Model(x, keras.layers.LSTM(UNITS)(y)))


@pytest.mark.parametrize("way", [packed, gathered, sample_by_sample, unmasked])
def test_ports_that_make_their_mask_need_no_inputs(way: Any) -> None:
    reference = masked_model()
    found = diagnose(reference, Tokens(reference, way), pairs=False)
    assert found.agrees == (way is not unmasked)
    assert names(found) == ([] if found.agrees else ["mask ignored"])
    assert any("padding at the end" in note for note in found.notes) == found.agrees


def test_random_sequences_are_padded_at_their_end_alone() -> None:
    graph = open_source(masked_model()).graph
    for seed in range(9):
        (tokens,) = random_graph_inputs(graph, {"batch": 5, "time": 7}, seed, padded_at_end=True).values()
        valid = tokens != 0
        assert (valid == (np.arange(7) < valid.sum(1)[:, None])).all()
        assert valid.sum(1)[0] == 7
        assert 1 <= valid.sum(1)[1:].min() <= valid.sum(1)[1:].max() < 7


# ---- recordings


def of_torch(kind: str, layers: int = 1, both: bool = False) -> tuple[Any, Any, Any, Any]:
    right, x = bare(kind, layers, both), inputs()
    with torch.no_grad():
        y, states = right(torch.tensor(x))
    return right, x, y, states


@pytest.mark.parametrize(("kind", "layers", "both"), [("lstm", 1, False), ("lstm", 1, True), ("gru", 2, True)])
def test_recordings_in_every_form_that_torch_gives(kind: str, layers: int, both: bool) -> None:
    right, x, y, states = of_torch(kind, layers, both)
    h = states[0] if isinstance(states, tuple) else states
    forms = {
        "(y, states)": (y, states),
        "states alone": h,
        "by names of one's own": {"y": y, "h_n": h},
        "time first": y.transpose(0, 1),
        "the last step": y[:, -1],
        "the last step, kept as an axis": y[:, -1:],
        "final states": torch.cat([h[-2], h[-1]], -1) if both else h[-1],
    }
    for form, outputs in forms.items():
        found = diagnose(right, {"inputs": x, "outputs": outputs}, pairs=False)
        assert found.agrees, form
        assert ("taken to be" in str(found)) == (
            "time first" in form or ("last step" in form and (both or "kept" in form))
        )


def test_a_mistake_is_found_in_every_form_of_a_recording() -> None:
    right, x, y, states = of_torch("gru")
    with torch.no_grad():
        right.weight_hh_l0.copy_(right.weight_hh_l0.roll(UNITS, 0))
    for outputs in ((y, states), y.transpose(0, 1), y[:, -1], y[:, -1:], states):
        found = diagnose(right, {"inputs": x, "outputs": outputs}, pairs=False)
        assert names(found) == ["gate order"]
        assert found.found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("both", [True, False])
def test_a_recording_that_ran_over_the_samples_is_named(kind: str, both: bool) -> None:
    right, x, _, _ = of_torch(kind, both=both)
    wrong = KINDS[kind][1](FEATURES, UNITS, bidirectional=both)
    wrong.load_state_dict(right.state_dict())
    with torch.no_grad():
        y, states = wrong(torch.tensor(x))
    for outputs in (y, (y, states)):
        found = diagnose(right, {"inputs": x, "outputs": outputs}, pairs=False)
        assert names(found) == ["batch and time exchanged"]
        assert any("(time, batch, ...)" in note for note in found.notes)


def test_a_state_that_may_be_several_is_refused_with_the_names() -> None:
    right, x, _, (h, _) = of_torch("lstm", both=True)
    with pytest.raises(ShapeError, match=r"lstm\.backward_state_h"):
        diagnose(right, {"inputs": x, "outputs": h[-1]})
    found = diagnose(right, {"inputs": x, "outputs": {"lstm.backward_state_h": h[-1]}})
    assert found.agrees


def test_the_last_step_of_a_layer_that_gives_its_final_states() -> None:
    both = [keras.layers.Bidirectional(keras.layers.LSTM(UNITS, return_sequences=every)) for every in (False, True)]
    for one in both:
        one.build((None, None, FEATURES))
        filled(one)
    final, steps = (keras.ops.convert_to_numpy(one(inputs())) for one in both)
    assert diagnose(both[0], {"inputs": inputs(), "outputs": final}).agrees
    found = diagnose(both[0], {"inputs": inputs(), "outputs": steps[:, -1]})
    assert names(found) == ["step in place of the final state"]


def test_files_of_recordings(tmp_path: Path) -> None:
    right = model("lstm")
    x, y = inputs(), keras.ops.convert_to_numpy(right(inputs()))
    saved = {
        "named": {"inputs": x, "outputs": y},
        "other names": {"x": x, "prediction": y},
        "by output": {"inputs": x, "outputs/dense": y},
        "one sample": {"inputs": x[0], "outputs": y[0]},
    }
    for name, arrays in saved.items():
        np.savez(tmp_path / f"{name}.npz", **arrays)
    np.savez(tmp_path / "without.npz", x, y)
    for name in (*saved, "without"):
        assert diagnose(right, tmp_path / f"{name}.npz").agrees, name


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"foo": inputs(), "bar": inputs()}, "inputs=x, outputs=y"),
        ({"outputs": inputs()}, "inputs=x, outputs=y"),
        ({"inputs": inputs(), "outputs": inputs()[..., :1]}, r"\(4, 9, 2\)"),
        ({"inputs": inputs(), "outputs": np.full((BATCH, TIME, 2), np.nan)}, "not finite"),
        ({"inputs": inputs(), "outputs": inputs()[..., :2], "more": inputs()}, "inputs=x, outputs=y"),
    ],
)
def test_refused_recordings_say_which_names_there_have_to_be(arrays: Any, words: str, tmp_path: Path) -> None:
    right = model("lstm")
    np.savez(tmp_path / "recorded.npz", **arrays)
    for suspect in (arrays, tmp_path / "recorded.npz"):
        with pytest.raises(ShapeError, match=words):
            diagnose(right, suspect)


def test_weights_alone_are_refused() -> None:
    with pytest.raises(ParityError, match=r"torch\.save"):
        diagnose(bare("gru"), bare("gru").state_dict())


# ---- kernels


def broken(real: Any, change: Callable[[Tensor], Any]) -> Any:
    def called(*args: Any, **kwargs: Any) -> Any:
        first, *rest = real(*args, **kwargs)
        return (change(first.clone()), *rest)

    return called


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("change", "batch", "steps"),
    [
        (lambda y: y * 1.01, 1, 1),
        (lambda y: torch.cat([y[:, :2], y[:, 2:] * 1.1], 1), 1, 3),
        (lambda y: torch.cat([y[:1], y[1:] * 1.1]), 2, 1),
    ],
)
def test_a_broken_kernel_of_torch(
    kind: str, change: Any, batch: int, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = layer(kind, return_sequences=True)
    suspect = parity.to_torch(right)
    monkeypatch.setattr(torch._VF, kind, broken(getattr(torch._VF, kind), change))
    found = diagnose(right, suspect)
    assert found.kernel is not None
    assert found.kernel.engine == "torch"
    assert (found.kernel.batch, found.kernel.steps) == (batch, steps)
    assert {"keras", "onnxruntime"} <= set(found.kernel.agreeing)
    assert found.kernel.numbers == "zeros for everything"
    assert "the engine's kernel" in found.cause


def test_a_kernel_that_needs_a_number_is_shown_one(monkeypatch: pytest.MonkeyPatch) -> None:
    right = layer("gru", return_sequences=True, use_bias=False)
    suspect = parity.to_torch(right)
    monkeypatch.setattr(torch._VF, "gru", broken(torch._VF.gru, lambda y: y * 1.01))
    found = diagnose(right, suspect)
    assert found.kernel is not None
    assert "a one in" in found.kernel.numbers
    assert sum(int(np.count_nonzero(one)) for one in found.kernel.inputs.values()) == 1


def test_a_broken_kernel_of_onnxruntime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = model("lstm")
    right.save(tmp_path / "right.keras")
    path = parity.convert(tmp_path / "right.keras", tmp_path / "port.onnx")
    real = onnxruntime.InferenceSession.run
    monkeypatch.setattr(
        onnxruntime.InferenceSession,
        "run",
        lambda self, *args, **kwargs: [1.01 * y for y in real(self, *args, **kwargs)],
    )
    found = diagnose(right, path)
    assert found.kernel is not None
    assert found.kernel.engine == "onnxruntime"
    assert {"keras", "torch"} <= set(found.kernel.agreeing)


def test_a_broken_kernel_of_keras(monkeypatch: pytest.MonkeyPatch) -> None:
    right = bare("lstm")
    suspect = parity.to_keras(right)
    real = keras.layers.LSTM.call
    monkeypatch.setattr(
        keras.layers.LSTM,
        "call",
        lambda self, *args, **kwargs: keras.tree.map_structure(lambda y: y * 1.01, real(self, *args, **kwargs)),
    )
    found = diagnose(right, suspect)
    assert found.kernel is not None
    assert found.kernel.engine.startswith("keras")


# ---- the command line


def test_the_command_on_files_of_every_format(tmp_path: Path) -> None:
    right, wrong = model("lstm"), model("lstm")
    kernel, recurrent, *rest = wrong.get_weights()
    wrong.set_weights([kernel, np.roll(recurrent, UNITS, 1), *rest])
    right.save(tmp_path / "right.keras")
    wrong.save(tmp_path / "wrong.keras")
    parity.convert(tmp_path / "wrong.keras", tmp_path / "wrong.onnx")
    np.savez(tmp_path / "wrong.npz", inputs=inputs(), outputs=keras.ops.convert_to_numpy(wrong(inputs())))
    run = CliRunner()
    for name in ("wrong.keras", "wrong.onnx", "wrong.npz"):
        done = run.invoke(app, ["diagnose", str(tmp_path / "right.keras"), str(tmp_path / name), "--no-pairs"])
        assert done.exit_code == 1, name
        assert "has the gates of its recurrent kernel in the order" in done.stdout
    assert run.invoke(app, ["diagnose", *[str(tmp_path / "right.keras")] * 2]).exit_code == 0
    for arguments, words in (
        (["right.keras", "wrong.npz", "--batch", "3"], "a suspect that is run"),
        (["wrong.npz", "right.keras"], "cannot be the reference"),
        (["right.keras", "none.npz"], "no such file"),
    ):
        paths = [str(tmp_path / one) if "." in one else one for one in arguments]
        done = run.invoke(app, ["diagnose", *paths])
        assert isinstance(done.exception, ParityError)
        assert words in str(done.exception)
    assert "Examples" in run.invoke(app, ["diagnose", "--help"]).stdout
