# ruff: noqa: D102  the class says what its methods do, as in the layers of Keras
"""Lengths for which a model holds."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops


@keras.saving.register_keras_serializable(package="parity")
class LimitedLength(layers.Layer):  # type: ignore[misc]
    """Hands on its input if the length of an axis is within limits; raises otherwise."""

    def __init__(
        self,
        axis: int = 1,
        least: int | None = None,
        most: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        self.axis = axis
        self.least = least
        self.most = most

    def call(self, inputs: Any) -> Any:
        sizes = list(ops.shape(inputs))
        length = sizes[self.axis]
        if length is None:
            return inputs
        if not ops.is_tensor(length):
            self.check(length)
            return inputs
        # In a graph of TensorFlow the length is known only when it runs: no other than
        # one within the limits can be reshaped to these sizes. The last one makes it
        # another shape, as TensorFlow leaves out what seems to change nothing.
        if self.least is not None:
            length = ops.maximum(length, self.least)
        if self.most is not None:
            length = ops.minimum(length, self.most)
        sizes[self.axis] = self.least if self.least == self.most else length
        return ops.squeeze(ops.reshape(inputs, [*sizes, 1]), axis=-1)

    def check(self, length: int) -> None:
        least = 0 if self.least is None else self.least
        most = length if self.most is None else self.most
        if not least <= length <= most:
            limits = f"at least {least}" if length < least else f"at most {most}"
            what = f"the length of axis {self.axis} is {length}"
            raise ValueError(f"{self.name}: {what}, it has to be {limits}")

    def compute_output_spec(self, inputs: Any) -> Any:
        return keras.KerasTensor(inputs.shape, dtype=inputs.dtype)

    def get_config(self) -> dict[str, Any]:
        limits = {"least": self.least, "most": self.most}
        return {**super().get_config(), "axis": self.axis, **limits}
