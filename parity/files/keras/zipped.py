"""The `.keras` file: a zip of metadata.json, config.json and model.weights.h5. Imports no framework.

Every file is untrusted: sizes, links and shapes are checked before a weight is read, and a weight is read where it stands in the zip.
Source: `keras/src/saving/saving_lib.py` of Keras 2.12 to 3.15.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from parity.errors import FormatError, Problem
from parity.files.archive import Archive
from parity.files.hdf5 import Source, opened
from parity.files.keras.model import in_file, model_from, producer
from parity.files.keras.trees import tree_network
from parity.files.keras.weights import TreeWeights, parsed
from parity.files.keras.writing import CONFIG, METADATA, WEIGHTS
from parity.network.graph import Network
from parity.network.keras.chain import MODEL_READERS
from parity.network.keras.options import CLASSES, shown

_MOST_JSON_BYTES = 1 << 26
_ZIP = b"PK\x03\x04"


def is_zip(path: Path) -> bool:
    """Whether a file begins as a zip does, whatever it is called."""
    with path.open("rb") as file:
        return file.read(len(_ZIP)) == _ZIP


def read_zip(path: Path) -> Network:
    """Read a `.keras` file of Keras 3, or of Keras 2.12 to 2.15.

    Returns:
        The network, partial where a layer is not read; `details` says who wrote it and when. Large weights stay in the file until they
        are asked for, but for a file that somebody has compressed.

    Raises:
        FormatError: not a `.keras` file, or a damaged or hostile one.
        UnsupportedError: a model that is not read at all.
    """
    with Archive(path, "a .keras file") as archive:
        metadata = _json(archive, METADATA) if METADATA in archive.names else {}
        config = _json(archive, CONFIG)
        version = metadata.get("keras_version")
        version = version if isinstance(version, str) else None
        if WEIGHTS not in archive.names and any(name.startswith("model.weights") for name in archive.names):
            name = next(name for name in archive.names if name.startswith("model.weights"))
            raise archive.fault(
                "its weights are not in one HDF5 file", WEIGHTS, name, "save it with model.save('m.keras') alone"
            )
        size, place = archive.size(WEIGHTS), archive.place(WEIGHTS)
        where = f"'{WEIGHTS}' of {path}"
        content = archive.read(WEIGHTS) if place is None else None
        source = Source(path, place or 0, size, content, where)
    own_class = _own_class(config)
    with opened(source) as root:
        if own_class is not None:
            network = tree_network(root, version or "3", path.stem, *in_file(path, [own_class]))
        else:
            network = model_from(
                path, config, version or "3", lambda serialized: TreeWeights(root, serialized, version)
            )
    saved = metadata.get("date_saved")
    said = producer(version) | ({"saved": saved.replace("@", " ")[:40]} if isinstance(saved, str) else {})
    return replace(network, details={**said, **network.details})


def _own_class(serialized: Mapping[str, Any]) -> Problem | None:
    """What is to be said of a model whose configuration has no layers, because its class is somebody's own."""
    class_name, config = serialized.get("class_name"), serialized.get("config")
    if not isinstance(class_name, str) or (
        isinstance(config, Mapping) and isinstance(config.get("layers"), (list, tuple))
    ):
        return None
    module = str(serialized.get("module"))
    if module.split(".", maxsplit=1)[0] == "keras" and class_name in {**MODEL_READERS, **CLASSES}:
        return None
    return Problem(
        "a model of its own class: its call() is code",
        "the model",
        "Sequential or Functional",
        shown(f"{class_name} of module {module}" if serialized.get("module") else class_name),
        "convert each of its recurrent layers by itself, or rebuild it as keras.Model(inputs, outputs)",
    )


def _json(archive: Archive, name: str) -> dict[str, Any]:
    def fault(what: str, expected: str, got: str) -> FormatError:
        return archive.fault(what, expected, got)

    return parsed(archive.read(name, _MOST_JSON_BYTES), name, fault)
