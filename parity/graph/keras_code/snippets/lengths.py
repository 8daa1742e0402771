# ruff: noqa: D102  the class says what its methods do, as in the layers of Keras
"""Shapes with lengths that are known when the model runs."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops


@keras.saving.register_keras_serializable(package="parity")
class ReshapeLike(layers.Layer):  # type: ignore[misc]
    """Reshapes its first input to sizes known when the model runs.

    A size is a number, or (input, axis) for the length of an axis of an input, or
    (input, axis, times) for a multiple of it.
    """

    def __init__(self, sizes: tuple[Any, ...], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.sizes = sizes

    def call(self, inputs: Any) -> Any:
        values = inputs if isinstance(inputs, (list, tuple)) else [inputs]
        lengths = [self.length(size, values) for size in self.sizes]
        return self.shaped(values[0], lengths)

    def length(self, size: Any, values: Any) -> Any:
        if isinstance(size, int):
            return size
        source, axis, *times = size
        length = ops.shape(values[source])[axis]
        return length * times[0] if times else length

    def shaped(self, value: Any, lengths: list[Any]) -> Any:
        return ops.reshape(value, lengths)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "sizes": self.sizes}


@keras.saving.register_keras_serializable(package="parity")
class BroadcastLike(ReshapeLike):
    """Broadcasts its first input to sizes known when the model runs; -1 keeps one."""

    def shaped(self, value: Any, lengths: list[Any]) -> Any:
        own = list(ops.shape(value))
        own = [1] * (len(lengths) - len(own)) + own
        for axis, length in enumerate(lengths):
            if isinstance(length, int) and length == -1:
                lengths[axis] = own[axis]
        return ops.broadcast_to(value, lengths)
