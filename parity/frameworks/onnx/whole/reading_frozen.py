"""What an export froze: the words for it in a message, and which length of which input a Reshape wants."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from parity.errors import ParityError, Problem, ShapeError
from parity.frameworks.onnx.whole.reading_state import Reading
from parity.frameworks.onnx.whole.reading_step import REMEDY, Step
from parity.frameworks.onnx.whole.reading_values import Sym

_FIXED = "the export fixed the length of an axis here"


def placed(error: ParityError, where: str, reading: Reading, step: Step | None) -> list[Problem]:
    """The problems of a node with their place: the node, and what an operation says of itself behind it.

    Args:
        error: what came up.
        where: the node.
        reading: knows the words for lengths.
        step: the node as far as it was looked at.
    """
    return [
        replace(problem, expected=reading.in_words(problem.expected), got=reading.in_words(problem.got))
        if problem.where.startswith("graph '")
        else _placed(problem, isinstance(error, ShapeError), where, reading, step)
        for problem in error.problems
    ]


def _placed(problem: Problem, of_shapes: bool, where: str, reading: Reading, step: Step | None) -> Problem:
    inner = f"; {problem.where}" if problem.where else ""
    remedy = problem.remedy or REMEDY
    expected, got = reading.in_words(problem.expected), reading.in_words(problem.got)
    if not of_shapes:
        return Problem(problem.what, f"{where}{inner}", expected, got, remedy)
    if step is not None and step.op == "Reshape" and problem.what.startswith("the numbers do not fill"):
        remedy = _of_reshape(step)
    elif not problem.remedy and (expected, got) != (problem.expected, problem.got):
        remedy = f"{_FIXED}, or it joins lengths that differ: {advice(reading)}"
    return Problem(problem.what, f"{where}{inner}", expected, got, remedy)


def advice(reading: Reading) -> str:
    """How to get a file that leaves the lengths of axes open."""
    torch = (
        " (torch.onnx.export with dynamo=False and dynamic_axes)" if reading.model.producer_name == "pytorch" else ""
    )
    return f"export the model anew with that axis dynamic{torch}"


def _of_reshape(step: Step) -> str:
    """The remedy for a Reshape that is only right at one length of an axis."""
    reading = step.reading
    found = next(_fitting(step), None)
    if found is None:
        return f"{_FIXED}: {advice(reading)}"
    fixed = " and ".join(f"{word} at {length}" for word, length in found.items())
    axes = [
        f"{found[word]} as axis {axis} of input '{one.name}'"
        for one in reading.build.inputs
        for axis, word in enumerate(one.shape)
        if isinstance(word, str) and word in found
    ]
    return f"{_FIXED}, {fixed}: {advice(reading)}, or write into the file {', '.join(axes)}"


def _fitting(step: Step) -> Iterator[Mapping[str, int]]:
    """Lengths of words with which the Reshape of a node is one: first those of axes that stand where the shape has a number."""
    own, sizes = step.shape(step.value(0)), step.sizes("shape", 1) or []
    if 0 in sizes:
        return
    words = {at: word for at, length in enumerate(own) if (word := step.reading.word(length)) in step.reading.probes}
    there = {
        word: size for at, word in words.items() if at < len(sizes) and isinstance(size := sizes[at], int) and size > 0
    }
    others = [{word: size} for word in words.values() for size in sizes if isinstance(size, int) and size > 1]
    for chosen in (*({word: size} for word, size in there.items()), there, *others):
        if chosen and _fills(step, own, sizes, chosen):
            yield chosen


def _fills(step: Step, own: Sequence[int | Sym], sizes: Sequence[int | Sym], chosen: Mapping[str, int]) -> bool:
    """Whether the lengths that stay then come to the same on both sides, and all others, or -1 for them, stand on both."""
    given = [chosen.get(step.reading.word(one), one) for one in own]
    left, right = ([one for one in side if isinstance(one, Sym)] for side in (given, sizes))
    same = math.prod(one for one in given if isinstance(one, int)) == math.prod(
        one for one in sizes if isinstance(one, int) and one != -1
    )
    words = [sorted(map(step.reading.word, side)) for side in (left, right)]
    return same and (words[0] == words[1] or (-1 in sizes and set(words[1]) < set(words[0])))


__all__ = ["advice", "placed"]
