"""Names of layers and tensors: alike, in families, inside others."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from parity.leaf_layouts import LEAF_LAYOUTS
from parity.transferring.units import SINGLE, Unit

Names = Mapping[str, "str | None"]
_SEPARATORS = re.compile(r"[./_\-]+")
_DEPTH = re.compile(r"_l(\d+)")


def normalised(name: str) -> str:
    """A name without case, its separators alike; numbers are kept.

    Example:
        >>> normalised("Encoder/LSTM.1"), normalised("encoder.lstm_1")
        ('encoder_lstm_1', 'encoder_lstm_1')
    """
    return _SEPARATORS.sub("_", name.lower()).strip("_")


def numbers(names: Sequence[str]) -> list[int] | None:
    """The number of each name, where they are one family that differs in it alone; None where they are not.

    Example:
        >>> numbers(["lstm_10", "lstm", "lstm_9"]), numbers(["layers.1.rnn", "layers.0.rnn"]), numbers(["first", "second"])
        ([10, -1, 9], [1, 0], None)
    """
    ends = [re.fullmatch(r"(.*?)_?(\d+)?", normalised(name)) for name in names]
    if len({end[1] for end in ends if end}) == 1:
        found = [int(end[2]) if end and end[2] else -1 for end in ends]
        if len(set(found)) == len(names):
            return found
    parts = [re.split(r"(\d+)", normalised(name)) for name in names]
    if len({len(part) for part in parts}) != 1:
        return None
    differing = [at for at, column in enumerate(zip(*parts, strict=True)) if len(set(column)) > 1]
    if len(differing) != 1 or differing[0] % 2 == 0:
        return None
    inner = [int(part[differing[0]]) for part in parts]
    return inner if len(set(inner)) == len(names) else None


_CLASSES = {name for row in LEAF_LAYOUTS.values() if row.framework == "keras" for name in row.classes}
_AUTOMATIC = {
    re.sub("([a-z])([A-Z])", r"\1_\2", re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)).lower()
    for cell in ("LSTM", "GRU", "SimpleRNN")
    for name in (*_CLASSES, cell, f"{cell}Cell", "RNN", "Bidirectional", "TimeDistributed")
}
"""The names that Keras gives by itself (`keras/src/utils/naming.py`, `to_snake_case`): they count the layers as they are made."""


def automatic(name: str) -> bool:
    """Whether a name of a Keras layer is one that Keras gives by itself, in the order in which the layers are made.

    Example:
        >>> automatic("model/lstm_1"), automatic("conv1d"), automatic("encoder_1")
        (True, True, False)
    """
    return any(re.sub(r"_\d+$", "", part) in _AUTOMATIC for part in re.split(r"[./]", name))


def repeated(name: str) -> bool:
    """Whether several layers or tensors of the model have this name, so that a number tells them apart; it says nothing of their order."""
    return re.search(r"#\d+", name) is not None


def distinct(units: Sequence[Unit]) -> list[Unit]:
    """Units of one name, and tensors of one name, get "#1", "#2" and so on behind it.

    Example:
        >>> [unit.name for unit in distinct([Unit("d", SINGLE, "keras", "", ()), Unit("d", SINGLE, "keras", "", ())])]
        ['d#1', 'd#2']
    """
    often = Counter(unit.name for unit in units)
    seen: Counter[str] = Counter()
    found: list[Unit] = []
    for unit in units:
        seen[unit.name] += 1
        end = f"#{seen[unit.name]}" if often[unit.name] > 1 else ""
        name = unit.name + end
        leaves = tuple(
            replace(
                leaf,
                name=f"{name}{leaf.name[len(unit.name) :]}" if leaf.name.startswith(unit.name) else leaf.name + end,
            )
            for leaf in unit.leaves
        )
        found.append(replace(unit, name=name, leaves=leaves) if end else unit)
    return found


def leading(units: Sequence[Unit]) -> str:
    """What all names begin with, up to a separator, as `module.` of a wrapped model.

    Example:
        >>> unit = Unit("module.lstm", SINGLE, "torch", "", ())
        >>> leading([unit, replace(unit, name="module.head")])
        'module.'
    """
    heads = {re.match(r"[^./]*[./]", unit.name) for unit in units}
    found = {head[0] for head in heads if head}
    whole = len(found) == 1 and None not in heads
    first = next(iter(found), "")
    numbered = first.rstrip("./").isdecimal()
    return first if whole and not numbered else ""


def prefix_items(units: Sequence[Unit], name: str, whole: bool = False) -> dict[str, Unit]:
    """The units that a name of the user means, by the rest of their names: one layer, or all in a module or stack.

    Args:
        units: of one side.
        name: of a layer, of a module around some, of a stack whose layers end in _l0, _l1, ...; unless `whole` also of one direction of a
            layer ("lstm.forward") or of one tensor.
        whole: whether only whole layers are meant.
    """
    exact = [unit for unit in units if unit.name == name]
    if exact:
        return {"": exact[0]}
    inside = {
        unit.name[len(name) :].replace("/", "."): unit
        for unit in units
        if unit.name.startswith((f"{name}.", f"{name}/"))
        or (unit.name.startswith(name) and _DEPTH.fullmatch(unit.name[len(name) :]))
    }
    if inside or whole:
        return inside
    for unit in units:
        if unit.spec is not None and len(unit.spec.directions) == 2:
            for index in range(2):
                part = unit.direction(index)
                if name.replace("/", ".") == part.name.replace("/", "."):
                    return {"": part}
        for leaf in unit.leaves:
            if leaf.name == name:
                if len(unit.leaves) == 1 and unit.spec is None:
                    return {"": unit}
                return {"": Unit(name, SINGLE, unit.framework, unit.class_name, (replace(leaf, role="value"),))}
    bare = name.rstrip("./")
    return prefix_items(units, bare) if bare and bare != name else {}
