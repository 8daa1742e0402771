"""A place of an axis for every sample, as torch's gather is exported: the last valid step, the score of a tag.

Source: the ONNX operator specification of GatherElements.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from parity.frameworks.onnx.constants import Constant
from parity.frameworks.onnx.whole.reading_step import Step, same_length
from parity.frameworks.onnx.whole.reading_values import Value
from parity.frameworks.onnx.whole.reading_widening import expanded, positions
from parity.graph.operations import Expand


def _gather_elements(step: Step) -> Sequence[Value]:
    """One place of the axis: zeros but there, summed. A negative one counts from the end."""
    x, places = step.value(0), step.value(1)
    rank = step.rank(x)
    axis = step.axis(0, rank)
    shape, wanted = step.shape(x), step.shape(places)
    if step.kind(places) != "int":
        raise step.refused("the indices are no integers", "int32 or int64, as ONNX specifies", step.kind(places))
    alike = len(wanted) == rank and all(
        same_length(a, b) for at, (a, b) in enumerate(zip(shape, wanted, strict=True)) if at != axis
    )
    if not alike or wanted[axis] != 1:
        expected = "one place of the axis, and the other axes as long as those of the data"
        raise step.refused("this choice of places is not converted", expected, remedy="keep this model in ONNX")
    places = _before_expansion(step, places)
    count = step.reduced("sum", expanded(step, Constant.of_array(np.ones(1, np.int64), ""), [shape[axis]]), [0])
    none = Constant.of_array(np.asarray(0, np.int64), "")
    behind = step.elementwise("less", places, none)
    counted = step.elementwise("where", behind, step.elementwise("add", places, count), places)
    steps = step.expanded(positions(step, shape[axis]), range(1, rank - axis))
    empty: Value | float = 0.0 if step.kind(x) == "float" else none
    chosen = step.elementwise("where", step.elementwise("equal", steps, counted), x, empty)
    return [step.reduced("sum", chosen, [axis], keepdims=True)]


def _before_expansion(step: Step, places: Value) -> Value:
    """The same numbers as they were before they were repeated along axes of length one, which arithmetic does by itself."""
    made = step.reading.producer(places)
    before = made.inputs[0] if made is not None and isinstance(made.operation, Expand) else None
    return before if before is not None and step.rank(before) == step.rank(places) else places


HANDLERS: dict[str, Callable[[Step], Sequence[Value]]] = {"GatherElements": _gather_elements}
