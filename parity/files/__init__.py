"""Model files, by suffix. No framework is imported, except onnx for `.onnx`; and no format before it is needed."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from parity.errors import FormatError, ParityError, UnsupportedError
from parity.files.named_tensors import read_network, write_network
from parity.files.target import check_target, early_to_the_disk, plain_errors, unfinished
from parity.frameworks import framework
from parity.network.graph import Network


@dataclass(frozen=True)
class Format:
    """A file format.

    Args:
        engine: the one that opens such a file by itself, None where none does.
        read: describes a file that exists and is not empty; the network may be partial.
        write: writes a network to an open binary file; None where the format is only read.
        weights_alone: whether it cannot say the network, only its weights.
        takes_config: whether `read` takes the architecture in a file of its own.
    """

    engine: str | None
    read: Callable[..., Network]
    write: Callable[[Network, BinaryIO], None] | None = None
    weights_alone: bool = False
    takes_config: bool = False


def _later(room: str, name: str) -> Callable[..., Any]:
    """A function of a module in this package, which is imported when it is called."""

    def call(*arguments: Any) -> Any:
        return getattr(importlib.import_module(f"parity.files.{room}"), name)(*arguments)

    return call


def _named_tensors(room: str, engine: str | None, written: bool = True) -> Format:
    """A format of named tensors, in which parity's own description may stand beside them."""
    read, write = _later(room, "read"), _later(room, "write")
    return Format(
        engine,
        lambda path: read_network(read(path), path),
        (lambda network, file: write_network(network, file, write)) if written else None,
    )


def _keras_h5(write: Callable[..., Any], weights_alone: bool = False) -> Format:
    return Format(None, _later("keras.h5", "read"), write, weights_alone, takes_config=True)


def _read_onnx(path: Path) -> Network:
    network: Network = framework("onnxruntime").read_file(path)
    return network


def _write_onnx(network: Network, file: BinaryIO) -> None:
    framework("onnxruntime").write_file(network, file)


_LEGACY = _keras_h5(_later("keras.legacy_writing", "write_legacy_h5"))

SUFFIXES: dict[str, Format] = {
    ".keras": Format("keras", _later("keras.file", "read"), _later("keras.writing", "write_keras")),
    ".weights.h5": _keras_h5(_later("keras.writing", "write_weights_h5"), weights_alone=True),
    ".h5": _LEGACY,
    ".hdf5": _LEGACY,
    ".pt": _named_tensors("torch", "torch"),
    ".pth": _named_tensors("torch", "torch"),
    ".jit": _named_tensors("torch", "torch", written=False),
    ".pt2": _named_tensors("torch", "torch", written=False),
    ".safetensors": _named_tensors("safetensors_file", "torch"),
    ".npz": _named_tensors("npz_file", None),
    ".onnx": Format("onnxruntime", _read_onnx, _write_onnx),
}
"""What is read and written, by the suffix of the file."""

_TENSORFLOW = (".pb", ".index", ".ckpt", ".meta", ".tflite")
"""Suffixes of TensorFlow's files; a SavedModel is a folder, and a checkpoint's prefix needs no suffix."""


def read_file(path: str | Path, config: str | Path | None = None) -> Network:
    """Describe the model in a file, by its suffix; the network may be partial.

    Args:
        path: a file, or the folder of a TensorFlow SavedModel.
        config: the architecture as JSON (Keras's `model.to_json()`), where a file of Keras holds weights alone.

    Raises:
        UnsupportedError: another suffix, or a model of which nothing can be kept exactly.
        FormatError: an empty, damaged or hostile file.
        ParityError: no such file, a folder, or not readable.
    """
    path = Path(path)
    with plain_errors(path, "read"):
        if _known_format(path) is None and (path.exists() or path.with_name(f"{path.name}.index").exists()):
            network = _network_of_tensorflow(path)
            if network is not None:
                return network
        if (path / "model.py").is_file() or path.suffix.lower() == ".py":
            remedy = "import it, and give what its load() returns: parity.compare(source, model.load())"
            raise ParityError("code is not run from a file", str(path), "a model file", "Python code", remedy)
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
            return _read(form, path)
        if not form.takes_config:
            remedy = "leave the configuration out: this format has its own, or none"
            raise ParityError("a configuration is for the weights of Keras", str(path), ".h5", path.suffix, remedy)
        return _read(form, path, Path(config))


def _read(form: Format, path: Path, *config: Path) -> Network:
    """Read a file; where it is not what its name says, what it is instead is worth more than what is wrong with it."""
    try:
        return form.read(path, *config)
    except FormatError as error:
        other = _later("kinds", "other_kind")(path)
        if other is None:
            raise
        what, expected = f"{path.name} is not what its name says", f"a {path.suffix} file"
        raise FormatError(what, str(path), expected, other.what, other.remedy) from error


def _network_of_tensorflow(path: Path) -> Network | None:
    """What a SavedModel or a checkpoint holds; None if it is nothing of TensorFlow's.

    Raises:
        UnsupportedError: a file of TensorFlow that only TensorFlow reads; says which.
    """
    if _later("tensorflow.places", "place_of")(path) is not None:
        network: Network = _later("tensorflow.saved_model", "read_network")(path)
        return network
    if (
        path.is_file()
        and path.suffix.lower() in _TENSORFLOW
        and (refused := _later("tensorflow.places", "refusal")(path))
    ):
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
    network: Network, path: str | Path, overwrite: bool = False, check: Callable[[Network, Path], None] | None = None
) -> None:
    """Write a network to a file, by its suffix. The file appears whole or not at all.

    Args:
        network: what to write.
        path: the target.
        overwrite: whether a file that is there already may be replaced.
        check: is given the network that the new file holds, read back, and the file itself, before it gets its name; what it
            raises leaves the target as it was.

    Raises:
        UnsupportedError: another suffix, a partial network, or one that the format cannot hold.
        ParityError: the target is there already, its folder is not, or it cannot be written.
    """
    path = Path(path)
    with plain_errors(path, "written"):
        check_target(path, overwrite)
        form = _format(path, written=True)
        if form.write is None:
            remedy = "choose one of these"
            raise UnsupportedError("this format is only read", str(path), _known(written=True), path.suffix, remedy)
        network.whole()
        with unfinished(path, overwrite) as part, part.open("xb") as file, ThreadPoolExecutor(1) as flushing:
            with early_to_the_disk(file):
                form.write(network, file)
            file.flush()
            on_the_disk = flushing.submit(os.fsync, file.fileno())  # meanwhile it is read back
            if check is not None:
                check(form.read(part), part)
            on_the_disk.result()


def _known_format(path: Path) -> Format | None:
    name = path.name.lower()
    found = [suffix for suffix in SUFFIXES if name.endswith(suffix)]
    return SUFFIXES[max(found, key=len)] if found else None


def _format(path: Path, written: bool = False) -> Format:
    form = _known_format(path)
    if form is None:
        known, remedy = _known(written), "name the file by its format"
        raise UnsupportedError("this suffix is not known", str(path), known, path.suffix or "no suffix", remedy)
    return form


def _known(written: bool = False) -> str:
    return ", ".join(suffix for suffix, form in SUFFIXES.items() if form.write or not written)


__all__ = ["SUFFIXES", "Format", "check_target", "engine_of", "read_file", "weights_alone", "write_file"]
