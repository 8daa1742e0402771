"""What each framework returns for a recurrent layer, as data.

A returned value is one canonical quantity, seen through an axis pattern:

    sequence  (batch, time, direction, hidden)    every step's h
    last      (layer, direction, batch, hidden)   the sequence at the step each direction processes last: h, unless a mask says otherwise
    h, c      (layer, direction, batch, hidden)   the state after the last step each direction processes

`explain`, the report, and the reading of every engine's results are generated from these rows; no return order is written
anywhere else. Sources: Keras 3 `RNN.call`, `Bidirectional.call`, `LSTM.call` and `GRU.call`; the torch documentation of `nn.LSTM` and
`torch.nn.utils.rnn`; the ONNX operator specification of LSTM, GRU and RNN.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from einops import rearrange

from parity.layouts import STATES, Kind, axis_groups
from parity.recurrent import DIRECTIONS, Array, Direction
from parity.result import LayerRun

Quantity = Literal["sequence", "last", "h", "c"]
Fill = Literal["zero", "repeat"]
"""What a masked step of a sequence holds: zero, or the output of the step processed before it (zero before the first valid one)."""

MergeMode = Literal["concat", "sum", "mul", "ave"]
Select = Literal["all", "forward", "backward", "sum", "mul", "ave"]

MERGE_MODES: tuple[MergeMode | None, ...] = ("concat", "sum", "mul", "ave", None)

CANONICAL_AXES: dict[Quantity, str] = {
    "sequence": "batch time direction hidden",
    "last": "layer direction batch hidden",
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
        reverse: whether the framework's array has its time axis the other way round (Keras's `go_backwards`).
        layer: index of the layer of a stack that it comes from, for an array without a layer axis; the last one by default.
    """

    name: str
    quantity: Quantity
    axes: str
    select: Select = "all"
    reverse: bool = False
    layer: int = -1

    def of(self, runs: Sequence[LayerRun]) -> Array:
        """The value as the framework returns it, computed from the canonical runs of a stack of layers.

        Example:
            >>> from parity.result import State
            >>> run = LayerRun(State(np.ones((2, 2, 4))), np.ones((2, 3, 2, 4)))
            >>> Value("output", "sequence", "batch time hidden", "sum").of([run]).shape
            (2, 3, 4)
        """
        axes = CANONICAL_AXES[self.quantity].split()
        single = "layer" in axes and "layer" not in self.axes
        array = _canonical(self.quantity, [runs[self.layer]] if single or self.quantity == "sequence" else runs)
        if single:
            array, axes = array[0], axes[1:]
        if self.reverse:
            array = np.flip(array, axes.index("time"))
        if self.select != "all":
            array = _select(array, axes.index("direction"), self.select)
            axes.remove("direction")
        shown: Array = rearrange(array, f"{' '.join(axes)} -> {self.axes}")
        return shown

    def shape(self, sizes: Mapping[str, int | str]) -> tuple[int | str, ...]:
        """Shape of the value; a size may be a name where it is not known. `sizes["state"]`, if there, is the size of h.

        Example:
            >>> value = Value("output", "sequence", "time batch (direction hidden)")
            >>> value.shape({"batch": "batch", "time": 10, "direction": 2, "hidden": 64})
            (10, 'batch', 128)
        """
        own = dict(sizes) if self.quantity == "c" else {**sizes, "hidden": sizes.get("state", sizes["hidden"])}
        return tuple(_product([own[axis] for axis in group]) for group in axis_groups(self.axes))


def keras_returns(
    kind: Kind,
    bidirectional: bool = False,
    return_sequences: bool = False,
    return_state: bool = False,
    merge_mode: MergeMode | None = "concat",
    reverse: bool = False,
) -> tuple[Value, ...]:
    """What `keras.layers.LSTM`, `GRU` or `SimpleRNN`, or `Bidirectional` around it, returns.

    Args:
        kind: of the cell.
        bidirectional, return_sequences, return_state, merge_mode: of the layer; a single direction has no merge mode.
        reverse: whether the output is left in the order of processing, as `go_backwards=True` leaves it.

    Example:
        >>> [value.name for value in keras_returns("lstm", return_sequences=True, return_state=True)]
        ['output', 'state_h', 'state_c']
    """
    quantity: Quantity = "sequence" if return_sequences else "last"
    turned = reverse and return_sequences
    axes = "batch time {}" if return_sequences else "batch {}"
    selects: tuple[Direction, ...] = DIRECTIONS if bidirectional else DIRECTIONS[:1]
    if not bidirectional or merge_mode == "concat":
        outputs = [Value("output", quantity, axes.format("(direction hidden)"), reverse=turned)]
    elif merge_mode is None:
        outputs = [
            Value(f"{select}_output", quantity, axes.format("hidden"), select, reverse=turned) for select in selects
        ]
    else:
        outputs = [Value("output", quantity, axes.format("hidden"), merge_mode, reverse=turned)]
    prefix = "{}_state_{}" if bidirectional else "state_{1}"
    states = [
        Value(prefix.format(select, state), _state(state), "batch hidden", select)
        for select in selects
        for state in STATES[kind]
    ]
    return (*outputs, *(states if return_state else ()))


def keras_cells_returns(
    kinds: Sequence[Kind], return_sequences: bool = False, return_state: bool = False, reverse: bool = False
) -> tuple[Value, ...]:
    """What `keras.layers.RNN` around a list of cells returns, flattened: the states are nested, one list for each cell.

    Example:
        >>> [(value.name, value.layer) for value in keras_cells_returns(["lstm", "gru"], return_state=True)]
        [('output', -1), ('cell_0_state_h', 0), ('cell_0_state_c', 0), ('cell_1_state_h', 1)]
    """
    output = keras_returns(kinds[-1], return_sequences=return_sequences, reverse=reverse)
    states = [
        Value(f"cell_{index}_state_{state}", _state(state), "batch hidden", "forward", layer=index)
        for index, kind in enumerate(kinds)
        for state in STATES[kind]
    ]
    return (*output, *(states if return_state else ()))


