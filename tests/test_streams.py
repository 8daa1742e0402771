"""A sequence fed in chunks, the state handed on, is the whole sequence: in every engine, for stateful Keras layers and plain torch."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import keras
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import parity
from parity.floor import Floor, measure
from parity.judge import LIMIT
from parity.recurrent import Array
from parity.result import LayerRun, Result, State, check_states

BATCH, TIME, FEATURES, UNITS, OTHER = 3, 11, 4, 6, 7
CUTS = (0, 4, 5, 11)
"""Chunks of four, one and six steps."""

ENGINES = ("keras", "torch", "onnxruntime", "reference")


def uniform(random: np.random.Generator, *shape: int) -> Array:
    values: Array = random.uniform(0.1, 0.6, shape) * random.choice([-1.0, 1.0], shape)
    return values.astype(np.float32)


def filled(source: Any, random: np.random.Generator) -> Any:
    """Random weights and biases."""
    if isinstance(source, torch.nn.Module):
        with torch.no_grad():
            for parameter in source.parameters():
                parameter.copy_(torch.from_numpy(uniform(random, *parameter.shape)))
        return source.eval()
    source.set_weights([uniform(random, *weight.shape) for weight in source.get_weights()])
    return source


def built(layer: Any, random: np.random.Generator) -> Any:
    layer.build((BATCH, None, FEATURES))
    return filled(layer, random)


def onnx_node(op: str, rows: int, random: np.random.Generator, **attributes: Any) -> Any:
    weights = {"W": uniform(random, 1, rows * UNITS, FEATURES), "R": uniform(random, 1, rows * UNITS, UNITS)}
    weights |= {"B": uniform(random, 1, 2 * rows * UNITS)}
    peepholes = op == "LSTM"
    if peepholes:
        weights["P"] = uniform(random, 1, 3 * UNITS)
    inputs = ["X", "W", "R", "B", "", "", "", "P"] if peepholes else ["X", "W", "R", "B"]
    node = helper.make_node(op, inputs, ["Y"], hidden_size=UNITS, **attributes)
    x = helper.make_tensor_value_info("X", TensorProto.FLOAT, ["time", "batch", FEATURES])
    y = helper.make_tensor_value_info("Y", TensorProto.FLOAT, ["time", 1, "batch", UNITS])
    graph = helper.make_graph([node], "stream", [x], [y], [numpy_helper.from_array(a, n) for n, a in weights.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model


SOURCES: dict[str, Callable[[np.random.Generator], Any]] = {
    "keras LSTM": lambda random: built(keras.layers.LSTM(UNITS, return_sequences=True), random),
    "keras GRU": lambda random: built(keras.layers.GRU(UNITS, return_sequences=True), random),
    "keras GRU before": lambda random: built(keras.layers.GRU(UNITS, return_sequences=True, reset_after=False), random),
    "keras SimpleRNN": lambda random: built(keras.layers.SimpleRNN(UNITS, return_sequences=True), random),
    "keras backwards": lambda random: built(keras.layers.LSTM(UNITS, return_sequences=True, go_backwards=True), random),
    "keras cells": lambda random: built(
        keras.layers.RNN([keras.layers.LSTMCell(UNITS), keras.layers.GRUCell(OTHER)], return_sequences=True), random
    ),
    "torch LSTM": lambda random: filled(torch.nn.LSTM(FEATURES, UNITS), random),
    "torch stack": lambda random: filled(torch.nn.GRU(FEATURES, UNITS, num_layers=2, batch_first=True), random),
    "torch projection": lambda random: filled(torch.nn.LSTM(FEATURES, UNITS, proj_size=2), random),
    "torch relu": lambda random: filled(torch.nn.RNN(FEATURES, UNITS, nonlinearity="relu"), random),
    "onnx peepholes": lambda random: onnx_node("LSTM", 4, random),
    "onnx reverse": lambda random: onnx_node("GRU", 3, random, direction="reverse"),
}


@dataclass(frozen=True, eq=False)
class Stream:
    """A source with the whole sequence, and where it starts."""

    source: Any
    inputs: Array
    states: dict[str, State]
    floor: Floor
    mask: Array | None = None

    @property
    def chunks(self) -> list[slice]:
        """In the order in which the layer takes them: one that runs backward takes the last steps first."""
        found = [slice(start, stop) for start, stop in pairwise(CUTS)]
        backward = self.layers[0].spec.directions == ("backward",)
        return found[::-1] if backward else found

    @property
    def layers(self) -> Any:
        return parity.read(self.source).recurrent


def stream(name: str, masked: bool = False) -> Stream:
    random = np.random.default_rng(5)
    source = SOURCES[name](random)
    inputs = uniform(random, BATCH, TIME, FEATURES) * 2
    network = parity.read(source)
    given = {
        spec_name: State(*(uniform(random, *spec.state_shape(state, BATCH)) for state in spec.states))
        for spec_name, spec in network.specs.items()
    }
    mask = random.random((BATCH, TIME)) < 0.7 if masked else None
    if mask is not None:
        mask[:, CUTS[:-1]] = True  # every chunk has a valid step of every sample
    floor = measure(network, inputs, check_states(network.specs, given, BATCH, "float64"), mask=mask)
    return Stream(source, inputs, given, floor, mask)


def fed(case: Stream, engine: str, handed_on: bool = True) -> Result:
    """The whole sequence in chunks; the sequences joined, the final states of the last chunk."""
    states, sequences, result = case.states, {}, None
    for part in case.chunks:
        mask = None if case.mask is None else case.mask[:, part]
        result = parity.run(case.source, case.inputs[:, part], engine, initial_state=states, mask=mask)
        if handed_on:
            states = {name: run.final for name, run in result.layers.items()}
        sequences[part.start] = result.sequence
    assert result is not None
    whole = np.concatenate([sequences[start] for start in sorted(sequences)], axis=1)
    *others, (name, last) = result.layers.items()
    joined = LayerRun(last.final, whole[:, :, None])
    return Result(engine, {}, {**dict(others), name: joined})


def floors_off(case: Stream, result: Result, valid_only: bool = False) -> float:
    """The largest difference from the whole sequence in one piece, in floors."""
    prefix = "" if len(case.layers) == 1 else f"{case.layers[-1].name}."
    band = case.floor.bands[f"{prefix}sequence"]
    error = np.abs(result.sequence[:, :, None] - band.reference) / np.maximum(band.floor, np.finfo(float).tiny)
    if valid_only and case.mask is not None:
        error = error[case.mask]
    worst = [float(error.max())]
    for name, run in result.layers.items():
        own = "" if len(case.layers) == 1 else f"{name}."
        for key, array in zip(("h_n", "c_n"), run.final.arrays(), strict=False):
            state = case.floor.bands[f"{own}{key}"]
            worst.append(float((np.abs(array - state.reference) / state.floor).max()))
    return max(worst)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", SOURCES)
def test_chunks_are_the_whole(name: str, engine: str) -> None:
    case = stream(name)
    assert floors_off(case, fed(case, engine)) <= LIMIT


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ["keras LSTM", "torch LSTM", "onnx reverse"])
def test_a_dropped_state_is_caught(name: str, engine: str) -> None:
    case = stream(name)
    assert floors_off(case, fed(case, engine, handed_on=False)) > 100 * LIMIT


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ["keras LSTM", "keras GRU before", "keras backwards", "torch LSTM", "onnx peepholes"])
def test_chunks_with_a_mask_are_the_whole(name: str, engine: str) -> None:
    """What stands at masked steps is each framework's convention; the valid ones and the states are the layer's."""
    case = stream(name, masked=True)
    assert case.mask is not None
    assert not case.mask.all()
    assert floors_off(case, fed(case, engine), valid_only=True) <= LIMIT


@pytest.mark.parametrize("engine", ENGINES)
def test_a_chunk_without_any_valid_step(engine: str) -> None:
    """It keeps the state, but in ONNX Runtime, whose nodes forget the state of a sample of no length."""
    case = stream("keras LSTM")
    nothing = np.array([[True, True], [False, False], [True, False]])
    result = parity.run(case.source, case.inputs[:, :2], engine, initial_state=case.states, mask=nothing)
    ((name, run),) = result.layers.items()
    kept = np.zeros_like(case.states[name].h[:, 1]) if engine == "onnxruntime" else case.states[name].h[:, 1]
    assert np.array_equal(run.final.h[:, 1].astype(np.float32), kept)


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="jax is not installed")
@pytest.mark.parametrize("engine", ["keras:torch", "keras:jax"])
def test_chunks_in_other_backends_of_keras(engine: str) -> None:
    case = stream("keras LSTM")
    assert floors_off(case, fed(case, engine)) <= LIMIT


# ---- the frameworks' own streams, called directly


def whole_and_stateful(layer_class: Any, **options: Any) -> tuple[Array, Array, Stream]:
    """What a stateful layer gives chunk by chunk, called directly, and after a reset once more."""
    random = np.random.default_rng(5)
    layer = built(layer_class(UNITS, return_sequences=True, stateful=True, **options), random)
    inputs = uniform(random, BATCH, TIME, FEATURES)
    network = parity.read(layer)
    floor = measure(network, inputs, check_states(network.specs, None, BATCH, "float64"))
    case = Stream(layer, inputs, {}, floor)
    chunks = [inputs[:, part] for part in case.chunks]
    first = np.concatenate([np.asarray(layer(chunk)) for chunk in chunks], axis=1)
    layer.reset_state()
    again = np.concatenate([np.asarray(layer(chunk)) for chunk in chunks], axis=1)
    return first, again, case


@pytest.mark.parametrize(
    ("layer_class", "options"),
    [
        (keras.layers.LSTM, {}),
        (keras.layers.GRU, {}),
        (keras.layers.GRU, {"reset_after": False}),
        (keras.layers.SimpleRNN, {}),
    ],
)
def test_a_stateful_keras_layer_is_the_whole(layer_class: Any, options: dict[str, Any]) -> None:
    """Whatever it carries when it is read, the description starts from zero and the state is the caller's to hand on."""
    first, again, case = whole_and_stateful(layer_class, **options)
    band = case.floor.bands["sequence"]
    assert np.abs((first[:, :, None] - band.reference) / band.floor).max() <= LIMIT
    assert np.array_equal(first, again)
    dropped = np.concatenate([_fresh(case.source, case.inputs[:, part]) for part in case.chunks], axis=1)
    assert np.abs((dropped[:, :, None] - band.reference) / band.floor).max() > 100 * LIMIT


