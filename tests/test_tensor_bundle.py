"""TensorFlow's own files against TensorFlow, files of older ages byte for byte, and files of people who mean no good."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import json
import shutil
import tracemalloc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as kl

from parity.errors import FormatError, ParityError, UnsupportedError
from parity.files.stored import numbers
from parity.files.tensorflow.bundle import DTYPES, Joined, bundle
from parity.files.tensorflow.saved_model import PROGRAM, groups, read, read_network, refusal
from parity.files.tensorflow.sstable import MAGIC, entries, masked_crc32c
from parity.network import Network
from parity.recurrent import Array
from parity.result import State

GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"


def weights(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32)


def outputs(network: Network, x: Array) -> list[Array]:
    states = {
        name: State(*(np.zeros(spec.state_shape(state, len(x))) for state in spec.states))
        for name, spec in network.specs.items()
    }
    return list(network.compute(x, states)[0].values())


# ---- bytes, as TensorFlow writes them


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    found = b""
    while value > 127:
        found, value = found + bytes([value & 127 | 128]), value >> 7
    return found + bytes([value])


def message(*members: tuple[int, int | bytes | str]) -> bytes:
    """A protobuf message; numbers as varints but for field 6 of a BundleEntryProto, its checksum, which is fixed32."""
    found = b""
    for number, value in members:
        if isinstance(value, int):
            found += varint(number << 3) + varint(value)
        else:
            content = value.encode() if isinstance(value, str) else value
            found += varint(number << 3 | 2) + varint(len(content)) + content
    return found


def entry(dtype: int, shape: Sequence[int], offset: int, size: int, crc: int = 0, shard: int = 0) -> bytes:
    """BundleEntryProto in tensorflow/core/protobuf/tensor_bundle.proto."""
    dims = message(*((2, message((1, length))) for length in shape))
    return (
        message((1, dtype), (2, dims), (3, shard), (4, offset), (5, size))
        + varint(6 << 3 | 5)
        + crc.to_bytes(4, "little")
    )


def block(pairs: Sequence[tuple[bytes, bytes]], restart: int = 16) -> bytes:
    """BlockBuilder in tensorflow/core/lib/io/block_builder.cc: every 16th key in full, their places behind."""
    found, last, restarts = b"", b"", []
    for index, (key, value) in enumerate(pairs):
        shared = 0
        if index % restart:
            shared = next(
                (k for k, (a, b) in enumerate(zip(last, key, strict=False)) if a != b), min(len(last), len(key))
            )
        else:
            restarts.append(len(found))
        found += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        last = key
    restarts = restarts or [0]
    return found + b"".join(place.to_bytes(4, "little") for place in restarts) + len(restarts).to_bytes(4, "little")


def table(pairs: Sequence[tuple[bytes, bytes]], each: int = 1000, squeeze: Any = None) -> bytes:
    """TableBuilder::Finish in tensorflow/core/lib/io/table_builder.cc: data blocks, an empty metaindex, the index, the footer."""
    file, handles = b"", []

    def write(content: bytes) -> bytes:
        nonlocal file
        kind = b"\0" if squeeze is None else b"\1"
        content = content if squeeze is None else squeeze(content)
        handle = varint(len(file)) + varint(len(content))
        file += content + kind + masked_crc32c(content + kind).to_bytes(4, "little")
        return handle

    for start in range(0, len(pairs), each):
        part = pairs[start : start + each]
        handles.append((part[-1][0] + b"\0", write(block(part))))
    footer = write(block([])) + write(block(handles, 1))
    return file + footer.ljust(40, b"\0") + MAGIC.to_bytes(8, "little")


def snappy(data: bytes) -> bytes:
    """Literals, and copies of all three widths where a byte run repeats (format_description.txt of google/snappy)."""
    found, place = varint(len(data)), 0
    while place < len(data):
        run = 0
        while run < 64 and place and place + run < len(data) and data[place + run] == data[place - 1]:
            run += 1
        if run >= 4:
            if run <= 11 and place % 2:
                found += bytes([1 | (run - 4) << 2, 1])
            else:
                wide = 2 + place % 2
                found += bytes([wide | (run - 1) << 2]) + (1).to_bytes(2 if wide == 2 else 4, "little")
            place += run
            continue
        literal = data[place : place + 1 + (70 if place == 0 else 0)]
        found += bytes([(len(literal) - 1) << 2]) if len(literal) <= 60 else bytes([60 << 2, len(literal) - 1])
        found += literal
        place += len(literal)
    return found


def header(shards: int = 1, endianness: int = 0) -> bytes:
    return message((1, shards), *([(2, endianness)] if endianness else []), (3, message((1, 1))))


def text_tensor(content: bytes) -> tuple[bytes, int]:
    """WriteStringTensor in tensor_bundle.cc: lengths, their checksum, the bytes; and the checksum in the entry."""
    length = len(content).to_bytes(4, "little")
    cut = masked_crc32c(length).to_bytes(4, "little")
    return varint(len(content)) + cut + content, masked_crc32c(length + cut + content)


def written(prefix: Path, tensors: Mapping[str, Array], graph: bytes | None = None, **options: Any) -> Path:
    """A checkpoint of one shard."""
    prefix.parent.mkdir(parents=True, exist_ok=True)
    shard, pairs = b"", {"": header()}
    if graph is not None:
        shard, crc = text_tensor(graph)
        pairs[GRAPH] = entry(7, (), 0, len(shard), crc)
    codes = {name: code for code, name in DTYPES.items()}
    for name in sorted(tensors):
        data = tensors[name].tobytes()
        pairs[name] = entry(
            codes[tensors[name].dtype.name], tensors[name].shape, len(shard), len(data), masked_crc32c(data)
        )
        shard += data
    prefix.with_name(f"{prefix.name}.data-00000-of-00001").write_bytes(shard)
    prefix.with_name(f"{prefix.name}.index").write_bytes(
        table([(name.encode(), pairs[name]) for name in sorted(pairs)], **options)
    )
    return prefix


def node(children: Mapping[str, int] | None = None, key: str = "", full_name: str = "", slots: bool = False) -> bytes:
    """TrackableObject in tensorflow/core/protobuf/trackable_object_graph.proto."""
    members: list[tuple[int, int | bytes | str]] = [
        (1, message((1, index), (2, name))) for name, index in (children or {}).items()
    ]
    if key:
        members.append((2, message((1, "VARIABLE_VALUE"), (2, full_name), (3, key))))
    if slots:
        members.append((3, message((1, 1), (2, "m"), (3, 1))))
    return message(*members)


def graph_of(*nodes: bytes) -> bytes:
    return message(*((1, each) for each in nodes))


def same_as_tensorflow(prefix: Path, folder: Path | None = None) -> int:
    """Every tensor bit by bit as tf.train.load_checkpoint reads it."""
    found, reader = bundle(prefix, folder or prefix.parent), tf.train.load_checkpoint(str(prefix))
    assert set(reader.get_variable_to_shape_map()) == set(found.tensors) | set(found.others)
    for name, stored in found.tensors.items():
        expected = reader.get_tensor(name)
        got = stored[()]
        assert stored.shape == expected.shape, name
        assert (
            got.tobytes() == expected.astype(stored.dtype if stored.dtype.kind != "V" else expected.dtype).tobytes()
        ), name
    return len(found.tensors)


# ---- TensorFlow's own files


def save_v2(prefix: Path, tensors: Mapping[str, Any], slices: Sequence[str] | None = None) -> Path:
    prefix.parent.mkdir(parents=True, exist_ok=True)
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=list(tensors),
        shape_and_slices=slices or [""] * len(tensors),
        tensors=list(tensors.values()),
    )
    return prefix


def test_every_type_is_read_bit_by_bit(tmp_path: Path) -> None:
    types = [*DTYPES.values(), "bfloat16"]
    values = {
        f"of/{name}": tf.cast(tf.constant(weights(3, 4, seed=place) * 9), name) for place, name in enumerate(types)
    }
    prefix = save_v2(tmp_path / "all", {**values, "a/scalar": tf.constant(2.5), "none": tf.zeros((0, 7))})
    assert same_as_tensorflow(prefix) == len(types) + 2
    half = bundle(prefix, tmp_path).tensors["of/bfloat16"]
    assert numbers(half).dtype == np.float32
    assert np.array_equal(numbers(half), values["of/bfloat16"].numpy().astype(np.float32))


@pytest.mark.parametrize(("rows", "cut"), [(10, 4), (100, 64), (9000, 63), (20000, 8192), (1_100_000, 1_048_576)])
def test_partitioned_variables_are_joined(tmp_path: Path, rows: int, cut: int) -> None:
    """The keys of slices hold their places in a code whose length depends on the number."""
    whole = np.arange(rows * 2, dtype=np.float32).reshape(rows, 2)
    parts = [f"{rows} 2 0,{cut}:-", f"{rows} 2 {cut},{rows - cut}:-"]
    prefix = tmp_path / "parts"
    for place, (part, data) in enumerate(zip(parts, (whole[:cut], whole[cut:]), strict=True)):
        save_v2(tmp_path / f"p{place}", {"table": tf.constant(data)}, [part])
    tf.raw_ops.MergeV2Checkpoints(
        checkpoint_prefixes=[str(tmp_path / f"p{k}") for k in (0, 1)], destination_prefix=str(prefix)
    )
    assert len(list(tmp_path.glob("parts.data-*-of-00002"))) == 2
    assert same_as_tensorflow(prefix) == 1
    found = bundle(prefix, tmp_path).tensors["table"]
    assert isinstance(found, Joined)
    assert np.array_equal(found[cut - 2 : cut + 3], whole[cut - 2 : cut + 3])


def test_columns_may_be_partitioned_but_not_both_axes(tmp_path: Path) -> None:
    whole = weights(6, 8)
    columns = [tf.constant(whole[:, :3]), tf.constant(whole[:, 3:])]
    tf.raw_ops.SaveV2(
        prefix=str(tmp_path / "c"),
        tensor_names=["t", "t"],
        shape_and_slices=["6 8 -:0,3", "6 8 -:3,5"],
        tensors=columns,
    )
    assert same_as_tensorflow(tmp_path / "c") == 1
    assert np.array_equal(bundle(tmp_path / "c", tmp_path).tensors["t"][2:4], whole[2:4])
    quarters = [tf.constant(whole[a : a + 3, b : b + 4]) for a in (0, 3) for b in (0, 4)]
    where = [f"6 8 {a},3:{b},4" for a in (0, 3) for b in (0, 4)]
    tf.raw_ops.SaveV2(prefix=str(tmp_path / "q"), tensor_names=["t"] * 4, shape_and_slices=where, tensors=quarters)
    with pytest.raises(FormatError, match="cut along several axes"):
        bundle(tmp_path / "q", tmp_path)


def test_an_index_of_many_blocks(tmp_path: Path) -> None:
    """TensorFlow begins a new block after 256 kB."""
    names = {
        f"scope_{k % 7}/a_rather_long_name_of_a_variable_to_fill_blocks_{k:05d}": tf.constant(float(k))
        for k in range(16000)
    }
    prefix = save_v2(tmp_path / "many", names)
    assert prefix.with_name("many.index").stat().st_size > 300_000
    found = bundle(prefix, tmp_path).tensors
    assert {name: float(found[name][()]) for name in names} == {name: float(value) for name, value in names.items()}


@pytest.fixture(scope="module")
def model() -> Any:
    given = keras.Sequential(
        [
            keras.Input((None, 6)),
            kl.LSTM(5, return_sequences=True, name="zeta"),
            kl.Bidirectional(kl.GRU(4), name="alpha"),
            kl.Dense(2, name="out"),
        ]
    )
    given.set_weights([weights(*w.shape, seed=k) for k, w in enumerate(given.get_weights())])
    given.compile("adam", "mse")
    given.fit(weights(4, 3, 6), weights(4, 2), verbose=0)
    return given


def check_layers(network: Network, model: Any) -> None:
    """The recurrent layers one by one against Keras."""
    zeta, alpha = network.recurrent
    x = weights(3, 7, 6, seed=5)
    first = np.asarray(model.layers[0](x))
    states = {zeta.name: State(np.zeros((1, 3, 5)), np.zeros((1, 3, 5)))}
    run = Network("zeta", (zeta,)).compute(x, states)[1][zeta.name].run
    np.testing.assert_allclose(np.asarray(run.sequence)[:, :, 0], first, atol=2e-6)
    states = {alpha.name: State(np.zeros((2, 3, 4)))}
    final = Network("alpha", (alpha,)).compute(first, states)[1][alpha.name].run.final
    assert final.h is not None
    np.testing.assert_allclose(np.concatenate(list(final.h), axis=-1), np.asarray(model.layers[1](first)), atol=2e-6)


@pytest.mark.parametrize("form", ["export", "save", "checkpoint"])
def test_a_model_of_keras_3(tmp_path: Path, model: Any, form: str) -> None:
    if form == "export":
        model.export(tmp_path / "m", verbose=False)
    elif form == "save":
        tf.saved_model.save(model, str(tmp_path / "m"))
    else:
        step = tf.Variable(3, dtype=tf.int64, name="step")
        checkpoint = tf.train.Checkpoint(model=model, optimizer=model.optimizer, step=step)
        tf.train.CheckpointManager(checkpoint, str(tmp_path / "m"), max_to_keep=3).save()
    contents = read(tmp_path / "m")
    own = [(w.path, w.numpy()) for w in model.weights]
    assert list(contents.tensors) == [path for path, _ in own]
    assert all(np.array_equal(numbers(contents.tensors[path]), value) for path, value in own)
    assert list(groups(contents)) == ["zeta", "alpha", "out"]
    assert sum(int(word.split(": ")[1]) for word in contents.details["left out"].split(", ")) == {
        "export": 14,
        "save": 24,
    }.get(form, 26)
    network = read_network(tmp_path / "m")
    assert network.specs["zeta"].hidden_size == 5
    assert network.specs["alpha"].directions == ("forward", "backward")
    check_layers(network, model)
    with pytest.raises(UnsupportedError, match="TensorFlow"):
        network.whole()
    if form != "checkpoint":
        assert contents.details["producer"] == f"TensorFlow {tf.__version__}"
        assert network.problems[0].what == PROGRAM


def test_each_file_of_a_model_leads_to_it(tmp_path: Path) -> None:
    module = tf.Module()
    module.kernel = tf.Variable(weights(3, 4), name="scope/kernel")
    tf.saved_model.save(module, str(tmp_path / "saved"))
    checkpoint = tf.train.Checkpoint(net=module)
    prefix = Path(checkpoint.save(str(tmp_path / "ckpt" / "model.ckpt")))
    places = ("", "saved_model.pb", "variables", "variables/variables.index", "variables/variables.data-00000-of-00001")
    for path in [tmp_path / "saved" / place for place in places]:
        assert read(path).form == "TensorFlow SavedModel"
    shard = prefix.with_name(prefix.name + ".data-00000-of-00001")
    for path in (prefix, prefix.with_name(prefix.name + ".index"), shard, prefix.parent, prefix.parent / "checkpoint"):
        assert list(read(path).tensors) == ["scope/kernel"]
        assert refusal(path) is None
    (prefix.parent / "checkpoint").write_text(f'model_checkpoint_path: "/content/drive/run/{prefix.name}"\n')
    assert list(read(prefix.parent).tensors) == ["scope/kernel"]


# ---- older ages


def test_an_index_written_by_hand_is_what_tensorflow_reads(tmp_path: Path) -> None:
    """The evidence that the bytes of these tests are TensorFlow's: it reads them, and so plain, in small blocks and compressed."""
    tensors = {
        f"lstm_{k}/{name}": weights(k + 2, 3, seed=k) for k in range(40) for name in ("kernel", "recurrent_kernel")
    }
    every: list[dict[str, Any]] = [{}, {"each": 7}, {"squeeze": snappy}, {"each": 5, "squeeze": snappy}]
    for number, options in enumerate(every):
        prefix = written(tmp_path / f"hand{number}", tensors, **options)
        assert same_as_tensorflow(prefix) == len(tensors)


