"""A comparison as a JSON record: everything the page draws, and nothing else."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from parity.comparison import Comparison, describe
from parity.errors import FormatError
from parity.floor import LOST, Band
from parity.judge import LIMIT
from parity.layouts import GATE_MEANINGS, LAYOUTS
from parity.network import Dense, Embedding, Layer, Recurrent
from parity.recurrent import Array
from parity.reference import Float64
from parity.returns import explain_layer

SCHEMA = {"name": "parity.comparison", "version": 1}

Record = dict[str, Any]

_BINS, _MAP_ROWS, _MAP_COLUMNS = 240, 24, 96
_PACKAGES = ("keras-torch-parity", "numpy", "keras", "tensorflow", "torch", "onnx", "onnxruntime")


def make_record(comparison: Comparison, measures: Sequence[Mapping[str, Any]] = ()) -> Record:
    """Everything a reader needs, as plain JSON values.

    Args:
        comparison: what to record.
        measures: tables of the caller's own to show beside the comparison, such as a forecast's error per engine: each a dict of
            "title" and "rows", the rows being dicts of "label" and "value".

    Returns:
        The record; numbers that are not finite stand as the strings "nan" and "inf".
    """
    floor = comparison.judgement.floor
    network = comparison.sources[0].network
    batch, time = comparison.inputs.shape[:2]
    record: Record = {
        "schema": SCHEMA,
        "verdict": comparison.verdict,
        "sentence": comparison.sentence,
        "title": " and ".join(source.label for source in comparison.sources),
        "sources": [
            {
                "label": source.label,
                "origin": source.network.origin,
                "details": source.network.details,
                "layers": [_layer(layer) for layer in source.network.layers],
            }
            for source in comparison.sources
        ],
        "engines": [
            {
                "label": label,
                "engine": result.engine,
                "source": comparison.participants[label][0].label if label in comparison.participants else comparison.sources[0].label,
                "settings": result.settings,
                "returned": [asdict(value) for value in result.returned],
            }
            for label, result in comparison.results.items()
        ],
        "inputs": {
            "batch": batch,
            "time": time,
            "features": list(comparison.inputs.shape[2:]),
            "sha256": hashlib.sha256(np.ascontiguousarray(comparison.inputs).tobytes()).hexdigest(),
            **comparison.asked,
        },
        "judging": {
            "limit": LIMIT,
            "replicas": floor.replicas,
            "one_steps": len(comparison.judgement.steps.samples),
            "horizon": floor.horizon,
            "lost": LOST,
        },
        "rows": [{**asdict(row), "text": describe(row)} for row in comparison.table],
        "profile": _profile(comparison),
        "map": _map(comparison),
        "gates": _gates({spec.kind for spec in network.specs.values()}),
        "conventions": [_conventions(layer, batch, time) for layer in network.recurrent],
        "environment": _environment(),
        "again": _again(comparison),
        "notes": list(comparison.notes),
        "measures": [dict(table) for table in measures],
    }
    plain: Record = _plain(record)
    return plain


def read_record(path: Path) -> Record:
    """Read a record that was saved.

    Raises:
        FormatError: not JSON, or not a record of this version.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise FormatError("this is no record", str(path), "JSON written by parity compare --json", str(error)) from error
    schema = record.get("schema") if isinstance(record, dict) else None
    if schema != SCHEMA:
        raise FormatError("this is no record of a version known here", str(path), json.dumps(SCHEMA), json.dumps(schema))
    return dict(record)


def to_json(record: Record) -> str:
    """The record as text, the same for the same record."""
    return json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _layer(layer: Layer) -> Record:
    facts: Record = {"name": layer.name, "family": type(layer).__name__, "input": layer.input_size, "output": layer.output_size}
    if isinstance(layer, Recurrent):
        facts |= {
            "kind": layer.spec.kind,
            "units": layer.spec.hidden_size,
            "directions": list(layer.spec.directions),
            "bias": layer.has_bias,
            "return_sequences": layer.return_sequences,
        }
    elif isinstance(layer, Dense):
        facts |= {"activation": layer.activation, "bias": layer.bias is not None}
    elif isinstance(layer, Embedding):
        facts |= {"vocabulary": layer.input_size}
    return facts


def _profile(comparison: Comparison) -> Record | None:
    """Error over time of every participant against the floor, in the last recurrent layer's sequence.

    Every bin holds the largest value in it; "comparable" is the share of it that lies before the horizon, "times_floor" the largest
    error in floors there, which is what the verdict rests on.
    """
    band = _sequence_band(comparison)
    if band is None:
        return None
    time = band.reference.shape[1]
    starts = np.unique(np.linspace(0, time, min(time, _BINS), endpoint=False, dtype=int))
    floor = np.broadcast_to(band.floor, (*band.reference.shape[:-1], 1)).max(axis=(0, 2, 3))
    comparable = np.broadcast_to(band.comparable, (*band.reference.shape[:-1], 1)).mean(axis=(0, 2, 3))
    engines, ratios = {}, {}
    for label, sequence in _sequences(comparison, band).items():
        error = np.abs(sequence - band.reference).max(axis=(0, 2, 3))
        engines[label] = _short(np.maximum.reduceat(error, starts))
        ratios[label] = _short(np.fmax.reduceat(np.fmax.reduce(_floors(sequence, band), axis=(0, 2, 3)), starts))
    return {
        "quantity": band.quantity.name,
        "time": time,
        "steps": starts.tolist(),
        "floor": _short(np.maximum.reduceat(floor, starts)),
        "comparable": _short(np.add.reduceat(comparable, starts) / np.diff(starts, append=time)),
        "engines": engines,
        "times_floor": ratios,
    }


