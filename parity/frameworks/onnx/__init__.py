"""ONNX and ONNX Runtime: read, load, write and build models. Their rooms:

onnx_graph, onnx_trace, onnx_options    reading: a graph is followed, node by node
onnx_build, onnx_cells, onnx_scan, onnx_masks, onnx_functions, onnx_nodes    building
onnx_own                                what parity writes into a model about itself, and when it believes that
onnx_run, onnx_instrument               running, with every recurrent layer seen
"""

from __future__ import annotations

import importlib.util
from numbers import Integral
from pathlib import Path
from typing import BinaryIO

import onnx
from onnx import TensorProto

from parity.errors import FormatError, Problem, UnsupportedError
from parity.frameworks.onnx.building import DEFAULT_OPSET, OPSETS
from parity.frameworks.onnx.graph import read_graph
from parity.frameworks.onnx.own import build_graph, form, is_described, network_of
from parity.frameworks.onnx.running import ENGINE, OnnxRunner, first_line, onnxruntime, refusals, runner
from parity.network import Network


def owns(source: object) -> bool:
    """Whether this is a live ONNX model."""
    return isinstance(source, onnx.ModelProto)


def read(source: onnx.ModelProto) -> Network:
    """Describe a model whose graph is a chain around LSTM, GRU and RNN nodes; see `read_graph`."""
    return _read(_checked(source, "the onnx.ModelProto"))


def read_file(path: Path) -> Network:
    """Describe a `.onnx` file."""
    return _read(load(path))


def _read(model: onnx.ModelProto) -> Network:
    known = network_of(model)
    try:
        return read_graph(model, known)
    except UnsupportedError as error:
        if known is not None or not is_described(model):
            raise
        changed = Problem(
            "parity composed this model, but it is not any more what parity wrote",
            f"graph '{model.graph.name}'",
            "the very nodes, initializers, inputs and outputs that were written",
            "others, changed since or written by another version of parity; the graph itself was followed as far as it goes",
            "convert the source anew",
        )
        raise UnsupportedError([changed, *error.problems]) from error


def load(path: Path, network: Network | None = None) -> onnx.ModelProto:
    """Load a `.onnx` file.

    Raises:
        FormatError: not an ONNX model, or a damaged one.
        UnsupportedError: its weights stand in other files.
    """
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf and onnx have no common base for what damaged bytes make them raise
        raise FormatError(
            "not an ONNX model, or a damaged one",
            str(path),
            "a serialized onnx.ModelProto",
            first_line(error),
            "get the file anew",
        ) from error
    return _checked(model, str(path))


def _checked(model: onnx.ModelProto, where: str) -> onnx.ModelProto:
    """The model, if it is whole and valid."""
    outside = [tensor.name for tensor in model.graph.initializer if tensor.data_location == TensorProto.EXTERNAL]
    if outside:
        raise UnsupportedError(
            "weights that stand in another file are not read",
            where=where,
            got=", ".join(outside),
            remedy="load it with onnx.load and its weights beside it and give the model itself, or save it in one piece",
        )
    try:
        onnx.checker.check_model(_with_shapes(model))
    except Exception as error:  # beside its own ValidationError: UnicodeDecodeError, ValueError
        raise FormatError(
            "not a valid ONNX model",
            where,
            "a model that onnx.checker accepts",
            first_line(error),
            "export it anew",
        ) from error
    return model


def _with_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model, or a copy where every value has a shape: the checker wants one, ONNX Runtime and parity do not."""

    def shapeless(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
        items = [*graph.input, *graph.output, *graph.value_info]
        return [
            item for item in items if item.type.HasField("tensor_type") and not item.type.tensor_type.HasField("shape")
        ]

    if not shapeless(model.graph):
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for item in shapeless(copy.graph):
        item.type.tensor_type.shape.SetInParent()
    return copy


def write_file(network: Network, file: BinaryIO) -> None:
    """Write the network as a `.onnx` file; where ONNX Runtime is installed, only what it loads."""
    content = build(network).SerializeToString()
    if importlib.util.find_spec("onnxruntime") is not None:
        with refusals("load"):
            onnxruntime().InferenceSession(content, providers=["CPUExecutionProvider"])
    file.write(content)


def build(network: Network, opset: int | None = None) -> onnx.ModelProto:
    """The network as an ONNX model, batch and time left open.

    A bare stack keeps ONNX's own convention: X (time, batch, features) in; Y, Y_h, Y_c out, the states of all layers along the
    first axis, or under the layers' names where the layers differ in kind or size. A model takes what it took (batch first) and gives
    its outputs under their names. A stateful layer takes its states as inputs `<layer>.initial_h` and `<layer>.initial_c`.

    Raises:
        UnsupportedError: an opset outside 7..22, or one that lacks an operator that the network needs; float64 weights that are not
            float32 numbers.

    Example:
        >>> from parity.network import Recurrent
        >>> from parity.recurrent import RecurrentSpec, Weights
        >>> import numpy as np
        >>> weights = Weights(np.ones((1, 5, 3), np.float32), np.ones((1, 5, 5), np.float32))
        >>> model = build(Network("rnn", (Recurrent("rnn", RecurrentSpec("rnn", 3, 5), (weights,)),)), opset=7)
        >>> model.graph.node[0].op_type, [output.name for output in model.graph.output], form(model).native
        ('RNN', ['Y', 'Y_h'], True)
    """
    opset = DEFAULT_OPSET if opset is None else opset
    if not isinstance(opset, Integral) or isinstance(opset, bool) or not OPSETS[0] <= opset <= OPSETS[1]:
        expected = f"a whole number, {OPSETS[0]} to {OPSETS[1]}"
        raise UnsupportedError(
            "this opset is not written", "opset", expected, repr(opset), f"leave it out, or opset={DEFAULT_OPSET}"
        )
    opset = int(opset)
    return build_graph(network, opset)


__all__ = [
    "ENGINE",
    "OPSETS",
    "OnnxRunner",
    "build",
    "form",
    "load",
    "owns",
    "read",
    "read_file",
    "runner",
    "write_file",
]
