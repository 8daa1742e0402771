"""`copy_blockwise` against plain numpy assignment: odd sizes, both orientations, any strides, any dtype."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from parity import blockwise
from parity.blockwise import copy_blockwise

SHAPES = [(0, 3), (1, 1), (3, 5), (1, 300_000), (129, 2049), (700, 450), (450, 700), (1100, 1030)]


def values(shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """Every bit pattern may occur, NaNs with payloads included."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return np.random.default_rng(0).integers(0, 256, size, np.uint8).view(dtype).reshape(shape)


def assert_copies(target: NDArray[Any], source: NDArray[Any]) -> None:
    copy_blockwise((target, source))
    assert np.ascontiguousarray(target).tobytes() == np.ascontiguousarray(source).tobytes()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
def test_transposed_either_way(shape: tuple[int, int], dtype: str) -> None:
    assert_copies(np.empty(shape, dtype), values(shape[::-1], dtype).T)
    assert_copies(np.empty(shape[::-1], dtype).T, values(shape, dtype))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("rows", [slice(None, None, -1), slice(3, None, 2), slice(None)])
@pytest.mark.parametrize("columns", [slice(None, None, -1), slice(1, None, 3), slice(5, -7)])
def test_strided_on_both_sides(rows: slice, columns: slice, dtype: str) -> None:
    source = values((1500, 1700), dtype)[rows, columns]
    around = np.zeros((1700, 1500), dtype)
    target = around.T[rows, columns]
    assert_copies(target, source)
    assert_copies(np.empty(source.shape, dtype, order="F")[::-1, ::-1], source)
    target[...] = 0
    assert not around.any(), "wrote outside the target"


def test_same_orientation_and_other_dimensions() -> None:
    assert_copies(np.empty((700, 400)), values((700, 400), "float64"))
    assert_copies(np.empty(50_000), values((50_000,), "float64")[::-1])
    assert_copies(np.empty((30, 40, 50)), values((50, 40, 30), "float64").T)


def test_read_only_source_is_left_alone() -> None:
    source = values((700, 400), "float32")
    before = source.copy()
    source.flags.writeable = False
    assert_copies(np.empty((400, 700), "float32"), source.T)
    assert source.tobytes() == before.tobytes()


def test_many_pairs_of_mixed_kinds_in_one_call() -> None:
    """Large and small, transposed and not, several dtypes: over the limit for threads together, not alone."""
    sources = [values((901, 777), dtype).T for dtype in ("float16", "float32", "float64")] * 2 + [
        values((5,), "float32")
    ]
    targets = [np.empty(source.shape, source.dtype) for source in sources]
    assert sum(source.nbytes for source in sources) > blockwise._THREADS_BYTES
    copy_blockwise(*zip(targets, sources, strict=True))
    for target, source in zip(targets, sources, strict=True):
        assert target.tobytes() == np.ascontiguousarray(source).tobytes()


def test_small_copies_start_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(blockwise, "ThreadPoolExecutor")
    assert_copies(np.empty((700, 400), "float32"), values((400, 700), "float32").T)
    copy_blockwise()
