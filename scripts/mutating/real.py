"""The recurrent layers of trained models of public projects, where their files stand beside the checkout."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from mutating.cells import Array, Cell, Cells, Gates

MODELS = Path(__file__).resolve().parents[3] / "shared" / "models"

SIZES = {"ethnicolr": (32, 128), "textgenrnn": (128, 128), "silero": (128, 128)}
"""Features and units."""


@cache
def real_cells(name: str) -> Cells:
    """The weights of an LSTM: of ethnicolr's census model, of textgenrnn's second layer, of the voice activity detection of silero."""
    return {"ethnicolr": _ethnicolr, "textgenrnn": _textgenrnn, "silero": _silero}[name]()


def _four(array: Array) -> Gates:
    """Keras, cuDNN and torch stack the gates alike."""
    return {gate: block.astype(np.float32) for gate, block in zip("ifgo", np.split(np.asarray(array), 4), strict=True)}


def _without(gates: Gates) -> Gates:
    return {gate: np.zeros_like(array) for gate, array in gates.items()}


def _ethnicolr() -> Cells:
    import h5py

    with h5py.File(MODELS / "census2010_ln_lstm.h5") as file:
        arrays = _named(file["model_weights"])
    bias = _four(arrays["bias:0"])
    return [[Cell(_four(arrays["kernel:0"].T), _four(arrays["recurrent_kernel:0"].T), bias, _without(bias))]]


def _textgenrnn() -> Cells:
    """CuDNNLSTM keeps each gate's kernels turned, the input kernel's numbers in the order of the turned one, and two biases."""
    import h5py

    with h5py.File(MODELS / "textgenrnn_weights.hdf5") as file:
        arrays = _named(file["rnn_2"])
    plain = {gate: block.T.reshape(block.shape[::-1]) for gate, block in _columns(arrays["kernel:0"]).items()}
    recurrent = dict(_columns(arrays["recurrent_kernel:0"]))
    bias = _four(arrays["bias:0"].reshape(2, -1).sum(axis=0))
    kernel = {gate: np.ascontiguousarray(block) for gate, block in plain.items()}
    return [[Cell(kernel, recurrent, bias, _without(bias))]]


def _silero() -> Cells:
    from safetensors.numpy import load_file

    arrays = load_file(MODELS / "silero_vad_16k.safetensors")
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    return [[Cell(*(_four(arrays[f"lstm_cell.{name}"]) for name in names))]]


def _columns(array: Array) -> Gates:
    return {gate: block.astype(np.float32) for gate, block in zip("ifgo", np.split(array, 4, axis=1), strict=True)}


def _named(group: Any) -> dict[str, Array]:
    """The recurrent layer's arrays by the last word of their names."""
    found: dict[str, Array] = {}

    def visit(name: str, item: Any) -> None:
        if hasattr(item, "shape") and ("lstm" in name or "rnn" in name):
            found[name.rpartition("/")[2]] = np.asarray(item)

    group.visititems(visit)
    return found
