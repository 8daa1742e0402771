"""What `parity inspect` shows, as short lines of text out of `parity.inspecting.description`; only who draws them knows a terminal."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from os.path import commonprefix
from typing import Any

from parity.caution import FRAMEWORKS
from parity.cautions_of_cells import slot_words
from parity.frameworks import ENGINES

Fact = tuple[str, str]
"""A title and a text."""

_MOST_ROWS, _LAST_ROWS, _MOST_BLOCKS, _MOST_NAMES, _MOST_OPTIONS, _MOST_TENSORS, _MOST_PROBLEMS = 40, 5, 12, 3, 6, 4, 6
_LONG, _SHORT = 400, 60
_ELSEWHERE = (
    "producer",
    "keras_version",
    "date_saved",
    "file",
    "format",
    "caution",
    "fixed sizes",
    "stored as",
    "nonlinearity",
)
"""Details that are shown under another title or among the cautions."""

_TAIL = re.compile(r"(/\.ATTRIBUTES/VARIABLE_VALUE|:\d+)$")


@dataclass(frozen=True)
class Row:
    """A line of the table of layers: one layer, or several alike that follow each other."""

    layer: str
    what: str
    given: str
    gives: str
    options: str


@dataclass(frozen=True)
class Block:
    """A recurrent layer in full, or several that differ in their names alone."""

    title: str
    facts: tuple[Fact, ...]
    layout: str
    tensors: tuple[tuple[str, str, str], ...]


def printable(text: object, most: int = _LONG) -> str:
    """Text of a file, for one line of a terminal: control characters written out, what is too long cut with a sign.

    Example:
        >>> printable("a\\x1b[31m" + "b" * 100, 20)
        'a\\\\x1b[31mbb ... (+90 characters)'
    """
    joined = " ".join(str(text).split(" ")).replace("\n", " ")
    shown = "".join(
        one if one.isprintable() else one.encode("unicode_escape", "surrogatepass").decode() for one in joined[:most]
    )
    shown = shown if len(shown) <= 2 * most else shown[: 2 * most]
    return shown if len(joined) <= most else f"{shown} ... (+{len(joined) - most} characters)"


def names_text(names: Sequence[str], most: int = _MOST_NAMES) -> str:
    """Names in a line, the count of those left out behind them.

    Example:
        >>> names_text(["a", "b", "c", "d", "e"])
        'a, b, c and 2 more'
    """
    shown = ", ".join(printable(name, _SHORT) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def head(shown: Mapping[str, Any]) -> tuple[Fact, ...]:
    """The file: format, producer, age, and whatever else it says of itself."""
    facts = [("format", shown["format"])]
    age = "; ".join(filter(None, (shown["producer"], shown["age"])))
    facts += [("producer", age)] if age else []
    facts += [("saved", shown["saved"])] if shown["saved"] else []
    facts += [
        (name, text)
        for name, text in shown["details"].items()
        if name not in _ELSEWHERE and not name.startswith("layer ")
    ]
    if shown["time"]:
        facts.append(("steps", f"{shown['time']}, no other number"))
    if shown["outputs"]:
        facts.append(("outputs", names_text([output["name"] for output in shown["outputs"]], 8)))
    return tuple((printable(title, _SHORT), printable(text)) for title, text in facts)


def size_text(size: int | None) -> str:
    """Bytes for people.

    Example:
        >>> size_text(1405464), size_text(None)
        ('1.4 MB', '')
    """
    if size is None:
        return ""
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size} bytes"


# ---- the table of layers


def rows(shown: Mapping[str, Any]) -> tuple[Row, ...]:
    """All layers in order, those that are described only in their places; like ones in one line, a long middle counted."""
    merged = [row for _, group in groupby(_all_rows(shown), lambda item: item[1:]) for row in [_merged(list(group))]]
    if len(merged) <= _MOST_ROWS:
        return tuple(row for row, _ in merged)
    first, left_out, last = (
        merged[: _MOST_ROWS - _LAST_ROWS],
        merged[_MOST_ROWS - _LAST_ROWS : -_LAST_ROWS],
        merged[-5:],
    )
    counts: Counter[str] = Counter()
    for row, count in left_out:
        counts[row.what] += count
    words = ", ".join(f"{count} {what}" for what, count in counts.most_common(6))
    more = f"... {sum(counts.values())} more"
    rest = Row(more, "...", "", "", f"{words}{', ...' if len(counts) > 6 else ''}; --json lists them")
    return (*(row for row, _ in first), rest, *(row for row, _ in last))


_Item = tuple[str, str, str, str, str]


def _all_rows(shown: Mapping[str, Any]) -> Iterator[_Item]:
    waiting: dict[int, list[Mapping[str, Any]]] = {}
    for layer in shown["opaque"]:
        waiting.setdefault(min(layer["place"], len(shown["layers"])), []).append(layer)
    for place in range(len(shown["layers"]) + 1):
        for layer in waiting.get(place, ()):
            kind = layer["class"] or ("tensors" if layer["tensors"] else "")
            yield layer["name"], kind, "", "", _opaque_options(layer)
        if place < len(shown["layers"]):
            layer = shown["layers"][place]
            yield layer["name"], _kind(layer), str(layer["input"]), str(layer["output"]), _options(layer)


def _merged(items: list[_Item]) -> tuple[Row, int]:
    _, what, given, gives, options = items[0]
    name = printable(items[0][0], _SHORT)
    if len(items) > 1:
        name = f"{name} ... {printable(items[-1][0], _SHORT)} ({len(items)} alike)"
    return Row(name or "(no name)", printable(what, _SHORT), given, gives, options), len(items)


def _kind(layer: Mapping[str, Any]) -> str:
    return str(layer["kind"]).upper() if layer["family"] == "Recurrent" else str(layer["family"])


def _options(layer: Mapping[str, Any]) -> str:
    family = layer["family"]
    if family == "Recurrent":
        return _recurrent_options(layer["recurrent"][0], layer)
    if family == "Bidirectional":
        parts = "; ".join(
            f"{printable(one['name'], _SHORT)}: {one['kind'].upper()}, {_recurrent_options(one, {})}"
            for one in layer["recurrent"]
        )
        return f"merge_mode {layer['merge_mode']}, {parts}"
    if family == "Dense":
        return f"{layer['activation']}, {'bias' if layer['bias'] else 'no bias'}"
    if family == "Embedding":
        return ", ".join([f"vocabulary {layer['input']}", *(["mask_zero=True"] if layer.get("mask_zero") else [])])
    known = ("name", "family", "input", "output", "place", "dtype", "weights")
    return ", ".join(f"{name}={value}" for name, value in layer.items() if name not in known)


def _recurrent_options(one: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    passed = "every step" if one["return_sequences"] else "the last state"
    words = [f"{one['units']} units", " and ".join(one["directions"]), "bias" if one["biases"] else "no bias"]
    words += [str(facts["cell"])] if facts.get("cell") else []
    words.append("one step at a time" if one["single_step"] else f"passes on {passed}")
    names = ("merge_mode", "reverse", "stateful", "unroll", "dropout", "recurrent_dropout")
    return ", ".join([*words, *(f"{name}={facts[name]}" for name in names if name in facts)])


def _opaque_options(layer: Mapping[str, Any]) -> str:
    options = [f"{printable(name, _SHORT)}={printable(value, _SHORT)}" for name, value in layer["options"].items()]
    short = short_names(list(layer["tensors"]))
    shapes = [_shape(tensor["shape"]) for tensor in layer["tensors"].values()]
    tensors = [f"{printable(name, _SHORT)} {shape}" for name, shape in zip(short, shapes, strict=True)]
    parts = [_some(tensors, _MOST_TENSORS, "tensors"), _some(options, _MOST_OPTIONS, "options")]
    return "; ".join(filter(None, parts))


def short_names(names: Sequence[str]) -> list[str]:
    """Names of tensors without the way to them that all have, and without what TensorFlow puts behind them.

    Example:
        >>> short_names(["conv1/conv1/kernel:0", "conv1/conv1/bias:0"]), short_names(["encoder.0.weight"])
        (['kernel', 'bias'], ['weight'])
    """
    plain = [_TAIL.sub("", name) for name in names]
    shared = commonprefix(plain)
    cut = max(shared.rfind(sign) for sign in "/.") + 1
    return [name[cut:] or name for name in plain]


def _some(words: Sequence[str], most: int, what: str) -> str:
    more = f" and {len(words) - most} more {what}" if len(words) > most else ""
    return ", ".join(words[:most]) + more


def _shape(shape: Sequence[object]) -> str:
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"


# ---- recurrent layers in full


def blocks(shown: Mapping[str, Any]) -> tuple[tuple[Block, ...], int]:
    """The recurrent layers in full, like ones together, and how many more there are than are shown."""
    returned = {one["layers"][0]: one for one in shown["returned"] if len(one["layers"]) == 1}
    masked = any(layer["family"] == "Masking" or layer.get("mask_zero") for layer in shown["layers"])
    groups: dict[object, list[tuple[Mapping[str, Any], list[Fact]]]] = {}
    for layer in shown["layers"]:
        whole = layer["family"] == "Bidirectional"
        for one in layer.get("recurrent", ()):
            facts = [*_facts(one, masked), *(_returns(returned.get(one["name"]), shown) if not whole else ())]
            size = _title([{**one, "name": ""}])
            groups.setdefault((size, *facts, *_tensors(one)), []).append((one, facts))
    found = [
        Block(
            _title([one for one, _ in members]),
            tuple(members[0][1]),
            _layout(members[0][0]),
            tuple(_tensors(members[0][0], own_names=len(members) == 1)),
        )
        for members in groups.values()
    ]
    left_out = sum(len(members) for members in list(groups.values())[_MOST_BLOCKS:])
    return tuple(found[:_MOST_BLOCKS]), left_out


def _title(members: Sequence[Mapping[str, Any]]) -> str:
    one = members[0]
    names = names_text([member["name"] for member in members])
    size = f"{one['projection']} of {one['units']}" if one["projection"] else str(one["units"])
    cell = " cell" if one["single_step"] else ""
    return f"{names}: {one['kind'].upper()}{cell}, {one['input']} features in, {size} units, {' and '.join(one['directions'])}"


def _facts(one: Mapping[str, Any], masked: bool) -> Iterator[Fact]:
    functions = [
        "; ".join(f"{slot_words(slot)}: {function['words']}" for slot, function in cell.items())
        for cell in one["functions"]
    ]
    unique = list(dict.fromkeys(functions))
    each = (
        unique
        if len(unique) == 1
        else [f"{way}: {text}" for way, text in zip(one["directions"], functions, strict=True)]
    )
    yield "activations", " | ".join(each)
    if one["reset_after"] is not None:
        yield "reset gate", _reset(one)
    kept = "kept apart" if one["kind"] == "gru" else "added"
    yield "bias", {0: "none", 1: "one"}.get(one["biases"], f"two, of the input and of the recurrence, {kept}")
    if one["peepholes"]:
        yield "peepholes", "the gates see the cell state"
    for name in ("clip", "input_forget"):
        if any(one[name]):
            yield name, ", ".join(dict.fromkeys(str(value) for value in one[name]))
    yield "passes on", _passes_on(one)
    if masked and one["return_sequences"]:
        yield "masked steps", {"repeat": "hold the last output again", "zero": "hold zeros"}[one["fill"]]
    for name, words in (("stateful", "True: states are carried from call to call"), ("unroll", "True")):
        if one[name]:
            yield name, words
    for name in ("dropout", "recurrent_dropout"):
        if one[name]:
            yield name, f"{one[name]:g}, in training only"
    if one["in_the_file"]:
        yield "in the file", printable(one["in_the_file"])
    small = [name for name in one["stored_as"].split(", ") if name]
    yield "numbers", one["dtype"] + (f", stored as {', '.join(small)}" if small and small != [one["dtype"]] else "")


def _reset(one: Mapping[str, Any]) -> str:
    words = {True: "after the matrix product", False: "before the matrix product"}
    said = {"onnx": "linear_before_reset={:d}", "keras": "reset_after={}"}.get(one["stored"]["layout"], "")
    texts = [words[after] + (f" ({said.format(after)})" if said else "") for after in one["reset_after"]]
    unique = list(dict.fromkeys(texts))
    return unique[0] if len(unique) == 1 else "; ".join(map(": ".join, zip(one["directions"], texts, strict=True)))


def _passes_on(one: Mapping[str, Any]) -> str:
    if one["single_step"]:
        return "the states after one step"
    words = "every step" if one["return_sequences"] else "the state after the last step"
    parts = [words]
    if one["merge_mode"] != "concat" and len(one["directions"]) > 1:
        parts.append(f"merge_mode={one['merge_mode']}")
    if one["reverse"]:
        parts.append("in the opposite order of the input")
    elif one["directions"] == ["backward"]:
        parts.append("in the order of the input")
    if one["return_state"]:
        parts.append("and its final states")
    return ", ".join(parts)


def _returns(returned: Mapping[str, Any] | None, shown: Mapping[str, Any]) -> Iterator[Fact]:
    if returned is None:
        return
    own = ENGINES.get(shown["origin"], "keras")
    title = "returns"
    for framework in sorted(FRAMEWORKS, key=lambda name: name != own):
        if returned[framework]:
            batch = " with batch_first=True" if framework == "torch" and "time" in returned["torch"] else ""
            yield title, f"in {FRAMEWORKS[framework] + batch}: {returned[framework]}"
            title = ""


def _tensors(one: Mapping[str, Any], own_names: bool = False) -> Iterator[tuple[str, str, str]]:
    """The weights: name, shape, axes; the names are those in the file if they are known and wanted, else the framework's."""
    for tensor in one["stored"]["tensors"]:
        way = f" ({tensor['direction']})" if len(one["directions"]) > 1 and tensor["direction"] else ""
        name = tensor["in_file"] if own_names and tensor["in_file"] else f"{tensor['name']}{way}"
        yield printable(name, 2 * _SHORT), _shape(tensor["shape"]), ", ".join(tensor["axes"])


