"""A whole graph as an ONNX model: nodes under the names of the layers, weights as `<layer>.<weight>`, axes under the graph's words."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from numbers import Integral
from typing import Any

import numpy as np
import onnx

from parity.errors import REGISTER, ParityError, Problem, ShapeError, UnsupportedError
from parity.forms import Form, obstacles
from parity.frameworks.onnx.building import DEFAULT_OPSET, FORM_KEY, OPSETS
from parity.frameworks.onnx.cleaning import clean_graph
from parity.frameworks.onnx.loading import LARGEST
from parity.frameworks.onnx.nodes import BOOL, DOUBLE, FLOAT, INT64, Assembly
from parity.frameworks.onnx.single import is_float32, not_float32
from parity.frameworks.onnx.whole.writing_elementwise import (
    write_activation,
    write_cast,
    write_elementwise,
    write_softmax,
)
from parity.frameworks.onnx.whole.writing_layers import (
    write_constant,
    write_dense,
    write_dropout,
    write_einsum,
    write_embedding,
    write_masking,
    write_matmul,
    write_range,
)
from parity.frameworks.onnx.whole.writing_limits import checked_input, say_limits
from parity.frameworks.onnx.whole.writing_norms import (
    write_batch_normalization,
    write_group_normalization,
    write_layer_normalization,
    write_unit_normalization,
)
from parity.frameworks.onnx.whole.writing_recurrent import write_bidirectional, write_recurrent
from parity.frameworks.onnx.whole.writing_reduction import write_reduction
from parity.frameworks.onnx.whole.writing_shaping import (
    write_concatenate,
    write_expand,
    write_expand_dims,
    write_flip,
    write_pad,
    write_repeat,
    write_reshape,
    write_select,
    write_slice,
    write_squeeze,
    write_stack,
    write_take,
    write_transpose,
)
from parity.frameworks.onnx.whole.writing_stubs import (
    axes_around,
    behind_unknown,
    operator_names,
    value_infos,
    write_stub,
)
from parity.frameworks.onnx.whole.writing_values import Call, Held, Kind, Tensors, as_real, places_of
from parity.frameworks.onnx.whole.writing_windows import write_convolution, write_pooling
from parity.graph import Graph, Node, Wire
from parity.graph import operations as ops
from parity.graph.lengths import Axis, axes_of
from parity.graph.reading_notes import limited_axes, reading_notes
from parity.graph.simplify import spelled_out
from parity.network import Bidirectional, Dense, Dropout, Embedding, Masking, Recurrent
from parity.recurrent import Array

OLDEST = 13
"""Reductions, Softmax, Squeeze and Unsqueeze have had their present form since opset 13."""

PLACES_KEY = "parity.values"
"""Metadata of a model: which tensors are which values of the graph; see `parity.frameworks.onnx.whole.running.places`."""

NO_FLOAT64 = frozenset(
    ("AveragePool", "Conv", "Elu", "Erf", "HardSigmoid", "InstanceNormalization", "Selu", "Softplus", "Softsign")
)
"""Operators that ONNX Runtime has in float32 only."""

WRITERS: dict[type[Any], Callable[[Call], None]] = {
    Recurrent: write_recurrent,
    Bidirectional: write_bidirectional,
    Dense: write_dense,
    Embedding: write_embedding,
    Masking: write_masking,
    Dropout: write_dropout,
    ops.Constant: write_constant,
    ops.MatMul: write_matmul,
    ops.Range: write_range,
    ops.Einsum: write_einsum,
    ops.Convolution: write_convolution,
    ops.Pooling: write_pooling,
    ops.BatchNormalization: write_batch_normalization,
    ops.LayerNormalization: write_layer_normalization,
    ops.GroupNormalization: write_group_normalization,
    ops.UnitNormalization: write_unit_normalization,
    ops.Elementwise: write_elementwise,
    ops.Activation: write_activation,
    ops.Softmax: write_softmax,
    ops.Cast: write_cast,
    ops.Reduction: write_reduction,
    ops.Transpose: write_transpose,
    ops.Reshape: write_reshape,
    ops.Expand: write_expand,
    ops.ExpandDims: write_expand_dims,
    ops.Squeeze: write_squeeze,
    ops.Concatenate: write_concatenate,
    ops.Stack: write_stack,
    ops.Slice: write_slice,
    ops.Flip: write_flip,
    ops.Select: write_select,
    ops.Take: write_take,
    ops.Pad: write_pad,
    ops.Repeat: write_repeat,
}
"""What writes each operation."""

_KINDS: dict[str, Kind] = {"f": "float", "i": "int", "u": "int", "b": "bool"}


def model_of(graph: Graph, opset: int | None = None, partial: bool = False) -> onnx.ModelProto:
    """A whole graph as an ONNX model that ONNX Runtime runs.

    Inputs and outputs have the graph's names (where ONNX can hold them, see `clean`), order and words for lengths that differ from
    call to call. Each node of the graph is one
    of ONNX under its name, with helpers around it where ONNX needs several. A model all of whose weights are float32 numbers is one of
    float32; any other is one of float64, if ONNX Runtime has its operators so. A stateful layer whose states the graph does not give
    starts from zeros in every call; `parity.frameworks.onnx.form` says so.

    Args:
        graph: of the model.
        opset: 13 to 22; 17 by default.
        partial: whether a stub becomes a node of an operator that is to be filled in, see `writing_stubs`; else it is refused.

    Raises:
        UnsupportedError: an opset outside, stubs, more than 2 GiB, what this opset or float64 does not have; all of a kind at once.
        ShapeError: no lengths of "batch", "time", ... were found that all operations take.

    Example:
        >>> from parity.graph import Builder
        >>> from parity.network import Dense
        >>> build = Builder("model")
        >>> x = build.input("x", ("batch", "time", 3))
        >>> model = model_of(build.graph({"y": build.call(Dense("classes", np.ones((3, 2), np.float32)), x)}))
        >>> [node.name for node in model.graph.node], [tensor.name for tensor in model.graph.initializer]
        (['classes', 'y.output'], ['classes.kernel'])
    """
    found = _opset(opset)
    graph = spelled_out(clean_graph(graph.without_unused()))
    if not partial:
        _refuse_stubs(graph)
    _refuse_size(graph)
    return _Writing(graph, found, _real(graph)).model()


def _opset(opset: int | None) -> int:
    wanted = DEFAULT_OPSET if opset is None else opset
    if not isinstance(wanted, Integral) or isinstance(wanted, bool) or not OLDEST <= wanted <= OPSETS[1]:
        expected = f"a whole number, {OLDEST} to {OPSETS[1]}"
        remedy = f"leave it out, or opset={DEFAULT_OPSET}"
        raise UnsupportedError("whole models are not written in this opset", "opset", expected, repr(opset), remedy)
    return int(wanted)


def _refuse_stubs(graph: Graph) -> None:
    problems = [
        Problem(
            "a layer that parity does not know cannot be in an ONNX model",
            f"layer '{stub.name}'",
            "layers that parity knows: ONNX has no place for code",
            stub.class_name,
            f"{REGISTER}; or --partial with --to torch, keras or onnx leaves a stub for it",
        )
        for stub in graph.stubs
    ]
    if problems:
        raise UnsupportedError(problems)


def _refuse_size(graph: Graph) -> None:
    size = sum(held.nbytes for _, _, held in graph.weights())
    if size > LARGEST:
        expected, remedy = f"at most {LARGEST} bytes, protobuf's limit", "write it for torch or Keras"
        raise UnsupportedError(
            "an ONNX file by itself holds no more than 2 GiB", "the target", expected, f"{size} bytes", remedy
        )


def _real(graph: Graph) -> int:
    """The type of the model's floats.

    Raises:
        UnsupportedError: float64 weights that are not float32 numbers, beside recurrent layers.
    """
    wide = [one for one in graph.operations if any(held.dtype == np.float64 for held in one.arrays.held.values())]
    if all(is_float32(array) for one in wide for array in one.arrays.values() if array.dtype == np.float64):
        return FLOAT
    if any(isinstance(one, (Recurrent, Bidirectional)) for one in graph.operations):
        raise UnsupportedError([problem for one in wide for problem in not_float32(one.name, one.arrays)])
    return DOUBLE


_SHORT = (*range(1, 65), 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048)
"""Lengths at which a slice may give fewer places than it asks for."""


def _axes(graph: Graph) -> dict[Wire, tuple[Axis, ...]]:
    """The shapes of all values; "?" for a length that stays only where the inputs are long enough for a slice.

    Raises:
        ShapeError: the graph takes none of the lengths that are tried.
    """
    found = axes_of(graph)
    if not found:
        expected = f"a model that takes any {', '.join(graph.words)}, or their multiples"
        raise ShapeError("the shapes inside the model are not known", graph.name, expected, "it refuses those tried")
    if not any(_is_cut(node, found) for node in graph.nodes):
        return found
    for short in _SHORT:
        try:
            tried = graph.shapes(dict.fromkeys(graph.words, short))
        except ParityError:
            continue
        for wire, axes in found.items():
            pairs = zip(axes, tried[wire], strict=True)
            found[wire] = tuple("?" if isinstance(n, int) and n != length else n for n, length in pairs)
    return found


def _is_cut(node: Node, axes: Mapping[Wire, tuple[Axis, ...]]) -> bool:
    """Whether a node takes a fixed number of places from an axis of any length."""
    first = node.inputs[0] if node.inputs else None
    if not isinstance(node.operation, ops.Slice) or first is None:
        return False
    pairs = zip(axes[first], axes[Wire(node.name)], strict=True)
    return any(isinstance(before, str) and isinstance(after, int) for before, after in pairs)


class _Writing:
    """Adds the nodes of a graph, one after the other."""

    def __init__(self, graph: Graph, opset: int, real: int) -> None:
        self._graph, self._axes = graph, axes_around(graph, _axes)
        self._operators = operator_names(graph)
        names = [*graph.outputs, *(given.name for given in graph.inputs)]
        self._a = Assembly(opset, names, [node.name for node in graph.nodes], real)
        self._values: dict[Wire, Held] = {}
        self._shared: dict[str, Any] = {}
        self._problems: list[Problem] = []

    def model(self) -> onnx.ModelProto:
        """The whole model, checked."""
        limits = limited_axes(self._graph)
        for given in self._graph.inputs:
            kind = _kind_of(given.dtype)
            code = {"float": self._a.real, "int": INT64, "bool": BOOL}[kind]
            name = self._a.input(given.name, code, given.shape)
            order = tuple(range(len(given.shape)))
            name = checked_input(self._a, name, [one for one in limits if one.input == given.name])
            self._values[Wire(given.name)] = Held(Tensors(kind, {order: name}), order, given.name, self._a)
        for node in self._graph.nodes:
            self._add(node)
        if self._problems:
            raise UnsupportedError(self._problems)
        self._give_outputs()
        return self._described(self._a.model(self._graph.name, {FORM_KEY: json.dumps(asdict(form_of(self._graph)))}))

    def _add(self, node: Node) -> None:
        if isinstance(node.operation, ops.Stub):
            self._add_stub(node, node.operation)
            return
        unknown = [wire for wire in node.inputs if wire is not None and wire not in self._axes]
        if unknown:  # of several layers behind one stub the first is named
            self._problems += [behind_unknown(node, wire) for wire in unknown[:1] if wire in self._values]
            return
        call, before = self._call(node), len(self._a.nodes)
        try:
            WRITERS[type(node.operation)](call)
            self._refuse_float32_only(node, before)
        except UnsupportedError as error:
            self._problems += error.problems
        self._name(node, call, before)
        index = 0
        while (wire := Wire(node.name, index)) in self._axes:
            rank = tuple(range(len(self._axes[wire])))
            # After a refusal: something to go on with, so that all problems are found.
            missing = Held(Tensors("float", {rank: ""}), rank, node.name, self._a)
            self._values[wire] = call.given.get(index, missing)
            index += 1

    def _add_stub(self, node: Node, stub: ops.Stub) -> None:
        if any(wire is not None and wire not in self._values for wire in node.inputs):
            return  # the layer whose value it is has been refused
        call, words = self._call(node), set(self._graph.words)
        wires = [Wire(node.name, index) for index in range(stub.outputs)]
        known = [self._axes.get(wire) for wire in wires]
        shapes = [axes and tuple(n if isinstance(n, int) or n in words else "?" for n in axes) for axes in known]
        write_stub(call, self._operators[stub.name], shapes)
        self._values.update({wire: call.given[wire.index] for wire in wires})

    def _call(self, node: Node) -> Call:
        dims = tuple(
            tuple(n if isinstance(n, int) else None for n in (self._axes.get(wire, ()) if wire is not None else ()))
            for wire in node.inputs
        )
        inputs = tuple(None if wire is None else self._values[wire] for wire in node.inputs)
        rank = len(self._axes.get(Wire(node.name), ()))
        weights = self._weights_of(node)
        return Call(node.name, node.operation, inputs, dims, rank, self._a, weights, self._shared)

    def _weights_of(self, node: Node) -> Callable[[Mapping[str, Array]], dict[str, str]]:
        name = node.operation.name

        def weights(arrays: Mapping[str, Array]) -> dict[str, str]:
            if (name, 0) in self._a.homes:
                return self._a.homes[name, 0]
            if isinstance(node.operation, ops.Constant):
                found = {key: self._a.constant(name, as_real(array, self._a)) for key, array in arrays.items()}
                self._a.homes[name, 0] = found
                return found
            return self._a.weights(name, {key: as_real(array, self._a) for key, array in arrays.items()})

        return weights

    def _name(self, node: Node, call: Call, before: int) -> None:
        """The node that gives the layer's value has the layer's name, where none of those added has it yet."""
        added = self._a.nodes[before:]
        if any(one.name == node.name for one in added) or 0 not in call.given:
            return
        made = set(call.given[0].tensors.made.values())
        for one in added:
            if made.intersection(one.output):
                one.name = node.name

    def _refuse_float32_only(self, node: Node, before: int) -> None:
        missing = sorted({one.op_type for one in self._a.nodes[before:]} & NO_FLOAT64)
        if self._a.real == DOUBLE and missing:
            raise UnsupportedError(
                f"ONNX Runtime has no float64 {' or '.join(missing)}",
                f"layer '{node.operation.name}'",
                "weights that are float32 numbers",
                "float64 weights somewhere in the model",
                "round the weights to float32 in the source, or keep the model in Keras or torch",
            )

    def _give_outputs(self) -> None:
        inputs = {given.name for given in self._graph.inputs}
        words = set(self._graph.words)
        for name, wire in self._graph.outputs.items():
            held = self._values[wire]
            shape = self._axes.get(wire, (None,) * len(held.order))
            axes = [n if isinstance(n, int) or n in words else None for n in shape]
            own = name if name not in inputs else self._a.name(f"{name}.output")
            kind = {"float": self._a.real, "int": INT64, "bool": BOOL}[held.kind]
            self._a.give(held.in_order(), own, axes, kind)

    def _described(self, model: onnx.ModelProto) -> onnx.ModelProto:
        present = {name for node in model.graph.node for name in (*node.input, *node.output)}
        places = json.dumps(places_of(self._values, present))
        model.metadata_props.add(key=PLACES_KEY, value=places)
        say_limits(model, limited_axes(self._graph))
        model.graph.value_info.extend(value_infos(self._graph, self._values, self._axes, self._a.real))
        return model


def _kind_of(dtype: str) -> Kind:
    return _KINDS[np.dtype(dtype).kind]


def form_of(graph: Graph) -> Form:
    """How a graph is said in ONNX: why recurrent layers are compositions, and which layers start from zeros in every call."""
    composed, notes = [], list(reading_notes(graph))
    for node in graph.nodes:
        layer = node.operation
        if not isinstance(layer, (Recurrent, Bidirectional)):
            continue
        masked = len(node.inputs) > 1 and node.inputs[1] is not None
        composed += [f"layer '{layer.name}': {reason}" for reason in obstacles(layer, "onnx", masked, bare=False)]
        layers = layer.recurrent if isinstance(layer, Bidirectional) else (layer,)
        given = any(wire is not None for wire in node.inputs[2:])
        if any(inner.stateful for inner in layers) and not given:
            notes.append(f"layer '{layer.name}': is stateful; every call of the model starts from zeros")
    return Form(tuple(dict.fromkeys(composed)), tuple(dict.fromkeys(notes)))


__all__ = ["NO_FLOAT64", "OLDEST", "PLACES_KEY", "WRITERS", "form_of", "model_of"]
