"""What `explain` says is what the live frameworks return: every line and every expression it prints is run."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import parity
from parity.cli import main
from parity.conventions import MERGE_MODES, PADDING, MergeMode
from parity.correspondence import CALLS, Call
from parity.errors import ParityError
from parity.explaining import explain_layer, explain_network, explain_unlike, specs_of
from parity.layouts import KINDS, LAYOUTS, Kind
from parity.network import Bidirectional, Recurrent
from parity.recurrent import DIRECTIONS, Array, RecurrentSpec, Weights, pack
from parity.returns import Returns, shape_text
from tests.combinations import covering

BATCH, TIME, FEATURES, UNITS = 3, 7, 2, 5
LENGTHS = (4, 7, 2)
ATOL = 2e-6
KERAS: dict[Kind, Any] = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU, "rnn": keras.layers.SimpleRNN}
KERAS_CELLS: dict[Kind, Any] = {
    "lstm": keras.layers.LSTMCell,
    "gru": keras.layers.GRUCell,
    "rnn": keras.layers.SimpleRNNCell,
}
TORCH: dict[Kind, Any] = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn": torch.nn.RNN}
TORCH_CELLS: dict[Kind, Any] = {"lstm": torch.nn.LSTMCell, "gru": torch.nn.GRUCell, "rnn": torch.nn.RNNCell}
ONE_WAY = {"forward": DIRECTIONS[:1], "backward": DIRECTIONS[1:]}
Stack = list[tuple[RecurrentSpec, list[Weights]]]


# ---- the same weights in the three frameworks, by the tables that test_reference.py judges


def make_stack(random: np.random.Generator, specs: Sequence[RecurrentSpec]) -> Stack:
    """One bias, which every framework keeps as it is; two for a GRU."""

    def array(spec: RecurrentSpec, name: str) -> Array:
        return random.uniform(-0.8, 0.8, spec.shape(name)).astype(np.float32)

    def one(spec: RecurrentSpec) -> Weights:
        names = ["kernel", "recurrent", "bias_input", *(["bias_recurrent"] if spec.kind == "gru" else [])]
        members = {name: array(spec, name) for name in [*names, *(["projection"] if spec.projection_size else [])]}
        return Weights(**members)

    return [(spec, [one(spec) for _ in spec.directions]) for spec in specs]


def keras_arrays(stack: Stack) -> list[Array]:
    return [
        array
        for spec, weights in stack
        for one in weights
        for array in pack(LAYOUTS["keras", spec.kind], spec, [one]).values()
    ]


def filled(layer: Any, stack: Stack) -> Any:
    layer.build((None, None, stack[0][0].input_size))
    layer.set_weights(keras_arrays(stack))
    return layer


def torch_layer(stack: Stack) -> Any:
    first = stack[0][0]
    options: dict[str, Any] = {"num_layers": len(stack), "bidirectional": len(first.directions) == 2}
    if first.projection_size:
        options["proj_size"] = first.projection_size
    layer = TORCH[first.kind](first.input_size, first.hidden_size, batch_first=True, **options)
    state = {
        f"{name}_l{index}{suffix}": torch.from_numpy(array)
        for index, (spec, weights) in enumerate(stack)
        for one, suffix in zip(weights, ("", "_reverse"), strict=False)
        for name, array in pack(LAYOUTS["torch", spec.kind], spec, [one]).items()
    }
    layer.load_state_dict(state)
    return layer.requires_grad_(False)


def onnx_model(stack: Stack, inputs: Sequence[str] = (), **attributes: Any) -> onnx.ModelProto:
    """Nodes one after the other: Y of the last, the states of all along the first axis."""
    nodes, constants = [], [numpy_helper.from_array(np.array([0, 0, -1]), "joined")]
    states = list(stack[0][0].states)
    value = "X"
    for index, (spec, weights) in enumerate(stack):
        arrays = pack(LAYOUTS["onnx", spec.kind], spec, weights)
        constants += [numpy_helper.from_array(array, f"{name}{index}") for name, array in arrays.items()]
        taken = [value, *(f"{name}{index}" for name in ("W", "R", "B"))]
        taken += [
            name if name in inputs else "" for name in ("sequence_lens", *(f"initial_{state}" for state in states))
        ]
        names = {"forward": "forward", "backward": "reverse", "forward backward": "bidirectional"}
        options: dict[str, Any] = {"direction": names[" ".join(spec.directions)], "hidden_size": spec.hidden_size}
        if spec.kind == "gru":
            options["linear_before_reset"] = 1
        given = [f"Y.{index}", *(f"Y_{state}.{index}" for state in states)]
        nodes.append(helper.make_node(spec.kind.upper(), taken, given, **options, **attributes))
        nodes.append(helper.make_node("Transpose", [given[0]], [f"turned.{index}"], perm=[0, 2, 1, 3]))
        nodes.append(helper.make_node("Reshape", [f"turned.{index}", "joined"], [f"value.{index}"]))
        value = f"value.{index}"
    nodes.append(helper.make_node("Identity", [f"Y.{len(stack) - 1}"], ["Y"]))
    nodes += [
        helper.make_node("Concat", [f"Y_{state}.{index}" for index in range(len(stack))], [f"Y_{state}"], axis=0)
        for state in states
    ]
    entries = {"X": TensorProto.FLOAT, "sequence_lens": TensorProto.INT32}
    ranks = {"X": 3, "sequence_lens": 1, "initial_h": 3, "initial_c": 3}
    graph = helper.make_graph(
        nodes,
        "stack",
        [
            helper.make_tensor_value_info(name, entries.get(name, TensorProto.FLOAT), [None] * ranks[name])
            for name in ("X", *inputs)
        ],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * rank)
            for name, rank in (("Y", 4), *((f"Y_{state}", 3) for state in states))
        ],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)


def session(stack: Stack, inputs: Sequence[str] = ()) -> Any:
    return onnxruntime.InferenceSession(onnx_model(stack, inputs).SerializeToString())


# ---- running what is printed


def run_torch(explained: Returns, stack: Stack, x: Array, **names: Any) -> dict[str, Any]:
    """Run the printed lines; the names they leave behind."""
    packing = {name: getattr(torch.nn.utils.rnn, name) for name in ("pack_padded_sequence", "pad_packed_sequence")}
    names = {"layer": torch_layer(stack), "x": torch.from_numpy(x), "torch": torch, **packing, **names}
    with torch.no_grad():
        for line in explained.torch_call:
            exec(line, names)
    return names


def run_onnx(explained: Returns, stack: Stack, x: Array, inputs: Sequence[str] = (), **names: Any) -> dict[str, Any]:
    names = {"session": session(stack, inputs), "x": x, "np": np, **names}
    for line in explained.onnx_call:
        exec(line, names)
    return names


def check_values(explained: Returns, returned: Any, torch_names: dict[str, Any], onnx_names: dict[str, Any]) -> None:
    """Every expression against what Keras returned, and the printed structure against the real one."""
    arrays = [np.asarray(value) for value in keras.tree.flatten(returned)]
    assert [value.shape for value in explained.keras] == [array.shape for array in arrays]
    assert explained.shapes == structure(returned)
    for value, array in zip(explained.keras, arrays, strict=True):
        for expression, names in ((value.torch, torch_names), (value.onnx, onnx_names)):
            if names:
                found = np.asarray(eval(expression, names))
                np.testing.assert_allclose(found, array, rtol=0, atol=ATOL, err_msg=f"{value.name}: {expression}")
            assert array.std() > 0.01


def structure(returned: Any) -> str:
    """Shapes as nested as what Keras returned."""
    if isinstance(returned, (tuple, list)):
        return f"[{', '.join(map(structure, returned))}]"
    return shape_text(tuple(returned.shape))


def check_shapes(explained: Returns, torch_names: dict[str, Any], onnx_names: dict[str, Any]) -> None:
    """What torch and ONNX are said to return is what they returned."""
    for name, shape in explained.torch:
        value = torch_names["packed"].data if name == "output.data" else torch_names[name.rstrip("'")]
        expected = (sum(LENGTHS), *shape[1:]) if name == "output.data" else shape
        assert tuple(value.shape) == expected, name
    for name, shape in explained.onnx:
        assert onnx_names[name].shape == shape, name


def x_of(random: np.random.Generator, batch: int = BATCH) -> Array:
    return random.standard_normal((batch, TIME, FEATURES)).astype(np.float32)


WAYS: list[tuple[str, MergeMode | None]] = [
    ("forward", "concat"),
    ("backward", "concat"),
    *(("both", m) for m in MERGE_MODES),
]
COMBINATIONS = [
    (kind, sequences, state, way, merge, call)
    for kind, sequences, state, (way, merge), call in itertools.product(
        KINDS, (False, True), (False, True), WAYS, CALLS[:3]
    )
    if (call == "batched" or state) and (call, way) != ("packed", "backward")
]


@pytest.mark.parametrize(("kind", "sequences", "state", "way", "merge", "call"), covering(COMBINATIONS, 3))
def test_any_three_options_against_the_frameworks(
    kind: Kind,
    sequences: bool,
    state: bool,
    way: str,
    merge: MergeMode | None,
    call: Call,
    random: np.random.Generator,
) -> None:
    batch = 1 if call == "unbatched" else BATCH
    spec = RecurrentSpec(kind, FEATURES, UNITS, ONE_WAY.get(way, DIRECTIONS))
    explained = explain_layer(spec, sequences, state, merge, batch, TIME, call)
    stack, x = make_stack(random, [spec]), x_of(random, batch)
    zero = call == "packed" and sequences and way != "both"
    inner = KERAS[kind](
        UNITS,
        return_sequences=sequences,
        return_state=state,
        go_backwards=way == "backward",
        zero_output_for_mask=zero,
    )
    assert zero == ("zero_output_for_mask=True" in explained.layer)
    layer = filled(keras.layers.Bidirectional(inner, merge_mode=merge) if way == "both" else inner, stack)
    masked = {"mask": np.arange(TIME) < np.array(LENGTHS)[:, None]} if call == "packed" else {}
    torch_names = run_torch(explained, stack, x, lengths=torch.tensor(LENGTHS))
    inputs = ["sequence_lens"] if call == "packed" else []
    onnx_names = run_onnx(explained, stack, x, inputs, lengths=np.array(LENGTHS, np.int32))
    check_values(explained, layer(x, **masked), torch_names, onnx_names)
    check_shapes(explained, torch_names, onnx_names)


@pytest.mark.parametrize(
    ("kind", "sequences", "way", "call"),
    covering(itertools.product(KINDS, (False, True), ("forward", "backward"), CALLS[:3])),
)
def test_list_of_like_cells_is_one_torch_stack(
    kind: Kind, sequences: bool, way: str, call: Call, random: np.random.Generator
) -> None:
    specs = specs_of(kind, FEATURES, UNITS, num_layers=3, go_backwards=way == "backward")
    assert not isinstance(specs, RecurrentSpec)
    batch = 1 if call == "unbatched" else BATCH
    if (call, way) == ("packed", "backward"):
        with pytest.raises(ParityError, match="packed sequences run forward"):
            explain_layer(specs, call=call)
        return
    explained = explain_layer(specs, sequences, True, batch=batch, time=TIME, call=call)
    stack, x = make_stack(random, specs), x_of(random, batch)
    packed = call == "packed"
    options = {"go_backwards": way == "backward", "zero_output_for_mask": packed and sequences}
    cells = [KERAS_CELLS[kind](UNITS) for _ in specs]
    layer = filled(keras.layers.RNN(cells, return_sequences=sequences, return_state=True, **options), stack)
    returned = layer(x, mask=np.arange(TIME) < np.array(LENGTHS)[:, None]) if packed else layer(x)
    torch_names = run_torch(explained, stack, x, lengths=torch.tensor(LENGTHS))
    inputs = ["sequence_lens"] if packed else []
    onnx_names = run_onnx(explained, stack, x, inputs, lengths=np.array(LENGTHS, np.int32))
    check_values(explained, returned, torch_names, onnx_names)
    check_shapes(explained, torch_names, onnx_names)
    assert explained.rows == ("layer 0", "layer 1", "layer 2")


def listed(stack: Stack, x: Array) -> tuple[dict[str, Any], dict[str, Any]]:
    """Layers that are no single torch layer, one after the other: the lists that the expressions are over."""
    torch_names: dict[str, Any] = {"torch": torch, "h_n": [], "c_n": []}
    onnx_names: dict[str, Any] = {"np": np, "Y_h": [], "Y_c": []}
    value, steps = torch.from_numpy(x), x.transpose(1, 0, 2)
    for one in stack:
        backward = one[0].directions == ("backward",)
        given, states = torch_layer([one])(value.flip(1) if backward else value)
        value = given.flip(1) if backward else given
        h, c = states if one[0].kind == "lstm" else (states, None)
        torch_names["h_n"].append(h)
        torch_names["c_n"].append(c)
        y, y_h, *y_c = session([one]).run(None, {"X": steps})
        steps = y.transpose(0, 2, 1, 3).reshape(*y.shape[:1], y.shape[2], -1)
        onnx_names["Y_h"].append(y_h)
        onnx_names["Y_c"].append(y_c[0] if y_c else None)
        onnx_names["Y"] = y
    torch_names["output"] = value
    return torch_names, onnx_names


@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("way", ["forward", "backward"])
@pytest.mark.parametrize("kinds", [("lstm", "gru"), ("rnn", "lstm", "gru"), ("lstm",)])
def test_list_of_unlike_cells(kinds: tuple[Kind, ...], sequences: bool, way: str, random: np.random.Generator) -> None:
    sizes = [FEATURES, *(UNITS + index for index in range(len(kinds)))]
    specs = [
        RecurrentSpec(kind, given, units, ONE_WAY[way])
        for kind, (given, units) in zip(kinds, itertools.pairwise(sizes), strict=True)
    ]
    stack, x = make_stack(random, specs), x_of(random)
    cells = [KERAS_CELLS[spec.kind](spec.hidden_size) for spec in specs]
    options = {"return_sequences": sequences, "return_state": True, "go_backwards": way == "backward"}
    layer = filled(keras.layers.RNN(cells, **options), stack)
    explained = explain_layer(specs, sequences, True, batch=BATCH, time=TIME)
    torch_names, onnx_names = listed(stack, x)
    if len(kinds) == 1:
        torch_names, onnx_names = run_torch(explained, stack, x), run_onnx(explained, stack, x)
    check_values(explained, layer(x), torch_names, onnx_names)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("alike", [False, True])
def test_stacked_bidirectional_layers(kind: Kind, sequences: bool, alike: bool, random: np.random.Generator) -> None:
    second = UNITS if alike else UNITS + 1
    specs = [
        RecurrentSpec(kind, FEATURES, UNITS, DIRECTIONS),
        RecurrentSpec(kind, 2 * UNITS, second, DIRECTIONS),
    ]
    stack, x = make_stack(random, specs), x_of(random)
    value: Any = x
    states: list[Any] = []
    for one, steps in zip(stack, (True, sequences), strict=True):
        inner = KERAS[kind](one[0].hidden_size, return_sequences=steps, return_state=True)
        value, *more = filled(keras.layers.Bidirectional(inner), [one])(value)
        states += more
    explained = explain_layer(specs, sequences, True, batch=BATCH, time=TIME)
    if alike:
        names = run_torch(explained, stack, x), run_onnx(explained, stack, x)
        check_shapes(explained, *names)
        rows = ("layer 0, forward", "layer 0, backward", "layer 1, forward", "layer 1, backward")
        assert explained.rows == rows
    else:
        names = listed(stack, x)
        assert explained.rows == ()
    check_values(explained, (value, *states), *names)


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported")
@pytest.mark.parametrize("way", ["forward", "backward", "both"])
@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("call", CALLS[:2])
def test_projection(way: str, sequences: bool, call: Call, random: np.random.Generator) -> None:
    """Keras has none; its LSTM of h before the projection, projected afterwards, gives the same numbers."""
    batch, small = (1 if call == "unbatched" else BATCH), 3
    spec = RecurrentSpec("lstm", FEATURES, UNITS, ONE_WAY.get(way, DIRECTIONS), small)
    stack, x = make_stack(random, [spec]), x_of(random, batch)
    whole = [replace(w, recurrent=w.recurrent @ w.projection, projection=None) for w in stack[0][1]]
    plain: Stack = [(replace(spec, projection_size=None), whole)]
    inner = keras.layers.LSTM(UNITS, return_sequences=sequences, return_state=True, go_backwards=way == "backward")
    both = way == "both"
    layer = filled(keras.layers.Bidirectional(inner, merge_mode=None) if both else inner, plain)
    values = [np.asarray(value) for value in layer(x)]
    matrices = [np.asarray(weights.projection).T for weights in stack[0][1]]
    outputs = [value @ matrix for value, matrix in zip(values, matrices, strict=False)]
    states = values[len(matrices) :]
    projected = [value @ matrices[index // 2] if index % 2 == 0 else value for index, value in enumerate(states)]
    explained = explain_layer(spec, sequences, True, batch=batch, time=TIME, call=call)
    names = run_torch(explained, stack, x)
    check_values(explained, (np.concatenate(outputs, axis=-1), *projected), names, {})
    check_shapes(explained, names, {})
    assert not explained.onnx
    assert not explained.onnx_call
    assert all(value.onnx == "" for value in explained.keras)


@pytest.mark.parametrize("kind", KINDS)
def test_single_step(kind: Kind, random: np.random.Generator) -> None:
    spec = RecurrentSpec(kind, FEATURES, UNITS)
    stack, x = make_stack(random, [spec]), x_of(random)[:, 0]
    given = {name: random.standard_normal((BATCH, UNITS)).astype(np.float32) for name in spec.states}
    cell = KERAS_CELLS[kind](UNITS)
    cell.build((None, FEATURES))
    cell.set_weights(keras_arrays(stack))
    explained = explain_layer(spec, return_state=True, batch=BATCH, call="single step")
    twin = TORCH_CELLS[kind](FEATURES, UNITS).requires_grad_(False)
    arrays = pack(LAYOUTS["torch", kind], spec, stack[0][1])
    twin.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    torch_names = run_torch(explained, stack, x, cell=twin, **{n: torch.from_numpy(s) for n, s in given.items()})
    inputs = [f"initial_{name}" for name in spec.states]
    onnx_names = run_onnx(explained, stack, x, inputs, **given)
    check_values(explained, cell(x, list(given.values())), torch_names, onnx_names)
    check_shapes(explained, torch_names, onnx_names)


@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("merge", MERGE_MODES)
@pytest.mark.parametrize("kinds", [("lstm", "gru"), ("rnn", "lstm")])
def test_two_unlike_directions(
    kinds: tuple[Kind, Kind], merge: MergeMode | None, sequences: bool, random: np.random.Generator
) -> None:
    units = (UNITS, UNITS + 1) if merge in ("concat", None) else (UNITS, UNITS)
    specs = [
        RecurrentSpec(kind, FEATURES, size, ONE_WAY[way])
        for kind, size, way in zip(kinds, units, DIRECTIONS, strict=True)
    ]
    stack, x = make_stack(random, specs), x_of(random)
    layers = [
        KERAS[spec.kind](
            spec.hidden_size, return_sequences=sequences, return_state=True, go_backwards=way == "backward"
        )
        for spec, way in zip(specs, DIRECTIONS, strict=True)
    ]
    live = filled(keras.layers.Bidirectional(layers[0], backward_layer=layers[1], merge_mode=merge), stack)
    forward, backward = (
        (Recurrent(way, spec, tuple(weights), sequences),)
        for way, (spec, weights) in zip(DIRECTIONS, stack, strict=True)
    )
    explained = explain_unlike(Bidirectional("both", forward, backward, merge, return_state=True), BATCH, TIME)
    torch_names: dict[str, Any] = {"torch": torch, "output": [], "h_n": [], "c_n": []}
    onnx_names: dict[str, Any] = {"np": np, "Y": [], "Y_h": [], "Y_c": []}
    for one in stack:
        for names, found in zip((torch_names, onnx_names), listed([one], x), strict=True):
            for name in names.keys() - {"torch", "np"}:
                names[name] += found[name] if isinstance(found[name], list) else [found[name]]
    check_values(explained, live(x), torch_names, onnx_names)


# ---- the other ways to call


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("layers", "bidirectional"), [(1, False), (1, True), (2, False), (2, True)])
@pytest.mark.parametrize("projection", [None, 3])
def test_other_ways_to_call_torch(
    kind: Kind, layers: int, bidirectional: bool, projection: int | None, random: np.random.Generator
) -> None:
    if projection and kind != "lstm":
        with pytest.raises(ParityError, match="projection"):
            explain_layer(specs_of(kind, FEATURES, UNITS, layers, bidirectional, projection=projection))
        return
    specs = specs_of(kind, FEATURES, UNITS, layers, bidirectional, projection=projection)
    stack = make_stack(random, [specs] if isinstance(specs, RecurrentSpec) else specs)
    ways = {way.call: way for way in explain_layer(specs, batch=BATCH, time=TIME).ways if way.framework == "torch"}
    layer, x = torch_layer(stack), torch.from_numpy(x_of(random))

    def shapes(returned: Any) -> list[tuple[int, ...]]:
        return [tuple(value.shape) for value in keras.tree.flatten(returned)]

    def said(call: str) -> list[tuple[int | str, ...]]:
        return [tuple(sum(LENGTHS) if n == "valid steps" else n for n in shape) for _, shape in ways.pop(call).values]

    packed, states = layer(
        torch.nn.utils.rnn.pack_padded_sequence(x, torch.tensor(LENGTHS), batch_first=True, enforce_sorted=False)
    )
    assert said("PackedSequence") == shapes((packed.data, states))
    assert said("(time, features), one sample") == shapes(layer(x[0]))
    layer.batch_first = False
    assert said("batch_first=False") == shapes(layer(x.transpose(0, 1)))
    if layers == 1 and not bidirectional and not projection:
        cell = TORCH_CELLS[kind](FEATURES, UNITS)
        assert said(f"{kind.upper()}Cell, one step") == shapes(cell(x[:, 0]))
    assert not ways


@pytest.mark.parametrize("kind", KINDS)
def test_onnx_layout_1(kind: Kind, random: np.random.Generator) -> None:
    """ONNX's own reference implementation shows the shapes; ONNX Runtime refuses."""
    spec = RecurrentSpec(kind, FEATURES, UNITS)
    arrays = pack(LAYOUTS["onnx", kind], spec, make_stack(random, [spec])[0][1])
    outputs = ["Y", *(f"Y_{state}" for state in spec.states)]
    node = helper.make_node(kind.upper(), ["X", *arrays], outputs, hidden_size=UNITS, layout=1)
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("X", *outputs)]
    constants = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    graph = helper.make_graph([node], "layout", values[:1], values[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    found = ReferenceEvaluator(model).run(None, {"X": x_of(random)})
    (way,) = [way for way in explain_layer(spec, batch=BATCH, time=TIME).ways if way.framework == "onnx"]
    assert [np.shape(array) for array in found] == [shape for _, shape in way.values]
    assert way.note == "ONNX Runtime refuses it"
    with pytest.raises(Exception, match=r"(?i)layout"):
        onnxruntime.InferenceSession(model.SerializeToString())


# ---- what people ask


def test_a_wrong_place_would_be_noticed(random: np.random.Generator) -> None:
    spec = RecurrentSpec("lstm", FEATURES, UNITS, DIRECTIONS)
    stack, x = make_stack(random, [spec]), x_of(random)
    layer = filled(keras.layers.Bidirectional(keras.layers.LSTM(UNITS)), stack)
    names = run_torch(explain_layer(spec), stack, x)
    assert np.abs(np.asarray(layer(x)) - names["output"][:, -1].numpy()).max() > 0.05


def test_a_missing_flip_would_be_noticed(random: np.random.Generator) -> None:
    spec = RecurrentSpec("gru", FEATURES, UNITS, ("backward",))
    stack, x = make_stack(random, [spec]), x_of(random)
    layer = filled(keras.layers.GRU(UNITS, go_backwards=True, return_sequences=True), stack)
    names = run_torch(explain_layer(spec, True), stack, x)
    assert np.abs(np.asarray(layer(x)) - names["output"].numpy()).max() > 0.05


@pytest.mark.parametrize(
    ("sequences", "state", "shapes"),
    [
        (False, False, "(32, 64)"),
        (True, False, "(32, 10, 64)"),
        (True, True, "[(32, 10, 64), (32, 64), (32, 64)]"),
    ],
)
def test_the_three_shapes_people_ask_about(sequences: bool, state: bool, shapes: str) -> None:
    assert explain_layer(RecurrentSpec("lstm", 20, 64), sequences, state, batch=32, time=10).shapes == shapes


@pytest.mark.parametrize("backward", [False, True])
def test_the_last_state_equals_the_last_step(backward: bool, random: np.random.Generator) -> None:
    spec = RecurrentSpec("lstm", FEATURES, UNITS, ONE_WAY["backward" if backward else "forward"])
    options = {"return_sequences": True, "return_state": True, "go_backwards": backward}
    layer = filled(keras.layers.LSTM(UNITS, **options), make_stack(random, [spec]))
    sequence, h, _ = layer(x_of(random))
    np.testing.assert_array_equal(np.asarray(sequence)[:, -1], np.asarray(h))
    assert "state_h equals the last step of the first value" in explain_layer(spec, True, True).notes[0]


def test_where_steps_are_padded_the_last_state_is_not_the_last_step(random: np.random.Generator) -> None:
    spec = RecurrentSpec("lstm", FEATURES, UNITS)
    options = {"return_sequences": True, "return_state": True, "zero_output_for_mask": True}
    layer = filled(keras.layers.LSTM(UNITS, **options), make_stack(random, [spec]))
    mask = np.arange(TIME) < np.array(LENGTHS)[:, None]
    sequence, h, _ = (np.asarray(value) for value in layer(x_of(random), mask=mask))
    np.testing.assert_array_equal(sequence[np.arange(BATCH), np.array(LENGTHS) - 1], h)
    short = np.array(LENGTHS) < TIME
    assert not sequence[short, -1].any()
    assert (np.abs(h[short]) > 1e-3).any(axis=1).all()
    note = explain_layer(spec, True, True, call="packed").notes[0]
    assert note.startswith(
        "state_h equals the first value at each sample's last valid step (its last step, [:, -1], is 0"
    )
    assert "state_h equals the first value;" in explain_layer(spec, False, True, call="packed").notes[0]


def converted(explained: Returns) -> list[str]:
    return [note for note in explained.notes if "parity.to_torch" in note]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize(("way", "merge"), WAYS)
def test_what_a_conversion_returns_is_told_where_it_is_no_plain_layer(
    kind: Kind, sequences: bool, way: str, merge: MergeMode | None, random: np.random.Generator
) -> None:
    spec = RecurrentSpec(kind, FEATURES, UNITS, ONE_WAY.get(way, DIRECTIONS))
    inner = KERAS[kind](UNITS, return_sequences=sequences, go_backwards=way == "backward")
    own = keras.layers.Bidirectional(inner, merge_mode=merge) if way == "both" else inner
    layer, x = filled(own, make_stack(random, [spec])), x_of(random)
    notes = converted(explain_layer(spec, sequences, merge_mode=merge))
    assert len(notes) == (way == "backward" or merge != "concat")
    if not notes:
        assert type(parity.to_torch(layer)) is TORCH[kind]
        return
    with torch.no_grad():
        output, states = parity.to_torch(layer)(torch.from_numpy(x))
    if "has Keras's value in h_n" in notes[0]:
        output = (states[0] if kind == "lstm" else states)[0]
    given, expected = keras.tree.flatten(output), keras.tree.flatten(layer(x))
    assert len(given) == len(expected) == (2 if "one output for each direction" in notes[0] else 1)
    for found, value in zip(given, expected, strict=True):
        np.testing.assert_allclose(np.asarray(found), np.asarray(value), rtol=0, atol=ATOL)


def test_there_is_nothing_to_convert_where_keras_has_no_such_layer() -> None:
    assert not converted(explain_layer(RecurrentSpec("lstm", 2, 5, ("backward",), 3), True))
    stack = specs_of("gru", 2, 5, num_layers=2, go_backwards=True)
    assert len(converted(explain_layer(stack, True))) == 1


def test_explain_takes_live_layers_as_they_are() -> None:
    inner = keras.layers.LSTM(UNITS, dropout=0.2, return_state=True)
    explained = parity.explain(keras.layers.Bidirectional(inner, merge_mode="sum"))
    assert explained.shapes == f"[{', '.join([f'(batch, {UNITS})'] * 5)}]"
    assert explained.keras[0].torch == "h_n[0] + h_n[1]"
    assert parity.explain(keras.layers.LSTM(64)).shapes == "(batch, 64)"
    backwards = parity.explain(keras.layers.SimpleRNN(64, go_backwards=True, return_sequences=True))
    assert backwards.keras[0].torch == "output.flip(1)"
    cells = [keras.layers.LSTMCell(UNITS), keras.layers.GRUCell(4)]
    nested = parity.explain(keras.layers.RNN(cells, return_state=True))
    assert nested.shapes == f"[(batch, 4), [(batch, {UNITS}), (batch, {UNITS})], [(batch, 4)]]"
    assert nested.places == ("[0]", "[1][0]", "[1][1]", "[2][0]")
    assert parity.explain(keras.layers.GRUCell(UNITS)).keras[0].torch == "h"


def test_explain_takes_a_stack_as_a_whole() -> None:
    explained = parity.explain(torch.nn.LSTM(FEATURES, UNITS, num_layers=2, bidirectional=True))
    assert explained.keras[-1].torch == "c_n[3]"
    assert explained.rows[3] == "layer 1, backward"
    assert "RNN([GRUCell(5), GRUCell(5)]" in parity.explain(torch.nn.GRU(FEATURES, UNITS, num_layers=2)).layer


def test_explain_asks_which_of_several_layers() -> None:
    layers = [keras.Input((None, FEATURES)), keras.layers.LSTM(UNITS, return_sequences=True), keras.layers.GRU(4)]
    with pytest.raises(parity.UnsupportedError, match="several recurrent layers"):
        parity.explain(keras.Sequential(layers))


def test_printed_for_people() -> None:
    explained = explain_layer(RecurrentSpec("lstm", 20, 64), True, True, batch=32, time=10)
    text = str(explained)
    assert max(map(len, text.splitlines())) < 140
    assert len(text.splitlines()) < 40
    for row in PADDING:
        assert any(line.startswith(f"  {row.engine} ") and f"  {row.call}  " in line for line in text.splitlines())
    head, *lines = text.splitlines()[2:6]
    assert {line.index(" Y") + 1 for line in lines} == {head.index("in ONNX")}
    assert str(explain_layer(RecurrentSpec("lstm", 20, 64), call="single step")).count("padded") == 0


def test_drawn_in_notebooks() -> None:
    page = explain_layer(specs_of("gru", 20, 64, 2, bidirectional=True), True, True)._repr_html_()
    assert page.count("<table>") == page.count("</table>") == 4
    assert "layer 1, backward" in page
    assert "h&#x27;" not in page
    assert "PackedSequence" in page


BAD: dict[str, tuple[Callable[[], object], str]] = {
    "merge mode": (lambda: explain_layer(RecurrentSpec("gru", 2, 3, DIRECTIONS), merge_mode="max"), "merge_mode"),  # type: ignore[arg-type]
    "merged stack": (lambda: explain_layer(specs_of("gru", 2, 3, 2, True), merge_mode="sum"), "merge_mode of a stack"),
    "wide projection": (lambda: explain_layer(specs_of("lstm", 2, 3, projection=3)), "projection"),
    "both backwards": (lambda: specs_of("lstm", 2, 3, bidirectional=True, go_backwards=True), "backwards"),
    "samples": (lambda: explain_layer(specs_of("gru", 2, 3), batch=4, call="unbatched"), "one sample"),
    "packed": (lambda: explain_layer(specs_of("gru", 2, 3, go_backwards=True), call="packed"), "packed"),
    "steps of a cell": (lambda: explain_layer(specs_of("gru", 2, 3), True, call="single step"), "one step"),
    "projected cell": (lambda: explain_layer(specs_of("lstm", 2, 3, projection=2), call="single step"), "LSTMCell"),
    "directions": (
        lambda: explain_layer([RecurrentSpec("gru", 2, 3), RecurrentSpec("gru", 3, 3, DIRECTIONS)]),
        "different directions",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_had_together(name: str) -> None:
    ask, words = BAD[name]
    with pytest.raises(ParityError, match=words):
        ask()


def test_all_problems_at_once() -> None:
    specs = specs_of("gru", 2, 3, 2, projection=2)
    with pytest.raises(ParityError) as caught:
        explain_layer(specs, merge_mode="sum", batch=2, call="unbatched")
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ("rnn --units 5 --return-sequences --go-backwards", "output.flip(1)"),
        ("lstm --num-layers 2 --bidirectional --return-state", "layer 1, backward"),
        ("lstm --units 5 --proj-size 3 --return-state", "(batch, 3), (batch, 5)"),
        ("gru --packed --return-sequences", "pad_packed_sequence"),
        ("gru --unbatched --return-sequences", "output[None]"),
        ("lstm --cell", "LSTMCell(64) returns 3 values: [(batch, 64), [(batch, 64), (batch, 64)]]"),
        ("gru --bidirectional --merge-mode ave", "(h_n[0] + h_n[1]) / 2"),
    ],
)
def test_command_line(options: str, found: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["explain", "--layer", *options.split()])
    assert not ended.value.code
    assert found in capsys.readouterr().out


FLAGS = ("--bidirectional", "--go-backwards", "--return-sequences", "--packed", "--unbatched", "--cell")


def test_no_combination_of_options_gives_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    ends = set()
    for count in range(3):
        for flags in itertools.combinations(FLAGS, count):
            for more in ([], ["--num-layers", "2"], ["--proj-size", "3"], ["--merge-mode", "none", "--batch", "4"]):
                with pytest.raises(SystemExit) as ended:
                    main(["explain", "--layer", "lstm", *flags, *more])
                captured = capsys.readouterr()
                ends.add(ended.value.code)
                assert ended.value.code in (0, 2)
                assert bool(captured.out) == (ended.value.code == 0)
                assert captured.err.startswith("parity: ") == (ended.value.code == 2)
    assert ends == {0, 2}


def test_layers_that_are_not_known_to_be_a_stack_are_explained_one_by_one(tmp_path: Path) -> None:
    modules = {"one": torch.nn.GRU(3, 4), "two": torch.nn.GRU(4, 4)}
    torch.save(torch.nn.ModuleDict(modules).state_dict(), tmp_path / "parts.pt")
    network = parity.read(tmp_path / "parts.pt")
    assert [returns.layer for returns in explain_network(network)] == [
        "GRU(4, return_sequences=True, return_state=True)"
    ] * 2
    with pytest.raises(parity.UnsupportedError, match="which one"):
        parity.explain(tmp_path / "parts.pt")
