"""Keras layers that are only an activation, taken into the Dense layer before them. Imports no framework."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from parity.network.activations import ACTIVATIONS
from parity.network.keras.chain import class_name_of, name_of
from parity.network.keras.masks import history
from parity.network.keras.options import Config, plain


def with_activations(serialized: Config) -> tuple[Config, dict[str, str]]:
    """A flat model whose linear Dense layers have the activation of the `Activation` layer that alone takes their values.

    Returns:
        The configuration; and for each layer that is gone the Dense layer that has become it.

    Example:
        >>> layers = [{"class_name": "Dense", "config": {"name": "logits"}},
        ...           {"class_name": "Activation", "config": {"name": "classes", "activation": "softmax"}}]
        >>> with_activations({"class_name": "Sequential", "config": {"name": "m", "layers": layers}})[1]
        {'classes': 'logits'}
    """
    config = serialized["config"]
    layers = list(config["layers"])
    takes = dict(_sources(serialized["class_name"], layers))
    uses = Counter(name for name, _ in _histories([layer.get("inbound_nodes") for layer in layers]))
    uses += Counter(str(name) for name in _leaves(config.get("output_layers")))
    by_name = {name_of(layer): layer for layer in layers}
    homes: dict[str, str] = {}
    functions: dict[str, object] = {}
    for name, source in takes.items():
        if (
            _only_activation(by_name[name])
            and _linear(by_name.get(source))
            and uses[source] <= 1
            and source not in functions
        ):
            homes[name] = source
            functions[source] = plain(_inner(by_name[name])["config"]["activation"])
    if not homes:
        return serialized, {}
    kept = [
        _moved(_activated(layer, functions.get(name_of(layer))), homes)
        for layer in layers
        if name_of(layer) not in homes
    ]
    new = {"layers": kept, "output_layers": _renamed(config.get("output_layers"), homes)}
    return {
        **serialized,
        "config": {**config, **{key: value for key, value in new.items() if value is not None}},
    }, homes


def _inner(layer: Config) -> Config:
    """The layer inside a TimeDistributed, or itself."""
    config = layer.get("config")
    inside = (
        config.get("layer") if layer.get("class_name") == "TimeDistributed" and isinstance(config, Mapping) else None
    )
    return inside if isinstance(inside, Mapping) and isinstance(inside.get("config"), Mapping) else layer


def _only_activation(layer: Config) -> bool:
    inner = _inner(layer)
    name = plain(inner["config"].get("activation")) if inner.get("class_name") == "Activation" else None
    return isinstance(name, str) and name in ACTIVATIONS and inner.get("module") in (None, "keras.layers")


def _linear(layer: Config | None) -> bool:
    inner = _inner(layer) if layer is not None else {}
    return inner.get("class_name") == "Dense" and plain(inner["config"].get("activation", "linear")) in ("linear", None)


def _activated(layer: Config, function: object) -> Config:
    if function is None:
        return layer
    inner = _inner(layer)
    new = {**inner, "config": {**inner["config"], "activation": function}}
    return new if inner is layer else {**layer, "config": {**layer["config"], "layer": new}}


def _sources(class_name: str, layers: list[Config]) -> Iterator[tuple[str, str]]:
    """(layer, the only layer it takes a value of)."""
    if class_name == "Sequential":
        yield from ((name_of(after), name_of(before)) for before, after in pairwise(layers))
        return
    for layer in layers:
        nodes = layer.get("inbound_nodes")
        if isinstance(nodes, (list, tuple)) and len(nodes) == 1 and class_name_of(layer) != "InputLayer":
            found = list(_histories(nodes))
            if len(found) == 1 and found[0][1] == 0:
                yield name_of(layer), found[0][0]


def _histories(value: object) -> Iterator[tuple[str, int]]:
    found = history(value)
    if found is not None:
        yield found
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _histories(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _histories(item)


def _leaves(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _leaves(item)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _leaves(item)


def _renamed(value: Any, homes: Mapping[str, str]) -> Any:
    """References to layers that are gone, turned to the Dense layers that have become them."""
    if isinstance(value, str):
        return homes.get(value, value)
    if isinstance(value, (list, tuple)):
        return [_renamed(item, homes) for item in value]
    return {key: _renamed(item, homes) for key, item in value.items()} if isinstance(value, Mapping) else value


def _moved(layer: Config, homes: Mapping[str, str]) -> Config:
    nodes = layer.get("inbound_nodes")
    return {**layer, "inbound_nodes": _histories_renamed(nodes, homes)} if nodes else layer


def _histories_renamed(value: Any, homes: Mapping[str, str]) -> Any:
    if history(value) is not None:
        name, call, index = value["config"]["keras_history"]
        return {**value, "config": {**value["config"], "keras_history": [homes.get(name, name), call, index]}}
    if isinstance(value, Mapping):
        return {key: _histories_renamed(item, homes) for key, item in value.items()}
    return [_histories_renamed(item, homes) for item in value] if isinstance(value, (list, tuple)) else value
