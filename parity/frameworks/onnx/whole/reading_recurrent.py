"""LSTM, GRU and RNN nodes, in the shapes of ONNX around a layer that takes and gives the batch first.

Source: the ONNX operator specification of LSTM, GRU and RNN.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from parity.conventions import onnx_returns
from parity.errors import Problem, UnsupportedError
from parity.frameworks.onnx.constants import Constant
from parity.frameworks.onnx.options import options_of
from parity.frameworks.onnx.trace import RECURRENT_OPS
from parity.frameworks.onnx.weights import POSITIONS, Weight, is_float, layer_of
from parity.frameworks.onnx.whole.reading_frozen import advice
from parity.frameworks.onnx.whole.reading_masks import first_output
from parity.frameworks.onnx.whole.reading_picking import picked
from parity.frameworks.onnx.whole.reading_step import Step, same_length
from parity.frameworks.onnx.whole.reading_values import Sizes, Spread, Sym, Unknown, Value
from parity.frameworks.onnx.whole.reading_widening import positions
from parity.graph import Wire
from parity.graph.operations import Stack
from parity.layouts import STATES
from parity.network import Recurrent

_STEPS = ("batch", "time")


def _recurrent(step: Step) -> Sequence[Value]:
    kind = RECURRENT_OPS[step.op]
    options = options_of(kind, step.attributes, step.where)
    arrays = _weights(step)
    made = layer_of(step.layer(kind, *POSITIONS.values()), kind, options, arrays, step.attributes, step.where)
    fill = step.reading.masked.get(first_output(step.node))
    if fill is not None:
        made = replace(made, fill=fill)
    operation = step.reading.shared(made, step.origins(*POSITIONS.values()))
    assert isinstance(operation, Recurrent)
    axes = {value.quantity: value.axes.split() for value in onnx_returns(kind, options.layout)}
    own = [axis for axis in axes["sequence"] if axis in _STEPS]
    x = step.transposed(step.value(0), [*(own.index(axis) for axis in _STEPS), 2])
    mask = _mask(step, x) if fill is None else step.transposed(step.value(4), [1, 0])
    states = _states(step, operation, axes["h"], step.shape(x)[0])
    given = (mask, *states) if states else (mask,) if mask is not None else ()
    # What the node of a layer with a mask gives are not the layer's values: its steps stand in another order.
    found = step.call(operation, x, *given, source=fill is None)
    if not isinstance(found, Wire):
        raise step.refused("a recurrent layer over a constant is not converted", "a value that the model computes")
    return [
        _returned(step, operation, found, value.quantity, value.axes.split()) if _is_used(step, at) else Unknown()
        for at, value in enumerate(onnx_returns(kind, options.layout))
    ]


def _is_used(step: Step, position: int) -> bool:
    name = step.node.output[position] if position < len(step.node.output) else ""
    return bool(name) and step.reading.uses[name] > 0


def _weights(step: Step) -> dict[str, Weight]:
    """The weights, by the operator's own names."""
    arrays: dict[str, Weight] = {}
    problems: list[Problem] = []
    for name, position in POSITIONS.items():
        if not step.has(position):
            continue
        constant = step.inputs[position]
        if isinstance(constant, Constant) and is_float(constant):
            arrays[name] = Weight(constant)
            if constant.dtype.itemsize == 2:
                step.reading.stored.add(constant.dtype.name)
        else:
            what = f"{name} is not a constant of floating-point numbers"
            error = step.refused(what, "an initializer or a Constant node", step.node.input[position])
            problems += error.problems
    if problems:
        raise UnsupportedError(problems)
    return arrays


