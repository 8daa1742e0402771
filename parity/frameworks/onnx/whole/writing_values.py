"""The values of a graph while it is written: tensors in the value's own order of axes, in another one, or in both.

ONNX wants steps first in recurrent operators and channels first in convolutions, whatever the order in the graph. So a value is kept in
whatever order its tensor has, and is transposed only for who asks for another: pairs of inverse transpositions never come to be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np

from parity.frameworks.onnx.nodes import BOOL, INT32, INT64, Assembly
from parity.graph import Wire
from parity.graph.calls import Layered
from parity.graph.operations import Length, Size
from parity.recurrent import Array

Kind: TypeAlias = Literal["float", "int", "bool"]
Order: TypeAlias = tuple[int, ...]
"""For each axis of a tensor, the axis of the value."""


@dataclass
class Tensors:
    """The tensors of a value, by their order of axes; some are only made once they are asked for."""

    kind: Kind
    made: dict[Order, str]
    ready: dict[Order, Callable[[], str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Held:
    """A value, or another one that is it with its axes in another order.

    Args:
        tensors: of the first.
        order: for each axis of this value, the axis of the first.
        name: of tensors made for it.
        assembly: of the graph.
    """

    tensors: Tensors
    order: Order
    name: str
    assembly: Assembly

    @property
    def kind(self) -> Kind:
        """What its numbers are."""
        return self.tensors.kind

    @property
    def own(self) -> Order:
        """Its own order of axes."""
        return tuple(range(len(self.order)))

    def there(self, order: Order) -> bool:
        """Whether a tensor in an order of axes is there, or can be made without a transposition."""
        return self._inner(order) in self.tensors.made or self._inner(order) in self.tensors.ready

    def in_order(self, order: Sequence[int] | None = None) -> str:
        """The tensor in an order of axes, its own by default; transposed from another where need be."""
        wanted = self._inner(self.own if order is None else tuple(order))
        made = self.tensors.made
        if wanted not in made:
            if wanted in self.tensors.ready:
                made[wanted] = self.tensors.ready[wanted]()
            else:
                source, tensor = next(iter(made.items()), (None, ""))
                if source is None:
                    source = next(iter(self.tensors.ready))
                    tensor = made[source] = self.tensors.ready[source]()
                axes = [source.index(axis) for axis in wanted]
                turned = self.order != self.own and wanted == self.order
                name = self.name if turned else f"{self.name}.transposed"
                layer = self.name if turned else None
                made[wanted] = self.assembly.node("Transpose", [tensor], name, layer, perm=axes)
        return made[wanted]

    def usual(self) -> Order:
        """The order of axes that costs nothing: its own if that is there, else one that is; those that are made already come first."""
        made, ready = self.tensors.made, self.tensors.ready
        own = self._inner(self.own)
        first = own if own in made or (own in ready and not made) else next(iter((*made, *ready)))
        return tuple(self.order.index(axis) for axis in first)

    def turned(self, axes: Sequence[int], name: str) -> Held:
        """The value with its axes in another order."""
        return Held(self.tensors, tuple(self.order[axis] for axis in axes), name, self.assembly)

    def _inner(self, order: Order) -> Order:
        return tuple(self.order[axis] for axis in order)


@dataclass(frozen=True)
class Call:
    """One node of the graph, as the writers of the families see it.

    Args:
        name: of the node.
        operation: what it calls.
        inputs: what it takes; None for one left out.
        dims: lengths of the axes of every input: a number where it is always the same, else None.
        rank: of the node's first value.
        assembly: of the graph.
        weights: adds the operation's arrays, once however often it is called, and gives their names.
        shared: what later calls may use again, by the name of a tensor.
        given: what the node gives, filled by `give` and its kin.
    """

    name: str
    operation: Layered
    inputs: tuple[Held | None, ...]
    dims: tuple[tuple[int | None, ...], ...]
    rank: int
    assembly: Assembly
    weights: Callable[[Mapping[str, Array]], dict[str, str]]
    shared: dict[str, Any]
    given: dict[int, Held] = field(default_factory=dict)

    @property
    def x(self) -> Held:
        """Its first input."""
        first = self.inputs[0]
        assert first is not None
        return first

    @property
    def present(self) -> list[Held]:
        """All inputs that are there."""
        return [held for held in self.inputs if held is not None]

    @property
    def where(self) -> str:
        """It, in messages."""
        return f"layer '{self.operation.name}'"

    # ---- what it gives

    def give(self, tensor: str, kind: Kind = "float", order: Order | None = None, index: int = 0) -> None:
        """Hands over a tensor as one of the node's values."""
        rank = self.rank if order is None else len(order)
        own = tuple(range(rank))
        self.hand_on(Held(Tensors(kind, {order or own: tensor}), own, self._label(index), self.assembly), index)

    def give_ready(self, ready: Mapping[Order, Callable[[], str]], index: int = 0) -> None:
        """Hands over a value whose tensors are made when they are asked for."""
        own = tuple(range(len(next(iter(ready)))))
        self.hand_on(Held(Tensors("float", {}, dict(ready)), own, self._label(index), self.assembly), index)

    def hand_on(self, held: Held, index: int = 0) -> None:
        """Hands over a value that is there already."""
        self.given[index] = held

    def _label(self, index: int) -> str:
        return self.name if index == 0 else f"{self.name}.{index}"

    # ---- nodes

    def op(self, op: str, *inputs: str, what: str | None = None, **attributes: Any) -> str:
        """Adds a node; gives its tensor."""
        return self.assembly.node(op, inputs, f"{self.name}.{what or op.lower()}", **attributes)

    def integers(self, what: str, *values: int) -> str:
        """Adds an initializer of one axis."""
        return self.assembly.integers(f"{self.name}.{what}", *values)

    def number(self, what: str, value: float, kind: Kind = "float") -> str:
        """Adds an initializer without axes."""
        name = f"{self.name}.{what}"
        if kind == "float":
            return self.assembly.number(name, value)
        return self.assembly.constant(name, np.asarray(value, np.int64 if kind == "int" else np.bool_))

    def real(self, array: Array) -> Array:
        """An array in the type of the graph's floats."""
        return as_real(array, self.assembly)

    def cast(self, tensor: str, kind: Kind, wanted: Kind, what: str = "cast") -> str:
        """A tensor as another kind, itself if it is of that."""
        if kind == wanted:
            return tensor
        code = {"float": self.assembly.real, "int": INT64, "bool": BOOL}[wanted]
        return self.assembly.cast(tensor, code, f"{self.name}.{what}")

    def taken(self, held: Held, kind: Kind, order: Order | None = None) -> str:
        """An input as a kind, in its own or another order of axes."""
        return self.cast(held.in_order(order), held.kind, kind)

    def reduced(self, op: str, tensor: str, axes: Sequence[int], keepdims: bool, what: str | None = None) -> str:
        """Adds a reduction; opset 18 made the axes an input of all of them, 13 of ReduceSum."""
        options: dict[str, Any] = {"keepdims": int(keepdims), "what": what}
        if self.assembly.opset < (13 if op == "ReduceSum" else 18):
            return self.op(op, tensor, axes=list(axes), **options)
        return self.op(op, tensor, self.integers(f"{what or op.lower()}.axes", *axes), **options)

    def any_of(self, tensor: str, axes: Sequence[int], keepdims: bool, every: bool = False) -> str:
        """Whether any, or every, number along some axes is True."""
        numbers = self.assembly.cast(tensor, INT32, f"{self.name}.integer")
        found = self.reduced("ReduceMin" if every else "ReduceMax", numbers, axes, keepdims)
        return self.assembly.cast(found, BOOL, f"{self.name}.{'all' if every else 'any'}")

    def length(self, held: Held, axis: int) -> str:
        """The length of an axis of an input, as a tensor of one element."""
        order = held.usual()
        return self.assembly.length(held.in_order(order), order.index(axis), f"{self.name}.length")

    def shape(self, sizes: Sequence[Size], keep: bool) -> str:
        """A shape to reshape to (`keep`: 0 stands for the length of the first input's axis at that place) or to expand to.

        At most one length that is not known stays -1, where nothing else is; others are taken from the inputs' shapes.
        """
        known: list[int | Length] = []
        for place, size in enumerate(sizes):
            fixed = self.dims[size.input][size.axis] if isinstance(size, Length) else size
            if isinstance(size, Length) and fixed is not None:
                known.append(fixed * size.times)
            elif keep and size == Length(0, place):
                known.append(0)
            else:
                known.append(size)
        open_ = [place for place, size in enumerate(known) if isinstance(size, Length)]
        if keep and len(open_) == 1 and -1 not in known:
            known[open_[0]] = -1
            open_ = []
        if not open_:
            return self.integers("shape", *(size for size in known if isinstance(size, int)))
        parts = [self._size(size, place) for place, size in enumerate(known)]
        return self.op("Concat", *parts, what="shape", axis=0)

    def _size(self, size: int | Length, place: int) -> str:
        if isinstance(size, int):
            return self.integers(f"size_{place}", size)
        held = self.inputs[size.input]
        assert held is not None
        length = self.length(held, size.axis)
        return length if size.times == 1 else self.op("Mul", length, self.integers("times", size.times), what="size")


def places_of(values: Mapping[Wire, Held], present: Set[str]) -> list[list[Any]]:
    """Where every value stands in a model that has these tensors: node, index, kind, its tensors with their orders of axes."""
    found: list[list[Any]] = []
    for wire, held in values.items():
        made = [
            [tensor, [held.order.index(axis) for axis in order]]
            for order, tensor in held.tensors.made.items()
            if tensor in present
        ]
        if made:
            found.append([wire.node, wire.index, held.kind, made])
    return found


def as_real(array: Array, assembly: Assembly) -> Array:
    """Floats in the type of a graph's floats; integers and truth values as int64 and bool."""
    if array.dtype.kind == "f":
        return np.asarray(array, np.float32 if assembly.real == 1 else np.float64)
    return np.asarray(array, np.bool_ if array.dtype.kind == "b" else np.int64)


def together(kinds: Sequence[Kind]) -> Kind:
    """The kind that values of several kinds take together.

    Example:
        >>> together(["bool", "int", "float"]), together(["bool", "int"])
        ('float', 'int')
    """
    return "float" if "float" in kinds else "int" if "int" in kinds else "bool"


__all__ = ["Call", "Held", "Kind", "Order", "Tensors", "as_real", "places_of", "together"]
