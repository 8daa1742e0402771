"""A comparison on the terminal, as the first screen of its page: verdict, likely cause, what ran, the matrix, the error over time."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from parity.comparison import Comparison
from parity.findings import describe
from parity.judge import LIMIT, REFERENCE, Row
from parity.record_words import cause_in_words
from parity.report.numbers import TIMES, number
from parity.report.record import Record, make_record
from parity.report.sections import what_ran
from parity.sparkline import Marks, marks_for, spark
from parity.spelling import spell_ascii
from parity.terminal import console, plain

_WIDE = 140
"""Columns of a terminal that has room for engines against each other beside engines against the reference."""

_SIGNS = {"agree": ("ok", "green"), "disagree": ("DISAGREE", "bold red"), "undecided": ("undecided", "yellow")}

_LABEL, _NUMBER, _SHORTEST = 28, 8, 10
"""Columns of a line of the error over time: the engine, the numbers at both ends, and of the line at least."""

_MOST_CHANGES = 12


def show_comparison(comparison: Comparison, record: Record | None = None) -> None:
    """The verdict, the likely cause, the matrix, the error over time, and what stands out.

    Args:
        comparison: what to show.
        record: of it, if it is made already; it may hold what changed since a baseline.
    """
    record = make_record(comparison) if record is None else record
    out = console()
    sign, style = _SIGNS[comparison.verdict]
    head, _, told = comparison.sentence.partition(" ")
    words = [head.rstrip(":"), told] if head.casefold() == f"{sign}:" else [sign, comparison.sentence]
    out.print(f"[{style}]{words[0]}[/] {_shown(words[1])}", soft_wrap=True)
    _show_cause(record, comparison, out)
    _show_since(record, out)
    ran = (part.replace(TIMES, "x") for part in what_ran(record) if part)
    out.print(_shown(" | ".join(ran)), soft_wrap=True, style="dim")
    out.print()
    if comparison.table:
        out.print(_matrix(comparison, out.width))
        _show_key(comparison, out)
        for line in error_lines(record, out.width, marks_for(out.encoding)):
            out.print(line, no_wrap=True, overflow="crop")
        out.print()
    _show_rest(comparison, out)


def _shown(text: str) -> str:
    return escape(plain(text))


def _show_cause(record: Record, comparison: Comparison, out: Console) -> None:
    """The likely cause, and where the evidence is."""
    sign, cause = cause_in_words(record)
    if cause:
        out.print(f"[bold]{sign}:[/] {_shown(cause)}", soft_wrap=True)
        out.print(_shown(f"evidence and repair: {_diagnosing(comparison)}, or the report"), soft_wrap=True, style="dim")


def _diagnosing(comparison: Comparison) -> str:
    """The command that diagnoses the same two files; without their names where there are others, or layers of them."""
    paths = [source.path for source in comparison.sources]
    if len(paths) != 2 or None in paths:
        return "parity diagnose"
    return shlex.join(["parity", "diagnose", *map(str, paths)])


def _show_since(record: Record, out: Console) -> None:
    """What changed since a baseline."""
    since = record.get("baseline")
    if since is None:
        return
    style = "bold red" if since["worse"] else "yellow" if not since["comparable"] else "bold"
    out.print(f"[{style}]{_shown(since['sentence'])}[/]", soft_wrap=True)
    rows = [row for row in since["rows"] if REFERENCE in (row["left"], row["right"])] or since["rows"]
    for row in rows[:_MOST_CHANGES]:
        out.print(f"  {_shown(row['text'])}", soft_wrap=True)
    if len(since["rows"]) > len(rows[:_MOST_CHANGES]):
        rest = len(since["rows"]) - len(rows[:_MOST_CHANGES])
        out.print(f"  and {rest} more, in the record and the report", style="dim")
    for moved in since["settings"]:
        out.print(
            f"  {_shown(moved['name'])}: {_shown(moved['then']) or 'none'} then, {_shown(moved['now']) or 'none'} now",
            soft_wrap=True,
        )


def _matrix(comparison: Comparison, width: int) -> Table:
    pairs = list(dict.fromkeys((row.left, row.right) for row in comparison.table))
    if width < _WIDE:
        pairs = [pair for pair in pairs if pair[1] == REFERENCE] or pairs
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("max difference (x floor)")
    for left, right in pairs:
        table.add_column(_shown(left if right == REFERENCE else f"{left} - {right}"), justify="right")
    for rule, quantity in dict.fromkeys((row.rule, row.quantity) for row in comparison.table):
        found = {(row.left, row.right): row for row in comparison.table if (row.rule, row.quantity) == (rule, quantity)}
        name = f"{quantity}, one step" if rule == "one step" else quantity
        table.add_row(_shown(name), *(_cell(found.get(pair)) for pair in pairs))
    return table


def _show_key(comparison: Comparison, out: Console) -> None:
    asked = comparison.asked["inputs"]
    own = "random inputs; your own: --inputs x.npz" if asked == "random" else f"inputs: {asked}"
    limits = f"allowed {spell_ascii(LIMIT)} against the reference, {spell_ascii(2 * LIMIT)} between engines"
    out.print(
        f"x: in units of the float32 floor; {limits}. {_shown(own)}",
        soft_wrap=True,
        style="dim",
    )


def _show_rest(comparison: Comparison, out: Console) -> None:
    for label, form in comparison.forms.items():
        if not form.native:
            out.print(f"composed in {_shown(label)}: {_shown('; '.join(form.composed))}", soft_wrap=True, style="dim")
    for row in comparison.table:
        if row.verdict == "disagree" and row.right == REFERENCE:
            out.print(f"  {_shown(describe(row))}", soft_wrap=True)
    for label, text in comparison.judgement.failures.items():
        out.print(f"[bold red]FAILED[/] {_shown(label)}: {_shown(text)}", soft_wrap=True)
    for note in comparison.notes:
        out.print(f"note: {_shown(note)}", soft_wrap=True)


def _cell(row: Row | None) -> str:
    if row is None:
        return ""
    sign, style = _SIGNS[row.verdict]
    mark = "" if row.verdict == "agree" else f" {sign}"
    return f"[{style}]{spell_ascii(row.max_error, 2)} ({_floors(row.times_floor)}){mark}[/]"


def error_lines(record: Mapping[str, Any], width: int, marks: Marks) -> Iterator[str]:
    """The error over time of every engine, and of a whole model over its layers where they were judged, each as a line of Rich's markup.

    Args:
        record: from `parity.report.make_record`.
        width: of the terminal.
        marks: characters that it can show.

    Returns:
        A heading, a line for each engine with the numbers at both ends, and what the characters mean; nothing where there is no such
        quantity.
    """
    profile, layers = record["profile"], _layers(record)
    values = [] if profile is None else [value for row in profile["times_floor"].values() for value in row]
    found: list[str] = []
    if profile is not None and any(value is not None for value in values):
        steps = f"step 0 to {profile['time'] - 1}" if profile["time"] > 1 else "one step"
        found.append(f"\n[bold]error over time, x floor[/] [dim]({_shown(profile['quantity'])}, {steps})[/]")
        errors = {label: list(map(_value, row)) for label, row in profile["times_floor"].items()}
        found += _lines(errors, width, marks)
    if layers is not None:
        first, last = (_shown(name) for name in layers[1])
        found.append(f"\n[bold]error by layer, x floor[/] [dim]({first} to {last}, each on the inputs that it got)[/]")
        found += _lines(layers[0], width, marks)
        values += [value for row in layers[0].values() for value in row]
    yield from found
    if found:
        yield f"[dim]{marks.within} up to the limit, {marks.beyond} beyond it, {marks.passed} where it is first passed[/]"
    if found and None in values and marks.gap.strip():
        yield f"[dim]{marks.gap} nothing to compare: padding, lost in rounding, or not shown by the engine[/]"


def _layers(record: Mapping[str, Any]) -> tuple[dict[str, list[float | None]], tuple[str, str]] | None:
    """Of every engine, the error of each layer in the order of the data; and the first and the last layer's name."""
    rows = [row for row in record["rows"] if row["rule"] == "layer" and row["right"] == REFERENCE]
    names = list(dict.fromkeys(row["quantity"].removeprefix("layer ") for row in rows))
    if len(names) < 2:
        return None
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        found.setdefault(row["left"], {})[row["quantity"].removeprefix("layer ")] = number(row["times_floor"])
    return {label: [errors.get(name) for name in names] for label, errors in found.items()}, (names[0], names[-1])


