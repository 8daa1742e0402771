"""The tensors of a state dict beside its recurrent layers: which of them are the right model's, told by their sizes and numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from parity.deferred import Array
from parity.diagnosis.fault import Fault, Place
from parity.diagnosis.told import alike
from parity.graph.calls import Layered
from parity.network import Network, Recurrent


@dataclass(frozen=True)
class Beside:
    """What the tensors around the recurrent layers of a state dict are.

    Args:
        right: those that hold numbers of the right model, some axes turned perhaps.
        wrong: what is wrong with others, of which sizes tell where they belong.
        untold: those of which nobody can tell.
    """

    right: tuple[str, ...] = ()
    wrong: tuple[Fault, ...] = ()
    untold: tuple[str, ...] = ()


def tensors_beside(reference: Network, port: Network) -> Beside:
    """Lay the tensors of a state dict beside the right model's, by their sizes.

    Args:
        reference: the right model.
        port: a state dict, which does not say how its modules are connected.
    """
    named = {
        f"{one.name}.{name}".lstrip("."): np.asarray(tensor[()])
        for one in port.opaque
        for name, tensor in one.tensors.items()
    }
    named |= {f"{layer.name}.{name}": array for layer in port.layers for name, array in _arrays(layer)}
    mine = {(layer.name, name): array for layer in _layers(reference) for name, array in _arrays(layer)}
    right, wrong, untold = [], [], []
    for name, theirs in named.items():
        if not np.issubdtype(theirs.dtype, np.floating):  # a counter of batches
            continue
        fitting = {key: array for key, array in mine.items() if sorted(array.shape) == sorted(theirs.shape)}
        if any(_is_turned(array, theirs) for array in fitting.values()):
            right.append(name)
        elif len(fitting) == 1:
            (key,) = fitting
            wrong.append(_other_numbers(name, key))
        else:
            untold.append(name)
    return Beside(tuple(right), tuple(wrong), tuple(untold))


def _layers(network: Network) -> Iterator[Layered]:
    yield from network.layers if network.graph is None else network.graph.operations


def _arrays(layer: Layered) -> Iterator[tuple[str, Array]]:
    """The weights of a layer around recurrent ones, by their canonical names."""
    if not isinstance(layer, Recurrent):
        present: Mapping[str, Array] = layer.arrays.present
        yield from present.items()


def _is_turned(right: Array, theirs: Array) -> bool:
    """Whether numbers are the right ones, to a rounding, with their axes in any order."""
    turned = (np.transpose(right, axes) for axes in permutations(range(right.ndim)))
    return any(alike(np.asarray(theirs, np.float64), one) for one in turned if one.shape == theirs.shape)


def _other_numbers(name: str, key: tuple[str, str]) -> Fault:
    layer, tensor = key
    cause = f"has other numbers in {name} than the right model's only weight of these sizes"
    return Fault("other numbers", cause, Place(layer, tensor=tensor), lambda case: case)


__all__ = ["Beside", "tensors_beside"]
