"""ONNX and ONNX Runtime: build models from native LSTM and GRU nodes, run them. Reading is in `parity.frameworks.onnx_graph`."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from parity.conventions import Value, onnx_returns, to_canonical
from parity.errors import FormatError, MissingFrameworkError, ParityError, UnsupportedError
from parity.frameworks import Settings
from parity.frameworks.onnx_graph import read_graph
from parity.frameworks.onnx_names import Names
from parity.frameworks.onnx_trace import RECURRENT_OPS, STEPS
from parity.layouts import LAYOUTS, axis_groups
from parity.network import Dense, Embedding, Layer, Network, Recurrent
from parity.network.activations import ACTIVATIONS
from parity.recurrent import DIRECTIONS, Array, pack
from parity.result import LayerRun, Result, Returned, State

ENGINE = "onnxruntime"

OPSETS = (7, 22)
"""The operators LSTM and GRU have had their present meaning since 7; newer sets change nothing that is used here."""

_DEFAULT_OPSET = 17
_OPS = {kind: op for op, kind in RECURRENT_OPS.items()}
_ONNX_DIRECTIONS = {("forward",): "forward", ("backward",): "reverse", DIRECTIONS: "bidirectional"}


def owns(source: object) -> bool:
    """Whether this is a live ONNX model."""
    return isinstance(source, onnx.ModelProto)


def read(source: onnx.ModelProto) -> Network:
    """Describe a model whose graph is a chain around LSTM and GRU nodes; see `read_graph`."""
    return read_graph(_checked(source, "the onnx.ModelProto"))


def read_file(path: Path) -> Network:
    """Describe a `.onnx` file."""
    return read_graph(load(path))


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
            _words(error),
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
            _words(error),
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


def _words(error: Exception) -> str:
    """The first line of what an exception says."""
    return str(error).strip().split("\n")[0] or type(error).__name__


def write_file(network: Network, file: BinaryIO) -> None:
    """Write the network as a `.onnx` file; where ONNX Runtime is installed, only what it loads."""
    content = build(network).SerializeToString()
    if importlib.util.find_spec("onnxruntime") is not None:
        with _refusals("load"):
            _onnxruntime().InferenceSession(content, providers=["CPUExecutionProvider"])
    file.write(content)


def build(network: Network, opset: int | None = None) -> onnx.ModelProto:
    """The network as an ONNX model of native nodes, batch and time left open.

    A bare stack keeps ONNX's own convention: X (time, batch, features) in; Y, Y_h, Y_c out, the states of all layers along the
    first axis. A model takes what it took (batch first) and gives its outputs under their names.

    Raises:
        UnsupportedError: an opset outside 7..22; a bare stack of layers of different sizes.
    """
    opset = _DEFAULT_OPSET if opset is None else opset
    if not OPSETS[0] <= opset <= OPSETS[1]:
        raise UnsupportedError("this opset is not written", expected=f"{OPSETS[0]} to {OPSETS[1]}", got=str(opset))
    return _Builder(network, opset).model()


class _Builder:
    """Adds nodes to a graph, one layer after the other."""

    def __init__(self, network: Network, opset: int) -> None:
        self._network, self._opset = network, opset
        self._steps = STEPS if network.bare else "batch time"
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: list[onnx.TensorProto] = []
        self._returned: dict[str, list[str]] = {}
        self._given: dict[str, str] = {}
        # Outputs and layers keep their names; everything between gives way.
        returns = [value.name for value in onnx_returns(network.recurrent[-1].spec.kind)]
        self._tensor_names = Names(returns if network.bare else [output.name for output in network.outputs])
        self._node_names = Names(layer.name for layer in network.layers)

    def model(self) -> onnx.ModelProto:
        """The whole model, checked."""
        network = self._network
        axes = self._steps.split()
        source = self._tensor_names.unique("X" if network.bare else "input")
        kind = TensorProto.INT64 if network.tokens else TensorProto.FLOAT
        features = [] if network.tokens else [network.layers[0].input_size]
        entry = helper.make_tensor_value_info(source, kind, [*axes, *features])
        value = source
        for layer in network.layers:
            value = self._given[layer.name] = self._add(layer, value)
        outputs = self._own_outputs() if network.bare else self._model_outputs()
        graph = helper.make_graph(self._nodes, network.name, [entry], outputs, self._initializers)
        opsets = [helper.make_opsetid("", self._opset)]
        model = helper.make_model(
            graph,
            opset_imports=opsets,
            ir_version=max(7, helper.find_min_ir_version_for(opsets)),
            producer_name="parity",
        )
        onnx.checker.check_model(model)
        return model

    def _add(self, layer: Layer, value: str) -> str:
        if isinstance(layer, Recurrent):
            return self._add_recurrent(layer, value)
        if isinstance(layer, Embedding):
            table = self._constant(f"{layer.name}.table", layer.table)
            return self._node("Gather", [table, value], f"{layer.name}.rows", layer)
        return self._add_dense(layer, value)

    def _add_recurrent(self, layer: Recurrent, value: str) -> str:
        spec = layer.spec
        packed = pack(LAYOUTS["onnx", spec.kind], spec, layer.weights)
        x = self._rearranged(
            value, f"{self._steps} input", f"{STEPS} input", f"{layer.name}.X", {"input": spec.input_size}
        )
        names = [self._constant(f"{layer.name}.{name}", array) for name, array in packed.items()]
        attributes: dict[str, Any] = {"hidden_size": spec.hidden_size, "direction": _ONNX_DIRECTIONS[spec.directions]}
        if spec.kind == "gru":
            attributes["linear_before_reset"] = 1
        outputs = [self._tensor_names.unique(f"{layer.name}.{value.name}") for value in onnx_returns(spec.kind)]
        self._nodes.append(helper.make_node(_OPS[spec.kind], [x, *names], outputs, name=layer.name, **attributes))
        self._returned[layer.name] = outputs
        shown = layer.values[0]
        if self._network.bare:
            shown = Value(shown.name, "sequence", f"{STEPS} (direction hidden)")
            if layer is self._network.layers[-1]:
                return outputs[0]
        return self._shown(layer, shown, f"{layer.name}.output")

    def _add_dense(self, layer: Dense, value: str) -> str:
        kernel = self._constant(f"{layer.name}.kernel", layer.kernel)
        value = self._node("MatMul", [value, kernel], f"{layer.name}.product", layer)
        if layer.bias is not None:
            value = self._node("Add", [value, self._constant(f"{layer.name}.bias", layer.bias)], f"{layer.name}.sum")
        if layer.activation == "linear":
            return value
        op = ACTIVATIONS[layer.activation].onnx
        along: dict[str, Any] = {"axis": len(self._shape_of(layer.name)) - 1} if op == "Softmax" else {}
        return self._node(op, [value], f"{layer.name}.{layer.activation}", **along)

    def _shown(self, layer: Recurrent, value: Value, name: str) -> str:
        """One of a layer's values, out of what its node returns."""
        rows = zip(onnx_returns(layer.spec.kind), self._returned[layer.name], strict=True)
        tensor, axes = next((name, row.axes) for row, name in rows if row.quantity == value.quantity)
        if value.select in DIRECTIONS:
            index = self._constant(f"{name}.direction", np.asarray(DIRECTIONS.index(value.select), np.int64))
            tensor = self._node("Gather", [tensor, index], f"{name}.selected", axis=axes.split().index("direction"))
            axes = " ".join(axis for axis in axes.split() if axis != "direction")
        return self._rearranged(tensor, axes, value.axes, name, layer.spec.sizes)

    def _rearranged(self, value: str, axes: str, wanted: str, name: str, sizes: Mapping[str, int]) -> str:
        """An einops pattern as Transpose and Reshape; groups are merged at the end of the shape only."""
        order = [axis for group in axis_groups(wanted) for axis in group]
        permutation = [axes.split().index(axis) for axis in order]
        if permutation != sorted(permutation):
            value = self._node("Transpose", [value], f"{name}.transposed", perm=permutation)
        groups = axis_groups(wanted)
        if len(groups) != len(order):
            shape = [0 if len(group) == 1 else int(np.prod([sizes[axis] for axis in group])) for group in groups]
            value = self._node("Reshape", [value, self._constant(f"{name}.shape", np.asarray(shape, np.int64))], name)
        return value

    def _model_outputs(self) -> list[onnx.ValueInfoProto]:
        recurrent = {layer.name: layer for layer in self._network.recurrent}
        infos = []
        for output in self._network.outputs:
            if output.value is None:
                tensor, shown = self._given[output.layer], self._shape_of(output.layer)
            else:
                layer = recurrent[output.layer]
                tensor = self._shown(layer, output.value, f"{output.name}.value")
                sizes: dict[str, int | str] = {**layer.spec.sizes, "batch": "batch", "time": "time"}
                shown = list(output.value.shape(sizes))
            self._give(tensor, output.name)
            infos.append(helper.make_tensor_value_info(output.name, TensorProto.FLOAT, shown))
        return infos

    def _shape_of(self, name: str) -> list[int | str]:
        axes: list[int | str] = ["batch", "time"]
        for layer in self._network.layers:
            if isinstance(layer, Recurrent) and not layer.return_sequences:
                axes = ["batch"]
            if layer.name == name:
                return [*axes, layer.output_size]
        raise KeyError(name)

    def _own_outputs(self) -> list[onnx.ValueInfoProto]:
        last = self._network.recurrent[-1]
        if len({(layer.spec.kind, layer.spec.hidden_size) for layer in self._network.recurrent}) > 1:
            raise UnsupportedError(
                "layers of different kinds or sizes have no common Y_h",
                where=self._network.name,
                remedy="convert the layers one by one: read(source).recurrent",
            )
        infos = []
        for value, *tensors in zip(onnx_returns(last.spec.kind), *self._returned.values(), strict=True):
            tensor = tensors[-1]
            if value.quantity != "sequence" and len(tensors) > 1:
                tensor = self._node("Concat", tensors, f"{value.name}.stacked", axis=0)
            self._give(tensor, value.name)
            sizes: dict[str, int | str] = {**last.spec.sizes, "batch": "batch", "time": "time"}
            sizes["direction"] = len(last.spec.directions) * (1 if value.quantity == "sequence" else len(tensors))
            infos.append(helper.make_tensor_value_info(value.name, TensorProto.FLOAT, list(value.shape(sizes))))
        return infos

    def _give(self, tensor: str, output: str) -> None:
        name = self._node_names.unique(f"{output}.output")
        self._nodes.append(helper.make_node("Identity", [tensor], [output], name=name))

    def _node(self, op: str, inputs: list[str], name: str, layer: Layer | None = None, **attributes: Any) -> str:
        """Adds a node and gives its tensor's name; the node that stands for a layer has the layer's."""
        tensor = self._tensor_names.unique(name)
        node_name = layer.name if layer else self._node_names.unique(name)
        self._nodes.append(helper.make_node(op, inputs, [tensor], name=node_name, **attributes))
        return tensor

    def _constant(self, name: str, array: Array) -> str:
        name = self._tensor_names.unique(name)
        self._initializers.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name


