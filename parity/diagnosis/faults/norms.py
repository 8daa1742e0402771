"""Normalizations: epsilon, the order of the weights, statistics of other numbers, left out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from parity.deferred import Array
from parity.diagnosis.case import Case, Change
from parity.diagnosis.fault import Fault, Place
from parity.diagnosis.faults.layers import Nothing, changed, shapes_in, together
from parity.diagnosis.repair import CallRepair, OptionRepair
from parity.graph.graph import Node
from parity.graph.operations import BatchNormalization, GroupNormalization, LayerNormalization
from parity.graph.operations.operation import Plain, Shape, all_of
from parity.graph.operations.reduction import summed
from parity.reference import Rounding

Norm: TypeAlias = BatchNormalization | LayerNormalization | GroupNormalization

EPSILONS = (1e-3, 1e-5, 1e-6, 1e-7, 1e-12)
"""What frameworks and papers take: Keras 1e-3, torch 1e-5, transformers 1e-6 and 1e-12, Keras's backend 1e-7."""

_DEFAULTS = {1e-3: " (the default of Keras)", 1e-5: " (the default of torch)"}

_ORDERS = (
    ("beta", "gamma", "mean", "variance"),
    ("gamma", "beta", "variance", "mean"),
    ("beta", "gamma", "variance", "mean"),
    ("mean", "variance", "gamma", "beta"),
    ("beta", "mean", "variance", "gamma"),
    ("variance", "gamma", "beta", "mean"),
)
"""Orders that people take for gamma, beta, mean, variance: alphabetical ones of Keras and of torch, pairs exchanged."""


@dataclass(frozen=True, eq=False)
class OwnStatistics(Plain):
    """A normalization by mean and variance of the very numbers that it takes, over axes that can be chosen.

    Args:
        name: unique among the operations of a graph.
        axes: over which mean and variance are taken.
        epsilon: added to the variance, or to its root.
        gamma, beta: broadcast to what is normalized.
        fewer: what is taken from the number of terms in the variance: 1 in an unbiased one.
        outside: whether epsilon is added to the standard deviation.
    """

    axes: tuple[int, ...]
    epsilon: float
    gamma: Array | None = None
    beta: Array | None = None
    fewer: int = 0
    outside: bool = False

    def shapes(self, *shapes: Shape | None) -> tuple[Shape, ...]:
        """Of what it gives: that of what it takes."""
        return tuple(all_of(shapes, 1, self.name))

    def compute(self, *values: Any, rounding: Rounding) -> tuple[Any, ...]:
        """It in float64.

        Example:
            >>> from parity.reference import Exact
            >>> OwnStatistics("norm", (0,), 0.0).compute(np.array([[1.0], [3.0]]), rounding=Exact())[0].tolist()
            [[-1.0], [1.0]]
        """
        (x,) = values
        terms = math.prod(x.shape[axis] for axis in self.axes)
        mean = summed(x, self.axes, rounding, f"{self.name}.mean") / terms
        centred = rounding.product(x - mean, f"{self.name}.centred")
        total = summed(centred**2, self.axes, rounding, f"{self.name}.spread")
        variance = rounding.product(total / (terms - self.fewer), f"{self.name}.variance")
        spread = np.sqrt(variance) + self.epsilon if self.outside else np.sqrt(variance + self.epsilon)
        found = rounding.product(centred / spread, f"{self.name}.normalized")
        found = found if self.gamma is None else rounding.product(found * self.gamma, f"{self.name}.scaled")
        return (found if self.beta is None else rounding.product(found + self.beta, self.name),)


def norm_faults(case: Case) -> Iterator[Fault]:
    """Every mistake of a normalization that could be made in a model.

    Args:
        case: the right model.
    """
    yield from together(case, _of_each(case))


def _of_each(case: Case) -> Iterator[Fault]:
    ranks = {node.operation.name: len(shape) for node, shape in _taken(case)}
    for norm in case.graph.operations:
        if not isinstance(norm, BatchNormalization | LayerNormalization | GroupNormalization):
            continue
        name, rank = norm.name, ranks.get(norm.name, 0)
        for value in EPSILONS:
            if not math.isclose(value, norm.epsilon, rel_tol=1e-6):
                yield epsilon_fault(name, norm.epsilon, value)
        yield from _weights(name, norm)
        yield from _spread(name, norm, rank)
        if isinstance(norm, BatchNormalization):
            yield from _batch(name, norm, rank)
        elif isinstance(norm, LayerNormalization):
            yield from _layer(name, norm, rank)
        else:
            yield from _groups(name, norm)
        cause = "leaves the normalization out"
        yield _fault("normalization left out", cause, name, _left_out(name), 25, "the normalization", "there")


