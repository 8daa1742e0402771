"""Models that move from one framework to another and still compute the same."""

from __future__ import annotations

import torch
from torch import nn

import parity
from gallery.old_file import write_old_model
from gallery.story import TRANSFERRED, Story, built, filled, keras, torch_filled
from parity.comparison import Comparison, compare
from parity.frameworks import KERAS_BACKENDS
from parity.transferring.answer import Transfer

CHAPTER = "Moving"
OLD_FILE = "old-model.h5"
LENGTHS = [17, 9, 4, 1]
WORDS, WIDTH, UNITS, TAGS = 60, 12, 16, 5


def keras_to_torch() -> Comparison:
    """A classifier of words."""
    layers = [
        keras.layers.Embedding(40, 8, name="words"),
        keras.layers.Bidirectional(keras.layers.LSTM(12, name="lstm"), name="encoder"),
        keras.layers.Dropout(0.3, name="dropout"),
        keras.layers.Dense(4, activation="softmax", name="classes"),
    ]
    model = keras.Sequential([keras.Input((None,), dtype="int32", name="tokens"), *layers], name="classifier")
    return compare(filled(model, seed=4), batch=4, time=24)


def gru_to_torch() -> Comparison:
    """The GRU of the first paper, which torch.nn.GRU is not."""
    layer = keras.layers.GRU(10, reset_after=False, return_sequences=True, return_state=True, name="gru")
    return compare(built(layer, 5, seed=5))


def gru_to_keras() -> Comparison:
    """The GRU of cuDNN, which both have."""
    return compare(torch_filled(torch.nn.GRU(5, 10, bidirectional=True, batch_first=True), seed=6))


def padded() -> Comparison:
    """Four sequences of unequal length."""
    layer = keras.layers.LSTM(8, return_sequences=True, return_state=True, name="lstm")
    return compare(built(layer, 4, seed=7), lengths=LENGTHS)


def old_file() -> Comparison:
    """A model from a file as Keras 1 wrote it."""
    write_old_model(OLD_FILE)
    return compare(OLD_FILE, batch=4)


def backends() -> Comparison:
    """A layer in Keras on all of its backends, each in a process of its own, and in torch."""
    layer = keras.layers.LSTM(8, return_sequences=True, return_state=True, name="lstm")
    return compare(built(layer, 4, seed=17), engines=[*KERAS_BACKENDS, "torch"])


def language_model() -> keras.Model:
    """What says the next word."""
    layers = [
        keras.Input((None,), dtype="int32", name="tokens"),
        keras.layers.Embedding(WORDS, WIDTH, name="words"),
        keras.layers.LSTM(UNITS, return_sequences=True, name="lower"),
        keras.layers.GRU(UNITS, name="upper"),
        keras.layers.Dense(WORDS, activation="softmax", name="next_word"),
    ]
    return filled(keras.Sequential(layers, name="language"), seed=16)


class Tagger(nn.Module):
    """A model that begins as the language model does and ends with tags."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, WIDTH)
        self.lower = nn.LSTM(WIDTH, UNITS, batch_first=True)
        self.upper = nn.GRU(UNITS, UNITS, batch_first=True)
        self.tag = nn.Linear(UNITS, TAGS)


def into_another() -> Transfer:
    """What the two models share; the rest is named, or it would be an error."""
    return parity.transfer(language_model(), Tagger(), names={"next_word": None, "tag": None})


STORIES = (
    Story(
        "keras-to-torch",
        CHAPTER,
        "From Keras to torch",
        "agree",
        "A classifier of words, in Keras, converted to torch and ONNX: embedding, bidirectional LSTM, dense layer. The "
        "three engines stay within two floors of the float64 reference, and the classes that they choose are the same.",
        keras_to_torch,
        (("matrix", "the differences"), ("gates", "where each gate sits")),
    ),
    Story(
        "gru-keras-to-torch",
        CHAPTER,
        "A GRU that torch does not have",
        "agree",
        "Keras with reset_after=False resets the state before the product, torch.nn.GRU after it, and no choice of "
        "weights makes one of the other. So the conversion is a small composition with the same outputs, and says so; "
        "ONNX has an option for it.",
        gru_to_torch,
        (("returned", "native or composed, and why"), ("gates", "z r h and r z n")),
    ),
    Story(
        "gru-torch-to-keras",
        CHAPTER,
        "A GRU that both have",
        "agree",
        "The other way round nothing needs to be composed: a torch GRU is a Keras GRU with reset_after=True. The gates "
        "change places, the axes of the kernels turn, and the two biases become two rows of one.",
        gru_to_keras,
        (("gates", "how the gates change places"), ("returned", "which value is which")),
    ),
    Story(
        "padding",
        CHAPTER,
        "Four sequences of unequal length",
        "agree",
        "Keras repeats the last output where a sequence has ended, torch and ONNX put zeros. That is a convention and no "
        "fault: padded steps are scored by themselves, and only the valid ones count.",
        padded,
        (("padding", "what stands at padded steps"), ("where", "the map of batch and time")),
    ),
    Story(
        "transfer",
        CHAPTER,
        "Into a model that is there already",
        TRANSFERRED,
        "A tagger in torch starts from a language model of Keras. The page shows which tensor became which, by what "
        "transform and with what hash; the old last layer, which goes nowhere, and the new one, which keeps its values, "
        "are listed beside them.",
        into_another,
        (("tensors", "every tensor"), ("layers", "how the layers were matched")),
    ),
    Story(
        "backends",
        CHAPTER,
        "Keras on TensorFlow, torch and JAX",
        "agree",
        "The same LSTM in Keras on each of its backends, and in torch itself: four engines, each beside the "
        "float64 reference and beside every other. They differ in their last bits and agree in all that counts.",
        backends,
        (("matrix", "four engines and six pairs"), ("returned", "what each returned")),
    ),
    Story(
        "old-file",
        CHAPTER,
        "An old file rescued",
        "agree",
        "A classifier of texts as Keras 1.2.2 saved it: every gate a tensor of its own, options under names that are long "
        "gone, a hard_sigmoid with another slope than today's. Keras 3 does not load it; parity reads it without any "
        "Keras, and all engines compute the same with it.",
        old_file,
        (("layers", "what the file says"), ("matrix", "the differences")),
        (OLD_FILE,),
    ),
)
