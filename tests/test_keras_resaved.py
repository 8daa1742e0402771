"""Models in code for Keras, trained on and saved again: parity reads what it wrote, and refuses what only claims to be that."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch

import parity
from parity.cell import Cell, plain_cell
from parity.errors import ParityError
from parity.frameworks.keras.written import _SNIPPETS, make_known
from parity.functions import Function
from parity.graph import Builder, Graph
from parity.graph.folder import write_code
from parity.graph.keras_code import keras_code
from parity.graph.operations import Constant, Length, Range
from parity.layouts import KINDS
from parity.network import Dense
from parity.network.keras.cells import WRITTEN_CLASSES
from parity.network.keras.written import function_of, registered_function
from parity.recurrent import DIRECTIONS
from parity.sources import open_source
from tests.keras_code_cases import floats, recurrent
from tests.keras_code_harness import FACTOR, inputs_for, outputs_of, worst, written

PLAIN = {kind: plain_cell(kind) for kind in KINDS}
HARD = Function("hard_sigmoid", 0.2, 0.5)
CELLS: dict[str, dict[str, Any]] = {
    "a simple cell": {"kind": "rnn", "cell": Cell((Function("affine", 0.7, 0.1),), clip=0.4)},
    "a GRU cell": {"kind": "gru", "cell": replace(PLAIN["gru"], clip=0.4)},
    "a GRU cell, reset before": {"kind": "gru", "bias": False, "cell": Cell((HARD, Function("elu", 0.7)), False, 0.6)},
    "peepholes": {"kind": "lstm", "peepholes": True, "bias": False},
    "a projection": {"kind": "lstm", "projection": 2},
    "everything": {
        "kind": "lstm",
        "projection": 4,
        "peepholes": True,
        "cell": Cell((HARD, Function("softsign"), Function("scaled_tanh", 1.5, 0.7)), clip=0.9, input_forget=True),
    },
}


def cell(name: str, directions: Any = DIRECTIONS[:1]) -> Graph:
    """A layer with a cell of the module's own, and one behind it."""
    build = Builder("model", "torch")
    x = build.input("x", ("batch", "time", 3))
    layer = recurrent(directions=directions, **CELLS[name])
    x = build.call(layer, x, source="encoder")
    size = (layer.spec.projection_size or layer.spec.hidden_size) * len(directions)
    return build.graph({"y": build.call(Dense("scores", floats(size, 3), floats(3)), x, source="scores")})


def parameters() -> Graph:
    """Weights that stand alone, trained and not, of numbers and integers, of no axes, too."""
    build = Builder("model", "torch")
    x = build.input("x", ("batch", "time", 4))
    x = build.add(build.matmul(x, build.weight("rotation", floats(4, 5))), build.weight("shift", floats(5)))
    x = build.multiply(x, build.weight("scale", np.array(0.3, np.float32)))
    return build.graph({"y": build.matmul(x, build.call(Constant("window", floats(5, 3))))})


def lengths() -> Graph:
    """Shapes with several lengths, of several inputs, and multiples of them."""
    build = Builder("model", "torch")
    x, other = build.input("x", ("batch", "time", 6)), build.input("other", ("batch", "steps", 3))
    pairs = build.reshape(x, (Length(0, 0), Length(0, 1, 2), 3))
    mean = build.mean(other, 1, keepdims=True)
    spread = build.expand(mean, (-1, Length(1, 1), 3), pairs)
    rows = build.reshape(build.add(pairs, spread), (-1, 3))
    again = build.reshape(rows, (Length(1, 0), -1, 6), x)
    return build.graph({"y": again, "spread": spread})


def places() -> Graph:
    """The places of an axis, as integers that are counted with."""
    build = Builder("model", "torch")
    x = build.input("x", ("batch", "time", 3))
    there = build.cast(build.call(Range("there", Length(0, 1)), x), "float32")
    return build.graph({"y": build.add(x, build.expand_dims(build.multiply(there, 0.125), 1))})


