"""Embeddings: rows off by one, the row of the padding zero, the table not loaded as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from parity.deferred import Array
from parity.diagnosis.case import Case
from parity.diagnosis.fault import Fault, Place
from parity.diagnosis.faults.layers import Factor, behind, changed, layers_of, nodes_of, together
from parity.diagnosis.faults.wiring import fed
from parity.diagnosis.repair import ROLLED_DOWN, ROLLED_UP, CallRepair, OptionRepair, Repair
from parity.graph.graph import Node
from parity.network import Embedding


def embedding_faults(case: Case) -> Iterator[Fault]:
    """Every mistake with an embedding that could be made in a model; masks that it makes are a family of their own.

    Args:
        case: the right model.
    """
    yield from together(case, _of_each(case))


def _of_each(case: Case) -> Iterator[Fault]:
    for node, embedding in nodes_of(case, Embedding):
        yield from _moved(node, embedding)
    for name, embedding in layers_of(case, Embedding):
        yield from _shifted(name)
        yield from _reshaped(name, embedding)
        yield from _zero_rows(name, embedding)
        yield from _scaled(name, embedding)


def _moved(node: Node, embedding: Embedding) -> Iterator[Fault]:
    """Every integer one more or one less before it is looked up."""
    name, size = embedding.name, embedding.input_size
    for by, words, back in ((1, "one more", "x = x - 1"), (-1, "one less", "x = x + 1")):
        for ends, made in (
            ("the first and last one staying in the table", lambda x, by=by: np.clip(x + by, 0, size - 1)),
            ("in a ring", lambda x, by=by: (x + by) % size),
        ):
            yield Fault(
                "index off by one",
                f"looks up every integer as {words} ({ends})",
                Place(name, tensor="table"),
                partial(_looked_up, name=node.name, made=made),
                (CallRepair(name, "input", back, back),),
                23,
                "needs the integers at the ends",
            )


def _looked_up(case: Case, name: str, made: Callable[[Array], Array]) -> Case:
    return fed(case, name, 0, lambda x: made(x).astype(x.dtype))


def _reshaped(name: str, embedding: Embedding) -> Iterator[Fault]:
    """A table that some project keeps as (features, integers), or expects so."""
    rows, columns = embedding.held("table").shape
    if rows == columns:
        ways: tuple[tuple[str, Callable[[Array], Array]], ...] = (("transposed", lambda table: table.T),)
    else:
        ways = (
            ("read row by row from its transpose", lambda table: table.T.reshape(table.shape)),
            ("read row by row into its transpose", lambda table: table.reshape(table.shape[::-1]).T),
        )
    for words, made in ways:
        yield _of_table(
            name,
            "table reshaped",
            f"has its table {words}",
            lambda table, made=made: np.ascontiguousarray(made(table)),  # type: ignore[misc]
            (OptionRepair(name, "table", "loaded as (integers, features)"),),
            33,
        )


def _shifted(name: str) -> Iterator[Fault]:
    """Every integer takes the row before or behind its own; what the integer at the end takes depends on how it was done."""
    for ends, made in (
        (", the last one the first row", lambda table, by: np.roll(table, by, axis=0)),
        (", zeros at the end", _filled),
        (", the row at the end twice", lambda table, by: table[np.clip(np.arange(len(table)) - by, 0, len(table) - 1)]),
    ):
        rolled = "first row" in ends  # nothing is lost
        words = ends.replace("the last one the first row", "the first one the last row")
        for side, by, end, value in (("behind", -1, ends, ROLLED_DOWN), ("before", 1, words, ROLLED_UP)):
            yield _of_table(
                name,
                "index off by one",
                f"takes the row {side} the right one for every integer{end}",
                lambda table, made=made, by=by: made(table, by),  # type: ignore[misc]
                (OptionRepair(name, "table", value if rolled else "loaded"),),
                22,
            )


def _filled(table: Array, by: int) -> Array:
    found = np.roll(table, by, axis=0)
    found[0 if by > 0 else -1] = 0
    return found


def _zero_rows(name: str, embedding: Embedding) -> Iterator[Fault]:
    """padding_idx of torch makes a row zero when the layer is made; loaded tables keep it, others do not."""
    for row in (0, 1, -1):
        if embedding.input_size > 2:
            place = row % embedding.input_size
            words = f"padding_idx={place}"
            yield _of_table(
                name,
                "padding row zero",
                f"has zeros in row {place} of its table, as {words} makes them",
                lambda table, place=place: _without(table, place),  # type: ignore[misc]
                (OptionRepair(name, f"row {place} of the table", "loaded"),),
                19 if row == 0 else 31,
            )


def _without(table: Array, row: int) -> Array:
    found = np.array(table)
    found[row] = 0
    return found


def _scaled(name: str, embedding: Embedding) -> Iterator[Fault]:
    """The factor sqrt(d) of transformers."""
    root = float(np.sqrt(embedding.output_size))
    for factor, words in ((root, "times sqrt(features)"), (1 / root, "divided by sqrt(features)")):
        yield _of_table(
            name,
            "embedding scaled",
            f"has its table {words}",
            lambda table, factor=factor: np.asarray(table, np.float64) * factor,  # type: ignore[misc]
            (OptionRepair(name, "table", "loaded"),),
            30,
        )
        yield Fault(
            "embedding scaled",
            f"gives its rows {words}",
            Place(name),
            behind(name, lambda other, factor=factor: Factor(other, factor)),  # type: ignore[misc]
            (OptionRepair(name, "the factor behind it", "1", f"{factor:.4g}"),),
            rank=29,
        )


def _of_table(name: str, kind: str, cause: str, change: Callable[[Array], Array], repair: Repair, rank: int) -> Fault:
    return Fault(
        kind,
        cause,
        Place(name, tensor="table"),
        changed(name, Embedding, lambda one: replace(one, table=change(np.array(one.table)))),
        repair,
        rank,
        _SHOWS.get(kind, ""),
    )


_SHOWS = {
    "index off by one": "needs the integers at the ends",
    "padding row zero": "needs the integer of this row",
}

__all__ = ["embedding_faults"]
