"""The layers of parity that a converted Keras model may hold: import this before `keras.saving.load_model` opens such a model.

Keras finds a custom class by its registered name alone, so the module that registers it has to be imported first:

    import parity.keras_layers
    model = keras.saving.load_model("composed.keras")
"""

from __future__ import annotations

from parity.frameworks.keras.layers import Aligned, RecurrentCell

__all__ = ["Aligned", "RecurrentCell"]
