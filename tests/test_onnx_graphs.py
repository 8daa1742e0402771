"""Whole graphs as ONNX models: ONNX Runtime computes what the graph says, within what float32 roundings do to that very graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from parity.errors import FormatError, ParityError, ShapeError, UnsupportedError
from parity.forms import Form
from parity.frameworks import Settings
from parity.frameworks.onnx import form
from parity.frameworks.onnx.running import session_of
from parity.frameworks.onnx.whole.running import intermediate, places, runner, whole_runner
from parity.frameworks.onnx.whole.writing import NO_FLOAT64, PLACES_KEY, model_of
from parity.graph import Builder, Graph, Node, Wire
from parity.graph import operations as ops
from parity.graph.judging import judge_graph
from parity.graph.noise import Float32Noise
from parity.judge import Row
from parity.network import Dense, Recurrent
from parity.recurrent import Array
from tests.onnx_graphs_cases import CASES, graph_of, inputs_for, numbers, recurrent

FACTOR = 2.0
"""So many times the largest that eight noisy runs differ from the exact one, over a whole output, as `parity.judge.LIMIT`: eight draws of
signs do not show the worst that rounding does. Measured: at most 1.0 of all cases; a fault moves an output by thousands of times that."""

SIZES = ({"batch": 3, "time": 7, "steps": 5}, {"batch": 2, "time": 12, "steps": 4})


def apart(left: Array, right: Array) -> float:
    """The largest difference; infinities that are the same differ by nothing."""
    same = left == right
    return float(np.abs(np.where(same, 0, left).astype(np.float64) - np.where(same, 0, right)).max(initial=0))


class Judge:
    """A graph on inputs of some lengths.

    Args:
        graph: which says what is right.
        lengths: of the axes.
    """

    def __init__(self, graph: Graph, lengths: dict[str, int]) -> None:
        self.graph, self.inputs = graph, inputs_for(graph, lengths)
        self.exact = graph.run(self.inputs)
        self.spread = dict.fromkeys(self.exact, 0.0)
        """The largest that roundings move each output."""
        for seed in range(8):
            for name, value in graph.run(self.inputs, Float32Noise(seed, frozen=seed % 2 == 1)).items():
                self.spread[name] = max(self.spread[name], apart(value, self.exact[name]))

    def excess(self, model: onnx.ModelProto) -> float:
        """By how many times the spread ONNX Runtime differs from the graph at worst; infinite where the graph is exact and it is not."""
        return _excess(runner(model, self.graph)(self.inputs), self.exact, self.spread)


def excess(graph: Graph, model: onnx.ModelProto, lengths: dict[str, int]) -> float:
    """The same of one model."""
    return Judge(graph, lengths).excess(model)


def _excess(found: Mapping[str, Array], exact: Mapping[str, Array], limits: Mapping[str, float]) -> float:
    assert list(found) == list(exact)
    worst = 0.0
    for name, value in exact.items():
        assert found[name].shape == value.shape
        kind = found[name].dtype.kind
        assert kind == value.dtype.kind
        off = apart(found[name], value)
        assert np.isfinite(off)
        # A number that nothing rounds is rounded once, when it becomes a float32.
        limit = limits[name] + (
            2.0**-25 * float(np.abs(value[np.isfinite(value)]).max(initial=0)) if kind == "f" else 0.0
        )
        worst = max(worst, off / limit if limit else float(off > 0) * np.inf)
    return worst


@pytest.mark.parametrize("name", CASES)
def test_onnx_runtime_computes_what_the_graph_says(name: str) -> None:
    graph = graph_of(name)
    model = model_of(graph)
    onnx.checker.check_model(model, full_check=True)
    onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    for lengths in SIZES:
        assert excess(graph, model, lengths) < FACTOR


@pytest.mark.parametrize("opset", [13, 16, 18, 20, 22])
def test_every_opset_says_the_same(opset: int) -> None:
    """The operators whose form depends on the opset, and those around them."""
    for name in (
        "masked zero False",
        "functions of no operator",
        "truth reductions",
        "layer norm 2",
        "conv block",
        "reduce norm kept",
    ):
        graph = graph_of(name)
        model = model_of(graph, opset)
        onnx.checker.check_model(model, full_check=True)
        assert [one.version for one in model.opset_import] == [opset]
        assert excess(graph, model, SIZES[0]) < FACTOR


@pytest.mark.parametrize("opset", [12, 23, 17.0, True])
def test_another_opset_is_refused(opset: Any) -> None:
    with pytest.raises(UnsupportedError, match="13 to 22"):
        model_of(graph_of("lstm"), opset)


# ---- names


def test_nodes_weights_axes_and_outputs_have_their_names() -> None:
    build, random = Builder("named"), np.random.default_rng(1)
    x = build.input("the input", ("batch", "time", 4))
    layer = recurrent(random, "lstm", "encoder/lstm", directions=("forward", "backward"))
    h = build.call(layer, x, None)
    y = build.activation(
        "mish", build.call(Dense("scores", numbers(random, 10, 2), numbers(random, 2)), h), name="shown"
    )
    norm = ops.UnitNormalization("unit")
    model = model_of(build.graph({"b": build.call(norm, y), "a": Wire("encoder/lstm", 2), "b/c": build.slice(y, 1, 1)}))
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names)
    by_name = {node.name: node.op_type for node in model.graph.node}
    wanted = {"encoder/lstm": "LSTM", "scores": "MatMul", "shown": "Mul", "unit": "Div", "slice": "Slice"}
    assert {name: by_name[name] for name in wanted} == wanted
    weights = {tensor.name for tensor in model.graph.initializer}
    assert {"encoder/lstm.W", "encoder/lstm.R", "encoder/lstm.B", "scores.kernel", "scores.bias"} <= weights
    assert [axes_named(one) for one in model.graph.input] == [("the input", ["batch", "time", 4])]
    expected = [("b", ["batch", "time", 2]), ("a", ["batch", 5]), ("b/c", ["batch", None, 2])]
    assert [axes_named(one) for one in model.graph.output] == expected


def axes_named(info: onnx.ValueInfoProto) -> tuple[str, list[Any]]:
    dims = info.type.tensor_type.shape.dim
    return info.name, [d.dim_param or (d.dim_value if d.HasField("dim_value") else None) for d in dims]


def test_an_input_handed_through_gives_way_in_the_model_only() -> None:
    graph = graph_of("through")
    model = model_of(graph)
    assert [one.name for one in model.graph.output] == ["x.output"]
    assert list(runner(model, graph)({"x": np.ones((1, 2, 4))})) == ["x"]


def test_shared_layers_have_their_weights_once() -> None:
    model = model_of(graph_of("shared"))
    names = [tensor.name for tensor in model.graph.initializer]
    assert [name for name in names if name.startswith("layer.") and name[-1] in "WRB"] == [
        "layer.W",
        "layer.R",
        "layer.B",
    ]
    assert {"layer", "layer_2", "scanned", "scanned_2", "scores", "scores_2"} <= {
        node.name for node in model.graph.node
    }
    assert [name for name in names if name.startswith("scores")] == ["scores.kernel", "scores.bias"]


def test_inverse_transpositions_never_come_to_be() -> None:
    stack, block = (ops_of(name) for name in ("stack", "conv block"))
    # In; out of the first layer, whose two directions stand apart; and two outputs with the batch first.
    assert stack.count("Transpose") == 4
    # In; before and behind the product with weights of the last axis; and two outputs that keep their axes.
    assert block.count("Transpose") == 5


def ops_of(name: str) -> list[str]:
    return [node.op_type for node in model_of(graph_of(name)).graph.node]


def test_native_nodes_say_what_they_can() -> None:
    for kind in ("lstm", "gru", "rnn"):
        assert ops_of(f"{kind} both").count(kind.upper()) == 1
    assert "Scan" in ops_of("functions of no operator")
    assert form(model_of(graph_of("lstm"))) == Form()
    found = form(model_of(graph_of("masked zero True")))
    assert found is not None
    assert found.composed == ("layer 'layer': ONNX GRU takes no mask, only sequence_lens",)


def test_a_stateful_layer_without_states_is_told() -> None:
    build = Builder("stateful")
    layer = recurrent(np.random.default_rng(2), stateful=True)
    model = model_of(build.graph({"y": build.call(layer, build.input("x", ("batch", "time", 4)), None)}))
    found = form(model)
    assert found is not None
    assert found.notes == ("layer 'layer': is stateful; every call of the model starts from zeros",)


# ---- what is refused


def test_stubs_are_refused_all_of_them() -> None:
    build = Builder("model")
    x = build.input("x", ("batch", 3))
    y = build.call(ops.Stub("second", "Capsules"), build.activation("relu", build.call(ops.Stub("first", "Fancy"), x)))
    with pytest.raises(UnsupportedError) as refused:
        model_of(build.graph({"y": y}))
    assert [(p.where, p.got) for p in refused.value.problems] == [
        ("layer 'first'", "Fancy"),
        ("layer 'second'", "Capsules"),
    ]
    assert all("--to torch" in p.remedy for p in refused.value.problems)


def test_all_that_cannot_be_said_is_named_at_once() -> None:
    build = Builder("model")
    x = build.input("x", ("batch", 9, 4))
    pooled = build.call(ops.Pooling("dilated", "average", (2,), (1,), (2,), ((0, 0),)), x)
    truth = build.elementwise("greater", build.activation("relu", pooled), 0.0)
    power = build.elementwise("power", truth, truth)
    kernel = numbers(np.random.default_rng(1), 3, 2, 4)
    steps = build.input("steps", ("batch", "time", 2))
    conv = build.call(ops.Convolution("conv", kernel, None, (2,), (2,), "same"), steps)
    with pytest.raises(UnsupportedError) as refused:
        model_of(build.graph({"y": power, "z": conv}))
    assert [p.where for p in refused.value.problems] == ["layer 'dilated'", "layer 'power'", "layer 'conv'"]
    assert "opset=19" in refused.value.problems[0].remedy


def test_a_dilated_mean_from_opset_19_on() -> None:
    build = Builder("model")
    x = build.input("x", ("batch", "time", 4))
    graph = build.graph({"y": build.call(ops.Pooling("pool", "average", (2,), (1,), (2,), ((0, 0),)), x)})
    assert excess(graph, model_of(graph, 19), SIZES[0]) < FACTOR


# ---- float64


FLOAT64 = (
    "dense tanh",
    "batch norm 3 -1",
    "batch norm 3 1",
    "layer norm 1",
    "activation leaky_relu",
    "rms norm",
    "products",
    "reshapes",
    "attention",
)


@pytest.mark.parametrize("name", FLOAT64)
def test_float64_weights_are_kept(name: str) -> None:
    graph = widened(graph_of(name))
    model, inputs = model_of(graph), inputs_for(graph, SIZES[0])
    onnx.checker.check_model(model, full_check=True)
    found, exact = runner(model, graph, Settings(dtype="float64"))(inputs), graph.run(inputs)
    for key, value in exact.items():
        assert found[key].dtype == value.dtype
        assert apart(found[key], value) <= 1e-13 * max(1.0, float(np.abs(value).max()))


def widened(graph: Graph) -> Graph:
    """With weights that are no float32 numbers; a constant more, for graphs that have no weight."""
    memo: dict[int, Any] = {}

    def wider(operation: Any) -> Any:
        fields = {
            key: value * (1 + 1e-9)
            for key, held in vars(operation).items()
            if isinstance(held, np.ndarray) and held.dtype == np.float32
            for value in [held.astype(np.float64)]
        }
        return memo.setdefault(id(operation), replace(operation, **fields) if fields else operation)

    nodes = tuple(replace(node, operation=wider(node.operation)) for node in graph.nodes)
    third = Node("a third", ops.Constant("a third", np.array([1 / 3])), ())
    return replace(graph, nodes=(third, *nodes), outputs={**graph.outputs, "third": Wire("a third")})


def test_float64_is_refused_where_onnx_runtime_has_it_not() -> None:
    with pytest.raises(UnsupportedError, match="no float64 LSTM, GRU or RNN"):
        model_of(widened(graph_of("lstm")))
    with pytest.raises(UnsupportedError) as refused:
        model_of(widened(graph_of("conv block")))
    named = [(p.what, p.where) for p in refused.value.problems]
    assert ("ONNX Runtime has no float64 Conv", "layer 'conv_1'") in named
    assert ("ONNX Runtime has no float64 InstanceNormalization", "layer 'groups'") in named


def test_float64_weights_that_are_float32_numbers_become_float32() -> None:
    graph = graph_of("lstm")
    (node,) = graph.nodes
    assert isinstance(node.operation, Recurrent)
    weights = tuple(
        replace(one, **{key: array.astype(np.float64) for key, array in vars(one).items() if array is not None})
        for one in node.operation.weights
    )
    wide = replace(graph, nodes=(replace(node, operation=replace(node.operation, weights=weights)),))
    assert model_of(wide) == model_of(graph)
    with pytest.raises(UnsupportedError, match="computes in float32"):
        runner(model_of(graph), graph, Settings(dtype="float64"))


@pytest.mark.parametrize("op", sorted(NO_FLOAT64))
def test_onnx_runtime_really_has_no_such_kernel(op: str) -> None:
    """So that the table does not refuse what a later version can do."""
    weights = {"Conv": ["w"], "InstanceNormalization": ["s", "s"]}.get(op, [])
    options: dict[str, Any] = {"kernel_shape": [2]} if op == "AveragePool" else {}
    info = onnx.helper.make_tensor_value_info
    double = onnx.TensorProto.DOUBLE
    arrays = {"w": np.ones((4, 4, 2)), "s": np.ones(4)}
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node(op, ["x", *weights], ["y"], **options)],
        op,
        [info("x", double, ["batch", 4, "time"])],
        [info("y", double, None)],
        [onnx.numpy_helper.from_array(arrays[name], name) for name in dict.fromkeys(weights)],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    with pytest.raises(ParityError, match="NOT_IMPLEMENTED"):
        session_of(model, Settings(), onnxruntime)


# ---- values inside


INSIDE = ("stack", "conv block", "tagger", "shared", "shapes", "unlike mul True", "mixed")


@pytest.mark.parametrize("name", INSIDE)
def test_values_inside_are_those_of_the_graph(name: str) -> None:
    graph = graph_of(name)
    model, inputs = model_of(graph), inputs_for(graph, SIZES[0])
    found, exact = intermediate(model, graph, inputs), graph.values(inputs)
    assert {wire.node for wire in found} >= {node.name for node in graph.nodes if not hasattr(node.operation, "value")}
    for wire, value in found.items():
        assert value.shape == exact[wire].shape, wire
        assert apart(value, exact[wire]) < 2e-6 * max(1.0, float(np.abs(exact[wire]).max())), wire


def test_one_fault_does_not_smear_over_the_layers_behind() -> None:
    """Each layer on the reference's inputs: the one whose weight is wrong is the only one that differs."""
    graph = graph_of("stack")
    model, inputs = model_of(graph), inputs_for(graph, SIZES[0])
    swap_rows(model, "second.R")
    exact = graph.values(inputs)

    def differing(given: dict[Wire, Array] | None) -> list[str]:
        found = intermediate(model, graph, inputs, given=given)
        return [str(wire) for wire, value in found.items() if apart(value, exact[wire]) > 1e-5]

    assert differing(exact) == ["second"]
    assert differing(None) == ["second", "add", "tanh", "third", "transpose"]


