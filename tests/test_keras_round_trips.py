"""Files of every kind that Keras 3 and Keras 2 write: read, written again, and read back the same; the frameworks judge the numbers."""

from __future__ import annotations

import dataclasses
import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

from parity.errors import FormatError
from parity.files import read_file
from parity.files.hdf5 import Source, opened
from parity.files.keras import file as keras_file
from parity.files.keras import h5 as keras_h5
from parity.files.keras.legacy_writing import notes_of_legacy, write_legacy_h5
from parity.files.keras.weights import TreeWeights
from parity.files.keras.writing import write_keras, write_weights_h5
from parity.frameworks import framework
from parity.identity import identical, same_weights
from parity.network.graph import Network
from parity.network.keras.chain import MOST_LAYERS
from parity.network.keras.recognition import recognised
from parity.result import State

STEPS = np.random.default_rng(9).normal(size=(2, 7, 3)).astype(np.float32)
STEPS[0, 5:] = 0


def called_twice(k: Any) -> Any:
    x, loop = k.Input((7, 3)), k.layers.GRU(3, return_sequences=True, name="loop")
    return k.Model(x, k.layers.Dense(2)(loop(loop(x))))


def model_called_twice(k: Any) -> Any:
    inner = k.Sequential([k.layers.LSTM(3, return_sequences=True), k.layers.Dense(3)], name="inner")
    x = k.Input((7, 3))
    return k.Model(x, inner(inner(x)))


def given_by_a_sequential(k: Any) -> Any:
    """Its outputs are ["inner", 1, 0] in a file of Keras 2."""
    layers = [k.layers.LSTM(4, return_sequences=True), k.layers.LSTM(5, return_sequences=True), k.layers.Dense(2)]
    inner, x = k.Sequential([k.Input((7, 6)), *layers], name="inner"), k.Input((7, 3))
    return k.Model(x, inner(k.layers.LSTM(6, return_sequences=True)(x)))


def owned_and_used(k: Any) -> Any:
    """A layer of a nested model that the outer one calls, too: trees have it once."""
    inside, loop = k.Input((7, 3)), k.layers.GRU(3, return_sequences=True, name="loop")
    inner, x = k.Model(inside, k.layers.Dense(3)(loop(inside)), name="inner"), k.Input((7, 3))
    return k.Model(x, loop(inner(x)))


def partly_frozen(k: Any) -> Any:
    frozen = k.layers.Dense(4, trainable=False)
    inner = k.Sequential(
        [k.Input((7, 3)), frozen, k.layers.LSTM(4, return_sequences=True), k.layers.Dense(4)], name="inner"
    )
    return k.Sequential([k.Input((7, 3)), inner, k.layers.GRU(5)])


def unlike_directions(k: Any) -> Any:
    backward = k.layers.GRU(4, return_sequences=True, go_backwards=True)
    both = k.layers.Bidirectional(k.layers.LSTM(4, return_sequences=True), backward_layer=backward)
    return k.Sequential([k.Input((7, 3)), both, k.layers.Dense(2)])


def cells_and_masks(k: Any) -> Any:
    cells = [k.layers.LSTMCell(4, name="first"), k.layers.GRUCell(5, name="second")]
    return k.Sequential([
        k.Input((7, 3)), k.layers.Masking(), k.layers.RNN(cells, return_sequences=True),
        k.layers.TimeDistributed(k.layers.Dense(4)), k.layers.Activation("tanh"), k.layers.Dropout(0.2),
k.layers.Bidirectional(k.layers.SimpleRNN(3), merge_mode="ave"), k.layers.Dense(2, activation="softmax"),
    ])  # fmt: skip


BUILDERS = [
    called_twice, model_called_twice, given_by_a_sequential, owned_and_used, partly_frozen, unlike_directions, cells_and_masks,
]  # fmt: skip


def computed(network: Network, x: Any) -> list[Any]:
    states = {
        layer.name: State(*[np.zeros(layer.spec.state_shape(state, len(x))) for state in layer.spec.states])
        for layer in network.recurrent
    }
    return list(network.whole().compute(x, states)[0].values())


def randomised(model: Any) -> Any:
    rng = np.random.default_rng(5)
    model.set_weights([rng.normal(scale=0.5, size=w.shape).astype(w.dtype) for w in model.get_weights()])
    return model


def library(name: str) -> Any:
    return pytest.importorskip(name, reason="tf-keras is Keras 2, the judge of files for it")


def written(write: Callable[[Network, Any], None], network: Network, path: Path) -> Path:
    with path.open("wb") as file:
        write(network, file)
    return path


def predicted(model: Any) -> Any:
    return model.predict(STEPS, verbose=0)


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.parametrize("suffix", [".keras", ".h5", ".weights.h5"])
@pytest.mark.parametrize("name", ["keras", "tf_keras"])
@pytest.mark.parametrize("build", BUILDERS, ids=lambda build: build.__name__)
def test_files_are_read(tmp_path: Path, build: Callable[[Any], Any], name: str, suffix: str) -> None:
    model, path = randomised(build(library(name))), tmp_path / f"m{suffix}"
    if suffix == ".weights.h5":
        model.save_weights(path)
        (tmp_path / "m.json").write_text(model.to_json())
    else:
        model.save(path)
    (ours,) = computed(read_file(path).whole(), STEPS)
    np.testing.assert_allclose(ours, predicted(model), rtol=0, atol=1e-6)


