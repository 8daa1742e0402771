"""What the command line prints: the same facts as the report's first screen, plain when piped."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from parity.explaining import explain_network
from parity.findings import Findings, describe
from parity.forms import Target, form_in
from parity.frameworks import ENGINES
from parity.judge import LIMIT, REFERENCE, Row
from parity.layouts import KERAS_GRU_RESET_BEFORE, LAYOUTS, Layout, axis_groups
from parity.network import Bidirectional, Dense, Embedding, Layer, Network, Recurrent, layer_facts
from parity.recurrent import pack
from parity.returns import Returns, shape_text
from parity.sources import Opened

_WIDE = 140
"""Columns of a terminal that has room for engines against each other beside engines against the reference."""

_SIGNS = {"agree": ("ok", "green"), "disagree": ("DISAGREE", "bold red"), "undecided": ("undecided", "yellow")}


def console() -> Console:
    """Standard output; wide and without colour when it is no terminal, so that nothing is cut."""
    return Console(width=None if sys.stdout.isatty() else 200, highlight=False)


def say(text: str) -> None:
    """One line, as it is."""
    console().print(text, markup=False, soft_wrap=True)


@contextmanager
def progress() -> Iterator[Callable[[str], None] | None]:
    """A line on standard error that says what is running; nothing when that is no terminal."""
    errors = Console(stderr=True)
    if not errors.is_terminal:
        yield None
        return
    with errors.status("starting") as status:
        yield lambda line: status.update(escape(line))


def show_json(value: object) -> None:
    """Plain JSON."""
    sys.stdout.write(json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def show_comparison(comparison: Findings) -> None:
    """The verdict, the matrix and what stands out."""
    out = console()
    sign, style = _SIGNS[comparison.verdict]
    out.print(f"[{style}]{sign}[/] {escape(comparison.sentence)}", soft_wrap=True)
    pairs = list(dict.fromkeys((row.left, row.right) for row in comparison.table))
    if out.width < _WIDE:
        pairs = [pair for pair in pairs if pair[1] == REFERENCE] or pairs
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("max difference (x floor)")
    for left, right in pairs:
        table.add_column(escape(left if right == REFERENCE else f"{left} - {right}"), justify="right")
    for rule, quantity in dict.fromkeys((row.rule, row.quantity) for row in comparison.table):
        found = {(row.left, row.right): row for row in comparison.table if (row.rule, row.quantity) == (rule, quantity)}
        name = quantity if rule == "run" else f"{quantity}, one step"
        table.add_row(escape(name), *(_cell(found.get(pair)) for pair in pairs))
    out.print(table)
    asked = comparison.asked["inputs"]
    own = "random inputs; your own: --inputs x.npz" if asked == "random" else f"inputs: {asked}"
    out.print(
        f"x: in units of the float32 floor; allowed {LIMIT:g} against the reference, {2 * LIMIT:g} between engines. {escape(own)}",
        soft_wrap=True,
        style="dim",
    )
    for label, form in comparison.forms.items():
        if not form.native:
            out.print(escape(f"composed in {label}: {'; '.join(form.composed)}"), soft_wrap=True, style="dim")
    for row in comparison.table:
        if row.verdict == "disagree" and row.right == REFERENCE:
            out.print(f"  {escape(describe(row))}", soft_wrap=True)
    for label, text in comparison.judgement.failures.items():
        out.print(f"[bold red]FAILED[/] {escape(label)}: {escape(text)}", soft_wrap=True)
    for note in comparison.notes:
        out.print(f"note: {escape(note)}", soft_wrap=True)


def _cell(row: Row | None) -> str:
    if row is None:
        return ""
    sign, style = _SIGNS[row.verdict]
    mark = "" if row.verdict == "agree" else f" {sign}"
    return f"[{style}]{row.max_error:.1e} ({row.times_floor:.2g}x){mark}[/]"


_TARGETS: dict[str, Target] = {
    ".keras": "keras",
    ".onnx": "onnx",
    ".pt": "torch",
    ".pth": "torch",
    ".safetensors": "torch",
}


def form_of_target(network: Network, target: Path) -> Iterator[str]:
    """What is to be known of the form that a network has in a file of a suffix; nothing where it is plainly native."""
    suffix = target.suffix.lower()
    if suffix not in _TARGETS:
        return
    form = form_in(network, _TARGETS[suffix])
    yield from str(form).splitlines()[form.native :]
    if suffix == ".keras" and not form.native:
        yield "Keras opens it after `import parity.keras_layers`"


def show_explained(explained: Sequence[Returns]) -> None:
    """What layers return, value by value; what is the same for all of them once."""
    for returns in explained:
        say(returns.text(context=len(explained) == 1) + ("\n" if len(explained) > 1 else ""))
    if len(explained) > 1:
        say("\n".join(replace(explained[-1], ways=()).context()))


def description(opened: Opened) -> dict[str, Any]:
    """What `inspect --json` prints."""
    network = opened.network
    return {
        "file": opened.label,
        "origin": network.origin,
        "bare": network.bare,
        "details": network.details,
        "layers": [
            layer_facts(layer) | {"weights": {name: list(shape) for name, shape in layer.arrays.shapes.items()}}
            for layer in network.layers
        ],
        "outputs": [{"name": output.name, "layer": output.layer} for output in network.outputs],
        "returns": [str(returns.shapes) for returns in explain_network(network)],
    }


def show_network(opened: Opened) -> None:
    """A model file in tables."""
    out, network = console(), opened.network
    facts = ", ".join(f"{name} {value}" for name, value in network.details.items())
    out.print(
        f"[bold]{escape(opened.label)}[/]: {escape(network.origin)}{escape(', ' + facts if facts else '')}",
        soft_wrap=True,
    )
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("layer", "what", "in", "out", "options"):
        table.add_column(title)
    for layer in network.layers:
        table.add_row(
            escape(layer.name), _kind(layer), str(layer.input_size), str(layer.output_size), escape(_options(layer))
        )
    out.print(table)
    for layer in network.recurrent:
        layout = _layout(network.origin, layer)
        per_call = layer.weights if any("direction" in tensor.axes for tensor in layout.tensors) else layer.weights[:1]
        shapes = {name: array.shape for name, array in pack(layout, layer.spec, per_call).items()}
        axes = {tensor.name: tensor.axes for tensor in layout.tensors}
        before = "" if layout is not KERAS_GRU_RESET_BEFORE else ", reset_after=False"
        head = f"weights in {layout.framework}'s layout{before}, gates {' '.join(layout.own_gates)}:"
        out.print(f"\n[bold]{escape(layer.name)}[/] {head}", soft_wrap=True)
        for name, shape in shapes.items():
            names = ", ".join("*".join(group) for group in axis_groups(axes[name]))
            out.print(f"  {name} {shape_text(shape)} = ({names})", markup=False, soft_wrap=True)
    for returns in explain_network(network):
        own = "" if network.origin == "keras" else "as a Keras layer, "
        say(f"\n{own}{returns.layer} returns {returns.shapes}")
    if network.outputs:
        say(f"outputs: {', '.join(output.name for output in network.outputs)}")


def _layout(origin: str, layer: Recurrent) -> Layout:
    """The layout of the file's own framework; torch's for a description of no framework."""
    layout = LAYOUTS[ENGINES.get(origin, "torch"), layer.spec.kind]
    before = layer.spec.kind == "gru" and not any(cell.reset_after for cell in layer.cells)
    return KERAS_GRU_RESET_BEFORE if before and layout.framework == "keras" else layout


def _kind(layer: Layer) -> str:
    return layer.spec.kind.upper() if isinstance(layer, Recurrent) else type(layer).__name__


def _options(layer: Layer) -> str:
    if isinstance(layer, Recurrent):
        return _recurrent_options(layer)
    if isinstance(layer, Bidirectional):
        parts = "; ".join(f"{inner.name}: {_kind(inner)}, {_recurrent_options(inner)}" for inner in layer.recurrent)
        return f"merge_mode {layer.merge_mode}, {parts}"
    if isinstance(layer, Dense):
        return f"{layer.activation}, {'bias' if layer.bias is not None else 'no bias'}"
    words = {"vocabulary": f"vocabulary {layer.input_size}"} if isinstance(layer, Embedding) else {}
    return ", ".join(words.get(name, f"{name}={value}") for name, value in layer.facts.items())


def _recurrent_options(layer: Recurrent) -> str:
    passed = "every step" if layer.return_sequences else "the last state"
    usual = f"{layer.spec.hidden_size} units, {' and '.join(layer.spec.directions)}, {'bias' if layer.has_bias else 'no bias'}"
    shown = ("merge_mode", "reverse", "stateful", "unroll", "dropout", "recurrent_dropout")
    flags = [f"{name}={layer.facts[name]}" for name in shown if name in layer.facts]
    return ", ".join([usual, *layer.peculiarities, f"passes on {passed}", *flags])
