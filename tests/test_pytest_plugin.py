"""The pytest plugin, as people meet it: files of tests are run by a pytest of their own."""

from __future__ import annotations

import contextvars
import html
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from importlib import resources
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import torch
from jsonschema import Draft202012Validator
from playwright.sync_api import Browser

import parity as package
from parity import testing
from parity.comparison import Comparison, compare
from parity.diagnosis import Diagnosis
from parity.errors import ParityError, Problem
from parity.frameworks import ENGINES, KERAS_BACKENDS, framework
from parity.pytest_plugin.annotating import annotations_of
from parity.pytest_plugin.journal import Journal, new_token
from parity.pytest_plugin.recording import Entry, Recorder, slug
from parity.pytest_plugin.requirements import PACKAGES, installed, missing
from parity.pytest_plugin.session import SCHEMA, Comparisons, Session, render
from parity.report import render_record
from parity.report.reading import read_any
from parity.report.refusal import make_refusal, render_refusal
from parity.report.templating import visible
from parity.testing import accepted, assert_parity, in_words, watching
from tests.browsing import A4, LOOKS, WORDS, checked, inaccessible, launched, open_page, unreachable

pytest_plugins = ["pytester"]

PUBLISHED = Draft202012Validator(
    json.loads((resources.files("parity") / "pytest_plugin" / "index.schema.json").read_text(encoding="utf-8"))
)

# Whether the metadata of this checkout's installation know the plugin or not, it is there once.
PLUGIN = ("-p", "no:parity", "-p", "parity.pytest_plugin", "-p", "no:cacheprovider")

MODELS = """
import copy
import pytest
import torch
import parity as package

def gru(units=5, seed=0):
    torch.manual_seed(seed)
    return torch.nn.GRU(3, units)

def swapped():
    bad = copy.deepcopy(gru())
    with torch.no_grad():
        for parameter in bad.parameters():
            r, z, n = parameter.chunk(3)
            parameter.copy_(torch.cat([z, r, n]))
    return bad

def chaotic():
    torch.manual_seed(0)
    made = torch.nn.LSTM(3, 32)
    with torch.no_grad():
        for weight in made.parameters():
            weight.mul_(30)
    return made
"""


@pytest.fixture(scope="module", autouse=True)
def loaded() -> Comparison:
    """Everything is imported before a pytest inside of this one begins, for what that imports is forgotten with it."""
    for engine, name in ENGINES.items():
        if name in sys.modules:
            framework(engine)
    right = torch.nn.GRU(3, 5)
    wrong = torch.nn.GRU(3, 5)
    wrong.load_state_dict({name: one.roll(5, 0) for name, one in right.state_dict().items()})
    compared = compare(right, wrong)
    assert in_words(compared)
    assert render_record(compared.record)
    assert render_refusal(make_refusal([Problem("no such file")], []))
    assert render([], {}, "")
    assert not [*annotations_of(Comparisons(), Path())]
    return compared


@pytest.fixture
def known(loaded: Comparison, monkeypatch: pytest.MonkeyPatch) -> Diagnosis:
    """The diagnosis of every comparison that disagrees: one that was worked out before."""
    found = loaded.diagnosis
    assert found is not None
    assert found.found
    monkeypatch.setattr("parity.comparison.diagnosis_of", lambda one: None if one.verdict != "disagree" else found)
    return found


def run(pytester: pytest.Pytester, source: str, *arguments: str) -> pytest.RunResult:
    """The outcome of a file of tests that begins with the models above."""
    pytester.makepyfile(test_port=MODELS + source)
    return pytester.runpytest_inprocess(*PLUGIN, *arguments)


def listed(folder: Path) -> list[dict[str, object]]:
    """The comparisons that a session's list holds."""
    plain = json.loads((folder / "index.json").read_text())
    PUBLISHED.validate(plain)
    comparisons: list[dict[str, object]] = plain["comparisons"]
    return comparisons


def test_the_published_schema_is_one_and_refuses_other_lists() -> None:
    Draft202012Validator.check_schema(PUBLISHED.schema)
    entry: dict[str, object] = {**asdict(Entry("test_a.py::test_b", 1, "agree", "They agree.")), "outcome": "passed"}
    whole: dict[str, object] = {"schema": SCHEMA, "command": "pytest", "verdicts": {"agree": 1}, "comparisons": [entry]}
    assert PUBLISHED.is_valid(whole)
    assert PUBLISHED.schema["$id"] == f"urn:parity:session:{SCHEMA['version']}"
    for wrong in (
        {**whole, "schema": {"name": SCHEMA["name"], "version": 99}},
        {**whole, "verdicts": {"fine": 1}},
        {key: value for key, value in whole.items() if key != "command"},
        *(
            {**whole, "comparisons": [{**entry, **other}]}
            for other in ({"verdict": "fine"}, {"page": "../a"}, {"more": 1})
        ),
        *({**whole, "comparisons": [{k: v for k, v in entry.items() if k != name}]} for name in entry),
    ):
        assert not PUBLISHED.is_valid(wrong)


