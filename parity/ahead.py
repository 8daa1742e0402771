"""Reading ahead: the next blocks of a file are read in a thread of their own while the last ones are written."""

from __future__ import annotations

import contextlib
import math
import queue
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

from parity.deferred import Array

BLOCKS_AHEAD = 4
"""So many blocks may have been read and not written yet: the writing of a tensor goes on while the next one is read
and turned round."""

_kept = threading.local()


def ahead(blocks: Iterator[Array]) -> Iterator[Array]:
    """The same blocks, read in a thread of their own, some before they are asked for; an error arrives where its block would have.

    Example:
        >>> [int(block[0]) for block in ahead(iter([np.zeros(1), np.ones(1)]))]
        [0, 1]
    """
    found: queue.Queue[Array | BaseException | None] = queue.Queue(BLOCKS_AHEAD)
    left = threading.Event()

    def read() -> None:
        _kept.bytes = np.empty(0, np.uint8)
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


def scratch(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """An array to be filled, copied and forgotten; who reads `ahead` gets the same memory again, as new memory costs more than its use.

    There is one for each thread: the tensors that are read ahead follow each other and do not take turns.

    Example:
        >>> scratch((2, 3), np.dtype(np.float32)).shape
        (2, 3)
    """
    kept: Array | None = getattr(_kept, "bytes", None)
    if kept is None:
        return np.empty(shape, dtype)
    size = math.prod(shape) * dtype.itemsize
    if kept.size < size:
        kept = _kept.bytes = None  # the old memory goes before the new one comes
        kept = _kept.bytes = np.empty(size, np.uint8)
    return kept[:size].view(dtype).reshape(shape)
