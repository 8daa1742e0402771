"""A comparison as a JSON record: everything the page draws, and nothing else."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.conventions import PADDING
from parity.custom_files import LOADED
from parity.diagnosis.written import as_json
from parity.errors import FormatError, ParityError
from parity.explaining import explain_network
from parity.findings import Findings, describe
from parity.floor import LOST, Band, in_floors
from parity.frameworks import family
from parity.graph.facts import graph_facts
from parity.identity import weights_digest
from parity.judge import LIMIT, REFERENCE, Judgement, Row
from parity.layouts import GATE_MEANINGS, KINDS, LAYOUTS, Kind, Layout, keras_layout
from parity.network import Bidirectional, Layer, Network, Recurrent, layer_facts
from parity.recurrent import Array
from parity.reference import Float64
from parity.report.packing import TABLES, unpacked
from parity.report.padding import mask_record
from parity.report.record_decisions import decisions_record
from parity.report.record_distribution import distribution_record
from parity.report.record_layers import architecture_record
from parity.returns import Returns
from parity.sources import Opened

SCHEMA = {"name": "parity.comparison", "version": 3}
"""Version 2 knows masks, forms and failed engines, explains stacks as a whole, and says the table of padding once; 3 has the diagnosis
and what changed since an earlier record. The file `record.schema.json` beside this one describes it."""

Record = dict[str, Any]

_FIRST, _SECOND = ({**SCHEMA, "version": version} for version in (1, 2))
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
    batch, time = findings.sizes
    diagnosis = getattr(findings, "diagnosis", None)  # a comparison can say why it disagrees, bare findings cannot
    said = {*findings.padding, *(f"{label} failed: {text}" for label, text in findings.judgement.failures.items())}
    record: Record = {
        "schema": SCHEMA,
        "verdict": findings.verdict,
        "sentence": findings.sentence,
        "diagnosis": None if diagnosis is None else as_json(diagnosis),
        "baseline": None,
        "title": " and ".join(source.label for source in findings.sources),
        "sources": [_source(source) for source in findings.sources],
        "engines": [_engine(findings, label) for label in (*findings.participants, REFERENCE)],
        "inputs": _inputs(findings),
        "mask": mask_record(findings),
        "judging": _judging(findings.judgement),
        "rows": [_row(findings, row) for row in findings.table],
        "profile": _profile(findings),
        "map": _map(findings),
        "architecture": architecture_record(findings),
        "distribution": distribution_record(findings),
        "decisions": decisions_record(findings),
        "gates": _gates(network),
        "conventions": list(_conventions(network, batch, time or 1)),
        "padding": [asdict(padding) for padding in PADDING],
        "environment": _environment(),
        "again": _again(findings),
        "notes": [note for note in findings.notes if note not in said],
        "failures": dict(findings.judgement.failures),
        "measures": [dict(table) for table in measures],
    }
    plain: Record = _plain(record)
    return plain


def read_record(path: Path) -> Record:
    """Read a record that was saved, or copied out of a page.

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
    if schema not in (SCHEMA, _FIRST, _SECOND):
        raise FormatError(
            "this is no record of a version known here", str(path), json.dumps(SCHEMA), json.dumps(schema)
        )
    try:
        record = {**record, **{key: unpacked(record.get(key, [])) for key in TABLES}}
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(
            "the record's rows are no table", str(path), got=f"{type(error).__name__}: {error}"
        ) from error
    if schema == _FIRST:
        record = _upgraded(record)
    record.setdefault("diagnosis", None)
    record.setdefault("baseline", None)
    for key in ("architecture", "distribution", "decisions"):
        record.setdefault(key, [])
    verdicts = {row.get("verdict") for row in record.get("rows", []) if isinstance(row, dict)}
    if record.get("failures"):
        verdicts.add("undecided")
    derived = next((verdict for verdict in ("disagree", "undecided") if verdict in verdicts), "agree")
    # Where nothing but zeros or padding was computed the rows agree, and the verdict is undecided nevertheless.
    if record.get("verdict") not in (derived, "undecided" if derived == "agree" else derived):
        got = f"verdict {record.get('verdict')!r}, but rows that {derived}"
        raise FormatError("the record contradicts itself", str(path), f"verdict {derived!r}", got, "compare again")
    return dict(record)


