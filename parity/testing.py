"""For tests: fail unless everything agrees, with a message that says what, where, why, and how to see it again."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from parity.spelling import spell_ascii

if TYPE_CHECKING:
    from parity.comparison import Comparison
    from parity.diagnosis import Diagnosis
    from parity.judge import Row
    from parity.sources import Source

_MOST_ROWS = 12
"""So many rows stand in a message; the report has all of them."""

_UNDECIDED = ("fail", "pass")


class Watcher(Protocol):
    """Keeps what is compared while a test runs, as the pytest plugin does."""

    def assert_parity(self, *sources: Source, undecided: str = "fail", **options: Any) -> Comparison:
        """Do what `assert_parity` does, and keep the comparison."""
        ...


_of_the_context: ContextVar[Watcher | None] = ContextVar("parity.testing.watcher", default=None)
_of_the_process: list[Watcher] = []
"""For threads that were started without their starter's context, as `threading.Thread` starts them before Python 3.14; the last counts."""


@contextmanager
def watched_by(watcher: Watcher) -> Iterator[None]:
    """While this lasts, hand over what `assert_parity` is asked, in this thread and in those without a watcher of their own.

    Args:
        watcher: does it, and keeps what comes out.
    """
    token = _of_the_context.set(watcher)
    _of_the_process.append(watcher)
    try:
        yield
    finally:
        _of_the_process.remove(watcher)
        _of_the_context.reset(token)


def watching() -> Watcher | None:
    """Who keeps what is compared here and now; None where nobody does, as outside of pytest."""
    own = _of_the_context.get()
    return own if own is not None or not _of_the_process else _of_the_process[-1]


def assert_parity(*sources: Source, undecided: str = "fail", **options: Any) -> Comparison:
    """Fail unless everything agrees; the message is the comparison in words. For tests.

    Under pytest the comparison is recorded as if it had been made by the fixture `parity`, also in a thread of the test.

    Args:
        sources, options: as for `parity.compare`.
        undecided: what becomes of a run that nobody can judge to its end: "fail", or "pass" to accept it. An engine that failed is
            never accepted.

    Returns:
        The comparison.

    Raises:
        AssertionError: the verdict is disagree, or undecided and that is not accepted. The message has the verdict's sentence, the table
            of what disagrees, the likely cause and its place, how to run it again, and the path of the report if one is written.
        ParityError: as for `parity.compare`; or `undecided` is another word.

    Example:
        >>> import torch
        >>> assert_parity(torch.nn.GRU(3, 5), engines=["torch"]).verdict
        'agree'
    """
    __tracebackhide__ = True
    watcher = watching()
    if watcher is not None:
        return watcher.assert_parity(*sources, undecided=undecided, **options)
    from parity.comparison import compare

    check_undecided(undecided)
    return accepted(compare(*sources, **options), undecided)


def check_undecided(undecided: str) -> None:
    """Refuse another word than "fail" or "pass", before anything is run.

    Raises:
        ParityError: it is another word.
    """
    from parity.errors import ParityError

    if undecided not in _UNDECIDED:
        expected = " or ".join(map(repr, _UNDECIDED))
        raise ParityError("what becomes of an undecided comparison?", "undecided", expected, repr(undecided))


def accepted(
    comparison: Comparison, undecided: str = "fail", again: Sequence[str] = (), report: Path | None = None
) -> Comparison:
    """The comparison itself, where its verdict is one that a test accepts.

    Args:
        comparison: what was found.
        undecided: as for `assert_parity`.
        again: more commands that run it again.
        report: where its page is written.

    Raises:
        AssertionError: the verdict is none that is accepted; see `assert_parity`.
    """
    __tracebackhide__ = True
    enough = comparison.verdict == "undecided" and undecided == "pass" and not comparison.judgement.failures
    if not (comparison.ok or enough):
        raise AssertionError(in_words(comparison, again, report))
    return comparison


