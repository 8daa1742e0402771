"""Attention of several heads: projections exchanged, heads in another order, kernels not transposed, scores scaled otherwise."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations

import numpy as np

from parity.deferred import Array
from parity.diagnosis.case import Case, Change
from parity.diagnosis.fault import Fault, Place
from parity.diagnosis.faults.layers import changed, shapes_in
from parity.diagnosis.repair import OptionRepair, Repair
from parity.graph.graph import Graph, Node, Wire
from parity.graph.operations import Attention, MatMul, Softmax
from parity.network import Dense

_ROLES = ("query", "key", "value")
_SHOWS = "needs more than one step"


@dataclass(frozen=True, eq=False)
class _Heads:
    """One attention and the layers around it.

    Args:
        projections: of query, key and value: the dense layer, and the first of its columns.
        after: the dense layer that takes all heads together; None for none.
        features: of every projection.
        heads: so many, of query and key and of the value alike.
        scaled: the operation that scales the scores, where it is the attention itself.
    """

    projections: tuple[tuple[str, int], ...]
    after: str | None
    features: int
    heads: int
    scaled: str

    @property
    def layers(self) -> tuple[str, ...]:
        """The dense layers of the projections, each once."""
        return tuple(dict.fromkeys(name for name, _ in self.projections))

    @property
    def name(self) -> str:
        """The layer that is named."""
        return self.after or self.layers[0]


def attention_faults(case: Case) -> Iterator[Fault]:
    """Every mistake in the weights of an attention that could be made in a model.

    Args:
        case: the right model.
    """
    for found in _attentions(case):
        yield from _exchanged(found)
        yield from _transposed(case, found)
        if found.heads > 1:
            yield from _interleaved(found)
        yield from _scales(case, found)


def _attentions(case: Case) -> Iterator[_Heads]:
    graph, shapes = case.graph, shapes_in(case)
    made = {node.name: node for node in graph.nodes}
    for node in graph.nodes:
        wires = _taken(made, node)
        if wires is None:
            continue
        sources = [_projection(made, wire) for wire in wires]
        found = [one for one in sources if one is not None]
        if len(found) < len(_ROLES):
            continue
        sizes = {shapes[wire][-1] for wire in wires if wire in shapes}
        dense = [case.graph.node(one.name).operation for one in found]
        packed = len({one.name for one in found}) == 1
        widths = {one.output_size // (3 if packed else 1) for one in dense if isinstance(one, Dense)}
        if len(sizes) != 1 or len(widths) != 1 or (not packed and len({one.name for one in found}) < len(_ROLES)):
            continue
        (width,), (size,) = widths, sizes
        projections = tuple((one.name, place * width if packed else 0) for place, one in enumerate(found))
        scaled = node.name if isinstance(node.operation, Attention) else ""
        after = _after(graph, node)
        yield _Heads(projections, None if after is None else after.operation.name, width, width // size, scaled)


def _taken(made: Mapping[str, Node], node: Node) -> tuple[Wire, Wire, Wire] | None:
    """Query, key and value of every head, of an attention or of the products that it is written as."""
    if isinstance(node.operation, Attention):
        query, key, value = node.inputs[:3]
    elif isinstance(node.operation, MatMul) and len(node.inputs) == 2:
        shares, value = node.inputs
        scores = None if shares is None else _scores(made, shares)
        if scores is None:
            return None
        query, key = scores.inputs
    else:
        return None
    return None if query is None or key is None or value is None else (query, _turned_back(made, key), value)


def _turned_back(made: Mapping[str, Node], key: Wire) -> Wire:
    """The keys before they are transposed for a product."""
    node = made.get(key.node)
    if node is None or type(node.operation).__name__ != "Transpose" or node.inputs[0] is None:
        return key
    before = made.get(node.inputs[0].node)
    return node.inputs[0] if before is not None and type(before.operation).__name__ == "Transpose" else key


def _scores(made: Mapping[str, Node], wire: Wire) -> Node | None:
    """The product of queries and keys behind which there is a softmax."""
    node = made.get(wire.node)
    seen_softmax = False
    while node is not None:
        if isinstance(node.operation, MatMul):
            return node if seen_softmax and len(node.inputs) == 2 else None
        seen_softmax = seen_softmax or isinstance(node.operation, Softmax)
        if isinstance(node.operation, Dense) or not node.inputs or node.inputs[0] is None:
            return None
        node = made.get(node.inputs[0].node)
    return None


_MOVING = ("Reshape", "Transpose", "Select", "Squeeze", "ExpandDims", "Elementwise", "Slice", "Split")


def _projection(made: Mapping[str, Node], wire: Wire | None) -> Node | None:
    """The dense layer whose features a value is, moved and scaled at most."""
    while wire is not None:
        node = made.get(wire.node)
        if node is None:
            return None
        if isinstance(node.operation, Dense):
            return node if node.operation.activation == "linear" else None
        if type(node.operation).__name__ not in _MOVING:
            return None
        wire = node.inputs[0]
    return None


def _after(graph: Graph, node: Node) -> Node | None:
    """The dense layer that takes what the heads give."""
    takers = graph.takers()
    while len(found := takers.get(Wire(node.name), [])) == 1:
        (node,) = found
        if isinstance(node.operation, Dense):
            return node
        if type(node.operation).__name__ not in ("Reshape", "Transpose"):
            return None
    return None


def _exchanged(found: _Heads) -> Iterator[Fault]:
    """Query, key and value projections in another order: six orders, one of which is right."""
    for order in permutations(range(len(_ROLES))):
        if order == (0, 1, 2):
            continue
        words = ", ".join(_ROLES[place] for place in order)
        yield _fault(
            "projections exchanged",
            f"has the weights of its projections in the order {words}, where query, key, value belongs",
            _ordered(found, order),
            found.layers,
            23,
        )


def _ordered(found: _Heads, order: Sequence[int]) -> Change:
    def replay(case: Case) -> Case:
        parts = [_columns(case, *one, found.features) for one in found.projections]
        for place, source in enumerate(order):
            name, first = found.projections[place]
            case = _with_columns(case, name, first, *parts[source])
        return case

    return replay


def _columns(case: Case, name: str, first: int, count: int) -> tuple[Array, Array | None]:
    """The part of a dense layer that is one projection."""
    dense = case.layer(name)
    if not isinstance(dense, Dense):
        raise KeyError(name)
    part = slice(first, first + count)
    return np.asarray(dense.kernel)[:, part], None if dense.bias is None else np.asarray(dense.bias)[part]


def _with_columns(case: Case, name: str, first: int, kernel: Array, bias: Array | None) -> Case:
    def change(dense: Dense) -> Dense:
        part = slice(first, first + kernel.shape[1])
        made = np.array(dense.kernel)
        if made[:, part].shape != kernel.shape or (dense.bias is None) != (bias is None):
            raise ValueError("projections of other sizes")
        made[:, part] = kernel
        biases = None if dense.bias is None else np.array(dense.bias)
        if biases is not None and bias is not None:
            biases[part] = bias
        return replace(dense, kernel=made, bias=biases)

    return changed(name, Dense, change)(case)


def _each(found: _Heads, change: Callable[[Array, Array | None], tuple[Array, Array | None]]) -> Change:
    """A change of every projection."""

    def replay(case: Case) -> Case:
        for name, first in found.projections:
            case = _with_columns(case, name, first, *change(*_columns(case, name, first, found.features)))
        return case

    return replay


def _transposed(case: Case, found: _Heads) -> Iterator[Fault]:
    """The kernels of the three projections as they are, where another framework has their transposes."""
    dense = case.layer(found.layers[0])
    if isinstance(dense, Dense) and dense.input_size == found.features > 1:
        yield _fault(
            "kernel transposed",
            "has the transposes of the kernels of its query, key and value projections",
            _each(found, lambda kernel, bias: (kernel.T, bias)),
            found.layers,
            22,
        )


def _interleaved(found: _Heads) -> Iterator[Fault]:
    """Features counted through the heads first, where each head has its own in a row, or the other way round."""
    size = found.features // found.heads
    plain = np.arange(found.features)
    inner, outer = (
        "with the heads on the inner axis, where they belong on the outer one",
        "with the heads on an axis of their features",
    )
    by_features = plain.reshape(found.heads, size)
    for words, order in (
        (inner, by_features.T.ravel()),
        (outer, plain.reshape(size, found.heads).T.ravel()),
        ("with the heads in the opposite order", by_features[::-1].ravel()),
    ):
        if (order == plain).all() or (words == outer and (order == by_features.T.ravel()).all()):
            continue
        if "opposite" not in words:
            yield _fault(
                "heads in another order",
                f"takes the columns of its query, key and value projections {words}",
                _each(found, lambda kernel, bias, o=order: (kernel[:, o], None if bias is None else bias[o])),  # type: ignore[misc]
                found.layers,
                24,
            )
        if found.after is not None:
            yield _fault(
                "heads in another order",
                f"takes the rows of its output projection {words}",
                changed(found.after, Dense, lambda dense, o=order: replace(dense, kernel=np.asarray(dense.kernel)[o])),  # type: ignore[misc]
                (found.after,),
                25,
            )


def _scales(case: Case, found: _Heads) -> Iterator[Fault]:
    """Scores that are not scaled, or by the features of all heads."""
    operation = case.layer(found.scaled) if found.scaled else None
    if not isinstance(operation, Attention):
        return
    right = operation.scale
    others = {"not scaled": 1.0, "scaled by the features of all heads together": 1 / math.sqrt(found.features)}
    for words, scale in others.items():
        if not math.isclose(scale, right):
            yield Fault(
                "scores scaled",
                f"has its scores {words}",
                Place(found.name),
                changed(found.scaled, Attention, lambda one, scale=scale: replace(one, scale=scale)),  # type: ignore[misc]
                (OptionRepair(found.name, "the scale of the scores", f"{right:.6g}", f"{scale:.6g}"),),
                26,
                _SHOWS,
            )


def _fault(name: str, cause: str, change: Change, layers: Sequence[str], rank: int) -> Fault:
    repair: Repair = tuple(OptionRepair(layer, "kernel", "the right numbers", "other ones") for layer in layers)
    return Fault(name, cause, Place(layers[0]), change, repair, rank, _SHOWS)


__all__ = ["attention_faults"]
