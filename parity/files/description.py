"""A network as named tensors and one line of JSON, and back: what `.safetensors`, `.pt` and `.npz` files hold. Imports no framework.

The tensors have torch's names and layout, so that torch opens them: those of one `nn.LSTM`, `GRU` or `RNN` where one module says the
network, else `<layer>.weight_ih_l0`, `<layer>.weight`, ... The JSON says the rest: order, options, outputs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import numpy as np

from parity.cell import plain_cell
from parity.deferred import (
    BLOCK_BYTES,
    LARGE_BYTES,
    Array,
    Blocks,
    Deferred,
    Deferring,
    Stored,
    as_it_stands,
    blocks_of,
)
from parity.errors import FormatError
from parity.files.state_dict import SUFFIXES
from parity.files.stored import numbers, widened
from parity.forms import obstacles
from parity.layouts import CANONICAL_AXES, LAYOUTS, Kind
from parity.network import Dense, Dropout, Embedding, Network, Recurrent
from parity.recurrent import DIRECTIONS, packed, unpack_tensor
from parity.serialized import from_data, to_data

_VERSION = 1

_COMPOSED = "composed_"
"""Begins the names of tensors whose layer no module of torch computes, so that nobody takes them for a module's own."""

_KERNEL, _AS_IS = "transposed", "as is"
"""How a tensor holds an array; else the kind of the recurrent layer, whose layout says it."""


def tensors_of(network: Network) -> dict[str, Blocks]:
    """The tensors of a network, named and laid out as torch does.

    Example:
        >>> from parity.recurrent import RecurrentSpec, Weights
        >>> weights = Weights(np.zeros((3, 5, 2)), np.zeros((3, 5, 5)))
        >>> network = Network("gru", (Recurrent("gru", RecurrentSpec("gru", 2, 5), (weights,)),))
        >>> {name: blocks.shape for name, blocks in tensors_of(network).items()}
        {'weight_ih_l0': (15, 2), 'weight_hh_l0': (15, 5)}
    """
    return {one.name: one.blocks for one in _named(network)}


def describe(network: Network) -> str:
    """What the tensors do not say, as JSON: with them, `network_of` gives the same network.

    Example:
        >>> from parity.recurrent import RecurrentSpec, Weights
        >>> weights = Weights(np.ones((3, 5, 2)), np.ones((3, 5, 5)))
        >>> network = Network("gru", (Recurrent("gru", RecurrentSpec("gru", 2, 5), (weights,), reverse=True),))
        >>> tensors = {name: blocks.whole() for name, blocks in tensors_of(network).items()}
        >>> network_of(describe(network), tensors, "a file").recurrent[0].reverse
        True
    """
    data, arrays = to_data(network)
    names = {id(held): name for name, held in arrays.held.items()}
    places: dict[str, tuple[str, str, str]] = {}
    zeros: list[str] = []
    copies: list[tuple[str, str]] = []
    for one in _named(network):
        if one.held is None:
            zeros.append(one.name)
        elif names[id(one.held)] in places:  # tied weights
            copies.append((one.name, places[names[id(one.held)]][0]))
        else:
            places[names[id(one.held)]] = one.name, one.how, one.member
    content = {"version": _VERSION, "network": data, "arrays": places, "zeros": zeros, "copies": copies}
    return json.dumps(content, separators=(",", ":"))


def network_of(description: str, tensors: Mapping[str, Stored], where: str) -> Network:
    """The network that was described; large tensors stay in their file.

    Args:
        description: what `describe` gave.
        tensors: all tensors of the file.
        where: the file, for messages.

    Raises:
        FormatError: a description that does not fit the tensors, or none of parity's.
    """
    try:
        content = json.loads(description)
        version = content["version"]
        places = {str(name): tuple(map(str, place)) for name, place in content["arrays"].items()}
        arrays = {name: _array(tensors, *place) for name, place in places.items()}
        zeros, copies = list(map(str, content["zeros"])), [(str(one), str(other)) for one, other in content["copies"]]
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        what = "parity's description of the network cannot be read"
        raise _unfit(where, what, f"{type(error).__name__}: {error}"[:200]) from error
    if version != _VERSION:
        raise _unfit(where, "another version of parity described the network", str(version)[:20], str(_VERSION))
    changed = [f"'{name[:80]}' is not zero" for name in zeros if _differs(tensors, name)]
    changed += [f"'{one[:80]}' is not '{other[:80]}'" for one, other in copies if _differs(tensors, one, other)]
    used = {*(place[0] for place in places.values()), *zeros, *(one for one, _ in copies)}
    changed += [f"'{name[:80]}' is new" for name in tensors if name not in used]
    if changed:
        raise _unfit(where, "its tensors are not those that parity described", ", ".join(changed[:8]))
    network = from_data(content.get("network"), arrays)
    _check_shapes(network, where)
    return network


@dataclass(frozen=True)
class _Named:
    """One tensor of a file: its numbers, and the canonical array in it; None where it holds zeros because torch has a bias there."""

    name: str
    blocks: Blocks
    how: str
    member: str
    held: Array | Deferred | None


def _named(network: Network) -> Iterator[_Named]:
    """Every tensor of the network."""
    single = is_one_module(network)
    for depth, layer in enumerate(network.recurrent if single else _leaves(network)):
        if isinstance(layer, Dense):
            yield _Named(f"{layer.name}.weight", _transposed(layer), _KERNEL, "kernel", layer.held("kernel"))
            if layer.bias is not None:
                yield _as_is(layer, "bias", f"{layer.name}.bias")
        elif isinstance(layer, Embedding):
            yield _as_is(layer, "table", f"{layer.name}.weight")
        elif isinstance(layer, Recurrent):
            prefix, number = ("", depth) if single else (f"{layer.name}.", 0)
            yield from _recurrent(layer, prefix, number)


