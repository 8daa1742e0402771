"""Recurrent layers with masks, as parity writes them: the nodes that move valid steps to the front and back are taken away again.

ONNX has no mask for recurrent nodes, so `parity.frameworks.onnx.masks` writes one as TopK, CumSum and GatherElements around them. Here
that module writes the same nodes once more, around names that stand for what they take, and they are compared with those of the model,
node by node. Only where all of them are exactly these is the recurrent node read as a layer with a mask; any other is left as it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import onnx
from onnx import AttributeProto, helper, numpy_helper

from parity.conventions import Fill
from parity.frameworks.onnx.masks import OPSET, StepMask
from parity.frameworks.onnx.nodes import Assembly
from parity.frameworks.onnx.options import NODE_DIRECTIONS
from parity.frameworks.onnx.tensors import Tensors
from parity.frameworks.onnx.trace import RECURRENT_OPS, layout_of
from parity.layouts import STATES
from parity.recurrent import Direction

_X, _VALID, _Y, _FINAL, _INITIAL = _TAKEN = ("?x", "?valid", "?y", "?final", "?initial")
_LENGTHS_AT, _STATES_AT = 4, 5
_MOST_NUMBERS = 8
"""The constants of a pattern are axes and single numbers."""


def with_masks(graph: onnx.GraphProto, tensors: Tensors, opset: int) -> tuple[onnx.GraphProto, dict[str, Fill]]:
    """A graph whose recurrent nodes take masks, where parity wrote them so.

    Args:
        graph: any; it stays as it is.
        tensors: gives its tensors.
        opset: of the model.

    Returns:
        The graph itself; or one without initializers, in which the fifth input of some recurrent nodes is a mask, (time, batch) of
        truth values. And what the sequence of each of those holds at masked steps, by the node's first output that has a name.
    """
    if opset < OPSET or not any(node.op_type == "TopK" for node in graph.node):
        return graph, {}
    search = _Search(graph, tensors, opset)
    masked = {}
    for index, node in enumerate(graph.node):
        if node.op_type in RECURRENT_OPS and node.domain == "":
            fill = search.unmask(index)
            if fill is not None:
                masked[first_output(node)] = fill
    if not masked:
        return graph, {}
    changed = onnx.GraphProto(name=graph.name, input=graph.input, output=graph.output)
    changed.node.extend(search.left())
    return changed, masked


def first_output(node: onnx.NodeProto) -> str:
    """The first output of a node that has a name.

    Example:
        >>> first_output(helper.make_node("LSTM", ["X", "W", "R"], ["", "Y_h"]))
        'Y_h'
    """
    return next(filter(None, node.output), "")


@dataclass(frozen=True)
class _Match:
    """What the names of patterns stand for in the model, and the nodes that were compared."""

    bound: dict[str, str] = field(default_factory=dict)
    nodes: frozenset[int] = frozenset()


class _Pattern:
    """Nodes that parity writes, around names that stand for what they take."""

    def __init__(self, opset: int, write: Callable[[StepMask], str]) -> None:
        assembly = Assembly(opset, _TAKEN, [])
        self.root = write(StepMask(assembly, _VALID, "pattern"))
        self.nodes = {name: (node, at) for node in assembly.nodes for at, name in enumerate(node.output)}
        self.constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in assembly.initializers}


class _Search:
    """Looks for patterns in a graph and remembers what takes their place.

    Args:
        graph: to look in.
        tensors: gives its tensors.
        opset: of the model.
    """

    def __init__(self, graph: onnx.GraphProto, tensors: Tensors, opset: int) -> None:
        self._graph, self._tensors, self._opset = graph, tensors, opset
        self._made = {
            name: (index, at) for index, node in enumerate(graph.node) for at, name in enumerate(node.output) if name
        }
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._taken: dict[str, list[int]] = {}
        for index, node in enumerate(graph.node):
            for name in _names_taken(node):
                self._taken.setdefault(name, []).append(index)
        self._outputs = {item.name for item in graph.output}
        self._changed: dict[int, onnx.NodeProto] = {}
        self._needless: set[int] = set()

    def unmask(self, index: int) -> Fill | None:
        """What a recurrent node's sequence holds at masked steps; None where it is not the one that parity writes for a mask."""
        node = self._graph.node[index]
        options = {attribute.name: attribute for attribute in node.attribute}
        direction = options["direction"].s.decode("ascii", "replace") if "direction" in options else "forward"
        # Of the layouts, parity writes that with the steps first.
        if len(node.input) <= _LENGTHS_AT or direction not in NODE_DIRECTIONS or layout_of(node) != 0:
            return None
        match = self._compare(self._pattern(lambda mask: mask.compact(_X, "x")), node.input[0], _Match())
        match = match and self._compare(self._pattern(lambda mask: mask.lengths), node.input[_LENGTHS_AT], match)
        if match is None:
            return None
        given = self._sequence(node, NODE_DIRECTIONS[direction], match)
        if given is None:
            return None
        fill, match, roots = given
        ends = self._states(node, match)
        if ends is None:
            return None
        match, kept = ends
        changed = onnx.NodeProto()
        changed.CopyFrom(node)
        changed.input[0], changed.input[_LENGTHS_AT] = match.bound[_X], match.bound[_VALID]
        self._changed[index] = changed
        for root, tensor in {**roots, **kept}.items():
            own = self._graph.node[root]
            self._changed[root] = helper.make_node("Identity", [tensor], list(own.output), own.name)
        self._needless |= match.nodes - {index}
        return fill

    def left(self) -> list[onnx.NodeProto]:
        """The nodes of the graph, those changed in their place, and none that was only there for a mask."""
        nodes = [self._changed.get(index, node) for index, node in enumerate(self._graph.node)]
        uses = Counter(name for node in nodes for name in _names_taken(node))
        uses.update(self._outputs)
        found = []
        for index in reversed(range(len(nodes))):
            node = nodes[index]
            if index in self._needless and index not in self._changed and not any(uses[name] for name in node.output):
                uses.subtract(_names_taken(node))
            else:
                found.append(node)
        return found[::-1]

    # ---- what a node gives

    def _sequence(
        self, node: onnx.NodeProto, directions: tuple[Direction, ...], match: _Match
    ) -> tuple[Fill, _Match, dict[int, str]] | None:
        """What the sequence holds at masked steps, and the nodes that give it at the places of the input's steps.

        None where anybody takes the sequence of compacted steps itself.
        """
        y = node.output[0] if node.output else ""
        if not y:
            return "zero", match, {}
        start = replace(match, bound={**match.bound, _Y: y})
        repeated = self._pattern(lambda mask: mask.spread(_Y, directions, "repeat", "y"))
        zeroed = self._pattern(lambda mask: mask.spread(_Y, directions, "zero", "y"))
        spreads = [at for at in self._users(y) if self._graph.node[at].op_type != "Shape"]
        filled: dict[int, str] = {}
        roots = dict.fromkeys(spreads, y)
        for at in spreads:
            spread = self._given(at)
            compared = self._compare(repeated, spread, start)
            if compared is None:
                return None
            start = compared
            for user in self._users(spread):
                compared = self._compare(zeroed, self._given(user), start)
                if compared is not None:
                    start, filled[user] = compared, y
        if y in self._outputs:
            return None
        users = [user for at in spreads for user in self._users(self._given(at))]
        shown = any(self._given(at) in self._outputs for at in spreads)
        if users and not shown and all(user in filled for user in users):
            return "zero", start, filled
        return "repeat" if spreads else "zero", start, roots

    def _states(self, node: onnx.NodeProto, match: _Match) -> tuple[_Match, dict[int, str]] | None:
        """The nodes that give the initial state where a row has no valid step, which a layer with a mask does by itself.

        None where anybody takes a final state without them.
        """
        kept: dict[int, str] = {}
        pattern = self._pattern(lambda mask: mask.kept(_FINAL, _INITIAL, "h"))
        for place in range(len(STATES[RECURRENT_OPS[node.op_type]])):
            final = node.output[place + 1] if len(node.output) > place + 1 else ""
            initial = node.input[_STATES_AT + place] if len(node.input) > _STATES_AT + place else ""
            if not final or not initial:
                continue
            start = replace(match, bound={**match.bound, _FINAL: final, _INITIAL: initial})
            for user in self._users(final):
                compared = self._compare(pattern, self._given(user), start)
                if compared is None:
                    return None
                match, kept[user] = replace(match, nodes=match.nodes | compared.nodes), final
            if final in self._outputs:
                return None
        return match, kept

    def _given(self, index: int) -> str:
        return first_output(self._graph.node[index])

    def _users(self, name: str) -> list[int]:
        return list(dict.fromkeys(self._taken.get(name, [])))

    # ---- comparing

    def _pattern(self, write: Callable[[StepMask], str]) -> _Pattern:
        return _Pattern(self._opset, write)

    def _compare(self, pattern: _Pattern, tensor: str, match: _Match) -> _Match | None:
        """The match and all that makes a tensor what the pattern says; None where it is anything else."""
        bound, nodes = dict(match.bound), set(match.nodes)
        todo = [(pattern.root, tensor)]
        seen: set[tuple[str, str]] = set()
        while todo:
            pair = wanted, name = todo.pop()
            if pair in seen:
                continue
            seen.add(pair)
            if wanted in _TAKEN:
                if not name or bound.setdefault(wanted, name) != name:
                    return None
            elif wanted in pattern.constants:
                if not self._is_constant(name, pattern.constants[wanted]):
                    return None
            else:
                node, at = pattern.nodes[wanted]
                index, place = self._made.get(name, (-1, -1))
                if index < 0 or place != at or not _alike(node, self._graph.node[index]):
                    return None
                nodes.add(index)
                todo += zip(node.input, self._graph.node[index].input, strict=True)
        return _Match(bound, frozenset(nodes))

    def _is_constant(self, name: str, wanted: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> bool:
        tensor = self._constants.get(name)
        if tensor is None or tuple(tensor.dims) != wanted.shape or wanted.size > _MOST_NUMBERS:
            return False
        found = self._tensors.array(tensor)
        return found.dtype.kind == wanted.dtype.kind and bool(np.array_equal(found, wanted))


def _alike(wanted: onnx.NodeProto, node: onnx.NodeProto) -> bool:
    """Whether two nodes are the same but for the names."""

    def options(one: onnx.NodeProto) -> dict[str, AttributeProto]:
        return {attribute.name: attribute for attribute in one.attribute}

    return (wanted.op_type, wanted.domain, len(wanted.input)) == (
        node.op_type,
        node.domain,
        len(node.input),
    ) and options(wanted) == options(node)


def _names_taken(node: onnx.NodeProto) -> list[str]:
    """Every name that a node takes, and those that bodies of it do."""
    found = [name for name in node.input if name]
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            found += [item.name for item in attribute.g.output]
            found += [name for inner in attribute.g.node for name in _names_taken(inner)]
    return found


__all__ = ["first_output", "with_masks"]
