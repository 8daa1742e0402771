"""The table of layers of `parity inspect`, short enough to read, out of `parity.inspection.description`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, takewhile
from typing import Any

from parity.inspection.text import SHORT, printable, some
from parity.returns import shape_text

_MOST_ROWS, _LAST_ROWS, _MOST_OPTIONS, _MOST_TENSORS = 40, 5, 6, 5
_LONGEST_BLOCK, _FEWEST_REPEATS = 8, 3

_TAIL = re.compile(r"(/\.ATTRIBUTES/VARIABLE_VALUE|:\d+)$")


@dataclass(frozen=True)
class Row:
    """A line of the table of layers: one layer, or several alike that follow each other."""

    layer: str
    what: str
    given: str
    gives: str
    options: str


_Item = tuple[str, str, str, str, str]
_Counted = tuple[Row, int]


def rows(shown: Mapping[str, Any]) -> tuple[Row, ...]:
    """All layers in order, those that are described only in their places.

    Like ones that follow each other are one line, blocks that repeat are shown once, and a long middle is counted.
    """
    merged = [_merged(list(group)) for _, group in groupby(_all_rows(shown), lambda item: item[1:])]
    once = list(_without_repeats(merged))
    if len(once) <= _MOST_ROWS:
        return tuple(row for row, _ in once)
    first, left_out, last = (
        once[: _MOST_ROWS - _LAST_ROWS],
        once[_MOST_ROWS - _LAST_ROWS : -_LAST_ROWS],
        once[-_LAST_ROWS:],
    )
    counts: Counter[str] = Counter()
    for row, count in left_out:
        counts[row.what] += count
    words = some([f"{count} {what}".strip() for what, count in counts.most_common()], 6)
    rest = Row(f"... {sum(counts.values())} more", "...", "", "", f"{words}; --json lists them")
    return (*(row for row, _ in first), rest, *(row for row, _ in last))


def _without_repeats(merged: list[_Counted]) -> Iterator[_Counted]:
    """Blocks of a few lines that come again and again, once."""
    alike = [replace(row, layer="") for row, _ in merged]
    place = 0
    while place < len(merged):
        found = (0, 0)
        for period in range(2, _LONGEST_BLOCK + 1):
            block, times = alike[place : place + period], 1
            while len(block) == period and alike[place + times * period : place + (times + 1) * period] == block:
                times += 1
            if times >= _FEWEST_REPEATS:
                found = (period, times)
                break
        period, times = found
        yield from merged[place : place + max(period, 1)]
        if times:
            skipped = merged[place + period : place + times * period]
            words = f"these {period} lines {times - 1} times more, up to '{skipped[-1][0].layer}'"
            yield Row("... and so on", "", "", "", words), sum(count for _, count in skipped)
        place += max(period * times, 1)


def _all_rows(shown: Mapping[str, Any]) -> Iterator[_Item]:
    waiting: dict[int, list[Mapping[str, Any]]] = {}
    for layer in shown["opaque"]:
        waiting.setdefault(max(0, min(layer["place"], len(shown["layers"]))), []).append(layer)
    for place in range(len(shown["layers"]) + 1):
        for layer in waiting.get(place, ()):
            kind = layer["class"] or ("tensors" if layer["tensors"] else "")
            yield layer["name"], kind, "", "", _opaque_options(layer)
        if place < len(shown["layers"]):
            layer = shown["layers"][place]
            yield layer["name"], _kind(layer), str(layer["input"]), str(layer["output"]), _options(layer)


def _merged(items: list[_Item]) -> _Counted:
    _, what, given, gives, options = items[0]
    name = printable(items[0][0], SHORT)
    if len(items) > 1:
        name = f"{name} ... {printable(items[-1][0], SHORT)} ({len(items)} alike)"
    return Row(name or "(no name)", printable(what, SHORT), given, gives, options), len(items)


def _kind(layer: Mapping[str, Any]) -> str:
    return str(layer["kind"]).upper() if layer["family"] == "Recurrent" else str(layer["family"])


def _options(layer: Mapping[str, Any]) -> str:
    family = layer["family"]
    if family == "Recurrent":
        return _recurrent_options(layer["recurrent"][0], layer)
    if family == "Bidirectional":
        parts = "; ".join(
            f"{printable(one['name'], SHORT)}: {one['kind'].upper()}, {_recurrent_options(one, {})}"
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
    options = [
        f"{printable(name, SHORT)}={printable(_value(value), SHORT)}" for name, value in layer["options"].items()
    ]
    short = short_names(list(layer["tensors"]))
    shapes = [shape_text(tensor["shape"]) for tensor in layer["tensors"].values()]
    tensors = [f"{printable(name, SHORT)} {shape}" for name, shape in zip(short, shapes, strict=True)]
    parts = [some(tensors, _MOST_TENSORS), some(options, _MOST_OPTIONS)]
    return "; ".join(filter(None, parts))


def _value(value: object) -> object:
    """A number of float32 without the digits that double precision shows of it."""
    return f"{value:.6g}" if isinstance(value, float) else value


def short_names(names: Sequence[str]) -> list[str]:
    """Names of tensors without the way to them that all have, and without what TensorFlow puts behind them.

    Example:
        >>> short_names(["conv1/conv1/kernel:0", "conv1/conv1/bias:0"]), short_names(["encoder.0.weight"])
        (['kernel', 'bias'], ['weight'])
    """
    plain = [_TAIL.sub("", name) for name in names]
    ends = min(plain, default=""), max(plain, default="")
    shared = "".join(one for one, _ in takewhile(lambda pair: pair[0] == pair[1], zip(*ends, strict=False)))
    cut = max(shared.rfind(sign) for sign in "/.") + 1
    return [name[cut:] or name for name in plain]
