"""Arithmetic with lengths: what exporters write to say the shape of a Reshape, an Expand or a state of zeros."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from parity.frameworks.onnx.whole.reading_step import Step
from parity.frameworks.onnx.whole.reading_values import (
    Sizes,
    Spread,
    Sym,
    Undecided,
    UndecidedError,
    Value,
    objects,
    sizes_of,
)


def lengths_followed(step: Step) -> Sequence[Value] | None:
    """What a node gives if it only computes with lengths of axes; None for any other node."""
    if step.op in ("Shape", "Size"):
        return [_shape(step)]
    if any(isinstance(value, Undecided) for value in step.inputs) and step.op in (
        "Not",
        "Cast",
        "And",
        "Or",
        "Identity",
        "Squeeze",
        "Unsqueeze",
    ):
        return [next(value for value in step.inputs if isinstance(value, Undecided))]
    first = step.inputs[0] if step.inputs else None
    if isinstance(first, Spread) and step.op in ("Cast", "Identity"):
        return [first]
    if isinstance(first, Sizes) and step.op in ("Expand", "Tile") and first.array.size == 1:
        return [Spread(first.listed[0])]
    rule = _RULES.get(step.op)
    if rule is None or not any(isinstance(value, Sizes) for value in step.inputs):
        return None
    if step.op in _MOVES and step.op != "Concat" and not isinstance(step.inputs[0], Sizes):
        return None
    arrays = [None if value is None else objects(value) for value in step.inputs]
    if any(value is not None and array is None for value, array in zip(step.inputs, arrays, strict=True)):
        return None
    try:
        return [sizes_of(rule(step, *arrays), step.source)]
    except UndecidedError:
        return [Undecided(f"{step.op} of lengths at '{step.source}'")]


def _shape(step: Step) -> Value:
    lengths: list[Any] = list(step.shape(step.value(0)))
    if step.op == "Size":
        total: Any = 1
        for length in lengths:
            total = length * total
        return sizes_of(total, step.source)
    start, end = step.integer("start", 0), step.attributes.get("end")
    part = lengths[start : None if end is None else int(end)]
    found = np.empty(len(part), object)
    found[:] = part
    return sizes_of(found, step.source)


def _plain(function: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    def rule(step: Step, *arrays: Any) -> Any:
        return function(*arrays)

    return rule


def _divided(step: Step, a: Any, b: Any) -> Any:
    return a // b


def _equal(step: Step, a: Any, b: Any) -> Any:
    left, right = np.broadcast_arrays(a, b)
    found = np.empty(left.shape, object)
    for at in np.ndindex(left.shape):
        one, other = left[at], right[at]
        found[at] = (
            one.equals(other) if isinstance(one, Sym) else other.equals(one) if isinstance(other, Sym) else one == other
        )
    return found


def _where(step: Step, condition: Any, a: Any, b: Any) -> Any:
    return np.where(condition.astype(bool), a, b)


def _product(step: Step, x: Any, axes: Any = None) -> Any:
    if x.ndim != 1:
        raise UndecidedError
    total: Any = 1
    for one in x:
        total = one * total
    keeps = step.integer("keepdims", 1) == 1
    found = np.empty((1,) * keeps, object)
    found[...] = total
    return found


def _gather(step: Step, x: Any, index: Any) -> Any:
    return np.take(x, index.astype(int), axis=step.integer("axis", 0))


def _slice(step: Step, x: Any, *ends: Any) -> Any:
    starts, stops, axes = (step.integers(name, at) for at, name in ((1, "starts"), (2, "ends"), (3, "axes")))
    parts = [slice(None)] * x.ndim
    steps = step.integers("steps", 4) or [1] * len(starts or [])
    for axis, start, stop, stride in zip(axes or range(x.ndim), starts or [], stops or [], steps, strict=False):
        parts[axis] = slice(start, stop, stride)
    return x[tuple(parts)]


def _concat(step: Step, *arrays: Any) -> Any:
    return np.concatenate(arrays, axis=step.integer("axis", 0))


def _unsqueeze(step: Step, x: Any, axes: Any = None) -> Any:
    return np.expand_dims(x, tuple(step.integers("axes", 1) or []))


def _squeeze(step: Step, x: Any, axes: Any = None) -> Any:
    found = step.integers("axes", 1)
    return np.squeeze(x, None if found is None else tuple(found))


def _reshape(step: Step, x: Any, shape: Any = None) -> Any:
    return x.reshape(step.integers("shape", 1))


def _same(step: Step, x: Any, *others: Any) -> Any:
    return x


def _cast(step: Step, x: Any) -> Any:
    if step.integer("to", 0) not in (6, 7):
        raise step.refused("a length is used as a number", "a shape, or a number that stays")
    return x


def _undecided(step: Step, *arrays: Any) -> Any:
    raise UndecidedError


_MOVES: dict[str, Callable[..., Any]] = {
    "Cast": _cast,
    "Concat": _concat,
    "Gather": _gather,
    "Identity": _same,
    "ReduceProd": _product,
    "Reshape": _reshape,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
}
_RULES: dict[str, Callable[..., Any]] = {
    **_MOVES,
    "Add": _plain(lambda a, b: a + b),
    "Div": _divided,
    "Equal": _equal,
    "Mod": _plain(lambda a, b: a % b),
    "Mul": _plain(lambda a, b: a * b),
    "Sub": _plain(lambda a, b: a - b),
    "Where": _where,
    **dict.fromkeys(("Greater", "GreaterOrEqual", "Less", "LessOrEqual"), _undecided),
}


__all__ = ["lengths_followed"]
