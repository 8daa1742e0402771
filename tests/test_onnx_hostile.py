"""ONNX files whose weights stand in other files, that are damaged, or that mean harm: words and no harm."""

from __future__ import annotations

import contextlib
import os
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import parity
from parity.deferred import LARGE_BYTES, Deferred
from parity.files.stored import Raw
from parity.frameworks import onnx as onnx_framework
from parity.frameworks.onnx.tensors import open_model
from tests.test_onnx_files import (
    BATCH,
    FEATURES,
    FLOAT,
    TIME,
    UNITS,
    Info,
    X,
    assert_layer,
    branches_model,
    function_model,
    loop_model,
    lstm,
    model_of,
    ran,
    random,
    same_weights,
    saved,
    tensor,
    weights_of,
)


def wide(units: int, features: int = FEATURES) -> dict[str, Any]:
    shapes = {"W": (1, 4 * units, features), "R": (1, 4 * units, units), "B": (1, 8 * units)}
    return {name: random(*shape) / units for name, shape in shapes.items()}


def outside(folder: Path, chain: bool = True, units: int = UNITS) -> Path:
    """A model saved by onnx with its weights in a file beside it, every one from a page of its own on."""
    node = helper.make_node("LSTM", ["X", "W", "R", "B"], ["Y"], name="lstm", hidden_size=units)
    after = [] if chain else [helper.make_node("Neg", ["Y"], ["Z"])]
    model = model_of([node, *after], [X], ["Y" if chain else "Z"], wide(units))
    path = folder / "model.onnx"
    onnx.save(model, str(path), save_as_external_data=True, location="model.onnx.data", size_threshold=0)
    return path


# ---- weights in other files


@pytest.mark.parametrize("chain", [True, False])
def test_weights_beside_the_model(chain: bool, tmp_path: Path) -> None:
    path = outside(tmp_path, chain)
    network = parity.read(path)
    assert bool(network.problems) != chain
    x = random(TIME, BATCH, FEATURES)
    assert_layer(network.recurrent[0], x, ran(path, X=x)[0][:, 0] * (1 if chain else -1))
    loaded = onnx_framework.load(path)
    np.testing.assert_array_equal(ran(loaded, X=x)[0], ran(path, X=x)[0])
    if chain:
        assert parity.compare(path, engines=["onnxruntime", "torch"]).ok


def test_large_weights_stay_in_their_file(tmp_path: Path) -> None:
    units = 600
    path = outside(tmp_path, units=units)
    weights = parity.read(path).recurrent[0].weights[0]
    assert isinstance(weights.held("recurrent"), Deferred)
    plain = parity.read(onnx.load(str(path))).recurrent[0]
    assert same_weights(parity.read(path).recurrent[0], plain)
    inside = parity.read(saved(onnx.load(str(path)), tmp_path)).recurrent[0]
    assert isinstance(inside.weights[0].held("recurrent"), Deferred)
    assert same_weights(inside, plain)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_memory_while_reading(bidirectional: bool, tmp_path: Path) -> None:
    """Reading takes no more than one large tensor and a little, however many there are."""
    d, count, units = 1 + bidirectional, 4, 700
    direction = "bidirectional" if bidirectional else "forward"
    arrays: dict[str, Any] = {}
    nodes, shape = [], (d, 4 * units, units)
    for at in range(count):
        arrays |= {f"{at}W": random(d, 4 * units, FEATURES, seed=at), f"{at}R": random(*shape, seed=at) / units}
        nodes.append(
            helper.make_node(
                "LSTM", ["X", f"{at}W", f"{at}R"], [f"Y{at}"], name=f"n{at}", hidden_size=units, direction=direction
            )
        )
    path = saved(model_of(nodes, [X], [f"Y{at}" for at in range(count)], arrays), tmp_path)
    largest = arrays["0R"].nbytes
    assert largest > LARGE_BYTES
    del arrays
    parity.read(path)
    tracemalloc.start()
    network = parity.read(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(network.recurrent) == count
    assert peak < 1.5 * largest + (8 << 20) < path.stat().st_size * 0.8


def _entry(model: onnx.ModelProto, **said: str) -> None:
    entries = model.graph.initializer[1].external_data
    for entry in entries:
        entry.value = said.pop(entry.key, entry.value)
    for key, value in said.items():
        entries.add(key=key, value=value)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"location": "/etc/passwd"}, "outside the model's folder"),
        ({"location": "../secret"}, "outside the model's folder"),
        ({"location": "inner/../../secret"}, "outside the model's folder"),
        ({"location": "inner\\..\\..\\secret"}, "outside the model's folder"),
        ({"location": "C:\\secret"}, "outside the model's folder"),
        ({"location": "\\\\host\\secret"}, "outside the model's folder"),
        ({"location": ""}, "outside the model's folder"),
        ({"location": "."}, "outside the model's folder"),
        ({"location": "a\0b"}, "outside the model's folder"),
        ({"location": "nowhere"}, "is missing"),
        ({"location": "x" * 5000}, "is missing"),
        ({"location": "link"}, "link leads out"),
        ({"location": "linked/secret"}, "link leads out"),
        ({"location": "round"}, "is missing"),
        ({"location": "inner"}, "no file"),
        ({"location": "pipe"}, "no file"),
        ({"location": "short"}, "do not fit the file"),
        ({"offset": "-1"}, "do not fit the file"),
        ({"offset": str(1 << 70)}, "do not fit the file"),
        ({"offset": "many"}, "do not fit the file"),
        ({"length": "3"}, "do not fit the file"),
        ({"length": "-5"}, "do not fit the file"),
        ({"length": "9" * 5000}, "do not fit the file"),
    ],
)
def test_weights_elsewhere(said: dict[str, str], message: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "inner").mkdir(parents=True)
    path = outside(folder)
    (tmp_path / "secret").write_bytes(b"s" * (1 << 16))
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "linked").symlink_to(tmp_path)
    (folder / "round").symlink_to(folder / "round")
    (folder / "short").write_bytes(b"s")
    os.mkfifo(folder / "pipe")
    model = onnx.load(str(path), load_external_data=False)
    _entry(model, **said)
    saved(model, folder)
    for use in (parity.read, onnx_framework.load):
        with pytest.raises(parity.FormatError, match=message) as caught:
            use(path)
        assert "tensor 'R'" in str(caught.value)
        assert caught.value.problems[0].remedy


