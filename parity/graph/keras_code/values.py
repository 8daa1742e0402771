"""What the code of a module is put together from: values under a variable, and layers to be written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from parity.deferred import Blocks
from parity.graph.keras_code.text import Group, call


@dataclass(frozen=True)
class Value:
    """A value in the code.

    Args:
        text: its variable, or a constant.
        calls: the call that gives it; none for a constant.
        masked: whether Keras hands a mask on with it.
    """

    text: str
    calls: tuple[int, ...] = ()
    masked: bool = False

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Made:
    """A layer to be written.

    Args:
        class_name: of it.
        arguments: of its constructor.
        weights: its arrays in Keras's order, by the path of what holds them below the layer's group.
        own: whether the class stands in the module itself.
        masks: whether a mask that comes with its input does no harm, and goes on to its output.
    """

    class_name: str
    arguments: tuple[str | Group, ...] = ()
    weights: Mapping[str, Sequence[Blocks]] = field(default_factory=dict)
    own: bool = False
    masks: bool = False

    @property
    def group(self) -> Group:
        """Its construction."""
        return call(self.class_name if self.own else f"layers.{self.class_name}", *self.arguments)


__all__ = ["Made", "Value"]
