"""PyTorch: whole modules as graphs, through `torch.export`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from parity.errors import UnsupportedError
from parity.frameworks.torch.whole.calling import call, intermediate
from parity.frameworks.torch.whole.examples import example_of
from parity.frameworks.torch.whole.fast_path import fast_path_note
from parity.frameworks.torch.whole.freedom import axes_of_word, freely_traced, frozen_axes
from parity.frameworks.torch.whole.lengths import differences
from parity.frameworks.torch.whole.naming import axis_words
from parity.frameworks.torch.whole.reading import read_graph
from parity.frameworks.torch.whole.tracing import Axes, Traced, trace, user_inputs
from parity.graph import Graph


def graph_of(module: nn.Module, inputs: Any = None, name: str = "") -> Graph:
    """Any module that `torch.export` can trace, as a graph.

    Batch and time stay free: `GraphInput.shape` says "batch" and "time" wherever the module itself takes any length. What a trace
    insists on although the module does not is named in `graph.details["frozen"]`; how the module is called, in `details["call"]`.
    Module and graph are run at other lengths: times by which the module decides are frozen, too, or limited: `details["limits"]`.

    Args:
        module: it is traced in evaluation mode and left as it was.
        inputs: example inputs: an array or tensor, a tuple or list of them in the order of `forward`, or a dict by its names, whose
            values may be nested. An axis of length one is lengthened where the module takes that. None derives the input of simple models.
        name: of the graph; by default the module's class.

    Raises:
        ParityError: no inputs were given and none can be derived, or the module does not run on them.
        UnsupportedError: operators that cannot be kept exactly, all at once, with module and line; or a module that cannot be traced, or
            that decides by the size of its batch.

    Example:
        >>> graph = graph_of(nn.Sequential(nn.Embedding(30, 4), nn.Linear(4, 2)))
        >>> graph.inputs[0].shape, [node.source for node in graph.nodes]
        (('batch', 'time'), ['0', '1'])
    """
    traced = freely_traced(module, example_of(module, inputs))
    title = name or type(module).__name__
    frozen = frozen_axes(module, traced)
    try:
        graph = read_graph(module, traced, title, frozen)
    except UnsupportedError as error:
        graph, traced, frozen = _with_less_freedom(module, traced, title, error)
    graph = _at_other_lengths(module, traced, graph, frozen)
    note = fast_path_note(module, traced.example)
    return replace(graph, details={**graph.details, "fast path": note}) if note else graph


def _at_other_lengths(module: nn.Module, traced: Traced, graph: Graph, frozen: list[str]) -> Graph:
    """The graph where it computes what the module does: limited, or with times at the example's, by which the module decides.

    Raises:
        UnsupportedError: the module decides by the batch.
    """
    found = differences(module, graph, traced)
    words = [word for word in found.words if word != "batch"]
    if len(words) < len(found.words):
        raise _deciding(graph, found.words)
    if words:
        axes = [axis for word in words for axis in axes_of_word(traced, word)]
        reason = f"the module decides by the size of its inputs: at {'; '.join(found.words.values())} it computes something else"
        frozen = [*frozen, *_said(traced, axes, reason)]
        fixed = frozenset(axes) | _fixed(traced)
        try:
            less = trace(module, traced.example, fixed, traced.tied)
            graph = read_graph(module, less, graph.name, frozen)
        except UnsupportedError as error:
            raise _deciding(graph, found.words) from error
        return _at_other_lengths(module, less, graph, frozen)
    limits = ", ".join(filter(None, (graph.details.get("limits"), *found.limits)))
    return replace(graph, details={**graph.details, "limits": limits}) if found.limits else graph


def _deciding(graph: Graph, words: Mapping[str, str]) -> UnsupportedError:
    return UnsupportedError(
        "the module decides by the size of its inputs",
        graph.name,
        "the same operators at every size",
        f"something else at {'; '.join(words.values())}",
        "take the `if` on a size out of forward (squeeze() without a dim is one, too), or convert the modules inside it",
    )


def _fixed(traced: Traced) -> Axes:
    """The axes that a trace has at the example's lengths."""
    return frozenset(
        (place, axis)
        for place, shape in enumerate(traced.axes)
        for axis, length in enumerate(shape)
        if isinstance(length, int)
    )


def _said(traced: Traced, axes: Iterable[tuple[int, int]], reason: str) -> list[str]:
    """Axes at the example's lengths in words."""
    names = [node.name for node in user_inputs(traced.program)]
    tensors = traced.example.tensors
    return [
        f"axis {axis} of '{names[place]}' at {tensors[place].shape[axis]}: {reason}" for place, axis in sorted(axes)
    ]


def _with_less_freedom(
    module: nn.Module, traced: Traced, title: str, error: UnsupportedError
) -> tuple[Graph, Traced, list[str]]:
    """The graph with further axes at the example's lengths: an operator may need them; the batch stays free.

    Returns:
        The graph, its trace, and what is frozen, in words.

    Raises:
        UnsupportedError: it is none of these lengths.
    """
    words = [word for word in dict.fromkeys(axis_words(traced).values()) if word != "batch"]
    reason = error.problems[0]
    single = [[word] for word in reversed(words)]
    for given in (*single, words) if len(words) > 1 else single:
        axes = frozenset(axis for word in given for axis in axes_of_word(traced, word))
        if not axes:
            continue
        frozen = _said(traced, axes, f"{reason.what}, {reason.where}")
        try:
            less = trace(module, traced.example, axes | _fixed(traced), traced.tied)
            return read_graph(module, less, title, frozen), less, frozen
        except UnsupportedError:
            continue
    raise error


__all__ = ["call", "graph_of", "intermediate"]
