"""The comparisons of a whole session in one folder: an index to read, and the same as JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from parity.errors import REFUSED, ParityError
from parity.pytest_plugin.journal import Journal, new_token
from parity.pytest_plugin.recording import NAMES, Entry

SCHEMA = {"name": "parity.session", "version": 2}
"""Name and version of the list; the file `index.schema.json` beside this one describes it. Version 2 knows the fixture that
compared, and what compared outside of tests."""

_INDEX, _LIST = "index.html", "index.json"
_SEVERITY = ("disagree", REFUSED, "undecided", "agree")
_PHASES = ("setup", "call", "teardown")
FAILED = ("failed", "error")
"""Outcomes of a test that did not go well."""


class Comparisons:
    """What all tests of a session compared, whichever process they ran in.

    Attributes:
        places: by the id of a test, its file and line (from 1; None where nobody knows it).
    """

    def __init__(self) -> None:
        self.places: dict[str, tuple[str, int | None]] = {}
        self._entries: list[Entry] = []
        self._running: dict[tuple[str, str], list[Entry]] = {}
        self._outcomes: dict[str, str] = {}

    def add(self, report: Any) -> None:
        """Take what a test compared in one of its phases, and how that phase ended.

        Args:
            report: a `pytest.TestReport`, from this process or another; also the one that pytest-xdist makes of a test in which its
                process ended.
        """
        crashed = report.when not in _PHASES
        key = (report.nodeid, str(getattr(report, "worker_id", "")))
        running = self._running.setdefault(key, [])
        outcome = _outcome(report)
        new = [Entry(**entry) for entry in getattr(report, "parity_comparisons", ())]
        self._entries += new
        for entry in new:
            if entry.test:
                running.append(entry)
            else:
                entry.outcome = outcome if entry.fixture else ""
        for (test, worker), entries in self._running.items():
            if test == report.nodeid and (crashed or worker == key[1]):
                for entry in entries:
                    entry.outcome = _later(entry.outcome, outcome, report.when)
        self._outcomes[report.nodeid] = _later(self._outcomes.get(report.nodeid, ""), outcome, report.when)
        file, line, _ = getattr(report, "location", ("", None, ""))
        if file and (line is not None or report.nodeid not in self.places):
            self.places[report.nodeid] = (file, None if line is None else line + 1)
        if crashed or report.when == "teardown":
            del self._running[key]

    def sorted(self) -> list[Entry]:
        """The comparisons, the worst first; the same order however the tests were spread over processes."""
        return sorted(
            self._entries, key=lambda entry: (_SEVERITY.index(entry.verdict), -entry.excess, entry.test, entry.number)
        )

    def counts(self) -> dict[str, int]:
        """How many comparisons there are of every verdict that there is, the worst first."""
        found = Counter(entry.verdict for entry in self._entries)
        return {verdict: found[verdict] for verdict in _SEVERITY if found[verdict]}

    def words(self) -> str:
        """How many comparisons there are, in a sentence."""
        return in_words(self.counts())


class Session(Comparisons):
    """The comparisons of a session, and the folder that its report is written to.

    Args:
        folder: where the reports are written.
        command: how the session was started, in words.
    """

    def __init__(self, folder: Path, command: str = "") -> None:
        super().__init__()
        self.folder = folder
        self.token = new_token()
        self.journal = Journal(folder, self.token)
        self.begun = False
        self._command = command

    @property
    def index(self) -> Path:
        """The page of all comparisons."""
        return self.folder / _INDEX

    def prepare(self) -> None:
        """Make the folder.

        Raises:
            ParityError: it is no folder, or cannot be made, or holds an index that is not one of these.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ParityError(
                "the folder of the reports cannot be made", str(self.folder), "a folder", error.strerror or str(error)
            ) from error
        if (self.index.exists() or (self.folder / _LIST).exists()) and _earlier(self.folder / _LIST) is None:
            remedy = "give a folder of its own: --parity-report DIR"
            got = f"an {_INDEX} or {_LIST} that parity did not write"
            raise ParityError("the folder holds something else", str(self.folder), "an empty folder", got, remedy)

    def begin(self) -> None:
        """Remove what an earlier session left here, and nothing else: a report shows one session."""
        self.begun = True
        names = [*(_earlier(self.folder / _LIST) or ()), *_files(self.journal.of_others())]
        for path in (*(self.folder / name for name in names), self.index, self.folder / _LIST):
            path.unlink(missing_ok=True)
        self.journal.remove(own=False)

    def recover(self) -> None:
        """Take what no report of a test brought: of a process that died in one, or of a thread that lived longer than its test."""
        known = {entry.record for entry in self._entries}
        for plain in self.journal.read():
            entry = Entry(**plain)
            if entry.record not in known:
                entry.outcome = self._outcomes.get(entry.test, "error") if entry.test else ""
                self._entries.append(entry)

    def write(self) -> Path:
        """Write the index, of everything that was compared.

        Returns:
            Its path.

        Raises:
            ParityError: the system refuses.
        """
        from parity.report import write_text

        self.recover()
        entries = self.sorted()
        plain = {
            "schema": SCHEMA,
            "command": self._command,
            "verdicts": self.counts(),
            "comparisons": [asdict(entry) for entry in entries],
        }
        text = json.dumps(plain, indent=1, ensure_ascii=False, allow_nan=False)
        write_text(self.folder / _LIST, text.encode("utf-8", "replace").decode("utf-8") + "\n", overwrite=True)
        write_text(self.index, render(entries, self.counts(), self._command), overwrite=True)
        self.journal.remove(own=True)
        return self.index