def test_what_agrees_passes_and_nothing_is_written(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
def test_port(parity):
    compared = parity.compare(gru(), engines=["torch"])
    assert isinstance(compared, package.Comparison) and compared.ok
    assert parity.assert_parity(gru(), engines=["torch"]).verdict == "agree"
    assert parity.read(gru()).recurrent[0].name == "gru"     # all else of the module that it hides
    assert parity.record(compared) is compared

def test_by_the_module():
    assert package.assert_parity(gru(), engines=["torch"]).ok

def test_attributes(parity):
    with pytest.raises(AttributeError):
        parity.to_caffe
""",
    )
    result.assert_outcomes(passed=3)
    assert [path.name for path in pytester.path.iterdir() if path.name != "__pycache__"] == ["test_port.py"]


def test_the_message_of_a_failure_is_full(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
def test_bad(parity):
    parity.assert_parity(gru(), swapped())

def test_by_the_module():
    package.assert_parity(gru(), swapped())
""",
        "--parity-report",
        "out",
    )
    result.assert_outcomes(failed=2)
    page = pytester.path / "out" / f"{slug('test_port.py::test_bad')}.html"
    assert page.is_file()
    result.stdout.fnmatch_lines(
        [
            "E   *AssertionError: GRU 'gru' (torch) #2 disagrees with the reference of GRU 'gru' (torch): * times the float32 floor*",
            "E  *quantity*of*rule*largest difference*at*values*largest against the floor*at",
            "E  *sequence*GRU 'gru' (torch) #2 and reference*run*batch *hidden * and *x, 2x allowed*batch *",
            "E  *sequence*one step*",
            "E  *Likely cause: GRU 'gru' has the gates of its weights in the order z r n *, where r z n belongs*layer 'gru'*",
            "E  *To mend it:",
            "E  *Run it again:",
            "E  *# source_1 is GRU 'gru' (torch), the first that was given",
            "E  *# source_2 is GRU 'gru' (torch) #2, the second that was given",
            "E  *parity.compare(source_1, source_2, batch=3, time=17, seed=0)",
            "E  *pytest test_port.py::test_bad",
            f"E  *Report: {page}",
            "test_port.py:*: AssertionError",
            "*- parity -*",
            f"Report: {page}",
            "E  *pytest test_port.py::test_by_the_module",
        ]
    )
    result.stdout.no_fnmatch_line("*recording.py:*")


def test_a_failure_by_the_tests_own_words_shows_the_comparison(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
def test_own(parity):
    assert parity.compare(gru(), engines=["torch"]).ok
    assert parity.compare(gru(), swapped()).ok
""",
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*- parity -*", "torch agrees with*", "GRU * disagrees *", "Likely cause: *"])


def test_undecided(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
def test_fails(parity):
    parity.assert_parity(chaotic(), engines=["torch"], time=120)

@pytest.mark.parametrize("undecided", ["pass", "fail", "perhaps"])
def test_accepted(parity, undecided):
    parity.assert_parity(chaotic(), engines=["torch"], time=120, undecided=undecided)
""",
    )
    result.assert_outcomes(passed=1, failed=3)
    result.stdout.fnmatch_lines(
        ["E  *AssertionError: Undecided: torch agrees * up to step * of 120*", 'E  *accept it with undecided="pass".']
    )
    result.stdout.fnmatch_lines(["E  *ParityError: what becomes of an undecided comparison?", "E  *got:*'perhaps'"])


def test_an_engine_that_failed_is_never_accepted() -> None:
    compared = compare(torch.nn.GRU(3, 5), engines=["torch"])
    assert accepted(compared) is compared
    compared.judgement.failures["onnxruntime"] = "ended unexpectedly"
    assert compared.verdict == "undecided"
    with pytest.raises(AssertionError, match=r"onnxruntime failed(.|\n)*proves nothing"):
        accepted(compared, "pass")


def test_names_cannot_command_the_terminal() -> None:
    compared = compare(torch.nn.GRU(3, 5), torch.nn.GRU(3, 5))
    object.__setattr__(compared, "notes", ("\x1b[2J \u202e",))
    assert "note: \\x1b[2J \\u202e" in in_words(compared)


def test_many_rows_are_cut_to_the_worst() -> None:
    compared = compare(torch.nn.GRU(3, 5), torch.nn.GRU(3, 5))
    first = next(row for row in compared.table if row.verdict == "disagree")
    rows = [replace(first, quantity=f"q{n:02}", times_floor=n + 3.0) for n in (*range(10, 20), *range(10))]
    rows[4] = replace(rows[4], times_floor=float("nan"))
    text = in_words(replace(compared, judgement=replace(compared.judgement, rows=tuple(rows))))
    assert "and 8 more, less far off" in text
    shown = [line.split()[0] for line in text.splitlines() if line.startswith("  q") and line[3:5].isdigit()]
    assert shown == [*(f"q{n}" for n in range(10, 20)), "q08", "q09"]


