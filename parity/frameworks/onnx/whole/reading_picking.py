"""One place of an axis, taken from as far back as it can be: from the values that were put together, before axes were moved or split."""

from __future__ import annotations

from parity.frameworks.onnx.whole.reading_step import Step, same_length
from parity.frameworks.onnx.whole.reading_values import Value
from parity.graph import Node, Wire
from parity.graph.operations import Concatenate, ExpandDims, Reshape, Slice, Stack, Transpose


def picked(step: Step, x: Value, axis: int, index: int) -> Value:
    """One place of an axis, which is gone then.

    Args:
        step: the node.
        x: where it is taken from.
        axis: of x, from 0 on.
        index: the place; negative from the end.
    """
    made, length = step.reading.producer(x), step.shape(x)[axis]
    place = index + length if index < 0 and isinstance(length, int) else index
    if made is None or not made.inputs or (isinstance(length, int) and not 0 <= place < length):
        return step.selected(x, axis, index)
    found = _from_before(step, x, made, axis, place)
    return step.selected(x, axis, index) if found is None else found


def _from_before(step: Step, x: Value, made: Node, axis: int, place: int) -> Value | None:
    """The same from what the node that gives x takes; None where there is no such way."""
    operation, given = made.operation, [wire for wire in made.inputs if wire is not None]
    if isinstance(operation, Transpose):
        order = operation.axes
        inner, gone = picked(step, given[0], order[axis], place), order[axis]
        return step.transposed(inner, [one - (one > gone) for one in order if one != gone])
    if place < 0:
        return None
    if isinstance(operation, Stack) and operation.axis == axis:
        return given[place]
    if isinstance(operation, ExpandDims) and operation.axes == (axis,):
        return given[0]
    if isinstance(operation, Concatenate) and operation.axis == axis:
        return _from_joined(step, given, axis, place)
    if isinstance(operation, Slice) and len(operation.parts) == 1:
        ((own, start, stop, stride),) = operation.parts
        if own == axis and stride == 1 and (start or 0) >= 0 and (stop is None or isinstance(step.shape(x)[axis], int)):
            return picked(step, given[0], axis, place + (start or 0))
    if isinstance(operation, Reshape) and (found := split_axis(step, x)) is not None and found[1] == axis:
        each = step.shape(x)[axis + 1]
        if isinstance(each, int):
            last = step.shape(x)[axis] == place + 1
            return step.sliced(found[0], axis, place * each, None if last else (place + 1) * each)
    return None


def _from_joined(step: Step, given: list[Wire], axis: int, place: int) -> Value | None:
    for wire in given:
        own = step.shape(wire)[axis]
        if not isinstance(own, int):
            return None
        if place < own:
            return picked(step, wire, axis, place)
        place -= own
    return None


def split_axis(step: Step, x: Value) -> tuple[Wire, int] | None:
    """The value and its axis that a Reshape split into two axes, all others as they were; None for anything else."""
    made = step.reading.producer(x)
    if made is None or not isinstance(made.operation, Reshape) or made.inputs[0] is None:
        return None
    whole, parts = step.shape(made.inputs[0]), step.shape(x)
    if len(parts) != len(whole) + 1:
        return None
    for at in range(len(whole)):
        rest, others = (*whole[:at], *whole[at + 1 :]), (*parts[:at], *parts[at + 2 :])
        if all(same_length(one, other) for one, other in zip(rest, others, strict=True)):
            return made.inputs[0], at
    return None


__all__ = ["picked", "split_axis"]
