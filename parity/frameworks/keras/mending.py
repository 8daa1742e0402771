"""Keras: copies of live layers and models, and the expressions by which code reaches their recurrent weights."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np

from parity.errors import ParityError
from parity.frameworks import quiet_import
from parity.frameworks.keras.tensors import units
from parity.transferring.units import Unit

with quiet_import():
    import keras


def copied(live: keras.Layer) -> keras.Layer:
    """A layer or model of its own with the same numbers.

    Raises:
        ParityError: one that Keras cannot copy.
    """
    try:
        made = copy.deepcopy(live) if isinstance(live, keras.Model) else _layer(live)
        same = [np.array_equal(one, two) for one, two in zip(made.get_weights(), live.get_weights(), strict=True)]
        if all(same):
            return made
        got = "other weights"
    except (TypeError, ValueError, RuntimeError, NotImplementedError, AttributeError) as error:
        got = str(error).strip().split("\n")[0]
    remedy = "run the lines of diagnosis.repair on the model itself"
    raise ParityError("the model cannot be copied", type(live).__name__, "a model that Keras saves", got, remedy)


def _layer(live: keras.Layer) -> keras.Layer:
    made = type(live).from_config(live.get_config())
    made.build_from_config(live.get_build_config() or {})
    made.set_weights(live.get_weights())
    return made


def addressed(live: keras.Layer, root: str = "suspect") -> list[tuple[Unit, dict[str, str]]]:
    """Every recurrent layer with the expressions of its variables, by their names.

    Example:
        >>> layer = keras.layers.Bidirectional(keras.layers.GRU(5), name="both"); layer.build((None, None, 3))
        >>> (unit, variables), = addressed(layer)
        >>> variables["both/backward/bias"]
        'suspect.backward_layer.cell.bias'
    """
    known = {
        id(variable): words for words, layer in _reached(live, root) for words, variable in _variables(words, layer)
    }
    found = [unit for unit in units(live) if unit.spec is not None]
    return [
        (unit, {leaf.name: known[leaf.handle.key] for leaf in unit.leaves if leaf.handle.key in known})
        for unit in found
    ]


def _variables(words: str, layer: keras.Layer) -> Iterator[tuple[str, Any]]:
    for name, value in vars(layer).items():
        if isinstance(value, keras.Variable) and not name.startswith("_"):
            yield f"{words}.{name}", value


def _reached(layer: keras.Layer, words: str) -> Iterator[tuple[str, keras.Layer]]:
    """Every layer inside one, with the expression that leads to it."""
    yield words, layer
    if isinstance(layer, keras.Model):
        for inner in layer.layers:
            yield from _reached(inner, f"{words}.get_layer({inner.name!r})")
        return
    for attribute in ("forward_layer", "backward_layer", "layer", "cell"):
        inner = vars(layer).get(attribute)
        if isinstance(inner, keras.Layer):
            yield from _reached(inner, f"{words}.{attribute}")
    cells = vars(layer).get("cells")
    if isinstance(cells, (list, tuple)):
        for number, cell in enumerate(cells):
            yield from _reached(cell, f"{words}.cells[{number}]")


__all__ = ["addressed", "copied"]
