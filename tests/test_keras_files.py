"""Files of every Keras: read without Keras, written for Keras 2 and 3, hostile ones refused.

Each age's file is made with h5py as that version made it; the function is named beside it. The judge of the numbers is a live Keras 3 model
with the same weights, whose hard_sigmoid is a function of its own where the old one is meant; tf_keras is Keras 2 itself.
"""

from __future__ import annotations

import io
import json
import random as stdlib_random
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from keras import layers as kl

from parity.deferred import Blocks, Deferred
from parity.errors import FormatError, ParityError, UnsupportedError
from parity.files.hdf5 import Dataset, Source, opened
from parity.files.hdf5.header import File
from parity.files.hdf5.writing import Tree, write_hdf5
from parity.files.keras import file as keras_file
from parity.files.keras import h5 as keras_h5
from parity.files.keras.legacy_writing import write_legacy_h5
from parity.files.keras.writing import write_keras, write_weights_h5
from parity.functions import Function
from parity.network.dense import Dense
from parity.network.graph import Network, Output
from parity.network.keras.layer_writing import keras_name
from parity.network.keras.recognition import recognised
from parity.network.recurrent import Recurrent
from parity.result import State
from parity.sources import read

MODELS = Path(__file__).parents[2] / "shared" / "models"
Weights = Sequence[tuple[str, np.ndarray[Any, Any]]]


def array(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32) * 0.6


def computed(network: Network, x: Any) -> list[Any]:
    states = {
        layer.name: State(*[np.zeros(layer.spec.state_shape(state, len(x))) for state in layer.spec.states])
        for layer in network.recurrent
    }
    return list(network.whole().compute(x, states)[0].values())


def randomised(model: Any) -> Any:
    model.set_weights([array(*weight.shape, seed=place) for place, weight in enumerate(model.get_weights())])
    return model


def assert_computes(network: Network, model: Any, x: Any) -> None:
    expected = model.predict(x, verbose=0)
    for ours, own in zip(computed(network, x), expected if isinstance(expected, list) else [expected], strict=True):
        np.testing.assert_allclose(ours, own, rtol=0, atol=1e-6)


STEPS = array(2, 7, 3, seed=9)


@keras.saving.register_keras_serializable("tests of old files")  # type: ignore[untyped-decorator]
def hard(x: Any) -> Any:
    """hard_sigmoid of Keras 1 and 2."""
    return keras.ops.clip(0.2 * x + 0.5, 0.0, 1.0)


# ---- HDF5


@pytest.mark.parametrize(
    "options", [{}, {"userblock_size": 512}, {"libver": "latest"}, {"libver": ("v110", "v110")}], ids=str
)
def test_hdf5_reads_what_h5py_writes(tmp_path: Path, options: dict[str, Any]) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w", **options) as file:
        file.attrs["long"] = b"x" * 100_000
        file.attrs["text"] = "ünï"
        file.attrs["list"] = [b"a", b"bcd"]
        file.attrs["empty"] = []
        for place in range(40 if "libver" not in options else 6):
            group = file.create_group(f"layer_{place}/inner/cell")
            group.attrs["name"] = f"n{place}"
            for kind in ("f2", "f4", "f8", ">f4", "i4", "u1"):
                group.create_dataset(kind, data=(array(3, 4, seed=place) * 50).astype(kind))
            group["scalar"] = np.float32(place)
        if "libver" not in options:
            for place, (shape, extent) in enumerate([((30, 40), (7, 9)), ((100,), (30,)), ((5, 6, 7), (2, 3, 4))]):
                for compression, shuffle, checked in ((None, False, True), ("gzip", True, False), ("gzip", True, True)):
                    settings = {"compression": compression, "shuffle": shuffle, "fletcher32": checked}
                    file.create_dataset(f"{place}{compression}{checked}", data=array(*shape), chunks=extent, **settings)
    with h5py.File(path) as file, opened(Source(path)) as root:
        own: dict[str, Any] = {}
        file.visititems(own.__setitem__)
        found = dict(root.walk())
        assert found.keys() == own.keys()
        assert root.text("long") == "x" * 100_000
        assert root.text("text") == "ünï"
        assert (root.texts("list"), root.texts("empty"), root.texts("none")) == (["a", "bcd"], [], None)
    for name, node in found.items():
        if isinstance(node, Dataset):
            stored = node.stored()
            with h5py.File(path) as file:
                np.testing.assert_array_equal(stored[()], file[name][()])
                assert stored.dtype == file[name].dtype
                if stored.shape:
                    np.testing.assert_array_equal(stored[1:3], file[name][1:3])


def test_h5py_reads_what_is_written(tmp_path: Path) -> None:
    tree, written = Tree(attributes={"model_config": "{}" * 50_000, "v": "ü"}), {}
    tree.say("few", ["a", "bcd"])
    tree.say("none", [])
    tree.say("many", [f"{number:050d}" for number in range(3000)])
    for place in range(300):
        value = array(3, place % 7).astype("f4" if place % 2 else "f8")
        written[f"g/layer_{place}/cell/k:0"] = value
        tree.put(f"g/layer_{place}/cell/k:0", Blocks(value.shape, value.dtype, partial(iter, [value[:1], value[1:]])))
        tree.group(f"g/layer_{place}").attributes["name"] = f"n{place}"
    path = tmp_path / "a.h5"
    with path.open("wb") as file:
        write_hdf5(tree, file)
    with h5py.File(path) as found:
        for name, value in written.items():
            np.testing.assert_array_equal(found[name][()], value)
            assert found[name].dtype == value.dtype
        assert found.attrs["model_config"] == "{}" * 50_000
        assert list(found.attrs["few"]) == [b"a", b"bcd"]
        assert len(found.attrs["none"]) == 0
        # load_attributes_from_hdf5_group of Keras 3
        loaded = keras.src.legacy.saving.legacy_h5_format.load_attributes_from_hdf5_group(found, "many")
        assert loaded == [f"{number:050d}" for number in range(3000)]
        assert found["g/layer_77"].attrs["name"] == "n77"
    with opened(Source(path)) as root:
        assert root.texts("many") == loaded


# ---- one file for each age


def save_weights(
    group: Any, layers: Sequence[tuple[str, Weights]], version: str | None = None, backend: str = "tensorflow"
) -> None:
    """`save_weights_to_hdf5_group` in keras/engine/topology.py of 1.2.2 (without a version) and of 2.1.5."""
    group.attrs["layer_names"] = [name.encode() for name, _ in layers]
    if version is not None:
        group.attrs["backend"] = backend.encode()
        group.attrs["keras_version"] = version.encode()
    for name, weights in layers:
        own = group.create_group(name)
        own.attrs["weight_names"] = [weight.encode() for weight, _ in weights]
        for weight, value in weights:
            own.create_dataset(weight, value.shape, dtype=value.dtype)[...] = value


def save_model(
    path: Path, config: object, layers: Sequence[tuple[str, Weights]], version: str, inner: str = "model_weights"
) -> Path:
    """`save_model` in keras/models.py of 1.2.2 and 2.1.5, `save_model_to_hdf5` of tf.keras; optimizer_weights as of a compiled model."""
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = version.encode()
        file.attrs["model_config"] = json.dumps(config).encode()
        file.attrs["training_config"] = json.dumps({"loss": "mse", "optimizer_config": {"class_name": "Adam"}}).encode()
        save_weights(file.create_group(inner) if inner else file, layers, version if version >= "2" else None)
        optimizer = file.create_group("optimizer_weights")
        optimizer.attrs["weight_names"] = [b"Adam/m:0"]
        optimizer["Adam/m:0"] = array(3, 3)
    return path


