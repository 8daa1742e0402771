"""Recurrent layers of a graph as ONNX nodes: native ones where ONNX can say the layer, else what `cells` composes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from parity.conventions import Value
from parity.frameworks.onnx.giving import Shown, computed, merged, value_of
from parity.frameworks.onnx.masks import StepMask
from parity.frameworks.onnx.single import both_as_float32, recurrent_as_float32
from parity.frameworks.onnx.trace import STEPS
from parity.frameworks.onnx.whole.writing_values import Call, Order
from parity.network import Bidirectional, Recurrent

_STEPS_FIRST: Order = (1, 0, 2)


def write_recurrent(call: Call) -> None:
    """x, mask or None, then states or none: gives every entry of `layer.values`."""
    layer = call.operation
    assert isinstance(layer, Recurrent)
    shown = computed(
        call.assembly,
        recurrent_as_float32(layer),
        call.taken(call.x, "float", _STEPS_FIRST),
        _mask(call),
        _initial(call, layer),
        call.name,
    )
    for index, value in enumerate(layer.values):
        _give(call, layer, shown, value, index)


def write_bidirectional(call: Call) -> None:
    """x, mask or None: gives what it gives on."""
    layer = call.operation
    assert isinstance(layer, Bidirectional)
    x, mask, single = call.taken(call.x, "float", _STEPS_FIRST), _mask(call), both_as_float32(layer)
    ends: list[tuple[Recurrent, Shown]] = []
    for stack, own in zip(single.stacks, layer.stacks, strict=True):
        value, last = x, len(stack) - 1
        for index, inner in enumerate(stack):
            named, node = _named(call, layer, own[index], inner)
            shown = computed(call.assembly, named, value, mask, None, node)
            if index < last:
                value = _steps_first(call, named, shown, named.given[0])
            else:
                ends.append((named, shown))
    if layer.merge_mode is None:
        for index, (inner, shown) in enumerate(ends):
            _give(call, inner, shown, inner.given[0], index)
        return
    if not layer.return_sequences:
        call.give(_merged(call, layer, [_usual(call, *end, end[0].given[0]) for end in ends]))
        return
    together = _merged(call, layer, [_steps_first(call, *end, end[0].given[0]) for end in ends])
    call.give(together, order=_STEPS_FIRST)


def _named(call: Call, layer: Bidirectional, own: Recurrent, inner: Recurrent) -> tuple[Recurrent, str]:
    """A layer inside under a name that no other layer has, for its weights, and one for the node of this call."""
    wanted, key = f"{layer.name}.{own.name}", f"name of {id(own)}"
    if key not in call.shared:
        name = call.shared[key] = call.assembly.node_name(wanted)
        return replace(inner, name=name), name
    return replace(inner, name=call.shared[key]), call.assembly.node_name(wanted)


def _merged(call: Call, layer: Bidirectional, halves: list[str]) -> str:
    assert layer.merge_mode is not None
    if layer.merge_mode == "concat":
        return call.op("Concat", *halves, what="output", axis=-1)
    return merged(call.assembly, halves[0], halves[1], layer.merge_mode, f"{call.name}.output")


def _give(call: Call, layer: Recurrent, shown: Shown, value: Value, index: int) -> None:
    """Hands over one value; a sequence in the order of axes in which somebody asks for it."""
    usual = partial(_usual, call, layer, shown, value, index)
    steps_first = partial(_steps_first, call, layer, shown, value, index)
    ready: dict[Order, Callable[[], str]] = {(0, 1): usual}
    if value.axes.startswith("batch time"):
        # One direction has its steps first anyway; with two there is a transposition in either case.
        ready = (
            {_STEPS_FIRST: steps_first} if not layer.bidirectional else {(0, 1, 2): usual, _STEPS_FIRST: steps_first}
        )
    call.give_ready(ready, index)


def _usual(call: Call, layer: Recurrent, shown: Shown, value: Value, index: int = 0) -> str:
    name = f"{call.name}.{value.name}" if index else f"{call.name}.output"
    return value_of(call.assembly, layer, shown, value, name)


def _steps_first(call: Call, layer: Recurrent, shown: Shown, value: Value, index: int = 0) -> str:
    if not layer.bidirectional:
        tensor, axes = shown.of(value.quantity)
        if value.reverse:
            name = f"{call.name}.output.reversed"
            tensor = call.assembly.flipped(tensor, axes.split().index("time"), name, call.where)
        return call.op("Squeeze", tensor, call.integers("direction", axes.split().index("direction")), what="output")
    axes = value.axes.replace("batch time", STEPS)
    return _usual(call, layer, shown, replace(value, axes=axes), index)


def _mask(call: Call) -> StepMask | None:
    held = call.inputs[1] if len(call.inputs) > 1 else None
    if held is None:
        return None
    valid = call.taken(held, "bool", (1, 0))
    known: dict[str, Any] = call.shared
    if valid not in known:
        known[valid] = StepMask(call.assembly, valid, held.name)
    found: StepMask = known[valid]
    return found


def _initial(call: Call, layer: Recurrent) -> list[str] | None:
    """The states, (batch, features) each in Keras's order, as (direction, batch, features) each."""
    states = [held for held in call.inputs[2:] if held is not None]
    if not states:
        return None
    tensors = [call.taken(held, "float") for held in states]
    kinds, found = len(layer.spec.states), []
    for index, state in enumerate(layer.spec.states):
        name = f"{call.name}.initial_{state}"
        rows = [call.assembly.unsqueezed(tensor, 0, f"{name}.row") for tensor in tensors[index::kinds]]
        found.append(rows[0] if len(rows) == 1 else call.assembly.node("Concat", rows, name, axis=0))
    return found


__all__ = ["write_bidirectional", "write_recurrent"]
