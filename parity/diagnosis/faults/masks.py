"""Masks and lengths: ignored, lost, made otherwise, off by one; what stands at padded steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from parity.deferred import Array
from parity.diagnosis.case import Case
from parity.diagnosis.fault import Fault, Place
from parity.diagnosis.faults.wiring import (
    Moved,
    calling,
    fed,
    final_states,
    fresh,
    given,
    halves,
    mask_of,
    placed,
    recurrent_call,
    recurrent_calls,
)
from parity.diagnosis.repair import CallRepair
from parity.graph.chains import MASK
from parity.graph.graph import Node, Wire
from parity.network import Bidirectional, Masking, Recurrent

_LENGTHS = "needs samples of unequal lengths"
_PACKED = (
    "x = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)\n"
    "y, _ = torch.nn.utils.rnn.pad_packed_sequence(y, batch_first=True)  # behind the layer"
)


def mask_faults(case: Case) -> Iterator[Fault]:
    """Every mistake with masks that could be made in a model: of those that the right model has, and of masking by value where it has none.

    Args:
        case: the right model.
    """
    masked = [node for node in case.graph.nodes if _takes_mask(node)]
    yield from _ignored(masked)
    yield from _lost(case, masked)
    for node in masked:
        yield from _one_direction(node)
        if not case.ignored:
            yield from _filled(node)
    yield from _off_by_one(masked)
    yield from _by_value(case)


def _takes_mask(node: Node) -> bool:
    return isinstance(node.operation, (Recurrent, Bidirectional)) and mask_of(node) is not None


def _repair(layer: str) -> tuple[CallRepair, ...]:
    return (CallRepair(layer, "mask", _PACKED, "y = layer(x, mask=mask)"),)


def _ignored(masked: list[Node]) -> Iterator[Fault]:
    """Padded steps computed like any other: in one layer, or in all of them."""
    everything = [(tuple(node.name for node in masked), "")] if len(masked) > 1 else []
    for names, layer in [*everything, *(((node.name,), node.operation.name) for node in masked)]:
        yield Fault(
            "mask ignored",
            "ignores the mask: padded steps are computed like any other (sequences that are not packed)",
            Place(layer),
            partial(_without_mask, names=names),
            _repair(layer),
            rank=2 if not layer or len(masked) == 1 else 8,
            shows=_LENGTHS,
        )


def _without_mask(case: Case, names: tuple[str, ...]) -> Case:
    for name in names:
        inputs = case.graph.node(name).inputs
        case = case.with_inputs(name, (inputs[0], None, *inputs[2:]))
    return case


def _lost(case: Case, masked: list[Node]) -> Iterator[Fault]:
    """A `Masking` that is left out, and with it the mask; one by zeros changes no number itself."""
    layers = [one for one in case.graph.nodes if isinstance(one.operation, Masking) and one.operation.mask_value != 0.0]
    for layer in layers if masked else ():
        yield Fault(
            "masking left out",
            "has no Masking: steps that it marks are computed like any other, with the value that marks them",
            Place(layer.operation.name),
            partial(_unmarked, name=layer.name, names=tuple(node.name for node in masked)),
            _repair(layer.operation.name),
            rank=7,
            shows="needs steps that have the mask's value",
        )


def _unmarked(case: Case, name: str, names: tuple[str, ...]) -> Case:
    (wire,) = case.graph.node(name).inputs
    if wire is None:
        raise ValueError("nothing is masked")
    return given(_without_mask(case, names), Wire(name), lambda _, x: x, wire)


def _one_direction(node: Node) -> Iterator[Fault]:
    """The backward direction of two begins in the padding."""
    layer = node.operation
    if not isinstance(layer, Recurrent) or not layer.bidirectional or layer.merge_mode != "concat":
        return
    for way, other in (("backward", "forward"), ("forward", "backward")):
        yield Fault(
            "mask ignored in one direction",
            f"ignores the mask in its {way} direction, which computes padded steps like any other, and not in its {other} one",
            Place(layer.name, way),
            partial(_one_way, name=node.name, way=way),
            _repair(layer.name),
            rank=6 if way == "backward" else 32,
            shows=_LENGTHS,
        )


def _one_way(case: Case, name: str, way: str) -> Case:
    """What the direction gives is taken from a second call without a mask."""
    node, layer = recurrent_call(case, name)
    if layer.merge_mode != "concat":
        raise ValueError("the directions cannot be told apart")
    second = replace(node, name=fresh(case, f"{name} unmasked"), inputs=(node.inputs[0], None, *node.inputs[2:]))
    case = placed(case, name, [replace(second, source="")], node)

    def formula(masked: Array, unmasked: Array) -> Array:
        ours, theirs = halves(masked), halves(unmasked)
        return np.concatenate([ours[0], theirs[1]] if way == "backward" else [theirs[0], ours[1]], axis=-1)

    for (_, direction), wire in final_states(node, layer).items():
        if direction == way:
            case = given(case, wire, lambda _, other: other, replace(wire, node=second.name))
    return given(case, Wire(name), formula, Wire(second.name))


def _filled(node: Node) -> Iterator[Fault]:
    """What stands at padded steps of the sequence: zeros, or the last output again; and that step taken for the final state."""
    layer = node.operation
    if not isinstance(layer, Recurrent) or layer.merge_mode is None or not layer.return_sequences:
        return
    repeats = layer.fill == "repeat"
    words = "holds zeros at padded steps, where the last output is repeated"
    if not repeats:
        words = "repeats the last output at padded steps, where zeros belong"
    torch, keras = (
        ("", "y = keras.layers.LSTM(units, return_sequences=True)(x, mask=mask)  # zero_output_for_mask=False")
        if repeats
        else (
            "y = y * mask[..., None]",
            "y = y * keras.ops.cast(mask, y.dtype)[..., None]  # or zero_output_for_mask=True",
        )
    )
    yield Fault(
        "padded steps filled otherwise",
        words,
        Place(layer.name),
        partial(_with_fill, name=node.name, repeat=not repeats),
        (CallRepair(layer.name, "output", torch, keras),),
        rank=10,
        shows=_LENGTHS,
    )


def _with_fill(case: Case, name: str, repeat: bool) -> Case:
    _, layer = recurrent_call(case, name)
    return calling(case, name, replace(layer, fill="repeat" if repeat else "zero"))


def _off_by_one(masked: list[Node]) -> Iterator[Fault]:
    """Every length one more or one less."""
    everything = [(tuple(node.name for node in masked), "")] if len(masked) > 1 else []
    for names, layer in [*everything, *(((node.name,), node.operation.name) for node in masked)]:
        for by, words in ((-1, "one step fewer"), (1, "one step more")):
            yield Fault(
                "lengths off by one",
                f"takes {words} of every sample than is valid",
                Place(layer),
                partial(_longer, names=names, by=by),
                (CallRepair(layer, "mask", f"lengths = lengths {'+-'[by > 0]} 1", ""),),
                rank=18 if not layer or len(masked) == 1 else 33,
                shows=_LENGTHS,
            )


def _longer(case: Case, names: tuple[str, ...], by: int) -> Case:
    for name in names:
        case = fed(case, name, 1, partial(_moved_end, by=by))
    return case


def _moved_end(mask: Array, by: int) -> Array:
    """A mask of sequences that begin at the first step, their ends moved; one of them always is left: nobody packs, or picks, none."""
    valid = mask.astype(bool)
    lengths, steps = valid.sum(axis=1), np.arange(valid.shape[1])
    if not np.array_equal(valid, steps < lengths[:, None]):
        raise ValueError("the mask has holes")
    moved: Array = steps < np.maximum(lengths + by, np.minimum(lengths, 1))[:, None]
    return moved


def _by_value(case: Case) -> Iterator[Fault]:
    """Steps of zeros, or tokens 0, left out by their value, as `Masking(0.)` and `Embedding(mask_zero=True)` do."""
    names = tuple(node.name for node, _ in recurrent_calls(case))
    for one in case.graph.inputs:
        array = case.inputs[one.name]
        steps = one.shape[1:2] == ("time",) and one.dtype != "bool" and array.ndim in (2, 3)
        tokens = one.dtype == "int64" and array.ndim == 2
        if not names or not steps or not (tokens or array.ndim == 3):
            continue
        whole = bool((_not_zero(np.asarray(array)) | ~_valid_steps(case, array)).all())
        what = "tokens 0" if tokens else "steps whose features are all zero"
        for fill in ("repeat",) if whole else ("repeat", "zero"):
            yield Fault(
                "masked by value",
                f"leaves out {what}, as {'Embedding(mask_zero=True)' if tokens else 'Masking(0.)'} does, where they are to be computed",
                Place(),
                partial(_valued, name=one.name, names=names, repeat=fill == "repeat"),
                (CallRepair("", "mask", "", "y = layer(x)  # without Masking, or with mask_zero=False"),),
                rank=9 if fill == "repeat" else 10,
                shows=_NO_ZEROS if whole else "needs a valid step of zeros at which the states change",
                alone=whole,
            )


_NO_ZEROS = "needs a step of zeros among the valid ones"


def _valid_steps(case: Case, array: Array) -> Array:
    """The steps that a mask given with the call leaves; all without one."""
    mask = case.inputs.get(MASK)
    there: Array = (
        np.ones(array.shape[:2], bool) if mask is None or mask.shape != array.shape[:2] else mask.astype(bool)
    )
    return there


def _valued(case: Case, name: str, names: tuple[str, ...], repeat: bool) -> Case:
    """All recurrent layers with a mask of the steps that are not zero, beside the one that they have."""
    mask = Node(
        fresh(case, f"{name} not zero"), Moved(f"{name} not zero", _not_zero, lambda shape: shape[:2]), (Wire(name),)
    )
    case = replace(case, graph=replace(case.graph, nodes=(mask, *case.graph.nodes)))
    for each in names:
        node, layer = recurrent_call(case, each)
        own, taken = mask_of(node), Wire(mask.name)
        case = case.with_inputs(each, (node.inputs[0], taken if own is None else own, *node.inputs[2:]))
        if own is not None:
            case = fed(case, each, 1, np.logical_and, taken)
            continue
        # Keras's own `Bidirectional` fills with zeros; of one state alone the last valid one is given.
        filled = not layer.return_sequences or (repeat and not layer.bidirectional)
        case = calling(case, each, replace(layer, fill="repeat" if filled else "zero"))
        if not layer.return_sequences:
            break
    return case


def _not_zero(x: Array) -> Array:
    found: Array = np.asarray(x.astype(bool).reshape(*x.shape[:2], -1).any(axis=-1))
    return found


__all__ = ["mask_faults"]
