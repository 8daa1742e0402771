"""Code that parity wrote, imported as a module."""

from __future__ import annotations

import importlib.util
import linecache
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import xxhash

from parity.errors import FormatError, UnsupportedError
from parity.forms import Form, obstacles
from parity.graph.code_files import SOURCE, CodeTarget, write_files
from parity.graph.graph import Graph
from parity.network import Recurrent
from parity.network.attaching import network_of_graph
from parity.recurrent import DIRECTIONS, Array

_NAME = "parity_written_"
"""Begins the names of modules that parity wrote."""


def is_written(model: object) -> bool:
    """Whether the class of a live model stands in code that parity wrote.

    Example:
        >>> is_written(3)
        False
    """
    return type(model).__module__.startswith(_NAME)


def imported(path: Path) -> ModuleType:
    """A module that parity wrote, imported from its file; its source stays readable when the file is gone.

    Args:
        path: of the file.
    """
    name = f"{_NAME}{abs(hash(path.absolute())):x}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise FormatError("this is no Python module", str(path), "a file that ends in .py", path.name)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    text = path.read_text(encoding="utf-8")
    linecache.cache[str(path)] = (len(text), None, text.splitlines(keepends=True), str(path))
    spec.loader.exec_module(module)
    return module


def loaded(folder: Path) -> Any:
    """What the `load()` of a folder that parity wrote gives: the model with its weights."""
    return imported(folder / SOURCE).load()


def built(graph: Graph, target: CodeTarget, state: Callable[[Any], Iterable[bytes]]) -> Any:
    """A graph as a live model: its code, written to a passing folder, imported and loaded. It remembers the graph; see `remembered`.

    Args:
        graph: without stubs.
        target: the framework.
        state: gives all that decides what a live model computes: weights, options, code that was replaced.

    Raises:
        UnsupportedError: the model is not kept exactly in the target, or has layers that are stubs.
    """
    if graph.problems:
        raise UnsupportedError(list(graph.problems))
    with tempfile.TemporaryDirectory() as folder:
        code = write_files(graph, target, Path(folder))
        model = loaded(Path(folder))
    layers = network_of_graph(graph).recurrent
    composed = [f"layer '{layer.name}': {reason}" for layer in layers for reason in _own_cells(layer, target)]
    model.parity_form = Form(tuple(dict.fromkeys(composed)), code.notes)
    model.parity_origin = Origin(graph, _digest(state(model)), code.attributes)
    return model


def _own_cells(layer: Recurrent, target: CodeTarget) -> Iterator[str]:
    """Why the code has a cell of its own for a layer: what the framework's own cannot say of any of its directions."""
    for weights, cell in zip(layer.weights, layer.cells, strict=True):
        spec = replace(layer.spec, directions=DIRECTIONS[:1])
        one = replace(layer, spec=spec, weights=(weights,), cells=(cell,), merge_mode="concat", reverse=False)
        yield from obstacles(one, target, bare=False)


@dataclass(frozen=True, eq=False)
class Origin:
    """Where a live model that parity wrote comes from.

    Args:
        graph: what it computes.
        digest: of its state, as it was then.
        attributes: what it calls each operation, by the operation's name.
    """

    graph: Graph
    digest: bytes
    attributes: Mapping[str, str]


def attributes_of(model: Any) -> Mapping[str, str]:
    """What a live model that parity wrote calls each operation; nothing for any other, and for one that was loaded from a folder."""
    origin = getattr(model, "parity_origin", None)
    return origin.attributes if isinstance(origin, Origin) else {}


def remembered(model: Any, state: Callable[[Any], Iterable[bytes]]) -> Graph | None:
    """The graph of a live model that parity wrote, if nothing about it has changed since; else None: then it has to be read anew.

    Args:
        model: anything.
        state: as for `built`.
    """
    origin = getattr(model, "parity_origin", None)
    if not isinstance(origin, Origin) or _digest(state(model)) != origin.digest:
        return None
    return origin.graph


def _digest(parts: Iterable[bytes]) -> bytes:
    found = xxhash.xxh3_128()
    for part in parts:
        found.update(len(part).to_bytes(8, "little"))
        found.update(part)
    return found.digest()


def bytes_of(array: Array) -> bytes:
    """An array's shape, type and numbers.

    Example:
        >>> bytes_of(np.zeros(2, np.uint8))
        b'(2,)uint8\\x00\\x00'
    """
    return f"{array.shape}{array.dtype}".encode() + np.ascontiguousarray(array).tobytes()
