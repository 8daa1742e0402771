"""Ports that do not compute the same."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

import parity
from gallery.story import Story, built, filled, keras
from parity.comparison import Comparison, compare

CHAPTER = "When the numbers are off"
UNITS, FEATURES = 12, 5
BANDS, SIZE, LETTERS = 13, 16, 10
QUIET = 0.05
"""Of the inputs: where they vary little, what a norm adds to their variance counts."""
CHANNELS, STATES = 6, 3


def wrong_port() -> Comparison:
    """A GRU of Keras, copied into torch by hand: transposed, the biases taken apart, the gates left as Keras orders them."""
    layer = built(keras.layers.GRU(UNITS, return_sequences=True, return_state=True, name="gru"), FEATURES, seed=10)
    kernel, recurrent, bias = (torch.from_numpy(weight) for weight in layer.get_weights())
    port = torch.nn.GRU(FEATURES, UNITS, batch_first=True)
    port.load_state_dict(
        {"weight_ih_l0": kernel.T, "weight_hh_l0": recurrent.T, "bias_ih_l0": bias[0], "bias_hh_l0": bias[1]}
    )
    return compare(layer, port, batch=4, time=32)


def listener() -> keras.Model:
    """A recogniser of speech: a convolution over time, a norm, two recurrent layers, a letter for every step."""
    layers = keras.layers
    spectrum = keras.Input((None, BANDS), name="spectrum")
    x = layers.Conv1D(SIZE, 3, padding="same", name="conv")(spectrum)
    x = layers.LayerNormalization(name="norm")(x)
    x = layers.Bidirectional(layers.GRU(8, return_sequences=True, name="gru"), name="ear")(x)
    x = layers.LSTM(12, return_sequences=True, name="memory")(x)
    letters = layers.Dense(LETTERS, activation="softmax", name="letters")(x)
    return filled(keras.Model(spectrum, letters, name="listener"), seed=13)


class Listener(nn.Module):
    """The same, as it is written in torch by hand, with the epsilon that torch has by default."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(BANDS, SIZE, 3, padding=1)
        self.norm = nn.LayerNorm(SIZE)
        self.ear = nn.GRU(SIZE, 8, batch_first=True, bidirectional=True)
        self.memory = nn.LSTM(16, 12, batch_first=True)
        self.letters = nn.Linear(12, LETTERS)

    def forward(self, spectrum: Tensor) -> Tensor:
        """Letters for every step, of (batch, time, bands)."""
        x = self.conv(spectrum.transpose(1, 2)).transpose(1, 2)
        x, _ = self.ear(self.norm(x))
        x, _ = self.memory(x)
        return torch.softmax(self.letters(x), dim=-1)


def one_wrong_layer() -> Comparison:
    """The weights are carried over one by one and are all right."""
    model = listener()
    port = Listener()
    parity.transfer(model, port)
    spectrum = np.random.default_rng(14).normal(scale=QUIET, size=(3, 40, BANDS)).astype(np.float32)
    return compare(model, port.eval(), inputs=spectrum)


def monitor() -> keras.Model:
    """What watches over a signal while it comes in: a recurrent layer, and a state for every step."""
    layers = keras.layers
    signal = keras.Input((None, CHANNELS), name="signal")
    x = layers.LSTM(UNITS, return_sequences=True, name="memory")(signal)
    x = layers.LayerNormalization(epsilon=1e-5, name="norm")(x)
    alarm = layers.Dense(STATES, activation="softmax", name="alarm")(x)
    return filled(keras.Model(signal, alarm, name="monitor"), seed=15)


class Monitor(nn.Module):
    """The same, but for one line that was there for recordings."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = nn.LSTM(CHANNELS, UNITS, batch_first=True)
        self.norm = nn.LayerNorm(UNITS)
        self.alarm = nn.Linear(UNITS, STATES)

    def forward(self, signal: Tensor) -> Tensor:
        """Shares of the states for every step, of (batch, time, channels)."""
        x, _ = self.memory(signal - signal.mean(dim=1, keepdim=True))
        return torch.softmax(self.alarm(self.norm(x)), dim=-1)


def looks_ahead() -> Comparison:
    """The weights are right, and every option of a layer."""
    model = monitor()
    port = Monitor()
    parity.transfer(model, port)
    return compare(model, port.eval(), batch=3, time=12)


STORIES = (
    Story(
        "wrong-port",
        CHAPTER,
        "A port by hand, and what is wrong with it",
        "disagree",
        "Every kernel was transposed and both biases taken apart, but Keras orders the gates of a GRU z r h and torch r z "
        "n. The report says how far off it is and since which step, names the cause and gives the lines that mend it.",
        wrong_port,
        (("cause", "the cause and the repair"), ("error", "the error over time"), ("gates", "where each gate belongs")),
    ),
    Story(
        "one-wrong-layer",
        CHAPTER,
        "One wrong layer in five",
        "disagree",
        "All weights of this port are right, yet it is off from the second layer on: LayerNorm of torch adds 1e-5 to the "
        "variance, that of Keras 1e-3. The layers after it get wrong inputs and compute right; judged on what they got, "
        "the one that is at fault stands out.",
        one_wrong_layer,
        (("architecture", "the first layer that differs"), ("cause", "the cause and the repair")),
    ),
    Story(
        "looks-ahead",
        CHAPTER,
        "No weight is wrong, and it looks ahead",
        "disagree",
        "The port takes the mean of the whole recording off every step, a line of no layer, so no mistake in a layer "
        "explains it. The report says so, lists what is ruled out, and asks the port itself: change one step, and the "
        "steps before it move.",
        looks_ahead,
        (
            ("probes", "what was asked, and what moved"),
            ("cause", "what is ruled out"),
            ("decisions", "the states that change"),
        ),
    ),
)
