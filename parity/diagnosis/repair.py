"""How a suspect is mended: what is to be changed, in canonical terms; `parity.diagnosis.repairs` says it in a framework's code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from parity.deferred import Array
from parity.recurrent import Direction

Lines: TypeAlias = Literal["gates", "features"]
"""What the lines of a framework's kernel are: `(gate hidden) input` in torch and ONNX, `input (gate hidden)` in Keras."""


@dataclass(frozen=True)
class GateOrder:
    """The gates are put into another order: place k gets what stands at `order[k]`."""

    order: tuple[int, ...]


@dataclass(frozen=True)
class BlockTranspose:
    """The square block of every gate is transposed."""


@dataclass(frozen=True)
class Reread:
    """The framework's array is read row by row as if it had the transposed shape, and transposed: undoes `.reshape` in place of `.T`.

    Args:
        lines: of the array that was reshaped into.
        order: of the gates along it: place k holds the canonical gate `order[k]`; the canonical order if empty.
    """

    lines: Lines = "gates"
    order: tuple[int, ...] = ()


@dataclass(frozen=True)
class CudnnOrder:
    """The block of every gate of an input kernel is brought from the order that CuDNNLSTM and CuDNNGRU store into the plain one."""


@dataclass(frozen=True)
class FeaturesReversed:
    """The input features are taken in the opposite order."""


@dataclass(frozen=True)
class PeepholeOrder:
    """The peepholes are put into another order: place k gets what stands at `order[k]`."""

    order: tuple[int, ...]


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


Formula: TypeAlias = (
    GateOrder | BlockTranspose | Reread | CudnnOrder | FeaturesReversed | PeepholeOrder | Scale | Shift | Put
)


def reread(array: Array, lines: Lines, order: Sequence[int] = ()) -> Array:
    """What becomes of a canonical matrix whose framework's array was made with `.reshape` in place of `.T`.

    Args:
        array: (gate, rows, columns).
        lines: of the array that was reshaped into, as for `Reread`; what either does to a matrix the other undoes.
        order: of the gates along it, as for `Reread`.

    Example:
        >>> import numpy as np
        >>> kernel = np.arange(12).reshape(2, 2, 3)
        >>> keras = kernel.reshape(4, 3).T
        >>> bool((reread(kernel, "gates").reshape(4, 3) == keras.reshape(4, 3)).all())
        True
        >>> bool((reread(reread(kernel, "gates"), "features") == kernel).all())
        True
    """
    gates, rows, columns = array.shape
    places = list(order) or list(range(gates))
    stacked = array[places].reshape(gates * rows, columns)
    read = stacked.T.reshape(stacked.shape) if lines == "gates" else stacked.reshape(stacked.T.shape).T
    found = np.empty_like(array)
    found[places] = read.reshape(array.shape)
    return found


def as_cudnn(array: Array) -> Array:
    """A canonical input kernel whose framework's array is what CuDNNLSTM and CuDNNGRU stored, read as it is.

    Source: `_convert_rnn_weights` of Keras 2, `keras/saving/legacy/hdf5_format.py`: per gate `kernel.T.reshape(kernel.shape)`.

    Args:
        array: (gate, hidden, input).
    """
    gates, hidden, features = array.shape
    return array.reshape(gates, features, hidden).swapaxes(1, 2)


def mended(formula: Formula, array: Array) -> Array:
    """A canonical array of the suspect after its repair.

    Args:
        formula: what is done to it.
        array: of the suspect, with the gates on the first axis.

    Example:
        >>> import numpy as np
        >>> mended(Shift(1.0, gate=1), np.zeros((2, 3))).tolist()
        [[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]
    """
    match formula:
        case GateOrder(order) | PeepholeOrder(order):
            return array[list(order)]
        case BlockTranspose():
            return array.swapaxes(1, 2)
        case Reread(lines, order):
            return reread(array, "features" if lines == "gates" else "gates", order)
        case CudnnOrder():
            return array.swapaxes(1, 2).reshape(array.shape)
        case FeaturesReversed():
            return array[..., ::-1]
        case Scale(by, gate):
            return _on_gate(array, gate, lambda part: part * by)
        case Shift(by, gate):
            return _on_gate(array, gate, lambda part: part + by)
        case Put(put):
            return put


def _on_gate(array: Array, gate: int | None, change: Callable[[Array], Array]) -> Array:
    found = np.array(array)
    at = slice(None) if gate is None else gate
    found[at] = change(found[at])
    return found


@dataclass(frozen=True)
class WeightRepair:
    """One of the canonical weights of one direction is changed; where the suspect has no such weights, nothing is.

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
        direction: of the layer, "" for all.
    """

    layer: str
    option: str
    value: str
    was: str = ""
    direction: Direction | str = ""


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


FLIPPED = "flipped along its window"
EXCHANGED = "with its channels exchanged"
SIDES_EXCHANGED = "with height and width exchanged"
TRANSPOSED = "transposed"
ROLLED_UP = "moved up by one row, the first one last"
ROLLED_DOWN = "moved down by one row, the last one first"
"""What belongs in the place of a kernel or a table that holds the right numbers in other places, as values of an `OptionRepair`."""


Repair: TypeAlias = tuple[WeightRepair | SwapRepair | OptionRepair | CallRepair, ...]
"""All of them, in order."""

__all__ = [
    "EXCHANGED",
    "FLIPPED",
    "ROLLED_DOWN",
    "ROLLED_UP",
    "SIDES_EXCHANGED",
    "TRANSPOSED",
    "BlockTranspose",
    "CallRepair",
    "CudnnOrder",
    "FeaturesReversed",
    "Formula",
    "GateOrder",
    "Lines",
    "OptionRepair",
    "PeepholeOrder",
    "Put",
    "Repair",
    "Reread",
    "Scale",
    "Shift",
    "SwapRepair",
    "WeightRepair",
    "as_cudnn",
    "mended",
    "reread",
]
