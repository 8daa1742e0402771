"""Where a suspect keeps each of its canonical weights: the expression of an array, and the part of it."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from parity.diagnosis.repairs.resolving import Place
from parity.layouts import CANONICAL_AXES, Layout, Tensor, axis_groups
from parity.network import Recurrent
from parity.recurrent import RecurrentSpec, Weights


@dataclass(frozen=True)
class Slot:
    """Where one canonical array is.

    Args:
        holder: Python for the framework's tensor.
        part: the index of what is meant of it, "" for all.
        groups: the axes of that part, as `axis_groups` gives them.
        layout, tensor, spec: what the tensor is.
        member: which of the canonical weights.
    """

    holder: str
    part: str
    groups: tuple[tuple[str, ...], ...]
    layout: Layout
    tensor: Tensor
    spec: RecurrentSpec
    member: str

    @property
    def axes(self) -> str:
        """The axes as an einops pattern."""
        return " ".join(group[0] if len(group) == 1 else f"({' '.join(group)})" for group in self.groups)

    def axis(self, *names: str) -> int:
        """Which dimension holds one of these axes.

        Raises:
            ValueError: none does.
        """
        found = [number for number, group in enumerate(self.groups) if set(names) & set(group)]
        if not found:
            raise ValueError(f"{self.axes} has no {' or '.join(names)}")
        return found[0]

    @property
    def letters(self) -> tuple[str, ...]:
        """The canonical letters along its gates, in the framework's order."""
        return self.layout.letters(self.tensor)


@dataclass(frozen=True, eq=False)
class Tensors:
    """The tensors of one recurrent layer of the suspect.

    Args:
        layout: how they are kept.
        spec: of the layer.
        holders: Python for each of them, by direction and its name in the layout; one that holds both directions under each.
        context: what the framework says of the layer.
    """

    layout: Layout
    spec: RecurrentSpec
    holders: Mapping[tuple[int, str], str]
    context: Mapping[str, object] = field(default_factory=dict)

    def owner(self, direction: int) -> str:
        """Python for what has the tensors of a direction as its attributes; "" where nothing has."""
        found = {holder.rpartition(".")[0] for (way, _), holder in self.holders.items() if way == direction}
        return found.pop() if len(found) == 1 else ""

    @property
    def key(self) -> str:
        """The name of the first tensor, where they are held by name; "" where there is none."""
        held = next(iter(self.holders.values()), "").partition("[")[2].rpartition("]")[0]
        return str(ast.literal_eval(held)) if held else ""

    def slot(self, direction: int, member: str) -> Slot | None:
        """Where a canonical array is; None where no expression reaches it."""
        rows = [one for one in self.layout.tensors if member in one.members and (direction, one.name) in self.holders]
        if not rows:
            return None
        tensor = rows[0]
        index: list[str] = []
        groups: list[tuple[str, ...]] = []
        for group in axis_groups(tensor.axes):
            if group == ["direction"]:
                index.append(str(direction))
            elif group == ["source"]:
                index.append(str(tensor.members.index(member)))
            elif "source" in group:
                length = int(np.prod([self.spec.sizes[axis] for axis in group if axis != "source"]))
                first = tensor.members.index(member) * length
                index.append(f"{first or ''}:{first + length}")
                groups.append(tuple(axis for axis in group if axis != "source"))
            else:
                index.append(":")
                groups.append(tuple(group))
        while index and index[-1] == ":":
            index.pop()
        part = f"[{', '.join(index)}]" if index else ""
        return Slot(self.holders[direction, tensor.name], part, tuple(groups), self.layout, tensor, self.spec, member)


def tensors_of(layer: Recurrent, units: Sequence[tuple[Any, Mapping[str, str]]]) -> Tensors | None:
    """The tensors of a layer of the suspect among the units of its framework: the one that has its name, or else its numbers.

    Args:
        layer: as the suspect was read.
        units: `parity.transferring.units.Unit`, each with the expressions of its tensors by their names.
    """
    alike = [one for one in units if one[0].kind == layer.spec.kind and same(one[0].canonical(), layer.weights)]
    named = [one for one in alike if one[0].name == layer.name]
    if not alike or (len(alike) > 1 and not named):
        return None
    unit, expressions = (named or alike)[0]
    together = any("direction" in tensor.axes for tensor in unit.layout.tensors)
    holders = {
        (direction, leaf.role): expressions[leaf.name]
        for leaf in unit.leaves
        if leaf.name in expressions
        for direction in (range(len(layer.weights)) if together else (leaf.direction,))
    }
    return Tensors(unit.layout, layer.spec, holders, unit.context)


def holders_of(units: Sequence[tuple[Any, Mapping[str, str]]], own: Sequence[Recurrent]) -> dict[int, Tensors]:
    """The tensors of every layer that can be reached, by its number."""
    found = {number: tensors_of(layer, units) for number, layer in enumerate(own)}
    return {number: tensors for number, tensors in found.items() if tensors is not None}


def slot_of(tensors: Mapping[int, Tensors], at: Place, member: str) -> Slot | None:
    """Where the suspect keeps a canonical array; None where no expression reaches it."""
    return tensors[at[0]].slot(at[1], member) if at[0] in tensors else None


def same(one: Sequence[Weights], other: Sequence[Weights]) -> bool:
    """Whether two layers have the same numbers."""
    if len(one) != len(other):
        return False
    for left, right in zip(one, other, strict=True):
        for member in CANONICAL_AXES:
            first, second = left.member(member), right.member(member)
            if (first is None) != (second is None):
                return False
            if first is not None and second is not None and not np.array_equal(first, second):
                return False
    return True


__all__ = ["Slot", "Tensors", "holders_of", "same", "slot_of", "tensors_of"]