@pytest.mark.parametrize("build", BUILDERS, ids=lambda build: build.__name__)
def test_files_are_written_and_read_back(tmp_path: Path, build: Callable[[Any], Any]) -> None:
    model = randomised(build(keras))
    model.save(tmp_path / "m.h5") if build is owned_and_used else model.save(tmp_path / "m.keras")
    network = read_file(next(tmp_path.iterdir())).whole()
    new = written(write_keras, network, tmp_path / "new.keras")
    assert identical(keras_file.read(new), network)
    whole = keras.models.load_model(new)
    np.testing.assert_allclose(predicted(whole), predicted(model), rtol=0, atol=1e-6)
    alone = written(write_weights_h5, network, tmp_path / "new.weights.h5")
    (tmp_path / "new.json").write_text(whole.to_json())
    assert same_weights(keras_h5.read(alone), network)
    assert identical(keras_h5.read(alone), network)
    emptied = keras.models.clone_model(whole)
    emptied.load_weights(alone)
    np.testing.assert_array_equal(predicted(emptied), predicted(whole))
    old = written(write_legacy_h5, network, tmp_path / "new.h5")
    assert identical(keras_h5.read(old), network)
    for name in ("keras", "tf_keras"):
        loaded = (
            importlib.import_module(name).models.load_model(old)
            if name == "keras"
            else library(name).models.load_model(old)
        )
        np.testing.assert_allclose(predicted(loaded), predicted(model), rtol=0, atol=1e-6)


def test_the_magic_decides_not_the_suffix(tmp_path: Path) -> None:
    """Up to 2.12 Keras took the suffix `.keras` for HDF5 (`is_hdf5_filepath` in `saving_utils.py`)."""
    model = randomised(cells_and_masks(keras))
    model.save(tmp_path / "m.keras")
    model.save(tmp_path / "m.h5")
    (tmp_path / "m.h5").rename(tmp_path / "old.keras")
    (tmp_path / "m.keras").rename(tmp_path / "new.h5")
    old, new = read_file(tmp_path / "old.keras"), read_file(tmp_path / "new.h5")
    assert identical(old, new)
    assert "HDF5" in old.details["file"]
    assert new.details["file"] == "a .keras file under the name .h5"
    (tmp_path / "c.json").write_text(model.to_json())
    with pytest.raises(FormatError, match="a configuration beside one"):
        keras_h5.read(tmp_path / "new.h5", tmp_path / "c.json")


def test_keras_runs_a_file_that_is_not_what_it_is_called(tmp_path: Path) -> None:
    """Today's `load_model` takes a file called `.keras` for a zip, whatever it holds."""
    model = randomised(cells_and_masks(keras))
    model.save(tmp_path / "m.h5")
    old = (tmp_path / "m.h5").rename(tmp_path / "old.keras")
    with pytest.raises(ValueError, match="keras"):
        keras.models.load_model(old)
    network = read_file(old)
    np.testing.assert_allclose(predicted(framework("keras").load(old, network)), predicted(model), rtol=0, atol=1e-6)
    sound = dataclasses.replace(network, details={})
    with pytest.raises(FormatError, match="Keras cannot open this file"):
        framework("keras").load(old, sound)


def activations_of_their_own(k: Any) -> Any:
    x = k.Input((7, 3))
    y = k.layers.Dense(5, name="hidden")(k.layers.LSTM(4, return_sequences=True, name="loop")(x))
    y = k.layers.Activation("tanh", name="middle")(y)
    z = k.layers.Dense(2, name="logits")(k.layers.GRU(3, name="last")(y))
    return k.Model(x, [k.layers.Activation("softmax", name="classes")(z), y], name="m")


def test_outputs_keep_the_names_of_their_activations(tmp_path: Path) -> None:
    model = randomised(activations_of_their_own(keras))
    model.save(tmp_path / "m.keras")
    network = read_file(tmp_path / "m.keras").whole()
    assert [output.name for output in network.outputs] == ["classes", "middle"]
    assert [layer.name for layer in network.layers] == ["loop", "hidden", "last", "logits"]
    new = written(write_keras, network, tmp_path / "new.keras")
    old = written(write_legacy_h5, network, tmp_path / "new.h5")
    alone = written(write_weights_h5, network, tmp_path / "new.weights.h5")
    whole = keras.models.load_model(new)
    assert [layer.name for layer in whole.layers][1:] == ["loop", "hidden", "middle", "last", "logits", "classes"]
    (tmp_path / "new.json").write_text(whole.to_json())
    for path in (new, old, alone):
        again = read_file(path).whole()
        assert [output.name for output in again.outputs] == ["classes", "middle"]
        assert [layer.name for layer in again.layers] == [layer.name for layer in network.layers]
        assert identical(again, network)
    models = [
        whole,
        keras.models.load_model(old),
        framework("keras").build(network),
        library("tf_keras").models.load_model(old),
    ]
    for made in models:
        for ours, own in zip(predicted(made), predicted(model), strict=True):
            np.testing.assert_allclose(ours, own, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("version", "step"), [("2.14.0", 1), ("2.13.1", 2)])
