"""Goes through the nodes of an ONNX graph in order, and into the bodies of If; every problem is kept and the rest read on."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, helper

from parity.errors import ParityError, Problem, UnsupportedError
from parity.frameworks.onnx.constants import Constant, constant_of, constants_of
from parity.frameworks.onnx.whole import (
    reading_elementwise,
    reading_gathering,
    reading_layers,
    reading_moves,
    reading_recurrent,
    reading_reductions,
    reading_sequences,
    reading_widening,
)
from parity.frameworks.onnx.whole.reading_frozen import placed
from parity.frameworks.onnx.whole.reading_lengths import lengths_followed
from parity.frameworks.onnx.whole.reading_state import Reading
from parity.frameworks.onnx.whole.reading_step import Step, same_length
from parity.frameworks.onnx.whole.reading_stubs import Stubs
from parity.frameworks.onnx.whole.reading_values import Sizes, Undecided, Unknown, Value

HANDLERS: dict[str, Callable[[Step], Sequence[Value]]] = {
    **reading_elementwise.HANDLERS,
    **reading_gathering.HANDLERS,
    **reading_layers.HANDLERS,
    **reading_moves.HANDLERS,
    **reading_recurrent.HANDLERS,
    **reading_reductions.HANDLERS,
    **reading_sequences.HANDLERS,
    **reading_widening.HANDLERS,
}
"""What each operator becomes."""

_OWN = ("", "ai.onnx")
_LENGTHS = ("Shape", "Size")
_BODIES = ("Loop", "Scan")
_WRONG = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What a node without the inputs or attributes that it must have breaks on, wherever they are looked up."""

Scope = ChainMap[str, Value]


