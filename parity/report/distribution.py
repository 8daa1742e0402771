"""The distribution of the errors as the page shows it: a drawing of all percentiles, and some of them with the elements that have them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from parity.report.matrix import Record
from parity.report.numbers import number, spell
from parity.report.plots import SIDE, STYLES, End, LogScale, decades, drawing, ends, ends_width, percent, stretched

_HEIGHT = 200.0
"""Of the drawing without its axis, in pixels, as in style.css."""
_QUARTERS = (0, 25, 50, 75, 100)
_LEAST_DECADE = -4
"""Errors below this power of ten, in floors, stand at the bottom: they are all the same to a reader."""


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
        "drawing": percentile_chart(engines, record["judging"]["limit"], styles),
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


def percentile_chart(engines: Sequence[Mapping[str, Any]], limit: float, styles: Mapping[str, int]) -> Markup:
    """The elements in the order of their errors: floors over percent, one line per engine, the limit marked.

    Args:
        engines: the "distribution" of the record.
        limit: how many floors are allowed.
        styles: label -> line style.
    """
    curves = {entry["engine"]: [number(value) for value in entry["curve"]] for entry in engines}
    scale = LogScale.over([limit, *(value for values in curves.values() for value in values)])
    low = max(_LEAST_DECADE, scale.low)
    scale = LogScale(low, max(scale.high, low + 2))
    lines = [
        Markup('<path class="curve line-{}" d="{}"/>').format(styles[label] % STYLES, _line(values, scale))
        for label, values in curves.items()
    ]
    labels = [End(scale.at(values[-1]), label, f"line-{styles[label] % STYLES}") for label, values in curves.items()]
    labels.append(End(scale.at(limit), f"limit {spell(limit)}", "band"))
    tick = '<line class="grid" x1="{0}" x2="{0}" y1="0" y2="100%"/><text class="tick x" x="{0}" y="100%" dy="17">{1} %</text>'
    mark = Markup('<line class="horizon" x1="0" x2="100%" y1="{0}" y2="{0}"/>').format(percent(scale.at(limit)))
    layers = [
        *decades(scale),
        *(Markup(tick).format(percent(quarter / 100), quarter) for quarter in _QUARTERS),
        Markup('<text class="axis" x="50%" y="100%" dy="35">{}</text>').format("elements, from the smallest error up"),
        mark,
        stretched(lines),
        ends(labels, _HEIGHT),
    ]
    medians = "; ".join(f"{label}: half at most {spell(values[len(values) // 2])}" for label, values in curves.items())
    text = f"Error in floors up to each percent of the elements, logarithmic; {spell(limit)} is allowed. {medians}."
    return drawing("Distribution of the error", text, layers, "cumulative", f"--letters:{ends_width(labels)}")


def _line(values: Sequence[float], scale: LogScale) -> str:
    """A line through the percentiles, from the smallest error to the largest; one that is no number stands at the top."""
    last = len(values) - 1
    tops = (scale.at(value) if value < math.inf else 0.0 for value in values)
    return "M" + "L".join(f"{place / last * SIDE:.0f} {top * SIDE:.0f}" for place, top in enumerate(tops))


__all__ = ["distribution_view", "percentile_chart"]
