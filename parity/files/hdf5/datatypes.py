"""Types, shapes and filters as HDF5 writes them into messages.

Source: HDF5 File Format Specification 3.0, sections IV.A.2.b (dataspace), d (datatype), l (filter pipeline).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from parity.files.hdf5.source import Cursor

_MOST_AXES = 32
_MOST_LENGTH = 1 << 48
_FLOATS = {
    2: (0, 16, 10, 5, 0, 10, 15),
    4: (0, 32, 23, 8, 0, 23, 127),
    8: (0, 64, 52, 11, 0, 52, 1023),
}
"""IEEE 754 by bytes: bit offset, precision, exponent location and size, mantissa location and size, exponent bias."""


@dataclass(frozen=True)
class Type:
    """A datatype.

    Args:
        name: what it is, for people.
        size: bytes of an element.
        dtype: of its numbers; None for what is no number.
        text: "fixed" or "variable" for strings, else "".
    """

    name: str
    size: int
    dtype: np.dtype[Any] | None = None
    text: str = ""


@dataclass(frozen=True)
class Filter:
    """A filter of a pipeline: its number and its parameters."""

    number: int
    values: tuple[int, ...]


def read_shape(cursor: Cursor) -> tuple[int, ...] | None:
    """The shape that a dataspace message says; None for one that holds nothing at all.

    Raises:
        FormatError: unknown, or absurdly large.

    Example:
        >>> read_shape(Cursor(bytes([1, 1, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0]), None))
        (5,)
    """
    version, rank, flags, kind = (cursor.number(1) for _ in range(4))
    if version not in (1, 2) or rank > _MOST_AXES or flags > 3:
        got = f"version {version}, {rank} axes"
        raise cursor.fault("an unknown kind of shape", f"version 1 or 2, at most {_MOST_AXES} axes", got)
    if version == 1:
        cursor.take(4)
    elif kind == 2:
        return None
    shape = tuple(cursor.number(8) for _ in range(rank))
    if math.prod(max(length, 1) for length in shape) > _MOST_LENGTH:
        raise cursor.fault("an array of absurd size", f"at most {_MOST_LENGTH} numbers", str(shape))
    return shape


def read_type(cursor: Cursor, depth: int = 0) -> Type:
    """The type that a datatype message says.

    Raises:
        FormatError: a damaged one.
    """
    head, flags, size = cursor.number(1), cursor.number(3), cursor.number(4)
    version, kind = head >> 4, head & 15
    if version not in (1, 2, 3) or depth > 4:
        raise cursor.fault("an unknown kind of type", "version 1 to 3", f"version {version}, class {kind}")
    order = ">" if flags & 1 else "<"
    if kind == 0:
        whole = cursor.number(2) == 0 and cursor.number(2) == 8 * size
        name = f"{'int' if flags & 8 else 'uint'}{8 * size}"
        known = whole and size in (1, 2, 4, 8)
        return Type(name, size, np.dtype(f"{order}{'i' if flags & 8 else 'u'}{size}") if known else None)
    if kind == 1:
        found = tuple(cursor.number(width) for width in (2, 2, 1, 1, 1, 1, 4))
        usual = not flags & 0x40 and found == _FLOATS.get(size) and flags >> 8 & 255 == 8 * size - 1
        return Type(
            f"float{8 * size}" if usual else "a float of its own", size, np.dtype(f"{order}f{size}") if usual else None
        )
    if kind == 3:
        return Type("text", size, None, "fixed")
    if kind == 9 and flags & 15 == 1:
        return Type("text", size, None, "variable")
    names = {
        2: "time",
        4: "bit field",
        5: "opaque",
        6: "compound",
        7: "reference",
        8: "enumeration",
        9: "sequence",
        10: "array",
    }
    return Type(f"{names.get(kind, 'unknown')}{size if kind == 5 else ''}", size)


def read_filters(cursor: Cursor) -> tuple[Filter, ...]:
    """The filters of a pipeline message, in the order in which they were applied.

    Raises:
        FormatError: a damaged one.
    """
    version, count = cursor.number(1), cursor.number(1)
    if version not in (1, 2) or count > 32:
        raise cursor.fault("an unknown filter pipeline", "version 1 or 2", f"version {version}, {count} filters")
    if version == 1:
        cursor.take(6)
    found = []
    for _ in range(count):
        number = cursor.number(2)
        length = cursor.number(2) if version == 1 or number >= 256 else 0
        cursor.take(2)
        values = cursor.number(2)
        cursor.take(length)
        found.append(Filter(number, tuple(cursor.number(4) for _ in range(values))))
        if version == 1 and values % 2:
            cursor.take(4)
    return tuple(found)
