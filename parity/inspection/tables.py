"""`parity inspect` as tables: what `parity.inspection` says of a source, drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from parity.inspection import description, layers, text
from parity.sources import Opened
from parity.terminal import console


def show(opened: Opened) -> None:
    """A model file in tables."""
    out, shown = console(), description(opened)
    size = text.size_text(shown["bytes"])
    out.print(Text.assemble((text.printable(opened.label), "bold"), f"  {size}" if size else ""), soft_wrap=True)
    _draw(out, _facts(text.head(shown)))
    _show_layers(out, layers.rows(shown))
    blocks, left_out = text.blocks(shown)
    for block in blocks:
        out.print()
        _draw(out, Text(block.title, "bold"))
        weights = [("weights" if not number else "", line) for number, line in enumerate(_weight_lines(block))]
        _draw(out, _facts((*block.facts, *weights)))
    if left_out:
        out.print(f"\n... and {left_out} more recurrent layers: --json has them all", soft_wrap=True)
    together = text.together(shown)
    if together:
        out.print(Text("\nall of them together", "bold"))
        _draw(out, _facts(together))
    if shown["partial"]:
        _show_partial(out, shown)
    elif shown["as_code"]:
        out.print(Text("\nmore than a chain of layers: it moves as a whole, as code", "bold"))
    for command in text.as_code(shown):
        out.print(Text(f"  {command}"), soft_wrap=True)
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
    for title, words in facts:
        table.add_row(Text(f"  {title}", "dim"), Text(words))
    return table


def _show_layers(out: Console, rows: Sequence[layers.Row]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("layer", "what", "in", "out", "options"):
        table.add_column(title, overflow="fold", justify="right" if title in ("in", "out") else "left")
    for row in rows:
        table.add_row(*map(Text, (row.layer, row.what, row.given, row.gives, row.options)))
    out.print()
    _draw(out, table if rows else "no layers")


def _weight_lines(block: text.Block) -> Iterator[str]:
    """The weights of a recurrent layer: where from, then one line each."""
    yield block.layout
    names, shapes = (max(len(tensor[column]) for tensor in block.tensors) for column in (0, 1))
    for name, shape, axes in block.tensors:
        yield f"{name:<{names}}  {shape:<{shapes}} = ({axes})"


def _show_partial(out: Console, shown: dict[str, Any]) -> None:
    """Why a network is partial, and how to take its recurrent layers alone."""
    out.print(Text("\ncannot be converted as a whole, because", "bold yellow"))
    _draw(out, _facts([("-", line) for line in text.obstacles(shown)]))
    for remedy in text.remedies(shown):
        _draw(out, _facts([("to do:", remedy)]))
    alone = shown["alone"]
    if not alone:
        out.print(Text("no recurrent layer of it could be read"))
        return
    count = (
        "its recurrent layer can be taken alone" if len(alone) == 1 else "its recurrent layers can be taken one by one"
    )
    _draw(out, Text(f"{count}: {text.names_text(alone, 8)}"))
    for command in text.commands(shown):
        out.print(Text(f"  {command}"), soft_wrap=True)


def _show_cautions(out: Console, shown: dict[str, Any]) -> None:
    """What to look out for, the most important first."""
    lines = text.caution_lines(shown)
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
