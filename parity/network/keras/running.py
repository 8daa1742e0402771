"""In which order Keras runs the calls of a functional model. Imports no framework.

It matters where a layer changes what others see: `MultiHeadAttention` takes the masks off the tensors that it is given. Source:
`_run_through_graph`, `map_graph` and `_build_map` in `keras/src/ops/function.py` of Keras 3: calls by decreasing distance from the
outputs; those of one distance as the distances were noted, from the outputs backwards.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from parity.network.keras.calls import CallNumbers, calls_in
from parity.network.keras.masks import reference
from parity.network.keras.options import Config

Called = tuple[str, int]
"""A call: the layer, and which of its calls."""


def running_order(config: Config, layers: Mapping[str, Config], numbers: CallNumbers | None = None) -> list[Called]:
    """The calls that lead to a model's outputs, in the order in which Keras runs them.

    Args:
        config: of a Functional model.
        layers: of it, by name.
        numbers: which call a number means; found in the configuration by default.

    Example, where the config names the layers in another order:
        >>> def node(*names):
        ...     of = [{"class_name": "__keras_tensor__", "config": {"keras_history": [name, 0, 0]}} for name in names]
        ...     return {"inbound_nodes": [{"args": of, "kwargs": {}}]}
        >>> layers = {"x": {"inbound_nodes": []}, "a": node("x"), "b": node("x")}
        >>> running_order({"output_layers": [["a", 0, 0], ["b", 0, 0]]}, layers)
        [('x', 0), ('b', 0), ('a', 0)]
    """
    known = CallNumbers(config, layers) if numbers is None else numbers
    taken: dict[Called, list[Called]] = {}

    def before(call: Called) -> list[Called]:
        if call not in taken:
            found = _tensors(_node(layers.get(call[0]), call[1]))
            taken[call] = [(name, known.of_argument(name, number)) for name, number in found]
        return taken[call]

    outputs = [(name, known.of_output(name, number)) for name, number, _ in calls_in(config.get("output_layers"))]
    distances: dict[Called, int] = {}
    of_layer: dict[str, int] = {}
    for call in reversed(_searched(outputs, before)):
        distance = max(distances.get(call, 0), of_layer.get(call[0], 0))
        of_layer[call[0]] = distances[call] = distance
        for one in before(call):
            distances[one] = max(distance + 1, distances.get(one, 0))
    groups: dict[int, list[Called]] = defaultdict(list)
    for call, distance in distances.items():
        groups[distance].append(call)
    return [call for distance in sorted(groups, reverse=True) for call in groups[distance]]


def _searched(outputs: Sequence[Called], before: Callable[[Called], Sequence[Called]]) -> list[Called]:
    """The calls, each after those it takes from, as a search in depth from the outputs finishes them."""
    finished: dict[Called, None] = {}
    open_: set[Called] = set()
    for output in outputs:
        todo = [(output, False)]
        while todo:
            call, done = todo.pop()
            if done:
                finished[call] = None
            elif call not in finished and call not in open_:
                open_.add(call)
                todo.append((call, True))
                todo += [(one, False) for one in reversed(before(call)) if one not in open_]
    return list(finished)


def _node(layer: Config | None, number: int) -> Any:
    nodes = layer.get("inbound_nodes") if layer is not None else None
    node = nodes[number] if isinstance(nodes, (list, tuple)) and 0 <= number < len(nodes) else None
    return [node.get("args"), node.get("kwargs")] if isinstance(node, Mapping) else []


def _tensors(value: object) -> list[Called]:
    """(layer, number of the call) of the serialized tensors in arguments, in Keras's order: those by name sorted by it."""
    return list(_found(value))


def _found(value: object) -> Iterator[Called]:
    if isinstance(value, Mapping):
        config = value.get("config")
        if value.get("class_name") == "__keras_tensor__" and isinstance(config, Mapping):
            history = config.get("keras_history")
            if isinstance(history, (list, tuple)) and reference(history) is not None:
                yield history[0], history[1]
            return
        for key in sorted(value, key=str):
            yield from _found(value[key])
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _found(item)


__all__ = ["Called", "running_order"]
