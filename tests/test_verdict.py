"""The verdict on models known to be right or wrong, beside what a fixed tolerance would have said (FACTS.md 5.3)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import keras
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import parity
from parity.judge import REFERENCE, Judgement, Row, Rule, judge
from parity.layouts import GATES
from parity.network import Network
from parity.recurrent import Array
from parity.result import LayerRun, Result, State, check_states

Float32: TypeAlias = NDArray[np.float32]
Elementwise: TypeAlias = Callable[[Float32], Float32]
Product: TypeAlias = Callable[[Float32, Float32], Float32]

FEATURES, UNITS, BATCH = 5, 32, 3


def product(left: Float32, right: Float32) -> Float32:
    """The honest one."""
    return left @ right


def tf32_product(left: Float32, right: Float32) -> Float32:
    """Ten bits of mantissa go into the product, as on a GPU that was not told otherwise."""
    return truncated(left) @ truncated(right)


def truncated(array: Float32) -> Float32:
    return (np.ascontiguousarray(array).view(np.int32) & ~0x1FFF).view(np.float32)


def tanh(x: Float32) -> Float32:
    return np.tanh(x, dtype=np.float32)


def fast_tanh(x: Float32) -> Float32:
    """A Pade approximation that saturates: right to about 1e-5."""
    x = np.clip(x, np.float32(-4.97), np.float32(4.97))
    s = x * x
    return x * (135135 + s * (17325 + s * (378 + s))) / (135135 + s * (62370 + s * (3150 + 28 * s)))


@dataclass
class Suspect:
    """A runner: one layer of one direction in plain float32 NumPy, with a fault that no framework can be talked into."""

    network: Network
    product: Product = product
    tanh: Elementwise = tanh
    reset_after: bool = True
    engine: str = "suspect"

    def __call__(self, inputs: Array, states: Mapping[str, State]) -> Result:
        """Run, and show every step."""
        (layer,) = self.network.recurrent
        now: list[Float32] = [array[0].astype(np.float32) for array in states[layer.name].arrays()]
        step = self._lstm if layer.spec.kind == "lstm" else self._gru
        sequence = np.empty((*inputs.shape[:2], 1, layer.spec.hidden_size), np.float32)
        for time in range(inputs.shape[1]):
            now = step(inputs[:, time].astype(np.float32), now)
            sequence[:, time, 0] = now[0]
        return Result(self.engine, {}, {layer.name: LayerRun(State(*(state[None] for state in now)), sequence)})

    def _gates(self, x: Float32, matrix: str, bias: str) -> dict[str, Float32]:
        (layer,) = self.network.recurrent
        weights, biases = layer.weights[0].member(matrix), layer.weights[0].member(bias)
        assert weights is not None
        values = self.product(x, weights.reshape(-1, weights.shape[-1]).T)
        if biases is not None:
            values = values + biases.reshape(-1)
        gates = GATES[layer.spec.kind]
        return dict(zip(gates, np.split(values, len(gates), axis=-1), strict=True))

    def _lstm(self, x: Float32, states: list[Float32]) -> list[Float32]:
        given, recurred = self._gates(x, "kernel", "bias_input"), self._gates(states[0], "recurrent", "bias_recurrent")
        z = {gate: given[gate] + recurred[gate] for gate in given}
        c = sigmoid(z["f"]) * states[1] + sigmoid(z["i"]) * self.tanh(z["g"])
        return [sigmoid(z["o"]) * self.tanh(c), c]

    def _gru(self, x: Float32, states: list[Float32]) -> list[Float32]:
        given, recurred = self._gates(x, "kernel", "bias_input"), self._gates(states[0], "recurrent", "bias_recurrent")
        reset, update = (sigmoid(given[gate] + recurred[gate]) for gate in ("r", "z"))
        if self.reset_after:
            candidate = self.tanh(given["n"] + reset * recurred["n"])
        else:
            candidate = self.tanh(given["n"] + self._gates(reset * states[0], "recurrent", "bias_recurrent")["n"])
        return [update * states[0] + (1 - update) * candidate]


def sigmoid(x: Float32) -> Float32:
    return 1 / (1 + np.exp(-x))


def normal(random: np.random.Generator, time: int, size: float = 1.0, batch: int = BATCH) -> Float32:
    return (size * random.standard_normal((batch, time, FEATURES))).astype(np.float32)


def torch_layer(kind: str, random: np.random.Generator, units: int = UNITS, gain: float = 1.0, bias: float = 0.3) -> Any:
    """A torch layer of random weights; gain is the spectral size of the recurrence, above about 3 it is chaotic."""
    layer = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[kind](FEATURES, units, batch_first=True)
    sizes = {"weight_ih_l0": FEATURES**-0.5, "weight_hh_l0": gain * units**-0.5}
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            values = sizes.get(name, bias) * random.standard_normal(parameter.shape)
            parameter.copy_(torch.from_numpy(values))
    return layer


def fresh_keras_lstm(seed: int = 0) -> Any:
    """As Keras makes it: Glorot kernel, orthogonal recurrence, forget bias one and the others zero."""
    layer = keras.layers.LSTM(
        UNITS,
        return_sequences=True,
        kernel_initializer=keras.initializers.GlorotUniform(seed),
        recurrent_initializer=keras.initializers.Orthogonal(seed=seed),
    )
    layer.build((None, None, FEATURES))
    return layer


def judged(suspect: Suspect, network: Network, inputs: Array) -> Judgement:
    return judge(network, {"suspect": suspect}, inputs, check_states(network.specs, None, inputs.shape[0]))


def worst(rows: tuple[Row, ...], rule: Rule, label: str = "") -> Row:
    """Of everything compared with the reference by this rule, what is nearest to the limit or furthest beyond."""
    chosen = [row for row in rows if row.rule == rule and row.right == REFERENCE and label in row.left]
    return max(chosen, key=lambda row: row.times_floor)


def sequence_error(rows: tuple[Row, ...], label: str = "") -> float:
    """What a fixed tolerance looks at: the largest absolute error in the outputs."""
    return max(
        row.max_error
        for row in rows
        if (row.rule, row.quantity, row.right) == ("run", "sequence", REFERENCE) and label in row.left
    )


def changed(layer: Any, change: Callable[[dict[str, torch.Tensor]], None]) -> Any:
    """A copy of a torch layer with some weights changed."""
    other = copy.deepcopy(layer)
    with torch.no_grad():
        change(dict(other.named_parameters()))
    return other


# ---- correct: a fixed tolerance raises a false alarm


@pytest.mark.parametrize(
    ("kind", "gain", "time", "seed", "fixed", "verdict"),
    [
        ("lstm", 3.0, 1000, 0, 1e-5, "agree"),
        ("gru", 3.2, 1000, 0, 1e-5, "agree"),
        ("lstm", 6.0, 300, 0, 1e-1, "undecided"),
    ],
)
def test_correct_but_lively(kind: str, gain: float, time: int, seed: int, fixed: float, verdict: str) -> None:
    random = np.random.default_rng(seed)
    layer = torch_layer(kind, random, gain=gain)
    comparison = parity.compare(layer, inputs=normal(random, time), engines=["torch", "onnxruntime"])
    print(kind, gain, comparison.verdict, sequence_error(comparison.table), comparison.judgement.floor.horizon, worst(comparison.table,"run").times_floor, worst(comparison.table,"one step").times_floor)
