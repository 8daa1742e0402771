"""Normalizations, as they are at inference."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from parity.deferred import Array, Arrays, Deferring
from parity.errors import ShapeError
from parity.graph.operations.operation import Plain, Shape, all_of, axes_of, normalized
from parity.graph.operations.reduction import euclidean, summed
from parity.reference import Rounding


class _Weighted(Deferring):
    """What normalizations with weights have in common."""

    name: str
    weights: ClassVar[tuple[str, ...]]

    @property
    def arrays(self) -> Arrays:
        """Its weights by name, those that are there."""
        return Arrays({name: held for name in self.weights if (held := self.held(name)) is not None})

    @property
    def facts(self) -> dict[str, object]:
        """Its options."""
        return {name: value for name, value in vars(self).items() if name not in ("name", *self.weights)}

    def shapes(self, *shapes: Shape | None) -> tuple[Shape, ...]:
        """Of what it gives: that of what it takes."""
        (shape,) = all_of(shapes, 1, self.name)
        expected = self._taken(shape)
        for name, array in self.arrays.held.items():
            if tuple(array.shape) != expected:
                raise ShapeError(
                    f"{name} does not fit what is normalized", self.name, str(expected), str(tuple(array.shape))
                )
        return (shape,)

    def _taken(self, shape: Shape) -> Shape:
        """The shape that every weight has to have, for an x of a shape."""
        raise NotImplementedError


def _along(weights: Array | None, axis: int, rank: int) -> Array | None:
    """Weights of one axis, in the shape in which they are broadcast."""
    if weights is None:
        return None
    shape = [1] * rank
    shape[normalized(axis, rank)] = -1
    return np.asarray(weights, np.float64).reshape(shape)


def _scaled(x: Any, gamma: Array | None, beta: Array | None, rounding: Rounding, site: str) -> Any:
    scaled = x if gamma is None else rounding.product(x * gamma, f"{site}.scaled")
    return scaled if beta is None else rounding.product(scaled + beta, site)


@dataclass(frozen=True, eq=False)
class BatchNormalization(_Weighted):
    """(x - mean) / sqrt(variance + epsilon) * gamma + beta, with the moving averages of training.

    Args:
        name: unique among the operations of a graph.
        mean, variance: (channels,).
        gamma, beta: (channels,) or None.
        epsilon: as above: Keras has 1e-3, torch 1e-5 unless told otherwise.
        axis: of the channels.
    """

    weights: ClassVar[tuple[str, ...]] = ("gamma", "beta", "mean", "variance")

    name: str
    mean: Array
    variance: Array
    gamma: Array | None
    beta: Array | None
    epsilon: float
    axis: int = -1

    @property
    def size(self) -> int:
        """Channels."""
        return int(self.held("mean").shape[0])

    def _taken(self, shape: Shape) -> Shape:
        (axis,) = axes_of((self.axis,), shape, self.name)
        return (shape[axis],)

    def compute(self, *values: Any, rounding: Rounding) -> tuple[Any, ...]:
        """It in float64. Frameworks fold it into one product and one sum, so that what cancels there is rounded before it does."""
        (x,) = values
        mean, variance, gamma, beta = (
            _along(array, self.axis, x.ndim) for array in (self.mean, self.variance, self.gamma, self.beta)
        )
        assert mean is not None
        assert variance is not None
        factor = (1.0 if gamma is None else gamma) / np.sqrt(variance + self.epsilon)
        scaled, shift = rounding.product(x * factor, f"{self.name}.scaled"), mean * factor
        shifted = rounding.product(np.broadcast_to(shift, x.shape), f"{self.name}.shift")
        found = rounding.product(scaled - shifted, f"{self.name}.centred")
        return (found if beta is None else rounding.product(found + beta, self.name),)


@dataclass(frozen=True, eq=False)
class LayerNormalization(_Weighted):
    """(x - mean) / sqrt(variance + epsilon) * gamma + beta, with mean and variance of the last axes of every sample.

    Args:
        name: unique among the operations of a graph.
        gamma, beta: of the shape of those axes, or None.
        epsilon: as above: Keras has 1e-3, torch 1e-5 unless told otherwise.
        axes: so many axes from the end are normalized together.
        rms: whether the mean is neither taken nor subtracted (root mean square normalization).
    """

    weights: ClassVar[tuple[str, ...]] = ("gamma", "beta")

    name: str
    gamma: Array | None
    beta: Array | None
    epsilon: float
    axes: int = 1
    rms: bool = False

    def _taken(self, shape: Shape) -> Shape:
        if not 1 <= self.axes <= len(shape):
            raise ShapeError("no such axes", self.name, f"the last {self.axes}", str(shape))
        return shape[len(shape) - self.axes :]

    def compute(self, *values: Any, rounding: Rounding) -> tuple[Any, ...]:
        """It in float64."""
        (x,) = values
        gamma, beta = (None if a is None else np.asarray(a, np.float64) for a in (self.gamma, self.beta))
        axes = tuple(range(-self.axes, 0))
        return (
            _scaled(
                _normalized(x, axes, self.epsilon, self.rms, rounding, self.name), gamma, beta, rounding, self.name
            ),
        )


@dataclass(frozen=True, eq=False)
class GroupNormalization(_Weighted):
    """(x - mean) / sqrt(variance + epsilon) * gamma + beta, with mean and variance of a group of channels over all other axes of a sample.

    Args:
        name: unique among the operations of a graph.
        gamma, beta: (channels,) or None.
        epsilon: as above.
        groups: of channels; as many as channels is instance normalization.
        axis: of the channels; 1 or -1.
    """

    weights: ClassVar[tuple[str, ...]] = ("gamma", "beta")

    name: str
    gamma: Array | None
    beta: Array | None
    epsilon: float
    groups: int
    axis: int = -1

    def _taken(self, shape: Shape) -> Shape:
        (axis,) = axes_of((self.axis,), shape, self.name)
        if axis not in (1, len(shape) - 1) or axis == 0 or self.groups < 1 or shape[axis] % self.groups:
            raise ShapeError(
                "channels that are not whole groups", self.name, f"{self.groups} groups of axis {self.axis}", str(shape)
            )
        return (shape[axis],)

    def compute(self, *values: Any, rounding: Rounding) -> tuple[Any, ...]:
        """It in float64."""
        (x,) = values
        first = np.moveaxis(x, self.axis, 1)
        grouped = first.reshape(first.shape[0], self.groups, math.prod(first.shape[1:]) // self.groups)
        found = _normalized(grouped, (-1,), self.epsilon, False, rounding, self.name).reshape(first.shape)
        gamma, beta = (_along(array, 1, x.ndim) for array in (self.gamma, self.beta))
        return (np.moveaxis(_scaled(found, gamma, beta, rounding, self.name), 1, self.axis),)


@dataclass(frozen=True, eq=False)
class UnitNormalization(Plain):
    """x / max(sqrt(sum of squares along some axes), epsilon).

    Args:
        name: unique among the operations of a graph.
        axes: along which the squares then sum to one.
        epsilon: as above.
    """

    axes: tuple[int, ...] = (-1,)
    epsilon: float = 1e-12

    def shapes(self, *shapes: Shape | None) -> tuple[Shape, ...]:
        """Of what it gives: that of what it takes."""
        (shape,) = all_of(shapes, 1, self.name)
        axes_of(self.axes, shape, self.name)
        return (shape,)

    def compute(self, *values: Any, rounding: Rounding) -> tuple[Any, ...]:
        """It in float64."""
        (x,) = values
        length = euclidean(x, self.axes, rounding, f"{self.name}.norm")
        return (rounding.product(x / np.maximum(length, self.epsilon), self.name),)


def _normalized(x: Any, axes: tuple[int, ...], epsilon: float, rms: bool, rounding: Rounding, site: str) -> Any:
    terms = math.prod(x.shape[axis] for axis in axes)
    centred = x
    if not rms:
        mean = summed(x, axes, rounding, f"{site}.mean") / terms
        centred = rounding.product(x - mean, f"{site}.centred")
    spread = summed(centred**2, axes, rounding, f"{site}.spread") / terms
    variance = rounding.product(spread + epsilon, f"{site}.variance")
    return rounding.product(centred / np.sqrt(variance), f"{site}.normalized")


__all__ = ["BatchNormalization", "GroupNormalization", "LayerNormalization", "UnitNormalization"]
