"""Copies of live recurrent layers of Keras that show every step and state of every cell and direction."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from parity.frameworks import quiet_import
from parity.frameworks.keras.layers import Aligned
from parity.network import Bidirectional, Layer, Network, Recurrent
from parity.network.keras.config import chain_paths

with quiet_import():
    import keras

Live = Any
Tensor = Any

_CELLS = (keras.layers.LSTMCell, keras.layers.GRUCell, keras.layers.SimpleRNNCell)


def is_cell(live: Live) -> bool:
    """Whether a live object takes one step, not a sequence."""
    return not isinstance(live, keras.layers.RNN) and hasattr(live, "state_size") and hasattr(live, "units")


def live_layers(source: Live) -> list[Live]:
    """A model's layers in the order of the data, those of models inside it, too, without its input; a layer by itself."""
    if not isinstance(source, keras.Model):
        return [source]
    found = chain_paths(keras.saving.serialize_keras_object(source))
    together = [[layer_at(source, path) for path in paths_] for paths_ in found]
    return [layers[0] if len(layers) == 1 else keras.Sequential(layers) for layers in together]


def layer_at(model: keras.Model, path: str) -> Live:
    """A layer by the names of the models it stands in and its own."""
    return functools.reduce(lambda found, name: found.get_layer(name), path.split("/"), model)


def paths(live: Live) -> list[Live]:
    """The layers of one direction inside a recurrent layer, or the cell itself; none of any other layer."""
    if isinstance(live, keras.layers.Bidirectional):
        return [live.forward_layer, live.backward_layer]
    if isinstance(live, Aligned):
        return paths(live.layer)
    return [live] if isinstance(live, keras.layers.RNN) or is_cell(live) else []


def cells(path: Live) -> list[Live]:
    """The cells of a layer of one direction, the one that takes the inputs first."""
    if is_cell(path):
        return [path]
    return list(path.cell.cells) if isinstance(path.cell, keras.layers.StackedRNNCells) else [path.cell]


def nested(live: Live, states: Sequence[Sequence[Tensor]]) -> list[Any]:
    """States as a live layer takes them, from one list for each cell of each direction."""
    rest = iter(states)
    given: list[Any] = []
    for path in paths(live):
        for _ in cells(path):
            own = list(next(rest))
            several = not is_cell(path) and isinstance(path.cell, keras.layers.StackedRNNCells)
            given += [own] if several else own
    return given


def by_node(source: Live, network: Network) -> Iterator[tuple[Live, tuple[Layer, ...]]]:
    """Every live layer with the nodes that describe it: several for `RNN` around a list of cells."""
    rest = iter(network.layers)
    for live in live_layers(source):
        found = paths(live)
        count = len(cells(found[0])) if len(found) == 1 else 1
        yield live, tuple(next(rest) for _ in range(count))


def twins(source: Live, network: Network, dtype: str) -> dict[str, list[Live]]:
    """For each recurrent node a layer for each direction, returning its sequence and its states, never stateful."""
    made: dict[str, list[Live]] = {}
    for live, nodes in by_node(source, network):
        found = paths(live)
        if len(found) == 2 and isinstance(nodes[0], Bidirectional):
            for path, stack in zip(found, nodes[0].stacks, strict=True):
                made |= _stack(path, stack, dtype, network.origin)
        elif len(found) == 2 and isinstance(nodes[0], Recurrent):
            made[nodes[0].name] = [_stack(path, nodes, dtype, network.origin)[nodes[0].name][0] for path in found]
        elif found:
            made |= _stack(found[0], nodes, dtype, network.origin)
    return made


def _stack(path: Live, nodes: Sequence[Layer], dtype: str, origin: str) -> dict[str, list[Live]]:
    made = {}
    for cell, node in zip(cells(path), nodes, strict=True):
        assert isinstance(node, Recurrent)
        twin = _twin(path, cell, dtype)
        if origin != "keras":
            # A Bidirectional fills masked steps in its own way, whatever the description says.
            twin.zero_output_for_mask = node.fill == "zero"
        twin.build((None, None, node.input_size))
        twin.cell.set_weights(cell.get_weights())
        made[node.name] = [twin]
    return made


def _twin(path: Live, cell: Live, dtype: str) -> Live:
    shows = {"return_sequences": True, "return_state": True, "stateful": False}
    if not is_cell(path) and type(path) is not keras.layers.RNN:
        return type(path).from_config({**path.get_config(), **_QUIET, **shows, "dtype": dtype})
    config = {**cell.get_config(), "dtype": dtype}
    copy = type(cell).from_config({**config, **(_QUIET if isinstance(cell, _CELLS) else {})})
    options = {} if is_cell(path) else {key: getattr(path, key) for key in _LOOP}
    return keras.layers.RNN(copy, **options, **shows, dtype=dtype)


_QUIET = {"dropout": 0.0, "recurrent_dropout": 0.0}
"""Inert at inference; on some backends they would draw numbers all the same."""

_LOOP = ("go_backwards", "unroll", "zero_output_for_mask")


def other_twin(live: Live, input_size: int, dtype: str) -> Live:
    """A layer that is not recurrent: itself, or a copy that computes in another type."""
    if keras.backend.standardize_dtype(live.compute_dtype) == dtype:
        return live
    copy = type(live).from_config({**live.get_config(), "dtype": dtype})
    copy.build((None, None) if isinstance(live, keras.layers.Embedding) else (None, None, input_size))
    copy.set_weights(live.get_weights())
    return copy


def stateless(source: Live, network: Network) -> Live:
    """A copy that carries no states from call to call, so that the user's own keep theirs; the source itself where it carries none."""
    if not any(layer.stateful for layer in network.recurrent) or is_cell(source):
        return source
    config = _without_states(keras.saving.serialize_keras_object(source))
    copy = keras.saving.deserialize_keras_object(config)
    if not copy.built:
        copy.build((None, None, network.layers[0].input_size))
    copy.set_weights(source.get_weights())
    return copy


def _without_states(config: Any) -> Any:
    if isinstance(config, Mapping):
        changed = {key: _without_states(value) for key, value in config.items()}
        changed |= {"stateful": False} if changed.get("stateful") else {}
        for key in ("batch_shape", "build_input_shape"):
            if isinstance(changed.get(key), (list, tuple)):
                changed[key] = [None, *changed[key][1:]]
        changed.pop("build_config", None)
        return changed
    return [_without_states(item) for item in config] if isinstance(config, (list, tuple)) else config
