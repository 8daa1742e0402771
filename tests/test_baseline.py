"""What changed since an earlier record: better, worse, a verdict, versions; and what cannot be compared."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from parity.baseline import Since, moved, read_baseline, since
from parity.cli import main
from parity.comparison import compare
from parity.errors import FormatError, ParityError
from parity.report import Record, make_record, read_record, to_json, write_text


def gru(seed: int = 1) -> torch.nn.GRU:
    torch.manual_seed(seed)
    return torch.nn.GRU(3, 5)


@pytest.fixture(scope="module")
def record() -> Record:
    return make_record(compare(gru(), engines=["torch", "onnxruntime"], batch=2, time=7))


def changed(record: Record, label: str, **values: Any) -> Record:
    """The record with other values in the rows of one engine against the reference."""
    other = copy.deepcopy(record)
    for row in other["rows"]:
        if (row["left"], row["right"]) == (label, "reference"):
            row.update(values)
    verdicts = {row["verdict"] for row in other["rows"]}
    other["verdict"] = "disagree" if "disagree" in verdicts else other["verdict"]
    return other


def kinds(found: Since) -> set[str]:
    return {row.change for row in found.rows}


def test_nothing_changed(record: Record) -> None:
    found = since(record, record)
    assert (found.comparable, found.worse, found.same, found.rows) == (True, False, len(record["rows"]), ())
    assert (
        str(found)
        == f"Since the baseline nothing changed: agree then and now, {len(record['rows'])} quantities compared."
    )


def test_a_verdict_that_changed(record: Record) -> None:
    bad = changed(record, "torch", verdict="disagree", times_floor=40.0)
    worse, better = since(record, bad), since(bad, record)
    assert (worse.worse, worse.then, worse.now, kinds(worse)) == (True, "agree", "disagree", {"worse"})
    assert (better.worse, kinds(better)) == (False, {"better"})
    assert len(worse.rows) == len(better.rows) == 4
    assert worse.same == len(record["rows"]) - 4
    assert worse.rows[0].text.startswith(
        "sequence over the run, torch against the float64 reference: agree then, disagree now: "
    )
    assert "40 now, 2 allowed" in worse.rows[0].text
    assert "agree then, disagree now; 4 worse" in worse.sentence
    assert worse.rows[0].now is not None
    assert worse.rows[0].now.times_floor == 40.0


@pytest.mark.parametrize(
    ("then", "now", "expected"),
    [(0.1, 0.45, set()), (0.1, 1.2, {"worse"}), (1.9, 0.3, {"better"}), (1.0, 1.9, set()), (1.5, 0.9, set())],
)
def test_only_what_moved_by_more_than_noise(record: Record, then: float, now: float, expected: set[str]) -> None:
    before, after = (changed(record, "torch", times_floor=value) for value in (then, now))
    assert kinds(since(before, after)) == expected


def test_numbers_that_are_none_are_beyond_all(record: Record) -> None:
    lost = changed(record, "torch", verdict="disagree", times_floor="inf", max_error="nan")
    assert since(lost, lost).rows == ()
    found = since(changed(record, "torch", verdict="disagree", times_floor=50.0), lost)
    assert kinds(found) == {"worse"}
    assert moved(float("inf"), float("inf")) is False
    json.dumps(found.as_json(), allow_nan=False)


def test_versions_and_settings(record: Record) -> None:
    earlier = copy.deepcopy(record)
    earlier["environment"]["packages"] |= {"torch": "2.4.0", "jax": "0.1"}
    earlier["environment"]["python"] = "3.10.1"
    for engine in earlier["engines"]:
        if engine["label"] == "torch":
            engine["settings"] |= {"torch": "2.4.0", "threads": "64"}
    found = since(earlier, record)
    assert {one.name: one.then for one in found.versions} == {"python": "3.10.1", "torch": "2.4.0", "jax": "0.1"}
    assert [(one.name, one.then) for one in found.settings] == [("torch: threads", "64")]
    assert f"torch 2.4.0 -> {record['environment']['packages']['torch']}" in found.sentence
    assert not found.worse


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"sha256": "0" * 64}, "other inputs: SHA-256 000000000000... then"),
        ({"time": 8}, "other sizes: time 8 then, 7 now"),
        ({"initial_state": "given"}, "other initial states: given then, zeros now"),
    ],
)
def test_other_inputs_are_not_comparable(record: Record, change: dict[str, Any], told: str) -> None:
    earlier = changed(record, "torch", verdict="disagree", times_floor=9.0)
    earlier["inputs"] |= change
    found = since(earlier, record)
    assert (found.comparable, found.rows, found.worse) == (False, (), False)
    assert found.sentence.startswith(f"Not comparable with the baseline (disagree then, agree now): {told}")


def test_other_padding_is_not_comparable() -> None:
    one, other = (
        make_record(compare(gru(), engines=["torch"], time=6, lengths=lengths)) for lengths in ([6, 2, 5], [6, 5, 2])
    )
    found = since({**one, "inputs": other["inputs"]}, other)
    assert found.reasons == ("other padding: 13 of 18 steps valid then, 13 of 18 steps valid now, at other places",)


def test_another_model_is_not_comparable(record: Record) -> None:
    other = make_record(compare(torch.nn.LSTM(3, 5, num_layers=2), engines=["torch"], batch=2, time=7))
    found = since(record, other)
    assert not found.comparable
    assert "no quantity that both have" in found.sentence


def test_weights_that_changed_are_said(record: Record) -> None:
    other = make_record(compare(gru(seed=2), engines=["torch", "onnxruntime"], batch=2, time=7))
    found = since(record, other)
    assert [one.name for one in found.sources] == [f"weights of {other['title']}"]
    assert f"other weights of {other['title']}" in found.sentence
    unknown = copy.deepcopy(record)
    del unknown["sources"][0]["weights"]
    assert since(unknown, other).sources == ()


def test_new_and_gone(record: Record) -> None:
    fewer = make_record(compare(gru(), engines=["torch"], batch=2, time=7))
    found, back = since(record, fewer), since(fewer, record)
    assert [(one.name, one.then, one.now) for one in found.engines] == [("onnxruntime", "gone", "")]
    assert [(one.name, one.then, one.now) for one in back.engines] == [("onnxruntime", "", "new")]
    assert found.rows == back.rows == ()
    less = copy.deepcopy(record)
    less["rows"] = [row for row in less["rows"] if row["quantity"] != "h_n"]
    assert kinds(since(record, less)) == {"gone"}
    assert kinds(since(less, record)) == {"new"}


def test_an_engine_that_fails_now_is_worse(record: Record) -> None:
    broken = copy.deepcopy(record)
    broken["rows"] = [row for row in broken["rows"] if "torch" not in (row["left"], row["right"])]
    broken |= {"verdict": "undecided", "failures": {"torch": "signal SIGSEGV"}}
    found = since(record, broken)
    assert (found.worse, found.rows) == (True, ())
    assert "torch fails now" in found.sentence
    assert "torch no longer fails" in since(broken, record).sentence
    assert not since(broken, record).worse


def test_engines_are_matched_where_a_file_has_another_name() -> None:
    text = json.dumps(make_record(compare(gru(), gru(), batch=2, time=7)))
    now = json.loads(text)
    earlier = json.loads(text.replace("GRU '", "GRU 'old "))
    found = since(earlier, now)
    assert (found.comparable, found.engines, found.same) == (True, (), len(now["rows"]))


def test_padding_that_is_another_convention_now() -> None:
    record = make_record(compare(gru(), engines=["torch"], lengths=[6, 2, 5]))
    found = since(record, changed(record, "torch", padding_outside=3))
    assert kinds(found) == {"padding"}
    assert not found.worse
    assert "with other padding" in found.sentence


def test_files_that_are_no_baseline(record: Record, tmp_path: Path) -> None:
    with pytest.raises(ParityError, match="no such file"):
        read_baseline(tmp_path / "none.json")
    (tmp_path / "text.json").write_text("{", encoding="utf-8")
    with pytest.raises(FormatError, match="this is no record"):
        read_baseline(tmp_path / "text.json")
    for missing in ("environment", "engines", "inputs", "sources", "judging"):
        path = tmp_path / f"{missing}.json"
        write_text(path, to_json({key: value for key, value in record.items() if key != missing}))
        with pytest.raises(FormatError, match="does not hold what a comparison with it needs") as error:
            read_baseline(path)
        assert str(path) in str(error.value)
    rows = [{**row, "times_floor": "many"} for row in record["rows"]]
    with pytest.raises(FormatError, match="many"):
        since(record, {**record, "rows": rows})


def test_an_old_record_is_a_baseline(record: Record, tmp_path: Path) -> None:
    old = {key: value for key, value in record.items() if key not in ("baseline", "diagnosis")}
    path = write_text(tmp_path / "old.json", to_json({**old, "schema": {**record["schema"], "version": 2}}))
    assert since(read_baseline(path), record).same == len(record["rows"])


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return int(stop.value.code or 0), *capsys.readouterr()


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(gru().state_dict(), tmp_path / "gru.pt")
    first = ("compare", tmp_path / "gru.pt", "--engines", "torch", "--json", tmp_path / "a.json")
    assert run(capsys, *first)[0] == 0
    earlier = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert earlier["baseline"] is None
    earlier["environment"]["packages"]["torch"] = "2.4.0"
    for row in earlier["rows"]:
        row["times_floor"] = 1.9
    (tmp_path / "b.json").write_text(json.dumps(earlier), encoding="utf-8")
    targets = [word for suffix in ("json", "html", "xml") for word in (tmp_path / f"c.{suffix}",)]
    options = ("--json", targets[0], "--report", targets[1], "--junit", targets[2])
    code, out, err = run(
        capsys, "compare", tmp_path / "gru.pt", "--engines", "torch", "--baseline", tmp_path / "b.json", *options
    )
    assert (code, err) == (0, "")
    assert "Since the baseline (torch 2.4.0 -> " in out
    assert "4 better" in out
    assert all(target.is_file() for target in targets)
    record = read_record(targets[0])
    assert [row["change"] for row in record["baseline"]["rows"]] == ["better"] * 4
    assert record["baseline"]["worse"] is False
    code, out, err = run(
        capsys, "compare", tmp_path / "gru.pt", "--engines", "torch", "--baseline", tmp_path / "gru.pt"
    )
    assert (code, out) == (2, "")
    assert "this is no record" in err
    assert "gru.pt" in err


@pytest.mark.parametrize(
    ("option", "name", "told"),
    [("--junit", "r.html", "a name ending in .xml"), ("--junit", "a.xml", "is there already")],
)
def test_junit_on_the_command_line_is_checked_first(
    option: str, name: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.xml").write_text("kept", encoding="utf-8")
    code, out, err = run(capsys, "compare", tmp_path / "none.pt", option, tmp_path / name)
    assert (code, out) == (2, "")
    assert told in err
    assert (tmp_path / "a.xml").read_text(encoding="utf-8") == "kept"


def test_a_comparison_knows_what_changed(tmp_path: Path) -> None:
    compared = compare(gru(), engines=["torch"])
    path = compared.save_json(tmp_path / "a.json")
    assert compared.against(path) == compared.against(str(path)) == compared.against(read_record(path))
    assert not compared.against(path).worse
