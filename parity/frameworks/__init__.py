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
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Protocol

from parity.errors import EngineError, MissingFrameworkError, ParityError, to_install
from parity.recurrent import Array
from parity.result import Result, State

ENGINES = {"keras": "keras", "torch": "torch", "onnxruntime": "onnx"}
"""Engine name -> module of this package that runs it, named like the package whose objects it owns."""

KERAS_BACKENDS = {f"keras:{backend}": backend for backend in ("tensorflow", "torch", "jax")}
"""Engine name -> backend of Keras. A process has one backend for good, so each of these engines runs in a process of its own; the engine
"keras" is whatever backend the process at hand has."""

_NEEDS = {
    "keras": ("keras", "tensorflow", "jax", "jaxlib", "torch"),
    "torch": ("torch",),
    "onnxruntime": ("onnx", "onnxruntime"),
}
_EXTRAS = {
    "keras": "keras",
    "torch": "torch",
    "onnxruntime": "onnx",
    "keras:tensorflow": "keras",
    "keras:torch": "keras,torch",
    "keras:jax": "jax",
}


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

    def __call__(self, inputs: Array, states: Mapping[str, State], mask: Array | None = None) -> Result:
        """Run on inputs (batch, time, features) or (batch, time) integers from the given state of every recurrent layer.

        Args:
            inputs: batch first.
            states: by layer.
            mask: (batch, time) of bool, True where a step is valid; None where all are.
        """
        ...


def call(run: Runner, inputs: Array, states: Mapping[str, State], mask: Array | None) -> Result:
    """Run, with a mask only where there is one."""
    return run(inputs, states) if mask is None else run(inputs, states, mask)


def family(engine: str) -> str:
    """The framework behind an engine, which is the key of `ENGINES` that reads and builds for it.

    Raises:
        ParityError: no such engine; says which there are.

    Example:
        >>> family("keras:jax"), family("torch")
        ('keras', 'torch')
    """
    if engine not in ENGINES and engine not in KERAS_BACKENDS:
        known = ", ".join([*ENGINES, *KERAS_BACKENDS, "reference"])
        raise ParityError("unknown engine", expected=known, got=repr(engine))
    return engine.partition(":")[0]


def framework(engine: str) -> ModuleType:
    """The module of this package that runs an engine.

    Raises:
        ParityError: no such engine, or Keras on another backend than this process has.
        MissingFrameworkError: its framework is not installed; says the pip extra.
    """
    needs = _NEEDS[family(engine)]
    try:
        module = importlib.import_module(f"parity.frameworks.{ENGINES[family(engine)]}")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in needs:
            raise
        raise MissingFrameworkError(
            f"the engine '{engine}' is not installed",
            where=f"import {error.name}",
            expected=error.name,
            got=f"no module named '{error.name}'",
            remedy=to_install(_EXTRAS[engine]),
        ) from error
    if engine in KERAS_BACKENDS and (backend := own_backend()) != KERAS_BACKENDS[engine]:
        remedy = "run it in a process of its own: parity.run and parity.compare do, parity.worker.Worker does"
        raise ParityError(
            "Keras has one backend for good", "this process", KERAS_BACKENDS[engine], str(backend), remedy
        )
    return module


def raised_by_framework(error: BaseException) -> bool:
    """Whether an exception is a framework's own refusal, and not a mistake in parity.

    What parity's last line on the way called decides: code of a framework raised it, then it is the framework's; NumPy, einops or the
    standard library, then parity handed them something wrong. Where that call went straight into a compiled function, which leaves no
    line, the class of the exception decides: a framework's own class is the framework's, a plain TypeError is parity's.
    """
    modules = [str(frame.f_globals.get("__name__")) for frame, _ in traceback.walk_tb(error.__traceback__)]
    packages = [module.partition(".")[0] for module in modules]
    last = max((index for index, package in enumerate(packages) if package == __name__.partition(".")[0]), default=-1)
    called = packages[last + 1 :] or [type(error).__module__.partition(".")[0]]
    return called[0] in {package for packages in _NEEDS.values() for package in packages}


def engine_error(engine: str, error: Exception) -> EngineError:
    r"""What a framework raised, with the first line of its message.

    Example:
        >>> engine_error("torch", ValueError("no such thing\nat some place")).problems[0].got
        'ValueError: no such thing'
    """
    words = str(error).strip().splitlines()
    got = f"{type(error).__name__}: {words[0]}" if words else type(error).__name__
    return EngineError(f"the engine '{engine}' raised an error", expected="a result", got=got)


def own_backend() -> str | None:
    """The backend of Keras in this process; None while it is not imported."""
    keras = sys.modules.get("keras")
    return None if keras is None else str(keras.config.backend())


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
