"""Which call of a layer is meant: every age of Keras numbers the calls of a layer otherwise. Imports no framework.

Sources: `get_config` of `keras/engine/network.py` in Keras 2.2.4 (0 is the first call that is written); `get_network_config` and
`_should_skip_first_node` in `keras/engine/functional.py` of tf.keras 2.6 to 2.15 (1 is the first call of a model that has inputs of its
own: 0 would be that on them); Keras 3 `Functional.get_config` (in the model's outputs, 1 is the first call of a Functional) and
`serialize_node` (in arguments 0 is; in 3.0 the number counts calls that are not written, too).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from parity.network.keras.masks import reference
from parity.network.keras.options import Config

MODELS_OF_TODAY = ("Sequential", "Functional")


def is_model(layer: Config) -> bool:
    """Whether a layer is a Sequential or Functional model itself."""
    config = layer.get("config")
    return (
        layer.get("class_name") in MODELS_OF_TODAY
        and isinstance(config, Mapping)
        and isinstance(config.get("layers"), (list, tuple))
    )


def calls_in(value: object) -> list[tuple[str, int, int]]:
    """The [layer, call, index] of a model's inputs or outputs.

    Example:
        >>> calls_in([["lstm", 0, 1], ["dense", 0, 0]])
        [('lstm', 0, 1), ('dense', 0, 0)]
    """
    if reference(value) is not None and isinstance(value, (list, tuple)):
        name, call, index = value
        return [(name, call, index)]
    items = value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else ()
    return [found for item in items for found in calls_in(item)]


class CallNumbers:
    """The calls of a model's layers, numbered from 0 among those that are written.

    Args:
        config: of a Functional model.
        layers: of it, by name.
    """

    def __init__(self, config: Config, layers: Mapping[str, Config]) -> None:
        tensors = [tensor for layer in layers.values() for tensor in _tensors(layer.get("inbound_nodes"))]
        of_keras_3 = any("shape" in tensor for tensor in tensors)
        arguments, outputs = (
            _numbers(calls_in([t.get("keras_history") for t in tensors])),
            _numbers(calls_in(config.get("output_layers"))),
        )
        self._arguments: dict[str, dict[int, int]] = {}
        self._outputs: dict[str, dict[int, int]] = {}
        for name, layer in layers.items():
            nodes = layer.get("inbound_nodes")
            written = len(nodes) if isinstance(nodes, (list, tuple)) else 0
            if not written:
                self._arguments[name] = self._outputs[name] = dict.fromkeys(arguments[name] | outputs[name], 0)
            elif of_keras_3:
                functional = is_model(layer) and layer.get("class_name") == "Functional"
                self._arguments[name] = _within(arguments[name], written)
                self._outputs[name] = _less(outputs[name], int(functional and 0 not in outputs[name]))
            else:
                # Every call that is written is used, so the last number says which is the first.
                used = arguments[name] | outputs[name]
                first = int(is_model(layer) and max(used, default=0) >= written)
                self._arguments[name] = self._outputs[name] = _less(used, first)

    def of_argument(self, name: str, call: int) -> int:
        """The call meant by the number in a tensor that a layer takes."""
        return self._arguments.get(name, {}).get(call, call)

    def of_output(self, name: str, call: int) -> int:
        """The call meant by the number in the model's outputs."""
        return self._outputs.get(name, {}).get(call, call)


def _numbers(calls: list[tuple[str, int, int]]) -> dict[str, set[int]]:
    found: dict[str, set[int]] = defaultdict(set)
    for name, call, _ in calls:
        found[name].add(call)
    return found


def _less(numbers: set[int], first: int) -> dict[int, int]:
    return {number: number - first for number in numbers}


def _within(numbers: set[int], written: int) -> dict[int, int]:
    """Numbers below that of the calls that are written, in the same order."""
    if max(numbers, default=0) < written:
        return _less(numbers, 0)
    if len(numbers) == written:
        return {number: place for place, number in enumerate(sorted(numbers))}
    return _less(numbers, max(numbers) - written + 1)


def _tensors(value: object) -> Iterator[Mapping[str, Any]]:
    """The configurations of the serialized tensors in arguments."""
    if isinstance(value, Mapping):
        config = value.get("config")
        if value.get("class_name") == "__keras_tensor__" and isinstance(config, Mapping):
            yield config
            return
    for item in value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else ():
        yield from _tensors(item)
