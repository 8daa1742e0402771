"""Layers for Keras that say what its own cannot: a cell of any options, and an output in the order of the input.

They are written with `keras.ops`, so they work on every backend of Keras. `keras.layers.RNN` and `Bidirectional` around the cell do the
rest: masks, directions, states. A saved model needs them to load: import this module first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from parity.cell import Cell
from parity.errors import ParityError
from parity.frameworks import quiet_import
from parity.functions import Function
from parity.layouts import GATES, PEEPHOLES, SLOTS, Kind
from parity.network.keras.cells import own_members
from parity.recurrent import RecurrentSpec

with quiet_import():
    import keras
    from keras import ops

Tensor = Any

OPERATIONS: dict[str, Callable[..., Tensor]] = {
    "tanh": ops.tanh,
    "sigmoid": ops.sigmoid,
    "relu": ops.relu,
    "affine": lambda x, alpha, beta: alpha * x + beta,
    "hard_sigmoid": lambda x, alpha, beta: ops.clip(alpha * x + beta, 0.0, 1.0),
    "leaky_relu": lambda x, alpha: ops.where(x >= 0, x, alpha * x),
    "thresholded_relu": lambda x, alpha: ops.where(x > alpha, x, ops.zeros_like(x)),
    "scaled_tanh": lambda x, alpha, beta: alpha * ops.tanh(beta * x),
    "elu": lambda x, alpha: ops.where(x > 0, x, alpha * ops.expm1(ops.minimum(x, 0.0))),
    "softsign": ops.softsign,
    "softplus": ops.softplus,
    "selu": ops.selu,
    "silu": ops.silu,
    "gelu": lambda x: ops.gelu(x, approximate=False),
    "mish": lambda x: x * ops.tanh(ops.softplus(x)),
    "exponential": ops.exp,
    "relu6": ops.relu6,
    "hard_tanh": lambda x: ops.clip(x, -1.0, 1.0),
    "hard_silu": lambda x: x * ops.clip(x / 6.0 + 0.5, 0.0, 1.0),
    "log_sigmoid": lambda x: -ops.softplus(-x),
    "tanh_shrink": lambda x: x - ops.tanh(x),
}
"""The functions of `parity.functions.FUNCTIONS` in operations of Keras."""


@keras.saving.register_keras_serializable(package="parity")
class RecurrentCell(keras.layers.Layer):  # type: ignore[misc]
    """A cell for `keras.layers.RNN` with any options of `parity.cell.Cell`, peepholes and a projection; equations: `parity.reference`.

    Its weights are canonical (`parity.recurrent.Weights`): kernel (gate, hidden, input), recurrent (gate, hidden, state), and so on.

    Args:
        units: hidden units.
        kind: "lstm", "gru" or "rnn".
        functions: (name, alpha, beta) for each slot of the kind (`parity.layouts.SLOTS`).
        reset_after, clip, input_forget: as `parity.cell.Cell`.
        use_bias: whether it has the two biases.
        peepholes: whether its gates see c.
        projection_size: features of h, where they are fewer than the units.

    Raises:
        ParityError: an unknown kind, or not one function for each slot.

    Example:
        >>> functions = [("sigmoid", None, None), ("tanh", None, None)]
        >>> cell = RecurrentCell(5, "gru", functions, reset_after=False, clip=0.5)
        >>> keras.layers.RNN(cell)(ops.ones((2, 7, 3))).shape
        TensorShape([2, 5])
    """

    def __init__(
        self,
        units: int,
        kind: Kind,
        functions: Sequence[Sequence[Any]],
        reset_after: bool = True,
        clip: float | None = None,
        input_forget: bool = False,
        use_bias: bool = True,
        peepholes: bool = False,
        projection_size: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if kind not in SLOTS or len(functions) != len(SLOTS[kind]):
            expected = "one function for each slot of " + ", ".join(SLOTS)
            raise ParityError("this is no cell", self.name, expected, f"{kind} with {len(functions)} functions")
        self.units, self.kind, self.use_bias, self.has_peepholes = units, kind, use_bias, peepholes
        self.projection_size = projection_size
        self.options = Cell(tuple(Function(*row) for row in functions), reset_after, clip, input_forget)
        self.output_size = projection_size or units
        self.state_size: Any = [self.output_size, units] if kind == "lstm" else self.output_size
        self._members = own_members(use_bias, peepholes, projection_size)

    def build(self, input_shape: Any) -> None:
        """Make the weights."""
        spec = RecurrentSpec(self.kind, input_shape[-1], self.units, projection_size=self.projection_size)
        for member in self._members:
            initializer = "zeros" if member.startswith("bias") else "glorot_uniform"
            setattr(self, member, self.add_weight(shape=spec.shape(member), name=member, initializer=initializer))
        self.built = True

    def call(self, inputs: Tensor, states: Any, training: bool = False) -> tuple[Tensor, Any]:
        """One step: h, and the new states."""
        given = states if isinstance(states, (list, tuple)) else [states]
        new = {"lstm": self._lstm, "gru": self._gru, "rnn": self._rnn}[self.kind](inputs, list(given))
        return new[0], new if isinstance(states, (list, tuple)) else new[0]

    def get_initial_state(self, batch_size: int | None = None) -> list[Tensor]:
        """Zeros."""
        sizes = self.state_size if isinstance(self.state_size, list) else [self.state_size]
        return [ops.zeros((batch_size, size), dtype=self.compute_dtype) for size in sizes]

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        own = {
            "units": self.units,
            "kind": self.kind,
            "functions": [[function.name, function.alpha, function.beta] for function in self.options.functions],
            "reset_after": self.options.reset_after,
            "clip": self.options.clip,
            "input_forget": self.options.input_forget,
            "use_bias": self.use_bias,
            "peepholes": self.has_peepholes,
            "projection_size": self.projection_size,
        }
        return {**super().get_config(), **own}

    def _weighted(self, x: Tensor, matrix: str, bias: str) -> dict[str, Tensor]:
        """For each gate its rows of a matrix (gate, hidden, feature) on x, and its bias."""
        gates = GATES[self.kind]
        weight = getattr(self, matrix)
        rows = ops.reshape(weight, (len(gates) * self.units, weight.shape[-1]))
        product = ops.matmul(x, ops.transpose(rows))
        if self.use_bias:
            product = product + ops.reshape(getattr(self, bias), (-1,))
        return dict(zip(gates, ops.split(product, len(gates), axis=-1), strict=True))

    def _apply(self, slot: str, value: Tensor) -> Tensor:
        function = self.options.function(self.kind, slot)
        if self.options.clip is not None and slot != "output":
            value = ops.clip(value, -self.options.clip, self.options.clip)
        return OPERATIONS[function.name](value, **function.parameters)

    def _seeing(self, gate: str, value: Tensor, c: Tensor) -> Tensor:
        """What a gate's function gets, the cell state seen through its peephole included."""
        at = PEEPHOLES[self.kind].index(gate)
        return value + self.peepholes[at] * c if self.has_peepholes else value

    def _lstm(self, x: Tensor, states: list[Tensor]) -> list[Tensor]:
        h, c = states
        first = self._weighted(x, "kernel", "bias_input")
        second = self._weighted(h, "recurrent", "bias_recurrent")
        z = {gate: first[gate] + second[gate] for gate in first}
        i = self._apply("gate", self._seeing("i", z["i"], c))
        f = 1.0 - i if self.options.input_forget else self._apply("gate", self._seeing("f", z["f"], c))
        c = f * c + i * self._apply("candidate", z["g"])
        o = self._apply("gate", self._seeing("o", z["o"], c))
        h = o * self._apply("output", c)
        return [ops.matmul(h, ops.transpose(self.projection)) if self.projection_size else h, c]

    def _gru(self, x: Tensor, states: list[Tensor]) -> list[Tensor]:
        (h,) = states
        first = self._weighted(x, "kernel", "bias_input")
        second = self._weighted(h, "recurrent", "bias_recurrent")
        r, z = (self._apply("gate", first[gate] + second[gate]) for gate in ("r", "z"))
        after = self.options.reset_after
        seen = r * second["n"] if after else self._weighted(r * h, "recurrent", "bias_recurrent")["n"]
        n = self._apply("candidate", first["n"] + seen)
        return [z * h + (1.0 - z) * n]

    def _rnn(self, x: Tensor, states: list[Tensor]) -> list[Tensor]:
        first = self._weighted(x, "kernel", "bias_input")
        second = self._weighted(states[0], "recurrent", "bias_recurrent")
        return [self._apply("candidate", first["n"] + second["n"])]


