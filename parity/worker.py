"""Engines in processes of their own: they start while others load, each Keras backend has its own, and a crash of one is not ours.

A worker is asked to load a source, to run what it loaded, and to forget it; it answers in that order. Every message is an `.npz` archive
behind its length, with a JSON header as one of its arrays. Nothing is unpickled on either side.
"""

from __future__ import annotations

import atexit
import io
import json
import os
import re
import signal
import struct
import subprocess
import sys
import tempfile
import traceback
import weakref
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from threading import RLock
from typing import Any, BinaryIO

import numpy as np

from parity import errors
from parity.engines import runner_here
from parity.frameworks import (
    KERAS_BACKENDS,
    Runner,
    Settings,
    engine_error,
    family,
    framework,
    own_backend,
    raised_by_framework,
)
from parity.recurrent import Array
from parity.result import Result, State
from parity.serialized import from_data, to_data, value_from_data
from parity.sources import Opened, Source, open_source

_LENGTH = struct.Struct("<Q")
_START = "import sys; sys.path.remove(''); import json; sys.path = json.loads(sys.argv[1]); import parity.worker as w; w.main()"

_WARM = 6
"""So many workers are kept alive between calls of `run` and `compare`: every engine there is, with one choice of settings."""

_AHEAD = 8
"""So many requests may wait for their answers to be read. With more, both sides might wait for the other to empty a full pipe."""

LOG = re.compile(r"[IWE]\d{4} |\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: [IWE] |WARNING: All log messages")
"""Lines that absl and TensorFlow log in passing. Fatal ones (F) are no such lines: they tell why a process aborts."""

Message = tuple[dict[str, Any], Mapping[str, Array]]


class Worker:
    """An engine in a process of its own that runs one source after another; importing the framework is paid for once.

    The process starts at once and imports in the background. Where it has died, or was closed, the next request starts another. Safe to use
    from several threads, which take turns.

    Args:
        engine: a key of `parity.frameworks.ENGINES` or `KERAS_BACKENDS`.
        settings: where and how precisely.

    Raises:
        ParityError: no such engine.

    Example:
        >>> import torch
        >>> with Worker("torch") as worker:
        ...     for units in (4, 5):
        ...         run = worker.load(torch.nn.GRU(3, units))
        ...         print(run(np.ones((2, 7, 3), np.float32), {"gru": State(np.zeros((1, 2, units), np.float32))}).sequence.shape)
        (2, 7, 4)
        (2, 7, 5)
    """

    def __init__(self, engine: str, settings: Settings | None = None) -> None:
        family(engine)
        self.engine, self.settings = engine, settings or Settings()
        self._lock = RLock()
        self._process: _Process | None = None
        self._live()

    def begin(self, source: Source) -> ProcessRunner:
        """Have a source loaded in the background; `ProcessRunner.ready` waits for it."""
        return ProcessRunner(self, open_source(source))

    def load(self, source: Source) -> ProcessRunner:
        """Load a source.

        Args:
            source: a file of the engine's own framework is opened there; anything else is described here and built there.

        Raises:
            ParityError: what the engine raised, or that its process ended.
        """
        run = self.begin(source)
        run.ready()
        return run

    def close(self) -> None:
        """End the process."""
        with self._lock:
            if self._process is not None:
                self._process.close()
            self._process = None

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _live(self) -> _Process:
        """The process, a new one where there is none that lives."""
        with self._lock:
            if self._process is None or not self._process.alive:
                self.close()
                self._process = _Process(self.engine, self.settings)
            return self._process