def _lines(engines: Mapping[str, list[float | None]], width: int, marks: Marks) -> Iterator[str]:
    label_width = min(_LABEL, max(len(plain(label)) for label in engines))
    room = max(_SHORTEST, width - label_width - 2 * _NUMBER - 4)
    for label, values in engines.items():
        name = plain(label)
        name = name if len(name) <= label_width else f"{name[: label_width - 3]}..."
        known = [value for value in values if value is not None]
        ends = [_floors(value) for value in known[:: max(1, len(known) - 1)]] or ["-"]
        before, after = spark(values, LIMIT, room, marks)
        style = "red" if after else "green"
        line = f"{escape(before)}[{style}]{escape(after)}[/]" if after else f"[{style}]{escape(before)}[/]"
        yield f"{escape(name.ljust(label_width))} {ends[0]:>{_NUMBER}} {line} {ends[-1]}"


def _floors(value: float) -> str:
    """A number of floors, in characters that every encoding has.

    Example:
        >>> _floors(0.1876), _floors(190.4), _floors(float("inf"))
        ('0.19x', '190x', 'infx')
    """
    return f"{spell_ascii(value, 2)}x"


def _value(value: Any) -> float | None:
    return None if value is None else number(value)


__all__ = ["error_lines", "show_comparison"]