def test_a_runner_for_the_judges_shows_every_layer() -> None:
    graph = graph_of("stack")
    model, inputs = model_of(graph), inputs_for(graph, SIZES[0])
    assert [row.verdict for row in judged(model, graph, inputs)] == ["agree"] * 10
    swap_rows(model, "second.R")
    rows = judged(model, graph, inputs)
    assert [row.quantity for row in rows if row.verdict == "disagree" and row.rule == "layer"] == ["layer second"]


def judged(model: onnx.ModelProto, graph: Graph, inputs: dict[str, Array]) -> tuple[Row, ...]:
    return judge_graph(graph, {"onnx": whole_runner(model, graph, Settings())}, inputs, layers=True).rows


def test_a_model_of_others_shows_the_nodes_that_are_sources() -> None:
    """Without what parity writes into a model, the graph's sources are looked for among its nodes; a value of another shape is none."""
    graph = graph_of("conv block")
    sources = {"relu": "relu", "multiply": "multiply", "mean": "mean", "pad": "pad"}
    graph = replace(graph, nodes=tuple(replace(node, source=sources.get(node.name, "")) for node in graph.nodes))
    model, inputs = model_of(graph), inputs_for(graph, SIZES[0])
    del model.metadata_props[:]
    found, exact = whole_runner(model, graph, Settings()).seen(inputs), graph.values(inputs)
    assert set(found) == {Wire("multiply"), Wire("mean")}
    assert all(apart(value, exact[wire]) < 1e-5 for wire, value in found.items())


