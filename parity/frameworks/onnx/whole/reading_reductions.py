"""Operators that make one number of all places of some axes.

Source: the ONNX operator specification of each; axes are an attribute in older opsets, an input in newer ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from parity.frameworks.onnx.whole.reading_step import Step
from parity.frameworks.onnx.whole.reading_values import Value
from parity.graph.operations import Reducing, Reduction


def _axes(step: Step, x: Value) -> tuple[list[int], bool]:
    """The axes, and whether they stay."""
    rank = step.rank(x)
    axes = step.axes("axes", 1, rank)
    if not axes:
        axes = [] if step.integer("noop_with_empty_axes", 0) == 1 else list(range(rank))
    return axes, step.integer("keepdims", 1) == 1


def _plain(function: Reducing, before: str = "", after: str = "") -> Callable[[Step], Sequence[Value]]:
    def read(step: Step) -> Sequence[Value]:
        x = step.value(0)
        axes, keeps = _axes(step, x)
        x = step.elementwise(before, x) if before else x
        x = step.reduced(function, x, axes, keeps)
        return [step.elementwise(after, x, source=True) if after else x]

    return read


def _extreme(step: Step) -> Sequence[Value]:
    x = step.value(0)
    if step.integer("select_last_index", 0):
        raise step.refused("the last of several equal extremes is not converted", "select_last_index 0", "1")
    x = step.elementwise("negative", x) if step.op == "ArgMin" else x
    axis = step.axis(0, step.rank(x))
    keeps = step.integer("keepdims", 1) == 1
    return [step.call(Reduction(step.name("argmax"), "argmax", (axis,), keeps), x, source=True)]


HANDLERS: dict[str, Callable[[Step], Sequence[Value]]] = {
    "ArgMax": _extreme,
    "ArgMin": _extreme,
    "ReduceL1": _plain("sum", before="abs"),
    "ReduceL2": _plain("norm"),
    "ReduceLogSum": _plain("sum", after="log"),
    "ReduceLogSumExp": _plain("logsumexp"),
    "ReduceMax": _plain("max"),
    "ReduceMean": _plain("mean"),
    "ReduceMin": _plain("min"),
    "ReduceProd": _plain("prod"),
    "ReduceSum": _plain("sum"),
    "ReduceSumSquare": _plain("sum", before="square"),
}
