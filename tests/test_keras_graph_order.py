"""The order in which Keras runs the layers of a model, which decides what masks they see, against Keras itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import permutations
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers as kl
from keras import ops

from parity.graph.keras.attention import READERS
from parity.graph.keras.call import Call, Outputs
from parity.graph.keras.layers import LAYERS
from tests.keras_graphs_cases import VOCABULARY, steps, tokens
from tests.test_keras_graphs import checked, fill, graph_of, of_keras, values_for

pytestmark = [pytest.mark.usefixtures("keras_in_float64"), pytest.mark.filterwarnings("ignore")]


def heads() -> kl.MultiHeadAttention:
    """A layer that takes the masks off what it is given."""
    return kl.MultiHeadAttention(2, 3)


def table(t: Any) -> Any:
    """Values with a mask."""
    return kl.Embedding(VOCABULARY, 4, mask_zero=True)(t)


def both(model: keras.Model, random: np.random.Generator) -> None:
    """The live model, and the one that is made of its configuration."""
    fill(model, random)
    checked(model, random)
    again = keras.Model.from_config(model.get_config())
    again.set_weights(model.get_weights())
    checked(again, random)


def siblings(x: Any) -> list[Callable[[], Any]]:
    """Layers side by side on one masked tensor; some further from the outputs than others."""
    return [
        lambda: heads()(x, x),
        lambda: kl.Attention()([x, x]),
        lambda: kl.Dense(2)(heads()(x, kl.Dense(4)(x))),
        lambda: kl.GRU(3)(x),
    ]


@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
def test_siblings_see_the_masks_that_keras_leaves_them(order: tuple[int, ...], random: np.random.Generator) -> None:
    t = tokens()
    made = siblings(table(t))
    both(keras.Model(t, [made[place]() for place in (*order, 3)]), random)


@pytest.mark.parametrize("order", list(permutations(range(4)))[::3], ids=str)
def test_outputs_in_another_order_than_the_calls(order: tuple[int, ...], random: np.random.Generator) -> None:
    t = tokens()
    given = [make() for make in siblings(table(t))]
    both(keras.Model(t, [given[place] for place in order]), random)


def test_the_order_of_the_configuration_would_show(
    random: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    t = tokens()
    x = table(t)
    model = keras.Model(t, [heads()(x, x), kl.Attention()([x, x])])
    fill(model, random)
    checked(model, random)
    monkeypatch.setattr("parity.network.keras.flat.running_order", lambda *_: [])
    graph = graph_of(model)
    values = values_for(graph, random)
    pairs = zip(of_keras(model, values), graph.run(values).values(), strict=True)
    assert max(np.abs(wanted - got).max() for wanted, got in pairs) > 1e-3


@pytest.mark.parametrize("inside", ["masked", "shared", "twice"])
def test_a_model_inside_runs_as_one(inside: str, random: np.random.Generator) -> None:
    z = steps("z", 4)
    own = heads()
    inner = keras.Model(z, [own(z, z), kl.Attention()([z, z]), own(kl.Dense(4)(z), z)], name="inner")
    t = tokens()
    x = table(t)
    y = kl.Dense(4)(x)
    given = [*inner(x), kl.Attention()([x, x]), *(inner(y) if inside == "twice" else [])]
    if inside == "shared":
        layer = heads()
        given += [layer(y, x), layer(kl.Dense(4)(y), y), kl.Attention()([y, x])]
    both(keras.Model(t, given[::-1]), random)


def with_mask_inside(layer: Any) -> keras.Model:
    """A masked value for a model that begins with a layer whose call knows no mask."""
    z = steps("z", 4)
    inner = keras.Model(z, kl.LSTM(4, return_sequences=True)(layer(z)), name="inner")
    t = tokens()
    y = inner(table(t))
    return keras.Model(t, [kl.GRU(3)(y), kl.Attention()([y, y])])


@pytest.mark.parametrize("name", ["LayerNormalization", "Conv1D", "Dense", "Copy", "ConvertToTensor", "Cast", "linear"])
def test_a_mask_for_a_model_inside(name: str, random: np.random.Generator) -> None:
    layers: dict[str, Any] = {
        "LayerNormalization": kl.LayerNormalization(),
        "Conv1D": kl.Conv1D(4, 3, padding="same"),
        "Dense": kl.Dense(4),
        "Copy": ops.copy,
        "ConvertToTensor": ops.convert_to_tensor,
        "Cast": lambda x: ops.cast(x, "float64"),
        "linear": kl.Activation("linear"),
    }
    both(with_mask_inside(layers[name]), random)


@pytest.mark.parametrize("name", ["copy", "convert_to_tensor", "cast", "stop_gradient", "linear"])
def test_which_operations_hand_on_the_very_tensor(name: str, random: np.random.Generator) -> None:
    """What copies has no mask; the others give back what they take, so that an attention on it takes the mask off both."""
    functions: dict[str, Callable[[Any], Any]] = {
        "copy": ops.copy,
        "convert_to_tensor": ops.convert_to_tensor,
        "cast": lambda x: ops.cast(x, "float64"),
        "stop_gradient": ops.stop_gradient,
        "linear": kl.Activation("linear"),
    }
    t = tokens()
    x = table(t)
    y = functions[name](x)
    both(keras.Model(t, [kl.Attention()([y, y]), heads()(y, y), kl.Attention()([x, x])]), random)


@pytest.mark.parametrize("layer", [kl.Add, kl.Subtract, kl.Maximum, kl.Multiply, kl.Concatenate])
@pytest.mark.parametrize("with_masks", [False, True])
def test_a_model_inside_with_several_inputs(layer: Any, with_masks: bool, random: np.random.Generator) -> None:
    a, b = steps("a", 4), steps("b", 4)
    inner = keras.Model([a, b], layer()([a, b]), name="inner")
    i = tokens() if with_masks else steps("i", 4)
    x = table(i) if with_masks else i
    both(keras.Model(i, kl.LSTM(3)(inner([x, kl.Conv1D(4, 1)(x)]))), random)


def test_that_masks_are_taken_off_matters(random: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant whose attention leaves the masks where they are."""
    read = READERS["MultiHeadAttention"].read

    def keeping(call: Call) -> Outputs:
        masks = [(tensor, tensor.mask) for name in ("query", "value", "key") for tensor in call.tensors(name)]
        found = read(call)
        for tensor, mask in masks:
            tensor.kept.mask = mask
        return found

    t = tokens()
    x = table(t)
    model = keras.Model(t, [kl.Attention()([x, x]), heads()(x, x)])
    fill(model, random)
    own = replace(READERS["MultiHeadAttention"], read=keeping)
    monkeypatch.setitem(LAYERS, "MultiHeadAttention", own)
    graph = graph_of(model)
    values = values_for(graph, random)
    pairs = zip(of_keras(model, values), graph.run(values).values(), strict=True)
    assert max(np.abs(wanted - got).max() for wanted, got in pairs) > 1e-3