def _upgraded(record: Record) -> Record:
    """A record of version 1, which knew no masks, no forms and each recurrent layer by itself, as one of this version."""
    rows, engines, conventions = (
        [part for part in parts if isinstance(part, dict)] if isinstance(parts := record.get(key), list) else []
        for key in ("rows", "engines", "conventions")
    )
    layers = [
        {
            **{key: value for key, value in returns.items() if key != "name"},
            "names": [returns.get("name")],
            "keras": [{"place": f"[{index}]", **value} for index, value in enumerate(returns.get("keras") or ())],
            **{key: [] for key in ("torch_call", "onnx_call", "rows", "ways")},
        }
        for returns in conventions
    ]
    return {
        **record,
        "rows": [{"padding_error": 0.0, "padding_outside": 0, "padded": 0, **row} for row in rows],
        "engines": [{**engine, "form": {"kind": "", "composed": [], "notes": []}} for engine in engines],
        "conventions": layers,
        "failures": record.get("failures", {}),
        "mask": None,
        "padding": [],
    }


def to_json(record: Record) -> str:
    """The record as text, the same for the same record."""
    return json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _source(source: Opened) -> Record:
    if source.network.graph is None:
        layers = [facts for layer in source.network.layers for facts in _facts(layer)]
    else:
        layers = list(graph_facts(source.graph))
    return {
        "label": source.label,
        "origin": source.network.origin,
        "details": source.network.details,
        "weights": weights_digest(source.network),
        "layers": layers,
    }


def _facts(layer: Layer) -> list[Record]:
    """A layer; after a `Bidirectional` of unlike directions, the layers inside it one by one."""
    if isinstance(layer, Recurrent):
        return [{**layer_facts(layer), "state": layer.spec.state_size}]
    if not isinstance(layer, Bidirectional):
        return [layer_facts(layer)]
    outer = {key: value for key, value in layer_facts(layer).items() if key not in ("forward", "backward")}
    return [outer, *(facts for inner in layer.recurrent for facts in _facts(inner))]


def _engine(findings: Findings, label: str) -> Record:
    """A participant or the reference; one that failed may have no result, and so no settings and values."""
    result = findings.results.get(label)
    source, engine = findings.participants.get(label, (findings.sources[0], REFERENCE))
    return {
        "label": label,
        "engine": engine if result is None else result.engine,
        "source": source.label,
        "form": _form(findings, label, engine),
        "settings": {} if result is None else result.settings,
        "returned": [] if result is None else [asdict(value) for value in result.returned],
    }


def _form(findings: Findings, label: str, engine: str) -> Record:
    """What an engine runs: the reference, the source itself, or a conversion that is native or composed, and why."""
    form = findings.forms.get(label)
    if form is None:
        source, _ = findings.participants.get(label, (findings.sources[0], REFERENCE))
        converted = engine != REFERENCE and source.network.graph is not None and family(engine) != source.engine
        kind = "reference" if engine == REFERENCE else "code" if converted else "source"
        return {"kind": kind, "composed": [], "notes": []}
    return {"kind": "native" if form.native else "composed", "composed": form.composed, "notes": form.notes}


def _row(findings: Findings, row: Row) -> Record:
    """A row, with how many elements stand at padded steps, and in words unless it agrees."""
    steps = findings.judgement.steps
    floor = steps.floor if row.rule == "one step" and steps is not None else findings.judgement.floor
    band = floor.bands.get(row.quantity)
    padded = 0
    if band is not None and band.padded is not None:
        padded = int(np.broadcast_to(band.padded, band.reference.shape).sum())
    return {**asdict(row), "padded": padded, "text": "" if row.verdict == "agree" else describe(row)}


def _inputs(findings: Findings) -> Record:
    if isinstance(findings.inputs, dict):
        batch, steps = findings.sizes
        content = b"".join(np.ascontiguousarray(array).tobytes() for array in findings.inputs.values())
        shapes = {name: array.shape for name, array in findings.inputs.items()}
        digest = hashlib.sha256(content).hexdigest()
        return {"batch": batch, "time": steps, "features": [], "shapes": shapes, "sha256": digest, **findings.asked}
    batch, time, *features = findings.inputs.shape
    digest = hashlib.sha256(np.ascontiguousarray(findings.inputs).tobytes()).hexdigest()
    return {"batch": batch, "time": time, "features": features, "sha256": digest, **findings.asked}


def _judging(judgement: Judgement) -> Record:
    return {
        "limit": LIMIT,
        "replicas": judgement.floor.replicas,
        "one_steps": 0 if judgement.steps is None else len(judgement.steps.samples),
        "horizon": judgement.floor.horizon,
        "lost": LOST,
    }


