"""Reads an ONNX graph that is a chain around LSTM, GRU and RNN nodes: every tensor is followed with the meaning of its axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import onnx
from onnx import helper

from parity.conventions import Value, onnx_returns
from parity.errors import FormatError, ParityError, Problem, UnsupportedError
from parity.frameworks.onnx.facts import facts_of
from parity.frameworks.onnx.options import NODE_DIRECTIONS, Options, options_of
from parity.frameworks.onnx.tensors import Tensors
from parity.frameworks.onnx.trace import (
    FEATURES,
    MERGED,
    OWN_AXES,
    RECURRENT_OPS,
    STACKED_AXES,
    STEPS,
    Traced,
    Tracer,
    layout_of,
)
from parity.frameworks.onnx.weights import POSITIONS, Weight, layer_of
from parity.network import Dense, Network, Output, Recurrent
from parity.network.activations import ACTIVATIONS
from parity.recurrent import Array

UNKNOWN_OPERATOR = "operator {} is not converted"

_SHOWN = 8
_ACTIVATION_OPS = {row.onnx: name for name, row in ACTIVATIONS.items() if name != "linear"}


def read_graph(model: onnx.ModelProto, known: Network | None = None, tensors: Tensors | None = None) -> Network:
    """Describe an ONNX model.

    Args:
        model: one chain: an input, possibly Gather (embedding) or MatMul/Add/Gemm (dense) around LSTM, GRU and RNN nodes, with
            the Transpose, Reshape, Squeeze and Gather that shift axes between them.
        known: the network, where the model is one that parity composed: then it only gets the model's details.
        tensors: gives the tensors of a model whose large ones are still in a file.

    Raises:
        UnsupportedError: other operators, several data inputs, or options of the recurrent nodes that are not converted; all at once.
        FormatError: a node without the attributes or weights it must have.
    """
    if known is not None:
        return replace(known, origin="onnxruntime", details=details_of(model, known.bare))
    try:
        return _Reader(model, tensors or Tensors()).network()
    except ParityError:
        raise
    except Exception as error:  # a node without the inputs or attributes it needs fails wherever they are looked up
        raise FormatError(
            "the graph cannot be followed",
            f"graph '{model.graph.name}'",
            "nodes with the inputs and attributes of the ONNX operator specification",
            f"{type(error).__name__}: {error}",
            "export it anew",
        ) from error


def details_of(model: onnx.ModelProto, time_major: bool) -> dict[str, str]:
    """What a model says of itself."""
    return {**facts_of(model), "input axes": STEPS if time_major else "batch time"}


class _Reader(Tracer):
    """Reads the layers, one after the other."""

    def __init__(self, model: onnx.ModelProto, tensors: Tensors) -> None:
        super().__init__(model, tensors)
        self._inputs = {item.name for item in self._graph.input}
        self._sources = set(self._lengths.values())
        self._some_sources = sorted(self._sources)[:_SHOWN]
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
            "Cast": self._cast,
            **dict.fromkeys(RECURRENT_OPS, self._recurrent),
            **dict.fromkeys(_ACTIVATION_OPS, self._activation),
        }

    def network(self) -> Network:
        """The graph's description; every problem is collected before any is raised."""
        given = [item.name for item in self._graph.output]
        if twice := sorted({name for name in given if given.count(name) > 1}):
            raise UnsupportedError(
                "a value is given twice", self._where(), "outputs of different names", ", ".join(twice)
            )
        states = {n for node in self._graph.node if node.op_type in RECURRENT_OPS for n in node.input[5:7] if n}
        others = states | self._constants.keys() | set(self._lengths.values())
        data = [item for item in self._graph.input if item.name not in others]
        if len(data) != 1:
            got = ", ".join(item.name for item in data) or "none"
            remedy = "give a graph with one input of sequences; initial states may stand beside it"
            raise UnsupportedError("not one data input", self._where(), "one", got, remedy)
        rank = len(data[0].type.tensor_type.shape.dim) or 3
        if rank not in (2, 3):
            raise UnsupportedError("the input is not a sequence", self._where(), "2 or 3 axes", str(rank))
        self._traced[data[0].name] = Traced(None, "input", ("first", "second", "input")[:rank])
        for node in self._followed():
            attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
            if self._is_moved(node, attributes):
                continue
            handler = self._handlers.get(node.op_type)
            if handler is None or node.domain not in ("", "ai.onnx"):
                self._refuse(node, UNKNOWN_OPERATOR.format(node.op_type))
            else:
                handler(node, attributes)
        if self._problems:
            raise UnsupportedError(self._problems)
        return self._finish()

    def _finish(self) -> Network:
        details = details_of(self._model, bool(self._time_major))
        if self._stored:
            details["stored as"] = ", ".join(sorted(self._stored))
        if self._lengths:
            details["sequence_lens"] = ", ".join(sorted(set(self._lengths.values())))
        name = self._graph.name or "model"
        outputs = [self._traced.get(item.name) for item in self._graph.output]
        as_in_keras = all(traced and traced.axes[0] == "batch" and "direction" not in traced.axes for traced in outputs)
        if all(map(self._is_own, outputs)) and not as_in_keras:
            return Network(name, tuple(self._layers.values()), (), "onnxruntime", details)
        self._end_with_state(outputs)
        named = tuple(self._output(item.name, traced) for item, traced in zip(self._graph.output, outputs, strict=True))
        if self._problems:
            raise UnsupportedError(self._problems)
        return Network(name, tuple(self._layers.values()), named, "onnxruntime", details)

    def _end_with_state(self, outputs: Sequence[Traced | None]) -> None:
        """A last layer whose sequence nobody takes gives its final state on, as Keras says it."""
        last = self._layers.get(self._last or "")
        taken = any(traced and traced.layer == self._last and traced.quantity == "sequence" for traced in outputs)
        if isinstance(last, Recurrent) and not taken:
            self._layers[last.name] = _ending(last)

    def _is_own(self, traced: Traced | None) -> bool:
        """Whether an output is what a bare stack gives: the last sequence or final states, as a node or as torch returns them."""
        recurrent = [isinstance(layer, Recurrent) for layer in self._layers.values()]
        if traced is None or traced.select != "all" or sorted(recurrent) != recurrent or not any(recurrent):
            return False  # what stands before a bare stack is its own; behind it there is nothing
        merged = traced.quantity == "sequence" and traced.axes in (("time", "batch", MERGED), ("batch", "time", MERGED))
        of_stack = merged or traced.axes in (*(own[0] for own in OWN_AXES.values()), STACKED_AXES)
        return traced.axes in [own[1] for own in OWN_AXES.values()] or (of_stack and traced.layer == self._last)

    def _output(self, name: str, traced: Traced | None) -> Output:
        if traced is None or traced.layer is None or "stacked" in traced.axes:
            self._problems.append(
                Problem("this output is not a value of one layer", f"output '{name}'", got=str(traced and traced.axes))
            )
            return Output(name, "")
        layer = self._layers[traced.layer]
        axes = " ".join(traced.axes)
        shown = traced.axes[1:] if traced.axes[1:2] != ("time",) else traced.axes[2:]
        if traced.axes[0] != "batch" or len(shown) != 1 or shown[0] not in ("hidden", MERGED, "unit"):
            remedy = "transpose it at the end of the graph, and choose or join the directions"
            self._problems.append(
                Problem("the output is not batch first", f"output '{name}'", "(batch time unit)", f"({axes})", remedy)
            )
        if not isinstance(layer, Recurrent):
            return Output(name, layer.name)
        quantity = next(row.quantity for row in onnx_returns(layer.spec.kind) if row.quantity == traced.quantity)
        value = Value(name, quantity, axes, traced.select)
        given = layer.values[0]
        same = (value.quantity, value.axes, value.select) == (given.quantity, given.axes, given.select)
        return Output(name, layer.name, None if same else value)

    def _recurrent(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
        kind = RECURRENT_OPS[node.op_type]
        before = len(self._problems)
        try:
            options = options_of(kind, attributes, self._where(node))
        except UnsupportedError as error:
            self._problems += error.problems
            options = Options(NODE_DIRECTIONS["forward"], (), layout_of(node))
        x = self._sequence(node, node.input[0], options.layout)
        arrays = self._arrays(node)
        self._check_states(node)
        self._check_lengths(node)
        if len(self._problems) > before or x is None:
            return
        layer = layer_of(self._name(node, kind), kind, options, arrays, attributes, self._where(node))
        if not self._is_next(node, x, layer.input_size):
            return
        self._fix_axes(x, options.layout)
        self._layers[layer.name] = layer
        for value, name in zip(onnx_returns(kind, options.layout), node.output, strict=False):
            if name:
                self._traced[name] = Traced(layer.name, value.quantity, tuple(value.axes.split()))

    def _arrays(self, node: onnx.NodeProto) -> dict[str, Weight]:
        """The weights of a recurrent node, by the operator's names; those it leaves out are not there."""
        arrays = {}
        for name, position in POSITIONS.items():
            if len(node.input) > position and node.input[position]:
                array = self._stored_weight(node.input[position])
                if array is None:
                    constant = self._constants.held.get(node.input[position])
                    got = "computed in the graph" if constant is None else str(constant.dtype)
                    self._refuse(node, f"{name} is not a constant of floating-point numbers", "an initializer", got)
                else:
                    arrays[name] = array
        return arrays

    def _check_lengths(self, node: onnx.NodeProto) -> None:
        """sequence_lens is an input of the graph, and the same for all nodes: then a run with a mask says it."""
        own = self._lengths.get(node.input[4]) if len(node.input) > 4 and node.input[4] else None
        remedy = "make it an input of the graph and hand lengths over as lengths or mask"
        if own is not None and (own not in self._inputs or own in self._constants):
            got = "a constant" if own in self._constants else "computed in the graph"
            self._refuse(
                node, "sequence_lens that is not an input of the graph is not converted", "a graph input", got, remedy
            )
        elif self._sources not in (set(), {own}):
            got = ", ".join(self._some_sources) + (", ..." if len(self._sources) > _SHOWN else "")
            self._refuse(
                node, "nodes with different sequence_lens are not converted", "one graph input for all", got, remedy
            )

    def _is_next(self, node: onnx.NodeProto, traced: Traced, size: int) -> bool:
        """Whether a node goes on where the chain stands: what it takes is what the last layer hands on, and of its size."""
        before = self._layers.get(self._last or "")
        if traced.layer != self._last:
            self._refuse(
                node,
                "the graph branches here",
                f"what layer '{self._last}' gives: every layer takes what the one before gives",
                "the model's input again" if traced.layer is None else f"a value of layer '{traced.layer}'",
                "cut it into models of one chain each, or keep this model in ONNX",
            )
            return False
        if before is not None and before.output_size != size:
            raise FormatError(
                "the sizes of two layers do not fit", self._where(node), f"{before.output_size} features", str(size)
            )
        return True

    def _check_states(self, node: onnx.NodeProto) -> None:
        inputs = self._inputs
        for name in node.input[5:7]:
            constant = self._constants.get(name)
            if name and name not in inputs and constant is None and name not in self._zeros:
                self._refuse(
                    node, "an initial state computed in the graph is not converted", "a graph input or zeros", name
                )
            elif name and constant is None and self._uses[name] > 1 and name in inputs:
                self._refuse(
                    node,
                    "an initial state that is used twice is not converted",
                    "an input for every state of every node",
                    f"graph input '{name}'",
                )
            elif constant is not None and constant.any():
                self._refuse(
                    node,
                    "a built-in initial state is not converted",
                    "a graph input, or zeros",
                    f"constant '{name}'",
                    "make it a graph input and hand the state over as initial_state",
                )

    def _sequence(self, node: onnx.NodeProto, name: str, layout: int) -> Traced | None:
        traced = self._traced.get(name)
        if traced is None or len(traced.axes) != 3:
            self._refuse(node, f"its input '{name}' is not a sequence that can be followed")
            return None
        steps = tuple(axis for axis in OWN_AXES[layout][0] if axis in ("time", "batch"))
        if set(traced.axes[:2]) == {"batch", "time"} and traced.axes[:2] != steps:
            expected = f"({' '.join(steps)} features)"
            self._refuse(node, "takes the batch axis for time", expected, f"({' '.join(traced.axes)})")
            return None
        traced = self._whole(traced)
        known = {"first", "second"} if "first" in traced.axes else {"batch", "time"}
        if set(traced.axes[:2]) != known or traced.axes[2] not in FEATURES or traced.select != "all":
            got = f"({' '.join(traced.axes)}) of {traced.select} directions"
            self._refuse(node, f"its input '{name}' is not what a layer hands on", f"({STEPS} features)", got)
            return None
        return traced

    def _fix_axes(self, x: Traced, layout: int) -> None:
        """The first recurrent node says which of the input's axes is time."""
        if "first" not in x.axes:
            return
        steps = [axis for axis in OWN_AXES[layout][0] if axis in ("time", "batch")]
        meaning = dict(zip(x.axes[:2], steps, strict=True))
        self._time_major = meaning["first"] == "time"
        for name, traced in self._traced.items():
            self._traced[name] = replace(traced, axes=tuple(meaning.get(axis, axis) for axis in traced.axes))

    def _matmul(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
        self._dense(node, self._weight(node.input[1]), None)

    def _gemm(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
        kernel = self._weight(node.input[1])
        bias = self._weight(node.input[2]) if len(node.input) > 2 and node.input[2] else None
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
        followed = self._follow(node)
        traced = self._whole(followed) if followed is not None else None
        if kernel is None or kernel.ndim != 2 or traced is None or traced.axes[-1] not in FEATURES:
            self._refuse(node, "this product is not a dense layer on a sequence or a final state")
            return
        if not self._is_next(node, traced, kernel.shape[0]):
            return
        self._pass_on(traced, node)
        layer = Dense(self._name(node, "dense"), kernel, bias)
        self._layers[layer.name] = layer
        self._put(node, Traced(layer.name, "value", (*traced.axes[:-1], "unit")))

    def _add(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
        constants = [self._weight(name) for name in node.input]
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
        if not self._used_here_only(node):
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
        # Below opset 13 Softmax flattens what lies from its axis on, 1 by default: along the last axis that is the same function.
        axis = attributes.get("axis", -1 if self._opset >= 13 else 1)
        if node.op_type == "Softmax" and axis not in (-1, rank - 1):
            got = f"axis={axis} of {rank} in opset {self._opset}"
            self._refuse(node, "this Softmax is not along the last axis", "axis=-1", got)
            return
        if not self._used_here_only(node):
            return
        self._layers[layer.name] = replace(layer, activation=_ACTIVATION_OPS[node.op_type])
        self._put(node, traced)

    def _used_here_only(self, node: onnx.NodeProto) -> bool:
        """Whether nothing else takes what this node makes a part of its layer: that would see the layer unfinished."""
        shared = [name for name in node.input if name in self._traced and self._uses[name] > 1]
        if shared:
            self._refuse(
                node,
                "the graph branches here",
                f"'{shared[0]}' used by this node alone",
                "it is used elsewhere, or an output of the graph",
            )
        return not shared

    def _pass_on(self, traced: Traced, node: onnx.NodeProto) -> None:
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
        self._layers[layer.name] = replace(layer, return_sequences=True) if sequences else _ending(layer)


def _ending(layer: Recurrent) -> Recurrent:
    """The layer handing its final state on, which under a mask is that of the last valid step: as if later steps repeated it."""
    return replace(layer, return_sequences=False, fill="repeat")
