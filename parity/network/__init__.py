"""The framework-neutral description of a model: a chain of layers, one file per layer family."""

from parity.network.bidirectional import Bidirectional
from parity.network.dense import Dense
from parity.network.dropout import Dropout
from parity.network.embedding import Embedding
from parity.network.graph import Layer, Network, Output, layer_facts
from parity.network.masking import Masking
from parity.network.opaque import Opaque
from parity.network.recurrent import Recurrent

__all__ = [
    "Bidirectional",
    "Dense",
    "Dropout",
    "Embedding",
    "Layer",
    "Masking",
    "Network",
    "Opaque",
    "Output",
    "Recurrent",
    "layer_facts",
]
