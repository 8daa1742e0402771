"""JUnit XML as CI servers read it, and what GitHub Actions shows."""

from __future__ import annotations

import copy
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

from parity.cli import main
from parity.comparison import compare
from parity.errors import ParityError
from parity.github import commands_of, commands_stopped, data_of, markdown, show_in_actions, summary
from parity.junit import junit
from parity.report import Record, make_record

HOSTILE = "a<b>&\"'\x00\x1b[31m\ud800\ufffe\r\n::error::x | %0A `c` שלום"


def gru(change: float = 0.0) -> torch.nn.GRU:
    torch.manual_seed(1)
    layer = torch.nn.GRU(3, 5)
    with torch.no_grad():
        dict(layer.named_parameters())["weight_hh_l0"][7, 2] += change
    return layer


@pytest.fixture(scope="module")
def agreeing() -> Record:
    return make_record(compare(gru(), engines=["torch", "onnxruntime"]))


@pytest.fixture(scope="module")
def disagreeing() -> Record:
    return make_record(compare(gru(), gru(0.01)))


@pytest.fixture(scope="module")
def undecided() -> Record:
    torch.manual_seed(0)
    chaotic = torch.nn.LSTM(3, 32)
    with torch.no_grad():
        for weight in chaotic.parameters():
            weight.mul_(30)
    return make_record(compare(chaotic, engines=["torch"], time=60))


def suite_of(record: Record) -> ElementTree.Element:
    root = ElementTree.fromstring(junit(record).encode())
    assert root.tag == "testsuites"
    (suite,) = root
    assert [suite[0].tag, *{case.tag for case in suite[1:]}] == ["properties", "testcase"]
    for name, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        assert int(suite.attrib[name]) == len(suite.findall(f"testcase/{tag}"))
    assert int(suite.attrib["tests"]) == len(suite.findall("testcase"))
    names = [(case.attrib["classname"], case.attrib["name"]) for case in suite.findall("testcase")]
    assert len(set(names)) == len(names)
    return suite


def test_a_case_for_every_quantity_pair_and_rule(agreeing: Record) -> None:
    suite = suite_of(agreeing)
    cases = {(case.attrib["classname"].rpartition(".")[2], case.attrib["name"]) for case in suite.findall("testcase")}
    assert len(cases) == len(agreeing["rows"]) == 10
    assert ("torch against the float64 reference", "h_n after one step") in cases
    assert ("torch against onnxruntime", "sequence over the run") in cases
    assert {suite.attrib[name] for name in ("failures", "errors", "skipped")} == {"0"}
    properties = {one.attrib["name"]: one.attrib["value"] for one in suite[0]}
    assert properties["version.torch"] == torch.__version__
    assert properties["verdict"] == "agree"
    assert properties["inputs.sha256"] == agreeing["inputs"]["sha256"]


def test_what_disagrees_is_a_failure_with_place_cause_and_how_to_run_it_again(disagreeing: Record) -> None:
    suite = suite_of(disagreeing)
    bad = [row for row in disagreeing["rows"] if row["verdict"] == "disagree"]
    assert int(suite.attrib["failures"]) == len(bad) > 0
    failure = suite.find("testcase/failure")
    assert failure is not None
    assert failure.attrib["type"] == "disagree"
    assert "times the float32 floor, where" in failure.attrib["message"]
    assert failure.text is not None
    for part in (
        bad[0]["text"],
        "cause: ",
        "run it again:\n# source_1 is ",
        "\nparity.compare(",
        "elements outside the limit",
    ):
        assert part in failure.text


def test_what_is_undecided_is_skipped(undecided: Record) -> None:
    suite = suite_of(undecided)
    open_rows = [row for row in undecided["rows"] if row["verdict"] == "undecided"]
    assert int(suite.attrib["skipped"]) == len(open_rows) > 0
    assert suite.attrib["failures"] == "0"


def test_a_failed_engine_is_an_error_and_a_whole_that_no_row_explains_is_skipped(agreeing: Record) -> None:
    suite = suite_of({**agreeing, "verdict": "undecided", "failures": {"keras": "signal SIGABRT"}})
    assert (suite.attrib["errors"], suite.attrib["skipped"]) == ("1", "0")
    silent = compare(gru(), engines=["torch"], lengths=[0, 0], time=4)
    assert silent.verdict == "undecided"
    suite = suite_of(make_record(silent))
    assert suite.attrib["skipped"] == "1"
    assert suite.find("testcase[@name='can be decided']/skipped") is not None


def test_names_that_xml_does_not_allow_are_written_as_codes(disagreeing: Record) -> None:
    record = copy.deepcopy(disagreeing)
    record["title"] = HOSTILE
    record["rows"][0]["quantity"] = record["rows"][0]["text"] = HOSTILE
    suite = suite_of(record)
    shown = "a<b>&\"'#x00#x1B[31m#xD800#xFFFE"
    assert suite.attrib["name"].startswith(f"parity: {shown}")
    assert any(case.attrib["name"].startswith(shown) for case in suite.findall("testcase"))


