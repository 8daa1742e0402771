"""Fewer combinations of options than all of them: as many as it takes for any few values to meet."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any, TypeVar

Combination = TypeVar("Combination", bound=tuple[Any, ...])


def covering(combinations: Iterable[Combination], strength: int = 2) -> list[Combination]:
    """A choice of combinations in which every values of so many options that meet in any of them still meet in one.

    A fault that one option makes, or two together, shows in them as in all; scripts/matrix.py runs many more.

    Args:
        combinations: all of them, of equal length; they may leave out what cannot be.
        strength: of how many options the values meet.
    """
    meetings = {one: _meetings(one, strength) for one in combinations}
    missing = {meeting for found in meetings.values() for meeting in found}
    chosen: set[Combination] = set()
    while missing:
        best = max(meetings, key=lambda one: len(meetings[one] & missing))
        chosen.add(best)
        missing -= meetings[best]
    return [one for one in meetings if one in chosen]


def _meetings(combination: tuple[Any, ...], strength: int) -> set[tuple[tuple[int, Any], ...]]:
    return set(itertools.combinations(enumerate(combination), strength))


__all__ = ["covering"]
