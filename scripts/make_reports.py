"""Makes the gallery in reports/: about a dozen reports of comparisons, each with a story, and the index that lists them.

    python scripts/make_reports.py                       all of them, and the index; about a minute
    python scripts/make_reports.py --only wrong-port     one report; the index is drawn anew from the pages that are there
    python scripts/make_reports.py --redraw              nothing is run: a changed template, in a second
    python scripts/make_reports.py --picture             all, and reports/report.png, the first part of one of them

Every model is built from seeds in `gallery`; nothing is trained and nothing is read. It writes its own files and no others: in a folder
without a gallery it replaces nothing, and ends with exit code 2. Where a report has another verdict than its story tells, the exit
code is 1.

What is promised of the pages: made twice with the same packages on the same machine they are the same, byte for byte; no time, no path
and no name of a machine stands in them. With other packages or on another machine the environment differs, which stands in the
record under `environment`, and in `details` of its `sources` and `settings` of its `engines`, and may differ in the last bits of what
the engines compute, and so in the measured errors; everything else, words, layout, verdicts, is the same.
"""

from __future__ import annotations

import os

# Before any framework is imported: one thread each, or the sums would depend on how many there are; and no greetings.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import torch
import typer
from gallery.index import INDEX, MATRIX, entries, is_ours, record_of, render
from gallery.picture import picture
from gallery.stories import PICTURED, STORIES, named
from gallery.story import Story, keras
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from parity.errors import ParityError
from parity.files.target import plain_errors, unfinished
from parity.report import render_record, save_page, write_text

if TYPE_CHECKING:
    from parity.comparison import Comparison

REPORTS = Path(__file__).resolve().parent.parent / "reports"
PICTURE = "report.png"


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


def make(story: Story, folder: Path) -> Comparison:
    """Run a story, and write its report.

    Args:
        story: what to run.
        folder: where the report goes; while it is made this is the working folder, so that paths on the page are names alone.
    """
    keras.backend.clear_session()  # names that Keras gives by itself count from the start
    torch.set_num_threads(1)
    with contextlib.chdir(folder):
        comparison = story.make()
        save_page(comparison, Path(story.page), overwrite=True)
    return comparison


def redraw(story: Story, folder: Path) -> None:
    """Draw the page of a report anew from the record inside it.

    Raises:
        ParityError: the record is of an earlier form; the report has to be made.
    """
    page = folder / story.page
    write_text(page, render_record(record_of(page)), overwrite=True)


def draw_index(folder: Path) -> Path:
    """Write the index of the reports that are in a folder."""
    found = list(entries(folder, STORIES))
    return write_text(folder / INDEX, render(found, (folder / MATRIX).is_file()), overwrite=True)


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


def show(made: Sequence[tuple[Story, Comparison]], folder: Path, console: Console) -> None:
    """What was written, and what came out."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("report", "verdict", "kB"):
        table.add_column(title, justify="right" if title == "kB" else "left")
    for story, comparison in made:
        verdict = (
            comparison.verdict if comparison.verdict == story.verdict else f"{comparison.verdict}, not {story.verdict}"
        )
        table.add_row(story.page, verdict, f"{(folder / story.page).stat().st_size / 1000:.0f}")
    console.print(table)


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
        bool, typer.Option("--redraw", help="Run nothing: draw the pages that are there anew from their records.")
    ] = False,
) -> None:
    """Make the reports, the index, and the picture if it is asked for."""
    console = Console(width=120, highlight=False)
    stories = _chosen(only)
    made: list[tuple[Story, Comparison]] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    try:
        check_ours(out, stories)
        out.mkdir(parents=True, exist_ok=True)
        draw_index(out)  # first, so that an interrupted run may go on
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            bar = progress.add_task("reports", total=len(stories), visible=not again)
            for story in () if again else stories:
                progress.update(bar, description=story.name)
                made += [(story, make(story, out))]
                progress.advance(bar)
        for story in stories if again else ():
            if (out / story.page).is_file():
                redraw(story, out)
        written = [draw_index(out), *([take_picture(out)] if take else [])]
    except ParityError as error:
        Console(stderr=True).print(str(error), markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(2) from error
    if made:
        show(made, out, console)
    for path in written:
        console.print(str(path), soft_wrap=True)
    if any(comparison.verdict != story.verdict for story, comparison in made):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
