"""What weights are moved between: units, one weight-bearing layer each, and the tensors of them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from parity.cell import Cell
from parity.deferred import Array, Stored
from parity.layouts import CANONICAL_AXES, GATES, LAYOUTS, PEEPHOLES, Kind, Layout, Tensor
from parity.leaf_layouts import ANY, COUNTER, LeafLayout
from parity.recurrent import RecurrentSpec, Weights, pack, tensor_shape, unpack

UNTYPED = "untyped"
"""Kind of tensors whose layer's class the file does not say."""
SINGLE = "tensor"
"""Kind of one tensor of a layer that is not in the tables."""


class Handle(Protocol):
    """One tensor: of a live model, or of a file. Native values are the framework's own, of the type that the live tensor has."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of its axes."""

    @property
    def dtype(self) -> str:
        """Type of its numbers, "float32" for example."""

    @property
    def key(self) -> Hashable:
        """The same for two handles of one tensor."""

    def read(self) -> Array:
        """Its numbers, widened where NumPy has no such type."""


class Writable(Handle, Protocol):
    """One tensor of a live model."""

    def native(self, array: Array) -> Any:
        """Numbers in the tensor's own type, rounded where they must be."""

    def plain(self, native: Any) -> Array:
        """A native value as numbers."""

    def held(self) -> Any:
        """A copy of what the live tensor holds, native."""

    def write(self, native: Any) -> None:
        """Put a native value into the live tensor."""

    def raw(self, native: Any) -> bytes:
        """The bytes of a native value."""


@dataclass(frozen=True)
class StoredHandle:
    """A tensor that is only read: an array or one in a file."""

    stored: Stored

    @property
    def shape(self) -> tuple[int, ...]:  # noqa: D102  as Handle says
        return tuple(self.stored.shape)

    @property
    def dtype(self) -> str:  # noqa: D102
        names = getattr(self.stored.dtype, "names", None)
        return str(names[0] if names else self.stored.dtype)

    @property
    def key(self) -> Hashable:  # noqa: D102
        return id(self.stored)

    def read(self) -> Array:  # noqa: D102
        if getattr(self.stored.dtype, "names", None):
            halves = np.asarray(self.stored[()])[self.stored.dtype.names[0]].astype(np.uint32)
            widened: Array = (halves << 16).view(np.float32)
            return widened
        held: Array = np.asarray(self.stored[()] if hasattr(self.stored, "__getitem__") else self.stored)
        return held.astype(held.dtype.newbyteorder("="), copy=False)  # torch takes no other byte order


@dataclass(frozen=True)
class Leaf:
    """One tensor of a unit.

    Args:
        name: in the whole model, "encoder.lstm.weight_ih_l0".
        role: its name in the layout of its layer.
        handle: the tensor; None where a file's reader keeps only the canonical weights.
        direction: index of the direction it belongs to.
    """

    name: str
    role: str
    handle: Any = None
    direction: int = 0


