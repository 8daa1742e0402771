"""How one array comes out of another: in another order, transposed, reshaped, with the opposite sign, scaled, rounded."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import permutations

import numpy as np

from parity.deferred import Array
from parity.diagnosis.faults.precision import rounded
from parity.diagnosis.repair import as_cudnn, reread
from parity.diagnosis.told import alike

_SHOWN = 8
"""So many places of an order are told."""


@dataclass(frozen=True, eq=False)
class Turn:
    """What makes one array of another.

    Args:
        name: in a word: "" for nothing at all, "transposed", "negated".
        words: what the array is beside the right one: "transposed", "with the opposite sign".
        formula: makes it of the right one.
    """

    name: str
    words: str
    formula: Callable[[Array], Array]


def turn_between(right: Array, theirs: Array, gates: tuple[str, ...] = (), axes: tuple[str, ...] = ()) -> Turn | None:
    """What makes an array of another one, if anything that is known does.

    Args:
        right: what it may be made of.
        theirs: the array.
        gates: the letters of the gates, where the first axis is theirs.
        axes: what stands along each axis, in words.

    Returns:
        The simplest; None where nothing does, or where the array holds one number alone, which says nothing.

    Example:
        >>> right = np.arange(6.0).reshape(2, 3)
        >>> turn_between(right.T.copy(), right).words, turn_between(right, -2 * right).words, turn_between(right, right + 1)
        ('transposed', 'with the opposite sign and 2 times as large', None)
    """
    if right.size != theirs.size or not theirs.size or theirs.size < 2 or (theirs == theirs.flat[0]).all():
        return None
    right, theirs = np.asarray(right, np.float64), np.asarray(theirs, np.float64)
    length, other = float(np.linalg.norm(theirs)), float(np.linalg.norm(right))
    if not other or not math.isfinite(length):
        return None
    by = length / other
    if not math.isclose(_spread(theirs), _spread(right), rel_tol=1e-4):
        return _rounded(right, theirs) if right.shape == theirs.shape else None
    for name, words, formula in _arrangements(right, theirs.shape, gates):
        made = formula(right)
        for sign in (1.0, -1.0):
            if alike(theirs, sign * by * made):
                return _scaled(name, words, formula, sign * by)
    if right.shape == theirs.shape:
        return _rounded(right, theirs) or _reordered(right, theirs, by, gates, axes)
    return None


def _spread(array: Array) -> float:
    """The mean size over the root of the mean square: order, signs and scale do not change it."""
    return float(np.abs(array).mean() / np.sqrt((array**2).mean())) if array.any() else 0.0


def _arrangements(
    right: Array, shape: tuple[int, ...], gates: tuple[str, ...]
) -> Iterator[tuple[str, str, Callable[[Array], Array]]]:
    """Ways to bring numbers into a shape, the simplest ones first: a name, words, the formula."""
    if right.shape == shape:
        yield "", "", lambda array: array
    if gates and right.ndim == 3 and right.shape == shape:
        if shape[1] == shape[2]:
            yield "transposed", "with the block of every gate transposed", lambda array: array.swapaxes(1, 2)
        yield "reshaped", "reshaped into torch's shape in place of transposed", lambda array: reread(array, "gates")
        yield "reshaped", "reshaped into Keras's shape in place of transposed", lambda array: reread(array, "features")
        lines = lambda array: array.reshape(-1, shape[2])[::-1].reshape(shape)  # noqa: E731  yielded below
        yield "reversed", "with its lines (every unit of every gate) in the opposite order", lines
        yield "in cuDNN's layout", "in the order in which CuDNNLSTM and CuDNNGRU store it", as_cudnn
    elif not gates and 2 <= right.ndim <= 4:
        yield from _turned(right, shape)
    if right.shape == shape:
        for axis in range(1 if gates else 0, right.ndim):
            way = f" along axis {axis}" if right.ndim > 1 else ""
            yield "reversed", f"in the opposite order{way}", lambda array, axis=axis: np.flip(array, axis)  # type: ignore[misc]


def _turned(right: Array, shape: tuple[int, ...]) -> Iterator[tuple[str, str, Callable[[Array], Array]]]:
    orders = [order for order in permutations(range(right.ndim)) if order != tuple(range(right.ndim))]
    for order in orders:
        if tuple(right.shape[axis] for axis in order) == shape:
            words = "transposed" if right.ndim == 2 else f"with its axes in the order {_listed(order)}"
            yield "transposed", words, lambda array, order=order: array.transpose(order)  # type: ignore[misc]
    if right.shape != shape:
        return
    words = "reshaped where its axes are to be transposed"
    for order in orders:
        turned = [right.shape[axis] for axis in order]
        back = tuple(int(place) for place in np.argsort(order))
        yield "reshaped", words, lambda array, order=order: array.transpose(order).reshape(shape)  # type: ignore[misc]
        yield "reshaped", words, lambda array, turned=turned, back=back: array.reshape(turned).transpose(back)  # type: ignore[misc]


def _scaled(name: str, words: str, formula: Callable[[Array], Array], by: float) -> Turn:
    """A way of arranging numbers, and a factor."""
    size, parts = abs(by), [words] if words else []
    if by < 0:
        name, parts = name or "negated", [*parts, "with the opposite sign"]
    nearest = round(size, 6) if size > 1 else 1 / round(1 / size, 6)
    if math.isclose(size, nearest, rel_tol=2e-6):
        size = nearest
    if not math.isclose(size, 1.0, rel_tol=2e-6):
        name = name or ("doubled" if size == 2 else "halved" if size == 0.5 else "scaled")
        parts.append("half as large" if size == 0.5 else f"{size:.6g} times as large")
    else:
        size = 1.0
    factor = math.copysign(size, by)
    return Turn(
        name,
        " and ".join(parts) if len(parts) < 3 else f"{parts[0]}, {parts[1]} and {parts[2]}",
        formula if factor == 1.0 else lambda array: factor * formula(array),
    )


def _rounded(right: Array, theirs: Array) -> Turn | None:
    """Numbers with fewer digits, or on a grid of 8 bits."""
    for kind in ("float16", "bfloat16"):
        if alike(theirs, rounded(right.astype(np.float32), kind)):
            return Turn(
                "rounded",
                f"rounded to {kind}",
                lambda array, kind=kind: rounded(np.asarray(array, np.float32), kind),  # type: ignore[misc]
            )
    some = slice(None, None, max(1, right.size // _SAMPLE))
    mine, others = right.ravel()[some], theirs.ravel()[some]
    for words, formula in printed():
        # Of large arrays a few numbers say quickly that it is not this one.
        if np.abs(others - formula(mine)).max() > _SUMMED * np.abs(right).max():
            continue
        made = formula(right)
        if np.abs(theirs - made).max() <= min(_SUMMED * np.abs(right).max(), 0.1 * np.abs(theirs - right).max()):
            return Turn("rounded", words, formula)
    top = float(np.abs(theirs).max())
    for levels in (127, 128):
        grid = top / levels
        on_grid = np.abs(theirs / grid - np.round(theirs / grid)).max() <= 1e-3
        if on_grid and np.unique(theirs).size > 2 and np.abs(theirs - right).max() <= 0.51 * grid:
            return Turn("rounded", "rounded to 8-bit integers times one factor", lambda _: theirs)
    return None


_SAMPLE = 1000

_SUMMED = 2.5e-7
"""Sums of two float32 numbers are within this share of the largest one, however they were added."""


def printed() -> Iterator[tuple[str, Callable[[Array], Array]]]:
    """Numbers as they come back from a text, the most digits first: words, and the formula."""
    for digits in (6, 5, 4, 3, 2):
        yield f"rounded to {digits} digits, as %.{digits}g prints them", partial(_to_digits, digits=digits)
        yield f"rounded to {digits} decimals, as %.{digits}f prints them", partial(_to_decimals, decimals=digits)


def _to_digits(array: Array, digits: int) -> Array:
    """The nearest numbers of so many decimal digits.

    Example:
        >>> _to_digits(np.array([0.0123456, -98.7654, 0.0]), 3).tolist()
        [0.0123, -98.8, 0.0]
    """
    array = np.asarray(array, np.float64)
    first = np.floor(np.log10(np.abs(array), where=array != 0, out=np.zeros_like(array)))
    scale = 10.0 ** (digits - 1 - first)
    return np.asarray(np.round(array * scale) / scale)


def _to_decimals(array: Array, decimals: int) -> Array:
    return np.asarray(np.round(np.asarray(array, np.float64), decimals))


def _reordered(right: Array, theirs: Array, by: float, gates: tuple[str, ...], axes: tuple[str, ...]) -> Turn | None:
    """Slices along one axis in another order."""
    for axis in range(right.ndim):
        for sign in (1.0, -1.0):
            order = _order(right, theirs / (sign * by), axis)
            if order is None:
                continue
            if gates and axis == 0:
                name, words = "gate order", f"with its gates in the order {' '.join(gates[place] for place in order)}"
            else:
                along = (
                    axes[axis] if axis < len(axes) else "numbers" if right.ndim == 1 else f"slices along axis {axis}"
                )
                name, words = "reordered", f"with its {along} in another order: {described(order)}"
            formula = lambda array, order=order, axis=axis: np.take(array, order, axis)  # noqa: E731  two lines with its type
            return _scaled(name, words, formula, sign * by)
    return None


def _order(right: Array, theirs: Array, axis: int) -> tuple[int, ...] | None:
    """The places of the right slices in the order of the others; None where they are other slices, or fewer than three."""
    mine, others = (np.moveaxis(one, axis, 0).reshape(one.shape[axis], -1) for one in (right, theirs))
    if len(mine) < 3:
        return None
    mark = np.random.default_rng(3).normal(size=mine.shape[1])
    places, wanted = np.argsort(mine @ mark, kind="stable"), np.argsort(others @ mark, kind="stable")
    order = np.empty(len(mine), np.int64)
    order[wanted] = places
    return tuple(int(place) for place in order) if alike(others, mine[order]) else None


def described(order: tuple[int, ...]) -> str:
    """An order in words.

    Example:
        >>> described((2, 1, 0)), described((3, 4, 5, 0, 1, 2)), described((0, 2, 4, 1, 3, 5))
        ('the opposite one', 'in blocks of 3 in the order 1, 0', 'in blocks of 3 whose numbers were taken in turn')
    """
    count = len(order)
    if order == tuple(range(count))[::-1]:
        return "the opposite one"
    plain = np.arange(count)
    for size in sorted((size for size in range(2, count) if count % size == 0), reverse=True):
        blocks = np.reshape(order, (-1, size))
        if (blocks == blocks[:, :1] + np.arange(size)).all() and not (blocks[:, 0] % size).any():
            return f"in blocks of {size} in the order {_listed(tuple(int(one) // size for one in blocks[:, 0]))}"
        if (np.asarray(order) == plain.reshape(size, -1).T.ravel()).all():
            return f"in blocks of {size} whose numbers were taken in turn"
    shown = _listed(order[:_SHOWN])
    return shown if count <= _SHOWN else f"{shown}, ..."


def _listed(numbers: tuple[int, ...]) -> str:
    return ", ".join(map(str, numbers))


__all__ = ["Turn", "described", "turn_between"]
