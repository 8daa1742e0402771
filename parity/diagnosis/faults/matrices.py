"""Kernels whose numbers stand in the wrong places, are not there at all, or have the wrong sign or size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np

from parity.deferred import Array
from parity.diagnosis.case import Case
from parity.diagnosis.fault import TENSORS, Fault
from parity.diagnosis.faults.scopes import (
    Mistake,
    by_formula,
    by_putting,
    everywhere,
    gate_of,
    members_of,
    weights_changed,
)
from parity.diagnosis.repair import (
    BlockTranspose,
    CudnnOrder,
    FeaturesReversed,
    Formula,
    Lines,
    Repair,
    Reread,
    Scale,
    SwapRepair,
    as_cudnn,
    reread,
)
from parity.layouts import GATES, KINDS, LAYOUTS, Kind
from parity.network import Recurrent
from parity.recurrent import Weights

_KERNELS = ("kernel", "recurrent")
_INTO: dict[Lines, str] = {"gates": "torch's and ONNX's", "features": "Keras's"}
_NEEDS = {
    "kernel": "needs inputs that are not zero",
    "recurrent": "needs a state that is not zero: more than one step, or an initial state",
}


def matrix_faults(case: Case) -> Iterator[Fault]:
    """Every way in which the kernels of a layer come out wrong.

    Args:
        case: the right model.
    """
    for kind in KINDS:
        yield from everywhere(case, *map(_rearranged, _arrangements(kind)))
    yield from everywhere(case, *_values(), _SWAPPED, _update_negated(), *_NOT_LOADED)


@dataclass(frozen=True, eq=False)
class _Arrangement:
    """One way of getting the numbers of canonical kernels into wrong places.

    Args:
        kind: of the layers.
        name, cause, rank: as those of a `Fault`.
        changes: what becomes of which kernels.
        undone: by what.
    """

    kind: Kind
    name: str
    cause: str
    changes: Mapping[str, Callable[[Array], Array]]
    undone: Mapping[str, Formula]
    rank: int


def _transposed(array: Array) -> Array:
    if array.shape[1] != array.shape[2]:
        raise ValueError("the blocks of the gates are not square")
    return array.swapaxes(1, 2)


_REVERSED = "takes the input features in the opposite order"


def _reversed(array: Array) -> Array:
    return array[..., ::-1]


@lru_cache(maxsize=8)
def _arrangements(kind: Kind) -> tuple[_Arrangement, ...]:
    """All of a kind, the most frequent ones first."""
    one = partial(_Arrangement, kind)
    found = []
    for members in (("recurrent",), ("kernel",), _KERNELS):
        what = " and ".join(TENSORS[member] for member in members)
        turned = dict.fromkeys(members, _transposed)
        cause = f"has the block of every gate of its {what} transposed"
        found.append(one("gate blocks transposed", cause, turned, dict.fromkeys(members, BlockTranspose()), 10))
    for order, whose in _orders(kind).items():
        for members in (_KERNELS, ("kernel",), ("recurrent",)):
            what = " and ".join(TENSORS[member] for member in members)
            for lines, into in _INTO.items():
                cause = f"has its {what} reshaped into {into} shape where it must be transposed (`.reshape` in place of `.T`){whose}"
                found.append(
                    one(
                        "reshaped instead of transposed",
                        cause,
                        dict.fromkeys(members, partial(reread, lines=lines, order=order)),
                        dict.fromkeys(members, Reread(lines, order)),
                        11 if not whose else 21,
                    )
                )
    words = "in the order in which CuDNNLSTM and CuDNNGRU store it"
    both = {"kernel": as_cudnn, "recurrent": _transposed}
    undone: dict[str, Formula] = {"kernel": CudnnOrder(), "recurrent": BlockTranspose()}
    found += [
        one("cuDNN's layout", f"has its kernels {words.replace('it', 'them')}, read as plain ones", both, undone, 9),
        one("cuDNN's layout", f"has its input kernel {words}, read as a plain one", {"kernel": as_cudnn}, undone, 19),
        one("features reversed", _REVERSED, {"kernel": _reversed}, {"kernel": FeaturesReversed()}, 22),
    ]  # fmt: skip
    return tuple(sorted(found, key=lambda arrangement: arrangement.rank))


def _orders(kind: Kind) -> dict[tuple[int, ...], str]:
    """Orders of the gates in which a framework's array may be when it is reshaped, each with words where it is not the canonical one."""
    found = {tuple(range(len(GATES[kind]))): ""}
    for layout in LAYOUTS.values():
        if layout.kind == kind:
            order = tuple(GATES[kind].index(letter) for letter in layout.gates)
            found.setdefault(order, f", its gates in the order {' '.join(layout.gates)}")
    return found