def functions() -> Graph:
    """Every function with parameters that the module has to define."""
    build = Builder("model", "torch")
    x = build.input("x", ("batch", "time", 3))
    for name, given in {
        "affine": (1.5, -0.25), "hard_sigmoid": (0.3, 0.4), "thresholded_relu": (0.45,), "scaled_tanh": (1.7, 0.6),
    }.items():  # fmt: skip
        x = build.call(Dense(f"before_{name}", floats(3, 3), floats(3)), x)
        x = build.activation(Function(name, *given), x, source=name)
    x = build.activation(Function("hard_sigmoid", 0.2, 0.5), x, source="another")
    return build.graph({"y": build.call(Dense("scores", floats(3, 2), floats(2)), x)})


def limits() -> Graph:
    """Lengths that the model does not take."""
    build = Builder("limits")
    build.details["limits"] = "time at least 3, time at most 30"
    x = build.input("x", ("batch", "time", 3))
    return build.graph({"y": build.call(Dense("scores", floats(3, 2), floats(2)), x, source="scores")})


CASES: dict[str, Callable[[], Graph]] = {
    **{name: partial(cell, name) for name in CELLS},
    "both directions": lambda: cell("everything", DIRECTIONS),
    "parameters": parameters,
    "lengths": lengths,
    "places": places,
    "functions": functions,
    "limits": limits,
}


def trained(graph: Graph, folder: Path) -> Any:
    """The model of the written code after a step of training; its weights are others then."""
    _, module = written(graph, folder)
    model = module.load()
    before = [np.copy(array) for array in model.get_weights()]
    inputs = inputs_for(graph)
    given = [inputs[one.name] for one in graph.inputs]
    targets = [value + 1 for value in outputs_of(model, graph, inputs)]
    model.compile(keras.optimizers.SGD(0.05), "mse")
    if before:
        model.train_on_batch(given if len(given) > 1 else given[0], targets if len(targets) > 1 else targets[0])
    after = model.get_weights()
    assert not before or any((a != b).any() for a, b in zip(before, after, strict=True))
    return model


def graph_in(path: Path) -> Graph:
    """The whole model of a file."""
    found: Graph = open_source(path, partial=True).graph
    return found


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("name", CASES)
def test_a_saved_model_is_read_back(name: str, suffix: str, tmp_path: Path) -> None:
    graph = CASES[name]()
    model = trained(graph, tmp_path)
    path = tmp_path / f"again{suffix}"
    model.save(path)
    read = graph_in(path)
    assert [one.name for one in read.inputs] == [one.name for one in graph.inputs]
    lengths = {"batch": 3, "time": 7, "steps": 5}
    inputs = inputs_for(read, 5, {word: lengths.get(word, 7) for word in read.words})
    live = outputs_of(model, read, inputs)
    assert worst(read, live, inputs) < FACTOR
    if model.get_weights():
        old = {**inputs, **dict(zip([one.name for one in graph.inputs], inputs.values(), strict=True))}
        assert worst(graph, live, old) > FACTOR  # the weights are those of the file
    converted = parity.to_torch(path).double()
    with torch.no_grad():
        given = converted(*(torch.from_numpy(inputs[one.name]).double() for one in read.inputs))
    for value, exact in zip(given if isinstance(given, tuple) else [given], read.run(inputs).values(), strict=True):
        np.testing.assert_allclose(value.numpy(), exact, rtol=1e-12, atol=1e-12)


def test_every_class_of_the_snippets_is_among_the_cases() -> None:
    folder = files("parity.graph.keras_code.snippets")
    assert sorted(f"{name}.py" for name in (*_SNIPPETS, "__init__")) == sorted(
        one.name for one in folder.iterdir() if one.name.endswith(".py")
    )
    sources = "".join(keras_code(make()).source for make in CASES.values())
    assert {name for name in WRITTEN_CLASSES if f"class {name}(" in sources} == set(WRITTEN_CLASSES)
    assert "package=__name__" not in sources


