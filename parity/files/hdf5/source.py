"""The bytes of an HDF5 file: a part of a file, or memory. Nothing outside that part is ever read."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np

from parity.errors import FormatError
from parity.files.archive import FETCH_ANEW
from parity.files.stored import Raw, Stored


class Source:
    """Bytes that hold an HDF5 file.

    Args:
        path: of the file they stand in.
        start, size: the part of that file; all of it by default.
        content: the bytes themselves, where they stand nowhere as they are (in a compressed member of an archive).
        where: what the messages say they are; the path by default.

    Example:
        >>> with Source(Path("none.h5"), content=b"0123456789") as source: source.read(2, 3)
        b'234'
    """

    def __init__(
        self,
        path: Path,
        start: int = 0,
        size: int | None = None,
        content: bytes | None = None,
        where: str = "",
    ) -> None:
        self.path, self.start, self.where = path, start, where or str(path)
        self._content = content
        self.size = len(content) if content is not None else path.stat().st_size - start if size is None else size
        self._file: BinaryIO | None = None
        self._claimed: dict[int, int] = {}

    def __enter__(self) -> Source:
        if self._content is None:
            self._file = self.path.open("rb")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def read(self, address: int, count: int) -> bytes:
        """So many bytes from an address on.

        Raises:
            FormatError: they do not all stand in the file.
        """
        if address < 0 or count < 0 or address + count > self.size:
            got = f"{count} bytes at {address}"
            raise self.fault("it refers to bytes outside the file, or is cut short", f"at most {self.size} bytes", got)
        if self._content is not None:
            return self._content[address : address + count]
        if self._file is None:
            with self.path.open("rb") as file:
                return self._from(file, address, count)
        return self._from(self._file, address, count)

    def tensor(self, address: int, shape: tuple[int, ...], dtype: np.dtype[Any], name: str) -> Stored:
        """Numbers that stand in the file in C order; in a file they are not read yet.

        Raises:
            FormatError: they do not all stand in the file, or overlap others so that all of them claim more than it holds.
        """
        count = math.prod(shape) * dtype.itemsize
        if address + count > self.size:
            expected = f"at most {self.size} bytes in all, the size of the file"
            raise self.fault("an array claims more than the file holds", expected, f"'{name}': {count} bytes, {shape}")
        self._claimed[address] = max(count, self._claimed.get(address, 0))
        if sum(self._claimed.values()) > self.size:
            raise self.fault("arrays overlap", f"at most {self.size} bytes in all", f"more, with '{name}'")
        if self._content is None:
            return Raw(self.path, self.start + address, shape, dtype)
        found: np.ndarray[Any, Any] = np.frombuffer(self._content, dtype, math.prod(shape), address).reshape(shape)
        return found

    def fault(self, what: str, expected: str = "", got: str = "") -> FormatError:
        """A `FormatError` about these bytes, to be raised."""
        return FormatError(f"not an HDF5 file, or a damaged one: {what}", self.where, expected, got, FETCH_ANEW)

    def _from(self, file: BinaryIO, address: int, count: int) -> bytes:
        file.seek(self.start + address)
        found = file.read(count)
        if len(found) != count:
            raise self.fault("it is cut short", f"{count} bytes at {address}", f"{len(found)} bytes")
        return found


class Cursor:
    """Reads the fields of a structure one after the other.

    Args:
        content: of the structure.
        fault: makes the error for one that is too short.

    Example:
        >>> cursor = Cursor(bytes([1, 0, 2, 3]), lambda what, *facts: FormatError(what))
        >>> cursor.number(2), cursor.take(1), cursor.left
        (1, b'\\x02', 1)
    """

    def __init__(self, content: bytes, fault: Callable[[str, str, str], FormatError]) -> None:
        self.content, self.place, self.fault = content, 0, fault

    @property
    def left(self) -> int:
        """Bytes not read yet."""
        return len(self.content) - self.place

    def take(self, count: int) -> bytes:
        """The next bytes.

        Raises:
            FormatError: there are fewer.
        """
        if count > self.left:
            raise self.fault("a structure is too short", f"{count} more bytes", f"{self.left}")
        self.place += count
        return self.content[self.place - count : self.place]

    def number(self, count: int) -> int:
        """The next bytes as an unsigned number."""
        return int.from_bytes(self.take(count), "little")

    def expect(self, signature: bytes, what: str) -> None:
        """The next bytes have to be these.

        Raises:
            FormatError: they are others.
        """
        found = self.take(len(signature))
        if found != signature:
            raise self.fault(f"no {what} where one should be", repr(signature), repr(found))

    def align(self, to: int = 8) -> None:
        """Go on to the next multiple."""
        self.take(-self.place % to)
