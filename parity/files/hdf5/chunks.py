"""Arrays that an HDF5 file keeps in chunks, compressed or not: each chunk is read when its rows are asked for.

Source: HDF5 File Format Specification 3.0, sections III.A.1 (version 1 B-trees), IV.A.2.i (data layout).
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from parity.errors import FormatError, UnsupportedError
from parity.files.hdf5.datatypes import Filter
from parity.files.hdf5.header import UNDEFINED, Node
from parity.files.hdf5.source import Source
from parity.recurrent import Array

_DEFLATE, _SHUFFLE, _CHECKSUM = 1, 2, 3
_MOST_EXPANSION, _SMALL_BYTES, _MOST_CHUNK_BYTES = 100, 1 << 20, 1 << 30
_MOST_CHUNKS, _MOST_DEPTH = 200_000, 16


@dataclass(frozen=True)
class _Chunk:
    """Bytes of a chunk in the source, and the filters that it was spared."""

    address: int
    size: int
    mask: int = 0


@dataclass(frozen=True)
class Chunked:
    """An array in chunks; a `parity.files.stored.Stored`.

    Args:
        source: the bytes they stand in.
        name: of the array.
        shape, dtype: of the array.
        extent: shape of a chunk.
        chunks: by the index of their first element.
        filters: applied to each, in this order.
    """

    source: Source
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    extent: tuple[int, ...]
    chunks: Mapping[tuple[int, ...], _Chunk]
    filters: tuple[Filter, ...]

    @property
    def rows_together(self) -> int:
        """Rows of a chunk: who asks for fewer of a compressed one unpacks it again and again."""
        return self.extent[0] if self.filters else 1

    def __getitem__(self, rows: Any) -> Array:
        """A slice of rows, or all of the array for `()`.

        Raises:
            FormatError: a damaged chunk.
        """
        start, stop, _ = rows.indices(self.shape[0]) if isinstance(rows, slice) else (0, self.shape[0], 1)
        stop = max(start, stop)
        found = np.zeros((stop - start, *self.shape[1:]), self.dtype)
        for corner, chunk in self.chunks.items():
            first, last = max(corner[0], start), min(corner[0] + self.extent[0], stop)
            if first < last:
                part = self._read(chunk)[first - corner[0] : last - corner[0]]
                ends = [
                    min(extent, length - at) for extent, length, at in zip(self.extent, self.shape, corner, strict=True)
                ]
                inner = tuple(slice(0, end) for end in ends[1:])
                target = tuple(slice(at, at + end) for at, end in zip(corner[1:], ends[1:], strict=True))
                found[(slice(first - start, last - start), *target)] = part[(slice(None), *inner)]
        return found

    def _read(self, chunk: _Chunk) -> Array:
        size = math.prod(self.extent) * self.dtype.itemsize
        content = self.source.read(chunk.address, chunk.size)
        for place, used in reversed(list(enumerate(self.filters))):
            if not chunk.mask >> place & 1:
                content = self._undone(used, content, size)
        if len(content) != size:
            raise self.source.fault(f"a chunk of '{self.name}' is cut short", f"{size} bytes", f"{len(content)}")
        return np.frombuffer(content, self.dtype).reshape(self.extent)

    def _undone(self, used: Filter, content: bytes, size: int) -> bytes:
        if used.number == _DEFLATE:
            try:
                return zlib.decompressobj().decompress(content, size + 4)
            except zlib.error as error:
                raise self.source.fault(f"a chunk of '{self.name}' cannot be read", "deflate", str(error)) from error
        if used.number == _CHECKSUM:
            return content[:-4]
        width = used.values[0] if used.values else self.dtype.itemsize
        if not 0 < width <= len(content):
            return content
        whole = len(content) - len(content) % width
        planes = np.frombuffer(content[:whole], np.uint8).reshape(width, -1)
        return planes.T.tobytes() + content[whole:]


def chunked(
    node: Node,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    extent: tuple[int, ...],
    root: int,
    filters: tuple[Filter, ...],
) -> Chunked:
    """The array whose chunks a B-tree lists.

    Args:
        node: the array, for messages.
        shape, dtype: of the array.
        extent: shape of a chunk.
        root: address of the tree, or that of nothing.
        filters: applied to each chunk.

    Raises:
        FormatError: a damaged list, or an array that claims far more than its chunks can hold.
        UnsupportedError: a filter that is not read.
    """
    unknown = [str(used.number) for used in filters if used.number not in (_DEFLATE, _SHUFFLE, _CHECKSUM)]
    if unknown:
        where = f"'{node.path}' of {node.file.source.where}"
        remedy = "save the array again without compression, or with gzip"
        got = f"filter {', '.join(unknown)}"
        raise UnsupportedError(
            "the array is compressed in a way that is not read", where, "gzip and shuffle", got, remedy
        )
    size = math.prod(extent) * dtype.itemsize
    if not shape or len(extent) != len(shape) or not 0 < size <= _MOST_CHUNK_BYTES:
        raise node.fault("chunks of an odd size", f"{len(shape)} axes, at most {_MOST_CHUNK_BYTES} bytes", str(extent))
    found = {} if root == UNDEFINED else _listed(node, root, len(extent))
    base, source = node.file.base, node.file.source
    chunks: dict[tuple[int, ...], _Chunk] = {}
    for corner, chunk in found.items():
        if any(at % step or at >= length for at, step, length in zip(corner, extent, shape, strict=True)):
            raise node.fault(
                "a chunk stands beside the array", f"inside {shape}, at multiples of {extent}", str(corner)
            )
        if chunk.address + base + chunk.size > source.size:
            raise node.fault(
                "a chunk stands outside the file", f"at most {source.size}", f"{chunk.address + chunk.size}"
            )
        chunks[corner] = _Chunk(chunk.address + base, chunk.size, chunk.mask)
    held = sum(chunk.size for chunk in chunks.values())
    total = math.prod(shape) * dtype.itemsize
    most = max(_SMALL_BYTES, _MOST_EXPANSION * min(held, source.size))
    if total > most or len(chunks) * size > max(most, 4 * total + size):
        raise node.fault("it claims more than the file can hold", f"at most {most} bytes", f"{total} bytes, {shape}")
    return Chunked(source, node.path, shape, dtype, extent, chunks, filters)


def _listed(node: Node, root: int, axes: int) -> dict[tuple[int, ...], _Chunk]:
    """The chunks of a tree, by the index of their first element."""
    found: dict[tuple[int, ...], _Chunk] = {}
    seen: set[int] = set()
    todo = [(root, _MOST_DEPTH)]
    while todo:
        address, level_above = todo.pop()
        if address in seen:
            raise node.fault(
                "its list of chunks goes round in circles", "each part once", f"twice the one at {address}"
            )
        seen.add(address)
        head = node.file.cursor(address, 24)
        head.expect(b"TREE\x01", "list of chunks")
        level, count = head.number(1), head.number(2)
        if level >= level_above:
            raise node.fault("its list of chunks is damaged", f"a level below {level_above}", str(level))
        entries = node.file.cursor(address + 24, count * (16 + 8 * (axes + 1)))
        for _ in range(count):
            size, mask = entries.number(4), entries.number(4)
            corner = tuple(entries.number(8) for _ in range(axes))
            entries.take(8)
            child = entries.number(8)
            if level:
                todo.append((child, level))
            else:
                found[corner] = _Chunk(child, size, mask)
        if len(found) + len(seen) > _MOST_CHUNKS:
            raise _too_many(node)
    return found


def _too_many(node: Node) -> FormatError:
    return node.fault("absurdly many chunks", f"at most {_MOST_CHUNKS}", "more")
