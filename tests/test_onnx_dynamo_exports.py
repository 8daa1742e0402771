"""Whole models as torch's exporter with dynamo=True writes them, rebuilt node by node; and exported programs that torch opened.

The forms are those of torch 2.13.0 with onnxscript 0.7.2 (opset 20, names as there), looked at in the files that it wrote: a state of zeros
is an Expand to Shape and Concat, its layers are taken with Slice; what a recurrent node gives is put together with Transpose, Shape, Slice,
Mul and Reshape; torch's unbind and split are SplitToSequence and SequenceAt; its gather is GatherElements; local functions of
pkg.onnxscript.torch_lib are inlined before the file is written. An LSTM with the steps first ends
in Reshape(8, -1, 4) even where the steps are dynamic.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

import parity
from parity.errors import UnsupportedError
from parity.frameworks.onnx.whole.reading import graph_of
from parity.graph.operations import Expand, Select, Slice
from parity.network import Recurrent
from tests.onnx_reading_judge import judged, model_of
from tests.onnx_reading_operators import integers, node, normal

OPSET = 20
LENGTHS = ((3, 8), (2, 5), (4, 11))
FEATURES, UNITS = 5, 4


def made(
    nodes: Sequence[onnx.NodeProto], inputs: Mapping[str, Any], weights: Mapping[str, Any], **more: Any
) -> onnx.ModelProto:
    """A model of such a file."""
    model = model_of(nodes, inputs, weights=weights, opset=OPSET, **more)
    model.producer_name, model.producer_version = "pytorch", "2.13.0+cpu"
    return model


def recurrent(x: str, *states: str, op: str = "LSTM", directions: int = 1, y: str = "val_115") -> onnx.NodeProto:
    options: dict[str, Any] = {
        "hidden_size": UNITS,
        "direction": "bidirectional" if directions == 2 else "forward",
        "layout": 0,
    }
    options |= {"input_forget": 0} if op == "LSTM" else {"linear_before_reset": 1}
    return helper.make_node(op, [x, "W", "R", "B", "", *states], [y, "getitem_1"], "node_lstm__2", **options)


def weights_of(directions: int = 1, gates: int = 4) -> dict[str, Any]:
    shapes = {"W": (directions, gates * UNITS, FEATURES), "R": (directions, gates * UNITS, UNITS)}
    weights = {name: normal(*shape, scale=0.5) for name, shape in shapes.items()}
    weights["B"] = normal(directions, 2 * gates * UNITS, scale=0.5)
    numbers = {f"i{n}": integers(n) for n in range(5)}
    return {
        **weights,
        **numbers,
        "im1": integers(-1),
        "zero": np.float32(0),
        "units": integers(UNITS),
        "two": integers(2),
    }


def whole_layer(directions: int) -> list[onnx.NodeProto]:
    """nn.LSTM, batch first: zeros for a batch of any size, and the directions put together, as the exporter writes it."""
    count = f"i{directions}"
    return [
        node("Shape", "x", y="val_0", start=0, end=1),
        node("Concat", count, "val_0", "units", y="val_8", axis=0),
        node("Expand", "zero", "val_8", y="zeros"),
        node("Transpose", "x", y="val_15", perm=[1, 0, 2]),
        node("Slice", "zeros", "i0", count, "i0", y="val_19"),
        recurrent("val_15", "val_19", "val_19", directions=directions),
        node("Transpose", "val_115", y="val_116", perm=[0, 2, 1, 3]),
        node("Shape", "val_116", y="val_117", start=0),
        node("Slice", "val_117", "i0", "i1", y="val_119"),
        node("Slice", "val_117", "i1", "i2", y="val_120"),
        node("Slice", "val_117", "i2", "i3", y="val_122"),
        node("Slice", "val_117", "i3", "i4", y="val_124"),
        node("Mul", "val_122", "val_124", y="val_125"),
        node("Reshape", "val_125", "im1", y="val_127", allowzero=0),
        node("Concat", "val_119", "val_120", "val_127", y="val_128", axis=0),
        node("Reshape", "val_116", "val_128", y="val_129", allowzero=0),
        node("Transpose", "val_129", y="y", perm=[1, 0, 2]),
    ]


# ---- recurrent layers


@pytest.mark.parametrize("directions", [1, 2])
def test_a_layer_with_zeros_of_any_batch(directions: int) -> None:
    """All of it is one layer that takes and gives the batch first."""
    model = made(whole_layer(directions), {"x": ("s77", "s27", FEATURES)}, weights_of(directions))
    for batch, time in LENGTHS:
        graph = judged(model, {"x": normal(batch, time, FEATURES)})
    assert [type(one.operation) for one in graph.nodes] == [Recurrent]
    assert graph.inputs[0].shape == ("s77", "s27", FEATURES)


def time_first(time: int | str) -> onnx.ModelProto:
    nodes = [
        node("Shape", "x", y="val_0", start=1, end=2),
        node("Concat", "i1", "val_0", "units", y="val_7", axis=0),
        node("Expand", "zero", "val_7", y="zeros"),
        node("Slice", "zeros", "i0", "i1", "i0", y="val_17"),
        recurrent("x", "val_17", "val_17"),
        node("Transpose", "val_115", y="val_67", perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", ["val_67", "val_80"], ["y"], "node_Reshape_83", allowzero=1),
    ]
    return made(nodes, {"x": (time, "s27", FEATURES)}, {**weights_of(), "val_80": integers(8, -1, UNITS)})


def test_steps_that_the_exporter_froze_are_named() -> None:
    """The file declares the steps dynamic, and ends in a Reshape to the 8 of the example: ONNX Runtime runs nothing else."""
    with pytest.raises(UnsupportedError) as caught:
        graph_of(time_first("s77"))
    (problem,) = caught.value.problems
    assert "node 'node_Reshape_83'" in problem.where
    assert (problem.expected, problem.got) == ("(8, -1, 4)", "(s77, s27, 1, 4)")
    assert "the export fixed the length of an axis here, s77 at 8:" in problem.remedy
    assert "dynamo=False and dynamic_axes" in problem.remedy
    assert problem.remedy.endswith("write into the file 8 as axis 0 of input 'x'")
    judged(time_first(8), {"x": normal(8, 3, FEATURES)})


@pytest.mark.parametrize(
    ("shape", "only"),
    [
        ((2, 6, 7), ", batch at 2 and time at 6:"),
        ((2, -1, 7), ", batch at 2:"),
        ((-1, 6, 7), ", time at 6:"),
        ((3, 7, -1), ", batch at 3:"),
        ((-1, 14), ":"),
        ((-1, 3, 5), ":"),
    ],
)
def test_the_lengths_that_a_reshape_wants(shape: Sequence[int], only: str) -> None:
    """Named where they follow from the shape; (-1, 14) is right for more than one."""
    model = made([node("Reshape", "x", "s")], {"x": ("batch", "time", 7)}, {"s": integers(*shape)})
    with pytest.raises(UnsupportedError) as caught:
        graph_of(model)
    assert f"the export fixed the length of an axis here{only} export the model anew" in caught.value.problems[0].remedy
    assert not re.search(r"\d{4}", str(caught.value))


@pytest.mark.parametrize("computed", [False, True])
def test_states_of_a_frozen_batch_are_refused(computed: bool) -> None:
    """`torch.zeros(1, 3, 4)` and the like: they fit the batch of the example alone."""
    nodes = [node("Transpose", "x", y="val_15", perm=[1, 0, 2])]
    nodes += [node("Expand", "z", "shape", y="h")] if computed else []
    nodes += [recurrent("val_15", "h", op="GRU", y="y")]
    inputs = {"x": ("s77", "s27", FEATURES)} | ({"z": (1, 1, UNITS)} if computed else {})
    weights = weights_of(gates=3) | ({"shape": integers(1, 3, UNITS)} if computed else {"h": normal(1, 3, UNITS)})
    expected = (
        "an initial state of 3 samples, whatever the batch" if computed else "a built-in initial state of 3 samples"
    )
    with pytest.raises(
        UnsupportedError, match=rf"{expected}(.|\n)*initial_h(.|\n)*the export fixed the batch here"
    ) as caught:
        graph_of(made(nodes, inputs, weights))
    assert len(caught.value.problems) == 1
    fixed = {name: (3 if name == "x" else 1, *shape[1:]) for name, shape in inputs.items()}
    given = {"x": normal(3, 6, FEATURES), "z": normal(1, 1, UNITS)}
    judged(made(nodes, fixed, weights), {name: given[name] for name in fixed})


def test_lengths_that_do_not_fit_are_words() -> None:
    """Messages speak of the model's own axes, not of the lengths with which they are tried."""
    model = made([node("Add", "x", "w")], {"x": ("batch", "time", 6)}, {"w": normal(8, 6)})
    with pytest.raises(
        UnsupportedError, match=r"\(batch, time, 6\)(.|\n)*the export fixed the length of an axis"
    ) as caught:
        graph_of(model)
    assert not re.search(r"\d{4}", str(caught.value))


