"""How far numbers are from the right ones: how many differ, by how much, where the most; and whether they come from them at all."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from parity.deferred import Array
from parity.diagnosis.told import ALIKE, alike

_FEW = 3
"""So many numbers are told one by one."""

_NEAR = 0.1
"""Numbers are near the right ones where the root mean square of the differences is at most this share of theirs."""


def differences(right: Array, theirs: Array, place: Callable[[tuple[int, ...]], str]) -> str:
    """Which numbers differ, in words: how many, the largest difference and where it is; few of them one by one.

    Args:
        right, theirs: of one shape.
        place: an index in words.

    Example:
        >>> right = np.ones((2, 3))
        >>> differences(right, right + np.eye(2, 3) / 4, str)
        '2 of 6 numbers differ: 1.25 in place of 1 at (0, 0), 1.25 in place of 1 at (1, 1)'
        >>> differences(right, right + 1, str)
        '6 of 6 numbers differ, by at most 1 (at (0, 0))'
    """
    off, where = np.abs(np.asarray(theirs, np.float64) - right), _where(right, theirs)
    count = f"{len(where)} of {right.size} numbers {'differs' if len(where) == 1 else 'differ'}"
    if len(where) <= _FEW:
        found = [tuple(int(one) for one in index) for index in where]
        said = [f"{theirs[one]:.6g} in place of {right[one]:.6g} at {place(one)}" for one in found]
        return f"{count}: {', '.join(said)}"
    most = tuple(int(one) for one in np.unravel_index(int(np.nan_to_num(off, nan=np.inf).argmax()), off.shape))
    return f"{count}, by at most {off[most]:.3g} (at {place(most)})"


def _where(right: Array, theirs: Array) -> Array:
    """The places of the numbers that differ by more than a rounding to float32: (count, axis)."""
    off = np.abs(np.asarray(theirs, np.float64) - right)
    return np.argwhere(~(off <= ALIKE * float(np.abs(right).max(initial=0.0))))


def are_few(right: Array, theirs: Array) -> bool:
    """Whether so few numbers differ, of many, that each is told."""
    return len(_where(right, theirs)) <= min(_FEW, right.size // 4)


def is_near(right: Array, theirs: Array) -> bool:
    """Whether most numbers differ, all of them by a small share: after a rounding, or a little more training."""
    off = np.abs(np.asarray(theirs, np.float64) - right)
    if not np.isfinite(off).all() or not right.any():
        return False
    most = (off > ALIKE * np.abs(right).max()).mean() > 0.25
    return bool(most and _root(off) <= _NEAR * _root(right))


def is_related(right: Array, theirs: Array) -> bool:
    """Whether numbers come from the right ones in whatever way, so that nobody drew them anew: some are equal, they go together, or they
    are the same in another order.

    Example:
        >>> right = np.random.default_rng(0).normal(size=100)
        >>> is_related(right, right[::-1]), is_related(right, right + 0.1), is_related(right, np.random.default_rng(1).normal(size=100))
        (True, True, False)
    """
    if right.shape != theirs.shape or theirs.size < 2:
        return False
    mine, others = (np.asarray(one, np.float64).ravel() for one in (right, theirs))
    if not np.isfinite(others).all():
        return False
    if ((mine == others) & (mine != 0)).mean() >= _EQUAL or is_reordered(right, theirs):
        return True
    mine, others = mine - mine.mean(), others - others.mean()
    lengths = float(np.linalg.norm(mine) * np.linalg.norm(others))
    # Of few numbers independent ones go together by chance.
    wanted = min(max(0.5, 4 / math.sqrt(mine.size)), 0.9)
    return bool(lengths) and abs(float(mine @ others)) / lengths > wanted


_EQUAL = 0.01
"""Numbers that were drawn anew are nowhere equal to the right ones; so small a share says that they were not all drawn."""


def is_reordered(right: Array, theirs: Array) -> bool:
    """Whether numbers are the right ones in another order, whichever it is."""
    sizes = [float(np.abs(np.asarray(one, np.float64)).sum()) for one in (theirs, right)]
    # Whatever the order, the sum stays: sorting takes long.
    if not math.isclose(*sizes, rel_tol=1e-4):
        return False
    return alike(np.sort(np.asarray(theirs, np.float64), None), np.sort(np.asarray(right, np.float64), None))


def as_after(right: Array, theirs: Array) -> str:
    """What brings numbers so near the right ones, in words."""
    fine = _root(np.asarray(theirs, np.float64) - right) <= _FINE * _root(right)
    return f"as after a {'' if fine else 'coarse '}rounding or {'one more step of' if fine else 'more'} training"


_FINE = 5e-3


def _root(array: Array) -> float:
    return math.sqrt(float((np.asarray(array, np.float64) ** 2).mean()))


__all__ = ["are_few", "as_after", "differences", "is_near", "is_related", "is_reordered"]
