"""Runs whole models in ONNX Runtime: their outputs, and the values inside them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper

from parity.errors import FormatError, ParityError, UnsupportedError
from parity.frameworks import Settings
from parity.frameworks.onnx.names import Names
from parity.frameworks.onnx.nodes import BOOL, DOUBLE, FLOAT, INT64
from parity.frameworks.onnx.own import opset_of
from parity.frameworks.onnx.running import ENGINE, engine_for, session_of
from parity.frameworks.onnx.whole.inside import values_by_source
from parity.frameworks.onnx.whole.session import run_session
from parity.frameworks.onnx.whole.writing import PLACES_KEY, model_of
from parity.graph import Graph, Wire
from parity.graph.judging import Running
from parity.recurrent import Array


@dataclass(frozen=True)
class Place:
    """Where a value of the graph stands in a model.

    Args:
        kind: "float", "int" or "bool".
        tensors: names, and for each axis of the tensor the axis of the value; the one that is computed first comes first.
    """

    kind: str
    tensors: tuple[tuple[str, tuple[int, ...]], ...]


class OnnxGraphRunner:
    """A whole model in ONNX Runtime.

    Args:
        model: any whose inputs are those of the graph.
        graph: says the names and the order of inputs and outputs.
        settings: the device; the type of floats is the model's own.
    """

    engine = ENGINE

    def __init__(self, model: onnx.ModelProto, graph: Graph, settings: Settings) -> None:
        ort = engine_for(settings)
        if settings.dtype == "float64" and _real(model) != DOUBLE:
            raise UnsupportedError(
                "this ONNX model computes in float32",
                where="engine 'onnxruntime'",
                expected="dtype='float32'",
                got=f"dtype='{settings.dtype}'",
                remedy="run this engine in float32, or take another engine for float64",
            )
        self._graph = graph
        self._session = session_of(model, settings, ort)
        self.facts = {
            "onnxruntime": str(ort.__version__),
            "onnx": str(onnx.__version__),
            "provider": str(self._session.get_providers()[0]),
            "device": settings.device,
            "dtype": "float64" if _real(model) == DOUBLE else "float32",
        }
        """What ran, for people."""

    def __call__(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs by name, in the graph's order.

        Raises:
            ShapeError: an input is missing.
            ParityError: ONNX Runtime does not run the model.
        """
        names = [item.name for item in self._session.get_outputs()]
        given = run_session(self._session, self._graph, inputs, {})
        if set(self._graph.outputs) <= set(names):
            found = dict(zip(names, given, strict=True))
            return {name: found[name] for name in self._graph.outputs}
        return dict(zip(self._graph.outputs, given, strict=True))


def runner(model: onnx.ModelProto, graph: Graph, settings: Settings | None = None) -> OnnxGraphRunner:
    """Something that runs the model in ONNX Runtime on inputs by name and answers with outputs by name.

    Raises:
        MissingFrameworkError: onnxruntime is not installed, or has no CUDA provider where device is "cuda".
        UnsupportedError: dtype "float64" for a model of float32.
        ParityError: ONNX Runtime does not load the model.

    Example:
        >>> from parity.frameworks.onnx.whole.writing import model_of
        >>> from parity.graph import Builder
        >>> build = Builder("model")
        >>> x = build.input("x", ("batch", 3))
        >>> graph = build.graph({"twice": build.add(x, x)})
        >>> runner(model_of(graph), graph)({"x": np.ones((1, 3))})
        {'twice': array([[2., 2., 2.]], dtype=float32)}
    """
    return OnnxGraphRunner(model, graph, settings or Settings())


def whole_runner(model: onnx.ModelProto, graph: Graph, settings: Settings) -> Running:
    """The same as a `parity.graph.judging.GraphRunner`, which also shows the values inside the model.

    A model that parity wrote from this graph shows all its values; any other what `parity.frameworks.onnx.whole.inside` sees in it.

    Raises:
        MissingFrameworkError, UnsupportedError, ParityError: as `runner`.
    """
    run = runner(model, graph, settings)

    def inside(inputs: Mapping[str, Array]) -> dict[Wire, Array]:
        show = intermediate if _is_written_from(model, graph) else values_by_source
        found = show(model, graph, inputs, settings=settings)
        shapes = graph.shapes(lengths_of(graph, inputs))
        return {wire: array for wire, array in found.items() if array.shape == shapes.get(wire)}

    return Running(run.engine, run, inside, run.facts)


def lengths_of(graph: Graph, inputs: Mapping[str, Array]) -> dict[str, int]:
    """How long the axes are that have a word, in these inputs.

    Example:
        >>> from parity.graph import GraphInput
        >>> lengths_of(Graph("model", (GraphInput("x", ("batch", 3)),), (), {}), {"x": np.ones((5, 3))})
        {'batch': 5}
    """
    return {
        word: length
        for one in graph.inputs
        for word, length in zip(one.shape, np.shape(inputs[one.name]), strict=True)
        if isinstance(word, str)
    }


def _is_written_from(model: onnx.ModelProto, graph: Graph) -> bool:
    """Whether a model has the very nodes that writing the graph gives; its weights may be others."""
    if not any(item.key == PLACES_KEY for item in model.metadata_props):
        return False
    try:
        written = model_of(graph, opset_of(model))
    except ParityError:
        return False
    return list(written.graph.node) == list(model.graph.node)


