"""A sample of what scripts/fuzz.py runs for as long as it is told, and that it sees what it looks for."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzz import chosen, run
from fuzzing import opening
from fuzzing.mutations import mutated
from fuzzing.samples import samples

import parity.files
from parity.network import Network

CASES = 600


@pytest.fixture(scope="module")
def contents() -> dict[str, bytes]:
    return samples()


def test_every_format_is_among_the_samples(contents: dict[str, bytes]) -> None:
    assert {suffix for suffix, form in parity.files.SUFFIXES.items() if form.write} <= {
        "." + name.partition(".")[2] for name in contents
    }
    assert {"old.pt", "checkpoint.pt", "script.pt", "program.pt2", "c.index"} <= contents.keys()


def test_a_mutant_is_a_function_of_its_seed(contents: dict[str, bytes]) -> None:
    content = contents["model.keras"]
    mutants = [mutated(content, seed) for seed in range(40)]
    assert mutants == [mutated(content, seed) for seed in range(40)]
    assert sum(mutant != content for mutant in mutants) > 30


def test_mutants_of_every_format_are_opened_or_refused(contents: dict[str, bytes]) -> None:
    broken = [(case, found) for case, found in run(contents, chosen(contents, 77, CASES), 2, float("inf")) if found]
    assert not broken, broken[0]


def crash(path: Path) -> Network:
    raise ZeroDivisionError(path)


def greedy(_: Path) -> Network:
    np.ones(1 << 23)
    raise parity.ParityError("a message")


def silent(_: Path) -> Network:
    raise parity.ParityError(" ")


def writing(path: Path) -> Network:
    (path.parent.parent / "elsewhere").write_text("x")
    raise parity.ParityError("a message")


@pytest.mark.parametrize(
    ("reader", "message"),
    [(crash, "ZeroDivisionError"), (greedy, "bytes of memory"), (silent, "nobody can use"), (writing, "elsewhere w")],
)
def test_what_a_bad_reader_does_is_seen(
    reader: Callable[[Path], Network], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parity.files, "read_file", reader)
    watched: list[str] = []
    active = [True]

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if active:
            opening._note(event, arguments, watched, str(tmp_path / "inside"))

    sys.addaudithook(note)
    (tmp_path / "inside").mkdir()
    found = opening._opened(tmp_path / "inside" / "x.pt", 100, watched, measured=True)
    active.clear()
    assert found is not None
    assert message in found


def test_a_reader_that_hangs_or_dies_is_seen(contents: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    import fuzz

    started = time.monotonic()
    monkeypatch.setattr(fuzz, "LIMIT", -1.0)
    monkeypatch.setattr(fuzz, "_START_LIMIT", -1.0)
    ((case, found),) = run({"c.index": contents["c.index"]}, iter([("c.index", 1)]), 1, started)
    assert case == ("c.index", 1)
    assert found is not None
    assert "no answer within" in found
