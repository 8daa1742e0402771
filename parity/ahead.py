"""Reading ahead: the next blocks of a file are read in a thread of their own while the last ones are written."""

from __future__ import annotations

import contextlib
import math
import queue
import threading
from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np

from parity.deferred import Array

BLOCKS_AHEAD = 4
"""So many blocks may have been read and not written yet: the writing of a tensor goes on while the next one is read
and turned round."""

_NOTHING: Array = np.empty(0, np.uint8)


class _Kept(threading.local):
    """Memory of a thread that reads ahead: of the last tensor, and of as many blocks as there can be, the longest written one first."""

    tensor: Array = _NOTHING
    blocks: deque[Array] | None = None


_kept = _Kept()


def ahead(blocks: Iterator[Array]) -> Iterator[Array]:
    """The same blocks, read in a thread of their own, some before they are asked for; an error arrives where its block would have.

    A block is to be used before the next one is asked for: then its memory is given to another one.

    Example:
        >>> [int(block[0]) for block in ahead(iter([np.zeros(1), np.ones(1)]))]
        [0, 1]
    """
    found: queue.Queue[Array | BaseException | None] = queue.Queue(BLOCKS_AHEAD)
    left = threading.Event()

    def read() -> None:
        # One is made, one is written, the others wait between them.
        _kept.blocks = deque([_NOTHING] * (BLOCKS_AHEAD + 2))
        end: BaseException | None = None
        try:
            for block in blocks:
                found.put(block)
                if left.is_set():
                    return
        except BaseException as error:
            end = error
        found.put(end)

    thread = threading.Thread(target=read, name="parity-read-ahead", daemon=True)
    thread.start()
    try:
        while isinstance(block := found.get(), np.ndarray):
            yield block
        if block is not None:
            raise block
    finally:
        left.set()
        while thread.is_alive():  # it may wait for room
            with contextlib.suppress(queue.Empty):
                found.get(timeout=0.01)


def room(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """An array for a block; who reads `ahead` gets the memory of a block that is written by now, as new memory costs more than its use.

    Example:
        >>> room((2, 3), np.dtype(np.float32)).shape
        (2, 3)
    """
    if _kept.blocks is None:
        return np.empty(shape, dtype)
    _kept.blocks.append(_at_least(math.prod(shape) * dtype.itemsize, _kept.blocks.popleft()))
    return _part(_kept.blocks[-1], shape, dtype)


def scratch(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """An array for a tensor of which blocks are made; who reads `ahead` gets the same memory again for the next tensor.

    Example:
        >>> scratch((2, 3), np.dtype(np.float32)).shape
        (2, 3)
    """
    if _kept.blocks is None:
        return np.empty(shape, dtype)
    old, _kept.tensor = _kept.tensor, _NOTHING
    _kept.tensor = _at_least(math.prod(shape) * dtype.itemsize, old)
    return _part(_kept.tensor, shape, dtype)


def _at_least(size: int, old: Array) -> Array:
    """So many bytes, the old ones if they are enough."""
    return old if old.size >= size else np.empty(size, np.uint8)


def _part(memory: Array, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    return memory[: math.prod(shape) * dtype.itemsize].view(dtype).reshape(shape)
