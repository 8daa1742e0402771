"""Where in time and batch the error sits, for the record: as many cells as a drawing has, however large the run is.

Every cell holds the largest error in it, never a mean, so one wrong element among many millions is still seen; the largest of all
stand beside the map with their places and both values. Errors are worked out block by block and never stand in memory as a whole.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.findings import Findings
from parity.floor import Band
from parity.in_blocks import Block, blocks
from parity.judge import REFERENCE, Row
from parity.reference import Float64
from parity.report.record_values import Shown, behind_steps, padded_steps, shown_by, steps_second, with_steps_second

Record = dict[str, Any]

BINS, MAP_ROWS, MAP_COLUMNS = 240, 24, 96
PEAKS = 5
"""So many cells of the map stand beside it with place and values."""


@dataclass(frozen=True, eq=False)
class Pooled:
    """The largest errors of what one engine gave.

    Args:
        error: absolute, of each bin of steps; NaN where all of it is padding.
        ratio: in floors, likewise; NaN where nothing is judged.
        cells: in floors, (rows, columns) of the map; NaN where nothing is judged.
    """

    error: Float64
    ratio: Float64
    cells: Float64


def over_time(findings: Findings) -> tuple[Record | None, Record | None]:
    """The profile and the map of one quantity; None for either where there is nothing to show.

    Of a chain of layers that is the last recurrent layer's sequence. Of a whole model it is an output with steps of time, the one that
    is furthest off where any disagrees, else the first; where no output has steps, it is what a recurrent layer gave that was judged on
    its own inputs: the first one that disagrees, else the last.

    In the profile every bin of steps holds the largest value in it; "comparable" is the share of it that lies before the horizon,
    "padded" the share that a mask leaves out, "times_floor" the largest error in floors there, which is what the verdict rests on.
    Padded steps are not drawn. The map has the error in floors in batch x time, of the participant that is furthest off; a cell
    holds None where nothing in it is comparable, and "padding" where a mask leaves all of it out. Its "peaks" are the largest of its
    cells that are not neighbours, with the element that is furthest off in each.

    Args:
        findings: to be recorded.
    """
    bands, found = _of_outputs(findings) if isinstance(findings.inputs, dict) else _of_sequence(findings)
    if not bands:
        return None, None
    laid = [_steps_second(band) for band in bands]
    shown = {label: _shown_steps_second(one) for label, one in found.items()}
    batch, time = laid[0].reference.shape[:2]
    bins, rows, columns = (_starts(n, most) for n, most in ((time, BINS), (batch, MAP_ROWS), (time, MAP_COLUMNS)))
    pooled = {label: _pooled(one, bins, rows, columns) for label, one in shown.items()}
    where = _map(laid[0], shown, rows, columns, pooled) if "batch" in bands[0].quantity.axes else None
    return _profile(laid, bins, pooled), where


def _of_sequence(findings: Findings) -> tuple[list[Band], dict[str, Shown]]:
    """Of a chain of layers: the band of the last recurrent layer's sequence, and what the engines that show it gave."""
    bands = [band for band in findings.judgement.floor.bands.values() if {"time", "direction"} <= {*band.quantity.axes}]
    return bands[-1:], _shown_in(findings, bands[-1]) if bands else {}


def _shown_in(findings: Findings, band: Band) -> dict[str, Shown]:
    return {label: one for label, found in shown_by(findings).items() for one in found if one.band is band}


def _of_outputs(findings: Findings) -> tuple[list[Band], dict[str, Shown]]:
    """Of a whole model: the band of one output with what the engines gave; of a recurrent layer each engine has a band of its own."""
    bands = [
        band for band in findings.judgement.floor.bands.values() if "time" in band.quantity.axes and band.reference.size
    ]
    if not bands:
        return _of_layer(findings)
    off = {
        band: max((row.times_floor for row in _rows(findings, band) if row.verdict == "disagree"), default=0.0)
        for band in bands
    }
    band = max(bands, key=lambda one: off[one])
    return [band], _shown_in(findings, band)


