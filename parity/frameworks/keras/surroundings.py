"""What stands before a layer of Keras and changes what its weights mean elsewhere: a flattened image, a mask."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from parity.frameworks import quiet_import

with quiet_import():
    import keras

RESHAPING = ("Flatten", "Reshape", "Permute", "Transpose")
"""Operations that make features of places, or places of features, in the order in which Keras has the axes: channels last."""
SPATIAL = ("Conv", "Pool", "UpSampling", "Resizing")
"""What the classes that keep an image or a series of channels are called."""


def surroundings(layer: Any) -> dict[str, object]:
    """What the units of a layer have as their `context`; empty where the layer is not part of a graph (subclassed models).

    Example:
        >>> x = keras.Input((4, 4, 2))
        >>> dense = keras.layers.Dense(3)
        >>> _ = dense(keras.layers.Flatten()(keras.layers.Conv2D(5, 3)(x)))
        >>> surroundings(dense)
        {'flattened': (2, 2, 5)}
    """
    found: dict[str, object] = {}
    shape: object = None
    near = True
    for operation, inputs in _before(layer):
        title = type(operation).__name__
        if title == "Masking":
            found.setdefault("masked", operation.name)
        if near and shape is None and title in RESHAPING:
            shape = tuple(inputs[0].shape[1:]) if inputs else "?"
        if near and shape is None and isinstance(operation, keras.Model) and flattens(operation):
            found["flattened"] = "?"
        wide = isinstance(shape, tuple) and len(shape) > 2
        if near and shape is not None and (wide or any(word in title for word in SPATIAL)):
            found["flattened"] = shape
        mixing = (keras.layers.RNN, keras.layers.Bidirectional, keras.layers.Dense, keras.layers.Embedding)
        near = near and not isinstance(operation, mixing)
    return found


def flattens(model: Any) -> bool:
    """Whether a model has a layer that reshapes, and one that keeps channels."""
    titles = [type(inner).__name__ for inner in model._flatten_layers()]
    reshaping = any(title in RESHAPING for title in titles)
    return reshaping and any(word in title for title in titles for word in SPATIAL)


def _before(layer: Any) -> Iterator[tuple[Any, list[Any]]]:
    """The operations before a layer, nearest first, along the first input of each."""
    nodes = list(getattr(layer, "_inbound_nodes", ()))[:1]
    while nodes:
        parents = nodes[0].parent_nodes[:1]
        for node in parents:
            yield node.operation, list(node.input_tensors)
        nodes = parents
