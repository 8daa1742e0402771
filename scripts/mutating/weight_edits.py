"""Mistakes in arrays, made by hand: what ends up in a state dict, in `set_weights`, in the initializers of an ONNX file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from mutating.cells import Array, Cell, Gates
from mutating.models import ORDERS, Recipe, stacked

Edit: TypeAlias = Callable[[Cell, Recipe, np.random.Generator], None]
"""Changes one direction of one layer in place."""


@dataclass(frozen=True)
class WeightEdit:
    """A mistake in the arrays of one direction.

    Args:
        name: of the fault that has to be named.
        edit: makes it.
        kinds: of the layers in which it can be made.
        tensor: that has to be named; "" for several.
        possible: whether it can be made in a model, and shows.
    """

    name: str
    edit: Edit
    kinds: tuple[str, ...] = ("lstm", "gru", "rnn")
    tensor: str = ""
    possible: Callable[[Recipe], bool] = lambda _: True


def two_biases(recipe: Recipe) -> bool:
    """Whether both biases of the right model are there."""
    if "keras" in (recipe.reference, recipe.engine):
        return recipe.kind == "gru" and recipe.options.reset_after
    return True


def apart(recipe: Recipe) -> bool:
    """Whether the two biases are not simply added."""
    return recipe.kind == "gru" and recipe.options.reset_after


def _renamed(gates: Gates, right: str, wrong: str) -> None:
    """What is right under one letter is taken for another one."""
    before = dict(gates)
    for mine, theirs in zip(right, wrong, strict=True):
        gates[mine] = before[theirs]


_FOREIGN = {"lstm": ("iofg", "igfo", "gifo", "fgoi"), "gru": ("zrn",)}
"""Orders of ONNX, of TensorFlow 1, others; of Keras and ONNX."""


def _ordered(*fields: str) -> Edit:
    def edit(cell: Cell, recipe: Recipe, random: np.random.Generator) -> None:
        right = ORDERS["torch"][recipe.kind]
        wrongs = _FOREIGN[recipe.kind]
        wrong = wrongs[int(random.integers(len(wrongs)))]
        for name in fields:
            _renamed(getattr(cell, name), right, wrong)

    return edit


def _any_order(cell: Cell, recipe: Recipe, random: np.random.Generator) -> None:
    right = ORDERS["torch"][recipe.kind]
    wrong = right
    while wrong == right:
        wrong = "".join(random.permutation(list(right)))
    for name in ("w", "r", "b", "c"):
        _renamed(getattr(cell, name), right, wrong)


def _for_all(gates: Gates, change: Callable[[Array], Array]) -> None:
    for gate, array in gates.items():
        gates[gate] = np.ascontiguousarray(change(array)).astype(np.float32)


def _scaled(by: float, *fields: str) -> Edit:
    def edit(cell: Cell, _: Recipe, __: np.random.Generator) -> None:
        for name in fields:
            _for_all(getattr(cell, name), lambda array: array * by)

    return edit


def _blocks_transposed(*fields: str) -> Edit:
    def edit(cell: Cell, _: Recipe, __: np.random.Generator) -> None:
        for name in fields:
            _for_all(getattr(cell, name), lambda array: array.T)

    return edit


def _split(matrix: Array, order: str) -> Gates:
    return dict(zip(order, np.split(matrix, len(order)), strict=True))


def _reshaped(*fields: str) -> Edit:
    """The array of the suspect's framework is the other framework's, which is its transpose, reshaped."""

    def edit(cell: Cell, recipe: Recipe, _: np.random.Generator) -> None:
        order = ORDERS[recipe.engine][recipe.kind]
        for name in fields:
            matrix = stacked(getattr(cell, name), order)
            keras = recipe.engine == "keras"
            found = matrix.reshape(matrix.T.shape).T if keras else matrix.T.reshape(matrix.shape)
            setattr(cell, name, _split(found.astype(np.float32), order))

    return edit


def _features_turned(cell: Cell, _: Recipe, __: np.random.Generator) -> None:
    _for_all(cell.w, lambda array: array[:, ::-1])


def _swapped_kernels(cell: Cell, _: Recipe, __: np.random.Generator) -> None:
    cell.w, cell.r = cell.r, cell.w


def _cudnn(cell: Cell, _: Recipe, __: np.random.Generator) -> None:
    """Keras 2 stores for CuDNNLSTM, per gate, `kernel.T.reshape(kernel.shape)` and `recurrent.T`; each kernel is (features, units)."""
    _for_all(cell.w, lambda array: array.reshape(array.T.shape).T)
    _for_all(cell.r, lambda array: array.T)


def _rows_swapped(cell: Cell, _: Recipe, __: np.random.Generator) -> None:
    cell.b, cell.c = cell.c, cell.b


def _summed(into: str) -> Edit:
    def edit(cell: Cell, _: Recipe, __: np.random.Generator) -> None:
        both = {gate: cell.b[gate] + cell.c[gate] for gate in cell.b}
        none = {gate: np.zeros_like(array) for gate, array in both.items()}
        cell.b = dict(both) if "b" in into else dict(none)
        cell.c = dict(both) if "c" in into else dict(none)

    return edit


def _twice(kept: str) -> Edit:
    def edit(cell: Cell, _: Recipe, __: np.random.Generator) -> None:
        bias = getattr(cell, kept)
        cell.b, cell.c = dict(bias), dict(bias)

    return edit


def _candidate_lost(cell: Cell, _: Recipe, __: np.random.Generator) -> None:
    cell.c["n"] = np.zeros_like(cell.c["n"])


def _forget(by: float) -> Edit:
    def edit(cell: Cell, _: Recipe, __: np.random.Generator) -> None:
        cell.b["f"] = cell.b["f"] + np.float32(by)

    return edit


def _update_turned(cell: Cell, _: Recipe, __: np.random.Generator) -> None:
    for gates in (cell.w, cell.r, cell.b, cell.c):
        gates["z"] = -gates["z"]


def _zeros(cell: Cell, _: Recipe, __: np.random.Generator) -> None:
    for gates in (cell.w, cell.r, cell.b, cell.c, cell.p):
        _for_all(gates, np.zeros_like)


def _peepholes_ordered(cell: Cell, _: Recipe, __: np.random.Generator) -> None:
    _renamed(cell.p, "iof", "ifo")


def _peepholes_lost(cell: Cell, _: Recipe, __: np.random.Generator) -> None:
    _for_all(cell.p, np.zeros_like)


_GATED = ("lstm", "gru")

WEIGHT_EDITS: tuple[WeightEdit, ...] = (
    WeightEdit("gate order", _ordered("w", "r", "b", "c"), _GATED),
    WeightEdit("gate order", _any_order, _GATED),
    WeightEdit("gate order", _ordered("w", "r"), _GATED),
    WeightEdit("gate order", _ordered("b", "c"), _GATED),
    WeightEdit("gate order", _ordered("w"), _GATED, "kernel"),
    WeightEdit("gate order", _ordered("r"), _GATED, "recurrent"),
    WeightEdit("bias doubled", _scaled(2.0, "b", "c")),
    WeightEdit("bias halved", _scaled(0.5, "b", "c")),
    WeightEdit("bias negated", _scaled(-1.0, "b", "c")),
    WeightEdit("bias dropped", _scaled(0.0, "b", "c")),
    WeightEdit("bias of the recurrence dropped", _scaled(0.0, "c"), tensor="bias_recurrent", possible=two_biases),
    WeightEdit("bias of the input dropped", _scaled(0.0, "b"), tensor="bias_input", possible=two_biases),
    WeightEdit("bias of the candidate's recurrence dropped", _candidate_lost, ("gru",), "bias_recurrent", apart),
    WeightEdit("bias rows swapped", _rows_swapped, ("gru",), possible=apart),
    WeightEdit("biases summed", _summed("b"), ("gru",), possible=apart),
    WeightEdit("biases summed into the recurrence's", _summed("c"), ("gru",), possible=apart),
    WeightEdit("biases summed into both", _summed("bc"), ("gru",), possible=apart),
    WeightEdit("bias of the input used twice", _twice("b"), tensor="bias_recurrent", possible=two_biases),
    WeightEdit("bias of the recurrence used twice", _twice("c"), tensor="bias_input", possible=two_biases),
    WeightEdit("forget bias missing", _forget(-1.0), ("lstm",)),
    WeightEdit("forget bias added twice", _forget(1.0), ("lstm",)),
    WeightEdit("gate blocks transposed", _blocks_transposed("r"), tensor="recurrent"),
    WeightEdit("reshaped instead of transposed", _reshaped("w"), tensor="kernel"),
    WeightEdit("reshaped instead of transposed", _reshaped("r"), _GATED, "recurrent"),
    WeightEdit("reshaped instead of transposed", _reshaped("w", "r"), _GATED),
    WeightEdit("cuDNN's layout", _cudnn, _GATED),
    WeightEdit("features reversed", _features_turned, tensor="kernel"),
    WeightEdit("kernel zero", _scaled(0.0, "w"), tensor="kernel"),
    WeightEdit("kernel zero", _scaled(0.0, "r"), tensor="recurrent"),
    WeightEdit("kernel negated", _scaled(-1.0, "r"), tensor="recurrent"),
    WeightEdit("kernel doubled", _scaled(2.0, "w"), tensor="kernel"),
    WeightEdit("kernel halved", _scaled(0.5, "r"), tensor="recurrent"),
    WeightEdit("kernels swapped", _swapped_kernels, possible=lambda recipe: recipe.features == recipe.units),
    WeightEdit("update gate the other way round", _update_turned, ("gru",)),
    WeightEdit("weights zero", _zeros),
    WeightEdit("peephole order", _peepholes_ordered, ("lstm",), "peepholes", lambda recipe: recipe.peepholes),
    WeightEdit("peepholes lost", _peepholes_lost, ("lstm",), "peepholes", lambda recipe: recipe.peepholes),
)
"""Every mistake in arrays; those of one name are made in different ways."""
