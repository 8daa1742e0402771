"""What the axes of every value are: lengths that stay, and those that follow "batch", "time", ... of the inputs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

from parity.errors import ParityError, Problem, ShapeError
from parity.graph.graph import Graph, Wire
from parity.graph.operations.operation import Shape
from parity.graph.reading_notes import beyond_limits

Axis: TypeAlias = int | str
"""A length, or one in words."""

Lengths: TypeAlias = tuple[tuple[int, ...], ...]
"""Of every axis of a value, its length at every trial: all alike for one that stays."""

_STEP = 2520
"""Divided by anything up to 10 it leaves nothing."""


@dataclass(frozen=True)
class _Trial:
    lengths: Mapping[str, int]
    shapes: Mapping[Wire, Shape]


def axes_of(graph: Graph) -> dict[Wire, tuple[Axis, ...]]:
    """The shape of every value in words: "batch", "time", "2*time", "time/2", "time - 3", "batch*time"; found by trying lengths.

    What is no simple multiple or share is "~time/2" where it is about that, else "?". A share is rounded, down or up. A value behind a stub
    is left out; so are all values of a graph that takes none of the lengths that are tried.

    Example:
        >>> from parity.graph import Builder
        >>> build = Builder("model")
        >>> x = build.input("x", ("batch", "time", 4))
        >>> graph = build.graph({"y": build.concatenate([x, build.slice(x, 1, 1)], axis=1)})
        >>> list(axes_of(graph).values())[-1]
        ('batch', '2*time - 1', 4)
    """
    trials = _trials(graph)
    return {wire: tuple(_word(axis, trials) for axis in axes) for wire, axes in _lengths(trials).items()}


def lengths_of(graph: Graph) -> dict[Wire, Lengths]:
    """Lengths of every value at several choices for "batch", "time", ...: two that are alike in them are so at any.

    Values are left out as by `axes_of`.

    Example:
        >>> from parity.graph import Builder
        >>> build = Builder("model")
        >>> graph = build.graph({"y": build.transpose(build.input("x", ("batch", 4)), (1, 0))})
        >>> set(lengths_of(graph)[Wire("x")][1])
        {4}
    """
    return _lengths(_trials(graph))


def shown(axes: Sequence[Axis]) -> str:
    """A shape in brackets, as Python writes a tuple.

    Example:
        >>> shown(("batch", 3)), shown(("batch",))
        ('(batch, 3)', '(batch,)')
    """
    return f"({', '.join(map(str, axes))}{',' if len(axes) == 1 else ''})"


def _lengths(trials: Sequence[_Trial]) -> dict[Wire, Lengths]:
    wires = trials[0].shapes if trials else ()
    return {wire: tuple(zip(*(trial.shapes[wire] for trial in trials), strict=True)) for wire in wires}


def _trials(graph: Graph) -> list[_Trial]:
    """Lengths that the graph takes: some models take only even ones, or multiples of what they pool.

    The first one is followed by others in which one word's length is longer by a step, then by some in which every length is a little odd.
    """
    for first in (0, 1009):
        start = {word: (2 + index) * _STEP + first for index, word in enumerate(graph.words)}
        base = _tried(graph, start)
        if base is None:
            continue
        others = [{**start, word: length + _STEP} for word, length in start.items()]
        if start:
            others += [{word: length + more for word, length in start.items()} for more in (1, 2, 3)]
        return [base, *(trial for one in others if (trial := _tried(graph, one)) is not None)]
    return []


def _tried(graph: Graph, lengths: Mapping[str, int]) -> _Trial | None:
    try:
        return _Trial(lengths, graph.shapes(lengths))
    except ParityError:
        return None


def _word(found: Sequence[int], trials: Sequence[_Trial]) -> Axis:
    """One axis in words, from its length at every trial."""
    if len(set(found)) == 1:
        return found[0]
    grown = {
        word: length - found[0]
        for trial, length in zip(trials, found, strict=True)
        for word in _longer_in(trial, trials[0])
        if length != found[0]
    }
    sizes = [math.prod(trial.lengths[word] for word in grown) for trial in trials]
    shares = {Fraction(growth * trials[0].lengths[word], _STEP * sizes[0]) for word, growth in grown.items()}
    if len(shares) != 1:
        return "?"
    (share,) = shares
    times, parts = share.as_integer_ratio()
    text = ("" if times == 1 else f"{times}*") + "*".join(grown) + ("" if parts == 1 else f"/{parts}")
    for rounding in (math.floor, math.ceil):
        rests = {length - rounding(share * size) for length, size in zip(found, sizes, strict=True)}
        if len(rests) == 1:
            (rest,) = rests
            return text if not rest else f"{text} {'+' if rest > 0 else '-'} {abs(rest)}"
    return f"~{text}"


def _longer_in(trial: _Trial, base: _Trial) -> list[str]:
    """The word whose length alone is a step longer; none in other trials."""
    changed = [word for word, length in trial.lengths.items() if length != base.lengths[word]]
    return changed if len(changed) == 1 and trial.lengths[changed[0]] - base.lengths[changed[0]] == _STEP else []


def distinct_lengths(graph: Graph, batch: int = 3, time: int = 5040) -> dict[str, int]:
    """Lengths for all words of a graph, all different: the time as given, any further word a multiple of eight more.

    Example:
        >>> from parity.graph import Builder
        >>> build = Builder("model")
        >>> graph = build.graph({"y": build.mean(build.input("x", ("batch", "time", "depth")), 2)})
        >>> distinct_lengths(graph)
        {'batch': 3, 'time': 5040, 'depth': 5048}
    """
    others = [word for word in graph.words if word not in ("batch", "time")]
    further = {word: time + 8 * place for place, word in enumerate(others, 1)}
    known = {"batch": batch, "time": time}
    return {word: known.get(word, further.get(word, time)) for word in graph.words}


def lengths_for(graph: Graph, batch: int, times: Sequence[int]) -> dict[str, int]:
    """Lengths for all words of a graph: different ones for different words, if the model takes it so.

    Args:
        graph: of the model.
        batch: samples.
        times: numbers of steps to be tried, one after the other: a model may take only many steps, or multiples of what it pools.

    Raises:
        ShapeError: the model takes none of them.

    Example:
        >>> from parity.graph import Builder
        >>> build = Builder("model")
        >>> x = build.input("x", ("batch", "time", 3))
        >>> lengths_for(build.graph({"tenth": build.select(x, 1, 9)}), 2, (5, 17))
        {'batch': 2, 'time': 17}
    """
    problems: tuple[Problem, ...] = ()
    for time in times:
        for lengths in (
            distinct_lengths(graph, batch, time),
            {w: batch if w == "batch" else time for w in graph.words},
        ):
            try:
                graph.shapes(lengths)
            except ShapeError as error:
                problems = tuple(error.problems)
            else:
                if not (beyond := beyond_limits(graph, lengths)):
                    return lengths
                problems = tuple(beyond)
    remedy = "give another number of steps, or inputs of your own"
    got = f"{', '.join(map(str, times))} steps"
    raise ShapeError([*problems, Problem("the model does not take such lengths", graph.name, "", got, remedy)])


__all__ = ["Axis", "Lengths", "axes_of", "distinct_lengths", "lengths_for", "lengths_of", "shown"]
