"""The drawing of the error over time: one line per engine, over the floor and the band that is allowed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import groupby, pairwise
from typing import Any

from markupsafe import Markup

from parity.report.numbers import TIMES, is_finite, number, spell
from parity.report.plots import (
    SIDE,
    STYLES,
    End,
    LogScale,
    decades,
    drawing,
    ends,
    ends_width,
    join,
    percent,
    steps_in_words,
    stretched,
    time_ticks,
)

_MOST_TIPS, _MOST_ROWS, _MOST_POINTS = 20, 40, 24
_HEIGHT = 266.0
"""Of the drawing without its axis, in pixels, as in style.css."""


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
    labels = _labels(engines, floor, limit, scale, styles)
    layers = [
        *decades(scale),
        stretched(areas),
        *lost,
        *time_ticks(time),
        *([_horizon(horizon, time)] if horizon is not None else []),
        stretched(curves),
        *rugs,
        ends(labels, _HEIGHT),
        *_tips(profile),
    ]
    title = f"Error over time of {profile['quantity']}"
    worst = "; ".join(
        f"{label} at most {spell(max((x for x in values if not math.isnan(x)), default=0.0))}"
        for label, values in engines.items()
    )
    text = f"Largest absolute error in each of {time} steps, logarithmic, against the float32 floor ({spell(max(floor))} at most): {worst}."
    return drawing(title, text, layers, "profile", f"--rugs:{len(rugs)};--letters:{ends_width(labels)}")


def _labels(
    engines: Mapping[str, Sequence[float]],
    floor: Sequence[float],
    limit: float,
    scale: LogScale,
    styles: Mapping[str, int],
) -> list[End]:
    """What is said at the right end of every line and of both bands; nothing of a line that has no point."""
    lines = {label: [value for value in values if is_finite(value)] for label, values in engines.items()}
    own = [
        End(scale.at(values[-1]), label, f"line-{styles[label] % STYLES}") for label, values in lines.items() if values
    ]
    bands = [(floor[-1], "float32 floor"), (limit * floor[-1], f"limit, {spell(limit)} {TIMES} floor")]
    return [*own, *(End(scale.at(value), text, "band") for value, text in bands)]


Point = tuple[float, float]


def _points(centres: Sequence[float], values: Sequence[float], scale: LogScale) -> list[Point]:
    digits = 0 if len(centres) > _MANY else 1
    return [(round(x * SIDE, digits), round(scale.at(y) * SIDE)) for x, y in zip(centres, values, strict=True)]


_MANY = 100
"""Of more steps a thousandth of the width is less than one of them takes."""


def _through(points: Sequence[Point]) -> str:
    """A line through points: the first place, then the way from each to the next, which takes half the letters.

    Example:
        >>> _through([(0.5, 10), (3, 8), (5, 9)])
        'M0.5 10l2.5-2 2 1'
    """
    steps = [f"{x - a:.4g} {y - b:g}" for (a, b), (x, y) in pairwise(points)]
    line = f"M{points[0][0]:g} {points[0][1]:g}" + (f"l{' '.join(steps)}" if steps else "")
    return line.replace(" -", "-")


def _area(centres: Sequence[float], values: Sequence[float], scale: LogScale) -> str:
    """Everything below a curve, from edge to edge."""
    points = _points(centres, values, scale)
    return f"{_through([(0, points[0][1]), *points, (SIDE, points[-1][1])])}V1000H0z"


def _curve(centres: Sequence[float], values: Sequence[float], scale: LogScale, style: int) -> Markup:
    """A line that breaks where a value is not finite; the values themselves as dots where they are few."""
    points = list(zip(_points(centres, values, scale), map(is_finite, values), strict=True))
    runs = [[point for point, _ in run] for finite, run in groupby(points, key=lambda pair: pair[1]) if finite]
    line = "".join(map(_through, runs))
    few = len(points) <= _MOST_POINTS
    dots = "".join(f"M{x:g} {y:g}h0" for run in runs for x, y in run) if few else ""
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


def _horizon(horizon: int, time: int) -> Markup:
    share = horizon / time
    side, shift = ("start", 6) if share < 0.5 else ("end", -6)
    mark = (
        '<line class="horizon" x1="{0}" x2="{0}" y1="0" y2="100%"/>'
        '<text class="horizon-text" x="{0}" y="100%" dx="{1}" dy="-8" text-anchor="{2}">horizon: step {3}</text>'
    )
    return Markup(mark).format(percent(share), shift, side, horizon)


def numbers_of(profile: Mapping[str, Any], most: int = _MOST_ROWS) -> list[dict[str, Any]]:
    """What the drawing shows, in numbers: so many stretches of steps as can be told one by one.

    Args:
        profile: of the record.
        most: stretches.

    Returns:
        For each stretch "steps" in words, its first step and the one after its last under "span", the largest "floor", and under "engines"
        per label the largest error and the most floors, None where nothing is comparable.
    """
    steps, time = profile["steps"], profile["time"]
    size = -(-len(steps) // most)
    found = []
    for first in range(0, len(steps), size):
        span = (steps[first], steps[first + size] if first + size < len(steps) else time)
        part = slice(first, first + size)
        engines = {
            label: (_most(values[part]), _most(profile["times_floor"][label][part]))
            for label, values in profile["engines"].items()
        }
        found.append(
            {
                "steps": steps_in_words(*span),
                "span": span,
                "floor": max(map(number, profile["floor"][part])),
                "engines": engines,
            }
        )
    return found


def _most(values: Sequence[Any]) -> float | None:
    return max((number(value) for value in values if value is not None), default=None)


def _tips(profile: Mapping[str, Any]) -> list[Markup]:
    """Invisible strips that tell the numbers below the pointer."""
    time = profile["time"]
    nothing = "padding" if profile.get("padded") else "NaN"
    strips = []
    for stretch in numbers_of(profile, _MOST_TIPS):
        lines = [f"{stretch['steps']}: floor {spell(stretch['floor'])}"]
        for label, (largest, ratio) in stretch["engines"].items():
            times = f", {spell(ratio)} {TIMES} floor" if ratio is not None else ", not comparable"
            lines.append(f"{label}: {spell(largest)}{times}" if largest is not None else f"{label}: {nothing}")
        left, right = stretch["span"]
        strip = '<rect x="{}" width="{}"><title>{}</title></rect>'
        strips.append(Markup(strip).format(percent(left / time), percent((right - left) / time), "\n".join(lines)))
    return [Markup('<g class="tips">{}</g>').format(join(strips))]


__all__ = ["numbers_of", "profile_chart"]
