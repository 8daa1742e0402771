"""`parity diagnose` on the terminal: what is laid beside what, what is printed, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from typer.testing import CliRunner

import parity
from parity.cli import app
from parity.diagnosis import diagnose
from parity.diagnosis.recording import NO_REPAIR, is_recording
from parity.errors import ParityError
from parity.spelling import spell_ascii

FEATURES, UNITS, OUT = 6, 5, 2


def filled(model: Any, seed: int = 3) -> Any:
    random = np.random.default_rng(seed)
    model.set_weights([random.uniform(-0.9, 0.9, one.shape) for one in model.get_weights()])
    return model


def of_two_layers() -> Any:
    layers = [keras.layers.GRU(UNITS, return_sequences=True, name="enc"), keras.layers.LSTM(UNITS - 1, name="dec")]
    return filled(keras.Sequential([keras.Input((None, FEATURES)), *layers]))


def tensors(path: Path, layer: int, prefix: str, wrong: bool = False) -> dict[str, Any]:
    """The tensors of a layer of a model as a state dict has them, the gates of the recurrent kernel turned round where it is wrong."""
    module = parity.to_torch(parity.read(path).recurrent[layer])
    found = {f"{prefix}.{name.rpartition('.')[2]}": one.detach().clone() for name, one in module.state_dict().items()}
    name = f"{prefix}.weight_hh_l0"
    return {**found, name: found[name].roll(found[name].shape[1], 0)} if wrong else found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("files")
    layers = [keras.layers.GRU(UNITS, name="enc"), keras.layers.Dense(OUT, name="out")]
    right = filled(keras.Sequential([keras.Input((None, FEATURES)), *layers]))
    right.save(made / "model.keras")
    np.savez(made / "weights.npz", *right.get_weights())
    kernel, bias = right.get_weights()[-2:]
    head = {"head.weight": torch.from_numpy(kernel.T.copy()), "head.bias": torch.from_numpy(bias)}
    other = {**head, "head.weight": torch.rand(OUT, UNITS)}
    for name, wrong in (("good", False), ("port", True)):
        torch.save({**tensors(made / "model.keras", 0, "gru", wrong), **head}, made / f"{name}.pt")
    torch.save({**tensors(made / "model.keras", 0, "gru"), **other}, made / "head.pt")
    torch.save({**tensors(made / "model.keras", 0, "gru"), **head, "more.weight": torch.rand(2, 2)}, made / "more.pt")
    save_file({**tensors(made / "model.keras", 0, "gru", wrong=True), **other}, made / "port.safetensors")
    both = {f"{name}.gru.{key}": one for name in "ab" for key, one in nn.GRU(FEATURES, UNITS).state_dict().items()}
    torch.save(both, made / "both.pt")
    of_two_layers().save(made / "two.keras")
    parts = [tensors(made / "two.keras", n, "ab"[n], wrong=bool(n)) for n in range(2)]
    torch.save({**parts[0], **parts[1]}, made / "two.pt")
    kernel, recurrent, *rest = right.get_weights()
    right.set_weights([kernel, np.roll(recurrent, UNITS, 1), *rest])
    right.save(made / "wrong.keras")
    x = np.random.default_rng(7).normal(size=(4, 9, FEATURES)).astype(np.float32)
    np.savez(made / "recorded.npz", inputs=x, outputs=keras.ops.convert_to_numpy(right(x)))
    np.save(made / "y.npy", x)
    other = keras.Sequential([keras.Input((None, FEATURES - 1)), keras.layers.Conv1D(4, 3), keras.layers.GRU(UNITS)])
    mine = keras.Sequential([keras.Input((None, FEATURES)), keras.layers.Conv1D(4, 3), keras.layers.GRU(UNITS)])
    for name, one in (("five", other), ("six", mine)):
        one.save(made / f"{name}.keras")
    parity.convert(made / "five.keras", made / "five.onnx")
    return made


@pytest.fixture(autouse=True)
def there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, [*arguments])


def refused(*arguments: str) -> str:
    done = run(*arguments)
    assert isinstance(done.exception, ParityError), done.stdout
    return str(done.exception)


# ---- weights of several modules


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_the_only_recurrent_layer_of_a_state_dict_is_taken(suffix: str) -> None:
    done = run("diagnose", "model.keras", f"port.{suffix}", "--no-pairs")
    assert done.exit_code == 1
    assert "has the gates of its recurrent kernel in the order" in done.stdout
    assert f"note: compared: layer 'enc' of model.keras with 'gru' of port.{suffix}\n" in done.stdout
    wrong = f"note: as well: port.{suffix} has other numbers in head.weight than the right model's only weight of these sizes"
    assert (wrong in done.stdout) == (suffix == "safetensors"), done.stdout


def test_the_tensors_around_a_layer_are_looked_up() -> None:
    right = run("diagnose", "model.keras", "good.pt")
    assert "note: the numbers of head.weight, head.bias are the right model's" in right.stdout
    wrong = run("diagnose", "model.keras", "head.pt")
    assert wrong.exit_code == 1
    assert wrong.stdout.startswith("CAUSE head.pt has other numbers in head.weight than"), wrong.stdout
    assert "(layer 'out', input kernel)" in wrong.stdout
    untold = run("diagnose", "model.keras", "more.pt")
    assert untold.exit_code == 3, "nobody knows what it is"
    assert untold.stdout.splitlines()[0].endswith("there is nothing to explain; not compared: more.weight.")


def test_a_right_state_dict_agrees_and_masks_are_not_spoken_of() -> None:
    done = run("diagnose", "model.keras", "good.pt")
    assert done.exit_code == 0
    assert done.stdout.startswith("ok ")
    assert "masked by value" not in done.stdout


def test_the_library_compares_the_layers_of_weights_too() -> None:
    found = parity.diagnose("two.keras", "two.pt", pairs=False)
    assert found.found
    assert found.where[0].layer == "dec"
    assert found.notes[0].startswith("compared: layer 'enc' of two.keras with 'a' of two.pt, layer 'dec'")
    with pytest.raises(ParityError, match="these are for one layer"):
        parity.diagnose("two.keras", "two.pt", lengths=[3, 2, 1, 1])
    assert parity.diagnose("model.keras", "good.pt").agrees


def test_several_layers_are_compared_in_order() -> None:
    done = run("diagnose", "two.keras", "two.pt", "--no-pairs")
    assert done.exit_code == 1
    assert "layer 'enc' of two.keras with 'a' of two.pt, layer 'dec' of two.keras with 'b' of two.pt" in done.stdout
    assert "(layer 'dec', recurrent kernel)" in done.stdout.splitlines()[0]
    assert "for one layer" in refused("diagnose", "two.keras", "two.pt", "--lengths", "3,2")


@pytest.mark.parametrize("command", ["diagnose", "compare"])
def test_where_it_cannot_be_told_the_remedy_is_the_command(command: str) -> None:
    port = "both.pt" if command == "diagnose" else "port.pt"
    remedy = refused(command, "model.keras", port).rpartition("remedy:")[2].strip()
    layer = "a.gru" if command == "diagnose" else "gru"
    assert remedy == f"parity {command} model.keras {port} --layer enc --layer {layer}"
    assert run(*remedy.split()[1:]).exit_code == 1, "the remedy does not run"


def test_weights_without_names_are_no_recording(tmp_path: Path) -> None:
    assert not is_recording("weights.npz")
    assert run("diagnose", "model.keras", "weights.npz").exit_code == 0
    np.savez(tmp_path / "kernels.npz", np.ones((FEATURES, UNITS)), np.ones((UNITS, UNITS)))
    assert not is_recording(tmp_path / "kernels.npz")
    np.savez(tmp_path / "both.npz", np.ones((4, 9, FEATURES)), np.ones((4, OUT)))
    assert is_recording(tmp_path / "both.npz")
    assert is_recording({"inputs": np.ones((4, 9)), "outputs/out": np.ones((4, 2))})


# ---- what is printed


def test_what_is_printed_of_a_cause() -> None:
    done = run("diagnose", "model.keras", "wrong.keras", "--no-pairs", "--json", "found.json")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("CAUSE wrong.keras has the gates of its recurrent kernel in the order")
    (fitting,) = [line for line in lines if line.startswith("=> ")]
    assert fitting.endswith("floors): the cause above")
    best = json.loads(Path("found.json").read_text(encoding="utf-8"))["evidence"][0]
    before, after, floors = (spell_ascii(best[name], 2) for name in ("before", "after", "floors"))
    assert f"{before} -> {after} ({floors} floors)" in fitting
    assert any(line.startswith("random inputs: 4 samples x 17 steps, seed 0 | ") for line in lines)
    assert "floor: the difference that float32 rounding alone makes here; up to 2 floors agree" in lines
    assert "\n\n\n" not in done.stdout
    assert not done.stdout.endswith("\n\n")


def test_losers_that_hardly_improve_are_shown_only_where_nothing_does_better() -> None:
    losers = [
        line
        for line in run("diagnose", "model.keras", "wrong.keras", "--no-pairs").stdout.splitlines()
        if " -> " in line
    ]
    for line in losers[1:]:
        if line.startswith("   "):
            before, _, rest = line.strip().partition(" -> ")
            assert float(rest.split()[0]) <= 0.5 * float(before) + 0.01


def test_a_recording_says_that_it_gets_no_repair() -> None:
    done = run("diagnose", "model.keras", "recorded.npz", "--no-pairs")
    assert done.exit_code == 1
    assert f"note: {NO_REPAIR}" in done.stdout
    assert "inputs: recorded.npz" in done.stdout


def test_the_inputs_of_a_recording_are_inputs() -> None:
    done = run("diagnose", "model.keras", "wrong.keras", "--no-pairs", "--inputs", "recorded.npz")
    assert done.exit_code == 1
    assert "inputs: recorded.npz" in done.stdout


def test_compare_names_the_command_that_diagnoses() -> None:
    assert "parity diagnose model.keras wrong.keras" in run("compare", "model.keras", "wrong.keras").stdout


# ---- what is refused


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["compare", "model.keras", "recorded.npz"], "this is a recording of inputs and outputs"),
        (["diagnose", "model.keras", "y.npy"], "np.savez('y.npz', inputs=x, outputs=y)"),
        (["diagnose", "six.keras", "five.onnx"], "takes 5 features"),
    ],
)
def test_refused(arguments: list[str], words: str) -> None:
    assert words in refused(*arguments)


# ---- modules with a loop of their own


class Loop(nn.Module):
    """A recurrent layer written by hand: nothing in it says what it takes."""

    def __init__(self, layer: Any, wrong: bool) -> None:
        super().__init__()
        kernel, recurrent, bias = (torch.tensor(one) for one in layer.get_weights())
        self.w, self.u = nn.Parameter(kernel), nn.Parameter(recurrent.T.clone() if wrong else recurrent)
        self.b = nn.Parameter(bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = torch.zeros(x.shape[0], UNITS)
        for step in range(x.shape[1]):
            h = torch.tanh(x[:, step] @ self.w + h @ self.u + self.b)
        return h


@pytest.mark.parametrize("steps", [None, 9])
def test_a_loop_over_the_steps_is_run_on_inputs_of_the_reference(steps: int | None) -> None:
    layer = keras.layers.SimpleRNN(UNITS)
    layer.build((None, None, FEATURES))
    filled(layer)
    assert diagnose(layer, Loop(layer, wrong=False), time=steps).agrees
    found = diagnose(layer, Loop(layer, wrong=True), time=steps, pairs=False)
    assert found.kernel is None, "its graph holds for other lengths: that is no fault of the engine"
    assert not found.agrees
