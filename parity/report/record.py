"""A comparison as a JSON record: everything the page draws, and nothing else."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from importlib import metadata
from typing import Any

import numpy as np

from parity.conventions import PADDING
from parity.custom_files import LOADED
from parity.diagnosis.written import as_json
from parity.errors import ParityError
from parity.explaining import explain_network
from parity.findings import Findings, describe
from parity.floor import LOST
from parity.frameworks import family
from parity.graph.facts import graph_facts
from parity.identity import weights_digest
from parity.judge import LIMIT, REFERENCE, Judgement, Row
from parity.layouts import GATE_MEANINGS, KINDS, LAYOUTS, Kind, Layout, keras_layout
from parity.network import Bidirectional, Layer, Network, Recurrent, layer_facts
from parity.recurrent import Array
from parity.report.padding import mask_record
from parity.report.record_decisions import decisions_record
from parity.report.record_distribution import distribution_record
from parity.report.record_inside import inside_record
from parity.report.record_layers import architecture_record
from parity.report.record_mapping import mapping_record
from parity.report.record_over_time import over_time
from parity.returns import Returns
from parity.sources import Opened

SCHEMA = {"name": "parity.comparison", "version": 3}
"""Version 2 knows masks, forms and failed engines, explains stacks as a whole, and says the table of padding once; 3 has the diagnosis
and what changed since an earlier record. The file `record.schema.json` beside this one describes it."""

Record = dict[str, Any]

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
    profile, where = over_time(findings)
    said = {*findings.padding, *(f"{label} failed: {text}" for label, text in findings.judgement.failures.items())}
    record: Record = {
        "schema": SCHEMA,
        "verdict": findings.verdict,
        "sentence": findings.sentence,
        "diagnosis": None if diagnosis is None else as_json(diagnosis),
        "baseline": None,
        "title": " and ".join(findings.names),
        "sources": [_source(source, name) for source, name in zip(findings.sources, findings.names, strict=True)],
        "engines": [_engine(findings, label) for label in (*findings.participants, REFERENCE)],
        "inputs": _inputs(findings),
        "mask": mask_record(findings),
        "judging": _judging(findings.judgement),
        "rows": [_row(findings, row) for row in findings.table],
        "profile": profile,
        "map": where,
        "architecture": architecture_record(findings),
        "distribution": distribution_record(findings),
        "decisions": decisions_record(findings),
        "mapping": mapping_record(findings),
        "gates": _gates(network),
        "conventions": list(_conventions(network, batch, time or 1)),
        "padding": [asdict(padding) for padding in PADDING],
        "environment": environment_record(),
        "again": _again(findings),
        "notes": [note for note in findings.notes if note not in said],
        "failures": dict(findings.judgement.failures),
        "measures": [dict(table) for table in measures],
    }
    if inside := inside_record(findings):
        record["inside"] = inside
    plain: Record = _plain(record)
    return plain


def to_json(record: Record) -> str:
    """The record as text, the same for the same record."""
    return json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _source(source: Opened, name: str) -> Record:
    if source.network.graph is None:
        layers = [facts for layer in source.network.layers for facts in _facts(layer)]
    else:
        layers = list(graph_facts(source.graph))
    return {
        "label": name,
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
        "source": next(name for one, name in zip(findings.sources, findings.names, strict=True) if one is source),
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
        shapes = {name: array.shape for name, array in findings.inputs.items()}
        digest = _digest(findings.inputs.values())
        sizes = {"batch": batch, "time": steps, "times": list(findings.times), "features": [], "shapes": shapes}
        return {**sizes, "sha256": digest, **findings.asked}
    batch, time, *features = findings.inputs.shape
    digest = _digest([findings.inputs])
    return {
        "batch": batch,
        "time": time,
        "features": features,
        "sha256": digest,
        **findings.asked,
        **_digests(findings),
    }


def _digests(findings: Findings) -> Record:
    """Of the initial states and of the mask, where they are not zeros and not all valid: two runs may have had other ones."""
    found = {}
    if findings.states is not None and findings.asked["initial_state"] == "given":
        named = [name for name in findings.sources[0].network.specs if name in findings.states]
        states = [array for name in named for array in findings.states[name].arrays()]
        found["initial_state_sha256"] = _digest(states)
    if findings.mask is not None and not findings.mask.all():
        found["mask_sha256"] = _digest([np.asarray(findings.mask, bool)])
    return found


def _digest(arrays: Iterable[Array]) -> str:
    """SHA-256 of arrays one after the other, without a copy of large ones."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return found.hexdigest()


def _judging(judgement: Judgement) -> Record:
    return {
        "limit": LIMIT,
        "replicas": judgement.floor.replicas,
        "one_steps": 0 if judgement.steps is None else len(judgement.steps.samples),
        "horizon": judgement.floor.horizon,
        "lost": LOST,
    }


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
    """How the values of every recurrent layer, or of a bare stack as a whole, correspond: of the Keras layer that shows all of them.

    The layers of a whole model are no stack, and each has a number of steps of its own.
    """
    shown = [_showing_all(layer) for layer in network.layers if isinstance(layer, (Recurrent, Bidirectional))]
    origin, outputs = network.origin, network.outputs
    names = [layer.name for layer in shown]
    try:
        if network.graph is None:
            explained = list(explain_network(Network(network.name, tuple(shown), outputs, origin), batch, time))
        else:
            alone = [Network(network.name, (layer,), outputs, origin) for layer in shown]
            explained = [returns for one in alone for returns in explain_network(one, batch)]
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


def environment_record() -> Record:
    """What a comparison runs in: Python, the platform, and the version of every package that matters."""
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
    told = [
        f"# {argument} is {name}, {'which' if len(paths) == 1 else f'the {_ordinal(index)} that'} was given"
        for index, (argument, name, path) in enumerate(zip(arguments, findings.names, paths, strict=False), 1)
        if not path
    ]
    given = [name for name, own in (("inputs", in_memory), ("mask", masked), ("initial_state", not zeros)) if own]
    told += [f"# {' and '.join(given)}: as given"] if given else []
    call = f"parity.compare({', '.join(arguments)})"
    return {"command": command, "python": "".join((*before, *map(_one_line, told), call))}


def _ordinal(number: int) -> str:
    words = ("first", "second", "third", "fourth", "fifth")
    return words[number - 1] if number <= len(words) else f"{number}th"


def _one_line(comment: str) -> str:
    """A comment whose names cannot end it early, and begin a line of code."""
    return " ".join(comment.split()) + "\n"


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


__all__ = ["SCHEMA", "Record", "environment_record", "make_record", "to_json"]
