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
    # The other is what config.json in the .keras files of Keras 2.12 to 2.15 holds.
    serialized = model.to_json() if form == "json" else json.dumps(k.saving.serialize_keras_object(model))
    config = json.loads(serialized)
    network = read(config, groups_of(model), k.__version__)
    x = inputs(network)
    expected = model(x)
    expected = list(expected) if isinstance(expected, (list, tuple)) else [expected]
    assert len(network.outputs) == len(expected)
    for ours, theirs in zip(computed(network, x), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)
    assert not np.allclose(expected[0], 0)


# ---- Keras 1, byte for byte as its get_config wrote it


def old_recurrent(class_name: str, name: str, units: int, **options: Any) -> dict[str, Any]:
    """`Recurrent.get_config` and `LSTM.get_config` of Keras 1.2.2, keras/layers/recurrent.py."""
    config: dict[str, Any] = {
        "name": name,
        "trainable": True,
        "return_sequences": False,
        "go_backwards": False,
        "stateful": False,
        "unroll": False,
        "consume_less": "cpu",
        "input_dim": FEATURES,
        "input_length": None,
        "output_dim": units,
        "init": "glorot_uniform",
        "inner_init": "orthogonal",
        "activation": "tanh",
        "W_regularizer": None,
        "U_regularizer": None,
        "b_regularizer": None,
        "dropout_W": 0.0,
        "dropout_U": 0.2,
    }
    if class_name != "SimpleRNN":
        config["inner_activation"] = "hard_sigmoid"
    if class_name == "LSTM":
        config["forget_bias_init"] = "one"
    return {"class_name": class_name, "config": config | options}


def old_dense(name: str, units: int, activation: str = "linear") -> dict[str, Any]:
    """`Dense.get_config` of Keras 1.2.2, keras/layers/core.py."""
    nothing = ("W_regularizer", "b_regularizer", "activity_regularizer", "W_constraint", "b_constraint", "input_dim")
    options = {"output_dim": units, "init": "glorot_uniform", "activation": activation, "bias": True, "trainable": True}
    return {"class_name": "Dense", "config": {"name": name, **options, **dict.fromkeys(nothing)}}


def per_gate(gates: str, units: int, features: int, name: str) -> tuple[list[Array], list[str]]:
    """W, U, b of each gate: `self.trainable_weights` in `build` of Keras 1.2.2."""
    shapes = {"W": (features, units), "U": (units, units), "b": (units,)}
    names = [f"{name}_{letter}_{gate}:0" for gate in gates for letter in shapes]
    arrays = [normal(*shapes[letter], seed=9 * k) for k, gate in enumerate(gates) for letter in shapes]
    return arrays, names


def hard_sigmoid(x: Array) -> Array:
    clipped: Array = np.clip(0.2 * x + 0.5, 0, 1)
    return clipped


def keras_1_lstm(x: Array, arrays: Sequence[Array]) -> Array:
    """`LSTM.step` of Keras 1.2.2, consume_less "mem": every h."""
    W_i, U_i, b_i, W_c, U_c, b_c, W_f, U_f, b_f, W_o, U_o, b_o = (a.astype(np.float64) for a in arrays)
    h = c = np.zeros((len(x), b_i.size))
    steps: list[Array] = []
    for x_t in np.moveaxis(x.astype(np.float64), 1, 0):
        i = hard_sigmoid(x_t @ W_i + b_i + h @ U_i)
        f = hard_sigmoid(x_t @ W_f + b_f + h @ U_f)
        c = f * c + i * np.tanh(x_t @ W_c + b_c + h @ U_c)
        h = hard_sigmoid(x_t @ W_o + b_o + h @ U_o) * np.tanh(c)
        steps.append(h)
    return np.stack(steps, 1)


def keras_1_gru(x: Array, arrays: Sequence[Array]) -> Array:
    """`GRU.step` of Keras 1.2.2, consume_less "mem": every h."""
    W_z, U_z, b_z, W_r, U_r, b_r, W_h, U_h, b_h = (a.astype(np.float64) for a in arrays)
    h = np.zeros((len(x), b_z.size))
    steps: list[Array] = []
    for x_t in np.moveaxis(x.astype(np.float64), 1, 0):
        z = hard_sigmoid(x_t @ W_z + b_z + h @ U_z)
        r = hard_sigmoid(x_t @ W_r + b_r + h @ U_r)
        h = z * h + (1 - z) * np.tanh(x_t @ W_h + b_h + (r * h) @ U_h)
        steps.append(h)
    return np.stack(steps, 1)


