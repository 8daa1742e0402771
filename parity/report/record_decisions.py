"""Whether every engine decides as the reference does, for the record: the class with the largest share, or the side of a threshold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.errors import ParityError
from parity.findings import Findings
from parity.floor import Band
from parity.graph.graph import Graph, Wire
from parity.graph.operations import Activation, ExpandDims, Reshape, Softmax, Squeeze
from parity.network import Dense, Dropout
from parity.recurrent import Array
from parity.reference import Float64
from parity.report.record_values import Shown, shown_by

Record = dict[str, Any]

MOST = 5
"""Places that are told at which an engine decides otherwise."""

HALF = 0.5


def decisions_record(findings: Findings) -> list[Record]:
    """For every output that looks like a decision, how often each engine decides as the reference does.

    An output of a softmax, or of a dense layer of two units or more without an activation, decides for its largest unit; one of a
    sigmoid for the side of 0.5.

    Args:
        findings: to be recorded.

    Returns:
        For each such output its name, what decides ("softmax", "largest" or "sigmoid"), how many units there are, and per engine at how
        many places and samples the decision is the same, with the first few where it is not.
    """
    shown = shown_by(findings)
    return [
        {
            "output": name,
            "by": by,
            "units": int(band.reference.shape[-1]) if band.reference.ndim > 1 else 1,
            "engines": [
                {"engine": label, **_compared(one, by)}
                for label, values in shown.items()
                for one in values
                if one.band is band
            ],
        }
        for name, by, band in _decisive(findings)
    ]


def _decisive(findings: Findings) -> Iterator[tuple[str, str, Band]]:
    """Outputs that decide: name, what decides, and the reference."""
    bands = {
        name.removeprefix("output "): band
        for name, band in findings.judgement.floor.bands.items()
        if name.startswith("output ")
    }
    if not bands:
        return
    try:
        graph = findings.sources[0].graph
    except ParityError:  # layers that nobody knows: so is what they end in
        return
    # A chain and the graph made of it may name their outputs differently; their order is one.
    for (name, band), wire in zip(bands.items(), graph.outputs.values(), strict=False):
        by = decided_by(graph, wire, band.reference.ndim)
        classes = band.reference.ndim > 1 and band.reference.shape[-1] > 1
        if band.reference.size and (by == "sigmoid" or (by and classes)):
            yield name, by, band


def decided_by(graph: Graph, wire: Wire, rank: int) -> str:
    """What makes a value a decision: "softmax", "largest" (a dense layer without activation), "sigmoid", or "" for none.

    Args:
        graph: of the model.
        wire: one of its outputs.
        rank: how many axes the output has.

    Example:
        >>> from parity.graph import Builder
        >>> build = Builder("model")
        >>> graph = build.graph({"y": build.softmax(build.input("x", ("batch", 3)))})
        >>> decided_by(graph, graph.outputs["y"], 2)
        'softmax'
    """
    nodes = {node.name: node for node in graph.nodes}
    reshaped = False
    while (node := nodes.get(wire.node)) is not None:
        operation = node.operation
        if isinstance(operation, (Dropout, Squeeze, ExpandDims, Reshape)) and node.inputs[0] is not None:
            reshaped = reshaped or not isinstance(operation, Dropout)
            wire = node.inputs[0]
            continue
        by = _by(operation, rank)
        return "" if reshaped and by != "sigmoid" else by
    return ""


def _by(operation: object, rank: int) -> str:
    if isinstance(operation, Softmax):
        return "softmax" if operation.axis in (-1, rank - 1) else ""
    if isinstance(operation, Activation):
        return "sigmoid" if operation.function.name == "sigmoid" else ""
    if isinstance(operation, Dense):
        return {"softmax": "softmax", "log_softmax": "softmax", "sigmoid": "sigmoid", "linear": "largest"}.get(
            operation.activation, ""
        )
    return ""


def _compared(one: Shown, by: str) -> Record:
    """One engine's decisions beside the reference's, padding left out."""
    band, found = one.band, one.array.astype(np.float64)
    if by == "sigmoid":
        mine, theirs = found > HALF, band.reference > HALF
        valid, axes = ~_padded(band, found.shape), band.quantity.axes
        broken = ~np.isfinite(found)
    else:
        mine, theirs = found.argmax(axis=-1), band.reference.argmax(axis=-1)
        valid, axes = ~_padded(band, found.shape)[..., 0], band.quantity.axes[:-1]
        broken = np.asarray(~np.isfinite(found).all(axis=-1))
    other = ((mine != theirs) | broken) & valid
    places = np.argwhere(other)[:MOST]
    return {
        "same": int(valid.sum() - other.sum()),
        "total": int(valid.sum()),
        "samples": _samples(other, valid, axes),
        "differing": [_told(one, by, tuple(map(int, place)), axes, bool(broken[tuple(place)])) for place in places],
    }


def _padded(band: Band, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    return np.broadcast_to(False if band.padded is None else band.padded, shape)


def _samples(other: NDArray[np.bool_], valid: NDArray[np.bool_], axes: Sequence[str]) -> list[int] | None:
    """Samples in which every decision is the same, and all samples; None where each has one decision."""
    if "batch" not in axes or other.ndim < 2:
        return None
    rest = tuple(axis for axis, name in enumerate(axes) if name != "batch")
    asked = valid.any(axis=rest)
    if asked.size == other.size:
        return None
    return [int((asked & ~other.any(axis=rest)).sum()), int(asked.sum())]


def _told(one: Shown, by: str, place: tuple[int, ...], axes: Sequence[str], broken: bool) -> Record:
    """One place at which an engine decides otherwise: both decisions, both values, and how near the reference was to deciding so."""
    band = one.band
    named: Record = dict(zip(axes, place, strict=True))
    if by == "sigmoid":
        values = [float(one.array[place]), float(band.reference[place])]
        margin = abs(values[1] - HALF)
        sides: list[int | None] = [None if broken else int(values[0] > HALF), int(values[1] > HALF)]
    else:
        row: Float64 = band.reference[place]
        engine: Array = one.array[place]
        mine, theirs = int(engine.argmax()), int(row.argmax())
        values = [float(engine[mine]), float(row[theirs])]
        margin, sides = float(row[theirs] - row[mine]), [None if broken else mine, theirs]
    floor = float(np.broadcast_to(band.floor, band.reference.shape)[place if by == "sigmoid" else (*place, 0)])
    return {
        "place": named,
        "decided": sides,
        "values": values,
        "margin": margin,
        "floors": margin / floor if floor else np.inf,
    }


__all__ = ["HALF", "MOST", "decided_by", "decisions_record"]
