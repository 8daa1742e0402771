"""Rewrites a graph so that it says the same with fewer nodes, or in the layout in which a framework keeps channels."""

from parity.graph.simplify.attention import with_attention
from parity.graph.simplify.merging import simplified
from parity.graph.simplify.relayout import Relaid, channels_first, channels_last, relaid
from parity.graph.simplify.spelling import spelled_out

__all__ = ["Relaid", "channels_first", "channels_last", "relaid", "simplified", "spelled_out", "with_attention"]
