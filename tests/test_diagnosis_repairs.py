"""Every repair repairs: what is pasted, and the copy that is handed back; each mistake is made by hand in the framework's own arrays."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import parity
from parity.diagnosis import Diagnosis, diagnose
from parity.errors import ParityError


def pasted(found: Diagnosis, reference: Any, suspect: Any) -> Any:
    """What is called `suspect` after the lines were run in a namespace of their own, for a file of its own name."""
    names = {"suspect": suspect, "reference": reference}
    exec(re.sub(r"^suspect = '.*'$", f"suspect = {suspect!r}", found.repair, flags=re.MULTILINE), names)
    return names["suspect"]


def checked(reference: Any, suspect: Any, once: bool = True) -> Diagnosis:
    """Both ways to mend a suspect, and that it was wrong before.

    Args:
        once: whether the lines undo something, so that a second time is wrong again.
    """
    assert not parity.compare(reference, suspect).ok
    found = diagnose(reference, suspect)
    assert found.found, found.cause
    assert parity.compare(reference, found.repaired()).ok, found.repair
    assert not parity.compare(reference, suspect).ok, "the suspect itself was changed"
    made = pasted(found, reference, suspect)
    assert parity.compare(reference, made).ok, found.repair
    assert parity.compare(reference, pasted(found, reference, made)).ok is not once
    return found


def in_torch(make: Callable[[], nn.Module], seed: int = 3) -> tuple[Any, Any]:
    """A module and another one with the same numbers."""
    torch.manual_seed(seed)
    right, wrong = make(), make()
    wrong.load_state_dict(right.state_dict())
    return right, wrong


def rolled(gates: torch.Tensor, count: int) -> torch.Tensor:
    return gates.roll(len(gates) // count, 0)


KINDS = {"lstm": (nn.LSTM, 4), "gru": (nn.GRU, 3), "rnn": (nn.RNN, 1)}
FORMS: dict[str, tuple[dict[str, Any], str]] = {
    "one": ({}, "_l0"),
    "both": ({"bidirectional": True}, "_l0_reverse"),
    "two": ({"num_layers": 2}, "_l1"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_transposed_blocks_in_torch(kind: str, form: str) -> None:
    options, end = FORMS[form]
    module, count = KINDS[kind]
    right, wrong = in_torch(lambda: module(3, 5, batch_first=True, **options))
    weight = getattr(wrong, f"weight_hh{end}")
    with torch.no_grad():
        weight.copy_(torch.cat([gate.T for gate in weight.chunk(count)]))
    found = checked(right, wrong)
    assert f"suspect.weight_hh{end}" in found.repair


@pytest.mark.parametrize("name", ["weight_ih", "weight_hh"])
@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_gates_in_torch(kind: str, name: str) -> None:
    module, count = KINDS[kind]
    right, wrong = in_torch(lambda: module(3, 5, bidirectional=True, batch_first=True))
    weight = getattr(wrong, f"{name}_l0")
    with torch.no_grad():
        weight.copy_(rolled(weight, count))
    checked(right, wrong)


@pytest.mark.parametrize("kind", KINDS)
def test_doubled_biases_in_torch(kind: str) -> None:
    right, wrong = in_torch(lambda: KINDS[kind][0](3, 5, batch_first=True))
    with torch.no_grad():
        wrong.bias_ih_l0.mul_(2)
        wrong.bias_hh_l0.mul_(2)
    checked(right, wrong)


def in_keras(make: Callable[[Any], Any], random: np.random.Generator) -> tuple[Any, Any]:
    """A layer and another one with the same random numbers."""
    layers = importlib.import_module("keras").layers
    right, wrong = make(layers), make(layers)
    for one in (right, wrong):
        one.build((None, None, 3))
    right.set_weights([random.normal(0, 0.4, w.shape).astype("float32") for w in right.get_weights()])
    wrong.set_weights(right.get_weights())
    return right, wrong


def changed(layer: Any, number: int, change: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]) -> None:
    weights = layer.get_weights()
    weights[number] = change(weights[number])
    layer.set_weights(weights)


CELLS = {"lstm": ("LSTM", 4), "gru": ("GRU", 3), "rnn": ("SimpleRNN", 1)}


@pytest.mark.parametrize(("kind", "both"), [("lstm", True), ("gru", True), ("rnn", False)])
def test_transposed_blocks_in_keras(kind: str, both: bool, random: np.random.Generator) -> None:
    name, count = CELLS[kind]

    def make(layers: Any) -> Any:
        layer = getattr(layers, name)(5, return_sequences=True)
        return layers.Bidirectional(layer) if both else layer

    right, wrong = in_keras(make, random)
    changed(wrong, 4 if both else 1, lambda w: np.concatenate([g.T for g in np.split(w, count, 1)], 1))
    found = checked(right, wrong)
    assert ("suspect.backward_layer.cell" if both else "suspect.cell") in found.repair


def test_gates_in_keras(random: np.random.Generator) -> None:
    right, wrong = in_keras(lambda layers: layers.GRU(5, return_sequences=True), random)
    changed(wrong, 0, lambda w: np.concatenate([np.split(w, 3, 1)[k] for k in (1, 0, 2)], 1))
    found = checked(right, wrong)
    assert "r, z, h = np.split(array, 3, axis=1)" in found.repair


def test_rows_of_a_bias_in_keras(random: np.random.Generator) -> None:
    right, wrong = in_keras(lambda layers: layers.GRU(5, return_sequences=True), random)
    changed(wrong, 2, lambda bias: bias[::-1])
    checked(right, wrong, once=False)


def test_one_bias_in_both_vectors(random: np.random.Generator) -> None:
    """Keras keeps one bias, torch two: halving the first alone would leave half of it too much."""
    right, _ = in_keras(lambda layers: layers.LSTM(5, return_sequences=True), random)
    wrong = parity.to_torch(right)
    with torch.no_grad():
        wrong.bias_hh_l0.copy_(wrong.bias_ih_l0)
    checked(right, wrong)


def test_half_of_a_sum_is_lost() -> None:
    """Keras has the sum of torch's two biases: no formula brings the lost one back, and it alone is not what belongs there."""
    right = in_torch(lambda: nn.LSTM(3, 5, batch_first=True))[0]
    wrong = parity.to_keras(right)
    changed(wrong, 2, lambda _: right.bias_ih_l0.detach().numpy())
    found = checked(right, wrong, once=False)
    assert "weights.bias_input + weights.bias_recurrent" in found.repair


