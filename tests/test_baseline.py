"""What changed since an earlier record: better, worse, a verdict, versions; and what cannot be compared."""

from __future__ import annotations

import copy
import itertools
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from parity.baseline import Since, moved, read_baseline, since
from parity.cli import main
from parity.comparison import compare
from parity.errors import FormatError, ParityError
from parity.github import commands_of
from parity.junit import junit
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


def with_states(seed: int, **options: Any) -> Record:
    h = np.random.default_rng(seed).uniform(-1, 1, (1, 1, 2, 5)).astype(np.float32)
    return make_record(compare(gru(), engines=["torch"], batch=2, time=6, initial_state=h, **options))


def holes(*steps: int) -> np.ndarray[Any, Any]:
    mask = np.ones((2, 6), bool)
    mask[:, list(steps)] = False
    return mask


def test_other_states_and_masks_at_other_places_are_not_comparable() -> None:
    first = with_states(1, mask=holes(2))
    again, states, mask = with_states(1, mask=holes(2)), with_states(2, mask=holes(2)), with_states(1, mask=holes(4))
    assert since(first, again).alike
    assert since(first, states).reasons[0].startswith("other initial states: SHA-256 ")
    valid = "10 of 12 steps valid"
    assert since(first, mask).reasons == (f"other padding: {valid} then, {valid} now, at other places",)
    assert not any(found.alike or found.worse for found in (since(first, states), since(first, mask)))


def test_states_and_masks_that_a_record_does_not_say_are_not_known() -> None:
    now = with_states(1, mask=holes(2))
    old = copy.deepcopy(now)
    for name in ("initial_state_sha256", "mask_sha256"):
        del old["inputs"][name]
    for one, other, who in ((old, now, "the baseline"), (now, old, "this record")):
        found = since(one, other)
        assert found.comparable
        assert found.notes == tuple(
            f"{who} does not say which {what}, so whether they are the same is not known"
            for what in ("initial states it had", "steps were valid")
        )


def test_another_model_is_not_comparable(record: Record) -> None:
    other = make_record(compare(torch.nn.LSTM(3, 5, num_layers=2), engines=["torch"], batch=2, time=7))
    found = since(record, other)
    assert not found.comparable
    assert "no quantity that both have" in found.sentence


def test_weights_that_changed_are_said(record: Record) -> None:
    other = make_record(compare(gru(seed=2), engines=["torch", "onnxruntime"], batch=2, time=7))
    found = since(record, changed(other, "torch", times_floor=1.9))
    assert [one.name for one in found.sources] == [f"weights of {other['title']}"]
    assert found.sentence.startswith(f"The baseline is of another model (other weights of {other['title']}): ")
    assert "better or worse is no statement about an upgrade. Agree then and now; 4 worse" in found.sentence
    assert (found.comparable, found.alike, found.worse, kinds(found)) == (True, False, False, {"worse"})
    assert found.open == (f"other weights of {other['title']}",)
    assert next(found.lines()).startswith(f"weights of {other['title']} ")


@pytest.mark.parametrize("whose", ["the baseline", "this record"])
def test_weights_that_are_not_known_are_said(record: Record, whose: str) -> None:
    unknown = copy.deepcopy(record)
    del unknown["sources"][0]["weights"]
    found = since(unknown, record) if whose == "the baseline" else since(record, unknown)
    assert found.notes == (
        f"{whose} does not say which weights {record['title']} has, so whether they are the same is not known",
    )
    assert (found.sources, found.alike, found.notes[0] in str(found)) == ((), True, True)
    assert since(record, record).notes == ()


def test_options_that_changed_are_said_and_names_are_none(record: Record) -> None:
    earlier = copy.deepcopy(record)
    layer = earlier["sources"][0]["layers"][0]
    layer["name"] = "another"
    assert since(earlier, record).alike
    layer |= {"units": 6, "stateful": True}
    found = since(earlier, record)
    (moved,) = found.sources
    name = f"options of layer {record['sources'][0]['layers'][0]['name']} of {record['title']}"
    assert (moved.name, moved.then, moved.now) == (name, "units 6, stateful True", "units 5, stateful none")
    assert f"({'other ' + name})" in found.sentence
    assert not found.alike
    earlier["sources"][0]["layers"].append(layer)
    assert [(one.then, one.now) for one in since(earlier, record).sources] == [("2 layers", "1 layers")]


