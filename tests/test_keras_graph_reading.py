"""What a graph says of the Keras model it was read from, what is refused, and models of other ages."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers as kl
from keras import ops

from parity.errors import FormatError, ParityError, ShapeError, UnsupportedError
from parity.frameworks.keras.twins import layer_at
from parity.graph import Builder, GraphInput, Wire
from parity.graph.custom import CUSTOM, register
from parity.graph.keras import graph_from_keras
from parity.graph.operations import Stub
from parity.network.keras.history import modernised
from tests.keras_graphs_cases import VOCABULARY, masked, rows, steps, tokens
from tests.keras_graphs_wiring import CASES, nested, shared
from tests.test_keras_graphs import checked, fill, graph_of, of_keras, values_for

pytestmark = pytest.mark.usefixtures("keras_in_float64")


def serialized(model: keras.Model) -> dict[str, Any]:
    """As a file has it."""
    found: dict[str, Any] = json.loads(json.dumps(keras.saving.serialize_keras_object(model)))
    return found


@keras.saving.register_keras_serializable("tests")
class AttentionWeightedAverage(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """The attention of textgenrnn."""

    def build(self, shape: Any) -> None:
        """One column of weights."""
        self.scores = self.add_weight(name="scores", shape=(shape[-1], 1))

    def call(self, x: Any) -> Any:
        """The weighted sum of the steps."""
        return ops.sum(x * ops.softmax(ops.matmul(x, self.scores), axis=1), axis=1)


# ---- faults show

WITH_WEIGHTS = ("Dense", "Einsum", "Embedding", "Conv", "Depthwise", "Separable", "Batch", "RMS", "Group", "PReLU", "LSTM", "GRU",
                "Simple", "Bidirectional", "RNN", "masks", "MultiHead", "Additive", "several", "a shared", "nested", "a trans")  # fmt: skip
WEIGHTED = [name for name in CASES if name.startswith(WITH_WEIGHTS)][::6]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", WEIGHTED)
def test_one_weight_off_shows(name: str, random: np.random.Generator) -> None:
    inputs, outputs = CASES[name]()
    model = keras.Model(inputs, outputs)
    fill(model, random)
    spoilt = random.integers(len(model.get_weights()))
    graph = graph_of(model)
    values = values_for(graph, random)
    expected = of_keras(model, values)
    weights = model.get_weights()
    weights[spoilt] = weights[spoilt] + random.normal(0.3, 0.2, weights[spoilt].shape)
    model.set_weights(weights)
    got = graph_of(model).run(values).values()
    assert any(np.nanmax(np.abs(a - b), initial=0) > 1e-4 for a, b in zip(got, expected, strict=True))


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("layer", [lambda: kl.GRU(4), kl.GlobalAveragePooling1D, lambda: kl.Bidirectional(kl.LSTM(3))])
def test_a_mask_left_out_shows(layer: Any, random: np.random.Generator) -> None:
    model = keras.Model(*masked(kl.Dense(5), layer()))
    fill(model, random)
    graph, values = checked(model, random)
    masks = [wire for wire in graph.values(values) if wire.node.endswith("_mask")]
    valid = {wire: np.ones((4, 7), np.bool_) for wire in masks}
    found = graph.values(values, given=valid)
    (output,) = graph.outputs.values()
    assert masks
    assert not np.allclose(found[output][:3], graph.values(values)[output][:3], atol=1e-3)


# ---- what it says


def test_inputs_have_names_axes_and_limits() -> None:
    t, x, image = tokens("words"), steps("x"), keras.Input((None, None, 3), name="image")
    flag, table = keras.Input((4,), name="flag", dtype="bool"), kl.Embedding(VOCABULARY, 3)
    model = keras.Model(
        [t, x, image, flag],
        [table(t), kl.Dense(2)(x), kl.Conv2D(2, 1)(image), ops.cast(flag, "float64"), kl.Embedding(5, 2)(t[:, ::2])],
    )
    assert graph_of(model).inputs == (
        GraphInput("words", ("batch", "time"), "int64", 5),
        GraphInput("x", ("batch", "x_time", 6)),
        GraphInput("image", ("batch", "height", "width", 3)),
        GraphInput("flag", ("batch", 4), "bool"),
    )


def test_every_layer_is_named_once_where_its_value_is() -> None:
    model = keras.Model(*nested())
    graph = graph_of(model)
    sources = [node.source for node in graph.nodes if node.source]
    assert sorted(sources) == sorted(set(sources))
    assert {"middle/inner/gru", "middle/inner/dense", "middle/dense", "middle/add", "dense"} <= set(sources)
    assert {"middle/inner/gru_2", "middle/add_2"} <= set(sources)


def test_values_of_sources_are_those_of_the_layers(random: np.random.Generator) -> None:
    x = steps()
    y = kl.Dense(4, activation="mish", name="bent")(x)
    z = kl.Bidirectional(kl.GRU(3, return_sequences=True), name="both")(y)
    m = kl.MultiHeadAttention(2, 3, name="heads")(z, z)
    model = keras.Model(x, kl.Add(name="sum")([z, m]))
    fill(model, random)
    graph, values = checked(model, random)
    found = graph.values(values)
    for name in ("bent", "both", "heads", "sum"):
        (node,) = [node for node in graph.nodes if node.source == name]
        inner = keras.Model(x, model.get_layer(name).output)
        np.testing.assert_allclose(found[Wire(node.name)], np.asarray(inner(values["x"])), atol=1e-6)


def test_a_shared_layer_is_one_operation() -> None:
    graph = graph_of(keras.Model(*shared()))
    encoders = [node for node in graph.nodes if node.source.startswith("encoder")]
    assert [node.name for node in encoders] == ["encoder", "encoder_2"]
    assert encoders[0].operation is encoders[1].operation


def test_outputs_are_named_after_their_layers() -> None:
    x = steps()
    y, h, c = kl.LSTM(4, return_state=True, name="lstm")(x)
    dense = kl.Dense(2, name="dense")
    model = keras.Model(x, [dense(y), h, c, dense(h), x])
    assert list(graph_of(model).outputs) == ["dense", "lstm.state_h", "lstm.state_c", "dense_2", "x"]
    named = keras.Model(x, {"b": y, "a": h})
    assert set(graph_of(named).outputs) == {"a", "b"}


def test_lengths_are_free(random: np.random.Generator) -> None:
    model = keras.Model(*on_everything())
    fill(model, random)
    graph = graph_of(model)
    for batch, time in ((1, 3), (2, 11), (5, 4)):
        x = random.normal(size=(batch, time, 6))
        np.testing.assert_allclose(graph.run({"x": x}).popitem()[1], np.asarray(model([x])), atol=1e-6)


def on_everything() -> tuple[list[Any], Any]:
    """Layers that could freeze a length."""
    x = steps()
    y = kl.Conv1D(6, 2, strides=2, padding="same")(x)
    y = kl.MultiHeadAttention(2, 3)(y, x, use_causal_mask=True)
    y = kl.TimeDistributed(kl.Reshape((2, 3)))(y)
    y = kl.TimeDistributed(kl.LSTM(4))(y)
    return [x], kl.GlobalMaxPooling1D()(kl.UpSampling1D(2)(y))


# ---- what is refused


def refused_model() -> keras.Model:
    """Several layers that are not read, around some that are."""
    x = steps("x", 5)
    y = kl.LSTM(4, return_sequences=True, name="lstm")(x)
    y = AttentionWeightedAverage(name="own")(y)
    y = kl.Lambda(lambda z: z * 2, name="code", output_shape=(4,))(y)
    y = kl.Dense(3, activation="sparsemax", name="sparse")(y)
    return keras.Model(x, kl.Dense(2, name="scores")(y))


def test_every_problem_is_told_at_once() -> None:
    with pytest.raises(UnsupportedError) as caught:
        graph_of(refused_model())
    problems = {problem.where: problem for problem in caught.value.problems}
    assert set(problems) == {
        "layer 'own' (AttentionWeightedAverage)",
        "layer 'code' (Lambda)",
        "layer 'sparse' (Dense)",
    }
    assert "parity.register" in problems["layer 'own' (AttentionWeightedAverage)"].remedy
    assert "never run" in problems["layer 'code' (Lambda)"].remedy


def test_a_part_of_a_model_has_stubs(random: np.random.Generator) -> None:
    model = refused_model()
    fill(model, random)
    graph = graph_of(model, partial=True)
    assert [(stub.name, stub.class_name) for stub in graph.stubs] == [
        ("own", "AttentionWeightedAverage"),
        ("code", "Lambda"),
        ("sparse", "Dense"),
    ]
    assert set(graph.stubs[2].weights) == {"kernel", "bias"}
    assert [node.source for node in graph.nodes] == ["lstm", "own", "code", "sparse", "scores"]
    assert len(graph.problems) == 3
    with pytest.raises(UnsupportedError, match="own"):
        graph.run({"x": np.ones((1, 2, 5))})


def test_layers_behind_a_stub_are_read() -> None:
    x = steps("x", 5)
    y = kl.Conv1DTranspose(5, 2, name="up")(x)
    y = kl.LayerNormalization(name="norm")(kl.Add(name="sum")([y, kl.Dense(5)(y)]))
    graph = graph_of(keras.Model(x, kl.GRU(3)(y)), partial=True)
    assert [stub.name for stub in graph.stubs] == ["up"]


@pytest.mark.filterwarnings("ignore:The object being serialized includes a `lambda`")
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: (steps(), kl.Conv1DTranspose(3, 2)), "this layer class is not converted"),
        (lambda: (steps(), kl.UpSampling1D(2)), ""),
        (lambda: (keras.Input((8, 8, 3)), kl.UpSampling2D(2, interpolation="bilinear")), "interpolation"),
        (lambda: (steps(), kl.Activation(lambda z: z)), "this activation is not converted"),
        (lambda: (steps(), kl.Dense(3, dtype="mixed_float16")), "dtype is not kept exactly"),
        (lambda: (keras.Input((5, 4, 6)), kl.MultiHeadAttention(2, 3)), "other axes"),
    ],
)
def test_what_is_not_kept_exactly_is_refused(make: Any, words: str) -> None:
    x, layer = make()
    model = keras.Model(x, layer(x, x) if isinstance(layer, kl.MultiHeadAttention) else layer(x))
    if not words:
        graph_of(model)
        return
    with pytest.raises(UnsupportedError, match=words):
        graph_of(model)


def test_training_mode_is_refused() -> None:
    x = steps()
    with pytest.raises(UnsupportedError, match="as in training"):
        graph_of(keras.Model(x, kl.Dropout(0.5)(x, training=True)))


def test_weights_that_do_not_fit_are_told_at_once() -> None:
    model = keras.Model(*on_two())
    with pytest.raises(ShapeError) as caught:
        graph_from_keras(serialized(model), lambda _: [np.ones((2, 7), np.float32), np.ones(3, np.float32)])
    assert {problem.where for problem in caught.value.problems} == {"layer 'one' (Dense)", "layer 'two' (Dense)"}


def on_two() -> tuple[Any, Any]:
    """Two dense layers."""
    x = rows()
    return x, kl.Dense(2, name="two")(kl.Dense(4, name="one")(x))


@pytest.mark.parametrize("fault", ["circle", "missing", "outputs"])
def test_a_damaged_configuration_is_told(fault: str) -> None:
    found = serialized(keras.Model(*on_two()))
    layers = found["config"]["layers"]
    tensor = layers[1]["inbound_nodes"][0]["args"][0]["config"]
    if fault == "outputs":
        found["config"]["output_layers"] = [["nobody", 0, 0]]
    else:
        tensor["keras_history"][0] = {"circle": "two", "missing": "nobody"}[fault]
    with pytest.raises(FormatError):
        graph_from_keras(found, lambda _: [])


def places_in(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something stands in a configuration."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from places_in(item, (*path, key))


@pytest.mark.parametrize(
    "name", ["a transformer block", "TimeDistributed model", "nested models", "several inputs and outputs"]
)
def test_any_configuration_is_read_or_refused(name: str, random: np.random.Generator) -> None:
    inputs, outputs = CASES[name]()
    model = keras.Model(inputs, outputs)
    weights = {name: layer.get_weights() for name, layer in paths_of(model)}
    text = json.dumps(keras.saving.serialize_keras_object(model))
    places = list(places_in(json.loads(text)["config"]["layers"]))
    odd = [None, -1, 0, 3, 1.5, "odd", [], [None], [[1]], {}, {"class_name": "x"}, True, [3, "a"]]
    for place in random.choice(len(places), 60):
        found = json.loads(text)
        at = found["config"]["layers"]
        *above, last = places[place]
        for key in above:
            at = at[key]
        at[last] = odd[random.integers(len(odd))]
        for partial in (False, True):
            with contextlib.suppress(ParityError, KeyError, TypeError):
                graph_from_keras(found, lambda path: weights.get(path, []), partial=partial)


def paths_of(model: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """The layers of a model and of those in it, by path."""
    for layer in model.layers:
        yield f"{above}{layer.name}", layer
        if isinstance(layer, keras.Model):
            yield from paths_of(layer, f"{above}{layer.name}/")


# ---- layers of one's own


def test_a_registered_class_is_read(random: np.random.Generator) -> None:
    @register("AttentionWeightedAverage")
    def attention(
        build: Builder, config: dict[str, Any], weights: list[Any], x: Wire, mask: Wire | None = None
    ) -> Wire:
        assert config["name"] == "own"
        assert mask is not None
        scores = build.weight("scores", weights[0])
        return build.sum(build.multiply(x, build.softmax(build.matmul(x, scores), axis=1)), axis=1)

    try:
        t = tokens()
        y = kl.Embedding(VOCABULARY, 5, mask_zero=True)(t)
        with pytest.warns(UserWarning, match="destroy the mask"):
            model = keras.Model(t, kl.Dense(3)(AttentionWeightedAverage(name="own")(y)))
        fill(model, random)
        with pytest.warns(UserWarning, match="destroy the mask"):
            checked(model, random)
        (node,) = [node for node in graph_of(model).nodes if node.source == "own"]
        assert not isinstance(node.operation, Stub)
    finally:
        del CUSTOM["AttentionWeightedAverage"]


# ---- other ages and layouts


def layer_of(class_name: str, name: str, inputs: list[list[Any]], **config: Any) -> dict[str, Any]:
    """A layer as Keras 2 writes it in a functional model."""
    return {"class_name": class_name, "name": name, "config": {"name": name, **config}, "inbound_nodes": inputs}


def old_model() -> dict[str, Any]:
    """A functional model of Keras 2.2."""
    layers = [
        layer_of("InputLayer", "t", [], batch_input_shape=[None, None], dtype="int32", sparse=False),
        layer_of("Embedding", "table", [[["t", 0, 0, {}]]], input_dim=9, output_dim=5, mask_zero=True, input_length=None),
        layer_of("LSTM", "lstm", [[["table", 0, 0, {}]]], units=4, return_sequences=True, return_state=True,
                 activation="tanh", recurrent_activation="hard_sigmoid", use_bias=True),
        layer_of("GRU", "gru", [[["table", 0, 0, {}], ["lstm", 0, 1, {}]]], units=4, return_sequences=True,
                 activation="tanh", recurrent_activation="sigmoid", reset_after=False),
        layer_of("Multiply", "product", [[["lstm", 0, 0, {}], ["gru", 0, 0, {}]]]),
        layer_of("LeakyReLU", "leaky", [[["product", 0, 0, {}]]], alpha=0.25),
        layer_of("BatchNormalization", "norm", [[["leaky", 0, 0, {}]]], axis=[2], epsilon=0.001, momentum=0.99),
        layer_of("GlobalAveragePooling1D", "mean", [[["norm", 0, 0, {}]]], data_format="channels_last"),
    ]  # fmt: skip
    config = {"name": "old", "layers": layers, "input_layers": [["t", 0, 0]], "output_layers": [["mean", 0, 0]]}
    return {"class_name": "Model", "config": config, "keras_version": "2.2.4"}


def test_a_functional_model_of_keras_2(random: np.random.Generator) -> None:
    sizes: dict[str, Any] = {
        "table": [(9, 5)],
        "lstm": [(5, 16), (4, 16), (16,)],
        "gru": [(5, 12), (4, 12), (12,)],
        "norm": [(4,)] * 4,
    }
    weights = {
        name: [np.abs(random.normal(0, 0.5, size)).astype(np.float32) for size in own] for name, own in sizes.items()
    }
    graph = graph_from_keras(
        modernised(old_model(), "2.2.4"), lambda path: weights.get(path, []), hard_sigmoid_of_keras_2=True
    )
    assert graph.details == {"hard_sigmoid": "0.2 x + 0.5, as Keras 2 means it"}
    values = values_for(graph, random)
    t = values["t"][:3]
    valid = t != 0
    x = weights["table"][0][t].astype(np.float64)
    lstm = kl.LSTM(
        4, return_sequences=True, return_state=True, recurrent_activation=lambda z: ops.clip(0.2 * z + 0.5, 0, 1)
    )
    gru = kl.GRU(4, return_sequences=True, reset_after=False)
    for layer, name in ((lstm, "lstm"), (gru, "gru")):
        layer.build(x.shape)
        layer.set_weights(weights[name])
    y, h, _ = lstm(x, mask=valid)
    product = np.asarray(y) * np.asarray(gru(x, initial_state=h, mask=valid))
    gamma, beta, mean, variance = weights["norm"]
    normal = (np.where(product > 0, product, 0.25 * product) - mean) / np.sqrt(variance + 0.001) * gamma + beta
    expected = (normal * valid[..., None]).sum(1) / valid.sum(1)[:, None]
    np.testing.assert_allclose(graph.run({"t": t})["mean"], expected, atol=2e-6)


def test_words_of_keras_1(random: np.random.Generator) -> None:
    layers = [
        {"class_name": "Convolution1D", "config": {
            "name": "conv", "nb_filter": 4, "filter_length": 3, "subsample_length": 1, "border_mode": "same", "bias": True,
            "activation": "relu", "init": "uniform", "batch_input_shape": [None, None, 5], "input_dtype": "float32",
            "W_regularizer": None, "trainable": True}},
        {"class_name": "MaxPooling1D", "config": {
            "name": "pool", "pool_length": 2, "stride": 2, "border_mode": "valid", "trainable": True}},
        {"class_name": "Dense", "config": {"name": "scores", "output_dim": 2, "activation": "linear", "bias": True}},
    ]  # fmt: skip
    weights = {
        "conv": [random.normal(size=(3, 1, 5, 4)).astype(np.float32), random.normal(size=4).astype(np.float32)],
        "scores": [random.normal(size=(4, 2)).astype(np.float32), random.normal(size=2).astype(np.float32)],
    }
    described = modernised({"class_name": "Sequential", "config": layers}, "1.2.2")
    graph = graph_from_keras(described, lambda path: weights.get(path, []), hard_sigmoid_of_keras_2=True)
    today = keras.Sequential([keras.Input((None, 5)), kl.Conv1D(4, 3, padding="same", activation="relu"),
                              kl.MaxPooling1D(2), kl.Dense(2)])  # fmt: skip
    today.set_weights([weights["conv"][0][:, 0], weights["conv"][1], *weights["scores"]])
    x = random.normal(size=(2, 9, 5))
    np.testing.assert_allclose(graph.run({"conv_input": x})["scores"], np.asarray(today(x)), atol=1e-6)


def test_channels_first(random: np.random.Generator) -> None:
    x = keras.Input((None, 5), name="x")
    layers = [kl.Conv1D(4, 3, padding="same", name="conv"), kl.MaxPooling1D(2, name="pool")]
    model = keras.Model(x, layers[1](layers[0](x)))
    fill(model, random)
    other = serialized(model)
    for layer in other["config"]["layers"][1:]:
        layer["config"]["data_format"] = "channels_first"
    other["config"]["layers"][0]["config"]["batch_shape"] = [None, 5, None]
    graph = graph_from_keras(other, lambda path: layer_at(model, path).get_weights())
    values = random.normal(size=(3, 8, 5))
    (got,) = graph.run({"x": values.transpose(0, 2, 1)}).values()
    np.testing.assert_allclose(got.transpose(0, 2, 1), np.asarray(model(values)), atol=1e-9)
