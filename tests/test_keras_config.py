"""Keras configurations against Keras itself."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers as kl

from parity.conventions import Value
from parity.errors import FormatError, ShapeError, UnsupportedError
from parity.network import Bidirectional, Embedding, Masking, Network, Output, Recurrent
from parity.network.keras.config import layers_from_keras, network_from_keras, weight_paths
from parity.network.keras.layer_writing import keras_arrays, keras_from_layer, keras_name
from parity.network.keras.writing import keras_from_network
from parity.recurrent import DIRECTIONS, Array, RecurrentSpec, Weights
from parity.result import State

FEATURES, BATCH, TIME = 6, 3, 7
MEMBERS = ("kernel", "recurrent", "bias_input", "bias_recurrent")


def randomize(layer: Any, seed: int = 1) -> Any:
    rng = np.random.default_rng(seed)
    layer.set_weights([rng.normal(scale=0.6, size=w.shape).astype(np.float32) for w in layer.get_weights()])
    return layer


def read(model: Any) -> Network:
    return network_from_keras(keras.saving.serialize_keras_object(model), lambda path: at(model, path).get_weights())


def at(model: Any, path: str) -> Any:
    for name in path.split("/"):
        model = model.get_layer(name)
    return model


def reference(network: Network, x: Array) -> list[Array]:
    states = {
        name: State(*(np.zeros((len(spec.directions), len(x), spec.hidden_size)) for _ in spec.states))
        for name, spec in network.specs.items()
    }
    return list(network.compute(x, states)[0].values())


def floats(seed: int = 2) -> Array:
    return np.random.default_rng(seed).normal(size=(BATCH, TIME, FEATURES)).astype(np.float32)


def predictions(model: Any, x: Array) -> list[Array]:
    given = model(x)
    return [np.asarray(value) for value in (given if isinstance(given, (list, tuple)) else [given])]


def sequential_forecaster() -> Any:
    return keras.Sequential(
        [
            keras.Input((None, FEATURES)),
            kl.GRU(5, return_sequences=True, name="zeta"),
            kl.LSTM(4, use_bias=False, name="alpha"),
            kl.Dense(2, activation="tanh"),
        ]
    )


def encoder_with_states() -> Any:
    x = keras.Input((None, FEATURES), name="readings")
    first, h, _ = kl.LSTM(5, return_sequences=True, return_state=True, name="low")(x)
    second = kl.Bidirectional(kl.GRU(4, return_sequences=True, return_state=True), name="both")(first)
    last = kl.LSTM(3, name="top")(kl.Dense(2, activation="relu", use_bias=False, name="squeeze")(second[0]))
    return keras.Model(
        x, [kl.Dense(7, activation="softmax", name="out")(last), h, second[2], second[0]], name="encoder"
    )


def token_classifier() -> Any:
    x = keras.Input((None,), dtype="int32")
    both = kl.Bidirectional(kl.LSTM(5), backward_layer=kl.LSTM(5, go_backwards=True, use_bias=False), name="bi")
    return keras.Model(x, kl.Dense(3, activation="sigmoid")(both(kl.Embedding(11, 4, name="words")(x))))


def keyword_call() -> Any:
    x = keras.Input((None, FEATURES))
    return keras.Model(
        x, [kl.GRU(5, name="gru", return_sequences=True, unroll=False, seed=3)(sequences=x, training=False)]
    )


def sequential_with_states() -> Any:
    return keras.Sequential([keras.Input((None, FEATURES)), kl.LSTM(5, return_state=True, name="encoder")])


def state_of_last_step() -> Any:
    x = keras.Input((None, FEATURES))
    _, h, c = kl.LSTM(5, return_state=True, name="lstm")(x)
    return keras.Model(x, [kl.Dense(2, name="head")(h), c])


def never_given_a_shape() -> Any:
    model = keras.Sequential([kl.LSTM(5), kl.Dense(3)])
    model.build((None, None, FEATURES))
    return model


def called_twice() -> Any:
    x = keras.Input((None, FEATURES))
    layer = kl.LSTM(FEATURES, return_sequences=True, name="twice")
    between = kl.Dense(FEATURES, activation="tanh", name="twice_2")
    return keras.Model(x, kl.GRU(3)(layer(between(layer(x)))))


def models_in_a_sequential() -> Any:
    inner = keras.Sequential(
        [
            keras.Input((None, FEATURES)),
            kl.Bidirectional(kl.LSTM(4, return_sequences=True), name="both"),
            kl.Dense(5, name="dense"),
        ],
        name="inner",
    )
    outer = [
        inner,
        kl.TimeDistributed(kl.Dense(3), name="steps"),
        kl.Activation("tanh", name="tanh"),
        kl.GRU(3, name="gru"),
        kl.Dense(2, name="dense"),
    ]
    return keras.Sequential([keras.Input((None, FEATURES)), *outer, kl.Activation("softmax", name="classes")])


def models_in_a_model() -> Any:
    x = keras.Input((None, 4))
    cells = kl.RNN([kl.LSTMCell(4), kl.GRUCell(5), kl.LSTMCell(2)], return_sequences=True, name="stack")
    y, h = kl.GRU(3, return_sequences=True, return_state=True, name="gru")(cells(x))
    encoder = keras.Model(x, [h, y], name="encoder")
    top = keras.Input((None,), dtype="int32")
    found = encoder(kl.Embedding(11, 4, mask_zero=True, name="words")(top))
    inner = keras.Sequential([keras.Input((None, 3)), encoder_free(), kl.LSTM(4)], name="inner")
    return keras.Model(top, [kl.Dense(2)(inner(found[1])), found[0]])


def encoder_free() -> Any:
    x = keras.Input((None, 3))
    return keras.Model(x, kl.Bidirectional(kl.SimpleRNN(3, return_sequences=True), merge_mode="ave")(x), name="free")


def a_model_called_twice() -> Any:
    x = keras.Input((None, FEATURES))
    inner = keras.Sequential(
        [keras.Input((None, FEATURES)), kl.GRU(FEATURES, return_sequences=True, name="gru")], name="inner"
    )
    return keras.Model(x, kl.LSTM(3, name="lstm")(inner(inner(x))))


MODELS = [
    called_twice,
    models_in_a_sequential,
    models_in_a_model,
    a_model_called_twice,
    sequential_forecaster,
    encoder_with_states,
    token_classifier,
    keyword_call,
    sequential_with_states,
    state_of_last_step,
    never_given_a_shape,
]


def inputs_for(network: Network) -> Array:
    return np.random.default_rng(3).integers(0, network.tokens, (BATCH, TIME)) if network.tokens else floats()


@pytest.mark.filterwarnings("ignore:[\\s\\S]*was passed an input with a mask")
@pytest.mark.parametrize("build", MODELS, ids=lambda build: build.__name__)
def test_models_compute_the_same_in_both_directions(build: Callable[[], Any]) -> None:
    model = randomize(build())
    network = read(model)
    x = inputs_for(network)
    expected = predictions(model, x)
    computed = reference(network, x)
    assert len(computed) == len(expected) == len(network.outputs)
    for ours, keras_own in zip(computed, expected, strict=True):
        assert ours.shape == keras_own.shape
        np.testing.assert_allclose(ours, keras_own, rtol=0, atol=1e-5)

    again = keras.saving.deserialize_keras_object(keras_from_network(network))
    for layer in network.layers:
        again.get_layer(keras_name(layer.name)).set_weights(keras_arrays(layer))
    if build is not called_twice and build is not a_model_called_twice:
        for old, new in zip(model.get_weights(), again.get_weights(), strict=True):
            np.testing.assert_array_equal(old, new)
    for old, new in zip(expected, predictions(again, x), strict=True):
        np.testing.assert_array_equal(old, new)
    assert [(o.layer, o.value) for o in read(again).outputs] == [(o.layer, o.value) for o in network.outputs]


def test_outputs_are_named_after_layers_and_values() -> None:
    network = read(encoder_with_states())
    assert [output.name for output in network.outputs] == ["out", "low.state_h", "both.backward_state_h", "both"]
    assert [output.value and output.value.name for output in network.outputs] == [
        None,
        "state_h",
        "backward_state_h",
        None,
    ]
    assert (network.name, network.origin, network.bare) == ("encoder", "keras", False)
    assert [output.name for output in read(sequential_with_states()).outputs] == [
        "encoder",
        "encoder.state_h",
        "encoder.state_c",
    ]


def test_what_is_written_is_what_keras_makes_of_it() -> None:
    written = keras_from_network(read(encoder_with_states()))
    live = keras.saving.serialize_keras_object(keras.saving.deserialize_keras_object(written))

    def check(ours: Any, theirs: Any, path: str) -> None:
        if isinstance(ours, dict) and path.endswith("dtype"):
            return
        if isinstance(ours, dict):
            for key, value in ours.items():
                if key != "name" or key in theirs:
                    check(value, theirs[key], f"{path}.{key}")
        elif isinstance(ours, (list, tuple)):
            assert len(ours) == len(theirs), path
            for index, (one, other) in enumerate(zip(ours, theirs, strict=True)):
                check(one, other, f"{path}[{index}]")
        elif not path.endswith("dtype"):
            assert ours == theirs, path

    check(written["config"], live["config"], "config")
    assert (written["module"], written["registered_name"]) == (live["module"], live["registered_name"])


@pytest.mark.parametrize(
    ("make", "size"),
    [
        (lambda: kl.LSTM(5, return_sequences=True, return_state=True), 4),
        (lambda: kl.GRU(5, use_bias=False), 4),
        (lambda: kl.LSTM(5, activation=keras.activations.tanh, recurrent_activation=keras.activations.sigmoid), 4),
        (lambda: kl.Bidirectional(kl.GRU(3, return_sequences=True)), 4),
        (lambda: kl.Dense(3, activation="softmax"), 4),
    ],
)
def test_single_layers(make: Callable[[], Any], size: int) -> None:
    live = make()
    live.build((None, None, size))
    randomize(live)
    (layer,), _ = layers_from_keras(keras.saving.serialize_keras_object(live), live.get_weights())
    assert (layer.name, layer.input_size) == (live.name, size)
    for ours, keras_own in zip(keras_arrays(layer), live.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, keras_own)
    again = keras.layers.deserialize(keras_from_layer(layer))
    again.build((None, None, size))
    again.set_weights(keras_arrays(layer))
    x = np.random.default_rng(5).normal(size=(2, 3, size)).astype(np.float32)
    for old, new in zip(predictions(live, x), predictions(again, x), strict=True):
        np.testing.assert_array_equal(old, new)


def test_functions_serialized_as_objects_are_the_built_in_ones() -> None:
    live = kl.LSTM(5)
    live.build((None, None, 4))
    config = keras.saving.serialize_keras_object(live)
    config["config"]["activation"] = keras.saving.serialize_keras_object(keras.activations.tanh)
    assert isinstance(layers_from_keras(config, live.get_weights())[0][0], Recurrent)
    config["config"]["activation"] = {"module": "mine", "class_name": "tanh", "config": {}, "registered_name": "tanh"}
    with pytest.raises(UnsupportedError, match=r"activation=mine\.tanh|activation='mine\.tanh'"):
        layers_from_keras(config, live.get_weights())


# ---- refusals


class LSTM(kl.LSTM):  # type: ignore[misc]
    """Not Keras's own."""


