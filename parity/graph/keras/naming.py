"""A builder whose nodes are named after the layer that they are part of, so that no layer loses its own name to one of them."""

from __future__ import annotations

from parity.graph.builder import Builder


class NamingBuilder(Builder):
    """A graph in the making, layer by layer.

    Example:
        >>> build = NamingBuilder("model")
        >>> build.inside = "attention"
        >>> str(build.softmax(build.input("x", ("batch", 3))))
        'attention_softmax'
    """

    inside: str = ""
    """The layer that is being read."""

    def _named(self, name: str | None, usual: str) -> str:
        return super()._named(name or (f"{self.inside}_{usual}" if self.inside else usual), usual)


__all__ = ["NamingBuilder"]
