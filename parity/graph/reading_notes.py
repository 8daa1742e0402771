"""What a graph says of the lengths for which it holds: axes that a trace froze, limits of lengths, padding that the source cuts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from parity.errors import Problem
from parity.graph.graph import Graph

_FROZEN = re.compile(r"(?:\A|; )axis (\d+) of '([^']*)' at (\d+): ")
_LIMIT = re.compile(r"(\S+) at (least|most) (\d+)")


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
    found: dict[str, tuple[int, int | None]] = {}
    for word, kind, number in _LIMIT.findall(graph.details.get("limits", "")):
        low, high = found.get(word, (1, None))
        found[word] = (int(number), high) if kind == "least" else (low, int(number))
    return found


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
    found = []
    for word, (low, high) in length_limits(graph).items():
        length = lengths.get(word, low)
        if length < low or (high is not None and length > high):
            what, expected = "lengths for which the model was not read", graph.details["limits"]
            found.append(Problem(what, graph.name, expected, f"{word} {length}"))
    return found


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


__all__ = ["beyond_limits", "frozen_lengths", "length_limits", "reading_notes"]
