"""Keras on each of its backends, in processes of their own, beside torch and ONNX Runtime in one comparison."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch

import parity
from parity.cli import main
from parity.comparison import compare
from parity.frameworks import KERAS_BACKENDS, Settings, framework, own_backend
from parity.judge import REFERENCE, judge
from parity.network import Network
from parity.result import check_states
from parity.running import check_mask, runner
from parity.sources import open_source
from parity.worker import Worker, end_workers, warm

ALL = [*KERAS_BACKENDS, "torch", "onnxruntime"]


@pytest.fixture(scope="module", autouse=True)
def _processes() -> Iterator[None]:
    """All three start to import at once, and every test here uses them; they end with the last one."""
    for engine in KERAS_BACKENDS:
        warm(engine, Settings())
    yield
    end_workers()


def stack() -> Any:
    torch.manual_seed(3)
    return torch.nn.LSTM(3, 5, num_layers=2, bidirectional=True)


def test_all_backends_beside_torch_and_onnx_runtime_agree(random: np.random.Generator) -> None:
    states = [random.uniform(-1, 1, (2, 2, 4, 5)).astype(np.float32) for _ in "hc"]
    compared = compare(stack(), engines=ALL, inputs=random.standard_normal((4, 7, 3)), initial_state=tuple(states))
    assert compared.ok, str(compared)
    assert list(compared.participants) == ALL
    assert {row.left for row in compared.table if row.right == REFERENCE} == set(ALL)
    assert len({(row.left, row.right) for row in compared.table if row.right != REFERENCE}) == 10
    for engine, backend in KERAS_BACKENDS.items():
        result = compared.results[engine]
        name, version = result.settings["backend"].split()
        assert (result.engine, name, result.settings["process"]) == (engine, backend, "its own")
        assert version[0].isdigit()


def test_all_of_them_take_a_mask(random: np.random.Generator) -> None:
    mask = np.array([[0, 1, 1, 0, 1], [1, 1, 0, 1, 1], [1, 1, 1, 0, 0], [0, 0, 0, 0, 0]])  # left, middle, right, whole
    compared = compare(stack(), engines=ALL, inputs=random.standard_normal((4, 5, 3)), mask=mask)
    assert compared.ok, str(compared)
    plain = parity.run(stack(), compared.inputs, "reference")
    assert np.abs(compared.results["keras:jax"].h_n - plain.h_n)[:, :, 1].max() > 1e-3, "the mask changes something"


def test_a_weight_changed_in_one_backend_is_caught_there(random: np.random.Generator) -> None:
    network = parity.read(stack())
    layer = network.recurrent[1]
    kernel = layer.weights[1].kernel.copy()
    kernel[2, 1, 3] += 1e-3
    weights = (layer.weights[0], replace(layer.weights[1], kernel=kernel))
    mutant = replace(network, layers=(*network.layers[:-1], replace(layer, weights=weights)))
    wanted: dict[str, tuple[Network, str]] = {engine: (network, engine) for engine in ALL}
    wanted |= {f"changed {engine}": (mutant, engine) for engine in KERAS_BACKENDS}
    runners = {label: runner(open_source(source), engine, Settings()) for label, (source, engine) in wanted.items()}
    x = random.standard_normal((4, 7, 3)).astype(np.float32)
    judgement = judge(network, runners, x, check_states(network.specs, None, 4))
    wrong = {row.left for row in judgement.rows if row.right == REFERENCE and row.verdict == "disagree"}
    assert (judgement.verdict, wrong) == ("disagree", {f"changed {engine}" for engine in KERAS_BACKENDS})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A Keras file of a whole model, as the TensorFlow backend saved it."""
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((None, 3), name="steps"),
            layers.Bidirectional(layers.LSTM(4, return_sequences=True, bias_initializer="normal")),
            layers.GRU(6, bias_initializer="normal"),
            layers.Dense(2, activation="softmax", bias_initializer="normal"),
        ]
    )
    model.save(tmp_path / "model.keras")
    return tmp_path / "model.keras"


def test_a_file_of_one_backend_runs_on_the_others(file: Path) -> None:
    compared = compare(file, engines=list(KERAS_BACKENDS))
    assert compared.ok, str(compared)
    assert {len(result.outputs) for result in compared.results.values()} == {1}


