"""Whole Keras models as graphs, in float64, against Keras itself."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from parity.frameworks.keras.twins import layer_at
from parity.graph import Graph
from parity.graph.keras import graph_from_keras
from tests.keras_graphs_cases import VOCABULARY
from tests.keras_graphs_wiring import CASES

BATCH, TIME = 4, 7
LENGTHS = {"batch": BATCH, "time": TIME, "height": 8, "width": 9, "length": 5}
ROUNDED = 2e-7
"""Constants of formulas are float32, as Keras has them in a float32 model."""


pytestmark = pytest.mark.usefixtures("keras_in_float64")


def fill(model: keras.Model, random: np.random.Generator) -> None:
    """Random numbers for every weight, moving averages among them."""
    for weight in model.weights:
        if str(weight.dtype).startswith("float"):
            value = random.normal(0, 0.5, weight.shape)
            weight.assign(np.abs(value) + 0.3 if "variance" in weight.path else value)
    for layer in model.layers:
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()


def graph_of(model: keras.Model, **options: Any) -> Graph:
    """The graph of a live model."""
    serialized = keras.saving.serialize_keras_object(model)
    return graph_from_keras(serialized, lambda path: layer_at(model, path).get_weights(), **options)


def values_for(graph: Graph, random: np.random.Generator) -> dict[str, np.ndarray]:
    """Inputs of a graph: integers with padding behind, before, between and everywhere; floats called "gaps" with such steps."""
    found = {}
    for given in graph.inputs:
        shape = tuple(LENGTHS.get(n, TIME) if isinstance(n, str) else n for n in given.shape)
        value: Any
        if given.dtype == "int64":
            value = random.integers(1, VOCABULARY, shape)
        elif given.dtype == "bool":
            value = random.random(shape) < 0.7
        else:
            value = random.normal(size=shape)
        if given.dtype == "int64" or given.name == "gaps":
            gap: Any = 0 if given.dtype == "int64" else random.choice([0.0, 0.5])
            value[0, 5:], value[1, :2], value[2, 3:5], value[3] = gap, gap, gap, gap
        found[given.name] = value
    return found


def flat(outputs: Any) -> list[np.ndarray]:
    """What Keras gives, in order."""
    return [np.asarray(keras.ops.convert_to_numpy(one)) for one in keras.tree.flatten(outputs)]


def of_keras(model: keras.Model, values: dict[str, np.ndarray]) -> list[np.ndarray]:
    """What Keras computes, in order; a dict in the order of its names."""
    given = [values[one.name] for one in model.inputs]
    outputs = model(given if isinstance(model.input, list) else given[0])
    return [value for key in outputs for value in flat(outputs[key])] if isinstance(outputs, dict) else flat(outputs)


def checked(model: keras.Model, random: np.random.Generator, **options: Any) -> tuple[Graph, dict[str, np.ndarray]]:
    """The graph of a model that gives the same as the model."""
    graph = graph_of(model, **options)
    values = values_for(graph, random)
    expected, got = of_keras(model, values), graph.run(values)
    assert len(expected) == len(got)
    for (name, own), wanted in zip(got.items(), expected, strict=True):
        assert own.shape == wanted.shape, name
        np.testing.assert_allclose(own, wanted, rtol=ROUNDED, atol=ROUNDED, err_msg=name)
    return graph, values


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CASES)
def test_the_graph_computes_what_keras_does(name: str, random: np.random.Generator) -> None:
    inputs, outputs = CASES[name]()
    model = keras.Model(inputs, outputs)
    fill(model, random)
    graph, values = checked(model, random)
    shapes = graph.shapes({word: LENGTHS.get(word, TIME) for word in graph.words})
    for wire, value in graph.values(values).items():
        assert shapes[wire] == value.shape