def test_reshaped_in_place_of_transposed(random: np.random.Generator) -> None:
    right, _ = in_keras(lambda layers: layers.LSTM(5, return_sequences=True), random)
    wrong = parity.to_torch(right)
    with torch.no_grad():
        wrong.weight_ih_l0.copy_(torch.tensor(right.get_weights()[0].reshape(20, 3)))
    assert "array.reshape(3, 20).T" in checked(right, wrong).repair


def test_reshaped_with_other_gates(random: np.random.Generator) -> None:
    """Keras's GRU has other gates first: two mistakes on one matrix, of which the later one is undone first."""
    right, _ = in_keras(lambda layers: layers.GRU(5, return_sequences=True), random)
    wrong = parity.to_torch(right)
    with torch.no_grad():
        wrong.weight_ih_l0.copy_(torch.tensor(right.get_weights()[0].reshape(15, 3)))
    checked(right, wrong)


def test_what_takes_too_many_lines_is_replaced(random: np.random.Generator) -> None:
    """An array of Keras's that was made by `.reshape`, and then brought to torch well: torch's own array does not show it."""
    right, wrong = in_keras(lambda layers: layers.LSTM(5, return_sequences=True), random)
    changed(wrong, 0, lambda kernel: kernel.T.reshape(kernel.shape))
    assert ".reshape(20, 3).T" in checked(right, wrong).repair
    changed(wrong, 0, lambda _: right.get_weights()[0].T.reshape(3, 20))
    assert "weights.kernel" in checked(right, parity.to_torch(wrong), once=False).repair


def test_swapped_kernels() -> None:
    right, wrong = in_torch(lambda: nn.GRU(5, 5, batch_first=True))
    with torch.no_grad():
        wrong.weight_ih_l0.copy_(right.weight_hh_l0)
        wrong.weight_hh_l0.copy_(right.weight_ih_l0)
    checked(right, wrong)


def test_swapped_directions_in_keras(random: np.random.Generator) -> None:
    right, wrong = in_keras(lambda layers: layers.Bidirectional(layers.LSTM(5, return_sequences=True)), random)
    weights = right.get_weights()
    wrong.set_weights([*weights[3:], *weights[:3]])
    checked(right, wrong)


def test_functions_of_a_keras_layer(random: np.random.Generator) -> None:
    right, _ = in_keras(lambda layers: layers.LSTM(5, return_sequences=True), random)
    wrong, _ = in_keras(
        lambda layers: layers.LSTM(5, return_sequences=True, recurrent_activation="hard_sigmoid"), random
    )
    wrong.set_weights(right.get_weights())
    found = checked(right, wrong, once=False)
    assert 'suspect.cell.recurrent_activation = keras.activations.get("sigmoid")' in found.repair
    assert "cell.activation" not in found.repair


