"""The drawing of where in batch and time the error sits, and its legend."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from typing import Any

from markupsafe import Markup

from parity.report.numbers import TIMES, number, spell
from parity.report.plots import axis_ticks, drawing, join, percent, steps_in_words, stretched, time_ticks

_MOST_CELLS, _MOST_NUMBERS = 120, 400
"""A map of more cells is drawn shade by shade, without a tooltip in each; of still more its numbers are not written below it."""

_PADDING = "padding"
"""What a cell of the map holds that a mask leaves out."""

_SHADES = {
    "within-0": 1 / 8,
    "within-1": 1 / 4,
    "within-2": 1 / 2,
    "within-3": 1.0,
    "outside-0": 3.0,
    "outside-1": 10.0,
    "outside-2": 30.0,
    "outside-3": 100.0,
    "outside-4": math.inf,
}
"""Shades of the map with their upper bounds, as shares of the limit."""


def map_chart(where: Mapping[str, Any], limit: float, worst: Mapping[str, Any] | None) -> Markup:
    """Batch x time, every cell shaded by its largest error in floors.

    Args:
        where: the "map" of the record.
        limit: how many floors are allowed.
        worst: the place to ring, with "batch" and "time"; None for none.
    """
    batch, time = where["batch"], where["time"]
    rows, columns = [*where["rows"], batch], [*where["steps"], time]
    cells = [
        _Cell(shade(value, limit), value, left, right, top, bottom)
        for (top, bottom), line in zip(pairwise(rows), where["times_floor"], strict=True)
        for (left, right), value in zip(pairwise(columns), line, strict=True)
    ]
    back = [Markup('<rect class="lost" width="100%" height="100%"/>'), *_padded_cells(cells, batch, time)]
    drawn = _cells_with_tips(cells) if len(cells) <= _MOST_CELLS else _cells_in_bulk(cells)
    layers = [*back, stretched(drawn, batch, time), *time_ticks(time, grid=False), *_batch_ticks(batch)]
    if worst and isinstance(worst.get("batch"), int) and isinstance(worst.get("time"), int):
        x, y = ((worst["time"] + 0.5) / time, (worst["batch"] + 0.5) / batch)
        ring = '<circle class="{}" cx="{}" cy="{}" r="7"/>'
        layers += [Markup(ring).format(name, percent(x), percent(y)) for name in ("ring-back", "ring")]
    layers += [_spot(peak, batch, time) for peak in pooled_peaks(where, limit)]
    judged = [number(cell.value) for cell in cells if cell.value not in (None, _PADDING)]
    most = max(judged, default=0.0)
    text = f"{batch} samples by {time} steps; the largest error is {spell(most)} times the floor, {spell(limit)} is allowed."
    height = max(72, min(26 * len(where["rows"]), 300))
    return drawing(
        f"Where {where['engine']} is off in {where['quantity']}", text, layers, "map", f"--height:{height}px"
    )


def can_be_told(where: Mapping[str, Any] | None) -> bool:
    """Whether a map has so few cells that a table of their numbers can stand below it.

    Args:
        where: the "map" of the record, if it has one.
    """
    return where is not None and sum(map(len, where["times_floor"])) <= _MOST_NUMBERS


def pooled_peaks(where: Mapping[str, Any] | None, limit: float) -> list[Mapping[str, Any]]:
    """The peaks of a map that lie outside the limit, where its cells hold more than one step of one sample; else they tell by themselves.

    Args:
        where: the "map" of the record, if it has one.
        limit: how many floors are allowed.
    """
    if where is None or (where["batch"], where["time"]) == (len(where["rows"]), len(where["steps"])):
        return []
    return [peak for peak in where.get("peaks", ()) if number(peak["times_floor"]) > limit]


def _spot(peak: Mapping[str, Any], batch: int, time: int) -> Markup:
    """A peak that tells its numbers below the pointer, however small its cell is."""
    place, values = peak["place"], [spell(value, 7) for value in peak["values"]]
    tip = (
        f"{', '.join(f'{axis} {position}' for axis, position in place.items())}: {spell(peak['times_floor'])} {TIMES} floor, "
        f"error {spell(peak['error'])}, {values[0]} and in the reference {values[1]}"
    )
    spot = '<circle class="tip" cx="{}" cy="{}" r="7"><title>{}</title></circle>'
    return Markup(spot).format(percent((place["time"] + 0.5) / time), percent((place["batch"] + 0.5) / batch), tip)


def map_legend(limit: float) -> list[dict[str, str]]:
    """Every shade of the map with its upper bound in floors.

    Example:
        >>> map_legend(2.0)[3]
        {'shade': 'within-3', 'bound': '≤ 2'}
    """
    bounds = {shade: share * limit for shade, share in _SHADES.items()}
    return [
        {"shade": shade, "bound": f"≤ {spell(bound)}" if math.isfinite(bound) else "more, or not finite"}
        for shade, bound in bounds.items()
    ]


def _batch_ticks(batch: int) -> list[Markup]:
    mark = '<text class="tick y" x="-8" y="{}" dy=".33em">{}</text>'
    return [Markup(mark).format(percent((row + 0.5) / batch), row) for row in axis_ticks(batch, most=4)]


def shade(value: Any, limit: float) -> str:
    """The shade of an error in floors: a class of style.css.

    Example:
        >>> shade(0.2, 2.0), shade("inf", 2.0)
        ('within-0', 'outside-4')
    """
    if value is None or value == _PADDING:
        return "not-comparable" if value is None else _PADDING
    share = number(value) / limit
    return next((shade for shade, bound in _SHADES.items() if share <= bound), list(_SHADES)[-1])


@dataclass(frozen=True)
class _Cell:
    """A cell of the map: its shade, its value, and the samples and steps it covers."""

    shade: str
    value: Any
    left: int
    right: int
    top: int
    bottom: int

    @property
    def path(self) -> str:
        return f"M{self.left} {self.top}h{self.right - self.left}v{self.bottom - self.top}h{self.left - self.right}z"

    @property
    def tip(self) -> str:
        value = "not comparable" if self.value is None else f"{spell(self.value)} {TIMES} floor"
        return f"batch {self.top}, step {self.left}: {value}"


def _padded_cells(cells: Sequence[_Cell], batch: int, time: int) -> list[Markup]:
    """The cells that a mask leaves out, neighbours in a row as one; not stretched, so that their pattern keeps its size."""
    rect = '<rect class="{}" x="{}" y="{}" width="{}" height="{}">{}</rect>'
    drawn = []
    for (left_out, top), run in groupby(cells, key=lambda cell: (cell.value == _PADDING, cell.top)):
        if left_out:
            first, *others = run
            whole = replace(first, right=others[-1].right) if others else first
            box = (whole.left / time, top / batch, (whole.right - whole.left) / time, (whole.bottom - top) / batch)
            tip = Markup("<title>{}</title>").format(f"batch {top}, {steps_in_words(whole.left, whole.right)}: padding")
            drawn += [
                Markup(rect).format("padding-back", *map(percent, box), ""),
                Markup(rect).format("padding", *map(percent, box), tip),
            ]
    return drawn


def _cells_with_tips(cells: Sequence[_Cell]) -> list[Markup]:
    tip = Markup('<path d="{}"><title>{}</title></path>')
    return [
        Markup('<g class="cell {}">{}</g>').format(
            shade, join(tip.format(cell.path, cell.tip) for cell in cells if cell.shade == shade)
        )
        for shade in dict.fromkeys(cell.shade for cell in cells if cell.shade != _PADDING)
    ]


def _cells_in_bulk(cells: Sequence[_Cell]) -> list[Markup]:
    """One path per shade, neighbours in a row drawn as one."""
    paths: dict[str, list[str]] = {}
    for (shade, _), run in groupby(cells, key=lambda cell: (cell.shade, cell.top)):
        first, *others = run
        whole = replace(first, right=others[-1].right) if others else first
        paths.setdefault(shade, []).append(whole.path)
    return [
        Markup('<path class="cell {}" d="{}"/>').format(shade, "".join(parts))
        for shade, parts in paths.items()
        if shade != _PADDING
    ]


__all__ = ["can_be_told", "map_chart", "map_legend", "pooled_peaks", "shade"]
