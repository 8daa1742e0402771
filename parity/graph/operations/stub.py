"""A layer that parity does not know, left for the user to fill in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from parity.deferred import Array, Arrays
from parity.errors import REGISTER, UnsupportedError
from parity.graph.operations.operation import Shape
from parity.reference import Rounding


@dataclass(frozen=True)
class Stated:
    """What the source says of a value that a stub gives.

    Args:
        shape: lengths of its axes; None for one that differs from call to call.
        dtype: "float32", "int64" or "bool".
    """

    shape: tuple[int | None, ...]
    dtype: str = "float32"


@dataclass(frozen=True, eq=False)
class Stub:
    """A layer whose function is not known here: its code raises until somebody writes it.

    Args:
        name: unique among the operations of a graph.
        class_name: its class, as its framework calls it.
        options: its configuration, for people.
        weights: its weights by the framework's own names.
        outputs: how many values it gives.
        stated: what the source says of each of them, None for nothing; empty where it says nothing of any.
        masked: whether the last that it takes is the mask that goes with the first, True where a step is valid.
    """

    name: str
    class_name: str
    options: Mapping[str, object] = field(default_factory=dict)
    weights: Mapping[str, Array] = field(default_factory=dict)
    outputs: int = 1
    stated: tuple[Stated | None, ...] = ()
    masked: bool = False

    @property
    def arrays(self) -> Arrays:
        """Its weights by name."""
        return Arrays(dict(self.weights))

    def stated_of(self, index: int) -> Stated | None:
        """What the source says of one of the values that it gives.

        Example:
            >>> Stub("mine", "Mine", stated=(Stated((None, 4)),)).stated_of(0).shape
            (None, 4)
        """
        return self.stated[index] if index < len(self.stated) else None

    @property
    def facts(self) -> dict[str, object]:
        """Its class and its options."""
        return {"class": self.class_name, **self.options}

    def shapes(self, *shapes: Shape | None) -> tuple[Shape, ...]:
        """Nobody knows."""
        raise self._unknown()

    def compute(self, *values: Any, rounding: Rounding) -> tuple[Any, ...]:
        """Nobody knows."""
        raise self._unknown()

    def _unknown(self) -> UnsupportedError:
        remedy = f"fill it in where the written code says so; or {REGISTER}"
        return UnsupportedError(
            "what this layer computes is not known", self.name, "a layer that parity knows", self.class_name, remedy
        )


__all__ = ["Stated", "Stub"]
