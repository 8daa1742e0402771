"""Constants of an ONNX graph, and what becomes of them on their way: operators that only move numbers are followed exactly.

Source: the ONNX operator specification of Cast, Concat, Gather, Identity, Reshape, Slice, Split, Squeeze, Transpose and Unsqueeze.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from parity.deferred import Array, Stored
from parity.errors import FormatError
from parity.files.stored import BFLOAT16, Raw
from parity.frameworks.onnx.tensors import Tensors

CONSTANT_FORMS = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
"""The attributes of a Constant node beside `value` that hold numbers."""

_SMALL = 256
"""Numbers that an input may have that says how an operator moves others: axes, sizes, starts."""

_DEEPEST = 64
_FREE_BYTES, _WORK = 1 << 20, 64
"""What constants that are moved may come to: so many bytes, and so many times the bytes of the tensors they come from."""

_MOVE = 1 << 15
"""Bytes that a move counts for at least: small numbers cost the call alone."""


@dataclass(frozen=True, eq=False)
class Constant:
    """A tensor of constant numbers, not read yet.

    Args:
        shape: lengths of its axes.
        dtype: of its numbers; NumPy's name for bfloat16 comes from ml_dtypes.
        read: gives them.
        origins: the tensors of the file that they come from, by name.
        stored: the tensor itself, where nothing was done to it.
        work: bytes that reading it moves.
        depth: operators between it and its origins.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[], Array]
    origins: tuple[str, ...] = ()
    stored: Stored | None = None
    work: int = 0
    depth: int = 0

    @classmethod
    def of(cls, tensor: TensorProto, tensors: Tensors, name: str) -> Constant:
        """A tensor of the model, its sizes checked.

        Raises:
            FormatError: its contents do not fit its sizes.
        """
        stored = tensors.stored(tensor)
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type))
        size = math.prod(stored.shape) * dtype.itemsize
        return cls(tuple(stored.shape), dtype, lambda: tensors.array(tensor), (name,), stored, size)

    @classmethod
    def of_array(cls, array: Array, name: str) -> Constant:
        """Numbers that stand in a node."""
        return cls(array.shape, array.dtype, lambda: array, (name,), array, array.nbytes)

    def __getitem__(self, rows: Any) -> Array:
        """A slice along the first axis, or everything for `()`."""
        if self.stored is None or self.stored.dtype == BFLOAT16:
            found: Array = self.read()[rows]
            return found
        return np.asarray(self.stored[rows])

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of its numbers."""
        return self.size * self.dtype.itemsize

    @property
    def raw(self) -> Raw | None:
        """The place in a file where it stands untouched."""
        return self.stored if isinstance(self.stored, Raw) else None


class Constants(MutableMapping[str, Array]):
    """The constants of a graph by name, each read when it is looked up."""

    def __init__(self, held: Mapping[str, Constant]) -> None:
        self.held = dict(held)

    def __getitem__(self, name: str) -> Array:
        return self.held[name].read()

    def __setitem__(self, name: str, value: Array) -> None:
        self.held[name] = Constant.of_array(value, name)

    def __delitem__(self, name: str) -> None:
        del self.held[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.held)

    def __len__(self) -> int:
        return len(self.held)

    def __contains__(self, name: object) -> bool:
        return name in self.held


@dataclass
class Mover:
    """Follows constants through operators that only move numbers.

    Args:
        limit: bytes that a moved constant may have.
    """

    limit: int

    def outputs(
        self, node: onnx.NodeProto, attributes: Mapping[str, Any], inputs: Sequence[Constant | None]
    ) -> list[Constant] | None:
        """What a node gives if it only moves constants; None for any other node."""
        move = _MOVES.get(node.op_type)
        if move is None or node.domain not in ("", "ai.onnx") or not inputs or inputs[0] is None:
            return None
        try:
            return move(self, node, attributes, inputs)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            return None  # a node that the specification does not know so: its result is no constant

    # ---- each gives None, or raises, where it cannot follow

    def _identity(self, node: Any, attributes: Mapping[str, Any], inputs: Sequence[Constant | None]) -> Any:
        return [inputs[0]]

    def _cast(self, node: Any, attributes: Mapping[str, Any], inputs: Sequence[Constant | None]) -> Any:
        (x,) = inputs
        if x is None:
            return None
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(int(attributes["to"])))
        floats = [one.kind == "f" or one.name == "bfloat16" for one in (x.dtype, dtype)]
        if not all(floats) and dtype != x.dtype:
            return None
        return self._moved([x], x.shape, lambda arrays: _cast_quietly(arrays[0], dtype), dtype)

    def _transpose(self, node: Any, attributes: Mapping[str, Any], inputs: Sequence[Constant | None]) -> Any:
        (x,) = inputs
        return None if x is None else self._viewed(x, lambda a: a.transpose(attributes.get("perm")))

    def _squeeze(self, node: Any, attributes: Mapping[str, Any], inputs: Sequence[Constant | None]) -> Any:
        axes = _integers(attributes, "axes", inputs, 1)
        x = inputs[0]
        if x is None or (axes is None and len(inputs) > 1):
            return None
        return self._viewed(x, lambda a: a.squeeze(None if axes is None else tuple(axes)))

    def _unsqueeze(self, node: Any, attributes: Mapping[str, Any], inputs: Sequence[Constant | None]) -> Any:
        axes, x = _integers(attributes, "axes", inputs, 1), inputs[0]
        return None if x is None or axes is None else self._viewed(x, lambda a: np.expand_dims(a, tuple(axes)))

    def _reshape(self, node: Any, attributes: Mapping[str, Any], inputs: Sequence[Constant | None]) -> Any:
        sizes, x = _integers(attributes, "shape", inputs, 1), inputs[0]
        if x is None or sizes is None:
            return None
        if not attributes.get("allowzero", 0):
            sizes = [x.shape[axis] if size == 0 else size for axis, size in enumerate(sizes)]
        rest = math.prod(size for size in sizes if size != -1)
        shape = tuple(x.size // rest if size == -1 else size for size in sizes)
        if min(shape, default=1) < 0 or math.prod(shape) != x.size or sizes.count(-1) > 1:
            return None
        return self._moved([x], shape, lambda arrays: arrays[0].reshape(shape))

    def _slice(self, node: Any, attributes: Mapping[str, Any], inputs: Sequence[Constant | None]) -> Any:
        x = inputs[0]
        starts, ends, axes, steps = (
            _integers(attributes, name, inputs, at) for at, name in enumerate(("starts", "ends", "axes", "steps"), 1)
        )
        given = [at < len(inputs) and bool(node.input[at]) for at in (3, 4)]
        if x is None or starts is None or ends is None or (given[0] and axes is None) or (given[1] and steps is None):
            return None
        where = list(range(len(starts))) if axes is None else axes
        parts = [slice(None)] * len(x.shape)
        for axis, start, end, step in zip(where, starts, ends, steps or [1] * len(starts), strict=True):
            parts[axis] = slice(start, end, step)
        return self._viewed(x, lambda a: a[tuple(parts)])

    def _gather(self, node: Any, attributes: Mapping[str, Any], inputs: Sequence[Constant | None]) -> Any:
        x, index = inputs[0], inputs[1]
        if x is None or index is None or index.size > _SMALL or index.dtype.kind not in "iu":
            return None
        axis, at = int(attributes.get("axis", 0)), np.asarray(index.read())
        axis = range(len(x.shape))[axis]
        shape = (*x.shape[:axis], *at.shape, *x.shape[axis + 1 :])
        if at.size and not -x.shape[axis] <= int(at.min()) <= int(at.max()) < x.shape[axis]:
            return None
        return self._moved([x], shape, lambda arrays: arrays[0].take(at, axis))

    def _concat(self, node: Any, attributes: Mapping[str, Any], inputs: Sequence[Constant | None]) -> Any:
        parts = [one for one in inputs if one is not None]
        axis = range(len(parts[0].shape))[int(attributes["axis"])]
        rest = {(*one.shape[:axis], *one.shape[axis + 1 :]) for one in parts}
        if len(parts) != len(inputs) or len(rest) != 1 or len({one.dtype for one in parts}) != 1:
            return None
        joined = sum(one.shape[axis] for one in parts)
        shape = (*parts[0].shape[:axis], joined, *parts[0].shape[axis + 1 :])
        return self._moved(parts, shape, lambda arrays: np.concatenate(arrays, axis))

    def _split(self, node: Any, attributes: Mapping[str, Any], inputs: Sequence[Constant | None]) -> Any:
        x, sizes = inputs[0], _integers(attributes, "split", inputs, 1)
        if x is None or (len(inputs) > 1 and node.input[1] and sizes is None):
            return None
        axis, count = range(len(x.shape))[int(attributes.get("axis", 0))], len(node.output)
        if sizes is None:
            each = -(-x.shape[axis] // count)
            sizes = [min(each, x.shape[axis] - at * each) for at in range(count)]
        if len(sizes) != count or min(sizes) < 0 or sum(sizes) != x.shape[axis]:
            return None
        found: list[Constant] = []
        for at, size in enumerate(sizes):
            part = (*[slice(None)] * axis, slice(sum(sizes[:at]), sum(sizes[:at]) + size))
            one = self._viewed(x, lambda a, part=part: a[part])  # type: ignore[misc]
            if one is None:
                return None
            found += one
        return found

    def _viewed(self, x: Constant, view: Callable[[Array], Array]) -> list[Constant] | None:
        """What a move gives that takes no memory: its shape is that of the same view of a zero that fills x's shape."""
        shape = view(np.broadcast_to(np.zeros((), np.uint8), x.shape)).shape
        return self._moved([x], shape, lambda arrays: view(arrays[0]))

    def _moved(
        self,
        parts: Sequence[Constant],
        shape: tuple[int, ...],
        move: Callable[[list[Array]], Array],
        dtype: np.dtype[Any] | None = None,
    ) -> list[Constant] | None:
        """A constant that is moved when it is read, if that does not come to more than a real model would ever want."""
        dtype = parts[0].dtype if dtype is None else dtype
        size = math.prod(shape) * dtype.itemsize
        work, depth = sum(one.work for one in parts) + max(size, _MOVE), max(one.depth for one in parts) + 1
        if size > self.limit + _FREE_BYTES or work > _WORK * (self.limit + _FREE_BYTES) or depth > _DEEPEST:
            return None
        if sum(len(one.origins) for one in parts) > _SMALL:
            return None
        origins = tuple(dict.fromkeys(name for one in parts for name in one.origins))
        return [Constant(shape, dtype, lambda: move([one.read() for one in parts]), origins, None, work, depth)]


