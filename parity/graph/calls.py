"""Calling an operation of a graph: its own `shapes` and `compute`, and those of the layers of `parity.network`.

    layer           takes                                                    gives
    Recurrent       x, mask or None, then states or none at all              what it gives on, then every state, as `Recurrent.values`
    Bidirectional   x, mask or None                                          what it gives on: one value, or two with merge_mode None
    Dense           x, features on the last axis                             y
    Embedding       integers of any shape                                    rows, on a new last axis
    Masking         x, (batch, time, features)                               x with zeros at masked steps
    Dropout         x                                                        x

States are (batch, features) each, in Keras's order: h, c of the forward direction, then of the backward one. A mask is (batch, time), True
where a step is valid. Masks are values of their own: nothing makes or hands on a mask silently.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from parity.errors import ShapeError
from parity.graph.operations.operation import Operation, Shape, all_of
from parity.network import Bidirectional, Dense, Dropout, Embedding, Masking, Recurrent
from parity.recurrent import RecurrentSpec
from parity.reference import Rounding
from parity.result import State, zero_state

Layered: TypeAlias = Operation | Recurrent | Bidirectional | Dense | Embedding | Masking | Dropout


def shapes_of(operation: Layered, shapes: Sequence[Shape | None]) -> tuple[Shape, ...]:
    """Shapes of what an operation gives, from the shapes of what it takes.

    Raises:
        ShapeError: it cannot take them.

    Example:
        >>> shapes_of(Dense("classes", np.ones((3, 2))), [(5, 7, 3)])
        ((5, 7, 2),)
    """
    if isinstance(operation, (Recurrent, Bidirectional)):
        return _recurrent_shapes(operation, shapes)
    if not isinstance(operation, (Dense, Embedding, Masking, Dropout)):
        return operation.shapes(*shapes)
    (shape,) = all_of(shapes, 1, operation.name)
    if isinstance(operation, Dense):
        bias = operation.held("bias")
        if shape[-1:] != (operation.input_size,) or (
            bias is not None and tuple(bias.shape) != (operation.output_size,)
        ):
            raise ShapeError("another number of features", operation.name, str(operation.input_size), str(shape))
        return ((*shape[:-1], operation.output_size),)
    if isinstance(operation, Embedding):
        return ((*shape, operation.output_size),)
    if isinstance(operation, Masking) and not shape:
        raise ShapeError("a number has no steps", operation.name, "(batch, time, features)", str(shape))
    return (shape,)


def _recurrent_shapes(layer: Recurrent | Bidirectional, shapes: Sequence[Shape | None]) -> tuple[Shape, ...]:
    x, mask, *states = (*shapes, None, None)[: max(len(shapes), 2)]
    if x is None or len(x) != 3 or x[-1] != layer.input_size or not x[1]:
        raise ShapeError("another shape than the layer takes", layer.name, f"(batch, time, {layer.input_size})", str(x))
    batch, time = x[:2]
    if mask not in (None, (batch, time)):
        raise ShapeError("a mask of another shape", layer.name, f"(batch, time): {(batch, time)}", str(mask))
    if isinstance(layer, Bidirectional):
        return _merged_shapes(layer, (batch, time) if layer.return_sequences else (batch,), states)
    expected: list[Shape | None] = [(batch, size) for size in _state_sizes(layer.spec)]
    if any(state is not None for state in states) and states != expected:
        raise ShapeError("other states than the layer takes", layer.name, str(expected), str(states))
    spec = layer.spec
    sizes = {
        "batch": batch,
        "time": time,
        "direction": len(spec.directions),
        "hidden": spec.hidden_size,
        "state": spec.state_size,
    }
    return tuple(tuple(int(size) for size in value.shape(sizes)) for value in layer.values)


def _merged_shapes(layer: Bidirectional, steps: Shape, states: Sequence[Shape | None]) -> tuple[Shape, ...]:
    """Of what two unlike directions give; only concatenated or both handed over may they differ in size."""
    if any(state is not None for state in states):
        raise ShapeError("states are not given to unlike directions", layer.name)
    sizes = [stack[-1].output_size for stack in layer.stacks]
    if layer.merge_mode is None:
        return tuple((*steps, size) for size in sizes)
    if layer.merge_mode != "concat" and len(set(sizes)) != 1:
        raise ShapeError("directions of two sizes cannot be merged so", layer.name, layer.merge_mode, str(sizes))
    return ((*steps, layer.output_size),)


def _state_sizes(spec: RecurrentSpec) -> list[int]:
    """Features of every state, in the order of the inputs."""
    return [spec.state_shape(state, 1)[-1] for _ in spec.directions for state in spec.states]


def computed(operation: Layered, values: Sequence[Any], rounding: Rounding) -> tuple[Any, ...]:
    """What an operation gives in float64, from what it takes.

    Raises:
        ShapeError: it cannot take them.

    Example:
        >>> from parity.reference import Exact
        >>> computed(Dense("classes", np.ones((3, 2))), [np.ones((5, 7, 3))], Exact())[0].shape
        (5, 7, 2)
    """
    shapes_of(operation, [None if value is None else value.shape for value in values])
    if isinstance(operation, Recurrent):
        return _recurrent(operation, values, rounding)
    if isinstance(operation, Bidirectional):
        x, mask = (*values, None)[:2]
        starts = {layer.name: zero_state(layer.spec, len(x), "float64") for layer in operation.recurrent}
        paths = operation.compute(x, starts, rounding, mask)
        return operation.given({name: path.run for name, path in paths.items()})
    if isinstance(operation, Dense):
        (x,) = values
        rows = (
            x.reshape(x.shape[0], math.prod(x.shape[1:-1]), x.shape[-1]) if x.ndim > 3 else x if x.ndim > 1 else x[None]
        )
        y = operation.compute(rows, rounding)
        return (y.reshape(*x.shape[:-1], y.shape[-1]),)
    if isinstance(operation, Embedding):
        return (operation.compute(_rows_of(operation, values[0]), rounding),)
    if isinstance(operation, Masking):
        return (operation.compute(values[0]),)
    if isinstance(operation, Dropout):
        return (values[0],)
    return operation.compute(*values, rounding=rounding)


def _rows_of(layer: Embedding, x: Any) -> Any:
    """The integers, if the table has a row for each."""
    if x.dtype.kind not in "iu" or (x.size and not 0 <= x.min() <= x.max() < layer.input_size):
        got = f"{x.dtype} from {x.min()} to {x.max()}" if x.size else str(x.dtype)
        raise ShapeError("no such rows in the table", layer.name, f"integers from 0 to {layer.input_size - 1}", got)
    return x


def _recurrent(layer: Recurrent, values: Sequence[Any], rounding: Rounding) -> tuple[Any, ...]:
    x, mask, *states = (*values, None)[: max(len(values), 2)]
    given = [state for state in states if state is not None]
    start = zero_state(layer.spec, len(x), "float64")
    if given:
        kinds = len(layer.spec.states)
        start = State(*(np.stack(given[kind::kinds]) for kind in range(kinds)))
    run = layer.compute(x, start, rounding, mask).run
    return tuple(value.of([run]) for value in layer.values)


__all__ = ["Layered", "computed", "shapes_of"]
