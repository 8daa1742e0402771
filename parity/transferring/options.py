"""Options of layers that change their numbers and are no weights: said alike for every framework, and compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from parity.cell import Cell
from parity.errors import Problem
from parity.layouts import SLOTS
from parity.leaf_layouts import IDLE, LEAF_OPTIONS, SPACE, LeafOption
from parity.transferring.units import Unit

_FIELDS = {"keras": "keras", "torch": "torch", "onnxruntime": "onnx"}


def options_from(kind: str, framework: str, said: Callable[[str], object]) -> dict[str, object]:
    """The options of a layer that are compared.

    Args:
        kind: of layer.
        framework: whose names `said` takes.
        said: gives the value of an option, None where nothing says it.

    Example:
        >>> options_from("conv1d", "torch", {"stride": (2,), "padding": (0,), "dilation": (1,), "groups": 1}.get)["stride"]
        2
    """
    found: dict[str, object] = {}
    for option in LEAF_OPTIONS.get(kind, ()):
        own = getattr(option, _FIELDS[framework])
        value = plain(said(own)) if own else None
        found[option.name] = IDLE.get(option.name) if value is None else value
    return found


def plain(value: Any) -> object:
    """An option's value; one number for several equal ones, a name for a serialized function.

    Example:
        >>> plain((1, 1)), plain({"class_name": "Softmax"})
        (1, 'Softmax')
    """
    if isinstance(value, Mapping):
        return str(value.get("config") if isinstance(value.get("config"), str) else value.get("class_name"))
    if isinstance(value, (list, tuple)):
        items = [plain(item) for item in value]
        return items[0] if items and all(item == items[0] for item in items) else tuple(items)
    return value


def differences(source: Unit, target: Unit) -> Iterator[tuple[bool, Problem]]:
    """Where two layers of one kind compute something else with the same weights, and whether that forbids to write them."""
    where = f"'{source.name}' -> '{target.name}'"
    if source.spec is not None and target.spec is not None:
        yield from _recurrent(source, target, where)
        return
    for option in LEAF_OPTIONS.get(target.kind, ()) if source.options else ():
        theirs, ours = source.options.get(option.name), target.options.get(option.name)
        if theirs is None and option.name not in IDLE:
            if option.name == "eps" and source.framework != target.framework:
                got = f"not said by the source, {ours:g} in the target" if isinstance(ours, float) else str(ours)
                yield False, Problem(f"{option.name} may differ", where, "the value it was trained with", got)
        elif not _alike(option, theirs, ours, source, target):
            yield option.meaning, _differs(option, theirs, ours, where, target)


def _differs(option: LeafOption, theirs: object, ours: object, where: str, target: Unit) -> Problem:
    remedy = f"set {option.name} of '{target.name}' to what the source has"
    if option.name == "activation":
        remedy = (
            f"apply {theirs} behind it in your own forward" if ours == "linear" else "check where the source applies it"
        )
    elif option.name == "mask_zero":
        remedy = "leave padded steps out yourself (lengths or a mask)" if theirs else "set mask_zero=False"
    return Problem(f"{option.name} differs", where, f"{theirs} as in the source", str(ours), remedy)


def _alike(option: LeafOption, theirs: object, ours: object, source: Unit, target: Unit) -> bool:
    if option.name == "padding":
        return _padding(theirs, source) == _padding(ours, target)
    if isinstance(theirs, float) and isinstance(ours, float):
        return abs(theirs - ours) <= 1e-6 * abs(theirs)  # Keras and files keep some of them in float32
    return theirs == ours


def _padding(value: object, unit: Unit) -> object:
    """Zeros are "valid"; as many as keep the length at stride 1 are "same"."""
    if value in (0, "valid"):
        return "valid"
    axes = [axis for space in SPACE.values() for axis in space.split()]
    kernel = plain([size for axis, size in unit.axes.items() if axis in axes])
    dilation = unit.options.get("dilation")
    if isinstance(value, int) and isinstance(kernel, int) and isinstance(dilation, int):
        keeps = unit.options.get("stride") == 1 and 2 * value == dilation * (kernel - 1)
        return "same" if keeps else value
    return value


def _recurrent(source: Unit, target: Unit, where: str) -> Iterator[tuple[bool, Problem]]:
    assert source.spec is not None
    assert target.spec is not None
    kind = source.spec.kind
    for direction, theirs, ours in zip(source.spec.directions, source.cells, target.cells, strict=True):
        for what, got, expected in _cells(kind, theirs, ours):
            way = f"{where} ({direction})" if len(source.cells) > 1 else where
            remedy = "parity.to_torch(source), parity.to_keras(source) build a layer that computes it"
            yield True, Problem(f"the target computes another {what}", way, f"{expected} as in the source", got, remedy)
    if source.spec.directions != target.spec.directions:
        got = f"{' and '.join(source.spec.directions)} -> {' and '.join(target.spec.directions)}"
        remedy = "turn the input's steps, and the output's"
        yield False, Problem("the target goes through the steps the other way", where, "one direction", got, remedy)
    if source.merge_mode != target.merge_mode:
        got = f"{source.merge_mode} -> {target.merge_mode}"
        remedy = "merge the two outputs in your own forward as the source does"
        yield False, Problem("the two directions' outputs are merged differently", where, "one merge_mode", got, remedy)


def _cells(kind: Any, theirs: Cell, ours: Cell) -> Iterator[tuple[str, str, str]]:
    """What differs between two cells: what, the target's, the source's."""
    for slot, source, target in zip(SLOTS[kind], theirs.functions, ours.functions, strict=True):
        if source != target:
            yield f"{slot} function", str(target), str(source)
    for name in ("reset_after", "clip", "input_forget"):
        if getattr(theirs, name) != getattr(ours, name) and (name != "reset_after" or kind == "gru"):
            yield name, f"{name}={getattr(ours, name)}", f"{name}={getattr(theirs, name)}"