class ProcessRunner:
    """Runs one source in a worker; see `parity.frameworks.Runner`. Loads it again where the process has been started anew since.

    Args:
        worker: where.
        opened: what.
    """

    def __init__(self, worker: Worker, opened: Opened) -> None:
        self.engine = worker.engine
        self._worker = worker
        self._task = _task(opened, worker.engine)
        self._home: _Process | None = None
        self._number = 0
        self._loading: int | None = None
        self._begin()

    def ready(self) -> None:
        """Wait until the engine has loaded the source.

        Raises:
            ParityError: what the engine raised, or that its process ended.
        """
        with self._worker._lock:
            if self._home is None or self._home is not self._worker._live():
                self._begin()
            if self._loading is not None:
                assert self._home is not None
                home, ticket = self._home, self._loading
                self._home = self._loading = None  # to be loaded again, unless this succeeds
                home.answer(ticket)
                self._home = home

    def __call__(self, inputs: Array, states: Mapping[str, State], mask: Array | None = None) -> Result:
        """Run on inputs (batch, time, features) or (batch, time) integers, all or those steps that a mask (batch, time) says are valid.

        Raises:
            ParityError: what the engine raised, or that its process ended.
        """
        arrays: Mapping[str, Array]
        given, arrays = to_data({"inputs": inputs, "states": states, **({} if mask is None else {"mask": mask})})
        with self._worker._lock:
            self.ready()
            assert self._home is not None
            try:
                ticket = self._home.ask({"do": "run", "number": self._number, "given": given}, arrays)
            except _UnsentError:  # it had ended before: another gets the request
                self._worker.close()
                self.ready()
                ticket = self._home.ask({"do": "run", "number": self._number, "given": given}, arrays)
            header, arrays = self._home.answer(ticket)
        result = value_from_data(header["result"], arrays)
        assert isinstance(result, Result)
        return replace(result, engine=self.engine, settings={**result.settings, "process": "its own"})

    def _begin(self) -> None:
        with self._worker._lock:
            try:
                self._load()
            except _UnsentError:
                self._worker.close()
                self._load()

    def _load(self) -> None:
        with self._worker._lock:
            self._home = self._worker._live()
            self._number = self._home.number()
            header, arrays = self._task
            self._loading = self._home.ask({**header, "do": "load", "number": self._number}, arrays)
            weakref.finalize(self, self._home.forgotten.append, self._number).atexit = False


def warm(engine: str, settings: Settings) -> Worker:
    """The worker of this Python process for an engine and settings. It stays alive for the next call, and ends with this process.

    Example:
        >>> warm("onnxruntime", Settings()) is warm("onnxruntime", Settings())
        True
    """
    with _LOCK:
        key = (engine, settings, own_backend() if engine == "keras" else None)
        worker = _KEPT.pop(key, None) or Worker(engine, settings)
        _KEPT[key] = worker
        while len(_KEPT) > _WARM:
            _KEPT.pop(next(iter(_KEPT))).close()
        return worker


def end_workers() -> None:
    """End every worker that is kept alive; the next call starts new ones."""
    with _LOCK:
        while _KEPT:
            _KEPT.popitem()[1].close()


_KEPT: dict[tuple[str, Settings, str | None], Worker] = {}
_LOCK = RLock()
atexit.register(end_workers)


class _UnsentError(errors.EngineError):
    """A process had ended while nothing was asked of it; the request did not reach it."""