def test_the_command_takes_backends(file: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    record = tmp_path / "r.json"
    with pytest.raises(SystemExit) as stop:
        main(["compare", str(file), "--engines", "keras:jax,torch", "--json", str(record)])
    out = capsys.readouterr().out
    assert not stop.value.code, out
    assert "keras:jax and torch agree" in out
    assert '"backend": "jax ' in record.read_text(encoding="utf-8")


def test_a_call_after_the_first_starts_no_process(random: np.random.Generator) -> None:
    x, pids = random.standard_normal((2, 5, 3)), set()
    for _ in range(3):
        result = parity.run(stack(), x, "keras:torch")
        pids.add(warm("keras:torch", Settings())._live().pid)
    assert len(pids) == 1
    expected = parity.run(stack(), x, "reference").sequence
    np.testing.assert_allclose(result.sequence, expected, atol=1e-6)


def test_unknown_backends_are_refused_before_anything_starts() -> None:
    for call in (
        lambda: compare(stack(), engines=["keras:torch", "keras:mxnet"]),
        lambda: parity.run(stack(), np.ones((2, 4, 3)), "keras:"),
    ):
        with pytest.raises(parity.ParityError, match="unknown engine") as caught:
            call()
        known = caught.value.problems[0].expected
        assert known == "keras, torch, onnxruntime, keras:tensorflow, keras:torch, keras:jax, reference"


def test_this_process_keeps_its_backend() -> None:
    assert own_backend() == "tensorflow"
    assert framework("keras:tensorflow").ENGINE == "keras"
    with pytest.raises(parity.ParityError, match="one backend for good"):
        framework("keras:jax")


def test_a_backend_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "jax.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'jax'\", name='jax')", encoding="utf-8"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with Worker("keras:jax") as worker, pytest.raises(parity.MissingFrameworkError) as caught:
        worker.load(stack())
    assert "the engine 'keras:jax' is not installed" in str(caught.value)
    assert "pip install 'keras-torch-parity[jax]'" in str(caught.value)


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_float64_is_refused_where_keras_rounds_it(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keras.backend.backend", lambda: backend)
    layer = keras.layers.LSTM(5)
    layer.build((None, None, 3))
    with pytest.raises(parity.UnsupportedError, match="float64 on the TensorFlow backend only"):
        parity.run(layer, np.ones((2, 4, 3)), "keras", dtype="float64")


def test_lengths_are_a_mask() -> None:
    mask = check_mask([3, 0, 1], None, 3, 3)
    assert mask is not None
    assert mask.tolist() == [[True] * 3, [False] * 3, [True, False, False]]
    for given in (mask, mask.astype(np.int8), mask.tolist(), torch.from_numpy(mask)):
        np.testing.assert_array_equal(check_mask(None, given, 3, 3), mask)


def test_a_mask_that_leaves_nothing_out_is_none() -> None:
    assert check_mask([4, 4], None, 2, 4) is None
    assert check_mask(None, np.ones((2, 4)), 2, 4) is None
    assert check_mask(None, None, 2, 4) is None


BAD_MASKS: list[tuple[Any, Any, list[str]]] = [
    ([1, 2], np.ones((2, 3)), ["both given"]),
    ([1, 2, 3], None, ["wrong shape"]),
    ([[1, 2]], None, ["wrong shape"]),
    ([1.0, 2.0], None, ["no integers"]),
    ([True, False], None, ["no integers"]),
    ([4, 1], None, ["outside the inputs"]),
    ([-1, 1], None, ["outside the inputs"]),
    ([1.5, 7.0, 2.0], None, ["wrong shape", "no integers", "outside the inputs"]),
    (None, np.ones((3, 2)), ["wrong shape"]),
    (None, np.full((2, 3), 0.5), ["True and False"]),
    (None, np.full((2, 4), np.nan), ["wrong shape", "True and False"]),
    ([9], [[2]], ["both given", "wrong shape", "outside the inputs", "wrong shape", "True and False"]),
    ("long", None, ["no array of numbers"]),
]


@pytest.mark.parametrize(("lengths", "mask", "messages"), BAD_MASKS)
def test_bad_masks_are_refused_with_everything_that_is_wrong(lengths: Any, mask: Any, messages: list[str]) -> None:
    with pytest.raises(parity.ShapeError) as caught:
        check_mask(lengths, mask, 2, 3)
    found = [problem.what for problem in caught.value.problems]
    assert len(found) == len(messages)
    assert all(message in what for message, what in zip(messages, found, strict=True)), found


def test_run_takes_lengths_or_a_mask(random: np.random.Generator) -> None:
    x = random.standard_normal((3, 4, 3))
    mask = np.arange(4) < np.array([[4], [2], [0]])
    by_lengths = parity.run(stack(), x, "reference", lengths=[4, 2, 0])
    by_mask = parity.run(stack(), x, "reference", mask=mask)
    np.testing.assert_array_equal(by_lengths.sequence, by_mask.sequence)
    whole, cut = parity.run(stack(), x, "reference"), parity.run(stack(), x[1:2, :2], "reference")
    assert np.abs(by_lengths.h_n[:, :, 1] - whole.h_n[:, :, 1]).max() > 1e-3
    np.testing.assert_allclose(by_lengths.h_n[:, :, 1], cut.h_n[:, :, 0], atol=1e-12)
    with pytest.raises(parity.ShapeError, match="both given"):
        parity.run(stack(), x, "reference", lengths=[4, 2, 0], mask=mask)


def test_lengths_decide_the_size_of_random_inputs() -> None:
    compared = compare(stack(), engines=[REFERENCE], lengths=[7, 3, 1, 5])
    assert np.asarray(compared.inputs).shape == (4, 7, 3)
    assert compared.asked["lengths"] == [7, 3, 1, 5]
    assert "12 of them padding" in compared.sentence
    assert np.asarray(compare(stack(), engines=[REFERENCE], lengths=[7, 3], time=9).inputs).shape == (2, 9, 3)
    assert np.asarray(compare(stack(), engines=[REFERENCE], mask=np.eye(5, 6)).inputs).shape == (5, 6, 3)
    assert np.asarray(compare(stack(), engines=[REFERENCE]).inputs).shape == (3, 17, 3)
    with pytest.raises(parity.ShapeError, match="the lengths are no integers"):
        compare(stack(), engines=[REFERENCE], lengths=[float("nan"), 3.0, 1.0])
    with pytest.raises(parity.ShapeError, match="the lengths have the wrong shape"):
        compare(stack(), engines=[REFERENCE], lengths=[7, 3], batch=3)


def test_the_command_takes_lengths(tmp_path: Path, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "r.html"
    with pytest.raises(SystemExit) as stop:
        main(["compare", str(file), "--engines", REFERENCE, "--lengths", "7,3,1", "--report", str(page)])
    assert not stop.value.code
    assert "on 3 x 7 steps, 10 of them padding" in capsys.readouterr().out
    assert "--lengths 7,3,1" in page.read_text(encoding="utf-8")
    with pytest.raises(SystemExit) as stop:
        main(["compare", str(file), "--lengths", "7,x"])
    assert stop.value.code == 2
    assert "these are no lengths" in capsys.readouterr().err


def test_only_padding_differs(random: np.random.Generator) -> None:
    """The reference against itself, with other things where the mask leaves steps out, and then inside."""
    network, x = parity.read(stack()), random.standard_normal((3, 6, 3)).astype(np.float32)
    mask = check_mask([6, 2, 4], None, 3, 6)
    states = check_states(network.specs, None, 3)
    at_home = runner(open_source(network), REFERENCE, Settings())

    def moved(place: tuple[int, ...]) -> Any:
        def run(inputs: Any, given: Any, valid: Any = None) -> Any:
            result = at_home(inputs, given, valid)
            if valid is None:
                return result
            name, last = list(result.layers.items())[-1]
            assert last.sequence is not None
            sequence = last.sequence.copy()
            sequence[place] += 0.25
            return replace(result, layers={**result.layers, name: replace(last, sequence=sequence)})

        run.engine = REFERENCE  # type: ignore[attr-defined]  # what every runner has
        return run

    padding = judge(network, {"other": moved((1, 3))}, x, states, mask=mask)
    assert padding.verdict == "agree"
    assert [row.padding_error for row in padding.rows if row.padding_outside] == [pytest.approx(0.25)]
    inside = judge(network, {"other": moved((1, 1))}, x, states, mask=mask)
    assert inside.verdict == "disagree"
    assert not any(row.padding_outside for row in inside.rows)
    compared = compare(network, engines=[REFERENCE], inputs=x, lengths=[6, 2, 4])
    told = replace(compared, judgement=padding, participants={"other": (compared.sources[0], "other")})
    assert "They differ only in padding, by convention." in told.sentence
    assert "0.25" in told.padding[0]


def test_nothing_but_padding_decides_nothing() -> None:
    compared = compare(stack(), engines=[REFERENCE], lengths=[0, 0], time=4)
    assert compared.verdict == "undecided"
