"""Tensors of a torch file where they stand in it: checked against the file, read when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from parity.deferred import LARGE_BYTES
from parity.errors import FormatError, Problem, UnsupportedError
from parity.files.archive import FETCH_ANEW, Archive
from parity.files.stored import Raw, Stored, Summed
from parity.files.torch.rebuild import Storage, View
from parity.recurrent import Array

_PIECE_BYTES = 1 << 18

_MOST_REUSE = 16
"""A file may give its tensors together this many times its own size, by tensors that share numbers."""


@dataclass(frozen=True)
class Strided:
    """A tensor whose numbers do not follow each other in C order.

    Args:
        base: the numbers of its storage from its first one on, a 1-D tensor.
        shape: lengths of the axes.
        strides: numbers from one index to the next, for each axis.

    Example:
        >>> Strided(np.arange(6), (3, 2), (1, 3))[1:].tolist()
        [[1, 4], [2, 5]]
    """

    base: Stored
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def dtype(self) -> Any:
        """Type of its numbers."""
        return self.base.dtype

    def __getitem__(self, rows: Any) -> Array:
        """A slice of rows, or all of the tensor for `()`, as an array of its own in C order."""
        shape, first = self.shape, 0
        if isinstance(rows, slice) and shape:
            start, stop, _ = rows.indices(shape[0])
            shape, first = (max(stop - start, 0), *shape[1:]), start * self.strides[0]
        if 0 in shape:
            return np.empty(shape, self.dtype)
        last = first + sum((size - 1) * stride for size, stride in zip(shape, self.strides, strict=True))
        found = np.ascontiguousarray(self.base[first : last + 1])
        strides = [stride * found.itemsize for stride in self.strides]
        return np.lib.stride_tricks.as_strided(found, shape, strides, writeable=False).copy(order="C")


@dataclass(frozen=True)
class Place:
    """The bytes of a storage: in a file from `offset` on, or in memory; with their checksum, if it was not compared yet."""

    path: Path
    offset: int
    nbytes: int
    content: bytes | None = None
    crc: int | None = None

    def numbers(self, start: int, count: int, dtype: np.dtype[Any]) -> Stored:
        """A 1-D tensor of `count` numbers, the first one `start` bytes into the storage."""
        if self.content is not None:
            return np.frombuffer(self.content, dtype, count, start).copy()
        return Raw(self.path, self.offset + start, (count,), dtype)


def record(archive: Archive, name: str) -> Place:
    """Where a member of a zip stands in the file; a compressed one is unpacked.

    The checksum of a small one is compared now; that of a large one when it is read.

    Raises:
        FormatError: a member that is missing, damaged or too large.
    """
    size = archive.size(name)
    large = size >= LARGE_BYTES
    offset = archive.place(name, checked=not large)
    if offset is not None:
        return Place(archive.path, offset, size, crc=archive.checksum(name) if large else None)
    return Place(archive.path, 0, size, archive.read(name))


def placed_tensors(
    views: Mapping[str, View], place: Callable[[Storage], Place], path: Path, what: str
) -> dict[str, Stored]:
    """The tensors of a file, none of them read.

    Args:
        views: by name.
        place: says where a storage stands; it is asked once for each.
        path: of the file.
        what: the file should be, for messages.

    Raises:
        FormatError: tensors that claim more than the file holds, a storage of another length.
        UnsupportedError: tensors of types that are not read; all of them at once.
    """
    odd = [
        Problem(
            f"the tensor cannot be read: {view.odd}",
            f"tensor '{name[:80]}' of {path}",
            "a dense tensor of floats",
            remedy="in torch, save module.float().state_dict()",
        )
        for name, view in views.items()
        if view.odd
    ]
    if odd:
        raise UnsupportedError(odd[:20])
    size = path.stat().st_size
    total, most = sum(view.count * view.dtype.itemsize for view in views.values()), _MOST_REUSE * size
    if total > most:
        raise FormatError(
            f"{path.name} is not {what}: its tensors claim more than the file can hold",
            str(path),
            f"at most {most} bytes",
            f"{total} bytes",
            FETCH_ANEW,
        )
    places: dict[tuple[str, str, int], Place] = {}
    for name, view in views.items():
        storage = view.storage
        identity = (storage.key, storage.kind, storage.whole)
        if identity in places:
            continue
        found = places[identity] = place(storage)
        wanted = storage.whole * storage.itemsize
        if wanted != found.nbytes:
            raise FormatError(
                f"{path.name} is not {what}: the storage of '{name[:80]}' has another length",
                str(path),
                f"{wanted} bytes",
                f"{found.nbytes} bytes",
                FETCH_ANEW,
            )
        if sum(held.nbytes for held in places.values() if held.content is not None) > 2 * size:
            raise UnsupportedError(
                "its tensors are compressed",
                str(path),
                "records as torch writes them, not compressed",
                "compressed to less than half",
                "load it in torch and save it again",
            )
    return {
        name: _tensor(view, places[view.storage.key, view.storage.kind, view.storage.whole])
        for name, view in views.items()
    }


def _tensor(view: View, place: Place) -> Stored:
    size, storage = view.dtype.itemsize, view.storage
    start = storage.start * storage.itemsize + view.offset * size
    if not view.count:
        return np.empty(view.shape, view.dtype)
    steps = [(length, stride) for length, stride in zip(view.shape, view.strides, strict=True) if length > 1]
    span = 1 + sum((length - 1) * stride for length, stride in steps)
    base = place.numbers(start, span, view.dtype)
    follow = 1
    for length, stride in reversed(steps):
        if stride != follow:
            _check_now(place)
            return Strided(base, view.shape, view.strides)
        follow *= length
    if not isinstance(base, Raw):
        whole: Array = base[()].reshape(view.shape)
        return whole
    raw = Raw(base.path, base.offset, view.shape, view.dtype)
    if place.crc is not None and span * size == place.nbytes:
        return Summed(raw, place.crc)
    _check_now(place)
    return raw


@cache
def _check_now(place: Place) -> None:
    """Compare the checksum of a storage of which no tensor is the whole."""
    if place.crc is None:
        return
    whole = Summed(Raw(place.path, place.offset, (place.nbytes,), np.dtype("u1")), place.crc)
    for start in range(0, place.nbytes, _PIECE_BYTES):
        whole[start : start + _PIECE_BYTES]
