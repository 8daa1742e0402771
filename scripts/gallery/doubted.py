"""Ports that do not compute the same, and a model of which nobody can tell."""

from __future__ import annotations

import torch

from gallery.story import Story, built, keras, torch_filled
from parity.comparison import Comparison, compare

CHAPTER = "When the numbers are off"
UNITS, FEATURES = 12, 5
CHAOTIC = 8.0


def wrong_port() -> Comparison:
    """A GRU of Keras, copied into torch by hand: transposed, the biases taken apart, the gates left as Keras orders them."""
    layer = built(keras.layers.GRU(UNITS, return_sequences=True, return_state=True, name="gru"), FEATURES, seed=10)
    kernel, recurrent, bias = (torch.from_numpy(weight) for weight in layer.get_weights())
    port = torch.nn.GRU(FEATURES, UNITS, batch_first=True)
    port.load_state_dict(
        {"weight_ih_l0": kernel.T, "weight_hh_l0": recurrent.T, "bias_ih_l0": bias[0], "bias_hh_l0": bias[1]}
    )
    return compare(layer, port, batch=4, time=32)


def chaos() -> Comparison:
    """An LSTM whose recurrence doubles every difference within a few steps."""
    return compare(torch_filled(torch.nn.LSTM(4, 24, batch_first=True), seed=11, gain=CHAOTIC), time=90)


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
        "undecided",
        CHAPTER,
        "Right or wrong? Nobody can tell",
        "undecided",
        "The recurrence of this LSTM is chaotic: what float32 rounding does grows until it is as large as the signal, in "
        "any engine. Up to that step all agree, and so does each single step after it; beyond it a difference proves "
        "nothing, and the verdict is undecided.",
        chaos,
        (("error", "where the floor meets the signal"), ("judging", "how it was judged")),
    ),
)
