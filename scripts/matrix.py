"""Runs the whole grid of configurations against the live frameworks: what converts natively, what as a composition, what is refused.

Every case is a configuration of a source (`grid.cases`) and a target framework: the source runs in its own framework, is converted, the
conversion runs in the target, and the numbers of the two are compared (`grid.judging`). Nothing may be wrong, nothing may crash, and
nothing that can be said exactly may be refused; otherwise the exit code is 1.

    python scripts/matrix.py                         the whole grid; writes reports/matrix.json and reports/matrix.html
    python scripts/matrix.py --only "keras bidir"    the configurations whose name holds these words; writes nothing unless asked to
    python scripts/matrix.py --sample 100 --seed 1   a random choice of configurations

matrix.json: `schema`; `environment` (versions); `thorough` (the option); `cases` (how many); `counts` (source -> target -> status ->
cases); `configurations`, each with its `framework`, `family`, `title` and `outcomes`, each of them with `target`, `status`, `reason`,
`times_floor` and `padding` as in `grid.judging.Outcome`.
"""

from __future__ import annotations

import os

# Before any framework is imported: one thread each, or they wait for one another; and no greetings.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import gc
import importlib
import json
import multiprocessing
import platform
import random
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer
from grid.cases import Config, configurations
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from parity.frameworks import quiet_import

if TYPE_CHECKING:
    from grid.judging import Outcome

Outcomes: TypeAlias = "tuple[Outcome, ...]"
Record: TypeAlias = dict[str, Any]

SCHEMA = "parity.matrix/1"
STATUSES = ("native", "composed", "refused", "needless", "wrong", "crashed")
BAD = STATUSES[3:]
REPORTS = Path(__file__).resolve().parent.parent / "reports"
_PACKAGES = ("keras", "tensorflow", "torch", "onnx", "onnxruntime", "numpy")
_AT_ONCE = 8


def chosen(only: str | None, sample: int | None, seed: int) -> list[Config]:
    """The configurations that were asked for, in the grid's order.

    Args:
        only: words that all have to stand in a configuration's name, as they are, one after the other.
        sample: how many of them, at random; None for all.
        seed: of the choice.
    """
    found = [config for config in configurations() if not only or all(word in config.name for word in only.split())]
    if sample is None or sample >= len(found):
        return found
    places = sorted(random.Random(seed).sample(range(len(found)), sample))
    return [found[place] for place in places]


def warm_up() -> None:
    """Load every framework once, for all cases of this process."""
    warnings.simplefilter("ignore")
    importlib.import_module("torch").set_num_threads(1)
    with quiet_import():
        keras, tensorflow = importlib.import_module("keras"), importlib.import_module("tensorflow")
    # Filtered tracebacks cost a wrapper around every call.
    keras.config.disable_traceback_filtering()
    tensorflow.debugging.disable_traceback_filtering()
    for name in ("keras", "torch", "onnx"):
        importlib.import_module(f"grid.{name}_side")


def judge_all(configs: Sequence[Config], thorough: bool = False) -> list[Outcomes]:
    """The outcomes of some configurations, one after the other in this process."""
    from grid.judging import Outcome, judged

    # A collection would look through every object of three frameworks, again and again.
    gc.freeze()
    try:
        return [_outcomes_of(config, judged, Outcome, thorough) for config in configs]
    finally:
        gc.unfreeze()


def _outcomes_of(config: Config, judged: Any, outcome: Any, thorough: bool) -> Outcomes:
    try:
        found: Outcomes = judged(config, thorough=thorough)
    except Exception as error:  # the source could not be built or run: no fault of a conversion, but a hole in the grid
        reason = f"the source: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
        return tuple(outcome(target, "crashed", reason) for target in config.targets)
    return found


def outcomes(configs: Sequence[Config], jobs: int, thorough: bool = False) -> Iterator[tuple[Config, Outcomes]]:
    """Every configuration with its outcomes, as they get ready.

    Args:
        configs: of the grid.
        jobs: processes; with 1 all is done in this one.
        thorough: see `grid.judging.judged`.
    """
    chunks = [configs[start : start + _AT_ONCE] for start in range(0, len(configs), _AT_ONCE)]
    if jobs == 1:
        warm_up()
        for chunk in chunks:
            yield from zip(chunk, judge_all(chunk, thorough), strict=True)
        return
    died: list[Config] = []
    with _pool(jobs) as pool:
        waiting = {pool.submit(judge_all, chunk, thorough): chunk for chunk in chunks}
        for future in as_completed(waiting):
            yield from _of_chunk(future, waiting[future], died)
    for config in died:
        with _pool(1) as pool:
            yield from _of_one(pool.submit(judge_all, [config], thorough), config)


