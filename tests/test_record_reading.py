"""A record is held to its schema when it is read: what somebody edited or damaged is refused with its place, and never drawn."""

from __future__ import annotations

import contextlib
import copy
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import parity
from parity.cli import main
from parity.errors import FormatError
from parity.report import Record, make_record, read_record, render_record, to_json

FREE = {"sources", "again", "engines", "architecture"}
"""Where a model's or a framework's own options stand, under names that no schema knows."""


@pytest.fixture(scope="module")
def record() -> Record:
    """A comparison that disagrees, with its diagnosis, of two layers, one of which is masked."""
    torch.manual_seed(5)
    reference, suspect = torch.nn.LSTM(3, 4, num_layers=2), torch.nn.LSTM(3, 4, num_layers=2)
    suspect.load_state_dict(reference.state_dict())
    with torch.no_grad():
        dict(suspect.named_parameters())["bias_hh_l1"].zero_()
    return make_record(parity.compare(reference, suspect, lengths=[7, 3, 5]))


def saved(record: Record, path: Path) -> Path:
    path.write_text(to_json(record), encoding="utf-8")
    return path


def places(value: Any, place: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every place in a record whose kind of value the schema says."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inside:
        yield (*place, key)
        yield from places(part, (*place, key))


def edited(record: Record, place: tuple[str | int, ...], value: Any) -> Record:
    changed = copy.deepcopy(record)
    inside: Any = changed
    for key in place[:-1]:
        inside = inside[key]
    inside[place[-1]] = value
    return changed


def test_a_record_comes_back_as_it_was_written(record: Record, tmp_path: Path) -> None:
    assert record["verdict"] == "disagree"
    assert record["diagnosis"]["found"]
    assert read_record(saved(record, tmp_path / "r.json")) == record


def test_a_byte_order_mark_is_no_reason_to_refuse(record: Record, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text(to_json(record), encoding="utf-8-sig")
    assert path.read_bytes()[:3] == b"\xef\xbb\xbf"
    assert read_record(path) == record


def test_a_value_of_another_kind_is_refused_wherever_it_stands(tmp_path: Path) -> None:
    small = make_record(parity.compare(torch.nn.LSTM(3, 4), engines=["torch"], batch=2, time=3))
    path = tmp_path / "r.json"
    kinds = {place[-1]: place for place in places(small) if isinstance(place[-1], str)}  # one of each name
    chosen = [(key,) for key in small] + random.Random(8).sample(list(kinds.values()), 30)
    drawn = set()
    for place in chosen:
        saved(edited(small, place, {"not": ["what", "stands", "here"]}), path)
        with contextlib.suppress(FormatError):
            render_record(read_record(path))
            drawn.add(place[0])
    assert drawn <= FREE


def test_what_is_wrong_is_told_with_its_place_and_all_at_once(record: Record, tmp_path: Path) -> None:
    changed = edited(edited(record, ("rows", 1, "verdict"), "<b>fine</b>"), ("engines", 0, "label"), 7)
    changed["extra"] = 1
    del changed["judging"]["factor" if "factor" in changed["judging"] else next(iter(changed["judging"]))]
    with pytest.raises(FormatError) as caught:
        read_record(saved(changed, tmp_path / "r.json"))
    told = {problem.where.partition(": ")[2]: problem for problem in caught.value.problems}
    assert set(told) == {"$", "$.rows[1].verdict", "$.engines[0].label", "$.judging"}
    assert told["$.rows[1].verdict"].expected.startswith("one of ")
    assert told["$.rows[1].verdict"].got == '"<b>fine</b>"'
    assert (told["$.engines[0].label"].expected, told["$.engines[0].label"].got) == ("string", "7")
    assert told["$"].got == '"extra"'
    assert told["$.judging"].got.startswith("no ")
    assert all(problem.remedy for problem in told.values())


def test_rows_that_were_made_to_agree_are_found_by_their_numbers(record: Record, tmp_path: Path) -> None:
    changed = {**copy.deepcopy(record), "verdict": "agree", "diagnosis": None}
    for row in changed["rows"]:
        row["verdict"] = "agree"
    with pytest.raises(FormatError, match=r"contradicts itself[\s\S]*outside the limit"):
        read_record(saved(changed, tmp_path / "r.json"))
    with pytest.raises(FormatError, match=r"contradicts itself[\s\S]*undecided"):
        read_record(saved({**changed, "rows": []}, tmp_path / "r.json"))


@pytest.mark.parametrize("version", [1, 2])
def test_an_older_version_without_rows_is_refused(record: Record, version: int, tmp_path: Path) -> None:
    old = {**record, "schema": {**record["schema"], "version": version}, "rows": None}
    with pytest.raises(FormatError, match=r"rows are no table|contradicts itself"):
        read_record(saved(old, tmp_path / "r.json"))


def test_many_faults_are_not_a_flood(record: Record, tmp_path: Path) -> None:
    changed = copy.deepcopy(record)
    for row in changed["rows"]:
        row["verdict"], row["extra"], row["error"] = "maybe", "x" * 5000, []
    with pytest.raises(FormatError) as caught:
        read_record(saved(changed, tmp_path / "r.json"))
    assert len(caught.value.problems) == 9
    assert len(str(caught.value)) < 6000
    assert caught.value.problems[-1].what == "more than 8 such places"


def test_numbers_that_json_does_not_know_are_refused(record: Record, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text(json.dumps(edited(record, ("inputs", "batch"), float("nan"))), encoding="utf-8")
    with pytest.raises(FormatError, match="NaN is not JSON"):
        read_record(path)


def test_a_file_that_is_far_too_large_is_not_taken_into_memory(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(FormatError, match="at most"):
        read_record(path)


def test_the_command_line_says_it_without_a_traceback(
    record: Record, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = saved(edited(record, ("verdict",), "fine"), tmp_path / "r.json")
    with pytest.raises(SystemExit) as stop:
        main(["report", str(path), "-o", str(tmp_path / "r.html")])
    told = capsys.readouterr().err
    assert stop.value.code == 2
    assert not (tmp_path / "r.html").exists()
    assert "$.verdict" in told.replace("\n", "")
    assert "Traceback" not in told
