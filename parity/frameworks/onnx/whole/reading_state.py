"""The state of a reading: the graph that is put together, and what is known of every value in it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import onnx

from parity.conventions import Fill
from parity.deferred import Array
from parity.errors import Problem, ShapeError, UnsupportedError
from parity.frameworks.onnx.constants import Constant, Mover
from parity.frameworks.onnx.tensors import Tensors
from parity.frameworks.onnx.weights import is_float
from parity.frameworks.onnx.whole.reading_values import (
    PROBES,
    Parts,
    Sizes,
    Sym,
    Tried,
    Undecided,
    Unknown,
    Value,
    probes_of,
    worded,
)
from parity.graph import Builder, Layered, Node, Wire, computed, shapes_of
from parity.graph.operations import (
    Cast,
    Concatenate,
    Convolution,
    Einsum,
    Elementwise,
    Expand,
    ExpandDims,
    Flip,
    Length,
    MatMul,
    Range,
    Reduction,
    Reshape,
    Select,
    Shape,
    Size,
    Slice,
    Squeeze,
    Stack,
    Stub,
    Take,
    Transpose,
)
from parity.graph.operations import (
    Constant as Standing,
)
from parity.network import Dense, Recurrent
from parity.reference import Exact

Kind: TypeAlias = Literal["float", "int", "bool"]
Known: TypeAlias = tuple["Shape | None", ...]
"""A value's shape at each probe; None where the model cannot take that probe."""

_FREE_NUMBERS = 1 << 18
_PRODUCTS = (MatMul, Einsum, Convolution, Dense, Recurrent)
_TRUTH = ("equal", "not_equal", "greater", "greater_equal", "less", "less_equal", "logical_and", "logical_or")
_MOVES = (Transpose, Reshape, ExpandDims, Squeeze, Slice, Select, Expand, Flip)
"""Operations that are called once for one value, however often the graph says it."""
_UNIFORM = (*_MOVES, Concatenate, Stack, Cast)
"""Operations that make one number everywhere of one number everywhere."""


