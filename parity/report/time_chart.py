"""The drawing of the error over time: one line per engine, over the floor and the band that is allowed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import groupby, pairwise
from typing import Any

from markupsafe import Markup

from parity.report.numbers import TIMES, is_finite, number, spell
from parity.report.plots import SIDE, STYLES, LogScale, drawing, join, percent, steps_in_words, stretched, time_ticks

_MOST_TIPS, _MOST_POINTS = 40, 24


def profile_chart(profile: Mapping[str, Any], limit: float, horizon: int | None, styles: Mapping[str, int]) -> Markup:
    """Error over time, one line per engine, over the floor and the band that is allowed.

    Args:
        profile: of the record.
        limit: how many floors are allowed.
        horizon: the step to mark, None for none.
        styles: label -> line style.
    """
    steps, time = profile["steps"], profile["time"]
    centres = [(a + b) / 2 / time for a, b in pairwise([*steps, time])]
    floor = [number(value) for value in profile["floor"]]
    allowed = [limit * value for value in floor]
    engines = {label: [number(value) for value in values] for label, values in profile["engines"].items()}
    scale = LogScale.over([*floor, *allowed, *(value for values in engines.values() for value in values)])
    areas = [
        Markup('<path class="allowed" d="{}"/>').format(_area(centres, allowed, scale)),
        Markup('<path class="floor" d="{}"/>').format(_area(centres, floor, scale)),
    ]
    curves = [_curve(centres, values, scale, styles[label]) for label, values in engines.items()]
    lost = [*_lost(profile), *_padding(profile)]
    rugs = _rugs(profile, limit, styles)
    layers = [
        *_decades(scale),
        stretched(areas),
        *lost,
        *time_ticks(time),
        *([_horizon(horizon, time)] if horizon is not None else []),
        stretched(curves),
        *rugs,
        *_tips(profile),
    ]
    title = f"Error over time of {profile['quantity']}"
    worst = "; ".join(
        f"{label} at most {spell(max((x for x in values if not math.isnan(x)), default=0.0))}"
        for label, values in engines.items()
    )
    text = f"Largest absolute error in each of {time} steps, logarithmic, against the float32 floor ({spell(max(floor))} at most): {worst}."
    return drawing(title, text, layers, "profile", f"--rugs:{len(rugs)}")


def _points(centres: Sequence[float], values: Sequence[float], scale: LogScale) -> list[str]:
    digits = 0 if len(centres) > _MANY else 1
    return [f"{x * SIDE:.{digits}f} {scale.at(y) * SIDE:.0f}" for x, y in zip(centres, values, strict=True)]


_MANY = 100
"""Of more steps a thousandth of the width is less than one of them takes."""


def _area(centres: Sequence[float], values: Sequence[float], scale: LogScale) -> str:
    """Everything below a curve, from edge to edge."""
    tops = [scale.at(value) * SIDE for value in values]
    middle = "L".join(_points(centres, values, scale))
    return f"M0 1000L0 {tops[0]:.0f}L{middle}L1000 {tops[-1]:.0f}L1000 1000z"


def _curve(centres: Sequence[float], values: Sequence[float], scale: LogScale, style: int) -> Markup:
    """A line that breaks where a value is not finite; the values themselves as dots where they are few."""
    points = list(zip(_points(centres, values, scale), map(is_finite, values), strict=True))
    runs = [[point for point, _ in run] for finite, run in groupby(points, key=lambda pair: pair[1]) if finite]
    line = "".join("M" + "L".join(run) for run in runs)
    dots = "".join(f"M{point}h0" for run in runs for point in run) if len(points) <= _MOST_POINTS else ""
    name = f"line-{style % STYLES}"
    drawn = Markup('<path class="curve {}" d="{}"/>').format(name, line)
    return drawn + Markup('<path class="dots {}" d="{}"/>').format(name, dots) if dots else drawn


def _lost(profile: Mapping[str, Any]) -> list[Markup]:
    """Shades over the steps where some sample or direction is not comparable any more."""
    edges, time = [*profile["steps"], profile["time"]], profile["time"]
    return [
        Markup('<rect class="lost" x="{}" width="{}" height="100%"/>').format(
            percent(left / time), percent((right - left) / time)
        )
        for left, right in _spans(edges, [number(share) < 1 for share in profile["comparable"]])
    ]


def _padding(profile: Mapping[str, Any]) -> list[Markup]:
    """Stretches of steps at which a mask leaves samples out, the more the darker."""
    edges, time = [*profile["steps"], profile["time"]], profile["time"]
    shares = [round(number(share), 2) for share in profile.get("padded", ())]
    runs = groupby(zip(pairwise(edges), shares, strict=False), key=lambda pair: pair[1])
    spans = [(share, [edge for edge, _ in run]) for share, run in runs if share]
    rect = '<rect class="padding" x="{}" width="{}" height="100%" opacity="{:g}"/>'
    return [
        Markup(rect).format(percent(span[0][0] / time), percent((span[-1][1] - span[0][0]) / time), share)
        for share, span in spans
    ]


def _rugs(profile: Mapping[str, Any], limit: float, styles: Mapping[str, int]) -> list[Markup]:
    """Above the chart, a bar per engine over the steps that hold an element outside the limit."""
    edges, time = [*profile["steps"], profile["time"]], profile["time"]
    rugs: list[Markup] = []
    for label, ratios in profile["times_floor"].items():
        spans = _spans(edges, [ratio is not None and number(ratio) > limit for ratio in ratios])
        if not spans:
            continue
        bar = '<rect class="rug line-{}" x="{}" y="{}" width="{}" height="4"><title>{}</title></rect>'
        rugs.append(
            join(
                Markup(bar).format(
                    styles[label] % STYLES,
                    percent(left / time),
                    -8 - 7 * len(rugs),
                    percent((right - left) / time),
                    f"{label}: outside the limit, {steps_in_words(left, right)}",
                )
                for left, right in spans
            )
        )
    return rugs


def _spans(edges: Sequence[int], flags: Sequence[bool]) -> list[tuple[int, int]]:
    """Stretches of bins whose flag is up, as (first step, step after the last).

    Example:
        >>> _spans([0, 2, 4, 6], [True, True, False])
        [(0, 4)]
    """
    runs = groupby(zip(pairwise(edges), flags, strict=True), key=lambda pair: pair[1])
    marked = [[edge for edge, _ in run] for up, run in runs if up]
    return [(run[0][0], run[-1][1]) for run in marked]


def _decades(scale: LogScale) -> list[Markup]:
    grid = '<line class="grid" x1="0" x2="100%" y1="{0}" y2="{0}"/><text class="tick y" x="-8" y="{0}" dy=".33em">1e{1}</text>'
    return [Markup(grid).format(percent(scale.at(10.0**exponent)), exponent) for exponent in scale.ticks]


def _horizon(horizon: int, time: int) -> Markup:
    share = horizon / time
    side, shift = ("start", 6) if share < 0.5 else ("end", -6)
    mark = (
        '<line class="horizon" x1="{0}" x2="{0}" y1="0" y2="100%"/>'
        '<text class="horizon-text" x="{0}" y="100%" dx="{1}" dy="-8" text-anchor="{2}">horizon: step {3}</text>'
    )
    return Markup(mark).format(percent(share), shift, side, horizon)


def _tips(profile: Mapping[str, Any]) -> list[Markup]:
    """Invisible strips that tell the numbers below the pointer."""
    steps, time = profile["steps"], profile["time"]
    nothing = "padding" if profile.get("padded") else "NaN"
    size = -(-len(steps) // _MOST_TIPS)
    strips = []
    for first in range(0, len(steps), size):
        left, right = steps[first], steps[first + size] if first + size < len(steps) else time
        part = slice(first, first + size)
        lines = [f"{steps_in_words(left, right)}: floor {spell(max(map(number, profile['floor'][part])))}"]
        for label, values in profile["engines"].items():
            ratios = [number(ratio) for ratio in profile["times_floor"][label][part] if ratio is not None]
            largest = max((number(value) for value in values[part] if value is not None), default=None)
            times = f", {spell(max(ratios))} {TIMES} floor" if ratios else ", not comparable"
            lines.append(f"{label}: {spell(largest)}{times}" if largest is not None else f"{label}: {nothing}")
        strip = '<rect class="tip" x="{}" width="{}" height="100%"><title>{}</title></rect>'
        strips.append(Markup(strip).format(percent(left / time), percent((right - left) / time), "\n".join(lines)))
    return strips


__all__ = ["profile_chart"]
