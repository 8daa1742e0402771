"""Recurrent layers in canonical form; pack and unpack, driven by the table in `parity.layouts`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from einops import rearrange

from parity.ahead import room, scratch
from parity.blockwise import copy_blockwise, shared
from parity.deferred import (
    LARGE_BYTES,
    Array,
    Blocks,
    Deferred,
    Deferring,
    Stored,
    not_finite,
    read_into,
    row_slices,
    rows_together,
)
from parity.errors import ParityError, Problem, ShapeError
from parity.layouts import CANONICAL_AXES, GATES, LAYOUTS, PEEPHOLES, STATES, Kind, Layout, Tensor, axis_groups

Direction = Literal["forward", "backward"]
DIRECTIONS: tuple[Direction, ...] = ("forward", "backward")


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
class Weights(Deferring):
    """Canonical weights of one direction of one layer, gates in the order of `parity.layouts.GATES`.

    Any of them may be `Deferred`: still in its file, and read each time it is asked for.

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

    def with_held(self, **members: Any) -> Weights:
        """The same weights with some of them replaced; deferred ones stay deferred."""
        held = {name: self.held(name) for name in CANONICAL_AXES}
        return Weights(**(held | members))

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the kernel's numbers; nothing is read for it."""
        found: np.dtype[Any] = self.held("kernel").dtype
        return found


def unpack(layout: Layout, spec: RecurrentSpec, arrays: Mapping[str, Stored]) -> tuple[Weights, ...]:
    """Read a framework's arrays into canonical weights, one `Weights` for each direction the arrays hold.

    Args:
        layout: a row of `parity.layouts.LAYOUTS`.
        spec: kind and sizes of the layer.
        arrays: the framework's arrays by the names in the table, in memory or in a file; an absent bias is zero.

    Returns:
        One `Weights` per direction for a layout with a direction axis, else a single one. Always copies; a large matrix in a file
        stays there, `Deferred`.

    Raises:
        ShapeError: arrays missing, unknown, or of another shape than `spec` says; all at once.

    Example:
        >>> spec = RecurrentSpec("lstm", input_size=1, hidden_size=1)
        >>> onnx = {"W": np.array([[[1.0], [2.0], [3.0], [4.0]]]), "R": np.zeros((1, 4, 1))}  # i, o, f, c
        >>> unpack(LAYOUTS["onnx", "lstm"], spec, onnx)[0].kernel.ravel().tolist()            # i, f, g, o
        [1.0, 3.0, 4.0, 2.0]
    """
    _check(layout, spec, arrays)
    per_direction: list[dict[str, Any]] = []
    pairs: list[tuple[Array, Array]] = []
    for tensor in layout.tensors:
        if tensor.name not in arrays:
            continue
        array = arrays[tensor.name]
        if not isinstance(array, np.ndarray):
            if _stays_in_file(tensor, array):
                per_direction[:1] = [
                    {**(per_direction or [{}])[0], tensor.members[0]: _deferred(layout, spec, tensor, array)}
                ]
                continue
            array = np.asarray(array[()])
        for index, views in enumerate(_views(spec, tensor, array)):
            if index == len(per_direction):
                per_direction.append({})
            for member, view in views.items():
                canonical = np.empty(spec.shape(member), view.dtype)
                pairs += _parts(layout, tensor, canonical, view)
                per_direction[index][member] = canonical
    copy_blockwise(*pairs)
    return tuple(Weights(**members) for members in per_direction)