def test_some_wires_only_and_unknown_ones() -> None:
    graph = graph_of("stack")
    model, inputs = model_of(graph), inputs_for(graph, SIZES[0])
    assert list(intermediate(model, graph, inputs, [Wire("tanh"), Wire("x")])) == [Wire("tanh"), Wire("x")]
    with pytest.raises(UnsupportedError, match="first\\[1\\]"):
        intermediate(model, graph, inputs, [Wire("first", 1)])
    del model.metadata_props[:]
    with pytest.raises(UnsupportedError, match="does not say which tensors"):
        intermediate(model, graph, inputs)


@pytest.mark.parametrize(
    "text", ["[", "{}3", '[["x"]]', '[["x", 0, "float", []]]', '[["x", 0, "float", [["y", [0]]]]]', "[[[[" * 9999]
)
def test_places_from_outside_are_read_with_care(text: str) -> None:
    model = model_of(graph_of("through"))
    next(item for item in model.metadata_props if item.key == PLACES_KEY).value = text
    with pytest.raises(FormatError, match="places of values"):
        places(model)


def test_missing_inputs_are_named() -> None:
    graph = graph_of("lstm given states")
    with pytest.raises(ShapeError, match="state_1, state_2"):
        runner(model_of(graph), graph)(
            {"x": np.ones((1, 2, 4)), "state_0": np.ones((1, 5)), "state_3": np.ones((1, 5))}
        )


