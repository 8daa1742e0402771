"""Zip archives from anywhere: every size is checked before anything is read."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from isal import isal_zlib

from parity.errors import FormatError

_MOST_EXPANSION, _SMALL_BYTES = 100, 1 << 20
"""A compressed member may be this many times its stored size, or this small."""

_MOST_TOGETHER = 2
"""Compressed members that are read may be so many times the file together."""

_LOCAL_HEADER = struct.Struct("<4s22xHH")
"""Signature, lengths of the name and of the extra field (PKWARE's APPNOTE.TXT, 4.3.7)."""

_PIECE_BYTES = 1 << 17
"""A member is read so much at a time to be compared with its checksum."""

_WORTH_HALVING = 1 << 24
"""Bytes: to read fewer takes less time than to start a thread."""

FETCH_ANEW = "get the file anew, or save the model again"


class _Window(io.RawIOBase):
    """A part of a file as a file of its own."""

    def __init__(self, path: Path, start: int, size: int) -> None:
        self._file, self._start, self._size, self._at = path.open("rb"), start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence] + offset
        if self._at < 0:
            raise ValueError("a place before the start")
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        count = max(min(len(buffer), self._size - self._at), 0)
        self._file.seek(self._start + self._at)
        found = self._file.read(count)
        buffer[: len(found)] = found
        self._at += len(found)
        return len(found)

    def close(self) -> None:
        self._file.close()
        super().close()


def _checksum(path: Path, start: int, size: int) -> int:
    """CRC-32 of a part of a file; of a large one by halves, in two threads."""
    if size < _WORTH_HALVING:
        return _checksum_of_piece(path, start, size)
    half = size // 2
    with ThreadPoolExecutor(1) as pool:
        second = pool.submit(_checksum_of_piece, path, start + half, size - half)
        first = _checksum_of_piece(path, start, half)
        return int(isal_zlib.crc32_combine(first, second.result(), size - half))


def _checksum_of_piece(path: Path, start: int, size: int) -> int:
    piece, crc = memoryview(bytearray(min(size, _PIECE_BYTES))), 0
    with path.open("rb", buffering=0) as file:
        file.seek(start)
        while size and (count := file.readinto(piece[: min(size, _PIECE_BYTES)])):
            crc = isal_zlib.crc32(piece[:count], crc)
            size -= count
    return crc