class ConflictError(Exception):
    """Two words for lengths that an operation wants to be the same."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(first, second)
        self.words = (first, second)


class Reading:
    """What all readers of nodes share.

    Args:
        name: of the graph.
        model: the model.
        tensors: gives its tensors.
        words: the lengths that differ from call to call.
    """

    def __init__(self, name: str, model: onnx.ModelProto, tensors: Tensors, words: Sequence[str], size: int) -> None:
        self.model, self.tensors, self.mover = model, tensors, Mover(size)
        self.opset = next((int(o.version) for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
        self.probes = probes_of(list(words))
        self.build = Builder(name, "onnxruntime", {word: tried[0] for word, tried in self.probes.items()})
        self.problems: list[Problem] = []
        self.known: dict[Wire, Known] = {}
        self.kinds: dict[Wire, Kind] = {}
        self.uniform: dict[Wire, float] = {}
        self.producers: dict[str, Node] = {}
        self.stored: set[str] = set()
        self.uses: Counter[str] = Counter()
        self.origins: dict[str, tuple[str, ...]] = {}
        """The tensors that a dense layer's weights come from, by its name."""
        self.fresh: dict[str, str] = {}
        """The nodes that gave what may still get a bias, by the name of the tensor."""
        self.masked: dict[str, Fill] = {}
        """What recurrent nodes that take a mask give at masked steps; see `reading_masks.with_masks`."""
        self._limit = size + (1 << 20)
        self._standing: dict[int, tuple[Constant, Wire]] = {}
        self._called: dict[tuple[Any, ...], Wire] = {}
        self._layers: dict[tuple[Any, ...], list[Layered]] = {}

    # ---- inputs, shapes

    def input(self, name: str, shape: Sequence[int | str], dtype: str) -> Wire:
        """An input of the model."""
        wire = self.build.input(name, shape, dtype)
        self.known[wire] = tuple(
            tuple(self.probes[n][probe] if isinstance(n, str) else n for n in shape) for probe in range(PROBES)
        )
        self.kinds[wire] = {"float32": "float", "int64": "int"}.get(dtype, "bool")  # type: ignore[assignment]
        return wire

    def shape(self, value: Value) -> tuple[int | Sym, ...]:
        """The shape of a value: numbers, and lengths that differ.

        Raises:
            ShapeError: it is behind an operator that is not converted, so that nobody knows.
        """
        if isinstance(value, Constant):
            return tuple(value.shape)
        if isinstance(value, Sizes):
            return value.array.shape
        found = self.known.get(value) if isinstance(value, Wire) else None
        if found is None or all(one is None for one in found):
            where = f"what '{value.node}' gives" if isinstance(value, Wire) else ""
            remedy = "it comes from an operator that is not converted: look at the other problems"
            raise ShapeError("the shape of this value is not known", where, remedy=remedy)
        assert isinstance(value, Wire)
        rank = next(len(one) for one in found if one is not None)
        return tuple(self._length(value, axis, found) for axis in range(rank))

    def _length(self, wire: Wire, axis: int, found: Known) -> int | Sym:
        tried: Tried = tuple(None if one is None else one[axis] for one in found)
        lengths = {length for length in tried if length is not None}
        return lengths.pop() if len(lengths) == 1 else Sym(tried, (wire, axis))

    def rank(self, value: Value) -> int:
        """How many axes a value has."""
        return len(self.shape(value))

    def kind(self, value: Value | None) -> Kind:
        """Whether a value holds floats, integers or truth values."""
        if isinstance(value, Constant):
            return "float" if is_float(value) else "bool" if value.dtype.kind == "b" else "int"
        if isinstance(value, Wire):
            return self.kinds.get(value, "float")
        return "bool" if isinstance(value, Undecided) else "int"

    def size(self, length: int | Sym, x: Wire | None, others: list[Wire]) -> Size | None:
        """A length as an axis of x or of another value, which is added to `others`; None if no axis has it."""
        if isinstance(length, int):
            return length
        places: list[tuple[Wire, int, int]] = []
        for wire in [*([x] if x is not None else []), *others]:
            places += [(wire, axis, 1) for axis in range(self.rank(wire))]
        if length.place is not None:
            places.append((*length.place, length.times))
        places += [(Wire(one.name), axis, 1) for one in self.build.inputs for axis in range(len(one.shape))]
        for wire, axis, times in places:
            own = self.shape(wire)[axis]
            if isinstance(own, Sym) and length.same(tuple(None if n is None else n * times for n in own.tried)):
                if wire != x and wire not in others:
                    others.append(wire)
                return Length(0 if wire == x else others.index(wire) + 1, axis, times)
        return None

    def word(self, length: int | Sym) -> str:
        """A length in words: the word of the axis of an input that it is."""
        if isinstance(length, int):
            return str(length)
        found = [word for word, tried in self.probes.items() if length.same(tried)]
        return found[0] if found else "a length that differs from call to call"

    def in_words(self, text: str) -> str:
        """A message about shapes, the lengths that were tried in place of words, and multiples and products of these, replaced by words.

        Short lengths stay as they are: they could as well be the model's own.
        """
        return worded(text, self.probes)

    # ---- calls

    def unique(self, name: str) -> str:
        """A name that no operation has yet."""
        return self.build.unique(name)

    def emit(self, operation: Layered, *values: Value | None, source: str = "", kind: Kind | None = None) -> Value:
        """A call of an operation; a constant where all that it takes is.

        Raises:
            ShapeError: it cannot take what it is given.
            ConflictError: it could if two words for lengths were one.
        """
        if any(isinstance(value, Constant) for value in values) and all(
            value is None or isinstance(value, Constant) for value in values
        ):
            folded = self._folded(operation, [v if isinstance(v, Constant) else None for v in values], kind)
            if folded is not None:
                return folded
        wires = [None if value is None else self.wire(value) for value in values]
        key = (type(operation), repr(operation.facts), *wires)
        if isinstance(operation, (*_MOVES, Range)) and key in self._called:
            return self._called[key]
        found = self._tried(operation, wires)
        wire = self.build.call(operation, *wires, source=source)
        self._called[key] = wire
        self.producers[wire.node] = self.build.nodes[-1]
        own = kind or _kind(operation, [self.kind(one) for one in wires])
        for index, known in enumerate(found or ()):
            self.known[Wire(wire.node, index)] = known
            self.kinds[Wire(wire.node, index)] = own
        self.kinds[wire] = own
        numbers = {
            self.uniform.get(one) for one in wires[: None if isinstance(operation, Concatenate | Stack) else 1] if one
        }
        if isinstance(operation, _UNIFORM) and len(numbers) == 1 and None not in numbers:
            self.uniform[wire] = numbers.pop() or 0.0
        return wire

    def _tried(self, operation: Layered, wires: Sequence[Wire | None]) -> list[Known] | None:
        """The shapes of what a call gives at each probe; None if they are not known."""
        if isinstance(operation, Stub) or any(wire is not None and wire not in self.known for wire in wires):
            return None
        results: list[Sequence[Shape] | None] = []
        refused: list[ShapeError] = []
        for probe in range(PROBES):
            given = [None if wire is None else self.known[wire][probe] for wire in wires]
            if any(wire is not None and shape is None for wire, shape in zip(wires, given, strict=True)):
                results.append(None)
                continue
            try:
                results.append(shapes_of(operation, given))
            except ShapeError as error:
                self._check_conflict(operation, given, probe)
                refused.append(error)
                results.append(None)
        good = [one for one in results if one is not None]
        if not good or results[0] is None:
            raise (
                refused[0] if refused else ShapeError("the lengths of the model's inputs are too short", operation.name)
            )
        return [tuple(None if one is None else one[index] for one in results) for index in range(len(good[0]))]

    def _check_conflict(self, operation: Layered, shapes: Sequence[Shape | None], probe: int) -> None:
        """Whether an operation would take its inputs if two words were one."""
        words = {lengths[probe]: word for word, lengths in self.probes.items()}
        given = [shape for shape in shapes if shape is not None]
        if isinstance(operation, (Elementwise, MatMul)):
            given = [shape[::-1][2 * isinstance(operation, MatMul) :] for shape in given]
        elif isinstance(operation, Recurrent):
            given = [given[0], *given[1:]]
        for at, first in enumerate(given):
            for second in given[at + 1 :]:
                for one, other in zip(first, second, strict=False):
                    if one != other and one in words and other in words:
                        raise ConflictError(words[one], words[other])

    def _folded(self, operation: Layered, values: Sequence[Constant | None], kind: Kind | None) -> Constant | None:
        """What an operation makes of constants; None where that would be more than constants of this model may come to."""
        given = [value for value in values if value is not None]
        shapes = shapes_of(operation, [None if value is None else value.shape for value in values])
        numbers = sum(math.prod(shape) for shape in shapes) + sum(value.size for value in given)
        if 8 * numbers > 4 * self._limit or (isinstance(operation, _PRODUCTS) and numbers > _FREE_NUMBERS):
            return None
        arrays = [None if value is None else self.array(value) for value in values]
        with np.errstate(all="ignore"):
            taken = [None if a is None else a.astype(np.float64) if a.dtype.kind == "f" else a for a in arrays]
            found = np.asarray(computed(operation, taken, Exact())[0])
        if found.dtype.kind == "f":
            wide = any(array is not None and array.dtype == np.float64 for array in arrays)
            found = found.astype(np.float64 if wide else np.float32)
        origins = tuple(dict.fromkeys(name for value in given for name in value.origins))
        return Constant(found.shape, found.dtype, lambda: found, origins[:8], None, 0, 0)

    def array(self, constant: Constant) -> Array:
        """A constant's numbers; half precision as the float32 numbers that it holds."""
        found = np.asarray(constant.read())
        if is_float(constant) and constant.dtype.itemsize == 2:
            self.stored.add(constant.dtype.name)
            return found.astype(np.float32)
        if found.dtype.kind in "iu":
            return found.astype(np.int64)
        return found

    def wire(self, value: Value) -> Wire:
        """A value in the graph; a constant becomes one.

        Raises:
            UnsupportedError: a length used as a number.
        """
        if isinstance(value, Wire):
            return value
        if isinstance(value, Parts):
            raise UnsupportedError("a sequence of tensors is used as a tensor", expected="a tensor")
        if not isinstance(value, Constant):
            raise UnsupportedError("a length is used as a number", expected="a shape, or a number that stays")
        if id(value) in self._standing:
            return self._standing[id(value)][1]
        array = self.array(value)
        if array.dtype.kind not in "fib":
            raise UnsupportedError(
                "a constant of another type", expected="floats, integers or truth values", got=str(value.dtype)
            )
        trained = array.dtype.kind == "f" and array.size > 1
        name = _standing_name(value.origins) if trained else "constant"
        wire = self.build.call(Standing(self.unique(name), array, trained))
        self.known[wire], self.kinds[wire] = (array.shape,) * PROBES, self.kind(value)
        if array.size and (array == array.flat[0]).all():
            self.uniform[wire] = float(array.flat[0])
        self.producers[wire.node] = self.build.nodes[-1]
        self._standing[id(value)] = (value, wire)
        return wire

    def replaced(self, wire: Wire, operation: Layered, source: str) -> None:
        """Another operation in the place of one that gives the same shapes."""
        at = next(index for index, node in enumerate(self.build.nodes) if node.name == wire.node)
        old = self.build.nodes[at]
        self.build.nodes[at] = self.producers[wire.node] = Node(old.name, operation, old.inputs, source)

    def retyped(self, value: Value, kind: Kind) -> None:
        """Say what a value holds."""
        if isinstance(value, Wire):
            self.kinds[value] = kind

    def shared(self, operation: Layered, origins: tuple[str, ...]) -> Layered:
        """The operation, or one before with the same weights and options: a layer that is called again."""
        key = (type(operation), origins, repr(operation.facts))
        for other in self._layers.setdefault(key, []):
            mine, theirs = operation.arrays.present, other.arrays.present
            if mine.keys() == theirs.keys() and all(np.array_equal(mine[name], theirs[name]) for name in mine):
                return other
        self._layers[key].append(operation)
        return operation

    def is_uniform(self, value: Value, number: float) -> bool:
        """Whether a value is one number everywhere."""
        if isinstance(value, Constant):
            return value.size > 0 and bool((self.array(value) == number).all())
        return isinstance(value, Wire) and self.uniform.get(value) == number

    def producer(self, value: Value) -> Node | None:
        """The node whose first value it is."""
        return self.producers.get(value.node) if isinstance(value, Wire) and value.index == 0 else None

    def follow_unknown(self, values: Sequence[Value | None]) -> bool:
        """Whether any of these could not be read."""
        return any(isinstance(value, Unknown) for value in values)


def _standing_name(origins: Sequence[str]) -> str:
    name = origins[0] if len(origins) == 1 else ""
    clean = "".join(letter if letter.isalnum() or letter in "._" else "_" for letter in name).strip("._")
    return clean if clean and not clean.startswith(("onnx__", "val_", "const")) and clean.isascii() else "weight"


def _kind(operation: Layered, kinds: Sequence[Kind]) -> Kind:
    """What an operation gives, from what it takes."""
    if isinstance(operation, Cast):
        return {"float32": "float", "int64": "int"}.get(operation.dtype, "bool")  # type: ignore[return-value]
    if isinstance(operation, Elementwise):
        if operation.function in (*_TRUTH, "logical_not"):
            return "bool"
        return kinds[1] if operation.function == "where" else kinds[0]
    if isinstance(operation, Reduction):
        return "int" if operation.function == "argmax" else "bool" if operation.function in ("any", "all") else kinds[0]
    if isinstance(operation, (*_MOVES, Concatenate, Stack, Take)):
        return kinds[0]
    return "float"


__all__ = ["ConflictError", "Kind", "Known", "Reading"]