def gates_of_keras_1(name: str, gates: str, inputs: int, units: int, tail: str) -> Weights:
    """`LSTM.build` and `GRU.build` in keras/layers/recurrent.py of 1.2.2: trainable_weights, consume_less other than "gpu"."""
    shapes = {"W": (inputs, units), "U": (units, units), "b": (units,)}
    return [
        (f"{name}_{word}_{gate}{tail}", array(*shape, seed=ord(gate)))
        for gate in gates
        for word, shape in shapes.items()
    ]


def keras_1_layers(tail: str) -> list[tuple[str, Weights]]:
    directions = [
        weight for way in ("forward", "backward") for weight in gates_of_keras_1(f"{way}_gru_1", "zrh", 4, 5, tail)
    ]
    return [
        ("embedding_1", [(f"embedding_1_W{tail}", array(9, 3))]),
        ("lstm_1", gates_of_keras_1("lstm_1", "icfo", 3, 4, tail)),
        ("bidirectional_1", [(name, value + 0.1 * name.startswith("backward")) for name, value in directions]),
        (
            "simplernn_1",
            [
                (f"simplernn_1_{word}{tail}", array(*shape))
                for word, shape in (("W", (10, 3)), ("U", (3, 3)), ("b", (3,)))
            ],
        ),
        ("dense_1", [(f"dense_1_{word}{tail}", array(*shape)) for word, shape in (("W", (3, 2)), ("b", (2,)))]),
    ]


def keras_1_config() -> dict[str, Any]:
    """`Sequential.get_config` in keras/models.py of 1.2.2: a list; `get_config` of each layer there."""
    loop = {
        "init": "glorot_uniform", "inner_init": "orthogonal", "activation": "tanh", "go_backwards": False, "stateful": False,
        "unroll": False, "consume_less": "cpu", "input_length": None, "dropout_W": 0.0, "dropout_U": 0.0, "W_regularizer": None,
        "U_regularizer": None, "b_regularizer": None, "trainable": True,
    }  # fmt: skip
    embedding = {
        "name": "embedding_1", "input_dim": 9, "output_dim": 3, "init": "uniform", "input_length": 7, "mask_zero": False,
        "batch_input_shape": [None, 7], "input_dtype": "int32", "trainable": True, "dropout": 0.0, "W_regularizer": None,
        "W_constraint": None, "activity_regularizer": None,
    }  # fmt: skip
    lstm = {**loop, "name": "lstm_1", "output_dim": 4, "input_dim": 3, "return_sequences": True}
    lstm |= {"forget_bias_init": "one", "inner_activation": "hard_sigmoid"}
    gru = {
        **loop,
        "name": "gru_1",
        "output_dim": 5,
        "input_dim": 4,
        "return_sequences": True,
        "inner_activation": "hard_sigmoid",
    }
    rnn = {**loop, "name": "simplernn_1", "output_dim": 3, "input_dim": 10, "return_sequences": False}
    dense = {
        "name": "dense_1", "output_dim": 2, "init": "glorot_uniform", "activation": "tanh", "bias": True, "input_dim": 3,
        "W_regularizer": None, "b_regularizer": None, "activity_regularizer": None, "W_constraint": None, "b_constraint": None,
        "trainable": True,
    }  # fmt: skip
    both = {
        "name": "bidirectional_1",
        "trainable": True,
        "merge_mode": "concat",
        "layer": {"class_name": "GRU", "config": gru},
    }
    classes = (("Embedding", embedding), ("LSTM", lstm), ("Bidirectional", both), ("SimpleRNN", rnn), ("Dense", dense))
    return {"class_name": "Sequential", "config": [{"class_name": name, "config": config} for name, config in classes]}


def keras_1_judge(layers: Mapping[str, Weights]) -> Any:
    """The same in Keras 3, its weights put together by hand: i, f, c, o and z, r, h."""
    model = keras.Sequential([
        keras.Input((7,), dtype="int32"), kl.Embedding(9, 3),
        kl.LSTM(4, return_sequences=True, recurrent_activation=hard),
        kl.Bidirectional(kl.GRU(5, return_sequences=True, recurrent_activation=hard, reset_after=False)),
        kl.SimpleRNN(3), kl.Dense(2, activation="tanh"),
    ])  # fmt: skip

    def joined(weights: Weights, order: str) -> list[Any]:
        named = {name.removesuffix(":0"): value for name, value in weights}
        stem = next(iter(named)).rpartition("_")[0].rpartition("_")[0]
        return [np.concatenate([named[f"{stem}_{word}_{gate}"] for gate in order], axis=-1) for word in "WUb"]

    half = 9
    both = layers["bidirectional_1"]
    model.set_weights([
        *(value for _, value in layers["embedding_1"]), *joined(layers["lstm_1"], "ifco"), *joined(both[:half], "zrh"),
        *joined(both[half:], "zrh"), *(value for _, value in layers["simplernn_1"]), *(value for _, value in layers["dense_1"]),
    ])  # fmt: skip
    return model


@pytest.mark.parametrize("tail", ["", ":0"], ids=["theano", "tensorflow"])
@pytest.mark.parametrize("inner", ["model_weights", ""], ids=["1.2", "1.0"])
def test_a_whole_model_of_keras_1(tmp_path: Path, tail: str, inner: str) -> None:
    layers = keras_1_layers(tail)
    network = keras_h5.read(save_model(tmp_path / "old.h5", keras_1_config(), layers, "1.2.2", inner))
    assert network.details["producer"] == "Keras 1.2.2"
    assert_computes(network, keras_1_judge(dict(layers)), np.random.default_rng(1).integers(0, 9, (2, 7)))


def test_weights_of_keras_1_alone_are_recognised(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "old.h5", "w") as file:
        save_weights(file, keras_1_layers(":0"))
    network = keras_h5.read(tmp_path / "old.h5")
    judge = keras_h5.read(save_model(tmp_path / "whole.h5", keras_1_config(), keras_1_layers(":0"), "1.2.2"))
    assert [type(layer) for layer in network.layers] == [type(layer) for layer in judge.layers]
    for ours, own in zip(network.recurrent, judge.recurrent, strict=True):
        assert (ours.name, ours.cells, ours.spec) == (own.name, own.cells, own.spec)
        for name, value in own.arrays.items():
            np.testing.assert_array_equal(ours.arrays[name], value)
    assert "recurrent_activation='hard_sigmoid' (the default of Keras 1)" in network.details["assumed"]
    with pytest.raises(UnsupportedError, match="do not say how the layers are connected"):
        network.whole()


def test_numbered_weights_of_keras_0(tmp_path: Path) -> None:
    """nb_layers and nb_params: the legacy branch of `load_weights_from_hdf5_group` in 1.2.2."""
    values = [value for _, value in gates_of_keras_1("lstm_1", "icfo", 3, 4, "")]
    with h5py.File(tmp_path / "old.h5", "w") as file:
        file.attrs["nb_layers"] = 1
        group = file.create_group("layer_0")
        group.attrs["nb_params"] = 12
        for number, value in enumerate(values):
            group[f"param_{number}"] = value
    (layer,) = keras_h5.read(tmp_path / "old.h5").whole().recurrent
    np.testing.assert_array_equal(layer.weights[0].kernel[2], values[3].T)  # c, the second


