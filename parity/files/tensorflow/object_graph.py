"""The object graph of a TensorFlow 2 checkpoint: which tensor is which variable, by the objects that hold them. Imports no framework.

Source: `tensorflow/core/protobuf/trackable_object_graph.proto`; the names of the edges are the attributes of the objects, for Keras 2
also `keras/saving/legacy/saved_model/layer_serialization.py`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from parity.errors import FormatError
from parity.files.tensorflow.protobuf_wire import fields, part, signed, text

KEY = "_CHECKPOINTABLE_OBJECT_GRAPH"
"""The key of the graph in the checkpoint."""

VALUE = "VARIABLE_VALUE"

_LISTS = {"variables", "trainable_variables", "non_trainable_variables"}
"""Edges to lists that name a variable by its number only; any other way to it says more."""

_ASIDE = {
    "keras_api",
    "_all_variables",
    "_metrics",
    "_compile_metrics",
    "_loss_tracker",
    "compiled_metrics",
    "compiled_loss",
}
"""Edges to metrics, and to the second copy of every variable that `keras.export.ExportArchive` writes."""

_STEPS = {"_iterations", "iterations", "iter"}
_RATES = {"_learning_rate", "learning_rate", "_trainable_variables"}
_MOST_OBJECTS, _MOST_DEPTH, _MOST_PATH = 1 << 18, 64, 1 << 12


@dataclass(frozen=True)
class Variable:
    """A variable of the model.

    Args:
        key: of its tensor in the checkpoint.
        full_name: that TensorFlow gave it ("lstm/lstm_cell/kernel"), may be empty.
        path: the attributes that lead to it from the root ("encoder/cell/kernel").
    """

    key: str
    full_name: str
    path: str


@dataclass(frozen=True)
class _Object:
    children: tuple[tuple[int, str], ...]
    variable: tuple[str, str] | None
    slots: bool

    @property
    def optimizes(self) -> bool:
        """Whether it is an optimizer, of TensorFlow 1, Keras 2 or Keras 3."""
        names = {name for _, name in self.children}
        return self.slots or bool(names & _STEPS and names & _RATES)


def variables(graph: bytes, where: str) -> list[Variable]:
    """The model's variables, in the order of its objects and their attributes; what only an optimizer or a metric holds is left out.

    Args:
        graph: a serialized TrackableObjectGraph.
        where: the file it comes from, for messages.

    Raises:
        FormatError: no such graph.

    Example:
        >>> node = b"\\x0a\\x0a\\x08\\x01\\x12\\x06kernel"  # the root holds node 1 as "kernel", whose value has the key "k"
        >>> leaf = b"\\x12\\x13\\x0a\\x0eVARIABLE_VALUE\\x1a\\x01k"
        >>> graph = b"".join(b"\\x0a" + bytes([len(part)]) + part for part in (node, leaf))
        >>> variables(graph, "model.ckpt")
        [Variable(key='k', full_name='', path='kernel')]
    """
    try:
        return list(_found(_nodes(graph)))
    except ValueError as error:
        remedy = "get all files of the checkpoint anew, or save it again"
        raise FormatError("the object graph is damaged", where, "a TrackableObjectGraph", str(error), remedy) from error


def _nodes(graph: bytes) -> list[memoryview]:
    nodes: list[memoryview] = []
    for number, value in fields(graph):
        if number == 1:
            nodes.append(part(value))
        if len(nodes) > _MOST_OBJECTS:
            raise ValueError(f"more than {_MOST_OBJECTS} objects")
    return nodes


def _found(nodes: list[memoryview]) -> Iterator[Variable]:
    ways: dict[int, tuple[int, str]] = {0: (-1, "")} if nodes else {}
    found: dict[int, tuple[str, str]] = {}
    order = _spread(nodes, ways, found, list(ways), lambda name: name not in _LISTS | _ASIDE)
    _spread(nodes, ways, found, order, lambda name: name not in _ASIDE)
    below: dict[int, list[int]] = {}
    for index, (above, _) in ways.items():
        below.setdefault(above, []).append(index)
    waiting = [0]
    while waiting:
        index = waiting.pop()
        if index in found:
            yield Variable(*found[index], _path(ways, index))
        waiting += reversed(below.get(index, ()))


def _spread(
    nodes: list[memoryview],
    ways: dict[int, tuple[int, str]],
    found: dict[int, tuple[str, str]],
    start: list[int],
    follows: Callable[[str], bool],
) -> list[int]:
    """Objects reached from some that were reached before, nearest first.

    Notes in `ways` from where each was reached, and by which name, and in `found` the key and full name of each variable.
    """
    queue, order = deque(start), []
    while queue:
        index = queue.popleft()
        node = _object(nodes[index])
        if node.optimizes and index:
            continue
        order.append(index)
        if node.variable:
            found[index] = node.variable
        for child, name in node.children:
            if not 0 <= child < len(nodes):
                raise ValueError(f"object {index} refers to object {child} of {len(nodes)}")
            if child not in ways and follows(name):
                ways[child] = index, name
                queue.append(child)
    return order


def _path(ways: dict[int, tuple[int, str]], index: int) -> str:
    names: list[str] = []
    while index:
        index, name = ways[index]
        names.append(name)
        if len(names) > _MOST_DEPTH or sum(map(len, names)) > _MOST_PATH:
            raise ValueError(f"an object more than {_MOST_DEPTH} levels or {_MOST_PATH} letters below the root")
    return "/".join(reversed(names))


def _object(message: memoryview) -> _Object:
    children, slots, variable = [], False, None
    for number, value in fields(message):
        if number == 1:
            children.append(_child(part(value)))
        elif number == 2:
            names = {field: text(name) for field, name in fields(part(value)) if field in (1, 2, 3)}
            if names.get(1) == VALUE:
                variable = names.get(3, ""), names.get(2, "")
        elif number == 3:
            slots = True
    return _Object(tuple(children), variable, slots)


def _child(message: memoryview) -> tuple[int, str]:
    index, name = 0, ""
    for number, value in fields(message):
        if number == 1:
            index = signed(value)
        elif number == 2:
            name = text(value)
    return index, name
