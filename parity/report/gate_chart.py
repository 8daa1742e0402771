"""The drawing of where each gate sits on the gate axis of every framework."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from markupsafe import Markup

from parity.report.plots import SIDE, STYLES, drawing, join, percent


def gate_diagram(title: str, gates: Mapping[str, Any], units: int | None) -> Markup:
    """The gate axis of every framework, one bar above the other, the same gate joined by a ribbon.

    Args:
        title: the kind of cell.
        gates: its "meanings" and "frameworks" of the record.
        units: to number the slices; None leaves them out.
    """
    frameworks = gates["frameworks"]
    order = {gate: index for index, gate in enumerate(gates["meanings"])}
    bar, gap, head = 64, 34, 22
    pitch = bar + gap + head
    layers = []
    for row, (name, own) in enumerate(frameworks.items()):
        top = row * pitch + head
        layers.append(Markup('<text class="framework" x="0" y="{}">{}</text>').format(top - 7, name))
        count = len(own["own"])
        layers += [
            _gate(k, count, top, bar, letter, gates["meanings"][gate], order[gate], units)
            for k, (letter, gate) in enumerate(zip(own["own"], own["canonical"], strict=True))
        ]
    listed = list(frameworks.values())
    ribbons = [
        _ribbons(upper["canonical"], lower["canonical"], order, row * pitch + head + bar, gap + head)
        for row, (upper, lower) in enumerate(pairwise(listed))
    ]
    text = "; ".join(
        f"{name}: {' '.join(own['own'])}, that is {_named(own, gates)}" for name, own in frameworks.items()
    )
    height = pitch * len(listed) - gap
    return drawing(f"Order of the gates, {title}", text, [*ribbons, *layers], "gates", f"--height:{height}px")


def _named(own: Mapping[str, Any], gates: Mapping[str, Any]) -> str:
    return ", ".join(gates["meanings"][gate] for gate in own["canonical"])


def _gate(k: int, count: int, top: int, bar: int, letter: str, meaning: str, style: int, units: int | None) -> Markup:
    x, width, middle = percent(k / count), percent(1 / count), percent((k + 0.5) / count)
    texts = [("letter", letter, 22), ("meaning", meaning, 40)]
    if units is not None:
        texts.append(("slice", f"{k * units}:{(k + 1) * units}", 55))
    box = Markup('<rect class="gate {}" x="{}" y="{}" width="{}" height="{}"/>')
    colour, pattern = f"gate-{style % STYLES}", f"pattern pattern-{style % STYLES}"
    lines = join(
        Markup('<text class="{}" x="{}" y="{}">{}</text>').format(name, middle, top + y, text)
        for name, text, y in texts
    )
    return box.format(colour, x, top, width, bar) + box.format(pattern, x, top, width, bar) + lines


def _ribbons(upper: Sequence[str], lower: Sequence[str], order: Mapping[str, int], top: int, height: int) -> Markup:
    """From each gate to the same gate in the bar below."""
    paths = []
    for k, gate in enumerate(upper):
        if gate not in lower:
            continue
        a, b = (
            ((index + 0.08) / count * SIDE, (index + 0.92) / count * SIDE)
            for index, count in ((k, len(upper)), (lower.index(gate), len(lower)))
        )
        half = height / 2
        line = (
            f"M{a[0]:.0f} 0C{a[0]:.0f} {half:.0f} {b[0]:.0f} {half:.0f} {b[0]:.0f} {height}"
            f"H{b[1]:.0f}C{b[1]:.0f} {half:.0f} {a[1]:.0f} {half:.0f} {a[1]:.0f} 0z"
        )
        paths.append(Markup('<path class="ribbon gate-{}" d="{}"/>').format(order[gate] % STYLES, line))
    frame = '<svg x="0" y="{}" width="100%" height="{}" viewBox="0 0 1000 {}" preserveAspectRatio="none">{}</svg>'
    return Markup(frame).format(top, height, height, join(paths))


__all__ = ["gate_diagram"]