def test_a_link_inside_the_folder_is_followed(tmp_path: Path) -> None:
    path = outside(tmp_path)
    (tmp_path / "model.onnx.data").rename(tmp_path / "data")
    (tmp_path / "model.onnx.data").symlink_to("data")
    assert parity.read(path).recurrent


def test_sizes_that_the_file_beside_does_not_have(tmp_path: Path) -> None:
    path = outside(tmp_path)
    for dims in ([1 << 40, 1 << 40], [-1, 20, 5], [1, 20, -5], [1, 20, 6]):
        model = onnx.load(str(path), load_external_data=False)
        model.graph.initializer[1].dims[:] = dims
        saved(model, tmp_path)
        with pytest.raises(parity.FormatError, match="do not fit"):
            parity.read(path)


# ---- damage


def _real() -> list[onnx.ModelProto]:
    arrays = wide(40)
    deep = model_of(
        [helper.make_node("LSTM", ["X", "W", "R", "B"], ["Y"], name="lstm", hidden_size=40), helper.make_node("Neg", ["Y"], ["Z"])],
        [X], ["Z"], arrays,
    )  # fmt: skip
    return [deep, loop_model(), branches_model(1)[0], function_model(3)]


@pytest.mark.parametrize("number", range(4))
def test_truncation(number: int, tmp_path: Path) -> None:
    """At every kilobyte, and at every byte of the last one and of a small file's start."""
    model = _real()[number]
    content, graph = model.SerializeToString(), model.graph.SerializeToString()
    behind = content.index(graph) + len(graph)
    path = tmp_path / "model.onnx"
    for end in {*range(0, len(content), 1024), *range(1, 200), *range(len(content) - 200, len(content))}:
        path.write_bytes(content[:end])
        # What stands behind the graph, such as its functions, may be missing from a file that is a model still.
        if end < behind:
            with pytest.raises(parity.ParityError):
                parity.read(path)
        else:
            with contextlib.suppress(parity.ParityError):
                parity.read(path)


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("seed", range(3))
def test_flips(number: int, seed: int, tmp_path: Path) -> None:
    """Nothing but our own errors, most of the flips in what is not weights."""
    content = bytearray(_real()[number].SerializeToString())
    generator = np.random.default_rng([number, seed])
    graph = [at for at in range(len(content)) if 32 <= content[at] < 127 or content[at] < 16]
    path = tmp_path / "model.onnx"
    refused = 0
    for _ in range(150):
        damaged = bytearray(content)
        for at in generator.choice(graph, generator.integers(1, 4)):
            damaged[at] ^= 1 << int(generator.integers(8))
        path.write_bytes(damaged)
        start = time.perf_counter()
        try:
            network = parity.read(path)
            for layer in network.recurrent:
                assert layer.arrays
        except parity.ParityError:
            refused += 1
        assert time.perf_counter() - start < 5
    assert refused


