"""Lengths for which a model holds: checked when it runs, and said where the model describes itself.

ONNX has no operator that raises. So an input is reshaped to its own shape with one length moved within the limits: a length that is
within them stays, and one that is not leaves numbers over, which every runtime refuses.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx

from parity.frameworks.onnx.nodes import Assembly
from parity.graph.reading_notes import LimitedAxis

_ANY = np.iinfo(np.int64).max


def checked_input(assembly: Assembly, name: str, limits: Sequence[LimitedAxis]) -> str:
    """Adds what checks the lengths of an input, each by itself; gives the tensor to be taken instead of the input.

    Args:
        assembly: of the graph.
        name: of the input.
        limits: of its axes.

    Example:
        >>> assembly = Assembly(17, ["y"], [])
        >>> x = assembly.input("x", 1, ["batch", "time"])
        >>> checked_input(assembly, x, [LimitedAxis("x", 1, "time", least=4)])
        'x.axis_1_at_least_4'
        >>> [node.op_type for node in assembly.nodes]
        ['Shape', 'Max', 'Reshape']
    """
    found = name
    for one in limits:
        title = f"{name}.axis_{one.axis}_{one.words.replace(' ', '_')}"
        axes = len(next(item for item in assembly.inputs if item.name == name).type.tensor_type.shape.dim)
        sizes = assembly.node("Shape", [found], f"{title}.shape")
        if one.least is not None:
            least = assembly.integers(f"{title}.least", *(one.least if axis == one.axis else 0 for axis in range(axes)))
            sizes = assembly.node("Max", [sizes, least], f"{title}.longer")
        if one.most is not None:
            most = assembly.integers(f"{title}.most", *(one.most if axis == one.axis else _ANY for axis in range(axes)))
            sizes = assembly.node("Min", [sizes, most], f"{title}.shorter")
        found = assembly.node("Reshape", [found, sizes], title)
    return found


def say_limits(model: onnx.ModelProto, limits: Sequence[LimitedAxis]) -> None:
    """The limits in the description of the graph and of its inputs."""
    for item in model.graph.input:
        own = [f"axis {one.axis} ({one.word}) {one.words}" for one in limits if one.input == item.name]
        if own:
            item.doc_string = ", ".join(own)
    said = dict.fromkeys(f"{one.word} {one.words}" for one in limits)
    if said:
        model.graph.doc_string = f"holds for {', '.join(said)}: other lengths fail"


__all__ = ["checked_input", "say_limits"]
