"""The framework-neutral description of a model: a chain of layers, one file per layer family."""

from parity.network.dense import Dense
from parity.network.embedding import Embedding
from parity.network.graph import Layer, Network, Output, layer_facts
from parity.network.recurrent import Recurrent

__all__ = ["Dense", "Embedding", "Layer", "Network", "Output", "Recurrent", "layer_facts"]
