"""Measures what the README states: python scripts/bench.py [copies] [compare] [help] [grid] [files] [large] [code] [page] [big].

All but big by default, which runs 10,000 steps of 64 samples in earnest.

Every figure is a ratio of two things timed in turn, so that a machine whose speed drifts does no harm; medians of several rounds.
"""

from __future__ import annotations

import importlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from benching.big import big
from benching.code import code
from benching.diagnosing import diagnosing
from benching.pages import pages
from grid.cases import FRAMEWORKS, Config, configurations
from grid.judging import CONVERTERS
from rich.console import Console
from rich.progress import track
from rich.table import Table

import parity
from parity.recurrent import LAYOUTS, RecurrentSpec, pack, unpack

HAND_WRITTEN = """
import keras, numpy as np, onnxruntime, torch

model = keras.models.load_model("model.keras")
kernel, recurrent_kernel, bias = model.get_layer("lstm").get_weights()
dense_kernel, dense_bias = model.get_layer("forecast").get_weights()
lstm = torch.nn.LSTM(1, 32, batch_first=True)
dense = torch.nn.Linear(32, 1)
with torch.no_grad():
    lstm.weight_ih_l0.copy_(torch.from_numpy(kernel.T.copy()))
    lstm.weight_hh_l0.copy_(torch.from_numpy(recurrent_kernel.T.copy()))
    lstm.bias_ih_l0.copy_(torch.from_numpy(bias))
    lstm.bias_hh_l0.zero_()
    dense.weight.copy_(torch.from_numpy(dense_kernel.T.copy()))
    dense.bias.copy_(torch.from_numpy(dense_bias))
session = onnxruntime.InferenceSession("model.onnx")
x = np.random.default_rng(0).standard_normal((3, 17, 1)).astype("float32")
by_keras = model.predict(x, verbose=0)
with torch.no_grad():
    by_torch = dense(lstm(torch.from_numpy(x))[0][:, -1]).numpy()
(by_onnx,) = session.run(None, {"input": x})
print(abs(by_keras - by_torch).max(), abs(by_keras - by_onnx).max(), abs(by_torch - by_onnx).max())
"""

MAKE_MODEL = """
import keras, onnx, parity

keras.utils.set_random_seed(1)
layers = [keras.Input((None, 1)), keras.layers.LSTM(32, name="lstm"), keras.layers.Dense(1, name="forecast")]
model = keras.Sequential(layers)
model.save("model.keras")
model.save("model.h5")
onnx.save(parity.to_onnx("model.keras"), "model.onnx")
"""

SAVE_BY_HAND = """
import keras, torch
from safetensors.torch import save_file

model = keras.models.load_model("model.SUFFIX")
kernel, recurrent_kernel, bias = model.get_layer("lstm").get_weights()
dense_kernel, dense_bias = model.get_layer("forecast").get_weights()
tensors = {
    "lstm.weight_ih_l0": kernel.T, "lstm.weight_hh_l0": recurrent_kernel.T, "lstm.bias_ih_l0": bias,
    "forecast.weight": dense_kernel.T, "forecast.bias": dense_bias,
}
save_file({name: torch.from_numpy(array.copy()) for name, array in tensors.items()}, "by_hand.safetensors")
"""

MAKE_LARGE = """
import numpy as np
from parity.files import write_file
from parity.network import Network, Output, Recurrent
from parity.recurrent import RecurrentSpec, Weights

random = np.random.default_rng(0)
members = ("kernel", "recurrent", "bias_input")

def layer(number):
    spec = RecurrentSpec("lstm", 2048, 2048)
    weights = Weights(*(random.standard_normal(spec.shape(member), dtype=np.float32) / 64 for member in members))
    return Recurrent(f"lstm_{number}", spec, (weights,))

network = Network("large", tuple(layer(number) for number in range(8)), (Output("lstm_7", "lstm_7"),), "keras")
for suffix in (".keras", ".h5", ".pt"):
    write_file(network, "large" + suffix)
"""

LARGEST_BYTES = 2048 * 4 * 2048 * 4
"""Of one tensor of the large model."""

Row = tuple[str, str, float, float, float]

_GRID_SAMPLE, _SCRIPT_SAMPLE = 60, 500
SCRIPTS = Path(__file__).resolve().parent


