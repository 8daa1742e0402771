"""Stubs for the operators of an ONNX graph that parity does not know, with the shapes that ONNX infers for what they give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx
from onnx import AttributeProto, TensorProto, helper

from parity.frameworks.onnx.constants import Constant
from parity.frameworks.onnx.whole.reading_names import layer_name
from parity.frameworks.onnx.whole.reading_state import Reading
from parity.frameworks.onnx.whole.reading_values import PROBES, Sizes, Spread, Undecided, Unknown, Value
from parity.graph import Wire
from parity.graph.operations import Stub

_GRAPHS = (AttributeProto.GRAPH, AttributeProto.GRAPHS, AttributeProto.TENSOR, AttributeProto.TENSORS)


class Stubs:
    """Makes stubs.

    Args:
        model: the model, whose shapes are inferred when the first stub is made.
        words: how the model's own words for lengths are called.
    """

    def __init__(self, model: onnx.ModelProto, words: Mapping[str, str]) -> None:
        self._model, self._words = model, words
        self._types: dict[str, onnx.TypeProto.Tensor] | None = None

    def stub(
        self, node: onnx.NodeProto, inputs: Sequence[Value | None], captured: Sequence[Value], reading: Reading
    ) -> list[Value]:
        """A stub in the place of a node; `captured` is what its bodies take from around it."""
        weights = {
            name: reading.array(value)
            for name, value in zip(node.input, inputs, strict=True)
            if isinstance(value, Constant) and value.dtype.kind in "fiub"
        }
        taken = [value for value in (*inputs, *captured) if isinstance(value, Wire)]
        if any(isinstance(value, (Sizes, Spread, Undecided)) for value in inputs):
            return [Unknown()] * len(node.output)
        options = {a.name: _shown(a) for a in node.attribute if a.type not in _GRAPHS}
        domain = "" if node.domain in ("", "ai.onnx") else f"{node.domain}."
        name = reading.unique(layer_name(node.name, node.op_type, list(weights), node.op_type.lower()))
        stub = Stub(name, f"{domain}{node.op_type}", options, weights, len(node.output))
        wire = reading.build.call(stub, *taken, source=node.name or node.output[0])
        found: list[Value] = []
        for index, output in enumerate(node.output):
            own = Wire(wire.node, index)
            self._note(own, output, reading)
            found.append(own)
        return found

    def _note(self, wire: Wire, name: str, reading: Reading) -> None:
        """What ONNX infers of a value."""
        if self._types is None:
            try:
                inferred = onnx.shape_inference.infer_shapes(self._model)
            except Exception:  # whatever a model from outside breaks in there, its shapes are then not known
                inferred = self._model
            items = [*inferred.graph.value_info, *inferred.graph.output]
            self._types = {item.name: item.type.tensor_type for item in items}
        found = self._types.get(name)
        if found is None or not found.HasField("shape"):
            return
        lengths = [self._length(dim, reading) for dim in found.shape.dim]
        if any(length is None for length in lengths):
            return
        reading.known[wire] = tuple(tuple(one[probe] for one in lengths if one is not None) for probe in range(PROBES))
        whole = found.elem_type in (TensorProto.INT64, TensorProto.INT32)
        reading.kinds[wire] = "int" if whole else "bool" if found.elem_type == TensorProto.BOOL else "float"

    def _length(self, dim: onnx.TensorShapeProto.Dimension, reading: Reading) -> tuple[int, ...] | None:
        if dim.HasField("dim_value"):
            return (int(dim.dim_value),) * PROBES
        return reading.probes.get(self._words.get(dim.dim_param, dim.dim_param))


def _shown(attribute: AttributeProto) -> object:
    value = helper.get_attribute_value(attribute)
    return value.decode("utf-8", "replace")[:200] if isinstance(value, bytes) else value