def sequential(version: str, layers: Sequence[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    """`Sequential.get_config`: a list until 2.2.2, then a name and layers."""
    listed = [{"class_name": name, "config": config} for name, config in layers]
    return {
        "class_name": "Sequential",
        "config": listed if version < "2.2.3" else {"name": "sequential_1", "layers": listed},
    }


VARIANCE = {
    "class_name": "VarianceScaling",
    "config": {"scale": 1.0, "mode": "fan_avg", "distribution": "uniform", "seed": None},
}
LOOP_OF_KERAS_2 = {
    "trainable": True, "return_state": False, "go_backwards": False, "stateful": False, "unroll": False, "activation": "tanh",
    "use_bias": True, "kernel_regularizer": None, "recurrent_regularizer": None, "bias_regularizer": None, "activity_regularizer": None,
    "kernel_constraint": None, "recurrent_constraint": None, "bias_constraint": None, "dropout": 0.2, "recurrent_dropout": 0.1,
    "kernel_initializer": VARIANCE,
    "recurrent_initializer": {"class_name": "Orthogonal", "config": {"gain": 1.0, "seed": None}},
    "bias_initializer": {"class_name": "Zeros", "config": {}},
}  # fmt: skip
"""`LSTM.get_config` in keras/layers/recurrent.py of 2.1.5; tf.keras has `time_major`, too."""


@pytest.mark.parametrize("version", ["2.0.8", "2.1.5", "2.2.4", "2.2.4-tf", "2.3.1", "2.4.0", "2.13.1"])
def test_a_whole_model_of_keras_2(tmp_path: Path, version: str) -> None:
    tf = version.endswith("tf") or version >= "2.4"
    old_names = version < "2.4"
    more = {"time_major": False, "implementation": 2} if tf else {"implementation": 1}
    absent = ("return_state",) if version < "2.1" else ()
    loop = {key: value for key, value in LOOP_OF_KERAS_2.items() if key not in absent}
    lstm = {**loop, **more, "name": "zeta", "units": 4, "return_sequences": True, "batch_input_shape": [None, None, 3]}
    lstm |= {"dtype": "float32", "recurrent_activation": "hard_sigmoid", "unit_forget_bias": True}
    gru = {
        **loop,
        **more,
        "name": "alpha",
        "units": 5,
        "return_sequences": False,
        "recurrent_activation": "hard_sigmoid",
    }
    gru |= {"reset_after": False} if version >= "2.1.3" else {}
    dense = {"name": "mid", "trainable": True, "units": 2, "activation": "softmax", "use_bias": True}
    cells = ("", "") if old_names else ("lstm_cell/", "gru_cell/")

    def named(layer: str, cell: str, inputs: int, width: int, units: int) -> Weights:
        shapes = {"kernel": (inputs, width), "recurrent_kernel": (units, width), "bias": (width,)}
        return [(f"{layer}/{cell}{role}:0", array(*shape)) for role, shape in shapes.items()]

    layers = [
        ("zeta", named("zeta", cells[0], 3, 16, 4)),
        ("alpha", named("alpha", cells[1], 4, 15, 5)),
        ("mid", [("mid/kernel:0", array(5, 2)), ("mid/bias:0", array(2))]),
    ]
    config = sequential(version, [("LSTM", lstm), ("GRU", gru), ("Dense", dense)])
    network = keras_h5.read(save_model(tmp_path / "old.h5", config, layers, version))
    assert network.details["producer"] == f"Keras {version}, tensorflow backend"
    model = keras.Sequential([
        keras.Input((None, 3)), kl.LSTM(4, return_sequences=True, recurrent_activation=hard),
        kl.GRU(5, recurrent_activation=hard, reset_after=False), kl.Dense(2, activation="softmax"),
    ])  # fmt: skip
    model.set_weights([value for _, weights in layers for _, value in weights])
    assert_computes(network, model, STEPS)


def test_options_that_old_files_do_not_say(tmp_path: Path) -> None:
    """2.0.0 to 2.1.2 wrote no reset_after, and its only GRU is that of reset_after=False."""
    gru = {
        **LOOP_OF_KERAS_2,
        "name": "gru_1",
        "units": 5,
        "return_sequences": True,
        "batch_input_shape": [None, 7, 3],
        "use_bias": False,
    }
    layers = [("gru_1", [("gru_1/kernel:0", array(3, 15)), ("gru_1/recurrent_kernel:0", array(5, 15))])]
    network = keras_h5.read(save_model(tmp_path / "old.h5", sequential("2.0.0", [("GRU", gru)]), layers, "2.0.0"))
    (cell,) = network.recurrent[0].cells
    assert (cell.reset_after, cell.functions[0]) == (False, Function("hard_sigmoid", 0.2, 0.5))


def nested_config(named: bool) -> dict[str, Any]:
    """`Container.get_config` of 2.1.5 around a Sequential, which is a list there."""
    loop = {**LOOP_OF_KERAS_2, "recurrent_activation": "sigmoid"}
    first = {**loop, "name": "one", "units": 4, "return_sequences": True, "batch_input_shape": [None, None, 3]}
    second = {**loop, "name": "two", "units": 5, "return_sequences": True}
    inner = [{"class_name": "LSTM", "config": config} for config in (first, second)]
    outer = {**loop, "name": "one_", "units": 2, "return_sequences": False}
    taken = {"batch_input_shape": [None, None, 3], "dtype": "float32", "sparse": False, "name": "input_1"}
    layers: list[tuple[str, str, Any, list[Any]]] = [
        ("input_1", "InputLayer", taken, []),
        ("enc", "Sequential", {"name": "enc", "layers": inner} if named else inner, [[["input_1", 0, 0, {}]]]),
        ("one_", "LSTM", outer, [[["enc", 1, 0, {}]]]),
    ]
    keys = ("name", "class_name", "config", "inbound_nodes")
    listed = [dict(zip(keys, layer, strict=True)) for layer in layers]
    ends = {"input_layers": [["input_1", 0, 0]], "output_layers": [["one_", 0, 0]]}
    return {"class_name": "Model", "config": {"name": "model_1", "layers": listed, **ends}}


@pytest.mark.parametrize("named", [True, False], ids=["2.2.4", "2.1.5"])
def test_a_model_inside_a_model_is_one_group(tmp_path: Path, named: bool) -> None:
    sizes = {"one": (3, 4), "two": (4, 5), "one_": (5, 2)}
    weights = {
        name: [
            (f"{name}/{role}:0", array(*shape, seed=len(name)))
            for role, shape in (("kernel", (i, 4 * u)), ("recurrent_kernel", (u, 4 * u)), ("bias", (4 * u,)))
        ]
        for name, (i, u) in sizes.items()
    }
    layers = [("input_1", []), ("enc", [*weights["one"], *weights["two"]]), ("one_", weights["one_"])]
    version = "2.2.4" if named else "2.1.5"
    network = keras_h5.read(save_model(tmp_path / "old.h5", nested_config(named), layers, version))
    assert [layer.name for layer in network.layers] == ["one", "two", "one_"]
    model = keras.Sequential(
        [keras.Input((None, 3)), *(kl.LSTM(u, return_sequences=name != "one_") for name, (_, u) in sizes.items())]
    )
    model.set_weights([value for own in weights.values() for _, value in own])
    assert_computes(network, model, STEPS)


def test_long_lists_of_names_are_put_together(tmp_path: Path) -> None:
    """`save_attributes_to_hdf5_group` splits what is above 64 kB into layer_names0, layer_names1, ..."""
    with h5py.File(tmp_path / "m.h5", "w") as file:
        names = [f"{number:06d}{'x' * 400}".encode() for number in range(200)]
        for place, part in enumerate(np.array_split(np.asarray(names), 2)):
            file.attrs[f"layer_names{place}"] = part
        file.attrs["keras_version"] = b"2.5.0"
        for name in names:
            file.create_group(name).attrs["weight_names"] = []
        for place, weight in enumerate(("kernel", "recurrent_kernel")):
            file[f"{names[-1].decode()}/{weight}:0"] = array(3 + place, 16)
        file[names[-1]].attrs["weight_names0"] = [b"kernel:0"]
        del file[names[-1]].attrs["weight_names"]
        file[names[-1]].attrs["weight_names1"] = [b"recurrent_kernel:0"]
    assert keras_h5.read(tmp_path / "m.h5").whole().recurrent[0].spec.hidden_size == 4


def saved_by_keras_3() -> Any:
    x = keras.Input((None, 3), name="in")
    y = kl.Bidirectional(kl.LSTM(4, return_sequences=True, name="l"), name="zz")(x)
    y = kl.RNN([kl.LSTMCell(3, name="c1"), kl.GRUCell(2, name="c2")], return_sequences=True, name="cells")(y)
    inner = keras.Sequential([keras.Input((None, 2)), kl.GRU(6, return_sequences=True, name="g")], name="enc")
    y, h = kl.GRU(5, return_state=True, name="a")(inner(y))
    return randomised(keras.Model(x, [kl.Dense(2, activation="softmax", name="d")(y), h], name="mm"))


@pytest.mark.parametrize("suffix", [".h5", ".keras", ".weights.h5"])
def test_files_that_keras_3_writes(tmp_path: Path, suffix: str) -> None:
    model = saved_by_keras_3()
    model.compile("adam", "mse")
    path = tmp_path / f"m{suffix}"
    if suffix == ".weights.h5":
        model.save_weights(path)
        (tmp_path / "m.json").write_text(model.to_json())
    else:
        model.save(path)
    network = (keras_file if suffix == ".keras" else keras_h5).read(path)
    assert_computes(network, model, STEPS)
    if suffix != ".weights.h5":
        assert network.details["producer"].startswith(f"Keras {keras.__version__}")


def test_a_tree_of_keras_2_14(tmp_path: Path) -> None:
    """`_walk_trackable` goes through `dir(model)`: `_layer_checkpoint_dependencies` comes before `layers` in 2.14; 2.15 leaves it out."""
    model = keras.Sequential([keras.Input((None, 3)), kl.LSTM(4, return_sequences=True), kl.LSTM(5), kl.Dense(2)])
    randomised(model).save(tmp_path / "new.keras")
    with zipfile.ZipFile(tmp_path / "new.keras") as archive:
        content, config = io.BytesIO(archive.read(keras_file.WEIGHTS)), archive.read(keras_file.CONFIG)
    with h5py.File(content, "a") as file:
        file.move("layers", "_layer_checkpoint_dependencies")
    with zipfile.ZipFile(tmp_path / "old.keras", "w") as archive:
        archive.writestr(keras_file.METADATA, '{"keras_version": "2.14.0", "date_saved": "2023-10-01@10:00:00"}')
        archive.writestr(keras_file.CONFIG, config)
        archive.writestr(keras_file.WEIGHTS, content.getvalue())
    network = keras_file.read(tmp_path / "old.keras")
    assert network.details == {"producer": "Keras 2.14.0", "saved": "2023-10-01 10:00:00"}
    assert_computes(network, model, STEPS)


def test_a_layer_that_is_not_read_is_described(tmp_path: Path) -> None:
    x = keras.Input((9, 3))
    y = kl.BatchNormalization(name="norm")(kl.LSTM(5, name="l")(kl.Conv1D(4, 3, name="conv")(x)))
    model = randomised(keras.Model(x, y))
    model.save(tmp_path / "m.h5")
    model.save(tmp_path / "m.keras")
    for path in (tmp_path / "m.h5", tmp_path / "m.keras"):
        network = (keras_file if path.suffix == ".keras" else keras_h5).read(path)
        assert [layer.name for layer in network.recurrent] == ["l"]
        assert [(one.name, one.place, len(one.tensors)) for one in network.opaque] == [("conv", 0, 2), ("norm", 1, 4)]
        assert all(str(path) in problem.where for problem in network.problems)
        kernel = next(iter(network.opaque[0].tensors.values()))[()]
        np.testing.assert_array_equal(kernel, model.get_layer("conv").get_weights()[0])


def test_large_weights_stay_in_the_file(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((None, 3)), kl.LSTM(600)])
    randomised(model).save(tmp_path / "m.keras")
    model.save(tmp_path / "m.h5")
    for network in (keras_file.read(tmp_path / "m.keras"), keras_h5.read(tmp_path / "m.h5")):
        assert isinstance(network.recurrent[0].weights[0].held("recurrent"), Deferred)
        with (tmp_path / "again.keras").open("wb") as file:
            write_keras(network, file)
        for ours, own in zip(
            keras.models.load_model(tmp_path / "again.keras").get_weights(), model.get_weights(), strict=True
        ):
            np.testing.assert_array_equal(ours, own)


# ---- weights alone


def test_a_json_beside_the_weights_is_found(tmp_path: Path) -> None:
    model = randomised(keras.Sequential([keras.Input((None, 3)), kl.LSTM(4, name="x"), kl.Dense(2, activation="tanh")]))
    model.save_weights(tmp_path / "m.weights.h5")
    for beside in ("m.json", "m.weights.json"):
        (tmp_path / beside).write_text(
            json.dumps(model.to_json())
        )  # a JSON string that holds JSON, as json.dump(model.to_json()) gives
        network = keras_h5.read(tmp_path / "m.weights.h5")
        assert network.details["architecture"] == f"from {beside}"
        assert_computes(network, model, STEPS)
        (tmp_path / beside).unlink()
    for text in ('{"vocabulary": {"class_name": 3}}', "{", '{"class_name": "LSTM", "config": {}}', "[]"):
        (tmp_path / "m.json").write_text(text)
        assert keras_h5.read(tmp_path / "m.weights.h5").problems
        with pytest.raises(FormatError):
            keras_h5.read(tmp_path / "m.weights.h5", tmp_path / "m.json")
    (tmp_path / "other.json").write_text(model.to_json())
    assert_computes(keras_h5.read(tmp_path / "m.weights.h5", tmp_path / "other.json"), model, STEPS)


def test_weights_by_order_where_the_names_are_others(tmp_path: Path) -> None:
    """`load_weights` goes by order, so that a JSON with other names belongs to the weights, too."""
    config = keras_1_config()
    with h5py.File(tmp_path / "m_weights.h5", "w") as file:
        save_weights(file, [(name.replace("_1", "_7"), weights) for name, weights in keras_1_layers("")])
    (tmp_path / "m.json").write_text(json.dumps({**config, "keras_version": "1.2.2", "backend": "theano"}))
    network = keras_h5.read(tmp_path / "m_weights.h5")
    assert network.details["producer"] == "Keras 1.2.2, theano backend"
    assert "lstm_1 from lstm_7" in network.details["assumed"]
    assert_computes(network, keras_1_judge(dict(keras_1_layers(""))), np.random.default_rng(1).integers(0, 9, (2, 7)))


def cell_of(kind: str, inputs: int, units: int, bias: tuple[int, ...] | None, *names: str) -> dict[str, Any]:
    width = {"lstm": 4, "gru": 3, "rnn": 1}[kind] * units
    shapes = [(inputs, width), (units, width), *([bias] if bias else [])]
    return {
        name: array(*shape)
        for name, shape in zip(names or ("kernel:0", "recurrent_kernel:0", "bias:0"), shapes, strict=False)
    }


@pytest.mark.parametrize(
    ("tensors", "version", "expected", "assumed"),
    [
        (cell_of("lstm", 3, 4, (16,)), "2.1.5", ("lstm", 0.2, True), "hard_sigmoid"),
        (cell_of("lstm", 3, 4, (16,)), "2.2.4-tf", ("lstm", 0.2, True), "hard_sigmoid"),
        (cell_of("lstm", 3, 4, (16,)), "2.3.0", ("lstm", None, True), "recurrent_activation='sigmoid' (the default of Keras 2.3.0)"),
        (cell_of("lstm", 3, 4, (32,)), "2.1.5", ("lstm", None, True), ""),
        (cell_of("gru", 3, 4, (24,)), "2.1.5", ("gru", None, True), ""),
        (cell_of("gru", 3, 4, (2, 12)), "2.5.0", ("gru", None, True), ""),
        (cell_of("gru", 3, 4, (12,)), None, ("gru", None, False), "today's default"),
        (cell_of("gru", 3, 4, None), "2.1.5", ("gru", 0.2, False), "reset_after=False: without a bias"),
        (cell_of("gru", 3, 4, None), "3.1.0", ("gru", None, True), "reset_after=True: without a bias"),
        (cell_of("rnn", 3, 4, (4,)), "2.5.0", ("rnn", None, True), "activation='tanh'"),
        (cell_of("lstm", 3, 4, (16,), "cell/vars/0", "cell/vars/1", "cell/vars/2"), "3", ("lstm", None, True), "sigmoid"),
        (
            cell_of("gru", 3, 4, (2, 12), *(f"cell/{role}/.ATTRIBUTES/VARIABLE_VALUE" for role in ("kernel", "recurrent_kernel", "bias"))),
            "2.5.0", ("gru", None, True), "sigmoid",
        ),
    ],
)  # fmt: skip
def test_cells_are_told_by_their_shapes(
    tensors: dict[str, Any], version: str | None, expected: tuple[str, float | None, bool], assumed: str
) -> None:
    network = recognised({"layer": tensors}, version).whole()
    (layer,) = network.recurrent
    gate = layer.cells[0].functions[0]
    alpha = gate.alpha if gate.name == "hard_sigmoid" else None
    assert (layer.spec.kind, alpha, layer.cells[0].reset_after) == expected
    assert layer.spec.input_size == 3
    assert assumed in network.details["assumed"]
    assert "return_sequences=True" in network.details["assumed"]


def test_groups_are_told_apart() -> None:
    both = {
        **{f"bi/backward_lstm/{key}": value for key, value in cell_of("lstm", 5, 4, (16,)).items()},
        **{f"bi/forward_lstm/{key}": value + 1 for key, value in cell_of("lstm", 5, 4, (16,)).items()},
    }
    numbers = ("vars/0", "vars/1", "vars/2")
    cells = {
        **{f"cell/cells/gru_cell/{key}": value for key, value in cell_of("gru", 6, 2, (2, 6), *numbers).items()},
        **{f"cell/cells/lstm_cell/{key}": value for key, value in cell_of("lstm", 8, 6, (24,), *numbers).items()},
    }
    groups = {
        "words": {"words/embeddings:0": array(9, 5)},
        "bi": both,
        "cells": cells,
        "attention": {"attention/attention_W:0": array(35, 1)},
        "norm": {f"norm/{name}:0": array(2) for name in ("gamma", "beta")},
        "out": {"out/kernel:0": array(2, 3), "out/bias:0": array(3)},
        "empty": {},
    }
    network = recognised(groups, "2.5.0")
    assert [layer.name for layer in network.layers] == ["words", "bi", "cells.cells_0", "cells.cells_1", "out"]
    assert [(one.name, one.place) for one in network.opaque] == [("attention", 4), ("norm", 4)]
    bidirectional = network.recurrent[0]
    np.testing.assert_array_equal(bidirectional.weights[0].kernel, bidirectional.weights[1].kernel + 1)
    assert [layer.spec.kind for layer in network.recurrent] == ["lstm", "lstm", "gru"]
    (problem,) = network.problems
    assert "'attention'" in problem.got
    assert ".json" in problem.remedy


def test_a_stack_has_its_order_where_that_is_certain() -> None:
    cells = {
        "lstm_10": cell_of("lstm", 6, 7, None),
        "lstm_2": cell_of("lstm", 4, 6, None),
        "lstm": cell_of("lstm", 3, 4, None),
    }
    network = recognised(cells, "3", ordered=False)
    assert [layer.name for layer in network.layers] == ["lstm", "lstm_2", "lstm_10"]
    assert "the sizes allow this order: lstm, then lstm_2, then lstm_10" in network.details["assumed"]
    assert network.problems  # they may stand beside each other, or have layers without weights between them
    assert "allow" not in recognised(cells, "3").details["assumed"]  # said to be in order, and the sizes contradict it
    mixed = {"gru": cell_of("gru", 4, 6, None), "lstm": cell_of("lstm", 3, 4, None)}
    assert [layer.name for layer in recognised(mixed, "3", ordered=False).layers] == ["lstm", "gru"]
    either = {"gru": cell_of("gru", 4, 4, None), "lstm": cell_of("lstm", 4, 4, None)}
    assert recognised(either, "3", ordered=False).problems


# ---- trees without a configuration


def alone(path: Path, *layers: Any, size: int = 3) -> Any:
    """The weights of a Sequential in a file of their own, and the model."""
    model = randomised(keras.Sequential([keras.Input((None, size)), *layers]))
    model.save_weights(path)
    return model


def without_names(path: Path) -> None:
    """As `_save_state` of Keras 2.12 to 3.3 wrote it: `H5IOStore.make` says the name of a layer since Keras 3.4."""

    def forget(_: str, node: Any) -> None:
        node.attrs.pop("name", None)

    with h5py.File(path, "a") as file:
        file.visititems(forget)


@pytest.mark.parametrize("units", [4, 3], ids=["sizes say it", "sizes do not say it"])
def test_the_number_of_a_group_is_the_order_and_not_that_of_the_name(tmp_path: Path, units: int) -> None:
    path = tmp_path / "m.weights.h5"
    model = alone(path, kl.LSTM(units, return_sequences=True, name="lstm_1"), kl.LSTM(units, name="lstm"))
    network = keras_h5.read(path)
    assert [layer.name for layer in network.layers] == ["lstm_1", "lstm"]
    assert "the sizes allow this order: lstm_1, then lstm" in network.details["assumed"]
    assert "names" not in network.details
    (tmp_path / "m.json").write_text(model.to_json())
    for ours, own in zip(network.recurrent, keras_h5.read(path).recurrent, strict=True):
        np.testing.assert_array_equal(ours.weights[0].kernel, own.weights[0].kernel)


def test_layers_of_several_classes_are_ordered_by_their_sizes_alone(tmp_path: Path) -> None:
    path = tmp_path / "m.weights.h5"
    alone(path, kl.GRU(3, return_sequences=True), kl.LSTM(3))
    assert keras_h5.read(path).problems
    # The sizes allow lstm, gru, lstm_1 and gru, lstm_1, lstm; the numbers only the first.
    loops = [kl.LSTM(4, return_sequences=True, name="b"), kl.GRU(6, return_sequences=True), kl.LSTM(4, name="a")]
    alone(path, *loops, size=4)
    assert [layer.name for layer in keras_h5.read(path).layers] == ["b", loops[1].name, "a"]


def test_positions_are_not_taken_for_names(tmp_path: Path) -> None:
    path = tmp_path / "m.weights.h5"
    alone(path, kl.LSTM(4, return_sequences=True, name="first"), kl.LSTM(5, name="second"), kl.Dense(2, name="last"))
    named = keras_h5.read(path)
    assert {layer.name for layer in named.layers} == {"first", "second", "last"}
    assert "names" not in named.details
    without_names(path)
    network = keras_h5.read(path)
    assert {layer.name for layer in network.layers} == {"lstm", "lstm_1", "dense"}
    assert network.details["names"] == "positions"
    said = "the file has no names: dense is the first Dense of the model, lstm is the first LSTM of the model, "
    assert network.details["assumed"].startswith(f"{said}lstm_1 is the second LSTM of the model; ")


def test_positions_in_a_tree_of_keras_2_13(tmp_path: Path) -> None:
    """`_save_container_state` of tf.keras 2.13 counts in steps of two."""
    tree = "_layer_checkpoint_dependencies"
    with h5py.File(tmp_path / "m.weights.h5", "w") as file:
        for number, inputs in (("", 3), ("_2", 4), ("_4", 4)):
            for place, tensor in enumerate(cell_of("lstm", inputs, 4, (16,)).values()):
                file[f"{tree}/sequential/{tree}/lstm{number}/cell/vars/{place}"] = tensor
    network = keras_h5.read(tmp_path / "m.weights.h5")
    assert [layer.name for layer in network.layers] == ["lstm", "lstm_2", "lstm_4"]
    assert "lstm_2 is the second LSTM of 'sequential', lstm_4 is the third LSTM" in network.details["assumed"]


class Subclassed(keras.Model):  # type: ignore[misc]
    """A model of its own class, as its file has it: attributes, and a configuration without layers."""

    def __init__(self) -> None:
        super().__init__()
        self.enc = kl.LSTM(4, return_sequences=True, dropout=0.2, name="reader")
        self.dec = kl.Bidirectional(kl.GRU(5), name="writer")
        self.norm = kl.BatchNormalization(name="norm")
        self.head = kl.Dense(2, name="out")
        self.tail = kl.LSTM(6, return_sequences=True, name="end")

    def call(self, x: Any) -> Any:
        return self.head(self.norm(self.dec(self.tail(self.enc(x)))))


@pytest.mark.parametrize("named", [True, False])
def test_a_subclassed_model_is_read_in_part(tmp_path: Path, named: bool) -> None:
    model = Subclassed()
    model.compile("adam", "mse")
    model.fit(STEPS, np.ones((2, 2)), verbose=0)
    randomised(model).save(tmp_path / "m.keras")
    if not named:
        with zipfile.ZipFile(tmp_path / "m.keras") as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        (tmp_path / "w.h5").write_bytes(members[keras_file.WEIGHTS])
        without_names(tmp_path / "w.h5")
        members[keras_file.WEIGHTS] = (tmp_path / "w.h5").read_bytes()
        with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
    network = read(tmp_path / "m.keras")
    names = {"dec": "writer", "enc": "reader", "head": "out", "norm": "norm"}
    layers = {layer.name: layer for layer in network.layers}
    enc, dec, head = (layers[names[key] if named else key] for key in ("enc", "dec", "head"))
    assert isinstance(enc, Recurrent)
    assert isinstance(dec, Recurrent)
    assert isinstance(head, Dense)
    np.testing.assert_array_equal(head.kernel, model.head.get_weights()[0])
    sequence = computed(Network("enc", (enc,), (Output(enc.name, enc.name),)), STEPS)[0]
    np.testing.assert_allclose(sequence, model.enc(STEPS), rtol=0, atol=1e-6)
    sequence = array(2, 7, 6)
    both = keras.ops.convert_to_numpy(model.dec(sequence))
    states = computed(Network("dec", (dec,), (Output(dec.name, dec.name),)), sequence)[0]
    np.testing.assert_allclose(np.concatenate([states[:, -1, :5], states[:, 0, 5:]], -1), both, rtol=0, atol=1e-6)
    assert [len(one.tensors) for one in network.opaque] == [4]
    (problem,) = network.problems
    assert problem.what == "a model of its own class: its call() is code"
    assert "Subclassed" in problem.got
    assert str(tmp_path) in problem.where
    assert "stacked" not in network.details["assumed"]
    if named:
        assert "names" not in network.details
        assert network.details["attributes"] == "writer is dec, reader is enc, out is head"
    else:  # the attributes behind "layers" in the alphabet are in that list
        assert network.details["names"] == "positions"
        said = (
            "batch_normalization is the first batch_normalization of the model, lstm_1 is the second LSTM of the model;"
        )
        assert network.details["assumed"].startswith(f"the file has no names: {said}")


def test_a_sequential_without_its_layers_is_damaged(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((None, 3)), kl.LSTM(4)])
    model.save(tmp_path / "m.keras")
    with zipfile.ZipFile(tmp_path / "m.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members[keras_file.CONFIG])
    del config["config"]["layers"]
    members[keras_file.CONFIG] = json.dumps(config).encode()
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(FormatError, match="no 'layers'"):
        keras_file.read(tmp_path / "m.keras")


# ---- writing


def networks() -> dict[str, Any]:
    x = keras.Input((None, 3), name="in")
    y = kl.Bidirectional(kl.LSTM(4, return_sequences=True, name="l"), name="bi")(x)
    y, h = kl.GRU(5, return_state=True, name="g")(y)
    several = keras.Model(x, [kl.Dense(2, activation="softmax", name="d")(y), h], name="mm")
    x = keras.Input((None, 3))
    y = kl.RNN([kl.LSTMCell(3), kl.GRUCell(2)], return_sequences=True)(x)
    y = kl.LSTM(4, go_backwards=True, use_bias=False, activation="softsign", recurrent_activation="elu")(y)
    return {
        "several outputs": several,
        "masked": keras.Sequential([
            keras.Input((7, 3)), kl.Masking(), kl.LSTM(4, return_sequences=True, zero_output_for_mask=True), kl.Dropout(0.3),
            kl.GRU(5, reset_after=False, return_sequences=True), kl.SimpleRNN(3, activation="relu"), kl.Dense(2, use_bias=False),
        ]),
        "tokens": keras.Sequential([
            keras.Input((None,), dtype="int32"), kl.Embedding(9, 4, mask_zero=True),
            kl.Bidirectional(kl.GRU(3), merge_mode="sum"), kl.Dense(2),
        ]),
        "cells": keras.Model(x, y),
        "float64": keras.Sequential([keras.Input((None, 3)), kl.GRU(4, dtype="float64"), kl.Dense(2, dtype="float64")]),
    }  # fmt: skip


@pytest.fixture(params=["several outputs", "masked", "tokens", "cells", "float64"])
def judged(request: pytest.FixtureRequest) -> tuple[Any, Any, list[Any]]:
    """A live model, inputs, and what it gives."""
    model = networks()[request.param]
    model.set_weights([array(*w.shape, seed=place).astype(w.dtype) for place, w in enumerate(model.get_weights())])
    x = np.random.default_rng(3).integers(0, 9, (2, 7)) if request.param == "tokens" else STEPS.copy()
    if request.param == "masked":
        x[0, 5:] = 0
    found = model.predict(x, verbose=0)
    return model, x, found if isinstance(found, list) else [found]


def predicted(model: Any, x: Any) -> list[Any]:
    found = model.predict(x, verbose=0)
    return found if isinstance(found, list) else [found]


def written(write: Callable[[Network, Any], None], model: Any, path: Path) -> Path:
    with path.open("wb") as file:
        write(read(model) if not isinstance(model, Network) else model, file)
    return path


def test_keras_3_opens_what_is_written(judged: tuple[Any, Any, list[Any]], tmp_path: Path) -> None:
    model, x, expected = judged
    whole = keras.models.load_model(written(write_keras, model, tmp_path / "m.keras"))
    emptied = keras.models.clone_model(whole)
    emptied.load_weights(written(write_weights_h5, model, tmp_path / "m.weights.h5"))
    legacy = keras.models.load_model(written(write_legacy_h5, model, tmp_path / "m.h5"))
    for opened_model in (whole, emptied, legacy):
        for ours, own in zip(predicted(opened_model, x), expected, strict=True):
            np.testing.assert_array_equal(ours, own)


def test_keras_2_opens_what_is_written(judged: tuple[Any, Any, list[Any]], tmp_path: Path) -> None:
    tf_keras = pytest.importorskip("tf_keras", reason="tf-keras is Keras 2, the judge of files for it")
    model, x, expected = judged
    legacy = tf_keras.models.load_model(written(write_legacy_h5, model, tmp_path / "m.h5"))
    for ours, own in zip(predicted(legacy, x), expected, strict=True):
        np.testing.assert_array_equal(ours, own)


def test_what_is_written_is_read_back(judged: tuple[Any, Any, list[Any]], tmp_path: Path) -> None:
    model, _, _ = judged
    network = read(model)
    for path, write in ((tmp_path / "m.keras", write_keras), (tmp_path / "m.h5", write_legacy_h5)):
        again = (keras_file if path.suffix == ".keras" else keras_h5).read(written(write, network, path))
        assert [layer.name for layer in again.layers] == [keras_name(layer.name) for layer in network.layers]
        assert [output.value for output in again.outputs] == [output.value for output in network.outputs]
        for new, old in zip(again.recurrent, network.recurrent, strict=True):
            assert (new.spec, new.cells, new.fill, new.return_sequences) == (
                old.spec,
                old.cells,
                old.fill,
                old.return_sequences,
            )
            for name, value in old.arrays.items():
                np.testing.assert_array_equal(new.arrays[name], value)


def test_hard_sigmoid_of_keras_2_is_kept(tmp_path: Path) -> None:
    gru = {**LOOP_OF_KERAS_2, "name": "g", "units": 5, "return_sequences": True, "batch_input_shape": [None, None, 3]}
    gru |= {"reset_after": False, "recurrent_activation": "hard_sigmoid"}
    layers = [("g", [("g/kernel:0", array(3, 15)), ("g/recurrent_kernel:0", array(5, 15)), ("g/bias:0", array(15))])]
    network = keras_h5.read(save_model(tmp_path / "old.h5", sequential("2.2.4", [("GRU", gru)]), layers, "2.2.4"))
    again = keras_h5.read(written(write_legacy_h5, network, tmp_path / "again.h5"))
    assert again.recurrent[0].cells == network.recurrent[0].cells
    np.testing.assert_array_equal(computed(again, STEPS)[0], computed(network, STEPS)[0])
    tf_keras = pytest.importorskip("tf_keras", reason="tf-keras is Keras 2, the judge of files for it")
    np.testing.assert_allclose(
        tf_keras.models.load_model(tmp_path / "again.h5").predict(STEPS, verbose=0),
        computed(network, STEPS)[0],
        rtol=0,
        atol=1e-6,
    )


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (lambda: kl.LSTM(4, recurrent_activation="hard_sigmoid"), "hard_sigmoid of Keras 3 is another one"),
        (lambda: kl.LSTM(4, activation="mish"), "Keras 2 has no such activation"),
        (
            lambda: kl.Bidirectional(kl.LSTM(4), backward_layer=kl.LSTM(4, use_bias=False, go_backwards=True)),
            "Keras 2 loads no unlike",
        ),
    ],
)
def test_what_keras_2_cannot_say(tmp_path: Path, layer: Callable[[], Any], message: str) -> None:
    model = randomised(keras.Sequential([keras.Input((None, 3)), layer(), kl.Dense(2)]))
    with pytest.raises(UnsupportedError, match=message) as caught:
        written(write_legacy_h5, model, tmp_path / "m.h5")
    assert ".keras" in caught.value.problems[0].remedy
    assert not (tmp_path / "m.h5").stat().st_size


