"""Which axis of each value of a whole model counts steps of time: told by the recurrent layers and the words of the inputs, by no size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from parity.graph.graph import Graph, Node, Wire
from parity.graph.lengths import Axis, axes_of
from parity.graph.operations import (
    Activation,
    BatchNormalization,
    Cast,
    Concatenate,
    Elementwise,
    LayerNormalization,
    Softmax,
    Transpose,
    normalized,
)
from parity.network import Bidirectional, Dense, Dropout, Masking, Recurrent

_KEEPING = (Activation, BatchNormalization, Cast, Dense, Dropout, LayerNormalization, Masking, Softmax)
"""What gives its first input's axes on in their order; a dense layer makes another thing of the last one alone."""


def steps_of(graph: Graph, axes: Mapping[Wire, Sequence[Axis]] | None = None) -> dict[Wire, int]:
    """The axis of time of each value that is known to have one.

    An axis whose length follows that over which recurrent layers step is one of time, however it is called; in a model without such layers
    an axis that the model itself calls "time". So is the axis of steps of what a recurrent layer gives, also where its length is fixed,
    and behind layers that keep the axes.

    Args:
        graph: of the model.
        axes: the lengths of the values in words, where they are known already.

    Example:
        >>> from parity.graph import Builder
        >>> build = Builder("model")
        >>> x = build.input("x", ("batch", 3, "time"))
        >>> steps = steps_of(build.graph({"y": build.transpose(x, (0, 2, 1))}))
        >>> {str(wire): axis for wire, axis in steps.items()}
        {'x': 2, 'transpose': 1}
    """
    axes = axes_of(graph) if axes is None else axes
    words = _stepped(graph, axes) or {word for word in graph.words if f"_{word}".endswith("_time")}
    found = {wire: axis for wire, lengths in axes.items() if (axis := _axis(lengths, words)) is not None}
    for node in graph.nodes:
        for wire, axis in _told(node, found, axes):
            found.setdefault(wire, axis)
    return found


def sequences_of(node: Node) -> tuple[Wire, ...]:
    """What a recurrent layer gives of every step: (batch, time, features) each; nothing of other nodes.

    Args:
        node: of a graph.
    """
    layer = node.operation
    if isinstance(layer, Bidirectional):
        count = 2 if layer.merge_mode is None else 1
    else:
        count = len(layer.given) if isinstance(layer, Recurrent) else 0
    whole = isinstance(layer, (Bidirectional, Recurrent)) and layer.return_sequences
    return tuple(Wire(node.name, index) for index in range(count if whole else 0))


def _stepped(graph: Graph, axes: Mapping[Wire, Sequence[Axis]]) -> set[str]:
    """The words of the lengths over which recurrent layers step."""
    taken = [node.inputs[0] for node in graph.nodes if isinstance(node.operation, (Bidirectional, Recurrent))]
    lengths = [axes[wire][1] for wire in taken if wire is not None and wire in axes]
    return {word for word in graph.words for length in lengths if isinstance(length, str) and word in length} - {
        "batch"
    }


def _axis(lengths: Sequence[Axis], words: set[str]) -> int | None:
    """The first axis that follows one of these words, and not the batch, too."""
    for axis, length in enumerate(lengths):
        if isinstance(length, str) and "batch" not in length and any(word in length for word in words):
            return axis
    return None


def _told(node: Node, found: Mapping[Wire, int], axes: Mapping[Wire, Sequence[Axis]]) -> list[tuple[Wire, int]]:
    """What a node tells of its own values: those of a recurrent layer, and those whose axes stand as in what it takes."""
    if isinstance(node.operation, (Bidirectional, Recurrent)):
        return [(wire, 1) for wire in sequences_of(node)]
    own = Wire(node.name)
    places = {
        found[wire] - len(axes[wire]) for wire in node.inputs if wire is not None and wire in found and wire in axes
    }
    if own not in axes or len(places) != 1:
        return []
    rank, axis = len(axes[own]), len(axes[own]) + places.pop()
    operation = node.operation
    first = node.inputs[0]
    if isinstance(operation, Transpose):
        return [(own, operation.axes.index(axis))]
    kept = isinstance(operation, _KEEPING) and not (isinstance(operation, Dense) and axis == rank - 1)
    kept = kept and first is not None and first in found
    beside = isinstance(operation, Concatenate) and normalized(operation.axis, rank) != axis
    return [(own, axis)] if axis >= 0 and (kept or beside or isinstance(operation, Elementwise)) else []


__all__ = ["sequences_of", "steps_of"]
