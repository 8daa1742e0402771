"""Keras 1 and 2: configurations and weights as their releases wrote them, against tf_keras (Keras 2) where it is installed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pytest

from parity.errors import FormatError, UnsupportedError
from parity.network import Network, Recurrent
from parity.network.keras.config import network_from_keras
from parity.network.keras.history import modernised, weights_by_path, weights_of_today
from parity.recurrent import Array
from parity.result import State

FEATURES, BATCH, TIME = 6, 3, 7
Groups = dict[str, tuple[list[Any], list[str]]]


def rng(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


def normal(*shape: int, seed: int = 1) -> Array:
    return rng(seed + sum(shape)).normal(scale=0.6, size=shape).astype(np.float32)


def inputs(network: Network | None = None) -> Array:
    if network is not None and network.tokens:
        tokens = rng(2).integers(1, network.tokens, (BATCH, TIME))
        tokens[0, 4:] = 0
        return tokens
    return rng(2).normal(size=(BATCH, TIME, FEATURES)).astype(np.float32)


def computed(network: Network, x: Array) -> list[Array]:
    states = {
        name: State(*(np.zeros((len(spec.directions), len(x), spec.hidden_size)) for _ in spec.states))
        for name, spec in network.specs.items()
    }
    return list(network.compute(x, states)[0].values())


def read(config: Mapping[str, Any], groups: Groups, version: str | None, partial: bool = False) -> Network:
    found = weights_by_path(config, groups)
    return network_from_keras(
        modernised(config, version), lambda path: found[path], hard_sigmoid_of_keras_2=True, partial=partial
    )


# ---- tf_keras as the judge


def _tf() -> Any:
    return pytest.importorskip("tf_keras", reason="Keras 2 as tf_keras is the judge")


def sequential(k: Any) -> Any:
    kl = k.layers
    return k.Sequential(
        [
            kl.Input((None, FEATURES)),
            kl.LSTM(5, return_sequences=True, recurrent_activation="hard_sigmoid", implementation=1),
            kl.GRU(4, return_sequences=True, reset_after=False),
            kl.Dropout(0.3),
            kl.TimeDistributed(kl.Dense(3)),
            kl.Activation("tanh"),
            kl.GRU(4, use_bias=False),
            kl.Dense(2),
            kl.Activation("softmax", name="classes"),
        ]
    )


def first_layer_shape(k: Any) -> Any:
    return k.Sequential([k.layers.SimpleRNN(5, input_shape=(TIME, FEATURES), activation="relu"), k.layers.Dense(2)])


def tokens(k: Any) -> Any:
    kl = k.layers
    return k.Sequential(
        [
            kl.Embedding(11, 5, mask_zero=True, input_length=TIME),
            kl.Bidirectional(kl.LSTM(4, return_sequences=True), merge_mode="sum"),
            kl.Bidirectional(kl.GRU(3), backward_layer=kl.LSTM(4, go_backwards=True, use_bias=False)),
            kl.Dense(3, activation="sigmoid"),
        ]
    )


def nested(k: Any) -> Any:
    kl = k.layers
    x = k.Input((None, FEATURES))
    cells = kl.RNN([kl.LSTMCell(4), kl.GRUCell(5, reset_after=False)], return_sequences=True, name="stack")
    encoder = k.Model(x, kl.Dense(3, name="dense", trainable=False)(cells(x)), name="encoder")
    inner = k.Sequential(
        [kl.Input((None, 3)), kl.LSTM(4, return_sequences=True), kl.Dense(5, name="dense")], name="inner"
    )
    both = k.Sequential([kl.Input((None, FEATURES)), encoder, inner], name="both")
    top = k.Input((None, FEATURES))
    return k.Model(top, kl.Dense(2, name="dense")(kl.LSTM(3)(both(top))))


def called_twice(k: Any) -> Any:
    x = k.Input((None, FEATURES))
    layer = k.layers.LSTM(FEATURES, return_sequences=True, name="twice")
    return k.Model(x, k.layers.GRU(3)(layer(k.layers.Dense(FEATURES, activation="tanh")(layer(x)))))


def with_states(k: Any) -> Any:
    x = k.Input((None, FEATURES))
    y, h, c = k.layers.LSTM(5, return_sequences=True, return_state=True, name="lstm")(x)
    return k.Model(x, [y, h, c])


MODELS: list[Callable[[Any], Any]] = [sequential, first_layer_shape, tokens, nested, called_twice, with_states]


def randomized(model: Any, seed: int = 3) -> Any:
    generator = rng(seed)
    model.set_weights([generator.normal(scale=0.6, size=w.shape).astype(np.float32) for w in model.get_weights()])
    return model


def groups_of(model: Any) -> Groups:
    """As `save_weights_to_hdf5_group` of tf_keras's hdf5_format.py writes them."""
    found: Groups = {}
    for layer in model.layers:
        weights = [*layer.trainable_weights, *layer.non_trainable_weights]
        found[layer.name] = ([w.numpy() for w in weights], [w.name for w in weights])
    return found


@pytest.mark.parametrize("form", ["json", "serialized"])
@pytest.mark.parametrize("build", MODELS, ids=lambda build: build.__name__)
def test_models_of_keras_2_compute_the_same(build: Callable[[Any], Any], form: str) -> None:
    k = _tf()
    model = randomized(build(k))
    if form == "json":
        config = json.loads(model.to_json())
    else:  # what config.json in the .keras files of Keras 2.12 to 2.15 holds
        config = json.loads(json.dumps(k.saving.serialize_keras_object(model)))
    network = read(config, groups_of(model), k.__version__)
    x = inputs(network)
    expected = model(x)
    expected = list(expected) if isinstance(expected, (list, tuple)) else [expected]
    assert len(network.outputs) == len(expected)
    for ours, theirs in zip(computed(network, x), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)
    assert not np.allclose(expected[0], 0)
