"""PyTorch: whole modules as graphs, through `torch.export`."""

from __future__ import annotations

from typing import Any

from torch import nn

from parity.errors import UnsupportedError
from parity.frameworks.torch.whole.calling import call, intermediate
from parity.frameworks.torch.whole.examples import example_of
from parity.frameworks.torch.whole.freedom import axes_of_word, freely_traced, frozen_axes
from parity.frameworks.torch.whole.naming import axis_words
from parity.frameworks.torch.whole.reading import read_graph
from parity.frameworks.torch.whole.tracing import Traced, trace, user_inputs
from parity.graph import Graph


def graph_of(module: nn.Module, inputs: Any = None, name: str = "") -> Graph:
    """Any module that `torch.export` can trace, as a graph.

    Batch and time stay free: `GraphInput.shape` says "batch" and "time" wherever the module itself takes any length. What a trace
    insists on although the module does not is named in `graph.details["frozen"]`; how the module is called, in `details["call"]`.

    Args:
        module: it is traced in evaluation mode and left as it was.
        inputs: example inputs: an array or tensor, a tuple or list of them in the order of `forward`, or a dict by its names, whose
            values may be nested. An axis of length one is lengthened where the module takes that. None derives the input of simple models.
        name: of the graph; by default the module's class.

    Raises:
        ParityError: no inputs were given and none can be derived, or the module does not run on them.
        UnsupportedError: operators that cannot be kept exactly, all at once, with module and line; or a module that cannot be traced.

    Example:
        >>> graph = graph_of(nn.Sequential(nn.Embedding(30, 4), nn.Linear(4, 2)))
        >>> graph.inputs[0].shape, [node.source for node in graph.nodes]
        (('batch', 'time'), ['0', '1'])
    """
    traced = freely_traced(module, example_of(module, inputs))
    title = name or type(module).__name__
    try:
        return read_graph(module, traced, title, frozen_axes(module, traced))
    except UnsupportedError as error:
        return _with_less_freedom(module, traced, title, error)


def _with_less_freedom(module: nn.Module, traced: Traced, title: str, error: UnsupportedError) -> Graph:
    """The graph with further axes at the example's lengths: an operator may need them; the batch stays free.

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
        names = [node.name for node in user_inputs(traced.program)]
        lengths = [(place, axis, traced.example.tensors[place].shape[axis]) for place, axis in sorted(axes)]
        frozen = [
            f"axis {axis} of '{names[place]}' at {length}: {reason.what}, {reason.where}"
            for place, axis, length in lengths
        ]
        try:
            return read_graph(module, trace(module, traced.example, axes, traced.tied), title, frozen)
        except UnsupportedError:
            continue
    raise error


__all__ = ["call", "graph_of", "intermediate"]