def test_saved_and_not_overwritten_unasked(tmp_path: Path) -> None:
    compared = compare(gru(), engines=["torch"])
    path = compared.save_junit(tmp_path / "r.xml")
    assert path.read_text(encoding="utf-8") == junit(make_record(compared))
    with pytest.raises(ParityError, match="is there already"):
        compared.save_junit(path)
    assert compared.save_junit(path, overwrite=True) == path


@pytest.mark.parametrize(
    ("name", "level"), [("agreeing", "notice"), ("disagreeing", "error"), ("undecided", "warning")]
)
def test_an_annotation_for_every_verdict(name: str, level: str, request: pytest.FixtureRequest) -> None:
    record = request.getfixturevalue(name)
    (line,) = commands_of(record)
    assert line.startswith(f"::{level} title=parity%3A {record['verdict']}%3A ")
    assert record["sentence"] in line
    assert ("ause: " in line) == (name == "disagreeing")


def test_names_cannot_leave_an_annotation_or_the_table(disagreeing: Record) -> None:
    record = copy.deepcopy(disagreeing)
    record["title"] = record["sentence"] = record["rows"][0]["quantity"] = HOSTILE
    (line,) = commands_of(record)
    assert "\n" not in line
    assert "\r" not in line
    title = line.removeprefix("::error title=").partition("::")[0]
    assert not set(",:") & set(title)
    assert "%0D%0A" in title
    assert "%250A" in title
    text = summary(record)
    assert "<b>" not in text
    assert "a&lt;b&gt;&amp;" in text
    table = [row for row in text.splitlines() if row.startswith("|")]
    assert len({row.replace("\\|", "").count("|") for row in table}) == 1


def test_a_summary_is_appended_in_actions_and_nowhere_else(disagreeing: Record, tmp_path: Path) -> None:
    path = tmp_path / "summary.md"
    path.write_text("before\n", encoding="utf-8")
    assert show_in_actions(disagreeing, {"GITHUB_STEP_SUMMARY": str(path)}) == []
    assert path.read_text(encoding="utf-8") == "before\n"
    environ = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(path)}
    assert show_in_actions(disagreeing, environ) == commands_of(disagreeing)
    text = path.read_text(encoding="utf-8")
    assert text.startswith("before\n### ")
    assert markdown(disagreeing["sentence"]) in text
    assert markdown(disagreeing["diagnosis"]["cause"]) in text
    assert show_in_actions(disagreeing, {"GITHUB_ACTIONS": "true"}) == commands_of(disagreeing)


def test_a_summary_that_cannot_be_written_fails_nothing(agreeing: Record, tmp_path: Path) -> None:
    lines = show_in_actions(agreeing, {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(tmp_path / "no" / "s.md")})
    assert lines[0] == commands_of(agreeing)[0]
    assert lines[1].startswith("::warning title=parity%3A no summary::")


def test_a_large_summary_shows_what_disagrees(disagreeing: Record) -> None:
    good = next(row for row in disagreeing["rows"] if row["verdict"] == "agree" and row["right"] == "reference")
    rows = [{**good, "quantity": f"layer {number}"} for number in range(500)]
    text = summary({**disagreeing, "rows": [*rows, *disagreeing["rows"]]})
    assert text.count("\n|") < 70
    assert "❌" in text.partition("|---|")[2]
    assert "more quantities are not shown" in text


@pytest.mark.parametrize("there", [True, False])
def test_the_command_line_in_actions(
    there: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, layer in (("right", gru()), ("wrong", gru(0.01))):
        torch.save(layer.state_dict(), tmp_path / f"{name}.pt")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    monkeypatch.setenv("GITHUB_ACTIONS", "true" if there else "")
    with pytest.raises(SystemExit) as stop:
        main(["compare", str(tmp_path / "right.pt"), str(tmp_path / "wrong.pt"), "--junit", str(tmp_path / "r.xml")])
    assert stop.value.code == 1
    out = capsys.readouterr().out
    assert ("\n::error title=parity%3A disagree%3A right.pt and wrong.pt::" in out) == there
    assert out.startswith("::stop-commands::") == there
    assert (tmp_path / "summary.md").exists() == there
    suite = ElementTree.fromstring((tmp_path / "r.xml").read_bytes())[0]
    assert int(suite.attrib["failures"]) > 0


def test_commands_in_names_are_not_taken_for_commands() -> None:
    lines: list[str] = []
    with commands_stopped(lines.append, {"GITHUB_ACTIONS": "true"}):
        lines.append("::error::a layer")
    token = lines[0].removeprefix("::stop-commands::")
    assert len(token) == 32
    assert lines == [f"::stop-commands::{token}", "::error::a layer", f"::{token}::"]


def test_what_could_not_be_compared_is_an_annotation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for there in (True, False):
        monkeypatch.setenv("GITHUB_ACTIONS", "true" if there else "")
        with pytest.raises(SystemExit) as ended:
            main(["compare", "missing.keras", "missing.onnx"])
        assert ended.value.code == 2
        said = capsys.readouterr()
        assert said.out.startswith("::error title=parity%3A refused::no such file") == there, said.out
        assert said.err.startswith("parity: no such file")


def test_names_command_neither_the_log_nor_the_summary() -> None:
    name = "e\x1b[31mred"
    assert "\x1b" not in data_of(name) + markdown(name)
    assert markdown("# title").startswith("\\#")
