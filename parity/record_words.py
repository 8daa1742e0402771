"""Rows of a record in the words that every way to show one uses: in CI, on the terminal, against a baseline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from parity.judge import REFERENCE

_HOW = {"run": "over the run", "one step": "after one step", "layer": "on the inputs that it got"}


def row_name(row: Mapping[str, Any]) -> str:
    """A row's quantity and rule.

    Example:
        >>> row_name({"quantity": "h_n", "rule": "one step"})
        'h_n after one step'
    """
    return f"{row['quantity']} {_HOW.get(row['rule'], row['rule'])}"


def pair_name(row: Mapping[str, Any]) -> str:
    """Who is compared in a row.

    Example:
        >>> pair_name({"left": "torch", "right": "reference"}), pair_name({"left": "torch", "right": "keras"})
        ('torch against the float64 reference', 'torch against keras')
    """
    return f"{row['left']} against {'the float64 reference' if row['right'] == REFERENCE else row['right']}"


def cause_in_words(record: Mapping[str, Any]) -> tuple[str, str]:
    """What a record's diagnosis says, and how sure it is; two empty texts where there is nothing to explain.

    Example:
        >>> cause_in_words({"diagnosis": {"agrees": False, "found": True, "cause": "torch has its biases doubled."}})
        ('likely cause', 'torch has its biases doubled.')
    """
    cause = record.get("diagnosis")
    if cause is None or cause["agrees"]:
        return "", ""
    return "likely cause" if cause["found"] else "cause", str(cause["cause"])


__all__ = ["cause_in_words", "pair_name", "row_name"]
