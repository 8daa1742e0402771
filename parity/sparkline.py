"""Errors in floors as one line of characters, whose height is the logarithm of error / limit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

_BELOW, _ABOVE = math.sqrt(10), 10.0
"""Below the limit a level is half a decade, above it a whole one: what agrees lies close together, what disagrees far apart."""

_LEVELS = 4
"""On each side of the limit."""


@dataclass(frozen=True)
class Marks:
    """The characters of a spark.

    Args:
        within: levels up to the limit, the lowest first.
        beyond: levels above it.
        passed: stands where the limit is passed for the first time.
        gap: stands where nothing is comparable, or all is padding.
    """

    within: str
    beyond: str
    passed: str
    gap: str

    @property
    def all(self) -> str:
        """Every character that may occur."""
        return self.within + self.beyond + self.passed + self.gap


BLOCKS = Marks("▁▂▃▄", "▅▆▇█", "╎", "·")
ASCII = Marks("_.-=", "+*%#", "|", " ")


def marks_for(encoding: str | None) -> Marks:
    """Blocks where an encoding has them, else ASCII.

    Example:
        >>> marks_for("utf-8") is BLOCKS, marks_for("ascii") is ASCII, marks_for("cp1252") is ASCII
        (True, True, True)
    """
    try:
        BLOCKS.all.encode(encoding or "ascii")
    except (LookupError, UnicodeEncodeError):
        return ASCII
    return BLOCKS


def spark(values: Sequence[float | None], limit: float, width: int, marks: Marks = BLOCKS) -> tuple[str, str]:
    """A line of at most `width` characters, in two parts: up to where the limit is passed, and from there on.

    Where there are more values than characters, each shows the largest of its own, so that no error is lost.

    Args:
        values: errors in floors, in order; None where nothing is comparable. NaN and infinity are beyond all.
        limit: how many floors are allowed.
        width: the number of characters.
        marks: the characters.

    Returns:
        The two parts; the second begins with `marks.passed`, or is empty.

    Example:
        >>> spark([0.02, 0.4, 2.0, None, 2.1, 900, math.inf], limit=2.0, width=20)
        ('▁▃▄·', '╎▅▇█')
        >>> spark([0.02, 0.4, 2.0, None, 2.1, 900, math.inf], limit=2.0, width=4, marks=ASCII)
        ('-', '|+#')
    """
    levels = [_level(value, limit) for value in values]
    if len(levels) > width:
        levels = _pooled(levels, width)
        if any(level is not None and level >= _LEVELS for level in levels):
            levels = _pooled([_level(value, limit) for value in values], max(1, width - 1))
    characters = [marks.gap if level is None else (marks.within + marks.beyond)[level] for level in levels]
    passed = next((at for at, level in enumerate(levels) if level is not None and level >= _LEVELS), None)
    if passed is None:
        return "".join(characters), ""
    return "".join(characters[:passed]), marks.passed + "".join(characters[passed:])


def _level(value: float | None, limit: float) -> int | None:
    """0 to 3 within the limit, 4 to 7 beyond it."""
    if value is None:
        return None
    if not value <= limit:
        steps = math.log(value / limit, _ABOVE) if math.isfinite(value) else _LEVELS
        return min(2 * _LEVELS - 1, _LEVELS - 1 + math.ceil(steps)) if steps > 0 else _LEVELS
    if value <= 0:
        return 0
    return max(0, _LEVELS - 1 - math.floor(math.log(limit / value, _BELOW)))


def _pooled(levels: Sequence[int | None], width: int) -> list[int | None]:
    edges = [round(index * len(levels) / width) for index in range(width + 1)]
    parts = ([level for level in levels[a:b] if level is not None] for a, b in pairwise(edges))
    return [max(part, default=None) for part in parts]


__all__ = ["ASCII", "BLOCKS", "Marks", "marks_for", "spark"]
