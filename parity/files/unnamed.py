"""Arrays without names, in the order in which Keras's `model.get_weights()` gives them: what `numpy.savez(path, *weights)` writes."""

from __future__ import annotations

import re
from collections.abc import Mapping

from parity.deferred import Stored
from parity.layouts import GATES, LAYOUTS

_NUMBERED = re.compile(r"arr_(\d{1,6})")
_KERNEL, _RECURRENT, _BIAS = (tensor.name for tensor in LAYOUTS["keras", "lstm"].tensors)
_GATED = tuple(len(gates) for gates in GATES.values() if len(gates) > 1)


def in_order(tensors: Mapping[str, Stored]) -> dict[str, dict[str, Stored]] | None:
    """The arrays by layer, as their shapes tell; None if they have names of their own.

    A matrix and a square block of gates behind it are a recurrent layer; a matrix and a vector of its columns a dense one. Two
    matrices of which the second is square are a SimpleRNN, not two dense layers of which the first has no bias.

    Example:
        >>> import numpy as np
        >>> shapes = [(3, 20), (5, 20), (20,), (5, 2), (2,)]
        >>> found = in_order({f"arr_{number}": np.ones(shape) for number, shape in enumerate(shapes)})
        >>> {layer: list(own) for layer, own in found.items()}
        {'layer_0': ['kernel', 'recurrent_kernel', 'bias'], 'layer_1': ['kernel', 'bias']}
    """
    numbers = {int(match[1]): tensor for name, tensor in tensors.items() if (match := _NUMBERED.fullmatch(name))}
    if len(numbers) != len(tensors) or not tensors:
        return None
    waiting = [numbers[number] for number in sorted(numbers)]
    found: dict[str, dict[str, Stored]] = {}
    at = 0
    while at < len(waiting):
        own = _first_layer(waiting[at : at + 3])
        found[f"layer_{len(found)}"] = dict(zip(own, waiting[at : at + 3], strict=False))
        at += len(own)
    return found


def _first_layer(waiting: list[Stored]) -> tuple[str, ...]:
    """The names of the first arrays that belong together."""
    first, second, third = [tuple(tensor.shape) for tensor in waiting[:3]] + [()] * (3 - len(waiting[:3]))
    if len(first) == 2 and len(second) == 2 and second[0] and (second[1], second[1] % second[0]) == (first[1], 0):
        gates = second[1] // second[0]
        biases = [(second[1],), (2, second[1]), (2 * second[1],)]
        if gates in _GATED:
            return (_KERNEL, _RECURRENT, _BIAS) if third in biases else (_KERNEL, _RECURRENT)
        if gates == 1:
            return ("0", "1", "2") if third in biases else ("0", "1")
    if len(first) == 2 and second == first[1:]:
        return (_KERNEL, _BIAS)
    return ("0",)


__all__ = ["in_order"]
