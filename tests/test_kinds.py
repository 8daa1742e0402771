"""A file that is not what its name says: what it is instead is said, in every format."""

from __future__ import annotations

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