def _rearranged(arrangement: _Arrangement) -> Mistake:
    changes, (first, *others) = arrangement.changes, arrangement.changes
    shows = "; ".join(_NEEDS[member] for member in changes)

    def changed(weights: Weights) -> Weights:
        return weights.with_held(**{name: change(np.asarray(weights.member(name))) for name, change in changes.items()})

    return Mistake(
        arrangement.name,
        arrangement.cause,
        weights_changed(changed),
        by_formula(*((member, arrangement.undone[member]) for member in changes)),
        lambda layer, _: layer.spec.kind == arrangement.kind and arrangement in _moving(*_sizes(layer)),
        "" if others else first,
        rank=arrangement.rank,
        shows=shows,
        effect=lambda layer, _: _moving(*_sizes(layer))[arrangement],
    )


def _sizes(layer: Recurrent) -> tuple[Kind, tuple[int, ...], tuple[int, ...]]:
    return layer.spec.kind, layer.spec.shape("kernel"), layer.spec.shape("recurrent")


@lru_cache(maxsize=64)
def _moving(kind: Kind, kernel: tuple[int, ...], recurrent: tuple[int, ...]) -> dict[_Arrangement, tuple[int, ...]]:
    """The arrangements that move anything in kernels of these shapes, each with what is the same for those that move it alike."""
    shapes = {"kernel": kernel, "recurrent": recurrent}
    plain = {name: np.arange(np.prod(shape), dtype=np.int32).reshape(shape) for name, shape in shapes.items()}
    found = {}
    for arrangement in _arrangements(kind):
        try:
            moved = {name: change(plain[name]) for name, change in arrangement.changes.items()}
        except ValueError:
            continue
        if not any((moved[name] == plain[name]).all() for name in moved):
            found[arrangement] = tuple(hash(moved[name].tobytes()) if name in moved else 0 for name in _KERNELS)
    return found


def _values() -> Iterator[Mistake]:
    """Kernels that are zero, negated, or of another size."""
    for member in _KERNELS:
        what, shows = TENSORS[member], _NEEDS[member]

        def scaled(weights: Weights, by: float, member: str = member) -> Weights:
            return weights.with_held(**{member: by * np.asarray(weights.member(member))})

        for name, cause, by, rank in (
            ("kernel zero", f"has zeros in place of its {what}, as if it had never been loaded", 0.0, 14),
            ("kernel negated", f"has its {what} with the opposite sign", -1.0, 42),
            ("kernel doubled", f"has its {what} twice as large", 2.0, 41),
            ("kernel halved", f"has its {what} half as large", 0.5, 41),
        ):
            repair = by_formula((member, Scale(1 / by))) if by else by_putting(member)
            yield Mistake(
                name,
                cause,
                weights_changed(partial(scaled, by=by)),
                repair,
                tensor=member,
                rank=rank,
                shows=shows,
            )


def _exchanged(weights: Weights) -> Weights:
    return weights.with_held(kernel=weights.held("recurrent"), recurrent=weights.held("kernel"))


def _exchange_repair(layer: Recurrent, index: int) -> Repair:
    direction = layer.spec.directions[index]
    first, second = ((layer.name, direction, member) for member in _KERNELS)
    return (SwapRepair(first, second),)


_SWAPPED = Mistake(
    "kernels swapped",
    "has its input kernel where the recurrent kernel belongs, and the other way round",
    weights_changed(_exchanged),
    _exchange_repair,
    lambda layer, _: layer.spec.shape("kernel") == layer.spec.shape("recurrent"),
    rank=18,
)


def _update_negated() -> Mistake:
    gate = gate_of("gru", "update gate")
    assert gate is not None
    place, letter = gate

    def changed(weights: Weights) -> Weights:
        found = {}
        for member in members_of(weights):
            array = np.array(weights.member(member))
            array[place] *= -1
            found[member] = array
        return weights.with_held(**found)

    members = ("kernel", "recurrent", "bias_input", "bias_recurrent")
    return Mistake(
        "update gate the other way round",
        f"has {letter} where 1 - {letter} belongs: its update gate weighs the candidate, not the old state",
        weights_changed(changed),
        by_formula(*((member, Scale(-1.0, place)) for member in members)),
        lambda layer, _: layer.spec.kind == "gru",
        gate=letter,
        rank=20,
    )


def _zeros(weights: Weights) -> Weights:
    return weights.with_held(**{name: np.zeros_like(weights.member(name)) for name in members_of(weights)})


def _all_put(layer: Recurrent, index: int) -> Repair:
    return by_putting(*members_of(layer.weights[index]))(layer, index)


_NOT_LOADED = (
    Mistake(
        "weights zero",
        "has zeros in place of all its weights, as if they had never been loaded",
        weights_changed(_zeros),
        _all_put,
        rank=19,
    ),
)

__all__ = ["matrix_faults"]
