"""The `.safetensors` file: named tensors behind a JSON header. Imports no framework.

The library checks the header before anything is read; the numbers are read and written here, piece by piece, because the library
takes and gives whole files. Source: https://github.com/huggingface/safetensors, format.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from safetensors import SafetensorError, safe_open

from parity.ahead import ahead
from parity.deferred import Blocks
from parity.errors import FormatError, UnsupportedError
from parity.files.stored import BFLOAT16, Contents, Raw

DESCRIPTION = "parity"
"""The metadata key of parity's own description."""

TYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": BFLOAT16,
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
"""The format's types and NumPy's."""

_LENGTH, _ALIGNMENT = struct.Struct("<Q"), 8
_MOST_DETAILS = 16


def read(path: Path) -> Contents:
    """The tensors of a `.safetensors` file, not read yet, in the order in which they stand in it.

    Raises:
        FormatError: a damaged file, or none of this format.
        UnsupportedError: a tensor of an 8-bit floating point or other type that holds no weights.

    Example:
        >>> import tempfile
        >>> from parity.deferred import blocks_of
        >>> path = Path(tempfile.mkdtemp()) / "a.safetensors"
        >>> with path.open("wb") as file: write({"x": blocks_of(np.ones((2, 3), np.float32))}, file)
        >>> read(path).tensors["x"][1:]
        array([[1., 1., 1.]], dtype=float32)
    """
    try:
        with safe_open(path, framework="np") as file:
            metadata = dict(file.metadata() or {})
        with path.open("rb") as raw:
            length = _LENGTH.unpack(raw.read(_LENGTH.size))[0]
            header = json.loads(raw.read(length))
    except (SafetensorError, OSError, ValueError, OverflowError, RecursionError) as error:
        raise FormatError(
            f"{path.name} is not a .safetensors file, or a damaged one",
            str(path),
            "a length, a JSON header and as many bytes as it says",
            str(error),
            "get the file anew, or save the tensors again",
        ) from error
    entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
    doubtful = [f"{name}: {entry['dtype']}" for name, entry in entries.items() if entry["dtype"] not in TYPES]
    if doubtful:
        raise UnsupportedError(
            "tensors of a type that is not read",
            str(path),
            ", ".join(TYPES),
            ", ".join(doubtful[:8]),
            "save module.float().state_dict()",
        )
    start = _LENGTH.size + length
    ordered = sorted(entries.items(), key=lambda item: item[1]["data_offsets"])
    tensors = {
        name: Raw(path, start + entry["data_offsets"][0], tuple(entry["shape"]), TYPES[entry["dtype"]])
        for name, entry in ordered
    }
    description = metadata.pop(DESCRIPTION, None)
    details = {str(key)[:80]: str(value)[:80] for key, value in list(metadata.items())[:_MOST_DETAILS]}
    return Contents(tensors, "tensors in safetensors", details, description)


def write(tensors: Mapping[str, Blocks], file: BinaryIO, description: str | None = None) -> None:
    """Write a `.safetensors` file that torch, too, takes for one of its own; the same bytes for the same tensors.

    Raises:
        UnsupportedError: numbers of a type that the format does not have.
    """
    names = {dtype: name for name, dtype in TYPES.items()}
    unknown = [f"{name}: {blocks.dtype}" for name, blocks in tensors.items() if blocks.dtype not in names]
    if unknown:
        raise UnsupportedError(
            "the format has no such type", expected=", ".join(TYPES), got=", ".join(unknown), remedy="float32"
        )
    header: dict[str, Any] = {"__metadata__": {"format": "pt", **({DESCRIPTION: description} if description else {})}}
    # The widest numbers first, as the library does it, so that all of them are aligned.
    ordered = sorted(tensors.items(), key=lambda item: -item[1].dtype.itemsize)
    end = 0
    for name, blocks in ordered:
        start, end = end, end + blocks.nbytes
        header[name] = {"dtype": names[blocks.dtype], "shape": list(blocks.shape), "data_offsets": [start, end]}
    content = json.dumps(header, separators=(",", ":")).encode()
    content += b" " * (-len(content) % _ALIGNMENT)
    file.write(_LENGTH.pack(len(content)) + content)
    for block in ahead(chain.from_iterable(blocks.blocks() for _, blocks in ordered)):
        file.write(np.ascontiguousarray(block).reshape(-1).view(np.uint8).data)
