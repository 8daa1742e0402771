"""GRUs whose reset gate acts at the other side of the matrix product, with what becomes of the biases; and a first step of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from parity.cell import Cell
from parity.deferred import Array
from parity.diagnosis.case import Case
from parity.diagnosis.fault import Fault
from parity.diagnosis.faults.biases import has_bias, has_both, tells_apart, with_biases, without_candidate
from parity.diagnosis.faults.cells import options_repair
from parity.diagnosis.faults.scopes import Mistake, both_changed, by_putting, everywhere
from parity.diagnosis.repair import Repair
from parity.network import Recurrent
from parity.reference import Float64, Mask, Rounding, Trajectory
from parity.result import State

_BOTH = ("bias_input", "bias_recurrent")
_Ports = tuple[tuple[str, Callable[[Array, Array], tuple[Array, Array]], Callable[[Recurrent, int], bool], int], ...]
_NEEDS = "needs a state that is not zero: more than one step, or an initial state"


def reset_faults(case: Case) -> Iterator[Fault]:
    """The reset gate before the product where after belongs and the other way round, and b_hn left out of the first step.

    Args:
        case: the right model.
    """
    for words, change, possible, rank in _TO_AFTER:
        yield from everywhere(case, _mistake(True, words, change, possible, rank))
    for words, change, possible, rank in _TO_BEFORE:
        yield from everywhere(case, _mistake(False, words, change, possible, rank))
    yield from everywhere(case, _FIRST_STEP)


def _anywhere(_: Recurrent, __: int) -> bool:
    return True


def _recurrent_there(layer: Recurrent, index: int) -> bool:
    return layer.weights[index].held("bias_recurrent") is not None


_TO_AFTER: _Ports = (
    ("", lambda a, b: (a, b), _anywhere, 1),
    (", and its whole bias in that of the recurrence (bias_hh)", lambda a, b: (np.zeros_like(a), a + b), has_bias, 2),
    (", and its whole bias in that of the input (bias_ih)", lambda a, b: (a + b, np.zeros_like(b)), _recurrent_there, 2),
    (", and its bias in both bias vectors", lambda a, b: (a + b, a + b), has_bias, 3),
    (", and half its bias in each of the two bias vectors", lambda a, b: ((a + b) / 2, (a + b) / 2), has_bias, 13),
)  # fmt: skip
"""What people do with the biases of a GRU that has its reset gate before the product, put into one that has it after."""

_TO_BEFORE: _Ports = (
    ("", lambda a, b: (a, b), _anywhere, 1),
    (", and the bias of the input alone", lambda a, b: (a, np.zeros_like(b)), has_both, 3),
    (", and the bias of the recurrence alone", lambda a, b: (np.zeros_like(a), b), has_both, 13),
)


def _mistake(
    after: bool,
    words: str,
    change: Callable[[Array, Array], tuple[Array, Array]],
    possible: Callable[[Recurrent, int], bool],
    rank: int,
) -> Mistake:
    wrong, right = ("after", "before") if after else ("before", "after")

    def cell(old: Cell) -> Cell:
        return replace(old, reset_after=after)

    def repair(layer: Recurrent, index: int) -> Repair:
        option = options_repair("reset_after", lambda cell: str(cell.reset_after), str(after))(layer, index)
        return (*option, *(by_putting(*_BOTH)(layer, index) if has_bias(layer, index) else ()))

    return Mistake(
        "reset gate",
        f"has its reset gate {wrong} the product with the recurrent kernel (reset_after={after}), where {right} belongs{words}",
        both_changed(with_biases(change) if words else lambda weights: weights, cell),
        repair,
        lambda layer, index: (
            layer.spec.kind == "gru" and layer.cells[index].reset_after != after and possible(layer, index)
        ),
        rank=rank,
        shows=_NEEDS,
    )


@dataclass(frozen=True, eq=False)
class FirstStepApart(Recurrent):
    """A GRU that leaves the bias inside the reset gate's product out of its first step.

    Args:
        apart: the numbers of the directions that do.
    """

    apart: tuple[int, ...] = ()

    def compute(self, x: Float64, initial: State, rounding: Rounding, mask: Mask | None = None) -> Trajectory:
        """Every step in float64: each direction's first step from other weights, the others as they are."""
        paths = [self._direction(index, x, initial, rounding, mask) for index in range(len(self.spec.directions))]
        h = np.concatenate([path.h for path in paths], axis=2)
        return Trajectory(self.spec.directions, h, None, initial, mask, self.fill)

    def _direction(self, index: int, x: Float64, initial: State, rounding: Rounding, mask: Mask | None) -> Trajectory:
        direction = self.spec.directions[index]
        start = State(*(state[index : index + 1] for state in initial.arrays()))
        alone = Recurrent(
            self.name,
            replace(self.spec, directions=(direction,)),
            (self.weights[index],),
            cells=(self.cells[index],),
            fill=self.fill,
        )
        steps = x.shape[1]
        first, others = (
            (slice(0, 1), slice(1, steps)) if direction == "forward" else (slice(steps - 1, steps), slice(0, steps - 1))
        )
        masks = [None if mask is None else mask[:, part] for part in (first, others)]
        if index not in self.apart:
            return alone.compute(x, start, rounding, mask)
        without = with_biases(without_candidate)(self.weights[index])
        one = replace(alone, weights=(without,)).compute(x[:, first], start, rounding, masks[0])
        if steps == 1:
            return one
        rest = alone.compute(x[:, others], State(one.h[:, 0].swapaxes(0, 1)), rounding, masks[1])
        parts = [one.h, rest.h] if direction == "forward" else [rest.h, one.h]
        return Trajectory((direction,), np.concatenate(parts, axis=1), None, start, mask, self.fill)


def _first_step(layer: Recurrent, index: int) -> Recurrent:
    before = layer.apart if isinstance(layer, FirstStepApart) else ()
    fields = {name: getattr(layer, name) for name in Recurrent.__dataclass_fields__}
    return FirstStepApart(**fields, apart=(*before, index))


_FIRST_STEP = Mistake(
    "first step apart",
    "leaves the bias inside the product with the reset gate (torch's b_hn) out of its first step",
    _first_step,
    options_repair("first step", lambda _: "the initial state given as zeros, not left out", "left out"),
    lambda layer, index: tells_apart(layer, index) and _recurrent_there(layer, index),
    "bias_recurrent",
    rank=30,
    shows="needs a bias of the recurrence that is not zero",
)

__all__ = ["FirstStepApart", "reset_faults"]
