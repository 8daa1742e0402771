# ruff: noqa: D102  the class says what its methods do, as in the layers of Keras
"""An LSTM cell with what that of Keras has not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import layers, ops


@keras.saving.register_keras_serializable(package="parity")
class ExtendedLSTMCell(layers.Layer):  # type: ignore[misc]
    """`layers.LSTMCell` with peepholes, a projection of h, coupled gates and a clip.

    Its kernels and its bias are those of `layers.LSTMCell`.
    """

    def __init__(
        self,
        units: int,
        activation: str | Callable[..., Any] = "tanh",
        recurrent_activation: str | Callable[..., Any] = "sigmoid",
        output_activation: str | Callable[..., Any] = "tanh",
        use_bias: bool = True,
        clip: float | None = None,
        coupled: bool = False,
        peepholes: bool = False,
        projection: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.units = units
        self.activation = keras.activations.get(activation)
        self.recurrent_activation = keras.activations.get(recurrent_activation)
        self.output_activation = keras.activations.get(output_activation)
        self.use_bias = use_bias
        self.clip = clip
        self.coupled = coupled
        self.peepholes = peepholes
        self.projection = projection
        self.output_size = projection or units
        self.state_size = [self.output_size, units]

    def build(self, input_shape: tuple[int, ...]) -> None:
        size = 4 * self.units
        self.kernel = self.add_weight(shape=(input_shape[-1], size), name="kernel")
        self.recurrent_kernel = self.add_weight(
            shape=(self.output_size, size),
            name="recurrent_kernel",
        )
        if self.use_bias:
            self.bias = self.add_weight(shape=(size,), name="bias")
        if self.peepholes:
            self.peephole = self.add_weight(shape=(3, self.units), name="peephole")
        if self.projection:
            self.projector = self.add_weight(
                shape=(self.units, self.projection),
                name="projector",
            )
        self.built = True

    def call(self, inputs: Any, states: Any, training: bool = False) -> Any:
        h, c = states
        z = ops.matmul(inputs, self.kernel) + ops.matmul(h, self.recurrent_kernel)
        if self.use_bias:
            z = z + self.bias
        z_i, z_f, z_c, z_o = ops.split(z, 4, axis=-1)
        if self.peepholes:
            z_i = z_i + self.peephole[0] * c
            z_f = z_f + self.peephole[1] * c
        i = self.recurrent_activation(self.clipped(z_i))
        f = 1.0 - i if self.coupled else self.recurrent_activation(self.clipped(z_f))
        c = f * c + i * self.activation(self.clipped(z_c))
        if self.peepholes:
            z_o = z_o + self.peephole[2] * c
        h = self.recurrent_activation(self.clipped(z_o)) * self.output_activation(c)
        if self.projection:
            h = ops.matmul(h, self.projector)
        return h, [h, c]

    def clipped(self, z: Any) -> Any:
        return z if self.clip is None else ops.clip(z, -self.clip, self.clip)

    def get_initial_state(self, batch_size: int | None = None) -> list[Any]:
        dtype = self.compute_dtype
        return [ops.zeros((batch_size, size), dtype) for size in self.state_size]

    def get_config(self) -> dict[str, Any]:
        serialize = keras.activations.serialize
        return {
            **super().get_config(),
            "units": self.units,
            "activation": serialize(self.activation),
            "recurrent_activation": serialize(self.recurrent_activation),
            "output_activation": serialize(self.output_activation),
            "use_bias": self.use_bias,
            "clip": self.clip,
            "coupled": self.coupled,
            "peepholes": self.peepholes,
            "projection": self.projection,
        }
