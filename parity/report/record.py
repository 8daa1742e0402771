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
from numpy.typing import NDArray

from parity.errors import FormatError, ParityError
from parity.findings import Findings, describe
from parity.floor import LOST, Band
from parity.judge import LIMIT, REFERENCE, Judgement
from parity.layouts import GATE_MEANINGS, LAYOUTS
from parity.network import Recurrent, layer_facts
from parity.recurrent import Array
from parity.reference import Float64
from parity.returns import explain_layer
from parity.sources import Opened

SCHEMA = {"name": "parity.comparison", "version": 1}

Record = dict[str, Any]

_BINS, _MAP_ROWS, _MAP_COLUMNS = 240, 24, 96
_PACKAGES = ("keras-torch-parity", "numpy", "keras", "tensorflow", "jax", "torch", "onnx", "onnxruntime")


def make_record(findings: Findings, measures: Sequence[Mapping[str, Any]] = ()) -> Record:
    """Everything a reader needs, as plain JSON values.

    Args:
        findings: what to record.
        measures: tables of the caller's own to show beside the findings, such as a forecast's error per engine: each a dict of
            "title" and "rows", the rows being dicts of "label" and "value".

    Returns:
        The record; numbers that are not finite stand as the strings "nan" and "inf".
    """
    network = findings.sources[0].network
    batch, time = findings.inputs.shape[:2]
    record: Record = {
        "schema": SCHEMA,
        "verdict": findings.verdict,
        "sentence": findings.sentence,
        "title": " and ".join(source.label for source in findings.sources),
        "sources": [_source(source) for source in findings.sources],
        "engines": [_engine(findings, label) for label in findings.results],
        "inputs": _inputs(findings),
        "judging": _judging(findings.judgement),
        "rows": [{**asdict(row), "text": "" if row.verdict == "agree" else describe(row)} for row in findings.table],
        "profile": _profile(findings),
        "map": _map(findings),
        "gates": _gates({spec.kind for spec in network.specs.values()}),
        "conventions": [_conventions(layer, batch, time) for layer in network.recurrent],
        "environment": _environment(),
        "again": _again(findings),
        "notes": list(findings.notes),
        "failures": dict(findings.judgement.failures),
        "measures": [dict(table) for table in measures],
    }
    plain: Record = _plain(record)
    return plain


def read_record(path: Path) -> Record:
    """Read a record that was saved.

    Raises:
        FormatError: not JSON, or not a record of this version.
    """
    if not path.is_file():
        raise ParityError("no such file", str(path), "a record", "nothing there", "check the name and the folder")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise FormatError(
            "this is no record", str(path), "JSON written by parity compare --json", str(error)
        ) from error
    schema = record.get("schema") if isinstance(record, dict) else None
    if schema != SCHEMA:
        raise FormatError(
            "this is no record of a version known here", str(path), json.dumps(SCHEMA), json.dumps(schema)
        )
    verdicts = {row.get("verdict") for row in record.get("rows", []) if isinstance(row, dict)}
    if record.get("failures"):
        verdicts.add("undecided")
    derived = next((verdict for verdict in ("disagree", "undecided") if verdict in verdicts), "agree")
    # Where nothing but zeros or padding was computed the rows agree, and the verdict is undecided nevertheless.
    if record.get("verdict") not in (derived, "undecided" if derived == "agree" else derived):
        got = f"verdict {record.get('verdict')!r}, but rows that {derived}"
        raise FormatError("the record contradicts itself", str(path), f"verdict {derived!r}", got, "compare again")
    return dict(record)


def to_json(record: Record) -> str:
    """The record as text, the same for the same record."""
    return json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _source(source: Opened) -> Record:
    layers = [layer_facts(layer) for layer in source.network.layers]
    return {
        "label": source.label,
        "origin": source.network.origin,
        "details": source.network.details,
        "layers": layers,
    }


def _engine(findings: Findings, label: str) -> Record:
    result = findings.results[label]
    source, _ = findings.participants.get(label, (findings.sources[0], REFERENCE))
    return {
        "label": label,
        "engine": result.engine,
        "source": source.label,
        "settings": result.settings,
        "returned": [asdict(value) for value in result.returned],
    }


def _inputs(findings: Findings) -> Record:
    batch, time, *features = findings.inputs.shape
    digest = hashlib.sha256(np.ascontiguousarray(findings.inputs).tobytes()).hexdigest()
    return {"batch": batch, "time": time, "features": features, "sha256": digest, **findings.asked}