def in_turn(first: Callable[[], object], second: Callable[[], object], rounds: int, title: str) -> tuple[float, float]:
    """Median seconds of both, timed in turn after one round that is not counted."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for count in track(range(rounds + 1), title, console=Console(stderr=True), transient=True):
        for call, kept in zip((first, second), seconds, strict=True):
            start = time.perf_counter()
            call()
            if count:
                kept.append(time.perf_counter() - start)
    return statistics.median(seconds[0]), statistics.median(seconds[1])


def copies(rounds: int) -> list[Row]:
    """Packing and unpacking against numpy.copy of the same bytes, LSTM(2048) on 2048 inputs."""
    spec = RecurrentSpec("lstm", 2048, 2048)
    layout = LAYOUTS["keras", "lstm"]
    random = np.random.default_rng(0)
    shapes = {"kernel": (2048, 8192), "recurrent_kernel": (2048, 8192), "bias": (8192,)}
    arrays = {name: random.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()}
    weights = unpack(layout, spec, arrays)
    rows = []
    for name, call in (
        ("unpack", lambda: unpack(layout, spec, arrays)),
        ("pack", lambda: pack(layout, spec, weights)),
        ("a plain .T copy", lambda: [np.ascontiguousarray(array.T) for array in arrays.values()]),
    ):
        ours, plain = in_turn(call, lambda: [np.copy(array) for array in arrays.values()], rounds * 3, name)
        rows.append((f"{name}, Keras LSTM(2048) on 2048", "numpy.copy of the same bytes", ours, plain, ours / plain))
    return rows


def compare(rounds: int) -> list[Row]:
    """`parity compare` of the demo's model against a script written by hand, as whole processes."""
    with tempfile.TemporaryDirectory() as folder:
        run_python(["-c", MAKE_MODEL], folder)
        by_hand = Path(folder) / "by_hand.py"
        by_hand.write_text(HAND_WRITTEN, encoding="utf-8")
        ours, plain = in_turn(
            lambda: run_python(["-m", "parity", "compare", "model.keras"], folder),
            lambda: run_python([str(by_hand)], folder),
            rounds,
            "parity compare",
        )
    return [("parity compare model.keras", "script by hand: import, load, run, subtract", ours, plain, ours / plain)]


def help_(rounds: int) -> list[Row]:
    """`parity --help` against importing typer, as whole processes."""
    ours, plain = in_turn(
        lambda: run_python(["-m", "parity", "--help"]), lambda: run_python(["-c", "import typer"]), rounds * 3, "help"
    )
    return [("parity --help", 'python -c "import typer"', ours, plain, ours / plain)]


def files(rounds: int) -> list[Row]:
    """`parity convert` of the demo's model against a script that imports the frameworks, as whole processes."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        run_python(["-c", MAKE_MODEL], folder)
        for suffix in ("keras", "h5"):
            by_hand = Path(folder) / f"by_hand_{suffix}.py"
            by_hand.write_text(SAVE_BY_HAND.replace("SUFFIX", suffix), encoding="utf-8")
            words = ["-m", "parity", "convert", f"model.{suffix}", "model.safetensors", "--overwrite"]
            title = f"parity convert model.{suffix} model.safetensors"
            ours, plain = in_turn(
                lambda words=words: run_python(words, folder),  # type: ignore[misc]  # bound for this round
                lambda script=by_hand: run_python([str(script)], folder),  # type: ignore[misc]
                rounds,
                title,
            )
            rows.append((title, "script by hand: import two frameworks, load, save", ours, plain, plain / ours))
    return rows


def large(rounds: int) -> list[Row]:
    """A model of 1 GB converted, against copying the file; and the memory that it takes."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        run_python(["-c", MAKE_LARGE], folder)
        for suffix in (".keras", ".h5", ".pt"):
            source, copy = Path(folder) / f"large{suffix}", Path(folder) / "copy"
            words = ["convert", source.name, "large.safetensors"]
            peaks: list[int] = []

            def convert(words: Sequence[str] = words, peaks: list[int] = peaks) -> None:
                (Path(folder) / words[-1]).unlink(missing_ok=True)
                peaks.append(peak_of(["-m", "parity", *words], folder))

            def plain_copy(source: Path = source, copy: Path = copy) -> None:
                copy.unlink(missing_ok=True)
                shutil.copyfile(source, copy)
                with copy.open("rb") as file:
                    os.fsync(file.fileno())

            ours, plain = in_turn(convert, plain_copy, rounds, f"large{suffix}")
            title = f"parity convert large{suffix} large.safetensors"
            rows.append((title, "a copy of the file, on the disk", ours, plain, plain / ours))
            allowed = 1.3 * LARGEST_BYTES + 1e8
            rows.append(
                (
                    "its peak memory, MB",
                    "1.3 x the largest tensor + 100 MB",
                    max(peaks) / 1e6,
                    allowed / 1e6,
                    max(peaks) / allowed,
                )
            )
            copy.unlink()
    return rows


