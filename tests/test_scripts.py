"""The recipes, the demo and the README run as they stand."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import warnings
from pathlib import Path

import keras
import pytest
import tf_keras
import torch
from safetensors.torch import save_file

from parity.cli import main

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def _run(*arguments: str, folder: Path) -> str:
    done = subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("keras_to_torch", ["agree with the float64 reference"]),
        ("torch_to_keras", ["largest difference of h_n[3]", "agree with the float64 reference"]),
        ("to_onnx", ["GRU", "7 x 40", "agree with the float64 reference"]),
        ("compare", ["verdict of the port by hand: disagree", "verdict of parity.to_torch: agree"]),
    ],
)
def test_recipe(name: str, words: list[str], tmp_path: Path) -> None:
    path = ROOT / "scripts" / f"{name}.py"
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 60, "a recipe is a page at most"
    out = _run(str(path), folder=tmp_path)
    assert all(word in out for word in words), out
    for number in re.findall(r"largest difference.*?([\d.e-]+)$", out, re.MULTILINE):
        assert float(number) < 1e-5


def test_demo(tmp_path: Path) -> None:
    out = _run(str(ROOT / "scripts" / "demo.py"), "--epochs", "2", "--reports", str(tmp_path), folder=tmp_path)
    assert "agree: keras, torch and onnxruntime agree with the float64 reference on 59 x 22 steps" in out
    assert "opened again, forecast the same to the bit" in out
    assert re.search(r"keras +\d+\.\d+\n +torch +\d+\.\d+\n +onnxruntime +\d+\.\d+\n +reference", out)
    assert "<title>" in (tmp_path / "sunspots.html").read_text(encoding="utf-8")
    record = json.loads((tmp_path / "sunspots.json").read_text(encoding="utf-8"))
    assert len(record["measures"][0]["rows"]) == 4


@pytest.fixture
def model_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files that the README speaks of: model.keras, its LSTM in torch, old.h5 of Keras 2, checkpoint.pt of several modules."""
    model = keras.Sequential([keras.Input((None, 3)), keras.layers.LSTM(6), keras.layers.Dense(2)])
    model.save(tmp_path / "model.keras")
    kernel, recurrent, bias = (torch.from_numpy(weight.T.copy()) for weight in model.layers[0].get_weights())
    port = {"weight_ih_l0": kernel, "weight_hh_l0": recurrent, "bias_ih_l0": bias, "bias_hh_l0": torch.zeros(24)}
    save_file(port, tmp_path / "port.safetensors")
    old = [tf_keras.Input((None, 3)), tf_keras.layers.LSTM(6), tf_keras.layers.Dense(2)]
    with warnings.catch_warnings(action="ignore"):  # "this file format is considered legacy"
        tf_keras.Sequential(old).save(tmp_path / "old.h5")
    modules = {"encoder": torch.nn.LSTM(3, 6), "head": torch.nn.Linear(6, 2)}
    torch.save({"epoch": 1, "state_dict": torch.nn.ModuleDict(modules).state_dict()}, tmp_path / "checkpoint.pt")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_readme_python(model_folder: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert blocks
    names: dict[str, object] = {}
    for block in blocks:
        exec(block, names)
    assert (model_folder / "report.html").exists()


@pytest.mark.usefixtures("model_folder")
def test_readme_commands(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = "\n".join(re.findall(r"```(?:sh|yaml)\n(.*?)```", README, re.DOTALL))
    commands = re.findall(r"^(?: *- run: )?(parity .*)$", blocks, re.MULTILINE)
    assert len(commands) >= 15
    for command in commands:
        with pytest.raises(SystemExit) as stop:
            main(shlex.split(command, comments=True)[1:])
        assert not stop.value.code, (command, capsys.readouterr())


def test_readme_names_files_that_exist() -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert "://" in link or (ROOT / link).exists(), link


def test_sunspots_are_whole() -> None:
    lines = (ROOT / "scripts" / "sunspots.csv").read_text(encoding="utf-8").splitlines()
    years = [int(line.split(",")[0]) for line in lines if line[0].isdigit()]
    assert years == list(range(1700, 2009))
    assert "Source: " in lines[0]
