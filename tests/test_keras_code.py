"""Whole models in code for Keras: weights reach their layers, names, stubs, refusals."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from parity.errors import UnsupportedError
from parity.frameworks.keras.twins import layer_at
from parity.graph import Builder, Wire
from parity.graph.keras.reading import graph_from_keras
from parity.graph.keras_code import keras_code, write_weights
from parity.graph.operations import (
    Constant,
    Length,
    Pooling,
    Stated,
    Stub,
)
from parity.network import Dense
from parity.recurrent import DIRECTIONS
from tests.architectures import keras_models
from tests.keras_code_cases import (
    branches,
    convolution,
    floats,
    recurrent,
)
from tests.keras_code_harness import check, imported, inputs_for, lint_sources, outputs_of, same_order, worst, written

linted = pytest.fixture(scope="module", autouse=True)(lint_sources)


def test_weights_reach_their_layers_in_branches_and_shared_layers(tmp_path: Path) -> None:
    check(branches(), tmp_path, predict=True)


@pytest.mark.parametrize(
    "name",
    [
        "crnn",
        "deepspeech",
        "seq2seq",
        "tacotron_encoder",
        "open_unmix",
        "dtln",
        "eq_transformer",
        "tagger",
        "forecaster",
        "speaker_encoder",
    ],
)
def test_architectures_that_people_port(name: str, tmp_path: Path) -> None:
    model = keras_models.randomized(getattr(keras_models, name)())
    config = keras.saving.serialize_keras_object(model)
    graph = graph_from_keras(config, lambda path: layer_at(model, path).get_weights(), model.name)
    check(graph, tmp_path)


def test_only_the_last_h_of_a_layer_is_its_output(tmp_path: Path) -> None:
    build = Builder("model", "torch")
    x = build.input("x", ("batch", "time", 3))
    build.call(recurrent("lstm", name="first"), x, source="first")
    build.call(recurrent("gru", name="second", directions=DIRECTIONS[1:]), x, source="second")
    h = build.add(build.activation("relu", Wire("first", 1)), Wire("second", 1))
    code = check(build.graph({"h": h}), tmp_path)
    assert "return_s" not in code.source


def test_weights_in_another_order_are_noticed(tmp_path: Path) -> None:
    graph = branches()
    code, module = written(graph, tmp_path)
    names = [name for name in code.weights if name.endswith("/0")]
    swapped = {**code.weights, names[0]: code.weights[names[1]], names[1]: code.weights[names[0]]}
    write_weights(replace(code, weights=swapped), tmp_path / "swapped.weights.h5")
    model, inputs = module.load(tmp_path / "swapped.weights.h5"), inputs_for(graph)
    assert worst(graph, outputs_of(model, graph, inputs), inputs) > 1000
    with pytest.raises(AssertionError):
        same_order(code, model, tmp_path)


@pytest.mark.parametrize("seed", range(12))
def test_order_of_layers_in_random_graphs(seed: int, tmp_path: Path) -> None:
    random = np.random.default_rng(seed)
    build = Builder("random")
    values = [build.input(f"in_{index}", ("batch", 3)) for index in range(int(random.integers(1, 4)))]
    layers = [Dense(f"dense_{index}", floats(3, 3), floats(3)) for index in range(6)]
    for _ in range(25):
        one, other = (values[int(random.integers(max(0, len(values) - 9), len(values)))] for _ in range(2))
        choice = int(random.integers(5))
        if choice < 3:
            values.append(build.call(layers[int(random.integers(6))], one))
        elif choice == 3:
            values.append(build.add(one, other))
        else:
            joined = build.concatenate([one, other, one])
            values.append(build.slice(joined, 1, 2, 5))
    outputs = {f"out_{index}": values[-1 - index * 3] for index in range(int(random.integers(1, 4)))}
    graph = build.graph(outputs)
    code, module = written(graph, tmp_path)
    same_order(code, module.load(), tmp_path)


def test_parameters_that_stand_alone(tmp_path: Path) -> None:
    build = Builder("model")
    x = build.input("x", ("batch", "time", 12))
    table = build.call(Constant("table", np.arange(24).reshape(12, 2)))
    many = build.constant(floats(12), "window")
    summed = build.matmul(build.multiply(x, many), build.cast(table, "float32"))
    start = build.expand(build.weight("start", floats(1, 5)), (Length(1, 0), -1), x)
    states = build.call(recurrent("gru", size=12), x, None, start)
    code = check(build.graph({"summed": summed, "states": states, "start": start}), tmp_path, predict=True)
    assert "trainable=False" in code.source


def test_float64_stays_float64(tmp_path: Path) -> None:
    build = Builder("model")
    x = build.input("x", ("batch", "time", 3))
    layer = recurrent("lstm", directions=DIRECTIONS, projection=2)
    wide = tuple(
        one.with_held(**{name: array.astype(np.float64) for name, array in vars(one).items() if array is not None})
        for one in layer.weights
    )
    y = build.multiply(build.call(replace(layer, weights=wide), x), build.constant(np.array([0.1, 0.2, 0.3, 0.7])))
    graph = build.graph({"y": build.call(Dense("d", floats(4, 2).astype(np.float64)), y)})
    _, module = written(graph, tmp_path)
    inputs = {"x": np.random.default_rng(0).standard_normal((3, 9, 3))}
    (given,) = outputs_of(module.load(), graph, inputs)
    assert given.dtype == np.float64
    np.testing.assert_allclose(given, graph.run(inputs)["y"], rtol=1e-12, atol=1e-13)


def test_names_from_anywhere(tmp_path: Path) -> None:
    build = Builder('m"""\\ odel\n', "keras")
    x = build.input("class", ("batch", 3))
    names = ["a/b.c", "größe", 'quote"\'""" \n', "__import__('os')", "x", "layers", "ops", "", "1st", "add"]
    for name in names:
        x = build.call(Dense(name, floats(3, 3), floats(3)), x, source=name)
    y = build.add(x, build.multiply(x, 2.0))
    check(build.graph({'out"""': y, "": x}), tmp_path)