def _mask(step: Step, x: Value) -> Value | None:
    """Which steps are valid, (batch, time), from the lengths of the sequences; None where all are."""
    if not step.has(4):
        return None
    lengths, time = step.value(4), step.shape(x)[1]
    if isinstance(lengths, (Sizes, Spread)):
        listed = lengths.listed if isinstance(lengths, Sizes) else [lengths.length]
        if all(same_length(time, length) for length in listed):
            return None
        raise step.refused("sequence_lens computed from lengths of axes", "the length of the sequence, or an input")
    if isinstance(lengths, Constant) and isinstance(time, int) and step.reading.is_uniform(lengths, time):
        return None
    samples = _samples(step, lengths, 0, step.shape(x)[0])
    if samples is not None:
        what, got = "sequence_lens that is not an input", f"a constant of {samples} samples"
        raise step.refused(what, "an input of the graph, for any batch", got, "make it an input of the graph")
    counts = step.expanded(step.cast(lengths, "int"), [1])
    return step.elementwise("less", positions(step, time), counts)


def _samples(step: Step, value: Value, axis: int, batch: int | Sym) -> int | None:
    """How many samples a constant is for, if the model takes other batches, too."""
    if not isinstance(value, Constant) or len(value.shape) <= axis or same_length(value.shape[axis], batch):
        return None
    return value.shape[axis]


def _check_batch(step: Step, value: Value, name: str, axis: int, batch: int | Sym) -> None:
    """Refuse a state of a fixed number of samples in a model for any batch.

    Raises:
        UnsupportedError: it is one.
    """
    samples = step.shape(value)[axis]
    if isinstance(batch, int) or not isinstance(samples, int):
        return
    built_in = isinstance(value, Constant)
    what = (
        f"a built-in initial state of {samples} samples"
        if built_in
        else f"an initial state of {samples} samples, whatever the batch"
    )
    kept = "make it an input of the graph and hand the state over"
    remedy = f"the export fixed the batch here: {advice(step.reading)}, or {kept}"
    raise step.refused(what, "zeros, or a state for any batch", name, remedy)


def _states(step: Step, layer: Recurrent, axes: Sequence[str], batch: int | Sym) -> list[Value]:
    """Initial states in the layer's order, or none where all of them are zero."""
    given: dict[str, Value] = {}
    for at, state in enumerate(STATES[layer.spec.kind], 5):
        if step.has(at) and not step.reading.is_uniform(step.value(at), 0.0):
            given[state] = step.value(at)
            _check_batch(step, given[state], f"initial_{state}", axes.index("batch"), batch)
    if not given:
        return []
    place = axes.index("direction")
    found = []
    for direction in range(len(layer.spec.directions)):
        for state in STATES[layer.spec.kind]:
            value = given.get(state)
            if value is None:
                other = picked(step, next(iter(given.values())), place, direction)
                found.append(step.elementwise("multiply", other, 0.0))
            else:
                found.append(picked(step, value, place, direction))
    return found


def _returned(step: Step, layer: Recurrent, wire: Wire, quantity: str, axes: Sequence[str]) -> Value:
    """A value as the node gives it, from what the layer gives batch first."""
    place = axes.index("direction")
    if quantity == "sequence":
        order = [axis for axis in axes if axis in _STEPS]
        if not layer.bidirectional:
            y = step.transposed(wire, [*(_STEPS.index(axis) for axis in order), 2])
            return step.expanded(y, [place])
        batch, time, _ = step.shape(wire)
        split = step.reshaped(wire, [batch, time, len(layer.spec.directions), layer.spec.state_size])
        full = (*_STEPS, "direction", "hidden")
        return step.transposed(split, [full.index(axis) for axis in axes])
    states = [
        Wire(wire.node, index)
        for index, value in enumerate(layer.values)
        if index >= len(layer.given) and value.quantity == quantity
    ]
    if len(states) == 1:
        return step.expanded(states[0], [place])
    return step.call(Stack(step.name(f"state_{quantity}"), place), *states)


HANDLERS: dict[str, Callable[[Step], Sequence[Value]]] = dict.fromkeys(RECURRENT_OPS, _recurrent)
