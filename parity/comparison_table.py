"""A comparison on the terminal: the verdict, the matrix and what stands out."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from parity.comparison import Comparison
from parity.diagnosis.diagnosis import Diagnosis
from parity.findings import describe
from parity.judge import LIMIT, REFERENCE, Row
from parity.terminal import console

_WIDE = 140
"""Columns of a terminal that has room for engines against each other beside engines against the reference."""

_SIGNS = {"agree": ("ok", "green"), "disagree": ("DISAGREE", "bold red"), "undecided": ("undecided", "yellow")}


def show_comparison(comparison: Comparison) -> None:
    """The verdict, the matrix and what stands out."""
    out = console()
    sign, style = _SIGNS[comparison.verdict]
    out.print(f"[{style}]{sign}[/] {escape(comparison.sentence)}", soft_wrap=True)
    if comparison.diagnosis is not None:
        _show_cause(comparison.diagnosis, out)
    pairs = list(dict.fromkeys((row.left, row.right) for row in comparison.table))
    if out.width < _WIDE:
        pairs = [pair for pair in pairs if pair[1] == REFERENCE] or pairs
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("max difference (x floor)")
    for left, right in pairs:
        table.add_column(escape(left if right == REFERENCE else f"{left} - {right}"), justify="right")
    for rule, quantity in dict.fromkeys((row.rule, row.quantity) for row in comparison.table):
        found = {(row.left, row.right): row for row in comparison.table if (row.rule, row.quantity) == (rule, quantity)}
        name = f"{quantity}, one step" if rule == "one step" else quantity
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


def _show_cause(diagnosis: Diagnosis, out: Console) -> None:
    """The likely cause, and where the evidence is."""
    if diagnosis.agrees:
        return
    sign = "[bold]likely cause:[/]" if diagnosis.found else "[bold]cause:[/]"
    out.print(f"{sign} {escape(diagnosis.cause)}", soft_wrap=True)
    out.print("evidence and repair: parity diagnose, or the report", style="dim")


def _cell(row: Row | None) -> str:
    if row is None:
        return ""
    sign, style = _SIGNS[row.verdict]
    mark = "" if row.verdict == "agree" else f" {sign}"
    return f"[{style}]{row.max_error:.1e} ({row.times_floor:.2g}x){mark}[/]"
