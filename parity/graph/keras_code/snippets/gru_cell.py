# ruff: noqa: D102  the class says what its methods do, as in the layers of Keras
"""A GRU cell with what that of Keras has not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import layers, ops


@keras.saving.register_keras_serializable(package="parity")
class ExtendedGRUCell(layers.Layer):  # type: ignore[misc]
    """`layers.GRUCell` with a clip; its kernels and its bias are those of that cell."""

    def __init__(
        self,
        units: int,
        activation: str | Callable[..., Any] = "tanh",
        recurrent_activation: str | Callable[..., Any] = "sigmoid",
        use_bias: bool = True,
        reset_after: bool = True,
        clip: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.units = units
        self.activation = keras.activations.get(activation)
        self.recurrent_activation = keras.activations.get(recurrent_activation)
        self.use_bias = use_bias
        self.reset_after = reset_after
        self.clip = clip
        self.output_size = units
        self.state_size = units

    def build(self, input_shape: tuple[int, ...]) -> None:
        size = 3 * self.units
        self.kernel = self.add_weight(shape=(input_shape[-1], size), name="kernel")
        self.recurrent_kernel = self.add_weight(
            shape=(self.units, size),
            name="recurrent_kernel",
        )
        if self.use_bias:
            shape = (2, size) if self.reset_after else (size,)
            self.bias = self.add_weight(shape=shape, name="bias")
        self.built = True

    def call(self, inputs: Any, states: Any, training: bool = False) -> Any:
        h = states[0] if isinstance(states, (list, tuple)) else states
        x = ops.matmul(inputs, self.kernel)
        if self.use_bias:
            x = x + (self.bias[0] if self.reset_after else self.bias)
        x_z, x_r, x_h = ops.split(x, 3, axis=-1)
        kernel_z, kernel_r, kernel_h = ops.split(self.recurrent_kernel, 3, axis=-1)
        h_z, h_r = ops.matmul(h, kernel_z), ops.matmul(h, kernel_r)
        if self.use_bias and self.reset_after:
            bias_z, bias_r, bias_h = ops.split(self.bias[1], 3)
            h_z, h_r = h_z + bias_z, h_r + bias_r
        z = self.recurrent_activation(self.clipped(x_z + h_z))
        r = self.recurrent_activation(self.clipped(x_r + h_r))
        if self.reset_after:
            h_h = ops.matmul(h, kernel_h)
            h_h = r * (h_h + bias_h if self.use_bias else h_h)
        else:
            h_h = ops.matmul(r * h, kernel_h)
        h = z * h + (1.0 - z) * self.activation(self.clipped(x_h + h_h))
        return h, [h] if isinstance(states, (list, tuple)) else h

    def clipped(self, z: Any) -> Any:
        return z if self.clip is None else ops.clip(z, -self.clip, self.clip)

    def get_initial_state(self, batch_size: int | None = None) -> list[Any]:
        return [ops.zeros((batch_size, self.units), self.compute_dtype)]

    def get_config(self) -> dict[str, Any]:
        serialize = keras.activations.serialize
        return {
            **super().get_config(),
            "units": self.units,
            "activation": serialize(self.activation),
            "recurrent_activation": serialize(self.recurrent_activation),
            "use_bias": self.use_bias,
            "reset_after": self.reset_after,
            "clip": self.clip,
        }