def other_process(code: str, *arguments: object) -> str:
    """What a fresh Python says."""
    own = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=own, cwd=str(arguments[0]))
    assert result.returncode == 0, result.stderr
    return result.stdout.strip().rpartition("\n")[2]


_KERAS_OPENS = """
import sys, keras, numpy as np
sys.path.insert(0, ".")
import model
given, worst = np.load("inputs.npz")["x"], 0.0
for name in ("again.keras", "cell.h5"):
    found = keras.saving.load_model(name, compile=False)
    worst = max(worst, np.abs(keras.ops.convert_to_numpy(found(given)) - np.load(f"{name}.npy")).max())
print(float(worst))
"""
_PARITY_OPENS = """
import sys, parity, numpy as np
network = parity.read("again.keras")
assert not {"keras", "torch", "tensorflow", "model"} & set(sys.modules)
found = network.graph.run({"x": np.load("inputs.npz")["x"]})
assert not {"keras", "torch", "tensorflow", "model"} & set(sys.modules)
print(float(np.abs(next(iter(found.values())) - np.load("again.keras.npy")).max()))
"""


def everything() -> Graph:
    """Cells, weights, lengths and functions of the module in one model."""
    build = Builder("model", "torch")
    x = build.input("x", ("batch", "time", 3))
    there = build.cast(build.call(Range("there", Length(0, 1)), x), "float32")
    x = build.add(x, build.expand_dims(build.multiply(there, 0.125), 1))
    x = build.call(recurrent(**CELLS["everything"]), x, source="encoder")
    x = build.activation(HARD, build.multiply(x, build.weight("scale", floats(4))), source="cut")
    turned = build.activation("tanh", build.reshape(x, (Length(0, 1, 2), Length(0, 0), 2)))
    return build.graph({"y": build.reshape(turned, (Length(1, 0), Length(1, 1), 4), x)})


def test_fresh_processes_open_the_file(tmp_path: Path) -> None:
    graph = everything()
    model = trained(graph, tmp_path)
    inputs = inputs_for(graph, 9)
    (folder,) = (one for one in tmp_path.iterdir() if one.is_dir())
    np.savez(folder / "inputs.npz", x=inputs["x"])
    # Keras itself opens no HDF5 file with operations beside layers.
    for name, one in {"again.keras": model, "cell.h5": trained(cell("everything"), tmp_path)}.items():
        one.save(folder / name)
        np.save(folder / f"{name}.npy", outputs_of(one, graph, inputs)[0])
    assert float(other_process(_KERAS_OPENS, folder)) < 1e-6
    (folder / "model.py").unlink()
    assert float(other_process(_PARITY_OPENS, folder)) < 1e-6


def test_keras_opens_the_file_where_nobody_has_imported_the_module(claimed: Path) -> None:
    registry = keras.saving.get_custom_objects()
    before = dict(registry)
    own = [name for name in registry if name.startswith("parity>")]
    inputs = inputs_for(graph_in(claimed), 5)
    try:
        for name in own:
            del registry[name]
        given = parity.run(claimed, inputs, engine="keras")
        model_of_the_module = type("Parameter", (keras.Layer,), {})
        registry["parity>Parameter"] = model_of_the_module
        make_known([])
        assert registry["parity>Parameter"] is model_of_the_module
    finally:
        registry.clear()
        registry.update(before)
    assert worst(graph_in(claimed), list(given.outputs.values()), inputs) < FACTOR


def test_a_written_model_inside_another(tmp_path: Path) -> None:
    inner = trained(everything(), tmp_path)
    x = keras.Input((None, 3), name="given")
    whole = keras.Model(x, keras.layers.Dense(2, name="above")(inner(keras.layers.Dense(3, name="below")(x))))
    for name in ("whole.keras", "whole.h5"):
        whole.save(tmp_path / name)
        read = graph_in(tmp_path / name)
        inputs = inputs_for(read, 5)
        assert worst(read, outputs_of(whole, read, inputs), inputs) < FACTOR


