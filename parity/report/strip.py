"""The layers of a whole model as the page shows them: a strip of cells, and for each layer what is known of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from parity.report.map_chart import shade
from parity.report.matrix import Record
from parity.report.numbers import MINUS, TIMES, number

_SEVERITY = ("agree", "undecided", "disagree")


@dataclass(frozen=True)
class Cell:
    """One layer of the strip.

    Args:
        ident: of the part of the page that shows it.
        layer: its entry in the record's "architecture".
        rows: the record's rows that judge it by itself.
        verdict: the worst of them; "" where it was not judged.
        score: log10 of its largest error in floors, in characters; "" where it was not judged.
        shade: of the largest error in floors, as in the map of the page.
        first: the engines in which it is the first layer that differs.
        options: of the layer, in words.
        slices: where the gates of a recurrent layer sit: (framework, ((letter, slice), ...)).
    """

    ident: str
    layer: Record
    rows: tuple[Record, ...]
    verdict: str
    score: str
    shade: str
    first: tuple[str, ...]
    options: tuple[str, ...]
    slices: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]

    @property
    def shape(self) -> str:
        """Of what it gives, as short as can be; empty where it is not known."""
        shape = self.layer["shape"]
        return "" if shape is None else f" {TIMES} ".join(map(str, shape)) or "scalar"

    @property
    def worst(self) -> Record | None:
        """The row of the engine that is furthest off; None where it was not judged."""
        return worst_of(self.rows)


@dataclass(frozen=True)
class Strip:
    """All layers, in the order of the data.

    Args:
        cells: one per layer.
        judged: whether layers were judged by themselves.
        firsts: (engine, first cell that differs), for each engine that was judged.
        several: whether engines differ first in different layers.
        limit: how many floors are allowed.
    """

    cells: tuple[Cell, ...]
    judged: bool
    firsts: tuple[tuple[str, Cell | None], ...]
    several: bool
    limit: float

    @property
    def score_limit(self) -> str:
        """The limit as the cells write it."""
        return score_in_words(self.limit)


def strip_view(record: Record, layers: Sequence[Record]) -> Strip | None:
    """The strip of a record; None unless it is of a whole model.

    Args:
        record: with "architecture", "rows" and "gates".
        layers: of the first source, with "what" and "options" in words.
    """
    if not record["architecture"]:
        return None
    rows: dict[str, list[Record]] = {}
    for row in record["rows"]:
        if row["rule"] == "layer":
            rows.setdefault(row["quantity"], []).append(row)
    own = [[row for name in layer["quantities"] for row in rows.get(name, ())] for layer in record["architecture"]]
    labels = dict.fromkeys(row["left"] for found in own for row in found)
    first = {
        label: next((place for place, found in enumerate(own) if _differs(found, label)), None) for label in labels
    }
    told = (record["diagnosis"] or {}).get("first_layer") if not labels else None
    facts = {layer["name"]: layer for layer in layers}
    limit = next((row["limit"] for found in own for row in found), record["judging"]["limit"])
    cells = [
        _cell(
            record,
            place,
            found,
            tuple(label for label, at in first.items() if at == place) or ((told,) if told == layer["name"] else ()),
            facts.get(layer["name"], {}),
        )
        for place, (layer, found) in enumerate(zip(record["architecture"], own, strict=True))
    ]
    firsts = tuple((label, None if place is None else cells[place]) for label, place in first.items())
    several = len({place for place in first.values() if place is not None}) > 1
    return Strip(tuple(cells), bool(labels), firsts, several, limit)


def _cell(record: Record, place: int, rows: Sequence[Record], first: tuple[str, ...], facts: Record) -> Cell:
    worst = worst_of(rows)
    return Cell(
        f"layer-{place + 1}",
        record["architecture"][place],
        tuple(rows),
        max((row["verdict"] for row in rows), key=_SEVERITY.index, default=""),
        "" if worst is None else "shape" if worst["note"] else score_in_words(worst["times_floor"]),
        "" if worst is None else shade(worst["times_floor"], worst["limit"]),
        first,
        tuple(facts.get("options", ())),
        _slices(record, facts),
    )


def _differs(rows: Sequence[Record], label: str) -> bool:
    return any(row["left"] == label and row["verdict"] == "disagree" for row in rows)


def worst_of(rows: Sequence[Record]) -> Record | None:
    """The row that is furthest beyond its limit or nearest to it; None for none."""
    return max(rows, key=lambda row: (bool(row["note"]), _size(row["times_floor"]) / row["limit"]), default=None)


def _size(value: Any) -> float:
    found = number(value)
    return math.inf if math.isnan(found) else found


def score_in_words(times_floor: Any) -> str:
    """log10 of an error in floors, with its sign.

    Example:
        >>> [score_in_words(value) for value in (2.0, 93100.0, 0.04, 1.0, 0.0, "inf")]
        ['+0.3', '+5.0', '−1.4', '0.0', 'exact', '∞']
    """
    size = _size(times_floor)
    if not 0 < size < math.inf:
        return "∞" if size else "exact"
    text = f"{math.log10(size):+.1f}"
    return "0.0" if float(text) == 0 else text.replace("-", MINUS)


def _slices(record: Record, facts: Record) -> tuple[tuple[str, tuple[tuple[str, str], ...]], ...]:
    """Where each gate of a recurrent layer sits along the axis of its gates, framework by framework."""
    gates, units = record["gates"].get(facts.get("kind")), facts.get("units")
    if gates is None or not isinstance(units, int):
        return ()
    return tuple(
        (
            framework,
            tuple((letter, f"{k * units}:{(k + 1) * units}") for k, letter in enumerate(own["own"])),
        )
        for framework, own in gates["frameworks"].items()
    )


__all__ = ["Cell", "Strip", "score_in_words", "strip_view", "worst_of"]
