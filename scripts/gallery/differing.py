"""What differs between a report that is kept and the same report made again, where not every bit can be the same.

The same must be: words, verdicts, shapes, names, counts, places of what is wrong, hashes of weights and inputs, and every number that
the float64 reference has computed, the floor among them. Left out is the environment: `environment`, `settings` and `details`.

What an engine computes depends in its last bits on its kernels: on the processor, the BLAS, the number of threads. Measured on all
stories, kernels for AVX2 against kernels for SSE4 alone (of torch, TensorFlow, oneDNN, OpenBLAS and NumPy), an error moves by at most
0.6 floors (a norm; 0.2 elsewhere), where 2 are a mistake, a value by at most 3e-7, and an error beyond the limit by 0.22 % of it.
Within the limit the place of the largest error, and which engine has it, is where rounding happens to be largest; beyond it the place
of the largest difference must be the same, while that of the largest quotient, and of a percentile, may move between near equals.
Where a chaotic recurrence leaves the verdict undecided, nothing but times floor says anything of an error.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gallery.index import drawn_of, record_of
from parity.report.record import Record

FLOORS = 1.0
"""How far an error may move, in times floor."""

ROUNDING = 1e-6
"""How far an engine's value, or its error, may move."""

SHARE = 5e-3
"""How far an error far beyond the limit may move, as a share of it."""

PRINTED = 1e-2
"""As `SHARE`, of numbers that stand in a sentence with three digits."""

REFERENCE = 1e-9
"""The float64 reference, as a share: a record has at most nine of its digits, or all of them."""

ENVIRONMENT = frozenset({"environment", "settings", "details"})
NOISE = frozenset({"place", "worst", "values", "quantity", "text"})
"""Of an error within the limit: where it is largest, what stands there, and the words for it."""
NEAR_EQUALS = frozenset({"worst", "text"})
"""Of an error beyond the limit: where it is largest against the floor, and the words for that."""

_IN_FLOORS = frozenset({"times_floor", "floors", "curve"})
_ERRORS = frozenset(
    {"max_error", "error", "before", "after", "padding_error", "largest", "margin", "values", "engines"}
)
_NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?:e[+-]?\d+)?(?=x\b|(?!\w|\.\d))")
_FLOORS_FOLLOW = re.compile(r"x\b| times the float32 floor| floors?\b")
_SHOWN = 60


def differing_pages(kept: Path, made: Path) -> list[str]:
    """What differs between two pages of the same story, in sentences; none where all is well.

    Args:
        kept: the page that is checked; it must also be what is drawn today of the record in it.
        made: the same, made just now.
    """
    if not kept.is_file():
        return ["is not there"]
    if kept.read_bytes() == made.read_bytes():
        return []
    record, again = record_of(kept), record_of(made)
    if record is None or again is None:
        return ["is not the same, byte for byte; a page without a record has no measured numbers"]
    found = differing(record, again)
    if drawn_of(record) != kept.read_text(encoding="utf-8"):
        found.append("is not what is drawn of the record in it; if the templates have changed: --redraw")
    return found


def differing(kept: Record, made: Record) -> list[str]:
    """What differs between two records of the same story, each with its place.

    Example:
        >>> kept = {"verdict": "agree", "rows": [{"limit": 2.0, "times_floor": 0.31, "total": 48}]}
        >>> differing(kept, {"verdict": "agree", "rows": [{"limit": 2.0, "times_floor": 0.35, "total": 64}]})
        ['rows[0].total: 48, made again 64']
    """
    limit = kept.get("judging", {}).get("limit", 0.0)
    chaotic = kept["verdict"] == made["verdict"] == "undecided"
    return list(_Walk(limit, math.inf if chaotic else ROUNDING, kept["verdict"]).of(kept, made))


@dataclass(frozen=True)
class _Walk:
    """Two records gone through side by side.

    Args:
        limit: times floor that are allowed against the reference.
        rounding: how far errors may move.
        verdict: of what is kept.
    """

    limit: float
    rounding: float
    verdict: str

    def of(self, kept: Any, made: Any, where: str = "", key: str = "") -> Iterator[str]:
        """What differs here and below; `key` is the last one on the way that says what kind of number this is."""
        if isinstance(kept, dict) and isinstance(made, dict):
            left_out = ENVIRONMENT | self._noise(kept, made, key)
            for name in [name for name in (*kept, *(made.keys() - kept.keys())) if name not in left_out]:
                place = f"{where}.{name}" if where else name
                if name not in kept or name not in made:
                    yield f"{place}: {'missing' if name not in kept else 'there'}, made again the opposite"
                else:
                    measured = name in _IN_FLOORS or name in _ERRORS or name == "map"
                    yield from self.of(kept[name], made[name], place, name if measured else key)
        elif isinstance(kept, list) and isinstance(made, list) and len(kept) == len(made):
            for index, (one, other) in enumerate(zip(kept, made, strict=True)):
                yield from self.of(one, other, f"{where}[{index}]", key)
        elif not self._same(kept, made, key):
            yield f"{where}: {_short(kept)}, made again {_short(made)}"

    def _noise(self, kept: Record, made: Record, key: str) -> frozenset[str]:
        """The keys of what depends on nothing but rounding."""
        if key == "map" and "engine" in kept and self.verdict != "disagree":
            return frozenset({"engine"})  # the one with the largest error, of several that agree
        both: list[Any] = [record.get("times_floor") for record in (kept, made)]
        if not all(isinstance(ratio, float) for ratio in both):
            return frozenset()
        within = max(both) <= kept.get("limit", self.limit)
        return NOISE if within or "percent" in kept else NEAR_EQUALS

    def _same(self, kept: Any, made: Any, key: str) -> bool:
        if type(kept) is not type(made):
            return False
        if isinstance(kept, str):
            return self._same_text(kept, made)
        if not isinstance(kept, float):
            return bool(kept == made)
        if key in _IN_FLOORS:
            return _close(kept, made, FLOORS, SHARE)
        if key in _ERRORS:
            return _close(kept, made, self.rounding, SHARE)
        return math.isclose(kept, made, rel_tol=REFERENCE)

    def _same_text(self, kept: str, made: str) -> bool:
        """Whether two texts say the same, their measured numbers within bounds and all other numbers equal."""
        if kept == made:
            return True
        if _NUMBER.split(kept) != _NUMBER.split(made):
            return False
        for one, other in zip(_NUMBER.finditer(kept), _NUMBER.finditer(made), strict=True):
            in_floors = _FLOORS_FOLLOW.match(kept, one.end()) is not None
            measured = in_floors or re.search("[.e]", one[0]) is not None
            bound = FLOORS if in_floors else self.rounding
            if one[0] != other[0] and not (measured and _close(float(one[0]), float(other[0]), bound, PRINTED)):
                return False
        return True


def _close(one: float, other: float, absolute: float, share: float) -> bool:
    return abs(one - other) <= absolute + share * max(abs(one), abs(other))


def _short(value: Any) -> str:
    text = f"{len(value)} items" if isinstance(value, list | dict) else str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]} …"


__all__ = ["FLOORS", "REFERENCE", "ROUNDING", "SHARE", "differing", "differing_pages"]
