"""Rows of a record as a table that says the names of its columns, and every value, once: a page with many engines is a third as large."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

TABLES = ("rows", "architecture")
"""Fields of a record that are packed where it is embedded in a page."""


def packed(rows: Any) -> Any:
    """Rows as {"columns": names, "values": every value once, "rows": places among them}; anything but dicts of the same names stays.

    Example:
        >>> packed([{"a": 1.5, "b": "yes"}, {"a": 2.5, "b": "yes"}])
        {'columns': ['a', 'b'], 'values': [1.5, 'yes', 2.5], 'rows': [[0, 1], [2, 1]]}
    """
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        return rows
    columns = list(rows[0])
    if any(list(row) != columns for row in rows):
        return rows
    places: dict[str, int] = {}
    values: list[Any] = []

    def place(value: Any) -> int:
        said = json.dumps(value)  # 1, 1.0 and True are equal, and not the same
        if said not in places:
            places[said] = len(values)
            values.append(value)
        return places[said]

    return {"columns": columns, "values": values, "rows": [[place(value) for value in row.values()] for row in rows]}


def unpacked(table: Any) -> Any:
    """The inverse of `packed`; tables of older pages hold the values themselves in their rows.

    Raises:
        ValueError: a row has more or fewer values than there are columns.
        IndexError: a row names a value that is not there.

    Example:
        >>> unpacked({"columns": ["a", "b"], "values": [1.5, "yes"], "rows": [[0, 1]]})
        [{'a': 1.5, 'b': 'yes'}]
        >>> unpacked({"columns": ["a", "b"], "rows": [[1, 2], [3, 4]]})
        [{'a': 1, 'b': 2}, {'a': 3, 'b': 4}]
    """
    if not isinstance(table, dict):
        return table
    columns: Sequence[str] = table["columns"]
    rows = table["rows"]
    if "values" in table:
        rows = [[table["values"][place] for place in row] for row in rows]
    return [dict(zip(columns, row, strict=True)) for row in rows]


__all__ = ["TABLES", "packed", "unpacked"]
