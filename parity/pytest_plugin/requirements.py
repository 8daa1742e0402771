"""Which engines are installed, and whether there is a GPU: told without importing an engine."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Collection, Iterable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from parity.errors import MissingFrameworkError, Problem, to_install

GPU = "gpu"
"""What `--parity-require` takes besides the engines."""

PACKAGES = {
    "keras": ("keras",),
    "torch": ("torch",),
    "onnxruntime": ("onnx", "onnxruntime"),
    "keras:tensorflow": ("keras", "tensorflow"),
    "keras:torch": ("keras", "torch"),
    "keras:jax": ("keras", "jax"),
}
"""What every engine imports; Keras also the backend that it is set to."""

_EXTRAS = {
    "keras": "keras",
    "torch": "torch",
    "onnxruntime": "onnx",
    "keras:tensorflow": "keras",
    "keras:torch": "keras,torch",
    "keras:jax": "jax",
}


def unknown(names: Iterable[str], known: Collection[str], where: str) -> list[Problem]:
    """The names that mean nothing.

    Args:
        names: what was asked for.
        known: what may be asked for.
        where: it was asked for.
    """
    return [Problem("unknown engine", where, ", ".join(known), repr(name)) for name in names if name not in known]


def missing(names: Iterable[str]) -> list[Problem]:
    """What is not there, with the remedy: one problem per engine, and one for a GPU.

    Args:
        names: keys of `PACKAGES`, and "gpu".

    Example:
        >>> missing(["torch"])
        []
    """
    found = (_no_gpu() if name == GPU else _not_installed(name) for name in dict.fromkeys(names))
    return [problem for problem in found if problem is not None]


def _not_installed(engine: str) -> Problem | None:
    packages = PACKAGES[engine]
    if engine == "keras" and installed("keras"):
        packages = ("keras", _backend())
    absent = [package for package in packages if not installed(package)]
    if not absent:
        return None
    return Problem(
        f"the engine '{engine}' is not installed",
        expected=" and ".join(packages),
        got=f"no module named {' or '.join(map(repr, absent))}",
        remedy=to_install(_EXTRAS[engine]),
    )


def installed(package: str) -> bool:
    """Whether a package can be imported; a folder that merely has its name is none.

    Example:
        >>> installed("json"), installed("no_such_package")
        (True, False)
    """
    try:
        spec = find_spec(package)
    except (ImportError, ValueError):
        return False
    return spec is not None and spec.origin is not None


def _backend() -> str:
    """The backend that Keras has, or will have: as Keras itself finds out, by the environment, its file, or its default."""
    keras = sys.modules.get("keras")
    if keras is not None and hasattr(keras, "config"):
        return str(keras.config.backend())
    if os.environ.get("KERAS_BACKEND"):
        return os.environ["KERAS_BACKEND"]
    home = os.environ.get("KERAS_HOME")
    file = (Path(home) if home else Path.home() / ".keras") / "keras.json"
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        settings = {}
    return str(settings.get("backend", "tensorflow")) if isinstance(settings, dict) else "tensorflow"


@cache
def _no_gpu() -> Problem | None:
    """Why there is no CUDA device that torch sees; this imports torch."""
    try:
        from parity.frameworks import Settings
        from parity.frameworks.torch.modes import check_device

        check_device(Settings(device="cuda"))
    except ModuleNotFoundError:
        problem = _not_installed("torch")
        return Problem("no GPU, as far as torch can tell") if problem is None else problem
    except MissingFrameworkError as error:
        one = error.problems[0]
        return Problem("no GPU that torch can use", expected=one.expected, got=one.got, remedy="run where there is one")
    return None


__all__ = ["GPU", "PACKAGES", "installed", "missing", "unknown"]