def test_big_endian(tmp_path: Path) -> None:
    prefix = tmp_path / "mainframe"
    value = weights(3, 4)
    (tmp_path / "mainframe.data-00000-of-00001").write_bytes(value.astype(">f4").tobytes())
    pairs = [(b"", header(endianness=1)), (b"v", entry(1, (3, 4), 0, 48, masked_crc32c(value.astype(">f4").tobytes())))]
    (tmp_path / "mainframe.index").write_bytes(table(pairs))
    assert np.array_equal(bundle(prefix, tmp_path).tensors["v"][()], value)


KERAS_2_LSTM = {
    "trainable": True,
    "dtype": "float32",
    "return_state": False,
    "go_backwards": False,
    "stateful": False,
    "unroll": False,
    "time_major": False,
    "activation": "tanh",
    "use_bias": True,
    "unit_forget_bias": True,
    "dropout": 0.0,
    "recurrent_dropout": 0.0,
    "implementation": 2,
}


def keras_2_model(name: str) -> tuple[dict[str, Any], dict[str, Array]]:
    """What tf.keras 2.5 says of Embedding, LSTM, Dense, and its variables by their checkpoint keys."""
    shape = {"class_name": "__tuple__", "items": [None, 7]}
    layers = [
        {
            "class_name": "InputLayer",
            "config": {"batch_input_shape": shape, "dtype": "float32", "sparse": False, "name": "in"},
        },
        {
            "class_name": "Embedding",
            "config": {"name": "words", "batch_input_shape": shape, "input_dim": 11, "output_dim": 6},
        },
        {
            "class_name": "LSTM",
            "config": {
                **KERAS_2_LSTM,
                "name": "zeta",
                "units": 5,
                "recurrent_activation": "hard_sigmoid",
                "return_sequences": False,
            },
        },
        {"class_name": "Dense", "config": {"name": "out", "units": 3, "activation": "softmax", "use_bias": True}},
    ]
    tensors = {
        "layer_with_weights-0/embeddings/.ATTRIBUTES/VARIABLE_VALUE": weights(11, 6),
        "layer_with_weights-1/cell/bias/.ATTRIBUTES/VARIABLE_VALUE": weights(20),
        "layer_with_weights-1/cell/kernel/.ATTRIBUTES/VARIABLE_VALUE": weights(6, 20),
        "layer_with_weights-1/cell/recurrent_kernel/.ATTRIBUTES/VARIABLE_VALUE": weights(5, 20),
        "layer_with_weights-2/bias/.ATTRIBUTES/VARIABLE_VALUE": weights(3),
        "layer_with_weights-2/kernel/.ATTRIBUTES/VARIABLE_VALUE": weights(5, 3),
    }
    return {"class_name": "Sequential", "config": {"name": name, "layers": layers}}, tensors


