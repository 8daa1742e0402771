"""Two directions that come together: halves turned round or exchanged, other merge modes, states put side by side wrongly."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from parity.conventions import MERGE_MODES, merge
from parity.deferred import Array
from parity.diagnosis.case import Case, Change
from parity.diagnosis.fault import Fault, Place
from parity.diagnosis.faults.wiring import calling, final_states, given, halves, recurrent_call, recurrent_calls
from parity.diagnosis.repair import CallRepair, OptionRepair
from parity.graph.graph import Node, Wire
from parity.graph.operations.constant import Constant
from parity.graph.operations.elementwise import Elementwise
from parity.graph.operations.operation import Shape
from parity.graph.operations.picking import Flip, Slice
from parity.graph.operations.shaping import Concatenate, Reshape, Transpose
from parity.network import Recurrent

_STEPS = "needs more than one step"
_SAMPLES = "needs more than one sample"


def direction_faults(case: Case) -> Iterator[Fault]:
    """Every mistake that could be made where the two directions of a layer come together.

    Args:
        case: the right model.
    """
    for node, layer in recurrent_calls(case):
        if layer.bidirectional:
            yield from _merged(node, layer)
        if layer.bidirectional and layer.merge_mode == "concat":
            yield from _halved(node, layer)
    yield from _joined_states(case)
    yield from _merged_by_hand(case)
    yield from _independent(case)


def _merged(node: Node, layer: Recurrent) -> Iterator[Fault]:
    """The backward half in the order of processing, and other ways to merge."""
    if layer.return_sequences and layer.merge_mode is not None and not layer.reverse:
        yield Fault(
            "steps not turned back",
            "leaves the outputs of the backward direction in the order of processing, where they belong into that of the input's steps",
            Place(layer.name, "backward"),
            lambda case: _directions(
                case, node.name, lambda ahead, back: _together(layer, ahead, np.flip(back, axis=1))
            ),
            (
                CallRepair(
                    layer.name,
                    "output",
                    "forward, backward = y.chunk(2, dim=-1)\ny = torch.cat([forward, backward.flip(1)], dim=-1)",
                    "forward, backward = keras.ops.split(y, 2, axis=-1)\n"
                    "y = keras.ops.concatenate([forward, keras.ops.flip(backward, axis=1)], axis=-1)",
                ),
            ),
            rank=4,
            shows=_STEPS,
        )
    if layer.merges and layer.merge_mode is not None:
        for mode in MERGE_MODES:
            if mode in (None, "concat", layer.merge_mode):
                continue
            yield Fault(
                "merge mode",
                f"merges its directions by '{mode}', where '{layer.merge_mode}' belongs",
                Place(layer.name),
                partial(_directions, name=node.name, formula=partial(merge, mode=str(mode))),
                (OptionRepair(layer.name, "merge_mode", str(layer.merge_mode), str(mode)),),
                rank=18,
            )


def _halved(node: Node, layer: Recurrent) -> Iterator[Fault]:
    """Halves of a concatenated output in the other order; the final states of both reshaped where they are to be transposed."""
    yield Fault(
        "halves swapped",
        "gives the backward direction's half of the output before the forward one's",
        Place(layer.name),
        lambda case: _directions(case, node.name, lambda ahead, back: np.concatenate([back, ahead], axis=-1)),
        (
            CallRepair(
                layer.name,
                "output",
                "y = torch.cat(y.chunk(2, dim=-1)[::-1], dim=-1)",
                "y = keras.ops.concatenate(keras.ops.split(y, 2, axis=-1)[::-1], axis=-1)",
            ),
        ),
        rank=27,
    )
    if not layer.return_sequences:
        yield _viewed(Wire(node.name), layer.name, 2)


def _joined_states(case: Case) -> Iterator[Fault]:
    """Final states that the right model itself puts side by side."""
    owners = {wire: layer.name for node, layer in recurrent_calls(case) for wire in final_states(node, layer).values()}
    made = {node.name: node for node in case.graph.nodes}
    for node in case.graph.nodes:
        wires = [wire for wire in node.inputs if wire in owners]
        if isinstance(node.operation, Concatenate) and len(wires) == len(node.inputs) > 1:
            layer = owners[wires[-1]]
            yield _viewed(Wire(node.name), layer, len(wires))
            if len(wires) == 2 and wires[0] != wires[1]:
                yield Fault(
                    "halves swapped",
                    "puts the two final states side by side in the other order",
                    Place(layer),
                    partial(_other_order, name=node.name),
                    (
                        CallRepair(
                            layer,
                            "output",
                            "y = torch.cat([h_n[-2], h_n[-1]], dim=-1)",
                            "y = keras.ops.concatenate([forward_h, backward_h], axis=-1)",
                        ),
                    ),
                    rank=27,
                )
        if isinstance(node.operation, Reshape) and node.inputs[0] is not None:
            before = made.get(node.inputs[0].node)
            if before is not None and isinstance(before.operation, Transpose) and before.operation.axes == (1, 0, 2):
                yield _viewed(Wire(before.name), "", 0)


_BY_HAND = {"add": "sum", "multiply": "mul", "average": "ave"}
"""The functions of two directions that are modes of merging them."""

_IN_CODE = {"sum": "forward + backward", "mul": "forward * backward", "ave": "(forward + backward) / 2"}


def _merged_by_hand(case: Case) -> Iterator[Fault]:
    """Two directions that the right model merges itself, by another function."""
    sequences = {Wire(node.name): layer for node, layer in recurrent_calls(case)}
    made = {node.name: node for node in case.graph.nodes}

    def origin(wire: Wire | None) -> str:
        while wire is not None and wire not in sequences:
            node = made.get(wire.node)
            if node is None or not isinstance(node.operation, (Flip, Slice, Reshape)):
                return ""
            wire = node.inputs[0]
        return "" if wire is None else sequences[wire].name

    for node in case.graph.nodes:
        operation = node.operation
        if not isinstance(operation, Elementwise) or operation.function not in _BY_HAND or len(node.inputs) != 2:
            continue
        if not all(origin(wire) for wire in node.inputs):
            continue
        end = (_halving(case, node.name) if operation.function == "add" else None) or node.name
        right = _BY_HAND[operation.function] if end == node.name else "ave"
        # Of a sum that is halved the sum alone is a factor that is left out.
        known = (right, "sum") if end != node.name else (right,)
        for mode in _BY_HAND.values():
            if mode not in known:
                yield Fault(
                    "merge mode",
                    f"merges its directions by '{mode}', where '{right}' belongs",
                    Place(operation.name, called=origin(node.inputs[0])),
                    partial(_by_mode, name=node.name, end=end, mode=mode),
                    (_merging(origin(node.inputs[0]), right),),
                    rank=18,
                )


def _merging(layer: str, mode: str) -> CallRepair:
    made = f"y = {_IN_CODE[mode]}"
    split = ("forward, backward = y.chunk(2, dim=-1)", "forward, backward = keras.ops.split(y, 2, axis=-1)")
    return CallRepair(layer, "output", f"{split[0]}\n{made}", f"{split[1]}\n{made}  # or merge_mode='{mode}'")


def _halving(case: Case, name: str) -> str | None:
    """The node that halves what another one gives, if that is all that becomes of it."""
    takers = case.graph.takers().get(Wire(name), ())
    constants = {one.name: one.operation.value for one in case.graph.nodes if isinstance(one.operation, Constant)}
    if len(takers) != 1 or not isinstance(takers[0].operation, Elementwise):
        return None
    by = {"divide": 2.0, "multiply": 0.5}.get(takers[0].operation.function, np.nan)
    values = [constants.get(wire.node) for wire in takers[0].inputs if wire is not None]
    return takers[0].name if any(one is not None and np.array_equal(np.asarray(one), by) for one in values) else None


def _independent(case: Case) -> Iterator[Fault]:
    """The directions of stacked layers run apart, each on its own direction below alone, as in ELMo."""
    below = {Wire(node.name): layer for node, layer in recurrent_calls(case)}
    names = []
    for node, layer in recurrent_calls(case):
        under = None if node.inputs[0] is None else below.get(node.inputs[0])
        if under is not None and layer.bidirectional and under.bidirectional and under.merge_mode == "concat":
            names.append(layer.name)
    for some in [[name] for name in names] + ([names] if len(names) > 1 else []):
        yield Fault(
            "independent stacks",
            "feeds each direction of the layer with the same direction of the layer below alone, where both belong",
            Place(some[0] if len(some) == 1 else ""),
            _own_halves(some),
            rank=30,
        )


def _directions(case: Case, name: str, formula: Callable[[Array, Array], Array]) -> Case:
    """The output made otherwise of what both directions give."""
    node, layer = recurrent_call(case, name)
    if not layer.bidirectional or layer.merge_mode is None:
        raise ValueError("there are not two directions in one output")
    case = calling(case, name, replace(layer, merge_mode="concat"))
    return given(case, Wire(node.name), lambda y: formula(*halves(y)), shape=_half if layer.merges else None)


def _half(shape: Shape) -> Shape:
    """Features of one direction."""
    return (*shape[:-1], shape[-1] // 2)


def _together(layer: Recurrent, forward: Array, backward: Array) -> Array:
    if layer.merge_mode in (None, "concat"):
        return np.concatenate([forward, backward], axis=-1)
    merged: Array = merge(forward, backward, str(layer.merge_mode))
    return merged


def _other_order(case: Case, name: str) -> Case:
    node = case.graph.node(name)
    return case.with_inputs(name, node.inputs[::-1])


def _viewed(wire: Wire, layer: str, count: int) -> Fault:
    """States (count, batch, features) read row by row as if they were (batch, count * features)."""

    def formula(y: Array) -> Array:
        rows = y if y.ndim == 3 else y.reshape(len(y), count, -1)
        return np.ascontiguousarray(rows.transpose(1, 0, 2)).reshape(y.shape)

    return Fault(
        "states reshaped",
        "reshapes the final states, h_n.view(batch, -1), where the batch axis is to be put first: it mixes samples",
        Place(layer),
        lambda case: given(case, wire, formula),
        (CallRepair(layer, "output", "y = h_n.transpose(0, 1).reshape(h_n.shape[1], -1)", ""),),
        rank=14,
        shows=_SAMPLES,
    )


def _by_mode(case: Case, name: str, end: str, mode: str) -> Case:
    """Another way to merge what one node takes, in place of what another one makes of it."""
    ahead, back = case.graph.node(name).inputs
    assert ahead is not None
    assert back is not None
    return given(case, Wire(end), lambda _, ahead, back: merge(ahead, back, mode), ahead, back)


def _own_halves(names: Sequence[str]) -> Change:
    """Zeros for what the input kernel of a direction sees of the other one."""

    def changed(operation: object) -> Recurrent:
        assert isinstance(operation, Recurrent)
        made, half = [], operation.input_size // 2
        for number, weights in enumerate(operation.weights):
            kernel = np.array(weights.kernel)
            kernel[..., half * (1 - number) : half * (2 - number)] = 0.0
            made.append(weights.with_held(kernel=kernel))
        return replace(operation, weights=tuple(made))

    def replay(case: Case) -> Case:
        for name in names:
            case = case.with_layer(name, changed)
        return case

    return replay


__all__ = ["direction_faults"]