# ---- sequences of tensors


def unrolled(time: int | str, steps: int = 8) -> onnx.ModelProto:
    """nn.RNN, which the exporter unrolls to the steps of the example."""
    nodes = [
        node("Transpose", "x", y="transpose", perm=[1, 0, 2]),
        node("MatMul", "transpose", "w", y="val_15"),
        node("Add", "val_15", "b", y="linear"),
        helper.make_node("SplitToSequence", ["linear"], ["unbind_1"], "node_unbind_1", axis=0, keepdims=0),
        node("SequenceAt", "unbind_1", "at0", y="getitem_0"),
        node("Tanh", "getitem_0", y="tanh_0"),
    ]
    for at in range(1, steps):
        nodes += [
            node("SequenceAt", "unbind_1", f"at{at}", y=f"getitem_{at}"),
            node("MatMul", f"tanh_{at - 1}", "r", y=f"val_{20 + at}"),
            node("Add", f"val_{20 + at}", f"getitem_{at}", y=f"add_{at}"),
            node("Tanh", f"add_{at}", y=f"tanh_{at}"),
        ]
    nodes += [node("Identity", f"tanh_{steps - 1}")]
    weights = {f"at{at}": np.int64(at) for at in range(steps)}
    weights |= {"w": normal(FEATURES, UNITS), "r": normal(UNITS, UNITS), "b": normal(UNITS)}
    return made(nodes, {"x": ("s77", time, FEATURES)}, weights)


