"""What a tensor of an ONNX graph is while the graph is read: a constant, a value of the graph to be, or lengths of axes.

Lengths are followed through the arithmetic that exporters write (Shape, Gather, Concat, Mul, ...), so that a Reshape or an Expand can
name the axis that it means. A length that differs from call to call is tried at several lengths of the inputs at once (`PROBES`): two
lengths are the same where they are the same at all of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from parity.frameworks.onnx.constants import Constant
from parity.graph import Wire

Tried: TypeAlias = tuple[int | None, ...]
"""A length at each of the probes; None where the model cannot take that probe."""

PROBES = 3
"""How many lengths are tried: long ones, longer ones, short ones."""

_LONG = (1009, 1013, 1019, 1021, 1031, 1033, 1039, 1049, 1051, 1061, 1063, 1069, 1087, 1091, 1093, 1097)
_LONGER = (20011, 20021, 20023, 20029, 20047, 20051, 20063, 20071, 20089, 20101, 20107, 20113, 20117, 20123, 20129)
_SHORT = (5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61)

_LARGEST_FACTOR = 64
"""Larger multiples of what was tried are hardly lengths of axes."""


def probes_of(words: list[str]) -> dict[str, tuple[int, ...]]:
    """Lengths with which each word is tried.

    Example:
        >>> probes_of(["batch", "time"])["time"]
        (1013, 20021, 7)
    """
    return {
        word: (
            _LONG[at % len(_LONG)] + 3000 * (at // len(_LONG)),
            _LONGER[at % len(_LONGER)] + 30000 * (at // len(_LONGER)),
            _SHORT[at % len(_SHORT)] + 60 * (at // len(_SHORT)),
        )
        for at, word in enumerate(words)
    }


def worded(text: str, probes: Mapping[str, tuple[int, ...]]) -> str:
    """A text, the long lengths that were tried in place of words, their products and small multiples replaced by these words.

    Example:
        >>> worded("(6, 2018, 2)", probes_of(["batch", "time"]))
        '(6, 2*batch, 2)'
    """
    tried = list(zip(*probes.values(), strict=True))

    def word(found: re.Match[str]) -> str:
        return next((name for one in tried if (name := _product(int(found.group()), probes, one))), found.group())

    return re.sub(r"\d{4,9}", word, text)


def _product(number: int, words: Iterable[str], lengths: Sequence[int]) -> str:
    """A number as a product of words and of a small factor; "" for any other."""
    names, rest = [], number
    for word, length in zip(words, lengths, strict=True):
        if length >= _LONG[0] and rest % length == 0:
            names.append(word)
            rest //= length
    return "*".join([*([str(rest)] if rest > 1 else []), *names]) if names and rest <= _LARGEST_FACTOR else ""


class UndecidedError(Exception):
    """A question about a length whose answer differs from call to call."""


@dataclass(frozen=True)
class Sym:
    """A length that differs from call to call.

    Args:
        tried: it at each probe.
        place: an axis of a value that has this length, if one is known.
        times: how many times that axis's length it is.
    """

    tried: Tried
    place: tuple[Wire, int] | None = None
    times: int = 1

    def __str__(self) -> str:
        """What was tried first: a number for which messages put a word; see `Reading.in_words`."""
        return str(next((one for one in self.tried if one is not None), "?"))

    def same(self, other: Tried) -> bool:
        """Whether another length is the same, at two probes at least."""
        pairs = [(a, b) for a, b in zip(self.tried, other, strict=True) if a is not None and b is not None]
        return len(pairs) > 1 and all(a == b for a, b in pairs)

    def _with(self, other: object, function: Callable[[int, int], int]) -> Sym:
        values = other.tried if isinstance(other, Sym) else (_whole(other),) * len(self.tried)
        pairs = zip(self.tried, values, strict=True)
        return Sym(tuple(None if a is None or b is None else function(a, b) for a, b in pairs))

    def __mul__(self, other: object) -> Sym | int:
        if not isinstance(other, Sym):
            number = _whole(other)
            found = self._with(number, lambda a, b: a * b)
            return 0 if number == 0 else Sym(found.tried, self.place, self.times * number)
        return self._with(other, lambda a, b: a * b)

    def __add__(self, other: object) -> Sym | int:
        if not isinstance(other, Sym) and _whole(other) == 0:
            return self
        return _settled(self._with(other, lambda a, b: a + b))

    def __sub__(self, other: object) -> Sym | int:
        if not isinstance(other, Sym) and _whole(other) == 0:
            return self
        return _settled(self._with(other, lambda a, b: a - b), self, other)

    def __rsub__(self, other: object) -> Sym | int:
        return _settled(self._with(other, lambda a, b: b - a))

    def __floordiv__(self, other: object) -> Sym | int:
        if isinstance(other, Sym):
            return _settled(self._with(other, lambda a, b: a // b), self, other)
        number = _whole(other)
        found = self._with(number, lambda a, b: a // b)
        if self.place is not None and self.times % number == 0:
            return Sym(found.tried, self.place, self.times // number)
        return found

    def __mod__(self, other: object) -> Sym | int:
        number = _whole(other)
        if self.place is not None and self.times % number == 0:
            return 0
        return self._with(number, lambda a, b: a % b)

    def __rmul__(self, other: object) -> Sym | int:
        return self * other

    def __radd__(self, other: object) -> Sym | int:
        return self + other

    def equals(self, other: object) -> bool:
        """Whether this length is that number or that other length.

        Raises:
            UndecidedError: it differs from call to call.
        """
        if isinstance(other, Sym):
            if self.same(other.tried):
                return True
            raise UndecidedError
        if _whole(other) <= 0:  # an axis is at least one long wherever a model computes anything
            return False
        raise UndecidedError


def _whole(value: object) -> int:
    if isinstance(value, (int, np.integer)):
        return int(value)
    raise UndecidedError


def _settled(found: Sym, *of: object) -> Sym | int:
    """A length, or a number where two lengths of one meaning cancel."""
    known = {value for value in found.tried if value is not None}
    both = len(of) == 2 and all(isinstance(one, Sym) for one in of)
    return known.pop() if both and len(known) == 1 else found


@dataclass(frozen=True, eq=False)
class Sizes:
    """Whole numbers of which some are lengths that differ from call to call: an array of int and `Sym`."""

    array: NDArray[np.object_]

    @property
    def listed(self) -> list[int | Sym]:
        """Its numbers in order."""
        return [one if isinstance(one, Sym) else int(one) for one in self.array.ravel()]


@dataclass(frozen=True)
class Spread:
    """One length, for every sample of a batch.

    Args:
        length: it.
    """

    length: int | Sym


@dataclass(frozen=True)
class Parts:
    """A sequence of tensors: the parts of one.

    Args:
        whole: what was split.
        axis: along which.
        cuts: start and stop of each part; the stop of the last is None.
        dropped: whether the axis, which is one long in each part, is gone.
    """

    whole: Constant | Wire
    axis: int
    cuts: tuple[tuple[int, int | None], ...]
    dropped: bool


@dataclass(frozen=True)
class Undecided:
    """A truth value that depends on a length.

    Args:
        words: the question.
    """

    words: str


@dataclass(frozen=True)
class Unknown:
    """A tensor behind a node that could not be read."""


Value: TypeAlias = Constant | Wire | Sizes | Spread | Parts | Undecided | Unknown


def objects(value: Value | None) -> NDArray[np.object_] | None:
    """Whole numbers or truth values as Python objects, which lengths can stand among; None for anything else."""
    if isinstance(value, Sizes):
        return value.array
    if isinstance(value, Constant) and value.size <= 256 and value.dtype.kind in "iub":
        return np.asarray(value.read()).astype(object)
    return None


def sizes_of(array: Any, name: str) -> Constant | Sizes:
    """Objects as a value: a constant where no length is among them."""
    found = np.asarray(array, object)
    if any(isinstance(one, Sym) for one in found.ravel()):
        return Sizes(found)
    truth = found.size > 0 and all(isinstance(one, (bool, np.bool_)) for one in found.ravel())
    return Constant.of_array(found.astype(np.bool_ if truth else np.int64), name)