def keras_2_graph() -> bytes:
    keys = {
        "embeddings": ("layer_with_weights-0/embeddings", "words/embeddings"),
        "kernel": ("layer_with_weights-1/cell/kernel", "zeta/lstm_cell/kernel"),
        "recurrent_kernel": ("layer_with_weights-1/cell/recurrent_kernel", "zeta/lstm_cell/recurrent_kernel"),
        "bias": ("layer_with_weights-1/cell/bias", "zeta/lstm_cell/bias"),
        "out_kernel": ("layer_with_weights-2/kernel", "out/kernel"),
        "out_bias": ("layer_with_weights-2/bias", "out/bias"),
    }
    leaves = [node(key=f"{key}/.ATTRIBUTES/VARIABLE_VALUE", full_name=name) for key, name in keys.values()]
    return graph_of(
        node({"variables": 11, **{f"layer_with_weights-{k}": k + 1 for k in range(3)}}),
        node({"embeddings": 5}),
        node({"cell": 4}),
        node({"kernel": 9, "bias": 10}),
        node({"kernel": 6, "recurrent_kernel": 7, "bias": 8}),
        *leaves,
        node({str(k): 5 + k for k in range(6)}),
    )


def saved_model(folder: Path, version: str, objects: bytes = b"") -> Path:
    """saved_model.pb: schema version, one MetaGraphDef with its MetaInfoDef, an empty graph, the objects."""
    folder.mkdir(parents=True, exist_ok=True)
    info = message((4, "serve"), (5, version))
    graph = message((1, info), (2, b""), *([(7, objects)] if objects else []))
    (folder / "saved_model.pb").write_bytes(message((1, 1), (2, graph)))
    return folder


