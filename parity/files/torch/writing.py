"""Writes the `.pt` file of a state dict, tensor by tensor, as `torch.save` lays it out.

Source: torch's `serialization.py`, `_save`, and `caffe2/serialize/inline_container.cc` (records are stored, their bytes start at a multiple
of 64, version 3).
"""

from __future__ import annotations

import pickle
import struct
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, BinaryIO

import numpy as np

from parity.deferred import Array, Deferred
from parity.errors import ShapeError, UnsupportedError
from parity.files.stored import BFLOAT16, Blocks
from parity.files.torch.checkpoint import DESCRIPTION_KEY
from parity.files.torch.rebuild import STORAGES

_ALIGNMENT, _HEADER_BYTES, _ZIP64_BYTES, _ZIP_DATE = 64, 30, 20, (1980, 1, 1, 0, 0, 0)
_NAMES = {dtype: name for name, dtype in STORAGES.items()}
_MODULE_VERSION = 1
"""`torch.nn.Module._version`, which every entry of a `_metadata` begins with."""


def write(arrays: Mapping[str, Array | Deferred | Blocks], file: BinaryIO, description: str | None = None) -> None:
    """Write a file that `torch.load(weights_only=True)` opens as a state dict; the same bytes for the same tensors.

    Args:
        arrays: by name. Of a `Deferred` or `Blocks` no more than one tensor or block is in memory at a time.
        file: open for writing; it need not be able to seek.
        description: text that is kept in the state dict's `_metadata`, which torch hands on and otherwise ignores.

    Raises:
        UnsupportedError: tensors of a type that torch has no storage for.
        ShapeError: blocks that are more or less than their tensor.

    Example:
        >>> import io
        >>> first, second = io.BytesIO(), io.BytesIO()
        >>> for file in (first, second): write({"x": np.ones((2, 3), np.float32)}, file, "two by three")
        >>> first.getvalue() == second.getvalue()
        True
    """
    types = {name: _little(array.dtype) for name, array in arrays.items()}
    unknown = [f"{name}: {dtype}" for name, dtype in types.items() if dtype not in _NAMES]
    if unknown:
        raise UnsupportedError(
            "torch has no storage for this type",
            expected="float32",
            got=", ".join(unknown),
            remedy="convert them to float32",
        )
    shapes = {name: tuple(map(int, array.shape)) for name, array in arrays.items()}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        content = _pickled(shapes, types, description)
        _write_record(archive, "archive/data.pkl", len(content), [memoryview(content)])
        _write_record(archive, "archive/byteorder", 6, [memoryview(b"little")])
        for number, (name, array) in enumerate(arrays.items()):
            size = _count(shapes[name]) * types[name].itemsize
            _write_record(archive, f"archive/data/{number}", size, _blocks(array, types[name]), name)
        _write_record(archive, "archive/version", 2, [memoryview(b"3\n")])


def write_tensors(arrays: Mapping[str, Array], file: BinaryIO) -> None:
    """`write` without a description."""
    write(arrays, file)


def _little(dtype: Any) -> np.dtype[Any]:
    found: np.dtype[Any] = np.dtype(dtype)
    return found if found == BFLOAT16 else found.newbyteorder("<")


def _count(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=np.int64))


def _blocks(array: Array | Deferred | Blocks, dtype: np.dtype[Any]) -> Iterator[memoryview]:
    """The bytes of a tensor in C order, piece by piece."""
    pieces = array.blocks() if isinstance(array, Blocks) else iter([np.asarray(array)])
    for piece in pieces:
        whole = np.asarray(piece, dtype, order="C")
        yield whole.reshape(-1).view(np.uint8).data


def _write_record(
    archive: zipfile.ZipFile, name: str, size: int, content: Iterable[memoryview], tensor: str = ""
) -> None:
    """A stored member whose bytes start at a multiple of 64, as torch maps them into memory."""
    info = zipfile.ZipInfo(name, _ZIP_DATE)
    info.file_size = size
    large = size >= zipfile.ZIP64_LIMIT // 2
    start = archive.start_dir + _HEADER_BYTES + len(name) + 4 + (_ZIP64_BYTES if large else 0)
    padding = -start % _ALIGNMENT
    info.extra = b"FB" + struct.pack("<H", padding) + b"Z" * padding
    written = 0
    with archive.open(info, "w", force_zip64=large) as member:
        for block in content:
            member.write(block)
            written += block.nbytes
            if written > size:
                break
    if written != size:
        raise ShapeError(
            "the blocks of a tensor are not the tensor", tensor, f"{size} bytes", f"{written} bytes or more"
        )


def _pickled(
    shapes: Mapping[str, tuple[int, ...]], types: Mapping[str, np.dtype[Any]], description: str | None
) -> bytes:
    """A protocol 2 pickle of an OrderedDict of tensors, storage N for the Nth."""
    empty = _global("collections", "OrderedDict") + pickle.EMPTY_TUPLE + pickle.REDUCE
    items = []
    for number, (name, shape) in enumerate(shapes.items()):
        storage = pickle.MARK + _text("storage") + _global("torch", _NAMES[types[name]])
        storage += _text(str(number)) + _text("cpu") + _whole(_count(shape)) + pickle.TUPLE + pickle.BINPERSID
        strides = [_count(shape[axis + 1 :]) for axis in range(len(shape))]
        tensor = _global("torch._utils", "_rebuild_tensor_v2") + pickle.MARK + storage + _whole(0)
        tensor += _tuple(shape) + _tuple(strides) + pickle.NEWFALSE + empty + pickle.TUPLE + pickle.REDUCE
        items.append(_text(name) + tensor)
    state = b""
    if description is not None:
        root = pickle.EMPTY_DICT + pickle.MARK + _text("version") + _whole(_MODULE_VERSION)
        root += _text(DESCRIPTION_KEY) + _text(description) + pickle.SETITEMS
        metadata = empty + _text("") + root + pickle.SETITEM
        state = pickle.EMPTY_DICT + _text("_metadata") + metadata + pickle.SETITEM + pickle.BUILD
    return pickle.PROTO + b"\x02" + empty + pickle.MARK + b"".join(items) + pickle.SETITEMS + state + pickle.STOP


def _global(module: str, name: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def _text(value: str) -> bytes:
    encoded = value.encode("utf-8", "surrogatepass")
    return pickle.BINUNICODE + struct.pack("<I", len(encoded)) + encoded


def _whole(value: int) -> bytes:
    encoded = pickle.encode_long(value)
    return pickle.LONG1 + bytes([len(encoded)]) + encoded


def _tuple(values: Iterable[int]) -> bytes:
    return pickle.MARK + b"".join(_whole(value) for value in values) + pickle.TUPLE
