"""What is refused, where its answer was to be written: a page, a record, JUnit XML; and what GitHub Actions shows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from playwright.sync_api import Browser

from parity import terminal
from parity.cli import main
from parity.diagnosis.diagnosis import Diagnosis, Evidence
from parity.errors import FormatError, Problem
from parity.github import diagnosis_in_actions, refusal_in_actions
from parity.junit import junit
from parity.report import Record, to_json
from parity.report.reading import read_any, read_record
from parity.report.refusal import SCHEMA, make_refusal, render_refusal
from parity.report.templating import visible
from tests.browsing import A4, LOOKS, WORDS, checked, inaccessible, launched, open_page, unreachable

PUBLISHED = Draft202012Validator(
    json.loads((resources.files("parity") / "report" / "refusal.schema.json").read_text(encoding="utf-8"))
)
HOSTILE = "<script>alert(1)</script>\"'&lt;{{ 7 * 7 }} `c` |\x1b[31m\ud800 שלום \N{RIGHT-TO-LEFT OVERRIDE}txt"
FILES = ["--report", "r.html", "--json", "r.json", "--junit", "r.xml"]


def weights(units: int, seed: int = 0) -> dict[str, np.ndarray[Any, Any]]:
    """Of a GRU, under torch's names."""
    random = np.random.default_rng(seed)
    shapes: dict[str, tuple[int, ...]] = {"weight_ih_l0": (3 * units, 3), "weight_hh_l0": (3 * units, units)}
    shapes |= {"bias_ih_l0": (3 * units,), "bias_hh_l0": (3 * units,)}
    return {name: random.uniform(-0.5, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, units in (("five", 5), ("seven", 7)):
        np.savez(tmp_path / f"{name}.npz", **weights(units))  # type: ignore[arg-type]
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    return tmp_path


def ended(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert isinstance(stop.value.code, int)
    return stop.value.code


def refusal(*problems: Problem) -> Record:
    return make_refusal(
        problems or [Problem("no such file", "b.onnx")], ["a.keras", "b.onnx"], "parity compare a.keras b.onnx"
    )


def test_a_refused_comparison_is_written_everywhere(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended("compare", "five.npz", "seven.npz", "--lengths", "7,3", *FILES) == 2
    said = capsys.readouterr()
    assert said.out.splitlines() == ["report: r.html", "record: r.json", "tests: r.xml"]
    assert said.err.startswith("parity: the recurrent layers differ in kind, size or direction\n  where:")
    record = json.loads((folder / "r.json").read_text(encoding="utf-8"))
    PUBLISHED.validate(record)
    assert record["title"] == "five.npz and seven.npz"
    assert record["again"] == {"command": "parity compare five.npz seven.npz --lengths 7,3"}
    (problem,) = record["problems"]
    assert (problem["expected"], problem["got"]) == ("gru of 5 units, forward", "gru of 7 units, forward")
    suite = ElementTree.fromstring((folder / "r.xml").read_bytes())[0]
    assert [suite.attrib[name] for name in ("tests", "errors", "failures", "skipped")] == ["1", "1", "0", "0"]
    error = suite.find("testcase/error")
    assert error is not None
    assert error.attrib["message"] == record["sentence"]
    assert "expected: gru of 5 units" in str(error.text)
    assert str(error.text).endswith(f"run it again: {record['again']['command']}")
    page = (folder / "r.html").read_text(encoding="utf-8")
    assert "<title>refused: five.npz and seven.npz" in page
    main_part = page.partition("<main>")[2].partition("<script")[0]
    for text in (*problem.values(), record["again"]["command"], record["environment"]["packages"]["numpy"]):
        assert text in main_part


def test_the_page_is_drawn_again_from_the_record(folder: Path) -> None:
    assert ended("compare", "five.npz", "missing.onnx", *FILES) == 2
    assert ended("report", "r.json", "-o", "again.html") == 0
    assert (folder / "again.html").read_bytes() == (folder / "r.html").read_bytes()
    with pytest.raises(FormatError, match="no record of a version known here"):
        read_record(folder / "r.json")  # which is no comparison, such as a baseline has to be


def test_nothing_that_exists_is_lost_to_a_refusal(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "r.json").write_text("earlier")
    assert ended("compare", "five.npz", "seven.npz", *FILES) == 2
    assert (folder / "r.json").read_text() == "earlier"
    assert {path.name for path in folder.iterdir()} == {"five.npz", "seven.npz", "r.json"}
    assert "the file is there already" in capsys.readouterr().err


@pytest.mark.usefixtures("folder")
def test_every_file_that_is_missing_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended("compare", "nope.keras", "five.npz", "neither.onnx") == 2
    told = capsys.readouterr().err
    assert all(f"where:    {name}" in told for name in ("nope.keras", "neither.onnx"))


def test_with_overwrite_no_answer_of_an_earlier_run_stays(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A CI server would publish it as this run's; the baseline alone is kept, for the runs to come."""
    for name in ("r.json", "r.html", "r.xml"):
        (folder / name).write_text("earlier")
    assert ended("compare", "five.npz", "seven.npz", *FILES, "--overwrite") == 2
    assert json.loads((folder / "r.json").read_text())["verdict"] == "refused"
    assert all("earlier" not in (folder / name).read_text() for name in ("r.html", "r.xml"))
    (folder / "r.json").write_text("earlier")
    assert ended("compare", "five.npz", "seven.npz", *FILES, "--overwrite", "--baseline", "r.json") == 2
    assert (folder / "r.json").read_text() == "earlier"
    assert "record: r.json is the baseline, and kept" in capsys.readouterr().out


@pytest.mark.parametrize("wrong", [["--report", "no/r.html"], ["--report", "r.txt"], ["--unknown"]])
def test_a_refusal_of_the_target_or_of_the_words_writes_nothing(folder: Path, wrong: list[str]) -> None:
    assert ended("compare", "five.npz", "seven.npz", "--json", "r.json", *wrong) == 2
    assert {path.name for path in folder.iterdir()} == {"five.npz", "seven.npz"}


def test_what_cannot_be_written_is_said_beside_what_is_wrong(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    assert ended("compare", "five.npz", "seven.npz", "--json", "r.json") == 2
    said = capsys.readouterr().err
    assert "the recurrent layers differ" in said
    assert "No space left on device" in said
    assert {path.name for path in folder.iterdir()} == {"five.npz", "seven.npz"}


def test_one_file_that_cannot_be_written_loses_no_other(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = Path.write_text

    def no_pages(path: Path, *arguments: Any, **options: Any) -> int:
        if ".html." in path.name:
            raise OSError(28, "No space left on device")
        return whole(path, *arguments, **options)

    monkeypatch.setattr(Path, "write_text", no_pages)
    assert ended("compare", "five.npz", "--engines", "torch", "--time", "4", *FILES) == 2
    said = capsys.readouterr()
    assert "record: r.json\ntests: r.xml\n" in said.out
    assert said.err.startswith("parity: the file cannot be written\n  where:    r.html\n")
    assert read_record(folder / "r.json")["verdict"] == "agree"
    assert (folder / "r.xml").exists()


@pytest.mark.parametrize("command", ["compare", "diagnose"])
def test_what_cannot_be_written_is_said_before_anything_is_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    asked = [command, "five.npz", "seven.npz", "--json"]
    assert ended(*asked, f"{'n' * 300}.json") == 2
    said = capsys.readouterr().err
    assert said.startswith(f"parity: the file cannot be written\n  where:    {'n' * 300}.json\n")
    assert "the recurrent layers differ" not in said
    monkeypatch.setattr("os.access", lambda where, _: Path(where) != Path.cwd())
    assert ended(*asked, "r.json") == 2
    assert f"got:      {folder} is read-only\n" in capsys.readouterr().err
    assert {path.name for path in folder.iterdir()} == {"five.npz", "seven.npz"}


def test_a_refused_diagnosis_is_written_as_a_record(folder: Path) -> None:
    assert ended("diagnose", "five.npz", "missing.npz", "--no-pairs", "--seed", "3", "--json", "found.json") == 2
    record = json.loads((folder / "found.json").read_text(encoding="utf-8"))
    PUBLISHED.validate(record)
    assert record["problems"][0]["what"] == "no such file"
    assert record["again"]["command"] == "parity diagnose five.npz missing.npz --seed 3 --no-pairs"


def test_the_published_schema_is_one_and_refuses_other_records() -> None:
    Draft202012Validator.check_schema(PUBLISHED.schema)
    whole = refusal()
    PUBLISHED.validate(whole)
    assert PUBLISHED.schema["$id"] == f"urn:parity:refusal:{SCHEMA['version']}"
    for wrong in (
        {**whole, "schema": {**SCHEMA, "version": 99}},
        {**whole, "verdict": "disagree"},
        {**whole, "problems": []},
        {**whole, "problems": [{**whole["problems"][0], "more": 1}]},
        *({key: value for key, value in whole.items() if key != name} for name in whole),
    ):
        assert not PUBLISHED.is_valid(wrong)


def test_a_record_that_was_changed_by_hand_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text(to_json({**refusal(), "problems": [{"what": 1}]}), encoding="utf-8")
    with pytest.raises(FormatError, match=r"problems\[0\]"):
        read_any(path)
    with pytest.raises(FormatError, match="does not hold what a page needs"):
        render_refusal({**refusal(), "environment": {}})


def test_the_sentence_counts_the_problems() -> None:
    one, two = Problem("no such file"), Problem("another")
    assert refusal(one)["sentence"] == "a.keras and b.onnx could not be compared: no such file"
    assert refusal(one, two, two)["sentence"].endswith("no such file, and 2 more problems")
    assert make_refusal([one], [])["sentence"].startswith("nothing could be compared")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as found:
        yield found


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("refused")
    facts = {
        name: f"{HOSTILE} {name}\nand a second line, {'long ' * 30}" for name in ("where", "expected", "got", "remedy")
    }
    plain = refusal(Problem("no such file", "b.onnx", "a file", "nothing there", "check the name"), Problem("another"))
    hostile = make_refusal(
        [Problem(HOSTILE, **facts), Problem("x" * 400)], [HOSTILE, "b" * 200], f"parity compare '{HOSTILE}'"
    )
    for name, record in (("plain", plain), ("hostile", hostile)):
        PUBLISHED.validate(record)
        (folder / f"{name}.html").write_text(render_refusal(record), encoding="utf-8")
    return {name: folder / f"{name}.html" for name in ("plain", "hostile")}


@pytest.mark.parametrize("name", ["plain", "hostile"])
def test_the_page_is_whole_quiet_and_accessible(browser: Browser, pages: dict[str, Path], name: str) -> None:
    shown = open_page(browser, pages[name])
    page, wrong = shown.page, {}
    for width in (1400, 800, 390):
        for scheme in ("light", "dark"):
            page.set_viewport_size({"width": width, "height": 900})
            page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
            wrong[f"{width}, {scheme}"] = checked(page, LOOKS)
            if (width, scheme) in ((1400, "light"), (390, "dark")):
                wrong[f"{width}, {scheme}, rules"] = inaccessible(page)
    wrong["words"] = checked(page, WORDS)
    wrong["keyboard"] = unreachable(page)
    page.emulate_media(media="print")
    page.set_viewport_size({"width": A4, "height": 1000})
    wrong["paper"] = checked(page, LOOKS)
    assert {where: found for where, found in wrong.items() if found} == {}
    assert shown.messages == shown.foreign == []
    if name == "hostile":
        text = page.text_content("main") or ""
        assert page.locator("script:not(#record), img").count() == 0
        assert "<script>alert(1)</script>" in text
        assert visible("שלום \N{RIGHT-TO-LEFT OVERRIDE}txt") in text
    shown.context.close()


def test_hostile_names_in_xml_and_in_actions(tmp_path: Path) -> None:
    problems = [Problem(HOSTILE, HOSTILE, remedy=HOSTILE)]
    suite = ElementTree.fromstring(junit(make_refusal(problems, [HOSTILE])).encode())[0]
    assert suite.attrib["errors"] == "1"
    path = tmp_path / "summary.md"
    environ = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(path)}
    (line,) = refusal_in_actions([*problems, Problem("another")], "parity compare 'a```b'", environ)
    assert line.startswith("::error title=parity%3A refused::")
    assert line.endswith("%0Aanother")
    assert not {"\n", "\r", "\x1b"} & set(line)
    text = path.read_text(encoding="utf-8")
    assert "<script>" not in text
    assert "\n````\nparity compare 'a```b'\n````\n" in text
    assert "- remedy: &lt;script&gt;" in text
    assert refusal_in_actions(problems, environ={}) == []


@pytest.mark.parametrize("there", [True, False])
def test_a_refused_command_in_actions(
    folder: Path, there: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true" if there else "")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(folder / "summary.md"))
    assert ended("compare", "five.npz", "missing.onnx", "--json", "r.json") == 2
    said = capsys.readouterr()
    assert ("\n::error title=parity%3A refused::no such file%0A  where:    missing.onnx" in said.out) == there
    assert said.err.startswith("parity: no such file")
    assert (folder / "summary.md").exists() == there
    if there:
        text = (folder / "summary.md").read_text(encoding="utf-8")
        assert text.startswith("### ⛔ refused\n\n**no such file**\n- where: missing.onnx\n")
        assert "```\nparity compare five.npz missing.onnx --json r.json\n```" in text


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("there", [False, True])
def test_names_are_no_commands_in_what_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], there: bool
) -> None:
    if there:
        monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    hostile = "a\n::error title=owned::x\n  ::error::y\n##[error]z\r\x1b[31mred"
    for words in ((hostile + ".npz",), ("five.npz", "--device", hostile), ("--" + hostile.replace("=", " "),)):
        assert ended("compare", *words, "--time", "4") == 2
        said = capsys.readouterr()
        assert "red" in said.err
        assert not {"\x1b", "\r"} & set(said.err + said.out)
        assert [
            line for line in said.out.splitlines() if not line.startswith("::error title=parity%3A refused::")
        ] == []
        if there:
            assert "##[" not in said.err
            assert not any(line.strip().startswith("::") for line in said.err.splitlines())


@pytest.mark.usefixtures("folder")
def test_names_are_no_commands_in_what_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    hostile = "a\n ::error::x##[error]y\x1b[31m"
    terminal.say(hostile)
    terminal.show_json({"name": hostile})
    said = capsys.readouterr().out
    assert said.startswith("a\n \\x3a:error::x\\x23#[error]y\\x1b[31m\n")
    assert "##[" not in said
    assert json.loads(said[said.index("{") :]) == {"name": hostile}
    assert ended("inspect", "five.npz") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == f"::{lines[0].removeprefix('::stop-commands::')}::"
    assert len(lines) > 3


def test_a_diagnosis_in_actions(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = weights(5)
    wrong["weight_hh_l0"] = np.roll(wrong["weight_hh_l0"], 5, 0)
    np.savez(folder / "wrong.npz", **wrong)  # type: ignore[arg-type]
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(folder / "summary.md"))
    asked = ("diagnose", "five.npz", "wrong.npz", "--no-pairs", "--time", "4")
    assert ended(*asked) == 1
    plain = capsys.readouterr().out
    assert not (folder / "summary.md").exists()
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert ended(*asked) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("::stop-commands::")
    assert "\n".join(said[1:-2]) == plain.rstrip("\n")
    assert said[-1].startswith("::error title=parity diagnose%3A five.npz and wrong.npz::")
    cause = said[-1].rpartition("::")[2]
    assert plain.startswith(f"CAUSE {cause}")
    text = (folder / "summary.md").read_text(encoding="utf-8")
    assert text.startswith("### ❌ diagnosed: five.npz and wrong.npz\n\n**")
    assert "\nTo mend it:\n\n```python\n" in text


@pytest.mark.parametrize(
    ("diagnosis", "level", "sign"),
    [
        (Diagnosis("a", "b", True), "notice", "✅"),
        (Diagnosis("a", "b", True, left_out="the head"), "warning", "❔"),
        (Diagnosis("a", HOSTILE, False, evidence=(Evidence(HOSTILE, "", 1.0, 0.5, 3.0, False),)), "error", "❌"),
    ],
)
def test_what_a_diagnosis_is_in_actions(tmp_path: Path, diagnosis: Diagnosis, level: str, sign: str) -> None:
    path = tmp_path / "summary.md"
    (line,) = diagnosis_in_actions(diagnosis, {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(path)})
    assert line.startswith(f"::{level} title=parity diagnose%3A a and ")
    assert "\n" not in line
    text = path.read_text(encoding="utf-8")
    assert text.startswith(f"### {sign} ")
    assert "<script>" not in text
    assert diagnosis_in_actions(diagnosis, {}) == []
