"""HDF5 files of Keras 1 to 3: whole models, and weights alone with or without the model's JSON beside them. Imports no framework.

Every file is untrusted; `parity.files.hdf5` reads it. Sources: `save_model` in `keras/models.py` of Keras 1.2.2 and 2.1.5,
`save_model_to_hdf5` in `hdf5_format.py` of tf.keras and in `legacy_h5_format.py` of Keras 3; `save_weights_only` in `saving_lib.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from parity.errors import FormatError
from parity.files.archive import FETCH_ANEW
from parity.files.hdf5 import Dataset, Group, Source, opened
from parity.files.keras.model import model_from, producer
from parity.files.keras.trees import tree_network
from parity.files.keras.weights import (
    NamedWeights,
    TreeWeights,
    by_layer,
    is_architecture,
    layer_names,
    parsed,
)
from parity.files.keras.zipped import is_zip, read_zip
from parity.network.graph import Network
from parity.network.keras.options import Config
from parity.network.keras.recognition import recognised
from parity.network.keras.weights import Weighted

_MODEL, _WEIGHTS, _VERSION, _BACKEND = "model_config", "model_weights", "keras_version", "backend"
_TRAINING = {"optimizer_weights": "the optimizer's weights", "training_config": "how the model was compiled"}
"""What a whole model holds beside the network."""

_MOST_JSON_BYTES = 1 << 26
_UNSAID = "1"
"""Keras 1 alone writes files without its version: `load_weights_from_hdf5_group` of Keras 2 takes them so, too."""

_CUT = ("", "_weights", ".weights", "-weights")
"""What a file of weights is called beyond the model's own name."""


def read(path: Path, config: Path | None = None) -> Network:
    """Read an HDF5 file of Keras, whichever of the three kinds it is; or a `.keras` file under the name of one.

    Args:
        path: a whole model, or weights alone.
        config: the model's JSON (`model.to_json()`, or the config.json of a `.keras` file) for weights alone; one beside the file
            with its name, less "_weights" or ".weights", is found without it.

    Returns:
        The network, partial where the model is not kept exactly. Of weights without a JSON what their names and shapes tell:
        `details["assumed"]` has the rest.

    Raises:
        FormatError: no such file, or a damaged or hostile one.
        UnsupportedError: a form of HDF5 that is not read.
    """
    if is_zip(path):
        _check_alone(path, config)
        network = read_zip(path)
        return replace(network, details={"file": f"a .keras file under the name {path.suffix}", **network.details})
    with opened(Source(path)) as root:
        said = {key: root.text(key) for key in (_VERSION, _BACKEND)}
        model = root.text(_MODEL)
        weights = root.group(_WEIGHTS) if _WEIGHTS in root and layer_names(root.group(_WEIGHTS)) is not None else root
        said = {key: value or weights.text(key) for key, value in said.items()}
        if model is not None:
            _check_alone(path, config)
            described = parsed(model, _MODEL, root.fault)
            trained = [what for key, what in _TRAINING.items() if key in root or root.text(key) is not None]
            left = {"left out": ", ".join(trained)} if trained else {}
            return _with_details(_whole(path, weights, described, said[_VERSION] or _UNSAID), said, left)
        legacy = layer_names(weights) is not None
        if not legacy and not _is_tree(root):
            expected = "a model (attribute model_config), or weights (attribute layer_names, or groups of vars)"
            got = ", ".join(root.names[:8]) or "nothing"
            raise FormatError("an HDF5 file, but none of Keras", str(path), expected, got, FETCH_ANEW)
        found = _architecture(path, config)
        if found is not None:
            said = {key: said[key] or _text(found[1].get(key)) for key in said}
            version = said[_VERSION] or (_UNSAID if legacy else "3")
            network = _whole(path, weights, found[1], version, legacy)
            return _with_details(network, said, {"architecture": f"from {found[0].name}"})
        name = path.stem.removesuffix(".weights")
        if legacy:
            return _with_details(recognised(by_layer(weights), said[_VERSION] or _UNSAID, name), said)
        return _with_details(tree_network(root, said[_VERSION] or "3", name), said)


def _check_alone(path: Path, config: Path | None) -> None:
    """A whole model has its own configuration; another one would not be heard."""
    if config is not None:
        what, got = "a configuration beside one: the file has its own", "a whole model"
        raise FormatError(what, str(path), "weights alone", got, "leave the configuration out")


def _whole(path: Path, group: Group, described: Config, version: str | None, legacy: bool = True) -> Network:
    """The network of a description of any age and of weights of any age."""
    by_order: dict[str, str] = {}

    def weights(serialized: Config) -> Weighted:
        if not legacy:
            return TreeWeights(group, serialized, version)
        named = NamedWeights(group, described)
        by_order.update(named.by_order)
        return named

    network = model_from(path, described, version, weights)
    if not by_order:
        return network
    order = ", ".join(f"{new} from {old}" for new, old in by_order.items())
    return replace(network, details={**network.details, "assumed": f"weights by the order of the layers: {order}"})


def _with_details(network: Network, said: Mapping[str, str | None], more: Mapping[str, str] | None = None) -> Network:
    return replace(network, details={**producer(said[_VERSION], said[_BACKEND]), **(more or {}), **network.details})


def _is_tree(root: Group) -> bool:
    """Whether it has variables as Keras 3 keeps them: arrays 0, 1, ... in groups called vars."""
    if any(name in root for name in ("layers", "vars", "_layer_checkpoint_dependencies")):
        return True
    return any(place.split("/")[-2:-1] == ["vars"] for place, node in root.walk() if isinstance(node, Dataset))


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _architecture(path: Path, config: Path | None) -> tuple[Path, dict[str, Any]] | None:
    """The model's JSON: the one that was given, or one beside the file that describes a model."""
    if config is not None:
        found = _json(config)
        if not is_architecture(found):
            raise FormatError(
                "no architecture of a Keras model", str(config), "what model.to_json() writes", "another JSON"
            )
        return config, found
    for stem in dict.fromkeys(path.stem.removesuffix(cut) for cut in _CUT):
        beside = path.with_name(f"{stem}.json")
        if stem and beside.is_file():
            try:
                found = _json(beside)
            except FormatError:
                continue
            if is_architecture(found):
                return beside, found
    return None


def _json(path: Path) -> dict[str, Any]:
    def fault(what: str, expected: str, got: str) -> FormatError:
        return FormatError(what, str(path), expected, got)

    size = path.stat().st_size
    if size > _MOST_JSON_BYTES:
        raise fault("a JSON file of absurd size", f"at most {_MOST_JSON_BYTES} bytes", f"{size} bytes")
    return parsed(path.read_bytes(), path.name, fault)