# ---- harm


def _sizes(*dims: int) -> Callable[[onnx.ModelProto], None]:
    def damage(model: onnx.ModelProto) -> None:
        del model.graph.initializer[0].dims[:]
        model.graph.initializer[0].dims.extend(dims)

    return damage


def _twice(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(model.graph.initializer[0])


def _unknown_type(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].data_type = 77


def _other_hidden_size(model: onnx.ModelProto) -> None:
    next(a for a in model.graph.node[0].attribute if a.name == "hidden_size").i = 6


def _other_gates(model: onnx.ModelProto) -> None:
    model.graph.node[0].op_type = "GRU"


def _two_directions(model: onnx.ModelProto) -> None:
    model.graph.node[0].attribute.append(helper.make_attribute("direction", "bidirectional"))


def _cycle(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = model.graph.node[1].output[0]


@pytest.mark.parametrize("units", [UNITS, 40])
@pytest.mark.parametrize(
    "damage",
    [
        _sizes(1 << 40, 1 << 40, 3), _sizes(-1, 20, 3), _sizes(1, 20, 1 << 33), _sizes(0, 1 << 62), _sizes(1, 20), _twice,
        _unknown_type, _other_hidden_size, _other_gates, _two_directions, _cycle,
    ],
)  # fmt: skip
def test_models_that_contradict_themselves(
    units: int, damage: Callable[[onnx.ModelProto], None], tmp_path: Path
) -> None:
    node = helper.make_node("LSTM", ["X", "W", "R", "B"], ["Y"], name="lstm", hidden_size=units)
    model = model_of([node, helper.make_node("Neg", ["Y"], ["Z"])], [X], ["Z"], wide(units))
    damage(model)
    path = saved(model, tmp_path)
    tracemalloc.start()
    with pytest.raises(parity.FormatError) as caught:
        parity.read(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * path.stat().st_size + (1 << 20)
    assert all(problem.what and problem.where for problem in caught.value.problems)


def _nested(depth: int) -> onnx.ModelProto:
    graph = helper.make_graph([helper.make_node("Identity", ["X"], ["Y0"])], "g", [], [Info("Y0", FLOAT, None)])
    for at in range(1, depth):
        node = helper.make_node("If", ["flag"], [f"Y{at}"], then_branch=graph, else_branch=graph)
        # The same graph in both branches doubles the file at every level: only the first is kept deep.
        node.attribute[0].g.CopyFrom(
            helper.make_graph([helper.make_node("Identity", ["X"], ["Z"])], "e", [], [Info("Z", FLOAT, None)])
        )
        graph = helper.make_graph([node], "g", [], [Info(f"Y{at}", FLOAT, None)])
    return model_of(graph.node, [X, Info("flag", TensorProto.BOOL, [])], [f"Y{depth - 1}"], {})


def test_deep_nesting(tmp_path: Path) -> None:
    """As deep as protobuf reads it is read, deeper it is refused."""
    assert parity.read(saved(_nested(20), tmp_path)).problems
    content = b""
    for _ in range(3000):  # graph { node { attribute { g
        for field in (6, 5, 1):
            content = bytes([field << 3 | 2]) + _varint(len(content)) + content
    path = tmp_path / "deep.onnx"
    path.write_bytes(bytes([7 << 3 | 2]) + _varint(len(content)) + content)
    with pytest.raises(parity.FormatError, match="deep"):
        parity.read(path)


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])


def test_a_file_of_nothing_but_nodes(tmp_path: Path) -> None:
    """Empty nodes take two bytes in the file and a hundred times as much in memory."""
    content = bytes([1 << 3 | 2, 0]) * 4_000_000
    path = tmp_path / "nodes.onnx"
    path.write_bytes(bytes([7 << 3 | 2]) + _varint(len(content)) + content)
    with pytest.raises(parity.FormatError, match="more nodes"):
        parity.read(path)


def test_functions_that_call_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = function_model(3)
    model.functions[0].node[0].CopyFrom(model.functions[2].node[0])
    path = saved(model, tmp_path)
    with pytest.raises(parity.FormatError):
        parity.read(path)
    # onnx.checker refuses it first: without the checker, too, it is refused.
    monkeypatch.setattr(onnx.checker, "check_model", lambda _: None)
    with pytest.raises(parity.FormatError, match=r"calls itself[^$]*Encoder2 -> Encoder1 -> Encoder0"):
        parity.read(path)


def test_functions_that_multiply(tmp_path: Path) -> None:
    """Twenty functions, each calling the next twice: a million calls in a small file."""
    model = function_model(20)
    for function in model.functions[1:]:
        function.node.append(function.node[0])
        function.node[1].output[0] = "unused"
    start = time.perf_counter()
    with pytest.raises(parity.FormatError, match="more often than a real model"):
        parity.read(saved(model, tmp_path))
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize("again", ["Concat", "Slice"])
def test_constants_that_grow(again: str, tmp_path: Path) -> None:
    """A constant joined to itself sixty times, or moved along a thousand paths, is never computed."""
    nodes, last = [], "W"
    for at in range(60):
        if again == "Concat":
            nodes.append(helper.make_node("Concat", [last, last], [f"c{at}"], axis=1))
        else:
            nodes += [
                helper.make_node("Slice", [last, "none", "half", "one"], [f"a{at}"]),
                helper.make_node("Slice", [last, "half", "all", "one"], [f"b{at}"]),
                helper.make_node("Concat", [f"a{at}", f"b{at}"], [f"c{at}"], axis=1),
            ]
        last = f"c{at}"
    whole = {"none": [0], "half": [10], "all": [20], "one": [1]}
    arrays = weights_of() | {name: np.array(value, np.int64) for name, value in whole.items()}
    node = helper.make_node("LSTM", ["X", last, "R", "B"], ["Y"], name="lstm", hidden_size=UNITS)
    path = saved(model_of([*nodes, node], [X], ["Y"], arrays), tmp_path)
    tracemalloc.start()
    start = time.perf_counter()
    network = parity.read(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert not network.recurrent
    assert any("W is not a constant" in problem.what for problem in network.problems)
    assert time.perf_counter() - start < 5
    assert peak < 4 << 20


def test_no_file_forges_a_place(tmp_path: Path) -> None:
    """A note of a place is believed only from the reading that wrote it: it holds random bytes."""
    model = model_of([lstm()], [X], ["Y"], weights_of())
    _, tensors = open_model(saved(model, tmp_path))
    _, again = open_model(saved(model, tmp_path))
    large, first = open_model(saved(model_of([lstm()], [X], ["Y"], {**weights_of(), "x": random(2000)}), tmp_path))
    noted = next(one for one in large.graph.initializer if one.name == "x")
    assert isinstance(first.stored(noted), Raw)
    assert first.place(noted) is not None
    assert tensors.place(noted) is None
    assert again.place(noted) is None


def test_text_that_is_no_text(tmp_path: Path) -> None:
    content = model_of([lstm()], [X], ["Y"], weights_of(), producer_name="producer").SerializeToString()
    path = tmp_path / "model.onnx"
    path.write_bytes(content.replace(b"producer", b"prod\xffcer"))
    with pytest.raises(parity.FormatError, match="not UTF-8"):
        parity.read(path)


def test_tensors_of_every_type_are_listed(tmp_path: Path) -> None:
    """Weights in types that recurrent layers are not read in stand in the list of tensors, and none is read for it."""
    names = [name for name in dict(TensorProto.DataType.items()) if name not in ("UNDEFINED", "STRING")]
    model = model_of([lstm(), helper.make_node("Neg", ["Y"], ["Z"])], [X], ["Z"], weights_of())
    for name in names:
        dtype = helper.tensor_dtype_to_np_dtype(getattr(TensorProto, name))
        for size in (8, 20_000):
            one = tensor(f"{name}{size}", np.zeros((size, 2), dtype))
            model.graph.initializer.append(one)
    model.graph.initializer.append(
        TensorProto(name="STRING", data_type=TensorProto.STRING, dims=[2], string_data=[b"a", b"b"])
    )
    network = parity.read(saved(model, tmp_path))
    listed = {name: shape for one in network.opaque for name, shape in one.shapes.items()}
    for name in names:
        if name.startswith(("FLOAT", "BFLOAT", "DOUBLE")):
            assert listed[f"{name}8"] == (8, 2), name
            assert listed[f"{name}20000"] == (20_000, 2)
    for group in network.opaque:
        for stored in group.tensors.values():
            assert np.asarray(stored[()]).shape == tuple(stored.shape)
