"""The record of a comparison (JSON) and the page drawn from it (HTML)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from parity.files.target import plain_errors, unfinished
from parity.findings import Findings
from parity.report.page import render, render_snippet
from parity.report.reading import read_record
from parity.report.record import Record, make_record, to_json

Measures = Sequence[Mapping[str, Any]]


def save_record(comparison: Findings, path: Path, overwrite: bool = False, measures: Measures = ()) -> Path:
    """Write a comparison's record as JSON.

    Args:
        comparison: what to record.
        path: of the file.
        overwrite: whether an existing file may be replaced.
        measures: tables of the caller's own; see `make_record`.

    Returns:
        The path.

    Raises:
        ParityError: the file exists, or cannot be written.
    """
    return write_text(path, to_json(make_record(comparison, measures)), overwrite)


def save_page(comparison: Findings, path: Path, overwrite: bool = False, measures: Measures = ()) -> Path:
    """Write a comparison's report: one HTML file that needs no network.

    Args:
        comparison, path, overwrite, measures: as for `save_record`.

    Returns:
        The path.

    Raises:
        ParityError: the file exists, or cannot be written.

    Example:
        >>> import tempfile, torch
        >>> from parity.comparison import compare
        >>> comparison = compare(torch.nn.GRU(3, 5), engines=["torch"])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_page(comparison, Path(folder) / "report.html").name
        'report.html'
    """
    return write_text(path, render(make_record(comparison, measures)), overwrite)


def render_record(record: Record) -> str:
    """The page of a record, as HTML.

    Args:
        record: from `make_record` or `read_record`.
    """
    return render(record)


def snippet(comparison: Findings) -> str:
    """The sentence and the matrix as a fragment of HTML for notebooks, in the notebook's own colours.

    Args:
        comparison: what to show.
    """
    return render_snippet(make_record(comparison))


def write_text(path: Path, text: str, overwrite: bool = False) -> Path:
    """Write a file whole or not at all.

    Args:
        path: of the file; its folder must exist.
        text: what it shall hold, in UTF-8.
        overwrite: whether an existing file may be replaced.

    Returns:
        The path.

    Raises:
        ParityError: the file exists, its folder does not, or the system refuses.

    Example:
        >>> import tempfile
        >>> write_text(Path(tempfile.mkdtemp()) / "report.html", "whole").read_text()
        'whole'
    """
    with plain_errors(path, "written"), unfinished(path, overwrite) as part:
        part.write_text(text, encoding="utf-8", newline="\n")
    return path


__all__ = [
    "Measures",
    "Record",
    "make_record",
    "read_record",
    "render_record",
    "save_page",
    "save_record",
    "snippet",
    "to_json",
    "write_text",
]
