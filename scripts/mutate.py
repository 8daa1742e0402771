"""Injects faults into live models of all frameworks, single and in pairs, and says which of them a diagnosis names.

Every fault is made by hand: an edit of arrays, another option, another line of code (`mutating`); none of it shares code with what
parity replays. Each is put into random models (kinds, layers, directions, padding, initial states, frameworks), and the wrong model is
handed over live, or as what it computed alone. A fault is

    named       the one cause, under its name and at its place
    equivalent  under another name that computes the same on inputs which the diagnosis has not seen
    ambiguous   among several causes that explain the run equally; the diagnosis says what would tell them apart
    told        not to be seen on these inputs and weights, and the diagnosis says so
    missed      not found
    wrong       another cause is given with confidence: this must never be

    python scripts/mutate.py                            20 models for each fault, 200 pairs, 100 healthy models
    python scripts/mutate.py --kinds gru --engines torch --cases 3 --pairs 0
    python scripts/mutate.py --quick                    a sample of a minute

Exit code 1 where a wrong name or a false cause was given, or where fewer than 99% of the single faults or 90% of the pairs are named.
"""

from __future__ import annotations

import os

# Before any framework is imported: one thread each, or they wait for one another; and no greetings.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import importlib
import json
import multiprocessing
import random
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, TypeAlias

import typer
from mutating.judging import BLIND_GOOD, GOOD, REPAIRS, STATUSES, Verdict, judged
from mutating.planning import ENGINES, KINDS, Task, arounds, blind, healthy, pairs, reals, singles, wholes
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from parity.frameworks import quiet_import

Judged: TypeAlias = tuple[Task, Verdict]

LEAST = {"single": 0.99, "whole": 0.99, "around": 0.99, "pair": 0.90, "real": 0.99, "blind": 0.0, "healthy": 1.0}
"""The share that has to be named, of those that are to be seen."""

QUICK_SECONDS = 45.0
"""Of diagnoses in a quick sample; drawing and loading take some more."""

_SORTS = tuple(LEAST)


def warm_up() -> None:
    """Load every framework once, for all cases of this process."""
    warnings.simplefilter("ignore")
    importlib.import_module("torch").set_num_threads(1)
    with quiet_import():
        importlib.import_module("keras")


def judge(task: Task, repairs: bool = False) -> Verdict:
    """One task, from the models to the verdict."""
    return judged(task.subject(), task.title, task.way, task.sort == "pair", repairs)


def outcomes(
    tasks: Sequence[Task], jobs: int, seconds: float = float("inf"), repairs: bool = False
) -> Iterator[Judged]:
    """Every task with its verdict, as they get ready.

    Args:
        tasks: in any order.
        jobs: processes; with 1 all is done in this one.
        seconds: after which no more are begun, with one process.
        repairs: whether the kinds of repairs are counted.
    """
    if jobs == 1:
        end = time.perf_counter() + seconds
        for task in tasks:
            if time.perf_counter() > end:
                return
            yield task, judge(task, repairs)
        return
    # A fork of a process in which TensorFlow or torch has run hangs.
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), warm_up) as pool:
        waiting = {pool.submit(judge, task, repairs): task for task in tasks}
        for future in as_completed(waiting):
            yield waiting[future], future.result()


def share(verdicts: Iterable[Verdict], sort: str = "single") -> float:
    """The share of verdicts of one sort that are good, of those that are to be seen; 1 of none."""
    blind = sort == "blind"
    good = BLIND_GOOD if blind else GOOD
    found = [verdict.status in good for verdict in verdicts if blind or verdict.status != "told"]
    return sum(found) / len(found) if found else 1.0


def failures(found: Sequence[Judged]) -> list[str]:
    """What must not be, in sentences."""
    lines = []
    for sort, least in LEAST.items():
        verdicts = [verdict for task, verdict in found if task.sort == sort]
        wrong = sum(verdict.status in ("wrong", "crashed") for verdict in verdicts)
        if wrong:
            lines.append(f"{sort}: {wrong} wrong names, false causes or crashes")
        if share(verdicts, sort) < least:
            lines.append(f"{sort}: {share(verdicts, sort):.1%} named, {least:.0%} needed")
    return lines