def test_a_live_model_is_read_as_its_file_is(tmp_path: Path) -> None:
    model = trained(everything(), tmp_path)
    read: Graph = open_source(model, partial=True).graph
    inputs = inputs_for(read, 5)
    assert worst(read, outputs_of(model, read, inputs), inputs) < FACTOR


def test_a_frozen_weight_is_none_to_train(tmp_path: Path) -> None:
    _, module = written(parameters(), tmp_path)
    module.load().save(tmp_path / "again.keras")
    held = {
        operation.name: operation.trained
        for operation in graph_in(tmp_path / "again.keras").operations
        if isinstance(operation, Constant) and operation.held("value").shape
    }
    assert held == {"rotation": True, "shift": True, "window": False}


# ---- files that only claim to hold what parity has written


def changed(path: Path, class_name: str, change: dict[str, Any]) -> Path:
    """A `.keras` file with other options for every layer or cell of a class; None takes one away."""

    def mended(value: Any) -> Any:
        if isinstance(value, dict):
            value = {key: mended(each) for key, each in value.items()}
            if value.get("class_name") == class_name:
                config = {**value["config"], **change}
                value["config"] = {key: each for key, each in config.items() if each != "absent"}
            return value
        return [mended(each) for each in value] if isinstance(value, list) else value

    target = path.with_name("changed.keras")
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(target, "w") as result:
        for name in source.namelist():
            content = source.read(name)
            result.writestr(name, json.dumps(mended(json.loads(content))) if name == "config.json" else content)
    return target


