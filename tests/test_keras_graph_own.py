"""Masks given in calls, known lengths, and classes that Keras does not know: read exactly, or refused in words that say whose they are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers as kl
from keras import ops

import parity
from parity.errors import UnsupportedError
from parity.graph.custom import CUSTOM, register
from parity.network.keras.cells import WRITTEN_CLASSES
from tests.keras_graphs_cases import VOCABULARY, steps, tokens
from tests.test_keras_graphs import checked, fill, graph_of

pytestmark = [pytest.mark.usefixtures("keras_in_float64"), pytest.mark.filterwarnings("ignore")]


@pytest.mark.parametrize("layer", [kl.Add, kl.Subtract, kl.Maximum, kl.Minimum, kl.Multiply, kl.Concatenate])
def test_two_masks_into_one(layer: Any, random: np.random.Generator) -> None:
    t, x = tokens(), keras.Input((None, 5), name="gaps")
    y = layer()([kl.Embedding(VOCABULARY, 5, mask_zero=True)(t), kl.Masking(0.5)(x)])
    model = keras.Model([t, x], kl.LSTM(4)(y))
    fill(model, random)
    _, values = checked(model, random)
    found = parity.run(model, values, engine="reference").outputs
    expected = np.asarray(model([values[one.name] for one in model.inputs]))
    np.testing.assert_allclose(next(iter(found.values())), expected, atol=1e-6)


@pytest.mark.parametrize("attention", [kl.Attention, kl.AdditiveAttention])
def test_the_mask_that_an_attention_hands_on(attention: Any, random: np.random.Generator) -> None:
    t = tokens()
    x = kl.Embedding(VOCABULARY, 5, mask_zero=True)(t)
    model = keras.Model(t, kl.LSTM(4)(attention()([x, x])))
    fill(model, random)
    checked(model, random)


@pytest.mark.parametrize("size", [3, 6, 1009 * 3])
def test_a_known_length_is_split(size: int, random: np.random.Generator) -> None:
    x = steps(features=size)
    inner = keras.Model(x, ops.split(x, 3, axis=-1))
    y = steps("y", size)
    for model in (inner, keras.Model(y, inner(y))):
        checked(model, random)


def test_an_unknown_length_is_not_split() -> None:
    x = steps()
    with pytest.raises(UnsupportedError, match="differs from call to call"):
        graph_of(keras.Model(x, ops.split(x, 3, axis=0)))


@pytest.mark.parametrize("dtype", ["bool", "float64"])
@pytest.mark.parametrize("axes", [(), (1,), (6,)])
def test_a_softmax_with_a_mask(axes: tuple[int, ...], dtype: str, random: np.random.Generator) -> None:
    x, valid = keras.Input((7, *(6 for _ in axes)), name="x"), keras.Input((7, *axes), name="valid", dtype=dtype)
    checked(keras.Model([x, valid], kl.Softmax()(x, mask=valid)), random)


def test_a_mask_of_steps_is_none_for_softmax() -> None:
    t = tokens()
    model = keras.Model(t, kl.Softmax()(kl.Embedding(VOCABULARY, 6, mask_zero=True)(t)))
    with pytest.raises(ValueError, match="broadcastable"):
        model(np.ones((4, 7), np.int32))
    with pytest.raises(UnsupportedError, match="Keras takes a mask of Softmax only where"):
        graph_of(model)


def test_masks_of_numbers(random: np.random.Generator) -> None:
    x, valid = steps(), keras.Input((None,), name="gaps")
    model = keras.Model([x, valid], kl.LSTM(4)(x, mask=ops.relu(valid)))
    fill(model, random)
    checked(model, random)
    pooled = keras.Model([x, valid], kl.GlobalAveragePooling1D()(x, mask=valid))
    with pytest.raises(UnsupportedError, match="a mask of numbers"):
        graph_of(pooled)


# ---- classes that Keras does not know


@keras.saving.register_keras_serializable(package="mine")
class Squash(kl.Layer):  # type: ignore[misc]  # Keras has no types
    """A layer of somebody's own."""

    def call(self, x: Any) -> Any:
        """A function that is no layer."""
        return x / (1 + ops.abs(x))


@pytest.fixture
def squashed() -> Iterator[keras.Model]:
    """A model with the layer; what is registered for it goes afterwards."""
    x = steps()
    yield keras.Model(x, kl.Dense(3)(Squash(name="squash")(x)))
    CUSTOM.pop("Squash", None)


def test_a_class_without_a_module(squashed: keras.Model) -> None:
    serialized = keras.saving.serialize_keras_object(squashed)
    for layer in serialized["config"]["layers"]:
        layer["module"] = "" if layer["class_name"] == "Squash" else layer["module"]
    from parity.graph.keras import graph_from_keras

    with pytest.raises(UnsupportedError, match=r"got: +Squash, registered as mine>Squash\n") as found:
        graph_from_keras(serialized, lambda _: [])
    assert "parity.register" in str(found.value)


@pytest.mark.parametrize("error", [TypeError, KeyError, ZeroDivisionError, parity.ShapeError])
def test_a_registered_function_that_raises(error: type[Exception], squashed: keras.Model, tmp_path: Any) -> None:
    def wrong(*_: Any) -> None:
        raise error("oh no")

    register("Squash", wrong)
    squashed.save(tmp_path / "m.keras")
    for read in (lambda: graph_of(squashed), lambda: parity.run(tmp_path / "m.keras", np.ones((2, 4, 6), "f"))):
        with pytest.raises(UnsupportedError) as found:
            read()
        (problem,) = [one for one in found.value.problems if "registered" in one.what]
        assert "raised an error" in problem.what
        assert "'squash' (Squash)" in problem.where
        assert error.__name__ in problem.got
        assert "oh no" in problem.got
        assert "parity.register has for 'Squash'" in problem.remedy


@pytest.mark.parametrize("value", [None, 3, "x", parity.graph.Wire("nowhere")])
def test_a_registered_function_that_gives_no_value(value: Any, squashed: keras.Model) -> None:
    register("Squash", lambda *_: value)
    with pytest.raises(UnsupportedError, match="gives no value of the graph") as found:
        graph_of(squashed)
    assert len(found.value.problems) == 1


def test_classes_of_written_code_say_where_to_go() -> None:
    folder = files("parity.graph.keras_code.snippets")
    texts = [one.read_text("utf-8") for one in folder.iterdir() if one.name.endswith(".py")]
    assert sorted(WRITTEN_CLASSES) == sorted(name for text in texts for name in re.findall(r"^class (\w+)", text, re.M))
    for name in WRITTEN_CLASSES:
        own = type(name, (Squash,), {})
        keras.saving.register_keras_serializable(package="model")(own)
        x = steps()
        with pytest.raises(UnsupportedError, match="give parity the model that the code was converted from"):
            graph_of(keras.Model(x, own()(x)))