def test_an_unrolled_layer_of_fixed_steps() -> None:
    for batch in (3, 2):
        graph = judged(unrolled(8), {"x": normal(batch, 8, FEATURES)})
    picks = [one.operation for one in graph.nodes if isinstance(one.operation, Select)]
    assert sorted(pick.index for pick in picks) == list(range(8))


def test_an_unrolled_layer_of_any_steps_is_refused_once() -> None:
    """It would go through 8 steps of any input: what comes later would be lost without a word."""
    with pytest.raises(UnsupportedError) as caught:
        graph_of(unrolled("s27"))
    (problem,) = caught.value.problems
    assert "node 'node_unbind_1' (SplitToSequence)" in problem.where
    assert (problem.expected, problem.got) == ("an axis of 8", "axis 0, s27")
    assert "nn.RNN" in problem.remedy


@pytest.mark.parametrize(
    ("sizes", "keepdims"),
    [(None, 0), (None, 1), (np.int64(4), 1), (np.int64(3), 1), (integers(2, 5, 3), 1)],
    ids=["each, dropped", "each", "equal", "rest", "listed"],
)
@pytest.mark.parametrize("position", [0, 1, -1])
def test_parts(sizes: Any, position: int, keepdims: int) -> None:
    """unbind, split and chunk."""
    taken = ["x"] if sizes is None else ["x", "sizes"]
    nodes = [node("SplitToSequence", *taken, y="parts", axis=-1, keepdims=keepdims), node("SequenceAt", "parts", "at")]
    weights = {"at": np.int64(position)} | ({} if sizes is None else {"sizes": sizes})
    graph = judged(made(nodes, {"x": ("batch", "time", 10)}, weights), {"x": normal(3, 4, 10)})
    assert all(isinstance(one.operation, (Slice, Select)) for one in graph.nodes if one.inputs)


@pytest.mark.parametrize(
    ("sizes", "position", "message"),
    [
        (np.int64(4), 3, "no such place in the sequence"),
        (integers(2, 5, 2), 0, "these parts do not make up the axis"),
        (integers(12, -2), 0, "these parts do not make up the axis"),
    ],
)
def test_parts_that_are_not_there(sizes: Any, position: int, message: str) -> None:
    nodes = [node("SplitToSequence", "x", "sizes", y="parts", axis=1), node("SequenceAt", "parts", "at")]
    with pytest.raises(UnsupportedError, match=message):
        graph_of(made(nodes, {"x": ("batch", 10)}, {"sizes": sizes, "at": np.int64(position)}))


