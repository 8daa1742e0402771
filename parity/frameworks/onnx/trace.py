"""Follows the tensors of an ONNX graph: which layer each comes from, and what its axes mean."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx

from parity.conventions import Select, onnx_returns
from parity.errors import FormatError, Problem
from parity.frameworks.onnx.constants import CONSTANT_FORMS, Constants, Mover, constant_of, constants_of
from parity.frameworks.onnx.names import Names
from parity.frameworks.onnx.tensors import Tensors
from parity.frameworks.onnx.weights import Weight, is_float
from parity.layouts import Kind
from parity.network import Embedding, Layer, Recurrent
from parity.recurrent import DIRECTIONS, Array, RecurrentSpec

RECURRENT_OPS: dict[str, Kind] = {"LSTM": "lstm", "GRU": "gru", "RNN": "rnn"}

SEQUENCE_AXES, STATE_AXES = (tuple(value.axes.split()) for value in onnx_returns("gru"))
"""Axes of what a recurrent node returns: every step, and a final state."""

STEPS = " ".join(axis for axis in SEQUENCE_AXES if axis in ("time", "batch"))
"""The order in which a recurrent node takes and returns the steps."""

OWN_AXES = {layout: [tuple(value.axes.split()) for value in onnx_returns("gru", layout)] for layout in (0, 1)}
"""Axes of the sequence and of a final state as a recurrent node itself gives them, by its layout."""

STACKED_AXES = tuple("stacked" if axis == "direction" else axis for axis in STATE_AXES)
"""Final states of several nodes, joined along their first axis."""

MERGED = "(direction hidden)"
FEATURES = (MERGED, "input", "unit")
"""What the last axis of a tensor means where a layer takes it."""

_PASSES_ZEROS = ("Expand", "Slice", "Identity")


@dataclass(frozen=True)
class Traced:
    """What a tensor of the graph is: which layer it comes from, which quantity it shows, and what its axes mean."""

    layer: str | None
    quantity: str
    axes: tuple[str, ...]
    select: Select = "all"


def layout_of(node: onnx.NodeProto) -> int:
    """Whether a recurrent node takes and gives batch (1) or time (0) first."""
    return next((int(attribute.i) for attribute in node.attribute if attribute.name == "layout"), 0)


def direct_sources(graph: onnx.GraphProto, names: Iterable[str]) -> dict[str, str]:
    """The tensor from which each of these comes through changes of type alone."""
    producers = {output: node for node in graph.node for output in node.output if output}

    def source(name: str) -> str:
        while name in producers and producers[name].op_type in ("Cast", "Identity"):
            name = producers[name].input[0]
        return name

    return {name: source(name) for name in names}


class Tracer:
    """The state of a reading, and the operators that only move axes or hand a tensor on."""

    def __init__(self, model: onnx.ModelProto, tensors: Tensors) -> None:
        self._model, self._graph, self._tensors = model, model.graph, tensors
        self._constants = Constants(constants_of(self._graph, tensors))
        self._mover = Mover(sum(constant.nbytes for constant in self._constants.held.values()))
        self._layers: dict[str, Layer] = {}
        self._names = Names([])
        self._traced: dict[str, Traced] = {}
        self._problems: list[Problem] = []
        self._time_major: bool | None = None
        self._opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
        self._stored: set[str] = set()
        self._zeros = self._zero_states()
        self._lengths = self._length_inputs()
        self._ignored = self._only_for_zeros()
        self._uses = Counter(
            [name for node in self._followed() for name in node.input] + [item.name for item in self._graph.output]
        )

    def _followed(self) -> list[onnx.NodeProto]:
        """The nodes that are read: all but those that only make zeros for initial states."""
        return [node for index, node in enumerate(self._graph.node) if index not in self._ignored]

    @property
    def _last(self) -> str | None:
        """The layer that the chain has come to."""
        return next(reversed(self._layers), None)

    def _length_inputs(self) -> dict[str, str]:
        """What recurrent nodes take as sequence_lens, and the tensor from which each comes."""
        nodes = [node for node in self._graph.node if node.op_type in RECURRENT_OPS]
        names = {name for node in nodes for name in node.input[4:5] if name}
        return direct_sources(self._graph, names)

    def _zero_states(self) -> set[str]:
        """Computed initial states that are zeros whatever their shape turns out to be."""
        producers = {name: node for node in self._graph.node for name in node.output if name}
        states = {name for node in self._graph.node if node.op_type in RECURRENT_OPS for name in node.input[5:7]}

        def is_zero(name: str) -> bool:
            """Follows a tensor back to where its numbers come from."""
            while name in producers and producers[name].op_type in _PASSES_ZEROS:
                name = producers[name].input[0]
            if name in self._constants:
                return not self._constants[name].any()
            node = producers.get(name)
            if node is None or node.domain not in ("", "ai.onnx"):
                return False
            values = [self._tensors.array(a.t) for a in node.attribute if a.name == "value"]
            made = node.op_type == "ConstantOfShape" or (node.op_type == "Constant" and bool(values))
            return made and not any(value.any() for value in values)

        return {name for name in states & producers.keys() if is_zero(name)}

    def _only_for_zeros(self) -> set[int]:
        """Indices of the nodes whose results go into such zero states and nowhere else."""
        needed = {item.name for item in self._graph.output}
        ignored: set[int] = set()
        feeding = set(self._zeros)
        for index in reversed(range(len(self._graph.node))):
            node = self._graph.node[index]
            used = set(node.input)
            if node.op_type in RECURRENT_OPS:
                used = {name for at, name in enumerate(node.input) if at not in (5, 6) or name not in self._zeros}
            elif self._zeros and not needed.intersection(node.output) and feeding.intersection(node.output):
                ignored.add(index)
                feeding |= used
                continue
            needed |= used
        return ignored

    def _is_moved(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> bool:
        """Whether a node only moves constants: then what it gives is one, too. Not one that rounds: a run in float32 would not."""
        given = [self._constants.held.get(name) for name in node.input]
        moved = self._mover.outputs(node, attributes, given)
        if node.op_type == "Cast" and moved and given[0] and not np.can_cast(given[0].dtype, moved[0].dtype):
            return False
        self._constants.held.update(zip(node.output, moved or [], strict=False))
        return moved is not None

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
        kept = list(shape[:-1]) == [0] * (len(traced.axes) - 2) and not attributes.get("allowzero")
        if not kept or int(shape[-1]) not in (-1, spec.output_size):
            self._refuse(node, "this Reshape is not one that joins the directions", got=str(shape.tolist()))
            return
        self._put(node, replace(traced, axes=(*traced.axes[:-2], MERGED)))

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
        self._put(node, replace(traced, axes=tuple(MERGED if axis == "hidden" else axis for axis in rest)))

    def _gather(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
        table, index = self._weight(node.input[0]), self._constants.get(node.input[1])
        tokens = self._traced.get(node.input[1])
        if (
            table is not None
            and tokens is not None
            and table.ndim == 2
            and attributes.get("axis", 0) == 0
            and tokens.quantity == "input"
            and len(tokens.axes) == 2
            and self._last is None
        ):
            layer = Embedding(self._name(node, "embedding"), table)
            self._layers[layer.name] = layer
            self._put(node, Traced(layer.name, "value", (*tokens.axes[:2], "input")))
            return
        traced = self._follow(node)
        axis = attributes.get("axis", 0)
        if (
            traced is None
            or index is None
            or index.ndim
            or index.dtype.kind not in "iu"
            or "direction" not in traced.axes
            or axis != traced.axes.index("direction")
            or not 0 <= int(index) < len(self._spec(traced).directions)
        ):
            self._refuse(node, "this Gather is neither an embedding nor the choice of a direction")
            return
        rest = tuple(name for name in traced.axes if name != "direction")
        self._put(node, replace(traced, axes=rest, select=DIRECTIONS[int(index)]))

    def _concat(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
        parts = [self._traced.get(name) for name in node.input]
        recurrent = [name for name, layer in self._layers.items() if isinstance(layer, Recurrent)]
        stacked = [part.layer for part in parts if part and part.axes == STATE_AXES and part.select == "all"]
        same = len({part.quantity for part in parts if part}) == 1
        if attributes.get("axis") != 0 or stacked != recurrent or not same or parts[-1] is None:
            self._refuse(node, "this Concat does not stack the final states of all layers")
            return
        self._put(node, replace(parts[-1], axes=STACKED_AXES))

    def _identity(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
        traced = self._follow(node)
        if traced is not None:
            self._put(node, traced)

    def _constant(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
        constant = constant_of(node, attributes, self._tensors, node.output[0])
        if constant is None:
            expected = ", ".join(["a tensor in 'value'", *CONSTANT_FORMS])
            self._refuse(node, "this form of Constant is not read", expected, ", ".join(attributes))
            return
        self._constants.held[node.output[0]] = constant

    def _cast(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
        if node.output[0] not in self._lengths:
            self._refuse(node, "this Cast is not one of sequence_lens")

    def _weight(self, name: str) -> Array | None:
        """A constant of floating-point numbers; half precision as the float32 numbers that it holds. None if there is none."""
        weight = self._stored_weight(name)
        return None if weight is None else weight[()]

    def _stored_weight(self, name: str) -> Weight | None:
        """The same, not read yet."""
        constant = self._constants.held.get(name)
        if constant is None or not is_float(constant):
            return None
        if constant.dtype.itemsize == 2:
            self._stored.add(constant.dtype.name)
        return Weight(constant)

    def _follow(self, node: onnx.NodeProto) -> Traced | None:
        traced = self._traced.get(node.input[0])
        if traced is None and not self._problems:
            self._refuse(node, f"its input '{node.input[0]}' cannot be followed")
        return traced

    def _put(self, node: onnx.NodeProto, traced: Traced) -> None:
        self._traced[node.output[0]] = traced

    def _whole(self, traced: Traced) -> Traced:
        """The only direction of a layer, picked out, is all that the layer gives."""
        layer = self._layers.get(traced.layer or "")
        if not isinstance(layer, Recurrent) or layer.bidirectional or traced.axes[-1] != "hidden":
            return traced
        if traced.select == "all":
            return traced
        return replace(traced, axes=(*traced.axes[:-1], MERGED), select="all")

    def _spec(self, traced: Traced) -> RecurrentSpec:
        layer = self._layers[traced.layer or ""]
        if not isinstance(layer, Recurrent):
            raise FormatError("a direction axis that no recurrent layer made", traced.layer or "")
        return layer.spec

    def _name(self, node: onnx.NodeProto, fallback: str) -> str:
        return self._names.unique(node.name or fallback)

    def _where(self, node: onnx.NodeProto | None = None) -> str:
        graph = f"graph '{self._graph.name}'"
        return graph if node is None else f"{graph}, node '{node.name or node.output[0]}' ({node.op_type})"

    def _refuse(self, node: onnx.NodeProto, what: str, expected: str = "", got: str = "", remedy: str = "") -> None:
        self._problems.append(
            Problem(
                what, self._where(node), expected, got, remedy or "take it out of the graph, or keep this model in ONNX"
            )
        )
