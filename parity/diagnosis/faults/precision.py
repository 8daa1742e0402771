"""Weights and inputs that went through a shorter format on their way: the same numbers with fewer digits."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, cast

import numpy as np

from parity.deferred import Array
from parity.diagnosis.case import Case
from parity.diagnosis.fault import Fault, Place
from parity.diagnosis.faults.layers import layers_of, place_of
from parity.diagnosis.faults.wiring import given
from parity.diagnosis.repair import CallRepair
from parity.graph.calls import Layered
from parity.graph.graph import Wire
from parity.graph.operations import Constant
from parity.network import Recurrent

_DIGITS = {"TF32": 11, "TF32 cut": 11, "float16": 11, "bfloat16": 8}
"""Binary digits of the significand, the leading one included."""


def rounded(array: Array, kind: str) -> Array:
    """Numbers to the nearest ones of a shorter format, ties to even.

    Args:
        array: of floats.
        kind: "float16", "bfloat16" or "TF32" (the range of float32 with the digits of float16), or "TF32 cut" (the same towards zero,
            as tensor cores take numbers that nobody has rounded before).

    Example:
        >>> rounded(np.array([1.0, 0.1]), "bfloat16").tolist()
        [1.0, 0.10009765625]
    """
    if kind == "float16":
        with np.errstate(over="ignore"):
            return array.astype(np.float16).astype(array.dtype)
    part, exponent = np.frexp(array)
    scale = 2.0 ** _DIGITS[kind]
    whole = np.trunc(part * scale) if kind == "TF32 cut" else np.round(part * scale)
    found: Array = np.ldexp(whole / scale, exponent).astype(array.dtype)
    return found


def precision_faults(case: Case) -> Iterator[Fault]:
    """Weights, or inputs, rounded to a shorter format: what then computes in float32 is explained exactly.

    Args:
        case: the right model.
    """
    layers = [one.name for one in case.graph.operations if any(np.dtype(a.dtype).kind == "f" for a in _weights(one))]
    written = [
        name for name, one in layers_of(case, Constant) if not one.trained and one.held("value").dtype.kind == "f"
    ]
    floats = [one.name for one in case.graph.inputs if case.inputs[one.name].dtype.kind == "f"]
    for kind in ("float16", "bfloat16"):
        dtype = f"torch.{kind}"
        if layers:
            yield Fault(
                "weights rounded",
                f"has its weights rounded to {kind}",
                Place(),
                partial(_with_rounded, names=tuple(layers), kind=kind),
                (CallRepair("", "mode", f"# read the weights as float32: they went through {dtype}", ""),),
                rank=20,
            )
        if layers and written:
            yield Fault(
                "weights rounded",
                f"has its weights and the numbers of its own code rounded to {kind}",
                Place(),
                partial(_with_rounded, names=(*layers, *written), kind=kind),
                (CallRepair("", "mode", f"# read the weights as float32: they went through {dtype}", ""),),
                rank=35,
            )
        if len(layers) > 1:
            for name in layers:
                yield Fault(
                    "weights rounded",
                    f"has its weights rounded to {kind}",
                    place_of(case, name),
                    partial(_with_rounded, names=(name,), kind=kind),
                    (CallRepair(name, "mode", f"# read the weights as float32: they went through {dtype}", ""),),
                    rank=34,
                )
        if floats:
            yield Fault(
                "inputs rounded",
                f"takes its inputs rounded to {kind}",
                Place(),
                partial(_inputs_rounded, names=tuple(floats), kind=kind),
                (CallRepair("", "input", "x = x.float()  # before they are rounded", ""),),
                rank=28,
            )


def _weights(operation: Layered) -> list[Any]:
    """What is kept in files; not the numbers that stand in a model's code."""
    if isinstance(operation, Constant) and not operation.trained:
        return []
    return list(operation.arrays.held.values())


def _with_rounded(case: Case, names: tuple[str, ...], kind: str) -> Case:
    for name in names:
        case = case.with_layer(name, partial(_rounded_layer, shorter=partial(rounded, kind=kind)))
    return case


def _rounded_layer(operation: Layered, shorter: Callable[[Array], Array]) -> Any:
    """An operation with every float array of its own rounded."""
    if isinstance(operation, Recurrent):
        made = []
        for weights in operation.weights:
            names = [field.name for field in dataclasses.fields(weights) if weights.held(field.name) is not None]
            made.append(weights.with_held(**{name: shorter(np.asarray(weights.member(name))) for name in names}))
        return dataclasses.replace(operation, weights=tuple(made))
    changed = {}
    for field in dataclasses.fields(cast("Any", operation)):
        value = getattr(operation, field.name)
        if isinstance(value, np.ndarray) and value.dtype.kind == "f":
            changed[field.name] = shorter(value)
    return dataclasses.replace(cast("Any", operation), **changed)


def _inputs_rounded(case: Case, names: tuple[str, ...], kind: str) -> Case:
    for name in names:
        case = given(case, Wire(name), partial(rounded, kind=kind))
    return case


__all__ = ["precision_faults", "rounded"]
