"""What is compared: every array of a result, with the names of its axes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from parity.network import Network
from parity.recurrent import Array, Direction
from parity.result import Result


@dataclass(frozen=True)
class Quantity:
    """One array that is compared: an output of the model, or what a recurrent layer computed.

    Args:
        name: "sequence", "h_n", "c_n" (with the layer's name in front where there are several), or "output <name>".
        axes: of the array, the last one being units of one direction.
        directions: what the indices of a direction axis mean.
    """

    name: str
    axes: tuple[str, ...]
    directions: tuple[Direction, ...] = ()

    def place(self, index: Sequence[int | np.integer[Any]]) -> dict[str, int | str]:
        """An index with the names of its axes.

        Example:
            >>> Quantity("h_n", ("direction", "batch", "hidden"), ("forward", "backward")).place((1, 2, 0))
            {'direction': 'backward', 'batch': 2, 'hidden': 0}
        """
        return {
            axis: self.directions[int(position)] if axis == "direction" else int(position)
            for axis, position in zip(self.axes, index, strict=True)
        }


def quantities(network: Network, result: Result) -> Iterator[tuple[Quantity, Array]]:
    """Everything of a result that can be compared, with named axes.

    Example:
        >>> from parity.network import Recurrent
        >>> from parity.recurrent import RecurrentSpec, Weights
        >>> from parity.result import LayerRun, State
        >>> spec = RecurrentSpec("gru", 2, 5)
        >>> layer = Recurrent("gru", spec, (Weights(np.zeros((3, 5, 2)), np.zeros((3, 5, 5))),))
        >>> result = Result("x", {}, {"gru": LayerRun(State(np.zeros((1, 3, 5))), np.zeros((3, 4, 1, 5)))})
        >>> [quantity.name for quantity, _ in quantities(Network("gru", (layer,)), result)]
        ['sequence', 'h_n']
    """
    for name, array in result.outputs.items():
        yield Quantity(f"output {name}", ("batch", "time", "unit") if array.ndim == 3 else ("batch", "unit")), array
    alone = len(network.recurrent) == 1
    for name, run in result.layers.items():
        prefix, directions = "" if alone else f"{name}.", network.specs[name].directions
        if run.sequence is not None:
            yield Quantity(f"{prefix}sequence", ("batch", "time", "direction", "hidden"), directions), run.sequence
        yield Quantity(f"{prefix}h_n", ("direction", "batch", "hidden"), directions), run.final.h
        if run.final.c is not None:
            yield Quantity(f"{prefix}c_n", ("direction", "batch", "hidden"), directions), run.final.c


__all__ = ["Quantity", "quantities"]
