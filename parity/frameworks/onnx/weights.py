"""The weights of a recurrent ONNX node: read at once where they are small, left in their file where they are large."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from parity.deferred import LARGE_BYTES, Array, Stored
from parity.errors import FormatError, ShapeError
from parity.files.stored import Raw
from parity.frameworks.onnx.constants import Constant
from parity.frameworks.onnx.options import Options
from parity.layouts import LAYOUTS, Kind
from parity.network import Recurrent
from parity.recurrent import RecurrentSpec, Weights, unpack

POSITIONS = {"W": 1, "R": 2, "B": 3, "P": 7}
"""Where a recurrent node takes its weights, by the operator's own names."""

FLOATS = (np.float16, np.float32, np.float64)
"""What weights may be stored in; a bfloat16 is a type of its own, which is read as well."""

_BY_DIRECTION = "direction "


@dataclass(frozen=True)
class Weight:
    """A constant of floating-point numbers, half precision as the float32 numbers that it holds."""

    constant: Constant

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of its axes."""
        return self.constant.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 or float64."""
        return np.dtype(np.float32) if self.constant.dtype.itemsize == 2 else self.constant.dtype

    def __getitem__(self, rows: Any) -> Array:
        """A slice along the first axis, or everything for `()`."""
        return np.asarray(self.constant[rows]).astype(self.dtype, copy=False)

    def direction(self, index: int) -> Weight | None:
        """What one direction has of it, still in the file; None if it does not stand there in one piece."""
        raw = self.constant.raw
        if raw is None or raw.dtype.fields is not None:
            return None
        shape = self.shape[1:]
        size = math.prod(shape) * raw.dtype.itemsize
        part = Raw(raw.path, raw.offset + index * size, shape, raw.dtype)
        return Weight(Constant(shape, raw.dtype, lambda: part[()], self.constant.origins, part, size))


def is_float(constant: Constant) -> bool:
    """Whether these can be weights."""
    return constant.dtype.type in FLOATS or constant.dtype.name == "bfloat16"


def layer_of(
    name: str, kind: Kind, options: Options, arrays: Mapping[str, Stored], attributes: Mapping[str, Any], where: str
) -> Recurrent:
    """The layer that a recurrent node is.

    Args:
        name: for the layer.
        kind: of its cell.
        options: of the node.
        arrays: its weights, by the operator's own names.
        attributes: of the node.
        where: the node, in messages.

    Raises:
        FormatError: weights that are missing, or whose sizes do not fit each other.
    """
    if any(key not in arrays or len(arrays[key].shape) != 3 for key in ("W", "R")):
        expected = "(direction, gates*hidden, input)"
        raise FormatError("a recurrent node without W and R of three axes", where, expected)
    spec = RecurrentSpec(kind, arrays["W"].shape[2], arrays["R"].shape[2], options.directions)
    said = int(attributes.get("hidden_size", spec.hidden_size))
    if said != spec.hidden_size:
        raise FormatError(
            "hidden_size is not that of the weights",
            where,
            f"{spec.hidden_size}, as R has",
            str(said),
            "export it anew",
        )
    if min(spec.input_size, spec.hidden_size) < 1:
        raise FormatError("a recurrent node without units or inputs", where, "sizes of 1 and more", str(spec))
    try:
        return Recurrent(name, spec, _unpacked(kind, spec, arrays), cells=options.cells)
    except ShapeError as error:
        raise FormatError([replace(p, where=f"{where}: {p.where}") for p in error.problems]) from error


def _unpacked(kind: Kind, spec: RecurrentSpec, arrays: Mapping[str, Stored]) -> tuple[Weights, ...]:
    """Canonical weights; a large matrix that stands in a file in one piece is read when it is asked for."""
    layout = LAYOUTS["onnx", kind]
    large = {
        key: parts
        for key, value in arrays.items()
        if isinstance(value, Weight)
        and math.prod(value.shape) * value.dtype.itemsize // len(spec.directions) >= LARGE_BYTES
        and (parts := _parts(value, spec)) is not None
    }
    if not {"W", "R"} & large.keys():
        return unpack(layout, spec, arrays)
    # One direction looks like a layer of torch: no axis for the direction, the gates in ONNX's order.
    found: list[Weights] = []
    for index in range(len(spec.directions)):
        tensors = tuple(replace(t, axes=t.axes.removeprefix(_BY_DIRECTION)) for t in layout.tensors)
        own = {key: large[key][index] if key in large else value[()][index] for key, value in arrays.items()}
        found += unpack(replace(layout, tensors=tensors), replace(spec, directions=spec.directions[:1]), own)
    return tuple(found)


def _parts(value: Weight, spec: RecurrentSpec) -> list[Weight] | None:
    """A matrix by direction, if it has as many as the layer."""
    if len(value.shape) != 3 or value.shape[0] != len(spec.directions):
        return None
    parts = [part for index in range(value.shape[0]) if (part := value.direction(index)) is not None]
    return parts if len(parts) == value.shape[0] else None
