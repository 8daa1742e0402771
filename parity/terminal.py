"""What the command line prints: the same facts as the report's first screen, plain when piped."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from parity import inspected_layers, inspected_text, inspecting
from parity.findings import Findings, describe
from parity.forms import Target, form_in
from parity.judge import LIMIT, REFERENCE, Row
from parity.network import Network
from parity.returns import Returns
from parity.sources import Opened

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
    ".onnx": "onnx",
    ".pt": "torch",
    ".pth": "torch",
    ".safetensors": "torch",
}


def form_of_target(network: Network, target: Path) -> Iterator[str]:
    """What is to be known of the form that a network has in a file of a suffix; nothing where it is plainly native."""
    suffix = target.suffix.lower()
    if suffix not in _TARGETS:
        return
    form = form_in(network, _TARGETS[suffix])
    yield from str(form).splitlines()[form.native :]
    if suffix == ".keras" and not form.native:
        yield "Keras opens it after `import parity.keras_layers`"


def show_explained(explained: Sequence[Returns]) -> None:
    """What layers return, value by value; what is the same for all of them once."""
    for returns in explained:
        say(returns.text(context=len(explained) == 1) + ("\n" if len(explained) > 1 else ""))
    if len(explained) > 1:
        say("\n".join(replace(explained[-1], ways=()).context()))


def description(opened: Opened) -> dict[str, Any]:
    """What `inspect --json` prints."""
    return inspecting.description(opened)


def show_network(opened: Opened) -> None:
    """A model file in tables."""
    out, shown = console(), inspecting.description(opened)
    size = inspected_text.size_text(shown["bytes"])
    out.print(
        Text.assemble((inspected_text.printable(opened.label), "bold"), f"  {size}" if size else ""), soft_wrap=True
    )
    _draw(out, _facts(inspected_text.head(shown)))
    _show_layers(out, inspected_layers.rows(shown))
    blocks, left_out = inspected_text.blocks(shown)
    for block in blocks:
        out.print()
        _draw(out, Text(block.title, "bold"))
        weights = [("weights" if not number else "", line) for number, line in enumerate(_weight_lines(block))]
        _draw(out, _facts((*block.facts, *weights)))
    if left_out:
        out.print(f"\n... and {left_out} more recurrent layers: --json has them all", soft_wrap=True)
    together = inspected_text.together(shown)
    if together:
        out.print(Text("\nall of them together", "bold"))
        _draw(out, _facts(together))
    if shown["partial"]:
        _show_partial(out, shown)
    _show_cautions(out, shown)


def _draw(out: Console, item: RenderableType) -> None:
    """Print something without the spaces that fill its lines."""
    with out.capture() as capture:
        out.print(item)
    for line in Text.from_ansi(capture.get().removesuffix("\n")).split("\n", allow_blank=True):
        line.rstrip()
        out.print(line, soft_wrap=True)


def _facts(facts: Sequence[tuple[str, str]]) -> Table:
    """Titles and texts, side by side."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for title, text in facts:
        table.add_row(Text(f"  {title}", "dim"), Text(text))
    return table


def _show_layers(out: Console, rows: Sequence[inspected_layers.Row]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("layer", "what", "in", "out", "options"):
        table.add_column(title, overflow="fold", justify="right" if title in ("in", "out") else "left")
    for row in rows:
        table.add_row(*map(Text, (row.layer, row.what, row.given, row.gives, row.options)))
    out.print()
    _draw(out, table if rows else "no layers")


def _weight_lines(block: inspected_text.Block) -> Iterator[str]:
    """The weights of a recurrent layer: where from, then one line each."""
    yield block.layout
    names, shapes = (max(len(tensor[column]) for tensor in block.tensors) for column in (0, 1))
    for name, shape, axes in block.tensors:
        yield f"{name:<{names}}  {shape:<{shapes}} = ({axes})"


def _show_partial(out: Console, shown: dict[str, Any]) -> None:
    """Why a network is partial, and how to take its recurrent layers alone."""
    out.print(Text("\ncannot be converted as a whole, because", "bold yellow"))
    _draw(out, _facts([("-", line) for line in inspected_text.obstacles(shown)]))
    for remedy in inspected_text.remedies(shown):
        _draw(out, _facts([("to do:", remedy)]))
    alone = shown["alone"]
    if not alone:
        out.print(Text("no recurrent layer of it could be read"))
        return
    count = (
        "its recurrent layer can be taken alone" if len(alone) == 1 else "its recurrent layers can be taken one by one"
    )
    _draw(out, Text(f"{count}: {inspected_text.names_text(alone, 8)}"))
    for command in inspected_text.commands(shown):
        out.print(Text(f"  {command}"), soft_wrap=True)


def _show_cautions(out: Console, shown: dict[str, Any]) -> None:
    """What to look out for, the most important first."""
    lines = inspected_text.caution_lines(shown)
    if not lines:
        return
    out.print(Text("\nwhat to look out for when this moves", "bold"))
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(justify="right")
    table.add_column(overflow="fold")
    for number, (what, why, remedy) in enumerate(lines, 1):
        table.add_row(Text(f"{number}."), Text.assemble((what, "bold"), f"\n{why} {remedy}"))
    _draw(out, table)
    if any("off by" in why for _, why, _ in lines):
        _draw(out, Text(f"sizes of errors: measured on {shown['measured_on']}", "dim"))
