"""Large files pass through memory tensor by tensor, never as a whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from parity.deferred import BLOCK_BYTES, LARGE_BYTES, Deferred
from parity.errors import ParityError
from parity.files import read_file, write_file
from parity.network import Network, Output, Recurrent
from parity.recurrent import RecurrentSpec, Weights

UNITS, LAYERS = 700, 6
LARGEST = UNITS * 4 * UNITS * 4

CONVERT = """
import resource, sys
from parity.conversion import convert
convert(sys.argv[1], sys.argv[2], overwrite=True)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024))
"""


def network(units: int, layers: int) -> Network:
    random = np.random.default_rng(units)
    spec = RecurrentSpec("lstm", units, units)

    def layer(number: int) -> Recurrent:
        members = ("kernel", "recurrent", "bias_input")
        shapes = (spec.shape(member) for member in members)
        return Recurrent(f"lstm_{number}", spec, (Weights(*(random.random(shape, np.float32) for shape in shapes)),))

    last = f"lstm_{layers - 1}"
    return Network("large", tuple(map(layer, range(layers))), (Output(last, last),), "keras")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("large")
    write_file(network(UNITS, LAYERS), folder / "large.safetensors")
    write_file(network(3, 2), folder / "small.safetensors")
    for suffix in (".keras", ".h5", ".pt", ".npz"):
        for size in ("large", "small"):
            write_file(read_file(folder / f"{size}.safetensors"), folder / f"{size}{suffix}")
    return folder


def peak(source: Path, target: Path) -> int:
    """The most memory that a process has while it converts."""
    done = subprocess.run(
        [sys.executable, "-c", CONVERT, str(source), str(target)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.skipif(sys.platform == "win32", reason="the system does not say how much memory a process had")
@pytest.mark.parametrize(
    ("source", "target"),
    [
        (".keras", ".safetensors"),
        (".h5", ".safetensors"),
        (".pt", ".safetensors"),
        (".npz", ".pt"),
        (".safetensors", ".keras"),
        (".safetensors", ".h5"),
        (".safetensors", ".npz"),
    ],
)
def test_no_more_than_one_tensor_is_in_memory(source: str, target: str, folder: Path, tmp_path: Path) -> None:
    base = peak(folder / f"small{source}", tmp_path / f"small{target}")
    taken = peak(folder / f"large{source}", tmp_path / f"large{target}") - base

    assert taken < 1.3 * LARGEST + 2 * BLOCK_BYTES, f"{taken / 1e6:.0f} MB for tensors of {LARGEST / 1e6:.0f} MB"


@pytest.mark.parametrize("suffix", [".keras", ".h5", ".pt", ".npz", ".safetensors"])
def test_large_tensors_stay_in_their_file(suffix: str, folder: Path) -> None:
    assert LARGEST > LARGE_BYTES
    for layer in read_file(folder / f"large{suffix}").recurrent:
        assert isinstance(layer.weights[0].held("kernel"), Deferred)
        assert isinstance(layer.weights[0].held("recurrent"), Deferred)


def test_a_tensor_that_is_no_number_is_found_when_it_is_read(folder: Path, tmp_path: Path) -> None:
    content = bytearray((folder / "large.safetensors").read_bytes())
    kernel = read_file(folder / "large.safetensors").recurrent[2].weights[0].kernel
    at = content.index(kernel[3, 100].tobytes())
    content[at : at + 4] = np.float32(np.nan).tobytes()
    path = tmp_path / "nan.safetensors"
    path.write_bytes(content)
    with pytest.raises(ParityError, match="a weight is not finite"):
        write_file(read_file(path), tmp_path / "nan.keras")
    assert not (tmp_path / "nan.keras").exists()
