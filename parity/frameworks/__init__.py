"""The only place that imports a framework: one module each, the same verbs in each.

owns(source)                  whether a live object is this framework's, told without importing it
read(source)                  live object -> Network
build(network)                Network -> live object
runner(source, network, ...)  something that runs the live object and answers in canonical axes
"""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Protocol

from parity.errors import MissingFrameworkError, ParityError
from parity.recurrent import Array
from parity.result import Result, State

ENGINES = {"keras": "keras", "torch": "torch", "onnxruntime": "onnx"}
"""Engine name -> module of this package that runs it, named like the package whose objects it owns."""

_NEEDS = {"keras": ("tensorflow", "keras"), "torch": ("torch",), "onnxruntime": ("onnx", "onnxruntime")}
_EXTRAS = {"keras": "keras", "torch": "torch", "onnxruntime": "onnx"}


@dataclass(frozen=True)
class Settings:
    """Where and how precisely an engine runs.

    Args:
        device: "cpu" or "cuda".
        dtype: "float32" or "float64".
        tf32: on CUDA, whether products may be truncated to TF32.
    """

    device: str = "cpu"
    dtype: str = "float32"
    tf32: bool = False

    def __post_init__(self) -> None:
        for name, value, known in (
            ("device", self.device, ("cpu", "cuda")),
            ("dtype", self.dtype, ("float32", "float64")),
        ):
            if value not in known:
                raise ParityError(f"unknown {name}", expected=" or ".join(known), got=repr(value))


@contextmanager
def quiet_import() -> Iterator[None]:
    """TensorFlow greets on the standard error of the process while it is imported; show that only if the import fails."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as greeting:
        os.dup2(greeting.fileno(), 2)
        try:
            yield
        except BaseException:
            greeting.seek(0)
            os.write(kept, greeting.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


class Runner(Protocol):
    """Runs one live object: inputs in canonical axes in, a `Result` out."""

    engine: str

    def __call__(self, inputs: Array, states: Mapping[str, State]) -> Result:
        """Run on inputs (batch, time, features) or (batch, time) integers from the given state of every recurrent layer."""
        ...


def framework(engine: str) -> ModuleType:
    """The module of this package that runs an engine.

    Raises:
        ParityError: no such engine.
        MissingFrameworkError: its framework is not installed; says the pip extra.
    """
    if engine not in ENGINES:
        raise ParityError("unknown engine", expected=", ".join([*ENGINES, "reference"]), got=repr(engine))
    try:
        return importlib.import_module(f"parity.frameworks.{ENGINES[engine]}")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in _NEEDS[engine]:
            raise
        raise MissingFrameworkError(
            f"the engine '{engine}' is not installed",
            where=f"import {error.name}",
            expected=", ".join(_NEEDS[engine]),
            got=f"no module named '{error.name}'",
            remedy=f"pip install 'keras-torch-parity[{_EXTRAS[engine]}]', or -e '.[{_EXTRAS[engine]}]' in a checkout",
        ) from error


def owner(source: object) -> str | None:
    """The engine whose live object this is; only frameworks that are imported already can own one.

    Example:
        >>> owner("model.keras") is None
        True
    """
    for engine, imported in ENGINES.items():
        if imported in sys.modules and framework(engine).owns(source):
            return engine
    return None
