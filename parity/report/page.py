"""The page drawn from a record: one HTML file that needs no network and no script."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

from jinja2 import Environment, FileSystemLoader, StrictUndefined, UndefinedError
from markupsafe import Markup, escape

from parity.errors import FormatError
from parity.report import plots
from parity.report.numbers import DASH, TIMES, aligned, number, spell
from parity.report.packing import packed

Record: TypeAlias = dict[str, Any]

_FOLDER = Path(__file__).parent
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_SEVERITY = ("agree", "undecided", "disagree")
_RULES = {
    "run": ("The whole run", "every step after all the steps before it"),
    "one step": ("One step at a time", "every step from the reference's own state"),
    "layer": ("Layer by layer", "every layer on the inputs that it got"),
}
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
_NARROW = 3
_LAYER_COLUMNS = ("name", "family", "kind", "input", "output", "units", "directions")
_MOST_LENGTHS = 16
_FORMS = {"source": "the source itself", "reference": "float64 reference", "code": "the code that parity writes for it"}
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
_FILLS = {"zero": "zero", "repeat": "the last output, repeated", None: "what it computes there"}


@dataclass(frozen=True)
class Column:
    """One pair of the matrix, with the line style of each side (None for the reference)."""

    left: str
    right: str
    styles: tuple[int, int | None]

    @property
    def against_reference(self) -> bool:
        """Whether the right side is the reference."""
        return self.styles[1] is None


@dataclass(frozen=True)
class Line:
    """One quantity of the matrix: its layer, its own name, the verdict over all pairs, and a row of the record per column."""

    layer: str
    quantity: str
    verdict: str
    cells: tuple[Record | None, ...]

    @property
    def padded(self) -> str:
        """What a mask leaves out of it, in words; empty for nothing."""
        row = next((row for row in self.cells if row and row["padded"]), None)
        return "" if row is None else "padded steps" if "time" in row["place"] else "empty samples"

    @property
    def convention(self) -> bool:
        """Whether some sides differ where it is padded."""
        return any(row and row["padding_outside"] for row in self.cells)


@dataclass(frozen=True)
class Group:
    """The lines of one rule."""

    title: str
    hint: str
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Table:
    """One table of the matrix."""

    columns: tuple[Column, ...]
    groups: tuple[Group, ...]


def render(record: Record) -> str:
    """The page of a record.

    Args:
        record: from `parity.report.record.make_record` or `read_record`; everything on the page comes from it.

    Returns:
        HTML with its style, drawings and the record itself inside.

    Raises:
        FormatError: the record lacks something or holds it in another form, as a file changed by hand may.

    Example:
        >>> import torch
        >>> from parity.comparison import compare
        >>> from parity.report.record import make_record
        >>> page = render(make_record(compare(torch.nn.GRU(3, 5), engines=["torch"])))
        >>> page[:15], "<title>agree" in page
        ('<!doctype html>', True)
    """
    return _render("template.html", record)


def render_snippet(record: Record) -> str:
    """The sentence and the matrix of a record as a fragment for notebooks.

    Args:
        record: as for `render`.

    Raises:
        FormatError: as for `render`.
    """
    return _render("snippet.html", record)


def embed(record: Record) -> Markup:
    r"""A record as JSON that can stand inside a script element: nothing in it can close the element. Its rows are packed.

    Example:
        >>> embed({"title": "</script>"})
        Markup('{"title":"\\u003c/script\\u003e"}')
    """
    compact = {**record, "rows": packed(record["rows"])} if "rows" in record else record
    text = json.dumps(compact, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def isolated(text: str, labels: Iterable[str]) -> Markup:
    """A text in which every label stands for itself, whatever its direction of writing.

    Example:
        >>> isolated("'a' and 'b' agree", ["'a'"])
        Markup('<bdi>&#39;a&#39;</bdi> and &#39;b&#39; agree')
    """
    known = sorted({label for label in labels if label}, key=len, reverse=True)
    if not known:
        return escape(text)
    pieces = re.split(f"({'|'.join(map(re.escape, known))})", text)
    return Markup("").join(
        Markup("<bdi>{}</bdi>").format(piece) if index % 2 else escape(piece) for index, piece in enumerate(pieces)
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"aligned": aligned, "spell": spell, "shape": _shape, "place": _place, "value": _value}
    return environment


def _render(template: str, record: Record) -> str:
    try:
        labels = [part["label"] for part in (*record["engines"], *record["sources"])]
        environment = _environment().overlay()
        environment.filters = {**environment.filters, "isolated": lambda text: isolated(str(text), labels)}
        page = environment.get_template(template).render(_view(record))
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, UndefinedError) as error:
        raise FormatError(
            "this record does not hold what a page needs", got=f"{type(error).__name__}: {error}"
        ) from error
    # Names may hold what HTML drops, and those from a file lone surrogates, which no encoding can write.
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", page).encode("utf-8", "replace").decode("utf-8")


def _view(record: Record) -> dict[str, Any]:
    """What the template shows, beside the record itself."""
    styles = _styles(record)
    columns = _columns(record["rows"], styles)
    bad = [row for row in record["rows"] if row["verdict"] == "disagree"]
    return {
        "record": record,
        "css": Markup((_FOLDER / "style.css").read_text(encoding="utf-8")),
        "embedded": embed(record),
        "styles": styles,
        "tables": _tables(record, columns),
        "limits": _limits(record["rows"], columns),
        "ran": _what_ran(record),
        "chart": _profile(record, styles),
        "missing_lines": [
            label
            for label in styles
            if label not in {**(record["profile"] or {"engines": styles})["engines"], **record["failures"]}
        ],
        "map": _map(record),
        "map_legend": plots.map_legend(record["judging"]["limit"]),
        "places": _places(record, columns),
        "bad": [row for row in bad if _against_reference(row, columns)],
        "bad_pairs": [row for row in bad if not _against_reference(row, columns)],
        "gates": [_gates(record, kind) for kind in record["gates"]],
        "forms": _forms(record),
        "form_words": _FORMS,
        "mask": _mask(record, columns),
        "padding": [{**row, "steps": _FILLS.get(row["steps"], row["steps"])} for row in record["padding"]],
        "conventions": _conventions(record),
        "sources": [_layers(source) for source in record["sources"]],
        "inputs": _inputs(record),
        "failures": record["failures"],
        "cause": record.get("diagnosis"),
        "pattern_count": plots.STYLES,
    }


def _styles(record: Record) -> dict[str, int]:
    """A line style for every participant, in order; the reference, which stands last, has none."""
    return {engine["label"]: index % plots.STYLES for index, engine in enumerate(record["engines"][:-1])}


def _columns(rows: Sequence[Record], styles: Mapping[str, int]) -> list[Column]:
    """Every pair that occurs: the ones with the reference first, then the others, in the participants' order."""
    order = {label: index for index, label in enumerate(styles)}
    pairs = {(row["left"], row["right"]) for row in rows}
    last = len(order)
    ranked = sorted(
        pairs, key=lambda pair: (pair[1] in order, order.get(pair[0], last), order.get(pair[1], last), pair)
    )
    return [Column(left, right, (styles.get(left, 0), styles.get(right))) for left, right in ranked]


