"""HDF5 files from anywhere, read without libhdf5. Imports no framework, and no h5py.

libhdf5 follows pointers that stand in the file: a few flipped bits make it end the process. This reader checks every address, size and
count before it follows it, never leaves the file (links, external storage and virtual datasets are refused), visits nothing twice,
and reads no weight before it is asked for. It knows what h5py writes by default, which is what every Keras wrote: groups as
symbol tables, arrays contiguous, compact or in chunks; and of the newer form what holds the same in one place.

Source: HDF5 File Format Specification 3.0, sections III.A to III.D (groups), IV.A.2 (messages).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np

from parity.files.hdf5.chunks import chunked
from parity.files.hdf5.datatypes import Type, read_filters, read_shape, read_type
from parity.files.hdf5.header import SIGNATURE, UNDEFINED, File, Node
from parity.files.hdf5.source import Cursor, Source
from parity.files.stored import BFLOAT16, Stored

_SPACE, _LINK_INFO, _TYPE, _LINK, _EXTERNAL, _LAYOUT, _FILTERS, _TABLE = 1, 2, 3, 6, 7, 8, 11, 17
_MOST_DEPTH, _MOST_LEVELS, _MOST_NAME_BYTES = 32, 16, 2048
_SOFT = -1
"""Stands for the address of a link that is not followed."""

_BFLOAT16 = "bfloat16"


@contextmanager
def opened(source: Source) -> Iterator[Group]:
    """The root group of an HDF5 file; the file is closed at the end of the block, what was described of it can still be read.

    Raises:
        FormatError: no HDF5 file, or a damaged or hostile one; so does all that is read of it.
        UnsupportedError: a form of the file that is not read; likewise.

    Example:
        >>> import h5py, tempfile
        >>> from pathlib import Path
        >>> path = Path(tempfile.mkdtemp()) / "a.h5"
        >>> with h5py.File(path, "w") as file: file["layer/kernel"] = np.ones((2, 3), np.float32)
        >>> with opened(Source(path)) as root: kernel = root["layer/kernel"].stored()
        >>> kernel.shape, float(kernel[1:2].sum())
        ((2, 3), 3.0)
    """
    with source:
        file = File(source)
        yield Group(file, "", file.root_address)


class Group(Node):
    """A group: named groups and arrays."""

    @cached_property
    def names(self) -> list[str]:
        """What is in it, in the order of the file (by default the alphabet's)."""
        return list(self._links)

    def __contains__(self, path: str) -> bool:
        """Whether there is something at a path."""
        return self._found(path) is not None

    def __getitem__(self, path: str) -> Group | Dataset:
        """The group or array at a path.

        Raises:
            FormatError: there is none, or it is a link.
        """
        found = self._found(path)
        if found is None:
            got = ", ".join(self.names[:8]) or "nothing"
            raise self.fault(f"'{path[:200]}' is missing", path[:200], got)
        return found

    def group(self, path: str) -> Group:
        """The group at a path.

        Raises:
            FormatError: there is none.
        """
        found = self[path]
        if not isinstance(found, Group):
            raise self.fault(f"'{path[:200]}' is not a group", "a group", "an array")
        return found

    def dataset(self, path: str) -> Dataset:
        """The array at a path.

        Raises:
            FormatError: there is none.
        """
        found = self[path]
        if not isinstance(found, Dataset):
            raise self.fault(f"'{path[:200]}' is not an array", "an array", "a group")
        return found

    def walk(self) -> Iterator[tuple[str, Group | Dataset]]:
        """Everything below it, by its path from here, each before what is in it.

        Raises:
            FormatError: a link, groups inside each other, or absurdly many levels.
        """
        seen = {self.address}
        todo: list[tuple[str, Group, int]] = [("", self, 0)]
        while todo:
            path, group, depth = todo.pop()
            inner: list[tuple[str, Group, int]] = []
            for name in group.names:
                child, place = group[name], f"{path}{name}"
                if child.address in seen:
                    raise child.fault(
                        "it has several names, or is inside itself", "one name for each object", "several"
                    )
                if depth >= _MOST_DEPTH:
                    raise child.fault("absurdly many levels of groups", f"at most {_MOST_DEPTH}", "more")
                seen.add(child.address)
                yield place, child
                if isinstance(child, Group):
                    inner.append((f"{place}/", child, depth + 1))
            todo += reversed(inner)

    def _found(self, path: str) -> Group | Dataset | None:
        node: Group | Dataset = self
        for name in path.split("/"):
            if not isinstance(node, Group) or name not in node._links:
                return None
            node = node._child(name)
        return node

    def _child(self, name: str) -> Group | Dataset:
        if name not in self._children:
            address, path = self._links[name], f"{self.path}/{name}".lstrip("/")
            if address == _SOFT:
                raise self.fault(
                    f"'{name[:80]}' is a link", "an object of the file itself", "a soft, external or other link"
                )
            node = Node(self.file, path, address)
            kinds = {message.kind for message in node.messages}
            made: Group | Dataset
            if kinds & {_TABLE, _LINK_INFO, _LINK}:
                made = Group(self.file, path, address)
            elif _LAYOUT in kinds or _EXTERNAL in kinds:
                made = Dataset(self.file, path, address)
            else:
                raise node.fault("neither a group nor an array", "a group or an array", "a committed type, or nothing")
            made.messages = node.messages
            self._children[name] = made
        return self._children[name]

    @cached_property
    def _children(self) -> dict[str, Group | Dataset]:
        return {}

    @cached_property
    def _links(self) -> dict[str, int]:
        table = self.message(_TABLE)
        found = list(self._old_links(table)) if table else list(self._new_links())
        links = dict(found)
        if len(links) != len(found) or any(name in ("", ".", "..") or "/" in name for name in links):
            raise self.fault(
                "names that cannot be", "different names, without slashes", ", ".join(list(links)[:8])[:200]
            )
        return links

    def _new_links(self) -> Iterator[tuple[str, int]]:
        """Links as messages of the header."""
        info = self.message(_LINK_INFO)
        if info is not None:
            flags = info.number(2) >> 8
            info.take(8 if flags & 1 else 0)
            if info.number(8) != UNDEFINED:
                raise self.unsupported("names in a heap of their own (track_order, or libver='latest' with many names)")
        for message in self.messages:
            if message.kind == _LINK:
                self.file.count_links(1)
                yield self._link(Cursor(message.content, self.fault))

    def _link(self, cursor: Cursor) -> tuple[str, int]:
        version, flags = cursor.number(1), cursor.number(1)
        if version != 1:
            raise self.fault("a name of an unknown kind", "version 1", f"version {version}")
        kind = cursor.number(1) if flags & 8 else 0
        cursor.take((8 if flags & 4 else 0) + (1 if flags & 16 else 0))
        name = self._name(cursor.take(cursor.number(1 << (flags & 3))))
        return name, cursor.number(8) if kind == 0 else _SOFT

    def _old_links(self, table: Cursor) -> Iterator[tuple[str, int]]:
        """Links in a symbol table: a tree of nodes, whose names stand in a heap."""
        tree, heap_address = table.number(8), table.number(8)
        heap = self.file.cursor(heap_address, 32)
        heap.expect(b"HEAP\0", "heap of names")
        heap.take(3)
        size, _, place = heap.number(8), heap.number(8), heap.number(8)
        names = self.file.cursor(place, size).content
        for address in self._leaves(tree):
            head = self.file.cursor(address, 8)
            head.expect(b"SNOD\x01", "symbol table")
            head.take(1)
            count = head.number(2)
            self.file.count_links(count)
            entries = self.file.cursor(address + 8, 40 * count)
            for _ in range(count):
                at, target, kind = entries.number(8), entries.number(8), entries.number(4)
                entries.take(20)
                if at >= len(names):
                    raise self.fault("a name stands outside the heap of names", f"below {len(names)}", str(at))
                raw = names[at : at + _MOST_NAME_BYTES + 1].partition(b"\0")[0]
                yield self._name(raw), (_SOFT if kind == 2 else target)

    def _leaves(self, root: int) -> Iterator[int]:
        seen: set[int] = set()
        todo = [(root, _MOST_LEVELS)]
        while todo:
            address, level_above = todo.pop()
            if address in seen:
                raise self.fault("its names go round in circles", "each part once", f"twice the one at {address}")
            seen.add(address)
            head = self.file.cursor(address, 24)
            head.expect(b"TREE\0", "tree of names")
            level, count = head.number(1), head.number(2)
            if level >= level_above:
                raise self.fault("its tree of names is damaged", f"a level below {level_above}", str(level))
            self.file.count_links(count)
            entries = self.file.cursor(address + 32, 16 * count)
            children = [
                int.from_bytes(entries.content[place : place + 8], "little") for place in range(0, 16 * count, 16)
            ]
            if level:
                todo += [(child, level) for child in reversed(children)]
            else:
                yield from children

    def _name(self, raw: bytes) -> str:
        above = len(self.path.encode()) + 1 if self.path else 0
        if above + len(raw) > _MOST_NAME_BYTES:
            got = f"'{self.path[:40]}/{raw[:40]!r}' ..."
            raise self.fault("an absurdly long name", f"a path of at most {_MOST_NAME_BYTES} bytes", got)
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise self.fault("a name that is not UTF-8", "UTF-8", repr(raw[:40])) from error


class Dataset(Node):
    """An array, not read yet."""

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Lengths of its axes.

        Raises:
            FormatError: unknown.
        """
        found = self.message(_SPACE)
        shape = read_shape(found) if found else None
        if shape is None:
            raise self.fault("an array without numbers", "a shape", "none")
        return shape

    @cached_property
    def type(self) -> Type:
        """Type of its elements.

        Raises:
            FormatError: unknown.
        """
        found = self.message(_TYPE)
        if found is None:
            raise self.fault("an array without a type")
        return read_type(found)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of its numbers.

        Raises:
            FormatError: they are no numbers.
        """
        if self.type.dtype is not None:
            return self.type.dtype
        if self.type.name == "opaque2" and self.text("dtype") == _BFLOAT16:
            return BFLOAT16
        raise self.fault("no numbers", "an array of numbers", self.type.name)

    def stored(self) -> Stored:
        """Its numbers, where they stand.

        Raises:
            FormatError: they do not stand in the file, or are no numbers.
            UnsupportedError: kept in a way that is not read.
        """
        shape, dtype = self.shape, self.dtype
        if any(message.kind == _EXTERNAL for message in self.messages):
            raise self.fault("it stands in another file", "an array in the file itself", "external storage")
        layout = self.message(_LAYOUT)
        if layout is None:
            raise self.fault("an array that is nowhere")
        version, kind = layout.number(1), layout.number(1)
        if kind == 3:
            raise self.fault("it stands in another file", "an array in the file itself", "a virtual dataset")
        if version not in (3, 4) or kind > 2 or (version == 4 and kind == 2):
            raise self.unsupported(f"an array in layout {version}, class {kind}")
        if kind == 2:
            return self._chunked(layout, shape, dtype)
        if kind == 0:
            content = layout.take(layout.number(2))
            return self._in_header(content, shape, dtype)
        if self.message(_FILTERS) is not None:
            raise self.fault("filters of an array that is not in chunks")
        address = layout.number(8)
        if address == UNDEFINED:
            if not np.prod(shape):
                return np.zeros(shape, dtype)
            raise self.fault("its numbers were never written", f"{shape}", "no place in the file")
        return self.file.source.tensor(self.file.base + address, shape, dtype, self.path)

    def _in_header(self, content: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Stored:
        count = int(np.prod(shape, dtype=np.int64))
        if len(content) < count * dtype.itemsize:
            raise self.fault("it is cut short", f"{count * dtype.itemsize} bytes", f"{len(content)}")
        return np.frombuffer(content, dtype, count).reshape(shape)

    def _chunked(self, layout: Cursor, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Stored:
        rank = layout.number(1) - 1
        root = layout.number(8)
        extent = tuple(layout.number(4) for _ in range(max(rank, 0)))
        filters = self.message(_FILTERS)
        return chunked(self, shape, dtype, extent, root, read_filters(filters) if filters else ())


__all__ = ["SIGNATURE", "Dataset", "Group", "Source", "opened"]
