"""What an operation of `keras.ops` takes, and how one is put into a table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from parity.graph.graph import Wire
from parity.graph.keras.call import Call, Outputs, Reader, Tensor
from parity.network.keras.options import Option, shown

INERT = Option()
MANY = tuple(f"x{place}" for place in range(1, 9))
"""Operations take their tensors by position."""


def values_of(call: Call) -> list[Any]:
    """What the operation takes, in order: wires, and constants as they are."""
    return [value.wire if isinstance(value, Tensor) else value for value in call.arguments.values()]


def operands_of(call: Call) -> list[Wire | float]:
    """What an operation takes, in order: wires and numbers; arrays become constants.

    Raises:
        UnsupportedError: anything else.
    """
    found: list[Wire | float] = []
    for value in values_of(call):
        if isinstance(value, (Wire, bool, int, float)):
            found.append(value)
        elif isinstance(value, (np.ndarray, list)) and np.asarray(value).dtype.kind in "fiub":
            array = np.asarray(value)
            found.append(call.build.constant(array.astype(np.float32) if array.dtype.kind == "f" else array))
        elif value is not None:
            raise call.refused("a value that is not read", "tensors and numbers", shown(value))
    return found


def wire_of(call: Call) -> Wire:
    """The one tensor that an operation takes.

    Raises:
        UnsupportedError: none, or several.
    """
    found = values_of(call)
    if len(found) != 1 or not isinstance(found[0], Wire):
        raise call.refused("the operation does not take exactly one tensor", "one", str(len(found)))
    return found[0]


def tensors_of(call: Call) -> list[Wire]:
    """The tensors in the list that an operation takes.

    Raises:
        UnsupportedError: something else.
    """
    (value, *_) = call.arguments.values()
    if not isinstance(value, (list, tuple)) or not all(isinstance(one, Tensor) for one in value):
        raise call.refused("values that are not read", "a list of tensors", shown(value))
    return [tensor.wire for tensor in value]


def reading(read: Callable[[Call], Outputs], *options: str) -> Reader:
    """A reader with options that it looks at itself."""
    return Reader(read, dict.fromkeys(options, INERT), MANY)
