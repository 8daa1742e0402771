"""THE table: where every framework keeps each gate, axis and bias of a recurrent layer.

A layout is data. Patterns are in einops notation over the axes

    direction  forward, backward             source  the input's bias, the recurrence's bias
    gate       in the layout's own order     hidden, input, state  sizes of the layer (state: of h, which a projection makes smaller)
    peephole   the gates that see the cell state, in the layout's own order

and each gate is written as the framework's own letter, a colon, and the canonical letter it stands for.
No gate letter and no axis order is written anywhere else.

Sources: Keras 3 `keras/src/layers/rnn/{lstm,gru,simple_rnn}.py`; the torch documentation of `nn.LSTM`, `nn.GRU` and `nn.RNN`
(weight_ih_l[k]: `(W_ii|W_if|W_ig|W_io)`, `(W_ir|W_iz|W_in)`, weight_hr_l[k]); the ONNX operator specification of LSTM (`W[iofc]`,
`P[iof]`), GRU (`W[zrh]`) and RNN.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["lstm", "gru", "rnn"]
KINDS: tuple[Kind, ...] = ("lstm", "gru", "rnn")

GATES: dict[Kind, tuple[str, ...]] = {"lstm": ("i", "f", "g", "o"), "gru": ("r", "z", "n"), "rnn": ("n",)}
"""The canonical gate order."""

PEEPHOLES: dict[Kind, tuple[str, ...]] = {"lstm": ("i", "f", "o"), "gru": (), "rnn": ()}
"""The gates that may see the cell state (Gers & Schmidhuber 2000), in canonical order; o sees the new one."""

SLOTS: dict[Kind, tuple[str, ...]] = {
    "lstm": ("gate", "candidate", "output"),
    "gru": ("gate", "candidate"),
    "rnn": ("candidate",),
}
"""Where a cell applies a function, in the order of ONNX's `activations`: to its gates, to the candidate, to c before it becomes h."""

GATE_MEANINGS: dict[Kind, dict[str, str]] = {
    "lstm": {"i": "input gate", "f": "forget gate", "g": "candidate", "o": "output gate"},
    "gru": {"r": "reset gate", "z": "update gate", "n": "candidate"},
    "rnn": {"n": "candidate"},
}

STATES: dict[Kind, tuple[str, ...]] = {"lstm": ("h", "c"), "gru": ("h",), "rnn": ("h",)}
"""The states a cell carries from step to step, in the order every framework returns them."""

CANONICAL_AXES = {
    "kernel": "gate hidden input",
    "recurrent": "gate hidden state",
    "bias_input": "gate hidden",
    "bias_recurrent": "gate hidden",
    "peepholes": "peephole hidden",
    "projection": "state hidden",
}
"""Axes of the canonical weights of one direction of one layer (`parity.recurrent.Weights`)."""


def axis_groups(pattern: str) -> list[list[str]]:
    """The axes of an einops pattern, grouped as the array's dimensions are.

    Example:
        >>> axis_groups("batch time (direction hidden)")
        [['batch'], ['time'], ['direction', 'hidden']]
    """
    groups: list[list[str]] = []
    inside = False
    for word in pattern.replace("(", "( ").replace(")", " )").split():
        if word in ("(", ")"):
            inside = word == "("
            if inside:
                groups.append([])
        elif inside:
            groups[-1].append(word)
        else:
            groups.append([word])
    return groups


@dataclass(frozen=True)
class Tensor:
    """One array of a framework: its name there, its axes, and the canonical arrays it holds.

    Several members stand along the axis `source` if the pattern has one; otherwise the array is their sum.
    `order` is that of an axis `peephole`, written as the layout's own order is.
    """

    name: str
    axes: str
    members: tuple[str, ...]
    order: str = ""


@dataclass(frozen=True)
class Layout:
    """How one framework stores one kind of cell."""

    framework: str
    kind: Kind
    order: str
    tensors: tuple[Tensor, ...]

    @property
    def own_gates(self) -> tuple[str, ...]:
        """The framework's own letters, in the order it stores them."""
        return tuple(pair.partition(":")[0] for pair in self.order.split())

    @property
    def gates(self) -> tuple[str, ...]:
        """The canonical letters, in the order the framework stores them."""
        return _canonical_letters(self.order)

    def letters(self, tensor: Tensor) -> tuple[str, ...]:
        """The canonical letters along a tensor's gate or peephole axis, in the order the framework stores them; none without one.

        Example:
            >>> layout = LAYOUTS["onnx", "lstm"]
            >>> [layout.letters(tensor) for tensor in layout.tensors if tensor.name == "P"]
            [('i', 'o', 'f')]
        """
        if "peephole" in tensor.axes:
            return _canonical_letters(tensor.order)
        return self.gates if "gate" in tensor.axes else ()


