"""The box of the likely cause, made from the record of a diagnosis: what `print(comparison.diagnosis)` says, and the tables behind it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from parity.diagnosis.diagnosis import Evidence, cause_in_words
from parity.judge import LIMIT
from parity.report.numbers import spell

Record = dict[str, Any]

_DIFFERS, _ALIKE = "differs", "as it should"


def cause_view(cause: Mapping[str, Any] | None) -> Record | None:
    """What the box shows; None where there is no diagnosis.

    Args:
        cause: of the record.
    """
    if cause is None:
        return None
    rows = sorted(cause["evidence"], key=lambda row: (not row["fits"], _number(row["after"])))
    probes = sorted(cause["probes"], key=lambda probe: not probe["differs"])
    evidence = [] if cause["agrees"] else [{**row, "left": _share(row)} for row in rows]
    ruled_out = cause["ruled_out"] if not (cause["found"] or cause["several"] or cause["agrees"]) else []
    return {
        **cause,
        "title": "Likely cause" if cause["found"] else "Several causes" if cause["several"] else "No cause found",
        "evidence": evidence,
        "telling": "" if cause["agrees"] else _telling(cause, rows),
        "limit": spell(LIMIT),
        "probes": [
            {
                **probe,
                "verdict": "disagree" if probe["differs"] else "agree",
                "word": _DIFFERS if probe["differs"] else _ALIKE,
            }
            for probe in probes
        ],
        "differing": sum(probe["differs"] for probe in probes),
        "ruled_out": ruled_out,
        "details": _details(cause, bool(evidence), bool(ruled_out)),
    }


def _details(cause: Mapping[str, Any], evidence: bool, ruled_out: bool) -> dict[str, str]:
    """The parts of the section on the cause: their addresses, and what a link to each says."""
    tried = {"hypotheses": f"the hypotheses that were tried ({cause['tried']})"} if evidence else {}
    parts = tried or ({"why": "what was tried"} if ruled_out or (cause["tried"] and not cause["agrees"]) else {})
    words = {"repair": "how to mend it", "probes": "the probes", "cause-notes": "what else to know"}
    held = {"repair": cause["repair"], "probes": cause["probes"], "cause-notes": cause["notes"]}
    return parts | {ident: text for ident, text in words.items() if held[ident]}


def _number(value: float | None) -> float:
    """A number of the record, where those that are none stand as null."""
    return math.inf if value is None else value


def _share(row: Mapping[str, Any]) -> str:
    """How much of the difference a hypothesis leaves.

    Example:
        >>> _share({"before": 0.5, "after": 0.125}), _share({"before": 0.5, "after": 1e-7})
        ('25 %', 'below 0.1 %')
    """
    before, after = _number(row["before"]), _number(row["after"])
    if not before or not math.isfinite(before) or not math.isfinite(after):
        return "" if not math.isinf(after) else "∞"
    share = 100 * after / before
    return "none" if not share else "below 0.1 %" if share < 0.1 else f"{spell(share, 2)} %"


def _telling(cause: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """What the table of hypotheses says, in a sentence or two."""
    if not rows:
        return ""
    if not cause["found"]:
        return "They explain it equally well." if cause["several"] else "The nearest ones, none of which explains it:"
    numbers = ("before", "after", "floors")
    return " ".join(
        cause_in_words([Evidence(**{**row, **{key: _number(row[key]) for key in numbers}}) for row in rows], spell)
    )


__all__ = ["cause_view"]
