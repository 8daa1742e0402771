"""Whole models on a Keras backend that this process does not have: each run in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from parity.custom_files import LOADED, register_from
from parity.errors import EngineError, ParityError, Problem
from parity.frameworks import Settings, framework
from parity.frameworks.written import loaded
from parity.graph.code_files import write_files
from parity.graph.graph import Wire
from parity.graph.keras_code import keras_code
from parity.recurrent import Array
from parity.result import Result, Returned
from parity.sources import Opened
from parity.worker import environment_of

_START = (
    "import sys, json; sys.path = json.loads(sys.argv.pop(1)); import parity.graph.apart as a; a.main(*sys.argv[1:])"
)
_INPUTS, _OUTPUTS, _FACTS, _WAIT_S = "inputs.npz", "outputs.npz", "facts.json", 600
_TOLD = 3
"""The exit status where the problems stand in the place of the facts."""


class KerasApart:
    """Runs a model in a process with another backend of Keras; see `parity.graph.judging.GraphRunner`.

    Args:
        source: a file of Keras is opened there, after the files that register layers; of anything else the code that parity writes for it.
        engine: "keras:tensorflow", "keras:torch" or "keras:jax".
        settings: where it runs.

    Raises:
        UnsupportedError: the model cannot be said in Keras exactly.
    """

    def __init__(self, source: Opened, engine: str, settings: Settings) -> None:
        self.engine, self._graph, self._settings = engine, source.graph, settings
        self._file = str(source.path.absolute()) if source.path is not None and source.engine == "keras" else ""
        if not self._file:
            keras_code(self._graph)  # what Keras cannot say is refused here

    def __call__(self, inputs: Mapping[str, Array]) -> Result:
        """Run.

        Raises:
            EngineError: the process ended with an error.
            ParityError: Keras cannot open the file.
        """
        with tempfile.TemporaryDirectory() as name:
            return self._run_in(Path(name), inputs)

    def _run_in(self, folder: Path, inputs: Mapping[str, Array]) -> Result:
        if not self._file:
            write_files(self._graph, "keras", folder)
        ordered = {f"{place}": inputs[one.name] for place, one in enumerate(self._graph.inputs)}
        np.savez(folder / _INPUTS, **ordered)  # type: ignore[arg-type]  # NumPy's stub takes the names for its own options
        paths = json.dumps([entry for entry in sys.path if entry])
        done = subprocess.run(
            [sys.executable, "-c", _START, paths, str(folder), self._file, *(str(one.absolute()) for one in LOADED)],
            env=environment_of(self.engine, self._settings),
            capture_output=True,
            text=True,
            check=False,
            timeout=_WAIT_S,
        )
        if done.returncode == _TOLD and (folder / _FACTS).is_file():
            problems = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
            raise ParityError([Problem(**problem) for problem in problems])
        if done.returncode:
            said = [line for line in done.stderr.splitlines() if line.strip()]
            raise EngineError(f"the engine '{self.engine}' raised an error", got=said[-1] if said else "no message")
        with np.load(folder / _OUTPUTS) as found:
            outputs = {name: found[f"{place}"] for place, name in enumerate(self._graph.outputs)}
        facts = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
        returned = tuple(Returned(name, array.shape, str(array.dtype)) for name, array in outputs.items())
        return Result(self.engine, outputs, {}, returned, facts)

    def seen(self, inputs: Mapping[str, Array]) -> dict[Wire, Array]:
        """Nothing: values inside stay in the other process."""
        return {}


def main(folder: str, file: str, *custom: str) -> None:
    """Run in the other process: a file of Keras, after files that register its layers, or what parity wrote into the folder."""
    try:
        _run(Path(folder), file, custom if file else ())
    except ParityError as error:
        problems = [asdict(problem) for problem in error.problems]
        Path(folder, _FACTS).write_text(json.dumps(problems), encoding="utf-8")
        sys.exit(_TOLD)


def _run(place: Path, file: str, custom: Sequence[str]) -> None:
    for one in custom:
        register_from(Path(one))
    whole = framework("keras").whole
    model = whole.opened(Path(file)) if file else loaded(place)
    with np.load(place / _INPUTS) as found:
        inputs = [found[f"{index}"] for index in range(len(found.files))]
    outputs, facts = whole.called(model, inputs)
    np.savez(place / _OUTPUTS, **{f"{index}": array for index, array in enumerate(outputs)})
    (place / _FACTS).write_text(json.dumps(facts), encoding="utf-8")


__all__ = ["KerasApart", "main"]
