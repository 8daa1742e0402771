"""What the command line prints: the same facts as the report's first screen, plain when piped."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from parity.files import weights_alone
from parity.files.description import is_one_module
from parity.files.keras.legacy_writing import notes_of_legacy
from parity.findings import Findings, describe
from parity.forms import Target, form_in, of_the_source
from parity.judge import LIMIT, REFERENCE, Row
from parity.network import Network
from parity.returns import Returns

_WIDE = 140
"""Columns of a terminal that has room for engines against each other beside engines against the reference."""

_SIGNS = {"agree": ("ok", "green"), "disagree": ("DISAGREE", "bold red"), "undecided": ("undecided", "yellow")}


def console() -> Console:
    """Standard output; wide and without colour when it is no terminal, so that nothing is cut."""
    return Console(width=None if sys.stdout.isatty() else 200, highlight=False)


def say(text: str) -> None:
    """One line, as it is."""
    console().print(text, markup=False, soft_wrap=True)


@contextmanager
def progress() -> Iterator[Callable[[str], None] | None]:
    """A line on standard error that says what is running; nothing when that is no terminal."""
    errors = Console(stderr=True)
    if not errors.is_terminal:
        yield None
        return
    with errors.status("starting") as status:
        yield lambda line: status.update(escape(line))


def show_json(value: object) -> None:
    """Plain JSON, in ASCII: names from a file may hold what a terminal takes for commands."""
    sys.stdout.write(json.dumps(value, indent=1, allow_nan=False) + "\n")


def show_comparison(comparison: Findings) -> None:
    """The verdict, the matrix and what stands out."""
    out = console()
    sign, style = _SIGNS[comparison.verdict]
    out.print(f"[{style}]{sign}[/] {escape(comparison.sentence)}", soft_wrap=True)
    pairs = list(dict.fromkeys((row.left, row.right) for row in comparison.table))
    if out.width < _WIDE:
        pairs = [pair for pair in pairs if pair[1] == REFERENCE] or pairs
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("max difference (x floor)")
    for left, right in pairs:
        table.add_column(escape(left if right == REFERENCE else f"{left} - {right}"), justify="right")
    for rule, quantity in dict.fromkeys((row.rule, row.quantity) for row in comparison.table):
        found = {(row.left, row.right): row for row in comparison.table if (row.rule, row.quantity) == (rule, quantity)}
        name = quantity if rule == "run" else f"{quantity}, one step"
        table.add_row(escape(name), *(_cell(found.get(pair)) for pair in pairs))
    out.print(table)
    asked = comparison.asked["inputs"]
    own = "random inputs; your own: --inputs x.npz" if asked == "random" else f"inputs: {asked}"
    out.print(
        f"x: in units of the float32 floor; allowed {LIMIT:g} against the reference, {2 * LIMIT:g} between engines. {escape(own)}",
        soft_wrap=True,
        style="dim",
    )
    for label, form in comparison.forms.items():
        if not form.native:
            out.print(escape(f"composed in {label}: {'; '.join(form.composed)}"), soft_wrap=True, style="dim")
    for row in comparison.table:
        if row.verdict == "disagree" and row.right == REFERENCE:
            out.print(f"  {escape(describe(row))}", soft_wrap=True)
    for label, text in comparison.judgement.failures.items():
        out.print(f"[bold red]FAILED[/] {escape(label)}: {escape(text)}", soft_wrap=True)
    for note in comparison.notes:
        out.print(f"note: {escape(note)}", soft_wrap=True)


def _cell(row: Row | None) -> str:
    if row is None:
        return ""
    sign, style = _SIGNS[row.verdict]
    mark = "" if row.verdict == "agree" else f" {sign}"
    return f"[{style}]{row.max_error:.1e} ({row.times_floor:.2g}x){mark}[/]"


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
        yield from (f"note: {note}" for note in notes_of_legacy(network))
    if suffix in _NAMED and not is_one_module(network):
        yield f"the tensors are named after the layers; how they are connected is in parity's description: parity.to_torch({target.name!r})"


def show_explained(explained: Sequence[Returns]) -> None:
    """What layers return, value by value; what is the same for all of them once."""
    for returns in explained:
        say(returns.text(context=len(explained) == 1) + ("\n" if len(explained) > 1 else ""))
    if len(explained) > 1:
        say("\n".join(replace(explained[-1], ways=()).context()))