def _map(comparison: Comparison) -> Record | None:
    """Where in batch x time: error in floors, of the participant that is furthest off; None where nothing is comparable."""
    band = _sequence_band(comparison)
    if band is None:
        return None
    sequences = _sequences(comparison, band)
    if not sequences:
        return None
    ratios = {label: np.fmax.reduce(_floors(sequence, band), axis=(2, 3)) for label, sequence in sequences.items()}
    label = max(ratios, key=lambda name: float(np.fmax.reduce(ratios[name], axis=None, initial=-1.0)))
    ratio = ratios[label]
    rows, columns = (
        np.unique(np.linspace(0, length, min(length, most), endpoint=False, dtype=int))
        for length, most in zip(ratio.shape, (_MAP_ROWS, _MAP_COLUMNS), strict=True)
    )
    pooled = np.fmax.reduceat(np.fmax.reduceat(ratio, rows, axis=0), columns, axis=1)
    return {
        "engine": label,
        "quantity": band.quantity.name,
        "rows": rows.tolist(),
        "steps": columns.tolist(),
        "batch": ratio.shape[0],
        "time": ratio.shape[1],
        "times_floor": [_short(row) for row in pooled],
    }


def _floors(sequence: Array, band: Band) -> Float64:
    """Error in floors as it is judged: infinite where not finite, NaN where it is not comparable."""
    error = np.abs(sequence.astype(np.float64) - band.reference)
    finite = np.isfinite(error)
    ratio = np.where(finite, error / np.maximum(band.floor, np.finfo(float).tiny), np.inf)
    judged: Float64 = np.where(np.broadcast_to(band.comparable, ratio.shape) | ~finite, ratio, np.nan)
    return judged


def _short(values: Float64) -> list[float | None]:
    """Four digits, as a drawing needs; None for NaN."""
    return [None if math.isnan(value) else float(f"{value:.4g}") for value in values.tolist()]


def _sequence_band(comparison: Comparison) -> Band | None:
    bands = [band for name, band in comparison.judgement.floor.bands.items() if name.endswith("sequence")]
    return bands[-1] if bands else None


def _sequences(comparison: Comparison, band: Band) -> dict[str, Array]:
    last = comparison.sources[0].network.recurrent[-1].name
    found = {label: result.layers[last].sequence for label, result in comparison.judgement.results.items()}
    return {label: array for label, array in found.items() if array is not None and array.shape == band.reference.shape}


def _gates(kinds: set[str]) -> Record:
    """Where each gate sits in each framework, from the table."""
    return {
        kind: {
            "meanings": GATE_MEANINGS[layout.kind],
            "frameworks": {
                row.framework: {
                    "own": list(row.own_gates),
                    "canonical": list(row.gates),
                    "tensors": [{"name": t.name, "axes": t.axes, "members": list(t.members)} for t in row.tensors],
                }
                for row in LAYOUTS.values()
                if row.kind == kind
            },
        }
        for layout in LAYOUTS.values()
        for kind in [layout.kind]
        if kind in kinds
    }


def _conventions(layer: Recurrent, batch: int, time: int) -> Record:
    """How the layer's values correspond, for the Keras layer that shows all of them."""
    returns = explain_layer(layer.spec, return_sequences=True, return_state=True, batch=batch, time=time)
    return {"name": layer.name, **asdict(returns)}


def _environment() -> Record:
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "packages": versions,
    }


def _again(comparison: Comparison) -> Record:
    """How to run it again: as a command where every source is a file, and in Python."""
    asked, (batch, time) = comparison.asked, comparison.inputs.shape[:2]
    paths = [source.path for source in comparison.sources]
    random, given = asked.get("inputs") == "random", asked.get("inputs") == "given"
    command = None
    if all(paths) and not given and asked.get("initial_state") == "zeros":
        words = ["parity", "compare", *map(str, paths)]
        words += ["--batch", str(batch), "--time", str(time), "--seed", str(asked["seed"])] if random else ["--inputs", asked["inputs"]]
        words += ["--engines", ",".join(asked["engines"])] if asked.get("engines") else []
        words += ["--device", asked["device"]] if asked.get("device") != "cpu" else []
        command = shlex.join(words)
    given = ", ".join(repr(str(path)) if path else f"source_{index + 1}" for index, path in enumerate(paths))
    size = f"batch={batch}, time={time}, seed={asked.get('seed')}" if random else f"inputs={asked.get('inputs')!r}" if not given else "inputs=inputs"
    return {"command": command, "python": f"parity.compare({given}, {size})"}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {_plain(str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, str):
        # A lone surrogate, as in a file name that is not UTF-8, could not be written.
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf"
    return value


__all__ = ["SCHEMA", "Record", "make_record", "read_record", "to_json"]
