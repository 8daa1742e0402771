"""The headers of the objects in an HDF5 file: their messages and attributes. Every address and size is checked before it is followed.

Source: HDF5 File Format Specification 3.0, sections II (superblocks 0 to 3), III.E (global heap), IV.A (object headers 1 and 2).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from parity.errors import FormatError, UnsupportedError
from parity.files.archive import FETCH_ANEW
from parity.files.hdf5.datatypes import Type, read_shape, read_type
from parity.files.hdf5.source import Cursor, Source

SIGNATURE = b"\x89HDF\r\n\x1a\n"

UNDEFINED = (1 << 64) - 1
"""The address of nothing."""

_ATTRIBUTE, _CONTINUATION, _ATTRIBUTE_INFO = 12, 16, 21
_MOST_OBJECTS, _MOST_LINKS, _MOST_MESSAGES, _MOST_TEXT_BYTES = 100_000, 200_000, 20_000, 1 << 26
_MOST_READING, _SMALL_BYTES = 4, 1 << 20
"""The structures of a file are together at most so many times as large as itself, or so many bytes more: some are read twice."""

_REWRITE = "open it with h5py and save its arrays again, without track_order and libver"


@dataclass(frozen=True)
class Attribute:
    """What is said of an object under a name; texts only are read.

    Args:
        node: the object.
        name: of the attribute.
        type: of its elements.
        shape: of them; None for none at all.
        content: the bytes of them in the header.
    """

    node: Node
    name: str
    type: Type
    shape: tuple[int, ...] | None
    content: bytes

    def texts(self) -> list[str]:
        """Its elements as texts; an empty list for an empty array, whatever its type.

        Raises:
            FormatError: they are no texts, or not in UTF-8.
        """
        count = 0 if self.shape is None else math.prod(self.shape)
        if not count:
            return []
        if not self.type.text:
            raise self.node.fault(f"attribute '{self.name[:80]}' is not text", "text", self.type.name)
        if self.type.size == 0 or count * self.type.size > len(self.content):
            got = f"{len(self.content)} bytes"
            raise self.node.fault(
                f"attribute '{self.name[:80]}' is cut short", f"{count} texts of {self.type.size}", got
            )
        cursor = Cursor(self.content, self.node.fault)
        found = [self._element(cursor) for _ in range(count)]
        try:
            return [text.decode() for text in found]
        except UnicodeDecodeError as error:
            raise self.node.fault(f"attribute '{self.name[:80]}' is not UTF-8", "UTF-8", str(error)) from error

    def numbers(self) -> list[int]:
        """Its elements as whole numbers.

        Raises:
            FormatError: they are none.
        """
        count = 0 if self.shape is None else math.prod(self.shape)
        if self.type.dtype is None or self.type.dtype.kind not in "iu" or count * self.type.size > len(self.content):
            raise self.node.fault(f"attribute '{self.name[:80]}' is no number", "whole numbers", self.type.name)
        return [int(number) for number in np.frombuffer(self.content, self.type.dtype, count)]

    def _element(self, cursor: Cursor) -> bytes:
        if self.type.text == "fixed":
            return cursor.take(self.type.size).split(b"\0")[0]
        size, collection, index = cursor.number(4), cursor.number(8), cursor.number(4)
        return self.node.file.text(collection, index, size).split(b"\0")[0]


@dataclass(frozen=True)
class _Message:
    kind: int
    shared: bool
    content: bytes


class File:
    """An HDF5 file, read while its source is open.

    Args:
        source: its bytes.

    Raises:
        FormatError: no HDF5 file, or a damaged one; so does all that is read of it.
        UnsupportedError: a form of the file that is not read; likewise.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self._objects = self._links = self._text_bytes = 0
        self._left = _MOST_READING * source.size + _SMALL_BYTES
        self._heaps: dict[int, dict[int, tuple[int, int]]] = {}
        self.base = next((place for place in (0, 512, 1024, 2048) if self._signed(place)), -1)
        if self.base < 0:
            start = source.read(0, min(8, source.size))
            raise source.fault("it does not begin as one", repr(SIGNATURE), repr(start))
        self.root_address = self._root()

    def _signed(self, place: int) -> bool:
        return self.source.size >= place + 64 and self.source.read(place, 8) == SIGNATURE

    def _root(self) -> int:
        head = self.cursor(0, 64)
        head.take(8)
        version = head.number(1)
        head.take(4 if version < 2 else 0)
        sizes = head.number(1), head.number(1)
        if version > 3 or sizes != (8, 8):
            got = f"version {version}, addresses of {sizes[0]} and sizes of {sizes[1]} bytes"
            raise self.source.fault("an unknown superblock", "version 0 to 3, addresses and sizes of 8 bytes", got)
        if version >= 2:
            return int.from_bytes(head.content[36:44], "little")
        rest = self.cursor(24 + (4 if version else 0), 48)
        return int.from_bytes(rest.content[40:48], "little")

    def cursor(self, address: int, count: int) -> Cursor:
        """The bytes of a structure at an address of the file's own.

        Raises:
            FormatError: outside the file; or a part of the file that stands for several structures, so that there is no end to them.
        """
        self._left -= count
        if self._left < 0:
            raise self.source.fault("its parts lie one over the other", "each part once", "the same bytes many times")
        return Cursor(self.source.read(self.base + address, count), self.source.fault)

    def at_most(self, address: int, count: int) -> Cursor:
        """So many bytes, or fewer where the file ends before."""
        return self.cursor(address, max(0, min(count, self.source.size - self.base - address)))

    def count_object(self) -> None:
        """One more object was read.

        Raises:
            FormatError: absurdly many.
        """
        self._objects += 1
        if self._objects > _MOST_OBJECTS:
            raise self.source.fault("absurdly many objects", f"at most {_MOST_OBJECTS}", "more")

    def count_links(self, count: int) -> None:
        """So many more links were read.

        Raises:
            FormatError: absurdly many.
        """
        self._links += count
        if self._links > _MOST_LINKS:
            raise self.source.fault("absurdly many names", f"at most {_MOST_LINKS}", "more")

    def text(self, collection: int, index: int, size: int) -> bytes:
        """An object of a global heap: a string of any length."""
        if size == 0 or collection == 0:
            return b""
        if collection not in self._heaps:
            self._heaps[collection] = dict(self._texts(collection))
        place, length = self._heaps[collection].get(index, (0, -1))
        self._text_bytes += size
        if not size <= length <= _MOST_TEXT_BYTES:
            raise self.source.fault("a text is not where it should be", f"object {index} of a global heap", "none")
        if self._text_bytes > _MOST_READING * self.source.size + _SMALL_BYTES:
            raise self.source.fault("one text stands for many", "each text once", "the same text many times")
        return self.source.read(self.base + place, size)

    def _texts(self, collection: int) -> Iterator[tuple[int, tuple[int, int]]]:
        """Number, place and length of every object of a global heap."""
        head = self.cursor(collection, 16)
        head.expect(b"GCOL", "global heap")
        head.take(4)
        end = collection + head.number(8)
        place = collection + 16
        for _ in range(_MOST_MESSAGES):
            if place + 16 > end:
                return
            item = self.cursor(place, 16)
            number, length = item.number(2), int.from_bytes(item.content[8:], "little")
            if number == 0:
                return
            yield number, (place + 16, length)
            place += 16 + length + -length % 8