class _Process:
    """One process and the messages to and from it."""

    def __init__(self, engine: str, settings: Settings) -> None:
        self._engine = engine
        self._owner = os.getpid()
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115  close() ends it with the process
        self._process = subprocess.Popen(
            # Not `-m parity.worker`: that puts the current folder, and whatever stands in it, first on the path.
            [
                sys.executable,
                "-c",
                _START,
                json.dumps([entry for entry in sys.path if entry]),
                engine,
                json.dumps(asdict(settings)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            env=environment_of(engine, settings),
        )
        self._asked = self._answered = self._numbers = 0
        self._early: dict[int, Message | None] = {}
        self.forgotten: deque[int] = deque()

    @property
    def alive(self) -> bool:
        """Whether it can be asked; not where this is a copy of it in a process that was forked off."""
        return os.getpid() == self._owner and self._process.poll() is None

    @property
    def pid(self) -> int:
        """As the system knows it."""
        return self._process.pid

    def number(self) -> int:
        """A number for another source."""
        self._numbers += 1
        return self._numbers

    def ask(self, header: dict[str, Any], arrays: Mapping[str, Array]) -> int:
        """Send a request.

        Returns:
            The ticket to get the answer with.
        """
        assert self._process.stdin is not None
        while self._asked - self._answered >= _AHEAD:
            self._read()
        gone = [self.forgotten.popleft() for _ in range(len(self.forgotten))]
        try:
            _send(self._process.stdin, {**header, "forget": gone}, arrays)
        except BrokenPipeError as error:
            ended = self._ended()
            idle = self._asked == self._answered
            raise (_UnsentError(ended.problems) if idle else ended) from error
        except BaseException:
            self.close()  # half a message was sent: nothing that follows could be understood
            raise
        self._asked += 1
        return self._asked

    def answer(self, ticket: int) -> Message:
        """Wait for the answer to a request; those before it are kept for whoever asks for them."""
        while self._answered < ticket:
            self._read()
        message = self._early.pop(ticket)
        if message is None:
            raise self._ended()
        header, arrays = message
        if "mistake" in header:
            raise RuntimeError(f"a mistake in parity, in the process of '{self._engine}':\n{header['mistake']}")
        if "error" in header:
            kind = getattr(errors, header["error"], errors.ParityError)
            raise kind([errors.Problem(**problem) for problem in header["problems"]])
        return header, arrays

    def _read(self) -> None:
        assert self._process.stdout is not None
        try:
            self._early[self._answered + 1] = _receive(self._process.stdout)
        except BaseException:
            self.close()  # half a message was read: likewise
            raise
        self._answered += 1

    def close(self) -> None:
        """End it; where this is the copy of a process that was forked off, only let go of it."""
        if os.getpid() == self._owner:
            self._process.kill()
            self._process.wait()
        else:
            self._process.returncode = 0  # it is another's child: nothing to wait for
        for pipe in (self._process.stdin, self._process.stdout, self._complaints):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()

    def _ended(self) -> errors.EngineError:
        code = self._process.wait()
        how = f"exit status {code}"
        if code < 0:
            with suppress(ValueError):
                how = f"signal {signal.Signals(-code).name}"
        words: list[str] = []
        if not self._complaints.closed:
            self._complaints.seek(0)
            words = self._complaints.read().decode("utf-8", "replace").strip().splitlines()
            words = [line for line in words if not LOG.match(line)]
        return errors.EngineError(
            f"the engine '{self._engine}' ended unexpectedly",
            where="a process of its own",
            expected="an answer",
            got=how + (f", {words[-1]}" if words else ""),
            remedy="run it by itself to see more: parity compare FILE --engines " + self._engine,
        )


def environment_of(engine: str, settings: Settings) -> dict[str, str]:
    """What has to be said before the framework is imported."""
    own = dict(os.environ)
    backend = KERAS_BACKENDS.get(engine) or (own_backend() if engine == "keras" else None)
    if backend:
        own["KERAS_BACKEND"] = backend
    if engine in KERAS_BACKENDS and settings.device == "cpu":
        # Keras takes a GPU by itself where its backend sees one.
        own |= {"CUDA_VISIBLE_DEVICES": "-1", "JAX_PLATFORMS": "cpu"}
    if engine == "keras:jax" and settings.device == "cuda":
        own["JAX_DEFAULT_MATMUL_PRECISION"] = "highest"  # JAX's own default on a GPU is TF32
    return own


def _task(opened: Opened, engine: str) -> Message:
    """What a worker has to know of a source: the path of a file that the engine opens by itself, else the description."""
    if opened.path is not None and opened.engine == family(engine):
        return {"label": opened.label, "path": str(opened.path.absolute())}, {}
    network, arrays = to_data(opened.network)
    return {"label": opened.label, "network": network}, arrays


def serve(requests: BinaryIO, answers: BinaryIO, engine: str, settings: Settings) -> None:
    """Answer a parent until it closes its end."""
    with suppress(errors.ParityError):  # told when something is loaded
        framework(engine)
    loaded: dict[int, Runner] = {}
    while (request := _receive(requests)) is not None:
        for number in request[0]["forget"]:
            loaded.pop(number, None)
        try:
            answer = _answer(*request, loaded, engine, settings)
        except errors.ParityError as error:
            answer = _told(error), {}
        except Exception as error:
            mistake = {"mistake": traceback.format_exc()}
            answer = _told(engine_error(engine, error)) if raised_by_framework(error) else mistake, {}
        _send(answers, *answer)


def _told(error: errors.ParityError) -> dict[str, Any]:
    return {"error": type(error).__name__, "problems": [asdict(problem) for problem in error.problems]}


def _answer(
    header: dict[str, Any], arrays: Mapping[str, Array], loaded: dict[int, Runner], engine: str, settings: Settings
) -> Message:
    number = header["number"]
    if header["do"] == "load":
        if "path" in header:
            opened = open_source(Path(header["path"]))
        else:
            opened = Opened(header["label"], from_data(header["network"], arrays), None)
        loaded[number] = runner_here(opened, engine, settings)
        return {}, {}
    given: Any = value_from_data(header["given"], arrays)
    result, found = to_data(loaded[number](**given))
    return {"result": result}, found


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
    serve(sys.stdin.buffer, answers, sys.argv[2], Settings(**json.loads(sys.argv[3])))
