"""Weights that may still stand in a file, as the layers of a network keep them. Imports no framework."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from parity.deferred import LARGE_BYTES, Array, Deferred, Stored, as_it_stands


class Rearranged(Deferred):
    """Arrays of a file put together when they are asked for.

    Example:
        >>> halves = Rearranged((2, 2), np.dtype(np.float32), lambda: np.arange(4, dtype=np.float32).reshape(2, 2))
        >>> halves[1:].tolist(), halves[()].shape
        ([[2.0, 3.0]], (2, 2))
    """

    def __getitem__(self, rows: Any) -> Array:
        """As an array does it."""
        found: Array = self.read()[rows]
        return found


def held(weight: Stored, where: str) -> Any:
    """A weight as a layer keeps it: a copy, or a large one of a file where it is, read when it is asked for."""
    if isinstance(weight, np.ndarray):
        return weight.copy()
    if math.prod(weight.shape) * weight.dtype.itemsize < LARGE_BYTES:
        return np.asarray(weight[()])
    return as_it_stands(weight, f"{where}, index")


def type_name(weight: Stored) -> str:
    """The type of a weight's numbers; bfloat16, which NumPy does not have, is a structure of that one field."""
    names = getattr(weight.dtype, "names", None)
    return str(names[0]) if names else str(getattr(weight.dtype, "name", weight.dtype))


def as_kept(weight: Stored) -> Stored:
    """A weight in one of the two types that are kept."""
    if isinstance(weight, np.ndarray):
        return weight if weight.dtype in (np.float32, np.float64) else weight.astype(np.float32)
    if weight.dtype in (np.float32, np.float64) and hasattr(weight, "__getitem__"):
        return weight
    return Rearranged(tuple(weight.shape), np.dtype(np.float32), lambda: _widened(weight))


def _widened(weight: Any) -> Array:
    if getattr(weight.dtype, "names", None):
        halves = np.asarray(weight[()])[weight.dtype.names[0]].astype(np.uint32)
        floats: Array = (halves << 16).view(np.float32)
        return floats
    wide: Array = np.asarray(weight[()] if hasattr(weight, "__getitem__") else weight).astype(np.float32)
    return wide
