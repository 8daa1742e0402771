"""Mistakes in weights, biases and cells, made by hand in modules of torch and layers of Keras: each is named, with its place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import pytest
import torch

from parity.cell import Cell, plain_cell
from parity.diagnosis import Diagnosis, Fault, diagnose
from parity.diagnosis.blindness import blindness, invisible
from parity.diagnosis.case import Case, chain_case
from parity.diagnosis.faults import biases, cells, forget, matrices, placing, resets
from parity.diagnosis.repair import OptionRepair, SwapRepair, WeightRepair, mended
from parity.diagnosis.replay import outputs_of, replayed, stage_of
from parity.functions import Function
from parity.layouts import KINDS, Kind
from parity.network import Network, Recurrent
from parity.recurrent import RecurrentSpec, Weights
from parity.result import State, zero_state

BATCH, TIME, FEATURES, UNITS = 3, 4, 2, 5
Tensors = dict[str, np.ndarray[Any, Any]]
FAMILIES = (
    biases.bias_faults,
    forget.forget_faults,
    matrices.matrix_faults,
    placing.placing_faults,
    cells.cell_faults,
    resets.reset_faults,
)


def module_of(kind: Kind, layers: int = 1, both: bool = False, features: int = FEATURES, seed: int = 3) -> Any:
    """A module of torch with large random weights and biases."""
    torch.manual_seed(seed)
    module = getattr(torch.nn, kind.upper())(features, UNITS, num_layers=layers, bidirectional=both, batch_first=True)
    with torch.no_grad():
        for weight in module.parameters():
            weight.uniform_(-0.9, 0.9)
    return module


def recorded(module: Any, seed: int = 5) -> tuple[dict[str, Any], Any]:
    """What a module gives on random inputs, final states and all, and the states it began with, as `diagnose` takes them."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(BATCH, TIME, module.input_size)).astype(np.float32)
    ways = 2 if module.bidirectional else 1
    count = 2 if isinstance(module, torch.nn.LSTM) else 1
    shape = (module.num_layers, ways, BATCH, UNITS)
    states = [random.uniform(-0.9, 0.9, shape).astype(np.float32) for _ in range(count)]
    given = [torch.from_numpy(state.reshape(-1, BATCH, UNITS)) for state in states]
    with torch.no_grad():
        output, final = module(torch.from_numpy(x), tuple(given) if count == 2 else given[0])
    ends = [state.numpy() for state in (final if count == 2 else (final,))]
    outputs = [output.numpy(), *(state[row] for row in range(len(ends[0])) for state in ends)]
    return {"inputs": x, "outputs": outputs}, tuple(states) if count == 2 else states[0]


def explained(reference: Any, suspect: Any) -> Diagnosis:
    """The diagnosis of what a module gave, its weights unseen; of LSTMs, which have the most faults, mostly of the module itself."""
    if isinstance(reference, torch.nn.LSTM):
        return diagnose(reference, suspect, pairs=False)
    return unseen(reference, suspect)


def unseen(reference: Any, suspect: Any) -> Diagnosis:
    """The diagnosis of what a module gave, its weights unseen."""
    recording, states = recorded(suspect)
    return diagnose(reference, recording, initial_state=states, pairs=False)


def changed(module: Any, change: Callable[[Tensors], None], *suffixes: str) -> Any:
    """A copy of a module, a change made by hand in the arrays of some of its directions."""
    copy = deepcopy(module)
    state = {name: tensor.numpy().copy() for name, tensor in copy.state_dict().items()}
    for suffix in suffixes:
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        own = {name: state[f"{name}_{suffix}"] for name in names}
        change(own)
        state |= {f"{name}_{suffix}": array for name, array in own.items()}
    copy.load_state_dict({name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in state.items()})
    return copy


def check(diagnosis: Diagnosis, name: str, words: str, place: str) -> None:
    """It names this mistake, in this place."""
    assert not diagnosis.agrees
    assert diagnosis.found, str(diagnosis)
    (fault,) = diagnosis.faults
    assert (fault.name, str(fault.place)) == (name, place), str(diagnosis)
    assert words in fault.cause


