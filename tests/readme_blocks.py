"""The blocks of code in the README, what may stand in them, and the files that they speak of."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import onnx
import tf_keras
import torch
from gallery.whole import translator_model
from safetensors.torch import save_file

import parity

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")

NOT_RUN = "<!-- not run: it installs -->"
"""The line above a block that is not run. Every command in it begins as one of `INSTALLING`, and no other block has such a command."""

INSTALLING = ("pip install ", "git clone ", "scripts/setup", "scripts/demo", "scripts/test")

KINDS = ("python", "sh", "text", "py", "yaml")
"""`python` and `sh` are run; `text` is what the command above it prints, numbers aside; `py` stands in a file that a command wrote; of
`yaml`, a workflow, the commands are run."""


@dataclass(frozen=True)
class Block:
    """A block of code.

    Args:
        kind: behind the opening fence.
        text: between the fences.
        line: of the opening fence in the README, from 1.
        run: whether the tests run it.
    """

    kind: str
    text: str
    line: int
    run: bool

    @property
    def commands(self) -> list[str]:
        """Of a shell block its lines, of a workflow what its steps run, one command for each."""
        if self.kind == "yaml":
            runs = re.findall(r"^ *- run: (.*)$", self.text, re.MULTILINE)
            return [command.strip() for line in runs for command in line.split("&&")]
        return [line for line in self.text.splitlines() if line.strip() and not line.startswith("#")]


def blocks() -> Iterator[Block]:
    """Every block, in order."""
    lines = README.splitlines()
    opened: tuple[int, str] | None = None
    for number, line in enumerate(lines):
        if line.startswith("```") and opened is None:
            opened = number, line[3:]
        elif line.startswith("```") and opened is not None:
            start, kind = opened
            text = "\n".join(lines[start + 1 : number]) + "\n"
            yield Block(kind, text, start + 1, lines[start - 1] != NOT_RUN)
            opened = None
    assert opened is None, f"the block of line {opened} is not closed"


def make_files(folder: Path) -> None:
    """The files that the README and the help of the commands speak of.

    Args:
        folder: gets model.keras, its JSON and its weights alone; port.safetensors and port.onnx, a port of it to torch with one mistake;
            recorded.npz, what the port gives; old.h5 of Keras 2; checkpoint.pt of several modules; translator.keras.
    """
    random = np.random.default_rng(5)
    model = _model(random)
    model.save(folder / "model.keras")
    model.save_weights(folder / "model.weights.h5")
    (folder / "model.json").write_text(model.to_json(), encoding="utf-8")
    _filled(translator_model(), random).save(folder / "translator.keras")
    x = random.integers(0, 50, (4, 9))
    port = _port(model)
    with torch.no_grad():
        np.savez(folder / "recorded.npz", inputs=x, outputs=port(torch.from_numpy(x)).numpy())
    save_file(port.state_dict(), folder / "port.safetensors")
    onnx.save(parity.to_onnx(port), folder / "port.onnx")
    old = [tf_keras.Input((None, 3)), tf_keras.layers.LSTM(6), tf_keras.layers.Dense(2)]
    with warnings.catch_warnings(action="ignore"):  # "this file format is considered legacy"
        tf_keras.Sequential(old).save(folder / "old.h5")
    modules = {"encoder": torch.nn.LSTM(8, 16, bidirectional=True), "head": torch.nn.Linear(32, 3)}
    torch.save({"epoch": 1, "state_dict": torch.nn.ModuleDict(modules).state_dict()}, folder / "checkpoint.pt")


def _model(random: np.random.Generator) -> keras.Model:
    """What the README says of it: an Embedding, a Bidirectional LSTM named encoder and a Dense."""
    layers = [
        keras.Input((None,), dtype="int32"),
        keras.layers.Embedding(50, 8, name="words"),
        keras.layers.Bidirectional(keras.layers.LSTM(16), name="encoder"),
        keras.layers.Dense(3, activation="softmax", name="classes"),
    ]
    return _filled(keras.Sequential(layers, name="model"), random)


def _filled(model: keras.Model, random: np.random.Generator) -> keras.Model:
    model.set_weights([random.uniform(-0.5, 0.5, weight.shape) for weight in model.get_weights()])
    return model


def _port(model: keras.Model) -> torch.nn.Module:
    """The model in torch, but for the gates of the forward recurrent kernel, which stand in ONNX's order."""
    port: torch.nn.Module = parity.to_torch(model)
    weight = next(value for name, value in port.named_parameters() if name.endswith("weight_hh_l0"))
    with torch.no_grad():
        i, f, g, o = weight.clone().chunk(4)
        weight.copy_(torch.cat([i, o, f, g]))
    return port