def torch_returns(
    kind: Kind, batch_first: bool = True, batched: bool = True, packed: bool = False
) -> tuple[Value, ...]:
    """What `torch.nn.LSTM`, `GRU` or `RNN` returns: `(output, (h_n, c_n))` or `(output, h_n)`, flattened.

    Args:
        kind: of the layer.
        batch_first: of the layer; it changes nothing for h_n and c_n.
        batched: whether the input has a batch axis; without it no value has one.
        packed: whether the input is a `PackedSequence`; then the output is one too, here its `data`.

    Example:
        >>> [value.axes for value in torch_returns("gru", batch_first=False)]
        ['time batch (direction hidden)', '(layer direction) batch hidden']
        >>> [value.axes for value in torch_returns("gru", batched=False)]
        ['(batch time) (direction hidden)', '(layer direction batch) hidden']
    """
    steps = "packed" if packed else ("batch time" if batch_first else "time batch") if batched else "(batch time)"
    rows = "(layer direction) batch hidden" if batched else "(layer direction batch) hidden"
    states = [Value(f"{state}_n", _state(state), rows) for state in STATES[kind]]
    return (Value("output.data" if packed else "output", "sequence", f"{steps} (direction hidden)"), *states)


def torch_cell_returns(kind: Kind) -> tuple[Value, ...]:
    """What `torch.nn.LSTMCell`, `GRUCell` or `RNNCell` returns for one step.

    Example:
        >>> [value.name for value in torch_cell_returns("lstm")]
        ["h'", "c'"]
    """
    return tuple(Value(f"{state}'", _state(state), "batch hidden", "forward") for state in STATES[kind])


def onnx_returns(kind: Kind, layout: int = 0) -> tuple[Value, ...]:
    """What the ONNX operators LSTM, GRU and RNN return; `layout` 1 puts the batch first everywhere.

    Example:
        >>> [value.name for value in onnx_returns("lstm")]
        ['Y', 'Y_h', 'Y_c']
    """
    steps = "batch time direction hidden" if layout else "time direction batch hidden"
    rows = "batch direction hidden" if layout else "direction batch hidden"
    states = [Value(f"Y_{state}", _state(state), rows) for state in STATES[kind]]
    return (Value("Y", "sequence", steps), *states)


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
        if any("batch" in group and len(group) > 1 for group in axis_groups(value.axes)):
            sizes["batch"] = 1
        canonical = rearrange(array, f"{value.axes} -> {shown}", **sizes)
        parts.setdefault(value.quantity, []).append(
            np.flip(canonical, axes.index("time")) if value.reverse else canonical
        )
    return {
        quantity: np.concatenate(arrays_, axis=CANONICAL_AXES[quantity].split().index("direction"))
        for quantity, arrays_ in parts.items()
    }


@dataclass(frozen=True)
class Padding:
    """What happens at the steps that a mask leaves out, in one way of calling one framework.

    Args:
        engine: "keras", "torch" or "onnxruntime".
        call: how the layer is called.
        steps: what the output sequence holds there; None where the framework goes on computing.
        state: where the final state is taken.
        empty: what a sample without any valid step gives.
    """

    engine: str
    call: str
    steps: Fill | None
    state: str
    empty: str


PADDING: tuple[Padding, ...] = (
    Padding("keras", "mask", "repeat", "last valid step", "output 0, the initial state"),
    Padding("keras", "mask, zero_output_for_mask=True", "zero", "last valid step", "output 0, the initial state"),
    Padding(
        "keras", "mask, Bidirectional(return_sequences=True)", "zero", "last valid step", "output 0, the initial state"
    ),
    Padding("torch", "PackedSequence, pad_packed_sequence", "zero", "last valid step", "refused"),
    Padding("torch", "a padded tensor", None, "last step of all", "computed like any other"),
    Padding("onnxruntime", "sequence_lens", "zero", "last valid step", "output 0, state 0"),
    Padding("onnxruntime", "no sequence_lens", None, "last step of all", "computed like any other"),
)
"""Measured: tests/test_padding.py states every row. In a backward direction "last" is the first in time."""


def _state(name: str) -> Quantity:
    return "h" if name == "h" else "c"


def _canonical(quantity: Quantity, runs: Sequence[LayerRun]) -> Array:
    shown: dict[Quantity, list[Array | None]] = {
        "sequence": [runs[-1].sequence],
        "last": [run.final.h if run.last is None else run.last for run in runs],
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
    merged: Array = merge(array.take(0, axis=axis), array.take(1, axis=axis), select)
    return merged


def merge(forward: Any, backward: Any, mode: str) -> Any:
    """Two directions added ("sum"), multiplied ("mul") or averaged ("ave"), element by element; arrays of any framework.

    Example:
        >>> merge(np.array([1.0]), np.array([3.0]), "ave").tolist()
        [2.0]
    """
    both = forward * backward if mode == "mul" else forward + backward
    return both / 2 if mode == "ave" else both


def _product(lengths: Sequence[int | str]) -> int | str:
    numbers = int(np.prod([length for length in lengths if isinstance(length, int)], dtype=int))
    names = [length for length in lengths if isinstance(length, str)]
    return "*".join([*([str(numbers)] if numbers != 1 else []), *names]) if names else numbers
