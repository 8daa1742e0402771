"""Files under the name `.keras`: a zip since Keras 2.13, what `save` of Keras 2.12 and older wrote under any name before. No framework."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from parity.files.hdf5 import SIGNATURE
from parity.files.keras import h5
from parity.files.keras.writing import CONFIG, METADATA, WEIGHTS, write_keras
from parity.files.keras.zipped import read_zip
from parity.network.graph import Network


def read(path: Path) -> Network:
    """Read a file called `.keras`, whichever of the two it is.

    Up to Keras 2.12 the suffix means HDF5: `is_hdf5_filepath` in `keras/saving/legacy/saving_utils.py`.

    Returns:
        The network, partial where a layer is not read; `details["file"]` says where the file is not what it is called.

    Raises:
        FormatError: neither of them, or a damaged or hostile one.
        UnsupportedError: a model that is not read at all.
    """
    with path.open("rb") as file:
        hdf5 = file.read(len(SIGNATURE)) == SIGNATURE
    if not hdf5:
        return read_zip(path)
    network = h5.read(path)
    return replace(
        network, details={"file": "HDF5, as .h5: before 2.13 Keras wrote it under this name, too", **network.details}
    )


write = write_keras

__all__ = ["CONFIG", "METADATA", "WEIGHTS", "read", "write"]
