"""The dense family: `keras.layers.Dense`, `torch.nn.Linear`, ONNX MatMul and Add."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from parity.deferred import Array, Arrays, Deferring
from parity.network.activations import ACTIVATIONS
from parity.reference import Float64, Rounding


@dataclass(frozen=True, eq=False)
class Dense(Deferring):
    """y = activation(x @ kernel + bias) on the last axis.

    Args:
        name: the user's name for it.
        kernel: (input, units), as Keras keeps it; torch keeps the transpose.
        bias: (units,) or None.
        activation: a key of `parity.network.activations.ACTIVATIONS`.
    """

    name: str
    kernel: Array
    bias: Array | None = None
    activation: str = "linear"

    @property
    def input_size(self) -> int:
        """Features it takes."""
        return int(self.held("kernel").shape[0])

    @property
    def output_size(self) -> int:
        """Features it gives."""
        return int(self.held("kernel").shape[1])

    @property
    def arrays(self) -> Arrays:
        """Its weights by name."""
        return Arrays({name: held for name in ("kernel", "bias") if (held := self.held(name)) is not None})

    @property
    def facts(self) -> dict[str, object]:
        """What people want to know of it beside its sizes."""
        return {"activation": self.activation, "bias": self.held("bias") is not None}

    def compute(self, x: Float64, rounding: Rounding) -> Float64:
        """The layer in float64 on x, (batch, time, input) or (batch, input)."""
        kernel = np.asarray(self.kernel, np.float64)
        bias = np.zeros(kernel.shape[1]) if self.bias is None else np.asarray(self.bias, np.float64)
        steps = x if x.ndim == 3 else x[:, None]
        y = rounding.affine(steps @ kernel + bias, steps, kernel, bias, self.name)
        return ACTIVATIONS[self.activation].compute(y if x.ndim == 3 else y[:, 0], rounding, f"{self.name}.activation")
