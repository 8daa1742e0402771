"""A tensor that still stands in a file: its shape and type are known, its numbers are read when they are asked for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from isal import isal_zlib

from parity.deferred import Array, Blocks, Deferred, Stored, row_slices, rows_together
from parity.errors import FormatError
from parity.files.bfloat16 import from_bfloat16

BFLOAT16 = np.dtype([("bfloat16", "<u2")])
"""Stands for a type that NumPy does not have, of the same size."""


@dataclass(frozen=True)
class Raw:
    """A tensor whose numbers stand in a file in C order, one after the other.

    Args:
        path: the file.
        offset: bytes before the first number; that all of them stand inside the file was checked.
        shape: lengths of the axes.
        dtype: of the numbers in the file.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "numbers"
        >>> _ = path.write_bytes(b"head" + np.arange(6, dtype="<f4").tobytes())
        >>> raw = Raw(path, 4, (3, 2), np.dtype("<f4"))
        >>> raw[1:2].tolist(), raw[()].shape
        ([[2.0, 3.0]], (3, 2))
    """

    path: Path
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __getitem__(self, rows: Any) -> Array:
        """A slice of rows, or all of the tensor for `()`.

        Raises:
            FormatError: the file has become shorter since it was looked at.
        """
        found = np.empty(_shape_of(self.shape, rows), self.dtype)
        self.read_into(found, rows)
        return found

    def read_into(self, target: Array, rows: Any) -> None:
        """The same, into an array in C order."""
        first = rows.indices(self.shape[0])[0] if isinstance(rows, slice) and self.shape else 0
        left = target.reshape(-1).view(np.uint8).data
        try:
            with self.path.open("rb", buffering=0) as file:
                file.seek(self.offset + first * math.prod(self.shape[1:]) * self.dtype.itemsize)
                while left and (count := file.readinto(left)):
                    left = left[count:]
        except OSError as error:
            what = "the file cannot be read any more"
            raise FormatError(what, str(self.path), "the file as it was", str(error), "read it again") from error
        if left:
            expected, got = f"{target.nbytes} bytes", f"{target.nbytes - left.nbytes}"
            raise FormatError("the file is shorter than it was", str(self.path), expected, got, "read it again")


def _shape_of(shape: tuple[int, ...], rows: Any) -> tuple[int, ...]:
    """Of a slice of rows, or of everything."""
    return (len(range(*rows.indices(shape[0]))), *shape[1:]) if isinstance(rows, slice) and shape else shape


class Summed:
    """A tensor with a checksum: it is compared whenever all of the tensor has been read, in order.

    Args:
        raw: the tensor.
        crc: CRC-32 of its bytes, as zip archives have it.
        before: CRC-32 of what the checksum covers before the tensor.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "numbers"
        >>> _ = path.write_bytes(np.arange(6, dtype="<f4").tobytes())
        >>> Summed(Raw(path, 0, (3, 2), np.dtype("<f4")), crc=1)[()]
        Traceback (most recent call last):
        ...
        parity.errors.FormatError: a tensor is damaged: its checksum is another
          ...
    """

    def __init__(self, raw: Raw, crc: int, before: int = 0) -> None:
        self.raw, self._crc, self._before = raw, crc, before
        self._next, self._sum = 0, before
        self.shape, self.dtype = raw.shape, raw.dtype

    def __getitem__(self, rows: Any) -> Array:
        found = np.empty(_shape_of(self.shape, rows), self.dtype)
        self.read_into(found, rows)
        return found

    def read_into(self, target: Array, rows: Any) -> None:
        """See `Raw.read_into`."""
        self.raw.read_into(target, rows)
        length = self.shape[0] if self.shape else 1
        start, stop, _ = rows.indices(length) if isinstance(rows, slice) and self.shape else (0, length, 1)
        if start == 0:
            self._next, self._sum = 0, self._before
        if start == self._next and stop > start:
            self._sum = isal_zlib.crc32(target.reshape(-1).view(np.uint8).data, self._sum)
            self._next = stop
            if stop == length and self._sum != self._crc:
                raise FormatError(
                    "a tensor is damaged: its checksum is another",
                    f"{self.raw.path}, byte {self.raw.offset}",
                    f"{self._crc:#010x}",
                    f"{self._sum:#010x}",
                    "get the file anew, or save the model again",
                )


def numbers(stored: Stored) -> Array:
    """The whole tensor, bfloat16 as float32.

    Example:
        >>> numbers(np.ones((2, 3))).shape
        (2, 3)
    """
    found = np.asarray(stored[()])
    return from_bfloat16(found["bfloat16"]) if stored.dtype == BFLOAT16 else found


@dataclass(frozen=True)
class Contents:
    """What a file holds, before anybody says what it means.

    Args:
        tensors: by name, in the order of the file; names of nested parts are joined by dots.
        form: what the file is, in the words of its makers ("torch state dict", "TorchScript program").
        details: what else it says of itself, for people: producer, version, date.
        description: the network that parity described in it, as JSON text, None in a file of others.
        options: what a program says of its modules: place -> option -> value ("nonlinearity" -> "relu").
        program: why the tensors alone do not say what is computed and which framework can run it, where it holds a program; else "".
    """

    tensors: Mapping[str, Stored]
    form: str
    details: dict[str, str] = field(default_factory=dict)
    description: str | None = None
    program: str = ""
    options: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def widened(tensor: Stored) -> Stored:
    """float16 and bfloat16 as float32, exactly, and every number in the byte order of this machine; all else as it is.

    Example:
        >>> widened(np.ones(2, np.float16)).dtype, widened(np.ones(2)).dtype, widened(np.ones(2, ">f4")).dtype
        (dtype('float32'), dtype('float64'), dtype('float32'))
    """
    return tensor if tensor.dtype == _wide(tensor.dtype) else Widened(tensor)


def _wide(dtype: np.dtype[Any]) -> np.dtype[Any]:
    own = dtype.newbyteorder("=")
    return np.dtype(np.float32) if own in (BFLOAT16, np.dtype(np.float16)) else own


def in_words(options: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """The options of modules as a detail for people; nothing where there are none.

    Example:
        >>> in_words({"rnn": {"batch_first": "True", "nonlinearity": "relu"}})
        {'options': 'rnn: batch_first=True, nonlinearity=relu'}
    """
    said = [
        (f"{place}: " if place else "") + ", ".join(f"{name}={value}" for name, value in own.items())
        for place, own in options.items()
    ]
    return {"options": "; ".join(said)} if said else {}


class Widened:
    """A tensor of float16 or bfloat16 as float32, which holds all of its numbers exactly; of another byte order in this machine's.

    Example:
        >>> Widened(np.ones((2, 3), np.float16))[1:].dtype
        dtype('float32')
    """

    def __init__(self, stored: Stored) -> None:
        self._stored, self.shape, self.dtype = stored, tuple(stored.shape), _wide(np.dtype(stored.dtype))
        self.rows_together = rows_together(stored)

    def __getitem__(self, rows: Any) -> Array:
        found = np.asarray(self._stored[rows])
        return from_bfloat16(found["bfloat16"]) if self._stored.dtype == BFLOAT16 else found.astype(self.dtype)


def type_name(stored: Stored) -> str:
    """The type of a tensor's numbers in the file, in words.

    Example:
        >>> type_name(np.ones(2, np.float16))
        'float16'
    """
    return "bfloat16" if stored.dtype == BFLOAT16 else str(stored.dtype)


__all__ = [
    "BFLOAT16",
    "Blocks",
    "Contents",
    "Deferred",
    "Raw",
    "Stored",
    "Summed",
    "Widened",
    "in_words",
    "numbers",
    "row_slices",
    "type_name",
    "widened",
]
