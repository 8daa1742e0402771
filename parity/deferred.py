"""Arrays that are read when they are asked for: so a large file passes through memory tensor by tensor."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import xxhash
from numpy.typing import NDArray

from parity.errors import ParityError, Problem

Array: TypeAlias = NDArray[Any]


BLOCK_BYTES = 1 << 22
"""How much of a large tensor is read or written at a time."""

LARGE_BYTES = 1 << 22
"""Tensors from this size on stay in their file until they are asked for."""


class Stored(Protocol):
    """A tensor in a file, not read yet; an `h5py.Dataset` and an array are such, too."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of its axes."""

    @property
    def dtype(self) -> Any:
        """Type of its numbers."""

    def __getitem__(self, rows: Any) -> Any:
        """A slice along the first axis, or everything for `()`."""


@dataclass(frozen=True)
class Blocks:
    """A tensor that is written piece by piece.

    Args:
        shape: of the tensor.
        dtype: of its numbers.
        blocks: gives, each time anew, contiguous arrays that make up the tensor one after the other along its first axis.

    Example:
        >>> Blocks((4, 3), np.dtype("f4"), lambda: iter([np.ones((3, 3), "f4"), np.zeros((1, 3), "f4")])).whole().sum()
        np.float32(9.0)
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    blocks: Callable[[], Iterator[Array]]

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor."""
        return math.prod(self.shape) * self.dtype.itemsize

    def whole(self) -> Array:
        """The tensor in memory."""
        found = np.empty(self.shape, self.dtype)
        numbers, start = found.reshape(-1), 0
        for block in self.blocks():
            numbers[start : start + block.size] = block.reshape(-1)
            start += block.size
        return found


def blocks_of(array: Array | Deferred) -> Blocks:
    """An array, written at once or read when it is written.

    Example:
        >>> blocks_of(np.ones((2, 3))).nbytes
        48
    """

    def blocks() -> Iterator[Array]:
        return array.blocks() if isinstance(array, Deferred) else iter([np.ascontiguousarray(array)])

    return Blocks(tuple(array.shape), array.dtype, blocks)


def rows_together(stored: Stored) -> int:
    """So many rows of a tensor are unpacked together, where its file keeps it in chunks; 1 elsewhere.

    Example:
        >>> rows_together(np.ones((2, 3)))
        1
    """
    return int(getattr(stored, "rows_together", 1))


def read_into(target: Array, stored: Stored, rows: slice) -> None:
    """Rows of a tensor into an array in C order, straight from the file where the tensor can do that.

    Example:
        >>> target = np.empty((1, 3)); read_into(target, np.ones((2, 3)), slice(1, 2)); float(target.sum())
        3.0
    """
    if hasattr(stored, "read_into"):
        stored.read_into(target, rows)
    else:
        target[...] = stored[rows]


def row_slices(shape: tuple[int, ...], itemsize: int, together: int = 1) -> Iterator[slice]:
    """Slices along the first axis of a tensor, each of about `BLOCK_BYTES`, or of a multiple of the rows that are unpacked together.

    Example:
        >>> list(row_slices((5, 1 << 19), 4))
        [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    rows = max(1, BLOCK_BYTES // max(1, math.prod(shape[1:]) * itemsize))
    rows += -rows % together
    for start in range(0, shape[0], rows):
        yield slice(start, min(start + rows, shape[0]))


def not_finite(array: Array, where: str) -> Problem | None:
    """What is wrong with an array that holds a number that is none; None if all are finite.

    Example:
        >>> print(not_finite(np.array([1.0, np.nan]), "kernel of layer 'lstm', index"))
        a weight is not finite
          where:    kernel of layer 'lstm', index (1,)
          expected: a number
          got:      nan
          remedy:   mend or retrain the model: it computes no numbers
    """
    if array.dtype.kind != "f" or not array.size:
        return None
    with np.errstate(invalid="ignore"):
        extremes = array.min(), array.max()  # a number that is none is among them; nothing has to be converted
    if np.isfinite(extremes).all():
        return None
    index = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
    remedy = "mend or retrain the model: it computes no numbers"
    return Problem("a weight is not finite", f"{where} {index}", "a number", str(array[index]), remedy)


class Deferred:
    """An array that is read each time it is asked for, and never kept.

    Args:
        shape: of the array.
        dtype: of the array.
        read: gives it.
        read_blocks: gives, each time anew, contiguous arrays that make it up in C order, if it can be read so.

    Example:
        >>> deferred = Deferred((2, 3), np.dtype(np.float32), lambda: np.ones((2, 3), np.float32))
        >>> deferred.nbytes, float(deferred.read().sum())
        (24, 6.0)
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        read: Callable[[], Array],
        read_blocks: Callable[[], Iterator[Array]] | None = None,
    ) -> None:
        self.shape, self.dtype, self._read, self._read_blocks = shape, np.dtype(dtype), read, read_blocks
        self._digest: bytes | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the array."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    @property
    def ndim(self) -> int:
        """Number of its axes."""
        return len(self.shape)

    def read(self) -> Array:
        """The array."""
        return self._read()

    def blocks(self) -> Iterator[Array]:
        """Contiguous arrays that make it up in C order, each with memory of its own; see `parity.ahead` for who reads ahead.

        The digest is taken on the way, so that it need not be read again to be compared with what was written.
        """
        state = xxhash.xxh3_128()
        for block in self._read_blocks() if self._read_blocks else iter([self.read()]):
            state.update(_bytes_of(block))
            yield block
        self._digest = state.digest()

    def read_to_write(self) -> Array:
        """The array; its digest is taken, too."""
        array = self.read()
        self._digest = digest(array)
        return array

    @property
    def digest(self) -> bytes:
        """See `digest`; as it was read last, if it was read in blocks."""
        if self._digest is not None:
            return self._digest
        if self._read_blocks is None:
            return digest(self.read())
        return _digest_of(self._read_blocks())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """What `numpy.asarray` gives."""
        return np.asarray(self.read(), dtype)


