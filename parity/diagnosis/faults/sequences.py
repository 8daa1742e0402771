"""Steps and directions: sequences turned round, the wrong step taken, batch and time exchanged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from parity.deferred import Array
from parity.diagnosis.case import Case
from parity.diagnosis.fault import Fault, Place
from parity.diagnosis.faults.wiring import (
    Formula,
    calling,
    earlier,
    fed,
    final_states,
    given,
    later,
    mask_of,
    recurrent_call,
    recurrent_calls,
    time_first,
    used,
    without_steps,
)
from parity.diagnosis.repair import CallRepair, OptionRepair
from parity.graph.graph import GraphInput, Node, Wire
from parity.graph.operations.picking import Flip, Select
from parity.graph.operations.shaping import ExpandDims, Length, Reshape, Transpose
from parity.network import Recurrent

_STEPS = "needs more than one step"


def sequence_faults(case: Case) -> Iterator[Fault]:
    """Every mistake of steps and directions that could be made in a model.

    Args:
        case: the right model.
    """
    for node, layer in recurrent_calls(case):
        yield from _turned(case, node, layer)
        yield from _last_steps(case, node, layer)
    yield from _transposed(case)
    for one in case.graph.inputs:
        yield from _inputs(case, one)


def _turned(case: Case, node: Node, layer: Recurrent) -> Iterator[Fault]:
    """A sequence the other way round, on the way in, out or both."""
    place, sequence = Place(layer.name), layer.return_sequences and layer.merge_mode is not None
    turn = partial(np.flip, axis=1)
    torch_in, keras_in = "x = x.flip(1)", "x = keras.ops.flip(x, axis=1)"
    torch_out, keras_out = "y = y.flip(1)", "y = keras.ops.flip(y, axis=1)"
    yield Fault(
        "reversed in time",
        "takes the steps of its input in the opposite order",
        place,
        lambda case: fed(case, node.name, 0, turn),
        (CallRepair(layer.name, "input", torch_in, keras_in),),
        rank=25,
        shows=_STEPS,
    )
    if not sequence:
        return
    yield Fault(
        "steps not turned back",
        _order_of(case, node, layer),
        place,
        lambda case: given(case, Wire(node.name), turn),
        (CallRepair(layer.name, "output", torch_out, keras_out),),
        rank=4 if layer.spec.directions == ("backward",) or _is_turned(case, node) else 26,
        shows=_STEPS,
    )
    yield Fault(
        "other direction",
        "runs in the opposite direction in time: its input is reversed and its outputs are turned back",
        place,
        lambda case: given(fed(case, node.name, 0, turn), Wire(node.name), turn),
        (CallRepair(layer.name, "input", torch_in, keras_in), CallRepair(layer.name, "output", torch_out, keras_out)),
        rank=24,
        shows=_STEPS,
    )


def _order_of(case: Case, node: Node, layer: Recurrent) -> str:
    if layer.reverse:
        return (
            "turns the outputs of a backward layer back into the order of the input's steps, "
            "where go_backwards=True leaves them in the order of processing"
        )
    if layer.spec.directions == ("backward",) or _is_turned(case, node):
        return (
            "leaves the outputs of a backward layer in the order of processing, as go_backwards=True does, "
            "where they belong into the order of the input's steps"
        )
    return "gives its outputs in the opposite order of the steps"


def _is_turned(case: Case, node: Node) -> bool:
    """Whether the right model turns a layer's input and outputs round in time itself."""
    flips = {one.name: one for one in case.graph.nodes if isinstance(one.operation, Flip)}
    before = node.inputs[0] is not None and node.inputs[0].node in flips
    return before and any(Wire(node.name) in one.inputs for one in flips.values())


def _last_steps(case: Case, node: Node, layer: Recurrent) -> Iterator[Fault]:
    """The output at one end of the sequence in place of the state after the last step that each direction processes."""
    states = {way: wire for (state, way), wire in final_states(node, layer).items() if state == "h"}
    if layer.merge_mode is None or (layer.return_sequences and not used(case) & set(states.values())):
        yield from _picked(case, node, layer)
        return
    masked = mask_of(node) is not None
    for index, said in ((-1, "[:, -1]"), (0, "[:, 0]")):
        right = {"forward": -1, "backward": 0}
        wrong = [way for way in layer.spec.directions if right[way] != index]
        if not wrong and not (masked and index == -1):
            continue
        if not wrong:
            cause = f"takes output{said}, the last step of the padding, in place of the state after the last valid step"
        elif layer.bidirectional:
            cause = (
                f"takes output{said} in place of the final states of both directions: "
                f"the {wrong[0]} one has seen a single step there"
            )
        else:
            cause = f"takes output{said}, the step that it processes first, in place of the final state"
        yield Fault(
            "step in place of the final state",
            cause,
            Place(layer.name, wrong[0] if layer.bidirectional and wrong else ""),
            partial(_at_step, name=node.name, index=index),
            (CallRepair(layer.name, "output", *final_lines(layer, f"output{said}")),),
            rank=(4 if layer.bidirectional else 12) if index == -1 else 22,
            shows="needs unequal lengths" if not wrong else _STEPS,
        )
    yield from _picked(case, node, layer)