def _of_layer(findings: Findings) -> tuple[list[Band], dict[str, Shown]]:
    """Of a whole model whose outputs have no steps: the recurrent layer to be shown."""
    kept = findings.judgement.sequences
    names = list(dict.fromkeys(band.quantity.name for found in kept.values() for band, _ in found))
    if not names:
        return [], {}
    wrong = {row.quantity for row in findings.table if row.rule == "layer" and row.verdict == "disagree"}
    name = next((name for name in names if name in wrong), names[-1])
    shown = {
        label: Shown(band, array)
        for label, found in kept.items()
        for band, array in found
        if band.quantity.name == name and array.shape == band.reference.shape and array.size
    }
    first = next(iter(shown.values()), None)
    alike = {} if first is None else {k: one for k, one in shown.items() if one.array.shape == first.array.shape}
    return [one.band for one in alike.values()], alike


def _rows(findings: Findings, band: Band) -> Iterator[Row]:
    """The rows of the run that judge a quantity against the reference."""
    for row in findings.table:
        if (row.rule, row.quantity, row.right) == ("run", band.quantity.name, REFERENCE):
            yield row


def _steps_second(band: Band) -> Band:
    """A band with samples and steps as its first two axes; without a batch there is one sample. Nothing is copied."""
    axes = band.quantity.axes
    padded, overflowed = (
        None if flags is None else with_steps_second(flags, axes) for flags in (band.padded, band.overflowed)
    )
    return Band(
        replace(band.quantity, axes=steps_second(axes)),
        with_steps_second(band.reference, axes),
        with_steps_second(band.floor, axes),
        with_steps_second(band.comparable, axes),
        padded,
        overflowed,
    )


def _shown_steps_second(one: Shown) -> Shown:
    return Shown(_steps_second(one.band), with_steps_second(one.array, one.band.quantity.axes))


def _starts(length: int, most: int) -> NDArray[np.intp]:
    """The first position of each of at most so many bins."""
    return np.unique(np.linspace(0, length, min(length, most), endpoint=False, dtype=int))


def _pooled(one: Shown, bins: NDArray[np.intp], rows: NDArray[np.intp], columns: NDArray[np.intp]) -> Pooled:
    batch, time = one.array.shape[:2]
    bin_of, row_of, column_of = (
        np.searchsorted(starts, np.arange(length), side="right") - 1
        for starts, length in ((bins, time), (rows, batch), (columns, time))
    )
    found = Pooled(*(np.full(shape, np.nan) for shape in (bins.shape, bins.shape, (rows.size, columns.size))))
    for (samples, steps, *_), error, ratio in _judged(one):
        np.fmax.at(found.error, bin_of[steps], np.fmax.reduce(error, axis=0))
        np.fmax.at(found.ratio, bin_of[steps], np.fmax.reduce(ratio, axis=0))
        np.fmax.at(found.cells, (row_of[samples][:, None], column_of[steps][None]), ratio)
    return found


def _judged(one: Shown) -> Iterator[tuple[Block, Float64, Float64]]:
    """Of each block the largest absolute error and the largest in floors, (samples, steps); NaN where there is none to be shown."""
    for block in blocks(one.array.shape):
        error, ratio, judged = one.errors(block)
        padded = _padded(one.band)[block[:2]]
        yield (
            block,
            np.where(padded, np.nan, error.max(axis=behind_steps(error))),
            np.fmax.reduce(np.where(judged, ratio, np.nan), axis=behind_steps(ratio)),
        )


def _padded(band: Band) -> NDArray[np.bool_]:
    """Which steps of a sequence are padding, (batch, time)."""
    steps = band.reference.shape[:2]
    return np.zeros(steps, bool) if band.padded is None else padded_steps(band.padded, steps)


def _profile(bands: Sequence[Band], bins: NDArray[np.intp], pooled: Mapping[str, Pooled]) -> Record:
    """Of the bands of one quantity: the largest floor of them, and what is comparable in all."""
    batch, time = bands[0].reference.shape[:2]
    padded, widths = _padded(bands[0]), np.diff(bins, append=time)
    floors, shares = [], []
    for band in bands:
        largest = np.broadcast_to(band.floor.max(axis=behind_steps(band.floor)), (batch, time))
        floors.append(np.where(padded, 0.0, largest).max(axis=0))
        share = band.comparable.mean(axis=behind_steps(band.comparable))
        shares.append(np.broadcast_to(share, (batch, time)).mean(axis=0))
    floor, comparable = np.maximum.reduce(floors), np.minimum.reduce(shares)
    return {
        "quantity": bands[0].quantity.name,
        "time": time,
        "steps": bins.tolist(),
        "floor": short(np.maximum.reduceat(floor, bins)),
        "comparable": short(np.add.reduceat(comparable, bins) / widths),
        "padded": short(np.add.reduceat(padded.mean(axis=0), bins) / widths),
        "engines": {label: short(one.error) for label, one in pooled.items()},
        "times_floor": {label: short(one.ratio) for label, one in pooled.items()},
    }


