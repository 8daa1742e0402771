"""A named mistake, as a pure function that repeats it on a right model; and where it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

from parity.diagnosis.case import Case, Change
from parity.diagnosis.repair import Repair
from parity.network import Recurrent
from parity.recurrent import Direction, Weights


@dataclass(frozen=True)
class Place:
    """Where a fault is.

    Args:
        layer: the layer's name, "" for the whole model.
        direction: of the layer, "" for all.
        tensor: which of its canonical weights, "" for none or for all.
        gate: the canonical letter of the gate, "" for none or for all.
        called: what its owner calls the layer, where the graph has other names for parts of it; "" for `layer`.

    Example:
        >>> str(Place("lstm_1", "backward", "recurrent", "f")), str(Place())
        ("layer 'lstm_1', backward direction, recurrent kernel, forget gate f", 'the whole model')
    """

    layer: str = ""
    direction: Direction | str = ""
    tensor: str = ""
    gate: str = ""
    called: str = ""

    def __str__(self) -> str:
        words = [
            f"layer '{self.called or self.layer}'" if self.layer else "",
            f"{self.direction} direction" if self.direction else "",
            TENSORS.get(self.tensor, self.tensor),
            f"{_GATES[self.gate]} {self.gate}" if self.gate else "",
        ]
        return ", ".join(word for word in words if word) or "the whole model"


TENSORS = {
    "kernel": "input kernel",
    "recurrent": "recurrent kernel",
    "bias_input": "bias of the input",
    "bias_recurrent": "bias of the recurrence",
    "projection": "projection",
    "peepholes": "peepholes",
}
"""The canonical weights, in words."""

_GATES = {
    "i": "input gate",
    "f": "forget gate",
    "g": "candidate",
    "o": "output gate",
    "r": "reset gate",
    "z": "update gate",
    "n": "candidate",
}


@dataclass(frozen=True, eq=False)
class Fault:
    """One mistake.

    Args:
        name: of the kind of mistake, the same wherever it is made: "gate order", "bias doubled".
        cause: what the suspect does, in a clause that follows "the suspect": "has the gates of its recurrent kernel in the order i o f g".
        place: where.
        replay: the same mistake made in a right model; looks everything up by name, so that it can follow another fault's replay.
        repair: how a suspect that has made it is mended; None where that takes another model.
        rank: how often people make it: 1 for the most frequent; ties are broken by the order of the families.
        shows: what the inputs need so that it can show, as a clause: "needs more than one step".
        alone: whether it is only tried by itself: one of so many of its kind, and so rare, that pairs with it would take too long.
        moves: whether it takes weights or values to another place, so that a mistake made there before shows elsewhere.
        told: gives `cause` in the letters and orders of a framework ("torch", "keras", "onnx", "" for one that is not known).
    """

    name: str
    cause: str
    place: Place
    replay: Change
    repair: Repair | None = None
    rank: int = 50
    shows: str = ""
    alone: bool = False
    moves: bool = False
    told: Callable[[str], str] | None = None

    def __str__(self) -> str:
        return f"{self.cause} ({self.place})"

    def told_for(self, framework: str) -> Fault:
        """The same with its cause as people of a framework say it.

        Args:
            framework: "torch", "keras" or "onnx"; "" for one that is not known.
        """
        return self if self.told is None else replace(self, cause=self.told(framework))


Family: TypeAlias = Callable[[Case], Iterator[Fault]]
"""Every fault of some kinds that could be made in a model."""


def places(case: Case) -> Iterator[tuple[Recurrent, int, Direction, Weights]]:
    """Every direction of every recurrent layer: the layer, the number and name of the direction, its weights."""
    for layer in case.recurrent():
        for index, direction in enumerate(layer.spec.directions):
            yield layer, index, direction, layer.weights[index]


def with_weights(layer: str, direction: Direction, change: Callable[[Recurrent, Weights], Weights]) -> Change:
    """A change of the weights of one direction of a recurrent layer.

    Args:
        layer: its name.
        direction: which.
        change: gives other weights of the same shapes.
    """

    def changed(operation: object) -> Recurrent:
        assert isinstance(operation, Recurrent)
        index = operation.spec.directions.index(direction)
        weights = list(operation.weights)
        weights[index] = change(operation, weights[index])
        return replace(operation, weights=tuple(weights))

    return lambda case: case.with_layer(layer, changed)


def with_option(layer: str, change: Callable[[Recurrent], Recurrent]) -> Change:
    """A change of the options of a recurrent layer."""

    def changed(operation: object) -> Recurrent:
        assert isinstance(operation, Recurrent)
        return change(operation)

    return lambda case: case.with_layer(layer, changed)


__all__ = ["TENSORS", "Family", "Fault", "Place", "places", "with_option", "with_weights"]
