"""What the axes of every value are: lengths that stay, and those that follow "batch", "time", ... of the inputs."""

from __future__ import annotations

from collections.abc import Mapping
from math import gcd

from parity.errors import ShapeError
from parity.graph.builder import PROBES
from parity.graph.graph import Graph, Wire
from parity.graph.operations.operation import Shape

_STEP = 2520
"""Two lengths that differ by this many leave the same remainder when they are divided by anything up to 10."""


def axes_of(graph: Graph) -> dict[Wire, tuple[int | str, ...]]:
    """The shape of every value in words: "batch", "time", "2*time", "time/2", "time-3", "time/2 + 4"; "?" for what is none of these.

    Found by trying lengths, so that no operation has to be known. A value behind a stub is left out.

    Raises:
        ShapeError: an operation cannot take what it is given.

    Example:
        >>> from parity.graph import Builder
        >>> build = Builder("model")
        >>> x = build.input("x", ("batch", "time", 4))
        >>> graph = build.graph({"y": build.concatenate([x, build.slice(x, 1, 1)], axis=1)})
        >>> list(axes_of(graph).values())[-1]
        ('batch', '2*time - 1', 4)
    """
    start = {word: 2 * _STEP + PROBES.get(word, 0) + 17 * index for index, word in enumerate(graph.words)}
    usual = graph.shapes(start)
    longer = {word: graph.shapes({**start, word: start[word] + _STEP}) for word in graph.words}
    return {
        wire: tuple(
            _word(axis, shape, {word: found[wire] for word, found in longer.items()}, start)
            for axis in range(len(shape))
        )
        for wire, shape in usual.items()
    }


def _word(axis: int, usual: Shape, longer: Mapping[str, Shape], start: Mapping[str, int]) -> int | str:
    grown = {word: shape[axis] - usual[axis] for word, shape in longer.items() if shape[axis] != usual[axis]}
    if not grown:
        return usual[axis]
    if len(grown) > 1:
        return "*".join(grown)
    ((word, growth),) = grown.items()
    common = gcd(growth, _STEP)
    times, share = growth // common, _STEP // common
    text = word if times == 1 else f"{times}*{word}"
    text = text if share == 1 else f"{text}/{share}"
    rest = usual[axis] - start[word] * times // share
    return text if not rest or share > 1 else f"{text} {'+' if rest > 0 else '-'} {abs(rest)}"


def lengths_for(graph: Graph, batch: int, time: int) -> dict[str, int]:
    """Lengths for all words of a graph: those given for "batch" and "time", for any other one as many as steps, if the model takes it so.

    Raises:
        ShapeError: the model cannot take such lengths.
    """
    lengths = {word: batch if word == "batch" else time for word in graph.words}
    try:
        graph.shapes(lengths)
    except ShapeError as error:
        remedy = "give more steps, or inputs of your own"
        got = ", ".join(f"{word} {length}" for word, length in lengths.items())
        raise ShapeError(
            [
                *error.problems,
                *ShapeError("the model does not take such lengths", graph.name, got=got, remedy=remedy).problems,
            ]
        ) from error
    return lengths


__all__ = ["axes_of", "lengths_for"]
