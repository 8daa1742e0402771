"""What `parity inspect` shows, as short lines of text out of `parity.inspection.description`; only who draws them knows a terminal."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from parity.cautions.caution import FRAMEWORKS
from parity.cautions.cells import slot_words
from parity.custom_files import custom_words
from parity.frameworks import ENGINES
from parity.returns import shape_text

Fact = tuple[str, str]
"""A title and a text."""

_MOST_BLOCKS, _MOST_NAMES, _MOST_PROBLEMS = 12, 3, 6
LONG, SHORT = 400, 60
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


@dataclass(frozen=True)
class Block:
    """A recurrent layer in full, or several that differ in their names alone."""

    title: str
    facts: tuple[Fact, ...]
    layout: str
    tensors: tuple[tuple[str, str, str], ...]


def printable(text: object, most: int = LONG) -> str:
    """Text of a file, for one line of a terminal: control characters written out, what is too long cut with a sign.

    Example:
        >>> print(printable("a\\x1b[31m" + "b" * 100, 8))
        a\\x1b[31mbb ... (+98 characters)
    """
    line = str(text).replace("\n", " ")
    shown = "".join(
        one if one.isprintable() else one.encode("unicode_escape", "surrogatepass").decode() for one in line[:most]
    )
    return shown if len(line) <= most else f"{shown} ... (+{len(line) - most} characters)"


def names_text(names: Sequence[str], most: int = _MOST_NAMES) -> str:
    """Names in a line, the count of those left out behind them.

    Example:
        >>> names_text(["a", "b", "c", "d", "e"])
        'a, b, c and 2 more'
    """
    shown = ", ".join(printable(name, SHORT) for name in names[:most])
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
    return tuple((printable(title, SHORT), printable(text)) for title, text in facts)


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


def some(words: Sequence[str], most: int) -> str:
    """The first of some words in a line, and how many more there are."""
    more = f" and {len(words) - most} more" if len(words) > most else ""
    return ", ".join(words[:most]) + more


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
    keras = one["stored"]["layout"] == "keras"
    words = "every step" if one["return_sequences"] else "the state after the last step"
    parts = [words + (f" (return_sequences={one['return_sequences']})" if keras else "")]
    if len(one["directions"]) > 1 and (keras or one["merge_mode"] != "concat"):
        parts.append(f"merge_mode={one['merge_mode']}")
    if one["reverse"]:
        parts.append("in the opposite order of the input (go_backwards)")
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
        yield printable(name, 2 * SHORT), shape_text(tensor["shape"]), ", ".join(tensor["axes"])


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
    """Why it cannot be converted as a whole: a line for each kind of problem."""
    kinds: dict[str, list[Mapping[str, str]]] = {}
    for problem in shown["problems"]:
        kinds.setdefault(problem["what"], []).append(problem)
    lines = []
    for what, problems in list(kinds.items())[:_MOST_PROBLEMS]:
        got = list(dict.fromkeys(problem["got"] for problem in problems if problem["got"]))
        places = list(dict.fromkeys(_place(problem["where"], shown) for problem in problems if problem["where"]))
        where = f" ({some(places, 1)})" if places else ""
        lines.append(f"{printable(what)}{': ' if got else ''}{printable(some(got, 8))}{printable(where)}")
    left_out = len(kinds) - _MOST_PROBLEMS
    return (*lines, *([f"and {left_out} more kinds: --json lists all problems"] if left_out > 0 else []))


def _place(where: str, shown: Mapping[str, Any]) -> str:
    """Where a problem is, without the file that all of it is about."""
    return where.removesuffix(f" of {shown['path']}")


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
    name = shown["alone"][0]
    path = shlex.quote(printable(shown["path"] or shown["file"], 1000))
    target = re.sub(r"[^A-Za-z0-9_.-]+", "_", name).strip("._-") or "layer"
    chosen = name if printable(name, 200) == name else "0"
    option = f"--layer={shlex.quote(chosen)}" if chosen.startswith("-") else f"--layer {shlex.quote(chosen)}"
    return f"parity convert {path} {target[:60]}.keras {option}", f"parity compare {path} {option}"


def as_code(shown: Mapping[str, Any]) -> tuple[str, ...]:
    """How to convert a whole model that is no chain of layers; one that is partial gets stubs.

    Example:
        >>> as_code({"as_code": True, "partial": False, "path": "model.keras", "file": "model.keras"})
        ('parity convert model.keras out/ --to torch', 'parity compare model.keras')
    """
    if not shown["as_code"]:
        return ()
    path = shlex.quote(printable(shown["path"] or shown["file"], 1000))
    convert, custom = f"parity convert {path} out/ --to torch", custom_words()
    return (
        (f"{convert} --partial{custom}",) if shown["partial"] else (convert + custom, f"parity compare {path}{custom}")
    )


# ---- cautions


def caution_lines(shown: Mapping[str, Any]) -> tuple[tuple[str, str, str], ...]:
    """Each caution: where and what; why; what to do."""
    lines = []
    for caution in shown["cautions"]:
        where = f"{names_text(caution['where'])}: " if caution["where"] else ""
        lines.append((f"{where}{printable(caution['what'])}", printable(caution["why"], 2 * LONG), caution["remedy"]))
    return tuple(lines)
