"""The graph in the making while a trace is read: numbers, parameters and lengths as values of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from parity.frameworks.torch.whole.values import Known, Stacked
from parity.graph import Builder, Wire
from parity.graph.operations import Constant, Length, Range
from parity.graph.operations import Size as AxisSize
from parity.recurrent import Array


class Refused(Exception):  # noqa: N818  what is raised says what is refused
    """An operator that cannot be kept: what, and what would be."""

    def __init__(self, what: str, expected: str = "", got: str = "", remedy: str = "") -> None:
        super().__init__(what)
        self.what, self.expected, self.got, self.remedy = what, expected, got, remedy


class Making:
    """The graph in the making, and what is known of the trace's lengths.

    Args:
        build: the builder.
        double: whether the module computes in float64: numbers in formulas then stay exact.
        call_names: names of the calls of modules inside, by what the trace calls them.
    """

    def __init__(self, build: Builder, double: bool, call_names: Mapping[str, str]) -> None:
        self.build, self.double, self.call_names = build, double, call_names
        self.operations: dict[Any, Any] = {}
        self._axes: dict[Any, tuple[Wire, int]] = {}
        self._constants: dict[Any, Wire] = {}

    def saw(self, wire: Wire, shape: Sequence[Any]) -> None:
        """Keep where a length can be taken from."""
        for axis, length in enumerate(shape):
            if not isinstance(length, int):
                self._axes.setdefault(length, (wire, axis))

    def sizes(
        self, shape: Sequence[Any], given: Sequence[Sequence[Any]], rest: bool = False
    ) -> tuple[tuple[AxisSize, ...], tuple[Wire, ...]]:
        """The lengths of a result as sizes of an operation, and the further inputs whose axes they name.

        Args:
            shape: integers and expressions.
            given: shapes of the inputs that the operation has already.
            rest: whether one length may be left over (-1).
        """
        found: list[AxisSize] = []
        others: list[Wire] = []
        for length in shape:
            if isinstance(length, int):
                found.append(length)
                continue
            own = self._length_in(length, given)
            if own is None and rest and -1 not in found:
                found.append(-1)
                continue
            if own is None:
                wire, axis, times = self.place(length)
                if wire not in others:
                    others.append(wire)
                own = Length(len(given) + others.index(wire), axis, times)
            found.append(own)
        return tuple(found), tuple(others)

    @staticmethod
    def _length_in(length: Any, given: Sequence[Sequence[Any]]) -> Length | None:
        for exact in (True, False):
            for place, shape in enumerate(given):
                for axis, known in enumerate(shape):
                    times = _times(length, known)
                    if times == 1 if exact else times is not None:
                        return Length(place, axis, times or 1)
        return None

    def place(self, length: Any) -> tuple[Wire, int, int]:
        """A value, its axis and a number: the length is so many times that of the axis.

        Raises:
            Refused: no axis has it.
        """
        for known, (wire, axis) in self._axes.items():
            if length == known:
                return wire, axis, 1
        for known, (wire, axis) in self._axes.items():
            times = _times(length, known)
            if times is not None:
                return wire, axis, times
        raise Refused("a length that is no multiple of an axis", "a multiple of the length of an axis", str(length))

    def number(self, value: float | bool, kind: str = "f") -> Wire:
        """A number as a value of its own."""
        key = (kind, float(value), str(value))
        if key not in self._constants:
            types = {"f": np.float64 if self.double else np.float32, "i": np.int64, "b": np.bool_}
            array = np.asarray(value, types[kind])
            self._constants[key] = self.build.call(Constant(self.build.unique("constant"), array))
        return self._constants[key]

    def known(self, value: Known, name: str) -> Wire:
        """A parameter or another fixed tensor as a value."""
        key = (value.tensor.data_ptr(), tuple(value.tensor.shape), value.tensor.stride(), value.tensor.dtype)
        if key not in self._constants:
            self.operations[key] = value.tensor  # keeps it alive, so that no other tensor gets its place
            own = self.build.unique(value.name or name)
            self._constants[key] = self.build.call(Constant(own, array_of(value), value.trained))
        return self._constants[key]

    def stacked(self, value: Stacked) -> Wire:
        """All of them as one value, made once."""
        key = ("stacked", value.wires)
        if key not in self._constants:
            wires = value.wires
            self._constants[key] = self.build.stack(wires, 0) if len(wires) > 1 else self.build.expand_dims(wires[0], 0)
        return self._constants[key]

    def range(self, length: Any) -> Wire:
        """0, 1, 2, ... as many as a length that may differ from call to call."""
        key = ("range", length)
        if key not in self._constants:
            wire, axis, times = self.place(length)
            self._constants[key] = self.build.call(Range(self.build.unique("range"), Length(0, axis, times)), wire)
        return self._constants[key]


def _times(length: Any, known: Any) -> int | None:
    """How many times one length is another; None where it is no whole number of times."""
    if isinstance(known, int):
        return None
    share = length / known
    return int(share) if share.is_Integer and share > 0 else None


def array_of(value: Known) -> Array:
    """Its numbers; half precision in float32."""
    tensor = value.tensor.detach().cpu()
    wide = {torch.float16: torch.float32, torch.bfloat16: torch.float32}.get(tensor.dtype, tensor.dtype)
    array: Array = tensor.to(wide).contiguous().numpy().copy()
    return array


__all__ = ["Making", "Refused", "array_of"]
