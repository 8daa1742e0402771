"""A port of a model: read where it can be, else run as it is."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

from parity.errors import ParityError, Problem, ShapeError, UnsupportedError
from parity.frameworks import owner
from parity.graph.inputs import random_graph_inputs
from parity.graph.lengths import lengths_for
from parity.network import Network
from parity.network.attaching import network_of_graph
from parity.result import Inputs
from parity.sources import Opened, Source, open_source

_BATCH, _TIMES = 3, (11, 67, 1031)
"""Of random inputs by which a module is traced."""


def open_port(
    source: Source, reference: Opened, inputs: Inputs | None, as_they_are: Collection[str] = ("torch",)
) -> Opened:
    """A source to be compared with the first one; a live torch module that cannot be read is taken as it is, to be run by position.

    Args:
        source: anything that `parity.compare` takes.
        reference: the first one.
        inputs: example inputs, by which a torch module is traced.
        as_they_are: engines whose live objects are run where they cannot be read.

    Raises:
        ParityError: anything else that cannot be read.
    """
    engine = None if isinstance(source, (str, Path, Opened, Network)) else owner(source)
    try:
        example = _by_position(reference, inputs) if engine == "torch" else inputs
        return open_source(source, partial=True, inputs=example)
    except (ParityError, NotImplementedError) as error:
        unknown = (
            isinstance(error, UnsupportedError) or engine == "keras"
        )  # whose own classes may not say what they are made of
        if not unknown or engine not in as_they_are or reference.network.stopping:
            raise
        problems = error.problems if isinstance(error, ParityError) else (Problem(str(error).strip().splitlines()[0]),)
        nodes = tuple(replace(node, source="") for node in reference.graph.nodes)
        graph = replace(reference.graph, nodes=nodes, details={"unread": problems[0].what})
        name = type(source).__name__
        return Opened(f"{name} (run as it is)", network_of_graph(graph, problems), engine, live=source)


def _by_position(reference: Opened, inputs: Inputs | None) -> Inputs | None:
    """Inputs of a whole model in its order: a port may call them otherwise. Random ones where none are given."""
    graph = reference.network.graph
    if graph is None or reference.network.stopping:
        return inputs
    if inputs is None:
        try:
            inputs = random_graph_inputs(graph, lengths_for(graph, _BATCH, _TIMES), 0, padded_at_end=True)
        except ShapeError:
            return None
    if isinstance(inputs, Mapping) and inputs.keys() == {one.name for one in graph.inputs}:
        return tuple(inputs[one.name] for one in graph.inputs)
    return inputs


__all__ = ["open_port"]
