"""Cells that compute something else from the same weights: other functions, another place of the reset gate, options lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import permutations

import numpy as np

from parity.cell import SIGMOID, TANH, Cell, plain_cell
from parity.diagnosis.case import Case
from parity.diagnosis.fault import Fault
from parity.diagnosis.faults.scopes import Mistake, by_formula, by_putting, cell_changed, everywhere, weights_changed
from parity.diagnosis.repair import OptionRepair, PeepholeOrder, Repair
from parity.functions import FUNCTIONS, Function
from parity.layouts import KINDS, PEEPHOLES, SLOTS, Kind
from parity.network import Recurrent
from parity.recurrent import Weights

HARD_SIGMOIDS = {
    Function("hard_sigmoid", 0.2, 0.5): "hard_sigmoid as Keras 1 and 2 and ONNX have it (0.2 x + 0.5)",
    Function("hard_sigmoid", 1 / 6, 0.5): "hard_sigmoid as Keras 3 and torch have it (x / 6 + 0.5)",
}
"""Two functions of one name, in words."""

_LINEAR = Function("affine", 1.0, 0.0)
_OF_GATES = (SIGMOID, *HARD_SIGMOIDS)
_OF_OTHERS = (TANH, Function("relu"), _LINEAR, SIGMOID, Function("hard_tanh"))
_SLOTS = {"gate": "gates", "candidate": "candidate", "output": "output"}
_PEEPHOLES_SHOW = "needs a cell state that is not zero"


def cell_faults(case: Case) -> Iterator[Fault]:
    """Every other function in every slot, and every option of a cell that can get lost.

    Args:
        case: the right model.
    """
    yield from everywhere(case, *_gate_functions(case), *_activations(case), *_options_lost(case), *_peepholes())


def function_in_words(function: Function) -> str:
    """A function as people know it.

    Example:
        >>> function_in_words(Function("affine", 1.0, 0.0)), function_in_words(Function("tanh"))
        ('none (linear)', 'tanh')
    """
    return "none (linear)" if function == _LINEAR else HARD_SIGMOIDS.get(function, str(function))


def options_repair(option: str, value: Callable[[Cell], str], was: str = "") -> Callable[[Recurrent, int], Repair]:
    """The repair that sets an option of one direction to what the right layer has.

    Args:
        option: in canonical terms.
        value: of the right cell.
        was: what the suspect has.
    """

    def repair(layer: Recurrent, index: int) -> Repair:
        direction = layer.spec.directions[index] if layer.bidirectional else ""
        return (OptionRepair(layer.name, option, value(layer.cells[index]), was, direction),)

    return repair


def _gate_functions(case: Case) -> Iterator[Mistake]:
    """The three functions that are called sigmoid or hard_sigmoid, one in place of another."""
    kinds = [kind for kind in KINDS if "gate" in SLOTS[kind]]
    for kind in kinds:
        for right in _there(case, kind, ("gate",)):
            for wrong in _OF_GATES:
                if wrong != right[0]:
                    yield _function_mistake("gate function", kind, ("gate",), right, wrong, 6)


def _activations(case: Case) -> Iterator[Mistake]:
    """Another function of the candidate and of the output: of both, as Keras's `activation` sets them, or of one alone."""
    for kind in KINDS:
        others = tuple(slot for slot in SLOTS[kind] if slot != "gate")
        for slots in dict.fromkeys([others, *((slot,) for slot in others)]):
            for right in _there(case, kind, slots):
                defaults = [default for function in right for default in _defaults(function)]
                for wrong in dict.fromkeys([*_OF_OTHERS, *defaults]):
                    if any(wrong != function for function in right):
                        plain = wrong in (TANH, *defaults)
                        rank = 16 if plain else 17 if slots == others else 37
                        yield _function_mistake("activation", kind, slots, right, wrong, rank)


def _defaults(function: Function) -> Iterator[Function]:
    """The same function with the parameters that a framework takes where none are given."""
    row = FUNCTIONS[function.name]
    for parameters in ((row.alpha, row.beta), row.keras_parameters):
        if function.parameters and parameters != (None, None):
            yield Function(function.name, *parameters)


def _there(case: Case, kind: Kind, slots: Sequence[str]) -> list[tuple[Function, ...]]:
    """The functions that cells of a kind have in some slots."""
    cells = [cell for layer in case.recurrent() if layer.spec.kind == kind for cell in layer.cells]
    return list(dict.fromkeys(_in_slots(cell, kind, slots) for cell in cells))


def _in_slots(cell: Cell, kind: Kind, slots: Sequence[str]) -> tuple[Function, ...]:
    return tuple(cell.function(kind, slot) for slot in slots)


