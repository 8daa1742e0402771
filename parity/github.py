"""What a run in GitHub Actions shows besides its log: annotations, and a summary of the job.

Source: https://docs.github.com/en/actions/reference/workflow-commands-for-github-actions, and for the escapes
https://github.com/actions/toolkit/blob/main/packages/core/src/command.ts.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from parity.judge import REFERENCE
from parity.record_words import cause_in_words, row_name
from parity.report.numbers import TIMES, spell
from parity.report.sections import what_ran
from parity.terminal import plain

_LEVELS = {"agree": "notice", "undecided": "warning", "disagree": "error"}
_SIGNS = {"agree": "✅", "undecided": "❔", "disagree": "❌"}
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
    found = [_command(_LEVELS[record["verdict"]], f"parity: {record['verdict']}: {record['title']}", text)]
    since = record.get("baseline")
    if since is not None and (since["worse"] or not since["comparable"]):
        told = "worse than the baseline" if since["comparable"] else "not comparable with the baseline"
        worse = [row["text"] for row in since["rows"] if row["change"] == "worse"]
        found.append(
            _command("warning", f"parity: {told}: {record['title']}", "\n".join([since["sentence"], *worse[:5]]))
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
    if not in_actions(environ):
        return []
    lines = commands_of(record)
    target = environ.get("GITHUB_STEP_SUMMARY")
    if target:
        try:
            with Path(target).open("a", encoding="utf-8", newline="\n") as file:
                file.write(summary(record) + "\n")
        except (OSError, ValueError) as error:
            lines.append(_command("warning", "parity: no summary", f"{target} cannot be written: {error}"))
    return lines


def refusal_in_actions(message: str, environ: Mapping[str, str] | None = None) -> list[str]:
    """The annotation for what could not be done at all: a file that is missing, a model that is refused.

    Args:
        message: what the user is told.
        environ: the environment; `os.environ` if None.

    Returns:
        Lines for standard output; none elsewhere than in Actions.

    Example:
        >>> refusal_in_actions("no such file", {"GITHUB_ACTIONS": "true"}), refusal_in_actions("no such file", {})
        (['::error title=parity::no such file'], [])
    """
    return [_command("error", "parity", message)] if in_actions(environ) else []


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


def _command(level: str, title: str, message: str) -> str:
    return f"::{level} title={property_of(title)}::{data_of(message)}"


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
    "commands_of",
    "commands_stopped",
    "data_of",
    "in_actions",
    "markdown",
    "property_of",
    "refusal_in_actions",
    "show_in_actions",
    "summary",
]
