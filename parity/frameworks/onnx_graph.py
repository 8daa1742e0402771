"""Reads an ONNX graph that is a chain around LSTM and GRU nodes: every tensor is followed with the meaning of its axes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from parity.conventions import Select, Value, onnx_returns
from parity.errors import FormatError, Problem, UnsupportedError
from parity.layouts import LAYOUTS, Kind
from parity.network import Dense, Embedding, Layer, Network, Output, Recurrent
from parity.network.activations import ACTIVATIONS
from parity.recurrent import DIRECTIONS, Array, Direction, RecurrentSpec, unpack

RECURRENT_OPS: dict[str, Kind] = {"LSTM": "lstm", "GRU": "gru"}
_DIRECTIONS: dict[str, tuple[Direction, ...]] = {
    "forward": ("forward",),
    "reverse": ("backward",),
    "bidirectional": DIRECTIONS,
}
_ACTIVATION_OPS = {row.onnx: name for name, row in ACTIVATIONS.items() if name != "linear"}
_CELL_ACTIVATIONS = {"lstm": ["Sigmoid", "Tanh", "Tanh"], "gru": ["Sigmoid", "Tanh"]}


@dataclass(frozen=True)
class _Traced:
    """What a tensor of the graph is: which layer it comes from, which quantity it shows, and what its axes mean."""

    layer: str | None
    quantity: str
    axes: tuple[str, ...]
    select: Select = "all"


def read_graph(model: onnx.ModelProto) -> Network:
    """Describe an ONNX model.

    Args:
        model: one chain: an input, possibly Gather (embedding) or MatMul/Add/Gemm (dense) around LSTM and GRU nodes, with
            the Transpose, Reshape, Squeeze and Gather that shift axes between them.

    Raises:
        UnsupportedError: other operators, several data inputs, or options of the recurrent nodes that are not converted; all at once.
        FormatError: a node without the attributes or weights it must have.
    """
    return _Reader(model).network()


class _Reader:
    def __init__(self, model: onnx.ModelProto) -> None:
        self._model, self._graph = model, model.graph
        self._constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in self._graph.initializer}
        self._layers: dict[str, Layer] = {}
        self._traced: dict[str, _Traced] = {}
        self._problems: list[Problem] = []
        self._time_major: bool | None = None
        self._handlers: dict[str, Callable[[onnx.NodeProto, dict[str, Any]], None]] = {
            "Transpose": self._transpose,
            "Reshape": self._reshape,
            "Squeeze": self._squeeze,
            "Gather": self._gather,
            "MatMul": self._matmul,
            "Gemm": self._gemm,
            "Add": self._add,
            "Concat": self._concat,
            "Identity": self._identity,
            "Constant": self._constant,
            **dict.fromkeys(RECURRENT_OPS, self._recurrent),
            **dict.fromkeys(_ACTIVATION_OPS, self._activation),
        }

    def network(self) -> Network:
        """The graph's description; every problem is collected before any is raised."""
        states = {n for node in self._graph.node if node.op_type in RECURRENT_OPS for n in node.input[5:7] if n}
        data = [i for i in self._graph.input if i.name not in self._constants and i.name not in states]
        if len(data) != 1:
            got = ", ".join(item.name for item in data) or "none"
            remedy = "give a graph with one input of sequences; initial states may stand beside it"
            raise UnsupportedError("not one data input", self._where(), "one", got, remedy)
        rank = len(data[0].type.tensor_type.shape.dim)
        self._traced[data[0].name] = _Traced(None, "input", ("first", "second", "input")[: rank or 3])
        for node in self._graph.node:
            attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
            handler = self._handlers.get(node.op_type)
            if handler is None or node.domain not in ("", "ai.onnx"):
                self._refuse(node, f"operator {node.op_type} is not converted")
            else:
                handler(node, attributes)
        if self._problems:
            raise UnsupportedError(self._problems)
        return self._finish()

    def _finish(self) -> Network:
        details = {
            "producer": f"{self._model.producer_name} {self._model.producer_version}".strip() or "not stated",
            "opset": str(
                next((o.version for o in self._model.opset_import if o.domain in ("", "ai.onnx")), "not stated")
            ),
            "input axes": "time batch" if self._time_major else "batch time",
        }
        layers = tuple(self._layers.values())
        name = self._graph.name or "model"
        outputs = [self._traced.get(item.name) for item in self._graph.output]
        last = list(self._layers)[-1:]
        own = [
            traced is not None
            and isinstance(self._layers.get(traced.layer or ""), Recurrent)
            and traced.select == "all"
            and traced.axes
            in (
                ("time", "direction", "batch", "hidden"),
                ("direction", "batch", "hidden"),
                ("stacked", "batch", "hidden"),
            )
            for traced in outputs
        ]
        if (
            all(own)
            and self._time_major
            and all(t is None or t.quantity != "sequence" or [t.layer] == last for t in outputs)
        ):
            return Network(name, layers, (), "onnxruntime", details)
        named = tuple(self._output(item.name, traced) for item, traced in zip(self._graph.output, outputs, strict=True))
        if self._problems:
            raise UnsupportedError(self._problems)
        return Network(name, layers, named, "onnxruntime", details)

    def _output(self, name: str, traced: _Traced | None) -> Output:
        if traced is None or traced.layer is None or "stacked" in traced.axes:
            self._problems.append(
                Problem("this output is not a value of one layer", f"output '{name}'", got=str(traced and traced.axes))
            )
            return Output(name, "")
        layer = self._layers[traced.layer]
        axes = " ".join(traced.axes)
        if isinstance(layer, Recurrent):
            quantity = next(row.quantity for row in onnx_returns(layer.spec.kind) if row.quantity == traced.quantity)
            value = Value(name, quantity, axes, traced.select)
            given = layer.values[0]
            same = (value.quantity, value.axes, value.select) == (given.quantity, given.axes, given.select)
            return Output(name, layer.name, None if same else value)
        if traced.axes not in (("batch", "time", "unit"), ("batch", "unit")):
            self._problems.append(
                Problem(
                    "the output is not batch first",
                    f"output '{name}'",
                    "(batch, time, unit)",
                    axes,
                    "transpose it at the end of the graph",
                )
            )
        return Output(name, layer.name)

    def _recurrent(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
        kind = RECURRENT_OPS[node.op_type]
        before = len(self._problems)
        self._check_options(node, kind, attributes)
        x = self._sequence(node, node.input[0])
        arrays = {}
        for name, position in (("W", 1), ("R", 2), ("B", 3)):
            if len(node.input) > position and node.input[position]:
                array = self._constants.get(node.input[position])
                if array is None or array.dtype != np.float32:
                    got = "computed in the graph" if array is None else str(array.dtype)
                    self._refuse(node, f"{name} is not a float32 constant", "a float32 initializer", got)
                else:
                    arrays[name] = array
        self._check_states(node)
        if len(self._problems) > before or x is None:
            return
        if "W" not in arrays or arrays["W"].ndim != 3 or "R" not in arrays or arrays["R"].ndim != 3:
            raise FormatError(
                "a recurrent node without W and R of three axes", self._where(node), "(direction, gates*hidden, input)"
            )
        directions = _DIRECTIONS[attributes.get("direction", b"forward").decode()]
        spec = RecurrentSpec(kind, arrays["W"].shape[2], arrays["R"].shape[2], directions)
        self._fix_axes(x)
        taken = replace(self._traced[node.input[0]], axes=("time", "batch", "input"))
        sequences = (
            taken.layer is None
            or not isinstance(self._layers.get(taken.layer), Recurrent)
            or taken.quantity == "sequence"
        )
        layer = Recurrent(self._name(node, kind), spec, unpack(LAYOUTS["onnx", kind], spec, arrays))
        if not sequences:
            self._refuse(node, "takes a final state as its sequence")
        self._layers[layer.name] = layer
        for value, name in zip(onnx_returns(kind), node.output, strict=False):
            if name:
                self._traced[name] = _Traced(layer.name, value.quantity, tuple(value.axes.split()))

    def _check_options(self, node: onnx.NodeProto, kind: Kind, attributes: dict[str, Any]) -> None:
        directions = len(_DIRECTIONS.get(attributes.get("direction", b"forward").decode(), ()))
        if not directions:
            raise FormatError(
                "unknown direction", self._where(node), ", ".join(_DIRECTIONS), str(attributes["direction"])
            )
        activations = [name.decode() for name in attributes.get("activations", [])]
        if activations and [name.lower() for name in activations] != [
            n.lower() for n in _CELL_ACTIVATIONS[kind] * directions
        ]:
            self._refuse(
                node,
                "other activations are not converted yet",
                ", ".join(_CELL_ACTIVATIONS[kind]),
                ", ".join(activations),
            )
        refused = {
            "clip": ("clip" in attributes, "no clip"),
            "input_forget": (bool(attributes.get("input_forget")), "input_forget=0"),
            "layout": (bool(attributes.get("layout")), "layout=0"),
            "linear_before_reset": (
                kind == "gru" and attributes.get("linear_before_reset", 0) != 1,
                "linear_before_reset=1",
            ),
        }
        for name, (is_refused, expected) in refused.items():
            if is_refused:
                self._refuse(node, f"this {name} is not converted yet", expected, f"{name}={attributes.get(name, 0)}")
        for name, position in (("sequence_lens", 4), ("P (peepholes)", 7)):
            if len(node.input) > position and node.input[position]:
                self._refuse(node, f"{name} is not converted yet", f"no {name}", node.input[position])

    def _check_states(self, node: onnx.NodeProto) -> None:
        inputs = {item.name for item in self._graph.input}
        for name in node.input[5:7]:
            constant = self._constants.get(name)
            if name and name not in inputs and constant is None:
                self._refuse(
                    node, "an initial state computed in the graph is not converted", "a graph input or zeros", name
                )
            elif constant is not None and constant.any():
                self._refuse(
                    node,
                    "a built-in initial state is not converted",
                    "a graph input, or zeros",
                    f"constant '{name}'",
                    "make it a graph input and hand the state over as initial_state",
                )

    def _sequence(self, node: onnx.NodeProto, name: str) -> _Traced | None:
        traced = self._traced.get(name)
        if traced is None or len(traced.axes) != 3:
            self._refuse(node, f"its input '{name}' is not a sequence that can be followed")
            return None
        if set(traced.axes[:2]) == {"batch", "time"} and traced.axes[:2] != ("time", "batch"):
            self._refuse(
                node, "takes the batch axis for time", "(time, batch, features)", f"({', '.join(traced.axes)})"
            )
            return None
        return traced

    def _fix_axes(self, x: _Traced) -> None:
        """The first recurrent node says which of the input's axes is time."""
        if "first" not in x.axes:
            return
        self._time_major = x.axes[0] == "first"
        meaning = dict(zip(x.axes[:2], ("time", "batch"), strict=True))
        for name, traced in self._traced.items():
            self._traced[name] = replace(traced, axes=tuple(meaning.get(axis, axis) for axis in traced.axes))

    def _transpose(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
        traced = self._follow(node)
        if traced is not None:
            permutation = attributes.get("perm", list(range(len(traced.axes)))[::-1])
            self._put(node, replace(traced, axes=tuple(traced.axes[axis] for axis in permutation)))

    def _reshape(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
        traced, shape = self._follow(node), self._constants.get(node.input[1])
        if traced is None or shape is None or traced.axes[-2:] != ("direction", "hidden"):
            self._refuse(node, "this Reshape is not one that joins the directions")
            return
        spec = self._spec(traced)
        kept = list(shape[:-1]) == [0] * (len(traced.axes) - 2)
        if not kept or int(shape[-1]) not in (-1, spec.output_size):
            self._refuse(node, "this Reshape is not one that joins the directions", got=str(shape.tolist()))
            return
        self._put(node, replace(traced, axes=(*traced.axes[:-2], "(direction hidden)")))

    def _squeeze(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
        traced = self._follow(node)
        axes = self._constants.get(node.input[1]) if len(node.input) > 1 else np.asarray(attributes.get("axes", []))
        single = traced is not None and "direction" in traced.axes and len(self._spec(traced).directions) == 1
        if (
            traced is None
            or axes is None
            or not single
            or [int(a) % len(traced.axes) for a in axes] != [traced.axes.index("direction")]
        ):
            self._refuse(node, "this Squeeze does not drop the axis of a single direction")
            return
        rest = [axis for axis in traced.axes if axis != "direction"]
        self._put(
            node, replace(traced, axes=tuple("(direction hidden)" if axis == "hidden" else axis for axis in rest))
        )

    def _gather(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
        table, index = (self._constants.get(name) for name in node.input[:2])
        tokens = self._traced.get(node.input[1])
        if (
            table is not None
            and tokens is not None
            and table.ndim == 2
            and attributes.get("axis", 0) == 0
            and tokens.quantity == "input"
        ):
            layer = Embedding(self._name(node, "embedding"), table)
            self._layers[layer.name] = layer
            self._put(node, _Traced(layer.name, "value", (*tokens.axes[:2], "input")))
            return
        traced = self._follow(node)
        axis = attributes.get("axis", 0)
        if (
            traced is None
            or index is None
            or index.ndim
            or "direction" not in traced.axes
            or axis != traced.axes.index("direction")
        ):
            self._refuse(node, "this Gather is neither an embedding nor the choice of a direction")
            return
        rest = tuple(name for name in traced.axes if name != "direction")
        self._put(node, replace(traced, axes=rest, select=DIRECTIONS[int(index)]))

    def _matmul(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
        self._dense(node, self._constants.get(node.input[1]), None)

    def _gemm(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
        kernel = self._constants.get(node.input[1])
        bias = self._constants.get(node.input[2]) if len(node.input) > 2 and node.input[2] else None
        plain = (
            attributes.get("alpha", 1.0) == 1.0
            and attributes.get("beta", 1.0) == 1.0
            and not attributes.get("transA", 0)
        )
        if not plain or (len(node.input) > 2 and node.input[2] and bias is None):
            self._refuse(node, "this Gemm is not a plain dense layer")
            return
        self._dense(node, kernel.T if kernel is not None and attributes.get("transB", 0) else kernel, bias)

    def _dense(self, node: onnx.NodeProto, kernel: Array | None, bias: Array | None) -> None:
        traced = self._follow(node)
        if (
            traced is None
            or kernel is None
            or kernel.ndim != 2
            or traced.axes[-1] not in ("(direction hidden)", "input", "unit")
        ):
            self._refuse(node, "this product is not a dense layer on a sequence or a final state")
            return
        self._pass_on(traced, node)
        layer = Dense(self._name(node, "dense").removesuffix(".product"), kernel, bias)
        self._layers[layer.name] = layer
        self._put(node, _Traced(layer.name, "value", (*traced.axes[:-1], "unit")))

    def _add(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
        constants = [self._constants.get(name) for name in node.input]
        bias = next((array for array in constants if array is not None), None)
        traced = next((self._traced[name] for name in node.input if name in self._traced), None)
        layer = self._layers.get(traced.layer or "") if traced else None
        if (
            bias is None
            or traced is None
            or not isinstance(layer, Dense)
            or layer.bias is not None
            or layer.activation != "linear"
            or bias.shape != (layer.output_size,)
        ):
            self._refuse(node, "this Add is not the bias of a dense layer")
            return
        self._layers[layer.name] = replace(layer, bias=bias)
        self._put(node, traced)

    def _activation(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
        traced = self._follow(node)
        layer = self._layers.get(traced.layer or "") if traced else None
        if traced is None or not isinstance(layer, Dense) or layer.activation != "linear":
            self._refuse(node, f"this {node.op_type} does not follow a dense layer")
            return
        rank = len(traced.axes)
        if node.op_type == "Softmax" and attributes.get("axis", -1) % rank != rank - 1:
            self._refuse(node, "this Softmax is not along the last axis", "axis=-1", f"axis={attributes.get('axis')}")
            return
        self._layers[layer.name] = replace(layer, activation=_ACTIVATION_OPS[node.op_type])
        self._put(node, traced)

    def _concat(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
        parts = [self._traced.get(name) for name in node.input]
        recurrent = [name for name, layer in self._layers.items() if isinstance(layer, Recurrent)]
        stacked = [
            part.layer
            for part in parts
            if part and part.axes == ("direction", "batch", "hidden") and part.select == "all"
        ]
        same = len({part.quantity for part in parts if part}) == 1
        if attributes.get("axis") != 0 or stacked != recurrent or not same or parts[-1] is None:
            self._refuse(node, "this Concat does not stack the final states of all layers")
            return
        self._put(node, replace(parts[-1], axes=("stacked", "batch", "hidden")))

    def _identity(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
        if node.input[0] in self._constants:
            self._constants[node.output[0]] = self._constants[node.input[0]]
            return
        traced = self._follow(node)
        if traced is not None:
            self._put(node, traced)

    def _constant(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
        if "value" not in attributes:
            self._refuse(node, "this form of Constant is not read", "a tensor in 'value'", ", ".join(attributes))
            return
        self._constants[node.output[0]] = numpy_helper.to_array(attributes["value"])

    def _pass_on(self, traced: _Traced, node: onnx.NodeProto) -> None:
        """A layer hands a recurrent layer's value on: every step, or the final state."""
        layer = self._layers.get(traced.layer or "")
        if not isinstance(layer, Recurrent):
            return
        sequences = traced.quantity == "sequence"
        given = replace(layer, return_sequences=sequences).values[0]
        if (given.axes, given.select) != (" ".join(traced.axes), traced.select) or traced.quantity == "c":
            self._refuse(
                node, "takes a value of the recurrent layer that is not passed on so", given.axes, " ".join(traced.axes)
            )
        self._layers[layer.name] = replace(layer, return_sequences=sequences)

    def _follow(self, node: onnx.NodeProto) -> _Traced | None:
        traced = self._traced.get(node.input[0])
        if traced is None and not self._problems:
            self._refuse(node, f"its input '{node.input[0]}' cannot be followed")
        return traced

    def _put(self, node: onnx.NodeProto, traced: _Traced) -> None:
        self._traced[node.output[0]] = traced

    def _spec(self, traced: _Traced) -> RecurrentSpec:
        layer = self._layers[traced.layer or ""]
        if not isinstance(layer, Recurrent):
            raise FormatError("a direction axis that no recurrent layer made", traced.layer or "")
        return layer.spec

    def _name(self, node: onnx.NodeProto, fallback: str) -> str:
        name = node.name or fallback
        count = 1
        while name in self._layers:
            name, count = f"{node.name or fallback}_{count}", count + 1
        return name

    def _where(self, node: onnx.NodeProto | None = None) -> str:
        graph = f"graph '{self._graph.name}'"
        return graph if node is None else f"{graph}, node '{node.name or node.output[0]}' ({node.op_type})"

    def _refuse(self, node: onnx.NodeProto, what: str, expected: str = "", got: str = "", remedy: str = "") -> None:
        self._problems.append(
            Problem(
                what, self._where(node), expected, got, remedy or "take it out of the graph, or keep this model in ONNX"
            )
        )