class Node:
    """A group or an array.

    Args:
        file: it stands in.
        path: its name from the root on.
        address: of its header.
    """

    def __init__(self, file: File, path: str, address: int) -> None:
        file.count_object()
        self.file, self.path, self.address = file, path, address

    @cached_property
    def messages(self) -> list[_Message]:
        """The messages of its header."""
        start = self.file.cursor(self.address, 4).content
        found = self._new_header() if start == b"OHDR" else self._old_header()
        if len(found) > _MOST_MESSAGES:
            raise self.fault("a header of absurd size", f"at most {_MOST_MESSAGES} messages", f"{len(found)}")
        return found

    def _old_header(self) -> list[_Message]:
        head = self.file.cursor(self.address, 16)
        if head.number(1) != 1:
            raise self.fault("no object where one should be", "an object header", repr(head.content[:4]))
        most = int.from_bytes(head.content[2:4], "little")
        size = int.from_bytes(head.content[8:12], "little")
        blocks, found, seen = [(self.address + 16, size)], list[_Message](), {self.address + 16}
        while blocks:
            block = self.file.cursor(*blocks.pop(0))
            while block.left >= 8 and len(found) < most:
                kind, length, flags = block.number(2), block.number(2), block.number(1)
                block.take(3)
                self._keep(_Message(kind, bool(flags & 2), block.take(length)), found, blocks, seen)
        return found

    def _new_header(self) -> list[_Message]:
        head = self.file.at_most(self.address, 64)
        head.expect(b"OHDR\x02", "object header of version 2")
        flags = head.number(1)
        head.take((16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0))
        size = head.number(1 << (flags & 3))
        blocks, found = [(self.address + head.place, size)], list[_Message]()
        seen = {blocks[0][0]}
        while blocks:
            address, size = blocks.pop(0)
            block = self.file.cursor(address, size)
            if len(seen) > 1 and address != self.address + head.place:
                block = Cursor(block.content[:-4], self.fault)
                block.expect(b"OCHK", "continued header")
            ordered = 2 if flags & 4 else 0
            while block.left >= 4 + ordered and len(found) <= _MOST_MESSAGES:
                kind, length, marks = block.number(1), block.number(2), block.number(1)
                block.take(ordered)
                self._keep(_Message(kind, bool(marks & 2), block.take(length)), found, blocks, seen)
        return found

    def _keep(self, message: _Message, found: list[_Message], blocks: list[tuple[int, int]], seen: set[int]) -> None:
        """Add a message, or the block that it says the header goes on in."""
        found.append(message)
        if message.kind == _CONTINUATION:
            rest = Cursor(message.content, self.fault)
            address, size = rest.number(8), rest.number(8)
            if address in seen:
                raise self.fault("a header goes round in circles", "each block once", f"twice the one at {address}")
            seen.add(address)
            blocks.append((address, size))

    def message(self, kind: int) -> Cursor | None:
        """The first message of a kind, None without one.

        Raises:
            FormatError: it stands in another object.
        """
        found = next((message for message in self.messages if message.kind == kind), None)
        if found is None:
            return None
        if found.shared:
            raise self.fault(
                "it shares a part of its header", "a header of its own", "a committed type or shared message"
            )
        return Cursor(found.content, self.fault)

    @cached_property
    def attributes(self) -> dict[str, Attribute]:
        """What the file says of it, by name."""
        info = self.message(_ATTRIBUTE_INFO)
        if info is not None:
            flags = info.number(2) >> 8
            info.take(2 if flags & 1 else 0)
            if info.number(8) != UNDEFINED:
                raise self.unsupported("attributes in a heap of their own")
        found = [self._attribute(message) for message in self.messages if message.kind == _ATTRIBUTE]
        return {attribute.name: attribute for attribute in found}

    def _attribute(self, message: _Message) -> Attribute:
        cursor = Cursor(message.content, self.fault)
        version, flags = cursor.number(1), cursor.number(1)
        if version not in (1, 2, 3) or message.shared or (version > 1 and flags & 3):
            raise self.fault(
                "an attribute of an unknown kind", "version 1 to 3, its own type", f"version {version}, {flags}"
            )
        sizes = [cursor.number(2) for _ in range(3)]
        cursor.take(1 if version == 3 else 0)
        parts = []
        for size in sizes:
            parts.append(Cursor(cursor.take(size), self.fault))
            if version == 1:
                cursor.take(min(-size % 8, cursor.left))
        name = parts[0].content.split(b"\0")[0].decode("utf-8", "replace")
        return Attribute(self, name, read_type(parts[1]), read_shape(parts[2]), cursor.take(cursor.left))

    def texts(self, name: str) -> list[str] | None:
        """A list of names in an attribute, which Keras splits into name0, name1, ... where it is long; None without one.

        Raises:
            FormatError: not texts.
        """
        if name in self.attributes:
            return self.attributes[name].texts()
        found: list[str] = []
        for number in range(len(self.attributes)):
            if f"{name}{number}" not in self.attributes:
                return found if number else None
            found += self.attributes[f"{name}{number}"].texts()
        return found if self.attributes and found else None

    def text(self, name: str) -> str | None:
        """An attribute that is one text; None without one.

        Raises:
            FormatError: not a text.
        """
        if name not in self.attributes:
            return None
        found = self.attributes[name].texts()
        if len(found) != 1:
            raise self.fault(f"attribute '{name}' is not one text", "one", str(len(found)))
        return found[0]

    def fault(self, what: str, expected: str = "", got: str = "") -> FormatError:
        """An error about this object, to be raised."""
        whole = f"'{self.path[:200] or '/'}' in the HDF5 file: {what}"
        return FormatError(whole, self.file.source.where, expected, got, FETCH_ANEW)

    def unsupported(self, what: str) -> UnsupportedError:
        """An error about a form that is not read, to be raised."""
        where = f"'{self.path[:200] or '/'}' of {self.file.source.where}"
        return UnsupportedError("a form of HDF5 that is not read", where, "as h5py writes by default", what, _REWRITE)
