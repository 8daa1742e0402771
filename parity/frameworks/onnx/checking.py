"""Whether a model is one, as onnx's own checker says."""

from __future__ import annotations

import onnx
from onnx import TensorProto

from parity.errors import FormatError, Problem
from parity.frameworks.onnx.running import first_line
from parity.frameworks.onnx.tensors import Tensors, tensors_in

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


def unchecked(model: onnx.ModelProto, tensors: Tensors) -> Problem | None:
    """Why the checker of the installed onnx cannot judge the model; None if it accepts it.

    Raises:
        FormatError: it judges it to be invalid, or a tensor's contents do not fit its sizes.
    """
    for tensor in tensors_in(model):
        tensors.stored(tensor)
    try:
        check(_light(model, tensors), tensors.where)
    except FormatError as error:
        (problem,) = error.problems
        if not any(words in problem.got for words in UNKNOWN_TO_CHECKER):
            raise
        remedy = "install a newer onnx if the model is newer than yours"
        what = f"onnx {onnx.__version__} does not know everything in this model"
        return Problem(what, problem.where, problem.expected, problem.got, remedy)
    return None


def _light(model: onnx.ModelProto, tensors: Tensors) -> onnx.ModelProto:
    """The model, or a copy without contents of tensors that stand elsewhere: the checker looks whether contents fit the sizes."""
    if all(tensors.place(tensor) is None for tensor in tensors_in(model)):
        return model
    light = onnx.ModelProto()
    light.CopyFrom(model)
    for tensor in tensors_in(light):
        if tensors.place(tensor) is not None:
            tensor.data_type, tensor.dims[:] = TensorProto.UINT8, [len(tensor.raw_data)]
    return light


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
