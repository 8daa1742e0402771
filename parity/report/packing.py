"""Rows of a record as a table that says the names of its columns once: a page with many engines is half as large."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

TABLES = ("rows", "architecture")
"""Fields of a record that are packed where it is embedded in a page."""


def packed(rows: Any) -> Any:
    """Rows as {"columns": names, "rows": values}; anything but dicts of the same names stays as it is.

    Example:
        >>> packed([{"a": 1, "b": 2}, {"a": 3, "b": 4}])
        {'columns': ['a', 'b'], 'rows': [[1, 2], [3, 4]]}
    """
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        return rows
    columns = list(rows[0])
    if any(list(row) != columns for row in rows):
        return rows
    return {"columns": columns, "rows": [list(row.values()) for row in rows]}


def unpacked(table: Any) -> Any:
    """The inverse of `packed`.

    Raises:
        ValueError: a row has more or fewer values than there are columns.

    Example:
        >>> unpacked({"columns": ["a", "b"], "rows": [[1, 2], [3, 4]]})
        [{'a': 1, 'b': 2}, {'a': 3, 'b': 4}]
    """
    if not isinstance(table, dict):
        return table
    columns: Sequence[str] = table["columns"]
    return [dict(zip(columns, row, strict=True)) for row in table["rows"]]


__all__ = ["TABLES", "packed", "unpacked"]
