"""The matrix of a record on the terminal: as many columns as there is room for, and nothing left out without a word."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from parity.report.matrix import Column, columns_of
from parity.spelling import number, spell_ascii
from parity.terminal import plain

SIGNS = {"agree": ("ok", "green"), "disagree": ("DISAGREE", "bold red"), "undecided": ("undecided", "yellow")}

Record = Mapping[str, Any]
_Line = tuple[str, str]
"""A rule and a quantity."""
_Cells = Mapping[tuple[str, str, str, str], Record]
"""Rows by rule, quantity, left and right."""

_MOST_LINES, _MOST_PAIRS = 36, 12
"""Lines of a table; where there are more, those that come nearest to their limit, or are furthest beyond it, are shown."""

_LONGEST_WORD, _LONGEST_NOTE = 24, 30
"""Characters of a word of a heading and of a note in a cell that are not folded."""

_GAP = 2
_CORNER = "max difference (x floor)"
_WHERE_ALL_IS = "--report or --json shows all"


def matrix(record: Record, width: int) -> Iterator[Table | str]:
    """Every quantity against the reference, and the engines against each other.

    Where all of it fits, one table. Else the engines stand in as many tables as they need, and below them each pair of engines has one
    line, with the quantity that comes nearest to its limit or is furthest beyond it.

    Args:
        record: from `parity.report.make_record`.
        width: of the terminal.

    Returns:
        Tables, and lines of Rich's markup that say what is not shown.
    """
    rows = record["rows"]
    columns = columns_of(rows, {engine["label"]: index for index, engine in enumerate(record["engines"][:-1])})
    against = [column for column in columns if column.against_reference]
    pairs = [column for column in columns if not column.against_reference]
    every = list(dict.fromkeys((row["rule"], row["quantity"]) for row in rows))
    cells = {(row["rule"], row["quantity"], row["left"], row["right"]): row for row in rows}
    shown = _worst(every, _MOST_LINES, lambda line: _badness([row for row in rows if line == _line_of(row)]))
    for folded in (False, True):
        if _room_for(columns, shown, cells, folded) <= width:
            yield _table(columns, shown, cells, folded)
            yield from _left_out(every, shown, rows)
            return
    for index, (group, folded) in enumerate(_groups(against, shown, cells, width)):
        yield from [""] if index else []
        yield _table(group, shown, cells, folded)
    yield from _left_out(every, shown, [row for row in rows if _column(row) in {(c.left, c.right) for c in against}])
    if pairs:
        yield from _pairs(pairs, rows, width)


def nothing_comparable(record: Record) -> bool:
    """Whether there is a row of which nothing can be compared, so that it has no number of floors."""
    return any(not row["total"] and not row["note"] for row in record["rows"])


def _line_of(row: Record) -> _Line:
    return row["rule"], row["quantity"]


def _column(row: Record) -> tuple[str, str]:
    return row["left"], row["right"]


def _badness(rows: Sequence[Record]) -> tuple[int, float]:
    """How bad the worst of some rows is: the verdict, then how near to the limit."""
    order = ("agree", "undecided", "disagree")
    return max(((order.index(row["verdict"]), _nearness(row)) for row in rows), default=(0, 0.0))


def _nearness(row: Record) -> float:
    """How many times the limit, where what is no number is beyond all."""
    times = number(row["times_floor"]) / number(row["limit"])
    return math.inf if math.isnan(times) else times


def _worst(every: list[Any], most: int, badness: Callable[[Any], tuple[int, float]]) -> list[Any]:
    """The worst ones, in the order of all."""
    kept = sorted(range(len(every)), key=lambda index: badness(every[index]), reverse=True)[:most]
    return [every[index] for index in sorted(kept)]


def _left_out(every: Sequence[_Line], shown: Sequence[_Line], rows: Sequence[Record]) -> Iterator[str]:
    rest = [row for row in rows if _line_of(row) in set(every) - set(shown)]
    if rest:
        worst = max(map(_nearness, rest))
        count = len({_line_of(row) for row in rest})
        told = f"and {count} more quantities, none worse than these: at most {spell_ascii(worst, 2)} of the limit; {_WHERE_ALL_IS}"
        yield f"[dim]{told}[/]"


def _room_for(columns: Sequence[Column], lines: Sequence[_Line], cells: _Cells, folded: bool) -> int:
    return _name_width(lines) + sum(_GAP + _width(column, lines, cells, folded) for column in columns)


def _name_width(lines: Sequence[_Line]) -> int:
    return max(len(plain(_name(line))) for line in (*lines, ("", _CORNER)))


def _width(column: Column, lines: Sequence[_Line], cells: _Cells, folded: bool) -> int:
    """Characters of the widest cell and of the heading, or of its longest word where it is folded into several lines."""
    rows = [cells.get((*line, column.left, column.right)) for line in lines]
    held = [min(len(_words(row)), _LONGEST_NOTE if row and row["note"] else len(_words(row))) for row in rows]
    heading = plain(_heading(column))
    words = [min(len(word), _LONGEST_WORD) for word in heading.split()] if folded else [len(heading)]
    return max([*held, *words])


def _groups(
    columns: Sequence[Column], lines: Sequence[_Line], cells: _Cells, width: int
) -> list[tuple[list[Column], bool]]:
    """The columns in as few tables as their width allows, one at least in each; and whether headings are folded for it."""
    if _room_for(columns, lines, cells, folded=False) <= width:
        return [(list(columns), False)]
    found: list[list[Column]] = []
    for column in columns:
        if found and _room_for([*found[-1], column], lines, cells, folded=True) <= width:
            found[-1].append(column)
        else:
            found.append([column])
    return [(group, _room_for(group, lines, cells, folded=False) > width) for group in found]


def _heading(column: Column) -> str:
    return column.left if column.against_reference else f"{column.left} - {column.right}"


def _table(columns: Sequence[Column], lines: Sequence[_Line], cells: _Cells, folded: bool) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(_CORNER, overflow="fold")
    for column in columns:
        width = _width(column, lines, cells, folded)
        table.add_column(_shown(_heading(column)), justify="right", overflow="fold", width=width)
    for line in lines:
        table.add_row(
            _shown(_name(line)), *(_cell(cells.get((*line, column.left, column.right))) for column in columns)
        )
    return table


def _pairs(pairs: Sequence[Column], rows: Sequence[Record], width: int) -> Iterator[Table | str]:
    """A line for each pair of engines; two where its names have no room in one."""
    own = {(pair.left, pair.right): [row for row in rows if _column(row) == (pair.left, pair.right)] for pair in pairs}
    shown = _worst(list(own), _MOST_PAIRS, lambda pair: _badness(own[pair]))
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("engine against engine", overflow="fold")
    table.add_column("worst in", overflow="fold")
    table.add_column(_CORNER, justify="right", overflow="fold")
    worst = {pair: max(own[pair], key=lambda row: _badness([row])) for pair in shown}
    names = max(len(plain(_name(_line_of(row)))) for row in worst.values())
    room = width - names - max(len(_CORNER), *(len(_words(row)) for row in worst.values())) - 2 * _GAP
    for pair, row in worst.items():
        name = " - ".join(map(plain, pair))
        lines = name if len(name) <= room else f"{plain(pair[0])}\n  - {plain(pair[1])}"
        table.add_row(escape(lines), _shown(_name(_line_of(row))), _cell(row))
    yield ""
    yield table
    rest = [pair for pair in own if pair not in shown]
    more = f"and {len(rest)} more pairs, none worse than these; " if rest else ""
    yield f"[dim]{more}every quantity of each pair: on a wider terminal, or with --report or --json[/]"


def _name(line: _Line) -> str:
    rule, quantity = line
    return f"{quantity}, one step" if rule == "one step" else quantity


def _words(row: Record | None) -> str:
    """A cell: the difference and how many floors that is, what there is to say instead, and the verdict unless it agrees."""
    if row is None:
        return ""
    mark = "" if row["verdict"] == "agree" else f" {SIGNS[row['verdict']][0]}"
    if row["note"]:
        return plain(f"{row['note']}{mark}")
    floors = f"{spell_ascii(row['times_floor'], 2)}x" if row["total"] else "-"
    return f"{spell_ascii(row['max_error'], 2)} ({floors}){mark}"


def _cell(row: Record | None) -> str:
    return "" if row is None else f"[{SIGNS[row['verdict']][1]}]{escape(_words(row))}[/]"


def _shown(text: str) -> str:
    return escape(plain(text))


__all__ = ["SIGNS", "matrix", "nothing_comparable"]
