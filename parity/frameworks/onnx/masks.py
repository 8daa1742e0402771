"""A mask of valid steps inside an ONNX graph: valid steps to the front for the recurrent node, results back to their places.

A recurrent node knows the number of a row's first steps that count (`sequence_lens`) and nothing of steps left out in between. So
the valid steps of each row are moved to the front, in order, and every step then takes the result of the valid step that it shows.
"""

from __future__ import annotations

import numpy as np

from parity.conventions import Fill
from parity.frameworks.onnx.nodes import BOOL, INT32, INT64, Assembly
from parity.recurrent import Direction

OPSET = 11
"""CumSum, GatherElements and Range are there since opset 11."""


class StepMask:
    """A mask as tensors of a graph.

    Args:
        assembly: of the graph.
        valid: (time, batch) of bool, True where a step is valid.
        name: of the layer that made it.

    Example:
        >>> from onnx.reference import ReferenceEvaluator
        >>> assembly = Assembly(17, ["x", "valid", "y"], [])
        >>> names = assembly.input("x", 1, ["time", "batch", 1]), assembly.input("valid", BOOL, ["time", "batch"])
        >>> assembly.give(StepMask(assembly, "valid", "layer").compact("x", "layer"), "y", ["time", "batch", 1])
        >>> x, valid = np.float32([[[1]], [[2]], [[3]]]), np.array([[False], [True], [True]])
        >>> ReferenceEvaluator(assembly.model("compact", {})).run(None, {"x": x, "valid": valid})[0].ravel().tolist()
        [2.0, 3.0, 1.0]
    """

    def __init__(self, assembly: Assembly, valid: str, name: str) -> None:
        self._assembly, self.valid, self._name = assembly, valid, f"{name}.mask"
        self._counted = assembly.cast(valid, INT64, f"{self._name}.integer")
        self.lengths = self._lengths()
        self._order = self._valid_first()
        self._places: dict[tuple[Direction, ...], str] = {}

    def both(self, valid: str, name: str) -> StepMask:
        """Steps that are valid here and there."""
        return StepMask(self._assembly, self._assembly.node("And", [self.valid, valid], f"{name}.both"), name)

    def compact(self, x: str, name: str) -> str:
        """x, (time, batch, features), with the valid steps of each row first."""
        a = self._assembly
        shape = a.node("Shape", [x], f"{name}.compact.shape")
        order = a.node("Expand", [self._order, shape], f"{name}.compact.order")
        return a.node("GatherElements", [x, order], f"{name}.compact", axis=0)

    def spread(self, y: str, directions: tuple[Direction, ...], fill: Fill, name: str) -> str:
        """y, (time, direction, batch, hidden) of compacted steps, at the places of the input's steps, and what the layer fills in."""
        a = self._assembly
        if directions not in self._places:
            shown = [self._shown_by(direction) for direction in directions]
            joined = shown[0] if len(shown) == 1 else a.node("Concat", shown, f"{self._name}.shown", axis=1)
            self._places[directions] = a.unsqueezed(joined, 3, f"{self._name}.places")
        shape = a.node("Shape", [y], f"{name}.spread.shape")
        places = a.node("Expand", [self._places[directions], shape], f"{name}.spread.places")
        # What lies beyond a row's length is zero, so steps before the first valid one come out zero as they should.
        spread = a.node("GatherElements", [y, places], f"{name}.spread", axis=0)
        if fill == "repeat":
            return spread
        zero = a.number(f"{name}.zero", 0.0)
        valid = a.unsqueezed(a.unsqueezed(self.valid, 1, f"{name}.valid.row"), 3, f"{name}.valid")
        return a.node("Where", [valid, spread, zero], f"{name}.filled")

    def kept(self, final: str, initial: str, name: str) -> str:
        """A final state, (direction, batch, features); where a row has no valid step, the initial one: ONNX Runtime gives zero."""
        a = self._assembly
        zero = a.constant(f"{name}.none", np.asarray(0, np.int32))
        empty = a.unsqueezed(a.node("Equal", [self.lengths, zero], f"{name}.empty.row"), 1, f"{name}.empty")
        return a.node("Where", [empty, initial, final], f"{name}.kept")

    def _lengths(self) -> str:
        """Valid steps of each row, (batch,) of int32."""
        a, name = self._assembly, f"{self._name}.lengths"
        if a.opset < 13:
            total = a.node("ReduceSum", [self._counted], f"{name}.sum", axes=[0], keepdims=0)
        else:
            total = a.node("ReduceSum", [self._counted, a.integers(f"{name}.axes", 0)], f"{name}.sum", keepdims=0)
        return a.cast(total, INT32, name)

    def _valid_first(self) -> str:
        """Indices of the steps, valid ones first and each kind in order, (time, batch, 1): a stable sort."""
        a, name = self._assembly, f"{self._name}.order"
        time = a.length(self.valid, 0, f"{name}.time")
        steps = a.counted(self.valid, 0, f"{name}.steps")
        late = a.cast(a.node("Not", [self.valid], f"{name}.invalid"), INT64, f"{name}.late")
        key = a.node("Add", [steps, a.node("Mul", [late, time], f"{name}.behind")], f"{name}.key")
        names = [f"{name}.sorted", name]
        order = a.nodes_of("TopK", [key, time], names, axis=0, largest=0, sorted=1)[1]
        return a.unsqueezed(order, 2, f"{name}.column")

    def _shown_by(self, direction: Direction) -> str:
        """Which compacted step every step of the input shows, (time, 1, batch): its own, or the one processed last before it.

        A forward step before the first valid one gets index -1: the last compacted step, which is then beyond the row's length.
        """
        a, name = self._assembly, f"{self._name}.{direction}"
        axis = a.constant(f"{name}.axis", np.asarray(0, np.int64))
        seen = a.node("CumSum", [self._counted, axis], f"{name}.seen")
        less = a.constant(f"{name}.one", np.asarray(1, np.int64)) if direction == "forward" else self._counted
        return a.unsqueezed(a.node("Sub", [seen, less], f"{name}.index"), 1, f"{name}.places")


def any_feature(assembly: Assembly, differs: str, name: str) -> str:
    """Whether any feature is True: (time, batch, features) of bool to (time, batch)."""
    numbers = assembly.cast(differs, INT32, f"{name}.integer")
    if assembly.opset < 18:
        largest = assembly.node("ReduceMax", [numbers], f"{name}.any", axes=[2], keepdims=0)
    else:
        largest = assembly.node("ReduceMax", [numbers, assembly.integers(f"{name}.axes", 2)], f"{name}.any", keepdims=0)
    return assembly.cast(largest, BOOL, name)
