"""What the drawings of the page have in common: inline SVG, made from parts of the record.

Every drawing is as wide as its box: positions are percentages, curves stand in a nested SVG that is stretched, and text keeps its
size, so that one drawing serves a telephone, a screen and paper. Every text goes through `Markup.format`, which escapes it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from markupsafe import Markup

STYLES = 6
"""Line styles and gate patterns in style.css; further ones repeat them."""

SIDE = 1000.0
"""Width and height of what is stretched, in units of its own."""

_MOST_TICKS, _MOST_DECADES = 6, 7


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
    "LogScale",
    "axis_ticks",
    "drawing",
    "join",
    "percent",
    "steps_in_words",
    "stretched",
    "time_ticks",
]
