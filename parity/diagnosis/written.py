"""A diagnosis as plain values, for records and files."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from parity.diagnosis.diagnosis import Diagnosis
from parity.files.target import plain_errors, unfinished

SCHEMA = {"name": "parity.diagnosis", "version": 1}


def as_json(diagnosis: Diagnosis) -> dict[str, Any]:
    """A diagnosis as plain values; numbers that are none are null."""
    return {
        "schema": SCHEMA,
        "reference": diagnosis.reference,
        "suspect": diagnosis.suspect,
        "agrees": diagnosis.agrees,
        "found": diagnosis.found,
        "several": bool(diagnosis.alternatives),
        "cause": diagnosis.cause,
        "where": [asdict(place) for place in diagnosis.where],
        "first_layer": diagnosis.first_layer,
        "first_step": diagnosis.first_step,
        "evidence": [
            {one.name: _number(getattr(row, one.name)) for one in fields(row) if one.repr} for row in diagnosis.evidence
        ],
        "tried": diagnosis.tried,
        "ruled_out": list(diagnosis.ruled_out),
        "probes": [asdict(probe) for probe in diagnosis.probes],
        "repair": diagnosis.repair,
        "notes": list(diagnosis.notes),
        "left_out": diagnosis.left_out,
    }


def _number(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def save_json(diagnosis: Diagnosis, path: Path, overwrite: bool = False) -> Path:
    """Write a diagnosis as JSON.

    Raises:
        ParityError: the file exists and `overwrite` is False, or cannot be written.
    """
    with plain_errors(path, "written"), unfinished(path, overwrite) as part:
        part.write_text(json.dumps(as_json(diagnosis), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return path


__all__ = ["SCHEMA", "as_json", "save_json"]