class OwnCell(kl.LSTMCell):  # type: ignore[misc]
    """Not Keras's own."""


def custom(x: Any) -> Any:
    return x * 0.5


def branch() -> Any:
    x = keras.Input((None, FEATURES))
    y = kl.LSTM(5, return_sequences=True, name="shared")(x)
    return keras.Model(x, kl.Concatenate()([kl.GRU(3, name="left")(y), kl.GRU(4, name="right")(y)]))


def two_inputs() -> Any:
    x, h, c = keras.Input((None, FEATURES), name="x"), keras.Input((5,), name="h"), keras.Input((5,), name="c")
    return keras.Model([x, h, c], kl.LSTM(5, name="decoder")(x, initial_state=[h, c]))


def stateful_twice() -> Any:
    x = keras.Input(batch_shape=(BATCH, None, 5))
    layer = kl.LSTM(5, return_sequences=True, stateful=True, name="twice")
    return keras.Model(x, layer(layer(x)))


def another_mask() -> Any:
    x = keras.Input((None, FEATURES))
    mask = keras.ops.any(keras.ops.not_equal(x, 3.0), axis=-1)
    return keras.Model(x, kl.LSTM(5, name="lstm")(kl.Masking(name="masking")(x), mask=mask))


def two_masks() -> Any:
    x = keras.Input((None, FEATURES))
    return keras.Model(x, kl.LSTM(5)(kl.Masking(2.0, name="second")(kl.Masking(name="first")(x))))