def _against_reference(row: Record, columns: Sequence[Column]) -> bool:
    return any(c.against_reference for c in columns if (c.left, c.right) == (row["left"], row["right"]))


def _tables(record: Record, columns: Sequence[Column]) -> list[Table]:
    """One table for both rules while it is narrow enough for the chart to stand beside it, else one for each rule."""
    rules = dict.fromkeys(row["rule"] for row in record["rows"])
    if len(columns) <= _NARROW:
        return [Table(tuple(columns), tuple(_group(record, rule, columns) for rule in rules))]
    tables = []
    for rule in rules:
        pairs = {(row["left"], row["right"]) for row in record["rows"] if row["rule"] == rule}
        own = [column for column in columns if (column.left, column.right) in pairs]
        tables.append(Table(tuple(own), (_group(record, rule, own),)))
    return tables


def _group(record: Record, rule: str, columns: Sequence[Column]) -> Group:
    layers = {layer["name"] for layer in record["sources"][0]["layers"]}
    quantities: dict[str, dict[tuple[str, str], Record]] = {}
    for row in record["rows"]:
        if row["rule"] == rule:
            quantities.setdefault(row["quantity"], {})[row["left"], row["right"]] = row
    lines = (
        Line(
            *_split(quantity, layers),
            max((row["verdict"] for row in cells.values()), key=_SEVERITY.index),
            tuple(cells.get((column.left, column.right)) for column in columns),
        )
        for quantity, cells in quantities.items()
    )
    return Group(*_RULES.get(rule, (rule, "")), tuple(lines))


def _split(quantity: str, layers: set[str]) -> tuple[str, str]:
    """The layer, or the word "output", and the quantity's own name.

    Example:
        >>> _split("lstm_1.h_n", {"lstm_1"}), _split("output forecast", set()), _split("h_n", {"lstm"})
        (('lstm_1', 'h_n'), ('output', 'forecast'), ('', 'h_n'))
    """
    layer, _, name = quantity.rpartition(".")
    if layer in layers:
        return layer, name
    for word in ("output", "layer"):
        if quantity.startswith(f"{word} "):
            return word, quantity.removeprefix(f"{word} ")
    return "", quantity


def _limits(rows: Sequence[Record], columns: Sequence[Column]) -> dict[bool, str]:
    """How many floors are allowed against the reference (True) and between two engines (False)."""
    found: dict[bool, set[float]] = {}
    for row in rows:
        found.setdefault(_against_reference(row, columns), set()).add(number(row["limit"]))
    return {against: " or ".join(map(spell, sorted(limits))) for against, limits in found.items()}