def unpack_tensor(layout: Layout, member: str, stored: Stored) -> Array | Deferred:
    """One canonical array out of the one tensor of a layout that holds it, of one direction; sizes are the tensor's own.

    Raises:
        KeyError: no tensor of the layout holds this member alone.
        ValueError: a tensor of other axes than the layout's.

    Example:
        >>> unpack_tensor(LAYOUTS["torch", "gru"], "kernel", np.zeros((15, 2))).shape
        (3, 5, 2)
    """
    tensor = next((one for one in layout.tensors if one.members == (member,)), None)
    if tensor is None:
        raise KeyError(member)
    lengths = dict(zip(map(tuple, axis_groups(tensor.axes)), stored.shape, strict=True))
    gates = len(GATES[layout.kind])
    sizes = {group[-1]: length // gates if group[0] == "gate" else length for group, length in lengths.items()}
    if any(group[0] == "gate" and length % gates for group, length in lengths.items()):
        raise ValueError(f"{tuple(stored.shape)} is not a multiple of {gates} gates")
    hidden = sizes.get("hidden", 1)
    spec = RecurrentSpec(layout.kind, sizes.get("input", 1), hidden, projection_size=sizes.get("state"))
    if _stays_in_file(tensor, stored) and not isinstance(stored, np.ndarray):
        return _deferred(layout, spec, tensor, stored)
    canonical = np.empty(spec.shape(member), stored.dtype)
    copy_blockwise(*_parts(layout, tensor, canonical, _views(spec, tensor, np.asarray(stored[()]))[0][member]))
    return canonical


def _stays_in_file(tensor: Tensor, stored: Stored) -> bool:
    """Whether a tensor is large, holds one canonical array and is read row by row."""
    single = len(tensor.members) == 1 and "direction" not in tensor.axes
    return single and math.prod(stored.shape) * stored.dtype.itemsize >= LARGE_BYTES


def _deferred(layout: Layout, spec: RecurrentSpec, tensor: Tensor, array: Stored) -> Deferred:
    member, dtype = tensor.members[0], np.dtype(array.dtype)

    def rows_read(target: Callable[[slice], Array]) -> Iterator[tuple[slice, Array]]:
        for rows in _row_slices(spec, tensor, dtype.itemsize, rows_together(array)):
            block = target(rows)
            read_into(block, array, rows)
            where = f"{tensor.name} of {layout.kind} of {spec.hidden_size} units, rows from {rows.start} on, index"
            if problem := not_finite(block, where):
                raise ParityError([problem])
            yield rows, block

    def block_of(rows: slice) -> Array:
        return room((rows.stop - rows.start, *array.shape[1:]), dtype)

    def read() -> Array:
        canonical = np.empty(spec.shape(member), dtype)
        gates = _gates(tensor, canonical)

        def place(found: Iterator[tuple[slice, Array]]) -> None:
            for rows, block in found:
                copy_blockwise(*_rows_of(layout, spec, tensor, gates, block, rows))

        shared(rows_read(block_of), place)
        return canonical

    def read_blocks() -> Iterator[Array]:
        if _is_canonical(layout, tensor):
            yield from (block for _, block in rows_read(block_of))
            return
        whole = scratch(tuple(array.shape), dtype)
        for _ in rows_read(lambda rows: whole[rows]):
            pass
        view, letters = _views(spec, tensor, whole)[0][member], layout.letters(tensor)
        for gate in [view[letters.index(letter)] for letter in GATES[layout.kind]] if letters else [view]:
            for rows in row_slices(gate.shape, dtype.itemsize):
                block = room(gate[rows].shape, dtype)
                copy_blockwise((block, gate[rows]))
                yield block

    return Deferred(spec.shape(member), dtype, read, read_blocks)


def _gates(tensor: Tensor, canonical: Array) -> Sequence[Array] | Array:
    """A canonical array gate by gate; of one that has no gates, it alone."""
    return canonical if "gate" in tensor.axes else [canonical]


def _is_canonical(layout: Layout, tensor: Tensor) -> bool:
    """Whether the numbers of a tensor of one array stand in the order of the canonical array."""
    plain = tensor.axes.replace("(", "").replace(")", "")
    return plain == CANONICAL_AXES[tensor.members[0]] and layout.letters(tensor) in ((), GATES[layout.kind])


def _row_slices(spec: RecurrentSpec, tensor: Tensor, itemsize: int, together: int = 1) -> Iterator[slice]:
    """Slices of a framework's matrix, none of which reaches across two gates where its rows are those of gates."""
    shape = tensor_shape(spec, tensor, 1)
    gated = "gate" in axis_groups(tensor.axes)[0]
    unit = spec.hidden_size if gated else shape[0]
    for start in range(0, shape[0], unit):
        for rows in row_slices((unit, *shape[1:]), itemsize, together):
            yield slice(start + rows.start, start + rows.stop)


def _rows_of(
    layout: Layout, spec: RecurrentSpec, tensor: Tensor, gates: Sequence[Array] | Array, block: Array, rows: slice
) -> list[tuple[Array, Array]]:
    """Matching pieces of a canonical array, given gate by gate if it has gates, and of some rows of a framework's matrix."""
    axes = CANONICAL_AXES[tensor.members[0]].split()
    lead = axis_groups(tensor.axes)[0]
    if "gate" in lead:
        gate, first = divmod(rows.start, spec.hidden_size)
        own = gates[GATES[layout.kind].index(layout.gates[gate])]
        return [(own[first : first + block.shape[0]], block)]
    view = _views(spec, tensor, block)[0][tensor.members[0]]
    at = (slice(None),) * (axes.index(lead[0]) - ("gate" in axes)) + (rows,)
    letters = layout.letters(tensor)
    if not letters:
        return [(gates[0][at], view)]
    return [(gates[GATES[layout.kind].index(letter)][at], view[number]) for number, letter in enumerate(letters)]


def packed(layout: Layout, spec: RecurrentSpec, weights: Sequence[Weights]) -> dict[str, Blocks]:
    """What `pack` gives, to be written piece by piece: of a large matrix that is `Deferred`, no more than itself is held.

    Example:
        >>> spec = RecurrentSpec("gru", input_size=1, hidden_size=1)
        >>> gates = Weights(np.array([[[1.0]], [[2.0]], [[3.0]]]), np.zeros((3, 1, 1)))    # r, z, n
        >>> packed(LAYOUTS["keras", "gru"], spec, [gates])["kernel"].whole().tolist()       # z, r, n
        [[2.0, 1.0, 3.0]]
    """
    present = [tensor for tensor in layout.tensors if _is_present(tensor, weights)]
    return {tensor.name: _blocks_of(layout, spec, tensor, weights) for tensor in present}


def _blocks_of(layout: Layout, spec: RecurrentSpec, tensor: Tensor, weights: Sequence[Weights]) -> Blocks:
    shape, dtype = tensor_shape(spec, tensor, len(weights)), weights[0].dtype
    alone = replace(layout, tensors=(tensor,))
    large = math.prod(shape) * dtype.itemsize >= LARGE_BYTES
    if not large or len(weights) > 1 or len(tensor.members) > 1 or "direction" in tensor.axes:
        return Blocks(shape, dtype, lambda: iter([pack(alone, spec, weights)[tensor.name]]))

    held = weights[0].held(tensor.members[0])
    if isinstance(held, Deferred) and _is_canonical(layout, tensor):
        return Blocks(shape, dtype, held.blocks)

    def blocks() -> Iterator[Array]:
        canonical = (
            held.read_to_write() if isinstance(held, Deferred) else _member(spec, tensor, weights[0], tensor.members[0])
        )
        gates = _gates(tensor, canonical)
        for rows in _row_slices(spec, tensor, dtype.itemsize):
            block = np.empty((rows.stop - rows.start, *shape[1:]), dtype)
            copy_blockwise(*((part, own) for own, part in _rows_of(layout, spec, tensor, gates, block, rows)))
            yield block

    return Blocks(shape, dtype, blocks)


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
        array = np.empty(tensor_shape(spec, tensor, len(weights)), weights[0].dtype)
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
    return any(one.held(member) is not None for one in weights for member in members)


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
    return np.zeros(spec.shape(member), weights.dtype) if value is None else value


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


def _check(layout: Layout, spec: RecurrentSpec, arrays: Mapping[str, Stored]) -> None:
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
        if tuple(arrays[name].shape) != expected:
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
    "merge_biases",
    "pack",
    "packed",
    "tensor_shape",
    "unpack",
    "unpack_tensor",
]