def keras_1_model() -> tuple[dict[str, Any], Groups, Callable[[Array], Array]]:
    """An LSTM, a GRU inside a Sequential of its own, a Dense and its Activation."""
    first = old_recurrent(
        "LSTM", "lstm_1", 5, return_sequences=True, batch_input_shape=[None, TIME, FEATURES], input_dtype="float32"
    )
    dropout = {"class_name": "Dropout", "config": {"name": "dropout_1", "trainable": True, "p": 0.5}}
    inner = {"class_name": "Sequential", "config": [old_recurrent("GRU", "gru_1", 4), old_dense("dense_1", 3)]}
    activation = {
        "class_name": "Activation",
        "config": {"name": "activation_1", "trainable": True, "activation": "softmax"},
    }
    config = {"class_name": "Sequential", "keras_version": "1.2.2", "config": [first, dropout, inner, activation]}
    lstm, gru = per_gate("icfo", 5, FEATURES, "lstm_1"), per_gate("zrh", 4, 5, "gru_1")
    dense = ([normal(4, 3), normal(3)], ["dense_1_W:0", "dense_1_b:0"])
    # Keras 1 lists the layers of the inner Sequential as the model's own: `flattened_layers`.
    groups: Groups = {"lstm_1": lstm, "dropout_1": ([], []), "gru_1": gru, "dense_1": dense, "activation_1": ([], [])}

    def expected(x: Array) -> Array:
        logits = keras_1_gru(keras_1_lstm(x, lstm[0]), gru[0])[:, -1] @ dense[0][0] + dense[0][1]
        powers = np.exp(logits - logits.max(-1, keepdims=True))
        softmax: Array = powers / powers.sum(-1, keepdims=True)
        return softmax

    return config, groups, expected


def test_a_model_of_keras_1_computes_what_keras_1_computed() -> None:
    config, groups, expected = keras_1_model()
    network = read(config, groups, "1.2.2")
    x = inputs()
    (given,) = computed(network, x)
    np.testing.assert_allclose(given, expected(x), rtol=0, atol=1e-12)
    assert [layer.name for layer in network.layers] == ["lstm_1", "dropout_1", "gru_1", "dense_1"]
    assert [output.name for output in network.outputs] == ["activation_1"]
    assert network.time == TIME
    assert network.details == {"hard_sigmoid": "0.2 x + 0.5, as Keras 2 means it"}


def test_swapped_gates_of_keras_1_would_be_seen() -> None:
    config, groups, expected = keras_1_model()
    arrays, names = groups["lstm_1"]
    groups["lstm_1"] = ([*arrays[:3], *arrays[6:9], *arrays[3:6], *arrays[9:]], names)
    (given,) = computed(read(config, groups, "1.2.2"), inputs())
    assert np.abs(given - expected(inputs())).max() > 1e-3


@pytest.mark.parametrize(("class_name", "gates"), [("LSTM", "icfo"), ("GRU", "zrh")])
@pytest.mark.parametrize("both", [False, True], ids=["alone", "Bidirectional"])
def test_weights_of_keras_1_against_the_function_of_keras_2(class_name: str, gates: str, both: bool) -> None:
    k = _tf()
    from tf_keras.src.saving.legacy.hdf5_format import preprocess_weights_for_loading

    options = {"reset_after": False} if class_name == "GRU" else {}
    layer = getattr(k.layers, class_name)(5, **options)
    old: dict[str, Any] = old_recurrent(class_name, "old", 5)
    arrays = per_gate(gates, 5, FEATURES, "old")[0]
    if both:
        layer = k.layers.Bidirectional(layer)
        old = {"class_name": "Bidirectional", "config": {"name": "both", "merge_mode": "concat", "layer": old}}
        arrays = [*arrays, *(-array for array in arrays)]
    layer.build((None, None, FEATURES))
    theirs = preprocess_weights_for_loading(layer, list(arrays), original_keras_version="1")
    ours = weights_of_today(old, arrays, "1.2.2")
    assert len(ours) == len(theirs)
    for mine, own in zip(ours, theirs, strict=True):
        assert mine.shape == own.shape
        np.testing.assert_array_equal(mine[()], own)


def test_consume_less_gpu_is_todays_layout_unread() -> None:
    arrays = [normal(FEATURES, 20), normal(5, 20), normal(20)]
    ours = weights_of_today(old_recurrent("LSTM", "lstm_1", 5, consume_less="gpu"), arrays, "1.2.2")
    assert all(mine is own for mine, own in zip(ours, arrays, strict=True))


