"""What the values of a trace are while a graph is read from it, where they are no wires yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import Tensor

from parity.graph import Wire


@dataclass(frozen=True, eq=False)
class Known:
    """A tensor that is the same at every call: a parameter, a buffer, or what was computed from such.

    Args:
        tensor: it.
        name: of the parameter or buffer; "" for one that was computed.
        trained: whether parameters are in it.
    """

    tensor: Tensor
    name: str = ""
    trained: bool = False


@dataclass(frozen=True, eq=False)
class Filled:
    """One number everywhere, of the shape that the trace says; zeros as initial states are no states at all."""

    number: float | int | bool


@dataclass(frozen=True)
class Size:
    """A length, or a number computed from lengths, as the expression that the trace has for it."""

    expression: Any


@dataclass(frozen=True, eq=False)
class Stacked:
    """Values that are stacked on a new first axis only if somebody asks for all of them: h_n and c_n."""

    wires: tuple[Wire, ...]


@dataclass(frozen=True, eq=False)
class Order:
    """The order of the samples by length, as `pack_padded_sequence(enforce_sorted=False)` makes it, or its inverse."""

    lengths: Wire | Known
    inverse: bool = False


@dataclass(frozen=True, eq=False)
class Ordered:
    """A value whose samples stand in that order."""

    value: Any
    axis: int


@dataclass(frozen=True, eq=False)
class Packed:
    """A packed sequence: the padded one, (batch, time, features), which steps of it are valid, (batch, time), and how many in each sample.

    `steps` is the length of the padded one's time axis, an integer or an expression of the trace.
    `ordered` says whether torch has the samples in the order of their lengths; they are not moved here.
    """

    x: Wire
    mask: Wire
    lengths: Wire
    steps: Any
    ordered: bool = False


Value: TypeAlias = Any
"""A `Wire`, one of the classes above, a number, or a tuple of values."""
