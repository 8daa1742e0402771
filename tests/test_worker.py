"""An engine in a process of its own answers as one here does, source after source, and its end is told, not suffered."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
import pytest
import torch

import parity
from parity import worker as worker_module
from parity.comparison import compare
from parity.comparison_table import show_comparison
from parity.errors import EngineError
from parity.frameworks import Runner, Settings, raised_by_framework
from parity.judge import REFERENCE, judge
from parity.network import Network
from parity.recurrent import Array
from parity.report import make_record, read_record, render_record, save_record
from parity.result import LayerRun, Result, State, check_states
from parity.running import check_inputs, runner
from parity.serialized import to_data, value_from_data
from parity.sources import Opened, open_source
from parity.worker import Worker, _receive, _send, end_workers, serve, warm


@pytest.fixture(scope="module")
def torch_worker() -> Iterator[Worker]:
    """One process for all tests here that need torch in one."""
    with Worker("torch") as worker:
        yield worker


@pytest.fixture(scope="module")
def onnx_worker() -> Iterator[Worker]:
    """The same for ONNX Runtime, which is quick to start."""
    with Worker("onnxruntime") as worker:
        yield worker


def gru(seed: int = 0, units: int = 5) -> Network:
    torch.manual_seed(seed)
    return parity.read(torch.nn.GRU(3, units))


def some_states(network: Network, batch: int, random: np.random.Generator) -> dict[str, State]:
    return {
        name: State(
            *(
                random.standard_normal((len(spec.directions), batch, spec.hidden_size)).astype(np.float32)
                for _ in spec.states
            )
        )
        for name, spec in network.specs.items()
    }


def test_same_answers_as_in_this_process(torch_worker: Worker, random: np.random.Generator) -> None:
    opened = open_source(torch.nn.LSTM(3, 5, num_layers=2, bidirectional=True))
    x = check_inputs(opened.network, random.standard_normal((4, 6, 3)))
    states = some_states(opened.network, 4, random)
    apart, at_home = torch_worker.load(opened), runner(replace(opened, live=None, engine=None), "torch", Settings())
    for start in (states, {name: State(s.h * 0, s.c * 0) for name, s in states.items() if s.c is not None}):
        here, there = at_home(x, start), apart(x, start)
        np.testing.assert_array_equal(here.sequence, there.sequence)
        np.testing.assert_array_equal(here.h_n, there.h_n)
        assert [run.sequence is None for run in there.layers.values()] == [True, False]
        assert here.returned == there.returned
        assert there.settings == {**here.settings, "process": "its own"}


def test_one_process_runs_source_after_source_and_several_at_once(
    onnx_worker: Worker, random: np.random.Generator
) -> None:
    process = onnx_worker._live()
    x = random.standard_normal((2, 6, 3)).astype(np.float32)
    networks = [gru(seed, 4 + seed) for seed in range(3)]
    runs = [onnx_worker.begin(network) for network in networks]
    for run, network in reversed(list(zip(runs, networks, strict=True))):
        expected = parity.run(network, x, "onnxruntime").sequence
        np.testing.assert_array_equal(run(x, check_states(network.specs, None, 2)).sequence, expected)
    assert onnx_worker._live() is process


def test_many_sources_may_be_begun_before_the_first_is_waited_for(onnx_worker: Worker) -> None:
    runs = [onnx_worker.begin(gru(seed, 64)) for seed in range(40)]
    for run in runs:
        run.ready()


def test_a_file_of_the_engine_goes_over_as_its_path_and_anything_else_as_its_description(tmp_path: Path) -> None:
    network = gru()
    opened = {engine: Opened("x", network, engine, tmp_path / "x") for engine in ("torch", "keras", "onnxruntime")}
    for name, engine, path in (
        ("torch", "torch", True),
        ("keras", "keras", True),
        ("keras", "keras:jax", True),
        ("torch", "keras:jax", False),
        ("onnxruntime", "torch", False),
    ):
        header, arrays = worker_module._task(opened[name], engine)
        assert ("path" in header, "network" in header, bool(arrays)) == (path, not path, not path)
    header, _ = worker_module._task(replace(opened["torch"], path=Path("relative.pt")), "torch")
    assert Path(header["path"]).is_absolute(), "this process may change its folder, and the other does not follow"


def test_a_file_is_opened_there(torch_worker: Worker, tmp_path: Path, random: np.random.Generator) -> None:
    torch.save(torch.nn.LSTM(3, 5).state_dict(), tmp_path / "lstm.pt")
    run = torch_worker.load(tmp_path / "lstm.pt")
    x = random.standard_normal((2, 4, 3)).astype(np.float32)
    expected = parity.run(tmp_path / "lstm.pt", x).sequence
    name = next(iter(parity.read(tmp_path / "lstm.pt").specs))
    states = {name: State(np.zeros((1, 2, 5), np.float32), np.zeros((1, 2, 5), np.float32))}
    np.testing.assert_array_equal(run(x, states).sequence, expected)


def test_errors_cross_over_with_their_kind_and_the_process_lives_on(onnx_worker: Worker) -> None:
    process = onnx_worker._live()
    with Worker("onnxruntime", Settings(dtype="float64")) as worker:
        for _ in range(2):
            with pytest.raises(parity.UnsupportedError, match="no float64") as caught:
                worker.load(gru())
            assert caught.value.problems[0].remedy
        assert worker._live().alive
    assert onnx_worker._live() is process


def test_a_process_that_died_between_two_calls_is_replaced(onnx_worker: Worker, random: np.random.Generator) -> None:
    x, states = random.standard_normal((2, 4, 3)).astype(np.float32), check_states(gru().specs, None, 2)
    run = onnx_worker.load(gru())
    before, process = run(x, states), onnx_worker._live()
    process._process.kill()
    process._process.wait()
    np.testing.assert_array_equal(run(x, states).sequence, before.sequence)
    assert onnx_worker._live() is not process


def test_a_crash_is_told_and_the_next_call_works(onnx_worker: Worker, random: np.random.Generator) -> None:
    run = onnx_worker.load(gru())
    empty = {name: State(state.h[:, :0]) for name, state in check_states(gru().specs, None, 2).items()}
    with pytest.raises(EngineError, match="the engine 'onnxruntime' ended unexpectedly") as caught:
        run(np.ones((0, 4, 3), np.float32), empty)
    assert "SIGABRT" in caught.value.problems[0].got
    assert run(random.standard_normal((2, 4, 3)).astype(np.float32), check_states(gru().specs, None, 2)).sequence.any()


@dataclass
class Emptied:
    """A runner in a process of its own that gets a batch of none, which makes ONNX Runtime abort."""

    inner: Runner
    engine: str = "onnxruntime"

    def __call__(self, inputs: Array, states: Mapping[str, State], mask: Array | None = None) -> Result:
        """Run on nothing."""
        return self.inner(inputs[:0], {name: State(state.h[:, :0]) for name, state in states.items()})


def test_an_engine_that_crashes_is_a_failure_of_that_engine_alone(
    onnx_worker: Worker,
    torch_worker: Worker,
    random: np.random.Generator,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def loaded(source: Opened, engine: str, *_: object) -> Runner:
        return Emptied(onnx_worker.load(source)) if engine == "onnxruntime" else torch_worker.load(source)

    monkeypatch.setattr("parity.comparison._loaded", loaded)
    compared = compare(gru(), engines=["onnxruntime", "torch"], inputs=random.standard_normal((2, 6, 3)))
    rows = {(row.rule, row.left, row.right) for row in compared.table}
    assert rows == {("run", "torch", REFERENCE), ("one step", "torch", REFERENCE)}
    assert {row.verdict for row in compared.table} == {"agree"}
    assert (compared.verdict, compared.ok) == ("undecided", False)
    assert list(compared.judgement.failures) == ["onnxruntime"]
    told = "onnxruntime failed (the engine 'onnxruntime' ended unexpectedly: signal SIGABRT"
    assert compared.sentence.startswith(f"Undecided: {told}")
    assert "torch agrees with the float64 reference" in compared.sentence
    assert any(note.startswith("onnxruntime failed: the engine") for note in compared.notes)
    record = make_record(compared)
    assert list(record["failures"]) == ["onnxruntime"]
    assert read_record(save_record(compared, tmp_path / "r.json"))["verdict"] == "undecided"
    page = render_record(record)
    assert "failed: <bdi>the engine &#39;onnxruntime&#39; ended unexpectedly" in page
    show_comparison(compared)
    assert "FAILED onnxruntime: the engine 'onnxruntime' ended unexpectedly" in capsys.readouterr().out
    with pytest.raises(AssertionError, match="onnxruntime failed"):
        parity.assert_parity(gru(), engines=["onnxruntime", "torch"])


def test_a_crash_does_not_hide_a_disagreement(onnx_worker: Worker, random: np.random.Generator) -> None:
    network, x = gru(), random.standard_normal((2, 6, 3)).astype(np.float32)
    runners: dict[str, Runner] = {
        "crashing": Emptied(onnx_worker.load(network)),
        "wrong": onnx_worker.load(gru(seed=1)),
        "right": onnx_worker.load(network),
    }
    judgement = judge(network, runners, x, check_states(network.specs, None, 2))
    assert judgement.verdict == "disagree"
    assert list(judgement.failures) == ["crashing"]
    against = {row.left: row.verdict for row in judgement.rows if row.right == REFERENCE and row.rule == "run"}
    assert against == {"wrong": "disagree", "right": "agree"}


def test_where_every_engine_fails_nothing_is_decided(
    onnx_worker: Worker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("parity.comparison._loaded", lambda source, *_: Emptied(onnx_worker.load(source)))
    compared = compare(gru(), engines=["onnxruntime"])
    assert compared.verdict == "undecided"
    assert compared.sentence.startswith("Undecided: onnxruntime failed")
    assert "<title>undecided" in render_record(make_record(compared))
    show_comparison(compared)
    assert "FAILED onnxruntime" in capsys.readouterr().out


def test_what_a_framework_raises_here_is_its_failure_and_a_mistake_of_parity_is_raised(
    monkeypatch: pytest.MonkeyPatch, random: np.random.Generator
) -> None:
    network, x = gru(), random.standard_normal((2, 6, 3)).astype(np.float32)
    run, states = runner(open_source(network), "torch", Settings()), check_states(network.specs, None, 2)

    def refused(*_: object, **__: object) -> None:
        raise RuntimeError("no kernel for this\nand much more")

    with monkeypatch.context() as patched:
        patched.setattr(torch.nn.GRU, "forward", refused)
        judgement = judge(network, {"torch": run}, x, states)
    assert judgement.failures == {"torch": "the engine 'torch' raised an error: RuntimeError: no kernel for this"}

    def mistaken(*_: object) -> None:
        raise TypeError("unhashable type")

    monkeypatch.setattr("parity.frameworks.torch.TorchRunner._describe", mistaken)
    with pytest.raises(TypeError, match="unhashable"):
        judge(network, {"torch": run}, x, states)


def test_whose_error_it_is() -> None:
    for call, own in (
        (lambda: torch.nn.GRU(3, 5)(torch.ones(2, 4, 7)), True),
        (lambda: np.ones((2, 3)) @ np.ones((2, 3)), False),
        (lambda: torch.ones(2, 3) @ torch.ones(2, 3), False),
        (lambda: dict[str, int]()["missing"], False),
    ):
        with pytest.raises(Exception) as caught:  # noqa: PT011  each has its own
            in_parity(call)()
        assert raised_by_framework(caught.value) is own


def in_parity(call: Any) -> Any:
    """The same function, as if it stood in parity."""
    return FunctionType(call.__code__, {**call.__globals__, "__name__": "parity.somewhere"})


def asked(engine_answers: io.BytesIO) -> list[Any]:
    engine_answers.seek(0)
    return list(iter(lambda: _receive(engine_answers), None))


def test_what_is_forgotten_is_gone_and_a_mistake_does_not_end_the_process() -> None:
    requests, answers = io.BytesIO(), io.BytesIO()
    network, arrays = to_data(gru())
    given, inputs = to_data({"inputs": np.ones((2, 4, 3), np.float32), "states": check_states(gru().specs, None, 2)})
    _send(requests, {"do": "load", "number": 1, "label": "x", "network": network, "forget": []}, arrays)
    _send(requests, {"do": "run", "number": 1, "given": given, "forget": []}, inputs)
    _send(requests, {"do": "run", "number": 1, "given": given, "forget": [1]}, inputs)
    _send(
        requests,
        {"do": "load", "number": 2, "label": "x", "network": {"class": "Popen", "fields": {}}, "forget": []},
        {},
    )
    requests.seek(0)
    serve(requests, answers, "onnxruntime", Settings())
    loaded, ran, forgotten, hostile = asked(answers)
    assert loaded[0] == {}
    assert isinstance(value_from_data(ran[0]["result"], ran[1]), Result)
    assert "KeyError: 1" in forgotten[0]["mistake"]
    assert (hostile[0]["error"], hostile[0]["problems"][0]["what"]) == ("FormatError", "unknown class")


def test_a_runner_that_is_dropped_is_forgotten_there(onnx_worker: Worker) -> None:
    run = onnx_worker.load(gru())
    home, number = run._home, run._number
    assert home is not None
    del run
    assert number in home.forgotten
    other = onnx_worker.load(gru())
    assert other._number > number
    assert not home.forgotten


def test_a_mistake_there_is_no_failure_of_the_engine(onnx_worker: Worker) -> None:
    run = onnx_worker.load(gru())
    with pytest.raises(RuntimeError, match="a mistake in parity, in the process of 'onnxruntime'") as caught:
        run(np.ones((2, 4, 3), np.float32), {})  # no state for its layer
    assert "Traceback" in str(caught.value)


class Masked:
    """Gives back the mask it got."""

    engine = "masked"

    def __call__(self, inputs: Array, states: Mapping[str, State], mask: Array | None = None) -> Result:
        """No computing."""
        shown = np.zeros(0) if mask is None else mask
        return Result("masked", {"mask": shown}, {"x": LayerRun(State(np.zeros((1, 1, 1))))})


def test_a_request_that_finds_an_idle_worker_dead_goes_to_another(
    onnx_worker: Worker, random: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, x = gru(), random.standard_normal((2, 6, 3)).astype(np.float32)
    states = check_states(network.specs, None, 2)
    run = onnx_worker.load(network)
    expected = run(x, states).sequence
    sends: list[Callable[[], Result]] = [lambda: run(x, states), lambda: onnx_worker.load(network)(x, states)]
    for send in sends:
        dead = onnx_worker._live()
        dead._process.kill()
        dead._process.wait()
        with monkeypatch.context() as patched:
            patched.setattr(worker_module._Process, "alive", not_known_yet(dead))
            np.testing.assert_array_equal(send().sequence, expected)
        assert onnx_worker._live() is not dead


def not_known_yet(dead: Any) -> property:
    """Whether a process lives, as it is seen before the system has told of the end of one."""
    told: Any = vars(worker_module._Process)["alive"]
    return property(lambda process: (process is dead and not process._process.stdin.closed) or told.fget(process))


def test_a_request_behind_another_is_not_sent_again(
    onnx_worker: Worker, random: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was asked before may have ended the process: that is told."""
    run = onnx_worker.load(gru())
    dead = onnx_worker._live()
    dead._process.kill()
    dead._process.wait()
    dead._asked += 1
    monkeypatch.setattr(worker_module._Process, "alive", not_known_yet(dead))
    with pytest.raises(EngineError, match="ended unexpectedly"):
        run(random.standard_normal((2, 6, 3)).astype(np.float32), check_states(gru().specs, None, 2))
    onnx_worker.close()