def test_another_reset_gate(random: np.random.Generator) -> None:
    """torch has no GRU with its reset gate before the product: the layer is made anew."""
    right, _ = in_keras(lambda layers: layers.GRU(5, return_sequences=True, reset_after=False), random)
    weights = parity.read(right).recurrent[0].weights[0]
    wrong: Any = nn.GRU(3, 5, batch_first=True)
    with torch.no_grad():
        wrong.weight_ih_l0.copy_(torch.tensor(weights.kernel.reshape(15, 3)))
        wrong.weight_hh_l0.copy_(torch.tensor(weights.recurrent.reshape(15, 5)))
        wrong.bias_ih_l0.copy_(torch.tensor(np.asarray(weights.bias_input).reshape(15)))
        wrong.bias_hh_l0.zero_()
    assert "parity.to_torch(reference)" in checked(right, wrong, once=False).repair


class Model(nn.Module):
    """Recurrent modules inside a model, one of them in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.LSTM(3, 5, num_layers=2, bidirectional=True, batch_first=True)
        self.rest = nn.ModuleList([nn.GRU(10, 4, batch_first=True)])
        self.head = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y, _ = self.encoder(x)
        y, _ = self.rest[0](y)
        return self.head(y)  # type: ignore[no-any-return]


def test_two_mistakes_inside_a_torch_model() -> None:
    right, wrong = in_torch(Model)
    with torch.no_grad():
        gates = wrong.rest[0].weight_hh_l0
        gates.copy_(rolled(gates, 3))
        block = wrong.encoder.weight_hh_l1_reverse
        block.copy_(torch.cat([gate.T for gate in block.chunk(4)]))
    found = checked(right, wrong)
    assert "suspect.rest[0].weight_hh_l0" in found.repair
    assert "suspect.encoder.weight_hh_l1_reverse" in found.repair


def test_two_mistakes_on_one_bias(random: np.random.Generator) -> None:
    """They do not commute: the later one is undone first."""
    right, wrong = in_keras(lambda layers: layers.LSTM(5, return_sequences=True), random)

    ones = np.repeat(np.array([0, 1, 0, 0], np.float32), 5)
    changed(wrong, 2, lambda bias: 2 * bias + ones)
    checked(right, wrong)


class Called(nn.Module):
    """A recurrent module, and mistakes of the code around it."""

    def __init__(self, before: bool = False, after: bool = False, batch_first: bool = True) -> None:
        super().__init__()
        self.gru = nn.GRU(3, 5, batch_first=batch_first)
        self.head = nn.Linear(5, 2)
        self.before, self.after = before, after

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y, _ = self.gru(x.flip(1) if self.before else x)
        return self.head(y.flip(1) if self.after else y)  # type: ignore[no-any-return]


@pytest.mark.parametrize("mistake", ["before", "after"])
def test_steps_turned_round_inside_a_torch_model(mistake: str) -> None:
    right, wrong = in_torch(Called)[0], Called(**{mistake: True})
    wrong.load_state_dict(right.state_dict())
    assert "suspect.gru = Mended(suspect.gru)" in checked(right, wrong).repair


def test_batch_first_inside_a_torch_model() -> None:
    right, wrong = in_torch(Called)[0], Called(batch_first=False)
    wrong.load_state_dict(right.state_dict())
    assert "suspect.gru.batch_first = True" in checked(right, wrong, once=False).repair


def test_weights_of_another_layer_are_loaded_anew() -> None:
    right, wrong = in_torch(Called)
    with torch.no_grad():
        wrong.head.bias.zero_()
    assert "parity.transfer(reference, suspect)" in checked(right, wrong, once=False).repair


class LastStep(nn.Module):
    """The last step of a bidirectional layer, or its final states."""

    def __init__(self, last: bool = False) -> None:
        super().__init__()
        self.gru = nn.GRU(3, 5, batch_first=True, bidirectional=True)
        self.last = last

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y, h = self.gru(x)
        return y[:, -1] if self.last else torch.cat([h[0], h[1]], dim=-1)


def test_what_only_the_own_code_can_mend() -> None:
    right, wrong = in_torch(LastStep)[0], LastStep(last=True)
    wrong.load_state_dict(right.state_dict())
    x = np.random.default_rng(1).normal(size=(4, 9, 3)).astype("float32")
    found = diagnose(right, wrong, inputs=x)
    assert found.found, found.cause
    assert found.replaces
    assert found.repair.startswith("# This is to be changed in your own code; no lines do it from outside:")
    assert "torch.cat([h_n[-2], h_n[-1]], dim=-1)" in found.repair
    assert "copy.deepcopy(reference)" in found.repair
    assert parity.compare(right, found.repaired(), inputs=x).ok
    assert parity.compare(right, pasted(found, right, wrong), inputs=x).ok


def keras_model(random: np.random.Generator) -> tuple[Any, Any]:
    keras = importlib.import_module("keras")

    def make() -> Any:
        x = keras.Input((None, 3))
        y = keras.layers.Bidirectional(keras.layers.LSTM(5, return_sequences=True), name="both")(x)
        return keras.Model(x, keras.layers.Dense(2)(keras.layers.GRU(4, name="top")(y)))

    right, wrong = make(), make()
    right.set_weights([random.normal(0, 0.4, w.shape).astype("float32") for w in right.get_weights()])
    wrong.set_weights(right.get_weights())
    changed(wrong, 4, lambda w: np.concatenate([np.split(w, 4, 1)[k] for k in (0, 2, 1, 3)], 1))
    return right, wrong


def test_inside_a_keras_model(random: np.random.Generator) -> None:
    found = checked(*keras_model(random))
    assert "suspect.get_layer('both').backward_layer.cell.recurrent_kernel" in found.repair


def test_a_keras_file(random: np.random.Generator, tmp_path: Path) -> None:
    right, wrong = keras_model(random)
    path = str(tmp_path / "wrong.keras")
    wrong.save(path)
    found = checked(right, path)
    assert isinstance(found.repaired(), parity.Network)


def with_wrong_gates(right: nn.LSTM) -> dict[str, torch.Tensor]:
    state = {name: tensor.clone() for name, tensor in right.state_dict().items()}
    return state | {"weight_ih_l1": rolled(state["weight_ih_l1"], 4)}


def test_a_safetensors_file(tmp_path: Path) -> None:
    right = in_torch(lambda: nn.LSTM(3, 5, num_layers=2, batch_first=True))[0]
    path = str(tmp_path / "wrong.safetensors")
    save_file(with_wrong_gates(right), path)
    checked(right, path)
    assert sorted(file.name for file in tmp_path.iterdir())[0] == "wrong-mended-mended.safetensors"


def test_a_checkpoint(tmp_path: Path) -> None:
    right = in_torch(lambda: nn.LSTM(3, 5, num_layers=2, batch_first=True))[0]
    path = str(tmp_path / "wrong.pt")
    state = {f"module.{name}": tensor for name, tensor in with_wrong_gates(right).items()}
    torch.save({"epoch": 1, "state_dict": state}, path)
    assert "tensors['state_dict']['module.weight_ih_l1']" in checked(right, path).repair


@pytest.mark.parametrize("file", [False, True])
def test_onnx(file: bool, tmp_path: Path) -> None:
    right = in_torch(lambda: nn.LSTM(3, 5, bidirectional=True, batch_first=True))[0]
    model = parity.to_onnx(right)
    for tensor in model.graph.initializer:
        if tensor.name.endswith(".R"):
            array = onnx.numpy_helper.to_array(tensor).copy()
            array[1] = np.roll(array[1], 5, axis=0)
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    onnx.save(model, tmp_path / "wrong.onnx")
    checked(right, str(tmp_path / "wrong.onnx") if file else model)


def test_a_suspect_that_was_changed_in_between() -> None:
    right, wrong = in_torch(lambda: nn.RNN(3, 5, batch_first=True))
    with torch.no_grad():
        wrong.weight_hh_l0.copy_(wrong.weight_hh_l0.T.clone())
    found = diagnose(right, wrong)
    pasted(found, right, wrong)
    with pytest.raises(ParityError, match="changed since it was diagnosed"):
        found.repaired()


def test_a_recording_has_nothing_to_mend() -> None:
    right, wrong = in_torch(lambda: nn.RNN(3, 5, batch_first=True))
    with torch.no_grad():
        wrong.weight_hh_l0.copy_(wrong.weight_hh_l0.T.clone())
    x = torch.randn(4, 9, 3, generator=torch.Generator().manual_seed(1))
    found = diagnose(right, {"inputs": x.numpy(), "outputs": wrong(x)[0].detach().numpy()})
    assert found.found
    assert found.repair == ""
    with pytest.raises(ParityError, match="nothing that could be mended"):
        found.repaired()


def test_a_healthy_suspect_has_nothing_to_mend() -> None:
    found = diagnose(*in_torch(lambda: nn.GRU(3, 5, batch_first=True)))
    assert found.agrees
    assert found.repair == ""
    with pytest.raises(ParityError, match="nothing to repair"):
        found.repaired()