@pytest.mark.parametrize("said", [True, False], ids=["said", "unsaid"])
def test_trees_of_keras_2_13_and_2_14(tmp_path: Path, version: str, step: int, said: bool) -> None:
    """`_save_container_state` and `_walk_trackable` of `saving_lib.py`: another root, and numbers in steps of two up to 2.13."""
    serialized = keras.saving.serialize_keras_object(given_by_a_sequential(keras))
    tree = "_layer_checkpoint_dependencies"
    wanted: dict[str, list[Any]] = {"lstm": [], "lstm_1": []}
    with h5py.File(tmp_path / "w.h5", "w") as file:
        for place, number in enumerate((0, step)):
            name = f"{tree}/sequential/{tree}/lstm{f'_{number}' if number else ''}/cell/vars"
            arrays = [np.full((2, 2), 10 * place + at, np.float32) for at in range(3)]
            wanted[("lstm", "lstm_1")[place]] = arrays
            for at, array in enumerate(arrays):
                file[f"{name}/{at}"] = array
        file[f"{tree}/sequential/{tree}/dense/vars/0"] = np.ones(2, np.float32)
        file[f"{tree}/lstm/cell/vars/0"] = np.ones(2, np.float32)
    inner = next(layer["config"] for layer in serialized["config"]["layers"] if layer["config"]["name"] == "inner")
    names = [layer["config"]["name"] for layer in inner["layers"] if layer["class_name"] == "LSTM"]
    with opened(Source(tmp_path / "w.h5")) as root:
        weights = TreeWeights(root, serialized, version if said else None)
        for name, arrays in zip(names, wanted.values(), strict=True):
            for found, array in zip(weights(f"inner/{name}"), arrays, strict=True):
                np.testing.assert_array_equal(found[()], array)


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_notes_of_a_hard_sigmoid_of_keras_2(tmp_path: Path) -> None:
    k = library("tf_keras")
    model = k.Sequential([k.Input((7, 3)), k.layers.LSTM(4, recurrent_activation="hard_sigmoid", name="loop")])
    randomised(model).save(tmp_path / "m.h5")
    (note,) = notes_of_legacy(keras_h5.read(tmp_path / "m.h5"))
    assert "'loop'" in note
    assert "x / 6" in note
    randomised(cells_and_masks(k)).save(tmp_path / "n.h5")
    assert not list(notes_of_legacy(keras_h5.read(tmp_path / "n.h5")))


def test_absurdly_many_layers_are_refused() -> None:
    groups = {f"g{number}": {"x": np.ones(2, np.float32)} for number in range(MOST_LAYERS + 1)}
    with pytest.raises(FormatError, match="absurdly many layers"):
        recognised(groups, "2.5.0")
    last = groups.popitem()
    assert [one.place for one in recognised({**dict(list(groups.items())[:5]), last[0]: last[1]}, "2.5.0").opaque] == [
        0
    ] * 6


def test_models_that_multiply_end(tmp_path: Path) -> None:
    """Models without layers that call each other ten times over: there is nothing in them that could be counted but the calls."""

    def nested(depth: int) -> dict[str, Any]:
        layers: list[dict[str, Any]] = [
            {
                "class_name": "InputLayer",
                "name": "x",
                "config": {"name": "x", "batch_input_shape": [None, 3, 2]},
                "inbound_nodes": [],
            }
        ]
        if depth:
            calls = [[["x", 0, 0, {}]], *([["s", call, 0, {}]] for call in range(9))]
            layers.append(
                {"class_name": "Functional", "name": "s", "config": nested(depth - 1), "inbound_nodes": calls}
            )
        outputs = [["s", 9, 0]] if depth else [["x", 0, 0]]
        return {"name": "s", "layers": layers, "input_layers": [["x", 0, 0]], "output_layers": outputs}

    with h5py.File(tmp_path / "m.h5", "w") as file:
        file.attrs["keras_version"] = "2.2.4"
        file.attrs["model_config"] = json.dumps({"class_name": "Functional", "config": nested(12)})
        file.create_group("model_weights").attrs["layer_names"] = np.array([], "S1")
    with pytest.raises(FormatError, match="too many layers"):
        keras_h5.read(tmp_path / "m.h5")


def test_a_text_that_stands_for_many_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file.attrs.create("layer_names", ["a" * 4000, *"bcdefghijk" * 300], dtype=h5py.string_dtype())
    content = bytearray((tmp_path / "m.h5").read_bytes())
    start = content.find((4000).to_bytes(4, "little") + content[content.find(b"GCOL") - 0 : 0])
    reference = bytes(content[start : start + 16])
    for place in range(start + 16, start + 16 * 3001, 16):
        content[place : place + 16] = reference
    (tmp_path / "m.h5").write_bytes(content)
    with pytest.raises(FormatError, match="one text stands for many"):
        keras_h5.read(tmp_path / "m.h5")