def _map(
    band: Band,
    shown: Mapping[str, Shown],
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
    pooled: Mapping[str, Pooled],
) -> Record | None:
    if not pooled:
        return None
    label = max(pooled, key=lambda name: float(np.fmax.reduce(pooled[name].cells, axis=None, initial=-1.0)))
    batch, time = band.reference.shape[:2]
    left_out = np.logical_and.reduceat(np.logical_and.reduceat(_padded(band), rows, axis=0), columns, axis=1)
    cells = zip(map(short, pooled[label].cells), left_out.tolist(), strict=True)
    return {
        "engine": label,
        "quantity": band.quantity.name,
        "rows": rows.tolist(),
        "steps": columns.tolist(),
        "batch": batch,
        "time": time,
        "times_floor": [["padding" if out else value for value, out in zip(*row, strict=True)] for row in cells],
        "peaks": [_peak(shown[label], cell, rows, columns) for cell in _summits(pooled[label].cells)],
    }


def _summits(cells: Float64) -> Iterator[tuple[int, int]]:
    """The largest cells, none beside another; of a map of zeros none.

    Example:
        >>> list(_summits(np.array([[1.0, 3.0, 2.0, np.nan, 5.0, 0.0]])))
        [(0, 4), (0, 1)]
    """
    taken: list[tuple[int, int]] = []
    flat = np.where(np.isnan(cells), 0.0, cells).ravel()
    for at in np.argsort(-flat, kind="stable"):
        row, column = divmod(int(at), cells.shape[1])
        if flat[at] <= 0 or len(taken) == PEAKS:
            return
        if all(abs(row - other) > 1 or abs(column - beside) > 1 for other, beside in taken):
            taken.append((row, column))
            yield row, column


def _peak(one: Shown, cell: tuple[int, int], rows: NDArray[np.intp], columns: NDArray[np.intp]) -> Record:
    """The element of a cell that is furthest off in floors: the first of them, with its error and both values."""
    corners = [
        (int(starts[at]), int(starts[at + 1]) if at + 1 < starts.size else length)
        for starts, at, length in zip((rows, columns), cell, one.array.shape[:2], strict=True)
    ]
    best, place = -1.0, (0,) * one.array.ndim
    for inner in blocks([stop - start for start, stop in corners] + list(one.array.shape[2:])):
        shifts = [start for start, _ in corners] + [0] * (one.array.ndim - 2)
        block = tuple(slice(own.start + shift, own.stop + shift) for own, shift in zip(inner, shifts, strict=True))
        _, ratio, judged = one.errors(block)
        judged_ratio = np.where(judged, ratio, -1.0)
        at = int(judged_ratio.argmax())
        if judged_ratio.flat[at] > best:
            inside = np.unravel_index(at, ratio.shape)
            best, place = float(judged_ratio.flat[at]), _moved(inside, block)
    mine, theirs = float(one.array[place]), float(one.band.reference[place])
    return {
        "times_floor": float(f"{best:.6g}"),
        "error": float(f"{abs(mine - theirs):.6g}"),
        "place": one.band.quantity.place(place),
        "values": [float(f"{value:.9g}") for value in (mine, theirs)],
    }


def _moved(inside: Sequence[Any], block: Block) -> tuple[int, ...]:
    """An index inside a block as one of the whole array."""
    return tuple(own.start + int(position) for own, position in zip(block, inside, strict=True))


def short(values: Float64) -> list[float | None]:
    """Four digits, as a drawing needs; None for NaN."""
    return [None if math.isnan(value) else float(f"{value:.4g}") for value in values.tolist()]


__all__ = ["BINS", "MAP_COLUMNS", "MAP_ROWS", "PEAKS", "over_time", "short"]
