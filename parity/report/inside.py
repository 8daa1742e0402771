"""What the page shows of the inside of a recurrent layer that disagrees: its directions, and the gates of its weights."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, pairwise
from typing import Any

import numpy as np
from markupsafe import Markup

from parity.layouts import GATE_MEANINGS, PEEPHOLES
from parity.report.map_chart import shade
from parity.report.matrix import Record
from parity.report.numbers import number, spell
from parity.report.plots import join

_SHADES = {
    "within-1": 1e-6,
    "within-3": 1e-4,
    "outside-0": 1e-2,
    "outside-1": 1e-1,
    "outside-2": 1.0,
    "outside-4": math.inf,
}
"""Shades of a difference between weights, with their upper bounds as shares of the largest weight of the tensor."""

_TENSORS = {
    "kernel": "kernel",
    "recurrent": "recurrent kernel",
    "bias": "bias",
    "bias_input": "bias of the input",
    "bias_recurrent": "bias of the recurrence",
    "peepholes": "peepholes",
    "projection": "projection",
}
_COLUMNS = {"kernel": "input", "recurrent": "state", "projection": "state"}
"""What the second axis of a tensor counts."""


def inside_view(record: Record) -> list[dict[str, Any]]:
    """The layers of the section; none where the record has none.

    Args:
        record: with "inside", unless nothing disagrees.
    """
    limit = record["judging"]["limit"]
    return [
        {
            **layer,
            "ways": list(dict.fromkeys(row["direction"] for row in layer["directions"])),
            "rows": _directions(layer["directions"], limit),
            "weights": [_weights(part, layer) for part in layer["weights"]],
        }
        for layer in record.get("inside", ())
    ]


def _directions(rows: Sequence[Record], limit: float) -> list[dict[str, Any]]:
    """One line per engine and quantity, with a cell for each direction."""
    lines = groupby(rows, key=lambda row: (row["engine"], row["quantity"]))
    return [
        {
            "engine": engine,
            "quantity": quantity,
            "cells": [
                {**row, "shade": shade(row["times_floor"], limit), "at": _at(row["worst"]), "of_max": _at(row["place"])}
                for row in own
            ],
        }
        for (engine, quantity), own in lines
    ]


def _at(place: Mapping[str, Any]) -> dict[str, Any]:
    """A place without the direction, which the column names."""
    return {axis: position for axis, position in place.items() if axis != "direction"}


def _weights(part: Record, layer: Record) -> dict[str, Any]:
    """Gates down, tensors across; None where a tensor has no such gate, and no strip where all of it is equal."""
    meanings = GATE_MEANINGS.get(layer["kind"], {})
    tensors = [{**tensor, "name": _TENSORS.get(tensor["tensor"], tensor["tensor"])} for tensor in part["tensors"]]
    whole = any(tensor["tensor"] == "projection" for tensor in tensors)
    return {
        **part,
        "tensors": tensors,
        "gates": [
            {
                "letter": letter,
                "meaning": meanings.get(letter, "no gate"),
                "cells": [_cell(tensor, letter, layer["kind"], meanings) for tensor in tensors],
            }
            for letter in (*meanings, *([""] if whole else []))
        ],
    }


def _cell(tensor: Record, letter: str, kind: Any, meanings: Mapping[str, str]) -> dict[str, Any] | None:
    """The largest difference of one gate in one tensor: its shade, its place, and all that it says in words."""
    gate = next((gate for gate in tensor["gates"] if gate["gate"] == letter), None)
    if gate is None:
        gates = {"projection": ("",), "peepholes": PEEPHOLES.get(kind, ())}.get(tensor["tensor"], tuple(meanings))
        return {"strip": ""} if letter in gates else None
    column = gate["column"]
    beside = "" if column is None else f", {_COLUMNS.get(tensor['tensor'], 'column')} {column}"
    share = _share(gate["difference"], tensor["scale"])
    tip = (
        f"{tensor['name']}{', ' if letter else ''}{meanings.get(letter, '')}: "
        f"largest difference {spell(gate['difference'])} at unit {gate['unit']}{beside}, "
        f"{spell(gate['values'][0], 7)} and {spell(gate['values'][1], 7)}; {gate['different']} of {gate['total']} differ"
    )
    return {
        **gate,
        "shade": weight_shade(share),
        "place": f"unit {gate['unit']}{beside}",
        "strip": unit_strip([number(value) for value in gate["units"]], number(tensor["scale"]), tip),
    }


def _share(difference: Any, scale: Any) -> float:
    return number(difference) / number(scale) if number(scale) else math.inf


def weight_shade(share: float) -> str:
    """The shade of a difference between weights: a class of style.css.

    Args:
        share: of the largest weight of the tensor.

    Example:
        >>> weight_shade(3e-8), weight_shade(0.05)
        ('within-1', 'outside-1')
    """
    return next((name for name, bound in _SHADES.items() if share <= bound), list(_SHADES)[-1])


def weight_legend() -> list[dict[str, str]]:
    """Every shade of a difference between weights, with its upper bound as a share of the largest weight.

    Example:
        >>> weight_legend()[2]
        {'shade': 'outside-0', 'bound': '≤ 0.01'}
    """
    return [
        {"shade": name, "bound": f"≤ {spell(bound, 1)}" if math.isfinite(bound) else "more"}
        for name, bound in _SHADES.items()
    ]


def unit_strip(values: Sequence[float], scale: float, tip: str) -> Markup:
    """The units of a gate from the first to the last, shaded by their largest difference: one path per shade.

    Args:
        values: the largest difference in each bin of units.
        scale: the largest weight of the tensor.
        tip: what it shows in words.
    """
    edges = np.linspace(0, 1000, len(values) + 1).round().astype(int).tolist()
    paths: dict[str, list[str]] = {}
    for name, left, right in _runs(values, edges, scale):
        paths.setdefault(name, []).append(f"M{left} 0h{right - left}v1h{left - right}z")
    drawn = join(Markup('<path class="cell {}" d="{}"/>').format(name, "".join(d)) for name, d in paths.items())
    frame = '<svg class="units" viewBox="0 0 1000 1" preserveAspectRatio="none" role="img"><title>{}</title>{}</svg>'
    return Markup(frame).format(tip, drawn)


def _runs(values: Sequence[float], edges: Sequence[int], scale: float) -> Iterator[tuple[str, int, int]]:
    """Neighbouring bins of one shade as one; bins without a difference are left out."""
    bins = zip((weight_shade(_share(value, scale)) if value else "" for value in values), pairwise(edges), strict=True)
    for name, run in groupby(bins, key=lambda one: one[0]):
        spans = [span for _, span in run]
        if name:
            yield name, spans[0][0], spans[-1][1]


__all__ = ["inside_view", "unit_strip", "weight_legend", "weight_shade"]
