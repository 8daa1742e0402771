"""parity for pytest, installed with the package.

    def test_port(parity):                                     the fixture: what it compares is recorded
        parity.assert_parity("model.keras", "model.onnx")

    @pytest.mark.parity_gpu                                    skipped without a CUDA device
    @pytest.mark.parity_engines("keras", "onnxruntime")        skipped where one of them is not installed
    pytest --parity-report DIR                                 every comparison as a page and as JSON, and an index
    pytest --parity-require keras,torch,onnxruntime,gpu        refuses to start without them, so that nothing is skipped for want of them

A test's comparisons travel with its report, from process to process, so an index under pytest-xdist is the same; what a process that dies
has compared is found on the disk. In GitHub Actions what does not agree becomes an annotation at its test. Nothing but pytest is imported
before a test compares something, asks for an engine, or a report is written.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any

import pytest

from parity.errors import Problem
from parity.pytest_plugin.annotating import Annotating
from parity.pytest_plugin.journal import Journal
from parity.pytest_plugin.recording import Parity, Recorder
from parity.pytest_plugin.reporting import Reporting
from parity.pytest_plugin.requirements import GPU, PACKAGES, missing, unknown
from parity.pytest_plugin.session import Comparisons, Session
from parity.testing import watched_by, watching

_FOLDER = pytest.StashKey[Path]()
_JOURNAL = pytest.StashKey[Journal]()
_REQUIRED = pytest.StashKey[tuple[str, ...]]()
_RECORDER = pytest.StashKey[Recorder]()
_REFUSED = pytest.StashKey[str]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """The two options."""
    group = parser.getgroup("parity", "parity: comparisons of models")
    group.addoption(
        "--parity-report",
        metavar="DIR",
        help="write every comparison as a page and as JSON into DIR, and an index; replaces the report of an earlier session in it",
    )
    group.addoption(
        "--parity-require",
        metavar="NAMES",
        action="append",
        default=[],
        help=f"of {', '.join(PACKAGES)} and {GPU}, comma-separated: refuse to start where one is missing",
    )


def pytest_configure(config: pytest.Config) -> None:
    """The marks, and what the options say."""
    config.addinivalue_line("markers", "parity_gpu: the test needs a CUDA device that torch sees; skipped without one")
    config.addinivalue_line(
        "markers", "parity_engines(*names): engines of parity that the test needs; skipped where one is not installed"
    )
    asked = [name.strip() for text in config.getoption("parity_require") for name in text.split(",")]
    config.stash[_REQUIRED] = tuple(asked)
    if hasattr(config, "workerinput"):
        if "parity_report" in config.workerinput:
            folder, token = config.workerinput["parity_report"]
            config.stash[_FOLDER] = Path(folder)
            config.stash[_JOURNAL] = Journal(Path(folder), token)
        return
    given = config.getoption("parity_report")
    gathered = Comparisons()
    if given:
        folder = config.invocation_params.dir / Path(given).expanduser()
        gathered = session = Session(folder, shlex.join(["pytest", *map(str, config.invocation_params.args)]))
        config.stash[_FOLDER], config.stash[_JOURNAL] = folder, session.journal
        config.pluginmanager.register(Reporting(session), "parity-report")
    if os.environ.get("GITHUB_ACTIONS") == "true":
        config.pluginmanager.register(Annotating(gathered, config.rootpath, takes=not given), "parity-annotations")


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker of pytest-xdist where the report is written."""
    if _FOLDER in node.config.stash:
        session = node.config.pluginmanager.get_plugin("parity-report").gathered
        node.workerinput["parity_report"] = (str(session.folder), session.token)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Refuse to start where something required is missing.

    Raises:
        UsageError: says everything that is missing.
    """
    config = session.config
    if hasattr(config, "workerinput"):
        return
    required = config.stash[_REQUIRED]
    problems = unknown(required, (*PACKAGES, GPU), "--parity-require") or missing(required)
    if problems:
        raise pytest.UsageError("--parity-require\n" + _lines(problems))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip the tests whose engines or GPU are missing; those for which one is required fail instead."""
    if config.option.collectonly:
        return
    required = config.stash[_REQUIRED]
    for item in items:
        wanted, wrong = _wanted(item)
        lacking = [] if wrong else missing(wanted)
        if wrong:
            item.stash[_REFUSED] = _lines(wrong)
        elif missing(name for name in wanted if name in required):
            item.stash[_REFUSED] = f"--parity-require\n{_lines(lacking)}"
        elif lacking:
            reason = "; ".join(f"{one.what} ({one.got})" if one.got else one.what for one in lacking)
            item.add_marker(pytest.mark.skip(reason=reason))


def _wanted(item: pytest.Item) -> tuple[list[str], list[Problem]]:
    """What a test's marks ask for, and what is wrong with them."""
    wanted: list[str] = []
    wrong: list[Problem] = []
    for mark in item.iter_markers("parity_engines"):
        if not mark.args or mark.kwargs or not all(isinstance(name, str) for name in mark.args):
            expected, got = "names of engines", ", ".join(map(repr, mark.args)) or "none"
            wrong.append(Problem("the mark parity_engines takes names", expected=expected, got=got))
        else:
            wanted += mark.args
            wrong += unknown(mark.args, PACKAGES, "@pytest.mark.parity_engines")
    if item.get_closest_marker("parity_gpu"):
        wanted.append(GPU)
    return wanted, wrong


def _lines(problems: Iterable[Problem]) -> str:
    return "\n".join(map(str, problems))


# Wrappers of the older kind: a plugin that comes with a package must not keep an older pytest from starting.
@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, None, None]:
    """While a test runs, what `parity.assert_parity` compares is recorded for it."""
    stash = item.config.stash
    recorder = Recorder(item.nodeid, stash.get(_FOLDER, None), item.user_properties, stash.get(_JOURNAL, None))
    item.stash[_RECORDER] = recorder
    with watched_by(recorder):
        yield


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Fail a test that would be skipped for want of something required, or whose marks say nothing."""
    if _REFUSED in item.stash:
        pytest.fail(item.stash[_REFUSED], pytrace=False)


@pytest.fixture(scope="session")
def parity() -> Parity:
    """`parity.compare` and `parity.assert_parity`, which record what they compare for the report of the session; for fixtures, too."""
    return Parity()


@pytest.hookimpl(hookwrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any]) -> Generator[None, None, None]:
    """What is compared while a fixture is set up or torn down is told by its name, for another test may be the one that is about it."""
    name, shared = fixturedef.argname, fixturedef.scope != "function"

    def begin() -> None:
        if isinstance(now := watching(), Recorder):
            now.begin_teardown(name, shared)

    def end() -> None:
        if isinstance(now := watching(), Recorder):
            now.end_teardown(name)

    fixturedef.addfinalizer(end)  # the last added is the first to run, so the fixture's own stand between these two
    recorder = watching()
    if isinstance(recorder, Recorder):
        with recorder.setting_up(name):
            yield
    else:
        yield
    fixturedef.addfinalizer(begin)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    """A test's comparisons travel with its report; where it fails, in words, too."""
    outcome = yield
    report = outcome.get_result()
    recorder = item.stash.get(_RECORDER, None)
    if recorder is None:
        return
    entries = recorder.taken()
    if entries:
        report.parity_comparisons = entries
    if report.failed and (text := recorder.in_words()):
        report.sections.append(("parity", text))
    if report.when == "teardown":
        recorder.forget()
