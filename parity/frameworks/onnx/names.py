"""Names in an ONNX graph: every node and every tensor has one of its own."""

from __future__ import annotations

from collections.abc import Iterable


class Names:
    """Names that are used once: whoever comes later gets a number.

    Example:
        >>> names = Names(["input"])
        >>> names.unique("input"), names.unique("input"), names.unique("")
        ('input_1', 'input_2', 'unnamed')
    """

    def __init__(self, taken: Iterable[str]) -> None:
        self._taken = set(taken)
        self._next: dict[str, int] = {}

    def unique(self, wanted: str) -> str:
        """The name itself if it is free, else the first free one with a number."""
        name = wanted = wanted or "unnamed"
        count = self._next.get(wanted, 1)
        while name in self._taken:
            name, count = f"{wanted}_{count}", count + 1
        self._next[wanted] = count
        self._taken.add(name)
        return name