class Archive:
    """A zip file opened for reading; every fault of it is a `FormatError`.

    Args:
        path: of the file.
        what: what the file should be, for the messages.
        span: where in the file the zip stands, (offset, bytes), if it is not the whole file.
        generous: whether compressed members may be many times the file together, as inputs are that repeat themselves; weights do not.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.zip"
        >>> with zipfile.ZipFile(path, "w") as file: file.writestr("version", "3")
        >>> with Archive(path, "a zip file") as archive: archive.read("version", 10)
        b'3'
    """

    def __init__(self, path: Path, what: str, span: tuple[int, int] | None = None, generous: bool = False) -> None:
        self.path, self.what, self._generous, self._unpacked = path, what, generous, 0
        self._start, self._bytes = span or (0, path.stat().st_size)
        self._file = io.BufferedReader(_Window(path, self._start, self._bytes))
        try:
            self._zip = zipfile.ZipFile(self._file)
            self._members = {info.filename: info for info in self._zip.infolist()}
            counts = Counter(info.filename for info in self._zip.infolist())
        except (
            *(zipfile.BadZipFile, ValueError, EOFError, NotImplementedError, RecursionError),
            *(struct.error, OverflowError, IndexError),
        ) as error:
            self._file.close()
            raise self.fault("not a zip archive, or a truncated one", "a whole zip archive", str(error)) from error
        twice = [name for name, count in counts.items() if count > 1]
        if twice:
            self._file.close()
            raise self.fault("two members have one name", "unique names", ", ".join(twice))

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._zip.close()
        self._file.close()

    @property
    def names(self) -> list[str]:
        """The members."""
        return list(self._members)

    def size(self, name: str) -> int:
        """Bytes of a member once read.

        Raises:
            FormatError: no such member, or one that claims to be larger than the file can hold.
        """
        info = self._members.get(name)
        if info is None:
            raise self.fault(
                f"'{name}' is missing", ", ".join([name, "..."]), ", ".join(self.names[:8]) or "no members"
            )
        stored = info.compress_type == zipfile.ZIP_STORED
        most = info.compress_size if stored else max(_SMALL_BYTES, _MOST_EXPANSION * info.compress_size)
        if info.compress_size > self._bytes or info.file_size > most:
            expected = f"at most {most} bytes, in a file of {self._bytes}"
            raise self.fault(f"'{name}' claims more than the file can hold", expected, f"{info.file_size} bytes")
        return info.file_size

    def read(self, name: str, most: int | None = None) -> bytes:
        """A whole member.

        Args:
            name: of the member.
            most: bytes it may have, beside what the file can hold.

        Raises:
            FormatError: missing, too large, damaged or encrypted.
        """
        size = self.size(name)
        self._unpacked += size if self._members[name].compress_type != zipfile.ZIP_STORED else 0
        if not self._generous and self._unpacked > _SMALL_BYTES + _MOST_TOGETHER * self._bytes:
            expected = f"{_MOST_TOGETHER} times the file, which has {self._bytes} bytes"
            raise self.fault("its compressed members are too large together", expected, f"{self._unpacked} bytes")
        if most is not None and size > most:
            raise self.fault(f"'{name}' is too large", f"at most {most} bytes", f"{size} bytes")
        place = None if self._members[name].CRC else self.place(name)
        if place is None:
            with self._readable(name):
                content = self._zip.read(name)
        else:  # torch need not write checksums (`torch.serialization.set_crc32_options`); it writes 0 then
            self._file.seek(place - self._start)
            content = self._file.read(size)
        if len(content) != size:
            raise self.fault(f"'{name}' is cut short", f"{size} bytes", f"{len(content)} bytes")
        return content

    def checksum(self, name: str) -> int | None:
        """CRC-32 of a member, None if it has none: torch can leave it out (`torch.serialization.set_crc32_options`)."""
        return self._members[name].CRC or None

    def place(self, name: str, checked: bool = True) -> int | None:
        """Where in the file a member's bytes begin; None for a compressed one, which has to be read.

        Args:
            name: of the member.
            checked: whether the member is read once to compare its checksum, if it has one.

        Raises:
            FormatError: missing, too large, damaged or encrypted.
        """
        size, info = self.size(name), self._members[name]
        if info.compress_type != zipfile.ZIP_STORED:
            return None
        self._file.seek(max(info.header_offset, 0))
        header = self._file.read(_LOCAL_HEADER.size)
        magic, name_bytes, extra_bytes = (
            _LOCAL_HEADER.unpack(header) if len(header) == _LOCAL_HEADER.size else (b"", 0, 0)
        )
        start = info.header_offset + _LOCAL_HEADER.size + name_bytes + extra_bytes
        if magic != b"PK\3\4" or info.flag_bits & 1 or start + size > self._bytes or size != info.compress_size:
            expected = "a stored member, not encrypted, whole"
            raise self.fault(f"'{name}' cannot be read", expected, f"{size} bytes at {start} of {self._bytes}")
        place = int(self._start + start)
        if checked and info.CRC and (found := _checksum(self.path, place, size)) != info.CRC:
            raise self.fault(f"'{name}' is damaged: its checksum is another", f"{info.CRC:#010x}", f"{found:#010x}")
        return place

    @contextmanager
    def _readable(self, name: str) -> Iterator[None]:
        """What goes wrong while a member is read is a fault of the file."""
        try:
            yield
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError) as error:
            raise self.fault(f"'{name}' cannot be read", "a stored member, not encrypted, whole", str(error)) from error

    def fault(self, what: str, expected: str, got: str, remedy: str = FETCH_ANEW) -> FormatError:
        """A `FormatError` about this file, to be raised."""
        return FormatError(f"{self.path.name} is not {self.what}: {what}", str(self.path), expected, got, remedy)
