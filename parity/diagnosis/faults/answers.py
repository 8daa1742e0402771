"""What is made of outputs: turned round, scaled, of the other sign; the mean over all steps where the last one belongs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial

import numpy as np

from parity.deferred import Array
from parity.diagnosis.case import Case
from parity.diagnosis.fault import Fault, Place
from parity.diagnosis.faults.layers import Factor
from parity.diagnosis.faults.sequences import final_lines
from parity.diagnosis.faults.wiring import (
    Moved,
    calling,
    final_states,
    given,
    mask_of,
    recurrent_call,
    recurrent_calls,
    used,
    without_steps,
)
from parity.diagnosis.repair import CallRepair
from parity.graph.graph import Node, Wire
from parity.graph.operations.operation import Shape
from parity.graph.operations.picking import Select
from parity.graph.operations.reduction import Reduction
from parity.network import Recurrent

_STEPS = "needs more than one step"


def answer_faults(case: Case) -> Iterator[Fault]:
    """Every mistake in what becomes of a model's outputs, and of the steps of a sequence.

    Args:
        case: the right model.
    """
    yield from _whole(case)
    for node, layer in recurrent_calls(case):
        yield from _mean_for_last(case, node, layer)
        yield from _last_for_mean(case, node, layer)


def _whole(case: Case) -> Iterator[Fault]:
    shapes = _shapes(case)
    names = _answers(shapes)
    wide = tuple(name for name in names if len(shapes[name]) > 1 and shapes[name][-1] > 1)
    for some in dict.fromkeys((*((name,) for name in wide), *([wide] if wide else []))):
        repair = CallRepair("", "output", "y = y.flip(-1)", "y = keras.ops.flip(y, axis=-1)")
        yield Fault(
            "units reversed",
            f"gives the units of {_called(names, some)} in the opposite order",
            Place(),
            partial(_on_outputs, names=some, formula=partial(np.flip, axis=-1)),
            (repair,) if some == names else None,
            rank=41,
        )
    if names:
        yield Fault(
            "output negated",
            f"gives {_called(names, names)} with the opposite sign",
            Place(),
            partial(_on_outputs, names=names, formula=np.negative),
            (CallRepair("", "output", "y = -y", "y = -y"),),
            rank=42,
        )


def _shapes(case: Case) -> dict[str, Shape]:
    """Of the outputs, by name."""
    shapes = {one.name: one.shape for one in case.graph.inputs}
    pairs = [pair for name, array in case.inputs.items() for pair in zip(shapes[name], array.shape, strict=False)]
    found = case.graph.shapes({word: length for word, length in pairs if isinstance(word, str)})
    return {name: found[wire] for name, wire in case.graph.outputs.items() if wire in found}


def _answers(outputs: Mapping[str, Shape]) -> tuple[str, ...]:
    """What a model gives; of a layer by itself its sequence, without the final states."""
    sequences = [name for name in outputs if not name.endswith(("state_h", "state_c"))]
    return tuple(sequences or outputs)


def scaled_output(case: Case) -> Callable[[float], Fault] | None:
    """A factor on all outputs; None where outputs have so few numbers that a factor would explain anything.

    Args:
        case: the right model.
    """
    shapes = _shapes(case)
    names = _answers(shapes)
    if not names or min(math.prod(shapes[name]) for name in names) < _FEWEST:
        return None
    return partial(_scaled, called=_called(names, names), names=names)


_FEWEST = 4


def _scaled(factor: float, called: str, names: tuple[str, ...]) -> Fault:
    back = f"y = y / {factor:.9g}"
    return Fault(
        "output scaled",
        f"gives {factor:.6g} times {called}",
        Place(),
        partial(_times, names=names, factor=factor),
        (CallRepair("", "output", back, back),),
        rank=43,
    )


def _called(names: tuple[str, ...], some: tuple[str, ...]) -> str:
    return " and ".join(f"'{name}'" for name in some) if len(names) > 1 else "its output"


def _on_outputs(case: Case, names: tuple[str, ...], formula: Callable[[Array], Array]) -> Case:
    for name in names:
        case = case.with_output(name, Moved(f"{name} changed", formula))
    return case


def _times(case: Case, names: tuple[str, ...], factor: float) -> Case:
    for name in names:
        case = case.with_output(name, Factor(f"{name} scaled", factor))
    return case


def _mean_for_last(case: Case, node: Node, layer: Recurrent) -> Iterator[Fault]:
    """The mean or the largest over all steps, where the right model takes the last step or the final state."""
    if layer.merge_mode is None or not _taken_at_end(case, node, layer):
        return
    masked = mask_of(node) is not None
    repair = (CallRepair(layer.name, "output", *_end_lines(case, node, layer)),)
    for function, words in _OVER_TIME.items():
        yield Fault(
            f"{function} over time",
            f"takes {words} over all steps, where the last one belongs",
            Place(layer.name),
            partial(_over_time, name=node.name, function=_FUNCTIONS[function]),
            repair,
            rank=29 if function == "mean" else 44,
            shows=_STEPS,
        )
        if masked and function == "mean":
            yield Fault(
                "mean over time",
                "takes the mean over the valid steps, where the last one belongs",
                Place(layer.name),
                partial(_over_time, name=node.name, function=_masked_mean, masked=True),
                repair,
                rank=29,
                shows=_STEPS,
            )


def _end_lines(case: Case, node: Node, layer: Recurrent) -> tuple[str, str]:
    """Lines that take what the right model takes at the end: a step of the sequence, or the final states."""
    selects = _selects(case, node.name) if layer.return_sequences else []
    if selects:
        operation = selects[0].operation
        assert isinstance(operation, Select)
        line = f"y = y[:, {operation.index}]"
        return line, line
    if layer.bidirectional:
        return final_lines(layer)
    return "y = h_n[-1]  # or output[:, -1]", "y = y[:, -1]"


_OVER_TIME = {"mean": "the mean", "max": "the largest value"}


def _mean(y: Array) -> Array:
    return np.asarray(y.mean(axis=1))


def _largest(y: Array) -> Array:
    return np.asarray(y.max(axis=1))


def _masked_mean(y: Array, mask: Array) -> Array:
    weights = mask[..., None].astype(np.float64)
    return np.asarray((y * weights).sum(axis=1) / np.maximum(weights.sum(axis=1), 1.0))


_FUNCTIONS = {"mean": _mean, "max": _largest}


def _taken_at_end(case: Case, node: Node, layer: Recurrent) -> bool:
    if not layer.return_sequences:
        return True
    return bool(_selects(case, node.name) or _h_wires(node, layer).keys() & used(case))


def _selects(case: Case, name: str) -> list[Node]:
    takers = case.graph.takers().get(Wire(name), ())
    return [
        one
        for one in takers
        if isinstance(one.operation, Select) and one.operation.axis == 1 and one.operation.index in (0, -1)
    ]


def _h_wires(node: Node, layer: Recurrent) -> dict[Wire, slice]:
    """The final h of every direction, with its columns in the output."""
    size = layer.spec.state_size
    wires = [wire for (state, _), wire in final_states(node, layer).items() if state == "h"]
    if len(wires) > 1 and layer.merges and layer.merge_mode != "concat":
        return {}
    return {wire: slice(at * size, (at + 1) * size) for at, wire in enumerate(wires)}


def _over_time(case: Case, name: str, function: Callable[..., Array], masked: bool = False) -> Case:
    node, layer = recurrent_call(case, name)
    mask = mask_of(node)
    if masked and mask is None:
        raise ValueError("nothing is masked")
    others = (mask,) if masked and mask is not None else ()
    if not layer.return_sequences:
        case = calling(case, name, replace(layer, return_sequences=True))
        return given(case, Wire(name), function, *others, shape=without_steps)
    taken = used(case)
    for one in _selects(case, name):
        case = given(case, Wire(one.name), lambda _, y, *m: function(y, *m), Wire(name), *others)
    for wire, columns in _h_wires(node, layer).items():
        if wire in taken:
            formula = partial(_columns_of, function=function, columns=columns)
            case = given(case, wire, formula, Wire(name), *others)
    return case


def _columns_of(_: Array, y: Array, *mask: Array, function: Callable[..., Array], columns: slice) -> Array:
    return function(y[..., columns], *mask)


def _last_for_mean(case: Case, node: Node, layer: Recurrent) -> Iterator[Fault]:
    """The last step or the final states, where the right model takes the mean, the sum or the largest over all steps."""
    if not layer.return_sequences or layer.merge_mode is None:
        return
    for taker in case.graph.takers().get(Wire(node.name), ()):
        operation = taker.operation
        if not isinstance(operation, Reduction) or operation.axes not in ((1,), (-2,)):
            continue
        code = f"y = output.{operation.function}(1)", f"y = keras.ops.{operation.function}(output, axis=1)"
        belongs = f"the {operation.function} over all steps belongs"
        ways = [("the last step", _last_there)]
        if layer.bidirectional and layer.merge_mode == "concat":
            ways.append(("the final states of both directions", _final_there))
        for taken, replay in ways:
            yield Fault(
                f"last step in place of the {operation.function}",
                f"takes {taken}, where {belongs}",
                Place(layer.name),
                partial(replay, name=node.name, taker=taker.name),
                (CallRepair(layer.name, "output", *code),),
                rank=29,
                shows=_STEPS,
            )


def _last_there(case: Case, name: str, taker: str) -> Case:
    return given(case, Wire(taker), lambda right, y: y[:, -1].reshape(right.shape), Wire(name))


def _final_there(case: Case, name: str, taker: str) -> Case:
    node, layer = recurrent_call(case, name)
    states = [wire for (state, _), wire in final_states(node, layer).items() if state == "h"]
    return given(case, Wire(taker), lambda right, *h: np.concatenate(h, axis=-1).reshape(right.shape), *states)


__all__ = ["answer_faults", "scaled_output"]
