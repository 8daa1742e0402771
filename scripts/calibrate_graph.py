"""Is the noise of every operation of a graph honest? Measures error/floor of correct kernels in float32, operation by operation.

Every draw is one operation of random sizes and options on random float32 inputs of many scales, some with a large mean, some sparse.
torch, TensorFlow (through Keras) and ONNX Runtime compute it; the floor is the one of the verdict (`parity.graph.floors`). An error
above the limit of the verdict is a false alarm: the script names the draw and exits with 1. "widest" is the least relative fault that
is always found: the median over the draws of limit x floor / largest value; a noise model may be neither too tight nor too wide.

    python scripts/calibrate_graph.py --draws 200 --seed 1 --only convolution,softmax
"""

from __future__ import annotations

import sys
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
import typer
from drawing import DRAWS, Draw
from rich.console import Console
from rich.table import Table

from parity.floor import in_floors
from parity.graph import Builder
from parity.graph.floors import measure
from parity.judge import LIMIT

WIDE = 1e-4
"""A relative fault of this size has to be found in half of all draws."""


@dataclass
class Measured:
    """What the draws of one operation have shown.

    Args:
        worst: error/floor by engine.
        case: the draw in which an engine was worst.
        widths: limit x floor / largest value of every draw.
    """

    worst: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    case: dict[str, str] = field(default_factory=dict)
    widths: list[float] = field(default_factory=list)

    @property
    def width(self) -> float:
        """The median."""
        return float(np.median(self.widths)) if self.widths else 0.0


ENGINES = ("torch", "keras", "onnxruntime")


def ratios(draw: Draw, seed: int = 0, engines: tuple[str, ...] = ENGINES) -> tuple[dict[str, float], float]:
    """Error/floor of every engine, and limit x floor / largest value."""
    build = Builder("draw")
    names = [f"x{index}" for index in range(len(draw.inputs))]
    kinds = {"f": "float32", "i": "int64", "b": "bool"}
    wires = [build.input(n, x.shape, kinds[x.dtype.kind]) for n, x in zip(names, draw.inputs, strict=True)]
    graph = build.graph({"y": build.call(draw.operation, *wires)})
    given = dict(zip(names, draw.inputs, strict=True))
    band = measure(graph, given, {"y": graph.outputs["y"]}, seed=seed).bands["y"]
    found = {}
    for engine, kernel in draw.kernels.items():
        if engine not in engines:
            continue
        value = np.asarray(kernel(*draw.inputs), np.float64)
        assert value.shape == band.reference.shape, (draw.case, engine, value.shape, band.reference.shape)
        error = np.where(band.comparable, np.abs(value - band.reference), 0.0)
        # What overflows in both is right; a result below the numbers of float32 may be flushed to zero.
        error = np.where(np.abs(band.reference) > np.finfo(np.float32).max, 0.0, error)
        error = np.maximum(error - 4 * np.finfo(np.float32).tiny, 0.0)
        found[engine] = float(in_floors(error, band.floor).max(initial=0.0))
    scale = np.abs(np.where(np.isfinite(band.reference), band.reference, 0.0)).max(axis=-1, keepdims=True)
    width = np.divide(LIMIT * band.floor, scale, out=np.zeros_like(band.floor), where=scale > 0)
    return found, float(np.median(width)) if width.size else 0.0


def calibrated(names: list[str], draws: int, seed: int, engines: tuple[str, ...] = ENGINES) -> dict[str, Measured]:
    """Many draws of some operations, by name.

    Args:
        names: keys of `DRAWS`.
        draws: of each operation.
        seed: of all of them.
        engines: whose kernels are measured.
    """
    found: dict[str, Measured] = {}
    for name in names:
        measured = found[name] = Measured()
        for index in range(draws):
            draw = DRAWS[name](np.random.default_rng([seed, index, *name.encode()]))
            errors, width = ratios(draw, index, engines)
            measured.widths.append(width)
            for engine, ratio in errors.items():
                if ratio >= measured.worst[engine]:
                    measured.worst[engine], measured.case[engine] = ratio, f"draw {index}: {draw.case}"
    return found


def main(
    draws: Annotated[int, typer.Option(help="of each operation")] = 40,
    seed: Annotated[int, typer.Option(help="of the draws")] = 0,
    only: Annotated[str, typer.Option(help="operations, separated by commas; parts of names are enough")] = "",
) -> None:
    """Measure error/floor of every operation."""
    names = [name for name in DRAWS if not only or any(part in name for part in only.split(","))]
    found = calibrated(names, draws, seed)
    table = Table("operation", *ENGINES, "widest", "worst draw")
    bad = []
    for name, one in found.items():
        worst = max(one.worst, key=lambda engine: one.worst[engine], default="")
        if max(one.worst.values(), default=0.0) > LIMIT or one.width > WIDE:
            bad.append(name)
        shown = [f"{one.worst[engine]:.2f}" if engine in one.worst else "" for engine in ENGINES]
        table.add_row(name, *shown, f"{one.width:.1e}", f"{worst}, {one.case.get(worst, '')}")
    Console(width=200).print(table)
    if bad:
        print(f"not honest: {', '.join(bad)}", file=sys.stderr)
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