# ---- hostile files


def small(path: Path) -> Path:
    layers = [
        (
            "lstm",
            [
                (f"lstm/lstm_cell/{role}:0", array(*shape))
                for role, shape in (("kernel", (3, 16)), ("recurrent_kernel", (4, 16)), ("bias", (16,)))
            ],
        )
    ]
    config = sequential(
        "2.5.0",
        [
            (
                "LSTM",
                {
                    **LOOP_OF_KERAS_2,
                    "name": "lstm",
                    "units": 4,
                    "batch_input_shape": [None, None, 3],
                    "return_sequences": True,
                },
            )
        ],
    )
    return save_model(path, config, layers, "2.5.0")  # fmt: skip


KERNEL = "model_weights/lstm/lstm/lstm_cell/kernel:0"


def replaced(make: Callable[[Any], object]) -> Callable[[Any], None]:
    def change(file: Any) -> None:
        del file[KERNEL]
        make(file)

    return change


def external(file: Any) -> None:
    file.create_dataset(KERNEL, (3, 16), "f4", external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])


def virtual(file: Any) -> None:
    layout = h5py.VirtualLayout((3, 16), "f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (3, 16))
    file.create_virtual_dataset(KERNEL, layout)


def committed(file: Any) -> None:
    file["a type"] = np.dtype("f4")
    file.create_dataset(KERNEL, (3, 16), file["a type"])


def circle(file: Any) -> None:
    file["model_weights/lstm/lstm/lstm_cell/kernel:0"] = file["model_weights"]


def long_attribute(file: Any) -> None:
    del file["model_weights"].attrs["layer_names"]
    file["model_weights"].attrs.create("layer_names", np.zeros((1,), "S60000"))


def references(file: Any) -> None:
    file.create_dataset(KERNEL, (3, 16), h5py.ref_dtype)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (replaced(lambda f: f.__setitem__(KERNEL, h5py.ExternalLink("/etc/passwd", "/x"))), "is a link"),
        (replaced(lambda f: f.__setitem__(KERNEL, h5py.SoftLink("/model_weights/lstm"))), "is a link"),
        (replaced(external), "stands in another file"),
        (replaced(virtual), "stands in another file"),
        (replaced(committed), "shares a part of its header"),
        (replaced(circle), "is not an array"),
        (replaced(references), "no numbers"),
        (replaced(lambda f: f.__setitem__(KERNEL, "text")), "no numbers"),
        (replaced(lambda f: f.create_dataset(KERNEL, (1 << 20, 1 << 20), "f4", chunks=(64, 64))), "claims more than the file can hold"),
        (replaced(lambda f: f.create_dataset(KERNEL, (1 << 14, 1 << 14), "f4", chunks=(1 << 14, 64), compression="gzip")), "claims more"),
        (replaced(lambda f: f.create_dataset(KERNEL, (3, 16), "f4", compression="lzf")), "compressed in a way that is not read"),
        (replaced(lambda f: f.create_dataset(KERNEL, (3, 16), "f4")), "never written"),
        (replaced(lambda f: f.__setitem__(KERNEL, array(3, 15))), "wrong shape"),
        (lambda f: f.__delitem__(KERNEL), "is missing"),
        (lambda f: f["model_weights"].attrs.__setitem__("layer_names", [b"lstm", b"lstm"]), "two layers have one name"),
        (lambda f: f["model_weights"].attrs.__setitem__("layer_names", [b"../../etc"]), "is missing"),
        (lambda f: f["model_weights"].attrs.__setitem__("layer_names", [3, 4]), "is not text"),
        (lambda f: f["model_weights"].attrs.__setitem__("layer_names", np.asarray([b"\xff\xfe"])), "is not UTF-8"),
        (long_attribute, "is missing"),
        (lambda f: f["model_weights/lstm"].attrs.__delitem__("weight_names"), "without a list of its weights"),
        (lambda f: f.attrs.__setitem__("model_config", b"{"), "is not JSON"),
        (lambda f: f.attrs.__setitem__("model_config", b'{"a":' * 500 + b"1" + b"}" * 500), "nested too deeply"),
        (lambda f: f.attrs.__setitem__("model_config", b"{}"), "no 'class_name'"),
        (lambda f: [f.__delitem__(name) for name in list(f)] + [f.attrs.__delitem__("model_config")], "none of Keras"),
    ],
)  # fmt: skip
def test_hostile_files(tmp_path: Path, change: Callable[[Any], object], message: str) -> None:
    path = small(tmp_path / "bad.h5")
    with h5py.File(path, "a") as file:
        change(file)
    with pytest.raises((FormatError, UnsupportedError), match=message) as caught:
        keras_h5.read(path)
    problem = caught.value.problems[0]
    assert str(path) in problem.where
    assert problem.remedy


