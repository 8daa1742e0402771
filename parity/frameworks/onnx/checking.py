"""Whether a model is one, as onnx's own checker says."""

from __future__ import annotations

import onnx

from parity.errors import FormatError
from parity.frameworks.onnx.running import first_line

UNKNOWN_TO_CHECKER = ("No Op registered", "No opset import", "higher than the checker's")
"""What the checker says of models that are newer than it, or have operators that it does not know."""


def check(model: onnx.ModelProto, where: str) -> None:
    """Refuse a model that is none.

    Raises:
        FormatError: onnx's own checker does not accept it.
    """
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