def _taken(case: Case) -> Iterator[tuple[Node, Shape]]:
    """The calls of normalizations, and the shapes of what they take."""
    shapes = shapes_in(case)
    for node in case.graph.nodes:
        wire = node.inputs[0] if node.inputs else None
        if isinstance(node.operation, BatchNormalization | LayerNormalization | GroupNormalization) and wire in shapes:
            yield node, shapes[wire]


def epsilon_fault(name: str, right: float, value: float) -> Fault:
    """Another epsilon in a normalization.

    Args:
        name: of the layer.
        right: the epsilon that belongs there.
        value: the suspect's.
    """
    words = "no epsilon" if value == 0 else f"epsilon {value:.4g}{_DEFAULTS.get(value, '')}"
    return Fault(
        "epsilon",
        f"has {words}, where {right:.4g} belongs",
        Place(name),
        changed(name, object, lambda norm: _with_epsilon(norm, value)),
        (OptionRepair(name, "epsilon", f"{right:.6g}", f"{value:.6g}"),),
        rank=7,
        shows="needs numbers whose variance is small",
    )


def _with_epsilon(norm: object, value: float) -> Norm:
    if not isinstance(norm, BatchNormalization | LayerNormalization | GroupNormalization):
        raise KeyError("a normalization")
    return replace(norm, epsilon=value)


def _fault(kind: str, cause: str, name: str, replay: Change, rank: int, option: str, value: str) -> Fault:
    return Fault(kind, cause, Place(name), replay, (OptionRepair(name, option, value),), rank)


def _left_out(name: str) -> Change:
    return changed(name, object, lambda _: Nothing(name))


def _weights(name: str, norm: Norm) -> Iterator[Fault]:
    """Weights in another order, or never loaded."""
    present = list(norm.arrays.held)
    for order in _ORDERS if isinstance(norm, BatchNormalization) else (("beta", "gamma"),):
        if sorted(order) != sorted(present):
            continue
        right = [one for one in ("gamma", "beta", "mean", "variance") if one in order]
        if order[-1] == "variance" or len(order) == 2:
            cause = "has gamma and beta exchanged"
        elif order[:2] == ("gamma", "beta"):
            cause = "has mean and variance exchanged"
        else:
            cause = f"has its weights in the order {', '.join(order)}, where {', '.join(right)} belongs"
        yield _fault(
            "order of the weights",
            cause,
            name,
            changed(name, type(norm), partial(_in_order, right=tuple(right), order=order)),
            20,
            "the order of the weights",
            f"{', '.join(right)}",
        )
    initial = {"gamma": 1.0, "beta": 0.0, "mean": 0.0, "variance": 1.0}
    for names, words in (
        (("gamma", "beta"), "gamma and beta"),
        (("gamma",), "gamma"),
        (("beta",), "beta"),
        (("mean", "variance"), "moving mean and variance"),
        (("gamma", "beta", "mean", "variance"), "weights"),
    ):
        if all(one in present for one in names) and len(names) <= len(present):
            yield _fault(
                "normalization not loaded",
                f"has the initial {words} (ones and zeros): they were not loaded",
                name,
                changed(name, type(norm), partial(_initial, initial={one: initial[one] for one in names})),
                22 if len(names) > 1 else 32,
                words,
                "loaded",
            )


def _in_order(norm: Any, right: tuple[str, ...], order: tuple[str, ...]) -> Any:
    return replace(norm, **{mine: getattr(norm, theirs) for mine, theirs in zip(right, order, strict=True)})


def _initial(norm: Any, initial: dict[str, float]) -> Any:
    return replace(norm, **{one: np.full_like(getattr(norm, one), value) for one, value in initial.items()})


def _spread(name: str, norm: Norm, rank: int) -> Iterator[Fault]:
    """The standard deviation for the variance, and epsilon outside of the root."""
    outside = "adds epsilon to the standard deviation, outside of the root, where it belongs to the variance"
    option = ("the place of epsilon", "inside of the root: sqrt(variance + epsilon)")
    if not isinstance(norm, BatchNormalization):
        if isinstance(norm, LayerNormalization) and not norm.rms and rank:
            yield _fault("epsilon outside", outside, name, _own(name, _layer_axes(norm), outside=True), 24, *option)
            yield _fault(
                "unbiased variance",
                "takes the unbiased variance, over n - 1 terms, where that over n belongs",
                name,
                _own(name, _layer_axes(norm), fewer=1),
                23,
                "the variance",
                "that over n: x.var(-1, unbiased=False)",
            )
            yield _fault(
                "unbiased variance",
                "takes the unbiased standard deviation, over n - 1 terms, and adds epsilon to it outside of the root",
                name,
                _own(name, _layer_axes(norm), fewer=1, outside=True),
                23,
                "the divisor",
                "sqrt(variance over n + epsilon)",
            )
        return
    formulas: tuple[tuple[str, str, Callable[[Array, float], Array], tuple[str, str]], ...] = (
        (
            "standard deviation for variance",
            "has the standard deviation where the variance belongs",
            lambda v, _: np.sqrt(v),
            ("the variance", "the square of what it is"),
        ),
        (
            "standard deviation for variance",
            "divides by variance + epsilon, without the square root",
            lambda v, e: (v + e) ** 2 - e,
            ("the divisor", "sqrt(variance + epsilon)"),
        ),
        ("epsilon outside", outside, lambda v, e: (np.sqrt(v) + e) ** 2 - e, option),
    )
    for kind, cause, formula, words in formulas:
        yield _fault(
            kind, cause, name, changed(name, BatchNormalization, partial(_other_variance, formula=formula)), 24, *words
        )


