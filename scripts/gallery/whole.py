"""Whole models that agree layer by layer."""

from __future__ import annotations

from gallery.story import Story, filled, keras
from parity.comparison import Comparison, compare

CHAPTER = "Whole models"


def translator_model() -> keras.Model:
    """An encoder, a decoder that takes its state, attention between them; with the weights that Keras gives."""
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
    return keras.Model([source, target], words, name="translator")


def translator() -> Comparison:
    """The model, and what is made of it."""
    return compare(filled(translator_model(), seed=12), layers=True)


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
)
