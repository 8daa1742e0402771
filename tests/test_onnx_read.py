"""Every option of ONNX's recurrent nodes, built by hand: what is read computes what ONNX Runtime computes with the node itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import parity
from parity.cell import plain_cell
from parity.conventions import onnx_returns
from parity.frameworks.onnx.trace import RECURRENT_OPS
from parity.layouts import GATES, LAYOUTS, SLOTS
from parity.network import Network, Recurrent
from tests.whole_checks import assert_whole

FEATURES, UNITS, BATCH, TIME = 3, 5, 4, 6
OPS = {kind: op for op, kind in RECURRENT_OPS.items()}
DIRECTIONS = {"forward": 1, "reverse": 1, "bidirectional": 2}
TYPES = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
    "float64": TensorProto.DOUBLE,
}
LENGTHS = [6, 2, 1, 4]
SCATTERED = np.array([[1, 0, 1, 1, 0, 1], [1] * 6, [0, 0, 0, 0, 1, 1], [0, 1, 0, 0, 0, 0]], bool)


def numbers(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng([seed, *shape]).uniform(-0.8, 0.8, shape).astype(np.float32)


def node_model(
    kind: Any,
    direction: str = "forward",
    layout: int = 0,
    opset: int = 17,
    dtype: str = "float32",
    lengths: int = 0,
    states: bool = True,
    absent: tuple[str, ...] = (),
    peepholes: bool = False,
    **attributes: Any,
) -> onnx.ModelProto:
    """One node with random weights; `lengths` is the type of sequence_lens, 0 for none; `absent` are inputs and outputs left out."""
    d, gates, stored = DIRECTIONS[direction], len(GATES[kind]), TYPES[dtype]
    shapes: dict[str, tuple[int, ...]] = {"W": (d, gates * UNITS, FEATURES), "R": (d, gates * UNITS, UNITS)}
    shapes |= {} if "B" in absent else {"B": (d, 2 * gates * UNITS)}
    shapes |= {"P": (d, 3 * UNITS)} if peepholes else {}
    constants = [
        numpy_helper.from_array(numbers(*shape).astype(helper.tensor_dtype_to_np_dtype(stored)), name)
        for name, shape in shapes.items()
    ]
    info = helper.make_tensor_value_info
    given = [info("X", stored, [None, None, FEATURES])]
    initial = ["initial_h", "initial_c"][: 2 if kind == "lstm" else 1] if states else []
    given += [info(name, stored, [None, d, UNITS] if layout else [d, None, UNITS]) for name in initial]
    nodes = []
    if lengths:
        given.append(info("lengths", lengths, [None]))
    if lengths == TensorProto.INT64:
        nodes.append(helper.make_node("Cast", ["lengths"], ["lengths32"], to=TensorProto.INT32))
    source = {0: "", TensorProto.INT32: "lengths", TensorProto.INT64: "lengths32"}[lengths]
    inputs = ["X", "W", "R", "" if "B" in absent else "B", source, *initial]
    if peepholes:
        inputs += [""] * (7 - len(inputs)) + ["P"]
    while not inputs[-1]:
        inputs.pop()
    outputs = ["" if row.name in absent else row.name for row in onnx_returns(kind)]
    options = {"hidden_size": UNITS, "direction": direction, **({"layout": 1} if layout else {}), **attributes}
    nodes.append(helper.make_node(OPS[kind], inputs, outputs, name="cell", **options))
    shown = [info(name, stored, None) for name in outputs if name]
    graph = helper.make_graph(nodes, "hand", given, shown, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def raw(model: onnx.ModelProto, feeds: dict[str, Any]) -> dict[str, Any]:
    """What ONNX Runtime itself gives."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    known = {item.name: item.type for item in session.get_inputs()}
    types = {"tensor(int32)": np.int32, "tensor(int64)": np.int64}
    ready = {name: np.asarray(feeds[name], types.get(kind, np.float32)) for name, kind in known.items()}
    return dict(zip([item.name for item in session.get_outputs()], session.run(None, ready), strict=True))


