"""Values that come together: a branch lost, operands in another order, another way to merge, factors and reductions exchanged."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from parity.diagnosis.case import Case
from parity.diagnosis.fault import Fault, Place
from parity.diagnosis.faults.layers import changed, layers_of, nodes_of, shapes_in
from parity.diagnosis.faults.wiring import rewired
from parity.diagnosis.repair import CallRepair, OptionRepair
from parity.graph.graph import Node, Wire
from parity.graph.operations import Attention, Concatenate, Constant, Elementwise, MatMul, Reduction
from parity.graph.operations.operation import Shape

_ORDERED = ("subtract", "divide", "power")
_MERGES = ("add", "average", "maximum", "multiply", "subtract")
_REDUCTIONS = ("mean", "sum", "max")
_TWO = 2


def connection_faults(case: Case) -> Iterator[Fault]:
    """Every mistake in how values of a model come together.

    Args:
        case: the right model.
    """
    fixed = {node.name: node.operation for node in case.graph.nodes if isinstance(node.operation, Constant)}
    shapes = shapes_in(case)
    for node, elementwise in nodes_of(case, Elementwise):
        constants = [wire for wire in node.inputs if wire is not None and wire.node in fixed]
        if constants:
            yield from _factors(node, elementwise, fixed)
        elif len(node.inputs) == _TWO:
            yield from _merged(node, elementwise)
            yield from _from_elsewhere(case, node, shapes)
    for node, _ in nodes_of(case, Concatenate):
        yield from _concatenated(node)
        yield from _from_elsewhere(case, node, shapes)
    for node, _ in nodes_of(case, MatMul):
        yield _reordered(node, (1, 0), "multiplies its matrices in the other order")
    for name, reduction in layers_of(case, Reduction):
        yield from _reduced(name, reduction)
    for name, attention in layers_of(case, Attention):
        yield from _attention(name, attention)


def _merged(node: Node, operation: Elementwise) -> Iterator[Fault]:
    """One of two values lost, both exchanged, merged in another way."""
    if operation.function in _ORDERED:
        yield _reordered(node, (1, 0), f"has the two values of its {operation.function} exchanged")
    if operation.function not in _MERGES:
        return
    for kept, lost in ((0, 1), (1, 0)):
        keeps, loses = node.inputs[kept], node.inputs[lost]
        if keeps is None or loses is None or keeps == loses:
            continue
        yield Fault(
            "connection lost",
            f"takes '{keeps}' alone, where it is merged with '{loses}' (a skip connection that is lost)",
            Place(operation.name),
            partial(_one_alone, name=node.name, kept=kept),
            (CallRepair(operation.name, "output", f"y = {operation.function}({keeps}, {loses})", ""),),
            rank=20,
        )
    for other in _MERGES:
        if other != operation.function:
            yield Fault(
                "merged otherwise",
                f"merges by {other}, where {operation.function} belongs",
                Place(operation.name),
                changed(operation.name, Elementwise, partial(_with, function=other)),
                (OptionRepair(operation.name, "the function", operation.function, other),),
                rank=24,
            )


_ELSEWHERE = 8
"""So many other values, the nearest ones, are tried in the place of one that is merged."""


def _from_elsewhere(case: Case, node: Node, shapes: Mapping[Wire, Shape]) -> Iterator[Fault]:
    """A skip connection that begins at another layer: every value of the same shape that is made before."""
    names = [one.name for one in case.graph.nodes]
    made = [*(Wire(one.name) for one in case.graph.inputs), *(Wire(name) for name in names[: names.index(node.name)])]
    for place, wire in enumerate(node.inputs):
        if wire is None or wire not in shapes:
            continue
        others = [one for one in made[::-1] if shapes.get(one) == shapes[wire] and one not in node.inputs]
        for other in others[:_ELSEWHERE]:
            yield Fault(
                "connection from elsewhere",
                f"takes '{other}', where '{wire}' belongs (a connection that begins at another layer)",
                Place(node.operation.name),
                partial(_taking, name=node.name, place=place, wire=other),
                (CallRepair(node.operation.name, "input", f"x[{place}] = {wire}", f"x[{place}] = {wire}"),),
                rank=28,
            )


def _taking(case: Case, name: str, place: int, wire: Wire) -> Case:
    inputs = list(case.graph.node(name).inputs)
    inputs[place] = wire
    return case.with_inputs(name, tuple(inputs))


def _with(operation: Any, **options: Any) -> Any:
    return replace(operation, **options)


def _one_alone(case: Case, name: str, kept: int) -> Case:
    wire = case.graph.node(name).inputs[kept]
    if wire is None:
        raise KeyError(name)
    return rewired(case, {Wire(name): wire})


def _reordered(node: Node, order: Sequence[int], cause: str) -> Fault:
    wires = [str(wire) for wire in node.inputs]
    return Fault(
        "inputs in another order",
        cause,
        Place(node.operation.name),
        partial(_in_order, name=node.name, order=tuple(order)),
        (CallRepair(node.operation.name, "input", f"x = [{', '.join(wires)}]", f"x = [{', '.join(wires)}]"),),
        rank=19,
    )


def _in_order(case: Case, name: str, order: tuple[int, ...]) -> Case:
    inputs = case.graph.node(name).inputs
    return case.with_inputs(name, tuple(inputs[place] for place in order))


def _concatenated(node: Node) -> Iterator[Fault]:
    """Every value in another place: two exchanged, all turned round."""
    count = len(node.inputs)
    own = list(range(count))
    swaps = [[*own[:k], own[k + 1], own[k], *own[k + 2 :]] for k in range(count - 1)]
    for order in {tuple(one): None for one in [own[::-1], *swaps]}:
        if list(order) == own or [node.inputs[place] for place in order] == list(node.inputs):
            continue
        there = ", ".join(f"'{node.inputs[place]}'" for place in order)
        belongs = ", ".join(f"'{wire}'" for wire in node.inputs)
        yield _reordered(node, order, f"concatenates {there}, where {belongs} belongs")


def _factors(node: Node, operation: Elementwise, fixed: dict[str, Constant]) -> Iterator[Fault]:
    """A factor, a divisor or an offset that is lost."""
    if operation.function not in ("multiply", "divide", "add", "subtract") or len(node.inputs) != _TWO:
        return
    first, second = node.inputs
    if first is None or second is None or (first.node in fixed) == (second.node in fixed):
        return
    kept, constant = (1, first) if first.node in fixed else (0, second)
    value = np.asarray(fixed[constant.node].value)
    if operation.function in ("divide", "subtract") and kept == 1:
        return
    number = f"{value.item():.6g}" if value.size == 1 else "its numbers"
    words = {"multiply": "the factor", "divide": "the divisor", "add": "the summand", "subtract": "the subtrahend"}
    yield Fault(
        "scaling lost" if operation.function in ("multiply", "divide") else "offset lost",
        f"leaves out {words[operation.function]} {number}",
        Place(operation.name),
        partial(_one_alone, name=node.name, kept=kept),
        (OptionRepair(operation.name, words[operation.function], number, "none"),),
        rank=21,
    )


def _reduced(name: str, reduction: Reduction) -> Iterator[Fault]:
    if reduction.function not in _REDUCTIONS:
        return
    for other in _REDUCTIONS:
        if other != reduction.function:
            yield Fault(
                "another reduction",
                f"takes the {other}, where the {reduction.function} belongs",
                Place(name),
                changed(name, Reduction, partial(_with, function=other)),
                (OptionRepair(name, "the reduction", reduction.function, other),),
                rank=22,
            )


def _attention(name: str, attention: Attention) -> Iterator[Fault]:
    """The scale of the scores, and the triangle that hides what comes later."""
    for scale, words in (
        (1.0, "does not scale the scores of its attention"),
        (attention.scale**2, "scales the scores of its attention twice"),
    ):
        if not math.isclose(scale, attention.scale, rel_tol=1e-9):
            yield Fault(
                "attention scale",
                f"{words}, where the factor {attention.scale:.6g} belongs",
                Place(name),
                changed(name, Attention, partial(_with, scale=scale)),
                (OptionRepair(name, "the scale of the scores", f"{attention.scale:.6g}", f"{scale:.6g}"),),
                rank=20,
            )
    if attention.causal:
        yield Fault(
            "causal mask lost",
            "lets every step see later ones in its attention",
            Place(name),
            changed(name, Attention, partial(_with, causal=False)),
            (OptionRepair(name, "causal", "True", "False"),),
            rank=20,
            shows="needs more than one step",
        )


__all__ = ["connection_faults"]