@pytest.fixture(scope="module")
def claimed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with every kind of layer."""
    folder = tmp_path_factory.mktemp("claimed")
    _, module = written(everything(), folder)
    module.load().save(folder / "again.keras")
    return folder / "again.keras"


@pytest.mark.parametrize(
    ("class_name", "change", "said"),
    [
        ("Parameter", {"shape": [5]}, "weight 'value' has the wrong shape"),
        ("Parameter", {"shape": [-4]}, "shape is no shape"),
        ("Parameter", {"shape": 4}, "shape is no shape"),
        ("Parameter", {"shape": "absent"}, "shape is no shape"),
        ("Parameter", {"shape": [1] * 40}, "shape is no shape"),
        ("Parameter", {"power": 2}, "unknown option 'power'"),
        ("Positions", {"axis": 5}, "no such axis"),
        ("Positions", {"axis": "time"}, "axis is not a whole number"),
        ("Positions", {"times": 0}, "times is no number of times"),
        ("ReshapeLike", {"sizes": 7}, "sizes is no list of sizes"),
        ("ReshapeLike", {"sizes": [[0, 9], -1]}, "a size that is none"),
        ("ReshapeLike", {"sizes": [[4, 0], -1]}, "a size that is none"),
        ("ReshapeLike", {"sizes": [[0, 0, 0], -1]}, "a size that is none"),
        ("ReshapeLike", {"sizes": [-2, 4]}, "a size that is none"),
        ("ReshapeLike", {"sizes": [True, -1]}, "a size that is none"),
        ("ReshapeLike", {"sizes": [-1, -1]}, "more than one length is left over"),
        ("ExtendedLSTMCell", {"units": 0}, "units is not a size"),
        ("ExtendedLSTMCell", {"units": 6}, "wrong shape"),
        ("ExtendedLSTMCell", {"clip": -1.0}, "clip is no limit"),
        ("ExtendedLSTMCell", {"clip": "much"}, "clip is no limit"),
        ("ExtendedLSTMCell", {"projection": 3}, "wrong shape"),
        ("ExtendedLSTMCell", {"projection": None}, "wrong (shape|number)"),
        ("ExtendedLSTMCell", {"peepholes": False}, "wrong (shape|number)"),
        ("ExtendedLSTMCell", {"coupled": 3}, "coupled is not kept exactly"),
        ("ExtendedLSTMCell", {"output_activation": "parity>scaled_tanh(1.5)"}, "output_activation is not kept exactly"),
        ("ExtendedLSTMCell", {"activation": "parity>sine(1.5)"}, "activation is not kept exactly"),
        ("ExtendedLSTMCell", {"reset_after": True}, "unknown option 'reset_after'"),
        ("Activation", {"activation": "parity>hard_sigmoid(0.2, 1e999)"}, "this activation is not converted"),
        ("Activation", {"activation": "parity>hard_sigmoid(0.2)"}, "this activation is not converted"),
        ("Activation", {"activation": "parity>__import__(1)"}, "this activation is not converted"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(
    class_name: str, change: dict[str, Any], said: str, claimed: Path
) -> None:
    with pytest.raises(ParityError, match=said) as found:
        graph_in(changed(claimed, class_name, change))
    names = {"Parameter": "scale", "ReshapeLike": "reshape_like", "ExtendedLSTMCell": "encoder", "Activation": "cut"}
    assert names.get(class_name, class_name) in str(found.value)


def test_a_class_of_the_same_name_in_another_package_is_not_taken_for_it(claimed: Path) -> None:
    path = claimed.with_name("other.keras")
    with zipfile.ZipFile(claimed) as source, zipfile.ZipFile(path, "w") as result:
        for name in source.namelist():
            result.writestr(name, source.read(name).replace(b"parity>Parameter", b"mine>Parameter"))
    with pytest.raises(ParityError, match="a custom layer class is not known"):
        graph_in(path)


@pytest.mark.parametrize(
    "function",
    [Function("elu", 1e-05), Function("affine", -1.5, float(np.float32(0.1))), Function("thresholded_relu", 3.0)],
)
def test_the_name_of_a_function_holds_its_parameters(function: Function) -> None:
    assert function_of(f"parity>{registered_function(function)}") == function


# ---- what the code calls a model that nobody has named


@pytest.mark.parametrize(
    ("name", "file", "torch_class", "keras_name"),
    [
        ("functional_1", "ethnicolr.keras", "Ethnicolr", "ethnicolr"),
        ("sequential_3", "my tagger.v2.keras", "MyTaggerV2", "my_tagger_v2"),
        ("tagger", "weights.keras", "Tagger", "tagger"),
        ("functional", "model.keras", "Model", "model"),
    ],
)
def test_a_model_without_a_name_is_called_after_its_file(
    name: str, file: str, torch_class: str, keras_name: str, tmp_path: Path
) -> None:
    x = keras.Input((None, 3), name="x")
    keras.Model(x, keras.layers.LSTM(2, name="lstm")(x), name=name).save(tmp_path / file)
    source = open_source(tmp_path / file, partial=True)
    for target in ("torch", "keras"):
        write_code(source, target, tmp_path / target, verify=False)
    in_torch, in_keras = ((tmp_path / target / "model.py").read_text("utf-8") for target in ("torch", "keras"))
    assert f"class {torch_class}(nn.Module):" in in_torch
    assert f'name="{keras_name}")' in in_keras
    for text in (in_torch, in_keras):
        assert f"onverted from Keras ({file})." in text.partition("Inputs:")[0]
        assert str(tmp_path) not in text


def test_live_models_without_a_name(tmp_path: Path) -> None:
    x = keras.Input((None, 3), name="x")
    live = keras.Model(x, keras.layers.Conv1D(2, 3, name="conv")(x))
    found = parity.to_torch(live)
    assert type(found).__name__ == "Model"
    assert sys.modules[type(found).__module__].__doc__.startswith("The model, converted from Keras.\n")  # type: ignore[union-attr]
    again = parity.to_keras(torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Tanh()), torch.ones(4, 3))
    assert again.name == "model"
    proto = parity.to_onnx(live)
    proto.graph.name = "main_graph"
    assert type(parity.to_torch(proto)).__name__ == "Model"
    (tmp_path / "gate.onnx").write_bytes(proto.SerializeToString())
    from_onnx = parity.to_torch(tmp_path / "gate.onnx")
    assert type(from_onnx).__name__ == "Gate"
    assert "converted from ONNX (gate.onnx)" in str(sys.modules[type(from_onnx).__module__].__doc__)
