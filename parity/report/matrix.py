"""The matrix of a record: every quantity against each engine and pair, rule by rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from parity.report.numbers import number, spell

Record: TypeAlias = dict[str, Any]

_SEVERITY = ("agree", "undecided", "disagree")
RULES = {
    "run": ("The whole run", "every step after all the steps before it"),
    "one step": ("One step at a time", "every step from the reference's own state"),
    "layer": ("Layer by layer", "every layer on the inputs that it got"),
}
_NARROW = 3
MOST_PLACES = 40
"""Of more differences those between two engines that agree are not told one by one."""


@dataclass(frozen=True)
class Column:
    """One pair of the matrix, with the line style of each side (None for the reference)."""

    left: str
    right: str
    styles: tuple[int, int | None]

    @property
    def against_reference(self) -> bool:
        """Whether the right side is the reference."""
        return self.styles[1] is None


@dataclass(frozen=True)
class Line:
    """One quantity of the matrix: its layer, its own name, the verdict over all pairs, and a row of the record per column."""

    layer: str
    quantity: str
    verdict: str
    cells: tuple[Record | None, ...]

    @property
    def padded(self) -> str:
        """What a mask leaves out of it, in words; empty for nothing."""
        row = next((row for row in self.cells if row and row["padded"]), None)
        return "" if row is None else "padded steps" if "time" in row["place"] else "empty samples"

    @property
    def convention(self) -> bool:
        """Whether some sides differ where it is padded."""
        return any(row and row["padding_outside"] for row in self.cells)


@dataclass(frozen=True)
class Group:
    """The lines of one rule."""

    title: str
    hint: str
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Table:
    """One table of the matrix."""

    columns: tuple[Column, ...]
    groups: tuple[Group, ...]


def columns_of(rows: Sequence[Record], styles: Mapping[str, int]) -> list[Column]:
    """Every pair that occurs: the ones with the reference first, then the others, in the participants' order."""
    order = {label: index for index, label in enumerate(styles)}
    pairs = {(row["left"], row["right"]) for row in rows}
    last = len(order)
    ranked = sorted(
        pairs, key=lambda pair: (pair[1] in order, order.get(pair[0], last), order.get(pair[1], last), pair)
    )
    return [Column(left, right, (styles.get(left, 0), styles.get(right))) for left, right in ranked]


def against_reference(row: Record, columns: Sequence[Column]) -> bool:
    """Whether a row stands in a column of the reference."""
    return any(c.against_reference for c in columns if (c.left, c.right) == (row["left"], row["right"]))


def tables_of(record: Record, columns: Sequence[Column]) -> list[Table]:
    """One table for both rules while it is narrow enough for the chart to stand beside it, else one for each rule."""
    rules = dict.fromkeys(row["rule"] for row in record["rows"])
    if len(columns) <= _NARROW:
        return [Table(tuple(columns), tuple(_group(record, rule, columns) for rule in rules))]
    tables = []
    for rule in rules:
        pairs = {(row["left"], row["right"]) for row in record["rows"] if row["rule"] == rule}
        own = [column for column in columns if (column.left, column.right) in pairs]
        tables.append(Table(tuple(own), (_group(record, rule, own),)))
    return tables


def _group(record: Record, rule: str, columns: Sequence[Column]) -> Group:
    layers = {layer["name"] for layer in record["sources"][0]["layers"]}
    quantities: dict[str, dict[tuple[str, str], Record]] = {}
    for row in record["rows"]:
        if row["rule"] == rule:
            quantities.setdefault(row["quantity"], {})[row["left"], row["right"]] = row
    lines = (
        Line(
            *_split(quantity, layers),
            max((row["verdict"] for row in cells.values()), key=_SEVERITY.index),
            tuple(cells.get((column.left, column.right)) for column in columns),
        )
        for quantity, cells in quantities.items()
    )
    return Group(*RULES.get(rule, (rule, "")), tuple(lines))


def _split(quantity: str, layers: set[str]) -> tuple[str, str]:
    """The layer, or the word "output", and the quantity's own name.

    Example:
        >>> _split("lstm_1.h_n", {"lstm_1"}), _split("output forecast", set()), _split("h_n", {"lstm"})
        (('lstm_1', 'h_n'), ('output', 'forecast'), ('', 'h_n'))
    """
    layer, _, name = quantity.rpartition(".")
    if layer in layers:
        return layer, name
    for word in ("output", "layer"):
        if quantity.startswith(f"{word} "):
            return word, quantity.removeprefix(f"{word} ")
    return "", quantity


def limits_of(rows: Sequence[Record], columns: Sequence[Column]) -> dict[bool, str]:
    """How many floors are allowed against the reference (True) and between two engines (False)."""
    found: dict[bool, set[float]] = {}
    for row in rows:
        found.setdefault(against_reference(row, columns), set()).add(number(row["limit"]))
    return {against: " or ".join(map(spell, sorted(limits))) for against, limits in found.items()}


def places_of(rows: Sequence[Record], columns: Sequence[Column]) -> dict[str, Any] | None:
    """Where each difference of the matrix is largest: what disagrees, or else the worst of each rule, and all the others.

    Args:
        rows: of the record, those of the matrix.
        columns: of the matrix.

    Returns:
        "shown" and "others", each in groups of one rule and pair; the "count" of the others, and how many are "left_out"; whether any
        is "bad".
    """
    bad = [row for row in rows if row["verdict"] == "disagree"]
    shown = bad or _worst(rows, columns)
    others = [row for row in rows if not any(row is one for one in shown)]
    kept = [row for row in others if len(others) <= MOST_PLACES or against_reference(row, columns)]
    if not rows:
        return None
    return {
        "bad": bool(bad),
        "shown": _pairs(shown),
        "others": _pairs(kept),
        "count": len(kept),
        "left_out": len(others) - len(kept),
    }


def _worst(rows: Sequence[Record], columns: Sequence[Column]) -> list[Record]:
    """Per rule the row that comes nearest to its limit, or is furthest beyond it."""
    worst: dict[str, Record] = {}
    for row in rows:
        if row["note"] or not row["total"] or not against_reference(row, columns):
            continue
        best = worst.get(row["rule"])
        if best is None or number(row["times_floor"]) / row["limit"] > number(best["times_floor"]) / best["limit"]:
            worst[row["rule"]] = row
    return list(worst.values())


def _pairs(rows: Sequence[Record]) -> list[Record]:
    """Rows of one rule and one pair together, in the order in which they come."""
    groups: dict[tuple[str, str, str], list[Record]] = {}
    for row in rows:
        groups.setdefault((row["rule"], row["left"], row["right"]), []).append(row)
    return [
        {"title": RULES.get(rule, (rule,))[0], "left": left, "right": right, "rows": own}
        for (rule, left, right), own in groups.items()
    ]


__all__ = [
    "MOST_PLACES",
    "RULES",
    "Column",
    "Group",
    "Line",
    "Record",
    "Table",
    "against_reference",
    "columns_of",
    "limits_of",
    "places_of",
    "tables_of",
]