def runner(source: onnx.ModelProto, network: Network, settings: Settings) -> OnnxRunner:
    """Something that runs the model in ONNX Runtime.

    Raises:
        MissingFrameworkError: onnxruntime is not installed, or has no CUDA provider where device is "cuda".
        UnsupportedError: dtype "float64".
    """
    ort = _onnxruntime()
    if settings.dtype != "float32":
        raise UnsupportedError(
            "ONNX Runtime has no float64 LSTM or GRU",
            where="engine 'onnxruntime'",
            expected="dtype='float32'",
            got=f"dtype='{settings.dtype}'",
            remedy="run this engine in float32, or take another engine for float64",
        )
    if settings.device == "cuda" and "CUDAExecutionProvider" not in ort.get_available_providers():
        raise MissingFrameworkError(
            "the engine 'onnxruntime' has no CUDA provider",
            expected="the package onnxruntime-gpu, an NVIDIA GPU and its driver",
            got=f"onnxruntime {ort.__version__} with {', '.join(ort.get_available_providers())}",
            remedy="use device='cpu', or pip install onnxruntime-gpu in place of onnxruntime",
        )
    return OnnxRunner(source, network, settings, ort)


def _onnxruntime() -> Any:
    try:
        return importlib.import_module("onnxruntime")
    except ModuleNotFoundError as error:
        raise MissingFrameworkError(
            "the engine 'onnxruntime' is not installed",
            expected="onnxruntime",
            got=str(error),
            remedy="pip install 'keras-torch-parity[onnx]'",
        ) from error