def masked_and_unrolled() -> Any:
    x = keras.Input((4, FEATURES))
    return keras.Model(x, kl.LSTM(5, unroll=True, go_backwards=True, name="lstm")(kl.Masking(name="masking")(x)))


def unrolled_both_ways() -> Any:
    x = keras.Input((4,), dtype="int32")
    both = kl.Bidirectional(kl.GRU(5, unroll=True), name="both")
    return keras.Model(x, both(kl.Embedding(9, 4, mask_zero=True, name="words")(x)))


def wired_state() -> Any:
    x = keras.Input((None, FEATURES))
    _, h, _ = kl.LSTM(5, return_sequences=True, return_state=True, name="lstm")(x)
    return keras.Model(x, kl.Dense(2, name="head")(h))


def wired_cell() -> Any:
    x = keras.Input((None, FEATURES))
    _, _, c = kl.LSTM(5, return_state=True, name="lstm")(x)
    return keras.Model(x, kl.Dense(2, name="head")(c))


def last_step_by_index() -> Any:
    x = keras.Input((None, FEATURES))
    return keras.Model(x, kl.LSTM(5, return_sequences=True)(x)[:, -1])


def doubled_output() -> Any:
    x = keras.Input((None, FEATURES))
    y = kl.LSTM(5, name="lstm")(x)
    return keras.Model(x, [y, y])


