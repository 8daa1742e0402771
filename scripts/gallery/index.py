"""The index of the gallery: one HTML page without a network or a script, drawn from the pages that stand beside it."""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import unescape
from pathlib import Path

from gallery.stories import CHAPTERS
from gallery.story import Story
from parity.errors import REFUSED
from parity.report import render_record
from parity.report.reading import read_any
from parity.report.record import Record
from parity.report.refusal import render_refusal
from parity.report.templating import environment_with, page_of, style

INDEX = "index.html"
MADE_BY = "scripts/make_reports.py"
"""What the index says of its origin: in a folder with such an index, the files of the stories are the gallery's own."""

FOLDER = Path(__file__).parent
MATRIX = "matrix.html"

_RECORD = re.compile(r'<script type="application/json" id="record">(.*?)</script>', re.DOTALL)
_SENTENCE = re.compile(r'<p class="sentence">(.*?)</p>', re.DOTALL)


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


def record_of(page: Path) -> Record | None:
    """The record that a report has inside; None for one that has none, as of a transfer.

    Raises:
        FormatError: a record that is not known here.
    """
    found = _RECORD.search(page.read_text(encoding="utf-8"))
    if found is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / f"{page.stem}.json"
        copy.write_text(found.group(1), encoding="utf-8")
        return read_any(copy)


def drawn_of(record: Record) -> str:
    """The page of a record, of a comparison or of a refusal."""
    return render_refusal(record) if record["verdict"] == REFUSED else render_record(record)


def entries(folder: Path, stories: Sequence[Story]) -> Iterator[Entry]:
    """The stories whose reports are there."""
    for story in stories:
        page = folder / story.page
        if page.is_file():
            record = record_of(page) or {"verdict": story.verdict, "sentence": _sentence_of(page)}
            yield Entry(story, record["verdict"], record["sentence"])


def _sentence_of(page: Path) -> str:
    found = _SENTENCE.search(page.read_text(encoding="utf-8"))
    return unescape(found.group(1)) if found else ""


def render(found: Sequence[Entry], matrix: bool) -> str:
    """The index as HTML.

    Args:
        found: its entries, in order.
        matrix: whether the page of scripts/matrix.py stands beside it.
    """
    counts = Counter(entry.verdict for entry in found)
    chapters = [
        {"name": name, "about": about, "entries": [entry for entry in found if entry.story.chapter == name]}
        for name, about in CHAPTERS.items()
    ]
    view = {
        "chapters": [chapter for chapter in chapters if chapter["entries"]],
        "counts": counts,
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


__all__ = ["INDEX", "MADE_BY", "MATRIX", "Entry", "drawn_of", "entries", "is_ours", "record_of", "render"]
