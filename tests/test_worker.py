"""An engine in a process of its own answers as one here does, and its end is told, not suffered."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch

import parity
from parity.frameworks import Settings
from parity.result import State
from parity.running import check_inputs, runner
from parity.sources import open_source
from parity.worker import ProcessRunner, serve


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A two-layer state dict."""
    torch.save(torch.nn.LSTM(3, 5, num_layers=2, bidirectional=True).state_dict(), tmp_path / "lstm.pt")
    return tmp_path / "lstm.pt"


def test_same_answers_as_in_this_process(file: Path, random: np.random.Generator) -> None:
    opened = open_source(file)
    x = check_inputs(opened.network, random.standard_normal((4, 6, 3)))
    states = {
        name: State(*(random.standard_normal((2, 4, 5)).astype(np.float32) for _ in "hc"))
        for name in opened.network.specs
    }
    apart = ProcessRunner(opened, "torch", Settings())
    try:
        apart.ready()
        for start in (states, {name: State(s.h * 0, s.h * 0) for name, s in states.items()}):
            here, there = runner(opened, "torch", Settings())(x, start), apart(x, start)
            np.testing.assert_array_equal(here.sequence, there.sequence)
            np.testing.assert_array_equal(here.h_n, there.h_n)
            assert [run.sequence is None for run in there.layers.values()] == [True, False]
            assert here.returned == there.returned
            assert there.settings["process"] == "its own"
    finally:
        apart.close()


def test_errors_cross_over_with_their_kind(file: Path) -> None:
    apart = ProcessRunner(open_source(file), "onnxruntime", Settings(dtype="float64"))
    try:
        with pytest.raises(parity.UnsupportedError, match="no float64 LSTM or GRU") as caught:
            apart.ready()
        assert caught.value.problems[0].remedy
    finally:
        apart.close()


def test_a_process_that_ends_is_told(file: Path) -> None:
    apart = ProcessRunner(open_source(file), "torch", Settings())
    try:
        apart.ready()
        apart._process.kill()
        with pytest.raises(parity.ParityError, match="the engine 'torch' ended unexpectedly"):
            apart(np.ones((2, 4, 3), np.float32), {})
    finally:
        apart.close()


def test_what_stands_in_the_current_folder_is_not_run(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("torch", "numpy", "json"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('ran what stood in the folder')", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    apart = ProcessRunner(open_source(file), "torch", Settings())
    try:
        apart.ready()
    finally:
        apart.close()


def test_an_empty_pipe_ends_quietly() -> None:
    answers = io.BytesIO()
    serve(io.BytesIO(b""), answers)
    serve(io.BytesIO(b"\x10" + b"\0" * 7 + b"cut"), answers)
    assert not answers.getvalue()
