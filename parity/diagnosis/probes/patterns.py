"""Patterns of what moves, and what they tell."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

STILL, MOVED, PLAINLY = 8.0, 200.0, 1e4
"""In float32 floors: what rounding alone may do; what it cannot do; what no quick forgetting hides either."""

_NOTHING = 1e-13
"""As a share of the largest number: in float64 no more than the order of a sum."""

REST, MOVES, SLIGHTLY, UNCLEAR = ".", "x", "+", "~"
"""What does not move, what does, what moves by so little that another model might forget it, and what nobody can tell."""


def right_pattern(apart: NDArray[np.float64], floors: NDArray[np.float64], scale: float) -> str:
    """The pattern of the right model, cell by cell.

    Args:
        apart: the largest difference in each cell, computed in float64.
        floors: the same in floors; NaN where nobody can tell.
        scale: the largest number.
    """
    rest = apart <= _NOTHING * scale
    return "".join(REST if still else _moved(moved) for still, moved in zip(rest, floors, strict=True))


def _moved(floors: float) -> str:
    return MOVES if floors >= PLAINLY else SLIGHTLY if floors >= MOVED else UNCLEAR


def shown(pattern: str) -> str:
    """A pattern as it is printed.

    Example:
        >>> shown("..xx++~")
        '..xxxx~'
    """
    return pattern.replace(SLIGHTLY, MOVES)


def found_pattern(floors: NDArray[np.float64]) -> str:
    """The pattern of a suspect, which computes in float32, cell by cell.

    Example:
        >>> found_pattern(np.array([0.0, 3.0, 50.0, 1e5, np.nan]))
        '..~x~'
    """
    return "".join(REST if moved <= STILL else MOVES if moved >= MOVED else UNCLEAR for moved in floors)


def contradict(one: str, other: str) -> bool:
    """Whether two patterns cannot be one; what is unclear contradicts nothing.

    Example:
        >>> contradict("..xx~", "..xxx"), contradict("..xx~", "xxxx.")
        (False, True)
    """
    return len(one) != len(other) or any({left, right} == {REST, MOVES} for left, right in zip(one, other, strict=True))


def of_steps(step: int, expected: str, found: str) -> str:
    """What it tells that other steps move than should, as a clause that follows "the suspect".

    Args:
        step: the one that was changed.
        expected, found: the patterns over the steps.

    Example:
        >>> of_steps(2, "..xxxxxxx", "xxx......")
        'is not moved by what stands before a step: it runs backwards in time'
    """
    shapes = dict(_shapes(step, len(expected)))
    right = "".join(REST if mark == REST else MOVES for mark in expected)
    own = next((name for name, shape in shapes.items() if shape == right), "")
    for name, shape in shapes.items():
        if name != own and not contradict(shape, found):
            return _WORDS.get((own, name)) or _WORDS["", name]
    return "is moved at other steps"


def _shapes(step: int, time: int) -> Iterator[tuple[str, str]]:
    """The patterns that directions and orders make where one step was changed."""
    later, mirrored = time - step, time - 1 - step
    yield "nothing", REST * time
    yield "one step", REST * step + MOVES + REST * mirrored
    yield "forward", REST * step + MOVES * later
    yield "backward", MOVES * (step + 1) + REST * mirrored
    yield "backward, turned", REST * mirrored + MOVES * (step + 1)
    yield "forward, turned", MOVES * later + REST * step
    yield "everything", MOVES * time


_WORDS = {
    ("", "nothing"): "is not moved by the step at all",
    (
        "",
        "one step",
    ): "carries nothing from one step to the next, as where the samples are taken for the steps (batch_first)",
    ("", "forward"): "is not moved by what stands behind a step: it runs forwards in time",
    ("everything", "forward"): "is not moved by what stands behind a step: no backward direction reaches its output",
    ("", "backward"): "is not moved by what stands before a step: it runs backwards in time",
    ("everything", "backward"): "is not moved by what stands before a step: no forward direction reaches its output",
    ("", "backward, turned"): "runs backwards in time, and its output is not turned round again",
    ("backward", "forward, turned"): "runs forwards in time, and its output is turned round",
    ("", "forward, turned"): "has its output turned round in time",
    ("backward", "backward, turned"): "has its output turned round in time",
    (
        "",
        "everything",
    ): "is moved by what stands behind a step as well as by what stands before it, as with two directions",
}


def of_samples(sample: int, found: str) -> str:
    """What it tells that other samples move than should, as a clause that follows "the suspect".

    Args:
        sample: the one that was changed.
        found: the pattern over the samples.

    Example:
        >>> of_samples(1, ".xxx")
        'mixes the samples of a batch, as batch_first taken the other way round does: a sample is moved by those before it'
    """
    others = found[:sample] + found[sample + 1 :]
    if MOVES not in found:
        return "is not moved by the sample at all"
    if MOVES not in others:
        return "keeps the samples of a batch apart, where the right model does not"
    if MOVES not in found[:sample]:
        return "mixes the samples of a batch, as batch_first taken the other way round does: a sample is moved by those before it"
    return "mixes the samples of a batch: a sample is moved by all the others"


def of_other_samples(step: int, found: str) -> str:
    """What it tells that other samples move when one step of a sample is changed, as a clause that follows "the suspect".

    Args:
        step: the one that was changed.
        found: the pattern over the steps of the other samples.

    Example:
        >>> of_other_samples(2, "..x......")
        'lets a sample move others at the same step only: it takes the samples for the steps (batch_first)'
    """
    if not contradict(found, REST * step + MOVES + REST * (len(found) - 1 - step)):
        return "lets a sample move others at the same step only: it takes the samples for the steps (batch_first)"
    return "lets a sample move others at other steps, too, as the statistics of a batch do (a batch normalization in training mode)"


__all__ = [
    "MOVED",
    "MOVES",
    "REST",
    "SLIGHTLY",
    "STILL",
    "UNCLEAR",
    "contradict",
    "found_pattern",
    "of_other_samples",
    "of_samples",
    "of_steps",
    "right_pattern",
    "shown",
]
