"""The forget bias of TensorFlow 1: its cells add 1 to the forget gate when they run, and no file holds it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from parity.deferred import Array
from parity.diagnosis.case import Case
from parity.diagnosis.fault import Fault
from parity.diagnosis.faults.biases import with_biases
from parity.diagnosis.faults.scopes import Mistake, by_formula, everywhere, gate_of, weights_changed
from parity.diagnosis.repair import Shift

_GATE = gate_of("lstm", "forget gate")
_NEEDS = "needs a cell state that is not zero: more than one step, or an initial state"


def forget_faults(case: Case) -> Iterator[Fault]:
    """The forget bias added once too often, or once too seldom.

    Args:
        case: the right model.
    """
    assert _GATE is not None
    place, letter = _GATE
    for by, name, cause in (
        (
            -1.0,
            "forget bias missing",
            "has a forget bias that is smaller by 1: what TensorFlow 1 adds when it runs is missing",
        ),
        (
            1.0,
            "forget bias added twice",
            "has a forget bias that is larger by 1: what the weights hold already was added again",
        ),
    ):
        yield from everywhere(
            case,
            Mistake(
                name,
                cause,
                weights_changed(with_biases(lambda first, second, by=by: (_shifted(first, by, place), second))),  # type: ignore[misc]
                by_formula(("bias_input", Shift(-by, place))),
                lambda layer, index: layer.spec.kind == "lstm" and not layer.cells[index].input_forget,
                "bias",
                letter,
                rank=10,
                shows=_NEEDS,
            ),
        )


def _shifted(bias: Array, by: float, gate: int) -> Array:
    found = np.array(bias)
    found[gate] += by
    return found


__all__ = ["forget_faults"]