@pytest.mark.parametrize("age", ["2.1.0", "2.5.0"])
def test_a_saved_model_of_keras_2_is_read_whole(tmp_path: Path, age: str) -> None:
    """Metadata stands with the objects of the graph up to TensorFlow 2.4 (SavedUserObject.metadata in saved_object_graph.proto), from 2.5
    on in keras_metadata.pb (saved_metadata.proto: node_id 2, node_path 3, identifier 4, metadata 5)."""
    config, tensors = keras_2_model("old")
    metadata = json.dumps(
        {"class_name": "Sequential", **config, "keras_version": f"{age[:3]}.0", "backend": "tensorflow"}
    )
    if age == "2.1.0":
        user = message((1, "_tf_keras_sequential"), (2, b""), (3, metadata))
        folder = saved_model(tmp_path / "m", age, message((1, message((4, user)))))
    else:
        folder = saved_model(tmp_path / "m", age)
        root = message((3, "root"), (4, "_tf_keras_sequential"), (5, metadata))
        (folder / "keras_metadata.pb").write_bytes(message((1, root)))
    written(folder / "variables" / "variables", tensors, keras_2_graph())
    assert same_as_tensorflow(folder / "variables" / "variables") == 6
    network = read_network(folder)
    assert network.whole() is network
    assert network.details["producer"] == f"TensorFlow {age}"
    x = np.random.default_rng(3).integers(0, 11, (4, 7))
    k = {name.removesuffix("/.ATTRIBUTES/VARIABLE_VALUE"): value.astype(np.float64) for name, value in tensors.items()}

    def hard(v: Array) -> Array:
        return np.clip(0.2 * v + 0.5, 0, 1)

    h, c = np.zeros((4, 5)), np.zeros((4, 5))
    for step in range(7):  # keras/layers/recurrent_v2.py of 2.5: i, f, c, o
        w = "layer_with_weights-1/cell/"
        z = (
            k["layer_with_weights-0/embeddings"][x[:, step]] @ k[w + "kernel"]
            + h @ k[w + "recurrent_kernel"]
            + k[w + "bias"]
        )
        first, second, third, fourth = np.split(z, 4, axis=1)
        c = hard(second) * c + hard(first) * np.tanh(third)
        h = hard(fourth) * np.tanh(c)
    logits = h @ k["layer_with_weights-2/kernel"] + k["layer_with_weights-2/bias"]
    expected = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(outputs(network, x)[0], expected, rtol=1e-6)