def test_a_source_more_or_less_is_another_model(record: Record) -> None:
    more = copy.deepcopy(record)
    more["sources"].append({**more["sources"][0], "label": "port.onnx"})
    assert "(source port.onnx new)" in since(record, more).sentence
    assert "(source port.onnx gone)" in since(more, record).sentence
    assert since(more, record).open == ("source port.onnx gone",)


def test_the_same_run_again_another_seed_or_more_threads_is_not_worse() -> None:
    model = gru()
    inputs = np.random.default_rng(0).standard_normal((2, 20, 3), dtype=np.float32)
    threads, records = torch.get_num_threads(), []
    try:
        for seed, count in ((0, 1), (0, 1), (7, 1), (0, 2)):
            torch.set_num_threads(count)
            found = compare(model, inputs=inputs, engines=["torch", "onnxruntime"], seed=seed)
            records.append(make_record(found))
    finally:
        torch.set_num_threads(threads)
    floors = [[row["times_floor"] for row in record["rows"]] for record in records]
    assert floors[0] == floors[1] != floors[2]
    for earlier, later in itertools.permutations(records, 2):
        found_since = since(earlier, later)
        assert (found_since.alike, found_since.rows, found_since.worse, found_since.open) == (True, (), False, ())


def test_random_inputs_of_another_seed_are_other_inputs(record: Record) -> None:
    other = make_record(compare(gru(), engines=["torch", "onnxruntime"], batch=2, time=7, seed=3))
    found = since(record, changed(other, "torch", verdict="disagree", times_floor=50.0))
    assert (found.comparable, found.alike, found.worse) == (False, False, False)
    assert "other inputs: seed 0 then, 3 now; SHA-256 " in found.sentence


def test_what_is_no_longer_compared_leaves_it_open(record: Record) -> None:
    fewer = make_record(compare(gru(), engines=["torch"], batch=2, time=7))
    assert since(record, fewer).open == ("engine onnxruntime is gone",)
    assert since(fewer, record).open == ()
    less = {**record, "rows": [row for row in record["rows"] if row["quantity"] != "h_n"]}
    found = since(record, less)
    assert {row.text for row in found.rows} == set(found.open)
    assert len(found.open) == 5
    assert all(text.startswith("h_n ") and text.endswith(": gone") for text in found.open)
    assert since(record, record).open == ()


def settings_of(record: Record, **values: str) -> Record:
    other = copy.deepcopy(record)
    next(engine for engine in other["engines"] if engine["label"] == "torch")["settings"] |= values
    return other


def test_the_sentence_names_some_of_what_moved_and_counts_the_rest(record: Record) -> None:
    earlier = settings_of(record, **{f"option{index}": "on" for index in range(8)})
    earlier["inputs"]["device"] = "cuda"
    sentence = since(earlier, record).sentence
    assert sentence.startswith("Since the baseline (device cuda -> cpu, torch: option0 on -> none, ")
    assert ", torch: option4 on -> none, 3 more) nothing changed: " in sentence


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


def test_an_engine_that_fails_as_before_in_other_words_is_not_worse(record: Record) -> None:
    one = copy.deepcopy(record)
    one["rows"] = [row for row in one["rows"] if "torch" not in (row["left"], row["right"])]
    one |= {"verdict": "undecided", "failures": {"torch": "no memory at 1"}}
    found = since(one, {**one, "failures": {"torch": "no memory at 2"}})
    assert (found.worse, found.rows) == (False, ())
    assert "torch fails as before, in other words" in found.sentence


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
        old = {**record, "schema": {**record["schema"], "version": 2}}
        write_text(path, to_json({key: value for key, value in old.items() if key != missing}))
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


