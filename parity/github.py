"""What a run in GitHub Actions shows besides its log: annotations, and a summary of the job.

Source: https://docs.github.com/en/actions/reference/workflow-commands-for-github-actions, and for the escapes
https://github.com/actions/toolkit/blob/main/packages/core/src/command.ts.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parity.errors import Problem
from parity.judge import REFERENCE
from parity.record_words import cause_in_words, row_name
from parity.report.numbers import TIMES, spell
from parity.report.sections import what_ran
from parity.terminal import plain

if TYPE_CHECKING:
    from parity.diagnosis import Diagnosis

_LEVELS = {"agree": "notice", "undecided": "warning", "disagree": "error"}
_SIGNS = {"agree": "✅", "undecided": "❔", "disagree": "❌", "refused": "⛔"}
_MOST_ROWS = 60
"""A job's summaries share 1 MiB, and nobody reads more."""


def in_actions(environ: Mapping[str, str] | None = None) -> bool:
    """Whether this runs in GitHub Actions.

    Args:
        environ: the environment; `os.environ` if None.

    Example:
        >>> in_actions({"GITHUB_ACTIONS": "true"}), in_actions({})
        (True, False)
    """
    return (os.environ if environ is None else environ).get("GITHUB_ACTIONS") == "true"


def commands_of(record: Mapping[str, Any]) -> list[str]:
    """A record as workflow commands: an error where it disagrees, a warning where it is undecided, a notice where it agrees.

    GitHub shows ten of each kind for a step, so there is one for a comparison, and one for what got worse since a baseline.

    Args:
        record: from `parity.report.make_record` or `read_record`.

    Example:
        >>> import torch
        >>> from parity.comparison import compare
        >>> from parity.report.record import make_record
        >>> record = make_record(compare(torch.nn.GRU(3, 5), engines=["torch"]))
        >>> commands_of(record)[0][:30]
        '::notice title=parity%3A agree'
    """
    sign, cause = cause_in_words(record)
    text = "\n".join([record["sentence"], *([f"{sign.capitalize()}: {cause}"] if cause else [])])
    found = [annotation(_LEVELS[record["verdict"]], f"parity: {record['verdict']}: {record['title']}", text)]
    since = record.get("baseline")
    if since is not None and (since["worse"] or not since.get("alike", since["comparable"])):
        other = "of another model than the baseline" if since["comparable"] else "not comparable with the baseline"
        told = "worse than the baseline" if since["worse"] else other
        level = "error" if since["worse"] and since.get("fail_on_worse") else "warning"
        worse = [row["text"] for row in since["rows"] if row["change"] == "worse"]
        found.append(
            annotation(level, f"parity: {told}: {record['title']}", "\n".join([since["sentence"], *worse[:5]]))
        )
    return found


def summary(record: Mapping[str, Any]) -> str:
    """A record as Markdown for the page of a job: the verdict, the likely cause, what ran, a table of verdicts.

    Args:
        record: as for `commands_of`.

    Returns:
        Markdown, in which names are shown as they are.
    """
    sign, cause = cause_in_words(record)
    parts = [
        f"### {_SIGNS[record['verdict']]} {record['verdict']}: {markdown(record['title'])}",
        markdown(record["sentence"]),
    ]
    since = record.get("baseline")
    parts += [f"**{sign.capitalize()}:** {markdown(cause)}"] if cause else []
    parts.append(f"<sub>{markdown(' · '.join(part for part in what_ran(dict(record)) if part))}</sub>")
    parts += ["\n".join(_table(record))] if record["rows"] else []
    parts += [f"**{markdown(label)} failed:** {markdown(text)}" for label, text in record["failures"].items()]
    if since is not None:
        rows = [f"- {markdown(row['text'])}" for row in since["rows"][:_MOST_ROWS]]
        parts.append("\n".join([f"**Baseline.** {markdown(since['sentence'])}", "", *rows]).rstrip())
    return "\n\n".join(parts) + "\n"


