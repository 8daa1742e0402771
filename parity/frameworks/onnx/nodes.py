"""An ONNX graph while it is being put together, and small pieces whose form depends on the opset."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from parity.errors import UnsupportedError
from parity.frameworks.onnx.names import Names
from parity.layouts import axis_groups
from parity.recurrent import Array

FLOAT, INT32, INT64, BOOL, DOUBLE = (
    TensorProto.FLOAT,
    TensorProto.INT32,
    TensorProto.INT64,
    TensorProto.BOOL,
    TensorProto.DOUBLE,
)

Axes = Sequence[int | str | None]


class Assembly:
    """Nodes, initializers, inputs and outputs in the order in which they are added; every name is used once.

    Args:
        opset: of the graph.
        tensors: names that no tensor added on the way may take.
        nodes: names that no unnamed node may take.
        real: type of its floats.

    Example:
        >>> assembly = Assembly(17, ["y"], [])
        >>> x = assembly.input("x", FLOAT, ["batch", 3])
        >>> assembly.give(assembly.node("Relu", [x], "y"), "y", ["batch", 3])
        >>> [(node.op_type, list(node.output)) for node in assembly.model("small", {}).graph.node]
        [('Relu', ['y_1']), ('Identity', ['y'])]
    """

    def __init__(self, opset: int, tensors: Iterable[str], nodes: Iterable[str], real: int = FLOAT) -> None:
        self.opset, self.real = opset, real
        self.initializers: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self.homes: dict[tuple[str, int], dict[str, str]] = {}
        self._nodes: list[onnx.NodeProto] = []
        self._tensor_names, self._node_names = Names(tensors), Names(nodes)

    @property
    def nodes(self) -> list[onnx.NodeProto]:
        """The nodes of the graph, or of the body that is being put together."""
        return self._nodes

    @contextmanager
    def body(self) -> Iterator[list[onnx.NodeProto]]:
        """Nodes that are added meanwhile belong to the body of a node; constants stand outside, where the body sees them."""
        outer, self._nodes = self._nodes, []
        try:
            yield self._nodes
        finally:
            self._nodes = outer

    def name(self, wanted: str) -> str:
        """A name for a tensor."""
        return self._tensor_names.unique(wanted)

    def node_name(self, wanted: str) -> str:
        """A name for a node that does not stand for a whole layer."""
        return self._node_names.unique(wanted)

    def needs(self, opset: int, what: str, where: str) -> None:
        """Refuse what the graph's opset cannot say.

        Raises:
            UnsupportedError: the opset is lower.
        """
        if self.opset < opset:
            raise UnsupportedError(
                f"{what} needs a newer opset", where, f"opset {opset} or newer", str(self.opset), f"opset={opset}"
            )

    def node(self, op: str, inputs: Sequence[str], name: str, layer: str | None = None, **attributes: Any) -> str:
        """Adds a node of one output and gives its tensor's name; the node that stands for a layer has the layer's name."""
        return self.nodes_of(op, inputs, [name], layer, **attributes)[0]

    def nodes_of(
        self, op: str, inputs: Sequence[str], names: Sequence[str], layer: str | None = None, **attributes: Any
    ) -> list[str]:
        """Adds a node of several outputs and gives their names."""
        outputs = [self.name(name) for name in names]
        own = layer if layer is not None else self._node_names.unique(names[0])
        self._nodes.append(helper.make_node(op, list(inputs), outputs, name=own, **attributes))
        return outputs

    def constant(self, name: str, array: Array) -> str:
        """Adds an initializer."""
        name = self.name(name)
        self.initializers.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def weights(self, layer: str, arrays: Mapping[str, Array], part: int = 0, prefix: str = "") -> dict[str, str]:
        """Adds the weights of a part of a layer, and remembers where they stand."""
        names = {key: self.constant(f"{prefix or layer}.{key}", array) for key, array in arrays.items()}
        self.homes[layer, part] = names
        return names

    def integers(self, name: str, *values: int) -> str:
        """Adds an initializer of one axis."""
        return self.constant(name, np.asarray(values, np.int64))

    def number(self, name: str, value: float) -> str:
        """Adds an initializer without axes."""
        return self.constant(name, np.asarray(value, np.float32 if self.real == FLOAT else np.float64))

    def input(self, name: str, kind: int, axes: Axes) -> str:
        """Adds an input of the graph under its very name."""
        self.inputs.append(helper.make_tensor_value_info(name, kind, list(axes)))
        return name

    def give(self, tensor: str, output: str, axes: Axes, kind: int = FLOAT) -> None:
        """Adds an output of the graph under its very name."""
        self._nodes.append(
            helper.make_node("Identity", [tensor], [output], self._node_names.unique(f"{output}.output"))
        )
        self.outputs.append(helper.make_tensor_value_info(output, kind, list(axes)))

    def cast(self, value: str, kind: int, name: str) -> str:
        """A value in another type."""
        return self.node("Cast", [value], name, to=kind)

    def unsqueezed(self, value: str, axis: int, name: str) -> str:
        """A value with one more axis; opset 13 made the axes an input."""
        if self.opset < 13:
            return self.node("Unsqueeze", [value], name, axes=[axis])
        return self.node("Unsqueeze", [value, self.integers(f"{name}.axes", axis)], name)

    def picked(self, value: str, axis: int, index: int, name: str, keep: bool = False) -> str:
        """One slice of an axis, which it loses unless it is kept."""
        at = self.constant(f"{name}.index", np.asarray([index] if keep else index, np.int64))
        return self.node("Gather", [value, at], name, axis=axis)

    def flipped(self, value: str, axis: int, name: str, where: str) -> str:
        """An axis the other way round."""
        self.needs(10, "a sequence in the order of processing", where)
        ends = (("starts", -1), ("ends", np.iinfo(np.int64).min), ("axes", axis), ("steps", -1))
        return self.node("Slice", [value, *(self.integers(f"{name}.{key}", int(at)) for key, at in ends)], name)

    def rearranged(self, value: str, axes: str, wanted: str, name: str, sizes: Mapping[str, int]) -> str:
        """An einops pattern as Transpose and Reshape; groups are merged at the end of the shape only."""
        groups = axis_groups(wanted)
        order = [axis for group in groups for axis in group]
        permutation = [axes.split().index(axis) for axis in order]
        if permutation != sorted(permutation):
            value = self.node("Transpose", [value], f"{name}.transposed", perm=permutation)
        if len(groups) != len(order):
            shape = [0 if len(group) == 1 else int(np.prod([sizes[axis] for axis in group])) for group in groups]
            value = self.node("Reshape", [value, self.integers(f"{name}.shape", *shape)], name)
        return value

    def length(self, value: str, axis: int, name: str) -> str:
        """The length of an axis, as a tensor of one element."""
        return self.picked(self.node("Shape", [value], f"{name}.shape"), 0, axis, name, keep=True)

    def counted(self, value: str, axis: int, name: str) -> str:
        """0, 1, 2, ... along an axis of a value: (length, 1)."""
        start, step = (
            self.constant(f"{name}.{key}", np.asarray(at, np.int64)) for key, at in (("start", 0), ("step", 1))
        )
        stop = self.picked(self.node("Shape", [value], f"{name}.shape"), 0, axis, f"{name}.stop")
        return self.unsqueezed(self.node("Range", [start, stop, step], name), 1, f"{name}.column")

    def model(self, name: str, properties: Mapping[str, str]) -> onnx.ModelProto:
        """All of it that leads to an output or holds a layer's weights, checked."""
        nodes, needed = self._needed()
        initializers = [tensor for tensor in self.initializers if tensor.name in needed]
        stand_ins = [helper.make_tensor_value_info(one.name, one.data_type, one.dims) for one in initializers]
        opsets = [helper.make_opsetid("", self.opset)]
        domains = [helper.make_opsetid(domain, 1) for domain in sorted({node.domain for node in nodes} - {""})]
        model = helper.make_model(
            helper.make_graph(nodes, name, [*self.inputs, *stand_ins], self.outputs),
            opset_imports=[*opsets, *domains],
            ir_version=max(7, helper.find_min_ir_version_for(opsets)),
            producer_name="parity",
        )
        helper.set_model_props(model, dict(properties))
        # The weights, which may be large, come in after the check: it would write all of them to memory once more.
        onnx.checker.check_model(model)
        del model.graph.input[len(self.inputs) :]
        model.graph.initializer.extend(initializers)
        return model

    def _needed(self) -> tuple[list[onnx.NodeProto], set[str]]:
        """The nodes that are needed, and the names of all tensors that are."""
        weights = {name for names in self.homes.values() for name in names.values()}
        needed = {item.name for item in self.outputs}
        nodes: list[onnx.NodeProto] = []
        for node in reversed(self._nodes):
            taken = set(node.input)
            for body in (attribute.g for attribute in node.attribute if attribute.HasField("g")):
                taken |= {name for inner in body.node for name in inner.input}
            if needed.intersection(node.output) or weights.intersection(taken):
                needed |= taken
                nodes.append(node)
        return nodes[::-1], needed