def test_layers_of_a_model_of_its_own_class_are_read_by_their_metadata(tmp_path: Path) -> None:
    _, tensors = keras_2_model("old")
    folder = saved_model(tmp_path / "m", "2.9.1")
    lstm = {
        "class_name": "LSTM",
        "config": {**KERAS_2_LSTM, "name": "zeta", "units": 5, "recurrent_activation": "sigmoid", "go_backwards": True},
    }
    root = message((3, "root"), (5, json.dumps({"class_name": "Tagger", "keras_version": "2.9.0"})))
    layer = message((3, "root.encoder"), (5, json.dumps(lstm)))
    (folder / "keras_metadata.pb").write_bytes(message((1, root), (1, layer)))
    written(folder / "variables" / "variables", tensors, keras_2_graph())
    network = read_network(folder)
    (zeta,) = network.recurrent
    assert (zeta.name, zeta.spec.directions, zeta.reverse) == ("zeta", ("backward",), True)
    assert [problem.what for problem in network.problems] == [PROGRAM]
    assert "zeta" not in network.details.get("assumed", "")


def test_optimizers_metrics_and_counters_are_left_out(tmp_path: Path) -> None:
    names = ("kernel", "m", "iter", "rate", "total", "step", "kernel2")
    tensors = {
        f"key_{name}": weights(3, 4, seed=k) if name in ("kernel", "m", "kernel2") else weights(seed=k)
        for k, name in enumerate(names)
    }
    tensors["key_step"] = tensors["key_iter"] = np.array(7, np.int64)
    graph = graph_of(
        node({"model": 1, "optimizer": 2, "step": 8, "other": 10}),
        node({"kernel": 3, "keras_api": 9}),
        node({"iter": 4, "learning_rate": 5, "of_the_model": 3}, slots=True),
        node(key="key_kernel", full_name="dense/kernel:0"),
        node(key="key_iter", full_name="Adam/iter"),
        node(key="key_rate", full_name="Adam/learning_rate"),
        node(key="key_total", full_name="total"),
        node(key="key_m", full_name="Adam/dense/kernel/m"),
        node(key="key_step", full_name="step"),
        node({"metrics": 6}),
        node({"kernel": 11, "model": 0}),
        node(key="key_kernel2", full_name="dense/kernel"),
    )
    contents = read(written(tmp_path / "ck", tensors, graph))
    assert {name: numbers(t).tolist() for name, t in contents.tensors.items()} == {
        "model/kernel": tensors["key_kernel"].tolist(),
        "other/kernel": tensors["key_kernel2"].tolist(),
    }
    assert contents.details["left out"] == "counters and random states: 1, of optimizers and metrics: 4"