class Walker:
    """Reads graphs.

    Args:
        reading: the state.
        stubs: makes stubs of what cannot be read; None to leave it out.
    """

    def __init__(self, reading: Reading, stubs: Stubs | None) -> None:
        self._reading, self._stubs = reading, stubs

    def graph(self, graph: onnx.GraphProto, scope: Scope, path: str) -> None:
        """All nodes of a graph; what they give stands in the scope afterwards."""
        scope.update(constants_of(graph, self._reading.tensors))
        self.nodes(graph.node, scope, path)

    def nodes(self, nodes: Iterable[onnx.NodeProto], scope: Scope, path: str) -> None:
        """Nodes whose constants stand in the scope."""
        for node in nodes:
            self._node(node, scope, path)

    def _node(self, node: onnx.NodeProto, scope: Scope, path: str) -> None:
        reading = self._reading
        inputs = [scope.get(name, Unknown()) if name else None for name in node.input]
        where = f"{path}, node '{node.name or next(filter(None, node.output), '')}' ({node.op_type})"
        plain = [a for a in node.attribute if a.type not in (AttributeProto.GRAPH, AttributeProto.GRAPHS)]
        before = len(reading.problems)
        values: Sequence[Value] | None = None
        step: Step | None = None
        try:
            attributes = {a.name: helper.get_attribute_value(a) for a in plain}
            step = Step(reading, node, attributes, inputs, where)
            values = self._values(step, scope, path)
        except ParityError as error:
            reading.problems += placed(error, where, reading, step)
        except _WRONG as error:
            got = f"{type(error).__name__}: {error}"[:200]
            expected = "the inputs and attributes of the ONNX operator specification"
            reading.problems.append(Problem("this node cannot be followed", where, expected, got, "export it anew"))
        failed = len(reading.problems) > before or values is None
        if failed and values is None and self._stubs is not None and not reading.follow_unknown(inputs):
            bodies = [a.g for a in node.attribute if a.type == AttributeProto.GRAPH]
            captured = [scope[name] for name in dict.fromkeys(names_used(bodies)) if name in scope]
            values = self._stubs.stub(node, inputs, captured, reading)
        for position, name in enumerate(node.output):
            if name:
                scope[name] = values[position] if values and position < len(values) else Unknown()

    def _values(self, step: Step, scope: Scope, path: str) -> Sequence[Value] | None:
        """What a node gives; None where that follows from another problem."""
        node, reading = step.node, self._reading
        if node.domain not in _OWN:
            raise step.refused(f"operator {node.domain}.{node.op_type} is not converted")
        if node.op_type == "Constant":
            made = constant_of(node, step.attributes, reading.tensors, node.output[0])
            if made is None:
                raise step.refused("this form of Constant is not read", "numbers", ", ".join(step.attributes))
            return [made]
        if node.op_type in _BODIES:
            what = f"operator {node.op_type} is not converted: a loop of its own"
            raise step.refused(what, remedy="export the model so that its recurrent layers are LSTM, GRU or RNN nodes")
        if node.op_type not in HANDLERS and node.op_type not in (*_LENGTHS, "If"):
            raise step.refused(f"operator {node.op_type} is not converted")
        if node.op_type == "If":
            return self._choice(step, scope, path)
        if reading.follow_unknown(step.inputs):
            return None
        constants = [value if isinstance(value, Constant) else None for value in step.inputs]
        if all(value is None or isinstance(value, Constant) for value in step.inputs):
            moved = reading.mover.outputs(node, step.attributes, constants)
            if moved is not None:
                return moved
        followed = lengths_followed(step)
        return HANDLERS[node.op_type](step) if followed is None else followed

    def _choice(self, step: Step, scope: Scope, path: str) -> Sequence[Value] | None:
        """What an If gives: one body where its condition is known, else both and a choice between them."""
        condition = step.value(0)
        bodies = {a.name: a.g for a in step.node.attribute if a.type == AttributeProto.GRAPH}
        if isinstance(condition, Unknown):
            return None
        if isinstance(condition, Undecided):
            words = ", ".join(repr(word) for word in self._reading.probes) or "none"
            remedy = f"fix a length that it comes from: given={{word: number}}; the words of this model are {words}"
            raise step.refused(
                "the choice depends on the length of an axis", "a condition that stays", condition.words, remedy
            )
        if isinstance(condition, Sizes):
            raise step.refused("the choice depends on the length of an axis")
        if isinstance(condition, Constant):
            chosen = "then_branch" if bool(np.asarray(condition.read()).any()) else "else_branch"
            return self._body(bodies[chosen], step, scope, path, chosen)
        sides = [self._body(bodies[name], step, scope, path, name) for name in ("then_branch", "else_branch")]
        return [self._either(step, condition, one, other) for one, other in zip(*sides, strict=True)]

    def _either(self, step: Step, condition: Value, one: Value, other: Value) -> Value:
        if one == other or isinstance(one, Unknown) or isinstance(other, Unknown):
            return one if one == other else Unknown()
        shapes = [step.shape(value) for value in (one, other)]
        if len(shapes[0]) != len(shapes[1]) or not all(same_length(a, b) for a, b in zip(*shapes, strict=True)):
            remedy = "fix what it depends on: given={'the name of an input': its value}"
            got = f"{len(shapes[0])} and {len(shapes[1])} axes" if len(shapes[0]) != len(shapes[1]) else "other lengths"
            raise step.refused("the two bodies of this If give other shapes", "one shape", got, remedy)
        flag = step.reshaped(condition, []) if step.rank(condition) else condition
        return step.elementwise("where", step.cast(flag, "bool"), one, other)

    def _body(self, graph: onnx.GraphProto, step: Step, scope: Scope, path: str, name: str) -> list[Value]:
        inner: Scope = scope.new_child()
        label = f"If '{step.node.name}'" if step.node.name else "If"
        self.graph(graph, inner, f"{path}, {label}, {name.removesuffix('_branch')}")
        return [inner.get(item.name, Unknown()) for item in graph.output]


def names_used(graphs: Iterable[Any]) -> list[str]:
    """Every name that nodes take or graphs give, as often as they do."""
    found: list[str] = []
    for graph in graphs:
        found += [item.name for item in graph.output]
        for node in graph.node:
            found += node.input
            bodies = [a.g for a in node.attribute if a.type == AttributeProto.GRAPH]
            found += names_used(bodies)
    return found


__all__ = ["HANDLERS", "UnsupportedError", "Walker", "names_used"]
