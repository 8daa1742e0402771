"""What the files of Keras have in common: a description of any age and weights from anywhere. Imports no framework."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from parity.errors import FormatError, Problem, ShapeError, UnsupportedError
from parity.files.archive import FETCH_ANEW
from parity.network.attaching import network_with_graph
from parity.network.graph import Network
from parity.network.keras.config import network_from_keras
from parity.network.keras.history import modernised
from parity.network.keras.layers_of_old import before
from parity.network.keras.options import Config
from parity.network.keras.weights import Weighted

if TYPE_CHECKING:
    from parity.graph import Graph


def model_from(
    path: Path, described: Config, version: str | None, weights: Callable[[Config], Weighted], name: str | None = None
) -> Network:
    """The network of a description of any age; what is wrong says in which file.

    Args:
        path: the file, for messages.
        described: the model.
        version: of the Keras that described it.
        weights: those of the model in Keras 3's form: a function that gives a layer's by the names that lead to it.
        name: of the network; the model's own by default.

    Raises:
        FormatError: a description that is none, or weights that do not fit it.
        UnsupportedError: a model that is not read at all.
    """
    old = version is not None and before(version, 3, 0)
    try:
        serialized = modernised(described, version)
        stored = weights(serialized)
        network = network_with_graph(
            lambda: network_from_keras(serialized, stored, name, hard_sigmoid_of_keras_2=old, partial=True),
            lambda: _graph(serialized, stored, name or "", old),
        )
    except UnsupportedError as error:
        raise UnsupportedError(in_file(path, error.problems)) from error
    except (FormatError, ShapeError) as error:
        raise FormatError(in_file(path, error.problems, FETCH_ANEW)) from error
    except (KeyError, TypeError) as error:
        expected = "layers with names and options"
        raise FormatError(
            "this describes no model of Keras", str(path), expected, repr(error)[:200], FETCH_ANEW
        ) from error
    return replace(network, problems=tuple(in_file(path, network.problems)))


def _graph(serialized: Config, stored: Weighted, name: str, old: bool) -> Graph:
    from parity.graph.keras import graph_from_keras  # half the time of reading a small file, and most are chains

    return graph_from_keras(serialized, stored, name, hard_sigmoid_of_keras_2=old, partial=True)


def producer(version: str | None, backend: str | None = None) -> dict[str, str]:
    """Who wrote a file, for people.

    Example:
        >>> producer("2.5.0", "tensorflow")
        {'producer': 'Keras 2.5.0, tensorflow backend'}
    """
    if not version:
        return {}
    return {"producer": f"Keras {version[:40]}" + (f", {backend[:40]} backend" if backend else "")}


def in_file(path: Path, problems: Sequence[Problem], remedy: str = "") -> list[Problem]:
    """The same problems, saying in which file."""
    return [
        replace(
            problem,
            where=problem.where if str(path) in problem.where else f"{problem.where} of {path}",
            remedy=problem.remedy or remedy,
        )
        for problem in problems
    ]
