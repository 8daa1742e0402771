"""TensorFlow's checkpoint of two kinds of files, the "tensor bundle" or V2 checkpoint: `prefix.index` says where each tensor stands in the
shards `prefix.data-00000-of-00001`. A SavedModel keeps its variables so, too. Imports no framework.

Every file is untrusted: every tensor is checked to stand inside its shard, and every shard inside its folder, before anything is read.
The checksums of the index are checked, those of the numbers are not: in Python that takes a hundred times as long as reading them.

Sources: `tensorflow/core/util/tensor_bundle/tensor_bundle.{h,cc}`, `tensorflow/core/protobuf/tensor_bundle.proto`, for the keys of
slices `tensorflow/core/util/saved_tensor_slice_util.cc` and `tensorflow/core/lib/strings/ordered_code.cc`.
"""

from __future__ import annotations

import math
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from parity.deferred import Array
from parity.errors import FormatError
from parity.files.stored import BFLOAT16, Raw, Stored
from parity.files.tensorflow.protobuf_wire import fields, part, signed, varint
from parity.files.tensorflow.sstable import entries, masked_crc32c

DTYPES: dict[int, str] = {
    1: "float32",
    2: "float64",
    3: "int32",
    4: "uint8",
    5: "int16",
    6: "int8",
    8: "complex64",
    9: "int64",
    10: "bool",
    17: "uint16",
    18: "complex128",
    19: "float16",
    22: "uint32",
    23: "uint64",
}
"""NumPy's name of a type, by its number in `tensorflow/core/framework/types.proto`."""

_STRING, _BFLOAT16_CODE = 7, 14
_OTHERS = {_STRING: "string", 20: "resource", 21: "variant"}
_MOST_TENSORS, _MOST_AXES, _MOST_NUMBERS, _MOST_TEXT = 1 << 14, 32, 1 << 48, 1 << 21
_ANEW = "get all files of the checkpoint anew, or save it again"


@dataclass(frozen=True)
class Entry:
    """What the index says of one tensor: where it stands (shard, offset, size in bytes), or which slices it is in."""

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc: int
    slices: tuple[tuple[tuple[int, int], ...], ...] = ()


@dataclass(frozen=True)
class Bundle:
    """What a checkpoint holds.

    Args:
        tensors: by key, in the order of the index; partitioned ones joined.
        others: the type of what is no tensor of numbers, by key: strings, tables.
        entries: what the index says of each.
        shards: the files with the numbers, those that are used.
    """

    tensors: Mapping[str, Stored]
    others: Mapping[str, str]
    entries: Mapping[str, Entry]
    shards: Mapping[int, Path]

    def text(self, key: str) -> bytes:
        """A single string, its checksum checked.

        Raises:
            FormatError: it is not there, or damaged.
        """
        entry = self.entries[key]
        path = self.shards.get(entry.shard)
        if path is None or entry.slices:
            raise FormatError(f"'{key}' cannot be read", "the index", "a whole string", "slices", _ANEW)
        try:
            return _text(path, entry)
        except ValueError as error:
            raise FormatError(f"'{key}' cannot be read", str(path), "a whole string", str(error), _ANEW) from error


def _text(path: Path, entry: Entry) -> bytes:
    """A string as `WriteStringTensor` writes it: its length, a checksum of the length, its bytes."""
    if entry.size > _MOST_TEXT:
        raise ValueError(f"{entry.size} bytes are more than the {_MOST_TEXT} that a string may have here")
    with path.open("rb") as file:
        file.seek(entry.offset)
        stored = file.read(entry.size)
    length, position = varint(stored, 0)
    if len(stored) != entry.size or length != len(stored) - position - 4:
        raise ValueError(f"a string of {length} bytes in {len(stored)}")
    if masked_crc32c(length.to_bytes(4, "little") + stored[position:]) != entry.crc:
        raise ValueError("the checksum is wrong")
    return stored[position + 4 :]


