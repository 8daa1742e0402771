"""The masks in a serialized Functional model of Keras 3: operations beside its layers. Imports no framework.

Keras writes the mask that a `Masking` or an `Embedding(mask_zero=True)` makes as operations `NotEqual` and `Any` of their input, and hands
the result to each layer that takes a mask. Source: Keras 3 `Masking.compute_mask`, `Embedding.compute_mask`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from parity.errors import Problem
from parity.network.keras.options import MASK_OPERATIONS, Config

MASKED = "let Masking or Embedding(mask_zero=True) make the mask, or give it when running: run(..., mask=...)"


@dataclass(frozen=True)
class MaskOf:
    """A mask that an operation of the model computes.

    Args:
        source: (layer, index) of the tensor it is made of.
        value: what marks a step to leave out.
        features: whether all features of a step have to have that value.
    """

    source: tuple[str, int]
    value: float
    features: bool


def history(value: object) -> tuple[str, int] | None:
    """(layer, index of its value) of a serialized tensor of the model; None for anything else."""
    if (
        not isinstance(value, Mapping)
        or value.get("class_name") != "__keras_tensor__"
        or not isinstance(value.get("config"), Mapping)
    ):
        return None
    return reference(value["config"].get("keras_history"))


def reference(value: object) -> tuple[str, int] | None:
    """(layer, index) of Keras's [layer, call, index]."""
    if isinstance(value, (list, tuple)) and len(value) == 3:
        name, call, index = value
        if isinstance(name, str) and isinstance(call, int) and isinstance(index, int) and index >= 0:
            return name, index
    return None


def mask_operations(layers: Sequence[Config]) -> dict[str, MaskOf]:
    """The masks of a model, by the name of the operation that makes each; an operation that something else takes is none of them."""
    made: dict[str, MaskOf] = {}
    for layer in layers:
        found = _mask_of(layer, made)
        if found is not None:
            made[str(layer["config"]["name"])] = found
    count = -1
    while count != len(made):  # one that is none of them takes what it is made of along
        count = len(made)
        for layer in layers:
            if not (layer.get("class_name") == "Any" and layer["config"].get("name") in made):
                for source in _inputs(layer):
                    made.pop(source[0], None)
    return made


def mask_problems(
    layers: Sequence[Config], sources: Mapping[str, tuple[str, int]], given: Mapping[str, MaskOf]
) -> Iterator[Problem]:
    """What is wrong with the masks handed to a chain's layers: each has to be the one that the layers before it made."""
    current: MaskOf | None = None
    for layer in layers:
        config = layer["config"]
        name = config.get("name")
        if name in given and given[name] != current:
            where = f"layer '{name}' ({layer.get('class_name')})"
            yield Problem(
                "a mask goes into the layer", where, "the mask of the layers before it", "another mask", MASKED
            )
        source = sources.get(str(name))
        if layer.get("class_name") == "Masking" and source:
            current = MaskOf(source, float(config.get("mask_value", 0.0)), features=True)
        elif layer.get("class_name") == "Embedding" and config.get("mask_zero") and source:
            current = MaskOf(source, 0.0, features=False)


def _mask_of(layer: Config, made: Mapping[str, MaskOf]) -> MaskOf | None:
    if layer.get("class_name") not in MASK_OPERATIONS or not str(layer.get("module")).startswith("keras.src.ops"):
        return None
    inputs, arguments = list(_inputs(layer)), _arguments(layer)
    if len(inputs) != 1:
        return None
    if layer["class_name"] == "NotEqual":
        value = arguments[1] if len(arguments) == 2 else None
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            return None
        return MaskOf(inputs[0], float(value), features=False)
    over, config = made.get(inputs[0][0]), layer["config"]
    last = config.get("axis") in (-1, [-1], (-1,)) and not config.get("keepdims")
    return MaskOf(over.source, over.value, features=True) if over and last else None


def _arguments(layer: Config) -> list[Any]:
    nodes = layer.get("inbound_nodes")
    if not isinstance(nodes, (list, tuple)) or len(nodes) != 1 or not isinstance(nodes[0], Mapping):
        return []
    args = nodes[0].get("args")
    return list(args) if isinstance(args, (list, tuple)) else []


def _inputs(layer: Config) -> Iterator[tuple[str, int]]:
    """The tensors a layer takes, but not as its mask."""
    for argument in _arguments(layer):
        found = history(argument)
        if found:
            yield found
