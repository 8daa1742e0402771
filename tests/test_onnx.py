"""ONNX both ways: what is written loads whatever the names, what is read is a chain, damage is refused in words."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import parity
from parity.frameworks import onnx as onnx_framework
from parity.network import Dense, Embedding, Network, Output, Recurrent
from parity.recurrent import DIRECTIONS, RecurrentSpec, Weights
from tests.whole_checks import assert_whole

torch.set_num_threads(1)

FEATURES, UNITS = 4, 5
ENGINES = ["torch", "onnxruntime"]


def numbers(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng([seed, *shape]).uniform(-0.7, 0.7, shape).astype(np.float32)


def lstm_parts(x: str, name: str, features: int = FEATURES, directions: int = 1, **more: Any) -> tuple[Any, list[Any]]:
    """An LSTM node and its weights."""
    shapes = {"W": (directions, 4 * UNITS, features), "R": (directions, 4 * UNITS, UNITS), "B": (directions, 8 * UNITS)}
    constants = [
        numpy_helper.from_array(numbers(*shape, seed=len(name)), f"{name}.{key}") for key, shape in shapes.items()
    ]
    states = list(more.pop("states", []))
    inputs = [x, *(f"{name}.{key}" for key in shapes), *(["", *states] if states else [])]
    direction = "bidirectional" if directions == 2 else "forward"
    outputs = [f"{name}.Y", f"{name}.Y_h", f"{name}.Y_c"]
    return helper.make_node("LSTM", inputs, outputs, name=name, hidden_size=UNITS, direction=direction), constants


def model_of(
    nodes: Sequence[Any],
    constants: Sequence[Any],
    outputs: Sequence[str],
    opset: int = 17,
    shape: Sequence[Any] = (None, None, FEATURES),
    states: Sequence[str] = (),
) -> onnx.ModelProto:
    info = helper.make_tensor_value_info
    inputs = [
        info("X", TensorProto.FLOAT, list(shape)),
        *(info(s, TensorProto.FLOAT, [1, None, UNITS]) for s in states),
    ]
    given_out = [info(name, TensorProto.FLOAT, None) for name in outputs]
    graph = helper.make_graph(list(nodes), "hand", inputs, given_out, list(constants))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def constant(name: str, *shape: int) -> Any:
    return numpy_helper.from_array(numbers(*shape), name)


def squeeze(source: str, target: str, axis: int) -> tuple[Any, Any]:
    axes = numpy_helper.from_array(np.asarray([axis], np.int64), f"{target}.axes")
    return helper.make_node("Squeeze", [source, f"{target}.axes"], [target], name=target), axes


# ---- names


def _sequential(*layers: Any) -> Any:
    return keras.Sequential([keras.Input((None, FEATURES)), *layers])


def _functional_states() -> Any:
    x = keras.Input((None, FEATURES))
    sequence, h, c = keras.layers.LSTM(UNITS, return_sequences=True, return_state=True, name="enc")(x)
    return keras.Model(x, [sequence, h, c])


ENDING_IN_RECURRENT: dict[str, Any] = {
    "lstm": lambda: _sequential(keras.layers.LSTM(UNITS)),
    "gru": lambda: _sequential(keras.layers.GRU(UNITS)),
    "lstm sequences": lambda: _sequential(keras.layers.LSTM(UNITS, return_sequences=True)),
    "bidirectional": lambda: _sequential(keras.layers.Bidirectional(keras.layers.LSTM(UNITS))),
    "bidirectional sequences": lambda: _sequential(
        keras.layers.Bidirectional(keras.layers.GRU(UNITS, return_sequences=True))
    ),
    "two": lambda: _sequential(keras.layers.GRU(UNITS, return_sequences=True), keras.layers.LSTM(UNITS)),
    "states": _functional_states,
}


@pytest.mark.parametrize("name", ENDING_IN_RECURRENT)
def test_models_that_end_in_a_recurrent_layer(name: str) -> None:
    model = ENDING_IN_RECURRENT[name]()
    comparison = parity.compare(model)
    assert comparison.ok, str(comparison)
    assert "onnxruntime" in comparison.participants
    exported = parity.to_onnx(model)
    assert [output.name for output in exported.graph.output] == [output.name for output in parity.read(model).outputs]
    back = parity.compare(model, exported)
    assert back.ok, str(back)


# ---- live models whose options ONNX's operators lack: Keras and torch are the judges


def _numbered(model: Any) -> Any:
    """The model with random weights and biases, none of them zero."""
    random = np.random.default_rng(len(model.weights))
    for weight in model.weights:
        weight.assign(random.uniform(-0.6, 0.6, weight.shape))
    return model


def _tokens(*layers: Any) -> Any:
    return keras.Sequential([keras.Input((None,)), *layers])


def _go_backwards(units: int = UNITS, **options: Any) -> Any:
    return keras.layers.GRU(units, return_sequences=True, go_backwards=True, **options)


def _both(layer: Any, **options: Any) -> Any:
    return keras.layers.Bidirectional(layer, **options)


LIVE: dict[str, Any] = {
    "reset before": lambda: _sequential(keras.layers.GRU(UNITS, reset_after=False)),
    "functions": lambda: _sequential(
        keras.layers.LSTM(UNITS, activation="gelu", recurrent_activation="hard_sigmoid", return_sequences=True),
        keras.layers.GRU(3, activation="selu"),
    ),
    "merge modes": lambda: _sequential(
        _both(keras.layers.GRU(UNITS, return_sequences=True), merge_mode="sum"),
        _both(keras.layers.LSTM(3), merge_mode="ave"),
    ),
    "unlike directions": lambda: _sequential(
        _both(
            keras.layers.GRU(UNITS, return_sequences=True),
            backward_layer=keras.layers.LSTM(3, return_sequences=True, go_backwards=True),
        ),
    ),
    "backwards": lambda: _sequential(_go_backwards(), keras.layers.SimpleRNN(3)),
    "mask": lambda: _sequential(
        keras.layers.Masking(),
        keras.layers.LSTM(UNITS, return_sequences=True),
        keras.layers.GRU(3),
        keras.layers.Dense(2),
    ),
    "mask of both": lambda: _sequential(
        keras.layers.Masking(), _both(keras.layers.LSTM(UNITS, return_sequences=True)), keras.layers.Dense(2)
    ),
    "mask_zero backwards": lambda: _tokens(
        keras.layers.Embedding(7, 3, mask_zero=True), _go_backwards(), keras.layers.LSTM(3)
    ),
    "cells": lambda: _sequential(
        keras.layers.RNN([keras.layers.LSTMCell(UNITS), keras.layers.GRUCell(3)], return_sequences=True)
    ),
    "dropout": lambda: _sequential(
        keras.layers.LSTM(UNITS, dropout=0.3, return_sequences=True), keras.layers.Dropout(0.5), keras.layers.GRU(3)
    ),
}


def _with_gaps(network: Network) -> Any:
    """Inputs of which some steps are zero, on the left, on the right and in the middle: masked where the model masks."""
    valid = np.array([[1, 1, 1, 1, 0, 0], [0, 0, 1, 1, 1, 1], [1, 1, 0, 1, 1, 0], [1] * 6], bool)
    if network.tokens:
        return np.random.default_rng(4).integers(1, network.tokens, valid.shape) * valid
    return numbers(*valid.shape, FEATURES) * valid[..., None]


@pytest.mark.parametrize("name", LIVE)
def test_live_keras_models(name: str) -> None:
    model = _numbered(LIVE[name]())
    comparison = parity.compare(model, parity.to_onnx(model), inputs=_with_gaps(parity.read(model)))
    assert comparison.ok, str(comparison)


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
def test_a_live_torch_projection() -> None:
    torch.manual_seed(5)
    module = torch.nn.LSTM(FEATURES, UNITS, 2, proj_size=3, bidirectional=True)
    start = [np.asarray(numbers(2, 2, 3, size)) for size in (3, UNITS)]
    comparison = parity.compare(module, parity.to_onnx(module), initial_state=start)
    assert comparison.ok, str(comparison)


HOSTILE = [
    *("input", "X", "q", "q.product", "q.sum", "q.kernel", "q.bias", "q.output", "q.softmax", "q.rows", "q.table"),
    *("rr", "rr.Y", "rr.Y_h", "rr.W", "rr.R", "rr.B", "rr.output", "rr.X.transposed", "rr.output.transposed", "q_1"),
    *("rr.output.shape", "q.value", "q.value.transposed", "parity.rr.initial_h", "parity.rr.Y_c", "input_1"),
]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    names=st.lists(st.sampled_from(HOSTILE), min_size=4, max_size=4, unique=True),
    outputs=st.lists(st.sampled_from(HOSTILE), min_size=2, max_size=2, unique=True),
    sequences=st.booleans(),
)
def test_names_never_collide(names: list[str], outputs: list[str], sequences: bool) -> None:
    spec, last = RecurrentSpec("lstm", 3, 2, DIRECTIONS), RecurrentSpec("gru", 4, 3, ("forward",))
    weights = tuple(Weights(numbers(4, 2, 3), numbers(4, 2, 2), numbers(4, 2), None) for _ in DIRECTIONS)
    gru = Weights(numbers(3, 3, 4), numbers(3, 3, 3), numbers(3, 3), numbers(3, 3))
    layers = (
        Embedding(names[0], numbers(7, 3)),
        Recurrent(names[1], spec, weights),
        Recurrent(names[2], last, (gru,), sequences),
        Dense(names[3], numbers(3, 2), numbers(2), "softmax"),
    )
    state = layers[1].values[1]
    network = Network("hostile", layers, (Output(outputs[0], names[3]), Output(outputs[1], names[1], state)))
    built = onnx_framework.build(network)
    assert [output.name for output in built.graph.output] == outputs
    comparison = parity.compare(network, built, engines=["onnxruntime"], batch=2, time=3)
    assert comparison.ok, str(comparison)
    assert [layer.name for layer in parity.read(built).layers] == names


# ---- branches


def _branches() -> dict[str, onnx.ModelProto]:
    one, weights = lstm_parts("X", "one")
    two, more = lstm_parts("X", "second")
    dropped, axes = squeeze("one.Y", "steps", 1)
    product = helper.make_node("MatMul", ["steps", "k"], ["a"], name="first_head")
    again = helper.make_node("MatMul", ["steps", "k"], ["b"], name="second_head")
    kernels = [constant("k", UNITS, 3), constant("k2", 3, 2)]
    flip = helper.make_node("Transpose", ["steps"], ["rows"], perm=[1, 0, 2])
    product.input[0] = again.input[0] = "rows"
    deeper = [helper.make_node("MatMul", ["a", "k2"], [n], name=n) for n in ("c", "second_head")]
    both, wide = lstm_parts("X", "both", directions=2)
    index = numpy_helper.from_array(np.asarray(0, np.int64), "index")
    pick = helper.make_node("Gather", ["both.Y", "index"], ["picked"], axis=1)
    after, tail = lstm_parts("picked", "second_head", UNITS)
    skip = helper.make_node("MatMul", ["X", "k0"], ["s"], name="second_head")
    return {
        "two on X": model_of([one, two], [*weights, *more], ["one.Y", "second.Y"]),
        "two heads": model_of([one, dropped, flip, product, again], [*weights, axes, *kernels], ["a", "b"]),
        "after a dense": model_of(
            [one, dropped, flip, product, *deeper], [*weights, axes, *kernels], ["c", "second_head"]
        ),
        "one direction of two": model_of([both, pick, after], [*wide, index, *tail], ["second_head.Y"]),
        "X again": model_of([one, skip], [*weights, constant("k0", FEATURES, 2)], ["one.Y", "s"]),
    }


@pytest.mark.parametrize("name", ["two on X", "two heads", "after a dense", "one direction of two", "X again"])
def test_a_branch_is_a_graph_and_no_chain(name: str, tmp_path: Path) -> None:
    model = _branches()[name]
    why = "not what a layer hands on" if name == "one direction of two" else "branches here"
    network = assert_whole(model, why)
    assert [item.name for item in model.graph.output] == list(network.graph.outputs)
    onnx.save(model, tmp_path / "branch.onnx")
    with pytest.raises(parity.UnsupportedError, match=rf"{why}[^$]*as a whole it goes to \.onnx"):
        parity.convert(tmp_path / "branch.onnx", tmp_path / "branch.keras")
    parity.assert_parity(model, parity.convert(tmp_path / "branch.onnx", tmp_path / "again.onnx"))


def test_the_only_direction_picked_is_no_branch() -> None:
    one, weights = lstm_parts("X", "one")
    pick = helper.make_node("Gather", ["one.Y", "index"], ["picked"], axis=1)
    after, tail = lstm_parts("picked", "after", UNITS)
    index = numpy_helper.from_array(np.asarray(0, np.int64), "index")
    comparison = parity.compare(model_of([one, pick, after], [*weights, index, *tail], ["after.Y"]), engines=ENGINES)
    assert comparison.ok, str(comparison)
    assert len(comparison.sources[0].network.recurrent) == 2


def test_the_inner_sequence_of_a_stack_is_an_output_of_a_graph() -> None:
    one, weights = lstm_parts("X", "one")
    dropped, axes = squeeze("one.Y", "steps", 1)
    after, tail = lstm_parts("steps", "after", UNITS)
    nodes, constants = [one, dropped, after], [*weights, axes, *tail]
    network = assert_whole(model_of(nodes, constants, ["one.Y", "after.Y"]), "not batch first")
    assert list(network.graph.outputs) == ["one.Y", "after.Y"]
    assert parity.compare(model_of(nodes, constants, ["one.Y_h", "after.Y"]), engines=ENGINES).ok


@pytest.mark.parametrize("op", ["Add", "Softmax"])
@pytest.mark.parametrize("output", [False, True])
def test_an_unfinished_dense_value_is_an_output_of_a_graph(op: str, output: bool) -> None:
    one, weights = lstm_parts("X", "one")
    last, axes = squeeze("one.Y_h", "last", 0)
    product = helper.make_node("MatMul", ["last", "k"], ["logits"], name="head")
    finish = helper.make_node(op, ["logits", "b"] if op == "Add" else ["logits"], ["probs"], name="finish")
    constants = [*weights, axes, constant("k", UNITS, 3), constant("b", 3)]
    model = model_of([one, last, product, finish], constants, ["logits", "probs"] if output else ["probs"])
    if output:
        assert list(assert_whole(model, "node 'finish'").graph.outputs) == ["logits", "probs"]
    else:
        assert parity.compare(model, engines=ENGINES).ok


@pytest.mark.parametrize(
    ("opset", "axis", "fine"),
    [(11, None, False), (11, 1, False), (11, 2, True), (11, -1, True), (13, None, True), (13, 1, False)],
)
def test_softmax_along_any_axis(opset: int, axis: int | None, fine: bool) -> None:
    one, weights = lstm_parts("X", "one")
    dropped = helper.make_node("Transpose", ["one.Y"], ["turned"], perm=[2, 0, 1, 3])
    shape = numpy_helper.from_array(np.asarray([0, 0, -1], np.int64), "shape")
    joined = helper.make_node("Reshape", ["turned", "shape"], ["rows"])
    product = helper.make_node("MatMul", ["rows", "k"], ["logits"], name="head")
    along: dict[str, Any] = {} if axis is None else {"axis": axis}
    softmax = helper.make_node("Softmax", ["logits"], ["probs"], name="soft", **along)
    model = model_of(
        [one, dropped, joined, product, softmax], [*weights, shape, constant("k", UNITS, 3)], ["probs"], opset
    )
    if fine:
        assert parity.compare(model, engines=ENGINES).ok
    else:
        assert_whole(model, "not along the last axis")


@pytest.mark.parametrize("opset", [7, 11, 13, 22])
def test_written_softmax_in_every_opset(opset: int) -> None:
    model = _sequential(keras.layers.GRU(UNITS, return_sequences=True), keras.layers.Dense(3, activation="softmax"))
    assert parity.compare(model, parity.to_onnx(model, opset=opset)).ok


# ---- axes, states and shapes


def _time_major() -> onnx.ModelProto:
    one, weights = lstm_parts("X", "one")
    dropped, axes = squeeze("one.Y_h", "last", 0)
    product = helper.make_node("MatMul", ["last", "k"], ["scores"], name="head")
    return model_of([one, dropped, product], [*weights, axes, constant("k", UNITS, 3)], ["scores"])


def test_axes_are_those_of_the_model_that_runs() -> None:
    model, x = _time_major(), numbers(6, 6, FEATURES)
    own = parity.run(model, x).outputs["scores"]
    np.testing.assert_array_equal(parity.run(parity.read(model), x, engine="onnxruntime").outputs["scores"], own)
    np.testing.assert_allclose(parity.run(model, x, engine="reference").outputs["scores"], own, atol=1e-5)


def test_a_state_input_of_two_nodes_is_a_graph() -> None:
    for states in (["s", "s"], ["s", "t"]):
        one, weights = lstm_parts("X", "one", states=states)
        dropped, axes = squeeze("one.Y", "steps", 1)
        after, tail = lstm_parts("steps", "after", UNITS, states=["t", "u"])
        names = sorted({*states, "t", "u"})
        model = model_of([one, dropped, after], [*weights, axes, *tail], ["after.Y"], states=names)
        network = assert_whole(model, "an initial state that is used twice")
        assert [one.name for one in network.graph.inputs] == ["X", *names]


def test_fixed_batch_and_time() -> None:
    one, weights = lstm_parts("X", "one", states=["h", "c"])
    model = model_of([one], weights, ["one.Y", "one.Y_h", "one.Y_c"], shape=(9, 2, FEATURES), states=["h", "c"])
    for item in (*model.graph.input[1:], *model.graph.output[1:]):
        item.CopyFrom(helper.make_tensor_value_info(item.name, TensorProto.FLOAT, [1, 2, UNITS]))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("one.Y", TensorProto.FLOAT, [9, 1, 2, UNITS]))
    comparison = parity.compare(model, batch=2, time=9, engines=ENGINES)
    assert comparison.ok, str(comparison)
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 9


# ---- damage


def _composed() -> Network:
    weights = [Weights(numbers(4, 2, 3, seed=at), numbers(4, 2, 2, seed=at), numbers(4, 2)) for at in range(2)]
    layer = Recurrent("one", RecurrentSpec("lstm", 3, 2, DIRECTIONS), tuple(weights), merge_mode="ave")
    return Network("composed", (layer,), (Output("X", "one"),))


@pytest.mark.parametrize("make", [lambda: parity.read(_time_major()), _composed])
def test_only_our_own_errors_on_damaged_files(make: Any, tmp_path: Path) -> None:
    whole = onnx_framework.build(make()).SerializeToString()
    random = np.random.default_rng(5)
    path = tmp_path / "damaged.onnx"
    marks = [b"LST", b"one", b"hid", b"X\x12", b"dir"]
    refused = 0
    for number in range(300):
        data = bytearray(whole)
        if number % 3 == 0:
            data = data[: random.integers(1, len(data))]
        for at in random.integers(0, len(data), random.integers(0 if number % 3 == 0 else 1, 5)):
            data[at] = random.integers(256)
        # Most bytes are weights: every second time, damage the graph around them.
        if number % 2:
            names = [at for at in range(len(data)) if any(data.startswith(mark, at) for mark in marks)]
            for at in names[: random.integers(1, 4)]:
                data[at - int(random.integers(0, 4))] ^= 1 << int(random.integers(8))
        path.write_bytes(bytes(data))
        try:
            parity.read(path)
        except parity.ParityError:
            refused += 1
    assert refused > 100


def _without_inputs(model: onnx.ModelProto) -> None:
    del model.graph.node[0].input[:]


def _bad_direction(model: onnx.ModelProto) -> None:
    next(a for a in model.graph.node[0].attribute if a.name == "direction").s = b"\xff"


def _no_value(model: onnx.ModelProto) -> None:
    model.graph.node.insert(0, helper.make_node("Constant", [], ["z"]))


def _bad_name(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims.append(3)


@pytest.mark.parametrize("damage", [_without_inputs, _bad_direction, _no_value, _bad_name])
@pytest.mark.parametrize("checked", [True, False])
def test_odd_live_models(damage: Any, checked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model = _time_major()
    damage(model)
    if not checked:
        monkeypatch.setattr(onnx.checker, "check_model", lambda _: None)
    with pytest.raises(parity.ParityError):
        parity.read(model)


def test_weights_of_a_live_model_elsewhere() -> None:
    model = _time_major()
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL
    with pytest.raises(parity.UnsupportedError, match=r"another file[^$]*one\.W"):
        parity.read(model)


# ---- what torch exports


def _exported(module: Any, path: Path, batch_first: bool) -> onnx.ModelProto:
    axes = {0: "batch", 1: "time"} if batch_first else {0: "time", 1: "batch"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            (torch.zeros(2, 3, FEATURES),),
            str(path),
            dynamo=False,
            opset_version=17,
            input_names=["x"],
            dynamic_axes={"x": axes},
        )
    return onnx.load(str(path))


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("layers", [1, 2])
def test_what_torch_exports(kind: str, bidirectional: bool, batch_first: bool, layers: int, tmp_path: Path) -> None:
    torch.manual_seed(3)
    module = getattr(torch.nn, kind)(FEATURES, UNITS, layers, bidirectional=bidirectional, batch_first=batch_first)
    model = _exported(module, tmp_path / "module.onnx", batch_first)
    assert any(node.op_type in {"ConstantOfShape", "Expand"} for node in model.graph.node)
    mine, theirs = ([w for layer in parity.read(s).recurrent for w in layer.weights] for s in (model, module))
    for one, other in zip(mine, theirs, strict=True):
        for field in ("kernel", "recurrent", "bias_input", "bias_recurrent"):
            np.testing.assert_array_equal(getattr(one, field), getattr(other, field))
    comparison = parity.compare(module, model)
    assert comparison.ok, str(comparison)
    assert parity.compare(model, engines=ENGINES).ok


def test_a_state_that_is_not_zero_is_kept(tmp_path: Path) -> None:
    model = _exported(torch.nn.GRU(FEATURES, UNITS), tmp_path / "module.onnx", False)
    for node in model.graph.node:
        for attribute in node.attribute:
            if node.op_type == "ConstantOfShape" or (node.op_type == "Constant" and attribute.t.data_type == 1):
                attribute.t.CopyFrom(numpy_helper.from_array(np.ones((1,), np.float32)))
    network = assert_whole(model, "initial state computed in the graph")
    x = numbers(7, 2, FEATURES)
    found = next(iter(parity.run(network, x, engine="reference").outputs.values()))
    from_ones = parity.run(network.recurrent[0], x.swapaxes(0, 1), engine="reference", initial_state=_ones(2))
    np.testing.assert_allclose(found, from_ones.sequence.swapaxes(0, 1), rtol=0, atol=1e-12)


def _ones(batch: int) -> Any:
    return np.ones((1, 1, batch, UNITS))
