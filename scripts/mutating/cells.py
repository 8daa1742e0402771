"""The weights of recurrent layers, gate by gate, whatever the framework."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
Gates: TypeAlias = dict[str, Array]


@dataclass
class Cell:
    """The weights of one direction of one layer, gate by gate.

    Args:
        w, r: (units, features) and (units, units).
        b, c: biases of the input and of the recurrence, (units,).
        p: peepholes of an LSTM, (units,), or none.
    """

    w: Gates
    r: Gates
    b: Gates
    c: Gates
    p: Gates = field(default_factory=dict)


Cells: TypeAlias = list[list[Cell]]
"""By layer and direction."""
