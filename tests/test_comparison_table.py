"""What the terminal says of a comparison: the same as the page's first screen, at any width, plain when piped."""

from __future__ import annotations

import copy
import io
import itertools
import json
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
from parity.findings import describe
from parity.report import Record, make_record
from parity.sparkline import ASCII, BLOCKS, marks_for, spark
from parity.terminal_matrix import matrix


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
    assert out.startswith("Undecided: torch agrees")
    assert re.search(r"h_n +[\d.]+ \(-\) undecided", out)
    assert "(-): nothing of it can be compared." in out
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


MANY = ["torch", "onnxruntime", "keras:torch", "keras:jax"]
WORST = ("onnxruntime", "keras:jax")


@pytest.fixture(scope="module")
def agreeing() -> Comparison:
    return compare(lstm(), engines=["torch"], time=30)


@pytest.fixture(scope="module")
def many(agreeing: Comparison) -> Record:
    """A record of four engines, of which a pair is further apart than all others."""
    record = make_record(agreeing)
    against = [row for row in record["rows"] if row["rule"] == "run"]
    pairs = [*((label, "reference") for label in MANY), *itertools.combinations(MANY, 2)]
    rows = [{**row, "left": left, "right": right} for left, right in pairs for row in against]
    for row in rows:
        if (row["left"], row["right"], row["quantity"]) == (*WORST, "c_n"):
            row.update(verdict="disagree", times_floor=77.0)
    engines = [{**record["engines"][0], "label": label, "engine": label} for label in MANY]
    return {**record, "rows": rows, "engines": [*engines, record["engines"][-1]]}


def drawn(record: Record, width: int) -> str:
    """The matrix alone, as a terminal of a width shows it."""
    stream = io.StringIO()
    out = Console(file=stream, width=width, highlight=False)
    for part in matrix(record, width):
        out.print(part)
    return stream.getvalue()


@pytest.mark.parametrize("width", [60, 80, 100, 140])
def test_where_columns_have_no_room_nothing_is_dropped(many: Record, width: int) -> None:
    out = drawn(many, width)
    assert all(len(line) <= width for line in out.splitlines())
    for label in MANY:
        assert re.search(rf"(?m)^max difference.*(?<![-] ){label}( |$)", out), label
    above, _, below = out.partition("engine against engine")
    assert above.count("x)") == len(MANY) * 3
    assert not re.search(r"(?m)^ .*x\)", above), "a cell is broken into lines"
    below = re.sub(r"(?m)^(\S+) ( .*)\n  - (\S+) *$", r"\1 - \3 \2", below)  # a pair in two lines, in one again
    found = {tuple(pair) for pair in re.findall(r"(?m)^(\S+) - (\S+)  ", below)}
    assert found == set(itertools.combinations(MANY, 2))
    (worst,) = (line for line in below.splitlines() if "DISAGREE" in line)
    assert worst.startswith(" - ".join(WORST))
    assert re.search(r"c_n +[\d.e-]+ \(77x\) DISAGREE$", worst)
    assert "every quantity of each pair: on a wider terminal, or with --report or --json" in " ".join(below.split())


def test_where_there_is_room_each_pair_has_a_column(many: Record) -> None:
    out = drawn(many, 260)
    assert "engine against engine" not in out
    (heading, *lines) = out.splitlines()
    assert heading.index("keras:jax") < heading.index("torch - onnxruntime")
    assert [line.split()[0] for line in lines] == ["sequence", "h_n", "c_n"]
    assert all(line.count("x)") == 10 for line in lines)


def test_engines_stand_in_the_order_of_the_page_and_not_of_the_first_row(many: Record) -> None:
    rows = [
        row
        for row in many["rows"]
        if (row["left"], row["right"], row["quantity"]) != ("torch", "reference", "sequence")
    ]
    heading, *lines = drawn({**many, "rows": rows}, 260).splitlines()
    assert heading.index(" torch") < heading.index(" onnxruntime")
    assert {line.split()[0]: line.count("x)") for line in lines} == {"sequence": 10 - 1, "h_n": 10, "c_n": 10}


def test_names_of_any_length_have_room(many: Record) -> None:
    text = re.sub('"keras:jax"', '"a_model_of_a_long_name_without_blanks.keras (keras:jax)"', json.dumps(many))
    for width in (40, 60, 80):
        out = drawn(json.loads(text), width)
        assert all(len(line) <= width for line in out.splitlines())
        assert "a_model_of_a_long_name_w" in out
        assert "\N{HORIZONTAL ELLIPSIS}" not in out


def test_many_lines_are_cut_with_a_word_and_the_worst_are_kept(many: Record) -> None:
    base = [row for row in many["rows"] if row["right"] == "reference" and row["quantity"] == "h_n"]
    rows = [
        {**row, "quantity": f"l{index}.h_n", "times_floor": 0.5 if index == 70 else 0.1 + index / 1000}
        for index in range(80)
        for row in base
    ]
    out = drawn({**many, "rows": rows}, 120)
    names = re.findall(r"(?m)^l(\d+)\.h_n", out)
    assert names == [str(index) for index in range(44, 80)]
    assert (
        "and 44 more quantities, none worse than these: at most 0.072 of the limit; --report or --json shows all" in out
    )
    rows[4].update(verdict="disagree", times_floor=9.0)
    assert re.search(r"(?m)^l1\.h_n .*DISAGREE", drawn({**many, "rows": rows}, 120))


