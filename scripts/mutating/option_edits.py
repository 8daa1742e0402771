"""Layers with other options: the reset gate, functions, clips; of Keras's constructors and of ONNX's attributes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from mutating.cells import Cell
from mutating.injections import Expected, Injection, Wrong
from mutating.models import Options, Recipe, copied

Biases = Callable[[Cell], None]


def _everywhere(recipe: Recipe) -> frozenset[tuple[int, int]]:
    return frozenset((layer, way) for layer in range(recipe.layers) for way in range(recipe.ways))


def _other(
    name: str, right: Options, wrong: Options, kinds: tuple[str, ...], title: str, biases: Biases | None = None
) -> Injection:
    def make(made: Wrong, recipe: Recipe, _: np.random.Generator) -> Wrong:
        cells = copied(made.cells)
        for cell in [cell for layer in cells for cell in layer] if biases else ():
            biases(cell)  # type: ignore[misc]
        return replace(made, cells=cells, options=wrong, expected=(*made.expected, Expected(name, _everywhere(recipe))))

    return Injection(
        title,
        make,
        lambda recipe: recipe.kind in kinds and recipe.options == right,
        lambda recipe: replace(recipe, options=right, peepholes=False),
    )


def _into_input(cell: Cell) -> None:
    for gate in cell.b:
        cell.b[gate] = cell.b[gate] + cell.c[gate]
        cell.c[gate] = np.zeros_like(cell.c[gate])


def _into_recurrence(cell: Cell) -> None:
    cell.b, cell.c = cell.c, cell.b
    _into_input(cell)
    cell.b, cell.c = cell.c, cell.b


def _all() -> Iterator[Injection]:
    plain, before = Options(), Options(reset_after=False)
    yield _other("reset gate", plain, before, ("gru",), "reset gate: before for after")
    yield _other("reset gate", before, plain, ("gru",), "reset gate: after for before, bias_ih", _into_input)
    yield _other("reset gate", before, plain, ("gru",), "reset gate: after for before, bias_hh", _into_recurrence)
    gated = ("lstm", "gru")
    sigmoids = ("sigmoid", "hard_sigmoid 2", "hard_sigmoid 3")
    for right in sigmoids:
        for wrong in sigmoids:
            if right != wrong:
                yield _other(
                    "gate function",
                    Options(gate=right),
                    Options(gate=wrong),
                    gated,
                    f"gate function: {wrong} for {right}",
                )
    for other in ("relu", "linear"):
        kinds = ("lstm", "gru", "rnn") if other == "relu" else ("gru", "rnn")
        yield _other("activation", plain, Options(other=other), kinds, f"activation: {other} for tanh")
        yield _other("activation", Options(other=other), plain, kinds, f"activation: tanh for {other}")
    yield _other("clip lost", Options(clip=0.4), plain, ("lstm", "gru", "rnn"), "clip lost")
    yield _other("input_forget lost", Options(input_forget=True), plain, ("lstm",), "input_forget lost")
    yield _other("options lost", Options(gate="hard_sigmoid 2", other="relu"), plain, ("gru",), "options lost")


OPTION_EDITS: tuple[Injection, ...] = tuple(_all())
"""One option of all layers is another one."""
