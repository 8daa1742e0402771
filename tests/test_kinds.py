"""A file that is not what its name says: what it is instead is said, in every format."""

from __future__ import annotations

import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
import torch
from keras import layers as kl
from safetensors.torch import save_file

from parity.errors import FormatError
from parity.files import read_file

SUFFIXES = (".keras", ".h5", ".weights.h5", ".pt", ".safetensors", ".npz", ".onnx")


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Files as their own frameworks write them, and what stands in the place of a file that was not fetched."""
    folder = tmp_path_factory.mktemp("kinds")
    model = keras.Sequential([keras.Input((7, 3)), kl.LSTM(5)])
    module = torch.nn.LSTM(3, 5)
    model.save(folder / "a.keras")
    model.save(folder / "a.h5")
    torch.save(module.state_dict(), folder / "a.pt")
    save_file(module.state_dict(), folder / "a.safetensors")
    np.savez(folder / "a.npz", **{name: tensor.numpy() for name, tensor in module.state_dict().items()})
    made = {path.suffix: path.read_bytes() for path in folder.iterdir()}
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
    return {**made, "lfs": pointer, "page": b"<!DOCTYPE html><html><body>Not Found</body></html>"}


READ_TOO = {(".keras", ".h5"), (".keras", ".weights.h5"), (".h5", ".keras"), (".h5", ".weights.h5")}
"""Mix-ups of Keras's own, which are read."""

WORDS = {
    ".keras": r"a \.keras file",
    ".h5": "an HDF5 file",
    ".pt": "a file of torch",
    ".safetensors": "a safetensors file",
    ".npz": r"an \.npz file of NumPy",
    "lfs": r"a pointer of Git LFS(.|\n)*git lfs pull",
    "page": r"a web page(.|\n)*anew",
}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kind", WORDS)
def test_a_wrong_name_is_said(kind: str, suffix: str, contents: dict[str, bytes], tmp_path: Path) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(contents[kind])
    if kind == suffix or (kind, suffix) in READ_TOO:
        assert read_file(path).recurrent[0].spec.hidden_size == 5
        return
    with pytest.raises(FormatError, match=rf"model\S* is not what its name says(.|\n)*{WORDS[kind]}") as caught:
        read_file(path)
    (problem,) = caught.value.problems
    assert problem.remedy


@pytest.mark.parametrize("suffix", [".keras", ".h5", ".pt", ".safetensors", ".npz"])
def test_a_damaged_file_of_the_right_name_says_what_is_damaged(
    suffix: str, contents: dict[str, bytes], tmp_path: Path
) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(contents[suffix][: len(contents[suffix]) // 2])
    with pytest.raises(FormatError) as caught:
        read_file(path)
    assert "what its name says" not in str(caught.value)


def exported(folder: Path) -> bytes:
    path = folder / "program.pt2"
    with warnings.catch_warnings(action="ignore"):  # of what torch.export itself does with an nn.LSTM
        program = torch.export.export(torch.nn.LSTM(3, 5, batch_first=True), (torch.ones(2, 7, 3),))
    torch.export.save(program, path)
    damaged = folder / "damaged.pt2"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(damaged, "w") as new:
        for name in old.namelist():
            if not name.endswith("weights/weight_0"):
                new.writestr(name, old.read(name))
    return damaged.read_bytes()


def header(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def npz_with_stray(folder: Path) -> bytes:
    np.savez(folder / "a.npz", weight_ih_l0=np.ones((20, 3)))
    with zipfile.ZipFile(folder / "a.npz", "a") as archive:
        archive.writestr("config.json", "{}")
    return (folder / "a.npz").read_bytes()


DAMAGED: dict[str, tuple[str, Callable[[Path], bytes]]] = {
    "a .pt2 without one of its weights": (".pt2", exported),
    "a .safetensors whose length reads as '<'": (".safetensors", lambda _: header(b'{ "a": 7' + b" " * 51 + b"}")),
    "a .safetensors whose length reads as gzip": (".safetensors", lambda _: header(b'{ "a": 7'.ljust(0x8B1F))),
    "an .h5 behind a block of its user": (".h5", lambda _: b"<x>".ljust(512, b" ") + b"\x89HDF\r\n\x1a\n" + b"\0" * 99),
    "an .npz with a member that is no array": (".npz", npz_with_stray),
    "an .onnx with a brace at its eighth byte": (".onnx", lambda _: b'\x08\x07\x12\x05pyto{"' + b"\xff" * 99),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_not_called_another(name: str, tmp_path: Path) -> None:
    suffix, made = DAMAGED[name]
    path = tmp_path / f"model{suffix}"
    path.write_bytes(made(tmp_path))
    with pytest.raises(FormatError) as caught:
        read_file(path)
    assert "what its name says" not in str(caught.value)


def test_onnx_as_text_is_no_web_page(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_text('<ir_version: 8, opset_import: ["" : 17]>\nagraph (float[N] x) => (float[N] y) { y = Relu(x) }')
    with pytest.raises(FormatError, match=r"an ONNX model as text(.|\n)*parse_model"):
        read_file(path)


def test_a_configuration_is_heard_or_refused(contents: dict[str, bytes], tmp_path: Path) -> None:
    config = tmp_path / "model.json"
    config.write_text(keras.Sequential([keras.Input((7, 3)), kl.LSTM(6)]).to_json())
    for kind in (".h5", ".keras"):
        path = tmp_path / f"whole{kind}.h5"
        path.write_bytes(contents[kind])
        with pytest.raises(FormatError, match="a configuration beside one"):
            read_file(path, config)
    path = tmp_path / "pointer.weights.h5"
    path.write_bytes(contents["lfs"])
    with pytest.raises(FormatError, match="git lfs pull"):
        read_file(path, config)