def scaled(names: str, by: float) -> Callable[[Tensors], None]:
    """Arrays multiplied by a number."""

    def change(own: Tensors) -> None:
        for name in own:
            own[name] = own[name] * np.float32(by) if names in name else own[name]

    return change


def blocks(array: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    """The gates of one of torch's arrays."""
    return np.split(array, len(array) // UNITS)


def reshaped(name: str, keras_shape: bool) -> Callable[[Tensors], None]:
    """`.reshape` in place of `.T`: into torch's shape on the way from Keras, or into Keras's on the way from torch."""

    def change(own: Tensors) -> None:
        right = own[name]
        own[name] = right.reshape(right.T.shape).T if keras_shape else right.T.reshape(right.shape)

    return change


def reshaped_in_order_of_keras(own: Tensors) -> None:
    reset, update, candidate = blocks(own["weight_ih"])
    kernel = np.concatenate([update, reset, candidate]).T
    update, reset, candidate = blocks(kernel.reshape(3 * UNITS, -1))
    own["weight_ih"] = np.concatenate([reset, update, candidate])


def cudnn_kernels(own: Tensors) -> None:
    """What Keras 2 makes of plain kernels for CuDNNLSTM: per gate `kernel.T.reshape(kernel.shape)` and `recurrent.T`."""
    kernels = [block.T for block in blocks(own["weight_ih"])]
    own["weight_ih"] = np.concatenate([kernel.T.reshape(kernel.shape).T for kernel in kernels])
    own["weight_hh"] = np.concatenate([block.T for block in blocks(own["weight_hh"])])


def cudnn_input_kernel(own: Tensors) -> None:
    recurrent = own["weight_hh"]
    cudnn_kernels(own)
    own["weight_hh"] = recurrent


def blocks_transposed(own: Tensors) -> None:
    own["weight_hh"] = np.concatenate([block.T for block in blocks(own["weight_hh"])])


def features_reversed(own: Tensors) -> None:
    own["weight_ih"] = own["weight_ih"][:, ::-1]


def rows_swapped(own: Tensors) -> None:
    own["bias_ih"], own["bias_hh"] = own["bias_hh"], own["bias_ih"]


def summed(into: str) -> Callable[[Tensors], None]:
    """Both biases summed into one."""

    def change(own: Tensors) -> None:
        total = own["bias_ih"] + own["bias_hh"]
        own |= {name: total if name == into else 0 * total for name in ("bias_ih", "bias_hh")}

    return change


def summed_into_both(own: Tensors) -> None:
    own["bias_ih"] = own["bias_hh"] = own["bias_ih"] + own["bias_hh"]


def inner_bias_dropped(own: Tensors) -> None:
    own["bias_hh"] = np.concatenate([*blocks(own["bias_hh"])[:2], np.zeros(UNITS, np.float32)])


def used_twice(name: str) -> Callable[[Tensors], None]:
    """One of the biases in both places."""

    def change(own: Tensors) -> None:
        own["bias_ih"] = own["bias_hh"] = own[name]

    return change


def forget_shifted(by: float) -> Callable[[Tensors], None]:
    """A number added to the forget gate's bias: torch's second."""

    def change(own: Tensors) -> None:
        own["bias_hh"] = own["bias_hh"].copy()
        own["bias_hh"][UNITS : 2 * UNITS] += by

    return change


def update_negated(own: Tensors) -> None:
    for name in own:
        own[name] = own[name].copy()
        own[name][UNITS : 2 * UNITS] *= -1


ALL: tuple[Kind, ...] = ("lstm", "gru", "rnn")
GRU: tuple[Kind, ...] = ("gru",)
GATED: tuple[Kind, ...] = ("lstm", "gru")


@dataclass(frozen=True, eq=False)
class ByHand:
    """A mistake made in torch's arrays, and how it is to be named."""

    name: str
    change: Callable[[Tensors], None]
    place: str = ""
    kinds: tuple[Kind, ...] = ALL
    words: str = ""


IN_TORCH = (
    ByHand("bias doubled", scaled("bias", 2.0), "bias"),
    ByHand("bias halved", scaled("bias", 0.5), "bias"),
    ByHand("bias negated", scaled("bias", -1.0), "bias"),
    ByHand("bias dropped", scaled("bias", 0.0), "bias"),
    ByHand("bias of the recurrence dropped", scaled("bias_hh", 0.0), "bias of the recurrence"),
    ByHand("bias of the input dropped", scaled("bias_ih", 0.0), "bias of the input"),
    ByHand("bias of the candidate's recurrence dropped", inner_bias_dropped, "bias of the recurrence", GRU),
    ByHand("bias rows swapped", rows_swapped, "bias", GRU),
    ByHand("biases summed", summed("bias_ih"), "bias", GRU),
    ByHand("biases summed into the recurrence's", summed("bias_hh"), "bias", GRU),
    ByHand("biases summed into both", summed_into_both, "bias", GRU),
    ByHand("bias doubled", summed_into_both, "bias", ("lstm", "rnn")),
    ByHand("bias of the input used twice", used_twice("bias_ih"), "bias of the recurrence"),
    ByHand("bias of the recurrence used twice", used_twice("bias_hh"), "bias of the input"),
    ByHand("forget bias missing", forget_shifted(-1.0), "bias, forget gate f", ("lstm",)),
    ByHand("forget bias added twice", forget_shifted(1.0), "bias, forget gate f", ("lstm",)),
    ByHand("reshaped instead of transposed", reshaped("weight_ih", False), "input kernel", words="torch's"),
    ByHand("reshaped instead of transposed", reshaped("weight_ih", True), "input kernel", words="Keras's"),
    ByHand("reshaped instead of transposed", reshaped("weight_hh", False), "recurrent kernel", GATED, "torch's"),
    ByHand("reshaped instead of transposed", reshaped("weight_hh", True), "recurrent kernel", GATED, "Keras's"),
    ByHand("reshaped instead of transposed", reshaped_in_order_of_keras, "input kernel", GRU, "order z r n"),
    ByHand("gate blocks transposed", blocks_transposed, "recurrent kernel"),
    ByHand("cuDNN's layout", cudnn_kernels, "", GATED),
    ByHand("cuDNN's layout", cudnn_input_kernel, "input kernel", GATED),
    ByHand("features reversed", features_reversed, "input kernel"),
    ByHand("kernel zero", scaled("weight_ih", 0.0), "input kernel"),
    ByHand("kernel zero", scaled("weight_hh", 0.0), "recurrent kernel"),
    ByHand("kernel negated", scaled("weight_ih", -1.0), "input kernel"),
    ByHand("kernel negated", scaled("weight_hh", -1.0), "recurrent kernel"),
    ByHand("kernel doubled", scaled("weight_hh", 2.0), "recurrent kernel"),
    ByHand("kernel halved", scaled("weight_ih", 0.5), "input kernel"),
    ByHand("weights zero", scaled("", 0.0)),
    ByHand("update gate the other way round", update_negated, "update gate z", GRU),
)
CASES = [(kind, by_hand) for by_hand in IN_TORCH for kind in by_hand.kinds]
ALONE = [case for number, case in enumerate(CASES) if case[1].kinds != ALL or number % 2 == 0]
"""A mistake of all kinds of cells in a single layer: every other kind; of the others there are those in larger models."""


def named(case: tuple[Kind, ByHand]) -> str:
    """For the test's name."""
    return f"{case[0]}, {case[1].name}, {case[1].place} {case[1].words}"


def joined(*words: str) -> str:
    """A place in words."""
    return ", ".join(word for word in words if word) or "the whole model"


@pytest.mark.parametrize("case", ALONE, ids=named)
def test_one_layer(case: tuple[Kind, ByHand]) -> None:
    kind, by_hand = case
    right = module_of(kind)
    place = joined(f"layer '{kind}'", by_hand.place)
    look = explained if by_hand.kinds == ALL else unseen
    check(look(right, changed(right, by_hand.change, "l0")), by_hand.name, by_hand.words, place)


@pytest.mark.parametrize("case", CASES[::9], ids=named)
def test_one_direction_of_two(case: tuple[Kind, ByHand]) -> None:
    kind, by_hand = case
    right = module_of(kind, both=True)
    place = joined(f"layer '{kind}'", "backward direction", by_hand.place)
    check(explained(right, changed(right, by_hand.change, "l0_reverse")), by_hand.name, by_hand.words, place)


@pytest.mark.parametrize("case", CASES[2::9], ids=named)
def test_both_directions(case: tuple[Kind, ByHand]) -> None:
    kind, by_hand = case
    right = module_of(kind, both=True)
    suspect = changed(right, by_hand.change, "l0", "l0_reverse")
    check(explained(right, suspect), by_hand.name, by_hand.words, joined(f"layer '{kind}'", by_hand.place))


@pytest.mark.parametrize("case", [case for case in CASES[1::9] if case[1].name != "cuDNN's layout"], ids=named)
def test_second_layer_of_two(case: tuple[Kind, ByHand]) -> None:
    kind, by_hand = case
    right = module_of(kind, layers=2)
    place = joined(f"layer '{kind}_l1'", by_hand.place)
    check(explained(right, changed(right, by_hand.change, "l1")), by_hand.name, by_hand.words, place)


@pytest.mark.parametrize("case", CASES[3::9], ids=named)
def test_every_layer(case: tuple[Kind, ByHand]) -> None:
    kind, by_hand = case
    right = module_of(kind, layers=2)
    check(
        explained(right, changed(right, by_hand.change, "l0", "l1")), by_hand.name, by_hand.words, joined(by_hand.place)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_square_kernels(kind: Kind) -> None:
    right = module_of(kind, features=UNITS)

    def swapped(own: Tensors) -> None:
        own["weight_ih"], own["weight_hh"] = own["weight_hh"], own["weight_ih"]

    def transposed(own: Tensors) -> None:
        own["weight_ih"] = np.concatenate([block.T for block in blocks(own["weight_ih"])])

    place = f"layer '{kind}'"
    check(explained(right, changed(right, swapped, "l0")), "kernels swapped", "", place)
    check(explained(right, changed(right, transposed, "l0")), "gate blocks transposed", "", f"{place}, input kernel")


@pytest.mark.parametrize("kind", GATED)
def test_cudnn_kernels_of_a_stack(kind: Kind) -> None:
    """The second layer has square kernels, where the two ways of transposing are one; the first one has not."""
    right = module_of(kind, layers=2)
    kernel = changed(right, cudnn_input_kernel, "l1")
    place = f"layer '{kind}_l1', input kernel"
    check(explained(right, kernel), "gate blocks transposed", "", place)
    check(explained(right, changed(right, cudnn_input_kernel, "l0", "l1")), "cuDNN's layout", "input", "input kernel")
    check(explained(right, changed(right, cudnn_kernels, "l0", "l1")), "cuDNN's layout", "kernels", "the whole model")


@pytest.mark.parametrize("kind", KINDS)
def test_directions(kind: Kind) -> None:
    right = module_of(kind, both=True)
    state = right.state_dict()

    def loaded(forward: str, backward: str) -> Any:
        copy, sources = deepcopy(right), {"l0": forward, "l0_reverse": backward}
        copy.load_state_dict(
            {f"{name}_{way}": state[f"{name}_{sources[way]}"] for name, _, way in map(split_name, state)}
        )
        return copy

    layer = f"layer '{kind}'"
    check(explained(right, loaded("l0_reverse", "l0")), "directions swapped", "", layer)
    check(explained(right, loaded("l0", "l0")), "one direction in both", "", f"{layer}, backward direction")
    check(
        explained(right, loaded("l0_reverse", "l0_reverse")), "one direction in both", "", f"{layer}, forward direction"
    )


def split_name(name: str) -> tuple[str, str, str]:
    """torch's `weight_ih_l0_reverse` as ("weight_ih", "_", "l0_reverse")."""
    return name.partition("_l")[0], "_", "l" + name.partition("_l")[2]


@pytest.mark.parametrize("kind", ["gru", "rnn"])
def test_layers_of_a_stack(kind: Kind) -> None:
    right = module_of(kind, layers=3, features=UNITS)
    state = right.state_dict()

    def loaded(**sources: str) -> Any:
        copy = deepcopy(right)
        parts = map(split_name, state)
        copy.load_state_dict({f"{name}_{at}": state[f"{name}_{sources.get(at, at)}"] for name, _, at in parts})
        return copy

    check(explained(right, loaded(l0="l1", l1="l0")), "layers swapped", f"'{kind}_l1'", f"layer '{kind}_l0'")
    check(
        explained(right, loaded(l1="l0", l2="l0")),
        "one layer in several",
        f"'{kind}_l1', '{kind}_l2'",
        "the whole model",
    )
    check(explained(right, loaded(l2="l1")), "one layer in several", f"'{kind}_l1'", f"layer '{kind}_l2'")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("both", [False, True])
def test_healthy(kind: Kind, both: bool) -> None:
    right = module_of(kind, layers=2, both=both)
    diagnosis = explained(right, deepcopy(right))
    assert diagnosis.agrees
    assert not diagnosis.faults


def test_healthy_without_biases() -> None:
    right = changed(module_of("gru"), scaled("bias", 0.0), "l0")
    diagnosis = diagnose(right, deepcopy(right))
    assert diagnosis.agrees
    (note,) = (one for one in diagnosis.notes if "bias" in one)
    assert "bias rows swapped" in note
    assert any("all samples are of one length" in one for one in diagnosis.notes)
    assert note in str(diagnosis)


def filled(layer: Any, features: int = FEATURES, seed: int = 7) -> Any:
    """A built layer of Keras with large random weights and biases."""
    random = np.random.default_rng(seed)
    layer.build((None, None, features))
    layer.set_weights([random.uniform(-0.9, 0.9, weight.shape) for weight in layer.get_weights()])
    return layer


def with_options(layer: Any, **options: Any) -> Any:
    """A layer of Keras with the same weights and other options."""
    other = type(layer).from_config({**layer.get_config(), **options})
    other.build((None, None, FEATURES))
    other.set_weights(layer.get_weights())
    return other


OF_KERAS = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU, "rnn": keras.layers.SimpleRNN}


@pytest.mark.parametrize(
    ("kind", "own", "options", "name", "words"),
    [
        ("lstm", {}, {"recurrent_activation": "hard_sigmoid"}, "gate function", "Keras 3"),
        ("lstm", {"recurrent_activation": "hard_sigmoid"}, {"recurrent_activation": "sigmoid"}, "gate function", "has sigmoid"),
        ("gru", {}, {"recurrent_activation": "hard_sigmoid"}, "gate function", "Keras 3"),
        ("lstm", {"activation": "relu"}, {"activation": "tanh"}, "activation", "has tanh"),
        ("lstm", {}, {"activation": "relu"}, "activation", "has relu as the function of its candidate and output"),
        ("gru", {"activation": "relu"}, {"activation": "tanh"}, "activation", "where relu belongs"),
        ("gru", {}, {"activation": "linear"}, "activation", "has none (linear)"),
        ("rnn", {}, {"activation": "relu"}, "activation", "has relu"),
        ("rnn", {"activation": "relu"}, {"activation": "tanh"}, "activation", "has tanh"),
        ("rnn", {}, {"activation": "sigmoid"}, "activation", "has sigmoid"),
        ("rnn", {}, {"activation": "hard_tanh"}, "activation", "has hard_tanh"),
        ("lstm", {"activation": "leaky_relu"}, {"activation": "tanh"}, "activation", "has tanh"),
    ],
)  # fmt: skip
def test_functions_of_keras(kind: Kind, own: dict[str, str], options: dict[str, str], name: str, words: str) -> None:
    right = filled(OF_KERAS[kind](UNITS, return_sequences=True, name=kind, **own))
    suspect = with_options(right, **options)
    place = f"layer '{kind}'"
    check(diagnose(right, suspect, pairs=False), name, words, place)
    check(diagnose(right, recording_of(suspect), initial_state=zeros(kind), pairs=False), name, words, place)


def recording_of(layer: Any) -> dict[str, Any]:
    """What a layer of Keras gives on random inputs, from states that are zero."""
    x = np.random.default_rng(9).normal(size=(BATCH, TIME, FEATURES)).astype(np.float32) * 2
    return {"inputs": x, "outputs": np.asarray(keras.ops.convert_to_numpy(layer(x)))}


def zeros(kind: Kind) -> dict[str, State]:
    """Initial states of a layer that has the name of its kind."""
    return {kind: zero_state(RecurrentSpec(kind, FEATURES, UNITS), BATCH, "float32")}


def torch_gru(layer: Any, bias: Callable[[np.ndarray[Any, Any]], tuple[Any, Any]]) -> Any:
    """The weights of a GRU of Keras in torch's module, gates in torch's order, and one bias put somewhere."""
    kernel, recurrent, given = layer.get_weights()

    def ordered(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        update, reset, candidate = np.split(array, 3, axis=-1)
        return np.concatenate([reset, update, candidate], axis=-1)

    module = torch.nn.GRU(FEATURES, UNITS, batch_first=True)
    arrays = (ordered(kernel).T, ordered(recurrent).T, *bias(ordered(given)))
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    module.load_state_dict({name: torch.tensor(array) for name, array in zip(names, arrays, strict=True)})
    return module


@pytest.mark.parametrize(
    ("bias", "words"),
    [
        (lambda b: (b, 0 * b), "where before belongs"),
        (lambda b: (0 * b, b), "bias_hh"),
        (lambda b: (b, b), "both bias vectors"),
        (lambda b: (b / 2, b / 2), "half its bias"),
    ],
)
def test_reset_before_put_into_torch(bias: Callable[[np.ndarray[Any, Any]], tuple[Any, Any]], words: str) -> None:
    right = filled(keras.layers.GRU(UNITS, return_sequences=True, reset_after=False, name="gru"))
    suspect = torch_gru(right, bias)
    place = "layer 'gru'"
    check(diagnose(right, suspect, pairs=False), "reset gate", words, place)
    recording, states = recorded(suspect)
    check(diagnose(right, recording, initial_state=states, pairs=False), "reset gate", words, place)


@pytest.mark.parametrize(
    ("kept", "words"), [(lambda b: b.sum(0), "where after belongs"), (lambda b: b[0], "bias of the input alone")]
)
def test_reset_after_put_into_a_layer_before(kept: Callable[[Any], Any], words: str) -> None:
    right = filled(keras.layers.GRU(UNITS, return_sequences=True, name="gru"))
    suspect = keras.layers.GRU(UNITS, return_sequences=True, reset_after=False, name="gru")
    suspect.build((None, None, FEATURES))
    kernel, recurrent, bias = right.get_weights()
    suspect.set_weights([kernel, recurrent, kept(bias)])
    check(diagnose(right, suspect, pairs=False), "reset gate", words, "layer 'gru'")


def test_options_lost() -> None:
    right = filled(
        keras.layers.GRU(
            UNITS, return_sequences=True, reset_after=False, recurrent_activation="hard_sigmoid", name="gru"
        )
    )
    suspect = torch_gru(right, lambda b: (b, 0 * b))
    check(diagnose(right, suspect, pairs=False), "options lost", "plain cell", "layer 'gru'")


def test_one_bias_of_keras_in_both_of_torch() -> None:
    right = filled(keras.layers.LSTM(UNITS, return_sequences=True, name="lstm"))
    kernel, recurrent, bias = right.get_weights()
    suspect = torch.nn.LSTM(FEATURES, UNITS, batch_first=True)
    arrays = (kernel.T, recurrent.T, bias, bias)
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    suspect.load_state_dict({name: torch.tensor(array) for name, array in zip(names, arrays, strict=True)})
    place = "layer 'lstm', bias"
    check(diagnose(right, suspect, pairs=False), "bias doubled", "both bias vectors", place)


def test_first_step_without_its_inner_bias() -> None:
    """As in MLX: without an initial state the first step leaves out r * b_hn."""
    right = module_of("gru")
    x = np.random.default_rng(5).normal(size=(BATCH, TIME, FEATURES)).astype(np.float32)
    first = changed(right, inner_bias_dropped, "l0")
    with torch.no_grad():
        one, h = first(torch.from_numpy(x[:, :1]))
        others, _ = right(torch.from_numpy(x[:, 1:]), h)
    recording = {"inputs": x, "outputs": torch.cat([one, others], dim=1).numpy()}
    diagnosis = diagnose(right, recording, initial_state=zeros("gru"), pairs=False)
    check(diagnosis, "first step apart", "b_hn", "layer 'gru', bias of the recurrence")


def described(
    kind: Kind, ways: int = 1, layers: int = 1, features: int = FEATURES, cell: Cell | None = None, **more: Any
) -> Case:
    """A random model in canonical form on random inputs and states, numbers large enough to tell hard_tanh from no function."""
    random = np.random.default_rng(1)
    made, size = [], features
    for number in range(layers):
        spec = RecurrentSpec(kind, size, UNITS, ("forward", "backward")[:ways])  # type: ignore[arg-type]
        weights = tuple(
            Weights(
                **{
                    member: random.uniform(-2, 2, spec.shape(member))
                    for member in ("kernel", "recurrent", "bias_input", "bias_recurrent", *more)
                }
            )
            for _ in range(ways)
        )
        made.append(Recurrent(f"layer_{number}", spec, weights, cells=(cell or plain_cell(kind),) * ways))
        size = spec.output_size
    x = 2 * random.normal(size=(BATCH, TIME, features))
    states = {
        layer.name: State(*(random.uniform(-2, 2, layer.spec.state_shape(s, BATCH)) for s in layer.spec.states))
        for layer in made
    }
    return chain_case(Network("model", tuple(made)), x, states)


RELU, CLIPPED = Function("relu"), 1.5
DESCRIBED: dict[str, tuple[Kind, int, int, dict[str, Any]]] = {
    **{f"{kind}, {layers} x {ways}": (kind, ways, layers, {}) for kind in KINDS for layers, ways in ((1, 1), (1, 2), (2, 2))},
    **{f"{kind}, square": (kind, 1, 2, {"features": UNITS}) for kind in KINDS},
    **{f"{kind}, one feature": (kind, 1, 1, {"features": 1}) for kind in KINDS},
    "gru before": ("gru", 2, 1, {"cell": replace(plain_cell("gru"), reset_after=False)}),
    "lstm with peepholes": ("lstm", 2, 1, {"peepholes": True}),
    "lstm with a clip": ("lstm", 1, 1, {"cell": replace(plain_cell("lstm"), clip=CLIPPED, input_forget=True)}),
    "lstm of relu": ("lstm", 1, 1, {"cell": replace(plain_cell("lstm"), functions=(*plain_cell("lstm").functions[:1], RELU, RELU))}),
}  # fmt: skip


def faults_of(case: Case) -> Iterator[Fault]:
    return (fault for family in FAMILIES for fault in family(case))


@pytest.mark.parametrize("name", DESCRIBED)
def test_every_fault_is_another_function(name: str) -> None:
    """None leaves a random model as it is, and no two of them are one function."""
    kind, ways, layers, options = DESCRIBED[name]
    case = described(kind, ways, layers, **options)
    right = numbers(case)
    seen: dict[bytes, Fault] = {}
    for fault in faults_of(case):
        found = numbers(replayed(case, (fault,)))
        assert not np.allclose(found, right, rtol=0, atol=1e-9), str(fault)
        other = seen.setdefault(np.round(found, 8).tobytes(), fault)
        assert other is fault, f"{other} and {fault}"


def numbers(case: Case | None) -> np.ndarray[Any, Any]:
    outputs = outputs_of(case)
    assert outputs is not None
    return np.concatenate([array.ravel() for array in outputs.values()])


@pytest.mark.parametrize("name", DESCRIBED)
def test_repairs_undo_the_faults(name: str) -> None:
    kind, ways, layers, options = DESCRIBED[name]
    case = described(kind, ways, layers, **options)
    right, tried = numbers(case), 0
    for fault in faults_of(case):
        assert fault.repair, str(fault)
        if any(isinstance(step, OptionRepair) for step in fault.repair):
            continue
        made = replayed(case, (fault,))
        assert made is not None
        assert numbers(repaired(made, fault)) == pytest.approx(right, abs=1e-9), str(fault)
        tried += 1
    assert tried > 10


def repaired(case: Case, fault: Fault) -> Case:
    """A case whose weights are changed as a repair says."""
    held: dict[tuple[str, str, str], Any] = {
        (layer.name, way, member): weights.member(member)
        for layer in case.recurrent()
        for way, weights in zip(layer.spec.directions, layer.weights, strict=True)
        for member in ("kernel", "recurrent", "bias_input", "bias_recurrent", "peepholes")
    }
    for step in fault.repair or ():
        if isinstance(step, SwapRepair):
            held[step.first], held[step.second] = held[step.second], held[step.first]
        elif isinstance(step, WeightRepair):
            at = (step.layer, step.direction, step.member)
            held[at] = mended(step.formula, np.zeros(0) if held[at] is None else held[at])
    for layer in list(case.recurrent()):
        weights = tuple(
            own.with_held(
                **{member: array for (name, of, member), array in held.items() if (name, of) == (layer.name, way)}
            )
            for way, own in zip(layer.spec.directions, layer.weights, strict=True)
        )
        case = case.with_layer(layer.name, lambda operation, weights=weights: replace(operation, weights=weights))  # type: ignore[misc]
    return case


def test_peepholes_clip_and_input_forget() -> None:
    """None of the frameworks has a module that loses them: the reference itself, in float32, stands in for the suspect."""
    case = described("lstm", peepholes=True, cell=replace(plain_cell("lstm"), clip=CLIPPED, input_forget=True))
    names = {fault.name for fault in faults_of(case)}
    assert {"peepholes lost", "peephole order", "clip lost", "input_forget lost", "options lost"} <= names


@pytest.mark.parametrize("kind", KINDS)
def test_what_zero_biases_hide(kind: Kind) -> None:
    case = described(kind)

    def without(operation: Any) -> Any:
        zero = np.zeros(operation.spec.shape("bias_input"))
        return replace(operation, weights=(operation.weights[0].with_held(bias_input=zero, bias_recurrent=zero),))

    blind = case.with_layer("layer_0", without)
    faults = list(faults_of(blind))
    hidden = {fault.name for fault in invisible([stage_of(blind, blind.outputs())], faults)}
    expected = {fault.name for fault in biases.bias_faults(blind)}
    assert hidden == expected | ({"first step apart"} if kind == "gru" else set())
    (note,) = blindness([stage_of(blind, blind.outputs())], faults)
    assert "bias doubled" in note
    assert "needs biases that are not zero" in note
    assert not invisible([stage_of(case, case.outputs())], list(faults_of(case)))
    assert blindness([stage_of(case, case.outputs())], list(faults_of(case))) == ()


def test_what_one_step_from_zeros_hides() -> None:
    case = described("lstm")
    inputs = {name: array[:, :1] if array.ndim == 3 else 0 * array for name, array in case.inputs.items()}
    one = replace(case, inputs=inputs)
    hidden = invisible([stage_of(one, one.outputs())], list(faults_of(one)))
    places = {(fault.name, fault.place.tensor) for fault in hidden}
    assert ("forget bias missing", "bias") in places
    assert ("gate blocks transposed", "recurrent") in places
    assert ("reshaped instead of transposed", "kernel") not in places
