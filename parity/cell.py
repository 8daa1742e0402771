"""What a cell computes from step to step, beside its kind, its sizes and its weights."""

from __future__ import annotations

from dataclasses import dataclass

from parity.functions import Function
from parity.layouts import SLOTS, Kind

TANH, SIGMOID = Function("tanh"), Function("sigmoid")
_PLAIN: dict[str, Function] = {"gate": SIGMOID, "candidate": TANH, "output": TANH}


@dataclass(frozen=True)
class Cell:
    """The options of one direction's cell.

    Args:
        functions: one for each of the kind's `parity.layouts.SLOTS`: of the gates, of the candidate, of c before it becomes h.
        reset_after: of a GRU: whether the reset gate acts after the matrix product (Keras's `reset_after`, ONNX's `linear_before_reset`;
            torch knows no other), or before it.
        clip: what the functions get is cut to [-clip, clip] (ONNX); None for no limit.
        input_forget: of an LSTM: whether the forget gate is 1 - i (ONNX).

    Example:
        >>> plain_cell("gru").functions
        (Function(name='sigmoid', alpha=None, beta=None), Function(name='tanh', alpha=None, beta=None))
    """

    functions: tuple[Function, ...]
    reset_after: bool = True
    clip: float | None = None
    input_forget: bool = False

    def function(self, kind: Kind, slot: str) -> Function:
        """The function of a slot."""
        return self.functions[SLOTS[kind].index(slot)]


def plain_cell(kind: Kind) -> Cell:
    """The cell that all three frameworks have: sigmoid gates, tanh, the reset gate after the product."""
    return Cell(tuple(_PLAIN[slot] for slot in SLOTS[kind]))


def peculiarities(kind: Kind, cell: Cell) -> tuple[str, ...]:
    """What sets a cell apart from the plain one, in words; none for the plain one.

    Example:
        >>> from dataclasses import replace
        >>> peculiarities("gru", replace(plain_cell("gru"), reset_after=False))
        ('reset_after=False',)
    """
    plain = plain_cell(kind)
    found = [
        f"{function} as its {slot} function"
        for slot, function, usual in zip(SLOTS[kind], cell.functions, plain.functions, strict=True)
        if function != usual
    ]
    if kind == "gru" and not cell.reset_after:
        found.append("reset_after=False")
    if cell.clip is not None:
        found.append(f"clip={cell.clip:g}")
    if cell.input_forget:
        found.append("input_forget=1")
    return tuple(found)