def test_gates_of_different_shapes_are_a_damaged_file() -> None:
    arrays = per_gate("icfo", 5, FEATURES, "lstm")[0]
    arrays[3] = normal(FEATURES, 6)
    with pytest.raises(FormatError, match="differ in shape"):
        weights_of_today(old_recurrent("LSTM", "lstm_1", 5), arrays, "1.2.2")


# ---- cuDNN


def cudnn_layer(class_name: str, name: str, units: int, **options: Any) -> dict[str, Any]:
    """`_CuDNNRNN.get_config` and `CuDNNLSTM.get_config` of Keras 2.1.6, keras/layers/cudnn_recurrent.py."""
    parts = [
        f"{weight}_{part}"
        for weight in ("kernel", "recurrent", "bias")
        for part in ("initializer", "regularizer", "constraint")
    ]
    config = {
        "name": name,
        "trainable": True,
        "return_sequences": False,
        "return_state": False,
        "go_backwards": False,
        "stateful": False,
    }
    return {
        "class_name": class_name,
        "config": {**config, **dict.fromkeys(parts), "units": units, "activity_regularizer": None} | options,
    }


def cudnn_weights(gates: int, units: int, features: int, seed: int = 1) -> list[Array]:
    return [
        normal(features, gates * units, seed=seed),
        normal(units, gates * units, seed=seed),
        normal(2 * gates * units, seed=seed),
    ]


@pytest.mark.parametrize(("class_name", "gates"), [("LSTM", 4), ("GRU", 3)])
@pytest.mark.parametrize("said", ["", "CuDNN"], ids=["opened as plain", "as it was saved"])
@pytest.mark.parametrize("both", [False, True], ids=["alone", "Bidirectional"])
def test_weights_of_cudnn_against_the_function_of_keras_2(class_name: str, gates: int, said: str, both: bool) -> None:
    k = _tf()
    from tf_keras.src.saving.legacy.hdf5_format import preprocess_weights_for_loading

    layer = getattr(k.layers, class_name)(5)
    old: dict[str, Any] = cudnn_layer(f"{said}{class_name}", "old", 5)
    arrays = cudnn_weights(gates, 5, FEATURES)
    if both:
        layer = k.layers.Bidirectional(layer)
        old = {"class_name": "Bidirectional", "config": {"name": "both", "merge_mode": "concat", "layer": old}}
        arrays += cudnn_weights(gates, 5, FEATURES, seed=4)
    layer.build((None, None, FEATURES))
    theirs = preprocess_weights_for_loading(layer, [array.copy() for array in arrays], original_keras_version="2.1.6")
    for mine, own in zip(weights_of_today(old, arrays, "2.1.6"), theirs, strict=True):
        whole = mine[()]
        if whole.shape != own.shape:  # Keras sums the biases of an LSTM
            assert class_name == "LSTM"
            assert whole.shape == (2, 20)
            whole = whole[0] + whole[1]
        np.testing.assert_array_equal(whole, own)


