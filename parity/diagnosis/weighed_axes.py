"""What stands along the axes of a weight as it is told, in words."""

from __future__ import annotations

from parity.deferred import Array
from parity.graph.calls import Layered
from parity.graph.operations import Convolution
from parity.layouts import CANONICAL_AXES, GATE_MEANINGS, GATES, PEEPHOLES
from parity.network import Dense, Embedding, Recurrent

_PLURALS = {"gate": "gates", "unit": "units", "state": "states", "peephole": "peepholes"}
_CANONICAL = {"hidden": "unit", "input": "input feature"}


def gates_of(operation: Layered, member: str, array: Array) -> tuple[str, ...]:
    """The gates along the first axis of a recurrent layer's weight; none of a bias of one gate, and of peepholes and projections."""
    gated = isinstance(operation, Recurrent) and array.ndim > 1 and _axes(operation, member, array)[0] == "gate"
    return GATES[operation.spec.kind] if gated and isinstance(operation, Recurrent) else ()


def axes_of(operation: Layered, member: str, array: Array) -> tuple[str, ...]:
    """What stands along each axis: "units", "input features"."""
    return tuple(
        one.replace("place", "places", 1) if one.startswith("place ") else _PLURALS.get(one, f"{one}s")
        for one in _axes(operation, member, array)
    )


def index_in_words(operation: Layered, member: str, index: tuple[int, ...]) -> str:
    """A place in a weight, counted from 0 on the canonical axes.

    Example:
        >>> import numpy as np
        >>> index_in_words(Dense("scores", np.zeros((40, 5))), "kernel", (3, 1))
        'input feature 3, output 1'
    """
    found = []
    for axis, place in zip(_axes(operation, member, index), index, strict=True):
        letters = _letters(operation, axis)
        found.append(letters[place] if letters else f"{axis} {place}")
    return ", ".join(found)


def _letters(operation: Layered, axis: str) -> tuple[str, ...]:
    if not isinstance(operation, Recurrent) or axis not in ("gate", "peephole"):
        return ()
    kind = operation.spec.kind
    return tuple(f"{GATE_MEANINGS[kind][one]} {one}" for one in (GATES if axis == "gate" else PEEPHOLES)[kind])


def _axes(operation: Layered, member: str, array: Array | tuple[int, ...]) -> tuple[str, ...]:
    """The name of each axis of a weight, or of an index into it, in the singular."""
    count = len(array) if isinstance(array, tuple) else array.ndim
    if isinstance(operation, Recurrent):
        told = CANONICAL_AXES.get(member, "gate hidden" if count == 2 else "hidden")
        found = tuple(_CANONICAL.get(one, one) for one in told.split())
    elif isinstance(operation, Dense):
        found = ("input feature", "output") if member == "kernel" else ("output",)
    elif isinstance(operation, Embedding):
        found = ("row", "feature")
    elif isinstance(operation, Convolution) and member == "kernel":
        window = tuple(f"place along axis {axis} of the window" for axis in range(len(operation.strides)))
        found = (*window, "input channel", "output channel")
    else:
        found = ()
    return (
        found if len(found) == count else ("number",) if count == 1 else tuple(f"axis {one}:" for one in range(count))
    )


__all__ = ["axes_of", "gates_of", "index_in_words"]
