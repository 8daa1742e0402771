"""A comparison that could not be made: its record (JSON), and the page drawn from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from typing import Any

from jinja2 import Environment, UndefinedError

from parity.errors import REFUSED, FormatError, Problem
from parity.report.page import embed
from parity.report.record import Record, environment_record
from parity.report.templating import environment_with, page_of, style

SCHEMA = {"name": "parity.refusal", "version": 1}
"""The file `refusal.schema.json` beside this one describes it."""

FACTS = ("where", "expected", "got", "remedy")
"""What is said of a problem, beside what it is."""


def make_refusal(problems: Sequence[Problem], sources: Sequence[str], command: str | None = None) -> Record:
    """Why something was not compared, as plain JSON values.

    Args:
        problems: all that is wrong, of a `ParityError`.
        sources: what was to be compared, by the names that people know.
        command: that tries it again.

    Returns:
        The record, of the schema "parity.refusal".

    Example:
        >>> refusal = make_refusal([Problem("no such file", "b.onnx")], ["a.keras", "b.onnx"], "parity compare a.keras b.onnx")
        >>> refusal["sentence"]
        'a.keras and b.onnx could not be compared: no such file'
    """
    title = " and ".join(sources) or "nothing"
    refused = f"{title} could {'not ' if sources else ''}be compared"
    rest = len(problems) - 1
    more = f", and {rest} more problem{'s' if rest > 1 else ''}" if rest else ""
    record = {
        "schema": SCHEMA,
        "verdict": REFUSED,
        "sentence": f"{refused}: {problems[0].what}{more}",
        "title": title,
        "sources": list(sources),
        "problems": [asdict(problem) for problem in problems],
        "again": {"command": command},
        "environment": environment_record(),
    }
    encodable: Record = _encodable(record)
    return encodable


def render_refusal(record: Record) -> str:
    """The page of a refusal: every problem with its remedy, what was asked, and where.

    Args:
        record: from `make_refusal` or `parity.report.reading.read_any`.

    Returns:
        HTML with its style and the record itself inside.

    Raises:
        FormatError: the record lacks something, as a file changed by hand may.

    Example:
        >>> page = render_refusal(make_refusal([Problem("no such <file>", "b.onnx")], ["a.keras", "b.onnx"]))
        >>> "<title>refused: a.keras and b.onnx" in page, "no such &lt;file&gt;" in page
        (True, True)
    """
    try:
        view = {
            "record": record,
            "css": style("style.css"),
            "labels": [*record["sources"], record["title"]],
            "embedded": embed(record),
            "facts": FACTS,
            "pattern_count": 0,
        }
        return page_of(_environment(), "refusal.html", view)
    except (AttributeError, LookupError, TypeError, ValueError, UndefinedError) as error:
        raise FormatError(
            "this record does not hold what a page needs", got=f"{type(error).__name__}: {error}"
        ) from error


@cache
def _environment() -> Environment:
    return environment_with()


def _encodable(value: Any) -> Any:
    """The value with every lone surrogate, as in a file name that is not UTF-8, replaced: it could not be written."""
    if isinstance(value, dict):
        return {key: _encodable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_encodable(item) for item in value]
    return value.encode("utf-8", "replace").decode("utf-8") if isinstance(value, str) else value


__all__ = ["FACTS", "SCHEMA", "make_refusal", "render_refusal"]
