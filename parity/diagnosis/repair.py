"""How a suspect is mended: what is to be changed, in canonical terms; `parity.diagnosis.repairs` says it in a framework's code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from parity.deferred import Array
from parity.recurrent import Direction


@dataclass(frozen=True)
class GateOrder:
    """The gates are put into another order: place k gets what stands at `order[k]`."""

    order: tuple[int, ...]


@dataclass(frozen=True)
class BlockTranspose:
    """The square block of every gate is transposed."""


@dataclass(frozen=True)
class Reread:
    """The framework's array is read row by row as if it had the transposed shape, and transposed: undoes `.reshape` in place of `.T`."""


@dataclass(frozen=True)
class Scale:
    """The numbers, of one gate or of all, are multiplied."""

    by: float
    gate: int | None = None


@dataclass(frozen=True)
class Shift:
    """A number is added to those of one gate, or of all."""

    by: float
    gate: int | None = None


@dataclass(frozen=True, eq=False)
class Put:
    """The numbers are replaced: what was there cannot be turned into what belongs there.

    Args:
        array: canonical.
    """

    array: Array


Formula: TypeAlias = GateOrder | BlockTranspose | Reread | Scale | Shift | Put


@dataclass(frozen=True)
class WeightRepair:
    """One of the canonical weights of one direction is changed.

    Args:
        layer: of the reference.
        direction: which.
        member: of `parity.recurrent.Weights`.
        formula: what is done to it.
    """

    layer: str
    direction: Direction
    member: str
    formula: Formula


@dataclass(frozen=True)
class SwapRepair:
    """Two of the canonical weights change places: (layer, direction, member) each."""

    first: tuple[str, Direction, str]
    second: tuple[str, Direction, str]


@dataclass(frozen=True)
class OptionRepair:
    """An option of a layer is set.

    Args:
        layer: of the reference.
        option: what it is called in canonical terms: "reset_after", "gate function", "epsilon", "merge_mode", ...
        value: what belongs there, as people read it.
        was: what the suspect has, as people read it.
    """

    layer: str
    option: str
    value: str
    was: str = ""


@dataclass(frozen=True)
class CallRepair:
    """The code around the layer is to be changed: what goes in or what comes out.

    Args:
        layer: of the reference, "" for the whole model.
        at: what is changed.
        torch, keras: lines of code, `x` being what goes in, `y` what comes out; the last line assigns it anew.
    """

    layer: str
    at: Literal["input", "output", "initial state", "mask", "mode"]
    torch: str = ""
    keras: str = ""


Repair: TypeAlias = tuple[WeightRepair | SwapRepair | OptionRepair | CallRepair, ...]
"""All of them, in order."""

__all__ = [
    "BlockTranspose",
    "CallRepair",
    "Formula",
    "GateOrder",
    "OptionRepair",
    "Put",
    "Repair",
    "Reread",
    "Scale",
    "Shift",
    "SwapRepair",
    "WeightRepair",
]
