"""A refused command, written where its answer was to be written: as a page, as a record, as JUnit XML."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Any

import typer

from parity.cli.options import given_on_the_line
from parity.cli.writing import written
from parity.errors import ParityError, Problem

_WRITTEN = ("report", "json", "junit", "overwrite")
"""Options that say what is written, and nothing of what is compared."""


@contextmanager
def refusals_written(
    context: typer.Context, sources: Sequence[Path], targets: Mapping[str, Path | None]
) -> Iterator[None]:
    """Where what is inside is refused, write why to the targets: with --overwrite over the answers of earlier runs, but for the baseline.

    Args:
        context: of the command.
        sources: what it compares.
        targets: by what each holds: "report", "record" or "tests"; checked already.

    Raises:
        ParityError: what the command was refused with, and what could not be written.
    """
    try:
        yield
    except ParityError as error:
        if problems := _written(error, context, sources, targets):
            raise ParityError([*error.problems, *problems]) from error
        raise


def _written(
    error: ParityError, context: typer.Context, sources: Sequence[Path], targets: Mapping[str, Path | None]
) -> list[Problem]:
    """Write the refusal to every target, say where it stands, and give what could not be written."""
    given = {what: target for what, target in targets.items() if target is not None}
    if not given:
        return []
    from parity import terminal
    from parity.junit import junit
    from parity.report import to_json
    from parity.report.refusal import make_refusal, render_refusal

    refusal = make_refusal(error.problems, [source.name for source in sources], command_again(context))
    texts: dict[str, Callable[[Any], str]] = {"report": render_refusal, "record": to_json, "tests": junit}
    baseline = context.params.get("baseline")
    kept = {what: target for what, target in given.items() if baseline is not None and _same(target, baseline)}
    for what, target in kept.items():
        terminal.say(f"{what}: {target} is the baseline, and kept")
    fresh = {what: target for what, target in given.items() if what not in kept}
    return written(refusal, fresh, texts, context.params["overwrite"])


def _same(target: Path, other: Path) -> bool:
    return target.exists() and other.exists() and target.samefile(other)


def command_again(context: typer.Context) -> str:
    """The command as it was given, without what it was to write.

    Args:
        context: of the command.
    """
    words: list[str] = []
    options: list[str] = []
    for parameter in context.command.params:
        name = str(parameter.name)
        if name in _WRITTEN or not given_on_the_line(context, name):
            continue
        value = context.params[name]
        values = [_word(one) for one in (value if isinstance(value, (list, tuple)) else [value])]
        if parameter.param_type_name == "argument":
            words += values
        elif isinstance(value, bool):
            options.append((parameter.opts if value else parameter.secondary_opts)[0])
        else:
            options += [word for one in values for word in (parameter.opts[0], one)]
    return shlex.join([*context.command_path.split(), *words, *options])


def _word(value: object) -> str:
    return str(value.value if isinstance(value, Enum) else value)


__all__ = ["command_again", "refusals_written"]