def feeds_of(model: onnx.ModelProto, lengths: Any = None) -> dict[str, Any]:
    """Random inputs of a model of layout 0."""
    d = next(tensor.dims[0] for tensor in model.graph.initializer if tensor.name == "W")
    shapes = {"X": (TIME, BATCH, FEATURES), "initial_h": (d, BATCH, UNITS), "initial_c": (d, BATCH, UNITS)}
    own = {item.name for item in model.graph.input}
    feeds = {name: numbers(*shape, seed=len(name)) for name, shape in shapes.items() if name in own}
    return feeds | ({"lengths": [TIME] * BATCH if lengths is None else lengths} if "lengths" in own else {})


def through(source: Any, feeds: dict[str, Any], engine: str, **more: Any) -> dict[str, Any]:
    """What an engine gives for the same inputs, by ONNX's names."""
    states = [feeds[name] for name in ("initial_h", "initial_c") if name in feeds]
    result = parity.run(source, feeds["X"].swapaxes(0, 1), engine=engine, initial_state=tuple(states) or None, **more)
    ((run),) = result.layers.values()
    kind = parity.read(source).recurrent[0].spec.kind
    return {row.name: row.of([run]) for row in onnx_returns(kind)}


def largest(found: dict[str, Any], expected: dict[str, Any]) -> float:
    assert all(found[name].shape == array.shape for name, array in expected.items())
    return max(float(np.abs(found[name] - array).max()) for name, array in expected.items())


def agree(model: onnx.ModelProto, lengths: Any = None) -> Network:
    """ONNX Runtime by itself, the reference on what was read, and the runner say the same."""
    feeds = feeds_of(model, lengths)
    expected = raw(model, feeds)
    network = parity.read(model)
    assert largest(through(network, feeds, "reference", lengths=lengths), expected) < 2e-6
    own = through(model, feeds, "onnxruntime", lengths=lengths)
    for name, array in expected.items():
        np.testing.assert_array_equal(own[name], array)
    return network


def changed(network: Network, change: Callable[[Recurrent], Recurrent]) -> Network:
    return replace(network, layers=tuple(change(layer) for layer in network.recurrent))


# ---- directions, opsets, what is left out


@pytest.mark.parametrize("kind", OPS)
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("opset", [7, 14, 22])
def test_directions(kind: Any, direction: str, opset: int) -> None:
    network = agree(node_model(kind, direction, opset=opset))
    turned: dict[Any, Any] = {("forward",): ("backward",), ("backward",): ("forward",)}
    wrong = changed(
        network,
        lambda layer: (
            replace(layer, spec=replace(layer.spec, directions=turned[layer.spec.directions]))
            if not layer.bidirectional
            else replace(layer, weights=layer.weights[::-1])
        ),
    )
    model = node_model(kind, direction, opset=opset)
    feeds = feeds_of(model)
    assert largest(through(wrong, feeds, "reference"), raw(model, feeds)) > 1e-2


@pytest.mark.parametrize("kind", OPS)
def test_absent_inputs_and_outputs(kind: Any) -> None:
    for absent in (("B",), ("B", "Y"), ("Y_h",)):
        agree(node_model(kind, "bidirectional", states=False, absent=absent))


# ---- options of the cells


def _plain(layer: Recurrent) -> Recurrent:
    return replace(layer, cells=tuple(plain_cell(layer.spec.kind) for _ in layer.cells))


def _blind(layer: Recurrent) -> Recurrent:
    return replace(layer, weights=tuple(replace(weights, peepholes=None) for weights in layer.weights))


def _one_direction_for_both(layer: Recurrent) -> Recurrent:
    return replace(layer, cells=(layer.cells[0],) * len(layer.cells))


