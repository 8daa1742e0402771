"""Layers and models in all directions: bit-exact round trips, the frameworks' own numbers, refusals by name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import parity
from tests.whole_checks import assert_whole

FEATURES, UNITS = 3, 5

CELLS: dict[str, Any] = {
    "lstm": (keras.layers.LSTM, torch.nn.LSTM),
    "gru": (keras.layers.GRU, torch.nn.GRU),
    "rnn": (keras.layers.SimpleRNN, torch.nn.RNN),
}


def filled(layer: Any, random: np.random.Generator) -> Any:
    """A built Keras layer or model with random weights and biases."""
    if not layer.built:
        layer.build((None, None, FEATURES))
    layer.set_weights([random.uniform(-0.7, 0.7, w.shape) for w in layer.get_weights()])
    return layer


def torch_module(kind: str, random: np.random.Generator, **options: Any) -> Any:
    """A torch layer with random weights and biases."""
    module = CELLS[kind][1](FEATURES, UNITS, **options)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.from_numpy(random.uniform(-0.7, 0.7, parameter.shape)))
    return module


def same(left: Any, right: Any) -> None:
    assert len(left) == len(right)
    for one, other in zip(left, right, strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


@pytest.mark.parametrize("kind", ["lstm", "gru"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("sequences", "state"), [(False, False), (True, False), (True, True)])
def test_keras_layer_there_and_back(
    kind: str, bidirectional: bool, bias: bool, sequences: bool, state: bool, random: np.random.Generator
) -> None:
    layer = CELLS[kind][0](UNITS, use_bias=bias, return_sequences=sequences, return_state=state)
    layer = filled(keras.layers.Bidirectional(layer) if bidirectional else layer, random)
    ported, exported = parity.to_torch(layer), parity.to_onnx(layer)
    assert type(ported) is CELLS[kind][1]
    assert ported.batch_first
    assert [node.op_type for node in exported.graph.node if node.op_type != "Identity"] == [kind.upper()]
    for source in (ported, exported):
        back = parity.to_keras(source)
        assert type(back) is type(layer)
        same(back.get_weights(), layer.get_weights())
    parity.assert_parity(layer, ported, exported, time=9)


@pytest.mark.parametrize("kind", ["lstm", "gru"])
@pytest.mark.parametrize(
    "options", [{}, {"bidirectional": True}, {"num_layers": 3, "bias": False}, {"num_layers": 2, "bidirectional": True}]
)
@pytest.mark.parametrize("batch_first", [False, True])
def test_torch_layer_there_and_back(
    kind: str, options: dict[str, Any], batch_first: bool, random: np.random.Generator
) -> None:
    module = torch_module(kind, random, batch_first=batch_first, **options)
    exported = parity.to_onnx(module)
    assert sum(node.op_type == kind.upper() for node in exported.graph.node) == module.num_layers
    same(
        [v.numpy() for v in parity.to_torch(exported).state_dict().values()],
        [v.numpy() for v in module.state_dict().values()],
    )
    converted = parity.to_keras(module)
    if kind == "gru":
        again = parity.to_torch(converted)
        ours = sorted(v.numpy().tobytes() for v in again.state_dict().values())
        assert ours == sorted(v.numpy().tobytes() for v in module.state_dict().values())
    parity.assert_parity(module, converted, exported, time=9)


def test_two_lstm_biases_become_their_sum_rounded_once(random: np.random.Generator) -> None:
    module = torch_module("lstm", random)
    (_, _, bias) = parity.to_keras(module).get_weights()
    exact = module.bias_ih_l0.detach().numpy().astype(np.float64) + module.bias_hh_l0.detach().numpy().astype(
        np.float64
    )
    np.testing.assert_array_equal(bias, exact.astype(np.float32))


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("kind", ["lstm", "gru"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("given_state", [False, True])
def test_single_onnx_node(
    kind: str, direction: str, bias: bool, given_state: bool, random: np.random.Generator
) -> None:
    count, gates, states = (
        (2 if direction == "bidirectional" else 1),
        (4 if kind == "lstm" else 3),
        (2 if kind == "lstm" else 1),
    )
    sizes = {"W": (count, gates * UNITS, FEATURES), "R": (count, gates * UNITS, UNITS), "B": (count, 2 * gates * UNITS)}
    constants = [
        onnx.numpy_helper.from_array(random.uniform(-0.7, 0.7, shape).astype(np.float32), name)
        for name, shape in sizes.items()
        if bias or name != "B"
    ]
    names = ["X", "W", "R", "B" if bias else "", "", *(["initial_h", "initial_c"][:states] if given_state else [])]
    attributes: dict[str, Any] = {"hidden_size": UNITS, "direction": direction} | (
        {"linear_before_reset": 1} if kind == "gru" else {}
    )
    outputs = ["Y", "Y_h", "Y_c"][: 1 + states]
    node = onnx.helper.make_node(kind.upper(), names, outputs, **attributes)
    tensor = onnx.helper.make_tensor_value_info
    inputs = [tensor("X", 1, [None, None, FEATURES]), *(tensor(name, 1, [count, None, UNITS]) for name in names[5:])]
    graph = onnx.helper.make_graph([node], "node", inputs, [tensor(name, 1, None) for name in outputs], constants)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 14)], ir_version=8)

    h_0 = [random.uniform(-1, 1, (1, count, 3, UNITS)) for _ in range(states)]
    comparison = parity.compare(model, initial_state=tuple(h_0), time=8)
    assert comparison.ok, str(comparison)
    assert set(comparison.participants) == {"keras", "torch", "onnxruntime"}
    written = parity.to_onnx(parity.read(model))
    same(
        [onnx.numpy_helper.to_array(t) for t in written.graph.initializer],
        [onnx.numpy_helper.to_array(t) for t in constants],
    )


def test_models_keep_their_outputs(random: np.random.Generator) -> None:
    tokens = keras.Input((None,), dtype="int32")
    embedded = keras.layers.Embedding(11, 4, name="embed")(tokens)
    sequence, h, c = keras.layers.LSTM(6, return_sequences=True, return_state=True, name="encoder")(embedded)
    both = keras.layers.Bidirectional(keras.layers.GRU(5), name="reader")(sequence)
    classes = keras.layers.Dense(3, activation="softmax", name="classes")(both)
    model = filled(keras.Model(tokens, [classes, h, c]), random)
    x = random.integers(0, 11, (4, 9))
    expected = [np.asarray(value) for value in model(x)]
    ported = parity.to_torch(model)
    with torch.no_grad():
        found = ported(torch.from_numpy(x))
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine.numpy(), theirs, atol=2e-6)
    kinds = {name: type(module) for name, module in ported.named_children()}
    assert kinds == {
        "embed": torch.nn.Embedding,
        "encoder": torch.nn.LSTM,
        "reader": torch.nn.GRU,
        "classes": torch.nn.Linear,
    }
    comparison = parity.compare(model, ported, parity.to_onnx(model), parity.to_keras(ported), inputs=x)
    assert comparison.ok, str(comparison)
    assert list(comparison.results["reference"].outputs) == ["classes", "encoder.state_h", "encoder.state_c"]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    kind=st.sampled_from(["lstm", "gru", "rnn"]),
    features=st.integers(1, 6),
    units=st.integers(1, 6),
    layers=st.integers(1, 3),
    bidirectional=st.booleans(),
    bias=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_stack_survives_onnx_and_back(
    kind: str, features: int, units: int, layers: int, bidirectional: bool, bias: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    module = CELLS[kind][1](features, units, layers, bias=bias, bidirectional=bidirectional)
    back = parity.to_torch(parity.to_onnx(module))
    same([v.numpy() for v in back.state_dict().values()], [v.numpy() for v in module.state_dict().values()])
    assert parity.compare(module, back, batch=2, time=5, seed=seed % 1000).ok


class OwnForward(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = torch.nn.LSTM(FEATURES, UNITS)


def _doubled(x: Any) -> Any:
    return 2 * x


def _masked_unrolled() -> Any:
    both = keras.layers.Bidirectional(keras.layers.LSTM(UNITS, unroll=True, return_sequences=True))
    return keras.Sequential([keras.Input((4, FEATURES)), keras.layers.Masking(), both])


REFUSED: list[tuple[Any, str]] = [
    (OwnForward, "OwnForward"),
    (lambda: torch.nn.Sequential(torch.nn.Embedding(9, 3, max_norm=1.0), torch.nn.GRU(FEATURES, UNITS)), "renorm"),
    (lambda: keras.layers.LSTM(UNITS, activation="softmax"), "activation"),
    (lambda: keras.layers.LSTM(UNITS, activation=_doubled), "activation"),
    (lambda: keras.layers.ConvLSTM1D(UNITS, 2), "ConvLSTM1D"),
    (_masked_unrolled, "unroll"),
]


@pytest.mark.parametrize(("make", "named"), REFUSED, ids=[named for _, named in REFUSED])
def test_refused_by_name(make: Any, named: str) -> None:
    source = make()
    if isinstance(source, keras.Layer) and not source.built:
        source.build((None, None, FEATURES))
    with pytest.raises(parity.UnsupportedError) as caught:
        parity.read(source)
    assert named in str(caught.value)
    assert caught.value.problems[0].remedy


def test_all_problems_of_an_onnx_graph_at_once() -> None:
    model = parity.to_onnx(torch.nn.GRU(FEATURES, UNITS))
    model.graph.node[0].attribute.append(onnx.helper.make_attribute("activations", ["Sigmoid", "Affine"]))
    model.graph.node.append(onnx.helper.make_node("Hardmax", ["Y"], ["Z"], name="curve"))
    with pytest.raises(parity.UnsupportedError) as caught:
        parity.read(model)
    text = str(caught.value)
    assert all(word in text for word in ("activation_alpha", "Hardmax", "node 'curve'"))


def test_a_layer_that_is_not_recurrent_is_a_whole_model() -> None:
    network = assert_whole(torch.nn.Linear(FEATURES, UNITS), "no recurrent layer")
    assert not network.recurrent
    with pytest.raises(parity.UnsupportedError, match="no recurrent layer"):
        network.whole()


def test_a_module_used_twice_is_two_layers(random: np.random.Generator) -> None:
    shared, act = torch.nn.Linear(FEATURES, FEATURES), torch.nn.ReLU()
    module = torch.nn.Sequential(shared, act, shared, act, torch_module("gru", random, batch_first=True))
    assert len(parity.read(module).layers) == 3
    x = torch.from_numpy(random.standard_normal((2, 6, FEATURES)).astype(np.float32))
    with torch.no_grad():
        assert abs(module(x)[0] - parity.to_torch(module)(x)[0]).max() < 1e-6
    assert parity.compare(module).ok


@pytest.mark.parametrize("cell", [keras.layers.LSTM, keras.layers.GRU])
def test_a_direction_without_bias(cell: Any, random: np.random.Generator) -> None:
    layer = keras.layers.Bidirectional(cell(UNITS), backward_layer=cell(UNITS, go_backwards=True, use_bias=False))
    parity.assert_parity(filled(layer, random))


def _pruned() -> Any:
    module = torch.nn.GRU(FEATURES, UNITS)
    module.register_forward_hook(lambda _, __, given: (given[0] * 2, given[1]))
    return module


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_pruned, "hooks"),
        (lambda: torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Softmax(dim=1), torch.nn.GRU(4, 5)), "Softmax"),
    ],
)
def test_what_changes_a_module_is_in_its_graph(make: Any, message: str) -> None:
    module = make()
    network = assert_whole(module, message)
    with pytest.raises(parity.UnsupportedError, match=message):
        network.whole()


@pytest.mark.parametrize(
    "module",
    [
        torch.nn.LSTM(FEATURES, UNITS, device="meta"),
        torch.nn.Sequential(torch.nn.LayerNorm(FEATURES), torch.nn.Linear(FEATURES, UNITS)).to("meta"),
    ],
    ids=["layer", "model"],
)
def test_weights_that_are_not_there_are_refused(module: Any) -> None:
    with pytest.raises(parity.UnsupportedError, match="meta device"):
        parity.read(module)


@pytest.mark.parametrize("framework", ["torch", "keras", "onnx"])
def test_every_layer_of_a_layer_by_itself(framework: str, random: np.random.Generator) -> None:
    """It takes and returns what its framework says: that is no whole model, and is not judged as one."""
    source = torch_module("lstm", random)
    layer = {"torch": lambda one: one, "keras": parity.to_keras, "onnx": parity.to_onnx}[framework](source)
    comparison = parity.compare(layer, layers=True)
    assert comparison.ok, str(comparison)
    model = torch.nn.Sequential(torch.nn.LayerNorm(FEATURES), source)
    with pytest.raises(parity.UnsupportedError, match=r"by themselves[^$]*recurrent\[k\]"):
        parity.compare(model, layer)


def test_a_written_module_in_half_precision_is_read(random: np.random.Generator) -> None:
    model = filled(keras.Sequential([keras.Input((None, FEATURES)), keras.layers.GRU(UNITS)]), random)
    written = parity.to_torch(model)
    assert parity.read(written).graph is written.parity_origin.graph
    rounded = parity.read(written.bfloat16()).recurrent[0].weights[0]
    own = parity.read(model).recurrent[0].weights[0]
    expected = torch.from_numpy(np.asarray(own.kernel)).bfloat16().float().numpy()
    np.testing.assert_array_equal(np.asarray(rounded.kernel), expected)
    assert np.any(expected != np.asarray(own.kernel))


NAMES = ["forward", "train", "outputs", "steps", "values", "title", "training", "type", "lstm.a", "lstm_a"]


def test_names_that_torch_has_taken() -> None:
    layers = [keras.layers.LSTM(3 + i, return_sequences=True, name=name) for i, name in enumerate(NAMES)]
    heads = [keras.layers.Dense(4, activation="relu", name="d"), keras.layers.Dense(2, name="d_activation")]
    parity.assert_parity(keras.Sequential([keras.Input((None, FEATURES)), *layers, *heads]), engines=["torch", "keras"])


def test_a_model_of_fixed_length(random: np.random.Generator) -> None:
    inputs = keras.Input((10, FEATURES))
    model = filled(keras.Model(inputs, keras.layers.Dense(2)(keras.layers.GRU(UNITS)(inputs))), random)
    comparison = parity.compare(model)
    assert comparison.ok
    assert np.asarray(comparison.inputs).shape[1] == 10
    with pytest.raises(parity.ShapeError, match="another number of steps"):
        parity.run(model, np.ones((2, 7, FEATURES)))


def test_the_user_s_own_layer_is_what_runs(random: np.random.Generator) -> None:
    for options in ({}, {"return_sequences": True}, {"return_state": True}):
        layer = filled(keras.layers.Bidirectional(keras.layers.LSTM(UNITS, **options)), random)
        assert parity.compare(layer, engines=["keras"]).ok
        own = layer.call
        for wrong in range(5 if options.get("return_state") else 1):

            def call(*args: Any, own: Any = own, wrong: int = wrong, **given: Any) -> Any:
                values = keras.tree.flatten(own(*args, **given))
                values[wrong] = values[wrong] * 2
                return values if len(values) > 1 else values[0]

            layer.call = call
            assert parity.compare(layer, engines=["keras"]).verdict == "disagree", (options, wrong)


def test_a_head_that_gives_zeros_is_said() -> None:
    heads = [keras.layers.LSTM(UNITS), keras.layers.Dense(2, activation="relu", name="head")]
    model = keras.Sequential([keras.Input((None, FEATURES)), *heads])
    model.layers[-1].set_weights([model.layers[-1].get_weights()[0], np.full(2, -9.0)])
    assert any("zero everywhere" in note for note in parity.compare(model, engines=["torch"]).notes)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_last_state_there_and_back_through_files(
    bidirectional: bool, tmp_path: Path, random: np.random.Generator
) -> None:
    cell = keras.layers.GRU(UNITS)
    layers = [keras.Input((None, FEATURES)), keras.layers.Bidirectional(cell) if bidirectional else cell]
    model = filled(keras.Sequential(layers), random)
    model.save(tmp_path / "a.keras")
    parity.convert(tmp_path / "a.keras", tmp_path / "a.onnx")
    parity.convert(tmp_path / "a.onnx", tmp_path / "b.keras")
    same(keras.models.load_model(tmp_path / "b.keras").get_weights(), model.get_weights())
    parity.assert_parity(tmp_path / "a.keras", tmp_path / "b.keras", tmp_path / "a.onnx")


# In a process of its own: torch refuses its older settings for good once the newer ones were used.
OWN_SETTINGS = """
import parity, torch
layer = torch.nn.GRU(3, 64)
torch.backends.fp32_precision = "tf32"
assert parity.compare(layer, engines=["torch"]).ok
assert torch.backends.fp32_precision == "tf32"
torch.set_default_dtype(torch.float64)
assert parity.compare(parity.read(layer), engines=["torch"]).ok
with torch.autocast("cpu"):
    assert parity.compare(layer, engines=["torch"]).ok
