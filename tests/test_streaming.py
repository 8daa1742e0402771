"""Large files pass through memory tensor by tensor, never as a whole."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from parity import recurrent
from parity.ahead import BLOCKS_AHEAD, ahead, room
from parity.cell import Cell, plain_cell
from parity.conversion import convert
from parity.deferred import BLOCK_BYTES, LARGE_BYTES, Deferred, as_it_stands
from parity.errors import ParityError
from parity.files import read_file, safetensors_file, write_file
from parity.files.hdf5 import Dataset, Source, opened
from parity.files.hdf5.chunks import Chunked
from parity.identity import identical
from parity.network import Network, Output, Recurrent
from parity.recurrent import RecurrentSpec, Weights

UNITS, LAYERS = 700, 6
LARGEST = UNITS * 4 * UNITS * 4

CONVERT = """
import resource, sys
from parity.ahead import ahead
from parity.cell import Cell, plain_cell
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


def large_layer(spec: RecurrentSpec, cell: Cell) -> Network:
    random = np.random.default_rng(7)
    members = ["kernel", "recurrent", "bias_input"] + (
        ["bias_recurrent"] if spec.kind == "gru" and cell.reset_after else []
    )
    members += ["projection"] if spec.projection_size else []
    weights = Weights(**{member: random.random(spec.shape(member), np.float32) for member in members})
    layer = Recurrent("one", spec, (weights,), cells=(cell,))
    return Network("large", (layer,), (Output("one", "one"),), "keras")


LARGE_LAYERS = {
    "gru": (RecurrentSpec("gru", 700, 650), plain_cell("gru")),
    "gru, reset before": (RecurrentSpec("gru", 700, 650), replace(plain_cell("gru"), reset_after=False)),
    "lstm, projected": (RecurrentSpec("lstm", 530, 1100, projection_size=1000), plain_cell("lstm")),
    "rnn": (RecurrentSpec("rnn", 1200, 1100), plain_cell("rnn")),
}


@pytest.mark.parametrize("name", LARGE_LAYERS)
def test_every_large_layer_is_what_it_was_in_every_format(name: str, tmp_path: Path) -> None:
    network, path = large_layer(*LARGE_LAYERS[name]), tmp_path / "0.safetensors"
    write_file(network, path)
    for number, suffix in enumerate((".keras", ".npz", ".keras", ".pt", ".safetensors")):
        path = convert(path, tmp_path / f"{number + 1}{suffix}")
        found = read_file(path).recurrent[0].weights[0]
        for member in ("kernel", "recurrent", "bias_input", "bias_recurrent", "projection"):
            expected = network.recurrent[0].weights[0].member(member)
            if expected is not None:
                np.testing.assert_array_equal(found.member(member), expected)


def test_blocks_written_in_a_wrong_order_are_found(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def swapped(blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        first, second, *others = (block.copy() for block in blocks)
        assert not np.array_equal(first, second)
        return iter([second, first, *others])

    monkeypatch.setattr(safetensors_file, "ahead", swapped)
    with pytest.raises(ParityError, match="does not compute the same"):
        convert(folder / "large.keras", tmp_path / "wrong.safetensors")
    assert not (tmp_path / "wrong.safetensors").exists()


def test_rows_of_keras_taken_for_those_of_torch_are_other_numbers(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = read_file(folder / "large.keras").recurrent[1].weights[0].held("kernel")
    monkeypatch.setattr(recurrent, "_is_canonical", lambda *_: True)
    streamed = np.concatenate([block.reshape(-1) for block in held.blocks()])
    assert not np.array_equal(streamed, held.read().reshape(-1))


def test_a_digest_is_that_of_the_numbers_however_they_are_read(folder: Path) -> None:
    for suffix in (".keras", ".pt"):
        held = read_file(folder / f"large{suffix}").recurrent[1].weights[0].held("kernel")
        assert isinstance(held, Deferred)
        streamed = np.concatenate([block.reshape(-1) for block in held.blocks()])
        np.testing.assert_array_equal(streamed, held.read().reshape(-1))
    assert identical(read_file(folder / "large.keras"), read_file(folder / "large.pt"))


def test_an_error_while_reading_ahead_arrives_after_the_blocks_before_it() -> None:
    def blocks() -> Iterator[np.ndarray]:
        yield np.zeros(1)
        raise ParityError("damaged")

    found = ahead(blocks())
    assert next(found).tolist() == [0.0]
    with pytest.raises(ParityError, match="damaged"):
        next(found)


def test_who_stops_asking_leaves_no_thread_behind() -> None:
    before = threading.active_count()
    found = ahead(np.zeros(1) for _ in range(1000))
    next(found)
    found.close()  # type: ignore[attr-defined]  # a generator, declared as the iterator that it is used as
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before


def test_the_memory_of_a_block_is_used_again_once_it_is_written_and_no_sooner() -> None:
    def blocks() -> Iterator[np.ndarray]:
        for number in range(50):
            block = room((1000,), np.dtype(np.int64))
            block[...] = number
            yield block

    places = set()
    for number, block in enumerate(ahead(blocks())):
        time.sleep(0.002)  # the others are read meanwhile
        assert (block == number).all()
        places.add(block.ctypes.data)
    assert len(places) <= BLOCKS_AHEAD + 2


@pytest.mark.parametrize("chunks", [(9000, 150), (9000, 16), (1000, 150), (7, 150)])
def test_a_compressed_chunk_is_unpacked_once(
    chunks: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = np.random.default_rng(1).random((9000, 150), np.float32)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("table", data=table, chunks=chunks, compression="gzip")
    unpacked: list[int] = []
    honest = Chunked._read

    def counted(self: Chunked, chunk: Any) -> np.ndarray:
        unpacked.append(chunk.address)
        return honest(self, chunk)

    monkeypatch.setattr(Chunked, "_read", counted)
    with opened(Source(tmp_path / "a.h5")) as root:
        node = root["table"]
        assert isinstance(node, Dataset)
        held = as_it_stands(node.stored(), "table, index")
        read = np.concatenate(list(held.blocks()))
    np.testing.assert_array_equal(read, table)
    assert len(unpacked) == len(set(unpacked))
