"""Model files: one module for each format, by suffix. Imports no framework, except lazily for `.onnx`."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from parity.deferred import Blocks
from parity.errors import FormatError, ParityError, Problem, UnsupportedError
from parity.files import keras_file, keras_h5, npz_file, safetensors_file, saved_model, tensorflow_places, torch_file
from parity.files.description import describe, network_of, tensors_of
from parity.files.keras_legacy_writing import write_legacy_h5
from parity.files.keras_writing import write_keras, write_weights_h5
from parity.files.npz_file import read_inputs
from parity.files.state_dict import network_from_state_dict
from parity.files.stored import Contents
from parity.files.target import check_target, plain_errors, unfinished
from parity.files.unnamed import in_order
from parity.frameworks import framework
from parity.network.graph import Network
from parity.network.keras.recognition import recognised


@dataclass(frozen=True)
class Format:
    """A file format.

    Args:
        engine: the one that opens such a file by itself, None where none does.
        read: describes a file that exists and is not empty; the network may be partial.
        write: writes a network to an open binary file; None where the format is only read.
        weights_alone: whether it cannot say the network, only its weights.
    """

    engine: str | None
    read: Callable[[Path], Network]
    write: Callable[[Network, BinaryIO], None] | None = None
    weights_alone: bool = False


def _named_tensors(
    read_contents: Callable[[Path], Contents],
    write_tensors: Callable[[Mapping[str, Blocks], BinaryIO, str | None], None] | None = None,
    engine: str | None = None,
) -> Format:
    """A format of named tensors, in which parity's own description may stand beside them."""

    def read(path: Path) -> Network:
        contents = read_contents(path)
        if contents.description is not None:
            return network_of(contents.description, contents.tensors, str(path))
        try:
            network = _network_from_names(contents, path.stem)
        except ParityError as error:
            problems = [Problem(p.what, f"{p.where} of {path}", p.expected, p.got, p.remedy) for p in error.problems]
            raise type(error)(problems) from error
        found = [Problem("it holds a program", str(path), "tensors alone", contents.form, contents.program)]
        problems = [*(found if contents.program else ()), *network.problems]
        details = {"file": contents.form, **contents.details, **network.details}
        return replace(network, details=details, problems=tuple(problems))

    def write(network: Network, file: BinaryIO) -> None:
        if write_tensors is not None:
            write_tensors(tensors_of(network), file, describe(network))

    return Format(engine, read, write if write_tensors else None)


def _network_from_names(contents: Contents, name: str) -> Network:
    """Recurrent layers by the names that torch gives their weights, or else by those of Keras, or by order and shapes."""
    tensors = contents.tensors
    unnamed = in_order(tensors)
    if unnamed is not None:
        return recognised(unnamed, None, name)
    if not any(_KERAS_NAME.search(key) for key in tensors):
        return network_from_state_dict(tensors, name, contents.options)
    slashed = {key.replace(".", "/"): tensor for key, tensor in tensors.items()}
    return recognised(saved_model.groups(Contents(slashed, "")), None, name)


def _read_onnx(path: Path) -> Network:
    network: Network = framework("onnxruntime").read_file(path)
    return network


def _write_onnx(network: Network, file: BinaryIO) -> None:
    framework("onnxruntime").write_file(network, file)


_TORCH = _named_tensors(torch_file.read, torch_file.write, "torch")

SUFFIXES: dict[str, Format] = {
    ".keras": Format("keras", keras_file.read, write_keras),
    ".weights.h5": Format(None, keras_h5.read, write_weights_h5, weights_alone=True),
    ".h5": Format(None, keras_h5.read, write_legacy_h5),
    ".hdf5": Format(None, keras_h5.read, write_legacy_h5),
    ".pt": _TORCH,
    ".pth": _TORCH,
    ".jit": Format("torch", _TORCH.read),
    ".pt2": Format("torch", _TORCH.read),
    ".safetensors": _named_tensors(safetensors_file.read, safetensors_file.write, "torch"),
    ".npz": _named_tensors(npz_file.read, npz_file.write),
    ".onnx": Format("onnxruntime", _read_onnx, _write_onnx),
}
"""What is read and written, by the suffix of the file."""

_TENSORFLOW = (".pb", ".index", ".ckpt", ".meta", ".tflite")
"""Suffixes of TensorFlow's files; a SavedModel is a folder, and a checkpoint's prefix needs no suffix."""

_KERAS_NAME = re.compile(r"(^|[/._])recurrent_kernel(:0)?$")


