"""Pooling over one or two axes; a global one is a `Reduction`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from parity.graph.operations.convolution import Padding, paddings, spatial_axes, window_counts, windows
from parity.graph.operations.operation import Plain, Shape, all_of
from parity.reference import Rounding


@dataclass(frozen=True, eq=False)
class Pooling(Plain):
    """The largest or the mean value of every window of the spatial axes.

    Args:
        name: unique among the operations of a graph.
        function: "max" or "average".
        sizes: of the window.
        strides: of each spatial axis.
        dilations: of each spatial axis.
        padding: see `parity.graph.operations.convolution.Padding`; never the largest value of a window.
        channels_last: whether x is (batch, *spatial, channels), or (batch, channels, *spatial).
        counts_padding: whether padding counts as zeros in a mean (torch's count_include_pad); in TensorFlow and Keras it does not.
    """

    function: Literal["max", "average"]
    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    padding: Padding
    channels_last: bool = True
    counts_padding: bool = False

    def pads(self, shape: Shape) -> tuple[tuple[int, int], ...]:
        """What is added before and after each spatial axis of x, of a shape."""
        lengths = tuple(shape[axis] for axis in spatial_axes(len(shape), self.channels_last))
        return paddings(self.padding, lengths, self.sizes, self.strides, self.dilations)

    def shapes(self, *shapes: Shape | None) -> tuple[Shape, ...]:
        """Of what it gives."""
        (shape,) = all_of(shapes, 1, self.name)
        options = (self.sizes, self.strides, self.dilations)
        lengths = window_counts(shape, self.channels_last, self.padding, options, self.name)
        return ((shape[0], *lengths, shape[-1]) if self.channels_last else (*shape[:2], *lengths),)

    def compute(self, *values: Any, rounding: Rounding) -> tuple[Any, ...]:
        """It in float64."""
        (x,) = values
        axes = spatial_axes(x.ndim, self.channels_last)
        around = [(0, 0)] * x.ndim
        for axis, pad in zip(axes, self.pads(x.shape), strict=True):
            around[axis] = pad
        inner = tuple(range(x.ndim, x.ndim + len(axes)))
        options = (self.sizes, self.strides, self.dilations, axes)
        if self.function == "max":
            return (windows(np.pad(x, around, constant_values=-np.inf), *options).max(axis=inner),)
        counted = np.pad(np.ones_like(x), around, constant_values=float(self.counts_padding))
        seen, counts = windows(np.pad(x, around), *options), windows(counted, *options).sum(axis=inner)
        found = seen.sum(axis=inner) / counts
        terms = math.prod(self.sizes)
        return (rounding.total(found, lambda: (seen**2).sum(axis=inner) / counts**2, terms, self.name),)


__all__ = ["Pooling"]
