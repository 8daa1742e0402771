"""What the drawings of the page have in common: inline SVG, made from parts of the record.

Every drawing is as wide as its box: positions are percentages, curves stand in a nested SVG that is stretched, and text keeps its
size, so that one drawing serves a telephone, a screen and paper. Every text goes through `Markup.format`, which escapes it.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from parity.report.templating import visible

STYLES = 6
"""Line styles and gate patterns in style.css; further ones repeat them."""

SIDE = 1000.0
"""Width and height of what is stretched, in units of its own."""

_MOST_TICKS, _MOST_DECADES = 6, 7
_MOST_LETTERS, _LINE, _REACH = 22, 15.0, 20
"""Letters of a label at the end of a line, the height of one, and how far from the end it stands, in pixels."""


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


def decades(scale: LogScale) -> list[Markup]:
    """The powers of ten of a vertical axis, with lines through the drawing."""
    grid = '<line class="grid" x1="0" x2="100%" y1="{0}" y2="{0}"/><text class="tick y" x="-8" y="{0}" dy=".33em">1e{1}</text>'
    return [Markup(grid).format(percent(scale.at(10.0**exponent)), exponent) for exponent in scale.ticks]


@dataclass(frozen=True)
class End:
    """What is said where a line ends, at the right of a drawing.

    Args:
        at: how far down, as a share of the height.
        text: the label.
        name: the class of the line's colour and dashes, which lead from it to the label.
    """

    at: float
    text: str
    name: str


def ends(found: Sequence[End], height: float) -> Markup:
    """The labels at the ends of lines, moved apart where they would overlap.

    Args:
        found: in any order.
        height: of the drawing, in pixels.
    """
    order = sorted(found, key=lambda end: end.at)
    places = apart([end.at * height for end in order], min(_LINE, height / max(1, len(order))), height)
    mark = Markup(
        '<path class="lead {0}" d="M3 {1:.0f}L{3} {2:.0f}"/><text class="end {0}" x="{4}" y="{2:.0f}" dy=".33em">{5}</text>'
    )
    drawn = (
        mark.format(end.name, end.at * height, place, _REACH, _REACH + 5, shortened(end.text))
        for end, place in zip(order, places, strict=True)
    )
    return Markup('<svg class="ends" x="100%">{}</svg>').format(join(drawn))


def ends_width(found: Iterable[End]) -> int:
    """How many letters wide the labels are, where wide letters are two."""
    return max((sum(_width(letter) for letter in shortened(end.text)) for end in found), default=0)


def _width(letter: str) -> int:
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1


def apart(wanted: Sequence[float], least: float, height: float) -> list[float]:
    """Places as near as can be to those that are wanted, in their order, no two nearer than `least`, all within the height.

    Args:
        wanted: from small to large.
        least: how far apart they have to be.
        height: the largest place.

    Example:
        >>> apart([10, 11, 90], 15.0, 100.0), apart([98, 99], 15.0, 100.0)
        ([3.0, 18.0, 90.0], [85.0, 100.0])
    """
    groups: list[list[float]] = []
    for place in wanted:
        groups.append([place])
        while len(groups) > 1 and _top(groups[-2], least, height) + least * len(groups[-2]) > _top(
            groups[-1], least, height
        ):
            last = groups.pop()
            groups[-1] += last
    return [_top(group, least, height) + least * index for group in groups for index in range(len(group))]


def _top(group: Sequence[float], least: float, height: float) -> float:
    """Where the first of a group stands whose members touch: in the middle of where they want to be."""
    extent = least * (len(group) - 1)
    return min(max(0.0, height - extent), max(0.0, sum(group) / len(group) - extent / 2))


def shortened(text: str) -> str:
    """A label of so many letters as there is room for at the end of a line; its end, which tells it from others, is kept.

    Example:
        >>> shortened("torch"), shortened("GRU 'encoder_of_everything' (torch) #2")
        ('torch', "GRU 'enco…g' (torch) #2")
    """
    text = visible(text)
    if len(text) <= _MOST_LETTERS + 1:
        return text
    kept = _MOST_LETTERS * 3 // 5
    return f"{text[: _MOST_LETTERS - kept]}…{text[-kept:]}"


def drawing(title: str, text: str, layers: Iterable[Markup], name: str, style: str) -> Markup:
    """A drawing with its title and all that it shows in words, for those who do not see it."""
    frame = '<svg class="drawing {}" style="{}" role="img" aria-label="{}"><title>{}</title><desc>{}</desc>{}</svg>'
    return Markup(frame).format(name, style, f"{title}. {text}", title, text, join(layers))


def stretched(parts: Iterable[Markup], height: float = SIDE, width: float = SIDE) -> Markup:
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


def time_ticks(time: int, grid: bool = True) -> list[Markup]:
    """The axis of time steps below a drawing, with lines through it unless told otherwise."""
    line = '<line class="grid" x1="{0}" x2="{0}" y1="0" y2="100%"/>' if grid else ""
    mark = line + '<text class="tick x" x="{0}" y="100%" dy="17">{1}</text>'
    title = Markup('<text class="axis" x="50%" y="100%" dy="35">time step</text>')
    return [*(Markup(mark).format(percent((step + 0.5) / time), step) for step in axis_ticks(time)), title]


def steps_in_words(left: int, right: int) -> str:
    """Steps from one up to, not with, another.

    Example:
        >>> steps_in_words(3, 4), steps_in_words(3, 9)
        ('step 3', 'steps 3 to 8')
    """
    return f"step {left}" if right - left == 1 else f"steps {left} to {right - 1}"


__all__ = [
    "SIDE",
    "STYLES",
    "End",
    "LogScale",
    "apart",
    "axis_ticks",
    "decades",
    "drawing",
    "ends",
    "ends_width",
    "join",
    "percent",
    "shortened",
    "steps_in_words",
    "stretched",
    "time_ticks",
]
