"""What the terminal says of a comparison: the same as the page's first screen, at any width, plain when piped."""

from __future__ import annotations

import io
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from parity import terminal
from parity.baseline import since
from parity.cli import main
from parity.comparison import Comparison, compare
from parity.comparison_table import error_lines, show_comparison
from parity.report import Record, make_record
from parity.sparkline import ASCII, BLOCKS, marks_for, spark


def lstm(change: float = 0.0) -> torch.nn.LSTM:
    torch.manual_seed(2)
    layer = torch.nn.LSTM(3, 5)
    with torch.no_grad():
        dict(layer.named_parameters())["weight_hh_l0"][7, 2] += change
    return layer


@pytest.fixture(scope="module")
def disagreeing() -> Comparison:
    return compare(lstm(), lstm(0.01), time=200)


@pytest.fixture(scope="module")
def record(disagreeing: Comparison) -> Record:
    return make_record(disagreeing)


def shown(
    comparison: Comparison, record: Record, monkeypatch: pytest.MonkeyPatch, width: int = 120, encoding: str = "utf-8"
) -> str:
    """What a terminal of a width shows."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding)
    monkeypatch.setattr("parity.comparison_table.console", lambda: Console(file=stream, width=width, highlight=False))
    show_comparison(comparison, record)
    stream.flush()
    return raw.getvalue().decode(encoding)


@pytest.mark.parametrize("width", [80, 120])
def test_it_says_what_the_first_screen_of_the_page_says(
    disagreeing: Comparison, record: Record, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = shown(disagreeing, record, monkeypatch, width)
    assert out.startswith(f"DISAGREE {disagreeing.sentence}\n")
    assert f"cause: {record['diagnosis']['cause']}" in out
    assert f"torch {torch.__version__}, reference (float64) | 3 samples x 200 steps x 3 features" in out
    drawn = [line for line in out.splitlines() if re.search("[▁▂▃▄▅▆▇█]{10}", line)]
    assert len(drawn) == 2
    assert all(len(line) <= width for line in drawn)
    assert [("╎" in line) for line in drawn] == [False, True]
    first, last = (record["profile"]["times_floor"]["LSTM 'lstm' (torch) #2"][index] for index in (0, -1))
    numbers = re.findall(r"([\d.e]+)x", drawn[1])
    assert [float(number) for number in numbers] == pytest.approx([first, last], rel=0.06)


def test_where_an_encoding_has_no_blocks_it_is_ascii(
    disagreeing: Comparison, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = shown(disagreeing, record, monkeypatch, encoding="ascii")
    assert "_.-= up to the limit, +*%# beyond it, | where it is first passed" in out
    assert re.search(r"x \|?[_.\-=+*%#|]{20,} ", out)


def test_what_cannot_be_compared_is_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    chaotic = torch.nn.LSTM(3, 32)
    with torch.no_grad():
        for weight in chaotic.parameters():
            weight.mul_(30)
    comparison = compare(chaotic, engines=["torch"], time=60)
    out = shown(comparison, make_record(comparison), monkeypatch)
    assert out.startswith("Undecided torch agrees")
    assert re.search("[▁▂▃▄]{5}·{5}", out)
    assert "· nothing to compare" in out


def test_layers_of_a_whole_model_that_were_judged(record: Record) -> None:
    row = {**record["rows"][0], "rule": "layer", "left": "torch"}
    errors = {"embed": 0.02, "first": 0.3, "second": 900.0, "out": 0.1}
    rows = [{**row, "quantity": f"layer {name}", "times_floor": error} for name, error in errors.items()]
    rows += [{**row, "left": "onnxruntime", "quantity": f"layer {name}"} for name in ("embed", "out")]
    heading, first, second, *_, gap = error_lines({**record, "profile": None, "rows": rows}, 80, BLOCKS)
    assert "error by layer" in heading
    assert "embed to out" in heading
    assert re.sub(r"\[[^]]*\]", "", first) == "torch          0.02x ▁▃╎▇▂ 0.1x"
    assert re.search("[▁▂▃▄]··[▁▂▃▄]", second)
    assert "not shown by the engine" in gap


def test_what_changed_since_a_baseline(
    disagreeing: Comparison, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = {**record, "verdict": "agree"}
    earlier["rows"] = [{**row, "verdict": "agree", "times_floor": 0.2} for row in record["rows"]]
    found = since(earlier, record)
    out = shown(disagreeing, {**record, "baseline": found.as_json()}, monkeypatch)
    assert found.sentence in out
    against = [row for row in found.rows if row.right == "reference"]
    assert all(row.text in out for row in against)
    assert f"and {len(found.rows) - len(against)} more" in out


def test_names_do_not_command_the_terminal(
    disagreeing: Comparison, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines = {f"\x1b[2J[red]{name}": values for name, values in record["profile"]["times_floor"].items()}
    profile = {**record["profile"], "times_floor": engines, "quantity": "[bold]\x9b31m"}
    out = shown(disagreeing, {**record, "profile": profile}, monkeypatch)
    assert "\x1b" not in out
    assert "\x9b" not in out
    assert "[2J[red]LSTM" in out
    assert terminal.plain("a\u202eb\x07") == "a\ufffdb\ufffd"


@pytest.mark.parametrize("variable", [None, "NO_COLOR"])
def test_piped_it_is_plain_and_nothing_runs_on_standard_error(
    variable: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable or "PARITY_TESTS", "1")
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    torch.save(lstm().state_dict(), f"{tmp_path}/lstm.pt")
    with pytest.raises(SystemExit) as stop:
        main(["compare", f"{tmp_path}/lstm.pt", "--engines", "torch"])
    out, err = capsys.readouterr()
    assert (stop.value.code, err) == (0, "")
    assert "\x1b" not in out
    assert "error over time" in out


def test_a_name_that_the_terminal_has_no_characters_for(tmp_path: Path) -> None:
    path = tmp_path / "\u05e9\u05dc\u05d5\u05dd.pt"
    torch.save(lstm().state_dict(), path)
    command = [sys.executable, "-m", "parity", "compare", str(path), "--engines", "torch"]
    environ = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    found = subprocess.run(command, env=environ, capture_output=True, check=False)
    assert (found.returncode, found.stderr) == (0, b"")
    assert b"_.-= up to the limit" in found.stdout


def test_on_a_terminal_what_is_running_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    with terminal.progress() as progress:
        assert progress is not None
        progress("torch: load [model].pt\x1b[2J")
    assert "torch: load [model].pt\ufffd[2J" in stream.getvalue()
    monkeypatch.setattr("sys.stderr", io.StringIO())
    with terminal.progress() as progress:
        assert progress is None


def test_the_largest_errors_are_kept_where_there_is_little_room() -> None:
    values: list[float | None] = [0.01] * 1000
    values[617] = 5.0
    for width in (10, 37, 999):
        before, after = spark(values, 2.0, width)
        assert len(before + after) <= width
        assert after[:2] == "╎▅"
        assert len(before) / width == pytest.approx(0.617, abs=0.13)


def test_levels_tell_the_limit_exactly() -> None:
    assert spark([2.0], 2.0, 5) == ("▄", "")
    assert spark([math.nextafter(2.0, 3.0)], 2.0, 5) == ("", "╎▅")
    assert spark([0.0, 1e-9, 1e300, math.inf, math.nan], 2.0, 9) == ("▁▁", "╎███")
    assert spark([None, None], 2.0, 9, ASCII) == ("  ", "")
    assert spark([], 2.0, 9) == ("", "")
    rising = "".join(spark([2.0 * 10**power for power in np.arange(-2, 4.1, 0.1)], 2.0, 100))
    assert list(dict.fromkeys(rising)) == list("▁▂▃▄╎▅▆▇█")


def test_marks() -> None:
    assert marks_for(None) is ASCII
    assert marks_for("no such encoding") is ASCII
    assert marks_for("utf-16") is BLOCKS
    assert len(set(BLOCKS.all)) == len(BLOCKS.all)
    assert len(set(ASCII.all)) == len(ASCII.all)
    assert ASCII.all.isascii()


def test_nothing_is_drawn_where_no_engine_shows_a_sequence(record: Record) -> None:
    assert list(error_lines({**record, "profile": None}, 80, BLOCKS)) == []
