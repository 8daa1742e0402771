"""Roundings of float32's size for a graph, whose values may have the batch on any axis: one run after the other.

The sizes are those of `parity.floor`, which runs chains of layers with all replicas in one batch; a sum of many terms of one sign, as
pooling, normalizations and attention have them, is off by more than a sum of terms of both signs. `scripts/calibrate_graph.py` keeps
all of it honest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from parity.floor import SIGMOID_ERROR, TANH_ERROR, UNIT
from parity.reference import Float64


def _drift(value: Float64, terms: int) -> Float64:
    """Rounding, in units, of a sum whose terms have mostly one sign, added one after the other.

    The k-th of n additions rounds a sum of about k/n of the value, so that together they are off by 0.24 sqrt(n) units of it, as one
    standard deviation: every rounding is uniform. Measured: ONNX Runtime, TensorFlow and torch do add thousands of terms so.
    """
    drift: Float64 = 0.5 * np.sqrt(terms) * np.abs(value)
    return drift


class Float32Noise:
    """One run whose every intermediate value suffers a float32-sized rounding of random sign.

    Args:
        seed: of the signs.
        frozen: whether a place in a loop has the same signs at every step, as a systematic bias would.

    Example:
        >>> noise = Float32Noise(0)
        >>> bool(0 < abs(noise.product(np.ones(1), "a")[0] - 1) < 1e-7)
        True
    """

    def __init__(self, seed: int, frozen: bool = False) -> None:
        self._random = np.random.default_rng(seed)
        self._kept: dict[tuple[str, tuple[int, ...]], Float64] | None = {} if frozen else None

    def affine(self, value: Float64, inputs: Float64, matrix: Float64, bias: Float64, site: str) -> Float64:
        """Rounding of a sum of products and a bias."""
        squares = (inputs**2) @ (matrix**2) * matrix.shape[0]
        # Measured: a convolution of torch begins with the bias, to which the products are added.
        drift = _drift(np.abs(bias) + np.abs(value - bias), matrix.shape[0])
        return self._perturbed(value, UNIT * (np.sqrt(squares) + np.abs(bias) + np.abs(value) + drift), site)

    def total(self, value: Float64, squares: Callable[[], Float64], terms: int, site: str) -> Float64:
        """Rounding of a sum of so many terms."""
        size = np.sqrt(terms * squares()) + np.abs(value) + _drift(value, terms)
        return self._perturbed(value, UNIT * size, site)

    def sigmoid(self, value: Float64, site: str) -> Float64:
        """Absolute."""
        return self._perturbed(value, SIGMOID_ERROR, site)

    def tanh(self, value: Float64, site: str) -> Float64:
        """Relative."""
        return self._perturbed(value, TANH_ERROR * np.abs(value), site)

    def smooth(self, value: Float64, site: str, coarse: float = 1.0) -> Float64:
        """Absolute near zero, relative far from it."""
        return self._perturbed(value, coarse * (SIGMOID_ERROR + TANH_ERROR * np.abs(value)), site)

    def product(self, value: Float64, site: str) -> Float64:
        """Relative, one rounding."""
        return self._perturbed(value, UNIT * np.abs(value), site)

    def _perturbed(self, value: Float64, size: Any, site: str) -> Float64:
        if self._kept is None:
            signs = self._signs(value.shape)
        elif (site, value.shape) in self._kept:
            signs = self._kept[site, value.shape]
        else:
            signs = self._kept[site, value.shape] = self._signs(value.shape)
        # Infinities have no rounding.
        perturbed: Float64 = value + signs * np.where(np.isfinite(value), size, 0.0)
        return perturbed

    def _signs(self, shape: tuple[int, ...]) -> Float64:
        return 2.0 * self._random.integers(0, 2, shape).astype(np.float64) - 1.0


__all__ = ["Float32Noise"]
