"""A port of a model: read where it can be, else run as it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from parity.errors import UnsupportedError
from parity.frameworks import owner
from parity.network import Network
from parity.network.attaching import network_of_graph
from parity.result import Inputs
from parity.sources import Opened, Source, open_source


def open_port(source: Source, reference: Opened, inputs: Inputs | None) -> Opened:
    """A source to be compared with the first one; a live torch module that cannot be read is taken as it is, to be run by position.

    Args:
        source: anything that `parity.compare` takes.
        reference: the first one.
        inputs: example inputs, by which a torch module is traced.

    Raises:
        ParityError: anything else that cannot be read.
    """
    try:
        return open_source(source, partial=True, inputs=inputs)
    except UnsupportedError as error:
        live = not isinstance(source, (str, Path, Opened, Network))
        if not live or owner(source) != "torch" or reference.network.stopping:
            raise
        nodes = tuple(replace(node, source="") for node in reference.graph.nodes)
        graph = replace(reference.graph, nodes=nodes, details={"unread": error.problems[0].what})
        name = type(source).__name__
        return Opened(f"{name}, run as it is", network_of_graph(graph, error.problems), "torch", live=source)


__all__ = ["open_port"]
