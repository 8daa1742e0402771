"""The judge: float64 recurrences of LSTM, GRU and the simple RNN, written from the published equations.

LSTM (Hochreiter & Schmidhuber 1997, forget gate of Gers et al. 2000):
    i, f, o = sigmoid(K x + R h + b)    g = tanh(K_g x + R_g h + b_g)    c' = f c + i g    h' = o tanh(c')
    with peepholes (Gers & Schmidhuber 2000) i and f also see p c, o sees p c'; with a projection (Sak et al. 2014) h' = W_hr (o tanh(c'))
GRU, reset gate after the matrix product (as cuDNN, torch, Keras `reset_after=True` and ONNX `linear_before_reset=1`):
    r, z = sigmoid(K x + b_in + R h + b_rec)    n = tanh(K_n x + b_in_n + r (R_n h + b_rec_n))    h' = z h + (1 - z) n
GRU, reset gate before it (Cho et al. 2014; Keras `reset_after=False`, ONNX `linear_before_reset=0`):
    n = tanh(K_n x + b_in_n + R_n (r h) + b_rec_n)
RNN (Elman 1990):
    h' = tanh(K x + b_in + R h + b_rec)

sigmoid and tanh stand for the functions of the cell (`parity.cell.Cell`). A step that the mask leaves out keeps h and c as they are.

Every intermediate value passes through a `Rounding`. The exact one changes nothing; `parity.floor` uses another that suffers the
roundings of float32, so the floor is measured on the very same recurrences.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from einops import rearrange
from numpy.typing import NDArray

from parity.cell import Cell, plain_cell
from parity.conventions import Fill
from parity.functions import FUNCTIONS, Float64, sigmoid
from parity.layouts import GATES, PEEPHOLES
from parity.recurrent import Array, Direction, RecurrentSpec, Weights
from parity.result import LayerRun, State

Mask = NDArray[np.bool_]
"""(batch, time), True where a step is valid."""

_CHUNK_BYTES = 1 << 22
"""Input projections are taken for many steps at once, but for no more than the caches hold."""


class Rounding(Protocol):
    """What happens to an intermediate value; `site` names the place in the computation, the same at every step."""

    def affine(self, value: Float64, inputs: Float64, matrix: Float64, bias: Float64, site: str) -> Float64:
        """`value` = inputs @ matrix + bias, (rows, columns)."""
        ...

    def total(self, value: Float64, squares: Callable[[], Float64], terms: int, site: str) -> Float64:
        """`value`, each a sum of so many terms, whose squares `squares` sums up."""
        ...

    def sigmoid(self, value: Float64, site: str) -> Float64:
        """The output of a sigmoid."""
        ...

    def tanh(self, value: Float64, site: str) -> Float64:
        """The output of a tanh."""
        ...

    def smooth(self, value: Float64, site: str, coarse: float = 1.0) -> Float64:
        """The output of any other function, whose error, `coarse` times the usual one, is absolute near zero and relative far from it."""
        ...

    def product(self, value: Float64, site: str) -> Float64:
        """The output of a product, a sum or a state update."""
        ...


class Exact:
    """No rounding beyond float64's own."""

    def affine(self, value: Float64, inputs: Float64, matrix: Float64, bias: Float64, site: str) -> Float64:
        """The value as it is."""
        return value

    def total(self, value: Float64, squares: Callable[[], Float64], terms: int, site: str) -> Float64:
        """The value as it is."""
        return value

    def sigmoid(self, value: Float64, site: str) -> Float64:
        """The value as it is."""
        return value

    tanh = sigmoid
    product = sigmoid

    def smooth(self, value: Float64, site: str, coarse: float = 1.0) -> Float64:
        """The value as it is."""
        return value


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Every step of one recurrent layer.

    Args:
        directions: of the layer.
        h: (batch, time, direction, state), step t of every direction belongs to input step t; a masked step keeps the state.
        c: the same of c, (batch, time, direction, hidden), for an LSTM, else None.
        initial: the state before the first step of each direction.
        mask: which steps are valid; None for all.
        fill: what the layer gives at the others.
    """

    directions: tuple[Direction, ...]
    h: Float64
    c: Float64 | None
    initial: State
    mask: Mask | None = None
    fill: Fill = "zero"

    @property
    def run(self) -> LayerRun:
        """The sequence as the layer gives it, and the final states."""
        final = State(*(self._ends(states) for states in self._states()))
        if self.mask is None:
            return LayerRun(final, self.h)
        shown = np.where(self._shown(self.mask), self.h, 0.0)
        return LayerRun(final, shown, self._ends(shown))

    def before(self, rows: NDArray[np.intp] | None = None) -> State:
        """The state before steps, (direction, rows, features): row b*time + t belongs to input step t of sample b.

        Args:
            rows: which of them; None for all.
        """
        batch, time = self.h.shape[:2]
        rows = np.arange(batch * time) if rows is None else rows
        return State(
            *(
                self._shifted(states, start, rows)
                for states, start in zip(self._states(), self.initial.arrays(), strict=True)
            )
        )

    def _states(self) -> Iterator[Float64]:
        yield self.h
        if self.c is not None:
            yield self.c

    def _ends(self, states: Float64) -> Float64:
        ends = {"forward": -1, "backward": 0}
        return np.stack([states[:, ends[name], index] for index, name in enumerate(self.directions)])

    def _shown(self, mask: Mask) -> Mask:
        """Where something else than zero stands, (batch, time, direction, 1): before its first valid step a layer repeats zeros."""
        if self.fill == "zero":
            return mask[:, :, None, None]
        seen = [np.logical_or.accumulate(mask[:, turn], axis=1)[:, turn] for turn in map(_turn, self.directions)]
        return np.stack(seen, axis=2)[..., None]

    def _shifted(self, states: Float64, start: Array, rows: NDArray[np.intp]) -> Float64:
        time = states.shape[1]
        samples, steps = np.divmod(rows, time)
        shifted = []
        for index, direction in enumerate(self.directions):
            earlier = steps - 1 if direction == "forward" else steps + 1
            first = (earlier < 0) | (earlier == time)
            found = states[samples, np.where(first, 0, earlier), index]
            found[first] = start[index][samples[first]]
            shifted.append(found)
        return np.stack(shifted)


def _turn(direction: Direction) -> slice:
    """Takes the steps of the input in the order in which a direction processes them, and back."""
    return slice(None, None, -1 if direction == "backward" else 1)


def run_layer(
    spec: RecurrentSpec,
    weights: Sequence[Weights],
    x: Float64,
    initial: State,
    rounding: Rounding | None = None,
    site: str = "",
    cells: Sequence[Cell] = (),
    mask: Mask | None = None,
    fill: Fill = "zero",
) -> Trajectory:
    """Run one recurrent layer in float64.

    Args:
        spec: kind and sizes.
        weights: one for each direction.
        x: (batch, time, input).
        initial: h (direction, batch, state), and c (direction, batch, hidden) for an LSTM.
        rounding: what happens to intermediate values, nothing by default.
        site: a name for this layer, passed on to `rounding`.
        cells: the options of each direction's cell, plain by default.
        mask: (batch, time), True where a step is valid; None for all.
        fill: what the layer gives at the other steps.

    Example:
        >>> spec = RecurrentSpec("gru", input_size=2, hidden_size=3)
        >>> weights = Weights(np.zeros((3, 3, 2)), np.zeros((3, 3, 3)))
        >>> run_layer(spec, [weights], np.ones((1, 4, 2)), State(np.ones((1, 1, 3)))).h[0, :, 0, 0].tolist()
        [0.5, 0.25, 0.125, 0.0625]
    """
    rounding = rounding or Exact()
    paths = []
    for index, direction in enumerate(spec.directions):
        turn = _turn(direction)
        start = [np.asarray(state[index], np.float64) for state in initial.arrays()]
        cell = cells[index] if cells else plain_cell(spec.kind)
        steps = _Steps(spec, weights[index], cell, rounding, f"{site}.{direction}")
        path = steps.run(x[:, turn], start, None if mask is None else mask[:, turn])
        paths.append([states[:, turn] for states in path])
    stacked = [
        states[0][:, :, None] if len(states) == 1 else np.stack(states, axis=2) for states in zip(*paths, strict=True)
    ]
    return Trajectory(spec.directions, stacked[0], stacked[1] if len(stacked) > 1 else None, initial, mask, fill)


Gates = dict[str, Float64]


class _Steps:
    """One direction of a layer, step by step."""

    def __init__(self, spec: RecurrentSpec, weights: Weights, cell: Cell, rounding: Rounding, site: str) -> None:
        self._spec, self._cell, self._rounding, self._site = spec, cell, rounding, site
        self._gates = GATES[spec.kind]
        # A GRU whose reset gate acts before the product has two products with its state in every step.
        self._late = ("n",) if spec.kind == "gru" and not cell.reset_after else ()
        early = tuple(gate for gate in self._gates if gate not in self._late)
        self._kernel = _columns(weights.kernel)
        self._bias = _bias(weights.bias_input, self._kernel)
        recurrent, bias = _float64(weights.recurrent), _bias(weights.bias_recurrent, self._kernel)
        by_gate = dict(zip(self._gates, zip(recurrent, bias.reshape(len(self._gates), -1), strict=True), strict=True))
        self._recurrent = {
            gates: (_columns(np.stack([by_gate[g][0] for g in gates])), np.concatenate([by_gate[g][1] for g in gates]))
            for gates in (early, self._late)
            if gates
        }
        self._early = early
        self._peepholes = (
            None
            if weights.peepholes is None
            else dict(zip(PEEPHOLES[spec.kind], _float64(weights.peepholes), strict=True))
        )
        self._projection = None if weights.projection is None else _float64(weights.projection).T

    def run(self, x: Float64, states: list[Float64], mask: Mask | None) -> list[Float64]:
        """States after each step in processing order, (batch, time, features) each."""
        batch, time, _ = x.shape
        step = {"lstm": self._lstm, "gru": self._gru, "rnn": self._rnn}[self._spec.kind]
        path = [np.empty((batch, time, state.shape[-1])) for state in states]
        chunk = max(1, _CHUNK_BYTES // (8 * batch * self._kernel.shape[1]))
        for start in range(0, time, chunk):
            inputs = x[:, start : start + chunk]
            product = inputs @ self._kernel
            product += self._bias
            projected = self._rounding.affine(product, inputs, self._kernel, self._bias, f"{self._site}.input")
            for offset in range(inputs.shape[1]):
                before, states = states, step(self._by_gate(projected[:, offset], self._gates), states)
                if mask is not None:
                    valid = mask[:, start + offset, None]
                    states = [np.where(valid, new, old) for new, old in zip(states, before, strict=True)]
                for kept, state in zip(path, states, strict=True):
                    kept[:, start + offset] = state
        return path

    def _by_gate(self, z: Float64, gates: Sequence[str]) -> Gates:
        return dict(zip(gates, z.reshape(len(z), len(gates), -1).swapaxes(0, 1), strict=True))

    def _recurred(self, h: Float64, gates: tuple[str, ...]) -> Gates:
        matrix, bias = self._recurrent[gates]
        # One matrix product for all rows; with an axis of steps between, NumPy would take one vector product for each.
        product = h @ matrix
        product += bias
        site = f"{self._site}.recurrent" if gates == self._early else f"{self._site}.recurrent.late"
        return self._by_gate(self._rounding.affine(product[:, None], h[:, None], matrix, bias, site)[:, 0], gates)

    def _apply(self, slot: str, value: Float64, name: str) -> Float64:
        """The function of a slot on what it gets, cut to the clip."""
        function = self._cell.function(self._spec.kind, slot)
        if self._cell.clip is not None and slot != "output":
            value = np.clip(value, -self._cell.clip, self._cell.clip)
        row, site = FUNCTIONS[function.name], f"{self._site}.{name}"
        # Measured: the tanh of ONNX Runtime's RNN is good absolutely, not relatively.
        if row.noise == "smooth" or (self._spec.kind, row.noise) == ("rnn", "tanh"):
            return self._rounding.smooth(function(value), site, row.coarse)
        rounded: Float64 = getattr(self._rounding, row.noise)(function(value), site)
        return rounded

    def _product(self, value: Float64, name: str) -> Float64:
        return self._rounding.product(value, f"{self._site}.{name}")

    def _seeing(self, z: Gates, gate: str, c: Float64) -> Float64:
        """What a gate's function gets, the cell state seen through its peephole included."""
        if self._peepholes is None:
            return z[gate]
        seen = self._product(self._peepholes[gate] * c, f"{gate}.peephole")
        return self._product(z[gate] + seen, f"{gate}.seeing")

    def _lstm(self, x: Gates, states: list[Float64]) -> list[Float64]:
        r = self._recurred(states[0], self._early)
        z = {gate: self._product(x[gate] + r[gate], f"{gate}.sum") for gate in x}
        i = self._apply("gate", self._seeing(z, "i", states[1]), "i")
        f = (
            self._product(1.0 - i, "f")
            if self._cell.input_forget
            else self._apply("gate", self._seeing(z, "f", states[1]), "f")
        )
        g = self._apply("candidate", z["g"], "g")
        kept, added = self._product(f * states[1], "kept"), self._product(i * g, "added")
        c = self._product(kept + added, "c")
        o = self._apply("gate", self._seeing(z, "o", c), "o")
        h = self._product(o * self._apply("output", c, "shown"), "h")
        if self._projection is None:
            return [h, c]
        product, none = (h @ self._projection)[:, None], np.zeros(self._projection.shape[1])
        projected = self._rounding.affine(product, h[:, None], self._projection, none, f"{self._site}.projection")
        return [projected[:, 0], c]

    def _gru(self, x: Gates, states: list[Float64]) -> list[Float64]:
        r = self._recurred(states[0], self._early)
        reset, update = (
            self._apply("gate", self._product(x[gate] + r[gate], f"{gate}.sum"), gate) for gate in ("r", "z")
        )
        if self._late:
            kept_part = self._recurred(self._product(reset * states[0], "reset"), self._late)["n"]
        else:
            kept_part = self._product(reset * r["n"], "reset")
        n = self._apply("candidate", self._product(x["n"] + kept_part, "n.sum"), "n")
        kept = self._product(update * states[0], "kept")
        added = self._product((1.0 - update) * n, "added")
        return [self._product(kept + added, "h")]

    def _rnn(self, x: Gates, states: list[Float64]) -> list[Float64]:
        r = self._recurred(states[0], self._early)
        return [self._apply("candidate", self._product(x["n"] + r["n"], "n.sum"), "n")]


def _columns(matrix: Array) -> Float64:
    joined: Float64 = rearrange(_float64(matrix), "gate hidden column -> column (gate hidden)")
    return joined


def _bias(bias: Array | None, kernel: Float64) -> Float64:
    return np.zeros(kernel.shape[1]) if bias is None else _float64(bias).ravel()


def _float64(array: Array) -> Float64:
    return np.asarray(array, np.float64)


__all__ = ["Exact", "Float64", "Mask", "Rounding", "Trajectory", "run_layer", "sigmoid"]
