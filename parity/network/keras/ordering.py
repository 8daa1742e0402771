"""The order of layers told from their numbers and their sizes. Imports no framework and opens no file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import combinations, pairwise, permutations

Rank = tuple[str, int]
"""Of a layer: a class or the stem of a name, and its number there."""

_NUMBERED = re.compile(r"(.*?)(?:_(\d+))?")
_MOST_STACK = 6
"""Orders of so many layers are tried out."""


def number_of(name: str) -> Rank:
    """What sorts lstm, lstm_2, lstm_10 in this order.

    Example:
        >>> number_of("lstm"), number_of("lstm_10")
        (('lstm', 0), ('lstm', 10))
    """
    stem, number = _NUMBERED.fullmatch(name).groups() if "\n" not in name else (name, None)  # type: ignore[union-attr]
    return stem, int(number[:9]) if number else 0


def chain_of(sizes: Sequence[tuple[int, int]], ranks: Sequence[Rank] = ()) -> list[int] | None:
    """The only order in which each layer gives as many features as the next takes; None if there is none, or several.

    Args:
        sizes: of the input and the output of each.
        ranks: of each, if those of one class are known to stand in the order of their numbers.

    Example:
        >>> chain_of([(4, 6), (3, 4)]), chain_of([(4, 4), (4, 4)]), chain_of([(4, 4), (4, 4)], [("lstm", 1), ("lstm", 0)])
        ([1, 0], None, [1, 0])
    """
    if len(sizes) > _MOST_STACK:
        return None
    before = [
        (a, b) if ranks[a] < ranks[b] else (b, a)
        for a, b in combinations(range(len(ranks)), 2)
        if ranks[a][0] == ranks[b][0] and ranks[a] != ranks[b]
    ]
    fitting = [
        order
        for order in permutations(range(len(sizes)))
        if all(sizes[a][1] == sizes[b][0] for a, b in pairwise(order))
        and all(order.index(a) < order.index(b) for a, b in before)
    ]
    return list(fitting[0]) if len(fitting) == 1 else None
