"""Keras: builds a configuration and calls it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from grid.cases import BATCH, FEATURES, LABELS, OTHER_UNITS, UNITS, VOCABULARY, Config
from grid.live import CALM_GAIN, GAIN, Array, Live, Shown, Values, given_inputs, given_mask, given_tokens, uniform

_OF_THE_CALL = [
    "layer",
    "states",
    "mask",
    "option",
    "merge_mode",
    "body",
    "front",
    "padding",
    "cells",
    "forward",
    "backward",
]
_OPTIONS = {"dropout": 0.3, "recurrent_dropout": 0.2, "implementation": 1, "trainable": False}
_BLANK = {"kernel_initializer": "zeros", "recurrent_initializer": "zeros"}
"""What Keras draws itself is replaced anyway, and to draw an orthogonal matrix takes as long as to run the layer."""
_TAME = {"tanh", "sigmoid", "hard_sigmoid", "softsign", "relu6", "hard_tanh", "log_sigmoid"}


def live(config: Config) -> Live:
    """Build a configuration with random weights, and let Keras compute it."""
    random = np.random.default_rng(config.seed)
    if config.family == "model":
        return _model(config, random)
    return _cell(config, random) if config.family == "cell" else _layer(config, random)


def computed(layer: keras.Layer, x: Array, call: Mapping[str, Any]) -> list[Array]:
    """What a layer or model returns, called as it is, eagerly: nothing is traced, so nothing is traced again."""
    given = keras.tree.map_structure(keras.ops.convert_to_tensor, dict(call))
    return [np.asarray(value) for value in keras.tree.flatten(layer(keras.ops.convert_to_tensor(x), **given))]


def predicted(layer: keras.Layer, x: Array, call: Mapping[str, Any]) -> list[Array]:
    """The same in the usual way, as a functional model and its `predict`: what scripts/bench.py compares with."""

    def entry(array: Array) -> Any:
        return keras.Input(array.shape[1:], batch_size=len(array), dtype=str(array.dtype))

    inputs = keras.tree.map_structure(entry, {"x": x, **call})
    features, *_ = keras.tree.flatten(inputs.pop("x"))
    outputs = keras.tree.flatten(layer(features, **inputs))
    model = keras.Model([features, *keras.tree.flatten(inputs)], outputs)
    found = model.predict([x, *keras.tree.flatten(dict(call))], batch_size=len(x), verbose=0)
    return [np.asarray(value) for value in keras.tree.flatten(found)]


def _options(config: Config) -> dict[str, Any]:
    """The layer's own arguments."""
    own = {name: value for name, value in config.options if name not in _OF_THE_CALL}
    option = config.get("option")
    return {**_BLANK, **own, **({option: _OPTIONS.get(option, True)} if option else {})}


def _named(name: str, units: int = UNITS, cell: bool = False, **options: Any) -> Any:
    """A layer, or a cell, by the short names of the grid: "GRU before", "LSTM wide", "LSTM relu"."""
    class_name, _, special = name.partition(" ")
    options = {**(_BLANK if cell else {}), **options}
    specials: dict[str, dict[str, Any]] = {"before": {"reset_after": False}, "relu": {"activation": "relu"}}
    own = specials.get(special, {})
    cls = getattr(keras.layers, class_name + ("Cell" if cell else ""))
    return cls(OTHER_UNITS if special == "wide" else units, **own, **options)


def _gain(config: Config) -> float:
    functions = [config.get(name) for name in ("activation", "recurrent_activation")]
    return GAIN if all(function is None or function in _TAME for function in functions) else CALM_GAIN


def _filled(layer: keras.Layer, random: np.random.Generator, gain: float) -> None:
    """Random weights and biases."""
    layer.set_weights([uniform(random, weight.shape, gain) for weight in layer.get_weights()])


