"""The page of a large run: how many bytes, how soon Chromium paints it, and what making it takes."""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

Row = tuple[str, str, float, float, float]

BATCH, TIME, UNITS = 64, 10_000, 512
SPIKE = (41, 7_307, 0, 300)
"""Batch, step, direction and unit of the one element that is wrong."""

_PAGE_BYTES, _PAINT_S = 500_000, 1.0
_INPUTS, _FLOOR, _OFF = 8, 2.0**-22, 1e-3
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def pages(rounds: int) -> list[Row]:
    """A run of 10,000 steps of 64 samples and 512 units with one wrong element, its results given: record, page, first paint."""
    from parity.report import make_record, render_record

    compared = large_comparison()
    tracemalloc.start()
    start = time.perf_counter()
    record = make_record(compared)
    recorded = time.perf_counter() - start
    start = time.perf_counter()
    page = render_record(record)
    drawn = time.perf_counter() - start
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    (found,) = (peak_ for peak_ in record["map"]["peaks"] if peak_["times_floor"] > record["judging"]["limit"])
    if (found["place"]["batch"], found["place"]["time"], found["place"]["hidden"]) != (*SPIKE[:2], SPIKE[3]):
        raise RuntimeError(f"the page shows {found}, not the element that is wrong")
    size = len(page.encode())
    painted = statistics.median(first_paints(page, max(rounds, 3)))
    name = f"page of {TIME} x {BATCH} x {UNITS}"
    megabytes = BATCH * TIME * UNITS * 8 / 1e6
    return [
        (f"{name}, kB", "asked: below 500 kB", size / 1e3, _PAGE_BYTES / 1e3, size / _PAGE_BYTES),
        ("its first contentful paint in Chromium", "asked: below 1 s", painted, _PAINT_S, painted / _PAINT_S),
        ("its record out of the results", "the page out of the record", recorded, drawn, recorded / drawn),
        ("most memory meanwhile, MB", "the sequence in float64, MB", peak / 1e6, megabytes, peak / 1e6 / megabytes),
    ]


def large_comparison(batch: int = BATCH, steps: int = TIME, units: int = UNITS) -> Any:
    """A comparison of that size out of arrays that are made up: right but for rounding, and one element.

    `benching.big` compares such a run in earnest, which takes minutes; what the page is made of is the same.
    """
    from parity.comparison import Comparison
    from parity.floor import Band, Floor, Quantity
    from parity.judge import REFERENCE, Judgement, row_of
    from parity.network import Network, Recurrent
    from parity.recurrent import RecurrentSpec, Weights
    from parity.result import LayerRun, Result, State
    from parity.sources import open_source

    random = np.random.default_rng(0)
    spec = RecurrentSpec("rnn", _INPUTS, units)
    weights = Weights(*(random.standard_normal(spec.shape(name), np.float32) for name in ("kernel", "recurrent")))
    source = open_source(Network("rnn", (Recurrent("rnn", spec, (weights,)),)))
    reference = random.random((batch, steps, 1, units)) - 0.5
    computed = reference.astype(np.float32)
    computed[tuple(min(at, length - 1) for at, length in zip(SPIKE, computed.shape, strict=True))] += _OFF
    runs = [LayerRun(State(array[:, -1].swapaxes(0, 1)), array) for array in (reference, computed)]
    bands = {}
    for name, axes, array in (
        ("sequence", ("batch", "time", "direction", "hidden"), reference),
        ("h_n", ("direction", "batch", "hidden"), runs[0].final.h),
    ):
        floor = np.full((*array.shape[:-1], 1), _FLOOR)
        bands[name] = Band(Quantity(name, axes, ("forward",)), array, floor, np.ones(floor.shape, bool))
    results = [
        Result(engine, {}, {"rnn": run}, settings={"dtype": "float32"})
        for engine, run in zip((REFERENCE, "torch"), runs, strict=True)
    ]
    rows = [
        row_of("run", band, ("torch", found), (REFERENCE, band.reference))
        for band, found in zip(bands.values(), (computed, runs[1].final.h), strict=True)
    ]
    judgement = Judgement(tuple(rows), Floor(results[0], {}, bands, 8, None), None, {"torch": results[1]})
    inputs = random.standard_normal((batch, steps, _INPUTS), np.float32)
    asked: dict[str, Any] = {
        "inputs": "given",
        "engines": ["torch"],
        "initial_state": "zeros",
        "lengths": None,
        "mask": None,
    }
    asked |= {"seed": 0, "device": "cpu", "tf32": False}
    compared = Comparison((source,), {"torch": (source, "torch")}, inputs, judgement, asked)
    vars(compared)["diagnosis"] = None  # it would run the network
    return compared


def first_paints(page: str, rounds: int) -> list[float]:
    """Seconds until Chromium paints the first content of a page, of so many loads in a browser that runs."""
    with browser() as launched, tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "page.html"
        path.write_text(page, encoding="utf-8")
        found = []
        for _ in range(rounds + 1):
            context = launched.new_context(viewport={"width": 1400, "height": 900})
            shown = context.new_page()
            shown.goto(path.as_uri())
            found.append(shown.evaluate(_PAINT) / 1e3)
            context.close()
        return found[1:]  # the first one starts processes


_PAINT = """() => new Promise(done => {
    const told = entries => {
        const entry = entries.find(one => one.name === "first-contentful-paint");
        if (entry) done(entry.startTime);
    };
    told(performance.getEntriesByType("paint"));
    new PerformanceObserver(list => told(list.getEntries())).observe({type: "paint", buffered: true});
})"""


@contextmanager
def browser() -> Iterator[Any]:
    """Chromium without a window.

    Raises:
        FileNotFoundError: there is none.
    """
    from playwright.sync_api import sync_playwright

    executable = next((path for name in _BROWSERS if (path := shutil.which(name))), None)
    if executable is None:
        raise FileNotFoundError(f"no browser: none of {', '.join(_BROWSERS)}")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox", "--disable-gpu"])
        yield launched
        launched.close()
