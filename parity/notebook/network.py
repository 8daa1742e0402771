"""A network as a notebook shows it: its inputs, outputs and layers. No weight is read, as it may still be in a large file."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from parity.graph.operations.constant import Constant
from parity.inspection.text import SHORT, printable, some
from parity.network.bidirectional import Bidirectional
from parity.network.graph import Network, Output
from parity.network.opaque import Opaque
from parity.network.recurrent import Recurrent
from parity.notebook.drawing import cut, never_raising, rendered
from parity.returns import shape_text

_TABLE, _LIST = 30_000, 4_000
"""Bytes of HTML that a table and a list may take."""

_MOST_OPTIONS, _MOST_NAMES, _MOST_DETAILS, _MOST_ITEMS = 6, 8, 8, 8
_LONGEST_OPTION, _LONGEST_DETAIL = 45, 160

_HEADS = ("layer", "kind", "in", "out", "units", "directions", "options", "parameters")
_OWN_COLUMNS = ("name", "kind", "class", "input", "output", "units", "directions")


@never_raising
def network_html(network: Network) -> str:
    """Name, where from, inputs, outputs, and a table of the layers with their sizes, options and number of parameters.

    Example:
        >>> import numpy as np
        >>> from parity.recurrent import RecurrentSpec, Weights
        >>> weights = Weights(np.zeros((3, 5, 2)), np.zeros((3, 5, 5)))
        >>> "105 parameters" in network_html(Network("gru", (Recurrent("gru", RecurrentSpec("gru", 2, 5), (weights,)),)))
        True
    """
    rows, plain = _graph_rows(network) if network.graph is not None else (list(_chain_rows(network)), 0)
    parameters = sum(int(row[-1].replace(",", "") or 0) for row in rows)
    without = f", and {_count(plain, 'operation')} without weights, which are not listed" if plain else ""
    return rendered(
        "notebook_network.html",
        name=network.name or "(no name)",
        size=f"{_count(len(rows), 'layer')}, {_count(parameters, 'parameter')}",
        facts=[*_facts(network), *_details(network)],
        caption=f"layers{without}",
        heads=_HEADS,
        layers=cut(rows, _TABLE, last=3),
        problems=cut(dict.fromkeys(f"{one.what}{': ' if one.got else ''}{one.got}" for one in network.stopping), _LIST),
        as_graph=network.graph is not None,
    )


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"


# ---- what goes in and out


def _facts(network: Network) -> Iterator[tuple[str, str]]:
    if network.origin:
        yield "read from", network.origin
    if network.graph is not None:
        given = [f"{one.name} {shape_text(one.shape)} {one.dtype}" for one in network.graph.inputs]
        yield "inputs", _named(given)
        yield "outputs", _named(list(network.graph.outputs))
        return
    if network.layers:
        yield "input", _input(network)
    if network.outputs:
        yield (
            "outputs" if len(network.outputs) > 1 else "output",
            _named([_output(network, o) for o in network.outputs]),
        )
    elif network.layers and not network.problems:
        yield "output", "the sequence and the final states, as the layer itself returns them"


def _named(names: Sequence[str]) -> str:
    return some([printable(name, SHORT) for name in names], _MOST_NAMES)


def _input(network: Network) -> str:
    steps = network.time or "time"
    name = f"{network.input_name} " if network.input_name else ""
    if network.tokens:
        return f"{name}{shape_text(('batch', steps))} integers below {network.tokens:,}"
    return f"{name}{shape_text(('batch', steps, network.layers[0].input_size))}"


def _output(network: Network, output: Output) -> str:
    name = printable(output.name, SHORT)
    layer = "" if output.layer == output.name else f" of '{printable(output.layer, SHORT)}'"
    if output.value is not None:
        return f"{name}: {output.value.name}{layer}"
    passed = []
    for one in network.layers:
        passed.append(one)
        if one.name == output.layer:
            break
    steps = all(one.return_sequences for one in passed if isinstance(one, (Recurrent, Bidirectional)))
    shape = ("batch", *((network.time or "time",) if steps else ()), passed[-1].output_size)
    return f"{name} {shape_text(shape)}{layer}"


def _details(network: Network) -> Iterator[tuple[str, str]]:
    known = [(title, text) for title, text in network.details.items() if not title.startswith("layer ")]
    yield from ((title, printable(text, _LONGEST_DETAIL)) for title, text in known[:_MOST_DETAILS])
    if len(known) > _MOST_DETAILS:
        yield "more", f"{len(known) - _MOST_DETAILS} details"


# ---- layers


def _chain_rows(network: Network) -> Iterator[tuple[str, ...]]:
    """Layers in their order, those that are described only in their places."""
    waiting: dict[int, list[Opaque]] = {}
    for one in network.opaque:
        waiting.setdefault(max(0, min(one.place, len(network.layers))), []).append(one)
    for place in range(len(network.layers) + 1):
        yield from (_opaque_row(one) for one in waiting.get(place, ()))
        if place < len(network.layers):
            yield _row(network.layers[place])


def _graph_rows(network: Network) -> tuple[list[tuple[str, ...]], int]:
    """Operations with weights, and stubs; how many others there are."""
    operations = network.graph.operations
    stubs = {id(one) for one in network.graph.stubs}
    weighted = [
        one
        for one in operations
        if id(one) in stubs or (one.arrays.held and not (isinstance(one, Constant) and not one.trained))
    ]
    return [_row(one) for one in weighted], len(operations) - len(weighted)


def _row(layer: Any) -> tuple[str, ...]:
    facts = layer.facts
    kind = str(facts.get("class") or type(layer).__name__)
    units, directions = "", ""
    if isinstance(layer, Recurrent):
        kind, units, directions = (
            layer.spec.kind.upper(),
            f"{layer.spec.hidden_size:,}",
            " and ".join(layer.spec.directions),
        )
    elif isinstance(layer, Bidirectional):
        kind = "Bidirectional"
        units = " and ".join(f"{one.spec.hidden_size:,}" for one in layer.recurrent)
        directions = "; ".join(
            f"{way}: {', '.join(one.spec.kind.upper() for one in stack)}"
            for way, stack in zip(("forward", "backward"), layer.stacks, strict=True)
        )
        facts = {"merge_mode": facts["merge_mode"]}
    sizes = (_size(layer, "input_size"), _size(layer, "output_size"))
    shapes = layer.arrays.shapes.values()
    return layer.name, kind, *sizes, units, directions, _options(facts), _parameters(shapes)


def _opaque_row(layer: Opaque) -> tuple[str, ...]:
    kind = f"{layer.class_name or 'tensors'} (described only)"
    return layer.name, kind, "", "", "", "", _options(layer.facts), _parameters(layer.shapes.values())


def _size(layer: Any, name: str) -> str:
    found = getattr(layer, name, None)
    return f"{found:,}" if isinstance(found, int) else ""


def _parameters(shapes: Iterable[Sequence[int]]) -> str:
    count = sum(math.prod(shape) for shape in shapes)
    return f"{count:,}" if count else ""


def _options(facts: Mapping[str, object]) -> str:
    options = [f"{name}={_value(value)}" for name, value in facts.items() if name not in _OWN_COLUMNS]
    return some([printable(one, _LONGEST_OPTION) for one in options], _MOST_OPTIONS)


def _value(value: object) -> str:
    """A value in a few words: of a list or a table no more than its beginning is written at all."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"array {shape_text(tuple(value.shape))}"
    if isinstance(value, (list, tuple)) and len(value) > _MOST_ITEMS:
        return f"{len(value)} values: {', '.join(map(_value, value[:3]))}, ..."
    if isinstance(value, Mapping) and len(value) > _MOST_ITEMS:
        return f"{len(value)} entries"
    return str(value)


__all__ = ["network_html"]
