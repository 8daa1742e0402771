"""Lengths that the source has fixed or limited: the code checks them, so that it never takes others quietly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from parity.graph.code import prose
from parity.graph.graph import Graph
from parity.graph.reading_notes import frozen_lengths, limited_axes


@dataclass(frozen=True)
class Check:
    """A length that is checked.

    Args:
        broken: the condition under which it is not as it must be.
        words: what it must be.
    """

    broken: str
    words: str


def checks_of(graph: Graph, arguments: Mapping[str, str]) -> list[Check]:
    """The lengths to check: axes that `details["frozen"]` speaks of, and words that `details["limits"]` speaks of.

    Args:
        graph: what is written.
        arguments: of `forward`, by the names of the inputs.

    Example:
        >>> from parity.graph import Builder
        >>> build = Builder("model")
        >>> build.details["limits"] = "time at least 4"
        >>> checks_of(build.graph({"y": build.input("x", ("batch", "time"))}), {"x": "x"})
        [Check(broken='x.shape[1] < 4', words='x.shape[1] has to be at least 4 (time)')]
    """
    found = []
    for name, axis, length in frozen_lengths(graph):
        size = f"{arguments[name]}.shape[{axis}]"
        found.append(Check(f"{size} != {length}", f"{size} has to be {length}, as the source was read"))
    for one in limited_axes(graph):
        size, word = f"{arguments[one.input]}.shape[{one.axis}]", prose(str(one.word), 40)
        if one.least is not None:
            found.append(Check(f"{size} < {one.least}", f"{size} has to be at least {one.least} ({word})"))
        if one.most is not None:
            found.append(Check(f"{size} > {one.most}", f"{size} has to be at most {one.most} ({word})"))
    return found


__all__ = ["Check", "checks_of"]
