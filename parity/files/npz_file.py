"""`.npz` and `.npy` files: inputs, and the tensors of a model by name. Imports no framework.

Source: `numpy/lib/format.py` for the header of an array.
"""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy

from parity.deferred import LARGE_BYTES, Blocks
from parity.errors import FormatError, ParityError
from parity.files.archive import Archive
from parity.files.stored import Contents, Raw, Stored, Summed
from parity.recurrent import Array

DESCRIPTION = "parity.json"
"""The member that holds parity's own description; NumPy gives its bytes as they are."""

_WRITE = "numbers written by numpy.savez"
_SUFFIX, _ZIP_DATE, _MOST_TEXT, _MOST_HEADER = ".npy", (1980, 1, 1, 0, 0, 0), 1 << 26, 1 << 16


def read_inputs(path: Path) -> dict[str, Array]:
    """The arrays of an `.npz` file, or the one of an `.npy` file, by name; nothing is unpickled.

    Raises:
        FormatError: not an `.npz` file, or one that holds Python objects.
        ParityError: no such file.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "x.npz"
        >>> np.savez(path, x=np.ones((2, 3, 1)))
        >>> read_inputs(path)["x"].shape
        (2, 3, 1)
    """
    if not path.is_file():
        raise ParityError("no such file", str(path), "an .npz file", remedy="check the name and the folder")
    if path.suffix.lower() == _SUFFIX:
        content = path.read_bytes()
        return {path.stem: _array(content, str(path), "write it with numpy.save")}
    with Archive(path, "an .npz file", generous=True) as archive:
        return {
            name.removesuffix(_SUFFIX): _array(archive.read(name), f"{path}, '{name}'")
            for name in archive.names
            if name != DESCRIPTION
        }


def read(path: Path) -> Contents:
    """The tensors of an `.npz` file by name.

    Raises:
        FormatError: not an `.npz` file, or one that holds anything but numbers.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "x.npz"
        >>> np.savez(path, weight_hh_l0=np.ones((15, 5)))
        >>> read(path).tensors["weight_hh_l0"].shape
        (15, 5)
    """
    description = None
    tensors: dict[str, Stored] = {}
    with Archive(path, "an .npz file") as archive:
        for name in archive.names:
            if name == DESCRIPTION:
                description = _text(archive)
            else:
                tensors[name.removesuffix(_SUFFIX)] = _stored(archive, name)
    return Contents(tensors, "arrays in .npz", {}, description)


def _text(archive: Archive) -> str:
    try:
        return archive.read(DESCRIPTION, _MOST_TEXT).decode()
    except UnicodeDecodeError as error:
        raise archive.fault(f"'{DESCRIPTION}' is not text", "UTF-8", str(error)) from error


def _stored(archive: Archive, name: str) -> Stored:
    """One array: still in the file where it stands there as it is, else read."""
    size = archive.size(name)
    large = size >= LARGE_BYTES
    place = archive.place(name, checked=not large)
    if place is None:
        return _array(archive.read(name), f"{archive.path}, '{name}'")
    with archive.path.open("rb") as file:
        file.seek(place)
        head = io.BytesIO(file.read(min(size, _MOST_HEADER)))
    where = f"{archive.path}, '{name}'"
    shape, turned, dtype = _header(head, size, where)
    if turned and len(shape) > 1:
        return _array(archive.read(name), where)
    raw, crc = Raw(archive.path, place + head.tell(), shape, dtype), archive.checksum(name)
    if not large or crc is None:
        return raw
    return Summed(raw, crc, before=zlib.crc32(head.getvalue()[: head.tell()]))


def _header(stream: io.BytesIO, size: int, where: str, remedy: str = "") -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether in Fortran's order, and type of an array, once they are known to promise no more than is there."""
    try:
        version = npy.read_magic(stream)
        read_header: Any = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, turned, dtype = read_header(stream)
    except Exception as error:  # the header is a Python literal: its tokenizer and parser have errors of their own
        raise FormatError("an array that cannot be read", where, _WRITE, str(error), remedy) from error
    if dtype.hasobject:
        raise FormatError("an array of Python objects cannot be read", where, _WRITE, str(dtype), remedy)
    if any(length < 0 for length in shape) or math.prod(shape) * dtype.itemsize > size - stream.tell():
        got = f"{dtype} {shape} in {size} bytes"
        raise FormatError("an array claims more than the file holds", where, _WRITE, got, remedy)
    return shape, turned, dtype


def _array(content: bytes, where: str, remedy: str = "") -> Array:
    """One array, read."""
    stream = io.BytesIO(content)
    _header(stream, len(content), where, remedy)
    stream.seek(0)
    try:
        return np.asarray(np.load(stream, allow_pickle=False))
    except (ValueError, EOFError, OSError, TypeError) as error:
        raise FormatError("an array that cannot be read", where, _WRITE, str(error), remedy) from error


def write(tensors: Mapping[str, Blocks], file: BinaryIO, description: str | None = None) -> None:
    """Write an `.npz` file that `numpy.load` opens; the same bytes for the same tensors."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, blocks in tensors.items():
            header = io.BytesIO()
            described = {"descr": npy.dtype_to_descr(blocks.dtype), "fortran_order": False, "shape": blocks.shape}
            npy.write_array_header_1_0(header, described)
            info = zipfile.ZipInfo(name + _SUFFIX, _ZIP_DATE)
            with archive.open(info, "w", force_zip64=True) as member:
                member.write(header.getvalue())
                for block in blocks.blocks():
                    member.write(np.ascontiguousarray(block).reshape(-1).view(np.uint8).data)
        if description is not None:
            archive.writestr(zipfile.ZipInfo(DESCRIPTION, _ZIP_DATE), description)
