"""The `.keras` file: a zip of metadata.json, config.json and model.weights.h5. Imports no framework.

Every file is untrusted: sizes, links and shapes are checked before a weight is read. Source: Keras 3
`keras/src/saving/saving_lib.py`.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np

from parity.errors import FormatError, ParityError, Problem, ShapeError, UnsupportedError
from parity.files.archive import FETCH_ANEW, Archive
from parity.network.graph import Network
from parity.network.keras.config import Stored, network_from_keras, weight_paths
from parity.network.keras.layer_writing import cell_arrays, dtype_of
from parity.network.keras.writing import keras_from_network
from parity.recurrent import Array

METADATA, CONFIG, WEIGHTS = "metadata.json", "config.json", "model.weights.h5"

_KERAS_VERSION = "3.15.1"
"""The Keras whose format is written."""

_DETAILS = ("keras_version", "date_saved")
_MOST_JSON_BYTES, _MOST_JSON_DEPTH = 1 << 26, 100
_H5_ERRORS = (OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError)
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)


def read(path: Path) -> Network:
    """Read a `.keras` file.

    Returns:
        The network; `details` has the Keras version and the date it was saved.

    Raises:
        FormatError: not a `.keras` file, or a damaged or hostile one.
        UnsupportedError: a model that is not kept exactly; all problems at once.
    """
    with Archive(path, "a .keras file") as archive:
        metadata = _json(archive, METADATA) if METADATA in archive.names else {}
        config = _json(archive, CONFIG)
        try:
            with _opened(archive) as weights:
                network = network_from_keras(config, lambda name: _stored(archive, weights, weight_paths(config)[name]))
        except UnsupportedError as error:
            raise UnsupportedError(_in_file(path, error)) from error
        except (FormatError, ShapeError) as error:
            raise FormatError(_in_file(path, error, FETCH_ANEW)) from error
    details = {key: str(value)[:80] for key, value in metadata.items() if key in _DETAILS}
    return replace(network, details={**details, **network.details})


def write(network: Network, target: Path | BinaryIO) -> None:
    """Write a `.keras` file that `keras.models.load_model` opens.

    The same network gives the same bytes, but for the date in metadata.json.

    Raises:
        UnsupportedError: what Keras's own layers cannot say; nothing is written then.
    """
    config = keras_from_network(network)
    saved = datetime.now().strftime("%Y-%m-%d@%H:%M:%S")
    members = {
        METADATA: json.dumps({"keras_version": _KERAS_VERSION, "date_saved": saved}).encode(),
        CONFIG: json.dumps(config).encode(),
        WEIGHTS: _h5(network, config),
    }
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name, _ZIP_DATE), content)


def _in_file(path: Path, error: ParityError, remedy: str = "") -> list[Problem]:
    return [
        replace(
            problem,
            where=problem.where if str(path) in problem.where else f"{problem.where} of {path}",
            remedy=problem.remedy or remedy,
        )
        for problem in error.problems
    ]


def _json(archive: Archive, name: str) -> dict[str, Any]:
    content = archive.read(name, _MOST_JSON_BYTES)
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise archive.fault(f"'{name}' is not JSON", "JSON", str(error) or "too many levels") from error
    if not isinstance(value, dict):
        raise archive.fault(f"'{name}' does not hold a JSON object", "an object", type(value).__name__)
    level: list[Any] = [value]
    for _ in range(_MOST_JSON_DEPTH):
        children = [child for item in level for child in (item.values() if isinstance(item, dict) else item)]
        level = [child for child in children if isinstance(child, (dict, list))]
        if not level:
            return value
    raise archive.fault(f"'{name}' is nested too deeply", f"at most {_MOST_JSON_DEPTH} levels", "more")


# ---- weights


@contextmanager
def _opened(archive: Archive) -> Iterator[h5py.File]:
    """The HDF5 file inside the archive; what goes wrong while it is read is a `FormatError`."""
    content = io.BytesIO(archive.read(WEIGHTS))
    try:
        with h5py.File(content, "r") as file:
            yield file
    except _H5_ERRORS as error:
        raise archive.fault(f"'{WEIGHTS}' cannot be read", "a whole HDF5 file", str(error).split("\n")[0]) from error


def _stored(archive: Archive, file: h5py.File, groups: Sequence[str]) -> list[Stored]:
    """The datasets "0", "1", ... of each group, not read yet."""
    found: list[Stored] = []
    for path in groups:
        group: Any = file
        for depth, part in enumerate(path.split("/"), 1):
            group = _member(archive, group, part, "/".join(path.split("/")[:depth]))
        if not isinstance(group, h5py.Group):
            raise archive.fault(f"'{path}' in '{WEIGHTS}' is not a group", "a group of weights", type(group).__name__)
        names = [str(number) for number in range(len(group))]
        found += [
            _checked(archive, _member(archive, group, name, f"{path}/{name}"), f"{path}/{name}") for name in names
        ]
    return found


def _member(archive: Archive, group: Any, name: str, path: str) -> Any:
    """A member of an HDF5 group that stands in this very file."""
    present = list(group.keys()) if isinstance(group, h5py.Group) else []
    if name not in present:
        raise archive.fault(f"weights '{path}' are missing in '{WEIGHTS}'", path, ", ".join(present[:8]) or "nothing")
    link = group.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink):
        raise archive.fault(f"'{path}' in '{WEIGHTS}' is a link", "a weight in the file itself", type(link).__name__)
    return group[name]


def _checked(archive: Archive, dataset: Any, path: str) -> Stored:
    if not isinstance(dataset, h5py.Dataset):
        raise archive.fault(f"'{path}' in '{WEIGHTS}' is not an array", "an array", type(dataset).__name__)
    if dataset.external or dataset.is_virtual:
        raise archive.fault(
            f"'{path}' in '{WEIGHTS}' stands in another file", "a weight in the file itself", "external storage"
        )
    most = archive.size(WEIGHTS)
    if dataset.nbytes > most:
        expected = f"at most {most} bytes, the size of '{WEIGHTS}'"
        raise archive.fault(
            f"'{path}' claims more than the file holds", expected, f"{dataset.nbytes} bytes, {dataset.shape}"
        )
    if dataset.dtype.kind == "V" and dataset.attrs.get("dtype") == "bfloat16":
        return _BFloat16(dataset)
    stored: Stored = dataset
    return stored


class _BFloat16:
    """A dataset of bfloat16, which HDF5 does not know: Keras writes its two bytes and says so in an attribute."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset
        self.shape: tuple[int, ...] = dataset.shape
        self.dtype = _Bytes("bfloat16")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """The numbers as float32, whose upper half a bfloat16 is."""
        halves = np.asarray(self._dataset[()]).view(np.uint16).astype(np.uint32)
        return (halves << 16).view(np.float32)


@dataclass(frozen=True)
class _Bytes:
    """The name of a type that NumPy does not have."""

    name: str


def _h5(network: Network, config: Mapping[str, Any]) -> bytes:
    """model.weights.h5 as Keras writes it: a group for each cell, and every layer's name beside it."""
    content = io.BytesIO()
    layers = [layer["config"]["name"] for layer in config["config"]["layers"]]
    paths = weight_paths(config)
    with h5py.File(content, "w") as file:
        _named_group(file, "vars", config["config"]["name"])
        _named_group(file, "layers/input_layer/vars", layers[0])
        dtype = dtype_of(network.layers)
        for layer, name in zip(network.layers, layers[1:], strict=True):
            places = paths[name]
            if places and places[0].count("/") > 2:
                _named_group(file, "/".join([*places[0].split("/")[:2], "vars"]), name)
            for path, arrays in zip(places, cell_arrays(layer), strict=True):
                group = _named_group(file, path, name)
                for number, array in enumerate(arrays):
                    group[str(number)] = array.astype(dtype, copy=False)
    return content.getvalue()


def _named_group(file: h5py.File, path: str, name: str) -> Any:
    group = file.create_group(path)
    group.attrs["name"] = name
    return group
