"""What the command line prints: the same facts as the report's first screen, plain when piped."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from parity.errors import Problem
from parity.files import weights_alone
from parity.files.description import is_one_module
from parity.forms import Target, form_in, of_the_source
from parity.network import Network
from parity.returns import Returns

if TYPE_CHECKING:
    from rich.console import Console


def console() -> Console:
    """Standard output; wide and without colour when it is no terminal, so that nothing is cut."""
    from rich.console import Console  # only for tables: it takes longer than a small conversion

    return Console(width=None if sys.stdout.isatty() else 200, highlight=False)


_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def plain(text: str) -> str:
    r"""A text without what a terminal takes for commands, which names from a file may hold.

    Example:
        >>> plain("a\x1b[31mb")
        'a\ufffd[31mb'
    """
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text)


_COMMANDS_OF_ACTIONS = re.compile(r"^([^\S\n]*):(?=:)|#(?=#\[)", re.MULTILINE)
"""What GitHub Actions takes for a command: "::" where a line begins, behind spaces too, and the older "##[" anywhere in it."""


def harmless(text: str) -> str:
    r"""A text in which what a terminal takes for commands is written out, and in GitHub Actions what a runner does; lines stay lines.

    Example:
        >>> print(harmless("a\x1b[31mb"))
        a\x1b[31mb
    """
    shown = _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)
    if "GITHUB_ACTIONS" not in os.environ:
        return shown
    return _COMMANDS_OF_ACTIONS.sub(lambda found: r"\x23" if found[1] is None else rf"{found[1]}\x3a", shown)


def complaint(problems: Sequence[Problem]) -> str:
    r"""Problems for standard error: a line that begins inside a fact, as a name from a file can make one, stands below that fact.

    Example:
        >>> print(complaint([Problem("no such layer", "a\n  remedy: b")]))
        parity: no such layer
          where:    a
                      remedy: b
    """
    told = [
        str(
            Problem(
                *(
                    text.replace("\n", "\n" + " " * 12)
                    for text in (one.what, one.where, one.expected, one.got, one.remedy)
                )
            )
        )
        for one in problems
    ]
    return harmless("parity: " + "\n".join(told))


def say(text: str) -> None:
    """One line or more, `harmless`."""
    sys.stdout.write(f"{harmless(text)}\n")


def command(line: str) -> None:
    """A workflow command of GitHub Actions, as it is."""
    sys.stdout.write(f"{line}\n")


@contextmanager
def progress() -> Iterator[Callable[[str], None] | None]:
    """A line on standard error that says what is running, and for how long; nothing when that is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        running = shown.add_task("starting", total=None)
        yield lambda line: shown.update(running, description=escape(plain(line)))


def show_json(value: object) -> None:
    """Plain JSON, in ASCII: names from a file may hold what a terminal takes for commands, and "##[", which GitHub Actions does."""
    sys.stdout.write(json.dumps(value, indent=1, allow_nan=False).replace("##[", r"#\u0023[") + "\n")


_TARGETS: dict[str, Target] = {
    ".keras": "keras",
    ".h5": "keras",
    ".hdf5": "keras",
    ".onnx": "onnx",
    ".pt": "torch",
    ".pth": "torch",
    ".safetensors": "torch",
}


_NAMED = (".pt", ".pth", ".safetensors", ".npz")


def form_of_target(network: Network, target: Path) -> Iterator[str]:
    """What is to be known of the form that a network has in a file of a suffix; nothing where it is plainly native."""
    suffix = target.suffix.lower()
    if suffix in _TARGETS and not weights_alone(target):
        form = form_in(network, _TARGETS[suffix])
        legacy = suffix in (".h5", ".hdf5")  # holds only what Keras 2 itself says
        yield from (f"note: {note}" for note in form.notes) if legacy else str(form).splitlines()[form.native :]
        if suffix == ".keras" and not form.native:
            yield "Keras opens it after `import parity.keras_layers`"
    else:
        yield from (f"note: {note}" for note in of_the_source(network))
    if suffix in (".h5", ".hdf5") and not weights_alone(target):
        from parity.files.keras.legacy_writing import notes_of_legacy

        yield from (f"note: {note}" for note in notes_of_legacy(network))
    if suffix in _NAMED and not is_one_module(network):
        yield f"the tensors are named after the layers; how they are connected is in parity's description: parity.to_torch({target.name!r})"


def show_explained(explained: Sequence[Returns]) -> None:
    """What layers return, value by value; what is the same for all of them once."""
    for returns in explained:
        say(returns.text(context=len(explained) == 1) + ("\n" if len(explained) > 1 else ""))
    if len(explained) > 1:
        say("\n".join(replace(explained[-1], ways=()).context()))
