"""One recurrent layer as ONNX nodes: the native operator wherever it says the layer, else the smallest composition around it.

A projection (torch's `proj_size`) is an LSTM that takes W_hr h instead of h, so the native operator computes it with the recurrent matrix
W_hh W_hr, and one product after it gives the projected h of every step. Where the layer starts from a given state, which is a
projected one already, that state joins the inputs of the first step, with W_hh as its weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from parity.cell import Cell, plain_cell
from parity.conventions import onnx_returns
from parity.frameworks.onnx.nodes import DOUBLE, FLOAT, INT64, Assembly
from parity.frameworks.onnx.options import NODE_DIRECTIONS
from parity.frameworks.onnx.scanning import add_scan
from parity.frameworks.onnx.trace import RECURRENT_OPS
from parity.functions import FUNCTIONS
from parity.layouts import LAYOUTS
from parity.network import Recurrent
from parity.recurrent import DIRECTIONS, Array, Weights, pack, unpack

OPS = {kind: op for op, kind in RECURRENT_OPS.items()}
ONNX_DIRECTIONS = {directions: name for name, directions in NODE_DIRECTIONS.items()}


@dataclass(frozen=True)
class Given:
    """What a recurrent layer gets in the graph.

    Args:
        x: (time, batch, input).
        lengths: (batch,) of int32, how many of the first steps count; None for all.
        initial: the state before the first step, in the order of `RecurrentSpec.states`; None for zeros.
    """

    x: str
    lengths: str | None = None
    initial: tuple[str, ...] | None = None


def add_layer(assembly: Assembly, layer: Recurrent, given: Given, node: str | None = None) -> tuple[str, ...]:
    """Adds a layer; gives its values in the order of `onnx_returns`: (time, direction, batch, state), (direction, batch, features).

    Args:
        assembly: of the graph.
        layer: with its weights, which are added once however often it is called.
        given: what it gets.
        node: name of the node that stands for this call, where it is not the layer's.
    """
    parts = list(parts_of(layer))
    if len(parts) == 1:
        return _add_part(assembly, layer.name, 0, parts[0], given, node)
    found = []
    for index, part in enumerate(parts):
        own = given
        if given.initial is not None:
            initial = [
                assembly.picked(state, 0, index, f"{part.name}.initial_{name}", keep=True)
                for name, state in zip(layer.spec.states, given.initial, strict=True)
            ]
            own = replace(given, initial=tuple(initial))
        found.append(_add_part(assembly, layer.name, index, part, own, node))
    return tuple(
        assembly.node("Concat", values, f"{layer.name}.{row.name}", axis=row.axes.split().index("direction"))
        for row, *values in zip(onnx_returns(layer.spec.kind), *found, strict=True)
    )


def parts_of(layer: Recurrent) -> Iterator[Recurrent]:
    """The layer itself, or each of its directions where one node cannot say both.

    Example:
        >>> from parity.recurrent import RecurrentSpec
        >>> weights = [Weights(np.ones((4, 5, 3)), np.ones((4, 5, 2)), projection=np.ones((2, 5)))] * 2
        >>> layer = Recurrent("lstm", RecurrentSpec("lstm", 3, 5, DIRECTIONS, projection_size=2), tuple(weights))
        >>> [part.name for part in parts_of(layer)]
        ['lstm.forward', 'lstm.backward']
    """
    options = {replace(cell, functions=()) for cell in layer.cells}
    if len(options) == 1 and not _needs_scan(layer) and not layer.spec.projection_size:
        yield layer
        return
    for index, direction in enumerate(layer.spec.directions):
        name = f"{layer.name}.{direction}" if layer.bidirectional else layer.name
        spec = replace(layer.spec, directions=(direction,))
        yield replace(layer, name=name, spec=spec, weights=(layer.weights[index],), cells=(layer.cells[index],))


def _needs_scan(layer: Recurrent) -> bool:
    return any(FUNCTIONS[function.name].onnx is None for cell in layer.cells for function in cell.functions)


def packed_arrays(part: Recurrent) -> dict[str, Array]:
    """What the initializers of a part hold, by the operator's own names; and its projection, (direction, state, hidden)."""
    packed = pack(LAYOUTS["onnx", part.spec.kind], part.spec, part.weights)
    if part.spec.projection_size:
        packed["projection"] = np.stack([np.asarray(weights.projection) for weights in part.weights])
    return packed


def unpacked_arrays(part: Recurrent, arrays: Mapping[str, Array]) -> tuple[Weights, ...]:
    """The inverse of `packed_arrays`; a bias that the part does not have stays away."""
    native = {key: array for key, array in arrays.items() if key != "projection"}
    # A projection's shape is its own: the row of the table for the operator does not know it.
    found = unpack(LAYOUTS["onnx", part.spec.kind], part.spec, native)
    weights = []
    for index, (own, new) in enumerate(zip(part.weights, found, strict=True)):
        members = {name: getattr(new, name) for name in vars(own) if own.member(name) is not None}
        if own.projection is not None:
            members["projection"] = arrays["projection"][index]
        weights.append(Weights(**members))
    return tuple(weights)


