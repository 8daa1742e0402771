"""The `.safetensors` file: named tensors behind a JSON header. Imports no framework.

The library checks that the header fits the file before anything is read.
Source: https://github.com/huggingface/safetensors, format.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from parity.errors import FormatError, UnsupportedError
from parity.recurrent import Array

_NUMPY_TYPES = {"F32", "F64", "F16", "I64", "I32", "I16", "I8", "U8", "BOOL"}


def read_tensors(path: Path) -> dict[str, Array]:
    """The tensors of a `.safetensors` file by name.

    Raises:
        FormatError: a damaged file, or none of this format.
        UnsupportedError: a tensor of a type NumPy does not have (bfloat16).

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
            doubtful = [f"{name}: {kind}" for name, kind in types.items() if kind not in _NUMPY_TYPES]
            if doubtful:
                raise UnsupportedError(
                    "tensors that are not float32",
                    str(path),
                    "float32",
                    ", ".join(doubtful[:8]),
                    "save module.float().state_dict()",
                )
            return {name: file.get_tensor(name) for name in types}
    except (SafetensorError, OSError, ValueError, OverflowError) as error:
        raise FormatError(
            f"{path.name} is not a .safetensors file, or a damaged one",
            str(path),
            "a length, a JSON header and as many bytes as it says",
            str(error),
            "get the file anew, or save the tensors again",
        ) from error


def write_tensors(arrays: Mapping[str, Array], file: BinaryIO) -> None:
    """Write a `.safetensors` file that torch, too, takes for one of its own; the same bytes for the same arrays."""
    file.write(save({name: np.asarray(array, order="C") for name, array in arrays.items()}, metadata={"format": "pt"}))
