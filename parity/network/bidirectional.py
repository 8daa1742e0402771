"""`keras.layers.Bidirectional` whose two directions are unlike; like ones are a `Recurrent` of two directions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from parity.conventions import MergeMode, merge
from parity.deferred import Array, Arrays
from parity.network.recurrent import Recurrent
from parity.reference import Float64, Mask, Rounding, Trajectory
from parity.result import LayerRun, State


@dataclass(frozen=True, eq=False)
class Bidirectional:
    """Two stacks of recurrent layers on one input: they differ in kind, size, depth, bias or order of their outputs.

    Args:
        name: the user's name for it.
        forward: the stack of Keras's `layer`, each of one direction; usually a single layer.
        backward: the stack of Keras's `backward_layer`.
        merge_mode: what becomes of both outputs; None hands both over.
        return_state: whether a bare Keras layer also returns its states.
    """

    name: str
    forward: tuple[Recurrent, ...]
    backward: tuple[Recurrent, ...]
    merge_mode: MergeMode | None = "concat"
    return_state: bool = False

    @property
    def stacks(self) -> tuple[tuple[Recurrent, ...], tuple[Recurrent, ...]]:
        """Both stacks, in the order of the outputs."""
        return self.forward, self.backward

    @property
    def recurrent(self) -> tuple[Recurrent, ...]:
        """All recurrent layers, in the order in which Keras keeps their weights and returns their states."""
        return (*self.forward, *self.backward)

    @property
    def input_size(self) -> int:
        """Features it takes."""
        return self.forward[0].input_size

    @property
    def output_size(self) -> int:
        """Features of each value it gives to the next layer."""
        sizes = [stack[-1].output_size for stack in self.stacks]
        return sum(sizes) if self.merge_mode == "concat" else sizes[0]

    @property
    def return_sequences(self) -> bool:
        """Whether it gives every step."""
        return self.forward[-1].return_sequences

    @property
    def arrays(self) -> Arrays:
        """Its canonical weights, by layer, direction and name."""
        return Arrays(
            {f"{layer.name}.{name}": held for layer in self.recurrent for name, held in layer.arrays.held.items()}
        )

    @property
    def facts(self) -> dict[str, object]:
        """What people want to know of it beside its sizes."""
        stacks = {"forward": self.forward, "backward": self.backward}
        layers: dict[str, object] = {key: [layer.facts for layer in stack] for key, stack in stacks.items()}
        return {"merge_mode": str(self.merge_mode), **layers}

    def given(self, runs: Mapping[str, LayerRun]) -> tuple[Array, ...]:
        """What the next layer gets, out of the runs of its layers: one array, or two with merge_mode None."""
        forward, backward = (stack[-1].given[0].of([runs[stack[-1].name]]) for stack in self.stacks)
        return merged(forward, backward, self.merge_mode)

    def compute(
        self, x: Float64, states: Mapping[str, State], rounding: Rounding, mask: Mask | None = None
    ) -> dict[str, Trajectory]:
        """Every step of every layer in float64 on x, (batch, time, input), by name."""
        paths: dict[str, Trajectory] = {}
        for stack in self.stacks:
            value = x
            for layer, following in pairwise((*stack, None)):
                assert layer is not None
                paths[layer.name] = layer.compute(value, states[layer.name], rounding, mask)
                if following is not None:
                    value = layer.given[0].of([paths[layer.name].run])
        return paths


def merged(forward: Array, backward: Array, merge_mode: MergeMode | None) -> tuple[Array, ...]:
    """Two outputs, (..., features) each, as `keras.layers.Bidirectional` merges them.

    Example:
        >>> merged(np.array([1.0]), np.array([3.0]), "ave")[0].tolist()
        [2.0]
    """
    if merge_mode is None:
        return forward, backward
    if merge_mode == "concat":
        return (np.concatenate([forward, backward], axis=-1),)
    return (merge(forward, backward, merge_mode),)