def show(found: Sequence[Judged], console: Console) -> None:
    """The counts, and everything that is not named."""
    for sort in _SORTS:
        own = [(task, verdict) for task, verdict in found if task.sort == sort]
        if own:
            console.print(_table(sort, own))
    kinds = Counter(verdict.repair for _, verdict in found if verdict.repair)
    if kinds:
        console.print(f"repairs: {', '.join(f'{kinds[kind]} {kind}' for kind in REPAIRS)}")
    for task, verdict in found:
        if verdict.status not in (BLIND_GOOD if task.sort == "blind" else GOOD):
            console.print(
                f"{verdict.status}, {task.sort}: {verdict.title} ({verdict.recipe}, {verdict.way}): {verdict.said[:400]}",
                markup=False,
            )


def _table(sort: str, own: Sequence[Judged]) -> Table:
    table = Table(
        box=None, pad_edge=False, header_style="bold", title=f"{sort}: {share((one for _, one in own), sort):.1%}"
    )
    for title in ("fault", "injected", *STATUSES, "slowest"):
        table.add_column(title, justify="left" if title == "fault" else "right")
    groups: dict[str, list[Verdict]] = {}
    for _, verdict in own:
        groups.setdefault("pairs" if sort == "pair" else verdict.title, []).append(verdict)
    for title, verdicts in [*sorted(groups.items()), ("all", [verdict for _, verdict in own])]:
        counts = Counter(verdict.status for verdict in verdicts)
        slowest = max(verdict.seconds for verdict in verdicts)
        cells = [str(counts[status] or "") for status in STATUSES]
        table.add_row(title, str(len(verdicts)), *cells, f"{slowest:.1f} s")
    return table


def planned(seed: int, cases: int, two: int, kinds: Sequence[str], engines: Sequence[str], small: bool) -> list[Task]:
    """Everything that is injected."""
    found = [*singles(seed, cases, kinds, engines, small), *wholes(seed, cases, kinds, engines)]
    found += arounds(seed, cases, kinds, engines)
    found += pairs(seed, two, kinds, engines)
    return [*found, *healthy(seed, max(cases * 5, 6), kinds, engines), *blind(seed, kinds, engines)]


def _named(text: str, known: Sequence[str]) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip()) or tuple(known)
    unknown = set(names) - set(known)
    if unknown:
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: known are {', '.join(known)}")
    return names


def main(
    seed: Annotated[int, typer.Option(help="Of the choice of models.")] = 0,
    cases: Annotated[int, typer.Option(min=0, help="Models for each fault.")] = 20,
    two: Annotated[int, typer.Option("--pairs", min=0, help="Pairs of faults.")] = 200,
    kinds: Annotated[str, typer.Option(help="Comma-separated; all by default.")] = "",
    engines: Annotated[str, typer.Option(help="Comma-separated; all by default.")] = "",
    only: Annotated[str, typer.Option(help="Faults whose title holds this.")] = "",
    quick: Annotated[
        bool, typer.Option("--quick", help="A sample of about a minute: one small model for each fault, few pairs.")
    ] = False,
    repairs: Annotated[
        bool,
        typer.Option("--repairs", help="Count the repairs of live suspects: patches, and models that are replaced."),
    ] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write every verdict here.")] = None,
) -> None:
    """Inject, diagnose, and say what was named; exit code 1 where that is not enough."""
    console = Console(width=150, highlight=False)
    sizes = (1, 4) if quick else (cases, two)
    tasks = planned(seed, *sizes, _named(kinds, KINDS), _named(engines, ENGINES), quick)
    tasks = [
        task for task in [*tasks, *([] if quick else reals(seed, 1, _named(engines, ENGINES)))] if only in task.title
    ]
    if quick:
        random.Random(seed).shuffle(tasks)
    found: list[Judged] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("faults", total=len(tasks))
        if jobs == 1:
            warm_up()
        for pair in outcomes(tasks, jobs, QUICK_SECONDS if quick else float("inf"), repairs):
            found.append(pair)
            progress.update(bar, advance=1, description=pair[1].title[:40])
    show(found, console)
    if json_path is not None:
        rows = [{"sort": task.sort, **asdict(verdict)} for task, verdict in found]
        json_path.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
        console.print(f"written: {json_path}")
    bad = failures(found)
    for line in bad:
        console.print(f"not enough: {line}")
    if bad:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
