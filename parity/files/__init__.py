"""Model files: one module for each format, by suffix. Imports no framework, except lazily for `.onnx`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from parity.errors import FormatError, ParityError, Problem, UnsupportedError
from parity.files import keras_file, safetensors_file, torch_file
from parity.files.npz_file import read_inputs
from parity.files.state_dict import network_from_state_dict, state_dict_from_network
from parity.files.target import check_target, plain_errors, unfinished
from parity.frameworks import framework
from parity.network.graph import Network
from parity.recurrent import Array


@dataclass(frozen=True)
class Format:
    """A file format.

    Args:
        read: describes a file that exists and is not empty.
        write: writes a network to an open binary file.
    """

    read: Callable[[Path], Network]
    write: Callable[[Network, BinaryIO], None]


def _state_dict_format(
    read_tensors: Callable[[Path], dict[str, Array]], write_tensors: Callable[[Mapping[str, Array], BinaryIO], None]
) -> Format:
    def read(path: Path) -> Network:
        arrays = read_tensors(path)
        try:
            return network_from_state_dict(arrays, path.stem)
        except ParityError as error:
            problems = [Problem(p.what, f"{p.where} of {path}", p.expected, p.got, p.remedy) for p in error.problems]
            raise type(error)(problems) from error

    def write(network: Network, file: BinaryIO) -> None:
        write_tensors(state_dict_from_network(network), file)

    return Format(read, write)


def _read_onnx(path: Path) -> Network:
    network: Network = framework("onnxruntime").read_file(path)
    return network


def _write_onnx(network: Network, file: BinaryIO) -> None:
    framework("onnxruntime").write_file(network, file)


_TORCH = _state_dict_format(torch_file.read_tensors, torch_file.write_tensors)

SUFFIXES: dict[str, Format] = {
    ".keras": Format(keras_file.read, keras_file.write),
    ".pt": _TORCH,
    ".pth": _TORCH,
    ".safetensors": _state_dict_format(safetensors_file.read_tensors, safetensors_file.write_tensors),
    ".onnx": Format(_read_onnx, _write_onnx),
}
"""What is read and written, by the suffix of the file."""


def read_file(path: str | Path) -> Network:
    """Describe the model in a file, by its suffix.

    Raises:
        UnsupportedError: another suffix, or a model that is not kept exactly.
        FormatError: an empty, damaged or hostile file.
        ParityError: no such file, a folder, or not readable.
    """
    path = Path(path)
    with plain_errors(path, "read"):
        if path.is_dir():
            raise ParityError(
                "a folder, not a file", str(path), f"a file: {_known()}", "a folder", "give the file in it"
            )
        if not path.exists():
            remedy = "check the name and the folder"
            raise ParityError("no such file", str(path), "a file that exists", "nothing there", remedy)
        form = _format(path)
        if not path.stat().st_size:
            remedy = "get the file anew, or save the model again"
            raise FormatError("the file is empty", str(path), f"a {path.suffix} file", "0 bytes", remedy)
        return form.read(path)


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
        with unfinished(path, overwrite) as part:
            with part.open("xb") as file:
                form.write(network, file)
                file.flush()
                os.fsync(file.fileno())
            if check is not None:
                check(form.read(part))


def _format(path: Path) -> Format:
    form = SUFFIXES.get(path.suffix.lower())
    if form is None:
        old = path.suffix.lower() in (".h5", ".hdf5")
        remedy = "open it in a Keras that can, and save it as .keras" if old else "name the file by its format"
        raise UnsupportedError("this suffix is not known", str(path), _known(), path.suffix or "no suffix", remedy)
    return form


def _known() -> str:
    return ", ".join(SUFFIXES)


__all__ = ["SUFFIXES", "Format", "check_target", "read_file", "read_inputs", "unfinished", "write_file"]
