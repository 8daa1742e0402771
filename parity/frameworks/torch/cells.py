"""PyTorch: cells that take one step, like `nn.LSTMCell`, `nn.GRUCell` and `nn.RNNCell`, with the options that those lack."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from parity.cell import Cell
from parity.errors import ShapeError
from parity.frameworks.torch.calling import each
from parity.functions import Function
from parity.layouts import LAYOUTS, PEEPHOLES, Kind, Layout
from parity.layouts import Tensor as Row


def _softplus(x: Tensor) -> Tensor:
    """Exact to the end of both tails, where `functional.softplus` is linear from 20 on."""
    return torch.logaddexp(x, torch.zeros_like(x))


FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "relu": functional.relu,
    "affine": lambda x, alpha, beta: alpha * x + beta,
    "hard_sigmoid": lambda x, alpha, beta: (alpha * x + beta).clamp(0.0, 1.0),
    "leaky_relu": functional.leaky_relu,
    "thresholded_relu": lambda x, alpha: functional.threshold(x, alpha, 0.0),
    "scaled_tanh": lambda x, alpha, beta: alpha * torch.tanh(beta * x),
    "elu": functional.elu,
    "softsign": functional.softsign,
    "softplus": _softplus,
    "selu": functional.selu,
    "silu": functional.silu,
    "gelu": functional.gelu,
    "mish": lambda x: x * torch.tanh(_softplus(x)),
    "exponential": torch.exp,
    "relu6": functional.relu6,
    "hard_tanh": functional.hardtanh,
    "hard_silu": functional.hardswish,
    "log_sigmoid": lambda x: -_softplus(-x),
    "tanh_shrink": functional.tanhshrink,
}
"""The functions of `parity.functions` in torch."""


def apply(function: Function, x: Tensor) -> Tensor:
    """A function of a cell, with its parameters.

    Example:
        >>> apply(Function("hard_sigmoid", 0.2, 0.5), torch.tensor([-5.0, 0.0, 1.0]))
        tensor([0.0000, 0.5000, 0.7000])
    """
    return FUNCTIONS[function.name](x, *function.parameters.values())


def layout_of(kind: Kind) -> Layout:
    """Where torch keeps the weights of a kind of cell, and where these cells keep peepholes, which torch does not have.

    Example:
        >>> [tensor.name for tensor in layout_of("lstm").tensors]
        ['weight_ih', 'weight_hh', 'bias_ih', 'bias_hh', 'weight_hr', 'weight_p']
    """
    layout = LAYOUTS["torch", kind]
    order = " ".join(f"{gate}:{gate}" for gate in PEEPHOLES[kind])
    more = (Row("weight_p", "peephole hidden", ("peepholes",), order),) if order else ()
    return Layout(layout.framework, kind, layout.order, (*layout.tensors, *more))


class GeneralCell(nn.Module):
    """One step of a recurrent layer; the parameters have torch's names and order.

    `forward(x, hx=None)` takes and returns what `nn.LSTMCell` and `nn.GRUCell` do: x (batch, features), states (batch, features).

    Args:
        input_size, hidden_size: features of x, and units.
        options: the functions and whatever else sets the cell apart.
        bias: whether it has bias_ih and bias_hh.
        proj_size: features of h where a projection weight_hr makes them fewer than the units, 0 for none.
        peepholes: whether the gates of an LSTM see c, through weight_p.
    """

    kind: ClassVar[Kind]
    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor | None
    bias_hh: Tensor | None
    weight_hr: Tensor | None
    weight_p: Tensor | None

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        options: Cell,
        bias: bool = True,
        proj_size: int = 0,
        peepholes: bool = False,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.input_size, self.hidden_size, self.proj_size = input_size, hidden_size, proj_size
        self.options = options
        self.gates = LAYOUTS["torch", self.kind].gates
        rows = len(self.gates) * hidden_size
        shapes = {
            "weight_ih": (rows, input_size),
            "weight_hh": (rows, proj_size or hidden_size),
            "bias_ih": (rows,) if bias else None,
            "bias_hh": (rows,) if bias else None,
            "weight_hr": (proj_size, hidden_size) if proj_size else None,
            "weight_p": (len(PEEPHOLES[self.kind]), hidden_size) if peepholes else None,
        }
        for name, shape in shapes.items():
            parameter = None if shape is None else nn.Parameter(torch.zeros(shape, dtype=dtype))
            self.register_parameter(name, parameter)

    def forward(self, x: Tensor, hx: Any = None) -> Any:
        """One step; of one sample where x has no batch axis.

        Raises:
            ShapeError: another number of axes.
        """
        if x.dim() == 1:
            after = self.forward(x[None], each(hx, lambda state: state[None]))
            return each(after, lambda state: state.squeeze(0))
        if x.dim() != 2:
            expected, got = "(batch, features), or (features,)", f"{x.dim()} axes: {tuple(x.shape)}"
            remedy = "a cell takes one step: give it x[:, step]"
            raise ShapeError("the input has another number of axes", type(self).__name__, expected, got, remedy)
        states = self.zeros(x) if hx is None else hx if isinstance(hx, tuple) else (hx,)
        after = self.step(self.of_input(x), *states)
        return after if len(after) > 1 else after[0]

    def zeros(self, x: Tensor) -> tuple[Tensor, ...]:
        """The states to start from, for x (batch, features)."""
        return (x.new_zeros(len(x), self.proj_size or self.hidden_size),)

    def of_input(self, x: Tensor) -> Tensor:
        """What the input adds to every gate, (..., features) -> (..., gate*hidden): it can be had for all steps at once."""
        return functional.linear(x, self.weight_ih, self.bias_ih)

    def step(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """The states after a step: x is `of_input` of it, (batch, gate*hidden)."""
        raise NotImplementedError

    def _by_gate(self, stacked: Tensor, dim: int = -1) -> dict[str, Tensor]:
        return dict(zip(self.gates, stacked.chunk(len(self.gates), dim), strict=True))

    def _apply_slot(self, slot: str, x: Tensor) -> Tensor:
        """The function of the gates, of the candidate, or of c; only the first two are clipped."""
        if self.options.clip is not None and slot != "output":
            x = x.clamp(-self.options.clip, self.options.clip)
        return apply(self.options.function(self.kind, slot), x)

    def extra_repr(self) -> str:
        """The options that `print(module)` shows."""
        functions = ", ".join(map(str, self.options.functions))
        extra = f", proj_size={self.proj_size}" if self.proj_size else ""
        return f"{self.input_size}, {self.hidden_size}, functions=({functions}){extra}{self._more()}"

    def _more(self) -> str:
        clip = "" if self.options.clip is None else f", clip={self.options.clip:g}"
        return clip + (", peepholes=True" if self.weight_p is not None else "")


class GeneralLSTMCell(GeneralCell):
    """`nn.LSTMCell` with other functions, clip, a forget gate of 1 - i, peepholes and a projection."""

    kind: ClassVar[Kind] = "lstm"

    def zeros(self, x: Tensor) -> tuple[Tensor, ...]:
        """The states to start from, for x (batch, features)."""
        return *super().zeros(x), x.new_zeros(len(x), self.hidden_size)

    def step(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """(h, c) after a step."""
        h, c = states
        z = self._by_gate(x + functional.linear(h, self.weight_hh, self.bias_hh))
        i = self._apply_slot("gate", z["i"] + self._seen("i", c))
        f = 1.0 - i if self.options.input_forget else self._apply_slot("gate", z["f"] + self._seen("f", c))
        c = f * c + i * self._apply_slot("candidate", z["g"])
        o = self._apply_slot("gate", z["o"] + self._seen("o", c))
        h = o * self._apply_slot("output", c)
        return h if self.weight_hr is None else functional.linear(h, self.weight_hr), c

    def _seen(self, gate: str, c: Tensor) -> Tensor | float:
        """What a gate sees of c through its peephole."""
        return 0.0 if self.weight_p is None else self.weight_p[PEEPHOLES[self.kind].index(gate)] * c

    def _more(self) -> str:
        return super()._more() + (", input_forget=True" if self.options.input_forget else "")


class GeneralGRUCell(GeneralCell):
    """`nn.GRUCell` with other functions, clip, and a reset gate that may act before the matrix product (`reset_after=False`)."""

    kind: ClassVar[Kind] = "gru"

    def step(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """(h,) after a step."""
        (h,) = states
        z = self._by_gate(x)
        weights = self._by_gate(self.weight_hh, dim=0)
        biases = dict.fromkeys(self.gates) if self.bias_hh is None else self._by_gate(self.bias_hh, dim=0)
        r = self._apply_slot("gate", z["r"] + functional.linear(h, weights["r"], biases["r"]))
        u = self._apply_slot("gate", z["z"] + functional.linear(h, weights["z"], biases["z"]))
        after = self.options.reset_after
        past = functional.linear(h if after else r * h, weights["n"], biases["n"])
        n = self._apply_slot("candidate", z["n"] + (r * past if after else past))
        return (u * h + (1.0 - u) * n,)

    def _more(self) -> str:
        return super()._more() + f", reset_after={self.options.reset_after}"


class GeneralRNNCell(GeneralCell):
    """`nn.RNNCell` with other functions than tanh and relu, and clip."""

    kind: ClassVar[Kind] = "rnn"

    def step(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """(h,) after a step."""
        (h,) = states
        return (self._apply_slot("candidate", x + functional.linear(h, self.weight_hh, self.bias_hh)),)


GENERAL_CELLS: dict[Kind, type[GeneralCell]] = {
    cell.kind: cell for cell in (GeneralLSTMCell, GeneralGRUCell, GeneralRNNCell)
}
"""The cells of this module."""

CELLS: dict[Kind, type[nn.LSTMCell | nn.GRUCell | nn.RNNCell]] = {
    "lstm": nn.LSTMCell,
    "gru": nn.GRUCell,
    "rnn": nn.RNNCell,
}
"""torch's own cells."""
