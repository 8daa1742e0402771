"""The `.safetensors` file: named tensors behind a JSON header. Imports no framework.

The library checks that the header fits the file before anything is read.
Source: https://github.com/huggingface/safetensors, format.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
from safetensors import SafetensorError, deserialize, safe_open
from safetensors.numpy import save

from parity.errors import FormatError, UnsupportedError
from parity.files.bfloat16 import from_bfloat16
from parity.recurrent import Array

_NUMPY_TYPES = {"F32", "F64", "F16", "I64", "I32", "I16", "I8", "U8", "BOOL"}
_BFLOAT16 = "BF16"


def read_tensors(path: Path) -> dict[str, Array]:
    """The tensors of a `.safetensors` file by name.

    Raises:
        FormatError: a damaged file, or none of this format.
        UnsupportedError: a tensor of an 8-bit or other type that holds no weights; bfloat16 is read as float32, exactly.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.safetensors"
        >>> with path.open("wb") as file: write_tensors({"x": np.ones((2, 3), np.float32)}, file)
        >>> read_tensors(path)["x"].shape
        (2, 3)
    """
    try:
        with safe_open(path, framework="np") as file:
            names = list(file.keys())
            types = {name: str(file.get_slice(name).get_dtype()) for name in names}
            doubtful = [f"{name}: {kind}" for name, kind in types.items() if kind not in _NUMPY_TYPES | {_BFLOAT16}]
            if doubtful:
                raise UnsupportedError(
                    "tensors of a type that is not read",
                    str(path),
                    ", ".join(sorted(_NUMPY_TYPES | {_BFLOAT16})),
                    ", ".join(doubtful[:8]),
                    "save module.float().state_dict()",
                )
            plain = {name: file.get_tensor(name) for name, kind in types.items() if kind != _BFLOAT16}
        found = {**plain, **_halves(path, types)}
        return {name: found[name] for name in names}
    except (SafetensorError, OSError, ValueError, OverflowError) as error:
        raise FormatError(
            f"{path.name} is not a .safetensors file, or a damaged one",
            str(path),
            "a length, a JSON header and as many bytes as it says",
            str(error),
            "get the file anew, or save the tensors again",
        ) from error


def _halves(path: Path, types: Mapping[str, str]) -> dict[str, Array]:
    """The bfloat16 tensors, from their bytes: the library has no NumPy type for them."""
    if _BFLOAT16 not in types.values():
        return {}
    return {
        name: from_bfloat16(np.frombuffer(raw["data"], "<u2").reshape(raw["shape"]))
        for name, raw in deserialize(path.read_bytes())  # type: ignore[no-untyped-call]  # the library has no type for it
        if raw["dtype"] == _BFLOAT16
    }


def write_tensors(arrays: Mapping[str, Array], file: BinaryIO) -> None:
    """Write a `.safetensors` file that torch, too, takes for one of its own; the same bytes for the same arrays."""
    file.write(save({name: np.asarray(array, order="C") for name, array in arrays.items()}, metadata={"format": "pt"}))
