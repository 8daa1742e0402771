"""A diagnosis on the terminal; what is running, as progress bars."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from parity.diagnosis.diagnosis import Diagnosis, probes_in_words
from parity.diagnosis.investigating import Progress as Say
from parity.terminal import console


def show(diagnosis: Diagnosis) -> None:
    """The cause, where, the evidence and the repair."""
    out = console()
    sign, style = ("ok", "green") if diagnosis.agrees else ("CAUSE", "bold red") if diagnosis.found else ("?", "yellow")
    out.print(f"[{style}]{sign}[/] {escape(diagnosis.cause)}", soft_wrap=True)
    if diagnosis.first_layer is not None:
        out.print(escape(f"  The first layer that differs by itself: {diagnosis.first_layer}."), soft_wrap=True)
    if diagnosis.first_step is not None:
        out.print(f"  The first step that is off: {diagnosis.first_step}.")
    if diagnosis.evidence and not diagnosis.agrees:
        out.print(_table(diagnosis))
    for line in probes_in_words(diagnosis):
        out.print(escape(line), soft_wrap=True)
    if diagnosis.tried:
        out.print(f"{diagnosis.tried} hypotheses replayed. Floors: of float32 rounding; 2 are allowed.", style="dim")
    if not diagnosis.faults and diagnosis.ruled_out:
        out.print(escape(f"ruled out: {', '.join(diagnosis.ruled_out)}"), soft_wrap=True)
    if diagnosis.repair:
        out.print("\nTo mend it:\n", style="bold")
        out.print(escape(diagnosis.repair.rstrip()), soft_wrap=True)
        out.print()
    for note in diagnosis.notes:
        out.print(f"note: {escape(note)}", soft_wrap=True)


def _table(diagnosis: Diagnosis) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title, justify in (("with this mistake in the reference", "left"), ("where", "left")):
        table.add_column(title, justify=justify, overflow="fold")  # type: ignore[arg-type]  # Rich's own literal
    for title in ("difference before", "after", "floors"):
        table.add_column(title, justify="right")
    for row in diagnosis.evidence:
        style = "green" if row.fits else ""
        numbers = (f"{row.before:.3g}", f"{row.after:.3g}", f"{row.floors:.2g}")
        table.add_row(escape(f"it {row.hypothesis}"), escape(row.place), *numbers, style=style)
    return table


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


__all__ = ["progress", "show"]
