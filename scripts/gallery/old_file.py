"""A model file as Keras 1.2.2 wrote it: `save_model` and `Sequential.get_config` in its keras/models.py, a tensor for every gate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from gallery.story import Float32, array

VERSION = "1.2.2"
WORDS, STEPS, SIZE, UNITS, CLASSES = 30, 20, 6, 8, 3

_LOOP = {
    "init": "glorot_uniform",
    "inner_init": "orthogonal",
    "activation": "tanh",
    "inner_activation": "hard_sigmoid",
    "go_backwards": False,
    "stateful": False,
    "unroll": False,
    "consume_less": "cpu",
    "dropout_W": 0.0,
    "dropout_U": 0.0,
    "trainable": True,
}


def write_old_model(path: str | Path) -> Path:
    """Write a classifier of texts with an LSTM, its weights from a seed, the same bytes each time.

    Args:
        path: of the file; what stands there is replaced.
    """
    random = np.random.default_rng(9)
    layers = {
        "embedding_1": {"embedding_1_W": array(random, (WORDS, SIZE), 0.8)},
        "lstm_1": _gates(random, "lstm_1"),
        "dense_1": {"dense_1_W": array(random, (UNITS, CLASSES)), "dense_1_b": array(random, (CLASSES,))},
    }
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = VERSION.encode()
        file.attrs["model_config"] = json.dumps(_config()).encode()
        weights = file.create_group("model_weights")
        weights.attrs["layer_names"] = [name.encode() for name in layers]
        for name, tensors in layers.items():
            group = weights.create_group(name)
            group.attrs["weight_names"] = [tensor.encode() for tensor in tensors]
            for tensor, values in tensors.items():
                group.create_dataset(tensor, data=values, track_times=False)
    return Path(path)


def _gates(random: np.random.Generator, name: str) -> dict[str, Float32]:
    """`LSTM.build` in its keras/layers/recurrent.py, where consume_less is not "gpu"."""
    shapes = {"W": (SIZE, UNITS), "U": (UNITS, UNITS), "b": (UNITS,)}
    return {f"{name}_{word}_{gate}": array(random, shape) for gate in "icfo" for word, shape in shapes.items()}


def _config() -> dict[str, Any]:
    embedding = {
        "name": "embedding_1",
        "input_dim": WORDS,
        "output_dim": SIZE,
        "input_length": STEPS,
        "batch_input_shape": [None, STEPS],
        "input_dtype": "int32",
        "init": "uniform",
        "mask_zero": False,
        "dropout": 0.0,
        "trainable": True,
    }
    lstm = {**_LOOP, "name": "lstm_1", "output_dim": UNITS, "input_dim": SIZE, "return_sequences": False}
    dense = {
        "name": "dense_1",
        "output_dim": CLASSES,
        "input_dim": UNITS,
        "init": "glorot_uniform",
        "activation": "softmax",
        "bias": True,
        "trainable": True,
    }
    classes = (
        ("Embedding", embedding),
        ("LSTM", {**lstm, "forget_bias_init": "one"}),
        ("Dense", dense),
    )
    return {"class_name": "Sequential", "config": [{"class_name": name, "config": config} for name, config in classes]}


__all__ = ["write_old_model"]