def in_words(counts: dict[str, int]) -> str:
    """How many comparisons there are, in a sentence.

    Example:
        >>> in_words({"disagree": 1, "agree": 3})
        '4 comparisons: 1 disagrees, 3 agree'
        >>> in_words({})
        'no comparisons'
    """
    if not counts:
        return "no comparisons"
    verbs = {"disagree": "disagrees", "agree": "agrees"}
    said = [f"{n} {verbs.get(word, word) if n == 1 else word}" for word, n in counts.items()]
    total = sum(counts.values())
    return f"{total} comparison{'s' if total > 1 else ''}: {', '.join(said)}"


def render(entries: list[Entry], counts: dict[str, int], command: str) -> str:
    """The index as HTML.

    Args:
        entries: the worst first.
        counts: of every verdict.
        command: how the session was started.
    """
    from parity.report.numbers import aligned
    from parity.report.templating import environment_with, page_of, style

    environment = environment_with(Path(__file__).parent, aligned=aligned)
    view = {
        "css": style("style.css", "mapping.css"),
        "pattern_count": 0,
        "entries": entries,
        "words": in_words(counts),
        "worst": next(iter(counts), "empty"),
        "tests": len({entry.test for entry in entries} - {""}),
        "command": command,
        "failed": FAILED,
    }
    return page_of(environment, _INDEX, view)


def _outcome(report: Any) -> str:
    if hasattr(report, "wasxfail"):
        return "xfailed" if report.outcome == "skipped" else "xpassed"
    if report.outcome == "failed" and report.when != "call":
        return "error"
    return str(report.outcome)


def _later(outcome: str, now: str, when: str) -> str:
    """The outcome of a test after one more of its phases: a failure stays, and a phase around the call counts only where it goes wrong."""
    return now if outcome not in FAILED and (when == "call" or now != "passed" or not outcome) else outcome


def _earlier(path: Path) -> list[str] | None:
    """The files that an earlier session wrote beside its list; None where this is no such list."""
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        if plain["schema"]["name"] != SCHEMA["name"]:
            return None
        return _files(plain["comparisons"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _files(entries: Iterable[dict[str, Any]]) -> list[str]:
    """The names that entries give of files beside their list, and nothing that could not be one of these."""
    names = [str(entry[kind]) for entry in entries for kind in ("page", "record") if kind in entry]
    return [name for name in names if NAMES.fullmatch(name) and Path(name).name == name]


__all__ = ["FAILED", "SCHEMA", "Comparisons", "Session", "in_words", "render"]