_FOR_ONE_SIZE = "if it was exported for one batch or length, export it with dynamic_axes; parity runs it on several"


@contextmanager
def _refusals(verb: str) -> Iterator[None]:
    """ONNX Runtime's own exceptions have no common base below Exception; each becomes a message."""
    try:
        yield
    except Exception as error:
        raise ParityError(
            f"ONNX Runtime does not {verb} this model", got=_words(error), remedy=_FOR_ONE_SIZE
        ) from error


class OnnxRunner:
    """Runs a model whose recurrent nodes were given inputs and outputs for all their states; see `parity.frameworks.Runner`."""

    engine = ENGINE

    def __init__(self, model: onnx.ModelProto, network: Network, settings: Settings, ort: Any) -> None:
        self._network, self._settings, self._ort = network, settings, ort
        self._own = [output.name for output in model.graph.output]
        self._time_major = _takes_time_first(model)
        instrumented, self._states, self._values = instrument(model, network)
        self._input = next(i.name for i in model.graph.input if i.name not in _fixed_names(model))
        options = ort.SessionOptions()
        options.log_severity_level = 3
        if settings.device == "cuda":
            providers: list[Any] = [("CUDAExecutionProvider", {"use_tf32": int(settings.tf32)})]
        else:
            providers = ["CPUExecutionProvider"]
        with _refusals("load"):
            self._session = ort.InferenceSession(instrumented.SerializeToString(), options, providers=providers)
        (self._input_type,) = [i.type for i in self._session.get_inputs() if i.name == self._input]

    def __call__(self, inputs: Array, states: Mapping[str, State]) -> Result:
        """Run on inputs (batch, time, features) or (batch, time) integers."""
        x = inputs.swapaxes(0, 1) if self._time_major else inputs
        dtype = {"tensor(int32)": np.int32, "tensor(int64)": np.int64}.get(self._input_type, np.float32)
        feeds = {self._input: np.ascontiguousarray(x, dtype)}
        for name, inputs_of in self._states.items():
            for tensor, array in zip(inputs_of, states[name].arrays(), strict=True):
                feeds[tensor] = np.ascontiguousarray(array, np.float32)
        wanted = list(dict.fromkeys([*self._own, *(name for names in self._values.values() for name in names)]))
        with _refusals("run"):
            found = dict(zip(wanted, self._session.run(wanted, feeds), strict=True))
        runs = {}
        for layer, names in self._values.items():
            spec = self._network.specs[layer]
            values = to_canonical(onnx_returns(spec.kind), [found[name] for name in names], len(spec.directions))
            runs[layer] = LayerRun(State(*(values[key][0] for key in ("h", "c") if key in values)), values["sequence"])
        outputs = {output.name: found[output.name] for output in self._network.outputs}
        returned = tuple(Returned(name, found[name].shape, str(found[name].dtype)) for name in self._own)
        return Result(ENGINE, outputs, runs, returned, self._describe())

    def _describe(self) -> dict[str, str]:
        facts = {
            "onnxruntime": self._ort.__version__,
            "onnx": onnx.__version__,
            "provider": self._session.get_providers()[0],
            "device": self._settings.device,
            "dtype": self._settings.dtype,
        }
        return facts | (
            {"TF32": "on, asked for" if self._settings.tf32 else "off"} if self._settings.device == "cuda" else {}
        )