def _as_is(owner: Deferring, member: str, name: str) -> _Named:
    return _Named(name, blocks_of(owner.held(member)), _AS_IS, member, owner.held(member))


def _leaves(network: Network) -> Iterator[Recurrent | Dense | Embedding]:
    """The layers with weights, those inside a `Bidirectional` one by one."""
    for layer in network.layers:
        if isinstance(layer, (Dense, Embedding, Recurrent)):
            yield layer
        else:
            yield from getattr(layer, "recurrent", ())


def _recurrent(layer: Recurrent, prefix: str, number: int) -> Iterator[_Named]:
    layout = LAYOUTS["torch", layer.spec.kind]
    number_of = "" if layer.single_step else f"_l{number}"
    if any(obstacles(layer, "torch")):
        prefix += _COMPOSED
    for position, own in enumerate(layer.weights):
        suffix = "" if layer.single_step else SUFFIXES[DIRECTIONS[position]]
        lacks_bias = layer.has_bias and own.held("bias_input") is None
        filled = own.with_held(bias_input=np.zeros(layer.spec.shape("bias_input"), own.dtype)) if lacks_bias else own
        for name, blocks in packed(layout, layer.spec, [filled]).items():
            (member,) = next(tensor.members for tensor in layout.tensors if tensor.name == name)
            yield _Named(f"{prefix}{name}{number_of}{suffix}", blocks, layer.spec.kind, member, own.held(member))
        if own.held("peepholes") is not None:
            yield _as_is(own, "peepholes", f"{prefix}peepholes{number_of}{suffix}")


def _transposed(layer: Dense) -> Blocks:
    held = layer.held("kernel")

    def blocks() -> Iterator[Array]:
        kernel = layer.kernel
        columns = max(1, BLOCK_BYTES // max(1, kernel.shape[0] * kernel.itemsize))
        for start in range(0, kernel.shape[1], columns):
            yield np.ascontiguousarray(kernel[:, start : start + columns].T)

    return Blocks(tuple(held.shape[::-1]), held.dtype, blocks)


def is_one_module(network: Network) -> bool:
    """Whether one nn.LSTM, nn.GRU, nn.RNN or cell of them has these weights: then its own names are best.

    Example:
        >>> from parity.recurrent import RecurrentSpec, Weights
        >>> weights = Weights(np.ones((3, 5, 2)), np.ones((3, 5, 5)))
        >>> is_one_module(Network("gru", (Recurrent("gru", RecurrentSpec("gru", 2, 5), (weights,)),)))
        True
    """
    layers = network.recurrent
    if any(not isinstance(layer, (Recurrent, Dropout)) for layer in network.layers):
        return False
    facts = {
        (layer.spec.kind, layer.spec.hidden_size, layer.spec.projection_size, layer.spec.directions, layer.has_bias)
        for layer in layers
    }
    plain = all(
        layer.cells == (plain_cell(layer.spec.kind),) * len(layer.cells) for layer in layers if layer.spec.kind != "rnn"
    )
    native = not any(obstacles(layer, "torch", network.masks_itself) for layer in layers)
    sizes = all(after.input_size == before.output_size for before, after in pairwise(layers))
    return len(facts) == 1 and plain and native and sizes and (len(layers) == 1 or not layers[0].single_step)


def _array(tensors: Mapping[str, Stored], name: str, how: str, member: str) -> Array | Deferred:
    """One canonical array; a large one stays in its file."""
    tensor = widened(tensors[name])
    if how not in (_AS_IS, _KERNEL):
        return unpack_tensor(LAYOUTS["torch", cast("Kind", how)], member, tensor)
    found = as_it_is = as_it_stands(tensor, f"tensor '{name[:80]}', index")
    if how == _KERNEL:
        found = Deferred(found.shape[::-1], found.dtype, lambda: np.ascontiguousarray(as_it_is.read().T))
    return found if found.nbytes >= LARGE_BYTES else found.read()


def _differs(tensors: Mapping[str, Stored], name: str, other: str | None = None) -> bool:
    """Whether a tensor is not what it was: the same as another, or zero."""
    if name not in tensors:
        return True
    array = numbers(tensors[name])
    return bool(array.any()) if other is None else not np.array_equal(array, numbers(tensors[other]))


def _check_shapes(network: Network, where: str) -> None:
    """A description from outside may put any tensor anywhere."""
    for layer in _leaves(network):
        if isinstance(layer, Recurrent):
            expected = {
                f"{way}.{member}": layer.spec.shape(member)
                for way in layer.spec.directions
                for member in CANONICAL_AXES
            }
            if len(layer.weights) != len(layer.spec.directions) or len(layer.cells) != len(layer.spec.directions):
                raise _unfit(
                    where,
                    f"layer '{layer.name}' has not one set of weights for each direction",
                    str(len(layer.weights)),
                )
        elif isinstance(layer, Dense):
            expected = {"kernel": (layer.input_size, layer.output_size), "bias": (layer.output_size,)}
        else:
            expected = {"table": (layer.input_size, layer.output_size)}
        for name, shape in layer.arrays.shapes.items():
            if shape != expected[name]:
                raise _unfit(
                    where, f"'{name}' of layer '{layer.name}' has another shape", str(shape), str(expected[name])
                )


def _unfit(where: str, what: str, got: str, expected: str = "what parity wrote") -> FormatError:
    remedy = (
        "convert the source anew; or save the tensors without parity's description, to have them read by their names"
    )
    return FormatError(what, where, expected, got, remedy)


__all__ = ["describe", "is_one_module", "network_of", "tensors_of"]
