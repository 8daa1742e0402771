"""Which lengths of a model's inputs may differ from each other."""

from __future__ import annotations

from dataclasses import replace

from parity.errors import ShapeError
from parity.graph.graph import Graph
from parity.graph.lengths import distinct_lengths


def with_words_apart(graph: Graph) -> Graph:
    """The same model, with a word of its own for the time of every further input that need not be as long as the first.

    A framework that says of two inputs only that their steps are open does not say whether they are as many: the source and the target
    of a translation are not, the two halves of a joined vector are. What the operations take decides.

    Example:
        >>> from parity.graph import Builder
        >>> build = Builder("model")
        >>> left, right = (build.input(name, ("batch", "time", 3)) for name in ("left", "right"))
        >>> apart = with_words_apart(build.graph({"a": build.mean(left, 1), "b": build.mean(right, 1)}))
        >>> [one.shape for one in apart.inputs]
        [('batch', 'time', 3), ('batch', 'right_time', 3)]
        >>> with_words_apart(build.graph({"sum": build.add(left, right)})).inputs[1].shape
        ('batch', 'time', 3)
    """
    found = graph
    first = next((place for place, one in enumerate(graph.inputs) if "time" in one.shape), len(graph.inputs))
    for place, one in enumerate(graph.inputs):
        if place <= first or "time" not in one.shape:
            continue
        word = f"{one.name}_time"
        shape = tuple(word if length == "time" else length for length in one.shape)
        inputs = (*found.inputs[:place], replace(one, shape=shape), *found.inputs[place + 1 :])
        freer = replace(found, inputs=inputs)
        if _takes(freer):
            found = freer
    return found


def _takes(graph: Graph) -> bool:
    """Whether a graph takes inputs whose lengths all differ."""
    try:
        graph.shapes(distinct_lengths(graph))
    except ShapeError:
        return False
    return True


__all__ = ["with_words_apart"]