# ---- a fault is seen


def swap_rows(model: onnx.ModelProto, name: str) -> None:
    """Another order of a weight's numbers."""
    tensor = next(one for one in model.graph.initializer if one.name == name)
    array = onnx.numpy_helper.to_array(tensor)
    turned = np.ascontiguousarray(np.flip(array, axis=-1 if array.ndim < 3 or array.shape[-1] > 1 else 0))
    tensor.CopyFrom(onnx.numpy_helper.from_array(turned, name))


WEIGHTED = [
    name
    for name in CASES
    if not name.startswith(("elementwise", "reduce", "activation", "softmax", "max", "average", "merge"))
]


def test_every_weight_counts() -> None:
    """The numbers of one weight the other way round, in every model that has any: seen in each."""
    unseen = []
    for name in WEIGHTED:
        graph = graph_of(name)
        judge, model = Judge(graph, SIZES[0]), model_of(graph)
        weights = {f"{op.name}.{key}" for op in graph.operations for key in op.arrays} | {
            op.name for op in graph.operations
        }
        for tensor in model.graph.initializer:
            native = tensor.name.rpartition(".")[2] in ("W", "R", "B", "P", "projection")
            if (native or tensor.name in weights) and np.prod(tensor.dims) > 1:
                wrong = onnx.ModelProto()
                wrong.CopyFrom(model)
                swap_rows(wrong, tensor.name)
                if judge.excess(wrong) < 100 * FACTOR:
                    unseen.append((name, tensor.name))
    assert unseen == []


