"""Roundings of float32's size, put into the float64 recurrences.

With u = 2**-24, the size of a rounding is

    of x @ M + b   u * (sqrt(n * sum x^2 M^2) + |b| + |x @ M + b|)   for n terms: the worst order of summation, in the mean
    of sigmoid     3 u absolute             of tanh, exp    5 u relative
    of any other function                   3 u absolute and 5 u relative
    of a product, a sum or a state          u relative

the last two lines being what the frameworks' own kernels were measured to do (scripts/calibrate.py keeps all of it honest).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from parity.reference import Float64

UNIT = 2.0**-24
"""Half a unit in the last place of 1.0 in float32."""

SIGMOID_ERROR, TANH_ERROR = 3 * UNIT, 5 * UNIT

_POOL = 1 << 18
"""Signs that are drawn once; what is needed begins anywhere among them."""


class Float32Rounding:
    """Roundings of float32's size on rows ordered (group, sample); group 0 stays exact.

    Args:
        groups: one exact run and the replicas.
        batch: samples in each group.
        seed: of the signs.
    """

    def __init__(self, groups: int, batch: int, seed: int) -> None:
        self._groups, self._batch = groups, batch
        self._fresh = 1 + (groups - 1) // 2
        self._random = np.random.default_rng(seed)
        self._pool = self._random.choice(np.array([-1.0, 1.0]), _POOL)
        self._frozen: dict[str, Float64] = {}
        self._squares: dict[str, Float64] = {}

    def affine(self, value: Float64, inputs: Float64, matrix: Float64, bias: Float64, site: str) -> Float64:
        """Rounding of a sum of products, its size taken from the exact group."""
        if site not in self._squares:
            self._squares[site] = matrix.shape[0] * matrix**2
        exact, exact_inputs = value[: self._batch], inputs[: self._batch]
        squares: Float64 = exact_inputs.reshape(-1, matrix.shape[0]) ** 2 @ self._squares[site]
        size = np.sqrt(squares).reshape(exact.shape) + np.abs(bias) + np.abs(exact)
        return self._perturbed(value, UNIT * size, site)

    def total(self, value: Float64, squares: Callable[[], Float64], terms: int, site: str) -> Float64:
        """Rounding of a sum of so many terms, its size taken from the exact group."""
        size = np.sqrt(terms * squares()[: self._batch]) + np.abs(value[: self._batch])
        return self._perturbed(value, UNIT * size, site)

    def sigmoid(self, value: Float64, site: str) -> Float64:
        """Absolute: the kernels' sigmoids are that good and no better."""
        return self._perturbed(value, np.broadcast_to(SIGMOID_ERROR, value[: self._batch].shape), site)

    def tanh(self, value: Float64, site: str) -> Float64:
        """Relative."""
        return self._perturbed(value, TANH_ERROR * np.abs(value[: self._batch]), site)

    def smooth(self, value: Float64, site: str, coarse: float = 1.0) -> Float64:
        """Absolute near zero, relative far from it."""
        return self._perturbed(value, coarse * (SIGMOID_ERROR + TANH_ERROR * np.abs(value[: self._batch])), site)

    def product(self, value: Float64, site: str) -> Float64:
        """Relative, one rounding."""
        return self._perturbed(value, UNIT * np.abs(value[: self._batch]), site)

    def _perturbed(self, value: Float64, size: Float64, site: str) -> Float64:
        grouped = value.reshape(self._groups, self._batch, *value.shape[1:])
        row = grouped.shape[1:]
        # One draw for all steps: an axis of steps stands between rows and columns in `affine` alone.
        once = (row[0], 1, row[2]) if len(row) == 3 else row
        fresh = self._signs((self._fresh - 1, *row))
        if site not in self._frozen:
            self._frozen[site] = self._signs((self._groups - self._fresh, *once)).copy()
        rounded = np.empty(grouped.shape)
        rounded[0] = grouped[0]
        np.multiply(fresh, size, out=rounded[1 : self._fresh])
        np.multiply(self._frozen[site], size, out=rounded[self._fresh :])
        rounded[1:] += grouped[1:]
        return rounded.reshape(value.shape)

    def _signs(self, shape: tuple[int, ...]) -> Float64:
        count = int(np.prod(shape))
        run = _POOL // 2
        if count < _POOL:
            start = int(self._random.integers(_POOL - count))
            return self._pool[start : start + count].reshape(shape)
        starts = self._random.integers(_POOL - run, size=-(-count // run))
        return np.concatenate([self._pool[start : start + run] for start in starts.tolist()])[:count].reshape(shape)


__all__ = ["SIGMOID_ERROR", "TANH_ERROR", "UNIT", "Float32Rounding"]