def _build(config: Config) -> keras.Layer:
    options = _options(config)
    name = config["layer"]
    if config.family == "layer":
        return getattr(keras.layers, name)(UNITS, **options)
    if config.family == "rnn":
        outer = {
            key: options.pop(key) for key in ("return_sequences", "return_state", "go_backwards") if key in options
        }
        return keras.layers.RNN(getattr(keras.layers, f"{name}Cell")(UNITS, **options), **outer)
    if config.family == "stacked cells":
        sizes = (UNITS, OTHER_UNITS, UNITS + 4)
        cells = [_named(cell, size, cell=True) for cell, size in zip(config["cells"], sizes, strict=False)]
        return keras.layers.RNN(cells, **{name: value for name, value in options.items() if name not in _BLANK})
    merge = {"None": None}.get(
        config["merge_mode"] if config.get("merge_mode") else "concat", config.get("merge_mode", "concat")
    )
    if config.family == "bidirectional":
        return keras.layers.Bidirectional(getattr(keras.layers, name)(UNITS, **options), merge_mode=merge)
    turned = "backwards" in config["forward"]
    forward, backward = (
        _named(config[side], go_backwards=back, **options)
        for side, back in (("forward", turned), ("backward", not turned))
    )
    return keras.layers.Bidirectional(forward, merge_mode=merge, backward_layer=backward)


def _inner(layer: keras.Layer) -> list[list[Any]]:
    """The sizes of every state, one list for each cell, in the order in which Keras takes the initial state."""
    layers = [layer.forward_layer, layer.backward_layer] if isinstance(layer, keras.layers.Bidirectional) else [layer]
    found: list[list[Any]] = []
    for one in layers:
        cells = one.cell.cells if isinstance(one.cell, keras.layers.StackedRNNCells) else [one.cell]
        found += [
            list(cell.state_size) if isinstance(cell.state_size, (list, tuple)) else [cell.state_size] for cell in cells
        ]
    return found


def _layer(config: Config, random: np.random.Generator) -> Live:
    layer = _build(config)
    fixed = config.get("option") == "stateful"
    layer.build((BATCH if fixed else None, None, FEATURES))
    _filled(layer, random, _gain(config))
    x, mask = given_inputs(random), given_mask(config)
    sizes = _inner(layer)
    initial = None
    call: dict[str, Any] = {} if mask is None else {"mask": mask}
    if config.get("states") == "given":
        initial = tuple(tuple(uniform(random, (BATCH, size), 1.0) for size in own) for own in sizes)
        nested = [list(own) for own in initial]
        call["initial_state"] = (
            nested if config.family == "stacked cells" else [state for own in nested for state in own]
        )
    returned = computed(layer, x, call)
    if fixed:
        layer.reset_state()
    many = sum(map(len, sizes))
    states = tuple(returned[-many:]) if config.get("return_state") else ()
    outputs = returned[:-many] if states else returned
    turned = bool(config.get("go_backwards") and config.get("return_sequences")) and config.family != "bidirectional"
    shown = tuple(Shown(array, turned) for array in outputs)
    return Live(layer, x, shown, states, initial, mask)


def _cell(config: Config, random: np.random.Generator) -> Live:
    """One step of a cell by itself."""
    cell = getattr(keras.layers, f"{config['layer']}Cell")(UNITS, **_options(config))
    cell.build((None, FEATURES))
    _filled(cell, random, _gain(config))
    x = given_inputs(random, time=1)
    count = 2 if config["layer"] == "LSTM" else 1
    given = config["states"] == "given"
    initial = tuple(
        uniform(random, (BATCH, UNITS), 1.0) if given else np.zeros((BATCH, UNITS), "float32") for _ in range(count)
    )
    output, states = cell(x[:, 0], list(initial))
    final = tuple(np.asarray(state) for state in keras.tree.flatten(states))
    return Live(cell, x, (Shown(np.asarray(output)),), final, (initial,))


# ---- models


def _front(config: Config) -> list[keras.Layer]:
    name = config.get("front", "")
    if name.startswith("Embedding"):
        return [
            keras.Input((None,), dtype="int32"),
            keras.layers.Embedding(VOCABULARY, FEATURES, mask_zero="mask_zero" in name),
        ]
    masking = [keras.layers.Masking(float(name.partition(" ")[2] or 0.0))] if name else []
    return [keras.Input((None, FEATURES)), *masking]


