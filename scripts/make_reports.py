"""Makes the gallery in reports/: sixteen reports, each with a story, and the index that lists them.

    python scripts/make_reports.py                       all of them, and the index; about a minute
    python scripts/make_reports.py --only wrong-port     one report; the index is drawn anew from the pages that are there
    python scripts/make_reports.py --redraw              no comparison is run: a changed template, in a few seconds
    python scripts/make_reports.py --picture             all, and reports/report.png, the first part of one of them
    python scripts/make_reports.py --check               all are made again elsewhere, and what differs is told; nothing is written

Every model is built from seeds in `gallery`; nothing is trained and nothing is read. It writes its own files and no others: in a folder
without a gallery it replaces nothing, and ends with exit code 2. Where a report has another verdict than its story tells, or --check
finds a difference, the exit code is 1.

What is promised of the pages: made twice with the same packages on the same machine they are the same, byte for byte; no time, no path
and no name of a machine stands in them. With other packages or on another machine the environment differs, and the last bits of what
the engines compute; `gallery.differing` says which numbers these are and how far they may move. Everything else is the same.
"""

from __future__ import annotations

import os

# Before any framework is imported: one thread each, or the sums would depend on how many there are; and no greetings.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import torch
import typer
from gallery.differing import differing_pages
from gallery.index import INDEX, MATRIX, drawn_of, entries, is_ours, record_of, render
from gallery.picture import picture
from gallery.stories import PICTURED, STORIES, named
from gallery.story import Story, drawn, keras
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from parity.errors import ParityError
from parity.files.target import plain_errors, unfinished
from parity.report import write_text

REPORTS = Path(__file__).resolve().parent.parent / "reports"
PICTURE = "report.png"
MOST_TOLD = 8
"""So many differences of a page are told."""


def check_ours(folder: Path, stories: Sequence[Story]) -> None:
    """Refuse to replace what this script did not write.

    Raises:
        ParityError: the folder has no gallery, but files of its names.
    """
    if is_ours(folder):
        return
    own = [INDEX, PICTURE, *(name for story in stories for name in (story.page, *story.files))]
    taken = [name for name in own if (folder / name).exists()]
    if taken:
        raise ParityError(
            "these files would be replaced",
            str(folder),
            "an empty folder, or the gallery that was made there before",
            ", ".join(taken),
            "name another folder with --out, or move them away",
        )


def make(story: Story, folder: Path) -> str:
    """Run a story, and write its report.

    Args:
        story: what to run.
        folder: where the report goes; while it is made this is the working folder, so that paths on the page are names alone.

    Returns:
        Its verdict.
    """
    keras.backend.clear_session()  # names that Keras gives by itself count from the start
    torch.set_num_threads(1)
    with contextlib.chdir(folder):
        verdict, page = drawn(story.make())
        write_text(Path(story.page), page, overwrite=True)
    return verdict


def make_all(stories: Sequence[Story], folder: Path) -> Iterator[str]:
    """Run stories one after the other, and say on the screen which.

    Args:
        stories: what to run.
        folder: where the reports go.

    Yields:
        The verdict of each.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("reports", total=len(stories))
        for story in stories:
            progress.update(bar, description=story.name)
            yield make(story, folder)
            progress.advance(bar)


def redraw(story: Story, folder: Path) -> None:
    """Draw the page of a report anew from the record inside it; what has none, a transfer, is made again.

    Raises:
        ParityError: the record is of an earlier form; the report has to be made.
    """
    page = folder / story.page
    record = record_of(page)
    if record is None:
        make(story, folder)
    else:
        write_text(page, drawn_of(record), overwrite=True)


def index_of(folder: Path) -> str:
    """The index of the reports that are in a folder, as HTML."""
    return render(list(entries(folder, STORIES)), (folder / MATRIX).is_file())


def draw_index(folder: Path) -> Path:
    """Write the index of the reports that are in a folder."""
    return write_text(folder / INDEX, index_of(folder), overwrite=True)


def check(stories: Sequence[Story], folder: Path, again: Path) -> Iterator[tuple[str, list[str]]]:
    """Make reports again, and compare them with those that are kept.

    Args:
        stories: which.
        folder: where they are kept; nothing is written there.
        again: an empty folder for what is made.

    Yields:
        The name of each file of the gallery, with what differs in it.
    """
    for story, verdict in zip(stories, make_all(stories, again), strict=True):
        told = [] if verdict == story.verdict else [f"the verdict is {verdict}, and its story tells {story.verdict}"]
        yield story.page, [*told, *differing_pages(folder / story.page, again / story.page)]
        for name in story.files:
            same = (folder / name).is_file() and (folder / name).read_bytes() == (again / name).read_bytes()
            yield name, [] if same else ["is not the same, byte for byte"]
    index = folder / INDEX
    same = index.is_file() and index.read_text(encoding="utf-8") == index_of(folder)
    yield INDEX, [] if same else ["is not what is drawn of the reports beside it: --redraw"]


def take_picture(folder: Path) -> Path:
    """Write the picture of the report that the README shows.

    Raises:
        ParityError: the report is not there, or there is no browser.
    """
    (story,) = named([PICTURED])
    page, target = folder / story.page, folder / PICTURE
    if not page.is_file():
        raise ParityError("no such page", str(page), "the report to take a picture of", remedy=f"--only {PICTURED}")
    taken = picture(page)
    with plain_errors(target, "written"), unfinished(target, overwrite=True) as part:
        part.write_bytes(taken)
    return target


def show(made: Sequence[tuple[Story, str]], folder: Path, console: Console) -> None:
    """What was written, and what came out."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("report", "verdict", "kB"):
        table.add_column(title, justify="right" if title == "kB" else "left")
    for story, verdict in made:
        told = verdict if verdict == story.verdict else f"{verdict}, not {story.verdict}"
        table.add_row(story.page, told, f"{(folder / story.page).stat().st_size / 1000:.0f}")
    console.print(table)


