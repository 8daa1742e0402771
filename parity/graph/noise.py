"""Roundings of float32's size for a graph, whose values may have the batch on any axis: one run after the other.

The sizes are those of `parity.floor`, which runs chains of layers with all replicas in one batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from parity.floor import SIGMOID_ERROR, TANH_ERROR, UNIT
from parity.reference import Float64


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
        return self._perturbed(value, UNIT * (np.sqrt(squares) + np.abs(bias) + np.abs(value)), site)

    def total(self, value: Float64, squares: Callable[[], Float64], terms: int, site: str) -> Float64:
        """Rounding of a sum of so many terms."""
        return self._perturbed(value, UNIT * (np.sqrt(terms * squares()) + np.abs(value)), site)

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
        perturbed: Float64 = np.where(np.isfinite(value), value + signs * size, value)
        return perturbed

    def _signs(self, shape: tuple[int, ...]) -> Float64:
        return 2.0 * self._random.integers(0, 2, shape).astype(np.float64) - 1.0


__all__ = ["Float32Noise"]