def outputs_by_name() -> Any:
    x = keras.Input((None, FEATURES))
    return keras.Model(x, {"a": kl.LSTM(5)(x)})


def of(layer: Callable[[], Any]) -> Callable[[], Any]:
    return lambda: keras.Sequential([keras.Input((None, FEATURES)), layer(), kl.Dense(2)])


REFUSED = {
    "custom_activation": (of(lambda: kl.LSTM(5, activation=custom)), "activation='custom'", "train with one of these"),
    "backward_units": (
        of(lambda: kl.Bidirectional(kl.LSTM(5), backward_layer=kl.LSTM(4, go_backwards=True), merge_mode="sum")),
        "4 units",
        "make both alike",
    ),
    "dropout_layer": (
        lambda: keras.Sequential([keras.Input((None, FEATURES)), kl.LSTM(5), kl.GaussianNoise(0.5, name="drop")]),
        "layer 'drop' (GaussianNoise)",
        "leave the layer out",
    ),
    "own_cell_class": (of(lambda: kl.RNN(OwnCell(5))), "this cell is not converted", "use LSTMCell"),
    "custom_class": (of(lambda: LSTM(5)), "a custom layer class", "keras.layers itself"),
    "mixed": (of(lambda: kl.LSTM(5, dtype="mixed_float16")), "dtype='mixed_float16'", "float32"),
    "dense_activation": (
        lambda: keras.Sequential([keras.Input((None, FEATURES)), kl.LSTM(5), kl.Dense(2, activation="gelu")]),
        "activation='gelu'",
        "linear",
    ),
    "branch": (branch, "several layers take its values", "keras.Model(inputs, outputs)"),
    "initial_state": (two_inputs, "the initial state is an input of the model", "run(..., initial_state=...)"),
    "two_inputs": (two_inputs, "several inputs", "x, h, c"),
    "stateful_twice": (stateful_twice, "a stateful layer is called several times", "stateful=False"),
    "another_mask": (another_mask, "a mask goes into the layer", "let Masking or Embedding"),
    "two_masks": (two_masks, "several layers make masks", "keep one of them"),
    "masked_and_unrolled": (masked_and_unrolled, "unroll=True under the mask of layer 'masking'", "set unroll=False"),
    "unrolled_both_ways": (unrolled_both_ways, "unroll=True under the mask of layer 'words'", "set unroll=False"),
    "wired_state": (wired_state, "takes a state instead of the output", "return_sequences=False"),
    "wired_cell": (wired_cell, "value 2 of layer 'lstm'", "take the layer's first value"),
    "index": (last_step_by_index, "GetItem", "return_sequences=False"),
    "doubled_output": (doubled_output, "appears several times", "2 times 'lstm'"),
    "outputs_by_name": (outputs_by_name, "outputs in a dict", "a list"),
    "no_recurrent": (
        lambda: keras.Sequential([keras.Input((None, FEATURES)), kl.Dense(2)]),
        "no recurrent layer",
        "Dense 'dense",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_the_fact_and_the_remedy(name: str) -> None:
    build, fact, remedy = REFUSED[name]
    with pytest.raises(UnsupportedError) as caught:
        read(build())
    assert fact in str(caught.value)
    assert remedy in str(caught.value)


def test_every_problem_is_told_at_once() -> None:
    model = keras.Sequential(
        [
            keras.Input((None, FEATURES)),
            kl.LSTM(5, recurrent_activation="softmax", activation="glu", return_sequences=True, name="one"),
            kl.AlphaDropout(0.5, name="two"),
            kl.RNN([kl.GRUCell(4), OwnCell(4, name="cell")], name="three"),
        ]
    )
    with pytest.raises(UnsupportedError) as caught:
        read(model)
    assert [(problem.where, problem.got.split(" of ")[0]) for problem in caught.value.problems] == [
        ("layer 'one' (LSTM)", "activation='glu'"),
        ("layer 'one' (LSTM)", "recurrent_activation='softmax'"),
        ("layer 'two' (AlphaDropout)", "AlphaDropout"),
        ("layer 'three' (RNN), 'cell' (OwnCell)", "OwnCell"),
    ]
    assert all(problem.remedy and problem.expected for problem in caught.value.problems)


def test_a_subclassed_model_and_a_single_layer_are_no_model() -> None:
    with pytest.raises(UnsupportedError, match=r"rebuild it as keras\.Model"):
        network_from_keras(
            {"module": None, "class_name": "Mine", "config": {}, "registered_name": "Mine"}, lambda _: []
        )
    with pytest.raises(UnsupportedError, match=r"put it into keras\.Sequential"):
        network_from_keras(keras.saving.serialize_keras_object(kl.LSTM(5)), lambda _: [])


def serialized() -> dict[str, Any]:
    config: dict[str, Any] = json.loads(json.dumps(keras.saving.serialize_keras_object(encoder_with_states())))
    return config


def change(path: Sequence[str | int], value: object) -> dict[str, Any]:
    config = serialized()
    inner: Any = config
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return config


@pytest.mark.parametrize(
    ("path", "value", "error", "message"),
    [
        (["config"], None, FormatError, "no 'config'"),
        (["class_name"], 3, FormatError, "no 'class_name'"),
        (["config", "layers"], {}, FormatError, "no 'layers'"),
        (["config", "layers", 1], "LSTM", FormatError, "not a JSON object"),
        (["config", "layers", 1, "config", "units"], -5, FormatError, "units is not a size"),
        (["config", "layers", 1, "config", "units"], True, FormatError, "units is not a size"),
        (["config", "layers", 1, "config", "name"], None, FormatError, "no 'name'"),
        (["config", "layers", 1, "inbound_nodes"], [[["readings", 0, 0, {}]]], FormatError, "Keras 3 form"),
        (["config", "layers", 2, "config", "layer"], None, FormatError, "no 'layer'"),
        (["config", "output_layers"], [["out", 0]], FormatError, "outputs are not"),
        (["config", "output_layers"], ["nobody", 0, 0], FormatError, "outputs are not"),
        (["config", "output_layers"], ["low", 0, 9], FormatError, "does not give"),
        (["config", "output_layers"], ["readings", 0, 0], UnsupportedError, "the input itself"),
        (["config", "layers", 1, "config", "warp"], 9, UnsupportedError, "unknown option 'warp'"),
        (["config", "layers", 1, "config", "time_major"], True, UnsupportedError, "time_major=True"),
        (["config", "layers", 1, "config", "name"], "top", FormatError, "several layers have one name"),
        (["config", "layers", 0, "config", "batch_shape"], [None, 6], UnsupportedError, "number of dimensions"),
        (["config", "layers", 1, "config", "return_sequences"], False, UnsupportedError, "return_sequences=True"),
        (["config", "layers", 1, "config", "units"], 9, ShapeError, "wrong shape"),
        (["config", "layers", 1, "config", "use_bias"], False, ShapeError, "wrong number of weights"),
    ],
)
def test_broken_configurations(path: list[str | int], value: object, error: type[Exception], message: str) -> None:
    model = encoder_with_states()
    with pytest.raises(error, match=message):
        network_from_keras(change(path, value), lambda name: model.get_layer(name).get_weights())


def test_inert_options_are_accepted() -> None:
    model = encoder_with_states()
    config = serialized()
    config["config"]["layers"][1]["config"].update(
        time_major=False, implementation=2, unroll=True, trainable=False, kernel_regularizer={"l2": 0.1}
    )
    assert network_from_keras(config, lambda name: model.get_layer(name).get_weights(), "mine").name == "mine"


def test_weights_that_are_no_floating_point_numbers_are_refused() -> None:
    model = encoder_with_states()
    with pytest.raises(ShapeError, match="not a floating point array"):
        network_from_keras(serialized(), lambda n: [w.astype(np.int8) for w in model.get_layer(n).get_weights()])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_read_as_float32_and_float64_stays(dtype: str) -> None:
    live = kl.LSTM(5, recurrent_initializer="glorot_uniform", dtype=dtype)
    live.build((None, None, FEATURES))
    config = keras.saving.serialize_keras_object(live)
    (layer,), details = layers_from_keras(config, live.get_weights())
    assert details == {"stored as": dtype}
    for ours, keras_own in zip(keras_arrays(layer), live.get_weights(), strict=True):
        assert ours.dtype == np.float32
        np.testing.assert_array_equal(ours, keras_own.astype(np.float32))
    wide = [w.astype(np.float64) for w in live.get_weights()]
    (layer,), details = layers_from_keras(config, wide)
    assert (details, {array.dtype.name for array in keras_arrays(layer)}) == ({}, {"float64"})
    assert keras_from_layer(layer)["config"]["dtype"] == "float64"


# ---- writing


def recurrent(name: str, kind: Any, inputs: int, units: int, *, both: bool, sequences: bool = True) -> Recurrent:
    spec = RecurrentSpec(kind, inputs, units, DIRECTIONS if both else DIRECTIONS[:1])
    rng = np.random.default_rng(units)
    weights = tuple(
        Weights(*(rng.normal(size=spec.shape(m)).astype(np.float32) for m in MEMBERS)) for _ in spec.directions
    )
    return Recurrent(name, spec, weights, sequences)


def test_a_bare_network_gives_the_sequence_then_the_states() -> None:
    network = Network(
        "a/b", (recurrent("r/0", "lstm", 6, 5, both=False), recurrent("r.1", "gru", 5, 4, both=True)), origin="torch"
    )
    model = keras.saving.deserialize_keras_object(keras_from_network(network))
    assert [tuple(output.shape)[1:] for output in model.outputs] == [(None, 8), (5,), (5,), (4,), (4,)]
    assert model.name == "a_b"
    for layer, name in zip(network.layers, ["r_0", "r_1"], strict=True):
        model.get_layer(name).set_weights(keras_arrays(layer))
    names = ["r_1", "r_0.state_h", "r_0.state_c", "r_1.forward_state_h", "r_1.backward_state_h"]
    read_back = read(model)
    assert [output.name for output in read_back.outputs] == names
    for ours, keras_own in zip(reference(read_back, floats()), predictions(model, floats()), strict=True):
        np.testing.assert_allclose(ours, keras_own, rtol=0, atol=1e-5)


def test_outputs_of_other_frameworks_are_found_by_what_they_show() -> None:
    layer = recurrent("lstm", "lstm", 6, 5, both=False, sequences=False)
    outputs = (
        Output("y", "lstm"),
        Output("cell", "lstm", Value("Y_c", "c", "batch hidden", "forward")),
        Output("same", "lstm", Value("Y_h", "h", "batch (direction hidden)")),
    )
    network = Network("n", (layer,), outputs)
    assert keras_from_network(network)["config"]["output_layers"] == [["lstm", 0, 0], ["lstm", 0, 2], ["lstm", 0, 1]]
    stacked = replace(network, outputs=(Output("Y_h", "lstm", Value("Y_h", "h", "direction batch hidden")),))
    with pytest.raises(UnsupportedError, match="no value of a Keras layer"):
        keras_from_network(stacked)


def test_what_not_even_a_composition_says_is_refused() -> None:
    layer = recurrent("both", "gru", 6, 5, both=True, sequences=False)
    masked = Network("n", (Masking("masking", 6), layer), (Output("y", "both"),))
    with pytest.raises(UnsupportedError, match="fills masked steps otherwise"):
        keras_from_network(masked)
    keras_from_network(replace(masked, layers=(masked.layers[0], replace(layer, fill="repeat"))))
    clipped = replace(layer, cells=tuple(replace(cell, clip=0.5) for cell in layer.cells), dropout=0.2)
    with pytest.raises(UnsupportedError, match="parity's own cell has no dropout"):
        keras_from_layer(clipped)
    single = recurrent("one", "gru", 6, 5, both=False)
    with pytest.raises(UnsupportedError, match="no two directions"):
        keras_from_layer(Bidirectional("both", (single,), (replace(single, name="two"),)))


def test_weight_paths_follow_classes_not_names() -> None:
    assert weight_paths(keras.saving.serialize_keras_object(encoder_with_states())) == {
        "low": ("layers/lstm/cell/vars",),
        "both": ("layers/bidirectional/forward_layer/cell/vars", "layers/bidirectional/backward_layer/cell/vars"),
        "squeeze": ("layers/dense/vars",),
        "top": ("layers/lstm_1/cell/vars",),
        "out": ("layers/dense_1/vars",),
    }


def test_an_embedding_keeps_its_table() -> None:
    table = np.random.default_rng(4).normal(size=(9, 6)).astype(np.float32)
    layers = (Embedding("words", table), recurrent("gru", "gru", 6, 5, both=True, sequences=False))
    network = Network("n", layers, (Output("gru", "gru"),))
    model = keras.saving.deserialize_keras_object(keras_from_network(network))
    assert model.input_shape == (None, None)
    assert keras.backend.standardize_dtype(model.inputs[0].dtype) == "int32"
    model.get_layer("words").set_weights(keras_arrays(layers[0]))
    np.testing.assert_array_equal(model.get_layer("words").get_weights()[0], table)


def test_no_framework_is_imported() -> None:
    code = (
        "import sys, parity.network.keras.config, parity.files\n"
        "print([m for m in ('keras', 'tensorflow', 'torch', 'onnx', 'onnxruntime') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_names_and_weight_paths_of_nested_models() -> None:
    model = models_in_a_sequential()
    assert [layer.name for layer in read(randomize(model)).layers] == [
        "both",
        "inner/dense",
        "steps",
        "gru",
        "dense",
    ]
    paths = weight_paths(keras.saving.serialize_keras_object(model))
    assert list(paths) == ["inner/both", "inner/dense", "steps", "tanh", "gru", "dense", "classes"]
    assert paths["inner/dense"] == ("layers/sequential/layers/dense/vars",)
    assert paths["steps"] == ("layers/time_distributed/layer/vars",)


def test_groups_are_counted_over_all_layers() -> None:
    x = keras.Input((None, FEATURES))
    y = kl.Conv1D(3, 2, name="later")(kl.MultiHeadAttention(1, 2, name="attention")(x, x))
    model = keras.Model(x, kl.Dense(2, name="out")(kl.Conv1D(3, 2, name="first")(y)))
    assert weight_paths(keras.saving.serialize_keras_object(model)) == {
        "attention": tuple(
            f"layers/multi_head_attention/{part}_dense/vars" for part in ("query", "key", "value", "output")
        ),
        "later": ("layers/conv1d",),
        "first": ("layers/conv1d_1",),
        "out": ("layers/dense/vars",),
    }


def test_groups_of_keras_2_13_are_numbered_by_twos() -> None:
    """`_save_container_state` of Keras 2.13.1 and `Functional._layer_checkpoint_dependencies`, which has a layer with weights twice."""
    layers = [{"class_name": "GRU", "config": {"name": name}} for name in "abc"]
    inner = {"class_name": "Sequential", "config": {"name": "inner", "layers": layers}}
    model = {"class_name": "Sequential", "config": {"name": "m", "layers": [inner]}}
    tree = "_layer_checkpoint_dependencies"
    assert weight_paths(model, "2.13.1")["inner/c"] == (f"{tree}/sequential/{tree}/gru_4/cell/vars",)
    assert weight_paths(model, "2.14.0")["inner/c"] == (f"{tree}/sequential/{tree}/gru_2/cell/vars",)
    assert weight_paths(model, "2.15.0")["inner/c"] == ("layers/sequential/layers/gru_2/cell/vars",)


def branching() -> Any:
    x = keras.Input((None, FEATURES))
    low = kl.LSTM(4, return_sequences=True, name="low")(x)
    conv = kl.Conv1D(4, 3, padding="same", name="conv", activation="relu")(x)
    added = kl.Add(name="add")([low, kl.BatchNormalization(name="norm")(conv)])
    squeezed = kl.Dropout(0.2, name="drop")(kl.Conv1D(2, 1, name="squeeze")(added))
    return keras.Model(x, [kl.GRU(3, name="late")(squeezed), kl.Bidirectional(kl.LSTM(2), name="both")(added)])


def test_a_branching_model_is_read_in_part() -> None:
    model = randomize(branching())
    serialized = keras.saving.serialize_keras_object(model)
    network = network_from_keras(serialized, lambda path: at(model, path).get_weights(), partial=True)
    assert [(layer.name, layer.input_size) for layer in network.layers] == [("low", 6), ("late", 2), ("both", 4)]
    assert [(one.name, one.place) for one in network.opaque] == [
        ("conv", 0),
        ("norm", 1),
        ("add", 1),
        ("squeeze", 1),
        ("drop", 1),
    ]
    assert network.opaque[0].facts["filters"] == 4
    assert network.opaque[0].facts["activation"] == "relu"
    assert list(network.opaque[1].shapes) == ["gamma", "beta", "moving_mean", "moving_variance"]
    for layer in network.recurrent:
        alone = Network(layer.name, (layer,))
        x = np.random.default_rng(5).normal(size=(BATCH, TIME, layer.input_size)).astype(np.float32)
        state = State(
            *(np.zeros((len(layer.spec.directions), BATCH, layer.spec.hidden_size)) for _ in layer.spec.states)
        )
        run = alone.compute(x, {layer.name: state})[1][layer.name].run
        expected = np.asarray(model.get_layer(layer.name)(x))
        np.testing.assert_allclose(layer.given[0].of([run]), expected, rtol=0, atol=1e-5)
    with pytest.raises(UnsupportedError, match="several layers take its values"):
        read(model)


class Scaled(kl.Layer):  # type: ignore[misc]
    """A layer of somebody's own."""

    def __init__(self, factor: float = 2.0, **options: Any) -> None:
        super().__init__(**options)
        self.factor = factor

    def build(self, _: Any) -> None:
        self.offset = self.add_weight(shape=(1,), name="offset")

    def call(self, x: Any) -> Any:
        return x * self.factor + self.offset

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "factor": self.factor}


def test_a_custom_layer_is_opaque_and_a_quantity_of_its_own() -> None:
    layers = [
        keras.Input((None, FEATURES)),
        kl.LSTM(5, return_sequences=True, name="lstm"),
        Scaled(3.0, name="scaled"),
        kl.GRU(2, name="gru"),
    ]
    model = randomize(keras.Sequential(layers))
    serialized = keras.saving.serialize_keras_object(model)
    network = network_from_keras(serialized, lambda path: at(model, path).get_weights(), partial=True)
    assert [layer.name for layer in network.layers] == ["lstm", "gru"]
    (own,) = network.opaque
    assert (own.name, own.class_name, own.facts, own.place, own.shapes) == (
        "scaled",
        "Scaled",
        {"factor": 3.0},
        1,
        {"0": (1,)},
    )


def test_a_shared_layer_stands_once_in_a_partial_network() -> None:
    x = keras.Input((None, FEATURES))
    shared = kl.LSTM(FEATURES, return_sequences=True, name="shared")
    model = keras.Model(x, kl.Add(name="add")([shared(x), shared(kl.Dense(FEATURES, name="dense")(x))]))
    serialized = keras.saving.serialize_keras_object(model)
    network = network_from_keras(serialized, lambda path: at(model, path).get_weights(), partial=True)
    assert sorted(layer.name for layer in network.layers) == ["dense", "shared"]


def test_weights_that_contradict_the_configuration_are_an_error_in_part_too() -> None:
    model = branching()
    serialized = keras.saving.serialize_keras_object(model)
    with pytest.raises(ShapeError, match="layer 'late'"):
        network_from_keras(
            serialized,
            lambda path: [w[..., :-1] if path == "late" else w for w in at(model, path).get_weights()],
            partial=True,
        )


def test_models_that_call_each_other_end() -> None:
    config = keras.saving.serialize_keras_object(a_model_called_twice())
    calls = next(layer for layer in config["config"]["layers"] if layer["name"] == "inner")["inbound_nodes"]
    calls[0]["args"][0]["config"]["keras_history"] = ["inner", 1, 0]
    with pytest.raises(FormatError, match="layers take values of each other"):
        network_from_keras(config, lambda _: [])


def test_keras_builds_what_follows_unlike_units_for_the_wrong_size() -> None:
    """`Bidirectional.compute_output_shape` doubles the forward units; the layer itself gives those of both."""
    x = keras.Input((None, 3))
    backward = kl.GRU(6, go_backwards=True, return_sequences=True)
    y = kl.Bidirectional(kl.LSTM(5, return_sequences=True), backward_layer=backward, name="both")(x)
    model = keras.Model(x, kl.Dense(2, name="out")(kl.Dropout(0.5)(y)))
    with pytest.raises(ValueError, match="incompatible"):
        model(np.ones((2, 4, 3), np.float32))
    serialized = keras.saving.serialize_keras_object(model)

    def arrays(path: str) -> Any:
        return model.get_layer(path).get_weights()

    with pytest.raises(UnsupportedError, match="Keras builds the layer for the wrong size") as caught:
        network_from_keras(serialized, arrays)
    (problem,) = caught.value.problems
    assert problem.where == "layer 'out' (Dense)"
    assert (problem.expected, problem.got[:2]) == ("11 features: 5 forward and 6 backward", "10")
    network = network_from_keras(serialized, arrays, partial=True)
    assert [layer.input_size for layer in network.layers if layer.name in ("both", "out")] == [3, 10]
    assert network.problems == (problem,)
    # A Dense of the right size is none of these, and of any other size it is a damaged file.
    right = {"out": [np.ones((11, 2), np.float32), np.ones(2, np.float32)]}
    assert network_from_keras(serialized, lambda path: right.get(path) or arrays(path)).layers[-1].input_size == 11
    wrong = {"out": [np.ones((9, 2), np.float32), np.ones(2, np.float32)]}
    with pytest.raises(ShapeError, match="wrong shape"):
        network_from_keras(serialized, lambda path: wrong.get(path) or arrays(path))
