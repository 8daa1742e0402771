"""How the errors of every engine are distributed, for the record: percentiles with the elements that have them, and a curve to draw."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from parity.findings import Findings
from parity.in_blocks import Block, blocks
from parity.report.ranking import Ranked, Ranking, at_percentiles
from parity.report.record_values import Shown, shown_by

Record = dict[str, Any]

PERCENTILES = (50.0, 90.0, 99.0, 99.9, 100.0)
CURVE = tuple(5.0 * step for step in range(21))
"""Percentiles of the drawing."""


def distribution_record(findings: Findings) -> list[Record]:
    """Percentiles of |error| / floor and of |error| per engine, over all elements of the run that are judged.

    A percentile p is the smallest error that at least p % of the elements do not exceed, and so the error of one of them. Errors are
    worked out block by block and never kept, so that a large run takes no more memory than a small one.

    Args:
        findings: to be recorded.

    Returns:
        For each engine its label, how many elements there are, how many of them are exactly right, the percentiles (each with the
        quantity, the place and both values of one element that has it), and the curve. Engines with nothing to judge are left out.
    """
    return [entry for label, shown in shown_by(findings).items() if (entry := _of_engine(label, shown)) is not None]


def _of_engine(label: str, shown: Sequence[Shown]) -> Record | None:
    parts = [(one, block) for one in shown for block in blocks(one.array.shape)]
    size = sum(one.array.size for one in shown)
    ratios, distances = Ranking((*PERCENTILES, *CURVE), size), Ranking(PERCENTILES, size)
    exact, first, open_ = 0, True, [ratios, distances]
    while open_:
        for number, (one, block) in enumerate(parts):
            error, ratio, judged = one.errors(block)
            distance = error[judged]
            exact += int((distance == 0).sum()) if first else 0
            for ranking in open_:
                ranking.take(ratio[judged] if ranking is ratios else distance, number)
        open_, first = [ranking for ranking in open_ if ranking.end_pass()], False
    if not ratios.total:
        return None
    percentiles = [
        {
            "percent": percent,
            "times_floor": float(f"{ranked.value:.6g}"),
            "error": float(f"{distance.value:.6g}"),
            **_element(*parts[ranked.block], ranked),
        }
        for percent, ranked, distance in zip(PERCENTILES, ratios.found, distances.found, strict=False)
    ]
    return {
        "engine": label,
        "total": ratios.total,
        "exact": exact,
        "percentiles": percentiles,
        "curve": [float(f"{ranked.value:.3g}") for ranked in ratios.found[len(PERCENTILES) :]],
    }


def _element(one: Shown, block: Block, ranked: Ranked) -> Record:
    """Where an element stands, and both values there."""
    _, _, judged = one.errors(block)
    inside = np.unravel_index(int(np.flatnonzero(judged)[ranked.index]), judged.shape)
    place = tuple(own.start + int(position) for own, position in zip(block, inside, strict=True))
    return {
        "quantity": one.band.quantity.name,
        "place": one.band.quantity.place(place),
        "values": [float(f"{side[place]:.9g}") for side in (one.array, one.band.reference)],
    }


__all__ = ["CURVE", "PERCENTILES", "at_percentiles", "distribution_record"]
