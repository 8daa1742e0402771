"""Runs of several engines against the reference and its floor -> rows with a verdict, a number and a place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from parity.failed import noted
from parity.floor import Band, Floor, OneStep, in_floors, measure, one_step, quantities
from parity.frameworks import Runner, call
from parity.in_blocks import Block, blocks, part
from parity.network.graph import Network
from parity.recurrent import Array
from parity.result import Result, State

Verdict = Literal["agree", "disagree", "undecided"]
Rule = Literal["run", "one step", "layer"]

LIMIT = 2.0
"""An engine agrees while its error stays within this many floors of the reference; two engines, within twice as many."""

REFERENCE = "reference"


@dataclass(frozen=True)
class Row:
    """One quantity of one pair, judged by one rule.

    Args:
        rule: "run" (the whole run against the floor), "one step" (every step by itself) or "layer" (every layer of a whole model on the
            inputs that it got).
        quantity: what was compared.
        left, right: the two sides, by label; right is often "reference".
        verdict: of this row.
        max_error: the largest absolute difference, NaN if a side is not finite there.
        place: where that is, by named axes.
        values: both sides there.
        times_floor: the largest difference in floors, wherever that is, before the horizon.
        limit: how many floors are allowed.
        worst: where times_floor is largest, by named axes.
        outside: how many elements exceed the limit, of `total` comparable ones.
        first_step: the first time step outside, where the quantity has a time axis.
        note: why no number could be computed, such as shapes that differ.
        padding_error: the largest absolute difference at steps that a mask leaves out. What stands there is a convention of each
            framework, so nothing above counts those steps.
        padding_outside: how many elements differ there by more than the limit.
    """

    rule: Rule
    quantity: str
    left: str
    right: str
    verdict: Verdict
    max_error: float
    place: dict[str, int | str]
    values: tuple[float, float]
    times_floor: float
    limit: float
    worst: dict[str, int | str]
    outside: int
    total: int
    first_step: int | None
    note: str = ""
    padding_error: float = 0.0
    padding_outside: int = 0


@dataclass(frozen=True, eq=False)
class Judgement:
    """Every row of one comparison, and what they rest on."""

    rows: tuple[Row, ...]
    floor: Floor
    steps: OneStep | None
    results: dict[str, Result]
    step_results: dict[str, Result] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    """What each engine that could not be judged to the end said last, by label."""
    sequences: dict[str, tuple[tuple[Band, Array], ...]] = field(default_factory=dict)
    """Of a whole model none of whose outputs has steps: what the recurrent layers of each engine gave where they were judged, by label."""

    @property
    def informative(self) -> bool:
        """Whether the reference computes anything but zeros, which a wrong model might as well."""
        floors = (self.floor,) if self.steps is None else (self.floor, self.steps.floor)
        return any(band.reference.any() for floor in floors for band in floor.bands.values())

    @property
    def verdict(self) -> Verdict:
        """What the rows say, but never agree where an engine failed: then undecided, unless the others disagree."""
        return "undecided" if self.failures and self.rows_verdict == "agree" else self.rows_verdict

    @property
    def rows_verdict(self) -> Verdict:
        """disagree if any row does, else undecided if any row is or if nothing but zeros or padding was computed, else agree."""
        if not any(row.rule == "run" for row in self.rows):
            return "undecided"
        if not self.informative and not any(row.verdict == "disagree" for row in self.rows):
            return "undecided"
        verdicts = {row.verdict for row in self.rows}
        return "disagree" if "disagree" in verdicts else "undecided" if "undecided" in verdicts else "agree"


def judge(
    network: Network,
    runners: Mapping[str, Runner],
    inputs: Array,
    states: Mapping[str, State],
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
    replicas: int | None = None,
    mask: Array | None = None,
) -> Judgement:
    """Run everything on the same inputs and judge it by both rules.

    An engine that fails does not keep the others from being judged: what a runner raises as a ParityError, or a framework in this
    process as an error of its own, stands in the judgement's `failures`. Any other exception is a mistake in parity, and is raised.

    Args:
        network: the description the reference computes.
        runners: what is judged, by label.
        inputs: (batch, time, features) or (batch, time) integers.
        states: the initial state of every recurrent layer.
        seed: of the rounding signs and of the choice of steps.
        progress: called with a line for every step of the work.
        replicas: how many runs the floor is measured with; see `parity.floor.measure`.
        mask: (batch, time) of bool, True where a step is valid; None where all are.
    """
    floor = measure(network, inputs, states, replicas, seed, mask)
    steps = one_step(network, inputs, floor, seed, replicas)
    results, step_results = {}, {}
    failures: dict[str, str] = {}
    for label, runner in runners.items():
        if progress:
            progress(f"{label}: run")
        with noted(failures, label, runner.engine):
            results[label] = call(runner, inputs, states, mask)
            step_results[label] = runner(steps.inputs, steps.states)
    single = [_in_the_run(row, steps) for row in _rows("one step", network, steps.floor, step_results)]
    rows = [*_rows("run", network, floor, results), *single]
    return Judgement(tuple(rows), floor, steps, results, step_results, failures)


def _in_the_run(row: Row, steps: OneStep) -> Row:
    """Places of single steps, as sample and step of the run they were taken from."""

    def moved(place: dict[str, int | str]) -> dict[str, int | str]:
        if "batch" not in place:
            return place
        batch, time = steps.samples[int(place["batch"])]
        return {**place, "batch": int(batch), "time": int(time)}

    return replace(row, place=moved(row.place), worst=moved(row.worst), first_step=None)


def _rows(rule: Rule, network: Network, floor: Floor, results: Mapping[str, Result]) -> list[Row]:
    found = {
        label: {quantity.name: array for quantity, array in quantities(network, result)}
        for label, result in results.items()
    }
    rows = []
    for name, band in floor.bands.items():
        shown = {label: arrays[name] for label, arrays in found.items() if name in arrays}
        if band.padded is not None and band.padded.all():
            continue
        rows += [row_of(rule, band, (label, array), (REFERENCE, band.reference)) for label, array in shown.items()]
        if rule == "run":
            rows += [row_of(rule, band, left, right) for left, right in combinations(shown.items(), 2)]
    return rows


def row_of(rule: Rule, band: Band, left: tuple[str, Array], right: tuple[str, Array]) -> Row:
    """Two sides of one quantity, judged.

    Args:
        rule: by which they were run.
        band: the quantity's reference and floor.
        left, right: label and array of each side; right is often the reference.
    """
    limit = LIMIT if right[0] == REFERENCE else 2 * LIMIT
    if left[1].shape != right[1].shape:
        note = f"shape {left[1].shape} against {right[1].shape}"
        nan, total = float("nan"), int(band.reference.size)
        return Row(
            rule,
            band.quantity.name,
            left[0],
            right[0],
            "disagree",
            nan,
            {},
            (nan, nan),
            np.inf,
            limit,
            {},
            total,
            total,
            None,
            note,
        )
    seen = _Seen(band, left[1], right[1], limit)
    for block in blocks(left[1].shape):
        seen.look(block)
    place, worst = seen.place, seen.worst
    with np.errstate(invalid="ignore"):
        largest = abs(np.float64(left[1][place]) - np.float64(right[1][place]))
    verdict: Verdict = "disagree" if seen.outside else "agree" if seen.all_comparable else "undecided"
    return Row(
        rule,
        band.quantity.name,
        left[0],
        right[0],
        verdict,
        float(largest),
        band.quantity.place(place),
        (float(left[1][place]), float(right[1][place])),
        seen.times_floor,
        limit,
        band.quantity.place(worst),
        seen.outside,
        seen.comparable,
        seen.first_step,
        padding_error=seen.padding_error,
        padding_outside=seen.padding_outside,
    )


class _Seen:
    """What two sides of a quantity differ in, found block by block: none of it ever stands in memory as a whole."""

    def __init__(self, band: Band, left: Array, right: Array, limit: float) -> None:
        self._band, self._left, self._right, self._limit = band, left, right, limit
        self._time = band.quantity.axes.index("time") if "time" in band.quantity.axes else None
        self._largest, self.times_floor = -np.inf, -np.inf
        self.place = self.worst = (0,) * left.ndim
        self.outside = self.comparable = self.padding_outside = 0
        self.all_comparable = True
        self.first_step: int | None = None
        self.padding_error = 0.0

    def look(self, block: Block) -> None:
        """One more block, in the order of the elements."""
        band = self._band
        with np.errstate(invalid="ignore"):
            error = np.abs(self._left[block].astype(np.float64) - self._right[block].astype(np.float64))
        padded, overflowed = (
            np.broadcast_to(False if flags is None else part(flags, block), error.shape)
            for flags in (band.padded, band.overflowed)
        )
        finite = np.isfinite(error)
        ratio = in_floors(error, part(band.floor, block))
        comparable = np.broadcast_to(part(band.comparable, block), error.shape) & ~padded
        judged = np.where((comparable | (~finite & ~overflowed)) & ~padded, ratio, 0.0)
        outside = ~(judged <= self._limit)
        self._largest, self.place = self._larger(
            np.where(padded, -1.0, np.where(finite, error, np.inf)), block, self._largest, self.place
        )
        self.times_floor, self.worst = self._larger(judged, block, self.times_floor, self.worst)
        self.outside += int(outside.sum())
        self.comparable += int(comparable.sum())
        self.all_comparable = self.all_comparable and bool((comparable | padded).all())
        if outside.any() and self._time is not None:
            steps = outside.any(axis=tuple(axis for axis in range(outside.ndim) if axis != self._time))
            step = block[self._time].start + int(steps.argmax())
            self.first_step = step if self.first_step is None else min(step, self.first_step)
        if band.padded is not None:
            self.padding_error = float(np.maximum(self.padding_error, np.where(padded, error, 0.0).max()))
            self.padding_outside += int((padded & ~(ratio <= self._limit)).sum())

    @staticmethod
    def _larger(
        values: NDArray[np.float64], block: Block, largest: float, place: tuple[int, ...]
    ) -> tuple[float, tuple[int, ...]]:
        """The largest value so far and where it stands; the first of several."""
        inside = np.unravel_index(int(values.argmax()), values.shape)
        if not values[inside] > largest:
            return largest, place
        return float(values[inside]), tuple(own.start + int(at) for own, at in zip(block, inside, strict=True))