@dataclass(frozen=True)
class Joined:
    """A partitioned variable: parts one after the other along one axis.

    Args:
        parts: in order.
        axis: that they are cut along.

    Example:
        >>> joined = Joined((np.zeros((2, 3)), np.ones((1, 3))), 0)
        >>> joined.shape, joined[1:3][:, 0].tolist()
        ((3, 3), [0.0, 1.0])
    """

    parts: tuple[Stored, ...]
    axis: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes of the whole."""
        first = self.parts[0].shape
        return (*first[: self.axis], sum(part.shape[self.axis] for part in self.parts), *first[self.axis + 1 :])

    @property
    def dtype(self) -> Any:
        """Type of its numbers."""
        return self.parts[0].dtype

    def __getitem__(self, rows: Any) -> Array:
        """A slice of rows, or everything for `()`; each part goes to its place at once, so that they never stand in memory twice."""
        start, stop, _ = (rows if isinstance(rows, slice) else slice(None)).indices(self.shape[0])
        found: Array = np.empty((max(stop - start, 0), *self.shape[1:]), self.dtype)
        place = 0
        for piece in self.parts:
            length = piece.shape[self.axis]
            if self.axis:
                found[(slice(None),) * self.axis + (slice(place, place + length),)] = piece[start:stop]
            else:
                low, high = max(start, place), min(stop, place + length)
                if low < high:
                    found[low - start : high - start] = piece[low - place : high - place]
            place += length
        return found


def bundle(prefix: Path, folder: Path) -> Bundle:
    """Read the index of a checkpoint, and check that every tensor stands in its shard.

    Args:
        prefix: the files' common name: `model.ckpt` where there is `model.ckpt.index`.
        folder: no file outside it is opened.

    Raises:
        FormatError: damaged or hostile files, or a shard that is not there.
    """
    index = inside(prefix.with_name(prefix.name + ".index"), folder)
    header, found, slices = _index(index)
    count, big = header.get(1, 0), header.get(2, 0) == 1
    used = {entry.shard for entry in (*found.values(), *slices.values()) if not entry.slices}
    if not 0 < count <= 99999 or max(used, default=0) >= count:
        raise FormatError(
            "a shard that does not exist", str(index), f"one of {count}", str(max(used, default=0)), _ANEW
        )
    names = {number: f"{prefix.name}.data-{number:05d}-of-{count:05d}" for number in sorted(used)}
    shards = {number: inside(prefix.with_name(name), folder) for number, name in names.items()}
    _check_places([*found.items(), *((repr(key), entry) for key, entry in slices.items())], shards, index)
    tensors: dict[str, Stored] = {}
    others = {key: _OTHERS.get(e.dtype, f"type {e.dtype}") for key, e in found.items() if _dtype(e.dtype, big) is None}
    for key, entry in found.items():
        if key not in others:
            tensors[key] = _joined(key, entry, slices, shards, index, big) if entry.slices else _raw(entry, shards, big)
    return Bundle(tensors, others, found, shards)


def _index(path: Path) -> tuple[dict[int, int], dict[str, Entry], dict[bytes, Entry]]:
    """The numbers of the BundleHeaderProto, the tensors, and the slices of partitioned ones."""
    header: dict[int, int] = {}
    found: dict[str, Entry] = {}
    slices: dict[bytes, Entry] = {}
    for key, value in entries(path):
        try:
            if not key:
                header = {number: value for number, value in fields(value) if isinstance(value, int)}
            elif key.startswith(b"\0"):
                slices[key] = _entry(value)
            else:
                found[key.decode()] = _entry(value)
        except ValueError as error:
            what = f"the entry of {key[:80]!r} is damaged"
            raise FormatError(what, str(path), "where a tensor stands", str(error), _ANEW) from error
        if len(found) + len(slices) > _MOST_TENSORS:
            raise FormatError("too many tensors", str(path), f"at most {_MOST_TENSORS}", "more", _ANEW)
    return header, found, slices


def inside(path: Path, folder: Path) -> Path:
    """A file that stands in a folder or below it, also after its links have been followed.

    Raises:
        FormatError: it is not there, is no plain file, or a link leads it out of the folder.
    """
    try:
        real, root = path.resolve(strict=True), folder.resolve(strict=True)
        plain = stat.S_ISREG(real.stat().st_mode)
    except (OSError, RuntimeError, ValueError) as error:
        remedy = "put all files of the checkpoint into one folder under their own names"
        raise FormatError("a file is missing", str(path), "a file", "nothing there", remedy) from error
    if not real.is_relative_to(root):
        remedy = "copy the files themselves into one folder, not links to them (cp -rL)"
        raise FormatError("a link leads out of the folder", str(path), f"a file in {root}", str(real), remedy)
    if not plain:
        raise FormatError("not a plain file", str(path), "a file", "something else", "get the files anew")
    return path


# ---- entries


def _entry(value: bytes) -> Entry:
    """A BundleEntryProto; sizes are checked against the shape.

    Raises:
        ValueError: damaged, or more than any file holds.
    """
    numbers = {1: 0, 3: 0, 4: 0, 5: 0, 6: 0}
    shape: tuple[int, ...] = ()
    slices = []
    for number, field in fields(value):
        if number == 2:
            shape = tuple(_dimension(part(size)) for axis, size in fields(part(field)) if axis == 2)
        elif number == 7:
            slices.append(tuple(_extent(part(extent)) for axis, extent in fields(part(field)) if axis == 1))
        elif number in numbers:
            numbers[number] = signed(field)
    if len(shape) > _MOST_AXES or math.prod(max(length, 1) for length in shape) > _MOST_NUMBERS:
        raise ValueError(f"a shape of {shape[:_MOST_AXES]}")
    dtype, shard, offset, size, crc = numbers.values()
    if min(shard, offset, size) < 0:
        raise ValueError(f"shard {shard}, offset {offset}, size {size}")
    found = _dtype(dtype)
    wanted = math.prod(shape) * found.itemsize if found and not slices else size
    if wanted != size:
        raise ValueError(f"{size} bytes for {found} of shape {shape}, which takes {wanted}")
    return Entry(dtype, shape, shard, offset, size, crc, tuple(slices))


def _dimension(message: memoryview) -> int:
    size = next((signed(value) for number, value in fields(message) if number == 1), 0)
    if size < 0:
        raise ValueError(f"an axis of length {size}")
    return size


def _extent(message: memoryview) -> tuple[int, int]:
    """Start and length of a slice along an axis; all of the axis is length -1."""
    found = {1: 0, 2: -1} | {number: signed(value) for number, value in fields(message) if number in (1, 2)}
    if found[1] < 0 or found[2] < -1:
        raise ValueError(f"a slice of {found[2]} from {found[1]}")
    return found[1], found[2]


def _dtype(code: int, big: bool = False) -> np.dtype[Any] | None:
    """NumPy's type in the byte order of the file, None for what is no number."""
    if code == _BFLOAT16_CODE:
        return None if big else BFLOAT16
    return np.dtype(DTYPES[code]).newbyteorder(">" if big else "<") if code in DTYPES else None