def _judging(judgement: Judgement) -> Record:
    return {
        "limit": LIMIT,
        "replicas": judgement.floor.replicas,
        "one_steps": len(judgement.steps.samples),
        "horizon": judgement.floor.horizon,
        "lost": LOST,
    }


def _profile(findings: Findings) -> Record | None:
    """Error over time of every participant against the floor, in the last recurrent layer's sequence.

    Every bin holds the largest value in it; "comparable" is the share of it that lies before the horizon, "times_floor" the largest
    error in floors there, which is what the verdict rests on.
    """
    band = _sequence_band(findings)
    if band is None:
        return None
    time = band.reference.shape[1]
    starts = np.unique(np.linspace(0, time, min(time, _BINS), endpoint=False, dtype=int))
    floor = np.broadcast_to(band.floor, (*band.reference.shape[:-1], 1)).max(axis=(0, 2, 3))
    comparable = np.broadcast_to(band.comparable, (*band.reference.shape[:-1], 1)).mean(axis=(0, 2, 3))
    engines, ratios = {}, {}
    for label, sequence in _sequences(findings, band).items():
        # What padding holds is a convention, so it is not drawn.
        error = np.where(_padded(band), 0.0, np.abs(sequence - band.reference)).max(axis=(0, 2, 3))
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


def _map(findings: Findings) -> Record | None:
    """Where in batch x time: error in floors, of the participant that is furthest off; None where nothing is comparable."""
    band = _sequence_band(findings)
    if band is None:
        return None
    sequences = _sequences(findings, band)
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
    """Error in floors as it is judged: infinite where not finite, NaN where it is not comparable or padding."""
    error = np.abs(sequence.astype(np.float64) - band.reference)
    finite = np.isfinite(error)
    ratio = np.where(finite, error / np.maximum(band.floor, np.finfo(float).tiny), np.inf)
    judged: Float64 = np.where((band.comparable | ~finite) & ~_padded(band), ratio, np.nan)
    return judged


def _padded(band: Band) -> NDArray[np.bool_]:
    return np.zeros((1,) * band.reference.ndim, bool) if band.padded is None else band.padded


def _short(values: Float64) -> list[float | None]:
    """Four digits, as a drawing needs; None for NaN."""
    return [None if math.isnan(value) else float(f"{value:.4g}") for value in values.tolist()]


def _sequence_band(findings: Findings) -> Band | None:
    bands = [band for name, band in findings.judgement.floor.bands.items() if name.endswith("sequence")]
    return bands[-1] if bands else None


def _sequences(findings: Findings, band: Band) -> dict[str, Array]:
    last = findings.sources[0].network.recurrent[-1].name
    found = {label: result.layers[last].sequence for label, result in findings.judgement.results.items()}
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


def _again(findings: Findings) -> Record:
    """How to run it again: in Python, and as a command where every source and the inputs are files."""
    asked, (batch, time) = findings.asked, findings.inputs.shape[:2]
    random, in_memory, masked = asked["inputs"] == "random", asked["inputs"] == "given", asked.get("mask") is not None
    lengths = asked.get("lengths")
    zeros = asked["initial_state"] == "zeros"
    paths = [source.path for source in findings.sources]
    command = None
    if all(paths) and zeros and not in_memory and not masked:
        size = ["--batch", batch, "--time", time, "--seed", asked["seed"]]
        words = ["parity", "compare", *paths, *(size if random else ["--inputs", asked["inputs"]])]
        words += ["--lengths", ",".join(map(str, lengths))] if lengths is not None else []
        words += ["--engines", ",".join(asked["engines"])] if asked["engines"] else []
        words += ["--device", asked["device"]] if asked["device"] != "cpu" else []
        words += ["--tf32"] if asked["tf32"] else []
        command = shlex.join(map(str, words))
    options = {"batch": batch, "time": time, "seed": asked["seed"]} if random else {}
    options |= {name: asked[name] for name in ("engines", "tf32") if asked[name]}
    options |= {"device": asked["device"]} if asked["device"] != "cpu" else {}
    options |= {} if random or in_memory else {"inputs": asked["inputs"]}
    arguments = [repr(str(path)) if path else f"source_{index}" for index, path in enumerate(paths, 1)]
    arguments += [f"{name}={value!r}" for name, value in options.items()]
    arguments += ["inputs=inputs"] if in_memory else []
    arguments += [f"lengths={lengths!r}"] if lengths is not None else []
    arguments += ["mask=mask"] if masked else []
    arguments += [] if zeros else ["initial_state=initial_state"]
    return {"command": command, "python": f"parity.compare({', '.join(arguments)})"}


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
