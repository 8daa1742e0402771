"""Biases put into both, none, or the wrong one of two bias vectors: torch, ONNX and cuDNN have two, most layers of Keras one."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from parity.deferred import Array
from parity.diagnosis.case import Case
from parity.diagnosis.fault import Fault
from parity.diagnosis.faults.scopes import Mistake, by_formula, by_putting, everywhere, gate_of, weights_changed
from parity.diagnosis.repair import Scale
from parity.network import Recurrent
from parity.recurrent import Weights

_BOTH = ("bias_input", "bias_recurrent")
_NEEDS = "needs biases that are not zero"
_NEEDS_RECURRENT = "needs a bias of the recurrence that is not zero"


def bias_faults(case: Case) -> Iterator[Fault]:
    """Every way in which biases are doubled, lost or confused.

    Args:
        case: the right model.
    """
    yield from everywhere(case, *_SCALED, *_LOST, *_CONFUSED)


def has_bias(layer: Recurrent, index: int) -> bool:
    """Whether a direction has any bias."""
    return any(layer.weights[index].held(name) is not None for name in _BOTH)


def has_both(layer: Recurrent, index: int) -> bool:
    """Whether a direction has a bias of the input and one of the recurrence."""
    return all(layer.weights[index].held(name) is not None for name in _BOTH)


def tells_apart(layer: Recurrent, index: int) -> bool:
    """Whether more than the sum of the two biases matters: to the candidate of a GRU whose reset gate acts after the product."""
    return layer.spec.kind == "gru" and layer.cells[index].reset_after


def with_biases(change: Callable[[Array, Array], tuple[Array, Array]]) -> Callable[[Weights], Weights]:
    """A change of the biases of the input and of the recurrence, (gate, hidden) each, zeros where there are none."""

    def changed(weights: Weights) -> Weights:
        given = [weights.member(name) for name in _BOTH]
        zeros = np.zeros(weights.held("kernel").shape[:2], np.float32)
        first, second = change(*(zeros if one is None else np.asarray(one) for one in given))
        return weights.with_held(bias_input=first, bias_recurrent=second)

    return changed


def _scaled(name: str, cause: str, by: float, rank: int) -> Mistake:
    return Mistake(
        name,
        cause,
        weights_changed(with_biases(lambda first, second: (by * first, by * second))),
        by_formula(*((member, Scale(1 / by)) for member in _BOTH)),
        has_bias,
        "bias",
        rank=rank,
        shows=_NEEDS,
    )


def _confused(
    name: str,
    cause: str,
    change: Callable[[Array, Array], tuple[Array, Array]],
    possible: Callable[[Recurrent, int], bool],
    rank: int,
    tensor: str = "bias",
    shows: str = _NEEDS,
) -> Mistake:
    change_weights = weights_changed(with_biases(change))
    return Mistake(name, cause, change_weights, by_putting(*_BOTH), possible, tensor, rank=rank, shows=shows)


def _both_apart(layer: Recurrent, index: int) -> bool:
    return has_both(layer, index) and tells_apart(layer, index)


def _any_apart(layer: Recurrent, index: int) -> bool:
    return has_bias(layer, index) and tells_apart(layer, index)


def without_candidate(first: Array, second: Array) -> tuple[Array, Array]:
    """The biases of a GRU without the candidate's bias of the recurrence."""
    found = np.array(second)
    place = gate_of("gru", "candidate")
    assert place is not None
    found[place[0]] = 0.0
    return first, found


_SCALED = (
    _scaled("bias doubled", "has its biases twice as large, as if each was put into both bias vectors", 2.0, 5),
    _scaled("bias halved", "has its biases half as large", 0.5, 15),
    _scaled("bias negated", "has its biases with the opposite sign", -1.0, 40),
)

_LOST = (
    _confused(
        "bias dropped",
        "has no biases, or zeros in their place",
        lambda a, b: (np.zeros_like(a), np.zeros_like(b)),
        has_bias,
        6,
    ),
    _confused(
        "bias of the recurrence dropped",
        "has no bias of the recurrence (torch's bias_hh), that of the input alone",
        lambda a, b: (a, np.zeros_like(b)),
        has_both,
        7,
        "bias_recurrent",
        _NEEDS_RECURRENT,
    ),
    _confused(
        "bias of the input dropped",
        "has no bias of the input (torch's bias_ih), that of the recurrence alone",
        lambda a, b: (np.zeros_like(a), b),
        has_both,
        8,
        "bias_input",
    ),
    _confused(
        "bias of the candidate's recurrence dropped",
        "has no bias inside the product with the reset gate (torch's b_hn)",
        without_candidate,
        lambda layer, index: tells_apart(layer, index) and layer.weights[index].held("bias_recurrent") is not None,
        15,
        "bias_recurrent",
        _NEEDS_RECURRENT,
    ),
)

_CONFUSED = (
    _confused(
        "bias rows swapped",
        "has the bias of the input where that of the recurrence belongs, and the other way round",
        lambda a, b: (b, a),
        _any_apart,
        5,
    ),
    _confused(
        "biases summed",
        "has its two biases summed into that of the input, so that the reset gate no longer acts on the candidate's part of the other",
        lambda a, b: (a + b, np.zeros_like(b)),
        _both_apart,
        5,
        shows=_NEEDS_RECURRENT,
    ),
    _confused(
        "biases summed into the recurrence's",
        "has its two biases summed into that of the recurrence, so that the reset gate acts on the candidate's part of both",
        lambda a, b: (np.zeros_like(a), a + b),
        _both_apart,
        16,
    ),
    _confused(
        "biases summed into both",
        "has the sum of its two biases in each of them",
        lambda a, b: (a + b, a + b),
        _both_apart,
        25,
    ),
    _confused(
        "bias of the input used twice",
        "has the bias of the input in the place of that of the recurrence too",
        lambda a, _: (a, a),
        has_both,
        25,
        "bias_recurrent",
    ),
    _confused(
        "bias of the recurrence used twice",
        "has the bias of the recurrence in the place of that of the input too",
        lambda _, b: (b, b),
        has_both,
        26,
        "bias_input",
    ),
)


__all__ = ["bias_faults", "has_bias", "has_both", "tells_apart", "with_biases", "without_candidate"]
