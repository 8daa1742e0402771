"""Recurrent ONNX nodes of every kind, and what exporters write around them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper

from tests.onnx_reading_operators import integers, node, normal

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
FEATURES, HIDDEN = 5, 4


def weights_of(op: str, directions: int = 1, features: int = FEATURES, prefix: str = "") -> dict[str, Any]:
    """W, R and B of a node."""
    rows = GATES[op] * HIDDEN
    return {
        f"{prefix}W": normal(directions, rows, features, scale=0.5),
        f"{prefix}R": normal(directions, rows, HIDDEN, scale=0.5),
        f"{prefix}B": normal(directions, 2 * rows, scale=0.5),
    }


def recurrent(
    op: str,
    x: str = "x",
    more: Sequence[str] = (),
    outputs: Sequence[str] = ("Y", "Y_h", "Y_c"),
    prefix: str = "",
    **options: Any,
) -> onnx.NodeProto:
    """A node; `more` is sequence_lens, initial_h, initial_c, P."""
    given = [name for at, name in enumerate(outputs) if at < 2 or op == "LSTM"]
    weights = [f"{prefix}{key}" for key in "WRB"]
    return helper.make_node(op, [x, *weights, *more], given, name=f"{prefix}rnn", hidden_size=HIDDEN, **options)


def zeros_of_batch(x: str, axis: int, prefix: str, rows: int = 1) -> tuple[list[onnx.NodeProto], dict[str, Any]]:
    """A state of zeros whose batch is computed, as exporters write it; gives `<prefix>state`."""
    nodes = [
        node("Shape", x, y=f"{prefix}shape"),
        node("Gather", f"{prefix}shape", f"{prefix}axis", y=f"{prefix}length", axis=0),
        node("Unsqueeze", f"{prefix}length", f"{prefix}zero", y=f"{prefix}batch"),
        node("Concat", f"{prefix}rows", f"{prefix}batch", f"{prefix}units", y=f"{prefix}sizes", axis=0),
    ]
    arrays = {
        f"{prefix}axis": np.int64(axis),
        f"{prefix}zero": integers(0),
        f"{prefix}rows": integers(rows),
        f"{prefix}units": integers(HIDDEN),
    }
    return nodes, arrays
