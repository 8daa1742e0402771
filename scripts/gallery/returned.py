"""The three questions that people ask about what a recurrent layer returns."""

from __future__ import annotations

import torch

from gallery.story import Story, built, keras, torch_filled
from parity.comparison import Comparison, compare

CHAPTER = "What comes back"
UNITS, FEATURES = 6, 3


def three_values() -> Comparison:
    """An LSTM of Keras that returns all it has."""
    layer = keras.layers.LSTM(UNITS, return_sequences=True, return_state=True, name="lstm")
    return compare(built(layer, FEATURES, seed=1))


def five_values() -> Comparison:
    """The same in both directions."""
    inner = keras.layers.LSTM(UNITS, return_sequences=True, return_state=True, name="lstm")
    return compare(built(keras.layers.Bidirectional(inner, name="both"), FEATURES, seed=2))


def stacked_rows() -> Comparison:
    """A torch LSTM of two layers in both directions."""
    module = torch.nn.LSTM(FEATURES, UNITS, num_layers=2, bidirectional=True, batch_first=True)
    return compare(torch_filled(module, seed=3))


STORIES = (
    Story(
        "returns-lstm",
        CHAPTER,
        "Why does my LSTM return three values?",
        "agree",
        "With return_state=True Keras hands over the output, h and c. torch always does, as output and a pair (h_n, c_n) "
        "with an axis for layers and directions in front, and ONNX as Y, Y_h and Y_c with time first. h is the last step "
        "of the output; c stands in no output at all.",
        three_values,
        (("returned", "which value is which"), ("gates", "where each gate sits")),
    ),
    Story(
        "returns-bidirectional",
        CHAPTER,
        "And the bidirectional one five?",
        "agree",
        "Keras lists the states direction by direction, after the output; torch stacks them as rows of h_n and c_n. The "
        "backward direction ends at the first step, so output[:, -1] holds half of the final state and, beside it, the "
        "backward half after a single step.",
        five_values,
        (("returned", "which value is which"), ("layers", "the layer's options")),
    ),
    Story(
        "returns-stacked",
        CHAPTER,
        "Which row of h_n is which?",
        "agree",
        "A torch LSTM of two layers and two directions has four rows in h_n: layer by layer, forward before backward. In "
        "Keras these are two layers, in ONNX two nodes; their states are laid beside torch's rows, and all engines agree "
        "on each.",
        stacked_rows,
        (("returned", "the rows in words"), ("matrix", "the states compared")),
    ),
)