def peak_of(arguments: Sequence[str], folder: str) -> int:
    """Run this interpreter in a process of its own; the most memory that it had, in bytes."""
    process = subprocess.Popen([sys.executable, *arguments], cwd=folder, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, arguments)
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def cases(_: int) -> list[Row]:
    """The grid of scripts/matrix.py, against a loop that rebuilds the source of every case and calls `predict` on source and target.

    Both take turns, configuration by configuration; one round, for the naive loop takes half a minute.
    """
    from matrix import chosen, judge_all, warm_up

    warnings.simplefilter("ignore")
    configs = chosen(None, _GRID_SAMPLE, 0)
    warm_up()
    for framework in FRAMEWORKS:
        some = next(config for config in configurations() if config.framework == framework)
        judge_all([some])
        _naively(some)
    ours, plain, count = 0.0, 0.0, 0
    for config in track(configs, "grid", console=Console(stderr=True), transient=True):
        start = time.perf_counter()
        ((*outcomes,),) = judge_all([config])
        middle = time.perf_counter()
        _naively(config)
        ours, plain = ours + middle - start, plain + time.perf_counter() - middle
        count += len(outcomes)
    naive = f"a naive loop over the grid, {count / plain:.1f} cases/s"
    row = (naive, f"scripts/matrix.py in one process, {count / ours:.1f} cases/s", plain, ours, plain / ours)
    whole = len([target for config in chosen(None, _SCRIPT_SAMPLE, 0) for target in config.targets])
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        run_python([str(SCRIPTS / "matrix.py"), "--sample", str(_SCRIPT_SAMPLE), "--reports", folder])
    took, plainly = time.perf_counter() - start, whole * plain / count
    return [
        row,
        (naive, f"the script itself, start included, {whole / took:.1f} cases/s", plainly, took, plainly / took),
    ]


def _naively(config: Config) -> None:
    """Every case by itself: build, predict, convert, predict, subtract."""
    keras_side: Any = importlib.import_module("grid.keras_side")
    eager = keras_side.computed
    keras_side.computed = keras_side.predicted
    try:
        for target in config.targets:
            sides = {name: importlib.import_module(f"grid.{name}_side") for name in (config.framework, target)}
            # Some have no functional model in Keras, some no conversion: there the naive loop stops early, to its advantage.
            with suppress(ValueError, parity.UnsupportedError):
                live = sides[config.framework].live(config)
                converted = CONVERTERS[target](live.source)
                found = sides[target].called(converted, live, parity.read(live.source).bare)
                for one, other in zip(live.outputs, found.outputs if found else (), strict=False):
                    if one.array.shape == other.shape:
                        np.abs(one.array - other).max()
    finally:
        keras_side.computed = eager


def run_python(arguments: Sequence[str], folder: str | None = None) -> None:
    """Run this interpreter in a process of its own; fails if it does."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, check=True, capture_output=True)


def whole_models(rounds: int) -> list[Row]:
    """Whole models as code; see `benching.code`."""
    return code(rounds, run_python, in_turn)


PARTS = {
    "code": whole_models,
    "copies": copies,
    "diagnose": diagnosing,
    "compare": compare,
    "help": help_,
    "grid": cases,
    "files": files,
    "large": large,
    "page": pages,
    "big": big,
}
"""The code comes first, while no framework is imported."""

USUAL = [part for part in PARTS if part != "big"]
"""What is measured unless told otherwise: the large run takes too long."""


def main(
    parts: Annotated[
        list[str] | None,
        typer.Argument(
            help="code, copies, diagnose, compare, help, grid, files, large, page, big; all but big by default."
        ),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Times that each whole process is run.")] = 5,
) -> None:
    """Print what was timed, against what, and the ratio."""
    unknown = set(parts or ()) - set(PARTS)
    if unknown:
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: choose from {', '.join(PARTS)}")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("timed", "against", "s", "s", "ratio"):
        table.add_column(title, justify="right" if title in ("s", "ratio") else "left")
    for part in parts or USUAL:
        for name, other, ours, plain, ratio in PARTS[part](rounds):
            table.add_row(name, other, f"{ours:.3f}", f"{plain:.3f}", f"{ratio:.2f}")
    Console(width=120, highlight=False).print(table)


if __name__ == "__main__":
    typer.run(main)
