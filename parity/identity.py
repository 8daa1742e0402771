"""Whether two networks are the same one: the same layers, options and outputs, and the same weights bit for bit."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain

import numpy as np

from parity.deferred import Array, Deferred, digest
from parity.network import Bidirectional, Layer, Network, Recurrent
from parity.recurrent import merge_biases
from parity.serialized import to_data


def identical(left: Network, right: Network) -> bool:
    """Whether two networks are the same, whatever their layers are called and wherever they come from: then they compute the same.

    Two biases that a cell only ever adds count as their sum, in float64 and rounded once. Large weights are read one at a time.

    Example:
        >>> import numpy as np
        >>> from parity.recurrent import RecurrentSpec, Weights
        >>> def network(name, bias):
        ...     weights = Weights(np.ones((4, 5, 2)), np.ones((4, 5, 5)), np.full((4, 5), bias))
        ...     return Network(name, (Recurrent(name, RecurrentSpec("lstm", 2, 5), (weights,)),))
        >>> identical(network("a", 1.0), network("b", 1.0)), identical(network("a", 1.0), network("a", 2.0))
        (True, False)
    """
    (left_data, left_arrays), (right_data, right_arrays) = (to_data(_plain(network)) for network in (left, right))
    return bool(left_data == right_data) and all(
        _same(held, right_arrays.held[name]) for name, held in left_arrays.held.items()
    )


def same_weights(left: Network, right: Network) -> bool:
    """Whether the layers with weights of two networks have the same ones bit for bit, in the same order, however they are connected.

    For files of weights alone, which do not say the network.

    Example:
        >>> import numpy as np
        >>> from parity.recurrent import RecurrentSpec, Weights
        >>> weights = Weights(np.ones((4, 5, 2)), np.ones((4, 5, 5)))
        >>> layer = Recurrent("a", RecurrentSpec("lstm", 2, 5), (weights,))
        >>> same_weights(Network("n", (layer,)), Network("n", (replace(layer, reverse=True),)))
        True
    """
    ours, theirs = (_weights_of(network) for network in (left, right))
    return (
        not right.opaque
        and [len(arrays) for arrays in ours] == [len(arrays) for arrays in theirs]
        and all(map(_same, chain(*ours), chain(*theirs)))
    )


def weights_digest(network: Network) -> str | None:
    """XXH3 of all weights of a network, shapes and numbers in their canonical order, as 32 hexadecimal digits; None where none are known.

    For telling later whether a source is still the same one; see `parity.deferred.digest`.

    Example:
        >>> import numpy as np
        >>> from parity.recurrent import RecurrentSpec, Weights
        >>> def network(number):
        ...     weights = Weights(np.full((1, 5, 2), number), np.ones((1, 5, 5)))
        ...     return Network("n", (Recurrent("n", RecurrentSpec("rnn", 2, 5), (weights,)),))
        >>> weights_digest(network(1.0)) == weights_digest(network(1.0)), weights_digest(network(1.0)) == weights_digest(network(2.0))
        (True, False)
        >>> len(weights_digest(network(1.0)))
        32
    """
    if network.graph is not None:
        held = [array for node in network.graph.nodes for array in node.operation.arrays.held.values()]
    else:
        held = [*chain(*_weights_of(network))]
    if not held:
        return None
    parts = (f"{tuple(array.shape)} {array.dtype}".encode() + _digest(array) for array in held)
    return digest(np.frombuffer(b"".join(parts), np.uint8)).hex()


def _weights_of(network: Network) -> list[list[Array | Deferred]]:
    """The arrays of every layer that has any."""
    names = dict.fromkeys((layer.name for layer in (*network.layers, *network.recurrent)), "")
    found = [list(_plain_layer(layer, names).arrays.held.values()) for layer in network.layers]
    return [arrays for arrays in found if arrays]


def _plain(network: Network) -> Network:
    """The network without what does not matter: names, origin, and how two biases share their sum."""
    every = [*network.layers, *network.recurrent]
    names = {layer.name: str(position) for position, layer in enumerate(every)}
    outputs = tuple(replace(output, layer=names[output.layer]) for output in network.outputs)
    layers = tuple(_plain_layer(layer, names) for layer in network.layers)
    return replace(network, name="", layers=layers, outputs=outputs, origin="", details={})


def _plain_layer(layer: Layer, names: dict[str, str]) -> Layer:
    if isinstance(layer, Bidirectional):
        forward, backward = (tuple(_plain_recurrent(one, names) for one in stack) for stack in layer.stacks)
        return replace(layer, name=names[layer.name], forward=forward, backward=backward)
    if isinstance(layer, Recurrent):
        return _plain_recurrent(layer, names)
    return replace(layer, name=names[layer.name])


def _plain_recurrent(layer: Recurrent, names: dict[str, str]) -> Recurrent:
    weights = layer.weights
    if not (layer.spec.kind == "gru" and any(cell.reset_after for cell in layer.cells)):
        weights = tuple(one.with_held(bias_input=merge_biases(one), bias_recurrent=None) for one in weights)
    return replace(layer, name=names[layer.name], weights=weights)


def _same(left: Array | Deferred, right: Array | Deferred) -> bool:
    if (tuple(left.shape), left.dtype) != (tuple(right.shape), right.dtype):
        return False
    if isinstance(left, np.ndarray) and isinstance(right, np.ndarray):
        return np.ascontiguousarray(left).tobytes() == np.ascontiguousarray(right).tobytes()
    return _digest(left) == _digest(right)


def _digest(held: Array | Deferred) -> bytes:
    """Of one array at a time, so that no two large ones are in memory."""
    return held.digest if isinstance(held, Deferred) else digest(held)
