"""Percentiles of numbers that are too many to hold: they are shown block by block, several times over, and never kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.reference import Float64

_DIGIT_BITS, _BITS = 16, 64
_DIGITS = 1 << _DIGIT_BITS
_FEW = 1 << 20
"""So many numbers are sorted; of more, those near the percentiles are counted out first."""

Numbers = Callable[[], Iterator[Float64]]
_Keys = NDArray[np.uint64]
_Slots = NDArray[np.intp]


@dataclass(frozen=True)
class Ranked:
    """One percentile: an element itself, and where it stands.

    Args:
        value: the smallest number that so many percent of the numbers do not exceed.
        block: the first block that holds it.
        index: its first place there.
    """

    value: float
    block: int
    index: int


class Ranking:
    """Percentiles that are elements themselves, of numbers that are shown block by block as often as `passes` asks.

    The bits of a number that is not negative order as the numbers do. So each pass counts how often the next 16 bits occur among the
    numbers that begin as the wanted ones do, until there are few enough of these to sort.

    Args:
        percents: from 0 to 100; 0 gives the smallest number.
        size: how many numbers there are at most.
    """

    def __init__(self, percents: Sequence[float], size: int) -> None:
        self._percents = tuple(percents)
        self._near = size
        self._tables: list[NDArray[np.int16]] = []
        self._counts: NDArray[np.int64] | None = None
        self._slot: list[int] = []
        self._offset: list[int] = []
        self._gathered: list[tuple[_Keys, NDArray[np.intp], NDArray[np.intp], int]] = []
        self.total = 0
        self.found: list[Ranked] = []

    @property
    def _sorts(self) -> bool:
        """Whether this pass gathers what is near the percentiles, and is the last."""
        return self._near <= _FEW or len(self._tables) * _DIGIT_BITS == _BITS

    def take(self, values: Float64, block: int) -> None:
        """One block of numbers.

        Args:
            values: not negative and no NaN, in any number; infinities stand last.
            block: which one it is, the same in each pass.
        """
        keys = np.ascontiguousarray(values, np.float64).view(np.uint64)
        if not self._tables and self._counts is None and not self._sorts:
            self._counts = np.zeros((1, _DIGITS), np.int64)
        self.total += 0 if self._tables else keys.size
        slots, places = np.zeros(keys.size, np.intp), None
        for level, table in enumerate(self._tables):
            slots = table[slots, _digit(keys, level)].astype(np.intp)
            near = np.flatnonzero(slots >= 0)
            keys, slots, places = keys[near], slots[near], near if places is None else places[near]
        if self._sorts:
            own, first, count = np.unique(keys, return_index=True, return_counts=True)
            self._gathered.append((own, count, first if places is None else places[first], block))
        elif self._counts is not None:
            flat = slots * _DIGITS + _digit(keys, len(self._tables))
            self._counts += np.bincount(flat, minlength=self._counts.size).reshape(self._counts.shape)

    def end_pass(self) -> bool:
        """To be called when every block was taken; whether another pass is needed."""
        if not self._slot:
            # Percentiles such as 99.9 are no binary numbers: a rank that is whole but for their rounding is that rank.
            ranks = [max(0, int(np.ceil(round(percent / 100 * self.total, 6))) - 1) for percent in self._percents]
            self._slot, self._offset = [0] * len(ranks), ranks
        if not self.total:
            return False
        if self._sorts:
            self._sort()
            return False
        assert self._counts is not None  # every pass but the last counts
        before = np.cumsum(self._counts, axis=1)
        table = np.full(self._counts.shape, -1, np.int16)
        known: dict[tuple[int, int], int] = {}
        for which, (slot, offset) in enumerate(zip(self._slot, self._offset, strict=True)):
            digit = int(np.searchsorted(before[slot], offset, side="right"))
            self._slot[which] = known.setdefault((slot, digit), len(known))
            self._offset[which] = offset - (int(before[slot, digit - 1]) if digit else 0)
            table[slot, digit] = self._slot[which]
        self._near = sum(int(self._counts[place]) for place in known)
        self._tables.append(table)
        self._counts = None if self._sorts else np.zeros((len(known), _DIGITS), np.int64)
        return True

    def _sort(self) -> None:
        """Every wanted number out of those that were gathered."""
        keys = np.concatenate([own for own, *_ in self._gathered])
        counts = np.concatenate([count for _, count, *_ in self._gathered])
        places = np.concatenate([first for *_, first, _ in self._gathered])
        blocks = np.repeat([block for *_, block in self._gathered], [own.size for own, *_ in self._gathered])
        order = np.argsort(keys, kind="stable")  # equal numbers stay in the order of their blocks
        ordered = keys[order]
        slots = self._slots_of(ordered)
        for slot, offset in zip(self._slot, self._offset, strict=True):
            near = np.flatnonzero(slots == slot)
            key = ordered[near[int(np.searchsorted(np.cumsum(counts[order[near]]), offset, side="right"))]]
            at = order[int(np.searchsorted(ordered, key))]
            self.found.append(Ranked(float(key.view(np.float64)), int(blocks[at]), int(places[at])))

    def _slots_of(self, keys: _Keys) -> _Slots:
        slots = np.zeros(keys.size, np.intp)
        for level, table in enumerate(self._tables):
            slots = table[slots, _digit(keys, level)].astype(np.intp)
        return slots


def _digit(keys: _Keys, level: int) -> NDArray[Any]:
    shift = np.uint64(_BITS - _DIGIT_BITS * (level + 1))
    return ((keys >> shift) & np.uint64(_DIGITS - 1)).astype(np.intp)


def at_percentiles(values: Float64, percents: Sequence[float]) -> list[float]:
    """Percentiles that are values themselves: the smallest that at least p % of the values do not exceed.

    Args:
        values: at least one, none negative; infinities stand last.
        percents: from 0 to 100; 0 gives the smallest value.

    Example:
        >>> at_percentiles(np.array([4.0, 1.0, 3.0, 2.0]), (0, 50, 51, 100))
        [1.0, 2.0, 3.0, 4.0]
    """
    ranking = Ranking(percents, values.size)
    again = True
    while again:
        ranking.take(values, 0)
        again = ranking.end_pass()
    return [one.value for one in ranking.found]


__all__ = ["Ranked", "Ranking", "at_percentiles"]