def _function_mistake(
    name: str, kind: Kind, slots: tuple[str, ...], right: tuple[Function, ...], wrong: Function, rank: int
) -> Mistake:
    where = " and ".join(_SLOTS[slot] for slot in slots)
    belongs = " and ".join(dict.fromkeys(function_in_words(function) for function in right))

    def changed(cell: Cell) -> Cell:
        functions = tuple(
            wrong if slot in slots else old for slot, old in zip(SLOTS[kind], cell.functions, strict=True)
        )
        return replace(cell, functions=functions)

    def repair(layer: Recurrent, index: int) -> Repair:
        return tuple(
            step
            for slot, function in zip(slots, right, strict=True)
            for step in options_repair(f"{slot} function", lambda _, of=function: str(of), str(wrong))(layer, index)  # type: ignore[misc]
        )

    return Mistake(
        name,
        f"has {function_in_words(wrong)} as the function of its {where}, where {belongs} belongs",
        cell_changed(changed),
        repair,
        lambda layer, index: layer.spec.kind == kind and _in_slots(layer.cells[index], kind, slots) == right,
        rank=rank,
        shows="needs inputs large enough to tell the functions apart",
    )


def _options_lost(case: Case) -> Iterator[Mistake]:
    """Options of ONNX and of old Keras that a plain port leaves out."""
    yield Mistake(
        "clip lost",
        "does not cut what its functions get, where the reference has a clip",
        cell_changed(lambda cell: replace(cell, clip=None)),
        options_repair("clip", lambda cell: f"{cell.clip:g}", "none"),
        lambda layer, index: layer.cells[index].clip is not None,
        rank=18,
        shows="needs numbers beyond the clip",
    )
    yield Mistake(
        "input_forget lost",
        "has a forget gate of its own, where the reference has 1 minus the input gate",
        cell_changed(lambda cell: replace(cell, input_forget=False)),
        options_repair("input_forget", lambda cell: str(int(cell.input_forget)), "0"),
        lambda layer, index: layer.cells[index].input_forget,
        rank=18,
        shows="needs a cell state that is not zero: more than one step, or an initial state",
    )
    for kind in KINDS:
        plain = plain_cell(kind)
        own = {cell for layer in case.recurrent() if layer.spec.kind == kind for cell in layer.cells}
        if any(_differences(cell, plain) > 1 for cell in own):
            yield Mistake(
                "options lost",
                "has a plain cell (sigmoid gates, tanh, no options), where the reference has options",
                cell_changed(lambda _, plain=plain: plain),  # type: ignore[misc]
                partial(_all_options, plain=plain),
                lambda layer, index, kind=kind, plain=plain: (  # type: ignore[misc]
                    layer.spec.kind == kind and _differences(layer.cells[index], plain) > 1
                ),
                rank=4,
            )


def _differences(cell: Cell, plain: Cell) -> int:
    """How many options of a cell are not the plain ones; candidate and output of one function count once."""
    functions = {(own, usual) for own, usual in zip(cell.functions, plain.functions, strict=True) if own != usual}
    others = (cell.reset_after != plain.reset_after, cell.clip is not None, cell.input_forget)
    return len(functions) + sum(others)


def _all_options(layer: Recurrent, index: int, plain: Cell) -> Repair:
    cell, kind = layer.cells[index], layer.spec.kind
    direction = layer.spec.directions[index] if layer.bidirectional else ""
    pairs = [
        *(
            (f"{slot} function", str(cell.function(kind, slot)), str(plain.function(kind, slot)))
            for slot in SLOTS[kind]
        ),
        ("reset_after", str(cell.reset_after), str(plain.reset_after)),
        ("clip", "none" if cell.clip is None else f"{cell.clip:g}", "none"),
        ("input_forget", str(int(cell.input_forget)), "0"),
    ]
    return tuple(
        OptionRepair(layer.name, option, value, was, direction) for option, value, was in pairs if value != was
    )


def _peepholes() -> Iterator[Mistake]:
    def has_peepholes(layer: Recurrent, index: int) -> bool:
        return layer.weights[index].held("peepholes") is not None

    yield Mistake(
        "peepholes lost",
        "has no peepholes: its gates do not see the cell state",
        weights_changed(lambda weights: weights.with_held(peepholes=None)),
        by_putting("peepholes"),
        has_peepholes,
        "peepholes",
        rank=18,
        shows=_PEEPHOLES_SHOW,
    )
    letters = PEEPHOLES["lstm"]
    for order in permutations(range(len(letters))):
        if order == tuple(range(len(letters))):
            continue

        def ordered(weights: Weights, order: tuple[int, ...] = order) -> Weights:
            return weights.with_held(peepholes=np.asarray(weights.member("peepholes"))[list(order)])

        words = " ".join(letters[place] for place in order)
        yield Mistake(
            "peephole order",
            f"has its peepholes in the order {words}, where {' '.join(letters)} belongs",
            weights_changed(ordered),
            by_formula(("peepholes", PeepholeOrder(tuple(np.argsort(order).tolist())))),
            has_peepholes,
            "peepholes",
            rank=28,
            shows=_PEEPHOLES_SHOW,
        )


__all__ = ["HARD_SIGMOIDS", "cell_faults", "function_in_words", "options_repair"]