def instrument(
    model: onnx.ModelProto, network: Network
) -> tuple[onnx.ModelProto, dict[str, list[str]], dict[str, list[str]]]:
    """A copy whose recurrent nodes take every initial state from outside and show everything they compute.

    Returns:
        The copy; for every recurrent layer the names of its state inputs; and of its outputs, in the order of `onnx_returns`.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    constants = {tensor.name for tensor in graph.initializer}
    inputs = {item.name for item in graph.input} - constants
    outputs = {item.name for item in graph.output}
    names = Names(inputs | constants | {name for node in graph.node for name in (*node.input, *node.output)})
    nodes = [node for node in graph.node if node.op_type in RECURRENT_OPS]
    _open_shapes(graph)
    states: dict[str, list[str]] = {}
    values: dict[str, list[str]] = {}
    for layer, node in zip(network.recurrent, nodes, strict=True):
        spec = layer.spec
        node.input.extend([""] * (5 + len(spec.states) - len(node.input)))
        states[layer.name] = []
        for position, state in enumerate(spec.states, start=5):
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
    return copy, states, values


def _open_shapes(graph: onnx.GraphProto) -> None:
    """Forget every fixed length of batch and time: a model is run on other shapes than it was exported with."""
    constants = {tensor.name for tensor in graph.initializer}
    states = {name for node in graph.node if node.op_type in RECURRENT_OPS for name in node.input[5:7]}
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
        if node.op_type == "Constant" or (node.op_type == "Identity" and node.input[0] in constants):
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


def _fixed_names(model: onnx.ModelProto) -> set[str]:
    """Graph inputs that are not the data: initialisers listed as inputs, and initial states."""
    names = {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type in RECURRENT_OPS:
            names.update(node.input[5:])
    return names
