"""What to look out for: each rule has a network that it speaks of, and a twin of which it says nothing."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from parity.cautions import RULES, cautions
from parity.cautions.caution import Caution, Subject
from parity.cell import Cell, plain_cell
from parity.deferred import Deferred
from parity.errors import Problem
from parity.functions import Function
from parity.layouts import GATE_MEANINGS, GATES, LAYOUTS, Kind
from parity.network import Bidirectional, Dropout, Embedding, Masking, Network, Output, Recurrent
from parity.network.opaque import Opaque
from parity.recurrent import DIRECTIONS, RecurrentSpec, Weights

_RANDOM = np.random.default_rng(11)
_PARTIAL = (Problem("it is partial", "here"),)


def weights(spec: RecurrentSpec, biases: int = 1, dtype: str = "float32", **members: Any) -> Weights:
    """Random weights of one direction."""

    def drawn(name: str) -> Any:
        return _RANDOM.uniform(-0.7, 0.7, spec.shape(name)).astype(dtype)

    names = ["bias_input", "bias_recurrent"][:biases] + (["projection"] if spec.projection_size else [])
    return Weights(drawn("kernel"), drawn("recurrent"), **({name: drawn(name) for name in names} | members))


def layer(
    kind: Kind = "lstm",
    inputs: int = 3,
    units: int = 5,
    both: bool = False,
    biases: int = 1,
    dtype: str = "float32",
    cell: Cell | None = None,
    projection: int | None = None,
    directions: Any = None,
    **options: Any,
) -> Recurrent:
    """A recurrent layer of Keras's kind: one bias, all steps passed on."""
    spec = RecurrentSpec(kind, inputs, units, directions or (DIRECTIONS if both else DIRECTIONS[:1]), projection)
    own = tuple(weights(spec, biases, dtype) for _ in spec.directions)
    cells = (cell,) * len(own) if cell else ()
    return Recurrent(options.pop("name", kind), spec, own, cells=cells, **options)


def keras(*layers: Any, bare: bool = False, **more: Any) -> Network:
    """A model read from Keras."""
    outputs = () if bare or not layers else (Output("out", layers[-1].name),)
    problems = _PARTIAL if more.get("opaque") or not layers else ()
    return Network("m", layers, outputs, "keras", **({"problems": problems} | more))


def torch(*layers: Any, **more: Any) -> Network:
    """A state dict."""
    details = {"file": "torch state dict", **more.pop("details", {})}
    problems = _PARTIAL if more.get("opaque") or not layers else ()
    return Network("m", layers, (), "torch", details, **({"problems": problems} | more))


def onnx(*layers: Any, **details: str) -> Network:
    """A graph of bare nodes."""
    known = {"fixed_sizes": "fixed sizes"}
    return Network("m", layers, (), "onnxruntime", {known.get(key, key): text for key, text in details.items()})


def function(kind: Kind, slot: int, name: str, *parameters: float) -> Cell:
    """A plain cell but for one function."""
    plain = plain_cell(kind)
    own = Function(name, *parameters)
    return replace(plain, functions=(*plain.functions[:slot], own, *plain.functions[slot + 1 :]))


def opaque(class_name: str, name: str = "other", tensors: tuple[str, ...] = (), **facts: object) -> Opaque:
    """A layer that is not computed."""
    return Opaque(name, class_name, {key: np.ones(3, np.float32) for key in tensors}, facts)


def forget_at(value: float, deferred: bool = False) -> Recurrent:
    """An LSTM whose forget gate's biases lie around a value."""
    found = layer()
    own = found.weights[0]
    bias = np.asarray(own.bias_input)
    letter = next(letter for letter, words in GATE_MEANINGS["lstm"].items() if words == "forget gate")
    bias *= 0.1
    bias[GATES["lstm"].index(letter)] += value
    held: Any = Deferred(bias.shape, bias.dtype, lambda: bias) if deferred else bias
    return replace(found, weights=(own.with_held(bias_input=held),))


GRU_AFTER, GRU_BEFORE = layer("gru", biases=2), layer("gru", cell=replace(plain_cell("gru"), reset_after=False))
TABLE = np.ones((9, 3), np.float32)

