"""A comparison on the terminal, as the first screen of its page: verdict, likely cause, what ran, the matrix, the error over time."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding

from parity.comparison import Comparison
from parity.findings import describe
from parity.judge import LIMIT, REFERENCE
from parity.record_words import cause_in_words
from parity.report.cause import cause_view
from parity.report.decisions import decisions_view
from parity.report.in_words import place_in_words
from parity.report.matrix import columns_of
from parity.report.numbers import TIMES, number
from parity.report.record import Record
from parity.report.sections import forms_view, mask_view, what_ran
from parity.sparkline import Marks, marks_for, spark
from parity.spelling import spell_ascii
from parity.terminal import console, plain
from parity.terminal_matrix import SIGNS, matrix, nothing_comparable

_LABEL, _LEAST_LABEL, _NUMBER, _SHORTEST = 28, 10, 8, 10
"""Columns of a line of the error over time: the engine, at most and at least, the numbers at both ends, and of the line at least."""

_MOST_CHANGES, _MOST_DESCRIBED, _MOST_DECISIONS = 12, 3, 3


def show_comparison(comparison: Comparison, record: Record | None = None) -> None:
    """The verdict, the likely cause, the matrix, the error over time, and what stands out.

    Args:
        comparison: what to show.
        record: of it, if it is made already; it may hold what changed since a baseline.
    """
    record = comparison.record if record is None else record
    out = console()
    sign, style = SIGNS[comparison.verdict]
    told = comparison.sentence.removeprefix("Undecided: ")
    _say(out, told, mark=f"[{style}]{sign if told == comparison.sentence else 'Undecided:'}[/] ")
    _show_cause(record, comparison, out)
    _show_since(record, out)
    _say(out, " | ".join(filter(None, (*what_ran(record), *forms_view(record)))), style="dim")
    if padding := _padding(record):
        _say(out, padding, style="dim")
    for label, text in comparison.judgement.failures.items():
        _say(out, f"{label}: {text}", mark="[bold red]FAILED[/] ")
    out.print()
    if comparison.table:
        for part in matrix(record, out.width):
            out.print(part)
        _show_key(record, out)
        _show_decisions(record, out)
        for line in error_lines(record, out.width, marks_for(out.encoding)):
            out.print(line)
        out.print()
    _show_rest(comparison, out)


def _say(out: Console, text: str, mark: str = "", style: str = "", indent: int = 0) -> None:
    """A text in lines broken between words on a terminal, and in one line where it is piped, as searching it is easier.

    Args:
        out: where to.
        text: of the record, which may hold names from a file.
        mark: of Rich, to stand before it.
        style: of Rich.
        indent: columns on the left.
    """
    markup = f"{mark}{_shown(text.replace(TIMES, 'x'))}"
    if indent and out.is_terminal:
        out.print(Padding(markup, (0, 0, 0, indent), style=style, expand=False))
    else:
        out.print(f"{' ' * indent}{markup}", soft_wrap=not out.is_terminal, style=style)


def _shown(text: str) -> str:
    return escape(plain(text))


def _show_cause(record: Record, comparison: Comparison, out: Console) -> None:
    """The likely cause, how well it explains what is seen, and where the rest of the evidence is."""
    sign, cause = cause_in_words(record)
    view = cause_view(record["diagnosis"])
    if not cause or view is None:
        return
    first = f" The first step that is off: {view['first_step']}." if view["first_step"] is not None else ""
    _say(out, f"{cause}{first}", mark=f"[bold]{sign}:[/] ")
    if view["telling"]:
        _say(out, view["telling"])
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
    alike = since.get("alike", since["comparable"])
    _say(out, since["sentence"], style="bold red" if since["worse"] else "bold" if alike else "yellow")
    for moved in (*since["sources"], *since["settings"]):
        _say(out, f"{moved['name']}: {moved['then'] or 'none'} then, {moved['now'] or 'none'} now", indent=2)
    for note in since.get("notes", ()):
        _say(out, note, indent=2)
    if since["worse"] and since.get("fail_on_worse"):
        _say(out, "worse than the baseline, so the exit code is 1, as --fail-on-worse asks", indent=2, style="bold red")
    rows = [row for row in since["rows"] if REFERENCE in (row["left"], row["right"])] or since["rows"]
    for row in rows[:_MOST_CHANGES]:
        _say(out, row["text"], indent=2)
    if len(since["rows"]) > len(rows[:_MOST_CHANGES]):
        rest = len(since["rows"]) - len(rows[:_MOST_CHANGES])
        out.print(f"  and {rest} more, in the record and the report", style="dim")


def _padding(record: Record) -> str:
    """How much is padding, and whether engines differ there; empty without padding."""
    view = mask_view(record, columns_of(record["rows"], _order(record)))
    if view is None:
        return ""
    text = f"{view['words']}{', ' + view['lengths'] if view['lengths'] else ''}"
    if not view["scored"]:
        return f"padding: {text}"
    differing = view["differing"]
    verb = "differ" if differing[1:] else "differs"
    alike = "engines differ from each other by convention, which is no disagreement" if view["any"] else "all are alike"
    told = f"{' and '.join(differing)} {verb} from the reference by convention, which is no disagreement"
    return f"padding: {text}; padded steps are scored apart: {told if differing else alike}"


def _order(record: Mapping[str, Any]) -> dict[str, int]:
    return {engine["label"]: index for index, engine in enumerate(record["engines"][:-1])}


def _show_key(record: Record, out: Console) -> None:
    """What the table's numbers mean, and which inputs they are of."""
    asked = record["inputs"]["inputs"]
    own = "random inputs; your own: --inputs x.npz" if asked == "random" else f"inputs: {asked}"
    limits = f"allowed {spell_ascii(LIMIT)} against the reference, {spell_ascii(2 * LIMIT)} between engines"
    floor = "in units of the float32 floor, the difference that float32 rounding alone makes here"
    lost = " (-): nothing of it can be compared." if nothing_comparable(record) else ""
    _say(out, f"x: {floor}; {limits}.{lost} {own}", style="dim")