"""


def test_torch_s_own_settings_do_no_harm() -> None:
    done = subprocess.run([sys.executable, "-c", OWN_SETTINGS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def tanh(x: Any) -> Any:
    """Not the function its name says."""
    return keras.ops.tanh(x) * 0.9


def test_a_function_with_a_name_of_keras_is_not_taken_for_it() -> None:
    model = keras.Sequential([keras.Input((None, FEATURES)), keras.layers.GRU(UNITS, activation=tanh)])
    with pytest.raises(parity.UnsupportedError, match="a custom activation"):
        parity.read(model)


def test_unbuilt_layer_and_strangers() -> None:
    with pytest.raises(parity.ParityError, match="no weights yet"):
        parity.read(keras.layers.LSTM(UNITS))
    with pytest.raises(parity.ParityError, match="not something parity can read"):
        parity.read(object())


@pytest.mark.filterwarnings("ignore:.*does not support masking")  # Keras says so of its own model, called here directly
def test_a_masked_last_step_is_zero_in_every_engine_where_keras_says_so(random: np.random.Generator) -> None:
    """`zero_output_for_mask=True` without return_sequences, and a mask from outside: lengths alone cannot say it."""
    last = keras.layers.LSTM(UNITS, zero_output_for_mask=True, name="last")
    model = filled(keras.Sequential([keras.Input((None, FEATURES)), last, keras.layers.Dense(2)]), random)
    x = random.standard_normal((4, 6, FEATURES)).astype(np.float32)
    mask = np.array([[1, 1, 1, 1, 1, 1], [1, 1, 0, 0, 0, 0], [0, 1, 1, 0, 1, 0], [0, 0, 0, 1, 0, 1]], bool)
    comparison = parity.compare(model, inputs=x, mask=mask)
    assert comparison.ok, str(comparison)
    assert len(comparison.participants) == 3
    expected = np.asarray(model(x, mask=mask))
    for result in comparison.results.values():
        np.testing.assert_allclose(next(iter(result.outputs.values())), expected, atol=2e-6)


LOADS = """
import sys
import numpy as np
import parity.keras_layers
import keras
model = keras.saving.load_model(sys.argv[1])
np.save(sys.argv[3], np.asarray(model(np.load(sys.argv[2]))))
"""


def test_keras_opens_a_composed_model_in_a_process_of_its_own(tmp_path: Path, random: np.random.Generator) -> None:
    torch.manual_seed(2)
    projected = parity.to_keras(torch.nn.LSTM(FEATURES, UNITS, proj_size=2))
    inputs = keras.Input((None, FEATURES))
    model = keras.Model(inputs, keras.layers.Dense(2)(projected(inputs)[0]))
    model.save(tmp_path / "composed.keras")
    x = random.standard_normal((3, 7, FEATURES)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    files = [str(tmp_path / name) for name in ("composed.keras", "x.npy", "y.npy")]
    subprocess.run([sys.executable, "-c", LOADS, *files], check=True, capture_output=True)
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), np.asarray(model(x)), atol=1e-6)


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_a_port_that_lost_its_masking_does_not_agree_on_random_inputs(
    value: float, random: np.random.Generator
) -> None:
    masked = keras.Sequential([keras.Input((None, FEATURES)), keras.layers.Masking(value), keras.layers.LSTM(UNITS)])
    filled(masked, random)
    lost = keras.Sequential([keras.Input((None, FEATURES)), keras.layers.LSTM(UNITS)])
    lost.set_weights(masked.get_weights())
    assert parity.compare(masked, lost).verdict == "disagree"
    assert parity.compare(lost, masked).verdict == "disagree"
    whole = random.standard_normal((2, 5, FEATURES)).astype(np.float32)
    seen = parity.compare(masked, lost, inputs=whole)
    assert seen.ok
    assert any("no step was masked" in note for note in seen.notes)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_that_were_widened_are_said(dtype: torch.dtype) -> None:
    small = torch.nn.GRU(FEATURES, UNITS).to(dtype)
    name = str(dtype).removeprefix("torch.")
    assert any(name in note for note in parity.form_of(parity.to_keras(small)).notes)
    assert any(name in note for note in parity.compare(small, engines=["torch"]).notes)
    assert not parity.form_of(parity.to_keras(torch.nn.GRU(FEATURES, UNITS).double())).notes


def test_a_state_dict_of_an_rnn_says_what_was_assumed(tmp_path: Path) -> None:
    torch.save(torch.nn.RNN(FEATURES, UNITS, nonlinearity="relu").state_dict(), tmp_path / "relu.pt")
    assert any("tanh" in note for note in parity.form_of(parity.to_keras(tmp_path / "relu.pt")).notes)
    assert any("tanh" in note for note in parity.compare(tmp_path / "relu.pt", engines=["torch"]).notes)


@pytest.mark.filterwarnings("ignore:.*does not support masking")
def test_padding_behind_a_reversed_sequence_is_padding(random: np.random.Generator) -> None:
    def model(zeros: bool) -> Any:
        back = keras.layers.LSTM(UNITS, return_sequences=True, go_backwards=True, zero_output_for_mask=zeros)
        return keras.Sequential([keras.Input((None, FEATURES)), back, keras.layers.Dense(2)])

    first, second = filled(model(True), random), model(False)
    weights = first.get_weights()
    second.set_weights(weights)
    x, mask = random.standard_normal((2, 6, FEATURES)).astype(np.float32), [[0, 0, 1, 0, 1, 1], [1, 1, 1, 1, 0, 0]]
    comparison = parity.compare(first, second, inputs=x, mask=mask)
    assert comparison.ok, str(comparison)
    assert any("padding" in note for note in comparison.notes)
    weights[-2][0, 0] += 0.1
    second.set_weights(weights)
    assert parity.compare(first, second, inputs=x, mask=mask).verdict == "disagree"