CASES: dict[str, tuple[str, Network, Network]] = {
    "program": (
        "program",
        torch(layer(biases=2), problems=(Problem("it holds a program", "f.pt"),)),
        torch(layer(biases=2), problems=_PARTIAL),
    ),
    "exported_wrongly": ("P27", onnx(GRU_BEFORE, caution="GRU 'g' has linear_before_reset=0"), onnx(GRU_BEFORE)),
    "assumed": ("P46", keras(layer(), bare=True, details={"assumed": "tanh"}), keras(layer(), bare=True)),
    "old_keras": (
        "P46",
        keras(layer(), details={"producer": "Keras 2.5.0, tensorflow backend"}),
        keras(layer(), details={"keras_version": "3.15.1"}),
    ),
    "nonlinearity": ("P08", torch(layer("rnn"), details={"nonlinearity": "tanh"}), torch(layer("gru", biases=2))),
    "gru_reset_before": ("P01", keras(GRU_BEFORE), keras(GRU_AFTER)),
    "gru_reset_before, onnx": ("P01", onnx(GRU_BEFORE), onnx(GRU_BEFORE, caution="a mistake of the exporter")),
    "projection": ("P13", torch(layer(projection=2, biases=2)), torch(layer(biases=2))),
    "peepholes": (
        "P13",
        onnx(replace(layer(), weights=(weights(layer().spec, 2, peepholes=np.ones((3, 5), np.float32)),))),
        onnx(layer(biases=2)),
    ),
    "clip": ("P13", onnx(layer(cell=replace(plain_cell("lstm"), clip=3.0))), onnx(layer())),
    "input_forget": ("P13", onnx(layer(cell=replace(plain_cell("lstm"), input_forget=True))), onnx(layer())),
    "padded_rows": ("P19", keras(Masking("mask", 3), layer()), keras(layer())),
    "padded_rows, opaque": (
        "P19",
        keras(layer(), opaque=(opaque("Embedding", mask_zero=True),)),
        keras(layer(), opaque=(opaque("Embedding", mask_zero=False),)),
    ),
    "padded_rows, lengths": ("P19", onnx(layer(), sequence_lens="lens"), onnx(layer())),
    "padded_rows, lengths of a node": (
        "P19",
        Network("m", (layer(),), (), "onnxruntime", {"layer lstm": "it is given sequence_lens 'n'"}, problems=_PARTIAL),
        Network("m", (layer(),), (), "onnxruntime", {"layer lstm": "LSTM node"}, problems=_PARTIAL),
    ),
    "padded_directions": ("P20", keras(Masking("mask", 3), layer(both=True)), keras(Masking("mask", 3), layer())),
    "mask_by_value": ("P21", keras(Masking("mask", 3), layer()), keras(Embedding("e", TABLE, True), layer())),
    "mask_zero": ("P43", keras(Embedding("e", TABLE, True), layer()), keras(Embedding("e", TABLE), layer())),
    "gru_gate_order": ("P02", keras(GRU_AFTER), keras(layer())),
    "lstm_gate_order": ("P03", keras(layer()), keras(GRU_AFTER)),
    "go_backwards": (
        "P16",
        keras(layer(directions=DIRECTIONS[1:], reverse=True)),
        keras(layer(directions=DIRECTIONS[1:], reverse=True, return_sequences=False)),
    ),
    "go_backwards, aligned": ("P16", onnx(layer(directions=DIRECTIONS[1:])), onnx(layer())),
    "last_step_of_both": (
        "P14",
        keras(layer(both=True, return_sequences=False)),
        keras(layer(both=True, return_sequences=True)),
    ),
    "last_step_of_both, bare": ("P14", torch(layer(both=True)), torch(layer())),
    "merge_modes": ("P17", keras(layer(both=True, merge_mode="sum")), keras(layer(both=True))),
    "merge_modes, unlike": (
        "P17",
        keras(Bidirectional("b", (layer(name="f"),), (layer("gru", name="g", directions=DIRECTIONS[1:]),))),
        keras(layer(both=True)),
    ),
    "gru_biases": ("P05", keras(GRU_AFTER), keras(GRU_BEFORE)),
    "two_biases": ("P04", keras(layer()), keras(layer(biases=0))),
    "two_biases, torch": ("P04", torch(layer("rnn", biases=2)), torch(layer("rnn", biases=0))),
    "hard_sigmoid of Keras 2": (
        "P07",
        keras(layer(cell=function("lstm", 0, "hard_sigmoid", 0.2, 0.5))),
        keras(layer(cell=function("lstm", 0, "softsign"))),
    ),
    "hard_sigmoid of Keras 3": (
        "P07",
        keras(layer(cell=function("lstm", 0, "hard_sigmoid", 1 / 6, 0.5))),
        keras(layer()),
    ),
    "other_activations": (
        "P08",
        keras(layer(cell=function("lstm", 1, "relu"))),
        keras(layer(cell=function("lstm", 0, "hard_sigmoid", 0.2, 0.5))),
    ),
    "norms": (
        "P37",
        keras(layer(), opaque=(opaque("BatchNormalization", epsilon=1e-3),)),
        keras(layer(), opaque=(opaque("BatchNormalization", epsilon=1e-5),)),
    ),
    "norms, layer": (
        "P38",
        keras(layer(), opaque=(opaque("LayerNormalization"),)),
        replace(keras(layer(), opaque=(opaque("LayerNormalization"),)), origin="onnxruntime"),
    ),
    "norms, a state dict": (
        "P37",
        torch(layer(), opaque=(opaque("", tensors=("weight", "running_mean", "running_var")),)),
        torch(layer(), opaque=(opaque("", tensors=("weight", "bias")),)),
    ),
    "fixed_sizes": ("P28", onnx(layer(), fixed_sizes="x (4, 2, 3) float"), onnx(layer())),
    "layout_1": (
        "P29",
        Network("m", (layer(),), (), "onnxruntime", {"layer lstm": "LSTM node; layout=1 (batch first)"}),
        Network("m", (layer(),), (), "onnxruntime", {"layer lstm": "LSTM node"}),
    ),
    "cudnn": ("P09", keras(layer(biases=2)), torch(layer(biases=2))),
    "forget_bias": ("P06", keras(forget_at(1.0)), keras(forget_at(0.0))),
    "forget_bias, TensorFlow 1": (
        "P06",
        keras(opaque=(opaque("BasicLSTMCell or LSTMCell"),)),
        keras(opaque=(opaque("GRUCell"),)),
    ),
    "first_axis": ("P18", torch(layer()), torch(layer(single_step=True))),
    "stateful": ("P22", keras(layer(stateful=True)), keras(layer())),
    "initial_states": (
        "P24",
        Network("m", (layer(),), (), "onnxruntime", {"layer lstm": "it is given initial_h 'h', initial_c zeros"}),
        Network("m", (layer(),), (), "onnxruntime", {"layer lstm": "it is given initial_h zeros, initial_c zeros"}),
    ),
    "state_order": (
        "P23",
        keras(layer(both=True, return_state=True), bare=True),
        keras(layer(both=True), bare=True),
    ),
    "state_order, a cell": ("P23", torch(layer(single_step=True)), torch(layer("gru", single_step=True))),
    "state_order, TensorFlow 1": (
        "P23",
        keras(opaque=(replace(opaque("BasicLSTMCell or LSTMCell"), facts={"gates in the kernel": "input gate"}),)),
        keras(opaque=(opaque("LSTM"),)),
    ),
    "state_rows": ("P15", torch(layer(both=True)), torch(layer())),
    "flatten": ("P40", keras(layer(), opaque=(opaque("Flatten"),)), keras(layer(), opaque=(opaque("Add"),))),
    "same_padding": (
        "P39",
        keras(layer(), opaque=(opaque("Conv1D", padding="same", strides=[2]),)),
        keras(layer(), opaque=(opaque("Conv1D", padding="same", strides=[1]),)),
    ),
    "weight_norm": (
        "P44",
        torch(layer(), opaque=(opaque("", tensors=("weight_g", "weight_v")),)),
        torch(layer(), opaque=(opaque("", tensors=("weight",)),)),
    ),
    "weight_norm, parametrized": (
        "P44",
        torch(layer(), opaque=(opaque("", "conv.parametrizations.weight", ("original0", "original1")),)),
        torch(layer(), opaque=(opaque("", "conv.parametrizations.weight", ("original",)),)),
    ),
    "leaky_relu": (
        "P41",
        keras(layer(), opaque=(opaque("LeakyReLU", negative_slope=0.3),)),
        keras(layer(), opaque=(opaque("LeakyReLU", negative_slope=0.01),)),
    ),
    "dropout": ("P42", keras(layer(), Dropout("d", 5, 0.3)), keras(layer())),
    "dropout, inside": ("P42", keras(layer(recurrent_dropout=0.2)), keras(layer())),
    "square_kernels": ("P10", keras(layer(inputs=5)), keras(layer(inputs=4))),
    "small_numbers": ("P35", torch(layer(), details={"stored as": "bfloat16"}), torch(layer())),
    "double_numbers": ("P35", torch(layer(dtype="float64")), torch(layer())),
}


