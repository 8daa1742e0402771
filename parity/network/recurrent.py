"""The recurrent family as a node of a network: what `keras.layers.LSTM`/`GRU`, one layer of `torch.nn.LSTM`/`GRU`, or an ONNX node says."""

from __future__ import annotations

from dataclasses import dataclass

from parity.conventions import Value, keras_returns
from parity.layouts import CANONICAL_AXES
from parity.recurrent import Array, RecurrentSpec, Weights
from parity.reference import Float64, Rounding, Trajectory, run_layer
from parity.result import State


@dataclass(frozen=True, eq=False)
class Recurrent:
    """One recurrent layer of one or two directions.

    Args:
        name: the user's name for it.
        spec: kind and sizes.
        weights: canonical, one for each direction.
        return_sequences: whether the next layer gets every step or the state after the last one, as in Keras.
        return_state: whether a bare Keras layer also returns its states.
    """

    name: str
    spec: RecurrentSpec
    weights: tuple[Weights, ...]
    return_sequences: bool = True
    return_state: bool = False

    @property
    def input_size(self) -> int:
        """Features it takes."""
        return self.spec.input_size

    @property
    def output_size(self) -> int:
        """Features it gives to the next layer."""
        return self.spec.output_size

    @property
    def bidirectional(self) -> bool:
        """Whether it has both directions."""
        return len(self.spec.directions) == 2

    @property
    def has_bias(self) -> bool:
        """Whether any of its biases is there."""
        return any(w.bias_input is not None or w.bias_recurrent is not None for w in self.weights)

    @property
    def values(self) -> tuple[Value, ...]:
        """What the layer hands over, in Keras's order: the value the next layer takes, then every state."""
        return keras_returns(self.spec.kind, self.bidirectional, self.return_sequences, return_state=True)

    @property
    def arrays(self) -> dict[str, Array]:
        """Its canonical weights, by direction and name."""
        return {
            f"{direction}.{member}": array
            for direction, weights in zip(self.spec.directions, self.weights, strict=True)
            for member in CANONICAL_AXES
            if (array := weights.member(member)) is not None
        }

    @property
    def facts(self) -> dict[str, object]:
        """What people want to know of it beside its sizes."""
        return {
            "kind": self.spec.kind,
            "units": self.spec.hidden_size,
            "directions": list(self.spec.directions),
            "bias": self.has_bias,
            "return_sequences": self.return_sequences,
        }

    def compute(self, x: Float64, initial: State, rounding: Rounding) -> Trajectory:
        """Every step in float64 on x, (batch, time, input)."""
        return run_layer(self.spec, self.weights, x, initial, rounding, self.name)
