"""A large run stays small: one wrong element among many is still seen, and the page is bounded and quick."""

from __future__ import annotations

import itertools
import json
import math
import shutil
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from benching.pages import SPIKE, first_paints, large_comparison

from parity import in_blocks
from parity.comparison import Comparison, compare
from parity.frameworks import Settings
from parity.in_blocks import blocks, part
from parity.judge import REFERENCE, row_of
from parity.report import Record, make_record, ranking, render_record, to_json
from parity.report.ranking import Ranking, at_percentiles
from parity.report.record_distribution import distribution_record
from parity.report.record_over_time import BINS, MAP_COLUMNS, MAP_ROWS, PEAKS, over_time
from parity.running import runner
from parity.sources import Opened
from tests.browsing import NAMES

BATCH, TIME, UNITS = 40, 3000, 32
PLACE: dict[str, Any]
PLACE, BY = {"batch": 13, "time": 1234, "direction": "forward", "hidden": 9}, 0.0125
MOST_BYTES, MOST_SECONDS = 500_000, 1.0


class Spiked:
    """An engine that is right but for one element of its sequence."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.engine = inner, inner.engine

    def __call__(self, inputs: Any, *more: Any, **options: Any) -> Any:
        """Run it, and change one element of a whole run."""
        result = self.inner(inputs, *more, **options)
        if inputs.shape[1] == TIME:
            (run,) = result.layers.values()
            run.sequence[PLACE["batch"], PLACE["time"], 0, PLACE["hidden"]] += BY
        return result


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    def spiked(source: Opened, engine: str, settings: Settings) -> Any:
        return Spiked(runner(source, engine, settings))

    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("parity.comparison.runner", spiked)
        made = compare(torch.nn.RNN(5, UNITS), engines=["torch"], batch=BATCH, time=TIME)
    vars(made)["diagnosis"] = None  # of a spike that no layer explains
    return made


@pytest.fixture(scope="module")
def record(comparison: Comparison) -> Record:
    return make_record(comparison)


def test_one_wrong_element_is_told_with_its_place_and_both_values(comparison: Comparison, record: Record) -> None:
    place = PLACE["batch"], PLACE["time"], PLACE["hidden"]
    mine, theirs = (comparison.results[label].sequence[place] for label in ("torch", REFERENCE))
    (row,) = (row for row in record["rows"] if row["verdict"] == "disagree")
    assert (row["place"], row["worst"], row["outside"], row["first_step"]) == (PLACE, PLACE, 1, PLACE["time"])
    (peak,) = (peak for peak in record["map"]["peaks"] if peak["times_floor"] > 2)
    assert peak == record["map"]["peaks"][0]
    assert peak["place"] == PLACE
    np.testing.assert_allclose(peak["values"], [mine, theirs], rtol=1e-8)
    assert math.isclose(peak["error"], abs(float(mine) - theirs), rel_tol=1e-5)
    assert math.isclose(peak["times_floor"], row["times_floor"], rel_tol=1e-5)
    last = record["distribution"][0]["percentiles"][-1]
    assert (last["place"], last["values"]) == (PLACE, peak["values"])


def test_cells_and_bins_hold_the_largest_and_not_a_mean(record: Record) -> None:
    drawn, profile = record["map"], record["profile"]
    assert (len(drawn["rows"]), len(drawn["steps"]), len(profile["steps"])) == (MAP_ROWS, MAP_COLUMNS, BINS)
    above = [
        (row, column)
        for row, line in enumerate(drawn["times_floor"])
        for column, value in enumerate(line)
        if value > record["judging"]["limit"]
    ]
    ((row, column),) = above
    assert drawn["rows"][row] <= PLACE["batch"] < [*drawn["rows"], BATCH][row + 1]
    assert drawn["steps"][column] <= PLACE["time"] < [*drawn["steps"], TIME][column + 1]
    assert math.isclose(drawn["times_floor"][row][column], drawn["peaks"][0]["times_floor"], rel_tol=1e-3)
    at = int(np.searchsorted(profile["steps"], PLACE["time"], side="right")) - 1
    assert profile["engines"]["torch"][at] == max(profile["engines"]["torch"])
    assert math.isclose(profile["engines"]["torch"][at], drawn["peaks"][0]["error"], rel_tol=1e-3)


def test_peaks_are_the_largest_of_all_cells_and_no_neighbours(record: Record) -> None:
    drawn = record["map"]
    cells = [
        tuple(
            int(np.searchsorted(drawn[starts], peak["place"][axis], side="right")) - 1
            for starts, axis in (("rows", "batch"), ("steps", "time"))
        )
        for peak in drawn["peaks"]
    ]
    assert len(cells) == PEAKS
    assert all(abs(a - c) > 1 or abs(b - d) > 1 for (a, b), (c, d) in itertools.combinations(cells, 2))
    known = [drawn["times_floor"][row][column] for row, column in cells]
    assert known == sorted(known, reverse=True)
    np.testing.assert_allclose(known, [peak["times_floor"] for peak in drawn["peaks"]], rtol=1e-3)


@pytest.mark.parametrize(("block", "few"), [(5_000, 1 << 20), (300_000, 1_000), (300_000, 0)])
def test_blocks_change_nothing(comparison: Comparison, monkeypatch: Any, block: int, few: int) -> None:
    monkeypatch.setattr(ranking, "_FEW", 1 << 40)
    monkeypatch.setattr(in_blocks, "BLOCK_SIZE", 1 << 40)
    whole = distribution_record(comparison), over_time(comparison), rows_of(comparison)
    monkeypatch.setattr(ranking, "_FEW", few)
    monkeypatch.setattr(in_blocks, "BLOCK_SIZE", block)
    assert (distribution_record(comparison), over_time(comparison), rows_of(comparison)) == whole


def rows_of(comparison: Comparison) -> list[Any]:
    bands, (run,) = comparison.judgement.floor.bands, comparison.results["torch"].layers.values()
    arrays: dict[str, Any] = {"sequence": run.sequence, "h_n": run.final.h}
    return [
        row_of("run", bands[name], ("torch", array), (REFERENCE, bands[name].reference))
        for name, array in arrays.items()
    ]


def test_the_page_is_small_and_shows_it(record: Record) -> None:
    page = render_record(record)
    assert len(page.encode()) < MOST_BYTES
    assert len(to_json(record).encode()) < MOST_BYTES / 4
    assert "Peaks of the map" in page
    assert "batch 13, time 1234, direction forward, hidden 9: " in page


@pytest.mark.skipif(all(shutil.which(name) is None for name in NAMES[:3]), reason="no browser")
def test_the_page_is_painted_within_a_second(record: Record) -> None:
    assert min(first_paints(render_record(record), 4)) < MOST_SECONDS


def test_a_record_is_as_small_however_large_the_run_and_takes_memory_of_blocks_alone(monkeypatch: Any) -> None:
    monkeypatch.setattr(in_blocks, "BLOCK_SIZE", 1 << 17)
    sizes = [(4, 500, 16), (32, 4000, 64)]
    lengths, peak = [], 0
    for size in sizes:
        made = large_comparison(*size)
        tracemalloc.start()
        record = make_record(made)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        lengths.append(len(json.dumps(record)))
        found = record["map"]["peaks"][0]["place"]
        assert found["time"] == min(SPIKE[1], size[1] - 1)
    assert lengths[1] < 3 * lengths[0]
    assert peak < 8 * math.prod(sizes[1])  # less than one copy of the sequence in float64


@pytest.mark.parametrize("shape", [(), (5,), (3, 4), (2, 3, 4, 5), (3, 0, 2), (1, 7, 1)])
@pytest.mark.parametrize("most", [1, 3, 7, 1000])
def test_blocks_cover_an_array_once_and_in_order(shape: tuple[int, ...], most: int) -> None:
    array = np.arange(math.prod(shape)).reshape(shape)
    found = [array[block] for block in blocks(shape, most)]
    assert np.concatenate([one.ravel() for one in found]).tolist() == array.ravel().tolist()
    assert all(one.size <= most for one in found)
    flags = np.arange(math.prod(shape[:-1])).reshape((*shape[:-1], 1)) if shape else array
    whole = np.broadcast_to(flags, shape)
    for block in blocks(shape, most):
        assert np.array_equal(np.broadcast_to(part(flags, block), array[block].shape), whole[block])


NUMBERS: dict[str, Callable[[np.random.Generator], Any]] = {
    "spread": lambda random: random.exponential(size=5000) * 10.0 ** random.integers(-30, 30, 5000),
    "near one number": lambda random: 1.0 + random.integers(0, 3000, 5000) * 2.0**-52,
    "few different": lambda random: random.choice([0.0, 5e-324, 0.5, 1.0, np.inf], 5000),
    "one": lambda _: np.zeros(1),
}


@pytest.mark.parametrize("kind", NUMBERS)
@pytest.mark.parametrize("few", [0, 100, 1 << 20])
def test_percentiles_counted_out_are_those_of_all_numbers(monkeypatch: Any, kind: str, few: int) -> None:
    monkeypatch.setattr(ranking, "_FEW", few)
    values = NUMBERS[kind](np.random.default_rng(5))
    percents = (0, 1, 5, 33.3, 50, 90, 99, 99.9, 99.99, 100)
    expected = [np.sort(values)[max(0, math.ceil(round(p / 100 * values.size, 6)) - 1)] for p in percents]
    assert at_percentiles(values, percents) == expected
    parts = np.split(values, [0, 7, 7, 2000]) if values.size > 1 else [values]
    found, again = Ranking(percents, values.size), True
    while again:
        for number, own in enumerate(parts):
            found.take(own, number)
        again = found.end_pass()
    assert found.total == values.size
    firsts = [
        next((n, int(np.argmax(own == value))) for n, own in enumerate(parts) if value in own) for value in expected
    ]
    assert [(one.value, (one.block, one.index)) for one in found.found] == list(zip(expected, firsts, strict=True))
