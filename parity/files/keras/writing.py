"""Networks as files of Keras: `.keras`, `.weights.h5`, and the `.h5` of Keras 2. Imports no framework.

Weights are written block by block from first to last, whatever the size of the model.

Sources: Keras 3 `keras/src/saving/saving_lib.py`; `save_model_to_hdf5` and `save_weights_to_hdf5_group` in
`keras/src/saving/legacy/hdf5_format.py` of Keras 2.15.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import IO, Any

import numpy as np

from parity.deferred import Blocks
from parity.files.hdf5.writing import Tree, hdf5_size, write_hdf5
from parity.network.graph import Network
from parity.network.keras.config import weight_paths
from parity.network.keras.layer_writing import cell_blocks, dtype_of
from parity.network.keras.writing import keras_from_network

METADATA, CONFIG, WEIGHTS = "metadata.json", "config.json", "model.weights.h5"

_KERAS_VERSION = "3.15.1"
"""The Keras whose format is written."""

_ZIP_DATE = (1980, 1, 1, 0, 0, 0)


def write_keras(network: Network, target: Path | IO[bytes]) -> None:
    """Write a `.keras` file that `keras.models.load_model` opens.

    The same network gives the same bytes, but for the date in metadata.json.

    Raises:
        UnsupportedError: what Keras's own layers cannot say; nothing is written then.
    """
    config = keras_from_network(network)
    tree = weights_tree(network, config)
    saved = datetime.now().strftime("%Y-%m-%d@%H:%M:%S")
    texts = {METADATA: {"keras_version": _KERAS_VERSION, "date_saved": saved}, CONFIG: config}
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, value in texts.items():
            archive.writestr(zipfile.ZipInfo(name, _ZIP_DATE), json.dumps(value).encode())
        info = zipfile.ZipInfo(WEIGHTS, _ZIP_DATE)
        info.file_size = hdf5_size(tree)
        with archive.open(info, "w") as member:
            write_hdf5(tree, member)


def write_weights_h5(network: Network, file: IO[bytes]) -> None:
    """Write the weights alone, for `load_weights` of the model that the `.keras` file of the same network holds (`.weights.h5`).

    Raises:
        UnsupportedError: what Keras's own layers cannot say; nothing is written then.
    """
    write_hdf5(weights_tree(network, keras_from_network(network)), file)


def weights_tree(network: Network, config: Mapping[str, Any]) -> Tree:
    """model.weights.h5 as Keras writes it: a group for each cell, and every layer's name beside it.

    Args:
        network: whose weights are written.
        config: `keras_from_network` of it.
    """
    tree = Tree()
    written = config["config"]["layers"]
    layers = [layer["config"]["name"] for layer in written if layer["class_name"] != "Activation"]
    tree.group("vars").attributes["name"] = config["config"]["name"]
    tree.group("layers/input_layer/vars").attributes["name"] = layers[0]
    paths = weight_paths(config)
    dtype = np.dtype(dtype_of(network.layers))
    for layer, name in zip(network.layers, layers[1:], strict=True):
        places = [place for place in paths[name] if place.endswith("/vars")]
        if places and places[0].count("/") > 2:
            tree.group("/".join([*places[0].split("/")[:2], "vars"])).attributes["name"] = name
        for path, cell in zip(places, cell_blocks(layer), strict=True):
            tree.group(path).attributes["name"] = name
            for number, blocks in enumerate(cell):
                tree.put(f"{path}/{number}", of_type(blocks, dtype))
    return tree


def of_type(blocks: Blocks, dtype: np.dtype[Any]) -> Blocks:
    """The same numbers in another type; float32 as float64 is exact."""
    if blocks.dtype == dtype:
        return blocks
    return Blocks(blocks.shape, dtype, lambda: (block.astype(dtype) for block in blocks.blocks()))


__all__ = ["CONFIG", "METADATA", "WEIGHTS", "write_keras", "write_weights_h5"]
