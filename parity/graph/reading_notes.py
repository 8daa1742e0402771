"""What a graph says of the lengths for which it holds: axes that a trace froze, limits of lengths, padding that the source cuts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from parity.errors import Problem
from parity.graph.limits import beyond, limits_in

if TYPE_CHECKING:
    from parity.graph.graph import Graph

_FROZEN = re.compile(r"(?:\A|; )axis (\d+) of '([^']*)' at (\d+): ")


def length_limits(graph: Graph) -> dict[str, tuple[int, int | None]]:
    """The least and the greatest length (None for any) of every word that `details["limits"]` speaks of.

    Example:
        >>> from parity.graph import Builder
        >>> build = Builder("model")
        >>> build.details["limits"] = "time at least 4, batch at most 8"
        >>> graph = build.graph({"y": build.input("x", ("batch", "time"))})
        >>> length_limits(graph)
        {'time': (4, None), 'batch': (1, 8)}
    """
    return limits_in(graph.details)


@dataclass(frozen=True)
class LimitedAxis:
    """An axis of an input that a model takes at some lengths only.

    Args:
        input: its name.
        axis: which.
        word: of its length; a number if it is frozen.
        least, most: that it may have; None for any.
    """

    input: str
    axis: int
    word: str | int
    least: int | None = None
    most: int | None = None

    @property
    def sayings(self) -> list[str]:
        """The limits as `details["limits"]` has them: "time at least 4", "time at most 8"."""
        both = (("at least", self.least), ("at most", self.most))
        return [f"{self.word} {kind} {number}" for kind, number in both if number is not None]

    @property
    def words(self) -> str:
        """The limits, as "at least 4 and at most 8"."""
        if self.least is not None and self.least == self.most:
            return str(self.least)
        both = (("at least", self.least), ("at most", self.most))
        return " and ".join(f"{kind} {number}" for kind, number in both if number is not None)


def limited_axes(graph: Graph) -> list[LimitedAxis]:
    """Every axis of an input whose length `details["limits"]` limits, in the order of the inputs.

    Example:
        >>> from parity.graph import Builder
        >>> build = Builder("model")
        >>> build.details["limits"] = "time at least 4"
        >>> limited_axes(build.graph({"y": build.input("x", ("batch", "time"))}))
        [LimitedAxis(input='x', axis=1, word='time', least=4, most=None)]
    """
    limits = {word: (low if low > 1 else None, high) for word, (low, high) in length_limits(graph).items()}
    return [
        LimitedAxis(one.name, axis, word, *limits[word])
        for one in graph.inputs
        for axis, word in enumerate(one.shape)
        if isinstance(word, str) and limits.get(word, (None, None)) != (None, None)
    ]


def beyond_limits(graph: Graph, lengths: Mapping[str, int]) -> list[Problem]:
    """What is wrong with lengths of "batch", "time", ... for which a graph does not hold.

    Example:
        >>> from parity.graph import Builder
        >>> build = Builder("model")
        >>> build.details["limits"] = "time at least 4"
        >>> graph = build.graph({"y": build.input("x", ("batch", "time"))})
        >>> [one.got for one in beyond_limits(graph, {"batch": 1, "time": 3})], beyond_limits(graph, {"batch": 1, "time": 4})
        (['time 3'], [])
    """
    return beyond(graph.name, graph.details, lengths)


def frozen_lengths(graph: Graph) -> list[tuple[str, int, int]]:
    """Input, axis and length of every axis that `details["frozen"]` speaks of.

    Example:
        >>> from parity.graph import Builder
        >>> build = Builder("model")
        >>> build.details["frozen"] = "axis 1 of 'x' at 6: a loop over the steps"
        >>> frozen_lengths(build.graph({"y": build.input("x", ("batch", 6))}))
        [('x', 1, 6)]
    """
    shapes = {one.name: one.shape for one in graph.inputs}
    found = [(name, int(axis), int(n)) for axis, name, n in _FROZEN.findall(graph.details.get("frozen", ""))]
    return [(name, axis, n) for name, axis, n in found if shapes.get(name, ())[axis : axis + 1] == (n,)]


def reading_notes(graph: Graph) -> Iterator[str]:
    """In words, what the graph says of the lengths for which it holds.

    Example:
        >>> from parity.graph import Builder
        >>> build = Builder("model")
        >>> build.details["limits"] = "time at least 4"
        >>> list(reading_notes(build.graph({"y": build.input("x", ("batch", "time"))})))
        ['holds for time at least 4: the source was read so']
    """
    details = graph.details
    if "frozen" in details:
        yield f"fixed lengths, as in the example inputs: {details['frozen']}"
    if "limits" in details:
        yield f"holds for {details['limits']}: the source was read so"
    if "packed" in details:
        yield f"packed sequences: {details['packed']}"
    if "fast path" in details:
        yield f"padded places: {details['fast path']}"


__all__ = ["LimitedAxis", "beyond_limits", "frozen_lengths", "length_limits", "limited_axes", "reading_notes"]
