"""What each framework returns for a recurrent layer, as data.

A returned value is one canonical quantity, seen through an axis pattern:

    sequence  (batch, time, direction, hidden)    every step's h
    h, c      (layer, direction, batch, hidden)   the state after the last step each direction processes

`explain`, the report, and the reading of every engine's results are generated from these rows; no return order is written
anywhere else. Sources: Keras 3 `Bidirectional.call`, `LSTM.call` and `GRU.call`; the torch documentation of `nn.LSTM`;
the ONNX operator specification of LSTM and GRU.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from einops import rearrange

from parity.layouts import STATES, Kind, axis_groups
from parity.recurrent import DIRECTIONS, Array, Direction
from parity.result import LayerRun

Quantity = Literal["sequence", "h", "c"]
MergeMode = Literal["concat", "sum", "mul", "ave"]
Select = Literal["all", "forward", "backward", "sum", "mul", "ave"]

MERGE_MODES: tuple[MergeMode | None, ...] = ("concat", "sum", "mul", "ave", None)

CANONICAL_AXES: dict[Quantity, str] = {
    "sequence": "batch time direction hidden",
    "h": "layer direction batch hidden",
    "c": "layer direction batch hidden",
}


@dataclass(frozen=True)
class Value:
    """One value of a framework's return.

    Args:
        name: the framework's own name for it.
        quantity: the canonical quantity it shows.
        axes: einops pattern of the framework's array. It has a direction axis exactly where `select` is "all", and no layer
            axis where the framework returns each layer by itself.
        select: all directions, one of them, or both merged.
    """

    name: str
    quantity: Quantity
    axes: str
    select: Select = "all"

    def of(self, runs: Sequence[LayerRun]) -> Array:
        """The value as the framework returns it, computed from the canonical runs of a stack of layers.

        Example:
            >>> from parity.result import State
            >>> run = LayerRun(State(np.ones((2, 2, 4))), np.ones((2, 3, 2, 4)))
            >>> Value("output", "sequence", "batch time hidden", "sum").of([run]).shape
            (2, 3, 4)
        """
        axes = CANONICAL_AXES[self.quantity].split()
        array = _canonical(self.quantity, runs)
        if "layer" in axes and "layer" not in self.axes:
            array, axes = array[-1], axes[1:]
        if self.select != "all":
            array = _select(array, axes.index("direction"), self.select)
            axes.remove("direction")
        shown: Array = rearrange(array, f"{' '.join(axes)} -> {self.axes}")
        return shown

    def shape(self, sizes: Mapping[str, int | str]) -> tuple[int | str, ...]:
        """Shape of the value; a size may be a name where it is not known.

        Example:
            >>> value = Value("output", "sequence", "time batch (direction hidden)")
            >>> value.shape({"batch": "batch", "time": 10, "direction": 2, "hidden": 64})
            (10, 'batch', 128)
        """
        return tuple(_product([sizes[axis] for axis in group]) for group in axis_groups(self.axes))


def keras_returns(
    kind: Kind,
    bidirectional: bool = False,
    return_sequences: bool = False,
    return_state: bool = False,
    merge_mode: MergeMode | None = "concat",
) -> tuple[Value, ...]:
    """What `keras.layers.LSTM` or `GRU`, or `Bidirectional` around it, returns.

    Example:
        >>> [value.name for value in keras_returns("lstm", return_sequences=True, return_state=True)]
        ['output', 'state_h', 'state_c']
    """
    quantity: Quantity = "sequence" if return_sequences else "h"
    axes = "batch time {}" if return_sequences else "batch {}"
    selects: tuple[Direction, ...] = DIRECTIONS if bidirectional else DIRECTIONS[:1]
    if not bidirectional or merge_mode == "concat":
        outputs = [Value("output", quantity, axes.format("(direction hidden)"))]
    elif merge_mode is None:
        outputs = [Value(f"{select}_output", quantity, axes.format("hidden"), select) for select in selects]
    else:
        outputs = [Value("output", quantity, axes.format("hidden"), merge_mode)]
    prefix = "{}_state_{}" if bidirectional else "state_{1}"
    states = [
        Value(prefix.format(select, state), _state(state), "batch hidden", select)
        for select in selects
        for state in STATES[kind]
    ]
    return (*outputs, *(states if return_state else ()))


def torch_returns(kind: Kind, batch_first: bool = True) -> tuple[Value, ...]:
    """What `torch.nn.LSTM` or `GRU` returns: `(output, (h_n, c_n))` or `(output, h_n)`, flattened.

    Example:
        >>> [value.axes for value in torch_returns("gru", batch_first=False)]
        ['time batch (direction hidden)', '(layer direction) batch hidden']
    """
    steps = "batch time" if batch_first else "time batch"
    states = [Value(f"{state}_n", _state(state), "(layer direction) batch hidden") for state in STATES[kind]]
    return (Value("output", "sequence", f"{steps} (direction hidden)"), *states)


def onnx_returns(kind: Kind) -> tuple[Value, ...]:
    """What the ONNX operators LSTM and GRU return (layout 0).

    Example:
        >>> [value.name for value in onnx_returns("lstm")]
        ['Y', 'Y_h', 'Y_c']
    """
    states = [Value(f"Y_{state}", _state(state), "direction batch hidden") for state in STATES[kind]]
    return (Value("Y", "sequence", "time direction batch hidden"), *states)


def to_canonical(values: Sequence[Value], arrays: Sequence[Array], directions: int) -> dict[Quantity, Array]:
    """What a framework returned, as canonical quantities: the inverse of `Value.of` over a whole return.

    Args:
        values: rows that together show every direction, without merging.
        arrays: the framework's arrays, in the same order.
        directions: 1 or 2.

    Returns:
        Arrays with the axes of `CANONICAL_AXES`, the layer axis included.

    Example:
        >>> y, h = np.ones((3, 2, 8)), np.ones((2, 2, 4))
        >>> {name: array.shape for name, array in to_canonical(torch_returns("gru", batch_first=False), [y, h], 2).items()}
        {'sequence': (2, 3, 2, 4), 'h': (1, 2, 2, 4)}
    """
    parts: dict[Quantity, list[Array]] = {}
    for value, array in zip(values, arrays, strict=True):
        if value.select not in ("all", *DIRECTIONS):
            raise ValueError(f"'{value.name}' merges the directions: they cannot be told apart again")
        axes = CANONICAL_AXES[value.quantity].split()
        missing = [axis for axis in ("layer", "direction") if axis in axes and axis not in value.axes]
        shown = " ".join("1" if axis in missing else axis for axis in axes)
        sizes = {"direction": directions} if "direction" in value.axes else {}
        parts.setdefault(value.quantity, []).append(rearrange(array, f"{value.axes} -> {shown}", **sizes))
    return {
        quantity: np.concatenate(arrays_, axis=CANONICAL_AXES[quantity].split().index("direction"))
        for quantity, arrays_ in parts.items()
    }


def _state(name: str) -> Quantity:
    return "h" if name == "h" else "c"


def _canonical(quantity: Quantity, runs: Sequence[LayerRun]) -> Array:
    shown: dict[Quantity, list[Array | None]] = {
        "sequence": [runs[-1].sequence],
        "h": [run.final.h for run in runs],
        "c": [run.final.c for run in runs],
    }
    present = [array for array in shown[quantity] if array is not None]
    if not present:
        raise ValueError(f"the run does not show {quantity}")
    return present[0] if quantity == "sequence" else np.stack(present)


def _select(array: Array, axis: int, select: Select) -> Array:
    if select in DIRECTIONS:
        one: Array = array.take(DIRECTIONS.index(select), axis=axis)
        return one
    forward, backward = array.take(0, axis=axis), array.take(1, axis=axis)
    merged: Array = forward * backward if select == "mul" else forward + backward
    return merged / 2 if select == "ave" else merged


def _product(lengths: Sequence[int | str]) -> int | str:
    numbers = int(np.prod([length for length in lengths if isinstance(length, int)], dtype=int))
    names = [length for length in lengths if isinstance(length, str)]
    return "*".join([*([str(numbers)] if numbers != 1 else []), *names]) if names else numbers