@pytest.mark.parametrize("name", CASES)
def test_a_caution_speaks_of_its_network_and_not_of_its_twin(name: str) -> None:
    pitfall, network, twin = CASES[name]
    assert pitfall in [caution.pitfall for caution in cautions(network)]
    unlike = set(cautions(network)) - set(cautions(twin))
    assert any(caution.pitfall == pitfall for caution in unlike)
    rule = next(rule for rule in RULES if rule.__name__ == _rule_of(name))
    spoken = [caution for caution in rule(Subject(twin)) if caution.pitfall == pitfall]
    assert not spoken, spoken


def _rule_of(name: str) -> str:
    first = name.partition(",")[0].partition(" ")[0]
    return "variants" if first in ("projection", "peepholes", "clip", "input_forget") else first


def test_the_group_order_of_hdf5_files_concerns_them_alone() -> None:
    network = keras(layer(), bare=True, details={"assumed": "tanh"})
    assert "P26" in [caution.pitfall for caution in cautions(network, ".h5")]
    assert "P26" not in [caution.pitfall for caution in cautions(network, ".npz")]
    assert "P26" not in [caution.pitfall for caution in cautions(keras(layer()), ".h5")]


def test_every_rule_has_its_case() -> None:
    spoken = {rule.__name__ for rule in RULES for _, network, _ in CASES.values() if list(rule(Subject(network)))}
    assert spoken == {rule.__name__ for rule in RULES} - {"alphabetical"}