def _other_variance(norm: BatchNormalization, formula: Callable[[Array, float], Array]) -> BatchNormalization:
    return replace(norm, variance=formula(np.asarray(norm.variance, np.float64), norm.epsilon))


def _own(name: str, axes: tuple[int, ...], **options: Any) -> Change:
    """A layer normalization by statistics over other axes, or of another kind."""

    def made(norm: LayerNormalization) -> OwnStatistics:
        return OwnStatistics(name, axes, norm.epsilon, norm.gamma, norm.beta, **options)

    return changed(name, LayerNormalization, made)


def _layer_axes(norm: LayerNormalization) -> tuple[int, ...]:
    return tuple(range(-norm.axes, 0))


def _batch(name: str, norm: BatchNormalization, rank: int) -> Iterator[Fault]:
    """Training mode, and channels on another axis."""
    yield Fault(
        "training mode",
        "normalizes by the mean and variance of the batch, as in training, where the moving ones belong",
        Place(name),
        changed(name, BatchNormalization, partial(_in_training, rank=rank)),
        (CallRepair(name, "mode", "model.eval()", "y = model(x, training=False)"),),
        rank=15,
        shows="needs inputs whose statistics are not those of training",
    )
    own = norm.axis % rank if rank else 0
    for axis in range(1, rank):
        if axis != own:
            yield _fault(
                "normalized axis",
                f"takes axis {axis} for the channels, where axis {own} belongs",
                name,
                changed(name, BatchNormalization, partial(_on_axis, axis=axis)),
                19,
                "the axis of the channels",
                str(own),
            )


def _on_axis(norm: BatchNormalization, axis: int) -> BatchNormalization:
    return replace(norm, axis=axis)


def _in_training(norm: BatchNormalization, rank: int) -> OwnStatistics:
    channels = norm.axis % rank
    shape = [1] * rank
    shape[channels] = -1
    gamma, beta = (
        None if array is None else np.asarray(array, np.float64).reshape(shape) for array in (norm.gamma, norm.beta)
    )
    return OwnStatistics(norm.name, tuple(axis for axis in range(rank) if axis != channels), norm.epsilon, gamma, beta)


def _layer(name: str, norm: LayerNormalization, rank: int) -> Iterator[Fault]:
    """Other axes, and the mean left out."""
    right = _layer_axes(norm)
    choices = {tuple(range(-count, 0)) for count in range(1, rank)} | {(axis - rank,) for axis in range(1, rank)}
    for axes in sorted(choices - {right}) if not norm.rms else ():
        words = " and ".join(str(axis) for axis in axes)
        yield _fault(
            "normalized axis",
            f"normalizes over the axes {words}, where {' and '.join(map(str, right))} belongs",
            name,
            _own(name, axes),
            19,
            "the normalized axes",
            str(right),
        )
    yield _fault(
        "mean left out",
        "subtracts the mean, where root mean square normalization belongs"
        if norm.rms
        else "does not subtract the mean (root mean square normalization)",
        name,
        changed(name, LayerNormalization, lambda one: replace(one, rms=not one.rms)),
        28,
        "the kind of normalization",
        "RMSNorm" if norm.rms else "LayerNorm",
    )


def _groups(name: str, norm: GroupNormalization) -> Iterator[Fault]:
    """Another number of groups."""
    channels = next((int(array.shape[0]) for array in norm.arrays.held.values()), 0)
    for groups in sorted({1, 2, 4, 8, 16, 32, channels} - {0, norm.groups}):
        if channels and channels % groups == 0:
            yield Fault(
                "groups",
                f"normalizes {groups} groups of channels, where {norm.groups} belong",
                Place(name),
                changed(name, GroupNormalization, partial(_in_groups, groups=groups)),
                (OptionRepair(name, "groups", str(norm.groups), str(groups)),),
                rank=26,
            )


def _in_groups(norm: GroupNormalization, groups: int) -> GroupNormalization:
    return replace(norm, groups=groups)


__all__ = ["EPSILONS", "OwnStatistics", "epsilon_fault", "norm_faults"]