def test_a_sequence_is_no_tensor() -> None:
    nodes = [node("SplitToSequence", "x", y="parts", axis=1), node("Tanh", "parts")]
    with pytest.raises(UnsupportedError, match="a sequence of tensors is used as a tensor"):
        graph_of(made(nodes, {"x": ("batch", 10)}, {}))


# ---- the last valid step


def last_valid(time: int | str) -> onnx.ModelProto:
    """`y.gather(1, (lengths - 1).view(-1, 1, 1).expand(-1, 1, 4)).squeeze(1)`."""
    nodes = [
        node("Sub", "lengths", "one", y="sub_10"),
        node("Reshape", "sub_10", "val_90", y="view", allowzero=1),
        node("Expand", "view", "val_95", y="expand"),
        node("GatherElements", "x", "expand", y="gather", axis=1),
        node("Squeeze", "gather", "i1"),
    ]
    weights = {"one": np.int64(1), "i1": integers(1), "val_90": integers(-1, 1, 1), "val_95": integers(1, 1, UNITS)}
    return made(nodes, {"x": ("s13", time, UNITS), "lengths": ("s13",)}, weights, types={"lengths": TensorProto.INT64})


@pytest.mark.parametrize("time", ["s21", 6])
def test_the_last_valid_step(time: int | str) -> None:
    """A row without a valid step asks for place -1, which is the last one."""
    x = normal(4, 6, UNITS)
    x[1, 4:] = np.nan
    graph = judged(last_valid(time), {"x": x, "lengths": integers(1, 4, 6, 0)})
    assert np.array_equal(graph.run({"x": x, "lengths": integers(2, 3, 1, 0)})["y"], x[[0, 1, 2, 3], [1, 2, 0, 5]])
    assert not any(isinstance(one.operation, Expand) and one.operation.sizes[-1] == UNITS for one in graph.nodes)


@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_another_place_for_every_feature(dtype: Any) -> None:
    """Integers stay integers."""
    code = TensorProto.FLOAT if dtype == np.float32 else TensorProto.INT64
    shapes = {"x": ("batch", 3, "time"), "at": ("batch", 3, 1)}
    model = made(
        [node("GatherElements", "x", "at", axis=-1)],
        shapes,
        {},
        types={"x": code, "at": TensorProto.INT64},
        gives={"y": code},
    )
    places = np.asarray([[[0], [4], [-2]], [[3], [1], [2]]], np.int64)
    judged(model, {"x": (10 * normal(2, 3, 5)).astype(dtype), "at": places})


def test_several_places_are_refused() -> None:
    shapes = {"x": ("batch", "time", 3), "at": ("batch", 2, 3)}
    model = made([node("GatherElements", "x", "at", axis=1)], shapes, {}, types={"at": TensorProto.INT64})
    with pytest.raises(UnsupportedError, match="this choice of places is not converted"):
        graph_of(model)


# ---- exported programs


class Tagger(nn.Module):
    def __init__(self, kind: str, dropout: float = 0.0) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 6)
        self.rnn = getattr(nn, kind)(6, 4, 2, batch_first=True, bidirectional=True, dropout=dropout)
        self.out = nn.Linear(8, 3)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return torch.log_softmax(self.out(self.rnn(self.embedding(tokens))[0]), -1)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_an_exported_program_is_read_as_its_module(kind: str) -> None:
    """What `torch.export.load(path).module()` gives: parity opens no such file itself, for torch unpickles it."""
    torch.manual_seed(1)
    module, tokens = Tagger(kind).eval(), torch.randint(0, 11, (3, 7))
    program: Any = torch.export.export(module, (tokens,)).module()
    graph = parity.read(program, inputs=tokens.numpy()).graph
    assert graph is not None
    assert [one.operation.spec.kind for one in graph.nodes if isinstance(one.operation, Recurrent)] == [
        kind.lower()
    ] * 2
    with torch.no_grad():
        wanted = module(tokens).numpy()
    (found,) = graph.run({graph.inputs[0].name: tokens.numpy()}).values()
    np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-6)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
def test_a_program_exported_in_training_mode_is_refused() -> None:
    tokens = torch.randint(0, 11, (3, 7))
    program: Any = torch.export.export(Tagger("LSTM", dropout=0.5).train(), (tokens,)).module()
    with pytest.raises(UnsupportedError, match="dropout between layers that is at work in evaluation"):
        parity.compare(program, inputs=tokens.numpy())