def digest(array: Array) -> bytes:
    """XXH3 of the numbers of an array in C order, 128 bits: two arrays of one digest are taken for the same.

    It finds mistakes, of which one in 2^128 escapes it; it is no defence against somebody who makes two arrays of one digest.
    Source: https://github.com/Cyan4973/xxHash.

    Example:
        >>> digest(np.zeros(2, np.uint8)) == digest(np.zeros((1, 2), np.uint8))
        True
    """
    return _digest_of(iter([array]))


def _digest_of(blocks: Iterator[Array]) -> bytes:
    state = xxhash.xxh3_128()
    for block in blocks:
        state.update(_bytes_of(block))
    return state.digest()


def _bytes_of(array: Array) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def as_it_stands(stored: Stored, where: str) -> Deferred:
    """A tensor of a file, in its own order.

    Args:
        stored: the tensor.
        where: names it where a number is none.

    Raises:
        ParityError: once it is read: a number that is none.

    Example:
        >>> as_it_stands(np.ones((2, 3)), "the table, index").read().shape
        (2, 3)
    """
    shape, dtype = tuple(stored.shape), np.dtype(stored.dtype)

    def checked(block: Array, at: str) -> Array:
        if problem := not_finite(block, at):
            raise ParityError([problem])
        return block

    def read_blocks() -> Iterator[Array]:
        for rows in row_slices(shape, dtype.itemsize, rows_together(stored)):
            yield checked(np.asarray(stored[rows]), f"{where} from row {rows.start} on,")

    return Deferred(shape, dtype, lambda: checked(np.asarray(stored[()]), where), read_blocks if any(shape) else None)


class Deferring:
    """Base of dataclasses whose arrays may be `Deferred`: who asks for one gets it read.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class Layer(Deferring):
        ...     kernel: Any
        >>> layer = Layer(Deferred((2,), np.dtype(np.float32), lambda: np.ones(2, np.float32)))
        >>> layer.kernel.sum(), type(layer.held("kernel")).__name__
        (np.float32(2.0), 'Deferred')
    """

    def __getattribute__(self, name: str) -> Any:
        value = object.__getattribute__(self, name)
        return value.read() if isinstance(value, Deferred) else value

    def held(self, name: str) -> Any:
        """A field as it is: an array, a `Deferred` or None. Its shape and dtype cost nothing."""
        return object.__getattribute__(self, name)


class Arrays(Mapping[str, Array]):
    """Arrays by name, each read when it is looked up.

    Args:
        held: arrays, deferred or not.

    Example:
        >>> arrays = Arrays({"kernel": Deferred((2,), np.dtype(np.float32), lambda: np.ones(2, np.float32))})
        >>> arrays.shapes, float(arrays["kernel"].sum())
        ({'kernel': (2,)}, 2.0)
    """

    def __init__(self, held: Mapping[str, Array | Deferred]) -> None:
        self.held = dict(held)

    def __getitem__(self, name: str) -> Array:
        found = self.held[name]
        return found.read() if isinstance(found, Deferred) else found

    def __iter__(self) -> Iterator[str]:
        return iter(self.held)

    def __len__(self) -> int:
        return len(self.held)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every array, none of them read."""
        return {name: tuple(value.shape) for name, value in self.held.items()}

    @property
    def present(self) -> dict[str, Array]:
        """The arrays that are in memory already."""
        return {name: value for name, value in self.held.items() if not isinstance(value, Deferred)}