_ENDS = {0: "first", -1: "last"}


def final_lines(layer: Recurrent, wrong: str = "") -> tuple[str, str]:
    """Lines of torch and of Keras that take the final states of a layer.

    Args:
        layer: of the right model.
        wrong: what the suspect takes in their place, as code.
    """
    told = f"  # not {wrong}" if wrong else ""
    if layer.bidirectional:
        return (
            f"y = torch.cat([h_n[-2], h_n[-1]], dim=-1){told}",
            "y = keras.ops.concatenate([forward_h, backward_h], axis=-1)  # or return_sequences=False",
        )
    return f"y = h_n[-1]{told}", "y = state_h  # or return_sequences=False"


def _at_step(case: Case, name: str, index: int) -> Case:
    """A step of the sequence in place of h; at padded steps of a layer that gives none it is zero, as packed sequences leave it."""
    node, layer = recurrent_call(case, name)
    states = {way: wire for (state, way), wire in final_states(node, layer).items() if state == "h"}
    if layer.return_sequences:
        if layer.merges:
            raise ValueError("the directions cannot be told apart")
        width, step = layer.spec.state_size, -1 - index if layer.reverse else index
        for number, wire in enumerate(states.values()):
            columns = slice(number * width, (number + 1) * width)
            case = given(case, wire, partial(_step_of, index=step, columns=columns), Wire(name))
        return case
    steps = replace(layer, return_sequences=True, reverse=False, fill="zero")
    return given(calling(case, name, steps), Wire(name), lambda y: y[:, index], shape=without_steps)


def _step_of(_: Array, y: Array, index: int, columns: slice) -> Array:
    return y[:, index, columns]


def _picked(case: Case, node: Node, layer: Recurrent) -> Iterator[Fault]:
    """The right model takes a step of the sequence itself: another end, or the final states in its place."""
    for taker, axis in _takers(case, Wire(node.name)) if layer.return_sequences else ():
        index = _step_taken(taker, axis)
        if index is None:
            continue
        other = 0 if index == -1 else -1
        yield Fault(
            "wrong step",
            f"takes the {_ENDS[other]} step of the sequence, where the {_ENDS[index]} one belongs",
            Place(layer.name),
            partial(_other_step, taker=taker.name, index=other, axis=axis),
            (CallRepair(layer.name, "output", f"y = y[:, {index}]", f"y = y[:, {index}]"),),
            rank=21,
            shows=_STEPS,
        )
        if layer.bidirectional and layer.merge_mode == "concat" and axis == 1:
            yield Fault(
                "final states in place of a step",
                f"takes the final states of both directions, as return_sequences=False gives them, where output[:, {index}] belongs",
                Place(layer.name, "backward" if index == -1 else "forward"),
                partial(_final_there, name=node.name, taker=taker.name),
                (CallRepair(layer.name, "output", f"y = output[:, {index}]", f"y = output[:, {index}]"),),
                rank=3,
                shows=_STEPS,
            )


def _takers(case: Case, wire: Wire, axis: int = 1) -> Iterator[tuple[Node, int]]:
    """Who takes a sequence, as it is or under another shape; with the axis of its steps there."""
    for node in case.graph.takers().get(wire, ()):
        operation = node.operation
        if isinstance(operation, Reshape) and axis == 1 and _keeps_steps(operation):
            yield from _takers(case, Wire(node.name))
        elif isinstance(operation, Transpose):
            yield from _takers(case, Wire(node.name), operation.axes.index(axis))
        elif isinstance(operation, ExpandDims) and min(operation.axes) >= 0:
            yield from _takers(case, Wire(node.name), _behind_new(axis, operation.axes))
        else:
            yield node, axis


def _keeps_steps(reshape: Reshape) -> bool:
    return [size.axis if isinstance(size, Length) and size.times == 1 else None for size in reshape.sizes[:2]] == [0, 1]


def _behind_new(axis: int, new: tuple[int, ...]) -> int:
    """Where an axis is when others of length 1 are put in."""
    kept = [place for place in range(axis + len(new) + 1) if place not in new]
    return kept[axis]


def _step_taken(node: Node, axis: int) -> int | None:
    """0 or -1 where a node takes the first or the last step."""
    operation = node.operation
    if isinstance(operation, Select) and operation.axis == axis and operation.index in (0, -1):
        return operation.index
    return None


def _other_step(case: Case, taker: str, index: int, axis: int) -> Case:
    wire = case.graph.node(taker).inputs[0]
    assert wire is not None
    return given(case, Wire(taker), lambda _, y: y.take(index, axis=axis), wire)


def _final_there(case: Case, name: str, taker: str) -> Case:
    node, layer = recurrent_call(case, name)
    states = [wire for (state, _), wire in final_states(node, layer).items() if state == "h"]
    return given(case, Wire(taker), lambda taken, *h: np.concatenate(h, axis=-1).reshape(taken.shape), *states)


