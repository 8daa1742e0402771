# ruff: noqa: D102  the class says what its methods do, as in the layers of Keras
"""The places of an axis."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops


@keras.saving.register_keras_serializable(package="parity")
class Positions(layers.Layer):  # type: ignore[misc]
    """The integers 0, 1, 2, ... for the places of an axis, or for a multiple of them."""

    def __init__(self, axis: int = 1, times: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.axis = axis
        self.times = times

    def call(self, inputs: Any) -> Any:
        return ops.arange(ops.shape(inputs)[self.axis] * self.times, dtype="int32")

    def compute_output_spec(self, inputs: Any) -> Any:
        length = inputs.shape[self.axis]
        shape = (None if length is None else length * self.times,)
        return keras.KerasTensor(shape, dtype="int32")

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "axis": self.axis, "times": self.times}