LOGGED = (
    "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
    "I0000 00:00:1795412189.950435    4486 cudart_stub.cc:31] Could not find cuda drivers on your machine",
    "2024-05-06 07:08:09.123456: W external/local_xla/xla/service.cc:31] slow",
)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ((), "signal SIGKILL"),
        (LOGGED, "signal SIGKILL"),
        (("Cannot allocate memory", *LOGGED), "signal SIGKILL, Cannot allocate memory"),
        ((*LOGGED, "F0000 00:00:1.5 7 x.cc:1] Check failed"), "signal SIGKILL, F0000 00:00:1.5 7 x.cc:1] Check failed"),
    ],
)
def test_what_a_framework_logs_is_not_told_as_the_cause(lines: tuple[str, ...], words: str) -> None:
    with Worker("onnxruntime") as worker:
        process = worker._live()
        process._process.kill()
        process._process.wait()
        process._complaints.seek(0)
        process._complaints.truncate()
        process._complaints.write("\n".join(lines).encode())
        assert process._ended().problems[0].got == words


def test_a_result_is_shown_in_short() -> None:
    assert repr(Masked()(np.zeros(0), {})) == "<Result: masked, mask (0,), layers x>"
    large = LayerRun(State(np.zeros((1, 2, 9))), np.zeros((2, 700, 1, 9)))
    assert repr(Result("torch", {}, {"a": large, "b": large})) == "<Result: torch, sequence (2, 700, 9), layers a b>"
    inner = Result("torch", {}, {"a": LayerRun(State(np.zeros((1, 2, 9))))})
    assert repr(inner) == "<Result: torch, layers a>"


