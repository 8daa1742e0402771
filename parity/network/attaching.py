"""A network with the graph of its whole model, where it is more than a chain of layers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from parity.errors import Problem, UnsupportedError
from parity.network.bidirectional import Bidirectional
from parity.network.graph import Network
from parity.network.recurrent import Recurrent

if TYPE_CHECKING:
    from parity.graph import Graph


def network_with_graph(read: Callable[[], Network], read_graph: Callable[[], Graph]) -> Network:
    """A source as a chain of layers; where it is none, as the graph that it is.

    Args:
        read: gives the network, perhaps a partial one, or refuses it.
        read_graph: gives the graph, with stubs for layers that are not known, or refuses it.

    Returns:
        The network. One that is no chain has the graph, and its recurrent layers one by one; what is wrong with it as a chain stays in its
        problems; of one that is no graph either, behind what is wrong with it as a graph, which can hold more.

    Raises:
        UnsupportedError: no chain, and a graph that is refused or has stubs; says why of the graph, which can hold more.
    """
    try:
        network = read()
    except UnsupportedError as error:
        graph = read_graph()
        if graph.problems:
            raise UnsupportedError(list(graph.problems)) from error
        return network_of_graph(graph, error.problems)
    if not network.problems:
        return network
    try:
        return replace(network, graph=read_graph())
    except UnsupportedError as error:
        return replace(network, problems=tuple(dict.fromkeys((*error.problems, *network.problems))))


def network_of_graph(graph: Graph, problems: list[Problem] | tuple[Problem, ...] = ()) -> Network:
    """The recurrent layers of a graph as a partial network.

    Args:
        graph: the whole model.
        problems: why it is no chain.

    Example:
        >>> from parity.graph import Builder
        >>> build = Builder("model")
        >>> graph = build.graph({"y": build.activation("tanh", build.input("x", ("batch", 3)))})
        >>> network_of_graph(graph).graph.name
        'model'
    """
    layers = tuple(one for one in graph.operations if isinstance(one, (Recurrent, Bidirectional)))
    why = tuple(problems) or (Problem("a model that is no chain of layers", graph.name, "a chain", "a graph"),)
    return Network(graph.name, layers, (), graph.origin, dict(graph.details), problems=why, graph=graph)


__all__ = ["network_of_graph", "network_with_graph"]
