"""What a test compares: kept while the test runs, written where a report is asked for, and handed on with the test's own report."""

from __future__ import annotations

import hashlib
import importlib
import math
import re
import shlex
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from parity.errors import REFUSED, ParityError
from parity.pytest_plugin.journal import Journal
from parity.spelling import named_apart
from parity.testing import accepted, check_undecided, in_words, watching

if TYPE_CHECKING:
    from parity.comparison import Comparison
    from parity.sources import Source

_MOST_LETTERS = 80
NAMES = re.compile(r".*-[0-9a-f]{8}(-\d+)?\.(html|json)", re.DOTALL)
"""What the files of a comparison are called."""

_OUTSIDE = "outside of tests, "
_BEGUN: WeakKeyDictionary[threading.Thread, str] = WeakKeyDictionary()
"""By a thread that was there when a test began or ended, the id of the test in which it began; "" for none of them."""


@dataclass
class Entry:
    """One comparison, as plain values that can go from process to process.

    Args:
        test: the id of the test; empty where no test can be held to it.
        number: from 1, of the comparisons in this test, or while it ran.
        verdict: agree, disagree, undecided or refused.
        sentence: the verdict in a sentence, or what is wrong where it was refused.
        title: what was compared.
        cause: what the diagnosis says, where it disagrees and a report is written.
        times_floor: the largest difference in floors, of the row that is furthest beyond its limit; "inf" or "nan" as words,
            None where nothing was judged.
        limit: how many floors are allowed there.
        quantity: what that row compares.
        page, record: names of the files in the folder of the report; empty where none are written.
        outcome: of the test: passed, failed, error, skipped, xfailed, xpassed or rerun. Of the teardown where a fixture compared outside
            of tests; empty where a thread did.
        fixture: that was set up or torn down when this was compared; empty where the test itself did.
        outside: where no test can be held to it, what compared instead, in words.
    """

    test: str
    number: int
    verdict: str
    sentence: str
    title: str = ""
    cause: str = ""
    times_floor: float | str | None = None
    limit: float | None = None
    quantity: str = ""
    page: str = ""
    record: str = ""
    outcome: str = ""
    fixture: str = ""
    outside: str = ""

    @property
    def where(self) -> str:
        """The id of the test, or what compared outside of tests."""
        return self.test or _OUTSIDE + self.outside

    @property
    def excess(self) -> float:
        """How far beyond its limit: 1 is at the limit."""
        if self.times_floor is None or not self.limit:
            return 0.0
        floors = float(self.times_floor)
        return math.inf if math.isnan(floors) else floors / self.limit


@dataclass
class _Made:
    """A comparison that this test made, and whether its words are in the test's failure already."""

    comparison: Comparison
    entry: Entry
    said: bool = False