def _profile(findings: Findings) -> Record | None:
    """Error over time of every participant against the floor, in the last recurrent layer's sequence.

    Every bin holds the largest value in it; "comparable" is the share of it that lies before the horizon, "padded" the share that a
    mask leaves out, "times_floor" the largest error in floors there, which is what the verdict rests on. Padded steps are not drawn.
    """
    band = _sequence_band(findings)
    if band is None:
        return None
    time = band.reference.shape[1]
    starts = np.unique(np.linspace(0, time, min(time, _BINS), endpoint=False, dtype=int))
    padded = _padded(band)
    floor = np.where(padded, 0.0, band.floor).max(axis=(0, 2, 3))
    comparable = np.broadcast_to(band.comparable, (*band.reference.shape[:-1], 1)).mean(axis=(0, 2, 3))
    engines, ratios = {}, {}
    for label, sequence in _sequences(findings, band).items():
        error = np.abs(sequence.astype(np.float64) - band.reference)
        judged = np.where(padded, np.nan, np.where(np.isnan(error), np.inf, error))
        engines[label] = _short(np.fmax.reduceat(np.fmax.reduce(judged, axis=(0, 2, 3)), starts))
        ratios[label] = _short(np.fmax.reduceat(np.fmax.reduce(_floors(sequence, band), axis=(0, 2, 3)), starts))
    widths = np.diff(starts, append=time)
    return {
        "quantity": band.quantity.name,
        "time": time,
        "steps": starts.tolist(),
        "floor": _short(np.maximum.reduceat(floor, starts)),
        "comparable": _short(np.add.reduceat(comparable, starts) / widths),
        "padded": _short(np.add.reduceat(padded.mean(axis=(0, 2, 3)), starts) / widths),
        "engines": engines,
        "times_floor": ratios,
    }


def _map(findings: Findings) -> Record | None:
    """Where in batch x time: error in floors, of the participant that is furthest off; None where nothing is comparable.

    A cell holds None where nothing in it is comparable, and "padding" where a mask leaves all of it out.
    """
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
    padded = _padded(band).all(axis=(2, 3))
    left_out = np.logical_and.reduceat(np.logical_and.reduceat(padded, rows, axis=0), columns, axis=1)
    cells = zip(map(_short, pooled), left_out.tolist(), strict=True)
    return {
        "engine": label,
        "quantity": band.quantity.name,
        "rows": rows.tolist(),
        "steps": columns.tolist(),
        "batch": ratio.shape[0],
        "time": ratio.shape[1],
        "times_floor": [["padding" if out else value for value, out in zip(*row, strict=True)] for row in cells],
    }


def _floors(sequence: Array, band: Band) -> Float64:
    """Error in floors as it is judged: infinite where not finite, NaN where it is not comparable or padding."""
    error = np.abs(sequence.astype(np.float64) - band.reference)
    finite = np.isfinite(error)
    ratio = in_floors(error, band.floor)
    judged: Float64 = np.where((band.comparable | ~finite) & ~_padded(band), ratio, np.nan)
    return judged


def _padded(band: Band) -> NDArray[np.bool_]:
    """Where a sequence is padding, with the axes of the floor."""
    return np.broadcast_to(False if band.padded is None else band.padded, (*band.reference.shape[:-1], 1))


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


def _gates(network: Network) -> Record:
    """Where each gate sits in each framework, from the table; tensors that few layers have only where one of these has them."""
    kinds = {spec.kind for spec in network.specs.values()}
    absent = {
        kind: {
            member
            for member in ("peepholes", "projection")
            if all(
                weights.member(member) is None
                for layer in network.recurrent
                if layer.spec.kind == kind
                for weights in layer.weights
            )
        }
        for kind in kinds
    }
    return {
        kind: {
            "meanings": GATE_MEANINGS[kind],
            "frameworks": {
                row.framework: {
                    "own": list(row.own_gates),
                    "canonical": list(row.gates),
                    "tensors": [
                        {"name": t.name, "axes": t.axes, "members": list(t.members), "peepholes": len(t.order.split())}
                        for t in row.tensors
                        if not absent[kind].issuperset(t.members)
                    ],
                }
                for row in _layouts(network, kind)
            },
        }
        for kind in KINDS
        if kind in kinds
    }


