"""Whole models: one that agrees layer by layer, and a port of one that has a single wrong layer."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

import parity
from gallery.story import Story, filled, keras
from parity.comparison import Comparison, compare

CHAPTER = "Whole models"
BANDS, SIZE, LETTERS = 13, 16, 10
QUIET = 0.05
"""Of the inputs: where they vary little, what a norm adds to their variance counts."""


def translator() -> Comparison:
    """An encoder, a decoder that takes its state, attention between them."""
    layers = keras.layers
    source = keras.Input((None,), name="source", dtype="int32")
    target = keras.Input((None,), name="target", dtype="int32")
    encoder = layers.LSTM(8, return_sequences=True, return_state=True, name="encoder")
    encoded, h, c = encoder(layers.Embedding(13, 6, name="source_embedding")(source))
    decoder = layers.LSTM(8, return_sequences=True, name="decoder")
    decoded = decoder(layers.Embedding(17, 5, name="target_embedding")(target), initial_state=[h, c])
    context = layers.Attention(name="attention")([decoded, encoded])
    joined = layers.Concatenate(name="joined")([context, decoded])
    mixed = layers.Dense(9, activation="tanh", name="mixed")(joined)
    words = layers.Dense(17, activation="softmax", name="words")(mixed)
    return compare(filled(keras.Model([source, target], words, name="translator"), seed=12), layers=True)


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


STORIES = (
    Story(
        "whole-model",
        CHAPTER,
        "A translator, layer by layer",
        "agree",
        "An encoder hands its state to a decoder, attention looks back: a Keras model with two inputs, as torch and ONNX "
        "code. Every layer is judged on the very inputs that it got, so agreement is shown for each, and not only for "
        "what comes out at the end.",
        translator,
        (("architecture", "the layers"), ("layer-by-layer", "each layer's numbers")),
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
)
