"""Reads an ONNX file without its large tensors: they stay where they are, and a note of the place stands for their bytes.

Source: protobuf's encoding (protobuf.dev/programming-guides/encoding) and the numbers of the fields in onnx.proto. A message is a
sequence of fields, each a varint key (number << 3 | wire type) and a value; wire types 0 varint, 1 eight bytes, 2 length and bytes, 5 four
bytes. onnx.proto has no groups (3 and 4).
"""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx

from parity.errors import FormatError

LARGE = 4096
"""Bytes from which on a tensor's contents stay in the file."""

_DEEPEST = 100
"""How deep protobuf itself follows messages in messages."""

_TENSOR = onnx.TensorProto.DESCRIPTOR.full_name
_RAW = onnx.TensorProto.DESCRIPTOR.fields_by_name["raw_data"].number
_DATA_TYPE = onnx.TensorProto.DESCRIPTOR.fields_by_name["data_type"].number
_PACKED = {
    onnx.TensorProto.DESCRIPTOR.fields_by_name["float_data"].number: onnx.TensorProto.FLOAT,
    onnx.TensorProto.DESCRIPTOR.fields_by_name["double_data"].number: onnx.TensorProto.DOUBLE,
}
"""Packed fields that hold the very bytes that raw_data would, for the type that is stored so."""


@dataclass(frozen=True)
class Place:
    """Where the contents of a tensor stand: so many bytes of a file."""

    path: Path
    offset: int
    length: int


@dataclass
class Places:
    """The places that notes stand for. No file can forge a note: it holds random bytes drawn for this reading."""

    secret: bytes = field(default_factory=lambda: os.urandom(24))
    found: list[Place] = field(default_factory=list)

    def note(self, place: Place) -> bytes:
        """What stands in raw_data for a place."""
        self.found.append(place)
        return self.secret + (len(self.found) - 1).to_bytes(8, "little")

    def place(self, note: bytes) -> Place | None:
        """The place that a note stands for; None for any other bytes."""
        if len(note) != len(self.secret) + 8 or not note.startswith(self.secret):
            return None
        return self.found[int.from_bytes(note[-8:], "little")]


def read_without_tensors(path: Path) -> tuple[onnx.ModelProto, Places]:
    """The model in a file with notes in place of the contents of its large tensors, and what the notes stand for.

    Raises:
        FormatError: not an ONNX model, or a damaged one.
    """
    places = Places()
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            content = _Scanner(data, path, places).message(0, len(data), onnx.ModelProto.DESCRIPTOR, 0)
            model = onnx.ModelProto.FromString(data[:] if content is None else content)
    except FormatError:
        raise
    except OSError:
        raise
    except Exception as error:  # protobuf's errors have no common base
        raise damaged(path, str(error)) from error
    return model, places


def damaged(path: Path, got: str) -> FormatError:
    """The error for bytes that are no ONNX model."""
    first = got.strip().split("\n")[0]
    return FormatError(
        "not an ONNX model, or a damaged one", str(path), "a serialized onnx.ModelProto", first, "get the file anew"
    )


class _Scanner:
    """Walks through the messages of a file."""

    def __init__(self, data: mmap.mmap, path: Path, places: Places) -> None:
        self._data, self._path, self._places = data, path, places
        # A message takes about 150 bytes of memory, however few it takes in the file; in real models it has 12 and more.
        self._left = 100_000 + len(data) // 8
        self._kinds: dict[str, tuple[dict[int, Any], set[int]]] = {}

    def message(self, start: int, end: int, kind: Any, depth: int) -> bytes | None:
        """The message anew, with notes; None where nothing in it is large."""
        self._count(start, depth)
        own, texts = self._fields_of(kind)
        is_tensor, data_type = kind.full_name == _TENSOR, 0
        parts: list[bytes] = []
        position = copied = start
        while position < end:
            first = position
            key, position = self._varint(position, end)
            number, wire = key >> 3, key & 7
            if wire != 2:
                value, position = self._scalar(wire, position, end)
                data_type = value if number == _DATA_TYPE else data_type
                continue
            length, position = self._varint(position, end)
            stop = position + length
            if stop > end:
                raise damaged(self._path, f"at byte {first}: {length} bytes, where {end - position} are left")
            new: bytes | None = None
            if number in texts:
                self._check_text(position, stop)
            elif number in own:
                inner = self.message(position, stop, own[number], depth + 1)
                new = None if inner is None else _bytes_field(number, inner)
            elif is_tensor and length > LARGE and (number == _RAW or _PACKED.get(number) == data_type):
                new = _bytes_field(_RAW, self._places.note(Place(self._path, position, length)))
            if new is not None:
                parts += [self._data[copied:first], new]
                copied = stop
            position = stop
        return b"".join([*parts, self._data[copied:end]]) if parts else None

    def _count(self, start: int, depth: int) -> None:
        self._left -= 1
        if self._left < 0:
            raise damaged(
                self._path, f"at byte {start}: more nodes, names and sizes than a file of this length can mean"
            )
        if depth > _DEEPEST:
            raise damaged(self._path, f"at byte {start}: graphs in graphs, more than {_DEEPEST} messages deep")

    def _fields_of(self, kind: Any) -> tuple[dict[int, Any], set[int]]:
        """The fields of a kind of message that are messages themselves, by number, and those that are text."""
        if kind.full_name not in self._kinds:
            fields = kind.fields_by_number
            inner = {n: f.message_type for n, f in fields.items() if f.message_type is not None}
            self._kinds[kind.full_name] = inner, {n for n, f in fields.items() if f.type == f.TYPE_STRING}
        return self._kinds[kind.full_name]

    def _check_text(self, start: int, end: int) -> None:
        """protobuf hands other bytes on as they are."""
        try:
            self._data[start:end].decode()
        except UnicodeDecodeError as error:
            raise damaged(self._path, f"at byte {start}: text that is not UTF-8") from error

    def _scalar(self, wire: int, position: int, end: int) -> tuple[int, int]:
        """The value of a varint, 0 for a number of fixed width, and where it ends."""
        if wire == 0:
            return self._varint(position, end)
        width = {1: 8, 5: 4}.get(wire)
        if width is None or position + width > end:
            raise damaged(self._path, f"at byte {position}: a field of wire type {wire}")
        return 0, position + width

    def _varint(self, position: int, end: int) -> tuple[int, int]:
        value = shift = 0
        while position < end and shift < 70:
            byte = self._data[position]
            value |= (byte & 0x7F) << shift
            position, shift = position + 1, shift + 7
            if byte < 0x80:
                return value, position
        raise damaged(self._path, f"at byte {position}: a number that does not end")


def _bytes_field(number: int, content: bytes) -> bytes:
    return _encoded(number << 3 | 2) + _encoded(len(content)) + content


def _encoded(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])