OPTIONS: dict[str, tuple[str, dict[str, Any], Callable[[Recurrent], Recurrent]]] = {
    "linear_before_reset=0": ("gru", {"linear_before_reset": 0}, _plain),
    "clip lstm": ("lstm", {"clip": 0.3}, _plain),
    "clip gru": ("gru", {"clip": 0.3, "linear_before_reset": 1}, _plain),
    "clip rnn": ("rnn", {"clip": 0.3}, _plain),
    "input_forget": ("lstm", {"input_forget": 1}, _plain),
    "peepholes": ("lstm", {"peepholes": True}, _blind),
    "peepholes and all": ("lstm", {"peepholes": True, "clip": 0.4, "input_forget": 1}, _plain),
    "relu": ("rnn", {"activations": ["Relu", "Relu"]}, _plain),
    "alpha and beta in order": (
        "lstm",
        {
            "activations": ["HardSigmoid", "LeakyRelu", "Elu", "Sigmoid", "Affine", "ScaledTanh"],
            "activation_alpha": [0.3, 0.25, 0.9, 0.7, 1.1],
            "activation_beta": [0.4, 0.1, 0.8],
        },
        _one_direction_for_both,
    ),
    "usual alpha and beta": (
        "gru",
        {"activations": ["HardSigmoid", "LeakyRelu", "HardSigmoid", "Elu"], "linear_before_reset": 1},
        _one_direction_for_both,
    ),
    "fewer than there are": (
        "gru",
        {"activations": ["HardSigmoid", "Elu", "Sigmoid", "LeakyRelu"], "activation_alpha": [0.3]},
        _one_direction_for_both,
    ),
    "softsign and softplus": ("gru", {"activations": ["Softsign", "Softplus", "Sigmoid", "Softsign"]}, _plain),
    "thresholded": ("rnn", {"activations": ["ThresholdedRelu", "Tanh"], "activation_alpha": [0.2]}, _plain),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options(name: str) -> None:
    kind, options, without = OPTIONS[name]
    model = node_model(kind, "bidirectional", **options)
    network = agree(model)
    assert network.recurrent[0].peculiarities
    feeds = feeds_of(model)
    assert largest(through(changed(network, without), feeds, "reference"), raw(model, feeds)) > 1e-3
    back = parity.read(parity.to_onnx(network)).recurrent[0]
    assert back.cells == network.recurrent[0].cells
    assert parity.compare(network, engines=["onnxruntime"]).ok


@pytest.mark.parametrize("kind", OPS)
def test_the_case_of_a_name_is_nothing(kind: Any) -> None:
    names = [
        [spell(str(row)) for row in ("HardSigmoid", "Softsign", "Tanh")[: len(SLOTS[kind])]]
        for spell in (str, str.lower)
    ]
    model, other = (
        node_model(kind, activations=one, linear_before_reset=1) if kind == "gru" else node_model(kind, activations=one)
        for one in names
    )
    feeds = feeds_of(model)
    assert largest(through(other, feeds, "onnxruntime"), raw(model, feeds)) == 0


def test_a_float32_parameter_is_the_number_it_stands_for() -> None:
    model = node_model("gru", activations=["HardSigmoid", "LeakyRelu"], activation_alpha=[1 / 6, 0.2])
    gate, candidate = parity.read(model).recurrent[0].cells[0].functions
    assert (gate.keras_name, candidate.keras_name) == ("hard_sigmoid", "leaky_relu")


@pytest.mark.parametrize("name", ["Affine", "ScaledTanh", "ThresholdedRelu"])
def test_a_function_that_two_readers_read_differently(name: str) -> None:
    model = node_model("rnn", activations=[name])
    with pytest.raises(parity.UnsupportedError, match=rf"{name} without its parameters[^$]*write activation_alpha"):
        parity.read(model)
    # The specification's own defaults would give something else than zeros.
    given = raw(model, feeds_of(model))["Y"]
    assert not given.any() or name == "ThresholdedRelu"


def test_other_activations_are_refused_all_at_once() -> None:
    with pytest.raises(parity.UnsupportedError) as caught:
        parity.read(node_model("gru", activations=["Swish", "Cube"]))
    assert [problem.got for problem in caught.value.problems] == ["Swish", "Cube"]
    with pytest.raises(parity.FormatError, match="another number of activations"):
        parity.read(node_model("gru", "bidirectional", activations=["Sigmoid", "Tanh"]))
    with pytest.raises(parity.UnsupportedError, match="more activation_beta than"):
        parity.read(node_model("rnn", activations=["Tanh"], activation_beta=[0.5]))


# ---- layout 1


@pytest.mark.parametrize("kind", OPS)
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("states", [True, False])
def test_layout_1(kind: Any, direction: str, states: bool) -> None:
    twin, model = (node_model(kind, direction, layout, 14, states=states) for layout in (0, 1))
    with pytest.raises(Exception, match=r"(?i)batchwise|layout"):
        raw(model, feeds_of(model))
    feeds = feeds_of(twin)
    expected = raw(twin, feeds)
    network = parity.read(model)
    assert network.bare
    assert network.details["input axes"] == "batch time"
    for engine in ("reference", "onnxruntime"):
        assert largest(through(model, feeds, engine), expected) < 2e-6
    initial = tuple(feeds[name] for name in ("initial_h", "initial_c") if name in feeds) or None
    result = parity.run(model, feeds["X"].swapaxes(0, 1), initial_state=initial)
    ((run),) = result.layers.values()
    sizes = {"batch": BATCH, "time": TIME, **network.recurrent[0].spec.sizes}
    assert [item.shape for item in result.returned] == [row.shape(sizes) for row in onnx_returns(kind, 1)]
    assert run.sequence is not None
    assert "rewritten" in result.settings["layout"]


# ---- lengths


@pytest.mark.parametrize("kind", OPS)
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("stored", [TensorProto.INT32, TensorProto.INT64])
def test_sequence_lens(kind: Any, direction: str, stored: int) -> None:
    model = node_model(kind, direction, lengths=stored)
    assert agree(model, LENGTHS).details["sequence_lens"] == "lengths"
    agree(model)
    feeds = feeds_of(model, LENGTHS)
    assert largest(through(model, feeds, "reference"), raw(model, feeds)) > 1e-2


@pytest.mark.parametrize("kind", OPS)
@pytest.mark.parametrize("lengths", [0, TensorProto.INT32])
def test_any_mask(kind: Any, lengths: int) -> None:
    """A mask with holes is what the valid steps alone would give, at their places."""
    model = node_model(kind, "bidirectional", lengths=lengths)
    feeds = feeds_of(model)
    result = parity.run(model, feeds["X"].swapaxes(0, 1), mask=SCATTERED)
    assert "moved to the front" in result.settings["mask"]
    ((run),) = result.layers.values()
    assert run.sequence is not None
    zeros = {name: np.zeros_like(value) for name, value in feeds.items() if name.startswith("initial")}
    alone = node_model(kind, "bidirectional")
    for row, valid in enumerate(SCATTERED):
        own = {name: value[:, row : row + 1] for name, value in {**zeros, "X": feeds["X"]}.items()}
        expected = raw(alone, {**own, "X": own["X"][valid]})
        found = {"Y": run.sequence[row, valid].swapaxes(0, 1)[None].transpose(2, 1, 0, 3)}
        found |= {
            f"Y_{state}": array[:, row : row + 1] for state, array in vars(run.final).items() if array is not None
        }
        assert largest(found, expected) < 2e-6
        assert not run.sequence[row, ~valid].any()
    assert parity.compare(model, engines=["onnxruntime"], mask=SCATTERED).ok


def test_the_state_of_a_row_without_steps_is_shown_as_it_is() -> None:
    model = node_model("lstm")
    lengths = [0, 3, 6, 1]
    feeds = feeds_of(model)
    own = through(model, feeds, "onnxruntime", lengths=lengths)
    assert not own["Y_h"][:, 0].any()
    assert not own["Y_c"][:, 0].any()
    np.testing.assert_array_equal(
        through(model, feeds, "reference", lengths=lengths)["Y_h"][0, 0], feeds["initial_h"][0, 0]
    )


def test_lengths_that_a_run_could_not_give_are_refused() -> None:
    model = node_model("gru", lengths=TensorProto.INT32)
    constant = numpy_helper.from_array(np.asarray(LENGTHS, np.int32), "lengths")
    model.graph.input.remove(next(item for item in model.graph.input if item.name == "lengths"))
    model.graph.initializer.append(constant)
    with pytest.raises(parity.UnsupportedError, match=r"sequence_lens that is not an input[^$]*a constant"):
        parity.read(model)


def test_nodes_of_different_lengths_are_a_graph() -> None:
    """As a chain every node takes the same lengths; as a graph each its own."""
    model = node_model("gru", lengths=TensorProto.INT32, absent=("Y_h",))
    more = [("Squeeze", ["Y", "axes"], ["rows"]), ("GRU", ["rows", "W2", "R"], ["Z"])]
    for op, inputs, outputs in more:
        options: dict[str, Any] = {"hidden_size": UNITS} if op == "GRU" else {}
        model.graph.node.append(helper.make_node(op, inputs, outputs, name=f"second {op}", **options))
    model.graph.initializer.append(numpy_helper.from_array(np.asarray([1], np.int64), "axes"))
    model.graph.initializer.append(numpy_helper.from_array(numbers(1, 3 * UNITS, UNITS), "W2"))
    model.graph.output[0].name = "Z"
    assert_whole(model, "different sequence_lens are not converted graph 'hand', node 'second GRU'")


# ---- initial states


@pytest.mark.parametrize("kind", OPS)
def test_a_built_in_state(kind: Any) -> None:
    """Zeros are what every framework starts from; anything else has to be handed over."""
    for value in (0.0, 0.5):
        model = node_model(kind)
        for item in [item for item in model.graph.input if item.name != "X"]:
            model.graph.input.remove(item)
            constant = np.full((1, BATCH, UNITS), value, np.float32)
            model.graph.initializer.append(numpy_helper.from_array(constant, item.name))
        if value:
            with pytest.raises(parity.UnsupportedError, match=r"built-in initial state[^$]*hand the state over"):
                parity.read(model)
        else:
            agree(model)


# ---- types


@pytest.mark.parametrize("kind", OPS)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_read_exactly(kind: Any, dtype: str) -> None:
    model = node_model(kind, "bidirectional", dtype=dtype, opset=22)
    network = parity.read(model)
    assert network.details["stored as"] == dtype
    stored = next(numpy_helper.to_array(t) for t in model.graph.initializer if t.name == "W")
    first = network.recurrent[0].weights[0].kernel
    letters = LAYOUTS["onnx", kind].gates
    own = stored[0].reshape(len(letters), UNITS, FEATURES)[letters.index(GATES[kind][0])]
    assert first.dtype == np.float32
    np.testing.assert_array_equal(first[0], own.astype(np.float32))
    result = parity.run(model, numbers(BATCH, TIME, FEATURES))
    assert result.settings["weights"] == f"run in float32, stored as {dtype}"
    assert parity.compare(model, engines=["onnxruntime"]).ok


@pytest.mark.parametrize("kind", OPS)
def test_float64(kind: Any) -> None:
    model = node_model(kind, dtype="float64")
    network = parity.read(model)
    assert network.recurrent[0].weights[0].kernel.dtype == np.float64
    assert parity.compare(model, engines=["onnxruntime"]).ok
    assert numpy_helper.to_array(parity.to_onnx(network).graph.initializer[0]).dtype == np.float32
    first = model.graph.initializer[0]
    first.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(first) / 3, first.name))
    with pytest.raises(parity.UnsupportedError, match="no float64 LSTM"):
        parity.run(model, numbers(BATCH, TIME, FEATURES))
    with pytest.raises(parity.UnsupportedError, match=r"'cell', forward\.kernel"):
        parity.to_onnx(parity.read(model))


@pytest.mark.parametrize(
    ("form", "value"), [("value_float", 0.25), ("value_floats", [0.25]), ("value_int", 0), ("value_ints", [0])]
)
def test_forms_of_constant(form: str, value: Any) -> None:
    """A constant is read in every form; here it is the index that picks a direction, or one that picks nothing."""
    model = node_model("gru", "bidirectional", states=False)
    graph = model.graph
    graph.node.append(helper.make_node("Constant", [], ["at"], **{form: value}))
    graph.node.append(helper.make_node("Gather", ["Y_h", "at"], ["picked"], axis=0, name="pick"))
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("picked", TensorProto.FLOAT, None))
    if form == "value_int":
        assert parity.read(model).outputs[0].value is not None
        assert parity.compare(model, engines=["onnxruntime"]).ok
    elif form == "value_ints":
        assert_whole(model, "neither an embedding nor the choice")
    else:
        with pytest.raises(parity.UnsupportedError, match=r"indices are no integers[^$]*node 'pick'"):
            parity.read(model)