def test_the_report_of_a_session(pytester: pytest.Pytester, known: Diagnosis) -> None:
    result = run(
        pytester,
        """
def test_good(parity):
    parity.assert_parity(gru(), engines=["torch"])
    parity.assert_parity(gru(7), engines=["torch"])

def test_bad(parity):
    parity.assert_parity(gru(), swapped())

@pytest.mark.xfail
def test_known(parity):
    parity.assert_parity(gru(), gru(5, 1))

def test_expected(parity):
    assert not parity.compare(gru(), gru(5, 2)).ok

def test_undecided(parity):
    parity.assert_parity(chaotic(), engines=["torch"], time=120, undecided="pass")

def test_refused(parity):
    with pytest.raises(parity.ShapeError):
        parity.compare(gru(), gru(7))

@pytest.fixture
def checked(parity):
    return parity.compare(gru(), engines=["torch"])

def test_late(checked):
    assert checked.verdict == "disagree"
""",
        "--parity-report=a folder/out",
        "--junitxml=junit.xml",
    )
    result.assert_outcomes(passed=4, failed=2, xfailed=1)
    folder = pytester.path / "a folder" / "out"
    result.stdout.fnmatch_lines(
        [f"*parity report: {folder / 'index.html'}*", "8 comparisons: 3 disagree, 1 refused, 1 undecided, 3 agree"]
    )
    entries = listed(folder)
    assert [entry["verdict"] for entry in entries] == [*["disagree"] * 3, "refused", "undecided", *["agree"] * 3]
    floors = [float(str(entry["times_floor"])) for entry in entries if entry["verdict"] == "disagree"]
    assert floors == sorted(floors, reverse=True)
    outcomes = {str(entry["test"]).partition("::test_")[2]: entry["outcome"] for entry in entries}
    assert outcomes == {
        "good": "passed",
        "bad": "failed",
        "known": "xfailed",
        "expected": "passed",
        "undecided": "passed",
        "refused": "passed",
        "late": "failed",
    }
    assert [entry["number"] for entry in entries if str(entry["test"]).endswith("good")] in ([1, 2], [2, 1])
    page = (folder / "index.html").read_text()
    for entry in entries:
        assert f'href="{entry["page"]}"' in page
        assert f'href="{entry["record"]}"' in page
        record = read_any(folder / str(entry["record"]))
        assert record["verdict"] == entry["verdict"]
        assert f"<title>{entry['verdict']}" in (folder / str(entry["page"])).read_text()
        assert entry["fixture"] == ("checked" if str(entry["test"]).endswith("late") else "")
        if entry["verdict"] == "refused":
            assert "the recurrent layers differ" in str(entry["sentence"])
            assert entry["title"] == "GRU and GRU #2"
            assert record["again"]["command"] == "pytest test_port.py::test_refused"
    assert {path.name for path in folder.iterdir()} == {
        "index.html",
        "index.json",
        *(str(entry[kind]) for entry in entries for kind in ("page", "record") if entry[kind]),
    }
    assert known.cause in html.unescape(page)
    cases = {case.get("name"): case for case in ET.parse(pytester.path / "junit.xml").iter("testcase")}
    properties = {one.get("name"): one.get("value") for one in cases["test_bad"].iter("property")}
    assert properties["parity.1.verdict"] == "disagree"
    assert properties["parity.1.record"] == str(folder / f"{slug('test_port.py::test_bad')}.json")
    assert Path(str(properties["parity.1.report"])).is_file()
    assert {one.get("name") for one in cases["test_good"].iter("property")} >= {"parity.1.verdict", "parity.2.verdict"}
    assert "Report: " in "".join(cases["test_bad"].itertext())


AGREES = """
def test_one(parity):
    parity.assert_parity(gru(), engines=["torch"])

def test_two(parity):
    assert not parity.compare(gru(), swapped()).ok
"""


@pytest.mark.usefixtures("known")
def test_another_session_replaces_its_own_files_and_no_others(pytester: pytest.Pytester) -> None:
    folder = pytester.path / "out"
    run(pytester, AGREES, "--parity-report", "out").assert_outcomes(passed=2)
    first = {path.name for path in folder.iterdir()}
    assert len(first) == 6
    mine = folder / "mine.html"
    mine.write_text("mine")
    taken = folder / f"{slug('test_port.py::test_one')}-2.json"
    taken.write_text("mine")
    run(pytester, AGREES, "--parity-report", "out", "-k", "one").assert_outcomes(passed=1, deselected=1)
    left = {path.name for path in folder.iterdir()} - {mine.name, taken.name}
    assert left == {name for name in first if "two" not in name}
    assert mine.read_text() == taken.read_text() == "mine"
    before = (folder / "index.html").read_bytes()
    run(pytester, AGREES, "--parity-report", "out", "--collect-only")
    assert (folder / "index.html").read_bytes() == before


def test_comparisons_of_one_name_are_not_written_over(pytester: pytest.Pytester) -> None:
    source = """
def test_one(parity):
    for _ in range(3):
        parity.compare(gru(), engines=["torch"])
"""
    (pytester.path / "out").mkdir()
    mine = pytester.path / "out" / f"{slug('test_port.py::test_one')}-2.json"
    mine.write_text("mine")
    run(pytester, source, "--parity-report", "out").assert_outcomes(passed=1)
    stem = slug("test_port.py::test_one")
    assert sorted(str(entry["page"]) for entry in listed(pytester.path / "out")) == [
        f"{stem}-3.html",
        f"{stem}-4.html",
        f"{stem}.html",
    ]
    assert mine.read_text() == "mine"


