"""What each operator of torch is in a graph, one file per family; importing them fills `operator_call.HANDLERS`."""

from parity.frameworks.torch.whole.operators import (
    activations,
    arithmetic,
    attention,
    creation,
    indexing,
    layers,
    packed,
    pooling,
    products,
    recurrent,
    reductions,
    shaping,
    splitting,
)

__all__ = [
    "activations", "arithmetic", "attention", "creation", "indexing", "layers", "packed", "pooling", "products", "recurrent",
    "reductions", "shaping", "splitting",
]  # fmt: skip
