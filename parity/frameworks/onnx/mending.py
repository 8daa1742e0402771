"""ONNX: copies of models, and the initializers in which their recurrent nodes keep their weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import numpy_helper

from parity.frameworks.onnx.cells import attributes_of
from parity.frameworks.onnx.finding import is_recurrent
from parity.frameworks.onnx.trace import RECURRENT_OPS
from parity.frameworks.onnx.weights import POSITIONS
from parity.functions import Function
from parity.graph.calls import Layered
from parity.graph.operations import Activation, Softmax
from parity.layouts import LAYOUTS
from parity.network import Dense, Recurrent
from parity.recurrent import DIRECTIONS, RecurrentSpec, unpack
from parity.transferring.units import Leaf, StoredHandle, Unit

_OPTIONS = {
    "epsilon": ("epsilon", "epsilon"),
    "groups": ("num_groups", "groups"),
    "strides": ("strides", "strides"),
    "dilations": ("dilations", "dilations"),
}
"""What nodes call an option, and what the graph's operations call it."""

_ACTIVATIONS = {
    "relu": "Relu", "leaky_relu": "LeakyRelu", "elu": "Elu", "sigmoid": "Sigmoid", "hard_sigmoid": "HardSigmoid", "tanh": "Tanh",
    "selu": "Selu", "softplus": "Softplus", "softsign": "Softsign", "affine": "Identity",
}  # fmt: skip
"""Operators by the function that they compute."""

_PLAIN = {*_ACTIVATIONS.values(), "Softmax", "LogSoftmax"}


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


def option_lines(live: onnx.ModelProto, source: str, option: str, right: Layered, root: str = "suspect") -> list[str]:
    """Lines that set an attribute of a node to what the right model has; none where no node has it.

    Args:
        live: the suspect.
        source: the node's name, or what it gives.
        option: in canonical terms.
        right: the operation of the right model.
        root: Python for the suspect.
    """
    name, own = _OPTIONS.get(option, ("", ""))
    node = _node(live, source)
    if node is None or not name or not hasattr(right, own) or name not in _attributes_that_are(node):
        return []
    value = getattr(right, own)
    return _set(node, {name: float(f"{value:.7g}") if isinstance(value, float) else value}, (), root)


def cell_lines(live: onnx.ModelProto, source: str, right: Recurrent, root: str = "suspect") -> list[str]:
    """Lines that give a recurrent node the options of the right layer's cells."""
    node = _node(live, source)
    if node is None or not is_recurrent(node):
        return []
    gone = ("activations", "activation_alpha", "activation_beta", "linear_before_reset", "clip", "input_forget")
    return _set(node, attributes_of(right), gone, root)


def turned_lines(live: onnx.ModelProto, source: str, root: str = "suspect") -> list[str]:
    """Lines that let a recurrent node of one direction run in the other one; none where it has two, or is none."""
    node = _node(live, source)
    if node is None or not is_recurrent(node):
        return []
    there = next((one.s.decode() for one in node.attribute if one.name == "direction"), "forward")
    other = {"forward": "reverse", "reverse": "forward"}.get(there)
    return _set(node, {"direction": other}, (), root) if other else []


def holder_of(live: onnx.ModelProto, source: str, member: str, root: str = "tensors") -> str:
    """Python for the initializer that a convolution has its kernel in, or a Gather its table; "" where it is none.

    Args:
        live: the suspect.
        source: the node's name, or what it gives.
        member: "kernel" or "table".
        root: Python for the initializers by name.
    """
    node, (op, place) = _node(live, source), {"kernel": ("Conv", 1), "table": ("Gather", 0)}[member]
    if node is None or node.op_type != op:
        return ""
    name = node.input[place]
    return f"{root}[{name!r}]" if any(one.name == name for one in live.graph.initializer) else ""


def activation_lines(
    live: onnx.ModelProto, source: str, behind: Sequence[str], right: Layered | None, root: str = "suspect"
) -> list[str]:
    """Lines that make the node of an activation the right one; none where there is no such node.

    Args:
        live: the suspect.
        source: the node that it stands behind.
        behind: what stands there now.
        right: the activation, or a dense layer that has it; None for none.
        root: Python for the suspect.
    """
    found = {
        node.output[0]: node
        for node in (_node(live, one) for one in behind)
        if node is not None and node.op_type in _PLAIN
    }
    if len(found) != 1:
        return []
    (node,) = found.values()
    if isinstance(right, Dense):
        right = Softmax("softmax") if right.activation == "softmax" else Activation("it", Function(right.activation))
    if isinstance(right, Softmax):
        op = "LogSoftmax" if right.log else "Softmax"
        attributes: dict[str, object] = {"axis": right.axis}
    else:
        function = right.function if isinstance(right, Activation) else Function("affine", 1.0, 0.0)
        if function.name not in _ACTIVATIONS or (
            function.name == "affine" and (function.alpha, function.beta) != (1.0, 0.0)
        ):
            return []
        op = _ACTIVATIONS[function.name]
        named = {} if op == "Identity" else function.parameters
        attributes = {key: float(f"{value:.7g}") for key, value in named.items()}
    lines = _set(node, attributes, tuple(one.name for one in node.attribute), root)
    return [lines[0], f'node.op_type = "{op}"', *lines[1:]]


def _node(live: onnx.ModelProto, source: str) -> onnx.NodeProto | None:
    """The node of a name, or the one that gives a value of this name, or else the only one that takes it."""
    nodes: list[onnx.NodeProto] = list(live.graph.node) if source else []
    named = [node for node in nodes if node.name == source]
    giving = [node for node in nodes if source in node.output]
    taking = [node for node in nodes if source in node.input]
    found = named if len(named) == 1 else giving or (taking if len(taking) == 1 else [])
    return found[0] if found else None


def _attributes_that_are(node: onnx.NodeProto) -> set[str]:
    """The attributes that the specification has for a node's operator."""
    return set(onnx.defs.get_schema(node.op_type, domain=node.domain).attributes)


def _set(node: onnx.NodeProto, attributes: Mapping[str, object], gone: Sequence[str], root: str) -> list[str]:
    """Lines that find a node, drop attributes and set others."""
    which = f"node.name == {node.name!r}" if node.name else f"{node.output[0]!r} in node.output"
    there = {one.name for one in node.attribute}
    dropped = tuple(sorted(there & {*gone, *attributes}))
    lines = [f"node = next(node for node in {root}.graph.node if {which})"]
    if dropped:
        lines += [
            f"kept = [one for one in node.attribute if one.name not in {dropped!r}]",
            "del node.attribute[:]",
            "node.attribute.extend(kept)",
        ]
    return [
        *lines,
        *(
            f"node.attribute.append(onnx.helper.make_attribute({key!r}, {value!r}))"
            for key, value in attributes.items()
        ),
    ]


__all__ = ["activation_lines", "addressed", "cell_lines", "copied", "holder_of", "option_lines", "turned_lines"]
