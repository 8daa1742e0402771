"""Where the answer is neither yes nor no: a model of which nobody can tell, and one that is refused."""

from __future__ import annotations

from typing import Any

import torch

from gallery.story import Made, Story, keras, torch_filled
from parity.comparison import Comparison, compare
from parity.errors import REFUSED, ParityError
from parity.report.refusal import make_refusal

CHAPTER = "Neither yes nor no"
CHAOTIC = 8.0


def chaos() -> Comparison:
    """An LSTM whose recurrence doubles every difference within a few steps."""
    return compare(torch_filled(torch.nn.LSTM(4, 24, batch_first=True), seed=11, gain=CHAOTIC), time=90)


class Emphasis(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """A layer of one's own: steps that matter get more of the whole."""

    def build(self, shape: tuple[int, ...]) -> None:
        """A weight for every feature."""
        self.scale = self.add_weight(shape=(shape[-1], 1), name="scale")

    def call(self, x: Any) -> Any:
        """The steps, each times its share."""
        return x * keras.ops.softmax(x @ self.scale, axis=1)


def refused() -> Made:
    """A classifier with a layer that parity does not know, and one whose code it does not run."""
    layers = [
        keras.Input((None,), dtype="int32", name="tokens"),
        keras.layers.Embedding(60, 12, name="words"),
        keras.layers.LSTM(16, return_sequences=True, name="lstm"),
        Emphasis(name="emphasis"),
        keras.layers.Lambda(lambda x: x[:, -1], output_shape=(16,), name="last"),
        keras.layers.Dense(3, activation="softmax", name="classes"),
    ]
    try:
        return compare(keras.Sequential(layers, name="reviews"))
    except ParityError as error:
        return make_refusal(error.problems, ["Sequential 'reviews'"])


STORIES = (
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
    Story(
        "refused",
        CHAPTER,
        "Refused, with the way out",
        REFUSED,
        "One layer of this classifier is its owner's own, another a Lambda with Python code inside. Nothing is guessed and "
        "nothing left out: all that stands in the way is told at once, each with where it is and what to do about it.",
        refused,
        (("problems", "what is wrong, and the remedies"),),
    ),
)