def _check_places(places: list[tuple[str, Entry]], shards: Mapping[int, Path], index: Path) -> None:
    """Every tensor stands in its shard, and none in another."""
    sizes = {number: path.stat().st_size for number, path in shards.items()}
    reached = (0, 0)
    named = [(e.shard, e.offset, e.offset + e.size, key) for key, e in places if not e.slices]
    for shard, start, end, key in sorted(named):
        if end > sizes[shard]:
            what = f"'{key}' stands outside its file"
            raise FormatError(what, str(shards[shard]), f"at least {end} bytes", f"{sizes[shard]} bytes", _ANEW)
        if (shard, start) < reached and start < end:
            what = f"'{key}' stands inside another tensor"
            raise FormatError(what, str(index), f"byte {reached[1]} or later", f"byte {start}", _ANEW)
        reached = max(reached, (shard, end))


def _raw(entry: Entry, shards: Mapping[int, Path], big: bool) -> Raw:
    dtype = _dtype(entry.dtype, big)
    assert dtype is not None
    return Raw(shards[entry.shard], entry.offset, entry.shape, dtype)


# ---- partitioned variables


def _joined(
    key: str, entry: Entry, slices: Mapping[bytes, Entry], shards: Mapping[int, Path], index: Path, big: bool
) -> Stored:
    """The slices of a partitioned variable as one tensor; TensorFlow cuts along one axis (`tf.compat.v1.get_variable`, partitioner)."""

    def fault(what: str, expected: str, got: str) -> FormatError:
        return FormatError(f"'{key}' {what}", str(index), expected, got, _ANEW)

    extents = [
        tuple(
            (start, size if length < 0 else length) for (start, length), size in zip(extent, entry.shape, strict=False)
        )
        for extent in entry.slices
    ]
    if any(len(extent) != len(entry.shape) for extent in entry.slices) or not entry.shape:
        raise fault("is in slices that do not fit it", f"{len(entry.shape)} axes", "another number")
    whole = [(0, size) for size in entry.shape]
    cut = sorted({axis for extent in extents for axis, place in enumerate(extent) if place != whole[axis]}) or [0]
    if len(cut) > 1:
        raise fault("is cut along several axes", "slices along one axis", f"axes {cut}")
    axis, place, parts = cut[0], 0, []
    for extent, key_extent in sorted(zip(extents, entry.slices, strict=True)):
        found = slices.get(_slice_key(key, key_extent))
        lengths = tuple(length for _, length in extent)
        fits = found is not None and (found.shape, found.dtype, found.slices) == (lengths, entry.dtype, ())
        if found is None or not fits or extent[axis][0] != place:
            raise fault("lacks a slice", f"one of shape {lengths} from {place} of axis {axis}", str(extent))
        parts.append(_raw(found, shards, big))
        place += lengths[axis]
    if place != entry.shape[axis]:
        raise fault("lacks slices", f"{entry.shape[axis]} along axis {axis}", str(place))
    return Joined(tuple(parts), axis)


def _slice_key(name: str, extent: tuple[tuple[int, int], ...]) -> bytes:
    """The key of a slice: zero, the name, the number of axes, start and length along each, in an order-preserving code.

    Source: `EncodeTensorNameSlice` in `tensorflow/core/util/saved_tensor_slice_util.cc`.
    """
    escaped = name.encode().replace(b"\0", b"\0\xff")
    axes = len(extent).to_bytes((len(extent).bit_length() + 7) // 8, "big")
    numbers = b"".join(_ordered(number) for place in extent for number in place)
    return b"\0" + escaped + b"\0\x01" + bytes([len(axes)]) + axes + numbers


def _ordered(number: int) -> bytes:
    """`OrderedCode::WriteSignedNumIncreasing`: as many leading ones as bytes, for -1 all bits the other way round."""
    if number < 0:
        return b"\x7f"
    length = number.bit_length() // 7 + 1
    ones = ((1 << length) - 1) << (8 * length - length)
    return (number | ones).to_bytes(length, "big")
