"""Weights in float32, the only type in which ONNX Runtime has recurrent operators."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from parity.errors import Problem, UnsupportedError
from parity.network import Bidirectional, Dense, Embedding, Layer, Network, Recurrent
from parity.recurrent import Array


def as_float32(network: Network) -> Network:
    """The network with its float64 weights as float32, where they are exactly that.

    Raises:
        UnsupportedError: they are not; names each of them.
    """
    problems = [problem for layer in network.layers for problem in not_float32(layer.name, layer.arrays)]
    if problems:
        raise UnsupportedError(problems)
    return replace(network, layers=tuple(map(_single, network.layers)))


def not_float32(layer: str, arrays: Mapping[str, Array]) -> Iterator[Problem]:
    """What is wrong with float64 weights of a layer that are no float32 numbers."""
    for name, array in arrays.items():
        if array.dtype == np.float64 and not is_float32(array):
            yield Problem(
                "a float64 weight is not a float32 number",
                f"layer '{layer}', {name}",
                "numbers that float32 holds exactly: ONNX Runtime has no float64 LSTM, GRU or RNN",
                f"{array.size} numbers of {array.dtype}",
                "round the weights to float32 in the source, or keep the model in Keras or torch",
            )


def is_float32(array: Array) -> bool:
    """Whether every number is one that float32 holds exactly.

    Example:
        >>> is_float32(np.array([0.5])), is_float32(np.array([0.1]))
        (True, False)
    """
    with np.errstate(over="ignore"):
        return bool((array.astype(np.float32) == array).all())


def recurrent_as_float32(layer: Recurrent) -> Recurrent:
    """The layer with its weights in float32, rounded where they are not exactly that."""
    weights = [
        replace(one, **{name: _float32(array) for name, array in vars(one).items() if array is not None})
        for one in layer.weights
    ]
    return replace(layer, weights=tuple(weights))


def both_as_float32(layer: Bidirectional) -> Bidirectional:
    """The same for two unlike directions."""
    forward, backward = (tuple(recurrent_as_float32(inner) for inner in stack) for stack in layer.stacks)
    return replace(layer, forward=forward, backward=backward)


def _single(layer: Layer) -> Layer:
    if isinstance(layer, Bidirectional):
        return both_as_float32(layer)
    if isinstance(layer, Recurrent):
        return recurrent_as_float32(layer)
    if isinstance(layer, Dense):
        bias = None if layer.bias is None else _float32(layer.bias)
        return replace(layer, kernel=_float32(layer.kernel), bias=bias)
    return replace(layer, table=_float32(layer.table)) if isinstance(layer, Embedding) else layer


def _float32(array: Array) -> Array:
    return np.asarray(array, np.float32)


__all__ = ["as_float32", "both_as_float32", "is_float32", "not_float32", "recurrent_as_float32"]