class Recorder:
    """Keeps what one test compares, in whichever of its threads.

    Args:
        test: the id of the test.
        folder: of the report; None where none is asked for.
        properties: the test's `user_properties`, which get the verdicts and paths.
        journal: of the session; None where no report is asked for.
    """

    def __init__(
        self,
        test: str,
        folder: Path | None = None,
        properties: list[tuple[str, object]] | None = None,
        journal: Journal | None = None,
    ) -> None:
        self._test = test
        self._folder = folder
        self._properties = [] if properties is None else properties
        self._journal = journal
        self._lock = threading.Lock()
        self._thread = threading.current_thread()
        self._fixtures: list[str] = []
        self._shared: list[str] = []
        self._over = False
        self._count = 0
        self._made: list[_Made] = []
        self._waiting: list[Entry] = []
        _note_threads("")

    @contextmanager
    def setting_up(self, fixture: str) -> Iterator[None]:
        """While this lasts, what is compared is compared by a fixture.

        Args:
            fixture: its name.
        """
        self._fixtures.append(fixture)
        try:
            yield
        finally:
            self._fixtures.pop()

    def begin_teardown(self, fixture: str, shared: bool) -> None:
        """From now on, what is compared is compared by the teardown of a fixture.

        Args:
            fixture: its name.
            shared: whether it served more than one test: none of them can be held to what it compares then.
        """
        self._fixtures.append(fixture)
        if shared:
            self._shared.append(fixture)

    def end_teardown(self, fixture: str) -> None:
        """The teardown of a fixture is over."""
        if self._fixtures and self._fixtures[-1] == fixture:
            self._fixtures.pop()
        if self._shared and self._shared[-1] == fixture:
            self._shared.pop()

    def compare(self, sources: tuple[Source, ...], options: dict[str, Any]) -> _Made:
        """Compare, and record what comes out, also where it is refused.

        Raises:
            ParityError: as for `parity.compare`.
        """
        __tracebackhide__ = True
        from parity.comparison import compare

        try:
            comparison = compare(*sources, **options)
        except ParityError as error:
            self._add(self._refused(error, sources))
            raise error.with_traceback(None)  # noqa: B904 -- the same error, told at the test's own line
        return self.record(comparison)

    def _refused(self, error: ParityError, sources: Sequence[Source]) -> Entry:
        """What could not be compared; its page and record are written where a report is asked for."""
        names = _names(sources)
        entry = Entry(self._test, 0, REFUSED, str(error.problems[0]), " and ".join(names))
        if self._folder is not None:
            from parity.report import to_json
            from parity.report.refusal import make_refusal, render_refusal

            refusal = make_refusal(error.problems, names, " ".join(self._again))
            entry.page, entry.record = _written(render_refusal(refusal), to_json(refusal), self._folder, self._where)
        return entry

    def assert_parity(self, *sources: Source, undecided: str = "fail", **options: Any) -> Comparison:
        """`parity.assert_parity`, recorded.

        Raises:
            AssertionError, ParityError: as for `parity.assert_parity`.
        """
        __tracebackhide__ = True
        check_undecided(undecided)
        made = self.compare(sources, options)
        comparison = made.comparison
        try:
            return accepted(comparison, undecided, self._again, self._path(made.entry.page))
        except AssertionError:
            made.said = True
            made.entry.cause = _cause(comparison)  # which the message has worked out
            raise

    def record(self, comparison: Comparison) -> _Made:
        """Record a comparison; write it where a report is asked for."""
        entry = _entry(self._test, comparison)
        if self._folder is not None:
            from parity.report import render_record, to_json

            entry.cause = _cause(comparison)
            record = comparison.record
            entry.page, entry.record = _written(render_record(record), to_json(record), self._folder, self._where)
        made = _Made(comparison, entry)
        if not self._over and not self._outside:  # else nobody asks for it any more, or not this test
            self._made.append(made)
        self._add(entry)
        return made

    def taken(self) -> list[dict[str, Any]]:
        """What was recorded since this was last called, as plain values."""
        with self._lock:
            entries, self._waiting = self._waiting, []
        return [asdict(entry) for entry in entries]

    def in_words(self) -> str:
        """What was compared, for the report of a failure; in full where it does not agree and was not said yet."""
        return "\n\n".join(self._told())

    def forget(self) -> None:
        """Let go of the models and arrays: the test is over."""
        self._over = True
        self._made.clear()
        _note_threads(self._test)

    @property
    def _outside(self) -> str:
        """What compares here and now, where it is not this test; empty where it is."""
        thread = threading.current_thread()
        begun = _BEGUN.get(thread)
        if thread is not self._thread and begun is not None and begun != self._test:
            return f"in a thread that began in {begun}" if begun else "in a thread that began before the test"
        return f"in the teardown of the fixture {self._shared[-1]}" if self._shared else ""

    @property
    def _where(self) -> str:
        """The id of the test, or what compares outside of tests."""
        return _OUTSIDE + self._outside if self._outside else self._test

    def _add(self, entry: Entry) -> None:
        entry.outside = self._outside
        if entry.outside:
            entry.test = ""
        if not entry.outside or (self._shared and threading.current_thread() is self._thread):
            entry.fixture = self._fixtures[-1] if self._fixtures else ""
        with self._lock:
            self._count += 1
            entry.number = self._count
            self._waiting.append(entry)
        if self._journal is not None:
            self._journal.write(asdict(entry))
        if entry.outside:
            return
        values = {
            "verdict": entry.verdict,
            "sentence": entry.sentence,
            "times_floor": entry.times_floor,
            "report": self._path(entry.page),
            "record": self._path(entry.record),
        }
        shown = {name: value for name, value in values.items() if value is not None}
        self._properties += [(f"parity.{entry.number}.{name}", str(value)) for name, value in shown.items()]

    def _path(self, name: str) -> Path | None:
        return self._folder / name if self._folder is not None and name else None

    @property
    def _again(self) -> list[str]:
        return [] if self._outside else [f"pytest {shlex.quote(self._test)}"]

    def _told(self) -> Iterator[str]:
        for made in self._made:
            page = self._path(made.entry.page)
            if made.said:
                yield from [f"Report: {page}"] if page else []
            elif made.comparison.ok:
                yield "\n".join([made.entry.sentence, *([f"Report: {page}"] if page else [])])
            else:
                yield in_words(made.comparison, self._again, page)
                made.said = True


