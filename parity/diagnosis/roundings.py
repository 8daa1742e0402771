"""Biases that are told as a sum, of which the parts were rounded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from parity.deferred import Array
from parity.diagnosis.faults.precision import rounded
from parity.diagnosis.putting import BIASES, direction_of, parts_of
from parity.diagnosis.told import alike, told_of
from parity.diagnosis.turns import Turn, printed
from parity.network import Recurrent


def rounded_parts(layer: Recurrent, name: str, theirs: Array) -> Turn | None:
    """What makes the suspect's bias of the right one where both biases, or either, were rounded before they were added.

    Args:
        layer: of the right model.
        name: of the bias, as it is told.
        theirs: the suspect's.
    """
    direction, _, member = name.rpartition(".")
    if parts_of(member) != BIASES:
        return None
    index = layer.spec.directions.index(direction_of(direction))
    held = {one: array for one in BIASES if (array := layer.weights[index].member(one)) is not None and array.any()}
    if len(held) != len(BIASES):
        return None
    right = told_of(layer)[name]
    off = float(np.abs(np.asarray(theirs, np.float64) - right).max())
    for words, formula in _ways():
        for names, of in ((BIASES, ""), *(((one,), f", {_PARTS[one]} alone") for one in BIASES)):
            weights = list(layer.weights)
            parts = {one: np.asarray(formula(held[one]), np.float32) for one in names}
            weights[index] = weights[index].with_held(**parts)
            made = told_of(replace(layer, weights=tuple(weights)))[name]
            if alike(theirs, made) and np.abs(theirs - made).max() <= 0.1 * off:
                return Turn("rounded", f"{words}{of}", lambda _, made=made: made)  # type: ignore[misc]
    return None


_PARTS = dict(zip(BIASES, ("the one of the input", "the one of the recurrence"), strict=True))


def _ways() -> Iterator[tuple[str, Callable[[Array], Array]]]:
    for kind in ("float16", "bfloat16"):
        yield f"rounded to {kind}", lambda array, kind=kind: rounded(np.asarray(array, np.float32), kind)  # type: ignore[misc]
    yield from printed()
    for levels in (127, 128):
        yield "rounded to 8-bit integers times one factor", lambda array, levels=levels: _on_grid(array, levels)  # type: ignore[misc]


def _on_grid(array: Array, levels: int) -> Array:
    """Numbers rounded to multiples of one step, the largest of them at so many steps."""
    step = float(np.abs(array).max()) / levels
    return np.asarray(np.round(np.asarray(array, np.float64) / step) * step)


__all__ = ["rounded_parts"]
