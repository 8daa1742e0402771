"""ONNX: copies of models, and the initializers in which their recurrent nodes keep their weights."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

from parity.frameworks.onnx.finding import is_recurrent
from parity.frameworks.onnx.trace import RECURRENT_OPS
from parity.frameworks.onnx.weights import POSITIONS
from parity.layouts import LAYOUTS
from parity.recurrent import DIRECTIONS, RecurrentSpec, unpack
from parity.transferring.units import Leaf, StoredHandle, Unit


def copied(live: onnx.ModelProto) -> onnx.ModelProto:
    """A model of its own."""
    made = onnx.ModelProto()
    made.CopyFrom(live)
    return made


def addressed(live: onnx.ModelProto, root: str = "tensors") -> list[tuple[Unit, dict[str, str]]]:
    """Every recurrent node whose weights are initializers, with the expressions of these; `root` holds initializers by name."""
    held = {tensor.name: tensor for tensor in live.graph.initializer}
    found = []
    for node in live.graph.node:
        if not is_recurrent(node):
            continue
        kind = RECURRENT_OPS[node.op_type]
        taken = {role: node.input[at] for role, at in POSITIONS.items() if at < len(node.input) and node.input[at]}
        if not {"W", "R"} <= taken.keys() or not all(name in held for name in taken.values()):
            continue
        arrays = {role: np.asarray(numpy_helper.to_array(held[name])) for role, name in taken.items()}
        both = arrays["W"].shape[0] == 2
        spec = RecurrentSpec(kind, arrays["W"].shape[2], arrays["R"].shape[2], DIRECTIONS if both else DIRECTIONS[:1])
        leaves = tuple(Leaf(taken[role], role, StoredHandle(array)) for role, array in arrays.items())
        layout = LAYOUTS["onnx", kind]
        unit = Unit(
            node.name,
            kind,
            "onnxruntime",
            node.op_type,
            leaves,
            spec=spec,
            layout=layout,
            weights=unpack(layout, spec, arrays),
        )
        found.append((unit, {name: f"{root}[{name!r}]" for name in taken.values()}))
    return found


__all__ = ["addressed", "copied"]
