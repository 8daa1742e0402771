"""Masks as values of the graph, each made once: Keras makes the same one again for every layer that takes it.

Sources: Keras 3 `Embedding.compute_mask`, `Masking.compute_mask`, `Merge.compute_mask`, `Concatenate.compute_mask`; Keras 2.15
`_Merge.compute_mask`, which takes what is valid in all inputs, not in any.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from parity.graph.builder import Builder
from parity.graph.graph import Wire


@dataclass(eq=False)
class MaskMaker:
    """Masks of one model.

    Args:
        build: the graph in the making.
        spread: for values that are masks repeated along a new last axis, one after the other there: those masks. None stands for one that
            is true everywhere; a value without any is false everywhere.
        widened: for masks with a new last axis: the masks.
    """

    build: Builder
    spread: dict[Wire, list[Wire | None]] = field(default_factory=dict)
    widened: dict[Wire, Wire] = field(default_factory=dict)
    _made: dict[tuple[Any, ...], Wire] = field(default_factory=dict)

    def differs(self, x: Wire, value: float, name: str | None = None) -> Wire:
        """Where x is not a number."""
        return self.once(("differs", x, value), lambda: self.build.elementwise("not_equal", x, value, name=name))

    def any_feature(self, x: Wire, name: str | None = None) -> Wire | None:
        """Where anything on the last axis of x is true; None for everywhere."""
        if self.spread.get(x):
            return self.any_of(self.spread[x], name)
        return self.once(("any", x), lambda: self.build.reduce("any", x, -1, name=name))

    def any_of(self, masks: Sequence[Wire | None], name: str | None = None) -> Wire | None:
        """Where any of several masks is true; None, which is true everywhere, makes all of it so."""
        return self._merged("logical_or", masks, name)

    def all_of(self, masks: Sequence[Wire | None], name: str | None = None) -> Wire | None:
        """Where all of several masks are true, None being true everywhere."""
        present = [mask for mask in masks if mask is not None]
        return self._merged("logical_and", present, name) if present else None

    def _merged(self, function: str, masks: Sequence[Wire | None], name: str | None) -> Wire | None:
        present = list(dict.fromkeys(mask for mask in masks if mask is not None))
        if len(present) == 1 and None not in masks:
            return present[0]
        if None in masks:
            return None
        return self.once((function, *sorted(present)), lambda: self.build.elementwise(function, *present, name=name))

    def once(self, key: tuple[Any, ...], make: Callable[[], Wire]) -> Wire:
        """A value that is made at the first call with a key."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]


__all__ = ["MaskMaker"]
