"""A layer that is described, not computed: one that parity does not convert, in a model that is read as far as it goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, eq=False)
class Opaque:
    """A layer, or a group of tensors, whose function is not known here.

    Args:
        name: the user's name for it.
        class_name: its class, as its framework calls it; "" where a file holds tensors alone.
        tensors: by the framework's own names, not read yet: anything with a shape, a dtype and rows.
        facts: its options, for people.
        place: how many of the network's layers stand before it.

    Example:
        >>> Opaque("conv1", "Conv1D", facts={"filters": 8}).shapes
        {}
    """

    name: str
    class_name: str = ""
    tensors: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, object] = field(default_factory=dict)
    place: int = 0

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every tensor, none of them read."""
        return {name: tuple(tensor.shape) for name, tensor in self.tensors.items()}
