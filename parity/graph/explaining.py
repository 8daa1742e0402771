"""What a whole model takes and returns in each framework."""

from __future__ import annotations

from collections.abc import Sequence

from parity.graph.code import identifiers
from parity.graph.graph import Graph, Wire
from parity.graph.lengths import axes_of


def returns_text(graph: Graph) -> str:
    """The outputs of a model, and where each of them is in Keras, in torch and in ONNX.

    The code that parity writes keeps names and order: one value is returned as it is; several are a list in Keras, as its functional
    models return them, a NamedTuple in torch, and named outputs in ONNX.

    Example:
        >>> from parity.graph import Builder
        >>> build = Builder("forecaster")
        >>> x = build.input("past", ("batch", "time", 4))
        >>> print(returns_text(build.graph({"mean": build.mean(x, axis=1), "peak": build.max(x, axis=1)})))
        forecaster takes past (batch, time, 4) and returns 2 values
        <BLANKLINE>
        value  shape       in Keras  in torch                    in ONNX
        mean   (batch, 4)  y[0]      y.mean, y[0] of y = f(...)  output 'mean'
        peak   (batch, 4)  y[1]      y.peak, y[1] of y = f(...)  output 'peak'
    """
    axes = axes_of(graph)
    taken = ", ".join(f"{one.name} ({', '.join(map(str, one.shape))})" for one in graph.inputs)
    count = len(graph.outputs)
    fields = identifiers(graph.outputs, {"count", "index"})
    rows = [("value", "shape", "in Keras", "in torch", "in ONNX")]
    for place, (name, wire) in enumerate(graph.outputs.items()):
        keras, torch = ("y", "y") if count == 1 else (f"y[{place}]", f"y.{fields[name]}, y[{place}] of y = f(...)")
        rows.append((name, _shape(axes.get(wire), wire), keras, torch, f"output '{name}'"))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    table = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    head = f"{graph.name} takes {taken} and returns {count} value{'s' if count > 1 else ''}"
    return "\n".join([head, "", *table])


def _shape(axes: Sequence[int | str] | None, wire: Wire) -> str:
    return f"unknown, behind a stub: {wire}" if axes is None else f"({', '.join(map(str, axes))})"


__all__ = ["returns_text"]
