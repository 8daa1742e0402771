"""HDF5 files written from first byte to last, arrays block by block: straight into a file, or into a member of a zip archive.

All addresses follow from names, shapes and texts alone, so that the structure comes first and the numbers after it, and nothing has to be
held or turned back to: libhdf5 turns back, which a member of a zip archive does not allow. The structure is the one that h5py writes by
default, with which every Keras opens it.

Source: HDF5 File Format Specification 3.0: superblock 0 (II.A), groups as symbol tables (III.A to III.D), global heap (III.E), object
headers of version 1 with contiguous arrays (IV.A).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO

import numpy as np

from parity.deferred import Blocks
from parity.files.hdf5.header import SIGNATURE, UNDEFINED

Said = str | Sequence[str]
"""What an attribute says: a text, or a list of them."""

_LEAF, _TREE = 4, 16
"""Half the names in a symbol table node and half the children of a tree node, as h5py has them; the second grows with the groups."""

_SPACE, _TYPE, _FILL, _LAYOUT, _ATTRIBUTE, _TABLE = 1, 3, 5, 8, 12, 17
_TEXT_TYPE = bytes.fromhex("19010100100000001000000001000000" + "00000800")
"""Text of any length in UTF-8, as h5py writes it: elements stand in the global heap."""

_FLOATS = {
    4: struct.pack("<BBBBIHHBBBBI", 0x11, 0x20, 31, 0, 4, 0, 32, 23, 8, 0, 23, 127),
    8: struct.pack("<BBBBIHHBBBBI", 0x11, 0x20, 63, 0, 8, 0, 64, 52, 11, 0, 52, 1023),
}
_FILL_VALUE = bytes([2, 2, 2, 1, 0, 0, 0, 0])
_MOST_ATTRIBUTE_BYTES = 64512
"""`HDF5_OBJECT_HEADER_LIMIT` of Keras: longer lists are split."""


@dataclass
class Tree:
    """A group to be written.

    Args:
        members: groups and arrays by name; an array is of float32 or float64.
        attributes: by name.
    """

    members: dict[str, Tree | Blocks] = field(default_factory=dict)
    attributes: dict[str, Said] = field(default_factory=dict)

    def group(self, path: str) -> Tree:
        """The group at a path, made where it is not there yet."""
        node = self
        for name in filter(None, path.split("/")):
            inner = node.members.setdefault(name, Tree())
            if not isinstance(inner, Tree):
                raise TypeError(f"an array and a group are called {path}")
            node = inner
        return node

    def put(self, path: str, blocks: Blocks) -> None:
        """An array at a path."""
        above, _, name = path.rpartition("/")
        self.group(above).members[name] = blocks

    def say(self, name: str, texts: Sequence[str]) -> None:
        """A list of texts, split into name0, name1, ... as Keras does where it is long."""
        parts = 1
        while any(_list_bytes(part) > _MOST_ATTRIBUTE_BYTES for part in _split(texts, parts)):
            parts += 1
        if parts == 1:
            self.attributes[name] = list(texts)
        else:
            self.attributes |= {f"{name}{number}": part for number, part in enumerate(_split(texts, parts))}


def _split(texts: Sequence[str], parts: int) -> list[list[str]]:
    return [list(part) for part in np.array_split(np.asarray(texts, dtype=object), parts)]


def _list_bytes(texts: Sequence[str]) -> int:
    return len(texts) * max((len(text.encode()) for text in texts), default=0)


def write_hdf5(root: Tree, file: IO[bytes]) -> None:
    """Write a tree of groups and arrays as an HDF5 file.

    Args:
        root: the groups; every array is asked for its blocks once, in the order of the tree.
        file: is written to from where it stands on, in order.

    Example:
        >>> import h5py, io
        >>> root, file = Tree(attributes={"made by": "parity"}), io.BytesIO()
        >>> root.put("layer/kernel", Blocks((2, 3), np.dtype("f4"), lambda: iter([np.ones((2, 3), "f4")])))
        >>> write_hdf5(root, file)
        >>> with h5py.File(file) as opened: opened.attrs["made by"], float(opened["layer/kernel"][1, 2])
        ('parity', 1.0)
    """
    writing = _Writing(root)
    for piece in writing.structure():
        file.write(piece)
    for blocks in writing.arrays:
        written = 0
        for block in blocks.blocks():
            flat = np.ascontiguousarray(block, blocks.dtype.newbyteorder("<"))
            file.write(flat.reshape(-1).view(np.uint8).data)
            written += flat.nbytes
        if written != blocks.nbytes:
            raise ValueError(f"blocks of {written} bytes for an array of {blocks.nbytes}")
        file.write(bytes(-written % 8))


def hdf5_size(root: Tree) -> int:
    """Bytes of the file that `write_hdf5` writes; no array is asked for.

    Example:
        >>> hdf5_size(Tree()) > 96
        True
    """
    return _Writing(root).end


class _Writing:
    """The addresses of everything in a file.

    Args:
        root: what is to be written.
    """

    def __init__(self, root: Tree) -> None:
        self.root = root
        self.nodes = list(_nodes(root))
        self.arrays = [node for node in self.nodes if isinstance(node, Blocks)]
        most = max(len(node.members) for node in self.nodes if isinstance(node, Tree))
        self.children = max(_TREE, math.ceil(most / (4 * _LEAF)))
        self.texts = [
            text
            for node in self.nodes
            if isinstance(node, Tree)
            for text in node.attributes.values()
            if isinstance(text, str)
        ]
        place = 96
        self.heap = place
        self.collections = list(self._collections())
        place += sum(len(collection) for collection in self.collections)
        self.places: dict[int, int] = {}
        for node in self.nodes:
            self.places[id(node)] = place
            place += self._size(node)
        self.data: dict[int, int] = {}
        for blocks in self.arrays:
            self.data[id(blocks)] = place
            place += blocks.nbytes + -blocks.nbytes % 8
        self.end = place

    def structure(self) -> Iterator[bytes]:
        """Everything but the numbers, in order."""
        root = self.places[id(self.root)]
        sizes = struct.pack("<8BHHI", 0, 0, 0, 0, 0, 8, 8, 0, _LEAF, self.children, 0)
        yield (
            SIGNATURE
            + sizes
            + struct.pack("<4Q", 0, UNDEFINED, self.end, UNDEFINED)
            + struct.pack("<QQII16x", 0, root, 0, 0)
        )
        yield from self.collections
        self._said = iter(self._references())
        for node in self.nodes:
            yield self._array(node) if isinstance(node, Blocks) else self._group(node)

    def _collections(self) -> Iterator[bytes]:
        """Global heaps of all texts, each with as many as one can number."""
        most = 60_000
        for start in range(0, len(self.texts), most):
            content = b""
            for number, text in enumerate(self.texts[start : start + most], 1):
                raw = text.encode()
                content += struct.pack("<HHIQ", number, 1, 0, len(raw)) + _padded(raw)
            rest = max(4096 - 16 - len(content), 16)
            content += struct.pack("<HHIQ", 0, 0, 0, rest) + bytes(rest - 16)
            yield b"GCOL" + struct.pack("<B3xQ", 1, 16 + len(content)) + content

    def _references(self) -> Iterator[bytes]:
        """Where each text stands, in the order of the texts."""
        place, most = self.heap, 60_000
        for start, collection in zip(range(0, len(self.texts), most), self.collections, strict=True):
            for number, text in enumerate(self.texts[start : start + most], 1):
                yield struct.pack("<IQI", len(text.encode()), place, number)
            place += len(collection)

    def _size(self, node: Tree | Blocks) -> int:
        self._said = iter([bytes(16)] * len(self.texts))
        return len(self._array(node, 0) if isinstance(node, Blocks) else self._group(node, 0))

    def _array(self, blocks: Blocks, place: int | None = None) -> bytes:
        place = self.data[id(blocks)] if place is None else place
        address = place if blocks.nbytes else UNDEFINED
        messages = [
            (_SPACE, _space(blocks.shape)),
            (_TYPE, _FLOATS[blocks.dtype.itemsize]),
            (_FILL, _FILL_VALUE),
            (_LAYOUT, struct.pack("<BBQQ", 3, 1, address, blocks.nbytes)),
        ]
        return _header(messages)

    def _group(self, node: Tree, place: int | None = None) -> bytes:
        """Header, heap of names, tree and symbol table nodes of a group, one after the other."""
        start = self.places[id(node)] if place is None else place
        names = sorted(node.members, key=str.encode)
        offsets, heap = [], bytes(8)
        for name in names:
            offsets.append(len(heap))
            heap += _padded(name.encode() + b"\0")
        attributes = [(_ATTRIBUTE, self._attribute(name, said)) for name, said in node.attributes.items()]
        heap_at = start + len(_header([(_TABLE, bytes(16)), *attributes]))
        tree_at = heap_at + 32 + len(heap)
        nodes_at = tree_at + 24 + 16 * 2 * self.children + 8
        header = _header([(_TABLE, struct.pack("<QQ", tree_at, heap_at)), *attributes])
        heaped = b"HEAP" + struct.pack("<B3xQQQ", 0, len(heap), 1, heap_at + 32) + heap
        groups = [range(at, min(at + 2 * _LEAF, len(names))) for at in range(0, len(names), 2 * _LEAF)]
        size = 8 + 40 * 2 * _LEAF
        keys = [0, *(offsets[group[-1]] for group in groups)]
        entries = b"".join(struct.pack("<QQ", keys[at], nodes_at + at * size) for at in range(len(groups)))
        tree = (
            b"TREE"
            + struct.pack("<BBHQQ", 0, 0, len(groups), UNDEFINED, UNDEFINED)
            + entries
            + struct.pack("<Q", keys[-1])
        )
        tables = b"".join(
            self._table(node, [names[at] for at in group], [offsets[at] for at in group]) for group in groups
        )
        return header + heaped + tree.ljust(nodes_at - tree_at, b"\0") + tables

    def _table(self, node: Tree, names: Sequence[str], offsets: Sequence[int]) -> bytes:
        places = getattr(self, "places", {})
        entries = [
            struct.pack("<QQII16x", offset, places.get(id(node.members[name]), 0), 0, 0)
            for name, offset in zip(names, offsets, strict=True)
        ]
        head = b"SNOD" + struct.pack("<BxH", 1, len(names))
        return (head + b"".join(entries)).ljust(8 + 40 * 2 * _LEAF, b"\0")

    def _attribute(self, name: str, said: Said) -> bytes:
        if isinstance(said, str):
            kind, shape, content = _TEXT_TYPE, _space(()), next(self._said)
        else:
            raw = [text.encode() for text in said]
            width = max((len(text) for text in raw), default=1) or 1
            kind, shape = struct.pack("<BBBBI", 0x13, 0x01, 0, 0, width), _space((len(raw),))
            content = b"".join(text.ljust(width, b"\0") for text in raw)
        title = name.encode() + b"\0"
        head = struct.pack("<BxHHH", 1, len(title), len(kind), len(shape))
        return head + _padded(title) + _padded(kind) + _padded(shape) + content


def _nodes(root: Tree) -> Iterator[Tree | Blocks]:
    """Every group and array once, each group before what is in it."""
    todo: list[Tree | Blocks] = [root]
    while todo:
        node = todo.pop()
        yield node
        if isinstance(node, Tree):
            todo += [node.members[name] for name in sorted(node.members, reverse=True)]


def _header(messages: Sequence[tuple[int, bytes]]) -> bytes:
    """An object header of version 1."""
    content = b""
    for kind, message in messages:
        padded = _padded(message)
        content += struct.pack("<HHB3x", kind, len(padded), 0) + padded
    return struct.pack("<BxHII4x", 1, len(messages), 1, len(content)) + content


def _space(shape: tuple[int, ...]) -> bytes:
    return struct.pack("<BBB5x", 1, len(shape), 0) + struct.pack(f"<{len(shape)}Q", *shape)


def _padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % 8)
