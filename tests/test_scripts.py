"""The recipes and the demo run as they stand."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("keras_to_torch", ["agree with the float64 reference"]),
        ("torch_to_keras", ["largest difference of h_n[3]", "agree with the float64 reference"]),
        ("to_onnx", ["GRU", "7 x 40", "agree with the float64 reference"]),
        ("compare", ["verdict of the port by hand: disagree", "verdict of parity.to_torch: agree"]),
    ],
)
def test_recipe(
    name: str, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process, which has every framework already."""
    path = ROOT / "scripts" / f"{name}.py"
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 60, "a recipe is a page at most"
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(path), run_name="__main__")
    out = capsys.readouterr().out
    assert all(word in out for word in words), out
    for number in re.findall(r"largest difference.*?([\d.e-]+)$", out, re.MULTILINE):
        assert float(number) < 1e-5


def test_demo(tmp_path: Path) -> None:
    """In a process of its own, as people run it."""
    command = [sys.executable, str(ROOT / "scripts" / "demo.py"), "--epochs", "2", "--reports", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    out = done.stdout
    assert "agree: keras, torch and onnxruntime agree with the float64 reference on 59 x 22 steps" in out
    assert "opened again, forecast the same to the bit" in out
    assert re.search(r"keras +\d+\.\d+\n +torch +\d+\.\d+\n +onnxruntime +\d+\.\d+\n +reference", out)
    assert "<title>" in (tmp_path / "sunspots.html").read_text(encoding="utf-8")
    record = json.loads((tmp_path / "sunspots.json").read_text(encoding="utf-8"))
    assert len(record["measures"][0]["rows"]) == 4


def test_sunspots_are_whole() -> None:
    lines = (ROOT / "scripts" / "sunspots.csv").read_text(encoding="utf-8").splitlines()
    years = [int(line.split(",")[0]) for line in lines if line[0].isdigit()]
    assert years == list(range(1700, 2009))
    assert "Source: " in lines[0]
