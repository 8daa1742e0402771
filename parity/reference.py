"""The judge: float64 recurrences of LSTM and GRU, written from the published equations.

LSTM (Hochreiter & Schmidhuber 1997, forget gate of Gers et al. 2000):
    i, f, o = sigmoid(K x + R h + b)    g = tanh(K_g x + R_g h + b_g)    c' = f c + i g    h' = o tanh(c')
GRU (Cho et al. 2014, reset gate after the matrix product as cuDNN, torch, Keras `reset_after=True` and ONNX `linear_before_reset=1`):
    r, z = sigmoid(K x + b_in + R h + b_rec)    n = tanh(K_n x + b_in_n + r (R_n h + b_rec_n))    h' = z h + (1 - z) n

Every intermediate value passes through a `Rounding`. The exact one changes nothing; `parity.floor` uses another that suffers the
roundings of float32, so the floor is measured on the very same recurrences.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from einops import rearrange
from numpy.typing import NDArray

from parity.layouts import GATES
from parity.recurrent import Array, Direction, RecurrentSpec, Weights
from parity.result import LayerRun, State

Float64 = NDArray[np.float64]

_CHUNK_BYTES = 1 << 26
"""Input projections are taken for many steps at once, but never more memory than this."""


class Rounding(Protocol):
    """What happens to an intermediate value; `site` names the place in the computation, the same at every step."""

    def affine(self, value: Float64, inputs: Float64, matrix: Float64, bias: Float64, site: str) -> Float64:
        """`value` = inputs @ matrix + bias, (rows, columns)."""
        ...

    def sigmoid(self, value: Float64, site: str) -> Float64:
        """The output of a sigmoid."""
        ...

    def tanh(self, value: Float64, site: str) -> Float64:
        """The output of a tanh."""
        ...

    def product(self, value: Float64, site: str) -> Float64:
        """The output of a product, a sum or a state update."""
        ...


class Exact:
    """No rounding beyond float64's own."""

    def affine(self, value: Float64, inputs: Float64, matrix: Float64, bias: Float64, site: str) -> Float64:
        """The value as it is."""
        return value

    def sigmoid(self, value: Float64, site: str) -> Float64:
        """The value as it is."""
        return value

    tanh = sigmoid
    product = sigmoid


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Every step of one recurrent layer.

    Args:
        directions: of the layer.
        h: (batch, time, direction, hidden), step t of every direction belongs to input step t.
        c: the same for an LSTM, else None.
        initial: the state before the first step of each direction.
    """

    directions: tuple[Direction, ...]
    h: Float64
    c: Float64 | None
    initial: State

    @property
    def run(self) -> LayerRun:
        """The sequence and the final states."""
        return LayerRun(State(*(self._final(states) for states in self._states())), self.h)

    def before(self) -> State:
        """The state before every step, (direction, batch*time, hidden): row b*time + t belongs to input step t of sample b."""
        return State(
            *(self._shifted(states, start) for states, start in zip(self._states(), self.initial.arrays(), strict=True))
        )

    def _states(self) -> Iterator[Float64]:
        yield self.h
        if self.c is not None:
            yield self.c

    def _final(self, states: Float64) -> Float64:
        ends = {"forward": -1, "backward": 0}
        return np.stack([states[:, ends[name], index] for index, name in enumerate(self.directions)])

    def _shifted(self, states: Float64, start: Array) -> Float64:
        shifted = []
        for index, direction in enumerate(self.directions):
            first, path = start[index][:, None], states[:, :, index]
            steps = [first, path[:, :-1]] if direction == "forward" else [path[:, 1:], first]
            shifted.append(np.concatenate(steps, axis=1).reshape(-1, states.shape[-1]))
        return np.stack(shifted)


def run_layer(
    spec: RecurrentSpec,
    weights: Sequence[Weights],
    x: Float64,
    initial: State,
    rounding: Rounding | None = None,
    site: str = "",
) -> Trajectory:
    """Run one recurrent layer in float64.

    Args:
        spec: kind and sizes.
        weights: one for each direction.
        x: (batch, time, input).
        initial: (direction, batch, hidden) each.
        rounding: what happens to intermediate values, nothing by default.
        site: a name for this layer, passed on to `rounding`.

    Example:
        >>> spec = RecurrentSpec("gru", input_size=2, hidden_size=3)
        >>> weights = Weights(np.zeros((3, 3, 2)), np.zeros((3, 3, 3)))
        >>> run_layer(spec, [weights], np.ones((1, 4, 2)), State(np.ones((1, 1, 3)))).h[0, :, 0, 0].tolist()
        [0.5, 0.25, 0.125, 0.0625]
    """
    rounding = rounding or Exact()
    paths = []
    for index, direction in enumerate(spec.directions):
        turn = slice(None, None, -1 if direction == "backward" else 1)
        start = [np.asarray(state[index], np.float64) for state in initial.arrays()]
        path = _run_direction(spec, weights[index], x[:, turn], start, rounding, f"{site}.{direction}")
        paths.append([states[:, turn] for states in path])
    stacked = [np.stack(states, axis=2) for states in zip(*paths, strict=True)]
    return Trajectory(spec.directions, stacked[0], stacked[1] if len(stacked) > 1 else None, initial)


def _run_direction(
    spec: RecurrentSpec, weights: Weights, x: Float64, states: list[Float64], rounding: Rounding, site: str
) -> list[Float64]:
    """States after each step in processing order, (batch, time, hidden) each."""
    batch, time, _ = x.shape
    gates, hidden = len(GATES[spec.kind]), spec.hidden_size
    kernel, recurrent = (
        rearrange(_float64(m), "gate hidden column -> column (gate hidden)")
        for m in (weights.kernel, weights.recurrent)
    )
    bias_input, bias_recurrent = (
        np.zeros(gates * hidden) if bias is None else _float64(bias).ravel()
        for bias in (weights.bias_input, weights.bias_recurrent)
    )
    step = _STEPS[spec.kind]
    path = [np.empty((batch, time, hidden)) for _ in states]
    chunk = max(1, _CHUNK_BYTES // (8 * batch * gates * hidden))
    for start in range(0, time, chunk):
        inputs = x[:, start : start + chunk]
        projected = rounding.affine(inputs @ kernel + bias_input, inputs, kernel, bias_input, f"{site}.input")
        for offset in range(inputs.shape[1]):
            # One matrix product for all rows; with an axis of steps between, NumPy would take one vector product for each.
            product = (states[0] @ recurrent + bias_recurrent)[:, None]
            recurred = rounding.affine(product, states[0][:, None], recurrent, bias_recurrent, f"{site}.recurrent")
            from_input, from_state = (
                dict(zip(GATES[spec.kind], z.reshape(batch, gates, hidden).swapaxes(0, 1), strict=True))
                for z in (projected[:, offset], recurred[:, 0])
            )
            states = step(from_input, from_state, states, rounding, site)
            for kept, state in zip(path, states, strict=True):
                kept[:, start + offset] = state
    return path


Gates = dict[str, Float64]


def _lstm_step(x: Gates, r: Gates, states: list[Float64], rounding: Rounding, site: str) -> list[Float64]:
    z = {gate: rounding.product(x[gate] + r[gate], f"{site}.{gate}.sum") for gate in x}
    i, f, o = (rounding.sigmoid(sigmoid(z[gate]), f"{site}.{gate}") for gate in ("i", "f", "o"))
    g = rounding.tanh(np.tanh(z["g"]), f"{site}.g")
    kept, added = rounding.product(f * states[1], f"{site}.kept"), rounding.product(i * g, f"{site}.added")
    c = rounding.product(kept + added, f"{site}.c")
    shown = rounding.tanh(np.tanh(c), f"{site}.shown")
    return [rounding.product(o * shown, f"{site}.h"), c]


def _gru_step(x: Gates, r: Gates, states: list[Float64], rounding: Rounding, site: str) -> list[Float64]:
    reset, update = (
        rounding.sigmoid(sigmoid(rounding.product(x[gate] + r[gate], f"{site}.{gate}.sum")), f"{site}.{gate}")
        for gate in ("r", "z")
    )
    kept_part = rounding.product(reset * r["n"], f"{site}.reset")
    n = rounding.tanh(np.tanh(rounding.product(x["n"] + kept_part, f"{site}.n.sum")), f"{site}.n")
    kept = rounding.product(update * states[0], f"{site}.kept")
    added = rounding.product((1.0 - update) * n, f"{site}.added")
    return [rounding.product(kept + added, f"{site}.h")]


_STEPS = {"lstm": _lstm_step, "gru": _gru_step}


def _float64(array: Array) -> Float64:
    return np.asarray(array, np.float64)


def sigmoid(x: Float64) -> Float64:
    """1 / (1 + exp(-x)), accurate in both tails.

    Example:
        >>> sigmoid(np.array([-1000.0, 0.0, 1000.0])).tolist()
        [0.0, 0.5, 1.0]
    """
    tail = np.exp(-np.abs(x))
    result: Float64 = np.where(x >= 0, 1.0, tail) / (1.0 + tail)
    return result
