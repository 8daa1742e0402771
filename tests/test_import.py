"""Importing parity and asking for help must not import a framework."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FRAMEWORKS = ("torch", "tensorflow", "keras", "onnx", "onnxruntime", "jax")

_LOADED = f"import sys; print([name for name in {FRAMEWORKS} if name in sys.modules])"


def _last_line(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip().splitlines()[-1]


@pytest.mark.parametrize(
    "code",
    [
        "import parity",
        "import parity; dir(parity); parity.read; parity.compare; parity.convert; parity.explain; parity.run; parity.to_onnx",
        "import parity.cli, parity.terminal, parity.report",
    ],
)
def test_no_framework_is_imported(code: str) -> None:
    assert _last_line(f"{code}\n{_LOADED}") == "[]"


@pytest.mark.parametrize("arguments", [["--help"], ["compare", "--help"], ["explain", "--layer", "gru"]])
def test_no_framework_is_imported_by_the_command(arguments: list[str]) -> None:
    code = f"from parity.cli import main\ntry:\n    main({arguments!r})\nexcept SystemExit as stop:\n    assert not stop.code\n{_LOADED}"
    assert _last_line(code) == "[]"


_CONVERTED = """
from pathlib import Path
import numpy as np
from parity.cli import main
from parity.files.keras.writing import write_keras
from parity.network import Dense, Network, Recurrent
from parity.network.graph import Output
from parity.recurrent import RecurrentSpec, Weights

folder = Path({folder!r})
random = np.random.default_rng(0)
weights = Weights(*(random.normal(size=size).astype(np.float32) for size in ((4, 5, 3), (4, 5, 5))))
layers = (
    Recurrent("lstm", RecurrentSpec("lstm", 3, 5), (weights,), return_sequences=False),
    Dense("classes", random.normal(size=(5, 2)).astype(np.float32), activation="softmax"),
)
write_keras(Network("model", layers, (Output("classes", "classes"),)), folder / "model.keras")
try:
    main(["convert", str(folder / "model.keras"), str(folder / "code"), "--to", "{target}", "--no-verify"])
except SystemExit as stop:
    assert not stop.code
"""


@pytest.mark.parametrize("target", ["torch", "keras"])
def test_a_model_becomes_code_without_a_framework(tmp_path: Path, target: str) -> None:
    assert _last_line(f"{_CONVERTED.format(folder=str(tmp_path), target=target)}\n{_LOADED}") == "[]"
    source = (tmp_path / "code" / "model.py").read_text(encoding="utf-8")
    assert {"torch": "nn.LSTM(3, 5", "keras": "layers.LSTM("}[target] in source


def test_the_check_can_fail() -> None:
    assert _last_line(f"import torch\n{_LOADED}") == "['torch']"


def test_public_names_stay_functions_after_use() -> None:
    code = (
        "import torch, parity\n"
        "parity.compare(torch.nn.GRU(2, 3), engines=['torch'])\n"
        "parity.explain(torch.nn.GRU(2, 3))\n"
        "print([name for name in parity.__all__ if not callable(getattr(parity, name))])"
    )
    assert _last_line(code) == "[]"


def test_unknown_name() -> None:
    import parity

    with pytest.raises(AttributeError, match="no attribute 'to_caffe'"):
        getattr(parity, "to_" + "caffe")
