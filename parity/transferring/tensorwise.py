"""Names of single tensors, as the table shows them: those of two known layers mean the layers, so that axes and gates are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from parity.errors import Problem
from parity.transferring.described import interpretations
from parity.transferring.naming import Names
from parity.transferring.units import SINGLE, UNTYPED, Leaf, Unit


@dataclass
class Layerwise:
    """Names of layers for names of tensors, and what stands against some of them."""

    names: dict[str, str | None] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def layerwise(sources: Sequence[Unit], targets: Sequence[Unit], names: Names) -> Layerwise:
    """Read names of tensors of known layers as names of those layers.

    Args:
        sources, targets: all units of both sides.
        names: given by the user.

    Returns:
        Names in which a tensor stands only where its layer, or the other side's, is in no table.
    """
    ours, theirs, found = _leaves(sources), _leaves(targets), Layerwise()
    for key, value in names.items():
        if value is None or key not in ours or value not in theirs:
            _add(found, key, value)
            continue
        (source, own), (target, leaf) = ours[key], theirs[value]
        typed = _typed(source, own, target)
        if typed is None and source.kind == UNTYPED:
            _add(found, key, value)
            continue
        source, own = typed or (source, own)
        if source.kind != target.kind and source.framework == target.framework:
            _add(found, key, value)
        elif source.kind != target.kind or not source.members_of(own) & target.members_of(leaf):
            found.problems.append(_unlike(key, value, source, own, target, leaf))
        else:
            _add(found, *_layers(source, own, target, leaf))
    return found


def _leaves(units: Sequence[Unit]) -> dict[str, tuple[Unit, Leaf]]:
    """The tensors of known layers by their names; names that are also those of layers mean the layers."""
    layers = {unit.name for unit in units}
    return {
        leaf.name: (unit, leaf)
        for unit in units
        if unit.kind != SINGLE
        for leaf in unit.leaves
        if leaf.name not in layers
    }


def _typed(source: Unit, own: Leaf, target: Unit) -> tuple[Unit, Leaf] | None:
    """Tensors whose class the file does not say, as the layer of the target that they fit."""
    if source.kind != UNTYPED:
        return source, own
    at = source.leaves.index(own)
    unit = next((one for one in interpretations(source) if one.signature == target.signature), None)
    return (unit, unit.leaves[at]) if unit else None


def _layers(source: Unit, own: Leaf, target: Unit, leaf: Leaf) -> tuple[str, str]:
    """The names of two layers; of one direction where only one of them has two, or the tensors are of different ones."""
    names = []
    counts = [len(unit.spec.directions) if unit.spec is not None else 1 for unit in (source, target)]
    whole = counts[0] == counts[1] and own.direction == leaf.direction
    for unit, one, count in ((source, own, counts[0]), (target, leaf, counts[1])):
        names.append(unit.name if whole or count == 1 else unit.direction(one.direction).name)
    return names[0], names[1]


def _unlike(key: str, value: str, source: Unit, own: Leaf, target: Unit, leaf: Leaf) -> Problem:
    axes = [f"{unit.kind}, axes {unit.axes_of(one)}" for unit, one in ((source, own), (target, leaf))]
    remedy = f'name the layers: names={{"{source.name}": "{target.name}"}}'
    what = "names: these two tensors are not the same part of a layer"
    return Problem(what, f"'{key}' -> '{value}'", axes[0], axes[1], remedy if source.kind == target.kind else "")


def _add(found: Layerwise, key: str, value: str | None) -> None:
    other = found.names.setdefault(key, value)
    if other != value:
        remedy = "a layer goes to one layer; leave the rest out by None, or copy single tensors in your own code"
        what = f"names: the tensors of '{key}' go to two places"
        found.problems.append(Problem(what, "", f"'{other}'", f"'{value}'", remedy))
