"""Whether every engine decides as the reference does, as the page shows it."""

from __future__ import annotations

from typing import Any

from parity.report.matrix import Record

_WORDS = {
    "softmax": "class, the largest of {units}",
    "largest": "largest of {units} units",
    "sigmoid": "side of 0.5",
}


def decisions_view(record: Record) -> dict[str, Any] | None:
    """A line per output with what every engine decides; None where no output looks like a decision."""
    outputs = [entry for entry in record["decisions"] if entry["engines"]]
    if not outputs:
        return None
    return {
        "labels": list(dict.fromkeys(engine["engine"] for entry in outputs for engine in entry["engines"])),
        "outputs": [
            {
                **entry,
                "words": _WORDS[entry["by"]].format(units=entry["units"]),
                "engines": {engine["engine"]: {**engine, "share": _share(engine)} for engine in entry["engines"]},
            }
            for entry in outputs
        ],
        "differing": [
            {**place, "output": entry["output"], "engine": engine["engine"], "sides": _sides(place, entry["by"])}
            for entry in outputs
            for engine in entry["engines"]
            for place in engine["differing"]
        ],
        "more": sum(
            engine["total"] - engine["same"] - len(engine["differing"])
            for entry in outputs
            for engine in entry["engines"]
        ),
    }


def _share(engine: Record) -> str:
    """How often the decision is the same, in percent rounded down, so that 100 % means all.

    Example:
        >>> _share({"same": 999, "total": 1000}), _share({"same": 3, "total": 3}), _share({"same": 0, "total": 0})
        ('99.9 %', '100 %', 'none')
    """
    if not engine["total"]:
        return "none"
    tenths = 1000 * engine["same"] // engine["total"]
    return f"{tenths / 10:g} %"


def _sides(place: Record, by: str) -> list[str]:
    names = {None: "no number", 0: "below 0.5", 1: "above 0.5"} if by == "sigmoid" else {None: "no number"}
    return [names.get(side, f"unit {side}") for side in place["decided"]]


__all__ = ["decisions_view"]
