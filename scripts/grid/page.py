"""The page drawn from a record of the grid: one HTML file without a network or a script."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from parity.report.templating import environment_with, page_of, style

Record: TypeAlias = dict[str, Any]

NAMES = {"keras": "Keras", "torch": "torch", "onnx": "ONNX"}
STATUSES = {
    "native": "exact, in the target's own layers",
    "composed": "exact, as a composition of several parts",
    "refused": "not converted, for the reason given",
    "needless": "not converted, though it can be said exactly",
    "wrong": "the numbers differ",
    "crashed": "ended in an error that nobody meant",
}
BAD = ("needless", "wrong", "crashed")
_REASON = 150


@dataclass(frozen=True)
class Family:
    """The configurations of one family of one framework.

    Args:
        anchor: of the section.
        framework, name: in words.
        targets: the columns.
        rows: configurations of the record.
        counts: of each status over all columns.
    """

    anchor: str
    framework: str
    name: str
    targets: tuple[str, ...]
    rows: tuple[Record, ...]
    counts: dict[str, int]


def render(record: Record) -> str:
    """The page of a record made by scripts/matrix.py."""
    environment = environment_with(Path(__file__).parent, short=short)
    statuses = Counter(one["status"] for row in record["configurations"] for one in row["outcomes"])
    view = {
        "css": style("style.css", "mapping.css"),
        "record": record,
        "names": NAMES,
        "statuses": {name: text for name, text in STATUSES.items() if statuses[name] or name not in BAD},
        "totals": {name: statuses[name] for name in STATUSES},
        "bad": sum(statuses[name] for name in BAD),
        "padded": sum(one["padding"] for row in record["configurations"] for one in row["outcomes"]),
        "families": tuple(_families(record)),
        "reasons": tuple(_reasons(record)),
    }
    return page_of(environment, "page.html", view)


def short(text: str) -> str:
    """A reason cut to what a cell of the table can hold.

    Example:
        >>> len(short("x" * 500))
        151
    """
    return text if len(text) <= _REASON else f"{text[:_REASON].rstrip()}…"


def _families(record: Record) -> Iterator[Family]:
    groups: dict[tuple[str, str], list[Record]] = {}
    for row in record["configurations"]:
        groups.setdefault((row["framework"], row["family"]), []).append(row)
    for (framework, name), rows in groups.items():
        targets = tuple(one["target"] for one in rows[0]["outcomes"])
        found = Counter(one["status"] for row in rows for one in row["outcomes"])
        counts = {status: found[status] for status in STATUSES if found[status]}
        anchor = f"{framework}-{name.replace(' ', '-')}"
        yield Family(anchor, framework, name, targets, tuple(rows), counts)


def _reasons(record: Record) -> Iterator[tuple[str, str, str, list[tuple[str, int]]]]:
    """What was composed or not converted, and how often for which reason."""
    found: dict[tuple[str, str, str], Counter[str]] = {}
    for row in record["configurations"]:
        for one in row["outcomes"]:
            if one["reason"]:
                key = (row["framework"], one["target"], one["status"])
                found.setdefault(key, Counter())[one["reason"]] += 1
    for (source, target, status), counted in sorted(found.items()):
        yield source, target, status, sorted(counted.items(), key=lambda item: (-item[1], item[0]))