def test_groups_inside_each_other_and_too_many(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "circle.h5", "w") as file:
        file["a/b/vars/0"] = array(3)
        file["a/b/c"] = file["a"]
    with h5py.File(tmp_path / "deep.h5", "w") as file:
        file["/".join("a" * 60)] = array(3)
    for name, message in (("circle", "inside itself"), ("deep", "absurdly many levels")):
        with pytest.raises(FormatError, match=message):
            keras_h5.read(tmp_path / f"{name}.h5")


def test_structures_are_read_at_most_four_times_the_file_and_a_mebibyte(tmp_path: Path) -> None:
    (tmp_path / "m.h5").write_bytes(small(tmp_path / "a.h5").read_bytes())
    size = (tmp_path / "m.h5").stat().st_size
    with Source(tmp_path / "m.h5") as source:
        file = File(source)
        left = 4 * size + (1 << 20) - 64 - 48  # the superblock was read
        for _ in range(left // size):
            file.cursor(0, size)
        file.cursor(0, left % size)
        with pytest.raises(FormatError, match="its parts lie one over the other"):
            file.cursor(0, 1)


def test_one_header_under_many_names_is_refused(tmp_path: Path) -> None:
    """No bigger than its list of names, it would be read as often as there are names."""
    with h5py.File(tmp_path / "m.h5", "w") as file:
        one = file.create_group("layer0")
        one.attrs["weight_names"] = np.array([], "S1")
        one.attrs["note"] = np.bytes_(b"x" * 60_000)  # a text of a fixed length stands in the header
        for number in range(1, 200):
            file[f"layer{number}"] = one
        file.attrs["layer_names"] = [f"layer{number}".encode() for number in range(200)]
    assert 4 * (tmp_path / "m.h5").stat().st_size + (1 << 20) < 200 * 60_000
    with pytest.raises(FormatError, match="its parts lie one over the other"):
        keras_h5.read(tmp_path / "m.h5")


@pytest.mark.parametrize("options", [{}, {"libver": "latest"}], ids=str)
@pytest.mark.parametrize(("first", "second"), [("a", "b" * 2046), ("a" * 1024, "b" * 1023), ("ü" * 512, "b" * 1023)])
def test_a_path_has_at_most_2048_bytes(tmp_path: Path, options: dict[str, Any], first: str, second: str) -> None:
    for more, name in (("", "fits"), ("b", "long")):
        with h5py.File(tmp_path / f"{name}.h5", "w", **options) as file:
            file[f"{first}/{second}{more}"] = array(3)
    with opened(Source(tmp_path / "fits.h5")) as root:
        assert [len(path.encode()) for path, _ in root.walk()][-1] == 2048
    with opened(Source(tmp_path / "long.h5")) as root, pytest.raises(FormatError, match="an absurdly long name"):
        list(root.walk())


def mutants(content: bytes, count: int) -> list[bytes]:
    chance = stdlib_random.Random(4)
    found = []
    for _ in range(count):
        changed = bytearray(content)
        for _ in range(chance.choice([1, 1, 2, 4, 16])):
            place = chance.randrange(len(changed))
            changed[place] = (
                changed[place] ^ (1 << chance.randrange(8))
                if chance.random() < 0.5
                else chance.choice([0, 255, chance.randrange(256)])
            )
        if chance.random() < 0.2:
            place = chance.randrange(len(changed) - 8)
            changed[place : place + 8] = chance.choice(
                [bytes(8), b"\xff" * 8, chance.randrange(len(changed)).to_bytes(8, "little")]
            )
        found.append(bytes(changed))
    return found  # fmt: skip


@pytest.mark.parametrize("suffix", [".h5", ".keras", ".weights.h5"])
def test_damaged_files(tmp_path: Path, suffix: str) -> None:
    """Truncated at every kilobyte, and mutated; libhdf5 itself ends the process on some of these."""
    model = randomised(keras.Sequential([keras.Input((None, 3)), kl.Bidirectional(kl.LSTM(4)), kl.Dense(2)]))
    whole = tmp_path / f"m{suffix}"
    model.save_weights(whole) if suffix == ".weights.h5" else model.save(whole)
    content, bad = whole.read_bytes(), tmp_path / f"bad{suffix}"
    refused = 0
    for changed in [*(content[:end] for end in range(0, len(content), 1024)), *mutants(content[:20_000], 400)]:
        bad.write_bytes(changed)
        try:
            network = (keras_file if suffix == ".keras" else keras_h5).read(bad)
            for layer in network.layers:
                dict(layer.arrays)
        except ParityError:
            refused += 1
    assert refused > 50
    for end in range(0, len(content), 1024):
        bad.write_bytes(content[:end])
        with pytest.raises(FormatError):
            (keras_file if suffix == ".keras" else keras_h5).read(bad)


def test_no_framework_is_imported(tmp_path: Path) -> None:
    path = small(tmp_path / "m.h5")
    code = f"""
import sys
from pathlib import Path
from parity.files.keras import file as keras_file
from parity.files.keras import h5 as keras_h5
from parity.files.keras.legacy_writing import write_legacy_h5
from parity.files.keras.writing import write_keras, write_weights_h5
network = keras_h5.read(Path({str(path)!r}))
for name, write in (("m.keras", write_keras), ("n.h5", write_legacy_h5), ("m.weights.h5", write_weights_h5)):
    with Path({str(tmp_path)!r}, name).open("wb") as file:
        write(network, file)
keras_file.read(Path({str(tmp_path / "m.keras")!r}))
print(sorted(set(sys.modules) & {{"keras", "tf_keras", "tensorflow", "torch", "onnx", "onnxruntime", "jax", "h5py"}}))
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


# ---- real files

real = pytest.mark.skipif(not MODELS.is_dir(), reason="the published models are not beside the project")


@real
def test_a_published_model_of_keras_2_5() -> None:
    network = keras_h5.read(MODELS / "census2010_ln_lstm.h5")
    expected = np.load(MODELS / "census2010_ln_lstm_expected.npz")
    np.testing.assert_allclose(computed(network, expected["x"])[0], expected["y"], rtol=0, atol=1e-6)


@real
def test_published_weights_of_cudnn_layers() -> None:
    network = keras_h5.read(MODELS / "textgenrnn_weights.hdf5")
    expected = np.load(MODELS / "textgenrnn_expected.npz")
    assert [layer.name for layer in network.recurrent] == ["rnn_1", "rnn_2"]
    assert [one.name for one in network.opaque] == ["attention"]
    assert "hard_sigmoid" not in network.details["assumed"]
    first, second = network.recurrent
    stack = Network("stack", (network.layers[0], first, second))
    for name, layers in (("rnn_1", (first,)), ("rnn_2", (first, second))):
        alone = Network("stack", (network.layers[0], *layers))
        states = {
            layer.name: State(*[np.zeros(layer.spec.state_shape(s, 4)) for s in layer.spec.states])
            for layer in alone.recurrent
        }
        paths = alone.compute(expected["x"], states)[1]
        ours = layers[-1].given[0].of([paths[name].run])
        # Trained recurrences of 40 steps in float32: a wrong gate or a lost bias is off by 0.1 and more.
        np.testing.assert_allclose(ours, expected[name], rtol=0, atol=2e-4)
    assert stack.tokens == 465