def show_in_actions(record: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> list[str]:
    """Append the summary to the job's, and give the annotations; elsewhere than in Actions nothing is done.

    Args:
        record: as for `commands_of`.
        environ: the environment; `os.environ` if None.

    Returns:
        Lines for standard output; none elsewhere. A summary that cannot be written is said in a warning, and fails nothing.
    """
    environ = os.environ if environ is None else environ
    return _shown(commands_of(record), summary(record), environ) if in_actions(environ) else []


def refusal_in_actions(
    problems: Sequence[Problem], asked: str = "", environ: Mapping[str, str] | None = None
) -> list[str]:
    """Append what could not be done at all to the job's summary, and give the annotation: a file that is missing, a model that is refused.

    Args:
        problems: what the user is told.
        asked: the command that was refused.
        environ: the environment; `os.environ` if None.

    Returns:
        Lines for standard output; none elsewhere than in Actions.

    Example:
        >>> problems = [Problem("no such file", "model.keras")]
        >>> refusal_in_actions(problems, environ={"GITHUB_ACTIONS": "true"}), refusal_in_actions(problems, environ={})
        (['::error title=parity%3A refused::no such file%0A  where:    model.keras'], [])
    """
    environ = os.environ if environ is None else environ
    if not in_actions(environ):
        return []
    text = "\n".join(map(str, problems))
    parts = [f"### {_SIGNS['refused']} refused", *map(_problem, problems), *([fenced(asked)] if asked else [])]
    return _shown([annotation("error", "parity: refused", text)], "\n\n".join(parts) + "\n", environ)


def _problem(problem: Problem) -> str:
    facts = (("where", problem.where), ("expected", problem.expected), ("got", problem.got), ("remedy", problem.remedy))
    return "\n".join(
        [f"**{markdown(problem.what)}**", *(f"- {name}: {markdown(text)}" for name, text in facts if text)]
    )


def diagnosis_in_actions(diagnosis: Diagnosis, environ: Mapping[str, str] | None = None) -> list[str]:
    """Append a diagnosis to the job's summary, and give the annotation: an error with the cause, unless there is nothing to explain.

    Args:
        diagnosis: what `parity.diagnose` gave.
        environ: the environment; `os.environ` if None.

    Returns:
        Lines for standard output; none elsewhere than in Actions.
    """
    environ = os.environ if environ is None else environ
    if not in_actions(environ):
        return []
    verdict = "disagree" if not diagnosis.agrees else "undecided" if diagnosis.left_out else "agree"
    title = f"{diagnosis.reference} and {diagnosis.suspect}"
    return _shown(
        [annotation(_LEVELS[verdict], f"parity diagnose: {title}", diagnosis.cause)],
        _diagnosed(diagnosis, f"### {_SIGNS[verdict]} diagnosed: {markdown(title)}"),
        environ,
    )


def _diagnosed(diagnosis: Diagnosis, heading: str) -> str:
    """A diagnosis as Markdown: the cause, where it shows, what was replayed, and what mends it."""
    where = [
        f"{name}: {markdown(str(found))}"
        for name, found in (
            ("first layer that differs by itself", diagnosis.first_layer),
            ("first step that is off", diagnosis.first_step),
        )
        if found is not None
    ]
    rows = [
        f"| it {markdown(row.hypothesis)} | {markdown(row.place)} | {spell(row.before)} | {spell(row.after)} ({spell(row.floors)}{TIMES}) |"
        for row in (() if diagnosis.agrees else diagnosis.evidence[:_MOST_ROWS])
    ]
    head = [f"| mistake made in the reference | where | before | after ({TIMES} floor) |", "|---|---|---|---|"]
    parts = [heading, f"**{markdown(diagnosis.cause)}**", "\n".join(f"- {line}" for line in where)]
    parts += ["\n".join([*head, *rows])] if rows else []
    parts += ["To mend it:", fenced(diagnosis.repair.rstrip(), "python")] if diagnosis.repair else []
    parts += ["\n".join(f"- {markdown(note)}" for note in diagnosis.notes)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _shown(lines: Sequence[str], text: str, environ: Mapping[str, str]) -> list[str]:
    """The annotations, after the text is appended to the job's summary; a warning more where that cannot be written."""
    target = environ.get("GITHUB_STEP_SUMMARY")
    if target:
        try:
            with Path(target).open("a", encoding="utf-8", newline="\n") as file:
                file.write(text + "\n")
        except (OSError, ValueError) as error:
            warning = annotation("warning", "parity: no summary", f"{target} cannot be written: {error}")
            return [*lines, warning]
    return list(lines)


@contextmanager
def commands_stopped(write: Callable[[str], None], environ: Mapping[str, str] | None = None) -> Iterator[None]:
    """In Actions, have nothing that is printed inside taken for a workflow command: a name from a file may look like one.

    Args:
        write: prints a line.
        environ: the environment; `os.environ` if None.

    Example:
        >>> with commands_stopped(print, {}): print("::error::a name")
        ::error::a name
    """
    if not in_actions(environ):
        yield
        return
    token = secrets.token_hex(16)
    write(f"::stop-commands::{token}")
    try:
        yield
    finally:
        write(f"::{token}::")


def annotation(level: str, title: str, message: str, file: str = "", line: int | None = None) -> str:
    """A workflow command that shows a message on the page of a run, and beside the line of a file.

    Args:
        level: notice, warning or error.
        title, message: what is shown.
        file: a path in the repository.
        line: of it, from 1.

    Example:
        >>> annotation("error", "parity: disagree", "They differ.", "tests/test_port.py", 7)
        '::error file=tests/test_port.py,line=7,title=parity%3A disagree::They differ.'
    """
    where = {"file": file, "line": "" if line is None else str(line), "title": title}
    properties = ",".join(f"{name}={property_of(text)}" for name, text in where.items() if text)
    return f"::{level} {properties}::{data_of(message)}"


def fenced(code: str, language: str = "") -> str:
    r"""Code as it stands, in Markdown: behind a fence that is longer than any in it.

    Example:
        >>> fenced("a\n```\nb")
        '````\na\n```\nb\n````'
    """
    longest = max((len(run) for run in re.findall("`+", code)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{plain(code)}\n{fence}"


def data_of(text: str) -> str:
    r"""The message of a workflow command.

    Example:
        >>> data_of("50 %\nand: more")
        '50 %25%0Aand: more'
    """
    lines = "%0D".join(plain(part.replace("%", "%25")) for part in text.split("\r"))
    return lines.replace("\n", "%0A")


def property_of(text: str) -> str:
    """A property of a workflow command.

    Example:
        >>> property_of("a: b, c")
        'a%3A b%2C c'
    """
    return data_of(text).replace(":", "%3A").replace(",", "%2C")


def markdown(text: str) -> str:
    r"""A text that shows as it is in GitHub's Markdown, in a cell of a table too.

    Example:
        >>> markdown("a|b <i> *c*\n# d")
        'a\\|b &lt;i&gt; \\*c\\* # d'
        >>> markdown("# no heading"), markdown("1. no list")
        ('\\# no heading', '1\\. no list')
    """
    line = " ".join(plain(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").split())
    line = re.sub(r"([\\`*_{}\[\]|~$@])", r"\\\1", line)
    return re.sub(r"^(\d*)([#+.-])", r"\1\\\2", line)


def _table(record: Mapping[str, Any]) -> Iterator[str]:
    """A line per quantity and rule, a column per engine, all against the reference; what does not agree first where there are many."""
    rows = [row for row in record["rows"] if row["right"] == REFERENCE] or record["rows"]
    lines: dict[tuple[str, str], dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        lines.setdefault((row["rule"], row["quantity"]), {})[_column(row)] = row
    columns = list(dict.fromkeys(_column(row) for row in rows))
    found = list(lines.values())
    shown = found
    if len(found) > _MOST_ROWS:
        order = list(_LEVELS)
        shown = sorted(found, key=lambda cells: -max(order.index(row["verdict"]) for row in cells.values()))[
            :_MOST_ROWS
        ]
    yield f"| max difference ({TIMES} floor) | {' | '.join(map(markdown, columns))} |"
    yield f"|---|{'---|' * len(columns)}"
    for cells in shown:
        name = markdown(row_name(next(iter(cells.values()))))
        yield f"| {name} | {' | '.join(_cell(cells.get(column)) for column in columns)} |"
    if len(found) > len(shown):
        yield f"\n{len(found) - len(shown)} more quantities are not shown; the record has them."


def _column(row: Mapping[str, Any]) -> str:
    return str(row["left"]) if row["right"] == REFERENCE else f"{row['left']} - {row['right']}"


def _cell(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return ""
    mark = _SIGNS[row["verdict"]]
    return (
        f"{mark} {markdown(row['note'])}"
        if row["note"]
        else f"{mark} {spell(row['max_error'])} ({spell(row['times_floor'])}{TIMES})"
    )


__all__ = [
    "annotation",
    "commands_of",
    "commands_stopped",
    "data_of",
    "diagnosis_in_actions",
    "fenced",
    "in_actions",
    "markdown",
    "property_of",
    "refusal_in_actions",
    "show_in_actions",
    "summary",
]
