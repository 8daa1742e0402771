"""The distribution of the errors as the page shows it: a cumulative drawing, and percentiles with the elements that have them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from parity.report.matrix import Record
from parity.report.numbers import TIMES, number, spell
from parity.report.plots import STYLES, drawing, percent, stretched

_SIDE = 1000.0
_QUARTERS = (0, 25, 50, 75, 100)
_MOST_TICKS = 7
_LEAST_DECADE = -4
"""Errors below this power of ten, in floors, stand at the left edge: they are all the same to a reader."""


def distribution_view(record: Record, styles: Mapping[str, int]) -> dict[str, Any] | None:
    """What the section shows; None where nothing was judged.

    Args:
        record: with "distribution".
        styles: label -> line style.
    """
    engines = record["distribution"]
    if not engines:
        return None
    return {
        "engines": [
            {**entry, "exact_share": _share(entry["exact"], entry["total"]), "style": styles[entry["engine"]]}
            for entry in engines
        ],
        "drawing": cumulative_chart(engines, record["judging"]["limit"], styles),
        "together": len({row["quantity"] for row in record["rows"] if row["rule"] == "run"}) > 1,
    }


def _share(part: int, whole: int) -> str:
    """A part in percent; never all or nothing where it is not.

    Example:
        >>> _share(1, 3), _share(0, 3), _share(99999, 100000)
        ('33 %', '0 %', '99.999 %')
    """
    share = 100 * part / whole
    for digits in range(8):
        text = f"{share:.{digits}f}"
        if part in (0, whole) or 0 < float(text) < 100:
            return f"{text} %"
    return f"about {text} %"


def cumulative_chart(engines: Sequence[Mapping[str, Any]], limit: float, styles: Mapping[str, int]) -> Markup:
    """How many elements have at most so large an error: percent over floors, one line per engine, the limit marked.

    Args:
        engines: the "distribution" of the record.
        limit: how many floors are allowed.
        styles: label -> line style.
    """
    curves = {entry["engine"]: [number(value) for value in entry["curve"]] for entry in engines}
    finite = [value for values in curves.values() for value in values if 0 < value < math.inf]
    low = max(_LEAST_DECADE, math.floor(math.log10(min([*finite, limit]))))
    high = max(math.ceil(math.log10(max([*finite, limit]))), low + 2)

    def across(value: float) -> float:
        return (
            min(1.0, max(0.0, (math.log10(value) - low) / (high - low))) if 0 < value < math.inf else float(value > 0)
        )

    lines = [
        Markup('<path class="curve line-{}" d="{}"/>').format(styles[label] % STYLES, _steps(values, across))
        for label, values in curves.items()
    ]
    step = -(-(high - low) // _MOST_TICKS)
    tick = '<line class="grid" x1="{0}" x2="{0}" y1="0" y2="100%"/><text class="tick x" x="{0}" y="100%" dy="17">{1}</text>'
    level = '<line class="grid" x1="0" x2="100%" y1="{0}" y2="{0}"/><text class="tick y" x="-8" y="{0}" dy=".33em">{1}</text>'
    side, shift = ("start", 6) if across(limit) < 0.5 else ("end", -6)
    mark = (
        '<line class="horizon" x1="{0}" x2="{0}" y1="0" y2="100%"/>'
        '<text class="limit-text" x="{0}" y="100%" dx="{1}" dy="-8" text-anchor="{2}">limit {3}</text>'
    )
    layers = [
        *(Markup(level).format(percent(1 - quarter / 100), quarter) for quarter in _QUARTERS),
        *(Markup(tick).format(percent(across(10.0**power)), f"1e{power}") for power in range(low, high + 1, step)),
        Markup('<text class="axis" x="50%" y="100%" dy="35">{}</text>').format(f"{TIMES} floor, logarithmic"),
        stretched(lines),
        Markup(mark).format(percent(across(limit)), shift, side, spell(limit)),
    ]
    medians = "; ".join(f"{label}: half at most {spell(values[len(values) // 2])}" for label, values in curves.items())
    text = f"Percent of the elements whose error is at most so many floors; {spell(limit)} is allowed. {medians}."
    return drawing("Distribution of the error", text, layers, "cumulative", "")


def _steps(values: Sequence[float], across: Any) -> str:
    """A line through the percentiles; from zero to all from the bottom to the top."""
    last = len(values) - 1
    points = [f"{across(value) * _SIDE:.0f} {(1 - place / last) * _SIDE:.0f}" for place, value in enumerate(values)]
    return "M" + "L".join(points) + "L1000 0"


__all__ = ["cumulative_chart", "distribution_view"]
