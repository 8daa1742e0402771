"""The demo: a sunspot forecaster trained in Keras, converted to PyTorch and ONNX, and checked on years it has not seen.

Run it through scripts/demo, which sets everything up first. Writes to reports/: sunspots.html and its record sunspots.json, the
models (.keras, .pt, .onnx) and the held-back years (.npz) that the report says how to compare again.
"""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

import parity
from parity.comparison import Comparison
from parity.frameworks import quiet_import
from parity.judge import REFERENCE
from parity.report import save_page, save_record

with quiet_import():
    import keras

ROOT = Path(__file__).resolve().parent.parent
WINDOW = 22
HELD_BACK_FROM = 1950

Float32 = NDArray[np.float32]


def sunspots() -> tuple[NDArray[np.int64], Float32]:
    """Years and yearly mean sunspot numbers, 1700 to 2008."""
    with (ROOT / "scripts" / "sunspots.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    return np.array([int(row["year"]) for row in rows]), np.array([float(row["sunspots"]) for row in rows], np.float32)


def windows(years: NDArray[np.int64], values: Float32) -> tuple[NDArray[np.int64], Float32, Float32]:
    """The year forecast, the WINDOW years before it (samples, WINDOW, 1), and what it was (samples, 1)."""
    before = np.lib.stride_tricks.sliding_window_view(values, WINDOW)[:-1]
    return years[WINDOW:], np.ascontiguousarray(before[..., None]), values[WINDOW:, None]


class Bar(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
    """Shows the training's progress."""

    def __init__(self, progress: Progress, epochs: int) -> None:
        super().__init__()
        self._progress, self._task = progress, progress.add_task("train in Keras", total=epochs)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Called by Keras."""
        self._progress.update(
            self._task, completed=epoch + 1, description=f"train in Keras, loss {(logs or {})['loss']:.4f}"
        )


def train(x: Float32, y: Float32, progress: Progress, epochs: int) -> keras.Model:
    """A small LSTM forecaster."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((None, 1), name="sunspots"),
            keras.layers.LSTM(32, name="lstm"),
            keras.layers.Dense(1, name="forecast"),
        ],
        name="sunspot_forecaster",
    )
    model.compile(optimizer=keras.optimizers.Adam(0.01), loss="mse")
    model.fit(x, y, epochs=epochs, batch_size=32, verbose=0, callbacks=[Bar(progress, epochs)])
    return model


def forecast_errors(comparison: Comparison, truth: Float32, scale: float) -> dict[str, float]:
    """Root mean squared error of each engine's forecast, in sunspots."""
    return {
        label: float(np.sqrt(np.mean((result.outputs["forecast"] - truth) ** 2))) * scale
        for label, result in comparison.results.items()
    }


def main(
    epochs: Annotated[int, typer.Option(min=1, help="Of the training.")] = 60,
    reports: Annotated[Path, typer.Option(help="The folder of the report and its record.")] = ROOT / "reports",
) -> None:
    """Train, convert, compare, report."""
    console = Console(highlight=False)
    years, values = sunspots()
    scale = float(values[years < HELD_BACK_FROM].max())
    target_years, x, y = windows(years, values / np.float32(scale))
    known, unseen = target_years < HELD_BACK_FROM, target_years >= HELD_BACK_FROM
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    reports.mkdir(exist_ok=True)
    saved, inputs = (Path(os.path.relpath(reports / f"sunspots.{suffix}")) for suffix in ("keras", "npz"))
    with Progress(*columns, console=console) as progress:
        model = train(x[known], y[known], progress, epochs)
        model.save(saved)
        np.savez(inputs, sunspots=x[unseen])
        task = progress.add_task("convert to PyTorch", total=None)
        torch.save(parity.to_torch(saved).state_dict(), saved.with_suffix(".pt"))
        port = parity.to_torch(saved)
        port.load_state_dict(torch.load(saved.with_suffix(".pt"), weights_only=True))
        progress.update(task, description="convert to ONNX")
        parity.convert(saved, saved.with_suffix(".onnx"), overwrite=True)
        comparison = parity.compare(
            saved, inputs=inputs, progress=lambda line: progress.update(task, description=f"compare: {line}")
        )
        progress.update(task, description="open the written files again")
        reopened = {"torch": port, "onnxruntime": saved.with_suffix(".onnx")}
        forecasts = {engine: parity.run(source, x[unseen]).outputs["forecast"] for engine, source in reopened.items()}
        progress.update(task, description="compared", total=1, completed=1)
    errors = forecast_errors(comparison, y[unseen], scale)
    title = f"Forecast error {HELD_BACK_FROM}-{years[-1]}, root mean square, in sunspots"
    measures = [{"title": title, "rows": [{"label": label, "value": value} for label, value in errors.items()]}]
    page = save_page(comparison, reports / "sunspots.html", overwrite=True, measures=measures)
    record = save_record(comparison, reports / "sunspots.json", overwrite=True, measures=measures)
    console.print(f"\n[bold]{comparison.verdict}[/]: {comparison.sentence}", soft_wrap=True)
    same = all(
        np.array_equal(found, comparison.results[engine].outputs["forecast"]) for engine, found in forecasts.items()
    )
    console.print(
        f"sunspots.pt and sunspots.onnx, opened again, forecast {'the same to the bit' if same else 'something else'}."
    )
    console.print(f"{title}:")
    for label, error in errors.items():
        console.print(f"  {label:<12} {error:.4f}" + ("  (float64)" if label == REFERENCE else ""))
    shown = [path.relative_to(ROOT) if path.is_relative_to(ROOT) else path for path in (page, record)]
    console.print(f"\nLook at {shown[0]} in a browser; the numbers are in {shown[1]}.", soft_wrap=True)
    raise typer.Exit(0 if comparison.ok and same else 1)


if __name__ == "__main__":
    typer.run(main)
