"""The weights of a Keras model, checked against what its configuration says, then read. Imports no framework."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from parity.deferred import Stored
from parity.errors import Problem, ShapeError
from parity.network.graph import Layer
from parity.network.keras.options import COMMON, DTYPES
from parity.network.keras.plans import BidirectionalPlan, Plan, StackPlan
from parity.network.keras.stored import as_kept, type_name


def with_weights(
    plans: Sequence[Plan], stored: Sequence[Sequence[Stored]], sizes: Sequence[int]
) -> tuple[tuple[tuple[Layer, ...], ...], dict[str, str]]:
    """The nodes of each plan, and what `Network.details` says of the weights.

    Args:
        plans: of layers.
        stored: the weights of each in Keras's order; large ones stay where they are until they are asked for.
        sizes: the features that each takes.

    Raises:
        ShapeError: weights that do not fit; all at once.
    """
    problems: list[Problem] = []
    fitted = [plan.fitted([tuple(w.shape) for w in weights]) for plan, weights in zip(plans, stored, strict=True)]
    for plan, weights, size in zip(fitted, stored, sizes, strict=True):
        problems += _weight_problems(plan, plan.shapes(size), weights)
    types = {type_name(weight) for weights in stored for weight in weights}
    if {"float32", "float64"} <= types:
        problems += _odd_weights(plans, stored)
    if problems:
        raise ShapeError(problems)
    layers = tuple(
        plan.build([as_kept(weight) for weight in weights], size)
        for plan, weights, size in zip(fitted, stored, sizes, strict=True)
    )
    small = types - {"float32", "float64"}
    return layers, {"stored as": ", ".join(sorted(small))} if small else {}


def sizes_in_chain(plans: Sequence[Plan], stored: Sequence[Sequence[Stored]], input_size: int | None) -> list[int]:
    """The features that each layer of a chain takes; those of the first are told from the weights where nothing else says them."""
    if input_size is None:
        found = (features(plan, weights) for plan, weights in zip(plans, stored, strict=True) if weights)
        input_size = next(found, 1)
    sizes = [input_size]
    for plan in plans[:-1]:
        sizes.append(plan.output_size(sizes[-1]))
    return sizes[: len(plans)]


def features(plan: Plan, weights: Sequence[Stored]) -> int:
    """Features that a layer takes, told from its first weight."""
    own = isinstance(plan, (StackPlan, BidirectionalPlan)) and len(weights[0].shape) == 3
    return int(weights[0].shape[-1 if own else 0]) if weights[0].shape else 1


def misbuilt(plans: Sequence[Plan], stored: Sequence[Sequence[Stored]]) -> Iterator[Problem]:
    """Layers of a chain that Keras has built for another size than they get: those behind a Bidirectional of unlike units.

    Source: `Bidirectional.compute_output_shape` in Keras 3 takes the units of the forward layer twice; its `call` gives those of both.
    """
    before: BidirectionalPlan | None = None
    for plan, weights in zip(plans, stored, strict=True):
        if before is not None and weights:
            forward, backward = before.forward.output_size(1), before.backward.output_size(1)
            if forward != backward and features(plan, weights) == 2 * forward:
                expected = f"{forward + backward} features: {forward} forward and {backward} backward"
                got = f"{2 * forward}, twice the forward units of {before.where}"
                remedy = "give both directions the same units: Keras itself cannot run this model"
                yield Problem("Keras builds the layer for the wrong size", plan.where, expected, got, remedy)
        if isinstance(plan, BidirectionalPlan):
            before = plan if plan.merge_mode == "concat" else None
        elif weights:
            before = None


def _odd_weights(plans: Sequence[Plan], stored: Sequence[Sequence[Stored]]) -> Iterator[Problem]:
    """float64 weights among float32 ones: Keras would round them, or compute layer by layer in another type."""
    for plan, weights in zip(plans, stored, strict=True):
        for number, weight in enumerate(weights):
            if type_name(weight) == "float64":
                remedy = COMMON["dtype"].remedy
                yield Problem(
                    f"weight {number} is not float32, as others are", plan.where, "one type", "float64", remedy
                )


def _weight_problems(
    plan: Plan, shapes: list[tuple[str, tuple[int, ...]]], weights: Sequence[Stored]
) -> Iterator[Problem]:
    if len(weights) != len(shapes):
        expected = f"{len(shapes)}: {', '.join(name for name, _ in shapes)}"
        yield Problem("wrong number of weights", plan.where, expected, str(len(weights)))
        return
    for (name, shape), weight in zip(shapes, weights, strict=True):
        if tuple(weight.shape) != shape:
            yield Problem(f"weight '{name}' has the wrong shape", plan.where, str(shape), str(tuple(weight.shape)))
        if type_name(weight) not in DTYPES:
            got, remedy = type_name(weight), COMMON["dtype"].remedy
            yield Problem(f"weight '{name}' is not a floating point array", plan.where, ", ".join(DTYPES), got, remedy)


Weighted = Callable[[str], Sequence[Stored]]
"""The weights of a layer by its path: the names of the models it stands in and its own, joined by slashes."""
