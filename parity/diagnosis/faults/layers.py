"""Layers of a graph by their kind, changed one by one or all together: what faults of the layers around recurrent ones are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from parity.deferred import Array
from parity.diagnosis.case import Case, Change
from parity.diagnosis.fault import Fault, Place
from parity.graph.graph import Node, Wire
from parity.graph.operations.operation import Plain, Shape, all_of
from parity.reference import Rounding

Kind = TypeVar("Kind")


@dataclass(frozen=True, eq=False)
class Nothing(Plain):
    """Hands on what it takes: a layer that is left out.

    Args:
        name: unique among the operations of a graph.

    Example:
        >>> Nothing("left out").shapes((2, 3))
        ((2, 3),)
    """

    def shapes(self, *shapes: Shape | None) -> tuple[Shape, ...]:
        """Of what it gives: that of what it takes."""
        return tuple(all_of(shapes, 1, self.name))

    def compute(self, *values: Any, rounding: Rounding) -> tuple[Any, ...]:
        """What it takes."""
        return values


@dataclass(frozen=True, eq=False)
class Factor(Plain):
    """Numbers times a factor.

    Args:
        name: unique among the operations of a graph.
        by: the factor.

    Example:
        >>> Factor("twice", 2.0).shapes((2, 3))
        ((2, 3),)
    """

    by: float

    def shapes(self, *shapes: Shape | None) -> tuple[Shape, ...]:
        """Of what it gives: that of what it takes."""
        return tuple(all_of(shapes, 1, self.name))

    def compute(self, *values: Any, rounding: Rounding) -> tuple[Any, ...]:
        """The product in float64."""
        return (rounding.product(values[0] * self.by, self.name),)


def layers_of(case: Case, kind: type[Kind]) -> Iterator[tuple[str, Kind]]:
    """Every operation of a kind with its name, each once."""
    return ((one.name, one) for one in case.graph.operations if isinstance(one, kind))


def nodes_of(case: Case, kind: type[Kind]) -> Iterator[tuple[Node, Kind]]:
    """Every call of an operation of a kind, in order."""
    return ((node, node.operation) for node in case.graph.nodes if isinstance(node.operation, kind))


def changed(name: str, kind: type[Kind], change: Callable[[Kind], Any]) -> Change:
    """A change of one operation.

    Args:
        name: of the operation.
        kind: that it has to have: another fault may have put something else there.
        change: gives another operation of the same name.
    """

    def checked(operation: object) -> Any:
        if not isinstance(operation, kind):
            raise KeyError(name)
        return change(operation)

    return lambda case: case.with_layer(name, checked)


def behind(name: str, made: Callable[[str], Any]) -> Change:
    """An operation put on whatever one operation gives, at every call of it.

    Args:
        name: of the operation.
        made: makes the other one, from its name.
    """

    def replay(case: Case) -> Case:
        operation = made(f"{name} changed")
        for node in case.graph.nodes:
            if node.operation.name == name:
                case = case.with_behind(Wire(node.name), operation)
        return case

    return replay


def in_turn(*changes: Change) -> Change:
    """Changes one after the other."""

    def replay(case: Case) -> Case:
        for change in changes:
            case = change(case)
        return case

    return replay


def together(case: Case, faults: Iterable[Fault]) -> Iterator[Fault]:
    """Faults of single layers, and those that people make in all layers of a kind: the same mistake with the same cause.

    Args:
        case: the right model.
        faults: each of one layer.
    """
    kinds = {one.name: type(one).__name__ for one in case.graph.operations}
    singles = list(faults)
    groups: dict[object, list[Fault]] = {}
    for fault in singles:
        for key in ((fault.name, fault.cause), (fault.name, fault.cause, kinds.get(fault.place.layer, ""))):
            groups.setdefault(key, []).append(fault)
    yield from singles
    for group in {tuple(map(id, group)): group for group in groups.values() if len(group) > 1}.values():
        first = group[0]
        names = list(dict.fromkeys(one.place.layer for one in group))
        if len(names) != len(group):
            continue
        shown = ", ".join(f"'{one.called or one.layer}'" for one in dict.fromkeys(one.place for one in group))
        yield Fault(
            first.name,
            f"{first.cause}, in the layers {shown}",
            Place(tensor=first.place.tensor),
            in_turn(*(one.replay for one in group)),
            tuple(step for one in group for step in one.repair or ()),
            first.rank,
            first.shows,
        )


def place_of(case: Case, name: str, tensor: str = "") -> Place:
    """A layer as a place, by the name that its owner gave it: a convolution of Keras with an activation is two operations here.

    Args:
        case: the model.
        name: of the operation.
        tensor: which of its weights.
    """
    wires = {Wire(node.name) for node in case.graph.nodes if node.operation.name == name}
    behind_it = {one.operation.name for one in case.graph.nodes if wires & set(one.inputs)}
    whole = next(iter(behind_it)) if len(behind_it) == 1 else ""
    return Place(name, tensor=tensor, called=whole if whole and name == f"{whole}_linear" else "")


def shapes_in(case: Case) -> dict[Wire, Shape]:
    """The shape of every value on the inputs of a case."""
    lengths = {
        word: length
        for one in case.graph.inputs
        for word, length in zip(one.shape, case.inputs[one.name].shape, strict=True)
        if isinstance(word, str)
    }
    return case.graph.shapes(lengths)


def with_weights(operation: Kind, **arrays: Array | None) -> Kind:
    """The same operation with other weights."""
    made: Kind = replace(operation, **arrays)  # type: ignore[type-var]  # all operations are dataclasses
    return made


__all__ = [
    "Factor",
    "Nothing",
    "behind",
    "changed",
    "in_turn",
    "layers_of",
    "nodes_of",
    "place_of",
    "shapes_in",
    "together",
    "with_weights",
]
