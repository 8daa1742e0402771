"""Recurrent layers of every kind, with the states they are given and those they give.

What their options mean is in `parity.network.keras`, as for networks. Source: Keras 3 `RNN.call`, `Bidirectional.call`, and the
`compute_mask` of both; `StackedRNNCells` for the order of states.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from parity.errors import ShapeError
from parity.graph.graph import Wire
from parity.graph.keras.call import Call, MisfitError, Outputs, Reader, Tensor
from parity.network import Bidirectional, Recurrent
from parity.network.keras.cells import Reading
from parity.network.keras.options import CELL_KIND_OF, KIND_OF, OWN_ALIGNED, OWN_CELL, WRITTEN_CELLS
from parity.network.keras.planning import plan_of
from parity.network.keras.plans import BidirectionalPlan, Plan, StackPlan
from parity.network.keras.weights import features, with_weights


def _layers(call: Call) -> tuple[Plan, tuple[Any, ...]]:
    """What the layer's options say, and its nodes with their weights; made once.

    Raises:
        UnsupportedError: options that are not kept exactly; all of them.
        ShapeError: weights that do not fit.
    """

    def make() -> tuple[Plan, tuple[Any, ...]]:
        config = {**call.config, "name": call.name}
        alone = Reading([], call.old)
        plan = plan_of({**call.held.layer, "config": config}, alone)
        if plan is None or alone.problems:
            raise _several(call, alone)
        stored = call.held.stored()
        weights = list(stored.values()) if isinstance(stored, Mapping) else list(stored)
        if not weights:
            call.weights(("kernel", (None,)))
        try:
            nodes, details = with_weights([plan], [weights], [features(plan, weights)])
        except ShapeError as error:
            raise MisfitError(error.problems) from error
        call.model.types.update(word for word in details.get("stored as", "").split(", ") if word)
        return plan, tuple(replace(node, name=call.build.unique(node.name)) for node in nodes[0])

    found: tuple[Plan, tuple[Any, ...]] = call.once("layers", make)
    return found


def _several(call: Call, alone: Reading) -> Exception:
    error = call.refused("the layer is not converted")
    error.problems = tuple(
        replace(one, where=one.where.replace(f"'{call.name}'", f"'{call.held.path}'")) for one in alone.problems
    )
    return error


def _states(call: Call) -> list[Wire]:
    return call.wires("initial_state")


def _check_unrolled(call: Call, stacks: Sequence[StackPlan]) -> None:
    backward = any(stack.go_backwards for stack in stacks)
    if call.mask is not None and backward and any(stack.unroll for stack in stacks):
        remedy = "set unroll=False: unrolled, Keras puts the zeros of the backward direction at the wrong steps"
        raise call.refused("a masked backward direction is unrolled", "unroll=False", "unroll=True", remedy)


def _chained(
    call: Call, layers: Sequence[Recurrent], x: Wire, mask: Wire | None, states: Sequence[Wire]
) -> tuple[list[Wire], list[Wire]]:
    """A stack of layers of one direction: what the last one gives, and the states of all."""
    rest, given = list(states), []
    values = [x]
    for layer in layers:
        count = len(layer.spec.states) * len(layer.spec.directions)
        own, rest = rest[:count], rest[count:]
        if own and len(own) != count:
            raise call.refused("another number of states", str(len(states)), f"{count} for '{layer.name}'")
        node = call.build.call(layer, values[0], mask, *own)
        values = [Wire(node.node, index) for index in range(len(layer.given))]
        given += [Wire(node.node, len(layer.given) + index) for index in range(count)]
    if rest:
        raise call.refused("more states than the layer has", str(len(states) - len(rest)), str(len(states)))
    return values, given


def _stack(call: Call) -> Outputs:
    plan, layers = _layers(call)
    assert isinstance(plan, StackPlan)
    _check_unrolled(call, [plan])
    values, states = _chained(call, layers, call.wire("sequences"), call.mask, _states(call))
    return [*values, *(states if plan.return_state else [])]


def _bidirectional(call: Call) -> Outputs:
    plan, layers = _layers(call)
    assert isinstance(plan, BidirectionalPlan)
    _check_unrolled(call, [plan.forward, plan.backward])
    x, states = call.wire("sequences"), _states(call)
    (layer,) = layers
    return_state = plan.forward.return_state
    if isinstance(layer, Bidirectional):
        if states or return_state:
            return _apart(call, layer, x, states, return_state)
        node = call.build.call(layer, x, call.mask)
        return [Wire(node.node, index) for index in range(2 if layer.merge_mode is None else 1)]
    values, given = _chained(call, layers, x, call.mask, states)
    return [*values, *(given if return_state else [])]


def _apart(call: Call, layer: Bidirectional, x: Wire, states: Sequence[Wire], return_state: bool) -> Outputs:
    """Unlike directions whose states are wired: a stack for each, and what merges them."""
    build, half = call.build, sum(len(one.spec.states) for one in layer.forward)
    outputs, given = [], []
    for stack, own in zip(layer.stacks, (states[:half], states[half:]), strict=True):
        values, after = _chained(call, stack, x, call.mask, own)
        outputs += values
        given += after
    mode = layer.merge_mode
    if mode == "concat":
        outputs = [build.concatenate(outputs, -1, name=call.name)]
    elif mode is not None:
        function = {"sum": "add", "mul": "multiply", "ave": "average"}[mode]
        outputs = [build.elementwise(function, *outputs, name=call.name)]
    return [*outputs, *(given if return_state else [])]


def _cell(call: Call) -> Outputs:
    """A cell by itself takes one step from states that it is given, and gives h and the states."""
    plan, layers = _layers(call)
    assert isinstance(plan, StackPlan)
    (layer,) = layers
    steps = call.once("step", lambda: replace(layer, single_step=False, return_sequences=False, return_state=True))
    states = call.wires("states")
    if not states:
        raise call.refused("a cell without states", "its states", "none")
    x = call.build.expand_dims(call.wire("inputs"), 1)
    node = call.build.call(steps, x, None, *states)
    return [Wire(node.node, index) for index in range(1 + len(states))]


def _stack_masks(call: Call, outputs: list[Tensor]) -> Any:
    given = [call.previous] if not isinstance(call.previous, (list, tuple)) else list(call.previous)
    return [given[0] if call.config.get("return_sequences") else None, *[None] * (len(outputs) - 1)]


def _both_masks(call: Call, outputs: list[Tensor]) -> Any:
    given = call.previous[0] if isinstance(call.previous, list) else call.previous
    inner = call.config["layer"].get("config", {})
    count = 2 if call.config.get("merge_mode", "concat") is None else 1
    own = given if inner.get("return_sequences") else None
    return [*[own] * count, *[None] * (len(outputs) - count)]


def _aligned_masks(call: Call, outputs: list[Tensor]) -> Any:
    inner = call.config["layer"].get("config", {})
    return [call.previous if inner.get("return_sequences") else None, *[None] * (len(outputs) - 1)]


_ARGUMENTS = ("sequences", "initial_state", "mask", "training")

READERS: dict[str, Reader] = {
    **{name: Reader(_stack, arguments=_ARGUMENTS, takes_mask=True, masks=_stack_masks) for name in (*KIND_OF, "RNN")},
    OWN_ALIGNED: Reader(_stack, arguments=_ARGUMENTS, takes_mask=True, masks=_aligned_masks),
    "Bidirectional": Reader(_bidirectional, arguments=_ARGUMENTS, takes_mask=True, masks=_both_masks),
    **{
        name: Reader(_cell, arguments=("inputs", "states", "training"))
        for name in (*CELL_KIND_OF, OWN_CELL, *WRITTEN_CELLS)
    },
}
"""The recurrent layers, by class; their options are checked by `plan_of`."""
