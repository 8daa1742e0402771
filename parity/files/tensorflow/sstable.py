"""The sorted table of strings that TensorFlow keeps its checkpoint index in: the format of LevelDB's tables.

Blocks of keys, each key written as what it shares with the one before and the rest, a checksum behind every block, an index block,
and a footer of 48 bytes at the end. Sources: `tensorflow/core/lib/io/{format,block,table_builder}.cc`,
https://github.com/google/leveldb/blob/main/doc/table_format.md, https://github.com/google/snappy/blob/main/format_description.txt.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from parity.errors import FormatError
from parity.files.tensorflow.protobuf_wire import varint

MAGIC = 0xDB4775248B80FB57

_FOOTER_BYTES, _TRAILER_BYTES = 48, 5
_PLAIN, _SNAPPY = 0, 1
_MOST_BYTES = 1 << 23  # an index of a hundred thousand tensors; what is larger was made to keep a reader busy
_MOST_SHARED = (
    16  # TensorFlow writes every sixteenth key in full, so that no block says more than so many times its bytes
)
_MOST_KEY_BYTES = 1 << 12
_ANEW = "get the files anew, or save the checkpoint again"


def entries(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a table, in the order of the keys; every block's checksum is checked.

    Args:
        path: the `.index` file of a checkpoint.

    Raises:
        FormatError: no such table, or a damaged one.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "model.index"
        >>> _ = path.write_bytes(b"not a table")
        >>> try:
        ...     list(entries(path))
        ... except FormatError as error:
        ...     print(error.problems[0].what)
        not a checkpoint index: it does not end as one
    """
    with path.open("rb") as file:
        size = file.seek(0, 2)
        if size > _MOST_BYTES:
            raise FormatError(
                "the index is too large", str(path), f"at most {_MOST_BYTES} bytes", f"{size} bytes", _ANEW
            )
        try:
            yield from _table(file, size)
        except ValueError as error:
            raise FormatError(
                str(error), str(path), "a whole .index file of TensorFlow", f"{size} bytes", _ANEW
            ) from error


def _table(file: BinaryIO, size: int) -> Iterator[tuple[bytes, bytes]]:
    file.seek(max(size - _FOOTER_BYTES, 0))
    footer = file.read(_FOOTER_BYTES)
    if len(footer) < _FOOTER_BYTES or int.from_bytes(footer[-8:], "little") != MAGIC:
        raise ValueError("not a checkpoint index: it does not end as one")
    _, position = varint(footer, 0)  # the block of filters, which TensorFlow leaves empty
    _, position = varint(footer, position)
    start, position = varint(footer, position)
    length, _ = varint(footer, position)
    data_end, reached = size - _FOOTER_BYTES, 0
    last: bytes | None = None
    for _, handle in _block(_contents(file, start, length, data_end)):
        offset, position = varint(handle, 0)
        length, _ = varint(handle, position)
        if offset < reached:
            raise ValueError(f"the block at byte {offset} stands inside another")
        reached = offset + length + _TRAILER_BYTES
        for key, value in _block(_contents(file, offset, length, data_end)):
            if last is not None and key <= last:
                raise ValueError(f"the keys are not in order at {key[:80]!r}")
            last = key
            yield key, value


def _contents(file: BinaryIO, offset: int, length: int, end: int) -> bytes:
    """A block whose checksum is right, uncompressed."""
    if offset + length + _TRAILER_BYTES > end:
        raise ValueError(f"a block of {length} bytes at byte {offset} reaches beyond the {end} bytes of blocks")
    file.seek(offset)
    stored = file.read(length + _TRAILER_BYTES)
    if len(stored) != length + _TRAILER_BYTES:
        raise ValueError(f"the block at byte {offset} is cut short")
    if masked_crc32c(stored[: length + 1]) != int.from_bytes(stored[-4:], "little"):
        raise ValueError(f"the checksum of the block at byte {offset} is wrong")
    kind, block = stored[length], stored[:length]
    if kind == _SNAPPY:
        return _unsnappy(block)
    if kind != _PLAIN:
        raise ValueError(f"the block at byte {offset} is compressed in an unknown way, {kind}")
    return block


def _block(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The entries of a block; behind them stand the places where a key is written in full, which only a search needs."""
    if len(block) < 4:
        raise ValueError("a block has no end")
    end = len(block) - 4 - 4 * int.from_bytes(block[-4:], "little")
    if end < 0:
        raise ValueError("a block has more restart points than bytes")
    position, key, work = 0, b"", 0
    while position < end:
        shared, position = varint(block, position)
        fresh, position = varint(block, position)
        length, position = varint(block, position)
        if shared > len(key) or fresh + length > end - position:
            raise ValueError(f"an entry at byte {position} of a block reaches beyond it")
        key = key[:shared] + block[position : position + fresh]
        work += len(key)
        if len(key) > _MOST_KEY_BYTES or work > _MOST_SHARED * len(block) + _MOST_KEY_BYTES:
            raise ValueError(f"a key of {len(key)} bytes")
        position += fresh
        yield key, block[position : position + length]
        position += length


# ---- checksums


def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    return tuple(table)


_CRC_TABLE = _crc_table()


def masked_crc32c(data: bytes | memoryview) -> int:
    """CRC-32C (Castagnoli), rotated and shifted as `tensorflow/core/lib/hash/crc32c.h` stores it.

    Example:
        >>> hex(masked_crc32c(b"123456789"))  # of 0xe3069283, the check value of CRC-32C
        '0xc78ab0e5'
    """
    table, crc = _CRC_TABLE, 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 255] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


# ---- compression


def _unsnappy(data: bytes) -> bytes:
    """A block that was compressed with Snappy: TensorFlow 1.1 could write such, and every later one reads them."""
    size, position = varint(data, 0)
    if size > 64 * len(data):
        raise ValueError(f"a compressed block of {len(data)} bytes claims to be {size} bytes")
    found = bytearray()
    while position < len(data):
        tag = data[position]
        kind, position = tag & 3, position + 1
        if kind == 0:
            length = (tag >> 2) + 1
            if length > 60:
                wide = length - 60
                length = int.from_bytes(data[position : position + wide], "little") + 1
                position += wide
            found += data[position : position + length]
            position += length
        else:
            width = (0, 1, 2, 4)[kind]
            offset = int.from_bytes(data[position : position + width], "little")
            length = (tag >> 2) + 1
            if kind == 1:
                length, offset = (tag >> 2 & 7) + 4, offset | tag >> 5 << 8
            position += width
            if not 0 < offset <= len(found):
                raise ValueError("a compressed block refers to what is not there")
            piece = bytes(found[-offset:])[:length]
            found += (piece * (length // len(piece) + 1))[:length]
        if len(found) > size or position > len(data):
            raise ValueError("a compressed block is longer than it claims")
    if len(found) != size:
        raise ValueError(f"a compressed block holds {len(found)} bytes instead of {size}")
    return bytes(found)
