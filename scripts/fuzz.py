"""Opens mutated model files of every format, in processes that are watched: no traceback, no crash, no hang, no memory beyond the file's.

    python scripts/fuzz.py                          20,000 mutants
    python scripts/fuzz.py --seconds 600 --jobs 4   as many as ten minutes allow
    python scripts/fuzz.py --only h5 --seed 7       the samples whose name holds this

A mutant is a pure function of its sample and its seed; `--keep FOLDER` keeps the ones that broke something. Exit code 1 if any did.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import multiprocessing
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Annotated

import typer
from fuzzing.mutations import mutated
from fuzzing.opening import serve
from fuzzing.samples import samples
from rich.console import Console
from rich.progress import Progress

LIMIT = 5.0
"""Seconds that opening a small file may take."""

_START_LIMIT = 120.0
Case = tuple[str, int]


class Worker:
    """A process that opens one mutant after the other."""

    def __init__(self, contents: dict[str, bytes]) -> None:
        self._contents = contents
        self._folder = tempfile.TemporaryDirectory()
        self.case: Case | None = None
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe: Connection
        self.pipe, theirs = context.Pipe()
        arguments = (theirs, self._contents, self._folder.name)
        self._process = context.Process(target=serve, args=arguments, daemon=True)
        self._process.start()
        theirs.close()
        self._deadline = time.monotonic() + _START_LIMIT
        self._warm = False

    def ask(self, case: Case) -> None:
        """Hand it a mutant."""
        self.case = case
        self._deadline = time.monotonic() + (LIMIT if self._warm else _START_LIMIT)
        self.pipe.send(case)

    def answer(self) -> str | None:
        """What became of the mutant; None if nothing is wrong."""
        try:
            found: str | None = self.pipe.recv()
        except EOFError:
            self._process.join()
            found = f"the process ended with {self._process.exitcode}"
            self._start()
            return found
        self._warm = True
        return found

    @property
    def overdue(self) -> bool:
        """Whether its answer should have been there."""
        return self.case is not None and time.monotonic() > self._deadline

    def restart(self) -> None:
        """End it and begin anew."""
        self._process.kill()
        self._process.join()
        self._start()

    def stop(self) -> None:
        """End it."""
        with suppress(OSError):
            self.pipe.send(None)
        self._process.join(1)
        self._process.kill()
        self._process.join()
        self._folder.cleanup()


def run(
    contents: dict[str, bytes], cases: Iterator[Case], jobs: int, until: float
) -> Iterator[tuple[Case, str | None]]:
    """What became of every mutant, as they are opened."""
    workers = [Worker(contents) for _ in range(jobs)]
    try:
        for worker in workers:
            if (case := next(cases, None)) is not None:
                worker.ask(case)
        while busy := [worker for worker in workers if worker.case is not None]:
            ready = set(wait([worker.pipe for worker in busy], timeout=0.2))
            for worker in busy:
                if worker.pipe not in ready and not worker.overdue:
                    continue
                assert worker.case is not None
                case, found = worker.case, f"no answer within {LIMIT:g} s"
                if worker.pipe in ready:
                    yield case, worker.answer()
                else:
                    worker.restart()
                    yield case, found
                following = next(cases, None) if time.monotonic() < until else None
                worker.case = None
                if following is not None:
                    worker.ask(following)
    finally:
        for worker in workers:
            worker.stop()


def chosen(contents: dict[str, bytes], seed: int, count: int | None) -> Iterator[Case]:
    """The mutants: the samples in turn, each with a seed of its own."""
    names: Sequence[str] = sorted(contents)
    number = 0
    while count is None or number < count:
        yield names[number % len(names)], seed * 1_000_000_007 + number
        number += 1


def main(
    cases: Annotated[int, typer.Option(min=1, help="Mutants to open.")] = 20_000,
    seconds: Annotated[float | None, typer.Option(help="Go on for so long instead.")] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    jobs: Annotated[int, typer.Option(min=1)] = os.cpu_count() or 1,
    only: Annotated[str | None, typer.Option(help="The samples whose name holds this.")] = None,
    keep: Annotated[Path | None, typer.Option(help="A folder for the mutants that broke something.")] = None,
) -> None:
    """Open mutants and say which broke something."""
    console = Console(stderr=True)
    contents = {name: content for name, content in samples().items() if only is None or only in name}
    if not contents:
        raise typer.BadParameter(f"no sample's name holds '{only}'")
    started = time.monotonic()
    until = started + seconds if seconds is not None else float("inf")
    opened: Counter[str] = Counter()
    broken: list[tuple[Case, str]] = []
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("opening", total=None if seconds is not None else cases)
        mutants = chosen(contents, seed, None if seconds is not None else cases)
        for case, found in run(contents, mutants, jobs, until):
            opened[case[0]] += 1
            progress.advance(task)
            if found is not None:
                broken.append((case, found))
                console.print(
                    f"[red]{case[0]} seed {case[1]}[/]: {found.strip().splitlines()[-1][:300]}", highlight=False
                )
                if keep is not None:
                    keep.mkdir(parents=True, exist_ok=True)
                    (keep / f"{case[1]}-{case[0]}").write_bytes(mutated(contents[case[0]], case[1]))
                    (keep / f"{case[1]}-{case[0]}.txt").write_text(found)
    took = time.monotonic() - started
    print(f"{sum(opened.values())} mutants of {len(opened)} samples in {took:.0f} s: {len(broken)} broke something")
    raise typer.Exit(1 if broken else 0)


if __name__ == "__main__":
    typer.run(main)