def test_a_file_that_cannot_be_collected_hides_no_comparisons(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_broken="raise ValueError")
    good = "def test_one(parity): parity.assert_parity(gru(), engines=['torch'])"
    run(pytester, good, "--parity-report", "compared", "--continue-on-collection-errors")
    assert "1 agree" in (pytester.path / "compared" / "index.html").read_text(encoding="utf-8")


def test_a_refusal_is_told_at_the_line_of_the_test(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_port(parity):\n    parity.assert_parity('nope.keras')\n")
    told = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    told.assert_outcomes(failed=1)
    told.stdout.fnmatch_lines(["*no such file*", "*nope.keras*", "test_*.py:2: ParityError"])
    assert "sources.py" not in told.stdout.str()


@pytest.mark.parametrize(("name", "text"), [("index.html", "mine"), ("index.json", '{"schema": {"name": "x"}}')])
def test_a_folder_of_something_else_is_refused(pytester: pytest.Pytester, name: str, text: str) -> None:
    (pytester.path / "site").mkdir()
    (pytester.path / "site" / name).write_text(text)
    result = run(pytester, AGREES, "--parity-report", "site")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --parity-report: the folder holds something else", "*remedy:*"])
    assert [path.read_text() for path in (pytester.path / "site").iterdir()] == [text]


def test_a_list_cannot_have_other_files_removed(pytester: pytest.Pytester) -> None:
    folder = pytester.path / "out"
    session = Session(folder)
    session.prepare()
    session.write()
    for name in ("../kept-01234567.html", "kept.html", "/kept-01234567.html"):
        entries = [{"page": name, "record": name}]
        (folder / "index.json").write_text(json.dumps({"schema": {"name": "parity.session"}, "comparisons": entries}))
        for kept in (pytester.path / "kept-01234567.html", folder / "kept.html"):
            kept.write_text("kept")
        session.begin()
        assert (pytester.path / "kept-01234567.html").is_file()
        assert (folder / "kept.html").is_file()


def test_a_report_that_cannot_be_written_fails_the_session(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
import shutil

def test_nothing_compared(tmp_path):
    shutil.rmtree("out")
""",
        "--parity-report=out",
    )
    assert result.ret == pytest.ExitCode.INTERNAL_ERROR
    result.stdout.fnmatch_lines(["*parity report not written*", "no such folder*"])
    (pytester.path / "file").write_text("")
    result = run(pytester, AGREES, "--parity-report=file")
    assert result.ret == pytest.ExitCode.USAGE_ERROR


def test_a_session_without_comparisons_says_so(pytester: pytest.Pytester) -> None:
    run(pytester, "def test_nothing(): pass", "--parity-report=out").assert_outcomes(passed=1)
    assert "No test of this session compared anything" in (pytester.path / "out" / "index.html").read_text()


LIGHT = """
import os
import threading
import pytest
from parity import assert_parity

ONE = {"engines": ["reference"], "batch": 1, "time": 3}     # which imports no framework

@pytest.mark.parametrize("number", range(2))
def test_many(parity, number, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    parity.assert_parity(RIGHT, **ONE)

def test_bad():
    assert_parity(RIGHT, WRONG, **ONE)

def test_thread(parity):
    thread = threading.Thread(target=assert_parity, args=(RIGHT,), kwargs=ONE)
    thread.start()
    thread.join()

@pytest.fixture(scope="session")
def checked():
    assert_parity(RIGHT, **ONE)

def test_dies(checked):
    assert_parity(RIGHT, **ONE)
    os._exit(7)
"""


def test_workers_hand_their_comparisons_on_and_one_that_dies_loses_none(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(0)
    shapes = {"weight_ih_l0": (15, 3), "weight_hh_l0": (15, 5), "bias_ih_l0": (15,), "bias_hh_l0": (15,)}
    weights = {name: random.uniform(-1, 1, shape).astype(np.float32) for name, shape in shapes.items()}
    paths = [str(pytester.path / f"{name}.npz") for name in ("right", "wrong")]
    np.savez(paths[0], **weights)  # type: ignore[arg-type]
    np.savez(paths[1], **{**weights, "bias_ih_l0": weights["bias_ih_l0"] + 0.01})  # type: ignore[arg-type]
    pytester.makepyfile(test_port=f"RIGHT, WRONG = {paths!r}\n{LIGHT}")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_WORKSPACE", str(pytester.path))
    alone = ("-p", "no:hypothesispytest", "-n2", "--max-worker-restart=0")
    result = pytester.runpytest_subprocess(*PLUGIN, *alone, "--parity-report=out", "--junitxml=junit.xml")
    result.assert_outcomes(passed=3, failed=2)
    entries = listed(pytester.path / "out")
    found = sorted(
        (str(entry["test"]).partition("::test_")[2], entry["verdict"], entry["outcome"]) for entry in entries
    )
    assert found == [
        ("bad", "disagree", "failed"),
        *[("dies", "agree", "error")] * 2,
        ("many[0]", "agree", "passed"),
        ("many[1]", "agree", "passed"),
        ("thread", "agree", "passed"),
    ]
    assert [entry["test"] for entry in entries if entry["fixture"] == "checked"] == ["test_port.py::test_dies"]
    assert len({entry["page"] for entry in entries}) == 6
    there = {path.name for path in (pytester.path / "out").iterdir()}
    named = {str(entry[kind]) for entry in entries for kind in ("page", "record")}
    assert there == {"index.html", "index.json", *named}
    result.stdout.fnmatch_lines(["E  *Likely cause: *", "*parity report: *index.html*", "6 comparisons: *"])
    assert (pytester.path / "junit.xml").read_text().count("parity.1.record") == 4
    (told,) = [line for line in result.outlines if line.startswith("::")]
    assert told.startswith("::error file=test_port.py,line=")
    assert "%3A%3Atest_bad::" in told


def test_what_an_earlier_session_left_unfinished_is_removed(tmp_path: Path) -> None:
    """Of a session whose process was killed there is no index, but its journal says which files are its own."""
    folder = tmp_path / "out"
    folder.mkdir()
    own = [f"a-01234567.{suffix}" for suffix in ("html", "json")]
    for name in (*own, "kept.html", ".session-notes.jsonl"):
        (folder / name).write_text("written")
    (tmp_path / "kept-01234567.html").write_text("kept")
    killed = Journal(folder, new_token())
    killed.write(asdict(Entry("t", 1, "agree", "", page=own[0], record=own[1])))
    killed.write({"page": "../kept-01234567.html", "record": "kept.html"})
    with next(folder.glob(".session-*-*.jsonl")).open("a") as file:
        file.write('{"test": "half a li')
    session = Session(folder)
    session.prepare()
    session.begin()
    assert {path.name for path in folder.iterdir()} == {"kept.html", ".session-notes.jsonl"}
    assert (tmp_path / "kept-01234567.html").read_text() == "kept"
    session.write()
    assert listed(folder) == []


ELSEWHERE = """
import threading

@pytest.fixture(scope="session")
def by_the_fixture(parity):
    return parity.compare(gru(), engines=["torch"])

@pytest.fixture(scope="module")
def by_the_module():
    return package.assert_parity(gru(), engines=["torch"])

@pytest.fixture
def inner(by_the_module):
    package.assert_parity(gru(7), engines=["torch"])
    yield
    package.assert_parity(gru(8), engines=["torch"])

def test_fixtures(by_the_fixture, inner):
    pass

def test_threads(parity):
    made = []
    for ask in (package.assert_parity, parity.compare):
        thread = threading.Thread(target=lambda: made.append(ask(gru(), engines=["torch"])))
        thread.start()
        thread.join()
    assert len(made) == 2

late = threading.Event()

def outlive():
    late.wait()
    package.assert_parity(gru(9), engines=["torch"])

def test_late():
    import contextvars
    global thread
    thread = threading.Thread(target=contextvars.copy_context().run, args=(outlive,))
    thread.start()

def test_last():
    late.set()
    thread.join()
"""


def test_comparisons_of_fixtures_and_threads_are_collected(pytester: pytest.Pytester) -> None:
    run(pytester, ELSEWHERE, "--parity-report=out").assert_outcomes(passed=4)
    found = sorted(
        (str(one["test"]).partition("::test_")[2], str(one["fixture"])) for one in listed(pytester.path / "out")
    )
    fixtures = [("fixtures", name) for name in ("by_the_fixture", "by_the_module", "inner", "inner")]
    assert found == [*fixtures, ("late", ""), ("threads", ""), ("threads", "")]
    assert {one["outcome"] for one in listed(pytester.path / "out")} == {"passed"}
    assert "by the fixture <bdi>by_the_module</bdi>" in (pytester.path / "out" / "index.html").read_text()


OUTLIVING = """
import threading

go, done = threading.Event(), threading.Event()

@pytest.fixture(scope="session")
def port(parity):
    yield
    parity.compare(gru(), swapped(), engines=["torch"])

@pytest.fixture
def own(parity):
    yield
    parity.compare(gru(8), engines=["torch"])

def test_begins(parity, port, own):
    def work():
        go.wait()
        parity.compare(gru(), swapped(), engines=["torch"])
        done.set()
    threading.Thread(target=work).start()

def test_innocent():
    go.set()
    done.wait()

def test_last():
    pass
"""


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize("report", [True, False])
def test_what_no_test_compared_is_held_against_none(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, report: bool
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    result = run(pytester, OUTLIVING, *(["--parity-report=out"] if report else []))
    result.assert_outcomes(passed=3)
    said = [line for line in result.outlines if line.startswith("::")]
    thread = "in a thread that began in test_port.py::test_begins"
    teardown = "in the teardown of the fixture port"
    assert sorted(line.partition(" ")[0] for line in said) == ["::error", "::notice"]
    assert not [line for line in said if "file=" in line or "test_innocent" in line or "test_last" in line]
    if report:
        entries = listed(pytester.path / "out")
        found = {(str(one["test"]), one["fixture"], one["outside"], one["outcome"]) for one in entries}
        own = ("test_port.py::test_begins", "own", "", "passed")
        assert found == {("", "", thread, ""), ("", "port", teardown, "passed"), own}
        text = (pytester.path / "out" / "index.html").read_text()
        assert all(f"<bdi>outside of tests, {words}</bdi>" in text for words in (thread, teardown))
        assert not [*(pytester.path / "out").glob("*innocent*"), *(pytester.path / "out").glob("*last*")]


ANNOTATED = """
def test_bad(parity):
    parity.assert_parity(gru(), swapped())

def test_expected(parity):
    assert not parity.compare(gru(), swapped()).ok

def test_undecided(parity):
    parity.assert_parity(chaotic(), engines=["torch"], time=120)

def test_refused(parity):
    parity.compare(gru(), gru(7))

def test_good(parity):
    parity.assert_parity(gru(), engines=["torch"])
"""


@pytest.mark.parametrize("more", [(), ("--parity-report=out",)])
@pytest.mark.parametrize("there", ["true", "false"])
def test_annotations_in_actions(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, known: Diagnosis, more: tuple[str, ...], there: str
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", there)
    monkeypatch.setenv("GITHUB_WORKSPACE", str(pytester.path.parent))
    result = run(pytester, ANNOTATED, *more)
    result.assert_outcomes(passed=2, failed=3)
    told = [line for line in result.outlines if line.startswith("::")]
    if there == "false":
        assert told == []
        return
    source = (MODELS + ANNOTATED).strip().splitlines()
    lines = {
        name: source.index(f"def test_{name}(parity):") + 1 for name in ("bad", "expected", "refused", "undecided")
    }
    file = f"file={pytester.path.name}/test_port.py"
    title = "title=parity%3A {}%3A test_port.py%3A%3Atest_{}"
    assert [line.split("::")[1] for line in told] == [
        f"{level} {file},line={lines[name]},{title.format(verdict, name)}"
        for level, verdict, name in (
            ("error", "disagree", "bad"),
            ("notice", "disagree", "expected"),
            ("error", "refused", "refused"),
            ("warning", "undecided", "undecided"),
        )
    ]
    (bad,) = [line for line in told if "test_bad::" in line]
    assert "disagrees with the reference" in bad
    assert known.cause in bad
    (expected,) = [line for line in told if "test_expected::" in line]
    assert expected.endswith("The test: passed.")


MARKED = """
@pytest.mark.parity_engines("keras", "onnxruntime")
def test_engines():
    pass

@pytest.mark.parity_engines("torch")
def test_there():
    pass

@pytest.mark.parity_gpu
def test_gpu():
    pass
"""

GONE = """
import parity.pytest_plugin.requirements as requirements

there = requirements.installed
requirements.installed = lambda package: package != "onnx" and there(package)
"""


@pytest.fixture
def no_onnx_and_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    from parity.errors import Problem
    from parity.pytest_plugin import requirements

    monkeypatch.setattr(requirements, "installed", lambda package: package != "onnx" and installed(package))
    monkeypatch.setattr(requirements, "_no_gpu", lambda: Problem("no GPU that torch can use"))


@pytest.mark.usefixtures("no_onnx_and_no_gpu")
def test_marks_skip_with_a_reason(pytester: pytest.Pytester) -> None:
    result = run(pytester, MARKED, "-rs", "--strict-markers", "--parity-require=torch")
    result.assert_outcomes(passed=1, skipped=2)
    result.stdout.fnmatch_lines(
        [
            "SKIPPED * test_port.py:*: the engine 'onnxruntime' is not installed (no module named 'onnx')",
            "SKIPPED * test_port.py:*: no GPU that torch can use",
        ]
    )


@pytest.mark.usefixtures("no_onnx_and_no_gpu")
def test_what_is_required_is_not_skipped(pytester: pytest.Pytester) -> None:
    result = run(pytester, MARKED, "--parity-require=onnxruntime,torch", "--parity-require=gpu")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [
            "ERROR: --parity-require",
            "the engine 'onnxruntime' is not installed",
            "*expected: onnx and onnxruntime",
            "*remedy: *pip install 'keras-torch-parity[[]onnx[]]'*",
            "no GPU that torch can use",
        ]
    )
    assert "test" not in result.stdout.str()


def test_what_is_required_fails_where_it_is_missing_later(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    from parity.pytest_plugin import requirements

    monkeypatch.setattr(requirements, "installed", installed)  # taken back afterwards
    source = f"{GONE}\n{MARKED}"  # gone when the tests are collected, after the session has started
    result = run(pytester, source, "--parity-require=keras,torch,onnxruntime", "-k", "not gpu")
    result.assert_outcomes(passed=1, errors=1, deselected=1)
    result.stdout.fnmatch_lines(["--parity-require", "the engine 'onnxruntime' is not installed"])


@pytest.mark.parametrize("names", ["kears", "torch,", "TORCH"])
def test_a_name_that_means_nothing_is_refused(pytester: pytest.Pytester, names: str) -> None:
    result = run(pytester, MARKED, f"--parity-require={names}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["unknown engine", "*expected: keras, torch, onnxruntime,*, gpu", "*got: *"])


@pytest.mark.parametrize("mark", ["'kears'", "", "1", "names=['torch']"])
def test_a_mark_that_says_nothing_fails_its_test(pytester: pytest.Pytester, mark: str) -> None:
    source = f"@pytest.mark.parity_engines({mark})\ndef test_mark(): pass\n"
    run(pytester, source).assert_outcomes(errors=1)


def test_every_engine_can_be_asked_for() -> None:
    assert set(PACKAGES) == {*ENGINES, *KERAS_BACKENDS}
    assert missing(PACKAGES) == []


def test_the_backend_that_keras_would_take(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delitem(sys.modules, "keras", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    (tmp_path / "keras.json").write_text('{"backend": "openvino"}')
    assert [one.got for one in missing(["keras"])] == ([] if installed("openvino") else ["no module named 'openvino'"])
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    assert missing(["keras"]) == []


def test_a_folder_is_no_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "some_engine").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert not installed("some_engine")
    (tmp_path / "some_engine" / "__init__.py").write_text("")
    assert installed("some_engine")


_LOADED = """
import sys

def pytest_sessionfinish():
    heavy = {"numpy", "torch", "keras", "tensorflow", "onnx", "onnxruntime", "jinja2", "rich", "einops", "parity.comparison"}
    print("loaded:", sorted(heavy & set(sys.modules)), "parity.pytest_plugin" in sys.modules)
"""


def test_the_installed_plugin_is_light_and_harmless(tmp_path: Path) -> None:
    """As an installation would declare it, in a process of its own."""
    name, module = "parity", "parity.pytest_plugin"
    declared = (Path(__file__).parents[1] / "pyproject.toml").read_text()
    assert f'[project.entry-points.pytest11]\n{name} = "{module}"\n' in declared
    assert '"pytest_plugin/*.html"' in declared
    info = tmp_path / "site" / "declared-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: declared\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[pytest11]\n{name} = {module}\n")
    (tmp_path / "conftest.py").write_text(_LOADED)
    (tmp_path / "test_plain.py").write_text("def test_plain(): pass\n")
    paths = os.pathsep.join([str(tmp_path / "site"), str(Path(__file__).parents[1])])
    arguments = ["-q", "-s", "-W", "error", "-p", "no:hypothesispytest", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "loaded: [] True" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 0
    assert "1 passed" in done.stdout


def test_outside_of_a_test_of_pytest_nothing_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import sys, parity; parity.assert_parity; print('pytest' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]
    assert isinstance(watching(), Recorder)
    monkeypatch.setattr(testing, "_of_the_process", [])

    def outside() -> str:
        assert watching() is None
        return assert_parity(torch.nn.GRU(3, 5), engines=["torch"]).verdict

    assert contextvars.Context().run(outside) == "agree"
    assert package.assert_parity is assert_parity
    with pytest.raises(ParityError, match="nothing to compare"):
        assert_parity()


def report(when: str, outcome: str, *entries: Entry, **more: object) -> SimpleNamespace:
    plain = {"nodeid": "t", "when": when, "outcome": outcome}
    return SimpleNamespace(**plain, parity_comparisons=[asdict(entry) for entry in entries], **more)


def test_a_test_that_is_run_again_has_all_its_attempts(tmp_path: Path) -> None:
    session = Session(tmp_path)
    attempts: list[tuple[str, float | str]] = [("rerun", "nan"), ("passed", 1.5)]
    for number, (outcome, floors) in enumerate(attempts, 1):
        early = Entry("t", 2 * number - 1, "agree", "", times_floor=0.5, limit=2.0)
        entry = Entry("t", 2 * number, "disagree", "", times_floor=floors, limit=2.0)
        for one in (report("setup", "passed", early), report("call", outcome, entry), report("teardown", "passed")):
            session.add(one)
    shown = [(entry.number, entry.outcome) for entry in session.sorted()]
    assert shown == [(2, "rerun"), (4, "passed"), (1, "rerun"), (3, "passed")]
    session.write()
    assert listed(tmp_path)[0]["times_floor"] == "nan"


@pytest.mark.parametrize(
    ("call", "teardown", "more", "outcome"),
    [
        ("failed", "failed", {}, "failed"),
        ("passed", "failed", {}, "error"),
        ("skipped", "passed", {"wasxfail": ""}, "xfailed"),
        ("passed", "passed", {"wasxfail": ""}, "xpassed"),
    ],
)
def test_how_a_test_ended(tmp_path: Path, call: str, teardown: str, more: dict[str, str], outcome: str) -> None:
    session = Session(tmp_path)
    session.add(report("call", call, Entry("t", 1, "agree", ""), **more))
    session.add(report("teardown", teardown))
    assert [entry.outcome for entry in session.sorted()] == [outcome]


def test_names_of_files_are_short_plain_and_their_own() -> None:
    names = [
        slug(test)
        for test in ("a.py::test[<b>]", "a.py::test['b']", "a.py::test[שלום]", f"a.py::{'x' * 500}", "/../..", "")
    ]
    assert len(set(names)) == len(names)
    assert all(len(name) < 100 and name.isascii() and "/" not in name and name[0] not in "-." for name in names)


NASTY = [
    "<script>document.title = 'broken'; console.log('broken')</script>",
    "\"><img src=http://localhost/x onerror='console.log(1)'>",
    "שלום \u202e(torch)",
    "{{ 7 * 7 }} & &lt; ' \"",
    "\ud800 lone",
    "x" * 300,
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as found:
        yield found


def test_the_index_is_whole_with_nasty_names_at_every_width(browser: Browser, tmp_path: Path) -> None:
    verdicts = ["disagree", "refused", "undecided", "agree"]
    files = ("a-01234567.html", "a-01234567.json")
    entries = [
        Entry(
            f"test_port.py::test[{text}]", 1, verdicts[n % 4], text, text, text, 12.5, 2.0, text, *files, "passed", text
        )
        for n, text in enumerate(NASTY)
    ]
    entries.append(Entry("test_port.py::test_plain", 2, "refused", "no such file", outcome="failed"))
    (tmp_path / "index.html").write_text(render(entries, {"disagree": 2, "agree": 1}, f"pytest {NASTY[0]}"))
    shown = open_page(browser, tmp_path / "index.html")
    page = shown.page
    assert page.title() == "3 comparisons: 2 disagree, 1 agrees · parity"
    assert page.locator("tbody tr").count() == len(entries)
    names = page.locator("tbody th bdi").all_text_contents()
    assert f"test_port.py::test[{NASTY[0]}]" in names
    assert f"test_port.py::test[{visible(NASTY[2])}]" in names
    assert page.locator("script, img").count() == 0
    wrong = {"words": checked(page, WORDS)}
    for width in (1400, 800, 390):
        for scheme in ("light", "dark"):
            page.set_viewport_size({"width": width, "height": 900})
            page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
            wrong[f"{width}, {scheme}"] = checked(page, LOOKS)
            if (width, scheme) in ((1400, "light"), (390, "dark")):
                wrong[f"{width}, {scheme}, rules"] = inaccessible(page)
    wrong["keyboard"] = unreachable(page)
    assert {where: found for where, found in wrong.items() if found} == {}
    assert shown.messages == shown.foreign == []
    shown.context.close()


def test_on_a_narrow_screen_everything_of_a_row_is_in_sight_and_named(browser: Browser, tmp_path: Path) -> None:
    entry = Entry(
        "t.py::test_a", 1, "disagree", "They differ.", "GRU", "Its cause.", 12.5, 2.0, "h_n", outcome="failed"
    )
    entry = replace(entry, page="a-01234567.html", record="a-01234567.json", fixture="checked")
    (tmp_path / "index.html").write_text(render([entry], {"disagree": 1}, "pytest"))
    shown = open_page(browser, tmp_path / "index.html", width=390)
    boxes = shown.page.eval_on_selector_all(
        "tbody td, tbody th", "all => all.map(one => one.getBoundingClientRect()).map(box => [box.left, box.right])"
    )
    assert len(boxes) == 7
    assert all(0 <= left < right <= 390 for left, right in boxes)
    labels = "all => all.map(one => getComputedStyle(one, '::before').content.slice(1, -1))"
    assert shown.page.eval_on_selector_all("tbody td[data-label]", labels) == [
        "\N{MULTIPLICATION SIGN} floor",
        "limit",
        "in",
        "test",
        "as JSON",
    ]
    row = shown.page.get_by_role("row").nth(1)
    assert row.get_by_role("cell").count() == 6
    assert row.get_by_role("rowheader").count() == 1
    shown.page.emulate_media(media="print")
    shown.page.set_viewport_size({"width": A4, "height": 900})
    assert shown.page.locator("thead th").first.evaluate("one => one.getBoundingClientRect().width") > 20
    shown.context.close()


def test_nasty_ids_of_tests_make_files_and_links(pytester: pytest.Pytester, browser: Browser) -> None:
    source = f"""
@pytest.mark.parametrize("name", {NASTY[:4]!r})
def test_nasty(parity, name):
    parity.compare(gru(), engines=["torch"])
"""
    ini = "disable_test_id_escaping_and_forfeit_all_rights_to_community_support"
    result = run(pytester, source, "--parity-report=out", "-o", f"{ini}=true")
    result.assert_outcomes(passed=4)
    shown = open_page(browser, pytester.path / "out" / "index.html")
    page = shown.page
    names = {f"test_port.py::test_nasty[{visible(name)}]" for name in NASTY}
    assert len(names & set(page.locator("tbody th bdi").all_text_contents())) == 4
    page.locator("tbody a").nth(0).click()
    page.wait_for_url("**/test_port.py-test_nasty-*.html")
    assert page.title().startswith("agree")
    assert shown.messages == []
    shown.context.close()
