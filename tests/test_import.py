"""Importing parity and asking for help must not import a framework."""

from __future__ import annotations

import subprocess
import sys

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
