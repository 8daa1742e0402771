"""Where inside a recurrent layer that disagrees the error sits, for the record: by direction, and by gate of its weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from parity.findings import Findings
from parity.floor import Band
from parity.judge import REFERENCE, row_of
from parity.layouts import GATES, PEEPHOLES
from parity.network import Recurrent
from parity.recurrent import Array, Direction, Weights, merge_biases
from parity.report.record_values import Shown, shown_by

Record = dict[str, Any]

MOST_LAYERS = 8
"""So many layers are looked into, the first ones in the order of the data."""

BINS = 32
"""Units of a gate are drawn in at most so many bins, each with the largest difference in it."""


def inside_record(findings: Findings) -> list[Record]:
    """Every recurrent layer that disagrees with the reference, looked into.

    Args:
        findings: to be recorded.

    Returns:
        Per layer its name, kind and units; under "directions", where it has two, the rows of the run by direction, as
        `parity.judge.row_of` judges each half by itself; under "weights", for every other source whose weights of this layer are of
        the same sizes and not all equal, the largest difference in each gate of each tensor. Empty where nothing disagrees.
    """
    wrong = [row for row in findings.table if row.verdict == "disagree" and row.right == REFERENCE and not row.note]
    if not wrong:
        return []
    network, graphs = findings.sources[0].network, isinstance(findings.inputs, dict)
    shown = {} if graphs else shown_by(findings)
    found = []
    for number, layer in enumerate(network.recurrent):
        prefix = "" if len(network.recurrent) == 1 else f"{layer.name}."
        own = {f"{prefix}{name}" for name in ("sequence", "h_n", "c_n")} | {f"layer {layer.name}"}
        off = [row for row in wrong if row.quantity in own]
        if not off and not graphs:
            continue
        labels = dict.fromkeys(row.left for row in off)
        directions = list(_directions(labels, own, shown)) if len(layer.spec.directions) > 1 else []
        weights = [
            part for source in range(1, len(findings.sources)) for part in _weights(findings, layer, number, source)
        ]
        if directions or weights:
            spec = layer.spec
            head = {
                "layer": layer.name,
                "kind": spec.kind,
                "units": spec.hidden_size,
                "source": _label(findings, 0),
            }
            found.append({**head, "directions": directions, "weights": weights})
    return found[:MOST_LAYERS]


def _directions(labels: Mapping[str, None], own: set[str], shown: Mapping[str, Sequence[Shown]]) -> Iterator[Record]:
    """What every engine that is off computed in this layer, judged in each direction by itself."""
    for label in labels:
        for one in shown.get(label, ()):
            quantity = one.band.quantity
            if quantity.name not in own or "direction" not in quantity.axes:
                continue
            for index, direction in enumerate(quantity.directions):
                band, array = _half(one, index, direction)
                row = row_of("run", band, (label, array), (REFERENCE, band.reference))
                yield {
                    "engine": label,
                    "quantity": quantity.name.rpartition(".")[2],
                    "direction": direction,
                    "verdict": row.verdict,
                    "times_floor": row.times_floor,
                    "worst": row.worst,
                    "max_error": row.max_error,
                    "place": row.place,
                    "values": list(row.values),
                    "outside": row.outside,
                    "total": row.total,
                }


def _half(one: Shown, index: int, direction: Direction) -> tuple[Band, Array]:
    """One direction of a quantity: nothing is copied."""
    band = one.band
    axis = band.quantity.axes.index("direction")
    only = (*[slice(None)] * axis, slice(index, index + 1))
    half = Band(
        replace(band.quantity, directions=(direction,)),
        band.reference[only],
        band.floor[only],
        band.comparable[only],
        None if band.padded is None else band.padded[only],
        None if band.overflowed is None else band.overflowed[only],
    )
    return half, one.array[only]


def _weights(findings: Findings, layer: Recurrent, number: int, source: int) -> Iterator[Record]:
    """How the weights of a layer differ between the first source and another, tensor by tensor; nothing where they are equal."""
    others = findings.sources[source].network.recurrent
    if number >= len(others) or others[number].spec != layer.spec:
        return
    other = others[number]
    both = layer.spec.kind == "gru" and any(cell.reset_after for cell in (*layer.cells, *other.cells))
    for direction, mine, theirs in zip(layer.spec.directions, layer.weights, other.weights, strict=True):
        tensors, differ = [], False
        for name, letters, left, right in _tensors(layer, mine, theirs, both):
            gates = list(_gates(left, right, letters))
            tensors.append({"tensor": name, "scale": float(f"{np.abs(left).max(initial=0.0):.6g}"), "gates": gates})
            differ = differ or bool(gates)
        if differ:
            yield {"source": _label(findings, source), "direction": direction, "tensors": tensors}


def _label(findings: Findings, number: int) -> str:
    """What a source is called among the participants, where no two have the same name."""
    source = findings.sources[number]
    return next((label for label, (one, _) in findings.participants.items() if one is source), source.label)


def _tensors(
    layer: Recurrent, mine: Weights, theirs: Weights, both: bool
) -> Iterator[tuple[str, Sequence[str], Array, Array]]:
    """The tensors of one direction by name, with what their first axis counts; biases that a cell only ever adds, as their sum."""
    kind = layer.spec.kind
    yield "kernel", GATES[kind], mine.kernel, theirs.kernel
    yield "recurrent", GATES[kind], mine.recurrent, theirs.recurrent
    zeros = np.zeros(layer.spec.shape("bias_input"))
    for name in ("bias_input", "bias_recurrent") if both else ("bias",):
        left, right = (one.member(name) if both else merge_biases(one) for one in (mine, theirs))
        if left is not None or right is not None:
            yield name, GATES[kind], zeros if left is None else left, zeros if right is None else right
    left, right = mine.peepholes, theirs.peepholes
    if left is not None or right is not None:
        zeros = np.zeros(layer.spec.shape("peepholes"))
        yield "peepholes", PEEPHOLES[kind], zeros if left is None else left, zeros if right is None else right
    if mine.projection is not None and theirs.projection is not None:
        yield "projection", ("",), mine.projection.T[None], theirs.projection.T[None]


def _gates(left: Array, right: Array, gates: Sequence[str]) -> Iterator[Record]:
    """Per gate that is not equal the largest difference, its place and both values, how many numbers differ, and the largest by units."""
    for gate, mine, theirs in zip(gates, left, right, strict=True):
        apart = np.abs(mine.astype(np.float64) - theirs.astype(np.float64))
        if not apart.any():
            continue
        place = np.unravel_index(int(apart.argmax()), apart.shape)
        by_unit = apart if apart.ndim == 1 else apart.max(axis=1)
        starts = np.unique(np.linspace(0, by_unit.size, min(by_unit.size, BINS), endpoint=False, dtype=int))
        binned = np.maximum.reduceat(by_unit, starts)
        yield {
            "gate": gate,
            "difference": float(f"{apart[place]:.6g}"),
            "unit": int(place[0]),
            "column": int(place[1]) if apart.ndim > 1 else None,
            "values": [float(f"{side[place]:.9g}") for side in (mine, theirs)],
            "different": int(np.count_nonzero(apart)),
            "total": apart.size,
            "units": [float(f"{value:.2g}") for value in binned.tolist()],
        }


__all__ = ["BINS", "MOST_LAYERS", "inside_record"]
