"""A whole model to source code: how long it takes, and how fast what comes out is."""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Row = tuple[str, str, float, float, float]

MAKE_MODEL = """
import keras
from keras import layers

keras.utils.set_random_seed(1)
x = tokens = keras.Input((None,), name="tokens", dtype="int32")
x = layers.Embedding(5000, 128, name="embedding")(x)
for index in range(4):
    x = layers.Conv1D(128, 5, padding="same", name=f"conv{index}")(x)
    x = layers.BatchNormalization(name=f"norm{index}")(x)
    x = layers.ReLU(name=f"relu{index}")(x)
for index in range(4):
    x = layers.Bidirectional(layers.LSTM(128, return_sequences=True), name=f"lstm{index}")(x)
x = layers.LayerNormalization(name="norm")(x)
x = layers.Dense(64, activation="relu", name="hidden")(x)
model = keras.Model(tokens, layers.Dense(10, name="classes")(x), name="classifier")
assert len(model.layers) == 21, "20 and the input"
model.save("model.keras")
"""

_BATCH, _TIME, _TARGET_S = 16, 100, 1.0


def by_hand() -> Any:
    """The same model as somebody writes it in torch."""
    import torch
    from torch import nn

    class Classifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(5000, 128)
            self.convs = nn.ModuleList(nn.Conv1d(128, 128, 5, padding=2) for _ in range(4))
            self.norms = nn.ModuleList(nn.BatchNorm1d(128, eps=1e-3) for _ in range(4))
            sizes = (128, 256, 256, 256)
            self.lstms = nn.ModuleList(nn.LSTM(size, 128, batch_first=True, bidirectional=True) for size in sizes)
            self.norm = nn.LayerNorm(256, eps=1e-3)
            self.hidden, self.classes = nn.Linear(256, 64), nn.Linear(64, 10)

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            x = self.embedding(tokens).transpose(1, 2)
            for conv, norm in zip(self.convs, self.norms, strict=True):
                x = torch.relu(norm(conv(x)))
            x = x.transpose(1, 2)
            for lstm in self.lstms:
                x, _ = lstm(x)
            return self.classes(torch.relu(self.hidden(self.norm(x))))  # type: ignore[no-any-return]  # torch says Any

    return Classifier().eval()


def code(rounds: int, run_python: Callable[..., None], in_turn: Callable[..., tuple[float, float]]) -> list[Row]:
    """A Keras model of 20 layers to torch source and weights, imports aside; then what came out against the same written by hand."""
    from parity.graph.code_files import write_files
    from parity.sources import open_source

    with tempfile.TemporaryDirectory() as folder:
        run_python(["-c", MAKE_MODEL], folder)
        seconds = []
        for count in range(rounds + 1):
            target = Path(folder) / f"out{count}"
            target.mkdir()
            start = time.perf_counter()
            write_files(open_source(Path(folder) / "model.keras", partial=True).graph, "torch", target)
            seconds.append(time.perf_counter() - start)
        imported = sorted({"keras", "tensorflow", "torch"} & set(sys.modules))
        assert not imported, f"the conversion imported {imported}"
        took = statistics.median(seconds[1:])
        rows = [("20 layers, .keras to torch code and weights", "asked: below 1 s", took, _TARGET_S, took / _TARGET_S)]
        return [*rows, _speed(target, rounds, in_turn)]


def _speed(folder: Path, rounds: int, in_turn: Callable[..., tuple[float, float]]) -> Row:
    import torch

    from parity.frameworks.written import loaded

    ours, plain = loaded(folder), by_hand()
    tokens = torch.randint(0, 5000, (_BATCH, _TIME))
    with torch.inference_mode():
        converted, written = in_turn(lambda: ours(tokens), lambda: plain(tokens), 10 * rounds, "converted model")
    return ("the converted model, one call", "the same model written by hand", converted, written, converted / written)
