"""Large arrays moved quickly: block by block through the caches, on two threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from parity.deferred import Array

_Found = TypeVar("_Found")

# Measured on 64 MB arrays. A block is 128 runs of 4 KB of the source. Runs of a page read at nearly the speed of a plain copy; half a
# megabyte stays in the second-level cache. The padding, one cache line, keeps the runs from colliding there when read down a column.
_BLOCK_ROWS, _RUN_BYTES, _PADDING_BYTES = 128, 4096, 64
# Measured: up to half a megabyte, where both sides fit the second-level cache, a plain copy is as fast.
_SMALL_BYTES = 1 << 19
# Measured: starting two threads costs about a millisecond, which copies of less than 16 MB in all do not earn back.
_THREADS_BYTES, _THREADS = 1 << 24, 2


def copy_blockwise(*pairs: tuple[Array, Array]) -> None:
    """Copy, in each (target, source) pair of arrays of one shape that share no memory, source into target, fast whatever their strides.

    Where the two disagree about the fast axis, a plain copy touches a new cache line for every element. Here blocks of the
    source go through a small buffer, on two threads when there is much to copy: so hand over all pairs in one call.

    Example:
        >>> a = np.arange(6.0).reshape(2, 3); b = np.empty((3, 2)); copy_blockwise((b, a.T)); b[2].tolist()
        [2.0, 5.0]
    """
    blocks: list[tuple[Array, Array]] = []
    for target, source in pairs:
        transposed = source.ndim == 2 and _fast_axis(source) != _fast_axis(target)
        if transposed and source.nbytes > _SMALL_BYTES:
            blocks += _blocks(target, source) if _fast_axis(source) == 1 else _blocks(target.T, source.T)
        else:
            np.copyto(target, source)
    if sum(source.nbytes for _, source in blocks) < _THREADS_BYTES:
        _copy_staged(iter(blocks))
        return
    shared(iter(blocks), _copy_staged)


def _fast_axis(array: Array) -> int:
    return int(np.argmin([abs(stride) for stride in array.strides]))


def _blocks(target: Array, source: Array) -> list[tuple[Array, Array]]:
    """Matching blocks of both, those next to each other in the target's memory one after the other."""
    columns = _RUN_BYTES // source.itemsize
    corners = [
        (row, column) for column in range(0, source.shape[1], columns) for row in range(0, source.shape[0], _BLOCK_ROWS)
    ]
    parts = [(slice(row, row + _BLOCK_ROWS), slice(column, column + columns)) for row, column in corners]
    return [(target[part], source[part]) for part in parts]


def _copy_staged(blocks: Iterator[tuple[Array, Array]]) -> None:
    pitch = _RUN_BYTES + _PADDING_BYTES
    buffer = np.empty(_BLOCK_ROWS * pitch, np.uint8)
    for target, source in blocks:
        staged: Array = np.ndarray(source.shape, source.dtype, buffer, strides=(pitch, source.itemsize))
        np.copyto(staged, source)
        np.copyto(target, staged)


def shared(found: Iterator[_Found], work: Callable[[Iterator[_Found]], None]) -> None:
    """Work in two threads, each of which takes the next one when it has done its last; they are found in order, one at a time.

    Example:
        >>> done = []; shared(iter([1, 2, 3]), done.extend); sorted(done)
        [1, 2, 3]
    """
    finding = threading.Lock()

    def taken() -> Iterator[_Found]:
        while True:
            with finding:
                one = next(found, None)
            if one is None:
                return
            yield one

    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(work, [taken() for _ in range(_THREADS)]))
