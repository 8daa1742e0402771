"""The index of the gallery: one HTML page without a network or a script, drawn from the pages that stand beside it."""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gallery.story import Story
from parity.report import read_record
from parity.report.templating import environment_with, page_of, style

INDEX = "index.html"
MADE_BY = "scripts/make_reports.py"
"""What the index says of its origin: in a folder with such an index, the files of the stories are the gallery's own."""

FOLDER = Path(__file__).parent
MATRIX = "matrix.html"
VERDICTS = ("agree", "disagree", "undecided")

_RECORD = re.compile(r'<script type="application/json" id="record">(.*?)</script>', re.DOTALL)


@dataclass(frozen=True)
class Entry:
    """A story whose report stands in the folder.

    Args:
        story: what it tells.
        verdict, sentence: of the report.
    """

    story: Story
    verdict: str
    sentence: str


def record_of(page: Path) -> dict[str, Any]:
    """The record that a report has inside, as `parity.report.make_record` made it.

    Raises:
        ValueError: a page without one.
        FormatError: a record that is not known here.
    """
    found = _RECORD.search(page.read_text(encoding="utf-8"))
    if found is None:
        raise ValueError(f"{page.name} is no report of a comparison")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / f"{page.stem}.json"
        copy.write_text(found.group(1), encoding="utf-8")
        return read_record(copy)


def entries(folder: Path, stories: Sequence[Story]) -> Iterator[Entry]:
    """The stories whose reports are there."""
    for story in stories:
        page = folder / story.page
        if page.is_file():
            record = record_of(page)
            yield Entry(story, record["verdict"], record["sentence"])


def render(found: Sequence[Entry], matrix: bool) -> str:
    """The index as HTML.

    Args:
        found: its entries, in order.
        matrix: whether the page of scripts/matrix.py stands beside it.
    """
    chapters = dict.fromkeys(entry.story.chapter for entry in found)
    counts = Counter(entry.verdict for entry in found)
    view = {
        "chapters": {name: [entry for entry in found if entry.story.chapter == name] for name in chapters},
        "counts": {verdict: counts[verdict] for verdict in VERDICTS if counts[verdict]},
        "matrix": MATRIX if matrix else "",
        "made_by": MADE_BY,
        "css": style("style.css") + style("index.css", folder=FOLDER),
        "pattern_count": 0,
    }
    return page_of(environment_with(FOLDER), INDEX, view)


def is_ours(folder: Path) -> bool:
    """Whether a folder holds a gallery that this project made."""
    index = folder / INDEX
    return index.is_file() and f'data-made-by="{MADE_BY}"' in index.read_text(encoding="utf-8", errors="replace")


__all__ = ["INDEX", "MADE_BY", "MATRIX", "Entry", "entries", "is_ours", "record_of", "render"]
