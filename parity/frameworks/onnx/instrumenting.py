"""Copies of ONNX models that show everything their recurrent layers compute and take every initial state from outside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from parity.conventions import onnx_returns
from parity.errors import UnsupportedError
from parity.frameworks.onnx.building import Builder, Probe
from parity.frameworks.onnx.masks import OPSET as MASK_OPSET
from parity.frameworks.onnx.names import Names
from parity.frameworks.onnx.single import as_float32
from parity.frameworks.onnx.trace import RECURRENT_OPS, direct_sources, layout_of
from parity.functions import FUNCTIONS
from parity.network import Network

_WIDTHS = (TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16)
_LENGTHS, _STATES = 4, (5, 7)
"""Where a recurrent node takes sequence_lens, and from where to where its initial states."""


@dataclass
class Instrumented:
    """A copy of a model, and how to speak to it.

    Args:
        model: the copy.
        input: name of the data input.
        time_major: whether that is (time, batch, ...).
        states: names of the state inputs, by layer.
        values: names of the outputs of every layer, in the order of `onnx_returns`.
        last: names of the outputs that hold what a layer gives last, where they are not its h.
        lengths: inputs that take the number of valid steps of each row.
        mask: the input that takes a mask, (time, batch); None where lengths are all that the model can be told.
        notes: what was changed, for the settings of a run.
    """

    model: onnx.ModelProto
    input: str
    time_major: bool
    states: dict[str, list[str]]
    values: dict[str, list[str]]
    last: dict[str, str] = field(default_factory=dict)
    lengths: tuple[str, ...] = ()
    mask: str | None = None
    notes: dict[str, str] = field(default_factory=dict)


def probed(network: Network, opset: int, masked: bool) -> Instrumented:
    """The graph that parity builds from a network, built once more with a probe: the same nodes, more inputs and outputs.

    Below opset 11 there are no operators for what a mask, or a given state of a projected layer, needs: then 11 is taken.
    """
    needs_newer = masked or any(layer.spec.projection_size for layer in network.recurrent)
    taken = max(opset, MASK_OPSET) if needs_newer else opset
    probe = Probe.of(network, masked)
    model = Builder(as_float32(network), taken, probe).model()
    values = {
        layer.name: [probe.value(layer.name, row.name) for row in onnx_returns(layer.spec.kind)]
        for layer in network.recurrent
    }
    return Instrumented(
        model,
        model.graph.input[0].name,
        network.bare,
        {layer.name: [probe.initial(layer.name, s) for s in layer.spec.states] for layer in network.recurrent},
        values,
        {layer.name: probe.value(layer.name, "last") for layer in network.recurrent},
        mask=probe.mask if masked else None,
        notes={} if taken == opset else {"opset": f"{taken}, not {opset}: more had to be shown"},
    )


def instrument(model: onnx.ModelProto, network: Network, masked: bool = False) -> Instrumented:
    """A copy whose recurrent nodes take every initial state from outside and show everything they compute.

    Args:
        model: of native recurrent nodes, as `parity.frameworks.onnx.graph` reads them.
        network: what was read.
        masked: whether every node also takes the number of valid steps of each row.

    Raises:
        UnsupportedError: float64 weights that are not float32 numbers.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    notes = _in_float32(copy)
    graph = copy.graph
    _open_shapes(graph)
    constants = {tensor.name for tensor in graph.initializer}
    inputs = {item.name for item in graph.input} - constants
    names = Names(inputs | constants | {name for node in graph.node for name in (*node.input, *node.output)})
    if any(layout_of(node) for node in graph.node if node.op_type in RECURRENT_OPS):
        notes["layout"] = "0, rewritten from 1, which ONNX Runtime refuses"
        _time_first(graph, names)
    nodes = [node for node in graph.node if node.op_type in RECURRENT_OPS]
    _spell_activations(nodes)
    taken = {name for node in nodes for name in node.input[_LENGTHS : _LENGTHS + 1] if name}
    lengths = sorted(set(direct_sources(graph, taken).values()))
    if masked:
        lengths.append(names.unique("parity.sequence_lens"))
        graph.input.append(helper.make_tensor_value_info(lengths[-1], TensorProto.INT32, [None]))
    outputs = {item.name for item in graph.output}
    states: dict[str, list[str]] = {}
    values: dict[str, list[str]] = {}
    for layer, node in zip(network.recurrent, nodes, strict=True):
        spec = layer.spec
        node.input.extend([""] * (_STATES[0] + len(spec.states) - len(node.input)))
        if masked:
            node.input[_LENGTHS] = lengths[-1]
        states[layer.name] = []
        for position, state in enumerate(spec.states, start=_STATES[0]):
            if node.input[position] not in inputs:
                name = node.input[position] = names.unique(f"parity.{layer.name}.initial_{state}")
                shape = [len(spec.directions), None, spec.hidden_size]
                graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
            states[layer.name].append(node.input[position])
        returns = onnx_returns(spec.kind)
        node.output.extend([""] * (len(returns) - len(node.output)))
        for position, value in enumerate(returns):
            if not node.output[position]:
                node.output[position] = names.unique(f"parity.{layer.name}.{value.name}")
            if node.output[position] not in outputs:
                graph.output.append(helper.make_tensor_value_info(node.output[position], TensorProto.FLOAT, None))
        values[layer.name] = list(node.output)
    data = _data_input(copy, {*lengths, *(name for given in states.values() for name in given)})
    return Instrumented(copy, data, _takes_time_first(copy), states, values, {}, tuple(lengths), None, notes)