def _pool(jobs: int) -> ProcessPoolExecutor:
    # A fork of a process in which TensorFlow or torch has run hangs.
    return ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), warm_up)


def _of_chunk(
    future: Future[list[Outcomes]], chunk: Sequence[Config], died: list[Config]
) -> list[tuple[Config, Outcomes]]:
    try:
        return list(zip(chunk, future.result(), strict=True))
    except BrokenProcessPool:
        # A framework took the whole process with it; each is tried again by itself to see which.
        died.extend(chunk)
        return []


def _of_one(future: Future[list[Outcomes]], config: Config) -> list[tuple[Config, Outcomes]]:
    from grid.judging import Outcome

    try:
        return [(config, future.result()[0])]
    except BrokenProcessPool:
        return [(config, tuple(Outcome(target, "crashed", "the whole process died") for target in config.targets))]


def make_record(found: dict[Config, Outcomes], configs: Sequence[Config], thorough: bool = False) -> Record:
    """What `matrix.json` holds."""
    counts: dict[str, dict[str, dict[str, int]]] = {}
    rows = []
    for config in configs:
        for outcome in found[config]:
            own = counts.setdefault(config.framework, {}).setdefault(outcome.target, dict.fromkeys(STATUSES, 0))
            own[outcome.status] += 1
        shown = [{**asdict(one), "times_floor": _rounded(one.times_floor)} for one in found[config]]
        rows.append({"framework": config.framework, "family": config.family, "title": config.title, "outcomes": shown})
    environment = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        **{name: version(name) for name in _PACKAGES},
    }
    return {
        "schema": SCHEMA,
        "environment": environment,
        "thorough": thorough,
        "cases": sum(len(row["outcomes"]) for row in rows),
        "counts": counts,
        "configurations": rows,
    }


def _rounded(number: float | None) -> float | None:
    """Two figures; None where there is no number to write."""
    return float(f"{number:.2g}") if number is not None and number < float("inf") else None


def show(record: Record, console: Console) -> None:
    """The counts, and everything that is bad."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("from", "to", *STATUSES):
        table.add_column(title, justify="right" if title in STATUSES else "left")
    for source, targets in record["counts"].items():
        for target, own in targets.items():
            table.add_row(source, target, *(str(own[status] or "") for status in STATUSES))
    console.print(table)
    bad = Counter[tuple[str, str, str, str]]()
    examples: dict[tuple[str, str, str, str], str] = {}
    for row in record["configurations"]:
        for one in row["outcomes"]:
            if one["status"] in BAD:
                key = (row["framework"], one["target"], one["status"], one["reason"])
                bad[key] += 1
                examples.setdefault(key, f"{row['family']}: {row['title']}")
    for key, count in bad.most_common():
        source, target, status, reason = key
        console.print(f"{count} {status}, {source} to {target}: {reason}\n    such as {examples[key]}", markup=False)


def main(
    only: Annotated[str | None, typer.Option(help="Words that the configuration's name holds.")] = None,
    sample: Annotated[int | None, typer.Option(min=1, help="So many configurations at random.")] = None,
    seed: Annotated[int, typer.Option(help="Of the choice.")] = 0,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = min(4, os.cpu_count() or 1),
    thorough: Annotated[
        bool, typer.Option(help="Read every conversion again and run it through parity.run, too.")
    ] = False,
    reports: Annotated[Path | None, typer.Option(help="Folder for matrix.json and matrix.html.")] = None,
) -> None:
    """Run the grid and say what came out; exit code 1 if anything is wrong, crashes, or is refused without need."""
    console = Console(width=150, highlight=False)
    configs = chosen(only, sample, seed)
    if not configs:
        console.print("no configuration has such a name")
        raise typer.Exit(2)
    found: dict[Config, Outcomes] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("configurations", total=len(configs))
        for config, own in outcomes(configs, jobs, thorough):
            found[config] = own
            progress.advance(task)
    record = make_record(found, configs, thorough)
    show(record, console)
    whole = only is None and sample is None
    folder = reports or (REPORTS if whole else None)
    if folder is not None:
        from grid.page import render

        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(record, separators=(",", ":"), allow_nan=False)
        (folder / "matrix.json").write_text(text.replace('{"framework"', '\n{"framework"') + "\n", encoding="utf-8")
        (folder / "matrix.html").write_text(render(record), encoding="utf-8")
        console.print(f"{folder / 'matrix.html'}: {record['cases']} cases")
    if any(own[status] for targets in record["counts"].values() for own in targets.values() for status in BAD):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