@dataclass(frozen=True, eq=False)
class Unit:
    """One weight-bearing layer of a model.

    Args:
        name: in the whole model.
        kind: of recurrent cell, or of `parity.leaf_layouts`, or `UNTYPED`, or `SINGLE`.
        framework: "keras", "torch", "onnxruntime", or "" for a bare description.
        class_name: as the framework calls it.
        leaves: its tensors.
        options: those that are compared, by their names in `LEAF_OPTIONS`; None where the source does not say it.
        notes: what else changes the meaning of its numbers, for the warnings.
        spec, cells, layout, weights: of a recurrent layer; `weights` only where they are canonical already.
        leaf_layout: of any other layer in the table.
        facts: of an untyped layer, its options under the framework's names.
        context: what stands around it and changes its numbers: "flattened" (the shape whose axes its inputs are made of, "?" where it is
            not said), "masked" (the layer that masks steps), "batch_first", "aligned" (a backward layer's sequence is turned back),
            "origin" (the framework of its file).
        own_axes: of one tensor of a layer that is in the tables, as its framework has them.
    """

    name: str
    kind: str
    framework: str
    class_name: str
    leaves: tuple[Leaf, ...]
    options: Mapping[str, object] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    spec: RecurrentSpec | None = None
    cells: tuple[Cell, ...] = ()
    layout: Layout | None = None
    weights: tuple[Weights, ...] = ()
    leaf_layout: LeafLayout | None = None
    facts: Mapping[str, object] = field(default_factory=dict)
    merge_mode: str | None = "concat"
    context: Mapping[str, object] = field(default_factory=dict)
    own_axes: str = ""

    @property
    def signature(self) -> tuple[object, ...]:
        """Equal for two units whose weights fit each other: kind and canonical sizes; that of other tensors has their names."""
        if self.spec is not None:
            spec = self.spec
            return spec.kind, spec.input_size, spec.hidden_size, len(spec.directions), spec.projection_size
        if self.leaf_layout is not None:
            return self.kind, self.sizes
        shapes = tuple((leaf.role, leaf.handle.shape) for leaf in self.leaves)
        return self.kind, self.framework, shapes

    @property
    def sizes(self) -> tuple[object, ...]:
        """Canonical sizes of a layer in the table, from its first tensor."""
        assert self.leaf_layout is not None
        for tensor in self.leaf_layout.tensors:
            for leaf in self.leaves:
                if leaf.role == tensor.name and tensor.member != COUNTER:
                    return self._sizes(tensor.axes, leaf.handle.shape)
        return ()

    @staticmethod
    def _sizes(axes: str, shape: tuple[int, ...]) -> tuple[object, ...]:
        names = axes.split()
        if axes == ANY or len(names) != len(shape):
            return tuple(shape)
        return tuple(sorted(zip(names, shape, strict=True)))

    @property
    def axes(self) -> dict[str, int]:
        """The sizes by the names of their axes, where they have names."""
        return {str(one[0]): int(one[1]) for one in self.sizes if isinstance(one, tuple)}

    @property
    def described(self) -> str:
        """Kind and sizes, in words."""
        if self.spec is not None:
            both = ", two directions" if len(self.spec.directions) == 2 else ""
            projected = f", projected to {self.spec.projection_size}" if self.spec.projection_size else ""
            return f"{self.kind} {self.spec.input_size}->{self.spec.hidden_size}{projected}{both}"
        if self.leaf_layout is not None:
            sizes = [f"{one[0]} {one[1]}" if isinstance(one, tuple) else str(one) for one in self.sizes]
            return f"{self.kind} ({', '.join(sizes)})"
        shown = ", ".join(f"{leaf.role} {leaf.handle.shape} {leaf.handle.dtype}" for leaf in self.leaves)
        return f"{shown}, axes {self.own_axes}" if self.own_axes else shown

    def canonical(self) -> tuple[Weights, ...]:
        """The weights of a recurrent layer, one for each direction."""
        if self.weights or self.spec is None or self.layout is None:
            return self.weights
        found: list[Weights] = []
        single = replace(self.spec, directions=self.spec.directions[:1])
        for direction in range(len(self.spec.directions)):
            arrays = {leaf.role: leaf.handle.read() for leaf in self.leaves if leaf.direction == direction}
            found += unpack(self.layout, single, arrays)
        return tuple(found)

    def direction(self, index: int) -> Unit:
        """One direction of a recurrent layer of two, as a unit of its own."""
        assert self.spec is not None
        way = self.spec.directions[index]
        return replace(
            self,
            name=f"{self.name}.{way}",
            spec=replace(self.spec, directions=(way,)),
            leaves=tuple(replace(leaf, direction=0) for leaf in self.leaves if leaf.direction == index),
            cells=self.cells[index : index + 1],
            weights=self.weights[index : index + 1],
            merge_mode="concat",
            context={**self.context, "aligned": True},
        )

    def with_tensors(self) -> Unit:
        """A recurrent layer whose canonical weights are laid out as its framework keeps them, so that each tensor can be taken alone."""
        if self.spec is None or self.layout is None or all(leaf.handle is not None for leaf in self.leaves):
            return self
        single = replace(self.spec, directions=self.spec.directions[:1])
        packed = [pack(self.layout, single, [weights]) for weights in self.canonical()]
        held = [
            replace(leaf, handle=StoredHandle(packed[leaf.direction][leaf.role]))
            for leaf in self.leaves
            if leaf.role in packed[leaf.direction]
        ]
        return replace(self, leaves=tuple(held))

    def axes_of(self, leaf: Leaf) -> str:
        """The axes of one of its tensors, as its framework has them; "" where no table says it."""
        if self.spec is not None:
            return recurrent_tensor(self, leaf).axes
        row = self.leaf_layout.named(leaf.role) if self.leaf_layout is not None else None
        return row.axes if row is not None else ""

    def members_of(self, leaf: Leaf) -> frozenset[str]:
        """What one of its tensors is, in the words that all frameworks share; empty where no table says it."""
        if self.spec is not None:
            return frozenset(recurrent_tensor(self, leaf).members)
        row = self.leaf_layout.named(leaf.role) if self.leaf_layout is not None else None
        return frozenset([row.member]) if row is not None else frozenset()


def recurrent_tensor(unit: Unit, leaf: Leaf) -> Tensor:
    """The row of the layout that a tensor of a recurrent layer is."""
    assert unit.layout is not None
    return next(tensor for tensor in unit.layout.tensors if tensor.name == leaf.role)


def canonical_layout(kind: Kind) -> Layout:
    """The layout of who keeps canonical weights as they are: parity's own cell in Keras, a bare description.

    Example:
        >>> [tensor.name for tensor in canonical_layout("gru").tensors]
        ['kernel', 'recurrent', 'bias_input', 'bias_recurrent', 'projection']
    """
    gates = " ".join(f"{gate}:{gate}" for gate in GATES[kind])
    seeing = " ".join(f"{gate}:{gate}" for gate in PEEPHOLES[kind])
    rows = [
        Tensor(member, axes, (member,), seeing if member == "peepholes" else "")
        for member, axes in CANONICAL_AXES.items()
        if member != "peepholes" or seeing
    ]
    return Layout("", kind, gates, tuple(rows))


def shape_in(unit: Unit, leaf: Leaf) -> tuple[int, ...]:
    """Shape of a tensor, told from the layout where only canonical weights are known."""
    if leaf.handle is not None:
        return tuple(leaf.handle.shape)
    assert unit.spec is not None
    return tensor_shape(replace(unit.spec, directions=unit.spec.directions[:1]), recurrent_tensor(unit, leaf), 1)


def layout_for(framework: str, kind: Kind) -> Layout:
    """The layout of a framework's own layer; the canonical one for none."""
    return LAYOUTS.get((framework, kind)) or canonical_layout(kind)
