"""Small files of every format that parity reads, as bytes; what a framework alone can write comes from it where it is installed."""

from __future__ import annotations

import importlib.util
import io
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from parity.files import SUFFIXES, write_file
from parity.network import Dense, Embedding, Network, Recurrent
from parity.network.graph import Output
from parity.recurrent import DIRECTIONS, RecurrentSpec, Weights

INPUTS, UNITS, WORDS = 5, 4, 11


def _layer(name: str, kind: Any, inputs: int, both: bool) -> Recurrent:
    random = np.random.default_rng(inputs)
    spec = RecurrentSpec(kind, inputs, UNITS, DIRECTIONS if both else DIRECTIONS[:1])
    members = ("kernel", "recurrent", "bias_input", "bias_recurrent")
    weights = tuple(
        Weights(*(random.normal(size=spec.shape(member)).astype(np.float32) for member in members))
        for _ in spec.directions
    )
    return Recurrent(name, spec, weights)


def _networks() -> dict[str, Network]:
    random = np.random.default_rng(0)
    table = random.normal(size=(WORDS, INPUTS)).astype(np.float32)
    head = Dense("head", random.normal(size=(UNITS, 3)).astype(np.float32), activation="softmax")
    lstm = _layer("lstm", "lstm", 2 * UNITS, both=False)
    model = (Embedding("words", table), _layer("both", "gru", INPUTS, both=True), lstm, head)
    return {
        "stack": Network("stack", (_layer("lstm", "lstm", INPUTS, both=True),)),
        "model": Network("model", model, (Output("head", "head"),), "keras"),
    }


def _by_parity() -> dict[str, bytes]:
    """Every format that parity writes, in every shape that it can hold."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for suffix, form in SUFFIXES.items():
            for name, network in _networks().items():
                if form.write is not None and (suffix != ".onnx" or importlib.util.find_spec("onnx")):
                    path = Path(folder) / f"{name}{suffix}"
                    write_file(network, path)
                    found[path.name] = path.read_bytes()
    return found


def _by_torch() -> dict[str, bytes]:
    """The older form of a state dict, a checkpoint, views of one storage, TorchScript and an exported program."""
    import torch

    lstm = torch.nn.LSTM(INPUTS, UNITS, bidirectional=True)
    linear = torch.nn.Linear(UNITS, 3).half()
    both = torch.arange(60, dtype=torch.bfloat16).reshape(12, 5)
    states: dict[str, tuple[Any, bool]] = {
        "old.pt": (lstm.state_dict(), False),
        "checkpoint.pt": ({"epoch": 3, "state_dict": lstm.state_dict(), "head": linear.state_dict()}, True),
        "views.pt": ({"rnn.weight_ih_l0": both.T, "rnn.weight_hh_l0": both[3:8], "x": both[1]}, True),
    }
    found = {}
    for name, (value, new) in states.items():
        content = io.BytesIO()
        torch.save(value, content, _use_new_zipfile_serialization=new)
        found[name] = content.getvalue()
    script, exported = io.BytesIO(), io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own: of TorchScript's end, and of attributes that are no buffers
        torch.jit.save(torch.jit.script(torch.nn.Sequential(torch.nn.Linear(3, 2))), script)
        torch.export.save(torch.export.export(lstm, (torch.ones(7, 2, INPUTS),)), exported)
    return {**found, "script.pt": script.getvalue(), "program.pt2": exported.getvalue()}


def _by_tensorflow() -> dict[str, bytes]:
    """The index of a checkpoint."""
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        variables = {"lstm/lstm_cell/kernel": np.ones((INPUTS, 16), "f4"), "lstm/lstm_cell/bias": np.ones(16, "f4")}
        tensors = {name: tf.Variable(value) for name, value in variables.items()}
        tf.train.Checkpoint(**{name.replace("/", "_"): tensor for name, tensor in tensors.items()}).write(f"{folder}/c")
        return {"c.index": (Path(folder) / "c.index").read_bytes()}


def samples() -> dict[str, bytes]:
    """Name, whose suffix says the format, -> content."""
    makers: dict[str, Callable[[], dict[str, bytes]]] = {"torch": _by_torch, "tensorflow": _by_tensorflow}
    found = _by_parity()
    for framework, make in makers.items():
        if importlib.util.find_spec(framework):
            found |= make()
    return found