def test_a_model_whose_input_has_no_batch_first(tmp_path: Path) -> None:
    build = Builder("model")
    x = build.input("frames", ("time", "batch", 3))
    y = build.call(recurrent("lstm"), build.transpose(x, (1, 0, 2)))
    code = check(build.graph({"y": build.transpose(y, (1, 0, 2))}), tmp_path)
    assert any("Axis 0" in note for note in code.notes)


def test_a_stub_raises_until_it_is_filled_in(tmp_path: Path) -> None:
    build = Builder("model", "keras")
    x = build.input("x", ("batch", "time", 3))
    options = {"units": 4, "mode": "a\nb"}
    stub = Stub("magic", "lib>MagicLayer", options, {"magic/kernel:0": floats(3, 4)})
    value = build.call(stub, build.call(Dense("before", floats(3, 3)), x), source="magic")
    graph = build.graph({"y": build.call(Dense("after", floats(4, 2)), value, source="after")})
    code, module = written(graph, tmp_path)
    assert code.stubs == ("magic",)
    with pytest.raises(NotImplementedError, match=r"fill in.*does not state its shape, so the model cannot be built"):
        module.build()
    assert "build() raises" in code.source
    folder = tmp_path / "filled"
    folder.mkdir()
    head, _, tail = code.source.partition("        raise NotImplementedError(")
    body = "        (x,) = inputs\n        return keras.ops.matmul(x, self.source_weights[0])\n"
    (folder / "model.py").write_text(head + body + tail.partition("\n        )\n")[2], "utf-8")
    write_weights(code, folder / "model.weights.h5")
    model, inputs = imported(folder / "model.py").load(), inputs_for(graph)
    expected = inputs["x"] @ graph.operations[0].arrays.present["kernel"] @ stub.weights["magic/kernel:0"]
    expected = expected @ graph.operations[2].arrays.present["kernel"]
    np.testing.assert_allclose(outputs_of(model, graph, inputs)[0], expected, rtol=1e-4, atol=1e-5)


def test_a_stub_of_a_known_shape_is_built_and_raises_when_it_is_called(tmp_path: Path) -> None:
    build = Builder("model", "keras")
    x = build.input("x", ("batch", "time", 3))
    stated = (Stated((None, None, 4)), Stated((None, 5), "bool"))
    node = build.call(Stub("magic", "Magic", {}, {"kernel": floats(3, 4)}, 2, stated), x, source="magic")
    graph = build.graph({"y": build.call(Dense("after", floats(4, 2)), node, source="after"), "z": Wire(node.node, 1)})
    code, module = written(graph, tmp_path)
    model = module.load()
    assert [(one.shape, one.dtype) for one in model.outputs] == [((None, None, 2), "float32"), ((None, 5), "bool")]
    assert "Calling the model raises" in code.source
    np.testing.assert_array_equal(model.get_layer("magic").source_weights[0], graph.stubs[0].weights["kernel"])
    with pytest.raises(NotImplementedError, match="fill in: what Magic computes"):
        model(floats(2, 7, 3))


def test_what_keras_cannot_say_is_refused_all_at_once() -> None:
    build = Builder("model")
    x = build.input("x", ("batch", "time", 3))
    x = build.call(Pooling("first", "max", (2,), (2,), (2,), ((0, 0),)), x)
    x = build.call(Pooling("second", "max", (2,), (2,), (3,), ((0, 0),)), x)
    x = build.call(convolution((3,), 3, 4, padding="same", strides=(2,), dilations=(2,)), x)
    with pytest.raises(UnsupportedError) as refused:
        keras_code(build.graph({"y": x}))
    assert [problem.where for problem in refused.value.problems] == ["layer 'first'", "layer 'second'", "layer 'conv'"]


def test_nothing_is_imported() -> None:
    script = (
        "import parity.graph.keras_code, sys; assert not {'keras', 'torch', 'tensorflow', 'onnx'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
