"""Sequences of tensors: torch's unbind, split and chunk, and the steps of a loop, as its exporter writes them.

Source: the ONNX operator specification of SplitToSequence and SequenceAt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from parity.frameworks.onnx.constants import Constant
from parity.frameworks.onnx.whole.reading_picking import picked
from parity.frameworks.onnx.whole.reading_step import Step
from parity.frameworks.onnx.whole.reading_values import Parts, Value
from parity.graph import Wire


def _split(step: Step) -> Sequence[Value]:
    x = step.value(0)
    if not isinstance(x, (Constant, Wire)):
        raise step.refused("a length is used as a number", "a value that the model computes")
    axis = step.axis(0, step.rank(x))
    length, sizes = step.shape(x)[axis], step.constant(1, "the sizes of the parts")
    if not isinstance(length, int):
        steps = step.reading.uses[step.node.output[0]]
        remedy = (
            "the export unrolled a loop over this axis, as torch.onnx.export(dynamo=True) does with nn.RNN and with loops over cells: "
            f"export the model anew with dynamo=False and dynamic_axes, or with this axis fixed at {steps}"
        )
        what = "the file declares an axis of any length, and goes through a fixed number of its places"
        raise step.refused(what, f"an axis of {steps}", f"axis {axis}, {step.reading.word(length)}", remedy)
    if sizes is None:
        each = [1] * length
    elif sizes.ndim == 0:
        part = max(int(sizes), 1)
        each = [min(part, length - at) for at in range(0, length, part)]
    else:
        each = [int(one) for one in sizes]
    if sum(each) != length or min(each, default=0) < 0:
        raise step.refused("these parts do not make up the axis", str(length), str(each))
    stops = [sum(each[: at + 1]) for at in range(len(each))]
    cuts = [(stop - size, stop if stop < length else None) for stop, size in zip(stops, each, strict=True)]
    return [Parts(x, axis, tuple(cuts), sizes is None and not step.integer("keepdims", 1))]


def _at(step: Step) -> Sequence[Value]:
    parts, position = step.value(0), int(step.weight(1, "the position").ravel()[0])
    if not isinstance(parts, Parts):
        raise step.refused("this sequence is not converted", "the parts of one tensor")
    count = len(parts.cuts)
    if not -count <= position < count:
        raise step.refused("no such place in the sequence", f"a place of {count}", str(position))
    start, stop = parts.cuts[position]
    if parts.dropped:
        return [picked(step, parts.whole, parts.axis, start)]
    return [step.sliced(parts.whole, parts.axis, start, stop)]


HANDLERS: dict[str, Callable[[Step], Sequence[Value]]] = {"SequenceAt": _at, "SplitToSequence": _split}