def test_a_record_of_the_first_version_is_a_baseline(record: Record, tmp_path: Path) -> None:
    unknown = ("baseline", "diagnosis", "mask", "padding", "failures", "architecture", "distribution", "decisions")
    first = {key: value for key, value in copy.deepcopy(record).items() if key not in unknown}
    first |= {"schema": {**record["schema"], "version": 1}, "conventions": []}
    for row in first["rows"]:
        for key in ("padding_error", "padding_outside", "padded", "text"):
            del row[key]
    for engine in first["engines"]:
        del engine["form"]
    for source in first["sources"]:
        del source["weights"]
    found = since(read_baseline(write_text(tmp_path / "first.json", to_json(first))), record)
    assert (found.comparable, found.alike, found.same, found.rows) == (True, True, len(record["rows"]), ())
    assert "the baseline does not say which weights" in found.notes[0]


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


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A layer, another one, and a record of the first."""
    folder = tmp_path_factory.mktemp("baseline")
    for name, seed in (("gru", 1), ("other", 2)):
        torch.save(gru(seed).state_dict(), folder / f"{name}.pt")
    compare(folder / "gru.pt", engines=["torch"]).save_json(folder / "earlier.json")
    return folder


def edited(files: Path, target: Path, times_floor: float) -> Path:
    """The record with other errors."""
    earlier = json.loads((files / "earlier.json").read_text(encoding="utf-8"))
    for row in earlier["rows"]:
        row["times_floor"] = times_floor
    return write_text(target, json.dumps(earlier))


def test_where_it_got_worse_the_command_fails_if_it_is_asked_to(
    files: Path, record: Record, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = since(record, changed(record, "torch", times_floor=1.9))
    monkeypatch.setattr("parity.comparison.Comparison.against", lambda *_: found)
    command = ("compare", files / "gru.pt", "--engines", "torch", "--baseline", files / "earlier.json")
    code, out, _ = run(capsys, *command)
    assert (code, "4 worse" in out, "exit code is 1" in out) == (0, True, False)
    code, out, err = run(capsys, *command, "--fail-on-worse", "--json", tmp_path / "now.json")
    assert (code, err) == (1, "")
    assert "worse than the baseline, so the exit code is 1, as --fail-on-worse asks" in out
    assert read_record(tmp_path / "now.json")["baseline"]["fail_on_worse"] is True


def test_where_nothing_got_worse_it_does_not_fail(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for baseline in (files / "earlier.json", edited(files, tmp_path / "better.json", 1.9)):
        command = ("compare", files / "gru.pt", "--engines", "torch", "--baseline", baseline, "--fail-on-worse")
        assert run(capsys, *command)[0] == 0


@pytest.mark.parametrize(
    ("source", "options", "told"),
    [
        ("other.pt", (), "other weights of other.pt"),
        ("gru.pt", ("--seed", "1"), "other inputs: seed 0 then, 1 now"),
        ("gru.pt", ("--time", "9"), "other sizes: time 17 then, 9 now"),
    ],
)
def test_a_baseline_that_cannot_tell_is_no_guard(
    source: str,
    options: tuple[str, ...],
    told: str,
    files: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ("compare", files / source, "--engines", "torch", "--baseline", files / "earlier.json", *options)
    assert run(capsys, *command)[0] == 0
    code, out, err = run(capsys, *command, "--fail-on-worse", "--json", tmp_path / "now.json")
    assert code == 2
    assert "the baseline cannot tell whether anything got worse" in err
    assert told in " ".join(err.split())
    assert "make a new baseline with --json" in err
    assert "agrees with the float64 reference" in out
    assert read_record(tmp_path / "now.json")["verdict"] == "agree"


def test_an_option_without_a_baseline_is_refused(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "compare", files / "gru.pt", "--fail-on-worse")
    assert (code, out) == (2, "")
    assert "nothing to be worse than" in err
    assert "--baseline earlier.json" in err


@pytest.mark.parametrize(
    ("what", "asked", "tag", "level"),
    [
        ("worse", True, "failure", "::error"),
        ("worse", False, "system-out", "::warning"),
        ("other", True, "error", "::warning"),
        ("other", False, "skipped", "::warning"),
        ("same", True, "system-out", ""),
    ],
)
def test_servers_are_told(record: Record, what: str, asked: bool, tag: str, level: str) -> None:
    if what == "other":
        now = make_record(compare(gru(seed=2), engines=["torch", "onnxruntime"], batch=2, time=7))
    else:
        now = changed(record, "torch", times_floor=1.9) if what == "worse" else record
    now = {**now, "baseline": since(record, now).as_json(asked)}
    cases = ElementTree.fromstring(junit(now)).iter("testcase")
    case = next(case for case in cases if case.get("name") == "nothing got worse")
    assert [child.tag for child in case] == [tag]
    assert now["baseline"]["sentence"] in (case[0].text or "")
    told = commands_of(now)[1:]
    assert [line.split(" ")[0] for line in told] == ([level] if level else [])
    assert all(("worse than the baseline" in line) == (what == "worse") for line in told)
