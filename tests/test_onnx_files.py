"""ONNX files as people have them: recurrent nodes anywhere in the graph, weights in any form.

The files are made with `onnx.helper`, as exporters make them, and by torch's exporter; the judges are ONNX Runtime and onnx.reference.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import parity
from parity.files.stored import numbers
from parity.frameworks import onnx as onnx_framework
from parity.layouts import GATES
from parity.network import Recurrent
from tests.whole_checks import assert_whole

torch.set_num_threads(1)

MODELS = Path(__file__).parents[2] / "shared" / "models"
FEATURES, UNITS, BATCH, TIME = 3, 5, 2, 4
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
Info = helper.make_tensor_value_info


def random(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng([seed, *shape]).uniform(-0.8, 0.8, shape).astype(np.float32)


def shapes_of(kind: str, directions: int = 1, features: int = FEATURES) -> dict[str, tuple[int, ...]]:
    gates = len(GATES[kind])  # type: ignore[index]
    return {
        "W": (directions, gates * UNITS, features),
        "R": (directions, gates * UNITS, UNITS),
        "B": (directions, 2 * gates * UNITS),
    }


def weights_of(kind: str = "lstm", seed: int = 0, **more: int) -> dict[str, Any]:
    return {name: random(*shape, seed=seed) for name, shape in shapes_of(kind, **more).items()}


def tensor(name: str, array: Any) -> TensorProto:
    return numpy_helper.from_array(np.asarray(array), name)


def initializers(arrays: dict[str, Any], prefix: str = "") -> list[TensorProto]:
    return [tensor(prefix + name, array) for name, array in arrays.items()]


def lstm(
    x: str = "X", outputs: Sequence[str] = ("Y",), name: str = "lstm", states: Sequence[str] = (), **more: Any
) -> Any:
    prefix = more.pop("prefix", "")
    inputs = [x, *(prefix + key for key in "WRB"), *(["", *states] if states else [])]
    return helper.make_node(more.pop("op", "LSTM"), inputs, list(outputs), name=name, hidden_size=UNITS, **more)


def model_of(
    nodes: Sequence[Any], given: Sequence[Any], outputs: Sequence[str], arrays: dict[str, Any], **more: Any
) -> onnx.ModelProto:
    shown = [Info(name, FLOAT, None) for name in outputs]
    graph = helper.make_graph(list(nodes), "main", list(given), shown, initializers(arrays))
    opsets = [helper.make_opsetid("", more.pop("opset", 17)), *more.pop("opsets", [])]
    model: onnx.ModelProto = helper.make_model(
        graph, opset_imports=opsets, ir_version=more.pop("ir_version", 8), **more
    )
    return model


X = Info("X", FLOAT, [None, None, FEATURES])


def saved(model: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def ran(model: onnx.ModelProto | Path, **feeds: Any) -> list[Any]:
    """What ONNX Runtime itself gives."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    content = str(model) if isinstance(model, Path) else model.SerializeToString()
    return list(onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"]).run(None, feeds))


def assert_layer(layer: Recurrent, x: Any, y: Any, engine: str = "reference") -> None:
    """A layer alone gives what its node gave: x (time, batch, features), y (time, batch, units) of one direction."""
    found = parity.run(layer, x.swapaxes(0, 1), engine=engine)
    assert np.abs(y).max() > 0.01
    assert np.abs(found.sequence.swapaxes(0, 1) - y).max() < 2e-6


def same_weights(one: Recurrent, other: Recurrent) -> bool:
    return all(
        np.array_equal(np.asarray(mine.member(name)), np.asarray(theirs.member(name)))
        for mine, theirs in zip(one.weights, other.weights, strict=True)
        for name in ("kernel", "recurrent", "bias_input", "bias_recurrent")
    )


# ---- places


def branches_model(seed_else: int) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """An If with an LSTM in each branch, the weights of both outside."""
    arrays = weights_of() | {f"else.{name}": array for name, array in weights_of(seed=seed_else).items()}

    def branch(prefix: str) -> Any:
        return helper.make_graph(
            [lstm(prefix=prefix, outputs=[f"{prefix}Y"], name="")], "body", [], [Info(f"{prefix}Y", FLOAT, None)]
        )

    choice = helper.make_node("If", ["flag"], ["Y"], then_branch=branch(""), else_branch=branch("else."))
    return model_of([choice], [X, Info("flag", TensorProto.BOOL, [])], ["Y"], arrays), arrays


@pytest.mark.parametrize("seed", [0, 1])
def test_branches_of_an_if(seed: int, tmp_path: Path) -> None:
    """Copies of one layer are one layer, and said to be two; others are two."""
    model, _ = branches_model(seed)
    network = parity.read(saved(model, tmp_path))
    assert [layer.name for layer in network.recurrent] == ["If_0/then/lstm", "If_0/else/lstm"][: 1 + seed]
    x = random(TIME, BATCH, FEATURES)
    for flag, layer in zip([True, False], [network.recurrent[0], network.recurrent[-1]], strict=True):
        assert_layer(layer, x, ran(model, X=x, flag=np.array(flag))[0][:, 0])
    assert ("2 copies of the same weights" in network.details["layer If_0/then/lstm"]) == (seed == 0)
    with pytest.raises(parity.UnsupportedError, match=r"not one data input[^$]*--to torch"):
        network.whole()
    assert_whole(saved(model, tmp_path), "not one data input")
    for flag in (True, False):
        feeds = {"X": x, "flag": np.array(flag)}
        (found,) = parity.run(network, feeds, engine="reference").outputs.values()
        assert np.abs(found - ran(model, **feeds)[0]).max() < 2e-6


def loop_model() -> onnx.ModelProto:
    """One step of an LSTM in the body of a Loop, its states carried, as tf2onnx writes Keras layers that it does not fuse."""
    zero = np.array([0], np.int64)
    arrays = {
        **weights_of(),
        "zero": zero,
        "01": np.array([0, 1], np.int64),
        "start": np.zeros((1, BATCH, UNITS), np.float32),
    }
    nodes = [
        helper.make_node("Gather", ["X", "i"], ["x"], axis=0),
        helper.make_node("Unsqueeze", ["x", "zero"], ["step"]),
        lstm("step", ["y4", "h.next", "c.next"], "cell", ["h", "c"]),
        helper.make_node("Squeeze", ["y4", "01"], ["y"]),
        helper.make_node("Identity", ["on"], ["on.next"]),
    ]
    given = [Info("i", INT64, []), Info("on", TensorProto.BOOL, []), Info("h", FLOAT, None), Info("c", FLOAT, None)]
    shown = [Info("on.next", TensorProto.BOOL, []), *(Info(name, FLOAT, None) for name in ("h.next", "c.next", "y"))]
    body = helper.make_graph(nodes, "body", given, shown)
    around = [
        helper.make_node("Shape", ["X"], ["sizes"]),
        helper.make_node("Gather", ["sizes", "zero"], ["count"]),
        helper.make_node("Loop", ["count", "", "start", "start"], ["h.last", "c.last", "Y"], name="while", body=body),
    ]
    return model_of(around, [X], ["Y"], arrays)


def scan_model() -> onnx.ModelProto:
    arrays = {**weights_of(), "zero": np.array([0], np.int64), "01": np.array([0, 1], np.int64)}
    arrays["start"] = np.zeros((1, BATCH, UNITS), np.float32)
    nodes = [
        helper.make_node("Unsqueeze", ["x", "zero"], ["step"]),
        lstm("step", ["y4", "h.next", "c.next"], "cell", ["h", "c"]),
        helper.make_node("Squeeze", ["y4", "01"], ["y"]),
    ]
    given = [Info(name, FLOAT, None) for name in ("h", "c", "x")]
    body = helper.make_graph(nodes, "body", given, [Info(name, FLOAT, None) for name in ("h.next", "c.next", "y")])
    scan = helper.make_node("Scan", ["start", "start", "X"], ["h", "c", "Y"], name="scan", body=body, num_scan_inputs=1)
    return model_of([scan], [X], ["Y"], arrays)


@pytest.mark.parametrize(("make", "around"), [(loop_model, "Loop 'while', body"), (scan_model, "Scan 'scan', body")])
def test_bodies_of_loops(make: Callable[[], onnx.ModelProto], around: str, tmp_path: Path) -> None:
    model = make()
    network = parity.read(saved(model, tmp_path))
    (layer,) = network.recurrent
    assert layer.name == "cell"
    assert around in network.details["layer cell"]
    assert "initial_h 'h', initial_c 'c'" in network.details["layer cell"]
    x = random(TIME, BATCH, FEATURES)
    for engine in ("reference", "torch", "onnxruntime"):
        assert_layer(layer, x, ran(model, X=x)[-1], engine)


def test_a_body_hides_names_of_the_graph_around_it(tmp_path: Path) -> None:
    """What a body takes as W is no constant, whatever the graph around it calls W."""
    model = loop_model()
    body = next(a.g for a in model.graph.node[-1].attribute if a.name == "body")
    body.input[2].name = body.node[2].input[5] = "W"
    network = parity.read(saved(model, tmp_path))
    assert not network.recurrent
    assert any("W is not a constant" in problem.what for problem in network.problems)
    assert [one.class_name for one in network.opaque if one.name == "cell"] == ["LSTM"]


def test_if_in_a_loop_in_an_if(tmp_path: Path) -> None:
    model, loop = loop_model(), loop_model().graph.node[-1]
    inner = helper.make_graph([loop], "inner", [], [Info("Y", FLOAT, None)])
    other = helper.make_graph([helper.make_node("Identity", ["X"], ["Y"])], "other", [], [Info("Y", FLOAT, None)])
    choice = helper.make_node("If", ["flag"], ["Z"], name="gate", then_branch=inner, else_branch=other)
    del model.graph.node[-1]
    model.graph.node.append(choice)
    model.graph.input.append(Info("flag", TensorProto.BOOL, []))
    model.graph.output[0].name = "Z"
    network = parity.read(saved(model, tmp_path))
    assert "in If 'gate', then, Loop 'while', body" in network.details["layer cell"]
    x = random(TIME, BATCH, FEATURES)
    assert_layer(network.recurrent[0], x, ran(model, X=x, flag=np.array(True))[0])


def function_model(depth: int = 1) -> onnx.ModelProto:
    """Two calls of a function that holds an LSTM: one set of weights is handed over, the direction as an attribute."""
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    node = helper.make_node("LSTM", ["x", "w", "r", "b"], ["y"], name="cell", hidden_size=UNITS)
    node.attribute.append(onnx.AttributeProto(name="direction", ref_attr_name="way", type=onnx.AttributeProto.STRING))
    functions = [helper.make_function("local", "Encoder0", ["x", "w", "r", "b"], ["y"], [node], opsets, ["way"])]
    for level in range(1, depth):
        call = helper.make_node(
            f"Encoder{level - 1}", ["x", "w", "r", "b"], ["y"], name=f"inner{level}", domain="local"
        )
        call.attribute.append(onnx.AttributeProto(name="way", ref_attr_name="way", type=onnx.AttributeProto.STRING))
        functions.append(
            helper.make_function("local", f"Encoder{level}", ["x", "w", "r", "b"], ["y"], [call], opsets, ["way"])
        )
    arrays = weights_of() | {f"2{name}": array for name, array in weights_of(seed=2).items()}
    calls = [
        helper.make_node(
            f"Encoder{depth - 1}",
            ["X", *(prefix + key for key in "WRB")],
            [f"Y{number}"],
            name=f"encoder{number}",
            domain="local",
            way=way,
        )
        for number, (prefix, way) in enumerate([("", "forward"), ("2", "reverse")])
    ]
    return model_of(calls, [X], ["Y0", "Y1"], arrays, opsets=[opsets[1]], functions=functions)


@pytest.mark.parametrize("depth", [1, 3])
def test_functions_of_the_model(depth: int, tmp_path: Path) -> None:
    model = function_model(depth)
    network = parity.read(saved(model, tmp_path))
    inner = "".join(f"inner{level}/" for level in range(depth - 1, 0, -1))
    assert [layer.name for layer in network.recurrent] == [f"encoder{number}/{inner}cell" for number in (0, 1)]
    assert [layer.spec.directions for layer in network.recurrent] == [("forward",), ("backward",)]
    x = random(TIME, BATCH, FEATURES)
    for layer, y in zip(network.recurrent, ran(model, X=x), strict=True):
        assert_layer(layer, x, y[:, 0])


def test_options_of_a_node_among_others_are_kept(tmp_path: Path) -> None:
    names = ["HardSigmoid", "Softsign", "Tanh"]
    node = lstm(activations=names, activation_alpha=[0.3], activation_beta=[0.4], clip=0.5, input_forget=1)
    gru = lstm("X", ["Z"], "gru", op="GRU", prefix="gru.", linear_before_reset=0)
    arrays = weights_of() | {f"gru.{key}": array for key, array in weights_of("gru").items()}
    model = model_of([node, gru, helper.make_node("Neg", ["Y"], ["N"], name="neg")], [X], ["N", "Z"], arrays)
    network = parity.read(saved(model, tmp_path))
    x = random(TIME, BATCH, FEATURES)
    negative, z = ran(model, X=x)
    one, two = network.recurrent
    assert one.cells[0].clip == 0.5
    assert not two.cells[0].reset_after
    assert_layer(one, x, -negative[:, 0])
    assert_layer(two, x, z[:, 0])
    assert any("operators that are not converted" in p.what and "Neg" in p.got for p in network.problems)


def test_what_cannot_be_read_is_listed_beside_what_can(tmp_path: Path) -> None:
    arrays = (
        weights_of()
        | {f"b.{key}": array for key, array in weights_of(seed=3).items()}
        | {"filters": random(4, FEATURES, 2)}
    )
    odd = lstm("X", ["Z"], "odd", prefix="b.", activations=["Swish", "Tanh", "Tanh"])
    computed = helper.make_node("LSTM", ["X", "W2", "b.R", "b.B"], ["V"], name="computed", hidden_size=UNITS)
    nodes = [
        helper.make_node("Exp", ["b.W"], ["W2"]),
        helper.make_node("Conv", ["X", "filters"], ["C"], name="conv", kernel_shape=[2]),
        lstm(), odd, computed,
        helper.make_node("Exp", ["Y"], ["E"]),
    ]  # fmt: skip
    network = parity.read(saved(model_of(nodes, [X], ["E", "Z", "V", "C"], arrays), tmp_path))
    assert [layer.name for layer in network.recurrent] == ["lstm"]
    listed = {one.name: one for one in network.opaque}
    assert listed["conv"].class_name == "Conv"
    assert listed["conv"].shapes == {"filters": (4, FEATURES, 2)}
    assert listed["conv"].facts == {"kernel_shape": [2]}
    assert (listed["conv"].place, listed["odd"].place) == (0, 1)
    assert listed["odd"].class_name == "LSTM"
    assert set(listed["computed"].shapes) == {"b.R", "b.B"}
    assert listed["other nodes"].facts == {"Exp": 2}
    np.testing.assert_array_equal(numbers(listed["conv"].tensors["filters"]), arrays["filters"])
    said = "\n".join(map(str, network.problems))
    assert "Swish" in said
    assert "W is not a constant" in said


# ---- weights in every form


def _transposed(w: Any) -> tuple[list[Any], dict[str, Any]]:
    return [helper.make_node("Transpose", ["w"], ["W"], perm=[2, 0, 1])], {
        "w": np.ascontiguousarray(w.transpose(1, 2, 0))
    }


def _reversed_axes(w: Any) -> tuple[list[Any], dict[str, Any]]:
    return [helper.make_node("Transpose", ["w"], ["W"])], {"w": np.ascontiguousarray(w.T)}


def _unsqueezed(w: Any) -> tuple[list[Any], dict[str, Any]]:
    return [helper.make_node("Unsqueeze", ["w", "at"], ["W"])], {"w": w[0], "at": np.array([0], np.int64)}


def _squeezed(w: Any) -> tuple[list[Any], dict[str, Any]]:
    return [helper.make_node("Squeeze", ["w", "at"], ["W"])], {"w": w[:, :, None], "at": np.array([-2], np.int64)}


def _reshaped(w: Any) -> tuple[list[Any], dict[str, Any]]:
    return [helper.make_node("Reshape", ["w", "to"], ["W"])], {"w": w, "to": np.array([0, -1, w.shape[2]], np.int64)}


def _joined(w: Any) -> tuple[list[Any], dict[str, Any]]:
    """As torch exports a cell: slices of its own matrix, put together in ONNX's order."""
    order = [0, 2, 3, 1]
    parts = {
        f"{name}{at}": np.array([(at + shift) * UNITS], np.int64)
        for at in range(4)
        for name, shift in (("from", 0), ("to", 1))
    }
    nodes = [helper.make_node("Slice", ["w", f"from{at}", f"to{at}", "zero"], [f"part{at}"]) for at in range(4)]
    nodes += [
        helper.make_node("Concat", [f"part{order.index(at)}" for at in range(4)], ["joined"], axis=-2),
        helper.make_node("Unsqueeze", ["joined", "zero"], ["W"]),
    ]
    gates = w[0].reshape(4, UNITS, -1)
    return nodes, {"w": np.concatenate(gates[order]), "zero": np.array([0], np.int64), **parts}


def _split(w: Any) -> tuple[list[Any], dict[str, Any]]:
    nodes = [
        helper.make_node("Split", ["w", "sizes"], ["a", "b"], axis=1),
        helper.make_node("Concat", ["b", "a"], ["W"], axis=1),
    ]
    first = 7
    return nodes, {"w": np.roll(w, first, axis=1), "sizes": np.array([first, w.shape[1] - first], np.int64)}


def _backwards(w: Any) -> tuple[list[Any], dict[str, Any]]:
    lowest = np.array([np.iinfo(np.int64).min], np.int64)
    numbers_ = {
        "from": np.array([-1], np.int64),
        "to": lowest,
        "at": np.array([1], np.int64),
        "by": np.array([-1], np.int64),
    }
    return [helper.make_node("Slice", ["w", "from", "to", "at", "by"], ["W"])], {"w": w[:, ::-1].copy(), **numbers_}


def _picked(w: Any) -> tuple[list[Any], dict[str, Any]]:
    nodes = [
        helper.make_node("Gather", ["w", "at"], ["v"], axis=0),
        helper.make_node("Unsqueeze", ["v", "zero"], ["W"]),
    ]
    return nodes, {"w": np.concatenate([-w, w]), "at": np.array(-1, np.int64), "zero": np.array([0], np.int64)}


def _constant(w: Any) -> tuple[list[Any], dict[str, Any]]:
    return [
        helper.make_node("Constant", [], ["w"], value=tensor("", w)),
        helper.make_node("Identity", ["w"], ["W"]),
    ], {}


def _floats(w: Any) -> tuple[list[Any], dict[str, Any]]:
    nodes = [
        helper.make_node("Constant", [], ["w"], value_floats=w.ravel().tolist()),
        helper.make_node("Constant", [], ["to"], value_ints=list(w.shape)),
        helper.make_node("Reshape", ["w", "to"], ["W"]),
    ]
    return nodes, {}


def _halved(w: Any) -> tuple[list[Any], dict[str, Any]]:
    return [helper.make_node("Cast", ["w"], ["W"], to=FLOAT)], {"w": w.astype(np.float16)}


def _doubled(w: Any) -> tuple[list[Any], dict[str, Any]]:
    return [helper.make_node("Cast", ["w"], ["W"], to=FLOAT)], {"w": w.astype(np.float64) / 3}


def _rounded(w: Any) -> tuple[list[Any], dict[str, Any]]:
    nodes = [
        helper.make_node("Cast", ["w"], ["v"], to=TensorProto.BFLOAT16),
        helper.make_node("Cast", ["v"], ["W"], to=FLOAT),
    ]
    return nodes, {"w": w}


FORMS = [
    _transposed, _reversed_axes, _unsqueezed, _squeezed, _reshaped, _joined, _split, _backwards, _picked, _constant, _floats, _halved,
    _doubled, _rounded,
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("chain", [True, False])
def test_weights_that_are_moved(
    form: Callable[[Any], tuple[list[Any], dict[str, Any]]], chain: bool, tmp_path: Path
) -> None:
    """W is what onnx.reference makes of the nodes before it, in a graph that is read whole and in one that is not.

    A whole graph is also run, all of it in float32: one that rounds to fewer digits on the way is not read as a whole.
    """
    arrays = weights_of()
    nodes, own = form(arrays.pop("W"))
    judge = helper.make_graph(nodes, "judge", [], [Info("W", FLOAT, None)], initializers(own))
    opsets = [helper.make_opsetid("", 17)]
    evaluated: Any = ReferenceEvaluator(helper.make_model(judge, opset_imports=opsets, ir_version=8)).run(None, {})
    w = evaluated[0]
    assert w.shape == shapes_of("lstm")["W"]
    after = [] if chain else [helper.make_node("Neg", ["Y"], ["Z"])]
    model = model_of([*nodes, lstm(), *after], [X], ["Y" if chain else "Z"], arrays | own)
    network = parity.read(saved(model, tmp_path))
    whole = chain and form not in (_doubled, _rounded)
    assert bool(network.problems) != whole
    plain = parity.read(model_of([lstm()], [X], ["Y"], {**arrays, "W": np.asarray(w, np.float32)}))
    assert same_weights(network.recurrent[0], plain.recurrent[0])
    x = random(TIME, BATCH, FEATURES)
    assert_layer(network.recurrent[0], x, ran(model, X=x)[0][:, 0] * (1 if chain else -1))
    if whole:
        assert parity.compare(tmp_path / "model.onnx", engines=["onnxruntime"]).ok


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
@pytest.mark.parametrize("units", [UNITS, 40])
def test_types_of_weights(dtype: str, units: int, tmp_path: Path) -> None:
    """Small tensors stand in the model as it is parsed, large ones are left in the file: both give the same numbers."""
    kind = {"float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16, "float64": TensorProto.DOUBLE}[dtype]
    shapes = {"W": (1, 4 * units, FEATURES), "R": (1, 4 * units, units), "B": (1, 8 * units)}
    arrays = {name: random(*shape).astype(helper.tensor_dtype_to_np_dtype(kind)) for name, shape in shapes.items()}
    node = helper.make_node("LSTM", ["X", "W", "R", "B"], ["Y"], name="lstm", hidden_size=units)
    model = model_of(
        [node, helper.make_node("Neg", ["Y"], ["Z"])],
        [Info("X", kind, [None, None, FEATURES])],
        ["Z"],
        arrays,
        opset=22,
    )
    network = parity.read(saved(model, tmp_path))
    assert network.problems
    plain = parity.read(
        model_of([node], [X], ["Y"], {name: array.astype(np.float64) for name, array in arrays.items()})
    )
    assert same_weights(network.recurrent[0], plain.recurrent[0])


def test_sparse_weights_are_refused_by_name(tmp_path: Path) -> None:
    arrays = weights_of()
    w = arrays.pop("W")
    at = np.arange(w.size, dtype=np.int64)
    sparse = helper.make_sparse_tensor(tensor("W", w.ravel()), tensor("at", at), list(w.shape))
    model = model_of([lstm()], [X], ["Y"], arrays)
    model.graph.sparse_initializer.append(sparse)
    network = parity.read(saved(model, tmp_path))
    assert any("W is not a constant" in p.what and "sparse" in p.got for p in network.problems)
    made = model_of([helper.make_node("Constant", [], ["W"], sparse_value=sparse), lstm()], [X], ["Y"], arrays)
    network = parity.read(saved(made, tmp_path))
    assert any("this form of Constant" in p.what and "sparse_value" in p.got for p in network.problems)
    assert not network.recurrent


# ---- what exporters write


class _Tagger(torch.nn.Module):
    """A model that is no chain of layers that parity knows: a convolution, two recurrences, an attention."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.conv = torch.nn.Conv1d(FEATURES, 4, 3, padding=1)
        self.first = torch.nn.LSTM(4, UNITS, bidirectional=True, batch_first=True, **options)
        self.second = torch.nn.GRU(2 * UNITS, 6, **options)
        self.score = torch.nn.Linear(6, 1)

    def forward(self, x: Any) -> Any:
        found, _ = self.first(self.conv(x.transpose(1, 2)).transpose(1, 2))
        found, _ = self.second(found)
        return (found * torch.softmax(self.score(found), 1)).sum(1)


@pytest.mark.parametrize("folded", [True, False])
@pytest.mark.parametrize("opset", [9, 13, 17])
def test_what_torch_exports(folded: bool, opset: int, tmp_path: Path) -> None:
    """Without folding, torch leaves in the graph how its weights become ONNX's: Slice, Concat and Unsqueeze."""
    torch.manual_seed(4)
    module = _Tagger().eval()
    path = tmp_path / "tagger.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (torch.zeros(BATCH, TIME, FEATURES),),
            str(path),
            dynamo=False,
            opset_version=opset,
            do_constant_folding=folded,
            input_names=["x"],
            dynamic_axes={"x": {0: "batch", 1: "time"}},
        )
    assert ("Slice" in {node.op_type for node in onnx.load(path).graph.node}) != folded
    network = parity.read(path)
    assert network.problems
    for layer, own in zip(network.recurrent, (module.first, module.second), strict=True):
        assert same_weights(layer, parity.read(own).recurrent[0])
    assert "zeros" in network.details[f"layer {network.recurrent[0].name}"] or not folded
    listed = {shape for one in network.opaque for shape in one.shapes.values()}
    assert {(4, FEATURES, 3), (4,)} <= listed
    assert network.details["producer"].startswith("pytorch")
    assert "caution" not in network.details


@pytest.mark.skipif(not MODELS.exists(), reason="the real models are not here")
@pytest.mark.parametrize("engine", ["onnxruntime", "torch", "reference"])
def test_silero(engine: str) -> None:
    """The LSTM inside the If bodies, alone, on what ONNX Runtime hands it: the states after each of 90 chunks."""
    path = MODELS / "silero_vad_16k_op15.onnx"
    expected = np.load(MODELS / "silero_vad_expected.npz")
    (layer,) = parity.read(path).recurrent
    assert (layer.spec.kind, layer.input_size, layer.output_size) == ("lstm", 128, 128)
    model = onnx.load(path)
    choice = next(node for node in model.graph.node if node.name == "/model/decoder/If_1")
    for attribute in choice.attribute:
        inner = next(node for node in attribute.g.node if node.op_type == "LSTM")
        attribute.g.output.append(Info(inner.input[0], FLOAT, None))
    choice.output.append("taken")
    model.graph.output.append(Info("taken", FLOAT, None))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    state, before, taken = np.zeros((2, 1, 128), np.float32), np.zeros(64, np.float32), []
    for chunk, known in zip(expected["audio"].reshape(90, 512), expected["onnx_state"], strict=True):
        x = np.concatenate([before, chunk])[None].astype(np.float32)
        _, state, x_lstm = session.run(None, {"input": x, "state": state, "sr": np.array(16000, np.int64)})
        before = chunk[-64:]
        taken.append(x_lstm)
        np.testing.assert_allclose(state, known, atol=2e-6)
    found = parity.run(layer, np.concatenate(taken).reshape(1, 90, 128), engine=engine)
    assert np.abs(found.sequence[0] - expected["onnx_state"][:, 0, 0]).max() < 2e-6
    assert np.abs(np.ravel(np.asarray(found.c_n)) - expected["onnx_state"][-1, 1, 0]).max() < 1e-5


# ---- what a file says of itself


@pytest.mark.parametrize("producer", ["pytorch", "tf2onnx"])
@pytest.mark.parametrize("linear", [0, 1])
@pytest.mark.parametrize("chain", [True, False])
def test_caution_about_the_reset(producer: str, linear: int, chain: bool, tmp_path: Path) -> None:
    gru = lstm(name="gru", op="GRU", linear_before_reset=linear)
    after = [] if chain else [helper.make_node("Neg", ["Y"], ["Z"])]
    model = model_of([gru, *after], [X], ["Y" if chain else "Z"], weights_of("gru"), producer_name=producer)
    network = parity.read(saved(model, tmp_path))
    assert bool(network.problems) != chain
    said = network.details.get("caution", "")
    assert ("'gru' has linear_before_reset=0" in said) == (producer == "pytorch" and not linear)


def test_facts(tmp_path: Path) -> None:
    model = model_of(
        [lstm()],
        [Info("X", FLOAT, [10, 2, FEATURES])],
        ["Y"],
        weights_of(),
        producer_name="maker",
        producer_version="3",
    )
    details = parity.read(saved(model, tmp_path)).details
    assert details["fixed sizes"] == f"X (10, 2, {FEATURES}) float"
    assert {key: details[key] for key in ("producer", "opset", "ir_version")} == {
        "producer": "maker 3",
        "opset": "17",
        "ir_version": "8",
    }
    assert parity.compare(tmp_path / "model.onnx", engines=["onnxruntime"]).ok
    free = parity.read(saved(model_of([lstm()], [X], ["Y"], weights_of()), tmp_path)).details
    assert "fixed sizes" not in free


def test_a_model_with_operators_of_others(tmp_path: Path) -> None:
    """Neither an operator that nobody knows nor an opset newer than onnx keeps the layers from being read."""
    odd = helper.make_node("Swirl", ["Y"], ["Z"], name="odd", domain="com.example", speed=3)
    for model in (
        model_of([lstm(), odd], [X], ["Z"], weights_of(), opsets=[helper.make_opsetid("com.example", 1)]),
        model_of([lstm(), odd], [X], ["Z"], weights_of()),
        model_of([lstm(), helper.make_node("Swirl", ["Y"], ["Z"])], [X], ["Z"], weights_of()),
        model_of([lstm()], [X], ["Y"], weights_of(), ir_version=99),
    ):
        network = parity.read(saved(model, tmp_path))
        assert [layer.name for layer in network.recurrent] == ["lstm"]
        assert network.problems


def test_a_model_without_recurrent_nodes(tmp_path: Path) -> None:
    model = model_of(
        [helper.make_node("MatMul", ["X", "K"], ["Y"], name="dense")], [X], ["Y"], {"K": random(FEATURES, 4)}
    )
    network = parity.read(saved(model, tmp_path))
    assert not network.recurrent
    assert [one.shapes for one in network.opaque] == [{"K": (FEATURES, 4)}]
    with pytest.raises(parity.UnsupportedError, match="no recurrent layer"):
        network.whole()


# ---- writing


def test_a_file_of_more_than_protobuf_holds_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = parity.read(model_of([lstm()], [X], ["Y"], weights_of()))
    for limit, written in ((1 << 20, True), (1000, False), (100, False)):
        monkeypatch.setattr(onnx_framework, "LARGEST", limit)
        path = tmp_path / f"{limit}.onnx"
        if written:
            parity.files.write_file(network, path)
        else:
            with pytest.raises(parity.UnsupportedError, match=r"no more than 2 GiB[^$]*\.safetensors"):
                parity.files.write_file(network, path)
        assert path.exists() == written


@pytest.mark.parametrize("opset", [7, 15, 17])
def test_written_files_open_in_old_readers(opset: int) -> None:
    """ir_version 8 and opset 17 are read since ONNX Runtime 1.12; a higher one is not written unless the opset asks for it."""
    model = parity.to_onnx(parity.read(model_of([lstm()], [X], ["Y"], weights_of())), opset=opset)
    assert model.ir_version == {7: 7, 15: 8, 17: 8}[opset]