def _show_decisions(record: Record, out: Console) -> None:
    """Whether engines decide as the reference does, where an output looks like a decision."""
    view = decisions_view(record)
    if view is None:
        return
    out.print("\n[bold]the same decision as the reference[/]")
    for entry in view["outputs"]:
        for label, engine in entry["engines"].items():
            told = f"{entry['output']} ({entry['words']}), {label}: {engine['same']} of {engine['total']}, {engine['share']}"
            _say(out, told, style="red" if engine["same"] < engine["total"] else "")
    for row in view["differing"][:_MOST_DECISIONS]:
        sides = f"{row['engine']} {row['sides'][0]}, the reference {row['sides'][1]}"
        margin = f"by a margin of {spell_ascii(row['margin'], 2)} ({_floors(number(row['floors']))})"
        _say(out, f"{row['output']}, {place_in_words(row['place'])}: {sides}, {margin}", indent=2)
    rest = len(view["differing"][_MOST_DECISIONS:]) + view["more"]
    if rest:
        out.print(f"  and {rest} more, in the report", style="dim")


def _show_rest(comparison: Comparison, out: Console) -> None:
    for label, form in comparison.forms.items():
        if not form.native:
            _say(out, f"composed in {label}: {'; '.join(form.composed)}", style="dim")
    bad = [row for row in comparison.table if row.verdict == "disagree" and row.right == REFERENCE]
    kept = {id(row) for row in sorted(bad, key=lambda row: -row.times_floor / row.limit)[:_MOST_DESCRIBED]}
    for row in bad:
        if id(row) in kept:
            _say(out, describe(row), indent=2)
    if len(bad) > len(kept):
        told = f"  and {len(bad) - len(kept)} more that disagree, by less: --report or --json has them"
        out.print(told, style="dim")
    for note in comparison.notes:
        _say(out, f"note: {note}")


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
    if found and profile is not None and (missing := _without_line(record)):
        yield f"[dim]no line for {_shown(', '.join(missing))}: this sequence is not shown by it, or has another shape[/]"
    if found:
        yield f"[dim]{marks.within} up to the limit, {marks.beyond} beyond it, {marks.passed} where it is first passed[/]"
    if found and None in values and marks.gap.strip():
        yield f"[dim]{marks.gap} nothing to compare: padding, lost in rounding, or not shown by the engine[/]"


def _without_line(record: Mapping[str, Any]) -> list[str]:
    """Engines that ran, and do not show the sequence whose errors are drawn."""
    drawn = {**record["profile"]["times_floor"], **record["failures"]}
    return [label for label in _order(record) if label not in drawn]


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
    most = min(_LABEL, max(_LEAST_LABEL, width - _SHORTEST - 2 * _NUMBER - 4))
    label_width = min(most, max(len(plain(label)) for label in engines))
    room = max(_SHORTEST, width - label_width - 2 * _NUMBER - 4)
    for label, values in engines.items():
        name = _middle_left_out(plain(label), label_width)
        known = [value for value in values if value is not None]
        ends = [_floors(value) for value in known[:: max(1, len(known) - 1)]] or ["-"]
        before, after = spark(values, LIMIT, room, marks)
        style = "red" if after else "green"
        line = f"{escape(before)}[{style}]{escape(after)}[/]" if after else f"[{style}]{escape(before)}[/]"
        yield f"{escape(name.ljust(label_width))} {ends[0]:>{_NUMBER}} {line} {ends[-1]}"


def _middle_left_out(name: str, most: int) -> str:
    """A name of at most so many characters, with both its ends, as names of one model differ in either.

    Example:
        >>> _middle_left_out("torch", 10), _middle_left_out("LSTM 'lstm' (torch) #2", 12)
        ('torch', 'LSTM ...) #2')
    """
    if len(name) <= most:
        return name
    end = (most - 3) // 2
    return f"{name[: most - 3 - end]}...{name[len(name) - end :]}"


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