def places(model: onnx.ModelProto) -> dict[Wire, Place]:
    """Where the values of the graph stand in a model that `model_of` wrote.

    Raises:
        UnsupportedError: the model does not say it.
        FormatError: what it says is not what `model_of` writes.
    """
    text = next((item.value for item in model.metadata_props if item.key == PLACES_KEY), None)
    if text is None:
        raise UnsupportedError(
            "this model does not say which tensors are values of the graph",
            "the ONNX model",
            f"metadata '{PLACES_KEY}', as parity writes it",
            "none",
            "convert it anew, or compare its outputs alone",
        )
    known = {name for node in model.graph.node for name in (*node.input, *node.output)}
    try:
        found = {
            Wire(str(node), int(index)): Place(
                str(kind), tuple((str(tensor), tuple(map(int, order))) for tensor, order in tensors)
            )
            for node, index, kind, tensors in json.loads(text)
        }
    except (RecursionError, TypeError, ValueError) as error:
        raise FormatError("the places of values cannot be read", f"metadata '{PLACES_KEY}'", got=str(error)) from error
    lost = [tensor for place in found.values() for tensor, _ in place.tensors if tensor not in known]
    if lost or not all(place.tensors for place in found.values()):
        got = ", ".join(lost[:5]) or "a value without tensors"
        raise FormatError("the places of values are not in the model", f"metadata '{PLACES_KEY}'", got=got)
    return found


def intermediate(
    model: onnx.ModelProto,
    graph: Graph,
    inputs: Mapping[str, Array],
    wires: Sequence[Wire] | None = None,
    given: Mapping[Wire, Array] | None = None,
    settings: Settings | None = None,
) -> dict[Wire, Array]:
    """Values inside a model, as ONNX Runtime computes them, in the graph's order of axes.

    Args:
        model: written by `model_of`.
        graph: that it was written from.
        inputs: of the model, by name.
        wires: which values; by default all that stand in the model: a state that nobody takes does not.
        given: values that are taken from here by whoever takes them. What the model itself computes in their place is still given
            back: so one call gives each layer's values on the reference's inputs, if all values of the reference are given.
        settings: the device.

    Raises:
        UnsupportedError: the model does not say where its values stand, or one of the wires is not among them.

    Example:
        >>> from parity.frameworks.onnx.whole.writing import model_of
        >>> from parity.graph import Builder
        >>> build = Builder("model")
        >>> x = build.input("x", ("batch", 3))
        >>> graph = build.graph({"y": build.activation("relu", build.multiply(x, -1.0))})
        >>> found = intermediate(model_of(graph), graph, {"x": np.ones((1, 3))}, given={Wire("multiply"): np.ones((1, 3))})
        >>> found[Wire("multiply")].tolist(), found[Wire("relu")].tolist()
        ([[-1.0, -1.0, -1.0]], [[1.0, 1.0, 1.0]])
    """
    found = places(model)
    unknown = [str(wire) for wire in wires or () if wire not in found]
    if unknown:
        raise UnsupportedError("values that do not stand in the model", graph.name, got=", ".join(unknown))
    wanted = list(found) if wires is None else list(wires)
    opened = _Opened(model)
    for wire, array in (given or {}).items():
        if wire in found:
            opened.give(found[wire], np.asarray(array))
    names = [opened.show(found[wire]) for wire in wanted]
    session = session_of(opened.model, settings or Settings(), engine_for(settings or Settings()))
    outputs = run_session(session, graph, inputs, opened.fed)
    shown = dict(zip((item.name for item in session.get_outputs()), outputs, strict=True))
    orders = (found[wire].tensors[0][1] for wire in wanted)
    return {
        wire: shown[name].transpose(np.argsort(order)) if shown[name].ndim == len(order) else shown[name]
        for wire, name, order in zip(wanted, names, orders, strict=True)
    }


class _Opened:
    """A copy of a model whose inner tensors are given from outside, or shown, or both."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = onnx.ModelProto()
        self.model.CopyFrom(model)
        self.fed: dict[str, Array] = {}
        self._real = _real(model)
        graph = self.model.graph
        self._made = {name: (node, at) for node in graph.node for at, name in enumerate(node.output)}
        self._names = Names([*self._made, *(one.name for one in graph.input), *(one.name for one in graph.initializer)])
        self._computed: dict[str, str] = {}
        self._shown: dict[str, str] = {}

    def give(self, place: Place, array: Array) -> None:
        """From here on whoever takes a value takes this one; inputs and weights of the model stay."""
        for tensor, order in place.tensors:
            if tensor not in self._made or tensor in self._computed:
                continue
            node, at = self._made[tensor]
            node.output[at] = self._computed[tensor] = self._names.unique(f"{tensor}.computed")
            code = {"int": INT64, "bool": BOOL}.get(place.kind, self._real)
            self.model.graph.input.append(helper.make_tensor_value_info(tensor, code, [None] * len(order)))
            self.fed[tensor] = array.transpose(order)

    def show(self, place: Place) -> str:
        """Name of an output that shows what the model computes for a value."""
        tensor, _ = place.tensors[0]
        if tensor not in self._shown:
            name = self._shown[tensor] = self._names.unique(f"{tensor}.shown")
            inner = self._computed.get(tensor, tensor)
            self.model.graph.node.append(helper.make_node("Identity", [inner], [name], name))
            # Its type is what ONNX Runtime finds it to be.
            self.model.graph.output.append(onnx.ValueInfoProto(name=name))
        return self._shown[tensor]


def _real(model: onnx.ModelProto) -> int:
    """The type of a model's floats: float64 where nothing in sight is float32."""
    sides = [*model.graph.input, *model.graph.output]
    types = {*(one.type.tensor_type.elem_type for one in sides), *(one.data_type for one in model.graph.initializer)}
    return DOUBLE if DOUBLE in types and FLOAT not in types else FLOAT


__all__ = [
    "OnnxGraphRunner",
    "Place",
    "intermediate",
    "lengths_of",
    "places",
    "runner",
    "whole_runner",
]