def _add_part(
    assembly: Assembly, layer: str, index: int, part: Recurrent, given: Given, call: str | None
) -> tuple[str, ...]:
    names = assembly.homes.get((layer, index)) or assembly.weights(layer, packed_arrays(part), index, part.name)
    own = layer if call is None else call
    node = own if part.name == layer else assembly.node_name(f"{own}{part.name.removeprefix(layer)}")
    if _needs_scan(part):
        return add_scan(assembly, part, names, given.x, given.lengths, given.initial, node)
    add = _add_projected if part.spec.projection_size else _add_native
    return add(assembly, part, names, given, node)


def _add_native(assembly: Assembly, part: Recurrent, names: dict[str, str], given: Given, node: str) -> tuple[str, ...]:
    states = given.initial or ()
    inputs = [given.x, names["W"], names["R"], names.get("B", ""), given.lengths or "", *states]
    if "P" in names:
        inputs += [""] * (7 - len(inputs)) + [names["P"]]
    while not inputs[-1]:
        inputs.pop()
    outputs = [f"{part.name}.{value.name}" for value in onnx_returns(part.spec.kind)]
    attributes = {"hidden_size": part.spec.hidden_size, "direction": ONNX_DIRECTIONS[part.spec.directions]}
    return tuple(assembly.nodes_of(OPS[part.spec.kind], inputs, outputs, node, **attributes, **attributes_of(part)))


def attributes_of(part: Recurrent) -> dict[str, Any]:
    """The attributes that say how the cells differ from the operator's default one."""
    options: dict[str, Any] = {}
    cell: Cell = part.cells[0]
    functions = [function for one in part.cells for function in one.functions]
    if any(one.functions != plain_cell(part.spec.kind).functions for one in part.cells):
        options["activations"] = [str(FUNCTIONS[function.name].onnx) for function in functions]
        # Always written: without them ONNX Runtime takes other values than the specification says.
        for key, values in (("alpha", [f.alpha for f in functions]), ("beta", [f.beta for f in functions])):
            if given := [float(value) for value in values if value is not None]:
                options[f"activation_{key}"] = given
    if part.spec.kind == "gru":
        options["linear_before_reset"] = int(cell.reset_after)
    if cell.clip is not None:
        options["clip"] = float(cell.clip)
    if cell.input_forget:
        options["input_forget"] = 1
    return options


def _add_projected(
    assembly: Assembly, part: Recurrent, names: dict[str, str], given: Given, node: str
) -> tuple[str, ...]:
    a, name = assembly, part.name
    native = {key: tensor for key, tensor in names.items() if key != "projection"}
    native["R"] = _product_rounded_once(a, names["R"], names["projection"], name)
    own = Given(given.x, given.lengths)
    if given.initial is not None:
        native["W"] = a.node("Concat", [names["W"], names["R"]], f"{name}.W_and_R", axis=2)
        own = replace(own, x=_with_first_state(a, part, given), initial=("", given.initial[1]))
    sequence, *states = _add_native(a, part, native, own, node)
    turned = a.node("Transpose", [names["projection"]], f"{name}.projection.transposed", perm=[0, 2, 1])
    returns = onnx_returns(part.spec.kind)
    y, h = (
        a.node("MatMul", [value, turned], f"{name}.{row.name}.projected")
        for row, value in zip(returns, (sequence, states[0]), strict=False)
    )
    return (y, h, *states[1:])


def _product_rounded_once(assembly: Assembly, recurrent: str, projection: str, name: str) -> str:
    """W_hh W_hr, (direction, gates*hidden, hidden), computed in float64 and rounded once; ONNX Runtime does so when it loads."""
    precise = [
        assembly.cast(value, DOUBLE, f"{name}.{key}.float64")
        for key, value in (("R", recurrent), ("projection", projection))
    ]
    return assembly.cast(assembly.node("MatMul", precise, f"{name}.product.float64"), FLOAT, f"{name}.product")


def _with_first_state(assembly: Assembly, part: Recurrent, given: Given) -> str:
    """x with the given h as more features of the step that is processed first, and zeros there at all others."""
    a, name = assembly, part.name
    assert given.initial is not None
    a.needs(11, "a given state of a projected layer", f"layer '{part.name}'")
    steps = a.counted(given.x, 0, f"{name}.steps")
    if part.spec.directions == DIRECTIONS[:1]:
        first = a.constant(f"{name}.first", np.asarray(0, np.int64))
    else:
        count = (
            a.length(given.x, 0, f"{name}.count")
            if given.lengths is None
            else a.cast(given.lengths, INT64, f"{name}.lengths")
        )
        first = a.node("Sub", [count, a.constant(f"{name}.one", np.asarray(1, np.int64))], f"{name}.first")
    is_first = a.unsqueezed(a.node("Equal", [steps, first], f"{name}.is_first"), 2, f"{name}.is_first.column")
    state = a.node("Where", [is_first, given.initial[0], a.number(f"{name}.zero", 0.0)], f"{name}.first_state")
    return a.node("Concat", [given.x, state], f"{name}.x_and_state", axis=2)