_MOVES: dict[str, Callable[[Mover, Any, Mapping[str, Any], Sequence[Constant | None]], list[Constant] | None]] = {
    "Cast": Mover._cast,
    "Concat": Mover._concat,
    "Gather": Mover._gather,
    "Identity": Mover._identity,
    "Reshape": Mover._reshape,
    "Slice": Mover._slice,
    "Split": Mover._split,
    "Squeeze": Mover._squeeze,
    "Transpose": Mover._transpose,
    "Unsqueeze": Mover._unsqueeze,
}


def constant_of(node: onnx.NodeProto, attributes: Mapping[str, Any], tensors: Tensors, name: str) -> Constant | None:
    """What a Constant node gives, if that is numbers; None for text and for sparse numbers.

    Raises:
        FormatError: contents that do not fit their sizes.
    """
    for form, dtype in CONSTANT_FORMS.items():
        if form in attributes and not isinstance(attributes[form], (bytes, TensorProto)):
            return Constant.of_array(np.asarray(attributes[form], dtype), name)
    value = attributes.get("value")
    return Constant.of(value, tensors, name) if isinstance(value, TensorProto) else None


def constants_of(graph: onnx.GraphProto, tensors: Tensors, prefix: str = "") -> dict[str, Constant]:
    """The initializers of a graph by name.

    Raises:
        FormatError: contents that do not fit their sizes, or two of one name.
    """
    found: dict[str, Constant] = {}
    for tensor in graph.initializer:
        if tensor.name in found:
            raise FormatError(
                "two initializers of one name",
                f"graph '{graph.name}' of {tensors.where}",
                "a name of its own for each",
                f"'{tensor.name}' twice",
                "export the model anew",
            )
        found[tensor.name] = Constant.of(tensor, tensors, prefix + tensor.name)
    return found


def _integers(
    attributes: Mapping[str, Any], name: str, inputs: Sequence[Constant | None], position: int
) -> list[int] | None:
    """Whole numbers that stand in an attribute (older opsets) or in a constant input."""
    if name in attributes:
        return [int(value) for value in attributes[name]]
    given = inputs[position] if position < len(inputs) else None
    if given is None or given.size > _SMALL or given.dtype.kind not in "iu":
        return None
    return [int(value) for value in np.asarray(given.read()).ravel()]


def _cast_quietly(array: Array, dtype: np.dtype[Any]) -> Array:
    with np.errstate(over="ignore"):
        return array.astype(dtype)