def test_cudnn_layers_in_a_model() -> None:
    """The rearrangement as `_convert_rnn_weights` of Keras 2.1.6 says it, and both biases of an LSTM kept as they are."""
    first = cudnn_layer(
        "CuDNNLSTM", "lstm", 5, return_sequences=True, batch_input_shape=[None, None, FEATURES], dtype="float32"
    )
    second = cudnn_layer("CuDNNGRU", "gru", 4)
    config = {"class_name": "Sequential", "config": {"name": "m", "layers": [first, second]}}
    lstm, gru = cudnn_weights(4, 5, FEATURES), cudnn_weights(3, 4, 5)
    names = ["kernel:0", "recurrent_kernel:0", "bias:0"]
    network = read(config, {"lstm": (lstm, names), "gru": (gru, names)}, "2.1.6")
    for layer, (kernel, recurrent, bias), order in zip(network.recurrent, (lstm, gru), ("ifgo", "zrn"), strict=True):
        units = layer.spec.hidden_size
        own = {"lstm": "ifgo", "gru": "rzn"}[layer.spec.kind]
        (weights,) = layer.weights
        assert weights.bias_input is not None
        assert weights.bias_recurrent is not None
        for place, letter in enumerate(order):
            gate, block = own.index(letter), slice(place * units, (place + 1) * units)
            turned = kernel[:, block].T.reshape(kernel[:, block].shape, order="F")
            np.testing.assert_array_equal(weights.kernel[gate], turned.T)
            np.testing.assert_array_equal(weights.recurrent[gate], recurrent[:, block])
            np.testing.assert_array_equal(weights.bias_input[gate], bias[block])
            np.testing.assert_array_equal(weights.bias_recurrent[gate], bias[bias.size // 2 :][block])
        assert not layer.peculiarities


def test_plain_weights_under_a_cudnn_class_are_plain() -> None:
    arrays = [normal(FEATURES, 20), normal(5, 20), normal(20)]
    ours = weights_of_today(cudnn_layer("CuDNNLSTM", "lstm", 5), arrays, "2.1.6")
    assert all(mine is own for mine, own in zip(ours, arrays, strict=True))


# ---- options and wiring


def test_what_a_version_leaves_out() -> None:
    def gru(version: str | None) -> Recurrent:
        layer = {"class_name": "GRU", "config": {"name": "gru", "units": 5}}
        bias = normal(2, 15) if version == "3.4.1" else normal(15)
        weights: Groups = {"gru": ([normal(FEATURES, 15), normal(5, 15), bias], [])}
        config = {"class_name": "Sequential", "config": [layer]}
        found = weights_by_path(config, weights)
        network = network_from_keras(
            modernised(config, version), found.__getitem__, hard_sigmoid_of_keras_2=version != "3.4.1"
        )
        return network.recurrent[0]

    assert gru("2.1.5").peculiarities == ("hard_sigmoid(alpha=0.2, beta=0.5) as its gate function", "reset_after=False")
    assert gru("2.2.5").peculiarities == gru(None).peculiarities == gru("2.1.5").peculiarities
    assert gru("2.3.1").peculiarities == ("reset_after=False",)
    assert gru("3.4.1").peculiarities == ()


def bidirectional(version: str) -> str:
    inner = {"class_name": "LSTM", "config": {"name": "lstm", "units": 2, "return_sequences": True}}
    both = {"class_name": "Bidirectional", "config": {"name": "both", "merge_mode": "concat", "layer": inner}}
    arrays = [normal(FEATURES, 8), normal(2, 8), normal(8)] * 2
    return read({"class_name": "Sequential", "config": [both]}, {"both": (arrays, [])}, version).recurrent[0].fill


def test_an_old_bidirectional_repeats_at_masked_steps() -> None:
    assert bidirectional("2.2.4") == bidirectional("2.1.6-tf") == "repeat"
    assert bidirectional("2.2.4-tf") == bidirectional("2.6.0") == "zero"


def test_time_major_is_refused_with_its_reason() -> None:
    layer = {"class_name": "LSTM", "config": {"name": "lstm", "units": 5, "time_major": True}}
    config = {"class_name": "Sequential", "config": [layer]}
    arrays = [normal(FEATURES, 20), normal(5, 20), normal(20)]
    with pytest.raises(UnsupportedError, match="time_major is not kept exactly"):
        read(config, {"lstm": (arrays, [])}, "2.4.0")
    network = read(config, {"lstm": (arrays, [])}, "2.4.0", partial=True)
    assert not network.layers
    assert network.opaque[0].class_name == "LSTM"
    assert list(network.opaque[0].shapes) == ["kernel", "recurrent_kernel", "bias"]


def functional(
    nodes: Mapping[str, list[Any]], classes: Mapping[str, tuple[str, dict[str, Any]]], outputs: list[Any]
) -> dict[str, Any]:
    """`Container.get_config` of Keras 2.2.4, keras/engine/network.py."""
    layers = [
        {"name": name, "class_name": class_name, "config": {"name": name, **config}, "inbound_nodes": nodes[name]}
        for name, (class_name, config) in classes.items()
    ]
    taken = [[name, 0, 0] for name, (class_name, _) in classes.items() if class_name == "InputLayer"]
    return {
        "class_name": "Model",
        "config": {"name": "model_1", "layers": layers, "input_layers": taken, "output_layers": outputs},
    }


def decoder() -> tuple[dict[str, Any], Groups]:
    """A decoder that gets the encoder's states, as in the seq2seq example of Keras 2: [[input, h, c]]."""
    taken = {"batch_input_shape": [None, None, FEATURES], "dtype": "float32", "sparse": False}
    lstm = {"units": 5, "return_state": True, "return_sequences": False, "recurrent_activation": "hard_sigmoid"}
    config = functional(
        {
            "input_1": [],
            "input_2": [],
            "encoder": [[["input_1", 0, 0, {}]]],
            "decoder": [[["input_2", 0, 0, {}], ["encoder", 0, 1, {}], ["encoder", 0, 2, {}]]],
            "norm": [[["decoder", 0, 0, {}]]],
            "late": [[["norm", 0, 0, {}]]],
            "own": [[["late", 0, 0, {}]]],
        },
        {
            "input_1": ("InputLayer", taken),
            "input_2": ("InputLayer", taken),
            "encoder": ("LSTM", lstm),
            "decoder": ("LSTM", lstm | {"return_sequences": True}),
            "norm": ("BatchNormalization", {"axis": -1, "momentum": 0.99, "epsilon": 0.001}),
            "late": ("GRU", {"units": 3}),
            "own": ("Attention4U", {"depth": 3}),
        },
        [["own", 0, 0]],
    )

    def weights(gates: int, units: int, features: int) -> tuple[list[Array], list[str]]:
        shapes = (features, gates * units), (units, gates * units), (gates * units,)
        return [normal(*shape) for shape in shapes], []

    groups: Groups = {"input_1": ([], []), "encoder": weights(4, 5, FEATURES), "decoder": weights(4, 5, FEATURES)}
    groups |= {
        "norm": ([normal(5) for _ in range(4)], []),
        "late": weights(3, 3, 5),
        "own": ([normal(3, 1)], ["own/W:0"]),
    }
    return config, groups


def test_a_decoder_is_read_in_part() -> None:
    config, groups = decoder()
    network = read(config, groups, "2.2.4", partial=True)
    assert [(layer.name, layer.input_size) for layer in network.layers] == [("encoder", 6), ("decoder", 6), ("late", 5)]
    assert [(one.name, one.class_name, one.place) for one in network.opaque] == [
        ("norm", "BatchNormalization", 2),
        ("own", "Attention4U", 3),
    ]
    assert list(network.opaque[0].shapes) == ["gamma", "beta", "moving_mean", "moving_variance"]
    assert network.opaque[1].facts == {"depth": 3}
    said = "\n".join(map(str, network.problems))
    for words in ("the initial state is an input of the model", "several inputs", "Attention4U", "BatchNormalization"):
        assert words in said
    np.testing.assert_array_equal(network.recurrent[2].weights[0].recurrent[0], groups["late"][0][1].T[3:6])
    with pytest.raises(UnsupportedError) as caught:
        read(config, groups, "2.2.4")
    assert caught.value.problems == network.problems
    with pytest.raises(UnsupportedError, match="can be used one by one"):
        network.whole()


def test_weights_that_are_not_there_make_a_layer_opaque() -> None:
    config, groups = decoder()
    del groups["late"]
    network = read(config, groups, "2.2.4", partial=True)
    assert [layer.name for layer in network.layers] == ["encoder", "decoder"]
    assert "the weights of the layer are not there" in "\n".join(map(str, network.problems))


def test_the_weights_of_a_nested_model_are_told_apart() -> None:
    """Trained weights first, those of the frozen layer and the means of the norm after them: `Network.weights` of Keras 2.2.4."""
    lstm = {"class_name": "LSTM", "config": {"name": "a", "units": 2, "return_sequences": True}}
    frozen = {"class_name": "Dense", "config": {"name": "b", "units": 3, "trainable": False}}
    norm: dict[str, Any] = {"class_name": "BatchNormalization", "config": {"name": "c"}}
    last = {"class_name": "GRU", "config": {"name": "d", "units": 2, "use_bias": False}}
    inner = {"class_name": "Sequential", "config": {"name": "inner", "layers": [lstm, frozen, norm, last]}}
    config = {"class_name": "Sequential", "config": {"name": "outer", "layers": [inner]}}
    trained = [
        normal(FEATURES, 8),
        normal(2, 8),
        normal(8),
        normal(3, seed=5),
        normal(3, seed=6),
        normal(3, 6),
        normal(2, 6),
    ]
    others = [normal(2, 3), normal(3, seed=7), normal(3, seed=8), normal(3, seed=9)]
    found = weights_by_path(config, {"inner": ([*trained, *others], [])})
    assert {path: [w.shape for w in weights] for path, weights in found.items()} == {
        "inner/a": [(6, 8), (2, 8), (8,)],
        "inner/b": [(2, 3), (3,)],
        "inner/c": [(3,)] * 4,
        "inner/d": [(3, 6), (2, 6)],
    }
    assert [weight is own for weight, own in zip(found["inner/c"], [*trained[3:5], *others[2:]], strict=True)] == [
        True
    ] * 4
    norm["class_name"] = "NormOfMyOwn"
    names = [
        f"{name}/w{k}:0" for name, count in (("a", 3), ("c", 2), ("d", 2), ("b", 2), ("c", 2)) for k in range(count)
    ]
    assert weights_by_path(config, {"inner": ([*trained, *others], names)}) == found
    assert not any(weights_by_path(config, {"inner": ([*trained, *others], [])}).values())
