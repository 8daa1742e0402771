"""A whole ONNX model as a graph of operations: what `graph_of` does, and how inputs and the lengths of their axes are named.

Rooms: reading_graph (node by node), reading_step (one node), reading_state (the graph in the making), reading_values (what a tensor is
meanwhile), reading_lengths (arithmetic with lengths), reading_elementwise, reading_layers, reading_moves, reading_picking,
reading_widening, reading_gathering, reading_sequences, reading_recurrent and reading_reductions (operators), reading_masks (masks of
recurrent layers), reading_frozen (what an export fixed), reading_stubs (what is not known), reading_names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, inliner

from parity.errors import ParityError, Problem, UnsupportedError
from parity.frameworks.onnx.checking import unchecked
from parity.frameworks.onnx.constants import Constant, constants_of
from parity.frameworks.onnx.facts import facts_of
from parity.frameworks.onnx.finding import Finder
from parity.frameworks.onnx.tensors import Tensors, tensors_in
from parity.frameworks.onnx.whole.reading_graph import Scope, Walker, names_used
from parity.frameworks.onnx.whole.reading_limits import Checks, checks_in
from parity.frameworks.onnx.whole.reading_masks import with_masks
from parity.frameworks.onnx.whole.reading_state import ConflictError, Reading
from parity.frameworks.onnx.whole.reading_stubs import Stubs
from parity.frameworks.onnx.whole.reading_values import Unknown, Value
from parity.graph import Graph, GraphInput, Layered, Node, Wire
from parity.graph.names import unused_name
from parity.graph.operations import Cast
from parity.network import Embedding, Recurrent

_TYPES: dict[int, str] = {
    **dict.fromkeys((TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16), "float32"),
    **dict.fromkeys((TensorProto.INT64, TensorProto.INT32, TensorProto.INT16, TensorProto.INT8), "int64"),
    TensorProto.UINT8: "int64",
    TensorProto.BOOL: "bool",
}


def graph_of(
    model: onnx.ModelProto,
    name: str = "",
    given: Mapping[str, Any] | None = None,
    partial: bool = False,
    tensors: Tensors | None = None,
) -> Graph:
    """A whole ONNX model as a graph.

    Args:
        model: any graph of the operators that parity knows; recurrent layers as LSTM, GRU and RNN nodes.
        name: for the graph; that of the model's own by default.
        given: inputs that are constants from now on, by name ({"sr": 16000}), and lengths that are, by the word of their axis.
        partial: whether an operator that is not known becomes a stub, its problem kept in `graph.problems`.
        tensors: gives the tensors of a model whose large ones are still in a file.

    Returns:
        The graph, its inputs and outputs under the model's names. Axes that differ from call to call are called as the model calls
        them; those without a name "batch" and "time" where a recurrent layer says so. Axes of two names that an operation wants to be
        of one length get one name (`details["lengths"]`). A recurrent layer is a `Recurrent` between transpositions; `Node.source` of
        a layer is the name of its ONNX node (the name of what it gives where it has none).

    Raises:
        UnsupportedError: operators or options that are not converted; all of them, each with its node and its place.
        FormatError: not a valid model.

    Example:
        >>> from onnx import helper
        >>> x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])
        >>> y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
        >>> graph = helper.make_graph([helper.make_node("Tanh", ["x"], ["y"])], "g", [x], [y])
        >>> graph_of(helper.make_model(graph)).run({"x": np.zeros((2, 3))})["y"].shape
        (2, 3)
    """
    tensors = tensors or Tensors()
    _check_model(model, tensors)
    sizes = [tensors.stored(tensor) for tensor in tensors_in(model)]
    size = sum(int(np.prod(one.shape, dtype=np.int64)) * np.dtype(one.dtype).itemsize for one in sizes)
    if model.functions:
        Finder(model, tensors, size).find()  # raises where they call each other without end
        model = inliner.inline_local_functions(model)
    same: dict[str, str] = {}
    given = dict(given or {})
    while True:
        reader = _Reader(model, tensors, name, given, same, size, partial)
        try:
            return reader.graph()
        except ConflictError as error:
            first, second = error.words
            kept, gone = (
                (second, first) if reader.is_unnamed(first) and not reader.is_unnamed(second) else (first, second)
            )
            same = {word: kept if to == gone else to for word, to in same.items()} | {gone: kept}


class _Reader:
    """One reading, with certain words for lengths taken as one."""

    def __init__(
        self,
        model: onnx.ModelProto,
        tensors: Tensors,
        name: str,
        given: Mapping[str, Any],
        same: Mapping[str, str],
        size: int,
        partial: bool,
    ) -> None:
        self._model, self._given, self._same, self._partial = model, given, same, partial
        constants = {tensor.name for tensor in model.graph.initializer}
        self._items = [item for item in model.graph.input if item.name not in constants]
        self._unnamed: set[str] = set()
        self._taken = [item for item in self._items if item.name not in given]
        self._checks = Checks()
        self._shapes = {item.name: self._shape(item) for item in self._items if item.name not in given}
        words = [n for shape in self._shapes.values() for n in shape if isinstance(n, str)]
        graph = model.graph.name or "model"
        self._reading = Reading(name or graph, model, tensors, list(dict.fromkeys(words)), size)
        self._graph, self._reading.masked = with_masks(model.graph, tensors, self._reading.opset)
        self._reading.uses.update(names_used([self._graph]))
        self._where = f"graph '{graph}'"

    def is_unnamed(self, word: str) -> bool:
        """Whether a word was made up here."""
        return word in self._unnamed

    def _shape(self, item: onnx.ValueInfoProto) -> tuple[int | str, ...]:
        found: list[int | str] = []
        for axis, dim in enumerate(item.type.tensor_type.shape.dim):
            word = dim.dim_param or f"{item.name}_{axis}"
            if not dim.dim_param:
                self._unnamed.add(word)
            known = int(dim.dim_value) if dim.HasField("dim_value") and dim.dim_value > 0 else None
            length = self._same.get(word, word) if known is None else known
            fixed = self._given.get(length) if isinstance(length, str) else None
            found.append(length if fixed is None else int(fixed))
        return tuple(found)

    def graph(self) -> Graph:
        """The graph.

        Raises:
            ConflictError: it would be one if two words were one.
        """
        reading = self._reading
        scope: Scope = Scope({})
        for item in self._items:
            scope[item.name] = self._input(item)
        known = (
            {item.name for item in self._items} | {word for one in self._items for word in _words(one)} | self._unnamed
        )
        for name in self._given.keys() - known:
            expected = ", ".join(sorted(known))
            reading.problems.append(Problem("nothing in the model is called so", f"given['{name}']", expected, name))
        words = {one: self._same.get(one, one) for item in self._items for one in _words(item)}
        walker = Walker(reading, Stubs(self._model, words) if self._partial else None)
        scope.update(constants_of(self._model.graph, reading.tensors))
        self._checks = checks_in(self._graph.node, self._shapes, scope)
        for given_on, taken in self._checks.passed.items():
            scope[given_on] = scope[taken]
        walker.nodes(self._checks.others(self._graph.node), scope, self._where)
        outputs: dict[str, Wire | None] = {}
        given = {item.name for item in self._model.graph.output}
        for item in self._model.graph.output:
            # A model may give one value several times; those after the first get a number.
            name = unused_name(item.name, outputs.keys() | given) if item.name in outputs else item.name
            outputs[name] = self._output(item.name, scope)
        complete = {name: wire for name, wire in outputs.items() if wire is not None}
        if reading.problems and (not self._partial or len(complete) < len(outputs)):
            raise UnsupportedError(reading.problems)
        return self._finished(complete)

    def _input(self, item: onnx.ValueInfoProto) -> Value:
        where, kind = f"input '{item.name}'", item.type.tensor_type.elem_type
        if item.name in self._given:
            return Constant.of_array(np.asarray(self._given[item.name]), item.name)
        if not item.type.HasField("tensor_type") or kind not in _TYPES:
            got = TensorProto.DataType.Name(kind) if kind in TensorProto.DataType.values() else "another type"
            self._reading.problems.append(Problem("this type of input is not converted", where, "numbers", got))
            return Unknown()
        if not item.type.tensor_type.HasField("shape"):
            remedy = "export it with the axes of its inputs"
            self._reading.problems.append(Problem("how many axes it has is not said", where, "a shape", "none", remedy))
            return Unknown()
        return self._reading.input(item.name, self._shapes[item.name], _TYPES[kind])

    def _output(self, name: str, scope: Scope) -> Wire | None:
        value = scope.get(name, Unknown())
        try:
            if not isinstance(value, Unknown):
                return self._reading.wire(value)
        except ParityError as error:
            self._reading.problems += [replace(problem, where=f"output '{name}'") for problem in error.problems]
            return None
        if not self._reading.problems or self._partial:
            what = "this output cannot be followed"
            self._reading.problems.append(Problem(what, f"output '{name}'", "a value that the graph computes"))
        return None

    def _finished(self, outputs: dict[str, Wire]) -> Graph:
        reading = self._reading
        reading.build.details |= facts_of(self._model)
        if reading.stored:
            reading.build.details["stored as"] = ", ".join(sorted(reading.stored))
        if named := [f"{gone} = {kept}" for gone, kept in self._same.items() if not {gone, kept} & self._unnamed]:
            reading.build.details["lengths"] = ", ".join(sorted(named))
        reading.build.problems += reading.problems
        graph = reading.build.graph(outputs)
        nodes = _with_own_names(graph.nodes)
        inputs = self._renamed(graph)
        limits = self._checks.said({item.name: one.shape for item, one in zip(self._taken, inputs, strict=True)})
        details = {**graph.details, **({"limits": limits} if limits else {})}
        return replace(graph, inputs=tuple(_limited(inputs, nodes)), nodes=nodes, details=details)

    def _renamed(self, graph: Graph) -> list[GraphInput]:
        """The inputs, words that were made up replaced where a recurrent layer says what an axis is."""
        names: dict[str, str] = {}
        kept = {word for word in graph.words if word not in self._unnamed}

        def call(word: str | None, name: str) -> None:
            if word in self._unnamed and word not in names and name not in {*kept, *names.values()}:
                names[word] = name

        words = {lengths: word for word, lengths in self._reading.probes.items()}
        for node in graph.nodes:
            if isinstance(node.operation, Recurrent) and node.inputs[0] is not None:
                known = self._reading.known.get(node.inputs[0], ())
                for axis, name in enumerate(("batch", "time")):
                    call(words.get(tuple(one[axis] for one in known if one is not None)), name)
        for given in graph.inputs:
            for axis, name in enumerate(("batch", "time")[: max(len(given.shape) - 1, 1)]):
                length = given.shape[axis] if given.shape else 0
                call(length if isinstance(length, str) else None, name)
        return [
            replace(given, shape=tuple(names.get(n, n) if isinstance(n, str) else n for n in given.shape))
            for given in graph.inputs
        ]


def _words(item: onnx.ValueInfoProto) -> list[str]:
    return [dim.dim_param for dim in item.type.tensor_type.shape.dim if dim.dim_param]


def _check_model(model: onnx.ModelProto, tensors: Tensors) -> None:
    """Refuse what is no valid model; one that only the installed onnx does not know goes on, to be read as far as it goes."""
    outside = [tensor.name for tensor in tensors_in(model) if tensor.data_location == TensorProto.EXTERNAL]
    if outside:
        remedy = "load it with parity.frameworks.onnx.load, or save it in one piece"
        raise UnsupportedError(
            "weights stand in another file", tensors.where, "a model in one piece", ", ".join(outside[:8]), remedy
        )
    unchecked(model, tensors)


def _with_own_names(nodes: Sequence[Node]) -> tuple[Node, ...]:
    """The nodes, no two operations of one name."""
    taken: dict[str, Layered] = {}
    renamed: dict[int, Layered] = {}
    found = []
    for node in nodes:
        operation = renamed.get(id(node.operation), node.operation)
        if taken.setdefault(operation.name, operation) is not operation:
            changed: Any = operation
            own = unused_name(operation.name, taken)
            operation = renamed[id(node.operation)] = replace(changed, name=own)
            taken[operation.name] = operation
        found.append(replace(node, operation=operation))
    return tuple(found)


def _limited(inputs: Sequence[GraphInput], nodes: Sequence[Node]) -> list[GraphInput]:
    """The inputs, those that embeddings take below the size of their tables."""
    sources = {one.name: one.name for one in inputs}
    limits: dict[str, int] = {}
    for node in nodes:
        first = node.inputs[0] if node.inputs else None
        if first is None or first.node not in sources:
            continue
        if isinstance(node.operation, Cast):
            sources[node.name] = sources[first.node]
        elif isinstance(node.operation, Embedding):
            name = sources[first.node]
            limits[name] = min(limits.get(name, node.operation.input_size), node.operation.input_size)
    return [
        replace(one, below=limits[one.name]) if one.name in limits and one.dtype == "int64" else one for one in inputs
    ]


__all__ = ["graph_of"]