def test_masks_cross_over() -> None:
    given = {"inputs": np.ones((2, 3, 1)), "states": {}}
    mask = np.array([[True, True, False], [False, True, True]])
    for more, expected in (({}, np.zeros(0)), ({"mask": mask}, mask)):
        data, arrays = to_data({**given, **more})
        header, found = worker_module._answer(
            {"do": "run", "number": 1, "given": data}, arrays, {1: Masked()}, "x", Settings()
        )
        result = value_from_data(header["result"], found)
        assert isinstance(result, Result)
        assert result.outputs["mask"].dtype == expected.dtype
        np.testing.assert_array_equal(result.outputs["mask"], expected)


def test_masks_are_handed_to_processes(onnx_worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []

    def ask(header: dict[str, Any], arrays: Mapping[str, Array]) -> int:
        sent.append(value_from_data(header["given"], arrays))
        return 1

    def answer(_: int) -> Any:
        data, arrays = to_data(Masked()(np.zeros(0), {}))
        return {"result": data}, arrays

    run = onnx_worker.load(gru())
    monkeypatch.setattr(run._home, "ask", ask)
    monkeypatch.setattr(run._home, "answer", answer)
    mask = np.array([[True, False]])
    run(np.ones((1, 2, 3)), {}, mask)
    run(np.ones((1, 2, 3)), {})
    np.testing.assert_array_equal(sent[0]["mask"], mask)
    assert "mask" not in sent[1]


def test_what_stands_in_the_current_folder_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("onnxruntime", "numpy", "json"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('ran what stood in the folder')", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with Worker("onnxruntime") as worker:
        worker.load(gru())


def test_an_empty_pipe_ends_quietly() -> None:
    answers = io.BytesIO()
    serve(io.BytesIO(b""), answers, "onnxruntime", Settings())
    serve(io.BytesIO(b"\x10" + b"\0" * 7 + b"cut"), answers, "onnxruntime", Settings())
    assert not answers.getvalue()


def test_unknown_engines_are_refused_with_those_there_are() -> None:
    with pytest.raises(parity.ParityError, match="keras, torch, onnxruntime, keras:tensorflow, keras:torch, keras:jax"):
        Worker("keras:mxnet")


def gone(pid: int) -> bool:
    """Whether a process has ended, or ends within the next seconds."""
    for _ in range(100):
        try:
            state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.1)
    return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for the process in /proc")
@pytest.mark.parametrize("end", ["pass", "os._exit(0)", "os.kill(os.getpid(), 9)", "if os.fork(): os.wait()"])
def test_no_process_is_left_behind(end: str) -> None:
    code = (
        "import os, numpy as np\n"
        "from parity.frameworks import Settings\n"
        "from parity.worker import warm\n"
        "print(warm('onnxruntime', Settings())._live().pid, flush=True)\n" + end
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert not done.stderr
    assert gone(int(done.stdout))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_fork_has_workers_of_its_own() -> None:
    code = (
        "import os\n"
        "from parity.frameworks import Settings\n"
        "from parity.worker import warm\n"
        "worker = warm('onnxruntime', Settings())\n"
        "pid = worker._live().pid\n"
        "child = os.fork()\n"
        "own = worker._live().pid\n"
        "if child: os.waitpid(child, 0)\n"
        "print(own == pid, worker._live().alive, flush=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (sorted(done.stdout.splitlines()), done.stderr) == (["False True", "True True"], "")


def test_workers_that_stay_alive_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []

    class Cheap:
        def __init__(self, engine: str, settings: Settings) -> None:
            started.append(engine)

        def close(self) -> None:
            started.remove(self.engine)

        engine = "onnxruntime"

    monkeypatch.setattr(worker_module, "Worker", Cheap)
    monkeypatch.setattr(worker_module, "_KEPT", {})
    several = [
        Settings(dtype, precision, tf32)
        for dtype in ("cpu", "cuda")
        for precision in ("float32", "float64")
        for tf32 in (True, False)
    ]
    first = warm("onnxruntime", several[0])
    for settings in several[1:]:
        warm("onnxruntime", settings)
        assert warm("onnxruntime", several[0]) is first, "what is used stays"
    assert len(started) == worker_module._WARM < len(several)
    end_workers()
    assert not started