def _data_input(model: onnx.ModelProto, others: set[str]) -> str:
    constants = {tensor.name for tensor in model.graph.initializer}
    return str(next(item.name for item in model.graph.input if item.name not in constants | others))


def _time_first(graph: onnx.GraphProto, names: Names) -> None:
    """Every recurrent node of layout 1, in place, as one of layout 0 between transpositions; ONNX Runtime knows no other."""
    nodes = list(graph.node)
    del graph.node[:]
    inputs = {item.name: item for item in graph.input}
    for node in nodes:
        if node.op_type not in RECURRENT_OPS or not layout_of(node):
            graph.node.append(node)
            continue
        kind = RECURRENT_OPS[node.op_type]
        for attribute in [attribute for attribute in node.attribute if attribute.name == "layout"]:
            node.attribute.remove(attribute)
        for state in node.input[slice(*_STATES)]:
            # States come from outside in layout 0 whatever the graph took.
            if state in inputs:
                graph.input.remove(inputs.pop(state))
        for position in range(_STATES[0], min(_STATES[1], len(node.input))):
            node.input[position] = ""
        x = names.unique(f"{node.input[0]}.time_first")
        graph.node.append(helper.make_node("Transpose", [node.input[0]], [x], perm=[1, 0, 2]))
        node.input[0] = x
        after = []
        for position, (old, new) in enumerate(zip(onnx_returns(kind, 1), onnx_returns(kind), strict=True)):
            if position < len(node.output) and node.output[position]:
                target = node.output[position]
                node.output[position] = names.unique(f"{target}.time_first")
                permutation = [new.axes.split().index(axis) for axis in old.axes.split()]
                after.append(helper.make_node("Transpose", [node.output[position]], [target], perm=permutation))
        graph.node.extend([node, *after])


def _spell_activations(nodes: Sequence[onnx.NodeProto]) -> None:
    """The names of activations, in place, as the specification spells them: ONNX Runtime's RNN knows no other case."""
    spelt = {row.onnx.lower(): row.onnx for row in FUNCTIONS.values() if row.onnx}
    for node in nodes:
        for attribute in node.attribute:
            if attribute.name == "activations":
                attribute.strings[:] = [spelt[name.decode().lower()].encode() for name in attribute.strings]


def _in_float32(model: onnx.ModelProto) -> dict[str, str]:
    """Other float types, in place, as float32, in which ONNX Runtime computes recurrent nodes; says what was changed."""
    graph = model.graph
    stored = {tensor.data_type for tensor in graph.initializer} & set(_WIDTHS)
    if not stored:
        return {}
    for tensor in graph.initializer:
        _narrow(tensor, f"initializer '{tensor.name}'")
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                _narrow(attribute.t, f"node '{node.name or node.output[0]}'")
            elif node.op_type == "Cast" and attribute.name == "to" and attribute.i in _WIDTHS:
                attribute.i = TensorProto.FLOAT
    for item in (*graph.input, *graph.output):
        if item.type.tensor_type.elem_type in _WIDTHS:
            item.type.tensor_type.elem_type = TensorProto.FLOAT
    words = ", ".join(sorted(TensorProto.DataType.Name(kind).lower() for kind in stored))
    return {"weights": f"run in float32, stored as {words}"}


def _narrow(tensor: onnx.TensorProto, where: str) -> None:
    if tensor.data_type not in _WIDTHS:
        return
    array = numpy_helper.to_array(tensor)
    with np.errstate(over="ignore"):
        single = array.astype(np.float32)
    if tensor.data_type == TensorProto.DOUBLE and not (single == array).all():
        raise UnsupportedError(
            "ONNX Runtime has no float64 LSTM, GRU or RNN",
            where,
            "numbers that float32 holds exactly",
            "float64",
            "run it in another engine with dtype='float64', or round its weights to float32",
        )
    tensor.CopyFrom(numpy_helper.from_array(single, tensor.name))


def _open_shapes(graph: onnx.GraphProto) -> None:
    """Forget every fixed length of batch and time: a model is run on other shapes than it was exported with."""
    constants = {tensor.name for tensor in graph.initializer}
    nodes = [node for node in graph.node if node.op_type in RECURRENT_OPS]
    states = {name for node in nodes for name in node.input[slice(*_STATES)]}
    for item in graph.input:
        if item.name not in constants:
            dims = item.type.tensor_type.shape.dim
            for dim in dims[1:2] if item.name in states else dims[:2]:
                dim.Clear()
    for item in graph.output:
        item.type.tensor_type.ClearField("shape")
    del graph.value_info[:]


def _takes_time_first(model: onnx.ModelProto) -> bool:
    """Whether the model's input is (time, batch, ...): the first recurrent node's first axis, followed back to the input."""
    constants = {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:
        if all(name in constants for name in node.input if name):
            constants.update(node.output)
    producers = {name: node for node in model.graph.node for name in node.output if name}
    tensor = next(node.input[0] for node in model.graph.node if node.op_type in RECURRENT_OPS)
    axis = 0
    while tensor in producers:
        node = producers[tensor]
        if node.op_type == "Transpose":
            permutation = next((list(a.ints) for a in node.attribute if a.name == "perm"), [])
            axis = permutation[axis] if permutation else -1 - axis
        tensor = next(name for name in node.input if name not in constants)
    (rank,) = (len(item.type.tensor_type.shape.dim) or 3 for item in model.graph.input if item.name == tensor)
    return axis in (0, -rank)
