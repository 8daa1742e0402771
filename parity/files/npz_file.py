"""`.npz` and `.npy` files of inputs."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from parity.errors import FormatError, ParityError
from parity.files.archive import Archive
from parity.recurrent import Array


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
    if path.suffix.lower() == ".npy":
        try:
            return {path.stem: np.load(path, allow_pickle=False)}
        except (ValueError, EOFError, OSError) as error:
            remedy = "write it with numpy.save"
            raise FormatError("an array that cannot be read", str(path), "numbers", str(error), remedy) from error
    with Archive(path, "an .npz file") as archive:
        arrays = {}
        for name in archive.names:
            try:
                arrays[name.removesuffix(".npy")] = np.load(io.BytesIO(archive.read(name)), allow_pickle=False)
            except (ValueError, EOFError, OSError) as error:
                raise FormatError(
                    "an array that cannot be read", f"{path}, '{name}'", "numbers written by numpy.savez", str(error)
                ) from error
    return arrays
