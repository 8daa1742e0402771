"""The command `parity`: words and exit codes, no maths.

Exit codes: 0 agree or done, 1 disagree, 2 bad input, unsupported or missing framework, 3 undecided.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from typing import Annotated

import typer

from parity.cli.comparing import compare, report
from parity.cli.diagnosing import diagnose
from parity.cli.explaining import explain
from parity.cli.files import convert, inspect
from parity.cli.options import BAD_INPUT, app
from parity.cli.page import PageCommand
from parity.cli.pages import PAGES
from parity.errors import ParityError

_COMMANDS: dict[str, Callable[..., None]] = {
    "inspect": inspect,
    "convert": convert,
    "compare": compare,
    "diagnose": diagnose,
    "explain": explain,
    "report": report,
}
for _name, _page in PAGES.items():
    app.command(_name, cls=PageCommand, help=_page)(_COMMANDS[_name])


def _version(wanted: bool) -> None:
    if wanted:
        from parity import __version__, terminal

        terminal.say(f"parity {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options of the command as a whole; its page is `parity.cli.pages.WHOLE`."""


@contextmanager
def _told(arguments: Sequence[str]) -> Iterator[None]:
    """Errors meant for users go to standard error, without a traceback; in GitHub Actions to the page of the run, too.

    Args:
        arguments: of the command.
    """
    try:
        yield
    except ParityError as error:
        from parity import terminal

        sys.stderr.write(f"{terminal.complaint(error.problems)}\n")
        if "GITHUB_ACTIONS" in os.environ:
            from parity import github

            for line in github.refusal_in_actions(error.problems, shlex.join(["parity", *arguments])):
                terminal.command(line)
        raise SystemExit(BAD_INPUT) from None


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; exits with a code of `EXIT_CODES` or 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(
                errors="backslashreplace"
            )  # a name from a file may hold what a terminal has no character for
    given = sys.argv[1:] if arguments is None else list(arguments)
    with _told(given):
        app(args=given, prog_name="parity")


__all__ = ["app", "main"]
