"""Weights as torch keeps them, piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from parity.deferred import BLOCK_BYTES, Array, Blocks, Deferred, blocks_of
from parity.graph.graph import Graph
from parity.graph.operations import Constant
from parity.layouts import LAYOUTS, PEEPHOLES
from parity.recurrent import RecurrentSpec, Weights, packed

Held = Array | Deferred


def float_type(graph: Graph) -> np.dtype[Any]:
    """What the module computes in: float64 if any weight is float64, else float32.

    Example:
        >>> from parity.graph import Builder
        >>> build = Builder("model")
        >>> x = build.input("x", ("batch", 4))
        >>> float_type(build.graph({"y": build.matmul(x, build.weight("w", np.ones((4, 2))))}))
        dtype('float64')
    """
    dtypes = {
        held.dtype
        for operation in graph.operations
        if not (isinstance(operation, Constant) and not operation.trained)
        for held in operation.arrays.held.values()
    }
    return np.dtype(np.float64 if np.dtype(np.float64) in dtypes else np.float32)


def as_type(blocks: Blocks, dtype: np.dtype[Any]) -> Blocks:
    """Floating point numbers as another type; integers and truth values as they are, but as torch has them.

    Example:
        >>> as_type(blocks_of(np.ones(2, np.float16)), np.dtype(np.float32)).whole().dtype
        dtype('float32')
    """
    own = np.dtype(bool) if blocks.dtype.kind == "b" else np.dtype(np.int64) if blocks.dtype.kind in "iu" else dtype
    if own == blocks.dtype:
        return blocks
    return Blocks(blocks.shape, own, lambda: (block.astype(own) for block in blocks.blocks()))


def rearranged(held: Held, axes: tuple[int, ...]) -> Blocks:
    """An array with its axes in another order, made row by row of the result.

    Example:
        >>> rearranged(np.arange(6.0).reshape(2, 3), (1, 0)).whole().tolist()
        [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]
    """
    shape = tuple(held.shape[axis] for axis in axes)

    def blocks() -> Iterator[Array]:
        array = held.read() if isinstance(held, Deferred) else held
        turned = array.transpose(axes)
        rows = max(1, BLOCK_BYTES // max(1, turned[:1].size * array.itemsize))
        for start in range(0, shape[0], rows):
            yield np.ascontiguousarray(turned[start : start + rows])

    return Blocks(shape, held.dtype, blocks)


def filled(shape: tuple[int, ...], value: float, dtype: Any) -> Blocks:
    """One number everywhere.

    Example:
        >>> filled((2,), 1.0, np.float32).whole().tolist()
        [1.0, 1.0]
    """
    return Blocks(shape, np.dtype(dtype), lambda: iter([np.full(shape, value, dtype)]))


def given_or(held: Held | None, otherwise: Callable[[], Blocks]) -> Blocks:
    """An array, or what stands for it where there is none."""
    return otherwise() if held is None else blocks_of(held)


def recurrent_blocks(spec: RecurrentSpec, weights: Weights, has_bias: bool) -> dict[str, Blocks]:
    """The tensors of one direction of one layer by torch's names, peepholes as `weight_p`.

    Args:
        spec: of the layer.
        weights: of the direction.
        has_bias: whether any direction has a bias: then both have both biases.

    Example:
        >>> weights = Weights(np.ones((3, 5, 2)), np.ones((3, 5, 5)))
        >>> {name: blocks.shape for name, blocks in recurrent_blocks(RecurrentSpec("gru", 2, 5), weights, False).items()}
        {'weight_ih': (15, 2), 'weight_hh': (15, 5)}
    """
    if has_bias and weights.held("bias_input") is None:
        weights = weights.with_held(bias_input=np.zeros(spec.shape("bias_input"), weights.dtype))
    found = packed(LAYOUTS["torch", spec.kind], spec, [weights])
    if weights.held("peepholes") is not None and PEEPHOLES[spec.kind]:
        found["weight_p"] = blocks_of(weights.held("peepholes"))
    return found


__all__ = ["Held", "as_type", "filled", "float_type", "given_or", "rearranged", "recurrent_blocks"]