@keras.saving.register_keras_serializable(package="parity")
class Aligned(keras.layers.Wrapper):  # type: ignore[misc]
    """A recurrent layer whose output sequence has its time axis the other way round: that of `go_backwards` in the order of the input.

    Example:
        >>> layer = keras.layers.GRU(5, go_backwards=True, return_sequences=True)
        >>> bool(ops.all(Aligned(layer)(ops.ones((2, 7, 3))) == ops.flip(layer(ops.ones((2, 7, 3))), axis=1)))
        True
    """

    def __init__(self, layer: Any, **kwargs: Any) -> None:
        super().__init__(layer, **kwargs)
        self.supports_masking = True

    def call(self, sequences: Tensor, initial_state: Any = None, mask: Any = None, training: bool = False) -> Any:
        """What the layer returns, its sequence turned."""
        returned = self.layer(sequences, initial_state=initial_state, mask=mask, training=training)
        if not self.layer.return_sequences:
            return returned
        if not self.layer.return_state:
            return ops.flip(returned, axis=1)
        return (ops.flip(returned[0], axis=1), *returned[1:])

    def compute_output_shape(self, sequences_shape: Any, initial_state_shape: Any = None) -> Any:
        """That of the layer."""
        return self.layer.compute_output_shape(sequences_shape)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """That of the layer."""
        return self.layer.compute_mask(inputs, mask)
