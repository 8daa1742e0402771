"""One call of an operator in a trace, and what handlers of operators ask and tell while a graph is built from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from parity.errors import Problem
from parity.frameworks.torch.whole.making import Making, Refused, array_of
from parity.frameworks.torch.whole.tracing import expressions, user_frames
from parity.frameworks.torch.whole.values import Filled, Known, Packed, Size, Stacked, Value
from parity.graph import Builder, Wire
from parity.graph.operations import Constant, Length, Take

Kind = Literal["f", "i", "b"]
CASTS: dict[str, Literal["float32", "int64", "bool"]] = {"f": "float32", "i": "int64", "b": "bool"}


class Call:
    """One call of an operator: its arguments by the names of its schema.

    Args:
        making: the graph in the making.
        node: of the trace.
        operator: its name without namespace and trailing underscore.
        given: translated arguments by name; defaults are filled in.
        raw: the same as they stand in the trace.
        name: what its main operation is to be called.
    """

    def __init__(
        self, making: Making, node: Any, operator: str, given: dict[str, Value], raw: dict[str, Any], name: str
    ) -> None:
        self.making, self.node, self.operator = making, node, operator
        self.given, self.raw, self.name = given, raw, name

    @property
    def build(self) -> Builder:
        """The builder."""
        return self.making.build

    def __getitem__(self, name: str) -> Value:
        return self.given[name]

    def get(self, name: str, default: Value = None) -> Value:
        """An argument, or a default where it is left out or None."""
        value = self.given.get(name)
        return default if value is None else value

    # ---- what the trace says

    @property
    def shape(self) -> tuple[Any, ...]:
        """Of the result (of the first, if there are several)."""
        return expressions(self._result.shape)

    @property
    def kind(self) -> str:
        """Of the numbers of the result: "f", "i" or "b"."""
        return kind_of(self._result)

    @property
    def _result(self) -> Tensor:
        value = self.node.meta["val"]
        first: Tensor = value[0] if isinstance(value, (tuple, list)) else value
        return first

    def meta(self, name: str) -> Any:
        """The tensor that the trace has for an argument."""
        return self.raw[name].meta["val"]

    def shape_of(self, name: str) -> tuple[Any, ...]:
        """Of an argument that is a tensor."""
        meta = self.meta(name)
        return expressions(meta.shape) if isinstance(meta, Tensor) else ()

    def rank(self, name: str) -> int:
        """Axes of an argument that is a tensor."""
        return len(self.meta(name).shape)

    def axis(self, name: str, of: str, extra: int = 0) -> int:
        """An argument that is an axis of another, counted from the front."""
        axis, rank = int(self.given[name]), self.rank(of) + extra
        return axis % rank if rank else 0

    def axes(self, name: str, of: str) -> tuple[int, ...]:
        """An argument that is one or several axes of another, all of them where it is None or empty."""
        given, rank = self.given.get(name), self.rank(of)
        if given is None or given == []:
            return tuple(range(rank))
        several = given if isinstance(given, (list, tuple)) else [given]
        return tuple(sorted(int(axis) % rank for axis in several))

    def static(self, name: str, what: str) -> Any:
        """An argument that has to be known.

        Raises:
            Refused: it is a value.
        """
        value = self.given.get(name)
        if isinstance(value, (Wire, Size, Stacked, Packed)):
            raise Refused(f"{what} that is computed", f"{what} that is known")
        return value

    # ---- values

    def wire(self, name: str, kind: str | None = None) -> Wire:
        """An argument as a value of the graph, of a kind of numbers if one is said."""
        return self.as_wire(self.given[name], self.raw.get(name), kind)

    def as_wire(self, value: Value, raw: Any = None, kind: str | None = None) -> Wire:
        """Anything as a value of the graph.

        Args:
            value: translated.
            raw: as it stands in the trace: says the shape and type of what is no value yet.
            kind: of the numbers it is to hold.

        Raises:
            Refused: it is none.
        """
        build = self.build
        if isinstance(value, Packed):
            raise Refused(
                "an operator on a packed sequence",
                "recurrent layers only between pack_padded_sequence and pad_packed_sequence",
                remedy="pad the sequence first, apply it there",
            )
        if isinstance(value, Wire):
            own = "f" if raw is None else kind_of(raw.meta["val"])
            return value if kind is None or own == kind else build.cast(value, CASTS[kind])
        if isinstance(value, Known):
            if kind is not None and kind != kind_of(value.tensor):
                types = {"f": torch.float64 if self.making.double else torch.float32, "i": torch.int64, "b": torch.bool}
                value = Known(value.tensor.to(types[kind]), value.name, value.trained)
            if value.tensor.ndim == 0 and not value.trained:
                return self.making.number(value.tensor.item(), kind_of(value.tensor))
            return self.making.known(value, getattr(raw, "name", "") or "weight")
        if isinstance(value, Stacked):
            return self.making.stacked(value)
        if isinstance(value, Filled):
            wire = self.making.number(value.number, kind or kind_of(raw.meta["val"]))
            return self.expanded(wire, (), expressions(raw.meta["val"].shape))
        if isinstance(value, Size):
            return self.length(value, kind or "i")
        if isinstance(value, (bool, int, float)):
            return self.making.number(value, kind or _kind_of_number(value))
        raise Refused(f"a value of another kind ({type(value).__name__})", "a tensor")

    def length(self, size: Size, kind: str) -> Wire:
        """A length as a number: as many ones, summed."""
        wire, axis, times = self.making.place(size.expression)
        ones = self.build.expand(self.making.number(1, kind), (Length(1, axis, times),), wire)
        return self.build.sum(ones, 0)

    def expanded(self, wire: Wire, shape: Sequence[Any], wanted: Sequence[Any], name: str | None = None) -> Wire:
        """A value broadcast to a shape of the trace."""
        if tuple(shape) == tuple(wanted):
            return wire
        behind = len(wanted) - len(shape)
        marked = [
            -1 if place >= behind and shape[place - behind] == length else length for place, length in enumerate(wanted)
        ]
        sizes, others = self.making.sizes(marked, [shape])
        return self.build.expand(wire, sizes, *others, name=name)

    def reshaped(self, wire: Wire, shape: Sequence[Any], wanted: Sequence[Any], name: str | None = None) -> Wire:
        """A value in a shape of the trace."""
        if tuple(shape) == tuple(wanted):
            return wire
        sizes, others = self.making.sizes(wanted, [shape], rest=True)
        return self.build.reshape(wire, sizes, *others, name=name)

    def steps(self, length: Any) -> Wire:
        """0, 1, 2, ... as many as a length."""
        if not isinstance(length, int):
            return self.making.range(length)
        return self.build.call(Constant(self.build.unique("range"), np.arange(length)))

    def take(self, wire: Wire, axis: int, places: Wire) -> Wire:
        """Places of an axis by number."""
        return self.build.call(Take(self.build.unique(self.name), axis), wire, places)

    def shared(self, key: Iterable[object], make: Callable[[], Any]) -> Any:
        """One operation for all calls that have one key: weights (by identity) and options."""
        own = tuple(key)
        if own not in self.making.operations:
            self.making.operations[own] = make()
        return self.making.operations[own]

    def layer_name(self, weight: Value) -> str:
        """What a layer is to be called: as the module that has its weight, else as the call."""
        name = weight.name if isinstance(weight, Known) else ""
        for end in (".weight", "_weight"):
            if name.endswith(end):
                return name.removesuffix(end)
        return self.name

    def fixed(self, name: str, what: str) -> Known | None:
        """A weight; None where it is left out.

        Raises:
            Refused: it is computed from the inputs.
        """
        value = self.given.get(name)
        if value is None or isinstance(value, Known):
            return value
        raise Refused(f"{what} that is computed from the inputs", f"{what} that is a parameter or a buffer")

    def problem(self, refused: Refused) -> Problem:
        """What is refused, with its place."""
        return problem_at(self.node, refused.what, refused.expected, refused.got, refused.remedy)


def problem_at(node: Any, what: str, expected: str = "", got: str = "", remedy: str = "") -> Problem:
    """A problem with an operator of a trace: its module, and the line of the user's code."""
    path = module_path(node)
    frames = user_frames(node.meta.get("stack_trace") or "")
    where = ", ".join(
        [f"operator '{node.target}'", *([f"module '{path}'"] if path else []), *([frames[-1]] if frames else [])]
    )
    return Problem(what, where, expected, got, remedy)


