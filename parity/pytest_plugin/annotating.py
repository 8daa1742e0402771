"""What a session of tests shows in GitHub Actions: an annotation at the test of every comparison that does not agree."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from parity.errors import REFUSED
from parity.pytest_plugin.recording import Entry
from parity.pytest_plugin.session import FAILED, Comparisons

_LEVELS = {"disagree": "error", REFUSED: "error", "undecided": "warning"}


class Annotating:
    """Hooks of pytest that print the annotations once, in the process that gathers what all the others ran.

    Args:
        gathered: what was compared.
        root: the folder that the tests' places start from.
        takes: whether it takes the reports of the tests itself; else another plugin does.
    """

    def __init__(self, gathered: Comparisons, root: Path, takes: bool) -> None:
        self._gathered = gathered
        self._root = root
        self._takes = takes

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take what a test compared."""
        if self._takes:
            self._gathered.add(report)

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the annotations."""
        for line in annotations_of(self._gathered, self._root):
            terminalreporter.write_line(line)


def annotations_of(gathered: Comparisons, root: Path, environ: Mapping[str, str] | None = None) -> Iterator[str]:
    """A workflow command for every comparison that does not agree, the worst first: GitHub shows ten of each kind for a step.

    Args:
        gathered: what was compared.
        root: the folder that the tests' places start from.
        environ: the environment; `os.environ` if None.
    """
    for entry in gathered.sorted():
        if entry.verdict in _LEVELS:
            yield _annotation(entry, gathered.places.get(entry.test), root, os.environ if environ is None else environ)


def _annotation(entry: Entry, place: tuple[str, int | None] | None, root: Path, environ: Mapping[str, str]) -> str:
    """Of a comparison; one that its test expected is but a notice."""
    from parity.github import annotation

    failed = entry.outcome in FAILED or not entry.outcome
    lines = [entry.sentence, *([f"Diagnosis: {entry.cause}"] if entry.cause else [])]
    lines += [] if failed else [f"The {'test' if entry.test else 'teardown'}: {entry.outcome}."]
    level = _LEVELS[entry.verdict] if failed else "notice"
    title, text = f"parity: {entry.verdict}: {entry.where}", "\n".join(lines)
    if not entry.test:
        return annotation(level, title, text)
    file, line = place or (entry.test.partition("::")[0], None)
    return annotation(level, title, text, _in_repository(root / file, environ.get("GITHUB_WORKSPACE")), line)


def _in_repository(path: Path, workspace: str | None) -> str:
    """A path as GitHub knows it: from the folder of the repository."""
    top: Any = Path(workspace) if workspace else Path.cwd()
    return (path.relative_to(top) if path.is_relative_to(top) else path).as_posix()


__all__ = ["Annotating", "annotations_of"]
