"""Which layer of one model is which of another: for a port written by hand, whose layers have other names and other axes."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import permutations

import numpy as np

from parity.graph.calls import Layered
from parity.graph.graph import Graph, Node, Wire
from parity.graph.operations import Activation, Constant, Softmax
from parity.graph.operations.stub import Stub
from parity.network import Dense
from parity.recurrent import Array


def matched_layers(first: Graph, other: Graph) -> dict[Wire, Wire]:
    """The values of one graph's layers, and the values of another's that should be the same.

    Layers with weights are matched in the order of the data, if both have the same ones; where they differ, those of a kind and size that
    occurs once on each side. An activation that stands behind a layer on one side and in it on the other is seen through.

    Args:
        first: the reference.
        other: the port.

    Returns:
        Wires of the first -> wires of the other, in the first one's order.

    Example:
        >>> import numpy as np
        >>> from parity.graph import Builder
        >>> def model(name):
        ...     build = Builder("model")
        ...     return build.graph({"y": build.call(Dense(name, np.ones((3, 2))), build.input("x", ("batch", 3)))})
        >>> {str(one): str(two) for one, two in matched_layers(model("scores"), model("fc")).items()}
        {'scores': 'fc'}
    """
    ours, theirs = weighted_nodes(first), weighted_nodes(other)
    keys, other_keys = [_key(node.operation) for node in ours], [_key(node.operation) for node in theirs]
    if keys == other_keys:
        pairs = list(zip(ours, theirs, strict=True))
    else:
        once = [key for key in keys if keys.count(key) == other_keys.count(key) == 1]
        pairs = [(ours[keys.index(key)], theirs[other_keys.index(key)]) for key in once]
    takers, other_takers = first.takers(), other.takers()
    found: dict[Wire, Wire] = {}
    for one, two in pairs:
        mine, yours = Wire(one.name), Wire(two.name)
        bare = [isinstance(node.operation, Dense) and node.operation.activation != "linear" for node in (one, two)]
        if bare == [True, False]:
            behind = _activated(other_takers.get(yours, []))
            if behind is None:
                continue
            yours = behind
        elif bare == [False, True]:
            behind = _activated(takers.get(mine, []))
            if behind is None:
                continue
            mine = behind
        found[mine] = yours
    return found


def weighted_nodes(graph: Graph) -> list[Node]:
    """The calls of layers with weights, in the order of the data."""
    kept = [node for node in graph.nodes if not isinstance(node.operation, (Constant, Stub))]
    return [node for node in kept if node.operation.arrays.held]


def _key(operation: Layered) -> tuple[str, int]:
    """What two layers have in common that may be each other's: their kind, and how many they give."""
    size = getattr(operation, "output_size", None) or getattr(operation, "size", None) or 0
    return type(operation).__name__, int(size)


def _activated(takers: list[Node]) -> Wire | None:
    """The value behind an activation that alone takes a value."""
    if len(takers) == 1 and isinstance(takers[0].operation, (Activation, Softmax)):
        return Wire(takers[0].name)
    return None


def in_axes_of(array: Array, reference: Array) -> Array | None:
    """A value with its axes in the order of the reference's: channels or time may stand elsewhere in a port.

    Where several orders fit, for two axes have one length, the one in which it is nearest to the reference is taken.

    Returns:
        The value; None if it has other lengths.

    Example:
        >>> import numpy as np
        >>> reference = np.arange(8.0).reshape(2, 2, 2)
        >>> in_axes_of(reference.transpose(0, 2, 1), reference).tolist() == reference.tolist(), in_axes_of(np.ones(3), np.ones(4))
        (True, None)
    """
    if array.ndim != reference.ndim:
        return None
    orders = [
        one for one in permutations(range(array.ndim)) if tuple(array.shape[axis] for axis in one) == reference.shape
    ]
    turned = [array.transpose(order) for order in orders]
    if len(turned) <= 1:
        return turned[0] if turned else None
    with np.errstate(invalid="ignore"):
        return min(turned, key=lambda one: float(np.nan_to_num(np.abs(one - reference), nan=np.inf).max(initial=0.0)))


def values_as(first: Graph, other: Graph, seen: Mapping[Wire, Array], exact: Mapping[Wire, Array]) -> dict[Wire, Array]:
    """What an engine shows of another model, by the first one's wires and in its axes.

    Args:
        first: the reference.
        other: whose values they are.
        seen: the values by its own wires.
        exact: the first one's values in float64.
    """
    found: dict[Wire, Array] = {}
    for mine, yours in matched_layers(first, other).items():
        array = in_axes_of(seen[yours], exact[mine]) if yours in seen and mine in exact else None
        if array is not None:
            found[mine] = array
    return found


__all__ = ["in_axes_of", "matched_layers", "values_as", "weighted_nodes"]