@pytest.mark.parametrize(
    ("name", "op", "attribute", "value"),
    [
        ("conv1d same strides last", "Conv", "auto_pad", b"SAME_LOWER"),
        ("conv1d causal dilated last", "Conv", "dilations", [1]),
        ("average counting last", "AveragePool", "count_include_pad", 0),
        ("batch norm 3 -1", "BatchNormalization", "epsilon", 1e-5),
        ("layer norm 2", "LayerNormalization", "axis", -1),
        ("gru", "GRU", "linear_before_reset", 0),
        ("activation elu", "Elu", "alpha", 1.0),
        ("softmax 1 False", "Softmax", "axis", 2),
    ],
)
def test_a_wrong_option_is_seen(name: str, op: str, attribute: str, value: Any) -> None:
    graph = graph_of(name)
    model = model_of(graph)
    node = next(one for one in model.graph.node if one.op_type == op)
    own = next(one for one in node.attribute if one.name == attribute)
    own.CopyFrom(onnx.helper.make_attribute(attribute, value))
    if op == "Conv" and attribute == "dilations":
        next(one for one in node.attribute if one.name == "pads").ints[:] = [2, 0]
    assert seen(graph, model, {**SIZES[0], "time": 8})


def seen(graph: Graph, model: onnx.ModelProto, lengths: dict[str, int]) -> bool:
    """Whether a fault shows, if only in that ONNX Runtime does not take the model."""
    try:
        return excess(graph, model, lengths) > 100 * FACTOR
    except ParityError:
        return True