def _fresh(layer: Any, chunk: Array) -> Array:
    layer.reset_state()
    return np.asarray(layer(chunk))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_stateful_keras_layer_is_the_whole_in_every_engine(engine: str) -> None:
    *_, case = whole_and_stateful(keras.layers.LSTM)
    assert floors_off(case, fed(_from_zero(case), engine)) <= LIMIT


def _from_zero(case: Stream) -> Stream:
    zero = check_states(parity.read(case.source).specs, None, BATCH)
    return Stream(case.source, case.inputs, zero, case.floor)


def torch_chunks(module: Any, inputs: Array, handed_on: bool) -> Iterator[tuple[Array, Any]]:
    state = None
    for start, stop in pairwise(CUTS):
        with torch.no_grad():
            output, found = module(torch.from_numpy(inputs[:, start:stop]), state)
        state = found if handed_on else None
        yield output.numpy(), found


@pytest.mark.parametrize(
    "source", ["torch stack", "keras LSTM", "keras GRU before", "keras SimpleRNN", "onnx peepholes"]
)
def test_a_module_of_torch_is_fed_in_chunks(source: str) -> None:
    """Called directly, module(chunk, state): one of torch, a conversion to it, and a composition alike."""
    random = np.random.default_rng(5)
    live = SOURCES[source](random)
    network = parity.read(live)
    inputs = uniform(random, BATCH, TIME, FEATURES)
    bands = measure(network, inputs, check_states(network.specs, None, BATCH, "float64")).bands
    floor = next(band for name, band in reversed(bands.items()) if name.endswith("sequence"))
    module = live if isinstance(live, torch.nn.Module) else parity.to_torch(live)
    for handed_on in (True, False):
        whole = np.concatenate([output for output, _ in torch_chunks(module, inputs, handed_on)], axis=1)
        off = np.abs((whole[:, :, None] - floor.reference) / floor.floor).max()
        assert off <= LIMIT if handed_on else off > 100 * LIMIT