def _layouts(network: Network, kind: Kind) -> list[Layout]:
    """The rows of the table for a kind of cell, as its layers store it."""
    rows = [row for row in LAYOUTS.values() if row.kind == kind]
    cells = [cell for layer in network.recurrent if layer.spec.kind == kind for cell in layer.cells]
    keras = keras_layout(kind, any(cell.reset_after for cell in cells))
    return [keras if row.framework == "keras" else row for row in rows]


def _conventions(network: Network, batch: int, time: int) -> Iterator[Record]:
    """How the values of every recurrent layer, or of a bare stack as a whole, correspond: of the Keras layer that shows all of them."""
    shown = [_showing_all(layer) for layer in network.layers if isinstance(layer, (Recurrent, Bidirectional))]
    origin, outputs = network.origin, network.outputs
    names = [layer.name for layer in shown]
    try:
        explained = list(explain_network(Network(network.name, tuple(shown), outputs, origin), batch, time))
    except ParityError as error:
        # A network built by hand may hold what no framework has: it can be compared, not explained.
        yield {"names": names, "layer": network.name, "notes": [problem.what for problem in error.problems], **_NOTHING}
        return
    groups = [[name] for name in names] if len(explained) == len(names) else [names]
    for group, returns in zip(groups, explained, strict=True):
        yield {"names": group, **_returns(returns)}


_NOTHING: Record = {key: [] for key in ("keras", "torch", "onnx", "torch_call", "onnx_call", "rows", "ways")}


def _returns(returns: Returns) -> Record:
    facts = {key: value for key, value in asdict(returns).items() if key != "padding"}
    values = zip(returns.places, returns.keras, strict=True)
    return {**facts, "keras": [{"place": place, **asdict(value)} for place, value in values]}


def _showing_all(layer: Recurrent | Bidirectional) -> Recurrent | Bidirectional:
    """The layer as it would be if it returned every step and its states."""
    if isinstance(layer, Recurrent):
        return replace(layer, return_sequences=True, return_state=True)
    ends = [(*stack[:-1], replace(stack[-1], return_sequences=True)) for stack in layer.stacks]
    return replace(layer, forward=ends[0], backward=ends[1], return_state=True)


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
    asked, (batch, time) = findings.asked, findings.sizes
    random, in_memory, masked = asked["inputs"] == "random", asked["inputs"] == "given", asked.get("mask") is not None
    lengths = asked.get("lengths")
    zeros = asked["initial_state"] == "zeros"
    paths = [source.path for source in findings.sources]
    command = None
    if all(paths) and zeros and not in_memory and not masked:
        size = ["--batch", batch, *(["--time", time] if time is not None else []), "--seed", asked["seed"]]
        words = ["parity", "compare", *paths, *(size if random else ["--inputs", asked["inputs"]])]
        words += ["--lengths", ",".join(map(str, lengths))] if lengths is not None else []
        words += ["--engines", ",".join(asked["engines"])] if asked["engines"] else []
        words += ["--device", asked["device"]] if asked["device"] != "cpu" else []
        words += ["--tf32"] if asked["tf32"] else []
        words += ["--layers"] if asked.get("layers") else []
        words += [word for file in LOADED for word in ("--custom", file)]
        command = shlex.join(map(str, words))
    options = {"batch": batch, "time": time, "seed": asked["seed"]} if random else {}
    options = {name: value for name, value in options.items() if value is not None}
    options |= {name: asked[name] for name in ("engines", "tf32", "layers") if asked.get(name)}
    options |= {"device": asked["device"]} if asked["device"] != "cpu" else {}
    options |= {} if random or in_memory else {"inputs": asked["inputs"]}
    arguments = [repr(str(path)) if path else f"source_{index}" for index, path in enumerate(paths, 1)]
    arguments += [f"{name}={value!r}" for name, value in options.items()]
    arguments += ["inputs=inputs"] if in_memory else []
    arguments += [f"lengths={lengths!r}"] if lengths is not None else []
    arguments += ["mask=mask"] if masked else []
    arguments += [] if zeros else ["initial_state=initial_state"]
    before = [f"runpy.run_path({str(file)!r})  # registers layers\n" for file in LOADED]
    return {"command": command, "python": f"{''.join(before)}parity.compare({', '.join(arguments)})"}


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
    # Options of a whole model's operations are values of many kinds: a length taken from another value, a function.
    return value if value is None or isinstance(value, (bool, int, float)) else str(value)


__all__ = ["SCHEMA", "Record", "make_record", "read_record", "to_json"]
