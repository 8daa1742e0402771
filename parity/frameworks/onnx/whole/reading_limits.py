"""Lengths for which a model holds, in the form in which parity writes their checks: see `writing_limits`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import onnx

from parity.frameworks.onnx.constants import Constant
from parity.graph.reading_notes import LimitedAxis
from parity.recurrent import Array

Shape: TypeAlias = tuple[int | str, ...]

_NEUTRAL = {"Max": 0, "Min": np.iinfo(np.int64).max}


@dataclass
class Checks:
    """The checks of a graph.

    Args:
        passed: what each hands on -> what it takes, in order.
        inner: what the nodes give that only belong to them.
        limits: input, axis, "Max" (of the length and the least one) or "Min", length.
    """

    passed: dict[str, str] = field(default_factory=dict)
    inner: set[str] = field(default_factory=set)
    limits: list[tuple[str, int, str, int]] = field(default_factory=list)

    def others(self, nodes: Iterable[onnx.NodeProto]) -> list[onnx.NodeProto]:
        """The nodes that are not of a check."""
        gone = {*self.passed, *self.inner}
        return [node for node in nodes if not gone.intersection(node.output)]

    def said(self, shapes: Mapping[str, Shape]) -> str:
        """The limits as `details["limits"]` has them, given the shapes of the inputs."""
        found: dict[str, None] = {}
        for name, axis, op, length in self.limits:
            least, most = (length, None) if op == "Max" else (None, length)
            found |= dict.fromkeys(LimitedAxis(name, axis, shapes[name][axis], least, most).sayings)
        return ", ".join(found)


def checks_in(nodes: Collection[onnx.NodeProto], inputs: Mapping[str, Shape], values: Mapping[str, Any]) -> Checks:
    """Every input that is reshaped to its own shape with one length moved within limits.

    Args:
        nodes: of the graph.
        inputs: their shapes; only lengths that differ from call to call are limited.
        values: constants by name.
    """
    found = Checks()
    sources = {name: name for name in inputs}
    makers = {name: node for node in nodes for name in node.output}
    uses = Counter(name for node in nodes for name in node.input)
    for node in nodes:
        if node.op_type != "Reshape" or node.attribute or len(node.input) != 2 or node.input[0] not in sources:
            continue
        source, sizes, inner, limits = sources[node.input[0]], node.input[1], set[str](), []
        while (maker := makers.get(sizes)) is not None and uses[sizes] == 1:
            inner.add(sizes)
            sizes = maker.input[0] if maker.input else ""
            bound = _bound(maker, values, inputs[source])
            if bound is None:
                break
            limits.append((source, *bound))
        whole = maker is not None and maker.op_type == "Shape" and not maker.attribute and sizes == node.input[0]
        ops = [op for _, _, op, _ in limits]
        if whole and ops in (["Max"], ["Min"], ["Min", "Max"]) and len({axis for _, axis, _, _ in limits}) == 1:
            found.passed[node.output[0]] = node.input[0]
            found.inner |= inner
            found.limits += limits[::-1]
            sources[node.output[0]] = source
    return found


def _bound(node: onnx.NodeProto, values: Mapping[str, Any], shape: Shape) -> tuple[int, str, int] | None:
    """Axis, operator and length of a Max or Min that moves one length."""
    constant = values.get(node.input[1]) if len(node.input) == 2 else None
    if node.op_type not in _NEUTRAL or not isinstance(constant, Constant):
        return None
    if constant.shape != (len(shape),) or constant.dtype != np.int64:
        return None
    lengths: Array = np.asarray(constant.read())
    axes = np.flatnonzero(lengths != _NEUTRAL[node.op_type])
    if len(axes) != 1 or lengths[axes[0]] < 1 or not isinstance(shape[axes[0]], str):
        return None
    return int(axes[0]), node.op_type, int(lengths[axes[0]])


__all__ = ["Checks", "checks_in"]