def _canonical_letters(order: str) -> tuple[str, ...]:
    return tuple(pair.partition(":")[2] for pair in order.split())


def _keras(kind: Kind, order: str, bias: str) -> Layout:
    return Layout(
        "keras",
        kind,
        order,
        (
            Tensor("kernel", "input (gate hidden)", ("kernel",)),
            Tensor("recurrent_kernel", "state (gate hidden)", ("recurrent",)),
            Tensor("bias", bias, ("bias_input", "bias_recurrent")),
        ),
    )


def _torch(kind: Kind, order: str, *more: Tensor) -> Layout:
    return Layout(
        "torch",
        kind,
        order,
        (
            Tensor("weight_ih", "(gate hidden) input", ("kernel",)),
            Tensor("weight_hh", "(gate hidden) state", ("recurrent",)),
            Tensor("bias_ih", "(gate hidden)", ("bias_input",)),
            Tensor("bias_hh", "(gate hidden)", ("bias_recurrent",)),
            *more,
        ),
    )


def _onnx(kind: Kind, order: str, *more: Tensor) -> Layout:
    return Layout(
        "onnx",
        kind,
        order,
        (
            Tensor("W", "direction (gate hidden) input", ("kernel",)),
            Tensor("R", "direction (gate hidden) state", ("recurrent",)),
            Tensor("B", "direction (source gate hidden)", ("bias_input", "bias_recurrent")),
            *more,
        ),
    )


LAYOUTS: dict[tuple[str, Kind], Layout] = {
    (layout.framework, layout.kind): layout
    for layout in (
        _keras("lstm", "i:i f:f c:g o:o", bias="(gate hidden)"),
        _keras("gru", "z:z r:r h:n", bias="source (gate hidden)"),
        _keras("rnn", "h:n", bias="(gate hidden)"),
        _torch("lstm", "i:i f:f g:g o:o", Tensor("weight_hr", "state hidden", ("projection",))),
        _torch("gru", "r:r z:z n:n"),
        _torch("rnn", "h:n"),
        _onnx("lstm", "i:i o:o f:f c:g", Tensor("P", "direction (peephole hidden)", ("peepholes",), "i:i o:o f:f")),
        _onnx("gru", "z:z r:r h:n"),
        _onnx("rnn", "h:n"),
    )
}

OLD_ORDERS: dict[tuple[str, Kind], str] = {
    (
        "TensorFlow 1's BasicLSTMCell and LSTMCell, which write i j f o, and Keras 1, which has i c f o",
        "lstm",
    ): "i g f o"
}
"""Orders of gates that old frameworks had, in canonical letters, by owner and kind.

Source: TensorFlow 1 `rnn_cell_impl.BasicLSTMCell.call`: `i, j, f, o = split(...)`; Keras 1 `recurrent.LSTM.trainable_weights`.
"""

KERAS_GRU_RESET_BEFORE = _keras("gru", LAYOUTS["keras", "gru"].order, bias="(gate hidden)")
"""Keras's GRU with `reset_after=False` keeps one bias; everything else stands where it stands with `reset_after=True`."""

KERAS_1: dict[Kind, Layout] = {
    "lstm": Layout("keras", "lstm", "i:i c:g f:f o:o", ()),
    "gru": Layout("keras", "gru", "z:z r:r h:n", ()),
}
"""Keras 1 keeps W, U and b of each gate one after the other, the gates in this order."""

KERAS_LSTM_TWO_BIASES = _keras("lstm", LAYOUTS["keras", "lstm"].order, bias="source (gate hidden)")
"""An LSTM that cuDNN trained has a bias of the input and one of the recurrence, as every GRU with `reset_after=True`."""


def keras_layout(kind: Kind, reset_after: bool = True, two_biases: bool = False) -> Layout:
    """How Keras keeps a cell, whose options decide how many biases it has.

    Args:
        kind: of the cell.
        reset_after: of a GRU.
        two_biases: whether an LSTM has those of cuDNN.

    Example:
        >>> [tensor.axes for tensor in keras_layout("gru", reset_after=False).tensors if tensor.name == "bias"]
        ['(gate hidden)']
    """
    if kind == "gru" and not reset_after:
        return KERAS_GRU_RESET_BEFORE
    return KERAS_LSTM_TWO_BIASES if kind == "lstm" and two_biases else LAYOUTS["keras", kind]


CHECKPOINT_KEYS = ("state_dict", "model_state_dict")
"""Where a torch checkpoint keeps the state dict, if it holds more than that."""