def show_differing(found: Sequence[tuple[str, list[str]]], console: Console) -> None:
    """Which files are as they are made, and what differs in the others."""
    for name, sentences in found:
        console.print(f"{name}: {'differs' if sentences else 'same'}", soft_wrap=True)
        for sentence in sentences[:MOST_TOLD]:
            console.print(f"  {sentence}", markup=False, soft_wrap=True)
        if len(sentences) > MOST_TOLD:
            console.print(f"  and {len(sentences) - MOST_TOLD} more")


def _chosen(only: list[str] | None) -> tuple[Story, ...]:
    try:
        return named(only or [])
    except KeyError as error:
        raise typer.BadParameter(str(error.args[0]), param_hint="--only") from error


def main(
    only: Annotated[list[str] | None, typer.Option(metavar="NAME", help="This report; may be given again.")] = None,
    out: Annotated[Path, typer.Option(help="The folder of the gallery.")] = REPORTS,
    take: Annotated[
        bool, typer.Option("--picture", help="Take the picture for the README, too; needs Chromium.")
    ] = False,
    again: Annotated[
        bool, typer.Option("--redraw", help="Compare nothing: draw the pages that are there anew from their records.")
    ] = False,
    checked: Annotated[
        bool, typer.Option("--check", help="Make them again elsewhere, and tell what differs; write nothing here.")
    ] = False,
) -> None:
    """Make the reports, the index, and the picture if it is asked for."""
    console = Console(width=120, highlight=False)
    stories = _chosen(only)
    try:
        if checked:
            right = _checked(stories, out, console)
        elif again:
            right = _redrawn(stories, out)
        else:
            right = _made(stories, out, console)
        written = [] if checked else [draw_index(out), *([take_picture(out)] if take else [])]
    except ParityError as error:
        Console(stderr=True).print(str(error), markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(2) from error
    for path in written:
        console.print(str(path), soft_wrap=True)
    if not right:
        raise typer.Exit(1)


def _made(stories: Sequence[Story], folder: Path, console: Console) -> bool:
    """Make reports; whether their verdicts are those that the stories tell."""
    check_ours(folder, stories)
    folder.mkdir(parents=True, exist_ok=True)
    draw_index(folder)  # first, so that an interrupted run may go on
    verdicts = list(make_all(stories, folder))
    show(list(zip(stories, verdicts, strict=True)), folder, console)
    return verdicts == [story.verdict for story in stories]


def _redrawn(stories: Sequence[Story], folder: Path) -> bool:
    check_ours(folder, stories)
    for story in stories:
        if (folder / story.page).is_file():
            redraw(story, folder)
    return True


def _checked(stories: Sequence[Story], folder: Path, console: Console) -> bool:
    """Make reports elsewhere; whether they are what is kept."""
    with tempfile.TemporaryDirectory() as elsewhere:
        found = list(check(stories, folder, Path(elsewhere)))
    show_differing(found, console)
    return not any(sentences for _, sentences in found)


if __name__ == "__main__":
    typer.run(main)
