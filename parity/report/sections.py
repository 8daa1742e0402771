"""What the sections of the page below the matrix show, made from a record."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from parity.report.gate_chart import gate_diagram
from parity.report.in_words import shape_in_words, value_in_words
from parity.report.matrix import Column, Record, against_reference
from parity.report.numbers import TIMES, spell

_INPUT_FACTS = {
    "inputs": "inputs",
    "seed": "seed",
    "initial_state": "initial state",
    "lengths": "lengths",
    "mask": "mask",
    "device": "device",
    "tf32": "TF32",
    "engines": "engines asked for",
    "sha256": "SHA-256 of the inputs",
}
_LAYER_COLUMNS = ("name", "family", "kind", "input", "output", "units", "directions")
_MOST_LENGTHS = 16
FORMS = {"source": "the source itself", "reference": "float64 reference", "code": "the code that parity writes for it"}
_PADDED_STEPS = {
    "zero": "zero",
    "repeat": "the output of the last valid step, repeated",
    "other": "something else",
    "not shown": "not shown by this engine",
}
_FINAL_STATES = {
    "last valid step": "the last valid step",
    "last step of all": "the last step of all",
    "other": "neither the last valid nor the last step",
    "none": "no step, as none is valid",
    "not shown": "not shown by this engine",
}
_EMPTY_STATES = {"zero": "zero", "initial state": "the initial state", "other": "something else"}
FILLS = {"zero": "zero", "repeat": "the last output, repeated", None: "what it computes there"}


def what_ran(record: Record) -> list[str]:
    """One line: engines with versions, sizes, seed."""
    inputs = record["inputs"]
    versions = dict.fromkeys(_version(engine) for engine in record["engines"] if engine["settings"])
    times = inputs.get("times") or ([] if inputs["time"] is None else [inputs["time"]])
    sizes = [f"{inputs['batch']} samples", *([f"{' and '.join(map(str, times))} steps"] if times else [])]
    sizes += [f"{f' {TIMES} '.join(map(str, inputs['features']))} features"] if inputs["features"] else []
    origin = f"inputs: {inputs.get('inputs')}, seed {inputs.get('seed')}"
    return [", ".join(versions), f" {TIMES} ".join(sizes), origin, str(inputs.get("device", ""))]


def _version(engine: Record) -> str:
    settings = engine["settings"]
    package, _, backend = engine["engine"].partition(":")
    if package in settings:
        return f"{package} {settings[package]}" + (f" on {settings.get('backend', backend)}" if backend else "")
    return f"{engine['engine']} ({settings.get('dtype', '')})"


def gates_view(record: Record, kind: str) -> dict[str, Any]:
    """The drawing of one kind of cell, and its tensors with the sizes they have in the first layer of that kind."""
    gates = record["gates"][kind]
    layer = next((f for f in record["sources"][0]["layers"] if f.get("kind") == kind), None)
    sizes = {"gate": len(gates["meanings"])}
    if layer:
        sizes |= {
            "input": layer["input"],
            "hidden": layer["units"],
            "state": layer.get("state", layer["units"]),
            "direction": len(layer["directions"]),
        }
    tensors = [
        {
            **tensor,
            "framework": framework,
            "shape": _sizes(
                tensor["axes"], {"peephole": tensor.get("peepholes", 0), **sizes, "source": len(tensor["members"])}
            ),
            "holds": (" next to " if "source" in tensor["axes"] else " + ").join(
                member.replace("_", " of the ") if member.startswith("bias") else member for member in tensor["members"]
            ),
        }
        for framework, own in gates["frameworks"].items()
        for tensor in own["tensors"]
    ]
    return {
        "kind": kind,
        "layer": layer["name"] if layer else None,
        "drawing": gate_diagram(kind.upper(), gates, layer["units"] if layer else None),
        "tensors": tensors,
        "rows": {name: sum(t["framework"] == name for t in tensors) for name in gates["frameworks"]},
    }


def _sizes(axes: str, sizes: Mapping[str, int]) -> str:
    """A pattern of axes as the shape it has with these sizes; empty if one is not known.

    Example:
        >>> _sizes("input (gate hidden)", {"input": 3, "gate": 4, "hidden": 5})
        '(3, 20)'
    """
    lengths = []
    for group in re.findall(r"\(([^)]*)\)|(\S+)", axes):
        length = 1
        for axis in "".join(group).split():
            if axis not in sizes:
                return ""
            length *= sizes[axis]
        lengths.append(length)
    return shape_in_words(lengths)


def forms_view(record: Record) -> list[str]:
    """Which engines run a conversion, and of which form."""
    labels: dict[str, list[str]] = {}
    for engine in record["engines"]:
        labels.setdefault(engine["form"]["kind"], []).append(engine["label"])
    return [f"{form} in {', '.join(labels[form])}" for form in ("native", "composed") if form in labels]


def mask_view(record: Record, columns: Sequence[Column]) -> dict[str, Any] | None:
    """How much of the run is padding, and what every engine does with it; None without padding."""
    mask = record["mask"]
    if mask is None:
        return None
    differences: dict[str, list[str]] = {}
    for row in record["rows"]:
        if row["padded"] and row["padding_outside"] and against_reference(row, columns):
            found = f"{row['quantity']} by up to {spell(row['padding_error'])} in {row['padding_outside']} of {row['padded']}"
            differences.setdefault(row["left"], []).append(found)
    names = {name for entry in mask["engines"] for name in entry["layers"]}
    engines = [
        {
            **entry,
            "layers": ", ".join(entry["layers"]) if set(entry["layers"]) != names else "",
            "steps": _PADDED_STEPS.get(entry["steps"], entry["steps"])
            + (f", up to {spell(entry['largest'])}" if entry["steps"] == "other" else ""),
            "state": _FINAL_STATES.get(entry["state"], entry["state"]),
            "empty": _EMPTY_STATES.get(entry["empty"], "") if entry["empty"] else "",
            "difference": ", ".join(differences.get(entry["engine"], ())),
        }
        for entry in mask["engines"]
    ]
    return {
        "words": f"{mask['valid']} of {mask['total']} steps are valid, {mask['total'] - mask['valid']} are padding",
        "lengths": _lengths(mask),
        "made": " and ".join({"lengths": "lengths", "mask": "a mask"}.get(name, name) for name in mask["made"]),
        "engines": engines,
        "empty": any(entry["empty"] for entry in engines),
        "states": any(entry["state"] != "not shown" for entry in mask["engines"]),
        "differing": list(differences),
        "scored": any(row["padded"] for row in record["rows"]),
        "any": any(row["padding_outside"] for row in record["rows"]),
    }


def _lengths(mask: Record) -> str:
    """How long the samples are, where the padding stands on the right."""
    if mask["shortest"] is None:
        return ""
    if mask["lengths"] and len(mask["lengths"]) <= _MOST_LENGTHS:
        return f"lengths {', '.join(map(str, mask['lengths']))}"
    return f"lengths {mask['shortest']} to {mask['longest']}"


def conventions_view(record: Record) -> list[Record]:
    """What layers return, those that return the same together; each other way to call them without the values that stay the same."""
    merged: dict[str, Record] = {}
    for returns in record["conventions"]:
        rest = {key: value for key, value in returns.items() if key != "names"}
        merged.setdefault(json.dumps(rest, sort_keys=True), {**rest, "names": []})["names"].extend(returns["names"])
    return [{**returns, "ways": [_way(way, returns) for way in returns["ways"]]} for returns in merged.values()]


def _way(way: Record, returns: Record) -> Record:
    others = [value for value in way["values"] if value not in returns[way["framework"]]]
    return {**way, "others": others, "same": len(others) < len(way["values"])}


def layers_view(source: Record) -> dict[str, Any]:
    """A source's layers as a table: what most layers have in columns of its own, everything else as options."""
    known = {*_LAYER_COLUMNS, "state"}
    layers = [
        {
            **layer,
            "what": str(layer["kind"]).upper() if "kind" in layer else layer["family"],
            "options": [_option(name, value) for name, value in layer.items() if name not in known],
        }
        for layer in source["layers"]
    ]
    return {**source, "layers": layers}


def _option(name: str, value: Any) -> str:
    """An option in words.

    Example:
        >>> _option("return_sequences", True), _option("bias", False), _option("dropout", 0.2)
        ('return_sequences', 'no bias', 'dropout 0.2')
    """
    if isinstance(value, bool):
        return name if value else f"no {name}"
    return f"{name} {value_in_words(value)}"


def inputs_view(record: Record) -> list[tuple[str, Any]]:
    """Facts of the inputs: what each is called, and its value."""
    inputs = record["inputs"]
    facts = [(text, inputs[key]) for key, text in _INPUT_FACTS.items() if inputs.get(key) is not None]
    if "shapes" in inputs:
        return [*((f"shape of {name}", shape_in_words(shape)) for name, shape in inputs["shapes"].items()), *facts]
    shape = [inputs["batch"], inputs["time"], *inputs["features"]]
    axes = ", ".join(("batch", "time", "features")[: len(shape)])
    return [(f"shape ({axes})", shape_in_words(shape)), *facts]


__all__ = [
    "FILLS",
    "FORMS",
    "conventions_view",
    "forms_view",
    "gates_view",
    "inputs_view",
    "layers_view",
    "mask_view",
    "what_ran",
]
