"""One node of an ONNX graph while it is read: its inputs and attributes, and what readers of operators say with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx

from parity.deferred import Array
from parity.errors import UnsupportedError
from parity.frameworks.onnx.constants import Constant
from parity.frameworks.onnx.options import plain_number
from parity.frameworks.onnx.whole.reading_names import layer_name, step_name
from parity.frameworks.onnx.whole.reading_state import Kind, Reading
from parity.frameworks.onnx.whole.reading_values import Sizes, Sym, Value
from parity.functions import FUNCTIONS, Function
from parity.graph import Layered
from parity.graph.operations import (
    Activation,
    Cast,
    Elementwise,
    ExpandDims,
    Reducing,
    Reduction,
    Reshape,
    Select,
    Size,
    Slice,
    Squeeze,
    Transpose,
    normalized,
)

REMEDY = "take it out of the graph, or keep this model in ONNX"


@dataclass
class Step:
    """A node and all that it takes.

    Args:
        reading: the state.
        node: itself.
        attributes: by name.
        inputs: by position; None for one that is left out.
        where: the node, in messages.
    """

    reading: Reading
    node: onnx.NodeProto
    attributes: Mapping[str, Any]
    inputs: Sequence[Value | None]
    where: str
    opset: int = field(init=False)

    def __post_init__(self) -> None:
        self.opset = self.reading.opset

    @property
    def op(self) -> str:
        """The operator."""
        return self.node.op_type

    @property
    def source(self) -> str:
        """The node's name, or that of what it gives."""
        return self.node.name or next(filter(None, self.node.output), "")

    def refused(self, what: str, expected: str = "", got: str = "", remedy: str = REMEDY) -> UnsupportedError:
        """The error that says what cannot be kept."""
        return UnsupportedError(what, self.where, expected, got, remedy)

    # ---- inputs and attributes

    def has(self, position: int) -> bool:
        """Whether an input is given."""
        return position < len(self.inputs) and self.inputs[position] is not None

    def value(self, position: int) -> Value:
        """An input that must be there."""
        found = self.inputs[position]
        if found is None:
            raise self.refused("an input is missing", f"input {position}", "none")
        return found

    def constant(self, position: int, what: str) -> Array | None:
        """An input that must be constant; None if it is left out.

        Raises:
            UnsupportedError: it is computed.
        """
        if not self.has(position):
            return None
        found = self.inputs[position]
        if not isinstance(found, Constant):
            raise self.refused(f"{what} is computed in the graph", "a constant", self.node.input[position])
        return self.reading.array(found)

    def weight(self, position: int, what: str) -> Array:
        """A constant that must be there."""
        found = self.constant(position, what)
        if found is None:
            raise self.refused(f"{what} is missing", "a constant", "none")
        return found

    def origins(self, *positions: int) -> tuple[str, ...]:
        """The names of the tensors that constants come from."""
        found = [self.inputs[at] for at in positions if self.has(at)]
        return tuple(name for one in found if isinstance(one, Constant) for name in one.origins)

    def integers(self, name: str, position: int) -> list[int] | None:
        """Whole numbers that stand in an attribute (older opsets) or in a constant input; None if they are left out."""
        if name in self.attributes:
            given = self.attributes[name]
            return [int(one) for one in given] if isinstance(given, Sequence) else [int(given)]
        found = self.constant(position, name)
        return None if found is None else [int(one) for one in found.ravel()]

    def sizes(self, name: str, position: int) -> list[int | Sym] | None:
        """The same, where lengths may stand among the numbers."""
        if name not in self.attributes and self.has(position) and isinstance(self.inputs[position], Sizes):
            found = self.inputs[position]
            assert isinstance(found, Sizes)
            return found.listed
        plain = self.integers(name, position)
        return None if plain is None else list(plain)

    def integer(self, name: str, usual: int) -> int:
        """A whole number in an attribute."""
        return int(self.attributes.get(name, usual))

    def number(self, name: str, usual: float) -> float:
        """A number in an attribute, as the decimal that float32 stands for."""
        given = self.attributes.get(name)
        return usual if given is None else plain_number(float(given), usual)

    def text(self, name: str, usual: str) -> str:
        """Text in an attribute."""
        given = self.attributes.get(name, usual)
        return given.decode("ascii", "replace") if isinstance(given, bytes) else str(given)

    def axes(self, name: str, position: int, rank: int) -> list[int] | None:
        """Axes counted from the front."""
        found = self.integers(name, position)
        if found is not None and any(not -rank <= axis < rank for axis in found):
            raise self.refused("no such axis", f"axes of {rank}", str(found))
        return None if found is None else [normalized(axis, rank) for axis in found]

    def single(self, *used: int) -> None:
        """Refuse a second, third, ... output that the graph goes on with."""
        for position, name in enumerate(self.node.output):
            if position > 0 and position not in used and name and self.reading.uses[name]:
                raise self.refused(f"output {position} of this operator is not converted", "the first one", name)

    # ---- names

    def layer(self, usual: str, *weights: int) -> str:
        """The name of a layer whose weights stand at these positions."""
        return self.reading.unique(layer_name(self.node.name, self.op, self.origins(*weights), usual))

    def name(self, usual: str) -> str:
        """The name of an operation without weights."""
        return self.reading.unique(step_name(self.node.name, self.op, usual))

    # ---- shapes

    def shape(self, value: Value) -> tuple[int | Sym, ...]:
        """Lengths of the axes of a value."""
        return self.reading.shape(value)

    def rank(self, value: Value) -> int:
        """How many axes a value has."""
        return self.reading.rank(value)

    def kind(self, value: Value | None) -> Kind:
        """Whether it holds floats, integers or truth values."""
        return self.reading.kind(value)

    def axis(self, usual: int, rank: int, name: str = "axis") -> int:
        """An axis in an attribute, counted from the front."""
        axis = self.integer(name, usual)
        if not -rank <= axis < max(rank, 1):
            raise self.refused("no such axis", f"an axis of {rank}", str(axis))
        return normalized(axis, rank)

    # ---- operations

    def call(self, operation: Layered, *values: Value | None, kind: Kind | None = None, source: bool = False) -> Value:
        """A call of an operation; `source` where its first value is what the node gives."""
        return self.reading.emit(operation, *values, source=self.source if source else "", kind=kind)

    def number_value(self, number: float) -> Constant:
        """A number in a formula."""
        return Constant.of_array(np.asarray(number, np.float32), "")

    def elementwise(self, function: str, *values: Value | float, source: bool = False) -> Value:
        """A function of `ELEMENTWISE`."""
        given = [self.number_value(one) if isinstance(one, (int, float)) else one for one in values]
        return self.call(Elementwise(self.name(function), function), *given, source=source)

    def activation(self, name: str, x: Value, alpha: float | None = None, beta: float | None = None) -> Value:
        """A function of `FUNCTIONS`; a parameter that is not given is the usual one."""
        row = FUNCTIONS[name]
        own = Function(name, row.alpha if alpha is None else alpha, row.beta if beta is None else beta)
        return self.call(Activation(self.name(name), own), x, source=True)

    def cast(self, x: Value, kind: Kind) -> Value:
        """Another type."""
        if self.kind(x) == kind:
            return x
        dtype = {"float": "float32", "int": "int64"}.get(kind, "bool")
        return self.call(Cast(self.name("cast"), dtype), x)  # type: ignore[arg-type]

    def reduced(self, function: Reducing, x: Value, axes: Sequence[int], keepdims: bool = False) -> Value:
        """A reduction; nothing at all over no axes."""
        if not axes:
            return x
        return self.call(Reduction(self.name(function), function, tuple(axes), keepdims), x)

    def transposed(self, x: Value, axes: Sequence[int]) -> Value:
        """Axes in another order; two in a row are one, and none where nothing moves."""
        producer = self.reading.producer(x)
        order = list(axes)
        if producer is not None and isinstance(producer.operation, Transpose) and producer.inputs[0] is not None:
            before = producer.operation.axes
            return self.transposed(producer.inputs[0], [before[axis] for axis in order])
        if order == list(range(len(order))):
            return x
        return self.call(Transpose(self.name("transpose"), tuple(order)), x)

    def expanded(self, x: Value, axes: Sequence[int]) -> Value:
        """New axes of length one, at places of the result."""
        return self.call(ExpandDims(self.name("expand_dims"), tuple(axes)), x) if axes else x

    def squeezed(self, x: Value, axes: Sequence[int]) -> Value:
        """Without axes of length one; straight from the value to which they were added, and before axes are moved."""
        made = self.reading.producer(x)
        source = made.inputs[0] if made is not None and made.inputs else None
        if made is not None and source is not None and axes:
            if isinstance(made.operation, ExpandDims):
                rank = self.rank(x)
                if sorted(normalized(axis, rank) for axis in made.operation.axes) == sorted(axes):
                    return source
            elif isinstance(made.operation, Transpose):
                order = made.operation.axes
                gone = sorted(order[axis] for axis in axes)
                kept = [axis for at, axis in enumerate(order) if at not in axes]
                before = self.squeezed(source, gone)
                return self.transposed(before, [axis - sum(one < axis for one in gone) for axis in kept])
        return self.call(Squeeze(self.name("squeeze"), tuple(axes)), x) if axes else x

    def selected(self, x: Value, axis: int, index: int) -> Value:
        """One place of an axis; the axis is gone."""
        return self.call(Select(self.name("select"), axis, index), x)

    def sliced(self, x: Value, axis: int, start: int | None, stop: int | None, step: int = 1) -> Value:
        """Part of an axis."""
        if (start in (0, None), stop, step) == (True, None, 1):
            return x
        return self.call(Slice(self.name("slice"), ((axis, start, stop, step),)), x)

    def reshaped(self, x: Value, sizes: Sequence[int | Sym]) -> Value:
        """The same numbers in another shape; one length that no axis has is what is left over.

        Raises:
            UnsupportedError: there are two such.
        """
        if -1 in sizes and (left := self._rest(x, sizes)) is not None:
            sizes = [left if one == -1 else one for one in sizes]
        if not isinstance(x, Constant):
            own = self.shape(x)
            units = [at for at, length in enumerate(own) if length == 1]
            for gone in ([], units):
                rest = [length for at, length in enumerate(own) if at not in gone]
                if len(rest) == len(sizes) and all(same_length(a, b) for a, b in zip(rest, sizes, strict=True)):
                    return self.squeezed(x, gone)
        others: list[Any] = []
        wire = None if isinstance(x, Constant) else self.reading.wire(x)
        found: list[Size | None] = [self.reading.size(one, wire, others) for one in sizes]
        unknown = [at for at, one in enumerate(found) if one is None]
        if len(unknown) > 1 or (unknown and -1 in found):
            raise self.refused("this shape cannot be said with the lengths of axes", got=f"axes {unknown}")
        complete = tuple(-1 if one is None else one for one in found)
        return self.call(Reshape(self.name("reshape"), complete), x, *others)

    def _rest(self, x: Value, sizes: Sequence[int | Sym]) -> int | None:
        """What -1 stands for, if that stays."""
        product: Any = 1
        for one in sizes:
            product = product if one == -1 else one * product
        total: Any = 1
        for own in self.shape(x):
            total = own * total
        rest = total // product
        known = {one for one in rest.tried if one is not None} if isinstance(rest, Sym) else {rest}
        return int(known.pop()) if len(known) == 1 else None


def same_length(own: int | Sym, wanted: int | Sym) -> bool:
    """Whether two lengths are the same at every call.

    Example:
        >>> same_length(3, 3), same_length(Sym((7, 9, 5)), 7)
        (True, False)
    """
    if isinstance(own, Sym):
        return isinstance(wanted, Sym) and own.same(wanted.tried)
    return own == wanted


__all__ = ["REMEDY", "Step", "same_length"]
