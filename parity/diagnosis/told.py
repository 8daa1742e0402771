"""What tells two layers of one kind apart: their weights in canonical form, and options that change numbers."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np

from parity.deferred import Array
from parity.graph.calls import Layered
from parity.layouts import CANONICAL_AXES, GATE_MEANINGS, GATES
from parity.network import Recurrent
from parity.recurrent import Weights, merge_biases

Key: TypeAlias = tuple[str, str]
"""A layer of the right model, and one of its weights."""

ALIKE = 1e-6
"""Weights within this share of their largest number are the same: they were rounded to float32, perhaps after a sum."""


def told_of(operation: Layered) -> dict[str, Any]:
    """What tells two layers of one kind apart: weights, and options that change numbers, by name.

    The weights of a recurrent layer are canonical, zeros where there are none; biases whose sum alone counts are their sum.
    """
    names = OPTIONS.get(type(operation).__name__, ())
    found: dict[str, Any] = {name: getattr(operation, name) for name in names}
    if not isinstance(operation, Recurrent):
        return found | dict(operation.arrays.present)
    for way, weights, cell in zip(operation.spec.directions, operation.weights, operation.cells, strict=True):
        found[f"{way}.cell"] = cell
        found |= {
            f"{way}.{name}": array
            for name in CANONICAL_AXES
            if "bias" not in name and (array := weights.member(name)) is not None
        }
        found |= {f"{way}.{name}": array for name, array in _biases(operation, weights, cell.reset_after).items()}
    return found


OPTIONS = {
    "Recurrent": ("merge_mode", "reverse"),
    "Dense": ("activation",),
    "BatchNormalization": ("epsilon",),
    "LayerNormalization": ("epsilon", "axes", "rms"),
    "GroupNormalization": ("epsilon", "groups"),
    "Convolution": ("strides", "dilations", "groups"),
}
"""Options that change numbers, and mean the same in every framework, by the kind of layer.

Padding is none of them: one model says "same" where another says numbers, or pads beforehand."""


def _biases(layer: Recurrent, weights: Weights, reset_after: bool) -> dict[str, Array]:
    """The sum of both biases; of a GRU whose reset gate acts after the product, the candidate's part of the recurrence apart."""
    total = merge_biases(weights)
    both = np.zeros(layer.spec.shape("bias_input")) if total is None else total
    if layer.spec.kind != "gru" or not reset_after:
        return {"bias": both}
    candidate = GATES[layer.spec.kind].index(CANDIDATE)
    inner = weights.bias_recurrent
    recurrent = np.zeros_like(both[candidate]) if inner is None else inner[candidate]
    outer = np.zeros_like(recurrent) if weights.bias_input is None else weights.bias_input[candidate]
    inputs = both.copy()
    inputs[candidate] = outer
    return {"bias": inputs, "bias of the candidate in the recurrence": recurrent}


CANDIDATE = next(letter for letter, meaning in GATE_MEANINGS["gru"].items() if meaning == "candidate")
"""The gate of a GRU whose two biases are not added: one of them stands inside the product with the reset gate."""


def same(left: Any, right: Any) -> bool:
    """Whether two weights or options are the same to the last digit."""
    arrays = isinstance(left, np.ndarray) and isinstance(right, np.ndarray)
    return bool(np.array_equal(left, right)) if arrays else bool(left == right)


def alike(left: Any, right: Any) -> bool:
    """Whether two weights or options are the same, to a rounding to float32."""
    if isinstance(left, float) and isinstance(right, float):  # files of ONNX keep options in float32
        return math.isclose(left, right, rel_tol=ALIKE)
    if not isinstance(left, np.ndarray) or not isinstance(right, np.ndarray):
        return bool(left == right)
    if left.shape != right.shape:
        return False
    scale = float(np.abs(right).max(initial=0.0))
    return bool(np.abs(np.asarray(left, np.float64) - right).max(initial=0.0) <= ALIKE * scale)


__all__ = ["ALIKE", "CANDIDATE", "OPTIONS", "Key", "alike", "same", "told_of"]
