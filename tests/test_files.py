"""Files against the frameworks that own them, and against people who mean no good."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import contextlib
import io
import json
import pickle
import struct
import subprocess
import sys
import time
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
import torch
from keras import layers as kl
from safetensors.torch import load_file

import parity
from parity.deferred import blocks_of
from parity.errors import FormatError, ParityError, ShapeError, UnsupportedError
from parity.files import SUFFIXES, read_file, safetensors_file, write_file
from parity.files import torch as torch_file
from parity.files.archive import Archive
from parity.files.description import describe, network_of, tensors_of
from parity.files.keras import file as keras_file
from parity.files.state_dict import network_from_state_dict
from parity.files.target import early_to_the_disk
from parity.identity import identical
from parity.network import Dense, Embedding, Network, Output, Recurrent
from parity.network.keras.layer_writing import keras_arrays
from parity.recurrent import DIRECTIONS, Array, RecurrentSpec, Weights
from parity.result import State

Make = Callable[..., Any]


def state_dict_from_network(network: Network) -> dict[str, Array]:
    return {name: blocks.whole() for name, blocks in tensors_of(network).items()}


def recurrent(name: str, kind: Any, inputs: int, units: int, *, both: bool = False, bias: bool = True) -> Recurrent:
    spec = RecurrentSpec(kind, inputs, units, DIRECTIONS if both else DIRECTIONS[:1])
    rng = np.random.default_rng(inputs * 31 + units)
    members = list(Weights.__dataclass_fields__)[: 4 if bias else 2]
    weights = [Weights(*(rng.normal(size=spec.shape(m)).astype(np.float32) for m in members)) for _ in spec.directions]
    return Recurrent(name, spec, tuple(weights))


def run(network: Network, x: Array) -> tuple[list[Array], list[State]]:
    states = {
        name: State(*(np.zeros((len(spec.directions), len(x), spec.hidden_size)) for _ in spec.states))
        for name, spec in network.specs.items()
    }
    outputs, paths = network.compute(x, states)
    return list(outputs.values()), [path.run.final for path in paths.values()]


# ---- .keras


@pytest.fixture(scope="module")
def keras_model() -> Any:
    x = keras.Input((None, 6), name="readings")
    first, h, _ = kl.LSTM(5, return_sequences=True, return_state=True, name="zeta")(x)
    second = kl.Bidirectional(kl.GRU(4, return_sequences=True), name="alpha")(first)
    last = kl.LSTM(3, use_bias=False, name="beta")(second)
    model = keras.Model(x, [kl.Dense(2, activation="softmax", name="out")(last), h], name="forecaster")
    rng = np.random.default_rng(7)
    model.set_weights([rng.normal(scale=0.5, size=w.shape).astype(np.float32) for w in model.get_weights()])
    return model


@pytest.fixture(scope="module")
def keras_path(keras_model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keras") / "forecaster.keras"
    keras_model.save(path)
    return path


def test_keras_file_read_bit_for_bit_and_computed(keras_model: Any, keras_path: Path) -> None:
    network = read_file(keras_path)
    for layer in network.layers:
        live = keras_model.get_layer(layer.name).get_weights()
        for ours, own in zip(keras_arrays(layer), live, strict=True):
            np.testing.assert_array_equal(ours, own)
    x = np.random.default_rng(8).normal(size=(3, 7, 6)).astype(np.float32)
    for ours, own in zip(run(network, x)[0], keras_model.predict(x, verbose=0), strict=True):
        np.testing.assert_allclose(ours, own, rtol=0, atol=1e-5)
    assert network.details["producer"] == f"Keras {keras.__version__}"
    assert network.details["saved"].startswith("20")
    assert (network.name, network.origin) == ("forecaster", "keras")


def test_keras_opens_what_is_written(keras_model: Any, keras_path: Path, tmp_path: Path) -> None:
    target = tmp_path / "again.keras"
    write_file(read_file(keras_path), target)
    opened = keras.models.load_model(target)
    x = np.random.default_rng(9).normal(size=(2, 5, 6)).astype(np.float32)
    for new, old in zip(opened.predict(x, verbose=0), keras_model.predict(x, verbose=0), strict=True):
        np.testing.assert_array_equal(new, old)
    assert [layer.name for layer in opened.layers[1:]] == [layer.name for layer in keras_model.layers[1:]]


def test_a_sequential_with_tokens(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((None,), dtype="int32"), kl.Embedding(9, 4), kl.GRU(3), kl.Dense(2)])
    path, again = tmp_path / "tokens.keras", tmp_path / "again.keras"
    model.save(path)
    write_file(read_file(path), again)
    x = np.random.default_rng(1).integers(0, 9, (2, 5))
    np.testing.assert_array_equal(keras.models.load_model(again).predict(x, verbose=0), model.predict(x, verbose=0))


def test_the_weights_file_has_the_tree_of_keras(keras_path: Path, tmp_path: Path) -> None:
    write_file(read_file(keras_path), tmp_path / "again.keras")
    trees = []
    for path in (keras_path, tmp_path / "again.keras"):
        with Archive(path, "a .keras file") as archive, h5py.File(io.BytesIO(archive.read(keras_file.WEIGHTS))) as file:
            names: list[str] = []
            file.visititems(
                lambda name, item, names=names: names.append(name) if isinstance(item, h5py.Dataset) else None
            )
            trees.append(names)
    assert trees[0] == trees[1]


def test_a_bare_stack_becomes_a_keras_file(tmp_path: Path) -> None:
    layers = (recurrent("gru_l0", "gru", 6, 5, both=True), recurrent("gru_l1", "gru", 10, 5, both=True))
    write_file(Network("gru", layers), tmp_path / "stack.keras")
    model = keras.models.load_model(tmp_path / "stack.keras")
    x = np.random.default_rng(3).normal(size=(2, 4, 6)).astype(np.float32)
    sequence, *states = model.predict(x, verbose=0)
    assert sequence.shape == (2, 4, 10)
    finals = run(Network("gru", layers), x)[1]
    for ours, own in zip([h for final in finals for h in final.h], states, strict=True):
        np.testing.assert_allclose(ours, own, rtol=0, atol=1e-5)


def test_the_same_network_gives_the_same_bytes(keras_path: Path, tmp_path: Path) -> None:
    network = read_file(keras_path)
    contents = []
    for name in ("one.keras", "two.keras"):
        write_file(network, tmp_path / name)
        with zipfile.ZipFile(tmp_path / name) as archive:
            contents.append([archive.read(member) for member in (keras_file.CONFIG, keras_file.WEIGHTS)])
            assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
    assert contents[0] == contents[1]


def rewritten(source: Path, target: Path, changes: dict[str, bytes | None], compression: int = 0) -> Path:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", compression) as new:
        members = {info.filename: old.read(info) for info in old.infolist()}
        for name, content in {**members, **changes}.items():
            if content is not None:
                new.writestr(name, content)
    return target


def with_weights(source: Path, target: Path, change: Callable[[Any], object]) -> Path:
    with zipfile.ZipFile(source) as archive:
        content = io.BytesIO(archive.read(keras_file.WEIGHTS))
    with h5py.File(content, "a") as file:
        change(file)
    return rewritten(source, target, {keras_file.WEIGHTS: content.getvalue()})


KERNEL = "layers/lstm/cell/vars/0"


def external_link(file: Any) -> None:
    del file[KERNEL]
    file[KERNEL] = h5py.ExternalLink("/etc/passwd", "/x")


def soft_link(file: Any) -> None:
    del file[KERNEL]
    file[KERNEL] = h5py.SoftLink("/layers/lstm_1/cell/vars/0")


def linked_group(file: Any) -> None:
    del file["layers/lstm"]
    file["layers/lstm"] = h5py.ExternalLink("/etc/passwd", "/x")


def external_storage(file: Any) -> None:
    del file[KERNEL]
    file.create_dataset(KERNEL, (6, 20), "f4", external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])


def huge(file: Any) -> None:
    del file[KERNEL]
    file.create_dataset(KERNEL, (1 << 20, 1 << 20), "f4", chunks=(64, 64))


def wrong_shape(file: Any) -> None:
    del file[KERNEL]
    file[KERNEL] = np.ones((6, 21), np.float32)


def wrong_type(file: Any) -> None:
    del file[KERNEL]
    file[KERNEL] = np.ones((6, 20), np.float64)


def missing(file: Any) -> None:
    del file["layers/lstm_1"]


def one_too_many(file: Any) -> None:
    file["layers/lstm/cell/vars/3"] = np.ones(3, np.float32)


def a_group_instead(file: Any) -> None:
    del file[KERNEL]
    file.create_group(KERNEL)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (external_link, "is a link"),
        (soft_link, "is a link"),
        (linked_group, "is a link"),
        (external_storage, "stands in another file"),
        (huge, "claims more than the file can hold"),
        (wrong_shape, "weight 'kernel' has the wrong shape"),
        (wrong_type, "not float32"),
        (missing, "'layers/lstm_1/cell/vars' is missing"),
        (one_too_many, "wrong number of weights"),
        (a_group_instead, "is not an array"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_hostile_weights(keras_path: Path, tmp_path: Path, change: Callable[[Any], object], message: str) -> None:
    path = with_weights(keras_path, tmp_path / "bad.keras", change)
    with pytest.raises(FormatError, match=message) as caught:
        read_file(path)
    problem = caught.value.problems[0]
    assert str(path) in problem.where
    assert problem.expected
    assert problem.got
    assert problem.remedy


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"config.json": None}, "'config.json' is missing"),
        ({"config.json": b"{"}, "'config.json' is not JSON"),
        ({"config.json": b"\xff\xfe\x00"}, "'config.json' is not JSON"),
        ({"config.json": b"[]"}, "does not hold a JSON object"),
        ({"config.json": b"{}"}, "no 'class_name'"),
        ({"config.json": b"[" * 100_000}, "'config.json' is not JSON"),
        ({"config.json": b'{"a":' * 500 + b"1" + b"}" * 500}, "nested too deeply"),
        ({"model.weights.h5": None}, "'model.weights.h5' is missing"),
        ({"model.weights.h5": b"not hdf5"}, "not an HDF5 file"),
        ({"metadata.json": b"3"}, "does not hold a JSON object"),
    ],
)
def test_broken_members(keras_path: Path, tmp_path: Path, changes: dict[str, bytes | None], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        read_file(rewritten(keras_path, tmp_path / "bad.keras", changes))


def test_problems_of_the_model_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "wild.keras"
    keras.Sequential(
        [keras.Input((None, 3)), kl.LSTM(5, activation="softmax", name="hot"), kl.GaussianNoise(0.1)]
    ).save(path)
    with pytest.raises(UnsupportedError) as caught:
        read_file(path).whole()
    assert [problem.what for problem in caught.value.problems] == [
        "activation is not kept exactly",
        "this layer class is not converted",
    ]
    assert caught.value.problems[0].where.endswith(f" of {path}")
    assert "'hot'" in caught.value.problems[0].where


def test_zip_bombs_are_not_opened(keras_path: Path, tmp_path: Path) -> None:
    bomb = rewritten(keras_path, tmp_path / "bomb.keras", {"model.weights.h5": bytes(1 << 26)}, zipfile.ZIP_DEFLATED)
    assert bomb.stat().st_size < 1 << 20
    with pytest.raises(FormatError, match="claims more than the file can hold"):
        read_file(bomb)
    content = bytearray(keras_path.read_bytes())
    entry = content.rindex(b"model.weights.h5") - 46
    content[entry + 20 : entry + 28] = struct.pack("<II", 0xFFFFFFF0, 0xFFFFFFF0)
    liar = tmp_path / "liar.keras"
    liar.write_bytes(content)
    with pytest.raises(FormatError, match="claims more than the file can hold"):
        read_file(liar)


def test_a_recompressed_file_is_read(keras_path: Path, tmp_path: Path) -> None:
    again = rewritten(keras_path, tmp_path / "small.keras", {}, zipfile.ZIP_DEFLATED)
    assert read_file(again).specs == read_file(keras_path).specs


def test_two_members_of_one_name(keras_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "twice.keras"
    path.write_bytes(keras_path.read_bytes())
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("config.json", "{}")
    with pytest.raises(FormatError, match="two members have one name"):
        read_file(path)


# ---- .pt and .safetensors


TORCH_MODULES: list[Make] = [
    lambda: torch.nn.LSTM(6, 5),
    lambda: torch.nn.GRU(6, 5, num_layers=3, bidirectional=True),
    lambda: torch.nn.LSTM(6, 5, num_layers=2, bias=False, batch_first=True),
]


def equal_state(left: dict[str, Any], right: dict[str, Any]) -> None:
    assert list(left) == list(right)
    for name, tensor in left.items():
        np.testing.assert_array_equal(np.asarray(tensor), np.asarray(right[name]), strict=True)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
@pytest.mark.parametrize("make", TORCH_MODULES)
def test_state_dicts_in_both_directions(make: Make, suffix: str, tmp_path: Path) -> None:
    module = make()
    source, target = tmp_path / f"stack{suffix}", tmp_path / f"again{suffix}"
    if suffix == ".safetensors":
        safetensors_file_of_torch = pytest.importorskip("safetensors.torch")
        safetensors_file_of_torch.save_file(module.state_dict(), source)
    else:
        torch.save(module.state_dict(), source)
    network = read_file(source)
    assert (network.bare, network.origin, network.name) == (True, "torch", "stack")
    equal_state(state_dict_from_network(network), module.state_dict())

    write_file(network, target)
    opened = load_file(target) if suffix == ".safetensors" else torch.load(target, weights_only=True)
    fresh = make()
    fresh.load_state_dict(opened, strict=True)
    x = torch.randn(4, 3, 6)
    for new, old in zip(fresh(x), module(x), strict=True):
        torch.testing.assert_close(new, old, rtol=0, atol=0)


@pytest.mark.parametrize("make", TORCH_MODULES)
def test_state_dicts_compute_the_same(make: Make) -> None:
    module = make()
    network = network_from_state_dict({name: np.asarray(t) for name, t in module.state_dict().items()}, "file")
    x = np.random.default_rng(2).normal(size=(3, 4, 6)).astype(np.float32)
    given = torch.from_numpy(x if module.batch_first else x.swapaxes(0, 1).copy())
    with torch.no_grad():
        _, state = module(given)
    h_n = state[0] if isinstance(state, tuple) else state
    ours = np.concatenate([final.h for final in run(network, x)[1]])
    np.testing.assert_allclose(ours, h_n.numpy(), rtol=0, atol=1e-5)


def test_layer_names_and_prefixes() -> None:
    def names(module: Any, prefix: str) -> tuple[str, list[str]]:
        arrays = {prefix + name: np.asarray(tensor) for name, tensor in module.state_dict().items()}
        network = network_from_state_dict(arrays, "file")
        return network.name, list(network.specs)

    assert names(torch.nn.GRU(3, 2), "") == ("file", ["gru"])
    assert names(torch.nn.GRU(3, 2, num_layers=2), "") == ("file", ["gru_l0", "gru_l1"])
    assert names(torch.nn.LSTM(3, 2), "lstm.") == ("lstm", ["lstm"])
    assert names(torch.nn.LSTM(3, 2, num_layers=2), "encoder.rnn.") == (
        "encoder.rnn",
        ["encoder.rnn_l0", "encoder.rnn_l1"],
    )


def test_from_keras_to_torch_and_back(tmp_path: Path) -> None:
    model = keras.Sequential(
        [keras.Input((None, 6)), kl.Bidirectional(kl.LSTM(5, return_sequences=True)), kl.Bidirectional(kl.LSTM(5))]
    )
    rng = np.random.default_rng(7)
    model.set_weights([rng.normal(scale=0.5, size=w.shape).astype(np.float32) for w in model.get_weights()])
    model.save(tmp_path / "model.keras")
    write_file(read_file(tmp_path / "model.keras"), tmp_path / "model.pt")
    module = torch.nn.LSTM(6, 5, num_layers=2, bidirectional=True, batch_first=True)
    module.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True), strict=True)
    x = rng.normal(size=(3, 4, 6)).astype(np.float32)
    with torch.no_grad():
        h_n = module(torch.from_numpy(x))[1][0]
    expected = model.predict(x, verbose=0)
    np.testing.assert_allclose(torch.cat([h_n[2], h_n[3]], dim=1).numpy(), expected, rtol=0, atol=1e-5)
    write_file(read_file(tmp_path / "model.pt"), tmp_path / "again.keras")
    for new, old in zip(
        keras.models.load_model(tmp_path / "again.keras").get_weights(), model.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(new, old)


def test_records_are_aligned_and_repeatable(tmp_path: Path) -> None:
    arrays = state_dict_from_network(Network("n", (recurrent("gru", "gru", 7, 5),)))
    first, second = io.BytesIO(), io.BytesIO()
    torch_file.write_tensors(arrays, first)
    torch_file.write_tensors(arrays, second)
    assert first.getvalue() == second.getvalue()
    path = tmp_path / "a.pt"
    path.write_bytes(first.getvalue())
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            start = info.header_offset
            name, extra = struct.unpack("<HH", first.getvalue()[start + 26 : start + 30])
            assert (start + 30 + name + extra) % 64 == 0
        assert archive.read("archive/version") == b"3\n"
        assert archive.read("archive/byteorder") == b"little"
    mapped = torch.load(path, weights_only=True, mmap=True)
    equal_state(mapped, arrays)


def test_large_records_are_aligned_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = state_dict_from_network(Network("n", (recurrent("gru", "gru", 7, 5),)))
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 500)
    with (tmp_path / "large.pt").open("wb") as file:
        torch_file.write_tensors(arrays, file)
    monkeypatch.undo()
    equal_state(torch.load(tmp_path / "large.pt", weights_only=True, mmap=True), arrays)
    content = (tmp_path / "large.pt").read_bytes()
    for array in arrays.values():
        assert content.index(array.tobytes()) % 64 == 0


def test_every_numpy_type_survives(tmp_path: Path) -> None:
    arrays: dict[str, Array] = {
        str(dtype): np.arange(6).reshape(2, 3).astype(dtype)
        for dtype in torch_file.STORAGES.values()
        if dtype.names is None
    }
    arrays |= {"scalar": np.array(3.5, np.float32), "none": np.zeros((0, 4), np.float32), "ünï": np.ones(2, np.float32)}
    with (tmp_path / "a.pt").open("wb") as file:
        torch_file.write_tensors(arrays, file)
    equal_state(torch.load(tmp_path / "a.pt", weights_only=True), arrays)
    equal_state(torch_file.read_tensors(tmp_path / "a.pt"), arrays)


def test_views_strides_and_shared_storages(tmp_path: Path) -> None:
    base = torch.randn(6, 8)
    tensors = {
        "base": base,
        "transposed": base.T,
        "window": base[2:5, 1::3],
        "row": base[3],
        "flat": base.flatten()[5:17],
        "parameter": torch.nn.Parameter(torch.randn(3, 2)),
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(2.5),
    }
    torch.save(tensors, tmp_path / "views.pt")
    read = torch_file.read_tensors(tmp_path / "views.pt")
    assert list(read) == list(tensors)
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(read[name], tensor.detach().numpy(), strict=True)
        assert read[name].flags.c_contiguous
        assert read[name].flags.writeable


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict"])
def test_checkpoints(key: str, tmp_path: Path) -> None:
    module = torch.nn.LSTM(6, 5)
    optimizer = torch.optim.Adam(module.parameters())
    module(torch.randn(2, 3, 6))[0].sum().backward()
    optimizer.step()
    checkpoint = {"epoch": 3, "loss": 0.25, "optimizer": optimizer.state_dict(), key: module.state_dict()}
    torch.save(checkpoint, tmp_path / "run.pt")
    equal_state(state_dict_from_network(read_file(tmp_path / "run.pt")), module.state_dict())


def pickled_zip(path: Path, content: bytes, records: dict[str, bytes] | None = None) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        for name, record in (records or {}).items():
            archive.writestr(f"archive/data/{name}", record)
    return path


class Calls:
    """Pickles to a call of its choice."""

    def __init__(self, function: Callable[..., object], *args: object) -> None:
        self.call = (function, args)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_that_calls_is_named_and_not_run(tmp_path: Path, protocol: int) -> None:
    victim = tmp_path / "victim"
    content = pickle.dumps({"weight_ih_l0": Calls(os.system, f"touch {victim}")}, protocol)
    with pytest.raises(FormatError) as caught:
        read_file(pickled_zip(tmp_path / "evil.pt", content))
    assert not victim.exists()
    assert caught.value.problems[0].got == f"{os.system.__module__}.system"
    assert "it was not run" in str(caught.value)


@pytest.mark.parametrize("function", [eval, exec, getattr, __import__, open, torch.load, io.BytesIO])
def test_no_function_is_found(tmp_path: Path, function: Callable[..., object]) -> None:
    with pytest.raises(FormatError, match="no tensor needs"):
        read_file(pickled_zip(tmp_path / "evil.pt", pickle.dumps(Calls(function, "1"), 2)))


def test_the_stand_ins_cannot_be_changed(tmp_path: Path) -> None:
    stand_in = b"ctorch._utils\n_rebuild_tensor_v2\n"
    for state in (b"}X\x04\x00\x00\x00evilK\x01s", b"N}X\x08\x00\x00\x00__call__K\x01s\x86"):
        with pytest.raises(FormatError, match="its pickle is damaged"):
            read_file(pickled_zip(tmp_path / "evil.pt", b"\x80\x02" + stand_in + state + b"b."))


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        ((0, (2, 3), (3, 1)), "reaches beyond its storage"),
        ((3, (2,), (1,)), "reaches beyond its storage"),
        ((0, (100000, 100000), (0, 0)), "claim more than the file can hold"),
        ((-1, (2,), (1,)), "sizes that are no numbers"),
        ((0, (2,), (-1,)), "sizes that are no numbers"),
        ((0, (2,), (1, 1)), "do not fit each other"),
        ((0, 2, (1,)), "not a tuple"),
        ((0, (True,), (1,)), "sizes that are no numbers"),
    ],
)
def test_tensors_stay_inside_their_storage(tmp_path: Path, tensor: tuple[object, ...], message: str) -> None:
    storage = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQ"
    values = b"".join(pickle.dumps(value, 2)[2:-1] for value in eval(f"({tensor})"))
    call = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + values + b"\x89NtR"
    content = b"\x80\x02}X\x01\x00\x00\x00w" + call + b"s."
    path = pickled_zip(tmp_path / "bad.pt", content, {"0": bytes(16)})
    with pytest.raises(FormatError, match=message):
        torch_file.read_tensors(path)


def test_a_storage_that_claims_more_than_its_record(tmp_path: Path) -> None:
    good = io.BytesIO()
    torch_file.write_tensors({"weight": np.ones(64, np.float32)}, good)
    for record in (None, bytes(255), bytes(257)):
        source = tmp_path / "good.pt"
        source.write_bytes(good.getvalue())
        bad = rewritten(source, tmp_path / "bad.pt", {"archive/data/0": record})
        with pytest.raises(FormatError, match=r"another length|is missing"):
            torch_file.read_tensors(bad)


def test_a_pickle_cannot_ask_for_memory(tmp_path: Path) -> None:
    for content, message in (
        (b"\x80\x02]r\xff\xff\xff\x7f.", "does not hold a state dict"),
        (b"\x80\x05\x96" + struct.pack("<Q", 1 << 60) + b"x.", "its pickle is damaged"),
        (b"\x80\x02X\xff", "its pickle is damaged"),
    ):
        with pytest.raises(FormatError, match=message):
            read_file(pickled_zip(tmp_path / "greedy.pt", content))
    tied = OrderedDict((f"w{index}", torch.zeros(50_000)) for index in range(1))
    tied.update((f"v{index}", tied["w0"]) for index in range(100))
    torch.save(tied, tmp_path / "tied.pt")
    with pytest.raises(FormatError, match="claim more than the file can hold"):
        torch_file.read_tensors(tmp_path / "tied.pt")


def test_what_else_torch_saves_is_refused_by_its_name(tmp_path: Path) -> None:
    module = torch.nn.LSTM(3, 2)
    path = tmp_path / "other.pt"
    torch.save(module, path)
    with pytest.raises(UnsupportedError, match="a whole module, not a state dict"):
        read_file(path)
    torch.save(torch.nn.Sequential(module), path)
    with pytest.raises(UnsupportedError, match=r"torch\.save\(module\.state_dict"):
        read_file(path)
    torch.save([torch.ones(2)], path)
    with pytest.raises(FormatError, match="does not hold a state dict"):
        read_file(path)


def test_big_endian_is_refused(tmp_path: Path) -> None:
    torch.save(torch.nn.GRU(3, 2).state_dict(), tmp_path / "little.pt")
    big = rewritten(tmp_path / "little.pt", tmp_path / "big.pt", {"little/byteorder": b"big"})
    with pytest.raises(UnsupportedError, match="byte order"):
        read_file(big)


@pytest.mark.parametrize("content", [struct.pack("<Q", 1 << 62) + b"{}", struct.pack("<Q", 4) + b"{}}}", b"\x00" * 9])
def test_broken_safetensors(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=r"bad\.safetensors is not a \.safetensors file") as caught:
        read_file(path)
    assert caught.value.problems[0].where == str(path)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.nn.LSTM(6, 5, num_layers=2, bidirectional=True, proj_size=3),
        lambda: torch.nn.GRU(6, 5, bias=False),
        lambda: torch.nn.RNN(6, 5, bidirectional=True),
    ],
    ids=["projected", "gru", "rnn"],
)
def test_every_type_of_weight_is_read_exactly(make: Make, dtype: torch.dtype, suffix: str, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    tensors = make().to(dtype).state_dict()
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pt":
        torch.save(tensors, path)
    else:
        save_file(tensors, path)
    network = read_file(path)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    equal_state(state_dict_from_network(network), {name: tensor.to(wide) for name, tensor in tensors.items()})
    assert ("nonlinearity" in network.details) == (network.recurrent[0].spec.kind == "rnn")


def test_safetensors_written_are_marked_for_torch(tmp_path: Path) -> None:
    with (tmp_path / "a.safetensors").open("wb") as file:
        safetensors_file.write({"x": blocks_of(np.ones((3, 2), np.float32).T)}, file)
    size = struct.unpack("<Q", (tmp_path / "a.safetensors").read_bytes()[:8])[0]
    header = json.loads((tmp_path / "a.safetensors").read_bytes()[8 : 8 + size])
    assert header["__metadata__"] == {"format": "pt"}
    assert safetensors_file.read(tmp_path / "a.safetensors").tensors["x"].shape == (2, 3)


def state(make: Make) -> dict[str, Array]:
    return {name: tensor.numpy() for name, tensor in make().state_dict().items()}


def shorter(name: str) -> dict[str, Array]:
    arrays = state(lambda: torch.nn.LSTM(6, 5))
    arrays[name] = arrays[name][:-1]
    return arrays


STATE_DICTS: dict[str, tuple[Callable[[], dict[str, Array]], type[Exception], str]] = {
    "half a projection": (
        lambda: {**state(lambda: torch.nn.LSTM(6, 5, proj_size=3)), "weight_hr_l0": np.ones((2, 5), np.float32)},
        ShapeError,
        "weight_hr_l0 has the wrong shape",
    ),
    "no projection": (
        lambda: {k: v for k, v in state(lambda: torch.nn.LSTM(6, 5, proj_size=3)).items() if k != "weight_hr_l0"},
        ShapeError,
        "belongs to no recurrent module",
    ),
    "projection of a GRU": (
        lambda: {**state(lambda: torch.nn.GRU(6, 5)), "weight_hr_l0": np.ones((5, 5), np.float32)},
        ShapeError,
        "only an LSTM has a projection",
    ),
    "integers": (
        lambda: {k: v.astype(np.int32) for k, v in state(lambda: torch.nn.GRU(6, 5)).items()},
        UnsupportedError,
        "tensors that are no weights",
    ),
    "two types": (
        lambda: {**state(lambda: torch.nn.LSTM(6, 5)), "bias_ih_l0": np.ones(20)},
        UnsupportedError,
        r"module\.float\(\)",
    ),
    "nothing": (dict, FormatError, "no tensors in it"),
    "no_bias_hh": (
        lambda: {k: v for k, v in state(lambda: torch.nn.LSTM(6, 5)).items() if k != "bias_hh_l0"},
        FormatError,
        "no bias_hh_l0",
    ),
    "no_layer_0": (
        lambda: {k: v for k, v in state(lambda: torch.nn.GRU(6, 5, num_layers=2)).items() if k.endswith("l1")},
        FormatError,
        "no bias_hh_l0, bias_ih_l0, weight_hh_l0, weight_ih_l0",
    ),
    "half_a_direction": (
        lambda: {
            k: v
            for k, v in state(lambda: torch.nn.GRU(6, 5, bidirectional=True)).items()
            if k != "weight_hh_l0_reverse"
        },
        FormatError,
        "weight_hh_l0_reverse",
    ),
    "huge_depth": (lambda: {"weight_ih_l999999": np.ones((4, 3), np.float32)}, FormatError, "layers are missing"),
    "hidden": (lambda: shorter("weight_hh_l0"), ShapeError, "belongs to no recurrent module"),
    "bias": (lambda: shorter("bias_ih_l0"), ShapeError, "weight 'bias_ih' has the wrong shape"),
    "input": (lambda: shorter("weight_ih_l0"), ShapeError, "weight 'weight_ih' has the wrong shape"),
    "flat": (
        lambda: {**state(lambda: torch.nn.LSTM(6, 5)), "weight_hh_l0": np.ones(5, np.float32)},
        ShapeError,
        "matrix",
    ),
}


@pytest.mark.parametrize("name", STATE_DICTS)
def test_state_dicts_that_say_too_little(name: str) -> None:
    make, error, message = STATE_DICTS[name]
    with pytest.raises(error, match=message) as caught:
        network_from_state_dict(make(), "file")
    assert all("file" in problem.where or "state dict" in problem.where for problem in caught.value.problems)  # type: ignore[attr-defined]


def two_modules() -> dict[str, Array]:
    parts = {"encoder": torch.nn.LSTM(6, 5), "norm": torch.nn.BatchNorm1d(5), "decoder": torch.nn.GRU(5, 4, 2)}
    return state(lambda: torch.nn.ModuleDict(parts))


def test_several_modules_are_read_as_far_as_they_go() -> None:
    arrays = two_modules()
    network = network_from_state_dict(arrays, "file")
    assert [layer.name for layer in network.recurrent] == ["encoder", "decoder_l0", "decoder_l1"]
    (norm,) = network.opaque
    assert (norm.name, norm.place) == ("norm", 1)
    assert norm.shapes["running_var"] == (5,)
    with pytest.raises(
        UnsupportedError, match=r"how several modules are connected(.|\n)*one by one: 'encoder', 'decoder_l0'"
    ):
        network.whole()
    np.testing.assert_array_equal(
        tensors_of(Network("x", network.recurrent[:1]))["weight_hh_l0"].whole(), arrays["encoder.weight_hh_l0"]
    )


def test_a_file_without_recurrent_weights_can_be_looked_at() -> None:
    network = network_from_state_dict(state(lambda: torch.nn.Sequential(torch.nn.Linear(3, 2))), "file")
    assert network.recurrent == ()
    assert network.opaque[0].shapes == {"weight": (2, 3), "bias": (2,)}
    with pytest.raises(UnsupportedError, match="no recurrent weights in it"):
        network.whole()


def test_one_damaged_module_leaves_the_others() -> None:
    arrays = two_modules()
    arrays["encoder.weight_hh_l0"] = arrays["encoder.weight_hh_l0"][:-1]
    network = network_from_state_dict(arrays, "file")
    assert [layer.name for layer in network.recurrent] == ["decoder_l0", "decoder_l1"]
    assert [part.name for part in network.opaque] == ["encoder", "norm"]
    assert any("belongs to no recurrent module" in problem.what for problem in network.problems)


@pytest.mark.parametrize("make", [lambda: torch.nn.LSTMCell(6, 5), lambda: torch.nn.GRUCell(6, 5, bias=False)])
def test_cells_are_read_from_their_names(make: Make, tmp_path: Path) -> None:
    cell = make()
    torch.save(cell.state_dict(), tmp_path / "cell.pt")
    network = parity.read(tmp_path / "cell.pt")
    assert network.recurrent[0].single_step
    built = parity.to_torch(network)
    assert type(built) is type(cell)
    x, h = torch.randn(3, 6), torch.randn(3, 5)
    states = (h, torch.randn(3, 5)) if isinstance(cell, torch.nn.LSTMCell) else h
    with torch.no_grad():
        assert torch.equal(torch.as_tensor(built(x, states)[0]), torch.as_tensor(cell(x, states)[0]))


def backward(layer: Recurrent) -> Recurrent:
    spec = RecurrentSpec(layer.spec.kind, layer.spec.input_size, layer.spec.hidden_size, ("backward",))
    return Recurrent(layer.name, spec, layer.weights, reverse=True)


NETWORKS: dict[str, list[Any]] = {
    "a head": [
        recurrent("a", "lstm", 6, 5),
        Dense("head", np.ones((5, 2), np.float32), np.ones(2, np.float32), "tanh"),
    ],
    "two kinds": [recurrent("a", "lstm", 6, 5), recurrent("b", "gru", 5, 4)],
    "two sizes": [recurrent("a", "lstm", 6, 5), recurrent("b", "lstm", 5, 4)],
    "directions": [recurrent("a", "lstm", 6, 5), recurrent("b", "lstm", 5, 5, both=True)],
    "one without bias": [recurrent("a", "lstm", 6, 5), recurrent("b", "lstm", 5, 5, bias=False)],
    "backward alone": [backward(recurrent("a", "lstm", 6, 5))],
    "words": [Embedding("words", np.random.default_rng(5).normal(size=(9, 6)), True), recurrent("a", "gru", 6, 5)],
}


@pytest.mark.parametrize("suffix", [".safetensors", ".npz", ".pt"])
@pytest.mark.parametrize("name", NETWORKS)
def test_what_no_torch_module_says_is_described_beside_the_tensors(name: str, suffix: str, tmp_path: Path) -> None:
    network = Network("n", tuple(NETWORKS[name]))
    write_file(network, tmp_path / f"n{suffix}")
    again = read_file(tmp_path / f"n{suffix}")
    assert identical(network, again)
    assert [layer.name for layer in again.layers] == [layer.name for layer in network.layers]
    weights = network.recurrent[0].weights[0]
    changed = replace(
        network.recurrent[0], weights=(weights.with_held(kernel=-weights.kernel), *network.recurrent[0].weights[1:])
    )
    other = replace(
        network, layers=tuple(changed if layer is network.recurrent[0] else layer for layer in network.layers)
    )
    assert not identical(other, again)


def described() -> tuple[str, dict[str, Array]]:
    network = Network("n", tuple(NETWORKS["a head"]))
    return describe(network), {name: blocks.whole() for name, blocks in tensors_of(network).items()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda _, tensors: ("{}", tensors), "cannot be read"),
        (lambda _, tensors: ("[" * 100_000, tensors), "cannot be read"),
        (lambda text, tensors: (text.replace('"version":1', '"version":9'), tensors), "another version"),
        (lambda text, tensors: (text, {**tensors, "more": np.ones(2)}), "'more' is new"),
        (lambda text, tensors: (text, {k: v for k, v in tensors.items() if k != "head.bias"}), "cannot be read"),
        (lambda text, tensors: (text, {**tensors, "a.weight_ih_l0": np.ones((20, 7))}), "another shape"),
        (lambda text, tensors: (text, {**tensors, "a.weight_ih_l0": np.ones((19, 6))}), "cannot be read"),
        (lambda text, tensors: (text.replace('"lstm"', '"gru"'), tensors), "cannot be read|another shape|contradict"),
        (lambda text, tensors: (text.replace('"hidden_size":5', '"hidden_size":-5'), tensors), "shape|contradict"),
    ],
)
def test_a_description_that_does_not_fit(change: Any, message: str) -> None:
    text, tensors = change(*described())
    with pytest.raises(ParityError, match=message):
        network_of(text, tensors, "a file")


def test_a_bias_that_torch_has_and_the_network_has_not_must_stay_zero() -> None:
    layer = recurrent("a", "lstm", 6, 5)
    one = replace(
        layer, weights=tuple(weights.with_held(bias_recurrent=None) for weights in layer.weights), reverse=True
    )
    network = Network("n", (one, Dense("head", np.ones((5, 2)))))
    tensors = {name: blocks.whole() for name, blocks in tensors_of(network).items()}
    (name,) = (name for name in tensors if "bias_hh" in name)
    assert not tensors[name].any()
    assert identical(network_of(describe(network), tensors, "a file"), network)
    tensors[name] = np.ones_like(tensors[name])
    with pytest.raises(FormatError, match=r"'a\.composed_bias_hh_l0' is not zero"):
        network_of(describe(network), tensors, "a file")


def test_tied_weights_stay_tied() -> None:
    layer = recurrent("a", "lstm", 6, 6)
    network = Network("n", (layer, replace(layer, name="b"), Dense("head", np.ones((6, 2)))))
    tensors = {name: blocks.whole() for name, blocks in tensors_of(network).items()}
    assert identical(network_of(describe(network), tensors, "a file"), network)
    tensors["b.weight_ih_l0"] = -tensors["b.weight_ih_l0"]
    with pytest.raises(FormatError, match=r"'b\.weight_ih_l0' is not 'a\.weight_ih_l0'"):
        network_of(describe(network), tensors, "a file")


def test_a_direction_without_bias_gets_zeros() -> None:
    both, bare = recurrent("a", "gru", 6, 5, both=True), recurrent("a", "gru", 6, 5, both=True, bias=False)
    mixed = Recurrent("a", both.spec, (both.weights[0], bare.weights[1]))
    arrays = state_dict_from_network(Network("n", (mixed,)))
    assert not arrays["bias_ih_l0_reverse"].any()
    assert arrays["bias_ih_l0"].any()
    torch.nn.GRU(6, 5, bidirectional=True).load_state_dict({k: torch.from_numpy(v) for k, v in arrays.items()})


# ---- any file


@pytest.fixture(scope="module")
def samples(keras_path: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("samples")
    network = Network("n", (recurrent("lstm", "lstm", 6, 5, both=True),))
    for suffix in (".pt", ".safetensors"):
        write_file(network, folder / f"n{suffix}")
    torch.save(torch.nn.LSTM(3, 2).state_dict(), folder / "torch.pt")
    return {
        "keras": keras_path.read_bytes(),
        **{path.name: path.read_bytes() for path in sorted(folder.iterdir())},
    }


@pytest.mark.parametrize(
    ("name", "suffix"), [("keras", ".keras"), ("n.pt", ".pt"), ("torch.pt", ".pth"), ("n.safetensors", ".safetensors")]
)
def test_truncated_files(samples: dict[str, bytes], name: str, suffix: str, tmp_path: Path) -> None:
    content, path = samples[name], tmp_path / f"cut{suffix}"
    ends = sorted({*range(1, 40), *range(len(content) - 60, len(content)), *range(1, len(content), len(content) // 40)})
    for end in ends:
        path.write_bytes(content[:end])
        with pytest.raises(FormatError) as caught:
            read_file(path)
        assert caught.value.problems[0].where.endswith(str(path))
        assert caught.value.problems[0].remedy


@pytest.mark.parametrize(("name", "suffix"), [("keras", ".keras"), ("n.pt", ".pt"), ("n.safetensors", ".safetensors")])
def test_damaged_files_raise_only_errors_of_parity(
    samples: dict[str, bytes], name: str, suffix: str, tmp_path: Path
) -> None:
    rng, path = np.random.default_rng(1), tmp_path / f"damaged{suffix}"
    for _ in range(150):
        content = bytearray(samples[name])
        for position in rng.integers(0, len(content), 3):
            content[position] = int(rng.integers(0, 256))
        path.write_bytes(content)
        with contextlib.suppress(ParityError):
            read_file(path)


@pytest.mark.parametrize("suffix", [s for s in SUFFIXES if s != ".onnx"])
@pytest.mark.parametrize(
    "content", [b"garbage", bytes(5000), b"PK\x03\x04" + bytes(90), b"\x89HDF\r\n\x1a\n" + bytes(90)]
)
def test_garbage(suffix: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"garbage{suffix}"
    path.write_bytes(content)
    with pytest.raises(FormatError, match="garbage") as caught:
        read_file(path)
    assert str(path) in caught.value.problems[0].where


def test_one_format_under_the_suffix_of_another(samples: dict[str, bytes], tmp_path: Path) -> None:
    for name, suffix, message in [
        ("keras", ".pt", r"got:      a \.keras file(.|\n)*name it \.keras"),
        ("n.pt", ".keras", r"a file of torch(.|\n)*name it \.pt"),
        ("n.safetensors", ".keras", r"a safetensors file(.|\n)*name it \.safetensors"),
        ("keras", ".safetensors", r"a \.keras file(.|\n)*name it \.keras"),
    ]:
        path = tmp_path / f"wrong{suffix}"
        path.write_bytes(samples[name])
        with pytest.raises(FormatError, match=message):
            read_file(path)


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    cases: list[tuple[Path, type[ParityError], str]] = [
        (tmp_path / "none.keras", ParityError, "no such file"),
        (tmp_path, ParityError, "a folder, not a file"),
        (tmp_path / "a\0b.pt", ParityError, "cannot be read|no such file"),
        (tmp_path / ("x" * 400 + ".pt"), ParityError, "cannot be read|no such file"),
    ]
    (tmp_path / "empty.pt").touch()
    cases.append((tmp_path / "empty.pt", FormatError, "the file is empty"))
    (tmp_path / "model.txt").write_bytes(b"x")
    cases.append((tmp_path / "model.txt", UnsupportedError, r"\.keras, .*\.pt, \.pth, .*\.safetensors, .*\.onnx"))
    (tmp_path / "model").write_bytes(b"x")
    cases.append((tmp_path / "model", UnsupportedError, "no suffix"))
    for path, error, message in cases:
        with pytest.raises(error, match=message):
            read_file(path)


def stack() -> Network:
    return Network("gru", (recurrent("gru", "gru", 6, 5),))


def test_targets_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "folder.pt").mkdir()
    for path, error, message in [
        (tmp_path / "nowhere" / "a.pt", ParityError, "no such folder"),
        (tmp_path / "folder.pt", ParityError, "a folder, not a file"),
        (tmp_path / "a.txt", UnsupportedError, r"\.safetensors"),
    ]:
        with pytest.raises(error, match=message):
            write_file(stack(), path)
    assert [path.name for path in tmp_path.iterdir()] == ["folder.pt"]


def test_an_existing_file_is_kept_unless_asked(tmp_path: Path) -> None:
    path = tmp_path / "a.PT"
    path.write_bytes(b"mine")
    with pytest.raises(ParityError, match=r"--overwrite .* or another name"):
        write_file(stack(), path)
    assert path.read_bytes() == b"mine"
    write_file(stack(), path, overwrite=True)
    assert read_file(path).specs == stack().specs
    assert [item.name for item in tmp_path.iterdir()] == ["a.PT"]


def test_a_dangling_link_is_an_existing_file(tmp_path: Path) -> None:
    path = tmp_path / "link.pt"
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ParityError, match="there already"):
        write_file(stack(), path)


def test_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.keras"
    path.write_bytes(b"mine")

    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", fails)
    with pytest.raises(ParityError, match="No space left on device") as caught:
        write_file(stack(), path, overwrite=True)
    assert caught.value.problems[0].where == str(path)
    assert [item.name for item in tmp_path.iterdir()] == ["a.keras"]
    assert path.read_bytes() == b"mine"


def test_a_refused_check_leaves_no_file(tmp_path: Path) -> None:
    def check(network: Network, _: Path) -> None:
        assert network.specs == stack().specs
        raise ParityError("not the same")

    with pytest.raises(ParityError, match="not the same"):
        write_file(stack(), tmp_path / "a.safetensors", check=check)
    assert list(tmp_path.iterdir()) == []


def test_two_writers_cannot_both_win(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"

    def check(_: Network, __: Path) -> None:
        path.write_bytes(b"the other one was quicker")

    with pytest.raises(ParityError, match="there already"):
        write_file(stack(), path, check=check)
    assert path.read_bytes() == b"the other one was quicker"
    assert [item.name for item in tmp_path.iterdir()] == ["a.pt"]


def test_a_long_file_goes_to_the_disk_while_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    carried: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "posix_fadvise", lambda _, start, size, __: carried.append((start, size)))
    content = np.random.default_rng(3).bytes(1 << 25)
    with (tmp_path / "long").open("xb") as file, early_to_the_disk(file):
        for half in (content[: 1 << 24], content[1 << 24 :]):
            file.write(half)
            file.flush()
            wait_until(lambda: sum(size for _, size in carried) >= file.tell())
    assert (tmp_path / "long").read_bytes() == content
    assert [start for start, _ in carried] == [0, carried[0][1]]


def wait_until(done: Callable[[], bool]) -> None:
    for _ in range(500):
        if done():
            return
        time.sleep(0.02)
    raise AssertionError("not in ten seconds")


@pytest.mark.parametrize("damaged", [None, 7, 10_000_000, (1 << 24) + 20])
def test_the_checksum_of_a_large_member_sees_every_byte(tmp_path: Path, damaged: int | None) -> None:
    path, content = tmp_path / "large.zip", np.random.default_rng(4).bytes((1 << 24) + 33)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("large", content)
    with Archive(path, "a zip file") as archive:
        place = archive.place("large")
    assert place is not None
    if damaged is None:
        return
    with path.open("r+b") as changed:
        changed.seek(place + damaged)
        changed.write(bytes([content[damaged] ^ 1]))
    with Archive(path, "a zip file") as archive, pytest.raises(FormatError, match="its checksum is another"):
        archive.place("large")


def test_written_files_have_ordinary_permissions(tmp_path: Path) -> None:
    write_file(stack(), tmp_path / "a.pt")
    (tmp_path / "plain").touch()
    assert (tmp_path / "a.pt").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_onnx_is_imported_only_when_asked(tmp_path: Path) -> None:
    network = Network("n", (recurrent("gru", "gru", 6, 5),), (Output("gru", "gru"),))
    write_file(network, tmp_path / "n.onnx")
    assert read_file(tmp_path / "n.onnx").specs["gru"].hidden_size == 5


def test_no_framework_is_imported(keras_path: Path, tmp_path: Path) -> None:
    write_file(stack(), tmp_path / "a.safetensors")
    write_file(stack(), tmp_path / "a.pt")
    code = (
        "import sys; from pathlib import Path; from parity.files import read_file, write_file\n"
        "for path in map(Path, sys.argv[1:-1]):\n"
        "    write_file(read_file(path), Path(sys.argv[-1]) / f'{path.stem}.keras', True)\n"
        "print([m for m in 'keras tensorflow torch onnx onnxruntime'.split() if m in sys.modules])"
    )
    paths = [keras_path, tmp_path / "a.safetensors", tmp_path / "a.pt", tmp_path]
    done = subprocess.run([sys.executable, "-c", code, *map(str, paths)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