def module_path(node: Any) -> str:
    """The path of the innermost module that called an operator."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    return clean_path(stack[-1][0]) if stack else ""


def clean_path(path: str) -> str:
    """A module path without what a trace adds to it."""
    return "" if path.startswith("_empty_nn_module_stack") else path


def kind_of(value: Any) -> str:
    """ "f", "i" or "b", for a tensor or a length."""
    if not isinstance(value, Tensor):
        return "f" if isinstance(value, (float, torch.SymFloat)) else "i"
    return "b" if value.dtype == torch.bool else "f" if value.is_floating_point() else "i"


def _kind_of_number(value: float | bool) -> str:
    return "b" if isinstance(value, bool) else "i" if isinstance(value, int) else "f"


Handler = Callable[[Call], Value]
HANDLERS: dict[str, Handler] = {}


def operator(*names: str) -> Callable[[Handler], Handler]:
    """Says which operators a function reads, by their names without "aten::" and trailing underscore."""

    def put(handler: Handler) -> Handler:
        for name in names:
            HANDLERS[name] = handler
        return handler

    return put


__all__ = [
    "CASTS", "HANDLERS", "Call", "Handler", "Making", "Refused", "array_of", "clean_path", "kind_of", "module_path", "operator",
    "problem_at",
]  # fmt: skip
