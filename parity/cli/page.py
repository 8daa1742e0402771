"""How a command's help is laid out: a page of plain text, the same on a terminal and in a file.

The text of a page (`parity.cli.pages`) is prose, and sections: a line that ends in a colon, with indented lines below it. Prose is
wrapped, sections stand as they are written. Options come in groups, which are Typer's `rich_help_panel`; examples come before them, all
other sections behind.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

_SECTION = re.compile(r"^([A-Z][^\n]*):\n((?:(?: +\S[^\n]*)?(?:\n|\Z))+)", re.MULTILINE)
_LEAST = re.compile(r"  \[x>=\d+\]|; x>=\d+")
"""What Typer says of a whole number: what it has to be at least, which its words make plain."""
_BEFORE_OPTIONS = "Examples"
_ARGUMENTS, _OPTIONS, _COMMANDS = "Arguments", "Options", "Commands"


def parts(text: str) -> tuple[str, dict[str, str]]:
    r"""The prose of a page, and its sections by their titles.

    Args:
        text: of a page.

    Example:
        >>> parts("Do it.\n\nExamples:\n  # once\n  do it\n\n  # twice\n  do it it\n")
        ('Do it.', {'Examples': '  # once\n  do it\n\n  # twice\n  do it it'})
    """
    sections = {title: body.rstrip() for title, body in _SECTION.findall(text)}
    return _SECTION.sub("", text).strip(), sections


def examples(text: str) -> list[str]:
    r"""The commands of a page's examples, without what is said of them.

    Example:
        >>> examples("Do it.\n\nExamples:\n  # once\n  do it\n")
        ['do it']
    """
    lines = parts(text)[1].get(_BEFORE_OPTIONS, "").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


@contextmanager
def _harmless_errors() -> Iterator[None]:
    """What click says of words that it does not take is said in words that no terminal or runner takes for commands."""
    try:
        yield
    except Exception as error:
        message = getattr(error, "message", None)
        if isinstance(message, str):
            from parity.terminal import harmless  # with NumPy, which help needs not

            vars(error)["message"] = harmless(message)
        raise


class PageCommand(TyperCommand):
    """A command whose help is a page."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the words; `ctx` is click's."""
        with _harmless_errors():
            return super().parse_args(ctx, args)

    def format_usage(self, ctx: Any, formatter: Any) -> None:
        """Write the line that says what may be given."""
        formatter.write_usage(ctx.command_path, _usage(self, ctx))

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the page; `ctx` and `formatter` are click's, which stands inside Typer or beside it."""
        _write(self, ctx, formatter, {})


class PageGroup(TyperGroup):
    """The command as a whole, whose help is the first page."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the words; `ctx` is click's."""
        with _harmless_errors():
            return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that is named; `ctx` is click's."""
        with _harmless_errors():
            return super().resolve_command(ctx, args)

    def format_usage(self, ctx: Any, formatter: Any) -> None:
        """Write the line that says what may be given."""
        formatter.write_usage(ctx.command_path, _usage(self, ctx))

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the page; `ctx` and `formatter` are click's, which stands inside Typer or beside it."""
        commands: list[Any] = [self.get_command(ctx, name) for name in self.list_commands(ctx)]
        sentences = [(str(command.name), str(command.help).partition("\n\n")[0]) for command in commands]
        _write(self, ctx, formatter, {_COMMANDS: sentences})


def _write(command: Any, ctx: Any, formatter: Any, commands: dict[str, list[tuple[str, str]]]) -> None:
    prose, sections = parts(str(command.help))
    command.format_usage(ctx, formatter)
    formatter.write_paragraph()
    formatter.write_text(prose)
    _stand(formatter, sections, before=True)
    for title, rows in {**commands, **_grouped(command, ctx)}.items():
        with formatter.section(_bold(title)):
            formatter.write_dl(rows)
    _stand(formatter, sections, before=False)


def _usage(command: Any, ctx: Any) -> str:
    """What stands behind the command's name: those in brackets may be left out."""
    words = ["[OPTIONS]"]
    for parameter in command.get_params(ctx):
        if parameter.param_type_name == "argument":
            word = f"{parameter.metavar}..." if parameter.nargs != 1 else str(parameter.metavar)
            words.append(word if parameter.required else f"[{word}]")
    return " ".join([*words, "COMMAND ..."] if isinstance(command, TyperGroup) else words)


def _stand(formatter: Any, sections: dict[str, str], before: bool) -> None:
    """The sections before the options, or those behind them, as they are written."""
    for title, body in sections.items():
        if (title == _BEFORE_OPTIONS) is before:
            formatter.write_paragraph()
            formatter.write_heading(_bold(title))
            formatter.write(f"{body}\n")


def _grouped(command: Any, ctx: Any) -> dict[str, list[tuple[str, str]]]:
    """What is said of each argument and option, by the titles of their groups; those without a group come last."""
    found: dict[str, list[tuple[str, str]]] = {_ARGUMENTS: []}
    rest: list[tuple[str, str]] = []
    for title, record in _records(command, ctx):
        (rest if title == _OPTIONS else found.setdefault(title, [])).append(record)
    found[_OPTIONS if len(found) == 1 else "Also"] = rest
    return {title: rows for title, rows in found.items() if rows}


def _records(command: Any, ctx: Any) -> Iterator[tuple[str, tuple[str, str]]]:
    for parameter in command.get_params(ctx):
        record = parameter.get_help_record(ctx)
        if record is None:
            continue
        # Older versions of Typer escape the bracket for Rich.
        name, words = record[0], _LEAST.sub("", record[1].replace("\\[", "["))
        if parameter.param_type_name == "argument":
            # Typer adds the type in its own words.
            yield _ARGUMENTS, (name.partition(" ")[0], words)
        else:
            yield _panel(parameter) or _OPTIONS, (name, words)


def _panel(owner: Any) -> str:
    """The group of an option or a command; Typer has a placeholder, and no text, where none was named."""
    title = getattr(owner, "rich_help_panel", None)
    return title if isinstance(title, str) else ""


def _bold(title: str) -> str:
    """Typer leaves the escapes out where the output is no terminal."""
    return typer.style(title, bold=True)


__all__ = ["PageCommand", "PageGroup", "examples", "parts"]