def _body(config: Config) -> Sequence[keras.Layer]:
    cls = getattr(keras.layers, config["layer"])
    options = {name: value for name, value in _options(config).items() if name != "body"}
    cell = getattr(keras.layers, f"{config['layer']}Cell")

    def one(units: int = UNITS, **more: Any) -> keras.Layer:
        return cls(units, **options, **more)

    bodies = {
        "last": lambda: [one()],
        "sequence": lambda: [one(return_sequences=True)],
        "stack": lambda: [one(return_sequences=True), one(OTHER_UNITS)],
        "stack sequence": lambda: [one(return_sequences=True), one(OTHER_UNITS, return_sequences=True)],
        "bidirectional": lambda: [
            keras.layers.Bidirectional(one(return_sequences=True)),
            keras.layers.Bidirectional(one(OTHER_UNITS)),
        ],
        "sum sequence": lambda: [keras.layers.Bidirectional(one(return_sequences=True), merge_mode="sum")],
        "backwards": lambda: [one(return_sequences=True, go_backwards=True), one(OTHER_UNITS)],
        "dropout": lambda: [
            one(return_sequences=True, dropout=0.3, recurrent_dropout=0.2),
            keras.layers.Dropout(0.4),
            one(OTHER_UNITS),
        ],
        "cells": lambda: [
            keras.layers.RNN([cell(UNITS, **options), keras.layers.GRUCell(OTHER_UNITS)], return_sequences=True),
        ],
    }
    return bodies[config["body"]]()


def _model(config: Config, random: np.random.Generator) -> Live:
    if config["body"] == "states":
        inputs = keras.Input((None, FEATURES))
        cls = getattr(keras.layers, config["layer"])
        values = cls(UNITS, return_sequences=True, return_state=True, **_options(config))(inputs)
        model = keras.Model(inputs, [keras.layers.Dense(LABELS)(values[0]), *values])
    else:
        model = keras.Sequential([*_front(config), *_body(config), keras.layers.Dense(LABELS, activation="tanh")])
    _filled(model, random, GAIN)
    x = _padded(config, random)
    return Live(model, x, tuple(map(Shown, computed(model, x, {}))))


def _padded(config: Config, random: np.random.Generator) -> Array:
    """Inputs with the padding of a configuration, as its front marks it."""
    name, mask = config.get("front", ""), given_mask(config)
    if name.startswith("Embedding"):
        tokens = given_tokens(random)
        return tokens if mask is None else np.where(mask, tokens, 0)
    x = given_inputs(random)
    value = float(name.partition(" ")[2] or 0.0)
    return x if mask is None else np.where(mask[..., None], x, np.float32(value))


# ---- conversions to Keras, called as a user would


def called(converted: Any, live: Live, bare: bool) -> Values | None:
    """What a converted layer or model returns; None where it cannot be called so: a model takes no states and no mask.

    Args:
        converted: what `parity.to_keras` gave.
        live: the source it was made of.
        bare: whether that is a recurrent layer by itself, and no model with outputs of its own.
    """
    model = isinstance(converted, keras.Model)
    if model and (live.initial is not None or live.mask is not None):
        return None
    x = live.inputs.astype(live.dtype) if live.inputs.dtype.kind == "f" else live.inputs
    flat = [state for row in live.initial or () for state in row]
    if not isinstance(converted, (keras.Model, keras.layers.RNN, keras.layers.Bidirectional)) and hasattr(
        converted, "state_size"
    ):
        zeros = converted.get_initial_state(len(live.inputs)) if live.initial is None else flat
        output, states = converted(x[:, 0], zeros)
        return Values((np.asarray(output),), tuple(np.asarray(state) for state in keras.tree.flatten(states)))
    call: dict[str, Any] = {}
    if live.initial is not None:
        call["initial_state"] = flat
    if live.mask is not None:
        call["mask"] = live.mask
    returned = computed(converted, x, call)
    if not bare:
        return Values(tuple(returned), ())
    return Values(tuple(returned[:1]), tuple(returned[1:]))
