"""Convolutions over one or two axes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from parity.deferred import Array, Arrays, Deferring
from parity.errors import ShapeError
from parity.graph.operations.operation import Shape, all_of
from parity.reference import Rounding

Padding: TypeAlias = tuple[tuple[int, int], ...] | Literal["same"]
"""(before, after) for each spatial axis; or "same", the padding of TensorFlow: as many windows as steps of the stride, what has to be
added stands half before, half and the odd one after. It depends on the length of the axis only where a stride is above one."""


def paddings(
    padding: Padding, lengths: Shape, sizes: Shape, strides: Shape, dilations: Shape
) -> tuple[tuple[int, int], ...]:
    """What is added before and after each spatial axis.

    Source: https://www.tensorflow.org/api_docs/python/tf/nn, "Notes on padding".

    Example:
        >>> paddings("same", (10,), (4,), (1,), (1,)), paddings("same", (10,), (3,), (2,), (1,))
        (((1, 2),), ((0, 1),))
    """
    if padding != "same":
        return padding
    found = []
    for length, size, stride, dilation in zip(lengths, sizes, strides, dilations, strict=True):
        total = max((-(-length // stride) - 1) * stride + (size - 1) * dilation + 1 - length, 0)
        found.append((total // 2, total - total // 2))
    return tuple(found)


def spatial_axes(rank: int, channels_last: bool) -> tuple[int, ...]:
    """The axes between batch and channels.

    Example:
        >>> spatial_axes(4, True), spatial_axes(3, False)
        ((1, 2), (2,))
    """
    return tuple(range(1, rank - 1) if channels_last else range(2, rank))


def windows(x: Array, sizes: Shape, strides: Shape, dilations: Shape, axes: tuple[int, ...]) -> Array:
    """Every window of some axes: x with those axes as windows, and the places inside a window as last axes.

    Example:
        >>> windows(np.arange(5.0)[None, :, None], (2,), (2,), (2,), (1,))[0, :, 0].tolist()
        [[0.0, 2.0], [2.0, 4.0]]
    """
    reach = tuple((size - 1) * dilation + 1 for size, dilation in zip(sizes, dilations, strict=True))
    view = sliding_window_view(x, reach, axis=axes)
    index: list[slice] = [slice(None)] * view.ndim
    for position, axis in enumerate(axes):
        index[axis] = slice(None, None, strides[position])
        index[x.ndim + position] = slice(None, None, dilations[position])
    found: Array = view[tuple(index)]
    return found


def window_count(length: int, pad: tuple[int, int], size: int, stride: int, dilation: int, name: str = "") -> int:
    """How many windows an axis has.

    Raises:
        ShapeError: none.

    Example:
        >>> window_count(10, (0, 0), 3, 2, 1)
        4
    """
    count = (length + sum(pad) - (size - 1) * dilation - 1) // stride + 1
    if count < 1:
        raise ShapeError(
            "the window is longer than the axis", name, f"at least {(size - 1) * dilation + 1}", str(length)
        )
    return count


def window_counts(
    shape: Shape,
    channels_last: bool,
    padding: Padding,
    options: tuple[Shape, Shape, Shape],
    name: str,
) -> Shape:
    """How many windows each spatial axis has.

    Args:
        shape: of x.
        channels_last: where its channels are.
        padding: see `Padding`.
        options: sizes, strides and dilations, each of every spatial axis.
        name: of the operation.

    Raises:
        ShapeError: another number of axes, or none.

    Example:
        >>> window_counts((5, 10, 3), True, "same", ((3,), (2,), (1,)), "conv")
        (5,)
    """
    sizes, strides, dilations = options
    if len(shape) != len(sizes) + 2:
        raise ShapeError("another number of axes", name, str(len(sizes) + 2), str(shape))
    lengths = tuple(shape[axis] for axis in spatial_axes(len(shape), channels_last))
    alike = {len(strides), len(dilations), len(sizes) if padding == "same" else len(padding)} == {len(sizes)}
    if not alike or min(*sizes, *strides, *dilations) < 1 or (padding != "same" and min(map(min, padding)) < 0):
        got = f"sizes {sizes}, strides {strides}, dilations {dilations}, padding {padding}"
        raise ShapeError("options that are not of every spatial axis", name, f"{len(sizes)} of each", got)
    pads = paddings(padding, lengths, sizes, strides, dilations)
    return tuple(window_count(*one, name) for one in zip(lengths, pads, sizes, strides, dilations, strict=True))


@dataclass(frozen=True, eq=False)
class Convolution(Deferring):
    """Every window of the spatial axes times the kernel, plus the bias (a cross-correlation, as in all frameworks).

    Args:
        name: unique among the operations of a graph.
        kernel: (*sizes of the window, channels taken / groups, channels given), as Keras keeps it.
        bias: (channels given,) or None.
        strides: of each spatial axis.
        dilations: of each spatial axis.
        padding: with zeros, see `Padding`; a causal one is ((reach - 1, 0),).
        groups: the channels are taken in so many groups, each giving its share of the channels; a depthwise one has as many as channels.
        channels_last: whether x is (batch, *spatial, channels), as in Keras, or (batch, channels, *spatial), as in torch and ONNX.
    """

    name: str
    kernel: Array
    bias: Array | None
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    padding: Padding
    groups: int = 1
    channels_last: bool = True

    @property
    def sizes(self) -> Shape:
        """Of the window."""
        return tuple(self.held("kernel").shape[:-2])

    @property
    def input_size(self) -> int:
        """Channels it takes."""
        return int(self.held("kernel").shape[-2] * self.groups)

    @property
    def output_size(self) -> int:
        """Channels it gives."""
        return int(self.held("kernel").shape[-1])

    @property
    def arrays(self) -> Arrays:
        """Its weights by name."""
        return Arrays({name: held for name in ("kernel", "bias") if (held := self.held(name)) is not None})

    @property
    def facts(self) -> dict[str, object]:
        """Its options."""
        return {
            "window": self.sizes,
            "input": self.input_size,
            "output": self.output_size,
            "strides": self.strides,
            "dilations": self.dilations,
            "padding": self.padding,
            "groups": self.groups,
            "bias": self.held("bias") is not None,
        }

    def pads(self, shape: Shape) -> tuple[tuple[int, int], ...]:
        """What is added before and after each spatial axis of x, of a shape."""
        lengths = tuple(shape[axis] for axis in spatial_axes(len(shape), self.channels_last))
        return paddings(self.padding, lengths, self.sizes, self.strides, self.dilations)

    def shapes(self, *shapes: Shape | None) -> tuple[Shape, ...]:
        """Of what it gives."""
        (shape,) = all_of(shapes, 1, self.name)
        options = (self.sizes, self.strides, self.dilations)
        lengths = window_counts(shape, self.channels_last, self.padding, options, self.name)
        if shape[-1 if self.channels_last else 1] != self.input_size:
            raise ShapeError("another number of channels", self.name, str(self.input_size), str(shape))
        bias = self.held("bias")
        if self.output_size % self.groups or (bias is not None and tuple(bias.shape) != (self.output_size,)):
            got = f"{self.output_size} in {self.groups} groups" + (
                "" if bias is None else f", bias {tuple(bias.shape)}"
            )
            raise ShapeError("channels that do not fit the groups or the bias", self.name, str(self.output_size), got)
        if self.channels_last:
            return ((shape[0], *lengths, self.output_size),)
        return ((shape[0], self.output_size, *lengths),)

    def compute(self, *values: Any, rounding: Rounding) -> tuple[Any, ...]:
        """It in float64, as one matrix product of all windows for each group."""
        (x,) = values
        pads = self.pads(x.shape)
        last = x if self.channels_last else np.moveaxis(x, 1, -1)
        padded = np.pad(last, ((0, 0), *pads, (0, 0)))
        seen = windows(padded, self.sizes, self.strides, self.dilations, spatial_axes(x.ndim, True))
        kernel = np.asarray(self.kernel, np.float64)
        bias = np.zeros(self.output_size) if self.bias is None else np.asarray(self.bias, np.float64)
        taken, given = self.input_size // self.groups, self.output_size // self.groups
        parts = []
        for group in range(self.groups):
            columns = slice(group * given, (group + 1) * given)
            own = np.moveaxis(seen, x.ndim - 1, -1)[..., group * taken : (group + 1) * taken]
            rows = own.reshape(*own.shape[: x.ndim - 1], math.prod(own.shape[x.ndim - 1 :]))
            matrix = kernel[..., columns].reshape(-1, given)
            site = f"{self.name}.{group}"
            parts.append(rounding.affine(rows @ matrix + bias[columns], rows, matrix, bias[columns], site))
        y = np.concatenate(parts, axis=-1)
        return (y if self.channels_last else np.moveaxis(y, -1, 1),)


__all__ = ["Convolution", "Padding", "paddings", "spatial_axes", "window_count", "window_counts", "windows"]
