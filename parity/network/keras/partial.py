"""What can be read of a Keras model that cannot be converted as a whole. Imports no framework."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from parity.errors import Problem
from parity.network.graph import Layer
from parity.network.keras.chain import class_name_of, name_of
from parity.network.keras.known import weight_names
from parity.network.keras.options import Config, plain, shown
from parity.network.keras.plans import DropoutPlan, MaskingPlan, Plan
from parity.network.keras.weights import Weighted, features, with_weights
from parity.network.opaque import Opaque

_SETTINGS = ("name", "trainable", "dtype", "batch_input_shape", "activity_regularizer", "seed")
_TRAINING = ("initializer", "regularizer", "constraint", "init")


@dataclass(frozen=True)
class Part:
    """A layer of the model.

    Args:
        layer: its configuration.
        plan: what it says; None where it is not kept exactly.
        path: to its weights.
    """

    layer: Config
    plan: Plan | None
    path: str


def partial_layers(
    parts: Sequence[Part], arrays: Weighted, sources: Mapping[str, str], inputs: Mapping[str, int]
) -> tuple[tuple[Layer, ...], tuple[Opaque, ...], dict[str, str], list[Problem]]:
    """Every layer that can be read, in the order of the configuration, and the others described.

    Args:
        parts: the model's layers but its inputs.
        arrays: their weights. A layer shared by several calls is read at the first.
        sources: for each layer's name, the layer whose values it takes, where it takes those of one.
        inputs: features of the model's inputs where they are known, by name.

    Returns:
        The layers, the others, what `Network.details` says of the weights, and what is wrong with those of single layers.

    Raises:
        ShapeError: weights that contradict the configuration.
    """
    parts = list({part.path: part for part in reversed(parts)}.values())[::-1]
    problems: list[Problem] = []
    readable = _sized(parts, arrays, sources, inputs, problems)
    nodes, details = with_weights(
        [part.plan for part, _ in readable if part.plan],
        [arrays(part.path) for part, _ in readable],
        [size for _, size in readable],
    )
    found = {part.path: layers for (part, _), layers in zip(readable, nodes, strict=True)}
    opaque, place = [], 0
    for part in parts:
        if part.path in found:
            place += len(found[part.path])
        else:
            opaque.append(replace(described(part, arrays), place=place))
    return tuple(layer for part in parts for layer in found.get(part.path, ())), tuple(opaque), details, problems


def _sized(
    parts: Sequence[Part],
    arrays: Weighted,
    sources: Mapping[str, str],
    inputs: Mapping[str, int],
    problems: list[Problem],
) -> list[tuple[Part, int]]:
    """The layers that are read and the features each takes: those of its own kernel, else of the layer before it."""
    gives = dict(inputs)
    readable: list[tuple[Part, int]] = []
    for part in parts:
        name, source = name_of(part.layer), sources.get(name_of(part.layer), "")
        before = gives.get(source)
        if part.plan is None:
            continue
        weightless = isinstance(part.plan, (MaskingPlan, DropoutPlan))
        weights = () if weightless else arrays(part.path)
        if not weights and not weightless:
            remedy = "give the file with the weights"
            problems.append(
                Problem("the weights of the layer are not there", part.plan.where, "its weights", "none", remedy)
            )
            continue
        size = features(part.plan, weights) if weights else before
        if size is None:
            continue
        readable.append((part, size))
        gives[name] = part.plan.output_size(size)
    return readable


def described(part: Part, arrays: Weighted) -> Opaque:
    """A layer that is not computed: its class, its options and its tensors by name."""
    weights = arrays(part.path)
    if isinstance(weights, Mapping):
        tensors = dict(weights)
    else:
        names = weight_names(part.layer)
        known = (
            names
            if names is not None and len(names) == len(weights)
            else [str(number) for number in range(len(weights))]
        )
        tensors = dict(zip(known, weights, strict=True))
    config = part.layer.get("config")
    facts = _facts(config) if isinstance(config, Mapping) else {}
    return Opaque(name_of(part.layer), class_name_of(part.layer), tensors, facts)


def _facts(config: Config) -> dict[str, object]:
    """Its options but those of training and those that every layer has."""
    facts: dict[str, object] = {}
    for key, value in config.items():
        if key in _SETTINGS or key.endswith(_TRAINING) or value is None:
            continue
        said = plain(value)
        simple = isinstance(said, (bool, int, float, str)) or (
            isinstance(said, (list, tuple)) and all(isinstance(item, (bool, int, float, str)) for item in said)
        )
        facts[key] = said if simple and len(shown(said)) <= 80 else shown(said)
    return facts
