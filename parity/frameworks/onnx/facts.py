"""What an ONNX model says of itself, and what is known to be wrong with models of its maker."""

from __future__ import annotations

from collections.abc import Iterable

import onnx
from onnx import TensorProto

from parity.frameworks.onnx.finding import is_recurrent, nodes_in

_TORCH = "pytorch"
_SHOWN = 8


def facts_of(model: onnx.ModelProto) -> dict[str, str]:
    """Facts for people: the age of the format, what it takes and gives, and `caution`, what to look out for."""
    own = [item for item in model.opset_import if item.domain in ("", "ai.onnx")]
    others = [f"{item.domain} {item.version}" for item in model.opset_import if item not in own]
    fixed = _fixed(model)
    found = {
        "producer": f"{model.producer_name} {model.producer_version}".strip().split("\n")[0] or "not stated",
        "opset": str((own[0].version if own else 0) or "not stated"),
        "ir_version": str(model.ir_version or "not stated"),
        "other operator sets": ", ".join(others),
        "fixed sizes": fixed,
        "caution": _reset_caution(model),
    }
    return {key: value for key, value in found.items() if value}


def described(items: Iterable[onnx.ValueInfoProto]) -> str:
    """Inputs or outputs with their types and sizes, for people.

    Example:
        >>> described([onnx.helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 7, None])])
        'x (batch, 7, ?) float'
    """
    words = []
    for item in items:
        sizes = ", ".join(_size(dim) for dim in item.type.tensor_type.shape.dim)
        known = item.type.tensor_type.elem_type in TensorProto.DataType.values()
        kind = TensorProto.DataType.Name(item.type.tensor_type.elem_type).lower() if known else "unknown type"
        words.append(f"{item.name} ({sizes}) {kind}")
    return ", ".join(words)


def _size(dim: onnx.TensorShapeProto.Dimension) -> str:
    return str(dim.dim_value) if dim.HasField("dim_value") else dim.dim_param or "?"


def _fixed(model: onnx.ModelProto) -> str:
    """The first input of the main graph, where one of its first two axes, batch and time in either order, was fixed at the export."""
    constants = {tensor.name for tensor in model.graph.initializer}
    data = next((item for item in model.graph.input if item.name not in constants), None)
    if data is None or len(data.type.tensor_type.shape.dim) < 2:
        return ""
    fixed = any(dim.HasField("dim_value") for dim in data.type.tensor_type.shape.dim[:2])
    return described([data]) if fixed else ""


def _reset_caution(model: onnx.ModelProto) -> str:
    """torch's GRU resets after the product, but onnxscript up to 0.6.2 left that out of what it wrote.

    Source: github.com/microsoft/onnxscript issue 2852 and github.com/pytorch/pytorch issue 189225; written rightly since onnxscript 0.7.2.
    """
    if _TORCH not in model.producer_name.lower():
        return ""
    wrong = [
        node.name or "unnamed"
        for node in nodes_in(model)
        if node.op_type == "GRU"
        and is_recurrent(node)
        and not any(attribute.name == "linear_before_reset" and attribute.i for attribute in node.attribute)
    ]
    if not wrong:
        return ""
    names = ", ".join(f"'{name}'" for name in wrong[:_SHOWN]) + (" and more" if len(wrong) > _SHOWN else "")
    return (
        f"GRU {names} has linear_before_reset=0, but torch's own GRU is linear_before_reset=1: onnxscript up to 0.6.2 exported it so "
        "by mistake (onnxscript issue 2852), and the file computes something else than the module did. Compare it with the module, or "
        "export it anew with onnxscript 0.7.2 or later"
    )