def _all() -> list[tuple[Network, Caution]]:
    return [(network, caution) for _, network, _ in CASES.values() for caution in cautions(network, ".h5")]


def test_cautions_are_complete_and_say_which_layers() -> None:
    for network, caution in _all():
        assert caution.what
        assert not caution.what.endswith(".")
        assert caution.why.endswith(".")
        assert caution.remedy.endswith(".")
        assert re.fullmatch(r"P\d\d|program", caution.pitfall)
        names = {each.name for each in (*network.layers, *network.recurrent, *network.opaque)}
        assert set(caution.where) <= names
        assert not re.search(r"\bNone\b|[{}<>]|  |\.\.", str(caution).replace("...", "")), caution
        assert len(str(caution)) < 700


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_gate_orders_are_those_of_the_table(kind: Kind) -> None:
    network = keras(layer(kind))
    (caution,) = [one for one in cautions(network) if one.pitfall == {"lstm": "P03", "gru": "P02"}[kind]]
    for name, words in {"keras": "Keras", "torch": "torch", "onnx": "ONNX"}.items():
        assert f"{' '.join(LAYOUTS[name, kind].own_gates)} in {words}" in caution.why


def test_a_plain_layer_has_few_cautions() -> None:
    assert [one.pitfall for one in cautions(keras(layer()), ".keras")] == ["P03", "P04", "P18"]
    assert [one.pitfall for one in cautions(torch(layer(biases=2)), ".pt")] == ["P03", "P04", "P18"]
    assert [one.pitfall for one in cautions(keras(GRU_AFTER), ".keras")] == ["P02", "P05", "P18"]


def test_the_last_state_of_a_stack_is_that_of_its_last_layer() -> None:
    stack = [layer("gru", inputs, both=True, biases=2, name=f"gru_l{n}") for n, inputs in enumerate((3, 10, 10))]
    (caution,) = [one for one in cautions(torch(*stack)) if one.pitfall == "P14"]
    assert caution.where == ("gru_l2",)
    assert "h_n[4], h_n[5]" in caution.remedy
    (alone,) = [one for one in cautions(torch(stack[0])) if one.pitfall == "P14"]
    assert "h_n[0], h_n[1]" in alone.remedy


def test_nothing_is_read_that_stands_in_the_file() -> None:
    def read() -> Any:
        raise AssertionError("it was read")

    spec = RecurrentSpec("lstm", 4000, 3000)
    held = {name: Deferred(spec.shape(name), np.dtype("f4"), read) for name in ("kernel", "recurrent", "bias_input")}
    network = keras(Recurrent("lstm", spec, (Weights(**held),)))  # type: ignore[arg-type]
    assert [one.pitfall for one in cautions(network)] == ["P03", "P04", "P18"]


def test_the_age_of_a_file_is_told_from_its_producer() -> None:
    for producer, version in (
        ("Keras 2.1.5, tensorflow backend", (2, 1)),
        ("Keras 1.2.2", (1, 2)),
        ("pytorch 2.3.1", None),
    ):
        assert Subject(keras(layer(), details={"producer": producer})).keras_version == version
    assert Subject(torch(layer(), details={"producer": "Keras 2.1.5"})).keras_version is None


def test_a_program_may_say_what_the_weights_do_not() -> None:
    rnn = layer("rnn", biases=2)
    for options, words in (
        ("rnn: batch_first=True, nonlinearity=relu", "its program says relu"),
        ("", "tanh or relu?"),
        ("rnn: nonlinearity=tanh", None),
    ):
        network = torch(rnn, details={"nonlinearity": "tanh", **({"options": options} if options else {})})
        found = [one for one in cautions(network) if one.pitfall == "P08"]
        assert [one.what.startswith(str(words)) for one in found] == ([True] if words else [])
        (axes,) = [one for one in cautions(network) if one.pitfall == "P18"]
        assert ("Weights do not say it" in axes.why) is ("batch_first" not in options)
