"""An engine in a process of its own: it starts while others load, and a crash of it is not ours.

The parent sends a task, then any number of runs; every message is an `.npz` archive behind its length, with a JSON header as one of
its arrays. Nothing is unpickled on either side.
"""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from parity import errors
from parity.frameworks import Settings
from parity.recurrent import Array
from parity.result import LayerRun, Result, Returned, State
from parity.running import runner
from parity.sources import Opened, open_source

_LENGTH = struct.Struct("<Q")
_START = "import sys; sys.path.remove(''); import json; sys.path = json.loads(sys.argv[1]); import parity.worker as w; w.main()"

Message = tuple[dict[str, Any], dict[str, Array]]


class ProcessRunner:
    """Runs a file in an engine in a process of its own; see `parity.frameworks.Runner`.

    The process starts at once and loads in the background; `ready` waits for it.

    Args:
        opened: a source that is a file.
        engine: "keras", "torch" or "onnxruntime".
        settings: where and how precisely.
    """

    def __init__(self, opened: Opened, engine: str, settings: Settings) -> None:
        self.engine = engine
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115  close() ends it with the process
        self._process = subprocess.Popen(
            # Not `-m parity.worker`: that puts the current folder, and whatever stands in it, first on the path.
            [sys.executable, "-c", _START, json.dumps([entry for entry in sys.path if entry])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
        )
        self._tell({"path": str(opened.path), "engine": engine, "settings": asdict(settings)}, {})

    def ready(self) -> None:
        """Wait until the engine has loaded the source.

        Raises:
            ParityError: what the engine raised, or that its process ended.
        """
        self._answer()

    def __call__(self, inputs: Array, states: Mapping[str, State]) -> Result:
        """Run on inputs (batch, time, features) or (batch, time) integers."""
        arrays = {"inputs": inputs}
        for number, state in enumerate(states.values()):
            arrays |= {f"{number}.{name}": array for name, array in zip("hc", state.arrays(), strict=False)}
        self._tell({"states": list(states)}, arrays)
        return _unpacked(*self._answer())

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._complaints):
            if pipe is not None:
                pipe.close()

    def _tell(self, header: dict[str, Any], arrays: Mapping[str, Array]) -> None:
        assert self._process.stdin is not None
        try:
            _send(self._process.stdin, header, arrays)
        except BrokenPipeError as error:
            raise self._ended() from error

    def _answer(self) -> Message:
        assert self._process.stdout is not None
        message = _receive(self._process.stdout)
        if message is None:
            raise self._ended()
        header, arrays = message
        if "error" in header:
            kind = getattr(errors, header["error"], errors.ParityError)
            raise kind([errors.Problem(**problem) for problem in header["problems"]])
        return header, arrays

    def _ended(self) -> errors.ParityError:
        code = self._process.wait()
        self._complaints.seek(0)
        words = self._complaints.read().decode("utf-8", "replace").strip().splitlines()
        return errors.ParityError(
            f"the engine '{self.engine}' ended unexpectedly",
            where="a process of its own",
            expected="an answer",
            got=f"exit status {code}" + (f", {words[-1]}" if words else ""),
            remedy="run it by itself to see more: parity compare FILE --engines " + self.engine,
        )


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer a parent until it closes its end: first the task, then its runs."""
    task = _receive(requests)
    if task is None:
        return
    header, _ = task
    try:
        opened = open_source(Path(header["path"]))
        run = runner(opened, header["engine"], Settings(**header["settings"]))
        _send(answers, {}, {})
        while (request := _receive(requests)) is not None:
            names, arrays = request[0]["states"], request[1]
            states = {
                name: State(arrays[f"{number}.h"], arrays.get(f"{number}.c")) for number, name in enumerate(names)
            }
            _send(answers, *_packed(run(arrays["inputs"], states)))
    except errors.ParityError as error:
        problems = [asdict(problem) for problem in error.problems]
        _send(answers, {"error": type(error).__name__, "problems": problems}, {})


def _packed(result: Result) -> Message:
    arrays = {f"output {number}": array for number, array in enumerate(result.outputs.values())}
    for number, run in enumerate(result.layers.values()):
        members = {"h": run.final.h, "c": run.final.c, "sequence": run.sequence}
        arrays |= {f"{number}.{name}": array for name, array in members.items() if array is not None}
    header = {
        "engine": result.engine,
        "outputs": list(result.outputs),
        "layers": list(result.layers),
        "returned": [asdict(value) for value in result.returned],
        "settings": {**result.settings, "process": "its own"},
    }
    return header, arrays


def _unpacked(header: dict[str, Any], arrays: Mapping[str, Array]) -> Result:
    layers = {
        name: LayerRun(State(arrays[f"{number}.h"], arrays.get(f"{number}.c")), arrays.get(f"{number}.sequence"))
        for number, name in enumerate(header["layers"])
    }
    outputs = {name: arrays[f"output {number}"] for number, name in enumerate(header["outputs"])}
    returned = tuple(Returned(v["name"], tuple(v["shape"]), v["dtype"]) for v in header["returned"])
    return Result(header["engine"], outputs, layers, returned, header["settings"])


def _send(pipe: Any, header: dict[str, Any], arrays: Mapping[str, Array]) -> None:
    archive = io.BytesIO()
    words = np.frombuffer(json.dumps(header).encode(), np.uint8)
    np.savez(archive, allow_pickle=False, **{"": words, **arrays})
    pipe.write(_LENGTH.pack(archive.tell()) + archive.getbuffer())
    pipe.flush()


def _receive(pipe: Any) -> Message | None:
    """The next message; None if the other side is gone."""
    head = pipe.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    content = pipe.read(length)
    if len(content) < length:
        return None
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    return json.loads(arrays.pop("").tobytes()), arrays


def main() -> None:
    """Serve on the standard streams; what frameworks print goes to standard error."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    serve(sys.stdin.buffer, answers)