class Parity:
    """What the fixture `parity` is: `compare` and `assert_parity`, which record what they compare, and all else of the module `parity`.

    It records for the test that runs, or is set up, when it is asked: fixtures of every scope can use it.

    Example:
        >>> parity = Parity()
        >>> import torch
        >>> parity.compare(torch.nn.GRU(3, 5), engines=["torch"]).verdict
        'agree'
    """

    def compare(self, *sources: Source, **options: Any) -> Comparison:
        """`parity.compare`, recorded.

        Args:
            sources, options: as for `parity.compare`.

        Raises:
            ParityError: as for `parity.compare`; this is recorded, too.
        """
        __tracebackhide__ = True
        return _current().compare(sources, options).comparison

    def assert_parity(self, *sources: Source, undecided: str = "fail", **options: Any) -> Comparison:
        """`parity.assert_parity`, recorded.

        Args:
            sources, undecided, options: as for `parity.assert_parity`.

        Raises:
            AssertionError, ParityError: as for `parity.assert_parity`.
        """
        __tracebackhide__ = True
        return _current().assert_parity(*sources, undecided=undecided, **options)

    def record(self, comparison: Comparison) -> Comparison:
        """Record a comparison that was made elsewhere.

        Args:
            comparison: from `parity.compare`.

        Returns:
            The same.
        """
        return _current().record(comparison).comparison

    def __repr__(self) -> str:
        return "<parity, which records what tests compare>"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(importlib.import_module("parity"), name)


def _current() -> Recorder:
    """Of the test that runs; where none does, one that nobody asks."""
    found = watching()
    return found if isinstance(found, Recorder) else Recorder("")


def _note_threads(test: str) -> None:
    """All threads that there are and that no test is known to have begun, began in this one."""
    for thread in threading.enumerate():
        _BEGUN.setdefault(thread, test)


def _cause(comparison: Comparison) -> str:
    diagnosis = comparison.diagnosis
    return "" if diagnosis is None or diagnosis.agrees else diagnosis.cause


def _names(sources: Sequence[Source]) -> list[str]:
    """What was to be compared, by the names of files and classes."""
    names: list[str] = []
    for source in sources:
        plain = Path(source).name if isinstance(source, (str, Path)) else type(source).__name__
        names.append(named_apart(plain, names))
    return names


def _entry(test: str, comparison: Comparison) -> Entry:
    entry = Entry(test, 0, comparison.verdict, comparison.sentence)
    entry.title = " and ".join(comparison.names)
    for row in comparison.table:
        floors = float(row.times_floor)
        one = Entry(
            test, 0, row.verdict, "", times_floor=floors if math.isfinite(floors) else str(floors), limit=row.limit
        )
        if entry.limit is None or one.excess > entry.excess:
            entry.times_floor, entry.limit, entry.quantity = one.times_floor, float(row.limit), row.quantity
    return entry


def _written(page: str, record: str, folder: Path, test: str) -> tuple[str, str]:
    """Write a page and its record under a name that is free, and give both names.

    Raises:
        ParityError: the folder is gone, or the system refuses.
    """
    from parity.report import write_text

    stem, number = slug(test), 1
    while True:
        name = f"{stem}-{number}" if number > 1 else stem
        number += 1
        target = folder / f"{name}.json"
        try:
            write_text(target, record)
        except ParityError:
            if target.exists():  # an earlier comparison of this test, perhaps in another process
                continue
            raise
        write_text(folder / f"{name}.html", page)
        return f"{name}.html", f"{name}.json"


def slug(test: str) -> str:
    """A test's id as the name of a file, on every system: readable in front, unique by its end.

    Example:
        >>> slug("tests/test_port.py::test_gru[3-<b>]")
        'tests-test_port.py-test_gru-3-b-ab0c6a36'
    """
    words = re.sub(r"[^A-Za-z0-9._]+", "-", test).strip("-.")
    whole = hashlib.blake2b(test.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
    return f"{words[-_MOST_LETTERS:].strip('-.')}-{whole}".lstrip("-")


__all__ = ["NAMES", "Entry", "Parity", "Recorder", "slug"]