def read_file(path: str | Path, config: str | Path | None = None) -> Network:
    """Describe the model in a file, by its suffix; the network may be partial.

    Args:
        path: a file, or the folder of a TensorFlow SavedModel.
        config: the architecture as JSON (Keras's `model.to_json()`), where a file of Keras holds weights alone.

    Raises:
        UnsupportedError: another suffix, or a model that is not kept exactly.
        FormatError: an empty, damaged or hostile file.
        ParityError: no such file, a folder, or not readable.
    """
    path = Path(path)
    with plain_errors(path, "read"):
        if _known_format(path) is None and path.exists() | path.with_name(path.name + ".index").exists():
            network = _network_of_tensorflow(path)
            if network is not None:
                return network
        if path.is_dir():
            expected = f"a TensorFlow SavedModel, or a file: {_known()}"
            raise ParityError("a folder, not a file", str(path), expected, "a folder", "give the file in it")
        if not path.exists():
            remedy = "check the name and the folder"
            raise ParityError("no such file", str(path), "a file that exists", "nothing there", remedy)
        form = _format(path)
        if not path.stat().st_size:
            remedy = "get the file anew, or save the model again"
            raise FormatError("the file is empty", str(path), f"a {path.suffix} file", "0 bytes", remedy)
        if config is None:
            return form.read(path)
        if form.read is not keras_h5.read:
            remedy = "leave the configuration out: this format has its own, or none"
            raise ParityError("a configuration is for the weights of Keras", str(path), ".h5", path.suffix, remedy)
        return keras_h5.read(path, Path(config))


def _network_of_tensorflow(path: Path) -> Network | None:
    """What a SavedModel or a checkpoint holds; None if it is nothing of TensorFlow's.

    Raises:
        UnsupportedError: a file of TensorFlow that only TensorFlow reads; says which.
    """
    if tensorflow_places.place_of(path) is not None:
        return saved_model.read_network(path)
    if path.is_file() and path.suffix.lower() in _TENSORFLOW and (refused := tensorflow_places.refusal(path)):
        raise refused
    return None


def weights_alone(path: Path) -> bool:
    """Whether a file of this name holds the weights of a network and not the network.

    Example:
        >>> weights_alone(Path("model.weights.h5")), weights_alone(Path("model.h5"))
        (True, False)
    """
    form = _known_format(path)
    return form is not None and form.weights_alone


def engine_of(path: Path) -> str | None:
    """The engine that opens a file by itself, by its suffix.

    Example:
        >>> engine_of(Path("model.keras"))
        'keras'
    """
    form = _known_format(path)
    return form.engine if form else None


def write_file(
    network: Network, path: str | Path, overwrite: bool = False, check: Callable[[Network], None] | None = None
) -> None:
    """Write a network to a file, by its suffix. The file appears whole or not at all.

    Args:
        network: what to write.
        path: the target.
        overwrite: whether a file that is there already may be replaced.
        check: is given the network that the new file holds, read back, before the file gets its name; what it raises
            leaves the target as it was.

    Raises:
        UnsupportedError: another suffix, or a network the format cannot hold.
        ParityError: the target is there already, its folder is not, or it cannot be written.
    """
    path = Path(path)
    with plain_errors(path, "written"):
        check_target(path, overwrite)
        form = _format(path)
        write = form.write
        if write is None:
            raise UnsupportedError(
                "this format is only read", str(path), _known(written=True), path.suffix, "choose one of these"
            )
        network.whole()
        with unfinished(path, overwrite) as part:
            with part.open("xb") as file:
                write(network, file)
                file.flush()
                os.fsync(file.fileno())
            if check is not None:
                check(form.read(part))


def _known_format(path: Path) -> Format | None:
    name = path.name.lower()
    found = [suffix for suffix in SUFFIXES if name.endswith(suffix)]
    return SUFFIXES[max(found, key=len)] if found else None


def _format(path: Path) -> Format:
    form = _known_format(path)
    if form is None:
        remedy = "name the file by its format"
        raise UnsupportedError("this suffix is not known", str(path), _known(), path.suffix or "no suffix", remedy)
    return form


def _known(written: bool = False) -> str:
    return ", ".join(suffix for suffix, form in SUFFIXES.items() if form.write or not written)


__all__ = [
    "SUFFIXES",
    "Format",
    "check_target",
    "engine_of",
    "read_file",
    "read_inputs",
    "unfinished",
    "weights_alone",
    "write_file",
]
