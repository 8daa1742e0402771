"""The drawings of the page as inline SVG, made from parts of the record.

Every drawing is as wide as its box: positions are percentages, curves stand in a nested SVG that is stretched, and text keeps its
size, so that one drawing serves a telephone, a screen and paper. Every text goes through `Markup.format`, which escapes it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from typing import Any

from markupsafe import Markup

from parity.report.numbers import TIMES, is_finite, number, spell

STYLES = 6
"""Line styles and gate patterns in style.css; further ones repeat them."""

_SIDE = 1000.0
_MOST_TIPS, _MOST_CELLS, _MOST_TICKS, _MOST_POINTS = 40, 400, 6, 24
_MOST_DECADES = 7

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


def join(parts: Iterable[Markup]) -> Markup:
    """Parts side by side."""
    return Markup("").join(parts)


def axis_ticks(length: int, most: int = _MOST_TICKS) -> list[int]:
    """Round positions on an axis of `length` steps.

    Example:
        >>> axis_ticks(17), axis_ticks(300), axis_ticks(1)
        ([0, 5, 10, 15], [0, 50, 100, 150, 200, 250], [0])
    """
    sizes = (factor * 10**power for power in range(12) for factor in (1, 2, 5))
    step = next(size for size in sizes if (length - 1) // size < most)
    return list(range(0, length, step))


@dataclass(frozen=True)
class LogScale:
    """A logarithmic axis over whole decades; 0 is its top and 1 its bottom, as SVG counts."""

    low: int
    high: int

    @classmethod
    def over(cls, values: Iterable[float]) -> LogScale:
        """The decades that hold all positive finite values, at least two."""
        logs = [math.log10(value) for value in values if 0 < value < math.inf]
        low, high = (math.floor(min(logs)), math.ceil(max(logs))) if logs else (-8, -6)
        return cls(low, max(high, low + 2))

    def at(self, value: float) -> float:
        """Where a value stands; zero stands at the bottom."""
        if value <= 0:
            return 1.0
        return min(1.0, max(0.0, (self.high - math.log10(value)) / (self.high - self.low)))

    @property
    def ticks(self) -> list[int]:
        """Exponents to label."""
        step = -(-(self.high - self.low) // _MOST_DECADES)
        return list(range(self.low, self.high + 1, step))


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
        *_time_ticks(time),
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
    layers = [*back, stretched(drawn, batch, time), *_time_ticks(time, grid=False), *_batch_ticks(batch)]
    if worst and isinstance(worst.get("batch"), int) and isinstance(worst.get("time"), int):
        x, y = ((worst["time"] + 0.5) / time, (worst["batch"] + 0.5) / batch)
        ring = '<circle class="{}" cx="{}" cy="{}" r="7"/>'
        layers += [Markup(ring).format(name, percent(x), percent(y)) for name in ("ring-back", "ring")]
    judged = [number(cell.value) for cell in cells if cell.value not in (None, _PADDING)]
    most = max(judged, default=0.0)
    text = f"{batch} samples by {time} steps; the largest error is {spell(most)} times the floor, {spell(limit)} is allowed."
    height = max(72, min(26 * len(where["rows"]), 300))
    return drawing(
        f"Where {where['engine']} is off in {where['quantity']}", text, layers, "map", f"--height:{height}px"
    )


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


def gate_diagram(title: str, gates: Mapping[str, Any], units: int | None) -> Markup:
    """The gate axis of every framework, one bar above the other, the same gate joined by a ribbon.

    Args:
        title: the kind of cell.
        gates: its "meanings" and "frameworks" of the record.
        units: to number the slices; None leaves them out.
    """
    frameworks = gates["frameworks"]
    order = {gate: index for index, gate in enumerate(gates["meanings"])}
    bar, gap, head = 64, 34, 22
    pitch = bar + gap + head
    layers = []
    for row, (name, own) in enumerate(frameworks.items()):
        top = row * pitch + head
        layers.append(Markup('<text class="framework" x="0" y="{}">{}</text>').format(top - 7, name))
        count = len(own["own"])
        layers += [
            _gate(k, count, top, bar, letter, gates["meanings"][gate], order[gate], units)
            for k, (letter, gate) in enumerate(zip(own["own"], own["canonical"], strict=True))
        ]
    listed = list(frameworks.values())
    ribbons = [
        _ribbons(upper["canonical"], lower["canonical"], order, row * pitch + head + bar, gap + head)
        for row, (upper, lower) in enumerate(pairwise(listed))
    ]
    text = "; ".join(
        f"{name}: {' '.join(own['own'])}, that is {_named(own, gates)}" for name, own in frameworks.items()
    )
    height = pitch * len(listed) - gap
    return drawing(f"Order of the gates, {title}", text, [*ribbons, *layers], "gates", f"--height:{height}px")


def _named(own: Mapping[str, Any], gates: Mapping[str, Any]) -> str:
    return ", ".join(gates["meanings"][gate] for gate in own["canonical"])


def _gate(k: int, count: int, top: int, bar: int, letter: str, meaning: str, style: int, units: int | None) -> Markup:
    x, width, middle = percent(k / count), percent(1 / count), percent((k + 0.5) / count)
    texts = [("letter", letter, 22), ("meaning", meaning, 40)]
    if units is not None:
        texts.append(("slice", f"{k * units}:{(k + 1) * units}", 55))
    box = Markup('<rect class="gate {}" x="{}" y="{}" width="{}" height="{}"/>')
    colour, pattern = f"gate-{style % STYLES}", f"pattern pattern-{style % STYLES}"
    lines = join(
        Markup('<text class="{}" x="{}" y="{}">{}</text>').format(name, middle, top + y, text)
        for name, text, y in texts
    )
    return box.format(colour, x, top, width, bar) + box.format(pattern, x, top, width, bar) + lines


def _ribbons(upper: Sequence[str], lower: Sequence[str], order: Mapping[str, int], top: int, height: int) -> Markup:
    """From each gate to the same gate in the bar below."""
    paths = []
    for k, gate in enumerate(upper):
        if gate not in lower:
            continue
        a, b = (
            ((index + 0.08) / count * _SIDE, (index + 0.92) / count * _SIDE)
            for index, count in ((k, len(upper)), (lower.index(gate), len(lower)))
        )
        half = height / 2
        line = (
            f"M{a[0]:.0f} 0C{a[0]:.0f} {half:.0f} {b[0]:.0f} {half:.0f} {b[0]:.0f} {height}"
            f"H{b[1]:.0f}C{b[1]:.0f} {half:.0f} {a[1]:.0f} {half:.0f} {a[1]:.0f} 0z"
        )
        paths.append(Markup('<path class="ribbon gate-{}" d="{}"/>').format(order[gate] % STYLES, line))
    frame = '<svg x="0" y="{}" width="100%" height="{}" viewBox="0 0 1000 {}" preserveAspectRatio="none">{}</svg>'
    return Markup(frame).format(top, height, height, join(paths))


def drawing(title: str, text: str, layers: Iterable[Markup], name: str, style: str) -> Markup:
    """A drawing with its title and all that it shows in words, for those who do not see it."""
    frame = '<svg class="drawing {}" style="{}" role="img" aria-label="{}"><title>{}</title><desc>{}</desc>{}</svg>'
    return Markup(frame).format(name, style, f"{title}. {text}", title, text, join(layers))


def stretched(parts: Iterable[Markup], height: float = _SIDE, width: float = _SIDE) -> Markup:
    """Parts that are stretched to their box, in units of their own."""
    frame = (
        '<svg class="stretched" width="100%" height="100%" viewBox="0 0 {:g} {:g}" preserveAspectRatio="none">{}</svg>'
    )
    return Markup(frame).format(width, height, join(parts))


def percent(share: float) -> str:
    """A share as SVG writes it.

    Example:
        >>> percent(0.125)
        '12.5%'
    """
    return f"{100 * share:.5g}%"


def _points(centres: Sequence[float], values: Sequence[float], scale: LogScale) -> list[str]:
    return [f"{x * _SIDE:.4g} {scale.at(y) * _SIDE:.4g}" for x, y in zip(centres, values, strict=True)]


def _area(centres: Sequence[float], values: Sequence[float], scale: LogScale) -> str:
    """Everything below a curve, from edge to edge."""
    tops = [scale.at(value) * _SIDE for value in values]
    middle = "L".join(_points(centres, values, scale))
    return f"M0 1000L0 {tops[0]:.4g}L{middle}L1000 {tops[-1]:.4g}L1000 1000z"


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
                    f"{label}: outside the limit, {_range(left, right)}",
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


def _range(left: int, right: int) -> str:
    return f"step {left}" if right - left == 1 else f"steps {left} to {right - 1}"


def _decades(scale: LogScale) -> list[Markup]:
    grid = '<line class="grid" x1="0" x2="100%" y1="{0}" y2="{0}"/><text class="tick y" x="-8" y="{0}" dy=".33em">1e{1}</text>'
    return [Markup(grid).format(percent(scale.at(10.0**exponent)), exponent) for exponent in scale.ticks]


def _time_ticks(time: int, grid: bool = True) -> list[Markup]:
    line = '<line class="grid" x1="{0}" x2="{0}" y1="0" y2="100%"/>' if grid else ""
    mark = line + '<text class="tick x" x="{0}" y="100%" dy="17">{1}</text>'
    title = Markup('<text class="axis" x="50%" y="100%" dy="35">time step</text>')
    return [*(Markup(mark).format(percent((step + 0.5) / time), step) for step in axis_ticks(time)), title]


def _batch_ticks(batch: int) -> list[Markup]:
    mark = '<text class="tick y" x="-8" y="{}" dy=".33em">{}</text>'
    return [Markup(mark).format(percent((row + 0.5) / batch), row) for row in axis_ticks(batch, most=4)]


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
        lines = [f"{_range(left, right)}: floor {spell(max(map(number, profile['floor'][part])))}"]
        for label, values in profile["engines"].items():
            ratios = [number(ratio) for ratio in profile["times_floor"][label][part] if ratio is not None]
            largest = max((number(value) for value in values[part] if value is not None), default=None)
            times = f", {spell(max(ratios))} {TIMES} floor" if ratios else ", not comparable"
            lines.append(f"{label}: {spell(largest)}{times}" if largest is not None else f"{label}: {nothing}")
        strip = '<rect class="tip" x="{}" width="{}" height="100%"><title>{}</title></rect>'
        strips.append(Markup(strip).format(percent(left / time), percent((right - left) / time), "\n".join(lines)))
    return strips


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
            tip = Markup("<title>{}</title>").format(f"batch {top}, {_range(whole.left, whole.right)}: padding")
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
