"""The recurrent family as a node of a network: what one recurrent layer of Keras, torch or ONNX says, of one or two directions."""

from __future__ import annotations

from dataclasses import dataclass

from parity.cell import Cell, peculiarities, plain_cell
from parity.conventions import Fill, MergeMode, Value, keras_returns
from parity.deferred import Arrays
from parity.layouts import CANONICAL_AXES
from parity.recurrent import RecurrentSpec, Weights
from parity.reference import Float64, Mask, Rounding, Trajectory, run_layer
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
        cells: the options of each direction's cell; plain ones by default.
        merge_mode: what becomes of the two directions' outputs; None hands both over. Without meaning for one direction.
        reverse: whether the sequence is given in the opposite order of the input's steps, as Keras's `go_backwards` leaves it.
        fill: what the sequence holds at masked steps.
        stateful: whether Keras carries the states from one call to the next.
        unroll: whether Keras unrolls the loop, which changes the numbers only under a mask.
        dropout: Keras's dropout of the inputs, inert at inference.
        recurrent_dropout: Keras's dropout of h, inert at inference.
        single_step: whether the source is a cell that takes one step (`torch.nn.LSTMCell`, `keras.layers.LSTMCell`), not a layer.
    """

    name: str
    spec: RecurrentSpec
    weights: tuple[Weights, ...]
    return_sequences: bool = True
    return_state: bool = False
    cells: tuple[Cell, ...] = ()
    merge_mode: MergeMode | None = "concat"
    reverse: bool = False
    fill: Fill = "zero"
    stateful: bool = False
    unroll: bool = False
    dropout: float = 0.0
    recurrent_dropout: float = 0.0
    single_step: bool = False

    def __post_init__(self) -> None:
        if not self.cells:
            object.__setattr__(self, "cells", (plain_cell(self.spec.kind),) * len(self.spec.directions))

    @property
    def input_size(self) -> int:
        """Features it takes."""
        return self.spec.input_size

    @property
    def output_size(self) -> int:
        """Features of each value it gives to the next layer."""
        return self.spec.output_size if self.merge_mode == "concat" or not self.bidirectional else self.spec.state_size

    @property
    def bidirectional(self) -> bool:
        """Whether it has both directions."""
        return len(self.spec.directions) == 2

    @property
    def merges(self) -> bool:
        """Whether the outputs of two directions become anything but halves of one."""
        return self.bidirectional and self.merge_mode != "concat"

    @property
    def has_bias(self) -> bool:
        """Whether any of its biases is there."""
        return any(w.held(name) is not None for w in self.weights for name in ("bias_input", "bias_recurrent"))

    @property
    def peculiarities(self) -> tuple[str, ...]:
        """What sets its cells apart from the one that all three frameworks have, in words."""
        found = [word for cell in self.cells for word in peculiarities(self.spec.kind, cell)]
        if any(weights.held("peepholes") is not None for weights in self.weights):
            found.append("peepholes")
        if self.spec.projection_size:
            found.append(f"a projection to {self.spec.projection_size}")
        return tuple(dict.fromkeys(found))

    @property
    def given(self) -> tuple[Value, ...]:
        """What the next layer, or a caller without interest in states, gets: one value, or two with merge_mode None."""
        return keras_returns(
            self.spec.kind,
            self.bidirectional,
            self.return_sequences,
            merge_mode=self.merge_mode,
            reverse=self.reverse,
        )

    @property
    def values(self) -> tuple[Value, ...]:
        """What the layer hands over, in Keras's order: what it gives, then every state."""
        states = keras_returns(self.spec.kind, self.bidirectional, return_state=True)[1:]
        return (*self.given, *states)

    @property
    def arrays(self) -> Arrays:
        """Its canonical weights, by direction and name."""
        return Arrays(
            {
                f"{direction}.{member}": held
                for direction, weights in zip(self.spec.directions, self.weights, strict=True)
                for member in CANONICAL_AXES
                if (held := weights.held(member)) is not None
            }
        )

    @property
    def facts(self) -> dict[str, object]:
        """What people want to know of it beside its sizes; options appear where they are not the usual ones."""
        usual = {
            "kind": self.spec.kind,
            "units": self.spec.hidden_size,
            "directions": list(self.spec.directions),
            "bias": self.has_bias,
            "return_sequences": self.return_sequences,
        }
        options: dict[str, object] = {
            "cell": ", ".join(self.peculiarities),
            "merge_mode": str(self.merge_mode) if self.merges else "",
            "reverse": self.reverse,
            "stateful": self.stateful,
            "unroll": self.unroll,
            "dropout": self.dropout,
            "recurrent_dropout": self.recurrent_dropout,
        }
        return {**usual, **{name: value for name, value in options.items() if value}}

    def compute(self, x: Float64, initial: State, rounding: Rounding, mask: Mask | None = None) -> Trajectory:
        """Every step in float64 on x, (batch, time, input), with a mask (batch, time) of valid steps."""
        return run_layer(self.spec, self.weights, x, initial, rounding, self.name, self.cells, mask, self.fill)