def _layout(one: Mapping[str, Any]) -> str:
    stored = one["stored"]
    gates = f", gates in the order {' '.join(stored['gates'])}" if len(stored["gates"]) > 1 else ""
    return f"as {FRAMEWORKS[stored['layout']]} keeps them{gates}"


def together(shown: Mapping[str, Any]) -> tuple[Fact, ...]:
    """What a stack of several layers returns as a whole; nothing where each returns by itself."""
    found = [one for one in shown["returned"] if len(one["layers"]) > 1]
    return tuple(fact for one in found for fact in _returns(one, shown))


# ---- why it is partial, and what can be done


def obstacles(shown: Mapping[str, Any]) -> tuple[str, ...]:
    """Why it cannot be converted as a whole, each in a line or two."""
    lines = []
    for problem in shown["problems"][:_MOST_PROBLEMS]:
        got = f": {problem['got']}" if problem["got"] else ""
        where = f" ({problem['where']})" if problem["where"] else ""
        lines.append(printable(f"{problem['what']}{got}{where}"))
    left_out = shown["problems"][_MOST_PROBLEMS:]
    return (*lines, *([f"and {len(left_out)} more: --json lists them"] if left_out else []))


def remedies(shown: Mapping[str, Any]) -> tuple[str, ...]:
    """What to do about it as a whole."""
    found = dict.fromkeys(printable(problem["remedy"]) for problem in shown["problems"] if problem["remedy"])
    return tuple(found)[:3]


def commands(shown: Mapping[str, Any]) -> tuple[str, ...]:
    """How to take a recurrent layer of a partial network alone, for the first of them.

    Example:
        >>> commands({"alone": ["my lstm"], "path": "old.h5", "file": "old.h5"})[1]
        "parity compare old.h5 --layer 'my lstm'"
    """
    if not shown["alone"]:
        return ()
    name, path = printable(shown["alone"][0], 200), shlex.quote(printable(shown["path"] or shown["file"], 1000))
    target = re.sub(r"[^A-Za-z0-9_.-]+", "_", name).strip("._-") or "layer"
    option = f"--layer={shlex.quote(name)}" if name.startswith("-") else f"--layer {shlex.quote(name)}"
    return f"parity convert {path} {target[:60]}.keras {option}", f"parity compare {path} {option}"


# ---- cautions


def caution_lines(shown: Mapping[str, Any]) -> tuple[tuple[str, str, str], ...]:
    """Each caution: where and what; why; what to do."""
    lines = []
    for caution in shown["cautions"]:
        where = f"{names_text(caution['where'])}: " if caution["where"] else ""
        lines.append((f"{where}{printable(caution['what'])}", printable(caution["why"], 2 * _LONG), caution["remedy"]))
    return tuple(lines)
