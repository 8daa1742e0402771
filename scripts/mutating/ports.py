"""Whole models around a recurrent layer, ported from one framework to another with one mistake: what every kind of them shares."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np

from mutating.cells import Array
from mutating.models import Recipe

BETWEEN = (
    ("keras", "torch"),
    ("torch", "torch"),
    ("keras", "keras"),
    ("torch", "keras"),
    ("keras", "onnxruntime"),
    ("torch", "onnxruntime"),
)
"""Frameworks of the right model and of the port."""

RECORDED, LIVE = "recorded", "live"

FROM_KERAS = tuple(pair for pair in BETWEEN if pair[0] == "keras")
FROM_TORCH = tuple(pair for pair in BETWEEN if pair[0] == "torch")

INTO_TORCH = (("keras", "torch"), ("torch", "torch"))
"""Of a mistake in code that only a module of torch can have."""


@dataclass(frozen=True)
class Plan:
    """What a model is made of.

    Args:
        options: by name.
        arrays: weights by name.
    """

    options: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, Array] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        """An option."""
        return self.options[name]


Change: TypeAlias = Callable[[Plan], Plan]
Build: TypeAlias = "Callable[[Recipe, Any], Any]"


@dataclass(frozen=True)
class Port:
    """One mistake in one kind of model.

    Args:
        name: of the fault that has to be named.
        words: what is done, for the table.
        layer: in which it is, by its name in Keras and in torch; "" where several names are right.
        right: the right plan, a `Plan` or what else `build` takes.
        change: makes the mistake.
        build: the model in a framework.
        engines: frameworks of the right model and of the port, as pairs.
        draw: inputs, from a recipe and a number.
        kinds: of the recurrent layer.
        ways: how the port can be handed over: what it computed, or itself.
    """

    name: str
    words: str
    layer: str
    right: Callable[[Recipe], Any]
    change: Callable[[Any], Any]
    build: Mapping[str, Build]
    draw: Callable[[Recipe, int], Array]
    engines: tuple[tuple[str, str], ...] = BETWEEN
    kinds: tuple[str, ...] = ("lstm", "gru", "rnn")
    ways: tuple[str, ...] = (RECORDED, LIVE)

    @property
    def title(self) -> str:
        """The fault and how it is made."""
        return f"{self.name}: {self.words}"


def option(**changes: Any) -> Change:
    """Other options."""
    return lambda plan: replace(plan, options={**plan.options, **changes})


def array(name: str, change: Callable[[Array], Array]) -> Change:
    """Other numbers in one array, of the same shape."""

    def changed(plan: Plan) -> Plan:
        found = np.ascontiguousarray(change(plan.arrays[name])).astype(np.float32)
        assert found.shape == plan.arrays[name].shape, name
        return replace(plan, arrays={**plan.arrays, name: found})

    return changed


def every(*changes: Change) -> Change:
    """Several changes."""

    def changed(plan: Plan) -> Plan:
        for change in changes:
            plan = change(plan)
        return plan

    return changed


def sequence(recipe: Recipe, salt: int, time: int | None = None) -> Array:
    """Random numbers, (batch, time, features)."""
    random = np.random.default_rng([recipe.seed, salt])
    return random.normal(size=(recipe.batch, time or recipe.time, recipe.features)).astype(np.float32)


def put(parameter: Any, numbers: Array) -> None:
    """Numbers into a parameter or buffer of torch."""
    import torch

    with torch.no_grad():
        parameter.copy_(torch.from_numpy(np.ascontiguousarray(numbers, np.float32)))


__all__ = [
    "BETWEEN",
    "FROM_KERAS",
    "FROM_TORCH",
    "INTO_TORCH",
    "LIVE",
    "RECORDED",
    "Build",
    "Change",
    "Plan",
    "Port",
    "array",
    "every",
    "option",
    "put",
    "sequence",
]
