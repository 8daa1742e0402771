"""ONNX and ONNX Runtime: read, load, write and build models. Their rooms:

loading, wire, tensors                  opening files: large tensors stay where they are, in the file or beside it
graph, trace, options, weights          reading: a graph is followed, node by node
partial, finding, constants             reading any other graph: its recurrent nodes, wherever they stand
facts                                   what a model says of itself
building, cells, giving, scanning, masks, functions, nodes, single    building
own                                     what parity writes into a model about itself, and when it believes that
running, instrumenting                  running, with every recurrent layer seen
whole                                   whole models as graphs: reading, writing, running
"""

from __future__ import annotations

import importlib.util
import math
from numbers import Integral
from pathlib import Path
from typing import BinaryIO

import onnx

from parity.errors import UnsupportedError
from parity.frameworks.onnx.building import DEFAULT_OPSET, OPSETS
from parity.frameworks.onnx.loading import LARGEST, load, read, read_file, whole_graph
from parity.frameworks.onnx.own import build_graph, form
from parity.frameworks.onnx.running import ENGINE, OnnxRunner, onnxruntime, refusals, runner
from parity.frameworks.onnx.whole.running import whole_runner
from parity.frameworks.onnx.whole.writing import model_of
from parity.frameworks.onnx.whole.writing_stubs import unfilled
from parity.graph.code_files import WEIGHTS
from parity.graph.graph import Graph
from parity.network import Network
from parity.recurrent import RecurrentSpec


def owns(source: object) -> bool:
    """Whether this is a live ONNX model."""
    return isinstance(source, onnx.ModelProto)


def build_whole(graph: Graph, opset: int | None = None, partial: bool = False) -> onnx.ModelProto:
    """A whole model as an ONNX model, its words ("batch", "time") left open.

    Args:
        graph: of the model.
        opset: 13 to 22; 17 by default.
        partial: whether layers that are stubs become operators that are to be filled in.

    Raises:
        UnsupportedError: what ONNX cannot say, unless `partial` layers that are stubs among it; an opset that is not written.
    """
    return model_of(graph, opset, partial)


def load_whole(path: Path, graph: Graph) -> onnx.ModelProto:
    """A `.onnx` file with all its weights in it; see `load`."""
    return load(path)


def load_written(folder: Path) -> onnx.ModelProto:
    """What `parity.graph.folder` wrote into a folder."""
    return load(folder / WEIGHTS["onnx"])


def write_file(network: Network, file: BinaryIO) -> None:
    """Write the network as a `.onnx` file; where ONNX Runtime is installed, only what it loads.

    Raises:
        UnsupportedError: more than 2 GiB of weights, which a file by itself cannot hold; and what `build` raises.
    """
    _check_size(sum(_single_bytes(layer.spec) for layer in network.recurrent))
    model = build(network)
    _check_size(model.ByteSize())
    content = model.SerializeToString()
    del model
    if importlib.util.find_spec("onnxruntime") is not None:
        with refusals("load"):
            onnxruntime().InferenceSession(content, providers=["CPUExecutionProvider"])
    file.write(content)


def _single_bytes(spec: RecurrentSpec) -> int:
    """Bytes of a layer's matrices in float32, none of them read."""
    return sum(4 * math.prod(spec.shape(name)) * len(spec.directions) for name in ("kernel", "recurrent"))


def _check_size(size: int) -> None:
    if size > LARGEST:
        raise UnsupportedError(
            "an ONNX file by itself holds no more than 2 GiB",
            "the target",
            f"at most {LARGEST} bytes, protobuf's limit",
            f"{size} bytes",
            "write .safetensors, .keras or .npz; or convert its recurrent layers one by one",
        )


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
    "build_whole",
    "form",
    "load",
    "load_whole",
    "load_written",
    "owns",
    "read",
    "read_file",
    "runner",
    "unfilled",
    "whole_graph",
    "whole_runner",
    "write_file",
]
