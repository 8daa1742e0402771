# ruff: noqa: D102  the class says what its methods do, as in the layers of Keras
"""A simple recurrent cell with what that of Keras has not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import layers, ops


@keras.saving.register_keras_serializable(package="parity")
class ExtendedRNNCell(layers.Layer):  # type: ignore[misc]
    """`layers.SimpleRNNCell` with a clip; its weights are those of that cell."""

    def __init__(
        self,
        units: int,
        activation: str | Callable[..., Any] = "tanh",
        use_bias: bool = True,
        clip: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.units = units
        self.activation = keras.activations.get(activation)
        self.use_bias = use_bias
        self.clip = clip
        self.output_size = units
        self.state_size = units

    def build(self, input_shape: tuple[int, ...]) -> None:
        self.kernel = self.add_weight(
            shape=(input_shape[-1], self.units),
            name="kernel",
        )
        self.recurrent_kernel = self.add_weight(
            shape=(self.units, self.units),
            name="recurrent_kernel",
        )
        if self.use_bias:
            self.bias = self.add_weight(shape=(self.units,), name="bias")
        self.built = True

    def call(self, inputs: Any, states: Any, training: bool = False) -> Any:
        h = states[0] if isinstance(states, (list, tuple)) else states
        z = ops.matmul(inputs, self.kernel) + ops.matmul(h, self.recurrent_kernel)
        if self.use_bias:
            z = z + self.bias
        if self.clip is not None:
            z = ops.clip(z, -self.clip, self.clip)
        h = self.activation(z)
        return h, [h] if isinstance(states, (list, tuple)) else h

    def get_initial_state(self, batch_size: int | None = None) -> list[Any]:
        return [ops.zeros((batch_size, self.units), self.compute_dtype)]

    def get_config(self) -> dict[str, Any]:
        serialize = keras.activations.serialize
        return {
            **super().get_config(),
            "units": self.units,
            "activation": serialize(self.activation),
            "use_bias": self.use_bias,
            "clip": self.clip,
        }
