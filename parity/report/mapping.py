"""Which tensor became which, as pages show it: of a comparison's record, and of a transfer."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

from jinja2 import Environment

from parity.report.in_words import shape_in_words
from parity.report.record_mapping import SAME
from parity.report.templating import environment_with, page_of, style
from parity.transferring.answer import DIGITS, Transfer

Record = dict[str, Any]

_FOLDED = 40
"""A table of more rows is folded."""

_MOST_ROWS, _MOST_LAYERS = 240, 120
"""So many rows and layers of a transfer are on its page, which stays below 150 kB."""

_UNUSED, _UNWRITTEN = "unused", "unwritten"


def mapping_view(record: Record) -> list[Record]:
    """The tables of a record's mapping, in rows that a template writes.

    Args:
        record: from `parity.report.make_record` or `read_record`.
    """
    return [_table(table, number) for number, table in enumerate(record["mapping"], 1)]


def _table(table: Record, number: int) -> Record:
    of_source = table["kind"] == "source"
    written = [_line(row, of_source) for row in table["rows"]]
    lines = [*written, *_left(table, of_source)]
    differing = [line for line in lines if line["verdict"] == "disagree"]
    others = table["unwritten"] or table["unused"]
    left_out = table["left_out"] + table["unused_left_out"] + table["unwritten_left_out"]
    return {
        **table,
        "ident": f"mapping-{number}",
        "words": _in_words(table),
        "verdict": "disagree" if table["differing"] else "undecided" if others else "agree",
        "heads": ["beside the first"] if of_source else [],
        "lines": lines,
        "differing": differing,
        "folded": len(lines) + left_out > _FOLDED,
        "left_out": left_out,
    }


def _line(row: Record, of_source: bool) -> Record:
    same = row["same"]
    verdict = "" if not of_source else "agree" if same in SAME else "disagree"
    return {**row, "shape": shape_in_words(row["shape"]), "state": "", "verdict": verdict, "more": same or ""}


def _left(table: Record, of_source: bool) -> list[Record]:
    """The rows of tensors that have no other side."""
    why = "nothing of the first source is like it" if of_source else "the target's own: nothing of the source is in it"
    return [*_alone(table["unused"], _UNUSED, "it goes nowhere"), *_alone(table["unwritten"], _UNWRITTEN, why)]


def _alone(names: Iterable[str], state: str, why: str) -> list[Record]:
    empty = {"source": "", "target": "", "shape": "", "sha256": "", "verdict": "", "more": ""}
    side = "source" if state == _UNUSED else "target"
    return [{**empty, side: name, "state": state, "transform": why} for name in names]


def _in_words(table: Record) -> str:
    """How the two sides lie beside each other, in a sentence.

    Example:
        >>> _in_words({"kind": "source", "tensors": 4, "differing": 1, "unused": [], "unwritten": [],
        ...            "unused_left_out": 0, "unwritten_left_out": 0})
        '3 of 4 tensors hold the same numbers, 1 does not.'
    """
    total, unwritten = table["tensors"], len(table["unwritten"]) + table["unwritten_left_out"]
    unused, found = len(table["unused"]) + table["unused_left_out"], total - unwritten
    rest = f" {unused} of the source {'goes' if unused == 1 else 'go'} nowhere." if unused else ""
    rest += (
        f" {unwritten} of the target {'has' if unwritten == 1 else 'have'} nothing of the source." if unwritten else ""
    )
    noun = f"tensor{'' if total == 1 else 's'}"
    if table["kind"] == "conversion":
        said = "holds" if total == 1 else "hold"
        return f"{found} of {total} {noun} {said}, bit for bit, what the layouts make of the source.{rest}"
    same, differing = found - table["differing"], table["differing"]
    if not differing:
        return f"{same} of {total} {noun} {'holds' if total == 1 else 'hold'} the same numbers.{rest}"
    return (
        f"{same} of {total} {noun} hold the same numbers, {differing} {'does' if differing == 1 else 'do'} not.{rest}"
    )


# ---- a transfer


@cache
def _environment() -> Environment:
    return environment_with()


def transfer_page(transfer: Transfer) -> str:
    """What `parity.transfer` did as a page that needs no network.

    Args:
        transfer: what is shown.

    Example:
        >>> from parity.transferring.answer import Row
        >>> row = Row("gru/kernel", "transposed", "rnn.weight_ih_l0", (6, 3), "0123456789ab", "equal name")
        >>> "rnn.weight_ih_l0" in transfer_page(Transfer((row,)))
        True
    """
    written = [
        {
            "source": row.source,
            "transform": row.transform,
            "target": row.target,
            "shape": shape_in_words(row.shape),
            "sha256": row.sha256,
            "state": "",
            "verdict": "",
            "more": row.how,
        }
        for row in transfer.rows
    ]
    left = [
        *_alone(transfer.unused, _UNUSED, "it goes nowhere"),
        *_alone(transfer.untouched, _UNWRITTEN, "it keeps its values"),
    ]
    shown = [*left[:_MOST_ROWS], *written[: max(0, _MOST_ROWS - len(left))]]
    lines = [*shown[len(left[:_MOST_ROWS]) :], *left[:_MOST_ROWS]]
    how = list(transfer.how.items())
    count = len(transfer.rows)
    view = {
        "title": f"{count} tensor{'' if count == 1 else 's'} written",
        "sentence": transfer.sentence,
        "counts": transfer.counts,
        "verdict": "undecided" if left or transfer.warnings else "agree",
        "warnings": transfer.warnings,
        "lines": lines,
        "left": left,
        "folded": len(lines) > _FOLDED,
        "left_out": count + len(left) - len(lines),
        "how": how[:_MOST_LAYERS],
        "how_left_out": max(0, len(how) - _MOST_LAYERS),
    }
    css = style("style.css", "whole.css", "mapping.css")
    return page_of(
        _environment(), "transfer.html", {"transfer": view, "css": css, "digits": DIGITS, "pattern_count": 0}
    )


__all__ = ["mapping_view", "transfer_page"]
