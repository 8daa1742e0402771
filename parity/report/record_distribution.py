"""How the errors of every engine are distributed, for the record: percentiles with the elements that have them, and a curve to draw."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.findings import Findings
from parity.reference import Float64
from parity.report.record_values import Shown, shown_by

Record = dict[str, Any]

PERCENTILES = (50.0, 90.0, 99.0, 99.9, 100.0)
CURVE = tuple(5.0 * step for step in range(21))
"""Percentiles of the drawing."""

_MANY = 20_000_000
"""Elements from which on single precision has to do: an order, not a result, is computed of them."""


def distribution_record(findings: Findings) -> list[Record]:
    """Percentiles of |error| / floor and of |error| per engine, over all elements of the run that are judged.

    A percentile p is the smallest error that at least p % of the elements do not exceed, and so the error of one of them.

    Args:
        findings: to be recorded.

    Returns:
        For each engine its label, how many elements there are, how many of them are exactly right, the percentiles (each with the
        quantity, the place and both values of one element that has it), and the curve. Engines with nothing to judge are left out.
    """
    return [entry for label, shown in shown_by(findings).items() if (entry := _of_engine(label, shown)) is not None]


def _of_engine(label: str, shown: Sequence[Shown]) -> Record | None:
    size = sum(one.array.size for one in shown)
    kind = np.float64 if size < _MANY else np.float32
    ratios: list[NDArray[Any]] = []
    errors: list[NDArray[Any]] = []
    places: list[tuple[Shown, NDArray[Any] | None]] = []
    for one in shown:
        error, ratio, judged = one.errors()
        if judged.any():
            ratios.append(ratio[judged].astype(kind))
            errors.append(error[judged].astype(kind))
            places.append((one, None if judged.all() else np.flatnonzero(judged)))
    if not ratios:
        return None
    pool, absolute = np.concatenate(ratios), np.concatenate(errors)
    picked = at_percentiles(pool, (*PERCENTILES, *CURVE))
    distances = at_percentiles(absolute, PERCENTILES)
    percentiles = []
    for percent, value, distance in zip(PERCENTILES, picked, distances, strict=False):
        which, index = _located(ratios, value)
        one, flat = places[which]
        position = np.unravel_index(index if flat is None else int(flat[index]), one.array.shape)
        percentiles.append(
            {
                "percent": percent,
                "times_floor": float(f"{value:.6g}"),
                "error": float(f"{distance:.6g}"),
                "quantity": one.band.quantity.name,
                "place": one.band.quantity.place(position),
                "values": [float(f"{side[position]:.9g}") for side in (one.array, one.band.reference)],
            }
        )
    return {
        "engine": label,
        "total": int(pool.size),
        "exact": int((absolute == 0).sum()),
        "percentiles": percentiles,
        "curve": [float(f"{value:.3g}") for value in picked[len(PERCENTILES) :]],
    }


def at_percentiles(values: Float64, percents: Sequence[float]) -> list[float]:
    """Percentiles that are values themselves: the smallest that at least p % of the values do not exceed.

    Args:
        values: at least one; infinities stand last.
        percents: from 0 to 100; 0 gives the smallest value.

    Example:
        >>> at_percentiles(np.array([4.0, 1.0, 3.0, 2.0]), (0, 50, 51, 100))
        [1.0, 2.0, 3.0, 4.0]
    """
    # Percentiles such as 99.9 are no binary numbers: a rank that is whole but for their rounding is that rank.
    ranks = [max(0, int(np.ceil(round(percent / 100 * values.size, 6))) - 1) for percent in percents]
    ordered = np.partition(values, sorted(set(ranks)))
    return [float(ordered[rank]) for rank in ranks]


def _located(parts: Sequence[NDArray[Any]], value: float) -> tuple[int, int]:
    """The first part that holds a value, and its first place there."""
    for which, part in enumerate(parts):
        found = part == value
        if found.any():
            return which, int(found.argmax())
    raise LookupError(value)


__all__ = ["CURVE", "PERCENTILES", "at_percentiles", "distribution_record"]