def test_a_checkpoint_of_tensorflow_1(tmp_path: Path) -> None:
    graph = tf.Graph()
    with graph.as_default():
        made = {
            "rnn/basic_lstm_cell/kernel": weights(9, 20),
            "rnn/basic_lstm_cell/bias": weights(20),
            "enc/gru_cell/gates/kernel": weights(7, 8),
            "enc/gru_cell/gates/bias": weights(8),
            "enc/gru_cell/candidate/kernel": weights(7, 4),
            "enc/gru_cell/candidate/bias": weights(4),
            "cudnn_lstm/opaque_kernel": weights(123),
            "deep/lstm_cell/kernel": weights(5, 24),
            "deep/lstm_cell/w_f_diag": weights(6),
            "deep/lstm_cell/projection/kernel": weights(6, 2),
            "rnn/basic_lstm_cell/kernel/Adam": weights(9, 20, seed=1),
            "table": weights(10, 3),
        }
        for name, value in made.items():
            tf.compat.v1.get_variable(name, initializer=value, use_resource=True)
        tf.compat.v1.train.get_or_create_global_step()
        with tf.compat.v1.Session(graph=graph) as session:
            session.run(tf.compat.v1.global_variables_initializer())
            saver = tf.compat.v1.train.Saver(sharded=True)
            prefix = Path(saver.save(session, str(tmp_path / "model.ckpt"), global_step=7))
    assert same_as_tensorflow(prefix) == len(made) + 1
    contents = read(prefix)
    assert set(contents.tensors) == set(made) - {"rnn/basic_lstm_cell/kernel/Adam"}
    assert contents.form == "TensorFlow 1 checkpoint"
    network = read_network(prefix.with_name(prefix.name + ".meta"))
    found = {layer.name: layer for layer in network.opaque}
    sizes = {
        name: (layer.facts["input_size"], layer.facts["units"])
        for name, layer in found.items()
        if "units" in layer.facts
    }
    assert sizes == {"rnn/basic_lstm_cell": (4, 5), "enc/gru_cell": (3, 4), "deep/lstm_cell": (3, 6)}
    assert found["cudnn_lstm"].facts == {"numbers": 123}
    assert found["table"].shapes == {"table": (10, 3)}
    said = "\n".join(map(str, network.problems))
    assert "forget_bias" in said
    assert "reset_after=False" in said
    assert "no peepholes and no projection" in said
    assert "opaque" not in found["rnn/basic_lstm_cell"].class_name


@pytest.mark.parametrize(
    ("scope", "kernel", "bias"),
    [("RNN/BasicLSTMCell/Linear", "Matrix", "Bias"), ("rnn/basic_lstm_cell", "weights", "biases")],
)
def test_names_of_cells_before_tensorflow_1_2(tmp_path: Path, scope: str, kernel: str, bias: str) -> None:
    """_linear in rnn_cell.py of TensorFlow 0.10 ("Matrix", "Bias") and of 1.0 ("weights", "biases")."""
    network = read_network(
        written(tmp_path / "old.ckpt", {f"{scope}/{kernel}": weights(9, 20), f"{scope}/{bias}": weights(20)})
    )
    (cell,) = network.opaque
    assert (cell.facts["input_size"], cell.facts["units"]) == (4, 5)


# ---- what is something else


def test_what_is_something_else_is_named(tmp_path: Path) -> None:
    graph = tf.Graph()
    with graph.as_default():
        tf.compat.v1.get_variable("v", initializer=weights(3))
        with tf.compat.v1.Session(graph=graph) as session:
            session.run(tf.compat.v1.global_variables_initializer())
            saver = tf.compat.v1.train.Saver(write_version=tf.compat.v1.train.SaverDef.V1)
            saver.save(session, str(tmp_path / "v1.ckpt"))
    (tmp_path / "frozen.pb").write_bytes(graph.as_graph_def().SerializeToString())
    (tmp_path / "model.tflite").write_bytes(b"\x1c\0\0\0TFL3" + bytes(90))
    (tmp_path / "keras.ckpt").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(90))
    (tmp_path / "light.ckpt").write_bytes(b"PK\x03\x04" + bytes(90))
    (tmp_path / "graph.pbtxt").write_text('node {\n  name: "a"\n}\n')
    (tmp_path / "lfs.pb").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    (tmp_path / "noise.pb").write_bytes(b"\xff" * 70)
    (tmp_path / "alone.data-00000-of-00001").write_bytes(bytes(70))
    words = {
        "v1.ckpt": "first format",
        "v1.ckpt.meta": "graph of a TensorFlow 1 checkpoint",
        "frozen.pb": "frozen TensorFlow graph",
        "model.tflite": "TensorFlow Lite",
        "keras.ckpt": "HDF5",
        "light.ckpt": "torch",
        "graph.pbtxt": "as text",
        "lfs.pb": "Git LFS",
        "noise.pb": "not a file of TensorFlow",
        "alone.data-00000-of-00001": "without the others",
    }
    for name, word in words.items():
        error = refusal(tmp_path / name)
        assert isinstance(error, UnsupportedError), name
        assert word in error.problems[0].what, name
        with pytest.raises(UnsupportedError, match=word):
            read(tmp_path / name)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UnsupportedError, match="no model of TensorFlow"):
        read(tmp_path / "empty")
    with pytest.raises(ParityError, match="no such file"):
        read(tmp_path / "nothing")


