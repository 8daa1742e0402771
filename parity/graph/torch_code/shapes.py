"""The shapes of all values, in words that hold for any lengths of "batch", "time", ...: for comments, and to see what a Reshape does."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from parity.errors import ShapeError
from parity.graph.graph import Graph, Wire
from parity.graph.operations.operation import Shape

Axis = int | str

_STEP = 2520
"""Divided by anything up to 10 it leaves nothing."""


@dataclass(frozen=True)
class _Trial:
    lengths: Mapping[str, int]
    shapes: Mapping[Wire, Shape]


def shapes_in_words(graph: Graph) -> tuple[dict[Wire, tuple[Axis, ...]], dict[Wire, tuple[Shape, ...]]]:
    """Shapes in words, and as they were at every trial; nothing of values behind a stub.

    An axis that is no simple multiple or share of a length is "~time/2", where it is about that, or "?".

    Example:
        >>> from parity.graph import Builder
        >>> build = Builder("model")
        >>> x = build.input("x", ("batch", "time", 4))
        >>> graph = build.graph({"y": build.slice(x, 1, None, None, 2)})
        >>> list(shapes_in_words(graph)[0].values())[-1]
        ('batch', 'time/2', 4)
    """
    trials = _trials(graph)
    if not trials:
        return {}, {}
    shapes = {wire: tuple(trial.shapes[wire] for trial in trials) for wire in trials[0].shapes}
    words = {
        wire: tuple(_word([shape[axis] for shape in found], trials) for axis in range(len(found[0])))
        for wire, found in shapes.items()
    }
    return words, shapes


def _trials(graph: Graph) -> list[_Trial]:
    """Lengths that the graph takes: some models take only even ones, or multiples of what they pool."""
    for first in (1009, 0):
        start = {word: (2 + index) * _STEP + first for index, word in enumerate(graph.words)}
        base = _tried(graph, start)
        if base is None:
            continue
        longer = [_tried(graph, {**start, word: length + _STEP}) for word, length in start.items()]
        odd = [_tried(graph, {word: length + more for word, length in start.items()}) for more in (1, 2, 3)]
        return [base, *(trial for trial in (*longer, *odd) if trial is not None)]
    return []


def _tried(graph: Graph, lengths: Mapping[str, int]) -> _Trial | None:
    try:
        return _Trial(lengths, graph.shapes(lengths))
    except ShapeError:
        return None


def _word(found: Sequence[int], trials: Sequence[_Trial]) -> Axis:
    base = trials[0]
    if len(set(found)) == 1:
        return found[0]
    grown = {
        word: Fraction(length - found[0], _STEP)
        for trial, length in zip(trials, found, strict=True)
        for word in _only_changed(base, trial)
        if length != found[0]
    }
    if len(grown) != 1:
        product = "*".join(grown)
        return (
            product if grown and all(_times(trial, grown) == n for trial, n in zip(trials, found, strict=True)) else "?"
        )
    ((word, share),) = grown.items()
    text = word if share.numerator == 1 else f"{share.numerator}*{word}"
    text = text if share.denominator == 1 else f"{text}/{share.denominator}"
    for rounding in (math.floor, math.ceil):
        rests = {length - rounding(share * trial.lengths[word]) for trial, length in zip(trials, found, strict=True)}
        if len(rests) == 1:
            (rest,) = rests
            return text if not rest else f"{text} {'+' if rest > 0 else '-'} {abs(rest)}"
    return f"~{text}"


def _only_changed(base: _Trial, trial: _Trial) -> list[str]:
    changed = [word for word, length in trial.lengths.items() if length != base.lengths[word]]
    return changed if len(changed) == 1 and trial.lengths[changed[0]] - base.lengths[changed[0]] == _STEP else []


def _times(trial: _Trial, words: Mapping[str, Fraction]) -> int:
    found = 1
    for word in words:
        found *= trial.lengths[word]
    return found


__all__ = ["Axis", "shapes_in_words"]
