"""Recurrent layers in canonical form; pack and unpack, driven by the table in `parity.layouts`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from einops import rearrange
from numpy.typing import NDArray

from parity.errors import Problem, ShapeError
from parity.layouts import CANONICAL_AXES, GATES, LAYOUTS, PEEPHOLES, STATES, Kind, Layout, Tensor, axis_groups

Array: TypeAlias = NDArray[Any]
Direction = Literal["forward", "backward"]
DIRECTIONS: tuple[Direction, ...] = ("forward", "backward")

# Measured on 64 MB arrays. A block is 128 runs of 4 KB of the source. Runs of a page read at nearly the speed of a plain copy; half a
# megabyte stays in the second-level cache. The padding, one cache line, keeps the runs from colliding there when read down a column.
_BLOCK_ROWS, _RUN_BYTES, _PADDING_BYTES = 128, 4096, 64
# Measured: up to half a megabyte, where both sides fit the second-level cache, a plain copy is as fast.
_SMALL_BYTES = 1 << 19
# Measured: starting two threads costs about a millisecond, which copies of less than 16 MB in all do not earn back.
_THREADS_BYTES, _THREADS = 1 << 24, 2


@dataclass(frozen=True)
class RecurrentSpec:
    """Kind and sizes of one recurrent layer.

    Args:
        kind: "lstm", "gru" or "rnn".
        input_size: features per step.
        hidden_size: units per direction.
        directions: in the order of the output's halves.
        projection_size: features of h where a projection makes them fewer than the units (torch's `proj_size`), else None.

    Example:
        >>> RecurrentSpec("gru", input_size=3, hidden_size=5, directions=("forward", "backward")).shape("kernel")
        (3, 5, 3)
    """

    kind: Kind
    input_size: int
    hidden_size: int
    directions: tuple[Direction, ...] = ("forward",)
    projection_size: int | None = None

    @property
    def sizes(self) -> dict[str, int]:
        """Length of every axis a layout may name."""
        return {
            "gate": len(GATES[self.kind]),
            "peephole": len(PEEPHOLES[self.kind]),
            "hidden": self.hidden_size,
            "state": self.state_size,
            "input": self.input_size,
            "direction": len(self.directions),
            "source": 2,
        }

    @property
    def states(self) -> tuple[str, ...]:
        """The states carried from step to step: ("h", "c") or ("h",)."""
        return STATES[self.kind]

    @property
    def state_size(self) -> int:
        """Features of h: the units, or fewer after a projection."""
        return self.projection_size or self.hidden_size

    def state_shape(self, state: str, batch: int) -> tuple[int, int, int]:
        """Shape of a state, "h" or "c": (direction, batch, features).

        Example:
            >>> RecurrentSpec("lstm", 3, 5, projection_size=2).state_shape("h", batch=4)
            (1, 4, 2)
        """
        return len(self.directions), batch, self.state_size if state == "h" else self.hidden_size

    @property
    def output_size(self) -> int:
        """Features of the output sequence: directions times the features of h."""
        return len(self.directions) * self.state_size

    def shape(self, member: str) -> tuple[int, ...]:
        """Shape of a canonical array, by its name in `Weights`."""
        return tuple(self.sizes[axis] for axis in CANONICAL_AXES[member].split())


@dataclass(frozen=True, eq=False, repr=False)
class Weights:
    """Canonical weights of one direction of one layer, gates in the order of `parity.layouts.GATES`.

    Args:
        kernel: (gate, hidden, input).
        recurrent: (gate, hidden, state).
        bias_input: (gate, hidden), or None where the source has no such bias: it is zero.
        bias_recurrent: likewise; only the candidate of a GRU with `reset_after=True` tells the two biases apart.
        peepholes: (peephole, hidden), the gates in the order of `parity.layouts.PEEPHOLES`, or None.
        projection: (state, hidden), what makes h of o * tanh(c) where h is smaller, or None.
    """

    kernel: Array
    recurrent: Array
    bias_input: Array | None = None
    bias_recurrent: Array | None = None
    peepholes: Array | None = None
    projection: Array | None = None

    def member(self, name: str) -> Array | None:
        """One of the arrays, by name."""
        value: Array | None = getattr(self, name)
        return value


def copy_blockwise(*pairs: tuple[Array, Array]) -> None:
    """Copy, in each (target, source) pair of arrays of one shape that share no memory, source into target, fast whatever their strides.

    Where the two disagree about the fast axis, a plain copy touches a new cache line for every element. Here blocks of the
    source go through a small buffer, on two threads when there is much to copy: so hand over all pairs in one call.

    Example:
        >>> a = np.arange(6.0).reshape(2, 3); b = np.empty((3, 2)); copy_blockwise((b, a.T)); b[2].tolist()
        [2.0, 5.0]
    """
    blocks: list[tuple[Array, Array]] = []
    for target, source in pairs:
        transposed = source.ndim == 2 and _fast_axis(source) != _fast_axis(target)
        if transposed and source.nbytes > _SMALL_BYTES:
            blocks += _blocks(target, source) if _fast_axis(source) == 1 else _blocks(target.T, source.T)
        else:
            np.copyto(target, source)
    if sum(source.nbytes for _, source in blocks) < _THREADS_BYTES:
        _copy_staged(iter(blocks))
        return
    remaining = iter(blocks)  # shared: a thread that is held up takes fewer blocks
    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(_copy_staged, [remaining] * _THREADS))


def _fast_axis(array: Array) -> int:
    return int(np.argmin([abs(stride) for stride in array.strides]))


def _blocks(target: Array, source: Array) -> list[tuple[Array, Array]]:
    """Matching blocks of both, those next to each other in the target's memory one after the other."""
    columns = _RUN_BYTES // source.itemsize
    corners = [
        (row, column) for column in range(0, source.shape[1], columns) for row in range(0, source.shape[0], _BLOCK_ROWS)
    ]
    parts = [(slice(row, row + _BLOCK_ROWS), slice(column, column + columns)) for row, column in corners]
    return [(target[part], source[part]) for part in parts]


def _copy_staged(blocks: Iterator[tuple[Array, Array]]) -> None:
    pitch = _RUN_BYTES + _PADDING_BYTES
    buffer = np.empty(_BLOCK_ROWS * pitch, np.uint8)
    for target, source in blocks:
        staged: Array = np.ndarray(source.shape, source.dtype, buffer, strides=(pitch, source.itemsize))
        np.copyto(staged, source)
        np.copyto(target, staged)


def unpack(layout: Layout, spec: RecurrentSpec, arrays: Mapping[str, Array]) -> tuple[Weights, ...]:
    """Read a framework's arrays into canonical weights, one `Weights` for each direction the arrays hold.

    Args:
        layout: a row of `parity.layouts.LAYOUTS`.
        spec: kind and sizes of the layer.
        arrays: the framework's arrays by the names in the table; an absent bias is zero.

    Returns:
        One `Weights` per direction for a layout with a direction axis, else a single one. Always copies.

    Raises:
        ShapeError: arrays missing, unknown, or of another shape than `spec` says; all at once.

    Example:
        >>> spec = RecurrentSpec("lstm", input_size=1, hidden_size=1)
        >>> onnx = {"W": np.array([[[1.0], [2.0], [3.0], [4.0]]]), "R": np.zeros((1, 4, 1))}  # i, o, f, c
        >>> unpack(LAYOUTS["onnx", "lstm"], spec, onnx)[0].kernel.ravel().tolist()            # i, f, g, o
        [1.0, 3.0, 4.0, 2.0]
    """
    _check(layout, spec, arrays)
    per_direction: list[dict[str, Array]] = []
    pairs: list[tuple[Array, Array]] = []
    for tensor in layout.tensors:
        if tensor.name not in arrays:
            continue
        for index, views in enumerate(_views(spec, tensor, arrays[tensor.name])):
            if index == len(per_direction):
                per_direction.append({})
            for member, view in views.items():
                canonical = np.empty(spec.shape(member), view.dtype)
                pairs += _parts(layout, tensor, canonical, view)
                per_direction[index][member] = canonical
    copy_blockwise(*pairs)
    return tuple(Weights(**members) for members in per_direction)


def pack(layout: Layout, spec: RecurrentSpec, weights: Sequence[Weights]) -> dict[str, Array]:
    """Write canonical weights as a framework keeps them: the inverse of `unpack`.

    A layout that keeps one bias where two are given gets their sum, taken in float64 and rounded once; that sum cannot be split again.

    Args:
        layout: a row of `parity.layouts.LAYOUTS`.
        spec: kind and sizes of the layer.
        weights: one for each direction that the layout's arrays hold.

    Returns:
        New arrays by the framework's names; biases, peepholes and the projection are left out if no direction has any.

    Example:
        >>> spec = RecurrentSpec("gru", input_size=1, hidden_size=1)
        >>> gates = Weights(np.array([[[1.0]], [[2.0]], [[3.0]]]), np.zeros((3, 1, 1)))    # r, z, n
        >>> pack(LAYOUTS["keras", "gru"], spec, [gates])["kernel"].tolist()                 # z, r, n
        [[2.0, 1.0, 3.0]]
    """
    packed: dict[str, Array] = {}
    pairs: list[tuple[Array, Array]] = []
    for tensor in layout.tensors:
        if not _is_present(tensor, weights):
            continue
        array = np.empty(tensor_shape(spec, tensor, len(weights)), weights[0].kernel.dtype)
        for one_direction, views in zip(weights, _views(spec, tensor, array), strict=True):
            for member, view in views.items():
                value = _member(spec, tensor, one_direction, member)
                pairs += [(part, own) for own, part in _parts(layout, tensor, value, view)]
        packed[tensor.name] = array
    copy_blockwise(*pairs)
    return packed


def merge_biases(weights: Weights) -> Array | None:
    """bias_input + bias_recurrent, (gate, hidden), summed in float64 and rounded once; an absent or zero one leaves the other as it is."""
    first, second = weights.bias_input, weights.bias_recurrent
    if first is None or second is None:
        return second if first is None else first
    if not second.any():
        return first
    if not first.any():
        return second
    total: Array = (first.astype(np.float64) + second.astype(np.float64)).astype(first.dtype)
    return total


def _is_present(tensor: Tensor, weights: Sequence[Weights]) -> bool:
    """Whether any direction has what the tensor holds; where one has a bias, a framework keeps all of them."""
    biases = ("bias_input", "bias_recurrent")
    members = biases if tensor.members[0] in biases else tensor.members
    return any(one.member(member) is not None for one in weights for member in members)


def _parts(layout: Layout, tensor: Tensor, canonical: Array, view: Array) -> list[tuple[Array, Array]]:
    """Matching pieces of a canonical array and of a framework's view of it, gate by gate where they have gates."""
    letters = layout.letters(tensor)
    if not letters:
        return [(canonical, view)]
    own = (PEEPHOLES if "peephole" in tensor.axes else GATES)[layout.kind]
    return [(canonical[own.index(letter)], view[at]) for at, letter in enumerate(letters)]


def _member(spec: RecurrentSpec, tensor: Tensor, weights: Weights, member: str) -> Array:
    summed = len(tensor.members) > 1 and "source" not in tensor.axes
    value = merge_biases(weights) if summed else weights.member(member)
    return np.zeros(spec.shape(member), weights.kernel.dtype) if value is None else value


def _views(spec: RecurrentSpec, tensor: Tensor, array: Array) -> list[dict[str, Array]]:
    """Views of a framework's array with the axes of its canonical members (gates still in the layout's order), per direction."""
    prefix = " ".join(axis for axis in ("direction", "source") if axis in tensor.axes)
    canonical = CANONICAL_AXES[tensor.members[0]]
    sizes = {axis: spec.sizes[axis] for axis in ("gate", "source", "peephole") if axis in tensor.axes}
    view: Array = rearrange(array, f"{tensor.axes} -> {prefix} {canonical}", **sizes)
    members = tensor.members if "source" in tensor.axes else tensor.members[:1]
    directions = list(view) if "direction" in tensor.axes else [view]
    return [dict(zip(members, list(one) if "source" in tensor.axes else [one], strict=True)) for one in directions]


def tensor_shape(spec: RecurrentSpec, tensor: Tensor, directions: int) -> tuple[int, ...]:
    """Shape of a framework's array that holds so many directions of a layer.

    Example:
        >>> spec = RecurrentSpec("lstm", input_size=3, hidden_size=5)
        >>> tensor_shape(spec, LAYOUTS["onnx", "lstm"].tensors[0], directions=2)
        (2, 20, 3)
    """
    sizes = {**spec.sizes, "direction": directions}
    return tuple(int(np.prod([sizes[axis] for axis in group])) for group in axis_groups(tensor.axes))


def _check(layout: Layout, spec: RecurrentSpec, arrays: Mapping[str, Array]) -> None:
    where = f"{layout.framework} {layout.kind} of {spec.hidden_size} units on {spec.input_size} inputs"
    known = {tensor.name: tensor for tensor in layout.tensors}
    problems = [Problem(f"unknown weight '{name}'", where, ", ".join(known)) for name in arrays if name not in known]
    for name, tensor in known.items():
        if name not in arrays:
            if tensor.members[0] in ("kernel", "recurrent") or (
                tensor.members[0] == "projection" and spec.projection_size
            ):
                problems.append(Problem(f"weight '{name}' is missing", where))
            continue
        expected = tensor_shape(spec, tensor, len(spec.directions))
        if arrays[name].shape != expected:
            problems.append(
                Problem(
                    f"weight '{name}' has the wrong shape",
                    where,
                    f"{expected}, that is {tensor.axes}",
                    str(arrays[name].shape),
                )
            )
    if problems:
        raise ShapeError(problems)


__all__ = [
    "DIRECTIONS",
    "LAYOUTS",
    "Array",
    "Direction",
    "RecurrentSpec",
    "Weights",
    "copy_blockwise",
    "merge_biases",
    "pack",
    "tensor_shape",
    "unpack",
]
