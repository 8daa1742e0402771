"""Runs a session of ONNX Runtime on the inputs of a graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from parity.errors import ShapeError
from parity.frameworks.onnx.running import refusals
from parity.graph import Graph
from parity.recurrent import Array

_DTYPES: dict[str, Any] = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
}


def run_session(session: Any, graph: Graph, inputs: Mapping[str, Array], more: Mapping[str, Array]) -> list[Array]:
    """All outputs of a session for a graph's inputs by name, and for further ones by the session's names."""
    missing = [one.name for one in graph.inputs if one.name not in inputs]
    if missing:
        expected = ", ".join(one.name for one in graph.inputs)
        raise ShapeError("inputs are missing", graph.name, expected, f"no {', '.join(missing)}")
    own = [item for item in session.get_inputs() if item.name not in more]
    named = {item.name for item in own} == {one.name for one in graph.inputs}
    by_name = {
        item.name: inputs[item.name if named else one.name] for item, one in zip(own, graph.inputs, strict=False)
    }
    dtypes = {item.name: _DTYPES.get(item.type, np.float32) for item in session.get_inputs()}
    feeds = {name: np.asarray(array, dtypes[name], order="C") for name, array in {**by_name, **more}.items()}
    with refusals("run"):
        found: list[Array] = session.run(None, feeds)
    return found


__all__ = ["run_session"]