def test_a_frozen_saved_model_has_no_variables(tmp_path: Path) -> None:
    network = read_network(saved_model(tmp_path / "m", "1.15.0"))
    assert [problem.what for problem in network.problems] == [PROGRAM, "no variables"]


# ---- bad files


def refused(path: Path) -> str:
    try:
        read(path)
    except FormatError as error:
        return str(error)
    return ""


def kept(folder: Path) -> None:
    config, tensors = keras_2_model("old")
    saved_model(folder, "2.5.0")
    root = message((3, "root"), (5, json.dumps({"class_name": "Sequential", **config, "keras_version": "2.5.0"})))
    (folder / "keras_metadata.pb").write_bytes(message((1, root)))
    many = {f"x{k}": weights(2, 2, seed=k) for k in range(60)}
    written(folder / "variables" / "variables", {**tensors, **many}, keras_2_graph())


@pytest.mark.parametrize(
    "name",
    ["saved_model.pb", "keras_metadata.pb", "variables/variables.index", "variables/variables.data-00000-of-00001"],
)
def test_truncation_and_flipped_bits(tmp_path: Path, name: str) -> None:
    kept(tmp_path / "good")
    data = (tmp_path / "good" / name).read_bytes()
    rng = np.random.default_rng(len(data))
    cut = [data[:length] for length in {*range(0, len(data), 1024), *range(0, len(data), max(len(data) // 40, 1))}]
    flipped = []
    for place in rng.integers(0, len(data), 80):
        damaged = bytearray(data)
        damaged[place] ^= 1 << int(rng.integers(8))
        flipped.append(bytes(damaged))
    count = 0
    for bad in [*cut, *flipped]:
        (tmp_path / "good" / name).write_bytes(bad)
        try:
            read_network(tmp_path / "good")
            for stored in read(tmp_path / "good").tensors.values():
                numbers(stored)
        except ParityError as error:
            count += isinstance(error, FormatError)
    if name.endswith(".index"):
        # Bytes that only fill the footer and say where the unused filters stand may be anything.
        assert count >= len(cut) + len(flipped) - 10
    if name.endswith("00001"):
        assert count >= len(cut)


def test_every_flipped_bit_of_a_block_is_caught(tmp_path: Path) -> None:
    prefix = written(tmp_path / "ck", {"lstm/kernel": weights(2, 3)})
    index = prefix.with_name("ck.index")
    data = index.read_bytes()
    length = len(block(list(entries(index)))) + 5
    assert length < len(data) - 48
    for place in range(8 * length):
        damaged = bytearray(data)
        damaged[place // 8] ^= 1 << place % 8
        index.write_bytes(damaged)
        with pytest.raises(FormatError, match="checksum"):
            list(entries(index))


BAD_ENTRIES = {
    "beyond the shard": (entry(1, (3, 4), 8, 48), "stands outside its file"),
    "far beyond": (entry(1, (3, 4), 1 << 62, 48), "stands outside its file"),
    "negative offset": (entry(1, (3, 4), -8, 48), "is damaged"),
    "negative axis": (entry(1, (-3, -4), 0, 48), "is damaged"),
    "huge shape": (entry(1, (1 << 40, 1 << 40), 0, 48), "is damaged"),
    "huge empty shape": (entry(1, (0, 1 << 62), 0, 0), "is damaged"),
    "many axes": (entry(1, (1,) * 99, 0, 4), "is damaged"),
    "another size": (entry(1, (3, 4), 0, 44), "is damaged"),
    "another shard": (entry(1, (3, 4), 0, 48, shard=3), "a shard that does not exist"),
    "inside another": (entry(1, (3, 2), 20, 24), "stands inside another"),
    "slices that are not there": (
        message((1, 1), (2, message((2, message((1, 3))))), (7, message((1, b"")))),
        "lacks a slice",
    ),
    "slices of another rank": (message((1, 1), (2, b""), (7, message((1, b"")))), "slices that do not fit"),
}


@pytest.mark.parametrize("name", BAD_ENTRIES)
def test_entries_that_lie(tmp_path: Path, name: str) -> None:
    value, what = BAD_ENTRIES[name]
    (tmp_path / "ck.data-00000-of-00001").write_bytes(bytes(48))
    (tmp_path / "ck.index").write_bytes(table([(b"", header()), (b"a", entry(1, (3, 2), 0, 24)), (b"b", value)]))
    with pytest.raises(FormatError, match=what):
        read(tmp_path / "ck")


def test_tables_that_lie(tmp_path: Path) -> None:
    good = [(b"", header()), (b"a", entry(1, (), 0, 4))]
    (tmp_path / "ck.data-00000-of-00001").write_bytes(bytes(48))
    bomb = varint(1 << 40) + b"\0a"
    shared = block(good)[:-8] + b"".join(varint(4000) + varint(1) + varint(0) + b"x" for _ in range(9)) + bytes(8)
    for name, content in {
        "unordered": table([good[0], (b"b", good[1][1]), good[1]]),
        "twice": table([*good, good[1]]),
        "no shards": table([(b"", header(0)), good[1]]),
        "many shards": table([(b"", header(1 << 40)), good[1]]),
        "a bomb": table(good, squeeze=lambda _: bomb),
        "beyond": table(good, squeeze=lambda data: varint(len(data)) + b"\x0d\xff" * 9),
        "shared": table([*good, (b"b", shared)], squeeze=lambda _: snappy(shared)),
        "a long key": table([good[0], (b"k" * 70000, good[1][1])]),
        "no UTF-8": table([good[0], (b"\xff\xfe", good[1][1])]),
        "empty": b"",
        "a footer alone": bytes(40) + MAGIC.to_bytes(8, "little"),
    }.items():
        (tmp_path / "ck.index").write_bytes(content)
        assert refused(tmp_path / "ck"), name


def test_graphs_that_lie(tmp_path: Path) -> None:
    value = {"k": weights(2, 3)}
    leaf = node(key="k", full_name="dense/kernel")
    cyclic = graph_of(node({"a": 1, "self": 0}), node({"back": 0, "b": 1, "leaf": 2}), leaf)
    assert list(read(written(tmp_path / "cyclic", value, cyclic)).tensors) == ["dense/kernel"]
    chain = graph_of(*(node({"next": k + 1}) for k in range(5000)), leaf)
    wide = graph_of(node(dict.fromkeys(["x" * 9000], 1)), leaf)
    for name, graph in {
        "outside": graph_of(node({"a": 7}), leaf),
        "negative": graph_of(node({"a": -1}), leaf),
        "deep": chain,
        "long": wide,
        "no UTF-8": graph_of(message((1, message((1, 1), (2, b"\xff")))), leaf),
        "noise": b"\x0a\xff\xff\xff\xff\x0f",
        "a group": b"\x0b\x0c",
    }.items():
        assert "object graph" in refused(written(tmp_path / "ck", value, graph)), name
    prefix = written(tmp_path / "ck", value, cyclic)
    shard = prefix.with_name("ck.data-00000-of-00001")
    shard.write_bytes(shard.read_bytes().replace(b"dense", b"dance"))
    with pytest.raises(FormatError, match="checksum"):
        read(prefix)


def test_nothing_outside_the_folder_is_read(tmp_path: Path) -> None:
    prefix = written(tmp_path / "out" / "ck", {"v": weights(2, 3)})
    inner = tmp_path / "in"
    inner.mkdir()
    (inner / "ck.index").write_bytes(prefix.with_name("ck.index").read_bytes())
    shard = inner / "ck.data-00000-of-00001"
    with pytest.raises(FormatError, match="missing"):
        read(inner / "ck")
    shard.symlink_to(prefix.with_name(shard.name))
    with pytest.raises(FormatError, match="leads out of the folder"):
        read(inner / "ck")
    shard.unlink()
    shard.symlink_to(shard)
    with pytest.raises(FormatError, match="missing"):
        read(inner / "ck")
    shard.unlink()
    os.mkfifo(shard)
    with pytest.raises(FormatError, match="not a plain file"):
        read(inner / "ck")
    for line in ("../out/ck", "..", "", "x\\0y", "a/../../out/ck"):
        (inner / "checkpoint").write_text(f'model_checkpoint_path: "{line}"\n')
        with pytest.raises(FormatError):
            read(inner)
    (inner / "checkpoint").write_bytes(bytes(range(256)))
    with pytest.raises(FormatError, match="names no checkpoint"):
        read(inner)


def test_links_inside_the_folder_are_followed(tmp_path: Path) -> None:
    prefix = written(tmp_path / "ck", {"v": weights(2, 3)})
    shard = prefix.with_name("ck.data-00000-of-00001")
    shutil.move(shard, tmp_path / "blob")
    shard.symlink_to(tmp_path / "blob")
    assert numbers(read(prefix).tensors["v"]).shape == (2, 3)


def test_a_large_checkpoint_is_not_gathered(tmp_path: Path) -> None:
    prefix = save_v2(tmp_path / "large", {f"lstm_{k}/kernel": tf.zeros((1 << 20,)) for k in range(8)})
    read(prefix)
    tracemalloc.start()
    tensors = read(prefix).tensors
    peak = tracemalloc.get_traced_memory()[1]
    assert peak < 1 << 20
    for stored in tensors.values():
        numbers(stored)
    assert tracemalloc.get_traced_memory()[1] < 10 << 20
    tracemalloc.stop()