def in_words(comparison: Comparison, again: Sequence[str] = (), report: Path | None = None) -> str:
    """A comparison that does not agree, in full: the sentence, the table, the cause, how to run it again, and the report.

    Args:
        comparison, again, report: as for `accepted`.

    Example:
        >>> import torch
        >>> from parity.comparison import compare
        >>> text = in_words(compare(torch.nn.GRU(3, 5), torch.nn.GRU(3, 5)), ["pytest test_port.py"])
        >>> "disagrees with the reference" in text, "Run it again:" in text, "  pytest test_port.py" in text
        (True, True, True)
    """
    bad = [row for row in comparison.table if row.verdict == "disagree"]
    parts = [comparison.sentence]
    if bad:
        parts[0] = "\n".join([comparison.sentence, *_table(bad)])
    if comparison.verdict == "undecided":
        parts.append(_undecided(comparison))
    diagnosis = comparison.diagnosis
    if diagnosis is not None and not diagnosis.agrees:
        parts.append(f"{_heading(diagnosis)}: {str(diagnosis).rstrip()}")
    if comparison.notes:
        parts.append("\n".join(f"note: {note}" for note in comparison.notes))
    parts.append("\n".join(["Run it again:", *(f"  {line}" for line in (*_calls(comparison), *again))]))
    if report is not None:
        parts.append(f"Report: {report}")
    return _visible("\n\n".join(parts))


def _heading(diagnosis: Diagnosis) -> str:
    if diagnosis.found:
        return "Likely cause"
    return "Several causes" if diagnosis.faults else "No cause found"


def _undecided(comparison: Comparison) -> str:
    if comparison.judgement.failures:
        return "An engine that failed proves nothing: this does not pass."
    return (
        "Nothing disagrees, but not everything could be compared, so this fails. "
        'Give fewer steps (time=..., or inputs of your own), or accept it with undecided="pass".'
    )


def _calls(comparison: Comparison) -> Iterator[str]:
    """How to make the comparison again: the command where everything is a file, and Python."""
    again = comparison.record["again"]
    if again["command"]:
        yield again["command"]
    yield from again["python"].splitlines()


def _table(bad: Sequence[Row]) -> list[str]:
    """What disagrees, a line each, in the order of the data; of many, the worst ones."""
    from parity.judge import REFERENCE

    against = [row for row in bad if row.right == REFERENCE] or list(bad)
    worst = sorted(against, key=lambda row: -_excess(row))[:_MOST_ROWS]
    head = ("quantity", "of", "rule", "largest difference", "at", "values", "largest against the floor", "at")
    lines = [head, *(_cells(row) for row in against if row in worst)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    table = [f"  {'  '.join(text.ljust(n) for text, n in zip(line, widths, strict=True))}".rstrip() for line in lines]
    rest = len(against) - len(worst)
    return [*table, f"  and {rest} more, less far off"] if rest else table


def _excess(row: Row) -> float:
    """How far beyond its limit a row is; what is no number comes first."""
    return math.inf if math.isnan(row.times_floor) else row.times_floor / row.limit


def _cells(row: Row) -> tuple[str, ...]:
    who = f"{row.left} and {row.right}"
    if row.note:
        return (row.quantity, who, row.rule, row.note, "", "", "", "")
    place, worst = (
        ", ".join(f"{axis} {position}" for axis, position in found.items()) for found in (row.place, row.worst)
    )
    values = f"{spell_ascii(row.values[0], 6)} and {spell_ascii(row.values[1], 6)}"
    floors = f"{spell_ascii(row.times_floor)}x, {spell_ascii(row.limit)}x allowed"
    return (row.quantity, who, row.rule, spell_ascii(row.max_error), place, values, floors, worst)


def _visible(text: str) -> str:
    r"""The text with everything that a terminal would take for a command, or that turns the direction of writing, spelled out.

    Example:
        >>> print(_visible("a\x1b[31m \u202eb\nc"))
        a\x1b[31m \u202eb
        c
    """
    shown = (
        one if one == "\n" or one.isprintable() else one.encode("unicode_escape", "surrogatepass").decode("ascii")
        for one in text
    )
    return "".join(shown)


__all__ = ["Watcher", "accepted", "assert_parity", "check_undecided", "in_words", "watched_by", "watching"]
