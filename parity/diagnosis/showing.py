"""A diagnosis on the terminal; what is running, as progress bars."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from parity.diagnosis.diagnosis import Diagnosis, Evidence, probes_in_words
from parity.diagnosis.investigating import Progress as Say
from parity.judge import LIMIT
from parity.spelling import spell_ascii
from parity.terminal import console, plain

_HARDLY = 0.5
"""A mistake that leaves more of the difference than this share hardly explains anything."""

_FITS, _FITS_NOT = "=> ", "   "


def show(diagnosis: Diagnosis, ran: str = "") -> None:
    """The cause, where, the evidence and the repair.

    Args:
        diagnosis: what `parity.diagnose` gave.
        ran: on which inputs, in words.
    """
    out = console()
    sign, style = ("ok", "green") if diagnosis.agrees else ("CAUSE", "bold red") if diagnosis.found else ("?", "yellow")
    out.print(f"[{style}]{sign}[/] {_shown(diagnosis.cause)}", soft_wrap=True)
    if diagnosis.first_layer is not None:
        out.print(_shown(f"  The first layer that differs by itself: {diagnosis.first_layer}."), soft_wrap=True)
    if diagnosis.first_step is not None:
        out.print(f"  The first step that is off: {diagnosis.first_step}.")
    if diagnosis.evidence and not diagnosis.agrees:
        out.print("The largest difference, before -> after this mistake is made in the reference:")
        for row in telling_rows(diagnosis.evidence):
            lines = _row(row, diagnosis, out.width if out.is_terminal else 0)
            out.print(_shown("\n".join(lines)), style="green" if row.fits else None, soft_wrap=True)
    for line in probes_in_words(diagnosis):
        out.print(_shown(line), soft_wrap=True)
    if not diagnosis.faults and diagnosis.ruled_out:
        out.print(
            _shown(f"ruled out, wherever parity can make them in the reference: {', '.join(diagnosis.ruled_out)}"),
            soft_wrap=True,
        )
    for line in _ran(diagnosis, ran):
        out.print(_shown(line), style="dim", soft_wrap=True)
    if diagnosis.repair:
        out.print(f"\n[bold]To mend it:[/]\n\n{_shown(diagnosis.repair.rstrip())}", soft_wrap=True)
    if diagnosis.repair and diagnosis.notes:
        out.print()
    for note in diagnosis.notes:
        out.print(f"note: {_shown(note)}", soft_wrap=True)


def telling_rows(rows: Sequence[Evidence]) -> list[Evidence]:
    """The hypotheses that explain something: those that hardly bring the reference nearer only where there are no others.

    Example:
        >>> best, worst = Evidence("", "", 0.5, 1e-7, 1.2, True), Evidence("", "", 0.5, 0.4, 1e5, False)
        >>> telling_rows([best, worst]) == [best], telling_rows([worst]) == [worst]
        (True, True)
    """
    return [row for row in rows if row.fits or row.after <= _HARDLY * row.before] or list(rows)


def _row(row: Evidence, diagnosis: Diagnosis, width: int) -> list[str]:
    """The numbers of a hypothesis and what it is: in a line, or where a terminal is narrow broken into several."""
    before, after, floors = (spell_ascii(value, 2) for value in (row.before, row.after, row.floors))
    numbers = f"{before} -> {after} ({floors} floors)"
    of_the_cause = row.fits and diagnosis.found
    where = f" ({row.place})" if row.place else ""
    words = "the cause above" if of_the_cause else f"it {row.hypothesis}{where}"
    line = f"{_FITS if row.fits else _FITS_NOT}{numbers}: {words}"
    if not width or len(line) <= width:
        return [line]
    return textwrap.wrap(line, width, subsequent_indent=" " * 2 * len(_FITS), break_on_hyphens=False)


def _ran(diagnosis: Diagnosis, ran: str) -> Iterator[str]:
    """On what it ran, how much was tried, and what a floor is."""
    tried = f"{diagnosis.tried} hypotheses replayed" if diagnosis.tried else ""
    if ran or tried:
        yield " | ".join(filter(None, (ran, tried)))
    if diagnosis.evidence and not diagnosis.agrees:
        yield f"floor: the difference that float32 rounding alone makes here; up to {LIMIT:g} floors agree"


def _shown(text: str) -> str:
    return escape(plain(text))


@contextmanager
def progress() -> Iterator[Say | None]:
    """Bars on standard error; nothing when that is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        current: list[Any] = []

        def say(title: str, steps: int) -> None:
            if title:
                current[:] = [bars.add_task(title, total=steps)]
            else:
                bars.advance(current[0], steps)

        yield say


__all__ = ["progress", "show", "telling_rows"]