def _transposed(case: Case) -> Iterator[Fault]:
    """Batch and time exchanged."""
    calls = [(node, layer) for node, layer in recurrent_calls(case) if mask_of(node) is None]
    names = [node.name for node, _ in calls]
    groups: list[tuple[tuple[str, ...], str]] = [
        ((name,), layer.name) for name, (_, layer) in zip(names, calls, strict=True)
    ]
    if len(names) > 1:
        groups.append((tuple(names), ""))
    for group, layer in groups:
        for end, words in _ENDS_EXCHANGED.items():
            if end and not _has_end(case, group[-1], end):
                continue
            yield Fault(
                "batch and time exchanged",
                "takes the batch for the time axis (batch_first mistaken): it runs through the samples as if they were steps"
                + words,
                Place(layer),
                partial(_exchanged, names=group, end=end),
                (
                    OptionRepair(layer, "batch_first", "True for inputs (batch, time, features)", "False"),
                    CallRepair(layer, "input", "x = x.transpose(0, 1)  # and y = y.transpose(0, 1) behind it", ""),
                ),
                rank=11,
                shows="needs more than one sample, and more than one step",
            )


_ENDS_EXCHANGED = {
    "": "",
    "step": ", and takes output[:, -1], which is a sample there",
    "state": ", and takes the final state h_n[-1], of which there is one for every step",
}
"""What is taken at the end of the last of the layers: what the right model takes there, a step of the output, the final state."""


def _has_end(case: Case, name: str, end: str) -> bool:
    """Whether a right model can take another end of a sequence by mistake: a step for its final state, or a final state for its step."""
    node, layer = recurrent_call(case, name)
    if layer.merge_mode is None or (layer.bidirectional and end == "step"):
        return False
    states = {wire for (state, _), wire in final_states(node, layer).items() if state == "h"}
    takes_state = not layer.return_sequences or bool(states & used(case))
    steps = _takers(case, Wire(name)) if layer.return_sequences else ()
    return takes_state if end == "step" else any(_step_taken(*one) == -1 for one in steps)


def _exchanged(case: Case, names: tuple[str, ...], end: str = "") -> Case:
    turn = partial(np.swapaxes, axis1=0, axis2=1)
    for name in names:
        node, layer = recurrent_call(case, name)
        if layer.merge_mode is None:
            raise ValueError("its outputs have another shape then")
        if any(wire is not None and not _is_zero(case, wire) for wire in node.inputs[2:]):
            raise ValueError("its initial states have another shape then")
        case = case.with_inputs(name, node.inputs[:2])
        case = fed(case, name, 0, turn, shape=time_first)
        at_end = end if name == names[-1] else ""
        if at_end == "step" and not layer.return_sequences:
            case = calling(case, name, replace(layer, return_sequences=True))
            case = given(case, Wire(name), lambda y: y[-1], shape=lambda shape: shape[1:])
        elif at_end == "step":
            h = next(wire for (state, _), wire in final_states(node, layer).items() if state == "h")
            case = given(case, h, lambda _, y: y[-1], Wire(name))
        if layer.return_sequences and at_end != "state":
            case = given(case, Wire(name), turn, shape=time_first)
    return case


def _is_zero(case: Case, wire: Wire) -> bool:
    return wire.node in case.inputs and not np.any(case.inputs[wire.node])


def _inputs(case: Case, one: GraphInput) -> Iterator[Fault]:
    """The model's own input: features the other way round, steps one earlier or later, all steps turned round."""
    array = case.inputs[one.name]
    if "time" not in one.shape or one.shape.index("time") != 1 or one.dtype == "bool":
        return
    if array.ndim == 3 and one.dtype == "float32":
        yield Fault(
            "features reversed",
            f"takes the features of its input '{one.name}' in the opposite order",
            Place(),
            lambda case: given(case, Wire(one.name), partial(np.flip, axis=-1)),
            (CallRepair("", "input", "x = x.flip(-1)", "x = keras.ops.flip(x, axis=-1)"),),
            rank=40,
        )
    direct = [node for node in case.graph.takers().get(Wire(one.name), ()) if isinstance(node.operation, Recurrent)]
    if len(direct) != 1 or len(case.graph.takers()[Wire(one.name)]) > 1:
        yield Fault(
            "reversed in time",
            f"takes the steps of its input '{one.name}' in the opposite order",
            Place(),
            lambda case: given(case, Wire(one.name), partial(np.flip, axis=1)),
            (CallRepair("", "input", "x = x.flip(1)", "x = keras.ops.flip(x, axis=1)"),),
            rank=25,
            shows=_STEPS,
        )
    for shift, words in ((later, "later, with zeros first"), (earlier, "earlier, with zeros last")):
        yield Fault(
            "shifted by a step",
            f"takes every step of its input '{one.name}' one step {words}",
            Place(),
            partial(_shifted, name=one.name, shift=shift),
            None,
            rank=35,
            shows=_STEPS,
        )


def _shifted(case: Case, name: str, shift: Formula) -> Case:
    return given(case, Wire(name), shift)


__all__ = ["final_lines", "sequence_faults"]
