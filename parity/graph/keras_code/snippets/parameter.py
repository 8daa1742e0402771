# ruff: noqa: D102  the class says what its methods do, as in the layers of Keras
"""A weight that stands alone."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops


@keras.saving.register_keras_serializable(package="parity")
class Parameter(layers.Layer):  # type: ignore[misc]
    """A weight by itself; what the layer is called on only ties it to the model."""

    def __init__(
        self,
        shape: tuple[int, ...],
        trainable: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(trainable=trainable, **kwargs)
        self.shape = tuple(shape)
        self.value = self.add_weight(shape=self.shape, name="value")

    def call(self, inputs: Any) -> Any:
        return ops.convert_to_tensor(self.value)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "shape": self.shape}