def test_many_pairs_are_cut_with_a_word_and_the_worst_are_kept(many: Record) -> None:
    labels = [f"engine{index}" for index in range(7)]
    row = {**many["rows"][0], "verdict": "agree"}
    rows = [
        {**row, "left": left, "right": right, "times_floor": 1.9 if (left, right) == ("engine5", "engine6") else 0.1}
        for left, right in itertools.combinations(labels, 2)
    ]
    engines = [{**many["engines"][0], "label": label} for label in labels]
    out = drawn({**many, "rows": rows, "engines": [*engines, many["engines"][-1]]}, 100)
    assert len(re.findall(r"(?m)^engine\d - engine\d", out)) == 12
    assert re.search(r"engine5 - engine6 .*\(1\.9x\)", out)
    assert "and 9 more pairs, none worse than these" in out


def test_a_note_stands_in_place_of_numbers(many: Record) -> None:
    rows = [{**row, "note": "another shape", "verdict": "disagree"} for row in many["rows"]]
    assert "another shape DISAGREE" in drawn({**many, "rows": rows}, 260)


@pytest.mark.parametrize("width", [40, 60])
def test_the_legend_of_the_errors_is_wrapped(
    disagreeing: Comparison, record: Record, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = shown(disagreeing, record, monkeypatch, width)
    block = out[out.index("error over time") :].split("\n\n")[0]
    assert all(len(line) <= width for line in block.splitlines())
    assert "beyond it, ╎ where it is first passed" in " ".join(block.split())
    first, last = (line for line in block.splitlines() if line.startswith("LSTM"))
    assert first.endswith("x")
    assert last.endswith("x")
    assert "╎" not in first
    assert "╎" in last
    assert "#2 " in last
    assert "#2 " not in first


def test_on_a_terminal_prose_is_broken_between_words(
    disagreeing: Comparison, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.StringIO()
    out = Console(file=stream, width=60, highlight=False, force_terminal=True, color_system=None)
    monkeypatch.setattr("parity.comparison_table.console", lambda: out)
    show_comparison(disagreeing, record)
    lines = stream.getvalue().splitlines()
    assert all(len(line) <= 60 for line in lines)
    assert disagreeing.sentence in " ".join(" ".join(lines).split())
    cause = record["diagnosis"]["cause"]
    assert cause in " ".join(" ".join(lines).split())


def test_the_cause_is_told_with_its_evidence(
    disagreeing: Comparison, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = shown(disagreeing, record, monkeypatch)
    assert f"The first step that is off: {record['diagnosis']['first_step']}." in out
    assert "With this mistake made in the reference the largest difference falls from" in out


def test_rows_that_disagree_are_told_up_to_a_number(
    disagreeing: Comparison, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = shown(disagreeing, record, monkeypatch)
    bad = [row for row in disagreeing.table if row.verdict == "disagree" and row.right == "reference"]
    told = [row for row in bad if describe(row) in out]
    assert len(told) == 3
    assert min(row.times_floor for row in told) >= max(row.times_floor for row in bad if row not in told)
    assert f"and {len(bad) - 3} more that disagree, by less: --report or --json has them" in out


def test_padding_is_told_as_on_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    comparison = compare(lstm(), engines=["torch"], lengths=[7, 3, 0])
    record = make_record(comparison)
    out = shown(comparison, record, monkeypatch)
    assert "padding: 10 of 21 steps are valid, 11 are padding, lengths 7, 3, 0; padded steps are scored apart: " in out
    assert "all are alike" in out
    record = copy.deepcopy(record)
    for row in record["rows"]:
        row["padding_outside"] = int(row["left"] == "torch" and row["right"] == "reference")
    out = shown(comparison, record, monkeypatch)
    assert "scored apart: torch differs from the reference by convention, which is no disagreement" in out


def test_decisions_and_forms_are_told_as_on_the_page(agreeing: Comparison, monkeypatch: pytest.MonkeyPatch) -> None:
    record = make_record(agreeing)
    assert "the same decision" not in shown(agreeing, record, monkeypatch)
    record["engines"][0]["form"] = {"kind": "native", "composed": [], "notes": []}
    place = {"place": {"batch": 1}, "decided": [2, 0], "values": [0.5, 0.4], "margin": 0.01, "floors": 3.0}
    engine = {"engine": "torch", "same": 8, "total": 9, "samples": [], "differing": [place]}
    record["decisions"] = [{"output": "words", "by": "softmax", "units": 4, "engines": [engine]}]
    out = shown(agreeing, record, monkeypatch)
    assert "| cpu | native in torch\n" in out
    assert "words (class, the largest of 4), torch: 8 of 9, 88.8 %" in out
    assert "words, batch 1: torch unit 2, the reference unit 0, by a margin of 0.01 (3x)" in out


def test_engines_without_a_line_are_named(record: Record) -> None:
    times = dict(list(record["profile"]["times_floor"].items())[1:])
    missing = next(iter(record["profile"]["times_floor"]))
    found = list(error_lines({**record, "profile": {**record["profile"], "times_floor": times}}, 80, BLOCKS))
    assert f"no line for {missing}: this sequence is not shown by it, or has another shape" in found[-2]


def test_a_baseline_of_another_model_is_told(agreeing: Comparison, monkeypatch: pytest.MonkeyPatch) -> None:
    record = make_record(agreeing)
    earlier = copy.deepcopy(record)
    earlier["sources"][0]["weights"] = "0" * 32
    found = since(earlier, record)
    out = shown(agreeing, {**record, "baseline": found.as_json()}, monkeypatch)
    assert found.sentence in out
    assert f"weights of {record['title']}: 000000000000... then, " in out
    assert out.index("statement about an upgrade") < out.index("max difference")