def _what_ran(record: Record) -> list[str]:
    """One line: engines with versions, sizes, seed."""
    inputs = record["inputs"]
    versions = dict.fromkeys(_version(engine) for engine in record["engines"] if engine["settings"])
    sizes = [f"{inputs['batch']} samples", *([] if inputs["time"] is None else [f"{inputs['time']} steps"])]
    sizes += [f"{f' {TIMES} '.join(map(str, inputs['features']))} features"] if inputs["features"] else []
    origin = f"inputs: {inputs.get('inputs')}, seed {inputs.get('seed')}"
    return [", ".join(versions), f" {TIMES} ".join(sizes), origin, str(inputs.get("device", ""))]


def _version(engine: Record) -> str:
    settings = engine["settings"]
    package, _, backend = engine["engine"].partition(":")
    if package in settings:
        return f"{package} {settings[package]}" + (f" on {settings.get('backend', backend)}" if backend else "")
    return f"{engine['engine']} ({settings.get('dtype', '')})"


def _profile(record: Record, styles: Mapping[str, int]) -> Markup | None:
    profile, judging = record["profile"], record["judging"]
    if profile is None:
        return None
    directions: list[str] = next(
        (layer["directions"] for layer in reversed(record["sources"][0]["layers"]) if "directions" in layer), []
    )
    # The horizon counts in processing order, which is the order of the axis for the forward direction alone.
    horizon = judging["horizon"] if directions == ["forward"] else None
    return plots.profile_chart(profile, judging["limit"], horizon, styles)


def _map(record: Record) -> Markup | None:
    where = record["map"]
    if where is None:
        return None
    rows = [
        r
        for r in record["rows"]
        if (r["rule"], r["left"], r["quantity"]) == ("run", where["engine"], where["quantity"])
    ]
    return plots.map_chart(where, record["judging"]["limit"], rows[0]["worst"] if rows else None)


def _places(record: Record, columns: Sequence[Column]) -> list[Record]:
    """Per rule the row that comes nearest to its limit, or is furthest beyond it."""
    worst: dict[str, Record] = {}
    for row in record["rows"]:
        if row["note"] or not row["total"] or not _against_reference(row, columns):
            continue
        best = worst.get(row["rule"])
        if best is None or number(row["times_floor"]) / row["limit"] > number(best["times_floor"]) / best["limit"]:
            worst[row["rule"]] = row
    return [{**row, "title": _RULES.get(rule, (rule,))[0]} for rule, row in worst.items()]


def _gates(record: Record, kind: str) -> dict[str, Any]:
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
        "drawing": plots.gate_diagram(kind.upper(), gates, layer["units"] if layer else None),
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
    return _shape(lengths)


def _forms(record: Record) -> list[str]:
    """Which engines run a conversion, and of which form."""
    labels: dict[str, list[str]] = {}
    for engine in record["engines"]:
        labels.setdefault(engine["form"]["kind"], []).append(engine["label"])
    return [f"{form} in {', '.join(labels[form])}" for form in ("native", "composed") if form in labels]


def _mask(record: Record, columns: Sequence[Column]) -> dict[str, Any] | None:
    """How much of the run is padding, and what every engine does with it; None without padding."""
    mask = record["mask"]
    if mask is None:
        return None
    differences: dict[str, list[str]] = {}
    for row in record["rows"]:
        if row["padded"] and row["padding_outside"] and _against_reference(row, columns):
            found = f"{row['quantity']} by up to {spell(row['padding_error'])}"
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


def _conventions(record: Record) -> list[Record]:
    """What layers return, those that return the same together; each other way to call them without the values that stay the same."""
    merged: dict[str, Record] = {}
    for returns in record["conventions"]:
        rest = {key: value for key, value in returns.items() if key != "names"}
        merged.setdefault(json.dumps(rest, sort_keys=True), {**rest, "names": []})["names"].extend(returns["names"])
    return [{**returns, "ways": [_way(way, returns) for way in returns["ways"]]} for returns in merged.values()]


def _way(way: Record, returns: Record) -> Record:
    others = [value for value in way["values"] if value not in returns[way["framework"]]]
    return {**way, "others": others, "same": len(others) < len(way["values"])}


def _layers(source: Record) -> dict[str, Any]:
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
    return f"{name} {_value(value)}"


def _inputs(record: Record) -> list[tuple[str, Any]]:
    inputs = record["inputs"]
    facts = [(text, inputs[key]) for key, text in _INPUT_FACTS.items() if inputs.get(key) is not None]
    if "shapes" in inputs:
        return [*((f"shape of {name}", _shape(shape)) for name, shape in inputs["shapes"].items()), *facts]
    shape = [inputs["batch"], inputs["time"], *inputs["features"]]
    axes = ", ".join(("batch", "time", "features")[: len(shape)])
    return [(f"shape ({axes})", _shape(shape)), *facts]


def _shape(shape: Sequence[int | str]) -> str:
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"


def _place(place: Mapping[str, Any]) -> str:
    return ", ".join(f"{axis} {position}" for axis, position in place.items())


def _value(value: Any) -> str:
    """A fact of any type in words."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return spell(value, digits=6)
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_value, value))
    return DASH if value is None else str(value)
